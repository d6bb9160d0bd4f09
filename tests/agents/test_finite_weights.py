"""Networks whose answer is not a number are refused when they are loaded, whatever they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from agents import inspection
from agents.checkpoint import CheckpointError
from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import load_checkpoint, save_checkpoint
from agents.weights import AgentFileError, load_weights, save_weights
from tests.support.ring_env import RingEnv, ring_config

ACTIONS = ["nothing", "left", "stay", "right"]


def broken(value: float) -> DoubleDQN:
    model = DoubleDQN(RingEnv(), ring_config(), seed=5)
    with torch.no_grad():
        list(model.q_net.parameters())[-1][0] = value
    return model


def test_sound_agents_are_loaded(tmp_path: Path) -> None:
    model = DoubleDQN(RingEnv(), ring_config(), seed=5)
    save_weights(model, ACTIONS, tmp_path / "a.safetensors")
    load_weights(tmp_path / "a.safetensors", RingEnv(), ring_config(), ACTIONS, 0)
    load_checkpoint(save_checkpoint(tmp_path, model, None, {}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_checkpoint_with_weights_that_are_no_numbers_is_refused(
    tmp_path: Path, value: float
) -> None:
    path = save_checkpoint(tmp_path, broken(value), None, {})
    for read in (load_checkpoint, inspection.read_checkpoint):
        with pytest.raises(CheckpointError, match="finite") as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_file_of_an_agent_with_weights_that_are_no_numbers_is_refused(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(broken(value), ACTIONS, path)
    with pytest.raises(AgentFileError, match="finite") as caught:
        load_weights(path, RingEnv(), ring_config(), ACTIONS, 0)
    assert str(path) in str(caught.value)
    with pytest.raises(AgentFileError, match="finite"):
        inspection.read_weights(path)
