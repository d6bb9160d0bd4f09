"""Requests and replies of the text protocol: formatted and parsed, nothing sent.

Requests are ASCII without any terminator, such as ``tipshaping(10.5n,-3n,-1.2n,20m,200m)``. What
is known of the protocol, and from where, is in ``docs/deepspm.md``.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import Direction, FloatImage

PORT = 50008
MAX_REQUEST = 1024
SCAN_HEADER = struct.Struct(">ii")
_MAX_PIXELS = 4096
_TINY = 1e-18
_EXPONENTS = {"n": -9, "u": -6, "m": -3, "p": -12, "": 0}
_NUMBER = re.compile(r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?)([nump]?)")
_CALL = re.compile(r"\s*([A-Za-z]{1,32})\s*\(([^()]*)\)\s*")
_CRASHES = re.compile(r"\bwith\s+(\d{1,6})\s+crash", re.IGNORECASE)
_FAILURE = re.compile(
    r"out of bounds|unknown (?:command|parameter)|invalid|fatal|could not|rough image|"
    r"(?<!no )\berror\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """Scan a square; centre and side in m, pixels per side."""

    x: float
    y: float
    size: float
    pixels: int


@dataclass(frozen=True, slots=True)
class TipShaping:
    """Condition the probe at a place.

    Attributes:
        x: Place, m.
        y: Place, m.
        dip: How far the tip moves, m; negative into the surface, zero for a pulse.
        bias: Bias meanwhile, V.
        width: Duration, s.
    """

    x: float
    y: float
    dip: float
    bias: float
    width: float


@dataclass(frozen=True, slots=True)
class TipClean:
    """Recover from a crash at a place, m."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class GetParam:
    """Tell a quantity: "Range" (side of the approach area) or "zRange" (of the z piezo), m."""

    name: str


@dataclass(frozen=True, slots=True)
class Approach:
    """Approach after contact was lost; nothing is known of any argument but "f"."""

    argument: str = "f"


@dataclass(frozen=True, slots=True)
class MoveArea:
    """Move coarsely to a fresh approach area."""

    direction: Direction


Request = ScanRequest | TipShaping | TipClean | GetParam | Approach | MoveArea


def format_request(request: Request) -> bytes:
    """Write a request; no number loses a digit, except that magnitudes below 1e-18 become zero.

    Raises:
        ValueError: A number is not finite or absurdly large, or a word is none.
    """
    match request:
        case ScanRequest(x, y, size, pixels):
            text = f"scan({_nano(x)},{_nano(y)},{_nano(size)},{pixels:d})"
        case TipShaping(x, y, dip, bias, width):
            depth = _nano(dip) if dip else "0"  # as the original writes it
            numbers = (_nano(x), _nano(y), depth, _milli(bias), _milli(width))
            text = f"tipshaping({','.join(numbers)})"
        case TipClean(x, y):
            text = f"tipclean({_nano(x)},{_nano(y)})"
        case GetParam(name):
            text = f"getparam({_word(name)})"
        case Approach(argument):
            text = f"approach({_word(argument)})"
        case MoveArea(direction):
            text = f"movearea({direction.value})"
    if len(text) > MAX_REQUEST:
        raise ValueError(f"a request of {len(text)} characters; at most {MAX_REQUEST} are possible")
    return text.encode("ascii")


def parse_request(data: bytes) -> Request:
    """Read one request; spaces are ignored, as is the case of names.

    Raises:
        ValueError: It is none; says why.
    """
    text = _ascii(data)
    # The original client itself writes a blank in the middle ("10n ,64").
    call = _CALL.fullmatch(text)
    if call is None:
        raise ValueError(f"not a request: {text[:60]!r}")
    name, arguments = call[1].lower(), [word.strip() for word in call[2].split(",")]
    if name not in _PARSERS:
        raise ValueError(f"unknown command {call[1]!r}; known are {', '.join(_PARSERS)}")
    count, parser = _PARSERS[name]
    if len(arguments) != count:
        raise ValueError(f"{name} takes {count} arguments, not {len(arguments)}")
    return parser(arguments)


def parse_number(text: str) -> float:
    """Read a number with or without one of the suffixes n, u, m, p.

    Raises:
        ValueError: It is none, or not finite.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a number with a suffix n, u, m, p or none: {text[:40]!r}")
    number = float(Decimal(match[1]).scaleb(_EXPONENTS[match[2]]))
    if not math.isfinite(number):
        raise ValueError(f"not a finite number: {text[:40]!r}")
    return number


def format_scan(z: FloatImage) -> bytes:
    """Write an image (rows, columns), m, as the reply to a scan."""
    return SCAN_HEADER.pack(*z.shape) + np.asarray(z, dtype=">f4").tobytes()


def parse_scan_shape(header: bytes) -> tuple[int, int]:
    """Read rows and columns from the first eight bytes of the reply to a scan.

    Raises:
        ValueError: There cannot be such an image.
    """
    if len(header) != SCAN_HEADER.size:
        raise ValueError(f"a scan begins with {SCAN_HEADER.size} bytes, not {len(header)}")
    # Bounded: what is read next is allocated by these numbers.
    rows, columns = SCAN_HEADER.unpack(header)
    if not (0 < rows <= _MAX_PIXELS and 0 < columns <= _MAX_PIXELS):
        raise ValueError(f"a scan of {rows} x {columns} pixels; at most {_MAX_PIXELS} are possible")
    return rows, columns


def parse_scan_heights(data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read the heights (rows, columns), m, that follow the header.

    Raises:
        ValueError: Their number is wrong.
    """
    rows, columns = shape
    if len(data) != 4 * rows * columns:
        raise ValueError(f"{len(data)} bytes for {rows} x {columns} pixels of 4 bytes")
    # LabVIEW flattens numbers big-endian.
    return np.frombuffer(data, dtype=">f4").reshape(shape).astype(np.float32)


