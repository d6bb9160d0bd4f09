"""The rules of conditioning: where images are taken, what an action does, what a step pays.

Nothing here takes images. Where a rule needs one it yields the frame and is sent the outcome of
the scan, so one microscope or many in step can be driven by the same rules.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spm_gym.action_index import action_index
from spm_gym.config import ConfigError, EnvConfig
from spm_gym.envs.budget import Budget
from spm_gym.envs.navigation import Navigator
from spm_gym.envs.observation import (
    Imaging,
    ProcessedScan,
    image_frame,
    validate_processed_scan,
)
from spm_gym.envs.task_state import TaskState
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
    TipWithdrawn,
    UnclassifiableImage,
    brief,
)
from spm_gym.imaging import Diagnosis
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.plain_state import restored
from spm_gym.scale import probability_text
from spm_gym.types import Frame

_CONNECTION_ERRORS = (ConnectionLost, TimedOut, BadReply)
_NO_CONTACT = (ContactLost, TipCrashed)
_NO_SCAN = (*_CONNECTION_ERRORS, CommandFailed)


class ConditioningTask:
    """One microscope under the rules of `spm_gym.envs.probe_conditioning.ProbeConditioningEnv`.

    It outlives episodes: the sample, the map of used places and the probe go on from one to the
    next; `reset` and `resume` start the count of actions from which an episode is truncated.

    Attributes:
        navigator: Where images are taken and which places are used up.
        processed: The present image; None before the first.
        last_act: Name of the last action and where it was done, m; None after a refused one.
        uncertain: Whether the last action may not have been carried out.

    Args:
        instrument: The microscope.
        config: Settings of the environment.
        budget: Limits of trying without success; None for a microscope that cannot be harmed.
    """

    def __init__(
        self, instrument: Instrument, config: EnvConfig, budget: Budget | None = None
    ) -> None:
        self.config = config
        self.budget = budget
        self.instrument = instrument
        self.navigator = Navigator(instrument, config)
        self.processed: ProcessedScan | None = None
        self.last_act: tuple[str, float, float] | None = None
        self.uncertain = False
        damaging = [action.damaging and config.may_choose(action) for action in config.actions]
        self._damaging = np.array(damaging)
        self._elapsed = 0
        self._events: list[str] = []
        self._chosen: int | None = None
        self._acted = self._refused = self._started = False

    @property
    def present(self) -> ProcessedScan:
        """The present image.

        Raises:
            gymnasium.error.ResetNeeded: There is none.
        """
        if self.processed is None:
            raise gym.error.ResetNeeded("call reset() before step(), action_masks() or render()")
        return self.processed

    def reset(
        self, rng: np.random.Generator, seeded: bool = False, options: dict[str, Any] | None = None
    ) -> Imaging:
        """Damage the probe and take an image; arguments as for the environment, options validated.

        Raises:
            InstrumentError: No usable image could be had.
        """
        options = options or {}
        if seeded or not (self._started or "processed" in options):
            # Drawn for real instruments, too, so that the random choices that follow are the same.
            world = int(rng.integers(2**63))
            if isinstance(self.instrument, Restartable):
                self.instrument.restart(world)
                self.navigator.enter_area(0)
                self.processed = None
        self._start_episode()
        if self.processed is not None and self.navigator.keep_in_window(self.processed.scan):
            self._events, self.processed = ["approached again: outside the z window"], None
        damage = options.get("damage", self.config.damage)
        if "processed" in options:
            self.processed = options["processed"]
        elif self.processed is None or not damage or self._bad(self.processed):
            # Without damage nothing else would move on: the first observation of the episode
            # would be the last one of the episode before.
            yield from self.image(rng)
        if damage:
            yield from self._damage(rng)

    def step(self, action: np.integer[Any] | int, rng: np.random.Generator) -> Imaging:
        """Carry out an action and image the next region; `observe` must follow.

        Raises:
            ValueError: As for `act`.
            InstrumentError: The action failed, or no usable image could be had.
        """
        self.act(action)
        yield from self.image(rng)

    def image(self, rng: np.random.Generator) -> Imaging:
        """Image the next region until an image is usable; blocks bad sample, recovers contact."""
        retry: Frame | None = None
        for _ in range(self.config.max_attempts):
            frame = retry or self._next_frame(rng)
            outcome = yield from image_frame(frame, self.config)
            if isinstance(outcome, ProcessedScan):
                self.navigator.bad_sample = 0
                self.processed = outcome
                if self.budget is not None:
                    self.budget.observe_image(self.is_good(outcome))
                return
            retry = frame if self._recover(frame, outcome) else None
        raise InstrumentError(
            f"no usable image in {self.config.max_attempts} attempts (env.max_attempts); "
            f"the last one: {self._events[-1]}"
        )

    def act(self, action: np.integer[Any] | int) -> None:
        """Carry out an action, or refuse it.

        Raises:
            ValueError: There is no such action; nothing was done.
            InstrumentError: The action failed in a way that a further image cannot resolve.
        """
        processed = self.present
        chosen = action_index(action, len(self.config.actions))
        self._events = []
        self.uncertain = False
        self._chosen, self._acted = chosen, True
        self._refused = not processed.mask[chosen]
        if self._refused:
            # The step still counts and is imaged, or an agent could try forbidden actions for free.
            self._events.append(f"refused {self.config.actions[chosen].name}")
            self.last_act = None
        else:
            self._act(chosen, processed)

    def observe(self, processed: ProcessedScan) -> tuple[float, bool, bool]:
        """Take in the image that followed the action, and pay for the step.

        Returns:
            Reward, and whether the episode is terminated and whether it is truncated.

        Raises:
            gymnasium.error.ResetNeeded: There was no action.
            ValueError: The image does not fit the settings.
        """
        if not self._acted:
            raise gym.error.ResetNeeded("call act() before observe()")
        validate_processed_scan(processed, self.config)
        self.processed = processed
        self._acted = False
        # Refused and uncertain actions count, too: they have cost the time of an image.
        self._elapsed += 1
        config = self.config
        good = self.is_good(processed)
        # Success in the last step is success: an episode never ends in both ways.
        truncated = not good and self._elapsed >= config.max_steps
        if self.budget is not None and truncated:
            self.budget.fail_episode()
        if good:
            kept = 0.0 if config.success_replaces_step else config.step_reward
            return kept + config.success_reward, True, False
        return config.step_reward, False, truncated

    def resume(
        self,
        processed: ProcessedScan,
        elapsed: int,
        chosen: int | None,
        refused: bool,
        uncertain: bool,
    ) -> None:
        """Go on in mid-episode; arguments as for the environment.

        Raises:
            ValueError: An argument is not valid; nothing has changed.
        """
        validate_processed_scan(processed, self.config)
        if not isinstance(elapsed, int | np.integer) or isinstance(elapsed, bool) or elapsed < 0:
            raise ValueError(f"elapsed must be an integer from 0 up, not {brief(elapsed)}")
        for name, flag in (("refused", refused), ("uncertain", uncertain)):
            if not isinstance(flag, bool | np.bool_):
                raise ValueError(f"{name} must be True or False, not {brief(flag)}")
        if chosen is not None:
            chosen = action_index(chosen, len(self.config.actions))
        self._start_episode()
        self.processed = processed
        self._elapsed, self._chosen, self._acted = elapsed, chosen, chosen is not None
        self._refused, self.uncertain = refused, uncertain

    def is_good(self, processed: ProcessedScan) -> bool:
        """Whether an image means a good probe; a preview or an unknown image never does."""
        return not processed.preview and processed.probability > self.config.good_above

    def info(self) -> dict[str, Any]:
        """Build the ``info`` that comes with the present image."""
        processed = self.present
        frame = processed.scan.frame
        return {
            "action_mask": processed.mask.copy(),
            "probability": processed.probability,
            "good": self.is_good(processed),
            "unknown": processed.unknown,
            "preview": processed.preview,
            "x": frame.x,
            "y": frame.y,
            "area": self.navigator.area,
            "clean_side": processed.clean_side,
            "action": "" if self._chosen is None else self.config.actions[self._chosen].name,
            "refused": self._refused,
            "uncertain": self.uncertain,
            "events": tuple(self._events),
            "time": processed.scan.started,
        }

    def draw(self) -> NDArray[np.uint8] | None:
        """Draw the present scan beside the region map, (height, width, 3); None before one."""
        if self.processed is None:
            return None
        # matplotlib is slow to import and seldom needed.
        from spm_gym.envs.rendering import draw_processed_scan

        good, regions = self.is_good(self.processed), self.navigator.regions
        return draw_processed_scan(self.processed, good, regions, self.config, self.last_act)

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue, except the random generator."""
        kept = self.instrument.get_state() if isinstance(self.instrument, Restartable) else None
        return asdict(
            TaskState(
                mid_episode=kept is not None and self.processed is not None,
                instrument=kept,
                marks=self.navigator.regions.marks,
                area=self.navigator.area,
                last_region=self.navigator.last_region,
                bad_sample=self.navigator.bad_sample,
                processed=None if kept is None else self.processed,
                last_act=self.last_act,
                elapsed=self._elapsed,
                events=list(self._events),
                chosen=self._chosen,
                acted=self._acted,
                refused=self._refused,
                uncertain=self.uncertain,
                budget=None if self.budget is None else self.budget.get_state(),
            )
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It is something else, or belongs to other images or actions.
        """
        kept = restored(TaskState, state)
        kept.check(self.config)
        self._start_episode()
        self.navigator.enter_area(kept.area)
        self.navigator.regions.restore(kept.marks)
        self.navigator.last_region = kept.last_region
        self.navigator.bad_sample = kept.bad_sample
        if self.budget is not None and kept.budget is not None:
            self.budget.set_state(kept.budget)
        if not isinstance(self.instrument, Restartable):
            # A real probe has changed meanwhile: no action may rest on the image of before.
            self.processed = None
            return
        self.instrument.set_state(kept.instrument or {})
        self.processed = kept.processed
        self.last_act = kept.last_act
        self._elapsed, self._events = kept.elapsed, list(kept.events)
        self._chosen, self._acted = kept.chosen, kept.acted
        self._refused, self.uncertain = kept.refused, kept.uncertain

    def _start_episode(self) -> None:
        self._started = True
        self._elapsed = 0
        self._events = []
        self._chosen = None
        self._acted = self._refused = self.uncertain = False
        self.last_act = None

    def _damage(self, rng: np.random.Generator) -> Imaging:
        if not self._damaging.any():
            raise ConfigError(
                "setting env.allowed_actions has no action that may damage the probe, which every "
                "reset does: allow one of them, or set env.damage=false"
            )
        for _ in range(self.config.damage_actions):
            processed = self.present
            if self._bad(processed):
                return
            choices = np.flatnonzero(self._damaging & processed.mask)
            # Without a clean place for any of them the next image may show one. Nothing is done on
            # an unknown image, for its probe may be bad already: the next one may be known.
            if choices.size and not processed.unknown:
                self._act(int(rng.choice(choices)), processed)
            yield from self.image(rng)
        bad = self._bad(self.present)
        if not bad:
            tries, p = self.config.damage_actions, probability_text(self.present.probability)
            self._events.append(f"not damaged: p = {p} after {tries} tries (env.damage_actions)")
        if self.budget is not None:
            self.budget.observe_damage(bad, self.config.damage_actions)

    def _bad(self, processed: ProcessedScan) -> bool:
        return processed.probability < self.config.damage_below

    def _act(self, index: int, processed: ProcessedScan) -> None:
        action, place = self.config.actions[index], processed.place
        if self.budget is not None:
            self.budget.spend()
        self.last_act = (action.name, *place)
        self._events.append(action.name)
        self.uncertain = True
        try:
            self.navigator.act(action, place)
        except (OutcomeUnknown, *_NO_CONTACT, *_CONNECTION_ERRORS) as error:
            # A physical act is never sent a second time: the next image shows what it did, and
            # lost contact is found and recovered there.
            what = "outcome unknown" if isinstance(error, OutcomeUnknown) else "not done"
            self._events.append(f"{what}: {error}")
            if not isinstance(error, _NO_CONTACT):
                self.instrument.reconnect()
        else:
            self.uncertain = False

    def _recover(self, frame: Frame, outcome: Diagnosis | InstrumentError) -> bool:
        """Make the next image possible; returns whether it is to be taken at the same place."""
        if isinstance(outcome, InstrumentError):
            if isinstance(outcome, UnclassifiableImage):
                # Forgotten, so that no step can act on the image before this one.
                self.processed = None
            if not isinstance(outcome, _NO_SCAN):
                raise outcome
            self._events.append(f"no scan: {outcome}")
            self.instrument.reconnect()
            return True
        self._events.append(outcome.value)
        out_of_contact = outcome in (Diagnosis.CRASH, Diagnosis.LOST_CONTACT)
        if out_of_contact and not self.instrument.status().approached:
            # The image of a tip that somebody withdraws looks like a crash.
            raise TipWithdrawn("the tip was withdrawn during the scan, and not by this program")
        if outcome is Diagnosis.ROUGH:
            self.navigator.reject(frame)
        elif outcome is Diagnosis.CRASH:
            # A crashed tip has to leave the surface before it approaches again.
            self.instrument.withdraw()
            self.instrument.approach()
        elif outcome is Diagnosis.LOST_CONTACT:
            self.instrument.approach()
        return outcome is Diagnosis.LOST_CONTACT

    def _next_frame(self, rng: np.random.Generator) -> Frame:
        frame = self.navigator.next_frame(rng)
        if frame is None:
            self.navigator.change_area()
            self.navigator.await_creep()
            self._events.append("new approach area")
            frame = self.navigator.next_frame(rng)
            assert frame is not None, "a fresh area always has a region"
        return frame
