"""Scans on the live page: one at a time, and the map that grows with the run."""

from __future__ import annotations

import io
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spm_gym.colours import LABELS
from spm_gym.config import load_config
from spm_gym.figures.area_map import live_map
from spm_gym.figures.heights import ScanRendering
from spm_gym.figures.scan_view import scan_picture, scan_view
from spm_gym.figures.tiles import TILE_PIXELS, Painter
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import Label, reading
from spm_gym.runner.run_state import read_run_state
from spm_gym.scale import round_length
from spm_gym.types import Frame
from tests.support.invented_runs import NM, PULSE, InventedRun
from tests.support.waiting import wait_until


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    """A run that has started, with the settings of a real one."""
    with InventedRun(tmp_path, load_config(None, ["operation.scans=100"]).to_yaml()) as run:
        run.enter_area()
        yield run


def test_a_scan_is_shown_with_square_and_marks(run: InventedRun) -> None:
    first = run.scan(Label.DISCARDED)
    number = run.scan(Label.BAD_PROBE, 0.1)
    episode = run.journal.begin_episode(0, 0.0, 0.0, number)
    place = {"x": 2 * NM + run_x(run, number), "y": 1 * NM + run_y(run, number)}
    run.journal.record_act(
        {"number": 1, "act": "pulse", "time": 1.0, "result": "intended", **place}
    )
    run.journal.add_step(
        episode,
        1,
        scan=number,
        action=2,
        name=PULSE,
        policy="random",
        mask="[]",
        q="null",
        act=1,
    )
    run.scan(Label.CONDITIONING, 0.95, episode)
    run.commit()
    with reading(run.journal.run) as db:
        view = scan_view(db, run.journal.run, read_run_state(db), number, Preprocessing())
        assert view is not None
        assert (view.facts.number, view.facts.before, view.facts.after) == (
            1,
            None,
            number + 1,
        )
        (mark,) = view.marks
        assert (mark.x, mark.y) == pytest.approx((70, 40))
        assert (mark.name, mark.done) == (PULSE, True)
        assert view.square is not None
        assert 0 < view.square.metres <= 10 * NM
        assert view.bar == pytest.approx(2 * NM)
        assert all(" pm</text>" in view.scales[kind] for kind in ScanRendering)
        # Nobody sees the first: it was discarded.
        for asked, found in (
            (first, number),
            (number, number),
            (99, number + 1),
        ):
            near = scan_view(db, run.journal.run, read_run_state(db), asked, Preprocessing())
            assert near is not None
            assert near.facts.row["id"] == found


def run_x(run: InventedRun, scan: int) -> float:
    return run.journal.scan(scan).frame.x


def run_y(run: InventedRun, scan: int) -> float:
    return run.journal.scan(scan).frame.y


@pytest.mark.parametrize("label", [Label.UNUSABLE, Label.PREVIEW, None])
def test_a_run_that_ended_on_a_useless_scan_shows_the_last_usable_one(
    run: InventedRun, label: Label | None
) -> None:
    usable = run.scan(Label.GOOD, 0.99)
    missing = np.full((64, 64), np.nan, np.float32)
    # Nothing was scanned, or it is known to be faulty.
    useless = run.scan(label, z=missing if label is None else None)
    if label is not None:
        run.journal.label_scan(useless, label, "partial")
    run.commit()
    with reading(run.journal.run) as db:
        views = {
            (number, over): scan_view(
                db, run.journal.run, None, number, Preprocessing(), usable=over
            )
            for number in (None, useless)
            for over in (False, True)
        }
    numbers = {key: view and view.facts.row["id"] for key, view in views.items()}
    # One that is asked for by its number is displayed all the same.
    assert numbers == {
        (None, False): useless, (None, True): usable, (useless, False): useless,
        (useless, True): useless,
    }  # fmt: skip
    displayed = views[None, True]
    assert displayed is not None
    assert displayed.facts.stands_for is not None
    assert displayed.facts.stands_for["id"] == useless
    assert displayed.facts.after == useless


def test_a_run_without_any_usable_scan_shows_the_last_one(run: InventedRun) -> None:
    number = run.scan(Label.UNUSABLE)
    run.commit()
    with reading(run.journal.run) as db:
        view = scan_view(db, run.journal.run, None, None, Preprocessing(), usable=True)
    assert view is not None
    assert (view.facts.row["id"], view.facts.stands_for) == (number, None)


