"""Numbers in words, and sentences that several views have in common."""

from __future__ import annotations

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
             "tenth")  # fmt: skip
_CARDINALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

SURVEY = "survey: images only, no pulse and no dip; nothing is classified"
"""What a run without conditioning is, as every view says it."""


def ordinal(number: int) -> str:
    """Write first, second, ... 11th, 12th, 21st."""
    if 1 <= number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def plural(number: int, thing: str) -> str:
    """Write one image, two images, ... 11 images."""
    word = _CARDINALS[number] if 0 <= number < len(_CARDINALS) else f"{number}"
    return f"{word} {thing}{'' if number == 1 else 's'}"


def nm(metres: float) -> str:
    """Write a place or a length in nm, with a true minus sign."""
    text = f"{metres * 1e9:.0f}"
    # A place just left of the centre is rounded to minus nothing.
    return text.replace("-", "−") if text != "-0" else "0"


def unbroken(name: str) -> str:
    """Keep the name of an action on a single line."""
    return name.replace(" ", "\N{NO-BREAK SPACE}")
