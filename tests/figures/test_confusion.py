"""A confusion matrix is drawn for each number of lines."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.figures.canvas import pixels_of
from spm_gym.figures.confusion import draw_confusion
from spm_gym.figures.networks import PROBES


@pytest.mark.parametrize("lines", [(64,), (8, 16, 64)])
def test_each_matrix_is_drawn_by_the_shares_of_its_rows(lines: tuple[int, ...]) -> None:
    counts = np.diag(np.arange(1, 17))
    counts[3, 5] = 12  # of 16
    counts[7] = 0  # a class that did not occur
    figure = draw_confusion(dict.fromkeys(lines, counts))
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == [f"{each} lines" for each in lines]
    for axes in panels:
        written = {text.get_position(): text.get_text() for text in axes.texts}
        assert written[5, 3] == "75"
        assert written[3, 3] == "25"
        assert written[0, 0] == "100"
        assert not any(row == 7 for _, row in written)
    # Named at the left and at the bottom only: all panels have the same classes.
    assert [each.get_text() for each in panels[0].get_yticklabels()] == list(PROBES)
    assert pixels_of(figure).std() > 10
