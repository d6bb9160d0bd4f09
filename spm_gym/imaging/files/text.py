"""What stands in the text of headers: numbers, sizes and units, as instruments and people write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from spm_gym.imaging.files.topography import FileFormatError

# "A" is not among them: it is the ampere, in a unit of Gwyddion as in one of Nanonis.
METRES = {"m": 1.0, "mm": 1e-3, "µm": 1e-6, "μm": 1e-6, "um": 1e-6, "nm": 1e-9, "pm": 1e-12}
METRES |= {"Å": 1e-10, "\N{ANGSTROM SIGN}": 1e-10, "Ang": 1e-10}
_USUAL_UNITS = "m, mm, µm, nm, pm, Å"
AMPERES = {"A": 1.0, "µA": 1e-6, "μA": 1e-6, "nA": 1e-9, "pA": 1e-12, "fA": 1e-15}
VOLTS = {"": 1.0, "V": 1.0, "mV": 1e-3}

SIZES = 1e-12, 1.0
"""What can be a side of a scan, m."""

_NUMBER = re.compile(r"[+-]?(\d{1,40}([.,]\d{0,40})?|[.,]\d{1,40})([eE][+-]?\d{1,4})?")
_SHOWN = 40


def decoded(raw: bytes) -> str:
    """A header as text: UTF-8, or else Latin-1, in which older programs write their "µ"."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def number(text: str) -> float | None:
    """The finite number that a text begins with; None if it begins with something else.

    A comma is a decimal point: some computers are set so.
    """
    first = text.split(maxsplit=1)[:1]
    if not first or not _NUMBER.fullmatch(first[0]):
        return None
    value = float(first[0].replace(",", "."))
    return value if math.isfinite(value) else None


def positive(entry: str, text: str) -> float:
    """A number that can be a length, in whatever unit.

    Args:
        entry: Where it stands, for messages.
        text: What stands there.

    Raises:
        FileFormatError: It is none.
    """
    found = number(text)
    if found is None or found <= 0:
        raise FileFormatError(f"{entry} says {shown(text)}; a size is a positive number")
    return found


def size(entry: str, text: str, unit: float = 1.0) -> float:
    """A side of a scan, m.

    Args:
        entry: Where it stands, for messages.
        text: What stands there.
        unit: Of the number, m.

    Raises:
        FileFormatError: It is no length that a scan can have.
    """
    length = positive(entry, text) * unit
    smallest, largest = SIZES
    if not smallest <= length <= largest:
        raise FileFormatError(
            f"{entry} says {length:g} m; scans are from {smallest:g} m to {largest:g} m wide"
        )
    return length


def metres(text: str, what: str) -> float:
    """A unit of length, m.

    Args:
        text: The unit.
        what: Is in it, for messages.

    Raises:
        FileFormatError: It is another unit.
    """
    unit = text.strip()
    if unit in METRES:
        return METRES[unit]
    meant = " (ampere)" if unit == "A" else ""
    raise FileFormatError(
        f"its {what} are in {shown(unit)}{meant}, which is no length; "
        f"the unit must be one of {_USUAL_UNITS}"
    )


def quantity(text: str, units: Mapping[str, float]) -> float | None:
    """A number with one of some units behind it; None if it is something else."""
    value = number(text)
    unit = " ".join(text.split()[1:])
    return None if value is None or unit not in units else value * units[unit]


def shown(text: str) -> str:
    """What a file says, short, in quotation marks and on one line."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def data_length(there: int, needed: int, what: str) -> None:
    """Refuse image data that are shorter or longer than the header says.

    Args:
        there: Bytes behind the header.
        needed: Bytes that the header announces.
        what: They are for, for the message.

    Raises:
        FileFormatError: The two differ.
    """
    if there < needed:
        raise FileFormatError(
            f"{needed - there} bytes are missing: {what} take {needed} bytes, {there} are there; "
            f"copy the file again, or save the scan again"
        )
    if there > needed:
        raise FileFormatError(
            f"there are {there - needed} bytes too many: {what} take {needed} bytes, {there} are "
            f"there; copy the file again, as binary data"
        )
