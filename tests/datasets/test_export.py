from __future__ import annotations

import csv
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym import cli
from spm_gym.analysis.summary import summarise
from spm_gym.config import load_config
from spm_gym.datasets.export import ExportError, export_images
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.datasets.offline import DATASET, export_episodes
from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import read_gsf_scan
from spm_gym.journal.reader import scan_file
from spm_gym.types import Transition
from tests.support.scripted_runs import Verdicts, lab

ROOT = Path(__file__).parents[2]
GOOD, BAD, UNCLEAR = 0.95, 0.02, 0.5
VERDICTS = (GOOD, BAD, BAD, UNCLEAR, BAD, GOOD, GOOD, BAD, BAD, UNCLEAR, BAD, BAD, BAD, BAD, BAD)
OPINIONS = "by the opinions of the run's own classifier, which no person has confirmed"
SETTINGS = ("env.max_steps=3", "operation.condition_after=2", "operation.scans=14")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Transition]]:
    """A run of two areas and what its agent was taught, as it was taught.

    Images, with an episode in brackets: good, bad, bad [unclear, bad, good], good, bad,
    bad [unclear, bad, bad], and in the second area: bad [bad, ...
    """
    run = tmp_path_factory.mktemp("runs") / "monday"
    taught: list[Transition] = []
    with lab(run, Verdicts(*VERDICTS), *SETTINGS) as it:
        (run / "config.yaml").write_text(it.config.to_yaml())
        it.policy.learn = lambda step, _: taught.append(step)  # type: ignore[method-assign]
        it.runner.run()
        assert it.labels().count("conditioning") == 7
    return run, taught


@pytest.fixture
def run(made: tuple[Path, list[Transition]], tmp_path: Path) -> Path:
    return shutil.copytree(made[0], tmp_path / "monday")


def sql(run: Path, *statements: str) -> None:
    with closing(sqlite3.connect(run / "journal.sqlite")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def rows(run: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run / "journal.sqlite")) as db:
        return db.execute(query).fetchall()


def settings(run: Path) -> Any:
    return load_config(run / "config.yaml")


