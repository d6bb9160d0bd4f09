"""Requests to a run from outside, carried through its directory.

A run that was started with a token obeys only who knows it: the request carries a proof that nobody
can make from what is written in the directory. The token itself is written nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from enum import StrEnum
from pathlib import Path

from spm_gym.whole_file import written_whole

CONTROL = "control"
PROTECTION = "control_protection.json"
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


class Request(StrEnum):
    """What a run can be asked for."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


class WrongToken(ValueError):
    """The run was started with a token, and this is not it."""


class Control:
    """The end of the run: what it is asked for at present.

    Args:
        run: The run directory; earlier requests in it are forgotten.
        token: What others must know to ask for something; None: who may write there may ask.
    """

    def __init__(self, run: Path, token: str | None = None) -> None:
        self._file = run / CONTROL
        self._key = None
        self._file.unlink(missing_ok=True)
        if token is None:
            (run / PROTECTION).unlink(missing_ok=True)
            return
        salt = secrets.token_bytes(16)
        self._key = _key(token, salt)
        public = {"salt": salt.hex(), "check": _proof(self._key, "check")}
        with written_whole(run / PROTECTION) as beside:
            beside.write_text(json.dumps(public), encoding="utf-8")

    def asked(self) -> Request | None:
        """What the run is asked for; text that means nothing counts as a stop.

        Without the proof, if one is needed, nothing is asked.
        """
        word, proof = _written(self._file)
        if not word or (self._key is not None and not _same(_proof(self._key, word), proof)):
            return None
        return Request(word) if word in {*Request} else Request.STOP

    def must_interrupt(self) -> bool:
        """Whether a scan under way is to be stopped."""
        return self.asked() in (Request.PAUSE, Request.STOP)


def asked_of(run: Path) -> str:
    """What a run was asked for last, as far as others see; "" for nothing."""
    return _written(run / CONTROL)[0]


def ask(run: Path, request: Request, token: str | None = None) -> None:
    """Ask a run for something; it obeys after the command that it is in the middle of.

    Raises:
        WrongToken: It would not obey.
    """
    key = _checked_key(run, token)
    proof = "" if key is None else f" {_proof(key, request)}"
    with written_whole(run / CONTROL) as beside:
        beside.write_text(f"{request}{proof}\n", encoding="utf-8")


def _written(file: Path) -> tuple[str, str]:
    """A request and its proof; empty if there is none, or it is just being written."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    word, _, proof = text.strip().partition(" ")
    return word, proof


def _checked_key(run: Path, token: str | None) -> bytes | None:
    try:
        public = json.loads((run / PROTECTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if token is None:
        raise WrongToken(f"{run} was started with a token: give it with --token")
    key = _key(token, bytes.fromhex(public["salt"]))
    if not _same(_proof(key, "check"), public["check"]):
        raise WrongToken(f"this is not the token that {run} was started with")
    return key


def _key(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode(), salt=salt, **_SCRYPT)


def _proof(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
