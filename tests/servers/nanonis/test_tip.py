"""Dips and pulses of the virtual controller."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.settings_pages import (
    CommandPanel,
    frame,
)

NM = 1e-9


def test_a_dip_leaves_an_imprint(panel: CommandPanel) -> None:
    before = panel.scan(frame())
    panel.dip(3 * NM)
    after = panel.scan(frame())
    changed = np.abs(after - before)
    assert changed[24:40, 24:40].max() > 0.5 * NM


def test_the_shaper_is_not_refused_but_does_nothing_out_of_contact(panel: CommandPanel) -> None:
    panel.controller.inject("lost contact")
    before = panel.microscope.get_state()["fate"]
    panel.dip(3 * NM)
    panel("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    panel("ZCtrl.Withdraw", 1, -1)
    panel.dip(3 * NM)
    panel("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    assert panel.microscope.get_state()["fate"] == before


@pytest.mark.parametrize(("bias", "acts"), [(5.0, True), (0.5, False)])
def test_a_lift_at_high_bias_is_a_pulse(panel: CommandPanel, bias: float, acts: bool) -> None:
    before = panel.microscope.get_state()["fate"]
    panel.dip(-2 * NM, bias=bias)
    assert (panel.microscope.get_state()["fate"] != before) == acts


def test_the_shaper_can_leave_the_feedback_off(panel: CommandPanel) -> None:
    surface = panel("ZCtrl.ZPosGet")
    panel("TipShaper.PropsSet", 0, 2, 0, -1e-9, 0.1, 0, 0, 4e-9, 0.1, 0, 2)
    panel("TipShaper.Start", 1, -1)
    assert panel("ZCtrl.OnOffGet") == 0
    assert panel("ZCtrl.ZPosGet") == pytest.approx(surface + 3 * NM)


def test_relative_pulses_add_to_the_bias() -> None:
    absolute, relative = CommandPanel(), CommandPanel()
    for panel in (absolute, relative):
        panel("Bias.Set", -1.0)
    absolute("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
    relative("Bias.Pulse", 1, 0.1, -3.0, 1, 1)
    assert np.array_equal(absolute.scan(frame()), relative.scan(frame()))
    assert relative("Bias.Get") == -1


def test_an_act_ends_the_scan(panel: CommandPanel) -> None:
    panel.start(frame())
    panel("Scan.WaitEndOfScan", 4000)
    panel.dip(1 * NM)
    assert panel("Scan.StatusGet") == 0
    assert np.isfinite(panel.grab()).any(axis=1).sum() == 16
