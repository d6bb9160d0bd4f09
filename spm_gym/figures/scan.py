"""A picture of one scan: raw, levelled, and as the networks see it, with what is read from it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spm_gym.analysis.scan_findings import ScanFindings, Subject, classification
from spm_gym.colours import HEIGHTS, OBSERVATION
from spm_gym.envs.rendering import add_scale_bar, add_square, show_image
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.figures.heights import limits, network_span
from spm_gym.imaging import Square
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.scale import length_text
from spm_gym.types import FloatImage

_PANEL = 3.3


def draw_scan(subject: Subject, findings: ScanFindings, good_above: float) -> Figure:
    """Draw a scan, two or three times, above its description.

    Args:
        subject: The scan.
        findings: What was read from it.
        good_above: A probe is good above this probability.
    """
    panels = [_draw_raw]
    panels += [_draw_levelled] * (findings.levelled is not None)
    panels += [_draw_normalised] * (findings.normalised is not None)
    lines = _wrapped(_sentences(subject, findings, good_above), 45 * max(len(panels), 2))
    # Between bounds: a scan of a few lines would be invisible, one of a few columns a tower.
    height = float(np.clip(_PANEL * aspect(subject), 0.8, 2 * _PANEL))
    size = _PANEL * max(len(panels), 2), height + 1.1 + 0.2 * len(lines)
    figure = new_figure(*size)
    figure.suptitle(plain(subject.name), fontsize=12, x=0.02, ha="left", weight="bold")
    for draw, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(figure, axes, subject, findings)
    figure.supxlabel("\n".join(lines), fontsize=9.5, x=0.02, ha="left")
    return figure


def _draw_raw(figure: Figure, axes: Axes, subject: Subject, findings: ScanFindings) -> None:
    # Where the z piezo stands is of no interest; from the lowest point on, heights can be read.
    z = subject.z - np.nanmin(subject.z)
    _draw_heights(figure, axes, subject, z, "raw", "height above the lowest point")


def _draw_levelled(figure: Figure, axes: Axes, subject: Subject, findings: ScanFindings) -> None:
    assert findings.levelled is not None
    what = "height above the substrate"
    _draw_heights(figure, axes, subject, findings.levelled, "levelled", what)
    add_square(axes, findings.square, (subject.z.shape[0], subject.z.shape[1]))


def _draw_normalised(figure: Figure, axes: Axes, subject: Subject, findings: ScanFindings) -> None:
    assert findings.normalised is not None
    ends = -LIMIT, LIMIT
    drawn = show_image(axes, findings.normalised, subject.width, subject.height, OBSERVATION, ends)
    add_scale_bar(axes, subject.width is not None)
    axes.set_title("as the network sees it", fontsize=10)
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.9, aspect=28, pad=0.02)
    labels = ["-1\nsubstrate", "0", "1\nmolecule"]
    if findings.scale == "image":
        labels = ["-1", "0\nmean", "1"]
    bar.set_ticks([-1, 0, 1], labels=labels)
    if findings.levelled is not None:
        span = network_span(findings.levelled, findings.scale)
        bar.set_label(f"black to white: {length_text(span)}", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_heights(
    figure: Figure, axes: Axes, subject: Subject, heights: FloatImage, title: str, what: str
) -> None:
    low, high = limits(heights)
    unit, size = ("nm", 1e-9) if high - low >= 1e-9 else ("pm", 1e-12)
    ends = low / size, high / size
    drawn = show_image(axes, heights / size, subject.width, subject.height, HEIGHTS, ends)
    add_scale_bar(axes, subject.width is not None)
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(
        drawn, ax=axes, extend=_beyond(heights / size, ends), location="bottom", shrink=0.9,
        aspect=28, pad=0.02,
    )  # fmt: skip
    bar.set_label(f"{what} ({unit})", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _beyond(heights: FloatImage, ends: tuple[float, float]) -> str:
    """Name the ends beyond which there are heights, as matplotlib does."""
    below, above = np.nanmin(heights) < ends[0], np.nanmax(heights) > ends[1]
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "both"
    )


def aspect(subject: Subject) -> float:
    """Return the height of an image in units of its width."""
    rows, cols = subject.z.shape
    if subject.width is None or subject.height is None:
        return float(rows / cols)
    return subject.height / subject.width


def _sentences(subject: Subject, findings: ScanFindings, good_above: float) -> list[str]:
    """Describe the picture in words."""
    clean = [] if findings.levelled is None else [_clean(subject, findings.square)]
    return [_measures(subject), *classification(findings, good_above), *clean, *findings.remarks]


def _measures(subject: Subject) -> str:
    rows, cols = subject.z.shape
    if subject.width is None or subject.height is None:
        size = "size unknown"
    else:
        size = f"{length_text(subject.width)} x {length_text(subject.height)}"
    about = f"; {plain(subject.about, 200)}" if subject.about else ""
    return f"{cols} x {rows} px, {size}{about}."


def _clean(subject: Subject, square: Square) -> str:
    if not square.side:
        return "No clean pixel."
    topography = subject.topography
    if topography.pixel_size is None:
        return f"Largest clean square (blue): {square.side} px."
    wide, high = (length_text(square.side * side) for side in topography.pixel_size)
    if topography.square_pixels:
        return f"Largest clean square (blue): {wide}."
    return f"Largest clean square of pixels (blue): {square.side} px, {wide} x {high}."


def _wrapped(sentences: list[str], width: int) -> list[str]:
    lines = [""]
    for word in " ".join(sentences).split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
