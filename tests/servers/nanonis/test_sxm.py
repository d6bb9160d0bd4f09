from __future__ import annotations

from datetime import datetime
from pathlib import Path

import nanonispy2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spm_gym.imaging.files import read_topography
from spm_gym.servers.nanonis.sxm import SxmChannel, SxmFeedback, SxmHeader, write_sxm
from tests.support.referees import drawn_by_gwyddion, gwyddion_is_here, recognised_by_gwyddion

DATA = Path(__file__).parents[4] / "shared" / "data"
FEEDBACK = SxmFeedback(25e-12)
in_tmp_path = settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
numbers = st.floats(-(2**-20), 2**-20, width=32) | st.just(np.nan)


def header(
    size: tuple[float, float] = (2e-8, 1e-8),
    upward: bool = False,
    comment: str = "",
    modules: dict[str, str] | None = None,
    feedback: SxmFeedback = FEEDBACK,
) -> SxmHeader:
    return SxmHeader(
        center=(-3e-8, 1.25e-7),
        size=size,
        bias=-1.25,
        feedback=feedback,
        started=datetime(2026, 11, 22, 7, 5, 9),
        duration=81.92,
        line_times=(0.64, 0.32),
        angle=-30.0,
        upward=upward,
        comment=comment,
        modules=modules or {},
    )


def channels(shape: tuple[int, int]) -> list[SxmChannel]:
    """Heights and currents that name their own row and column."""
    rows, cols = np.indices(shape)
    forward = (rows * 1e-9 + cols * 1e-11).astype(np.float32)
    return [
        SxmChannel("Current", "A", forward * 1e-2, forward * 2e-2, 0, 1e-9),
        SxmChannel("Z", "m", forward, forward + np.float32(1e-12), 30, 1.5e-8),
    ]


def test_nanonispy2_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "scan001.sxm"
    current, z = channels((6, 9))
    series = {"Scan>series name": "scan"}
    write_sxm(path, header(comment="first\nsecond", modules=series), [current, z])
    scan = nanonispy2.read.Scan(str(path))
    assert list(scan.signals) == ["Current", "Z"]
    for channel in (current, z):
        assert np.array_equal(scan.signals[channel.name]["forward"], channel.forward)
        assert np.array_equal(scan.signals[channel.name]["backward"][:, ::-1], channel.backward)
    got = scan.header
    assert list(got["scan_pixels"]) == [9, 6]
    assert list(got["scan_range"]) == [2e-8, 1e-8]
    assert list(got["scan_offset"]) == [-3e-8, 1.25e-7]
    assert list(got["scan_time"]) == [0.64, 0.32]
    assert (got["bias"], float(got["scan_angle"]), got["acq_time"]) == (-1.25, -30, 81.9)
    assert (got["rec_date"], got["rec_time"]) == ("22.11.2026", "07:05:09")
    assert (got["scan_dir"], got["comment"]) == ("down", "first\nsecond")
    assert got["z-controller"]["Setpoint"] == ("2.500E-11 A",)
    assert got["data_info"]["Channel"] == ("0", "30")
    assert got["data_info"]["Unit"] == ("A", "m")
    assert got["scan>series name"] == "scan"


def test_an_upward_scan_is_stored_from_the_lowest_line_on(tmp_path: Path) -> None:
    path = tmp_path / "up.sxm"
    [_, z] = channels((4, 3))
    write_sxm(path, header(upward=True), [z])
    scan = nanonispy2.read.Scan(str(path))
    assert scan.header["scan_dir"] == "up"
    assert np.array_equal(scan.signals["Z"]["forward"], z.forward[::-1])
    assert np.array_equal(scan.signals["Z"]["backward"], z.backward[::-1, ::-1])


