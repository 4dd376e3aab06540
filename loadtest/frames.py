"""The client's side of RFC 6455 as bytes: cuts what a server sends into frames, and masks what is sent to it.

Pure: knows no socket, no clock and no message. The server's own code for frames is not used: what is wrong there
must not be right here. Invariant: what a server must not send (RFC 6455 section 5) is a `BadFrame`, never a frame.
"""

from collections.abc import Sequence
from random import getrandbits
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_ORDINARY_HEADS = frozenset((0x80 | TEXT, 0x80 | BINARY))

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""More in one message is taken for a fault."""

NO_CODE = 1005
"""What RFC 6455 section 7.1.5 calls a close frame without a code."""


class Frame(NamedTuple):
    """One frame of a server, unmasked as it came."""

    opcode: int
    fin: bool
    payload: bytes


class BadFrame(ValueError):
    """The server broke RFC 6455; `frames` are those that came whole before it."""

    def __init__(self, sentence: str, frames: Sequence[Frame] = ()) -> None:
        super().__init__(sentence)
        self.frames = list(frames)


# Reading


def parse(data: bytes) -> tuple[list[Frame], int]:
    """Return the complete frames that `data` starts with, and how many bytes they took; raises BadFrame."""
    frames: list[Frame] = []
    position = 0
    try:
        while (span := _span(data, position)) is not None:
            start, end = span
            head = data[position]
            frames.append(Frame(head & 0x0F, head >= 0x80, data[start:end]))
            position = end
    except BadFrame as fault:
        fault.frames = frames
        raise
    return frames, position


def _span(data: bytes, position: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `position` starts and ends; None until it is all there."""
    if len(data) < position + 2:
        return None
    head, size = data[position], data[position + 1]
    if head not in _ORDINARY_HEADS or size > 127:
        _check_head(head, size)
    start = position + 2
    if size > 125:
        start += 2 if size == 126 else 8
        if len(data) < start:
            return None
        size = _long_size(data[position + 2 : start])
    end = start + size
    return (start, end) if end <= len(data) else None


def _check_head(head: int, size: int) -> None:
    opcode = head & 0x0F
    if head & 0x70:
        raise BadFrame(f"The server set reserved bits in a frame ({head:#04x}), though no extension was agreed on.")
    if opcode > PONG or BINARY < opcode < CLOSE:
        raise BadFrame(f"The server sent a frame with the unknown opcode {opcode:#x}.")
    if size >= 0x80:
        raise BadFrame("The server masked a frame, which only a client may do.")
    if opcode >= CLOSE and not head & 0x80:
        raise BadFrame("The server sent a control frame in fragments.")
    if opcode >= CLOSE and size > 125:
        raise BadFrame("The server sent a control frame of more than 125 bytes.")
    if opcode == CLOSE and size == 1:
        raise BadFrame("The server sent a close frame with half a code.")


def _long_size(digits: bytes) -> int:
    size = int.from_bytes(digits, "big")
    if size < (126 if len(digits) == 2 else 65536):
        raise BadFrame(f"The server wrote the length {size} of a frame in {len(digits)} bytes, which is too long.")
    if size > MAX_PAYLOAD_BYTES:
        raise BadFrame(f"The server announced a frame of {size} bytes, more than {MAX_PAYLOAD_BYTES}.")
    return size


class Assembler:
    """Joins the fragments of one socket's messages; control frames pass between them."""

    __slots__ = ("_fragments", "_is_text", "_size")

    def __init__(self) -> None:
        self._fragments: list[bytes] | None = None
        self._is_text = False
        self._size = 0

    def push(self, frame: Frame) -> bytes | None:
        """Return the message that this frame completes, None if it completes none; raises BadFrame."""
        opcode, fin, payload = frame
        if opcode >= CLOSE:
            return None
        if (opcode == CONTINUATION) != (self._fragments is not None):
            what = "continued no message" if opcode == CONTINUATION else "began a message inside another"
            raise BadFrame(f"The server {what}.")
        if fin and opcode != CONTINUATION:
            return _checked(payload, opcode == TEXT)
        return self._join(opcode, fin, payload)

    def _join(self, opcode: int, fin: bool, payload: bytes) -> bytes | None:
        if self._fragments is None:
            self._fragments, self._is_text, self._size = [], opcode == TEXT, 0
        self._fragments.append(payload)
        self._size += len(payload)
        if self._size > MAX_PAYLOAD_BYTES:
            raise BadFrame(f"The server sent a message of more than {MAX_PAYLOAD_BYTES} bytes in fragments.")
        if not fin:
            return None
        whole, self._fragments = b"".join(self._fragments), None
        return _checked(whole, self._is_text)


def _checked(message: bytes, is_text: bool) -> bytes:
    if is_text:
        try:
            message.decode()
        except UnicodeDecodeError:
            raise BadFrame("The server sent a text that is not UTF-8.") from None
    return message


def close_code(payload: bytes) -> int:
    """Return the code that the payload of a close frame tells."""
    return int.from_bytes(payload[:2], "big") if len(payload) > 1 else NO_CODE


# Writing


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one final frame of a client, masked with a key of its own."""
    size = len(payload)
    # The key only has to differ: nobody between us and a server under test is to be kept from guessing it.
    key = getrandbits(32).to_bytes(4, "big")
    mask = (key * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + key + body
    if size < 65536:
        return bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big") + key + body
    return bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big") + key + body
