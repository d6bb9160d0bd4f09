"""spm-gym show: everything gives its picture, true to scale, and nothing is overwritten."""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
from argparse import ArgumentParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from invented_runs import HOSTILE, PULSE, InventedRun
from matplotlib.axes import Axes
from PIL import Image, ImageColor
from ring_env import RingEnv
from scripted_runs import Verdicts, lab
from torch.utils.tensorboard import SummaryWriter

from agents.checkpoint import save_checkpoint
from agents.double_dqn import DoubleDQN
from spm_gym.build import shipped_agent, shipped_classifier
from spm_gym.cli import run_command, show
from spm_gym.cli.run_directory import write_settings
from spm_gym.cli.show_networks import play
from spm_gym.config import AgentConfig, EnvConfig, NetworkConfig, load_config
from spm_gym.imaging import Diagnosis
from spm_gym.imaging.files import write_gsf
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.picture import length_text, round_length
from spm_gym.regions import Mark
from spm_gym.runner.reading import Label, reading
from spm_gym.runner.states import State
from spm_gym.types import Frame, Scan
from spm_gym.view.mosaic import COLOURS, Reading, blocked_places
from spm_gym.view.pictures.area import MOST_AREAS, draw_area
from spm_gym.view.pictures.canvas import pixels_of
from spm_gym.view.pictures.episode import Story, draw_still, recorded_story
from spm_gym.view.pictures.overview import draw_overview
from spm_gym.view.pictures.scan import Judge, Seen, Subject, draw_scan, look_at

