"""Charts of a run's report, each for light and for dark pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from spm_gym.analysis.action_effects import Achievement
from spm_gym.analysis.policies import PolicyEpisodes
from spm_gym.analysis.report import Moments, Yield
from spm_gym.analysis.trend import Trend
from spm_gym.colours import DARK, LIGHT, Theme
from spm_gym.figures.survival import draw_survival
from spm_gym.scale import NM, PA, duration_text, round_length, time_unit
from spm_gym.survival import Endings

_MOST_BINS = 40
_LAST_KNOWN_LETTER = "\u04ff"
"""The charts' font has the Latin, Greek and Cyrillic letters."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as data URIs, what it shows in words, and another one for narrow windows."""

    light: str
    dark: str
    alt: str
    narrow: Chart | None = None


def draw(size: tuple[float, float], alt: str, paint: Callable[[Figure, Theme], None]) -> Chart:
    """Let ``paint`` fill a figure of this size (inches), once for each theme."""
    return Chart(_render(size, paint, LIGHT), _render(size, paint, DARK), alt)


def yield_chart(good: Yield, marked: Moments) -> Chart:
    """Draw cumulative good images and their rolling share over the time of operation."""
    troubles = len(marked.recoveries)
    heights = [2.4, 1.7] + [0.2 + 0.2 * troubles] * bool(troubles)

    def paint(figure: Figure, theme: Theme) -> None:
        total, share, *rest = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        total.step(np.r_[0, good.edges], np.r_[0, good.good], where="post", color=theme.good)
        total.set(ylabel="good images", ylim=(0, None), xlim=(0, good.edges[-1]))
        total.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        share.plot(good.edges - good.edges[0] / 2, 100 * good.share, color=theme.share)
        share.set(ylabel="share good (%)", ylim=(-3, 103))
        for axes in rest:
            draw_recoveries(axes, marked.recoveries, theme)
        for axes in (total, share, *rest):
            mark_moments(axes, marked, theme)
            style_axes(axes, theme)
        label_time((rest or [share])[-1], good.edges[-1])
        add_legend(total, theme)

    alt = (
        f"Cumulative good images, {good.good[-1]} after {duration_text(good.edges[-1])}, and the "
        f"share of good images within {duration_text(good.window)}, over the time of operation"
    )
    height = 0.7 + sum(heights)
    return replace(draw((9.4, height), alt, paint), narrow=draw((4.4, height), alt, paint))


def trend_chart(found: Trend) -> Chart | None:
    """Draw height, within what the z piezo reaches, and current; None if neither was ever known."""
    z = (found.z, "z (nm)", NM, found.z_range)
    current = (found.current, "current (pA)", PA, None)
    parts = [part for part in (z, current) if part[0]]
    if not parts:
        return None

    def paint(figure: Figure, theme: Theme) -> None:
        grid = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (trace, label, size, reach) in zip(grid, parts, strict=True):
            seconds, low, high = np.array(trace, float).T
            values = np.stack([low, high], axis=1).ravel() / size
            axes.plot(np.repeat(seconds, 2), values, color=theme.share, lw=1.2)
            if reach is not None:
                low_end, high_end = (end / size for end in reach)
                axes.axhspan(low_end, high_end, color=theme.conditioning, alpha=0.3, lw=0)
            else:
                axes.axhline(0, color=theme.grid, lw=0.6)  # a current is read from none on
            axes.set(ylabel=label, xlim=(0, found.elapsed))
            style_axes(axes, theme)
        label_time(grid[-1], found.elapsed)

    alt = f"Height and current over {duration_text(found.elapsed)} of operation"
    height = 0.7 + 1.5 * len(parts)
    return replace(draw((9.4, height), alt, paint), narrow=draw((4.4, height), alt, paint))


