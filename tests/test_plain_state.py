from __future__ import annotations

import json
import math
import pickle
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from spm_gym.plain_state import (
    StateError,
    array_of,
    from_bytes,
    restore_generator,
    restored,
    to_bytes,
)

SIZES = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
NUMBERS = st.sampled_from([np.dtype(size) for size in SIZES])
ARRAYS = NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(), st.text(), ARRAYS,
    NUMBERS.flatmap(hnp.from_dtype),
)  # fmt: skip
NAMES = st.text().filter(lambda name: not name.startswith("!"))
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(NAMES, inner)
    ),
)


def assert_same(this: Any, other: Any) -> None:
    assert type(this) is type(other)
    if isinstance(this, np.ndarray | np.generic):
        assert (this.dtype, this.shape, this.tobytes()) == (
            other.dtype,
            other.shape,
            other.tobytes(),
        )
    elif isinstance(this, list | tuple):
        for each, like in zip(this, other, strict=True):
            assert_same(each, like)
    elif isinstance(this, dict):
        assert list(this) == list(other)
        for key in this:
            assert_same(this[key], other[key])
    elif isinstance(this, float):
        assert repr(this) == repr(other)
    else:
        assert this == other


@given(STATES)
def test_every_state_comes_back_as_it_was(state: Any) -> None:
    assert_same(from_bytes(to_bytes(state)), state)


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_generators_go_on(kind: Any) -> None:
    this, other = np.random.Generator(kind(3)), np.random.Generator(kind(4))
    this.random(7)
    restore_generator(other, from_bytes(to_bytes(this.bit_generator.state)))
    assert this.random(9).tolist() == other.random(9).tolist()


@pytest.mark.parametrize(
    "state", [None, {}, [], {"bit_generator": "PCG64"}, {"bit_generator": "MT19937"},
              {"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}, "has_uint32": 0,
               "uinteger": 0},
              {"bit_generator": "PCG64", "state": {"state": "a", "inc": 1}, "has_uint32": 0,
               "uinteger": 0}],
)  # fmt: skip
def test_no_state_of_a_generator(state: Any) -> None:
    with pytest.raises(StateError, match="random generator"):
        restore_generator(np.random.default_rng(0), state)


class _Thing:
    pass


def _nested(depth: int) -> list[Any]:
    return [_nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": [1, _Thing()]}, r"state\.a\[1\] is a _Thing"),
        ({"a": {1, 2}}, r"state\.a is a set"),
        ({"a": b"bytes"}, "is a bytes"),
        ({1: 2}, "keys must be names"),
        ({"!array": "0"}, "keys must be names"),
        (np.array([_Thing()]), "elements of type object"),
        (np.array(["text"]), "elements of type"),
        (np.zeros(2, [("x", "f8")]), "elements of type"),
        (_nested(60), "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_data_is_not_kept(state: Any, place: str) -> None:
    with pytest.raises(StateError, match=place):
        to_bytes(state)


def _file(state: str, **arrays: Any) -> bytes:
    return bytes(
        save({name: np.asarray(value) for name, value in arrays.items()}, {"state": state})
    )


TRUTHS = bytearray(_file('{"!array": "a"}', a=[True, False]))
TRUTHS[-2] = 7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps([1, 2]),
        b"\xff" * 8 + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        b"[" * 100_000,
        to_bytes({"a": np.ones(100)})[:-8],
        bytes(save({})),
        _file("["),
        _file("[" * 100_000 + "]" * 100_000),
        _file("9" * 5000),
        _file('{"!array": "b"}', a=[1.0]),
        _file('{"!array": 0}', a=[1.0]),
        _file('{"!array": "a", "more": 1}', a=[1.0]),
        _file('{"!object": "os.system"}'),
        _file('{"!float": "1"}'),
        _file('{"!tuple": 3}'),
        _file('{"!array": "a"}', a=np.zeros(2, np.complex64)),
        bytes(TRUTHS),
    ],
)
def test_what_is_no_state_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(StateError) as caught:
        from_bytes(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    colour: Colour
    where: tuple[float, float] | None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    inner: list[Inner]
    marks: Annotated[np.ndarray[Any, Any], array_of(np.float64, None, 2, most=1.0)]
    more: dict[str, Any]


WHOLE = Outer([Inner(Colour.RED, (1.0, 2.0), Path("a"))], np.zeros((3, 2)), {"x": -math.inf})


def test_a_dataclass_comes_back() -> None:
    again = restored(Outer, from_bytes(to_bytes(asdict(WHOLE))))
    assert (again.inner, again.more) == (WHOLE.inner, WHOLE.more)
    assert_same(again.marks, WHOLE.marks)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"inner": 3}, "'inner'"),
        ({"inner": [{"colour": "blue", "where": None}]}, r"'inner\.0\.colour'"),
        ({"inner": [{"colour": "red", "where": (1.0,)}]}, r"'inner\.0\.where"),
        ({"inner": [{"colour": "red", "where": (math.nan, 0.0)}]}, "finite"),
        ({"inner": [{"colour": "red"}]}, "'inner.0.where'"),
        ({"unknown\x1b[2J": 1}, r"unknown\\x1b"),
        ({"marks": [[1.0, 2.0]]}, "'marks'"),
        ({"marks": np.zeros((3, 3))}, r"an array \(None, 2\) of float64 is needed, not \(3, 3\)"),
        ({"marks": np.zeros((3, 2), np.float32)}, "of float32"),
        ({"marks": np.full((1, 2), np.nan)}, "finite"),
        ({"marks": np.full((1, 2), -1.5)}, r"within \+-1"),
    ],
)
def test_every_part_must_be_what_its_annotation_says(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(StateError, match=place) as caught:
        restored(Outer, asdict(WHOLE) | changes)
    assert str(caught.value).isprintable()


def test_the_rest_can_be_looked_at_without_this_program() -> None:
    data = to_bytes({"step": 3, "z": np.ones(2)})
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"]["state"]
    assert json.loads(about) == {"step": 3, "z": {"!array": "0"}}
