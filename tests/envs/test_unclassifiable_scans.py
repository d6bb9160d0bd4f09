"""Scans that are read, but say nothing of a probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from spm_gym.analysis.scan_findings import (
    ScanClassifier,
    ScanFindings,
    Subject,
    examine,
    verdict,
)
from spm_gym.config import EnvConfig
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.figures.contact_sheet import draw_sheet
from spm_gym.figures.scan import draw_scan
from spm_gym.imaging.files import (
    FileFormatError,
    NoTopographyError,
    read_heights,
    read_topography,
)
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.web.labelling.candidates import find_candidates, read_images
from tests.support.labelling import scan
from tests.support.scan_files import Header, sxm
from tests.support.scripted_runs import Verdicts
from tests.support.showing import show_command


def off(path: Path, z: np.ndarray) -> Path:
    controller = Header().controller.replace("\t1\t", "\t0\t")
    channels = [("Z", "m", "both", z), ("Current", "A", "both", z)]
    return sxm(path, channels, Header(controller=controller))


def sheet_texts(subject: Subject, findings: ScanFindings) -> list[Text]:
    return list(draw_sheet([(subject, findings)], 0.9, "sheet").axes[0].texts)


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
    findings = examine(subject, classifier(), EnvConfig())
    assert (findings.diagnosis, findings.probability, findings.levelled) == (None, None, None)
    words = draw_scan(subject, findings, 0.9).get_supxlabel()
    assert "feedback off" in words
    assert "rash" not in words
    assert any("feedback off" in text.get_text() for text in sheet_texts(subject, findings))
    assert show_command(path, "-o", tmp_path / "a.png") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("good_1.sxm: ")
    assert "feedback off" in line
    assert line.endswith(".")
    assert ". " not in line


def test_a_scan_at_constant_height_is_not_labelled_and_teaches_nothing(tmp_path: Path) -> None:
    off(tmp_path / "good_1.sxm", scan(0))
    np.save(tmp_path / "bad_1.npy", scan(1))
    images, refused = read_images(
        find_candidates(tmp_path), 64, Preprocessing(), None, lambda count: None
    )
    assert [each.file for each in images] == ["bad_1.npy"]
    assert "feedback off" in refused["good_1.sxm"]
    with pytest.raises(NoTopographyError, match=r"good_1.sxm: .*feedback off"):
        load_folder(tmp_path)
    with pytest.raises(NoTopographyError, match="feedback off"):
        read_heights(tmp_path / "good_1.sxm")


def test_heights_without_a_difference_are_not_called_a_crash() -> None:
    # Without the range of the piezo nobody knows whether it was at its end.
    findings = examine(Subject("flat", np.full((64, 64), 3e-9)), classifier(), EnvConfig())
    assert (findings.diagnosis, findings.probability) == (None, None)
    assert "at constant height, or at an end" in findings.remarks[0]
    ranged = Subject("flat", np.full((64, 64), 3e-9), z_range=(-1e-7, 1e-7))
    known = examine(ranged, classifier(), EnvConfig())
    assert known.probability == pytest.approx(0.98)


def test_pixels_that_are_not_square_are_true_to_scale_and_not_classified(tmp_path: Path) -> None:
    z = scan(0)
    header = Header(range="4E-8 1E-8")
    path = sxm(tmp_path / "good_1.sxm", [("Z", "m", "both", z)], header)
    found = read_topography(path)
    subject = Subject("wide", found.z, found.width, found.height)
    findings = examine(subject, classifier(), EnvConfig())
    assert findings.probability is None
    assert findings.normalised is None
    words = " ".join(draw_scan(subject, findings, 0.9).get_supxlabel().split())
    side = findings.square.side
    assert f"{side} px, {side * 0.625:.3g} nm x {side * 0.15625:.3g} nm" in words
    assert "not square (625 pm x 156 pm)" in verdict(subject, findings, 0.9)
    _, refused = read_images(
        find_candidates(tmp_path), 64, Preprocessing(), None, lambda count: None
    )
    assert "its pixels are not square" in refused["good_1.sxm"]
    np.save(tmp_path / "bad_1.npy", scan(1))
    with pytest.raises(FileFormatError, match=r"good_1.sxm: its pixels are not square"):
        load_folder(tmp_path)


def test_frames_that_are_square_but_for_the_last_digits_are_classified(tmp_path: Path) -> None:
    header = Header(range="1.000000E-8 1.004000E-8")
    found = read_topography(sxm(tmp_path / "a.sxm", [("Z", "m", "both", scan(0))], header))
    findings = examine(Subject("a", found.z, found.width, found.height), classifier(), EnvConfig())
    assert findings.probability == pytest.approx(0.98)


def test_the_terminal_says_what_the_picture_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sxm(tmp_path / "a.sxm", [("Z", "m", "both", scan(0))])
    assert show_command(path, "-o", tmp_path / "a.png") == 0
    line, where = capsys.readouterr().out.splitlines()
    assert line.startswith("a.sxm: ")
    # Of a molecule that was made up for this test.
    assert "unlike all that the classifier was trained with" in line
    assert "a.png" in where
