"""Where a run is: approach areas with their coarse positions, and the frame in the present one."""

from __future__ import annotations

from dataclasses import dataclass

from spm_gym.envs.regions import Mark, area_direction
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.notify import NotificationKind
from spm_gym.runner.run_state import required
from spm_gym.scale import NM
from spm_gym.types import Frame


@dataclass(frozen=True, slots=True)
class UsedArea:
    """An approach area that an earlier run on the same sample has left the tip in.

    Attributes:
        run: The run.
        area: Number of the area.
        coarse: Its position, in coarse moves.
        last_region: As in `Navigator`.
        marks: Places in it that are blocked.
    """

    run: str
    area: int
    coarse: tuple[int, int]
    last_region: tuple[float, float] | None
    marks: tuple[Mark, ...]


class Areas:
    """Approach areas, in the order of their use, and the places in them."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._place = context.run_state.place
        self.navigator = context.env.navigator
        self.navigator.on_mark = context.journal.add_mark

    @property
    def frame(self) -> Frame:
        """The frame that is being imaged."""
        return required(self._place.frame, "a frame")

    def begin(self) -> None:
        """Note the first area."""
        self._note(certain=True, reason="start")

    def continue_from(self, used: UsedArea) -> None:
        """Begin where an earlier run on the same sample has ended, with what it has used up.

        The areas that it has left before are behind it on the spiral: none of them comes again.
        """
        place = self._place
        place.area, place.coarse, place.last_region = used.area, used.coarse, used.last_region
        self._note(certain=True, reason=f"goes on where {used.run} has ended")
        for mark in used.marks:
            self._context.journal.add_mark(used.area, mark)
        self.restore_map()

    def leave(self, reason: str) -> None:
        """Have the present area left before the next image."""
        self._place.leaving = reason

    def enter_next(self, certain: bool, reason: str) -> None:
        """Note that the microscope was moved to the next area, or may have been.

        Args:
            certain: Whether it was. Otherwise what was used in the old area is not used again.
            reason: Why.
        """
        place = self._place
        dx, dy = area_direction(place.area).stride
        place.area, place.coarse = place.area + 1, (place.coarse[0] + dx, place.coarse[1] + dy)
        # Places belong to one area: in the next one they mean nothing.
        place.frame, place.clean_at, place.leaving = None, None, ""
        # If the motor has not moved, the tip still stands above the places used in the old area.
        used = [] if certain else self.navigator.regions.marks
        self.navigator.enter_area(place.area)
        self._note(certain, reason)
        for mark in used:
            self.navigator.mark(mark.x, mark.y, mark.radius, mark.reason)
        text = f"approach area {place.area} entered ({reason})"
        self._context.add_event("area change", text)
        self._context.hooks.notify(NotificationKind.AREA_CHANGE, text)

    def enter_unknown(self) -> None:
        """Note that the microscope was moved by hand, to an area that is fresh."""
        # A person has chosen the place, so what was blocked in the old area is free here.
        self.navigator.enter_area(self._place.area)
        self.enter_next(certain=False, reason="moved by hand")

    def choose_frame(self) -> bool:
        """Choose what is imaged next; returns whether there is a free region left."""
        self._place.frame = self.navigator.next_frame(self._context.rng)
        return self._place.frame is not None

    def finish_frame(self) -> None:
        """Let the next region be chosen: the frame gave an image of the sample."""
        # The t of sqrt(t) counts bad samples in a row (paper, *Region selection*).
        self._place.frame, self.navigator.bad_sample = None, 0

    def reject_frame(self) -> None:
        """Let the next region be chosen away from here: the sample is rough."""
        self.navigator.reject(self.frame)
        self._place.frame = None

    def block_spot(self, spot: tuple[float, float], reason: str) -> None:
        """Let nothing more be done near a place (m) of trouble; the frame is given up."""
        # A disc, not the frame alone: what a crash has torn out lies around.
        self.navigator.mark(*spot, self._context.config.spot_nm * NM, reason)
        self._place.frame = None

    def clean_later(self, spot: tuple[float, float] | None) -> None:
        """Have the tip cleaned at a place (m); None for not at all."""
        self._place.clean_at = spot

    def take_cleaning_place(self) -> tuple[float, float]:
        """Return where the tip is to be cleaned, m; once, since an act is never repeated."""
        spot = required(self._place.clean_at, "a place to clean the tip")
        # Forgotten before the act: if its reply is lost, it is not done a second time.
        self._place.clean_at = None
        return spot

    def keep_map(self) -> None:
        """Take from the navigator what the journal's table of blocked places does not hold."""
        place = self._place
        place.last_region, place.bad_sample = self.navigator.last_region, self.navigator.bad_sample

    def restore_map(self) -> None:
        """Give the navigator what an earlier session has used up."""
        place, navigator = self._place, self.navigator
        navigator.enter_area(place.area)
        navigator.regions.restore(self._context.journal.marks(place.area))
        navigator.last_region, navigator.bad_sample = place.last_region, place.bad_sample

    def _note(self, certain: bool, reason: str) -> None:
        place, now = self._place, self._context.run_state.clock.now
        self._context.journal.add_area(place.area, place.coarse, certain, now, reason)
        place.entered += 1
