"""A contact sheet: many scans on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from spm_gym.analysis.scan_findings import ScanFindings, Subject
from spm_gym.colours import BAD, GOOD, INK, OBSERVATION
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.figures.heights import grey_of_levelled, network_span
from spm_gym.figures.scan import aspect
from spm_gym.scale import length_text, round_length

MOST = 100
_TILE = 1.5
_GAP, _TEXT = 0.06, 0.3


def draw_sheet(
    scans: Sequence[tuple[Subject, ScanFindings]], good_above: float, title: str, left_out: int = 0
) -> Figure:
    """Draw levelled scans side by side, with name, scale bar and height from black to white.

    Those that were classified have their probability as well.

    Args:
        scans: At most `MOST`, with what was read from them.
        good_above: A probe is good above this probability.
        title: Of the sheet.
        left_out: Scans that there were besides.
    """
    # A little wider than high, as screens are.
    cols = min(len(scans), max(4, math.ceil(math.sqrt(len(scans) * 1.3))))
    rows = -(-len(scans) // cols)
    figure = new_figure(_TILE * max(cols, 3), (_TILE + _TEXT) * rows + 0.5)
    more = f" and {left_out} more" if left_out else ""
    figure.suptitle(plain(f"{title}: {len(scans)} scans{more}"), x=0.02, ha="left", weight="bold")
    # One for all tiles: a hundred axes would take long to lay out.
    axes = figure.subplots()
    axes.set_axis_off()
    high = 1 + _TEXT / _TILE
    for place, (subject, findings) in enumerate(scans):
        row, col = divmod(place, cols)
        top, bottom = -row * high, -row * high - 1 + _GAP
        width, height = _fitted(subject)
        axes.imshow(_grey(subject, findings), cmap=OBSERVATION, vmin=0, vmax=255,
                    extent=(col, col + width, top - height, top))  # fmt: skip
        if subject.width is not None:
            _add_bar(axes, col, top - height, width, subject.width)
        axes.text(col, bottom - 0.02, _caption(subject, findings), va="top", fontsize=7,
                  color=_colour(findings, good_above))  # fmt: skip
    axes.set(xlim=(0, cols), ylim=(-rows * high, 0), aspect="equal")
    return figure


def _add_bar(axes: Axes, left: float, bottom: float, drawn: float, width: float) -> None:
    """Draw a scale bar into a tile: an image that is ``drawn`` wide here, and ``width`` m."""
    length = round_length(0.4 * width)
    ends = [left + 0.04, left + 0.04 + drawn * length / width]
    edge = [withStroke(linewidth=3, foreground="black")]
    axes.plot(ends, [bottom + 0.06] * 2, color="white", lw=1.8, path_effects=edge)
    axes.text(ends[0], bottom + 0.09, length_text(length), color="white", fontsize=6,
              path_effects=edge)  # fmt: skip


def _grey(subject: Subject, findings: ScanFindings) -> NDArray[np.uint8]:
    if findings.levelled is None:
        return np.zeros(subject.z.shape, np.uint8)
    return grey_of_levelled(findings.levelled, findings.scale)


def _fitted(subject: Subject) -> tuple[float, float]:
    """Return width and height of an image in its tile."""
    longest = max(aspect(subject), 1.0) / (1 - _GAP)
    return 1 / longest, aspect(subject) / longest


def _caption(subject: Subject, findings: ScanFindings) -> str:
    grey = ""
    if findings.levelled is not None:
        grey = f"grey {length_text(network_span(findings.levelled, findings.scale))}  "
    if findings.unknown:
        text = "unknown"
    elif findings.probability is not None:
        text = f"p = {findings.probability:.3f}"
    elif subject.feedback is False:
        text = "feedback off"
    else:
        text = str(findings.diagnosis or "not levelled")
    return f"{plain(subject.name, 22)}\n{grey}{text}"


def _colour(findings: ScanFindings, good_above: float) -> str:
    if findings.probability is None or findings.unknown:
        return INK
    return GOOD if findings.probability > good_above else BAD
