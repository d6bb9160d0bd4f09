"""A clock for what is counted in hours, which nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """Make a clock of seconds since 1970 that goes on evenly from the computer's present time.

    What the computer's own time does later, when somebody sets it or a server corrects it, neither
    ends a run nor makes it endless.
    """
    zero = time.time() - time.monotonic()
    return lambda: zero + time.monotonic()
