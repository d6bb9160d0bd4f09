"""Numbers, sizes and units in the text of headers, as instruments and people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from spm_gym.imaging.files.topography import FileFormatError

# "A" is not an ångström here: Gwyddion and Nanonis both use it for the ampere. The micro sign and
# the Greek letter mu are two characters that look alike, and so are the letter Å and its sign.
METRES = {"m": 1.0, "mm": 1e-3, "µm": 1e-6, "μm": 1e-6, "um": 1e-6, "nm": 1e-9, "pm": 1e-12}
METRES |= {"Å": 1e-10, "\N{ANGSTROM SIGN}": 1e-10, "Ang": 1e-10}
_USUAL_UNITS = "m, mm, µm, nm, pm, Å"
AMPERES = {"A": 1.0, "µA": 1e-6, "μA": 1e-6, "nA": 1e-9, "pA": 1e-12, "fA": 1e-15}
VOLTS = {"": 1.0, "V": 1.0, "mV": 1e-3}

SIZES = 1e-12, 1.0
"""Smallest and largest side that a scan can have, m."""

_NUMBER = re.compile(r"[+-]?(\d{1,40}([.,]\d{0,40})?|[.,]\d{1,40})([eE][+-]?\d{1,4})?")
_LONGEST_QUOTE = 40


def decoded(raw: bytes) -> str:
    """Decode a header: UTF-8, or else Latin-1, in which older programs write their "µ"."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def number(text: str) -> float | None:
    """Read the finite number that a text begins with; None if it begins with something else."""
    first = text.split(maxsplit=1)[:1]
    if not first or not _NUMBER.fullmatch(first[0]):
        return None
    # Instruments on computers with, for example, German settings write a decimal comma.
    value = float(first[0].replace(",", "."))
    return value if math.isfinite(value) else None


def positive(entry: str, text: str) -> float:
    """Read a positive number.

    Args:
        entry: Name of the entry, for messages.
        text: Its text.

    Raises:
        FileFormatError: It is not a positive number.
    """
    found = number(text)
    if found is None or found <= 0:
        raise FileFormatError(f"{entry} is {quoted(text)}; a size is a positive number")
    return found


def size(entry: str, text: str, unit: float = 1.0) -> float:
    """Read a side of a scan, m.

    Args:
        entry: Name of the entry, for messages.
        text: Its text.
        unit: Unit of the number, m.

    Raises:
        FileFormatError: No scan has such a length.
    """
    length = positive(entry, text) * unit
    smallest, largest = SIZES
    if not smallest <= length <= largest:
        raise FileFormatError(
            f"{entry} is {length:g} m; scans are from {smallest:g} m to {largest:g} m wide"
        )
    return length


def metres(text: str, what: str) -> float:
    """Convert a unit of length to m.

    Args:
        text: The unit.
        what: The values that have it, for messages.

    Raises:
        FileFormatError: It is not a unit of length.
    """
    unit = text.strip()
    if unit in METRES:
        return METRES[unit]
    meant = " (ampere)" if unit == "A" else ""
    raise FileFormatError(
        f"its {what} are in {quoted(unit)}{meant}, which is not a length; "
        f"the unit must be one of {_USUAL_UNITS}"
    )


def quantity(text: str, units: Mapping[str, float]) -> float | None:
    """Read a number with one of some units behind it; None if it is something else."""
    value = number(text)
    unit = " ".join(text.split()[1:])
    return None if value is None or unit not in units else value * units[unit]


def quoted(text: str) -> str:
    """Quote text of a file, shortened and on one line."""
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}...")


def data_length(there: int, needed: int, what: str) -> None:
    """Refuse image data that are shorter or longer than the header announces.

    Args:
        there: Bytes behind the header.
        needed: Bytes that the header announces.
        what: Content of the bytes, for messages.

    Raises:
        FileFormatError: The two differ.
    """
    if there < needed:
        raise FileFormatError(
            f"{needed - there} bytes are missing: {what} take {needed} bytes, {there} are there; "
            f"copy the file again, or save the scan again"
        )
    # Too long is a fault too: a transfer as text has inserted bytes, and all pixels are shifted.
    if there > needed:
        raise FileFormatError(
            f"there are {there - needed} bytes too many: {what} take {needed} bytes, {there} are "
            f"there; copy the file again, as binary data"
        )
