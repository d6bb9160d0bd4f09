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
    Division by zero gives infinity, as in NumPy. What it calls and the constants it uses must stand
    in files of the same folder.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(_kept_in(Path(function.__code__.co_filename).parent, before) or "")
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before
    return cast(_Function, dispatcher)


@cache
def _kept_in(folder: Path, chosen: str) -> Path | None:
    """Where the machine code of exactly these sources is kept; None for Numba's own choice.

    Numba asks only whether the file of a function is the same, but machine code contains functions
    and constants of other files, too.

    Args:
        folder: Of the sources.
        chosen: NUMBA_CACHE_DIR, if it is set.
    """
    above = Path(chosen) if chosen else folder / "__pycache__"
    if not chosen and not os.access(folder, os.W_OK):
        return None  # an installation, whose sources do not change
    sources = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        sources.update(file.read_bytes())
    directory = above / f"compiled-{sources.hexdigest()[:12]}"
    if not chosen and not directory.exists():
        for outdated in above.glob("compiled-*"):
            shutil.rmtree(outdated, ignore_errors=True)
    return directory
