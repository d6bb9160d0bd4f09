"""Ways to be wrong about sample, settings, motor or company, tried with the commands that act.

Every cell is one command on a virtual Nanonis of its own. It must end by itself, within its budget
of acts, with the instrument in the safe condition, a status that is not 0 and a true sentence.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agents.classifier import ProbeClassifier
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.instrument.nanonis.connection import Connection
from tests.support.virtual import virtual_nanonis

ROOT = Path(__file__).parents[2]
MOST_ACTS = 60
"""Pulses, dips and coarse moves that a cell may do; most do none."""

PA = 1e-12
_WITHIN_S = 600.0
_CALM = ("simulator.rough_fraction=0", "simulator.tip_change_rate=0",
         "simulator.contact_loss_rate=0", "simulator.crash_rate=0")  # fmt: skip
_QUICK = ("env.creep_wait_s=0", "operation.confirm_s=0", "operation.retry_s=0",
          "real.nanonis.outage_s=1", "real.limits.actions_per_hour=null")  # fmt: skip

COMMANDS: dict[str, list[str]] = {
    "run": ["-m", "spm_gym", "run", "--scans", "400", "--policy", "random"],
    "train": [str(ROOT / "train.py"), "--steps", "400", "--config",
              str(ROOT / "configs" / "smoke.yaml")],
    "evaluate": [str(ROOT / "evaluate.py"), "--policies", "random", "--episodes", "40"],
}  # fmt: skip


@dataclass(frozen=True)
class Mistake:
    """One way to be wrong.

    Attributes:
        settings: Of the command that is wrong.
        world: Settings of the virtual microscope that make it so.
        operator: What the operator has set at the controller before, as commands and values.
        in_the_middle: What the operator sets once the command is at work.
        others: Whether another run is at work on the controller already.
        bad_classifier: Whether the classifier is one of AUC 0.77.
        says: Words of the sentence that tells what is wrong.
    """

    message: str
    settings: tuple[str, ...] = ()
    world: tuple[str, ...] = ()
    operator: tuple[tuple[str, dict[str, float]], ...] = ()
    in_the_middle: tuple[tuple[str, dict[str, float]], ...] = ()
    others: bool = False
    bad_classifier: bool = False


def _set(command: str, **values: float) -> tuple[str, dict[str, float]]:
    return command, values


_SAFE_TIP = (
    _set("SafeTip.PropsSet", auto_recovery=0, auto_pause_scan=0, threshold=20 * PA),
    _set("SafeTip.OnOffSet", on=1),
)

MISTAKES: dict[str, Mistake] = {
    "bare metal": Mistake(
        "unknown_after|does not call the tip bad", world=("simulator.molecules_per_nm2=0",)
    ),
    "another molecule": Mistake("does not help", world=("simulator.molecule=PTCDA",)),
    "bias of the other sign": Mistake("bias:", settings=("real.imaging.bias_V=-1",)),
    "0 V": Mistake("bias_V", operator=(_set("Bias.Set", bias=0.0),)),
    "bias beyond the limit": Mistake("bias_V", operator=(_set("Bias.Set", bias=9.5),)),
    "setpoint x 40": Mistake("setpoint:", operator=(_set("ZCtrl.SetpntSet", setpoint=1e-9),)),
    "another nm per pixel": Mistake("pixel:", settings=("env.image_nm=20",)),
    "classifier of AUC 0.77": Mistake("quality:", bad_classifier=True),
    "wrong motor direction": Mistake(
        "NEARER", settings=("real.nanonis.coarse.retract=z-", "env.regions.area_nm=50")
    ),
    "Safe Tip below the setpoint": Mistake("Safe Tip", operator=_SAFE_TIP),
    "bias and setpoint changed in mid-run": Mistake(
        "is refused",
        in_the_middle=(_set("Bias.Set", bias=2.0), _set("ZCtrl.SetpntSet", setpoint=5e-9)),
    ),
    "a second program": Mistake("another run", others=True),
}
"""The first two nothing but the images can tell; they are what budgets are for."""

ACCEPTED: dict[str, Mistake] = {
    f"{name}, accepted by name": replace(
        MISTAKES[name],
        message="does not help",
        settings=(*MISTAKES[name].settings, f"env.accept_mismatch=[{accepted}]"),
    )
    for name, accepted in {
        "bias of the other sign": "bias",
        "another nm per pixel": "pixel",
    }.items()
}
"""A person who insists is stopped by the budgets all the same."""


@dataclass(frozen=True)
class Cell:
    """Outcome of one mistake with one command.

    Attributes:
        status: Exit status.
        sentence: What the command said last of why it ended.
        acts: Pulses, dips and coarse moves that were sent.
        unsafe: What was missing of the safe condition afterwards.
        faults: What is not as promised; empty if all is.
    """

    status: int
    sentence: str
    acts: int
    unsafe: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def mark(self) -> str:
        """A few words for a table."""
        if self.faults:
            return f"**{'; '.join(self.faults)}**"
        return f"ends, {self.acts} acts" if self.acts else "ends, no act"


def try_mistake(mistake: Mistake, command: str, folder: Path) -> Cell:
    """Make a mistake with a command, in a folder of its own, and look."""
    world = ("--ports", "0", "0", "0", "0", "0", "--set", *_CALM, *mistake.world)
    with virtual_nanonis(*world, quiet=True) as ports:
        for name, values in mistake.operator:
            _describe(ports[4], name, values)
        before = _settings(ports[4])
        with _company(mistake.others, ports[2:4], folder / "other"):
            status, output = _run(mistake, command, ports, folder / "mine")
        after = _settings(ports[4])
        unsafe = _missing(ports[4])
    for name, _ in mistake.in_the_middle:
        # What the operator turned in the middle is put back as it was before, or left: either way
        # the program has said so.
        before.pop(name), after.pop(name)
    unsafe += [f"{name} not restored" for name in before if before[name] != after[name]]
    acts = _acts(folder / "mine")
    faults = list(unsafe)
    if status == 0:
        faults.append("status 0")
    if not re.search(mistake.message, output):
        faults.append(f"said {output.strip().splitlines()[-1:]}")
    if acts > MOST_ACTS:
        faults.append(f"{acts} acts")
    sentence = next((line for line in output.splitlines() if re.search(mistake.message, line)), "")
    return Cell(status, sentence, acts, tuple(unsafe), tuple(faults))


def _run(mistake: Mistake, command: str, ports: list[int], folder: Path) -> tuple[int, str]:
    folder.mkdir(parents=True)
    settings = [
        f"real.nanonis.ports={ports[:2]}",
        "real.nanonis.coarse.retract=z+",
        *_QUICK,
        *mistake.settings,
    ]
    if mistake.bad_classifier:
        settings.append(f"env.classifier={bad_classifier(folder.parent / 'bad.safetensors')}")
    arguments = [*COMMANDS[command], "--env", "real", "--set", *settings]
    process = _start(arguments, folder)
    if mistake.in_the_middle:
        meddler = threading.Thread(
            target=_meddle, args=(mistake, ports[4], folder, process), daemon=True
        )
        meddler.start()
    output, _ = process.communicate(timeout=_WITHIN_S)
    return process.returncode, output.replace("\r", "\n")


def _start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def _company(expected: bool, ports: list[int], folder: Path) -> Iterator[None]:
    """Another run at work on the same controller, through other ports."""
    if not expected:
        yield
        return
    folder.mkdir(parents=True)
    arguments = [*COMMANDS["run"], "--env", "real", "--set", f"real.nanonis.ports={ports}", *_QUICK,
                 "real.imaging.speed_nm_per_s=1"]  # fmt: skip
    process = _start(arguments, folder)
    try:
        _await(lambda: any(folder.glob("runs/*/scans/*")), process)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=_WITHIN_S)
    # Nothing that the other one did has touched it.
    assert process.returncode == 130


def _meddle(mistake: Mistake, port: int, folder: Path, process: subprocess.Popen[str]) -> None:
    def at_work() -> bool:
        return any(folder.glob("runs/*/scans/*")) or len(_started_acts(folder)) > 1

    _await(at_work, process)
    for name, values in mistake.in_the_middle:
        _describe(port, name, values)


def _await(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _WITHIN_S
    while not done():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def _ask(port: int, *commands: tuple[str, dict[str, float]]) -> list[dict[str, float]]:
    controller = Connection("127.0.0.1", port, 60.0)
    controller.connect()
    try:
        return [controller.call(name, **values) for name, values in commands]
    finally:
        controller.close()


def _describe(port: int, name: str, values: dict[str, float]) -> None:
    _ask(port, (name, values))


def _settings(port: int) -> dict[str, str]:
    """The operator's settings, by the command that sets them."""
    names = ("Bias", "ZCtrl.Setpnt", "Scan.Frame", "Scan.Speed", "SafeTip.Props", "SafeTip.OnOff")
    commands = [name + (".Get" if name == "Bias" else "Get") for name in names]
    found = _ask(port, *((command, {}) for command in commands))
    keys = [command.replace("Get", "Set") for command in commands]
    return {key: repr(values) for key, values in zip(keys, found, strict=True)}


