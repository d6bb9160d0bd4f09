"""Names of files and folders for people: a system may hold any bytes, a text may not."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def display_name(path: Path) -> str:
    """The last part of a path as text that every file, page and program takes."""
    return os.fsencode(path.resolve().name).decode("utf-8", "replace")


def is_text(path: Path) -> bool:
    """Whether a path is UTF-8 text; those of old discs and archives may be none."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_typed(path: Path | str) -> str:
    """A path as somebody types it at a shell, whatever it is made of."""
    text = os.fspath(path)
    if text.startswith("-"):  # it would be an option
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # Line breaks and control characters would do something, and half characters cannot be shown.
    return f"$'{''.join(map(_escaped, os.fsencode(text)))}'"


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and chr(byte) not in "'\\"
    return chr(byte) if plain else f"\\x{byte:02x}"
