"""The image classifier: is the probe that took this image good? (paper, *Networks*)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.inference import Inference
from agents.network_file import read_network, refusing, write_network
from agents.vgg import VGG
from spm_gym.config import NetworkConfig
from spm_gym.imaging.conditions import ClassifierError, TrainingConditions
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, checked_scale

FORMAT = "spm-gym probe classifier 2"
UNKNOWN_CONDITIONS = TrainingConditions("real")
"""Nothing is known of the training images: a mismatch with all images."""


class ProbeClassifier:
    """Classifies probes from images; fulfils `spm_gym.types.Classifier`.

    Attributes:
        network: The trained network, as it was in training.
        conditions: Conditions of the images that it was trained with.
        summary: Training and scores, for people; JSON values.
        height_scale: Unit of its images, as in `spm_gym.imaging.normalise`.
    """

    def __init__(
        self,
        network: VGG,
        conditions: TrainingConditions = UNKNOWN_CONDITIONS,
        summary: dict[str, Any] | None = None,
        height_scale: HeightScale = HALF_MOLECULE,
    ) -> None:
        """Take a trained network with one output; it stays on its device.

        Raises:
            ClassifierError: Its weights, or its answer to a known image, are not finite.
            ValueError: There is no such height scale.
        """
        self.network = network.eval()
        self.conditions = conditions
        self.summary = summary or {}
        self.height_scale = checked_scale(height_scale)
        self._answer = Inference(self.network, "classifier", ClassifierError, nn.Sigmoid())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good."""
        return self._answer(images).squeeze(1)

    def save(self, path: Path) -> None:
        """Write weights and all needed to use them; the file appears whole or not at all."""
        about = {
            "format": FORMAT,
            "network": self.network.config.model_dump(mode="json"),
            "pixels": self.network.pixels,
            "height_scale": self.height_scale,
            "conditions": self.conditions.to_json(),
            "summary": self.summary,
            # For people who search for the reason of a difference; nothing reads them.
            "versions": {name: version(name) for name in ("torch", "numpy", "safetensors")},
        }
        write_network(self.network, about, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> ProbeClassifier:
        """Read a file that `save` wrote.

        Raises:
            ClassifierError: There is no such file, or it is not a usable classifier.
        """
        with refusing(path, "a classifier", ClassifierError):
            about, state = read_network(path, FORMAT, device)
            conditions, summary = (
                TrainingConditions.from_json(about["conditions"]),
                about["summary"],
            )
            if not isinstance(summary, dict):
                raise ClassifierError(f"its summary is a {type(summary).__name__}, not an object")
            network = VGG.of_file(
                NetworkConfig(**about["network"]), 1, about["pixels"], state, device
            )
            # Those of before it was written take images of the fixed one.
            return cls(network, conditions, summary, about.get("height_scale", HALF_MOLECULE))
