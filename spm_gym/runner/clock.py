"""A clock for what is counted in hours, which nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """Seconds since 1970 as the computer has them now, going on evenly from here.

    What the computer's own time does later, when somebody sets it or a server corrects it, neither
    ends a run nor makes it endless.
    """
    zero = time.time() - time.monotonic()
    return lambda: zero + time.monotonic()
