"""Hand a good tip to a program, and take it back when that ends (``operation.when_good``)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from spm_gym.envs.observation import ProcessedScan
from spm_gym.errors import UnsafeToContinue
from spm_gym.journal.reader import scan_file
from spm_gym.journal.run_lock import RunLocked, lock_of_program
from spm_gym.paths import as_typed
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.control import INTERRUPTING
from spm_gym.runner.run_state import required
from spm_gym.runner.signals import ignoring_signals
from spm_gym.scale import duration_text

PROGRAMS = "programs"
"""Folder of a run with what its programs have printed."""

_ASK_EVERY_S = 0.2
_GRACE_S = 10.0
"""Time of a program that is asked to end, for putting down what it is about."""


class HandOver:
    """Runs the program of the settings as one act of the microscope, which is never repeated."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._state = context.run_state.hand_overs
        self._run = context.journal.run.absolute()

    def carry_out(self, scan: int, processed: ProcessedScan) -> None:
        """Hand the tip over, and take it back.

        Args:
            scan: Number of the good image.
            processed: The image; its clean place is where a program may work.

        Raises:
            UnsafeToContinue: The program failed or had to be terminated: nobody knows how it has
                left tip and sample.
            InstrumentError: The tip is not at the surface any more, or any other failure.
        """
        words = required(self._context.config.program, "a program")
        x, y = processed.place
        deadline = time.time() + self._context.config.program_s
        environment = {
            **os.environ,
            "SPM_GYM_RUN_DIR": str(self._run),
            "SPM_GYM_IMAGE": str(self._run / scan_file(scan)),
            "SPM_GYM_X_M": repr(x),
            "SPM_GYM_Y_M": repr(y),
            "SPM_GYM_CLEAN_M": repr(processed.clean_side),
            "SPM_GYM_DEADLINE": f"{deadline:.3f}",
        }
        # It is for those who ask the run for something, not for its programs.
        environment.pop("SPM_GYM_TOKEN", None)
        # One file for every image, so that a night's programs do not mix their words.
        output = self._run / PROGRAMS / f"{scan:06d}.log"
        output.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        instrument = self._context.env.instrument
        try:
            instrument.lend(lambda: self._run_program(words, environment, output))
        except RunLocked as error:
            raise UnsafeToContinue(f"operation.when_good: {error}") from error
        self._state.programs += 1
        took = duration_text(time.monotonic() - began)
        self._context.add_event("hand over", f"{words[0]} has had the tip for {took}")

    def _run_program(self, words: list[str], environment: dict[str, str], output: Path) -> None:
        log = as_typed(output)
        with output.open("ab") as printed, lock_of_program(self._run) as lock:
            try:
                program = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    # Ctrl-C is for the run, which then ends its program.
                    start_new_session=True,
                    pass_fds=() if sys.platform == "win32" else (lock.fileno(),),
                )
            except OSError as error:
                raise UnsafeToContinue(
                    f"operation.when_good = {self._context.config.when_good!r} cannot be started: "
                    f"{error}"
                ) from error
            try:
                lock.write(f"{program.pid}\n".encode("ascii"))
                late = self._wait(program)
            finally:
                with ignoring_signals("the program that has the tip is being ended: please wait"):
                    _end(program)
        if late:
            raise UnsafeToContinue(
                f"{words[0]} had the tip for longer than operation.program_s = "
                f"{self._context.config.program_s:g} and was terminated; its output is in {log}"
            )
        if program.returncode and not self._is_asked_for_something():
            raise UnsafeToContinue(
                f"{words[0]}, which had the tip, ended with status {program.returncode}; its "
                f"output is in {log}"
            )

    def _wait(self, program: subprocess.Popen[bytes]) -> bool:
        """Wait for a program to end, or until it has to; returns whether it was too slow."""
        # The clock of the computer, which a program and its deadline know.
        deadline = time.monotonic() + self._context.config.program_s
        while not self._is_asked_for_something():
            with suppress(subprocess.TimeoutExpired):
                program.wait(_ASK_EVERY_S)
                return False
            if time.monotonic() > deadline:
                return True
        return False

    def _is_asked_for_something(self) -> bool:
        return self._context.hooks.requests() in INTERRUPTING


def _end(program: subprocess.Popen[bytes]) -> None:
    """Ask a program and all that it has started to end; kill what does not."""
    # It may hold the tip over the surface with the feedback off: first it is asked, then killed.
    if program.poll() is None:
        _signal(program, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE_S)
    # What it has left behind could still be moving the tip.
    _signal(program, getattr(signal, "SIGKILL", signal.SIGTERM))
    program.wait()


def _signal(program: subprocess.Popen[bytes], number: int) -> None:
    if sys.platform == "win32":
        program.send_signal(number)
    else:
        # It leads a group of its own, of the same number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, number)
