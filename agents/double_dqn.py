"""Masked double DQN on stable-baselines3's DQN (paper, *Double DQN*)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from agents.learner import Learner, Snapshot, thinned_weights
from agents.masked import epsilon_greedy
from agents.policy import VGGPolicy
from agents.replay import FlipReplay
from agents.schedules import epsilon, learning_rate
from agents.temporal_difference import TemporalDifference
from agents.vgg import VGG
from spm_gym.config import AgentConfig
from spm_gym.plain_state import restore_generator
from spm_gym.types import BoolArray, Transition

SNAPSHOT_EVERY = 4
"""Gradient steps after which the acting thread gets the new weights."""


class DoubleDQN(DQN):
    """Double DQN that never takes, nor bootstraps from, an action that is not allowed.

    It differs from the library's DQN in the network, in the masks, in the targets, in counting
    epsilon and learning rate by its own steps and the target network's age by gradient steps, and
    in that it may learn in a second thread. Everything else is the library's: saving, loading,
    callbacks, loggers. `DoubleDQN.load` needs no environment for prediction; like the library's it
    unpickles, so it must only be given files from a trusted source.

    Args:
        env: An environment or a vector of them, with ``action_masks()`` and
            ``info["action_mask"]``; None only to load a model for prediction.
        config: Settings; None for the defaults.
        seed: Of initial weights, exploration, sampling and, as is the library's custom, of the
            environment's first reset.
        tensorboard_log: Directory for TensorBoard.
        verbose: As in stable-baselines3.
        policy: Set by the library when it loads a model.
        device: Set by the library when it loads a model; otherwise that of the settings.
    """

    replay_buffer: FlipReplay  # type: ignore[assignment]

    def __init__(
        self,
        env: GymEnv | None,
        config: AgentConfig | None = None,
        seed: int | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        *,
        policy: type[DQNPolicy] = VGGPolicy,
        device: torch.device | str | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        self.config = config or AgentConfig()
        # Generators apart, so that the thread that samples and the one that acts do not share one.
        sampling, exploring = np.random.SeedSequence(seed).spawn(2)
        self._exploring = np.random.default_rng(exploring)
        self._learner: Learner | None = None
        self._snapshot: Snapshot | None = None
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=self.config.learning_rate,
            buffer_size=self.config.buffer_steps,
            learning_starts=self.config.prefill,
            batch_size=self.config.batch_size,
            gamma=self.config.gamma,
            train_freq=1,
            replay_buffer_class=FlipReplay,  # type: ignore[arg-type]
            replay_buffer_kwargs={
                "flips": self.config.flips,
                "shift": self.config.shift_pixels,
                "rng": np.random.default_rng(sampling),
            },
            policy_kwargs={"network": self.config.network, "net_arch": []},
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=self.config.device if device is None else device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        self._difference = TemporalDifference(self.config, self.device)

    def initialise_from(self, classifier_network: VGG) -> None:
        """Take over the classifier's trunk; the output layer stays random (paper, *Double DQN*).

        Raises:
            ValueError: The classifier is another member of the network family.
        """
        network = self._network()
        try:
            network.trunk.load_state_dict(classifier_network.trunk.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"the classifier's network ({classifier_network.config}) "
                f"cannot initialise the agent's ({network.config})"
            ) from error
        self.q_net_target.load_state_dict(self.q_net.state_dict())

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str = "DoubleDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> DoubleDQN:
        """Act and learn, as in stable-baselines3.

        Raises:
            LearnerError: The learning thread stopped on an error.
        """
        if reset_num_timesteps:
            self._n_updates = 0
        run = partial(
            super().learn,
            total_timesteps,
            callback,
            log_interval,  # type: ignore[arg-type]
            tb_log_name,
            reset_num_timesteps,
            progress_bar,
        )
        if not self.config.parallel:
            return run()
        self._snapshot = Snapshot(self.q_net)
        try:
            with Learner(self._learn_aside, self.config.max_lag, self._n_updates) as self._learner:
                return run()
        finally:
            self._learner = self._snapshot = None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Do, or let the learning thread do, the gradient steps that are due.

        Args:
            gradient_steps: Ignored: the replay ratio of the settings decides.
            batch_size: Ignored: that of the settings.

        Raises:
            LearnerError: The learning thread stopped on an error.
        """
        if self._learner is None:
            losses = self._learn_until_due()
        else:
            self._learner.allow(self._due())
            losses = self._learner.take_losses()
            self.logger.record("learn/backlog", self._learner.backlog)
        for loss in losses:
            self.logger.record_mean("learn/loss", loss)
        self.logger.record("learn/replay_ratio", self.replay_ratio)
        self.logger.record("learn/learning_rate", self.policy.optimizer.param_groups[0]["lr"])

    def learn_from(self, transition: Transition) -> None:
        """Learn from one step taken outside `learn`; the gradient steps due are done at once."""
        # The library marks both ends as done, and the time limit by a key of the info.
        ended = transition.terminated or transition.truncated
        cut_off = transition.truncated and not transition.terminated
        info = {"action_mask": transition.next_mask, "uncertain": transition.uncertain}
        self.replay_buffer.add(
            transition.observation[None],
            transition.next_observation[None],
            np.array([transition.action]),
            np.array([transition.reward], np.float32),
            np.array([ended]),
            [info | {"TimeLimit.truncated": cut_off}],
        )
        self.num_timesteps += 1
        self._learn_until_due()

    def gradient_step(self) -> float:
        """Do one step of the optimiser on one batch.

        Returns:
            The loss before the step.

        Raises:
            FloatingPointError: The loss is not finite; nothing was changed.
        """
        batch = self.replay_buffer.sample(self.batch_size)
        loss = self._difference.loss(self._network(), self._network(target=True), batch)
        return self._descend(loss)

    def predict(
        self,
        observation: NDArray[np.float32] | dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose the best allowed action or, unless deterministic, sometimes a random allowed one.

        Args:
            observation: (1, H, W), or (N, 1, H, W).
            state: Returned unchanged.
            episode_start: Ignored.
            deterministic: Whether to always take the best.
            action_masks: (A,) or (N, A); None allows everything.

        Returns:
            Action () or (N,), and ``state``.

        Raises:
            ValueError: A mask allows nothing.
        """
        images, batched = self.policy.obs_to_tensor(observation)
        assert isinstance(images, Tensor)
        shape = (len(images), int(self.action_space.n))  # type: ignore[attr-defined]
        masks = np.ones(shape, bool) if action_masks is None else np.reshape(action_masks, shape)
        actions = self._explore(lambda: self._evaluate(images), masks, deterministic)
        return (actions if batched else actions[0]), state

    def decide(
        self, observation: NDArray[np.float32], mask: BoolArray, deterministic: bool
    ) -> tuple[int, NDArray[np.float32]]:
        """Choose as `predict` does for one image (1, H, W), and give the values of all actions."""
        # Evaluated once: the journal records the values also of a random action.
        values = self.q_values(observation)
        actions = self._explore(lambda: values[None], mask[None], deterministic)
        return int(actions[0]), values

    def q_values(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the values of all actions, (A,) or (N, A), allowed or not."""
        images, batched = self.policy.obs_to_tensor(observation)
        assert isinstance(images, Tensor)
        values = self._evaluate(images)
        return values if batched else values[0]

    def rehearse(self) -> None:
        """Compute gradients without a step, so that memory is taken, or refused, now.

        Convolutions keep some for every size of batch, and batches of targets have all sizes.
        """
        network = self._network()
        kept = [buffer.clone() for buffer in network.buffers()]
        blank = self.replay_buffer.rehearse(self.batch_size)
        for ongoing in range(self.batch_size + 1):
            loss = self._difference.loss(
                network, self._network(target=True), blank._replace(ongoing=ongoing)
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.policy.optimizer.zero_grad()
        # Batch norm in training mode has counted the blank images; undo that.
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), kept, strict=True):
                buffer.copy_(before)

    def skip_training(self) -> None:
        """Count the configured training as done, for weights that were read from a file."""
        self.num_timesteps = self.config.steps
        self._n_updates = self._due()
        self.exploration_rate = epsilon(self.config, self.num_timesteps)

    @property
    def pixels(self) -> int:
        """Side of the images it takes."""
        assert self.observation_space.shape is not None
        return self.observation_space.shape[-1]

    @property
    def exploration_state(self) -> dict[str, Any]:
        """State of the generator that draws random actions."""
        return dict(self._exploring.bit_generator.state)

    @exploration_state.setter
    def exploration_state(self, state: dict[str, Any]) -> None:
        restore_generator(self._exploring, state)

    def weights(self, most: int) -> dict[str, Tensor]:
        """Thin out every weight tensor that acts at present, see `thinned_weights`."""
        if self._snapshot is not None:
            return self._snapshot.weights(most)
        return thinned_weights(self.q_net, most)

    @property
    def replay_ratio(self) -> float:
        """Gradient steps done per environment step since the prefill; 0 before."""
        return self._n_updates / max(1, self.num_timesteps - self.config.prefill)

    def finish_learning(self) -> None:
        """Wait until the gradient steps that are due are done.

        Raises:
            LearnerError: The learning thread stopped on an error.
        """
        if self._learner is not None:
            self._learner.finish()

    def save(
        self,
        path: str | Path | BinaryIO,  # type: ignore[override]
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save as in stable-baselines3, after the gradient steps that are due.

        Reading such a file runs code from it; `agents.checkpoint` writes files of data only.

        Raises:
            LearnerError: The learning thread stopped on an error.
        """
        self.finish_learning()
        super().save(path, exclude, include)  # type: ignore[arg-type]

    def _explore(
        self, evaluate: Callable[[], NDArray[np.float32]], masks: BoolArray, deterministic: bool
    ) -> NDArray[np.int64]:
        rate = 0.0 if deterministic else self.exploration_rate
        return epsilon_greedy(evaluate, masks, rate, self._exploring)

    def _network(self, target: bool = False) -> VGG:
        return cast(VGG, (self.q_net_target if target else self.q_net).q_net)

    def _due(self) -> int:
        steps = max(0, self.num_timesteps - self.config.prefill)
        # The margin keeps products such as 0.1 * 30 from falling short of a whole number.
        return math.floor(self.config.replay_ratio * steps + 1e-9)

    def _learn_until_due(self) -> list[float]:
        return [self.gradient_step() for _ in range(self._due() - self._n_updates)]

    def _learn_aside(self) -> float:
        # Not after every step: copying the weights holds up the thread that acts.
        loss = self.gradient_step()
        if self._n_updates % SNAPSHOT_EVERY == 0:
            assert self._snapshot is not None
            self._snapshot.renew(self.q_net)
        return loss

    def _descend(self, loss: Tensor) -> float:
        optimizer = self.policy.optimizer
        # By gradient steps, so that parallel and alternating learning decay alike.
        step = self.config.prefill + self._n_updates / self.config.replay_ratio
        update_learning_rate(optimizer, learning_rate(self.config, step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.item())  # only now: a GPU would have waited for the gradients
        if not math.isfinite(value):
            raise FloatingPointError(f"loss is {value} after {self._n_updates} gradient steps")
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.q_net.parameters(), self.config.max_grad_norm)
        optimizer.step()
        self._n_updates += 1
        if self._n_updates % self.config.target_every == 0:
            self.q_net_target.load_state_dict(self.q_net.state_dict())
        return value

    def _evaluate(self, images: Tensor) -> NDArray[np.float32]:
        if self._snapshot is not None:
            values = self._snapshot(images)
        else:
            with torch.no_grad():
                values = self.q_net(images)
        array: NDArray[np.float32] = values.cpu().numpy()
        return array

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        assert self.env is not None
        assert isinstance(self._last_obs, np.ndarray)
        self.exploration_rate = epsilon(self.config, self.num_timesteps)
        # The library knows no masks: it would draw its random actions from all.
        masks = np.stack(self.env.env_method("action_masks"))
        actions, _ = self.predict(self._last_obs, action_masks=masks)
        return actions, actions

    def _on_step(self) -> None:
        """Leave out the library's target update; `_sample_action` sets epsilon."""

    def _excluded_save_params(self) -> list[str]:
        own = ["_learner", "_snapshot", "_difference", "batch_norm_stats"]
        return [*super()._excluded_save_params(), *own, "batch_norm_stats_target"]
