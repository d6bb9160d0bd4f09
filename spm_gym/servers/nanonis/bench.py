"""Parts that all modules of the virtual controller share: microscope, clock, settings, waiting."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.clock import Clock
from spm_gym.servers.nanonis.settings import ControllerSettings
from spm_gym.servers.nanonis.transients import Transient
from spm_gym.types import Stall

Values = dict[str, Any]
Handler = Callable[..., Mapping[str, Any] | None]

_ASK_EVERY_S = 0.1
_ROUNDING = 1e-7


class Refused(Exception):
    """The controller refuses a command; the message goes to the client."""


class ClientGone(Exception):
    """The client of a waiting command has left; what the command started goes on."""


class Module(Protocol):
    """Module of the controller's software."""

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name.

        A handler is called with the arguments by name and gives the return values by name.
        """
        ...


class Bench:
    """Simulated microscope with clock and settings.

    Attributes:
        microscope: Simulates the physics.
        clock: The controller's time.
        settings: The controller's settings.
        release: Release of the software that is imitated.
        condition: Lock of all modules; notified after every change.
        caller: For each thread, ``is_gone`` tells whether the client of its command has left.
        resting: Place to which Follow Me has moved the tip, if it has not been used since.
        last_act: The last pulse or dip, as the oscilloscopes display it.
    """

    def __init__(
        self,
        microscope: SimulatedMicroscope,
        clock: Clock,
        settings: ControllerSettings,
        release: int,
    ) -> None:
        self.microscope = microscope
        self.clock = clock
        self.settings = settings
        self.release = release
        self.condition = threading.Condition()
        self.resting: tuple[float, float] | None = None
        self.last_act: Transient | None = None
        self.caller = threading.local()

    @property
    def now(self) -> float:
        """The controller's time, s."""
        return self.clock.now

    def wait(self, due: Callable[[], float | None], timeout: float = math.inf) -> bool:
        """Wait without holding the lock.

        Args:
            due: Does what is due, and returns when to ask again, or None when done.
            timeout: Longest wait, s.

        Returns:
            Whether it was done in time.

        Raises:
            ClientGone: The client has left.
        """
        deadline = self.now + timeout
        while (moment := due()) is not None:
            if self.now >= deadline:
                return False
            self._pass_time(min(moment, deadline))
        return True

    def rest_at(self, place: tuple[float, float]) -> None:
        """Note that Follow Me has moved the tip to a place."""
        self.resting = place if self.microscope.status().approached else None

    def end_rest(self) -> None:
        """End the rest of the tip at a place, which counts as the stall of the method."""
        # For a stall a driver sends a move and nothing else. The simulator draws the probe's next
        # state for a stall as for any action, so without this the two would not agree.
        place, self.resting = self.resting, None
        microscope = self.microscope
        if place is not None and microscope.status().approached and not microscope.fault:
            microscope.condition(Stall(), *place)

    def wait_until(self, moment: float) -> None:
        """Wait for a time of the clock (s) without holding the lock."""
        self.wait(lambda: moment if self.now < moment else None)

    def _pass_time(self, moment: float) -> None:
        if not self.clock.runs and moment < math.inf:
            self.clock.set_forward(moment)
            return
        # In short steps, because a client that leaves notifies nobody.
        self.condition.wait(min(self.clock.real_seconds(moment), _ASK_EVERY_S))
        if self.caller.is_gone():
            raise ClientGone


def coerced(value: float, limit: float) -> float:
    """Limit the magnitude of a value, with tolerance for rounding, as controllers do silently."""
    return value if abs(value) <= limit * (1 + _ROUNDING) else math.copysign(limit, value)


def seconds(timeout_ms: int) -> float:
    """Convert a timeout from ms to s; negative means for ever."""
    return timeout_ms / 1e3 if timeout_ms >= 0 else math.inf
