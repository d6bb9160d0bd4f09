"""Labelled images in one file of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.datasets.labelled import load_labelled
from spm_gym.imaging import level
from spm_gym.imaging.files import FileFormatError

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(0, 2e-12, (6, 16, 16))
LABELS = np.array(["good", "Bad", "mid", "good", "bad", ""])


def written(path: Path, **changes: Any) -> Path:
    arrays = {"images": IMAGES, "label": LABELS, "session": np.array(list("aabbcc")), **changes}
    np.savez(path / "a.npz", **{name: each for name, each in arrays.items() if each is not None})
    return path / "a.npz"


def test_good_and_bad_images_are_read_and_others_left_out(tmp_path: Path) -> None:
    loaded = load_labelled(written(tmp_path), 16, "levels")
    assert loaded.good.tolist() == [True, False, True, False]
    assert loaded.session.tolist() == ["a", "a", "b", "c"]
    assert loaded.metres
    assert loaded.ignored == {"mid": 1, "": 1}
    assert loaded.heights[2] == pytest.approx(level(IMAGES[3]), abs=1e-18)
    assert [path.name for path in loaded.paths] == ["a.npz#0", "a.npz#1", "a.npz#3", "a.npz#4"]


def test_several_opinions_become_a_share(tmp_path: Path) -> None:
    agree = np.array([1, 0.75, 1, 0.6, 1, 1])
    loaded = load_labelled(
        written(tmp_path, n=np.array([1, 4, 1, 5, 2, 1]), agree=agree), 8, "levels"
    )
    assert loaded.share == pytest.approx([1, 0.25, 0.6, 0])
    assert loaded.raters.tolist() == [1, 4, 5, 2]
    assert loaded.heights.shape == (4, 8, 8)
    assert loaded.averaged == {16: 4}


@pytest.mark.parametrize(
    "label", [np.array([1, 0, 2, 1, 0, -1]), np.array([1.0, 0, np.nan, 1, 0, 0.5])]
)
def test_numbers_are_labels_too(tmp_path: Path, label: np.ndarray) -> None:
    loaded = load_labelled(written(tmp_path, label=label), 16, "levels")
    assert loaded.good.tolist() == [True, False, True, False]


def test_brightness_is_not_levelled(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 16, 16)).astype(np.uint8)
    loaded = load_labelled(written(tmp_path, images=images), 16, "levels")
    assert not loaded.metres
    assert np.array_equal(loaded.heights[0], images[0])


def test_to_score_no_labels_are_needed(tmp_path: Path) -> None:
    loaded = load_labelled(written(tmp_path, label=None), 16, "levels", to_train=False)
    assert loaded.raters.tolist() == [0] * 6
    loaded = load_labelled(
        written(tmp_path, label=np.full(6, "good")), 16, "levels", to_train=False
    )
    assert loaded.good.all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": None}, "no array 'label'"),
        ({"images": None}, "no array 'images'"),
        ({"label": np.full(6, "good")}, "good and bad images are needed"),
        ({"label": np.full(6, "fine")}, "found 0 good and 0 bad"),
        ({"label": np.array(["good", "bad"])}, "must have 6 values"),
        ({"label": np.zeros(6, "datetime64[s]")}, "must be the words good and bad"),
        ({"label": np.array([None, 1, 0, 1, 0, 1], object)}, "no objects"),
        ({"images": np.empty(6, object)}, "no objects"),
        ({"images": IMAGES[:, :8]}, "must be numbers"),
        ({"images": IMAGES.astype(np.complex128)}, "must be numbers"),
        ({"images": IMAGES[:0], "label": LABELS[:0]}, "must be numbers"),
        ({"session": np.array(["a"])}, "'session' must have 6 values"),
        ({"agree": np.full(6, "yes")}, "'agree' must be numbers"),
        ({"agree": np.full(6, np.nan)}, "'agree' from 0 to 1"),
        ({"agree": np.full(6, 1.5)}, "'agree' from 0 to 1"),
        ({"n": np.full(6, np.nan)}, "'n' must be 1 or more"),
        ({"images": np.full((6, 16, 16), np.nan)}, "a.npz#0: a plane needs"),
        ({"images": np.full((6, 16, 16), np.inf)}, "a.npz#0: a plane needs"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(FileFormatError, match=reason) as caught:
        load_labelled(path, 16, "levels")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 not a zip", b"\x80\x04.", b"\x93NUMPY\x01\x00", b"PK\x05\x06" + 18 * b"\0"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.npz"):
        load_labelled(path, 16, "levels")
    with pytest.raises(FileFormatError, match="No such file"):
        load_labelled(tmp_path / "gone.npz", 16, "levels")


def test_smaller_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="16 x 16 px, at least 32 x 32"):
        load_labelled(written(tmp_path), 32, "levels")
