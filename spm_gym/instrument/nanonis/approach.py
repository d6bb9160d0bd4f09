"""The automatic approach, until the tip is at the surface.

The controller ends an approach as soon as a current flows, and says nothing of success. A spike
that the motor couples into the preamplifier looks like a landing, hundreds of times on the way
down. So what it calls a landing is looked at, and the approach goes on if it was none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spm_gym.config.real import NanonisConfig
from spm_gym.errors import ContactLost, TipCrashed
from spm_gym.instrument.nanonis.coarse import CoarseMotion, outcome_unknown_on_error
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    out_of_reach,
    read_current,
    read_setpoint,
    read_status,
    read_z,
    retracted,
)
from spm_gym.scale import NM, PA

_POLL_S = 0.2
_LANDING_S = 10.0
"""So long a z piezo may take from its rest to the end of its range after an approach."""
_LANDED = 0.3
"""Share of the setpoint that a tip at the surface draws at least."""
_CRASH_FACTOR = 10.0


class AutoApproach:
    """Approaches, and approaches again after false landings.

    Args:
        controller: Is asked.
        coarse: Lets the controller approach.
        config: The settings of the controller.
        sleep: Waits so many seconds.
        note: Takes a sentence for every false landing.
    """

    def __init__(
        self,
        controller: Controller,
        coarse: CoarseMotion,
        config: NanonisConfig,
        sleep: Callable[[float], None],
        note: Callable[[str], None],
    ) -> None:
        self._controller = controller
        self._coarse = coarse
        self._timeout_s = config.approach_timeout_s
        self._sleep = sleep
        self._note = note

    def check_free(self, z_range: tuple[float, float]) -> None:
        """See that the tip is not in the surface.

        Raises:
            TipCrashed: It is: the z piezo is fully retracted, and a large current flows.
        """
        z, current = read_z(self._controller), read_current(self._controller)
        too_much = _CRASH_FACTOR * abs(read_setpoint(self._controller))
        # A withdrawn tip is at the upper end as well: only the current tells it from a crashed one.
        if retracted(z, z_range) and abs(current) > too_much:
            raise TipCrashed("the tip has crashed into the surface: withdraw before approach")

    def land(self, z_range: tuple[float, float], may_abort: bool) -> None:
        """Approach until the tip is at the surface.

        Args:
            z_range: Lowest and highest height that the z piezo reaches, m.
            may_abort: Whether it may be stopped on request.

        Raises:
            ContactLost: There is no surface within ``real.nanonis.approach_timeout_s``.
            TipCrashed: The tip is in it.
            InstrumentError: As `CoarseMotion.approach` does.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._coarse.approach(deadline, may_abort)
            # From here on the motor has moved: no error may pass for "nothing was done".
            with outcome_unknown_on_error("the automatic approach was started"):
                trouble = self._no_contact(z_range)
                if not trouble:
                    return
                status = read_status(self._controller, z_range)
            self.check_free(z_range)
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
