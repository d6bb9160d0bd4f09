"""Changes of the probe's hidden state: a finite Markov process with its probabilities as data."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from spm_gym.config import ConfigError, Fraction, Section
from spm_gym.config.yaml_file import parse_yaml, plain, read_yaml
from spm_gym.types import Conditioning, Dip, Pulse

STATES = 16


class Shape(IntEnum):
    """Shape of the apex."""

    SHARP = 0
    WEAK = 1
    DOUBLE = 2
    MULTIPLE = 3


@dataclass(frozen=True, slots=True)
class HiddenState:
    """One of the sixteen classes of probes; only labels, oracle and tests may know it."""

    shape: Shape = Shape.SHARP
    contaminated: bool = False
    unstable: bool = False

    @property
    def index(self) -> int:
        """Index of the class, 0 to 15; 0 is the good probe."""
        return 4 * self.shape + 2 * self.contaminated + self.unstable

    @property
    def good(self) -> bool:
        """Whether the probe is sharp, clean and stable."""
        return self.index == 0

    @staticmethod
    def of(index: int) -> HiddenState:
        """Return the class with this index."""
        return HiddenState(Shape(index // 4), bool(index // 2 % 2), bool(index % 2))


def _class_name(index: int) -> str:
    state = HiddenState.of(index)
    flaws = {"contaminated": state.contaminated, "unstable": state.unstable}
    return " ".join([state.shape.name.lower(), *(name for name, there in flaws.items() if there)])


CLASS_NAMES = ("good", *map(_class_name, range(1, STATES)))
"""Names of the classes of probes, in the order of their indices."""

Row = tuple[Fraction, Fraction, Fraction, Fraction]


class ClassTransition(Section):
    """Effect of one event on the probe; see the head of ``transitions.yaml``."""

    shape: tuple[Row, Row, Row, Row]
    desorb: Fraction
    pick_up: Fraction
    stabilise: Fraction
    destabilise: Fraction
    damped: bool = False

    @model_validator(mode="after")
    def _normalised(self) -> ClassTransition:
        for before, row in zip(Shape, self.shape, strict=True):
            if abs(sum(row) - 1) > 1e-9:
                raise ValueError(f"row {before.name} of shape must sum to 1, not {sum(row):g}")
        return self

    def matrix(self, damping: float) -> NDArray[np.float64]:
        """Compute the probabilities (16, 16) from the class before (row) to that after (column)."""
        # Contamination and stability change independently of the shape. A molecule in front of the
        # metal takes the force of a shallow dip, so the shape then changes less often.
        contamination = np.array([[1 - self.pick_up, self.pick_up], [self.desorb, 1 - self.desorb]])
        stability = np.array([[1 - self.destabilise, self.destabilise],
                              [self.stabilise, 1 - self.stabilise]])  # fmt: skip
        clean = np.array(self.shape)
        covered = damping * clean + (1 - damping) * np.eye(4) if self.damped else clean
        shape = np.stack([clean, covered])
        joint = np.einsum("csS,cC,uU->scuSCU", shape, contamination, stability)
        return np.asarray(joint.reshape(STATES, STATES))


class TransitionTable(Section):
    """All events; pulses by bias in V, dips by depth in nm."""

    damping: Fraction
    stall: ClassTransition
    tip_change: ClassTransition
    pulses: Annotated[dict[float, ClassTransition], Field(min_length=1)]
    dips: Annotated[dict[float, ClassTransition], Field(min_length=1)]

    def of(self, action: Conditioning) -> ClassTransition:
        """Return the entry of the table whose bias or depth is nearest to the action's."""
        if isinstance(action, Pulse):
            return self.pulses[min(self.pulses, key=lambda bias: abs(bias - action.bias))]
        if isinstance(action, Dip):
            return self.dips[min(self.dips, key=lambda depth: abs(depth - action.depth * 1e9))]
        return self.stall


class ProbeDynamics:
    """Markov process of a table of transitions.

    Args:
        path: The table (YAML); None for the one of the package.

    Raises:
        ConfigError: The table is missing, incomplete or not made of probabilities.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._table = read_table(path)
        self._acts: dict[Conditioning, list[list[float]]] = {}
        self._change = _cumulated(self.scan_matrix(1.0))

    def action_matrix(self, action: Conditioning) -> NDArray[np.float64]:
        """Compute the probabilities (16, 16) of an action."""
        return self._table.of(action).matrix(self._table.damping)

    def scan_matrix(self, rate: float) -> NDArray[np.float64]:
        """Compute those of a scan in which the tip changes with probability ``rate``."""
        change = self._table.tip_change.matrix(self._table.damping)
        return np.asarray((1 - rate) * np.eye(STATES) + rate * change)

    def act(
        self, state: HiddenState, action: Conditioning, rng: np.random.Generator
    ) -> HiddenState:
        """Draw the class after an action."""
        if action not in self._acts:
            self._acts[action] = _cumulated(self.action_matrix(action))
        return _draw(self._acts[action], state, rng)

    def change(self, state: HiddenState, rng: np.random.Generator) -> HiddenState:
        """Draw the class after a spontaneous tip change."""
        return _draw(self._change, state, rng)


def _cumulated(matrix: NDArray[np.float64]) -> list[list[float]]:
    """Sum probabilities (16, 16) along the rows, for draws by bisection."""
    # Lists: bisecting 16 numbers costs less than one call of NumPy.
    cumulated: list[list[float]] = np.cumsum(matrix, axis=1).tolist()
    return cumulated


def _draw(
    cumulated: list[list[float]], state: HiddenState, rng: np.random.Generator
) -> HiddenState:
    # Rounding may leave the last sum a little below 1.
    return HiddenState.of(min(bisect_right(cumulated[state.index], rng.random()), STATES - 1))


# Cached: every environment of a process reads the same table.
@cache
def read_table(path: Path | None = None) -> TransitionTable:
    """Read a table of transitions.

    Args:
        path: The table (YAML); None for the one of the package.

    Raises:
        ConfigError: It is missing, incomplete or not made of probabilities.
    """
    try:
        if path is None:
            shipped = resources.files(__package__) / "transitions.yaml"
            return TransitionTable.model_validate(
                parse_yaml(shipped.read_text(encoding="utf-8"), shipped.name)
            )
        return TransitionTable.model_validate(read_yaml(path))
    except ConfigError as error:
        raise ConfigError(f"setting simulator.transitions: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        entry = plain(".".join(str(part) for part in first["loc"]))
        raise ConfigError(
            f"setting simulator.transitions = {path}: {entry}: {first['msg']}"
        ) from error
