"""Oscilloscopes of the virtual controller: modules Oscilloscope 1T and 2T."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from spm_gym.servers.nanonis.bench import Bench, Handler
from spm_gym.servers.nanonis.signals import BIAS, CURRENT, Signals, Z, current_noise
from spm_gym.servers.nanonis.transients import Array, Transient
from spm_gym.servers.nanonis.z_controller import ZController

_SAMPLES = 1024
_NOW, _NEXT = range(2)
_IMMEDIATE, _LEVEL, _AUTO = range(3)
_PATIENCE_S = 10.0
"""Longest wait for a trigger: no command can stop it. The present signals are returned then."""


class Oscilloscopes:
    """Display the signals over time, and the current during pulses and dips.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        signals: Present values of the signals.
    """

    def __init__(self, bench: Bench, z: ZController, signals: Signals) -> None:
        self._bench = bench
        self._z = z
        self._signals = signals
        self._displayed = 0

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            "Osci1T.ChSet": self._set_channel,
            "Osci1T.DataGet": self._one_channel,
            "Osci2T.ChsSet": self._set_channels,
            "Osci2T.DataGet": self._two_channels,
        }

    def _set_channel(self, channel: int) -> None:
        self._signals.rt_index(channel)
        self._bench.settings.of("Osci1T.Ch")["channel"] = channel

    def _set_channels(self, channel_a: int, channel_b: int) -> None:
        for channel in (channel_a, channel_b):
            self._signals.rt_index(channel)
        self._bench.settings.of("Osci2T.Chs").update(channel_a=channel_a, channel_b=channel_b)

    def _one_channel(self, mode: int) -> dict[str, Any]:
        channel = self._bench.settings.of("Osci1T.Ch").get("channel", 0)
        times, (y,) = self._traces("Osci1T", mode, [channel], 0)
        return {"t0": times[0], "dt": times[1] - times[0], "n": _SAMPLES, "y": y}

    def _two_channels(self, mode: int) -> dict[str, Any]:
        channels = self._bench.settings.of("Osci2T.Chs")
        trigger = self._bench.settings.of("Osci2T.Trig").get("channel", 0)
        both = [channels["channel_a"], channels["channel_b"]]
        times, (a, b) = self._traces("Osci2T", mode, both, min(trigger, 1))
        dt = times[1] - times[0]
        return {"t0": times[0], "dt": dt, "n": _SAMPLES, "n_again": _SAMPLES, "a": a, "b": b}

    def _traces(
        self, module: str, mode: int, channels: list[int], source: int
    ) -> tuple[Array, list[Array]]:
        """Return times and signals on the screen.

        Args:
            module: Name of the oscilloscope.
            mode: Argument of DataGet.
            channels: Channels to display.
            source: Index of the trigger's channel among them.
        """
        base = self._bench.settings.of(f"{module}.Timebase")
        span = base["timebases"][min(max(base.get("index", 0), 0), len(base["timebases"]) - 1)]
        trigger = self._bench.settings.of(f"{module}.Trig")
        kind = trigger.get("mode", _IMMEDIATE)
        if mode != _NOW:
            self._await_trigger(kind, span, 1 if mode == _NEXT else 2)
        signals = [self._signals.rt_index(channel) for channel in channels]
        start = self._bench.now - span
        if kind != _IMMEDIATE:
            met = self._triggered(trigger, signals[source], span)
            # Mode "auto" runs freely when the trigger has not come for a while.
            if met is not None and (kind == _LEVEL or met > start):
                start = met - trigger.get("position", 0.0)
        times = start + np.arange(_SAMPLES) * (span / _SAMPLES)
        self._displayed += 1
        return times, [self._trace(signal, times) for signal in signals]

    def _await_trigger(self, kind: int, span: float, count: int) -> None:
        started = self._bench.now

        def due() -> float | None:
            act = self._bench.last_act
            if kind != _IMMEDIATE and act is not None and act.started >= started:
                return None if self._bench.now >= act.started + span else act.started + span
            if kind == _LEVEL:
                return math.inf  # only an act can trigger; the noise is not compared
            return None if self._bench.now >= started + count * span else started + count * span

        self._bench.wait(due, max(_PATIENCE_S, count * span))

    def _triggered(self, trigger: Mapping[str, Any], signal: int, span: float) -> float | None:
        """Return when the last act took the signal through the trigger's level, s."""
        act = self._bench.last_act
        if act is None:
            return None
        # From just before the act, to its end or for one screen, four times as dense as a screen.
        times = act.started + np.linspace(-0.01, 1.0, 4 * _SAMPLES) * max(
            span, act.end - act.started
        )
        values = self._noiseless(signal, times, act)
        above = values > trigger.get("level", 0.0)
        if not trigger.get("slope", 0):
            above = ~above
        crossings = np.flatnonzero(above[1:] & ~above[:-1])
        return float(times[crossings[0] + 1]) if crossings.size else None

    def _trace(self, signal: int, times: Array) -> Array:
        values = self._noiseless(signal, times, self._bench.last_act)
        if signal != CURRENT:
            return values
        # From a generator of its own: displaying a signal must not change later images.
        noise = np.random.default_rng([self._displayed, signal]).standard_normal(len(times))
        limit = self._bench.microscope.largest_current
        return np.clip(values + current_noise(times[1] - times[0]) * noise, -limit, limit)

    def _noiseless(self, signal: int, times: Array, act: Transient | None) -> Array:
        level = self._signals.value(signal)
        if act is None:
            return np.full(len(times), level)
        if signal == CURRENT:
            return act.current_at(times, level)
        if signal == BIAS:
            return act.bias_at(times, level)
        return level + act.rise_at(times) if signal == Z else np.full(len(times), level)
