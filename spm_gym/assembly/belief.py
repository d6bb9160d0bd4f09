"""The belief agent of the settings: its recogniser, its prior, the classifier's rates."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.belief.agent import BeliefAgent
from agents.belief.belief import VerdictRates
from agents.belief.checkpoint import load_belief_checkpoint
from agents.belief.transitions import carried_over, table_prior
from agents.checkpoint import latest_checkpoint
from agents.classifier import ProbeClassifier
from spm_gym.assembly.recogniser import load_recogniser
from spm_gym.assembly.run_directory import CHECKPOINTS
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError, Fraction
from spm_gym.datasets.transitions import write_transitions
from spm_gym.envs.optimum import included_table
from spm_gym.errors import UsageError
from spm_gym.instrument.sim.dynamics import CLASS_NAMES, STATES
from spm_gym.plain_state import StateError, restored

_UNKNOWN_RATES = (0.95, 0.02)
_TRUTH_RATES = (0.999, 0.001)
"""No verdict is without exception (`VerdictRates`): a wrong class of the recogniser must not make
the filter certain of what is not so."""


def new_belief_agent(config: Config, rng: np.random.Generator) -> BeliefAgent:
    """Build a belief agent that has not learned anything yet but its prior.

    Args:
        config: Settings of agent, environment and classifier.
        rng: Of exploration.

    Raises:
        ConfigError: Recogniser or prior cannot be read, or belong to other images or actions.
        ClassifierError: The classifier cannot be read.
    """
    recogniser = load_recogniser(config)
    names = [action.name for action in config.env.actions]
    settings = config.agent.belief
    return BeliefAgent(
        recogniser, verdict_rates(config), names, rng, _prior(config, names), settings
    )


def verdict_rates(config: Config) -> VerdictRates:
    """Find out how often the classifier that ends the episodes is right, from its validation.

    Raises:
        ClassifierError: The classifier cannot be read.
        ConfigError: What it says of its validation are no rates.
    """
    if config.env.ground_truth:
        return VerdictRates(*_TRUTH_RATES)
    path = config.env.classifier or shipped_classifier()
    validation = ProbeClassifier.load(path).summary.get("validation")
    # One that somebody has made elsewhere may say nothing of itself.
    if validation is None:
        return VerdictRates(*_UNKNOWN_RATES)
    try:
        rates = restored(_Rates, {name: validation[name] for name in ("tpr", "fpr")})
    except (LookupError, StateError, TypeError) as error:
        raise ConfigError(
            f"setting env.classifier = {path}: it does not say how often it is right (tpr and fpr "
            f"of its validation, from 0 to 1), which the belief agent needs: {error}"
        ) from error
    low, high = _TRUTH_RATES[::-1]
    return VerdictRates(*np.clip(rates, low, high).tolist())


class _Rates(NamedTuple):
    """Rates of a classifier, as its file has them."""

    tpr: Fraction
    fpr: Fraction


def _prior(config: Config, names: list[str]) -> NDArray[np.float64] | None:
    settings = config.agent.belief
    if settings.prior == "none":
        return None
    if settings.prior == "simulator":
        table = included_table(config)
        return table_prior(table, len(names), STATES, settings.table_strength)
    return _learned_weights(Path(settings.prior), names, settings.run_strength)


def _learned_weights(given: Path, names: list[str], most: float) -> NDArray[np.float64]:
    """Take the weights that an earlier run has learned."""
    setting = f"setting agent.belief.prior = {given}"
    try:
        earlier = earlier_agent(given)
    except ValueError as error:
        raise ConfigError(
            f"{setting}: {error}; allowed are none, simulator, and the run directory or a "
            "checkpoint of a belief agent"
        ) from error
    if list(earlier.actions) != names:
        raise ConfigError(
            f"{setting}: it was learned with the actions {', '.join(earlier.actions)}; the "
            f"settings have {', '.join(names)} (env.actions), in this order"
        )
    weights = earlier.transitions.weights
    if weights.shape[1] != STATES:
        raise ConfigError(f"{setting}: it is of {weights.shape[1]} classes of probes, not {STATES}")
    return carried_over(weights, most)


def earlier_agent(given: Path) -> BeliefAgent:
    """Load the belief agent of a checkpoint, or of the newest one of a run.

    Raises:
        CheckpointError: It is damaged, or of another kind of agent.
        UsageError: There is none.
    """
    path = given if (given / "meta.json").is_file() else latest_checkpoint(given / CHECKPOINTS)
    if path is None:
        raise UsageError(f"there is no checkpoint in {given}")
    return load_belief_checkpoint(path).agent


def export_transitions(given: Path, output: Path) -> None:
    """Write what the belief agent of a run or of a checkpoint has learned; CSV.

    Raises:
        CheckpointError: It is damaged, or of another kind of agent.
        UsageError: There is no checkpoint.
    """
    agent = earlier_agent(given)
    learned = agent.transitions
    write_transitions(
        output, learned.prior_mean, learned.mean(), learned.observed, agent.actions, CLASS_NAMES
    )
