"""How well the included classifier knows probes in images of other sizes than its own.

    python benchmarks/image_sizes.py --images 40

Simulated images, as a run takes them, averaged or cropped for the classifier. The first row is the
size that it was trained for, and the reference of the others.
"""

from __future__ import annotations

import argparse

import numpy as np

from agents.classifier import ProbeClassifier
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import SimulatorConfig, load_config
from spm_gym.envs.observation import ProcessedScan, process_scans
from spm_gym.imaging.fitting import fitted
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.images import sessions, take
from spm_gym.scale import NM
from spm_gym.types import Frame, Scan

SIZES = ((64, 10.0), (96, 10.0), (128, 10.0), (256, 10.0), (128, 20.0), (256, 20.0))
"""Pixels and side, nm."""

CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)


def main() -> None:
    """Print a row for every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20, help="of each bad class; default: 20")
    parser.add_argument("--seed", type=int, default=9)
    arguments = parser.parse_args()
    prepare_process(1)
    classifier = ProbeClassifier.load(shipped_classifier())
    # Eight times as many of good probes as of each other class: their share is what matters.
    states = np.repeat(np.arange(STATES), arguments.images)
    states = np.concatenate([np.zeros(7 * arguments.images, int), states])
    print("pixels    nm   good called good   bad called good   unknown   unusable")
    for pixels, side in SIZES:
        measure(classifier, states, pixels, side, arguments.seed)


def measure(
    classifier: ProbeClassifier, states: np.ndarray, pixels: int, side: float, seed: int
) -> None:
    """Print the row of one size (nm)."""
    settings = [f"env.pixels={pixels}", f"env.image_nm={side}"]
    env = fitted(load_config(None, settings).env, classifier)
    found: list[tuple[float, bool]] = []
    unusable = 0
    for session in sessions(len(states), seed, states):
        images = take(session, CALM, side, pixels)
        scans = [Scan(Frame(0.0, 0.0, side * NM, pixels), z, images.z_range) for z in images.z]
        outcomes = process_scans(scans, [classifier] * len(scans), env)
        for outcome, state in zip(outcomes, session.states, strict=True):
            if isinstance(outcome, ProcessedScan):
                found.append((outcome.probability, state == 0))
            else:
                unusable += 1
    probability, good = np.array([each for each, _ in found]), np.array([each for _, each in found])
    called = probability > env.good_above  # NaN, an unknown image, is neither
    print(
        f"{pixels:6d} {side:5g}   {called[good].mean():16.3f}   {called[~good].mean():15.4f}"
        f"   {np.isnan(probability).mean():7.3f}   {unusable:8d}",
        flush=True,
    )


if __name__ == "__main__":
    main()
