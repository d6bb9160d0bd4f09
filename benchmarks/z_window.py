"""Runs on a surface that drifts through the range of the z piezo, with the z window and without.

    python benchmarks/z_window.py --drifts 300 -100

Surveys on a virtual Nanonis whose motor may step: how often they approached again, and what went
wrong. Status 2 of a run means that it gave up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections import Counter
from pathlib import Path

from spm_gym.assembly.simulator import virtual_controller
from spm_gym.cli import main as spm_gym
from spm_gym.config import load_config
from spm_gym.journal.reader import reading
from spm_gym.servers.nanonis.server import VirtualNanonis


def main() -> None:
    """Print a row for every drift, with the window and without."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drifts", type=float, nargs="+", default=[300.0, -100.0], help="pm/s")
    parser.add_argument("--scans", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for drift in arguments.drifts:
        for window in ("[0.4, 0.95]", "null"):
            measure(drift, window, arguments.scans, arguments.seed)


def measure(drift: float, window: str, scans: int, seed: int) -> None:
    """Let one run take images on a surface that drifts (pm/s), and print what came of it."""
    config = load_config(None, [f"simulator.z_drift_pm_per_s={drift}"])
    controller = virtual_controller(config, seed, time_scale=0)
    with VirtualNanonis(controller, [0, 0]) as server, tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = [
            "--env",
            "real",
            "--run-dir",
            str(run),
            "--no-conditioning",
            "--scans",
            str(scans),
        ]
        settings = [f"real.z_window={window}", f"real.nanonis.ports={list(server.ports)}",
                    "real.nanonis.coarse.retract=z+", "env.creep_wait_s=0"]  # fmt: skip
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = spm_gym(["run", *options, "--set", *settings])
        with reading(run) as db:
            images = "SELECT COUNT(*) FROM scans WHERE label = 'unclassified'"
            (taken,) = db.execute(images).fetchone()
            kinds = Counter(kind for (kind,) in db.execute("SELECT trouble FROM recoveries"))
            events = "SELECT COUNT(*) FROM events WHERE kind = 'z window'"
            (adjusted,) = db.execute(events).fetchone()
    safe = "NOT" not in said.getvalue()
    print(
        f"{drift:6g} pm/s, z_window={window:11}  {taken:4d} images, {adjusted:2d} adjustments, "
        f"troubles {dict(kinds)}, status {status}{'' if safe else ', NOT IN THE SAFE CONDITION'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
