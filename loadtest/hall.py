"""A hall: people on sockets of their own, each with his own identity and address, who hear everything and remember it.

Owns the sockets of one process in one `epoll`, the times at which the kernel had what came, and a probe: somebody in
another room who pings every 5 ms and so feels from outside how long the server's loop is held. It knows no roles and
no plan. Invariant: what is remembered of a person is every byte that came for him, in the order in which it came.
"""

import json
import select
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from loadtest import frames
from loadtest.adapters import load
from loadtest.adapters.chatroom import EVENT, EVENT_SEQ
from loadtest.handshake import Door
from loadtest.reader import ANCILLARY_BYTES, SO_TIMESTAMPNS, STAMP

READ_BYTES: Final = 1 << 16
READY_AT_ONCE: Final = 64  # sockets read between two looks at the clock
PROBE_NS: Final = 5_000_000
PATIENCE_S: Final = 20.0
MEMO_CHUNKS: Final = 4096
ELSEWHERE: Final = "elsewhere"
PRESENCE: Final = b'{"type":"presence"'

T = TypeVar("T")
Answer = dict[str, Any]  # a frame as JSON has it


class Stuck(Exception):
    """What had to happen did not, in time; the sentence says what."""


@dataclass(eq=False, slots=True)
class Chunk:
    """What one read brought; the same bytes are the same chunk for all."""

    texts: list[bytes] = field(default_factory=list)
    notes: list[Answer] = field(default_factory=list)  # what was said to one person alone
    pings: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    close: bytes | None = None
    last_seq: int = 0
    rest: bytes = b""

    @property
    def asks(self) -> bool:
        """Whether anything has to be done about it."""
        return bool(self.notes or self.pings or self.pongs or self.close is not None)


class Heard(NamedTuple):
    """A chunk, and when the kernel had it (ns since 1970)."""

    at_ns: int
    chunk: Chunk


@dataclass(eq=False)
class Person:
    """Somebody with an identity, a socket and a memory."""

    address: str
    cookie: str = ""
    id: str = ""
    epoch: str = ""
    is_rude: bool = False  # answers no close frame
    socket: Any = None
    unsent: bytes = b""
    rest: bytes = b""
    heard: list[Heard] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)  # by `ref` or `client_id`
    last_seq: int = 0
    out: Answer = field(default_factory=dict)
    close_code: int = 0
    ended_ns: int = 0

    def texts(self, since: int = 0) -> list[tuple[int, bytes]]:
        """Return what he was told, with the times; `since` counts chunks."""
        return [(heard.at_ns, text) for heard in self.heard[since:] for text in heard.chunk.texts]


