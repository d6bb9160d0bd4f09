"""The recogniser of probe classes, and whether it is for the images of the settings."""

from __future__ import annotations

from pathlib import Path

from agents.belief.recogniser import Recogniser
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import Config, ConfigError
from spm_gym.instrument.sim.dynamics import STATES


def load_recogniser(path: Path | None, config: Config) -> Recogniser:
    """Load a recogniser of the sixteen classes of probes.

    Args:
        path: The file; None for the one in the package.
        config: Settings whose images it will be asked about.

    Raises:
        BeliefError: The file cannot be read, or is no recogniser.
        ConfigError: It takes images of other pixels, or knows other classes.
    """
    recogniser = Recogniser.load(path or shipped_recogniser())
    side, taken = config.env.pixels, recogniser.network.pixels
    if side != taken:
        raise ConfigError(
            f"setting env.pixels = {side}: the recogniser takes images of {taken} x {taken} px; "
            "train one of these settings with 'train.py recogniser'"
        )
    if len(recogniser.shares) != STATES:
        raise ConfigError(
            f"{path} knows {len(recogniser.shares)} classes of probes, and {STATES} are needed: "
            "train one with 'train.py recogniser'"
        )
    return recogniser
