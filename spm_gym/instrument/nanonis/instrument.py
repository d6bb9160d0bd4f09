"""A Nanonis controller as an `Instrument`."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Sequence
from functools import partial

from spm_gym.config import RealConfig
from spm_gym.errors import CommandFailed, InstrumentError, UnsafeToContinue
from spm_gym.instrument.driver import DriverContext
from spm_gym.instrument.nanonis import acts, lending
from spm_gym.instrument.nanonis.approach import AutoApproach
from spm_gym.instrument.nanonis.coarse import CoarseMotion, outcome_unknown_on_error
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.imaging import Imaging
from spm_gym.instrument.nanonis.in_force import Watch, check_before_changes
from spm_gym.instrument.nanonis.ownership import ControllerInUse, Ownership, in_use
from spm_gym.instrument.nanonis.reading import (
    ask_release,
    is_on,
    read_current,
    read_status,
    read_z_range,
)
from spm_gym.instrument.nanonis.scanning import Scanner, stop_scan
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.instrument.nanonis.shutdown import Step, Trouble, persist, refuse_unsafe, shut_down
from spm_gym.instrument.nanonis.signals import SignalTable
from spm_gym.instrument.nanonis.tip import (
    check_contact,
    check_feedback,
    lift_tip,
    move_tip,
    withdraw_tip,
)
from spm_gym.instrument.validation import validate_act, validate_direction, validate_scan
from spm_gym.types import Conditioning, Direction, Frame, Scan, Stall, Status


class NanonisInstrument:
    """A scanning tunnelling microscope behind a Nanonis controller.

    One connection carries everything in order; another one, on the next port, stops the scan and
    withdraws the tip while the first still waits.

    Args:
        main: Carries out everything.
        side: For the shutdown.
        config: The settings of the real microscope.
        context: The run on whose behalf it works; its record gets what somebody else has changed,
            and false landings.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        main: Controller,
        side: Controller,
        config: RealConfig,
        context: DriverContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        context = context or DriverContext()
        self.config = config
        self._main = main
        self._side = side
        self._keep = context.kept
        self._sleep = sleep
        self._notify = context.notify
        self._leave_tip = context.leave_tip
        self._owned = Ownership(context.kept)
        self._in_force = Watch(main, config, context.note)
        self._scanner = Scanner(main, config, context.abort)
        self._imaging = Imaging(main, config, self._in_force, self._scanner, self._owned, sleep)
        self._signals = SignalTable(main)
        self._before: Settings | None = None
        self._z_range = (0.0, 0.0)
        self._busy_until = 0.0
        self._coarse = CoarseMotion(main, config.nanonis, sleep, context.abort)
        self._landing = AutoApproach(main, self._coarse, self._imaging, config, sleep, context.note)
        self._open = False

    def open(self) -> None:
        """Connect, read the operator's settings, set those for imaging.

        Raises:
            LimitExceeded: What is in force, or would be, lies outside the limits.
            ControllerInUse: Another run drives it, or was killed and has not restored it.
            InstrumentError: The controller cannot be reached or used.
        """
        before = self._take_over()
        # Nothing is changed yet: who is refused here leaves everything as it was.
        check_before_changes(self._main, self.config)
        if self._keep is not None:
            before.save(self._keep)
        self._before = before
        self._imaging.adopt_setpoint(before.setpoint["setpoint"])
        self._imaging.prepare(before)
        trouble = self._owned.lost(self._main.call("Scan.PropsGet")["comment"])
        if trouble:
            # It began at the same moment and was a little later: the controller is its own now.
            self._before = None
            raise ControllerInUse(trouble)

    def open_to_restore(self) -> None:
        """Connect for `close` alone, which restores what a killed run has kept.

        No limit is asked for: the tip is to go away from the surface, whatever is in force.

        Raises:
            ControllerInUse: Another run drives it.
            InstrumentError: The controller cannot be reached or used.
        """
        self._before = self._take_over()

    def _take_over(self) -> Settings:
        """Connect, and see that nobody else drives the controller; the operator's settings."""
        self._open = True
        # A program that just ends leaves no tip at the surface either.
        atexit.register(self.close)
        self._main.connect()
        self._main.release = self._side.release = ask_release(self._main, self.config.nanonis)
        self._side.connect()
        resumes = self._keep is not None and self._keep.is_file()
        if is_on(self._side.call("Scan.StatusGet")["running"]) and not resumes:
            # Bias and feedback are about to be changed, which no tip under way survives.
            raise InstrumentError("a scan is running: stop it first")
        self._z_range = read_z_range(self._main)
        self._owned.claim(self._main.call("Scan.PropsGet")["comment"])
        return self._operators_settings()

    def status(self) -> Status:
        """Read the present state."""
        return read_status(self._main, self._z_range)

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            ContactLost: The tip is withdrawn.
            TimedOut: The scan did not end in time; it was stopped.
            Aborted: It was stopped on request.
            ValueError: It is no frame, or the fraction not within 0 to 1; nothing was sent.
            InstrumentError: The controller does not scan such a frame, or any other failure.
        """
        validate_scan(frame, fraction)
        check_feedback(self._main)
        self._imaging.check()
        scan = self._scanner.scan(frame, fraction, self._z_range)
        self._in_force.expect_frame(*self._scanner.in_force)
        changes = self._in_force.check()
        if changes:
            raise CommandFailed(
                f"somebody has changed the {', the '.join(changes)} during the scan: the image is "
                "not used"
            )
        return scan

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Move to x, y (m) and condition the probe there.

        Raises:
            ContactLost: The tip is withdrawn, or the surface out of reach.
            TipCrashed: The tip is in the surface.
            OutcomeUnknown: The act was sent, its reply never came.
            ValueError: Something is no action or no number; nothing was sent.
            InstrumentError: Any other failure.
        """
        validate_act(action, x, y)
        check_contact(self._main, self._z_range)
        self._imaging.check()
        move_tip(self._main, x, y)
        check_contact(self._main, self._z_range)
        read_current(self._main)  # nothing is done to a tip whose current nobody can tell
        if isinstance(action, Stall):
            return
        shaping = self.config.nanonis.shaping
        acts.prepare(self._main, action, shaping)
        self._busy_until = time.monotonic() + acts.duration(action, shaping)
        try:
            acts.carry_out(self._main, action, shaping)
        except CommandFailed:
            acts.watch_tip(self._main, shaping)
            raise
        self._busy_until = 0.0
        with outcome_unknown_on_error("the act was done, but Safe Tip may be off"):
            acts.watch_tip(self._main, shaping)

    def approach(self) -> None:
        """Let the controller approach automatically; also finds a lost surface again.

        Raises:
            TipCrashed: Withdraw first.
            ContactLost: The approach ended without contact.
            Aborted: It was stopped on request.
            CommandFailed: It did not end; it was stopped.
            UnsafeToContinue: The surface stays near the retracted end; the tip is withdrawn.
            OutcomeUnknown: It was started, and then the connection lost.
        """
        self._landing.approach(self._z_range, may_abort=True)

    def withdraw(self) -> None:
        """Stop the scan and take the tip to the upper end of the z piezo."""
        withdraw_tip(self._main, self._z_range, self.config.nanonis.withdraw_timeout_s)

    def retract(self) -> None:
        """Withdraw, and step away from the sample.

        Raises:
            LimitExceeded: Which way that is the settings do not say, or nobody has verified;
                nothing was sent.
            UnsafeToContinue: The tip is not free even so.
            OutcomeUnknown: Steps were sent, and then the connection lost.
            InstrumentError: Any other failure.
        """
        self._coarse.check_direction("the tip is to be taken away from the sample")
        self._coarse.check_verified()
        # The tip may be in deeper than the piezo can lift it: then the motor has to, watched.
        lift_tip(self._main, self._z_range, self.config.nanonis.withdraw_timeout_s)
        self._coarse.step_away(self.config.nanonis.coarse.retract_steps)

    def read_signals(self, names: Sequence[str]) -> list[float]:
        """Read signals by their names, in their own units; see `SignalTable.read`."""
        return self._signals.read(names)

    def verify_motor(self) -> None:
        """Find out with single steps that ``coarse.retract`` leads away; leaves the tip withdrawn.

        Raises:
            LimitExceeded: The settings do not say which way that is.
            UnsafeToContinue: It does not lead away.
            InstrumentError: The tip is not at the surface, or any other failure.
        """
        self._coarse.check_direction("its direction is to be verified")
        self._imaging.check()
        self._coarse.verify_direction(self.withdraw, self._z_range, self.config.z_window)

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step away from the sample and sideways, approach.

        Raises:
            LimitExceeded: The settings do not say which way is away from the sample.
            UnsafeToContinue: What they say leads to the sample, or the tip is not free.
            OutcomeUnknown: Steps were sent, and then the connection lost.
            ValueError: This is no direction; nothing was sent.
            InstrumentError: Any other failure.
        """
        validate_direction(direction)
        self._coarse.check_direction("the approach area is used up")
        self._imaging.check()
        self._coarse.verify_direction(self.withdraw, self._z_range, self.config.z_window)
        self.withdraw()
        move_tip(self._main, 0.0, 0.0)
        self._coarse.step_away(self.config.nanonis.coarse.retract_steps)
        with outcome_unknown_on_error("the tip was stepped away"):
            self._coarse.step_sideways(direction)
            self._landing.approach(self._z_range, may_abort=False)

    def lend(self, work: Callable[[], None]) -> None:
        """Restore the operator's settings, let go of the ports, do ``work``, and take over again.

        Raises:
            ContactLost: The tip is not at the surface, before or after.
            LimitExceeded: The work has left bias or setpoint beyond the limits; they are restored.
            UnsafeToContinue: Another run has taken the controller over.
            InstrumentError: Any other failure; what the work raises is raised as well.
        """
        assert self._before is not None
        check_contact(self._main, self._z_range)
        self._imaging.check()
        lending.hand_over(self._main, self._before, self.config, self._in_force, self._sleep)
        # A port serves one program, and which one a script will use nobody knows.
        for controller in (self._main, self._side):
            controller.close()
        try:
            work()
        finally:
            self._take_back(self._before)

    def _take_back(self, before: Settings) -> None:
        trouble = persist(self._connect_both, self.config.nanonis.outage_s, self._sleep)
        if trouble is not None:
            raise trouble
        other = in_use(self._main.call("Scan.PropsGet")["comment"], self._keep)
        if other:
            raise UnsafeToContinue(other)
        lending.take_back(self._main, before, self.config, self._in_force, self._sleep)
        self._imaging.prepare(before)
        check_contact(self._main, self._z_range)

    def _connect_both(self) -> None:
        for controller in (self._main, self._side):
            controller.close()
            controller.connect()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self._sleep(seconds)

    def reconnect(self) -> None:
        """Connect again, wait until an act under way is over, stop motor, approach and scan.

        A port may still be busy with what was started over the lost connection, or the network down
        for a while: see ``real.nanonis.outage_s``.

        Raises:
            ConnectionLost: There is no connection to be had.
            InstrumentError: Any other failure.
        """
        trouble = persist(self._connect_again, self.config.nanonis.outage_s, self._sleep)
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Leave the instrument in the safe condition and let go of it; legal twice.

        Scan and approach are stopped, the tip is withdrawn if so configured, and the operator's
        settings are restored.

        Raises:
            InstrumentError: The safe condition was not reached; says what is missing.
        """
        if not self._open:
            return
        # What still waits on the main connection is cut short; all that follows goes over the side.
        self._main.close()
        # Until the settings were read, nothing was changed.
        troubles = [] if self._before is None else self._make_safe(self._before)
        self._side.close()
        self._owned.release()
        # Only now: if it is interrupted on the way, it may be closed once more.
        self._open = False
        atexit.unregister(self.close)
        refuse_unsafe(troubles)
        if self._before is not None:
            if self._keep is not None:
                self._keep.unlink(missing_ok=True)
            tip = "tip withdrawn" if self._withdraws() else "tip left as it is"
            self._notify(f"instrument: scan stopped, {tip}, settings restored")

    def _make_safe(self, before: Settings) -> list[Trouble]:
        """Do all that belongs to the safe condition; returns what could not be done, and why."""
        side = self._side
        steps: list[Step] = [
            ("motor or approach not stopped", partial(self._coarse.stop, side)),
            ("scan not stopped", partial(stop_scan, side)),
        ]
        # The tip first, its settings last: a bias that jumps under a tip at the surface spoils it.
        if self._withdraws():
            seconds = self.config.nanonis.withdraw_timeout_s
            withdraw = partial(withdraw_tip, side, self._z_range, seconds)
            steps.append(("tip not withdrawn", withdraw))
        steps.extend(before.restore(side, self.config.limits, self._sleep))
        self._await_act()
        over_side = [(missing, partial(self._on_side, step)) for missing, step in steps]
        return shut_down(over_side, self.config.nanonis.outage_s, self._sleep)

    def _withdraws(self) -> bool:
        return self.config.withdraw_on_exit and not self._leave_tip()

    def _on_side(self, step: Callable[[], object]) -> None:
        self._side.connect()
        step()

    def _connect_again(self) -> None:
        self._await_act()
        self._connect_both()
        self._coarse.stop(self._main)
        stop_scan(self._main)
        self._in_force.check()
        assert self._before is not None
        self._imaging.prepare(self._before)

    def _operators_settings(self) -> Settings:
        if self._keep is not None and self._keep.is_file():
            self._notify(f"an earlier run could not restore the settings: taken from {self._keep}")
            # It may have been killed in the middle of a coarse move or a scan, which goes on.
            self._coarse.stop_what_others_began()
            stop_scan(self._main)
            return Settings.load(self._keep, self._main.release)
        return Settings.read(self._main)

    def _await_act(self) -> None:
        """Let an act end whose reply never came: no command stops it."""
        left = self._busy_until - time.monotonic()
        if left > 0:
            self._sleep(left)
        self._busy_until = 0.0
