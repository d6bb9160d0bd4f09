from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.checkpoint import MODEL, REPLAY, STATE, CheckpointError, latest_checkpoint
from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agents.monitor import Checkpoints
from spm_gym.config import NetworkConfig
from tests.support.ring_env import RINGS, RingEnv, ring_agent, ring_config, ring_image

DROPOUT = NetworkConfig(
    channels=(4,), pooled_sets=0, stem_stride=1, hidden=(16,), norm="batch", dropout=0.5
)


def save(directory: Path, model: DoubleDQN, **extra: Any) -> Path:
    assert model.env is not None
    return save_checkpoint(directory, model, model.env.env_method("get_state"), extra)


def assert_equal(ours: Any, theirs: Any) -> None:
    """Also of what nests tensors; they lie in memory alike, too."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
    else:
        assert ours == theirs


def assert_same_state(left: DoubleDQN, right: DoubleDQN) -> None:
    assert left.num_timesteps == right.num_timesteps
    assert left._n_updates == right._n_updates
    ours, theirs = left.policy.state_dict(), right.policy.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    ours, theirs = left.policy.optimizer.state_dict(), right.policy.optimizer.state_dict()
    assert_equal(ours, theirs)
    assert left.replay_buffer.get_state() == right.replay_buffer.get_state()
    assert left.exploration_state == right.exploration_state
    ours, theirs = left.replay_buffer.arrays(), right.replay_buffer.arrays()
    for name in ours | theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert list(left.ep_info_buffer or []) != []
    for one, other in zip(left.ep_info_buffer or [], right.ep_info_buffer or [], strict=True):
        assert (one["r"], one["l"]) == (other["r"], other["l"])


@pytest.mark.parametrize("network", [ring_config().network, DROPOUT])
@pytest.mark.parametrize("cut", [10, 30, 53])
def test_training_goes_on_bit_for_bit(tmp_path: Path, network: NetworkConfig, cut: int) -> None:
    straight = ring_agent(network=network).learn(60)
    before = ring_agent(network=network).learn(cut)
    path = save(tmp_path, before)
    torch.rand(1)
    resumed = load_checkpoint(path, RingEnv(), "cpu").model
    resumed.learn(60 - cut, reset_num_timesteps=False)
    assert_same_state(straight, resumed)


def test_checkpoints_lie_in_mid_episode() -> None:
    """Otherwise the test above would not show that the environment's state is kept."""
    for cut in (10, 30, 53):
        model = ring_agent().learn(cut)
        assert model.env is not None
        assert model.env.get_attr("elapsed")[0] > 0


def test_writing_checkpoints_does_not_change_training(tmp_path: Path) -> None:
    straight, watched = ring_agent().learn(60), ring_agent()
    watched.learn(60, Checkpoints(tmp_path, every=25))
    assert_same_state(straight, watched)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000050", "step_0000060"]
    resumed = load_checkpoint(tmp_path / "step_0000050", RingEnv(), "cpu").model
    resumed.learn(10, reset_num_timesteps=False)
    assert_same_state(straight, resumed)


def test_parallel_checkpoints_are_consistent(tmp_path: Path) -> None:
    model = ring_agent(parallel=True)
    model.learn(60, Checkpoints(tmp_path, every=25))
    loaded = load_checkpoint(tmp_path / "step_0000050", RingEnv(), "cpu").model
    assert (loaded.num_timesteps, loaded._n_updates) == (50, 30)
    assert loaded.replay_buffer.pos == 50 % 45
    loaded.learn(10, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (60, 40)


def test_extra_and_environment_come_back(tmp_path: Path) -> None:
    model = ring_agent().learn(30)
    path = save(tmp_path, model, area=3)
    env = RingEnv()
    checkpoint = load_checkpoint(path, env)
    assert isinstance(checkpoint, Checkpoint)
    assert (checkpoint.path, checkpoint.step, checkpoint.extra) == (path, 30, {"area": 3})
    assert checkpoint.env_state == [env.get_state()]


def test_without_environment_state_a_new_episode_begins(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, ring_agent().learn(30), None, {})
    env = RingEnv()
    model = load_checkpoint(path, env).model
    assert not hasattr(env, "elapsed")
    model.learn(1, reset_num_timesteps=False)
    assert env.elapsed == 1


def test_a_checkpoint_predicts_without_an_environment(tmp_path: Path) -> None:
    model = ring_agent().learn(30)
    images = np.stack([ring_image(ring) for ring in range(RINGS)])
    loaded = load_checkpoint(save(tmp_path, model)).model
    np.testing.assert_array_equal(loaded.q_values(images), model.q_values(images))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    model = ring_agent().learn(9)
    for _ in range(3):
        model.learn(1, reset_num_timesteps=False)
        save(tmp_path, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000011", "step_0000012"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step_0000012"


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    model = ring_agent().learn(30)
    save(tmp_path, model, version=1)
    assert load_checkpoint(save(tmp_path, model, version=2)).extra == {"version": 2}


def test_half_written_checkpoints_are_ignored_and_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "step_0000040.partial"
    leftover.mkdir()
    (leftover / MODEL).write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    path = save(tmp_path, ring_agent().learn(30))
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    (tmp_path / "step_notes").mkdir()
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoints"), ring_agent().learn(30))


@pytest.mark.parametrize("name", [MODEL, REPLAY, STATE])
def test_a_damaged_file_is_named(intact: Path, tmp_path: Path, name: str) -> None:
    path = shutil.copytree(intact, tmp_path / intact.name)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"damaged: {name}"):
        load_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"damaged: cannot read {name}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no checkpoint of this project"),
        ('{"format": "something else"}', "no checkpoint of this project"),
    ],
)
def test_foreign_directories_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_later_format_is_refused(intact: Path, tmp_path: Path) -> None:
    path = shutil.copytree(intact, tmp_path / intact.name)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"version": 4}))
    with pytest.raises(CheckpointError, match="format 4; this program reads 3"):
        load_checkpoint(path)


def test_another_environment_is_refused(intact: Path) -> None:
    env = RingEnv()
    env.action_space.n += 1
    with pytest.raises(CheckpointError, match="Action spaces do not match"):
        load_checkpoint(intact, env)


KILLED = """
import sys
from pathlib import Path
from agents.monitor import Checkpoints
from stable_baselines3.common.callbacks import BaseCallback
from tests.support.ring_env import ring_agent

class Print(BaseCallback):
    def _on_step(self):
        print(self.num_timesteps, flush=True)
        return True

ring_agent().learn(100_000, [Checkpoints(Path(sys.argv[1]), every=10), Print()])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 47:
                process.send_signal(signal.SIGKILL)
                break
    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    resumed = load_checkpoint(newest, RingEnv(), "cpu")
    assert resumed.step >= 40
    resumed.model.learn(200 - resumed.step, reset_num_timesteps=False)
    assert_same_state(ring_agent().learn(200), resumed.model)
