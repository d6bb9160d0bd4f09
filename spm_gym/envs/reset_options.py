"""Validation of the options of a reset, which come from the caller."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from spm_gym.config import EnvConfig
from spm_gym.envs.observation import validate_processed_scan
from spm_gym.errors import brief


def validate_options(options: object, config: EnvConfig, known: Collection[str]) -> None:
    """Refuse options of a reset that would be ignored, or that are not valid.

    Args:
        options: As given; None for none.
        config: Settings of the environment.
        known: Names of the options that this environment has.

    Raises:
        ValueError: Names the option and what is allowed.
    """
    if options is None:
        return
    if not isinstance(options, dict):
        raise ValueError(f"options must be a dict, not {brief(options)}")
    if unknown := [key for key in options if key not in known]:
        raise ValueError(f"options are {', '.join(map(repr, known))}; unknown: {brief(unknown)}")
    if not isinstance(damage := options.get("damage", True), bool | np.bool_):
        raise ValueError(f"options['damage'] must be True or False, not {brief(damage)}")
    if "processed" in options:
        validate_processed_scan(options["processed"], config)
