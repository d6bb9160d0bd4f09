"""The one place that reads YAML: nothing in it can win silently, grow, or end in a traceback.

A limit that a second section of the same name has overwritten is a limit that nobody has taken
back. So a key may stand once, and merge keys (``<<``), which hide one value behind another, are not
read. Whoever writes a file may be wrong or worse: size, depth, and what aliases expand to are
bounded.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from spm_gym.config.sections import ConfigError

_LARGEST_FILE = 2**18
_DEEPEST = 40
_MOST_VALUES = 20_000
"""With aliases written out."""

_LONGEST_NUMBER = 64
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)
_MERGE, _STRING = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_DATE = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain values.

    Raises:
        ConfigError: One line that names the file, the line in it and what is wrong.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ConfigError(plain(f"cannot read {path}: {error}", 500)) from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(
            f"{plain(str(path))} has more than {_LARGEST_FILE} bytes: these are no settings"
        )
    try:
        # Editors of Windows put a mark before the text, which would belong to the first key.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read {plain(str(path))}: it is not UTF-8 text: {error}"
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Read YAML text as plain values.

    Args:
        text: The YAML.
        name: Of where it comes from; begins the message of an error.

    Raises:
        ConfigError: One line that says where and what is wrong.
    """
    name, loader = plain(name, 200), None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except _Refused as error:
        raise ConfigError(f"{name}, {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # the library's scanner, of letters that there are not
        line = 1 if loader is None else loader.line + 1
        raise ConfigError(f"{name} is not YAML, line {line}: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def as_yaml(value: object) -> str:
    """A plain value as YAML that `parse_yaml` reads back, for ``key=value`` arguments."""
    # In one line, however long: a folded text is no argument of a command line any more.
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)


def excerpt(value: object) -> str:
    """A value for the message of an error: never more than a line of moderate length."""
    return _SHORT.repr(value)


def plain(text: str, longest: int = 120) -> str:
    """Text of others as part of a line: a terminal obeys nothing in it."""
    line = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


class _ShortRepr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python writes no whole number of more than 4,300 digits.
        return super().repr_int(x, level) if abs(x) < 10**100 else "a number of over 100 digits"


_SHORT = _ShortRepr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 4, 12, 12


class _Refused(Exception):
    """Valid YAML that is not read here."""

    def __init__(self, node_or_event: Node | yaml.Event, what: str) -> None:
        super().__init__(f"line {_line(node_or_event)}: {what}")


def _line(node_or_event: Node | yaml.Event) -> int:
    mark = node_or_event.start_mark
    return 1 if mark is None else mark.line + 1


class _Loader(yaml.SafeLoader):
    """Plain values, each key once, no deeper and no more than settings need."""

    def __init__(self, text: str) -> None:
        self._depth = self._values = 0
        self._sizes: dict[Node, int] = {}
        super().__init__(text)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Refused(event, f"more than {_DEEPEST} levels inside one another")
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert node is not None
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise _Refused(event, f"*{event.anchor} stands inside what it stands for")
        else:
            _check(node)
            # Counted before anything is built: ten short lines of aliases can stand for a billion
            # values.
            self._sizes[node] = 1 + sum(self._sizes[each] for each in _children(node))
        self._values += self._sizes[node] if isinstance(event, yaml.AliasEvent) else 1
        if self._values > _MOST_VALUES:
            raise _Refused(event, f"more than {_MOST_VALUES} values, with aliases written out")
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            # The library's own constructors, of what its tag does not fit.
            kind = node.tag.rpartition(":")[2]
            raise _Refused(node, f"{excerpt(node.value)} is no {kind}") from error

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: dict[Hashable, Node] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                raise _Refused(key_node, "merge keys (<<) are not read: write the keys out")
            if not isinstance(key_node, ScalarNode):
                raise _Refused(key_node, "a key must be a word or a number")
            key = _one_key(self.construct_object(key_node))
            if key in keys:
                raise _Refused(
                    key_node,
                    f"the key {excerpt(key_node.value)} stands there a second time, first in line "
                    f"{_line(keys[key])}: keep one of them",
                )
            keys[key] = key_node
        return super().construct_mapping(node, deep)


# Dates are no settings, but names of files and runs may look like one.
_Loader.add_constructor(_DATE, lambda loader, node: str(node.value))


def _one_key(key: Hashable) -> Hashable:
    """The same for keys that a table of numbers cannot tell apart, such as 2.5 and "2.50"."""
    if isinstance(key, str):
        try:
            number = float(key)
        except ValueError:
            return key
        return key if math.isnan(number) else number
    return key


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, CollectionNode) else []


def _check(node: Node) -> None:
    """Refuse what no setting is, or what Python's own conversions choke on."""
    if node.tag not in _TAGS | {_MERGE, _DATE}:
        raise _Refused(node, f"the tag {excerpt(node.tag)} is not read: settings are plain values")
    if not isinstance(node, ScalarNode):
        return
    if node.tag != _STRING and len(node.value) > _LONGEST_NUMBER:
        raise _Refused(node, f"a number of {len(node.value)} characters")
    if "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise _Refused(node, f"{excerpt(node.value)} has a zero byte or half a letter")
