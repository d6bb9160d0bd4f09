"""spm-gym compare: a table, a file for scripts and a picture; bad input is one line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from spm_gym.cli import main
from spm_gym.cli.compare import EPILOG
from spm_gym.journal.reader import Label
from tests.analysis.test_campaign import invented
from tests.support.command_runs import LIVELY
from tests.support.invented_runs import PULSE, InventedRun

pytestmark = pytest.mark.usefixtures("fresh_folder")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Lines of the command, whose columns are split by two blanks or more."""
    capsys.readouterr()
    assert main(["compare", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    """Cells of the first row with this name."""
    row = next(line for line in lines if line[:26].strip() == name)
    return [row[place : place + 27].strip() for place in range(26, len(row), 27)]


def test_two_simulated_runs_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    for name, threshold in (("strict", 0.9), ("lenient", 0.7)):
        options = ["--scans", "20", "--run-dir", name, "--policy", "random"]
        settings = [*LIVELY, f"env.good_above={threshold}"]
        assert main(["run", "--env", "sim", *options, "--set", *settings]) == 0
    lines = printed(capsys, "strict", "lenient", "--json", "f.json", "--plot", "p.png")
    assert "  env.good_above: 0.9 (1); 0.7 (2)" in lines
    assert cells(lines, "images") == ["20", "20"]
    figures = json.loads(Path("f.json").read_text("utf-8"))
    assert [run["images"] for run in figures["runs"]] == [20, 20]
    capsys.readouterr()
    main(["journal", "strict", "--json"])
    counted = json.loads(capsys.readouterr().out)
    run = figures["runs"][0]
    assert run["figures"]["good_per_hour"]["value"] == pytest.approx(counted["good_per_hour"])
    assert run["ending_sentence"] == counted["ending_sentence"]
    with Image.open("p.png") as picture:
        assert picture.width > 1000


def test_the_table_has_figures_and_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    for name, good in (("few", 5), ("many", 20)):
        invented(Path(name), good=good)
    lines = printed(capsys, "few", "many", "few", "--json", "f.json")
    assert any(line.split() == ["1", "few", "2", "many", "3", "few"] for line in lines)
    assert cells(lines, "actions each")[0].startswith("2.00 (1.")
    assert cells(lines, "conditionings") == ["12"] * 3
    assert cells(lines, "crash") == ["2"] * 3
    assert cells(lines, "not recovered") == ["1"] * 3
    ratio = cells(lines, "good images per hour")
    assert ratio[0] == "-"
    assert ratio[2].startswith("1.000 (0.")
    assert "Settings that differ" not in " ".join(lines)
    assert "  the same run as 1, but intervals of ratios take runs as independent" in lines
    assert "All settings that are compared are the same." in lines
    ratios = json.loads(Path("f.json").read_text("utf-8"))["ratios_to_first"]
    assert ratios[1]["good_per_hour"]["value"] == 1.0
    assert ratios[0]["actions_per_conditioning"]["value"] == 1.0


def test_a_narrow_terminal_has_one_run_below_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invented(Path("a"))
    for columns, tables in (("60", 3), ("80", 2), ("120", 1)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = printed(capsys, "a", "a", "a")
        assert sum(line.startswith("time of operation") for line in lines) == tables


def test_policies_have_rows_of_their_own_where_they_took_turns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    invented(Path("agent"))
    with InventedRun(Path("both")) as run:
        run.enter_area()
        for values in ([1.0], None):
            run.condition([PULSE], values=values)
        run.commit()
    assert "by random choice" not in " ".join(printed(capsys, "agent", "agent"))
    lines = printed(capsys, "agent", "both")
    assert cells(lines, "by random choice") == ["-", "1.00 (too few)"]


def test_names_of_others_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["run $x$ \x1b[31m", "-\u65e5", "x" * 200]
    for name in names:
        run = InventedRun(Path(name))
        run.enter_area()
        run.scan(Label.GOOD, 0.9)
        run.recovery("\x1b[31mtrouble")
        run.commit()
        run.end()
    lines = printed(capsys, *(f"./{name}" for name in names), "--plot", "p.svg")
    assert all(line.isprintable() for line in lines)
    assert Path("p.svg").stat().st_size > 1000


BAD = {
    "one run": (["good"], "name at least two"),
    "nothing there": (["good", "missing"], "missing has no journal"),
    "a training": (["good", "training"], "it has a training.yaml"),
    "another format": (["good", "newer"], "has journal format 7"),
    "no journal": (["text", "good"], "is not a journal"),
    "another program": (["good", "foreign"], "has journal format 0"),
    "figures exist": (["good", "good", "--json", "there"], "overwrite with --force"),
    "picture exists": (["good", "good", "--plot", "there"], "overwrite with --force"),
    "no picture": (["good", "good", "--plot", "p.gif"], "must end in .png"),
    "no folder": (["good", "good", "--json", "no/f.json"], "no folder no"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD[kind]
    invented(Path("good"))
    for name in ("training", "newer", "text", "foreign"):
        Path(name).mkdir()
    Path("training", "training.yaml").touch()
    Path("text", "journal.sqlite").write_text("no journal, and long enough to be read as one" * 9)
    for name, version in (("newer", 7), ("foreign", 0)):
        with sqlite3.connect(f"{name}/journal.sqlite") as db:
            db.execute("CREATE TABLE scans (id)")
            db.execute(f"PRAGMA user_version = {version}")
        db.close()
    Path("there").write_text("kept")
    assert main(["compare", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert message in output.err
    assert Path("there").read_text() == "kept"


def test_force_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    invented(Path("good"))
    Path("f.json").write_text("old")
    printed(capsys, "good", "good", "--json", "f.json", "--force")
    assert len(json.loads(Path("f.json").read_text("utf-8"))["runs"]) == 2


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    output = capsys.readouterr().out
    assert EPILOG in output
    assert "spm-gym compare runs/monday runs/tuesday" in output
