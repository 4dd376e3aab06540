"""The house the tests live in: a server with a database of its own in this process, and its members.

`ChatTestCase` makes both for each test; the members reach the server over real sockets: `Member` by Tornado's
client, `RawMember` byte by byte. What only a process of its own can show is in tests/support.py.
"""

import asyncio
import base64
import contextlib
import json
import os
import socket
import sqlite3
import struct
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.testing import AsyncHTTPTestCase, gen_test
from tornado.websocket import WebSocketClientConnection, websocket_connect

from chat import serving
from chat.eventlog.sqlite import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from chat.protocol import Message, Person, encode
from chatroom import HANDSHAKE_S, Settings, make_app
from tests.support import DEADLINE_S

in_time = gen_test(timeout=6 * DEADLINE_S)

V1 = ("chatroom.v1",)
PLAIN: tuple[str, ...] = ()
NEWCOMER = "Has new user join room"
BAD_ROOM_NAMES = (
    *("", "x" * 65, ".", "..", "a/b", "a\\b", " a", "a ", "a\u00a0", "\u3000a"),
    *("a\nb", "a\r\nb", "a\0b", "a\x7fb", "a\u0085b", "a\u2028b"),
    *("a\u200bb", "a\u202eb", "a\u2066b", "\ufeffa", "a\u00adb"),
)
BAD_INTEGERS = ("-1", str(2**53), str(2**64), "x", "", "1.5", "1e3", " 1", "+1", "0x10", "٣", "1_000")


def settings(**values: Any) -> Callable[[Any], Any]:
    """Run a test on a server with these options."""
    return _noting("settings", values)


def filled(room: str, count: int, text: str = "x", at: int = 1_000_000) -> Callable[[Any], Any]:
    """Run a test on a server whose log already has `count` events, written in `self.epoch`."""
    return _noting("filled", (room, count, text, at))


def handshake_in(seconds: float) -> Callable[[Any], Any]:
    """Run a test on a server that gives handshakes so long only."""
    return _noting("handshake_s", seconds)


def _noting(name: str, value: Any) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        setattr(test, name, value)
        return test

    return note


def fill(database: str, room: str, count: int, text: str, at: int) -> str:
    """Write events straight into a database that no server uses; returns the epoch they are of."""
    by, word = Person("a" * 16, "Past"), base64.urlsafe_b64encode(os.urandom(9)).decode()
    with contextlib.closing(sqlite3.connect(database)) as db:
        for step in MIGRATIONS:
            db.executescript(step)
        db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};")
        epoch = db.execute("INSERT INTO epochs (word) VALUES (?)", (word,)).lastrowid
        number = db.execute("INSERT INTO rooms (name) VALUES (?)", (room,)).lastrowid
        db.execute("INSERT INTO epoch_starts VALUES (?, ?, 1)", (number, epoch))
        rows = (
            (number, seq, at + seq, "message", by.id, None, encode(Message(seq, at + seq, by, text)))
            for seq in range(1, count + 1)
        )
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.commit()
    return word


@contextlib.contextmanager
def held(thread: Executor) -> Iterator[None]:
    """Let a thread do nothing meanwhile."""
    gate = threading.Event()
    thread.submit(gate.wait)
    try:
        yield
    finally:
        gate.set()


async def until(question: Callable[[], Any]) -> None:
    """Return when the answer is true; for what no frame tells about."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if question():
                return
            await asyncio.sleep(0.01)


def ping(sockets: Iterable[Any]) -> None:
    """Ping all of them, as the server does in time; who was pinged before and is silent is dropped."""
    for each in list(sockets):
        each.ping_or_drop()


def contiguous(events: list[Any], after: int) -> bool:
    """Whether the events go up by one from `after`."""
    return [event["seq"] for event in events] == list(range(after + 1, after + 1 + len(events)))


class SocketClosed(Exception):
    """The server closed a member's socket; the text is the close code."""


