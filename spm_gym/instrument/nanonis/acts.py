"""Conditioning with a Nanonis controller: bias pulses and dips."""

from __future__ import annotations

import math
from typing import Any

from spm_gym.config.real import ShapingConfig
from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.types import Dip, Pulse

_HOLD_FEEDBACK, _ABSOLUTE, _YES, _FOR_EVER = 1, 2, 1, -1
_SAFE_TIP_ON, _SAFE_TIP_OFF = 1, 2


def duration(act: Pulse | Dip, shaping: ShapingConfig) -> float:
    """How long the controller is busy with it, s."""
    if isinstance(act, Pulse):
        return act.width
    # Down and up again, with a pause after either: the order of the module Tip Shaper.
    pauses = shaping.switch_off_delay_s + 2 * shaping.settle_s + shaping.end_wait_s
    return 2 * act.width + pauses


def prepare(controller: Controller, act: Pulse | Dip, shaping: ShapingConfig) -> None:
    """Set everything up for `carry_out`; does nothing to the probe.

    Raises:
        InstrumentError: The tip shaper does not take such values.
    """
    if isinstance(act, Dip):
        _set_shaper(controller, act, shaping)
    if shaping.safe_tip_nA is not None:
        # A deliberate act draws more current than a scan ever should.
        controller.call("SafeTip.OnOffSet", on=_SAFE_TIP_OFF)


def carry_out(controller: Controller, act: Pulse | Dip, shaping: ShapingConfig) -> None:
    """Do it; the controller replies when it is over.

    Raises:
        OutcomeUnknown: The reply never came.
    """
    takes = duration(act, shaping)
    if isinstance(act, Pulse):
        # Absolute is 2 in all three protocol documents; vendor examples take 1 for it, which is
        # relative. The feedback is held, or it would follow the pulse into the sample.
        controller.call(
            "Bias.Pulse", takes=takes, act=True, wait=1, width=act.width, bias=act.bias,
            z_control=_HOLD_FEEDBACK, mode=_ABSOLUTE,
        )  # fmt: skip
    else:
        # The reply does not say when the controller stopped waiting, so we give up first.
        controller.call("TipShaper.Start", takes=takes, act=True, wait=1, timeout=_FOR_EVER)


def watch_tip(controller: Controller, shaping: ShapingConfig) -> None:
    """Have the controller withdraw the tip by itself above the configured current, if any."""
    if shaping.safe_tip_nA is not None:
        # No recovery by itself: it would put a tip back that a run takes for withdrawn.
        controller.call(
            "SafeTip.PropsSet", auto_recovery=0, auto_pause_scan=0,
            threshold=shaping.safe_tip_nA * 1e-9,
        )  # fmt: skip
        controller.call("SafeTip.OnOffSet", on=_SAFE_TIP_ON)


def _set_shaper(controller: Controller, dip: Dip, shaping: ShapingConfig) -> None:
    """Down in the dip's width, a pause, up again in the same time, all at the dip's bias."""
    required: dict[str, Any] = {
        "switch_off_delay": shaping.switch_off_delay_s, "bias": dip.bias,
        "tip_lift": -dip.depth, "lift_time_1": dip.width, "bias_lift": dip.bias,
        "bias_settling_time": shaping.settle_s, "lift_height": dip.depth,
        "lift_time_2": dip.width, "end_wait": shaping.end_wait_s,
    }  # fmt: skip
    controller.call("TipShaper.PropsSet", **required, change_bias=_YES, restore_feedback=_YES)
    # The module clips what it does not take, and a dip of another depth is another act.
    taken = controller.call("TipShaper.PropsGet")
    for name, value in required.items():
        if not math.isclose(taken[name], value, rel_tol=1e-5):
            raise InstrumentError(
                f"the tip shaper made {name} {taken[name]:.6g} of {value:.6g}: nothing was done"
            )
