"""Pictures of what the environment sees: the scan with its clean square, and the region map."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from spm_gym.imaging import Square
from spm_gym.regions import RegionMap
from spm_gym.types import Frame

NM = 1e-9
_COLOURS = {"image": "tab:blue", "bad sample": "tab:red"}


def draw_look(
    frame: Frame,
    observation: NDArray[np.float32],
    square: Square,
    verdict: str,
    regions: RegionMap,
    last_act: tuple[str, float, float] | None,
) -> NDArray[np.uint8]:
    """Draw the present scan and, beside it, the approach area.

    Args:
        frame: Where the present image was taken.
        observation: The image as the agent sees it, (1, pixels, pixels).
        square: Its largest clean square.
        verdict: Title of the image.
        regions: The map of the approach area.
        last_act: Name and place (m) of the last action; it was done on the image before.

    Returns:
        (height, width, 3) RGB.
    """
    figure = Figure(figsize=(8.4, 4.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    scan_axes, map_axes = figure.subplots(1, 2)
    _draw_scan(scan_axes, frame, observation[0], square)
    scan_axes.set_title(verdict, fontsize=10)
    _draw_regions(map_axes, frame, regions, last_act)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_scan(axes: Axes, frame: Frame, image: NDArray[np.float32], square: Square) -> None:
    axes.imshow(image, cmap="afmhot", vmin=-1.5, vmax=1.5)
    if square.side:
        corner = (square.col - 0.5, square.row - 0.5)
        axes.add_patch(
            Rectangle(corner, square.side, square.side, fill=False, color="deepskyblue", lw=1.5)
        )
    row, col = square.centre if square.side else ((frame.pixels - 1) / 2,) * 2
    axes.plot(col, row, "x", color="deepskyblue", ms=8)
    bar = 2 * NM / frame.pixel
    axes.plot([2, 2 + bar], [frame.pixels - 4] * 2, color="white", lw=3)
    axes.text(2, frame.pixels - 6, "2 nm", color="white", fontsize=8)
    axes.set_axis_off()


def _draw_regions(
    axes: Axes,
    frame: Frame,
    regions: RegionMap,
    last_act: tuple[str, float, float] | None,
) -> None:
    half = regions.config.area_nm / 2
    discs = [Circle((m.x / NM, m.y / NM), m.radius / NM) for m in regions.marks]
    colours = [_COLOURS.get(m.reason, "tab:orange") for m in regions.marks]
    axes.add_collection(PatchCollection(discs, facecolors=colours, alpha=0.5, linewidths=0))
    corner = ((frame.x - frame.size / 2) / NM, (frame.y - frame.size / 2) / NM)
    axes.add_patch(Rectangle(corner, frame.size / NM, frame.size / NM, fill=False, lw=1.5))
    title = f"{regions.usable_share:.0%} of the area usable"
    if last_act is not None:
        axes.plot(last_act[1] / NM, last_act[2] / NM, "x", color="black", ms=5)
        title = f"{last_act[0]}; {title}"
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xlabel="x (nm)")
    axes.set_title(title, fontsize=10)
