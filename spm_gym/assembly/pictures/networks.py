"""Pictures of agents, classifiers, trainings and evaluations, for ``spm-gym show``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import classifier, inspection, weights
from agents.belief.agent import BeliefAgent
from agents.belief.checkpoint import load_belief_checkpoint
from agents.checkpoint import kind_of, latest_checkpoint
from agents.classifier import ProbeClassifier
from agents.inspection import AgentNetwork
from agents.network_training import Epoch
from agents.weights import load_weights
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.pictures import MOVING, Picture
from spm_gym.assembly.pictures.run import write_animation
from spm_gym.assembly.run_directory import checkpoint_settings
from spm_gym.assembly.shipped_weights import shipped_agent
from spm_gym.atomic_file import written_whole
from spm_gym.config import Config, EnvConfig
from spm_gym.config.json_file import JsonError, read_json
from spm_gym.envs.observation import whole_image
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UsageError
from spm_gym.figures.canvas import save
from spm_gym.figures.episode import EpisodeFrames, Still
from spm_gym.figures.evaluation import plot_lengths
from spm_gym.figures.heights import grey_words
from spm_gym.figures.learning_curve import plot_learning_curve
from spm_gym.figures.networks import PROBES, draw_values, draw_verdicts
from spm_gym.figures.transitions import draw_transitions
from spm_gym.imaging.conditions import described, with_height_scale
from spm_gym.imaging.normalisation import scale_text
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.dynamics import CLASS_NAMES
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.paths import display_name
from spm_gym.plain_state import StateError, restored

_SEED = 8
"""Of the images of the sixteen classes of probes."""

_OF_AN_EVALUATION = ("policies", "normalised_score", "normalised_score_seconds")
_OF_A_POLICY = (
    "mean_length", "ci95", "lengths", "mean_seconds", "seconds_ci95", "seconds", "cut_off",
)  # fmt: skip
_FIGURES = {
    "good": "good images",
    "bad": "bad images",
    "threshold": "validated at threshold",
    "accuracy": "accuracy",
    "tpr": "true-positive rate",
    "fpr": "false-positive rate",
    "auc": "area under ROC curve",
    "calibration_error": "calibration error",
    "recommended": "recommended threshold",
}
"""Figures of validation that a classifier's file holds, and how they are called."""


@dataclass(frozen=True, slots=True)
class _Trained:
    training_images: int | None = None
    validation: dict[str, float] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)


