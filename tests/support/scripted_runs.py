"""Runners over simulated microscopes, for tests: scripted classifiers, policy and mishaps."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, load_config
from spm_gym.envs.budget import Budget
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.writer import Journal
from spm_gym.runner.context import RunnerHooks
from spm_gym.runner.run_state import RunState
from spm_gym.runner.runner import Runner
from spm_gym.runner.states import State
from spm_gym.types import BoolArray, Decision, Transition
from tests.support.patience import PATIENT

CALM = ("simulator.tip_change_rate=0", "simulator.contact_loss_rate=0", "simulator.crash_rate=0",
        "simulator.rough_fraction=0")  # fmt: skip
"""A world in which nothing happens by itself."""

_HOOKS = {"requests", "pace", "sleep"}


class Verdicts:
    """A classifier that reads its verdicts from a list and repeats the last one."""

    def __init__(self, *probabilities: float) -> None:
        self.left = list(probabilities)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        verdict = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return np.full(len(images), verdict, np.float32)


class FirstAllowed:
    """Chooses the allowed action with the largest number; writes down what it is taught."""

    def __init__(self) -> None:
        self.taught: list[tuple[int, float, bool]] = []
        self.saved: list[int] = []

    def choose(self, observation: np.ndarray, mask: BoolArray, episode: int) -> Decision:
        return Decision(int(np.flatnonzero(mask)[-1]), "random")

    def learn(self, transition: Transition, episode: int) -> None:
        if not transition.uncertain:
            self.taught.append((transition.action, transition.reward, transition.terminated))

    def save(self, learned: int) -> None:
        self.saved.append(learned)

    def get_state(self) -> dict[str, Any]:
        return {"taught": len(self.taught)}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


class Lab:
    """A microscope, a runner over it, and what it has written.

    Args:
        folder: Run directory.
        classifier: Verdicts, or anything else that classifiers.
        settings: As on the command line.
        microscope: Another simulated one than the plain one of the settings.
        policy: Another one than `FirstAllowed`.
        previews: Verdicts about previews, if the settings have them.
        options: Of the `Runner` and its `RunnerHooks`.
    """

    def __init__(
        self,
        folder: Path,
        classifier: Callable[[np.ndarray], np.ndarray],
        *settings: str,
        microscope: SimulatedMicroscope | None = None,
        policy: Any = None,
        previews: Callable[[np.ndarray], np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        self.config: Config = load_config(None, [*CALM, *PATIENT, *settings])
        self.microscope = microscope or build_microscope(self.config, 5)
        self.journal = Journal(folder, RunState.references, durable=False)
        guard = Guard(self.microscope, None, self.journal.record_act, self.journal.acts())
        clock = options.pop("clock", lambda: self.microscope.status().time)
        budget = Budget(self.config.budget, clock)
        self.env = ProbeConditioningEnv(
            guard, classifier, self.config.env, budget=budget, preview_classifier=previews
        )
        self.policy = policy or FirstAllowed()
        hooks = {name: options.pop(name) for name in _HOOKS & options.keys()}
        self.notified: list[tuple[str, str]] = []
        self.visited: list[State] = []
        self.runner = Runner(
            self.env,
            self.config.operation,
            self.journal,
            self.policy,
            RunnerHooks(
                clock,
                notify=lambda kind, text: self.notified.append((kind, text)),
                watch=lambda run_state: self.visited.append(run_state.state),
                **hooks,
            ),
            simulated=self.microscope,
            **options,
        )

    def until(self, state: State, most: int = 2000) -> None:
        """Make transitions until the runner is about to do this."""
        for _ in range(most):
            if self.runner.step() is state:
                return
        raise AssertionError(f"{state} was never reached")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the journal, as plain tuples."""
        return [tuple(row) for row in self.journal._db.execute(query, values)]

    def labels(self) -> list[str | None]:
        """Labels of the images, in order, without partial ones."""
        query = "SELECT label FROM scans WHERE fraction = 1 ORDER BY id"
        return [label for (label,) in self.rows(query)]


@contextmanager
def lab(folder: Path, classifier: Any, *settings: str, **options: Any) -> Iterator[Lab]:
    """A `Lab` that lets go of its files."""
    made = Lab(folder, classifier, *settings, **options)
    try:
        yield made
    finally:
        made.journal.close()


def with_unknown_images(folder: Path) -> Lab:
    """A run of ten images that conditions from its second bad one to its second good one."""
    good, bad, unknown = 0.95, 0.02, math.nan
    verdicts = Verdicts(good, unknown, bad, unknown, bad, unknown, bad, unknown, good)
    return Lab(folder, verdicts, "operation.condition_after=2", "operation.scans=10")


def everything(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that must not depend on when a run was interrupted, and the scans' bytes."""
    left_out = {"sessions": (), "state": (), "events": ()}
    unequal = {"wall", "wall_result", "session"}
    db = sqlite3.connect(folder / "journal.sqlite")
    db.row_factory = sqlite3.Row
    try:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        found: dict[str, list[tuple[Any, ...]]] = {}
        for table in tables:
            if table not in left_out:
                rows = db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
                found[table] = [
                    tuple(row[name] for name in row.keys() if name not in unequal)  # noqa: SIM118
                    for row in rows
                ]
    finally:
        db.close()
    found["files"] = [(path.name, path.read_bytes()) for path in sorted(folder.glob("scans/*"))]
    return found
