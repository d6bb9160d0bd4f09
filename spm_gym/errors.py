"""Errors that cross module boundaries, and values as their messages show them."""

from __future__ import annotations

_LONGEST = 60


def brief(value: object) -> str:
    """A value in one short line, also if it is an array."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


class UsageError(ValueError):
    """The command line asks for something that cannot be done; the message says what would."""


class InstrumentError(RuntimeError):
    """Anything that went wrong at the instrument."""


class ConnectionLost(InstrumentError):
    """The connection broke or none could be had."""


class OutcomeUnknown(InstrumentError):
    """A physical act was sent and its reply never came: look at the instrument, never repeat it."""


class BadReply(InstrumentError):
    """The instrument answered something that makes no sense."""


class TimedOut(InstrumentError):
    """No answer came in time."""


class CommandFailed(InstrumentError):
    """The instrument answered that it could not or would not do what it was told."""


class LimitExceeded(InstrumentError):
    """The request lies outside the configured limits; nothing was sent."""


class UnsafeToContinue(InstrumentError):
    """Something is not as the settings say: going on could harm tip, sample or instrument."""


class UnclassifiableImage(UnsafeToContinue):
    """What decides has no answer for this image, or was trained for others: nothing rests on it."""


class ContactLost(InstrumentError):
    """The z piezo is fully extended and there is no tunnelling current."""


class TipWithdrawn(ContactLost):
    """The feedback does not hold the tip: it was withdrawn, by whomever."""


class TipCrashed(InstrumentError):
    """The z piezo is fully retracted and the tip still touches the surface."""


class Aborted(InstrumentError):
    """A scan or an approach was stopped because the run is asked for something else."""
