"""A controller that shows every command it is given and sends none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spm_gym.errors import CommandFailed
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from spm_gym.servers.nanonis.controller import Refused, VirtualController


class Rehearsal:
    """Stands in for a connection; what it replies comes from a virtual controller.

    Args:
        controller: Answers.
        show: Takes a line for every command.
    """

    def __init__(self, controller: VirtualController, show: Callable[[str], None]) -> None:
        self.release = controller.release
        self._controller = controller
        self._show = show

    def call(
        self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any
    ) -> dict[str, Any]:
        """Show a command and answer it as a controller would."""
        command = commands(self.release)[name]
        request = encode_request(command, values)
        arguments = ", ".join(f"{key}={value!r}" for key, value in values.items())
        self._show(f"{name}({arguments})")
        try:
            reply = self._controller.execute(name, decode_request(command, request[HEADER_SIZE:]))
        except Refused as refusal:
            raise CommandFailed(f"{name}: {refusal}") from refusal
        return decode_reply(command, encode_reply(command, reply)[HEADER_SIZE:])

    def connect(self) -> None:
        """Do nothing: there is nobody to connect to."""

    def close(self) -> None:
        """Do nothing: there is no connection."""
