"""One line of a log of commands: a request with its answer, what a connection did, or a header.

Lines are JSON, for people to read and grep: arguments and values stand there in short, and the
bodies of the messages whole, in hexadecimal digits or, where they are long, as "zlib:" and base64.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AwareDatetime, Field, PlainSerializer, PlainValidator, TypeAdapter

from spm_gym.instrument.nanonis.commands import Command, commands
from spm_gym.instrument.nanonis.wire import (
    LARGEST_BODY,
    ErrorReply,
    WireError,
    decode_reply,
    decode_request,
)

FORMAT: Literal["spm-gym commands 1"] = "spm-gym commands 1"

By = Literal["client", "virtual-nanonis", "replay"]
Event = Literal["opened", "closed", "unreachable"]

_LONGEST_HEX = 256
"""Bytes; longer bodies are images, curves and lists of names, which nobody reads as digits."""

_COMPRESSED = "zlib:"
_FEW = 16
_LONGEST_TEXT = 200


def _packed(body: bytes) -> str:
    if len(body) <= _LONGEST_HEX:
        return body.hex()
    return _COMPRESSED + base64.b64encode(zlib.compress(body)).decode("ascii")


def _unpacked(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("a body is text: hexadecimal digits, or zlib: and base64")
    if not text.startswith(_COMPRESSED):
        return bytes.fromhex(text)
    unpacking = zlib.decompressobj()
    compressed = base64.b64decode(text.removeprefix(_COMPRESSED), validate=True)
    try:
        # Logs come from others, and a few bytes can stand for any number of zeros.
        body = unpacking.decompress(compressed, LARGEST_BODY + 1)
    except zlib.error as error:
        raise ValueError(f"a body that cannot be unpacked: {error}") from error
    if not unpacking.eof:
        raise ValueError("a body that is cut off, or too large")
    return body


Body = Annotated[bytes, PlainValidator(_unpacked), PlainSerializer(_packed)]


@dataclass(frozen=True, slots=True)
class LogHeader:
    """First line of every file, and of every program that goes on with one.

    Attributes:
        time: When it was written.
        by: Who writes: the client, or the server.
        version: Of this program.
        endpoint: Address and ports of the controller.
        format: Of the file.
    """

    time: AwareDatetime
    by: By
    version: str
    endpoint: str
    format: Literal["spm-gym commands 1"] = FORMAT


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """The beginning or end of a connection.

    Attributes:
        time: Of the event.
        connection: Its number in the session, from 1.
        event: What happened.
        endpoint: Address and port of the controller.
        because: Why, if something went wrong.
    """

    time: AwareDatetime
    connection: int
    event: Event
    endpoint: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        time: When the request was sent, or came.
        connection: Number of the connection.
        command: Name of the command.
        seconds: From request to answer.
        release: By whose layouts the bodies are to be read.
        request: Body of the request.
        answer: Body of the answer, error block included; None if none of this command came.
        trouble: Why there is no answer, or what is wrong with it.
        silent: Whether no answer was asked for, so that none was sent.
    """

    time: AwareDatetime
    connection: int
    command: Annotated[str, Field(max_length=32)]
    seconds: float
    release: int
    request: Body = field(repr=False)
    answer: Body | None = field(default=None, repr=False)
    trouble: str = ""
    silent: bool = False


Entry = LogHeader | ConnectionEvent | Exchange

_KINDS: dict[str, TypeAdapter[Any]] = {
    "format": TypeAdapter(LogHeader),
    "event": TypeAdapter(ConnectionEvent),
    "command": TypeAdapter(Exchange),
}
_KEYS = {LogHeader: "format", ConnectionEvent: "event", Exchange: "command"}


def to_line(entry: Entry) -> str:
    """Write an entry as a line without its end."""
    kind = _KEYS[type(entry)]
    plain: dict[str, Any] = _KINDS[kind].dump_python(entry, mode="json", exclude_defaults=True)
    if isinstance(entry, LogHeader):
        # First, so that the beginning of a file shows what it is.
        plain = {kind: entry.format, **plain}
    if isinstance(entry, Exchange):
        # People read from the left: the bodies stand last.
        bodies = {name: plain.pop(name) for name in ("request", "answer") if name in plain}
        plain = dict(plain, **_in_short(entry), **bodies)
    return json.dumps(plain)


def from_line(line: bytes) -> Entry:
    """Read a line.

    Raises:
        ValueError: It is none of such a log; pydantic's ValidationError is one.
    """
    tree = json.loads(line)
    # By key, for pydantic would list the complaints of all three kinds.
    kind = next((key for key in _KINDS if isinstance(tree, dict) and key in tree), None)
    if kind is None:
        raise ValueError("neither a header nor an event nor a command")
    entry: Entry = _KINDS[kind].validate_python(tree)
    return entry


def layout(command: str, release: int) -> Command:
    """Find the layout of a command; one that the release does not know has an error block only."""
    return commands(release).get(command, Command(command, (), ()))


def _in_short(exchange: Exchange) -> dict[str, Any]:
    """Arguments and values for people: seven digits of a number, the size of a long array."""
    command = layout(exchange.command, exchange.release)
    found: dict[str, Any] = {}
    try:
        found["arguments"] = _short(decode_request(command, exchange.request))
    except WireError as error:
        found["unreadable_arguments"] = str(error)
    if exchange.answer is None:
        return found
    try:
        found["values"] = _short(decode_reply(command, exchange.answer))
    except ErrorReply as failure:
        found |= {"error": failure.text or "error without a text", "status": failure.status}
    except WireError as error:
        found["unreadable_values"] = str(error)
    return found


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, float):
        # NaN is no JSON: other programs would refuse the whole line.
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]} ..."
    if isinstance(value, np.ndarray):
        if value.size > _FEW:
            return f"{' x '.join(map(str, value.shape))} values"
        return _short(value.tolist())
    if isinstance(value, list):
        return [_short(each) for each in value] if len(value) <= _FEW else f"{len(value)} values"
    return value
