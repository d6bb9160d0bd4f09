"""The policies that an evaluation compares, and the episodes they play."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from agents.baselines import (
    CountingPolicy,
    MixturePolicy,
    OraclePolicy,
    RandomPolicy,
    ShuffledPolicy,
)
from agents.belief.agent import BeliefAgent
from agents.checkpoint import MODEL
from agents.double_dqn import DoubleDQN
from agents.evaluation import Episode, interleave
from agents.stopping import StoppingRule
from spm_gym.assembly.agent import Agent, read_agent, trained_scale, why_not
from spm_gym.assembly.drivers import log_commands
from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.policy_names import AGENT_POLICIES, SIMULATOR_POLICIES
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recorder import EpisodeRecorder
from spm_gym.assembly.recording import recorded_microscope
from spm_gym.assembly.run_directory import EVALUATION, new_run
from spm_gym.config import Config
from spm_gym.envs.counting import counting_plan
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import level_of, reference_process
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UsageError
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import BoolArray, Expectation, Policy, Transition

_EVALUATION = 0x6576616C
"""Sets an evaluation's worlds and draws apart from those of a training with the same seed."""


def play(
    config: Config,
    checkpoint: Path | None,
    others: Mapping[str, Path],
    results: dict[str, list[Episode]],
    order: list[str],
    rule: StoppingRule,
    seed: int,
    learn: bool,
    in_turn: bool = False,
    dry_run: bool = False,
    log: str | None = None,
) -> None:
    """Let the policies take turns, with a progress bar.

    Args:
        config: Settings of environment and microscope.
        checkpoint: The agent; None if no policy needs it.
        others: Checkpoints of further agents, frozen, by the names in ``results``.
        results: Gets the episodes of every policy that it names, in the order of their turns.
        order: Gets the names of the policies as they had their turns.
        rule: Says after how many episodes the evaluation ends.
        seed: Of the world, of the order, and of the policies' own draws.
        learn: Whether the agent goes on learning at its final epsilon.
        in_turn: Whether every block has the order of ``results`` instead of a random one.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
        log: File for a log of the commands to a real microscope; see `log_commands`.
    """
    prepare_process(config.run.threads)
    model = None if checkpoint is None else _agent(checkpoint, config)
    further = {name: _agent(path, config) for name, path in others.items()}
    real = config.run.microscope == "real" and not dry_run
    with ExitStack() as stack:
        run = Path()
        if real:
            run = stack.enter_context(new_run(None, config, "evaluation", EVALUATION))
            print(f"everything is recorded in {run}")
            stack.enter_context(log_commands(log, config, run, print_line))
        weights = None if checkpoint is None else checkpoint / MODEL
        recorded = recorded_microscope(config, run, "evaluate", dry_run, weights)
        instrument, recorder = stack.enter_context(recorded)
        env = make_env(config, instrument=instrument)
        process = reference_process(config) if SIMULATOR_POLICIES & results.keys() else None
        # Streams of their own: how many numbers one policy draws changes nothing for the others.
        seeds = np.random.SeedSequence([_EVALUATION, seed])
        world, *own_seeds, turn_seed = seeds.spawn(2 + len(results))
        policies: dict[str, Policy] = {
            name: further[name]
            if name in further
            else _policy(name, model, process, env, np.random.default_rng(own_seed))
            for name, own_seed in zip(results, own_seeds, strict=True)
        }
        if recorder is not None:
            policies = _recorded(policies, recorder, env)
        learners = {"agent": _learner(model)} if learn and model is not None else {}
        first = int(world.generate_state(1)[0])
        # One episode each (paper, *Double DQN*): the hours, the area and the tip are the same for
        # all, so only the policy makes a difference.
        rng = None if in_turn else np.random.default_rng(turn_seed)
        turns = interleave(measured(env), policies, rule.blocks, first, learners, rng)
        for name, episode in tqdm(turns, "episodes", rule.blocks * len(policies), mininterval=1):
            results[name].append(episode)
            order.append(name)
            if rule.met(results, seed):
                break


def _recorded(
    policies: Mapping[str, Policy], recorder: EpisodeRecorder, env: ProbeConditioningEnv
) -> dict[str, Policy]:
    recorder.follow(env, steps=0)
    return {name: _AnnouncedPolicy(name, policy, recorder) for name, policy in policies.items()}


class _AnnouncedPolicy:
    """A policy of which the record knows its name and its expectations; fulfils `Policy`."""

    def __init__(self, name: str, policy: Policy, recorder: EpisodeRecorder) -> None:
        self._name, self._policy, self._recorder = name, policy, recorder

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose as the policy does."""
        action, state = self._policy.predict(
            observation, state, episode_start, deterministic, action_masks
        )
        # Computed only when the decision is noted, after its time of the processor was taken.
        self._recorder.policy = self._name
        self._recorder.expectation = partial(_expectation, self._policy, state, deterministic)
        return action, state


def _expectation(
    policy: Policy, state: Any, deterministic: bool, observation: NDArray[np.float32]
) -> Expectation:
    if isinstance(policy, DoubleDQN):
        return Expectation(tuple(map(float, policy.q_values(observation))))
    if isinstance(policy, BeliefAgent):
        return Expectation(forecast=policy.forecast(state, deterministic))
    # A shuffled agent as well: its values are those of another image than the one that is noted.
    return Expectation()


def _agent(checkpoint: Path, config: Config) -> Agent:
    """Load the agent of a checkpoint, for the settings that it was trained with.

    Raises:
        UsageError: These are others.
    """
    model, _ = read_agent(checkpoint)
    # Values are told apart by their place alone: of other actions they would mean something else.
    if misfit := why_not(model, trained_scale(model, checkpoint), config):
        raise UsageError(f"{checkpoint}: {misfit} (--config)")
    return model


def _policy(
    name: str,
    model: Agent | None,
    process: HiddenProcess | None,
    env: ProbeConditioningEnv,
    rng: np.random.Generator,
) -> Policy:
    if name not in AGENT_POLICIES:
        return baseline_policy(name, process, env, rng)
    assert model is not None
    return model if name == "agent" else ShuffledPolicy(model, rng)


def baseline_policy(
    name: str,
    process: HiddenProcess | None,
    env: ProbeConditioningEnv,
    rng: np.random.Generator,
) -> Policy:
    """Make a policy that does not learn.

    Args:
        name: Of `spm_gym.assembly.policy_names.POLICIES`, but not of `AGENT_POLICIES`.
        process: The settings' hidden process; only random choice does without.
        env: Its microscope is the one that the oracle reads the state of.
        rng: Of its draws.
    """
    if name == "random":
        return RandomPolicy(rng)
    assert process is not None
    if name == "single":
        return MixturePolicy(process.single, rng)
    if name == "blind":
        return MixturePolicy(process.blind, rng)
    level = partial(level_of, levels=process.allowed)
    if name == "mask":
        return MixturePolicy(process.mask_only, rng, level)
    if name.startswith("counting"):
        plan = counting_plan(process, sees_mask=name == "counting-mask")
        return CountingPolicy(plan, rng, level)
    microscope = env.instrument
    assert isinstance(microscope, SimulatedMicroscope)
    return OraclePolicy(process.oracle, lambda: microscope.truth.index)


def _learner(model: Agent) -> Callable[[Transition], None]:
    # A checkpoint of mid-training has the epsilon of its time; the belief agent goes by its steps.
    if isinstance(model, DoubleDQN):
        model.exploration_rate = model.config.epsilon_end
    return model.learn_from
