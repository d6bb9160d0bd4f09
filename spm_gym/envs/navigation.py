"""Moving over the sample: from region to region, from one approach area to the next.

The environment and the autonomous runner both do it with this, so that nothing can differ between
training, evaluation and operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from spm_gym.config import ActionConfig, EnvConfig
from spm_gym.envs.regions import Mark, RegionMap, area_direction
from spm_gym.errors import ContactLost, TipWithdrawn, brief
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.validation import validate_act
from spm_gym.instrument.z_window import Window, end_near, extension_in
from spm_gym.scale import NM
from spm_gym.types import Frame, Scan


def _ignore_mark(area: int, mark: Mark) -> None:
    """Do nothing; a function with a name, unlike a lambda, can be pickled with the environment."""


def _ignore_area() -> None:
    """Do nothing, as `_ignore_mark`."""


class Navigator:
    """Leads the tip through approach areas, region by region.

    Attributes:
        area: Number of changes of the approach area so far.
        regions: The map of the present area.
        last_region: Centre of the last region in it, m; None before the first.
        bad_sample: Rough images in a row.
        z_window: Extension of the z piezo to be kept, as ``real.z_window``; None where nobody does.
        on_mark: Called with the number of the area and every place that becomes blocked in it.
        on_area: Called when the coarse motor has moved to the next area.
        wait: Lets so many seconds pass.

    Args:
        instrument: The microscope.
        config: What is imaged.
    """

    def __init__(self, instrument: Instrument, config: EnvConfig) -> None:
        self.instrument = instrument
        self.config = config
        self.z_window: Window | None = None
        self.on_mark: Callable[[int, Mark], None] = _ignore_mark
        self.on_area: Callable[[], None] = _ignore_area
        self.wait: Callable[[float], None] = instrument.wait
        self.enter_area(0)

    def enter_area(self, number: int) -> None:
        """Start an approach area with an empty map."""
        self.area = number
        self.regions = RegionMap(self.config.regions, self.config.extent_nm * NM)
        self.last_region: tuple[float, float] | None = None
        self.bad_sample = 0

    def mark(self, x: float, y: float, radius: float, reason: str) -> None:
        """Block the disc at x, y (m)."""
        self.regions.mark(x, y, radius, reason)
        self.on_mark(self.area, self.regions.marks[-1])

    def next_frame(self, rng: np.random.Generator) -> Frame | None:
        """Choose the frame of the next region; None when the area is used up."""
        region = self.regions.next_region(self.last_region, rng)
        if region is None:
            return None
        self.last_region = region
        config = self.config
        angle = math.radians(config.angle_deg)
        return Frame(*region, size=config.image_nm * NM, pixels=config.pixels, angle=angle)

    def change_area(self) -> None:
        """Move to the next approach area by the coarse motor; the piezos creep afterwards.

        Raises:
            InstrumentError: The move failed; the map is still that of the old area.
        """
        direction = area_direction(self.area)
        try:
            self.instrument.move_area(direction)
        except TipWithdrawn:
            raise
        except ContactLost:
            # Nothing was moved yet: a driver verifies its motor with the tip at the surface, so
            # a tip that is out of contact has to approach before the move is tried again.
            self.instrument.approach()
            self.instrument.move_area(direction)
        self.enter_area(self.area + 1)
        self.on_area()

    def await_creep(self) -> None:
        """Wait for the piezos to settle after a coarse move."""
        self.wait(self.config.creep_wait_s)

    def keep_in_window(self, scan: Scan) -> bool:
        """Let the tip approach again if an image shows the surface near an end of the z range.

        Not within an episode: an action's place is one of the image before it, and the image that
        shows what it did comes next.

        Returns:
            Whether it did.
        """
        extended = extension_in(scan)
        # Nothing is moved because of a height that nobody knows.
        if self.z_window is None or math.isnan(extended):
            return False
        if end_near(extended, self.z_window) is None:
            return False
        self.instrument.withdraw()
        self.instrument.approach()
        self.await_creep()
        return True

    def settle(self, frame: Frame) -> Scan | None:
        """Scan the partial image that is discarded, so that creep decays before the real one."""
        if not self.config.settle_fraction:
            return None
        return self.instrument.scan(frame, self.config.settle_fraction)

    def image(self, frame: Frame) -> Scan:
        """Scan an image or a preview; its place is used up."""
        scan = self.instrument.scan(frame)
        self.use_up(frame)
        return scan

    def use_up(self, frame: Frame) -> None:
        """Block the place of an image: scanning wears it, and the next must be a fresh view."""
        mark = Mark(frame.x, frame.y, self.config.regions.image_blocked_nm * NM, "image")
        # A full image uses up no more than the preview before it.
        if self.regions.marks[-1:] != [mark]:
            self.mark(mark.x, mark.y, mark.radius, mark.reason)

    def reject(self, frame: Frame) -> None:
        """Block the neighbourhood of bad sample, the wider the more there was in a row."""
        self.bad_sample += 1
        # The area of the disc grows in proportion to the count (paper, *Region selection*).
        radius = math.sqrt(self.bad_sample) * self.config.regions.bad_sample_nm * NM
        self.mark(frame.x, frame.y, radius, "bad sample")

    def act(self, action: ActionConfig, place: tuple[float, float]) -> None:
        """Condition the probe at a place (m).

        Raises:
            InstrumentError: The action failed; the place is blocked all the same.
            ValueError: The action or the place is not valid; nothing was sent or blocked.
        """
        if not isinstance(action, ActionConfig):
            raise ValueError(f"an action of the settings is needed, not {brief(action)}")
        validate_act(action.conditioning, *place)
        # Blocked first: the surface may be spoilt from the moment the command is sent, even if
        # its reply never comes.
        self.mark(*place, action.blocked_nm * NM, action.name)
        self.instrument.condition(action.conditioning, *place)
