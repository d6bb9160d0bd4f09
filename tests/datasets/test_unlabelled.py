"""Scans that nobody has labelled, in folders and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spm_gym.datasets.labelled import load_labelled
from spm_gym.datasets.unlabelled import load_unlabelled
from spm_gym.imaging import level
from spm_gym.imaging.files import FileFormatError

IMAGES = np.random.default_rng(0).normal(0, 2e-12, (6, 16, 16))


def test_of_a_file_all_that_are_neither_good_nor_bad(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, images=IMAGES, label=["good", "Bad", "mid", "good", "bad", ""])
    labelled = load_labelled(file, 16, "levels")
    found = load_unlabelled(file, 16, "levels", labelled.paths)
    assert [path.name for path in found.paths] == ["a.npz#2", "a.npz#5"]
    assert found.metres
    assert found.heights[1] == pytest.approx(level(IMAGES[5]), abs=1e-18)
    assert len(load_unlabelled(file, 8, "levels", []).heights) == 6
    known = [*labelled.paths, *found.paths]
    assert load_unlabelled(file, 16, "levels", known).heights.shape == (0, 16, 16)


def test_of_a_folder_all_that_show_something_however_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "bad", "archive"):
        (tmp_path / name).mkdir()
    for name, image in zip(("good/1", "bad/2", "3", "archive/good_or_bad"), IMAGES, strict=False):
        np.save(tmp_path / f"{name}.npy", image)
    np.save(tmp_path / "archive" / "small.npy", IMAGES[0, :8, :8])
    np.save(tmp_path / "archive" / "empty.npy", np.full((16, 16), np.nan))
    (tmp_path / "archive" / "broken.sxm").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no scan")
    monkeypatch.chdir(tmp_path)
    found = load_unlabelled(Path(), 16, "levels", [tmp_path / "good" / "1.npy"])
    assert sorted(path.stem for path in found.paths) == ["2", "3", "good_or_bad"]
    assert found.left_out == 3
    assert np.isfinite(found.heights).all()


def test_brightness_has_no_metres(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.arange(256, dtype=np.uint8).reshape(1, 16, 16))
    found = load_unlabelled(tmp_path / "a.npz", 16, "levels", [])
    assert not found.metres
    assert found.heights.max() == 255


def test_what_is_not_there_or_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"no such folder or \.npz file of unlabelled images"):
        load_unlabelled(tmp_path / "gone", 16, "levels", [])
    np.savez(tmp_path / "a.npz", images=IMAGES)
    with pytest.raises(FileFormatError, match="at least 32 x 32"):
        load_unlabelled(tmp_path / "a.npz", 32, "levels", [])
