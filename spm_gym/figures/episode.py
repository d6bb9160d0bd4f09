"""An animation of conditioning: the images, what was done after each, and what it did."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from spm_gym.analysis.episodes import episode_record, remark
from spm_gym.analysis.forecasts import read_forecast
from spm_gym.colours import ACTION, BAD, GOOD, INK, NEUTRAL
from spm_gym.config import EnvConfig
from spm_gym.envs.rendering import add_action, add_scale_bar, add_square, show_normalised
from spm_gym.figures.canvas import new_figure, pixels_of, plain
from spm_gym.figures.heights import grey_words
from spm_gym.imaging import Square, readings_of
from spm_gym.imaging.observed import read_observed
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import read_scan
from spm_gym.paths import display_name
from spm_gym.scale import probability_text

_WIDTH, _HEIGHT = 7.2, 4.0
_IMAGE = (0.02, 0.04, 0.47, 0.47 * _WIDTH / _HEIGHT)
_CURVE, _TALL_CURVE = (0.61, 0.655, 0.37, 0.2), (0.61, 0.2, 0.37, 0.6)
_VALUES = (0.61, 0.115, 0.37, 0.41)
"""Left and lower edge, width and height of the parts of a frame, in its size."""


@dataclass(frozen=True, slots=True)
class Still:
    """One image of an episode, and the decision that rests on it.

    Attributes:
        image: As the networks see it, (lines, pixels).
        width: Of the image, m.
        square: Its largest clean square, in pixels of a line.
        probability: That the probe is good; NaN for an unknown image.
        action: Name of what was done next; empty if nothing was.
        values: The agent's, of all actions: those of a double DQN, or of a belief agent minus the
            expected number of actions to go; empty if there are none.
        allowed: Which actions the clean square allows.
        note: What is special about that action.
    """

    image: NDArray[np.float32]
    width: float
    square: Square
    probability: float
    action: str = ""
    values: Sequence[float] = ()
    allowed: Sequence[bool] = ()
    note: str = ""

    @property
    def preview(self) -> bool:
        """Whether it has fewer lines than pixels."""
        lines, pixels = self.image.shape
        return bool(lines < pixels)

    def is_good(self, good_above: float) -> bool:
        """Whether it ended the episode with a good probe; a preview never does."""
        return not self.preview and self.probability > good_above


@dataclass(frozen=True, slots=True)
class EpisodeFrames:
    """An episode in images.

    Attributes:
        title: What it is an episode of.
        actions: Names of all actions.
        good_above: A probe is good above this probability.
        stills: In their order.
        grey: What lies between black and white, as `grey_words` says it.
        value: What the values of the actions are, in words.
    """

    title: str
    actions: Sequence[str]
    good_above: float
    stills: Sequence[Still]
    grey: str
    value: str = "agent's value"


def recorded_episode(
    db: sqlite3.Connection, run: Path, episode: int | None, config: EnvConfig
) -> EpisodeFrames:
    """Read the images of an episode of a run.

    Args:
        db: The journal.
        run: The run directory.
        episode: Its number; None for the last one.
        config: Settings of the run.

    Raises:
        NoEpisode: The run has not conditioned, or not so often.
        FileFormatError: An image of it is gone or damaged.
    """
    record = episode_record(db, run, episode, config)
    stills = [_recorded(run, scan, step, config) for scan, step in record.scans]
    title = f"{display_name(run)}, conditioning {record.number}"
    believes = any(step is not None and step["forecast"] for _, step in record.scans)
    value = "minus the expected actions to go" if believes else "agent's value"
    grey = grey_words(Preprocessing.of(config).scale)
    return EpisodeFrames(title, record.actions, config.good_above, stills, grey, value)


def _recorded(run: Path, row: sqlite3.Row, step: sqlite3.Row | None, config: EnvConfig) -> Still:
    scan = read_scan(run, row)
    # Read again as the environment reads: the journal has the side of the square, not its place.
    readings = readings_of([scan], *Preprocessing.of(config))
    known = [row[name] for name in ("probability", "preview_probability") if row[name] is not None]
    # NaN leaves a gap in the curve; 0 would be a verdict.
    probability = known[0] if known else np.nan
    image = readings.observations[0, 0, scan.frame.rows]
    square = read_observed([scan], config).squares[0]
    still = Still(image, row["size"], square, probability)
    if step is None:
        return still
    forecast = read_forecast(step["forecast"])
    if forecast is None:
        values = json.loads(step["q"]) or ()
    else:
        values = [-actions for actions in forecast.actions_to_go]
    allowed = json.loads(step["mask"])
    note = remark(step, values, allowed)
    return replace(still, action=step["name"], values=values, allowed=allowed, note=note)


def draw_frames(frames: EpisodeFrames, dpi: float) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of an animation, one for each image, all (height, width, 3) RGB."""
    for index in range(len(frames.stills)):
        yield pixels_of(draw_still(frames, index, dpi))


