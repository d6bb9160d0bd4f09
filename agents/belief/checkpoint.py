"""Checkpoints of a belief agent: everything needed to continue as if it had never stopped.

Of its files ``model`` has the recogniser, whose answers are part of what was learned, and ``state``
all else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.belief.agent import BeliefAgent
from agents.belief.belief import VerdictRates
from agents.belief.recogniser import Recogniser
from agents.checkpoint import (
    MISFITS,
    MODEL,
    CheckpointError,
    check,
    read_state,
    write_checkpoint,
)
from spm_gym.config import BeliefConfig
from spm_gym.errors import one_line
from spm_gym.plain_state import restored


@dataclass(frozen=True, slots=True)
class _Kept:
    """State of an agent, of its training and of the environment."""

    actions: tuple[str, ...]
    rates: VerdictRates
    config: BeliefConfig
    agent: dict[str, Any]
    training: dict[str, Any] | None
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BeliefCheckpoint:
    """A checkpoint that was read.

    Attributes:
        path: Its directory.
        agent: The agent.
        training: As `save_belief_checkpoint` was given it.
        extra: As `save_belief_checkpoint` was given it.
    """

    path: Path
    agent: BeliefAgent
    training: dict[str, Any] | None
    extra: dict[str, Any]


def save_belief_checkpoint(
    directory: Path, agent: BeliefAgent, training: dict[str, Any] | None, extra: dict[str, Any]
) -> Path:
    """Write a checkpoint, then remove all but the newest two and remains of unfinished ones.

    Args:
        directory: Directory of all checkpoints of the run.
        agent: The agent, between two steps.
        training: State of the training loop and its environment; None if there is none.
        extra: Anything else that the run needs to continue, as `spm_gym.plain_state` takes it.

    Returns:
        Path of the checkpoint.

    Raises:
        StateError: A state holds more than data.
    """
    kept = {
        "actions": agent.actions,
        "rates": asdict(agent.rates),
        "config": agent.config.model_dump(mode="json"),
        "agent": agent.get_state(),
        "training": training,
        "extra": extra,
    }
    return write_checkpoint(
        directory, "belief", agent.steps, kept, lambda folder: agent.recogniser.save(folder / MODEL)
    )


def load_belief_checkpoint(path: Path) -> BeliefCheckpoint:
    """Read a checkpoint; the agent goes on bit for bit.

    Args:
        path: A directory that `save_belief_checkpoint` wrote.

    Raises:
        CheckpointError: It is missing, damaged, foreign, or of another kind of agent.
    """
    meta = check(path, "belief")
    try:
        kept = restored(_Kept, read_state(path))
        recogniser = Recogniser.load(path / MODEL)
        # The generator is replaced by the state that was kept.
        agent = BeliefAgent(
            recogniser, kept.rates, kept.actions, np.random.default_rng(0), None, kept.config
        )
        agent.set_state(kept.agent)
        if agent.steps != meta.step:
            raise ValueError(f"it is of step {agent.steps}, not of {meta.step}")
    except MemoryError:
        raise CheckpointError(f"{path} needs more memory than there is") from None
    except MISFITS as error:
        raise CheckpointError(f"{path} does not fit this program: {one_line(error)}") from error
    return BeliefCheckpoint(path, agent, kept.training, kept.extra)
