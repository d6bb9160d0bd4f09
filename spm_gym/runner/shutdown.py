"""The tip at the end of a session: withdrawn, and where it is in words."""

from __future__ import annotations

from contextlib import suppress

from spm_gym.errors import InstrumentError
from spm_gym.instrument.contract import Instrument

# Each of them waits as long as the driver is patient (`real.nanonis.outage_s`).
_CONNECTIONS = 10


def withdraw(instrument: Instrument) -> str:
    """Withdraw the tip, over a new connection if need be; returns why it failed, "" if not."""
    # Doing it twice does nothing more, unlike other acts. The second time is over a new connection,
    # which may take some attempts.
    withdrawals = attempts = 0
    trouble = ""
    while withdrawals < 2 and attempts < _CONNECTIONS:
        attempts += 1
        try:
            instrument.withdraw()
            return ""
        except Exception as error:  # even the journal's: the tip may be withdrawn all the same
            trouble = str(error)
        with suppress(Exception):
            # An interrupt in the middle of a command has cost the connection.
            instrument.reconnect()
            withdrawals += 1
        with suppress(InstrumentError):
            # The reply may have been lost, and the tip withdrawn all the same.
            if not instrument.status().approached:
                return ""
    return trouble


def where_left(stays: bool, trouble: str) -> str:
    """Write where the tip is, or the trouble that has kept it from being withdrawn."""
    if trouble:
        return f"TIP NOT WITHDRAWN: {trouble}"
    return "tip left at the surface" if stays else "tip withdrawn"
