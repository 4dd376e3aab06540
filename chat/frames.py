"""Frames of RFC 6455, as bytes: made once for many members, and cut out of what a client sends.

Pure: knows no socket and no loop. Invariant: what the reader yields is what the RFC allows a
client to send; everything else is a `Fault` with the close code it gets.
"""

import struct
import zlib
from collections.abc import Iterator

from tornado.util import _websocket_mask

from chat.protocol import MAX_FRAME_BYTES, CloseCode

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Frames:
    """Ready bytes of one or more whole frames, made once and sent to many members."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (0x80 | opcode, size, payload)
    if size < 65536:
        return _MEDIUM_HEAD(0x80 | opcode, 126, size) + payload
    return _LONG_HEAD(0x80 | opcode, 127, size) + payload


_MEDIUM_HEAD, _LONG_HEAD = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


def text_frame(payload: bytes) -> bytes:
    """One text frame; `payload` is UTF-8."""
    return frame(TEXT, payload)


PING_FRAME = frame(PING, b"")


# Compression (RFC 7692)

_RSV1 = 0x40  # in a frame's first byte: the message is compressed
_WINDOW_BITS = 12  # 4 KiB of history hold twenty messages, and a deflater takes 24 kB
_TAIL = b"\x00\x00\xff\xff"  # ends what zlib flushes, and is left out on the wire


class Deflater:
    """Compresses texts for all who have been sent everything that it has compressed so far.

    Its history goes over from one message to the next: alone, a chat's messages would shrink by a fifth, with
    history by two thirds. What is sent uncompressed in between is no part of it.
    """

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(level=1, method=zlib.DEFLATED, wbits=-_WINDOW_BITS, memLevel=5)

    def frame(self, text_frame: bytes) -> bytes:
        """The same text, compressed."""
        payload = memoryview(text_frame)[_HEAD_BYTES.get(text_frame[1], 2) :]
        deflated = self._zlib.compress(payload) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return frame(_RSV1 | TEXT, deflated[: -len(_TAIL)])


_HEAD_BYTES = {126: 4, 127: 10}  # by a frame's second byte


def agreed_deflate(offers: str) -> str | None:
    """What to answer to a client's `Sec-WebSocket-Extensions`; None if nothing is offered that is spoken here.

    Spoken is permessage-deflate with history outwards, of which all members of a room share one, and without inwards,
    so that nothing has to be kept for a member.
    """
    for offer in offers.split(","):
        name, *parameters = (word.strip() for word in offer.split(";"))
        if name.lower() == "permessage-deflate" and (window := _window_for(parameters)) is not None:
            return f"permessage-deflate; client_no_context_takeover{window}"
    return None


def _window_for(parameters: list[str]) -> str | None:
    """What is to be said of our window, "" if it was not asked for; None if the offer is not one, or not for us."""
    given = dict(parameter.partition("=")[::2] for parameter in parameters)
    if len(given) != len(parameters) or not given.keys() <= _OFFERED.keys():
        return None
    if any(value.strip(' "') not in _OFFERED[name] for name, value in given.items()):
        return None
    return f"; server_max_window_bits={_WINDOW_BITS}" if "server_max_window_bits" in given else ""


# Which values a parameter may have (RFC 7692 section 7.1); "": none.
_OFFERED = {
    "client_no_context_takeover": {""},
    "client_max_window_bits": {"", *map(str, range(8, 16))},
    "server_max_window_bits": {*map(str, range(_WINDOW_BITS, 16))},  # a smaller one would not hold our history
}


def inflate(payload: bytes) -> bytes:
    """The message that was compressed; raises Fault, also for one that would become too long."""
    inflater = zlib.decompressobj(wbits=-15)
    try:
        message = inflater.decompress(payload + _TAIL, MAX_FRAME_BYTES + 1)
        is_whole = inflater.eof or (not inflater.decompress(_LAST_BLOCK, 1) and inflater.eof)
    except zlib.error:
        raise _not_compressed() from None
    if len(message) > MAX_FRAME_BYTES:
        raise _too_big()
    # A last block may be marked as such; nothing but the end of the message may stand behind it.
    if not is_whole or inflater.unconsumed_tail or inflater.unused_data not in _ENDS:
        raise _not_compressed()
    return message


_LAST_BLOCK = b"\x01\x00\x00\xff\xff"  # empty: it is the end wherever a block may begin, and nowhere else
_ENDS = (b"", _TAIL, b"\x00" + _TAIL)


def _not_compressed() -> "Fault":
    return Fault(CloseCode.NOT_UTF8, "a compressed message must be one")


# Reading


class Fault(Exception):
    """The client broke RFC 6455; `code` is the close code it gets."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Cuts a client's bytes into messages and control frames; a whole read at a time.

    Stricter than Tornado's reader, which takes unmasked frames (refused in RFC 6455 section
    5.1) and awaits three futures a frame.
    """

    __slots__ = ("_fragments", "_head", "_inflates", "_unread")

    def __init__(self, inflates: bool = False) -> None:
        """`inflates`: whether permessage-deflate was agreed on."""
        self._unread = bytearray()
        self._fragments: bytearray | None = None
        self._head = 0
        self._inflates = inflates

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes] | None]:
        """Yield for each frame in `data` the (opcode, payload) it completes, or None; raises Fault."""
        self._unread += data
        position = 0
        try:
            while (found := self._frame_at(position)) is not None:
                head, start, end = found
                payload = _websocket_mask(bytes(self._unread[start - 4 : start]), bytes(self._unread[start:end]))
                position = end
                yield self._assemble(head, payload)
        finally:
            del self._unread[:position]

    def _frame_at(self, position: int) -> tuple[int, int, int] | None:
        """The frame's first byte and where its payload starts and ends; None until it is all there."""
        unread = self._unread
        there = len(unread) - position
        if there < 2:
            return None
        head, size = unread[position], unread[position + 1] & 0x7F
        if not unread[position + 1] & 0x80:
            raise Fault(CloseCode.PROTOCOL_ERROR, "a client must mask its frames")
        _check_head(head, size, self._inflates)
        start = position + 6
        if size == 126:
            if there < 4:
                return None
            (size,) = struct.unpack_from("!H", unread, position + 2)
            start += 2
            if size < 126:
                raise Fault(CloseCode.PROTOCOL_ERROR, "a length must be written as short as possible")
        elif size == 127:
            if there < 10:
                return None
            (size,) = struct.unpack_from("!Q", unread, position + 2)
            start += 8
            if size < 65536 or size >= 1 << 63:
                raise Fault(CloseCode.PROTOCOL_ERROR, "a length must be written as short as possible")
        self._check_size(head, size)
        end = start + size
        return (head, start, end) if end <= len(unread) else None

    def _check_size(self, head: int, size: int) -> None:
        held = len(self._fragments) if self._fragments is not None and not head & 0x8 else 0
        if held + size > MAX_FRAME_BYTES:
            raise _too_big()

    def _assemble(self, head: int, payload: bytes) -> tuple[int, bytes] | None:
        """Join fragments (RFC 6455 section 5.4); control frames pass between them."""
        opcode, final = head & 0x0F, head & 0x80
        if opcode & 0x8:
            return opcode, payload
        if (opcode == CONTINUATION) != (self._fragments is not None) or (opcode == CONTINUATION and head & _RSV1):
            raise Fault(CloseCode.PROTOCOL_ERROR, "a fragment is out of place")
        if opcode != CONTINUATION:
            if final:
                return _whole(head, payload)
            self._head, self._fragments = head, bytearray()
        assert self._fragments is not None
        self._fragments += payload
        if not final:
            return None
        whole, self._fragments = bytes(self._fragments), None
        return _whole(self._head, whole)


