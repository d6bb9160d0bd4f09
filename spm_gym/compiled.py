"""Compiled functions: the one place that says how Numba is used here."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of numbers and arrays; it runs in one thread and lets others run.

    The machine code is kept, so only the first run after a change waits for the compiler. Nothing
    is reordered for speed: the same numbers give the same result, bit for bit, alone or in a batch.
    Division by zero gives infinity, as in NumPy.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = before or _cache_directory()
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before
    return cast(_Function, dispatcher)


def is_compiled() -> bool:
    """Whether the machine code of these sources was kept by an earlier run."""
    directory = os.environ.get("NUMBA_CACHE_DIR") or _cache_directory()
    return not directory or Path(directory).exists()


@cache
def _cache_directory() -> str:
    """Where the machine code of exactly these sources is kept; "" for Numba's own choice.

    Numba keeps code as long as the file of a function is the same, but compiled functions contain
    those of other files that they call.
    """
    package = Path(__file__).parent
    if not os.access(package, os.W_OK):
        return ""  # an installation, whose sources do not change
    sources = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        text = file.read_bytes()
        if b"import compiled" in text:
            sources.update(text)
    directory = package / "__pycache__" / f"compiled-{sources.hexdigest()[:12]}"
    if not directory.exists():
        for outdated in directory.parent.glob("compiled-*"):
            shutil.rmtree(outdated, ignore_errors=True)
    return str(directory)