@in_tmp_path
@given(
    z=arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=2), elements=numbers),
    upward=st.booleans(),
    comment=st.text(),
    on=st.booleans(),
    before=st.integers(0, 2),
)
def test_our_reader_gives_back_what_was_written(
    tmp_path: Path, z: np.ndarray, upward: bool, comment: str, on: bool, before: int
) -> None:
    z[0, 0] = 0  # the reader refuses images without a single scanned pixel
    path = tmp_path / "scan.sxm"
    others = [SxmChannel(f"Current {n}", "A", np.zeros_like(z), np.zeros_like(z)) for n in (1, 2)]
    written = [*others[:before], SxmChannel("Z", "m", z, np.zeros_like(z)), *others[before:]]
    feedback = SxmFeedback(25e-12, on)
    write_sxm(path, header((3e-8, 7e-9), upward, comment, feedback=feedback), written)
    found = read_topography(path, min_finite=0)
    assert np.array_equal(found.z, z, equal_nan=True)
    assert (found.width, found.height) == (3e-8, 7e-9)
    assert (found.feedback, found.bias, found.setpoint) == (on, -1.25, 25e-12)


@in_tmp_path
@given(text=st.text(st.sampled_from(":DATAINFO\n\r\t\x1a\x04\x85 x")))
def test_no_text_ends_the_header_early(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scan.sxm"
    write_sxm(path, header(comment=text, modules={"A>b": text}), channels((2, 2)))
    scan = nanonispy2.read.Scan(str(path))
    assert scan.header["data_info"]["Name"] == ("Current", "Z")
    assert np.array_equal(scan.signals["Z"]["forward"], channels((2, 2))[1].forward)


def test_names_are_without_white_space(tmp_path: Path) -> None:
    image = np.zeros((2, 2), np.float32)
    write_sxm(tmp_path / "a.sxm", header(), [SxmChannel("LI Demod 1 X", "A", image, image)])
    assert list(nanonispy2.read.Scan(str(tmp_path / "a.sxm")).signals) == ["LI_Demod_1_X"]


def test_a_refused_or_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.sxm"
    path.write_text("old")
    square, oblong = np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="one shape"):
        write_sxm(path, header(), [SxmChannel("Z", "m", square, oblong)])
    with pytest.raises(ValueError, match="one shape"):
        write_sxm(path, header(), [])
    (tmp_path / "folder.sxm").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_sxm(tmp_path / "folder.sxm", header(), [SxmChannel("Z", "m", square, square)])
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.sxm", "folder.sxm"}


@pytest.mark.skipif(not DATA.is_dir(), reason="the real scans are not here")
def test_the_header_has_the_keys_of_a_real_file_and_the_layout_too(tmp_path: Path) -> None:
    source = DATA / "moire_10nm.sxm"
    real = nanonispy2.read.Scan(str(source))
    copied = [
        SxmChannel(name, unit, data["forward"], data["backward"][:, ::-1], int(index))
        for (name, data), unit, index in zip(
            real.signals.items(),
            real.header["data_info"]["Unit"],
            real.header["data_info"]["Channel"],
            strict=True,
        )
    ]
    write_sxm(tmp_path / "copy.sxm", header(), copied)
    copy = nanonispy2.read.Scan(str(tmp_path / "copy.sxm"))
    assert {key for key in real.header if ">" not in key} == set(copy.header)
    for table in ("data_info", "z-controller"):
        assert list(real.header[table]) == list(copy.header[table])
    begins = [path.read_bytes().index(b"\x1a\x04") for path in (source, tmp_path / "copy.sxm")]
    tails = [
        path.read_bytes()[begin - 16 :]
        for path, begin in zip((source, tmp_path / "copy.sxm"), begins, strict=True)
    ]
    assert tails[0] == tails[1]
    # A line backwards begins where the line forwards ended: the two match once one is turned.
    forward, backward = copied[0].forward.ravel(), copied[0].backward.ravel()
    assert np.corrcoef(forward, backward)[0, 1] > 0.8


@pytest.mark.slow
@gwyddion_is_here
@pytest.mark.parametrize("upward", [False, True])
def test_gwyddion_shows_the_image_as_it_was_on_the_screen(tmp_path: Path, upward: bool) -> None:
    path = tmp_path / "scan.sxm"
    [_, z] = channels((5, 8))
    write_sxm(path, header(upward=upward, comment="two\n :lines"), [z])
    assert "Nanonis SXM" in recognised_by_gwyddion(path)
    forward, backward = drawn_by_gwyddion(path)
    assert forward == pytest.approx(z.forward.ravel())
    assert backward == pytest.approx(z.backward.ravel())
