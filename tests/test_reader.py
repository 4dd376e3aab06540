"""The reader on real sockets: whatever way bytes come, every delivery is credited once to the member who got it.

Nothing is patched: the reader's epoll is only ever asked, so that a test can take its turns itself.
"""

import contextlib
import os
import select
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest import reader as module
from loadtest.account import Account, Ledger, Room
from loadtest.adapters import Adapter, Notice, load
from loadtest.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from loadtest.member import Member
from loadtest.reader import CAUGHT_UP, Reader
from loadtest.speakers import Sender
from loadtest.tag import MIN_TEXT_BYTES, Tag, find, make_text
from loadtest.tally import Tally
from tests.support import DEADLINE_S

RUN = 0xBEEF
TEXT_BYTES = MIN_TEXT_BYTES + 3
S = 1_000_000_000


def frame(payload: bytes, opcode: int = TEXT, *, is_last: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    return bytes([0x80 * is_last | opcode]) + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


def unmasked(data: bytes) -> list[Frame]:
    """The frames that a client sent, all of them whole."""
    frames = []
    while data:
        size, start = data[1] & 0x7F, 2
        assert data[1] & 0x80
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        key, body = data[start : start + 4], data[start + 4 : start + 4 + size]
        mask = (key * (size // 4 + 1))[:size]
        payload = (int.from_bytes(body) ^ int.from_bytes(mask)).to_bytes(size)
        frames.append(Frame(data[0] & 0x0F, data[0] >= 0x80, payload))
        data = data[start + 4 + size :]
    return frames


class Hall:
    """A reader, two rooms with two senders each, members, and the server's ends of their sockets."""

    def __init__(self, members: int, adapter: Adapter | None = None, listener: Any = None) -> None:
        self.completed: list[Any] = []
        self.rooms = {
            number: Room(number, [Ledger(True, True) for _ in range(2)], self.completed) for number in range(2)
        }
        self.reader = Reader(RUN, TEXT_BYTES, adapter or Adapter(), self.rooms)
        self.notices: list[tuple[int, Notice]] = []
        self.ends: list[tuple[int, str]] = []
        self.members: list[Member] = []
        self.servers: list[Any] = []
        self.seqs = [count(), count()]
        for _ in range(members):
            self.enter()

    @property
    def tally(self) -> Tally:
        """What the reader has counted."""
        return self.reader.tally

    def enter(self, *, has_account: bool = True) -> Member:
        """Let another member in."""
        number = len(self.members)
        member = Member(number, self.rooms[0], self.on_notice, self.on_end)
        if has_account:
            member.account = Account(member.room, time.monotonic_ns())
            member.last = member.account.last
        near, far = connected()
        self.members.append(member)
        self.servers.append(far)
        self.reader.add(member, near)
        return member

    def on_notice(self, member: Member, notice: Notice) -> None:
        """Note what the reader tells."""
        self.notices.append((member.number, notice))

    def on_end(self, member: Member, why: str) -> None:
        """Note who was thrown out."""
        self.ends.append((member.number, why))

    def say(self, sender: int = 0, *, due_ns: int = 0, room: int = 0, is_measured: bool = True) -> bytes:
        """Send a message, and return it as a frame of the server's."""
        now_ns = time.monotonic_ns()
        tag = Tag(RUN, room, sender, next(self.seqs[sender]), due_ns or now_ns, now_ns, is_measured)
        self.rooms[room].send(tag)
        return frame(make_text(tag, TEXT_BYTES).encode())

    def event(self, seq: int) -> bytes:
        """Send a message, and return it as an event of the chat room's."""
        text = self.say()[2:].decode()
        return frame(f'{{"type":"message","seq":{seq},"at":1,"text":"{text}"}}'.encode())

    def says(self, count: int, sender: int = 0) -> list[bytes]:
        """Send some messages of a sender."""
        return [self.say(sender) for _ in range(count)]

    def tell(self, data: bytes, *members: int) -> None:
        """Let the server send bytes to some members, or to all, and read them."""
        chunks = self.tally.chunks
        told = members or range(len(self.servers))
        for number in told:
            self.servers[number].sendall(data)
        self.turn_until(lambda: self.tally.chunks >= chunks + len(told))

    def turn_until(self, is_there: Callable[[], Any]) -> None:
        """Take turns until something has happened."""
        end_s = time.monotonic() + DEADLINE_S
        while not is_there():
            self.reader.turn()
            assert time.monotonic() < end_s

    def hears(self, number: int, size: int) -> bytes:
        """Return what the server hears from a member."""
        heard: list[bytes] = []
        server = self.servers[number]
        server.setblocking(False)

        def has_heard() -> bool:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                heard.append(server.recv(size))
            return sum(map(len, heard)) >= size

        self.turn_until(has_heard)
        server.settimeout(DEADLINE_S)
        return b"".join(heard)

    def received(self) -> list[int]:
        """How many deliveries each member has to his credit."""
        return [member.account.received if member.account else 0 for member in self.members]

    def closed(self) -> dict[str, int]:
        """Close all accounts and sockets, and return what was not zero of the account of deliveries."""
        for member in self.members:
            if member.account:
                member.account.close(self.tally)
        self.close()
        assert self.tally.comes_out()
        names = ("had_to_get", "received", "missing", "doubled", "reordered", "changed", "stray")
        return {name: getattr(self.tally, name) for name in names if getattr(self.tally, name)}

    def close(self) -> None:
        """Close all sockets."""
        self.reader.close()
        for server in self.servers:
            server.close()


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, which has the kernel's receive times as a pair of Unix sockets has not."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


@contextlib.contextmanager
def hall_of(members: int, adapter: Adapter | None = None) -> Iterator[Hall]:
    """A hall that is given back in the end."""
    hall = Hall(members, adapter)
    try:
        yield hall
    finally:
        if not hall.reader._epoll.closed:
            hall.close()


@pytest.fixture
def hall() -> Iterator[Hall]:
    """A hall with two members."""
    with hall_of(2) as hall:
        yield hall


# How bytes come


def test_frames_that_come_together_are_credited_to_each_who_got_them(hall: Hall) -> None:
    """They are understood once, and timed for each."""
    hall.tell(b"".join([*hall.says(3), *hall.says(2, sender=1)]))
    tally = hall.tally
    assert (tally.chunks, tally.memo_hits, tally.deliveries, tally.measured, tally.timed) == (2, 1, 10, 10, 10)
    assert (tally.latency.total, tally.read_lag.total, tally.late) == (10, 10, 0)
    assert tally.read_bytes == 10 * (TEXT_BYTES + 2)
    assert hall.received() == [5, 5]
    assert len(hall.completed) == 5
    assert hall.closed() == {"had_to_get": 10, "received": 10}


def test_a_frame_may_come_in_two_pieces_cut_anywhere(hall: Hall) -> None:
    """Between them nothing is credited, and with the second one exactly one message."""
    size = len(hall.say())
    hall.seqs[0] = count()
    for cut in range(1, size):
        data = hall.say()
        hall.tell(data[:cut])
        assert hall.received() == [cut - 1] * 2
        hall.tell(data[cut:])
        assert hall.received() == [cut] * 2
    assert (hall.tally.deliveries, hall.tally.latency.total) == (2 * (size - 1),) * 2
    assert hall.closed() == {"had_to_get": 2 * (size - 1), "received": 2 * (size - 1)}


def test_a_frame_may_come_byte_by_byte(hall: Hall) -> None:
    """With the next one's first byte behind its last."""
    data = b"".join(hall.says(2))
    for place in range(len(data)):
        hall.tell(data[place : place + 1], 1)
    assert hall.received() == [0, 2]
    assert hall.tally.read_bytes == len(data)


def test_a_message_in_fragments_with_a_ping_in_between_is_credited_and_the_ping_answered(hall: Hall) -> None:
    """With what the ping carried, from each member who got it."""
    text = hall.say()[2:]
    hall.tell(
        frame(text[:9], is_last=False) + frame(b"are you there?", PING) + frame(text[9:30], CONTINUATION, is_last=False)
    )
    assert hall.received() == [0, 0]
    hall.tell(frame(text[30:], CONTINUATION))
    assert hall.received() == [1, 1]
    for number in range(2):
        assert unmasked(hall.hears(number, 6 + 14)) == [Frame(PONG, True, b"are you there?")]
    assert hall.closed() == {"had_to_get": 2, "received": 2}


def test_pings_are_answered_in_their_order(hall: Hall) -> None:
    """Also those without a word."""
    hall.tell(frame(b"", PING) + hall.say() + frame(b"2", PING), 0)
    assert [one.payload for one in unmasked(hall.hears(0, 6 + 7))] == [b"", b"2"]
    assert hall.received() == [1, 0]


def test_a_memo_credits_nobody_with_what_he_did_not_get(hall: Hall) -> None:
    """Not even one whose neighbour had the same bytes; and the message waits for him."""
    data = hall.say()
    hall.tell(data, 0)
    assert (hall.received(), hall.completed) == ([1, 0], [])
    (message,) = hall.rooms[0].open.values()
    assert (message.had, message.had_to) == (1, 2)
    hall.tell(data, 1)
    assert (hall.received(), len(hall.completed), hall.tally.memo_hits) == ([1, 1], 1, 1)


def test_what_one_never_got_is_missing(hall: Hall) -> None:
    """Before another message, and as the last one."""
    first, second, third = hall.says(3)
    hall.tell(first + second + third, 0)
    hall.tell(second, 1)
    assert hall.closed() == {"had_to_get": 6, "received": 4, "missing": 2}


def test_what_one_got_twice_or_overtaken_is_counted(hall: Hall) -> None:
    """Also within one read, and when a memo knows the bytes."""
    first, second, third = hall.says(3)
    hall.tell(first + first + third + second)
    hall.tell(third)
    assert (hall.tally.deliveries, hall.tally.timed, hall.tally.read_lag.total) == (6, 6, 6)
    assert hall.tally.read_bytes == 10 * (TEXT_BYTES + 2)
    assert hall.closed() == {"had_to_get": 6, "received": 10, "doubled": 4, "reordered": 2}
    assert len(hall.completed) == 3


def test_a_personal_greeting_before_the_same_message_is_no_matter(hall: Hall) -> None:
    """Each member's own bytes are understood on their own, as the same message."""
    data = hall.say()
    for number in range(2):
        hall.tell(frame(b"hello %d" % number) + data, number)
    assert (hall.tally.memo_hits, hall.received(), len(hall.completed)) == (0, [1, 1], 1)


# What should not be there


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"\x83\x00", "The server sent a frame with the unknown opcode 0x3."),
        (b"\x81\x85aaaabbbbb", "The server masked a frame, which only a client may do."),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", None),
    ],
)
def test_garbage_ends_the_one_who_got_it_behind_what_came_before(hall: Hall, garbage: bytes, why: str | None) -> None:
    """The others go on."""
    data = hall.say()
    hall.tell(data + garbage, 0)
    hall.tell(data + hall.say(), 1)
    ((number, sentence),) = hall.ends
    assert number == 0
    assert sentence == why or (why is None and sentence.startswith("The server "))
    assert (hall.tally.garbage, hall.received(), hall.members[0].socket) == (1, [1, 2], None)


