"""Domain shift: agents on microscopes that differ from those that they were made for.

    python benchmarks/shift.py --json shift.json --plot shift.png

The included networks (agent, classifier, recogniser) come from images of the default simulator, and
the prior of the belief agent is its table of transitions. A shift changes one thing: table of
transitions, imaging, sample, scale, or the classifier. Each agent learns there and is evaluated
after some numbers of actions, frozen and greedy, on another microscope of the same kind, in turns
with random choice and the oracle, as in `benchmarks/learning.py`. Every seed of a shifted table has
a table of its own. Where the included classifier hardly ever finds a good probe, no episode would
end: there the truth ends them, as a classifier that was trained for these images would. A second
table has what the included networks say of images of each shift. Figures are kept as soon as they
are known; the same command goes on with them.

The figures of the issue on learning, for a prior that is wrong:

    python benchmarks/shift.py --shifts table-1.0 --agents belief-prior --seeds 5 --episodes 500 \
        --at 0 100 300 1500
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
from learners import LEARNERS, Build, EpisodeLearner, Learner
from learning import begin, keep, whole_number
from learning_report import markdown_table
from numpy.typing import NDArray
from scoring import evaluate, learning_seeds, settings_classifier
from tqdm import tqdm

from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_report import score_recogniser
from agents.belief.recogniser_training import ClassedImages
from agents.weights import load_weights
from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_recogniser
from spm_gym.atomic_file import written_whole
from spm_gym.cli import run_command
from spm_gym.cli.options import add_set, refuse_unwritable
from spm_gym.config import Config, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.envs.optimum import reference_process
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.figures.canvas import new_figure
from spm_gym.instrument.sim.perturbation import write_perturbed
from spm_gym.types import Classifier

_VERDICTS = 4
"""Sets the draws of wrong verdicts apart from all others."""

_TEST_SEED = 0x7368


@dataclass(frozen=True)
class Shift:
    """One way in which a microscope differs from the default simulator.

    Attributes:
        settings: That differ, as ``key=value``.
        sigma: Of the perturbation of the table of transitions; None leaves it as it is.
        wrong: Share of the classifier's verdicts that are turned round.
    """

    settings: tuple[str, ...] = ()
    sigma: float | None = None
    wrong: float = 0.0


_TRUTH = "env.ground_truth=true"

SHIFTS: dict[str, Shift] = {
    "none": Shift(),
    "table-0.5": Shift(sigma=0.5),
    "table-1.0": Shift(sigma=1.0),
    "table-1.5": Shift(sigma=1.5),
    "linear": Shift(("simulator.mode=linear", _TRUTH)),
    # As loud as a clean square of the paper's tolerance bears.
    "noise": Shift(("simulator.white_noise_pm=3", "simulator.line_noise_pm=2.4")),
    # Drift and creep as measured on a microscope, see docs/simulator.md.
    "drift": Shift(
        ("simulator.drift_pm_per_s=10.6", "simulator.z_drift_pm_per_s=1",
         "simulator.creep_fraction=0.05", "simulator.creep_time_s=500")
    ),
    "sparse": Shift(("simulator.molecules_per_nm2=0.02",)),
    "dense": Shift(("simulator.molecules_per_nm2=0.12",)),
    "7-nm": Shift(("env.image_nm=7", _TRUTH)),
    "14-nm": Shift(("env.image_nm=14", _TRUTH)),
    "20-nm": Shift(("env.image_nm=20", _TRUTH)),
    "PTCDA": Shift(("simulator.molecule=PTCDA", _TRUTH)),
    "HBC": Shift(("simulator.molecule=HBC", "env.accept_mismatch=[material]")),
    "CO": Shift(("simulator.molecule=CO", _TRUTH)),
    "classifier-95": Shift(wrong=0.05),
}  # fmt: skip


def _fine_tuned(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
    """Take the included double DQN, which goes on learning as in an autonomous run."""
    world, _ = learning_seeds(seed)
    names = [action.name for action in config.env.actions]
    return EpisodeLearner(load_weights(shipped_agent(), env, config.agent, names, seed), env, world)


AGENTS: dict[str, Build] = {
    "double-dqn-shipped": _fine_tuned,
    **{name: LEARNERS[name] for name in ("double-dqn", "belief", "belief-prior")},
}

_PREPARED = ("double-dqn-shipped", "belief-prior")
"""Agents that can act before they have learned."""


class Misjudging:
    """A classifier some of whose verdicts are wrong, whatever the image.

    Args:
        classifier: Is right.
        share: Of the verdicts that are turned round.
        rng: Draws which.
    """

    def __init__(self, classifier: Classifier, share: float, rng: np.random.Generator) -> None:
        self._classifier, self._share, self._rng = classifier, share, rng

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 1, H, W) to the probability (N,) that the probe is good."""
        answers = self._classifier(images)
        wrong = self._rng.random(len(answers)) < self._share
        return np.where(wrong, 1 - answers, answers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not in the JSON file yet, print the table, draw the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, known in (("--shifts", SHIFTS), ("--agents", AGENTS)):
        parser.add_argument(
            option, nargs="+", choices=known, default=list(known), metavar=option[2:-1].upper(),
            help=f"any of {', '.join(known)}; default: all",
        )  # fmt: skip
    parser.add_argument(
        "--at", type=whole_number(0), nargs="+", default=[0, 300, 1500], metavar="STEPS",
        help="evaluate after so many actions; default: 0 300 1500",
    )  # fmt: skip
    for option, least, default in (
        ("--seeds", 1, 2),
        ("--first-seed", 0, 0),
        ("--episodes", 1, 200),
    ):
        parser.add_argument(
            option, type=whole_number(least), default=default, metavar="N",
            help=f"default: {default}",
        )  # fmt: skip
    parser.add_argument(
        "--images", type=whole_number(1), default=1000, metavar="N",
        help="of each shift, to test the networks with; default: 1000",
    )  # fmt: skip
    add_set(parser, "agent.replay_ratio=0.5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the scores")
    parser.set_defaults(command=compare)
    return run_command(parser, arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        refuse_unwritable(option, path, force=True)
    stages = sorted(set(arguments.at))
    config = load_config(None, arguments.set).model_dump(mode="json")
    own = {"stages": stages, "episodes": arguments.episodes, "images": arguments.images,
           "config": config}  # fmt: skip
    document = begin(own, arguments.json)
    results = document["results"]
    done = {(result["shift"], result["agent"], result["seed"]) for result in results}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    each = ((shift, agent, seed) for seed in seeds for shift in dict.fromkeys(arguments.shifts)
            for agent in dict.fromkeys(arguments.agents))  # fmt: skip
    due = [run for run in each if run not in done]
    prepare_process(1)
    for shift, agent, seed in tqdm(due, unit="agent", disable=not due):
        evaluations = measure(shift, agent, seed, stages, arguments.episodes, arguments.set)
        results.append({"shift": shift, "agent": agent, "seed": seed, "evaluations": evaluations})
        keep(document, arguments.json)
    quality = [[shift, *image_quality(shift, arguments.images, arguments.set)]
               for shift in dict.fromkeys(arguments.shifts)]  # fmt: skip
    head = ["shift", "class right", "cross-entropy", "good called good", "bad called good"]
    print(table(results, stages), markdown_table(head, quality), sep="\n\n")
    if arguments.plot is not None:
        with written_whole(arguments.plot) as beside:
            plot(results, stages, beside)
    return 0


def measure(
    shift: str, agent: str, seed: int, stages: Sequence[int], episodes: int, settings: Sequence[str]
) -> list[dict[str, Any]]:
    """Let an agent learn on a shifted microscope, and evaluate it at every stage.

    Args:
        shift: Name of the shift.
        agent: Name of the agent.
        seed: Of agent, worlds, table and wrong verdicts.
        stages: Numbers of actions.
        episodes: Of each policy in an evaluation.
        settings: More settings, as ``key=value``.

    Returns:
        Figures as of `agents.evaluation.summarise`, each with its ``stage``.
    """
    given = SHIFTS[shift]
    evaluations: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        changed = [*given.settings, *settings]
        if given.sigma is not None:
            path = Path(folder) / "transitions.yaml"
            write_perturbed(path, given.sigma, seed)
            changed.append(f"simulator.transitions={path}")
        config = load_config(None, changed)
        process = reference_process(config)

        def environment(stage: int) -> ProbeConditioningEnv:
            env = make_env(config)
            if given.wrong:
                rng = np.random.default_rng([_VERDICTS, seed, stage])
                env.classifier = Misjudging(env.classifier, given.wrong, rng)
            return env

        def pause(stage: int) -> None:
            figures = evaluate(environment(1 + stage), learner.policy, process, episodes, seed)
            evaluations.append({"stage": stage} | figures)

        # Without weights or prior, an agent that has learned nothing would go round in circles.
        worth = [stage for stage in stages if stage or agent in _PREPARED]
        learner = AGENTS[agent](config, measured(environment(0)), seed, stages[-1])
        learner.learn(worth, pause)
    return evaluations


def image_quality(shift: str, count: int, settings: Sequence[str]) -> list[str]:
    """Test the included recogniser and classifier on images of a shift.

    Returns:
        Share of right classes, cross-entropy, and the shares of good and of bad probes that the
        classifier calls good.
    """
    given = SHIFTS[shift]
    config = load_config(None, [*given.settings, *settings])
    images = prepared_images(config, count, _TEST_SEED)
    classed = ClassedImages(images.observations.astype(np.float16), images.state)
    score = score_recogniser(Recogniser.load(shipped_recogniser()), classed)
    # The included one also where the truth ends the episodes.
    included = Misjudging(
        settings_classifier(config), given.wrong, np.random.default_rng([_VERDICTS])
    )
    called = included(images.observations) > config.env.good_above
    shares = (called[images.good].mean(), called[~images.good].mean())
    return [f"{score.accuracy:.2f}", f"{score.cross_entropy:.2f}", *(f"{x:.3f}" for x in shares)]


def table(results: Iterable[Mapping[str, Any]], stages: Sequence[int]) -> str:
    """Format scores, mean (lowest to highest seed), and the share of truly good ends."""
    rows = []
    for (shift, agent), at in _grouped(results).items():
        cells = [_cell(at.get(stage, [])) for stage in stages]
        good = [each["policies"]["agent"]["truly_good_rate"] for each in at[max(at)]]
        rows.append([shift, agent, *cells, f"{np.mean(good):.3f}"])
    head = ["shift", "agent", *(f"{stage:,}" for stage in stages), "truly good"]
    return markdown_table(head, rows)


def plot(results: Iterable[Mapping[str, Any]], stages: Sequence[int], path: Path) -> None:
    """Draw the scores of every shift and seed, a panel for each number of actions.

    Args:
        results: What `compare` keeps.
        stages: Numbers of actions.
        path: File to write; its ending chooses the format.
    """
    grouped = _grouped(results)
    shifts = list(dict.fromkeys(shift for shift, _ in grouped))
    agents = list(dict.fromkeys(agent for _, agent in grouped))
    figure = new_figure(4 + 3 * len(stages), 1.5 + 0.32 * len(shifts), dpi=100)
    panels = figure.subplots(1, len(stages), sharex=True, sharey=True, squeeze=False)[0]
    for panel, stage in zip(panels, stages, strict=True):
        for (shift, agent), at in grouped.items():
            number = agents.index(agent)
            # Failures far below random choice are drawn at the edge, or all else would be crowded.
            scores = np.maximum(_scores(at.get(stage, [])), _LOWEST)
            # Beside one another, or the better of two agents would hide the other.
            place = shifts.index(shift) + 0.2 * (number - (len(agents) - 1) / 2)
            panel.plot(scores, [place] * len(scores), "osD^"[number], color=f"C{number}", ms=4)
        panel.set(title=f"after {stage:,} actions", xlabel="normalised score")
        panel.set_xlim(_LOWEST - 0.03, 1.1)
        panel.grid(alpha=0.3)
    panels[0].set_yticks(range(len(shifts)), shifts)
    panels[0].invert_yaxis()
    for number, agent in enumerate(agents):
        panels[0].plot([], [], "osD^"[number], color=f"C{number}", label=agent)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


_LOWEST = -0.2
"""Score below which nothing is drawn apart."""


def _cell(evaluations: Sequence[Mapping[str, Any]]) -> str:
    scores = _scores(evaluations)
    if not scores:
        return ""
    return f"{np.mean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f})"


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> list[float]:
    # Undefined where the oracle was not better than random choice.
    found = [each["normalised_score"]["value"] for each in evaluations]
    return [score for score in found if score is not None]


def _grouped(
    results: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]]:
    """Sort evaluations by shift and agent, in the order of the dictionaries, and by stage."""
    found: dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]] = {
        (shift, agent): {} for shift in SHIFTS for agent in AGENTS
    }
    for result in results:
        for evaluation in result["evaluations"]:
            at = found[result["shift"], result["agent"]]
            at.setdefault(evaluation["stage"], []).append(evaluation)
    return {key: at for key, at in found.items() if at}


if __name__ == "__main__":
    sys.exit(main())
