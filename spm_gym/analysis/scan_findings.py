"""One scan by itself: what is wrong with it, and how good its probe is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import EnvConfig
from spm_gym.imaging import Diagnosis, Square, diagnose, largest_clean_square, level
from spm_gym.imaging.averaging import box_averaged, middle
from spm_gym.imaging.conditions import conditions_of
from spm_gym.imaging.files import Topography
from spm_gym.imaging.image_size import TakenImages, fitting_part
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.scale import NM, length_text
from spm_gym.types import Classifier, FloatImage, Frame, Scan

IN_WORDS = {
    Diagnosis.FINE: "Nothing is wrong with the scan.",
    Diagnosis.PARTIAL: "Lines are missing: the scan is not complete.",
    Diagnosis.LOST_CONTACT: "Lost contact: in part of the scan the tip was out of the reach of "
    "the surface.",
    Diagnosis.CRASH: "Crash: in part of the scan the tip was retracted as far as it goes.",
    Diagnosis.ROUGH: "Rough sample: the heights on the terraces differ by more than 0.6 nm.",
}
"""Diagnoses in words."""

NO_SQUARE = Square(0, 0, 0)
_FEEDBACK_OFF = (
    "Constant height (feedback off): this is no topography and says nothing of the surface; it is "
    "not classified."
)
_ONE_HEIGHT = (
    "All heights are the same: the tip was held at constant height, or at an end of its range; "
    "the scan is not classified."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A scan to be examined.

    Attributes:
        name: For the title.
        z: Heights (H, W), m; NaN where nothing was scanned.
        width: Along x, m; None if unknown.
        height: Along y, m; None if unknown.
        z_range: Lowest and highest height that the z piezo reaches, m; None if unknown.
        feedback: Whether it was on; None if unknown.
        about: Whatever else is known of it.
    """

    name: str
    z: FloatImage
    width: float | None = None
    height: float | None = None
    z_range: tuple[float, float] | None = None
    about: str = ""
    feedback: bool | None = None

    @property
    def topography(self) -> Topography:
        """As a file would hold it."""
        z = np.asarray(self.z, np.float64)
        return Topography(z, self.width, self.height, self.feedback)


@dataclass(frozen=True, slots=True)
class ScanClassifier:
    """A classifier, the side of the images it takes, px, and their height scale."""

    classify: Classifier
    pixels: int
    scale: HeightScale = HALF_MOLECULE


@dataclass(frozen=True, slots=True)
class ScanFindings:
    """Readings of one scan.

    Attributes:
        diagnosis: What is wrong with it; None if that cannot be said.
        levelled: Heights above the substrate, m; None if it cannot be found.
        normalised: As the networks see it; None if they do not take such images.
        square: The largest clean square.
        probability: That the probe is good; None if it was not classified, NaN if the classifier
            does not know such images.
        remarks: Why something is missing.
        scale: Height scale by which it was normalised, or would be.
    """

    diagnosis: Diagnosis | None = None
    levelled: FloatImage | None = None
    normalised: NDArray[np.float32] | None = None
    square: Square = NO_SQUARE
    probability: float | None = None
    remarks: tuple[str, ...] = ()
    scale: HeightScale = HALF_MOLECULE

    @property
    def unknown(self) -> bool:
        """Whether the classifier does not know such images."""
        return self.probability is not None and math.isnan(self.probability)


def examine(subject: Subject, classifier: ScanClassifier | None, config: EnvConfig) -> ScanFindings:
    """Read a scan as the environment does, as far as that is possible.

    Args:
        subject: The scan.
        classifier: The classifier; None for none.
        config: Says how the substrate is found.
    """
    preprocessing = Preprocessing.of(config)
    if classifier is not None:
        preprocessing = preprocessing._replace(scale=classifier.scale)
    # Without feedback the heights are where the tip was held, not where the surface is.
    if subject.feedback is False:
        return ScanFindings(remarks=(_FEEDBACK_OFF,))
    # The same at an end of the z range; with a known range, `diagnose` tells the two apart.
    scanned = subject.z[np.isfinite(subject.z)]
    if subject.z_range is None and scanned.size and scanned.min() == scanned.max():
        return ScanFindings(remarks=(_ONE_HEIGHT,))
    try:
        diagnosis, levelled = _diagnosed(subject), level(subject.z, preprocessing.method)
        normalised, remarks = _for_network(subject, classifier, preprocessing)
    except ValueError as error:
        return ScanFindings(remarks=(f"Not levelled: {error}.",))
    found = ScanFindings(
        diagnosis, levelled, normalised, largest_clean_square(levelled), None, remarks,
        preprocessing.scale,
    )  # fmt: skip
    if classifier is None or normalised is None:
        return found
    # The classifier was trained on whole scans: on a faulty one its probability means nothing.
    if diagnosis is not Diagnosis.FINE:
        faulty = "Not classified: only a scan without faults says how the probe is."
        return replace(found, remarks=(*remarks, faulty))
    probability = float(classifier.classify(normalised[None, None])[0])
    return replace(
        found, probability=probability, remarks=remarks + _unusual(subject, classifier, config)
    )


