"""The linescope's protocol: a line of words goes out, a line of words comes back.

Words are separated by one blank; numbers are in SI units, as Python writes them. A reply begins
with ``ok``, or with ``error`` and a kind. See the README for the table of commands.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    TipCrashed,
)

VERSION = "1"
PORT = 7077
LONGEST_LINE = 2**16
_KINDS: dict[str, type[InstrumentError]] = {
    "limit": LimitExceeded,
    "contact": ContactLost,
    "crash": TipCrashed,
    "failed": CommandFailed,
}


def line(*words: object) -> str:
    """A request or a reply; numbers keep every digit."""
    return " ".join(repr(float(word)) if isinstance(word, float) else str(word) for word in words)


def failure(error: Exception) -> str:
    """The reply to a request that could not be carried out."""
    kinds = (kind for kind, raised in _KINDS.items() if isinstance(error, raised))
    return line("error", next(kinds, "failed"), " ".join(str(error).split()))


def read_reply(text: str, request: str) -> list[str]:
    """The words of a reply, without ``ok``.

    Raises:
        InstrumentError: The linescope says that it did not do it; of the kind that it names.
        BadReply: This is no reply.
    """
    state, *words = text.split(" ")
    if state == "ok":
        return words
    if state != "error" or not words:
        raise BadReply(f"{request}: {text[:60]!r} is no reply")
    raise _KINDS.get(words[0], CommandFailed)(f"{request}: {' '.join(words[1:])[:300]}")


def numbers(words: list[str], count: int) -> list[float]:
    """So many numbers.

    Raises:
        BadReply: There are more or fewer, or one is none.
    """
    try:
        found = [float(word) for word in words]
    except ValueError as error:
        raise BadReply(f"not numbers: {' '.join(words)[:60]!r}") from error
    if len(found) != count:
        raise BadReply(f"{len(found)} numbers instead of {count}: {' '.join(words)[:60]!r}")
    return found


def write_row(heights: NDArray[np.float32]) -> str:
    """One row of an image as a word."""
    return base64.b64encode(heights.astype("<f4").tobytes()).decode("ascii")


def read_row(word: str, pixels: int) -> NDArray[np.float32]:
    """One row of an image, m.

    Raises:
        BadReply: It is none, or has another number of pixels.
    """
    try:
        row = np.frombuffer(base64.b64decode(word, validate=True), "<f4")
    except (binascii.Error, ValueError) as error:
        raise BadReply(f"not a row of an image: {word[:40]!r}") from error
    if row.size != pixels:
        raise BadReply(f"a row of {row.size} pixels instead of {pixels}")
    return row.astype(np.float32)
