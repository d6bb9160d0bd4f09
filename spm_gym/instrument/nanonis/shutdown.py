"""Steps that do nothing more when they are done again, and how long they are tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from spm_gym.errors import BadReply, ConnectionLost, InstrumentError, TimedOut

LOST = (ConnectionLost, TimedOut, BadReply)
"""Errors after which there is no connection."""

_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

Step = tuple[str, Callable[[], object]]
Trouble = tuple[str, Exception]


def persist(
    step: Callable[[], object], outage: float, sleep: Callable[[float], None]
) -> Exception | None:
    """Do a step, some times if it fails, and as long as an outage may last if nobody answers.

    Args:
        step: Does nothing more when it is done again.
        outage: Longest outage, s.
        sleep: Waits so many seconds.

    Returns:
        Why the step failed the last time, or None. Whatever it is: on the shutdown the next step
        is to be tried, not a traceback to be shown.
    """
    deadline = time.monotonic() + outage
    pause, attempts = _FIRST_PAUSE_S, 0
    while True:
        attempts += 1
        try:
            step()
        except LOST as error:
            # A port stays busy for a while with what the lost connection had asked for.
            if attempts >= _ATTEMPTS and time.monotonic() + pause > deadline:
                return error
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        except Exception as error:
            # A refusal may pass; but it is not waited for, with a tip still to be withdrawn.
            if attempts >= _ATTEMPTS:
                return error
        else:
            return None


def shut_down(
    steps: Iterable[Step], outage: float, sleep: Callable[[float], None]
) -> list[Trouble]:
    """Do one step after the other, whatever fails on the way.

    Args:
        steps: What is missing if the step fails, and the step.
        outage: Longest outage, s; it is waited for once.
        sleep: Waits so many seconds.

    Returns:
        What is missing, and why.
    """
    troubles: list[Trouble] = []
    for missing, step in steps:
        # An outage is waited for once, not once for every step.
        if any(isinstance(trouble, LOST) for _, trouble in troubles):
            trouble = _once(step)
        else:
            trouble = persist(step, outage, sleep)
        if trouble is not None:
            troubles.append((missing, trouble))
    return troubles


def refuse_unsafe(troubles: Sequence[Trouble]) -> None:
    """Call for somebody if the safe condition was not reached.

    Raises:
        InstrumentError: Says what is missing, and why the first of it.
    """
    if troubles:
        missing = ", ".join(what for what, _ in troubles)
        raise InstrumentError(
            f"THE INSTRUMENT IS NOT IN THE SAFE CONDITION, look at it: {missing}: {troubles[0][1]}"
        )


def _once(step: Callable[[], object]) -> Exception | None:
    try:
        step()
    except Exception as error:
        return error
    return None
