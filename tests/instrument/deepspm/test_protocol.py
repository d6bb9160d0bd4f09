"""Requests and replies of the DeepSPM protocol, written and read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spm_gym.instrument.deepspm import protocol
from spm_gym.instrument.deepspm.protocol import (
    Approach,
    GetParam,
    MoveArea,
    Request,
    ScanRequest,
    TipClean,
    TipShaping,
    format_request,
    parse_request,
)
from spm_gym.types import Direction

positions = st.floats(-1e-6, 1e-6).map(lambda x: 0.0 if abs(x) < 1e-18 else x)
durations = st.floats(1e-6, 100)
words = st.text("abcXYZ019", max_size=8)
requests = st.one_of(
    st.builds(
        ScanRequest, positions, positions, st.floats(1e-12, 1e-6), pixels=st.integers(1, 4096)
    ),
    st.builds(TipShaping, positions, positions, positions, st.floats(-10, 10), durations).filter(
        lambda request: abs(request.bias) >= 1e-18 or request.bias == 0
    ),
    st.builds(TipClean, positions, positions),
    st.builds(GetParam, words),
    st.builds(Approach, words),
    st.builds(MoveArea, st.sampled_from(Direction)),
)


@given(requests)
@example(TipShaping(-0.0, 0.1e-9 + 0.2e-9, -1e-9 / 3, 1 / 3, 0.2))
def test_requests_survive_being_written_and_read_to_the_last_bit(request: Request) -> None:
    assert parse_request(format_request(request)) == request


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ScanRequest(10.5e-9, -3e-9, 10e-9, 64), b"scan(10.5n,-3n,10n,64)"),
        (
            TipShaping(10.5e-9, -3e-9, -1.2e-9, 0.02, 0.2),
            b"tipshaping(10.5n,-3n,-1.2n,20m,200m)",
        ),
        (TipShaping(0, 0, 0, -8, 1.5), b"tipshaping(0n,0n,0,-8,1.5)"),
        (TipClean(150e-9, 0), b"tipclean(150n,0n)"),
        (GetParam("zRange"), b"getparam(zRange)"),
        (Approach(), b"approach(f)"),
        (MoveArea(Direction.Y_PLUS), b"movearea(y+)"),
    ],
)
def test_requests_on_the_wire(request_: Request, text: bytes) -> None:
    assert format_request(request_) == text


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (b"scan(10.5n,-3.0n,10n ,64)", ScanRequest(10.5e-9, -3e-9, 10e-9, 64)),
        (b"tipshaping(1.0n,2n,0,2.5,200m)", TipShaping(1e-9, 2e-9, 0, 2.5, 0.2)),
        (b"tipshaping(1.0n,2n,-800p,20m,0.2)", TipShaping(1e-9, 2e-9, -0.8e-9, 0.02, 0.2)),
        (b"tipclean(1e-05n, 0.5u)\r\n", TipClean(1e-14, 0.5e-6)),
        (b" GetParam( Range )", GetParam("Range")),
        (b"movearea(Y+)", MoveArea(Direction.Y_PLUS)),
    ],
)
def test_requests_as_others_write_them(text: bytes, request_: Request) -> None:
    assert parse_request(text) == request_


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_cannot_be_sent(value: float) -> None:
    with pytest.raises(ValueError, match=r"finite|at most 1024"):
        format_request(TipShaping(value, value, value, value, value))


@given(
    st.one_of(
        st.binary(max_size=80),
        st.from_regex(rb"(scan|tipshaping|tipclean|getparam|movearea)\([-+0-9a-z.,e ]{0,60}\)"),
    )
)
@example(b"scan(1e999n,0,1n,64)")
@example(b"scan(0,0,1n,nan)")
@example(b"scan(0,0,10n,1e999)")
@example(b"tipshaping(0,0,inf,1,1)")
@example(b"tipshaping(0,0,-1n,1,0)")
@example(b"movearea(up)")
@example("scan(\u0661n,0,1n,64)".encode())
def test_any_bytes_are_a_request_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parsed = parse_request(data)
        assert parse_request(format_request(parsed)) is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_a_value_error(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [
        protocol.parse_scan_shape,
        lambda reply: protocol.parse_scan_heights(reply, (2, 3)),
        lambda reply: protocol.parse_parameter(protocol.parse_text(reply), "Range"),
        lambda reply: protocol.parse_area_change(protocol.parse_text(reply)),
        lambda reply: protocol.parse_clean(protocol.parse_text(reply)),
    ]
    for parse in parsers:
        with contextlib.suppress(ValueError):
            parse(data)


def test_replies_survive_being_written_and_read() -> None:
    heights = np.random.default_rng(0).normal(0, 1e-10, (3, 5)).astype(np.float32)
    data = protocol.format_scan(heights)
    shape = protocol.parse_scan_shape(data[:8])
    assert np.array_equal(protocol.parse_scan_heights(data[8:], shape), heights)
    assert protocol.parse_area_change(protocol.format_area_change(3).decode()) == 3
    reply = protocol.format_parameter("zRange", 1 / 3).decode()
    assert protocol.parse_parameter(reply, "zRange") == 1 / 3


@pytest.mark.parametrize("reply", ["done", "1.234e-10", "1 no error", "changed with 2 crashes"])
def test_replies_of_success(reply: str) -> None:
    assert not protocol.is_failure(reply)
