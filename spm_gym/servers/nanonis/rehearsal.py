"""Rehearsal: every command is printed, and none is sent."""

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
    """Replaces a connection; the replies come from a virtual controller.

    Args:
        controller: Carries out the commands.
        print_line: Called with a line for every command.
    """

    def __init__(self, controller: VirtualController, print_line: Callable[[str], None]) -> None:
        self.release = controller.release
        self._controller = controller
        self._print_line = print_line

    def call(
        self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any
    ) -> dict[str, Any]:
        """Print a command and answer it as a controller would."""
        # Through the bytes of the wire, so that the numbers are rounded as on a real controller.
        command = commands(self.release)[name]
        request = encode_request(command, values)
        arguments = ", ".join(f"{key}={value!r}" for key, value in values.items())
        self._print_line(f"{name}({arguments})")
        try:
            reply = self._controller.execute(name, decode_request(command, request[HEADER_SIZE:]))
        except Refused as refusal:
            raise CommandFailed(f"{name}: {refusal}") from refusal
        return decode_reply(command, encode_reply(command, reply)[HEADER_SIZE:])

    def connect(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def close(self) -> None:
        """Do nothing: there is no connection."""
