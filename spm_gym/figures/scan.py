"""A picture of one scan: raw, levelled, and as the networks see it, with what is read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spm_gym.colours import HEIGHTS, OBSERVATION
from spm_gym.config import EnvConfig
from spm_gym.envs.rendering import NM, add_scale_bar, add_square, show_image
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.figures.heights import limits
from spm_gym.imaging import Diagnosis, Square, diagnose, largest_clean_square, level, normalise
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import Topography
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.imaging.plane import Method
from spm_gym.scale import length_text
from spm_gym.types import Classifier, FloatImage, Frame, Scan

IN_WORDS = {
    Diagnosis.FINE: "Nothing is wrong with the scan.",
    Diagnosis.PARTIAL: "Lines are missing: the scan is not complete.",
    Diagnosis.LOST_CONTACT: "Lost contact: in part of the scan the tip was out of the reach of "
    "the surface.",
    Diagnosis.CRASH: "Crash: in part of the scan the tip was retracted as far as it goes.",
    Diagnosis.ROUGH: "Rough sample: the heights on the terraces differ by more than 0.6 nm.",
}
"""What `diagnose` says, in words."""

NO_SQUARE = Square(0, 0, 0)
_FEEDBACK_OFF = (
    "Constant height (feedback off): this is no topography and says nothing of the surface; it is "
    "not classified."
)
_ONE_HEIGHT = (
    "All heights are the same: the tip was held at constant height, or at an end of its range; "
    "the scan is not classified."
)
_PANEL = 3.3
_USUAL_NM = EnvConfig().image_nm


@dataclass(frozen=True, slots=True)
class Subject:
    """A scan to be shown.

    Attributes:
        name: For the title.
        z: Heights (H, W), m; NaN where nothing was scanned.
        width: Along x, m; None if unknown.
        height: Along y, m; None if unknown.
        z_range: Lowest and highest height that the z piezo reaches, m; None if unknown.
        feedback: Whether it was on; None if unknown.
        about: Whatever else is known of it.
    """

    name: str
    z: FloatImage
    width: float | None = None
    height: float | None = None
    z_range: tuple[float, float] | None = None
    about: str = ""
    feedback: bool | None = None

    @property
    def topography(self) -> Topography:
        """As a file would hold it."""
        z = np.asarray(self.z, np.float64)
        return Topography(z, self.width, self.height, self.feedback)


@dataclass(frozen=True, slots=True)
class ScanClassifier:
    """A classifier, and the side of the images it takes, px; and when it calls a probe good."""

    classify: Classifier
    pixels: int
    good_above: float = EnvConfig().good_above


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read from a scan.

    Attributes:
        diagnosis: What is wrong with it; None if that cannot be said.
        levelled: Heights above the substrate, m; None if it cannot be found.
        normalised: As the networks see it; None if they do not take such images.
        square: The largest clean square.
        probability: That the probe is good; None if it was not classified.
        remarks: Why something is missing.
    """

    diagnosis: Diagnosis | None = None
    levelled: FloatImage | None = None
    normalised: NDArray[np.float32] | None = None
    square: Square = NO_SQUARE
    probability: float | None = None
    remarks: tuple[str, ...] = ()


def look_at(
    subject: Subject, classifier: ScanClassifier | None, config: EnvConfig | None = None
) -> Seen:
    """Read a scan as the environment does, as far as that is possible.

    Args:
        subject: The scan.
        classifier: The classifier; None for none.
        config: Says how the substrate is found; None for the defaults.
    """
    plane = (config or EnvConfig()).plane
    if subject.feedback is False:
        return Seen(remarks=(_FEEDBACK_OFF,))
    scanned = subject.z[np.isfinite(subject.z)]
    if subject.z_range is None and scanned.size and scanned.min() == scanned.max():
        return Seen(remarks=(_ONE_HEIGHT,))
    try:
        diagnosis, levelled = _diagnosed(subject), level(subject.z, plane)
        normalised, remarks = _for_network(subject, classifier, plane)
    except ValueError as error:
        return Seen(remarks=(f"Not levelled: {error}.",))
    square = largest_clean_square(levelled)
    if classifier is None or normalised is None:
        return Seen(diagnosis, levelled, None, square, remarks=remarks)
    if diagnosis is not Diagnosis.FINE:
        remarks += ("Not classified: only a scan without faults says how the probe is.",)
        return Seen(diagnosis, levelled, normalised, square, remarks=remarks)
    probability = float(classifier.classify(normalised[None, None])[0])
    remarks += _unusual(subject, config)
    return Seen(diagnosis, levelled, normalised, square, probability, remarks)


