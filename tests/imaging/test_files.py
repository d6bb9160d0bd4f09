from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import gsffile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spm_gym.atomic_file import written_whole
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.imaging import normalise
from spm_gym.imaging.files import (
    READERS,
    FileFormatError,
    read_gsf_scan,
    read_heights,
    read_topography,
    write_gsf,
)
from spm_gym.types import Frame, Scan

DATA = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real scans are not here")
in_tmp_path = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def sxm(path: Path, forward: np.ndarray, direction: str = "down", unit: str = "m") -> Path:
    """Write the parts of a Nanonis scan file that a reader needs."""
    rows, cols = forward.shape
    header = {
        "SCANIT_TYPE": "FLOAT            MSBFIRST",
        "REC_TEMP": "4.5",
        "ACQ_TIME": "1.0",
        "SCAN_PIXELS": f"{cols} {rows}",
        "SCAN_TIME": "1 1",
        "SCAN_RANGE": "2E-8 1E-8",
        "SCAN_OFFSET": "0 0",
        "SCAN_ANGLE": "0",
        "SCAN_DIR": direction,
        "BIAS": "1.0",
        "DATA_INFO": "\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n"
        f"\t14\tZ\t{unit}\tboth\t1\t0",
    }
    text = "".join(f":{key}:\n{value}\n" for key, value in header.items())
    both = np.stack([forward, forward[:, ::-1] + 1e-9]).astype(">f4")
    path.write_bytes(text.encode() + b"\n:SCANIT_END:\n\n\n\x1a\x04" + both.tobytes())
    return path


WRITE: dict[str, Callable[[Path, np.ndarray], object]] = {
    ".npy": np.save,
    ".sxm": sxm,
    ".gsf": gsffile.write_gsf,
}


@pytest.fixture
def z() -> np.ndarray:
    return np.arange(48, dtype=np.float32).reshape(6, 8) * np.float32(1e-11)


def test_npy_is_read_as_metres_whatever_its_float_type(tmp_path: Path, z: np.ndarray) -> None:
    for dtype in (">f4", "<f4", "<f8"):
        np.save(tmp_path / "a.npy", z.astype(dtype))
        assert np.array_equal(read_heights(tmp_path / "a.npy"), z)


def test_sxm_is_the_forward_z_channel_with_the_largest_y_first(
    tmp_path: Path, z: np.ndarray
) -> None:
    down = read_topography(sxm(tmp_path / "down.sxm", z, "down"))
    assert np.array_equal(down.z, z)
    assert (down.width, down.height) == (2e-8, 1e-8)
    assert np.array_equal(read_heights(sxm(tmp_path / "up.sxm", z, "up")), z[::-1])


@pytest.mark.parametrize(("unit", "metres"), [("m", 1), ("nm", 1e-9), ("pm", 1e-12), ("Å", 1e-10)])
def test_units_are_converted(tmp_path: Path, z: np.ndarray, unit: str, metres: float) -> None:
    in_unit = (z / metres).astype(np.float32)
    gsffile.write_gsf(
        tmp_path / "a.gsf", in_unit, {"ZUnits": unit, "XYUnits": "nm", "XReal": 8, "YReal": 6}
    )
    topography = read_topography(tmp_path / "a.gsf")
    assert topography.z == pytest.approx(z, rel=1e-6)
    assert (topography.width, topography.height) == pytest.approx((8e-9, 6e-9))
    if unit.isascii():
        assert read_heights(sxm(tmp_path / "a.sxm", in_unit, unit=unit)) == pytest.approx(z)


@in_tmp_path
@given(
    z=arrays(np.float32, (5, 5), elements=st.floats(-(2**-20), 2**-20, width=32) | st.just(np.nan)),
    x=st.floats(-1e-6, 1e-6),
    bias=st.floats(-10, 10),
)
def test_gsf_gives_back_what_was_written(
    tmp_path: Path, z: np.ndarray, x: float, bias: float
) -> None:
    scan = Scan(Frame(x, -2e-8, 1e-8, 5, 0.25), z, (-1e-7, 2e-7), bias, 3e-11, started=12.5)
    path = tmp_path / "scan.gsf"
    write_gsf(path, scan)
    heights, header = gsffile.read_gsf(path)
    assert np.array_equal(heights, z, equal_nan=True)
    assert header["XReal"] == header["YReal"] == 1e-8
    assert header["XOffset"] == x - 0.5e-8
    assert float(header["Bias"]) == bias
    assert float(header["Setpoint"]) == 3e-11
    assert float(header["Started"]) == 12.5
    assert float(header["ZHighest"]) == 2e-7
    if np.isfinite(z).any():
        assert np.array_equal(read_heights(path, min_finite=0), z, equal_nan=True)


