"""Imaging one region of an approach area after another, and what an image says.

The environment and the autonomous runner both do it with this, so that nothing can differ between
training, evaluation and operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import ActionConfig, EnvConfig
from spm_gym.envs.regions import Mark, RegionMap, area_direction
from spm_gym.errors import ContactLost, TipWithdrawn, UnclassifiableImage, brief
from spm_gym.imaging import Diagnosis, Readings, Square, read_scans
from spm_gym.imaging.conditions import conditions_of, scan_mismatches
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.validation import validate_act
from spm_gym.plain_state import array_of
from spm_gym.types import BoolArray, Classifier, Frame, Scan, read_only

NM = 1e-9
_ANY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class ProcessedScan:
    """One usable image and what was read from it.

    Attributes:
        scan: The raw topography.
        observation: Levelled and normalised image, (1, pixels, pixels); read-only.
        square: Largest clean square, pixels.
        probability: The classifier's probability that the probe is good.
        mask: Which actions the clean square allows; read-only.
    """

    scan: Scan
    observation: Annotated[NDArray[np.float32], array_of(np.float32, 1, None, None)]
    square: Square
    probability: float
    mask: Annotated[BoolArray, array_of(np.bool_, None)]

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", read_only(self.observation))
        object.__setattr__(self, "mask", read_only(self.mask))

    def __reduce__(self) -> tuple[Any, ...]:
        # As for `Scan`.
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    @property
    def clean_side(self) -> float:
        """Side of the largest clean square, m."""
        return self.square.side * self.scan.frame.pixel

    @property
    def place(self) -> tuple[float, float]:
        """Where an action is carried out, m: in the middle of the clean square, or the image."""
        frame = self.scan.frame
        return frame.position(*self.square.centre) if self.square.side else (frame.x, frame.y)


def validate_processed_scan(processed: object, config: EnvConfig) -> None:
    """Refuse what is no processed scan of these settings.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(processed, ProcessedScan):
        raise ValueError(
            f"a processed scan (spm_gym.envs.observation.ProcessedScan) is needed, not "
            f"{brief(processed)}"
        )
    shapes = (1, config.pixels, config.pixels), (len(config.actions),)
    if (
        processed.observation.shape,
        processed.mask.shape,
    ) != shapes or processed.mask.dtype != np.bool_:
        raise ValueError(
            f"a processed scan of these settings has observation and mask {shapes}, bool, not "
            f"{processed.observation.shape} and {processed.mask.shape}, {processed.mask.dtype}"
        )


def allowed_actions(
    actions: Sequence[ActionConfig], side: float | NDArray[np.float64]
) -> BoolArray:
    """Which actions a clean square of this side (m) allows; side 0 means no clean pixel at all.

    Returns:
        (A,), or (N, A) for N sides.
    """
    needed = [0.0 if a.anywhere else max(a.clean_nm * NM * (1 - 1e-9), _ANY) for a in actions]
    return np.asarray(np.asarray(side)[..., None] >= np.array(needed))


def unclassifiable(
    scan: Scan, classifier: Classifier, config: EnvConfig
) -> UnclassifiableImage | None:
    """Why a scan is not one of those that its classifier was trained for; None if it is."""
    trained = conditions_of(classifier)
    if trained is None:
        return None
    found = scan_mismatches(trained, scan, config.accept_mismatch)
    if not found:
        return None
    return UnclassifiableImage(f"the image is not classified: {'; '.join(found.values())}")


def read_all(
    scans: Sequence[Scan], classifiers: Sequence[Classifier], config: EnvConfig
) -> list[ProcessedScan | Diagnosis | UnclassifiableImage]:
    """What the scans of several microscopes say: each processed, or why it cannot be.

    Args:
        scans: As many pixels each.
        classifiers: One for each scan; only usable ones are classified.
        config: What is imaged, allowed and paid.
    """
    readings = _readings(scans, config)
    found: list[ProcessedScan | Diagnosis | UnclassifiableImage] = [
        unclassifiable(scan, classifier, config) or seen
        for scan, classifier, seen in zip(scans, classifiers, readings.diagnoses, strict=True)
    ]
    fine = [row for row, seen in enumerate(found) if seen is Diagnosis.FINE]
    if fine:
        for row, processed in zip(
            fine, _process(scans, readings, fine, classifiers, config), strict=True
        ):
            found[row] = processed
    return found


def read(scan: Scan, classifier: Classifier, config: EnvConfig) -> ProcessedScan:
    """What a usable scan says.

    Raises:
        UnclassifiableImage: The classifier was trained for others, or has no answer.
    """
    error = unclassifiable(scan, classifier, config)
    if error is not None:
        raise error
    [processed] = _process([scan], _readings([scan], config), [0], [classifier], config)
    if isinstance(processed, UnclassifiableImage):
        raise processed
    return processed


