"""The folder that a run writes: settings, checkpoints, TensorBoard."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path

from spm_gym.cli import UsageError
from spm_gym.config import Config, load_config

_PACKAGES = ("spm-gym", "gymnasium", "stable-baselines3", "torch", "numpy", "scikit-learn")
SETTINGS = "config.yaml"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
LEARNING_CURVE = "learning_curve.png"


def new_run(path: Path | None, config: Config, name: str) -> Path:
    """Create a run directory and write the settings in force into it.

    Args:
        path: The directory; None makes ``runs/<date>_<time>_<name>``.
        config: What will be in force.
        name: End of the automatic name.

    Raises:
        UsageError: The directory exists.
    """
    path = path or Path("runs") / f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}"
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(
            f"the run directory {path} exists: continue it with --resume, or choose another"
        ) from None
    versions = ", ".join(f"{package} {_version(package)}" for package in _PACKAGES)
    header = f"# Settings of this run, made with Python {platform.python_version()}, {versions}\n"
    (path / SETTINGS).write_text(header + config.to_yaml(), encoding="utf-8")
    return path


@contextmanager
def discarded_if_stillborn(path: Path) -> Iterator[None]:
    """Remove a run directory again if the block fails before anything but settings is in it."""
    try:
        yield
    except BaseException:
        if [file.name for file in path.iterdir()] == [SETTINGS]:
            (path / SETTINGS).unlink()
            path.rmdir()
        raise


def existing_run(path: Path | None) -> tuple[Path, Config]:
    """Find a run to continue or to look at, and the settings it was started with.

    Args:
        path: The directory; None takes the newest below ``runs/``.

    Raises:
        UsageError: There is no such run.
    """
    if path is None:
        runs = sorted(Path("runs").glob(f"*/{SETTINGS}"), key=lambda file: file.stat().st_mtime)
        if not runs:
            raise UsageError("there is no run below runs/: name one, or train first")
        path = runs[-1].parent
    if not (path / SETTINGS).is_file():
        raise UsageError(f"{path} is not a run directory: it has no {SETTINGS}")
    return path, load_config(path / SETTINGS)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