def _whole(head: int, payload: bytes) -> tuple[int, bytes]:
    """A message as it was said; `head` is the first byte of its first frame."""
    return head & 0x0F, inflate(payload) if head & _RSV1 else payload


def _too_big() -> Fault:
    return Fault(CloseCode.TOO_BIG, f"a message has at most {MAX_FRAME_BYTES} bytes")


def _check_head(head: int, size: int, inflates: bool) -> None:
    opcode = head & 0x0F
    if head & 0x70 and not (inflates and head & 0x70 == _RSV1 and not opcode & 0x8):
        raise Fault(CloseCode.PROTOCOL_ERROR, "no extension was agreed on")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise Fault(CloseCode.PROTOCOL_ERROR, "unknown opcode")
    if opcode & 0x8 and (size > 125 or not head & 0x80):
        raise Fault(CloseCode.PROTOCOL_ERROR, "a control frame is short and whole")


def check_close(payload: bytes) -> None:
    """Refuse what RFC 6455 section 7.4 does not allow in a close frame; raises Fault. Tornado would echo any code."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _CLOSE_CODES or 3000 <= code <= 4999):
        raise Fault(CloseCode.PROTOCOL_ERROR, "not a close code")
    from_utf8(payload[2:])


_CLOSE_CODES = {1000, 1001, 1002, 1003, *range(1007, 1015)}


def from_utf8(payload: bytes) -> str:
    """The text of a message or a close reason; raises Fault."""
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(CloseCode.NOT_UTF8, "text must be UTF-8") from None
