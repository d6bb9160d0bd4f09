"""Hash what the project computes, to show that a change of its code has left every bit the same.

Run ``python benchmarks/fingerprint.py`` before and after: trajectories of the environment and of
the vector environment, weights and score of a short training, the scans of an autonomous run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from safetensors.numpy import load_file

import spm_gym  # noqa: F401 (registers the environment)
from spm_gym.imaging.files import read_gsf_scan

ROOT = Path(__file__).parents[1]
ENVIRONMENT = "spm_gym/ProbeConditioning-v0"
_WORLDS: tuple[tuple[str, ...], ...] = (
    (),
    ("env.regions.area_nm=120", "simulator.contact_loss_rate=0.03", "simulator.crash_rate=0.03",
     "simulator.tip_change_rate=0.1", "simulator.rough_fraction=0.2"),
)  # fmt: skip


def main() -> int:
    """Print a hash for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="of trajectories; default: 10")
    parser.add_argument("--steps", type=int, default=60, help="of each; default: 60")
    parser.add_argument("--training", type=int, default=800, help="actions; default: 800")
    arguments = parser.parse_args()
    for world in _WORLDS:
        name = "accidents" if world else "default"
        print(f"trajectories, {name:9}  {trajectories(world, arguments.seeds, arguments.steps)}")
    print(f"vector environment       {batch(arguments.steps)}")
    with tempfile.TemporaryDirectory() as folder:
        for part, found in training(Path(folder), arguments.training):
            print(f"{part:24} {found}", flush=True)
        print(f"autonomous run           {operation(Path(folder))}")
    return 0


def trajectories(world: tuple[str, ...], seeds: int, steps: int) -> str:
    """Hash images, rewards, ends and infos of random allowed actions."""
    digest = hashlib.sha256()
    for seed in range(seeds):
        env = gymnasium.make(ENVIRONMENT, overrides=world)
        rng = np.random.default_rng(seed)
        observation, info = env.reset(seed=seed)
        for _ in range(steps):
            # Without previews it is false everywhere; left out, the hashes are those of before.
            _add(digest, observation, {key: info[key] for key in info if key != "preview"})
            action = rng.choice(np.flatnonzero(info["action_mask"]))
            observation, reward, terminated, truncated, info = env.step(action)
            _add(digest, reward, terminated, truncated)
            if terminated or truncated:
                observation, info = env.reset()
        env.close()
    return digest.hexdigest()[:16]


def batch(steps: int) -> str:
    """Hash what four microscopes in step give."""
    digest = hashlib.sha256()
    envs: Any = gymnasium.make_vec(ENVIRONMENT, num_envs=4, vectorization_mode="vector_entry_point")
    rng = np.random.default_rng(0)
    observations, _ = envs.reset(seed=11)
    for _ in range(steps):
        masks = envs.unwrapped.action_masks()
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        _add(digest, observations, rewards, terminated, truncated)
    envs.close()
    return digest.hexdigest()[:16]


def training(folder: Path, steps: int) -> Iterator[tuple[str, str]]:
    """Train an agent with a fixed seed and evaluate it; hash its weights and its episodes."""
    weights, figures = folder / "agent.safetensors", folder / "evaluation.json"
    run = folder / "training"
    _call("train.py", "--run-dir", run, "--seed", "7", "--reproducible", "--steps", steps,
          "--output", weights, "--set", "agent.prefill=200")  # fmt: skip
    digest = hashlib.sha256()
    for name, values in sorted(load_file(weights).items()):
        _add(digest, name, values)
    yield "weights after training", digest.hexdigest()[:16]
    _call("evaluate.py", "--run", run, "--episodes", "30", "--in-turn", "--json", figures)
    evaluation = json.loads(figures.read_text())
    yield "episodes of evaluation", _hash(dict(_lengths(evaluation)))
    yield "normalised score", repr(evaluation["normalised_score"]["value"])


def operation(folder: Path) -> str:
    """Hash the scans of an autonomous run with everything going wrong that can."""
    run = folder / "operation"
    _call("-m", "spm_gym", "run", "--env", "sim", "--scans", "300", "--faults", "random", "--seed",
          "3", "--run-dir", run, "--set", "simulator.tip_change_rate=0.02")  # fmt: skip
    digest = hashlib.sha256()
    for file in sorted((run / "scans").glob("*.gsf")):
        _add(digest, file.name, read_gsf_scan(file))
    return digest.hexdigest()[:16]


def _lengths(node: Any) -> Iterator[tuple[str, Any]]:
    """Names and lengths of the episodes of every policy."""
    if isinstance(node, dict):
        for name, value in node.items():
            if isinstance(value, dict) and "lengths" in value:
                yield name, value["lengths"]
            else:
                yield from _lengths(value)


def _call(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:16]


def _add(digest: Any, *values: Any) -> None:
    for value in values:
        if isinstance(value, dict):
            for key in sorted(value):
                _add(digest, key, value[key])
        elif isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        else:
            digest.update(repr(value).encode())


if __name__ == "__main__":
    sys.exit(main())
