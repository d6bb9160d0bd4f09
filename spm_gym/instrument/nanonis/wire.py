"""The wire format: frames, values and error blocks (protocol document, *Message structure*).

All numbers are big-endian. A request is a header (name in 32 bytes, size of the body, whether a
reply is expected) and a body; a reply has the same header, and its body ends with an error block.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spm_gym.instrument.nanonis.commands import Command, Field

HEADER_SIZE = 40
LARGEST_BODY = 256 * 2**20
"""Bytes; twice the largest frame that a controller can record."""

_NAME_SIZE = 32
_HEADER = struct.Struct(">32siHH")
_FORMAT = {"u16": ">u2", "u32": ">u4", "i32": ">i4", "f32": ">f4", "f64": ">f8"}
_PACKED = {name: struct.Struct(code) for name, code in
           {"u16": ">H", "u32": ">I", "i32": ">i", "f32": ">f", "f64": ">d"}.items()}  # fmt: skip
_ERROR_BLOCK = struct.Struct(">Ii")

Values = dict[str, Any]


class WireError(ValueError):
    """Bytes that are no message, or values that no message can carry."""


class ErrorReply(Exception):
    """A reply whose error block tells a failure: its status number and its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Header:
    """Beginning of a message; ``name`` is "" if it is no ASCII text."""

    name: str
    size: int
    wants_reply: bool


def encode_request(command: Command, values: Mapping[str, Any]) -> bytes:
    """Build a request that wants a reply.

    Raises:
        WireError: A value is missing, unknown, out of range or not finite.
    """
    unknown = values.keys() - {field.name for field in command.request}
    if unknown:
        raise WireError(f"{command.name} has no argument {sorted(unknown)[0]!r}")
    return encode_message(command.name, _encode(command, command.request, values, finite=True), 1)


def encode_reply(command: Command, values: Mapping[str, Any]) -> bytes:
    """Build the reply of a command that succeeded."""
    body = _encode(command, command.reply, values, finite=False)
    return encode_message(command.name, body + _ERROR_BLOCK.pack(0, 0))


def encode_error(name: str, text: str, status: int = 1) -> bytes:
    """Build the reply of a command that failed: an error block and no values."""
    # Clients decode texts of errors as UTF-8 or Latin-1: ASCII is both.
    encoded = text.encode("ascii", "replace")
    return encode_message(name, _ERROR_BLOCK.pack(status, len(encoded)) + encoded)


def encode_message(name: str, body: bytes, flag: int = 0) -> bytes:
    """Put the header before a body."""
    return _HEADER.pack(name.encode("ascii")[:_NAME_SIZE], len(body), flag, 0) + body


def decode_header(data: bytes) -> Header:
    """Read the 40 bytes that begin a message.

    Raises:
        WireError: The size or the flag is impossible, so that what follows cannot be framed.
    """
    raw, size, flag, _ = _HEADER.unpack(data)
    if not 0 <= size <= LARGEST_BODY:
        raise WireError(f"a body of {size} bytes; allowed are 0 to {LARGEST_BODY}")
    # Only requests use it; a reply with another value was framed wrong before.
    if flag > 1:
        raise WireError(f"a send-response flag of {flag}; allowed are 0 and 1")
    name, _, padding = raw.partition(b"\0")
    readable = name.isascii() and not padding.strip(b"\0")
    return Header(name.decode("ascii") if readable else "", size, bool(flag))


def decode_request(command: Command, body: bytes) -> Values:
    """Read the arguments of a request.

    Raises:
        WireError: They do not fill the body exactly.
    """
    # Clients disagree on what the size before an array of strings counts.
    reader = _Reader(body, trust_sizes=False)
    values = reader.values(command.request)
    reader.end()
    return values


def decode_reply(command: Command, body: bytes) -> Values:
    """Read the return values of a reply.

    Raises:
        ErrorReply: The error block says that the command failed.
        WireError: Values and error block do not fill the body exactly.
    """
    reader = _Reader(body, trust_sizes=True)
    try:
        values = reader.values(command.reply)
        status, text = reader.error_block()
        reader.end()
    except WireError:
        # An error block may come alone, or behind fewer zeros than the values would take.
        zeros = len(body) - len(body.lstrip(b"\0")) - 3
        failure = _failure(body, 0) or _failure(body, zeros)
        if failure is None:
            raise
        raise failure from None
    # Either is a failure: clients in the field believe the one or the other.
    if status or text:
        raise ErrorReply(status, text)
    return values


