"""spm-gym show of runs and episodes: nothing is left out, moved or changed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image, ImageColor

from spm_gym.analysis.areas import blocked_places
from spm_gym.assembly.pictures.networks import play
from spm_gym.assembly.run_directory import write_settings
from spm_gym.colours import LABELS
from spm_gym.config import EnvConfig, load_config
from spm_gym.envs.regions import Mark
from spm_gym.figures.areas import MOST_AREAS, draw_area
from spm_gym.figures.canvas import pixels_of
from spm_gym.figures.episode import EpisodeFrames, draw_still, recorded_episode
from spm_gym.figures.mosaic import PaintLog
from spm_gym.figures.overview import draw_overview
from spm_gym.journal.reader import Label, reading
from spm_gym.runner.states import State
from tests.support.invented_runs import HOSTILE, PULSE, InventedRun
from tests.support.scripted_runs import Verdicts, lab
from tests.support.showing import BAD, GOOD, NM, colours, show_command, week_12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return week_12(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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
    assert show_command(run, *options) == 0
    assert name in capsys.readouterr().out
    with Image.open(name) as picture:
        assert picture.width > 900
        assert picture.height > 400
    assert colours(Path(name)) > 50


def test_the_map_has_every_image_in_its_place(run: Path) -> None:
    files = PaintLog()
    with reading(run) as db:
        rows = db.execute("SELECT * FROM scans WHERE fraction = 1 AND area = 0").fetchall()
        discs = blocked_places(db, 0)
        figure = draw_area(db, run, 0, files)
    assert files.painted == len(rows)
    drawn = pixels_of(figure)
    axes = figure.axes[0]
    checked = set()
    for row in rows:
        # The frame of the image, in the middle of its left edge, unless a disc tints it.
        edge = (row["x"] - row["size"] / 2) / NM + 0.1, row["y"] / NM
        if any(np.hypot(edge[0] - d.x, edge[1] - d.y) < d.radius + 1 for d in discs):
            continue
        checked.add(row["label"])
        x, y = axes.transData.transform(edge)
        near = drawn[len(drawn) - round(y), round(x) + 1 : round(x) + 4].astype(int)
        far = {
            label: np.abs(near - ImageColor.getrgb(colour)).sum(axis=1).min()
            for label, colour in LABELS.items()
        }
        assert min(far, key=lambda label: far[label]) == row["label"]
    assert {"good", "conditioning"} <= checked


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_an_animation_has_a_frame_for_every_image(run: Path, ending: str) -> None:
    numbers = scans_of(run, 1)
    assert len(numbers) > 3
    path = Path(f"film{ending}")
    assert show_command(run, "--episode", "1", "-o", path) == 0
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
        frames = recorded_episode(db, run, None, EnvConfig())
        steps = db.execute("SELECT name FROM steps WHERE episode = 1 ORDER BY number").fetchall()
    assert [still.action for still in frames.stills] == [*(name for (name,) in steps), ""]
    probabilities = [still.probability for still in frames.stills]
    assert probabilities == pytest.approx([*[BAD] * len(steps), GOOD])
    assert all(still.image.shape == (64, 64) for still in frames.stills)


@pytest.mark.slow
def test_a_long_episode_stays_small(run: Path) -> None:
    from spm_gym.assembly.pictures.run import write_animation

    with reading(run) as db:
        short = recorded_episode(db, run, 1, EnvConfig())
    rng = np.random.default_rng(0)
    still = short.stills[0]
    noisy = [
        type(still)(
            np.clip(still.image + rng.normal(0, 0.03, (64, 64)), -1.5, 1.5).astype(np.float32),
            still.width, still.square, rng.random(), still.action,
        )
        for _ in range(45)
    ]  # fmt: skip
    write_animation(EpisodeFrames("long", short.actions, 0.9, noisy, short.grey), Path("long.gif"))
    assert Path("long.gif").stat().st_size < 1_200_000


def test_without_a_run_the_agent_plays_on_the_simulator() -> None:
    frames = play(load_config(None), 0)
    assert len(frames.stills) > 1
    assert frames.stills[-1].probability > frames.good_above
    for still in frames.stills[:-1]:
        best = np.where(still.allowed, still.values, -np.inf).argmax()
        assert still.action == frames.actions[best]


@pytest.mark.slow
def test_an_episode_on_the_simulator_makes_a_file() -> None:
    assert show_command("--episode", "--seed", "3") == 0
    assert Path("episode_seed3.gif").is_file()
    assert show_command("--episode", "--seed", "3", "-o", "again.gif") == 0
    assert Path("again.gif").read_bytes() == Path("episode_seed3.gif").read_bytes()


def test_looking_changes_nothing_in_a_run(run: Path) -> None:
    def content() -> dict[Path, bytes]:
        files = [path for path in run.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files if path.suffix != ".sqlite-shm"}

    before = content()
    assert show_command(run) == show_command(run, "--episode", "1") == 0
    after = content()
    assert set(after) <= set(before)
    assert all(before[path] == found for path, found in after.items())


def test_a_run_without_conditioning_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "calm"
    folder.mkdir()
    with lab(folder, Verdicts(GOOD), "operation.scans=2") as it:
        it.until(State.STOP)
        write_settings(folder / "config.yaml", it.config)
    assert show_command(folder, "--episode") == 2
    assert "has not conditioned yet" in capsys.readouterr().err
    assert show_command(folder) == 0


def test_any_text_and_any_number_of_areas_can_be_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "$x_{"
    folder.mkdir()
    with InventedRun(folder) as it:
        with reading(folder) as db:
            draw_overview(db, folder, 0.9, PaintLog()).canvas.draw()
        for _ in range(8):
            it.enter_area(HOSTILE)
            it.scan(Label.GOOD, 0.99, angle=0.3)
            it.condition([PULSE, HOSTILE])
            it.recovery(HOSTILE)
        it.journal.add_mark(7, Mark(0.0, 0.0, 30 * NM, HOSTILE))
        it.commit()
        with reading(folder) as db:
            figure = draw_overview(db, folder, 0.9, PaintLog())
            pixels_of(figure)
            pixels_of(draw_area(db, folder, 7, PaintLog()))
            frames = recorded_episode(db, folder, 2, EnvConfig())
        maps = [axes.get_title() for axes in figure.findobj(Axes) if "coarse" in axes.get_title()]
        assert len(maps) == MOST_AREAS
        pixels_of(draw_still(frames, 1))


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
    assert show_command(copy, "--area", "0") == 0
    assert "unreadable" in capsys.readouterr().out
    assert show_command(copy, "--episode", "1") == 2
