"""Scans that are read, but say nothing of a probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.figures.contact_sheet import draw_sheet
from spm_gym.figures.scan import ScanClassifier, Seen, Subject, draw_scan, look_at, verdict
from spm_gym.imaging.files import (
    FileFormatError,
    NoTopographyError,
    read_heights,
    read_topography,
)
from spm_gym.web.labelling.candidates import find_candidates, read_images
from tests.support.labelling import scan
from tests.support.scan_files import Header, sxm
from tests.support.scripted_runs import Verdicts
from tests.support.showing import shown


def off(path: Path, z: np.ndarray) -> Path:
    controller = Header().controller.replace("\t1\t", "\t0\t")
    channels = [("Z", "m", "both", z), ("Current", "A", "both", z)]
    return sxm(path, channels, Header(controller=controller))


def sheet_texts(subject: Subject, seen: Seen) -> list[Text]:
    return list(draw_sheet([(subject, seen)], 0.9, "sheet").axes[0].texts)


def classifier() -> ScanClassifier:
    return ScanClassifier(Verdicts(0.98), 64)


@pytest.mark.parametrize("shape", ["flat", "sloped", "real", "partial"])
def test_a_scan_at_constant_height_is_neither_diagnosed_nor_classified(
    tmp_path: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    z = np.full((64, 64), 5e-8, np.float32)
    z += {"sloped": 1e-12 * np.arange(64, dtype=np.float32), "real": scan(0)}.get(shape, 0)
    if shape == "partial":
        z[32:] = np.nan
    path = off(tmp_path / "good_1.sxm", z)
    found = read_topography(path)
    assert found.feedback is False
    subject = Subject(path.name, found.z, found.width, found.height, feedback=found.feedback)
    seen = look_at(subject, classifier())
    assert (seen.diagnosis, seen.probability, seen.levelled) == (None, None, None)
    words = draw_scan(subject, seen).get_supxlabel()
    assert "feedback off" in words
    assert "rash" not in words
    assert any("feedback off" in text.get_text() for text in sheet_texts(subject, seen))
    assert shown(path, "-o", tmp_path / "a.png") == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("good_1.sxm: ")
    assert "feedback off" in said
    assert said.endswith(".")
    assert ". " not in said


def test_a_scan_at_constant_height_is_not_labelled_and_teaches_nothing(tmp_path: Path) -> None:
    off(tmp_path / "good_1.sxm", scan(0))
    np.save(tmp_path / "bad_1.npy", scan(1))
    images, refused = read_images(find_candidates(tmp_path), 64, "levels", None, lambda count: None)
    assert [each.file for each in images] == ["bad_1.npy"]
    assert "feedback off" in refused["good_1.sxm"]
    with pytest.raises(NoTopographyError, match=r"good_1.sxm: .*feedback off"):
        load_folder(tmp_path)
    with pytest.raises(NoTopographyError, match="feedback off"):
        read_heights(tmp_path / "good_1.sxm")


def test_heights_without_a_difference_are_not_called_a_crash() -> None:
    # Without the range of the piezo nobody knows whether it was at its end.
    seen = look_at(Subject("flat", np.full((64, 64), 3e-9)), classifier())
    assert (seen.diagnosis, seen.probability) == (None, None)
    assert "at constant height, or at an end" in seen.remarks[0]
    known = look_at(Subject("flat", np.full((64, 64), 3e-9), z_range=(-1e-7, 1e-7)), classifier())
    assert known.probability == pytest.approx(0.98)


def test_pixels_that_are_not_square_are_true_to_scale_and_not_classified(tmp_path: Path) -> None:
    z = scan(0)
    header = Header(range="4E-8 1E-8")
    path = sxm(tmp_path / "good_1.sxm", [("Z", "m", "both", z)], header)
    found = read_topography(path)
    subject = Subject("wide", found.z, found.width, found.height)
    seen = look_at(subject, classifier())
    assert seen.probability is None
    assert seen.normalised is None
    words = " ".join(draw_scan(subject, seen).get_supxlabel().split())
    side = seen.square.side
    assert f"{side} px, {side * 0.625:.3g} nm x {side * 0.15625:.3g} nm" in words
    assert "not square (625 pm x 156 pm)" in verdict(subject, seen, 0.9)
    _, refused = read_images(find_candidates(tmp_path), 64, "levels", None, lambda count: None)
    assert "its pixels are not square" in refused["good_1.sxm"]
    np.save(tmp_path / "bad_1.npy", scan(1))
    with pytest.raises(FileFormatError, match=r"good_1.sxm: its pixels are not square"):
        load_folder(tmp_path)


def test_frames_that_are_square_but_for_the_last_digits_are_classified(tmp_path: Path) -> None:
    header = Header(range="1.000000E-8 1.004000E-8")
    found = read_topography(sxm(tmp_path / "a.sxm", [("Z", "m", "both", scan(0))], header))
    seen = look_at(Subject("a", found.z, found.width, found.height), classifier())
    assert seen.probability == pytest.approx(0.98)


def test_the_terminal_says_what_the_picture_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sxm(tmp_path / "a.sxm", [("Z", "m", "both", scan(0))])
    assert shown(path, "-o", tmp_path / "a.png") == 0
    said, where = capsys.readouterr().out.splitlines()
    assert said.startswith("a.sxm: ")
    assert "robability that the probe is good: 0." in said
    assert "a.png" in where
