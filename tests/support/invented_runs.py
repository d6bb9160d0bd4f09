"""Journals of runs that never were: all that a view has to show, without waiting for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.envs.regions import Mark
from spm_gym.journal.reader import Label
from spm_gym.journal.run_lock import locked_run
from spm_gym.journal.writer import Journal, SessionRecord
from spm_gym.runner.run_state import OpenEpisode, RunState
from spm_gym.runner.states import State
from spm_gym.types import Forecast, Frame, Scan

NM = 1e-9
HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }} $x_{$ \x07"
PULSE, DIP = "pulse +4.0 V", "dip 1.0 nm"
ACTIONS = {PULSE: 2, DIP: 7, HOSTILE: 12}
_STATE = {
    "state": ("", "state"),
    "elapsed": ("clock", "elapsed"),
    "area": ("place", "area"),
    "frame": ("place", "frame"),
    "in_contact": ("tip", "in_contact"),
    "images": ("imaging", "images"),
    "bad_probe": ("imaging", "bad_probe"),
    "trouble": ("recovery", "trouble"),
    "troubles": ("recovery", "in_a_row"),
    "ending": ("ending", "reason"),
    "failed": ("ending", "failed"),
}
"""Short names of what an invented run may say of itself: group and attribute of `RunState`."""


def surface(seed: int, pixels: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A tilted plane with molecules 0.2 nm high."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:pixels, :pixels] / pixels
    z = 1e-10 * rows - 2e-10 * cols + 3e-12 * rng.standard_normal((pixels, pixels))
    for row, col in rng.random((4, 2)):
        z[np.hypot(rows - row, cols - col) < 0.08] += 2e-10
    return np.asarray(z, np.float32)


def places() -> Iterator[tuple[float, float]]:
    """Places of a grid from its centre outwards, m."""
    for ring in range(60):
        for x in range(-ring, ring + 1):
            for y in range(-ring, ring + 1):
                if max(abs(x), abs(y)) == ring:
                    yield 1e-8 * x, 1e-8 * y


class InventedRun:
    """Writes the journal of a run with 20 s of operation for every scan."""

    def __init__(self, path: Path, config: str = "c" * 64) -> None:
        self._lock = ExitStack()
        self.journal = Journal(path, RunState.references, durable=False)
        self.journal.begin_session(SessionRecord(config, "d" * 64, "", {"numpy": "2"}, False), 1)
        self.surfaces = [surface(seed) for seed in range(10)]
        self.scans = 0
        self.area = -1

    def __enter__(self) -> InventedRun:
        self._lock.enter_context(locked_run(self.journal.run))  # as a program at work does
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let go of the run, as its program does when it ends; legal twice."""
        self.journal.close()
        self._lock.close()

    @property
    def elapsed(self) -> float:
        return 20.0 * self.scans

    def enter_area(self, reason: str = "the run begins") -> None:
        self.area += 1
        coarse = (self.area, -self.area)
        self.journal.add_area(self.area, coarse, self.area < 1, self.elapsed, reason)
        self.places = places()

    def scan(
        self,
        label: Label | None,
        probability: float | None = None,
        episode: int | None = None,
        angle: float = 0.0,
        z: Any = None,
        **measured: Any,
    ) -> int:
        x, y = next(self.places)
        z = self.surfaces[self.scans % len(self.surfaces)] if z is None else z
        self.scans += 1
        number = self.journal.add_scan(
            Scan(Frame(x, y, 10 * NM, z.shape[0], angle), z, **measured),
            fraction=0.25 if label is Label.DISCARDED else 1.0,
            area=self.area,
            elapsed=self.elapsed,
            label=label,
            episode=episode,
        )
        if probability is not None:
            self.journal.record_reading(number, probability=probability, clean_side=3 * NM)
        self.journal.add_mark(self.area, Mark(x, y, 5 * NM, "image"))
        return number

    def condition(
        self,
        actions: list[str],
        outcome: str | None = "good",
        values: Sequence[float] | None = None,
        mask: Sequence[bool] = (),
        forecast: Forecast | None = None,
    ) -> None:
        """An episode; only its last image is good, if any."""
        processed = self.scan(Label.BAD_PROBE, 0.1)
        episode = self.journal.begin_episode(self.area, self.elapsed, self.elapsed, processed)
        for number, name in enumerate(actions, 1):
            step = self.journal.add_step(
                episode,
                number,
                scan=processed,
                action=ACTIONS[name],
                name=name,
                policy="random" if values is None and forecast is None else "agent",
                mask=json.dumps(mask),
                q=json.dumps(values),
                forecast=None if forecast is None else json.dumps(asdict(forecast)),
                act=1,
            )
            good = number == len(actions) and outcome == "good"
            after = self.scan(Label.CONDITIONING, 0.95 if good else 0.2, episode)
            self.journal.add_mark(self.area, Mark(0.0, 0.0, 12 * NM, name))
            self.journal.end_step(step, scan_after=after, terminated=good, truncated=False)
            processed = after
        if outcome is not None:
            self.journal.end_episode(episode, outcome, self.elapsed, self.elapsed)

    def act(self, number: int, result: str | None) -> None:
        entry = {"number": number, "act": "pulse", "bias": 4.0, "time": 1e9}
        self.journal.record_act(entry | {"result": "intended"})
        if result is not None:
            self.journal.record_act(entry | {"result": result})

    def recovery(self, trouble: str, result: str | None = "recovered", detail: str = "") -> None:
        number = self.journal.add_recovery(
            trouble, area=self.area, x=0.0, y=1e-8, time=0.0, elapsed=self.elapsed, detail=detail
        )
        if result is not None:
            self.journal.end_recovery(number, result)

    def commit(
        self, episode: int | None = None, steps: int = 0, scan: int = 1, **values: Any
    ) -> None:
        """Say where the run stands.

        Args:
            episode: Under way.
            steps: In it.
            scan: That its next action is decided on.
            values: Named as in `_STATE`.
        """
        run_state = RunState(State.IMAGE)
        for name, value in ({"elapsed": self.elapsed, "area": max(self.area, 0)} | values).items():
            group, attribute = _STATE[name]
            target = getattr(run_state, group) if group else run_state
            setattr(target, attribute, value)
        if episode is not None:
            run_state.conditioning.episode = OpenEpisode(episode, scan, steps)
        self.journal.commit(run_state.to_json(), None)


def eventful(path: Path) -> InventedRun:
    """Make a run with a bit of everything, still under way."""
    run = InventedRun(path)
    run.enter_area()
    for number in range(12):
        run.scan(Label.DISCARDED)
        run.scan(Label.GOOD if number % 3 else Label.BAD_PROBE, 0.97 if number % 3 else 0.3)
    run.condition([PULSE, PULSE, DIP])
    run.condition([DIP], outcome="limit")
    run.enter_area("the time limit of conditioning")
    run.scan(Label.BAD_SAMPLE)
    run.journal.add_mark(1, Mark(0.0, 0.0, 25 * NM, "bad sample"))
    run.journal.add_mark(1, Mark(5e-8, 0.0, 25 * NM, "crash"))
    run.scan(Label.UNUSABLE, z=np.full((64, 64), np.nan, np.float32))
    run.scan(Label.GOOD, 0.99, angle=0.5)
    run.condition([PULSE], outcome=None)
    run.scan(None)
    run.recovery("lost contact")
    run.recovery("crash", "failed", "over-current")
    run.recovery("connection", None)
    run.act(1, "done")
    run.act(2, "unknown")
    run.act(3, None)
    run.journal.add_event(0.0, "area", "the approach area was changed")
    run.commit()
    return run
