"""The image classifier: is the probe that took this image good? (paper, *Networks*)."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from agents.vgg import VGG, check_finite_output
from spm_gym.atomic_file import written_whole
from spm_gym.config import NetworkConfig
from spm_gym.config.json_file import parse_json
from spm_gym.imaging.conditions import ClassifierError, TrainingConditions

FORMAT = "spm-gym probe classifier 2"
NORMALISATION = "levelled, clip(z / 1e-10 m - 1, -1.5, 1.5)"
_LARGEST_BATCH = 512
UNKNOWN_CONDITIONS = TrainingConditions("real")
"""Nothing is known of the training images: a mismatch with all images."""


class ProbeClassifier:
    """Classifies probes from images; fulfils `spm_gym.types.Classifier`.

    Attributes:
        network: The trained network, as it was in training.
        conditions: Conditions of the images that it was trained with.
        summary: Training and scores, for people; JSON values.
    """

    def __init__(
        self,
        network: VGG,
        conditions: TrainingConditions = UNKNOWN_CONDITIONS,
        summary: dict[str, Any] | None = None,
    ) -> None:
        """Take a trained network with one output; it stays on its device.

        Raises:
            ClassifierError: Its weights, or its answer to a known image, are not finite.
        """
        self.network = network.eval()
        self.conditions = conditions
        self.summary = summary or {}
        self._device = next(network.parameters()).device
        check_finite_output(self.network, network.pixels, ClassifierError)
        # A copy for answers; `network` stays as it was trained, to be saved or trained further.
        self._folded = nn.Sequential(_folded(network.trunk), network.head, nn.Sigmoid()).eval()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good."""
        side = self.network.pixels
        if images.ndim != 4 or images.shape[1:] != (1, side, side):
            raise ClassifierError(
                f"this classifier takes images (N, 1, {side}, {side}), not {images.shape}"
            )
        # In parts, so that the memory of the convolutions does not grow with N.
        stacked = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        with torch.inference_mode():
            parts = [
                self._folded(part.to(self._device)) for part in torch.split(stacked, _LARGEST_BATCH)
            ]
            return torch.cat(parts).squeeze(1).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write weights and all needed to use them; the file appears whole or not at all."""
        about = {
            "format": FORMAT,
            "network": self.network.config.model_dump(mode="json"),
            "pixels": self.network.pixels,
            "normalisation": NORMALISATION,
            "conditions": self.conditions.to_json(),
            "summary": self.summary,
            # For people who search for the reason of a difference; nothing reads them.
            "versions": {name: version(name) for name in ("torch", "numpy", "safetensors")},
        }
        state = {key: value.contiguous() for key, value in self.network.state_dict().items()}
        with written_whole(path) as beside:
            beside.write_bytes(save(state, metadata={"about": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> ProbeClassifier:
        """Read a file that `save` wrote.

        Raises:
            ClassifierError: There is no such file, or it is not a usable classifier.
        """
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                about = _about(file.metadata())
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            config, pixels = NetworkConfig(**about["network"]), about["pixels"]
            network = VGG.of_file(config, 1, pixels, state, device)
            return cls(network, about["conditions"], about["summary"])
        except KeyError as error:
            reason = f"its metadata lack {error}"
        except (OSError, SafetensorError, ValidationError, ValueError) as error:
            reason = _one_line(error)
        except (TypeError, RuntimeError) as error:
            reason = f"its weights do not fit its network: {_one_line(error)}"
        raise ClassifierError(f"{path} is not a classifier written by this project: {reason}")


def _about(metadata: dict[str, str] | None) -> dict[str, Any]:
    """Read the metadata of a file and check the conditions."""
    about = parse_json((metadata or {})["about"])
    if not isinstance(about, dict):
        raise ClassifierError(f"its metadata are a {type(about).__name__}, not an object")
    if about["format"] != FORMAT:
        raise ClassifierError(
            f"its format is {about['format']!r}, not {FORMAT!r}: train it again with train.py"
        )
    if not isinstance(about["summary"], dict):
        raise ClassifierError(f"its summary is a {type(about['summary']).__name__}, not an object")
    return about | {"conditions": TrainingConditions.from_json(about["conditions"])}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _folded(trunk: nn.Sequential) -> nn.Sequential:
    """Fold each batch norm into the convolution before it: a fifth less time for one image."""
    # In evaluation mode a batch norm is a fixed linear map, and so is the convolution before it.
    layers: list[nn.Module] = []
    for layer in trunk.eval():
        if isinstance(layer, nn.BatchNorm2d):
            previous = layers.pop()
            assert isinstance(previous, nn.Conv2d)
            layers.append(fuse_conv_bn_eval(previous, layer))
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
