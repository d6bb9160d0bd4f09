"""The vendor's Python package (nanonis-spm on PyPI), unmodified, against the virtual Nanonis."""

from __future__ import annotations

import runpy
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nanonispy2
import numpy as np
import pytest

from spm_gym.errors import CommandFailed
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.servers.nanonis import VirtualController
from tests.conformance.conversation import BIAS, CURRENT, HOST, Round, Z, ask, close_to, plain

nanonis_spm = pytest.importorskip("nanonis_spm", reason="nanonis-spm is not installed")

EXAMPLES = Path(nanonis_spm.__file__).parents[1] / "nanonis_spm_examples"
DIP = (0.05, 1, 0.1, -1.5e-9, 0.1, 0.05, 0.1, 3e-9, 0.2, 0.15, 1)
TIMES = (0.02, 0.03, 50.0, 0.002, 0.003, 0.04, 0.2)
VOLTS = (-100.0, 110.0, -90.0, 95.0, -80.0, 85.0)

ROUNDS: list[Round] = [
    ("Bias.Set", (-0.75,), "Bias.Get", (), [-0.75]),
    ("Bias.CalibrSet", (1.5, 0.25), "Bias.CalibrGet", (), [1.5, 0.25]),
    ("Current.CalibrSet", (-1, 2e-9, 3e-12), "Current.CalibrGet", (-1,), [2e-9, 3e-12]),
    ("ZCtrl.SetpntSet", (5e-11,), "ZCtrl.SetpntGet", (), [5e-11]),
    ("ZCtrl.GainSet", (3e-12, 1.5e-4, 2e-8), "ZCtrl.GainGet", (), [3e-12, 1.5e-4, 2e-8]),
    ("ZCtrl.SwitchOffDelaySet", (0.07,), "ZCtrl.SwitchOffDelayGet", (), [0.07]),
    ("ZCtrl.TipLiftSet", (2e-9,), "ZCtrl.TipLiftGet", (), [2e-9]),
    ("ZCtrl.HomePropsSet", (2, 4e-8), "ZCtrl.HomePropsGet", (), [1, 4e-8]),
    ("ZCtrl.WithdrawRateSet", (3e-7,), "ZCtrl.WithdrawRateGet", (), [3e-7]),
    ("ZCtrl.LimitsEnabledSet", (1,), "ZCtrl.LimitsEnabledGet", (), [1]),
    ("ZCtrl.OnOffSet", (0,), "ZCtrl.OnOffGet", (), [0]),
    ("SafeTip.OnOffSet", (1,), "SafeTip.OnOffGet", (), [1]),
    ("SafeTip.PropsSet", (1, 0, 4e-9), "SafeTip.PropsGet", (), [1, 0, 4e-9]),
    (
        "Scan.FrameSet",
        (1e-8, -2e-8, 3e-8, 1.5e-8, 20.0),
        "Scan.FrameGet",
        (),
        [1e-8, -2e-8, 3e-8, 1.5e-8, 20.0],
    ),
    (
        "Scan.SpeedSet",
        (4e-8, 0.0, 0.0, 0.0, 1, 2.0),
        "Scan.SpeedGet",
        (),
        [4e-8, 8e-8, 0.25, 0.125, 0, 2.0],
    ),
    ("Piezo.TiltSet", (0.5, -1.0), "Piezo.TiltGet", (), [0.5, -1.0]),
    (
        "Piezo.DriftCompSet",
        (1, 1e-12, -2e-12, 3e-12, 20.0),
        "Piezo.DriftCompGet",
        (),
        [1, 1e-12, -2e-12, 3e-12, 0, 0, 0, 20.0],
    ),
    ("FolMe.XYPosSet", (3e-8, -4e-8, 1), "FolMe.XYPosGet", (1,), [3e-8, -4e-8]),
    ("FolMe.SpeedSet", (2e-8, 1), "FolMe.SpeedGet", (), [2e-8, 1]),
    ("FolMe.PSOnOffSet", (1,), "FolMe.PSOnOffGet", (), [1]),
    ("TipShaper.PropsSet", DIP, "TipShaper.PropsGet", (), list(DIP)),
    ("TipRec.BufferSizeSet", (500,), "TipRec.BufferSizeGet", (), [500]),
    ("Motor.FreqAmpSet", (1100.0, 150.0, 0), "Motor.FreqAmpGet", (0,), [1100.0, 150.0]),
    ("Util.AcqPeriodSet", (0.04,), "Util.AcqPeriodGet", (), [0.04]),
    ("Util.RTFreqSet", (10e3,), "Util.RTFreqGet", (), [10e3]),
    ("Util.RTOversamplSet", (5,), "Util.RTOversamplGet", (), [5]),
    (
        "Pattern.GridSet",
        (1, 4, 6, 0, 1e-8, 2e-8, 3e-8, 4e-8, 10.0),
        "Pattern.GridGet",
        (),
        [4, 6, 1e-8, 2e-8, 3e-8, 4e-8, 10.0],
    ),
    ("BiasSpectr.LimitsSet", (-0.5, 0.7), "BiasSpectr.LimitsGet", (), [-0.5, 0.7]),
    ("ZSpectr.RangeSet", (1e-10, -5e-10), "ZSpectr.RangeGet", (), [1e-10, -5e-10]),
    ("ZSpectr.TimingSet", TIMES, "ZSpectr.TimingGet", (), list(TIMES)),
    ("ZSpectr.AdvPropsSet", (0.5, 1, 0, 2), "ZSpectr.AdvPropsGet", (), [0.5, 1, 0, 0]),
    ("ZSpectr.RetractDelaySet", (0.3,), "ZSpectr.RetractDelayGet", (), [0.3]),
    ("ZSpectr.RetractSet", (1, 2e-9, 30, 1), "ZSpectr.RetractGet", (), [1, 2e-9, 30, 1]),
    ("Piezo.XYZLimitsSet", (1, *VOLTS), "Piezo.XYZLimitsGet", (), [1, *VOLTS]),
    ("LockIn.DemodHarmonicSet", (2, 3), "LockIn.DemodHarmonicGet", (2,), [3]),
    ("LockIn.DemodHPFilterSet", (2, 3, 20.0), "LockIn.DemodHPFilterGet", (2,), [3, 20.0]),
    ("LockIn.DemodLPFilterSet", (2, 4, 50.0), "LockIn.DemodLPFilterGet", (2,), [4, 50.0]),
    ("LockIn.DemodSyncFilterSet", (2, 1), "LockIn.DemodSyncFilterGet", (2,), [1]),
    ("Osci1T.ChSet", (Z,), "Osci1T.ChGet", (), [Z]),
]


@pytest.fixture
def nanonis(ports: tuple[int, ...]) -> Iterator[Any]:
    with socket.create_connection((HOST, ports[0]), 60) as connection:
        yield nanonis_spm.Nanonis(connection)


def reply_to(nanonis: Any, command: str, *arguments: Any) -> list[Any]:
    """Values that the client returns for a command; it reports errors as text."""
    error, _, values = getattr(nanonis, command.replace(".", "_"))(*arguments)
    assert error == ""
    return [plain(value) for value in values]


@pytest.mark.parametrize("round_", ROUNDS, ids=lambda round_: round_[0])
def test_what_is_set_is_what_both_get(nanonis: Any, witness: Connection, round_: Round) -> None:
    set_, arguments, get, of, expected = round_
    assert reply_to(nanonis, get, *of) != close_to(expected)
    reply_to(nanonis, set_, *arguments)
    assert ask(witness, get, *of) == close_to(expected)
    assert reply_to(nanonis, get, *of) == close_to(expected)


def test_lists_of_names(nanonis: Any, witness: Connection) -> None:
    [_, count, names] = reply_to(nanonis, "Signals.NamesGet")
    assert count == len(names) == 128
    assert [names] == ask(witness, "Signals.NamesGet")
    assert (names[CURRENT], names[BIAS], names[Z]) == ("Current (A)", "Bias (V)", "Z (m)")
    reply_to(nanonis, "Current.GainSet", 3, -1)
    gains = reply_to(nanonis, "Current.GainsGet")
    assert [gains[2], gains[3], gains[6], gains[7]] == ask(witness, "Current.GainsGet")
    assert gains[3] == 3
    reply_to(nanonis, "Bias.RangeSet", 1)
    ranges = reply_to(nanonis, "Bias.RangeGet")
    assert ranges[2:] == ask(witness, "Bias.RangeGet")
    assert ranges[3] == 1
    reply_to(nanonis, "ZCtrl.ActiveCtrlSet", 1)
    assert reply_to(nanonis, "ZCtrl.CtrlListGet")[2:] == ask(witness, "ZCtrl.CtrlListGet")
    assert reply_to(nanonis, "ZCtrl.CtrlListGet")[3] == 1
    for command in ("Signals.MeasNamesGet", "FolMe.PSExpGet"):
        assert reply_to(nanonis, command)[-1] == ask(witness, command)[-1]
    path = reply_to(nanonis, "Util.SessionPathGet")[1]
    assert [path] == ask(witness, "Util.SessionPathGet")


def test_values_of_signals(nanonis: Any, witness: Connection) -> None:
    reply_to(nanonis, "Bias.Set", 0.5)
    reply_to(nanonis, "ZCtrl.SetpntSet", 4e-11)
    assert reply_to(nanonis, "Signals.ValGet", BIAS, 0) == [0.5]
    assert reply_to(nanonis, "Current.Get") == close_to([4e-11])
    assert reply_to(nanonis, "SafeTip.SignalGet") == close_to([4e-11])
    [z] = reply_to(nanonis, "ZCtrl.ZPosGet")
    count, values = reply_to(nanonis, "Signals.ValsGet", [CURRENT, BIAS, Z], 1)
    assert count == 3
    assert values == close_to([4e-11, 0.5, z])
    assert ask(witness, "ZCtrl.ZPosGet") == [z]
    high, low = reply_to(nanonis, "Signals.RangeGet", Z)
    assert low < z < high
    assert reply_to(nanonis, "ZCtrl.LimitsGet") == [high, low]
    assert reply_to(nanonis, "Piezo.RangeGet")[2] == pytest.approx(high - low)
    assert reply_to(nanonis, "Signals.CalibrGet", Z) == ask(witness, "Signals.CalibrGet", Z)


def test_a_scan_is_what_we_grab_and_what_is_in_the_file(nanonis: Any, witness: Connection) -> None:
    reply_to(nanonis, "Scan.FrameSet", 2e-8, 1e-8, 1.2e-8, 0.9e-8, 0.0)
    reply_to(nanonis, "Scan.BufferSet", [CURRENT, Z], 64, 48)
    assert reply_to(nanonis, "Scan.BufferGet") == [2, [CURRENT, Z], 64, 48]
    reply_to(nanonis, "Scan.PropsSet", 2, 2, 1, "conformance", "said the client", ["Bias"], 3)
    props = ask(witness, "Scan.PropsGet")
    assert props[:5] == [0, 0, 0, "conformance", "said the client"]
    reply_to(nanonis, "Scan.Action", 0, 1)
    timed_out, _, path = reply_to(nanonis, "Scan.WaitEndOfScan", -1)
    assert timed_out == 0
    assert reply_to(nanonis, "Scan.StatusGet") == [0]
    file = nanonispy2.read.Scan(path)
    for index, name in ((CURRENT, "Current"), (Z, "Z")):
        for direction in (1, 0):
            grabbed = reply_to(nanonis, "Scan.FrameDataGrab", index, direction)
            ours = witness.call("Scan.FrameDataGrab", channel_index=index, direction=direction)
            image = np.array(grabbed[4], dtype=np.float32)
            assert (grabbed[1], image.shape, grabbed[5]) == (ours["channel_name"], (48, 64), 1)
            assert np.isfinite(image).all()
            assert np.array_equal(image, ours["data"])
            stored = file.signals[name]["forward" if direction else "backward"][::-1]
            assert np.array_equal(stored if direction else stored[:, ::-1], image)


