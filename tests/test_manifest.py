"""Labels of people: the file they are kept in, how they are read, and what training takes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import FileFormatError, read_topography
from spm_gym.imaging.folder import load_folder
from spm_gym.imaging.manifest import (
    DISPUTED,
    EARLIER,
    LABELS,
    MANIFEST,
    Manifest,
    decided,
    labeller_name,
    read_listed,
)
from spm_gym.view.agreement import Agreement, agreement
from spm_gym.web.labelling.candidates import Candidate, Image, find_candidates, in_order
from spm_gym.web.labelling.desk import Desk
from spm_gym.web.labelling.labels import Labels, LabelsError

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
NAMES = ("Anna", "Ben", "Änne O'Neill")
FILES = ("1.npy", "b/2.gsf", '=cmd|"x".npy', "3,\n\r4.sxm", "-5.npy")


def desk_of(folder: Path, labels: Labels, files: tuple[str, ...] = FILES) -> Desk:
    return Desk([Image(file, folder / file, 64, 1e-8, 1e-8) for file in files], labels)


def candidates(folder: Path, files: tuple[str, ...] = FILES) -> list[Candidate]:
    return [Candidate(file, folder / file, "=night") for file in files]


def written(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


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
    """What people said, kept in the simplest way."""

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
            desk.settle(file, label)


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
        read = Manifest.read(folder / MANIFEST).judgements
        listed = {
            PurePosixPath(f).as_posix(): label for f, label, _ in read_listed(folder / MANIFEST)
        }
    for file in FILES:
        if file in read:
            assert read[file].by == expected.by[file]
            assert read[file].consensus == expected.consensus[file]
            assert listed[file] == decided(expected.by[file], expected.consensus[file])
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
            labels.say("new.npy", "Anna", "good")
            for _, file_name, *_ in table[:1]:
                labels.say(file_name, "Anna", "bad")
                labels.say(file_name, "Anna", "")
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
    assert decided(by, consensus) == label


def test_labels_without_a_name_stay_beside_those_with_one(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_text("file,label,note\n1.npy,good,hello\n2.npy,unsure,\n3.npy,bad,\n")
    with Labels(tmp_path, []) as labels:
        labels.say("1.npy", "Anna", "bad")
        labels.say("2.npy", "Anna", "bad")
    row = {"by Anna": "bad", "by earlier": "good"}
    assert written(tmp_path)[0] == {"file": "1.npy", "label": DISPUTED, "note": "hello", **row}
    assert written(tmp_path)[1]["label"] == "bad"
    assert written(tmp_path)[1]["by earlier"] == "unsure"
    assert written(tmp_path)[2]["label"] == "bad"
    with Labels(tmp_path, []) as labels:
        labels.say("1.npy", "Anna", "")
        labels.say("2.npy", "Anna", "")
    assert [row["label"] for row in written(tmp_path)] == ["good", "unsure", "bad"]


def test_labels_in_file_names_are_kept_when_the_manifest_begins(tmp_path: Path) -> None:
    for file in ("good/1.npy", "bad/2.npy", "3.npy"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with Labels(tmp_path, find_candidates(tmp_path)) as labels:
        labels.say("3.npy", "Anna", "sample")
    assert {row["file"]: row["label"] for row in written(tmp_path)} == {
        "good/1.npy": "good", "bad/2.npy": "bad", "3.npy": "sample",
    }  # fmt: skip


def test_a_label_edited_by_hand_is_a_consensus(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_text("file,label,by Anna,by Ben\n1.npy,bad,good,bad\n")
    assert Manifest.read(path).judgements["1.npy"].consensus == "bad"
    with Labels(tmp_path, []) as labels:
        labels.say("1.npy", "Ben", "good")
    assert written(tmp_path)[0]["label"] == "bad"
    assert written(tmp_path)[0]["consensus"] == "bad"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file,label,consensus\n1.npy,bad,good\n", "line 2: its label is 'bad' but its consensus"),
        ("file,label\n1.npy,bad\n./1.npy,good\n", "line 3 lists '1.npy' again"),
        ("file,label,by Anna,by Anna\n", "has the column 'by Anna' twice"),
        ("file;label\n1.npy;bad\n", "found are file;label"),
        ("", "found are none"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_one_clear_error(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(FileFormatError, match=reason):
        Labels(tmp_path, [])
    (tmp_path / MANIFEST).write_text("file,label\n")
    with Labels(tmp_path, []):  # and the folder is free
        pass


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


# Somebody else's hands on the file


def test_what_somebody_else_writes_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        labels.say("1.npy", "Anna", "good")
        path.write_text(path.read_text().replace("1.npy,good", "1.npy,bad") + "7.npy,bad\n")
        labels.say("b/2.gsf", "Anna", "good")
    assert {row["file"]: row["label"] for row in written(tmp_path)} == {
        "1.npy": "bad", "7.npy": "bad", "b/2.gsf": "good",
    }  # fmt: skip


def test_nothing_is_written_over_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        desk.answer("Anna", "1.npy", "good")
        good = path.read_text()
        path.write_text("half a fi")
        with pytest.raises(LabelsError, match=r"needs the columns.* until it is mended"):
            desk.answer("Anna", "b/2.gsf", "good")
        assert path.read_text() == "half a fi"
        path.unlink()
        with pytest.raises(LabelsError, match="is gone"):
            desk.answer("Anna", "b/2.gsf", "good")
        path.write_text(good)
        assert desk.last("Anna").file == "1.npy"
        desk.answer("Anna", "b/2.gsf", "bad")
    assert [row["label"] for row in written(tmp_path)] == ["good", "bad"]


def test_a_label_that_cannot_be_written_is_not_remembered_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)

        def full(manifest: Manifest, path: Path) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Manifest, "write", full)
            with pytest.raises(LabelsError, match=r"not saved: .*No space left"):
                desk.answer("Anna", "1.npy", "good")
        assert desk.own_label("Anna", "1.npy") == ""
        assert desk.last("Anna") is None
        desk.answer("Anna", "1.npy", "bad")
    assert [row["label"] for row in written(tmp_path)] == ["bad"]


def test_one_program_labels_a_folder(tmp_path: Path) -> None:
    with Labels(tmp_path, []), pytest.raises(LabelsError, match="by another program"):
        Labels(tmp_path, [])
    with Labels(tmp_path, []):
        pass


# Who comes next, and how well people agree


def test_order() -> None:
    probabilities = {"a": 0.99, "b": 0.52, "c": 0.4, "d": 0.48, "e": 0.5}
    images = [Image(f, Path(f), 64, None, None, p) for f, p in reversed(probabilities.items())]

    def shown(order: str, before: str = "") -> str:
        return "".join(image.file for image in in_order(images, order, before.__contains__))

    assert shown("uncertain") == "ebdca"
    assert shown("uncertain", before="eb") == "dcaeb"
    assert shown("name") == "abcde"
    assert sorted(shown("random")) == list("abcde")
    assert shown("random") == shown("random") != "abcde"


def test_what_is_skipped_comes_again(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        first, second, *rest = FILES
        desk.skip("Anna", first)
        for file in (second, *rest):
            assert desk.next_after("Anna", None) == file
            assert desk.next_after("Ben", None) == first
            desk.answer("Anna", file, "good")
        assert desk.next_after("Anna", None) is None
        assert desk.progress("Anna").skipped == 1
        desk.look_again("Anna")
        assert desk.next_after("Anna", None) == first


words = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1)


@given(words)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    ones = {str(n): one for n, (one, _) in enumerate(pairs)} | {"only": "good"}
    others = {str(n): other for n, (_, other) in enumerate(pairs)}
    found = agreement("Anna", "Ben", ones, others)
    assert (found.both, found.equal) == (len(pairs), sum(a == b for a, b in pairs))
    if len({label for pair in pairs for label in pair}) == 1:
        assert found.kappa is None
    else:
        expected = cohen_kappa_score(*zip(*pairs, strict=True))
        assert found.kappa == pytest.approx(expected)


def of_table(table: list[list[int]]) -> Agreement:
    """Of two people of whom so many gave these labels, the first those of the rows."""
    pairs = [(f"{row}", f"{column}") for row, counts in enumerate(table)
             for column, count in enumerate(counts) for _ in range(count)]  # fmt: skip
    ones, others = ({str(n): pair[who] for n, pair in enumerate(pairs)} for who in (0, 1))
    return agreement("Anna", "Ben", ones, others)


def test_kappa_and_its_error_are_those_of_a_textbook() -> None:
    """Married couples on a questionnaire; A. Agresti, *Categorical Data Analysis*."""
    found = of_table([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]])
    assert found.kappa == pytest.approx(0.1293, abs=5e-5)
    assert found.error == pytest.approx(0.0686, abs=5e-5)


@pytest.mark.parametrize("table", [[[40, 5], [10, 45]], [[70, 12], [3, 15]],
                                   [[30, 2, 8], [5, 25, 1], [0, 9, 20]]])  # fmt: skip
def test_the_error_of_kappa_is_that_of_a_bootstrap(table: list[list[int]]) -> None:
    counts = np.array(table)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(counts.sum(), (counts / counts.sum()).ravel(), 5000)
    shares = drawn.reshape(-1, *counts.shape) / counts.sum()
    equal = np.trace(shares, axis1=1, axis2=2)
    by_chance = np.sum(shares.sum(axis=1) * shares.sum(axis=2), axis=1)
    kappas = (equal - by_chance) / (1 - by_chance)
    found = of_table(table)
    assert found.error == pytest.approx(kappas.std(), rel=0.05)
    assert found.interval == pytest.approx(tuple(np.quantile(kappas, [0.025, 0.975])), abs=0.04)


def test_kappa_in_words() -> None:
    assert of_table([[1, 0], [0, 1]]).in_words == "too few images to tell (2 of 20)"
    assert of_table([[10, 0], [0, 9]]).in_words == "too few images to tell (19 of 20)"
    assert of_table([[20, 0], [0, 0]]).in_words == "cannot be told, for all labels are the same"
    never = "no interval, for they differ never or always"
    assert of_table([[10, 0], [0, 10]]).in_words == f"1.00 ({never}), very good"
    assert of_table([[0, 10], [10, 0]]).in_words == f"-1.00 ({never}), less than by chance"
    assert of_table([[45, 5], [5, 45]]).in_words == "0.80 (95 % interval 0.68 to 0.92), very good"
    assert of_table([[40, 10], [10, 40]]).in_words == "0.60 (95 % interval 0.44 to 0.76), good"
    assert of_table([[10, 0], [1, 9]]).interval is not None


def test_no_interval_of_kappa_leaves_its_range() -> None:
    for one in range(20):
        for other in range(one == 0, 20):
            found = of_table([[20, one], [other, 2]]).interval
            assert found is not None
            assert -1 <= found[0] < found[1] <= 1


def test_only_who_has_judged_sees_a_disagreement(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        desk.answer("Anna", "1.npy", "good")
        desk.answer("Ben", "1.npy", "bad")
        shown, hidden = desk.disagreements("Anna")
        assert ([each.image.file for each in shown], hidden) == (["1.npy"], 0)
        assert desk.disagreements("Eve") == ([], 1)


# Larger images


sides = st.integers(1, 12)


@given(st.data(), sides, sides, sides)
def test_averages_are_those_over_areas(
    data: st.DataObject, rows: int, cols: int, pixels: int
) -> None:
    if pixels > min(rows, cols):
        with pytest.raises(ValueError, match="cannot be averaged"):
            box_averaged(np.zeros((rows, cols)), pixels)
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    z = 1e-7 + 1e-10 * rng.normal(size=(rows, cols))
    z[rng.random(z.shape) < 0.2] = np.nan
    # Every pixel divided into so many that each belongs to one larger pixel.
    fine = np.kron(z, np.ones((pixels, pixels))).reshape(pixels, rows, pixels, cols)
    share = np.isfinite(fine).mean(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        expected = np.nansum(fine, axis=(1, 3)) / (rows * cols * share)
    clear = abs(share - 0.5) > 1e-6  # rounding decides at exactly a half
    found = box_averaged(z, pixels)
    np.testing.assert_allclose(
        found[clear], np.where(share > 0.5, expected, np.nan)[clear], rtol=0, atol=1e-18
    )


def test_larger_images_are_averaged_for_training(tmp_path: Path) -> None:
    y, x = np.mgrid[:96, :96] / 96
    z = 2e-10 * (np.hypot(y - 0.5, x - 0.3) < 0.2) + 1e-10 * x
    for name, side in (("good_1", 96), ("good_2", 48), ("bad_1", 32)):
        np.save(tmp_path / f"{name}.npy", box_averaged(z, side))
    loaded = load_folder(tmp_path, pixels=32)
    assert loaded.averaged == {48: 1, 96: 1}
    # The same surface, scanned more finely, is the same image.
    differences = abs(loaded.images - loaded.images[0])
    assert differences.mean() < 0.01
    assert differences.max() < 0.3  # at the edges
    np.save(tmp_path / "bad_2.npy", z[:80])
    with pytest.raises(FileFormatError, match=r"bad_2.npy: the image has 80 x 96 px, .* 32 x 32"):
        load_folder(tmp_path, pixels=32)


def real_scans() -> Iterator[tuple[str, int]]:
    for name, about in json.loads((DATA / "scans.json").read_text()).items():
        rows, cols = about["pixels"]
        if rows == cols:
            yield name, rows


@pytest.mark.skipif(not DATA.is_dir(), reason="no real scans here")
def test_real_scans_are_averaged(tmp_path: Path) -> None:
    for n, (name, _) in enumerate(real_scans()):
        label = "good" if n % 2 else "bad"
        (tmp_path / f"{label}_{name}").write_bytes((DATA / name).read_bytes())
    loaded = load_folder(tmp_path)
    assert loaded.images.shape == (4, 64, 64)
    assert np.isfinite(loaded.images).all()
    assert loaded.averaged == {160: 1, 256: 1, 512: 2}
    z = read_topography(DATA / "moire_10nm.sxm").z
    assert box_averaged(z, 64).mean() == pytest.approx(z.mean(), rel=1e-12)
