"""The states of a run, and which may follow which.

The usual way, one cycle for every image, and conditioning by the same way::

    approach -> settle -> choose region -> partial -> image -> diagnose -> classify -> collect
                               ^                                               |          |
                               |                                               v          v
                               +------------- condition <----------------------+----------+

A good image may also lead to the hand-over of the tip to a program, and then to the next region.

In conditioning with previews, a preview takes the place of the partial image; from its diagnosis
the run goes on to the image of the same frame, or to the classification without one.

A surface that has drifted out of the z window leads from the choice of a region, or from an action
that is due, to recovery, which withdraws the tip, and to another approach.

All of it::

    approach ->      settle, clean, choose region, partial, recover, pause, stop
    settle ->        clean, choose region, partial, recover, pause, stop
    clean ->         choose region, recover, pause, stop
    choose region -> partial, change area, recover, pause, stop
    partial ->       image, diagnose, recover, pause, stop
    image ->         diagnose, recover, pause, stop
    diagnose ->      choose region, image, classify, recover, stop
    classify ->      choose region, collect, condition, stop
    collect ->       choose region, condition, hand over, stop
    condition ->     choose region, recover, pause, stop
    hand over ->     choose region, recover, pause, stop
    recover ->       approach, settle, clean, choose region, partial, recover, pause, stop
    change area ->   settle, recover, pause, stop
    pause ->         approach, recover, pause, stop
    stop ->
"""

from __future__ import annotations

from enum import StrEnum

ASKED_TO_STOP = "asked to stop"
INTERRUPTED = "interrupted"
ASKED_TO_PAUSE = "asked to pause"
"""Reasons of an end or a pause by which its kind is recognised later; others are free text."""


class State(StrEnum):
    """Next thing that a run does."""

    APPROACH = "approach"
    SETTLE = "settle"
    CLEAN = "clean"
    CHOOSE = "choose region"
    PARTIAL = "partial"
    IMAGE = "image"
    DIAGNOSE = "diagnose"
    CLASSIFY = "classify"
    COLLECT = "collect"
    CONDITION = "condition"
    HAND_OVER = "hand over"
    RECOVER = "recover"
    CHANGE_AREA = "change area"
    PAUSE = "pause"
    STOP = "stop"


_S = State
_PURE = {_S.DIAGNOSE, _S.CLASSIFY, _S.COLLECT}
"""These only compute. A request to pause or stop waits for them: no image goes unclassified."""

_FOLLOWING: dict[State, set[State]] = {
    _S.APPROACH: {_S.SETTLE, _S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.SETTLE: {_S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.CLEAN: {_S.CHOOSE, _S.RECOVER},
    _S.CHOOSE: {_S.PARTIAL, _S.CHANGE_AREA, _S.RECOVER},
    _S.PARTIAL: {_S.IMAGE, _S.DIAGNOSE, _S.RECOVER},
    _S.IMAGE: {_S.DIAGNOSE, _S.RECOVER},
    _S.DIAGNOSE: {_S.CLASSIFY, _S.IMAGE, _S.CHOOSE, _S.RECOVER},
    _S.CLASSIFY: {_S.COLLECT, _S.CONDITION, _S.CHOOSE},
    _S.COLLECT: {_S.CHOOSE, _S.CONDITION, _S.HAND_OVER},
    _S.HAND_OVER: {_S.CHOOSE, _S.RECOVER},
    _S.CONDITION: {_S.CHOOSE, _S.RECOVER},
    _S.RECOVER: {_S.APPROACH, _S.SETTLE, _S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.CHANGE_AREA: {_S.SETTLE, _S.RECOVER},
    _S.PAUSE: {_S.PAUSE, _S.APPROACH, _S.RECOVER},
    _S.STOP: set(),
}

# The end may come in any state, a pause in all that touch the instrument.
TRANSITIONS: dict[State, frozenset[State]] = {
    state: frozenset(
        following
        | ({_S.STOP} if state is not _S.STOP else set())
        | ({_S.PAUSE} if state not in _PURE | {_S.STOP} else set())
    )
    for state, following in _FOLLOWING.items()
}
"""Which states may follow a state."""


class IllegalTransition(RuntimeError):
    """A state was to be followed by one that may not follow it."""


def touches_instrument(state: State) -> bool:
    """Check whether a state does something at the microscope."""
    return state not in _PURE


def check_transition(before: State, after: State) -> None:
    """Check that the table allows one state to follow another.

    Raises:
        IllegalTransition: It does not.
    """
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before])) or "nothing"
        raise IllegalTransition(f"{before!s} may be followed by {allowed}, not by {after!s}")
