"""The client's frames: what any cut of a server's bytes must yield, what a server must not send, and what is masked."""

import random
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_PAYLOAD_BYTES,
    PING,
    PONG,
    TEXT,
    Assembler,
    BadFrame,
    Frame,
    close_code,
    masked,
    parse,
)

FIN = 0x80
LENGTHS = (0, 1, 125, 126, 127, 65535, 65536, 70_000)

quick = settings(deadline=None, database=None)


def sent(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """A frame of a server."""
    size = len(payload)
    head = bytes((FIN * fin | opcode,))
    if size < 126:
        return head + bytes((size,)) + payload
    return head + (struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)) + payload


def heard(parts: list[bytes]) -> tuple[list[Frame], list[bytes]]:
    """The frames and the messages of a stream that came in these parts, as a reader takes them in."""
    rest, frames, messages, assembler = b"", list[Frame](), list[bytes](), Assembler()
    for part in parts:
        found, used = parse(rest + part)
        rest = (rest + part)[used:]
        frames += found
        messages += [message for frame in found if (message := assembler.push(frame)) is not None]
    assert rest == b""
    return frames, messages


# Lengths of one and two bytes, fragments, control frames between them, text cut inside of a character.
FRAMES = [
    Frame(TEXT, True, b"hello"),
    Frame(PING, True, b""),
    Frame(TEXT, False, "nä".encode()[:2]),
    Frame(PING, True, b"between"),
    Frame(CONTINUATION, False, b""),
    Frame(PONG, True, b"p" * 125),
    Frame(CONTINUATION, True, "nä".encode()[2:] + b"x" * 200),
    Frame(TEXT, True, b""),
    Frame(BINARY, True, bytes(range(256))),
    Frame(BINARY, False, b"\xff"),
    Frame(CONTINUATION, True, b"\xfe"),
    Frame(CLOSE, True, b"\x03\xe8bye"),
]
MESSAGES = [b"hello", "nä".encode() + b"x" * 200, b"", bytes(range(256)), b"\xff\xfe"]
STREAM = b"".join(sent(frame.opcode, frame.payload, frame.fin) for frame in FRAMES)
LONG = Frame(TEXT, True, b"l" * 65536)
LONG_STREAM = sent(TEXT, LONG.payload) + STREAM


# Reading


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_of_any_length_is_read(opcode: int, size: int) -> None:
    """With all three ways to write a length, and what follows it is left alone."""
    payload = b"a" * size
    assert parse(sent(opcode, payload) + b"\x81") == ([Frame(opcode, True, payload)], len(sent(opcode, payload)))


def test_every_cut_in_two_yields_the_same() -> None:
    """Wherever a stream is cut, in a head, in a length or in a payload."""
    for place in range(len(STREAM) + 1):
        assert heard([STREAM[:place], STREAM[place:]]) == (FRAMES, MESSAGES)


def test_byte_by_byte_yields_the_same() -> None:
    """Each frame is complete with its last byte and not before."""
    assert heard([STREAM[place : place + 1] for place in range(len(STREAM))]) == (FRAMES, MESSAGES)


@given(st.lists(st.integers(0, len(LONG_STREAM)), max_size=12))
@quick
def test_any_cuts_yield_the_same(places: list[int]) -> None:
    """In many parts, some of them empty, with a length of eight bytes among them."""
    cuts = [0, *sorted(places), len(LONG_STREAM)]
    parts = [LONG_STREAM[start:end] for start, end in pairwise(cuts)]
    assert heard(parts) == ([LONG, *FRAMES], [LONG.payload, *MESSAGES])


@pytest.mark.parametrize("place", [*range(13), 65545, 65546, 65547])
def test_a_long_length_may_be_cut_anywhere(place: int) -> None:
    """In its eight bytes and around them."""
    assert heard([LONG_STREAM[:place], LONG_STREAM[place:]]) == ([LONG, *FRAMES], [LONG.payload, *MESSAGES])