def lengths_chart(lengths: dict[str, dict[int, int]]) -> Chart:
    """Draw how many actions the conditioning episodes took, by outcome."""
    longest = max(max(each) for each in lengths.values())
    width = -(-(longest + 1) // _MOST_BINS)
    edges = np.arange(0, longest + width + 1, width) - 0.5

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bottom = np.zeros(edges.size - 1)
        for outcome, colour in (("good", theme.good), ("limit", theme.limit)):
            found = lengths.get(outcome, {})
            if found:
                weights = list(found.values())
                counts, _ = np.histogram(list(found), bins=edges, weights=weights)
                # Outcomes differ in more than colour, for prints in grey.
                hatch = "" if outcome == "good" else "//"
                axes.bar(
                    edges[:-1], counts, width, bottom, align="edge", color=colour, hatch=hatch,
                    edgecolor=theme.ink, linewidth=0.3, label=f"ended: {outcome}",
                )  # fmt: skip
                bottom += counts
        axes.set(xlabel="actions in the episode", ylabel="episodes")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        style_axes(axes, theme)
        add_legend(axes, theme)

    number = sum(sum(each.values()) for each in lengths.values())
    alt = f"Histogram of the lengths of {number} conditioning episodes, the longest {longest}"
    return draw((4.8, 3.2), alt, paint)


def survival_chart(policies: dict[str, PolicyEpisodes]) -> Chart:
    """Draw which share of the episodes of each policy was under way after how much."""

    def paint(figure: Figure, theme: Theme) -> None:
        actions, minutes = figure.subplots(1, 2, sharey=True)
        styles = ((theme.share, "-"), (theme.limit, "--"))
        for (name, policy), (colour, line) in zip(policies.items(), styles, strict=True):
            draw_survival(actions, policy.in_actions, colour, line, name)
            in_minutes = [seconds / 60 for seconds in policy.seconds]
            draw_survival(minutes, Endings(in_minutes, policy.ended_good), colour, line, name)
        actions.set(xlabel="actions", ylabel="share not yet good", xlim=(0, None), ylim=(0, 1.02))
        minutes.set(xlabel="minutes", xlim=(0, None))
        for axes in (actions, minutes):
            style_axes(axes, theme)
        add_legend(actions, theme)

    alt = "Survival curves of the episodes of " + " and ".join(
        f"{name}, {policy.good} of {len(policy.lengths)} ended good"
        for name, policy in policies.items()
    )
    return replace(draw((7.4, 3.2), alt, paint), narrow=draw((4.8, 3.2), alt, paint))


def actions_chart(achieved: list[Achievement]) -> Chart:
    """Draw the effects of every action: change of the probability, and good images next."""
    places = np.arange(len(achieved))
    names = [known_letters(each.name) for each in achieved]
    change, half = np.array([each.change for each in achieved]).T
    classified = np.array([each.classified for each in achieved])
    # No share, rather than 0, of an action that was never followed by a classified image.
    share = np.array([each.good for each in achieved]) / np.where(classified, classified, np.nan)
    low, high = np.array([each.good_interval for each in achieved]).T

    def paint(figure: Figure, theme: Theme) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        bars = {"height": 0.65, "ecolor": theme.ink, "capsize": 2, "error_kw": {"lw": 1}}
        left.barh(places, change, xerr=half, color=theme.share, **bars)
        left.axvline(0, color=theme.ink, lw=0.8)
        left.set_xlabel("mean change of the\nprobability of a good probe")
        left.set_yticks(places, names, parse_math=False)
        left.invert_yaxis()
        low_end, high_end = left.get_xlim()
        # A probability cannot change by more than 1, however wide an interval is.
        left.set_xlim(max(low_end, -1.05), min(high_end, 1.05))
        errors = 100 * np.clip([share - low, high - share], 0, None)
        right.barh(places, 100 * share, xerr=errors, color=theme.good, **bars)
        right.set(xlabel="next image good (%)", xlim=(0, None))
        for axes in (left, right):
            style_axes(axes, theme, grid="x")

    alt = "For each action, the mean change of the probability and how often a good image followed"
    height = 1.2 + 0.3 * len(achieved)
    return replace(draw((7.4, height), alt, paint), narrow=draw((4.8, height), alt, paint))


def _render(size: tuple[float, float], paint: Callable[[Figure, Theme], None], theme: Theme) -> str:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    paint(figure, theme)
    file = io.BytesIO()
    # Transparent, since the page chooses its background; without the date, so that the same run
    # gives the same file.
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def mark_moments(axes: Axes, marked: Moments, theme: Theme) -> None:
    """Shade the times of conditioning, and draw a line where a new approach area begins."""
    spans = [(begin, end - begin) for begin, end in marked.episodes]
    axes.broken_barh(
        spans, (0, 1), transform=axes.get_xaxis_transform(), color=theme.conditioning, alpha=0.45,
        linewidth=0.4, zorder=0, label="conditioning" if spans else None,
    )  # fmt: skip
    for number, when in enumerate(marked.areas):
        label = None if number else "new approach area"
        axes.axvline(when, color=theme.ink, lw=1, ls="--", zorder=1, label=label)


def draw_recoveries(axes: Axes, recoveries: dict[str, list[float]], theme: Theme) -> None:
    """Draw a tick for every trouble, one row for each kind."""
    for place, when in enumerate(recoveries.values()):
        axes.plot(when, np.full(len(when), place), "|", color=theme.trouble, ms=8, mew=1.2)
    names = [known_letters(trouble) for trouble in recoveries]
    # Names come from the journal: a dollar in one is no formula.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)


def label_time(axes: Axes, longest: float) -> None:
    """Name an axis of seconds, and number it in the unit that suits the longest time on it."""
    name, unit = time_unit(longest)
    step = unit * round_length(max(longest, 1.0) / unit / 4)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds / unit:g}")
    axes.set_xlabel(f"time of operation ({name})")


def style_axes(axes: Axes, theme: Theme, grid: Literal["x", "y"] = "y") -> None:
    """Give axes what all charts have: a light grid, no box."""
    axes.grid(axis=grid, color=theme.grid, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.ink)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)


def add_legend(axes: Axes, theme: Theme) -> None:
    """Put a legend above the axes, if there is anything to explain."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            frameon=False, fontsize=9, labelcolor=theme.ink, ncols=6, loc="lower left",
            bbox_to_anchor=(0, 1), borderaxespad=0, handletextpad=0.4, columnspacing=1.2,
        )  # fmt: skip


def known_letters(text: str, longest: int = 24) -> str:
    """Reduce text to the letters of the charts' font, and not too long."""
    # As pages write them: a space that does not break, and a true minus sign.
    text = text.translate({0xA0: " ", 0x2212: "-"})
    known = "".join(c if c.isprintable() and c <= _LAST_KNOWN_LETTER else "?" for c in text)
    return known if len(known) <= longest else f"{known[: longest - 1]}…"
