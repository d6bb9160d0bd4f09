"""A Nanonis controller as an `Instrument`."""

from __future__ import annotations

import atexit
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spm_gym.config import RealConfig
from spm_gym.instrument.base import (
    CommandFailed,
    ContactLost,
    InstrumentError,
    TipCrashed,
    TipWithdrawn,
)
from spm_gym.instrument.nanonis import acts
from spm_gym.instrument.nanonis.coarse import CoarseMotion, begun
from spm_gym.instrument.nanonis.connection import Connection, Controller
from spm_gym.instrument.nanonis.reading import (
    FEEDBACK_ON,
    ask_release,
    out_of_reach,
    read_status,
    read_z_range,
    retracted,
)
from spm_gym.instrument.nanonis.scanning import Scanner, stop_scan
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.instrument.nanonis.way_out import Step, Trouble, go_way_out, persist
from spm_gym.types import Conditioning, Direction, Frame, Scan, Stall, Status

NM = 1e-9
PA = 1e-12
_CRASH_FACTOR = 10.0


def connect(
    config: RealConfig,
    keep: Path | None = None,
    tell: Callable[[str], None] = print,
    abandon: Callable[[], bool] = lambda: False,
) -> NanonisInstrument:
    """Connect to the controller of these settings and prepare it for imaging.

    Raises:
        InstrumentError: It cannot be reached or does not answer as it should.
    """
    main, side = (Connection(config.host, port, config.timeout_s) for port in config.ports[:2])
    instrument = NanonisInstrument(main, side, config, keep, tell=tell, abandon=abandon)
    try:
        instrument.open()
    except BaseException:
        instrument.close()
        raise
    return instrument


