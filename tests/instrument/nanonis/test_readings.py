"""Controllers that answer otherwise: zeros for NaN, what was set where a Get should count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_gym.config import EnvConfig
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.instrument.nanonis.preflight import inspect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.instrument.unscanned import unscanned_as_nan
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Frame, Pulse
from tests.support.nanonis_lab import (
    CALM,
    HERE,
    lab,
    new_controller,
)
from tests.support.virtual import nanonis_settings

SWITCHES = {
    "AutoApproach.OnOffGet": ("on",),
    "SafeTip.OnOffGet": ("on",),
    "SafeTip.PropsGet": ("auto_recovery", "auto_pause_scan"),
    "Scan.PropsGet": ("continuous", "bouncy"),
    "Scan.StatusGet": ("running",),
    "TipShaper.PropsGet": ("change_bias", "restore_feedback"),
    "ZCtrl.OnOffGet": ("on",),
}


class Echoing(VirtualController):
    """Tells 2 of a switch that is off, as one sets it."""

    def execute(self, name: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        reply = super().execute(name, *arguments, **more)
        return reply | {key: reply[key] or 2 for key in SWITCHES.get(name, ())}


def echoing() -> Echoing:
    return Echoing(SimulatedMicroscope(CALM, seed=2), time_scale=0)


def stored(controller: VirtualController) -> dict[str, Any]:
    """All settings as the controller keeps them, not as this one tells them."""
    names = ("SafeTip.OnOffGet", "SafeTip.PropsGet", "TipShaper.PropsGet", "Scan.PropsGet")
    found = {name: VirtualController.execute(controller, name, {}) for name in names}
    # No command keeps the names of modules and the pasting that older releases do not have.
    kept = ("continuous", "bouncy", "autosave", "series_name", "comment")
    return {**found, "Scan.PropsGet": {key: found["Scan.PropsGet"][key] for key in kept}}


@pytest.mark.parametrize("on", [True, False])
def test_a_controller_that_echoes_what_was_set_is_left_as_it_was(on: bool) -> None:
    controller = echoing()
    switch = 1 if on else 2
    controller.execute("SafeTip.OnOffSet", {"on": switch})
    flags = {"auto_recovery": int(on), "auto_pause_scan": int(on)}
    controller.execute("SafeTip.PropsSet", {**flags, "threshold": 3e-9})
    before = stored(controller)
    with lab(controller=controller, shaping={"safe_tip_nA": 5.0}) as (instrument, _):
        instrument.condition(Pulse(2.5), 0.0, 0.0)
        scan = instrument.scan(HERE)
        instrument.withdraw()
        instrument.approach()
    assert np.isfinite(scan.z).all()
    assert stored(controller) == before


def test_a_safe_tip_that_is_told_to_be_off_is_not_taken_for_on() -> None:
    controller = echoing()
    controller.execute("SafeTip.OnOffSet", {"on": 2})
    controller.execute(
        "SafeTip.PropsSet", {"auto_recovery": 0, "auto_pause_scan": 0, "threshold": 1e-12}
    )
    with lab(controller=controller) as (
        instrument,
        _,
    ):  # a Safe Tip of 1 pA that were on would be refused
        instrument.scan(HERE)


def test_no_scan_runs_where_the_status_is_2() -> None:
    with VirtualNanonis(echoing(), ports=(0, 0)) as server:
        found = inspect(nanonis_settings(ports=server.ports), EnvConfig()).findings
    assert not [finding for finding in found if finding.trouble]


def test_a_bias_changes_its_sign_where_the_feedback_is_told_by_2() -> None:
    with lab(controller=echoing(), imaging={"bias_V": -1.0}) as (instrument, _):
        assert instrument.status().bias == -1.0


def test_what_a_stopped_scan_has_not_reached_is_not_a_height() -> None:
    """A long scan is stopped when the tip has left the surface; its buffer is full of zeros."""
    controller = new_controller(zero_filled=True)
    loss = Fault(fault="lost_contact", command="Scan.WaitEndOfScan", nth=10)
    slow = {"speed_nm_per_s": 4.0}
    with lab(loss, controller=controller, imaging=slow) as (instrument, _):
        scan = instrument.scan(HERE)
        scanned = np.isfinite(scan.z).all(axis=1)
        assert 0 < scanned.sum() < 64
        assert np.isnan(scan.z[~scanned]).all()
        assert scanned.tolist() == sorted(scanned, reverse=True)
        assert diagnose(scan) is Diagnosis.LOST_CONTACT
        instrument.approach()
        assert np.isfinite(instrument.scan(Frame(0.0, 0.0, 1e-9, 64)).z).all()


def test_zeros_that_are_no_heights() -> None:
    z = np.full((4, 5), 1e-9, dtype=np.float32)
    z[1, 2] = 0.0  # a single height may be just that
    z[2, 3:] = 0.0
    z[3] = 0.0
    found = unscanned_as_nan(z.copy())
    assert np.isnan(found[3]).all()
    assert np.isnan(found[2]).tolist() == [False, False, False, True, True]
    assert np.isfinite(found[:2]).all()
    assert np.isnan(unscanned_as_nan(np.zeros((2, 2), dtype=np.float32))).all()
    untouched = np.full((2, 2), np.nan, dtype=np.float32)
    untouched[0] = -90e-9
    assert np.array_equal(unscanned_as_nan(untouched.copy()), untouched, equal_nan=True)
