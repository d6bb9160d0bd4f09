"""Kills an autonomous run again and again, at moments of every kind, and lets it go on."""

from __future__ import annotations

import collections
import itertools
import pickle
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from spm_gym.analysis.summary import summarise
from spm_gym.config import load_config
from spm_gym.runner.control import Request, ask
from spm_gym.runner.states import State
from tests.support.kill_checks import (
    Remembered,
    changes,
    differences,
    disagreements,
    repetitions,
    snapshot,
)
from tests.support.kill_child import ACTING, LONGEST_S, MOMENTS, Child
from tests.support.kill_controller import controller
from tests.support.patience import PATIENT

Kind = Literal["sim", "quiet", "previews", "real", "running"]

QUIET = tuple(state for state in State if state not in ACTING)
"""States in which no act is carried out."""

LIVELY = (
    "operation.condition_after=2", "operation.checkpoint_every=5", "operation.max_recoveries=1000",
    "simulator.tip_change_rate=0.05", "env.regions.area_nm=60", "agent.buffer_steps=1000",
    *PATIENT,
)  # fmt: skip
FAULTS = (
    "faults={lost_contact: 0.02, crash: 0.02, connection: 0.03, missing_lines: 0.02, "
    "rough_region: 0.05}"
)
SERVED = (
    "simulator.contact_loss_rate=0.02", "simulator.crash_rate=0.02",
    "real.nanonis.coarse.retract=z+", "env.creep_wait_s=0", "operation.confirm_s=0",
    "operation.retry_s=0", "real.limits.actions_per_hour=null", "real.limits.areas_per_day=null",
)  # fmt: skip
KINDS: dict[Kind, tuple[str, ...]] = {
    "sim": (*LIVELY, FAULTS), "quiet": (*LIVELY, FAULTS, "operation.policy=interleaved"),
    "previews": (*LIVELY, FAULTS, "env.preview_lines=16"),
    "real": (*LIVELY, *SERVED), "running": (*LIVELY, *SERVED),
}  # fmt: skip
"""A simulated microscope with faults, the same killed in `QUIET` only and with a random
policy taking turns with the agent, the first with previews, a controller that lives on and whose
waits take no time, the same with a clock that runs."""

TIME_SCALES: dict[Kind, float] = {"real": 0.0, "running": 500.0}

_PATIENCE_S = 8.0
_SHUTDOWN_S = 0.1
_LAST_IMAGES = 10
_INTERRUPTED = 130


@dataclass(slots=True)
class Trial:
    """Outcome of killing one run.

    Attributes:
        kind: Of microscope.
        seed: Of everything.
        kills: That met a living run.
        moments: Kills by the moment that they met.
        calls: Kills by the system call that they met.
        broken: Sessions in which the disk answered with errors from some call on.
        ended: Runs that ended by themselves.
        faults: Whatever was not as it should be.
        rows: Of the journal at the end, by table.
        acts: By result; for a controller, by how many of their commands it has carried out.
        commands: That the controller has carried out.
        seconds: It took.
    """

    kind: Kind
    seed: int
    kills: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    ended: int = 0
    faults: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    acts: dict[str, dict[str, int]] = field(default_factory=dict)
    commands: int = 0
    seconds: float = 0.0