def _for_network(
    subject: Subject, classifier: ScanClassifier | None, plane: Method
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """The image as the classifier takes it, None if it cannot, and what there is to say of that."""
    if classifier is None:
        return None, ()
    if why := subject.topography.unclassifiable:
        return None, (f"Not classified: {why}.",)
    z, side = subject.z, classifier.pixels
    rows, cols = z.shape
    if rows == cols == side:
        return normalise(level(z, plane)), ()
    if rows != cols or rows < side:
        takes = f"the classifier takes {side} x {side} px, or larger squares"
        return None, (f"Not classified: {takes}; this image has {cols} x {rows}.",)
    remark = f"For the network the image was averaged to {side} x {side} px."
    return normalise(level(box_averaged(z, side), plane)), (remark,)


def _diagnosed(subject: Subject) -> Diagnosis:
    z = subject.z
    if subject.z_range is None or z.shape[0] != z.shape[1]:
        return diagnose(z)
    frame = Frame(0.0, 0.0, subject.width or 1.0, z.shape[0])
    return diagnose(Scan(frame, z, subject.z_range))


def _unusual(subject: Subject, config: EnvConfig | None) -> tuple[str, ...]:
    """A warning if the image is not of the size that the classifier was trained on."""
    usual = (config.image_nm if config else _USUAL_NM) * NM
    if subject.width is None or abs(subject.width - usual) < 0.2 * usual:
        return ()
    return (
        f"Mind that the image is {length_text(subject.width)} wide: if the classifier knows those "
        f"of {length_text(usual)} only, its probability means nothing.",
    )


def draw_scan(subject: Subject, seen: Seen, good_above: float = EnvConfig().good_above) -> Figure:
    """Draw a scan, two or three times, and what it says.

    Args:
        subject: The scan.
        seen: What was read from it.
        good_above: A probe is good above this probability.
    """
    panels = [_draw_raw]
    panels += [_draw_levelled] * (seen.levelled is not None)
    panels += [_draw_seen] * (seen.normalised is not None)
    lines = _wrapped(_sentences(subject, seen, good_above), 45 * max(len(panels), 2))
    height = float(np.clip(_PANEL * aspect(subject), 0.8, 2 * _PANEL))
    size = _PANEL * max(len(panels), 2), height + 1.1 + 0.2 * len(lines)
    figure = new_figure(*size)
    figure.suptitle(plain(subject.name), fontsize=12, x=0.02, ha="left", weight="bold")
    for draw, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(figure, axes, subject, seen)
    figure.supxlabel("\n".join(lines), fontsize=9.5, x=0.02, ha="left")
    return figure


def _draw_raw(figure: Figure, axes: Axes, subject: Subject, seen: Seen) -> None:
    z = subject.z - np.nanmin(subject.z)
    _draw_heights(figure, axes, subject, z, "raw", "height above the lowest point")


def _draw_levelled(figure: Figure, axes: Axes, subject: Subject, seen: Seen) -> None:
    assert seen.levelled is not None
    what = "height above the substrate"
    _draw_heights(figure, axes, subject, seen.levelled, "levelled", what)
    add_square(axes, seen.square, (subject.z.shape[0], subject.z.shape[1]))


def _draw_seen(figure: Figure, axes: Axes, subject: Subject, seen: Seen) -> None:
    assert seen.normalised is not None
    ends = -LIMIT, LIMIT
    shown = show_image(axes, seen.normalised, subject.width, subject.height, OBSERVATION, ends)
    axes.set_title("as the network sees it", fontsize=10)
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.9, aspect=28, pad=0.02)
    bar.set_ticks([-1, 0, 1], labels=["-1\nsubstrate", "0", "1\nmolecule"])
    bar.ax.tick_params(labelsize=8)


def _draw_heights(
    figure: Figure, axes: Axes, subject: Subject, heights: FloatImage, title: str, what: str
) -> None:
    low, high = limits(heights)
    unit, size = ("nm", 1e-9) if high - low >= 1e-9 else ("pm", 1e-12)
    ends = low / size, high / size
    shown = show_image(axes, heights / size, subject.width, subject.height, HEIGHTS, ends)
    add_scale_bar(axes, subject.width is not None)
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(
        shown, ax=axes, extend=_beyond(heights / size, ends), location="bottom", shrink=0.9,
        aspect=28, pad=0.02,
    )  # fmt: skip
    bar.set_label(f"{what} ({unit})", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _beyond(heights: FloatImage, ends: tuple[float, float]) -> str:
    """Where heights lie outside of two, as matplotlib calls it."""
    below, above = np.nanmin(heights) < ends[0], np.nanmax(heights) > ends[1]
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "both"
    )


def aspect(subject: Subject) -> float:
    """Height of an image in its width."""
    rows, cols = subject.z.shape
    if subject.width is None or subject.height is None:
        return float(rows / cols)
    return subject.height / subject.width


def verdict(subject: Subject, seen: Seen, good_above: float) -> str:
    """What a scan says, in one sentence.

    Args:
        subject: The scan.
        seen: What was read from it.
        good_above: A probe is good above this probability.
    """
    said = [*_judgement(seen, good_above), *seen.remarks] or ["Not classified."]
    parts = (sentence[0].lower() + sentence[1:].rstrip(".") for sentence in said)
    return f"{subject.name}: {'; '.join(parts)}."


def _judgement(seen: Seen, good_above: float) -> list[str]:
    words = [] if seen.diagnosis is None else [IN_WORDS[seen.diagnosis]]
    if seen.probability is not None:
        counts_as = "good" if seen.probability > good_above else "bad"
        words.append(
            f"Probability that the probe is good: {seen.probability:.3f}, which counts as "
            f"{counts_as} (good above {good_above:g})."
        )
    return words


def _sentences(subject: Subject, seen: Seen, good_above: float) -> list[str]:
    """What the picture says in words."""
    clean = [] if seen.levelled is None else [_clean(subject, seen.square)]
    return [_measures(subject), *_judgement(seen, good_above), *clean, *seen.remarks]


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
