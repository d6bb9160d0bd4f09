"""Names of files and folders as text for people and programs.

Linux allows any bytes in a name. UTF-8 text, and so every page and file of ours, does not.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def display_name(path: Path) -> str:
    """Return the last part of a path as text that any file or page can hold."""
    return os.fsencode(path.resolve().name).decode("utf-8", "replace")


def is_text(path: Path) -> bool:
    """Check whether a path is UTF-8 text; on old discs and in archives some are not."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_typed(path: Path | str) -> str:
    """Quote a path for a shell, whatever bytes it is made of."""
    text = os.fspath(path)
    if text.startswith("-"):  # a program would take it for an option
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # A terminal would obey control characters, and lone surrogates cannot be printed.
    return f"$'{''.join(map(_escaped, os.fsencode(text)))}'"


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and chr(byte) not in "'\\"
    return chr(byte) if plain else f"\\x{byte:02x}"
