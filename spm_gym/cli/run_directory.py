"""The folder that a run writes: settings, checkpoints, TensorBoard."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path

from spm_gym.cli import UsageError
from spm_gym.config import Config, load_config
from spm_gym.runner.reading import JOURNAL
from spm_gym.whole_file import written_whole

_PACKAGES = ("spm-gym", "gymnasium", "stable-baselines3", "torch", "numpy", "scikit-learn")
SETTINGS = "config.yaml"
EVALUATION = "evaluation.yaml"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
LEARNING_CURVE = "learning_curve.png"


def new_run(path: Path | None, config: Config, name: str, file: str = SETTINGS) -> Path:
    """Create a run directory, unless an empty one is there, and write the settings into it.

    Args:
        path: The directory; None makes ``runs/<date>_<time>_<name>``.
        config: What will be in force.
        name: End of the automatic name.
        file: Name of the settings; only what has `SETTINGS` counts as a run to go on with.

    Raises:
        UsageError: There is something in the directory, or it cannot be made.
    """
    path = path or _unused(Path("runs") / f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--run-dir {path} cannot be made ({(error.strerror or str(error)).lower()}): name a "
            "folder that is empty or not there yet, in a place where you may write"
        ) from error
    # What a kill has left half-written is hidden.
    if any(not file.name.startswith(".") for file in path.iterdir()):
        raise UsageError(
            f"the run directory {path} exists: continue it with --resume, or choose another"
        )
    write_settings(path / file, config)
    return path


@contextmanager
def discarded_if_stillborn(path: Path) -> Iterator[None]:
    """Remove a run directory again if the block fails before anything but settings is in it."""
    try:
        yield
    except BaseException:
        files = list(path.iterdir())
        if len(files) == 1 and files[0].name in (SETTINGS, EVALUATION):
            files[0].unlink()
            path.rmdir()
        raise


def existing_run(path: Path | None) -> tuple[Path, Config]:
    """Find a training run to continue or to look at, and the settings it was started with.

    Args:
        path: The directory; None takes the newest below ``runs/``.

    Raises:
        UsageError: There is no such run.
    """
    return _existing(path, "train", lambda run: not (run / JOURNAL).is_file())


def existing_operation(path: Path | None) -> tuple[Path, Config]:
    """Find a run of ``spm-gym run``; as `existing_run`."""
    # One that was killed before its journal was made has nothing but its settings.
    return _existing(
        path, "run", lambda run: (run / JOURNAL).is_file() or not (run / TENSORBOARD).exists()
    )


def _existing(
    path: Path | None, command: str, belongs: Callable[[Path], bool]
) -> tuple[Path, Config]:
    if path is None:
        files = [file for file in Path("runs").glob(f"*/{SETTINGS}") if belongs(file.parent)]
        if not files:
            raise UsageError(f"no run below runs/ is one of 'spm-gym {command}': name one")
        path = max(files, key=lambda file: file.stat().st_mtime).parent
    if not (path / SETTINGS).is_file():
        raise UsageError(f"{path} is not a run directory: it has no {SETTINGS}")
    if not belongs(path):
        raise UsageError(f"{path} is not a run of 'spm-gym {command}'")
    return path, load_config(path / SETTINGS)


def write_settings(path: Path, config: Config) -> None:
    """Write the settings in force, with the versions of what they are in force for."""
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    header = f"# Settings of this run, made with {made_with}\n"
    with written_whole(path) as beside:
        beside.write_text(header + config.to_yaml(), encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run does."""
    return {"Python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _unused(path: Path) -> Path:
    """The path, or one with a number behind it if two runs begin in the same second."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
