"""Signals of a controller by their names."""

from __future__ import annotations

from collections.abc import Sequence

from spm_gym.errors import BadReply, CommandFailed
from spm_gym.instrument.nanonis.connection import Controller


class SignalTable:
    """Reads signals; asks for their names once.

    Args:
        controller: Is asked.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._indexes: dict[str, int] = {}

    def read(self, names: Sequence[str]) -> list[float]:
        """Read the present values, NaN and infinities included.

        Raises:
            CommandFailed: There is no signal of such a name.
            BadReply: There are not as many values as signals.
        """
        if not self._indexes:
            # By index in the list of 128, also in releases whose scans count slots.
            known = self._controller.call("Signals.NamesGet")["names"]
            self._indexes = {name: index for index, name in enumerate(known)}
        for name in names:
            if name not in self._indexes:
                raise CommandFailed(
                    f"the controller has no signal {name!r}; it has "
                    f"{', '.join(each for each in self._indexes if each)}"
                )
        asked = [self._indexes[name] for name in names]
        # Not the newest: that waits for the next measurement, and this is asked for in mid-scan.
        values = self._controller.call("Signals.ValsGet", signal_indexes=asked, newest=0)["values"]
        if len(values) != len(asked):
            raise BadReply(f"Signals.ValsGet: {len(values)} values for {len(asked)} signals")
        return [float(value) for value in values]
