"""Protocols of microscopes; failures raise `spm_gym.errors.InstrumentError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from spm_gym.types import Conditioning, Direction, Frame, Scan, Status


class Instrument(Protocol):
    """Scanning tunnelling microscope. Every call blocks; failures raise `InstrumentError`.

    All quantities are in SI units; piezo coordinates have x to the right and y up.
    """

    def status(self) -> Status:
        """Read the present state, without moving anything."""
        ...

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines; the others are NaN.

        A frame with fewer lines than pixels is a preview: its lines cover the whole frame.
        """
        ...

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at piezo position x, y (m); after a failure nobody repeats it."""
        ...

    def approach(self) -> None:
        """Bring the tip into tunnelling contact, z piezo near the middle of its range."""
        ...

    def withdraw(self) -> None:
        """Take the tip away from the surface; legal in every state, and twice in a row."""
        ...

    def retract(self) -> None:
        """Withdraw, and take the tip further away with the coarse motor, as after a crash.

        The z piezo alone may be too short to free a crashed tip.
        """
        ...

    def move_area(self, direction: Direction) -> None:
        """Withdraw, move coarsely to a fresh approach area, approach, centre the xy piezo.

        The piezos creep afterwards, and the caller must wait. Any error except `OutcomeUnknown`
        means that nothing was moved sideways.
        """
        ...

    def lend(self, work: Callable[[], None]) -> None:
        """Let somebody else use the instrument during ``work``, and take it back after it.

        The tip stays at the surface, the operator's settings are in force, and no connection is
        held meanwhile. Whatever the work raises is raised after the instrument was taken back.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Let so much time pass on the instrument's clock, and do nothing else."""
        ...

    def reconnect(self) -> None:
        """Drop the connection and connect again; no act is sent again."""
        ...

    def close(self) -> None:
        """Close the connection to the instrument; legal twice."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """Instrument in software: it can be restarted, and its state can be saved."""

    def restart(self, seed: int) -> None:
        """Start again, everything drawn from the seed."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return all that `set_state` needs to continue bit for bit.

        It is plain data, as `spm_gym.plain_state.to_bytes` requires.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` gave.

        Raises:
            spm_gym.plain_state.StateError: It is something else.
        """
        ...
