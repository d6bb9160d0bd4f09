"""Recogniser of the probe's class: the default network with an output for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.belief.errors import BeliefError
from agents.inference import Inference
from agents.network_file import read_network, refusing, write_network
from agents.vgg import VGG
from spm_gym.actions_to_go import GOOD
from spm_gym.config import NetworkConfig
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, checked_scale

FORMAT = "spm-gym probe recogniser 1"


class Recogniser:
    """Gives the probability of each class of probes from an image.

    As a `spm_gym.types.Classifier` it tells good from bad probes, on previews too.

    Args:
        network: Trained network with an output for each of S classes.
        shares: Of the classes among the images of its training, (S,).
        settings: Hash of the settings of the simulator that its images come from.
        summary: Training and scores, for people; JSON values.
        height_scale: Unit of its images, as in `spm_gym.imaging.normalise`.

    Raises:
        BeliefError: Its weights or answers are not finite, or the shares are no distribution.
        ValueError: There is no such height scale.
    """

    def __init__(
        self,
        network: VGG,
        shares: NDArray[np.float64],
        settings: str,
        summary: dict[str, Any] | None = None,
        height_scale: HeightScale = HALF_MOLECULE,
    ) -> None:
        # Likelihoods are quotients by them.
        if shares.shape != (network.head.out_features,) or not (shares > 0).all():
            raise BeliefError(
                f"a positive share of each of {network.head.out_features} classes is needed, "
                f"not {shares.tolist()}"
            )
        if abs(shares.sum() - 1) > 1e-6:
            raise BeliefError(f"the shares of the classes must sum to 1, not {shares.sum():g}")
        self.network, self.shares, self.settings = network, shares, settings
        self.summary = summary or {}
        self.height_scale = checked_scale(height_scale)
        self._answer = Inference(network, "recogniser", BeliefError)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good.

        Good probes are as frequent in it as in the training.

        Raises:
            BeliefError: The images are of other pixels.
        """
        # Rounding may exceed 1 by a bit, which would be no probability.
        return np.exp(np.minimum(self.logarithms(images)[:, GOOD], 0)).astype(np.float32)

    def logarithms(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Map normalised images (N, 1, H, W) to the logarithms (N, S) of the probabilities.

        Raises:
            BeliefError: The images are of other pixels.
        """
        # A mirrored probe is of the same class: the mean over the flips errs less than one answer.
        flips = [images, images[..., ::-1], images[..., ::-1, :], images[..., ::-1, ::-1]]
        outputs = self._answer(np.concatenate(flips)).astype(np.float64)
        each = outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)
        joint = each.reshape(len(flips), *images.shape[:1], -1)
        return np.asarray(np.logaddexp.reduce(joint, axis=0) - np.log(len(flips)))

    def save(self, path: Path) -> None:
        """Write weights and all needed to use them; the file appears whole or not at all."""
        about = {
            "format": FORMAT,
            "network": self.network.config.model_dump(mode="json"),
            "pixels": self.network.pixels,
            "shares": self.shares.tolist(),
            "settings": self.settings,
            "height_scale": self.height_scale,
            "summary": self.summary,
        }
        write_network(self.network.state_dict(), about, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Recogniser:
        """Read a file that `save` wrote.

        Raises:
            BeliefError: There is no such file, or it is not a usable recogniser.
        """
        with refusing(path, "a recogniser", BeliefError):
            about, state = read_network(path, FORMAT, device)
            for name, kind in (("settings", str), ("summary", dict), ("shares", list)):
                if not isinstance(about[name], kind):
                    raise BeliefError(f"its {name} are a {type(about[name]).__name__}")
            shares = np.array(about["shares"], np.float64)
            config = NetworkConfig(**about["network"])
            network = VGG.of_file(config, shares.size, about["pixels"], state, device)
            # Those of before it was written take images of the fixed one.
            scale = about.get("height_scale", HALF_MOLECULE)
            return cls(network, shares, about["settings"], about["summary"], scale)
