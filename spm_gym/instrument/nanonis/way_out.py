"""The way out: every step is tried, and what could not be done is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spm_gym.instrument.base import BadReply, ConnectionLost, InstrumentError, TimedOut
from spm_gym.instrument.nanonis.connection import Controller

ATTEMPTS = 4
LOST = (ConnectionLost, TimedOut, BadReply)
"""Errors after which there is no connection."""

Step = tuple[str, Callable[[], object]]
Trouble = tuple[str, InstrumentError]


def go_way_out(controller: Controller, steps: Iterable[Step]) -> list[Trouble]:
    """Do steps that do nothing more when they are done again, whatever fails on the way.

    Args:
        controller: What the steps go through; connected anew where needed.
        steps: What is missing if the step fails, and the step.

    Returns:
        What is missing, and why.
    """
    troubles: list[Trouble] = []
    attempts = ATTEMPTS
    for missing, step in steps:
        trouble = _try(controller, step, attempts)
        if trouble is not None:
            troubles.append((missing, trouble))
        if isinstance(trouble, LOST):
            attempts = 1  # nobody answers: do not let the operator wait for that every time
    return troubles


def _try(
    controller: Controller, step: Callable[[], object], attempts: int
) -> InstrumentError | None:
    trouble: InstrumentError | None = None
    for _ in range(attempts):
        try:
            controller.connect()
            step()
            return None
        except InstrumentError as error:
            trouble = error
    return trouble
