"""Error of the belief agent."""

from __future__ import annotations


class BeliefError(ValueError):
    """A table, an image or a state does not fit the belief agent; the message is one line."""
