"""Frames as bytes: what RFC 6455 forbids a client, and what any cut of its bytes must yield."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chat.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Fault,
    FrameReader,
    frame,
    text_frame,
)
from tests.support import DEADLINE_S

FIN = 0x80
MAX_BYTES = 64 * 1024


def masked(head: int, payload: bytes = b"", key: bytes = b"\x01\x02\xfe\xff") -> bytes:
    """One frame of a client."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    repeated = (key * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return bytes((head,)) + length + key + body.to_bytes(size, "big")


def text(words: str | bytes) -> bytes:
    return masked(FIN | TEXT, words.encode() if isinstance(words, str) else words)


def closing(code: int, reason: bytes = b"") -> bytes:
    return masked(FIN | CLOSE, code.to_bytes(2, "big") + reason)


START = masked(TEXT, b"a")
# What breaks RFC 6455 in the frames themselves, and the close code it gets.
VIOLATIONS = {
    "unmasked text": (b"\x81\x01a", 1002),
    "unmasked ping": (b"\x89\x00", 1002),
    "unmasked close": (b"\x88\x02\x03\xe8", 1002),
    "RSV1": (masked(FIN | 0x40 | TEXT, b"a"), 1002),
    "RSV2": (masked(FIN | 0x20 | TEXT, b"a"), 1002),
    "RSV3": (masked(FIN | 0x10 | TEXT, b"a"), 1002),
    "RSV1 on a ping": (masked(FIN | 0x40 | PING), 1002),
    **{f"opcode {opcode:X}": (masked(FIN | opcode), 1002) for opcode in (*range(3, 8), *range(0xB, 0x10))},
    "ping of 126 bytes": (masked(FIN | PING, bytes(126)), 1002),
    "pong of 65536 bytes": (masked(FIN | PONG, bytes(65536)), 1002),
    "close of 126 bytes": (closing(1000, bytes(124)), 1002),
    "ping in fragments": (masked(PING, b"a"), 1002),
    "close in fragments": (masked(CLOSE, b"\x03\xe8"), 1002),
    "continuation of nothing": (masked(FIN | CONTINUATION, b"a"), 1002),
    "continuation after the end": (START + masked(FIN | CONTINUATION) + masked(CONTINUATION), 1002),
    "text between fragments": (START + text("b"), 1002),
    "binary fragment between fragments": (START + masked(BINARY, b"b"), 1002),
    "length 125 in 16 bits": (b"\x81\xfe" + struct.pack("!H", 125) + bytes(4 + 125), 1002),
    "length 0 in 64 bits": (b"\x81\xff" + struct.pack("!Q", 0) + bytes(4), 1002),
    "length 65535 in 64 bits": (b"\x81\xff" + struct.pack("!Q", 65535) + bytes(4 + 65535), 1002),
    "length 2^63": (b"\x81\xff" + struct.pack("!Q", 1 << 63), 1002),
    "length 2^64-1": (b"\x81\xff" + struct.pack("!Q", (1 << 64) - 1), 1002),
    "length 2^63-1": (b"\x81\xff" + struct.pack("!Q", (1 << 63) - 1), 1009),
    "one byte too long": (text(bytes(MAX_BYTES + 1)), 1009),
    "too long by its header alone": (text(bytes(MAX_BYTES + 1))[:10], 1009),
    "too long in two": (masked(TEXT, bytes(MAX_BYTES)) + masked(FIN | CONTINUATION, b"a"), 1009),
    "too long in many": (START + masked(CONTINUATION, bytes(1000)) * 66, 1009),
}
violations = pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())


def read(reader: FrameReader, data: bytes) -> Iterator[tuple[int, bytes]]:
    """What a reader makes of some bytes, less the frames that complete nothing."""
    return (message for message in reader.feed(data) if message)


@violations
def test_the_reader_finds_each_violation(data: bytes, code: int) -> None:
    """Every one of the table is a Fault with its close code, after whatever was valid before it."""
    heard = []
    with pytest.raises(Fault) as fault:
        for message in read(FrameReader(), text("valid") + data):
            heard.append(message)
    assert fault.value.code == code
    assert heard[0] == (TEXT, b"valid")