def test_a_damaged_scan_is_told_of(run: InventedRun) -> None:
    number = run.scan(Label.GOOD, 0.99)
    run.commit()
    (run.journal.run / "scans" / f"{number:06d}.gsf").write_bytes(b"nothing")
    with reading(run.journal.run) as db:
        view = scan_view(db, run.journal.run, read_run_state(db), None, Preprocessing())
    assert view is not None
    assert "000001.gsf" in view.problem


@pytest.mark.parametrize("kind", ScanRendering)
def test_pictures_have_the_pixels_of_the_scan(run: InventedRun, kind: ScanRendering) -> None:
    z = run.surfaces[0].copy()
    z[40:] = np.nan
    run.scan(Label.UNUSABLE, z=z)
    run.commit()
    with reading(run.journal.run) as db:
        row = db.execute("SELECT * FROM scans").fetchone()
    image = Image.open(
        io.BytesIO(scan_picture(run.journal.run, row, kind, Preprocessing()))
    ).convert("RGBA")
    assert image.size == (64, 64)
    alpha = np.asarray(image)[..., 3]
    assert (alpha[:40] == 255).all()
    assert (alpha[40:] == (255 if kind is ScanRendering.NETWORK else 0)).all()


def painted(painter: Painter, area: int, version: int = -1) -> dict[tuple[int, int], Image.Image]:
    """The tiles of an area when nothing waits any more and something has changed."""
    painter.request(area)
    wait_until(
        # In this order: what is placed waits from the same moment on.
        lambda: (
            (painter.tiles(area)[1] or painter.unreadable(area))
            and painter.version() > version
            and not painter.waiting(area)
        )
    )
    places = painter.tiles(area)[1]
    pictures = {place: painter.picture(area, *place) for place in places}
    return {
        place: Image.open(io.BytesIO(data)).convert("RGBA")
        for place, data in pictures.items()
        if data is not None
    }


def colour_at(tiles: dict[tuple[int, int], Image.Image], x: float, y: float) -> tuple[int, ...]:
    """Colour at a place, nm, of tiles of 100 nm."""
    column, row = math.floor(x / 100), math.floor(y / 100)
    per_nm = TILE_PIXELS / 100
    pixel = tiles[column, row].getpixel(
        (int((x - 100 * column) * per_nm), int((100 * (row + 1) - y) * per_nm))
    )
    assert isinstance(pixel, tuple)
    return pixel


def frame_colour(label: Label) -> np.ndarray[Any, Any]:
    text = LABELS[label].lstrip("#")
    return np.array([int(text[k : k + 2], 16) for k in (0, 2, 4)])


def test_tiles_have_the_images_in_their_places_and_only_new_ones_are_added(
    run: InventedRun,
) -> None:
    flat = np.zeros((64, 64), np.float32)
    run.scan(Label.BAD_PROBE, 0.1, z=flat)  # at 0, 0: in the corners of four tiles
    undecided = run.scan(None, z=flat)
    run.commit()
    painter = Painter(run.journal.run)
    tiles = painted(painter, 0)
    assert set(tiles) >= {(0, 0), (-1, 0), (0, -1), (-1, -1)}
    for x, y in ((4.6, 0.5), (-4.6, 0.5), (0.5, -4.6)):
        near = np.array(colour_at(tiles, x, y)[:3]) - frame_colour(Label.BAD_PROBE)
        assert np.abs(near).max() < 60
    assert colour_at(tiles, 50, 50)[3] == 0
    x, y = run_x(run, undecided) / NM, run_y(run, undecided) / NM
    version = painter.version()
    run.journal.label_scan(undecided, Label.GOOD)
    run.commit()
    tiles = painted(painter, 0, version)
    near = np.array(colour_at(tiles, x + 4.8, y)[:3]) - frame_colour(Label.GOOD)
    assert np.abs(near).max() < 60


