"""Spectroscopy of the virtual controller: modules Bias Spectroscopy and Z Spectroscopy."""

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
"""Approach from the imaging height at which a tip touches the surface, m."""


class _Spectroscopy(ABC):
    """Sweeps a quantity and records channels; the tip does not move sideways.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        scanning: Gives the place of the tip and the signals.
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
        """Return the handlers of the module's commands, by name."""
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
        """Return the ends of the sweep."""

    @abstractmethod
    def _sweep_parameters(self) -> tuple[float, float]:
        """Return the entries of the sweep among the parameters."""

    @abstractmethod
    def _at(self, swept: Array) -> tuple[Array, Array]:
        """Return bias, V, and height above where the feedback would hold the tip, m."""

    @property
    def _running(self) -> bool:
        return self._bench.clock.runs and self._bench.now < self._until

    @property
    def _channels(self) -> list[int]:
        return list(self._bench.settings.of(f"{self.name}.Chs")["channel_indexes"])

    @property
    def _names(self) -> list[str]:
        return [NAMES[self._signals.rt_index(channel)] for channel in self._channels]

    def _set_channels(self, channel_indexes: Any) -> None:
        channels = [int(channel) for channel in channel_indexes]
        for channel in channels:
            self._signals.rt_index(channel)
        self._bench.settings.of(f"{self.name}.Chs")["channel_indexes"] = channels

    def _stop(self) -> None:
        self._until = -math.inf

    def _start(self, get_data: int, save_basename: str) -> dict[str, Any]:
        timing = self._bench.settings.of(f"{self.name}.Timing")
        props = self._bench.settings.of(f"{self.name}.Props")
        points = min(max(props["points"], 2), _MOST_POINTS)
        each = max(timing["settling"] + timing["integration"], 0.0)
        directions = 2 if props.get("backward") else 1
        self._until = self._bench.now + min(directions * points * each, _LONGEST_S)
        curve = self._curve(points, directions, timing["integration"])
        # Without data the command returns at once, while the sweep goes on.
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
                # Backward curves are listed in the order of the forward ones.
                rows.append(self._response(signal, swept, integration, direction))
        parameters = [*self._scanning.position(), self._z.z, *self._sweep_parameters()]
        return {
            "channel_names": names,
            "data": np.stack(rows),
            "n": len(parameters),
            "parameters": parameters,
        }

    def _touch(self, swept: Array) -> None:
        """Leave a mark if the sweep drives the tip into the surface."""
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
        # From a generator of its own: a spectrum must not change later images.
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
    """Current by bias at constant height."""

    name, swept = "BiasSpectr", "Bias calc (V)"

    def _ends(self) -> tuple[float, float]:
        limits = self._bench.settings.of("BiasSpectr.Limits")
        return coerced(limits["start"], HIGHEST_BIAS), coerced(limits["end"], HIGHEST_BIAS)

    def _sweep_parameters(self) -> tuple[float, float]:
        return self._ends()

    def _at(self, swept: Array) -> tuple[Array, Array]:
        lifted = self._bench.settings.of("BiasSpectr.Props").get("z_offset", 0.0)
        return swept, np.full(len(swept), self._z.above_surface + lifted)


class ZSpectroscopy(_Spectroscopy):
    """Current by height, which falls with a barrier that depends on tip and place."""

    name, swept = "ZSpectr", "Z rel (m)"

    def _ends(self) -> tuple[float, float]:
        span = self._bench.settings.of("ZSpectr.Range")
        return span["z_offset"], span["z_offset"] + span["distance"]

    def _sweep_parameters(self) -> tuple[float, float]:
        span = self._bench.settings.of("ZSpectr.Range")
        return span["z_offset"], span["distance"]

    def _at(self, swept: Array) -> tuple[Array, Array]:
        bias = np.full(len(swept), self._bench.microscope.bias)
        return bias, self._z.above_surface + swept


def _named(signal: str, direction: int) -> str:
    """Name a channel; the backward direction is marked before the unit."""
    name, _, unit = signal.rpartition(" ")
    return f"{name} [bwd] {unit}" if direction else signal
