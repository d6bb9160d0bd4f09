"""Conditions of the images that training writes into a classifier, from files or settings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from spm_gym.assembly.classifier_training import lab_conditions, simulated_conditions
from spm_gym.assembly.pictures.networks import of_weights
from spm_gym.cli import train
from spm_gym.config import ConfigError, load_config
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.imaging.files import read_topography, write_gsf
from spm_gym.servers.nanonis.sxm import SxmChannel, SxmFeedback, SxmHeader, write_sxm
from spm_gym.types import Frame, Scan

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
Z = np.random.default_rng(0).normal(0, 1e-11, (64, 64)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("fresh_folder")


def gsf(name: str, bias: float, setpoint: float, size: float = 10e-9, side: int = 64) -> None:
    z = np.kron(Z, np.ones((side // 64, side // 64), np.float32))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_gsf(Path(name), Scan(Frame(0, 0, size, side), z, None, bias, setpoint))


def sxm(name: str, bias: float, feedback: SxmFeedback, size: float = 10e-9) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = SxmHeader((0, 0), (size, size), bias, feedback, datetime(2026, 3, 1), 80.0, (0.6, 0.3))
    write_sxm(path, header, [SxmChannel("Z", "m", Z, Z)])
    return path


def conditions(*settings: str) -> TrainingConditions:
    config = load_config(None, list(settings))
    return lab_conditions(load_folder(Path(), config.env.pixels), config)


@pytest.mark.parametrize(
    ("feedback", "setpoint"),
    [
        (SxmFeedback(25e-12), 25e-12),
        (SxmFeedback(-25e-12), -25e-12),
        (SxmFeedback(25e-12, on=False), 25e-12),
        (SxmFeedback(3.5, name="Frequency shift", unit="Hz"), None),
        (SxmFeedback(0.0), 0.0),
    ],
)
def test_a_nanonis_file_tells_bias_and_setpoint(
    feedback: SxmFeedback, setpoint: float | None
) -> None:
    found = read_topography(sxm("a.sxm", -1.25, feedback))
    assert (found.bias, found.setpoint) == (-1.25, setpoint)


@pytest.mark.parametrize(
    ("given", "recorded"),
    [(0.5, 0.5), (np.nan, None), (np.inf, None), (0.0, 0.0)],
)
def test_a_file_of_the_runner_tells_them_unless_it_does_not_know(
    given: float, recorded: float | None
) -> None:
    gsf("a.gsf", given, given)
    found = read_topography(Path("a.gsf"))
    assert (found.bias, found.setpoint) == (recorded, recorded)


def test_a_folder_gives_the_ranges_of_its_files() -> None:
    gsf("good/1.gsf", -0.5, 30e-12)
    gsf("good/2.gsf", -1.0, 20e-12, size=11e-9, side=128)
    sxm("bad/3.sxm", -0.75, SxmFeedback(-50e-12), size=9e-9)
    found = conditions("classifier.material=MgPc on Ag(100)")
    assert (found.origin, found.material) == ("real", "MgPc on Ag(100)")
    assert found.bias == (-1.0, -0.5)
    assert found.setpoint == pytest.approx((20e-12, 50e-12))
    assert found.pixel == pytest.approx((9e-9 / 64, 11e-9 / 64))
    assert found.auc is None
    assert conditions("classifier.origin=simulated").origin == "simulated"


def test_what_files_do_not_tell_the_settings_do(capsys: pytest.CaptureFixture[str]) -> None:
    gsf("good/1.gsf", 0.5, 20e-12)
    Path("bad").mkdir()
    np.save("bad/2.npy", Z)
    untold = conditions()
    assert (untold.bias, untold.setpoint, untold.pixel) == (None, None, None)
    output = capsys.readouterr().out
    for setting in ("bias_V", "setpoint_pA", "image_nm"):
        assert f"1 of 2 files do not tell" in output  # noqa: F541
        assert f"classifier.{setting}" in output
    recorded = conditions(
        "classifier.bias_V=1", "classifier.setpoint_pA=25", "classifier.image_nm=12"
    )
    assert recorded.bias == (0.5, 1.0)
    assert recorded.setpoint == pytest.approx((20e-12, 25e-12))
    assert recorded.pixel == pytest.approx((10e-9 / 64, 12e-9 / 64))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("setting", ["bias_V=1", "setpoint_pA=25", "image_nm=10", "material=gold"])
def test_of_simulated_images_only_the_simulator_speaks(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"classifier.{setting.split('=')[0]}.*--data"):
        simulated_conditions(load_config(None, [f"classifier.{setting}"]))


def test_training_on_the_simulator_and_showing_what_came_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["env.image_nm=8", "simulator.molecule=PTCDA"]
    arguments = ["classifier", "--config", SMOKE, "--run-dir", "run", "--output", "a.safetensors"]
    assert train.main([*arguments, "--set", *settings]) == 0
    trained = ProbeClassifier.load(Path("a.safetensors")).conditions
    expected = simulated_conditions(load_config(None, settings))
    assert trained.material == expected.material == "PTCDA on Ag(100)"
    assert trained.pixel == expected.pixel == (8e-9 / 64, 8e-9 / 64)
    assert trained.auc is not None
    assert trained.images == 77
    recorded = [line for line in capsys.readouterr().out.splitlines() if "PTCDA" in line]
    of_weights(Path("a.safetensors"), load_config(None, settings).env).write(Path("a.png"))
    lines = capsys.readouterr().out.splitlines()
    assert recorded
    assert set(recorded) <= set(lines)
    assert any(line.split() == ["pixel", "0.125", "nm", "per", "pixel"] for line in lines)


def test_a_classifier_of_a_folder_is_refused_by_what_it_was_trained_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(12):
        gsf(f"scans/{'good' if number % 3 else 'bad'}/{number}.gsf", -1.0, 25e-12)
    arguments = ["classifier", "--config", SMOKE, "--data", "scans", "--run-dir", "run"]
    assert train.main([*arguments, "--output", "mine.safetensors"]) == 0
    assert ProbeClassifier.load(Path("mine.safetensors")).conditions.bias == (-1.0, -1.0)
    use = ["--config", SMOKE, "--steps", "31", "--set", "env.classifier=mine.safetensors"]
    capsys.readouterr()
    assert train.main(use) != 0
    error = capsys.readouterr().err
    assert "bias: the images have 1 V" in error
    assert "origin: the images are simulated" in error
    assert train.main([*use, "env.accept_mismatch=[bias, origin, quality]"]) == 0
