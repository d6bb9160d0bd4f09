"""Many simulated microscopes in step, as one Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from spm_gym.action_index import action_indices
from spm_gym.config import EnvConfig
from spm_gym.envs.observation import (
    Imaging,
    ScanOutcome,
    classifier_of,
    next_frame,
    process_scans,
)
from spm_gym.envs.probe_conditioning import (
    ProbeConditioningEnv,
    check_preview_classifiers,
    check_render_mode,
)
from spm_gym.envs.reset_options import validate_options
from spm_gym.envs.spaces import spaces
from spm_gym.envs.task import ConditioningTask
from spm_gym.errors import InstrumentError, brief
from spm_gym.imaging.fitting import fitted
from spm_gym.instrument.sim.batch import scan_all
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import BoolArray, Classifier, Frame, Scan

Floats = NDArray[np.float64]
Images = NDArray[np.float32]


class ProbeConditioningVectorEnv(VectorEnv[Images, NDArray[np.integer[Any]], NDArray[Any]]):
    """N simulated microscopes that are imaged, read and classified together.

    Environment i does what a `ProbeConditioningEnv` does that is seeded alike; actions,
    observations, rewards and ``info`` are explained there. What comes back has the form that
    `gymnasium.vector.SyncVectorEnv` gives it: an array over the N environments for every key of
    ``info``, and beside it, under ``"_" + key``, which environments have it.

    An `InstrumentError` of some environments is raised after the others have finished their step;
    its notes name the environments.

    Attributes:
        microscopes: One for each environment.

    Args:
        microscopes: N of them; they begin again at every seeded reset.
        classifiers: One for each microscope; one that is shared by all classifies in batches.
        config: Settings of the environment; None for the defaults. Height scale and size of the
            observations that they leave open are the classifiers'.
        render_mode: None or "rgb_array".
        autoreset_mode: When an environment whose episode has ended is reset.
        preview_classifiers: Do the same for previews; one for each microscope.

    Raises:
        ConfigError: A classifier was trained with another height scale, or takes no images of
            their size.
        ValueError: There is no microscope, a mode is unknown, or nothing classifies previews.
    """

    def __init__(
        self,
        microscopes: Sequence[SimulatedMicroscope],
        classifiers: Sequence[Classifier],
        config: EnvConfig | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        preview_classifiers: Sequence[Classifier | None] | None = None,
    ) -> None:
        if not microscopes or len(classifiers) != len(microscopes):
            raise ValueError(
                "num_envs must be at least 1, with one classifier each, "
                f"not {len(microscopes)} with {len(classifiers)} classifiers"
            )
        check_render_mode(render_mode)
        self.config = fitted(config or EnvConfig(), *classifiers)
        self.num_envs = len(microscopes)
        previews = preview_classifiers or [None] * self.num_envs
        check_preview_classifiers(self.config, previews)
        self.microscopes = tuple(microscopes)
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = ProbeConditioningEnv.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = spaces(self.config)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._classifiers = tuple(zip(classifiers, previews, strict=True))
        self._tasks = [ConditioningTask(microscope, self.config) for microscope in microscopes]
        self._rngs: list[tuple[np.random.Generator, int] | None] = [None] * self.num_envs
        self._ended = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Images, dict[str, Any]]:
        """Damage the probes and take images.

        Args:
            seed: Environment i is seeded with ``seed + i`` or ``seed[i]``; None goes on in the
                present world.
            options: ``"damage"`` as for the single environment; ``"reset_mask"``, (N,) bool,
                says which environments are reset.

        Returns:
            Present observations of all environments, and ``info`` of those that were reset.

        Raises:
            InstrumentError: An environment had no usable image.
            ValueError: An option is unknown, or an option or a seed is not valid.
        """
        validate_options(options, self.config, ("damage", "reset_mask"))
        options = dict(options or {})
        mask = self._checked_mask(options.pop("reset_mask", None))
        seeds = self._each_seed(seed)
        which = np.flatnonzero(mask).tolist()
        seeded = [i for i in which if seeds[i] is not None]
        # All are made before any is replaced: an invalid seed must leave everything as it is.
        for i, rng in [(i, seeding.np_random(seeds[i])) for i in seeded]:
            self._rngs[i] = rng
        _raise_first(self._reset(which, seeded, options))
        return self._observations(), self._infos(which)

    def step(
        self, actions: NDArray[np.integer[Any]] | Sequence[int]
    ) -> tuple[Images, Floats, BoolArray, BoolArray, dict[str, Any]]:
        """Carry out an action in every environment, or reset it, as the autoreset mode says.

        Args:
            actions: (N,); those of environments that are reset are ignored.

        Raises:
            ValueError: Not N actions, or no such action.
            gymnasium.error.ResetNeeded: An environment has to be reset first.
            InstrumentError: In an environment the action failed, or there was no usable image.
        """
        chosen = self._checked_actions(actions)
        reset = self._ended.copy()
        if reset.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            which = np.flatnonzero(reset).tolist()
            raise gym.error.ResetNeeded(f"the episodes of environments {which} have ended")
        failed = self._image(
            {
                i: task.reset(self._rng(i)) if reset[i] else task.step(chosen[i], self._rng(i))
                for i, task in enumerate(self._tasks)
            }
        )
        rewards, terminated, truncated = self._observe(reset, failed)
        # A failed step leaves its episode open; a failed reset has to be tried again.
        self._ended[list(failed)] = reset[list(failed)]
        infos: dict[str, Any] = {}
        # Observations and infos of the end are kept first: the reset replaces them.
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._last_infos()
            failed |= self._reset(np.flatnonzero(self._ended).tolist())
        _raise_first(failed)
        infos |= self._infos(range(self.num_envs))
        return self._observations(), rewards, terminated, truncated, infos

    def action_masks(self) -> BoolArray:
        """Which actions the present images allow, (N, 12)."""
        return np.stack([task.present.mask for task in self._tasks])

    def render(self) -> tuple[Any, ...] | None:
        """Draw the present scans beside the region maps, each (height, width, 3) uint8."""
        if self.render_mode is None:
            return None
        return tuple(task.draw() for task in self._tasks)

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the microscopes."""
        for microscope in self.microscopes:
            microscope.close()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the environments."""
        return tuple(self._rng(i) for i in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the generators."""
        return tuple(self._seeded(i)[1] for i in range(self.num_envs))

    def _image(self, imagings: dict[int, Imaging]) -> dict[int, InstrumentError]:
        """Take all images that the rules ask for, in rounds of at most one for each environment.

        Returns:
            The error that ended the imaging of an environment, by environment.
        """
        # An error ends the imaging of its environment only: the others have to finish their step,
        # or their actions would have been done without an observation.
        failed: dict[int, InstrumentError] = {}
        outcomes: dict[int, ScanOutcome | None] = dict.fromkeys(imagings)
        while outcomes:
            frames: dict[int, Frame] = {}
            for i, outcome in outcomes.items():
                try:
                    frame = next_frame(imagings[i], outcome)
                except InstrumentError as error:
                    failed[i] = error
                else:
                    if frame is not None:
                        frames[i] = frame
            outcomes = self._scan(frames) if frames else {}
        return failed

    def _scan(self, frames: dict[int, Frame]) -> dict[int, ScanOutcome | None]:
        microscopes = [self.microscopes[i] for i in frames]
        # As in the single environment: during a preview the piezo settles.
        settled = self.config.settle_fraction if self.config.preview_lines is None else 0.0
        taken = scan_all(microscopes, list(frames.values()), settled)
        outcomes: dict[int, ScanOutcome | None] = {}
        scans: dict[int, Scan] = {}
        for (i, frame), scan in zip(frames.items(), taken, strict=True):
            if isinstance(scan, InstrumentError):
                outcomes[i] = scan
            else:
                scans[i] = scan
                self._tasks[i].navigator.use_up(frame)
        # All images of a round go to the classifier in one batch, which is much faster.
        if scans:
            classifiers = [classifier_of(scan, *self._classifiers[i]) for i, scan in scans.items()]
            processed = process_scans(list(scans.values()), classifiers, self.config)
            outcomes.update(zip(scans, processed, strict=True))
        return outcomes

    def _observe(
        self, reset: BoolArray, failed: dict[int, InstrumentError]
    ) -> tuple[Floats, BoolArray, BoolArray]:
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        for i, task in enumerate(self._tasks):
            if not reset[i] and i not in failed:
                rewards[i], terminated[i], truncated[i] = task.observe(task.present)
        self._ended = terminated | truncated
        return rewards, terminated, truncated

    def _reset(
        self,
        which: Sequence[int],
        seeded: Sequence[int] = (),
        options: dict[str, Any] | None = None,
    ) -> dict[int, InstrumentError]:
        failed = self._image(
            {i: self._tasks[i].reset(self._rng(i), i in seeded, options) for i in which}
        )
        self._ended[[i for i in which if i not in failed]] = False
        return failed

    def _last_infos(self) -> dict[str, Any]:
        """Keep last observations and infos of the episodes that have ended, before the reset."""
        which = np.flatnonzero(self._ended).tolist()
        last = np.full(self.num_envs, None, dtype=object)
        for i in which:
            last[i] = self._tasks[i].present.observation.copy()
        return {"final_obs": last, "_final_obs": self._ended.copy(),
                "final_info": self._infos(which), "_final_info": self._ended.copy()}  # fmt: skip

    def _observations(self) -> Images:
        return np.stack([task.present.observation for task in self._tasks])

    def _infos(self, which: Sequence[int]) -> dict[str, Any]:
        return gather_infos([self._tasks[i].info() for i in which], which, self.num_envs)

    def _rng(self, i: int) -> np.random.Generator:
        return self._seeded(i)[0]

    def _seeded(self, i: int) -> tuple[np.random.Generator, int]:
        seeded = self._rngs[i]
        if seeded is None:
            seeded = self._rngs[i] = seeding.np_random()
        return seeded

    def _each_seed(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        # Seeds that count up, as Gymnasium's own vector environments have them.
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"as many seeds as environments: {self.num_envs}, not {len(seed)}")
        return seed

    def _checked_mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        given = np.asarray(mask)
        if given.shape != (self.num_envs,) or given.dtype != np.bool_ or not given.any():
            raise ValueError(
                f"options['reset_mask'] must be ({self.num_envs},) bool, true somewhere, "
                f"not {given.shape} {given.dtype}: {brief(mask)}"
            )
        untouched = [
            i for i, task in enumerate(self._tasks) if task.processed is None and not given[i]
        ]
        if untouched:
            raise gym.error.ResetNeeded(f"environments {untouched} were never reset")
        return given

    def _checked_actions(self, actions: NDArray[np.integer[Any]] | Sequence[int]) -> list[int]:
        for task in self._tasks:
            task.present  # noqa: B018 (raises before anything is done)
        return action_indices(actions, self.num_envs, len(self.config.actions))


