"""The settings of the virtual controller: what a Set stored, the Get returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spm_gym.instrument.nanonis.commands import Command, Field
from spm_gym.instrument.sim.rounding import single
from spm_gym.servers.nanonis.defaults import DEFAULTS, INDEXES, rules

Values = dict[str, Any]


class Memory:
    """Settings by the name that their Set and Get have in common, such as "TipShaper.Props".

    Args:
        release: Decides which numbers of a Set mean "no change".
    """

    def __init__(self, release: int) -> None:
        self._rules = rules(release)
        self._kept: dict[tuple[str, int], Values] = {}

    def of(self, name: str, index: int = 0) -> Values:
        """The settings of one name, and of one modulator or output where there are several."""
        key = (name, index)
        if key not in self._kept:
            self._kept[key] = {k: _sent(v) for k, v in DEFAULTS.get(name, {}).items()}
        return self._kept[key]

    def set(self, command: Command, values: Mapping[str, Any]) -> None:
        """Store the arguments of a Set."""
        name = _setting(command)
        kept = self.of(name, _index(values))
        for key, value in values.items():
            rule = self._rules.get(name, {}).get(key)
            kept[key] = rule(value, kept.get(key, 0)) if rule else value

    def get(self, command: Command, values: Mapping[str, Any]) -> Values:
        """The return values of a Get."""
        kept = self.of(_setting(command), _index(values))
        return {field.name: kept.get(field.name, _nothing(field)) for field in command.reply}


def _setting(command: Command) -> str:
    """What the name of a Set or Get begins with."""
    return command.name[:-3]


def _sent(value: Any) -> Any:
    """A default as a client would have set it."""
    return single(value) if isinstance(value, float) else value


def _index(values: Mapping[str, Any]) -> int:
    return next((int(values[key]) for key in INDEXES if key in values), 0)


def _nothing(field: Field) -> Any:
    if field.array or field.type in ("strs", "packed"):
        return []
    return "" if field.type == "str" else 0
