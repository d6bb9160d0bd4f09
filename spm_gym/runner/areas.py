"""Which approach areas a run has been in, with their coarse positions."""

from __future__ import annotations

from collections.abc import Callable

from spm_gym.envs.navigation import Navigator
from spm_gym.envs.regions import area_direction
from spm_gym.journal.writer import Journal
from spm_gym.runner.notify import NotificationKind
from spm_gym.runner.run_state import RunState


class Areas:
    """Approach areas, in the order of their use.

    Args:
        survey: Of the microscope.
        journal: Is told of everything.
        memory: Where the run stands.
        notify: Takes the kind of a notification and its text.
    """

    def __init__(
        self,
        navigator: Navigator,
        journal: Journal,
        memory: RunState,
        notify: Callable[[NotificationKind, str], None],
    ) -> None:
        self.navigator = navigator
        self.journal = journal
        self.memory = memory
        self._notify = notify

    def begin(self) -> None:
        """Note the first one."""
        self._note(certain=True, reason="start")

    def enter_next(self, certain: bool, reason: str) -> None:
        """Note that the microscope was moved to the next one, or may have been.

        Args:
            certain: Whether it was. Otherwise what was used in the old area is not used again.
            reason: Why.
        """
        m = self.memory
        dx, dy = area_direction(m.area).stride
        m.area, m.coarse = m.area + 1, (m.coarse[0] + dx, m.coarse[1] + dy)
        m.frame, m.clean_at, m.leaving = None, None, ""
        used = [] if certain else self.navigator.regions.marks
        self.navigator.enter_area(m.area)
        self._note(certain, reason)
        for mark in used:
            self.navigator.mark(mark.x, mark.y, mark.radius, mark.reason)
        text = f"approach area {m.area} entered ({reason})"
        self.journal.add_event(m.now, "area change", text)
        self._notify(NotificationKind.AREA_CHANGE, text)

    def enter_unknown(self) -> None:
        """Note that the microscope was moved by hand, to an area that is fresh."""
        self.navigator.enter_area(self.memory.area)
        self.enter_next(certain=False, reason="moved by hand")

    def _note(self, certain: bool, reason: str) -> None:
        m = self.memory
        self.journal.add_area(m.area, m.coarse, certain, m.now, reason)
        m.counters["areas"] += 1
