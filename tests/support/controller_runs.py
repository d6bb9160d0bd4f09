"""Questions to a virtual controller that runs work on."""

from __future__ import annotations

from typing import Any

from spm_gym.instrument.nanonis.connection import Connection


def on(ports: list[int]) -> str:
    return f"real.nanonis.ports={ports}"


def ask(ports: list[int], name: str, **values: Any) -> dict[str, Any]:
    connection = Connection("127.0.0.1", ports[1])
    connection.connect()
    try:
        return connection.call(name, **values)
    finally:
        connection.close()


def is_safe(ports: list[int]) -> bool:
    """Whether the tip is withdrawn, the loop off."""
    withdrawn = ask(ports, "ZCtrl.ZPosGet")["z"] > 0.99 * ask(ports, "ZCtrl.LimitsGet")["high"]
    return bool(withdrawn and ask(ports, "ZCtrl.StatusGet")["status"] == 1)
