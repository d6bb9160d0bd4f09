"""What a run can be doing, and what may follow what.

::

    APPROACH --> SETTLE --+--------------> CHOOSE --> PARTIAL --> IMAGE --> DIAGNOSE --> CLASSIFY
       ^           |      |                 ^  |         ^          |          |            |
       |           v      |                 |  |         |          |          |            v
       |         CLEAN ---+-----------------+  +--+      |          |          |         COLLECT
       |                                    |     |      |          |          |            |
       |                                    |     v      |          v          |            v
       |             SETTLE <----------- CHANGE_AREA     +------ RECOVER <-----+        CONDITION
       |                                                            |                       |
       +------------------------------------------------------------+        CHOOSE <-------+

    from every state that touches the instrument:  PAUSE --> APPROACH,  STOP (final)

One cycle through the upper row takes one image. CONDITION carries out one action of an episode of
the environment; the image that follows it comes by the same way as any other.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a run does next."""

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
    RECOVER = "recover"
    CHANGE_AREA = "change area"
    PAUSE = "pause"
    STOP = "stop"


_S = State
_PURE = {_S.DIAGNOSE, _S.CLASSIFY, _S.COLLECT}
"""These only think. A request to pause or stop waits for them, so that no image goes unjudged."""

_FOLLOWING: dict[State, set[State]] = {
    _S.APPROACH: {_S.SETTLE, _S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.SETTLE: {_S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.CLEAN: {_S.CHOOSE, _S.RECOVER},
    _S.CHOOSE: {_S.PARTIAL, _S.CHANGE_AREA},
    _S.PARTIAL: {_S.IMAGE, _S.RECOVER},
    _S.IMAGE: {_S.DIAGNOSE, _S.RECOVER},
    _S.DIAGNOSE: {_S.CLASSIFY, _S.CHOOSE, _S.RECOVER},
    _S.CLASSIFY: {_S.COLLECT, _S.CONDITION, _S.CHOOSE},
    _S.COLLECT: {_S.CHOOSE, _S.CONDITION},
    _S.CONDITION: {_S.CHOOSE, _S.RECOVER},
    _S.RECOVER: {_S.APPROACH, _S.CLEAN, _S.PARTIAL, _S.CHOOSE, _S.RECOVER},
    _S.CHANGE_AREA: {_S.SETTLE, _S.RECOVER},
    _S.PAUSE: {_S.PAUSE, _S.APPROACH, _S.RECOVER},
    _S.STOP: set(),
}

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
    """Whether this state does something at the microscope."""
    return state not in _PURE


def check_transition(before: State, after: State) -> None:
    """See that the table allows it.

    Raises:
        IllegalTransition: It does not.
    """
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before])) or "nothing"
        raise IllegalTransition(f"{before!s} may be followed by {allowed}, not by {after!s}")
