"""The crowd: a thousand members in one process, who send, receive, and prove what they received.

Owns the members' sockets and the proof of delivery. It is told when a message was due and into which sample its times
go; it knows no plan of the benchmark, no goal and no server process.
Invariant: no figure without proof of delivery. All members of a room must receive the same bytes, so the first to get
them has them parsed and checked (`Transcript`), and every other member is compared with that, byte for byte.
"""

import gc
import select
import socket
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from loadtest.wires import Wire, client_frame, frame_bounds, knock, read_handshake

NUMBER_DIGITS = 8  # every text starts with the number of its message
SENDERS = 8  # connections that send; a server may stop reading one with 64 unanswered messages
SETTLE_S = 20.0
JOIN_BATCH = 64  # handshakes at a time: below the usual listen backlog of 128
READY_AT_ONCE = 128  # sockets read between two looks at the clock: about a millisecond
CHUNK_BYTES = 65536
FAULTS_SHOWN = 3


class Poller:
    """Says which sockets can be read: `epoll`, else `poll`, since `selectors` costs Python code per socket."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._sockets = self._epoll or select.poll()

    def add(self, fd: int) -> None:
        """Watch a socket."""
        self._sockets.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Watch it no longer."""
        self._sockets.unregister(fd)

    def ready(self, timeout_s: float) -> list[int]:
        """Return the sockets that can be read."""
        found = self._epoll.poll(timeout_s, READY_AT_ONCE) if self._epoll else self._sockets.poll(timeout_s * 1000)
        return [fd for fd, _ in found]

    def close(self) -> None:
        """Give it back."""
        if self._epoll:
            self._epoll.close()


