from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agents.baselines import ShuffledPolicy
from agents.double_dqn import DoubleDQN
from agents.masked import double_q_target
from agents.schedules import epsilon, learning_rate
from agents.vgg import VGG
from spm_gym.config import AgentConfig
from spm_gym.types import Transition
from tests.support.ring_env import (
    RINGS,
    SMALL_NETWORK,
    RingEnv,
    mean_length,
    only_env,
    ring_config,
    ring_image,
)

VALUES = st.floats(-10, 10, width=32)


def trained(seed: int = 0, blind: bool = False, **changes: Any) -> DoubleDQN:
    env = RingEnv(blind=blind, masked=False)
    return DoubleDQN(env, ring_config(**changes), seed=seed).learn(changes.get("steps", 800))


def weights_of(model: DoubleDQN) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in model.policy.parameters()])


def test_target_by_hand() -> None:
    online = torch.tensor([[1.0, 2.0, 3.0]] * 3)
    target = torch.tensor([[10.0, 20.0, 30.0]] * 3)
    mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    rewards = torch.tensor([[-1.0], [-1.0], [10.0]])
    dones = torch.tensor([[0.0], [0.0], [1.0]])
    result = double_q_target(online, target, mask, rewards, dones, gamma=0.5)
    assert result.tolist() == [[-1 + 15], [-1 + 10], [10.0]]


def test_the_online_network_chooses_and_the_target_network_values() -> None:
    online, target = torch.tensor([[5.0, 1.0]]), torch.tensor([[2.0, 100.0]])
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    result = double_q_target(online, target, torch.ones(1, 2).bool(), one, zero, gamma=0.5)
    assert result.item() == 1 + 0.5 * 2


@given(
    hnp.arrays(np.float32, (2, 5), elements=VALUES, unique=True),
    hnp.arrays(np.bool_, 5).filter(np.any),
    VALUES,
)
def test_target_never_uses_a_forbidden_action(
    values: np.ndarray, mask: np.ndarray, reward: float
) -> None:
    online, target = values
    best = max(np.flatnonzero(mask), key=lambda action: online[action])
    result = double_q_target(
        torch.tensor(online[None]),
        torch.tensor(target[None]),
        torch.tensor(mask[None]),
        torch.tensor([[reward]]),
        torch.zeros(1, 1),
        gamma=0.9,
    )
    assert result.item() == pytest.approx(reward + 0.9 * float(target[best]), rel=1e-5, abs=1e-5)


def test_epsilon_counts_own_steps() -> None:
    config = AgentConfig(prefill=500, epsilon_steps=500, epsilon_end=0.05)
    assert [epsilon(config, step) for step in (0, 499, 500)] == [1, 1, 1]
    assert epsilon(config, 750) == pytest.approx(0.525)
    assert [epsilon(config, step) for step in (1000, 10**6)] == pytest.approx([0.05, 0.05])


def test_learning_rate_falls_from_first_to_last() -> None:
    config = AgentConfig(steps=100, learning_rate=1e-3, final_learning_rate=0.1)
    assert learning_rate(config, 0) == pytest.approx(1e-3)
    assert learning_rate(config, 50) == pytest.approx(0.55e-3)
    assert [learning_rate(config, step) for step in (100, 500)] == pytest.approx([1e-4, 1e-4])


@pytest.fixture(scope="module")
def fresh() -> DoubleDQN:
    return DoubleDQN(RingEnv(), ring_config(), seed=0)


