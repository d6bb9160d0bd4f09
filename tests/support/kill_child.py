"""A run in a forked process that reports every moment of it, so that it can be killed there.

A process that forks one must have no threads; everything is imported before, so that a start costs
no import.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch._dynamo  # noqa: F401 (an optimiser imports it)

import agents.classifier  # noqa: F401 (building a classifier imports it)
from agents.run_policies import DoubleDQNPolicy, InterleavedPolicy
from spm_gym.assembly import run as operate
from spm_gym.cli import run, run_command
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.guard import Guard
from spm_gym.runner.runner import Outcome, Runner
from spm_gym.runner.states import State
from tests.support.kill_checks import Remembered
from tests.support.waiting import PATIENCE_S

ACTING = (State.APPROACH, State.CLEAN, State.CONDITION, State.RECOVER, State.CHANGE_AREA,
          State.PAUSE, State.STOP)  # fmt: skip
"""States in which acts are carried out."""

SHUTDOWN = "act on the shutdown"
MOMENTS = (*map(str, State), *(f"act in {state}" for state in ACTING), SHUTDOWN)
"""Moments that a run reports: a state, and an act from its intent to the end of the state."""

LONGEST_S = PATIENCE_S
_ENTRY = struct.Struct("=Bd")
_SET_PTRACER = 0x59616D61


class Watched(Runner):
    """A runner that reports which moment it enters, and what it holds in memory at the end.

    Attributes:
        report_fd: Descriptor of a pipe that takes moments and times.
        kept: File for the memory.
        memory_only: Whether to keep the memory at the start and do nothing.
        gates: States that wait to be let in.
        opened: Descriptor of a pipe from which comes a byte for every such state.
    """

    report_fd: ClassVar[int]
    kept: ClassVar[Path]
    memory_only: ClassVar[bool] = False
    gates: ClassVar[Collection[State]] = ()
    opened: ClassVar[int]

    def step(self) -> State:
        self._report(self.state)
        if self.state in self.gates:
            os.read(self.opened, 1)
        following = super().step()
        if following is State.STOP:
            self._report(following)
        return following

    def report_act(self, entry: dict[str, Any]) -> None:
        """To be called when an act is recorded."""
        if entry["result"] == "intended":
            moment = f"act in {self.state}"
            self._report(moment if moment in MOMENTS else SHUTDOWN)

    def run(self) -> Outcome:
        if self.memory_only:
            self._keep()
            os._exit(0)
        outcome = super().run()
        self._keep()
        return outcome

    def _report(self, moment: str) -> None:
        os.write(self.report_fd, _ENTRY.pack(MOMENTS.index(moment), time.monotonic()))

    def _keep(self) -> None:
        m, regions = self.run_state, self.env.navigator.regions
        marks = [(mark.x, mark.y, mark.radius, mark.reason) for mark in regions.marks]
        replay, weights = _learned(self.policy)
        kept = Remembered(
            m.place.area, marks, regions.free, m.counters, m.imaging.images, replay, weights
        )
        self.kept.write_bytes(pickle.dumps(kept))


def _learned(policy: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if isinstance(policy, InterleavedPolicy):
        policy = policy.agent
    if not isinstance(policy, DoubleDQNPolicy):
        return {}, {}
    replay = policy.model.replay_buffer.arrays()
    networks = {"q": policy.model.q_net, "target": policy.model.q_net_target}
    weights = {
        f"{network}.{name}": values.numpy().copy()
        for network, module in networks.items()
        for name, values in module.state_dict().items()
    }
    return {name: values.copy() for name, values in replay.items()}, weights


def _watched(env: ProbeConditioningEnv, *arguments: Any, **options: Any) -> Watched:
    runner = Watched(env, *arguments, **options)
    guard = env.instrument
    assert isinstance(guard, Guard)
    record = guard._record

    def record_and_report(entry: dict[str, Any]) -> None:
        record(entry)
        runner.report_act(entry)

    guard._record = record_and_report
    return runner


class Child:
    """A run in a forked process.

    Attributes:
        last: The moment that it has entered last; "start" before the first.
        entered: Moments that it has entered, and when (monotonic clock, s).

    Args:
        arguments: Of ``spm-gym run``.
        kept: File for the memory.
        output: File for its output.
        memory_only: Whether to keep the memory at the start and do nothing.
        gates: States that wait to be let in.
        attach: Is called with its number before it does anything.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        kept: Path,
        output: Path,
        memory_only: bool = False,
        gates: Collection[State] = (),
        attach: Callable[[int], None] | None = None,
    ) -> None:
        self.last = "start"
        self.entered: list[tuple[str, float]] = []
        self.started = time.monotonic()
        self._pipe, report_fd = os.pipe()
        opened, self._open = os.pipe()
        self._gates = gates
        self.pid = os.fork()
        if not self.pid:
            os.close(self._pipe)
            os.close(self._open)
            Watched.report_fd, Watched.kept, Watched.memory_only = report_fd, kept, memory_only
            Watched.gates, Watched.opened = gates, opened
            if attach is not None:
                # Where Yama guards processes, only a parent may trace one that does not ask for it.
                ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(-1 % 2**64), 0, 0, 0)
                os.read(opened, 1)
            _operate(arguments, output)
        os.close(report_fd)
        os.close(opened)
        if attach is not None:
            try:
                attach(self.pid)
            except BaseException:
                self.kill()
                raise
            os.write(self._open, b".")

    def next_moment(self, until: float) -> str | None:
        """The next moment that it enters, gates opened; None if it ends or the time is over."""
        left = until - time.monotonic()
        if left < 0 or not select.select([self._pipe], [], [], left)[0]:
            return None
        read = os.read(self._pipe, _ENTRY.size)
        if not read:
            return None
        number, when = _ENTRY.unpack(read)
        self.last = MOMENTS[number]
        self.entered.append((self.last, when))
        if self.last in self._gates:
            os.write(self._open, b".")
        return self.last

    def kill(self) -> int:
        """Kill it, unless it has ended; returns its exit status."""
        os.kill(self.pid, signal.SIGKILL)
        self._gates = ()
        return self.wait()

    def interrupt(self) -> None:
        """Ask it to end, as a terminal that is closed does."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has ended; returns its exit status, negative for a signal."""
        while self.next_moment(time.monotonic() + LONGEST_S) is not None:
            pass
        for descriptor in (self._pipe, self._open):
            os.close(descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _operate(arguments: Sequence[str], output: Path) -> NoReturn:
    status = 70
    try:
        with output.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        operate.Runner = _watched  # type: ignore[assignment, attr-defined]
        parser = argparse.ArgumentParser()
        run.add_arguments(parser)
        status = run_command(parser, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)