def is_text(header: bytes) -> bool:
    """Whether a reply to a scan begins as text does, which no size of an image can."""
    return all(0x20 <= byte < 0x7F for byte in header)


def parse_text(data: bytes) -> str:
    """Read a reply in words; never empty.

    Raises:
        ValueError: It is empty, or has other bytes than printable ASCII.
    """
    text = _ascii(data).strip()
    if not text:
        raise ValueError("an empty reply")
    return text


def is_failure(text: str) -> bool:
    """Whether a reply in words says that the request was not, or not well, carried out."""
    return _FAILURE.search(text) is not None


def format_parameter(name: str, value: float) -> bytes:
    """Write the reply to `GetParam`."""
    return f"{name}:{float(value)!r}".encode("ascii")


def parse_parameter(text: str, name: str) -> float:
    """Read the reply to `GetParam` of this name.

    Raises:
        ValueError: It has another name, or is not a positive number.
    """
    named, colon, number = text.partition(":")
    if not colon or named.strip().lower() != name.lower():
        raise ValueError(f"not '{name}:NUMBER': {text[:60]!r}")
    value = parse_number(number)
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value:g}")
    return value


def format_area_change(crashes: int) -> bytes:
    """Write the reply to `MoveArea`."""
    return f"Approach area changed with {crashes} crashes".encode("ascii")


def parse_area_change(text: str) -> int:
    """Read from the reply to `MoveArea` how many crashes there were on the way.

    Raises:
        ValueError: It does not say.
    """
    match = _CRASHES.search(text)
    if match is None:
        raise ValueError(f"not '... with N crashes': {text[:60]!r}")
    return int(match[1])


def parse_clean(text: str) -> bool:
    """Read from the reply to `TipClean` whether the tip was recovered.

    Raises:
        ValueError: It does not say.
    """
    return parse_number(text) == 1


def _parse_scan(words: list[str]) -> ScanRequest:
    x, y, size, pixels = map(parse_number, words)
    if pixels != int(pixels) or not 0 < pixels <= _MAX_PIXELS:
        raise ValueError(f"a scan has 1 to {_MAX_PIXELS} pixels per side, not {pixels:g}")
    if size <= 0:
        raise ValueError(f"the side of a scan must be positive, not {size:g} m")
    return ScanRequest(x, y, size, int(pixels))


def _parse_tip_shaping(words: list[str]) -> TipShaping:
    request = TipShaping(*map(parse_number, words))
    if request.width <= 0:
        raise ValueError(f"tip shaping must take some time, not {request.width:g} s")
    return request


_PARSERS: dict[str, tuple[int, Callable[[list[str]], Request]]] = {
    "scan": (4, _parse_scan),
    "tipshaping": (5, _parse_tip_shaping),
    "tipclean": (2, lambda words: TipClean(*map(parse_number, words))),
    "getparam": (1, lambda words: GetParam(_word(words[0]))),
    "approach": (1, lambda words: Approach(_word(words[0]))),
    "movearea": (1, lambda words: MoveArea(Direction(words[0].lower()))),
}


def _nano(value: float) -> str:
    return _shifted(value, 9) + "n"


def _milli(value: float) -> str:
    return _shifted(value, 3) + "m" if abs(value) < 1 else _shifted(value, 0)


def _shifted(value: float, exponent: int) -> str:
    """The number times a power of ten, digit by digit and without an exponent of its own."""
    if not math.isfinite(value):
        raise ValueError(f"only finite numbers can be sent, not {value}")
    if abs(value) < _TINY:
        return "0"
    # By way of decimals: 1e-9 metres are "1n", not "0.9999999999999999n".
    text = format(Decimal(repr(float(value))).scaleb(exponent), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{0,32}", text):
        raise ValueError(f"not a word of letters and digits: {text[:40]!r}")
    return text


def _ascii(data: bytes) -> str:
    text = data.decode("ascii")  # a UnicodeDecodeError is a ValueError
    if not all(" " <= character < "\x7f" or character in "\t\r\n" for character in text):
        raise ValueError(f"unprintable characters in {text[:60]!r}")
    return text
