"""Which Python `make install` takes; the interpreters are scripts, and so nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = shutil.which("make")
TOOLS = ("sh", "echo", "mkdir", "touch", "cp", "rm")
INTERPRETER = """#!/bin/sh
case "$1 $2" in
*gymnasium*) ;;
-c*) exec {python} -c "import sys; sys.version_info = {version}; sys.modules.update({modules})
$2" ;;
-m*) echo "$0" "$@" >> asked; rm -rf .venv; mkdir -p .venv/bin
    cp "$0" .venv/bin/python; cp {pip} .venv/bin/pip ;;
esac
"""

pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make")


class Machine:
    """A checkout, and a path with nothing but what is put there."""

    def __init__(self, tmp_path: Path) -> None:
        self.checkout, self.path = tmp_path / "checkout", tmp_path / "bin"
        for folder in (self.checkout, self.path):
            folder.mkdir()
        for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.checkout)
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None
            (self.path / name).symlink_to(found)
        self._script(tmp_path / "pip", '#!/bin/sh\necho "$0" "$@" >> asked\n')

    def has(self, name: str, *version: int, ensurepip: bool = True) -> Path:
        modules = "{}" if ensurepip else "{'ensurepip': None}"
        return self._script(
            self.path / name,
            INTERPRETER.format(
                python=sys.executable,
                version=(*version, 0, "final", 0),
                modules=modules,
                pip=self.path.parent / "pip",
            ),
        )

    def has_shim(self, name: str) -> None:
        """Leave what pyenv does for a version that is not chosen."""
        shim = f'#!/bin/sh\necho "pyenv: {name}: command not found" >&2\nexit 127\n'
        self._script(self.path / name, shim)

    def install(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what is said of errors."""
        assert MAKE is not None
        done = subprocess.run(
            [MAKE, "install", *arguments],
            cwd=self.checkout,
            env={"PATH": str(self.path)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    @property
    def asked(self) -> list[str]:
        """Programs that made virtual environments so far, and what was installed."""
        file = self.checkout / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def _script(self, path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def made_by(machine: Machine) -> list[str]:
    return [Path(line.split()[0]).name for line in machine.asked if " -m venv " in line]


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 14)])
def test_any_python3_that_is_new_enough_is_taken(
    machine: Machine, version: tuple[int, int]
) -> None:
    machine.has("python3", *version)
    machine.has("python3.11", 3, 11)
    assert machine.install()[0] == 0
    assert made_by(machine) == ["python3"]
    assert sum("pip install" in line for line in machine.asked) == 2


def test_an_old_python3_and_a_shim_that_runs_nothing_are_passed_over(machine: Machine) -> None:
    machine.has("python3", 3, 10)
    machine.has_shim("python3.13")
    machine.has("python3.12", 3, 12, ensurepip=False)
    machine.has("python3.11", 3, 11)
    assert machine.install()[0] == 0
    assert made_by(machine) == ["python3.11"]


def test_one_line_says_what_was_found_and_what_is_needed(machine: Machine) -> None:
    machine.has("python3", 3, 9)
    machine.has_shim("python3.13")
    machine.has("python3.12", 3, 12, ensurepip=False)
    status, output = machine.install()
    assert status != 0
    ours, makes_own = output.splitlines()
    assert ours == (
        "Python 3.11 or newer is needed, not python3: Python 3.9.0, python3.13: does not run, "
        "python3.12: Python 3.12.0 without ensurepip (Debian has it in python3-venv), "
        "python3.11: does not run: install one, or name it by make install PYTHON=/path/to/python"
    )
    assert makes_own.startswith("make: ***")
    assert not machine.asked


@pytest.mark.parametrize("name", ["old", "missing"])
def test_one_that_is_named_by_hand_is_the_only_one_asked(machine: Machine, name: str) -> None:
    machine.has("python3", 3, 12)
    machine.has("old", 3, 10)
    status, output = machine.install(f"PYTHON={name}")
    assert status != 0
    found = {"old": "old: Python 3.10.0", "missing": "missing: does not run"}[name]
    assert output.startswith(f"Python 3.11 or newer is needed, not {found}: install one")
    assert not machine.asked
    by_hand = machine.has("by_hand", 3, 11)
    assert machine.install(f"PYTHON={by_hand}")[0] == 0
    assert made_by(machine) == ["by_hand"]


def test_an_environment_that_is_there_is_kept_whatever_made_it(machine: Machine) -> None:
    machine.has("python3.11", 3, 11)
    machine.install()
    machine.has("python3", 3, 13)
    before = len(machine.asked)
    assert machine.install()[0] == 0
    assert len(machine.asked) == before
    (machine.checkout / ".venv" / ".installed").unlink()
    assert machine.install()[0] == 0
    assert len(machine.asked) > before
    assert made_by(machine) == ["python3.11"]


def test_one_whose_python_is_gone_is_made_again(machine: Machine) -> None:
    machine.has("python3", 3, 12)
    machine.install()
    (machine.checkout / ".venv" / ".installed").unlink()
    python = machine.checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert machine.install()[0] == 0
    assert made_by(machine) == ["python3", "python3"]
    assert "--clear" in machine.asked[-3]
