"""Replay buffer: every step stored once, flipped when it is sampled (paper, *Double DQN*)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.buffers import BaseBuffer
from torch import Tensor

from agents.gathering import gather
from spm_gym.action_index import action_indices
from spm_gym.plain_state import StateError, restore_generator, restored
from spm_gym.types import BoolArray

STORED = ("observations", "next_observations", "actions", "rewards", "dones", "next_masks")
"""Names of the arrays of a buffer."""

_CHECKED_AT_A_TIME = 1000


class TransitionBatch(NamedTuple):
    """A batch of N steps, terminal ones last.

    Attributes:
        observations: (N, 1, H, W) float32.
        actions: (N, 1) int64.
        next_observations: (N, 1, H, W) float32, flipped like ``observations``.
        dones: (N, 1) float32; 1 where the episode terminated, 0 where it was cut off.
        rewards: (N, 1) float32.
        next_masks: (N, A) bool; actions allowed in the next observation.
        ongoing: Number of steps that are not terminal.
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    dones: Tensor
    rewards: Tensor
    next_masks: Tensor
    ongoing: int


@dataclass(frozen=True, slots=True)
class _Counters:
    """State of a `FlipReplay` without its arrays."""

    pos: Annotated[int, Field(ge=0)]
    full: bool
    buffer_size: int
    rng: dict[str, Any]


