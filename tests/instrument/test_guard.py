from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config.real import LimitsConfig
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    LimitExceeded,
    OutcomeUnknown,
)
from spm_gym.instrument.guard import Guard
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Stall, Status

NM = 1e-9
LIMITS = LimitsConfig()


class Recorder:
    """Writes down what reaches it; raises the errors that a test has set."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.received: list[tuple[Any, ...]] = []
        self.error = error

    def status(self) -> Status:
        return Status(0, 0, 5 * NM, (-1e-7, 1e-7), 1, 25e-12, 24e-12, True, 0)

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        self.received.append(("scan", frame, fraction))
        return Scan(frame, np.zeros(frame.shape, np.float32))

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self._act("condition", action, x, y)

    def approach(self) -> None:
        self._act("approach")

    def withdraw(self) -> None:
        self._act("withdraw")

    def move_area(self, direction: Direction) -> None:
        self._act("move", direction)

    def reconnect(self) -> None:
        self._act("reconnect")

    def close(self) -> None:
        self._act("close")

    def _act(self, *what: Any) -> None:
        self.received.append(what)
        if self.error is not None:
            raise self.error


def guarded(
    error: BaseException | None = None, **limits: Any
) -> tuple[Guard, Recorder, list[dict[str, Any]]]:
    recorder, entries = Recorder(error), []
    return Guard(recorder, LimitsConfig(**limits), entries.append), recorder, entries


@pytest.mark.parametrize(
    "action",
    [Stall(), Pulse(8.2), Pulse(-8.2), Pulse(0.019), Pulse(1, 0.02), Pulse(1, 5), Dip(30 * NM),
     Dip(-30 * NM), Dip(0.8 * NM)],
)  # fmt: skip
def test_what_lies_within_the_limits_goes_through_unchanged(action: Conditioning) -> None:
    guard, recorder, _ = guarded()
    guard.condition(action, 430 * NM, -430 * NM)
    assert recorder.received == [("condition", action, 430 * NM, -430 * NM)]


@pytest.mark.parametrize(
    ("action", "limit"),
    [(Pulse(8.21), "bias_V"), (Pulse(-8.21), "bias_V"), (Pulse(0.018), "bias_V"),
     (Pulse(1, 0.019), "width_s"), (Pulse(1, 5.01), "width_s"), (Dip(30.1 * NM), "dip_nm"),
     (Dip(-30.1 * NM), "dip_nm"), (Dip(1 * NM, bias=9), "bias_V"), (Dip(1 * NM, bias=0), "bias_V")],
)  # fmt: skip
def test_actions_outside_are_refused_by_the_name_of_the_limit(
    action: Conditioning, limit: str
) -> None:
    guard, recorder, entries = guarded()
    with pytest.raises(LimitExceeded, match=rf"refused: allowed are .*real\.limits\.{limit}"):
        guard.condition(action, 0, 0)
    assert not recorder.received
    assert not entries


@pytest.mark.parametrize("place", [(431, 0), (0, -431)])
@pytest.mark.parametrize("action", [Stall(), Pulse(2.5)])
def test_places_outside_are_refused(action: Conditioning, place: tuple[float, float]) -> None:
    guard, recorder, _ = guarded()
    with pytest.raises(LimitExceeded, match="position_nm"):
        guard.condition(action, *(number * NM for number in place))
    assert not recorder.received


@pytest.mark.parametrize(
    ("frame", "limit"),
    [(Frame(0, 0, 0.9 * NM, 64), "image_nm"), (Frame(0, 0, 201 * NM, 64), "image_nm"),
     (Frame(0, 0, 10 * NM, 7), "pixels"), (Frame(0, 0, 10 * NM, 1025), "pixels"),
     (Frame(0, 0, 10 * NM, 64, lines=4), "pixels"),
     (Frame(426 * NM, 0, 10 * NM, 64), "position_nm"),
     (Frame(426 * NM, 0, 10 * NM, 64, lines=16), "position_nm"),
     (Frame(0, -426 * NM, 10 * NM, 64), "position_nm"),
     (Frame(424 * NM, 0, 10 * NM, 64, math.pi / 4), "position_nm")],
)  # fmt: skip
def test_frames_outside_are_refused(frame: Frame, limit: str) -> None:
    guard, recorder, _ = guarded()
    with pytest.raises(LimitExceeded, match=limit):
        guard.scan(frame)
    assert not recorder.received


NOWHERE = [math.nan, math.inf, -math.inf]
KINDS = ["1", None, True, 1j, (1,), np.zeros(1)]


@pytest.mark.parametrize("limits", [LIMITS, None], ids=["limits", "no limits"])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [*((number, LimitExceeded) for number in NOWHERE), *((kind, ValueError) for kind in KINDS)],
)
def test_what_is_no_number_reaches_no_microscope(
    wrong: Any, error: type[Exception], limits: LimitsConfig | None
) -> None:
    recorder, entries = Recorder(), []
    guard = Guard(recorder, limits, entries.append)
    for action in (Dip(wrong), Dip(1 * NM, wrong), Dip(1 * NM, 1, wrong), Pulse(wrong)):
        with pytest.raises(error):
            guard.condition(action, 0, 0)
    for place in ((wrong, 0), (0, wrong)):
        with pytest.raises(error):
            guard.condition(Stall(), *place)
    for part in ("x", "y", "size", "angle"):
        with pytest.raises(error):
            guard.scan(replace(Frame(0, 0, 10 * NM, 64), **{part: wrong}))
    for frame, fraction in ((Frame(0, 0, 10 * NM, wrong), 1), (Frame(0, 0, 10 * NM, 64), wrong)):
        with pytest.raises(ValueError, match=r"pixels|fraction"):
            guard.scan(frame, fraction)
    with pytest.raises(error):
        guard.wait(wrong)
    assert not recorder.received
    assert not entries


@pytest.mark.parametrize("limits", [LIMITS, None], ids=["limits", "no limits"])
@pytest.mark.parametrize("wrong", [3, -1, "dip", None, Dip, Direction.X_PLUS, (0, 0, 10 * NM, 64)])
def test_another_kind_of_value_reaches_no_microscope(
    wrong: Any, limits: LimitsConfig | None
) -> None:
    recorder, entries = Recorder(), []
    guard = Guard(recorder, limits, entries.append)
    with pytest.raises(ValueError, match="a Stall, a Pulse or a Dip, not"):
        guard.condition(wrong, 0, 0)
    with pytest.raises(ValueError, match="needs a Frame, not"):
        guard.scan(wrong)
    with pytest.raises(ValueError, match=r"needs one of Direction\.X_PLUS, .* not"):
        guard.move_area("x+" if wrong is Direction.X_PLUS else wrong)
    for impossible in (
        lambda: guard.wait(-1),
        lambda: guard.condition(Pulse(1, -0.1), 0, 0),
        lambda: guard.scan(Frame(0, 0, 0, 64)),
        lambda: guard.scan(Frame(0, 0, 10 * NM, 0)),
        lambda: guard.scan(Frame(0, 0, 10 * NM, 64, lines=0)),
    ):
        with pytest.raises(LimitExceeded):
            impossible()
    assert not recorder.received
    assert not entries


@pytest.mark.parametrize("limits", [LIMITS, None], ids=["limits", "no limits"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, 16.0, True, "16", (16,), 24, 128])
def test_lines_that_are_none_reach_no_microscope(wrong: Any, limits: LimitsConfig | None) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match="the frame's lines must"):
        Guard(recorder, limits).scan(Frame(0, 0, 10 * NM, 64, lines=wrong))
    assert not recorder.received


def test_a_scan_of_another_shape_than_the_frame_is_an_impossible_answer() -> None:
    class Ignorant(Recorder):
        def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
            return super().scan(replace(frame, lines=frame.pixels), fraction)

    guard = Guard(Ignorant(), LIMITS)
    assert guard.scan(Frame(0, 0, 10 * NM, 64)).z.shape == (64, 64)
    with pytest.raises(BadReply, match=r"\(64, 64\) heights of type float32, not \(16, 64\)"):
        guard.scan(Frame(0, 0, 10 * NM, 64, lines=16))


@given(
    x=st.floats(-1e-6, 1e-6), y=st.floats(-1e-6, 1e-6), size=st.floats(1e-10, 3e-7),
    angle=st.floats(-4, 4),
)  # fmt: skip
def test_no_corner_of_any_frame_reaches_too_far(
    x: float, y: float, size: float, angle: float
) -> None:
    guard, recorder, _ = guarded()
    frame = Frame(x, y, size, 64, angle)
    reach = abs(size / math.sqrt(2) * math.cos(math.pi / 4 - angle % (math.pi / 2)))
    inside = max(abs(x), abs(y)) + reach <= 430 * NM and 1 * NM <= size <= 200 * NM
    try:
        guard.scan(frame)
    except LimitExceeded:
        assert not inside or math.isclose(max(abs(x), abs(y)) + reach, 430 * NM, rel_tol=1e-6)
    else:
        assert recorder.received == [("scan", frame, 1.0)]
        assert max(abs(x), abs(y)) + reach <= 430 * NM * (1 + 1e-6)


def test_the_hour_and_the_area_have_budgets() -> None:
    now = [0.0]
    recorder = Recorder()
    limits = LimitsConfig(actions_per_hour=3, actions_per_area=5)
    guard = Guard(recorder, limits, clock=lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0):
        guard.condition(Pulse(2.5), 0, 0)
    with pytest.raises(LimitExceeded, match="actions_per_hour"):
        guard.condition(Dip(1 * NM), 0, 0)
    guard.condition(Stall(), 0, 0)  # costs nothing
    now[0] = 3605.0
    guard.condition(Pulse(2.5), 0, 0)
    with pytest.raises(LimitExceeded, match="actions_per_hour"):
        guard.condition(Pulse(2.5), 0, 0)
    now[0] = 8000.0
    guard.condition(Pulse(2.5), 0, 0)
    with pytest.raises(LimitExceeded, match="actions_per_area"):
        guard.condition(Pulse(2.5), 0, 0)
    guard.move_area(Direction.X_PLUS)
    guard.condition(Pulse(2.5), 0, 0)
    assert sum(what[0] == "condition" for what in recorder.received) == 7


def test_changes_of_the_area_have_a_budget_by_the_day_that_outlives_the_program() -> None:
    history: list[dict[str, Any]] = []
    now = [1e6]
    recorder = Recorder()

    def guard() -> Guard:
        limits = LimitsConfig(areas_per_day=2)
        return Guard(recorder, limits, history.append, list(history), lambda: now[0])

    guard().move_area(Direction.X_PLUS)
    now[0] += 3600.0
    guard().move_area(Direction.X_PLUS)
    with pytest.raises(LimitExceeded, match="areas_per_day"):
        guard().move_area(Direction.X_PLUS)
    now[0] += 23.5 * 3600.0  # the first one is over a day ago
    last = guard()
    last.move_area(Direction.X_PLUS)
    with pytest.raises(LimitExceeded, match="areas_per_day"):
        last.move_area(Direction.X_PLUS)
    assert recorder.received == [("move", Direction.X_PLUS)] * 3


def test_every_act_is_recorded_before_and_after_with_height_and_current() -> None:
    guard, _, entries = guarded()
    guard.condition(Dip(2 * NM, 0.02, 0.2), 1 * NM, 2 * NM)
    before, after = entries
    assert before["result"] == "intended"
    assert after["result"] == "done"
    for entry in entries:
        expected = {"number": 1, "act": "dip", "depth": 2 * NM, "bias": 0.02, "width": 0.2,
                    "x": 1 * NM, "y": 2 * NM, "z": 5 * NM, "current": 24e-12}  # fmt: skip
        assert expected.items() <= entry.items()


def test_budgets_outlive_the_program() -> None:
    history: list[dict[str, Any]] = []
    limits = LimitsConfig(actions_per_hour=3, actions_per_area=2)
    now = [1e9]
    for _ in range(2):
        guard = Guard(Recorder(), limits, history.append, list(history), lambda: now[0])
        guard.condition(Pulse(2.5), 0, 0)
    guard = Guard(Recorder(), limits, history.append, list(history), lambda: now[0])
    with pytest.raises(LimitExceeded, match="actions_per_area"):
        guard.condition(Pulse(2.5), 0, 0)
    guard.move_area(Direction.X_PLUS)
    guard = Guard(Recorder(), limits, history.append, list(history), lambda: now[0])
    guard.condition(Pulse(2.5), 0, 0)
    with pytest.raises(LimitExceeded, match="actions_per_hour"):
        guard.condition(Pulse(2.5), 0, 0)
    assert [entry["number"] for entry in history] == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("error", "result"),
    [(OutcomeUnknown("lost"), "unknown"), (CommandFailed("no"), "failed"),
     (LimitExceeded("too far"), "refused"), (ConnectionLost("gone"), "failed"),
     (KeyboardInterrupt(), "unknown")],
)  # fmt: skip
def test_the_record_tells_the_truth_about_the_outcome(error: BaseException, result: str) -> None:
    for act in (
        lambda guard: guard.condition(Pulse(2.5), 0, 0),
        lambda guard: guard.approach(),
        lambda guard: guard.withdraw(),
        lambda guard: guard.move_area(Direction.Y_MINUS),
    ):
        guard, recorder, entries = guarded(error)
        with pytest.raises(type(error)):
            act(guard)
        assert len(recorder.received) == 1
        assert [entry["result"] for entry in entries] == ["intended", result]


def test_a_look_that_fails_does_not_undo_the_act() -> None:
    guard, recorder, entries = guarded()

    def blind() -> Status:
        raise ConnectionLost("gone")

    recorder.status = blind  # type: ignore[method-assign]
    guard.condition(Pulse(2.5), 0, 0)
    assert [entry["result"] for entry in entries] == ["intended", "done"]
    assert entries[1]["status_error"] == "gone"
