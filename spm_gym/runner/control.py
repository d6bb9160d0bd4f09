"""Requests to a run from outside, carried through its directory."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from spm_gym.whole_file import written_whole

CONTROL = "control"


class Request(StrEnum):
    """What a run can be asked for."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


def ask(run: Path, request: Request) -> None:
    """Ask a run for something; it obeys after the command that it is in the middle of."""
    with written_whole(run / CONTROL) as beside:
        beside.write_text(f"{request}\n", encoding="utf-8")


def asked(run: Path) -> Request | None:
    """What a run is asked for at present; text that means nothing counts as a stop."""
    try:
        text = (run / CONTROL).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None  # there is none, or it cannot be read just now
    if not text:
        return None  # it is just being written
    try:
        return Request(text)
    except ValueError:
        return Request.STOP


def forget(run: Path) -> None:
    """Begin without any request."""
    (run / CONTROL).unlink(missing_ok=True)
