"""Objects that the parts of a runner share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spm_gym.config import OperationConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.z_window import Window
from spm_gym.journal.writer import Journal
from spm_gym.runner.control import Request
from spm_gym.runner.notify import NotificationKind
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import ASKED_TO_PAUSE


@dataclass(frozen=True, slots=True)
class RunnerHooks:
    """How a runner is tied to the world around it.

    Attributes:
        clock: The instrument's clock, s; must answer when the connection is lost, too, and go on
            evenly: the hours of the run are counted on it.
        notify: Takes the kind of a notification and its text.
        requests: Gives what the run is asked for from outside.
        why_paused: Gives the reason of a request to pause.
        failure: Gives the reason of a request to stop that is a failure; "" if a person asks.
        pace: Takes how many seconds every transition took on the instrument's clock.
        watch: Takes the state of the run after every transition.
        sleep: Lets time pass while the run is paused.
    """

    clock: Callable[[], float]
    notify: Callable[[NotificationKind, str], None] = lambda kind, text: None
    requests: Callable[[], Request | None] = lambda: None
    why_paused: Callable[[], str] = lambda: ASKED_TO_PAUSE
    failure: Callable[[], str] = lambda: ""
    pace: Callable[[float], None] = lambda seconds: None
    watch: Callable[[RunState], None] = lambda run_state: None
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """Objects that all parts of a runner use; of the state, each writes its own group only.

    Attributes:
        env: The environment over the microscope; conditioning is an episode of it.
        config: How to operate.
        journal: Records everything.
        policy: Chooses the actions.
        hooks: To the world around.
        rng: Breaks ties between regions.
        run_state: Where the run stands.
        z_window: Least and most extension of the z piezo at the surface, as ``real.z_window``; None
            for a microscope on which nobody keeps it.
    """

    env: ProbeConditioningEnv
    config: OperationConfig
    journal: Journal
    policy: RunPolicy
    hooks: RunnerHooks
    rng: np.random.Generator
    run_state: RunState
    z_window: Window | None = None

    def add_event(self, kind: str, text: str) -> None:
        """Note something for people to read."""
        self.journal.add_event(self.run_state.clock.now, kind, text)
