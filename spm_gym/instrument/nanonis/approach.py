"""The automatic approach, until the tip is at the surface and the z piezo has room both ways.

The controller ends an approach as soon as a current flows, and says nothing of success. A spike
that the motor couples into the preamplifier looks like a landing, hundreds of times on the way
down. So what it calls a landing is looked at, and the approach goes on if it was none.

Nor can it be asked to land at a certain extension of the piezo: it lets the piezo extend, and steps
nearer only if that finds no surface. So a landing outside ``real.z_window`` is answered by single
steps *away*, in a direction that was verified, and another approach: near the retracted end that
gives the piezo room, and near the extended end it puts the surface out of reach, so that the
controller steps nearer itself. No step towards the sample is ever made blindly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from spm_gym.config import RealConfig
from spm_gym.errors import ContactLost, TipCrashed, UnsafeToContinue
from spm_gym.instrument.nanonis.coarse import CoarseMotion, outcome_unknown_on_error
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.imaging import Imaging
from spm_gym.instrument.nanonis.in_force import check_safe_tip_in_force
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    out_of_reach,
    read_current,
    read_setpoint,
    read_status,
    read_z,
    retracted,
)
from spm_gym.instrument.nanonis.tip import withdraw_tip
from spm_gym.instrument.z_window import (
    described,
    end_near,
    extension,
    has_room,
    in_danger,
)
from spm_gym.scale import NM, PA

_POLL_S = 0.2
_LANDING_S = 10.0
"""So long a z piezo may take from its rest to the end of its range after an approach."""
_LANDED = 0.3
"""Share of the setpoint that a tip at the surface draws at least."""
_CRASH_FACTOR = 10.0
_MOST_ADJUSTMENTS = 3
_MEASURABLE = 10 * NM
_NEARER = 0.02
"""Share of the z range by which a surface is nearer than before, and not by drift alone."""


class AutoApproach:
    """Approaches, and approaches again after false landings and landings outside the z window.

    Args:
        controller: Is asked.
        coarse: Lets the controller approach, and steps away.
        imaging: Has the setpoints for approach and for imaging.
        config: The settings of the real microscope.
        sleep: Waits so many seconds.
        note: Takes a sentence for every such landing.
    """

    def __init__(
        self,
        controller: Controller,
        coarse: CoarseMotion,
        imaging: Imaging,
        config: RealConfig,
        sleep: Callable[[float], None],
        note: Callable[[str], None],
    ) -> None:
        self._controller = controller
        self._coarse = coarse
        self._imaging = imaging
        self._config = config
        self._sleep = sleep
        self._note = note

    def approach(self, z_range: tuple[float, float], may_abort: bool) -> None:
        """Approach until the tip is at the surface, within the z window where it can be had.

        Args:
            z_range: Lowest and highest height that the z piezo reaches, m.
            may_abort: Whether it may be stopped on request.

        Raises:
            UnsafeToContinue: The surface stays near the retracted end; the tip is withdrawn.
            ContactLost: There is no surface within ``real.nanonis.approach_timeout_s``.
            TipCrashed: The tip is in it.
            InstrumentError: As `CoarseMotion.approach` does, or any other failure.
        """
        self._check_free(z_range)
        self._imaging.check()
        check_safe_tip_in_force(self._controller, self._config)
        landings: list[float] = []
        while True:
            self._imaging.set_for_approach()
            self._land(z_range, may_abort)
            with outcome_unknown_on_error("the automatic approach has landed"):
                self._imaging.set_after_approach()
                if not self._step_away(z_range, landings):
                    return

    def _step_away(self, z_range: tuple[float, float], landings: list[float]) -> bool:
        """Withdraw and step away once if the surface lies outside the window; returns whether.

        Args:
            z_range: Lowest and highest height that the z piezo reaches, m.
            landings: Extensions at the landings before, outside the window; takes this one.

        Raises:
            UnsafeToContinue: The surface is not further away after that, or still so near that no
                tip may stay there; the tip is withdrawn.
        """
        window = self._config.z_window
        if window is None:
            return False
        extended = extension(read_z(self._controller), z_range)
        if end_near(extended, window) is None:
            return False
        text = f"the automatic approach has ended with the {described(extended, window)}"
        # Nearer to the lower end than this, the feedback does not show a step away.
        measurable = (1 - extended) * (z_range[1] - z_range[0]) > _MEASURABLE
        may_verify = self._coarse.known and measurable and has_room(extended, window)
        trouble = ""
        if len(landings) == _MOST_ADJUSTMENTS:
            trouble = f"also after {len(landings)} single steps away"
        elif not (self._coarse.verified or may_verify):
            trouble = f"not adjusted: {self._coarse.unverified}"
        if trouble and not (landings and in_danger(extended, window)):
            self._note(f"{text}; {trouble}")
            return False
        timeout_s = self._config.nanonis.withdraw_timeout_s
        withdraw = partial(withdraw_tip, self._controller, z_range, timeout_s)
        # The motor was rewired after its direction was verified, or slips.
        nearer = bool(landings) and extended < landings[-1] - _NEARER and landings[-1] < window[0]
        if trouble or nearer:
            withdraw()
            raise UnsafeToContinue(
                f"{text}, after {len(landings)} single steps away: does the coarse motor move, and "
                "away from the sample? The tip is withdrawn"
            )
        self._note(f"{text}: withdrawn, a step away, another approach")
        if self._coarse.verified:
            withdraw()
            self._coarse.step_away(1)
        else:
            # Withdraws, steps away, and lets the feedback find the surface further down.
            self._coarse.verify_direction(withdraw, z_range, window)
        landings.append(extended)
        return True

    def _check_free(self, z_range: tuple[float, float]) -> None:
        """See that the tip is not in the surface.

        Raises:
            TipCrashed: It is: the z piezo is fully retracted, and a large current flows.
        """
        z, current = read_z(self._controller), read_current(self._controller)
        too_much = _CRASH_FACTOR * abs(read_setpoint(self._controller))
        # A withdrawn tip is at the upper end as well: only the current tells it from a crashed one.
        if retracted(z, z_range) and abs(current) > too_much:
            raise TipCrashed("the tip has crashed into the surface: withdraw before approach")

    def _land(self, z_range: tuple[float, float], may_abort: bool) -> None:
        """Approach until the tip is at the surface, wherever that is."""
        deadline = time.monotonic() + self._config.nanonis.approach_timeout_s
        while True:
            self._coarse.approach(deadline, may_abort)
            # From here on the motor has moved: no error may pass for "nothing was done".
            with outcome_unknown_on_error("the automatic approach was started"):
                trouble = self._no_contact(z_range)
                if not trouble:
                    return
                status = read_status(self._controller, z_range)
            self._check_free(z_range)
            text = (
                f"the automatic approach ended without contact ({trouble}): z = "
                f"{status.z / NM:.1f} nm, current = {status.current / PA:.3g} pA"
            )
            if time.monotonic() > deadline:
                raise ContactLost(f"{text}; given up after real.nanonis.approach_timeout_s")
            self._note(f"{text}; it goes on")
            self._sleep(_POLL_S)

    def _no_contact(self, z_range: tuple[float, float]) -> str:
        """Why this is no landing; "" if it is one. A piezo that finds nothing extends first."""
        deadline = time.monotonic() + _LANDING_S
        tunnelled = False
        while True:
            if not holds_tip(self._controller):
                return "the feedback is off"
            if out_of_reach(read_z(self._controller), z_range):
                return "the z piezo is fully extended"
            least = _LANDED * abs(read_setpoint(self._controller))
            before, tunnelled = tunnelled, abs(read_current(self._controller)) >= least > 0
            if before and tunnelled:  # one reading may be the spike itself
                return ""
            if time.monotonic() > deadline:
                return "there is no current"
            self._sleep(_POLL_S)