@given(st.binary(max_size=60))
@quick
def test_any_bytes_are_frames_or_a_bad_frame(data: bytes) -> None:
    """Nothing else comes of them, and what was read is what was there."""
    try:
        frames, used = parse(data)
    except BadFrame as fault:
        frames, used = fault.frames, 0
    whole = b"".join(sent(frame.opcode, frame.payload, frame.fin) for frame in frames)
    assert data.startswith(whole)
    assert used in (0, len(whole))


BAD = {
    "RSV1": (sent(0x40 | TEXT), "reserved bits"),
    "RSV2": (sent(0x20 | TEXT), "reserved bits"),
    "RSV3": (sent(0x10 | BINARY), "reserved bits"),
    "RSV1 on a ping": (sent(0x40 | PING), "reserved bits"),
    **{f"opcode {opcode:X}": (sent(opcode), "unknown opcode") for opcode in (*range(3, 8), *range(0xB, 0x10))},
    "masked": (b"\x81\x81\x01\x02\x03\x04a", "masked"),
    "masked and empty": (b"\x81\x80", "masked"),
    "masked, with a long length": (b"\x81\xfe", "masked"),
    "masked ping": (b"\x89\x80", "masked"),
    "ping in fragments": (sent(PING, b"a", fin=False), "control frame in fragments"),
    "close in fragments": (sent(CLOSE, b"\x03\xe8", fin=False), "control frame in fragments"),
    "ping of 126 bytes": (sent(PING, bytes(126)), "more than 125 bytes"),
    "pong of 65536 bytes": (sent(PONG, bytes(65536)), "more than 125 bytes"),
    "close of one byte": (sent(CLOSE, b"\x03"), "half a code"),
    "length 125 in 16 bits": (b"\x81\x7e" + struct.pack("!H", 125) + bytes(125), "too long"),
    "length 0 in 64 bits": (b"\x81\x7f" + bytes(8), "too long"),
    "length 65535 in 64 bits": (b"\x82\x7f" + struct.pack("!Q", 65535) + bytes(65535), "too long"),
    "a byte more than the limit": (b"\x82\x7f" + struct.pack("!Q", MAX_PAYLOAD_BYTES + 1), "announced a frame"),
    "length 2^64-1": (b"\x82\x7f" + b"\xff" * 8, "announced a frame"),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "reserved bits"),
}
bad = pytest.mark.parametrize(("data", "sentence"), BAD.values(), ids=BAD.keys())


@bad
def test_what_a_server_must_not_send_is_a_bad_frame(data: bytes, sentence: str) -> None:
    """With one sentence, and with what was whole before it."""
    with pytest.raises(BadFrame, match=sentence) as fault:
        parse(STREAM + data)
    assert fault.value.frames == FRAMES
    assert str(fault.value).endswith(".")


@bad
def test_a_bad_frame_is_bad_however_it_is_cut(data: bytes, sentence: str) -> None:
    """Its bytes one more at a time are nothing until they are the same fault."""
    for size in range(min(len(data), 12) + 1):
        try:
            assert parse(data[:size]) == ([], 0)
        except BadFrame as fault:
            assert sentence in str(fault)
            return
    pytest.fail("never found")


def test_the_longest_frame_is_no_fault() -> None:
    """The limit itself is allowed, and waited for."""
    assert parse(b"\x82\x7f" + struct.pack("!Q", MAX_PAYLOAD_BYTES) + b"a") == ([], 0)


# Messages


def pushed(*frames: Frame) -> list[bytes | None]:
    """What each of some frames completes."""
    assembler = Assembler()
    return [assembler.push(frame) for frame in frames]


def test_fragments_are_one_message() -> None:
    """It is there with the last of them."""
    frames = [Frame(BINARY, False, b"a"), Frame(CONTINUATION, False, b""), Frame(CONTINUATION, True, b"b")]
    assert pushed(*frames, *frames) == [None, None, b"ab"] * 2


