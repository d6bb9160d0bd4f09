"""Pictures of a run of ``spm-gym run``, for ``spm-gym show``."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from spm_gym.assembly.pictures import LAST, MOVING, Picture
from spm_gym.assembly.pictures.scans import load_classifier
from spm_gym.assembly.run_directory import existing_operation
from spm_gym.config import EnvConfig
from spm_gym.errors import UsageError
from spm_gym.figures.animation import save_animation
from spm_gym.figures.areas import area_numbers, draw_area, draw_areas
from spm_gym.figures.canvas import save
from spm_gym.figures.episode import EpisodeFrames, draw_frames, recorded_episode
from spm_gym.figures.mosaic import Reading
from spm_gym.figures.overview import draw_overview, draw_timeline
from spm_gym.figures.scan import ScanClassifier, Subject, draw_scan, look_at
from spm_gym.journal.reader import read_scan, snapshot
from spm_gym.paths import display_name

_DPI = 100
_FRAMES_IN_FULL = 36
"""More frames are smaller, lest the file exceed a megabyte."""

Draw = Callable[[sqlite3.Connection, Reading], Figure]


def of_run(run: Path, arguments: argparse.Namespace) -> Picture:
    """What the command line asks of a run; its overview if it asks for nothing."""
    _, config = existing_operation(run)
    name, env = display_name(run), config.env
    if arguments.episode is not None:
        return _episode(run, name, None if arguments.episode == LAST else arguments.episode, env)
    if arguments.scan is not None:
        classifier = load_classifier(arguments.classifier or env.classifier)
        draw = partial(_draw_scan, run, arguments.scan, env, classifier)
        return Picture(f"{name}_scan{arguments.scan}", partial(_write, run, env, draw))
    if arguments.classifier is not None:
        raise UsageError(f"{run} has been classified already: --classifier goes with --scan N")
    if arguments.area is not None:
        draw = partial(_draw_area, run, arguments.area)
        return Picture(f"{name}_area{arguments.area}", partial(_write, run, env, draw))
    what = arguments.what or "overview"
    draws: dict[str, Draw] = {
        "overview": lambda db, files: draw_overview(db, run, env.good_above, files),
        "map": lambda db, files: _draw_areas(db, run, files),
        "timeline": lambda db, files: draw_timeline(db, run, env.good_above),
    }
    return Picture(f"{name}_{what}", partial(_write, run, env, draws[what]))


def write_animation(story: EpisodeFrames, output: Path) -> None:
    """Draw an episode into a file."""
    dpi = _DPI * min(1.0, (_FRAMES_IN_FULL / len(story.stills)) ** 0.5)
    save_animation(list(draw_frames(story, dpi)), output)


def _write(run: Path, env: EnvConfig, draw: Draw, output: Path) -> None:
    files = Reading(env.plane)
    with snapshot(run) as db:
        save(draw(db, files), output)
    for problem in list(files.unreadable.values())[:5]:
        print(f"unreadable: {problem}")


def _episode(run: Path, name: str, number: int | None, env: EnvConfig) -> Picture:
    with snapshot(run) as db:
        story = recorded_episode(db, run, number, env)
    ending = f"episode{number}" if number is not None else "episode"
    return Picture(f"{name}_{ending}", partial(write_animation, story), MOVING)


def _draw_area(run: Path, area: int, db: sqlite3.Connection, files: Reading) -> Figure:
    known = area_numbers(db)
    if area not in known:
        has = f"areas 0 to {known[-1]}" if known else "no area yet"
        raise UsageError(f"there is no approach area {area}: {run} has {has}")
    return draw_area(db, run, area, files)


def _draw_areas(db: sqlite3.Connection, run: Path, files: Reading) -> Figure:
    if not area_numbers(db):
        raise UsageError(f"{run} has no approach area yet: it has just started")
    return draw_areas(db, run, files)


def _draw_scan(
    run: Path,
    number: int,
    env: EnvConfig,
    classifier: ScanClassifier,
    db: sqlite3.Connection,
    files: Reading,
) -> Figure:
    row = db.execute("SELECT * FROM scans WHERE id = ?", (number,)).fetchone()
    if row is None:
        last = db.execute("SELECT MAX(id) FROM scans").fetchone()[0]
        has = f"scans 1 to {last}" if last else "no scan yet"
        raise UsageError(f"there is no scan {number}: {run} has {has}")
    scan = read_scan(run, row)
    size = scan.frame.size
    about = (
        f"at x = {scan.frame.x * 1e9:.1f} nm, y = {scan.frame.y * 1e9:.1f} nm of approach area "
        f"{row['area']}; {scan.bias:g} V, {scan.setpoint * 1e12:g} pA; after "
        f"{row['elapsed'] / 3600:.2f} h; filed as {row['label'] or 'undecided'}"
    )
    name = f"{display_name(run)}, scan {number}"
    subject = Subject(name, scan.z, size, size, scan.z_range, about)
    return draw_scan(subject, look_at(subject, classifier, env), env.good_above)
