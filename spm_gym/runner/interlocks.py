"""Signals of the controller whose limits pause or end a run."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from spm_gym.config.operation import InterlockConfig
from spm_gym.errors import BadReply, ConnectionLost, InstrumentError, TimedOut

# A scan is waited for in pieces of a second: so each of them ends with a fresh reading.
_READ_EVERY_S = 0.5


def described_interlock(config: InterlockConfig) -> str:
    """Describe an interlock for people."""
    low = "" if config.min is None else f"{config.min:g} <= "
    high = "" if config.max is None else f" <= {config.max:g}"
    what = config.signal if config.rate_s is None else f"{config.signal} per second"
    if config.then == "stop":
        return f"{low}{what}{high}, else the run ends"
    back = "somebody resumes it"
    if config.resume_after_s is not None:
        back = f"it has held for {config.resume_after_s:g} s"
    return f"{low}{what}{high}, else the run pauses until {back}"


class Interlocks:
    """Reads the signals, and remembers which of them were beyond their limits.

    Args:
        configs: The interlocks.
        clock: Seconds that nobody can set.
    """

    def __init__(
        self,
        configs: Sequence[InterlockConfig],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._each = [_Interlock(config) for config in configs]
        self._read: Callable[[], Sequence[float]] | None = None
        self._clock = clock
        self._due = -math.inf

    def begin(self, read: Callable[[], Sequence[float]]) -> None:
        """Begin to read.

        Args:
            read: Gives the values of the signals, in order.

        Raises:
            InstrumentError: They cannot be read, even once.
        """
        self._take(read())
        self._read = read

    def check(self) -> None:
        """Read the signals, if the last time is long enough ago."""
        if self._read is None or self._clock() < self._due:
            return
        try:
            values = self._read()
        except (ConnectionLost, TimedOut, BadReply):
            # The next command meets what is wrong with the connection. Nothing is released on a
            # value that nobody has, and nothing new is done without a connection.
            return
        except InstrumentError:
            # The controller answers, but not with a value: the run would go on unprotected.
            values = [math.nan] * len(self._each)
        self._take(values)

    def _take(self, values: Sequence[float]) -> None:
        now = self._clock()
        self._due = now + _READ_EVERY_S
        for interlock, value in zip(self._each, values, strict=True):
            interlock.take(value, now)

    def tripped(self, then: str) -> str:
        """Return what the interlocks that pause, or that stop, have found; "" for nothing."""
        return "; ".join(
            each.trouble for each in self._each if each.trouble and each.config.then == then
        )

    def release(self) -> None:
        """Go on, as a person has asked for, unless a signal is still beyond its limits."""
        for each in self._each:
            each.release()


class _Interlock:
    """One signal, and why it holds the run; "" if it does not."""

    def __init__(self, config: InterlockConfig) -> None:
        self.config = config
        self.trouble = ""
        self._beyond = False
        self._within_since = math.inf
        self._values: deque[tuple[float, float]] = deque()

    def take(self, value: float, now: float) -> None:
        """Compare a reading at a time (s) with the limits."""
        config = self.config
        compared = value if config.rate_s is None else self._rate(value, now, config.rate_s)
        low = -math.inf if config.min is None else config.min
        high = math.inf if config.max is None else config.max
        # Written so that a value that is no number is beyond all limits.
        self._beyond = not low <= compared <= high
        if self._beyond:
            self._within_since = math.inf
            self.trouble = f"{config.signal} {self._in_words(compared)}"
            return
        self._within_since = min(self._within_since, now)
        wait = config.resume_after_s
        if wait is not None and now - self._within_since >= wait:
            self.trouble = ""

    def release(self) -> None:
        if not self._beyond:
            self.trouble = ""

    def _in_words(self, value: float) -> str:
        config = self.config
        per = "" if config.rate_s is None else "/s"
        if config.min is not None and value < config.min:
            return f"= {value:.6g}{per}, below {config.min:g}"
        if config.max is not None and value > config.max:
            return f"= {value:.6g}{per}, above {config.max:g}"
        return "is no number"

    def _rate(self, value: float, now: float, window: float) -> float:
        """Slope of the readings within the window; 0 until they span half of it."""
        if not math.isfinite(value):
            return value
        self._values.append((now, value))
        while now - self._values[0][0] > window:
            self._values.popleft()
        times, values = np.array(self._values).T
        # The noise of two readings in a row would look like a steep slope.
        if now - times[0] < window / 2:
            return 0.0
        times = times - times.mean()
        return float(times @ values / (times @ times))
