"""The policies that an evaluation compares, and the episodes they play."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from gymnasium.spaces import Discrete
from tqdm import tqdm

from agents.baselines import (
    CountingPolicy,
    MixturePolicy,
    OraclePolicy,
    RandomPolicy,
    ShuffledPolicy,
)
from agents.checkpoint import MODEL, load_checkpoint
from agents.double_dqn import DoubleDQN
from agents.evaluation import Episode, interleave
from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.policy_names import AGENT_POLICIES, SIMULATOR_POLICIES
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recording import recorded_microscope
from spm_gym.assembly.run_directory import EVALUATION, new_run
from spm_gym.config import Config
from spm_gym.envs.counting import counting_plan
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import level_of, reference_process
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UsageError
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Policy, Transition

_EVALUATION = 0x6576616C
"""Sets an evaluation's worlds and draws apart from those of a training with the same seed."""


def play(
    config: Config,
    checkpoint: Path | None,
    results: dict[str, list[Episode]],
    episodes: int,
    seed: int,
    learn: bool,
    dry_run: bool = False,
) -> None:
    """Let the policies take turns, with a progress bar.

    Args:
        config: Settings of environment and microscope.
        checkpoint: The agent; None if no policy needs it.
        results: Gets the episodes of every policy that it names, in the order of their turns.
        episodes: Of each policy.
        seed: Of the world and of the policies' own draws.
        learn: Whether the agent goes on learning at its final epsilon.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
    """
    prepare_process(config.run.threads)
    model = None if checkpoint is None else _agent(checkpoint, config)
    real = config.run.microscope == "real" and not dry_run
    with ExitStack() as stack:
        run = Path()
        if real:
            run = stack.enter_context(new_run(None, config, "evaluation", EVALUATION))
            print(f"acts are recorded in {run}")
        weights = None if checkpoint is None else checkpoint / MODEL
        instrument = stack.enter_context(
            recorded_microscope(config, run, "evaluate", dry_run, weights)
        )
        env = make_env(config, instrument=instrument)
        process = reference_process(config) if SIMULATOR_POLICIES & results.keys() else None
        # Streams of their own: how many numbers one policy draws changes nothing for the others.
        world, *own_seeds = np.random.SeedSequence([_EVALUATION, seed]).spawn(1 + len(results))
        policies = {
            name: _policy(name, model, process, env, np.random.default_rng(own_seed))
            for name, own_seed in zip(results, own_seeds, strict=True)
        }
        learners = {"agent": _learner(model)} if learn and model is not None else {}
        first = int(world.generate_state(1)[0])
        # In turn, one episode each (paper, *Double DQN*): the hours, the area and the tip are the
        # same for all, so only the policy makes a difference.
        turns = interleave(measured(env), policies, episodes, first, learners)
        for name, episode in tqdm(turns, "episodes", episodes * len(policies), mininterval=1):
            results[name].append(episode)


def _agent(checkpoint: Path, config: Config) -> DoubleDQN:
    """Load the agent of a checkpoint, for the settings that it was trained with.

    Raises:
        UsageError: These are others.
    """
    model = load_checkpoint(checkpoint).model
    env = config.env
    # Values are told apart by their place alone: of other actions they would mean something else.
    if model.action_space != Discrete(len(env.actions)) or model.pixels != env.pixels:
        raise UsageError(
            f"{checkpoint} was trained with images of {model.pixels} px and actions "
            f"{model.action_space}; the settings have env.pixels = {env.pixels} and "
            f"{len(env.actions)} actions: give those it was trained with (--config)"
        )
    return model


def _policy(
    name: str,
    model: DoubleDQN | None,
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


def _learner(model: DoubleDQN) -> Callable[[Transition], None]:
    # A checkpoint of mid-training has the epsilon of its time.
    model.exploration_rate = model.config.epsilon_end

    return model.learn_from