NM = 1e-9
ROOT = Path(__file__).parent.parent
BAD, GOOD = 0.05, 0.97


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four bad images in a row begin an episode of several actions; then it goes on well."""
    folder = tmp_path_factory.mktemp("runs") / "week 12"
    folder.mkdir()
    verdicts = Verdicts(GOOD, *[BAD] * 8, GOOD)
    settings = ("operation.condition_after=4", "operation.scans=16", "operation.learn=false")
    with lab(folder, verdicts, *settings) as it:
        it.until(State.STOP)
        write_settings(folder / "config.yaml", it.config)
    return folder


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


def shown(*arguments: object) -> int:
    parser = ArgumentParser()
    show.add_arguments(parser)
    return run_command(parser, [str(each) for each in arguments])


def colours(path: Path) -> int:
    with Image.open(path) as picture:
        return len(set(picture.convert("RGB").get_flattened_data()))


def scans_of(run: Path, episode: int) -> list[int]:
    """Numbers of the images of an episode, in their order."""
    with reading(run) as db:
        rows = db.execute(
            "SELECT scan, scan_after FROM steps WHERE episode = ? ORDER BY number", (episode,)
        ).fetchall()
    return list(dict.fromkeys(number for row in rows for number in row))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "week 12_overview.png"),
        (["--what", "map"], "week 12_map.png"),
        (["--what", "timeline"], "week 12_timeline.png"),
        (["--area", "0"], "week 12_area0.png"),
        (["--scan", "2"], "week 12_scan2.png"),
    ],
)
def test_a_run_gives_a_picture_of_each_kind(
    run: Path, options: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(run, *options) == 0
    assert name in capsys.readouterr().out
    with Image.open(name) as picture:
        assert picture.width > 900
        assert picture.height > 400
    assert colours(Path(name)) > 50


def test_the_map_has_every_image_in_its_place(run: Path) -> None:
    files = Reading()
    with reading(run) as db:
        rows = db.execute("SELECT * FROM scans WHERE fraction = 1 AND area = 0").fetchall()
        discs = blocked_places(db, 0)
        figure = draw_area(db, run, 0, files)
    assert files.painted == len(rows)
    drawn = pixels_of(figure)
    axes = figure.axes[0]
    seen = set()
    for row in rows:
        # The frame of the image, in the middle of its left edge, unless a disc tints it.
        edge = (row["x"] - row["size"] / 2) / NM + 0.1, row["y"] / NM
        if any(np.hypot(edge[0] - d.x, edge[1] - d.y) < d.radius + 1 for d in discs):
            continue
        seen.add(row["label"])
        x, y = axes.transData.transform(edge)
        near = drawn[len(drawn) - round(y), round(x) + 1 : round(x) + 4].astype(int)
        far = {
            label: np.abs(near - ImageColor.getrgb(colour)).sum(axis=1).min()
            for label, colour in COLOURS.items()
        }
        assert min(far, key=lambda label: far[label]) == row["label"]
    assert {"good", "conditioning"} <= seen


def test_a_scan_gives_three_panels_and_the_verdict(
    scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(scan) == 0
    assert "first.png" in capsys.readouterr().out
    assert colours(Path("first.png")) > 100
    subject = Subject("first", read(scan), 10 * NM, 10 * NM)
    figure = draw_scan(subject, look_at(subject, judge(0.98)))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["raw", "levelled", "as the network sees it"]
    words = figure.get_supxlabel()
    assert "64 x 64 px, 10 nm x 10 nm" in words
    assert "Probability that the probe is good: 0.980, which counts as good" in words
    assert "Largest clean square (blue): " in words


def read(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    from spm_gym.imaging.files import read_heights

    return read_heights(path)


def judge(verdict: float, pixels: int = 64) -> Judge:
    return Judge(Verdicts(verdict), pixels)


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
    figure = draw_scan(Subject("flat", z, size, height), Seen())
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
def test_only_images_that_the_classifier_takes_are_judged(
    shape: tuple[int, int], remark: str
) -> None:
    z = 2e-12 * np.random.default_rng(1).standard_normal(shape)
    seen = look_at(Subject("any", z), judge(0.5))
    assert remark in " ".join(seen.remarks)
    judged = "larger squares" not in remark
    assert (seen.probability is not None) == (seen.normalised is not None) == judged


def test_faults_are_named_and_not_judged() -> None:
    z = np.random.default_rng(1).normal(0, 2e-12, (64, 64))
    z[16:] = np.nan
    subject = Subject("quarter", z, 10 * NM, 10 * NM)
    seen = look_at(subject, judge(0.99))
    assert (seen.diagnosis, seen.probability) == (Diagnosis.PARTIAL, None)
    assert "Lines are missing" in draw_scan(subject, seen).get_supxlabel()


def test_a_judgement_of_images_of_another_size_comes_with_a_warning() -> None:
    z = np.random.default_rng(1).normal(0, 2e-12, (64, 64))
    usual, large = (look_at(Subject("any", z, size, size), judge(0.9)) for size in (1e-8, 1e-7))
    assert not usual.remarks
    assert "100 nm wide" in large.remarks[0]


def test_files_without_a_size_take_one(scan: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", read(scan))
    assert shown("bare.npy") == 0
    assert shown("bare.npy", "--size-nm", "10", "-o", "sized.pdf") == 0
    assert (tmp_path / "sized.pdf").read_bytes().startswith(b"%PDF")


def test_a_real_frame_of_any_size(tmp_path: Path) -> None:
    real = ROOT / "../shared/data/moire_10nm.sxm"
    if not real.exists():
        pytest.skip("the real scans are not here")
    assert shown(real, "-o", tmp_path / "moire.png") == 0
    assert colours(tmp_path / "moire.png") > 100


def test_a_folder_gives_a_contact_sheet(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(5):
        np.save(folder / f"{number}.npy", read(scan))
    (folder / "broken.gsf").write_bytes(b"nothing")
    assert shown(folder) == 0
    said = capsys.readouterr().out
    assert "night_sheet.png" in said
    assert "unreadable" in said
    assert "broken.gsf" in said
    assert shown(scan, folder / "3.npy", "-o", "two.png") == 0


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_an_animation_has_a_frame_for_every_image(run: Path, ending: str) -> None:
    numbers = scans_of(run, 1)
    assert len(numbers) > 3
    path = Path(f"film{ending}")
    assert shown(run, "--episode", "1", "-o", path) == 0
    with Image.open(path) as film:
        assert film.n_frames == len(numbers)  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        durations = []
        for frame in range(len(numbers)):
            film.seek(frame)
            film.load()
            durations.append(film.info["duration"])
            assert film.convert("RGB").getpixel((2, film.height - 3)) == (255, 255, 255)
    assert durations[-1] > 2 * durations[0]
    assert path.stat().st_size < 1_000_000


def test_an_episode_is_told_as_it_was_recorded(run: Path) -> None:
    with reading(run) as db:
        story = recorded_story(db, run, None, EnvConfig())
        steps = db.execute("SELECT name FROM steps WHERE episode = 1 ORDER BY number").fetchall()
    assert [still.action for still in story.stills] == [*(name for (name,) in steps), ""]
    probabilities = [still.probability for still in story.stills]
    assert probabilities == pytest.approx([*[BAD] * len(steps), GOOD])
    assert all(still.image.shape == (64, 64) for still in story.stills)


@pytest.mark.slow
def test_a_long_episode_stays_small(run: Path) -> None:
    from spm_gym.cli.show_run import write_animation

    with reading(run) as db:
        short = recorded_story(db, run, 1, EnvConfig())
    rng = np.random.default_rng(0)
    still = short.stills[0]
    noisy = [
        type(still)(
            np.clip(still.image + rng.normal(0, 0.03, (64, 64)), -1.5, 1.5).astype(np.float32),
            still.width, still.square, rng.random(), still.action,
        )
        for _ in range(45)
    ]  # fmt: skip
    write_animation(Story("long", short.actions, 0.9, noisy), Path("long.gif"))
    assert Path("long.gif").stat().st_size < 1_200_000


def test_without_a_run_the_agent_plays_on_the_simulator() -> None:
    story = play(load_config(None), 0)
    assert len(story.stills) > 1
    assert story.stills[-1].probability > story.good_above
    for still in story.stills[:-1]:
        best = np.where(still.allowed, still.values, -np.inf).argmax()
        assert still.action == story.actions[best]


@pytest.mark.slow
def test_an_episode_on_the_simulator_makes_a_file() -> None:
    assert shown("--episode", "--seed", "3") == 0
    assert Path("episode_seed3.gif").is_file()
    assert shown("--episode", "--seed", "3", "-o", "again.gif") == 0
    assert Path("again.gif").read_bytes() == Path("episode_seed3.gif").read_bytes()


@pytest.mark.parametrize("weights", [shipped_agent(), shipped_classifier()])
def test_weights_tell_what_they_are(weights: Path) -> None:
    assert shown(weights) == 0
    assert colours(Path(f"{weights.stem}.png")) > 50


def test_a_checkpoint_is_shown_alone_or_as_the_newest(tmp_path: Path) -> None:
    network = NetworkConfig(channels=(4,), hidden=(8,), pooled_sets=1, stem_stride=2)
    model = DoubleDQN(RingEnv(), AgentConfig(network=network), seed=1)
    path = save_checkpoint(tmp_path / "checkpoints", model, None, {})
    model.env.close()  # type: ignore[union-attr]
    assert shown(tmp_path / "checkpoints") == 0
    assert Path(f"{path.name}.png").is_file()


def test_a_training_gives_its_learning_curve(tmp_path: Path) -> None:
    folder = tmp_path / "demo" / "tensorboard"
    with SummaryWriter(str(folder)) as writer:
        for step in range(30):
            writer.add_scalar("episode/length", 30 - step, step)
            writer.add_scalar("learn/loss", 1 / (step + 1), step)
    assert shown(tmp_path / "demo") == 0
    assert colours(Path("demo_learning_curve.png")) > 20


def test_an_evaluation_gives_its_lengths(tmp_path: Path) -> None:
    arm = {"mean_length": 2.0, "ci95": [1.5, 2.5], "lengths": [1, 2, 3]}
    document = {"arms": {"agent": arm, "random": arm}, "normalised_score": None}
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    assert shown("evaluation.json") == 0
    assert colours(Path("evaluation.png")) > 5


def test_nothing_is_overwritten(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("first.png").write_bytes(b"a thesis")
    assert shown(scan) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("first.png").read_bytes() == b"a thesis"
    assert shown(scan, "--force") == 0
    assert Path("first.png").read_bytes().startswith(b"\x89PNG")


def test_looking_changes_nothing_in_a_run(run: Path) -> None:
    def content() -> dict[Path, bytes]:
        files = [path for path in run.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files if path.suffix != ".sqlite-shm"}

    before = content()
    assert shown(run) == shown(run, "--episode", "1") == 0
    after = content()
    assert set(after) <= set(before)
    assert all(before[path] == found for path, found in after.items())


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
        (["{scan}", "--size-nm", "-1"], "length above 0"),
        (["{scan}", "-o", "x.gif"], "must end in .png or .pdf or .svg"),
        (["{scan}", "-o", "no/x.png"], "there is no folder no"),
        (["{scan}", "--classifier", "{agent}"], "not a classifier"),
        (["{run}", "--area", "7"], "has areas 0 to 0"),
        (["{run}", "--scan", "9999"], "has scans 1 to "),
        (["{run}", "--episode", "99"], "episodes 1 to 1"),
        (["{run}", "--episode", "1", "-o", "x.pdf"], "must end in .gif or .webp or .png"),
        (["{run}", "--size-nm", "1"], "leave out --size-nm"),
        (["{run}", "--classifier", "{agent}"], "goes with --scan"),
        (["{agent}", "--classifier", "{agent}"], "leave out --classifier"),
        (["empty"], "holds no scans"),
        (["notes.txt"], "known are .npy"),
        (["foreign.safetensors"], "is not a file of weights"),
        (["other.json"], "is not what evaluate.py --json writes"),
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
    (tmp_path / "other.json").write_text("[1, 2]")
    before = set(tmp_path.iterdir())
    places = {"run": run, "scan": scan, "agent": shipped_agent()}
    assert shown(*(each.format(**places) for each in arguments)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert [line for line in said if not line.startswith("compiling")] == said[-1:]
    assert set(tmp_path.iterdir()) == before


def test_a_run_without_conditioning_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "calm"
    folder.mkdir()
    with lab(folder, Verdicts(GOOD), "operation.scans=2") as it:
        it.until(State.STOP)
        write_settings(folder / "config.yaml", it.config)
    assert shown(folder, "--episode") == 2
    assert "has not conditioned yet" in capsys.readouterr().err
    assert shown(folder) == 0


def test_any_text_and_any_number_of_areas_can_be_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "$x_{"
    folder.mkdir()
    with InventedRun(folder) as it:
        with reading(folder) as db:
            draw_overview(db, folder, 0.9, Reading()).canvas.draw()
        for _ in range(8):
            it.enter_area(HOSTILE)
            it.scan(Label.GOOD, 0.99, angle=0.3)
            it.condition([PULSE, HOSTILE])
            it.recovery(HOSTILE)
        it.journal.add_mark(7, Mark(0.0, 0.0, 30 * NM, HOSTILE))
        it.commit()
        with reading(folder) as db:
            figure = draw_overview(db, folder, 0.9, Reading())
            pixels_of(figure)
            pixels_of(draw_area(db, folder, 7, Reading()))
            story = recorded_story(db, folder, 2, EnvConfig())
        maps = [axes.get_title() for axes in figure.findobj(Axes) if "coarse" in axes.get_title()]
        assert len(maps) == MOST_AREAS
        pixels_of(draw_still(story, 1))


def test_damaged_scans_are_owned_up_to(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with (
        sqlite3.connect(run / "journal.sqlite") as old,
        sqlite3.connect(copy / "journal.sqlite") as new,
    ):
        old.backup(new)
    old.close()
    new.close()
    (copy / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert shown(copy, "--area", "0") == 0
    assert "unreadable" in capsys.readouterr().out
    assert shown(copy, "--episode", "1") == 2


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["figures"] = module
    spec.loader.exec_module(module)
    return module


def test_every_picture_of_the_docs_is_made_by_a_script_and_small(figures: ModuleType) -> None:
    pictures = list(figures.PICTURES.iterdir())
    of_pages = re.findall(r"[\w-]+\.png", (ROOT / "docs" / "screenshots.py").read_text("utf-8"))
    names = {each.name for each in pictures}
    assert set(figures.MAKERS) <= names <= {*figures.MAKERS, *of_pages}
    assert max(each.stat().st_size for each in pictures) <= figures.LARGEST


def test_every_picture_in_the_docs_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
