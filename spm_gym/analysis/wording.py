"""Numbers in words."""

from __future__ import annotations

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
             "tenth")  # fmt: skip
_CARDINALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def ordinal(number: int) -> str:
    """The first, the second, ... the 11th, the 12th, the 21st."""
    if 1 <= number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def plural(number: int, thing: str) -> str:
    """One image, two images, ... 11 images."""
    word = _CARDINALS[number] if 0 <= number < len(_CARDINALS) else f"{number}"
    return f"{word} {thing}{'' if number == 1 else 's'}"


def nm(metres: float) -> str:
    """A place or a length in nm, with a true minus sign."""
    text = f"{metres * 1e9:.0f}"
    return text.replace("-", "−") if text != "-0" else "0"


def unbroken(name: str) -> str:
    """The name of an action, which belongs on one line."""
    return name.replace(" ", "\N{NO-BREAK SPACE}")