def load_offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return minari.load_dataset(DATASET)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["export", *map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


# --- images with the opinions of the classifier ---------------------------------------------------


def test_the_training_of_the_classifier_loads_what_is_exported(run: Path, tmp_path: Path) -> None:
    exported = export_images(run, tmp_path / "set", settings(run).env, "classifier")
    loaded = load_folder(tmp_path / "set")
    labels = rows(
        run, "SELECT id, label FROM scans WHERE label IN ('good', 'bad probe') ORDER BY id"
    )
    assert [path.name for path in loaded.paths] == [Path(scan_file(n)).name for n, _ in labels]
    assert loaded.good.tolist() == [label == "good" for _, label in labels]
    assert loaded.ignored == {}
    assert (
        str(exported)
        == f"2 good and 5 bad images, {OPINIONS}; left out: 14 discarded, 7 conditioning"
    )
    for path, (number, _) in zip(loaded.paths, labels, strict=True):
        assert path.read_bytes() == (run / scan_file(number)).read_bytes()


def test_an_area_is_a_session(run: Path, tmp_path: Path) -> None:
    export_images(run, tmp_path / "set", settings(run).env, "classifier")
    assert load_folder(tmp_path / "set").session.tolist() == ["monday area 0"] * 6 + [
        "monday area 1"
    ]


def test_the_manifest_says_where_an_image_comes_from(run: Path, tmp_path: Path) -> None:
    export_images(run, tmp_path / "set", settings(run).env, "classifier")
    with (tmp_path / "set" / "manifest.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first.pop("probability") == f"{np.float32(GOOD):.9g}"
    assert first == {
        "file": "images/000002.gsf",
        "label": "good",
        "session": "monday area 0",
        "label from": "classifier",
        "scan": "2",
        "area": "0",
    }


def test_conditioning_adds_what_was_classified_clearly(run: Path, tmp_path: Path) -> None:
    exported = export_images(run, tmp_path / "set", settings(run).env, "classifier", True)
    assert load_folder(tmp_path / "set").good.sum() == 2 + 1
    assert (
        str(exported)
        == f"3 good and 9 bad images, {OPINIONS}; left out: 14 discarded, 2 conditioning"
    )


@pytest.mark.parametrize("label", ["bad sample", "unusable", "discarded", None])
def test_only_classified_images_are_taken(run: Path, tmp_path: Path, label: str | None) -> None:
    sql(run, f"UPDATE scans SET label = {'NULL' if label is None else repr(label)} WHERE id = 4")
    exported = export_images(run, tmp_path / "set", settings(run).env, "classifier", True)
    assert not (tmp_path / "set" / "images" / "000004.gsf").exists()
    assert exported.left_out[label or "undecided"] == 1 + 14 * (label == "discarded")


def test_a_damaged_image_is_left_out_and_said(run: Path, tmp_path: Path) -> None:
    (run / scan_file(4)).write_bytes(b"Gwyddion Simple Field 1.0\n")
    exported = export_images(run, tmp_path / "set", settings(run).env, "classifier")
    assert load_folder(tmp_path / "set").good.size == 6
    assert "1 damaged file" in str(exported)


def test_both_classes_are_needed(run: Path, tmp_path: Path) -> None:
    sql(run, "UPDATE scans SET label = 'good' WHERE label = 'bad probe'")
    with pytest.raises(ExportError, match="7 images of a good probe and 0 of a bad one"):
        export_images(run, tmp_path / "set", settings(run).env, "classifier")
    assert not (tmp_path / "set").exists()


def test_an_empty_folder_will_do(run: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    export_images(run, tmp_path / "set", settings(run).env, "classifier")
    assert load_folder(tmp_path / "set").good.size == 7


@pytest.mark.slow
def test_the_classifier_is_really_trained_on_it(run: Path, tmp_path: Path) -> None:
    arguments = ["--classifier", str(tmp_path / "set"), "--labels", "classifier"]
    assert cli.main(["export", str(run), *arguments]) == 0
    command = [sys.executable, str(ROOT / "train.py"), "classifier"]
    command += ["--config", str(ROOT / "configs" / "smoke.yaml"), "--set"]
    command += ["classifier.epochs=1", "classifier.validation_fraction=0.3"]
    command += ["--data", str(tmp_path / "set"), "--output", str(tmp_path / "new.safetensors")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 good and 5 bad images, 2 sessions" in done.stdout
    assert (tmp_path / "new.safetensors").stat().st_size > 0


# --- episodes for offline reinforcement learning --------------------------------------------------


def test_minari_reads_what_the_agent_saw_to_the_last_bit(
    made: tuple[Path, list[Transition]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, taught = made
    exported = export_episodes(run, tmp_path / "set", settings(run))
    dataset = load_offline(tmp_path / "set", monkeypatch)
    assert (dataset.total_episodes, dataset.total_steps) == (2, 6)
    assert str(exported).startswith("2 episodes with 6 steps, 0 of them uncertain; left out: ")
    steps = iter(taught)
    for episode in dataset.iterate_episodes():
        assert episode.observations.shape == (4, 1, 64, 64)
        assert episode.observations.dtype == np.float32
        assert episode.infos["action_mask"].shape == (4, 12)
        for i in range(3):
            step = next(steps)
            assert np.array_equal(episode.observations[i], step.observation)
            assert np.array_equal(episode.observations[i + 1], step.next_observation)
            assert episode.actions[i] == step.action
            assert episode.rewards[i] == step.reward
            ended = episode.terminations[i], episode.truncations[i]
            assert ended == (step.terminated, step.truncated)
            assert np.array_equal(episode.infos["action_mask"][i + 1], step.next_mask)
            assert episode.infos["action_mask"][i][step.action]
        known = dict(rows(run, "SELECT id, probability FROM scans"))
        scans = episode.infos["scan"].tolist()
        assert episode.infos["probability"].tolist() == [known[scan] for scan in scans]


def test_how_episodes_end(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_episodes(run, tmp_path / "set", settings(run))
    good, limit = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert good.terminations.tolist() == limit.truncations.tolist() == [False, False, True]
    assert not good.truncations.any()
    assert not limit.terminations.any()
    assert good.rewards.tolist() == [-1, -1, 10]
    assert limit.rewards.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("plane", ["levels", "ransac"])
def test_an_observation_is_its_scan_prepared_as_the_settings_say(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plane: Any
) -> None:
    sql(run, "DELETE FROM steps WHERE episode = 2")
    config = load_config(run / "config.yaml", [f"env.plane={plane}"])
    export_episodes(run, tmp_path / "set", config)
    (episode,) = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert episode.infos["scan"].tolist() == [6, 8, 10, 12]
    raw = read_gsf_scan(run / scan_file(8))
    assert np.array_equal(episode.observations[1, 0], normalise(level(raw, method=plane)))
    other: Any = "levels" if plane == "ransac" else "ransac"
    assert not np.array_equal(episode.observations[1, 0], normalise(level(raw, method=other)))


def test_the_environment_of_the_run_can_be_recovered(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_episodes(run, tmp_path / "set", settings(run))
    dataset = load_offline(tmp_path / "set", monkeypatch)
    assert dataset.env_spec.id == "spm_gym/ProbeConditioning-v0"
    with closing(dataset.recover_environment()) as env:
        assert env.unwrapped.config == settings(run).env
        assert env.observation_space == dataset.observation_space
        assert env.action_space == dataset.action_space
        assert env.unwrapped.instrument.config == settings(run).simulator


def test_a_relative_folder_is_as_good(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_episodes(run, Path("set"), settings(run))
    assert list(tmp_path.glob("set/*/data/main_data.hdf5"))


def test_where_the_dataset_comes_from(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(run, "INSERT INTO sessions VALUES (1, 0, 0, 0, '', 'c0ffee', 'x', 'y', '{}', 'run')")
    export_episodes(run, tmp_path / "set", settings(run))
    metadata = load_offline(tmp_path / "set", monkeypatch).storage.metadata
    assert metadata["config_sha256"] == ["c0ffee"]
    assert metadata["requirements"] == [f"spm-gym=={metadata['spm_gym_version']}"]
    assert "monday" in metadata["description"]


def test_uncertain_and_refused_steps_are_kept_and_flagged(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(run, "UPDATE steps SET uncertain = 1 WHERE id = 2")
    sql(run, "UPDATE steps SET refused = 1, act = NULL WHERE id = 3")
    exported = export_episodes(run, tmp_path / "set", settings(run))
    first, second = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert first.infos["uncertain"].tolist() == [False, False, True, False]
    assert first.infos["refused"].tolist() == [False, False, False, True]
    assert not second.infos["uncertain"].any()
    assert "6 steps, 1 of them uncertain" in str(exported)


def test_a_step_without_an_act_is_uncertain(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(run, "UPDATE steps SET act = NULL WHERE id = 2")
    export_episodes(run, tmp_path / "set", settings(run))
    first, _ = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert first.infos["uncertain"].tolist() == [False, False, True, False]
    assert summarise(run).actions["uncertain"] == 1


def test_what_a_kill_has_left_unfinished_is_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows(run, "SELECT outcome, actions FROM episodes WHERE id = 3") == [(None, 1)]
    exported = export_episodes(run, tmp_path / "set", settings(run))
    assert str(exported).endswith("left out: 1 unfinished episodes, 1 steps of these")
    dataset = load_offline(tmp_path / "set", monkeypatch)
    assert max(scan for episode in dataset for scan in episode.infos["scan"]) < 26


def test_an_episode_with_a_gap_is_divided(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(run, "UPDATE steps SET scan_after = NULL, reward = NULL WHERE episode = 1 AND number = 2")
    exported = export_episodes(run, tmp_path / "set", settings(run))
    before, after, other = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert [len(part.rewards) for part in (before, after, other)] == [1, 1, 3]
    assert before.truncations.tolist() == [True]  # there is nothing after it to learn from
    assert (after.terminations.tolist(), after.truncations.tolist()) == ([True], [False])
    assert before.infos["scan"].tolist() == [6, 8]
    assert after.infos["scan"].tolist() == [10, 12]
    assert "1 episodes of the run were interrupted and are divided" in str(exported)
    assert "1 unfinished steps of finished episodes" in str(exported)


def test_an_episode_that_was_looked_at_again_is_divided(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(run, "UPDATE steps SET scan = 2 WHERE episode = 1 AND number = 3")
    export_episodes(run, tmp_path / "set", settings(run))
    before, after, _ = load_offline(tmp_path / "set", monkeypatch).iterate_episodes()
    assert before.infos["scan"].tolist() == [6, 8, 10]
    assert before.truncations.tolist() == [False, True]
    assert after.infos["scan"].tolist() == [2, 12]


def test_without_a_finished_episode_there_is_no_dataset(run: Path, tmp_path: Path) -> None:
    sql(run, "UPDATE episodes SET outcome = NULL")
    with pytest.raises(ExportError, match="no finished conditioning episode"):
        export_episodes(run, tmp_path / "set", settings(run))
    assert not (tmp_path / "set").exists()


def test_nothing_is_written_into_a_folder_that_is_in_use(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not empty" in refused(capsys, run, "--offline", tmp_path)
    assert "not empty" in refused(capsys, run, "--offline", tmp_path / "thesis.tex")


def test_no_dataset_appears_if_an_image_is_damaged(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / scan_file(10)).unlink()
    assert "000010.gsf" in refused(capsys, run, "--offline", tmp_path / "set")
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize("package", ["minari", "h5py"])
def test_a_missing_package_is_named(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "minari"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(capsys, run, "--offline", tmp_path / "set")
    assert package in error
    assert "pip install 'spm-gym[offline]'" in error
    assert not (tmp_path / "set").exists()


# --- command line ---------------------------------------------------------------------------------


def test_both_at_once_and_what_to_do_with_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, episodes = tmp_path / "images", tmp_path / "episodes"
    arguments = ["--classifier", images, "--labels", "classifier", "--conditioning"]
    arguments += ["--offline", episodes]
    assert cli.main(["export", str(run), *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    assert f"{images}: 3 good and 9 bad images, {OPINIONS}; left out: 14 discarded, 2" in out
    assert f"{episodes}: 2 episodes with 6 steps" in out
    assert f"python train.py classifier --data {images}" in out
    assert f"MINARI_DATASETS_PATH={episodes}" in out
    assert load_folder(images).good.size == 12


def test_what_cannot_be_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--classifier FOLDER, --offline FOLDER" in refused(capsys, run)
    labels = refused(capsys, run, "--offline", tmp_path / "set", "--labels", "people")
    assert "--labels goes with --classifier" in labels
    for option in ("--offline", "--classifier"):
        conditioning = refused(capsys, run, option, tmp_path / "set", "--conditioning")
        assert "--conditioning goes with --classifier and --labels classifier" in conditioning
    no_run = refused(capsys, tmp_path / "nowhere", "--offline", tmp_path / "set")
    assert "not a run directory" in no_run
    (run / "journal.sqlite").unlink()
    assert "has no journal" in refused(capsys, run, "--offline", tmp_path / "set")
    assert not (tmp_path / "set").exists()
