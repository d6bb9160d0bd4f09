"""Training of the image classifier: split, fit, score (paper, *Networks*)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from agents.classifier import UNKNOWN_CONDITIONS, ProbeClassifier
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
from agents.vgg import VGG
from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import LEAST_AUC, ClassifierError, TrainingConditions
from spm_gym.types import BoolArray

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_LARGEST_BATCH = 512
_TRIED_DIVISIONS = 200
_NEW_COUNTEREXAMPLES = 500
_EPOCHS = 10
_BATCHES = 200
"""After a tenth of them every image of a small folder is still called bad."""
_FEW = 30


@dataclass(frozen=True, slots=True)
class Epoch:
    """Averages over one pass through the training images.

    Attributes:
        loss: Weighted cross entropy of the training images, each before its gradient step.
        validation_loss: That of the validation images after the epoch; None without them.
    """

    loss: float
    validation_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Normalised images (N, H, W) float32 and whether the probe was good (N,)."""

    images: NDArray[np.float32]
    good: BoolArray

    def __post_init__(self) -> None:
        count, *shape = self.images.shape
        if len(shape) != 2 or shape[0] != shape[1] or self.good.shape != (count,):
            raise ClassifierError(
                f"square images (N, H, H) and labels (N,) are needed, "
                f"not {self.images.shape} and {self.good.shape}"
            )

    def __getitem__(self, index: NDArray[np.intp]) -> Labelled:
        return Labelled(self.images[index], self.good[index])


