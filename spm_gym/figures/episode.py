"""An animation of conditioning: what was seen, what was done about it, and what it did."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from spm_gym.analysis.session import last_session
from spm_gym.colours import ACTION, BAD, GOOD, INK, NEUTRAL
from spm_gym.config import EnvConfig
from spm_gym.envs.rendering import add_action, add_scale_bar, add_square, show_normalised
from spm_gym.figures.canvas import new_figure, pixels_of, plain
from spm_gym.imaging import Square, read_scans
from spm_gym.journal.reader import read_scan
from spm_gym.paths import display_name

_WIDTH, _HEIGHT = 7.2, 4.0
_IMAGE = (0.02, 0.04, 0.47, 0.47 * _WIDTH / _HEIGHT)
_WAY, _TALL_WAY = (0.61, 0.655, 0.37, 0.2), (0.61, 0.2, 0.37, 0.6)
_VALUES = (0.61, 0.115, 0.37, 0.41)
"""Left and lower edge, width and height of the parts of a frame, in its size."""


@dataclass(frozen=True, slots=True)
class Still:
    """One image of an episode, and what was decided on it.

    Attributes:
        image: As the networks see it, (pixels, pixels).
        width: Of the image, m.
        square: Its largest clean square.
        probability: That the probe is good.
        action: Name of what was done next; empty if nothing was.
        values: The agent's, of all actions; empty if there are none.
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


@dataclass(frozen=True, slots=True)
class EpisodeFrames:
    """An episode in images.

    Attributes:
        title: What it is an episode of.
        actions: Names of all actions.
        good_above: A probe is good above this probability.
        stills: In their order.
    """

    title: str
    actions: Sequence[str]
    good_above: float
    stills: Sequence[Still]


class NoEpisode(ValueError):
    """There is no such episode; the message says which there are."""


def recorded_episode(
    db: sqlite3.Connection, run: Path, episode: int | None, config: EnvConfig
) -> EpisodeFrames:
    """An episode of a run, from its journal.

    Args:
        db: The journal.
        run: The run directory.
        episode: Its number; None for the last one.
        config: Settings of the run.

    Raises:
        NoEpisode: The run has not conditioned, or not so often.
        FileFormatError: An image of it is gone or damaged.
    """
    count, last = db.execute("SELECT COUNT(*), MAX(id) FROM episodes").fetchone()
    number = last if episode is None else episode
    row = db.execute("SELECT * FROM episodes WHERE id = ?", (number,)).fetchone()
    if row is None:
        had = f"has the conditioning episodes 1 to {last}" if count else "has not conditioned yet"
        raise NoEpisode(f"there is no episode {number or ''}: {run} {had}".replace(" :", ":"))
    steps = db.execute(
        "SELECT * FROM steps WHERE episode = ? ORDER BY number", (number,)
    ).fetchall()
    decided = {step["scan"]: step for step in steps}
    scans = dict.fromkeys(
        scan for step in steps for scan in (step["scan"], step["scan_after"]) if scan
    )
    stills = [
        _recorded(db, run, scan, decided.get(scan), config) for scan in scans or [row["first_scan"]]
    ]
    title = f"{display_name(run)}, conditioning {number}"
    return EpisodeFrames(title, _action_names(db, steps, config), config.good_above, stills)


def _action_names(
    db: sqlite3.Connection, steps: Sequence[sqlite3.Row], config: EnvConfig
) -> list[str]:
    """Of the actions that there were to choose from; the settings may have been edited since."""
    noted = last_session(db).settings
    actions = (config if noted is None else noted.env).actions
    named = {number: action.name for number, action in enumerate(actions)}
    named |= {step["action"]: step["name"] for step in steps}
    count = max((len(json.loads(step["mask"])) for step in steps), default=len(actions))
    return [named.get(number, f"action {number + 1}") for number in range(count)]


def _recorded(
    db: sqlite3.Connection, run: Path, number: int, step: sqlite3.Row | None, config: EnvConfig
) -> Still:
    row = db.execute("SELECT * FROM scans WHERE id = ?", (number,)).fetchone()
    scan = read_scan(run, row)
    heights = scan.z.astype(np.float32)[None]
    seen = read_scans(heights, np.array([scan.z_range_or_nan]), config.plane)
    known = row["probability"]
    still = Still(
        seen.observations[0, 0], row["size"], seen.squares[0], np.nan if known is None else known
    )
    if step is None:
        return still
    values, allowed = json.loads(step["q"]) or (), json.loads(step["mask"])
    return Still(
        still.image, still.width, still.square, still.probability, step["name"], values, allowed,
        _note(step, values, allowed),
    )  # fmt: skip


