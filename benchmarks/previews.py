"""Previews: what creep costs their recognition, and what they spare in conditioning.

    python benchmarks/previews.py --images 4000 --episodes 300 --json previews.json

Creep. A probe of a random class is moved as the environment moves it: to the next region, to one
far away, or by the coarse motor with the wait that follows. From the same instant, with the same
noise, it takes a preview at once or after the partial image that is discarded without previews, and
a full image after the partial image, after a preview, or at once.

Printed for each: bad probes recognised at 1 % of the good ones lost, and classes of bad probes that
are right, both by the recogniser; of full images also the good probes that the classifier calls
good, and the bad ones.

Conditioning. Random choice and the included agent take turns on one microscope, without and with
previews. Printed: actions and seconds of the instrument per episode and per reset, episodes that
end with a truly good probe, and good probes that an action has made and no image has called good.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.baselines import RandomPolicy
from agents.belief.recogniser import Recogniser
from agents.classifier import ProbeClassifier
from agents.evaluation import Episode, interleave
from agents.weights import load_weights
from spm_gym.actions_to_go import GOOD
from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.shipped_weights import (
    shipped_agent,
    shipped_classifier,
    shipped_recogniser,
)
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, load_config
from spm_gym.envs.navigation import Navigator
from spm_gym.imaging import readings_of
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.images import GOOD_SHARE
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.scale import NM
from spm_gym.types import Frame, Policy, Scan

PER_AREA = 100
FAR_NM = 200.0
LOST = 0.01
CALM = dict.fromkeys(
    ("tip_change_rate", "tip_change_per_s", "contact_loss_rate", "crash_rate", "rough_fraction"),
    0.0,
)
"""Nothing happens to the probe, or its class would be unclear."""

Images = dict[str, list[NDArray[np.float32]]]


def main() -> None:
    """Take the images of every move, and print a row for every way to take them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4000, help="of every kind; default: 4000")
    parser.add_argument("--episodes", type=int, default=300, help="of each policy; default: 300")
    parser.add_argument("--lines", type=int, default=16, help="of a preview; default: 16")
    parser.add_argument("--recogniser", type=Path, default=shipped_recogniser())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    prepare_process(1)
    config = load_config(None, arguments.set)
    rows = creep(arguments, config) if arguments.images else []
    for lines in (None, arguments.lines) if arguments.episodes else ():
        rows += conditionings(config, lines, arguments.episodes, arguments.seed)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def creep(arguments: argparse.Namespace, config: Config) -> list[dict[str, Any]]:
    """Score every kind of image after every sort of move."""
    calm = config.model_copy(update={"simulator": config.simulator.model_copy(update=CALM)})
    recogniser = Recogniser.load(arguments.recogniser)
    classifier = ProbeClassifier.load(shipped_classifier())
    rows = []
    for move in MOVES:
        images, states = take(calm, move, arguments.lines, arguments.images, arguments.seed)
        for kind, each in images.items():
            found = recognised(recogniser, np.stack(each), states)
            if "preview" not in kind.split(" after ")[0]:
                verdicts = classifier(np.stack(each)) > config.env.good_above
                found["good_called_good"] = float(verdicts[states == GOOD].mean())
                found["bad_called_good"] = float(verdicts[states != GOOD].mean())
            rows.append({"move": move, "image": kind, **found})
            _print(f"{move}; {kind}", found)
    return rows