def _for_network(
    subject: Subject, classifier: ScanClassifier | None, preprocessing: Preprocessing
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """Prepare the image for the classifier, or None if it cannot take it; and remarks on that."""
    if classifier is None:
        return None, ()
    if why := subject.topography.unclassifiable:
        return None, (f"Not classified: {why}.",)
    z, side = subject.z, classifier.pixels
    rows, cols = z.shape
    if rows == cols == side:
        return preprocessing.image(z), ()
    # Not interpolated: detail that was not measured cannot show a probe.
    if rows != cols or rows < side:
        takes = f"the classifier takes {side} x {side} px, or larger squares"
        return None, (f"Not classified: {takes}; this image has {cols} x {rows}.",)
    part = _observed(subject, classifier)
    area = "the image"
    if subject.width is not None and part < rows:
        area = f"the middle {length_text(subject.width * part / rows)} of the image"
    verb = "averaged" if side < part else "cut"
    remark = f"For the network {area} was {verb} to {side} x {side} px."
    return preprocessing.image(box_averaged(middle(z, part), side)), (remark,)


def _observed(subject: Subject, classifier: ScanClassifier) -> int:
    """Choose the middle part that the classifier gets, pixels; all where nothing fits it."""
    pixels, conditions = len(subject.z), conditions_of(classifier.classify)
    if subject.width is None or conditions is None:
        return pixels
    taken = TakenImages(classifier.pixels, conditions.pixel)
    return fitting_part(subject.width, pixels, taken) or pixels


def _diagnosed(subject: Subject) -> Diagnosis:
    z = subject.z
    if subject.z_range is None:
        return diagnose(z)
    # Its size does not matter for what is looked at.
    lines, pixels = z.shape
    frame = Frame(0.0, 0.0, subject.width or 1.0, pixels, lines=lines)
    return diagnose(Scan(frame, z, subject.z_range))


def _unusual(subject: Subject, classifier: ScanClassifier, config: EnvConfig) -> tuple[str, ...]:
    """Warn if the image is not of the size that the classifier was trained on."""
    usual = config.image_nm * NM
    # Settings do not fit to the last nm; a fifth changes no molecule beyond recognition.
    if (
        subject.width is None
        or abs(subject.width - usual) < 0.2 * usual
        or _observed(subject, classifier) < len(subject.z)
    ):
        return ()
    return (
        f"Mind that the image is {length_text(subject.width)} wide: if the classifier knows those "
        f"of {length_text(usual)} only, its probability means nothing.",
    )


def verdict(subject: Subject, findings: ScanFindings, good_above: float) -> str:
    """Sum up what was read from a scan, in one sentence.

    Args:
        subject: The scan.
        findings: What was read from it.
        good_above: A probe is good above this probability.
    """
    sentences = [*classification(findings, good_above), *findings.remarks] or ["Not classified."]
    parts = (sentence[0].lower() + sentence[1:].rstrip(".") for sentence in sentences)
    return f"{subject.name}: {'; '.join(parts)}."


def classification(findings: ScanFindings, good_above: float) -> list[str]:
    """Tell in sentences what is wrong with a scan, and how good its probe is."""
    words = [] if findings.diagnosis is None else [IN_WORDS[findings.diagnosis]]
    if findings.unknown:
        words.append(
            "Unknown: the image is unlike all that the classifier was trained with, so its probe "
            "counts as neither good nor bad."
        )
    elif findings.probability is not None:
        counts_as = "good" if findings.probability > good_above else "bad"
        words.append(
            f"Probability that the probe is good: {findings.probability:.3f}, which counts as "
            f"{counts_as} (good above {good_above:g})."
        )
    return words
