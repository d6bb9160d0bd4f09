"""One run drives a controller; what a killed one has left is dealt with first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spm_gym.config import EnvConfig
from spm_gym.errors import (
    LimitExceeded,
    UnsafeToContinue,
)
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.nanonis.ownership import ControllerInUse
from spm_gym.instrument.nanonis.preflight import inspect
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.nanonis_lab import (
    HERE,
    PA,
    biased,
    lab,
)
from tests.support.virtual import nanonis_settings, silent


def test_a_second_run_on_other_ports_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    controller = biased(0.7)
    with VirtualNanonis(controller, ports=(0, 0, 0, 0)) as server:
        first, second = server.ports[:2], server.ports[2:]
        mine = connect(nanonis_settings(ports=first), silent(tmp_path / "one" / "before.json"))
        before = controller.execute("Scan.PropsGet", {})["comment"]
        with pytest.raises(ControllerInUse, match=r"driven by another run.*one"):
            connect(nanonis_settings(ports=second), silent(tmp_path / "two.json"))
        assert controller.execute("Scan.PropsGet", {})["comment"] == before
        assert controller.microscope.status().approached
        mine.close()
        assert controller.execute("Scan.PropsGet", {})["comment"] == ""
        connect(nanonis_settings(ports=second), silent(tmp_path / "two.json")).close()


_KILLED = """
import os, sys
from pathlib import Path
from spm_gym.instrument.nanonis.driver import connect
from tests.support.virtual import nanonis_settings, silent
ports = [int(port) for port in sys.argv[2:]]
connect(nanonis_settings(ports=ports, imaging={"bias_V": 2.0}), silent(Path(sys.argv[1])))
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_has_not_restored_is_dealt_with_before_another_begins(
    tmp_path: Path,
) -> None:
    controller, kept = biased(0.7), tmp_path / "killed" / "before.json"
    kept.parent.mkdir()
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        assert controller.microscope.bias == 2.0
        with pytest.raises(ControllerInUse, match=r"killed.* restore"):
            connect(nanonis_settings(ports=ports), silent(tmp_path / "other.json"))
        assert controller.microscope.bias == 2.0
        connect(nanonis_settings(ports=ports), silent(kept)).close()
        assert controller.microscope.bias == pytest.approx(0.7)
        connect(nanonis_settings(ports=ports), silent(tmp_path / "other.json")).close()
        assert controller.microscope.bias == pytest.approx(0.7)


def test_a_killed_run_is_made_safe_whatever_is_in_force(tmp_path: Path) -> None:
    from spm_gym.instrument.nanonis.driver import restore

    controller, kept = biased(0.7), tmp_path / "before.json"
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        controller.execute("Bias.Set", {"bias": 0.0})
        with pytest.raises(LimitExceeded):
            connect(nanonis_settings(ports=ports), silent(kept))
        restore(nanonis_settings(ports=ports), kept, notify=lambda text: None)
    assert controller.microscope.bias == pytest.approx(0.7)
    assert not controller.microscope.status().approached
    assert not kept.exists()
    assert controller.execute("Scan.PropsGet", {})["comment"] == ""


def test_the_setpoint_of_an_approach_that_a_kill_has_cut_off_is_not_imaged_with(
    tmp_path: Path,
) -> None:
    controller, kept = biased(setpoint=50 * PA), tmp_path / "before.json"
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
        controller.execute("ZCtrl.SetpntSet", {"setpoint": 300 * PA})
        config = nanonis_settings(ports=ports, approach_setpoint_pA=300.0)
        assert inspect(config, EnvConfig(), kept).setpoint == pytest.approx(50 * PA)
        instrument = connect(config, silent(kept))
        instrument.approach()
        assert instrument.scan(HERE).setpoint == pytest.approx(50 * PA)
        instrument.close()


def test_a_controller_that_keeps_a_text_for_an_empty_one_is_left_without_the_mark() -> None:
    """No document says what an empty text means in Scan.PropsSet."""
    with lab() as (instrument, controller):
        call = instrument._side.call

        def keeping(name: str, **rest: Any) -> dict[str, Any]:
            if name == "Scan.PropsSet" and rest["comment"] == "":
                rest["comment"] = controller.execute("Scan.PropsGet", {})["comment"]
            return call(name, **rest)

        instrument._side.call = keeping  # type: ignore[method-assign]
    assert controller.execute("Scan.PropsGet", {})["comment"] == " "


def test_a_run_whose_controller_was_taken_stops() -> None:
    with lab() as (instrument, controller):
        properties = controller.execute("Scan.PropsGet", {})
        taken = {"comment": "[spm-gym drives this: /home/else/before.json on elsewhere]"}
        changes = {"continuous": 0, "bouncy": 0, "autosave": 0, "series_name": "",
                   "module_names": [], "autopaste": 0}  # fmt: skip
        controller.execute("Scan.PropsSet", {**changes, **taken})
        with pytest.raises(UnsafeToContinue, match="elsewhere"):
            instrument.scan(HERE)
        controller.execute("Scan.PropsSet", {**changes, "comment": properties["comment"]})
