"""Breaks a conditioning step in one phase in one way, and looks at the controller afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.assembly.simulator import world_seed
from spm_gym.config import Config, load_config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import InstrumentError
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.nanonis.wire import encode_reply
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.virtual import silent
from tests.support.waiting import PATIENCE_S

REPLY_S = 2.0
"""Longest wait for a reply where one is to be late; elsewhere a slow machine takes its time."""
LATE_S = 6.0
"""How late it is."""

PHASES: dict[str, tuple[str, int, str]] = {
    "look before": ("Current.Get", 1, "dip 1.0 nm"),
    "move": ("FolMe.XYPosSet", 1, "dip 1.0 nm"),
    "set up dip": ("TipShaper.PropsSet", 1, "dip 1.0 nm"),
    "dip": ("TipShaper.Start", 1, "dip 1.0 nm"),
    "pulse": ("Bias.Pulse", 1, "pulse +4.0 V"),
    "look after": ("Current.Get", 3, "dip 1.0 nm"),
    "frame": ("Scan.FrameSet", 1, "dip 1.0 nm"),
    "start scan": ("Scan.Action", 1, "dip 1.0 nm"),
    "scan": ("Scan.WaitEndOfScan", 3, "dip 1.0 nm"),
    "data": ("Scan.FrameDataGrab", 2, "dip 1.0 nm"),
    "shutdown": ("ZCtrl.Withdraw", 1, "dip 1.0 nm"),
}
"""Command, which of them within the step, and the action of the step."""

FAULTS: dict[str, dict[str, Any]] = {
    "split reply": {"fault": "split", "seconds": 0.02},
    "late reply": {"fault": "late", "seconds": LATE_S},
    "dropped before": {"fault": "drop", "when": "before"},
    "dropped after": {"fault": "drop", "when": "after"},
    "error block": {"fault": "error"},
    "foreign reply": {"fault": "garbage"},
    "short reply": {"fault": "short"},
    "crash": {"fault": "crash"},
    "lost contact": {"fault": "lost_contact"},
    "NaN frame": {"fault": "nan_frame"},
    "stuck approach": {"fault": "lost_contact"},
}

READ = ("Bias.Get", "ZCtrl.SetpntGet", "Scan.FrameGet", "Scan.BufferGet", "Scan.SpeedGet",
        "Scan.PropsGet", "TipShaper.PropsGet", "SafeTip.PropsGet", "SafeTip.OnOffGet")  # fmt: skip
ACTS = ("TipShaper.Start", "Bias.Pulse")


@dataclass(frozen=True, slots=True)
class Cell:
    """Outcome of one fault in one phase.

    Attributes:
        went_on: Whether the step ended with an image; otherwise the run ended with ``error``.
        error: Why it ended.
        unsafe: What was missing of the safe condition afterwards; empty if nothing.
        admitted: Whether the program itself said that the safe condition was not reached.
        acts: How often an act was carried out in the step.
        recorded: Results that the record gives of the act.
    """

    went_on: bool
    error: str
    unsafe: tuple[str, ...]
    admitted: bool
    acts: int
    recorded: tuple[str, ...]

    @property
    def mark(self) -> str:
        """One word for a table."""
        if self.unsafe:
            return "**UNSAFE**"
        if self.acts > 1:
            return "**TWICE**"
        unknown = " (unknown)" if "unknown" in self.recorded else ""
        return ("goes on" if self.went_on else "ends") + unknown


def possible(fault: str, phase: str) -> bool:
    """Whether a fault can happen in a phase."""
    if fault == "NaN frame":
        return phase == "data"
    at_the_surface = phase not in ("data", "shutdown")
    return at_the_surface or fault not in ("crash", "lost contact", "stuck approach")


def break_step(fault: str, phase: str, seed: int = 1, lines: int | None = None) -> Cell:
    """Play one step with a fault in it, with previews of so many lines, leave, and look."""
    command, nth, action = PHASES[phase]
    before = _commands_before_the_step(seed, lines)
    rules = [Fault(command=command, nth=before[command] + nth, **FAULTS[fault])]
    if fault == "stuck approach":
        rules.append(Fault(fault="stuck_approach", command="AutoApproach.Open"))
    return play(seed, rules, action, lines)


def settings_on(
    ports: tuple[int, ...], reply_s: float = PATIENCE_S, lines: int | None = None
) -> Config:
    """Short waits, and no accidents but those of the matrix."""
    return load_config(None, [
        f"real.nanonis.ports={list(ports)}", f"real.nanonis.timeout_s={reply_s}",
        "real.nanonis.approach_timeout_s=0.5", "real.nanonis.outage_s=1",
        "real.nanonis.withdraw_timeout_s=0.5", "real.imaging.speed_nm_per_s=1e5",
        "real.limits.speed_nm_per_s=1e5",
        "real.imaging.bias_V=1.0", "simulator.rough_fraction=0", "simulator.crash_rate=0",
        "simulator.molecules_per_nm2=0",
        "simulator.tip_change_rate=0", "simulator.contact_loss_rate=0", "env.max_attempts=4",
        f"env.preview_lines={'null' if lines is None else lines}",
    ])  # fmt: skip


def _classifier(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full(len(images), 0.5, dtype=np.float32)


def new_controller(seed: int) -> VirtualController:
    """A controller as an operator might leave it: nothing is set as a run sets it."""
    microscope = SimulatedMicroscope(settings_on((1, 2)).simulator, seed=world_seed(seed))
    controller = VirtualController(microscope, time_scale=0)
    controller.execute("Bias.Set", {"bias": -0.7})
    controller.execute("ZCtrl.SetpntSet", {"setpoint": 50e-12})
    controller.execute("Scan.BufferSet", {"channel_indexes": [0], "pixels": 128, "lines": 128})
    frame = {"centre_x": 1e-8, "centre_y": 2e-8, "width": 5e-8, "height": 5e-8, "angle": 30}
    controller.execute("Scan.FrameSet", frame)
    controller.execute("Scan.PropsSet", {
        "continuous": 1, "bouncy": 1, "autosave": 2, "series_name": "mine", "comment": "hands off",
        "module_names": [], "autopaste": 0})  # fmt: skip
    return controller


def _read(controller: VirtualController) -> dict[str, bytes]:
    """The settings as they would go over the wire."""
    known = commands(controller.release)
    return {name: encode_reply(known[name], controller.execute(name, {})) for name in READ}


def _commands_before_the_step(seed: int, lines: int | None) -> Counter[str]:
    controller = new_controller(seed)
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        controller.executed.clear()
        env = _environment(server.ports, [], seed, lines=lines)
        counted = Counter(name for name, _ in controller.executed)
        env.close()
    return counted


def _environment(
    ports: tuple[int, ...],
    record: list[dict[str, Any]],
    seed: int,
    reply_s: float = PATIENCE_S,
    lines: int | None = None,
) -> ProbeConditioningEnv:
    config = settings_on(ports, reply_s, lines)
    instrument = Guard(connect(config.real, silent()), config.real.limits, record.append)
    # Every preview leaves a question, so a step has two scans, as with a partial image.
    env = ProbeConditioningEnv(instrument, _classifier, config.env, preview_classifier=_classifier)
    env.reset(seed=seed, options={"damage": False})
    return env


def play(seed: int, rules: list[Fault], action: str, lines: int | None = None) -> Cell:
    """Play one step under these rules, leave, and look."""
    controller = new_controller(seed)
    settings = _read(controller)
    record: list[dict[str, Any]] = []
    error, admitted = "", False
    with VirtualNanonis(controller, ports=(0, 0), faults=rules) as server:
        late = any(rule.fault == "late" for rule in rules)
        env = _environment(server.ports, record, seed, REPLY_S if late else PATIENCE_S, lines)
        del record[:]
        names = [each.name for each in env.config.actions]
        controller.executed.clear()
        assert env.action_masks()[names.index(action)], "the image allows no such action"
        try:
            env.step(names.index(action))
        except InstrumentError as failure:
            error = str(failure)
        done = list(controller.executed)
        try:
            env.close()
        except InstrumentError:
            admitted = True
        unsafe = _missing(controller, settings)
    return Cell(
        went_on=not error,
        error=error,
        unsafe=tuple(unsafe),
        admitted=admitted,
        acts=sum(name in ACTS for name, _ in done),
        recorded=tuple(entry["result"] for entry in record if entry["act"] in ("dip", "pulse")),
    )


def _missing(controller: VirtualController, settings: dict[str, bytes]) -> list[str]:
    missing = []
    scans = [values["action"] for name, values in controller.executed if name == "Scan.Action"]
    if scans[-1] != 1:
        missing.append("scan not stopped")
    if controller.execute("AutoApproach.OnOffGet", {})["on"]:
        missing.append("approach not stopped")
    status = controller.microscope.status()
    height = controller.execute("ZCtrl.ZPosGet", {})["z"]
    if status.approached or height < 0.99 * status.z_range[1]:
        missing.append("tip not withdrawn")
    now = _read(controller)
    missing += [f"{name} not restored" for name in READ if now[name] != settings[name]]
    return missing
