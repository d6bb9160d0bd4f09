"""Score of a classifier on a lab's labelled images, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.classifier import ProbeClassifier
from agents.classifier_score import summarise_score
from agents.labelled import Labelled
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config
from spm_gym.datasets.labelled import load_labelled
from spm_gym.imaging import normalise
from spm_gym.types import BoolArray


@dataclass(frozen=True, slots=True)
class Scored:
    """A classifier's answers to N images, and what they are worth.

    Attributes:
        summary: See `agents.classifier_score.summarise_score`.
        images: Normalised, (N, H, H).
        probability: Of a good probe, (N,), also of unknown images.
        unknown: Whether each is unlike the training, (N,).
        good: Labels (N,); None if nobody has labelled the images.
        names: Of the images.
    """

    summary: dict[str, Any]
    images: NDArray[np.float32]
    probability: NDArray[np.float64]
    unknown: BoolArray
    good: BoolArray | None
    names: tuple[str, ...]


def score_classifier(config: Config, data: Path, threshold: float | None) -> Scored:
    """Score the classifier of the settings on labelled images.

    Args:
        config: Its file (`env.classifier`), and how images are levelled.
        data: Folder of images, or file of arrays; without labels there are no rates.
        threshold: An image is called good above it; None takes the one that the training
            recommended.

    Raises:
        ClassifierError: The classifier cannot be read.
        FileFormatError: The images cannot be read.
    """
    path = config.env.classifier or shipped_classifier()
    classifier = ProbeClassifier.load(path)
    loaded = load_labelled(data, classifier.pixels, config.env.plane, to_train=False)
    # What has no metres can be compared only with itself.
    scale = classifier.height_scale if loaded.metres else "image"
    images = np.stack([normalise(z, scale) for z in loaded.heights])
    if threshold is None:
        threshold = recommended(classifier, config)
    probability = classifier.probability(images[:, None]).astype(np.float64)
    unknown = classifier.unknown(images[:, None])
    good = loaded.good if loaded.raters.any() else None
    agreed = Labelled(images, loaded.good, loaded.share, raters=loaded.raters).agreed
    summary = summarise_score(
        probability, unknown, good, loaded.session, threshold, agreed if agreed.any() else None
    )
    names = tuple(each.name for each in loaded.paths)
    return Scored(
        {"classifier": str(path), "data": str(data), **summary},
        images, probability, unknown, good, names,
    )  # fmt: skip


def recommended(classifier: ProbeClassifier, config: Config) -> float:
    """Find the threshold that its training recommended; that of the settings, if it has none."""
    # The summary is for people, and files come from others: it may hold anything.
    validation = classifier.summary.get("validation")
    found = validation.get("recommended") if isinstance(validation, dict) else None
    return float(found) if isinstance(found, float) and 0 <= found <= 1 else config.env.good_above