class NanonisInstrument:
    """A scanning tunnelling microscope behind a Nanonis controller.

    One connection carries everything in order; another one, on the next port, stops the scan and
    withdraws the tip while the first still waits.

    Args:
        main: Carries out everything.
        side: For the way out.
        config: The settings of the real microscope.
        keep: File for the operator's settings while the run has changed them. If it is there, an
            earlier run could not restore them, and they are taken from it.
        sleep: Waits so many seconds.
        tell: Takes sentences for the operator.
        abandon: Is asked during a scan or an approach whether to stop it.
    """

    def __init__(
        self,
        main: Controller,
        side: Controller,
        config: RealConfig,
        keep: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = print,
        abandon: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self._main = main
        self._side = side
        self._keep = keep
        self._sleep = sleep
        self._tell = tell
        self._scanner = Scanner(main, config.imaging, config.timeout_s, abandon)
        self._before: Settings | None = None
        self._z_range = (0.0, 0.0)
        self._busy_until = 0.0
        self._coarse = CoarseMotion(main, config, sleep, abandon)
        self._open = False

    def open(self) -> None:
        """Connect, read the operator's settings, set those for imaging.

        Raises:
            InstrumentError: The controller cannot be reached or used.
        """
        self._open = True
        atexit.register(self.close)
        self._main.connect()
        self._main.release = self._side.release = ask_release(self._main, self.config)
        self._side.connect()
        self._side.call("Scan.StatusGet")
        self._z_range = read_z_range(self._main)
        self._before = self._operators_settings()
        self._prepare()

    def status(self) -> Status:
        """Read the present state."""
        return read_status(self._main, self._z_range)

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            ContactLost: The tip is withdrawn.
            TimedOut: The scan did not end in time; it was stopped.
            Abandoned: It was stopped because somebody wanted that.
            InstrumentError: The controller does not scan such a frame, or any other failure.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be within 0 to 1, not {fraction:g}")
        self._check_feedback()
        return self._scanner.scan(frame, fraction, self._z_range)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Move to x, y (m) and condition the probe there.

        Raises:
            ContactLost: The tip is withdrawn, or the surface out of reach.
            TipCrashed: The tip is in the surface.
            OutcomeUnknown: The act was sent, its reply never came.
            InstrumentError: Any other failure.
        """
        self._check_contact()
        self._move(x, y)
        self._check_contact()
        if isinstance(action, Stall):
            return
        shaping = self.config.shaping
        acts.prepare(self._main, action, shaping)
        self._busy_until = time.monotonic() + acts.duration(action, shaping)
        try:
            acts.carry_out(self._main, action, shaping)
        except CommandFailed:
            acts.watch_tip(self._main, shaping)
            raise
        self._busy_until = 0.0
        with begun("the act was done, but Safe Tip may be off"):
            acts.watch_tip(self._main, shaping)

    def approach(self) -> None:
        """Let the controller approach automatically; also finds a lost surface again.

        Raises:
            TipCrashed: Withdraw first.
            ContactLost: The approach ended without contact.
            Abandoned: It was stopped because somebody wanted that.
            CommandFailed: It did not end; it was stopped.
            OutcomeUnknown: It was started, and then the connection lost.
        """
        self._approach(may_be_abandoned=True)

    def _approach(self, may_be_abandoned: bool) -> None:
        if self._crashed(self.status()):
            raise TipCrashed("the tip has crashed into the surface: withdraw before approach")
        self._coarse.approach(may_be_abandoned)
        with begun("the automatic approach was started"):
            status = self.status()
        if not status.approached or out_of_reach(status.z, self._z_range):
            raise ContactLost(
                f"the automatic approach ended without contact: z = {status.z / NM:.1f} nm, "
                f"current = {status.current / PA:.3g} pA"
            )

    def withdraw(self) -> None:
        """Stop the scan and take the tip to the upper end of the z piezo."""
        self._withdraw(self._main)

    def retract(self) -> None:
        """Withdraw, and step away from the sample.

        Raises:
            LimitExceeded: The settings do not say which way that is; nothing was moved.
            OutcomeUnknown: Steps were sent, and then the connection lost.
            InstrumentError: Any other failure.
        """
        self._coarse.check_direction("the tip is to be taken away from the sample")
        self.withdraw()
        self._coarse.step_away()

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step away from the sample and sideways, approach.

        Raises:
            LimitExceeded: The settings do not say which way is away from the sample.
            OutcomeUnknown: Steps were sent, and then the connection lost.
            InstrumentError: Any other failure.
        """
        self._coarse.check_direction("the approach area is used up")
        self.withdraw()
        self._move(0.0, 0.0)
        self._coarse.step_away()
        with begun("the tip was stepped away"):
            self._coarse.step_sideways(direction)
            self._approach(may_be_abandoned=False)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self._sleep(seconds)

    def reconnect(self) -> None:
        """Connect anew, wait until an act under way is over, stop motor, approach and scan.

        A port may still be busy with what was begun over the lost connection, or the network down
        for a while: see ``real.outage_s``.

        Raises:
            ConnectionLost: There is no connection to be had.
            InstrumentError: Any other failure.
        """
        trouble = persist(self._connect_anew, self.config.outage_s, self._sleep)
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
        self._main.close()
        # Until the settings were read, nothing was changed.
        troubles = [] if self._before is None else self._make_safe(self._before)
        self._side.close()
        # Only now: whoever was interrupted on the way may close once more.
        self._open = False
        atexit.unregister(self.close)
        if troubles:
            missing = ", ".join(what for what, _ in troubles)
            raise InstrumentError(
                f"THE INSTRUMENT IS NOT IN THE SAFE CONDITION, look at it: {missing}: "
                f"{troubles[0][1]}"
            )
        if self._before is not None:
            if self._keep is not None:
                self._keep.unlink(missing_ok=True)
            tip = "tip withdrawn" if self.config.withdraw_on_exit else "tip left as it is"
            self._tell(f"instrument: scan stopped, {tip}, settings restored")

    def _make_safe(self, before: Settings) -> list[Trouble]:
        """Do all that belongs to the safe condition; returns what could not be done, and why."""
        side = self._side
        steps: list[Step] = [
            ("motor or approach not stopped", partial(self._coarse.stop, side)),
            ("scan not stopped", partial(stop_scan, side)),
        ]
        if self.config.withdraw_on_exit:
            steps.append(("tip not withdrawn", partial(self._withdraw, side)))
        for name, command, values in before.commands(side.release):
            steps.append((f"{name} not restored", partial(side.call, command, **values)))
        self._await_act()
        over_side = [(missing, partial(self._on_side, step)) for missing, step in steps]
        return go_way_out(over_side, self.config.outage_s, self._sleep)

    def _on_side(self, step: Callable[[], object]) -> None:
        self._side.connect()
        step()

    def _connect_anew(self) -> None:
        for controller in (self._main, self._side):
            controller.close()
        self._await_act()
        self._main.connect()
        self._side.connect()
        self._coarse.stop(self._main)
        stop_scan(self._main)
        self._prepare()

    def _operators_settings(self) -> Settings:
        if self._keep is not None and self._keep.is_file():
            self._tell(f"an earlier run could not restore the settings: taken from {self._keep}")
            # It may have been killed in the middle of a coarse move, which goes on without it.
            self._coarse.stop_what_others_began()
            return Settings.load(self._keep, self._main.release)
        settings = Settings.read(self._main)
        if self._keep is not None:
            settings.save(self._keep)
        return settings

    def _prepare(self) -> None:
        imaging = self.config.imaging
        if imaging.bias_V is not None:
            self._main.call("Bias.Set", bias=imaging.bias_V)
        if imaging.setpoint_pA is not None:
            self._main.call("ZCtrl.SetpntSet", setpoint=imaging.setpoint_pA * PA)
        acts.watch_tip(self._main, self.config.shaping)
        self._scanner.prepare()

    def _move(self, x: float, y: float) -> None:
        here = self._main.call("FolMe.XYPosGet", newest=0)
        speed = self._main.call("FolMe.SpeedGet")["speed"]
        way = math.hypot(x - here["x"], y - here["y"])
        self._main.call(
            "FolMe.XYPosSet", takes=2 * way / speed if speed > 0 else 0.0, x=x, y=y, wait=1
        )
        there = self._main.call("FolMe.XYPosGet", newest=1)
        if math.hypot(x - there["x"], y - there["y"]) > NM:
            raise InstrumentError(
                f"the tip is at ({there['x'] / NM:.1f}, {there['y'] / NM:.1f}) nm instead of "
                f"({x / NM:.1f}, {y / NM:.1f}): out of the piezo's range, or somebody else moves it"
            )

    def _await_act(self) -> None:
        """Let an act end whose reply never came: no command stops it."""
        left = self._busy_until - time.monotonic()
        if left > 0:
            self._sleep(left)
        self._busy_until = 0.0

    def _withdraw(self, controller: Controller) -> None:
        seconds = self.config.withdraw_timeout_s
        stop_scan(controller)
        controller.call("ZCtrl.Withdraw", takes=seconds, wait=1, timeout=math.ceil(seconds * 1e3))
        status = read_status(controller, self._z_range)
        if status.approached or not retracted(status.z, self._z_range):
            raise InstrumentError(
                f"the tip is not withdrawn: z = {status.z / NM:.1f} nm of "
                f"{self._z_range[1] / NM:.1f} nm after {seconds:g} s (real.withdraw_timeout_s)"
            )

    def _check_contact(self) -> None:
        self._check_feedback()
        z = self._main.call("ZCtrl.ZPosGet")["z"]
        if out_of_reach(z, self._z_range):
            raise ContactLost("the surface is out of reach: approach first")
        if retracted(z, self._z_range):
            raise TipCrashed("the tip has crashed into the surface: withdraw and approach first")

    def _check_feedback(self) -> None:
        if self._main.call("ZCtrl.StatusGet")["status"] != FEEDBACK_ON:
            raise TipWithdrawn("the tip is withdrawn or the feedback off: approach first")

    def _crashed(self, status: Status) -> bool:
        too_much = _CRASH_FACTOR * abs(status.setpoint)
        return retracted(status.z, self._z_range) and abs(status.current) > too_much