def test_a_frame_that_the_adapter_cannot_read_ends_only_its_member() -> None:
    """An adapter is anybody's code."""

    class Strict(Adapter):
        def notice(self, payload: bytes) -> Notice | None:
            raise ValueError("no JSON")

    with hall_of(2, Strict()) as hall:
        hall.tell(frame(b"hello"), 0)
        hall.tell(hall.say(), 1)
        assert hall.ends == [(0, "the adapter cannot read what the server sent (ValueError('no JSON'))")]
        assert hall.received() == [0, 1]


def test_a_message_of_another_room_is_stray(hall: Hall) -> None:
    """It is credited to nobody, whether it comes alone or with others, and whoever had it before."""
    strange = hall.say(room=1)
    hall.seqs[0] = count()
    hall.tell(strange)
    hall.tell(hall.say() + strange, 0)
    assert hall.received() == [1, 0]
    assert hall.closed() == {"had_to_get": 2, "received": 1, "missing": 1, "stray": 3}


def test_a_message_of_a_room_that_there_is_not_is_stray(hall: Hall) -> None:
    """For each who gets it."""
    hall.tell(frame(make_text(Tag(RUN, 9, 0, 0, 1, 1, True), TEXT_BYTES).encode()))
    assert hall.closed() == {"stray": 2}


