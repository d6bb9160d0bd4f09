"""Checks of a run that was killed: nothing lost or repeated, memory and rows equal."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import Config, EnvConfig
from spm_gym.envs.observation import process_scan
from spm_gym.envs.regions import RegionMap
from spm_gym.journal.reader import JOURNAL, Label, read_scan, reading
from spm_gym.scale import NM
from spm_gym.types import Dip, Pulse

Row = dict[str, Any]

TABLES = ("sessions", "areas", "marks", "scans", "acts", "episodes", "steps", "recoveries",
          "events")  # fmt: skip
CONDITIONING = ("pulse", "dip", "stall")
_WHEN = ("session", "wall", "wall_result", "pid")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A journal and its scans at one moment.

    Attributes:
        rows: By table and key.
        scans: SHA-256 of every scan that has a row, by its file; "" where it is missing.
    """

    rows: dict[str, dict[int, Row]]
    scans: dict[str, str]


@dataclass(frozen=True, slots=True)
class Remembered:
    """State that a runner held in memory.

    Attributes:
        area: Number of the approach area.
        marks: Its blocked places: x, y, radius, reason.
        free: The candidates that are left.
        counters: By name.
        images: Whole images.
        replay: What the agent learns from, by name; empty without an agent.
        weights: Of its networks; empty without an agent.
    """

    area: int
    marks: list[tuple[float, float, float, str]]
    free: NDArray[np.bool_]
    counters: dict[str, int]
    images: int
    replay: dict[str, NDArray[Any]]
    weights: dict[str, NDArray[Any]]


def snapshot(run: Path) -> Snapshot:
    """Take one; a journal that does not exist yet has no rows."""
    if not (run / JOURNAL).is_file():
        return Snapshot({table: {} for table in TABLES}, {})
    with reading(run) as db:
        rows = {table: rows_of(db, table) for table in TABLES}
    files = [row["file"] for row in rows["scans"].values()]
    return Snapshot(rows, {file: _hash(run / file) for file in files})


