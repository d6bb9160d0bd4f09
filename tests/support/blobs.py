"""Images of blobs, sharp or double, and a small network that learns to tell them apart."""

from __future__ import annotations

import numpy as np

from agents.classifier import ProbeClassifier
from agents.labelled import Labelled
from spm_gym.config import ClassifierConfig, NetworkConfig

PIXELS = 24
TINY = NetworkConfig(channels=(8, 16), pooled_sets=2, stem_stride=2, hidden=(16,))
QUICK = ClassifierConfig(network=TINY, epochs=8, batch_size=32, device="cpu", refuse_poor=False)


def blobs(count: int, seed: int) -> Labelled:
    """Three sharp molecules each; a bad probe images each of them twice, a little aside."""
    rng = np.random.default_rng(seed)
    good = rng.random(count) < 0.3
    place = rng.uniform(4, PIXELS - 4, (count, 3, 2))
    aside = rng.uniform(-1, 1, (count, 1, 2))
    aside *= 4 / np.linalg.norm(aside, axis=-1, keepdims=True)
    heights = sharp(place) + np.where(good, 0, 1)[:, None, None] * sharp(place + aside)
    noise = rng.normal(0, 0.05, heights.shape)
    return Labelled(np.clip(2 * heights - 1 + noise, -1.5, 1.5).astype(np.float32), good)


def sharp(place: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:PIXELS, :PIXELS]
    squared = (y - place[..., 0, None, None]) ** 2 + (x - place[..., 1, None, None]) ** 2
    molecules: np.ndarray = np.exp(-squared / 4).sum(axis=1)
    return molecules


def classified(classifier: ProbeClassifier, data: Labelled) -> np.ndarray:
    return classifier.probability(data.images[:, None])
