"""State as plain data: reading it never runs code.

A state is made of dictionaries with names as keys, lists, tuples, texts, numbers, None, and NumPy
arrays and scalars of numbers. These come back unchanged, to the last bit. Dataclasses are taken
apart before (`dataclasses.asdict`; members of enumerations and paths stand for their values), and
`restored` builds them again after it has checked every value against the annotations of its type.

The bytes of a state are a safetensors file: the arrays, and in its metadata the rest as JSON.
"""

from __future__ import annotations

import json
import math
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from spm_gym.errors import one_line

_T = TypeVar("_T")

_DEPTH = 50
_ARRAY, _SCALAR, _TUPLE, _FLOAT = "!array", "!scalar", "!tuple", "!float"
"""Keys of objects that stand for values JSON cannot hold; names must not begin with "!"."""

# No objects: an array of them is a pickle, and reading a pickle can run any code.
_NUMBERS = frozenset(map(np.dtype, "?bBhHiIqQefd"))
_STATE = "state"

Arrays = dict[str, NDArray[Any]]


class StateError(ValueError):
    """A state cannot be written, or the bytes are not a state; the message is one line."""


def to_bytes(state: Any) -> bytes:
    """Write a state.

    Raises:
        StateError: A part of it is not plain data.
    """
    arrays: Arrays = {}
    # JSON has no infinity and no NaN: `_encoded` writes them as objects.
    text = json.dumps(_encoded(state, _STATE, 0, arrays), allow_nan=False)
    return bytes(save(arrays, {_STATE: text}))


def from_bytes(data: bytes) -> Any:
    """Read what `to_bytes` wrote.

    Raises:
        StateError: The bytes are something else.
    """
    try:
        arrays = load(data)
        size = int.from_bytes(data[:8], "little")  # of the header, which the library has checked
        text = json.loads(data[8 : 8 + size])["__metadata__"][_STATE]
        return _decoded(json.loads(text), arrays)
    except RecursionError:
        raise StateError("it is nested too deeply") from None
    except (LookupError, SafetensorError, TypeError, ValueError) as error:
        raise StateError(f"it is not a state of this program: {one_line(error)}") from None


def restored(kind: type[_T], values: Any) -> _T:
    """Build a value of a type from plain values, each checked against its annotation.

    Args:
        kind: A dataclass, a named tuple, a list of them, ...
        values: As ``dataclasses.asdict`` gives them.

    Raises:
        StateError: Something is missing, unknown, of another type, infinite or not a number.
    """
    try:
        checker = _checker(kind)  # type: ignore[arg-type]  # mypy takes no type for hashable
        found: _T = checker.validate_python((values,))[0]
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][1:])) or "it"
        raise StateError(f"{place!r} of the kept state does not fit: {first['msg']}") from None


def restore_generator(generator: np.random.Generator, state: Any) -> None:
    """Set the state of a random generator, as ``generator.bit_generator.state`` gave it.

    Raises:
        StateError: It is not the state of such a generator.
    """
    try:
        generator.bit_generator.state = state
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"no state of a random generator: {one_line(error)}") from None


def array_of(
    dtype: DTypeLike, *shape: int | None, most: float = math.inf, finite: bool = True
) -> AfterValidator:
    """Make an annotation for `restored` that checks an array.

    Args:
        dtype: Type of the elements.
        shape: Lengths of the axes; None allows any.
        most: Largest magnitude.
        finite: Whether every element must be finite.
    """

    # Compiled code checks neither types nor bounds: a wrong array would read foreign memory.
    def check(array: NDArray[Any]) -> NDArray[Any]:
        fits = len(shape) == array.ndim and all(
            required in (None, length) for required, length in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise ValueError(
                f"an array {shape} of {np.dtype(dtype)} is needed, "
                f"not {array.shape} of {array.dtype}"
            )
        if finite and not np.isfinite(array).all():
            raise ValueError("all elements must be finite")
        if most < math.inf and (np.abs(array) > most).any():
            raise ValueError(f"all elements must lie within +-{most:g}")
        return array

    return AfterValidator(check)


@cache
def _checker(kind: Any) -> TypeAdapter[tuple[Any]]:
    # Pydantic refuses settings for a dataclass itself, but takes them for a tuple around it.
    settings = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, extra="forbid")
    return TypeAdapter(tuple[kind], config=settings)


def _encoded(value: Any, name: str, depth: int, arrays: Arrays) -> Any:
    if depth > _DEPTH:
        raise StateError(f"{name} is nested too deeply to be kept")
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype not in _NUMBERS:
            raise StateError(f"{name} has elements of type {value.dtype}, which are not numbers")
        key = str(len(arrays))
        arrays[key] = np.asarray(value, order="C")
        return {_ARRAY if isinstance(value, np.ndarray) else _SCALAR: key}
    if isinstance(value, Enum):
        return _encoded(value.value, name, depth, arrays)
    if isinstance(value, PurePath):
        return str(value)
    # The very types: a subclass, such as an IntEnum, would come back as something else.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, list | tuple):
        items = [_encoded(item, f"{name}[{n}]", depth + 1, arrays) for n, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str or key.startswith("!"):
                raise StateError(f"{name} has the key {key!r}: keys must be names")
        return {
            key: _encoded(item, f"{name}.{key}", depth + 1, arrays) for key, item in value.items()
        }
    raise StateError(f"{name} is a {type(value).__name__}, which cannot be kept as plain data")


def _decoded(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return [_decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()), ("", None))
    if not kind.startswith("!"):
        return {key: _decoded(item, arrays) for key, item in value.items()}
    if len(value) == 1 and kind == _TUPLE and isinstance(content, list):
        return tuple(_decoded(item, arrays) for item in content)
    if len(value) == 1 and kind == _FLOAT and content in ("inf", "-inf", "nan"):
        return float(content)
    if len(value) == 1 and kind in (_ARRAY, _SCALAR) and isinstance(content, str):
        array = _checked(arrays[content])
        # What the library gives are views of the bytes, which cannot be written.
        return array.copy() if kind == _ARRAY else array[()]
    raise StateError(f"{kind!r} means nothing")


def _checked(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype not in _NUMBERS:
        raise StateError(f"elements of type {array.dtype} are no numbers")
    # Any other byte would be true or false to different code.
    if array.dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
        raise StateError("a truth value is neither 0 nor 1")
    return array
