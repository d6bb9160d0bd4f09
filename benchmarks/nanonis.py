"""Cost of the connection over TCP: client and server against the simulator in the process.

Run ``python benchmarks/nanonis.py``; it starts a virtual Nanonis in a process of its own. The frame
grab is compared with the package nanonisTCP, as it comes, on the same frame of the same server.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from spm_gym.assembly.simulator import world_seed
from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.command_log import CLIENT, commands_logged
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame
from tests.support.virtual import nanonis_settings, silent, virtual_nanonis

NM = 1e-9
CALM = {"contact_loss_rate": 0.0, "crash_rate": 0.0}
PROMISED_MS = 5.0
PROMISED_RATIO = 10.0


def timed(call: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
    """Call a function; gives its result and the time it took, s."""
    start = perf_counter()
    result = call(*arguments)
    return result, perf_counter() - start


def small_commands(connection: Connection) -> tuple[float, float]:
    """Time one command, s: the medians without and with a log of commands, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    with TemporaryDirectory() as folder:
        for number in range(100):
            log = commands_logged(CLIENT, Path(folder) / "log", "client", "", print)
            with log if number % 2 else contextlib.nullcontext():
                took = [timed(connection.call, "Bias.Get")[1] for _ in range(200)]
            times[number % 2].extend(took)
    return median(times[0]), median(times[1])


def scans(ports: list[int], repeats: int, seed: int) -> tuple[list[float], list[float]]:
    """Time the same scans through TCP and in this process, s; their images must be equal."""
    here = SimulatedMicroscope(SimulatorConfig(**CALM), seed=world_seed(seed))
    there = connect(nanonis_settings(ports=tuple(ports)), silent())
    rng = np.random.default_rng(seed)
    over_tcp, in_process = [], []
    try:
        for x, y in rng.uniform(-400, 400, (repeats, 2)) * NM:
            frame = Frame(x, y, 10 * NM, 64)
            distant, took = timed(there.scan, frame)
            over_tcp.append(took)
            near, took = timed(here.scan, frame)
            in_process.append(took)
            assert np.array_equal(distant.z, near.z), "the images differ"
    finally:
        there.close()
    return over_tcp, in_process


def grabs(ports: list[int], repeats: int) -> tuple[list[float], list[float]]:
    """Time the grab of a frame of 1024 x 1024 pixels, by us and by plain nanonisTCP, s."""
    from nanonisTCP import nanonisTCP
    from nanonisTCP.Scan import Scan

    ours = Connection("127.0.0.1", ports[0])
    ours.connect()
    ours.call("Scan.BufferSet", channel_indexes=[0, 30], pixels=1024, lines=1024)
    ours.call("Scan.FrameSet", centre_x=0, centre_y=0, width=5e-8, height=5e-8, angle=0)
    ours.call("Scan.Action", action=0, direction=0)
    ours.call("Scan.WaitEndOfScan", takes=120.0, timeout=-1)
    frames = []
    with contextlib.redirect_stdout(io.StringIO()):
        session = nanonisTCP(PORT=ports[1], version=15000)
        theirs = Scan(session)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            grab = partial(ours.call, "Scan.FrameDataGrab", channel_index=30, direction=1)
            for taken, call in zip(
                times, (grab, partial(theirs.FrameDataGrab, 30, 1)), strict=True
            ):
                found, took = timed(call)
                taken.append(took)
                frames.append(found["data"] if isinstance(found, dict) else found[1])
        session.close_connection()
    ours.close()
    assert np.array_equal(frames[0], np.asarray(frames[1], dtype=">f4"), equal_nan=True)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=300)
    parser.add_argument("--grabs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    calm = [f"simulator.{name}={rate}" for name, rate in CALM.items()]
    with virtual_nanonis("--seed", str(arguments.seed), "--set", *calm) as ports:
        connection = Connection("127.0.0.1", ports[0])
        connection.connect()
        plain, logged = small_commands(connection)
        connection.close()
        print(
            f"one small command: {plain * 1e6:.0f} us (median of 10000); with a log of commands "
            f"{logged * 1e6:.0f} us, {logged / plain:.2f} times as long"
        )
        over_tcp, in_process = scans(ports, arguments.scans, arguments.seed)
        overhead = [(a - b) * 1e3 for a, b in zip(over_tcp, in_process, strict=True)]
        low, high = np.percentile(overhead, [5, 95])
        print(
            f"one scan of 64 x 64 pixels: {median(over_tcp) * 1e3:.2f} ms over TCP, "
            f"{median(in_process) * 1e3:.2f} ms in the process; overhead {median(overhead):.2f} ms "
            f"(5 % to 95 %: {low:.2f} to {high:.2f}); promised < {PROMISED_MS:g}; all images equal"
        )
        ours, theirs = grabs(ports, arguments.grabs)
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        print(
            f"one grab of 1024 x 1024 pixels: {median(ours) * 1e3:.1f} ms, nanonisTCP "
            f"{median(theirs) * 1e3:.0f} ms: {median(ratios):.0f} times faster "
            f"({min(ratios):.0f} to {max(ratios):.0f}); promised >= {PROMISED_RATIO:g}"
        )


if __name__ == "__main__":
    main()
