from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from agents import temporal_difference
from agents.double_dqn import DoubleDQN
from agents.replay import TransitionBatch
from agents.temporal_difference import TemporalDifference, allow_tf32
from agents.vgg import VGG
from spm_gym.config import AgentConfig, ConfigError, NetworkConfig
from tests.support.ring_env import RINGS, SMALL_NETWORK, RingEnv, mean_length, ring_config

CPU = torch.device("cpu")
DEEPER = NetworkConfig(channels=(8, 16), pooled_sets=2, stem_stride=1, hidden=(32,))


def networks(config: NetworkConfig = DEEPER) -> tuple[VGG, VGG]:
    generator = torch.Generator().manual_seed(0)
    return tuple(VGG(config, RINGS, 8, generator).eval() for _ in range(2))  # type: ignore[return-value]


def batch(ongoing: int, size: int = 16) -> TransitionBatch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, size, 1, 8, 8, generator=generator) * 2 - 1
    dones = (torch.arange(size)[:, None] >= ongoing).float()
    masks = torch.rand(size, RINGS, generator=generator) < 0.5
    masks[:, 1] = True
    return TransitionBatch(
        images[0],
        torch.randint(RINGS, (size, 1), generator=generator),
        images[1],
        dones,
        torch.randn(size, 1, generator=generator),
        masks & (dones == 0),
        ongoing,
    )


def plain_loss(online: VGG, target: VGG, steps: TransitionBatch, gamma: float) -> float:
    """Step by step, as in a textbook."""
    errors = []
    with torch.no_grad():
        for row in range(len(steps.rewards)):
            td_target = float(steps.rewards[row])
            if steps.dones[row] == 0:
                following = steps.next_observations[row][None]
                allowed = np.flatnonzero(steps.next_masks[row])
                best = max(allowed, key=lambda action: online(following)[0, action])
                td_target += gamma * float(target(following)[0, best])
            value = online(steps.observations[row][None])[0, steps.actions[row]]
            errors.append(float(value) - td_target)
    return float(np.mean(np.square(errors)))


def loss(config: AgentConfig, ongoing: int) -> float:
    return TemporalDifference(config, CPU).loss(*networks(), batch(ongoing)).item()


@pytest.mark.parametrize("ongoing", [0, 1, 11, 16])
def test_loss_is_the_textbooks_however_many_steps_are_terminal(ongoing: int) -> None:
    config = AgentConfig(gamma=0.9)
    td_target = plain_loss(*networks(), batch(ongoing), 0.9)
    assert loss(config, ongoing) == pytest.approx(td_target, rel=1e-5)


def test_bfloat16_is_close_and_in_use() -> None:
    exact, rounded = (loss(AgentConfig(precision=p), 11) for p in ("auto", "bfloat16"))
    assert rounded == pytest.approx(exact, rel=0.05)
    assert rounded != exact


def test_the_output_layer_is_never_rounded() -> None:
    online, target = networks()
    dtypes = []
    online.head.register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    TemporalDifference(AgentConfig(precision="bfloat16"), CPU).loss(online, target, batch(11))
    assert set(dtypes) == {torch.float32}


def test_bfloat16_learns_the_toy() -> None:
    model = DoubleDQN(RingEnv(masked=False), ring_config(precision="bfloat16"), seed=0).learn(800)
    assert all(weights.dtype is torch.float32 for weights in model.policy.parameters())
    assert mean_length(model, RingEnv(masked=False)) < 1.1 * (1 + RINGS) / 2


def test_on_a_cpu_the_precision_of_gpus_is_left_alone() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    TemporalDifference(AgentConfig(precision="tf32"), CPU)
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


def test_tf32_is_allowed_and_forbidden_for_products_and_convolutions() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        for allowed, precision in ((False, "highest"), (True, "high")):
            allow_tf32(allowed)
            assert torch.get_float32_matmul_precision() == precision
            assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_a_missing_compiler_is_named_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler(*args: Any, **options: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(temporal_difference.torch, "compile", no_compiler)
    with pytest.raises(ConfigError, match=r"agent.compile = True.*\(No working C\+\+ compiler f"):
        DoubleDQN(RingEnv(), ring_config(compile=True))


@pytest.mark.slow
def test_a_compiled_loss_is_the_same_and_so_are_its_gradients() -> None:
    gradients = []
    for compile_ in (False, True):
        online, target = networks()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about itself
            try:
                difference = TemporalDifference(AgentConfig(compile=compile_), CPU)
            except ConfigError as error:
                pytest.skip(str(error))
            difference.loss(online, target, batch(11)).backward()  # type: ignore[no-untyped-call]
        gradients.append([copy.deepcopy(weights.grad) for weights in online.parameters()])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_agent_is_saved_like_any_other(tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = DoubleDQN(RingEnv(), ring_config(network=SMALL_NETWORK, compile=True), seed=0)
        except ConfigError as error:
            pytest.skip(str(error))
        model.learn(60)
        model.save(tmp_path / "model.zip")
        loaded = DoubleDQN.load(tmp_path / "model.zip", device="cpu")
    image = RingEnv().reset(seed=0)[0]
    np.testing.assert_array_equal(model.q_values(image), loaded.q_values(image))
