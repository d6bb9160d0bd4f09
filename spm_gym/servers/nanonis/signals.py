"""Signals of the virtual controller: modules Signals and Current."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from spm_gym.instrument.nanonis.commands import RT_INDEXES_SINCE
from spm_gym.servers.nanonis.bench import Bench, Handler, Refused, coerced
from spm_gym.servers.nanonis.z_controller import ZController

CURRENT, BIAS, X, Y, Z = 0, 24, 26, 27, 30
_SLOTS = 24
"""Older releases scan the signals of 24 slots; newer ones name signals by their own indices."""
HIGHEST_BIAS = 10.0

_NOISE_A_PER_ROOT_HZ = 5e-15
"""Noise of the preamplifier."""

_KNOWN = {CURRENT: "Current (A)", BIAS: "Bias (V)", X: "X (m)", Y: "Y (m)", Z: "Z (m)"} | {
    86 + 2 * demodulator + part: f"LI Demod {demodulator + 1} {'XY'[part]} (A)"
    for demodulator in range(8)
    for part in range(2)
}
NAMES = [
    _KNOWN.get(index)
    or (f"Input {index + 1} (V)" if index < BIAS else f"Internal {index - BIAS} (V)")
    for index in range(128)
]
"""Names of all signals, by their index in the real-time engine."""

_MEASURED = [NAMES[index] for index in (CURRENT, BIAS, X, Y, Z, 86, 87)]


class Signals:
    """Values and names of the signals.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        position: Gives the position of the tip, m.
    """

    def __init__(
        self, bench: Bench, z: ZController, position: Callable[[], tuple[float, float]]
    ) -> None:
        self._bench = bench
        self._z = z
        self._position = position
        self._slots = list(range(_SLOTS))
        # In the old list of slots height is number 14; the current is number 0 in both lists.
        self._slots[8], self._slots[14] = BIAS, Z
        self._additional = [0, 0]
        if bench.release < RT_INDEXES_SINCE:
            bench.settings.of("Scan.Buffer")["channel_indexes"] = [0, 14]
            bench.settings.of("Osci2T.Chs")["channel_b"] = 14

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            "Bias.Get": lambda: {"bias": self._bench.microscope.bias},
            "Bias.Set": self._set_bias,
            "Current.Get": lambda: {"current": self._z.current},
            "Current.100Get": lambda: {"current": self._z.current},
            "Current.BEEMGet": lambda: {"current": 0.0},
            "Current.GainsGet": self._gains,
            "Signals.NamesGet": lambda: {"names": NAMES},
            "Signals.MeasNamesGet": lambda: {"names": _MEASURED},
            "Signals.CalibrGet": self._calibration,
            "Signals.RangeGet": self._range,
            "Signals.ValGet": lambda signal_index, newest: {"value": self.value(signal_index)},
            "Signals.ValsGet": self._values,
            "Signals.AddRTGet": self._additional_names,
            "Signals.AddRTSet": self._set_additional,
            "Signals.InSlotSet": self._set_slot,
            "Signals.InSlotsGet": self._slot_names,
        }

    def rt_index(self, channel: int) -> int:
        """Convert the channel of a scan command to the index of a signal, by release.

        Raises:
            Refused: There is no such channel.
        """
        if self._bench.release >= RT_INDEXES_SINCE:
            return _checked(channel)
        if not 0 <= channel < _SLOTS:
            raise Refused(f"there is no slot {channel}; slots go from 0 to {_SLOTS - 1}")
        return self._slots[channel]

    def value(self, index: int) -> float:
        """Return the present value of a signal.

        Raises:
            Refused: There is no such signal.
        """
        _checked(index)
        if index in (X, Y):
            return self._position()[index - X]
        if index == Z:
            return self._z.z
        if index == BIAS:
            return self._bench.microscope.bias
        return self._z.current if index == CURRENT else 0.0

    def _set_bias(self, bias: float) -> None:
        self._bench.microscope.bias = coerced(bias, HIGHEST_BIAS)

    def _gains(self) -> dict[str, Any]:
        kept = self._bench.settings.of("Current.Gain")
        return {
            "gains": kept["gains"],
            "active_gain": kept["gain"],
            "filters": kept["filters"],
            "active_filter": kept["filter"],
        }

    def _calibration(self, signal_index: int) -> dict[str, float]:
        low, high = self._limits(signal_index)
        # Inputs and outputs reach from -10 V to 10 V.
        return {"calibration_per_volt": (high - low) / 20, "offset": 0.0}

    def _range(self, signal_index: int) -> dict[str, float]:
        low, high = self._limits(signal_index)
        return {"maximum": high, "minimum": low}

    def _limits(self, index: int) -> tuple[float, float]:
        _checked(index)
        reach = self._bench.microscope.reach
        if index == Z:
            return self._bench.microscope.z_range
        if index in (X, Y):
            return -reach, reach
        largest = (
            self._bench.microscope.largest_current if NAMES[index].endswith("(A)") else HIGHEST_BIAS
        )
        return -largest, largest

    def _values(self, signal_indexes: Any, newest: int) -> dict[str, Any]:
        values = [self.value(int(index)) for index in signal_indexes]
        return {"n": len(values), "values": values}

    def _additional_names(self) -> dict[str, Any]:
        first, second = (NAMES[index] for index in self._additional)
        return {"names": NAMES[96:], "internal_23": first, "internal_24": second}

    def _set_additional(self, internal_23: int, internal_24: int) -> None:
        self._additional = [_checked(internal_23), _checked(internal_24)]

    def _set_slot(self, slot: int, rt_index: int) -> None:
        self.rt_index(slot)
        self._slots[slot] = _checked(rt_index)

    def _slot_names(self) -> dict[str, Any]:
        return {"names": [NAMES[index] for index in self._slots], "rt_indexes": self._slots}


def current_noise(seconds: float) -> float:
    """Compute the noise of a current that is averaged for so long (s), A rms."""
    # Averaging over a time t leaves the bandwidth 1 / (2 t).
    return _NOISE_A_PER_ROOT_HZ * math.sqrt(0.5 / max(seconds, 1e-9))


def _checked(index: int) -> int:
    if not 0 <= index < len(NAMES):
        raise Refused(f"there is no signal {index}; signals go from 0 to {len(NAMES) - 1}")
    return index
