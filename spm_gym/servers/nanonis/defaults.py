"""Default settings of the virtual controller, and how each Set changes them.

Many pairs of commands count differently: a Set has 0 for "no change", while its Get starts at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[Any, Any], Any]

INDEXES = ("modulator", "demodulator", "output")
"""Arguments that choose one of several equal devices."""


def _switch(new: Any, old: Any) -> Any:
    """Apply 0 no change, 1 on, 2 off; a Get returns 0 or 1."""
    return {0: old, 2: 0}.get(new, 1)


def _choice(new: Any, old: Any) -> Any:
    """Apply 0 as no change; a Get counts the other values from 0."""
    return new - 1 if new else old


def _unless_empty(new: Any, old: Any) -> Any:
    """Apply 0 or an empty text as no change."""
    return new or old


def _unless_two(new: Any, old: Any) -> Any:
    return old if new == 2 else new


def _unless_negative(new: Any, old: Any) -> Any:
    return new if new >= 0 else old


_RULES: dict[str, dict[str, Rule]] = {
    "BiasSpectr.AdvProps": dict.fromkeys(
        ("reset_bias", "z_ctrl_hold", "record_final_z", "lock_in_run"), _switch
    ),
    "BiasSpectr.AltZCtrl": {"on": _switch},
    "BiasSpectr.Props": {
        **dict.fromkeys(("save_all", "backward", "autosave", "save_dialog"), _switch),
        **dict.fromkeys(("sweeps", "points"), _unless_empty),
    },
    "Current.Gain": dict.fromkeys(("gain", "filter"), _unless_negative),
    "FolMe.PSProps": {"auto_resume": _switch, "own_basename": _choice},
    "LockIn.DemodLPFilter": {"order": _unless_negative, "cutoff": _unless_empty},
    "LockIn.DemodHPFilter": {"order": _unless_negative, "cutoff": _unless_empty},
    "Piezo.XYZLimits": {"on": _switch},
    "SafeTip.OnOff": {"on": _switch},
    "Scan.Props": {
        "continuous": _switch,
        "bouncy": _switch,
        "autosave": _choice,
        "autopaste": _choice,
        "series_name": _unless_empty,
    },
    "TipShaper.Props": dict.fromkeys(("change_bias", "restore_feedback"), _switch),
    "ZCtrl.HomeProps": {"mode": _choice},
    "ZSpectr.AdvProps": dict.fromkeys(("record_final_z", "lock_in_run", "reset_z"), _switch),
    "ZSpectr.Props": {
        **dict.fromkeys(("backward", "autosave", "save_dialog", "save_all"), _switch),
        **dict.fromkeys(("sweeps", "points"), _unless_empty),
    },
    "ZSpectr.Retract": {
        "on": _switch,
        "signal_index": _unless_negative,
        "comparison": _unless_two,
    },
    "ZSpectr.Retract2nd": {
        "condition": _choice,
        "signal_index": _unless_negative,
        "comparison": _unless_two,
    },
}


def rules(release: int) -> Mapping[str, Mapping[str, Rule]]:
    """Return how a Set changes values, by setting and argument, where it does not just replace."""
    # The numbers of the drift compensation have changed twice: at first there was no "no change",
    # then it was -1, and now it is 0.
    if release < 11798:
        return _RULES
    drift: Rule = _unless_negative if release < 14429 else _switch
    return {**_RULES, "Piezo.DriftComp": {"on": drift}}


# Values of a real controller where they are known, otherwise plausible ones.
_TIMEBASES = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
_GAINS = [f"LN 10^{power}" for power in range(3, 10)] + [f"HS 10^{power}" for power in range(3, 10)]

DEFAULTS: dict[str, dict[str, Any]] = {
    "Bias.Calibr": {"calibration": 1.0},
    "Bias.Range": {"range_names": ["+-10 V", "+-1 V"]},
    "BiasSpectr.Chs": {"channel_indexes": [0]},
    "BiasSpectr.Limits": {"start": -1.0, "end": 1.0},
    "BiasSpectr.MLSMode": {"mode": "Linear"},
    "BiasSpectr.MLSVals": {
        "n": 1,
        "bias_start": [-1.0],
        "bias_end": [1.0],
        "initial_settling": [0.01],
        "settling": [0.001],
        "integration": [0.001],
        "steps": [64],
        "lock_in_run": [0],
    },
    "BiasSpectr.Props": {
        "sweeps": 1,
        "points": 64,
        "channels": ["Current (A)"],
        "fixed_parameters": ["X (m)", "Y (m)", "Z (m)", "Sweep Start (V)", "Sweep End (V)"],
    },
    "BiasSpectr.Timing": {
        "z_averaging": 0.01,
        "initial_settling": 0.01,
        "max_slew": 100.0,
        "settling": 0.001,
        "integration": 0.001,
        "end_settling": 0.01,
        "z_control": 0.1,
    },
    "Current.Calibr": {"calibration": 1e-9},
    "Current.Gain": {"gain": 6, "filter": 0, "gains": _GAINS, "filters": ["full bandwidth"]},
    "FolMe.Oversampl": {"oversampling": 10, "rate": 1000.0},
    "FolMe.PSExp": {"experiments": ["Bias Spectroscopy", "Z Spectroscopy", "External VI"]},
    "FolMe.Speed": {"speed": 80e-9},
    "LockIn.ModAmp": {"amplitude": 0.01},
    "LockIn.ModHarmonic": {"harmonic": 1},
    "LockIn.ModPhasFreq": {"frequency": 877.0},
    "LockIn.ModPhasReg": {"register": 1},
    "LockIn.ModSignal": {"signal_index": 24},
    "LockIn.DemodLPFilter": {"order": 2, "cutoff": 100.0},
    "LockIn.DemodHarmonic": {"harmonic": 1},
    "LockIn.DemodHPFilter": {"order": 0, "cutoff": 10.0},
    "LockIn.DemodPhasReg": {"register": 1},
    "Motor.FreqAmp": {"frequency": 1000.0, "amplitude": 200.0},
    "Osci2T.Chs": {"channel_a": 0, "channel_b": 30},
    "Osci1T.Timebase": {"n": len(_TIMEBASES), "timebases": _TIMEBASES},
    "Osci2T.Timebase": {"n": len(_TIMEBASES), "timebases": _TIMEBASES},
    "Pattern.Grid": {"nx": 8, "ny": 8, "width": 10e-9, "height": 10e-9},
    "Piezo.DriftComp": {"saturation": 10.0},
    "SafeTip.Props": {"threshold": 3e-9},
    "Scan.Buffer": {"channel_indexes": [0, 30], "pixels": 64, "lines": 64},
    "Scan.Frame": {
        "centre_x": 0.0,
        "centre_y": 0.0,
        "width": 10e-9,
        "height": 10e-9,
        "angle": 0.0,
    },
    "Scan.Props": {
        "continuous": 0,
        "bouncy": 0,
        "autosave": 2,
        "series_name": "scan",
        "comment": "",
        "autopaste": 2,
    },
    "Scan.Speed": {"fwd_speed": 80e-9, "fwd_time": 0.125, "constant": 0, "speed_ratio": 1.0},
    "TipRec.BufferSize": {"size": 1000},
    "TipShaper.Props": {
        "switch_off_delay": 0.05,
        "change_bias": 0,
        "bias": 0.02,
        "tip_lift": -1e-9,
        "lift_time_1": 0.2,
        "bias_lift": 0.02,
        "bias_settling_time": 0.05,
        "lift_height": 1e-9,
        "lift_time_2": 0.2,
        "end_wait": 0.05,
        "restore_feedback": 1,
    },
    "UserOut.Calibr": {"calibration": 1.0},
    "UserOut.Limits": {"upper": 10.0, "lower": -10.0},
    "Util.AcqPeriod": {"tap": 0.02},
    "Util.RTFreq": {"frequency": 20000.0},
    "Util.RTOversampl": {"oversampling": 10},
    "ZCtrl.Gain": {"p": 1.5e-12, "time_constant": 1e-4, "i": 1.5e-8},
    "ZCtrl.SwitchOffDelay": {"delay": 0.0},
    "ZCtrl.TipLift": {"lift": 0.0},
    "ZCtrl.WithdrawRate": {"rate": 1e-6},
    "ZSpectr.AdvProps": {"reset_z": 1},
    "ZSpectr.Chs": {"channel_indexes": [0]},
    "ZSpectr.Props": {
        "sweeps": 1,
        "points": 64,
        "channels": ["Current (A)"],
        "fixed_parameters": ["X (m)", "Y (m)", "Z (m)", "Z offset (m)", "Z sweep distance (m)"],
    },
    "ZSpectr.Range": {"z_offset": 0.0, "distance": 0.5e-9},
    "ZSpectr.Timing": {
        "z_averaging": 0.01,
        "initial_settling": 0.01,
        "max_slew": 100.0,
        "settling": 0.001,
        "integration": 0.001,
        "end_settling": 0.01,
        "z_control": 0.1,
    },
}