class FlipReplay(BaseBuffer):
    """First-in-first-out memory of steps, safe for one thread that adds and one that samples.

    The paper stores four copies of every step (the original and three flips); drawing one of the
    four at random when sampling gives the same distribution from a quarter of the memory. Images
    are kept in float16, half of that again: where 2 is the apparent height of a molecule, 200 pm,
    it rounds by at most 0.05 pm, a hundredth of the noise of a good image.

    Args:
        buffer_size: Steps that are kept.
        observation_space: Of one environment, (1, H, W).
        action_space: Discrete.
        device: Where the sampled tensors go.
        n_envs: Environments whose steps arrive together.
        optimize_memory_usage: Must be False; stable-baselines3 always passes it.
        flips: Whether sampled steps are flipped.
        shift: Most pixels by which sampled images are moved along either axis.
        rng: Of the sampling.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        flips: bool = True,
        shift: int = 0,
        rng: np.random.Generator,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("FlipReplay needs the next observations: no optimize_memory_usage")
        super().__init__(buffer_size, observation_space, action_space, device, n_envs)
        shape = observation_space.shape
        # `full` writes every page, `zeros` would not: memory that a run of days will need is taken
        # now or refused now.
        self.observations = np.full((buffer_size, *shape), 0, np.float16)
        self.next_observations = np.full((buffer_size, *shape), 0, np.float16)
        self.actions = np.zeros((buffer_size, 1), np.int64)
        self.rewards = np.zeros((buffer_size, 1), np.float32)
        self.dones = np.zeros((buffer_size, 1), np.float32)
        self.next_masks = np.zeros((buffer_size, int(action_space.n)), np.bool_)
        self.flips = flips
        self.shift = shift
        self.rng = rng
        self._pinned = self.device.type == "cuda"
        self._lock = threading.Lock()

    def add(
        self,
        obs: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        action: NDArray[np.int64],
        reward: NDArray[np.float32],
        done: BoolArray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one step of every environment, unless its action may not have been carried out.

        Args:
            obs: (n_envs, 1, H, W).
            next_obs: (n_envs, 1, H, W); at the end of an episode its last observation.
            action: (n_envs,).
            reward: (n_envs,).
            done: (n_envs,); true at either kind of end.
            infos: ``action_mask`` belongs to ``next_obs``; ``TimeLimit.truncated`` marks ends that
                are not terminal, ``uncertain`` steps that are not stored.

        Raises:
            ValueError: An episode goes on, but no action is allowed; or there is no such action.
        """
        masks = np.stack([info["action_mask"] for info in infos])
        cut_off = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        terminal = np.asarray(done, bool) & ~cut_off
        if not (masks.any(axis=1) | terminal).all():
            raise ValueError("info['action_mask'] allows no action, but the episode has not ended")
        chosen = action_indices(np.ravel(action), len(infos), self.next_masks.shape[1])
        # Of an action that may not have been done the next image tells nothing.
        certain = np.array([not info.get("uncertain", False) for info in infos])
        count = int(certain.sum())
        # A sample that is drawn meanwhile must not mix fields of an old and a new step.
        with self._lock:
            rows = (self.pos + np.arange(count)) % self.buffer_size
            self.observations[rows] = obs[certain]
            self.next_observations[rows] = next_obs[certain]
            self.actions[rows, 0] = np.array(chosen)[certain]
            self.rewards[rows, 0] = np.ravel(reward)[certain]
            self.dones[rows, 0] = terminal[certain]
            self.next_masks[rows] = masks[certain]
            self.full = self.full or self.pos + count >= self.buffer_size
            self.pos = (self.pos + count) % self.buffer_size

    def sample(self, batch_size: int, env: Any = None) -> TransitionBatch:
        """Draw steps with replacement, each flipped in one of four ways at random.

        Args:
            batch_size: N.
            env: Ignored; observations need no further normalisation.

        Raises:
            ValueError: Nothing has been stored yet.
        """
        with self._lock:
            if not self.size():
                raise ValueError("cannot sample from an empty replay buffer")
            rows = self.rng.integers(self.size(), size=batch_size)
            return self._get_samples(rows)

    def rehearse(self, batch_size: int) -> TransitionBatch:
        """Compile what `sample` needs and take its memory, without drawing anything.

        Returns:
            The first stored step, or zeros if there is none, N times.
        """
        first = np.zeros(batch_size, np.int64)
        nowhere = np.zeros((2, batch_size), np.int64)
        return self._transitions(first, nowhere, np.stack([nowhere, nowhere]), batch_size)

    def _get_samples(self, batch_inds: NDArray[np.int64], env: Any = None) -> TransitionBatch:  # type: ignore[override]
        # Terminal steps last: the loss then needs the values of next images of the first part only.
        terminal = self.dones[batch_inds, 0] != 0
        rows = batch_inds[np.argsort(terminal, kind="stable")]
        shape = (2, len(rows))
        flips = self.rng.integers(2, size=shape) if self.flips else np.zeros(shape, np.int64)
        # Flips are those of the whole step, but each of its images is moved by itself: they were
        # taken at different places anyway.
        offsets = self.rng.integers(-self.shift, self.shift + 1, size=(2, *shape))
        return self._transitions(rows, flips, offsets, len(rows) - int(terminal.sum()))

    def _transitions(
        self,
        rows: NDArray[np.int64],
        flips: NDArray[np.int64],
        offsets: NDArray[np.int64],
        ongoing: int,
    ) -> TransitionBatch:
        return TransitionBatch(
            self._images(self.observations, rows, flips, offsets[0]),
            self._moved(self.actions[rows]),
            self._images(self.next_observations, rows, flips, offsets[1]),
            self._moved(self.dones[rows]),
            self._moved(self.rewards[rows]),
            self._moved(self.next_masks[rows]),
            ongoing,
        )

    def _images(
        self,
        stored: NDArray[np.float16],
        rows: NDArray[np.int64],
        flips: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> Tensor:
        """Copy some images, flipped and moved, in float32."""
        shape = (len(rows), *stored.shape[1:])
        images = torch.empty(shape, dtype=torch.float16, pin_memory=self._pinned)
        gather(stored, rows, flips, offsets, images.numpy())
        # Half as much goes to a GPU before it is converted.
        return images.to(self.device, non_blocking=self._pinned).float()

    def _moved(self, values: NDArray[Any]) -> Tensor:
        # From pinned memory the copy to a GPU goes on while the processor prepares the next part.
        tensor = torch.from_numpy(values)
        if self._pinned:
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=self._pinned)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(getattr(self, name).nbytes for name in STORED)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Views of all that is stored, by the names of `STORED`.

        They must be used before the next `add`: a copy would take longer than writing the file.
        """
        with self._lock:
            return {name: getattr(self, name)[: self.size()] for name in STORED}

    def get_state(self) -> dict[str, Any]:
        """Collect all else that is needed to continue."""
        with self._lock:
            rng = dict(self.rng.bit_generator.state)
            return asdict(_Counters(self.pos, bool(self.full), self.buffer_size, rng))

    def set_state(self, state: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `get_state` and `arrays` gave.

        Args:
            state: From `get_state`.
            arrays: From `arrays`; a mapping that reads them one by one saves memory.

        Raises:
            StateError: It belongs to a buffer of another size or of other images, or is damaged.
        """
        counters = restored(_Counters, state)
        if counters.buffer_size != self.buffer_size:
            raise StateError(
                f"the stored replay buffer holds {counters.buffer_size} steps, "
                f"this one {self.buffer_size}"
            )
        if counters.pos >= self.buffer_size:
            raise StateError(f"the stored replay buffer is at step {counters.pos}")
        rows = self.buffer_size if counters.full else counters.pos
        with self._lock:
            for name in STORED:
                ours, theirs = getattr(self, name), arrays[name]
                expected = (rows, *ours.shape[1:])
                if (theirs.shape, theirs.dtype) != (expected, ours.dtype):
                    raise StateError(f"the stored {name} are {theirs.shape} of {theirs.dtype}, not "
                                     f"{expected} of {ours.dtype}")  # fmt: skip
                # In parts: the array of truth values of all at once could be gigabytes.
                for start in range(0, rows, _CHECKED_AT_A_TIME):
                    part = slice(start, start + _CHECKED_AT_A_TIME)
                    if not np.isfinite(theirs[part]).all():
                        raise StateError(f"the stored {name} are not all finite")
                ours[:rows] = theirs
            self._check_stored(rows)
            self.pos, self.full = counters.pos, counters.full
            restore_generator(self.rng, counters.rng)

    def _check_stored(self, rows: int) -> None:
        actions, count = self.actions[:rows], self.next_masks.shape[1]
        if rows and not (actions.min() >= 0 and actions.max() < count):
            raise StateError(f"there are stored actions other than 0 to {count - 1}")
        if not (self.next_masks[:rows].any(axis=1) | (self.dones[:rows, 0] != 0)).all():
            raise StateError("of a stored step that goes on no action is allowed")
