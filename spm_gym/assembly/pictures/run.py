"""Pictures of a run of ``spm-gym run``, for ``spm-gym show``."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from spm_gym.analysis.areas import area_numbers
from spm_gym.analysis.scan_findings import ScanClassifier, Subject, examine
from spm_gym.analysis.scans import last_scan_number, scan_row
from spm_gym.assembly.pictures import LAST, MOVING, Picture
from spm_gym.assembly.pictures.scans import load_classifier
from spm_gym.assembly.run_directory import existing_record
from spm_gym.config import EnvConfig
from spm_gym.errors import UsageError
from spm_gym.figures.animation import save_animation
from spm_gym.figures.areas import draw_area, draw_areas
from spm_gym.figures.canvas import save
from spm_gym.figures.episode import EpisodeFrames, draw_frames, recorded_episode
from spm_gym.figures.mosaic import PaintLog
from spm_gym.figures.overview import draw_overview, draw_timeline
from spm_gym.figures.scan import draw_scan
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import read_scan, snapshot
from spm_gym.paths import display_name
from spm_gym.scale import tunnelling_text

_DPI = 100
_FRAMES_IN_FULL = 36
"""More frames are smaller, so that the file does not exceed a megabyte."""

Draw = Callable[[sqlite3.Connection, PaintLog], Figure]


def of_run(run: Path, arguments: argparse.Namespace) -> Picture:
    """Choose the picture of a run that the command line asks for; by default its overview."""
    _, config = existing_record(run)
    name, env = display_name(run), config.env
    if arguments.episode is not None:
        return _episode(run, name, None if arguments.episode == LAST else arguments.episode, env)
    if arguments.scan is not None:
        # One of another scale than the run's own needs images of its own scale.
        other = env.model_copy(update={"height_scale_pm": None}) if arguments.classifier else env
        classifier = load_classifier(arguments.classifier or env.classifier, other)
        draw = partial(_draw_scan, run, arguments.scan, env, classifier)
        return Picture(f"{name}_scan{arguments.scan}", partial(_write, run, env, draw))
    if arguments.classifier is not None:
        raise UsageError(f"{run} has been classified already: --classifier goes with --scan N")
    if arguments.area is not None:
        draw = partial(_draw_area, run, arguments.area)
        return Picture(f"{name}_area{arguments.area}", partial(_write, run, env, draw))
    what = arguments.what or "overview"
    draws: dict[str, Draw] = {
        "overview": lambda db, log: draw_overview(db, run, env.good_above, log),
        "map": lambda db, log: _draw_areas(db, run, log),
        "timeline": lambda db, log: draw_timeline(db, run, env.good_above),
    }
    return Picture(f"{name}_{what}", partial(_write, run, env, draws[what]))


def write_animation(frames: EpisodeFrames, output: Path) -> None:
    """Draw an episode into a file."""
    # A file grows with the area of its frames, so with the square of the resolution.
    dpi = _DPI * min(1.0, (_FRAMES_IN_FULL / len(frames.stills)) ** 0.5)
    save_animation(list(draw_frames(frames, dpi)), output)


def _write(run: Path, env: EnvConfig, draw: Draw, output: Path) -> None:
    log = PaintLog(Preprocessing.of(env))
    # From a copy: drawing must not hold back the log of a run at work.
    with snapshot(run) as db:
        save(draw(db, log), output)
    for problem in list(log.unreadable.values())[:5]:
        print(f"unreadable: {problem}")


def _episode(run: Path, name: str, number: int | None, env: EnvConfig) -> Picture:
    with snapshot(run) as db:
        frames = recorded_episode(db, run, number, env)
    ending = f"episode{number}" if number is not None else "episode"
    return Picture(f"{name}_{ending}", partial(write_animation, frames), MOVING)


def _draw_area(run: Path, area: int, db: sqlite3.Connection, log: PaintLog) -> Figure:
    known = area_numbers(db)
    if area not in known:
        has = f"areas 0 to {known[-1]}" if known else "no area yet"
        raise UsageError(f"there is no approach area {area}: {run} has {has}")
    return draw_area(db, run, area, log)


def _draw_areas(db: sqlite3.Connection, run: Path, log: PaintLog) -> Figure:
    if not area_numbers(db):
        raise UsageError(f"{run} has no approach area yet: it has just started")
    return draw_areas(db, run, log)


def _draw_scan(
    run: Path,
    number: int,
    env: EnvConfig,
    classifier: ScanClassifier,
    db: sqlite3.Connection,
    log: PaintLog,
) -> Figure:
    row = scan_row(db, number)
    if row is None:
        last = last_scan_number(db)
        has = f"scans 1 to {last}" if last else "no scan yet"
        raise UsageError(f"there is no scan {number}: {run} has {has}")
    scan = read_scan(run, row)
    size = scan.frame.size
    preview = f"preview, {scan.frame.lines} lines; " if scan.frame.is_preview else ""
    about = (
        f"{preview}at x = {scan.frame.x * 1e9:.1f} nm, y = {scan.frame.y * 1e9:.1f} nm of "
        f"approach area {row['area']}; {tunnelling_text(scan.bias, scan.setpoint)}; after "
        f"{row['elapsed'] / 3600:.2f} h; filed as {row['label'] or 'undecided'}"
    )
    name = f"{display_name(run)}, scan {number}"
    subject = Subject(name, scan.z, size, size, scan.z_range, about)
    return draw_scan(subject, examine(subject, classifier, env), env.good_above)
