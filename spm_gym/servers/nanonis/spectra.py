"""Curves of the junction: modules Bias and Z Spectroscopy of the virtual controller."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from spm_gym.servers.nanonis.bench import Bench, Handler, coerced
from spm_gym.servers.nanonis.scanning import Scanning
from spm_gym.servers.nanonis.signals import (
    BIAS,
    CURRENT,
    HIGHEST_BIAS,
    NAMES,
    Z,
    current_noise,
)
from spm_gym.servers.nanonis.transients import Array
from spm_gym.servers.nanonis.z_controller import ZController

_MOST_POINTS = 100_000
_LONGEST_S = 3600.0
_JUMPS = 0.02
"""Probability that an unstable tip changes its form at a point."""

_CONTACT = 0.5e-9
"""How much nearer than imaging a tip comes before it touches, m."""


class _Spectroscopy(ABC):
    """Sweeps something and records channels meanwhile; the tip stays where it is.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        scanning: Knows place and signals.
    """

    name: str
    swept: str

    def __init__(self, bench: Bench, z: ZController, scanning: Scanning) -> None:
        self._bench = bench
        self._z = z
        self._signals = scanning.signals
        self._scanning = scanning
        self._until = -math.inf
        self._taken = 0

    def handlers(self) -> Mapping[str, Handler]:
        """What answers the commands."""
        return {
            f"{self.name}.Start": self._start,
            f"{self.name}.Stop": self._stop,
            f"{self.name}.StatusGet": lambda: {"running": int(self._running)},
            f"{self.name}.ChsSet": self._set_channels,
            f"{self.name}.ChsGet": lambda: {
                "channel_indexes": self._channels,
                "channel_names": self._names,
            },
        }

    @abstractmethod
    def _ends(self) -> tuple[float, float]:
        """Of the sweep."""

    @abstractmethod
    def _settings(self) -> tuple[float, float]:
        """What is told of the sweep in the parameters."""

    @abstractmethod
    def _at(self, swept: Array) -> tuple[Array, Array]:
        """Bias, V, and height above where the feedback would hold the tip, m, in a sweep."""

    @property
    def _running(self) -> bool:
        return self._bench.clock.runs and self._bench.now < self._until

    @property
    def _channels(self) -> list[int]:
        return list(self._bench.memory.of(f"{self.name}.Chs")["channel_indexes"])

    @property
    def _names(self) -> list[str]:
        return [NAMES[self._signals.rt_index(channel)] for channel in self._channels]

    def _set_channels(self, channel_indexes: Any) -> None:
        channels = [int(channel) for channel in channel_indexes]
        for channel in channels:
            self._signals.rt_index(channel)
        self._bench.memory.of(f"{self.name}.Chs")["channel_indexes"] = channels

    def _stop(self) -> None:
        self._until = -math.inf

    def _start(self, get_data: int, save_basename: str) -> dict[str, Any]:
        timing = self._bench.memory.of(f"{self.name}.Timing")
        props = self._bench.memory.of(f"{self.name}.Props")
        points = min(max(props["points"], 2), _MOST_POINTS)
        each = max(timing["settling"] + timing["integration"], 0.0)
        directions = 2 if props.get("backward") else 1
        self._until = self._bench.now + min(directions * points * each, _LONGEST_S)
        curve = self._curve(points, directions, timing["integration"])
        if not get_data:
            return {"channel_names": [], "data": np.empty((0, 0)), "n": 0, "parameters": []}
        self._bench.wait(lambda: self._until if self._running else None)
        return curve

    def _curve(self, points: int, directions: int, integration: float) -> dict[str, Any]:
        start, end = self._ends()
        swept = np.linspace(start, end, points)
        self._taken += 1
        self._touch(swept)
        names, rows = [self.swept], [swept]
        for direction in range(directions):
            for channel in self._channels:
                signal = self._signals.rt_index(channel)
                names.append(_named(NAMES[signal], direction))
                # What is swept back is listed in the order of the way there.
                rows.append(self._response(signal, swept, integration, direction))
        parameters = [*self._scanning.position(), self._z.z, *self._settings()]
        return {
            "channel_names": names,
            "data": np.stack(rows),
            "n": len(parameters),
            "parameters": parameters,
        }

    def _touch(self, swept: Array) -> None:
        """A tip that is driven into the surface leaves its mark there."""
        _, rise = self._at(swept)
        deepest = -float(rise.min())
        if deepest > _CONTACT:
            self._z.press(deepest)

    def _response(self, signal: int, swept: Array, integration: float, direction: int) -> Array:
        bias, rise = self._at(swept)
        if signal == BIAS:
            return bias
        if signal == Z:
            return self._z.z - self._z.above_surface + rise
        if signal != CURRENT:
            return np.full(len(swept), self._signals.value(signal))
        # Chance that nobody else draws.
        rng = np.random.default_rng([self._taken, direction])
        noise = current_noise(integration) * rng.standard_normal(len(swept))
        junction = self._bench.microscope.junction
        if junction.raised:
            second = np.cumsum(rng.random(len(swept)) < _JUMPS) % 2
            rise = rise - junction.raised * second
        if not self._z.in_contact or self._bench.microscope.fault == "lost contact":
            return noise
        if self._bench.microscope.fault:
            return np.sign(bias) * junction.limit
        limit = junction.limit
        return np.clip(junction.current(bias, rise) + noise, -limit, limit)


class BiasSpectroscopy(_Spectroscopy):
    """Current by bias at a height that is held."""

    name, swept = "BiasSpectr", "Bias calc (V)"

    def _ends(self) -> tuple[float, float]:
        limits = self._bench.memory.of("BiasSpectr.Limits")
        return coerced(limits["start"], HIGHEST_BIAS), coerced(limits["end"], HIGHEST_BIAS)

    def _settings(self) -> tuple[float, float]:
        return self._ends()

    def _at(self, swept: Array) -> tuple[Array, Array]:
        lifted = self._bench.memory.of("BiasSpectr.Props").get("z_offset", 0.0)
        return swept, np.full(len(swept), self._z.above_surface + lifted)


class ZSpectroscopy(_Spectroscopy):
    """Current by height: falls by a barrier that depends on the tip and the place."""

    name, swept = "ZSpectr", "Z rel (m)"

    def _ends(self) -> tuple[float, float]:
        span = self._bench.memory.of("ZSpectr.Range")
        return span["z_offset"], span["z_offset"] + span["distance"]

    def _settings(self) -> tuple[float, float]:
        span = self._bench.memory.of("ZSpectr.Range")
        return span["z_offset"], span["distance"]

    def _at(self, swept: Array) -> tuple[Array, Array]:
        bias = np.full(len(swept), self._bench.microscope.bias)
        return bias, self._z.above_surface + swept


def _named(signal: str, direction: int) -> str:
    """The name of a channel; the way back is marked before the unit."""
    name, _, unit = signal.rpartition(" ")
    return f"{name} [bwd] {unit}" if direction else signal
