"""How many actions the episodes of each policy took, as histograms to be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from spm_gym.analysis.policies import PolicyEpisodes

_MOST_BARS = 25
_FEWEST_BARS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """Episodes of similar length: from and to how many actions, in words; height from 0 to 10."""

    words: str
    number: int
    height: float


def histograms(policies: dict[str, PolicyEpisodes]) -> dict[str, list[Bar]]:
    """Count the episodes of each policy by length, on the same axis."""
    # The same axis for all policies, or their histograms could not be compared by eye.
    longest = max([_FEWEST_BARS, *(max(policy.lengths) for policy in policies.values())])
    width = -(-longest // _MOST_BARS) or 1
    return {name: _bars(policy, longest, width) for name, policy in policies.items()}


def _bars(policy: PolicyEpisodes, longest: int, width: int) -> list[Bar]:
    found = Counter((length - 1) // width for length in policy.lengths)
    highest = max(found.values())
    return [
        Bar(
            _range(place * width + 1, (place + 1) * width),
            found[place],
            10 * found[place] / highest,
        )
        for place in range((longest - 1) // width + 1)
    ]


def _range(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"