def test_a_damaged_text_is_changed_and_missing(hall: Hall) -> None:
    """For each who got it so."""
    data = hall.say()
    hall.tell(data[:-4] + b"y" + data[-3:], 0)
    hall.tell(data, 1)
    assert hall.closed() == {"had_to_get": 2, "received": 1, "missing": 1, "changed": 1}


def test_a_text_of_another_run_is_nobody_s(hall: Hall) -> None:
    """A room's history."""
    old = make_text(Tag(RUN - 1, 0, 0, 0, 1, 1, True), TEXT_BYTES + 30).encode()
    hall.tell(frame(old) + hall.say())
    assert hall.closed() == {"had_to_get": 2, "received": 2}


# Ends


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "the server closed it with code 1005"),
        (b"\x03\xe9going away", "the server closed it with code 1001"),
        (b"\x11\x94slow", "the server closed it with code 4500"),
    ],
)
def test_a_close_frame_ends_a_member_behind_what_came_before(hall: Hall, payload: bytes, why: str) -> None:
    """He has the message in front of it, and it is told with which code he was closed."""
    hall.tell(hall.say() + frame(payload, CLOSE), 0)
    assert (hall.ends, hall.received(), hall.tally.deliveries) == ([(0, why)], [1, 0], 1)
    assert hall.members[0].socket is None


