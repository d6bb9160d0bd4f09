"""Probe conditioning as a Gymnasium environment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spm_gym.config import EnvConfig
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.instrument.base import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    Instrument,
    InstrumentError,
    OutcomeUnknown,
    Restartable,
    TimedOut,
    TipCrashed,
)
from spm_gym.regions import Mark
from spm_gym.survey import Look, Survey, read
from spm_gym.types import BoolArray, Classifier, Frame, Scan

_CONNECTION_ERRORS = (ConnectionLost, TimedOut, BadReply)
_NO_CONTACT = (ContactLost, TipCrashed)


class ProbeConditioningEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Repair the probe of a scanning tunnelling microscope.

    ## Description
    The probe has been damaged. In every step the agent sees an image, chooses one of twelve
    conditioning actions, which is carried out at the centre of the largest clean square of that
    image (or of the image, if no pixel is clean), and sees the next image, taken at another place.
    The episode ends when the classifier calls the probe good.
    Source: Krull et al., Commun. Phys. 3, 54 (2020).

    ## Action space
    `Discrete(12)`, the table `actions` of the settings: doing nothing, five bias pulses, six dips
    into the surface. An action needs a clean square of a certain side; `info["action_mask"]` and
    `action_masks()` say which are allowed. An action that is not allowed is refused: nothing
    happens to the probe, the step counts, and `info["refused"]` is true.

    ## Observation space
    `Box(-1.5, 1.5, (1, 64, 64), float32)`: tip height after plane removal, the substrate at -1,
    the apparent height of a molecule (2 Å) at +1.

    ## Rewards
    -1 for every action; +10 *instead* for the one that leads to a good probe.

    ## Starting state
    The good probe of the last episode is damaged by up to five random strong actions until the
    classifier's probability falls below 0.1. `reset(options={"damage": False})` only looks.

    ## Episode end
    Terminated when the classifier's probability exceeds 0.9; truncated after 100 steps unless the
    hundredth succeeded.

    ## Information
    | key | meaning |
    |---|---|
    | `action_mask` | (12,) bool: actions allowed for the present image |
    | `probability` | classifier's probability that the probe is good |
    | `good` | whether that exceeds the threshold |
    | `x`, `y` | centre of the present image, m, piezo coordinates |
    | `area` | number of changes of the approach area so far |
    | `clean_side` | side of the largest clean square, m |
    | `action` | name of the action that was carried out, "" after a reset |
    | `refused` | whether the action was not allowed |
    | `uncertain` | whether it may not have been: its reply was lost, or the tip out of reach |
    | `events` | what happened since the last image, in order: actions, bad sample, recoveries |
    | `time` | instrument's clock at the start of the scan, s |

    ## Version history
    * v0: first version.

    Args:
        instrument: The microscope. A simulated one begins anew at every seeded reset.
        judge: Maps images to the probability of a good probe.
        config: What is imaged, allowed and paid.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared by Gymnasium)
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        instrument: Instrument,
        judge: Classifier,
        config: EnvConfig | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.config = config or EnvConfig()
        self.instrument = instrument
        self.judge = judge
        self.render_mode = render_mode
        pixels = self.config.pixels
        self.observation_space = gym.spaces.Box(-1.5, 1.5, (1, pixels, pixels), np.float32)
        self.action_space = gym.spaces.Discrete(len(self.config.actions))
        self.survey = Survey(instrument, self.config)
        self.look: Look | None = None
        self.last_act: tuple[str, float, float] | None = None
        self._elapsed = 0
        self._events: list[str] = []
        self._chosen: int | None = None
        self._refused = self._uncertain = False
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Damage the probe and look; see the class for the rules.

        Args:
            seed: Begins a new world on a simulated instrument; on a real one it only seeds the
                random choices.
            options: ``{"damage": False}`` leaves the probe as it is; ``"look"`` besides is a
                `Look` that was taken already, and no other one is taken.

        Raises:
            InstrumentError: No usable image could be had.
        """
        super().reset(seed=seed)
        options = options or {}
        if seed is not None or not (self._begun or "look" in options):
            # Drawn for every instrument, so that the choices that follow are the same on all.
            world = int(self.np_random.integers(2**63))
            if isinstance(self.instrument, Restartable):
                self.instrument.restart(world)
                self.survey.enter_area(0)
                self.look = None
        self._begun = True
        self._elapsed = 0
        self._events = []
        self._chosen = None
        self._refused = self._uncertain = False
        self.last_act = None
        damage = options.get("damage", self.config.damage)
        if "look" in options:
            self.look = options["look"]
        elif self.look is None or not damage:
            self._look()
        if damage:
            self._damage()
        return self._present().observation, self._info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Carry out an action, look at the next region and judge the probe.

        Raises:
            InstrumentError: The action failed, or no usable image could be had.
        """
        self.act(action)
        self._look()
        return self.observe(self._present())

    def act(self, action: np.int64 | int) -> None:
        """Do the first half of a step: carry out an action, or refuse it.

        The second half is `observe`; whoever takes the images himself needs the two apart.

        Raises:
            InstrumentError: The action failed in a way from which looking cannot recover.
        """
        look = self._present()
        self._events = []
        self._uncertain = False
        self._chosen = int(action)
        self._refused = not look.mask[self._chosen]
        if self._refused:
            self._events.append(f"refused {self.config.actions[self._chosen].name}")
            self.last_act = None
        else:
            self._act(self._chosen, look)

    def observe(self, look: Look) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Do the second half of a step: take in the image that followed the action.

        Raises:
            gymnasium.error.ResetNeeded: There was no action.
        """
        if self._chosen is None:
            raise gym.error.ResetNeeded("call act() before observe()")
        self.look = look
        self._elapsed += 1
        good = self.is_good(look.probability)
        reward = self.config.step_reward
        if good:
            kept = 0.0 if self.config.success_replaces_step else reward
            reward = kept + self.config.success_reward
        truncated = not good and self._elapsed >= self.config.max_steps
        info = self._info()
        self._chosen = None
        return look.observation, reward, good, truncated, info

    def resume_episode(
        self,
        look: Look,
        elapsed: int,
        chosen: int | None = None,
        refused: bool = False,
        uncertain: bool = False,
    ) -> None:
        """Go on in the middle of an episode whose images were taken by somebody else.

        Args:
            look: The present image.
            elapsed: Actions whose outcome has been observed.
            chosen: The action whose outcome has not.
            refused: Whether it was not allowed.
            uncertain: Whether it may not have been carried out.
        """
        self.reset(options={"damage": False, "look": look})
        self._elapsed, self._chosen = elapsed, chosen
        self._refused, self._uncertain = refused, uncertain

    def action_masks(self) -> BoolArray:
        """Which actions the present image allows, (12,)."""
        return self._present().mask

    @property
    def uncertain(self) -> bool:
        """Whether the last action may not have been carried out."""
        return self._uncertain

    def is_good(self, probability: float) -> bool:
        """Whether this probability means a good probe."""
        return probability > self.config.good_above

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the present scan beside the region map, (height, width, 3)."""
        if self.render_mode is None or self.look is None:
            return None
        from spm_gym.picture import draw_look  # matplotlib is slow to import and seldom needed

        look = self.look
        judged = "good" if self.is_good(look.probability) else "bad"
        verdict = f"{judged} probe, p = {look.probability:.3f}"
        return draw_look(
            look.scan.frame, look.observation, look.square, verdict, self.survey.regions,
            self.last_act,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the instrument."""
        self.instrument.close()

    def get_state(self) -> dict[str, Any]:
        """Everything to continue from, in mid-episode too if the instrument's state can be kept.

        Returns:
            A picklable dictionary for `set_state`; ``mid_episode`` says whether an episode can go
            on from it. A real instrument has changed meanwhile: only map and generator are put
            back, and a reset must follow.
        """
        kept = self.instrument.get_state() if isinstance(self.instrument, Restartable) else None
        return {
            "mid_episode": kept is not None,
            "rng": self.np_random.bit_generator.state,
            "instrument": kept,
            "marks": [asdict(mark) for mark in self.survey.regions.marks],
            "area": self.survey.area,
            "last_region": self.survey.last_region,
            "bad_sample": self.survey.bad_sample,
            "look": self.look,
            "last_act": self.last_act,
            "elapsed": self._elapsed,
            "events": self._events,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        self._begun = True
        self.np_random.bit_generator.state = state["rng"]
        self.survey.enter_area(state["area"])
        self.survey.regions.restore(Mark(**mark) for mark in state["marks"])
        self.survey.last_region = state["last_region"]
        self.survey.bad_sample = state["bad_sample"]
        if not isinstance(self.instrument, Restartable):
            self.look = None
            return
        self.instrument.set_state(state["instrument"])
        self.look = state["look"]
        self.last_act = state["last_act"]
        self._elapsed = state["elapsed"]
        self._events = state["events"]

    def enter_fresh_area(self) -> None:
        """Forget what was used up: the tip has been moved to a fresh approach area by hand."""
        self.survey.enter_area(self.survey.area + 1)
        self.look = None

    def _present(self) -> Look:
        if self.look is None:
            raise gym.error.ResetNeeded("call reset() before step(), action_masks() or render()")
        return self.look

    def _damage(self) -> None:
        damaging = np.array([action.damaging for action in self.config.actions])
        for _ in range(self.config.damage_actions):
            look = self._present()
            if look.probability < self.config.damage_below:
                return
            choices = np.flatnonzero(damaging & look.mask)
            if choices.size:
                self._act(int(self.np_random.choice(choices)), look)
            self._look()

    def _act(self, index: int, look: Look) -> None:
        action = self.config.actions[index]
        self.last_act = (action.name, *look.place)
        self._events.append(action.name)
        self._uncertain = True
        try:
            self.survey.act(action, look.place)
        except (OutcomeUnknown, *_NO_CONTACT, *_CONNECTION_ERRORS) as error:
            # Never again: the next image shows what it did and finds contact, unless withdrawn.
            what = "outcome unknown" if isinstance(error, OutcomeUnknown) else "not done"
            self._events.append(f"{what}: {error}")
            if not isinstance(error, _NO_CONTACT):
                self.instrument.reconnect()
        else:
            self._uncertain = False

    def _look(self) -> None:
        """Image the next region until an image is usable; blocks bad sample, recovers contact."""
        retry: Frame | None = None
        for _ in range(self.config.max_attempts):
            frame = retry or self._next_frame()
            try:
                scan = self._image(frame)
            except (*_CONNECTION_ERRORS, CommandFailed) as error:
                self._events.append(f"no scan: {error}")
                self.instrument.reconnect()
                retry = frame
                continue
            diagnosis = diagnose(scan)
            retry = None
            if diagnosis is Diagnosis.FINE:
                self.survey.bad_sample = 0
                self.look = read(scan, self.judge, self.config)
                return
            self._events.append(diagnosis.value)
            if diagnosis is Diagnosis.ROUGH:
                self.survey.reject(frame)
            elif diagnosis is Diagnosis.LOST_CONTACT:
                self.instrument.approach()
                retry = frame
            elif diagnosis is Diagnosis.CRASH:
                self.instrument.withdraw()
                self.instrument.approach()
        raise InstrumentError(
            f"no usable image in {self.config.max_attempts} attempts (env.max_attempts); "
            f"the last one: {self._events[-1]}"
        )

    def _next_frame(self) -> Frame:
        frame = self.survey.next_frame(self.np_random)
        if frame is None:
            self.survey.change_area()
            self.survey.await_creep()
            self._events.append("new approach area")
            frame = self.survey.next_frame(self.np_random)
            assert frame is not None, "a fresh area always has a region"
        return frame

    def _image(self, frame: Frame) -> Scan:
        self.survey.settle(frame)
        return self.survey.image(frame)

    def _info(self) -> dict[str, Any]:
        look = self._present()
        chosen = self._chosen
        return {
            "action_mask": look.mask.copy(),
            "probability": look.probability,
            "good": self.is_good(look.probability),
            "x": look.scan.frame.x,
            "y": look.scan.frame.y,
            "area": self.survey.area,
            "clean_side": look.clean_side,
            "action": "" if chosen is None else self.config.actions[chosen].name,
            "refused": self._refused,
            "uncertain": self._uncertain,
            "events": tuple(self._events),
            "time": look.scan.started,
        }
