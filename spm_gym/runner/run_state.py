"""Everything a run must know to go on that is not in the other tables of the journal."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from spm_gym.journal.reader import JournalError, Label, read_state
from spm_gym.plain_state import StateError, restored
from spm_gym.runner.states import State
from spm_gym.types import Frame

_T = TypeVar("_T")


class StateFault(RuntimeError):
    """A state was entered without what it works on: a fault of this program."""


def required(value: _T | None, what: str) -> _T:
    """Return what the present state rests on.

    Raises:
        StateFault: It is not there.
    """
    if value is None:
        raise StateFault(f"the run is in a state that needs {what}, and there is none")
    return value


@dataclass(slots=True)
class ClockState:
    """Time of the run; written by `Runner`.

    Attributes:
        now: The instrument's clock at the last transition, s.
        elapsed: Time of operation on that clock, pauses not counted, s.
        summarised: Time of operation at the last daily summary, s.
    """

    now: float = 0.0
    elapsed: float = 0.0
    summarised: float = 0.0


@dataclass(slots=True)
class PlaceState:
    """Where the tip is and what comes next there; written by `Areas`.

    Attributes:
        area: Number of the approach area.
        coarse: Its position, in coarse moves.
        entered: Areas entered so far.
        leaving: Why it is to be left; "" to stay.
        frame: What is being imaged; None when a region is to be chosen.
        clean_at: Where the tip is to be cleaned after a crash, m.
        last_region: As in `Navigator`.
        bad_sample: As in `Navigator`.
    """

    area: int = 0
    coarse: tuple[int, int] = (0, 0)
    entered: int = 0
    leaving: str = ""
    frame: Frame | None = None
    clean_at: tuple[float, float] | None = None
    last_region: tuple[float, float] | None = None
    bad_sample: int = 0


@dataclass(slots=True)
class TipState:
    """Needs of the tip; written by `StateHandlers`.

    Attributes:
        in_contact: Whether it should be at the surface, as far as the run knows.
        settle_due: Whether the piezos creep after a coarse move.
    """

    in_contact: bool = False
    settle_due: bool = False


@dataclass(slots=True)
class ImagingState:
    """Images taken and their verdicts; written by `ImageHandlers`.

    Attributes:
        scans: Rows of the table ``scans``.
        labels: How many of them have which label.
        images: Images taken, without the partial ones.
        scan: Number of the image in hand.
        over_current: Whether the tip drew too much current after that image.
        bad_probe: Images of a bad probe in a row; unknown ones between them are passed over.
        unknown: Unknown images in a row.
        vouched: For the first images, whether the classifier called them good, if the operator
            vouches for the tip; None when that is settled.
    """

    scans: int = 0
    labels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Label), 0))
    images: int = 0
    scan: int | None = None
    over_current: bool = False
    bad_probe: int = 0
    unknown: int = 0
    vouched: list[bool] | None = None


@dataclass(slots=True)
class RecoveryState:
    """Troubles so far; written by `Recovery`.

    Attributes:
        trouble: Kind of the one that is being recovered from.
        in_a_row: Troubles since the last usable image.
        at_frame: Troubles at this frame.
        open: Rows of recoveries that no usable image has ended yet.
        total: Rows of the table ``recoveries``.
        retract_due: Whether the tip has crashed and has not been taken away since.
    """

    trouble: str = ""
    in_a_row: int = 0
    at_frame: int = 0
    open: list[int] = field(default_factory=list)
    total: int = 0
    retract_due: bool = False


@dataclass(slots=True)
class OpenStep:
    """A decision whose outcome was not imaged yet.

    Attributes:
        row: Of the table ``steps``.
        action: That was chosen.
        refused: Whether the environment refused it.
        uncertain: Whether it may not have been carried out.
    """

    row: int
    action: int
    refused: bool
    uncertain: bool


@dataclass(slots=True)
class OpenEpisode:
    """Conditioning under way.

    Attributes:
        number: Row of the table ``episodes``.
        scan: Number of the scan that the next decision rests on.
        steps: Decisions whose outcome was imaged.
        step: The one whose outcome was not, if there is one.
    """

    number: int
    scan: int
    steps: int = 0
    step: OpenStep | None = None


@dataclass(slots=True)
class ConditioningState:
    """Conditioning so far; written by `Conditioning`.

    Attributes:
        episodes: Rows of the table ``episodes``.
        actions: Rows of the table ``steps``.
        episode: The one under way.
        learned: Row of the last decision that the agent has learned from.
        unsaved: Decisions learned from since the last checkpoint.
    """

    episodes: int = 0
    actions: int = 0
    episode: OpenEpisode | None = None
    learned: int = 0
    unsaved: int = 0


@dataclass(slots=True)
class TrainingState:
    """Training or evaluation so far; written by `spm_gym.assembly.recorder.EpisodeRecorder`.

    Attributes:
        steps: Done so far, as the agent counts them: those that a kill has taken from it count
            when they are done again.
    """

    steps: int = 0


@dataclass(slots=True)
class HandOverState:
    """Hand-overs so far; written by `HandOver`.

    Attributes:
        programs: Programs that have had the tip and came to their end.
    """

    programs: int = 0


@dataclass(slots=True)
class ZWindowState:
    """Extension of the z piezo; written by `ZWindow`.

    Attributes:
        extension: In the last image, a share of its range; None if unknown, or decided upon.
        due: Whether the tip is to approach again, because that lay outside ``real.z_window``.
        in_a_row: Images outside it, since the last one within.
    """

    extension: float | None = None
    due: bool = False
    in_a_row: int = 0


@dataclass(slots=True)
class EndingState:
    """The end of the run; written by `Ending`.

    Attributes:
        reason: Why the run has ended, or is to end.
        failed: Whether that is a failure.
        good: Whether it has ended because the probe is good.
    """

    reason: str = ""
    failed: bool = False
    good: bool = False


@dataclass(slots=True)
class KeptState:
    """State of what the run only uses; written by `Runner`.

    Attributes:
        rng: Of the generator that breaks ties between regions.
        policy: Of the policy.
        budget: Of what may be tried without success.
    """

    rng: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class RunState:
    """State of a run between two transitions; each group has one writer, and JSON holds it all.

    Attributes:
        state: What is done next; written by `Runner`.
    """

    state: State = State.APPROACH
    clock: ClockState = field(default_factory=ClockState)
    place: PlaceState = field(default_factory=PlaceState)
    tip: TipState = field(default_factory=TipState)
    imaging: ImagingState = field(default_factory=ImagingState)
    recovery: RecoveryState = field(default_factory=RecoveryState)
    conditioning: ConditioningState = field(default_factory=ConditioningState)
    training: TrainingState = field(default_factory=TrainingState)
    hand_overs: HandOverState = field(default_factory=HandOverState)
    z_window: ZWindowState = field(default_factory=ZWindowState)
    ending: EndingState = field(default_factory=EndingState)
    kept: KeptState = field(default_factory=KeptState)

    @property
    def counters(self) -> dict[str, int]:
        """Rows of the journal by table, steps as actions, and scans by label."""
        # Counted beside the tables, so that `spm-gym journal` finds rows that were lost.
        return {
            "scans": self.imaging.scans,
            "episodes": self.conditioning.episodes,
            "actions": self.conditioning.actions,
            "recoveries": self.recovery.total,
            "areas": self.place.entered,
            **self.imaging.labels,
        }

    @property
    def between_images(self) -> bool:
        """Whether no action waits for the image that shows what it did."""
        episode = self.conditioning.episode
        return episode is None or episode.step is None

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON holds."""
        # Plain values, no pickle: a journal may come from somebody else, and reading it must run
        # nothing.
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> RunState:
        """Take what `to_json` gave.

        Raises:
            StateError: It is something else.
        """
        run_state = restored(cls, values)
        # The names of a dictionary are nothing that its type could check.
        if run_state.imaging.labels.keys() != ImagingState().labels.keys():
            raise StateError(f"it counts the labels {', '.join(run_state.imaging.labels)}")
        return run_state

    @classmethod
    def references(cls, values: Any) -> list[tuple[str, int | None]]:
        """List tables and rows of the journal that a state refers to.

        Raises:
            StateError: It is none.
        """
        # What a recovered journal must still have for the run to go on.
        run_state = cls.from_json(values)
        episode = run_state.conditioning.episode
        step = None if episode is None else episode.step
        return [
            ("scans", run_state.imaging.scan),
            ("scans", None if episode is None else episode.scan),
            ("steps", None if step is None else step.row),
            ("episodes", None if episode is None else episode.number),
            ("areas", run_state.place.area),
        ]


def read_run_state(db: sqlite3.Connection) -> RunState | None:
    """Read the state of a run at its last transition, without a runner; None before the first.

    Raises:
        JournalError: It is damaged.
    """
    values = read_state(db)
    try:
        return None if values is None else RunState.from_json(values)
    except StateError as error:
        raise JournalError(f"the state of the runner in the journal is damaged: {error}") from error
