"""Numbers that are none, from either side of the guard, and records that cannot be kept."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import load_config
from spm_gym.config.real import LimitsConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import BadReply, InstrumentError, LimitExceeded
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.writer import Journal
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Stall, Status
from tests.support.scripted_runs import Verdicts, lab

NM = 1e-9
LIMITS = LimitsConfig()
ODD = (math.nan, math.inf, -math.inf, 5e-324, -5e-324, 2.2e-308, 0.0, -0.0, 1e-40, 1.8e308, -1e300)
"""Numbers that pass careless checks: NaN, infinite, denormal, huge."""

NUMBERS = st.one_of(st.sampled_from(ODD), st.floats(allow_subnormal=True))
SMALL = st.one_of(NUMBERS, st.floats(-1e-6, 1e-6))
ACTIONS = st.one_of(
    st.builds(Dip, SMALL, st.one_of(NUMBERS, st.floats(-10, 10)), NUMBERS),
    st.builds(Dip, SMALL, st.floats(0.02, 8), st.floats(0.02, 5)),
    st.builds(Pulse, st.one_of(NUMBERS, st.floats(-10, 10)), st.floats(0.02, 5)),
    st.just(Stall()),
)
STATUS = tuple(each.name for each in fields(Status) if each.name not in ("details", "approached"))


class Odd:
    """A simulated microscope that answers with an odd number; keeps what reaches it.

    Args:
        field: Of its status or of its scans; "low" and "high" are the ends of the z range.
        number: The reported number.
    """

    def __init__(self, field: str = "", number: float = 0.0) -> None:
        config = load_config(None, ["simulator.tip_change_rate=0", "simulator.rough_fraction=0"])
        self._microscope: SimulatedMicroscope = build_microscope(config, 5)
        self.field, self.number = field, number
        self.received: list[tuple[Conditioning, float, float]] = []
        self.frames: list[Frame] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._microscope, name)

    def status(self) -> Status:
        return replace(self._microscope.status(), **self._odd(self._microscope.z_range, STATUS))

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        self.frames.append(frame)
        scan = self._microscope.scan(frame, fraction)
        if self.field == "pixel":
            z = scan.z.copy()
            with np.errstate(over="ignore"):  # what a single cannot hold arrives as infinite
                z[::7, ::5] = self.number
            return replace(scan, z=z)
        odd = self._odd(scan.z_range, ("bias", "setpoint", "started"))
        return replace(scan, **odd)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self.received.append((action, x, y))
        self._microscope.condition(action, x, y)

    def _odd(self, z_range: Any, names: tuple[str, ...]) -> dict[str, Any]:
        if self.field in ("low", "high"):
            low, high = z_range
            ends = (self.number, high) if self.field == "low" else (low, self.number)
            return {"z_range": ends}
        return {self.field: self.number} if self.field in names else {}


def lies_within(action: Conditioning, x: float, y: float) -> bool:
    """Whether limits are kept, written so that what is no number does not."""
    slack = 1 + 1e-6
    if not max(abs(x), abs(y)) <= LIMITS.position_nm * NM * slack:
        return False
    if isinstance(action, Stall):
        return True
    (least, most), (short, long) = LIMITS.bias_V, LIMITS.width_s
    kept = least / slack <= abs(action.bias) <= most * slack
    kept &= short / slack <= action.width <= long * slack
    return kept and not (isinstance(action, Dip) and not abs(action.depth) <= 30 * NM * slack)


@settings(deadline=None)
@given(action=ACTIONS, x=SMALL, y=SMALL)
def test_whatever_is_asked_only_what_lies_within_the_limits_is_sent_and_recorded(
    action: Conditioning, x: float, y: float
) -> None:
    sent: list[tuple[Conditioning, float, float]] = []
    microscope = Odd.__new__(Odd)
    microscope.condition = lambda *what: sent.append(what)  # type: ignore[method-assign]
    microscope.status = AT_REST  # type: ignore[method-assign]
    record: list[dict[str, Any]] = []
    guard = Guard(microscope, LIMITS, record.append)
    try:
        guard.condition(action, x, y)
    except LimitExceeded:
        assert not sent
        assert not record
    else:
        assert sent == [(action, x, y)]
        assert lies_within(action, x, y)
        assert [entry["result"] for entry in record] == ["intended", "done"]


def AT_REST() -> Status:  # noqa: N802 (stands for a method)
    return Status(0, 0, 5 * NM, (-1e-7, 1e-7), 1, 25e-12, 24e-12, True, 0)


ANSWERS = (*(name for name in STATUS if name != "z_range"), "low", "high")


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("field", ANSWERS)
def test_whatever_is_read_an_act_is_recorded_as_what_it_was(
    tmp_path: Path, field: str, number: float
) -> None:
    odd = Odd(field, number)
    with Journal(tmp_path, RunState.references, durable=False) as journal:
        Guard(odd, LIMITS, journal.record_act).condition(Pulse(2.5), 0, 0)
        [(result, before, after)] = journal._db.execute("SELECT result, before, after FROM acts")
    assert len(odd.received) == 1
    assert result == "done"
    for text in (before, after):
        assert json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("number", [math.inf, -math.inf])
@pytest.mark.parametrize("field", [*ANSWERS, "started", "pixel"])
def test_what_no_microscope_can_answer_is_a_bad_reply(field: str, number: float) -> None:
    guard = Guard(Odd(field, number), LIMITS)
    ask = guard.status if field in ANSWERS else lambda: guard.scan(Frame(0, 0, 10 * NM, 64))
    with pytest.raises(BadReply, match=r"infinite|reported"):
        ask()


def test_a_z_range_without_extent_is_a_bad_reply() -> None:
    odd = Odd("low", 1.0)
    with pytest.raises(BadReply, match="no extent"):
        Guard(odd, LIMITS).status()


@pytest.mark.parametrize(
    "z",
    [
        np.zeros((32, 32), np.float32),
        np.zeros((64, 63), np.float32),
        np.zeros(64 * 64, np.float32),
        np.zeros((64, 64)),
        np.zeros((64, 64), np.int16),
    ],
    ids=lambda z: f"{z.shape} {z.dtype}",
)
def test_a_driver_that_answers_another_image_than_was_asked_for_is_refused(z: np.ndarray) -> None:
    driver = build_microscope(load_config())
    driver.scan = lambda frame, fraction=1.0: Scan(frame, z)  # type: ignore[method-assign]
    with pytest.raises(BadReply, match=r"heights of type \w+, not \(64, 64\) of float32"):
        Guard(driver, LIMITS).scan(Frame(0, 0, 10 * NM, 64))


def classifier(images: np.ndarray) -> np.ndarray:
    """Calls every probe bad, as far as an image lets it."""
    return np.clip(0.1 + 0 * images.mean(axis=(1, 2, 3)), 0, 1).astype(np.float32)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    field=st.sampled_from([*ANSWERS, "started", "pixel"]),
    number=st.sampled_from(ODD),
    seed=st.integers(0, 3),
)
def test_whatever_a_microscope_answers_a_step_keeps_the_limits(
    field: str, number: float, seed: int
) -> None:
    odd, record = Odd(field, number), list[dict[str, Any]]()
    config = load_config(None, ["env.max_attempts=2", "env.creep_wait_s=0"])
    env = ProbeConditioningEnv(Guard(odd, LIMITS, record.append), classifier, config.env)
    rng = np.random.default_rng(seed)
    try:
        env.reset(seed=seed, options={"damage": False})
        for _ in range(3):
            env.step(int(rng.choice(np.flatnonzero(env.action_masks()))))
    except InstrumentError:
        pass  # one line for the operator; anything else is a traceback
    assert all(lies_within(*each) for each in odd.received)
    assert all(math.isfinite(n) for f in odd.frames for n in (f.x, f.y, f.size, f.angle))
    ends = [entry["result"] for entry in record if entry["result"] != "intended"]
    assert "unknown" not in ends
    sent = [entry for entry in record if entry["act"] in ("pulse", "dip", "stall")]
    assert len(odd.received) == sum(entry["result"] == "intended" for entry in sent)


def disk(fails_at: str, kept: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """A record that cannot be kept of intents, or of results."""

    def record(entry: dict[str, Any]) -> None:
        if (entry["result"] == "intended") == (fails_at == "intent"):
            raise OSError(errno.ENOSPC, "No space left on device")
        kept.append(entry)

    return record


class Counting:
    """Counts what reaches it."""

    status = staticmethod(AT_REST)

    def __init__(self) -> None:
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *what: self.done.append(name)


ACT: dict[str, Callable[[Guard], None]] = {
    "condition": lambda guard: guard.condition(Pulse(2.5), 0, 0),
    "approach": lambda guard: guard.approach(),
    "retract": lambda guard: guard.retract(),
    "move_area": lambda guard: guard.move_area(Direction.X_PLUS),
}


@pytest.mark.parametrize("name", ACT)
def test_an_act_that_cannot_be_recorded_is_not_done(name: str) -> None:
    microscope, kept = Counting(), list[dict[str, Any]]()
    guard = Guard(microscope, LIMITS, disk("intent", kept))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space"):
        ACT[name](guard)
    assert not microscope.done


@pytest.mark.parametrize("name", ACT)
def test_an_act_whose_result_cannot_be_recorded_is_done_once_and_said(name: str) -> None:
    microscope, kept = Counting(), list[dict[str, Any]]()
    guard = Guard(microscope, LIMITS, disk("result", kept))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space"):
        ACT[name](guard)
    assert microscope.done == [name]
    assert [entry["result"] for entry in kept] == ["intended"]


@pytest.mark.parametrize("fails_at", ["intent", "result"])
def test_a_tip_is_withdrawn_also_if_that_cannot_be_recorded(fails_at: str) -> None:
    microscope = Counting()
    guard = Guard(microscope, LIMITS, disk(fails_at, []))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space"):
        guard.withdraw()
    assert "withdraw" in microscope.done


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), KeyboardInterrupt()])
def test_a_look_that_breaks_after_an_act_does_not_take_its_result(error: BaseException) -> None:
    microscope, kept = Counting(), list[dict[str, Any]]()
    statuses = iter([AT_REST()])

    def status() -> Status:
        try:
            return next(statuses)
        except StopIteration:
            raise error from None

    microscope.status = status  # type: ignore[method-assign]
    guard = Guard(microscope, LIMITS, kept.append)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        guard.condition(Pulse(2.5), 0, 0)
    assert [entry["result"] for entry in kept] == ["intended", "done"]


def test_an_act_that_fails_unexpectedly_is_unknown_and_says_why() -> None:
    microscope, kept = Counting(), list[dict[str, Any]]()

    def condition(*what: Any) -> None:
        raise ZeroDivisionError("division by zero")

    microscope.condition = condition  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        Guard(microscope, LIMITS, kept.append).condition(Pulse(2.5), 0, 0)  # type: ignore[arg-type]
    assert (kept[-1]["result"], kept[-1]["reason"]) == (
        "unknown",
        "ZeroDivisionError: division by zero",
    )


def fill(db: sqlite3.Connection) -> None:
    """Leave no room for another act: SQLite then says the same as on a full disk."""
    [(pages,)] = db.execute("PRAGMA page_count")
    db.execute(f"PRAGMA max_page_count = {pages}")
    filler = (
        "INSERT INTO acts (session, act, details, wall, before, result, reason, after)"
        " VALUES (1, 'dip', '{}', 0, '{}', 'done', '', '{}')"
    )
    with contextlib.suppress(sqlite3.OperationalError):
        while True:
            db.execute(filler)
            db.commit()  # a full disk takes back what was not


def test_a_run_whose_disk_is_full_ends_withdrawn_and_knows_no_act_that_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("operation.condition_after=1", "operation.scans=3")
    with lab(tmp_path, Verdicts(0.0), *settings) as it:
        it.until(State.CONDITION)
        sent: list[Any] = []
        monkeypatch.setattr(it.microscope, "condition", lambda *what: sent.append(what))
        fill(it.journal._db)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            it.runner.run()
        assert not sent
        assert not it.microscope.status().approached
    with lab(tmp_path, Verdicts(0.0, 1.0), *settings) as it:
        it.runner.run()
        assert it.rows("SELECT COUNT(*) FROM acts WHERE result = 'unknown'") == [(0,)]