def _missing(port: int) -> list[str]:
    status, approach, scan, z, limits = _ask(
        port, ("ZCtrl.StatusGet", {}), ("AutoApproach.OnOffGet", {}), ("Scan.StatusGet", {}),
        ("ZCtrl.ZPosGet", {}), ("ZCtrl.LimitsGet", {}),
    )  # fmt: skip
    missing = []
    if approach["on"]:
        missing.append("approach not stopped")
    if scan["running"]:
        missing.append("scan not stopped")
    touched = status["status"] == 2 or z["z"] < 0.99 * limits["high"]
    # Who is refused before anything was changed leaves the tip where the operator had it.
    if touched and not _untouched(port):
        missing.append("tip not withdrawn")
    return missing


def _untouched(port: int) -> bool:
    (counted,) = _ask(port, ("Motor.StepCounterGet", {"reset_x": 0, "reset_y": 0, "reset_z": 0}))
    (buffer,) = _ask(port, ("Scan.PropsGet", {}))
    return not any(counted.values()) and buffer["autosave"] == 2 and buffer["comment"] == ""


def _acts(folder: Path) -> int:
    """Pulses, dips and changes of area that were started."""
    return sum(act in {"pulse", "dip", "move area"} for act in _started_acts(folder))


def _started_acts(folder: Path) -> list[str]:
    acts: list[str] = []
    for file in folder.glob("runs/*/journal.sqlite"):
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as db:
            acts += [act for (act,) in db.execute("SELECT act FROM acts")]
    return acts


def bad_classifier(path: Path) -> Path:
    """A classifier that says of itself that it is of little worth."""
    classifier = ProbeClassifier.load(shipped_classifier())
    classifier.conditions = replace(classifier.conditions, auc=0.77)
    classifier.save(path)
    return path
