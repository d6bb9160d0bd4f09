"""The check of the current that recognises a crash among what is done on purpose."""

from __future__ import annotations

from spm_gym.instrument.contract import Instrument


def lasting_current(instrument: Instrument, limit: float, confirm_s: float) -> float:
    """Read the current, A; one that is too large is read again after a pause.

    To be called after scans and acts: pulses and dips draw more on purpose, but are over by then.
    Source: the released code asks twice, 2.5 s apart, for more than 5 nA.

    Args:
        instrument: The microscope.
        limit: Magnitude from which it is too large, A.
        confirm_s: The pause.

    Returns:
        The current that counts; NaN if it is not known, which exceeds no limit.
    """
    current = instrument.status().current
    if abs(current) > limit:
        instrument.wait(confirm_s)
        current = instrument.status().current
    return current
