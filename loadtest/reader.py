"""The reader: one loop that takes in the bytes of all members of this process, times and credits every delivery.

Owns the members' sockets after their handshake and one `epoll` over all of them. It knows no phases of a run, no locust
and no figures: it fills a `Tally`, which is taken from it each second.
Invariants: every byte of every member passes `_take`; a delivery is timed from when its message was due to when the
kernel had it (or, where the kernel does not say, to when it was read); nothing here waits but in `run`.
"""

import logging
import re
import select
import socket
import ssl
import struct
import time
from typing import Any, Final

import gevent
from gevent import monkey

from loadtest import frames
from loadtest.account import FOREVER_NS, Message, Room
from loadtest.adapters import Adapter, Notice
from loadtest.chunks import Chunk, Chunks
from loadtest.histogram import FLOOR_BITS, SUB_BITS
from loadtest.member import Member
from loadtest.speakers import Speakers
from loadtest.tally import Tally
from loadtest.timer import Timer

READ_BYTES: Final = 16384
READY_AT_ONCE: Final = 64  # sockets read between two looks at the senders: about half a millisecond
TURN_NS: Final = 2_000_000  # then the other greenlets are let in: locust's heartbeats starve otherwise
LATE_NS: Final = 1_000_000_000  # a delivery this long after it was due counts as late
CLOCK_STEP_NS: Final = 50_000  # a realtime clock that jumps further between two looks is not used for timing
SO_TIMESTAMPNS: Final = 35  # Linux, <asm-generic/socket.h>
STAMP: Final = struct.Struct("=qq").unpack
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(16)
NUMBER: Final = re.compile("([0-9a-f]{4})([0-9a-f]{2})([0-9a-f]{8})")  # run, sender, seq

# gevent takes `epoll` away, because it would block all greenlets; here it is only ever asked, never waited for.
epoll = monkey.get_original("select", "epoll")

CAUGHT_UP: Final = Notice("caught up")


