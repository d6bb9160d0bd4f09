"""The manifest in other hands than the page's: editors, spreadsheets, full disks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spm_gym.datasets.labelled_folder import load_folder, untrainable
from spm_gym.datasets.manifest import MANIFEST, Manifest
from spm_gym.imaging.files import FileFormatError
from spm_gym.web.labelling.labels import Labels, LabelsError
from tests.support.labelling import candidates, desk_of, written


def test_a_label_edited_by_hand_is_a_consensus(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_text("file,label,by Anna,by Ben\n1.npy,bad,good,bad\n")
    assert Manifest.read(path).entries["1.npy"].consensus == "bad"
    with Labels(tmp_path, []) as labels:
        labels.set_label("1.npy", "Ben", "good")
    assert written(tmp_path)[0]["label"] == "bad"
    assert written(tmp_path)[0]["consensus"] == "bad"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file,label,consensus\n1.npy,bad,good\n", "line 2: its label is 'bad' but its consensus"),
        ("file,label\n1.npy,bad\n./1.npy,good\n", "line 3 lists '1.npy' again"),
        ("file,label,by Anna,by Anna\n", "has the column 'by Anna' twice"),
        ("name;label\n1.npy;bad\n", "found are name;label: save it as comma-separated"),
        ("", "found are none"),
        ("file,label,File\n", "has the column 'file' twice"),
        ('file,label\n"1.npy,bad\n2.npy,good\n', "line 2: unexpected end of data: is a quotation"),
        ('file,label\n"1.npy,bad\n2.npy,good\n"3.npy",bad\n', "line 2: .* is a quotation mark"),
        (
            'file,label\n"1.npy,bad\n2.npy",good\n',
            "line 2 has a line break .* in the column 'file'",
        ),
        ('file,label\n1.npy,"bad\n2.npy,good"\n', "a line break .* in the column 'label'"),
        ("file,label,by A,by B,consensus\n1.npy,good,good,bad,perhaps\n", "consensus 'perhaps'"),
        (
            "file,label,note\n1.npy,bad,\xb5".encode("latin-1"),
            "utf-8.*: save it as comma",
        ),
        ("file,label\n1.npy,bad".encode("utf-16"), "utf-8.*: save it as comma"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_one_clear_error(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    (tmp_path / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FileFormatError, match=reason):
        Labels(tmp_path, [])
    with pytest.raises(FileFormatError, match=reason):
        load_folder(tmp_path)
    (tmp_path / MANIFEST).write_text("file,label\n")
    with Labels(tmp_path, []):  # and the folder is free
        pass


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("file;label;note\n1.npy;good;a,b\n2.npy;bad;\n",
         "file;label;note;by earlier;by Anna\n1.npy;disputed;a,b;good;bad\n2.npy;bad;\n"),
        ('"file";"label"\n"1.npy";"good"\n',
         "file;label;by earlier;by Anna\n1.npy;disputed;good;bad\n"),
        ("file\tlabel\n1.npy\tbad\n", "file\tlabel\tby earlier\tby Anna\n1.npy\tbad\tbad\tbad\n"),
        ("File, Label ,Note\n1.npy, Good,x\n",
         "file,label,Note,by earlier,by Anna\n1.npy,disputed,x,good,bad\n"),
        ("\ufefffile;label\n1.npy;\n", "\ufefffile;label;by Anna\n1.npy;bad;bad\n"),
    ],
)  # fmt: skip
def test_what_spreadsheets_make_of_it_is_read_and_kept(
    tmp_path: Path, before: str, after: str
) -> None:
    path = tmp_path / MANIFEST
    path.write_bytes(before.encode())
    with Labels(tmp_path, []) as labels:
        labels.set_label("1.npy", "Anna", "bad")
    assert path.read_bytes().decode().replace("\r\n", "\n") == after
    assert Manifest.read(path).entries["1.npy"].by["Anna"] == "bad"


def test_a_quotation_mark_that_is_missing_costs_no_label(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        labels.set_label("1.npy", "Anna", "good")
        path.write_text('file,label\n"i0.npy,good\ni1.npy,bad\n')
        with pytest.raises(LabelsError, match=r"line 2: .*quotation mark.*nothing is saved until"):
            labels.set_label("b/2.gsf", "Anna", "good")
        assert path.read_text() == 'file,label\n"i0.npy,good\ni1.npy,bad\n'


def test_rows_that_training_cannot_take_are_named_in_one_error(tmp_path: Path) -> None:
    outside = tmp_path / "outside.npy"
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    z = np.random.default_rng(0).normal(size=(64, 64)) * 1e-10
    for path in (outside, folder / "sub" / "1.npy", folder / "2.npy"):
        np.save(path, z)
    wrong = {
        "gone.npy": "is missing",
        "x" * 300: "is missing",
        f"{outside}": "is outside the folder",
        "../outside.npy": "is outside the folder",
        "": "is empty",
        r"sub\1.npy": "is missing: write sub/1.npy",
    }
    manifest = folder / MANIFEST
    good = "file,label\nsub/1.npy,good\n2.npy,bad\nlater.npy,skip\n"
    manifest.write_text(good + "".join(f"{file},good\n" for file in wrong))
    printed = untrainable(manifest)
    assert len(printed) == len(wrong)
    for line, (file, reason) in zip(printed, wrong.items(), strict=True):
        assert reason in line
        assert repr(file)[1:40] in line or not file
    with pytest.raises(FileFormatError, match=r"6 of 8 .*'gone.npy' is missing.* and 1 more") as it:
        load_folder(folder)
    assert "repair or delete these rows" in str(it.value)
    manifest.write_text(good)
    assert untrainable(manifest) == []
    assert load_folder(folder).good.tolist() == [True, False]


def test_what_somebody_else_writes_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        labels.set_label("1.npy", "Anna", "good")
        path.write_text(path.read_text().replace("1.npy,good", "1.npy,bad") + "7.npy,bad\n")
        labels.set_label("b/2.gsf", "Anna", "good")
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
        with pytest.raises(LabelsError, match=r"needs the columns.* until it is repaired"):
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
