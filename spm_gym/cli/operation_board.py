"""A run of the microscope in TensorBoard, told from its journal.

The step is the number of the image. Whatever is written follows from the rows of the journal alone,
so a run that goes on after a kill writes its file anew, from the first image on, instead of leaving
gaps and doubles.
"""

from __future__ import annotations

import io
import json
import math
import os
import socket
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from agents.board import captioned, closing, opening, resuming
from spm_gym.cli.microscope import tell
from spm_gym.cli.run_directory import TENSORBOARD
from spm_gym.config import Config
from spm_gym.imaging.files import FileFormatError
from spm_gym.runner.reading import JOURNAL, Label, open_journal, read_scan
from spm_gym.view.drivers import DRIVER
from spm_gym.view.mosaic import grey_values
from spm_gym.view.report_facts import HOUR, IMAGE, JUDGED

SHARE_OF = 100
"""Judged images that the share of good ones is taken of."""

PICTURES = 10
"""Images of every label that are shown; of those that follow every second, fourth, eighth, ..."""

_AT_ONCE_S = 4e-3
_REST = 50.0
_ROWS = 100
_NM = 1e-9
_NEXT = f"SELECT * FROM scans WHERE id > ? AND {IMAGE} AND label IS NOT NULL ORDER BY id LIMIT ?"


class OperationBoard:
    """Writes ``tensorboard/`` of a run; use it in a ``with`` block.

    It takes a fiftieth of the time at most and catches up at the end. What goes wrong is said once,
    and ends the writing, not the run.

    Args:
        run: The run directory, with its journal.
        config: Settings of the run.
    """

    def __init__(self, run: Path, config: Config) -> None:
        self._run = run
        self._config = config
        self._next = 0.0
        self._file: EventFile | None = None
        self._story: Story | None = None

    def __enter__(self) -> OperationBoard:
        try:
            self._begin()
        except Exception as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._story is not None and self._file is not None:
                self._write()
                self._file.add(closing(), 0, time.time())
        except Exception as error:
            self._give_up(error)
        self._close()

    def show(self, *_: object) -> None:
        """Write what is new, unless it is too early."""
        began = time.perf_counter()
        if self._story is None or began < self._next:
            return
        try:
            self._write(_AT_ONCE_S)
        except Exception as error:  # for people only: it must not cost the measurement
            self._give_up(error)
        now = time.perf_counter()
        self._next = now + _REST * max(_AT_ONCE_S, now - began)

    def _begin(self) -> None:
        folder = self._run / TENSORBOARD
        folder.mkdir(exist_ok=True)
        older = list(folder.glob("events*"))
        self._file = EventFile(folder, len(older))
        if older:
            self._file.write(resuming(0))
        for summary in opening(self._config, "operation", self._run.resolve().name):
            self._file.add(summary, 0, time.time())
        names = [action.name for action in self._config.env.actions]
        self._story = Story(self._run, names)
        self._write()
        for each in older:
            each.unlink()

    def _write(self, seconds: float = math.inf) -> None:
        assert self._story is not None
        assert self._file is not None
        end = time.perf_counter() + seconds
        for image in self._story:
            for summary, step, wall in image:
                self._file.add(summary, step, wall)
            if time.perf_counter() > end:
                break
        self._file.flush()

    def _give_up(self, error: Exception) -> None:
        tell(f"nothing more is written for TensorBoard, the run goes on: {error}")
        self._close()

    def _close(self) -> None:
        story, file, self._story, self._file = self._story, self._file, None, None
        if story is not None:
            story.close()
        if file is not None:
            with suppress(OSError):  # the disk is full; that has been said
                file.close()


class EventFile:
    """A file of events, written by the caller itself, so that it is the caller who hears of errors.

    Args:
        folder: Where it goes.
        number: Of the files that were there before.
    """

    def __init__(self, folder: Path, number: int) -> None:
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / f"{name}.{number}").open("wb")
        self._records = RecordWriter(self._file)
        self.write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, event: Event) -> None:
        """Write an event."""
        self._records.write(event.SerializeToString())

    def add(self, summary: Summary, step: int, wall: float) -> None:
        """Write a summary."""
        self.write(Event(wall_time=wall, step=step, summary=summary))

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        """Let go of the file, also if it cannot take what is left."""
        self._file.close()