@violations
def test_a_violation_is_found_however_it_is_cut(data: bytes, code: int) -> None:
    """Byte by byte the fault is the same, and nothing wrong is let through on the way."""
    reader = FrameReader()
    with pytest.raises(Fault) as fault:
        for place in range(len(data)):
            assert not [payload for _, payload in read(reader, data[place : place + 1]) if payload != b"a"]
    assert fault.value.code == code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_length_is_read(opcode: int, size: int) -> None:
    """Up to 64 KiB, whole, in halves, and with empty fragments."""
    payload = random.Random(size).randbytes(size)
    half = size // 2
    parts = (
        masked(opcode)
        + masked(CONTINUATION, payload[:half])
        + masked(CONTINUATION)
        + masked(FIN | CONTINUATION, payload[half:])
    )
    assert list(read(FrameReader(), masked(FIN | opcode, payload) + parts)) == [(opcode, payload)] * 2


def test_control_frames_pass_between_fragments() -> None:
    """They come out at once, and the message when it is whole."""
    data = START + masked(FIN | PING, b"now") + masked(CONTINUATION, b"b") + masked(FIN | PONG) + closing(1000)
    assert list(read(FrameReader(), data)) == [(PING, b"now"), (PONG, b""), (CLOSE, b"\x03\xe8")]


def test_control_frames_do_not_count_into_a_message() -> None:
    """A message of exactly 64 KiB may have pings in it."""
    data = masked(BINARY, bytes(MAX_BYTES)) + masked(FIN | PING, bytes(125)) + masked(FIN | CONTINUATION)
    assert list(read(FrameReader(), data)) == [(PING, bytes(125)), (BINARY, bytes(MAX_BYTES))]


_KEYS = st.binary(min_size=4, max_size=4)
_CONTROLS = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125), _KEYS)
_MESSAGES = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.lists(
        st.tuples(st.binary(max_size=300), _KEYS, st.lists(_CONTROLS, max_size=2)),
        min_size=1,
        max_size=4,
    ),
)


@settings(deadline=None, database=None)
@given(st.lists(_MESSAGES, max_size=4), st.data())
def test_any_cut_of_valid_frames_yields_the_same(messages: list[Any], cuts: st.DataObject) -> None:
    """Fragments, masks and pings in between, cut anywhere: the same messages in the same order."""
    data, meant = b"", []
    for opcode, fragments in messages:
        for number, (payload, key, controls) in enumerate(fragments):
            is_last = number == len(fragments) - 1
            data += masked((FIN if is_last else 0) | (CONTINUATION if number else opcode), payload, key)
            if is_last:
                meant.append((opcode, b"".join(part for part, _, _ in fragments)))
            for control, words, mask in controls:
                data += masked(FIN | control, words, mask)
                meant.append((control, words))
    places = sorted(cuts.draw(st.lists(st.integers(0, len(data)), max_size=12)))
    reader = FrameReader()
    heard = [
        message
        for low, high in zip([0, *places], [*places, len(data)], strict=True)
        for message in read(reader, data[low:high])
    ]
    assert heard == meant


@settings(deadline=None, database=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
@example([b"\x81\x80", b"\x00\x00\x00", b"\x00"])
def test_no_bytes_make_the_reader_fail_otherwise(reads: list[bytes]) -> None:
    """Whatever comes in, there are messages or a Fault."""
    reader = FrameReader()
    with contextlib.suppress(Fault):
        for data in reads:
            for opcode, payload in read(reader, data):
                assert opcode in (TEXT, BINARY, CLOSE, PING, PONG)
                assert len(payload) <= sum(map(len, reads))


# Frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_frame_is_read_back_by_another_implementation(size: int) -> None:
    """The length is written as short as possible, the frame is final and not masked."""
    payload = random.Random(size).randbytes(size)
    there, here = socket.socketpair()
    with there, here:
        here.settimeout(DEADLINE_S)
        sending = threading.Thread(target=there.sendall, args=(frame(BINARY, payload),))
        sending.start()
        parser = _parser(here)
        read = parser.recv_frame()
        sending.join()
    assert (read.fin, read.rsv1, read.rsv2, read.rsv3, read.opcode, read.mask_value) == (1, 0, 0, 0, BINARY, 0)
    assert read.data == payload
    assert len(frame(BINARY, payload)) - size == (2 if size < 126 else 4 if size < 65536 else 10)
    assert text_frame(payload) == frame(TEXT, payload)


def _parser(sock: socket.socket) -> Any:
    parser = websocket.WebSocket()
    parser.sock = sock
    return parser
