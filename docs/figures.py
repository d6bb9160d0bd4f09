"""Make the pictures of README and docs with the project itself: ``make figures``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from agents.classifier import ProbeClassifier
from spm_gym.build import make_env, shipped_classifier
from spm_gym.imaging import level, normalise
from spm_gym.instrument.sim.images import simulated_images

PICTURES = Path(__file__).parent / "pictures"
SHAPES = ("sharp", "weak", "double", "multiple")
FLAGS = ("clean", "unstable", "contaminated", "both")


def main() -> None:
    """Write all pictures; the curves come from a finished run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    draw_probes(PICTURES / "probes.png")
    draw_environment(PICTURES / "environment.png")
    for name in ("learning_curve.png", "evaluation.png"):
        shutil.copy(arguments.run / name, PICTURES / name)


def draw_probes(path: Path) -> None:
    """Draw one image of each of the sixteen probe classes, with the classifier's verdict."""
    states = np.arange(16)
    raw = simulated_images(16, seed=8, states=states)
    images = np.stack([normalise(level(z)) for z in raw.z])
    probability = ProbeClassifier.load(shipped_classifier())(images[:, None])
    figure = Figure(figsize=(7.2, 7.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for state, axes in enumerate(figure.subplots(4, 4).ravel()):
        axes.imshow(images[state], cmap="afmhot", vmin=-1.5, vmax=1.5)
        axes.set_title(f"{SHAPES[state // 4]}, {FLAGS[state % 4]}\np = {probability[state]:.3f}",
                       fontsize=8, color="green" if raw.good[state] else "black")  # fmt: skip
        axes.set_axis_off()
    figure.savefig(path)


def draw_environment(path: Path) -> None:
    """Draw what the environment renders after some random steps."""
    env = make_env(render_mode="rgb_array")
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=4)
    for _ in range(40):
        _, _, terminated, truncated, info = env.step(
            rng.choice(np.flatnonzero(info["action_mask"]))
        )
        if terminated or truncated:
            _, info = env.reset()
    Image.fromarray(env.render()).save(path)


if __name__ == "__main__":
    main()
