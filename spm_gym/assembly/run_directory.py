"""The folder that a run writes: settings, checkpoints, TensorBoard."""

from __future__ import annotations

import itertools
import platform
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path

from spm_gym.atomic_file import remove_leftovers, written_whole
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.journal.reader import JOURNAL, has_started
from spm_gym.journal.run_lock import LOCK, locked_run
from spm_gym.paths import as_typed

_JOURNAL_FILES = (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm")
_PACKAGES = ("spm-gym", "gymnasium", "stable-baselines3", "torch", "numpy", "scikit-learn")
SETTINGS = "config.yaml"
TRAINING = "training.yaml"
EVALUATION = "evaluation.yaml"
CLASSIFIER = "classifier.yaml"
RECOGNISER = "recogniser.yaml"
_OF_EPISODES = (TRAINING, EVALUATION)
_SETTINGS_FILES = (SETTINGS, TRAINING, EVALUATION, CLASSIFIER, RECOGNISER)
"""Of a run of ``spm-gym run``, and of the other commands: by its name it is known which it was."""

CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
LEARNING_CURVE = "learning_curve.png"
TRANSITIONS = "transitions.png"


@contextmanager
def new_run(
    path: Path | None,
    config: Config,
    name: str,
    file: str = SETTINGS,
    made_first: Collection[str] = (),
) -> Iterator[Path]:
    """Make a run directory with the settings in it, kept from other programs during the block.

    If the block fails before anything has happened, what was made is removed again.

    Args:
        path: The directory, which must be empty if it is there; None makes
            ``runs/<date>_<time>_<name>``.
        config: What will be in force.
        name: End of the automatic name.
        file: Name of the settings, which says of which command the run is.
        made_first: What else the block makes there before anything happens.

    Raises:
        RunLocked: Another program works on the directory.
        UsageError: There is something in it, or it cannot be made.
    """
    path = path or _unused(Path("runs") / f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}")
    try:
        was_there = path.exists()
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--run-dir {path} cannot be made ({(error.strerror or str(error)).lower()}): name a "
            "folder that is empty or not there yet, in a place where you may write"
        ) from error
    _refuse_full(path)
    with locked_run(path):
        remove_leftovers(path)
        _refuse_full(path)  # once more: somebody may have been faster
        # Before anything else is written: a run that is killed at once can be told from other
        # folders.
        write_settings(path / file, config)
        try:
            yield path
        except BaseException:
            with suppress(OSError):  # Windows keeps a file that is locked
                _discard(path, {file, LOCK, *_JOURNAL_FILES, *made_first}, was_there)
            raise


def _refuse_full(path: Path) -> None:
    # What a kill has left half-written is hidden, and may be of a program that is still at work; a
    # lock alone says nothing.
    if path.is_dir() and any(each.name[0] != "." and each.name != LOCK for each in path.iterdir()):
        raise UsageError(
            f"the run directory {path} exists: continue it with --resume, or choose another"
        )


def _discard(path: Path, made: Collection[str], was_there: bool) -> None:
    """Remove a run directory in which nothing has happened; anything else in it stays, with it."""
    if has_started(path) or not {each.name for each in path.iterdir()} <= set(made):
        return
    for each in path.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
    if not was_there:
        path.rmdir()


def existing_training(path: Path | None) -> tuple[Path, Config]:
    """Find a training run to continue or to look at, and the settings it was started with.

    Args:
        path: The directory; None takes the newest below ``runs/``.

    Raises:
        UsageError: There is no such run.
    """
    return _existing(path, "train", TRAINING)


def existing_classifier(path: Path | None) -> tuple[Path, Config]:
    """Find a training of a classifier; as `existing_training`."""
    return _existing(path, "train classifier", CLASSIFIER)


def existing_operation(path: Path | None) -> tuple[Path, Config]:
    """Find a run of ``spm-gym run``; as `existing_training`."""
    return _existing(path, "run", SETTINGS)


def existing_record(path: Path | None) -> tuple[Path, Config]:
    """Find a run with a journal: ``spm-gym run``, or training or evaluation on a microscope.

    Args:
        path: The directory; None takes the newest below ``runs/``.

    Raises:
        UsageError: There is no such run.
    """
    if path is None:
        files = [each for name in _OF_EPISODES for each in Path("runs").glob(f"*/{name}")]
        # A training on the simulator keeps none: it must not hide the run that is looked for.
        files = [each for each in files if (each.parent / JOURNAL).is_file()]
        files += Path("runs").glob(f"*/{SETTINGS}")
        if not files:
            raise UsageError("no run below runs/ has a journal: name one")
        path = _newest(files)
    file = next((name for name in _OF_EPISODES if (path / name).is_file()), None)
    if file is None:
        return existing_operation(path)
    if not (path / JOURNAL).is_file():
        raise UsageError(
            f"{path} has no journal: training keeps one with --env real only; watch it with "
            f"tensorboard --logdir {as_typed(path)}"
        )
    return path, load_config(path / file)


def _newest(files: Iterable[Path]) -> Path:
    # By the time of the settings: names may have been given by hand.
    return max(files, key=lambda file: file.stat().st_mtime).parent


def settings_file(run: Path) -> Path | None:
    """Find the settings of a run of any command; None if the directory is no run's."""
    return next((path for name in _SETTINGS_FILES if (path := run / name).is_file()), None)


def checkpoint_settings(checkpoint: Path) -> Config | None:
    """Read the settings of the run that a checkpoint belongs to; None if it lies elsewhere.

    Raises:
        ConfigError: This program does not know them.
    """
    # Checkpoints are in RUN_DIR/checkpoints/step_...
    file = settings_file(checkpoint.resolve().parent.parent)
    return None if file is None else load_config(file)


def _existing(path: Path | None, command: str, file: str) -> tuple[Path, Config]:
    if path is None:
        files = list(Path("runs").glob(f"*/{file}"))
        if not files:
            raise UsageError(f"no run below runs/ is one of 'spm-gym {command}': name one")
        path = _newest(files)
    # A folder that is no run at all is another mistake than a run of another command.
    if settings_file(path) is None:
        raise UsageError(f"{path} is not a run directory: it has no {file}")
    if not (path / file).is_file():
        raise UsageError(f"{path} is not a run of 'spm-gym {command}'")
    return path, load_config(path / file)


def write_settings(path: Path, config: Config) -> None:
    """Write the settings in force, with the versions of what they are in force for."""
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    header = f"# Settings of this run, made with {made_with}\n"
    with written_whole(path) as beside:
        beside.write_text(header + config.to_yaml(), encoding="utf-8")


def versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that decide what a run does."""
    return {"Python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _unused(path: Path) -> Path:
    """Add a number to a path that exists: two runs may begin in the same second."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
