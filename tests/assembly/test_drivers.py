"""A driver that lacks something: said by check, refused where it matters, promised nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spm_gym.assembly.drivers import capabilities
from spm_gym.assembly.environment import make_env
from spm_gym.cli import main, train
from spm_gym.config import RealConfig, SimulatorConfig, load_config
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.driver import Capabilities
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.deepspm import DeepSPMServer
from spm_gym.types import Frame
from tests.support.virtual import nanonis_settings

CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)
MISSING = ("status", "withdraw", "retract", "abort", "restore", "rehearse", "verify motor")


class Bare:
    """Any instrument that is not simulated, as far as anybody can tell."""

    def __init__(self, microscope: SimulatedMicroscope) -> None:
        for name in ("status", "scan", "condition", "approach", "withdraw", "retract",
                     "move_area", "wait", "reconnect", "close"):  # fmt: skip
            setattr(self, name, getattr(microscope, name))


@pytest.fixture
def bare() -> Bare:
    return Bare(SimulatedMicroscope(CALM, seed=5))


@pytest.fixture
def deepspm() -> Iterator[list[str]]:
    with DeepSPMServer(SimulatedMicroscope(CALM, seed=5), port=0) as server:
        yield [
            "real.driver=deepspm", f"real.deepspm.port={server.address[1]}",
            "real.imaging.bias_V=1", "real.imaging.setpoint_pA=25", "env.accept_mismatch=[origin]",
        ]  # fmt: skip


def test_check_names_each_thing_that_the_driver_cannot_do(
    deepspm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", *deepspm]) == 0
    out = capsys.readouterr().out
    printed = {line[3:25].strip(): line[26:] for line in out.splitlines() if line.startswith("   ")}
    for name in MISSING:
        assert printed[name].startswith("deepspm ")
        assert printed[name].endswith("(its protocol has no such request)")
    assert "coarse motion" not in printed
    assert "leave the tip where it is, for it cannot be withdrawn, restore no settings" in out
    assert "withdraw the tip" not in out.partition("at its end")[2]


def test_what_it_cannot_do_is_refused_in_one_line(
    deepspm: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--verify-motor", "--set", *deepspm]) == 2
    assert "cannot verify the direction of the coarse motor" in capsys.readouterr().err
    dry = ["--env", "real", "--dry-run", "--steps", "3", "--set", *deepspm]
    assert train.main(dry) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: setting real.driver = deepspm: this driver cannot show")


def test_nothing_to_restore_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(None, ["run.microscope=real", "real.driver=deepspm"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert main(["restore", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing to restore: deepspm keeps no settings of the operator")
    assert "the tip is where the run has left it" in out


@pytest.mark.slow
def test_a_run_that_cannot_withdraw_does_not_say_that_it_has(
    deepspm: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["env.settle_fraction=0", "operation.confirm_s=0", "env.creep_wait_s=0"]
    run = ["run", "--env", "real", "--scans", "2", "--run-dir", "run", "--set", *deepspm, *quick]
    assert main(run) == 0
    out = capsys.readouterr().out
    assert "deepspm cannot withdraw the tip" in out
    assert "tip withdrawn" not in out
    assert main(["stop", "run"]) == 2
    assert main(["report", "run"]) == 0
    assert "tip left at the surface" in (tmp_path / "run" / "report.html").read_text()


def test_what_a_nanonis_can_do_depends_on_a_setting() -> None:
    without, with_motor = (
        capabilities(nanonis_settings(coarse={"retract": retract})) for retract in (None, "z-")
    )
    assert list(without.missing()) == ["retract", "coarse_motion", "verify_motor"]
    for text in without.missing().values():
        assert "real.nanonis.coarse.retract" in text
    assert with_motor.missing() == {}


def test_what_is_not_claimed_is_missing() -> None:
    assert list(Capabilities().missing()) == [
        "status", "withdraw", "retract", "coarse_motion", "previews", "abort", "restore",
        "rehearse", "lend", "signals", "verify_motor", "log_commands",
    ]  # fmt: skip
    assert RealConfig().driver == "nanonis"


def test_an_instrument_from_python_gets_the_guard(bare: Bare) -> None:
    config = load_config(None, ["env.accept_mismatch=[origin]", "real.limits.image_nm=[1, 20]"])
    env = make_env(config, instrument=bare)
    assert isinstance(env.instrument, Guard)
    with pytest.raises(LimitExceeded, match=r"real\.limits\.image_nm"):
        env.instrument.scan(Frame(0.0, 0.0, 30e-9, 16))


def test_a_guard_is_not_put_around_a_guard_nor_where_it_is_switched_off(bare: Bare) -> None:
    config = load_config(None, ["env.accept_mismatch=[origin]"])
    guard = Guard(bare, config.real.limits)
    assert make_env(config, instrument=guard).instrument is guard
    assert make_env(config, instrument=bare, guard=False).instrument is bare
    simulated = SimulatedMicroscope(CALM, seed=5)
    assert make_env(config, instrument=simulated).instrument is simulated
