"""Our client on a controller that was written from the documents alone, with the other readings."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_gym.cli import main, train
from spm_gym.config import RealConfig, SimulatorConfig
from spm_gym.errors import CommandFailed, UnsafeToContinue
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.driver import connect, restore
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Dip, Direction, Frame, Pulse
from tests.conformance.independent_controller import HIGH, LOW, IndependentController
from tests.conformance.independent_world import NM, Bumps
from tests.support.patience import PATIENT
from tests.support.virtual import nanonis_settings, silent
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parent.parent.parent
SMOKE = str(ROOT / "configs" / "smoke.yaml")
FRAME = Frame(20 * NM, -30 * NM, 40 * NM, 64, math.radians(25))


class Molecules:
    """The molecules and the probe of our simulator, so that a probe can be seen to become good."""

    def __init__(self) -> None:
        calm = SimulatorConfig(creep_fraction=0, rough_fraction=0)
        self.microscope = SimulatedMicroscope(calm, seed=5)
        self._level = self.microscope.status().z

    def image(
        self, x: float, y: float, size: float, pixels: int, lines: int, clockwise: float
    ) -> NDArray[np.floating[Any]]:
        if self.microscope.fault:
            self.microscope.withdraw()
            self.microscope.approach()
        frame = Frame(x, y, size, pixels, -math.radians(clockwise), lines)
        return self.microscope.scan(frame).z - self._level

    def pulse(self, bias: float, width: float, x: float, y: float) -> None:
        self.microscope.condition(Pulse(bias, width), x, y)

    def dip(self, depth: float, bias: float, width: float, x: float, y: float) -> None:
        self.microscope.condition(Dip(depth, bias, width), x, y)

    def arrive(self, x_steps: int, y_steps: int) -> None:
        self.microscope.withdraw()
        self.microscope.shift_area(int(np.sign(x_steps)), int(np.sign(y_steps)))
        self.microscope.approach()


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def controller() -> Iterator[IndependentController]:
    """One with a surface that a test can calculate."""
    with IndependentController(Bumps()) as controller:
        yield controller


@pytest.fixture
def microscope() -> Iterator[IndependentController]:
    """One on which a whole run can succeed."""
    with IndependentController(Molecules()) as controller:
        yield controller


def lab(controller: IndependentController, retract: str | None = "z+") -> RealConfig:
    return nanonis_settings(ports=tuple(controller.ports[:2]), coarse={"retract": retract})


def settings(controller: IndependentController, *more: str) -> list[str]:
    return [f"real.nanonis.ports={controller.ports[:2]}", "real.nanonis.coarse.retract=z+",
            "env.creep_wait_s=0", "real.limits.actions_per_hour=null",
            "env.accept_mismatch=[origin]", *PATIENT, *more]  # fmt: skip


def is_safe(controller: IndependentController) -> bool:
    return controller.z == HIGH and not controller.feedback and not controller.scanning


def heights(frame: Frame) -> NDArray[np.floating[Any]]:
    """Heights of the surface at every pixel of a frame."""
    places = [
        [frame.position(row, col) for col in range(frame.pixels)] for row in range(frame.lines)
    ]
    x, y = np.moveaxis(np.array(places), -1, 0)
    return np.asarray(Bumps().height(x, y))


@pytest.fixture
def instrument(controller: IndependentController) -> Iterator[NanonisInstrument]:
    instrument = connect(lab(controller), silent())
    yield instrument
    instrument.close()


@pytest.fixture
def witness(controller: IndependentController) -> Iterator[Connection]:
    connection = Connection("127.0.0.1", controller.ports[3], timeout=PATIENCE_S)
    connection.connect()
    yield connection
    connection.close()


def test_check_is_ready_only_if_its_origin_is_accepted(
    controller: IndependentController, capsys: pytest.CaptureFixture[str]
) -> None:
    before = controller.settings()
    assert main(["check", "--set", *settings(controller)]) == 0, capsys.readouterr().out
    assert "R14718" in capsys.readouterr().out
    assert main(["check", "--set", *settings(controller, "env.accept_mismatch=[]")]) == 2
    assert "origin" in capsys.readouterr().out
    assert controller.settings() == before
    assert not any(name.endswith(("Set", "Move", "Start", "Action")) for name in controller.log)


def test_check_names_a_module_that_is_not_running(capsys: pytest.CaptureFixture[str]) -> None:
    with IndependentController(Bumps(), without="TipShaper") as controller:
        assert main(["check", "--set", *settings(controller)]) == 2
    assert "Cannot access the TipShaper module" in capsys.readouterr().out


def test_what_it_refuses_leaves_the_connection_as_it_was(witness: Connection) -> None:
    for command in ("AutoApproach.OnOffGet", "Util.SessionPathGet"):
        with pytest.raises(CommandFailed):
            witness.call(command)
    witness.call("AutoApproach.Open")
    assert witness.call("AutoApproach.OnOffGet") == {"on": 0}
    with pytest.raises(CommandFailed, match="channel #14 is not part"):
        witness.call("Scan.FrameDataGrab", channel_index=14, direction=1)


def test_a_turned_frame_shows_the_surface_turned_the_right_way(
    controller: IndependentController, instrument: NanonisInstrument
) -> None:
    z = instrument.scan(FRAME).z - controller.surface
    centred = Frame(0.0, 0.0, FRAME.size, FRAME.pixels, FRAME.angle)
    mirrored = Frame(0.0, 0.0, FRAME.size, FRAME.pixels, -FRAME.angle)
    assert z == pytest.approx(heights(FRAME), abs=1e-13)
    z = instrument.scan(centred).z - controller.surface
    assert z == pytest.approx(heights(centred), abs=1e-13)
    assert np.abs(z - heights(mirrored)).max() > 0.1 * NM


def test_a_preview_covers_the_whole_frame_with_few_lines(
    controller: IndependentController, instrument: NanonisInstrument
) -> None:
    instrument.scan(FRAME)
    preview = replace(FRAME, lines=16)
    z = instrument.scan(preview).z - controller.surface
    assert controller.buffer[1:] == [64, 16]
    # This controller's lines lie in the middles of strips, ours half a pixel further down.
    half = FRAME.pixel / 2
    x, y = FRAME.x - half * math.sin(FRAME.angle), FRAME.y + half * math.cos(FRAME.angle)
    between = replace(preview, x=x, y=y)
    assert z == pytest.approx(heights(between), abs=1e-13)
    assert z == pytest.approx(heights(preview), abs=0.05 * NM)
    assert instrument.scan(FRAME).z.shape == (64, 64)


def test_the_speed_is_right_though_the_controller_keeps_the_time_of_a_line(
    controller: IndependentController, instrument: NanonisInstrument
) -> None:
    expected = RealConfig().imaging.speed_nm_per_s * NM
    for size in (40, 10, 25):
        instrument.scan(Frame(0.0, 0.0, size * NM, 64))
        assert controller.speed == pytest.approx(expected)


def test_zeros_in_the_live_buffer_are_not_taken_for_heights(
    controller: IndependentController, instrument: NanonisInstrument, witness: Connection
) -> None:
    z = instrument.scan(FRAME, 0.5).z
    assert np.isfinite(z[:32]).all()
    assert np.isnan(z[32:]).all()
    data = witness.call("Scan.FrameDataGrab", channel_index=30, direction=1)["data"]
    assert data[:32].all()
    assert not data[32:].any()


def test_the_rest_of_a_scan_that_lost_the_surface_is_not_taken_for_heights_either(
    controller: IndependentController,
    instrument: NanonisInstrument,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def image(*where: Any) -> NDArray[np.floating[Any]]:
        picture = Bumps().image(*where)
        controller.surface = LOW - 100 * NM  # for the lines to come, and all that read z
        return picture

    monkeypatch.setattr(controller.world, "image", image)
    z = instrument.scan(Frame(0.0, 0.0, 200 * NM, 64)).z
    scanned = np.isfinite(z).all(axis=1)
    assert 0 < scanned.sum() < 64
    assert np.isnan(z[~scanned]).all()
    assert z[scanned].all()


def test_acts_are_done_where_and_as_they_are_asked_for(
    controller: IndependentController, instrument: NanonisInstrument
) -> None:
    instrument.condition(Pulse(-3.0, 0.1), 50 * NM, 60 * NM)
    instrument.condition(Dip(2 * NM), -70 * NM, 80 * NM)
    assert isinstance(controller.world, Bumps)
    (pulse, bias, *at), (dip, depth, *then) = controller.world.acts
    assert (pulse, dip) == ("pulse", "dip")
    assert [bias, depth / NM] == pytest.approx([-3, 2])
    assert [*at, *then] == pytest.approx([50 * NM, 60 * NM, -70 * NM, 80 * NM])


def test_the_area_is_changed_once_the_motor_is_known_to_lead_away(
    controller: IndependentController, instrument: NanonisInstrument
) -> None:
    instrument.move_area(Direction.X_MINUS)
    directions = [direction for direction, _ in controller.motor_steps]
    assert controller.motor_steps[0] == (4, 1)
    assert set(directions) == {4, 1}
    assert directions == sorted(directions, reverse=True)
    assert controller.feedback
    assert instrument.status().approached
    assert instrument.scan(FRAME).z - controller.surface == pytest.approx(heights(FRAME), abs=1e-13)


@pytest.mark.parametrize("retract", ["z+", "z-"])
def test_a_motor_that_leads_to_the_sample_is_refused_after_single_steps(retract: str) -> None:
    away = {"z+": 5, "z-": 4}[retract]
    with IndependentController(Bumps(), away=away) as controller:
        instrument = connect(lab(controller, retract), silent())
        with pytest.raises(UnsafeToContinue, match="NEARER"):
            instrument.move_area(Direction.X_PLUS)
        instrument.close()
        assert [steps for _, steps in controller.motor_steps] == [1]
        assert is_safe(controller)


def test_false_landings_are_noted_and_the_approach_goes_on(
    controller: IndependentController,
) -> None:
    noted: list[str] = []
    instrument = connect(lab(controller), silent(notes=noted))
    try:
        instrument.withdraw()
        instrument.approach()
        assert len(noted) == 2
        assert all("without contact" in text for text in noted)
        assert instrument.status().current == pytest.approx(controller.setpoint)
    finally:
        instrument.close()


def test_everything_is_left_as_the_operator_had_it(controller: IndependentController) -> None:
    before = controller.settings()
    real = lab(controller).model_copy(
        update={"imaging": RealConfig().imaging.model_copy(update={"bias_V": -0.7})}
    )
    instrument = connect(real, silent())
    instrument.scan(FRAME)
    instrument.condition(Dip(2 * NM), 0.0, 0.0)
    assert controller.bias == pytest.approx(-0.7)
    assert controller.settings() != before
    instrument.close()
    same_settings(controller, before)
    assert is_safe(controller)


def same_settings(controller: IndependentController, before: dict[str, Any]) -> None:
    """The controller's own state, within the single precision in which it is told."""
    after = controller.settings()
    for name, value in before.items():
        for now, then in zip(flat(after[name]), flat(value), strict=True):
            same = now == then if isinstance(then, str) else math.isclose(now, then, rel_tol=1e-5)
            assert same, f"{name}: {after[name]} instead of {value}"


def flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in flat(each)]
    return [value]


@pytest.mark.parametrize(("without", "retract"), [("", "z+"), ("Motor", None)])
def test_a_killed_run_is_restored_where_modules_are_not_running(
    without: str, retract: str | None, tmp_path: Path
) -> None:
    """A module that is not open cannot have left anything moving, but refuses to stop as well."""
    keep = tmp_path / "before.json"
    with IndependentController(Bumps(), without=without) as controller:
        before, real = controller.settings(), lab(controller, retract)
        instrument = connect(real, silent(keep))
        kept = keep.read_text()
        instrument.close()
        keep.write_text(kept)  # as a kill leaves it
        controller.bias = 1.5
        controller.log.clear()
        restore(real, keep, notify=lambda text: None)
        assert {"Motor.StopMove", "AutoApproach.OnOffSet"} <= set(controller.log)
        same_settings(controller, before)
        assert is_safe(controller)
        assert not keep.exists()


@pytest.mark.slow
def test_a_training_passes_and_leaves_it_safe(microscope: IndependentController) -> None:
    before = microscope.settings()
    arguments = ["--env", "real", "--config", SMOKE, "--run-dir", "run", "--steps", "30"]
    assert train.main([*arguments, "--set", *settings(microscope)]) == 0
    assert "Bias.Pulse" in microscope.log or "TipShaper.Start" in microscope.log
    same_settings(microscope, before)
    assert is_safe(microscope)


