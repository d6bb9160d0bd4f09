"""Values in messages."""

from __future__ import annotations

_LONGEST = 60


def brief(value: object) -> str:
    """A value in one short line, also if it is an array."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
