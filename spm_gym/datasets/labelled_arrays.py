"""Labelled images in one NumPy file, as the classifier's training takes them."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from spm_gym.datasets.labelled_folder import LabelledImages, levelled
from spm_gym.errors import one_line
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.plane import Method

ENDING = ".npz"
Unread = tuple[Path, Callable[[], NDArray[np.float32]]]
"""Path of an image, and what reads and levels it."""

_WORDS = {"good": 1, "bad": 0}
_LEFT_OUT = -1


def load_arrays(
    path: Path, pixels: int, plane: Method = "levels", to_train: bool = True
) -> LabelledImages:
    """Read labelled images from an ``.npz`` file.

    Its arrays: ``images`` (N, H, W), heights in metres or, as whole numbers, brightness, which has
    no metres; ``label`` (N,), "good" or "bad", or 1 and 0; anything else is left out. Optional:
    ``session`` (N,); ``n`` (N,), how many people have labelled it; ``agree`` (N,), the share of
    them who agree with the label; ``bias`` (V), ``setpoint`` (A) and ``width`` (m), one or (N,).

    Args:
        path: Of the file; nothing in it is run.
        pixels: Side that the images get; larger ones are averaged.
        plane: How to find the substrate, as in `spm_gym.imaging.level`; brightness is not levelled.
        to_train: Whether both classes are needed; otherwise the labels may be missing, and if none
            is good or bad, all images are read, as labelled by nobody.

    Raises:
        FileFormatError: It is no such file, or lacks a class that is needed.
    """
    arrays = _arrays(path)
    images = _images(path, arrays, ("images", "label") if to_train else ("images",))
    count, side = len(images), images.shape[1]
    label = _labels(path, _per_image(path, arrays, "label", count, ""))
    chosen = np.flatnonzero(label != _LEFT_OUT)
    labelled = len(chosen) > 0
    if not (to_train or labelled):
        chosen = np.arange(count)
    good = label[chosen] == 1
    if to_train and not 0 < good.sum() < good.size:
        raise FileFormatError(
            f"{path}: good and bad images are needed (found {good.sum()} good and "
            f"{(~good).sum()} bad of {count}); 'label' says which is which"
        )
    _refuse_small(path, side, pixels)
    metres = images.dtype.kind == "f"
    paths = tuple(_path(path, number) for number in chosen)
    method = plane if metres else None
    heights = [
        _prepared(path, images[n], pixels, method) for path, n in zip(paths, chosen, strict=True)
    ]
    session = _per_image(path, arrays, "session", count, "")[chosen]
    raters, agree = (_numbers(path, arrays, name, count, 1)[chosen] for name in ("n", "agree"))
    # Not negated: a comparison with NaN is false.
    if not ((raters >= 1).all() and (agree >= 0).all() and (agree <= 1).all()):
        raise FileFormatError(f"{path}: 'n' must be 1 or more, and 'agree' from 0 to 1")
    bias, setpoint, width = (
        _numbers(path, arrays, name, count, np.nan)[chosen]
        for name in ("bias", "setpoint", "width")
    )
    return LabelledImages(
        heights=np.stack(heights),
        metres=metres,
        good=good,
        share=np.where(good, agree, 1 - agree).astype(np.float32),
        raters=raters.astype(np.int64) * labelled,
        session=session.astype(np.str_),
        paths=paths,
        ignored=_ignored(arrays.get("label"), label),
        averaged={} if side == pixels else {side: len(chosen)},
        bias=bias,
        setpoint=setpoint,
        width=width,
    )


def read_arrays(path: Path, pixels: int, plane: Method) -> tuple[bool, Iterator[Unread]]:
    """Give all images of an ``.npz`` file, whatever their labels.

    Returns:
        Whether they are heights in metres, and each with the path that `load_arrays` names it by;
        to level it raises `FileFormatError` if too little of it was scanned.

    Raises:
        FileFormatError: It is no such file.
    """
    images = _images(path, _arrays(path), ("images",))
    _refuse_small(path, images.shape[1], pixels)
    metres = images.dtype.kind == "f"
    method = plane if metres else None
    named = ((_path(path, number), image) for number, image in enumerate(images))
    return metres, (
        (file, partial(_prepared, file, image, pixels, method)) for file, image in named
    )


def _path(path: Path, number: int | np.intp) -> Path:
    """Name an image of a file as if it were a file."""
    return path.with_name(f"{path.name}#{number}")


def _refuse_small(path: Path, side: int, pixels: int) -> None:
    if side < pixels:
        raise FileFormatError(
            f"{path}: its images have {side} x {side} px, at least {pixels} x {pixels} are needed"
        )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # Opened here: of a file that is none, NumPy leaves its own open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise FileFormatError(f"{path}: it holds one array, not 'images' and 'label'")
            return {name: file[name] for name in file.files}
    except FileFormatError:
        raise
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError, TypeError, BadZipFile, zlib.error) as error:
        # Pickled objects may run code when they are read; images of different sizes are such.
        raise FileFormatError(
            f"{path}: it is not a file of plain arrays of numbers and words (images of one size, "
            f"no objects): {one_line(error)}"
        ) from None


def _images(path: Path, arrays: dict[str, NDArray[Any]], needed: tuple[str, ...]) -> NDArray[Any]:
    for name in needed:
        if name not in arrays:
            raise FileFormatError(f"{path}: it has no array {name!r}, only {sorted(arrays)}")
    images = arrays["images"]
    if (
        images.ndim != 3
        or not len(images)
        or images.shape[1] != images.shape[2]
        or images.dtype.kind not in "fiu"
    ):
        raise FileFormatError(
            f"{path}: 'images' must be numbers (N, H, H), not {images.dtype} {images.shape}"
        )
    return images


def _per_image(
    path: Path, arrays: dict[str, NDArray[Any]], name: str, count: int, otherwise: Any = None
) -> NDArray[Any]:
    values = arrays.get(name, np.asarray(otherwise))
    if values.ndim == 0:
        values = np.full(count, values)
    if values.shape != (count,):
        raise FileFormatError(f"{path}: {name!r} must have {count} values, not {values.shape}")
    return values


def _numbers(
    path: Path, arrays: dict[str, NDArray[Any]], name: str, count: int, otherwise: float
) -> NDArray[np.float64]:
    values = _per_image(path, arrays, name, count, otherwise)
    if values.dtype.kind not in "fiub":
        raise FileFormatError(f"{path}: {name!r} must be numbers, not {values.dtype}")
    return np.asarray(values, np.float64)


def _labels(path: Path, given: NDArray[Any]) -> NDArray[np.int64]:
    """Give 1 for good, 0 for bad, -1 for what is left out."""
    if given.dtype.kind in "US":
        words = [str(word).strip().lower() for word in given.astype(np.str_)]
        return np.array([_WORDS.get(word, _LEFT_OUT) for word in words], np.int64)
    if given.dtype.kind in "fiub":
        numbers = np.asarray(given, np.float64)
        return np.select([numbers == 1, numbers == 0], [1, 0], _LEFT_OUT)
    raise FileFormatError(
        f"{path}: 'label' must be the words good and bad, or 1 and 0, not {given.dtype}"
    )


def _ignored(given: NDArray[Any] | None, label: NDArray[np.int64]) -> dict[str, int]:
    if given is None or given.ndim == 0:
        return {}
    return dict(Counter(str(word) for word in given[label == _LEFT_OUT]))


def _prepared(
    path: Path, image: NDArray[Any], pixels: int, plane: Method | None
) -> NDArray[np.float32]:
    heights = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
    if len(heights) != pixels:
        heights = box_averaged(heights, pixels)
    return np.asarray(heights, np.float32) if plane is None else levelled(path, heights, plane)
