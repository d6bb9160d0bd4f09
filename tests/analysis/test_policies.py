"""Survival of the episodes of an interleaved run, in the figures and on the report."""

from __future__ import annotations

import re

import pytest

from spm_gym.analysis.policies import policy_episodes, saved_actions
from spm_gym.journal.reader import reading
from spm_gym.survival import survival_curve
from spm_gym.web.report import render_report
from tests.support.invented_runs import PULSE, InventedRun


def interleave(run: InventedRun, episodes: int) -> None:
    """The agent needs 1 to 3 actions, random choice 2 to 12, and after 12 it is cut off."""
    for number in range(episodes):
        run.condition([PULSE] * (1 + number % 3), values=[0.1, 0.2])
        length = 2 + 3 * number % 13
        run.condition([PULSE] * min(length, 12), "good" if length <= 12 else "limit")
    run.commit()


def test_episodes_that_reached_the_limit_are_censored(run: InventedRun) -> None:
    interleave(run, 26)
    with reading(run.journal.run) as db:
        found = policy_episodes(db)
    random = found["random"]
    assert [length for length, good in zip(random.lengths, random.ended_good, strict=True)
            if not good] == [12] * (26 - random.good)  # fmt: skip
    assert 0 < random.good < 26
    assert survival_curve(random.in_actions).shares[-1] == pytest.approx(1 - random.good / 26)
    assert survival_curve(found["agent"].in_actions).shares[-1] == 0
    p = saved_actions(**found).logrank
    assert p is not None
    assert p < 1e-6


def test_a_report_compares_the_policies_of_an_interleaved_run_only(run: InventedRun) -> None:
    run.condition([PULSE], values=[0.1, 0.2])
    run.commit()
    assert "Survival curves" not in render_report(run.journal.run).html
    run.condition([PULSE] * 3, "limit")
    run.commit()
    page = render_report(run.journal.run).html
    assert "agent, 1 of 1 ended good and random, 0 of 1 ended good" in page
    assert "Log-rank" not in page
    interleave(run, 12)
    found = re.search(r"Log-rank test of their numbers of actions: p = (\S+)\.<", render_report(
        run.journal.run).html)  # fmt: skip
    assert found is not None
    assert float(found.group(1)) < 0.01