def test_a_member_whose_account_ends_with_his_socket_has_what_came_with_the_close() -> None:
    """A server that does not resume is owed for it, too."""
    with hall_of(1) as hall:
        (member,) = hall.members
        account = member.account
        assert account

        def end(member: Member, why: str) -> None:
            account.cut_off(time.monotonic_ns())
            account.close(hall.tally)
            member.account = None

        member.on_end = end
        hall.tell(hall.say() + frame(b"", CLOSE))
        assert (hall.tally.had_to_get, hall.tally.received, hall.tally.deliveries) == (1, 1, 1)
        assert len(hall.completed) == 1


def test_a_closed_and_a_reset_connection_end_a_member(hall: Hall) -> None:
    """With the reason."""
    hall.servers[0].close()
    hall.servers[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    hall.servers[1].close()
    hall.turn_until(lambda: len(hall.ends) == 2)
    assert sorted(hall.ends) == [(0, "the server closed the connection"), (1, "Connection reset by peer")]


def test_what_is_sent_into_the_void_is_no_fault(hall: Hall) -> None:
    """Reading tells that the other end is gone."""
    hall.servers[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    hall.servers[0].close()
    for _ in range(2):
        hall.reader.send(hall.members[0], b"hello?")
    hall.turn_until(lambda: hall.ends)
    hall.reader.send(hall.members[0], b"hello?")
    hall.tell(hall.say(), 1)
    assert hall.received() == [0, 1]


def test_a_member_who_is_removed_is_gone_at_once(hall: Hall) -> None:
    """His port is free, nothing is told of him, and the other stays."""
    hall.reader.remove(hall.members[0])
    hall.reader.remove(hall.members[0])
    with pytest.raises(ConnectionResetError):
        hall.servers[0].recv(1)
    hall.tell(hall.say(), 1)
    assert (hall.ends, hall.received()) == ([], [0, 1])


def test_a_reader_that_is_closed_has_given_everything_back() -> None:
    """Sockets, epoll and timer."""
    before = set(os.listdir("/proc/self/fd"))
    hall = Hall(3)
    hall.tell(hall.say())
    hall.close()
    assert set(os.listdir("/proc/self/fd")) == before


# Members who enter, leave and come back


def test_one_without_an_account_is_credited_with_nothing(hall: Hall) -> None:
    """He has shaken hands, and is not in yet."""
    stranger = hall.enter(has_account=False)
    stranger.is_careful = True
    data = hall.say()
    hall.tell(data)
    assert (hall.received(), hall.tally.deliveries, len(hall.completed)) == ([1, 1, 0], 2, 1)


def test_an_account_may_begin_within_a_read() -> None:
    """The server's greeting and the first message come together."""
    with hall_of(1, load("chatroom")) as hall:
        stranger = hall.enter(has_account=False)
        stranger.is_careful = True
        said = []

        def enter(member: Member, notice: Notice) -> None:
            assert notice == Notice("entered", "")
            member.account = Account(member.room, time.monotonic_ns())
            member.last, member.is_careful = member.account.last, False
            said.append(hall.event(8))

        stranger.on_notice = enter
        history = hall.event(7)
        welcome = frame(b'{"type":"welcome","epoch":"e1","head":7}')
        hall.tell(welcome + history, 1)
        assert hall.received() == [0, 0]
        hall.tell(said[0])
        assert hall.received() == [1, 1]
        assert stranger.standing == {"epoch": "e1", "after": "8"}


def test_one_who_leaves_is_credited_with_what_was_sent_before(hall: Hall) -> None:
    """What was sent later is nobody's business."""
    before = hall.say()
    member = hall.members[0]
    assert member.account
    member.account.leave(time.monotonic_ns())
    member.is_careful = True
    after = hall.say()
    hall.tell(before + after)
    assert hall.received() == [1, 2]
    assert len(hall.completed) == 2
    assert hall.closed() == {"had_to_get": 3, "received": 3}


def test_one_who_came_back_has_caught_up_when_he_has_all_until_then(hall: Hall) -> None:
    """It is told once; what he missed is credited and not timed."""
    missed = hall.says(3)
    hall.tell(b"".join(missed), 1)
    member, timed = hall.members[0], hall.tally.timed
    member.is_careful, member.back_ns = True, time.monotonic_ns()
    fresh = hall.say()
    hall.tell(missed[0] + missed[1], 0)
    assert (hall.notices, member.is_careful) == ([], True)
    hall.tell(missed[2], 0)
    assert (hall.notices, member.is_careful, member.back_ns) == ([(0, CAUGHT_UP)], False, 0)
    assert (hall.tally.timed, hall.tally.deliveries) == (timed, 6)
    hall.tell(fresh)
    assert (hall.tally.timed, hall.received()) == (timed + 2, [4, 4])
    assert len(hall.notices) == 1


def test_where_one_stands_is_what_came_last() -> None:
    """By the fast way and by the careful one."""
    with hall_of(2, load("chatroom")) as hall:
        hall.members[0].place = {"epoch": "e1"}
        hall.tell(hall.event(7) + hall.event(8))
        assert [member.standing for member in hall.members] == [{"epoch": "e1", "after": "8"}, {"after": "8"}]
        hall.tell(hall.event(9) + frame(b"", PING), 0)
        assert [member.standing for member in hall.members] == [{"epoch": "e1", "after": "9"}, {"after": "8"}]


@pytest.mark.parametrize("together", [True, False])
def test_an_event_that_is_no_message_is_passed_over_and_counts_as_where_one_stands(together: bool) -> None:
    """An edit has the text once more, and what was removed leaves its place: nothing is doubled, nothing is lacking."""
    with hall_of(2, load("chatroom")) as hall:
        said = hall.event(7)
        edit = frame(said[2:].replace(b'"message","seq":7', b'"edit","seq":8'))
        act, purge = (frame(b'{"type":"%s","seq":%d,"at":1}' % kind) for kind in ((b"act", 9), (b"purge", 10)))
        events = [said, edit, act, purge]
        for data in [b"".join(events)] if together else events:
            hall.tell(data)
        assert [member.standing for member in hall.members] == [{"after": "10"}] * 2
        hall.tell(hall.event(11))
        assert hall.tally.deliveries == 4
        assert hall.closed() == {"had_to_get": 4, "received": 4}


# What the server answers


def answer(kind: str, number: str) -> bytes:
    """What the chat room says to a message with a number."""
    return frame(f'{{"type":"{kind}","client_id":"{number}"}}'.encode())


def test_what_was_refused_has_not_to_be_got() -> None:
    """It is counted apart."""
    with hall_of(2, load("chatroom")) as hall:
        hall.says(2)
        hall.tell(answer("error", f"{RUN:04x}0000000001"), 0)
        assert (hall.tally.refused, list(hall.rooms[0].open)) == (1, [(0, 0)])
        assert hall.closed() == {"had_to_get": 2, "missing": 2}


def test_what_was_acknowledged_must_come_even_if_its_sender_was_lost() -> None:
    """What was not may have got lost with him."""
    with hall_of(2, load("chatroom")) as hall:
        hall.says(2)
        hall.tell(answer("ack", f"{RUN:04x}0000000001"), 0)
        assert (hall.rooms[0].doubt(0), hall.tally.refused) == (1, 0)
        assert hall.closed() == {"had_to_get": 2, "missing": 2}


@pytest.mark.parametrize(
    "number", ["", "1", f"{RUN:04x}", f"{RUN:04x}zz00000000", f"{RUN:04x}0200000000", "00010000000000"]
)
@pytest.mark.parametrize("kind", ["error", "ack"])
def test_an_answer_with_a_strange_number_is_about_no_message(kind: str, number: str) -> None:
    """Of another run, of a sender that there is not, or of nobody's; what was refused is still counted."""
    with hall_of(1, load("chatroom")) as hall:
        hall.say()
        hall.tell(answer(kind, number))
        assert hall.tally.refused == (kind == "error")
        assert (len(hall.rooms[0].open), hall.rooms[0].doubt(0)) == (1, 1)


def test_other_notices_go_to_the_member_s_own_ear() -> None:
    """In their order, in front of the messages."""
    with hall_of(1, load("chatroom")) as hall:
        welcome = frame(b'{"type":"welcome","epoch":"e1","resumed":"gap"}')
        hall.tell(hall.say() + welcome + welcome)
        assert hall.notices == [(0, Notice("entered", "gap"))] * 2


# Sending


def test_what_the_kernel_does_not_take_goes_out_later_in_order(hall: Hall) -> None:
    """Nothing is lost or torn apart, and when all is out nobody is woken for it any more."""
    member = hall.members[0]
    member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pieces = [bytes([number]) * 5_000 for number in range(200)]
    for piece in pieces:
        hall.reader.send(member, piece)
    assert member.unsent
    assert hall.hears(0, 1_000_000) == b"".join(pieces)
    assert not member.unsent
    assert not select.select([hall.reader._epoll], [], [], 0)[0]
    hall.reader.send(member, b"and more")
    assert hall.hears(0, 8) == b"and more"


def test_one_who_does_not_read_keeps_nobody_else_waiting(hall: Hall) -> None:
    """What he is sent is kept, and what he says is heard."""
    hall.reader.send(hall.members[0], b"x" * 30_000_000)
    assert hall.members[0].unsent
    hall.reader.send(hall.members[1], b"hello")
    assert hall.hears(1, 5) == b"hello"
    hall.tell(hall.say())
    assert hall.received() == [1, 1]


def test_whoever_comes_back_on_a_new_socket_begins_anew(hall: Hall) -> None:
    """What was half read or half sent on the old one is forgotten."""
    member = hall.members[0]
    hall.tell(hall.say()[:9], 0)
    hall.reader.send(member, b"x" * 30_000_000)
    hall.reader.remove(member)
    near, far = connected()
    hall.servers.append(far)
    hall.reader.add(member, near)
    hall.tell(hall.say(), 2)
    hall.reader.send(member, b"hello")
    assert hall.hears(2, 5) == b"hello"


# Times


def test_the_kernel_says_when_it_had_the_bytes(hall: Hall) -> None:
    """Between when they were sent and when they were read; what was due later than that is not timed by it."""
    stamped, end_s = 0, time.monotonic() + DEADLINE_S
    while stamped < 20:  # the first few may lack it
        assert time.monotonic() < end_s
        data = hall.say()
        for number in range(2):
            hall.tell(data, number)
        stamped = hall.tally.stamped
    tally = hall.tally
    assert tally.stamped <= tally.timed == tally.latency.total == tally.read_lag.total
    assert tally.read_lag.max_ns > 0


def test_a_message_is_timed_from_when_it_was_due(hall: Hall) -> None:
    """Not from when it was sent; more than a second is late, for each who got it, in good order or not."""
    now_ns = time.monotonic_ns()
    late, later = (hall.say(due_ns=now_ns - seconds * S) for seconds in (2, 40))
    in_time, doubled = hall.say(), hall.say(due_ns=now_ns - 60 * S)
    tally = hall.tally
    hall.tell(late + later + in_time)
    assert (tally.late, tally.timed) == (4, 6)
    assert tally.latency.min_ns < S < 40 * S < tally.latency.max_ns < 60 * S
    hall.tell(doubled + hall.say() + doubled, 0)
    assert (tally.late, tally.timed) == (5, 8)
    assert tally.latency.max_ns > 60 * S
    assert [tally.latency.count_above(seconds * S) for seconds in (1, 39, 59)] == [5, 3, 1]


def test_the_warm_up_is_credited_and_not_timed(hall: Hall) -> None:
    """Nor is it one of the deliveries that were measured."""
    hall.tell(hall.say(is_measured=False) + hall.say() + hall.say(is_measured=False))
    tally = hall.tally
    assert (tally.deliveries, tally.measured, tally.timed, tally.latency.total) == (6, 2, 2, 2)
    assert hall.closed() == {"had_to_get": 6, "received": 6}
    assert len(hall.completed) == 1


@pytest.mark.parametrize("is_careful", [False, True])
def test_a_completed_message_knows_its_first_and_its_last_member(hall: Hall, is_careful: bool) -> None:
    """Whichever way they were credited."""
    for member in hall.members:
        member.is_careful = is_careful
    data = hall.say()
    hall.tell(data, 0)
    between_ns = time.monotonic_ns()
    hall.tell(data, 1)
    (message,) = hall.completed
    assert message.due_ns <= message.first_ns <= between_ns <= message.last_ns <= time.monotonic_ns()


def test_a_wall_clock_that_jumps_is_not_used_for_timing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every message is timed by when it was read; once the clock is steady, the kernel's time is used again."""
    real_ns = time.time_ns
    jumps_ns = count(0, 1_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(module.time, "time_ns", lambda: real_ns() + next(jumps_ns))
        for _ in range(5):
            hall.reader.turn()
        for _ in range(5):
            hall.tell(hall.say(due_ns=time.monotonic_ns() - S // 2))
        assert (hall.tally.timed, hall.tally.stamped) == (10, 0)
    monkeypatch.setattr(module.time, "time_ns", lambda: real_ns() + 1_000_000)
    end_s = time.monotonic() + DEADLINE_S
    while not hall.tally.stamped:
        assert time.monotonic() < end_s
        hall.tell(hall.say(due_ns=time.monotonic_ns() - S // 2))


@pytest.mark.parametrize("ahead_ns", [-10 * S, 10 * S])
def test_a_kernel_s_time_that_cannot_be_is_not_used(hall: Hall, monkeypatch: pytest.MonkeyPatch, ahead_ns: int) -> None:
    """Before the message was due, or after it was read."""
    real_ns = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: real_ns() + ahead_ns)
    for _ in range(3):
        hall.reader.turn()
    for _ in range(5):
        hall.tell(hall.say())
    assert (hall.tally.timed, hall.tally.stamped, hall.tally.read_lag.max_ns) == (10, 0, 0)
    assert hall.tally.latency.max_ns < DEADLINE_S * S


# Speaking


def sender_of(hall: Hall, offsets_ns: list[int], start_ns: int) -> Sender:
    """The first member as the first sender."""
    return Sender(hall.members[0], 0, iter(offsets_ns), start_ns, 0)


def tags(data: bytes) -> list[Tag]:
    """The tags of what a client said."""
    found = [find(one.payload, TEXT_BYTES, RUN) for one in unmasked(data)]
    return [tag for tag in found if tag]


def test_overdue_messages_all_go_out_each_with_its_own_planned_time(hall: Hall) -> None:
    """And when the server repeats them they are late."""
    start_ns = time.monotonic_ns() - 5 * S
    hall.reader.speakers.add(sender_of(hall, [0, S, 2 * S, 3 * S], start_ns))
    said = hall.hears(0, 4 * (TEXT_BYTES + 6))
    assert [(tag.seq, tag.due_ns) for tag in tags(said)] == [(number, start_ns + number * S) for number in range(4)]
    assert (hall.tally.planned, hall.tally.sent, hall.tally.lateness.total) == (4, 0, 4)
    hall.tell(b"".join(frame(one.payload) for one in unmasked(said)))
    assert (hall.tally.late, hall.tally.timed) == (8, 8)
    assert hall.closed() == {"had_to_get": 8, "received": 8}


def test_a_reader_that_nobody_disturbs_speaks_when_it_is_time(hall: Hall) -> None:
    """Its own timer wakes it, though nothing comes in."""
    at_ns = time.monotonic_ns() + 20_000_000
    hall.reader.speakers.add(sender_of(hall, [0, 1000], at_ns))
    hall.reader.turn()
    assert select.select([hall.reader._epoll], [], [], DEADLINE_S)[0]
    assert time.monotonic_ns() >= at_ns
    assert [tag.due_ns for tag in tags(hall.hears(0, 2 * (TEXT_BYTES + 6)))] == [at_ns, at_ns + 1000]


def test_a_sender_who_begins_within_a_turn_is_not_forgotten() -> None:
    """The server's greeting lets him in, and then nothing else comes."""
    with hall_of(1, load("chatroom")) as hall:
        at_ns = time.monotonic_ns() + 20_000_000
        hall.members[0].on_notice = lambda *_: hall.reader.speakers.add(sender_of(hall, [0], at_ns))
        hall.tell(frame(b'{"type":"welcome"}'))
        assert select.select([hall.reader._epoll], [], [], DEADLINE_S)[0]
        hall.turn_until(lambda: hall.reader.speakers.is_silent)


def test_a_reader_that_is_woken_takes_a_turn_at_once(hall: Hall) -> None:
    """Somebody has planned something for it outside of a turn."""
    hall.reader.turn()
    assert not select.select([hall.reader._epoll], [], [], 0)[0]
    hall.reader.wake()
    assert select.select([hall.reader._epoll], [], [], DEADLINE_S)[0]
    hall.reader.turn()
    assert not select.select([hall.reader._epoll], [], [], 0)[0]


def test_a_closed_loop_says_the_next_when_everybody_has_the_last(hall: Hall) -> None:
    """Within the same turn."""
    now_ns = time.monotonic_ns()
    hall.reader.speakers.keep_talking(sender_of(hall, [], now_ns), 2, now_ns + 60 * S)
    said = hall.hears(0, 2 * (TEXT_BYTES + 6))
    hall.tell(b"".join(frame(one.payload) for one in unmasked(said)))
    assert [tag.seq for tag in tags(hall.hears(0, 2 * (TEXT_BYTES + 6)))] == [2, 3]


def test_it_reads_and_speaks_by_itself_when_it_is_started(hall: Hall) -> None:
    """In a greenlet of its own, which waits for nothing but the epoll."""
    hall.reader.start()
    hall.reader.speakers.add(sender_of(hall, [0], time.monotonic_ns()))
    hall.reader.wake()
    hall.servers[0].setblocking(False)
    said = b""
    with gevent.Timeout(DEADLINE_S):
        while len(said) < TEXT_BYTES + 6:
            gevent.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                said += hall.servers[0].recv(1000)
        for server in hall.servers:
            server.sendall(frame(unmasked(said)[0].payload))
        while hall.received() != [1, 1]:
            gevent.sleep(0.001)
    assert len(hall.completed) == 1


def test_a_turn_reads_more_members_than_it_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at its senders in between, and goes on while many are ready."""
    monkeypatch.setattr(module, "READY_AT_ONCE", 4)
    monkeypatch.setattr(module, "TURN_NS", 60 * S)
    with hall_of(11) as hall:
        data = hall.say()
        for server in hall.servers:
            server.sendall(data)
        poll = select.poll()
        for member in hall.members:
            poll.register(member.socket, select.POLLIN)
        end_s = time.monotonic() + DEADLINE_S
        while len(poll.poll(0)) < 11:
            assert time.monotonic() < end_s
        assert hall.reader.turn() == 11
        assert hall.received() == [1] * 11


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *words.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


def test_a_member_with_tls_gets_everything_that_is_in_a_record(
    hall: Hall, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a read takes, and what came before the reader did, which no epoll tells of."""
    monkeypatch.setattr(module, "READ_BYTES", 100)
    near, far = connected()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(certificate)
    client, server = handshaken(near, far, trusting, context)
    member = Member(2, hall.rooms[0], hall.on_notice, hall.on_end)
    member.account = Account(member.room, time.monotonic_ns())
    member.last = member.account.last
    hall.members.append(member)
    hall.servers.append(server)
    server.sendall(b"!" + hall.say() + hall.say())
    assert client.recv(1) == b"!"
    hall.reader.add(member, client)
    assert member.account.received == 2
    hall.tell(b"".join(hall.says(200)), 2)
    hall.turn_until(lambda: member.account and member.account.received == 202)
    hall.reader.send(member, b"hello")
    assert hall.hears(2, 5) == b"hello"
    assert hall.tally.stamped == 0
    server.close()
    hall.turn_until(lambda: hall.ends)


def handshaken(
    near: socket.socket, far: socket.socket, *contexts: ssl.SSLContext
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Both ends of a TLS connection, after their handshake."""
    for end in (near, far):
        end.setblocking(False)
    client = contexts[0].wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False)
    server = contexts[1].wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    waiting = [client, server]
    while waiting:
        for end in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.remove(end)
    for end in (client, server):
        end.settimeout(DEADLINE_S)
    return client, server
