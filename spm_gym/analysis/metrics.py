"""Named values of a run, image by image, from its journal alone.

The step is the number of the image. Nothing depends on when the journal is read.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spm_gym.analysis.forecasts import read_forecast
from spm_gym.analysis.policies import EPISODE_POLICY
from spm_gym.analysis.report import HOUR
from spm_gym.imaging.files import FileFormatError
from spm_gym.instrument.sim.dynamics import CLASS_NAMES
from spm_gym.journal.conditions import CLASSIFIED, WHOLE
from spm_gym.journal.reader import JOURNAL, Label, open_journal, read_scan
from spm_gym.scale import NM
from spm_gym.types import FloatImage

SHARE_OF = 100
"""Classified images that the share of good ones is taken of."""

PICTURES = 10
"""Images of every label that are sampled; of the next ones every second, fourth, eighth, ..."""

_ROWS = 100
_NEXT = f"SELECT * FROM scans WHERE id > ? AND {WHOLE} AND label IS NOT NULL ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class ScanImage:
    """An image of the sample.

    Attributes:
        label: What it is.
        caption: The same in words, with its number and probability.
        z: Its heights (H, W), m.
    """

    label: str
    caption: str
    z: FloatImage


@dataclass(frozen=True, slots=True)
class Moment:
    """Values of an image, or of the end of an episode with it.

    Attributes:
        step: Number of the image, from 1.
        wall: When it was taken, seconds since 1970.
        values: By their names in the glossary of metrics.
        picture: The image; None if it is not in the sample, or damaged.
    """

    step: int
    wall: float
    values: dict[str, float]
    picture: ScanImage | None = None


class RunMetrics:
    """Iterates over what has come since the last time, whether or not the run has ended.

    Iterating again after a stop between two moments loses none.

    Args:
        run: The run directory.
        actions: Names of the actions.
    """

    def __init__(self, run: Path, actions: list[str]) -> None:
        self._run = run
        self._actions = actions
        # Open for long, but no transaction: the log of the run is never held back.
        self._db = open_journal(run / JOURNAL)
        self._scan = self._step = self._recovery = 0
        self._images = self._good = self._unknown = 0
        self._classified: deque[bool] = deque(maxlen=SHARE_OF)
        self._labels: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._chosen: Counter[str] = Counter()
        self._episode: tuple[int, float] | None = None

    def close(self) -> None:
        """Let go of the journal."""
        self._db.close()

    @property
    def images(self) -> int:
        """Number of images so far."""
        return self._images

    def __iter__(self) -> Iterator[Moment]:
        # In portions: a resumed run is read from its first image, and memory stays small.
        while rows := self._db.execute(_NEXT, (self._scan, _ROWS)).fetchall():
            for row in rows:
                yield from self._moments(row)
        # An episode may end with its last image while no further one has come yet.
        yield from self._end_episode()

    def _moments(self, row: sqlite3.Row) -> Iterator[Moment]:
        if self._episode is not None and row["episode"] != self._episode[0]:
            yield from self._end_episode()
        self._scan = row["id"]
        if row["label"] == Label.PREVIEW:
            # No image, but it may be the outcome of a decision, even the last one of its episode.
            self._episode = row["episode"], row["wall"]
            if values := self._decision(row):
                yield Moment(self._images, row["wall"], values)
            return
        self._images += 1
        values = {**self._image(row), **self._yield(row), **self._trouble(row)}
        if row["episode"] is not None:
            values |= self._decision(row)
            self._episode = row["episode"], row["wall"]
        yield Moment(self._images, row["wall"], values, self._picture(row))

    def _image(self, row: sqlite3.Row) -> dict[str, float]:
        values = {"progress/hours": row["elapsed"] / HOUR, "progress/area": row["area"]}
        if row["probability"] is not None:
            values["image/probability"] = row["probability"]
            values["image/clean_side_nm"] = row["clean_side"] / NM
        return values

    def _yield(self, row: sqlite3.Row) -> dict[str, float]:
        good = row["label"] == Label.GOOD
        self._good += good
        self._unknown += row["label"] == Label.UNKNOWN
        values: dict[str, float] = {"yield/good": self._good, "yield/unknown": self._unknown}
        if row["label"] in CLASSIFIED:
            self._classified.append(good)
            values["yield/good_share"] = sum(self._classified) / len(self._classified)
        # The first image may be taken before any time of operation has passed.
        if row["elapsed"] > 0:
            values["yield/good_per_hour"] = self._good / row["elapsed"] * HOUR
        return values

    def _trouble(self, row: sqlite3.Row) -> dict[str, float]:
        """Add up the troubles before this image."""
        found = self._db.execute(
            "SELECT id, trouble FROM recoveries WHERE id > ? AND elapsed <= ? ORDER BY id",
            # By the time of operation, not by when this is read: a resumed run writes the same
            # again.
            (self._recovery, row["elapsed"]),
        ).fetchall()
        for each in found:
            self._recovery = each["id"]
            self._troubles[each["trouble"]] += 1
        return {f"trouble/{name}": self._troubles[name] for _, name in found}

    def _decision(self, row: sqlite3.Row) -> dict[str, float]:
        """Read the values of the decision whose outcome this image has."""
        step = self._db.execute(
            "SELECT id, name, q, forecast FROM steps WHERE id > ? AND scan_after = ?",
            (self._step, row["id"]),
        ).fetchone()
        if step is None:  # the first image after a restart between two decisions
            return {}
        self._step = step["id"]
        self._chosen[step["name"]] += 1
        values = self._of_actions("q", json.loads(step["q"]))
        forecast = read_forecast(step["forecast"])
        if forecast is not None:
            values |= self._of_actions("actions_to_go", forecast.actions_to_go)
            values |= self._of_actions("p_good_after", forecast.good)
            named = zip(CLASS_NAMES, forecast.belief, strict=True)
            values |= {f"belief/{name}": share for name, share in named}
        return values

    def _of_actions(self, tag: str, values: Sequence[float] | None) -> dict[str, float]:
        named = zip(self._actions, values or (), strict=values is not None)
        return {f"{tag}/{name}": value for name, value in named}

    def _end_episode(self) -> Iterator[Moment]:
        """Close the episode of the last image, if that has ended it."""
        if self._episode is None:
            return
        number, wall = self._episode
        query = (
            f"SELECT actions, elapsed_end - elapsed AS seconds, outcome, {EPISODE_POLICY} AS policy"
            " FROM episodes WHERE id = ?"
        )
        episode = self._db.execute(query, (number,)).fetchone()
        if episode["outcome"] is None:
            return
        self._episode = None
        values: dict[str, float] = {
            "episode/length": episode["actions"],
            "episode/seconds": episode["seconds"],
            "episode/success": episode["outcome"] == "good",
        }
        if episode["policy"] is not None:
            values[f"episode/length_{episode['policy']}"] = episode["actions"]
            values[f"episode/seconds_{episode['policy']}"] = episode["seconds"]
        values |= {f"actions/{name}": self._chosen[name] for name in self._actions}
        # Counts are of one episode, for every curve has one point an episode.
        self._chosen.clear()
        yield Moment(self._images, wall, values)

    def _picture(self, row: sqlite3.Row) -> ScanImage | None:
        label, probability = row["label"], row["probability"]
        self._labels[label] += 1
        if not is_sampled(self._labels[label]):
            return None
        try:
            z = read_scan(self._run, row).z
        except FileFormatError:  # the report names it
            return None
        classified = "" if probability is None else f", p = {probability:.3f}"
        return ScanImage(label, f"image {self._images}: {label}{classified}", z)


def is_sampled(number: int) -> bool:
    """Tell whether the image with this number, from 1, is in the sample.

    The sample becomes ever sparser: a few hundred in any run.
    """
    # Dense at first, when somebody watches, then ever sparser: the file grows with the logarithm.
    apart = 1 << ((number - 1) // PICTURES).bit_length()
    return not (number - 1) % apart
