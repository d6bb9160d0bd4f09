"""Shared by the tests of all clients: the second witness, and how numbers are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.connection import Connection

HOST = "127.0.0.1"
RELEASE = 14718
CURRENT, BIAS, Z = 0, 24, 30
"""Numbers of signals."""

Round = tuple[str, tuple[Any, ...], str, tuple[Any, ...], list[Any]]
"""A Set and its arguments, the Get and its arguments, what it must return."""


def ask(witness: Connection, command: str, *arguments: Any) -> list[Any]:
    """Values that the controller replies, in the order of the protocol; what is not given is 0."""
    names = [field.name for field in commands(RELEASE)[command].request]
    values = dict.fromkeys(names, 0) | dict(zip(names, arguments, strict=False))
    reply = witness.call(command, takes=60, **values)
    return [plain(value) for value in reply.values()]


def plain(value: Any) -> Any:
    """An array, or a list of 1-tuples, as a list."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [v[0] if isinstance(v, tuple) and len(v) == 1 else v for v in value]
    return value


def close_to(expected: Any) -> Any:
    """Equal within single precision, number by number."""
    if isinstance(expected, list):
        return [close_to(each) for each in expected]
    return pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected
