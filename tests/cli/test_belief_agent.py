"""The belief agent through the commands: training, resuming, evaluating, operating, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.belief.checkpoint import load_belief_checkpoint
from agents.belief.recogniser import Recogniser
from agents.checkpoint import latest_checkpoint
from agents.vgg import VGG
from spm_gym.analysis.policies import policy_episodes
from spm_gym.cli import evaluate, main, train
from spm_gym.config import NetworkConfig
from spm_gym.journal.reader import reading
from tests.support.command_runs import LIVELY, summary
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("fresh_folder"), pytest.mark.slow]

BELIEF = ["--agent", "belief"]


def learned(run: str) -> dict[str, Any]:
    newest = latest_checkpoint(Path(run) / "checkpoints")
    assert newest is not None
    return load_belief_checkpoint(newest).agent.get_state()


def test_the_same_seed_gives_the_same_agent_whether_or_not_it_is_interrupted() -> None:
    options = [*BELIEF, "--seed", "5", "--set", "run.checkpoint_every=20"]
    assert train.main([*options, "--steps", "60", "--run-dir", "straight"]) == 0
    # In the middle of an episode, as likely as not.
    for steps in ("23", "41"):
        if steps == "23":
            assert train.main([*options, "--steps", steps, "--run-dir", "parts"]) == 0
        else:
            assert train.main(["--resume", "--steps", steps, "--run-dir", "parts"]) == 0
    assert train.main(["--resume", "--steps", "60", "--run-dir", "parts"]) == 0
    np.testing.assert_equal(learned("parts"), learned("straight"))
    assert train.main([*BELIEF, "--seed", "6", "--steps", "60", "--run-dir", "other"]) == 0
    assert learned("other")["rng"] != learned("straight")["rng"]


def test_a_killed_training_goes_on_without_loss() -> None:
    options = [*BELIEF, "--seed", "5", "--set", "run.checkpoint_every=5"]
    assert train.main([*options, "--steps", "400", "--run-dir", "straight"]) == 0
    command = [sys.executable, "-c", "import sys; from spm_gym.cli.train import main; sys.exit("
               "main())", *options, "--steps", "400", "--run-dir", "killed"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        folder = Path("killed/checkpoints")
        wait_until(lambda: latest_checkpoint(folder) is not None or child.poll() is not None)
        os.kill(child.pid, signal.SIGKILL)
    newest = latest_checkpoint(folder)
    assert newest is not None
    assert newest.name < "step_0000400"
    assert train.main(["--resume", "--run-dir", "killed"]) == 0
    np.testing.assert_equal(learned("killed"), learned("straight"))


def test_what_was_learned_is_the_prior_of_the_next_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*BELIEF, "--steps", "120", "--run-dir", "first"]) == 0
    options = [*BELIEF, "--prior", "first", "--steps", "0", "--run-dir", "second"]
    assert train.main(options) == 0
    first = load_belief_checkpoint(Path("first/checkpoints/step_0000120")).agent
    second = load_belief_checkpoint(Path("second/checkpoints/step_0000000")).agent
    np.testing.assert_allclose(second.transitions.mean(), first.transitions.mean(), atol=1e-12)
    # A row that was seen often is held to a certain weight, one that never was keeps its doubt.
    weights = second.transitions.weights.sum(axis=2)
    assert weights.max() <= 30 + 1e-9
    np.testing.assert_allclose(weights.min(), first.transitions.weights.sum(axis=2).min())
    capsys.readouterr()
    assert train.main([*BELIEF, "--prior", "simulator", "--steps", "0", "--run-dir", "third"]) == 0
    assert evaluate.main(["--run", "third", "--episodes", "40", "--json", "third.json",
                          "--policies", "agent", "random", "oracle", "shuffled"]) == 0  # fmt: skip
    found = json.loads(Path("third.json").read_text())
    lengths = {name: each["mean_length"] for name, each in found["policies"].items()}
    assert lengths["agent"] < lengths["random"] / 2
    assert lengths["agent"] < lengths["shuffled"]


def test_agents_of_several_runs_are_compared_side_by_side(
    capsys: pytest.CaptureFixture[str],
) -> None:
    informed = [*BELIEF, "--prior", "simulator", "--steps", "0"]
    for name in ("one", "other"):
        assert train.main([*informed, "--run-dir", name]) == 0
    assert evaluate.main(["--run", "one", "--against", "other", "--episodes", "20", "--policies",
                          "agent", "random", "oracle", "--json", "both.json",
                          "--plot", "both.png"]) == 0  # fmt: skip
    policies = json.loads(Path("both.json").read_text())["policies"]
    assert list(policies) == ["agent", "random", "oracle", "other"]
    assert policies["other"]["normalised_score"]["value"] > 0.5
    assert "normalised score of other" in capsys.readouterr().out
    assert evaluate.main(["--run", "one", "--against", "other", "other"]) == 2
    assert "already" in capsys.readouterr().err
    assert evaluate.main(["--run", "one", "--against", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_run_learns_and_explains_and_goes_on_from_its_journal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--run-dir", "run", "--policy", "interleaved", "--set", *LIVELY,
               "agent.kind=belief", "simulator.tip_change_rate=0.3"]  # fmt: skip
    assert main(["run", "--scans", "60", *options]) == 0
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "120"]) == 0
    found = summary(capsys)
    assert found["consistent"], found["inconsistencies"]
    with reading(Path("run")) as db:
        rows = db.execute("SELECT policy, mask, action, forecast FROM steps").fetchall()
        learnt = db.execute(
            "SELECT COUNT(*) FROM steps WHERE scan_after IS NOT NULL AND NOT uncertain"
        ).fetchone()[0]
        assert {name for name in ("agent", "random") if policy_episodes(db)[name].lengths}
    assert {row["policy"] for row in rows} == {"agent", "random"}
    for row in rows:
        assert (row["forecast"] is None) == (row["policy"] == "random")
        if row["forecast"]:
            forecast = json.loads(row["forecast"])
            assert sum(forecast["belief"]) == pytest.approx(1)
            assert len(forecast["good"]) == len(forecast["actions_to_go"]) == 12
            assert json.loads(row["mask"])[row["action"]]
    assert learned("run")["steps"] == learnt


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run train.py, which must end with one line of error; returns it."""
    capsys.readouterr()
    assert train.main(command) != 0
    text = capsys.readouterr().err.strip()
    assert len(text.splitlines()) == 1
    return text


