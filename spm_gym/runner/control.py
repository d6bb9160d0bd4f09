"""Requests to a run from outside, carried through its directory.

A run that was started with a token obeys only who knows it: a request carries a number, greater
than that of the one before, and a proof that nobody can make from what is written in the directory,
nor use twice. The token itself is written nowhere.

What was asked for stands until something else is asked for. A file that is gone, empty, unreadable
or forged is no request, so nothing but a request to resume ever ends a pause.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from spm_gym.atomic_file import written_whole
from spm_gym.config.json_file import parse_json
from spm_gym.journal.reader import last_command

CONTROL = "control"
PROTECTION = "control_protection.json"
# The values for interactive use from the paper on scrypt: 16 MB of memory a guess, for the salt and
# the check are readable and tokens are short.
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
_MOST_DIGITS = 30
_MOST_BYTES = 4096


class Request(StrEnum):
    """Requests that a run obeys."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


INTERRUPTING = (Request.PAUSE, Request.STOP)
"""Requests for which a scan, an approach or a wait under way is stopped."""


class WrongToken(ValueError):
    """The run was started with a token, and this is not it."""


class CannotAsk(ValueError):
    """The request cannot be left in the run directory; the message says why."""


class Control:
    """The end of the run: what it is asked for at present.

    Args:
        run: The run directory; earlier requests in it are forgotten.
        token: What others must know to ask for something; None: who may write there may ask.

    Attributes:
        requests: How many different ones were obeyed; a file that is gone or forged counts as none.
    """

    def __init__(self, run: Path, token: str | None = None) -> None:
        self._file = run / CONTROL
        self._key: bytes | None = None
        self._latest = 0
        self._standing: Request | None = None
        self._identity = 0
        self.requests = 0
        # Requests to an earlier session must neither stop nor pause this one.
        for file in (self._file, run / PROTECTION):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise CannotAsk(
                    f"{file} is of an earlier session and cannot be deleted ({error.strerror}): "
                    "delete it, or the run would obey it"
                ) from error
        if token is None:
            return
        salt = secrets.token_bytes(16)
        self._key = _key(token, salt)
        public = {"salt": salt.hex(), "check": _proof(self._key, "check")}
        with written_whole(run / PROTECTION) as beside:
            beside.write_text(json.dumps(public), encoding="utf-8")

    def asked(self) -> Request | None:
        """Read the last request; None if there was none.

        Without a token, text that means nothing counts as a stop. With one, whatever has no proof,
        or is older than what was obeyed, counts as nothing.
        """
        written = _written(self._file)
        if not written.word:
            return self._standing
        if self._key is not None:
            # The same number is read again and again, until another request comes; a smaller one is
            # a replay.
            if written.number < self._latest or not written.is_proven(self._key):
                return self._standing
            self._latest = written.number
        # Counted once, however often it is read: an old request to resume releases nothing that has
        # tripped since. A proven number tells requests apart; a file alone is told by its time.
        identity = written.written_at if self._key is None else written.number
        self.requests += identity != self._identity
        self._identity = identity
        # Of what means nothing the safe reading is a stop; with a token, that would let anybody
        # stop it.
        self._standing = Request(written.word) if written.word in {*Request} else Request.STOP
        return self._standing


def asked_of(run: Path, token: str | None = None) -> str:
    """Read the last request to a run, as far as others can; "" for none that it obeys."""
    written = _written(run / CONTROL)
    try:
        key = _checked_key(run, token)
    except WrongToken:
        return ""
    return written.word if key is None or written.is_proven(key) else ""


def ask(run: Path, request: Request, token: str | None = None) -> None:
    """Ask a run for something; it obeys after the command that it is in the middle of.

    Raises:
        WrongToken: It would not obey.
        CannotAsk: Nothing can be written there, or it is no run that could pause.
    """
    # Nothing would come of it: only the runner knows how to go on after a pause.
    if request is not Request.STOP and (command := last_command(run)) not in ("", "run"):
        raise CannotAsk(
            f"{run} is at work for '{command}', which can be stopped but not paused: stop it, and "
            "resume a training with python train.py --resume"
        )
    key = _checked_key(run, token)
    text = str(request)
    if key is not None:
        before = _written(run / CONTROL)
        # A forged number could be so large that none after it fits.
        latest = before.number if before.is_proven(key) else 0
        # The time, so that it grows over all who ask; one more, should their clocks disagree.
        number = max(latest + 1, time.time_ns())
        text = f"{request} {number} {_proof(key, f'{request} {number}')}"
    try:
        with written_whole(run / CONTROL) as beside:
            beside.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise CannotAsk(
            f"{run / CONTROL} cannot be written ({error.strerror}): repair that and ask again, or "
            "stop the run by Ctrl-C"
        ) from error


class _Written(NamedTuple):
    """Content of the file of the request; empty if there is none, or it is being written."""

    word: str
    number: int
    proof: str
    written_at: int

    def is_proven(self, key: bytes) -> bool:
        return same_secret(_proof(key, f"{self.word} {self.number}"), self.proof)


def _written(file: Path) -> _Written:
    try:
        text, written_at = _read(file)
    except OSError:
        text, written_at = "", 0
    word, number, proof = (*text.split(), "", "", "")[:3]
    digits = number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS
    return _Written(word, int(number) if digits else 0, proof, written_at)


def _read(file: Path) -> tuple[str, int]:
    """Read a small ordinary file, and when it was written, ns.

    Raises:
        OSError: It is none: a pipe in its place would hold up the run for ever.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(f"{file} is no ordinary file")
        return os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace"), about.st_mtime_ns
    finally:
        os.close(descriptor)


def _checked_key(run: Path, token: str | None) -> bytes | None:
    try:
        public = parse_json(_read(run / PROTECTION)[0])
        salt, check = bytes.fromhex(public["salt"]), str(public["check"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongToken(f"{run / PROTECTION} cannot be read: stop the run by Ctrl-C") from error
    if token is None:
        raise WrongToken(f"{run} was started with a token: give it with --token")
    key = _key(token, salt)
    if not same_secret(_proof(key, "check"), check):
        raise WrongToken(f"this is not the token that {run} was started with")
    return key


@lru_cache(maxsize=4)  # slow on purpose, and pages ask every other second
def _key(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode(), salt=salt, **_SCRYPT)


def _proof(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def same_secret(given: str, expected: str) -> bool:
    """Compare in constant time, so that nobody finds a secret letter by letter."""
    return hmac.compare_digest(given.encode(), expected.encode())