def test_gsf_gives_back_a_preview(tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(0, 1e-10, (16, 64)).astype(np.float32)
    path = tmp_path / "preview.gsf"
    write_gsf(path, Scan(Frame(0.0, 0.0, 1e-8, 64, lines=16), z))
    heights, header = gsffile.read_gsf(path)
    assert np.array_equal(heights, z)
    assert b"\nXRes = 64\nYRes = 16\n" in path.read_bytes()
    # Few lines cover the whole frame.
    assert header["XReal"] == header["YReal"] == 1e-8
    assert np.array_equal(read_gsf_scan(path), z)
    read = read_topography(path)
    assert (read.width, read.height) == (1e-8, 1e-8)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def spoil() -> None:
        with written_whole(path) as beside:
            beside.write_text("ne")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        spoil()
    assert path.read_text() == "old"
    with written_whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & stat.S_IRUSR


def broken_files(folder: Path) -> dict[str, Path]:
    flat = np.zeros((8, 8), np.float32)
    contents = {
        "no.npy": None,
        "empty.npy": b"",
        "text.npy": b"hello",
        "image.png": b"\x89PNG",
        "noise.sxm": b"\x00\xff" * 99,
        "headless.gsf": b"Gwyddion Simple Field 1.0\n",
        "huge.gsf": b"Gwyddion Simple Field 1.0\nXRes = 99999999\nYRes = 99999999999\n\0\0\0\0",
        "negative.gsf": b"Gwyddion Simple Field 1.0\nXRes = -1\nYRes = 4\n\0\0\0\0",
    }
    paths = {name: folder / name for name in contents}
    for name, content in contents.items():
        if content is not None:
            paths[name].write_bytes(content)
    saved = {
        "line.npy": np.zeros(64),
        "stack.npy": np.zeros((2, 8, 8)),
        "none.npy": np.zeros((0, 8)),
        "whole.npy": np.zeros((8, 8), int),
        "objects.npy": np.array([[None, 1], [2, 3]], dtype=object),
        "nan.npy": np.full((8, 8), np.nan),
        "nanometres.npy": np.arange(64.0).reshape(8, 8),
    }
    for name, array in saved.items():
        paths[name] = folder / name
        np.save(paths[name], array)
    gsffile.write_gsf(folder / "volt.gsf", flat, {"ZUnits": "V"})
    sxm(folder / "volt.sxm", flat, unit="V")
    paths |= {"volt.gsf": folder / "volt.gsf", "volt.sxm": folder / "volt.sxm"}
    for suffix in READERS:
        path = folder / f"cut{suffix}"
        WRITE[suffix](path, flat)
        path.write_bytes(path.read_bytes()[:-7])
        paths[path.name] = path
    return paths


def test_whatever_is_no_image_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    for name, path in broken_files(tmp_path).items():
        with pytest.raises(FileFormatError) as caught:
            read_heights(path)
        message = str(caught.value)
        assert message.startswith(str(path)), name
        assert "\n" not in message
        assert len(message) > len(str(path)) + 10


@settings(in_tmp_path, max_examples=300)
@given(
    suffix=st.sampled_from(sorted(READERS)),
    cut=st.integers(0, 600),
    place=st.integers(0, 600),
    byte=st.integers(0, 255),
)
def test_a_damaged_file_is_read_or_refused_never_something_else(
    tmp_path: Path, suffix: str, cut: int, place: int, byte: int
) -> None:
    path = tmp_path / f"a{suffix}"
    WRITE[suffix](path, np.zeros((6, 8), np.float32))
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content[: len(content) - cut] if cut % 2 else content)
    try:
        heights = read_heights(path)
    except FileFormatError:
        return
    assert heights.ndim == 2
    assert np.isfinite(heights).mean() >= 0.5


def test_partial_scans_are_read_when_asked_for(tmp_path: Path, z: np.ndarray) -> None:
    z[2:] = np.nan
    np.save(tmp_path / "part.npy", z)
    with pytest.raises(FileFormatError, match="33% of the pixels are scanned; at least 50%"):
        read_heights(tmp_path / "part.npy")
    assert np.isfinite(read_heights(tmp_path / "part.npy", min_finite=0.25)).sum() == 16


@real_data
def test_a_real_nanonis_file() -> None:
    topography = read_topography(DATA / "moire_10nm.sxm")
    assert topography.z.shape == (160, 160)
    assert (topography.width, topography.height) == pytest.approx((1e-8, 1e-8))
    assert 1e-11 < np.ptp(topography.z) < 1e-9
    # The forward scan, not the backward one, which is its mirror image.
    raw = np.fromfile(DATA / "moire_10nm.sxm", ">f4")
    assert topography.z.mean() == pytest.approx(1.057e-7, rel=0.01)
    assert raw.size > 4 * topography.z.size


