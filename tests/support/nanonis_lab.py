"""A connected Nanonis driver and the virtual controller behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Frame
from tests.support.virtual import nanonis_settings, silent
from tests.support.waiting import PATIENCE_S

NM = 1e-9
PA = 1e-12
CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)
HERE = Frame(0.0, 0.0, 10 * NM, 64)
Lab = tuple[NanonisInstrument, VirtualController]


def new_controller(**options: Any) -> VirtualController:
    """A controller of a world in which nothing happens by itself; nobody has to wait for it."""
    return VirtualController(SimulatedMicroscope(CALM, seed=2), **{"time_scale": 0, **options})


def biased(bias: float = 1.0, setpoint: float = 25 * PA) -> VirtualController:
    """A new controller as an operator may have left it."""
    controller = new_controller()
    controller.execute("Bias.Set", {"bias": bias})
    controller.execute("ZCtrl.SetpntSet", {"setpoint": setpoint})
    return controller


@contextmanager
def lab(
    *faults: Fault,
    controller: VirtualController | None = None,
    notes: list[str] | None = None,
    keep: Path | None = None,
    **settings: Any,
) -> Iterator[Lab]:
    """Connect to a controller; its memory of commands starts after that.

    Args:
        faults: Of the server.
        controller: Another one than a new one.
        notes: Takes what the driver notes.
        keep: File for the operator's settings.
        settings: Of the real microscope.
    """
    controller = controller or new_controller()
    with VirtualNanonis(controller, ports=(0, 0), faults=faults) as server:
        config = nanonis_settings(ports=server.ports, **{"timeout_s": PATIENCE_S, **settings})
        instrument = connect(config, silent(keep, notes))
        controller.executed.clear()
        try:
            yield instrument, controller
        finally:
            instrument.close()


def sent(controller: VirtualController, *names: str) -> list[tuple[str, dict[str, Any]]]:
    """Commands of these names that the controller has carried out, with their values."""
    return [entry for entry in controller.executed if entry[0] in names]


class Direct:
    """A connection without a socket."""

    release = 14718

    def __init__(self, controller: VirtualController) -> None:
        self.controller = controller

    def call(self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any) -> Any:
        return self.controller.execute(name, values)
