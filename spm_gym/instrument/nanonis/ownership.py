"""Who drives a controller: a mark in the comment of its scans, which every program can read.

A controller lets a program in on each of its ports and knows nothing of runs, so two of them would
fight over tip and frame. The comment is the one text that every release stores and gives back. The
mark names a file that is locked as long as its program lives.
"""

from __future__ import annotations

import re
import socket
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from spm_gym.errors import InstrumentError

_MARK = re.compile(r"\s*\[spm-gym drives this: (.+) on (\S+)\]", re.DOTALL)


class ControllerInUse(InstrumentError):
    """Another run drives this controller, or has left it without restoring its settings."""


class Ownership:
    """The claim of one program to one controller.

    Args:
        kept: File with the operator's settings, until they are restored; names the run.
    """

    def __init__(self, kept: Path | None) -> None:
        name = f"spm-gym-{uuid.uuid4().hex}"
        self._kept = (kept or Path(tempfile.gettempdir()) / name).absolute()
        self._lock = FileLock(_lock_of(self._kept))
        self.mark = f"[spm-gym drives this: {self._kept} on {_computer()}]"

    def claim(self, comment: str) -> None:
        """See that nobody else drives the controller with this comment, and say that we live.

        Raises:
            ControllerInUse: Another run does, or was killed before it restored the settings.
        """
        trouble = in_use(comment, self._kept)
        # The lock first would make our own mark look like that of a program at work.
        if trouble:
            raise ControllerInUse(trouble)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ControllerInUse(f"{self._kept.parent} is at work already") from error

    def release(self) -> None:
        """Give the claim up; legal twice."""
        if self._lock.is_locked:
            with suppress(OSError):
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def marked(self, comment: str) -> str:
        """A comment with our mark in place of any other."""
        return f"{without_mark(comment)} {self.mark}".lstrip()

    def lost(self, comment: str) -> str:
        """Who has taken the controller from us, in words; "" while nobody has."""
        found = _MARK.search(comment)
        if found is None or found[0].strip() == self.mark:
            return ""
        return f"another run, {Path(found[1]).parent} on {found[2]}, drives this controller too"


def without_mark(comment: str) -> str:
    """The part of a comment that the operator has written."""
    return _MARK.sub("", comment)


def in_use(comment: str, own: Path | None = None) -> str:
    """Why the controller with this comment cannot be taken; "" if it can.

    Args:
        comment: Of its scans.
        own: Where the present run keeps the operator's settings: one that goes on after a kill
            finds its own mark.
    """
    found = _MARK.search(comment)
    if found is None:
        return ""
    kept, computer = Path(found[1]), found[2]
    # A lock can be asked for on its own computer only.
    if computer != _computer():
        return (
            f"the controller is driven from the computer {computer} by the run {kept.parent}; if "
            "nothing runs there any more, use spm-gym restore there, or remove the mark from the "
            "comment in the controller's scan window"
        )
    if _is_locked(kept):
        return f"the controller is driven by another run, {kept.parent}: stop that one first"
    if own is not None and own.absolute() == kept:
        return ""
    # Killed: what is in force is that run's, and must not be taken for the operator's.
    if kept.is_file():
        return (
            f"the run {kept.parent} was killed before it could restore the operator's settings: "
            "put them back with 'spm-gym restore' on that directory, or go on with --resume; "
            "otherwise that run's bias and frame would be taken for the operator's"
        )
    return ""


def _is_locked(kept: Path) -> bool:
    file = _lock_of(kept)
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _lock_of(kept: Path) -> Path:
    return kept.with_name(f".{kept.name}.lock")


def _computer() -> str:
    return "_".join(socket.gethostname().split()) or "unnamed"
