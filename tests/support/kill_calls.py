"""Kills an autonomous run at chosen system calls, and lets it go on."""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL
from typing import TypeVar

from spm_gym.assembly.microscope import SETTINGS_BEFORE
from spm_gym.assembly.run_directory import SETTINGS
from spm_gym.cli.restore import restore
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.wire import encode_reply
from tests.support.fault_matrix import READ
from tests.support.kill_checks import Remembered
from tests.support.killing import TIME_SCALES, Killer, Kind, microscope
from tests.support.system_calls import CREATES, Call, Tracer

T = TypeVar("T")

_IMAGES = 4
"""Of a session, if it is not killed before: its start and its end are to be met often as well."""

_RESTORE_EVERY = 4
_BREAK_EVERY = 4
_OF_THE_DISK = ("pwrite64", "fsync", "fdatasync")
_ERRORS = ("EIO", "ENOSPC")


class CallKiller(Killer):
    """Kills one run at system calls, those first that it was seldom killed at.

    Args:
        kind: Of microscope.
        seed: Of the run and of the calls.
        folder: For the run and what is noted about it.
        overrides: Further settings.
    """

    def __init__(self, kind: Kind, seed: int, folder: Path, overrides: Sequence[str]) -> None:
        super().__init__(kind, seed, folder, overrides)
        self._trace = folder / "trace.txt"
        self._met_calls = collections.Counter[str]()
        self._met_targets = collections.Counter[tuple[str, str]]()
        self._first, self._later = _profiles(kind, seed, folder / "counted")
        self._operator = self._on_controller()
        self._attempts = 0

    def kill(self) -> None:
        """Start the run, have it killed at a call, inspect; sometimes its disk breaks instead."""
        profile = self._later if self._has_started() else self._first
        if self._attempts % _BREAK_EVERY == _BREAK_EVERY - 1:
            self._break_disk(profile)
        else:
            self._kill_at(self._choose_call(profile))
        self._attempts += 1

    def _kill_at(self, at: Call) -> None:
        status, calls = self._session(Tracer(self._trace, at))
        last = at
        if status == -SIGKILL:
            # Those of one name are counted: another session may do something else at that number.
            last = calls[-1]
            self.trial.kills += 1
            self._met_calls[last.kind] += 1
            self._met_targets[last.kind, last.target] += 1
            self.trial.calls[last.kind] = self._met_calls[last.kind]
        else:
            self._note_end(status)
        self._see(f"kill {self.trial.kills}, {last.kind} {last.number} of {last.target}")

    def _break_disk(self, profile: Sequence[Call]) -> None:
        """From a call on none of its name is carried out; the run has to end by itself."""
        calls = [call for call in profile if call.kind in _OF_THE_DISK]
        at = calls[int(self._rng.integers(len(calls)))]
        error = _ERRORS[int(self._rng.integers(len(_ERRORS)))]
        status, _ = self._session(Tracer(self._trace, at, error))
        if status < 0:
            self.note(f"{error} from {at.kind} {at.number} on: ended by signal {-status}")
        self.trial.broken += 1
        self._see(f"{error} from {at.kind} {at.number} of {at.target} on")

    def _session(self, tracer: Tracer) -> tuple[int, list[Call]]:
        """Run a session; returns its exit status and its calls."""
        child = self.start(f"--scans={self._images() + _IMAGES}", attach=tracer.attach)
        status = child.wait()
        return status, tracer.calls(child.pid)

    def _see(self, when: str) -> None:
        self.inspect(when)
        self._inspect_controller(when)

    def finish(self) -> Remembered | None:
        """Let the run come to its end; the controller is then as the operator had left it."""
        kept = super().finish()
        self._see_restored("after the end")
        return kept

    def _has_started(self) -> bool:
        return (self.run / SETTINGS).is_file()

    def _images(self) -> int:
        return sum(row["fraction"] == 1 for row in self._before.rows["scans"].values())

    def _choose_call(self, profile: Sequence[Call]) -> Call:
        """One of a kind, and then of a target, that was seldom met so far."""
        kind = self._seldom(sorted({call.kind for call in profile}), self._met_calls)
        of_kind = [call for call in profile if call.kind == kind]
        targets = sorted({(call.kind, call.target) for call in of_kind})
        target = self._seldom(targets, self._met_targets)
        chosen = [call for call in of_kind if (call.kind, call.target) == target]
        return chosen[int(self._rng.integers(len(chosen)))]

    def _seldom(self, all_of_them: Sequence[T], met: collections.Counter[T]) -> T:
        least = min(met[each] for each in all_of_them)
        seldom = [each for each in all_of_them if met[each] == least]
        return seldom[int(self._rng.integers(len(seldom)))]

    def _inspect_controller(self, when: str) -> None:
        """The operator's settings are in force, or kept in a whole file that restores them."""
        if self.trial.kind not in TIME_SCALES:
            return
        kept = self.run / SETTINGS_BEFORE
        if not kept.is_file():
            self._see_restored(f"{when}, nothing kept")
            return
        try:
            json.loads(kept.read_text(encoding="utf-8"))
        except ValueError as error:
            self.note(f"{when}: {kept.name} is not whole: {error}")
            return
        if self.trial.kills % _RESTORE_EVERY == 0:
            output = self.run.parent / "restored.txt"
            with output.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
                restore(argparse.Namespace(run=self.run))
            self._see_restored(f"{when}, after spm-gym restore")

    def _see_restored(self, when: str) -> None:
        for name, value in self._on_controller().items():
            if value != self._operator[name]:
                self.note(f"{when}: {name} is not restored")

    def _on_controller(self) -> dict[str, bytes]:
        """The operator's settings as they go over the wire; nothing without a controller."""
        if self.trial.kind not in TIME_SCALES:
            return {}
        real = self.config.real
        connection = Connection(real.nanonis.host, real.nanonis.ports[0])
        connection.connect()
        known = commands(connection.release)
        try:
            return {name: encode_reply(known[name], connection.call(name)) for name in READ}
        finally:
            connection.close()


def _profiles(kind: Kind, seed: int, folder: Path) -> tuple[list[Call], list[Call]]:
    """Calls of the first session of a run, and of one that goes on with it; nobody is killed."""
    folder.mkdir()
    with microscope(kind, seed, folder) as overrides:
        counted = Killer(kind, seed, folder, overrides)
        first, later = (_profile(counted, folder, sessions * _IMAGES) for sessions in (1, 2))
    return first, later


def _profile(counted: Killer, folder: Path, images: int) -> list[Call]:
    tracer = Tracer(folder / "trace.txt")
    child = counted.start(f"--scans={images}", attach=tracer.attach)
    status = child.wait()
    assert status == 0, f"the run that is only counted ended with status {status}"
    counted.inspect("counted")
    # Through pipes it only says how far it is, and what it opens to read has no second kind.
    calls = tracer.calls(child.pid)
    useful = [call for call in calls if call.target != "pipe" and call.kind != "openat"]
    missing = {"write", "pwrite64", CREATES} - {call.kind for call in useful}
    assert not missing, f"strace shows no {missing}"
    return useful
