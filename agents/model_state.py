"""State of a double DQN as tensors and plain data, so that reading it from a file runs no code."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces
from torch import Tensor

from agents.double_dqn import DoubleDQN
from agents.torch_state import Generator, below, moments, restore_optimiser
from agents.vgg import VGG, check_fit
from spm_gym.config import AgentConfig, Fraction
from spm_gym.plain_state import StateError, array_of, restored

_POLICY, _OPTIMISER = "policy.", "optimiser."
_NETWORK = f"{_POLICY}q_net.q_net."

Count = Annotated[int, Field(ge=0)]
Bounds = Annotated[NDArray[np.float32], array_of(np.float32, 1, None, None, finite=False)]
Images = Annotated[NDArray[np.float32], array_of(np.float32, None, 1, None, None)]


@dataclass(frozen=True, slots=True)
class ModelState:
    """State of a model without its tensors and its replay buffer.

    Attributes:
        config: Settings.
        seed: Initial seed.
        low: Least values of an image.
        high: Largest values of an image.
        actions: Number of actions.
        steps: Environment steps done.
        updates: Gradient steps done.
        episodes: Ended so far.
        epsilon: Present share of random actions.
        learning_rate: Of the last gradient step.
        observations: The last ones; None before the first.
        recent: Return, length and time of the last episodes, for logs.
        successes: Of the last episodes, for logs.
        exploring: State of the generator of random actions.
        replay: Counters of the replay buffer.
        torch: State of torch's generator.
        cuda: States of the generators of all GPUs.
    """

    config: AgentConfig
    seed: Count | None
    low: Bounds
    high: Bounds
    actions: Annotated[int, Field(ge=1, le=10_000)]
    steps: Count
    updates: Count
    episodes: Count
    epsilon: Fraction
    learning_rate: Annotated[float, Field(ge=0)]
    observations: Images | None
    recent: list[dict[str, float]]
    successes: list[bool]
    exploring: dict[str, Any]
    replay: dict[str, Any]
    torch: Generator
    cuda: list[Generator]

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return int(self.low.shape[-1])


def get_state(model: DoubleDQN) -> dict[str, Any]:
    """Collect the state of a model and of torch, with the fields of `ModelState`."""
    space = model.observation_space
    assert isinstance(space, spaces.Box)
    assert isinstance(model.action_space, spaces.Discrete)
    assert not isinstance(model._last_obs, dict)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    state = ModelState(
        config=model.config,
        seed=model.seed,
        low=space.low,
        high=space.high,
        actions=int(model.action_space.n),
        steps=model.num_timesteps,
        updates=model._n_updates,
        episodes=model._episode_num,
        epsilon=model.exploration_rate,
        learning_rate=model.policy.optimizer.param_groups[0]["lr"],
        observations=model._last_obs,
        recent=list(model.ep_info_buffer or ()),
        successes=[bool(success) for success in model.ep_success_buffer or ()],
        exploring=model.exploration_state,
        replay=model.replay_buffer.get_state(),
        torch=torch.get_rng_state().numpy(),
        cuda=[each.numpy() for each in cuda],
    )
    return asdict(state) | {"config": model.config.model_dump(mode="json")}


def tensors(model: DoubleDQN) -> dict[str, Tensor]:
    """Weights of both networks, and moments of the optimiser."""
    found = {_POLICY + name: value for name, value in model.policy.state_dict().items()}
    found |= {_OPTIMISER + name: value for name, value in moments(model.policy.optimizer).items()}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def network(state: ModelState, tensors: Mapping[str, Tensor]) -> VGG:
    """Build the network that acts, for inspection.

    Raises:
        ValueError: The tensors are not those of such a network.
    """
    weights = below(_NETWORK, tensors)
    return VGG.of_file(state.config.network, state.actions, state.pixels, weights)


def build(
    state: ModelState,
    tensors: Mapping[str, Tensor],
    replay: Mapping[str, NDArray[Any]],
    env: GymEnv | None,
    device: torch.device | str,
) -> DoubleDQN:
    """Build the model that goes on from this state; torch's generators are left to the caller.

    Args:
        state: Of the model.
        tensors: From `tensors`.
        replay: Arrays of the replay buffer.
        env: The environment to go on in; None for prediction only.
        device: A torch device.

    Raises:
        ValueError: Something does not fit, or the environment has other images or actions.
    """
    # Checked before memory is taken for a size that the file merely claims.
    network(state, tensors)
    model = DoubleDQN(env, state.config, state.seed, device=device, _init_setup_model=False)
    model.observation_space = spaces.Box(state.low, state.high, dtype=np.float32)
    model.action_space = spaces.Discrete(state.actions)
    if model.env is None:
        model.n_envs = 1
    else:
        check_for_correct_spaces(model.env, model.observation_space, model.action_space)
        expected = (model.env.num_envs, *state.low.shape)
        if state.observations is not None and state.observations.shape != expected:
            raise StateError(f"its last images are {state.observations.shape}, not {expected}")
    model._setup_model()
    weights = below(_POLICY, tensors)
    check_fit(model.policy, weights)
    model.policy.load_state_dict(weights)
    restore_optimiser(model.policy.optimizer, state.learning_rate, below(_OPTIMISER, tensors))
    model.replay_buffer.set_state(state.replay, replay)
    model.num_timesteps = state.steps
    model._n_updates = state.updates
    model._episode_num = state.episodes
    model.exploration_rate = state.epsilon
    model.exploration_state = state.exploring
    model._last_obs = state.observations
    length = model._stats_window_size
    model.ep_info_buffer = deque(state.recent, maxlen=length)
    model.ep_success_buffer = deque(state.successes, maxlen=length)
    return model


def restore_torch(state: ModelState) -> None:
    """Restore torch's generators; those of GPUs if there are as many as before.

    Raises:
        RuntimeError: A state is not that of a generator.
    """
    # Dropout and initial weights are drawn from these; agents sample by generators of their own.
    torch.set_rng_state(torch.from_numpy(state.torch))
    if len(state.cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([torch.from_numpy(each) for each in state.cuda])


def read_state(values: Any) -> ModelState:
    """Check a state that `get_state` gave.

    Raises:
        StateError: It is something else.
    """
    return restored(ModelState, values)
