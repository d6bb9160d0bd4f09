"""The settings of a controller that a run changes: read before, restored afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.atomic_file import written_whole
from spm_gym.config.json_file import read_json
from spm_gym.config.real import LimitsConfig
from spm_gym.errors import BadReply, InstrumentError
from spm_gym.instrument.limits import check_bias
from spm_gym.instrument.nanonis.commands import RT_INDEXES_SINCE, commands
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.ownership import without_mark
from spm_gym.instrument.nanonis.ramp import change_bias, change_setpoint
from spm_gym.instrument.nanonis.reading import holds_tip, is_on
from spm_gym.instrument.nanonis.shutdown import Step
from spm_gym.instrument.nanonis.wire import encode_request

Values = dict[str, Any]

_RESTORED_PROPERTIES = ("continuous", "bouncy", "autosave", "series_name", "comment")
_SWITCHES = (
    "continuous", "bouncy", "change_bias", "restore_feedback", "on", "auto_recovery",
    "auto_pause_scan",
)  # fmt: skip
_AUTOSAVE_OFF, _CONSTANT_TIME = 3, 2
"""The last choice that a Set knows: a Get reports one less."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Return values of the commands that read them."""

    bias: Values
    setpoint: Values
    frame: Values
    buffer: Values
    speed: Values
    properties: Values
    shaper: Values
    safe_tip: Values
    safe_tip_on: Values

    @staticmethod
    def read(controller: Controller) -> Settings:
        """Ask the controller; changes nothing.

        Raises:
            BadReply: A number is infinite or none, and could never be restored.
        """
        settings = Settings(
            bias=_plain(controller.call("Bias.Get")),
            setpoint=_plain(controller.call("ZCtrl.SetpntGet")),
            frame=_plain(controller.call("Scan.FrameGet")),
            buffer=_plain(controller.call("Scan.BufferGet")),
            speed=_plain(controller.call("Scan.SpeedGet")),
            properties=_plain(controller.call("Scan.PropsGet")),
            shaper=_plain(controller.call("TipShaper.PropsGet")),
            safe_tip=_plain(controller.call("SafeTip.PropsGet")),
            safe_tip_on=_plain(controller.call("SafeTip.OnOffGet")),
        )
        for name, values in asdict(settings).items():
            for key, value in values.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise BadReply(f"the controller's {name} has {key} = {value:g}")
        # A run that was killed may have left its mark; that is none of the operator's words.
        properties = settings.properties
        comment = without_mark(properties["comment"])
        return replace(settings, properties={**properties, "comment": comment})

    def restore(
        self, controller: Controller, limits: LimitsConfig, sleep: Callable[[float], None]
    ) -> list[Step]:
        """Steps that restore everything, each read back; with what is missing otherwise."""
        bias, setpoint = self.bias["bias"], self.setpoint["setpoint"]
        steps: list[Step] = [
            ("bias not restored", partial(_restore_bias, controller, bias, limits, sleep)),
            ("setpoint not restored", partial(change_setpoint, controller, setpoint, sleep)),
        ]
        for name, setter, values, getter, kept in self._commands():
            restore = partial(_restore, controller, setter, values, getter, kept)
            steps.append((f"{name} not restored", restore))
        steps.append(("scan properties not restored", partial(self._restore_names, controller)))
        return steps

    def _restore_names(self, controller: Controller) -> None:
        """Restore series name, comment and flags of scans."""
        values = self._names(controller.release)
        kept = {key: self.properties[key] for key in _RESTORED_PROPERTIES}
        try:
            _restore(controller, "Scan.PropsSet", values, "Scan.PropsGet", kept)
        except InstrumentError:
            # An empty text may mean "no change" (no document says); then a blank has to do.
            if values["comment"]:
                raise
            values["comment"] = kept["comment"] = " "
            _restore(controller, "Scan.PropsSet", values, "Scan.PropsGet", kept)

    def _names(self, release: int) -> Values:
        return properties_to_set(
            release,
            self.properties,
            continuous=_switch_to_set(self.properties["continuous"]),
            bouncy=_switch_to_set(self.properties["bouncy"]),
            autosave=min(self.properties["autosave"] + 1, _AUTOSAVE_OFF),
        )

    def _requests(self, release: int) -> list[tuple[str, Values]]:
        """All commands that restoring takes, and their arguments."""
        return [
            ("Bias.Set", self.bias),
            ("ZCtrl.SetpntSet", self.setpoint),
            ("Scan.PropsSet", self._names(release)),
            *((setter, values) for _, setter, values, _, _ in self._commands()),
        ]

    def _commands(self) -> list[tuple[str, str, Values, str, Values]]:
        """List name, Set with values, and Get with what it must return, of all that is restored."""
        safe_tip = {"on": _switch_to_set(self.safe_tip_on["on"])}
        guard = {
            **self.safe_tip,
            **{key: int(is_on(self.safe_tip[key])) for key in ("auto_recovery", "auto_pause_scan")},
        }
        return [
            ("scan frame", "Scan.FrameSet", self.frame, "Scan.FrameGet", self.frame),
            ("scan buffer", "Scan.BufferSet", self.buffer, "Scan.BufferGet", self.buffer),
            ("scan speed", "Scan.SpeedSet", _speed_to_set(self.speed), "Scan.SpeedGet",
             {key: self.speed[key] for key in ("fwd_speed", "speed_ratio", "constant")}),
            ("tip shaper", "TipShaper.PropsSet", _shaper_to_set(self.shaper),
             "TipShaper.PropsGet", self.shaper),
            ("safe tip", "SafeTip.PropsSet", guard, "SafeTip.PropsGet", self.safe_tip),
            ("safe tip", "SafeTip.OnOffSet", safe_tip, "SafeTip.OnOffGet", self.safe_tip_on),
        ]  # fmt: skip

    def save(self, path: Path) -> None:
        """Write them to a file, for a run that cannot restore them itself."""
        with written_whole(path) as beside:
            beside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path, release: int) -> Settings:
        """Read what `save` wrote, and see that all of it can be sent.

        Raises:
            InstrumentError: The file is damaged.
        """
        try:
            settings = Settings(**read_json(path))
            # Now, not on the shutdown, when nobody is there to set anything by hand.
            for command, values in settings._requests(release):
                encode_request(commands(release)[command], values)
            return settings
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InstrumentError(
                f"the settings kept in {path} are damaged ({error}): set bias, setpoint and scan "
                "by hand, and remove the file"
            ) from error