@pytest.mark.parametrize("ending", READERS)
def test_what_is_no_scan_is_not_read(tmp_path: Path, ending: str) -> None:
    pipe, zeros, huge = (tmp_path / f"{name}{ending}" for name in ("pipe", "zeros", "huge"))
    os.mkfifo(pipe)
    zeros.symlink_to("/dev/zero")
    with huge.open("wb") as file:
        file.truncate(2**32 + 1)  # takes no place on the disk
    for path, reason in ((pipe, "not a file"), (zeros, "not a file"), (huge, "4.29 GB is more")):
        with pytest.raises(FileFormatError, match=reason):
            read_topography(path)
    with pytest.raises(FileFormatError, match="not a file"):
        read_gsf_scan(pipe)
    link = tmp_path / f"link{ending}"
    WRITE[ending](tmp_path / f"real{ending}", np.zeros((4, 4), np.float32))
    link.symlink_to(tmp_path / f"real{ending}")
    assert read_topography(link).z.shape == (4, 4)


# Labelled folders


def image(rng: np.random.Generator, pixels: int = 64) -> np.ndarray:
    """A tilted substrate with a molecule and noise."""
    y, x = np.mgrid[:pixels, :pixels]
    molecule = 2e-10 * np.exp(-((x - 30) ** 2 + (y - 20) ** 2) / 30)
    tilted: np.ndarray = molecule + 1e-12 * (3 * x - 2 * y + rng.normal(size=x.shape)) + 5e-8
    return tilted


def save(folder: Path, *names: str, pixels: int = 64) -> None:
    rng = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image(rng, pixels).astype(">f4"))


def found(folder: Path) -> dict[str, tuple[bool, str]]:
    data = load_folder(folder)
    return {
        path.relative_to(folder).as_posix(): (bool(good), str(session))
        for path, good, session in zip(data.paths, data.good, data.session, strict=True)
    }


def test_folders_named_good_and_bad(tmp_path: Path) -> None:
    save(tmp_path, "good/a_01.npy", "good/a_02.npy", "bad/b_1.npy", "bad/night2/x.npy", "c.npy")
    assert found(tmp_path) == {
        "good/a_01.npy": (True, "a"),
        "good/a_02.npy": (True, "a"),
        "bad/b_1.npy": (False, "b"),
        "bad/night2/x.npy": (False, "night2"),
    }
    data = load_folder(tmp_path)
    assert data.ignored == {"": 1}
    images = normalise(data.heights)
    assert images.shape == (4, 64, 64)
    assert images.dtype == np.float32
    # Levelled: the substrate, three pixels out of four here, lies at -1 and is tilted no more.
    assert np.median(images, axis=(1, 2)) == pytest.approx(-1, abs=0.05)
    assert images.max(axis=(1, 2)) == pytest.approx(1, abs=0.1)


def test_labels_in_file_names(tmp_path: Path) -> None:
    save(tmp_path, "2018_good_1.npy", "Bad12.npy", "train/badProbe_3.npy", "train/notgood.npy")
    assert found(tmp_path) == {
        "2018_good_1.npy": (True, "2018"),
        "Bad12.npy": (False, ""),
        "train/badProbe_3.npy": (False, "train"),
    }


def test_a_manifest_decides(tmp_path: Path) -> None:
    save(tmp_path, "run1_1.npy", "good/2.npy", "3.npy", "unlisted_good.npy")
    (tmp_path / "manifest.csv").write_text(
        "file,label,session\nrun1_1.npy,Good,\ngood/2.npy,bad,s2\n3.npy,sample,\ngone.npy,skip,\n"
    )
    assert found(tmp_path) == {"run1_1.npy": (True, "run1"), "good/2.npy": (False, "s2")}
    assert load_folder(tmp_path).ignored == {"sample": 1, "skip": 1}


def test_a_folder_that_cannot_teach_is_one_clear_error(tmp_path: Path) -> None:
    def refused(reason: str) -> None:
        with pytest.raises(FileFormatError, match=reason):
            load_folder(tmp_path / "set")

    refused("no such folder")
    (tmp_path / "set").mkdir()
    refused("found 0 images")
    save(tmp_path / "set", "1.npy")
    refused("found 1 images, 0 good and 0 bad")
    save(tmp_path / "set", "good/1.npy")
    refused("found 2 images, 1 good and 0 bad")
    save(tmp_path / "set", "bad/small.npy", pixels=32)
    refused(r"small.npy: the image has 32 x 32 px, the classifier takes 64 x 64 px")
    np.save(tmp_path / "set" / "bad" / "small.npy", np.full((64, 64), np.nan))
    refused("small.npy: no pixel is scanned")
    save(tmp_path / "set", "bad/small.npy", "bad_good.npy")
    refused("says both good and bad")
    manifest = tmp_path / "set" / "manifest.csv"
    manifest.write_text("name,label\n1.npy,good\n")
    refused("needs the columns file and label; found are name,label")
    manifest.write_text("file,label\n1.npy,good\n1.npy,bad\n")
    refused("line 3 lists '1.npy' again")
    manifest.write_text("file,label\n1.npy,good\ngone.npy,bad\n")
    refused("1 of 2 labelled rows.*'gone.npy' is missing")
    manifest.write_bytes(b"\xff\xfe\x00")
    refused("not a readable CSV")