def changes(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Losses and changes by a kill or a restart; rows may only come, and be completed."""
    for table, rows in before.rows.items():
        for key, old in rows.items():
            new = after.rows[table].get(key)
            if new is None:
                yield f"{table} {key} is lost"
                continue
            for column, value in old.items():
                if new[column] != value and not _completes(table, column, old, new):
                    yield f"{table} {key}: {column} was {value!r}, is {new[column]!r}"
    for file, digest in before.scans.items():
        if after.scans.get(file) != digest:
            yield f"{file} is not what it was"
    for table, rows in after.rows.items():
        first = 0 if table == "areas" else 1
        if sorted(rows) != list(range(first, first + len(rows))):
            yield f"{table}: its numbers have gaps"
    yield from _unresolved(before, after)


def _completes(table: str, column: str, old: Row, new: Row) -> bool:
    """Whether a changed value is a result that was awaited."""
    if table == "episodes" and column == "actions":
        return old["outcome"] is None and bool(new[column] > old[column])
    awaited = {
        ("acts", "reason"): "result",
        ("acts", "after"): "result",
        ("scans", "reason"): "label",
        ("steps", "uncertain"): "scan_after",
    }.get((table, column), column)
    return old[awaited] is None


def _unresolved(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Acts that a kill interrupted must be called unknown, before any other act."""
    acts = after.rows["acts"]
    for key, old in before.rows["acts"].items():
        if old["result"] is not None or key not in acts:
            continue
        result = acts[key]["result"]
        if result not in (None, "unknown"):
            yield f"act {key} was killed, and is called {result}"
        # The shutdown withdraws the tip before that is said, if need be after connecting again.
        later = {acts[n]["act"] for n in acts if n > key}
        if result is None and later - {"withdraw", "reconnect"}:
            yield f"act {key} was killed, and nobody says so"


def repetitions(run: Path, config: EnvConfig) -> Iterator[str]:
    """Decisions carried out twice, and acts that nobody has decided."""
    with reading(run) as db:
        steps = list(rows_of(db, "steps").values())
        acts = {row["number"]: row for row in rows_of(db, "acts").values() if row["number"]}
        events = [(row["kind"], row["text"]) for row in rows_of(db, "events").values()]
        areas = len(rows_of(db, "areas"))
    yield from _repeated_moves(list(acts.values()), areas)
    yield from _repeated_cleanings(events)
    for earlier, later in itertools.pairwise(steps):
        if later["scan"] <= earlier["scan"]:
            yield f"steps {earlier['id']} and {later['id']} rest on one image, {later['scan']}"
    claimed = [step["act"] for step in steps if step["act"] is not None]
    if len(set(claimed)) < len(claimed):
        yield "two steps claim one act"
    for step in steps:
        if step["act"] is not None:
            decided = config.actions[step["action"]].conditioning
            if numbers(acts[step["act"]]) != _expected_numbers(decided):
                yield f"step {step['id']} decided {decided}, act {step['act']} is another"
    done = {number: act for number, act in acts.items() if act["act"] in CONDITIONING}
    # The act under way is claimed by its step when the run goes on.
    under_way = sum(act["result"] is None for act in done.values())
    cleaned = sum(kind == "clean" for kind, _ in events)
    if not cleaned <= len(done.keys() - set(claimed)) <= cleaned + under_way:
        yield f"{len(done.keys() - set(claimed))} acts without a step, {cleaned} cleanings"


def _repeated_moves(acts: Sequence[Row], areas: int) -> Iterator[str]:
    results = [act["result"] for act in acts if act["act"] == "move area"]
    moves = results.count("done") + results.count("unknown")
    if areas and moves != areas - 1:
        yield f"{moves} coarse moves that may have been carried out, {areas} areas"


def _repeated_cleanings(events: Sequence[tuple[str, str]]) -> Iterator[str]:
    crashed = False
    for kind, text in events:
        crashed |= kind == "trouble" and text.startswith("crash")
        if kind == "clean":
            if not crashed:
                yield f"cleaned twice after one crash: {text}"
            crashed = False


def disagreements(kept: Remembered, run: Path, config: Config) -> Iterator[str]:
    """Where the memory of a runner and its journal differ."""
    with reading(run) as db:
        rows = {table: list(rows_of(db, table).values()) for table in TABLES}
    regions = RegionMap(config.env.regions, config.env.image_nm * NM)
    for mark in rows["marks"]:
        if mark["area"] == kept.area:
            regions.mark(mark["x"], mark["y"], mark["radius"], mark["reason"])
    if [(m.x, m.y, m.radius, m.reason) for m in regions.marks] != kept.marks:
        yield f"area {kept.area}: the blocked places are not those of the journal"
    if not np.array_equal(regions.free, kept.free):
        yield f"area {kept.area}: the free candidates are not those of the journal"
    if kept.area != max((row["number"] for row in rows["areas"]), default=0):
        yield f"area {kept.area} is not the last one of the journal"
    for name, count in _counted(rows).items():
        if kept.counters[name] != count:
            yield f"counter {name}: {kept.counters[name]}, the journal has {count}"
    images = sum(row["fraction"] == 1 and row["lines"] == row["pixels"] for row in rows["scans"])
    if kept.images != images:
        yield f"{kept.images} images, the journal has {images}"
    if kept.replay:
        yield from _forgotten(kept, run, config.env)


def _counted(rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    labels = [row["label"] for row in rows["scans"]]
    counted = {str(label): labels.count(label) for label in Label}
    names = {"scans": "scans", "episodes": "episodes", "actions": "steps",
             "recoveries": "recoveries", "areas": "areas"}  # fmt: skip
    return counted | {name: len(rows[table]) for name, table in names.items()}


def _forgotten(kept: Remembered, run: Path, config: EnvConfig) -> Iterator[str]:
    """Where the replay buffer is not what the finished and certain steps of the journal say."""
    with reading(run) as db:
        scans = rows_of(db, "scans")
        steps = [
            step
            for step in rows_of(db, "steps").values()
            if step["scan_after"] is not None and not step["uncertain"]
        ]
    replay = kept.replay
    if len(replay["actions"]) != len(steps):
        yield f"{len(replay['actions'])} experiences, the journal has {len(steps)}"
        return
    for index, step in enumerate(steps):
        before, after = (
            process_scan(read_scan(run, scans[step[name]]), _no_classifier, config)  # type: ignore[arg-type]
            for name in ("scan", "scan_after")
        )
        expected: dict[str, Any] = {
            "observations": before.observation, "next_observations": after.observation,
            "next_masks": after.mask, "actions": [step["action"]], "rewards": [step["reward"]],
            "dones": [float(step["terminated"])],
        }  # fmt: skip
        for name, value in expected.items():
            kept_as = replay[name].dtype  # images are rounded to float16
            if not np.array_equal(replay[name][index], np.asarray(value, kept_as)):
                yield f"experience {index}: {name} are not those of step {step['id']}"


def _no_classifier(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros(len(images), np.float32)


def differences(run: Path, other: Path) -> Iterator[str]:
    """Where two journals or their scans differ, apart from when and by whom they were written."""
    mine, theirs = snapshot(run), snapshot(other)
    for table in TABLES[1:]:
        rows, others = mine.rows[table], theirs.rows[table]
        if rows.keys() != others.keys():
            yield f"{table}: {len(rows)} and {len(others)} rows"
        for key in rows.keys() & others.keys():
            for column, value in rows[key].items():
                if column not in _WHEN and others[key][column] != value:
                    yield f"{table} {key}: {column} {value!r} and {others[key][column]!r}"
    if mine.scans != theirs.scans:
        yield "the files of the scans differ"


def numbers(act: Row) -> tuple[str, tuple[float, ...]]:
    details = json.loads(act["details"])
    names = {"dip": ("depth", "bias", "width"), "pulse": ("bias", "width")}
    return act["act"], tuple(details[name] for name in names.get(act["act"], ()))


def _expected_numbers(action: Any) -> tuple[str, tuple[float, ...]]:
    if isinstance(action, Dip):
        return "dip", (action.depth, action.bias, action.width)
    return ("pulse", (action.bias, action.width)) if isinstance(action, Pulse) else ("stall", ())


def rows_of(db: sqlite3.Connection, table: str) -> dict[int, Row]:
    rows = db.execute(f"SELECT * FROM {table} ORDER BY 1")
    return {row[0]: dict(row) for row in rows}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
