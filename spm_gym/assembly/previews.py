"""Previews of the settings: what classifies them, and whether the driver can scan them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.assembly.drivers import capabilities
from spm_gym.config import Config, ConfigError
from spm_gym.imaging.conditions import TrainingConditions, conditions_of
from spm_gym.types import Classifier


@dataclass(frozen=True)
class PreviewClassifier:
    """The recogniser's probability of a good probe; fulfils `spm_gym.types.Classifier`.

    Attributes:
        recogniser: Trained on previews, too, which the classifier of images was not.
        conditions: Those of the classifier of images. It has the last word on every probe, so a
            preview that it would not take as an image is not classified, either.
    """

    recogniser: Classifier
    conditions: TrainingConditions | None

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good."""
        return self.recogniser(images)


def build_preview_classifier(config: Config, classifier: Classifier) -> Classifier | None:
    """Build the classifier of previews; None if the settings have none.

    Args:
        config: All settings.
        classifier: The one of images.

    Raises:
        ConfigError: The recogniser cannot be read, or takes images of other pixels.
    """
    if config.env.preview_lines is None:
        return None
    if config.env.ground_truth:
        return classifier  # the truth needs no image
    from spm_gym.assembly.recogniser import load_recogniser  # torch is slow to import

    return PreviewClassifier(load_recogniser(config), conditions_of(classifier))


def check_previews(config: Config) -> None:
    """See that the driver of a real microscope can take the previews of the settings.

    Raises:
        ConfigError: It cannot.
    """
    able = capabilities(config.real)
    if config.env.preview_lines is not None and not able.previews:
        raise ConfigError(
            f"setting env.preview_lines = {config.env.preview_lines}: the driver "
            f"{config.real.driver} {able.why_not('previews')}; take none (env.preview_lines=null)"
        )
