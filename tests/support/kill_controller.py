"""A virtual Nanonis that lives on when a run is killed, and counts the acts that reached it."""

from __future__ import annotations

import bisect
import collections
import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spm_gym.assembly.simulator import compile_simulator, virtual_controller
from spm_gym.config import Config
from spm_gym.journal.reader import reading
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Direction
from tests.support.kill_checks import CONDITIONING, Row, numbers, rows_of

Expected = tuple[str, tuple[float, ...]]

_MOTOR = {Direction.X_PLUS: 0, Direction.X_MINUS: 1, Direction.Y_PLUS: 2, Direction.Y_MINUS: 3}
_AWAY = {"z+": 4, "z-": 5}


@dataclass(frozen=True, slots=True)
class Command:
    """A physical command that a controller has carried out.

    Attributes:
        wall: When, s since 1970.
        kind: "move", "pulse", "dip", "approach" or "motor".
        values: Its numbers: x, y; bias, width; depth, bias, width; none; direction, steps.
    """

    wall: float
    kind: str
    values: tuple[float, ...]


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
    """Read what a controller has done."""
    lines = ledger.read_text(encoding="utf-8").splitlines()
    return [Command(wall, kind, tuple(values)) for wall, kind, values in map(json.loads, lines)]


@contextmanager
def controller(config: Config, seed: int, time_scale: float, ledger: Path) -> Iterator[list[int]]:
    """A virtual Nanonis in a process of its own that counts what it does; yields its ports."""
    compile_simulator(config)  # or the first runs would wait for the compiler in vain
    parent = os.getpid()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        with VirtualNanonis(counting(config, seed, time_scale, ledger), ports=(0, 0)) as server:
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


def counting(config: Config, seed: int, time_scale: float, ledger: Path) -> VirtualController:
    """A virtual controller that writes its physical commands into a file."""
    controller = virtual_controller(config, seed, time_scale=time_scale)
    controller.executed = Ledger(ledger)
    return controller


@dataclass(frozen=True, slots=True)
class Reached:
    """How acts of the journal and commands of the controller belong together.

    Attributes:
        acts: Rows, by result, and how many of their commands were carried out:
            "all", "some" or "none".
        commands: Carried out.
        faults: What does not fit.
    """

    acts: dict[str, dict[str, int]]
    commands: int
    faults: tuple[str, ...]


def reached(run: Path, config: Config, commands: Sequence[Command]) -> Reached:
    """Assign every command to the act in whose time it came, and compare.

    An act that is done must have carried out its commands once and in order, one that is unknown
    or failed the first of them at most, one that is refused none.
    """
    with reading(run) as db:
        acts = [row for row in rows_of(db, "acts").values() if row["number"] is not None]
    mine: list[list[Command]] = [[] for _ in acts]
    faults, counts = [], dict[str, dict[str, int]]()
    started = [act["wall"] for act in acts]
    for command in commands:
        index = bisect.bisect_right(started, command.wall) - 1
        if index < 0:
            faults.append(f"{command}: before any act")
        else:
            mine[index].append(command)
    for act, each in zip(acts, mine, strict=True):
        expected, sent = _commands(act, config), _strides(each)
        result = act["result"] or "under way"
        share = "all" if len(sent) == len(expected) else "some" if sent else "none"
        of = counts.setdefault(result, {"all": 0, "some": 0, "none": 0})
        of[share] += bool(expected)
        if not _fits(result, expected, sent, act["wall_result"]):
            faults.append(f"act {act['number']} ({act['act']}, {result}): {expected} and {sent}")
    return Reached(counts, len(commands), tuple(faults))


def _strides(sent: Sequence[Command]) -> list[Command]:
    """Steps of the motor in one direction as one command, without those that verify the way."""
    strides: list[Command] = []
    for command in sent:
        if command.kind == "motor" and strides and strides[-1].kind == "motor":
            direction, steps = strides[-1].values
            if command.values[0] == direction:
                together = (direction, steps + command.values[1])
                strides[-1] = Command(command.wall, "motor", together)
                continue
        strides.append(command)
    verifying = bool(strides) and strides[0].kind == "motor" and strides[0].values[1] <= 3
    return strides[1:] if verifying else strides


def _fits(
    result: str,
    expected: Sequence[Expected],
    sent: Sequence[Command],
    until: float | None,
) -> bool:
    pairs = list(zip(sent, expected, strict=False))
    if result != "done" and pairs and _is_part(*pairs[-1]):
        del pairs[-1]  # the motor goes a few steps at a time, and may be cut off between them
    same = len(sent) <= len(expected) and all(
        command.kind == kind and _close(command.values, values) for command, (kind, values) in pairs
    )
    if result == "done":
        assert until is not None
        return same and len(sent) == len(expected) and all(each.wall <= until for each in sent)
    return same and not (sent and result == "refused")


def _is_part(command: Command, expected: Expected) -> bool:
    """Whether these are the first steps of the motor, in the right direction, but not all."""
    kind, values = expected
    if not command.kind == kind == "motor":
        return False
    return command.values[0] == values[0] and 0 < command.values[1] < values[1]


def _close(left: Sequence[float], right: Sequence[float]) -> bool:
    return len(left) == len(right) and all(
        math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-15) for a, b in zip(left, right, strict=True)
    )


def _commands(act: Row, config: Config) -> list[Expected]:
    """The physical commands of an act, withdrawing left out: it may be repeated at will."""
    details, coarse = json.loads(act["details"]), config.real.nanonis.coarse
    assert coarse.retract is not None
    away: Expected = ("motor", (_AWAY[coarse.retract], coarse.retract_steps))
    if act["act"] in CONDITIONING:
        move: Expected = ("move", (details["x"], details["y"]))
        return [move] if act["act"] == "stall" else [move, (act["act"], numbers(act)[1])]
    if act["act"] == "move area":
        sideways = ("motor", (_MOTOR[Direction(details["direction"])], coarse.sideways_steps))
        return [("move", (0.0, 0.0)), away, sideways, ("approach", ())]
    others: dict[str, list[Expected]] = {"approach": [("approach", ())], "retract": [away]}
    return others.get(act["act"], [])
