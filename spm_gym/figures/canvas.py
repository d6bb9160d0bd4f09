"""Figures without a window, their files, and text that their font has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spm_gym.atomic_file import written_whole
from spm_gym.figures.report_charts import known_letters

_DPI = 150


def new_figure(width: float, height: float, dpi: float = _DPI) -> Figure:
    """Make an empty white figure of this size (inches)."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending; whole or not at all."""
    with written_whole(path) as beside:
        figure.savefig(beside)


def pixels_of(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure as RGB, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plain(text: str, longest: int = 100) -> str:
    """Reduce text to the letters of the figures' font, not too long, without mathematics."""
    return known_letters(text, longest).replace("$", r"\$")