def test_control_frames_pass_between_fragments() -> None:
    """They complete nothing and disturb nothing."""
    between = [Frame(PING, True, b"\xff"), Frame(PONG, True, b"x"), Frame(CLOSE, True, b"")]
    assert pushed(Frame(TEXT, False, b"a"), *between, Frame(CONTINUATION, True, b"b")) == [None] * 4 + [b"ab"]


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([Frame(CONTINUATION, True, b"a")], "continued no message"),
        ([Frame(CONTINUATION, False, b"a")], "continued no message"),
        ([Frame(TEXT, True, b"a"), Frame(CONTINUATION, True, b"a")], "continued no message"),
        ([Frame(TEXT, False, b"a"), *[Frame(CONTINUATION, True, b"")] * 2], "continued no message"),
        ([Frame(TEXT, False, b"a"), Frame(TEXT, True, b"b")], "began a message inside another"),
        ([Frame(TEXT, False, b"a"), Frame(BINARY, False, b"b")], "began a message inside another"),
        ([Frame(TEXT, True, b"\xff")], "not UTF-8"),
        ([Frame(TEXT, True, "ä".encode()[:1])], "not UTF-8"),
        ([Frame(TEXT, False, "ä".encode()[:1]), Frame(CONTINUATION, True, b"a")], "not UTF-8"),
        ([Frame(TEXT, True, b"\xed\xa0\x80")], "not UTF-8"),
    ],
)
def test_what_is_no_message_is_a_bad_frame(frames: list[Frame], sentence: str) -> None:
    """Found with the frame that makes it so, and not before."""
    assembler = Assembler()
    for frame in frames[:-1]:
        assembler.push(frame)
    with pytest.raises(BadFrame, match=sentence):
        assembler.push(frames[-1])


def test_fragments_together_have_the_limit_of_a_frame() -> None:
    """However many there are: nobody fills the memory by never ending."""
    assembler, part = Assembler(), bytes(1024 * 1024)
    assembler.push(Frame(BINARY, False, part))
    for _ in range(15):
        assert assembler.push(Frame(CONTINUATION, False, part)) is None
    with pytest.raises(BadFrame, match="in fragments"):
        assembler.push(Frame(CONTINUATION, False, b"a"))


def test_many_messages_in_fragments_have_no_limit_together() -> None:
    """Each is counted for itself."""
    assembler, part = Assembler(), bytes(MAX_PAYLOAD_BYTES // 2)
    for _ in range(3):
        assert assembler.push(Frame(BINARY, False, part)) is None
        assert assembler.push(Frame(CONTINUATION, True, b"")) == part


def test_a_close_code_is_read() -> None:
    """The first two bytes; without them the RFC calls it 1005."""
    assert close_code(b"\x03\xe8") == 1000
    assert close_code(b"\x0f\xa0why") == 4000
    assert close_code(b"") == 1005


# Masked


def unmasked(data: bytes) -> tuple[int, bytes, bytes]:
    """The first byte, the key and the payload of a client's frame, as RFC 6455 section 5.3 has it, byte by byte."""
    size, start = data[1] & 0x7F, 2
    assert data[1] & 0x80
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    key, body = data[start : start + 4], data[start + 4 :]
    assert len(body) == size
    return data[0], key, bytes(byte ^ key[place % 4] for place, byte in enumerate(body))


@pytest.mark.parametrize("size", [*range(10), *LENGTHS])
def test_a_masked_frame_of_any_length_decodes_back(size: int) -> None:
    """Its length is written as short as possible."""
    payload = random.Random(size).randbytes(size)
    data = masked(payload)
    assert len(data) == size + 6 + (0 if size < 126 else 2 if size < 65536 else 8)
    assert (unmasked(data)[0], unmasked(data)[2]) == (FIN | TEXT, payload)


@given(st.binary(max_size=300), st.sampled_from([TEXT, BINARY, CLOSE, PING, PONG]))
@quick
def test_any_masked_frame_decodes_back(payload: bytes, opcode: int) -> None:
    """Leading zeros and all."""
    head, _, back = unmasked(masked(payload, opcode))
    assert (head, back) == (FIN | opcode, payload)


def test_each_frame_has_a_key_of_its_own() -> None:
    """As section 5.3 demands."""
    assert len({unmasked(masked(b"a"))[1] for _ in range(200)}) > 190
