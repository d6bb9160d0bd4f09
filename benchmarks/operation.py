"""Autonomous operation: days with faults, and the agents against one another.

    python benchmarks/operation.py soak                  86 simulated hours with random faults
    python benchmarks/operation.py compare --seeds 8     good images per simulated hour
    python benchmarks/operation.py compare --policy interleaved --tip-change-rate 0.05

What is compared works in the same worlds, a run each, and learns meanwhile. With ``--policy
interleaved`` each agent takes turns with random choice.

Every run is the command of the user, ``spm-gym run``, in a process of its own, whose memory is read
from outside. Tips change as often as the simulator's default says; ``--tip-change-rate`` makes a
worse microscope.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.intervals import mean_interval
from spm_gym.journal.reader import JOURNAL, JournalError, open_journal
from spm_gym.runner.run_state import read_run_state

COMMAND = (sys.executable, "-m", "spm_gym")
_BELIEF = ["agent.kind=belief"]
_INFORMED = [*_BELIEF, "agent.belief.prior=simulator"]
CONTENDERS = {
    "random": None,
    "double-dqn": ["agent.kind=double-dqn"],
    "belief": _BELIEF,
    "belief-prior": _INFORMED,
    "belief-previews": [*_INFORMED, "env.preview_lines=16"],
}
"""Settings of each agent: the double DQN as it comes with the package, the belief agent without and
with its table, and on previews. Random choice has none."""

_SETTLED_H = 10.0
_PAGE = 4096


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["soak", "compare"])
    parser.add_argument("--hours", type=float, help="default: 86 for the soak, 24 to compare")
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=["double-dqn", "belief", "random"],
        help="what is compared, each with the first; default: double-dqn belief random",
    )  # fmt: skip
    parser.add_argument(
        "--policy", choices=["agent", "interleaved"], default="agent", help="default: agent"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tip-change-rate", type=float, help="sets simulator.tip_change_rate")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    world = []
    if arguments.tip_change_rate is not None:
        world = [f"simulator.tip_change_rate={arguments.tip_change_rate}"]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.what == "soak":
            runs = pool.map(lambda seed: soak(seed, arguments.hours or 86.0, _set(world)), seeds)
            figures: Any = list(runs)
            for each in figures:
                show(each)
        else:
            contenders = {
                name: _options(name, arguments.policy, world) for name in arguments.contenders
            }
            figures = compare(pool, seeds, arguments.hours or 24.0, contenders)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def soak(seed: int, hours: float, world: list[str]) -> dict[str, Any]:
    """Make a run with random faults; gives figures of its journal, its memory, its wall time."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.monotonic()
        memory = _watched(run, seed, hours, ["--faults", "random", *world])
        seconds = time.monotonic() - started
        figures = journal(run)
    growth = _growth(memory)
    return figures | {"seed": seed, "wall_s": seconds, "memory_bytes": memory, "growth": growth}


def _growth(memory: dict[float, int]) -> float | None:
    """Relative growth of the memory from the first hour that counts to the last one."""
    first = [size for hour, size in memory.items() if _SETTLED_H <= hour < _SETTLED_H + 1]
    last = [size for hour, size in memory.items() if hour >= max(memory) - 1]
    return float(np.median(last) / np.median(first)) - 1 if first else None


def _options(contender: str, policy: str, world: list[str]) -> list[str]:
    settings = CONTENDERS[contender]
    if settings is None:
        return ["--policy", "random", *_set(world)]
    return ["--policy", policy, *_set([*settings, *world])]


def _set(settings: list[str]) -> list[str]:
    return ["--set", *settings] if settings else []