def fit(
    training: Labelled,
    config: ClassifierConfig,
    seed: int,
    validation: Labelled | None = None,
    progress: bool = False,
    writer: SummaryWriter | None = None,
    conditions: TrainingConditions = UNKNOWN_CONDITIONS,
    start: VGG | None = None,
) -> tuple[ProbeClassifier, tuple[Epoch, ...]]:
    """Train a network; the same arguments give the same weights on the same machine.

    Args:
        training: Images to learn from.
        config: How to train.
        seed: Of the weights and the order of the images.
        validation: Images whose loss is recorded after every epoch.
        progress: Whether to show a progress bar.
        writer: Takes the losses.
        conditions: Of the images; kept with the classifier.
        start: Gives the initial trunk.
    """
    _check_trainable(training, config)
    rng = np.random.default_rng(seed)
    device = _device(config.device)
    network = VGG(
        config.network, 1, training.images.shape[1], torch.Generator().manual_seed(seed)
    ).to(device)
    if start is not None:
        network.trunk.load_state_dict(start.trunk.state_dict())
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    # Down to zero along a cosine: a threshold needs probabilities that mean what they say.
    batches = max(1, len(training.good) // config.batch_size)
    epochs = config.epochs or max(_EPOCHS, math.ceil(_BATCHES / batches))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    history = []
    bar = tqdm(range(epochs), desc="classifier", unit="epoch", disable=not progress)
    # Dropout draws from torch's global generator: seeded here, and restored for the caller.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in bar:
            shuffled = _batches(training, batches, config.flips, rng, device)
            loss = _learn(network, shuffled, optimiser, schedule, config)
            history.append(Epoch(loss, _validate(network, validation, config)))
            bar.set_postfix(loss=f"{history[-1].loss:.4f}")
            if writer is not None:
                _log(writer, epoch, history[-1])
    return ProbeClassifier(network, conditions), tuple(history)


def _learn(
    network: VGG,
    batches: Iterator[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: ClassifierConfig,
) -> float:
    """Learn from every batch once; returns the mean loss."""
    losses = []
    for images, good in batches:
        loss = _loss(network(images), good, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _check_trainable(training: Labelled, config: ClassifierConfig) -> None:
    good, count = int(training.good.sum()), training.good.size
    if not 0 < good < count:
        raise ClassifierError(f"both good and bad images are needed, not {good} good of {count}")
    if config.network.norm == "batch" and min(config.batch_size, count) < 2:
        raise ClassifierError("batch normalisation needs classifier.batch_size of at least 2")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _batches(
    data: Labelled, batches: int, flips: bool, rng: np.random.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    # Equal parts instead of full batches and a remainder, which could be too small for batch norm.
    for index in np.array_split(rng.permutation(data.good.size), batches):
        images = torch.from_numpy(data.images[index][:, None]).to(device)
        if flips:
            images = flipped(images, rng)
        yield images, torch.from_numpy(data.good[index].astype(np.float32)).to(device)


def flipped(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror each image (N, 1, H, W) along either axis, each with probability one half."""
    choice = torch.from_numpy(rng.random((2, len(images), 1, 1, 1)) < 0.5).to(images.device)
    images = torch.where(choice[0], images.flip(-1), images)
    return torch.where(choice[1], images.flip(-2), images)


def _loss(logits: Tensor, good: Tensor, config: ClassifierConfig) -> Tensor:
    # The weight multiplies the odds that the network learns; good images are the rarer ones.
    weight = torch.tensor(config.good_weight, device=logits.device)
    return binary_cross_entropy_with_logits(logits.squeeze(1), good, pos_weight=weight)


def _validate(network: VGG, data: Labelled | None, config: ClassifierConfig) -> float | None:
    if data is None:
        return None
    device = next(network.parameters()).device
    # The order of the batches does not matter here; a generator of its own leaves training alone.
    rng = np.random.default_rng(0)
    network.eval()
    with torch.inference_mode():
        losses = [
            _loss(network(images), good, config).item() * len(good)
            for images, good in _batches(
                data, -(-data.good.size // _LARGEST_BATCH), flips=False, rng=rng, device=device
            )
        ]
    network.train()
    return sum(losses) / data.good.size


def _log(writer: SummaryWriter, epoch: int, averages: Epoch) -> None:
    for name, value in asdict(averages).items():
        if value is not None:
            writer.add_scalar(f"classifier/{name}", value, epoch)


def split(
    good: BoolArray, session: NDArray[np.str_], config: ClassifierConfig, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide images into indices for training and for validation.

    By image each class is divided in proportion. By session whole sessions go to one side, so that
    no probe and place has images on both sides; the best of many random divisions is taken.

    Raises:
        ClassifierError: One side would lack a class.
    """
    rng = np.random.default_rng(seed)
    if config.split == "image":
        chosen = _by_image(good, config.validation_fraction, rng)
    else:
        chosen = _by_session(good, session, config.validation_fraction, rng)
    for side, members in (("training", ~chosen), ("validation", chosen)):
        if not 0 < good[members].sum() < members.sum():
            raise ClassifierError(
                f"split by {config.split} leaves {good[members].sum()} good of {members.sum()} "
                f"images for {side}; both classes are needed ({good.sum()} good of {good.size} "
                f"images in {np.unique(session).size} sessions)"
            )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _by_image(good: BoolArray, fraction: float, rng: np.random.Generator) -> BoolArray:
    # Class by class: a rare class would otherwise be missing on one side now and then.
    chosen = np.zeros(good.size, dtype=np.bool_)
    for label in (False, True):
        members = rng.permutation(np.flatnonzero(good == label))
        chosen[members[: round(fraction * members.size)]] = True
    return chosen


def _by_session(
    good: BoolArray, session: NDArray[np.str_], fraction: float, rng: np.random.Generator
) -> BoolArray:
    names, of_image = np.unique(session, return_inverse=True)
    # A division is a random order of the sessions, cut where both classes come closest to the
    # fraction.
    classes = np.stack([np.bincount(of_image[good == g], minlength=names.size) for g in (0, 1)])
    shares = classes / classes.sum(axis=1, keepdims=True)
    best, smallest = np.zeros(names.size, dtype=np.bool_), np.inf
    for _ in range(_TRIED_DIVISIONS):
        order = rng.permutation(names.size)
        errors = np.abs(np.cumsum(shares[:, order], axis=1) - fraction).sum(axis=0)
        end = int(errors.argmin())
        if errors[end] < smallest:
            smallest = errors[end]
            best = np.isin(np.arange(names.size), order[: end + 1])
    return best[of_image]


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
) -> ProbeClassifier:
    """Split, fit and score; write classifier and report into ``directory``; print the report.

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

    Raises:
        ClassifierError: It scores badly, and the settings refuse such a one: it is not written.
    """
    training, validation = (data[index] for index in split(data.good, session, config, seed))
    rng = np.random.default_rng([seed, 1])
    # In training only: the scores are those on images of the kind that people label.
    extended = _with_counterexamples(training, config.counterexamples, rng)
    classifier, history = fit(
        extended, config, seed, validation, progress, writer, conditions, start
    )
    probability = classifier(validation.images[:, None])
    report = score(probability, validation.good, good_above)
    classifier.conditions = replace(conditions, auc=report.auc, images=report.good + report.bad)
    called_good = _counterexamples_called_good(classifier, good_above, rng)
    summary = _summary(training, config, seed, history, report)
    classifier.summary = summary | {"counterexamples_called_good": called_good}
    _write_report(report, probability, validation.good, directory, writer, len(history))
    _print_report(report, called_good)
    if config.refuse_poor:
        # After the report is written: it shows what has to be labelled better.
        _refuse_poor(report, data.good)
    classifier.save(directory / "classifier.safetensors")
    return classifier


def _write_report(
    report: Report,
    probability: NDArray[np.float32],
    good: BoolArray,
    directory: Path,
    writer: SummaryWriter | None,
    epochs: int,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    report.save(directory / "report.json")
    plot(report, probability, good, directory / PICTURE)
    if writer is not None:
        log_report(writer, report, probability, good, directory, epochs)


def _print_report(report: Report, counterexamples_called_good: float) -> None:
    print(report.table())
    print(
        f"images without molecules called good  {counterexamples_called_good:.4f} of "
        f"{_NEW_COUNTEREXAMPLES}"
    )
    if min(report.good, report.bad) < _FEW:
        print(
            f"{report.good} good and {report.bad} bad validation images are few: these figures are "
            "rough; label more, above all of the rarer kind"
        )


def _refuse_poor(report: Report, good: BoolArray) -> None:
    if why := _poor(report):
        raise ClassifierError(
            f"the classifier is not written, for on its {report.good} good and {report.bad} bad "
            f"validation images {why}: label more and surer, above all of the rarer kind "
            f"({good.sum()} of {good.size} are good), or take it all the same "
            "(classifier.refuse_poor=false)"
        )


def _poor(report: Report) -> str:
    """Say why a classifier is not good enough to be used; empty if it is."""
    if report.auc < LEAST_AUC:
        return (
            f"the area under the ROC curve is {report.auc:.3f}, and at least {LEAST_AUC:g} is "
            "asked for"
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
    return float((classifier(images[:, None]) > good_above).mean())


def _with_counterexamples(data: Labelled, share: float, rng: np.random.Generator) -> Labelled:
    more = counterexamples(round(share * data.good.size), data.images.shape[1], rng)
    good = np.concatenate([data.good, np.zeros(len(more), np.bool_)])
    return Labelled(np.concatenate([data.images, more]), good)


def _summary(
    training: Labelled,
    config: ClassifierConfig,
    seed: int,
    history: tuple[Epoch, ...],
    report: Report,
) -> dict[str, Any]:
    return {
        "seed": seed,
        "training_images": training.good.size,
        "training_good": int(training.good.sum()),
        "settings": config.model_dump(mode="json"),
        "history": [asdict(epoch) for epoch in history],
        "validation": report.figures(),
    }
