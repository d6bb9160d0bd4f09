"""Processing of scans: diagnosis, levelling, clean square, probability of a good probe.

The environment and the autonomous runner both do it with this, so that nothing can differ between
training, evaluation and operation.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from spm_gym.config import ActionConfig, EnvConfig
from spm_gym.errors import InstrumentError, UnclassifiableImage, brief
from spm_gym.imaging import Diagnosis, Readings, Square, readings_of
from spm_gym.imaging.conditions import conditions_of, scan_mismatches
from spm_gym.imaging.observed import read_observed
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.plain_state import array_of
from spm_gym.scale import NM
from spm_gym.types import BoolArray, Classifier, Frame, Scan, read_only

_SMALLEST_SIDE = float(np.finfo(np.float64).tiny)
"""An action that needs no clean square of a certain size still needs one clean pixel."""


def checked_answer(probability: float) -> float:
    """Return the answer of a classifier: a probability, or NaN for an unknown image.

    Raises:
        ValueError: It is neither.
    """
    if not (0 <= probability <= 1 or math.isnan(probability)):
        raise ValueError(f"the classifier's answer is {probability:g} and no probability")
    return probability


@dataclass(frozen=True, slots=True)
class ProcessedScan:
    """One usable image, or preview, and everything that was computed from it.

    Attributes:
        scan: The raw topography.
        observation: Levelled and normalised image for the networks, (1, side, side), of all of the
            scan or of its middle (`EnvConfig.observed`); read-only.
        square: Largest clean square, pixels of an image of the scan's frame.
        probability: Probability that the probe is good, by the classifier of images or by that of
            previews; NaN if the image is unlike all that it was trained with.
        mask: Which actions the clean square allows, or an unknown image; read-only.
    """

    scan: Scan
    observation: Annotated[NDArray[np.float32], array_of(np.float32, 1, None, None)]
    square: Square
    probability: Annotated[float, Field(allow_inf_nan=True), AfterValidator(checked_answer)]
    mask: Annotated[BoolArray, array_of(np.bool_, None)]

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", read_only(self.observation))
        object.__setattr__(self, "mask", read_only(self.mask))

    def __reduce__(self) -> tuple[Any, ...]:
        # Built again when it is unpickled, for pickling makes arrays writeable (as for `Scan`).
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    @property
    def preview(self) -> bool:
        """Whether it has fewer lines than an image."""
        return self.scan.frame.is_preview

    @property
    def unknown(self) -> bool:
        """Whether its classifier does not know such images: the probe is neither good nor bad."""
        return math.isnan(self.probability)

    @property
    def clean_side(self) -> float:
        """Side of the largest clean square, m."""
        return self.square.side * self.scan.frame.pixel

    @property
    def place(self) -> tuple[float, float]:
        """Where an action is carried out, m: in the middle of the clean square, or the image."""
        frame = self.scan.frame.full  # the square counts the rows between the lines, too
        return frame.position(*self.square.centre) if self.square.side else (frame.x, frame.y)


def whole_image(processed: ProcessedScan, config: EnvConfig) -> NDArray[np.float32]:
    """Return the levelled and normalised image of a whole scan, (pixels, pixels), for pictures."""
    if processed.observation.shape[-1] == processed.scan.frame.pixels:
        return np.asarray(processed.observation[0])
    whole = readings_of([processed.scan], *Preprocessing.of(config)).observations
    return np.asarray(whole[0, 0])


def validate_processed_scan(processed: object, config: EnvConfig) -> None:
    """Refuse what is not a processed scan of the size and actions of these settings.

    Raises:
        ValueError: Says what is needed and what was given.
    """
    if not isinstance(processed, ProcessedScan):
        raise ValueError(
            f"a processed scan (spm_gym.envs.observation.ProcessedScan) is needed, not "
            f"{brief(processed)}"
        )
    side = config.observed[1]
    shapes = (1, side, side), (len(config.actions),)
    given = processed.observation.shape, processed.mask.shape
    if given != shapes or processed.mask.dtype != np.bool_:
        raise ValueError(
            f"a processed scan of these settings has observation and mask {shapes}, bool, not "
            f"{given[0]} and {given[1]}, {processed.mask.dtype}"
        )


ScanOutcome = ProcessedScan | Diagnosis | InstrumentError
"""Result of scanning a frame: a usable image, why it is not usable, or why there is none."""

Imaging = Generator[Frame, ScanOutcome, None]
"""Yields the frames to scan and is sent the outcome of each."""


def image_frame(frame: Frame, config: EnvConfig) -> Generator[Frame, ScanOutcome, ScanOutcome]:
    """Image a frame: with previews by few lines first, and by all only if these leave a question.

    Returns:
        Outcome of the last scan.
    """
    if config.preview_lines is not None:
        outcome = yield replace(frame, lines=config.preview_lines)
        if not isinstance(outcome, ProcessedScan) or not may_be_good(outcome, config):
            return outcome
    return (yield frame)


def may_be_good(preview: ProcessedScan, config: EnvConfig) -> bool:
    """Whether a full image has to decide about the probe of a preview, as about an unknown one."""
    return preview.unknown or preview.probability >= config.preview_until


def next_frame(imaging: Imaging, outcome: ScanOutcome | None = None) -> Frame | None:
    """Send the outcome of a scan (None to begin) and get the next frame; None at the end.

    Raises:
        InstrumentError: As the generator does.
    """
    try:
        return next(imaging) if outcome is None else imaging.send(outcome)
    except StopIteration:
        return None


def allowed_actions(config: EnvConfig, side: float | NDArray[np.float64]) -> BoolArray:
    """Decide which actions a clean square of this side (m) allows; side 0 means no clean pixel.

    Returns:
        (A,), or (N, A) for N sides.
    """
    needed = [_smallest_side(action, config.may_choose(action)) for action in config.actions]
    return np.asarray(np.asarray(side)[..., None] >= np.array(needed))


def _smallest_side(action: ActionConfig, may_be_chosen: bool) -> float:
    if not may_be_chosen:
        return math.nan  # which no square is as large as
    # The margin of 1e-9 keeps a square of whole pixels that is exactly as large as required.
    needed = max(action.clean_nm * NM * (1 - 1e-9), _SMALLEST_SIDE)
    return 0.0 if action.anywhere else needed


def unclassifiable(
    scan: Scan, classifier: Classifier, config: EnvConfig
) -> UnclassifiableImage | None:
    """Say why a scan is not of the kind that its classifier was trained for; None if it is."""
    trained = conditions_of(classifier)
    if trained is None:
        return None
    part, side = config.observed
    mismatches = scan_mismatches(trained, scan, config.accept_mismatch, part / side)
    if not mismatches:
        return None
    return UnclassifiableImage(f"the image is not classified: {'; '.join(mismatches.values())}")


def classifier_of(scan: Scan, images: Classifier, previews: Classifier | None) -> Classifier:
    """Choose between the classifier of images and that of previews.

    Raises:
        UnclassifiableImage: The scan is a preview, and there is none of previews.
    """
    if not scan.frame.is_preview:
        return images
    if previews is None:
        raise UnclassifiableImage(
            f"a preview of {scan.frame.lines} lines is not classified: the settings take none "
            "(env.preview_lines)"
        )
    return previews


def process_scans(
    scans: Sequence[Scan], classifiers: Sequence[Classifier], config: EnvConfig
) -> list[ProcessedScan | Diagnosis | UnclassifiableImage]:
    """Process the scans of several microscopes together.

    Args:
        scans: N, all with the same number of pixels; some may be previews.
        classifiers: One for each scan; only usable scans are classified.
        config: Settings of the environment.

    Returns:
        For each scan the processed one, or why it cannot be used.
    """
    readings = read_observed(scans, config)
    outcomes: list[ProcessedScan | Diagnosis | UnclassifiableImage] = [
        unclassifiable(scan, classifier, config) or diagnosis
        for scan, classifier, diagnosis in zip(scans, classifiers, readings.diagnoses, strict=True)
    ]
    # Nothing but a fine image reaches the classifier: it was trained on no others, and would
    # answer all the same.
    usable = [row for row, outcome in enumerate(outcomes) if outcome is Diagnosis.FINE]
    if usable:
        classified = _classified(scans, readings, usable, classifiers, config)
        for row, outcome in zip(usable, classified, strict=True):
            outcomes[row] = outcome
    return outcomes


def process_scan(scan: Scan, classifier: Classifier, config: EnvConfig) -> ProcessedScan:
    """Process a scan that was found usable before.

    Raises:
        UnclassifiableImage: The classifier was trained for others, or its answer is no
            probability.
    """
    error = unclassifiable(scan, classifier, config)
    if error is not None:
        raise error
    readings = read_observed([scan], config)
    [processed] = _classified([scan], readings, [0], [classifier], config)
    if isinstance(processed, UnclassifiableImage):
        raise processed
    return processed


def classify_all(
    classifiers: Sequence[Classifier], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Let each classifier classify its own image (1, H, W); one shared by some does it in a batch.

    Returns:
        Probabilities (N,) of a good probe; NaN for unknown images.
    """
    probabilities = np.empty(len(images), np.float32)
    identities = [id(classifier) for classifier in classifiers]
    for identity in dict.fromkeys(identities):
        rows = np.flatnonzero(np.equal(identities, identity))
        probabilities[rows] = classifiers[rows[0]](images[rows])
    return probabilities


