"""One run that is killed again and again, and what came of it."""

from __future__ import annotations

import collections
import time
from collections.abc import Collection
from pathlib import Path

from tests.support.kill_calls import CallKiller
from tests.support.kill_checks import snapshot
from tests.support.kill_controller import executed, reached
from tests.support.killing import TIME_SCALES, Killer, Kind, Trial, microscope

_EVENTFUL = ({"pulse", "dip"}, {"approach"}, {"motor"}, {"move"})


def trial(kind: Kind, kills: int, seed: int, folder: Path, at_calls: bool = False) -> Trial:
    """Kill one run so many times, then let it end.

    Args:
        kind: Of microscope.
        kills: How often.
        seed: Of the run and of the moments.
        folder: New; for the run and what is noted about it.
        at_calls: Whether to kill at chosen system calls instead of at any instant.
    """
    folder.mkdir(parents=True)
    started = time.monotonic()
    with microscope(kind, seed, folder) as overrides:
        killer = (CallKiller if at_calls else Killer)(kind, seed, folder, overrides)
        done = killer.trial
        while done.kills < kills and done.ended < 2 * kills:
            killer.kill()
        killer.inspect_memory()
        # How far it has come between two kills depends on the machine; what follows does not.
        disturbed = _kinds(folder) if kind in TIME_SCALES else []
        kept = killer.finish()
        while kind in TIME_SCALES and not _eventful(_kinds(folder)[len(disturbed) :]):
            kept = killer.finish()
    if kind == "quiet" and kept is not None:
        killer.compare_with_unkilled(kept)
    rows = snapshot(killer.run).rows
    done.rows = {table: len(rows[table]) for table in rows}
    results = collections.Counter(str(row["result"]) for row in rows["acts"].values())
    done.acts = {result: {"rows": count} for result, count in results.items()}
    if kind in TIME_SCALES:
        found = reached(killer.run, killer.config, executed(folder / "commands"))
        done.acts, done.commands = found.acts, found.commands
        done.faults += found.faults
    done.seconds = time.monotonic() - started
    return done


def _kinds(folder: Path) -> list[str]:
    """Kinds of what the controller has done so far."""
    return [command.kind for command in executed(folder / "commands")]


def _eventful(kinds: Collection[str]) -> bool:
    """Whether there is something of everything."""
    return all(required & set(kinds) for required in _EVENTFUL)