def gather_infos(
    infos: Sequence[dict[str, Any]], which: Sequence[int], num_envs: int
) -> dict[str, Any]:
    """Turn the infos of some environments into arrays over all of them, as Gymnasium does.

    Args:
        infos: All with the same keys and kinds of values.
        which: Index of the environment that each belongs to.
        num_envs: N.
    """
    # Kinds of columns as in `gymnasium.vector.VectorEnv._add_info`, so that wrappers find them.
    has = np.zeros(num_envs, dtype=bool)
    has[which] = True
    gathered: dict[str, Any] = {}
    for key, first in infos[0].items():
        values = [info[key] for info in infos]
        if isinstance(first, np.ndarray):
            column = np.zeros((num_envs, *first.shape), dtype=first.dtype)
            column[which] = values
        elif isinstance(first, int | float | np.number):
            column = np.zeros(num_envs, dtype=type(first))
            column[which] = values
        else:
            column = np.full(num_envs, None, dtype=object)
            for i, value in zip(which, values, strict=True):
                column[i] = value
        gathered[key], gathered[f"_{key}"] = column, has.copy()
    return gathered


def _raise_first(failed: dict[int, InstrumentError]) -> None:
    """Raise the first error, if there is any."""
    if failed:
        i, error = next(iter(failed.items()))
        error.add_note(f"this was environment {i}; all that failed: {sorted(failed)}")
        raise error
