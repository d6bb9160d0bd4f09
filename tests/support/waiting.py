"""Waiting for what must come, on a machine as slow as it likes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""No wait of a test is meant to last so long: it only keeps a test from hanging for ever."""

PROGRAM_S = 6 * PATIENCE_S
"""The same for a whole program that does a lot."""


def wait_until(
    true: Callable[[], object], missing: str = "it never came", every_s: float = 0.02
) -> None:
    """Look again and again; fails if it takes for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, missing
        time.sleep(every_s)
