"""Images of other signals, and of the way back, are kept with every whole image."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spm_gym.cli import main
from spm_gym.imaging.files.gsf import read_field
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import reading
from spm_gym.journal.writer import Journal
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.nanonis_lab import CALM

pytestmark = pytest.mark.usefixtures("fresh_folder")


@pytest.fixture(params=[10862, 14718])
def reached(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Settings that reach a controller: one whose scans count slots, one of signals."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    controller = VirtualController(
        SimulatedMicroscope(CALM, seed=2), time_scale=0, release=request.param
    )
    with VirtualNanonis(controller, [0, 0]) as server:
        ports = f"real.nanonis.ports={list(server.ports)}"
        yield [ports, f"real.nanonis.release={request.param}", "env.creep_wait_s=0"]
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(reached: list[str], *settings: str) -> int:
    options = ["--env", "real", "--run-dir", "run", "--no-conditioning", "--scans", "2"]
    return main(["run", *options, "--set", *reached, *settings])


def test_current_and_backward_images_lie_beside_the_scans(reached: list[str]) -> None:
    assert (
        run(reached, "real.nanonis.record=[Current (A)]", "real.nanonis.record_backward=true") == 0
    )
    with reading(Path("run")) as db:
        whole = [row["id"] for row in db.execute("SELECT id FROM scans WHERE fraction = 1")]
    kinds = ("current_a_backward", "current_a_forward", "z_m_backward")
    expected = [f"{number:06d}_{kind}.gsf" for number in whole for kind in kinds]
    assert sorted(path.name for path in Path("run/channels").iterdir()) == expected
    for number in whole:
        heads, images = zip(
            *(read_field(Path(f"run/channels/{number:06d}_{kind}.gsf")) for kind in kinds),
            strict=True,
        )
        assert [head["ZUnits"] for head in heads] == ["A", "A", "m"]
        assert heads[2]["Title"] == "Z backward"
        scan_head, z = read_field(Path(f"run/scans/{number:06d}.gsf"))
        assert {heads[0][key] == scan_head[key] for key in ("XReal", "XOffset", "Bias")} == {True}
        assert np.abs(images[1]).mean() == pytest.approx(float(scan_head["Setpoint"]), rel=0.1)
        assert 0.5 < np.corrcoef(images[2].ravel(), z.ravel())[0, 1] < 1


def test_nothing_else_is_kept_by_default(reached: list[str]) -> None:
    assert run(reached) == 0
    assert not Path("run/channels").exists()


def test_an_unknown_signal_is_refused_by_the_setting(
    reached: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(reached, "real.nanonis.record=[Currant (A)]") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "setting real.nanonis.record = 'Currant (A)'" in error
    assert "Current (A)" in error


def test_images_of_a_scan_that_a_kill_has_cut_off_are_deleted_with_it(reached: list[str]) -> None:
    assert run(reached, "real.nanonis.record=[Current (A)]") == 0
    with reading(Path("run")) as db:
        (last,) = db.execute("SELECT MAX(id) FROM scans").fetchone()
    stale = Path(f"run/channels/{last + 1:06d}_current_a_forward.gsf")
    kept = Path(f"run/channels/{last:06d}_current_a_forward.gsf")
    stale.write_bytes(kept.read_bytes())
    with Journal(Path("run"), None) as journal:
        journal.remove_orphan()
    assert kept.exists()
    assert not stale.exists()
