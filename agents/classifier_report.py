"""Quality of a classifier on labelled images: figures, a table and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from spm_gym.atomic_file import written_whole
from spm_gym.types import BoolArray

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PICTURE = "report.png"
MOST_FALSE = 0.01
"""One false positive in a hundred images ends about one episode in ten too early."""
LEAST_FOUND = 0.5
"""Of the good images; a classifier that finds fewer has good probes conditioned until ruined."""
LEAST_AGREED = 30
"""Images of either kind on which people agree, so that rates are measured on these alone."""
_FOUND = 0.8
_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Images whose probability lies in one tenth of [0, 1].

    Attributes:
        count: How many.
        probability: Their mean probability.
        good: Share of good ones among them.
    """

    count: int
    probability: float
    good: float


@dataclass(frozen=True, slots=True)
class Report:
    """Quality of a classifier on labelled images.

    Attributes:
        threshold: `EnvConfig.good_above`: an image is called good where the probability is greater.
        true_positives: Good images called good.
        false_positives: Bad images called good.
        true_negatives: Bad images called bad.
        false_negatives: Good images called bad.
        auc: Area under the ROC curve.
        calibration_error: Mean distance of probability and share of good images, over the bins.
        agreed: Number of good and of bad images that several people call the same, if these are
            enough to measure what follows on; None if it is measured on all.
        agreed_auc: Area under the ROC curve on those; None likewise.
        recommended: Threshold to use, see `recommended_threshold`.
        recommended_tpr: Share of good images that are called good there.
        recommended_on_all: True- and false-positive rate there on all images.
        roc: False-positive rates, and true-positive rates.
        reliability: The bins that hold images.
    """

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    auc: float
    calibration_error: float
    agreed: tuple[int, int] | None
    agreed_auc: float | None
    recommended: float
    recommended_tpr: float
    recommended_on_all: tuple[float, float]
    roc: tuple[tuple[float, ...], tuple[float, ...]]
    reliability: tuple[Bin, ...]

    @property
    def good(self) -> int:
        """Number of good images."""
        return self.true_positives + self.false_negatives

    @property
    def bad(self) -> int:
        """Number of bad images."""
        return self.true_negatives + self.false_positives

    @property
    def surest(self) -> str:
        """On which images threshold and refusal are measured, in words."""
        if self.agreed is None:
            return f"its {self.good} good and {self.bad} bad validation images "
        return (
            f"the {self.agreed[0]} good and {self.agreed[1]} bad validation images on which people "
            "agree "
        )

    @property
    def surest_images(self) -> int:
        """Number of the images with the surest labels."""
        return self.good + self.bad if self.agreed is None else sum(self.agreed)

    @property
    def surest_auc(self) -> float:
        """Area under the ROC curve on the images with the surest labels."""
        return self.auc if self.agreed_auc is None else self.agreed_auc

    @property
    def accuracy(self) -> float:
        """Share of images that are called what they are."""
        return (self.true_positives + self.true_negatives) / (self.good + self.bad)

    @property
    def tpr(self) -> float:
        """Share of good images that are called good."""
        return self.true_positives / self.good

    @property
    def fpr(self) -> float:
        """Share of bad images that are called good."""
        return self.false_positives / self.bad

    def figures(self) -> dict[str, float]:
        """Everything but the curves, by name."""
        names = ("good", "bad", "threshold", "accuracy", "tpr", "fpr", "auc", "agreed_auc",
                 "calibration_error", "recommended", "recommended_tpr")  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def table(self) -> str:
        """A few lines for the terminal."""
        agreed = []
        if self.agreed is not None:
            agreed = [
                f"where people agree    {self.agreed[0]} good, {self.agreed[1]} bad: area "
                f"{self.agreed_auc:.5f}; the threshold is theirs",
                # What passes in operation, where images are as they come.
                f"there, of all images  true-positive rate {self.recommended_on_all[0]:.4f}, "
                f"false-positive rate {self.recommended_on_all[1]:.4f}",
            ]
        return "\n".join(
            [
                f"validation images     {self.good} good, {self.bad} bad",
                f"called good above     {self.threshold:g}",
                f"true-positive rate    {self.tpr:.4f}",
                f"false-positive rate   {self.fpr:.4f}",
                f"accuracy              {self.accuracy:.4f}",
                f"area under ROC curve  {self.auc:.5f}",
                f"calibration error     {self.calibration_error:.4f}",
                f"recommended threshold {self.recommended:g}, "
                f"true-positive rate there {self.recommended_tpr:.4f}",
                *agreed,
            ]
        )

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content: dict[str, Any] = {**self.figures(), **asdict(self)}
        with written_whole(path) as beside:
            beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def score(
    probability: NDArray[np.float32],
    good: BoolArray,
    threshold: float,
    agreed: BoolArray | None = None,
) -> Report:
    """Compare probabilities (N,) with labels (N,).

    Where people do not agree on an image, no classifier can be right about it. So threshold and
    refusal are measured on those that several people call the same, if there are enough.

    Args:
        probability: Of a good probe, by image.
        good: Labels.
        threshold: An image is called good where the probability is greater.
        agreed: Which images several people call the same, (N,).

    Raises:
        ValueError: There are not both good and bad images.
    """
    if not 0 < good.sum() < good.size:
        raise ValueError(f"a score needs good and bad images, not {good.sum()} good of {good.size}")
    few = agreed is None or min((agreed & good).sum(), (agreed & ~good).sum()) < LEAST_AGREED
    sure = np.ones(good.size, np.bool_) if agreed is None or few else agreed
    recommended = recommended_threshold(probability[sure], good[sure], threshold)
    tn, fp, fn, tp = confusion_matrix(good, probability > threshold, labels=[False, True]).ravel()
    false_rate, true_rate, _ = roc_curve(good, probability)
    bins = reliability_bins(probability, good)
    return Report(
        threshold=threshold,
        true_positives=int(tp),
        false_positives=int(fp),
        true_negatives=int(tn),
        false_negatives=int(fn),
        auc=float(roc_auc_score(good, probability)),
        calibration_error=_error(bins, good.size),
        agreed=None if few else (int((sure & good).sum()), int((sure & ~good).sum())),
        agreed_auc=None if few else float(roc_auc_score(good[sure], probability[sure])),
        recommended=recommended,
        recommended_tpr=float((probability[sure & good] > recommended).mean()),
        recommended_on_all=(
            float((probability[good] > recommended).mean()),
            float((probability[~good] > recommended).mean()),
        ),
        roc=(tuple(false_rate.tolist()), tuple(true_rate.tolist())),
        reliability=bins,
    )


def calibration_error(probability: NDArray[np.floating[Any]], good: BoolArray) -> float:
    """Compute the mean distance of probability and share of good images, over tenths of [0, 1]."""
    return _error(reliability_bins(probability, good), good.size)


def _error(bins: tuple[Bin, ...], count: int) -> float:
    return sum(b.count * abs(b.probability - b.good) for b in bins) / count


def recommended_threshold(probability: NDArray[np.float32], good: BoolArray, usual: float) -> float:
    """Recommend the usual threshold, or else the lowest that passes few enough bad images.

    The usual one is kept if at most one bad image in a hundred is called good, for more would end
    too many episodes too early, and at least four good ones in five.
    """
    bad = np.sort(probability[~good].astype(float))[::-1]
    # The most probable of the bad images that have to be called bad.
    barrier = float(bad[int(MOST_FALSE * bad.size)])
    if usual >= barrier and (probability[good] > usual).mean() >= _FOUND:
        return usual
    above = probability[probability > barrier].astype(float)
    ceiling = float(above.min()) if above.size else 1.0
    middle = (barrier + ceiling) / 2
    # The shortest decimal number in the gap, for people have to type it.
    rounded = (round(middle, digits) for digits in range(1, 17))
    return next((t for t in rounded if barrier <= t < ceiling), barrier)


def reliability_bins(probability: NDArray[np.floating[Any]], good: BoolArray) -> tuple[Bin, ...]:
    """Divide images by tenths of their probability (N,); tenths without images are left out."""
    # A probability of exactly 1 belongs to the last bin.
    index = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(int(members.sum()), float(probability[members].mean()), float(good[members].mean()))
        for members in (index == number for number in range(_BINS))
        if members.any()
    )


def plot(
    report: Report,
    probability: NDArray[np.float32],
    before: NDArray[np.float32],
    good: BoolArray,
    path: Path,
) -> None:
    """Draw ROC curve, reliability and histograms of the probability into one PNG.

    Args:
        report: Of the calibrated probabilities.
        probability: They, (N,).
        before: The same without calibration, (N,).
        good: Labels (N,).
        path: File to write.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    roc, reliability, histogram = figure.subplots(1, 3)
    _draw_roc(roc, report)
    _draw_reliability(reliability, report, reliability_bins(before, good))
    for label, members in (("bad", ~good), ("good", good)):
        histogram.hist(
            probability[members], bins=50, range=(0, 1), alpha=0.6, label=label, log=True
        )
    histogram.axvline(report.threshold, color="black", linestyle=":", label="threshold")
    histogram.set(xlabel="probability of a good probe", ylabel="images")
    histogram.legend()
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=120)


def log_report(
    writer: SummaryWriter,
    report: Report,
    probability: NDArray[np.float32],
    good: BoolArray,
    directory: Path,
    epoch: int,
) -> None:
    """Show the report in TensorBoard.

    Args:
        writer: Takes figures, precision-recall curve and picture.
        report: Of the classifier.
        probability: Its probabilities (N,).
        good: Labels (N,).
        directory: Has the picture that `plot` drew.
        epoch: Number of the last epoch of training.
    """
    for name in ("auc", "accuracy", "tpr", "fpr", "calibration_error"):
        writer.add_scalar(f"classifier/{name}", getattr(report, name), epoch)
    writer.add_pr_curve("classifier/precision_recall", good, probability, epoch)
    with Image.open(directory / PICTURE) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    writer.add_image("classifier/report", pixels, epoch, dataformats="HWC")


def _draw_roc(axes: Axes, report: Report) -> None:
    axes.plot(*report.roc, label=f"area {report.auc:.5f}")
    axes.plot(report.fpr, report.tpr, "o", label=f"at {report.threshold:g}")
    # The rates that matter lie below a hundredth; zero has to be on the axis, too.
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set(xlim=(0, 1), xlabel="false-positive rate", ylabel="true-positive rate")
    axes.legend(loc="lower right")


def _draw_reliability(axes: Axes, report: Report, before: tuple[Bin, ...]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for bins, style, label in ((before, "x--", "before"), (report.reliability, "o-", "calibrated")):
        axes.plot([b.probability for b in bins], [b.good for b in bins], style, label=label)
    axes.set(xlabel="mean probability", ylabel="share of good images")
    axes.legend()
