"""A run whose commands are shown instead of sent, through its first conditioning."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from spm_gym.analysis.events import events_after
from spm_gym.assembly.drivers import capabilities
from spm_gym.assembly.microscope import microscope, print_line
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.run import Lab, prepare
from spm_gym.config import Config
from spm_gym.journal.reader import reading
from spm_gym.journal.writer import Journal
from spm_gym.runner.clock import steady_clock
from spm_gym.runner.context import RunnerHooks
from spm_gym.runner.control import Control
from spm_gym.runner.interlocks import Interlocks
from spm_gym.runner.quiet_hours import QuietHours
from spm_gym.runner.requests import Requests
from spm_gym.runner.run_state import RunState
from spm_gym.runner.runner import Runner

_ACTIONS = 3


def rehearse(config: Config) -> None:
    """Play a run to its first conditioning, which ends after three actions; nothing is sent.

    The classifier is not asked, since the images are invented: the tip is said to be bad until the
    last action. The actions are chosen by the agent of the settings.

    Args:
        config: Settings of the run.

    Raises:
        ConfigError: The driver cannot show commands.
        InstrumentError: Something would be refused.
    """
    prepare_process(config.run.threads)
    when_good, survey = config.operation.when_good, not config.operation.conditioning
    if not survey:
        print_line(
            f"# played: one image of a bad tip starts the conditioning (in the run "
            f"{config.operation.condition_after}), {_ACTIONS} actions make it good"
        )
    # A program of the lab would find no controller, and nobody learns from invented images.
    played = {"when_good": "scan", "hand_overs": None, "condition_after": 1, "learn": False,
              "hours": None, "scans": 1 if survey else _ACTIONS + 1, "notify": None}  # fmt: skip
    operation = config.operation.model_copy(update=played)
    config = config.model_copy(update={"operation": operation})
    with TemporaryDirectory() as folder:
        run = Path(folder)
        with (
            Journal(run, RunState.references, durable=False) as journal,
            microscope(config, run, "run", dry_run=True) as instrument,
        ):
            requests = Requests(Control(run), Interlocks(()), QuietHours((), None))
            lab = Lab(instrument, None, _Played(), steady_clock(), requests, threading.Event())
            env, policy = prepare(config, run, journal, lab, resumed=False)
            told = _Headings(run)
            Runner(
                env, operation, journal, policy, RunnerHooks(lab.clock, watch=told.watch),
                seed=config.seed, may_stay=not config.real.withdraw_on_exit,
                can_withdraw=capabilities(config.real).withdraw,
            ).run()  # fmt: skip
            print_line("# the run lets go of the instrument")
    if when_good != "scan":
        print_line(f"# not played: after a good image operation.when_good = {when_good!r} follows")


class _Played:
    """Says that the tip is bad until it has been conditioned often enough."""

    def __init__(self) -> None:
        self._left = _ACTIONS  # images: the first one, and those after all actions but the last

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        verdict = 0.0 if self._left > 0 else 1.0
        self._left -= 1
        return np.full(len(images), verdict, np.float32)


class _Headings:
    """Prints what the commands before belong to, and what comes next."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._last = 0

    def watch(self, run_state: RunState) -> None:
        with reading(self._run) as db:
            for event in events_after(db, self._last):
                self._last = event["id"]
                print_line(f"# {event['kind']}: {event['text']}")
        print_line(f"# {run_state.state}")
