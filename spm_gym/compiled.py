"""Compiled functions: the one place that says how Numba is used here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of numbers and arrays; it runs in one thread and lets others run.

    The machine code is kept beside the source, so only the first run after a change waits for the
    compiler. Nothing is reordered for speed: the same numbers give the same result, bit for bit,
    alone or in a batch. Division by zero gives infinity, as in NumPy.
    """
    return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
