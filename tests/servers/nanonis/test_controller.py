"""The virtual controller, without sockets, does to its microscope what a controller would."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.commands import RELEASES, Field, commands
from spm_gym.instrument.nanonis.wire import HEADER_SIZE, decode_reply, encode_reply
from spm_gym.instrument.sim.piezo import CREEP_OVER_S
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import ClientGone, Refused
from spm_gym.types import Dip, Pulse
from tests.support.settings_pages import (
    BIAS,
    CURRENT,
    DOWN,
    STOP,
    CommandPanel,
    Z,
    frame,
)

NM = 1e-9
HECTIC = SimulatorConfig(tip_change_rate=0.5)


def test_scans_and_acts_equal_those_of_the_simulator_bit_for_bit() -> None:
    panel, alone = CommandPanel(HECTIC), SimulatedMicroscope(HECTIC, seed=5)
    this, other = frame(20, -31, angle=0.3), frame(-200.1, 77, pixels=32)
    for each in (this, this, other):
        for fraction in (0.25, 1.0):
            assert np.array_equal(
                panel.scan(each, fraction), alone.scan(each, fraction).z, equal_nan=True
            )
        x, y = each.x + 1.23 * NM, each.y
        panel("FolMe.XYPosSet", x, y, 1)
        panel.dip(1.8 * NM)
        alone.condition(Dip(1.8 * NM), x, y)
        panel("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
        alone.condition(Pulse(-4.0, 0.1), x, y)
    panel.shift()
    alone.withdraw()
    alone.shift_area(1, 0)
    alone.approach()
    alone.wait(CREEP_OVER_S)  # a clock that stands still cannot be waited on: it waits by itself
    assert np.array_equal(panel.scan(this), alone.scan(this).z)
    assert panel.microscope.truth == alone.truth
    assert panel.microscope.status() == alone.status()


def test_how_often_one_waits_does_not_matter() -> None:
    once, often = CommandPanel(HECTIC), CommandPanel(HECTIC)
    whole = once.scan(frame())
    often.start(frame())
    while often("Scan.WaitEndOfScan", 700)["timed_out"]:
        pass
    assert np.array_equal(often.grab(), whole)
    assert often.microscope.status() == once.microscope.status()


def test_a_module_that_is_not_running_refuses_until_it_is_opened() -> None:
    panel = CommandPanel(without=["tipshaper", "ZSpectr", "Osci1T"])
    with pytest.raises(Refused, match="Cannot access the TipShaper module, make sure it is run"):
        panel("TipShaper.PropsGet")
    for opening, asking in (("ZSpectr.Open", "ZSpectr.RangeGet"), ("Osci1T.Run", "Osci1T.ChGet")):
        with pytest.raises(Refused, match="make sure it is running"):
            panel(asking)
        panel(opening)
        panel(asking)
    panel("Bias.Set", 0.5)
    assert ("TipShaper.PropsGet", {}) not in panel.controller.executed
    with pytest.raises(ValueError, match="there is no module 'Tip' in release R14718; there are A"):
        CommandPanel(without=["Tip"])


def test_names_of_signals(panel: CommandPanel) -> None:
    names = panel("Signals.NamesGet")
    assert [names[i] for i in (CURRENT, BIAS, Z)] == ["Current (A)", "Bias (V)", "Z (m)"]
    assert len(set(names)) == 128
    old = CommandPanel(release=10862)
    slots = old("Signals.InSlotsGet")
    assert slots["names"][14] == "Z (m)"
    assert slots["rt_indexes"][14] == Z
    old("Scan.BufferSet", [14], 16, 16)
    assert old("Scan.FrameDataGrab", 14, 1)["channel_name"] == "Z (m)"


def test_values_of_signals_agree_with_the_state(panel: CommandPanel) -> None:
    panel("Bias.Set", 0.5)
    panel("ZCtrl.SetpntSet", 5e-11)
    panel("FolMe.XYPosSet", 3 * NM, -4 * NM, 1)
    values = panel("Signals.ValsGet", [CURRENT, BIAS, 26, 27, Z], 1)["values"]
    assert values == pytest.approx([5e-11, 0.5, 3 * NM, -4 * NM, panel("ZCtrl.ZPosGet")])
    assert panel.microscope.bias == 0.5
    assert panel.microscope.setpoint == pytest.approx(5e-11)


def of_nothing(field: Field) -> Any:
    """An argument that is 0, empty or the first."""
    if field.array == "matrix":
        return np.empty((0, 0))
    if field.array or field.type in ("strs", "packed"):
        return []
    if field.type == "str":
        return ""
    return int(field.name in ("modulator", "demodulator", "output"))


@pytest.mark.parametrize("release", RELEASES)
def test_every_command_of_every_release_is_answered_in_its_layout(
    release: int, tmp_path: Path
) -> None:
    panel = CommandPanel(release=release, session=tmp_path)
    refused = []
    for name, command in commands(release).items():
        arguments = {field.name: of_nothing(field) for field in command.request}
        try:
            reply = panel.controller.execute(name, arguments)
        except Refused:
            refused.append(name)
        else:
            assert decode_reply(command, encode_reply(command, reply)[HEADER_SIZE:]) is not None
    senseless = {
        "Marks.LinesVisibleSet", "Marks.PointsVisibleSet", "Scan.FrameDataGrab", "Util.Quit",
        "Util.SessionPathSet", "ZCtrl.LimitsSet",
    }  # fmt: skip
    assert set(refused) == senseless & set(commands(release))


def test_commands_of_other_releases_are_unknown() -> None:
    with pytest.raises(Refused, match=r"'Signals\.InSlotsGet' does not exist in release R14718"):
        CommandPanel().controller.execute("Signals.InSlotsGet", {})
    with pytest.raises(Refused, match="does not exist in release R10862"):
        CommandPanel(release=10862).controller.execute("Util.VersionGet", {})


def test_each_modulator_has_its_own_settings(panel: CommandPanel) -> None:
    panel("LockIn.ModAmpSet", 1, 0.5)
    panel("LockIn.ModAmpSet", 2, 0.25)
    assert panel("LockIn.ModAmpGet", 1) == 0.5
    assert panel("LockIn.ModAmpGet", 2) == 0.25
    with pytest.raises(Refused, match="there is no modulator 17"):
        panel("LockIn.ModAmpGet", 17)


def test_numbers_that_mean_no_change(panel: CommandPanel) -> None:
    panel("Scan.PropsSet", 1, 0, 1, "made", "by hand", ["Bias"], 2)
    panel("Scan.PropsSet", 0, 1, 0, "", "", [], 0)
    got = panel("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (1, 1, 0)
    assert (got["series_name"], got["comment"], got["autopaste"]) == ("made", "", 1)
    panel("Scan.PropsSet", 2, 2, 3, "", "", [], 3)
    got = panel("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (0, 0, 2)


@pytest.mark.parametrize(("release", "on", "off", "keep"), [(13742, 1, 0, -1), (14718, 1, 2, 0)])
def test_drift_compensation_counts_by_release(release: int, on: int, off: int, keep: int) -> None:
    panel = CommandPanel(release=release)
    for sent, got in ((on, 1), (keep, 1), (off, 0), (keep, 0)):
        panel("Piezo.DriftCompSet", sent, 0.0, 0.0, 0.0, 10.0)
        assert panel("Piezo.DriftCompGet")["on"] == got


def test_marks(panel: CommandPanel) -> None:
    panel("Marks.PointDraw", 1.0, 2.0, "here", 255)
    panel("Marks.PointsDraw", 2, [1.0, 2.0], [3.0, 4.0], 2, ["a", "b"], [1, 2])
    panel("Marks.PointsErase", 1)
    panel("Marks.PointsVisibleSet", 0, 1)
    got = panel("Marks.PointsGet")
    assert (got["n"], got["text"], got["visible"]) == (2, ["here", "b"], [0, 1])
    panel("Marks.PointsErase", -1)
    assert panel("Marks.PointsGet")["n"] == 0


def test_a_spectrum(panel: CommandPanel) -> None:
    panel("BiasSpectr.ChsSet", [CURRENT, Z])
    panel("BiasSpectr.LimitsSet", -2.0, 2.0)
    panel("BiasSpectr.PropsSet", 0, 0, 0, 11, 0.0, 0, 0)
    got = panel("BiasSpectr.Start", 1, "")
    assert got["channel_names"] == ["Bias calc (V)", "Current (A)", "Z (m)"]
    assert got["data"].shape == (3, 11)
    assert np.allclose(got["data"][0], np.linspace(-2, 2, 11))
    assert panel("BiasSpectr.StatusGet") == 0


def test_waits_of_one_do_not_hold_up_another(running: CommandPanel) -> None:
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(running("Scan.WaitEndOfScan", -1)))
    waiting.start()
    assert running("Scan.StatusGet") == 1
    assert running("Bias.Get") == 1
    running("Scan.Action", STOP, DOWN)
    waiting.join()
    assert replies == [{"timed_out": 0, "path": ""}]


def test_a_timeout_ends_the_wait_and_not_the_scan(running: CommandPanel) -> None:
    assert running("Scan.WaitEndOfScan", 20) == {"timed_out": 1, "path": ""}
    assert running("Scan.StatusGet") == 1


def test_nobody_waits_for_a_client_that_is_gone(running: CommandPanel) -> None:
    with pytest.raises(ClientGone):
        running.controller.execute("Scan.WaitEndOfScan", {"timeout": -1}, lambda: True)
    assert running("Scan.StatusGet") == 1


def test_a_fast_clock_scans_fast() -> None:
    panel = CommandPanel(time_scale=1000.0)
    panel.start(frame())
    assert panel("Scan.WaitEndOfScan", -1)["timed_out"] == 0
    assert np.isfinite(panel.grab()).all()
    assert panel.microscope.status().time >= 16


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_impossible_clocks(scale: float) -> None:
    with pytest.raises(ValueError, match="finite scale"):
        CommandPanel(time_scale=scale)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("Bias.Set", {"bias": math.nan}, "not finite"),
        ("FolMe.XYPosSet", {"x": math.inf, "y": 0.0, "wait": 0}, "not finite"),
        ("Bias.Set", {}, "takes"),
        ("Bias.Get", {"bias": 1.0}, "takes"),
        ("Scan.Action", {"action": 9, "direction": 0}, "no scan action 9"),
        ("Motor.StartMove", {"direction": 6, "steps": 1, "group": 0, "wait": 1}, "direction 6"),
        ("Signals.ValGet", {"signal_index": 128, "newest": 0}, "no signal 128"),
        ("Scan.BufferSet", {"channel_indexes": [-1], "pixels": 64, "lines": 64}, "no signal -1"),
        ("Util.Quit", {"use_stored_values": 0, "settings_name": "", "layout_name": "",
                       "save_signals": 0}, "stopped where it was started"),
    ],
)  # fmt: skip
def test_refusals_say_why(
    panel: CommandPanel, name: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        panel.controller.execute(name, values)


def test_it_remembers_what_it_was_told(panel: CommandPanel) -> None:
    panel("Bias.Set", 0.5)
    panel("Bias.Get")
    assert list(panel.controller.executed) == [("Bias.Set", {"bias": 0.5}), ("Bias.Get", {})]
