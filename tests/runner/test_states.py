from __future__ import annotations

import itertools

import pytest

from spm_gym.runner import states
from spm_gym.runner.states import TRANSITIONS, IllegalTransition, State, check_transition

PAIRS = list(itertools.product(State, State))
LEGAL = [pair for pair in PAIRS if pair[1] in TRANSITIONS[pair[0]]]
ILLEGAL = [pair for pair in PAIRS if pair[1] not in TRANSITIONS[pair[0]]]


def named(pair: tuple[State, State]) -> str:
    return f"{pair[0].name}-then-{pair[1].name}"


@pytest.mark.parametrize("pair", ILLEGAL, ids=named)
def test_illegal_order_is_refused(pair: tuple[State, State]) -> None:
    with pytest.raises(IllegalTransition, match=f"{pair[0]!s} may be followed by"):
        check_transition(*pair)


@pytest.mark.parametrize("pair", LEGAL, ids=named)
def test_legal_order_is_let_through(pair: tuple[State, State]) -> None:
    check_transition(*pair)


def test_a_classified_image_is_the_only_way_to_an_action() -> None:
    before = {state for state in State if State.CONDITION in TRANSITIONS[state]}
    assert before == {State.CLASSIFY, State.COLLECT}
    assert {s for s in State if State.CLASSIFY in TRANSITIONS[s]} == {State.DIAGNOSE}
    # A preview is taken in the place of a partial image.
    assert {s for s in State if State.DIAGNOSE in TRANSITIONS[s]} == {State.PARTIAL, State.IMAGE}


def test_every_image_comes_after_a_partial_one_or_a_usable_preview_at_its_place() -> None:
    before = {s for s in State if State.IMAGE in TRANSITIONS[s]}
    assert before == {State.PARTIAL, State.DIAGNOSE}


def test_after_a_coarse_move_the_piezos_settle_before_anything_else() -> None:
    onward = TRANSITIONS[State.CHANGE_AREA] - {State.RECOVER, State.PAUSE, State.STOP}
    assert onward == {State.SETTLE}


def test_nothing_follows_the_end_and_everything_leads_there() -> None:
    assert not TRANSITIONS[State.STOP]
    assert all(State.STOP in TRANSITIONS[state] for state in State if state is not State.STOP)


def test_every_state_can_be_reached() -> None:
    reached, new = {State.APPROACH}, {State.APPROACH}
    while new:
        new = set().union(*(TRANSITIONS[state] for state in new)) - reached
        reached |= new
    assert reached == set(State)


def test_the_diagram_is_the_table() -> None:
    """The docstring was written by hand, so that a slip in the table is seen."""
    assert states.__doc__ is not None
    lines = states.__doc__.split("All of it::")[1].strip().splitlines()
    drawn = {}
    for line in lines:
        state, following = line.strip().split("->")
        names = [name.strip() for name in following.split(",") if name.strip()]
        drawn[State(state.strip())] = frozenset(map(State, names))
    assert drawn == TRANSITIONS
