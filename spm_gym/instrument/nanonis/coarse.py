"""Coarse motion of a Nanonis controller: motor steps and the automatic approach."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from spm_gym.config import RealConfig
from spm_gym.instrument.base import (
    Abandoned,
    CommandFailed,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
)
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.types import Direction

_POLL_S = 0.2
_MOTOR_S_PER_STEP = 0.5
_MOTOR = {
    Direction.X_PLUS: 0,
    Direction.X_MINUS: 1,
    Direction.Y_PLUS: 2,
    Direction.Y_MINUS: 3,
}
_MOTOR_Z = {"z+": 4, "z-": 5}


@contextlib.contextmanager
def begun(what: str) -> Iterator[None]:
    """Say that an act is under way or over, if a command fails in the block.

    Raises:
        OutcomeUnknown: A command failed.
    """
    try:
        yield
    except InstrumentError as error:
        raise OutcomeUnknown(f"{what}: {error}") from error


class CoarseMotion:
    """Steps the motor, starts the approach, and knows what may be under way.

    Args:
        controller: Carries out everything.
        config: The settings of the real microscope.
        sleep: Waits so many seconds.
        abandon: Is asked during an approach whether to stop it.
    """

    def __init__(
        self,
        controller: Controller,
        config: RealConfig,
        sleep: Callable[[float], None],
        abandon: Callable[[], bool],
    ) -> None:
        self._controller = controller
        self._config = config
        self._sleep = sleep
        self._abandon = abandon
        self._stepping = False
        self._approaching = False

    def check_direction(self, why: str) -> None:
        """See that the way from the sample is known.

        Args:
            why: What it is needed for.

        Raises:
            LimitExceeded: It is not.
        """
        if self._config.coarse.retract is None:
            raise LimitExceeded(
                f"{why}, and real.coarse.retract does not say whether z+ or z- takes the tip away "
                "from the sample: nothing was moved; set it, or move the microscope by hand and "
                "resume with --fresh-area"
            )

    def step_away(self) -> None:
        """Step away from the sample, after `check_direction`.

        Raises:
            OutcomeUnknown: The reply never came.
            InstrumentError: Any other failure.
        """
        coarse = self._config.coarse
        assert coarse.retract is not None
        self._step(_MOTOR_Z[coarse.retract], coarse.retract_steps)

    def step_sideways(self, direction: Direction) -> None:
        """Step sideways.

        Raises:
            OutcomeUnknown: The reply never came.
            InstrumentError: Any other failure.
        """
        self._step(_MOTOR[direction], self._config.coarse.sideways_steps)

    def approach(self, may_be_abandoned: bool = False) -> None:
        """Let the controller approach automatically, and wait for the end of it.

        Args:
            may_be_abandoned: Whether it may be stopped on request.

        Raises:
            Abandoned: It was stopped because somebody wanted that.
            CommandFailed: It did not end; it was stopped.
            OutcomeUnknown: It was started, and then the connection lost.
        """
        with contextlib.suppress(CommandFailed):  # some releases: the module is open already
            self._controller.call("AutoApproach.Open")
        self._approaching = True
        self._controller.call("AutoApproach.OnOffSet", act=True, on=1)
        self._await_approach(self._abandon if may_be_abandoned else lambda: False)
        self._approaching = False

    def stop(self, controller: Controller) -> None:
        """Stop motor and approach over this connection, if they may be under way."""
        if self._stepping:
            controller.call("Motor.StopMove")
            self._stepping = False
        if self._approaching:
            controller.call("AutoApproach.OnOffSet", on=0)
            self._approaching = False

    def stop_what_others_began(self) -> None:
        """Stop whatever a program that was killed has left moving."""
        self._stepping = self._approaching = True
        with contextlib.suppress(CommandFailed):  # what is refused is tried again on the way out
            self.stop(self._controller)

    def _step(self, motor: int, steps: int) -> None:
        self._stepping = True
        self._controller.call(
            "Motor.StartMove", takes=steps * _MOTOR_S_PER_STEP, act=True, direction=motor,
            steps=steps, group=self._config.coarse.group - 1, wait=1,
        )  # fmt: skip
        self._stepping = False

    def _await_approach(self, abandon: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._config.approach_timeout_s
        while self._still_approaching():
            late = time.monotonic() > deadline
            if late or abandon():
                with begun("the automatic approach was started and could not be stopped"):
                    self.stop(self._controller)
                if not late:
                    raise Abandoned(
                        "the automatic approach was stopped: the run is asked for something else"
                    )
                raise CommandFailed(
                    "the automatic approach did not end within "
                    f"{self._config.approach_timeout_s:g} s (real.approach_timeout_s); it was "
                    "stopped"
                )
            self._sleep(_POLL_S)

    def _still_approaching(self) -> bool:
        with begun("the automatic approach was started"):
            return bool(self._controller.call("AutoApproach.OnOffGet")["on"])
