"""Random changes keep what an image shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.augmentation import augmented
from spm_gym.config import AugmentationConfig, ClassifierConfig

IMAGES = torch.randn(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def changed(**settings: float) -> torch.Tensor:
    config = AugmentationConfig.model_validate({"flips": False, **settings})
    return augmented(IMAGES, config, np.random.default_rng(1))


def test_without_settings_nothing_changes() -> None:
    assert torch.equal(changed(), IMAGES)


def test_a_crop_is_a_part_of_the_image() -> None:
    found = changed(crop=0.5)
    assert found.shape == (40, 1, 6, 6)
    assert any(torch.equal(found, IMAGES[..., r : r + 6, c : c + 6])
               for r in range(7) for c in range(7))  # fmt: skip


def test_contrast_is_a_factor_and_line_noise_an_offset_of_each_line() -> None:
    factors = changed(contrast=0.3) / IMAGES
    assert factors.std(dim=(1, 2, 3)).max() < 1e-3
    assert factors.mean(dim=(1, 2, 3)).log().std() == pytest.approx(0.3, rel=0.4)
    offsets = changed(line_noise=0.5) - IMAGES
    assert offsets.std(dim=3).max() < 1e-5
    assert offsets.std() > 0.1


def test_a_small_turn_leaves_the_middle() -> None:
    wide = torch.nn.functional.interpolate(IMAGES[:, :, :3, :3], size=(30, 30), mode="bilinear")
    config = AugmentationConfig(flips=False, rotation_deg=2)
    found = augmented(wide, config, np.random.default_rng(0))
    assert found.shape == wide.shape
    assert (found - wide)[..., 13:17, 13:17].abs().max() < 0.2
    assert torch.isfinite(found).all()


def test_crops_need_a_network_for_images_of_any_side() -> None:
    with pytest.raises(ValueError, match=r"augmentation\.crop below 1 needs network\.average_maps"):
        ClassifierConfig(augmentation=AugmentationConfig(crop=0.8))