def _note(step: sqlite3.Row, values: Sequence[float], allowed: Sequence[bool]) -> str:
    """What is special about a decision: what became of it, or that the agent tried something."""
    if step["refused"]:
        return "refused"
    if step["uncertain"]:
        return "uncertain"
    if len(values) == len(allowed) > 0:
        best = int(np.where(allowed, values, -np.inf).argmax())
        return "" if best == step["action"] else "to explore"
    return ""


def draw_frames(story: EpisodeFrames, dpi: float) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of an animation, one for each image, all (height, width, 3) RGB."""
    for index in range(len(story.stills)):
        yield pixels_of(draw_still(story, index, dpi))


def draw_still(story: EpisodeFrames, index: int, dpi: float = 150) -> Figure:
    """Draw one frame: the image, the way of the probability so far, the agent's values.

    Args:
        story: The episode.
        index: Of the image.
        dpi: Pixels per inch of a picture 7.2 inches wide.
    """
    still = story.stills[index]
    figure = new_figure(_WIDTH, _HEIGHT, dpi)
    figure.set_layout_engine("none")  # nothing may move from frame to frame
    _draw_image(figure.add_axes(_IMAGE), still)
    with_values = any(each.values for each in story.stills)
    _draw_way(figure.add_axes(_WAY if with_values else _TALL_WAY), story, index)
    if with_values and still.values:
        _draw_values(figure.add_axes(_VALUES), story, still)
    elif with_values:
        _draw_end(figure.add_axes(_VALUES), story, index)
    place = f"{plain(story.title)}: image {index + 1} of {len(story.stills)}"
    figure.suptitle(f"{place}. {_event(story, still)}", fontsize=10, x=0.02, y=0.985,
                    ha="left")  # fmt: skip
    return figure


def _event(story: EpisodeFrames, still: Still) -> str:
    if still.action:
        note = f" ({still.note})" if still.note else ""
        return f"Next: {plain(still.action, 30)}{note}"
    if still.probability > story.good_above:
        return "The probe is good"
    return "No further action"


def _draw_image(axes: Axes, still: Still) -> None:
    show_normalised(axes, still.image, still.width)
    shape = (still.image.shape[0], still.image.shape[1])
    add_square(axes, still.square, shape)
    if still.action:
        add_action(axes, still.square, shape)
    add_scale_bar(axes, metres=True)


def _draw_way(axes: Axes, story: EpisodeFrames, index: int) -> None:
    so_far = np.array([still.probability for still in story.stills[: index + 1]])
    good = so_far > story.good_above
    axes.plot(so_far, color=INK, lw=1)
    axes.scatter(
        np.arange(len(so_far)), so_far, 22, np.where(good, GOOD, BAD), zorder=3, linewidths=0
    )
    axes.axhline(story.good_above, color=INK, lw=0.8, ls=":")
    axes.set(ylim=(-0.05, 1.08), xlim=(-0.3, max(len(story.stills) - 0.7, 1)))
    axes.set_title(f"probability of a good probe: {so_far[-1]:.3f}", fontsize=9)
    axes.set_xlabel("actions", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_end(axes: Axes, story: EpisodeFrames, index: int) -> None:
    """What has come of it, in the place of values that nobody needs any more."""
    axes.set_axis_off()
    if index + 1 < len(story.stills):
        return
    good = story.stills[index].probability > story.good_above
    times = "1 action" if index == 1 else f"{index} actions"
    verdict = f"good after {times}" if good else f"not good after {times}"
    axes.text(0.5, 0.5, verdict, ha="center", fontsize=15, weight="bold",
              color=GOOD if good else BAD, transform=axes.transAxes)  # fmt: skip


def _draw_values(axes: Axes, story: EpisodeFrames, still: Still) -> None:
    """Bars from the lowest value on; what the clean square does not allow is hollow."""
    known = [value for each in story.stills for value in each.values]
    low, high = min(known), max(known)
    margin = 0.05 * (high - low) + 1e-6
    axes.set(xlim=(low - margin, high + margin), ylim=(len(story.actions) - 0.4, -0.6))
    axes.set_yticks(range(len(story.actions)), [plain(name, 16) for name in story.actions])
    axes.tick_params(labelsize=7.5, length=2)
    axes.set_xlabel("agent's value (hollow: not allowed)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    for place, value in enumerate(still.values):
        chosen = story.actions[place] == still.action
        colour = ACTION if chosen else NEUTRAL
        allowed = place >= len(still.allowed) or still.allowed[place]
        axes.barh(
            place, value - low + margin, 0.7, low - margin, color=colour if allowed else "none",
            edgecolor=INK if chosen else NEUTRAL, linewidth=1.2 if chosen else 0.6,
        )  # fmt: skip
        if chosen:
            axes.get_yticklabels()[place].set_fontweight("bold")