def test_a_scan_in_progress_is_not_a_number_where_nothing_was_scanned(
    nanonis: Any, witness: Connection
) -> None:
    """The clock of this controller moves only for those who wait, so the scan hangs in mid-air."""
    reply_to(nanonis, "Scan.BufferSet", [Z], 32, 32)
    reply_to(nanonis, "Scan.SpeedSet", 0.0, 0.0, 0.05, 0.05, 2, 1.0)
    reply_to(nanonis, "Scan.Action", 0, 1)
    assert reply_to(nanonis, "Scan.WaitEndOfScan", 1550)[0] == 1
    scanned = np.isfinite(np.array(reply_to(nanonis, "Scan.FrameDataGrab", Z, 1)[4]))
    assert scanned.any(axis=1).tolist() == [False] * 17 + [True] * 15
    reply_to(nanonis, "Scan.Action", 1, 0)
    assert reply_to(nanonis, "Scan.StatusGet") == [0]
    assert reply_to(nanonis, "Scan.WaitEndOfScan", -1)[2] == ""


def test_a_dip_leaves_an_imprint(nanonis: Any) -> None:
    before = image_at(nanonis, 3e-8, 3e-8)
    again = image_at(nanonis, 3e-8, 3e-8)
    reply_to(nanonis, "FolMe.XYPosSet", 3e-8, 3e-8, 1)
    reply_to(nanonis, "TipShaper.PropsSet", *DIP)
    reply_to(nanonis, "TipShaper.Start", 1, -1)
    after = image_at(nanonis, 3e-8, 3e-8)
    assert np.ptp(after - before) > 5 * np.ptp(again - before)


def test_a_pulse_does_something_to_the_surface(nanonis: Any) -> None:
    before = image_at(nanonis, 3e-8, 3e-8)
    again = image_at(nanonis, 3e-8, 3e-8)
    reply_to(nanonis, "FolMe.XYPosSet", 3e-8, 3e-8, 1)
    reply_to(nanonis, "Bias.Pulse", 1, 0.1, 8.0, 1, 2)
    after = image_at(nanonis, 3e-8, 3e-8)
    assert np.ptp(after - before) > 5 * np.ptp(again - before)


def image_at(nanonis: Any, x: float, y: float) -> Any:
    reply_to(nanonis, "Scan.FrameSet", x, y, 1e-8, 1e-8, 0.0)
    reply_to(nanonis, "Scan.BufferSet", [Z], 64, 64)
    reply_to(nanonis, "Scan.Action", 0, 0)
    assert reply_to(nanonis, "Scan.WaitEndOfScan", -1)[0] == 0
    return np.array(reply_to(nanonis, "Scan.FrameDataGrab", Z, 1)[4])


def test_withdraw_steps_and_approach(nanonis: Any, witness: Connection) -> None:
    reply_to(nanonis, "ZCtrl.Withdraw", 1, -1)
    high = reply_to(nanonis, "ZCtrl.LimitsGet")[0]
    assert reply_to(nanonis, "ZCtrl.ZPosGet") == [high]
    assert reply_to(nanonis, "ZCtrl.OnOffGet") == [0]
    assert reply_to(nanonis, "ZCtrl.StatusGet") == [1]
    assert reply_to(nanonis, "Current.Get") == [0]
    reply_to(nanonis, "Motor.StartMove", 0, 20, 0, 1)
    reply_to(nanonis, "Motor.StopMove")
    assert reply_to(nanonis, "Motor.StepCounterGet", 0, 0, 0) == [20, 0, 0]
    assert reply_to(nanonis, "Motor.PosGet", 0, 500) == ask(witness, "Motor.PosGet", 0, 500)
    reply_to(nanonis, "AutoApproach.Open")
    reply_to(nanonis, "AutoApproach.OnOffSet", 1)
    assert reply_to(nanonis, "AutoApproach.OnOffGet") == [0]
    assert reply_to(nanonis, "ZCtrl.StatusGet") == [2]
    assert reply_to(nanonis, "Current.Get") == reply_to(nanonis, "ZCtrl.SetpntGet")
    assert reply_to(nanonis, "ZCtrl.ZPosGet")[0] < high


