"""spm-gym show: everything gives its picture, true to scale, and nothing is overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import save_checkpoint
from spm_gym.analysis.scan_findings import ScanClassifier, ScanFindings, Subject, examine
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_classifier
from spm_gym.config import AgentConfig, EnvConfig, NetworkConfig
from spm_gym.figures.canvas import pixels_of
from spm_gym.figures.contact_sheet import draw_sheet
from spm_gym.figures.scan import draw_scan
from spm_gym.imaging import Diagnosis
from spm_gym.imaging.files import write_gsf
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.scale import length_text, round_length
from spm_gym.types import Frame, Scan
from tests.support.ring_env import RingEnv
from tests.support.scripted_runs import Verdicts
from tests.support.showing import NM, colours, show_command, week_12

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return week_12(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 10 nm by a good probe."""
    path = tmp_path_factory.mktemp("scans") / "first.gsf"
    raw = simulated_images(1, seed=8, states=np.zeros(1, int))
    write_gsf(path, Scan(Frame(0.0, 0.0, 10 * NM, 64), raw.z[0]))
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_scan_gives_three_panels_and_the_verdict(
    scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_command(scan) == 0
    assert "first.png" in capsys.readouterr().out
    assert colours(Path("first.png")) > 100
    subject = Subject("first", read(scan), 10 * NM, 10 * NM)
    figure = draw_scan(subject, examine(subject, classifier(0.98), EnvConfig()), 0.9)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["raw", "levelled", "as the network sees it"]
    words = figure.get_supxlabel()
    assert "64 x 64 px, 10 nm x 10 nm" in words
    assert "Probability that the probe is good: 0.980, which counts as good" in words
    assert "Largest clean square (blue): " in words


def read(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    from spm_gym.imaging.files import read_heights

    return read_heights(path)


def classifier(verdict: float, pixels: int = 64) -> ScanClassifier:
    return ScanClassifier(Verdicts(verdict), pixels)


@pytest.mark.parametrize(
    ("size", "shape", "length", "text"),
    [
        (10 * NM, (64, 64), 2.0, "2 nm"),
        (100 * NM, (256, 256), 20.0, "20 nm"),
        (3 * NM, (64, 64), 0.5, "500 pm"),
        (2e-6, (128, 256), 500.0, "500 nm"),
        (None, (80, 80), 20.0, "20 px"),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(
    size: float | None, shape: tuple[int, int], length: float, text: str
) -> None:
    z = np.zeros(shape) + 1e-12 * np.random.default_rng(0).standard_normal(shape)
    height = None if size is None else size * shape[0] / shape[1]
    figure = draw_scan(Subject("flat", z, size, height), ScanFindings(), 0.9)
    drawn = pixels_of(figure)
    axes = figure.axes[0]
    assert text in [each.get_text() for each in axes.texts]
    bar = next(patch for patch in axes.patches if patch.get_gid() == "scale bar")
    box, image = bar.get_window_extent(), axes.get_window_extent()
    share = length / (shape[1] if size is None else size / NM)
    assert box.width / image.width == pytest.approx(share, rel=1e-6)
    # In the picture itself: a white row of that many pixels, less the black edge.
    row = drawn[len(drawn) - round((box.y0 + box.y1) / 2)]
    white = (row[round(box.x0) - 4 : round(box.x1) + 4] == 255).all(axis=1).sum()
    assert white == pytest.approx(share * image.width, abs=5)


@pytest.mark.parametrize(
    ("most", "length"), [(3.0, 2.0), (5.0, 5.0), (0.99, 0.5), (1.0, 1.0), (30.0, 20.0)]
)
def test_lengths_are_round(most: float, length: float) -> None:
    assert round_length(most) == pytest.approx(length)


def test_lengths_have_readable_units() -> None:
    assert [length_text(each) for each in (2e-9, 5e-10, 1e-6, 1e-7)] == [
        "2 nm", "500 pm", "1 µm", "100 nm",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "remark"),
    [
        ((64, 64), ""),
        ((256, 256), "averaged to 64 x 64 px"),
        ((128, 64), "larger squares; this image has 64 x 128"),
        ((32, 32), "larger squares; this image has 32 x 32"),
    ],
)
def test_only_images_that_the_classifier_takes_are_classified(
    shape: tuple[int, int], remark: str
) -> None:
    z = 2e-12 * np.random.default_rng(1).standard_normal(shape)
    findings = examine(Subject("any", z), classifier(0.5), EnvConfig())
    assert remark in " ".join(findings.remarks)
    classified = "larger squares" not in remark
    assert (findings.probability is not None) == (findings.normalised is not None) == classified


def test_faults_are_named_and_not_classified() -> None:
    z = np.random.default_rng(1).normal(0, 2e-12, (64, 64))
    z[16:] = np.nan
    subject = Subject("quarter", z, 10 * NM, 10 * NM)
    findings = examine(subject, classifier(0.99), EnvConfig())
    assert (findings.diagnosis, findings.probability) == (Diagnosis.PARTIAL, None)
    assert "Lines are missing" in draw_scan(subject, findings, 0.9).get_supxlabel()


def test_a_verdict_of_images_of_another_size_comes_with_a_warning() -> None:
    z = np.random.default_rng(1).normal(0, 2e-12, (64, 64))
    usual, large = (
        examine(Subject("any", z, size, size), classifier(0.9), EnvConfig())
        for size in (1e-8, 1e-7)
    )
    assert not usual.remarks
    assert "100 nm wide" in large.remarks[0]


def test_files_without_a_size_take_one(scan: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", read(scan))
    assert show_command("bare.npy") == 0
    assert show_command("bare.npy", "--size-nm", "10", "-o", "sized.pdf") == 0
    assert (tmp_path / "sized.pdf").read_bytes().startswith(b"%PDF")


def test_a_real_frame_of_any_size(tmp_path: Path) -> None:
    real = ROOT / "../shared/data/moire_10nm.sxm"
    if not real.exists():
        pytest.skip("the real scans are not here")
    assert show_command(real, "-o", tmp_path / "moire.png") == 0
    assert colours(tmp_path / "moire.png") > 100


def test_a_folder_gives_a_contact_sheet(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(5):
        np.save(folder / f"{number}.npy", read(scan))
    (folder / "broken.gsf").write_bytes(b"nothing")
    assert show_command(folder) == 0
    printed = capsys.readouterr().out
    assert "night_sheet.png" in printed
    assert "unreadable" in printed
    assert "broken.gsf" in printed
    assert show_command(scan, folder / "3.npy", "-o", "two.png") == 0


def test_scans_of_a_contact_sheet_have_a_bar_and_the_meaning_of_their_grey(scan: Path) -> None:
    found = [
        (subject, examine(subject, classifier(0.98), EnvConfig()))
        for size in (10 * NM, None)
        for subject in [Subject("first", read(scan), size, size)]
    ]
    (axes,) = draw_sheet(found, 0.9, "night").axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["2 nm", *["first\ngrey 300 pm  p = 0.980"] * 2]
    (bar,) = axes.lines
    left, right = bar.get_xdata()
    image = axes.images[0].get_extent()
    assert (right - left) / (image[1] - image[0]) == pytest.approx(0.2)


@pytest.mark.parametrize("weights", [shipped_agent(), shipped_classifier()])
def test_weights_tell_what_they_are(weights: Path) -> None:
    assert show_command(weights) == 0
    assert colours(Path(f"{weights.stem}.png")) > 50


def test_a_checkpoint_is_shown_alone_or_as_the_newest(tmp_path: Path) -> None:
    network = NetworkConfig(channels=(4,), hidden=(8,), pooled_sets=1, stem_stride=2)
    model = DoubleDQN(RingEnv(), AgentConfig(network=network), seed=1)
    path = save_checkpoint(tmp_path / "checkpoints", model, None, {})
    model.env.close()  # type: ignore[union-attr]
    assert show_command(tmp_path / "checkpoints") == 0
    assert Path(f"{path.name}.png").is_file()


def test_a_training_gives_its_learning_curve(tmp_path: Path) -> None:
    folder = tmp_path / "demo" / "tensorboard"
    with SummaryWriter(str(folder)) as writer:
        for step in range(30):
            writer.add_scalar("episode/length", 30 - step, step)
            writer.add_scalar("learn/loss", 1 / (step + 1), step)
    assert show_command(tmp_path / "demo") == 0
    assert colours(Path("demo_learning_curve.png")) > 20


def test_a_learning_curve_is_drawn_over_instrument_hours_where_they_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, path, **how: (drawn.append(figure), savefig(figure, path, **how))[1],
    )
    folder = tmp_path / "demo" / "tensorboard"
    with SummaryWriter(str(folder)) as writer:
        for step in range(0, 1500, 50):
            # No episode ended before the second value.
            if step:
                writer.add_scalar("episode/length", 30 - step / 50, step)
            writer.add_scalar("progress/hours", step / 150, step)
    assert show_command(tmp_path / "demo") == 0
    panels = {axes.get_xlabel(): axes for axes in drawn[0].axes if axes.get_ylabel() != "loss"}
    steps, hours = (panels[unit].lines[0].get_xydata() for unit in ("actions", "instrument hours"))
    assert hours[:, 0] == pytest.approx(steps[:, 0] / 150)
    assert hours[:, 1] == pytest.approx(steps[:, 1])


def evaluation(**figures: Any) -> dict[str, Any]:
    policy = {
        "mean_length": 2.0, "ci95": [1.5, 2.5], "lengths": [1, 2, 3], "cut_off": [2]
    } | figures  # fmt: skip
    few = policy | {"ci95": None, "seconds_ci95": None}
    scores = {"normalised_score": None, "normalised_score_seconds": None}
    return {"policies": {"agent": policy, "random": few}, **scores}


def test_an_evaluation_gives_its_lengths_and_its_seconds_where_they_are_known() -> None:
    heights = []
    for seconds in (None, [20.0, 40.0, 60.5]):
        known = seconds is not None
        document = evaluation(
            seconds=seconds,
            mean_seconds=40.2 if known else None,
            seconds_ci95=[30.0, 50.0] if known else None,
        )
        Path("evaluation.json").write_text(json.dumps(document))
        assert show_command("evaluation.json", "--force") == 0
        assert colours(Path("evaluation.png")) > 5
        with Image.open("evaluation.png") as picture:
            heights.append(picture.height)
    assert heights[1] == 2 * heights[0]


def test_the_settings_say_from_where_on_a_probe_is_good(
    scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for good_above in ("0.001", "0.999999"):
        assert show_command(scan, "--force", "--set", f"env.good_above={good_above}") == 0
        assert f"(good above {float(good_above):g})" in capsys.readouterr().out
    Path("strict.yaml").write_text("env: {good_above: 0.75}\n")
    assert show_command(scan, "--force", "--config", "strict.yaml") == 0
    assert "(good above 0.75)" in capsys.readouterr().out


def test_the_file_of_a_classifier_sets_no_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(
        "spm_gym.assembly.pictures.networks.draw_verdicts",
        lambda images, probability, good_above, *rest: drawn.append(good_above) or Figure(),
    )
    assert show_command(shipped_classifier(), "--set", "env.good_above=0.7") == 0
    assert drawn == [0.7]


def test_nothing_is_overwritten(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("first.png").write_bytes(b"a thesis")
    assert show_command(scan) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("first.png").read_bytes() == b"a thesis"
    assert show_command(scan, "--force") == 0
    assert Path("first.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to show"),
        (["nowhere"], "there is no nowhere"),
        (["--episode", "3"], "goes with a run"),
        (["{scan}", "--seed", "1"], "--seed goes with --episode"),
        (["--episode", "--seed", "-1"], "at least 0"),
        (["{scan}", "--area", "0"], "leave out --area"),
        (["{scan}", "--size-nm", "10"], "leave out --size-nm"),
        (["{scan}", "--size-nm", "-1"], "from 0.01 to 1e+06, not -1"),
        (["{scan}", "--size-nm", "1e-300"], "not 1e-300"),
        (["{scan}", "--size-nm", "nan"], "not nan"),
        (["dark.npy"], "dark.npy: no pixel is scanned"),
        (["pipe.npy"], "pipe.npy is neither a file nor a folder"),
        (["device.npy"], "device.npy is neither a file nor a folder"),
        (["only_pipes"], "pipe.npy: this is not a file but a folder, a pipe or a device"),
        (["{scan}", "-o", "blind/"], "blind/ is a folder: name the picture in it"),
        (["{scan}", "-o", "new.png/"], "new.png/ is a folder: name the picture in it"),
        (["{scan}", "-o", "dir.png", "--force"], "dir.png is a folder: name the picture in it"),
        (["{scan}", "-o", "x.gif"], "must end in .png or .pdf or .svg"),
        (["{scan}", "-o", "no/x.png"], "there is no folder no"),
        (["{scan}", "--classifier", "{agent}"], "not a classifier"),
        (["{run}", "--set", "env.good_above=0.5"], "is a run: leave out --set"),
        (["{run}", "--area", "7"], "has areas 0 to 0"),
        (["{run}", "--scan", "9999"], "has scans 1 to "),
        (["{run}", "--episode", "99"], "episodes 1 to 1"),
        (["{run}", "--episode", "-3"], "there is no episode -3"),
        (["{run}", "--episode", "-1"], "there is no episode -1"),
        (["--episode", "-1"], "goes with a run"),
        (["{run}", "--episode", "1", "-o", "x.pdf"], "must end in .gif or .webp or .png"),
        (["{run}", "--size-nm", "1"], "leave out --size-nm"),
        (["{run}", "--classifier", "{agent}"], "goes with --scan"),
        (["{agent}", "--classifier", "{agent}"], "leave out --classifier"),
        (["empty"], "holds no scans"),
        (["notes.txt"], "known are .npy"),
        (["foreign.safetensors"], "is not a file of weights"),
        (["other.json"], "is not what evaluate.py --json writes: it is a list, not an object"),
        (["half.json"], "half.json is damaged, or no JSON: Unterminated string starting at"),
        (["armless.json"], "is not what evaluate.py --json writes: 'policies' is missing"),
        (["listed.json"], "'policies' is not an object"),
        (
            ["short.json"],
            "of 'agent' 'ci95', 'lengths', 'mean_seconds', 'seconds_ci95'",
        ),
        (["broken.gsf"], "not a readable .gsf image"),
        (["blind"], "learned nothing yet"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    run: Path,
    scan: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blind" / "tensorboard").mkdir(parents=True)
    for name in ("notes.txt", "foreign.safetensors", "broken.gsf"):
        (tmp_path / name).write_bytes(b"nothing")
    texts = {
        "other": "[1, 2]",
        "half": '{"policy',
        "armless": "{}",
        "listed": json.dumps(evaluation() | {"policies": []}),
        "short": json.dumps(evaluation() | {"policies": {"agent": {"mean_length": 2}}}),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.json").write_text(text)
    np.save(tmp_path / "dark.npy", np.full((64, 64), np.nan))
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "only_pipes").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    os.mkfifo(tmp_path / "only_pipes" / "pipe.npy")
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    before = set(tmp_path.iterdir())
    places = {"run": run, "scan": scan, "agent": shipped_agent()}
    assert show_command(*(each.format(**places) for each in arguments)) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert message in printed[-1]
    assert [line for line in printed if not line.startswith("compiling")] == printed[-1:]
    assert set(tmp_path.iterdir()) == before
