"""Scanbot (PyPI), unmodified and in an environment of its own, against the virtual Nanonis."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import nanonispy2
import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.connection import Connection
from tests.conformance.conversation import Z, ask
from tests.support.waiting import PROGRAM_S

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SCANBOT_PYTHON", ROOT / ".venv" / "scanbot" / "bin" / "python"))

METAL = SimulatorConfig(molecules_per_nm2=0, rough_fraction=0, tilt_pm_per_nm=2)
"""Scanbot shapes tips on clean metal only."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason="Scanbot is not installed; tests/conformance/install_scanbot.sh does it",
    ),
]


def run_scanbot(folder: Path, ports: tuple[int, ...], *commands: str) -> str:
    """Let Scanbot carry out commands; it keeps the last port for us."""
    (folder / "scanbot_config.ini").write_text(
        f"port_list={','.join(map(str, ports[:-1]))}\nip=127.0.0.1\nupload_method=path\npath=sent\n"
    )
    result = subprocess.run(
        [PYTHON, Path(__file__).with_name("scanbot_session.py")],
        input="\n".join(commands),
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_survey(tmp_path: Path, ports: tuple[int, ...], witness: Connection) -> None:
    output = run_scanbot(
        tmp_path, ports, "survey -bias=0.8 -n=2 -xy=2e-8 -px=64 -st=0 -s=conformance -stitch=1"
    )
    assert "survey 'conformance' done" in output
    assert ask(witness, "Bias.Get") == [pytest.approx(0.8)]
    [folder] = ask(witness, "Util.SessionPathGet")
    scans = [nanonispy2.read.Scan(str(path)) for path in sorted(Path(folder).glob("*.sxm"))]
    centres = {tuple(np.round(scan.header["scan_offset"] * 1e9).tolist()) for scan in scans}
    assert centres == {(-10, -10), (10, -10), (-10, 10), (10, 10)}
    assert all(np.isfinite(scan.signals["Z"]["forward"]).all() for scan in scans)
    assert len(list((tmp_path / "sent").glob("*.png"))) == 5


@pytest.mark.parametrize("simulator", [METAL])
def test_automatic_tip_shaping(
    tmp_path: Path, ports: tuple[int, ...], witness: Connection, simulator: SimulatorConfig
) -> None:
    """No symmetry is good enough here: after the imprint comes the dip that shapes the tip."""
    witness.call("Scan.BufferSet", channel_indexes=[Z], pixels=128, lines=128)
    output = run_scanbot(tmp_path, ports, "auto_tip_shape -n=1 -sym=2 -st=0")
    assert "Tip shaping failed after 2 attempts" in output
    sizes, symmetries = (
        [float(number) for number in re.findall(rf"Imprint {what}: (\S+)", output)]
        for what in ("size", "symm")
    )
    assert len(sizes) == len(symmetries) == 1
    assert 0.1 < sizes[0] < 20, "nm2, of a dip by 0.9 nm"
    assert 0 < symmetries[0] <= 1
    assert -1.5e-9 <= ask(witness, "TipShaper.PropsGet")[3] <= -1e-9


def test_move_to_another_area(tmp_path: Path, ports: tuple[int, ...], witness: Connection) -> None:
    run_scanbot(tmp_path, ports, "move_area -up=50 -dir=X+ -steps=20")
    x, y, z = ask(witness, "Motor.StepCounterGet")
    assert (x, y, z) == (20, 0, 50)
    assert ask(witness, "ZCtrl.StatusGet") == [2]
    assert ask(witness, "Current.Get")[0] > 0
