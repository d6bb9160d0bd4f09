"""When an evaluation ends: a rule that is stated before its first episode."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agents.evaluation import Episode, saved_share, score
from spm_gym.intervals import Interval

FIRST_ANALYSIS, ANALYSES_EVERY = 50, 25
"""Blocks after which an evaluation is analysed. Every analysis is an opportunity to stop at an
interval that happens to be narrow and off. So they are few, the first one is late, and it takes two
in a row: with one, an interval of 95 % had the truth in 92 (docs/evaluation.md)."""

Quantity = Literal["normalised_score", "saved_share"]
_WORDS: dict[Quantity, str] = {
    "normalised_score": "normalised score in actions",
    "saved_share": "share of random choice's actions that the agent saves",
}


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Number of blocks of an evaluation; in a block every policy has one episode.

    Attributes:
        blocks: After which it ends at the latest.
        half_width: Half the width of the 95 % interval of ``quantity`` with which it ends before,
            if two analyses in a row find it; None ends it after ``blocks`` only.
        quantity: Figure of `agents.evaluation.summarise` that is estimated.
    """

    blocks: int
    half_width: float | None = None
    quantity: Quantity = "normalised_score"

    @classmethod
    def of(cls, policies: Collection[str], blocks: int, half_width: float) -> StoppingRule:
        """Choose the quantity by the policies: the normalised score needs the oracle.

        Raises:
            ValueError: No rule can be made of these; the message names what is allowed.
        """
        if not 0 < half_width < 1:
            raise ValueError(f"the half-width is a share between 0 and 1, not {half_width}")
        if blocks < FIRST_ANALYSIS + ANALYSES_EVERY:
            raise ValueError(
                f"the second analysis comes after {FIRST_ANALYSIS + ANALYSES_EVERY} episodes of "
                f"each policy, and --episodes allows only {blocks}"
            )
        if not {"agent", "random"} <= set(policies):
            raise ValueError("a comparison needs the policies agent and random")
        quantity: Quantity = "normalised_score" if "oracle" in policies else "saved_share"
        return cls(blocks, half_width, quantity)

    @property
    def text(self) -> str:
        """The rule in words."""
        if self.half_width is None:
            return f"ends after {self.blocks} episodes of each policy"
        return (
            f"ends when at two analyses in a row the 95 % interval of the {_WORDS[self.quantity]} "
            f"is no wider than +-{self.half_width:g}; it is analysed after {FIRST_ANALYSIS} "
            f"episodes of each policy and every {ANALYSES_EVERY} further ones, and ends after "
            f"{self.blocks} in any case"
        )

    def met(self, results: Mapping[str, Sequence[Episode]], seed: int) -> bool:
        """Whether the evaluation ends here.

        Args:
            results: Episodes by policy so far.
            seed: Of the bootstrap, as for `agents.evaluation.summarise`.
        """
        blocks = min(map(len, results.values()))
        if max(map(len, results.values())) > blocks:
            return False  # in the middle of a block, which only some policies have had
        if blocks >= self.blocks:
            return True
        before = blocks - ANALYSES_EVERY
        if before < FIRST_ANALYSIS or (before - FIRST_ANALYSIS) % ANALYSES_EVERY:
            return False
        return all(
            self._precise({name: each[:number] for name, each in results.items()}, seed)
            for number in (blocks, before)
        )

    def interval(self, results: Mapping[str, Sequence[Episode]], seed: int) -> Interval | None:
        """Compute the 95 % interval of the quantity; None where it is not defined."""
        lengths = {name: [episode.length for episode in each] for name, each in results.items()}
        estimate = score if self.quantity == "normalised_score" else saved_share
        figure = estimate(lengths, seed)
        if figure is None or figure["ci95"] is None:
            return None
        low, high = figure["ci95"]
        return low, high

    def ending(self, results: Mapping[str, Sequence[Episode]], seed: int) -> str:
        """Name how an evaluation with these episodes ended."""
        if not self.met(results, seed):
            return "interrupted"
        return "all blocks" if min(map(len, results.values())) == self.blocks else "precise"

    def _precise(self, results: Mapping[str, Sequence[Episode]], seed: int) -> bool:
        if self.half_width is None or (interval := self.interval(results, seed)) is None:
            return False
        return interval[1] - interval[0] <= 2 * self.half_width

    def document(self) -> dict[str, Any]:
        """Give the rule for a file, in words and numbers."""
        early = self.half_width is not None
        return {
            "text": self.text,
            **asdict(self),
            "quantity": self.quantity if early else None,
            "first_analysis": FIRST_ANALYSIS if early else None,
            "analyses_every": ANALYSES_EVERY if early else None,
        }
