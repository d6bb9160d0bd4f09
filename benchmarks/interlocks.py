"""Time from a signal that crosses its limit, in the middle of a scan, to a tip that is withdrawn.

    python benchmarks/interlocks.py --hours 0.05

A run on a virtual Nanonis whose clock is ours. At a random moment of an image an input crosses the
limit of an interlock; when the tip is withdrawn it goes back, and the run goes on by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from spm_gym.assembly.simulator import build_microscope, world_seed
from spm_gym.cli import main as spm_gym
from spm_gym.config import load_config
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis

SIGNAL, LIMIT, BEYOND = "Input 5 (V)", 4.2, 5.0
WORLD = ["simulator.tip_change_rate=0", "simulator.contact_loss_rate=0", "simulator.crash_rate=0",
         "simulator.rough_fraction=0"]  # fmt: skip


class Wired(VirtualController):
    """A controller that notes when its input crosses, the scan is stopped, the tip withdrawn."""

    rng: np.random.Generator
    value = 0.0
    scans = 0
    armed = 0
    crossed = stopped = 0.0

    def execute(self, name: str, values: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        """Carry out a command, and print the times when one ends a crossing."""
        answer = super().execute(name, values, *more)
        if name == "Signals.ValsGet":
            return {**answer, "values": [self.value] * len(answer["values"])}
        starts = name == "Scan.Action" and values["action"] == 0
        self.scans += starts
        # Partial image and image take turns; after a pause the image begins with its partial one.
        if starts and self.scans > self.armed:
            self.armed = self.scans + 1
            threading.Timer(self.rng.uniform(5, 12), self._cross).start()
        if name == "Scan.Action" and not starts and self.value:
            self.stopped = self.stopped or time.monotonic()
        if name == "ZCtrl.Withdraw" and self.value:
            since = [each - self.crossed for each in (self.stopped, time.monotonic())]
            print(f"scan stopped after {since[0]:.2f} s, tip withdrawn after {since[1]:.2f} s")
            self.value = self.stopped = 0.0
        return answer

    def _cross(self) -> None:
        self.value, self.crossed = BEYOND, time.monotonic()


def main() -> None:
    """Let a run take images while its signal crosses again and again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=0.03, help="of the run; default: 0.03")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    controller = Wired(build_microscope(load_config(None, WORLD), world_seed(1)), time_scale=1)
    controller.rng = np.random.default_rng(arguments.seed)
    interlock = f"{{signal: {SIGNAL}, max: {LIMIT}, resume_after_s: 1}}"
    with VirtualNanonis(controller, [0, 0]) as server, tempfile.TemporaryDirectory() as folder:
        options = ["--env", "real", "--run-dir", f"{folder}/run", "--hours", str(arguments.hours)]
        settings = [f"operation.interlocks=[{interlock}]", "env.creep_wait_s=0",
                    f"real.nanonis.ports={list(server.ports)}"]  # fmt: skip
        with contextlib.redirect_stderr(io.StringIO()):
            spm_gym(["run", *options, "--set", *settings])


if __name__ == "__main__":
    main()