def test_what_does_not_fit_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*BELIEF, "--steps", "3", "--run-dir", "run"]) == 0
    nothing = [*BELIEF, "--steps", "3"]
    assert "agent.belief.prior" in refused([*nothing, "--prior", "nowhere"], capsys)
    assert "--agent belief" in refused(["--prior", "run"], capsys)
    assert "--output" in refused([*nothing, "--output", "agent.safetensors"], capsys)
    actions = "env.actions=[{name: stall, kind: stall, anywhere: true}]"
    text = refused([*nothing, "--prior", "run", "--set", actions,
                    "operation.clean_action=null"], capsys)  # fmt: skip
    assert "agent.belief.prior" in text
    assert "pulse +2.5 V" in text

    network = NetworkConfig(channels=(2,), pooled_sets=1, stem_stride=2, hidden=())
    for pixels, classes, word in ((32, 16, "32 x 32 px"), (64, 5, "5 classes")):
        other = Recogniser(VGG(network, classes, pixels), np.full(classes, 1 / classes), "")
        other.save(Path("other.safetensors"))
        text = refused([*nothing, "--set", "agent.belief.recogniser=other.safetensors"], capsys)
        assert "agent.belief.recogniser" in text
        assert word in text
    text = refused([*nothing, "--set", "agent.belief.recogniser=nowhere"], capsys)
    assert "agent.belief.recogniser" in text


def test_a_checkpoint_of_another_kind_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    smoke = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
    assert train.main(["--config", smoke, "--run-dir", "dqn", "--steps", "40"]) == 0
    text = refused([*BELIEF, "--prior", "dqn", "--steps", "3"], capsys)
    assert "double-dqn" in text
