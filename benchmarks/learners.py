"""Agents that learn, each made ready for a number of actions on one environment.

The agents of stable-baselines3 and sb3-contrib see with the network of the double DQN and begin, as
it does, with the weights of the included classifier: what differs is how they learn. Their own
network for images has six times as many weights, and nothing that was learned before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from scoring import belief_agent, learning_seeds, reference_table, settings_classifier
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from agents.belief.recogniser import Recogniser
from agents.double_dqn import DoubleDQN
from agents.evaluation import run_episode
from agents.vgg import VGG
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import Config, load_config
from spm_gym.types import BoolArray, Policy, Transition

PAPER = Path(__file__).parents[1] / "configs" / "paper.yaml"

_ROLLOUT = 100
"""Actions between two updates of PPO; with the library's 2,048 it would hardly learn at all."""

_MEMORY = 64
"""Units of the recurrent layer."""

_QUANTILES = 50
"""Of the returns; with the library's 200 a gradient step takes twice as long."""


class Learner(Protocol):
    """An agent that learns in stages."""

    @property
    def policy(self) -> Policy:
        """Acts as well as the agent can at present."""

    def learn(self, stages: Sequence[int], pause: Callable[[int], None]) -> None:
        """Act and learn; call ``pause`` with each number of actions once there are so many."""


class EpisodePolicy(Policy, Protocol):
    """A policy that learns from one step after the other."""

    def learn_from(self, transition: Transition) -> None:
        """Learn from one step."""


class EpisodeLearner:
    """An agent that learns from whole episodes; it finishes one before it pauses.

    Args:
        policy: Acts and learns.
        env: Where it learns.
        world: Seed of the first reset.
    """

    def __init__(self, policy: EpisodePolicy, env: gym.Env[Any, Any], world: int) -> None:
        self.policy, self._env, self._world = policy, env, world

    def learn(self, stages: Sequence[int], pause: Callable[[int], None]) -> None:
        """Learn from the episodes of one world."""
        first: int | None = self._world
        actions = 0
        for stage in stages:
            while actions < stage:
                episode = run_episode(self._env, self.policy, first, self.policy.learn_from)
                actions, first = actions + episode.length, None
            pause(stage)


class LibraryLearner:
    """An agent of stable-baselines3 or sb3-contrib, or one that is built on them.

    Those that learn from rollouts finish one, and learn from it, before they pause.
    """

    def __init__(self, model: BaseAlgorithm, takes_masks: bool = False) -> None:
        self._model = model
        self.policy: Policy = model if takes_masks else Maskless(model)  # type: ignore[assignment]

    def learn(self, stages: Sequence[int], pause: Callable[[int], None]) -> None:
        """Learn with the library's own loop, which is interrupted where it has learned."""
        # In one call: at a second one the schedules of the library would begin again.
        self._model.learn(stages[-1], callback=_Stages(stages, pause))


class _Stages(BaseCallback):
    """Pauses between two updates."""

    def __init__(self, stages: Sequence[int], pause: Callable[[int], None]) -> None:
        super().__init__()
        self._left, self._pause = list(stages), pause

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Here, not after a step: the library learns from a step, or a rollout, only afterwards.
        while self._left and self.num_timesteps >= self._left[0]:
            self._pause(self._left.pop(0))

    def _on_training_end(self) -> None:
        self._on_rollout_start()


class Maskless:
    """Keeps the masks from a model that has no place for them.

    Such a model can choose what is refused, which costs it a step.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose among all actions; see `spm_gym.types.Policy`."""
        return self._model.predict(observation, state, episode_start, deterministic)


