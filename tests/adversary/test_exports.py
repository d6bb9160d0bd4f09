"""Names that a spreadsheet would calculate, in tables that people open in one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from spm_gym.config import EnvConfig
from spm_gym.datasets.export import export_images
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.datasets.manifest import MANIFEST
from spm_gym.journal.reader import Label
from tests.support.invented_runs import InventedRun
from tests.support.labelling import answer, answered, page_for

HEIGHTS = 1e-10 * np.random.default_rng(0).normal(size=(64, 64))
FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", "＝1+1", "＠x", " =1+1", "\t=1+1")
HIDDEN = tuple(
    f"a{separator}{between}=1+1{separator}b"
    for separator in (",", ";", "\t")
    for between in ("", " ", '"', "'", ' "')
)


def calculated(table: bytes) -> list[str]:
    """Cells that a spreadsheet of some country would calculate; it overlooks quotation marks."""
    text = table.decode("utf-8-sig")
    found = []
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            found += row
        for line in text.splitlines():
            found += [cell.strip("\"'") for cell in line.split(delimiter)]
    return [cell for cell in found if cell.lstrip(" \"'").startswith(tuple("=+-@＝＋－＠\t\r"))]


def test_the_measure_itself_knows_formulas() -> None:
    assert calculated(b"file,label\n=1+1,good\n")
    assert calculated(b'file,label\n"a;=1+1",good\n')
    assert not calculated(b"file,label\n./=1+1,good\n")


@pytest.mark.parametrize("name", [*FORMULAS, *HIDDEN])
def test_a_run_whose_name_is_a_formula_is_exported_without_one(tmp_path: Path, name: str) -> None:
    with InventedRun(tmp_path / name) as run:
        run.enter_area()
        run.scan(Label.GOOD, 0.99)
        run.scan(Label.BAD_PROBE, 0.01)
        run.commit()
    export_images(tmp_path / name, tmp_path / "set", EnvConfig(), "classifier")
    assert calculated((tmp_path / "set" / MANIFEST).read_bytes()) == []
    assert load_folder(tmp_path / "set").good.tolist() == [True, False]


def test_what_a_journal_calls_a_file_is_no_formula_in_an_export(tmp_path: Path) -> None:
    with InventedRun(tmp_path / "run") as run:
        run.enter_area()
        for label, name in ((Label.GOOD, "x;=1+1.gsf"), (Label.BAD_PROBE, "=2.gsf")):
            number = run.scan(label, 0.5)
            (row,) = run.journal._db.execute("SELECT file FROM scans WHERE id = ?", (number,))
            (tmp_path / "run" / row["file"]).rename(tmp_path / "run" / "scans" / name)
            run.journal._db.execute(
                "UPDATE scans SET file = ? WHERE id = ?", (f"scans/{name}", number)
            )
        run.journal.keep()
    export_images(tmp_path / "run", tmp_path / "set", EnvConfig(), "classifier")
    assert calculated((tmp_path / "set" / MANIFEST).read_bytes()) == []


@pytest.mark.parametrize("name", FORMULAS[:-1])
def test_labels_of_such_names_are_no_formulas(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    np.save(tmp_path / name / "1.npy", HEIGHTS)
    np.save(tmp_path / f"{name}.npy", HEIGHTS)
    with page_for(tmp_path, labeller="Anna") as address:
        for file in (f"{name}/1.npy", f"{name}.npy"):
            assert answer(address, file) == 200
    assert calculated((tmp_path / MANIFEST).read_bytes()) == []


@pytest.mark.parametrize("name", ["a;=1+1", "a; @x", "a\t+1"])
def test_a_file_that_hides_a_formula_is_left_out_and_said(tmp_path: Path, name: str) -> None:
    """It cannot be called anything else, and quotation marks do not help everywhere."""
    for file in (name, "harmless"):
        np.save(tmp_path / f"{file}.npy", HEIGHTS)
    with page_for(tmp_path, labeller="Anna") as address:
        assert answered(address, f"{name}.npy")[0] == 400
        assert answer(address, "harmless.npy") == 200
    assert name not in (tmp_path / MANIFEST).read_text()


def test_names_as_people_give_them_are_labelled(tmp_path: Path) -> None:
    name = "Au(111), -1.5 V, 20 pA; 2nd day.npy"
    np.save(tmp_path / name, HEIGHTS)
    with page_for(tmp_path, labeller="Anna") as address:
        assert answer(address, name) == 200
    assert name in (tmp_path / MANIFEST).read_text()
