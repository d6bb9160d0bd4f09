"""Scan files as other instruments and programs write them: what is read, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import gsffile
import nanonispy2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelling import scan
from matplotlib.text import Text
from referees import gwyddion_is_here, shown_by_gwyddion
from scripted_runs import Verdicts
from showing import shown

from spm_gym.imaging.files import (
    FileFormatError,
    NoTopographyError,
    read_heights,
    read_topography,
)
from spm_gym.imaging.folder import load_folder
from spm_gym.view.pictures.scan import Judge, Seen, Subject, draw_scan, look_at, verdict
from spm_gym.view.pictures.sheet import draw_sheet
from spm_gym.web.labelling.candidates import find_candidates, read_images

SHARED = Path(__file__).parent.parent.parent / "shared"
CASES = SHARED / "cases"
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
some_numbers = st.integers(0, 10**6)


@dataclass
class Header:
    """What stands in a scan file; every field may be spoilt."""

    version: str = "2"
    type: str = "FLOAT            MSBFIRST"
    acquired: str = "64.0"
    pixels: str = ""
    times: str = "1.0E+0 1.0E+0"
    range: str = "1.000000E-8           1.000000E-8"
    offset: str = "1.0E-7         -2.0E-7"
    direction: str = "down"
    bias: str = "-5.000E-1"
    controller: str = (
        "\tName\ton\tSetpoint\tP-gain\tI-gain\tT-const\n"
        "\tlog Current\t1\t5.000E-11 A\t1.000E-12 m\t1.000E-8 m/s\t1.000E-4 s"
    )
    comment: str = ""

    def entries(self) -> dict[str, str]:
        """By their names in the file."""
        return {
            "NANONIS_VERSION": self.version,
            "SCANIT_TYPE": self.type,
            "ACQ_TIME": self.acquired,
            "SCAN_PIXELS": self.pixels,
            "SCAN_TIME": self.times,
            "SCAN_RANGE": self.range,
            "SCAN_OFFSET": self.offset,
            "SCAN_DIR": self.direction,
            "BIAS": self.bias,
            "Z-CONTROLLER": self.controller,
            "COMMENT": self.comment,
        }


Channel = tuple[str, str, str, np.ndarray]
COLUMNS = "\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n"


def sxm(
    path: Path,
    channels: list[Channel],
    header: Header | None = None,
    leave_out: frozenset[str] | set[str] = frozenset(),
    before: str = "",
    table: str = COLUMNS,
    after: str = "\n",
    newlines: int = 3,
    line_end: str = "\n",
    encoding: str = "utf-8",
) -> Path:
    """Write a scan file; images are as on the screen of a downward scan."""
    rows, cols = channels[0][3].shape
    entries = {"SCAN_PIXELS": f"       {cols}       {rows}"}
    entries = {k: v or entries.get(k, "") for k, v in (header or Header()).entries().items()}
    text = "".join(f":{k}:\n{v}\n" for k, v in entries.items() if k not in leave_out) + before
    text += f":DATA_INFO:\n{table}"
    for n, (name, unit, direction, _) in enumerate(channels):
        text += f"\t{14 + n}\t{name}\t{unit}\t{direction}\t1.000E+0\t0.000E+0\n"
    text += f"{after}:SCANIT_END:" + "\n" * newlines
    data = b""
    for _, _, direction, z in channels:
        if direction.lower() in ("both", "forward", "fwd"):
            data += z.astype(">f4").tobytes()
        if direction.lower() in ("both", "backward", "bwd"):
            data += z[:, ::-1].astype(">f4").tobytes()
    path.write_bytes(text.replace("\n", line_end).encode(encoding) + b"\x1a\x04" + data)
    return path


def gsf(path: Path, z: np.ndarray, fields: str = "", end: str = "\n", code: str = "utf-8") -> Path:
    """Write a Gwyddion Simple Field; the fields come last."""
    rows, cols = z.shape
    text = f"Gwyddion Simple Field 1.0\nXRes = {cols}\nYRes = {rows}\n{fields}{end}".encode(code)
    path.write_bytes(text + b"\0" * (4 - len(text) % 4) + z.astype("<f4").tobytes())
    return path


def image(seed: int = 0, shape: tuple[int, int] = (9, 12)) -> np.ndarray:
    """Heights that differ in every pixel."""
    return (5e-8 + 1e-10 * np.random.default_rng(seed).random(shape)).astype(np.float32)


# The cases that people have met


OFF = (
    "02_real_constant_height_cut.sxm",
    *(f"02_z_controller_off_{kind}.sxm" for kind in ("flat", "sloped", "flat_and_partial")),
)
REFUSED = {
    "01_current_in_ampere.gsf": r"'A' \(ampere\), which is no length",
    "10_says_LSBFIRST_is_big_endian.sxm": "says 'FLOAT LSBFIRST'",
}
OTHER = "08_real_createc_converted.sxm"


def cases() -> list[str]:
    found = sorted(p.name for p in CASES.glob("*") if p.suffix.lower() in (".sxm", ".gsf"))
    return found or [""]


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("name", cases())
def test_files_that_people_have_met(name: str) -> None:
    path = CASES / name
    if name in REFUSED:
        with pytest.raises(FileFormatError, match=REFUSED[name]):
            read_topography(path, min_finite=0)
        return
    found = read_topography(path, min_finite=0)
    assert found.feedback is not True if name in OFF else found.feedback is not False
    if name in OFF:
        return
    if name == OTHER:
        assert found.z.shape == (9, 256)
        assert np.corrcoef(found.z[:-1].ravel(), found.z[1:].ravel())[0, 1] > 0.9
        return
    assert np.array_equal(found.z, np.load(CASES / "expected.npy"))
    assert found.height == 1e-8


@pytest.mark.slow
@gwyddion_is_here
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("name", sorted(set(cases()) - {*REFUSED}))
def test_gwyddion_shows_the_same(name: str) -> None:
    z = read_topography(CASES / name, min_finite=0).z.ravel()
    scanned = np.isfinite(z)
    shown = [each for each in shown_by_gwyddion(CASES / name) if each.shape == z.shape]
    assert any(np.allclose(each[scanned], z[scanned], rtol=1e-6, atol=0) for each in shown)


# Nanonis


@in_tmp_path
@given(
    data=st.data(),
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    direction=st.sampled_from(["both", "forward", "backward", "fwd", "Both"]),
    name=st.sampled_from(
        ["Z", "z", "Z_m", "Z (m)", "Z_(m)", "[P1]_Z", "[P2]_Z", "Topography", "Height"]
    ),
    upward=st.booleans(),
)
def test_heights_are_found_in_headers_of_all_kinds(
    tmp_path: Path,
    data: st.DataObject,
    shape: tuple[int, int],
    direction: str,
    name: str,
    upward: bool,
) -> None:
    z = image(data.draw(some_numbers), shape)
    other = st.tuples(
        st.sampled_from(["Current", "LI Demod 1 X", "[P3]_Z", "Z_Ctrl_shift_(m)", "Phase"]),
        st.sampled_from(["A", "V", "m"]),
        st.sampled_from(["both", "forward", "backward"]),
        st.just(np.zeros(shape, np.float32)),
    )
    others = data.draw(st.lists(other, max_size=3))
    at = data.draw(st.integers(0, len(others)))
    if name[0] != "[":
        name_is_clear = [channel for channel in others if channel[0] != "[P3]_Z"]
        others, at = name_is_clear, min(at, len(name_is_clear))
    on_the_way = z[::-1] if upward else z
    dispensable = {"ACQ_TIME", "SCAN_TIME", "SCAN_OFFSET", "COMMENT", "NANONIS_VERSION", "BIAS"}
    path = sxm(
        tmp_path / data.draw(st.sampled_from(["a.sxm", "A.SXM"])),
        [*others[:at], (name, "m", direction, on_the_way), *others[at:]],
        Header(
            acquired=data.draw(st.sampled_from(["64.0", "64,0", "n/a", ""])),
            times=data.draw(st.sampled_from(["1.0E+0 1.0E+0", "1,0E+0 1,0E+0", "n/a"])),
            range=data.draw(st.sampled_from(["2E-8 1E-8", "\t2,0E-8\t1,0E-8", "20E-9  0.1e-7"])),
            direction="up" if upward else "down",
            comment=data.draw(
                st.sampled_from(
                    ["", "ends with SCANIT_END", ":SCANIT_END:", "two\n\nlines", "µ", ":) :"]
                )
            ),
        ),
        data.draw(st.sets(st.sampled_from(sorted(dispensable)))),
        after=data.draw(st.sampled_from(["", "\n", "\n\n", "\n:Titel:\nLN2\n::\n\n", ":x:\ny\n"])),
        newlines=data.draw(st.integers(0, 5)),
        line_end=data.draw(st.sampled_from(["\n", "\r\n"])),
        encoding=data.draw(st.sampled_from(["utf-8", "latin-1"])),
    )
    found = read_topography(path)
    assert np.array_equal(found.z, z)
    assert (found.width, found.height) == pytest.approx((2e-8, 1e-8), rel=1e-15)
    assert (found.feedback, found.setpoint) == (True, 5e-11)


@in_tmp_path
@given(seed=some_numbers, shape=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_nanonispy2_reads_the_same(tmp_path: Path, seed: int, shape: tuple[int, int]) -> None:
    z, current = image(seed, shape), image(seed + 1, shape)
    path = sxm(tmp_path / "a.sxm", [("Current", "A", "both", current), ("Z", "m", "both", z)])
    theirs = nanonispy2.read.Scan(str(path))
    ours = read_topography(path)
    assert np.array_equal(ours.z, theirs.signals["Z"]["forward"])
    assert [ours.width, ours.height] == list(theirs.header["scan_range"])
    assert ours.bias == theirs.header["bias"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real scans are not here")
def test_nanonispy2_reads_the_same_of_a_real_scan() -> None:
    path = SHARED / "data" / "moire_10nm.sxm"
    assert np.array_equal(
        read_topography(path).z, nanonispy2.read.Scan(str(path)).signals["Z"]["forward"]
    )


@pytest.mark.parametrize(
    "table",
    [
        "Channel Name Unit Direction Calibration Offset\n  14  Z  m  both  1.0E+0  0.0E+0\n",
        "Channel Name Unit Direction Calibration Offset\n14 Z m both 1.0E+0 0.0E+0\n",
        "\tCHANNEL\tNAME\tUNIT\tDIRECTION\n\t14\t\tZ\tm\tboth\n",
        "\tName\tDirection\tUnit\n\tZ\tboth\tm\n",
        "Channel Name Unit Direction Calibration Offset\n3 Z (m) m both 1.0E+0 0.0E+0\n",
    ],
)
def test_tables_are_divided_by_tabs_or_blanks(tmp_path: Path, table: str) -> None:
    z = image()
    path = sxm(tmp_path / "a.sxm", [("unused", "m", "both", z)], table="?")
    content = path.read_bytes()
    begin, end = content.index(b"?"), content.index(b":SCANIT_END:")
    path.write_bytes(content[:begin] + table.encode() + content[end:])
    assert np.array_equal(read_topography(path).z, z)


def test_the_first_pass_is_read_with_its_own_bias_and_setpoint(tmp_path: Path) -> None:
    first, second = image(1), image(2)
    row = "\t-1\t{}\t0.000E+0\t0\t{}\t-{}.000E-2\tTRUE\t3.000E-10\t1.000\n"
    columns = (
        ":Multipass-Config:\n\tRecord-Ch\tPlayback\tPlayback-Offset\tBOL-delay_[cycles]"
        "\tBias_override\tBias_override_value\tZ_Setp_override\tZ_Setp_override_value"
        "\tSpeed_factor\n"
    )
    channels = [
        ("[P2]_Z", "m", "both", second),
        ("[P1]_Current", "A", "both", second),
        ("[P1]_Z", "m", "both", first),
    ]

    def passes(playback: str, override: str) -> str:
        return columns + "".join(row.format(playback, override, n) for n in (2, 4, 6, 8))

    path = sxm(tmp_path / "a.sxm", channels, before=passes("FALSE", "TRUE"))
    found = read_topography(path)
    assert np.array_equal(found.z, first)
    assert (found.feedback, found.bias, found.setpoint) == (True, -0.02, 3e-10)
    path = sxm(tmp_path / "a.sxm", channels, before=passes("FALSE", "FALSE"))
    assert read_topography(path).bias == -0.5
    # A pass that repeats a recorded line does not follow the surface.
    path = sxm(tmp_path / "a.sxm", channels, before=passes("TRUE", "FALSE"))
    assert read_topography(path).feedback is False


@pytest.mark.parametrize(
    ("controller", "status", "feedback", "setpoint"),
    [
        ("\tName\ton\tSetpoint\n\tlog Current\t0\t5E-11 A", "ON", False, 5e-11),
        ("Name on Setpoint P-gain\n\tlog Current\t0\t50 pA\t1 m", "", False, 5e-11),
        ("\tName\ton\tSetpoint\n\tdf\t1\t-2.000E+0 Hz", "", True, None),
        ("", "OFF", False, None),
        ("", "ON", True, None),
        ("", "n/a", None, None),
    ],
)
def test_the_state_of_the_feedback_is_found(
    tmp_path: Path, controller: str, status: str, feedback: bool | None, setpoint: float | None
) -> None:
    module = f":Z-Controller>Controller status:\n{status}\n"
    header = Header(controller=controller)
    path = sxm(tmp_path / "a.sxm", [("Z", "m", "both", image())], header, before=module)
    found = read_topography(path)
    assert (found.feedback, found.setpoint) == (feedback, setpoint)


def test_what_a_header_does_not_say_is_unknown(tmp_path: Path) -> None:
    left_out = {"SCAN_RANGE", "BIAS", "Z-CONTROLLER", "SCANIT_TYPE", "SCAN_DIR"}
    path = sxm(tmp_path / "a.sxm", [("Z", "m", "both", image())], leave_out=left_out)
    found = read_topography(path)
    assert (found.width, found.height, found.bias, found.setpoint) == (None,) * 4
    assert found.feedback is None
    assert not found.unjudgeable


@pytest.mark.parametrize(
    ("channels", "header", "reason"),
    [
        ([("Current", "A", "both")], {}, "no channel of heights .* only 'Current' in 'A'"),
        ([("Amplitude", "m", "both")], {}, "no channel of heights"),
        ([("Z", "A", "both")], {}, r"heights are in 'A' \(ampere\)"),
        ([("Z", "V", "both")], {}, "heights are in 'V'"),
        ([("Z", "m", "sideways")], {}, "'Z' the direction 'sideways'"),
        ([("Z", "m", "both")], {"type": "DOUBLE MSBFIRST"}, "only FLOAT MSBFIRST is read"),
        ([("Z", "m", "both")], {"type": "FLOAT LSBFIRST"}, "programs disagree"),
        ([("Z", "m", "both")], {"direction": "left"}, "known are up and down"),
        ([("Z", "m", "both")], {"pixels": "n/a"}, "pixels and lines are needed"),
        ([("Z", "m", "both")], {"pixels": "12"}, "pixels and lines are needed"),
        ([("Z", "m", "both")], {"pixels": "12 -9"}, "pixels and lines are needed"),
        ([("Z", "m", "both")], {"pixels": f"{'9' * 5000} 9"}, "pixels and lines are needed"),
        ([("Z", "m", "both")], {"pixels": "9999999 9999999"}, "bytes are missing"),
        ([("Z", "m", "both")], {"pixels": "12 8"}, "96 bytes too many"),
    ],
)
def test_a_scan_without_clear_heights_is_refused(
    tmp_path: Path, channels: list[tuple[str, str, str]], header: dict[str, str], reason: str
) -> None:
    full = [(*channel, image()) for channel in channels]
    with pytest.raises(FileFormatError, match=reason):
        read_topography(sxm(tmp_path / "a.sxm", full, Header(**header)))


# Gwyddion Simple Field


@in_tmp_path
@given(
    seed=some_numbers,
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    title=st.sampled_from(["Z", "Z (Forward) bias=1 V", "Höhe µ", "", "=", "no equals\nsign"]),
    end=st.sampled_from(["", "\n", "\n\n"]),
    code=st.sampled_from(["utf-8", "latin-1"]),
    unit=st.sampled_from([("nm", 1e-9), ("µm", 1e-6), ("m", 1.0), ("Å", 1e-10)]),
)
def test_simple_fields_of_all_kinds_are_read(
    tmp_path: Path,
    seed: int,
    shape: tuple[int, int],
    title: str,
    end: str,
    code: str,
    unit: tuple[str, float],
) -> None:
    z = image(seed, shape)
    name, metres = unit
    sizes = f"XYUnits = {name}\nXReal = {2e-8 / metres}\nYReal={1e-8 / metres:g}\n"
    path = gsf(tmp_path / "a.gsf", z, f"{sizes}\nZUnits=m\nTitle = {title}", end, code)
    found = read_topography(path)
    assert np.array_equal(found.z, z)
    assert (found.width, found.height) == pytest.approx((2e-8, 1e-8), rel=1e-12)


def test_a_size_without_a_unit_is_no_length(tmp_path: Path) -> None:
    # By the format such a number has no unit: as often as not it counts pixels.
    found = read_topography(gsf(tmp_path / "a.gsf", image(), "XReal = 12\nYReal = 9\n"))
    assert (found.width, found.height) == (None, None)


def test_gsffile_and_we_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.gsf"
    gsffile.write_gsf(path, image(), {"ZUnits": "m", "XYUnits": "m", "XReal": 2e-8, "YReal": 1e-8})
    found = read_topography(path)
    assert np.array_equal(found.z, gsffile.read_gsf(path)[0])
    assert (found.width, found.height) == (2e-8, 1e-8)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("ZUnits = A", r"'A' \(ampere\)"),
        ("ZUnits = V", "'V', which is no length"),
        ("ZUnits = m\nXYUnits = 1/m\nXReal = 1\nYReal = 1", "sizes are in '1/m'"),
        ("XRes = 1e9", "XRes says '1e9'"),
        (f"YRes = {'9' * 5000}", "YRes says '9999"),
    ],
)
def test_a_field_of_something_else_is_refused(tmp_path: Path, fields: str, reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        read_topography(gsf(tmp_path / "a.gsf", image(), fields))


# What is refused in every format


NO_SIZES = ["nan", "inf", "-inf", "0", "0.0", "-1e-8", "1e-300", "1e300", "1e9999", "wide", "1_0"]


@pytest.mark.parametrize("text", NO_SIZES)
def test_a_size_that_is_no_length_is_refused(tmp_path: Path, text: str) -> None:
    z = scan(0)
    for n, sizes in enumerate(((text, "1e-8"), ("1e-8", text))):
        reals = "XYUnits = m\nXReal = {}\nYReal = {}\n".format(*sizes)
        gsf(tmp_path / f"{n}.gsf", z, reals)
        sxm(tmp_path / f"{n}.sxm", [("Z", "m", "both", z)], Header(range=" ".join(sizes)))
    gsf(tmp_path / "no_unit.gsf", z, "XReal = nan\nYReal = 1\n")
    np.save(tmp_path / "sound.npy", z)
    for path in [*tmp_path.glob("*.gsf"), *tmp_path.glob("*.sxm")]:
        with pytest.raises(FileFormatError, match=r"a size is a positive number|scans are from"):
            read_topography(path)
        assert shown(path, "-o", tmp_path / "no.png") == 2
    images, refused = read_images(find_candidates(tmp_path), 64, "levels", None, lambda count: None)
    assert [each.file for each in images] == ["sound.npy"]
    assert len(refused) == 5


@in_tmp_path
@given(missing=st.integers(1, 9 * 12 * 4), extra=st.integers(1, 99))
def test_cut_files_say_how_many_bytes_are_missing(tmp_path: Path, missing: int, extra: int) -> None:
    z = image()
    np.save(tmp_path / "a.npy", z)
    gsf(tmp_path / "a.gsf", z)
    sxm(tmp_path / "a.sxm", [("Current", "A", "forward", z), ("Z", "m", "forward", z)])
    for path in (tmp_path / f"a{ending}" for ending in (".npy", ".gsf", ".sxm")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-missing])
        with pytest.raises(FileFormatError, match=f": {missing} bytes are missing"):
            read_topography(path)
        if path.suffix != ".npy":  # which may hold several arrays
            path.write_bytes(whole + b"\r" * extra)
            with pytest.raises(FileFormatError, match=f"{extra} bytes too many"):
                read_topography(path)


@settings(in_tmp_path, max_examples=400)
@given(data=st.data(), ending=st.sampled_from([".npy", ".gsf", ".sxm"]))
def test_whatever_is_changed_a_file_is_read_or_refused(
    tmp_path: Path, data: st.DataObject, ending: str
) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".npy":
        np.save(path, image())
    elif ending == ".gsf":
        gsf(path, image(), "XYUnits = m\nXReal = 1e-8\nYReal = 1e-8\nZUnits = m\n")
    else:
        sxm(path, [("Z", "m", "both", image()), ("Current", "A", "both", image())])
    content = path.read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, min(begin + 60, len(content))))
        piece = st.binary(max_size=9) | st.sampled_from(
            [b"", b"9" * 30, b"\t", b"\n", b"\n\n:", b"\0", b"nan", b"-1", b"(" * 300, content[:99]]
        )
        content = content[:begin] + data.draw(piece) + content[end:]
    path.write_bytes(content)
    try:
        found = read_topography(path, min_finite=0)
    except FileFormatError as error:
        message = str(error).removeprefix(f"{path}: ")
        assert "\n" not in message
        assert len(message) < 600
        return
    assert found.z.dtype == np.float64
    assert np.isfinite(found.z).any()
    for size in (found.width, found.height):
        assert size is None or 0 < size < math.inf


def test_endless_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sxm"
    for piece in (
        b":SCANIT_END:\n",
        b":SCANIT_END:" + b"\n" * 10**5,
        b" ",
        b"\t:",
        b":a:\n",
        b"\0",
    ):
        path.write_bytes(piece * (3 * 2**20 // len(piece)))
        with pytest.raises(FileFormatError, match="its header has no end"):
            read_topography(path)
    path = tmp_path / "a.gsf"
    path.write_bytes(b"Gwyddion Simple Field 1.0\n" + b"a = b\n" * 2**20)
    with pytest.raises(FileFormatError, match="its header has no end"):
        read_topography(path)


# What is read, but says nothing of a probe


def off(path: Path, z: np.ndarray) -> Path:
    controller = Header().controller.replace("\t1\t", "\t0\t")
    channels = [("Z", "m", "both", z), ("Current", "A", "both", z)]
    return sxm(path, channels, Header(controller=controller))


def sheet_texts(subject: Subject, seen: Seen) -> list[Text]:
    return list(draw_sheet([(subject, seen)], 0.9, "sheet").axes[0].texts)


def judge() -> Judge:
    return Judge(Verdicts(0.98), 64)


@pytest.mark.parametrize("shape", ["flat", "sloped", "real", "partial"])
def test_a_scan_at_constant_height_is_neither_diagnosed_nor_judged(
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
    seen = look_at(subject, judge())
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
    seen = look_at(Subject("flat", np.full((64, 64), 3e-9)), judge())
    assert (seen.diagnosis, seen.probability) == (None, None)
    assert "at constant height, or at an end" in seen.remarks[0]
    known = look_at(Subject("flat", np.full((64, 64), 3e-9), z_range=(-1e-7, 1e-7)), judge())
    assert known.probability == pytest.approx(0.98)


def test_pixels_that_are_not_square_are_true_to_scale_and_not_judged(tmp_path: Path) -> None:
    z = scan(0)
    header = Header(range="4E-8 1E-8")
    path = sxm(tmp_path / "good_1.sxm", [("Z", "m", "both", z)], header)
    found = read_topography(path)
    subject = Subject("wide", found.z, found.width, found.height)
    seen = look_at(subject, judge())
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


def test_frames_that_are_square_but_for_the_last_digits_are_judged(tmp_path: Path) -> None:
    header = Header(range="1.000000E-8 1.004000E-8")
    found = read_topography(sxm(tmp_path / "a.sxm", [("Z", "m", "both", scan(0))], header))
    seen = look_at(Subject("a", found.z, found.width, found.height), judge())
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
