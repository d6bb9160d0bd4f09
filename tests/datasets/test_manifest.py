"""Labels of people: the file they are kept in, how they are read, and what training takes."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spm_gym.datasets.manifest import (
    DISPUTED,
    EARLIER,
    LABELS,
    MANIFEST,
    Manifest,
    labeller_name,
    read_listed,
    training_label,
)
from spm_gym.web.labelling.candidates import find_candidates
from spm_gym.web.labelling.desk import Desk
from spm_gym.web.labelling.labels import Labels, LabelsError
from tests.support.labelling import FILES, candidates, desk_of, written

NAMES = ("Anna", "Ben", "Änne O'Neill")


# What was said is what is read


names, files = st.sampled_from(NAMES), st.sampled_from(FILES)
steps = st.one_of(
    st.tuples(st.just("say"), names, files, st.sampled_from(LABELS)),
    st.tuples(st.just("skip"), names, files),
    st.tuples(st.just("undo"), names),
    st.tuples(st.just("settle"), files, st.sampled_from(("", *LABELS))),
    st.tuples(st.just("restart")),
)  # fmt: skip


class Expected:
    """Labels of people, kept in the simplest way."""

    def __init__(self) -> None:
        self.by: dict[str, dict[str, str]] = {file: {} for file in FILES}
        self.consensus = dict.fromkeys(FILES, "")
        self.history: dict[str, list[tuple[str, str | None]]] = {name: [] for name in NAMES}

    def do(self, step: tuple[str, ...]) -> None:
        match step:
            case ("say", name, file, label):
                self.history[name].append((file, self.by[file].get(name, "")))
                self.by[file][name] = label
            case ("skip", name, file):
                if name not in self.by[file]:
                    self.history[name].append((file, None))
            case ("undo", name):
                if self.history[name]:
                    file, before = self.history[name].pop()
                    if before is not None:
                        self.by[file].pop(name, None)
                        self.by[file] |= {name: before} if before else {}
            case ("settle", file, label):
                self.consensus[file] = label
            case ("restart",):
                self.history = {name: [] for name in NAMES}


def do(desk: Desk, step: tuple[str, ...]) -> None:
    match step:
        case ("say", name, file, label):
            desk.answer(name, file, label)
        case ("skip", name, file):
            desk.skip(name, file)
        case ("undo", name):
            desk.undo(name)
        case ("settle", file, label):
            desk.set_consensus(file, label)


@given(st.lists(steps, max_size=25))
@settings(max_examples=50)
def test_what_is_read_back_is_what_was_said(taken: list[tuple[str, ...]]) -> None:
    expected = Expected()
    with TemporaryDirectory() as name:
        folder = Path(name)
        labels = Labels(folder, candidates(folder))
        desk = desk_of(folder, labels)
        for step in taken:
            if step == ("restart",):
                labels.__exit__(None, None, None)
                labels = Labels(folder, candidates(folder))
                desk = desk_of(folder, labels)
            else:
                do(desk, step)
            expected.do(step)
        labels.__exit__(None, None, None)
        if not (folder / MANIFEST).exists():
            assert not any(expected.by.values())
            return
        read = Manifest.read(folder / MANIFEST).entries
        listed = {
            PurePosixPath(f).as_posix(): label for f, label, _ in read_listed(folder / MANIFEST)
        }
    for file in FILES:
        if file in read:
            assert read[file].by == expected.by[file]
            assert read[file].consensus == expected.consensus[file]
            assert listed[file] == training_label(expected.by[file], expected.consensus[file])
        else:
            assert not expected.by[file]
            assert not expected.consensus[file]


# No carriage return, for the CSV writer of Python forgets its quotation marks.
cells = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


@given(
    header=st.lists(cells.filter(lambda c: not c.startswith("by ")), max_size=3, unique=True),
    rows=st.lists(st.tuples(st.sampled_from(["", "good", "unsure"]), cells, cells), max_size=5),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)  # fmt: skip
@settings(max_examples=100)
def test_a_manifest_by_hand_is_kept(
    header: list[str], rows: list[tuple[str, str, str]], newline: str, encoding: str
) -> None:
    ours = {"file", "label", "session", "consensus"}
    first = ["label", "file", *(cell for cell in header if cell not in ours)]
    table = [(label, f"{n}.npy", *more) for n, (label, *more) in enumerate(rows)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / MANIFEST
        with path.open("w", encoding=encoding, newline="") as file:
            csv.writer(file, lineterminator=newline).writerows([first, *table])
        before = path.read_bytes()
        with Labels(folder, []) as labels:
            labels.set_label("new.npy", "Anna", "good")
            for _, file_name, *_ in table[:1]:
                labels.set_label(file_name, "Anna", "bad")
                labels.set_label(file_name, "Anna", "")
        with path.open(encoding="utf-8-sig", newline="") as file:
            kept_first, *kept = csv.reader(file)
        after = path.read_bytes()
    assert kept_first[: len(first)] == first
    for old, new in zip(table, kept, strict=False):
        assert tuple(new[: len(old)]) == old
    assert len(kept) == len(table) + 1
    assert after.startswith(b"\xef\xbb\xbf") == before.startswith(b"\xef\xbb\xbf")


# What training takes


@pytest.mark.parametrize(
    ("by", "consensus", "label"),
    [
        ({}, "", ""),
        ({"Anna": "good"}, "", "good"),
        ({"Anna": "good", "Ben": "good"}, "", "good"),
        ({"Anna": "good", "Ben": "bad"}, "", DISPUTED),
        ({"Anna": "good", "Ben": "sample"}, "", DISPUTED),
        ({"Anna": "good", "Ben": "bad"}, "bad", "bad"),
        ({EARLIER: "unsure"}, "", "unsure"),
        ({EARLIER: "unsure", "Anna": "bad"}, "", "bad"),
        ({EARLIER: "good", "Anna": "bad"}, "", DISPUTED),
    ],
)
def test_the_label_for_training(by: dict[str, str], consensus: str, label: str) -> None:
    assert training_label(by, consensus) == label


def test_labels_without_a_name_stay_beside_those_with_one(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_text("file,label,note\n1.npy,good,hello\n2.npy,unsure,\n3.npy,bad,\n")
    with Labels(tmp_path, []) as labels:
        labels.set_label("1.npy", "Anna", "bad")
        labels.set_label("2.npy", "Anna", "bad")
    row = {"by Anna": "bad", "by earlier": "good"}
    assert written(tmp_path)[0] == {"file": "1.npy", "label": DISPUTED, "note": "hello", **row}
    assert written(tmp_path)[1]["label"] == "bad"
    assert written(tmp_path)[1]["by earlier"] == "unsure"
    assert written(tmp_path)[2]["label"] == "bad"
    with Labels(tmp_path, []) as labels:
        labels.set_label("1.npy", "Anna", "")
        labels.set_label("2.npy", "Anna", "")
    assert [row["label"] for row in written(tmp_path)] == ["good", "unsure", "bad"]


def test_labels_in_file_names_are_kept_when_the_manifest_begins(tmp_path: Path) -> None:
    for file in ("good/1.npy", "bad/2.npy", "3.npy"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with Labels(tmp_path, find_candidates(tmp_path)) as labels:
        labels.set_label("3.npy", "Anna", "sample")
    assert {row["file"]: row["label"] for row in written(tmp_path)} == {
        "good/1.npy": "good", "bad/2.npy": "bad", "3.npy": "sample",
    }  # fmt: skip


def test_spreadsheets_are_given_no_formulas(tmp_path: Path) -> None:
    files = ("=1+1.npy", "@x.npy", "-x.npy", "+x.npy")
    with Labels(tmp_path, candidates(tmp_path, files)) as labels:
        desk = desk_of(tmp_path, labels, files)
        for file in files:
            desk.answer("Anna", file, "good")
    rows = written(tmp_path)
    cells = [cell for row in rows for cell in (*row, *row.values())]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert [(tmp_path / row["file"]).name for row in rows] == list(files)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Anna", "Anna"),
        ("  Änne   O'Neill-2 ", "Änne O'Neill-2"),
        ("Ángel", "Ángel"),
        ("李 小龙", "李 小龙"),
        ("=cmd|' /C calc'!A0", None),
        ("a,b", None),
        ("2fast", None),
        ("<b>", None),
        ("a" * 41, None),
        ("Earlier", None),
        ("", None),
    ],
)
def test_names(text: str, name: str | None) -> None:
    assert labeller_name(text) == name


def test_a_name_is_spelt_as_before(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        assert desk.known_as("anna") == "anna"
        desk.answer("Anna", FILES[0], "good")
        assert desk.known_as("anna") == "Anna"


def test_one_program_labels_a_folder(tmp_path: Path) -> None:
    with Labels(tmp_path, []), pytest.raises(LabelsError, match="by another program"):
        Labels(tmp_path, [])
    with Labels(tmp_path, []):
        pass