@pytest.mark.slow
def test_a_run_passes_and_leaves_it_safe(
    microscope: IndependentController, capsys: pytest.CaptureFixture[str]
) -> None:
    before = microscope.settings()
    arguments = ["run", "--env", "real", "--scans", "12", "--policy", "random", "--run-dir", "run"]
    assert main([*arguments, "--set", *settings(microscope)]) == 0, capsys.readouterr()
    assert microscope.log.count("Scan.FrameDataGrab") >= 12
    same_settings(microscope, before)
    assert is_safe(microscope)


@pytest.mark.slow
def test_what_a_killed_run_has_changed_is_restored(microscope: IndependentController) -> None:
    before = microscope.settings()
    lab = settings(microscope, "real.imaging.bias_V=1.5", "env.accept_mismatch=[origin,bias]")
    command = [
        sys.executable, "-m", "spm_gym", "run", "--env", "real", "--scans", "1000", "--policy",
        "random", "--run-dir", "run", "--set", *lab,
    ]  # fmt: skip
    with Path("said.txt").open("w") as output:
        run = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(
                lambda: microscope.log.count("Scan.FrameDataGrab") > 3 or run.poll() is not None
            )
            assert run.poll() is None, Path("said.txt").read_text()
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
    assert microscope.bias == 1.5
    assert main(["restore", "run"]) == 0
    same_settings(microscope, before)
    assert is_safe(microscope)
