"""What every microscope must be able to do; failures raise `spm_gym.errors.InstrumentError`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from spm_gym.types import Conditioning, Direction, Frame, Scan, Status


class Instrument(Protocol):
    """A scanning tunnelling microscope. Every call blocks; failures raise `InstrumentError`."""

    def status(self) -> Status:
        """Read the present state; moves nothing."""
        ...

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines; the others are NaN."""
        ...

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at piezo position x, y (m). No caller ever repeats it on failure."""
        ...

    def approach(self) -> None:
        """Bring the tip into tunnelling contact, z piezo near the middle of its range."""
        ...

    def withdraw(self) -> None:
        """Take the tip away from the surface; legal in every state, and twice in a row."""
        ...

    def retract(self) -> None:
        """Withdraw, and take the tip further away with the coarse motor, as after a crash."""
        ...

    def move_area(self, direction: Direction) -> None:
        """Withdraw, move coarsely to a fresh approach area, approach, centre the xy piezo.

        Piezos creep afterwards: whoever calls this waits. Any error but `OutcomeUnknown` means
        that nothing was moved sideways.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Let so much time pass on the instrument's clock; does nothing else."""
        ...

    def reconnect(self) -> None:
        """Give up what is left of the connection and connect again; no act is sent again."""
        ...

    def close(self) -> None:
        """Let go of the instrument; legal twice."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """An instrument that exists in software: it can begin again, and its state can be kept."""

    def restart(self, seed: int) -> None:
        """Begin again, everything drawn from the seed."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Everything that `set_state` needs to continue bit for bit.

        It is data that `spm_gym.plain_state.to_bytes` takes.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            spm_gym.plain_state.StateError: It is something else.
        """
        ...
