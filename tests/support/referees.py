"""Other programs that read scan files, to classify what ours makes of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

gwyddion_is_here = pytest.mark.skipif(
    not (shutil.which("gwyddion") and shutil.which("xvfb-run")), reason="Gwyddion is not here"
)


def recognised_by_gwyddion(path: Path) -> str:
    """Kind of file that Gwyddion takes a file for."""
    command = ["xvfb-run", "-a", "gwyddion", "--identify", path]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def drawn_by_gwyddion(path: Path) -> list[np.ndarray]:
    """All images of a file as Gwyddion shows them, each as one row of numbers."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.gwy"
        command = ["xvfb-run", "-a", "gwyddion", f"--convert-to-gwy={out}", path]
        subprocess.run(command, capture_output=True, check=True)
        return _arrays(out)


def _arrays(path: Path) -> list[np.ndarray]:
    """All arrays of doubles in a Gwyddion file: a component "data" of type D, length, numbers."""
    content, tag = path.read_bytes(), b"data\0D"
    found = []
    at = content.find(tag)
    while at >= 0:
        count = int.from_bytes(content[at + len(tag) : at + len(tag) + 4], "little")
        found.append(np.frombuffer(content, "<f8", count, at + len(tag) + 4))
        at = content.find(tag, at + len(tag))
    return found
