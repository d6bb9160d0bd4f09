"""Faults of the virtual controller that are injected for tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from spm_gym.config.sections import ConfigError, NonNegative, Section
from spm_gym.config.yaml_file import excerpt, plain, read_yaml
from spm_gym.instrument.nanonis.commands import RELEASES, commands

FaultKind = Literal[
    "split", "late", "drop", "error", "ignore", "garbage", "short", "stuck_approach",
    "false_landing", "near_landing", "far_landing", "crash", "lost_contact", "nan_frame",
]  # fmt: skip


class Fault(Section):
    """Rule for a fault.

    Attributes:
        fault: "split": the reply comes in pieces, its header cut in two; "late": after a while;
            "drop": the connection is closed; "error": an error block, nothing is carried out;
            "ignore": nothing is carried out either, but the reply reports no error;
            "garbage": a reply under another name; "short": a reply without its last byte;
            "stuck_approach": from here on automatic approaches never end; "false_landing": the
            next approach ends far from the surface; "near_landing", "far_landing": it ends with the
            z piezo nearly retracted, or nearly extended; "crash", "lost_contact": an accident of
            the tip; "nan_frame": the image holds no data.
        command: Command at which it is injected.
        nth: Number of this command, counted from 1.
        every: Whether it is injected at all of them, from the nth on.
        when: Before the command is carried out, or after; for "drop", "crash", "lost_contact".
        seconds: Delay in real time; for "split" and "late".
        text: Text of the error.
    """

    fault: FaultKind
    command: str
    nth: Annotated[int, Field(ge=1)] = 1
    every: bool = False
    when: Literal["before", "after"] = "before"
    seconds: NonNegative = 0.2
    text: str = "injected fault"

    @model_validator(mode="after")
    def _possible(self) -> Fault:
        if not any(self.command in commands(release) for release in RELEASES):
            raise ValueError(f"there is no command {self.command!r}")
        if self.fault == "nan_frame" and self.command != "Scan.FrameDataGrab":
            raise ValueError("nan_frame belongs to Scan.FrameDataGrab")
        # There are no values to put into the reply of a command that was not carried out.
        known = [commands(release).get(self.command) for release in RELEASES]
        if self.fault == "ignore" and any(each is not None and each.reply for each in known):
            raise ValueError(f"{self.command} returns values, so it cannot be ignored")
        return self


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Read a list of rules from a YAML file.

    Raises:
        ConfigError: One line that names the rule, the key, the value and what is allowed.
    """
    tree = read_yaml(path)
    if not isinstance(tree, list):
        raise ConfigError(f"{path} must hold a list of faults, not {excerpt(tree)}")
    return tuple(_fault(path, number, entry) for number, entry in enumerate(tree, 1))


def _fault(path: Path, number: int, entry: Any) -> Fault:
    try:
        return Fault.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        key = plain("".join(f" {part}" for part in first["loc"]))
        value = f" = {excerpt(first['input'])}" if first["loc"] else ""
        reason = plain(first["msg"].removeprefix("Value error, "), 500)
        allowed = ", ".join(Fault.model_fields)
        hint = f"; allowed here are {allowed}" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{path}: fault {number}{key}{value}: {reason}{hint}") from error


class FaultInjector:
    """Decides which faults are due; the commands of all ports are counted together."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = tuple(faults)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def due(self, command: str) -> dict[FaultKind, Fault]:
        """Count one command, and return the faults to inject at it."""
        with self._lock:
            self._counts[command] += 1
            count = self._counts[command]
        return {
            rule.fault: rule
            for rule in self._faults
            if rule.command == command and (rule.nth == count or (rule.every and rule.nth < count))
        }
