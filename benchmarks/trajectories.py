"""Episodes through TCP against the same ones in the process: is every step the same, bit for bit?

Run ``python benchmarks/trajectories.py``; it starts a virtual Nanonis, time scale off, for every
seed and world. Ends with status 1 if any step differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.trajectories import LIVELY, both, equal

AREA = "env.regions.area_nm=120"
WORLDS = {
    "default": [],
    "small areas": [AREA],
    "accidents, small areas": [AREA, *LIVELY],
    "accidents, small areas, previews": [AREA, *LIVELY, "env.preview_lines=16"],
    "20 nm, long scans": [
        AREA,
        "env.image_nm=20",
        "env.accept_mismatch=[pixel]",
        "env.settle_fraction=0.5",
    ],
}


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100, help="of every seed; default: 100")
    arguments = parser.parse_args()
    different = 0
    for name, world in WORLDS.items():
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            far, near = both(seed, world, arguments.steps)
            same = sum(equal(*pair) for pair in zip(far, near, strict=False))
            different += max(len(far), len(near)) - same
            print(f"{name}, seed {seed}: {same} of {len(near)} steps equal, "
                  f"{near[-1]['area']} changes of area", flush=True)  # fmt: skip
    print(f"{different} steps differ; promised 0")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