@dataclass
class Plan:
    """When each message is due, which deliveries are timed, and into which sample they go."""

    due_ns: list[int] = field(default_factory=list)
    first_timed: int = 0
    samples: list["array[int]"] = field(default_factory=list)

    def sample_of(self, number: int) -> "array[int] | None":
        """Return the sample for a message: the timed ones are shared out over the samples in their order."""
        if not self.samples or number < self.first_timed:
            return None
        timed = len(self.due_ns) - self.first_timed
        return self.samples[(number - self.first_timed) * len(self.samples) // timed]


class Transcript:
    """The frames of all messages in the order in which they came: what every member must receive, byte for byte."""

    def __init__(self, text_bytes: int) -> None:
        self.stream = bytearray()
        self.ends: list[int] = []  # where in the stream each message ends
        self.due_ns: list[int] = []
        self.samples: list[array[int] | None] = []
        self.plan = Plan()
        self._filler = "x" * (text_bytes - NUMBER_DIGITS)
        self._heard: set[int] = set()
        self._last_of_sender = [-1] * SENDERS

    def text(self, number: int) -> str:
        """Return what message `number` says."""
        return f"{number:0{NUMBER_DIGITS}d}{self._filler}"

    def append(self, frame: bytes, text: str) -> None:
        """Write down the next message.

        Raises ValueError if it was not sent like this, or came already, or came before an earlier one of its sender.
        """
        number = int(text[:NUMBER_DIGITS])
        if text != self.text(number):
            raise ValueError(f"message {number} came changed: {text[:60]!r}")
        if number in self._heard:
            raise ValueError(f"message {number} came twice")
        if number < self._last_of_sender[number % SENDERS]:
            raise ValueError(f"message {number} came after a later one of its sender")
        self._heard.add(number)
        self._last_of_sender[number % SENDERS] = number
        self.stream += frame
        self.ends.append(len(self.stream))
        self.due_ns.append(self.plan.due_ns[number] if self.plan.due_ns else 0)
        self.samples.append(self.plan.sample_of(number))


@dataclass(eq=False)
class Member:
    """One socket, and how far it has come in the transcript."""

    socket: socket.socket
    slot: int
    offset: int = 0  # bytes of the transcript's stream received, in the middle of a message maybe
    rest: bytes = b""  # an incomplete frame that is not known to belong to the transcript
    unsent: bytes = b""


class Crowd:
    """The members of one room: joins them, sends, and checks and times what each of them receives."""

    def __init__(self, port: int, wire: Wire, text_bytes: int) -> None:
        self.transcript = Transcript(text_bytes)
        self.members: list[Member] = []
        self.counts: list[int] = []  # messages received, by slot
        self.faults: list[str] = []
        self._port = port
        self._wire = wire
        self._poller = Poller()
        self._by_fd: dict[int, Member] = {}
        self._senders: list[Member] = []
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def __enter__(self) -> "Crowd":
        gc.disable()  # a collection over ten thousand members would look like the server's delay
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            # Reset instead of closed: ten thousand closed sockets would hold their ports for a minute.
            member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            member.socket.close()
        self._poller.close()
        gc.enable()

    def join(self, count: int) -> None:
        """Let members enter the room, and wait until it is quiet."""
        for first in range(0, count, JOIN_BATCH):
            sockets = [knock(self._port, self._wire) for _ in range(min(JOIN_BATCH, count - first))]
            for one in sockets:
                self._enter(one)
        self._senders = self.members[:: max(1, len(self.members) // SENDERS)][:SENDERS]
        self.settle()

    def settle(self) -> None:
        """Receive until it is quiet."""
        deadline_s = time.monotonic() + SETTLE_S
        quiet_since_s = time.monotonic()
        while time.monotonic() < min(deadline_s, quiet_since_s + self._wire.settle_s):
            if self.read_ready(0.1):
                quiet_since_s = time.monotonic()

    def say(self, numbers: Iterable[int]) -> None:
        """Send messages; those of one sender leave together."""
        for number in numbers:
            payload = self._wire.say(number, self.transcript.text(number))
            self._senders[number % len(self._senders)].unsent += client_frame(payload)
        for sender in self._senders:
            if sender.unsent:
                self._push(sender)

    def read_ready(self, timeout_s: float) -> bool:
        """Receive once from every socket that has something; return whether any had."""
        buffer, by_fd = self._buffer, self._by_fd
        starts_with = self.transcript.stream.startswith
        was_ready = False
        for fd in self._poller.ready(timeout_s):
            was_ready = True
            member = by_fd[fd]
            try:
                size = member.socket.recv_into(buffer)
            except BlockingIOError:
                continue
            except ConnectionError:
                size = 0
            now_ns = time.monotonic_ns()
            if not size:
                self._lose(member)
            elif not member.rest and starts_with(buffer[:size], member.offset):
                self._advance(member, size, now_ns)
            else:
                self._sort(member, bytes(buffer[:size]), now_ns)
        return was_ready

    def retry_sending(self) -> None:
        """Send what a full socket did not take."""
        for sender in self._senders:
            if sender.unsent:
                self._push(sender)

    def least_count(self) -> int:
        """Return how many messages have reached everybody."""
        return min(self.counts)

    def check(self, sent: int) -> list[str]:
        """Return what was wrong: nothing may be missing, doubled, changed, or in another order."""
        missing = sum(sent - count for count in self.counts)
        if not missing:
            return self.faults
        return [f"{missing} of {sent * len(self.counts)} deliveries missing at the end", *self.faults]

    def _enter(self, one: socket.socket) -> None:
        rest = read_handshake(one)
        one.setblocking(False)
        member = Member(one, slot=len(self.members))
        self.members.append(member)
        self.counts.append(0)
        self._by_fd[one.fileno()] = member
        self._poller.add(one.fileno())
        if rest:
            self._sort(member, rest, time.monotonic_ns())

    def _push(self, sender: Member) -> None:
        try:
            sender.unsent = sender.unsent[sender.socket.send(sender.unsent) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            sender.unsent = b""  # the reading side reports the loss

    def _advance(self, member: Member, size: int, now_ns: int) -> None:
        member.offset += size
        transcript = self.transcript
        count = self.counts[member.slot]
        new_count = bisect_right(transcript.ends, member.offset, count)
        self.counts[member.slot] = new_count
        if transcript.plan.samples:
            for index in range(count, new_count):
                sample = transcript.samples[index]
                if sample is not None:
                    sample.append(now_ns - transcript.due_ns[index])

    def _sort(self, member: Member, chunk: bytes, now_ns: int) -> None:
        """Take bytes that are not simply what comes next: the member's own frames, or messages he is first to get."""
        transcript = self.transcript
        if not member.rest:
            count = self.counts[member.slot]
            boundary = transcript.ends[count - 1] if count else 0
            chunk = bytes(transcript.stream[boundary : member.offset]) + chunk
            member.offset = boundary
        data = member.rest + chunk
        member.rest = b""
        start = 0
        while start < len(data):
            known = data[start:]
            if transcript.stream.startswith(known, member.offset):
                self._advance(member, len(known), now_ns)
                return
            bounds = frame_bounds(data, start)
            if bounds is None:
                member.rest = known
                return
            self._take(member, data[start : bounds[1]], data[bounds[0] : bounds[1]], now_ns)
            start = bounds[1]

    def _take(self, member: Member, frame: bytes, payload: bytes, now_ns: int) -> None:
        """Take one frame."""
        transcript = self.transcript
        if transcript.stream.startswith(frame, member.offset):
            self._advance(member, len(frame), now_ns)
        elif frame[0] == 0x89:
            member.unsent += client_frame(payload, opcode=10)
            self._push(member)
        elif frame[0] != 0x81:
            self._fault(member, f"a frame that starts with {frame[:4].hex()}")
        else:
            self._hear(member, frame, payload, now_ns)

    def _hear(self, member: Member, frame: bytes, payload: bytes, now_ns: int) -> None:
        transcript = self.transcript
        is_ahead = member.offset == len(transcript.stream)
        try:
            text = self._wire.hear(payload)
            if text is None:
                return
            if not is_ahead:
                raise ValueError("not the bytes, or not the order, that others received")
            transcript.append(frame, text)
        except (ValueError, msgspec.DecodeError) as error:
            self._fault(member, f"{error}, in {payload[:60]!r}")
            return
        self._advance(member, len(frame), now_ns)

    def _fault(self, member: Member, what: str) -> None:
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"member {member.slot}: {what}")

    def _lose(self, member: Member) -> None:
        self._fault(member, "was disconnected")
        self._poller.remove(member.socket.fileno())
        del self._by_fd[member.socket.fileno()]


def stuck_member(port: int, wire: Wire) -> socket.socket:
    """Let a member enter who never reads."""
    one = knock(port, wire, is_slow=True)
    read_handshake(one)
    return one


def is_cut(slow: socket.socket) -> bool:
    """Return whether the server has ended the connection, behind what the kernel still holds for it."""
    slow.settimeout(2)
    try:
        while slow.recv(CHUNK_BYTES):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        slow.close()
    return True
