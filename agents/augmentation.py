"""Random changes of images that leave the label, along the lines of a scan."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from spm_gym.config import AugmentationConfig


def augmented(images: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    """Change each image (N, 1, H, H); a crop, the same one for all, makes them smaller.

    Noise is drawn with a strength of its own for each image, up to that of the settings.
    """
    if config.rotation_deg:
        images = _turned(images, config.rotation_deg, rng)
    side = images.shape[-1]
    kept = round(config.crop * side)
    row, col = rng.integers(0, side - kept + 1, size=2)
    images = images[..., row : row + kept, col : col + kept]
    if config.flips:
        images = flipped(images, rng)
    if config.contrast:
        images = images * torch.exp(config.contrast * _normal((len(images), 1, 1, 1), rng, images))
    for strength, width in ((config.line_noise, 1), (config.noise, kept)):
        if strength:
            scale = strength * rng.random((len(images), 1, 1, 1), dtype=np.float32)
            noise = _normal((len(images), 1, kept, width), rng, images)
            images = images + torch.from_numpy(scale).to(images.device) * noise
    return images


def flipped(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror each image (N, 1, H, W) along either axis, each with probability one half."""
    choice = torch.from_numpy(rng.random((2, len(images), 1, 1, 1)) < 0.5).to(images.device)
    images = torch.where(choice[0], images.flip(-1), images)
    return torch.where(choice[1], images.flip(-2), images)


def _normal(shape: tuple[int, ...], rng: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(like.device)


def _turned(images: Tensor, degrees: float, rng: np.random.Generator) -> Tensor:
    angles = np.radians(rng.uniform(-degrees, degrees, len(images)))
    rows = [[[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]] for a in angles]
    grid = affine_grid(torch.tensor(rows), list(images.shape), align_corners=False)
    # Reflected at the edges: a corner without heights would tell that an image was turned.
    return grid_sample(
        images, grid.to(images.device), padding_mode="reflection", align_corners=False
    )