def _failure(body: bytes, start: int) -> ErrorReply | None:
    """Read an error block that takes all of the body from ``start`` on; None if it is none."""
    if len(body) < _ERROR_BLOCK.size:
        raise WireError(f"a reply of {len(body)} bytes has no room for the error block")
    if not 0 <= start <= len(body) - _ERROR_BLOCK.size:
        return None
    status, size = _ERROR_BLOCK.unpack_from(body, start)
    text = body[start + _ERROR_BLOCK.size :]
    return ErrorReply(status, text.decode("latin-1")) if status and size == len(text) else None


def _encode(
    command: Command, fields: Sequence[Field], given: Mapping[str, Any], finite: bool
) -> bytes:
    values = _completed(fields, given)
    parts = []
    for field in fields:
        if field.name not in values:
            raise WireError(f"{command.name} needs the argument {field.name!r}")
        try:
            parts.append(_encode_field(field, values[field.name], finite))
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            raise WireError(
                f"{command.name}: {field.name} = {values[field.name]!r} "
                f"is no {field.type}{' array' if field.array else ''}: {error}"
            ) from error
    _check_counts(command, fields, values)
    return b"".join(parts)


def _completed(fields: Sequence[Field], given: Mapping[str, Any]) -> Values:
    """The values, and those that follow from others: counts and sizes."""
    values = dict(given)
    for field in fields:
        if field.array not in ("", "counted", "matrix") and field.name in values:
            values.setdefault(field.array, len(values[field.name]))
    for field in fields:
        if field.repeats:
            values[field.name] = values[field.repeats]
        if field.bytes_of:
            values[field.name] = sum(len(_text(text)) for text in values[field.bytes_of])
    return values


def _check_counts(command: Command, fields: Sequence[Field], values: Values) -> None:
    for field in fields:
        if field.array in values and len(values[field.name]) != values[field.array]:
            raise WireError(
                f"{command.name}: {field.name} has {len(values[field.name])} elements, "
                f"{field.array} says {values[field.array]}"
            )


def _encode_field(field: Field, value: Any, finite: bool) -> bytes:
    if field.type == "strs":
        texts = [_text(text) for text in value]
        return struct.pack(">ii", sum(map(len, texts)), len(texts)) + b"".join(texts)
    if field.type == "packed":
        texts = [_text(text) for text in value]
        return struct.pack(">i", sum(map(len, texts))) + b"".join(texts)
    if field.array == "matrix":
        return _encode_matrix(field, value, finite)
    if not field.array:
        return _encode_one(field.type, value, finite)
    elements = _encode_elements(field.type, value, finite)
    return struct.pack(">i", len(value)) + elements if field.array == "counted" else elements


def _encode_matrix(field: Field, value: Any, finite: bool) -> bytes:
    array = np.asarray(value, dtype=object if field.type == "str" else None)
    if array.shape == (0,):
        array = array.reshape(0, 0)
    if array.ndim != 2:
        raise ValueError("it must have rows and columns")
    return struct.pack(">ii", *array.shape) + _encode_elements(field.type, array.ravel(), finite)


def _encode_elements(kind: str, values: Any, finite: bool) -> bytes:
    if kind == "str":
        return b"".join(_text(text) for text in values)
    array = np.asarray(values, dtype=np.float64 if kind[0] == "f" else np.int64)
    if kind[0] == "f":
        # No setting is infinite, and a controller would take NaN without a word.
        if finite and not np.isfinite(array).all():
            raise ValueError("it is not finite")
    elif array.size:
        limits = np.iinfo(_FORMAT[kind])
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError(f"allowed are {limits.min} to {limits.max}")
    return array.astype(_FORMAT[kind]).tobytes()


