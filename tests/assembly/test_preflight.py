"""spm-gym check, and what every command refuses before it touches a controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_gym.cli import main, train
from spm_gym.instrument.nanonis.driver import connect
from tests.support.controller_runs import ask, on
from tests.support.virtual import nanonis_settings, virtual_nanonis

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")

pytestmark = pytest.mark.usefixtures("fresh_folder")


def test_check_looks_and_changes_nothing(
    ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask(ports, "Scan.PropsGet"), ask(ports, "Scan.FrameGet"), ask(ports, "ZCtrl.ZPosGet")
    assert main(["check", "--set", on(ports)]) == 0
    out = capsys.readouterr().out
    for word in ("R14718", "bias 1 V", "25 pA", "850 x 850 x 300 nm", "Z (m)", "dip_nm <= 30",
                 "nothing was moved"):  # fmt: skip
        assert word in out
    after = ask(ports, "Scan.PropsGet"), ask(ports, "Scan.FrameGet"), ask(ports, "ZCtrl.ZPosGet")
    assert str(before) == str(after)


def test_check_says_what_the_networks_get_of_larger_images(
    ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", on(ports), "env.pixels=256", "env.image_nm=20"]) == 0
    assert "gets the middle 10 nm, averages over 64 x 64 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "word"),
    [("env.regions.area_nm=2000", "smaller than env.regions.area_nm"),
     ("env.pixels=32", "classifier"),
     ("env.image_nm=300", "image_nm"),
     ("real.limits.dip_nm=2", "dip_nm"),
     ("real.nanonis.channel=Height", "Height"),
     ("real.nanonis.channel='Current (A)'", "no height"),
     ("real.nanonis.channel='X (m)'", "no height"),
     ("real.imaging.setpoint_pA=500", "setpoint:"),
     ("real.imaging.bias_V=-1", "bias:"),
     ("env.image_nm=20", "classifier")],
)  # fmt: skip
def test_check_finds_what_a_run_would_die_of(
    ports: list[int], setting: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--set", on(ports), setting]) == 2
    printed = capsys.readouterr()
    assert any(line.startswith("!!") and word in line for line in printed.out.splitlines())
    assert "not ready: " in printed.err


@pytest.mark.parametrize(
    "command",
    [["run", "--scans", "3"], ["train", "--config", SMOKE],
     ["evaluate", "--policies", "random", "--episodes", "1"]],
)  # fmt: skip
@pytest.mark.parametrize(
    ("setting", "word"),
    [("real.nanonis.channel='Current (A)'", "nothing was moved or changed: height signal:"),
     ("real.imaging.setpoint_pA=500", "setpoint:")],
)  # fmt: skip
def test_what_check_refuses_every_command_refuses_and_nothing_is_changed(
    ports: list[int],
    command: list[str],
    setting: str,
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = ask(ports, "ZCtrl.SetpntGet"), ask(ports, "Scan.PropsGet"), ask(ports, "ZCtrl.ZPosGet")
    assert main([*command, "--env", "real", "--set", on(ports), setting]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert word in error
    after = ask(ports, "ZCtrl.SetpntGet"), ask(ports, "Scan.PropsGet"), ask(ports, "ZCtrl.ZPosGet")
    assert str(before) == str(after)
    assert not list(Path().glob("runs/*"))


def test_nobody_listening_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (
        ["train", "--env", "real", "--config", SMOKE, "--set", "real.nanonis.ports=[1,2]"],
        ["evaluate", "--env", "real", "--policies", "random", "--set", "real.nanonis.ports=[1,2]"],
        ["check", "--set", "real.nanonis.ports=[1,2]"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: cannot reach 127.0.0.1:1")
        assert "real.nanonis.ports" in error
        assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--dry-run"], ["--dry-run", "--env real"]),
        (["train", "--fresh-area"], ["--fresh-area", "--resume"]),
        (["evaluate", "--env", "real", "--policies", "oracle"], ["oracle", "simulator"]),
        (
            ["train", "--env", "real", "--set", "env.ground_truth=true", on([1, 2])],
            ["env.ground_truth"],
        ),
        (["train", "--env", "real", "--set", "env.pixels=32", on([1, 2])], ["64"]),
        (["train", "--env", "real", "--set", "env.image_nm=300", on([1, 2])], ["image_nm"]),
        (["train", "--env", "real", "--set", "real.limits.position_nm=100"], ["position_nm"]),
        (["check", "--set", "real.imaging.speed_nm_per_s=1e-30"], ["speed_nm_per_s"]),
        (["check", "--set", "real.nanonis.timeout_s=1e10"], ["timeout_s"]),
        (["train", "--env", "real", "--set", "real.limits.dip_nm=2"], ["dip 2.5 nm", "dip_nm"]),
        (["check", "--set", "real.imaging.bias_V=9"], ["imaging.bias_V", "limits.bias_V"]),
        (
            ["check", "--set", "real.nanonis.coarse.sideways_steps=101"],
            ["coarse.sideways_steps", "100"],
        ),
        (["check", "--set", "real.nanonis.ports=[6501,6501]"], ["ports must differ"]),
        (["check", "--set", "real.nanonis.ports=[6501]"], ["real.nanonis.ports"]),
    ],
)
def test_impossible_requests_get_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    for word in words:
        assert word in error
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("release", [10862, 13742, "null"])
def test_a_dry_run_shows_every_command_and_sends_none(
    release: int | str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--env", "real", "--config", SMOKE, "--steps", "3", "--dry-run"]
    lab = ["real.nanonis.ports=[1,2]", f"real.nanonis.release={release}"]
    assert train.main([*arguments, "--set", *lab]) == 0
    lines = capsys.readouterr().out.splitlines()
    for command in ("Scan.FrameSet(centre_x=", "Scan.Action(action=0", "FolMe.XYPosSet(x=",
                    "ZCtrl.Withdraw(wait=1", "TipShaper.PropsSet("):  # fmt: skip
        assert any(line.startswith(command) for line in lines)


def test_a_dry_run_steps_away_in_the_configured_direction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab = ["real.nanonis.coarse.retract=z-", "env.regions.area_nm=60"]
    arguments = ["--env", "real", "--config", SMOKE, "--steps", "12", "--dry-run", "--set", *lab]
    assert train.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Motor.StartMove(direction=5, steps=5" in printed
    assert "Motor.StartMove(direction=4" not in printed


def test_a_release_that_does_not_tell_is_asked_for() -> None:
    with (
        virtual_nanonis("--release", "10862") as ports,
        pytest.raises(Exception, match=r"set real\.nanonis\.release"),
    ):
        connect(nanonis_settings(ports=tuple(ports)))
