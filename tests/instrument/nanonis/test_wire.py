from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spm_gym.instrument.nanonis.commands import RELEASES, Command, Field, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    WireError,
    decode_header,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)

NEWEST = commands(RELEASES[-1])
OK = bytes(8)
everything = [
    pytest.param(command, id=f"R{release} {command.name}")
    for release in RELEASES
    for command in commands(release).values()
]
any_command = st.sampled_from(
    [command for release in RELEASES for command in commands(release).values()]
)
numbers = {
    "u16": st.integers(0, 2**16 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "f32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "f64": st.floats(allow_nan=False, allow_infinity=False),
    "str": st.text(st.characters(max_codepoint=255), max_size=8),
}


@st.composite
def values_for(draw: st.DrawFn, fields: tuple[Field, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields:
        if field.repeats or field.bytes_of:
            continue
        if any(other.array == field.name for other in fields):
            values[field.name] = draw(st.integers(0, 4))
        elif field.type in ("strs", "packed"):
            values[field.name] = draw(st.lists(numbers["str"], max_size=4))
        elif field.array == "matrix":
            rows, columns = draw(st.integers(0, 3)), draw(st.integers(1, 3))
            row = st.lists(numbers[field.type], min_size=columns, max_size=columns)
            values[field.name] = [draw(row) for _ in range(rows)] or np.empty((0, columns))
        elif field.array == "counted":
            values[field.name] = draw(st.lists(numbers[field.type], max_size=4))
        elif field.array:
            count = values[field.array]
            elements = st.lists(numbers[field.type], min_size=count, max_size=count)
            values[field.name] = draw(elements)
        else:
            values[field.name] = draw(numbers[field.type])
    return values


def same(sent: Any, received: Any) -> bool:
    if isinstance(received, np.ndarray):
        return bool(np.array_equal(np.asarray(sent, dtype=received.dtype), received))
    return list(sent) == received if isinstance(received, list) else bool(sent == received)


@pytest.mark.parametrize(
    ("name", "values", "frame"),
    [
        (
            "Bias.Pulse",
            {"wait": 1, "width": 0.1, "bias": -3.0, "z_control": 1, "mode": 2},
            "426961732e50756c7365" + 22 * "00" + "00000010" "0001" "0000"
            "00000001" "3dcccccd" "c0400000" "0001" "0002",
        ),
        ("Bias.Get", {}, "426961732e476574" + 24 * "00" + "00000000" "0001" "0000"),
        (
            "FolMe.XYPosSet",
            {"x": 1e-9, "y": -2.5, "wait": 1},
            "466f6c4d652e5859506f73536574" + 18 * "00" + "00000014" "0001" "0000"
            "3e112e0be826d695" "c004000000000000" "00000001",
        ),
        (
            "Scan.BufferSet",
            {"channel_indexes": [0, 30], "pixels": 64, "lines": 64},
            "5363616e2e427566666572536574" + 18 * "00" + "00000014" "0001" "0000"
            "00000002" "00000000" "0000001e" "00000040" "00000040",
        ),
        (
            "Scan.BufferSet",
            {"channel_indexes": [30], "pixels": 64, "lines": 16},
            "5363616e2e427566666572536574" + 18 * "00" + "00000010" "0001" "0000"
            "00000001" "0000001e" "00000040" "00000010",
        ),
    ],
)  # fmt: skip
def test_requests_byte_by_byte(name: str, values: dict[str, Any], frame: str) -> None:
    assert encode_request(NEWEST[name], values).hex() == frame


def test_replies_byte_by_byte() -> None:
    header = b"Scan.FrameDataGrab" + bytes(14)
    body = b"\0\0\0\5Z (m)" + struct.pack(">ii2f", 1, 2, 1.5, float("nan")) + b"\0\0\0\1" + OK
    frame = header + struct.pack(">iHH", len(body), 0, 0) + body
    values = {"channel_name": "Z (m)", "data": [[1.5, np.nan]], "scan_direction": 1}
    assert encode_reply(NEWEST["Scan.FrameDataGrab"], values) == frame
    assert encode_error("No.Such", "no").hex() == (
        "4e6f2e53756368" + 25 * "00" + "0000000a0000000000000001000000026e6f"
    )


@pytest.mark.parametrize(
    ("release", "name", "size"),
    [
        (10862, "Current.GainSet", 2),
        (13742, "Current.GainSet", 8),
        (10862, "Piezo.DriftCompSet", 16),
        (14718, "Piezo.DriftCompSet", 20),
        (10862, "Motor.PosGet", 0),
        (14718, "Motor.PosGet", 8),
        (13742, "UserOut.LimitsSet", 12),
        (14718, "UserOut.LimitsSet", 16),
        (14718, "TipShaper.PropsSet", 44),
    ],
)
def test_sizes_of_the_dialects(release: int, name: str, size: int) -> None:
    command = commands(release)[name]
    values = {field.name: 0 for field in command.request}
    assert len(encode_request(command, values)) == HEADER_SIZE + size


def test_what_releases_know() -> None:
    old, middle, new = (commands(release) for release in RELEASES)
    for name in ("Util.VersionGet", "Scan.WaitEndOfLine", "Scan.XYPosGet", "Scan.Save"):
        assert name not in old
        assert name in middle
    assert "Signals.InSlotsGet" in old
    assert "Signals.InSlotsGet" not in middle
    assert len(old) == 234
    assert (len(middle), len(new)) == (239, 241)


@pytest.mark.parametrize("command", everything)
@settings(max_examples=5)
@given(data=st.data())
def test_round_trip_of_every_command(command: Command, data: st.DataObject) -> None:
    sent = data.draw(values_for(command.request))
    received = decode_request(command, encode_request(command, sent)[HEADER_SIZE:])
    assert all(same(value, received[name]) for name, value in sent.items())
    sent = data.draw(values_for(command.reply))
    received = decode_reply(command, encode_reply(command, sent)[HEADER_SIZE:])
    assert all(same(value, received[name]) for name, value in sent.items())


@given(command=any_command, data=st.data())
def test_a_reply_cut_short_or_too_long_is_no_reply(command: Command, data: st.DataObject) -> None:
    body = encode_reply(command, data.draw(values_for(command.reply)))[HEADER_SIZE:]
    cut = data.draw(st.integers(0, len(body) - 1))
    longer = body + data.draw(st.binary(min_size=1, max_size=9))
    for wrong in (body[:cut], longer):
        with pytest.raises((WireError, ErrorReply)):
            decode_reply(command, wrong)


@given(command=any_command, data=st.data())
def test_a_request_cut_short_or_too_long_is_refused(command: Command, data: st.DataObject) -> None:
    body = encode_request(command, data.draw(values_for(command.request)))[HEADER_SIZE:]
    optional = sum(2 for field in command.request if field.optional)
    with pytest.raises(WireError):
        decode_request(command, body + b"\0")
    if len(body) > optional:
        with pytest.raises(WireError):
            decode_request(command, body[: data.draw(st.integers(0, len(body) - optional - 1))])


@given(command=any_command, body=st.binary(max_size=200))
@settings(max_examples=500)
def test_arbitrary_bytes_are_values_or_a_clear_error(command: Command, body: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            values = decode(command, body)
        except (WireError, ErrorReply):
            continue
        encode = encode_request if decode is decode_request else encode_reply
        finite = all(
            np.isfinite(value).all()
            for value in values.values()
            if isinstance(value, float) or getattr(value, "dtype", np.dtype("i4")).kind == "f"
        )
        if finite and not any(field.type == "strs" or field.optional for field in command.request):
            again = encode(command, values)[HEADER_SIZE:]
            assert again == body


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">Ii", 1, 4) + b"gone",
        bytes(8) + struct.pack(">Ii", 1, 4) + b"gone",
        bytes(16) + struct.pack(">Ii", 1, 4) + b"gone",
    ],
)
def test_errors_come_in_several_shapes(body: bytes) -> None:
    with pytest.raises(ErrorReply, match="gone") as caught:
        decode_reply(NEWEST["Scan.FrameDataGrab"], body)
    assert caught.value.status == 1


@pytest.mark.parametrize("channels", [[16], [20, 3], [24, 30, 31]])
def test_values_that_look_like_an_error_block_are_values(channels: list[int]) -> None:
    """The count reads as a status, and the first channel as the size of a text."""
    values = {"channel_indexes": channels, "pixels": 64, "lines": 64}
    command = NEWEST["Scan.BufferGet"]
    received = decode_reply(command, encode_reply(command, values)[HEADER_SIZE:])
    assert received["channel_indexes"].tolist() == channels


def test_an_error_behind_values_is_an_error() -> None:
    body = struct.pack(">fIi", 1.0, 1, 4) + b"hmm!"
    with pytest.raises(ErrorReply, match="hmm!"):
        decode_reply(NEWEST["Bias.Get"], body)


def test_an_array_must_be_as_long_as_its_count_says() -> None:
    with pytest.raises(WireError, match=r"x has 1 .* n says 2"):
        encode_request(NEWEST["Marks.PointsDraw"], {
            "n": 2, "x": [1], "y": [1, 2], "text": ["a", "b"], "rgb": [1, 2]})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("Bias.Set", {"bias": float("nan")}, "bias = nan"),
        ("Bias.Set", {"bias": 1e40}, "bias = 1e"),
        ("Bias.Set", {}, "needs the argument 'bias'"),
        ("Bias.Set", {"bias": 1.0, "volts": 2}, "no argument 'volts'"),
        ("Bias.Set", {"bias": "one"}, "bias = 'one'"),
        ("Motor.StartMove", {"direction": 0, "steps": 70000, "group": 0, "wait": 1}, "70000"),
        ("Motor.StartMove", {"direction": 0, "steps": -1, "group": 0, "wait": 1}, "steps = -1"),
        ("Motor.StartMove", {"direction": 0, "steps": 1.5, "group": 0, "wait": 1}, "whole"),
        ("Scan.BufferSet", {"channel_indexes": [2**31], "pixels": 64, "lines": 64}, "2147483648"),
    ],
)
def test_what_no_message_can_carry_is_refused(name: str, values: dict, words: str) -> None:
    with pytest.raises(WireError, match=words):
        encode_request(NEWEST[name], values)


@given(name=st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=32),
       size=st.integers(-(2**31), 2**31 - 1), flag=st.integers(0, 65535))  # fmt: skip
def test_headers(name: str, size: int, flag: int) -> None:
    data = struct.pack(">32siHH", name.encode(), size, flag, 0)
    if size < 0 or size > 2**28 or flag > 1:
        with pytest.raises(WireError):
            decode_header(data)
    else:
        header = decode_header(data)
        assert (header.name, header.size, header.wants_reply) == (name, size, flag == 1)


def test_a_name_that_is_no_text_is_no_name() -> None:
    for raw in (b"Bias\xff.Get", b"Bias.Get\0junk"):
        assert decode_header(struct.pack(">32siHH", raw, 0, 1, 0)).name == ""