class Member:
    """One socket of a person, as a test sees it: what he hears, in order."""

    socket: WebSocketClientConnection
    welcome: Any

    def __init__(self) -> None:
        self.frames: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    @property
    def id(self) -> str:
        return self.welcome["you"]["id"]

    @property
    def name(self) -> str:
        return self.welcome["you"]["name"]

    @property
    def person(self) -> dict[str, str]:
        return {"id": self.id, "name": self.name}

    @property
    def morsel(self) -> "Morsel[str]":
        """The identity that the handshake handed out."""
        assert self.socket.headers is not None
        return SimpleCookie(self.socket.headers["Set-Cookie"])["chatroom"]

    @property
    def cookie(self) -> str:
        return f"chatroom={self.morsel.coded_value}"

    def send(self, **frame: Any) -> None:
        self.send_raw(json.dumps(frame))

    def send_raw(self, frame: str | bytes) -> None:
        # Its Future says no more than that the stream took it.
        _ = self.socket.write_message(frame, binary=isinstance(frame, bytes))

    def say(self, text: str, client_id: str = "", **more: Any) -> None:
        self.send(type="say", client_id=client_id or base64.b32encode(os.urandom(10)).decode(), text=text, **more)

    async def next(self) -> Any:
        """The next frame, of whatever type; raises SocketClosed."""
        if self.frames.empty():
            frame = await asyncio.wait_for(self.frames.get(), DEADLINE_S)
        else:
            frame = self.frames.get_nowait()
        if frame is None:
            self.frames.put_nowait(None)
            raise SocketClosed(self.socket.close_code)
        return json.loads(frame)

    async def hears(self, type: str, **fields: Any) -> Any:
        """The next frame of a type (and with these fields); what comes before it is passed over."""
        while True:
            frame = await self.next()
            if frame["type"] == type and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def hears_until(self, type: str, **fields: Any) -> list[Any]:
        """Every frame up to one of a type (and with these fields), that one included."""
        frames = [await self.next()]
        while frames[-1]["type"] != type or any(frames[-1].get(name) != value for name, value in fields.items()):
            frames.append(await self.next())
        return frames

    async def messages(self, count: int) -> list[Any]:
        return [await self.hears("message") for _ in range(count)]

    async def closed(self) -> int | None:
        """The close code of the server, once it has come."""
        try:
            while True:
                await self.next()
        except SocketClosed:
            return self.socket.close_code

    def vanish(self) -> None:
        """Close the connection without a word."""
        if self.socket.protocol is not None:
            self.socket.protocol.stream.close()  # type: ignore[attr-defined]
            self.socket.protocol = None


