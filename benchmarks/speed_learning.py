"""Figures of learning: the gradient step, the whole loop, the memory, the paper's network."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from time import perf_counter, thread_time
from typing import cast

import numpy as np
import torch
from gymnasium import spaces
from measure import Figure, Outcome, compare, of_values
from paper_network import paper_network
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn import functional

from agents.double_dqn import DoubleDQN
from agents.monitor import TensorBoardMonitor
from agents.replay import FlipReplay
from agents.schedules import epsilon
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import keep_freed_memory
from spm_gym.config import Config, load_config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv

PREFILL = 150
SETTINGS = ["agent.parallel=false", "agent.device=cpu", f"agent.prefill={PREFILL}"]
EXPERIENCES = 15_000
ORIENTATIONS = 4
IN_A_ROW = 10
"""Steps whose times are added up: one that ends an episode takes many times as long as others."""


def figures(quick: bool) -> Iterator[Outcome]:
    """Default network and batch, on the processor; the paper's network on a GPU if there is one."""
    keep_freed_memory()  # as in a training run
    config = load_config(None, SETTINGS)
    yield gradient_step(config, 100 if quick else 300)
    yield learning(config, 12 if quick else 40)
    yield replay_memory()
    yield paper_network(5 if quick else 30)


def gradient_step(config: Config, pairs: int) -> Figure:
    """Time a gradient step, sampling included, beside a bare step of torch."""
    model = prefilled(config)
    return compare(
        "gradient step, default network, batch 64",
        model.gradient_step,
        bare_step(model),
        at_least=1 / 1.10,
        pairs=pairs,
        clock=thread_time,
        note=(
            "time of one processor; reference: nothing but torch, always on the same batch; ours "
            "draws, flips and shifts another one every time, but does not look at what follows a "
            "terminal state"
        ),
    )


def prefilled(config: Config) -> DoubleDQN:
    """Make an agent that has acted at random and will learn from the next step on."""
    model = DoubleDQN(Monitor(make_env(config)), config.agent, seed=0)
    return model.learn(PREFILL, log_interval=None)


def bare_step(model: DoubleDQN) -> Callable[[], None]:
    """Make a gradient step by torch alone, on copies of the networks and one batch."""
    online, target = copy.deepcopy(model.q_net.q_net), copy.deepcopy(model.q_net_target.q_net)
    optimizer = torch.optim.Adam(
        online.parameters(),
        lr=model.config.learning_rate,
        fused=model.policy.optimizer.defaults.get("fused"),
    )
    batch = model.replay_buffer.sample(model.batch_size)

    def step() -> None:
        with torch.no_grad():
            following = online(batch.next_observations)
            best = following.masked_fill(~batch.next_masks, -torch.inf).argmax(1, keepdim=True)
            value = target(batch.next_observations).gather(1, best)
            td_target = batch.rewards + (1 - batch.dones) * model.gamma * value
        loss = functional.mse_loss(online(batch.observations).gather(1, batch.actions), td_target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def learning(config: Config, groups: int) -> Figure:
    """Time the loop with its callback for TensorBoard, beside a twin that does only its parts."""
    model, twin = prefilled(config), prefilled(config)
    turns = ByTurns(Parts(twin))
    names = [action.name for action in config.env.actions]
    watch = TensorBoardMonitor(names, config.run.image_every)
    with tempfile.TemporaryDirectory() as directory:
        model.set_logger(configure(directory, ["tensorboard"]))
        model.learn(
            groups * IN_A_ROW,
            CallbackList([turns, watch]),
            log_interval=None,
            reset_num_timesteps=False,
        )
        model.logger.close()
    if not same_weights(model, twin):
        raise RuntimeError("the parts did something else than the loop")
    return of_values(
        "learn() at replay ratio 1, one step",
        in_groups(turns.whole),
        in_groups(turns.parts),
        at_least=1 / 1.15,
        unit="ms",
        note=(
            "reference: acting, step of the environment and gradient step of a twin, by turns; "
            "the twin ends with the same weights to the last bit"
        ),
    )


class Parts:
    """Does the steps of `learn`, but times only acting, stepping and learning."""

    def __init__(self, model: DoubleDQN) -> None:
        env = model.get_env()
        assert isinstance(env, DummyVecEnv)
        self._model = model
        self._env = cast(ProbeConditioningEnv, env.envs[0].unwrapped)

    def step(self) -> float:
        """Take one step; returns the seconds that its parts took."""
        model, env = self._model, self._env
        assert env.processed is not None
        observation = env.processed.observation.copy()
        model.exploration_rate = epsilon(model.config, model.num_timesteps)
        started = perf_counter()
        action, _ = model.predict(observation, action_masks=env.action_masks())
        following, reward, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        if ended:
            env.reset()
        acted = perf_counter()
        model.replay_buffer.add(
            observation[None],
            following[None],
            np.array([action]),
            np.array([reward]),
            np.array([ended]),
            [info | {"TimeLimit.truncated": truncated and not terminated}],
        )
        model.num_timesteps += 1
        restarted = perf_counter()
        model.gradient_step()
        return perf_counter() - restarted + acted - started


class ByTurns(BaseCallback):
    """Lets the parts take a step after every step of the loop, and times both."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._resumed: float | None = None
        self.whole: list[float] = []
        self.parts: list[float] = []

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            self.whole.append(perf_counter() - self._resumed)
            self.parts.append(self._parts.step())
        self._resumed = perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._on_rollout_start()


def same_weights(first: DoubleDQN, second: DoubleDQN) -> bool:
    """Whether two agents have learned the same, to the last bit."""
    pairs = zip(first.policy.parameters(), second.policy.parameters(), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def in_groups(seconds: list[float]) -> list[float]:
    """Mean ms of so many in a row."""
    means: list[float] = (1e3 * np.reshape(seconds, (-1, IN_A_ROW)).mean(axis=1)).tolist()
    return means


def replay_memory() -> Figure:
    """Count the bytes of all that is kept of the paper's experiences."""
    space = spaces.Box(-1.5, 1.5, (1, 64, 64), np.float32)
    rng = np.random.default_rng(0)
    buffer = FlipReplay(EXPERIENCES // ORIENTATIONS, space, spaces.Discrete(12), "cpu", rng=rng)
    pair = 2 * 4 * 64 * 64
    return of_values(
        "memory of the replay buffer, 15,000 paper experiences",
        [buffer.nbytes / 2**20],
        [EXPERIENCES * pair / 2**20],
        at_least=4,
        unit="MiB",
        note=(
            "reference: pairs of images in float32; ours: 3,750 steps in float16, flipped when "
            "sampled, with actions, rewards and masks"
        ),
    )
