"""A run of the microscope in TensorBoard, written from its journal.

Whatever is written follows from the rows of the journal alone, so a run that goes on after a kill
writes its file again, from the first image on, instead of leaving gaps and doubles.
"""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from agents.summaries import captioned, closing, opening, resuming
from spm_gym.analysis.metrics import RunMetrics, ScanImage
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.run_directory import TENSORBOARD
from spm_gym.config import Config
from spm_gym.figures.heights import grey_values, png
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.paths import display_name
from spm_gym.runner.signals import ignoring_signals

_AT_ONCE_S = 4e-3
_REST = 50.0
_AT_THE_END_S = 5.0


class RunTensorBoard:
    """Writes ``tensorboard/`` of a run; use it in a ``with`` block.

    It takes a fiftieth of the time at most and catches up at the end, for some seconds, in which
    Ctrl-C changes nothing any more. What goes wrong is reported once, and ends the writing only.

    Attributes:
        completed: Whether the run has come to the end that was asked for; set by the caller.

    Args:
        run: The run directory, with its journal.
        config: Settings of the run.
    """

    def __init__(self, run: Path, config: Config) -> None:
        self._run = run
        self._config = config
        self.completed = False
        self._next = 0.0
        self._open: _Open | None = None

    def __enter__(self) -> RunTensorBoard:
        try:
            self._begin()
        except Exception as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        with ignoring_signals("the record for TensorBoard is being completed: a few seconds"):
            try:
                self._end()
            except Exception as error:
                self._give_up(error)
            self._close()

    def show(self, *_: object) -> None:
        """Write what is new, unless it is too early."""
        began = time.perf_counter()
        if self._open is None or began < self._next:
            return
        try:
            self._write(self._open, _AT_ONCE_S)
        except Exception as error:  # for people only: it must not cost the measurement
            self._give_up(error)
        now = time.perf_counter()
        self._next = now + _REST * max(_AT_ONCE_S, now - began)

    def _begin(self) -> None:
        folder = self._run / TENSORBOARD
        folder.mkdir(exist_ok=True)
        older = list(folder.glob("events.out.tfevents.*"))
        names = [action.name for action in self._config.env.actions]
        with ExitStack() as undo:
            metrics = RunMetrics(self._run, names)
            undo.callback(metrics.close)
            file = EventFile(folder, len(older))
            undo.pop_all()
        self._open = _Open(file, metrics)
        if older:
            file.write(resuming(0))
        for summary in opening(self._config, "operation", display_name(self._run)):
            file.add(summary, 0, time.time())
        self._write(self._open)
        # Last, so that a kill in between leaves the curves of the earlier sessions.
        for each in older:
            each.unlink()

    def _end(self) -> None:
        if self._open is None:
            return
        if not self._write(self._open, _AT_THE_END_S):
            written = f"only images 1 to {self._open.metrics.images} were written for TensorBoard"
            print_line(f"{written} in time: --resume writes all, also of a run that is over")
        self._open.file.add(closing(self.completed), 0, time.time())

    def _write(self, to: _Open, seconds: float = math.inf) -> bool:
        """Write what is new.

        Returns:
            Whether that was all in so many seconds.
        """
        end = time.perf_counter() + seconds
        complete = True
        for moment in to.metrics:
            to.file.add(_scalars(moment.values), moment.step, moment.wall)
            if moment.picture is not None:
                image = _image(moment.picture, Preprocessing.of(self._config.env))
                to.file.add(image, moment.step, moment.wall)
            if time.perf_counter() > end:
                complete = False
                break
        to.file.flush()
        return complete

    def _give_up(self, error: Exception) -> None:
        print_line(f"nothing more is written for TensorBoard, the run goes on: {error}")
        self._close()

    def _close(self) -> None:
        if self._open is None:
            return
        to, self._open = self._open, None
        to.metrics.close()
        with suppress(OSError):  # the disk is full, which was reported
            to.file.close()


class EventFile:
    """A file of events, written by the calling thread, so that errors are raised there.

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


class _Open(NamedTuple):
    """The file that is being written, and what is read from the journal for it."""

    file: EventFile
    metrics: RunMetrics


def _scalars(values: dict[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])


def _image(picture: ScanImage, preprocessing: Preprocessing) -> Summary:
    pixels = captioned(grey_values(picture.z, preprocessing), picture.caption)
    height, width = pixels.shape
    image = Summary.Image(
        height=height, width=width, colorspace=1, encoded_image_string=png(Image.fromarray(pixels))
    )
    return Summary(value=[Summary.Value(tag=f"observation/{picture.label}", image=image)])
