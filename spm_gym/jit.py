"""Compiled functions: all settings of Numba."""

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

    The machine code is kept, so only the first run after a change waits for the compiler. The same
    numbers give the same result, bit for bit, alone or in a batch. Division by zero gives infinity,
    as in NumPy. Functions that it calls and constants that it uses must stand in files of the same
    folder, but for units, which never change.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(
        _cache_folder(Path(function.__code__.co_filename).parent, before) or ""
    )
    try:
        # nogil: acting and learning, and the page that paints, share a process in several threads.
        # No fastmath: reordered sums would give each processor trajectories of its own.
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before
    return cast(_Function, dispatcher)


@cache
def _cache_folder(folder: Path, chosen: str) -> Path | None:
    """Return the folder for the machine code of these sources; None for Numba's own choice.

    Args:
        folder: Of the sources.
        chosen: NUMBA_CACHE_DIR, if it is set.
    """
    # Numba compares only the file of a function itself, but its machine code contains functions and
    # constants of other files too: so all sources of the folder name the cache.
    above = Path(chosen) if chosen else folder / "__pycache__"
    if not chosen and not os.access(folder, os.W_OK):
        return None  # an installed package, whose sources do not change
    sources = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        sources.update(file.read_bytes())
    directory = above / f"compiled-{sources.hexdigest()[:12]}"
    if not chosen and not directory.exists():
        for outdated in above.glob("compiled-*"):
            shutil.rmtree(outdated, ignore_errors=True)
    return directory
