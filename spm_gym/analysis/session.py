"""The present session of a run: what was asked of it, and how fast it goes."""

from __future__ import annotations

import functools
import sqlite3
from dataclasses import dataclass

import numpy as np

from spm_gym.config import Config, ConfigError, EnvConfig, validated
from spm_gym.config.yaml_file import parse_yaml
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.conditions import IMAGE

# The last ones: a run may have become faster or slower since it started.
_RECENT = 1000
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run goes while it is not paused, from its last scans in this session.

    Attributes:
        operation: Seconds of operation in a second: more than 1 if the microscope is simulated.
        image_s: Seconds between two images.
    """

    operation: float
    image_s: float


@dataclass(frozen=True, slots=True)
class RunSession:
    """The last start of the program.

    Attributes:
        number: From 1; 0 if there was none.
        wall: When, seconds since 1970.
        settings: In force; None if this program does not read them.
        pace: None if too little has been done so far.
        command: That was started: run, train or evaluate.
    """

    number: int
    wall: float
    settings: Config | None
    pace: Pace | None
    command: str = "run"

    @property
    def survey(self) -> bool:
        """Whether it takes images only, and neither classifies nor conditions."""
        return self.settings is not None and not self.settings.operation.conditioning

    @property
    def good_above(self) -> float | None:
        """A probe counts as good above this probability, if that is known."""
        return None if self.settings is None else self.settings.env.good_above

    @property
    def usable_nm(self) -> float | None:
        """Side of the part of an approach area that images may lie in, around its middle, nm."""
        return None if self.settings is None else self.settings.env.regions.area_nm

    @property
    def preprocessing(self) -> Preprocessing:
        """How scans are levelled and normalised; as usual, if nobody knows."""
        return Preprocessing.of(EnvConfig() if self.settings is None else self.settings.env)


def last_session(db: sqlite3.Connection) -> RunSession:
    """Read the last start of the program."""
    row = db.execute("SELECT * FROM sessions ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        return RunSession(0, 0.0, None, None)
    number, settings, pace = row["id"], _settings(row["config"]), _pace(db, row["id"])
    return RunSession(number, row["wall"], settings, pace, row["command"])


# Every answer of the live page asks for them, and they change only with the session.
@functools.lru_cache(maxsize=4)
def _settings(text: str) -> Config | None:
    """Parse the settings that a run has noted; None if this program does not know them."""
    try:
        return validated(parse_yaml(text, "settings"))
    except ConfigError:
        return None


def _pace(db: sqlite3.Connection, session: int) -> Pace | None:
    rows = db.execute(_LAST_SCANS, (session, _RECENT)).fetchall()[::-1]
    if not rows:
        return None
    # Wall and operation time differ: a simulated microscope works faster than the wall clock.
    wall, elapsed, image = np.array(list(map(tuple, rows)), np.float64).T
    pauses = db.execute("SELECT wall FROM events WHERE kind = 'pause' AND wall >= ?", (wall[0],))
    before = np.searchsorted(np.sort([each for (each,) in pauses]), wall)
    at_work = np.diff(before) == 0  # nobody has paused between these two scans
    seconds = float(np.diff(wall)[at_work].sum())
    images = int(image[1:][at_work].sum())
    # Of so few an hour to come would be a guess.
    if images < _FEWEST or seconds <= 0:
        return None
    return Pace(float(np.diff(elapsed)[at_work].sum()) / seconds, seconds / images)


_LAST_SCANS = f"""
SELECT wall, elapsed, {IMAGE} AS image FROM scans WHERE session = ? ORDER BY id DESC LIMIT ?
"""
