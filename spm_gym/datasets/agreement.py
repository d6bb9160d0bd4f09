"""Agreement of two people on labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from spm_gym.intervals import normal_reach

FEWEST_IMAGES = 20
"""Images in common that a verdict of the agreement takes."""

_ROUNDING = 1e-12
_WORDS = (
    (0.0, "less than by guessing"),
    (0.2, "hardly more than by guessing"),
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
        error: Its standard error; None if that is unknown, also if they never or always differ.
    """

    first: str
    second: str
    both: int
    equal: int
    kappa: float | None
    error: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the kappa; None below `FEWEST_IMAGES` images or without an error."""
        if self.kappa is None or self.error is None or self.both < FEWEST_IMAGES:
            return None
        reach = normal_reach(self.error)
        return max(self.kappa - reach, -1.0), min(self.kappa + reach, 1.0)

    @property
    def in_words(self) -> str:
        """The kappa, how certain it is, and what it means."""
        if self.both < FEWEST_IMAGES:
            return f"too few images to tell ({self.both} of {FEWEST_IMAGES})"
        if self.kappa is None:
            return "cannot be calculated, for all labels are the same"
        kappa, certain = self.kappa, "no interval, for they differ never or always"
        word = next((word for below, word in _WORDS if kappa < below), "very good")
        if self.interval is not None:
            certain = "95 % interval {:.2f} to {:.2f}".format(*self.interval)
        return f"{kappa:.2f} ({certain}), {word}"


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
    equal = sum(a == b for a, b in pairs)
    kappa = _kappa(pairs, equal)
    error = None if kappa is None else _error(pairs, kappa)
    return Agreement(first, second, len(pairs), equal, kappa, error)


def _kappa(pairs: list[tuple[str, str]], equal: int) -> float | None:
    """Return Cohen's kappa: the share of equal labels beyond that of guessing, relative to 1."""
    firsts, seconds = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    at_random = sum(count * seconds[label] for label, count in firsts.items())
    if at_random == len(pairs) ** 2:
        return None
    return (len(pairs) * equal - at_random) / (len(pairs) ** 2 - at_random)


def _error(pairs: list[tuple[str, str]], kappa: float) -> float | None:
    """Return the standard error of kappa.

    Source: J. L. Fleiss, J. Cohen, B. S. Everitt, *Psychol. Bull.* 72, 323 (1969).
    """
    number = len(pairs)
    firsts, seconds = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    at_random = sum(count * seconds[label] for label, count in firsts.items()) / number**2
    spread = -((kappa - at_random * (1 - kappa)) ** 2)
    for (first, second), count in Counter(pairs).items():
        expected = (firsts[second] + seconds[first]) / number * (1 - kappa)
        spread += count / number * ((first == second) - expected) ** 2
    return math.sqrt(spread / number) / (1 - at_random) if spread > _ROUNDING else None
