"""The commands use the height scale of the classifier that they are given, without a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.belief.recogniser import Recogniser
from agents.checkpoint import latest_checkpoint
from agents.weights import read_file
from spm_gym import cli
from spm_gym.analysis.scan_findings import Subject, examine
from spm_gym.analysis.session import last_session
from spm_gym.assembly.pictures.scans import load_classifier
from spm_gym.assembly.recogniser import load_recogniser
from spm_gym.assembly.run_directory import existing_operation
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import ConfigError, EnvConfig, load_config
from spm_gym.datasets.offline import export_episodes
from spm_gym.figures.episode import recorded_episode
from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import read_gsf_scan
from spm_gym.imaging.normalisation import HALF_MOLECULE
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.journal.reader import reading, scan_file
from spm_gym.web.labelling import candidates
from tests.support.labelling import ten_scans
from tests.support.other_samples import PM, rescaled, rescaled_file
from tests.support.showing import show_command

BRIEF = ["operation.scans=12", "operation.condition_after=2", "env.max_steps=3",
         "operation.learn=false", "budget.failed_in_a_row=90"]  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rescaled_file(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, other: Path) -> Path:
    """A run whose settings leave the scale to the classifier."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = [f"--set={each}" for each in (*BRIEF, f"env.classifier={other}")]
    assert cli.main(["run", "--env", "sim", "--run-dir", str(folder), *settings]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main([str(each) for each in arguments]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_says_by_itself_how_its_images_were_normalised(run: Path) -> None:
    _, config = existing_operation(run)
    assert config.env.height_scale_pm == pytest.approx(150)
    with reading(run) as db:
        assert last_session(db).preprocessing == Preprocessing.of(config.env)


def test_exports_and_animations_of_a_run_have_its_scale(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari

    _, config = existing_operation(run)
    export_episodes(run, tmp_path / "set", config)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "set"))
    episode = next(iter(minari.load_dataset("probe-conditioning-v0").iterate_episodes()))
    z = read_gsf_scan(run / scan_file(int(episode.infos["scan"][0])))
    expected = normalise(level(z), Preprocessing.of(config.env).scale)
    assert np.array_equal(episode.observations[0, 0], expected)
    with reading(run) as db:
        frames = recorded_episode(db, run, 1, config.env)
    assert np.array_equal(frames.stills[0].image, expected)


def test_a_run_goes_on_with_its_own_scale_only(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = ("run", "--resume", "--run-dir", run)
    assert cli.main([str(each) for each in (*resume, "--scans", 14)]) == 0
    settings = run / "config.yaml"
    kept = settings.read_text(encoding="utf-8")
    line = next(each for each in kept.splitlines() if "height_scale_pm" in each)
    settings.write_text(kept.replace(line, "  height_scale_pm: 100"), encoding="utf-8")
    assert "env.height_scale_pm = 100.0: the classifier" in error(capsys, *resume)
    found = kept.replace(line, "  height_scale_pm: null").replace(str(other), "null")
    settings.write_text(found.replace("classifier: 'null'", "classifier: null"), encoding="utf-8")
    assert "has env.height_scale_pm = None, and the run has worked" in error(capsys, *resume)
    settings.write_text(kept, encoding="utf-8")


@pytest.mark.parametrize(("pm", "scale"), [(None, 150 * PM), (150.1, 150.1 * PM)])
def test_a_scan_is_examined_by_the_scale_of_its_classifier(
    other: Path, pm: float | None, scale: float
) -> None:
    env = EnvConfig(height_scale_pm=pm)
    z = simulated_images(1, 8).z[0]
    found = examine(Subject("first", z), load_classifier(other, env), env)
    assert found.normalised is not None
    assert np.allclose(found.normalised, normalise(level(z), scale), atol=1e-6)
    assert found.probability == pytest.approx(rescaled(scale)(found.normalised[None, None])[0])


def test_show_takes_other_classifiers_with_a_run_but_no_contradiction(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("1.npy", simulated_images(1, 8).z[0])
    assert show_command("1.npy", "--classifier", other) == 0
    assert show_command(other) == 0
    assert "height scale 150 pm" in capsys.readouterr().out
    for subject in (other, "1.npy"):
        arguments = [subject, "--set", "env.height_scale_pm=100"]
        if subject != other:
            arguments += ["--classifier", other]
        assert show_command(*arguments) == 2
        assert "env.height_scale_pm = 100.0: the classifier" in capsys.readouterr().err
    ordinary = Path("ordinary.safetensors")
    rescaled(HALF_MOLECULE).save(ordinary)
    assert show_command(run, "--scan", 2, "--classifier", ordinary) == 0


def test_labelling_classifies_by_the_scale_of_the_classifier(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Preprocessing] = []
    read_images = candidates.read_images

    def note(found: Any, pixels: int, preprocessing: Preprocessing, *more: Any) -> Any:
        given.append(preprocessing)
        images, refused = read_images(found, pixels, preprocessing, *more)
        assert all(image.probability is not None for image in images)
        return images, refused

    monkeypatch.setattr(candidates, "read_images", note)
    monkeypatch.setattr("spm_gym.cli.label.serve_page", lambda *_, **__: 0)
    folder = ten_scans(tmp_path / "scans")
    assert cli.main(["label", str(folder), "--classifier", str(other)]) == 0
    assert given == [Preprocessing("levels", pytest.approx(150 * PM))]
    contradiction = ("label", folder, "--classifier", other, "--set", "env.height_scale_pm=image")
    assert "env.height_scale_pm = image: the classifier" in error(capsys, *contradiction)


def test_an_agent_or_a_recogniser_of_another_kind_of_scale_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = rescaled_file(tmp_path, "image")
    settings = ["--env", "sim", "--scans", "2", f"--set=env.classifier={each}"]
    refusal = error(capsys, "run", *settings)
    assert "operation.agent" in refusal
    assert "was trained with images normalised by 100 pm" in refusal
    assert "env.accept_mismatch: [height_scale]" in refusal
    assert cli.main(["run", *settings, "--set=env.accept_mismatch=[height_scale]"]) == 0
    spread = ["env.height_scale_pm=image"]
    with pytest.raises(ConfigError, match=r"agent.belief.recogniser = .*normalised by 100 pm"):
        load_recogniser(load_config(None, spread))
    assert load_recogniser(load_config(None, ["env.height_scale_pm=150"]))
    shipped = Recogniser.load(shipped_recogniser())
    path = tmp_path / "recogniser.safetensors"
    Recogniser(shipped.network, shipped.shares, "", None, "image").save(path)
    own = [*spread, f"agent.belief.recogniser={path}"]
    assert load_recogniser(load_config(None, own)).height_scale == "image"


def test_training_keeps_the_scale_and_evaluation_compares_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = rescaled_file(tmp_path, "image")
    train = ["train", "--config", "smoke.yaml", "--run-dir", "trained", "--output", "a.safetensors"]
    smoke = Path(__file__).parents[2] / "configs" / "smoke.yaml"
    Path("smoke.yaml").write_text(smoke.read_text(encoding="utf-8"), encoding="utf-8")
    threads = torch.get_num_threads()
    assert cli.main([*train, f"--set=env.classifier={each}"]) == 0
    torch.set_num_threads(threads)
    assert read_file(Path("a.safetensors"))[0].height_scale == "image"
    checkpoint = latest_checkpoint(Path("trained/checkpoints"))
    words = error(capsys, "evaluate", "--checkpoint", checkpoint, "--config", "smoke.yaml")
    assert "normalised by the spread of each image" in words
