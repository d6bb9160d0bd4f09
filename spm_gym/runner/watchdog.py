"""The check of the current that recognises a crash among what is done on purpose."""

from __future__ import annotations

from spm_gym.instrument.contract import Instrument


def over_current(instrument: Instrument, limit: float, confirm_s: float) -> bool:
    """Check whether the tip draws too much current, and still does after a pause.

    To be called after scans and acts: pulses and dips draw more on purpose, but are over by then.
    Source: the released code asks twice, 2.5 s apart, for more than 5 nA.

    Args:
        instrument: The microscope.
        limit: Largest magnitude of the current, A; a current that is not known does not exceed it.
        confirm_s: The pause.
    """
    # Written so that NaN, a current that is not known, counts as none.
    if not abs(instrument.status().current) > limit:
        return False
    instrument.wait(confirm_s)
    return abs(instrument.status().current) > limit
