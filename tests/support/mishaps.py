"""Simulated microscopes to which something happens at a certain call."""

from __future__ import annotations

from typing import Any

from spm_gym.config import load_config
from spm_gym.errors import (
    OutcomeUnknown,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Conditioning, Direction, Frame, Scan


class Mishap(SimulatedMicroscope):
    """A simulated microscope to which something happens at a certain call.

    Args:
        calls: Number of a call by method, from 1, and what to do instead; None: an accident
            has happened by then.
    """

    def __init__(self, **calls: dict[int, Any]) -> None:
        self.calls = calls
        self.counted: dict[str, int] = {}
        super().__init__(load_config(None, ["simulator.rough_fraction=0"]).simulator, seed=5)
        self.config = self.config.model_copy(
            update={"tip_change_rate": 0, "contact_loss_rate": 0, "crash_rate": 0}
        )

    def _due(self, name: str) -> Any:
        self.counted[name] = self.counted.get(name, 0) + 1
        return self.calls.get(name, {}).get(self.counted[name])

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        what = self._due("scan")
        if isinstance(what, BaseException):
            raise what
        if what is not None:
            self.inject(what)
        return super().scan(frame, fraction)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self._raise("condition")
        super().condition(action, x, y)

    def retract(self) -> None:
        self._raise("retract")
        super().withdraw()

    def withdraw(self) -> None:
        self._raise("withdraw")
        super().withdraw()

    def approach(self) -> None:
        self._raise("approach")
        super().approach()

    def move_area(self, direction: Direction) -> None:
        what = self._due("move_area")
        if isinstance(what, OutcomeUnknown):
            super().move_area(direction)
        if what is not None:
            raise what
        super().move_area(direction)

    def reconnect(self) -> None:
        self._raise("reconnect")

    def _raise(self, name: str) -> None:
        what = self._due(name)
        if what is not None:
            raise what


def always(error: Any) -> Any:
    class Always(dict[int, Any]):
        def get(self, key: int, default: Any = None) -> Any:
            return error

    return Always()
