"""Members by the hundred in one loop of asyncio: their sockets, and what each of them heard.

For tests in which there are many, and in which some behave as no client would. Invariant: a member's events are checked
as they come: whatever is not the next one is counted, over all his connections.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from loadtest.frames import CLOSE, PING, PONG, TEXT, close_code, masked, parse
from tests.support import DEADLINE_S

EVENTS = frozenset(
    ("message", "edit", "delete", "purge", "reactions", "rules", "role", "act", "trim", "removed")
)  # the types that have a place in the log


class Refused(Exception):
    """The server did not take the socket."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__(f"HTTP {status}, come back in {retry_after_s} s")
        self.status = status
        self.retry_after_s = retry_after_s


class Heard(NamedTuple):
    """A frame of the server, decoded once for all who hear the same."""

    frame: dict[str, Any]
    payload: bytes


@lru_cache(1 << 14)
def heard(payload: bytes) -> Heard:
    return Heard(json.loads(payload), payload)


class Wire(asyncio.Protocol):
    """One connection to the server, from its first byte on; what it does wrong is up to the test."""

    def __init__(self, on_text: Callable[[bytes], None] = lambda text: None) -> None:
        self.on_text = on_text
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code = 1006
        self.transport: asyncio.Transport
        self._unread = b""

    @classmethod
    async def to(cls, port: int, *arguments: Any, window_bytes: int = 0) -> "Wire":
        """Connect; a small `window_bytes` is what the kernel takes for one who does not read."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if window_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            _, wire = await loop.create_connection(lambda: cls(*arguments), sock=sock)
        except BaseException:
            sock.close()
            raise
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)
        if not self.answered.done():
            self.answered.set_result(b"")

    async def until_gone(self) -> None:
        await asyncio.wait([self.gone])  # unlike awaiting it, whoever is cancelled here does not cancel it for all

    async def shake_hands(self, path: str, cookie: str = "", plain: bool = False) -> dict[str, str]:
        """Become a WebSocket; returns the headers of the answer, raises Refused or ConnectionError."""
        self.transport.write(handshake(path, cookie, plain))
        head = await self.answered
        if not head:
            raise ConnectionError("closed without an answer")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if (status := int(lines[0].split()[1])) != 101:
            self.transport.abort()
            raise Refused(status, float(headers.get("retry-after", 0)))
        return headers

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        if not self.answered.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._unread = head
                return
            self.answered.set_result(head)
            if not head.startswith(b"HTTP/1.1 101"):
                return
        frames, taken = parse(data)
        self._unread = data[taken:]
        for opcode, _, payload in frames:
            if opcode == TEXT:
                self.on_text(payload)
            elif opcode == PING:
                self.transport.write(masked(payload, PONG))
            elif opcode == CLOSE:
                self.close_code = close_code(payload)
                self.transport.write(masked(payload, CLOSE))
                self.transport.close()

    def reset(self) -> None:
        """Go with an RST, as a machine does that loses its network or its power."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def handshake(path: str, cookie: str = "", plain: bool = False) -> bytes:
    """The request for a WebSocket at this path."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if not plain:
        lines.append("Sec-WebSocket-Protocol: chatroom.v1")
    if cookie:
        lines.append(f"Cookie: {cookie}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Member:
    """One person with one socket at a time, who remembers over all of them what he heard."""

    def __init__(self, port: int, room: str, name: str = "", plain: bool = False) -> None:
        self.port, self.room, self.name, self.plain = port, room, name, plain
        self.cookie = ""
        self.wire: Wire | None = None
        self.welcome: dict[str, Any] = {}
        self.bye: dict[str, Any] | None = None
        self.out: dict[str, Any] | None = None
        self.events: list[bytes] = []
        self.last_seq = 0
        self.out_of_order = 0
        self.acks: dict[str, int] = {}
        self.refused: list[dict[str, Any]] = []
        self.on_frame: Callable[[dict[str, Any]], None] = lambda frame: None
        self._welcomed: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        return str(self.welcome["you"]["id"])

    @property
    def is_here(self) -> bool:
        return self.wire is not None and not self.wire.gone.done()

    @property
    def is_in(self) -> bool:
        """Here, and welcomed."""
        return self.is_here and self._welcomed is not None and self._welcomed.done()

    async def enter(self, window_bytes: int = 0) -> None:
        """Come in, or come back and resume; raises Refused and OSError."""
        place = {"room": self.room, "name": self.name}
        if self.welcome:
            place |= {"epoch": self.welcome["epoch"], "after": str(self.last_seq)}
        self.bye = self.out = None
        self._welcomed = asyncio.get_running_loop().create_future()
        wire = await Wire.to(self.port, self._hear_plain if self.plain else self._hear, window_bytes=window_bytes)
        try:
            headers = await wire.shake_hands(f"/ws?{urlencode(place)}", self.cookie, self.plain)
            self.cookie = headers.get("set-cookie", self.cookie).split(";")[0]
            self.wire = wire
            if not self.plain:
                await asyncio.wait((self._welcomed, wire.gone), return_when=asyncio.FIRST_COMPLETED)
                if not self._welcomed.done():
                    raise ConnectionError("closed before the welcome")
        except BaseException:
            wire.transport.abort()
            raise

    def send(self, **frame: Any) -> None:
        self.write(masked(json.dumps(frame).encode()))

    def say(self, text: str, client_id: str) -> None:
        self.write(masked(text.encode())) if self.plain else self.send(type="say", client_id=client_id, text=text)

    def write(self, data: bytes) -> None:
        if self.wire is not None and not self.wire.transport.is_closing():
            self.wire.transport.write(data)

    def vanish(self) -> None:
        """Go without a word."""
        if self.wire is not None:
            self.wire.transport.abort()

    async def leave(self) -> None:
        """Close as a client should."""
        if self.wire is not None:
            self.write(masked((1000).to_bytes(2, "big"), CLOSE))
            async with asyncio.timeout(DEADLINE_S):
                await self.wire.until_gone()

    def _hear(self, payload: bytes) -> None:
        frame, payload = heard(payload)
        kind = frame["type"]
        if kind in EVENTS:
            self.out_of_order += bool(self.last_seq) and frame["seq"] != self.last_seq + 1
            self.last_seq = frame["seq"]
            self.events.append(payload)
        elif kind == "ack":
            self.acks[frame["client_id"]] = frame["seq"]
        elif kind == "welcome":
            self._take_welcome(frame)
        elif kind == "bye":
            self.bye = frame
        elif kind == "out":
            self.out = frame
            self._let_in()
        elif kind == "error":
            self.refused.append(frame)
        self.on_frame(frame)

    def _take_welcome(self, frame: dict[str, Any]) -> None:
        self.welcome = frame
        if frame.get("resumed") in ("gap", "reset"):
            self.last_seq = 0
            self.events.clear()
        self._let_in()

    def _let_in(self) -> None:
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_result(None)

    def _hear_plain(self, payload: bytes) -> None:
        pass
