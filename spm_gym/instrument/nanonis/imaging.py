"""The bias, setpoint and scan settings that a run images with, put in force and watched."""

from __future__ import annotations

from collections.abc import Callable

from spm_gym.config import RealConfig
from spm_gym.errors import UnsafeToContinue
from spm_gym.instrument.nanonis import acts
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.in_force import Watch, check_safe_tip_in_force
from spm_gym.instrument.nanonis.ownership import Ownership
from spm_gym.instrument.nanonis.ramp import change_bias, change_setpoint
from spm_gym.instrument.nanonis.reading import holds_tip, read_setpoint
from spm_gym.instrument.nanonis.scanning import Scanner
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.scale import PA


class Imaging:
    """Puts in force what the settings name for images, and sees that it stays.

    Args:
        controller: Carries it out.
        config: The settings of the real microscope.
        watch: Notices what somebody else changes.
        scanner: Takes the images.
        owned: The claim of this run to the controller.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        controller: Controller,
        config: RealConfig,
        watch: Watch,
        scanner: Scanner,
        owned: Ownership,
        sleep: Callable[[float], None],
    ) -> None:
        self._controller = controller
        self._config = config
        self._watch = watch
        self._scanner = scanner
        self._owned = owned
        self._sleep = sleep
        self._setpoint_due: float | None = None

    def adopt_setpoint(self, setpoint: float) -> None:
        """Go back to this setpoint (A): a run that was killed may have left that for approach."""
        if self._config.nanonis.approach_setpoint_pA is not None:
            self._setpoint_due = setpoint

    def prepare(self, before: Settings) -> None:
        """Set bias, setpoint and scan as the settings have them; the rest is the operator's.

        Args:
            before: The operator's settings.
        """
        imaging = self._config.imaging
        if imaging.bias_V is not None:
            change_bias(self._controller, imaging.bias_V, self._sleep)
        if imaging.setpoint_pA is not None:
            self._setpoint_due = imaging.setpoint_pA * PA
        self.set_after_approach()
        acts.watch_tip(self._controller, self._config.nanonis.shaping)
        check_safe_tip_in_force(self._controller, self._config)
        # With our mark in the comment, by which other runs know that the controller is taken.
        self._scanner.prepare(self._owned.marked(before.properties["comment"]))
        self._watch.adopt()

    def set_for_approach(self) -> None:
        """Set the setpoint for an approach, if there is one of its own."""
        approach_pA = self._config.nanonis.approach_setpoint_pA
        if approach_pA is not None and not holds_tip(self._controller):
            self._setpoint_due = read_setpoint(self._controller)
            change_setpoint(self._controller, approach_pA * PA, self._sleep)
            self._watch.adopt()

    def set_after_approach(self) -> None:
        """Go back from the setpoint for approach to that of imaging."""
        if self._setpoint_due is not None:
            change_setpoint(self._controller, self._setpoint_due, self._sleep)
            self._setpoint_due = None
            self._watch.adopt()

    def check(self) -> None:
        """See that what is in force is allowed, and that nobody else drives the controller.

        Raises:
            LimitExceeded: It is not.
            UnsafeToContinue: Another run does.
        """
        if holds_tip(self._controller):
            self.set_after_approach()  # an approach that was cut short may have left its own
        if self._watch.check():
            self._scanner.forget()
        trouble = self._owned.lost(self._controller.call("Scan.PropsGet")["comment"])
        if trouble:
            raise UnsafeToContinue(trouble)
