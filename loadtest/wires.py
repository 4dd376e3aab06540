"""A member's side of the socket: the handshake, the frames of RFC 6455, and what each server says and hears.

Owns the bytes. A `Wire` is all that differs between the servers: how a message is said, and how one is known again.
It knows no crowd, no server process, no clock and no figures.
"""

import contextlib
import socket
from typing import Protocol

import msgspec

HOST = "127.0.0.1"
ROOM = "bench"
HANDSHAKE_S = 20.0


class Wire(Protocol):
    """How messages look on one server's socket."""

    subprotocol: str
    settle_s: float

    def say(self, number: int, text: str) -> bytes:
        """Return the payload that says `text`."""

    def hear(self, payload: bytes) -> str | None:
        """Return the text of a message, or None for a frame that is no message.

        Raises ValueError for what must never come.
        """


class PlainWire:
    """A text frame in is a message, and comes back as it is."""

    subprotocol = ""
    settle_s = 0.3

    def say(self, number: int, text: str) -> bytes:
        """Return the text itself."""
        return text.encode()

    def hear(self, payload: bytes) -> str | None:
        """Return the text itself."""
        return payload.decode()


class V1Frame(msgspec.Struct):
    """The fields of a `chatroom.v1` frame that are checked here."""

    type: str
    seq: int = 0
    text: str = ""
    code: str = ""
    message: str = ""


class V1Wire:
    """`chatroom.v1`: numbered events, acks, and presence that differs from member to member."""

    subprotocol = "chatroom.v1"
    settle_s = 1.1  # presence comes at most once a second: after this there is no more of it

    def __init__(self) -> None:
        self.last_seq: int | None = None
        self._decode = msgspec.json.Decoder(V1Frame).decode

    def say(self, number: int, text: str) -> bytes:
        """Return a `say` frame."""
        return b'{"type":"say","client_id":"b%d","text":"%b"}' % (number, text.encode())

    def hear(self, payload: bytes) -> str | None:
        """Return the text of a `message`, whose `seq` must follow the last one; pass over what is the member's own."""
        frame = self._decode(payload)
        if frame.type in ("error", "bye"):
            raise ValueError(f"{frame.type} {frame.code}: {frame.message}")
        if frame.type != "message":
            return None
        if self.last_seq is not None and frame.seq != self.last_seq + 1:
            raise ValueError(f"seq {frame.seq} after {self.last_seq}")
        self.last_seq = frame.seq
        return frame.text


def client_frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a frame masked with a key of zero, which RFC 6455 lets us choose: it leaves the payload as it is."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2)
    return head + bytes(4) + payload


def frame_bounds(data: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `start` begins and ends, or None while it is incomplete."""
    if len(data) < start + 2:
        return None
    size, payload_start = data[start + 1], start + 2
    if size >= 126:
        payload_start += 2 if size == 126 else 8
        size = int.from_bytes(data[start + 2 : payload_start])
    payload_end = payload_start + size
    return (payload_start, payload_end) if payload_end <= len(data) else None


def knock(port: int, wire: Wire, *, is_slow: bool = False) -> socket.socket:
    """Connect and send the handshake."""
    one = socket.socket()
    one.settimeout(HANDSHAKE_S)
    if is_slow:
        # Small segments and a small window keep the kernel's share small: else it swallows megabytes first.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    one.connect((HOST, port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    subprotocol = f"Sec-WebSocket-Protocol: {wire.subprotocol}\r\n" if wire.subprotocol else ""
    one.sendall(
        f"GET /ws?room={ROOM} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n".encode()
    )
    return one


def read_handshake(one: socket.socket) -> bytes:
    """Wait until the server has let it in, and return what came behind the answer.

    Raises RuntimeError if it refuses.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = one.recv(4096)
        if not chunk:
            raise RuntimeError(f"closed during the handshake after {data[:200]!r}")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"handshake refused: {head[:200]!r}")
    return rest