def test_an_unreadable_scan_leaves_the_colour_of_its_label(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    (run.journal.run / "scans" / "000001.gsf").unlink()
    run.commit()
    painter = Painter(run.journal.run)
    tiles = painted(painter, 0)
    assert np.abs(np.array(colour_at(tiles, 1, 1)[:3]) - frame_colour(Label.GOOD)).max() < 30
    assert painter.unreadable(0) == 1


@pytest.mark.parametrize(
    "oddity",
    ["label = 'of a later program'", "x = 9e999", "angle = -9e999", "size = 1.0", "size = 0.0"],
)
def test_rows_that_make_no_sense_are_counted_and_the_others_painted(
    run: InventedRun, oddity: str
) -> None:
    run.scan(Label.GOOD, 0.99)
    odd = run.scan(Label.GOOD, 0.99)
    run.commit()
    with closing(sqlite3.connect(run.journal.run / "journal.sqlite")) as db, db:
        db.execute(f"UPDATE scans SET {oddity} WHERE id = ?", (odd,))
    painter = Painter(run.journal.run)
    tiles = painted(painter, 0)
    near = np.array(colour_at(tiles, 4.8, 0.5)[:3]) - frame_colour(Label.GOOD)
    assert np.abs(near).max() < 60
    assert (painter.unreadable(0), painter.stopped) == (1, "")
    with reading(run.journal.run) as db:
        drawn_map = live_map(db, painter, read_run_state(db), None)
    assert drawn_map is not None
    assert all(map(math.isfinite, (drawn_map.left, drawn_map.top, drawn_map.side)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_is_told_when_painting_has_stopped(
    run: InventedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no more paint")

    monkeypatch.setattr("spm_gym.figures.tiles.grey_of", broken)
    run.scan(Label.GOOD, 0.99)
    run.commit()
    painter = Painter(run.journal.run)
    painter.request(0)
    wait_until(lambda: bool(painter.stopped))
    with reading(run.journal.run) as db:
        drawn_map = live_map(db, painter, read_run_state(db), None)
    assert drawn_map is not None
    assert drawn_map.stopped == "RuntimeError: no more paint"


def test_no_version_of_a_tile_comes_twice(run: InventedRun) -> None:
    """Browsers keep tiles by their version for ever."""
    for number in range(4):
        if number:
            run.enter_area("bad sample")
        run.scan(Label.GOOD, 0.99)
    run.commit()
    painter = Painter(run.journal.run)
    counts: list[int] = []
    first: set[int] = set()
    for area in (0, 1, 2, 3, 0):  # the fourth takes the place of the first
        painted(painter, area, painter.version())
        assert not counts or painter.version() > counts[-1]
        counts.append(painter.version())
        versions = set(painter.tiles(area)[1].values())
        assert versions
        assert area or not versions & first
        first |= versions
    assert Painter(run.journal.run).key != painter.key


def test_the_map_shows_what_is_planned_and_where_the_last_action_was(run: InventedRun) -> None:
    run.journal.record_act({"number": 1, "act": "pulse", "x": 2 * NM, "y": -3 * NM, "time": 1.0,
                            "result": "intended"})  # fmt: skip
    run.condition([PULSE])
    run.commit(frame=Frame(200 * NM, 0.0, 10 * NM, 64, 0.0), area=0)
    painter = Painter(run.journal.run)
    with reading(run.journal.run) as db:
        drawn_map = live_map(db, painter, read_run_state(db), None)
        assert drawn_map is not None
        assert drawn_map.frame == "195.0,-5.0 205.0,-5.0 205.0,5.0 195.0,5.0"
        assert drawn_map.left <= -5 < 205 <= drawn_map.left + drawn_map.side
        assert drawn_map.act == pytest.approx((2.0, -3.0, PULSE))
        assert [kind.kind for kind in drawn_map.blocked] == ["conditioning"]
        assert (
            live_map(db, painter, read_run_state(db), 99) is not None
        )  # no such area: the present one


@given(st.floats(1e-12, 1e-3))
def test_scale_bars_are_round_and_fit(most: float) -> None:
    length = round_length(most)
    assert most / 2.5 * (1 - 1e-6) <= length <= most * (1 + 1e-6)
    first = f"{length:.6e}"[0]
    assert first in "125"


def test_a_rotated_frame_is_planned_rotated(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    run.commit(frame=Frame(0.0, 0.0, 10 * NM, 64, math.pi / 2), area=0)
    with reading(run.journal.run) as db:
        drawn_map = live_map(db, Painter(run.journal.run), read_run_state(db), None)
    assert drawn_map is not None
    corners = {tuple(map(float, corner.split(","))) for corner in drawn_map.frame.split()}
    assert corners == {(-5, -5), (-5, 5), (5, -5), (5, 5)}