@settings(max_examples=50)
@given(
    hnp.arrays(np.bool_, (3, RINGS)).filter(lambda masks: masks.any(axis=1).all()),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_only_allowed_actions_are_chosen(
    fresh: DoubleDQN, masks: np.ndarray, exploration_rate: float
) -> None:
    fresh.exploration_rate = exploration_rate
    images = np.stack([ring_image(ring) for ring in range(3)])
    for deterministic in (False, True):
        actions, _ = fresh.predict(images, deterministic=deterministic, action_masks=masks)
        assert masks[np.arange(3), actions].all()


def test_the_best_allowed_action_is_chosen(fresh: DoubleDQN) -> None:
    values = fresh.q_values(ring_image(2))
    order = np.argsort(values)
    assert fresh.predict(ring_image(2), deterministic=True)[0] == order[-1]
    mask = np.ones(RINGS, bool)
    mask[order[-1]] = False
    assert fresh.predict(ring_image(2), None, None, True, mask)[0] == order[-2]


def test_random_actions_are_uniform_over_the_allowed_ones(fresh: DoubleDQN) -> None:
    fresh.exploration_rate = 1.0
    masks = np.tile([True, False, True, True], (3000, 1))
    actions, _ = fresh.predict(np.tile(ring_image(0), (3000, 1, 1, 1)), action_masks=masks)
    counts = np.bincount(actions, minlength=RINGS)
    assert counts[1] == 0
    assert counts[[0, 2, 3]] == pytest.approx(1000, abs=5 * math.sqrt(1000 * 2 / 3))


def test_prediction_takes_one_image_or_many(fresh: DoubleDQN) -> None:
    one, state = fresh.predict(ring_image(1), deterministic=True)
    many, _ = fresh.predict(np.stack([ring_image(1)] * 2), "state", deterministic=True)
    assert (np.shape(one), many.shape, state) == ((), (2,), None)
    assert many.tolist() == [one, one]
    assert fresh.action_space.contains(one)


def test_a_mask_that_allows_nothing_is_refused(fresh: DoubleDQN) -> None:
    with pytest.raises(ValueError, match="allows no action"):
        fresh.predict(ring_image(0), action_masks=np.zeros(RINGS, bool))


def test_learns_the_toy_and_does_not_when_blind() -> None:
    optimum = (1 + RINGS) / 2
    env = RingEnv(masked=False)
    seeing = trained()
    assert mean_length(seeing, env) < 1.1 * optimum
    assert mean_length(trained(blind=True), RingEnv(blind=True, masked=False)) > 2 * optimum
    assert mean_length(ShuffledPolicy(seeing, np.random.default_rng(0)), env) > 2 * optimum


@pytest.mark.parametrize("parallel", [False, True])
def test_training_keeps_to_the_masks(parallel: bool) -> None:
    model = DoubleDQN(RingEnv(), ring_config(parallel=parallel), seed=0).learn(300)
    assert only_env(model).violations == 0


def test_same_seed_same_weights_to_the_last_bit() -> None:
    first, again, other = (weights_of(trained(seed, steps=150)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_gradient_step_is_adam_on_the_temporal_difference(loss: str) -> None:
    model = trained(steps=60, loss=loss, max_grad_norm=None)
    reference = copy.deepcopy(model.policy)
    optimizer = torch.optim.Adam(reference.q_net.parameters())
    optimizer.load_state_dict(copy.deepcopy(model.policy.optimizer.state_dict()))
    sampler = copy.deepcopy(model.replay_buffer.rng)
    model.gradient_step()

    model.replay_buffer.rng = sampler
    batch = model.replay_buffer.sample(model.batch_size)
    follow = reference.q_net(batch.next_observations).masked_fill(~batch.next_masks, -torch.inf)
    value = reference.q_net_target(batch.next_observations)[range(32), follow.argmax(1)]
    target = batch.rewards[:, 0] + 0.95 * (1 - batch.dones[:, 0]) * value.detach()
    error = reference.q_net(batch.observations)[range(32), batch.actions[:, 0]] - target
    small = error.abs() < (1 if loss == "huber" else torch.inf)
    per_step = torch.where(small, error**2, 2 * error.abs() - 1)
    optimizer.param_groups[0]["lr"] = model.policy.optimizer.param_groups[0]["lr"]
    optimizer.zero_grad()
    ((0.5 if loss == "huber" else 1.0) * per_step.mean()).backward()
    optimizer.step()
    for ours, theirs in zip(model.q_net.parameters(), reference.q_net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped() -> None:
    model = trained(steps=60, max_grad_norm=1e-3)
    model.gradient_step()
    gradients = [w.grad.flatten() for w in model.q_net.parameters() if w.grad is not None]
    assert torch.cat(gradients).norm().item() <= 1.001e-3


def test_target_network_is_copied_every_so_many_gradient_steps() -> None:
    model = trained(steps=60, target_every=25)
    assert model._n_updates == 10
    equal_after = []
    for _ in range(30):
        model.gradient_step()
        pairs = zip(model.q_net.parameters(), model.q_net_target.parameters(), strict=True)
        equal_after.append(all(torch.equal(online, target) for online, target in pairs))
    assert [10 + 1 + index for index, equal in enumerate(equal_after) if equal] == [25]


def test_batch_norm_learns_from_the_present_images_only() -> None:
    network = SMALL_NETWORK.model_copy(update={"norm": "batch"})
    model = trained(steps=60, network=network, target_every=1000)
    layers = [m for m in model.policy.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    online, target = layers
    assert online.num_batches_tracked is not None
    assert target.num_batches_tracked is not None
    assert (int(online.num_batches_tracked), int(target.num_batches_tracked)) == (10, 0)
    assert not model.q_net.training
    assert not model.q_net_target.training


def test_a_rehearsal_leaves_everything_as_it_is() -> None:
    norm = {"channels": [4], "convolutions": 1, "pooled_sets": 1, "hidden": [8], "norm": "batch"}
    after = []
    for rehearsed in (False, True):
        model = trained(network=norm)
        if rehearsed:
            model.rehearse()
        model.gradient_step()
        after.append(model.q_net.state_dict())
    for name, value in after[0].items():
        assert torch.equal(value, after[1][name]), name


def test_a_loss_that_is_not_finite_stops_the_run_and_spoils_nothing() -> None:
    model = trained(steps=60)
    before = weights_of(model)
    model.replay_buffer.rewards[:] = np.nan
    with pytest.raises(FloatingPointError, match="loss is nan after 10 gradient steps"):
        model.gradient_step()
    assert torch.equal(weights_of(model), before)


@pytest.mark.parametrize(("ratio", "expected"), [(0.3, 75), (1.0, 250), (1.7, 425)])
def test_replay_ratio(ratio: float, expected: int) -> None:
    model = trained(steps=300, replay_ratio=ratio)
    assert model._n_updates == expected
    assert model.replay_ratio == ratio


def test_learning_again_from_zero_counts_again() -> None:
    model = trained(steps=100)
    model.learn(80)
    assert model._n_updates == 30


def test_a_saved_model_predicts_without_an_environment(tmp_path: Path) -> None:
    model = trained(steps=150)
    model.save(tmp_path / "model.zip")
    loaded = DoubleDQN.load(tmp_path / "model.zip", device="cpu")
    images = np.stack([ring_image(ring) for ring in range(RINGS)])
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.q_values(images), model.q_values(images))


def test_initialising_from_a_classifier_takes_the_trunk_only() -> None:
    classifier = VGG(SMALL_NETWORK, outputs=1, pixels=8)
    model = DoubleDQN(RingEnv(), ring_config(), seed=0)
    head = copy.deepcopy(model.q_net.q_net.head.weight)
    model.initialise_from(classifier)
    for q_net in (model.q_net, model.q_net_target):
        for ours, theirs in zip(
            q_net.q_net.trunk.parameters(), classifier.trunk.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
        assert torch.equal(q_net.q_net.head.weight, head)


def test_initialising_from_another_network_is_refused() -> None:
    other = VGG(SMALL_NETWORK.model_copy(update={"hidden": (7,)}), outputs=1, pixels=8)
    with pytest.raises(ValueError, match="cannot initialise the agent's"):
        DoubleDQN(RingEnv(), ring_config(), seed=0).initialise_from(other)


def test_learning_from_steps_taken_elsewhere() -> None:
    model = trained(steps=100)
    env = RingEnv()
    image, _ = env.reset(seed=0)
    following, reward, terminated, truncated, info = env.step(env.ring)
    model.learn_from(
        Transition(image, env.ring, reward, following, info["action_mask"], terminated, truncated)
    )
    assert (model.num_timesteps, model._n_updates) == (101, 51)
    assert model.replay_buffer.rewards[100] == reward
