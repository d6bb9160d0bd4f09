"""Connections that break: before, in and after what is asked, and are made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spm_gym.errors import (
    ConnectionLost,
    OutcomeUnknown,
)
from spm_gym.instrument.contract import Instrument
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Dip, Direction, Frame, Pulse
from tests.support.faulty import bare, faulty, same

NM = 1e-9
HERE = Frame(20 * NM, -30 * NM, 10 * NM, 64)


def test_a_broken_connection_is_kept_in_the_state() -> None:
    microscope = faulty(schedule={1: "connection"})
    with pytest.raises(ConnectionLost):
        microscope.scan(HERE)
    other = faulty(schedule={1: "connection"})
    other.set_state(from_bytes(to_bytes(microscope.get_state())))
    with pytest.raises(ConnectionLost):
        other.status()
    other.reconnect()
    microscope.reconnect()
    assert same(other.scan(HERE), microscope.scan(HERE))


def test_a_connection_breaks_before_or_in_the_middle_of_a_scan() -> None:
    before = faulty().status().time
    whole = faulty()
    whole.scan(HERE)
    took = []
    for seed in range(40):
        microscope = faulty(seed, {1: "connection"})
        with pytest.raises(ConnectionLost):
            microscope.scan(HERE)
        microscope.reconnect()
        took.append(microscope.status().time - before)
    assert 8 <= took.count(0.0) <= 32
    assert len(set(took)) > 8
    assert max(took) < whole.status().time - before


def test_only_reconnect_wait_and_close_work_while_it_is_broken() -> None:
    microscope = faulty(schedule={1: "connection"})
    with pytest.raises(ConnectionLost):
        microscope.scan(HERE)
    state = repr(microscope.get_state())
    calls: list[Callable[[], Any]] = [
        microscope.status,
        lambda: microscope.scan(HERE),
        lambda: microscope.condition(Pulse(4.0), 0, 0),
        microscope.approach,
        microscope.withdraw,
        microscope.retract,
        lambda: microscope.move_area(Direction.X_PLUS),
    ]
    for call in calls:
        with pytest.raises(ConnectionLost, match="reconnect first"):
            call()
    assert repr(microscope.get_state()) == state
    time = microscope.microscope.status().time
    microscope.wait(10)
    microscope.close()
    microscope.reconnect()
    assert microscope.status().time == time + 10
    for call in calls[:-1]:
        if call == microscope.withdraw:
            microscope.approach()
        call()


ACTS: list[Callable[[Instrument], None]] = [
    lambda microscope: microscope.condition(Dip(1 * NM), 5 * NM, 5 * NM),
    lambda microscope: microscope.approach(),
    lambda microscope: microscope.withdraw(),
    lambda microscope: microscope.retract(),
    lambda microscope: microscope.move_area(Direction.Y_MINUS),
]


@pytest.mark.parametrize("act", ACTS, ids=["condition", "approach", "withdraw", "retract", "move"])
def test_a_connection_breaks_before_or_after_an_act(act: Callable[[Instrument], None]) -> None:
    """A lost act was not done, an unknown one was done exactly as without the fault."""
    untouched, done = bare(), bare()
    act(done)
    outcomes = Counter[type[Exception]]()
    for seed in range(40):
        microscope = faulty(seed, connection=1.0)
        with pytest.raises((ConnectionLost, OutcomeUnknown)) as info:
            act(microscope)
        expected = done if info.type is OutcomeUnknown else untouched
        assert repr(microscope.microscope.get_state()) == repr(expected.get_state())
        with pytest.raises(ConnectionLost, match="reconnect first"):
            microscope.status()
        outcomes[info.type] += 1
    assert 8 <= outcomes[OutcomeUnknown] <= 32


def test_a_connection_is_made_again_after_some_attempts() -> None:
    attempts = []
    for seed in range(300):
        microscope = faulty(seed, {1: "connection"}, outage=0.7)
        with pytest.raises(ConnectionLost):
            microscope.scan(HERE, 0.1)
        for attempt in range(1, 1000):
            try:
                microscope.reconnect()
            except ConnectionLost:
                with pytest.raises(ConnectionLost):
                    microscope.status()
            else:
                attempts.append(attempt)
                break
    # The mean of 300 geometric numbers with p = 0.3: 3.33 +- 0.16.
    assert len(attempts) == 300
    assert 2.5 < np.mean(attempts) < 4.2


def test_a_whole_connection_stays_whole() -> None:
    microscope = faulty(outage=0.99)
    for _ in range(20):
        microscope.reconnect()
    assert microscope.status().approached
