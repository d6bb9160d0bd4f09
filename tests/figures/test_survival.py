from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from agents.evaluation import Episode, summarise
from spm_gym.figures.evaluation import plot_lengths
from spm_gym.figures.survival import draw_survival
from spm_gym.survival import Endings, survival_curve


def test_a_curve_begins_at_one_and_has_a_band_and_a_tick_where_it_is_cut_off() -> None:
    axes = Figure().subplots()
    endings = Endings([1, 2, 2, 5, 7, 9], [True, True, True, False, True, False])
    draw_survival(axes, endings, "tab:blue", "--", "agent")
    curve, ticks = axes.lines
    steps = curve.get_xydata()
    assert steps[0].tolist() == [0, 1]
    assert steps[1:, 1] == pytest.approx(survival_curve(endings).shares)
    assert ticks.get_xdata() == pytest.approx([5, 9])
    assert axes.get_legend_handles_labels()[1] == ["agent"]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() >= 0
    assert heights.max() <= 1


def test_nothing_is_cut_off_without_a_tick() -> None:
    axes = Figure().subplots()
    draw_survival(axes, Endings([1, 2], [True, True]), "k", "-", "a")
    assert len(axes.lines) == 1


@pytest.mark.parametrize("good", [True, False])
def test_an_evaluation_in_which_all_or_none_ended_good_is_drawn(tmp_path: Path, good: bool) -> None:
    lengths = np.random.default_rng(0).geometric(0.3, 20)
    results = {
        name: [Episode(int(n), 0.0, good, seconds=20.0 * n) for n in lengths]
        for name in ("agent", "random")
    }
    summary = json.loads(json.dumps(summarise(results, 0), allow_nan=False))
    plot_lengths(summary, tmp_path / "evaluation.svg")
    assert (tmp_path / "evaluation.svg").stat().st_size > 5000