def conditionings(
    config: Config, lines: int | None, episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Play episodes, and sum them up by policy."""
    env = config.env.model_copy(update={"preview_lines": lines})
    config = config.model_copy(update={"env": env})
    plain = make_env(config)
    names = [action.name for action in env.actions]
    policies: dict[str, Policy] = {
        "random": RandomPolicy(np.random.default_rng(seed)),
        "agent": load_weights(shipped_agent(), plain, config.agent, names, seed),
    }
    played: dict[str, list[Episode]] = {name: [] for name in policies}
    for name, episode in interleave(measured(plain), policies, episodes, seed):
        played[name].append(episode)
    rows = []
    for name, each in played.items():
        good = sum(sum(episode.truth) for episode in each)
        found = {
            "actions": float(np.mean([episode.length for episode in each])),
            "seconds": float(np.mean([episode.seconds for episode in each])),
            "reset_seconds": float(np.mean([episode.reset_seconds for episode in each])),
            "success": float(np.mean([episode.success for episode in each])),
            "truly_good": float(np.mean([e.truth[-1] for e in each if e.success])),
            "good_missed": 1 - sum(e.success and e.truth[-1] for e in each) / good,
        }
        rows.append({"policy": name, "lines": lines, **found})
        _print(f"{name}, {f'previews of {lines} lines' if lines else 'no previews'}", found)
    return rows


def _print(what: str, found: dict[str, float]) -> None:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{what}: {figures}", flush=True)


def take(
    config: Config, move: str, lines: int, count: int, seed: int
) -> tuple[Images, NDArray[np.int64]]:
    """Take images of every kind after so many moves of one sort.

    Returns:
        Observations by kind, and the classes of the probes (count,).
    """
    rng = np.random.default_rng(seed)
    states = np.where(rng.random(count) < GOOD_SHARE, GOOD, rng.integers(1, STATES, count))
    taken: Images = defaultdict(list)
    for number, state in enumerate(states.tolist()):
        if number % PER_AREA == 0:
            microscope = build_microscope(config, int(rng.integers(2**63)))
            navigator = Navigator(microscope, config.env)
        microscope.set_probe(HiddenState.of(state))
        frame = MOVES[move](navigator, rng)
        navigator.use_up(frame)
        scans = kinds(microscope, frame, lines, config.env.settle_fraction)
        for kind, scan in scans.items():
            taken[kind].append(readings_of([scan], *Preprocessing.of(config.env)).observations[0])
        microscope.scan(frame)
    return taken, states


def next_region(navigator: Navigator, rng: np.random.Generator) -> Frame:
    """Choose the next region; the move there begins at a place of an action in the last one."""
    frame = navigator.next_frame(rng)
    assert frame is not None
    status = navigator.instrument.status()
    _move(navigator, np.array([status.x, status.y]) + rng.uniform(-4, 4, 2) * NM)
    return frame


def far_region(navigator: Navigator, rng: np.random.Generator) -> Frame:
    """Choose the next region, and move there from far away."""
    frame = next_region(navigator, rng)
    _move(navigator, np.array([frame.x, frame.y]) + rng.uniform(-1, 1, 2) * FAR_NM * NM)
    return frame


def coarse_move(navigator: Navigator, rng: np.random.Generator) -> Frame:
    """Move to the next approach area, wait, and choose its first region."""
    navigator.change_area()
    navigator.await_creep()
    frame = navigator.next_frame(rng)
    assert frame is not None
    return frame


def _move(navigator: Navigator, place: NDArray[np.float64]) -> None:
    microscope = navigator.instrument
    assert isinstance(microscope, SimulatedMicroscope)
    # Only moved: any action, doing nothing included, may change the probe.
    microscope.move_to(*np.clip(place, -microscope.reach, microscope.reach).tolist())


MOVES: dict[str, Callable[[Navigator, np.random.Generator], Frame]] = {
    "next region": next_region,
    "far region": far_region,
    "coarse move": coarse_move,
}


def kinds(
    microscope: SimulatedMicroscope, frame: Frame, lines: int, settled: float
) -> dict[str, Scan]:
    """Take every kind of image from the same instant."""
    preview = replace(frame, lines=lines)

    def after(fraction: float, of: Frame, image: Frame) -> Scan:
        alike = copy.deepcopy(microscope)
        if fraction:
            alike.settle(of, fraction)
        return alike.scan(image)

    return {
        "preview at once": after(0, frame, preview),
        "preview after a partial image": after(settled, frame, preview),
        "image at once": after(0, frame, frame),
        "image after a partial image": after(settled, frame, frame),
        "image after a preview": after(1, preview, frame),
    }


def recognised(
    recogniser: Recogniser, images: NDArray[np.float32], states: NDArray[np.int64]
) -> dict[str, float]:
    """Score the recogniser's answers."""
    logarithms = recogniser.logarithms(images)
    good, bad = logarithms[:, GOOD], states != GOOD
    limit = np.quantile(good[~bad], LOST)
    # Among the bad classes alone: whether the probe is good is the other figure.
    classes = np.argmax(logarithms[bad][:, 1:], axis=1) + 1
    return {
        "bad_recognised": float(np.mean(good[bad] < limit)),
        "class_right": float(np.mean(classes == states[bad])),
    }


if __name__ == "__main__":
    main()
