"""Training of a classifier from settings."""

from __future__ import annotations

import json
from pathlib import Path

from agents.classifier import ProbeClassifier
from spm_gym.cli import train

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def test_report_and_file_have_the_threshold_of_the_environment(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--set", "env.good_above=0.7", "classifier.images=64"]
    command = ["classifier", "--config", str(SMOKE), "--run-dir", str(run), *settings]
    assert train.main(command) == 0
    assert json.loads((run / "report.json").read_text())["threshold"] == 0.7
    summary = ProbeClassifier.load(run / "classifier.safetensors").summary
    assert summary["validation"]["threshold"] == 0.7