def test_the_tip_can_be_held_at_a_height(nanonis: Any) -> None:
    reply_to(nanonis, "ZCtrl.TipLiftSet", 1e-9)
    [tracking] = reply_to(nanonis, "ZCtrl.ZPosGet")
    reply_to(nanonis, "ZCtrl.OnOffSet", 0)
    [lifted] = reply_to(nanonis, "ZCtrl.ZPosGet")
    assert lifted - tracking == pytest.approx(1e-9, rel=1e-3)
    reply_to(nanonis, "ZCtrl.ZPosSet", lifted + 2e-9)
    assert reply_to(nanonis, "ZCtrl.ZPosGet") == close_to([lifted + 2e-9])
    assert reply_to(nanonis, "Current.Get")[0] < 1e-3 * reply_to(nanonis, "ZCtrl.SetpntGet")[0]
    reply_to(nanonis, "ZCtrl.OnOffSet", 1)
    assert reply_to(nanonis, "ZCtrl.ZPosGet") == [tracking]


def test_a_spectrum(nanonis: Any) -> None:
    reply_to(nanonis, "BiasSpectr.ChsSet", [CURRENT, Z])
    reply_to(nanonis, "BiasSpectr.LimitsSet", -0.5, 0.5)
    reply_to(nanonis, "BiasSpectr.PropsSet", 0, 1, 2, 21, 0.0, 2, 2)
    assert reply_to(nanonis, "BiasSpectr.ChsGet")[4] == ["Current (A)", "Z (m)"]
    spectrum = reply_to(nanonis, "BiasSpectr.Start", 1, "spectrum")
    assert spectrum[2] == ["Bias calc (V)", "Current (A)", "Z (m)"]
    bias, current, _ = np.array(spectrum[5])
    assert bias == pytest.approx(np.linspace(-0.5, 0.5, 21))
    assert (np.diff(current) > 0).all()


def test_a_z_spectrum_has_the_barrier_of_the_junction(
    nanonis: Any, controller: VirtualController
) -> None:
    reply_to(nanonis, "ZSpectr.Open")
    reply_to(nanonis, "ZSpectr.ChsSet", [CURRENT, Z])
    reply_to(nanonis, "ZSpectr.RangeSet", 0.0, 2e-10)
    reply_to(nanonis, "ZSpectr.PropsSet", 2, 21, 1, 2, 2, 2)
    assert reply_to(nanonis, "ZSpectr.ChsGet")[4] == ["Current (A)", "Z (m)"]
    spectrum = reply_to(nanonis, "ZSpectr.Start", 1, "spectrum")
    assert spectrum[2] == ["Z rel (m)", "Current (A)", "Z (m)"]
    rise, current, z = np.array(spectrum[5])
    assert z - z[0] == pytest.approx(rise, abs=1e-13)
    slope = np.polyfit(rise, np.log(current), 1)[0]
    assert slope == pytest.approx(-2 * controller.microscope.junction.decay, rel=0.05)
    assert reply_to(nanonis, "ZSpectr.StatusGet") == [0]


def test_an_oscilloscope_shows_a_pulse(nanonis: Any, witness: Connection) -> None:
    reply_to(nanonis, "Osci1T.Run")
    reply_to(nanonis, "Osci1T.ChSet", BIAS)
    reply_to(nanonis, "Osci1T.TimebaseSet", 4)
    reply_to(nanonis, "Bias.Pulse", 1, 0.1, 4.0, 1, 2)
    t0, dt, count, bias = reply_to(nanonis, "Osci1T.DataGet", 0)
    assert (count, len(bias)) == (1024, 1024)
    assert bias.count(4.0) * dt == pytest.approx(0.1, rel=0.05)
    assert ask(witness, "Osci1T.DataGet", 0) == close_to([t0, dt, count, bias])


