"""Position of the virtual controller's tip: modules Follow Me, Tip Move Recorder and Piezo."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spm_gym.servers.nanonis.bench import Bench, Handler, coerced
from spm_gym.servers.nanonis.scanning import Scanning

_SLOWEST = 1e-12
_LONGEST_RECORD = 100_000
_HIGH_VOLTAGE = 400.0
"""Difference between the ends of a piezo's range, V."""


@dataclass(frozen=True, slots=True)
class _Move:
    start: tuple[float, float]
    end: tuple[float, float]
    started: float
    until: float

    def place(self, now: float) -> tuple[float, float]:
        if now >= self.until:
            return self.end
        share = (now - self.started) / (self.until - self.started)
        (x0, y0), (x1, y1) = self.start, self.end
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


class Positioning:
    """Moves the tip sideways; a running scan ends."""

    def __init__(self, bench: Bench, scanning: Scanning) -> None:
        self._bench = bench
        self._scanning = scanning
        self._move: _Move | None = None
        self._record: deque[list[float]] = deque(maxlen=_LONGEST_RECORD)
        microscope = bench.microscope
        low, high = microscope.z_range
        span = {"x": 2 * microscope.reach, "y": 2 * microscope.reach, "z": high - low}
        per_volt = {axis: length / _HIGH_VOLTAGE for axis, length in span.items()}
        bench.settings.of("Piezo.Range").update(span)
        ends = {"low": -_HIGH_VOLTAGE / 2, "high": _HIGH_VOLTAGE / 2}
        bench.settings.of("Piezo.XYZLimits").update(
            {f"{axis}_{end}": volts for axis in "xyz" for end, volts in ends.items()}
        )
        bench.settings.of("Piezo.Sens").update(per_volt)
        # Calibrations belong to the low-voltage side, before an amplifier with a gain of 20.
        bench.settings.of("Piezo.Calibr").update(
            {axis: 20 * value for axis, value in per_volt.items()}
        )

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            "FolMe.XYPosSet": self._go,
            "FolMe.XYPosGet": lambda newest: dict(zip("xy", self.position(), strict=True)),
            "FolMe.Stop": self.stop,
            "TipRec.BufferSizeSet": self._set_size,
            "TipRec.BufferClear": self._record.clear,
            "TipRec.DataGet": self._data,
            "TipRec.DataSave": lambda clear, basename: self._record.clear() if clear else None,
        }

    @property
    def moving(self) -> bool:
        """Whether the tip is moving."""
        return self._move is not None

    def position(self) -> tuple[float, float]:
        """Return the position of the tip, m."""
        return self._move.place(self._bench.now) if self._move else self._scanning.position()

    def update(self) -> None:
        """End a move that is over, or that a scan has interrupted."""
        if self._move is None:
            return
        if self._scanning.advancing:
            self._move = None
        elif self._bench.now >= self._move.until or not self._bench.clock.runs:
            self._arrive(self._move.end)

    def stop(self) -> None:
        """End the move where the tip is."""
        if self._move:
            self._arrive(self.position())

    def _go(self, x: float, y: float, wait: int) -> None:
        self.stop()
        self._scanning.stop()
        reach = self._bench.microscope.reach
        start, end = self._scanning.position(), (coerced(x, reach), coerced(y, reach))
        now = self._bench.now
        kept = self._bench.settings.of("FolMe.Speed")
        # Follow Me has a speed of its own only if that is switched on.
        speed = kept["speed"] if kept.get("custom") else self._scanning.speed
        takes = math.dist(start, end) / max(speed, _SLOWEST)
        self._move = move = _Move(start, end, now, now + takes)

        def due() -> float | None:
            self.update()
            return move.until if self._move is move else None

        if due() is not None and wait:
            self._bench.wait(due)

    def _arrive(self, place: tuple[float, float]) -> None:
        self._move = None
        self._bench.end_rest()
        self._bench.microscope.move_to(*place)
        self._bench.rest_at(place)
        status = self._bench.microscope.status()
        self._record.append([status.current, status.bias, status.x, status.y, status.z])
        size = self._bench.settings.of("TipRec.BufferSize")["size"]
        while len(self._record) > max(size, 1):
            self._record.popleft()

    def _set_size(self, size: int) -> None:
        # Documented: a new size clears the record.
        self._bench.settings.of("TipRec.BufferSize")["size"] = min(max(size, 1), _LONGEST_RECORD)
        self._record.clear()

    def _data(self) -> dict[str, Any]:
        data = np.array(self._record, dtype=np.float64).reshape(-1, 5).T
        # Current, bias, x, y and height.
        return {"channel_indexes": [0, 24, 26, 27, 30], "data": data}
