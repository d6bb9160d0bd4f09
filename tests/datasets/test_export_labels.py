"""Exports for a classifier hold the labels that people gave, and say so."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from spm_gym import cli
from spm_gym.config import Config, EnvConfig
from spm_gym.datasets.export import export_images
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.datasets.manifest import MANIFEST
from spm_gym.journal.reader import Label, scan_file
from spm_gym.web.labelling.candidates import find_candidates
from spm_gym.web.labelling.labels import Labels
from tests.support.invented_runs import InventedRun

SCANS = (
    (Label.DISCARDED, None),
    (Label.GOOD, 0.99),
    (Label.BAD_PROBE, 0.01),
    (Label.CONDITIONING, 0.5),
    (Label.UNKNOWN, None),
    (Label.GOOD, 0.98),
    (Label.GOOD, 0.97),
    (Label.GOOD, 0.96),
    (Label.UNUSABLE, None),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with InventedRun(tmp_path / "run") as invented:
        invented.enter_area()
        for label, probability in SCANS:
            invented.scan(label, probability)
        invented.commit()
    (tmp_path / "run" / "config.yaml").write_text(Config().to_yaml())
    return tmp_path / "run"


def give(run: Path, words: dict[int, str], name: str = "Anna") -> None:
    with Labels(run, find_candidates(run)) as labels:
        for number, word in words.items():
            labels.set_label(scan_file(number), name, word)


def refused(capsys: pytest.CaptureFixture[str], run: Path, folder: Path) -> str:
    assert cli.main(["export", str(run), "--classifier", str(folder)]) == 2
    assert not folder.exists()
    (error,) = capsys.readouterr().err.splitlines()
    return error


def test_people_are_believed_and_not_the_classifier(run: Path, tmp_path: Path) -> None:
    give(run, {2: "bad", 3: "good", 4: "bad", 5: "good", 6: "sample", 7: "good"})
    give(run, {7: "bad"}, "Ben")
    exported = export_images(run, tmp_path / "set", EnvConfig())
    loaded = load_folder(tmp_path / "set")
    found = {path.stem: bool(good) for path, good in zip(loaded.paths, loaded.good, strict=True)}
    assert found == {"000002": False, "000003": True, "000004": False, "000005": True}
    assert str(exported) == (
        "2 good and 2 bad images, by the labels that people gave; left out: 1 discarded, "
        "1 labelled sample, 1 labelled disputed, 1 not labelled, 1 unusable"
    )
    manifest = (tmp_path / "set" / MANIFEST).read_text()
    assert "nan" not in manifest
    assert {row["label from"] for row in csv.DictReader(manifest.splitlines())} == {"people"}


def test_without_labels_of_people_the_command_to_label_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, run, tmp_path / "set")
    assert f"nobody has labelled images of {run}: label them with 'spm-gym label {run}'" in error
    assert "--labels classifier" in error
    give(run, {2: "good", 3: "good"})
    error = refused(capsys, run, tmp_path / "set")
    assert "2 images of a good probe and 0 of a bad one, by the labels that people gave" in error
    assert f"spm-gym label {run}" in error


def test_a_label_of_a_file_that_is_no_scan_of_the_run_takes_nothing(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.gsf").write_bytes((run / scan_file(2)).read_bytes())
    give(run, {2: "good", 3: "bad"})
    with (run / MANIFEST).open("a", newline="") as file:
        file.write("../secret.gsf,good\r\n")
    assert str(export_images(run, tmp_path / "set", EnvConfig())).startswith("1 good and 1 bad")


def test_labels_that_make_no_sense_are_no_reason_to_guess(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(run, {2: "good", 3: "bad"})
    with (run / MANIFEST).open("a", newline="") as file:
        file.write(f"{scan_file(2)},bad\r\n")
    assert "again" in refused(capsys, run, tmp_path / "set")


def test_nothing_is_written_into_a_folder_that_is_in_use(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(run, {2: "good", 3: "bad"})
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    for place in (folder, folder / "thesis.tex"):
        assert cli.main(["export", str(run), "--classifier", str(place)]) == 2
        assert "not empty" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
