"""Settings of images filled in for the classifiers that take them, or refused."""

from __future__ import annotations

from spm_gym.config import ConfigError, EnvConfig
from spm_gym.config.environment import LEAST_PREVIEW_LINES
from spm_gym.imaging.conditions import conditions_of, range_text, with_height_scale
from spm_gym.imaging.image_size import (
    TakenImages,
    fitting_part,
    fitting_sizes,
    ground_pixels,
    observation_settings,
)
from spm_gym.scale import NM
from spm_gym.types import Classifier


def fitted(env: EnvConfig, *classifiers: Classifier) -> EnvConfig:
    """Fill in height scale and observations that classifiers need, where the settings have none.

    Raises:
        ConfigError: The settings have others, or their images are of a size that does not fit.
    """
    return with_observation(with_height_scale(env, *classifiers), *classifiers)


def with_observation(env: EnvConfig, *classifiers: Classifier) -> EnvConfig:
    """Fill in which part of the images classifiers take, averaged to how many pixels.

    Raises:
        ConfigError: One of them takes others, or the images are of a size that does not fit.
    """
    for classifier in classifiers:
        side: int | None = getattr(classifier, "pixels", None)
        conditions = conditions_of(classifier)
        # The truth needs no images, and a function of somebody's own says nothing of them.
        if side is not None:
            pixel = None if conditions is None else conditions.pixel
            env = _with_part(env, TakenImages(side, pixel))
    _check_preview_lines(env)
    return env


def _with_part(env: EnvConfig, taken: TakenImages) -> EnvConfig:
    part, side = env.observed
    if taken.side == env.pixels == side:
        return env
    too_small = env.observation_nm is not None and part < taken.side
    if too_small or env.observation_pixels not in (None, taken.side):
        raise ConfigError(
            f"settings {observation_settings(env)}: the classifier takes images of {taken.side} x "
            f"{taken.side} px, not of {side}; leave the observation to it (null), or use another "
            "one (env.classifier)"
        )
    fitting: int | None = part
    if env.observation_nm is None:
        fitting = fitting_part(env.image_nm * NM, part, taken)
        if fitting is None and part >= taken.side and "pixel" in env.accept_mismatch:
            fitting = part
    if fitting is None:
        pixel = "" if taken.pixel is None else f" at {range_text('pixel', taken.pixel)}"
        raise ConfigError(
            f"setting env.pixels = {env.pixels} with env.image_nm = {env.image_nm:g}: the "
            f"classifier takes images of {taken.side} x {taken.side} px{pixel}, to which finer and "
            f"larger ones are averaged and cropped, but not these; {fitting_sizes(env, taken)}, or "
            "another classifier (env.classifier)"
        )
    update: dict[str, float] = {"observation_pixels": taken.side}
    if fitting < part:
        update["observation_nm"] = fitting * env.image_nm / env.pixels
    return env.model_copy(update=update)


def _check_preview_lines(env: EnvConfig) -> None:
    """Refuse previews whose lines are too few in the part of the image that is observed."""
    if env.preview_lines is None or env.observed == (env.pixels, env.pixels):
        return
    ground, (part, _) = ground_pixels(env), env.observed
    allowed = [
        lines
        for lines in range(LEAST_PREVIEW_LINES, ground)
        if ground % lines == env.pixels % lines == 0
        and lines * part >= LEAST_PREVIEW_LINES * env.pixels
    ]
    if env.preview_lines not in allowed:
        numbers = ", ".join(map(str, allowed)) or "none"
        raise ConfigError(
            f"setting env.preview_lines = {env.preview_lines}: of images of {env.pixels} x "
            f"{env.pixels} px, {env.image_nm:g} nm, {numbers} are allowed, so that the lines lie "
            f"evenly when it is averaged to {ground} x {ground} px and at least "
            f"{LEAST_PREVIEW_LINES} cross what is observed"
        )
