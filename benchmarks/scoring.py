"""Score of a policy on the simulator, in turns with random choice and the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.belief.agent import BeliefAgent
from agents.belief.belief import VerdictRates
from agents.belief.recogniser import Recogniser
from agents.classifier import ProbeClassifier
from agents.evaluation import Episode, interleave, summarise
from spm_gym.assembly.environment import measured
from spm_gym.assembly.evaluation import baseline_policy
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.types import Policy

_LEARNING, _EVALUATION = 1, 2
"""Set the worlds of learning and evaluation apart."""


def learning_seeds(seed: int) -> tuple[int, np.random.SeedSequence]:
    """Give the world that an agent learns in, and the seeds of its own draws."""
    world, draws = np.random.SeedSequence([_LEARNING, seed]).spawn(2)
    return int(world.generate_state(1)[0]), draws


def evaluate(
    env: ProbeConditioningEnv, policy: Policy, process: HiddenProcess, episodes: int, seed: int
) -> dict[str, Any]:
    """Play episodes of a policy, frozen and greedy, in turns with random choice and the oracle.

    Args:
        env: With a simulated microscope that no agent has learned on. It begins in another world
            than the agents of the same seed did.
        policy: Is called "agent" in the summary.
        process: The settings' hidden process.
        episodes: Of each of the three.
        seed: Of the world and of random choice; all policies meet the same first world.

    Returns:
        Figures as of `agents.evaluation.summarise`.
    """
    world, draws = np.random.SeedSequence([_EVALUATION, seed]).spawn(2)
    rng = np.random.default_rng(draws)
    references = {name: baseline_policy(name, process, env, rng) for name in ("random", "oracle")}
    policies = {"agent": policy} | references
    results: dict[str, list[Episode]] = {name: [] for name in policies}
    first = int(world.generate_state(1)[0])
    for name, episode in interleave(measured(env), policies, episodes, first):
        results[name].append(episode)
    return summarise(results, seed)


def belief_agent(
    config: Config,
    recogniser: Recogniser,
    rng: np.random.Generator,
    table: np.ndarray | None = None,
) -> BeliefAgent:
    """Make a belief agent that has learned nothing yet.

    Args:
        config: Settings of the environment.
        recogniser: Knows the classes of probes.
        rng: Of its exploration.
        table: Transitions of another world as a prior, (A, 16, 16); None without.
    """
    found = settings_classifier(config).summary["validation"]
    rates = VerdictRates(found["tpr"], found["fpr"])
    return BeliefAgent(recogniser, rates, len(config.env.actions), rng, table)


def settings_classifier(config: Config) -> ProbeClassifier:
    """Load the classifier that ends the episodes."""
    return ProbeClassifier.load(config.env.classifier or shipped_classifier())


def reference_table(config: Config) -> np.ndarray:
    """Transitions of the included table, also if the settings name another."""
    simulator = config.simulator.model_copy(update={"transitions": None})
    return reference_process(config.model_copy(update={"simulator": simulator})).steps
