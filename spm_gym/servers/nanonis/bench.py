"""What all modules of the virtual controller share: microscope, clock, settings, waiting."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.clock import Clock
from spm_gym.servers.nanonis.memory import Memory
from spm_gym.servers.nanonis.transients import Transient
from spm_gym.types import Stall

Values = dict[str, Any]
Handler = Callable[..., Mapping[str, Any] | None]

_LOOK_EVERY_S = 0.1
_ROUNDING = 1e-7


class Refused(Exception):
    """The controller cannot or will not do what it was told; the message goes to the client."""


class Aborted(Exception):
    """Nobody is left to hear how the waiting ends; what was started goes on."""


class Module(Protocol):
    """One module of the controller's software."""

    def handlers(self) -> Mapping[str, Handler]:
        """What answers its commands; called with the arguments by name, returns the values."""
        ...


class Bench:
    """The simulated microscope and what surrounds it.

    Attributes:
        microscope: Does the physics.
        clock: The controller's time.
        memory: The settings.
        release: Of the software that is played.
        condition: Guards everything; told when anything has happened.
        caller: Of each thread, what says whether anybody still waits for its reply.
        resting: Where Follow Me has put the tip, if nothing was done to it since.
        last_act: The last pulse or dip, as the oscilloscopes show it.
    """

    def __init__(
        self, microscope: SimulatedMicroscope, clock: Clock, memory: Memory, release: int
    ) -> None:
        self.microscope = microscope
        self.clock = clock
        self.memory = memory
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
            due: Does what is due and says when it is worth asking again, or None when done.
            timeout: Longest wait, s.

        Returns:
            Whether it was done in time.

        Raises:
            Aborted: The client is gone.
        """
        deadline = self.now + timeout
        while (moment := due()) is not None:
            if self.now >= deadline:
                return False
            self._pass_time(min(moment, deadline))
        return True

    def rest_at(self, place: tuple[float, float]) -> None:
        """Follow Me has put the tip there."""
        self.resting = place if self.microscope.status().approached else None

    def end_rest(self) -> None:
        """Let the tip go from where it rested; doing nothing for a while is an act as well."""
        place, self.resting = self.resting, None
        microscope = self.microscope
        if place is not None and microscope.status().approached and not microscope.fault:
            microscope.condition(Stall(), *place)

    def wait_until(self, moment: float) -> None:
        """Wait for a moment of the clock without holding the lock."""
        self.wait(lambda: moment if self.now < moment else None)

    def _pass_time(self, moment: float) -> None:
        if not self.clock.runs and moment < math.inf:
            self.clock.set_forward(moment)
            return
        self.condition.wait(min(self.clock.real_seconds(moment), _LOOK_EVERY_S))
        if self.caller.is_gone():
            raise Aborted


def coerced(value: float, limit: float) -> float:
    """The value, or the limit if it exceeds that by more than rounding explains."""
    return value if abs(value) <= limit * (1 + _ROUNDING) else math.copysign(limit, value)


def seconds(timeout_ms: int) -> float:
    """A timeout as commands give it, in s; negative is for ever."""
    return timeout_ms / 1e3 if timeout_ms >= 0 else math.inf
