"""What a run must know to go on: everything that is not in the tables of the journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from spm_gym.journal.reader import Label
from spm_gym.plain_state import StateError, restored
from spm_gym.runner.states import State
from spm_gym.types import Frame


def _no_counts() -> dict[str, int]:
    names = ("scans", "episodes", "actions", "recoveries", "areas")
    return dict.fromkeys([*names, *map(str, Label)], 0)


@dataclass(slots=True)
class RunState:
    """State of a run between two transitions; JSON holds all of it.

    Attributes:
        state: What is done next.
        elapsed: Time of operation on the instrument's clock, s.
        now: The instrument's clock at the last transition, s.
        area: Number of the approach area.
        coarse: Its position, in coarse moves.
        last_region: As in `Survey`.
        bad_sample: As in `Survey`.
        frame: What is being imaged: x, y, size, pixels, angle; None when a region is to be chosen.
        scan: Number of the image in hand.
        spot_troubles: Troubles at this frame.
        troubles: Troubles since the last usable image.
        in_contact: Whether the tip should be at the surface, as far as the run knows.
        retract_due: Whether the tip has crashed and has not been taken away since.
        settle_due: Whether the piezos creep after a coarse move.
        over_current: Whether the tip drew too much current after the image in hand.
        trouble: Kind of the one that is being recovered from.
        open_recoveries: Rows of recoveries that no usable image has ended yet.
        leaving: Why the approach area is to be left; "" to stay.
        clean_at: Where the tip is to be cleaned after a crash, m.
        bad_probe: Images of a bad probe in a row.
        vouched: What the classifier has said of the first images, if the operator vouches for the
            tip; None when that is settled.
        budget: State of what may be tried without success.
        episode: Row of the episode under way.
        steps: Decisions in it so far.
        decision_scan: Number of the scan that the next decision rests on.
        step: Row of the decision whose outcome has not been seen yet.
        chosen: Its action.
        refused: Whether the environment refused it.
        uncertain: Whether it may not have been carried out.
        learned: Row of the last decision that the agent has learned from.
        unsaved: Decisions learned from since the last checkpoint.
        rng: State of the generator that breaks ties between regions.
        policy: State of who chooses the actions.
        images: Images taken, without the partial ones.
        counters: Rows of the journal, by kind and label.
        summarised: When the last daily summary was sent, s of `elapsed`.
        ending: Why the run has ended, or is to end.
        failed: Whether that is a failure.
    """

    state: State = State.APPROACH
    elapsed: float = 0.0
    now: float = 0.0
    area: int = 0
    coarse: tuple[int, int] = (0, 0)
    last_region: tuple[float, float] | None = None
    bad_sample: int = 0
    frame: tuple[float, float, float, int, float] | None = None
    scan: int | None = None
    spot_troubles: int = 0
    troubles: int = 0
    in_contact: bool = False
    retract_due: bool = False
    settle_due: bool = False
    over_current: bool = False
    trouble: str = ""
    open_recoveries: list[int] = field(default_factory=list)
    leaving: str = ""
    clean_at: tuple[float, float] | None = None
    bad_probe: int = 0
    vouched: list[bool] | None = None
    budget: dict[str, Any] = field(default_factory=dict)
    episode: int | None = None
    steps: int = 0
    decision_scan: int | None = None
    step: int | None = None
    chosen: int | None = None
    refused: bool = False
    uncertain: bool = False
    learned: int = 0
    unsaved: int = 0
    rng: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    counters: dict[str, int] = field(default_factory=_no_counts)
    summarised: float = 0.0
    ending: str = ""
    failed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunState:
        """Take what `to_json` gave.

        Raises:
            StateError: It is something else.
        """
        memory = restored(cls, values)
        if memory.counters.keys() != _no_counts().keys():
            raise StateError(f"it counts {', '.join(memory.counters)}")
        return memory

    @classmethod
    def references(cls, values: Any) -> list[tuple[str, int | None]]:
        """Tables and rows of the journal that a state refers to.

        Raises:
            StateError: It is none.
        """
        state = cls.from_json(values)
        return [
            ("scans", state.scan),
            ("scans", state.decision_scan),
            ("steps", state.step),
            ("episodes", state.episode),
            ("areas", state.area),
        ]

    @property
    def target(self) -> Frame | None:
        """The frame that is being imaged."""
        return None if self.frame is None else Frame(*self.frame)

    @target.setter
    def target(self, frame: Frame | None) -> None:
        self.frame = None
        if frame is not None:
            self.frame = (frame.x, frame.y, frame.size, frame.pixels, frame.angle)
