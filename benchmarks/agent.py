"""Learning claim: train the default agent with several seeds and evaluate every one of them.

    python benchmarks/agent.py --seeds 5 --episodes 500

The value of beginning with the classifier's trunk, at 1,500 actions, in a quarter of an hour each:

    python benchmarks/agent.py --seeds 3 --episodes 200 --policies agent random oracle \
        --runs runs/trunk --set agent.steps=1500
    python benchmarks/agent.py --seeds 3 --episodes 200 --policies agent random oracle \
        --runs runs/scratch --set agent.steps=1500 agent.from_classifier=false

Every seed trains by ``train.py`` and is evaluated by ``evaluate.py``, interleaved with random
choice, the best blind mixture, the oracle and the control that is fed shuffled images.
Score: (random - agent) / (random - oracle) of the mean actions per episode.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.intervals import mean_interval

ROOT = Path(__file__).parent.parent
POLICIES = ("agent", "random", "blind", "oracle", "shuffled")
NEEDED = {"agent", "random", "oracle"}
"""For the score."""


def main() -> None:
    """Train, evaluate, print one row a seed and the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds; default: 5")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=500, help="of each policy; default: 500")
    parser.add_argument(
        "--policies", nargs="+", default=POLICIES, help=f"default: {' '.join(POLICIES)}"
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "default.yaml")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-agent"))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; default: 1")
    arguments = parser.parse_args()
    if not set(arguments.policies) >= NEEDED:
        parser.error(f"--policies: the score needs {', '.join(sorted(NEEDED))}")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(partial(measure, arguments), seeds):
            print(line(row), flush=True)
            rows.append(row)
    scores = [row["score"] for row in rows]
    mean, (low, high) = mean_interval(scores)
    print(
        f"normalised score: mean {mean:.3f} (95 % over seeds {low:.3f} .. {high:.3f}), "
        f"worst seed {min(scores):.3f}; training {np.median([r['wall_s'] for r in rows]):.0f} s"
    )
    (arguments.runs / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


def measure(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and evaluate one seed; existing runs are evaluated again, not trained again."""
    run = arguments.runs / f"seed-{seed}"
    train = ["train.py", "--config", str(arguments.config), "--seed", str(seed)]
    settings = ["--set", *arguments.set] if arguments.set else []
    started = time.monotonic()
    if not run.exists():
        command(*train, "--run-dir", str(run), *settings)
    wall = time.monotonic() - started
    result = run / "evaluation.json"
    command(
        "evaluate.py", "--run", str(run), "--policies", *arguments.policies, "--seed",
        str(1000 + seed), "--episodes", str(arguments.episodes), "--json", str(result), "--force",
    )  # fmt: skip
    document = json.loads(result.read_text())
    lengths = {name: policy["mean_length"] for name, policy in document["policies"].items()}
    return {
        "seed": seed,
        "wall_s": wall,
        "lengths": lengths,
        "score": document["normalised_score"]["value"],
        "score_ci95": document["normalised_score"]["ci95"],
        "agent_ci95": document["policies"]["agent"]["ci95"],
        "success": document["policies"]["agent"]["success_rate"],
    }


def command(*arguments: str) -> None:
    """Run a command of the project; its own output is printed only if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def line(row: dict[str, Any]) -> str:
    """One seed for the terminal."""
    lengths = "  ".join(f"{name} {length:5.2f}" for name, length in row["lengths"].items())
    low, high = row["score_ci95"]
    return (
        f"seed {row['seed']}: {lengths}  score {row['score']:.3f} ({low:.3f} .. {high:.3f})  "
        f"training {row['wall_s']:.0f} s"
    )


if __name__ == "__main__":
    main()
