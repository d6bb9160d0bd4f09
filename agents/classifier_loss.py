"""The loss that networks of a classifier learn with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def weighted_loss(logits: Tensor, share: Tensor, weight: Tensor, good_weight: float) -> Tensor:
    """Compute the mean cross entropy of outputs (N,) and the share of opinions (N,) for good.

    Args:
        logits: Outputs of a network.
        share: Of the opinions that call each image good.
        weight: Of each image.
        good_weight: Factor of the odds that the network learns; good images are the rarer ones.
    """
    odds = torch.tensor(good_weight, device=logits.device)
    return binary_cross_entropy_with_logits(logits, share, weight, pos_weight=odds)
