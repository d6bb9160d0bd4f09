"""Epsilon and learning rate as functions of the environment step."""

from __future__ import annotations

import math

from spm_gym.config import AgentConfig


def epsilon(config: AgentConfig, step: int) -> float:
    """Probability of a random action at an environment step: 1 while prefilling, then linear."""
    # Before there is anything to learn from, every allowed action is tried alike.
    if step < config.prefill:
        return 1.0
    fraction = min(1.0, (step - config.prefill) / config.epsilon_steps)
    return config.epsilon_start + fraction * (config.epsilon_end - config.epsilon_start)


def learning_rate(config: AgentConfig, step: float) -> float:
    """Learning rate at an environment step: half a cosine down to ``final_learning_rate``."""
    # Beyond the planned steps, as in a run that goes on learning, it stays at the floor.
    fraction = min(1.0, step / config.steps)
    height = (1 + math.cos(math.pi * fraction)) / 2
    floor = config.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * height)
