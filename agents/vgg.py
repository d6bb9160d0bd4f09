"""The paper's VGG-style network (paper, *Networks*), shared by the classifier and the agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spm_gym.config import ConfigError, NetworkConfig

_MOST_PIXELS = 10_000


class VGG(nn.Module):
    """Sets of 3x3 convolutions, fully connected layers and a linear output.

    Attributes:
        trunk: Everything up to the last hidden layer; maps (N, 1, H, W) to (N, ``features``).
        head: The output layer; maps to (N, ``outputs``), without an activation.
        features: Width of the output of the trunk.
        pixels: Side of the input images.
        config: Member of the family.
    """

    def __init__(
        self,
        config: NetworkConfig,
        outputs: int,
        pixels: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build the network with Xavier-uniform weights and zero biases.

        Args:
            config: Member of the family.
            outputs: Units of the output layer.
            pixels: Side of the square input images.
            generator: Source of the initial weights; torch's own if None.

        Raises:
            ConfigError: Stride and pooling leave nothing of the image.
        """
        super().__init__()
        self.config = config
        self.pixels = pixels
        flat = config.channels[-1]
        side = _final_side(config, pixels)
        averaging = [nn.AdaptiveAvgPool2d(1)] if config.average_maps else []
        if not averaging:
            flat *= side**2
        self.features = config.hidden[-1] if config.hidden else flat
        self.trunk = nn.Sequential(
            *_convolutions(config), *averaging, nn.Flatten(), *_fully_connected(config, flat)
        )
        self.head = nn.Linear(self.features, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Trains almost twice as fast on a CPU; the values are the same.
                module.weight = nn.Parameter(
                    module.weight.detach().to(memory_format=torch.channels_last)
                )
            if isinstance(module, nn.Conv2d | nn.Linear):
                _xavier(module, generator)

    @classmethod
    def of_file(
        cls,
        config: NetworkConfig,
        outputs: int,
        pixels: int,
        weights: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
    ) -> VGG:
        """Build a network with weights from a file whose metadata may be wrong.

        Raises:
            ValueError: The weights are not those of such a network.
        """
        if type(pixels) is not int or not 1 <= pixels <= _MOST_PIXELS:
            raise ValueError(f"its weights do not fit images of {pixels!r} px")
        layers = len(config.channels) * config.convolutions + len(config.hidden) + 1
        if layers > len(weights):
            raise ValueError(f"its {len(weights)} weights do not fit a network of {layers} layers")
        # On the device "meta" no memory is taken before every weight is known to be there.
        try:
            with torch.device("meta"):
                network = cls(config, outputs, pixels)
        except RuntimeError as error:  # more weights than there are numbers to count them
            raise ValueError(f"its network cannot be: {str(error).splitlines()[0]}") from error
        check_fit(network, weights)
        network.to_empty(device=device).load_state_dict(weights)
        return network.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to outputs (N, ``outputs``)."""
        outputs: Tensor = self.head(self.trunk(images))
        return outputs


def extreme_image(pixels: int) -> NDArray[np.float32]:
    """Make an image (1, 1, pixels, pixels) with all heights that images can have."""
    heights = np.linspace(-1.5, 1.5, pixels**2, dtype=np.float32)
    return heights.reshape(1, 1, pixels, pixels)


def check_finite_output(module: nn.Module, pixels: int, error: Callable[[str], Exception]) -> None:
    """Check that weights and the answer to a known image are finite.

    Args:
        module: Takes images (N, 1, pixels, pixels).
        pixels: Side of the images.
        error: Makes the exception from its message.

    Raises:
        Exception: They are not: comparisons with NaN would decide without a word.
    """
    for name, values in module.state_dict().items():
        if not torch.isfinite(values).all():
            raise error(f"its weights {name} are not all finite numbers")
    first = next(module.parameters())
    # Finite weights can still overflow.
    known = torch.from_numpy(extreme_image(pixels)).to(first.device, first.dtype)
    with torch.inference_mode():
        answer = module(known)
    if not torch.isfinite(answer).all():
        raise error(f"its answer to a known image is {answer.flatten().tolist()[:4]}, not finite")


def check_fit(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Compare weights from a file with those of a module.

    Raises:
        ValueError: Some are missing, unknown, of another shape or type, infinite or not a number.
    """
    expected = module.state_dict()
    if differing := sorted(expected.keys() ^ weights.keys()):
        name = differing[0]
        raise ValueError(f"its weights do not fit its network: {name!r} is "
                         f"{'missing' if name in expected else 'unknown'}")  # fmt: skip
    for name, own in expected.items():
        other = weights[name]
        if (own.shape, own.dtype) != (other.shape, other.dtype):
            raise ValueError(
                f"its weights do not fit its network: {name!r} is {tuple(other.shape)} of "
                f"{other.dtype}, not {tuple(own.shape)} of {own.dtype}"
            )
        if not torch.isfinite(other).all():
            raise ValueError(f"its weights {name!r} are not all finite")


def least_pixels(config: NetworkConfig) -> int:
    """Compute the least side of an image of which stride and pooling leave something."""
    pooled = min(config.pooled_sets, len(config.channels))
    return int((2**pooled - 1) * config.stem_stride + 1)


def _final_side(config: NetworkConfig, pixels: int) -> int:
    if pixels < least_pixels(config):
        raise ConfigError(
            f"setting network.pooled_sets = {config.pooled_sets}: an image of {pixels} px is too "
            f"small for a first stride of {config.stem_stride} and so many poolings: at least "
            f"{least_pixels(config)} px are needed"
        )
    side = (pixels - 1) // config.stem_stride + 1
    # Each pooling halves the side and drops an odd last row and column.
    return side >> min(config.pooled_sets, len(config.channels))


def _convolutions(config: NetworkConfig) -> list[nn.Module]:
    # Batch norm subtracts the mean, and any bias with it; so layers before it have none.
    layers: list[nn.Module] = []
    previous, stride = 1, config.stem_stride
    for index, channels in enumerate(config.channels):
        for _ in range(config.convolutions):
            convolution = nn.Conv2d(
                previous, channels, 3, stride, padding=1, bias=config.norm != "batch"
            )
            layers += [convolution, *_norm(config, channels, nn.BatchNorm2d), nn.ReLU(inplace=True)]
            previous, stride = channels, 1
        if index < config.pooled_sets:
            # Before the ReLU, with which the maximum commutes: a quarter of the work.
            layers.insert(-1, nn.MaxPool2d(2))
    return layers


def _fully_connected(config: NetworkConfig, inputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for units in config.hidden:
        layers.append(nn.Linear(inputs, units, bias=config.norm != "batch"))
        layers += [*_norm(config, units, nn.BatchNorm1d), nn.ReLU(inplace=True)]
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
        inputs = units
    return layers


def _norm(
    config: NetworkConfig, channels: int, batch_norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]
) -> list[nn.Module]:
    if config.norm == "batch":
        return [batch_norm(channels)]
    if config.norm == "group":
        # Groups must divide the channels; eight where that is possible.
        return [nn.GroupNorm(math.gcd(8, channels), channels)]
    return []


def _xavier(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
    outputs, inputs = layer.weight.shape[:2]
    receptive = layer.weight[0, 0].numel()
    bound = math.sqrt(6 / ((inputs + outputs) * receptive))
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