class Hall:
    """The people of this process."""

    def __init__(self, base: str, room: str) -> None:
        self.phase = ""
        self.held_ns: dict[str, int] = defaultdict(int)  # the longest wait of a probe, by phase
        self.chores: list[Callable[[], None]] = []
        self._door = Door(base, load("chatroom"))
        self._room = room
        self._epoll = select.epoll()
        self._people: dict[int, Person] = {}
        self._chunks: dict[bytes, Chunk] = {}
        self._probe: Person | None = None
        self._probe_due_ns = 0

    def __enter__(self) -> "Hall":
        return self

    def __exit__(self, *_: object) -> None:
        for person in list(self._people.values()):
            self.leave(person)
        self._epoll.close()

    # Coming and going

    def enter(
        self, address: str, cookie: str = "", place: dict[str, str] | None = None, *, room: str = "", rude: bool = False
    ) -> Person:
        """Let somebody in, by his cookie or as somebody new; raises Refused."""
        sock, cookie = self._door.enter(room or self._room, place or {}, cookie, source=address)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        person = Person(address, cookie, socket=sock, is_rude=rude)
        self._people[sock.fileno()] = person
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self.turn()
        return person

    def leave(self, person: Person) -> None:
        """Go, without a word."""
        if person.socket is not None:
            self._epoll.unregister(person.socket.fileno())
            del self._people[person.socket.fileno()]
            # Reset rather than closed: hundreds of closed sockets would hold their ports for a minute.
            person.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            person.socket.close()
            person.socket, person.ended_ns = None, time.time_ns()

    def probe(self, address: str) -> None:
        """Feel from now on how long the server's loop is held."""
        self._probe = self.enter(address, room=ELSEWHERE)

    # Speaking

    def tell(self, person: Person, /, **frame: Any) -> None:
        """Send a frame of the protocol."""
        self._send(person, frames.masked(json.dumps(frame).encode()))

    def _send(self, person: Person, data: bytes) -> None:
        if person.socket is None:
            return
        was_waiting = bool(person.unsent)
        person.unsent += data
        if not was_waiting:
            self._send_rest(person)
            if person.unsent:
                self._epoll.modify(person.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send_rest(self, person: Person) -> None:
        try:
            person.unsent = person.unsent[person.socket.send(person.unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # his connection is gone, and reading tells so
            person.unsent = b""

    # Hearing

    def until(self, answer: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
        """Take turns until there is an answer, and return it; raises Stuck."""
        end_s = time.monotonic() + patience_s
        while not (found := answer()):
            self.turn()
            if time.monotonic() > end_s:
                raise Stuck(f"{what}: not within {patience_s:g} s")
        return found

    def pause(self, seconds: float) -> None:
        """Take turns for so long."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.turn()

    def turn(self) -> None:
        """Do what is due and read what is there."""
        self._ping_if_due()
        for chore in self.chores:
            chore()
        for fd, happened in self._epoll.poll(PROBE_NS / 5e9, READY_AT_ONCE):
            person = self._people.get(fd)
            if person is None:
                continue
            if happened & select.EPOLLOUT:
                self._send_rest(person)
                if not person.unsent:
                    self._epoll.modify(fd, select.EPOLLIN)
            if happened & ~select.EPOLLOUT:
                self._read(person)

    def _ping_if_due(self) -> None:
        now_ns = time.time_ns()
        if self._probe and self.phase and now_ns >= self._probe_due_ns:
            self._probe_due_ns = now_ns + PROBE_NS
            self._send(self._probe, frames.masked(f"{time.time_ns()} {self.phase}".encode(), frames.PING))

    def _read(self, person: Person) -> None:
        try:
            data, ancillary, _, _ = person.socket.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave(person)
            return
        seconds, rest_ns = STAMP(ancillary[0][2]) if ancillary else divmod(time.time_ns(), 1_000_000_000)
        self._take(person, person.rest + data, seconds * 1_000_000_000 + rest_ns)

    def _take(self, person: Person, data: bytes, at_ns: int) -> None:
        chunk = self._chunks.get(data) or self._understand(data)
        person.rest = chunk.rest
        person.heard.append(Heard(at_ns, chunk))
        person.last_seq = chunk.last_seq or person.last_seq
        if chunk.asks:
            self._heed(person, chunk, at_ns)

    def _understand(self, data: bytes) -> Chunk:
        found, used = frames.parse(data)
        chunk = Chunk(rest=data[used:])
        for opcode, _, payload in found:
            if opcode == frames.TEXT:
                self._read_text(payload, chunk)
            elif opcode == frames.PING:
                chunk.pings.append(payload)
            elif opcode == frames.PONG:
                chunk.pongs.append(payload)
            elif opcode == frames.CLOSE:
                chunk.close = payload
        if len(self._chunks) >= MEMO_CHUNKS:
            self._chunks.clear()
        self._chunks[data] = chunk
        return chunk

    def _read_text(self, text: bytes, chunk: Chunk) -> None:
        chunk.texts.append(text)
        if EVENT.match(text):
            seq = EVENT_SEQ.search(text, 0, 80)
            chunk.last_seq = int(seq[1]) if seq else 0
        elif not text.startswith(PRESENCE):
            chunk.notes.append(json.loads(text))

    def _heed(self, person: Person, chunk: Chunk, at_ns: int) -> None:
        """Answer what asks for an answer, and note what is said to him alone."""
        for note in chunk.notes:
            self._note(person, note)
        for payload in chunk.pongs:
            sent_ns, _, phase = payload.decode().partition(" ")
            self.held_ns[phase] = max(self.held_ns[phase], at_ns - int(sent_ns))
        for payload in chunk.pings:
            self._send(person, frames.masked(payload, frames.PONG))
        if chunk.close is not None:
            person.close_code = frames.close_code(chunk.close)
            if not person.is_rude:
                self._send(person, frames.masked(chunk.close[:2], frames.CLOSE))

    def _note(self, person: Person, frame: Answer) -> None:
        if frame["type"] == "welcome":
            person.id, person.epoch = frame["you"]["id"], frame["epoch"]
        elif frame["type"] == "out":
            person.out = frame
        elif name := frame.get("ref") or frame.get("client_id"):
            person.answers[name] = frame