def classify_all(
    classifiers: Sequence[Classifier], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Each image by its own classifier; one classifier of all classifies them together."""
    if all(classifier is classifiers[0] for classifier in classifiers):
        return classifiers[0](images)
    return np.concatenate(
        [classifier(images[k : k + 1]) for k, classifier in enumerate(classifiers)]
    )


def _readings(scans: Sequence[Scan], config: EnvConfig) -> Readings:
    with np.errstate(over="ignore"):  # what no single precision holds is infinite, and no height
        heights = np.stack([scan.z for scan in scans], dtype=np.float32, casting="same_kind")
    ranges = np.array([scan.z_range_or_nan for scan in scans])
    return read_scans(heights, ranges, config.plane)


def _process(
    scans: Sequence[Scan],
    readings: Readings,
    rows: Sequence[int],
    classifiers: Sequence[Classifier],
    config: EnvConfig,
) -> list[ProcessedScan | UnclassifiableImage]:
    """Classify some of the scans."""
    seen = readings.observations
    if len(rows) < len(seen):
        seen = seen[rows]
    squares = [readings.squares[row] for row in rows]
    sides = [
        square.side * scans[row].frame.pixel for row, square in zip(rows, squares, strict=True)
    ]
    masks = allowed_actions(config.actions, np.array(sides))
    # Before they are classified: what a classifier does with its images is its own affair.
    observations = [read_only(image) for image in seen]
    probabilities = classify_all([classifiers[row] for row in rows], seen).tolist()
    return [
        ProcessedScan(scans[row], observations[k], squares[k], probabilities[k], masks[k])
        if 0 <= probabilities[k] <= 1  # false for NaN
        else UnclassifiableImage(
            f"the classifier's answer is {probabilities[k]:g} and no probability: nothing is done "
            "on it; use another classifier (env.classifier)"
        )
        for k, row in enumerate(rows)
    ]


def _tell_nobody(area: int, mark: Mark) -> None:
    """Stand in for whoever wants to know; a function with a name can be pickled."""


class Navigator:
    """Works through approach areas, region by region.

    Attributes:
        area: Number of changes of the approach area so far.
        regions: The map of the present area.
        last_region: Centre of the last region in it, m; None before the first.
        bad_sample: Rough images in a row.
        on_mark: Is told of every place that is blocked, with the number of its area.

    Args:
        instrument: The microscope.
        config: What is imaged.
    """

    def __init__(self, instrument: Instrument, config: EnvConfig) -> None:
        self.instrument = instrument
        self.config = config
        self.on_mark: Callable[[int, Mark], None] = _tell_nobody
        self.enter_area(0)

    def enter_area(self, number: int) -> None:
        """Begin with an empty map."""
        self.area = number
        self.regions = RegionMap(self.config.regions, self.config.image_nm * NM)
        self.last_region: tuple[float, float] | None = None
        self.bad_sample = 0

    def mark(self, x: float, y: float, radius: float, reason: str) -> None:
        """Block the disc at x, y (m)."""
        self.regions.mark(x, y, radius, reason)
        self.on_mark(self.area, self.regions.marks[-1])

    def next_frame(self, rng: np.random.Generator) -> Frame | None:
        """The frame of the next region; None when the area is used up."""
        region = self.regions.next_region(self.last_region, rng)
        if region is None:
            return None
        self.last_region = region
        return Frame(*region, size=self.config.image_nm * NM, pixels=self.config.pixels)

    def change_area(self) -> None:
        """Move to the next approach area; the piezos creep afterwards.

        Raises:
            InstrumentError: The map is still that of the old area.
        """
        direction = area_direction(self.area)
        try:
            self.instrument.move_area(direction)
        except TipWithdrawn:
            raise
        except ContactLost:  # nothing was moved: a motor is verified with the tip at the surface
            self.instrument.approach()
            self.instrument.move_area(direction)
        self.enter_area(self.area + 1)

    def await_creep(self) -> None:
        """Wait for the piezos to settle after a coarse move."""
        self.instrument.wait(self.config.creep_wait_s)

    def settle(self, frame: Frame) -> Scan | None:
        """Record the partial image that is discarded, for the piezo to settle at a new place."""
        if not self.config.settle_fraction:
            return None
        return self.instrument.scan(frame, self.config.settle_fraction)

    def image(self, frame: Frame) -> Scan:
        """Record an image; its place is used up."""
        scan = self.instrument.scan(frame)
        self.use_up(frame)
        return scan

    def use_up(self, frame: Frame) -> None:
        """Block the place of an image."""
        self.mark(frame.x, frame.y, self.config.regions.image_blocked_nm * NM, "image")

    def reject(self, frame: Frame) -> None:
        """Block the neighbourhood of bad sample, the further the more there was in a row."""
        self.bad_sample += 1
        radius = math.sqrt(self.bad_sample) * self.config.regions.bad_sample_nm * NM
        self.mark(frame.x, frame.y, radius, "bad sample")

    def act(self, action: ActionConfig, place: tuple[float, float]) -> None:
        """Condition the probe at a place (m).

        Raises:
            InstrumentError: The place is blocked all the same: it is spoilt from the moment the
                command is sent, whatever comes back.
            ValueError: The action or the place is none; nothing was sent or blocked.
        """
        if not isinstance(action, ActionConfig):
            raise ValueError(f"an action of the settings is needed, not {brief(action)}")
        validate_act(action.conditioning, *place)
        self.mark(*place, action.blocked_nm * NM, action.name)
        self.instrument.condition(action.conditioning, *place)
