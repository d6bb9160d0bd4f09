"""Logs of commands, written without a controller."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.exchange import By, Exchange, LogHeader, to_line
from spm_gym.instrument.nanonis.wire import HEADER_SIZE, encode_reply, encode_request

RELEASE = 14718
COMMANDS = commands(RELEASE)
BEGAN = datetime(2026, 5, 17, 22, 0, 0, 0, UTC)


def header(by: By = "client", minutes: float = 0.0) -> LogHeader:
    return LogHeader(BEGAN + timedelta(minutes=minutes), by, "0.1.0", "127.0.0.1:6501,6502")


def exchange(name: str, arguments: dict[str, Any], values: dict[str, Any] | None) -> Exchange:
    """One that went well, or, without values, one that was never answered."""
    request = encode_request(COMMANDS[name], arguments)[HEADER_SIZE:]
    answer = None if values is None else encode_reply(COMMANDS[name], values)[HEADER_SIZE:]
    trouble = "no reply" if values is None else ""
    return Exchange(BEGAN, 1, name, 0.001, RELEASE, request, answer, trouble)


def written(path: Path, exchanges: Iterable[Exchange], head: LogHeader | None = None) -> Path:
    lines = [head or header(), *exchanges]
    path.write_text("".join(f"{to_line(line)}\n" for line in lines))
    return path