def _encode_one(kind: str, value: Any, finite: bool) -> bytes:
    if kind == "str":
        return _text(value)
    if kind[0] != "f":
        if int(value) != value:
            raise ValueError("it is no whole number")
        return _PACKED[kind].pack(int(value))
    number = float(value)
    if finite and not math.isfinite(number):
        raise ValueError("it is not finite")
    return _PACKED[kind].pack(number)


def _text(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError("it is no text")
    encoded = text.encode("latin-1")
    return struct.pack(">i", len(encoded)) + encoded


class _Reader:
    """Reads values off a body and knows how much is left."""

    def __init__(self, body: bytes, trust_sizes: bool) -> None:
        self._body = body
        self._at = 0
        self._trust_sizes = trust_sizes

    def values(self, fields: Sequence[Field]) -> Values:
        values: Values = {}
        for field in fields:
            if field.optional and self._left == 0:
                values[field.name] = 0
            else:
                values[field.name] = self._field(field, values)
            if field.repeats and values[field.name] != values[field.repeats]:
                raise WireError(f"{field.name} is not {field.repeats}")
        self._check_sizes(fields, values)
        return values

    def error_block(self) -> tuple[int, str]:
        status, size = _ERROR_BLOCK.unpack(self._take(_ERROR_BLOCK.size))
        return status, self._take(size).decode("latin-1")

    def end(self) -> None:
        if self._left:
            raise WireError(f"{self._left} bytes too many in the body")

    @property
    def _left(self) -> int:
        return len(self._body) - self._at

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise WireError(f"{size} bytes expected, {self._left} left in the body")
        taken = self._body[self._at : self._at + size]
        self._at += size
        return taken

    def _check_sizes(self, fields: Sequence[Field], values: Values) -> None:
        for field in fields:
            if field.bytes_of and self._trust_sizes:
                size = sum(len(_text(text)) for text in values[field.bytes_of])
                if values[field.name] != size:
                    raise WireError(f"{field.name} is {values[field.name]}, not {size}")

    def _field(self, field: Field, known: Values) -> Any:
        if field.type == "strs":
            return self._strings()
        if field.type == "packed":
            return self._packed()
        if field.array == "matrix":
            rows, columns = self._one("i32"), self._one("i32")
            return self._matrix(field.type, rows, columns)
        if not field.array:
            return self._one(field.type)
        count = self._one("i32") if field.array == "counted" else known[field.array]
        return self._elements(field.type, count)

    def _one(self, kind: str) -> Any:
        if kind == "str":
            return self._take(self._one("i32")).decode("latin-1")
        packed = _PACKED[kind]
        return packed.unpack(self._take(packed.size))[0]

    def _elements(self, kind: str, count: int) -> Any:
        if count < 0:
            raise WireError(f"an array of {count} elements")
        if kind == "str":
            # Every text takes four bytes at least: no need to believe a larger number.
            if count > self._left // 4:
                raise WireError(f"{count} texts expected, {self._left} bytes left in the body")
            return [self._one("str") for _ in range(count)]
        kind = _FORMAT[kind]
        return np.frombuffer(self._take(count * np.dtype(kind).itemsize), kind)

    def _matrix(self, kind: str, rows: int, columns: int) -> Any:
        if rows < 0 or columns < 0:
            raise WireError(f"a matrix of {rows} by {columns} elements")
        elements = self._elements(kind, rows * columns)
        if kind == "str":
            return [elements[row * columns : (row + 1) * columns] for row in range(rows)]
        return elements.reshape(rows, columns)

    def _strings(self) -> list[str]:
        size, count = self._one("i32"), self._one("i32")
        start = self._at
        texts: list[str] = self._elements("str", count)
        if self._trust_sizes and self._at - start != size:
            raise WireError(f"strings of {self._at - start} bytes, announced were {size}")
        return texts

    def _packed(self) -> list[str]:
        size = self._one("i32")
        if not 0 <= size <= self._left:
            raise WireError(f"{size} bytes expected, {self._left} left in the body")
        end = self._at + size
        texts = []
        while self._at < end:
            texts.append(self._one("str"))
        if self._at != end:
            raise WireError("the strings are longer than announced")
        return texts