class Killer:
    """Kills one run, inspects what is left, and lets it go on.

    Args:
        kind: Of microscope.
        seed: Of the run and of the moments.
        folder: For the run and what is noted about it.
        overrides: Further settings.
    """

    def __init__(self, kind: Kind, seed: int, folder: Path, overrides: Sequence[str]) -> None:
        self.trial = Trial(kind, seed)
        self.run = folder / "run"
        self.kept = folder / "memory.pickle"
        self.settings = [*KINDS[kind], *overrides]
        self.config = load_config(None, self.settings)
        self._output = folder / "output.txt"
        self._rng = np.random.default_rng(seed)
        self._met = collections.Counter[str]()
        self._lasting = {name: collections.deque([0.01], maxlen=20) for name in MOMENTS}
        self._starting = 1.0
        self._before = snapshot(self.run)
        self._ever_ran = False
        self._last_images = 0

    def kill(self) -> None:
        """Start the run, kill it, inspect what is left."""
        child = self.start()
        try:
            self._choose_moment()(child)
        finally:
            status = child.kill()
        self._learn_durations(child)
        self._ever_ran |= bool(child.entered)
        if status == -signal.SIGKILL:
            self.trial.kills += 1
            self._met[child.last] += 1
            self.trial.moments[child.last] = self._met[child.last]
        else:
            self._note_end(status)
        self.inspect(f"kill {self.trial.kills}, {child.last}")

    def finish(self) -> Remembered | None:
        """Let the run come to its end; returns its memory, if it came to that."""
        images = sum(row["fraction"] == 1 for row in self._before.rows["scans"].values())
        return self.go_on(images + _LAST_IMAGES)

    def go_on(self, images: int) -> Remembered | None:
        """Let the run come to its end with so many images."""
        self._last_images = images
        self._complete(f"--scans={images}")
        return self._compare("end")

    def inspect_memory(self) -> None:
        """Start the run only to compare what it remembers."""
        self._complete(memory_only=True)
        self._compare("in memory")

    def _complete(self, *options: str, memory_only: bool = False) -> None:
        self.kept.unlink(missing_ok=True)
        child = self.start(*options, memory_only=memory_only)
        self._note_end(child.wait())
        self.inspect("after it ended")

    def _compare(self, when: str) -> Remembered | None:
        if not self.kept.is_file():
            return None
        kept: Remembered = pickle.loads(self.kept.read_bytes())
        for fault in disagreements(kept, self.run, self.config):
            self.note(f"{when}: {fault}")
        return kept

    def _note_end(self, status: int) -> None:
        self.trial.ended += 1
        if status not in (0, _INTERRUPTED):
            output = self._output.read_text(encoding="utf-8", errors="replace")
            self.note(f"the run ended with status {status}: {output.splitlines()[-1]}")

    def compare_with_unkilled(self, kept: Remembered) -> None:
        """See that the run has ended like one that nobody has killed, bit for bit."""
        folder = self.run.parent / "unkilled"
        folder.mkdir()
        other = Killer(self.trial.kind, self.trial.seed, folder, [])
        unkilled = other.go_on(self._last_images)
        assert unkilled is not None
        for fault in (*other.trial.faults, *differences(self.run, other.run)):
            self.note(f"unkilled: {fault}")
        for part in ("replay", "weights"):
            mine, theirs = getattr(kept, part), getattr(unkilled, part)
            if mine.keys() != theirs.keys() or any(
                not np.array_equal(mine[name], theirs[name]) for name in mine
            ):
                self.note(f"unkilled: the {part} differ")

    def note(self, fault: str) -> None:
        """Note something that is not as it should be."""
        self.trial.faults.append(fault)

    def start(
        self,
        *options: str,
        memory_only: bool = False,
        attach: Callable[[int], None] | None = None,
    ) -> Child:
        """Start the run, or go on with it."""
        arguments = ["--run-dir", str(self.run), *options]
        if self._has_started():
            arguments.append("--resume")
        else:  # killed before there was anything to go on with
            shutil.rmtree(self.run, ignore_errors=True)
            env = "real" if self.trial.kind in TIME_SCALES else "sim"
            arguments += ["--env", env, "--seed", str(self.trial.seed), "--set", *self.settings]
        gated = self.trial.kind == "quiet" and not options and not memory_only
        return Child(
            arguments, self.kept, self._output, memory_only, ACTING if gated else (), attach
        )

    def _has_started(self) -> bool:
        return self._ever_ran or bool(self._before.rows["sessions"])

    def _choose_moment(self) -> Callable[[Child], None]:
        kind = self._rng.random()
        if kind < 0.1:
            return self._at_start
        if kind < 0.25 and self.trial.kind != "quiet":
            return self._any_time if kind < 0.2 else self._during_shutdown
        return self._in_moment

    def _at_start(self, child: Child) -> None:
        child.next_moment(child.started + self._rng.uniform(0, self._starting))

    def _any_time(self, child: Child) -> None:
        self._pass(child, (), child.started + self._starting + self._rng.uniform(0, 1.5))

    def _during_shutdown(self, child: Child) -> None:
        self._any_time(child)
        child.interrupt()
        acts = () if self._rng.random() < 0.5 else MOMENTS[len(State) :]
        self._pass(child, acts, time.monotonic() + self._rng.uniform(0, _SHUTDOWN_S))

    def _in_moment(self, child: Child) -> None:
        """Wait for a moment that was met seldom so far, and for a part of its usual duration."""
        target = self._seldom_met()
        if child.next_moment(child.started + LONGEST_S) is None:
            return
        earliest = time.monotonic() + self._rng.uniform(0, 0.5)
        self._pass(child, (), earliest)
        for request, state in ((Request.PAUSE, State.PAUSE), (Request.STOP, State.STOP)):
            if target.endswith(state):
                ask(self.run, request)
        self._pass(child, (target,), earliest + _PATIENCE_S)
        time.sleep(self._rng.random() * self._rng.choice(self._lasting[child.last]))

    def _seldom_met(self) -> str:
        moments = QUIET if self.trial.kind == "quiet" else MOMENTS[:-1]
        met = np.array([self._met[moment] for moment in moments])
        return str(moments[int(self._rng.choice(np.flatnonzero(met <= met.min())))])

    def _pass(self, child: Child, awaited: Collection[str], until: float) -> None:
        while (moment := child.next_moment(until)) is not None:
            if moment in awaited:
                return

    def _learn_durations(self, child: Child) -> None:
        entered = child.entered
        if entered:
            self._starting = 0.7 * self._starting + 0.3 * (entered[0][1] - child.started)
        for (moment, started), (_, ended) in itertools.pairwise(entered):
            self._lasting[moment].append(ended - started)

    def inspect(self, when: str) -> None:
        """See what is left of the run, and note what is not as it should be."""
        now = snapshot(self.run)
        faults = list(changes(self._before, now))
        if self._has_started():
            faults += summarise(self.run).inconsistencies
            faults += repetitions(self.run, self.config.env)
        for fault in faults:
            self.note(f"{when}: {fault}")
        self._before = now


@contextmanager
def microscope(kind: Kind, seed: int, folder: Path) -> Iterator[list[str]]:
    """The controller that lives on when a run is killed; yields the settings that lead to it."""
    if kind not in TIME_SCALES:
        yield []
        return
    settings = load_config(None, KINDS[kind])
    with controller(settings, seed, TIME_SCALES[kind], folder / "commands") as ports:
        yield [f"real.nanonis.ports={ports}"]
