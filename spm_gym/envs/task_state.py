"""State of a conditioning task that outlives the program, and checks that it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from spm_gym.config import EnvConfig
from spm_gym.envs.observation import ProcessedScan
from spm_gym.envs.regions import Mark
from spm_gym.plain_state import StateError


@dataclass(frozen=True, slots=True)
class TaskState:
    """State of a `ConditioningTask`, with the attributes of the task and its `Navigator`.

    Attributes:
        mid_episode: Whether an episode can go on from it.
        instrument: State of the instrument; None for a real one.
        marks: Blocked places of the approach area.
        elapsed: Actions so far.
        events: Since the last image.
        chosen: Index of the last action.
        acted: Whether its image is still to come.
        refused: Whether it was not allowed.
        budget: State of the budget; None for a microscope that cannot be harmed.
    """

    mid_episode: bool
    instrument: dict[str, Any] | None
    marks: list[Mark]
    area: Annotated[int, Field(ge=0)]
    last_region: tuple[float, float] | None
    bad_sample: Annotated[int, Field(ge=0)]
    processed: ProcessedScan | None
    last_act: tuple[str, float, float] | None
    elapsed: Annotated[int, Field(ge=0)]
    events: list[str]
    chosen: Annotated[int, Field(ge=0)] | None
    acted: bool
    refused: bool
    uncertain: bool
    budget: dict[str, Any] | None

    def check(self, config: EnvConfig) -> None:
        """Refuse a state that belongs to other images or actions.

        Raises:
            StateError: It does, or it is in mid-episode without an image.
        """
        # Checked before anything is restored: half a state would be worse than none.
        pixels, side, actions = config.pixels, config.observed[1], len(config.actions)
        if self.chosen is not None and self.chosen >= actions:
            raise StateError(f"the kept state has chosen action {self.chosen} of {actions}")
        if self.processed is None:
            if self.mid_episode:
                raise StateError("the kept state is in mid-episode without an image")
            return
        processed, frame = self.processed, self.processed.scan.frame
        sizes = (
            frame.pixels,
            processed.scan.z.shape,
            processed.observation.shape,
            processed.mask.shape,
        )
        fits = sizes == (pixels, frame.shape, (1, side, side), (actions,))
        if not fits or frame.lines not in (pixels, config.preview_lines):
            raise StateError(
                f"the kept state has an image or a mask of other sizes, {sizes}, than {pixels} px, "
                f"observations of {side} px and {actions} actions"
            )
