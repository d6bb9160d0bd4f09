"""How well two people agree on labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_WORDS = (
    (0.0, "less than by chance"),
    (0.2, "hardly more than by chance"),
    (0.4, "weak"),
    (0.6, "moderate"),
    (0.8, "good"),
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two people, on the images that both labelled.

    Attributes:
        first: Their names.
        second: Their names.
        both: How many images both labelled.
        equal: How many of these got the same label from both.
        kappa: Cohen's; None if it is undefined, for want of images or of different labels.
    """

    first: str
    second: str
    both: int
    equal: int
    kappa: float | None

    @property
    def in_words(self) -> str:
        """What the kappa means."""
        if self.kappa is None:
            return "unknown"
        kappa = self.kappa
        return next((word for below, word in _WORDS if kappa < below), "very good")


def agreement(
    first: str, second: str, labels: Mapping[str, str], others: Mapping[str, str]
) -> Agreement:
    """Compare the labels of two people.

    Args:
        first: A name.
        second: Another.
        labels: Those of the first, by image.
        others: Those of the second.
    """
    pairs = [(label, others[image]) for image, label in labels.items() if image in others]
    equal = sum(one == other for one, other in pairs)
    return Agreement(first, second, len(pairs), equal, _kappa(pairs, equal))


def _kappa(pairs: list[tuple[str, str]], equal: int) -> float | None:
    """Cohen's kappa: the share of equal labels beyond that expected by chance, relative to 1."""
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(count * others[label] for label, count in ones.items())
    if by_chance == len(pairs) ** 2:
        return None
    return (len(pairs) * equal - by_chance) / (len(pairs) ** 2 - by_chance)
