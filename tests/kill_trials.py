"""One run that is killed again and again, and what came of it."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from pathlib import Path

from kill_calls import CallKiller
from kill_checks import snapshot
from kill_controller import COMMANDS, Command, executed, reached
from killing import TIME_SCALES, Killer, Kind, Trial, microscope

_FEW = 20


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
    begun = time.monotonic()
    with microscope(kind, seed, folder) as overrides:
        killer = (CallKiller if at_calls else Killer)(kind, seed, folder, overrides)
        done = killer.trial
        while done.kills < kills and done.ended < 2 * kills:
            killer.kill()
        killer.look()
        kept = killer.finish()
        # How far it came between two kills depends on the machine; what it does in the end not.
        while kind in TIME_SCALES and not _eventful(executed(folder / "commands")):
            kept = killer.finish()
    if kind == "quiet" and kept is not None:
        killer.compare_with_undisturbed(kept)
    rows = snapshot(killer.run).rows
    done.rows = {table: len(rows[table]) for table in rows}
    results = collections.Counter(str(row["result"]) for row in rows["acts"].values())
    done.acts = {result: {"rows": count} for result, count in results.items()}
    if kind in TIME_SCALES:
        found = reached(killer.run, killer.config, executed(folder / "commands"))
        done.acts, done.commands = found.acts, found.commands
        done.faults += found.faults
    done.seconds = time.monotonic() - begun
    return done


def _eventful(commands: Sequence[Command]) -> bool:
    """Whether a controller has done something of everything, and not just a little."""
    return len(commands) > _FEW and {command.kind for command in commands} >= COMMANDS
