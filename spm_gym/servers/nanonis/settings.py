"""Settings of the virtual controller: a Get returns the values of the last Set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spm_gym.instrument.nanonis.commands import Command, Field
from spm_gym.instrument.sim.rounding import single
from spm_gym.servers.nanonis.defaults import DEFAULTS, INDEXES, rules

Values = dict[str, Any]


class ControllerSettings:
    """Settings by the name that their Set and Get have in common, such as "TipShaper.Props".

    Args:
        release: Release of the software; the numbers of a Set that mean "no change" depend on it.
    """

    def __init__(self, release: int) -> None:
        self._rules = rules(release)
        self._values: dict[tuple[str, int], Values] = {}

    def of(self, name: str, index: int = 0) -> Values:
        """Return the settings of a name, and of one modulator or output where there are several."""
        key = (name, index)
        if key not in self._values:
            self._values[key] = {k: _sent(v) for k, v in DEFAULTS.get(name, {}).items()}
        return self._values[key]

    def set(self, command: Command, values: Mapping[str, Any]) -> None:
        """Store the arguments of a Set."""
        name = _setting(command)
        kept = self.of(name, _index(values))
        for key, value in values.items():
            rule = self._rules.get(name, {}).get(key)
            kept[key] = rule(value, kept.get(key, 0)) if rule else value

    def get(self, command: Command, values: Mapping[str, Any]) -> Values:
        """Return the values of a Get."""
        kept = self.of(_setting(command), _index(values))
        return {field.name: kept.get(field.name, _nothing(field)) for field in command.reply}


def _setting(command: Command) -> str:
    """Cut the name of a Set or Get."""
    return command.name[:-3]


def _sent(value: Any) -> Any:
    """Round a default as if a client had set it, since clients compare what they set and get."""
    return single(value) if isinstance(value, float) else value


def _index(values: Mapping[str, Any]) -> int:
    return next((int(values[key]) for key in INDEXES if key in values), 0)


def _nothing(field: Field) -> Any:
    # A Get must answer every field, also one that no Set has ever had.
    if field.array or field.type in ("strs", "packed"):
        return []
    return "" if field.type == "str" else 0
