"""Campaigns beside one another: ratios of their figures, and settings that differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spm_gym.analysis.campaign import ACTION_SET, Campaign, Figure, NoInterval
from spm_gym.intervals import ratio_interval

MISSING = "not set"
"""Stands for a setting that a run does not have."""

_WITHOUT_EFFECT = (
    # When a run ends, which its time of operation shows.
    "operation.hours",
    "operation.scans",
    # What it writes, whom it informs, and how it uses the computer.
    "operation.checkpoint_every",
    "operation.notify",
    "operation.notify_every_s",
    "run.checkpoint_every",
    "run.image_every",
    "run.threads",
)
# Settings of trainings: a run has their results, whose hashes are compared.
_TRAININGS = ("classifier.", "recogniser.")
_MICROSCOPES = {"sim": ("real.",), "real": ("simulator.", "faults")}
"""Beginnings of the settings of the other microscope."""


def ratios(campaign: Campaign, base: Campaign) -> dict[str, Figure]:
    """Divide the figures of a campaign by those of another one, where both have them."""
    return {
        name: _ratio(figure, base.figures[name])
        for name, figure in campaign.figures.items()
        if name in base.figures
    }


def _ratio(figure: Figure, base: Figure) -> Figure:
    if math.isnan(figure.value) or not base.value > 0:
        return Figure(math.nan, NoInterval.NOTHING)
    value = figure.value / base.value
    if isinstance(figure.interval, NoInterval):
        return Figure(value, figure.interval)
    if isinstance(base.interval, NoInterval):
        return Figure(value, base.interval)
    return Figure(value, ratio_interval(figure.value, figure.interval, base.value, base.interval))


def differing_settings(campaigns: Sequence[Campaign]) -> dict[str, list[Any]]:
    """Find the settings that differ, each with its values in the order of the campaigns.

    Campaigns whose settings are not known have `MISSING`; settings that cannot change a figure, and
    those of a microscope that not all have used, are left out.
    """
    known = [each.settings for each in campaigns if each.settings is not None]
    left_out = {
        beginning for settings in known for beginning in _MICROSCOPES[settings["run.microscope"]]
    }.union(_TRAININGS)
    differing = {}
    for key in dict.fromkeys(key for settings in known for key in settings):
        if key in _WITHOUT_EFFECT or key.startswith(tuple(left_out)):
            continue
        values = [settings.get(key, MISSING) for settings in known]
        # The names of the actions show already which of them a run does not have.
        if key.startswith(f"{ACTION_SET}.") and MISSING in values:
            continue
        if any(value != values[0] for value in values):
            differing[key] = [(each.settings or {}).get(key, MISSING) for each in campaigns]
    return differing
