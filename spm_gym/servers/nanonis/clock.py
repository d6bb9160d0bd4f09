"""Clock of the virtual controller: real time, faster, or moving only when something waits."""

from __future__ import annotations

import math
import time


class Clock:
    """Seconds since the controller was switched on.

    Args:
        scale: How much faster than real time it runs; 0: it stands still, and a command that waits
            sets it forward to the end of its wait.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not 0 <= scale < math.inf:
            raise ValueError(f"a clock runs at a finite scale from 0 up, not {scale:g}")
        self.scale = scale
        # Not the time of day: setting that must not move a scan.
        self._started = time.monotonic()
        self._set_to = 0.0

    @property
    def runs(self) -> bool:
        """Whether it moves by itself."""
        return self.scale > 0

    @property
    def now(self) -> float:
        """The time, s."""
        if not self.runs:
            return self._set_to
        return (time.monotonic() - self._started) * self.scale

    def set_forward(self, moment: float) -> None:
        """Set the clock to ``moment`` (s) unless it is later or moves by itself."""
        if not self.runs and moment > self._set_to:
            self._set_to = moment

    def real_seconds(self, moment: float) -> float:
        """Return the real time until ``moment``, s; infinite if the clock stands still."""
        return max(moment - self.now, 0.0) / self.scale if self.runs else math.inf