class Reader:
    """Reads for all members of a process, and speaks for its senders."""

    def __init__(self, run: int, text_bytes: int, adapter: Adapter, rooms: dict[int, Room]) -> None:
        self.tally = Tally()
        self.fault = ""
        self._run = run
        self._chunks = Chunks(run, text_bytes, adapter, rooms)
        self._members: dict[int, Member] = {}
        self._touched: list[Chunk] = []
        self._latest = b"", Chunk()
        self.speakers = Speakers(run, text_bytes, adapter, rooms, self.send)
        self._timer = Timer()
        self._epoll = epoll()
        self._epoll.register(self._timer.fd, select.POLLIN)
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._can_stamp = True
        self._loop: gevent.Greenlet[..., None] | None = None

    # The members

    def add(self, member: Member, sock: Any) -> None:
        """Take over a socket after its handshake."""
        member.socket, member.rest, member.unsent = sock, b"", b""
        if isinstance(sock, ssl.SSLSocket):
            member.receive = lambda size, _: (_receive_tls(sock, size), [], 0, None)
        else:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            member.receive = sock.recvmsg
        sock.setblocking(False)
        self._members[sock.fileno()] = member
        self._epoll.register(sock.fileno(), select.POLLIN)
        if isinstance(sock, ssl.SSLSocket):
            # TLS may hold bytes that the kernel does not know of any more.
            self._read_all([(sock.fileno(), select.POLLIN)])

    def remove(self, member: Member) -> None:
        """Let a socket go, without a word."""
        if member.socket is None:
            return
        self._members.pop(member.socket.fileno(), None)
        self._epoll.unregister(member.socket.fileno())
        # Reset rather than closed: ten thousand closed sockets would hold their ports for a minute.
        member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        member.socket.close()
        member.socket = member.receive = None

    def send(self, member: Member, frame: bytes) -> None:
        """Send a frame; what the kernel does not take now goes out when it does."""
        if member.socket is None:
            return
        if not member.unsent:
            frame = frame[_send(member.socket, frame) :]
        if frame:
            if not member.unsent:
                self._epoll.modify(member.socket.fileno(), select.POLLIN | select.POLLOUT)
            member.unsent += frame

    def wake(self) -> None:
        """Take a turn at once: there may be something to say, or to plan."""
        self._timer.set(1)

    # Reading

    def start(self) -> None:
        """Begin to read."""
        self._loop = gevent.spawn(self._run_loop)

    def close(self) -> None:
        """Stop reading, and give everything back."""
        if self._loop:
            self._loop.kill()
        for member in list(self._members.values()):
            self.remove(member)
        self._epoll.close()
        self._timer.close()

    def _run_loop(self) -> None:
        hub = gevent.get_hub()
        watcher = hub.loop.io(self._epoll.fileno(), 1)
        try:
            while True:
                hub.wait(watcher)
                self.turn()
        except Exception as error:  # an adapter's, or our own: whoever asks has to hear that nothing is read any more
            logging.getLogger(__name__).exception("the reader failed")
            self.fault = repr(error)

    def turn(self) -> int:
        """Read and speak for a moment; return how many reads there were."""
        end_ns = time.monotonic_ns() + TURN_NS
        self._look_at_clocks()
        reads = 0
        while True:
            self.speakers.speak_up(self.tally, end_ns)
            ready = self._epoll.poll(0, READY_AT_ONCE)
            self._read_all(ready)
            reads += len(ready)
            if len(ready) < READY_AT_ONCE // 2 or time.monotonic_ns() > end_ns:
                break
        self._fold()
        self.speakers.talk_on(self.tally)
        self._timer.set(self.speakers.next_ns)
        return reads

    def _look_at_clocks(self) -> None:
        """Learn how far the kernel's stamps (realtime) are from our clock (monotonic), which nothing sets."""
        before_ns, real_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after_ns - before_ns > 5_000:
            return  # interrupted in between: the last look is better
        offset_ns = real_ns - before_ns
        self._can_stamp = abs(offset_ns - self._offset_ns) <= CLOCK_STEP_NS
        self._offset_ns = offset_ns

    def _read_all(self, ready: list[tuple[int, int]]) -> None:
        """Read once from each socket."""
        members, monotonic_ns = self._members, time.monotonic_ns
        for fd, happened in ready:
            member = members.get(fd)
            if member is None or member.receive is None:  # the timer
                continue
            if happened & select.POLLOUT:
                self._send_rest(member)
            try:
                data, ancillary, _, _ = member.receive(READ_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(member, error.strerror or str(error))
                continue
            if data:
                self._take(member, data, ancillary, monotonic_ns())
            else:
                self._end(member, "the server closed the connection")

    def _take(self, member: Member, data: bytes, ancillary: list[Any], now_ns: int) -> None:
        """Credit and time what one read brought: the path of every delivery."""
        tally = self.tally
        tally.chunks += 1
        if member.rest:
            data = member.rest + data
        if data == self._latest[0]:  # most members get what the one before got, and comparing is cheaper than hashing
            chunk = self._latest[1]
            tally.memo_hits += 1
        else:
            known = self._chunks.memo.get(data)
            tally.memo_hits += known is not None
            chunk = known or self._chunks.understand(data, now_ns)
            self._latest = data, chunk
        member.rest = chunk.rest
        at_ns = now_ns
        if ancillary and self._can_stamp:
            seconds, rest_ns = STAMP(ancillary[0][2])
            at_ns = seconds * 1_000_000_000 + rest_ns - self._offset_ns
            if not chunk.latest_due_ns <= at_ns <= now_ns:
                at_ns = now_ns
        if chunk.is_plain and chunk.room is member.room and not member.is_careful:
            account, last = member.account, member.last
            assert account  # without one, all is taken carefully
            for sender, first_seq, _ in chunk.runs:
                if last[sender] + 1 != first_seq:
                    break
            else:
                for sender, _, last_seq in chunk.runs:
                    last[sender] = last_seq
                account.received += chunk.size
                member.latest = chunk
                self._time(chunk, at_ns, now_ns)
                return
        self._take_carefully(member, chunk, at_ns, now_ns)

    def _time(self, chunk: Chunk, at_ns: int, now_ns: int) -> None:
        """Time all messages of a chunk for one member; `Histogram.record` is inlined, since this runs most often."""
        if not chunk.hits:
            self._touched.append(chunk)
        chunk.hits += 1
        if at_ns > chunk.last_ns:
            chunk.last_ns = at_ns
        if at_ns < chunk.first_ns:
            chunk.first_ns = at_ns
        if at_ns != now_ns:
            chunk.stamped += 1
            if now_ns - at_ns > chunk.longest_lag_ns:
                chunk.longest_lag_ns = now_ns - at_ns
        counts = self.tally.latency.counts
        for due_ns in chunk.due_ns:
            units = (at_ns - due_ns) >> FLOOR_BITS
            doublings = units.bit_length() - SUB_BITS - 1
            counts[units if doublings <= 0 else (doublings << SUB_BITS) + (units >> doublings)] += 1
        units = (now_ns - at_ns) >> FLOOR_BITS
        doublings = units.bit_length() - SUB_BITS - 1
        index = units if doublings <= 0 else (doublings << SUB_BITS) + (units >> doublings)
        self.tally.read_lag.counts[index] += len(chunk.due_ns)
        if at_ns - chunk.oldest_due_ns > LATE_NS:
            self.tally.late += sum(at_ns - due_ns > LATE_NS for due_ns in chunk.due_ns)

    def _fold(self) -> None:
        """Do once for each chunk what need not be done for each member who got it."""
        tally = self.tally
        for chunk in self._touched:
            hits, chunk.hits = chunk.hits, 0
            tally.deliveries += hits * chunk.size
            tally.read_bytes += hits * chunk.size_bytes
            tally.measured += hits * chunk.measured
            tally.timed += hits * len(chunk.due_ns)
            tally.stamped += chunk.stamped * len(chunk.due_ns)
            if chunk.due_ns:
                tally.latency.widen(chunk.first_ns - chunk.latest_due_ns, chunk.last_ns - chunk.oldest_due_ns)
                tally.read_lag.widen(0, chunk.longest_lag_ns)
            for message in chunk.messages:
                message.had += hits
                message.saw(chunk.first_ns, chunk.last_ns)
                message.room.settle(message)
            chunk.first_ns, chunk.last_ns, chunk.longest_lag_ns, chunk.stamped = FOREVER_NS, 0, 0, 0
        self._touched.clear()

    # What is not simply the next message

    def _take_carefully(self, member: Member, chunk: Chunk, at_ns: int, now_ns: int) -> None:
        """Credit message by message: somebody enters, leaves or catches up, or something is not in order."""
        self._hear(member, chunk)
        account = member.account
        if account and chunk.size:
            self.tally.read_bytes += chunk.size_bytes
        for message in chunk.messages:
            if message.room is not member.room:
                self.tally.stray += 1
            elif account:
                account.received += 1
                message.had += 1
                if account.take(message, self.tally):
                    self._time_one(member, message, at_ns, now_ns)
                message.room.settle(message)
        if member.back_ns and account and account.has_until(member.back_ns):
            member.back_ns, member.is_careful = 0, account.out_ns != FOREVER_NS
            member.on_notice(member, CAUGHT_UP)
        if chunk.fault:
            self.tally.garbage += 1
            self._end(member, chunk.fault)
        elif chunk.code:
            self._end(member, f"the server closed it with code {chunk.code}")

    def _time_one(self, member: Member, message: Message, at_ns: int, now_ns: int) -> None:
        """Time one delivery; what was sent while he was away says nothing about fan-out."""
        tally = self.tally
        tally.deliveries += 1
        if message.sent_ns < member.back_ns:
            return
        tally.measured += message.is_measured
        message.saw(at_ns, at_ns)
        if message.is_timed:
            tally.timed += 1
            tally.stamped += at_ns != now_ns
            tally.read_lag.record(now_ns - at_ns)
            tally.latency.record(max(0, at_ns - message.due_ns))
            tally.late += at_ns - message.due_ns > LATE_NS

    def _hear(self, member: Member, chunk: Chunk) -> None:
        """Do what the frames without a message ask for."""
        member.place = {**member.standing, **chunk.place}
        member.latest = None
        for payload in chunk.pings:
            self.send(member, frames.masked(payload, frames.PONG))
        for notice in chunk.notices:
            if notice.kind == "changed":
                self.tally.changed += 1
            elif notice.kind == "stray":
                self.tally.stray += 1
            elif notice.kind in ("refused", "acked"):
                self._answered(member, notice)
            else:
                member.on_notice(member, notice)

    def _answered(self, member: Member, notice: Notice) -> None:
        """Hear what became of a message that was said with a number."""
        is_refused = notice.kind == "refused"
        self.tally.refused += is_refused
        number = NUMBER.fullmatch(notice.detail)
        if number is None:
            return
        run, sender, seq = (int(digits, 16) for digits in number.groups())
        if run != self._run or sender >= len(member.room.ledgers):
            return
        if is_refused:
            member.room.refuse(sender, seq)
        else:
            member.room.ledgers[sender].acked.add(seq)

    def _send_rest(self, member: Member) -> None:
        member.unsent = member.unsent[_send(member.socket, member.unsent) :]
        if not member.unsent:
            self._epoll.modify(member.socket.fileno(), select.POLLIN)

    def _end(self, member: Member, why: str) -> None:
        self.remove(member)
        member.on_end(member, why)


def _send(sock: Any, frame: bytes) -> int:
    """Return how many bytes the kernel took; a dead socket takes all, and reading it tells that it is dead."""
    try:
        return int(sock.send(frame))
    except (BlockingIOError, ssl.SSLWantWriteError):
        return 0
    except OSError:
        return len(frame)


def _receive_tls(sock: ssl.SSLSocket, size: int) -> bytes:
    """Return all that TLS has; raises BlockingIOError if that is nothing."""
    try:
        data = sock.recv(size)
        while sock.pending():
            data += sock.recv(size)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise BlockingIOError from None
    return data
