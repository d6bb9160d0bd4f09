"""The image classifier: is the probe that took this image good? (paper, *Networks*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.inference import Inference
from agents.network_file import read_network, refusing, write_network
from agents.novelty import Novelty
from agents.vgg import VGG
from spm_gym.config import NetworkConfig
from spm_gym.imaging.conditions import ClassifierError, TrainingConditions
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, checked_scale
from spm_gym.types import BoolArray

FORMAT = "spm-gym probe classifier 3"
UNKNOWN_CONDITIONS = TrainingConditions("real")
"""Nothing is known of the training images: a mismatch with all images."""

_MOST_MEMBERS = 100


class ProbeClassifier:
    """Classifies probes from images; fulfils `spm_gym.types.Classifier`.

    Attributes:
        networks: The trained networks, as they were in training; an answer is their mean.
        conditions: Conditions of the images that they were trained with.
        summary: Training and scores, for people; JSON values.
        temperature: By which their outputs are divided, so that probabilities are calibrated.
        average_flips: Whether an answer is the mean over the four mirror images.
        novelty: Tells which images are unlike all of the training; None knows no such images.
        height_scale: Unit of its images, as in `spm_gym.imaging.normalise`.
    """

    def __init__(
        self,
        networks: Sequence[VGG],
        conditions: TrainingConditions = UNKNOWN_CONDITIONS,
        summary: dict[str, Any] | None = None,
        temperature: float = 1.0,
        average_flips: bool = False,
        novelty: Novelty | None = None,
        height_scale: HeightScale = HALF_MOLECULE,
    ) -> None:
        """Take trained networks with one output; they stay on their device.

        Raises:
            ClassifierError: There is none; they take images of different pixels; weights, or an
                answer to a known image, are not finite; or the temperature is not above 0.
            ValueError: There is no such height scale.
        """
        self.networks = tuple(network.eval() for network in networks)
        if len({network.pixels for network in self.networks}) != 1:
            raise ClassifierError("a classifier has networks for images of the same pixels")
        # Not negated: a comparison with NaN is false.
        if not 0 < temperature < np.inf:
            raise ClassifierError(f"its temperature must be a number above 0, not {temperature}")
        self.conditions = conditions
        self.summary = summary or {}
        self.temperature, self.average_flips, self.novelty = temperature, average_flips, novelty
        self.height_scale = checked_scale(height_scale)
        self._answers = [
            Inference(network, "classifier", ClassifierError) for network in self.networks
        ]

    @property
    def network(self) -> VGG:
        """The first of the networks."""
        return self.networks[0]

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return self.network.pixels

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good.

        It is NaN where the image is unlike all that the classifier was trained with.
        """
        probability = self.probability(images)
        probability[self.unknown(images)] = np.nan
        return probability

    def probability(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the probability (N,), also of images that are unknown."""
        # By the hyperbolic tangent, which does not overflow.
        return (0.5 + 0.5 * np.tanh(self.logits(images) / (2 * self.temperature))).astype(
            np.float32
        )

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the mean output (N,) of the networks, not calibrated."""
        views = [images]
        if self.average_flips:
            views += [images[..., ::-1], images[..., ::-1, :], images[..., ::-1, ::-1]]
        outputs = [answer(view).squeeze(1) for answer in self._answers for view in views]
        return np.asarray(np.mean(outputs, axis=0, dtype=np.float64))

    def unknown(self, images: NDArray[np.float32]) -> BoolArray:
        """Tell which images (N, 1, H, W) are unlike all that it was trained with."""
        if self.novelty is None:
            return np.zeros(len(images), np.bool_)
        return self.novelty.unknown(images)

    def save(self, path: Path) -> None:
        """Write weights and all needed to use them; the file appears whole or not at all."""
        weights = {
            f"members.{number}.{name}": value
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        if self.novelty is not None:
            weights |= {f"novelty.{name}": each for name, each in self.novelty.tensors().items()}
        about = {
            "format": FORMAT,
            "members": len(self.networks),
            "network": self.network.config.model_dump(mode="json"),
            "pixels": self.pixels,
            "temperature": self.temperature,
            "average_flips": self.average_flips,
            "height_scale": self.height_scale,
            "conditions": self.conditions.to_json(),
            "summary": self.summary,
            # For people who search for the reason of a difference; nothing reads them.
            "versions": {name: version(name) for name in ("torch", "numpy", "safetensors")},
        }
        write_network(weights, about, path)

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
            for name, kind in (("summary", dict), ("temperature", float), ("average_flips", bool)):
                if not isinstance(about[name], kind):
                    raise ClassifierError(f"its {name} is a {type(about[name]).__name__}")
            members = about["members"]
            if type(members) is not int or not 1 <= members <= _MOST_MEMBERS:
                raise ClassifierError(f"it has {members!r} networks")
            config, pixels = NetworkConfig(**about["network"]), about["pixels"]
            networks = [
                VGG.of_file(config, 1, pixels, _below(state, f"members.{number}."), device)
                for number in range(members)
            ]
            known = _below(state, "novelty.")
            novelty = Novelty.restored(known) if known else None
            return cls(
                networks, conditions, summary, about["temperature"], about["average_flips"],
                novelty, about["height_scale"],
            )  # fmt: skip


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): each for key, each in state.items() if key.startswith(prefix)}
