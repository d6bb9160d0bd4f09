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


def duration(seconds: float) -> str:
    """Roughly how long: 40 seconds, 12 minutes, 3.5 hours, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"


def operation(seconds: float) -> str:
    """Time of operation: always in hours, for runs are given in hours."""
    return f"{seconds / 3600:.1f} h" if seconds >= 360 else f"{seconds / 60:.0f} min"