def draw_still(frames: EpisodeFrames, index: int, dpi: float = 150) -> Figure:
    """Draw one frame: the image, the probability so far, the agent's values.

    Args:
        frames: The episode.
        index: Of the image.
        dpi: Pixels per inch of a picture 7.2 inches wide.
    """
    still = frames.stills[index]
    figure = new_figure(_WIDTH, _HEIGHT, dpi)
    figure.set_layout_engine("none")  # nothing may move from frame to frame
    _draw_image(figure.add_axes(_IMAGE), still)
    # Below the image, where nothing of it is hidden.
    figure.text(_IMAGE[0], 0.012, f"black to white: {frames.grey}", fontsize=7.5)
    with_values = any(each.values for each in frames.stills)
    _draw_curve(figure.add_axes(_CURVE if with_values else _TALL_CURVE), frames, index)
    if with_values and still.values:
        _draw_values(figure.add_axes(_VALUES), frames, still)
    elif with_values:
        _draw_end(figure.add_axes(_VALUES), frames, index)
    place = f"{plain(frames.title)}: image {index + 1} of {len(frames.stills)}"
    figure.suptitle(f"{place}. {_event(frames, still)}", fontsize=10, x=0.02, y=0.985,
                    ha="left")  # fmt: skip
    return figure


def _event(frames: EpisodeFrames, still: Still) -> str:
    if still.action:
        note = f" ({still.note})" if still.note else ""
        return f"Next: {plain(still.action, 30)}{note}"
    if still.is_good(frames.good_above):
        return "The probe is good"
    return "No further action"


def _draw_image(axes: Axes, still: Still) -> None:
    show_normalised(axes, still.image, still.width)
    lines, pixels = still.image.shape
    if still.preview:
        axes.set_title(f"preview, {lines} lines", fontsize=9)
    shape = pixels, pixels
    add_square(axes, still.square, shape)
    if still.action:
        add_action(axes, still.square, shape)
    add_scale_bar(axes, metres=True)


def _draw_curve(axes: Axes, frames: EpisodeFrames, index: int) -> None:
    stills = frames.stills[: index + 1]
    so_far = np.array([still.probability for still in stills])
    good = [still.is_good(frames.good_above) for still in stills]
    axes.plot(so_far, color=INK, lw=1)
    axes.scatter(
        np.arange(len(so_far)), so_far, 22, np.where(good, GOOD, BAD), zorder=3, linewidths=0
    )
    axes.axhline(frames.good_above, color=INK, lw=0.8, ls=":")
    axes.set(ylim=(-0.05, 1.08), xlim=(-0.3, max(len(frames.stills) - 0.7, 1)))
    axes.set_title(f"probability of a good probe: {probability_text(so_far[-1])}", fontsize=9)
    axes.set_xlabel("actions", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_end(axes: Axes, frames: EpisodeFrames, index: int) -> None:
    """Draw the result in the place of values that nobody needs any more."""
    axes.set_axis_off()
    if index + 1 < len(frames.stills):
        return
    good = frames.stills[index].is_good(frames.good_above)
    times = "1 action" if index == 1 else f"{index} actions"
    verdict = f"good after {times}" if good else f"not good after {times}"
    axes.text(0.5, 0.5, verdict, ha="center", fontsize=15, weight="bold",
              color=GOOD if good else BAD, transform=axes.transAxes)  # fmt: skip


def _draw_values(axes: Axes, frames: EpisodeFrames, still: Still) -> None:
    """Draw bars from the lowest value on, hollow where the clean square allows no action."""
    # The same axis in all frames, or the bars would seem to move.
    known = [value for each in frames.stills for value in each.values]
    low, high = min(known), max(known)
    margin = 0.05 * (high - low) + 1e-6
    axes.set(xlim=(low - margin, high + margin), ylim=(len(frames.actions) - 0.4, -0.6))
    axes.set_yticks(range(len(frames.actions)), [plain(name, 16) for name in frames.actions])
    axes.tick_params(labelsize=7.5, length=2)
    axes.set_xlabel(f"{frames.value} (hollow: not allowed)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    for place, value in enumerate(still.values):
        chosen = frames.actions[place] == still.action
        colour = ACTION if chosen else NEUTRAL
        allowed = place >= len(still.allowed) or still.allowed[place]
        axes.barh(
            place, value - low + margin, 0.7, low - margin, color=colour if allowed else "none",
            edgecolor=INK if chosen else NEUTRAL, linewidth=1.2 if chosen else 0.6,
        )  # fmt: skip
        if chosen:
            axes.get_yticklabels()[place].set_fontweight("bold")