def compare(
    pool: ThreadPoolExecutor, seeds: range, hours: float, contenders: dict[str, list[str]]
) -> dict[str, Any]:
    """Compare contenders in the same worlds; prints and returns the figures.

    Args:
        pool: Runs the runs.
        seeds: Of the worlds.
        hours: Of each run.
        contenders: Options of ``spm-gym run`` by name; each is compared with the first.
    """
    kinds = list(itertools.product(seeds, contenders))
    found = list(pool.map(lambda kind: _yield(kind[0], hours, contenders[kind[1]]), kinds))
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for (_, name), rate in zip(kinds, found, strict=True):
        rates[name].append(rate)
    figures: dict[str, Any] = {"hours": hours, "rates": rates, "gains": {}}
    first = next(iter(contenders))
    for name, values in rates.items():
        mean, (low, high) = mean_interval(values)
        text = f"{name:16}{mean:8.2f} good images per hour ({low:.2f} .. {high:.2f})"
        if name != first:
            # Each world with itself: worlds differ more than agents do.
            gain, interval = mean_interval(list(np.array(values) / np.array(rates[first]) - 1))
            figures["gains"][name] = {"mean": gain, "ci95": list(interval)}
            low, high = interval
            text += f", {gain:+.2%} on {first} ({low:+.2%} .. {high:+.2%})"
        print(text)
    print(f"{len(seeds)} worlds of {hours:g} h")
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the figures of a soak."""
    good, bad = figures["labels"]["good"], figures["labels"]["bad probe"]
    growth = "" if figures["growth"] is None else f"{figures['growth']:+.1%}"
    print(
        f"seed {figures['seed']}: {figures['hours']:.1f} h in {figures['wall_s']:.0f} s, "
        f"{figures['images']} images, {good / max(1, good + bad):.1%} good, "
        f"{figures['episodes']['total']} conditionings, {figures['recoveries']['total']} "
        f"recoveries, {figures['areas']} areas, memory {growth or '-'} from hour {_SETTLED_H:g} "
        f"on, consistent: {figures['consistent']}"
    )


def journal(run: Path) -> dict[str, Any]:
    """Read the output of ``spm-gym journal --json``."""
    done = subprocess.run(
        [*COMMAND, "journal", str(run), "--json"], capture_output=True, text=True, check=False
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _yield(seed: int, hours: float, options: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _finish(_start(run, seed, hours, options), run)
        figures = journal(run)
    assert figures["consistent"], figures["inconsistencies"]
    return float(figures["labels"]["good"] / figures["hours"])


def _watched(run: Path, seed: int, hours: float, options: list[str]) -> dict[float, int]:
    """Run to the end; gives the memory (bytes) of the process by simulated hour."""
    memory: dict[float, int] = {}
    process = _start(run, seed, hours, options)
    statm = Path(f"/proc/{process.pid}/statm")
    while process.poll() is None:
        hour = _simulated_hours(run)
        if hour is not None and statm.exists():
            fields = statm.read_text().split()
            if len(fields) > 1 and int(fields[1]):
                memory[hour] = int(fields[1]) * _PAGE
        time.sleep(0.5)
    _finish(process, run)
    return memory


def _start(run: Path, seed: int, hours: float, options: list[str]) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "run", "--env", "sim", "--hours", str(hours), "--seed", str(seed)]
    with _log(run).open("wb") as log:
        return subprocess.Popen(
            [*command, "--run-dir", str(run), *options], stdout=log, stderr=subprocess.STDOUT
        )


def _finish(process: subprocess.Popen[bytes], run: Path) -> None:
    if process.wait():
        output = _log(run).read_text(encoding="utf-8")[-2000:]
        raise RuntimeError(f"the run ended with status {process.returncode}: {output}")


def _log(run: Path) -> Path:
    return run.with_name(f"{run.name}.log")


def _simulated_hours(run: Path) -> float | None:
    try:
        db = open_journal(run / JOURNAL)
    except JournalError:
        return None
    try:
        run_state = read_run_state(db)
    finally:
        db.close()
    return None if run_state is None else run_state.clock.elapsed / 3600


if __name__ == "__main__":
    main()