def _classified(
    scans: Sequence[Scan],
    readings: Readings,
    rows: Sequence[int],
    classifiers: Sequence[Classifier],
    config: EnvConfig,
) -> list[ProcessedScan | UnclassifiableImage]:
    """Classify those of the scans whose rows are given."""
    images = readings.observations
    if len(rows) < len(images):
        images = images[rows]
    squares = [readings.squares[row] for row in rows]
    sides = [
        square.side * scans[row].frame.pixel for row, square in zip(rows, squares, strict=True)
    ]
    # Copied before they are classified: a classifier may write into what it is given.
    observations = [read_only(image) for image in images]
    answers = classify_all([classifiers[row] for row in rows], images)
    # What cannot be classified is not acted upon: on an unknown image, whose probe may be good,
    # only that is allowed which needs no clean ground, such as doing nothing.
    masks = allowed_actions(config, np.where(np.isnan(answers), 0.0, sides))
    probabilities = answers.tolist()
    outcomes: list[ProcessedScan | UnclassifiableImage] = []
    for k, row in enumerate(rows):
        try:
            answer = checked_answer(probabilities[k])
        except ValueError as error:
            outcomes.append(
                UnclassifiableImage(
                    f"{error}: nothing is done on it; use another classifier (env.classifier)"
                )
            )
        else:
            outcomes.append(
                ProcessedScan(scans[row], observations[k], squares[k], answer, masks[k])
            )
    return outcomes
