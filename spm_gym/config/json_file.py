"""The one place that reads JSON files of settings and state: damage is one kind of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LARGEST_FILE = 64 * 2**20


class JsonError(ValueError):
    """A file is not the JSON that this program writes; the message is one line without its name."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: It cannot be read.
        JsonError: It is damaged, too large, too deep, or names one thing twice.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise JsonError(f"more than {_LARGEST_FILE} bytes")
    return parse_json(content)


def parse_json(content: bytes | str) -> Any:
    """Read JSON text.

    Raises:
        JsonError: It is damaged, too deep, or names one thing twice.
    """
    try:
        # The library takes the last of two equal names without a word.
        return json.loads(content, object_pairs_hook=_once)
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError("too many levels inside one another") from error
    except ValueError as error:  # also half a letter, and numbers of thousands of digits
        raise JsonError(" ".join(str(error).split())) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"{twice[:80]!r} stands there twice")
    return found
