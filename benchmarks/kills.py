"""Autonomous runs that are killed at moments of every kind in every state, and their remains.

Run ``python benchmarks/kills.py``; it ends with status 1 if anything was lost or repeated. "sim"
is a simulated microscope that dies with the run, "real" a virtual Nanonis that lives on and counts
what it does, "quiet" the first again, killed only where no act is under way: it must end bit for
bit like a run that was not killed. "previews" is the first with previews. "sim-calls" and
"real-calls" are killed exactly at chosen system calls (write, fsync, rename, sendto ...), and every
fourth time their disk breaks instead (EIO, full) from such a call on. That needs strace, without
which they are left out with a message; of these there are at most fifty kills each, unless
``--system-calls`` asks for them.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # threads do not survive a fork

import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.kill_child import MOMENTS  # noqa: E402
from tests.support.kill_trials import trial  # noqa: E402
from tests.support.killing import KINDS, Kind, Trial  # noqa: E402
from tests.support.system_calls import untraceable  # noqa: E402

AT_CALLS: dict[str, Kind] = {"sim-calls": "sim", "real-calls": "real"}
_MOST_AT_CALLS = 50

Task = tuple[str, int, int, Path]


def main() -> int:
    """Kill, print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kinds", nargs="+", choices=[*KINDS, *AT_CALLS], default=[*KINDS, *AT_CALLS]
    )
    parser.add_argument(
        "--system-calls", action="store_true", help=f"as --kinds {' '.join(AT_CALLS)}, unbounded"
    )
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="of every kind")
    parser.add_argument("--per-run", type=int, default=25, metavar="N", help="kills of one run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs here")
    arguments = parser.parse_args()
    kinds = _kinds(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        tasks = list(_tasks(kinds, arguments, folder))
        with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
            trials: dict[str, list[Trial]] = {kind: [] for kind in kinds}
            for kind, done in pool.imap_unordered(_try, tasks):
                trials[kind].append(done)
                print(f"{kind} {done.seed}: {done.kills} kills in {done.seconds:.0f} s, "
                      f"{len(done.faults)} faults", file=sys.stderr)  # fmt: skip
    found = {kind: _total(each) for kind, each in trials.items()}
    for kind, figures in found.items():
        _show(kind, figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(figures["faults"] for figures in found.values()))


def _kinds(arguments: argparse.Namespace) -> list[str]:
    """Choose the kinds that were asked for and are possible here."""
    kinds = list(AT_CALLS if arguments.system_calls else arguments.kinds)
    if any(kind in AT_CALLS for kind in kinds) and (why := untraceable()):
        print(f"no kills at system calls: {why}", file=sys.stderr)
        kinds = [kind for kind in kinds if kind not in AT_CALLS]
    return kinds


def _tasks(kinds: Sequence[str], arguments: argparse.Namespace, folder: Path) -> Iterator[Task]:
    for kind in kinds:
        left, seed = arguments.kills, arguments.seed
        if kind in AT_CALLS and not arguments.system_calls:
            left = min(left, _MOST_AT_CALLS)
        while left > 0:
            kills = min(left, arguments.per_run)
            yield kind, kills, seed, folder / f"{kind}-{seed}"
            left, seed = left - kills, seed + 1


def _try(task: Task) -> tuple[str, Trial]:
    kind, kills, seed, folder = task
    at_calls = kind in AT_CALLS
    of = AT_CALLS[kind] if at_calls else kind
    return kind, trial(of, kills, seed, folder, at_calls)  # type: ignore[arg-type]


def _total(trials: Sequence[Trial]) -> dict[str, Any]:
    moments, calls, rows = Counter[str](), Counter[str](), Counter[str]()
    acts: dict[str, Counter[str]] = {}
    for each in trials:
        moments.update(each.moments)
        calls.update(each.calls)
        rows.update(each.rows)
        for result, counts in each.acts.items():
            acts.setdefault(result, Counter()).update(counts)
    return {
        "runs": len(trials),
        "kills": sum(each.kills for each in trials),
        "moments": {name: moments[name] for name in ("start", *MOMENTS)},
        "calls": dict(sorted(calls.items())),
        "broken": sum(each.broken for each in trials),
        "ended": sum(each.ended for each in trials),
        "rows": rows,
        "acts": acts,
        "commands": sum(each.commands for each in trials),
        "seconds": sum(each.seconds for each in trials),
        "faults": [f"{e.kind} {e.seed}: {fault}" for e in trials for fault in e.faults],
        "trials": [asdict(each) for each in trials],
    }


def _show(kind: str, figures: dict[str, Any]) -> None:
    print(f"{kind}: {figures['kills']} kills of {figures['runs']} runs, {figures['seconds']:.0f} s")
    met = figures["calls"] or figures["moments"]
    print("  in " + ", ".join(f"{name} {n}" for name, n in met.items()))
    if figures["broken"]:
        print(f"  sessions on a disk that broke (EIO, ENOSPC): {figures['broken']}")
    print("  rows: " + ", ".join(f"{name} {count}" for name, count in figures["rows"].items()))
    for result, counts in figures["acts"].items():
        print(f"  acts {result}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if figures["commands"]:
        print(f"  commands carried out by the controller: {figures['commands']}")
    print(f"  faults: {len(figures['faults'])}")
    for fault in figures["faults"]:
        print(f"    {fault}")


if __name__ == "__main__":
    sys.exit(main())
