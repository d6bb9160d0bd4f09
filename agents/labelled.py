"""Labelled images, and their division into those to learn from and those to score on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import ClassifierError
from spm_gym.types import BoolArray

Indices = NDArray[np.intp]

_TRIED_DIVISIONS = 200
_UNANIMOUS = 0.99


@dataclass(frozen=True, slots=True)
class Labelled:
    """N normalised images with people's verdict.

    Attributes:
        images: (N, H, H) float32.
        good: Whether the probe was good, (N,).
        share: Of the opinions that call it good, (N,); by default all agree.
        weight: Of each image in the loss, (N,); by default 1.
        raters: How many people have labelled it, (N,); by default 1.
    """

    images: NDArray[np.float32]
    good: BoolArray
    share: NDArray[np.float32] = field(default=None)  # type: ignore[arg-type]
    weight: NDArray[np.float32] = field(default=None)  # type: ignore[arg-type]
    raters: NDArray[np.int64] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        count, *shape = self.images.shape
        if len(shape) != 2 or shape[0] != shape[1] or self.good.shape != (count,):
            raise ClassifierError(
                f"square images (N, H, H) and labels (N,) are needed, "
                f"not {self.images.shape} and {self.good.shape}"
            )
        if self.share is None:
            object.__setattr__(self, "share", self.good.astype(np.float32))
        if self.weight is None:
            object.__setattr__(self, "weight", np.ones(count, np.float32))
        if self.raters is None:
            object.__setattr__(self, "raters", np.ones(count, np.int64))

    def __getitem__(self, index: Indices) -> Labelled:
        return Labelled(*(getattr(self, each.name)[index] for each in fields(self)))

    @property
    def agreed(self) -> BoolArray:
        """Which images two or more people have labelled, all of them the same, (N,)."""
        unanimous = np.maximum(self.share, 1 - self.share) >= _UNANIMOUS
        return np.asarray((self.raters >= 2) & unanimous)


def divisions(
    good: BoolArray, session: NDArray[np.str_], config: ClassifierConfig, seed: int
) -> list[tuple[Indices, Indices]]:
    """Divide images into indices for training and for validation, once or for every fold.

    By image each class is divided in proportion. By session whole sessions go to one side, so that
    no probe and place has images on both sides.

    Raises:
        ClassifierError: A side would lack a class, or a session has a single image.
    """
    if config.split == "session":
        _refuse_single(session)
    if config.folds is None:
        found = [_split(good, session, config, seed)]
    else:
        found = _folds(good, session, config, seed)
    for training, validation in found:
        for side, members in (("training", training), ("validation", validation)):
            if not 0 < good[members].sum() < len(members):
                raise ClassifierError(
                    f"split by {config.split} leaves {good[members].sum()} good of {len(members)} "
                    f"images for {side}; both classes are needed ({good.sum()} good of {good.size} "
                    f"images in {np.unique(session).size} sessions; classifier.split, "
                    "classifier.folds)"
                )
    return found


def _refuse_single(session: NDArray[np.str_]) -> None:
    # An evening has more images than one: such names are probably those of files.
    names, counts = np.unique(session, return_counts=True)
    if len(single := names[counts == 1]):
        raise ClassifierError(
            f"the session {str(single[0])!r} has a single image ({len(single)} of {len(names)} "
            "sessions have): give the images of an evening one session, or divide them without "
            "sessions (classifier.split=image)"
        )


def _folds(
    good: BoolArray, session: NDArray[np.str_], config: ClassifierConfig, seed: int
) -> list[tuple[Indices, Indices]]:
    names = np.unique(session)
    by_session = config.split == "session"
    most = len(names) if by_session else int(min(good.sum(), (~good).sum()))
    count = min(config.folds or 0, most)
    if count < 2:
        raise ClassifierError(
            f"{config.folds} folds by {config.split} need at least two "
            f"{'sessions' if by_session else 'images of each class'}, not {most} "
            "(classifier.split, classifier.folds)"
        )
    kind = StratifiedGroupKFold if by_session else StratifiedKFold
    folds = kind(count, shuffle=True, random_state=seed % 2**32)
    return list(folds.split(np.zeros(len(good)), good, session if by_session else None))


def _split(
    good: BoolArray, session: NDArray[np.str_], config: ClassifierConfig, seed: int
) -> tuple[Indices, Indices]:
    rng = np.random.default_rng(seed)
    if config.split == "image":
        chosen = _by_image(good, config.validation_fraction, rng)
    else:
        chosen = _by_session(good, session, config.validation_fraction, rng)
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