def _restore_bias(
    controller: Controller, bias: float, limits: LimitsConfig, sleep: Callable[[float], None]
) -> None:
    """Restore the bias (V), but not one that no tip at the surface may have, if it is there.

    Raises:
        LimitExceeded: The tip is at the surface, and this bias would drive it into the sample.
        InstrumentError: Any other failure.
    """
    if holds_tip(controller):
        check_bias(bias, limits)
    change_bias(controller, bias, sleep)


def _restore(
    controller: Controller, setter: str, values: Values, getter: str, kept: Values
) -> None:
    controller.call(setter, **values)
    # Read back: a reply without an error does not say that the value was taken.
    taken = _plain(controller.call(getter))
    for key, value in kept.items():
        if not _same(key, taken[key], value):
            raise InstrumentError(
                f"{setter} was answered, but {getter} still reports {key} = {taken[key]!r} instead "
                f"of {value!r}"
            )


def _same(key: str, taken: Any, kept: Any) -> bool:
    if key in _SWITCHES:
        return is_on(taken) == is_on(kept)
    if isinstance(kept, float):  # sent in single precision
        return math.isclose(taken, kept, rel_tol=1e-5, abs_tol=1e-15)
    return bool(taken == kept)


def properties_to_set(release: int, known: Values, **changes: Any) -> Values:
    """Arguments of Scan.PropsSet that keep names and comment as they were read.

    Whether an empty text would keep them, no document says.
    """
    values = {"series_name": known["series_name"], "comment": known["comment"], **changes}
    if release >= RT_INDEXES_SINCE:
        values["module_names"] = known.get("module_names", [])
    if release >= 14573:
        values["autopaste"] = 0
    return values


def _speed_to_set(speed: Values) -> Values:
    return {**speed, "constant": min(speed["constant"] + 1, _CONSTANT_TIME)}


def _shaper_to_set(shaper: Values) -> Values:
    return {
        **shaper,
        "change_bias": _switch_to_set(shaper["change_bias"]),
        "restore_feedback": _switch_to_set(shaper["restore_feedback"]),
    }


def _switch_to_set(value: int) -> int:
    return 1 if is_on(value) else 2


def _plain(values: Values) -> Values:
    """The same values as JSON can hold them."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
