"""Which files of all formats are refused, and with which words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spm_gym.imaging.files import FileFormatError, read_topography
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.web.labelling.candidates import find_candidates, read_images
from tests.support.labelling import scan
from tests.support.scan_files import Header, gsf, image, sxm
from tests.support.showing import show_command

in_tmp_path = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


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
        assert show_command(path, "-o", tmp_path / "no.png") == 2
    images, refused = read_images(
        find_candidates(tmp_path), 64, Preprocessing(), None, lambda count: None
    )
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
