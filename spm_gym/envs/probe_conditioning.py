"""Probe conditioning as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spm_gym.action_index import action_index
from spm_gym.config import EnvConfig
from spm_gym.envs.budget import Budget
from spm_gym.envs.observation import (
    Imaging,
    ProcessedScan,
    ScanOutcome,
    classifier_of,
    next_frame,
    process_scans,
    validate_processed_scan,
)
from spm_gym.envs.observer import EnvObserver
from spm_gym.envs.reset_options import validate_options
from spm_gym.envs.spaces import spaces
from spm_gym.envs.task import ConditioningTask
from spm_gym.errors import InstrumentError
from spm_gym.imaging.fitting import fitted
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.z_window import Window
from spm_gym.plain_state import StateError, restore_generator
from spm_gym.types import BoolArray, Classifier, Frame, Scan


class ProbeConditioningEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Repair the probe of a scanning tunnelling microscope.

    ## Description
    The probe has been damaged. In every step the agent sees an image, chooses one of twelve
    conditioning actions, which is carried out at the centre of the largest clean square of that
    image (or of the image, if no pixel is clean), and sees the next image, taken at another place.
    The episode ends when the classifier calls the probe good.
    With ``env.preview_lines`` a preview of few lines over the whole frame comes first, and a full
    image of the same frame only if it leaves the probe a probability of being good, or is unknown.
    Source: Krull et al., Commun. Phys. 3, 54 (2020).

    ## Action space
    `Discrete(12)`, the table `actions` of the settings: doing nothing, five bias pulses, six dips
    into the surface. An action needs a clean square of a certain side; `info["action_mask"]` and
    `action_masks()` say which are allowed, and `action_space.sample(mask)` takes either. An action
    that is not allowed is refused: nothing happens to the probe, the step counts, and
    `info["refused"]` is true. Anything that is not an action, such as -1, 12, 1.0 or True, is a
    `ValueError` before anything is done.

    ## Observation space
    `Box(-1.5, 1.5, (1, 64, 64), float32)`: tip height after plane removal, the substrate at -1,
    the apparent height of a molecule (2 Å, or `env.height_scale_pm`) at +1. A preview has the same
    shape: the rows between its lines are interpolated.
    Where the classifier takes images of fewer pixels (`env.pixels`) or of a smaller area
    (`env.image_nm`), the observation is the image averaged to those, or its middle. Clean square,
    mask and place of an action are those of the whole image.

    ## Rewards
    -1 for every action; +10 *instead* for the one that leads to a good probe.

    ## Starting state
    The good probe of the last episode is damaged by random strong actions until the classifier's
    probability falls below 0.1, by at most twenty; if that is not enough, the last of the `events`
    says so. A probe that is that bad already, as after most truncations, is left as it is, and a
    new image is taken at the next region. Here, too, the classifier decides what is bad.
    On an unknown image nothing is damaged: it counts as one of the twenty tries, and another image
    is taken. `reset(options={"damage": False})` only takes an image.

    ## Episode end
    Terminated when the classifier's probability exceeds 0.9, on a full image; truncated after 100
    steps unless the hundredth succeeded. An unknown image, unlike all that the classifier was
    trained with, never ends an episode as good: the step costs its -1, and the episode goes on. On
    it only actions are allowed that need no clean ground: doing nothing, which takes another image.

    ## Information
    | key | meaning |
    |---|---|
    | `action_mask` | (12,) bool: actions allowed for the present image |
    | `probability` | that the probe is good, by the classifier of images or that of previews |
    | `good` | whether a full image exceeds the threshold |
    | `unknown` | whether the image is unlike all that the classifier knows: `probability` is NaN |
    | `preview` | whether the present image is a preview |
    | `x`, `y` | centre of the present image, m, piezo coordinates |
    | `area` | number of changes of the approach area so far |
    | `clean_side` | side of the largest clean square, m |
    | `action` | name of the action that was carried out, "" after a reset |
    | `refused` | whether the action was not allowed |
    | `uncertain` | whether it may not have been done: its reply was lost, or the tip out of reach |
    | `events` | what happened since the last image, in order: actions, bad sample, recoveries |
    | `time` | instrument's clock at the start of the scan, s |

    ## Version history
    * v0: first version.

    Args:
        instrument: The microscope. A simulated one begins again at every seeded reset.
        classifier: Maps images to the probability of a good probe; NaN for unknown ones.
        config: Settings of the environment; None for the defaults. Height scale and size of the
            observations that they leave open are the classifier's.
        render_mode: None or "rgb_array".
        budget: Limits of trying without success, for a microscope that can be harmed.
        preview_classifier: Does the same for previews, which `classifier` was not trained for.
        z_window: Extension of the z piezo outside which a reset lets the tip approach again, as
            ``real.z_window``; None for a microscope on which nobody keeps it.

    Attributes:
        observer: Takes notice of every scan, action and step.

    Raises:
        ConfigError: The classifier was trained with another height scale than they have, or takes
            no images of their size.
        ValueError: The settings ask for previews, and nothing classifies them.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared by Gymnasium)
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        instrument: Instrument,
        classifier: Classifier,
        config: EnvConfig | None = None,
        render_mode: str | None = None,
        budget: Budget | None = None,
        preview_classifier: Classifier | None = None,
        z_window: Window | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.config = fitted(config or EnvConfig(), classifier)
        check_preview_classifiers(self.config, [preview_classifier])
        self.instrument = instrument
        self.classifier = classifier
        self.preview_classifier = preview_classifier
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces(self.config)
        self._task = ConditioningTask(instrument, self.config, budget)
        self.navigator = self._task.navigator
        self.navigator.z_window = z_window
        self.budget = budget
        self.observer = EnvObserver()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Damage the probe and take an image; see the class for the rules.

        Args:
            seed: Begins a new world on a simulated instrument; on a real one it only seeds the
                random choices.
            options: ``{"damage": False}`` leaves the probe as it is; ``"processed"`` is a
                `ProcessedScan` that the episode begins with instead of a new image.

        Raises:
            InstrumentError: No usable image could be had.
            ValueError: An option is unknown or not valid.
        """
        validate_options(options, self.config, ("damage", "processed"))
        super().reset(seed=seed)
        self._image(self._task.reset(self.np_random, seed is not None, options))
        # Copies, here and in `observe`: an agent that writes into its observation changes nothing.
        return self._task.present.observation.copy(), self._task.info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Carry out an action, image the next region and classify the probe.

        Args:
            action: A Python or NumPy integer, or a 0-dimensional array of one.

        Raises:
            ValueError: There is no such action; nothing was done.
            InstrumentError: The action failed, or no usable image could be had.
        """
        self.act(action)
        self._image(self._task.image(self.np_random))
        return self.observe(self._task.present)

    def act(self, action: np.int64 | int) -> None:
        """Do the first half of a step: carry out an action, or refuse it.

        The second half is `observe`. A caller that takes the images itself, like the autonomous
        runner, needs the two apart.

        Raises:
            ValueError: There is no such action; nothing was done.
            InstrumentError: The action failed in a way that a further image cannot resolve.
        """
        chosen = action_index(action, len(self._task.present.mask))
        # Before the act, so that a record has the decision, whatever becomes of it.
        self.observer.before_act(chosen)
        self._task.act(chosen)
        self.observer.after_act()

    def observe(
        self, processed: ProcessedScan
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Do the second half of a step: take in the image that followed the action.

        Raises:
            gymnasium.error.ResetNeeded: There was no action.
            ValueError: The image does not fit the settings.
        """
        reward, terminated, truncated = self._task.observe(processed)
        self.observer.after_step(reward, terminated, truncated)
        return processed.observation.copy(), reward, terminated, truncated, self._task.info()

    def resume_episode(
        self,
        processed: ProcessedScan,
        elapsed: int,
        chosen: int | None = None,
        refused: bool = False,
        uncertain: bool = False,
    ) -> None:
        """Go on in the middle of an episode whose images the caller has taken.

        Args:
            processed: The present image.
            elapsed: Actions whose outcome has been observed.
            chosen: The action whose outcome has not been observed yet; None if there is none.
            refused: Whether that action was not allowed.
            uncertain: Whether it may not have been carried out.

        Raises:
            ValueError: An argument is not valid; nothing has changed.
        """
        self._task.resume(processed, elapsed, chosen, refused, uncertain)

    def action_masks(self) -> BoolArray:
        """Which actions the present image allows, (12,)."""
        return self._task.present.mask.copy()

    @property
    def processed(self) -> ProcessedScan | None:
        """The present image; None before the first."""
        return self._task.processed

    @processed.setter
    def processed(self, processed: ProcessedScan | None) -> None:
        if processed is not None:
            validate_processed_scan(processed, self.config)
        self._task.processed = processed

    @property
    def last_act(self) -> tuple[str, float, float] | None:
        """Name of the last action and where it was done, m."""
        return self._task.last_act

    @property
    def uncertain(self) -> bool:
        """Whether the last action may not have been carried out."""
        return self._task.uncertain

    def is_good(self, processed: ProcessedScan) -> bool:
        """Whether an image means a good probe; a preview or an unknown image never does."""
        return self._task.is_good(processed)

    def classifier_of(self, scan: Scan) -> Classifier:
        """Return the classifier of images or that of previews, whichever the scan is.

        Raises:
            UnclassifiableImage: It is a preview, and there is none of previews.
        """
        return classifier_of(scan, self.classifier, self.preview_classifier)

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the present scan beside the region map, (height, width, 3)."""
        return None if self.render_mode is None else self._task.draw()

    def close(self) -> None:
        """Let go of the instrument."""
        self.instrument.close()

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue, in mid-episode if the instrument allows it.

        Returns:
            Data for `set_state`, as `spm_gym.plain_state` has it; ``mid_episode`` says whether an
            episode can go on from it. A real instrument has changed meanwhile: only map and
            generator are put back, and a reset must follow.
        """
        return {"rng": self.np_random.bit_generator.state, **self._task.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It is something else.
        """
        if not isinstance(state, dict):
            raise StateError(f"the state of an environment is a {type(state).__name__}")
        restore_generator(self.np_random, state.get("rng"))
        self._task.set_state({name: state[name] for name in state if name != "rng"})

    def enter_fresh_area(self) -> None:
        """Forget what was used up: the tip has been moved to a fresh approach area by hand."""
        self.navigator.enter_area(self.navigator.area + 1)
        # The present image shows a place that the tip has left: nothing may be done there.
        self.processed = None

    def _image(self, imaging: Imaging) -> None:
        """Take all images that the rules ask for."""
        frame = next_frame(imaging)
        while frame is not None:
            frame = next_frame(imaging, self._scan(frame))

    def _scan(self, frame: Frame) -> ScanOutcome:
        try:
            self.observer.before_scan(frame)
            # The piezo creeps after the move; the first lines at a new place would be distorted.
            # A preview bears that, and during it the piezo settles for the image that follows.
            if self.config.preview_lines is None:
                partial = self.navigator.settle(frame)
                if partial is not None:
                    self.observer.after_partial(partial)
            scan = self.navigator.image(frame)
        except InstrumentError as error:
            return error
        [outcome] = process_scans([scan], [self.classifier_of(scan)], self.config)
        # Before the rules react to it: a crash is in the record before the tip approaches again.
        self.observer.after_scan(scan, outcome)
        return outcome


def check_preview_classifiers(config: EnvConfig, classifiers: Sequence[Classifier | None]) -> None:
    """Refuse settings with previews that nothing classifies.

    Raises:
        ValueError: There are such settings.
    """
    if config.preview_lines is not None and None in classifiers:
        raise ValueError(
            f"env.preview_lines = {config.preview_lines} needs a preview_classifier beside the "
            "classifier of images"
        )


def check_render_mode(render_mode: str | None) -> None:
    """Refuse a mode of rendering that does not exist.

    Raises:
        ValueError: The mode is neither None nor "rgb_array".
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
