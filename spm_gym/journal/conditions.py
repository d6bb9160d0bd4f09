"""Conditions in SQL that have a name, so that everybody who counts counts the same."""

from __future__ import annotations

from spm_gym.journal.reader import Label

UNDECIDED = "undecided"
"""Stands for the label of a scan that has none yet."""

CLASSIFIED = (Label.GOOD, Label.BAD_PROBE)
"""Labels of the images outside conditioning that say how the probe was."""

CLASSIFIED_SQL = ", ".join(f"'{label}'" for label in CLASSIFIED)

# IS NOT, for "<>" is never true of NULL, the label of an image that is still to be classified.
WHOLE = f"fraction = 1 AND label IS NOT '{Label.DISCARDED}'"
"""Scans that are images or previews."""

IMAGE = f"{WHOLE} AND lines = pixels"
"""Scans that are images."""

UNCERTAIN = "uncertain OR (act IS NULL AND NOT refused AND scan_after IS NOT NULL)"
"""Steps whose action may not have been carried out."""

FINISHED = "outcome IN ('good', 'limit')"
"""Episodes that came to an end of their own; others are under way, or were cut off."""
