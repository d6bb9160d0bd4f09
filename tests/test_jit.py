"""Machine code is kept, and never longer than the sources it was made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import bench
area = bench.area(3.0)
print(bool(hasattr(bench.area, "stats") and bench.area.stats.cache_hits), area)
"""


def write(folder: Path, side: float, power: int) -> None:
    (folder / "constants.py").write_text(f"SIDE = {side}\n")
    (folder / "powers.py").write_text(
        f"from spm_gym.jit import compiled\n\n\n@compiled\ndef power(x):\n    return x**{power}\n"
    )
    (folder / "bench.py").write_text(
        "from constants import SIDE\nfrom powers import power\n"
        "from spm_gym.jit import compiled\n\n\n"
        "@compiled\ndef area(x):\n    return SIDE * power(x)\n"
    )


def run(folder: Path, **environment: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run(
        command, env=surroundings | environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_change_in_another_file_is_a_change(tmp_path: Path, elsewhere: bool) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    chosen = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")} if elsewhere else {}
    write(sources, 2.0, 2)
    assert run(sources, **chosen) == "False 18.0"
    assert run(sources, **chosen) == "True 18.0"
    write(sources, 2.0, 3)
    assert run(sources, **chosen) == "False 54.0"
    write(sources, 3.0, 3)
    assert run(sources, **chosen) == "False 81.0"
    assert (tmp_path / "kept").exists() is elsewhere
    kept = list((sources / "__pycache__").glob("compiled-*"))
    assert len(kept) == (0 if elsewhere else 1)


def test_without_a_compiler_everything_is_python(tmp_path: Path) -> None:
    write(tmp_path, 2.0, 2)
    assert run(tmp_path, NUMBA_DISABLE_JIT="1").split()[1] == "18.0"
