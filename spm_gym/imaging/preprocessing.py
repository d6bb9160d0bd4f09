"""How scans become the images that networks take (paper, *Preprocessing*)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import EnvConfig
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, normalise
from spm_gym.imaging.plane import Method, level
from spm_gym.scale import PM
from spm_gym.types import FloatImage


class Preprocessing(NamedTuple):
    """How heights become an image for the networks.

    Attributes:
        method: Finds the substrate, as in `fit_plane`.
        scale: Unit of the normalised heights, as in `normalise`.
    """

    method: Method = "levels"
    scale: HeightScale = HALF_MOLECULE

    @classmethod
    def of(cls, env: EnvConfig) -> Preprocessing:
        """Read it from settings; a scale that they leave to a classifier is the fixed one."""
        given = env.height_scale_pm
        if given is None:
            return cls(env.plane)
        return cls(env.plane, "image" if given == "image" else given * PM)

    def image(self, z: FloatImage) -> NDArray[np.float32]:
        """Level and normalise heights.

        Raises:
            ValueError: They cannot be levelled.
        """
        return normalise(level(z, self.method), self.scale)
