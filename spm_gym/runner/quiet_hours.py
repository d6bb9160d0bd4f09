"""Times of the day at which a run pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from datetime import time as time_of_day
from zoneinfo import ZoneInfo


class QuietHours:
    """Tells whether it is quiet time.

    What counts is the clock on the wall: where summer time begins or ends, an interval has the same
    hands of the clock as on other days, and lasts an hour less or more.

    Args:
        intervals: Such as "22:00-06:30": from the first to before the second, over midnight if that
            is earlier.
        time_zone: Name of the zone; None for the computer's.
        now: Seconds since 1970; the time of day, which may be set, since quiet hours follow it.
    """

    def __init__(
        self,
        intervals: Sequence[str],
        time_zone: str | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._intervals = {
            text: [time_of_day.fromisoformat(each) for each in text.split("-")]
            for text in intervals
        }
        self._zone = None if time_zone is None else ZoneInfo(time_zone)
        self._now = now

    def present(self) -> str:
        """Return the interval that it is in; "" for none."""
        # Of the zone, for an hour that is left out or comes twice is one of its clocks.
        clock = datetime.fromtimestamp(self._now(), self._zone).time()
        for text, (begin, end) in self._intervals.items():
            inside = begin <= clock < end if begin < end else clock >= begin or clock < end
            if inside:
                return text
        return ""
