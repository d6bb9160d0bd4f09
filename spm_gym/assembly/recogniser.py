"""The recogniser of probe classes, and whether it is for the images of the settings."""

from __future__ import annotations

from agents.belief.errors import BeliefError
from agents.belief.recogniser import Recogniser
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import Config, ConfigError
from spm_gym.imaging.conditions import kind_of_scale_mismatch
from spm_gym.imaging.image_size import averaging_hint, observation_settings
from spm_gym.instrument.sim.dynamics import STATES


def load_recogniser(config: Config) -> Recogniser:
    """Load the recogniser of the settings.

    Raises:
        ConfigError: It cannot be read, takes images of other pixels or of another kind of
            height scale, or knows other classes.
    """
    path = config.agent.belief.recogniser or shipped_recogniser()
    try:
        recogniser = Recogniser.load(path)
    except BeliefError as error:
        raise ConfigError(f"setting agent.belief.recogniser: {error}") from error
    side, taken = config.env.observed[1], recogniser.network.pixels
    if side != taken:
        raise ConfigError(
            f"setting agent.belief.recogniser = {path}: it takes images of {taken} x {taken} px, "
            f"and the settings have observations of {side} px "
            f"({observation_settings(config.env)}); train one of these settings with "
            f"'train.py recogniser'{averaging_hint(config.env, taken)}"
        )
    if why := kind_of_scale_mismatch(recogniser.height_scale, config.env):
        raise ConfigError(
            f"setting agent.belief.recogniser = {path}: it {why}; train one of these settings with "
            "'train.py recogniser', or accept it by name (env.accept_mismatch: [height_scale])"
        )
    if len(recogniser.shares) != STATES:
        raise ConfigError(
            f"setting agent.belief.recogniser = {path}: it knows {len(recogniser.shares)} classes "
            f"of probes, and {STATES} are needed; train one with 'train.py recogniser'"
        )
    return recogniser
