"""Conditioning by the virtual controller: module Tip Shaper, and pulses of module Bias."""

from __future__ import annotations

from collections.abc import Mapping

from spm_gym.instrument.sim.junction import Junction
from spm_gym.servers.nanonis.bench import Bench, Handler, coerced, seconds
from spm_gym.servers.nanonis.scanning import Scanning
from spm_gym.servers.nanonis.signals import HIGHEST_BIAS
from spm_gym.servers.nanonis.transients import Transient, pulse, ramps
from spm_gym.servers.nanonis.z_controller import DEEPEST, ZController
from spm_gym.types import Conditioning, Dip, Pulse

_LONGEST_S = 1000.0
_PULSES_FROM_V = 2.0
"""Bias from which the tip shaper acts like a pulse although it does not reach the surface."""

_REACH_OF_PULSES = 5e-9
"""Height above the surface up to which pulses act on the tip, m."""

_RELATIVE = 1
_HOLD = 1


class TipConditioning:
    """Dips and pulses at the place of the tip; they end a running scan.

    Nothing happens to tip and surface while the tip is withdrawn, has lost contact or has crashed.
    """

    def __init__(self, bench: Bench, z: ZController, scanning: Scanning) -> None:
        self._bench = bench
        self._z = z
        self._scanning = scanning

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {"Bias.Pulse": self._pulse, "TipShaper.Start": self._shape}

    def _pulse(self, wait: int, width: float, bias: float, z_control: int, mode: int) -> None:
        kept = self._bench.settings.of("Bias.Pulse")
        # 0 keeps the last mode and control; at first pulses are absolute and the feedback is held.
        mode = kept["mode"] = mode or kept.get("mode", 2)
        if mode == _RELATIVE:
            bias += self._bench.microscope.bias
        hold = kept["z_control"] = z_control or kept.get("z_control", _HOLD)
        bias, width = coerced(bias, HIGHEST_BIAS), _duration(width)
        if self._z.above_surface < _REACH_OF_PULSES:
            held = hold == _HOLD or not self._z.loop
            self._condition(
                Pulse(bias, width), pulse(self._bench.now, self._junction, bias, width, held)
            )
        if wait:
            self._bench.wait_until(self._bench.now + width)

    def _shape(self, wait: int, timeout: int) -> None:
        props = self._bench.settings.of("TipShaper.Props")
        bias = props["bias"] if props["change_bias"] else self._bench.microscope.bias
        bias, width = coerced(bias, HIGHEST_BIAS), _duration(props["lift_time_1"])
        # A negative lift goes towards the sample, from the height at which the tip is now.
        depth = -props["tip_lift"] - self._z.above_surface
        if depth > 0:
            self._condition(Dip(min(depth, DEEPEST), bias, width), self._shaped(bias))
        elif abs(bias) >= _PULSES_FROM_V and self._z.above_surface < _REACH_OF_PULSES:
            self._condition(Pulse(bias, width), self._shaped(bias))
        # The feedback stays off, and the tip where the last ramp ends.
        if not props["restore_feedback"] and self._z.loop:
            self._z.hold_at(props["tip_lift"] + props["lift_height"])
        if wait:
            timers = ("switch_off_delay", "bias_settling_time", "lift_time_2", "end_wait")
            takes = width + sum(_duration(props[name]) for name in timers)
            self._bench.wait_until(self._bench.now + min(takes, seconds(timeout)))

    @property
    def _junction(self) -> Junction:
        return self._bench.microscope.junction

    def _shaped(self, bias: float) -> Transient:
        """Return the course of the tip shaper's ramps, for the oscilloscopes."""
        props = self._bench.settings.of("TipShaper.Props")
        before, lift = self._bench.microscope.bias, self._z.above_surface
        down, up = lift + props["tip_lift"], lift + props["tip_lift"] + props["lift_height"]
        # Order of the ramps as documented: wait, bias, settling, ramp by the tip lift, second bias,
        # settling, ramp by the lift height, first bias, wait.
        settling = _duration(props["bias_settling_time"]) if props["change_bias"] else 0.0
        return ramps(self._bench.now, self._junction, [
            (_duration(props["switch_off_delay"]), before, lift),
            (settling, bias, lift),
            (_duration(props["lift_time_1"]), bias, down),
            (_duration(props["bias_settling_time"]), props["bias_lift"], down),
            (_duration(props["lift_time_2"]), props["bias_lift"], up),
            (_duration(props["end_wait"]), before, up),
        ])  # fmt: skip

    def _condition(self, act: Conditioning, transient: Transient) -> None:
        self._scanning.stop()
        microscope = self._bench.microscope
        status = microscope.status()
        if status.approached and not microscope.fault:
            self._bench.resting = None
            self._bench.last_act = transient
            microscope.condition(act, status.x, status.y)


def _duration(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_S)
