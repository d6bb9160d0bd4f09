"""State of torch as tensors and plain data, so that reading it from a file runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spm_gym.plain_state import StateError, array_of

Generator = Annotated[NDArray[np.uint8], array_of(np.uint8, None)]
"""State of a generator of torch."""

# Of Adam, beside the number of its steps.
_MOMENTS = ("exp_avg", "exp_avg_sq")


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Collect what Adam keeps of each parameter, by its number and the kind."""
    return {
        f"{number}.{kind}": value
        for number, of_parameter in optimiser.state_dict()["state"].items()
        for kind, value in of_parameter.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, learning_rate: float, kept: Mapping[str, Tensor]
) -> None:
    """Set the learning rate of Adam, and what `moments` gave.

    Raises:
        StateError: They are not those of such an optimiser, or not finite.
    """
    state = optimiser.state_dict()
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    expected = {
        f"{number}.{name}": (parameter if name in _MOMENTS else torch.zeros(()))
        for number, parameter in enumerate(parameters)
        for name in ("step", *_MOMENTS)
    }
    # None at all before the first gradient step.
    if kept.keys() not in (expected.keys(), set()):
        raise StateError("its moments are not those of the optimiser")
    for name, value in kept.items():
        like = expected[name]
        if (value.shape, value.dtype) != (like.shape, like.dtype):
            raise StateError(f"the moment {name} is {tuple(value.shape)} of {value.dtype}")
        if not torch.isfinite(value).all() or (not name.endswith("exp_avg") and (value < 0).any()):
            raise StateError(f"the moment {name} is not finite, or negative")
        number, _, kind = name.partition(".")
        # Laid out in memory like its parameter: the optimiser steps through both alike.
        copied = torch.empty_like(like).copy_(value)
        state["state"].setdefault(int(number), {})[kind] = copied
    for group in state["param_groups"]:
        group["lr"] = learning_rate
    optimiser.load_state_dict(state)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the tensors whose names begin with a prefix, and leave it out of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