def probe_images(pixels: int, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Simulate one image of each class of probes, normalised for the networks."""
    # Always the same images: pictures of two networks can then be compared.
    raw = simulated_images(len(PROBES), _SEED, pixels=pixels, states=np.arange(len(PROBES)))
    return np.stack([preprocessing.image(z) for z in raw.z])


def of_weights(path: Path, env: EnvConfig) -> Picture:
    """Draw an agent or a classifier in a file of weights, whichever it names itself.

    Args:
        path: The file.
        env: Says from where on a probe is good, and how images are levelled and normalised.
    """
    kind = weights.format_of_file(path)
    if kind == classifier.FORMAT:
        loaded = ProbeClassifier.load(path)
        scaled = with_height_scale(env, loaded)
        return Picture(path.stem, partial(_write_classifier, loaded, path.name, scaled))
    if kind == weights.FORMAT:
        agent = inspection.read_weights(path)
        return Picture(path.stem, partial(_write_agent, agent, path.name, Preprocessing.of(env)))
    raise UsageError(f"{path} says it is {kind!r}, and neither an agent nor a "
                     "classifier written by this project")  # fmt: skip


def newest_checkpoint(path: Path) -> Path | None:
    """Find the checkpoint that a folder is, or the newest one in it; None without any."""
    return path if (path / "meta.json").is_file() else latest_checkpoint(path)


def of_checkpoint(path: Path) -> Picture:
    """Draw the agent of a checkpoint; its run knows the names of the actions."""
    if kind_of(path) == "belief":
        agent = load_belief_checkpoint(path).agent
        return Picture(f"{display_name(path)}_transitions", partial(write_table, agent))
    found = inspection.read_checkpoint(path)
    # Weights alone do not name their actions.
    config = checkpoint_settings(path)
    env = EnvConfig() if config is None else config.env
    if config is not None:
        names = tuple(action.name for action in env.actions)
        found = AgentNetwork(found.network, names, found.steps)
    name = display_name(path)
    return Picture(name, partial(_write_agent, found, name, Preprocessing.of(env)))


def write_table(agent: BeliefAgent, output: Path) -> None:
    """Draw what a belief agent has learned of the actions, beside its prior."""
    learned = agent.transitions
    save(
        draw_transitions(
            learned.prior_mean, learned.mean(), learned.observed, agent.actions, CLASS_NAMES
        ),
        output,
    )


def of_training(run: Path, tensorboard: Path) -> Picture:
    """Draw the learning curve of a run of train.py."""
    if not any(tensorboard.rglob("*tfevents*")):
        raise UsageError(f"{run} has learned nothing yet: there are no events in {tensorboard}")

    def write(output: Path) -> None:
        with written_whole(output) as beside:
            plot_learning_curve(tensorboard, beside)

    return Picture(f"{display_name(run)}_learning_curve", write)


def of_evaluation(path: Path) -> Picture:
    """Draw the lengths of the episodes that evaluate.py has written."""
    summary = _evaluation(path)
    policies = summary["policies"]
    if not policies:
        raise UsageError(f"{path} holds no episodes")

    def write(output: Path) -> None:
        with written_whole(output) as beside:
            plot_lengths(summary, beside)

    return Picture(path.stem, write)


def _evaluation(path: Path) -> dict[str, Any]:
    try:
        summary = read_json(path)
    except JsonError as error:
        raise UsageError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(summary, dict):
        raise _foreign(path, f"it is a {type(summary).__name__}, not an object")
    for key in _OF_AN_EVALUATION:
        if key not in summary:
            raise _foreign(path, f"{key!r} is missing")
    if not isinstance(summary["policies"], dict):
        raise _foreign(path, "'policies' is not an object")
    for name, policy in summary["policies"].items():
        missing = [key for key in _OF_A_POLICY if not isinstance(policy, dict) or key not in policy]
        if missing:
            raise _foreign(path, f"of {name!r} {', '.join(map(repr, missing))} is missing")
    return summary


def _foreign(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is not what evaluate.py --json writes: {why}")


def simulated_episode(config: Config, seed: int) -> Picture:
    """Draw a conditioning on the simulator by the agent in the package."""
    frames = play(config, seed)
    return Picture(f"episode_seed{seed}", partial(write_animation, frames), MOVING)


def play(config: Config, seed: int) -> EpisodeFrames:
    """Let the agent in the package condition a simulated probe, greedily."""
    names = [action.name for action in config.env.actions]
    env = make_env(config)
    stills = []
    try:
        model = load_weights(shipped_agent(), env, config.agent, names, seed)
        observation, info = env.reset(seed=seed)
        ended = False
        while not ended:
            # Greedy, to show what the agent has learned, not what it tries.
            action, values = model.decide(observation, info["action_mask"], deterministic=True)
            stills.append(_still(env, names[action], values.tolist()))
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        stills.append(_still(env))
    finally:
        env.close()
    grey = grey_words(Preprocessing.of(config.env).scale)
    return EpisodeFrames(f"simulator, seed {seed}", names, config.env.good_above, stills, grey)


def _still(env: ProbeConditioningEnv, action: str = "", values: Sequence[float] = ()) -> Still:
    processed = env.processed
    assert processed is not None, "after a reset"
    return Still(
        whole_image(processed, env.config),
        processed.scan.frame.size,
        processed.square,
        processed.probability,
        action,
        values,
        processed.mask.tolist(),
    )


def _write_classifier(classifier: ProbeClassifier, name: str, env: EnvConfig, output: Path) -> None:
    images = probe_images(classifier.network.pixels, Preprocessing.of(env))
    trained = _trained(name, classifier.summary)
    figures = [(text, f"{trained.validation[key]:.5g}") for key, text in _FIGURES.items()
               if key in trained.validation]  # fmt: skip
    if trained.training_images is not None:
        figures.insert(0, ("training images", f"{trained.training_images}"))
    trained_for = [
        *described(classifier.conditions),
        ("height scale", scale_text(classifier.height_scale)),
        ("networks", _members(classifier)),
        ("temperature", f"{classifier.temperature:.3g}"),
    ]
    figures += trained_for
    for text, value in trained_for:
        print(f"{text:12} {value}")
    losses = [(each.loss, each.validation_loss) for each in trained.history]
    save(
        draw_verdicts(images, classifier(images[:, None]), env.good_above, name, figures, losses),
        output,
    )


def _members(classifier: ProbeClassifier) -> str:
    count = str(len(classifier.networks))
    if not classifier.statistics_networks:
        return count
    return (
        f"{count}, and {len(classifier.statistics_networks)} on statistics of the image "
        f"(weight {classifier.statistics_weight:.2g})"
    )


def _trained(name: str, summary: Any) -> _Trained:
    """Check what the file of a classifier says of its training, which may be anything."""
    given = summary if isinstance(summary, dict) else {}
    keys = ("training_images", "validation", "history")
    known = {key: given[key] for key in keys if key in given}
    try:
        return restored(_Trained, known)
    except StateError as error:
        raise UsageError(f"{name} says of its training what this program did not write: "
                         f"{error}") from error  # fmt: skip


def _write_agent(
    agent: AgentNetwork, name: str, preprocessing: Preprocessing, output: Path
) -> None:
    images = probe_images(agent.network.pixels, preprocessing)
    values = agent.values(images[:, None])
    actions = agent.actions or tuple(f"action {number}" for number in range(values.shape[1]))
    if len(actions) != values.shape[1]:
        raise UsageError(
            f"{name} chooses among {values.shape[1]} actions, the settings of its run name "
            f"{len(actions)}"
        )
    network = agent.network.config
    weights = sum(parameter.numel() for parameter in agent.network.parameters())
    about = (
        f"{agent.steps:,} actions of training; channels {'-'.join(map(str, network.channels))}, "
        f"hidden {'-'.join(map(str, network.hidden)) or 'none'}, normalisation {network.norm}, "
        f"{weights:,} weights, images {agent.network.pixels} x {agent.network.pixels}"
    )
    save(draw_values(images, values, actions, agent.filters(), name, about), output)
