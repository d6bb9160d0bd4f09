"""Coarse motion of a Nanonis controller: motor steps and the automatic approach.

A z motor whose direction was typed wrong drives the tip into the sample, and so do sideways steps
over rough ground. So the direction is found out with single steps before it is relied upon, and no
more than a few steps are made before the current is read again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from spm_gym.config.real import NanonisConfig
from spm_gym.errors import (
    Aborted,
    CommandFailed,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    UnsafeToContinue,
)
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    is_on,
    out_of_reach,
    read_current,
    read_setpoint,
    read_z,
    retracted,
    touches,
)
from spm_gym.instrument.z_window import Window, described, extension, has_room
from spm_gym.scale import NM
from spm_gym.types import Direction

_POLL_S = 0.2
_MOTOR_S_PER_STEP = 0.5
_STEPS_AT_A_TIME = 5
_CURRENT_FADES_S = 0.2
"""By then the spike is over that a step of the motor couples into the preamplifier."""
_MOVED = 5 * NM
"""Less is drift. A coarse step is tens to hundreds of nanometres."""
_MOST_TRIAL_STEPS = 3
_TUNNELS = 0.3
"""Share of the setpoint that no tip in the air draws."""
_MOTOR = {
    Direction.X_PLUS: 0,
    Direction.X_MINUS: 1,
    Direction.Y_PLUS: 2,
    Direction.Y_MINUS: 3,
}
_MOTOR_Z = {"z+": 4, "z-": 5}
_NAMES = ("x+", "x-", "y+", "y-", "z+", "z-")


@contextlib.contextmanager
def outcome_unknown_on_error(what: str) -> Iterator[None]:
    """Say that an act is under way or over, if a command fails in the block.

    Raises:
        OutcomeUnknown: A command failed.
        UnsafeToContinue: As it was raised in the block.
    """
    try:
        yield
    except UnsafeToContinue:
        raise
    except InstrumentError as error:
        raise OutcomeUnknown(f"{what}: {error}") from error


def _open_approach(controller: Controller) -> None:
    with contextlib.suppress(CommandFailed):  # some releases: the module is open already
        controller.call("AutoApproach.Open")


class CoarseMotion:
    """Steps the motor, starts the approach, and knows what may be under way.

    Attributes:
        verified: Whether the direction away from the sample was found to be right.

    Args:
        controller: Carries out everything.
        config: The settings of the controller.
        sleep: Waits so many seconds.
        abort: Is asked during an approach whether to stop it.
    """

    def __init__(
        self,
        controller: Controller,
        config: NanonisConfig,
        sleep: Callable[[float], None],
        abort: Callable[[], bool],
    ) -> None:
        self._controller = controller
        self._config = config
        self._sleep = sleep
        self._abort = abort
        self._stepping = False
        self._approaching = False
        self.verified = False

    def check_direction(self, why: str) -> None:
        """See that the way from the sample is known.

        Args:
            why: What it is needed for.

        Raises:
            LimitExceeded: It is not.
        """
        if not self.known:
            raise LimitExceeded(
                f"{why}, and real.nanonis.coarse.retract does not say whether z+ or z- takes "
                "the tip away from the sample: nothing was moved; set it, or move the microscope "
                "by hand and resume with --fresh-area"
            )

    @property
    def known(self) -> bool:
        """Whether the settings say which way leads from the sample."""
        return self._config.coarse.retract is not None

    @property
    def unverified(self) -> str:
        """Why no step is made in ``coarse.retract``, in words."""
        state = "has not been verified yet" if self.known else "is not set"
        return f"real.nanonis.coarse.retract {state}"

    def check_verified(self) -> None:
        """See that the way from the sample was found to be right.

        Raises:
            LimitExceeded: It was not, for that takes a tip at the surface.
        """
        if not self.verified:
            raise LimitExceeded(
                "the direction real.nanonis.coarse.retract has not been verified yet, which takes "
                "a tip at the surface: nothing was stepped"
            )

    def verify_direction(
        self,
        withdraw: Callable[[], object],
        z_range: tuple[float, float],
        window: Window | None,
    ) -> None:
        """Find out with single steps, once, that ``coarse.retract`` leads away from the sample.

        The tip is withdrawn for every step, so that one the wrong way still fits below it. Then
        the feedback looks for the surface: it must be further down, or out of reach.

        Args:
            withdraw: Withdraws the tip.
            z_range: Lowest and highest height that the z piezo reaches, m.
            window: Extension at which the surface is to be, as ``real.z_window``.

        Raises:
            UnsafeToContinue: It leads to the sample, or nowhere; the tip is withdrawn. Or the
                surface is so near that no wrong step would fit below the tip; nothing was stepped.
            ContactLost: The tip is not at the surface; it may be tried again in contact.
            InstrumentError: Any other failure.
        """
        if self.verified:
            return
        retract = self._config.coarse.retract
        # Few coarse motors have an encoder: the surface is what a step is measured by.
        before = read_z(self._controller)
        # At either end of its range the height says nothing of the surface: with a crashed tip,
        # at the upper end, every surface would look further down afterwards.
        at_an_end = out_of_reach(before, z_range) or retracted(before, z_range)
        if not holds_tip(self._controller) or at_an_end or not self._tunnels():
            raise ContactLost(
                "the direction of the coarse motor can be verified only with the tip at the "
                "surface: approach first"
            )
        extended = extension(before, z_range)
        if window is not None and not has_room(extended, window):
            raise UnsafeToContinue(
                "the direction of the coarse motor cannot be verified here: "
                f"{described(extended, window)}, so that a step in the wrong direction would not "
                "fit below the tip; step away by hand, approach, and resume"
            )
        for steps in range(1, _MOST_TRIAL_STEPS + 1):
            withdraw()
            self.step_away(1)
            after = self._extend(z_range)
            withdraw()
            if after > before + _MOVED:
                raise UnsafeToContinue(
                    f"real.nanonis.coarse.retract = {retract} brings the tip NEARER to the "
                    f"sample: the surface is {(after - before) / NM:.0f} nm higher after {steps} "
                    "trial steps; the tip is withdrawn; set the other direction"
                )
            if after < before - _MOVED:
                self.verified = True
                return
        raise UnsafeToContinue(
            f"real.nanonis.coarse.retract = {retract} cannot be verified: after "
            f"{_MOST_TRIAL_STEPS} single steps the surface is where it was; does the coarse motor "
            "move (amplitude, frequency, real.nanonis.coarse.group)? The tip is withdrawn"
        )

    def step_away(self, steps: int) -> None:
        """Step away from the sample, after `check_direction`; the current is watched.

        Raises:
            UnsafeToContinue: The tip touches something; the motor was stopped.
            OutcomeUnknown: The reply never came.
            InstrumentError: Any other failure.
        """
        assert self._config.coarse.retract is not None
        self._step(_MOTOR_Z[self._config.coarse.retract], steps)

    def step_sideways(self, direction: Direction) -> None:
        """Step sideways; as `step_away`."""
        self._step(_MOTOR[direction], self._config.coarse.sideways_steps)

    def approach(self, deadline: float, may_abort: bool = False) -> None:
        """Let the controller approach automatically, and wait for the end of it.

        Args:
            deadline: When it is to have ended, as `time.monotonic` counts.
            may_abort: Whether it may be stopped on request.

        Raises:
            Aborted: It was stopped on request.
            CommandFailed: It did not end; it was stopped.
            OutcomeUnknown: It was started, and then the connection lost.
        """
        _open_approach(self._controller)
        # Before the command goes out: if its reply is lost, the approach may be under way.
        self._approaching = True
        self._controller.call("AutoApproach.OnOffSet", act=True, on=1)
        self._await_approach(deadline, self._abort if may_abort else lambda: False)
        self._approaching = False

    def stop(self, controller: Controller) -> None:
        """Stop motor and approach over this connection, if they may be under way."""
        if self._stepping:
            # Without a known way from the sample nothing was stepped: there may be no motor at all.
            no_motor = () if self._config.coarse.retract else (CommandFailed,)
            with contextlib.suppress(*no_motor):
                controller.call("Motor.StopMove")
            self._stepping = False
        if self._approaching:
            # Nobody knows whether a program that was killed has opened the module, and one that is
            # not open refuses to stop, too.
            _open_approach(controller)
            controller.call("AutoApproach.OnOffSet", on=0)
            self._approaching = False

    def stop_what_others_began(self) -> None:
        """Stop whatever a program that was killed has left moving."""
        self._stepping = self._approaching = True
        with contextlib.suppress(CommandFailed):  # what is refused is tried again on the shutdown
            self.stop(self._controller)

    def _step(self, motor: int, steps: int) -> None:
        for steps_before in range(0, steps, _STEPS_AT_A_TIME):
            count = min(_STEPS_AT_A_TIME, steps - steps_before)
            self._stepping = True
            # The reply comes after the last step, and no field bounds that: hence the time allowed.
            self._controller.call(
                "Motor.StartMove", takes=count * _MOTOR_S_PER_STEP, act=True, direction=motor,
                steps=count, group=self._config.coarse.group - 1, wait=1,
            )  # fmt: skip
            self._stepping = False
            with outcome_unknown_on_error(
                f"the motor has made {steps_before + count} of {steps} steps"
            ):
                touching = self._touches()
            if touching:
                raise UnsafeToContinue(
                    f"the tip touches the sample after {steps_before + count} steps of the coarse "
                    f"motor in direction {_NAMES[motor]}: "
                    f"{read_current(self._controller) / NM:.3g} nA flow though it is withdrawn. "
                    "The motor was stopped: is real.nanonis.coarse.retract right? Look at the "
                    "instrument"
                )

    def _touches(self) -> bool:
        """Whether the tip, withdrawn, touches something; then the motor is stopped for certain."""
        if not touches(self._controller):
            return False
        # Read twice: a step couples a spike into the preamplifier that is no contact.
        self._controller.call("Motor.StopMove")
        self._sleep(_CURRENT_FADES_S)
        return touches(self._controller)

    def _tunnels(self) -> bool:
        least = _TUNNELS * abs(read_setpoint(self._controller))
        return abs(read_current(self._controller)) > least > 0

    def _extend(self, z_range: tuple[float, float]) -> float:
        """Let the feedback look for the surface; the height where it ends, m."""
        # A step may have put the surface out of reach; the end of the range says so as well.
        self._controller.call("ZCtrl.OnOffSet", on=1)
        deadline = time.monotonic() + self._config.withdraw_timeout_s
        z, before = read_z(self._controller), math.inf
        while not (out_of_reach(z, z_range) or (abs(z - before) < _MOVED and self._tunnels())):
            if time.monotonic() > deadline:
                raise UnsafeToContinue(
                    "the feedback found no surface and no end of the z range within "
                    f"{self._config.withdraw_timeout_s:g} s (real.nanonis.withdraw_timeout_s)"
                )
            self._sleep(_POLL_S)
            z, before = read_z(self._controller), z
        return z

    def _await_approach(self, deadline: float, abort: Callable[[], bool]) -> None:
        while self._still_approaching():
            late = time.monotonic() > deadline
            if late or abort():
                with outcome_unknown_on_error(
                    "the automatic approach was started and could not be stopped"
                ):
                    self.stop(self._controller)
                if not late:
                    raise Aborted(
                        "the automatic approach was stopped: the run is asked for something else"
                    )
                raise CommandFailed(
                    "the automatic approach did not end within "
                    f"{self._config.approach_timeout_s:g} s (real.nanonis.approach_timeout_s); it "
                    "was stopped"
                )
            self._sleep(_POLL_S)

    def _still_approaching(self) -> bool:
        with outcome_unknown_on_error("the automatic approach was started"):
            return is_on(self._controller.call("AutoApproach.OnOffGet")["on"])
