"""Make the pictures of README and docs with the project itself: ``make figures``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from small import shrink

from agents.classifier import ProbeClassifier
from spm_gym.analysis.report import episodes
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.pictures.networks import probe_images
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_classifier
from spm_gym.cli import main as spm_gym
from spm_gym.config import EnvConfig
from spm_gym.figures.canvas import save
from spm_gym.figures.networks import draw_verdicts
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import reading

PICTURES = Path(__file__).parent / "pictures"
HOURS, HOURS_OF_AREA = 12, 3
"""Of operation: for a whole run, and for an area in which every image can be told."""

ACTIONS = 6
"""About so many has an episode that is worth an animation."""

GOOD_SCAN = 2


@dataclass(frozen=True)
class Sources:
    """What pictures are made of: runs of train.py and ``spm-gym run``, a comparison of learners."""

    training: Path
    learning: Path
    operation: Path
    area: Path


def main() -> None:
    """Write all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/demo"), help="of train.py; default: runs/demo"
    )
    parser.add_argument(
        "--operation", type=Path, help="of spm-gym run; default: one is made, in half a minute"
    )
    parser.add_argument(
        "--learning",
        type=Path,
        default=Path("runs/learning.json"),
        metavar="FILE",
        help="of benchmarks/learning.py; what is missing in it is measured, all of it takes some "
        "hours; default: runs/learning.json",
    )
    parser.add_argument("--only", nargs="+", choices=MAKERS, metavar="NAME", help=", ".join(MAKERS))
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        half_a_day = arguments.operation or operate(Path(folder) / "half a day", HOURS)
        morning = operate(Path(folder) / "a morning", HOURS_OF_AREA)
        sources = Sources(arguments.run, arguments.learning, half_a_day, morning)
        for name in arguments.only or MAKERS:
            MAKERS[name](sources, PICTURES / name)
            shrink(PICTURES / name)


def operate(run: Path, hours: int) -> Path:
    """Let the simulated microscope work."""
    command = ["run", "--env", "sim", "--hours", f"{hours}", "--faults", "random"]
    done(spm_gym([*command, "--run-dir", str(run)]))
    return run


def show(*arguments: object) -> None:
    """Do ``spm-gym show``."""
    done(spm_gym(["show", *map(str, arguments), "--force"]))


def done(status: int) -> None:
    """End with the status of a command that has failed."""
    if status:
        raise SystemExit(status)


def draw_probes(sources: Sources, path: Path) -> None:
    """One image of each class of probes, with the classifier's verdict."""
    classifier = ProbeClassifier.load(shipped_classifier())
    images = probe_images(classifier.network.pixels, Preprocessing())
    save(draw_verdicts(images, classifier(images[:, None]), EnvConfig().good_above), path)


def draw_environment(sources: Sources, path: Path) -> None:
    """What the environment renders after some random steps."""
    env = make_env(render_mode="rgb_array")
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=4)
    for _ in range(40):
        _, _, terminated, truncated, info = env.step(
            rng.choice(np.flatnonzero(info["action_mask"]))
        )
        if terminated or truncated:
            _, info = env.reset()
    rendered = env.render()
    assert rendered is not None
    Image.fromarray(rendered).save(path)


def draw_episode(sources: Sources, path: Path) -> None:
    """A conditioning that took several actions."""
    with reading(sources.operation) as db:
        good = [each for each in episodes(db) if each["outcome"] == "good"]
    number = min(good, key=lambda each: abs(each["actions"] - ACTIONS))["id"]
    show(sources.operation, "--episode", number, "-o", path)


def draw_learning(sources: Sources, path: Path) -> None:
    """Scores of all agents over what their learning has cost."""
    script = PICTURES.parents[1] / "benchmarks" / "learning.py"
    command = [sys.executable, script, "--json", sources.learning, "--plot", path]
    subprocess.run(command, check=True)


MAKERS: dict[str, Callable[[Sources, Path], None]] = {
    "probes.png": draw_probes,
    "environment.png": draw_environment,
    "learning_curve.png": lambda of, path: show(of.training, "-o", path),
    "evaluation.png": lambda of, path: show(of.training / "evaluation.json", "-o", path),
    "learning.png": draw_learning,
    "agent.png": lambda of, path: show(shipped_agent(), "-o", path),
    "classifier.png": lambda of, path: show(shipped_classifier(), "-o", path),
    "scan.png": lambda of, path: show(of.operation, "--scan", GOOD_SCAN, "-o", path),
    "run.png": lambda of, path: show(of.operation, "-o", path),
    "area.png": lambda of, path: show(of.area, "--area", 0, "-o", path),
    "episode.gif": draw_episode,
}
"""What makes each picture; those of pages in a browser are made by ``screenshots.py``."""


if __name__ == "__main__":
    main()
