"""A virtual Nanonis in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
