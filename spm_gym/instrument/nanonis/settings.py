"""What of a controller's settings a run changes: read before, restored afterwards."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.config.json_file import read_json
from spm_gym.instrument.base import InstrumentError
from spm_gym.instrument.nanonis.commands import RT_INDEXES_SINCE, commands
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.wire import encode_request
from spm_gym.whole_file import written_whole

Values = dict[str, Any]


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
        """Ask the controller; changes nothing."""
        return Settings(
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

    def commands(self, release: int) -> list[tuple[str, str, Values]]:
        """What is restored, and the command and arguments that restore it."""
        properties = properties_to_set(
            release,
            self.properties,
            continuous=1 if self.properties["continuous"] else 2,
            bouncy=1 if self.properties["bouncy"] else 2,
            autosave=self.properties["autosave"] + 1,
        )
        safe_tip = {"on": 1 if self.safe_tip_on["on"] else 2}
        return [
            ("bias", "Bias.Set", self.bias),
            ("setpoint", "ZCtrl.SetpntSet", self.setpoint),
            ("scan frame", "Scan.FrameSet", self.frame),
            ("scan buffer", "Scan.BufferSet", self.buffer),
            ("scan speed", "Scan.SpeedSet", _speed_to_set(self.speed)),
            ("scan properties", "Scan.PropsSet", properties),
            ("tip shaper", "TipShaper.PropsSet", _shaper_to_set(self.shaper)),
            ("safe tip", "SafeTip.PropsSet", self.safe_tip),
            ("safe tip", "SafeTip.OnOffSet", safe_tip),
        ]

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
            for _, command, values in settings.commands(release):
                encode_request(commands(release)[command], values)
            return settings
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InstrumentError(
                f"the settings kept in {path} are damaged ({error}): set bias, setpoint and scan "
                "by hand, and remove the file"
            ) from error


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
    return {**speed, "constant": speed["constant"] + 1}


def _shaper_to_set(shaper: Values) -> Values:
    return {
        **shaper,
        "change_bias": 1 if shaper["change_bias"] else 2,
        "restore_feedback": 1 if shaper["restore_feedback"] else 2,
    }


def _plain(values: Values) -> Values:
    """The same values as JSON can hold them."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
