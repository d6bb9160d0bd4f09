from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from agents.vgg import VGG
from spm_gym.config import Config, NetworkConfig

PAPER = NetworkConfig(
    channels=(64, 128, 256, 512),
    convolutions=3,
    pooled_sets=2,
    stem_stride=1,
    hidden=(4096, 4096),
    norm="batch",
    dropout=0.5,
)
TINY = NetworkConfig(channels=(4, 8), pooled_sets=2, stem_stride=1, hidden=(6,))


def weights(layer_inputs: list[tuple[int, int]]) -> int:
    return sum(inputs * outputs for inputs, outputs in layer_inputs)


def test_the_papers_network_has_the_papers_size() -> None:
    with torch.device("meta"):
        network = VGG(PAPER, outputs=1)
    sets = [(1, 64), (64, 128), (128, 256), (256, 512)]
    convolutions = 9 * sum(weights([(a, b), (b, b), (b, b)]) for a, b in sets)
    connected = weights([(16 * 16 * 512, 4096), (4096, 4096)])
    norms = 2 * (3 * (64 + 128 + 256 + 512) + 2 * 4096)
    output = 4096 + 1
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == convolutions + connected + norms + output
    assert round(count / 1e6) == 561
    first = next(layer for layer in network.trunk if isinstance(layer, nn.Linear))
    assert first.weight.shape == (4096, 16 * 16 * 512)


def test_the_default_network_is_small_and_kept_by_both_users() -> None:
    config = Config()
    for network in (config.classifier.network, config.agent.network):
        with torch.device("meta"):
            built = VGG(network, outputs=12)
        assert 4 * sum(parameter.numel() for parameter in built.parameters()) < 2e6


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("hidden", [(), (5,), (7, 3)])
def test_shapes_of_trunk_and_head(norm: str, hidden: tuple[int, ...]) -> None:
    network = VGG(TINY.model_copy(update={"norm": norm, "hidden": hidden}), 12, pixels=20)
    images = torch.randn(3, 1, 20, 20)
    features = network.trunk(images)
    assert features.shape == (3, network.features)
    assert network.features == (hidden[-1] if hidden else 8 * 5 * 5)
    assert torch.equal(network(images), network.head(features))
    assert network(images).shape == (3, 12)


def test_every_layer_but_the_output_has_norm_and_relu_and_each_hidden_layer_dropout() -> None:
    network = VGG(TINY.model_copy(update={"norm": "batch", "dropout": 0.5, "convolutions": 2}), 1)
    kinds = [type(layer).__name__ for layer in network.trunk]
    convolution = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds == (
        [*convolution, "Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"] * 2
        + ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout"]
    )
    assert isinstance(network.head, nn.Linear)


def test_the_same_generator_gives_the_same_weights_and_another_seed_others() -> None:
    def built(seed: int) -> torch.Tensor:
        network = VGG(TINY, 2, generator=torch.Generator().manual_seed(seed))
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    assert torch.equal(built(3), built(3))
    assert not torch.equal(built(3), built(4))


def test_weights_are_xavier_uniform() -> None:
    network = VGG(NetworkConfig(hidden=(256,)), 1, generator=torch.Generator().manual_seed(0))
    second = [layer for layer in network.trunk if isinstance(layer, nn.Conv2d)][1]
    hidden = next(layer for layer in network.trunk if isinstance(layer, nn.Linear))
    for weight, fans in ((second.weight, 9 * (16 + 32)), (hidden.weight, 256 + 256)):
        bound = math.sqrt(6 / fans)
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_a_trunk_can_be_taken_over_with_a_fresh_head() -> None:
    classifier, agent = VGG(TINY, 1), VGG(TINY, 12)
    agent.trunk.load_state_dict(classifier.trunk.state_dict())
    images = torch.randn(4, 1, 64, 64)
    assert torch.equal(classifier.eval().trunk(images), agent.eval().trunk(images))


def test_an_image_too_small_for_the_poolings_is_refused() -> None:
    config = NetworkConfig(channels=(4, 4, 4), pooled_sets=3, stem_stride=2)
    assert VGG(config, 1, pixels=15).eval()(torch.zeros(1, 1, 15, 15)).shape == (1, 1)
    for pixels in (14, 1):
        with pytest.raises(ValueError, match=rf"of {pixels} px is too small.*at least 15 px"):
            VGG(config, 1, pixels)


def test_more_poolings_than_sets_is_no_network() -> None:
    with pytest.raises(ValueError, match="pooled_sets must be at most the number of sets, 2"):
        NetworkConfig(channels=(8, 8), pooled_sets=3)
