"""Pictures of an environment: the scan with its clean square, and the region map."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from spm_gym.colours import ACTION, BLOCKED, CLEAN, NOT_SCANNED, OBSERVATION, USED
from spm_gym.config import EnvConfig
from spm_gym.envs.observation import ProcessedScan, whole_image
from spm_gym.envs.regions import RegionMap, kind_of_mark
from spm_gym.imaging import Square
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.scale import NM, length_text, probability_text, round_length
from spm_gym.types import FloatImage, Frame

_BAR_SHARE = 0.3


def draw_processed_scan(
    processed: ProcessedScan,
    good: bool,
    regions: RegionMap,
    config: EnvConfig,
    last_act: tuple[str, float, float] | None,
) -> NDArray[np.uint8]:
    """Draw the present scan and, beside it, the approach area.

    Args:
        processed: The present scan.
        good: Whether it means a good probe.
        regions: The map of the approach area.
        config: Settings of the environment.
        last_act: Name and place (m) of the last action; it was done on the image before.

    Returns:
        (height, width, 3) RGB.
    """
    # Without pyplot, whose figures are global: they are neither safe in threads nor ever freed.
    figure = Figure(figsize=(8.4, 4.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    scan_axes, map_axes = figure.subplots(1, 2)
    _draw_scan(scan_axes, processed, whole_image(processed, config))
    scan_axes.set_title(_verdict(processed, good), fontsize=10)
    names = [action.name for action in config.actions]
    _draw_regions(map_axes, processed.scan.frame, regions, names, last_act)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _verdict(processed: ProcessedScan, good: bool) -> str:
    if processed.preview:
        what = f"preview, {processed.scan.frame.lines} lines"
    elif processed.unknown:
        return "unlike all that the classifier knows"
    else:
        what = "good probe" if good else "bad probe"
    return f"{what}, p = {probability_text(processed.probability)}"


def _draw_scan(axes: Axes, processed: ProcessedScan, image: NDArray[np.float32]) -> None:
    frame = processed.scan.frame
    show_normalised(axes, image, frame.size)
    shape = frame.pixels, frame.pixels
    add_square(axes, processed.square, shape)
    add_action(axes, processed.square, shape)
    add_scale_bar(axes, metres=True)


def _draw_regions(
    axes: Axes,
    frame: Frame,
    regions: RegionMap,
    actions: Collection[str],
    last_act: tuple[str, float, float] | None,
) -> None:
    half = regions.config.area_nm / 2
    _draw_blocked(axes, regions, actions)
    corner = ((frame.x - frame.size / 2) / NM, (frame.y - frame.size / 2) / NM)
    axes.add_patch(Rectangle(corner, frame.size / NM, frame.size / NM, fill=False, lw=1.5))
    title = f"{regions.usable_share:.0%} of the area usable"
    if last_act is not None:
        # Where it was done: this image was taken elsewhere, so the cross is not in its frame.
        axes.plot(last_act[1] / NM, last_act[2] / NM, "x", color="black", ms=5)
        title = f"{last_act[0]}; {title}"
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axes.set(xlabel="x (nm)", ylabel="y (nm)")
    axes.set_title(title, fontsize=10)


def _draw_blocked(axes: Axes, regions: RegionMap, actions: Collection[str]) -> None:
    handles = []
    for kind, colour in ({"image": USED} | BLOCKED).items():
        of_kind = [m for m in regions.marks if kind_of_mark(m.reason, actions) == kind]
        discs = [Circle((m.x / NM, m.y / NM), m.radius / NM) for m in of_kind]
        light = f"{colour}50"
        axes.add_collection(PatchCollection(discs, facecolor=light, edgecolor=colour))
        if of_kind:
            handles.append(Patch(facecolor=light, edgecolor=colour, label=kind))
    if handles:
        axes.legend(handles=handles, fontsize=8, loc="upper left", framealpha=0.7)


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
        image, cmap=colormaps[colours].with_extremes(bad=NOT_SCANNED), vmin=limits[0],
        vmax=limits[1], extent=(0, right, 0, top), interpolation="nearest",
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


def add_action(axes: Axes, square: Square, shape: tuple[int, int]) -> None:
    """Mark where an action is carried out: in the middle of the clean square, or of the image."""
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    row, col = square.centre if square.side else middle
    place = place_in(axes, row, col, shape)
    axes.plot(*place, "x", color="black", ms=13, mew=5)
    axes.plot(*place, "x", color=ACTION, ms=12, mew=2.5)


def place_in(axes: Axes, row: float, col: float, shape: tuple[int, int]) -> tuple[float, float]:
    """Convert a pixel of an image by `show_image` into its axes; whole numbers are centres."""
    (_, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    return (col + 0.5) / shape[1] * right, top - (row + 0.5) / shape[0] * top


def show_normalised(axes: Axes, image: FloatImage, width: float | None = None) -> AxesImage:
    """Draw a normalised image (pixels, pixels) of this width (m)."""
    return show_image(axes, image, width, width, OBSERVATION, (-LIMIT, LIMIT))
