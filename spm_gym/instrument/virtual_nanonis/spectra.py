"""Curves: modules Bias Spectroscopy and Oscilloscope 2T of the virtual controller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from spm_gym.instrument.virtual_nanonis.bench import Bench, Handler
from spm_gym.instrument.virtual_nanonis.scanning import Scanning
from spm_gym.instrument.virtual_nanonis.signals import CURRENT, NAMES
from spm_gym.instrument.virtual_nanonis.z_controller import ZController

_MOST_POINTS = 100_000
_LONGEST_S = 3600.0
_SAMPLES = 1024


class Spectra:
    """A spectrum is a straight line through the present current; the oscilloscope shows levels."""

    def __init__(self, bench: Bench, z: ZController, scanning: Scanning) -> None:
        self._bench = bench
        self._z = z
        self._signals = scanning.signals
        self._scanning = scanning
        self._until = -math.inf

    def handlers(self) -> Mapping[str, Handler]:
        """What answers the commands."""
        return {
            "BiasSpectr.Start": self._sweep,
            "BiasSpectr.Stop": self._stop,
            "BiasSpectr.StatusGet": lambda: {"running": int(self._running)},
            "BiasSpectr.ChsSet": self._set_channels,
            "BiasSpectr.ChsGet": lambda: {
                "channel_indexes": self._channels,
                "channel_names": self._names,
            },
            "Osci2T.DataGet": self._scope,
        }

    @property
    def _running(self) -> bool:
        return self._bench.clock.runs and self._bench.now < self._until

    @property
    def _channels(self) -> list[int]:
        return list(self._bench.memory.of("BiasSpectr.Chs")["channel_indexes"])

    @property
    def _names(self) -> list[str]:
        return [NAMES[self._signals.rt_index(channel)] for channel in self._channels]

    def _set_channels(self, channel_indexes: Any) -> None:
        channels = [int(channel) for channel in channel_indexes]
        for channel in channels:
            self._signals.rt_index(channel)
        self._bench.memory.of("BiasSpectr.Chs")["channel_indexes"] = channels

    def _stop(self) -> None:
        self._until = -math.inf

    def _sweep(self, get_data: int, save_basename: str) -> dict[str, Any]:
        timing = self._bench.memory.of("BiasSpectr.Timing")
        points = min(max(self._bench.memory.of("BiasSpectr.Props")["points"], 2), _MOST_POINTS)
        takes = max(points * (timing["settling"] + timing["integration"]), 0.0)
        self._until = self._bench.now + min(takes, _LONGEST_S)
        if not get_data:
            return {"channel_names": [], "data": np.empty((0, 0)), "n": 0, "parameters": []}
        curve = self._curve(points)
        self._bench.wait(lambda: self._until if self._running else None)
        return curve

    def _curve(self, points: int) -> dict[str, Any]:
        limits = self._bench.memory.of("BiasSpectr.Limits")
        start, end = limits["start"], limits["end"]
        bias = np.linspace(start, end, points)
        names = ["Bias calc (V)", *self._names]
        data = np.stack([bias, *(self._response(channel, bias) for channel in self._channels)])
        parameters = [*self._scanning.position(), self._z.z, start, end]
        return {
            "channel_names": names,
            "data": data,
            "n": len(parameters),
            "parameters": parameters,
        }

    def _response(self, channel: int, bias: Any) -> Any:
        signal = self._signals.rt_index(channel)
        value = self._signals.value(signal)
        if signal != CURRENT:
            return np.full(len(bias), value)
        return value * bias / (self._bench.microscope.bias or 1.0)

    def _scope(self, mode: int) -> dict[str, Any]:
        memory = self._bench.memory
        base = memory.of("Osci2T.Timebase")
        choice = min(base.get("index", 0), len(base["timebases"]) - 1)
        channels = memory.of("Osci2T.Chs")
        a, b = (
            np.full(_SAMPLES, self._signals.value(channels[name]))
            for name in ("channel_a", "channel_b")
        )
        dt = base["timebases"][choice] / _SAMPLES
        return {"t0": 0.0, "dt": dt, "n": _SAMPLES, "n_again": _SAMPLES, "a": a, "b": b}
