"""A member's socket: what comes in is read strictly, what goes out is bounded.

Owns what waits in memory for a member who reads slowly, and the pings that find the dead. Knows
nothing of rooms or of what is said. Invariants: a member's bytes leave in the order in which
they were given; what waits for one member stays under his limit and for all together under
256 MiB: whoever is over it is cut off, not waited for.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Protocol, cast
from weakref import WeakKeyDictionary

from prometheus_client import Counter
from tornado.concurrent import (
    Future,
    future_set_exception_unless_cancelled,
    future_set_result_unless_cancelled,
)
from tornado.escape import json_encode, utf8
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
    _WebSocketParams,
)

from chat.frames import (
    BINARY,
    CLOSE,
    PING_FRAME,
    TEXT,
    Fault,
    FrameReader,
    Frames,
    agreed_deflate,
    check_close,
    frame,
    from_utf8,
    text_frame,
)
from chat.protocol import CloseCode

log = logging.getLogger("chatroom")

_READ_BYTES = 64 * 1024  # at once from one socket: what a message may have
_CHUNK_BYTES = 256 * 1024  # given to the stream at once from a backlog
_UNSENT_BYTES = 128 * 1024  # the kernel keeps for a member beyond what is on its way
# So that a flood leaves the loop to others: 128 small frames, or one that is as large as may be.
_BYTES_PER_YIELD = 64 * 1024
_FRAME_COST_BYTES = 512
_SILENCE_S = 0.1  # then nothing more is on its way from who is sent away
_SHOUTING_S = 2.0  # so long he may go on before we end our side all the same
_ALL_MEMBERS_BYTES = 256 * 1024 * 1024  # may wait for all members together

# In the place of those that are forgotten.
_NO_REQUEST = HTTPServerRequest(
    start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=HTTPHeaders(Host="localhost")
)
_SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
# What a RequestHandler needs to answer a request, and nothing after that.
_OF_THE_HANDSHAKE = {
    "_headers_written",
    "_new_cookie",
    "_reason",
    "_transforms",
    "_write_buffer",
    "open_args",
    "open_kwargs",
    "path_args",
    "path_kwargs",
    "ui",
}

_cut_off = Counter("chatroom_cut_off_members", "Members cut off", ["reason"])
_faults = Counter("chatroom_protocol_faults", "Sockets closed for breaking RFC 6455", ["code"])


# What waits for slow members


class SendBudget:
    """What waits for all members of this process together; over the limit the fullest go first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.waiting_bytes = 0
        self._holders: set[BoundedProtocol] = set()

    def take(self, holder: "BoundedProtocol", size_bytes: int) -> None:
        self.waiting_bytes += size_bytes
        self._holders.add(holder)
        if self.waiting_bytes > self.limit_bytes:
            self._cut_fullest()

    def give_back(self, holder: "BoundedProtocol", size_bytes: int) -> None:
        self.waiting_bytes -= size_bytes
        if not holder.waiting_bytes:
            self._holders.discard(holder)

    def _cut_fullest(self) -> None:
        # Down to 7/8, so that a stalled network costs one sort per 32 MiB and not one per write.
        for holder in sorted(self._holders, key=lambda each: each.waiting_bytes, reverse=True):
            if self.waiting_bytes <= self.limit_bytes * 7 // 8:
                return
            holder.cut_off("memory")


send_budget = SendBudget(_ALL_MEMBERS_BYTES)


