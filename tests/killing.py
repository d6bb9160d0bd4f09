"""Kills an autonomous run again and again, at moments of every kind, and lets it go on.

One process imports everything and forks the runs, so that a start costs no import. Whoever calls
`trial` must have no threads.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import pickle
import select
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch._dynamo  # noqa: F401 (an optimiser imports it: once is enough)
from kill_checks import (
    Command,
    Remembered,
    changes,
    differences,
    disagreements,
    reached,
    repetitions,
    snapshot,
)

import agents.classifier  # noqa: F401 (as above)
from agents.operation import OperatingAgent
from spm_gym.build import virtual_controller
from spm_gym.cli import operate, run, run_command
from spm_gym.config import Config, load_config
from spm_gym.instrument.virtual_nanonis.controller import VirtualController
from spm_gym.instrument.virtual_nanonis.server import VirtualNanonis
from spm_gym.runner.control import Request, ask
from spm_gym.runner.runner import Outcome, Runner
from spm_gym.runner.states import State
from spm_gym.view.summary import summarise

Kind = Literal["sim", "real", "quiet"]

STATES = tuple(State)
QUIET = (State.SETTLE, State.CHOOSE, State.PARTIAL, State.IMAGE, State.DIAGNOSE, State.CLASSIFY,
         State.COLLECT)  # fmt: skip
"""States in which no act is carried out."""

LIVELY = (
    "operation.condition_after=2", "operation.checkpoint_every=5", "operation.max_recoveries=1000",
    "simulator.tip_change_rate=0.05", "env.regions.area_nm=60", "agent.buffer_steps=1000",
)  # fmt: skip
FAULTS = (
    "faults={lost_contact: 0.02, crash: 0.02, connection: 0.03, missing_lines: 0.02, "
    "rough_region: 0.05}"
)
SERVED = (
    "simulator.contact_loss_rate=0.02", "simulator.crash_rate=0.02", "real.coarse.retract=z+",
    "env.creep_wait_s=0", "operation.confirm_s=0", "operation.retry_s=0",
)  # fmt: skip
KINDS: dict[Kind, tuple[str, ...]] = {
    "sim": (*LIVELY, FAULTS), "real": (*LIVELY, *SERVED), "quiet": (*LIVELY, FAULTS),
}  # fmt: skip
"""A simulated microscope with faults; a controller that lives on; the first, killed in `QUIET`."""

_PATIENCE_S = 8.0
_LONGEST_S = 120.0
_LAST_IMAGES = 10
_ENTRY = struct.Struct("=Bd")


class Watched(Runner):
    """A runner that says which state it enters, and what it holds in memory at the end.

    Attributes:
        told: Descriptor of a pipe that takes states and times.
        kept: File for the memory.
        looks: Whether to keep the memory at the start and do nothing.
    """

    told: ClassVar[int]
    kept: ClassVar[Path]
    looks: ClassVar[bool] = False

    def step(self) -> State:
        self._tell(self.state)
        following = super().step()
        if following is State.STOP:
            self._tell(following)
        return following

    def run(self) -> Outcome:
        if self.looks:
            self._keep()
            os._exit(0)
        outcome = super().run()
        self._keep()
        return outcome

    def _tell(self, state: State) -> None:
        os.write(self.told, _ENTRY.pack(STATES.index(state), time.monotonic()))

    def _keep(self) -> None:
        m, regions = self.memory, self.env.survey.regions
        marks = [(mark.x, mark.y, mark.radius, mark.reason) for mark in regions.marks]
        replay, weights = _learned(self.chooser)
        kept = Remembered(m.area, marks, regions.free, m.counters, m.images, replay, weights)
        self.kept.write_bytes(pickle.dumps(kept))


def _learned(chooser: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(chooser, OperatingAgent):
        return {}, {}
    replay = chooser.model.replay_buffer.get_state()
    networks = {"q": chooser.model.q_net, "target": chooser.model.q_net_target}
    weights = {
        f"{network}.{name}": values.numpy().copy()
        for network, module in networks.items()
        for name, values in module.state_dict().items()
    }
    return {k: v.copy() for k, v in replay.items() if k != "counters"}, weights


class Child:
    """A run in a forked process.

    Attributes:
        last: The state that it was in last; None while it starts.
        entered: States that it has entered, and when (monotonic clock, s).
    """

    def __init__(self, arguments: Sequence[str], kept: Path, output: Path, looks: bool) -> None:
        self.last: State | None = None
        self.entered: list[tuple[State, float]] = []
        self.begun = time.monotonic()
        self._pipe, told = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._pipe)
            Watched.told, Watched.kept, Watched.looks = told, kept, looks
            _operate(arguments, output)
        os.close(told)

    def next_state(self, until: float) -> State | None:
        """The next state that it enters; None if it ends first, or the time is over."""
        left = until - time.monotonic()
        if left < 0 or not select.select([self._pipe], [], [], left)[0]:
            return None
        read = os.read(self._pipe, _ENTRY.size)
        if not read:
            return None
        number, when = _ENTRY.unpack(read)
        self.last = STATES[number]
        self.entered.append((self.last, when))
        return self.last

    def kill(self) -> int:
        """Kill it, unless it has ended; returns its exit status."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; returns its exit status, negative for a signal."""
        while self.next_state(time.monotonic() + _LONGEST_S) is not None:
            pass
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _operate(arguments: Sequence[str], output: Path) -> NoReturn:
    status = 70
    try:
        with output.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        operate.Runner = Watched  # type: ignore[attr-defined]
        parser = argparse.ArgumentParser()
        run.add_arguments(parser)
        status = run_command(parser, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


class Ledger(collections.deque[tuple[str, dict[str, Any]]]):
    """Takes the place of a controller's memory of commands; writes the physical ones to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(maxlen=1)
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._shape: Mapping[str, Any] = {}

    def append(self, executed: tuple[str, dict[str, Any]]) -> None:
        name, values = executed
        if name == "TipShaper.PropsSet":
            self._shape = values
        numbers = _physical(name, values, self._shape)
        if numbers is not None:
            self._file.write(json.dumps([time.time(), *numbers]) + "\n")


def _physical(
    name: str, values: Mapping[str, Any], shape: Mapping[str, Any]
) -> tuple[str, tuple[float, ...]] | None:
    if name == "FolMe.XYPosSet":
        return "move", (values["x"], values["y"])
    if name == "Bias.Pulse":
        return "pulse", (values["bias"], values["width"])
    if name == "TipShaper.Start":
        return "dip", (-shape["tip_lift"], shape["bias"], shape["lift_time_1"])
    if name == "AutoApproach.OnOffSet" and values["on"]:
        return "approach", ()
    if name == "Motor.StartMove":
        return "motor", (values["direction"], values["steps"])
    return None


def executed(ledger: Path) -> list[Command]:
    """What a controller has done."""
    lines = ledger.read_text(encoding="utf-8").splitlines()
    return [Command(wall, kind, tuple(values)) for wall, kind, values in map(json.loads, lines)]


@contextmanager
def controller(config: Config, seed: int, ledger: Path) -> Iterator[list[int]]:
    """A virtual Nanonis in a process of its own that counts what it does; yields its ports."""
    parent = os.getpid()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        with VirtualNanonis(_counting(config, seed, ledger), ports=(0, 0)) as server:
            os.write(write, json.dumps(server.ports).encode())
            while os.getppid() == parent:
                time.sleep(0.1)
        os._exit(0)
    os.close(write)
    try:
        yield json.loads(os.read(read, 100))
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _counting(config: Config, seed: int, ledger: Path) -> VirtualController:
    controller = virtual_controller(config, seed, time_scale=0)
    controller.executed = Ledger(ledger)
    return controller


@dataclass(slots=True)
class Trial:
    """What came of killing one run.

    Attributes:
        kind: Of microscope.
        seed: Of everything.
        kills: That met a living run.
        states: Kills by the state that they met; "start" before the first.
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
    states: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    faults: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    acts: dict[str, dict[str, int]] = field(default_factory=dict)
    commands: int = 0
    seconds: float = 0.0


class Killer:
    """Kills one run, looks at what is left, and lets it go on.

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
        self._lasting = {state: collections.deque([0.01], maxlen=20) for state in STATES}
        self._starting = 1.0
        self._before = snapshot(self.run)
        self._ever_ran = False

    def kill(self) -> None:
        """Start the run, kill it, look."""
        child = self._start()
        try:
            self._choose_moment()(child)
        finally:
            status = child.kill()
        self._learn_durations(child)
        self._ever_ran |= bool(child.entered)
        where = str(child.last or "start")
        if status == -signal.SIGKILL:
            self.trial.kills += 1
            self._met[where] += 1
            self.trial.states[where] = self._met[where]
        else:
            self._note_end(status)
        self._inspect(f"kill {self.trial.kills} in {where}")

    def finish(self) -> Remembered:
        """Let the run come to its end."""
        images = sum(row["fraction"] == 1 for row in self._before.rows["scans"].values())
        self._complete(f"--scans={images + _LAST_IMAGES}")
        return self._compare("end")

    def look(self) -> Remembered:
        """Start the run only to see what it remembers."""
        self._complete(looks=True)
        return self._compare("look")

    def _complete(self, *options: str, looks: bool = False) -> None:
        self.kept.unlink(missing_ok=True)
        child = self._start(*options, looks=looks)
        self._note_end(child.wait())
        self._inspect("after it ended")

    def _compare(self, when: str) -> Remembered:
        kept: Remembered = pickle.loads(self.kept.read_bytes())
        for fault in disagreements(kept, self.run, self.config):
            self.note(f"{when}: {fault}")
        return kept

    def _note_end(self, status: int) -> None:
        self.trial.ended += 1
        if status:
            self.note(f"the run ended with status {status}: see {self._output}")

    def note(self, fault: str) -> None:
        """Note something that is not as it should be."""
        self.trial.faults.append(fault)

    def _start(self, *options: str, looks: bool = False) -> Child:
        arguments = ["--run-dir", str(self.run), *options]
        if self._begun():
            arguments.append("--resume")
        else:  # killed before there was anything to go on with
            shutil.rmtree(self.run, ignore_errors=True)
            env = "real" if self.trial.kind == "real" else "sim"
            arguments += ["--env", env, "--seed", str(self.trial.seed), "--set", *self.settings]
        return Child(arguments, self.kept, self._output, looks)

    def _begun(self) -> bool:
        return self._ever_ran or bool(self._before.rows["sessions"])

    def _choose_moment(self) -> Callable[[Child], None]:
        kind = self._rng.random()
        if kind < 0.1:
            return self._at_start
        if kind < 0.25 and self.trial.kind != "quiet":
            return self._any_time
        return self._in_state

    def _at_start(self, child: Child) -> None:
        until = child.begun + self._rng.uniform(0, self._starting)
        child.next_state(until)

    def _any_time(self, child: Child) -> None:
        until = child.begun + self._starting + self._rng.uniform(0, 1.5)
        while child.next_state(until) is not None:
            pass

    def _in_state(self, child: Child) -> None:
        """Wait for a state that was met seldom so far, and for a part of its usual duration."""
        wanted = self._rarest()
        first = child.next_state(child.begun + _LONGEST_S)
        if first is None:
            return
        earliest = time.monotonic() + self._rng.uniform(0, 0.5)
        if wanted in (State.PAUSE, State.STOP):
            self._pass(child, (), earliest)
            ask(self.run, Request.PAUSE if wanted is State.PAUSE else Request.STOP)
        self._pass(child, (), earliest)
        self._pass(child, (wanted,), earliest + _PATIENCE_S)
        if self.trial.kind == "quiet":
            while child.last not in QUIET:
                self._pass(child, QUIET, time.monotonic() + _PATIENCE_S)
        time.sleep(self._rng.random() * self._rng.choice(self._lasting[child.last or first]))

    def _rarest(self) -> State:
        states = QUIET if self.trial.kind == "quiet" else STATES
        met = np.array([self._met[state] for state in states])
        return states[int(self._rng.choice(np.flatnonzero(met <= met.min())))]

    def _pass(self, child: Child, wanted: Collection[State], until: float) -> None:
        while (state := child.next_state(until)) is not None:
            if state in wanted:
                return

    def _learn_durations(self, child: Child) -> None:
        entered = child.entered
        if entered:
            self._starting = 0.7 * self._starting + 0.3 * (entered[0][1] - child.begun)
        for (state, begun), (_, ended) in itertools.pairwise(entered):
            self._lasting[state].append(ended - begun)

    def _inspect(self, when: str) -> None:
        now = snapshot(self.run)
        faults = list(changes(self._before, now))
        if self._begun():
            faults += summarise(self.run).inconsistencies
            faults += repetitions(self.run, self.config.env)
        for fault in faults:
            self.note(f"{when}: {fault}")
        self._before = now


def trial(kind: Kind, kills: int, seed: int, folder: Path) -> Trial:
    """Kill one run so many times, then let it end.

    Args:
        kind: Of microscope.
        kills: How often.
        seed: Of the run and of the moments.
        folder: New; for the run and what is noted about it.
    """
    folder.mkdir(parents=True)
    begun = time.monotonic()
    if kind == "real":
        with controller(load_config(None, KINDS[kind]), seed, folder / "commands") as ports:
            killer = Killer(kind, seed, folder, [f"real.ports={ports}"])
            _kill_and_end(killer, kills)
        found = reached(killer.run, killer.config, executed(folder / "commands"))
        killer.trial.acts, killer.trial.commands = found.acts, found.commands
        killer.trial.faults += found.faults
    else:
        killer = Killer(kind, seed, folder, [])
        _kill_and_end(killer, kills)
        killer.trial.acts = {
            result or "under way": {"rows": count}
            for result, count in collections.Counter(
                row["result"] for row in snapshot(killer.run).rows["acts"].values()
            ).items()
        }
    killer.trial.rows = {table: len(rows) for table, rows in snapshot(killer.run).rows.items()}
    killer.trial.seconds = time.monotonic() - begun
    return killer.trial


def _kill_and_end(killer: Killer, kills: int) -> None:
    while killer.trial.kills < kills and killer.trial.ended < 2 * kills:
        killer.kill()
    killer.look()
    kept = killer.finish()
    if killer.trial.kind == "quiet":
        _compare_with_undisturbed(killer, kept)


def _compare_with_undisturbed(killer: Killer, kept: Remembered) -> None:
    other = Killer("quiet", killer.trial.seed, killer.run.parent / "undisturbed", [])
    other.run.parent.mkdir()
    other._complete(f"--scans={kept.images}")
    undisturbed: Remembered = pickle.loads(other.kept.read_bytes())
    for fault in (*other.trial.faults, *differences(killer.run, other.run)):
        killer.note(f"undisturbed: {fault}")
    for part in ("replay", "weights"):
        mine, theirs = getattr(kept, part), getattr(undisturbed, part)
        if mine.keys() != theirs.keys() or any(
            not np.array_equal(mine[name], theirs[name]) for name in mine
        ):
            killer.note(f"undisturbed: the {part} differ")
    with suppress(OSError):
        shutil.rmtree(other.run)
