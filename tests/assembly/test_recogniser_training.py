"""Training of a recogniser from settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.belief.recogniser import Recogniser
from agents.vgg import VGG
from spm_gym.assembly.recogniser import load_recogniser
from spm_gym.assembly.recogniser_images import settings_hash
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.cli import train
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.instrument.sim.dynamics import STATES
from tests.support.blobs import TINY

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
COMMAND = ["recogniser", "--config", str(SMOKE)]


def test_the_run_has_recogniser_and_report_and_the_seed_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = tmp_path / "run", tmp_path / "mine.safetensors"
    assert train.main([*COMMAND, "--run-dir", str(run), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert {"recogniser.safetensors", "recogniser.yaml", "report.json", "report.png"} <= {
        path.name for path in run.iterdir()
    }
    assert output.read_bytes() == (run / "recogniser.safetensors").read_bytes()
    config = load_config(SMOKE, [f"agent.belief.recogniser={output}"])
    recogniser = load_recogniser(config)
    assert recogniser.shares.shape == (STATES,)
    assert recogniser.settings == settings_hash(config)
    assert json.loads((run / "report.json").read_text()) == recogniser.summary
    validation = recogniser.summary["validation"]
    assert list(validation) == ["8", "16", "32", "64"]
    for lines, figures in validation.items():
        assert f"\n{lines:>5}  {figures['accuracy']:12.3f}" in printed
    # The same command gives the same file, byte for byte.
    assert train.main([*COMMAND, "--run-dir", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "recogniser.safetensors").read_bytes() == output.read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "recogniser.line_steps=[8, 5]"], ["line_steps", "5", "env.pixels = 64"]),
        (["--set", "recogniser.line_steps=[]"], ["line_steps", "at least 1 item"]),
        (["--set", "recogniser.validation_images=3"], ["validation_images", "100"]),
        (["--set", "recogniser.images=20"], ["recogniser.images", "400"]),
        (["--data", "images"], ["--data", "classifier"]),
        (["--output", "taken.safetensors"], ["taken.safetensors", "--force"]),
    ],
)
def test_impossible_requests_get_one_line_and_leave_nothing(
    more: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.safetensors").touch()
    assert train.main([*COMMAND, *more]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert all(word in error for word in words), error
    assert [path.name for path in tmp_path.iterdir() if path.name != "runs"] == [
        "taken.safetensors"
    ]
    assert not list(tmp_path.glob("runs/*"))


def test_a_recogniser_of_other_pixels_or_classes_or_a_foreign_file_is_refused(
    tmp_path: Path,
) -> None:
    assert load_recogniser(Config()).shares.shape == (STATES,)
    with pytest.raises(ConfigError, match=r"recogniser = .*64 x 64 px.*env.pixels = 32"):
        load_recogniser(load_config(None, ["env.pixels=32"]))
    path = tmp_path / "three.safetensors"
    Recogniser(VGG(TINY, 3, 64), np.full(3, 1 / 3), "").save(path)
    with pytest.raises(ConfigError, match=r"three.safetensors: it knows 3 classes.* 16 are needed"):
        load_recogniser(load_config(None, [f"agent.belief.recogniser={path}"]))
    with pytest.raises(ConfigError, match=r"agent.belief.recogniser: .*is not a recogniser"):
        load_recogniser(load_config(None, [f"agent.belief.recogniser={shipped_classifier()}"]))