class BoundedProtocol(WebSocketProtocol13):
    """Tornado's protocol with a strict bulk reader and a write path that never grows without bound.

    It says through what the member's next bytes go, in `member.send_now`.
    """

    def __init__(self, handler: "FramesHandler", limit_bytes: int, is_deflating: bool = False) -> None:
        WebSocketProtocol.__init__(self, handler)
        self.member = handler
        self.limit_bytes = limit_bytes
        self.waiting_bytes = 0
        self.heard = True  # anything came in since the last ping
        self.is_heeded = False  # True while he is read: not before he is let in, nor while a message of his waits
        self._taken_bytes = -1  # what the kernel had taken of a backlog at the last ping; none had been seen then
        self.delivered = _finished()  # shared, so that nothing is created per write
        self._backlog: deque[bytes | memoryview] | None = None  # an empty deque is 0.7 kB a member
        self._pumping_bytes = 0
        self._drained: Future[None] | None = None
        self._reader = FrameReader(is_deflating)

    # Coming

    async def _accept_connection(self, handler: WebSocketHandler) -> None:
        """As Tornado's does, but the answer leaves as all else does: by a page's way it is a tenth of a join's time."""
        answer = self._answer(handler)
        handler._detach_stream()  # opens this
        self.send(answer)
        is_open = False
        try:
            if (opening := handler.open(*handler.open_args, **handler.open_kwargs)) is not None:
                await opening
            is_open = True
        finally:  # what went wrong is logged by whoever awaits this, though not a ValueError
            if not is_open:
                self._abort()
        await self._receive_frame_loop()

    def _answer(self, handler: WebSocketHandler) -> bytes:
        handler.set_status(101)
        offered = handler.request.headers.get("Sec-WebSocket-Protocol", "")
        self.selected_subprotocol = handler.select_subprotocol([word.strip() for word in offered.split(",")])
        if self.selected_subprotocol:
            handler.set_header("Sec-WebSocket-Protocol", self.selected_subprotocol)
        ours = "".join(f"{name}: {value}\r\n" for name, value in handler._headers.get_all())
        accept = self.compute_accept_value(handler.request.headers["Sec-WebSocket-Key"])
        return f"{_SWITCHING}Sec-WebSocket-Accept: {accept}\r\n{ours}\r\n".encode("latin1")

    # Writing

    def open(self, stream: IOStream) -> None:
        """Let him be sent to: from here on the handshake is over."""
        self.stream = stream
        if stream.closed():
            self.member.send_now = _unheard
        elif stream.writing():  # a `100 Continue` is yet to go
            self.member.send_now = self._hold_all
        else:
            self._send_directly()

    def send(self, data: bytes) -> None:
        """Send whole frames: at once if nothing waits, else behind what does. Never blocks, never raises."""
        write_message_to_all((self.member,), Frames(data))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        super().close(code, reason)
        self.member.send_now = _unheard  # nothing may follow a close frame

    async def drained(self) -> None:
        """Return when the kernel has taken everything; raises StreamClosedError when it never will."""
        if self.waiting_bytes:
            await self._drained_future()
        elif self.stream.closed():
            raise StreamClosedError()

    def is_alive(self) -> bool:
        """Whether the member gave a sign of life since the last call: read of his backlog, or was heard."""
        if self.waiting_bytes:  # a ping would wait behind the backlog: what counts is that it moves
            taken_bytes, self._taken_bytes = self._taken_bytes, self.stream._total_write_done_index
            self.heard = True
            return self._taken_bytes != taken_bytes
        return self.heard or not self.is_heeded  # unread, his pong cannot be heard

    def cut_off(self, reason: str) -> None:
        """Drop a member who costs too much: a close frame would wait behind the very backlog."""
        if self.stream.closed():
            return
        _cut_off.labels(reason).inc()
        log.warning("cut off %s: %d bytes waiting (%s)", self.handler, self.waiting_bytes, reason)
        self.stream.close()
        self._release()

    def _send_directly(self) -> None:
        # The socket's own `send`: no Future, no copy. Under TLS only the stream may write.
        self.member.send_now = self.stream.socket.send if type(self.stream) is IOStream else self._hold_all

    def _hold_all(self, data: bytes) -> int:
        self.hold(data)
        return len(data)

    def hold(self, rest: bytes | memoryview) -> None:
        """Keep what the kernel did not take, and what comes behind it, until it does."""
        if not rest or self.stream.closed():
            return
        if self.waiting_bytes + len(rest) > self.limit_bytes:
            self.cut_off("slow")
            return
        if self._backlog is None:
            self._backlog = deque()
            self.member.send_now = self._hold_all
        self._backlog.append(rest)
        self.waiting_bytes += len(rest)
        send_budget.take(self, len(rest))
        if not self._pumping_bytes and self._backlog:
            self._pump(self._backlog)

    def _pump(self, backlog: deque[bytes | memoryview]) -> None:
        """Give the stream one chunk; at most one write is under way, so that it costs one Future."""
        chunk = backlog.popleft() if len(backlog) == 1 else b"".join(_next_pieces(backlog))
        self._pumping_bytes = len(chunk)
        try:
            self.stream.write(chunk).add_done_callback(self._pumped)
        except StreamClosedError:
            self._release()

    def _pumped(self, written: "Future[None]") -> None:
        if self.stream.closed() or written.exception() is not None:
            self._release()
            return
        self._forget(self._pumping_bytes)
        self._pumping_bytes = 0
        if self._backlog:
            self._pump(self._backlog)
            return
        self._backlog = None
        if not self.server_terminated:
            self._send_directly()
        if self._drained is not None:
            future_set_result_unless_cancelled(self._drained, None)
            self._drained = None

    def _release(self) -> None:
        self.member.send_now = _unheard
        self._backlog = None
        self._pumping_bytes = 0
        self._forget(self.waiting_bytes)
        if self._drained is not None:
            future_set_exception_unless_cancelled(self._drained, StreamClosedError())
            self._drained = None

    def _forget(self, size_bytes: int) -> None:
        self.waiting_bytes -= size_bytes
        send_budget.give_back(self, size_bytes)

    def _drained_future(self) -> "Future[None]":
        if self._drained is None:
            self._drained = Future()
            # Nobody has to wait for it: its exception counts as seen.
            self._drained.add_done_callback(lambda future: future.cancelled() or future.exception())
        return self._drained

    def _write_frame(self, fin: bool, opcode: int, data: bytes, flags: int = 0) -> "Future[None]":
        """Tornado's own frames (pong, close, `write_message` of a str) take the same bounded way."""
        self.send(frame(opcode, data))
        return self._drained_future() if self.waiting_bytes else self.delivered

    # Reading

    async def _receive_frame_loop(self) -> None:
        """Read by callbacks from here on: so the six coroutines of the handshake end, 3 kB a member."""
        self.is_heeded = True
        self._read_on()

    def _read_on(self) -> None:
        try:
            read = cast("Future[bytes]", self.stream.read_bytes(_READ_BYTES, partial=True))
        except OSError:  # the stream has closed, or what was there to be read was a fault of the network's or of TLS
            self._gone()
        else:
            read.add_done_callback(self._arrived)

    def _arrived(self, read: "Future[bytes]") -> None:
        if read.cancelled() or read.exception() is not None:
            self._gone()
            return
        self.heard = True
        self._hear_on(self._reader.feed(read.result()))

    def _hear_on(self, messages: Iterator[tuple[int, bytes] | None]) -> None:
        """Take what has come, until something must be waited for; then read on."""
        if self.stream.closed():  # while something was waited for
            self._gone()
            return
        cost_bytes = 0
        try:
            for message in messages:
                handled = self._take(*message) if message is not None else None
                if self.client_terminated or self.stream.closed():  # what he still had to say is not heard: he is gone
                    self._gone()
                    return
                if handled is not None:
                    self._wait_for(handled, messages)
                    return
                cost_bytes += _FRAME_COST_BYTES + (len(message[1]) if message is not None else 0)
                if cost_bytes >= _BYTES_PER_YIELD:
                    asyncio.get_running_loop().call_soon(self._hear_on, messages)
                    return
        except Fault as fault:
            asyncio.ensure_future(self._fail(fault))  # noqa: RUF006  # the stream it reads from holds it
            return
        self._read_on()

    def _take(self, opcode: int, payload: bytes) -> Awaitable[None] | None:
        if opcode in (TEXT, BINARY):
            if self.server_terminated:  # after our close frame nothing counts any more
                return None
            return self._hear(from_utf8(payload) if opcode == TEXT else payload)
        if opcode == CLOSE:
            check_close(payload)
        self._handle_message(opcode, payload)
        return None

    def _hear(self, message: str | bytes) -> Awaitable[None] | None:
        try:
            return self.handler.on_message(message)
        except Exception as error:  # whatever went wrong, it is this member's alone
            self._excuse(error)
            return None

    def _wait_for(self, handled: Awaitable[None], messages: Iterator[tuple[int, bytes] | None]) -> None:
        self.is_heeded = False
        asyncio.ensure_future(handled).add_done_callback(partial(self._waited, messages))

    def _waited(self, messages: Iterator[tuple[int, bytes] | None], handled: "Future[None]") -> None:
        if handled.cancelled() or isinstance(handled.exception(), StreamClosedError):
            self._gone()
            return
        if error := handled.exception():
            self._excuse(error)
        self.is_heeded = self.heard = True
        self._hear_on(messages)

    def _excuse(self, error: BaseException) -> None:
        """Whatever went wrong is our fault and this member's alone: one traceback, and he comes back."""
        log.error("a frame of %s could not be handled", self.handler, exc_info=error)
        self.member.close(CloseCode.OUR_FAULT, "internal error")

    def _gone(self) -> None:
        self._abort()
        self.stream.error = None  # its traceback holds the stream: a cycle, which would wait for the garbage collector
        self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _fail(self, fault: Fault) -> None:
        """Say why, then let the client go first: bytes left unread would turn our close into a reset."""
        _faults.labels(int(fault.code)).inc()
        self.member.close(fault.code, fault.reason)
        loop = asyncio.get_running_loop()
        latest_s = loop.time() + _SHOUTING_S
        silence = loop.call_later(_SILENCE_S, self._end_writing)
        try:
            while True:  # `close` has set a timer that aborts the stream
                await self.stream.read_bytes(_READ_BYTES, partial=True)
                await asyncio.sleep(0)  # a read of what is there already would not yield
                silence.cancel()
                silence = loop.call_at(min(loop.time() + _SILENCE_S, latest_s), self._end_writing)
        except OSError:
            silence.cancel()
            self._gone()

    def _end_writing(self) -> None:
        # Not while he sends: a proxy that hears our end lets go of him at once, before he has read why.
        if self.waiting_bytes:
            asyncio.get_running_loop().call_later(_SILENCE_S, self._end_writing)
        elif not self.stream.closed():
            with contextlib.suppress(OSError):  # he has gone: the reading finds out
                self.stream.socket.shutdown(socket.SHUT_WR)


