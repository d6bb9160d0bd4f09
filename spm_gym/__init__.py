"""Let a scanning-probe microscope condition its own probe, and study how without owning one."""

from __future__ import annotations

import gymnasium

from spm_gym.config import Config, ConfigError, load_config

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "load_config"]

gymnasium.register(
    id="spm_gym/ProbeConditioning-v0",
    entry_point="spm_gym.assembly.environment:make_env",
    vector_entry_point="spm_gym.assembly.environment:make_vector_env",
    # Gymnasium's wrappers would hide action_masks(); what they check, the environment checks.
    order_enforce=False,
    disable_env_checker=True,
)
