"""Messages cut short, too long, or with a wrong name or size, sent by the thousand."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from contextlib import suppress

import numpy as np

from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.commands import RELEASES, commands
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.wire import HEADER_SIZE, encode_reply, encode_request
from tests.support.scripted_port import Answer, ScriptedPort
from tests.support.waiting import PATIENCE_S

COMMANDS = commands(RELEASES[-1])


def attack_client(count: int, seed: int) -> Counter[str]:
    """Answer so many requests of the client with damaged frames.

    Returns:
        How often each kind of error came, and "accepted", which never should.
    """
    rng = np.random.default_rng(seed)
    values = {"channel_name": "Z (m)", "data": np.ones((4, 4)), "scan_direction": 0}
    whole = encode_reply(COMMANDS["Scan.FrameDataGrab"], values)
    # Name, size, and the sizes inside; not the heights, where every value is a value.
    framing = [*range(18), *range(32, 36), *range(40, 44), *range(49, 57)]
    outcomes: Counter[str] = Counter()
    answers = (_closing(damaged(whole, framing, rng)) for _ in range(count))
    with ScriptedPort(answers) as port:
        connection = Connection("127.0.0.1", port.port, timeout=PATIENCE_S)
        for _ in range(count):
            connection.connect()
            try:
                connection.call("Scan.FrameDataGrab", channel_index=30, direction=1)
                outcomes["accepted"] += 1
            except InstrumentError as error:
                outcomes[type(error).__name__] += 1
        connection.close()
        outcomes["asked"] = len(port.requests)
    return outcomes


def attack_server(port: int, witness: int, count: int, seed: int) -> int:
    """Send so many damaged requests to set the bias to 9 V.

    Args:
        port: To send them to.
        witness: Another port of the same server.
        count: How many.
        seed: Of the damage.

    Returns:
        How often the bias was found to be another than before; asked after every hundredth.
    """
    rng = np.random.default_rng(seed)
    whole = encode_request(COMMANDS["Bias.Set"], {"bias": 9.0})
    looking = Connection("127.0.0.1", witness)
    looking.connect()
    looking.call("Bias.Set", bias=0.5)
    changed = 0
    for number in range(count):
        raw = socket.create_connection(("127.0.0.1", port))
        with raw, suppress(OSError):  # it may hang up in the middle
            raw.sendall(damaged(whole, [*range(8), *range(32, 36)], rng))
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
        if number % 100 == 99 or number == count - 1:
            changed += looking.call("Bias.Get") != {"bias": 0.5}
    looking.close()
    return changed


def damaged(whole: bytes, framing: list[int], rng: np.random.Generator) -> bytes:
    """Cut a message short, lengthen it, or change one of the bytes that frame it."""
    kind = rng.integers(4)
    if kind == 0:
        return whole[: rng.integers(len(whole))]
    if kind == 1:
        extra = rng.bytes(int(rng.integers(1, 60)))
        size = struct.pack(">i", len(whole) - HEADER_SIZE + len(extra))
        return whole[:32] + size + whole[36:] + extra
    changed = bytearray(whole)
    changed[int(rng.choice(framing))] ^= int(rng.integers(1, 256))
    return bytes(changed)


def _closing(data: bytes) -> Answer:
    def answer(client: socket.socket, request: bytes) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    return answer