class RawMember:
    """A client of bytes: it can do what a library does not, such as not to read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, opcode: int, payload: bytes, first: int = 0x80) -> None:
        size = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
        self.writer.write(bytes((first | opcode,)) + size + b"\0\0\0\0" + payload)

    async def next(self) -> tuple[int, bytes]:
        """The next frame, as (opcode, payload)."""
        async with asyncio.timeout(DEADLINE_S):
            head, size = await self.reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return head & 0x0F, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        while True:
            opcode, payload = await self.next()
            if opcode == 0x8:
                return int.from_bytes(payload[:2], "big")

    def vanish(self) -> None:
        """Close the connection with a reset."""
        self.writer.transport.abort()


class ChatTestCase(AsyncHTTPTestCase):
    """A server of its own for every test; its options and its past are noted at the test."""

    def get_app(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.database = os.path.join(folder.name, "chatroom.db")
        test = getattr(self, self._testMethodName)
        if hasattr(test, "filled"):
            self.epoch = fill(self.database, *test.filled)
        self.here: list[Member | RawMember] = []
        self.app = make_app(
            Settings(
                **{
                    "database": self.database,
                    "message_rate": 0.0,
                    "trusted_proxies": "127.0.0.1",
                    **getattr(test, "settings", {}),
                }
            )
        )
        return self.app

    def get_http_server(self) -> HTTPServer:
        handshake_s = getattr(getattr(self, self._testMethodName), "handshake_s", HANDSHAKE_S)
        return HTTPServer(self._app, idle_connection_timeout=handshake_s, max_header_size=16384, max_body_size=65536)

    def tearDown(self) -> None:
        self.io_loop.run_sync(self._end)
        super().tearDown()

    async def _end(self) -> None:
        for member in self.here:
            member.vanish()
        await until(lambda: not self.app.socket_class.sockets)
        await self.app.event_log.close()

    async def drain(self, grace_s: float = 4 * DEADLINE_S) -> None:
        """What SIGTERM does to the members."""
        await serving.drain(self.app.socket_class, grace_s)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.get_http_port()}"

    async def join(
        self,
        room: str | None = "default",
        *,
        wire: Iterable[str] = V1,
        cookie: str | None = None,
        headers: dict[str, str] | None = None,
        deflates: bool = False,
        **query: Any,
    ) -> Member:
        """Let a member in; raises HTTPClientError if the handshake is refused."""
        arguments = urlencode({**({} if room is None else {"room": room}), **query})
        headers = {**(headers or {}), **({"Cookie": cookie} if cookie else {})}
        return await self.knock(f"/ws?{arguments}", wire, headers, deflates)

    async def knock(
        self,
        target: str,
        wire: Iterable[str] = V1,
        headers: dict[str, str] | None = None,
        deflates: bool = False,
    ) -> Member:
        member = Member()
        request = HTTPRequest(self.origin.replace("http", "ws") + target, headers=headers)
        member.socket = await websocket_connect(
            request,
            on_message_callback=member.frames.put_nowait,
            compression_options={} if deflates else None,
            subprotocols=list(wire) or None,
        )
        member.socket.protocol._compressor = None  # type: ignore  # of Tornado's, which does not heed what was agreed on
        self.here.append(member)
        if member.socket.selected_subprotocol:
            member.welcome = await member.next()
            self.assertEqual(member.welcome["type"], "welcome")
        return member

    async def join_plain(self, room: str = "default", **more: Any) -> Member:
        """Let a member in on the plain wire, and past the word of his own coming."""
        member = await self.join(room, wire=PLAIN, **more)
        self.assertEqual(await member.next(), NEWCOMER)
        return member

    async def join_raw(self, target: str = "/ws", receive_bytes: int | None = None) -> RawMember:
        """Let a member of bytes in, on `chatroom.v1`; nothing is read after the answer to his handshake."""
        raw = await self.connect(receive_bytes)
        raw.writer.write(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: chatroom.v1\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        self.assertIn(b" 101 ", head)
        return raw

    async def connect(self, receive_bytes: int | None = None) -> RawMember:
        """A bare connection; `receive_bytes` keeps the kernel from taking in much of what is not read."""
        bare = socket.socket()
        if receive_bytes:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", self.get_http_port()))
        reader, writer = await asyncio.open_connection(sock=bare, limit=receive_bytes or 2**16)
        self.here.append(RawMember(reader, writer))
        return self.here[-1]

    async def refusal(self, joining: Awaitable[Member]) -> HTTPResponse:
        """The answer to a handshake that must be refused."""
        with self.assertRaises(HTTPClientError) as caught:
            await joining
        assert caught.exception.response is not None
        return caught.exception.response

    async def get(self, path: str, **more: Any) -> HTTPResponse:
        return await self.http_client.fetch(self.origin + path, raise_error=False, **more)

    @contextlib.contextmanager
    def reading_held(self) -> Iterator[None]:
        """Let nothing be read from the log meanwhile, as if the disk were slow."""
        with held(self.app.event_log._reader_thread):
            yield

    @contextlib.contextmanager
    def writing_held(self) -> Iterator[None]:
        """Let nothing be written to the log meanwhile, as if the disk were slow."""
        with held(self.app.event_log._writer_thread):
            yield
