"""Tables of transitions of other worlds: the one of the package, perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from spm_gym.instrument.sim.dynamics import ClassTransition, TransitionTable, read_table

_FLAGS = ("desorb", "pick_up", "stabilise", "destabilise")


def perturbed(table: TransitionTable, sigma: float, rng: np.random.Generator) -> TransitionTable:
    """Multiply every probability by a log-normal factor and renormalise what belongs together.

    What is impossible stays impossible: a stall never reshapes the apex.

    Args:
        table: The table.
        sigma: Standard deviation of the factors' logarithms; 0 changes nothing.
        rng: Of the factors.
    """

    def row(probabilities: Sequence[float]) -> list[float]:
        weights = probabilities * np.exp(sigma * rng.standard_normal(len(probabilities)))
        normalised: list[float] = (weights / weights.sum()).tolist()
        return normalised

    def single(probability: float) -> float:
        # A probability and its complement are a row of two.
        return row((probability, 1 - probability))[0]

    def event(of: ClassTransition) -> ClassTransition:
        # Built, not copied with updates, which would skip the check of the rows.
        return ClassTransition.model_validate(
            {
                "shape": [row(shape) for shape in of.shape],
                **{name: single(getattr(of, name)) for name in _FLAGS},
                "damped": of.damped,
            }
        )

    return TransitionTable(
        damping=single(table.damping),
        stall=event(table.stall),
        tip_change=event(table.tip_change),
        pulses={bias: event(pulse) for bias, pulse in table.pulses.items()},
        dips={depth: event(dip) for depth, dip in table.dips.items()},
    )


def write_perturbed(path: Path, sigma: float, seed: int) -> None:
    """Write the perturbed table of the package as YAML, for ``simulator.transitions``.

    Args:
        path: Of the file.
        sigma: As in `perturbed`.
        seed: The same seed gives the same table.
    """
    table = perturbed(read_table(), sigma, np.random.default_rng(seed))
    path.write_text(yaml.safe_dump(table.model_dump(), sort_keys=False), encoding="utf-8")
