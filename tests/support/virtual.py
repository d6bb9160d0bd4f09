"""A virtual Nanonis in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spm_gym.config import RealConfig
from spm_gym.config.real import NanonisConfig
from spm_gym.instrument.driver import DriverContext

_READY = re.compile(r"ports ([\d ]+)")


@contextmanager
def virtual_nanonis(*options: str, quiet: bool = False) -> Iterator[list[int]]:
    """Start it on free ports with its clock standing still; yields the ports.

    Args:
        options: More of the command line.
        quiet: Whether what it says of broken connections is thrown away.
    """
    command = [
        sys.executable, "-m", "spm_gym", "virtual-nanonis", "--ports", "0", "0",
        "--time-scale", "0", *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL if quiet else None,
    )
    assert process.stdout is not None
    try:
        ready = _READY.search(process.stdout.readline())
        assert ready is not None, "it did not start"
        yield [int(port) for port in ready[1].split()]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def nanonis_settings(**settings: Any) -> RealConfig:
    """Settings of the real microscope; those of the Nanonis driver go into its section."""
    own = {name: value for name, value in settings.items() if name in NanonisConfig.model_fields}
    shared = {name: value for name, value in settings.items() if name not in own}
    return RealConfig(nanonis=own, **shared)  # type: ignore[arg-type]


def silent(kept: Path | None = None, notes: list[str] | None = None) -> DriverContext:
    """A run that prints nothing; notes go into a list, if there is one."""
    return DriverContext(
        kept, lambda text: None, lambda text: None if notes is None else notes.append(text)
    )