class Story:
    """What a journal has for TensorBoard: for every image a list of summaries, steps, wall times.

    Whoever iterates over it again goes on with what has come since.

    Args:
        run: The run directory.
        actions: Names of the actions.
    """

    def __init__(self, run: Path, actions: list[str]) -> None:
        self._run = run
        self._actions = actions
        self._db = open_journal(run / JOURNAL)
        self._scan = self._step = self._recovery = 0
        self._images = self._good = 0
        self._judged: deque[bool] = deque(maxlen=SHARE_OF)
        self._labels: Counter[str] = Counter()
        self._troubles: Counter[str] = Counter()
        self._chosen: Counter[str] = Counter()
        self._episode: tuple[int, float] | None = None

    def close(self) -> None:
        """Let go of the journal."""
        self._db.close()

    def __iter__(self) -> Iterator[list[tuple[Summary, int, float]]]:
        while rows := self._db.execute(_NEXT, (self._scan, _ROWS)).fetchall():
            for row in rows:
                yield list(self._tell(row))
        yield list(self._end_episode())

    def _tell(self, row: sqlite3.Row) -> Iterator[tuple[Summary, int, float]]:
        if self._episode is not None and row["episode"] != self._episode[0]:
            yield from self._end_episode()
        self._scan = row["id"]
        self._images += 1
        step, wall = self._images, row["wall"]
        values = {**self._image(row), **self._yield(row), **self._trouble(row)}
        if row["episode"] is not None:
            values |= self._decision(row)
            self._episode = row["episode"], wall
        yield _scalars(values), step, wall
        with suppress(FileFormatError):  # a damaged scan is missing here; the report says so
            for picture in self._picture(row):
                yield picture, step, wall

    def _image(self, row: sqlite3.Row) -> dict[str, float]:
        values = {"progress/hours": row["elapsed"] / HOUR, "progress/area": row["area"]}
        if row["probability"] is not None:
            values["image/probability"] = row["probability"]
            values["image/clean_side_nm"] = row["clean_side"] / _NM
        return values

    def _yield(self, row: sqlite3.Row) -> dict[str, float]:
        good = row["label"] == Label.GOOD
        self._good += good
        values: dict[str, float] = {"yield/good": self._good}
        if row["label"] in JUDGED:
            self._judged.append(good)
            values["yield/good_share"] = sum(self._judged) / len(self._judged)
        if row["elapsed"] > 0:
            values["yield/good_per_hour"] = self._good / row["elapsed"] * HOUR
        return values

    def _trouble(self, row: sqlite3.Row) -> dict[str, float]:
        """Troubles before this image, added up."""
        found = self._db.execute(
            "SELECT id, trouble FROM recoveries WHERE id > ? AND elapsed <= ? ORDER BY id",
            (self._recovery, row["elapsed"]),
        ).fetchall()
        for each in found:
            self._recovery = each["id"]
            self._troubles[each["trouble"]] += 1
        return {f"trouble/{name}": self._troubles[name] for _, name in found}

    def _decision(self, row: sqlite3.Row) -> dict[str, float]:
        """Values of the decision whose outcome this image shows."""
        step = self._db.execute(
            "SELECT id, name, q FROM steps WHERE id > ? AND scan_after = ?",
            (self._step, row["id"]),
        ).fetchone()
        if step is None:  # the first image after a restart between two decisions
            return {}
        self._step = step["id"]
        self._chosen[step["name"]] += 1
        values = json.loads(step["q"])
        if values is None:
            return {}
        return {f"q/{name}": q for name, q in zip(self._actions, values, strict=True)}

    def _end_episode(self) -> Iterator[tuple[Summary, int, float]]:
        """The episode of the last image, if that has ended it."""
        if self._episode is None:
            return
        number, wall = self._episode
        query = f"SELECT actions, outcome, {DRIVER} AS driver FROM episodes WHERE id = ?"
        episode = self._db.execute(query, (number,)).fetchone()
        if episode["outcome"] is None:
            return
        self._episode = None
        values: dict[str, float] = {
            "episode/length": episode["actions"],
            "episode/success": episode["outcome"] == "good",
        }
        if episode["driver"] is not None:
            values[f"episode/length_{episode['driver']}"] = episode["actions"]
        values |= {f"actions/{name}": self._chosen[name] for name in self._actions}
        self._chosen.clear()
        yield _scalars(values), self._images, wall

    def _picture(self, row: sqlite3.Row) -> Iterator[Summary]:
        label = row["label"]
        self._labels[label] += 1
        if not _is_shown(self._labels[label]):
            return
        probability = row["probability"]
        judged = "" if probability is None else f", p = {probability:.3f}"
        caption = f"image {self._images}: {label}{judged}"
        pixels = captioned(grey_values(read_scan(self._run, row).z), caption)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=2)
        height, width = pixels.shape
        image = Summary.Image(
            height=height, width=width, colorspace=1, encoded_image_string=file.getvalue()
        )
        yield Summary(value=[Summary.Value(tag=f"observation/{label}", image=image)])


def _is_shown(number: int) -> bool:
    """Whether the image with this number, from 1, is: ever fewer, a few hundred in any run."""
    apart = 1 << ((number - 1) // PICTURES).bit_length()
    return not (number - 1) % apart


def _scalars(values: dict[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
