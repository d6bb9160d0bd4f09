"""Settings and status of a run for TensorBoard, and images with a caption.

All tags of this project are listed in the glossary of its documentation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from torch.utils.tensorboard import FileWriter, SummaryWriter

from spm_gym.config import Config
from spm_gym.paths import display_name

RunKind = Literal["agent", "classifier", "recogniser", "operation"]
"""Kind of a run, which is also the name of its section of the settings."""

KINDS: tuple[RunKind, ...] = ("agent", "classifier", "recogniser", "operation")

SETTINGS = "settings/config"
"""Tag of the settings, YAML."""

METRICS = (
    "episode/length",
    "episode/length_agent",
    "episode/length_random",
    "episode/seconds",
    "episode/success",
    "learn/loss",
    "yield/good_share",
    "yield/good_per_hour",
    "classifier/validation_loss",
    "classifier/auc",
    "classifier/tpr",
    "classifier/fpr",
    "recogniser/loss",
)
"""Scalars whose last values stand beside the hyper-parameters."""

_ALWAYS = ("seed", "run.microscope", "env.ground_truth", "env.good_above", "env.max_steps",
           "env.plane", "env.preview_lines", "simulator.mode",
           "simulator.tip_change_rate")  # fmt: skip
_PROMINENT = ("seed", "run.microscope", "operation.policy")
_SIDE = 256
_LETTERS = 13
_STRIP = 20
_DARK, _LIGHT = 24, 235


def hyper_parameters(config: Config, kind: RunKind) -> dict[str, bool | float | str]:
    """Settings that are a single value and matter to a kind of run, by their dotted names."""
    tree = config.model_dump(mode="json")
    names = [*_ALWAYS, *(f"{kind}.{name}" for name in tree[kind])]
    names += ["agent.belief.prior"] if kind == "agent" else []
    found = ((name, _leaf(tree, name)) for name in names)
    return {name: value for name, value in found if isinstance(value, bool | int | float | str)}


def opening(config: Config, kind: RunKind, name: str) -> Iterator[Summary]:
    """Make the summaries of the start of a run: hyper-parameters, their names, all settings.

    Args:
        config: Settings of the run.
        kind: Of the run.
        name: Of the run, for tables.
    """
    # Every run names the hyper-parameters and metrics of all kinds, because TensorBoard takes those
    # of any one run for all of them. Those that are marked as differing come first in its table.
    own = hyper_parameters(config, kind)
    usual: dict[str, bool | float | str] = {}
    for each in KINDS:
        usual |= hyper_parameters(Config(), each)
    infos = [
        api_pb2.HParamInfo(name=key, differs=key in _PROMINENT or own.get(key, value) != value)
        for key, value in (own | usual).items()
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    yield _hparams_summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
    yield hparams_pb(own, name)
    yield text_pb(SETTINGS, f"```yaml\n{config.to_yaml()}```")


def closing(completed: bool) -> Summary:
    """Make the summary of the end of a run: its time, and whether the run was completed."""
    status = api_pb2.STATUS_SUCCESS if completed else api_pb2.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time.time())
    return _hparams_summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _hparams_summary(tag: str, data: HParamsPluginData) -> Summary:
    about = metadata.create_summary_metadata(data)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


def resuming(step: int) -> Event:
    """Make the event of a continued run: entries of earlier files from this step on are void."""
    return Event(step=step, session_log=SessionLog(status=SessionLog.START))


def training_logger(folder: Path, config: Config, done: int) -> Logger:
    """Make a logger of stable-baselines3 that writes for TensorBoard alone.

    Args:
        folder: Directory of the event files, in the run directory.
        config: Settings of the run.
        done: Steps that are done already; entries of earlier files for later steps are void.
    """
    # A killed run may have logged steps beyond its last checkpoint, which are now done again.
    resumed = any(folder.glob("events*"))
    output = TensorBoardOutputFormat(str(folder))
    if resumed:
        _file(output.writer).add_event(resuming(done + 1 if done else 0))
    if not done:
        write_opening(output.writer, config, "agent", folder.parent)
    return Logger(None, [output])


def close_logger(logger: Logger) -> None:
    """Write that training is completed, and close the files."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            write_closing(output.writer)
    logger.close()


def write_opening(writer: SummaryWriter, config: Config, kind: RunKind, run: Path) -> None:
    """Write the summaries of `opening` for a run in this directory."""
    for summary in opening(config, kind, display_name(run)):
        _file(writer).add_summary(summary, 0)


def write_closing(writer: SummaryWriter) -> None:
    """Write the summary of `closing` for a completed run."""
    _file(writer).add_summary(closing(completed=True))


def _file(writer: SummaryWriter) -> FileWriter:
    assert writer.file_writer is not None, "it is there until the writer is closed"
    return writer.file_writer


def captioned(grey: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """Enlarge an image (H, W) if it is small, and write a line below it."""
    height, width = grey.shape
    factor = max(1, _SIDE // max(height, width))
    size = (max(width * factor, _SIDE // 2), height * factor + _STRIP)
    picture = Image.new("L", size, _DARK)
    picture.paste(
        Image.fromarray(grey).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    )
    place = (4, height * factor + _STRIP / 2)
    ImageDraw.Draw(picture).text(place, caption, _LIGHT, _font(), anchor="lm")
    return np.asarray(picture)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_LETTERS)


def _leaf(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree
