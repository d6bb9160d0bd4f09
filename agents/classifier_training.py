"""Training of the image classifier: divide, fit, calibrate, score (paper, *Networks*)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.calibration import fitted_mixture, fitted_temperature, label_sets
from agents.classifier import ProbeClassifier, probability_of
from agents.classifier_checkpoint import ClassifierCheckpoints
from agents.classifier_fit import fit
from agents.classifier_report import (
    LEAST_FOUND,
    MOST_FALSE,
    PICTURE,
    Report,
    log_report,
    plot,
    score,
)
from agents.counterexamples import counterexamples
from agents.labelled import Indices, Labelled, divisions
from agents.network_training import Epoch
from agents.novelty import Novelty
from agents.statistics_network import StatisticsNetwork, fit_statistics
from agents.vgg import VGG
from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import LEAST_AUC, ClassifierError, TrainingConditions
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale
from spm_gym.imaging.statistics import image_statistics
from spm_gym.types import BoolArray

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CLASSIFIER_FILE, REPORT_FILE = "classifier.safetensors", "report.json"
"""Files that a training leaves, the classifier only if it is good enough."""

_NEW_COUNTEREXAMPLES = 500
_FEW = 30


def train_classifier(
    data: Labelled,
    session: NDArray[np.str_],
    config: ClassifierConfig,
    good_above: float,
    seed: int,
    directory: Path,
    conditions: TrainingConditions,
    progress: bool = True,
    writer: SummaryWriter | None = None,
    start: VGG | None = None,
    height_scale: HeightScale = HALF_MOLECULE,
    checkpoints: ClassifierCheckpoints | None = None,
) -> ProbeClassifier:
    """Divide, fit, calibrate and score; write classifier and report; print the report.

    Args:
        data: N labelled images.
        session: Session of each image (N,); matters only where ``config.split`` is "session".
        config: How to train.
        good_above: Threshold of the report, `EnvConfig.good_above`.
        seed: Of the division, the weights and the order of the images.
        directory: Made if it is not there.
        conditions: Of the images; the score of the classifier on them is added.
        progress: Whether to show a progress bar.
        writer: Takes losses, figures and curves.
        start: Gives the initial trunk.
        height_scale: By which the images are normalised.
        checkpoints: From which the networks go on, removed at the end; None keeps none.

    Raises:
        ClassifierError: It scores badly, and the settings refuse such a one: it is not written.
    """
    parts = divisions(data.good, session, config, seed)
    rng = np.random.default_rng([seed, 1])
    members = _Members(data, session, config, seed, rng, progress, writer, start, checkpoints)
    found = members.fit(parts)
    good = data.good[found.scored]
    before, probability = (probability_of(found.logits / t) for t in (1.0, found.temperature))
    report = score(probability, good, good_above, data.agreed[found.scored])
    statistics = image_statistics(data.images[:, None])
    novelty = Novelty.of(statistics, np.random.default_rng([seed, 2]))
    classifier = ProbeClassifier(
        found.networks,
        replace(conditions, auc=report.surest_auc, images=report.surest_images),
        temperature=found.temperature,
        average_flips=config.average_flips,
        novelty=novelty,
        height_scale=height_scale,
        statistics_networks=found.statistics_networks,
        statistics_weight=found.statistics_weight,
    )
    called_good = _counterexamples_called_good(classifier, good_above, rng)
    classifier.summary = _summary(data, parts, config, seed, found.histories, report) | {
        "counterexamples_called_good": called_good,
        "calibration": _calibration(before, probability, good, found, good_above),
    }
    _write_report(report, probability, before, good, directory, writer, len(found.histories[0]))
    _print_report(report, classifier.summary)
    why = _poor(report) if config.refuse_poor else ""
    if not why:
        classifier.save(directory / CLASSIFIER_FILE)
    # Before they are removed, whatever they led to is on the disk.
    if checkpoints is not None:
        checkpoints.remove()
    if why:
        raise _refusal(report, data.good, why)
    return classifier


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Networks, and what each said of the images that were held out from it.

    Attributes:
        networks: One for each part.
        statistics_networks: One for each part as well, or none.
        histories: Of their training.
        scored: Indices of the images that were held out.
        logits: Answers to them, not calibrated.
        temperature: That calibrates the answers.
        statistics_weight: Of the answers of the networks on statistics.
    """

    networks: list[VGG]
    statistics_networks: list[StatisticsNetwork]
    histories: list[tuple[Epoch, ...]]
    scored: Indices
    logits: NDArray[np.float64]
    temperature: float
    statistics_weight: float


@dataclass(frozen=True, slots=True)
class _Members:
    """Fits the networks of a classifier, each without a part of the images.

    Attributes:
        data: All labelled images.
        session: Of each image.
        config: How to train.
        seed: Of the first network; each further one has the next.
        rng: Of the images without molecules.
        progress: Whether to show progress bars.
        writer: Takes the losses.
        start: Gives the initial trunks.
        checkpoints: From which the networks go on.
    """

    data: Labelled
    session: NDArray[np.str_]
    config: ClassifierConfig
    seed: int
    rng: np.random.Generator
    progress: bool
    writer: SummaryWriter | None
    start: VGG | None
    checkpoints: ClassifierCheckpoints | None

    def fit(self, parts: Sequence[tuple[Indices, Indices]]) -> _Fitted:
        """Fit networks without each of the parts, and ask them about that part."""
        data, config = self.data, self.config
        networks: list[VGG] = []
        others: list[StatisticsNetwork] = []
        histories = []
        # Of the networks, and of those on statistics.
        outputs = np.full((2, data.good.size), np.nan)
        strange: list[NDArray[np.float64]] = []
        # After a kill this begins at the beginning: networks that are finished come from their
        # checkpoints, and what is drawn between them is drawn again.
        for number, part in enumerate(parts):
            network, other, history = self._fit_one(part, number)
            held_out = part[1]
            more = counterexamples(round(config.counterexamples * len(held_out)),
                                   network.pixels, self.rng)  # fmt: skip
            outputs[:, held_out] = self._outputs(network, other, data.images[held_out])
            strange.append(self._outputs(network, other, more))
            networks.append(network)
            if other is not None:
                others.append(other)
            histories.append(history)
        # Every image is held out once, or with a single division those of one side.
        scored = np.flatnonzero(~np.isnan(outputs[0]))
        # Images without molecules take part: a temperature of labelled ones alone may make what the
        # network does not know more certain than it was.
        first, second = np.concatenate([outputs[:, scored], *strange], axis=1)
        good = np.zeros(len(first), np.bool_)
        good[: len(scored)] = data.good[scored]
        temperature, weight = (
            fitted_mixture(first, second, good)
            if others
            else (fitted_temperature(first, good), 0.0)
        )
        logits = outputs[0, scored] + weight * outputs[1, scored]
        return _Fitted(networks, others, histories, scored, logits, temperature, weight)

    def _outputs(
        self, network: VGG, other: StatisticsNetwork | None, images: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Ask both about images (N, H, H); returns (2, N), zeros where there is no second one."""
        member = ProbeClassifier([network], average_flips=self.config.average_flips)
        second = np.zeros(len(images))
        if other is not None:
            second[:] = other.answer(image_statistics(images[:, None]))
        return np.stack([member.outputs(images[:, None]), second])

    def _fit_one(
        self, part: tuple[Indices, Indices], number: int
    ) -> tuple[VGG, StatisticsNetwork | None, tuple[Epoch, ...]]:
        """Fit a network, and one on statistics, without the held-out part of the images."""
        data, config, seed = self.data, self.config, self.seed + number
        training, held_out = part
        stopping = None
        if config.patience is not None:
            # Of the training side: images that decide when to stop are no fair test any more.
            once = config.model_copy(update={"folds": None})
            [(kept, aside)] = divisions(data.good[training], self.session[training], once, seed)
            stopping, training = data[training[aside]], training[kept]
        # In training only: the scores are those on images of the kind that people label.
        extended = _with_counterexamples(data[training], config.counterexamples, self.rng)
        network, history = fit(
            extended,
            config,
            seed,
            data[held_out],
            self.progress,
            self.writer,
            self.start,
            stopping,
            "classifier" if config.folds is None else f"classifier {number + 1}",
            None if self.checkpoints is None else self.checkpoints.of_network(number),
        )
        # So small that it is trained again after a kill.
        other = fit_statistics(extended, config.good_weight, seed) if config.statistics else None
        return network, other, history


def _calibration(
    before: NDArray[np.float32],
    probability: NDArray[np.float32],
    good: BoolArray,
    found: _Fitted,
    good_above: float,
) -> dict[str, Any]:
    """Describe calibration and sets of labels, on the images that were held out."""
    values = probability.astype(float)
    sets = label_sets(values, good)
    return {
        "temperature": found.temperature,
        "statistics_weight": found.statistics_weight,
        "error_before": score(before, good, good_above).calibration_error,
        **sets._asdict(),
        "ambiguous": sets.ambiguous(values),
    }


def _write_report(
    report: Report,
    probability: NDArray[np.float32],
    before: NDArray[np.float32],
    good: BoolArray,
    directory: Path,
    writer: SummaryWriter | None,
    epochs: int,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    report.save(directory / REPORT_FILE)
    plot(report, probability, before, good, directory / PICTURE)
    if writer is not None:
        log_report(writer, report, probability, good, directory, epochs)


def _print_report(report: Report, summary: dict[str, Any]) -> None:
    calibration = summary["calibration"]
    print(report.table())
    print(
        f"before calibration    {calibration['error_before']:.4f}, "
        f"temperature {calibration['temperature']:.3f}, weight of the statistics "
        f"{calibration['statistics_weight']:.2f}"
    )
    print(
        f"sets of labels        {calibration['coverage']:.0%} of either kind are covered: good "
        f"from {calibration['good_from']:.3f}, bad up to {calibration['bad_to']:.3f}; "
        f"{calibration['ambiguous']:.1%} may be either"
    )
    print(
        f"images without molecules called good  {summary['counterexamples_called_good']:.4f} of "
        f"{_NEW_COUNTEREXAMPLES}"
    )
    if min(report.good, report.bad) < _FEW:
        print(
            f"{report.good} good and {report.bad} bad validation images are few: these figures are "
            "rough; label more, above all of the rarer kind"
        )


def _refusal(report: Report, good: BoolArray, why: str) -> ClassifierError:
    return ClassifierError(
        f"the classifier is not written, for on {report.surest}{why}: label more and surer, above "
        f"all of the rarer kind ({good.sum()} of {good.size} are good), or take it all the same "
        "(classifier.refuse_poor=false)"
    )


def _poor(report: Report) -> str:
    """Say why a classifier is not good enough to be used; empty if it is."""
    if report.surest_auc < LEAST_AUC:
        return (
            f"the area under the ROC curve is {report.surest_auc:.3f}, and at least {LEAST_AUC:g} "
            "is asked for"
        )
    if report.recommended_tpr < LEAST_FOUND:
        return (
            f"it finds {report.recommended_tpr:.0%} of the good ones where at most "
            f"{MOST_FALSE:.0%} of the bad ones pass (above {report.recommended:g}), and at least "
            f"{LEAST_FOUND:.0%} is asked for"
        )
    return ""


def _counterexamples_called_good(
    classifier: ProbeClassifier, good_above: float, rng: np.random.Generator
) -> float:
    """Measure the share of new images without molecules whose probe is called good."""
    images = counterexamples(_NEW_COUNTEREXAMPLES, classifier.network.pixels, rng)
    return float((classifier.probability(images[:, None]) > good_above).mean())


def _with_counterexamples(data: Labelled, share: float, rng: np.random.Generator) -> Labelled:
    more = counterexamples(round(share * data.good.size), data.images.shape[1], rng)
    if not len(more):
        return data
    extra = Labelled(more, np.zeros(len(more), np.bool_))
    return Labelled(
        *(
            np.concatenate([getattr(each, field.name) for each in (data, extra)])
            for field in fields(Labelled)
        )
    )


def _summary(
    data: Labelled,
    parts: Sequence[tuple[Indices, Indices]],
    config: ClassifierConfig,
    seed: int,
    histories: Sequence[tuple[Epoch, ...]],
    report: Report,
) -> dict[str, Any]:
    training, _ = parts[0]
    return {
        "seed": seed,
        "training_images": len(training),
        "training_good": int(data.good[training].sum()),
        # Where the images lay concerns nobody who is given the classifier.
        "settings": config.model_dump(mode="json", exclude={"data", "unlabelled"}),
        "history": [asdict(epoch) for epoch in histories[0]],
        "validation": report.figures(),
    }
