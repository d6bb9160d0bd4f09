"""Changes of bias and setpoint that a tip at the surface survives.

At constant current the height follows bias and setpoint. A step is a step in height that the
feedback answers late, by a current many times the setpoint or by driving the tip down; and on the
way from one sign of the bias to the other there is 0 V, where no height gives the setpoint and the
feedback pushes the tip into the sample. So both are ramped while the feedback is on, and the sign
is changed while it is off, at the same magnitude: then the current at that height stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    is_on,
    read_bias,
    read_numbers,
    read_setpoint,
)

_BIAS_RATIO = 1.2
_SETPOINT_RATIO = 1.5
_PAUSE_S = 0.05
_SAME = 1e-4
_ASKED = 100
"""How often the feedback is asked whether it is off, or on, before that is given up."""


def change_bias(controller: Controller, bias: float, sleep: Callable[[float], None]) -> None:
    """Set the bias (V), in small steps if the feedback holds the tip.

    Raises:
        InstrumentError: The controller keeps another one, or does not let the feedback be held.
    """
    now = read_bias(controller)
    if math.isclose(now, bias, rel_tol=_SAME):
        return
    # A tip in the air follows nothing: there a single step does no harm.
    if holds_tip(controller):
        if now * bias < 0:
            now = -now
            _flip_sign(controller, now, sleep)
        for step in _between(now, bias, _BIAS_RATIO):
            controller.call("Bias.Set", bias=step)
            sleep(_PAUSE_S)
    controller.call("Bias.Set", bias=bias)
    _confirm("bias", read_bias(controller), bias, "V")


def change_setpoint(
    controller: Controller, setpoint: float, sleep: Callable[[float], None]
) -> None:
    """Set the magnitude of the setpoint (A), in small steps if the feedback holds the tip.

    Its sign stays: it is that of the current as the preamplifier gives it, and with the other one
    the feedback would drive the tip into the sample to reach it.

    Raises:
        InstrumentError: The controller keeps another one.
    """
    now = read_setpoint(controller)
    setpoint = math.copysign(setpoint, now)
    if math.isclose(now, setpoint, rel_tol=_SAME):
        return
    if holds_tip(controller):
        for step in _between(now, setpoint, _SETPOINT_RATIO):
            controller.call("ZCtrl.SetpntSet", setpoint=step)
            sleep(_PAUSE_S)
    controller.call("ZCtrl.SetpntSet", setpoint=setpoint)
    _confirm("setpoint", read_setpoint(controller), setpoint, "A")


def _between(start: float, end: float, ratio: float) -> list[float]:
    """Give the values between, each at most ``ratio`` times the one before; no sign is changed."""
    if not start * end > 0:
        return []
    # By a ratio, not a difference: the height goes with the logarithm of bias and setpoint.
    steps = math.ceil(abs(math.log(end / start)) / math.log(ratio))
    return [start * (end / start) ** (number / steps) for number in range(1, steps)]


def _flip_sign(controller: Controller, bias: float, sleep: Callable[[float], None]) -> None:
    """Change the sign of the bias with the feedback held, then let it go on."""
    (lift,) = read_numbers(controller, "ZCtrl.TipLiftGet", "lift")
    # Negative lifts lead towards the sample (protocol document, ZCtrl.TipLiftSet).
    if lift < 0:
        raise InstrumentError(
            f"the bias is to change its sign, but the controller's tip lift of {lift * 1e9:.3g} nm "
            "would press the tip into the sample when the feedback is switched off: set the lift "
            "to 0, or withdraw the tip first"
        )
    controller.call("ZCtrl.OnOffSet", on=0)
    try:
        # The command returns before the loop is off (switch-off delay).
        _await_feedback(controller, False, sleep)
        controller.call("Bias.Set", bias=bias)
        _confirm("bias", read_bias(controller), bias, "V")
    finally:
        # Whatever went wrong, a tip whose feedback is off drifts into the sample.
        controller.call("ZCtrl.OnOffSet", on=1)
    _await_feedback(controller, True, sleep)


def _await_feedback(controller: Controller, on: bool, sleep: Callable[[float], None]) -> None:
    for _ in range(_ASKED):
        if is_on(controller.call("ZCtrl.OnOffGet")["on"]) is on:
            return
        sleep(_PAUSE_S)
    raise InstrumentError(
        f"the bias is to change its sign, and the feedback is not switched {'on' if on else 'off'}"
    )


def _confirm(name: str, taken: float, expected: float, unit: str) -> None:
    if not math.isclose(taken, expected, rel_tol=1e-3):
        raise InstrumentError(
            f"the controller keeps a {name} of {taken:.6g} {unit} instead of {expected:.6g} {unit}"
        )
