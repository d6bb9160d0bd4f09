"""The places of a sample that earlier runs have used up."""

from __future__ import annotations

from pathlib import Path

from spm_gym.analysis.session import last_session
from spm_gym.assembly.run_directory import SETTINGS
from spm_gym.config import Config, ConfigError
from spm_gym.config.yaml_file import read_yaml
from spm_gym.errors import UsageError
from spm_gym.journal.reader import JournalError, is_in_a_move, read_marks, reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.paths import display_name
from spm_gym.runner.areas import UsedArea
from spm_gym.runner.run_state import read_run_state


def find_used_area(config: Config, run: Path) -> UsedArea | None:
    """Find where the newest earlier run on the sample of the settings has ended.

    Args:
        config: Settings of the run that is to begin.
        run: Its directory; earlier ones lie beside it.

    Raises:
        UsageError: A run on this sample is at work, or its journal cannot be read.
    """
    sample = config.operation.sample
    if sample is None:
        return None
    earlier = [
        folder
        for file in sorted(run.absolute().parent.glob(f"*/{SETTINGS}"))
        if (folder := file.parent) != run.absolute() and _sample(file) == sample
    ]
    found: list[tuple[float, UsedArea]] = []
    for folder in earlier:
        if is_run_locked(folder):
            raise UsageError(f"{folder} is at work on the sample {sample!r}: stop it first")
        try:
            found += _end_of(folder)
        except JournalError as error:
            raise UsageError(
                f"{folder}, an earlier run on the sample {sample!r}, cannot be read, so nobody "
                f"knows what it has used up: {error}; name another sample (operation.sample)"
            ) from error
    # The newest is furthest on the spiral, and started where those before it had ended.
    return max(found, key=lambda each: each[0])[1] if found else None


def _sample(settings: Path) -> object:
    try:
        tree = read_yaml(settings)
        return tree["operation"]["sample"]
    except (ConfigError, KeyError, TypeError):
        return None  # of another program, or older than the setting


def _end_of(run: Path) -> list[tuple[float, UsedArea]]:
    """Give when a run was started last, and where it ended; nothing if it did nothing."""
    with reading(run) as db:
        state = read_run_state(db)
        if state is None:
            return []
        if is_in_a_move(db):
            raise UsageError(
                f"{run}, an earlier run on this sample, was killed in a coarse move, so nobody "
                "knows in which area the tip is: go on with it once (--resume), or name another "
                "sample (operation.sample)"
            )
        place = state.place
        started = last_session(db).wall
        used = UsedArea(
            display_name(run), place.area, place.coarse, place.last_region,
            tuple(read_marks(db, place.area)),
        )  # fmt: skip
    return [(started, used)]
