"""Logs of commands, read: the exchanges of all parts, in the order in which they happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from spm_gym.errors import UsageError
from spm_gym.instrument.nanonis.exchange import Entry, Exchange, LogHeader, from_line
from spm_gym.instrument.nanonis.wire import LARGEST_BODY

_LONGEST_LINE = 2 * LARGEST_BODY
_LONGEST_HEADER = 10_000
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Recording:
    """A log of commands.

    Attributes:
        header: Of its oldest part.
        exchanges: In the order in which they happened.
    """

    header: LogHeader
    exchanges: Sequence[Exchange]


def read_log(paths: Sequence[Path]) -> Recording:
    """Read the parts of a log, named in any order.

    A line that a kill has torn is left out: the last of a file, or the one before a further header.

    Raises:
        UsageError: One line that names the file, the line and what is wrong with it.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("--replay: the same file twice")
    # A shell names the newest part first.
    parts = sorted(map(_part, paths), key=lambda part: part.header.time)
    if len({part.header.by for part in parts}) > 1:
        raise UsageError(
            f"--replay {' '.join(map(str, paths))}: one is of the client, another of the "
            "server; name the parts of one log"
        )
    exchanges = [exchange for part in parts for exchange in part.exchanges]
    if not exchanges:
        raise UsageError(f"--replay {paths[0]}: it holds no command")
    return Recording(parts[0].header, exchanges)


def _part(path: Path) -> Recording:
    entries = _entries(path)
    header = next(entries, None)
    if not isinstance(header, LogHeader):
        raise UsageError(f"{path}, line 1: no header of a log of commands")
    return Recording(header, [entry for entry in entries if isinstance(entry, Exchange)])


def _entries(path: Path) -> Iterator[Entry]:
    torn: UsageError | None = None
    with path.open("rb") as file:
        for number in itertools.count(1):
            # Files of other kinds may have no lines at all.
            line = file.readline(_LONGEST_LINE if number > 1 else _LONGEST_HEADER)
            if not line:
                break
            try:
                entry = from_line(line)
            except (ValueError, RecursionError) as error:
                damage = UsageError(f"{path}, line {number}: {_reason(error)}")
                if torn is not None or number == 1:
                    raise (torn or damage) from error
                torn, unfinished = damage, not line.endswith(b"\n")
                continue
            if torn is not None and not isinstance(entry, LogHeader):
                raise torn
            torn = None
            yield entry
    if torn is not None and not unfinished:
        raise torn


def _reason(error: ValueError | RecursionError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)[:_LONGEST_REASON]
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}"[:_LONGEST_REASON]