def test_marks_are_drawn_and_erased(nanonis: Any) -> None:
    reply_to(nanonis, "Marks.PointDraw", 1e-8, 2e-8, "here", 255)
    reply_to(nanonis, "Marks.LineDraw", 1e-8, 2e-8, 3e-8, 4e-8, 0xFF00)
    point = [1, [1e-8], [2e-8], 8, ["here"], [255], [1]]
    assert reply_to(nanonis, "Marks.PointsGet") == close_to(point)
    line = [1, [1e-8], [2e-8], [3e-8], [4e-8], [0xFF00], [1]]
    assert reply_to(nanonis, "Marks.LinesGet") == close_to(line)
    reply_to(nanonis, "Marks.PointsErase", -1)
    reply_to(nanonis, "Marks.LinesErase", -1)
    assert reply_to(nanonis, "Marks.PointsGet")[0] == reply_to(nanonis, "Marks.LinesGet")[0] == 0


def test_errors_come_back_as_text(nanonis: Any, witness: Connection) -> None:
    error, _, _ = nanonis.Motor_StartMove(9, 1, 0, 1)
    with pytest.raises(CommandFailed) as ours:
        witness.call("Motor.StartMove", direction=9, steps=1, group=0, wait=1)
    assert error
    assert error in str(ours.value)


@pytest.mark.parametrize(
    "method",
    ["Scan_PropsGet", "Util_VersionGet", "Osci2T_TimebaseGet"],
)
def test_what_this_client_cannot_decode_does_not_disturb_the_controller(
    nanonis: Any, method: str
) -> None:
    with pytest.raises((TypeError, IndexError, ValueError, struct.error)):
        getattr(nanonis, method)()
    reply_to(nanonis, "Bias.Set", 0.25)
    assert reply_to(nanonis, "Bias.Get") == [0.25]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, ports: tuple[int, ...]) -> Callable[[str], None]:
    """Runs one of the package's own examples as it is; they want port 6501 and a keyboard."""
    connect = socket.socket.connect

    def redirected(sock: socket.socket, address: Any) -> None:
        connect(sock, (HOST, ports[0]) if address == ("localhost", 6501) else address)

    monkeypatch.setattr(socket.socket, "connect", redirected)
    monkeypatch.setitem(sys.modules, "keyboard", SimpleNamespace(is_pressed=lambda key: False))
    return lambda name: runpy.run_path(str(EXAMPLES / f"Example_{name}.py"))  # type: ignore


def count(controller: VirtualController, command: str) -> int:
    return sum(name == command for name, _ in controller.executed)


@pytest.mark.slow
def test_example_tip_shaper(example: Callable[[str], None], controller: VirtualController) -> None:
    example("TipShaper")
    assert count(controller, "ZCtrl.ZPosSet") == 58
    assert controller.microscope.bias == 1.0
    assert controller.execute("ZCtrl.StatusGet", {}) == {"status": 2}
    assert controller.execute("Current.GainsGet", {})["active_gain"] == 6


@pytest.mark.slow
def test_example_tip_cleaner(example: Callable[[str], None], controller: VirtualController) -> None:
    example("TipCleaner")
    assert count(controller, "Bias.Pulse") == 5
    assert controller.execute("FolMe.XYPosGet", {"newest": 1}) == {"x": 0.0, "y": 0.0}


def test_example_auto_approach(
    example: Callable[[str], None],
    controller: VirtualController,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example("AutoApproach")
    assert "Surface_Reached is True and Stopped Manually is False" in capsys.readouterr().out
    assert controller.execute("Current.Get", {}) == {"current": controller.microscope.setpoint}


def test_example_bias_pulses_at_various_z(
    example: Callable[[str], None], controller: VirtualController
) -> None:
    example("BiasPulsesAtVariousZ")
    assert count(controller, "Bias.Pulse") == count(controller, "ZCtrl.ZPosSet") == 10
    assert controller.execute("ZCtrl.StatusGet", {}) == {"status": 2}


@pytest.mark.slow
def test_example_simple_signal_acquisition(
    example: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    example("SimpleSignalAcquisition")
    assert "number of acquired samples is 2000" in capsys.readouterr().out
