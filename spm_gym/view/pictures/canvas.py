"""What all pictures have in common: figures without a window, files, scale bars, colours."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from spm_gym.imaging import Square
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.types import FloatImage
from spm_gym.whole_file import written_whole

NM = 1e-9
HEIGHTS = "afmhot"
SEEN = "gray"
"""Colour maps of heights and of what the networks see; both are brighter where it is higher."""

CLEAN = "#56b4e9"
ACTION = "#f0e442"
GOOD, BAD, NEUTRAL, INK = "#009e73", "#d55e00", "#0072b2", "#222222"
"""Colours after Okabe and Ito, which the colour-blind can tell apart."""

FORMATS = (".png", ".pdf", ".svg")
_DPI = 150
_BAR_SHARE = 0.3
_LAST_KNOWN_LETTER = "\u04ff"


def new_figure(width: float, height: float, dpi: float = _DPI) -> Figure:
    """An empty white figure of this size (inches)."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending, one of `FORMATS`; whole or not at all."""
    with written_whole(path) as beside:
        figure.savefig(beside)


def pixels_of(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure, (height, width, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plain(text: str, longest: int = 100) -> str:
    """Text as far as the figures' font has it, not too long, without mathematics."""
    known = "".join(c if c.isprintable() and c <= _LAST_KNOWN_LETTER else "?" for c in text)
    known = known if len(known) <= longest else f"{known[: longest - 1]}…"
    return known.replace("$", r"\$")


def round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... that is not more."""
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    return power * next(m for m in (5, 2, 1) if m * power <= most * (1 + 1e-9))


def length_text(length: float) -> str:
    """A length in m with its unit."""
    units = (("µm", 1e-6), ("nm", 1e-9), ("pm", 1e-12))
    unit, size = next((each for each in units if length >= 0.9999 * each[1]), units[-1])
    return f"{length / size:.3g} {unit}"


def show_image(
    axes: Axes, image: FloatImage, width: float | None, height: float | None, colours: str,
    limits: tuple[float, float],
) -> AxesImage:  # fmt: skip
    """Draw an image in nm, row 0 on top, or in pixels where its size (m) is unknown."""
    known = width is not None and height is not None
    rows, cols = image.shape
    right, top = (width / NM, height / NM) if known else (cols, rows)  # type: ignore[operator]
    axes.set_axis_off()
    return axes.imshow(
        image, cmap=colours, vmin=limits[0], vmax=limits[1], extent=(0, right, 0, top),
        interpolation="nearest",
    )  # fmt: skip


def add_scale_bar(axes: Axes, metres: bool) -> None:
    """Draw a bar of a round length, in data units, into the lower left corner.

    Args:
        axes: An image by `show_image`.
        metres: Whether its units are nm; otherwise pixels.
    """
    (_, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    length = round_length(max(_BAR_SHARE * right, 1e-6 if metres else 1.0))
    margin, thick = 0.04 * min(right, top), 0.022 * top
    axes.add_patch(
        Rectangle((margin, margin), length, thick, facecolor="white", edgecolor="black",
                  linewidth=0.8, zorder=4, gid="scale bar")
    )  # fmt: skip
    axes.text(
        margin + length / 2, margin + 1.6 * thick,
        length_text(length * NM) if metres else f"{length:g} px",
        color="white", ha="center", va="bottom", fontsize=9, zorder=4,
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )  # fmt: skip


def add_square(axes: Axes, square: Square, shape: tuple[int, int]) -> None:
    """Outline the largest clean square of an image of this shape, if there is one."""
    if square.side:
        left, bottom = place_in(axes, square.row + square.side - 0.5, square.col - 0.5, shape)
        right, top = place_in(axes, square.row - 0.5, square.col + square.side - 0.5, shape)
        axes.add_patch(
            Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=CLEAN,
                      linewidth=2, zorder=3)
        )  # fmt: skip


def place_in(axes: Axes, row: float, col: float, shape: tuple[int, int]) -> tuple[float, float]:
    """Where a pixel of an image by `show_image` lies in its axes; whole numbers are centres."""
    (_, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    return (col + 0.5) / shape[1] * right, top - (row + 0.5) / shape[0] * top


def show_seen(axes: Axes, image: FloatImage, width: float | None = None) -> AxesImage:
    """Draw a normalised image (pixels, pixels) of this width (m)."""
    return show_image(axes, image, width, width, SEEN, (-LIMIT, LIMIT))
