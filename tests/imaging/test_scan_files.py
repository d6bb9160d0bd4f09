"""Reading scan files of other instruments and programs."""

from __future__ import annotations

from pathlib import Path

import gsffile
import nanonispy2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spm_gym.imaging.files import FileFormatError, read_topography
from tests.support.referees import drawn_by_gwyddion, gwyddion_is_here
from tests.support.scan_files import Header, gsf, image, sxm

SHARED = Path(__file__).parents[3] / "shared"
CASES = SHARED / "cases"
in_tmp_path = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
some_numbers = st.integers(0, 10**6)


# The cases that people have met


OFF = (
    "02_real_constant_height_cut.sxm",
    *(f"02_z_controller_off_{kind}.sxm" for kind in ("flat", "sloped", "flat_and_partial")),
)
REFUSED = {
    "01_current_in_ampere.gsf": r"'A' \(ampere\), which is not a length",
    "10_says_LSBFIRST_is_big_endian.sxm": "is 'FLOAT LSBFIRST'",
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
    drawn = [each for each in drawn_by_gwyddion(CASES / name) if each.shape == z.shape]
    assert any(np.allclose(each[scanned], z[scanned], rtol=1e-6, atol=0) for each in drawn)


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
    assert not found.unclassifiable


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
        ("ZUnits = V", "'V', which is not a length"),
        ("ZUnits = m\nXYUnits = 1/m\nXReal = 1\nYReal = 1", "sizes are in '1/m'"),
        ("XRes = 1e9", "XRes is '1e9'"),
        (f"YRes = {'9' * 5000}", "YRes is '9999"),
    ],
)
def test_a_field_of_something_else_is_refused(tmp_path: Path, fields: str, reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        read_topography(gsf(tmp_path / "a.gsf", image(), fields))
