"""The commands at other sizes of images: what is recorded of a run, shown and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from spm_gym import cli
from spm_gym.assembly.run_directory import existing_operation
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.cli import evaluate, train
from spm_gym.datasets.offline import export_episodes
from spm_gym.envs.observation import process_scan
from spm_gym.figures.episode import recorded_episode
from spm_gym.figures.scan_view import scan_view
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import read_scan, reading
from spm_gym.scale import NM
from tests.support.controller_runs import is_safe, on
from tests.support.showing import show_command
from tests.support.virtual import virtual_nanonis

BRIEF = ["operation.scans=7", "operation.condition_after=2", "env.max_steps=3",
         "operation.learn=false", "env.good_above=1"]  # fmt: skip
LARGE = ["env.pixels=128", "env.image_nm=20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = [f"--set={each}" for each in (*BRIEF, *LARGE)]
    assert cli.main(["run", "--env", "sim", "--run-dir", str(folder), *settings]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_keeps_what_its_networks_get(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, config = existing_operation(run)
    assert (config.env.observation_pixels, config.env.observation_nm) == (64, 10)
    resume = ["run", "--resume", "--run-dir", str(run)]
    assert cli.main([*resume, "--scans", "8"]) == 0
    settings = run / "config.yaml"
    kept = settings.read_text(encoding="utf-8")
    settings.write_text(kept.replace("observation_nm: 10.0", "observation_nm: 11"), "utf-8")
    capsys.readouterr()
    assert cli.main(resume) == 2
    assert "has env.observation_nm = 11.0, and the run has worked" in capsys.readouterr().err
    settings.write_text(kept, encoding="utf-8")


def test_the_journal_and_an_export_have_what_the_networks_got(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari

    _, config = existing_operation(run)
    classifier = ProbeClassifier.load(shipped_classifier())
    with reading(run) as db:
        rows = db.execute("SELECT * FROM scans WHERE probability IS NOT NULL").fetchall()
        frames = recorded_episode(db, run, 1, config.env)
        first = db.execute("SELECT scan FROM steps ORDER BY id").fetchone()["scan"]
    assert frames.stills[0].image.shape == (128, 128)
    by_number = {row["id"]: process_scan(read_scan(run, row), classifier, config.env)
                 for row in rows}  # fmt: skip
    with reading(run) as db:
        for row in rows:
            view = scan_view(db, run, None, row["id"], Preprocessing.of(config.env), config.env)
            clean = by_number[row["id"]].clean_side
            assert (view.square.side / 100 * 20 if view.square else 0) == pytest.approx(clean / NM)
    for row in rows:
        again = by_number[row["id"]]
        assert again.scan.frame.shape == (128, 128)
        assert row["probability"] == pytest.approx(again.probability, abs=1e-6)
        assert row["clean_side"] == pytest.approx(again.clean_side)
    assert frames.stills[0].square == by_number[first].square
    export_episodes(run, tmp_path / "set", config)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "set"))
    episode = next(iter(minari.load_dataset("probe-conditioning-v0").iterate_episodes()))
    expected = by_number[int(episode.infos["scan"][0])].observation
    assert expected.shape == (1, 64, 64)
    assert np.array_equal(episode.observations[0], expected)


def test_scans_and_episodes_of_a_run_are_shown(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reading(run) as db:
        [number, file, probability] = db.execute(
            "SELECT id, file, probability FROM scans WHERE probability IS NOT NULL"
        ).fetchone()
    assert show_command(run, "--scan", number, "--output", "scan.png") == 0
    assert show_command(run / file, "--output", "file.png") == 0
    assert f"{probability:.2f}" in capsys.readouterr().out
    assert show_command(run, "--episode", "1", "--output", "episode.gif") == 0
    assert Path("scan.png").stat().st_size > 0
    assert Path("episode.gif").stat().st_size > 0


def test_a_virtual_nanonis_is_run_at_other_sizes() -> None:
    with virtual_nanonis("--seed", "3") as ports:
        given = [on(ports), "env.creep_wait_s=0", "operation.condition_after=1",
                 "real.limits.actions_per_hour=null", *LARGE, "env.preview_lines=16"]  # fmt: skip
        command = ["run", "--env", "real", "--scans", "6", "--run-dir", "run", "--set", *given]
        assert cli.main(command) == 0
        assert is_safe(ports)
    with reading(Path("run")) as db:
        found = db.execute("SELECT pixels, probability FROM scans").fetchall()
    assert {row["pixels"] for row in found} == {128}
    assert any(row["probability"] is not None for row in found)


def test_an_agent_is_trained_and_evaluated_at_other_sizes() -> None:
    size = ["--set", *LARGE, "agent.kind=belief"]
    assert train.main(["--steps", "3", "--run-dir", "trained", *size]) == 0
    evaluated = ["--run", "trained", "--policies", "agent", "random", "--episodes", "1"]
    assert evaluate.main([*evaluated, "--json", "result.json"]) == 0
    found = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert {"agent", "random"} <= found["policies"].keys()


def test_what_fits_nothing_ends_with_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (["run", "--env", "sim"], ["run", "--env", "real"]):
        settings = ["--set", "env.pixels=100", "env.image_nm=20"]
        assert cli.main([*command, "--run-dir", "run", *settings]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert "env.pixels of 128 or more with env.image_nm = 20" in line
    assert not Path("run").exists()
