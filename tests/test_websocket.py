"""Bytes on the socket: what RFC 6455 forbids, and what a member who reads slowly costs."""

import asyncio
import contextlib
import functools
import gc
import json
import random
import select
import socket
import struct
import sys
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.testing import ExpectLog
from tornado.web import Application
from tornado.websocket import WebSocketClosedError

from chat.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameReader,
    Frames,
    frame,
    text_frame,
)
from chat.websocket import FramesHandler, send_budget, write_message_to_all
from tests.support import DEADLINE_S
from tests.test_frames import FIN, START, VIOLATIONS, closing, masked, text

FRAMES_PER_YIELD = 128


# Real sockets


class Listener(FramesHandler):
    """A member's server side, as bare as can be; it notes what it hears and answers `echo` by itself."""

    house: "House"

    def open(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.ponged: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.house.arrived.put_nowait(self)

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        self.heard.put_nowait(message)
        return None

    def on_pong(self, data: bytes) -> None:
        self.ponged.put_nowait(data)

    def on_close(self) -> None:
        self.closed.set()

    @property
    def socket(self) -> socket.socket:
        return self.ws_connection.stream.socket  # type: ignore[union-attr]

    def __str__(self) -> str:
        return "listener"


class Peer:
    """A member's client side: it sends bytes and reads frames when it is asked to."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = bytearray()

    @classmethod
    async def connect(cls, port: int, receive_buffer_bytes: int = 0, **headers: str) -> "Peer":
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        peer = cls(sock)
        try:
            await peer._shake_hands(headers)
        except BaseException:
            peer.reset()
            raise
        return peer

    async def _shake_hands(self, headers: dict[str, str]) -> None:
        asked = {"Sec-WebSocket-Version": "13", **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [
            "GET / HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in asked.items()),
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._unread:
            await self.receive(65536)
        self.status = int(self._unread.split(b" ")[1])
        del self._unread[: self._unread.index(b"\r\n\r\n") + 4]

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, most_bytes: int) -> int:
        """Take some bytes in; returns how many, 0 at the end."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, most_bytes)
        self._unread += data
        return len(data)

    async def frame(self, read_bytes: int = 65536) -> tuple[int, bytes]:
        """The next frame, which the server must have made whole and unmasked."""
        while (found := self._frame()) is None:
            assert await self.receive(read_bytes), "the server closed in the middle"
        return found

    def _frame(self) -> tuple[int, bytes] | None:
        unread = self._unread
        if len(unread) < 2:
            return None
        assert unread[0] & 0xF0 == FIN
        start, size = 2, unread[1]
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(unread) < start:
                return None
            size = int.from_bytes(unread[2:start], "big")
        if len(unread) < start + size:
            return None
        found = unread[0] & 0x0F, bytes(unread[start : start + size])
        del unread[: start + size]
        return found

    async def hears_close(self) -> int:
        """The next frame is a close frame with a code, and then the server ends its side."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        assert not self._unread
        assert await self.receive(1) == 0
        payload[2:].decode()
        return int.from_bytes(payload[:2], "big")

    def read_all_there_is(self) -> None:
        """Take in what the kernels hold, in this turn of the loop."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._unread += self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Vanish with an RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class House:
    """A server on a port of its own; it ends when all its members' sockets are closed."""

    def __init__(self, handler: type[Listener]) -> None:
        self.arrived: asyncio.Queue[Listener] = asyncio.Queue()
        self._handler = type("Inhabitant", (handler,), {"house": self})
        self._members: list[tuple[Listener, Peer]] = []

    async def start(self) -> None:
        self._server = HTTPServer(Application([("/", self._handler)], log_function=lambda handler: None))
        listeners = bind_sockets(0, "127.0.0.1")
        self._server.add_sockets(listeners)
        self.port = listeners[0].getsockname()[1]

    async def enter(self, **options: Any) -> tuple[Any, Peer]:
        peer = await Peer.connect(self.port, **options)
        member = await self.arrived.get()
        self._members.append((member, peer))
        return member, peer

    async def end(self) -> None:
        for _, peer in self._members:
            peer.close()
        for member, _ in self._members:
            await member.closed.wait()
        self._server.stop()
        await self._server.close_all_connections()


@contextlib.asynccontextmanager
async def house(handler: type[Listener] = Listener) -> AsyncIterator[House]:
    built = House(handler)
    await built.start()
    try:
        yield built
    finally:
        await built.end()
    assert send_budget.waiting_bytes == 0
    assert not send_budget._holders


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on a loop of its own, with the one deadline."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test(*arguments, **named)

        asyncio.run(limited())

    return run


async def until(question: Callable[[], bool]) -> None:
    """Let the loop run until the answer is true; for what no event tells about."""
    for _ in iter(lambda: bool(question()), True):
        await asyncio.sleep(0)


def cut_offs(reason: str) -> float:
    return REGISTRY.get_sample_value("chatroom_cut_off_members_total", {"reason": reason}) or 0.0


def faults(code: int) -> float:
    return REGISTRY.get_sample_value("chatroom_protocol_faults_total", {"code": str(code)}) or 0.0


def stall(member: Listener) -> int:
    """Fill the way to a member who does not read, until something waits; returns how much does."""
    member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    while not member.waiting_bytes:
        member.write_message(Frames(text_frame(bytes(4000))))
    return member.waiting_bytes


RSV1 = 0x40


def deflated(data: bytes) -> bytes:
    """As a client compresses a message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


# The handshake


@pytest.mark.parametrize("version", ["8", "12", "14", "x", "013"])
@on_a_loop
async def test_a_version_that_is_not_13_is_refused(version: str) -> None:
    """RFC 6455 section 4.4: 426, and the version that is spoken."""
    async with house() as built:
        peer = await Peer.connect(built.port, Sec_WebSocket_Version=version)
        assert peer.status == 426
        peer.close()


@on_a_loop
async def test_who_goes_while_he_is_looked_at_is_closed_in_the_end() -> None:
    """A reset before the handshake's answer is told to the handler once he is there."""
    looking = asyncio.Event()

    class Slow(Listener):
        async def prepare(self) -> None:
            looking.set()
            await until(lambda: self._on_close_called)

        def open(self) -> None:
            self.is_open = True
            super().open()

        def on_close(self) -> None:
            if hasattr(self, "is_open"):
                super().on_close()

    async with house(Slow) as built:
        peer = asyncio.ensure_future(Peer.connect(built.port))
        await looking.wait()
        peer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await peer
        member = await built.arrived.get()
        await member.closed.wait()


@on_a_loop
async def test_without_an_offer_nothing_may_be_compressed() -> None:
    """RFC 7692: the bit that tells of compression is a violation where it was not agreed on."""
    async with house() as built:
        _, peer = await built.enter()
        await peer.send(masked(FIN | RSV1 | TEXT, deflated(b"hello")))
        assert await peer.hears_close() == 1002


@pytest.mark.parametrize("offer", ["permessage-deflate; server_no_context_takeover", "permessage-zstd", "nonsense;;=,"])
@on_a_loop
async def test_what_is_offered_otherwise_is_left_alone(offer: str) -> None:
    """The handshake goes well, and nothing may be compressed."""
    async with house() as built:
        _, peer = await built.enter(Sec_WebSocket_Extensions=offer)
        assert peer.status == 101
        await peer.send(masked(FIN | RSV1 | TEXT, deflated(b"hello")))
        assert await peer.hears_close() == 1002


@on_a_loop
async def test_what_a_client_compresses_is_heard() -> None:
    """Whole, in fragments with a ping between them, empty, or not compressed at all."""
    async with house() as built:
        member, peer = await built.enter(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        for text_said in ("hello " * 1000, "", "é"):
            data = deflated(text_said.encode())
            await peer.send(masked(FIN | RSV1 | TEXT, data))
            await peer.send(masked(RSV1 | TEXT, data[:1]) + masked(FIN | PING) + masked(FIN | CONTINUATION, data[1:]))
            assert [await member.heard.get() for _ in range(2)] == [text_said] * 2
        await peer.send(text("as it is"))
        assert await member.heard.get() == "as it is"


DEFLATED_FAULTS = {
    "what is no compression": (lambda: masked(FIN | RSV1 | TEXT, b"\xff\xff\xff"), 1007),
    "a bomb": (lambda: masked(FIN | RSV1 | TEXT, deflated(bytes(64 * 1024 * 1024))), 1009),
    "one byte too many": (lambda: masked(FIN | RSV1 | TEXT, deflated(bytes(64 * 1024 + 1))), 1009),
    "text that is not UTF-8": (lambda: masked(FIN | RSV1 | TEXT, deflated(b"\xff")), 1007),
    "a compressed ping": (lambda: masked(FIN | RSV1 | PING), 1002),
    "a compressed continuation": (
        lambda: masked(RSV1 | TEXT, b"") + masked(FIN | RSV1 | CONTINUATION, b""),
        1002,
    ),
    "another extension's bit": (lambda: masked(FIN | 0x20 | TEXT, b""), 1002),
}


@pytest.mark.parametrize(("sent", "code"), DEFLATED_FAULTS.values(), ids=DEFLATED_FAULTS.keys())
@on_a_loop
async def test_a_violation_of_compression_gets_its_close_code(sent: Callable[[], bytes], code: int) -> None:
    """And costs no more than a message may have."""
    async with house() as built:
        _, peer = await built.enter(Sec_WebSocket_Extensions="permessage-deflate")
        await peer.send(sent())
        assert await peer.hears_close() == code


@on_a_loop
async def test_a_socket_works_on_when_its_handshake_is_forgotten() -> None:
    """Headers, arguments and cookies are gone, of this member alone; hearing, speaking and closing go on."""

    class Forgetful(Listener):
        def open(self) -> None:
            self.forget_handshake()
            super().open()

    async with house(Forgetful) as built:
        members = [await built.enter(Cookie="a=b; c=d") for _ in range(2)]
        for member, peer in members:
            assert "Cookie" not in member.request.headers
            await peer.send(text("hello") + masked(FIN | PING))
            assert await member.heard.get() == "hello"
            assert await peer.frame() == (PONG, b"")
            member.write_message("hello, too")
            assert await peer.frame() == (TEXT, b"hello, too")
            await peer.send(closing(1000))
            assert await peer.hears_close() == 1000


@on_a_loop
async def test_a_member_at_rest_holds_neither_request_nor_task() -> None:
    """What the handshake needed is freed, its coroutines too: 11 kB a member."""
    requests = []

    class Forgetful(Listener):
        def open(self) -> None:
            requests.append(weakref.ref(self.request))
            self.forget_handshake()
            super().open()

    async with house(Forgetful) as built:
        before = asyncio.all_tasks()
        _, peer = await built.enter()
        await peer.send(masked(FIN | PING))
        assert await peer.frame() == (PONG, b"")
        gc.collect()
        assert requests[0]() is None
        assert not asyncio.all_tasks() - before


# Violations on the wire

BAD_CLOSES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
CONVERSATIONS = {
    **VIOLATIONS,
    "close of one byte": (masked(FIN | CLOSE, b"\x03"), 1002),
    **{f"close with {code}": (closing(code), 1002) for code in BAD_CLOSES},
    "close with a reason that is not UTF-8": (closing(1000, b"\xff"), 1007),
    "close with half a code point": (closing(1000, "é".encode()[:1]), 1007),
    "text that is not UTF-8": (text(b"\xff"), 1007),
    "overlong UTF-8": (text(b"\xc0\xaf"), 1007),
    "a surrogate in UTF-8": (text(b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (text(b"\xf4\x90\x80\x80"), 1007),
    "half a code point": (text(b"\xe2\x82"), 1007),
    "bad UTF-8 over fragments": (masked(TEXT, b"\xe2\x82") + masked(FIN | CONTINUATION, b"a"), 1007),
}


@pytest.mark.parametrize(("data", "code"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
@on_a_loop
async def test_a_violation_gets_its_close_code_and_the_end(data: bytes, code: int) -> None:
    """The close frame arrives whole and is the last thing: no reset in spite of bytes left unread; it is counted."""
    async with house() as built:
        member, peer = await built.enter()
        before = faults(code)
        await peer.send(text("valid") + data + text("too late") * 10)
        assert await peer.hears_close() == code
        assert faults(code) == before + 1
        peer.close()
        await member.closed.wait()
        assert member.heard.get_nowait() == "valid"
        assert member.heard.empty() or member.heard.get_nowait() == "a"
        assert member.heard.empty()


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
@on_a_loop
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    """RFC 6455 section 5.5.1: the closing handshake, then the server ends the connection."""
    async with house() as built:
        member, peer = await built.enter()
        await peer.send(closing(code, "räson".encode()) + text("too late"))
        assert await peer.hears_close() == code
        await member.closed.wait()
        assert (member.close_code, member.close_reason, member.heard.empty()) == (code, "räson", True)


@on_a_loop
async def test_a_close_without_a_code_is_answered_without_one() -> None:
    """An empty close frame is lawful."""
    async with house() as built:
        member, peer = await built.enter()
        await peer.send(masked(FIN | CLOSE))
        assert await peer.frame() == (CLOSE, b"")
        assert await peer.receive(1) == 0
        await member.closed.wait()


@on_a_loop
async def test_text_may_be_cut_inside_a_code_point() -> None:
    """UTF-8 is checked of the whole message."""
    async with house() as built:
        member, peer = await built.enter()
        first, *rest = ["€".encode()[place : place + 1] for place in range(3)]
        await peer.send(masked(TEXT, first) + b"".join(masked(CONTINUATION, part) for part in rest))
        await peer.send(masked(FIN | CONTINUATION, b"!") + masked(FIN | BINARY, b"\xff"))
        assert await member.heard.get() == "€!"
        assert await member.heard.get() == b"\xff"


@on_a_loop
async def test_a_ping_is_answered_between_fragments() -> None:
    """With the same payload, and the message still arrives."""
    async with house() as built:
        member, peer = await built.enter()
        await peer.send(START + masked(FIN | PING, b"are you there"))
        assert await peer.frame() == (PONG, b"are you there")
        await peer.send(masked(FIN | PING, bytes(125)) + masked(FIN | CONTINUATION, b"b"))
        assert await peer.frame() == (PONG, bytes(125))
        assert await member.heard.get() == "ab"


def test_every_loop_has_its_own_server() -> None:
    """Nothing that is shared between members is left over from a loop that has ended."""

    @on_a_loop
    async def is_answered() -> None:
        async with house() as built:
            member, peer = await built.enter()
            await peer.send(masked(FIN | PING) + text("after"))
            assert await peer.frame() == (PONG, b"")
            assert await member.heard.get() == "after"
            await member.write_message("hello")

    is_answered()
    is_answered()


@on_a_loop
async def test_a_member_who_vanishes_is_closed() -> None:
    """A reset is no fault and no log line."""
    async with house() as built:
        member, peer = await built.enter()
        peer.reset()
        await member.closed.wait()
        with pytest.raises(WebSocketClosedError):
            member.write_message(Frames(text_frame(b"too late")))


# Writing


@on_a_loop
async def test_write_message_takes_what_tornado_takes_and_frames_as_they_are() -> None:
    """str, bytes and dict become frames, `Frames` may hold several; all arrive in the order they were given in."""
    async with house() as built:
        member, peer = await built.enter()
        member.write_message("größe")
        member.write_message(b"bytes")
        member.write_message(b"\xff", binary=True)
        member.write_message({"a": 1})
        member.write_message(Frames(text_frame(b"one") + frame(BINARY, b"two")))
        member.write_message("")
        heard = [await peer.frame() for _ in range(7)]
        assert json.loads(heard.pop(3)[1]) == {"a": 1}
        assert heard == [
            (TEXT, "größe".encode()),
            (TEXT, b"bytes"),
            (BINARY, b"\xff"),
            (TEXT, b"one"),
            (BINARY, b"two"),
            (TEXT, b""),
        ]


@on_a_loop
async def test_a_broadcast_makes_no_future_per_member() -> None:
    """All writes of `Frames` to anybody return the one finished Future, also while bytes wait."""
    async with house() as built:
        member, _ = await built.enter(receive_buffer_bytes=4096)
        other, _ = await built.enter()
        said = Frames(text_frame(b"hello"))
        written = other.write_message(said)
        assert member.write_message(said) is member.write_message(said) is written
        stall(member)
        assert member.write_message(said) is written
        await written


@on_a_loop
async def test_small_messages_leave_at_once() -> None:
    """Nagle's algorithm is off: with delayed ACKs it would hold each message for 40 ms and more."""
    async with house() as built:
        member, _ = await built.enter()
        assert member.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@on_a_loop
async def test_a_closing_socket_refuses_messages() -> None:
    """As Tornado's: WebSocketClosedError from the close frame on."""
    async with house() as built:
        member, peer = await built.enter()
        connection = member.ws_connection
        member.close(1000, "enough")
        with pytest.raises(WebSocketClosedError):
            member.write_message("late")
        assert connection.is_closing()
        await peer.send(closing(1000))
        assert await peer.hears_close() == 1000


@on_a_loop
async def test_order_holds_however_the_bytes_leave() -> None:
    """Sent directly, in part, and from the backlog: every byte arrives in its place."""
    dice = random.Random(6455)
    payloads = [dice.randbytes(dice.choice([0, 1, 125, 126, 2000, 60_000, 300_000])) for _ in range(150)]
    ways = set()
    async with house(type("Patient", (Listener,), {"send_buffer_bytes": 1 << 30})) as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

        async def speak() -> None:
            for number, payload in enumerate(payloads):
                ways.add("behind" if member.waiting_bytes else "first")
                member.write_message(payload if number % 5 == 0 else Frames(frame(BINARY, payload)), binary=True)
                ways.add("waiting" if member.waiting_bytes else "gone")
                if number % 7 == 0:
                    await asyncio.sleep(0)
                if number % 20 == 0:
                    await member.drained()
            await member.drained()

        speaking = asyncio.create_task(speak())
        for payload in payloads:
            assert await peer.frame(read_bytes=dice.choice([1000, 10_000])) == (BINARY, payload)
        await speaking
        assert member.waiting_bytes == 0
    assert ways == {"first", "gone", "behind", "waiting"}


@on_a_loop
async def test_whoever_reads_again_hears_what_waits_before_what_is_said_now() -> None:
    """The kernel would take it at once, ahead of the backlog, which the loop has not come to yet."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        stall(member)
        waiting_bytes = member.waiting_bytes
        peer.read_all_there_is()
        assert select.select([], [member.socket], [], 0)[1]
        write_message_to_all([member], Frames(frame(BINARY, b"now")))
        assert member.waiting_bytes > waiting_bytes
        heard = [await peer.frame()]
        while heard[-1] != (BINARY, b"now"):
            heard.append(await peer.frame())
        assert set(heard[:-1]) == {heard[0]} != {heard[-1]}


@on_a_loop
async def test_whoever_has_caught_up_is_sent_to_at_once() -> None:
    """Nothing is kept for him any more."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        stall(member)
        while member.waiting_bytes:
            await peer.frame()
        write_message_to_all([member], Frames(frame(BINARY, b"now")))
        assert not member.waiting_bytes
        while await peer.frame() != (BINARY, b"now"):
            pass


@pytest.mark.parametrize("has_backlog", [False, True])
@on_a_loop
async def test_nothing_follows_a_close_frame(has_backlog: bool) -> None:
    """Whoever is told to go is told nothing after it, however the frame came to him."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        connection = member.ws_connection
        if has_backlog:
            stall(member)
        member.close(1000, "enough")
        write_message_to_all([member], Frames(frame(BINARY, b"late")))
        heard = [await peer.frame()]
        while heard[-1][0] != CLOSE:
            heard.append(await peer.frame())
        await until(lambda: not connection.waiting_bytes)
        write_message_to_all([member], Frames(frame(BINARY, b"too late")))
        await peer.send(closing(1000))
        assert await peer.receive(1) == 0
        assert not peer._unread
        assert (BINARY, b"late") not in heard


@on_a_loop
async def test_drained_returns_when_the_kernel_has_everything() -> None:
    """Not before; at once if nothing waits; for as many as ask."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        await member.drained()
        stall(member)
        waiting = [asyncio.create_task(member.drained()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        while member.waiting_bytes:
            await peer.receive(65536)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("is_waiting", [True, False])
@on_a_loop
async def test_drained_fails_when_the_member_goes(is_waiting: bool) -> None:
    """StreamClosedError for who waits and for who asks afterwards; nothing is kept of him."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        draining = None
        if is_waiting:
            stall(member)
            draining = asyncio.create_task(member.drained())
            await asyncio.sleep(0)
        peer.reset()
        if draining is not None:
            with pytest.raises(StreamClosedError):
                await draining
        await member.closed.wait()
        with pytest.raises(StreamClosedError):
            await member.drained()
        assert send_budget.waiting_bytes == 0


# Members who do not read


@on_a_loop
async def test_a_member_who_never_reads_is_cut_off_at_his_limit() -> None:
    """One log line, one count, the end of the connection; another member hears everything meanwhile."""
    limit = 100_000
    said = Frames(text_frame(bytes(10_000)))
    async with house(type("Small", (Listener,), {"send_buffer_bytes": limit})) as built:
        slow, peer = await built.enter(receive_buffer_bytes=4096)
        quick, reader = await built.enter()
        stall(slow)
        before, most = cut_offs("slow"), 0
        with ExpectLog("chatroom", r"cut off listener: \d+ bytes waiting \(slow\)") as logged:
            for _ in range(20):
                quick.write_message(said)
                assert await reader.frame() == (TEXT, bytes(10_000))
                with contextlib.suppress(WebSocketClosedError):
                    slow.write_message(said)
                most = max(most, slow.waiting_bytes)
            await slow.closed.wait()
        assert logged.matched == 1
        assert cut_offs("slow") == before + 1
        assert limit - 10_004 <= most <= limit
        assert slow.waiting_bytes == 0
        assert send_budget.waiting_bytes == 0
        while await peer.receive(65536):
            pass  # what the kernel had taken, and then the end: no close frame could have left


@on_a_loop
async def test_what_just_fits_is_not_cut_off() -> None:
    """Exactly the limit may wait; one byte more may not."""
    async with house(type("Small", (Listener,), {"send_buffer_bytes": 50_000})) as built:
        member, _ = await built.enter(receive_buffer_bytes=4096)
        stall(member)
        member.write_message(Frames(bytes(50_000 - member.waiting_bytes)))
        assert member.waiting_bytes == 50_000
        assert send_budget.waiting_bytes == 50_000
        with ExpectLog("chatroom", "cut off listener: 50000 bytes"):
            member.write_message(Frames(b"\x89\x00"))
        assert member.waiting_bytes == 0
        await member.closed.wait()


@on_a_loop
async def test_tornados_own_frames_are_bounded_too() -> None:
    """Pongs for a peer who pings and never reads do not pile up."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        waiting = stall(member)
        await peer.send(masked(FIN | PING, bytes(125)) * 2000 + text("after"))
        assert await member.heard.get() == "after"
        assert member.waiting_bytes - waiting < 2 * 127


@on_a_loop
async def test_of_all_members_the_fullest_are_cut_off_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the budget of all together, down to 7/8 of it; those who wait for less stay."""
    async with house(type("Patient", (Listener,), {"send_buffer_bytes": 1 << 30})) as built:
        members = [(await built.enter(receive_buffer_bytes=4096))[0] for _ in range(4)]
        for member, size in zip(members, (20_000, 60_000, 90_000, 30_000), strict=True):
            stall(member)
            member.write_message(Frames(bytes(size - member.waiting_bytes)))
        assert send_budget.waiting_bytes == 200_000
        monkeypatch.setattr(send_budget, "limit_bytes", 200_000)
        before = cut_offs("memory")
        members[0].write_message(Frames(bytes(0)))
        assert cut_offs("memory") == before
        with ExpectLog("chatroom", r"cut off listener: 90000 bytes waiting \(memory\)") as logged:
            members[0].write_message(Frames(bytes(1)))
        assert logged.matched == 1
        assert cut_offs("memory") == before + 1
        assert [member.waiting_bytes for member in members] == [20_001, 60_000, 0, 30_000]
        assert send_budget.waiting_bytes == 110_001
        await members[2].closed.wait()
        assert not any(member.closed.is_set() for member in (members[0], members[1], members[3]))


@on_a_loop
async def test_the_one_who_speaks_to_himself_may_be_the_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then he is cut off by his own write, which does not raise."""
    async with house() as built:
        member, _ = await built.enter(receive_buffer_bytes=4096)
        stall(member)
        monkeypatch.setattr(send_budget, "limit_bytes", 10_000)
        with ExpectLog("chatroom", r"cut off listener: \d+ bytes waiting \(memory\)"):
            member.write_message(Frames(bytes(20_000)))
        assert send_budget.waiting_bytes == 0
        await member.closed.wait()


@on_a_loop
async def test_what_comes_behind_a_wait_is_not_heard_of_one_who_is_gone() -> None:
    """Two messages in one packet: while the first is being handled his connection ends, and he is taken out."""
    async with house(Busy) as built:
        member, peer = await built.enter()
        await peer.send(text("first") + text("second"))
        assert await member.heard.get() == "first"
        member.abort()
        member.go_on.set()
        await member.closed.wait()
        assert member.heard.empty()


# Pings


@on_a_loop
async def test_a_silent_member_is_dropped_at_the_second_ping() -> None:
    """He is asked once and has until the next time."""
    async with house() as built:
        member, peer = await built.enter()
        before = cut_offs("silent")
        member.ping_or_drop()
        assert await peer.frame() == (PING, b"")
        assert cut_offs("silent") == before
        member.ping_or_drop()
        assert cut_offs("silent") == before + 1
        await member.closed.wait()
        assert await peer.receive(1) == 0
        member.ping_or_drop()
        assert cut_offs("silent") == before + 1


@pytest.mark.parametrize("answer", [masked(FIN | PONG), masked(FIN | PING), text("busy"), b"\x81"])
@on_a_loop
async def test_a_member_who_is_heard_is_kept(answer: bytes) -> None:
    """A pong is as good as anything else that comes in, be it part of a frame."""
    async with house() as built:
        member, peer = await built.enter()
        await peer.send(masked(FIN | PONG, b"hello"))
        assert await member.ponged.get() == b"hello"
        for _ in range(3):
            member.ping_or_drop()
            assert (await peer.frame())[0] == PING
            await peer.send(answer)
            await until(lambda: member.ws_connection.heard)
            if answer == masked(FIN | PING):
                assert (await peer.frame())[0] == PONG
            if answer == b"\x81":
                answer = b"\x80\x00\x00\x00\x00" + b"\x81"
        assert not member.closed.is_set()


@on_a_loop
async def test_a_member_who_reads_slowly_is_not_silent() -> None:
    """He is alive while his backlog moves, be it by less than a chunk; not once nothing is taken between two pings."""
    async with house() as built:
        member, peer = await built.enter(receive_buffer_bytes=4096)
        stall(member)
        member.write_message(Frames(text_frame(bytes(900_000))))
        before = cut_offs("silent")
        for _ in range(5):
            member.ping_or_drop()
            taken = 0
            while taken < 100_000:  # more than the kernel holds, so that some of it has only just left
                taken += await peer.receive(65536)
        assert member.waiting_bytes
        assert cut_offs("silent") == before
        member.ping_or_drop()
        member.ping_or_drop()
        await member.closed.wait()
        assert cut_offs("silent") == before + 1


class Busy(Listener):
    """A server side that takes its time over each message."""

    def open(self) -> None:
        super().open()
        self.go_on = asyncio.Event()

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        super().on_message(message)
        return asyncio.ensure_future(self.go_on.wait())  # type: ignore[return-value]


@on_a_loop
async def test_a_member_whose_messages_we_let_wait_is_not_silent() -> None:
    """While we do not read on, his pongs wait with the rest: that is no sign of his death."""
    async with house(Busy) as built:
        member, peer = await built.enter()
        await peer.send(text("first"))
        assert await member.heard.get() == "first"
        await peer.send(text("second"))
        before = cut_offs("silent")
        try:
            for _ in range(4):
                member.ping_or_drop()
                await asyncio.sleep(0)
            assert cut_offs("silent") == before
        finally:
            member.go_on.set()
        assert await member.heard.get() == "second"


# Faults of ours, and floods


class Faulty(Listener):
    """A server side that fails over every message."""

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        super().on_message(message)
        if message == "later":
            return self._fail_later()
        raise ValueError("not today")

    async def _fail_later(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("not later either")


@pytest.mark.parametrize("words", ["now", "later"])
@on_a_loop
async def test_a_fault_of_ours_is_one_traceback_and_1011(words: str) -> None:
    """The member is asked to come back; what he had sent behind it is not looked at."""
    async with house(Faulty) as built:
        member, peer = await built.enter()
        with ExpectLog("chatroom", "a frame of listener could not be handled") as logged:
            await peer.send(text(words) * 20)
            opcode, payload = await peer.frame()
            await peer.send(closing(1011))
            await member.closed.wait()
        assert (opcode, payload[:2]) == (CLOSE, (1011).to_bytes(2, "big"))
        assert (logged.matched, logged.logged_stack) == (1, True)
        assert member.heard.qsize() == 1


class CountingReader(FrameReader):
    """The reader itself, which counts the frames of all sockets."""

    __slots__ = ()
    frames = 0

    def _assemble(self, head: int, payload: bytes) -> tuple[int, bytes] | None:
        CountingReader.frames += 1
        return super()._assemble(head, payload)


FLOODS = {
    "texts": text("x"),
    "pings": masked(FIN | PING),
    "pongs": masked(FIN | PONG),
    "empty fragments": masked(CONTINUATION),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
@on_a_loop
async def test_a_flood_of_small_frames_leaves_the_loop_to_others(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come in one read, after every 128 of them another coroutine has its turn."""
    monkeypatch.setattr("chat.websocket.FrameReader", CountingReader)
    between_turns = []

    async def other() -> None:
        while True:
            before = CountingReader.frames
            await asyncio.sleep(0)
            between_turns.append(CountingReader.frames - before)

    async with house() as built:
        member, peer = await built.enter()
        others = asyncio.create_task(other())
        await peer.send(masked(TEXT, b"la") if flood == FLOODS["empty fragments"] else b"")
        await peer.send(flood * 10_000)
        await peer.send(masked(FIN | CONTINUATION, b"st") if flood == FLOODS["empty fragments"] else text("last"))
        while await member.heard.get() != "last":
            pass
        others.cancel()
    assert sum(between_turns) > 10_000
    assert max(between_turns) <= FRAMES_PER_YIELD


SHOUT = """
import os, select
while select.select([], [1], []):
    os.write(1, bytes(1 << 20))
"""


@on_a_loop
async def test_a_flood_after_a_violation_leaves_the_loop_to_others() -> None:
    """Whoever is shown the door and shouts on does not keep the others from being heard."""
    async with house() as built:
        _, shouting = await built.enter()
        calm, peer = await built.enter()
        await shouting.send(b"\x81\x01a")
        # A process of its own: a thread of this one would have to wait for its turn, too.
        loud = await asyncio.create_subprocess_exec(sys.executable, "-c", SHOUT, stdout=shouting._socket)
        try:
            assert await shouting.hears_close() == 1002
            for number in range(100):
                await peer.send(text(str(number)))
                assert await calm.heard.get() == str(number)
            assert loud.returncode is None
        finally:
            loud.kill()
            await loud.wait()
