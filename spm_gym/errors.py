"""Errors that cross module boundaries, and a short form of values for their messages."""

from __future__ import annotations

_LONGEST = 60


def brief(value: object) -> str:
    """Write a value, even a whole array, in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def one_line(error: BaseException) -> str:
    """Put the message of an error on one line."""
    return " ".join(str(error).split())


class UsageError(ValueError):
    """The command line requests the impossible; the message names the possible."""


class InstrumentError(RuntimeError):
    """Anything that went wrong at the instrument."""


class ConnectionLost(InstrumentError):
    """The connection broke, or none could be made."""


class OutcomeUnknown(InstrumentError):
    """A physical act was sent and its reply never came.

    A person must inspect the instrument. The act is never sent again: a second
    dip at the same place can destroy the tip that the first one has made.
    """


class BadReply(InstrumentError):
    """The answer of the instrument makes no sense."""


class TimedOut(InstrumentError):
    """No answer came in time."""


class CommandFailed(InstrumentError):
    """The instrument answered that it did not carry out the command."""


class LimitExceeded(InstrumentError):
    """The request lies outside the configured limits; nothing was sent."""


class UnsafeToContinue(InstrumentError):
    """Something differs from the settings: going on could harm tip, sample or instrument."""


# Unsafe, not just unusable: an agent that acts on verdicts without meaning conditions for ever.
class UnclassifiableImage(UnsafeToContinue):
    """The classifier or network cannot decide on this image, or was trained for other ones."""


class ContactLost(InstrumentError):
    """The z piezo is fully extended and there is no tunnelling current."""


# To be caught before ContactLost: contact that was lost is found again by an approach, but a tip
# that a person has withdrawn stays where it is.
class TipWithdrawn(ContactLost):
    """The tip was withdrawn, by us or by a person, so the feedback does not hold it."""


class TipCrashed(InstrumentError):
    """The z piezo is fully retracted and the tip still touches the surface."""


class Aborted(InstrumentError):
    """A scan or an approach was stopped because the run received another command."""
