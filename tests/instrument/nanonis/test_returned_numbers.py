"""Numbers from a controller that are none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.errors import (
    BadReply,
    InstrumentError,
)
from spm_gym.types import Pulse
from tests.support.nanonis_lab import (
    HERE,
    NM,
    Direct,
    lab,
    new_controller,
    sent,
)

NUMBERS = {
    "FolMe.XYPosGet": ("x", "y"),
    "FolMe.SpeedGet": ("speed",),
    "ZCtrl.ZPosGet": ("z",),
    "ZCtrl.SetpntGet": ("setpoint",),
    "Bias.Get": ("bias",),
    "Current.Get": ("current",),
    "Scan.SpeedGet": ("fwd_speed", "speed_ratio"),
    "Scan.FrameGet": ("centre_x", "width", "angle"),
    "TipShaper.PropsGet": ("tip_lift", "bias"),
}
PLACES = [(name, key) for name, keys in NUMBERS.items() for key in keys]
_OF_SCANS = ("Bias.Get", "ZCtrl.SetpntGet", "Scan.SpeedGet", "Scan.FrameGet")
ASKED_BY_SCANS = [place for place in PLACES if place[0] in _OF_SCANS]
ASKED_BY_ACTS = [place for place in PLACES if place[1] != "speed_ratio"]


@given(
    place=st.sampled_from(PLACES),
    value=st.sampled_from([math.nan, math.inf, -math.inf, 1e-40, -1e-40, 0.0]),
    act=st.sampled_from(["pulse", "dip", "scan"]),
)
def test_whatever_number_a_controller_returns_no_act_is_done_elsewhere_and_none_is_unknown(
    place: tuple[str, str], value: float, act: str
) -> None:
    from spm_gym.errors import OutcomeUnknown
    from spm_gym.types import Dip

    command, key = place
    if act == "pulse" and command == "TipShaper.PropsGet":
        return
    with lab() as (instrument, controller):
        call = instrument._main.call

        def lying(name: str, **rest: Any) -> dict[str, Any]:
            reply = call(name, **rest)
            return {**reply, key: value} if name == command else reply

        instrument._main.call = lying  # type: ignore[method-assign]
        try:
            if act == "scan":
                instrument.scan(HERE)
            else:
                action = Pulse(4.0) if act == "pulse" else Dip(1 * NM)
                instrument.condition(action, 5 * NM, 6 * NM)
        except InstrumentError as error:
            if isinstance(error, OutcomeUnknown):
                assert sent(controller, "Bias.Pulse", "TipShaper.Start")
            else:
                assert not sent(controller, "Bias.Pulse", "TipShaper.Start")
        else:
            asked = ASKED_BY_SCANS if act == "scan" else ASKED_BY_ACTS
            assert not math.isnan(value) or place not in asked
        instrument._main.call = call  # type: ignore[method-assign]


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (math.nan, 1e-7), (0.0, 0.0)])
def test_a_z_range_that_is_none_is_refused(low: float, high: float) -> None:
    from spm_gym.instrument.nanonis.reading import read_z_range

    direct = Direct(new_controller())
    direct.call = lambda name, **rest: {"low": low, "high": high}  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        read_z_range(direct)  # type: ignore[arg-type]
