"""The record of a session, whichever command drives the microscope."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from spm_gym.assembly.drivers import capabilities
from spm_gym.assembly.microscope import approach_withdrawn, microscope
from spm_gym.assembly.preflight import Purpose
from spm_gym.assembly.recorder import EpisodeRecorder
from spm_gym.assembly.run_directory import versions
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config
from spm_gym.errors import Aborted
from spm_gym.instrument.contract import Instrument
from spm_gym.journal.writer import Journal, SessionRecord
from spm_gym.runner.control import Control, Request
from spm_gym.runner.run_state import RunState


class AskedToStop(KeyboardInterrupt):
    """Somebody asks a training or an evaluation to stop: the same as Ctrl-C, from outside."""


class RecordedMicroscope(NamedTuple):
    """A microscope, and what keeps the record; None of one that is simulated, or only rehearsed."""

    instrument: Instrument
    recorder: EpisodeRecorder | None


@contextmanager
def recorded_microscope(
    config: Config,
    run: Path,
    purpose: Purpose,
    dry_run: bool = False,
    weights: Path | None = None,
    resumed: bool = False,
) -> Iterator[RecordedMicroscope]:
    """Give the configured microscope; what is done on a real one goes into the journal of the run.

    Its acts do by themselves, all else as soon as the recorder follows an environment.

    Args:
        config: Settings of the run.
        run: Its directory.
        purpose: What the microscope is for.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
        weights: File that the agent begins with; None if there is none.
        resumed: Whether the run goes on.

    Raises:
        AskedToStop: Somebody asks for the end; the tip was withdrawn.
    """
    if config.run.microscope == "sim" or dry_run:
        with microscope(config, run, purpose, dry_run) as instrument:
            if dry_run:
                approach_withdrawn(config, instrument)
            yield RecordedMicroscope(instrument, None)
        return
    # Before the microscope: a request is obeyed from its first command on.
    control = Control(run)

    def stop() -> bool:
        return control.asked() is Request.STOP

    complete = f"the {'training' if purpose == 'train' else 'evaluation'} is complete"
    may_stay, can_withdraw = not config.real.withdraw_on_exit, capabilities(config.real).withdraw
    try:
        # Around the microscope, so that the withdrawal at the end is recorded, too.
        with (
            Journal(run, RunState.references) as journal,
            microscope(config, run, purpose, journal=journal, abort=stop) as instrument,
        ):
            journal.begin_session(session_record(config, weights, resumed, purpose), os.getpid())
            recorder = EpisodeRecorder(config, journal, stop)
            with recorder.ending(instrument, complete, may_stay, can_withdraw):
                approach_withdrawn(config, instrument)
                yield RecordedMicroscope(instrument, recorder)
    except Aborted as error:
        raise AskedToStop from error


def session_record(
    config: Config, weights: Path | None, resumed: bool, command: Purpose = "run"
) -> SessionRecord:
    """Collect the hashes and versions that decide what a session does."""
    if not config.operation.conditioning:
        classifier = ""
    elif config.env.ground_truth:
        classifier = "truth"
    else:
        classifier = _sha256(config.env.classifier or shipped_classifier())
    agent = "" if weights is None else _sha256(weights)
    return SessionRecord(config.to_yaml(), classifier, agent, versions(), resumed, command)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