# What Tornado's constructor would set on each, for a reader and a compression that are not used here: the same for all.
for _name, _value in vars(WebSocketProtocol13(cast(Any, None), False, _WebSocketParams())).items():
    setattr(BoundedProtocol, _name, _value)


def _next_pieces(backlog: deque[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Take what makes one chunk: as much as has room, but at least one piece."""
    size = 0
    while backlog and (not size or size + len(backlog[0]) <= _CHUNK_BYTES):
        size += len(backlog[0])
        yield backlog.popleft()


_FINISHED: "WeakKeyDictionary[asyncio.AbstractEventLoop, Future[None]]" = WeakKeyDictionary()


def _finished() -> "Future[None]":
    """The one finished Future of a loop, which every delivered write returns."""
    loop = asyncio.get_running_loop()
    if loop not in _FINISHED:
        _FINISHED[loop] = loop.create_future()
        _FINISHED[loop].set_result(None)
    return _FINISHED[loop]


def _unheard(data: bytes) -> int:
    """In the place of a `send`, for who has been told to go."""
    return len(data)


class Receiver(Protocol):
    """Who can be sent frames with many others.

    `send_now` is `socket.send` for whoever has nothing waiting: it returns how much of its bytes it took, or raises
    OSError. For all others it is what stands in its place.
    """

    send_now: Callable[[bytes], int]

    def hold(self, rest: bytes | memoryview) -> None: ...

    def abort(self) -> None: ...


def write_message_to_all(members: Iterable[Receiver], frames: Frames) -> None:
    """What `write_message` does with frames, for many: one system call each, and next to no Python.

    Never blocks, never raises. Whatever is to be known of a member is in `send_now`, in the object itself: with two
    calls and four objects more a member, each of them cold after the last system call, it took a third longer.
    """
    data, size = frames.data, len(frames.data)
    for member in members:
        try:
            sent = member.send_now(data)
        except BlockingIOError:
            member.hold(data)
        except OSError:  # the peer, or the stream, is gone
            member.abort()
        else:
            if sent != size:
                member.hold(memoryview(data)[sent:])


class FramesHandler(WebSocketHandler):
    """A WebSocketHandler whose `write_message` also takes `Frames`, as they are."""

    __slots__ = ("send_now",)  # beside the dict, which a delivery need not touch
    send_now: Callable[[bytes], int]
    SUPPORTED_METHODS = ("GET",)  # else a request by POST would call our `post`
    send_buffer_bytes = 1024 * 1024
    _unposted: ClassVar[list["FramesHandler"]]
    _stream: IOStream | None = None  # outlives `ws_connection`, which Tornado drops when it sends a close frame
    _outbox: list[bytes] | None = None
    is_deflating = False  # whether he agreed on permessage-deflate

    def __init_subclass__(cls) -> None:
        cls._unposted = []

    def clear(self) -> None:
        """Begin without the headers of a page: who is let in needs none of them, and a refusal clears once more."""
        if hasattr(self, "_headers"):
            super().clear()
        else:
            self._headers, self._write_buffer = HTTPHeaders(), []
            self.set_status(200)

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        if self.request.headers.get("Sec-WebSocket-Version") != "13":
            return None
        # Taken out, as Tornado would fail over odd ones.
        agreed = agreed_deflate(self.request.headers.pop("Sec-WebSocket-Extensions", ""))
        if agreed is not None:
            self.is_deflating = True
            self.set_header("Sec-WebSocket-Extensions", agreed)
        return BoundedProtocol(self, self.send_buffer_bytes, self.is_deflating)

    def write_message(self, message: Any, binary: bool = False) -> "Future[None]":
        """Send to this member: str, bytes and dict as Tornado does, `Frames` as they are.

        Raises WebSocketClosedError once the socket is closing.
        """
        connection = self.ws_connection
        if type(message) is Frames and connection is not None:
            write_message_to_all((self,), message)  # finds out by itself if the stream has closed
            return connection.delivered  # type: ignore[attr-defined, no-any-return]
        if connection is None or connection.is_closing():
            raise WebSocketClosedError()
        if isinstance(message, dict):
            message = json_encode(message)
        return connection._write_frame(True, BINARY if binary else TEXT, utf8(message))  # type: ignore[attr-defined, no-any-return]

    def post(self, payload: bytes) -> None:
        """Send a text to this member alone, together with what else he gets in this turn of the loop."""
        if self._outbox is None:
            self._outbox = []
            if not self._unposted:
                asyncio.get_running_loop().call_soon(self.post_all)
            self._unposted.append(self)
        self._outbox.append(text_frame(payload))

    @classmethod
    def post_all(cls) -> None:
        """Send what was posted, now: before something that must come after it."""
        unposted, cls._unposted = cls._unposted, []
        for member in unposted:
            posted, member._outbox = member._outbox or [], None
            with contextlib.suppress(WebSocketClosedError):  # gone: nobody to tell
                member.write_message(Frames(b"".join(posted)))

    def hold(self, rest: bytes | memoryview) -> None:
        """Keep for him what his kernel did not take."""
        assert isinstance(self.ws_connection, BoundedProtocol)
        self.ws_connection.hold(rest)

    @property
    def waiting_bytes(self) -> int:
        """What waits in this process for the member to read."""
        return self.ws_connection.waiting_bytes if isinstance(self.ws_connection, BoundedProtocol) else 0

    async def drained(self) -> None:
        """Return when this member's kernel has taken everything; raises StreamClosedError if he goes."""
        if not isinstance(self.ws_connection, BoundedProtocol):
            raise StreamClosedError()
        await self.ws_connection.drained()

    @property
    def is_gone(self) -> bool:
        """Whether the connection is closed, though `on_close` may be yet to come."""
        return self._stream is None or self._stream.closed()

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._stream is not None:
            self._stream.close()

    def ping_or_drop(self) -> None:
        """Ping a member who has given a sign of life since the last time; drop one who has not."""
        connection = self.ws_connection
        if not isinstance(connection, BoundedProtocol) or connection.is_closing():
            return
        if not connection.is_alive():
            _cut_off.labels("silent").inc()
            log.info("dropped %s: no sign of life", self)
            connection.stream.close()
        elif not connection.waiting_bytes and connection.is_heeded:
            connection.heard = False
            connection.send(PING_FRAME)

    def forget_handshake(self, *names: str) -> None:
        """Let go of the request and of these attributes: they would stay for as long as the socket does, 8 kB."""
        self.request, self._headers = _NO_REQUEST, _NO_REQUEST.headers
        spent = _OF_THE_HANDSHAKE.union(names)
        self.__dict__ = {name: value for name, value in self.__dict__.items() if name not in spent}

    def _detach_stream(self) -> IOStream:
        self._on_close_called = False  # who went while he was looked at was told as gone before he was here
        self._stream = super()._detach_stream()
        cast(BoundedProtocol, self.ws_connection).open(self._stream)
        if not self._stream.closed():  # who asked may be gone by now
            self._stream.set_nodelay(True)  # Nagle with delayed ACKs costs 40 ms and more a message
            # What the kernel takes ahead of a slow reader is bounded, too: megabytes on loopback otherwise.
            self._stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        return self._stream
