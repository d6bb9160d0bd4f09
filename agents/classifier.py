"""The image classifier: is the probe that took this image good? (paper, *Networks*)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.inference import Inference
from agents.network_file import read_network, refusing, write_network
from agents.novelty import Novelty
from agents.statistics_network import StatisticsNetwork
from agents.torch_state import below
from agents.vgg import VGG, extreme_image
from spm_gym.config import NetworkConfig
from spm_gym.imaging.conditions import ClassifierError, TrainingConditions
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, checked_scale
from spm_gym.imaging.statistics import image_statistics
from spm_gym.types import BoolArray

FORMAT = "spm-gym probe classifier 4"
UNKNOWN_CONDITIONS = TrainingConditions("real")
"""Nothing is known of the training images: a mismatch with all images."""

_MOST_MEMBERS = 100
_KINDS = {"summary": dict, "temperature": float, "statistics_weight": float, "average_flips": bool}
"""Of values in a file."""


class ProbeClassifier:
    """Classifies probes from images; fulfils `spm_gym.types.Classifier`.

    Attributes:
        networks: The trained networks, as they were in training; an answer is their mean.
        statistics_networks: Further ones, on statistics of the image; none in the paper.
        statistics_weight: By which the mean of their outputs is multiplied before it is added.
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
        statistics_networks: Sequence[StatisticsNetwork] = (),
        statistics_weight: float = 0.0,
    ) -> None:
        """Take trained networks with one output; they stay on their device.

        Raises:
            ClassifierError: There is none; they take images of different pixels; weights, or an
                answer to a known image, are not finite; the temperature is not above 0; or the
                weight of the statistics is negative.
            ValueError: There is no such height scale.
        """
        self.networks = tuple(network.eval() for network in networks)
        if len({network.pixels for network in self.networks}) != 1:
            raise ClassifierError("a classifier has networks for images of the same pixels")
        # Not negated: a comparison with NaN is false.
        if not 0 < temperature < np.inf:
            raise ClassifierError(f"its temperature must be a number above 0, not {temperature}")
        if not 0 <= statistics_weight < np.inf:
            raise ClassifierError(
                f"the weight of its statistics must be 0 or more, not {statistics_weight}"
            )
        self.statistics_networks = tuple(statistics_networks)
        self.statistics_weight = statistics_weight
        self.conditions = conditions
        self.summary = summary or {}
        self.temperature, self.average_flips, self.novelty = temperature, average_flips, novelty
        self.height_scale = checked_scale(height_scale)
        self._answers = [
            Inference(network, "classifier", ClassifierError) for network in self.networks
        ]
        if not np.isfinite(self.probability(extreme_image(self.pixels))).all():
            raise ClassifierError("its answer to a known image is not finite")

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
        # Measured once for both: of a single image they take as long as the network.
        statistics = self._statistics(images)
        probability = self._probability(images, statistics)
        probability[self._unknown(images, statistics)] = np.nan
        return probability

    def probability(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the probability (N,), also of images that are unknown."""
        return self._probability(images, self._statistics(images))

    def unknown(self, images: NDArray[np.float32]) -> BoolArray:
        """Tell which images (N, 1, H, W) are unlike all that it was trained with."""
        return self._unknown(images, self._statistics(images))

    def outputs(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the mean output (N,) of the networks, not calibrated, without statistics."""
        views = [images]
        if self.average_flips:
            views += [images[..., ::-1], images[..., ::-1, :], images[..., ::-1, ::-1]]
        outputs = [answer(view).squeeze(1) for answer in self._answers for view in views]
        return np.asarray(np.mean(outputs, axis=0, dtype=np.float64))

    def _statistics(self, images: NDArray[np.float32]) -> NDArray[np.float64] | None:
        if self.novelty is None and not self.statistics_networks:
            return None
        return image_statistics(images)

    def _probability(
        self, images: NDArray[np.float32], statistics: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        logits = self.outputs(images)
        if statistics is not None and self.statistics_networks:
            others = [network.answer(statistics) for network in self.statistics_networks]
            logits += self.statistics_weight * np.mean(others, axis=0, dtype=np.float64)
        return probability_of(logits / self.temperature)

    def _unknown(
        self, images: NDArray[np.float32], statistics: NDArray[np.float64] | None
    ) -> BoolArray:
        if statistics is None or self.novelty is None:
            return np.zeros(len(images), np.bool_)
        return self.novelty.unknown(statistics)

    def save(self, path: Path) -> None:
        """Write weights and all needed to use them; the file appears whole or not at all."""
        weights = {
            f"members.{number}.{name}": value
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        weights |= {
            f"statistics.{number}.{name}": value
            for number, network in enumerate(self.statistics_networks)
            for name, value in network.state_dict().items()
        }
        if self.novelty is not None:
            weights |= {f"novelty.{name}": each for name, each in self.novelty.tensors().items()}
        about = {
            "format": FORMAT,
            "members": len(self.networks),
            "statistics_members": len(self.statistics_networks),
            "statistics_weight": self.statistics_weight,
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
            for name, kind in _KINDS.items():
                if not isinstance(about[name], kind):
                    raise ClassifierError(f"its {name} is a {type(about[name]).__name__}")
            members, further = about["members"], about["statistics_members"]
            for number, least in ((members, 1), (further, 0)):
                if type(number) is not int or not least <= number <= _MOST_MEMBERS:
                    raise ClassifierError(f"it has {number!r} networks")
            config, pixels = NetworkConfig(**about["network"]), about["pixels"]
            networks = [
                VGG.of_file(config, 1, pixels, below(f"members.{number}.", state), device)
                for number in range(members)
            ]
            others = [
                StatisticsNetwork.of_file(below(f"statistics.{number}.", state))
                for number in range(further)
            ]
            known = below("novelty.", state)
            novelty = Novelty.restored(known) if known else None
            return cls(
                networks, conditions, summary, about["temperature"], about["average_flips"],
                novelty, about["height_scale"], others, about["statistics_weight"],
            )  # fmt: skip


def probability_of(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map calibrated logits (N,) to probabilities."""
    # By the hyperbolic tangent, which does not overflow.
    return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32)