class ClassifierTrunk(BaseFeaturesExtractor):
    """The trunk of a classifier, as it was trained, in front of a library's own layers."""

    def __init__(self, observation_space: gym.Space[Any], network: VGG) -> None:
        super().__init__(observation_space, network.features)
        # A copy for each: online and target network, or two policies, must not share weights.
        self.trunk = deepcopy(network.trunk).train()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to features (N, F)."""
        features: Tensor = self.trunk(images)
        return features


Build = Callable[[Config, gym.Env[Any, Any], int, int], Learner]


def _belief(informed: bool) -> Build:
    def build(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
        world, draws = learning_seeds(seed)
        recogniser = Recogniser.load(shipped_recogniser())
        table = reference_table(config) if informed else None
        rng = np.random.default_rng(draws)
        return EpisodeLearner(belief_agent(config, recogniser, rng, table), env, world)

    return build


def _double_dqn(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
    # Taking turns, not in two threads: the same seed gives the same figures.
    settings = config.agent.model_copy(update={"steps": budget, "parallel": False})
    world, _ = learning_seeds(seed)
    model = DoubleDQN(env, settings, seed=world)
    if settings.from_classifier:
        model.initialise_from(settings_classifier(config).network)
    return LibraryLearner(model, takes_masks=True)


def _paper_double_dqn(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
    # Its 561 million weights want a GPU, and a classifier of the same network.
    paper = load_config(PAPER).agent.model_copy(update={"network": config.agent.network})
    return _double_dqn(config.model_copy(update={"agent": paper}), env, seed, budget)


def _q_learner(kind: type[DQN] | type[QRDQN], **policy: Any) -> Build:
    def build(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
        # The settings of the double DQN, as far as the library has them: its own are for millions
        # of steps, and would copy nothing to the target network within the budget.
        agent, (world, _) = config.agent, learning_seeds(seed)
        falling = min(1.0, (agent.prefill + agent.epsilon_steps) / budget)
        model = kind(
            "MlpPolicy", env, learning_rate=agent.learning_rate, buffer_size=agent.buffer_steps,
            learning_starts=agent.prefill, batch_size=agent.batch_size, gamma=agent.gamma,
            train_freq=1, target_update_interval=agent.target_every,
            exploration_fraction=falling, exploration_final_eps=agent.epsilon_end,
            policy_kwargs=_eyes(config) | policy, seed=world, device="cpu",
        )  # fmt: skip
        return LibraryLearner(model)

    return build


def _ppo(kind: type[BaseAlgorithm], name: str = "MlpPolicy", **policy: Any) -> Build:
    def build(config: Config, env: gym.Env[Any, Any], seed: int, budget: int) -> Learner:
        world, _ = learning_seeds(seed)
        # Orthogonal weights would replace those of the classifier.
        kwargs = _eyes(config) | {"ortho_init": False} | policy
        model = kind(
            name, env, n_steps=_ROLLOUT, batch_size=_ROLLOUT // 2, gamma=config.agent.gamma,
            policy_kwargs=kwargs, seed=world, device="cpu",
        )  # type: ignore[call-arg] # fmt: skip
        return LibraryLearner(model, takes_masks=kind is MaskablePPO)

    return build


def _eyes(config: Config) -> dict[str, Any]:
    """Settings of a library's policy with the network of the classifier before a linear output."""
    return {
        "features_extractor_class": ClassifierTrunk,
        "features_extractor_kwargs": {"network": settings_classifier(config).network},
        "net_arch": [],
        # Images are heights, not bytes.
        "normalize_images": False,
    }


LEARNERS: dict[str, Build] = {
    "double-dqn": _double_dqn,
    "double-dqn-paper": _paper_double_dqn,
    "belief": _belief(informed=False),
    "belief-prior": _belief(informed=True),
    "dqn": _q_learner(DQN),
    "qr-dqn": _q_learner(QRDQN, n_quantiles=_QUANTILES),
    "ppo": _ppo(PPO),
    "maskable-ppo": _ppo(MaskablePPO),
    "recurrent-ppo": _ppo(
        RecurrentPPO, "MlpLstmPolicy", lstm_hidden_size=_MEMORY, shared_lstm=True,
        enable_critic_lstm=False,
    ),
}  # fmt: skip
"""Makes an agent from settings, an environment, a seed and the number of actions to come."""
