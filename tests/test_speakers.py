"""The speakers: everything that was planned is said, however late, and says when it was due."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from loadtest import speakers as module
from loadtest.account import Account, Ledger, Room
from loadtest.adapters import Adapter
from loadtest.frames import parse
from loadtest.member import Member
from loadtest.speakers import LATE_NS, Sender, Speakers
from loadtest.tag import MIN_TEXT_BYTES, Tag, find
from loadtest.tally import Tally

RUN = 0xBEEF
S = 1_000_000_000
NOW_NS = 1000 * S


class Hall:
    """Two rooms with two senders each, and what they have said; time stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS
        self.rooms = {number: Room(number, [Ledger(True, True) for _ in range(2)], []) for number in range(2)}
        for room in self.rooms.values():
            Account(room, 0)
        self.said: list[tuple[Member, Tag]] = []
        self.tally = Tally()
        self.speakers = Speakers(RUN, MIN_TEXT_BYTES, Adapter(), self.rooms, self.hear)

    def monotonic_ns(self) -> int:
        """What the clock shows."""
        return self.now_ns

    def hear(self, member: Member, frame: bytes) -> None:
        """Take what a member says."""
        (found,) = parse(unmasked(frame))[0]
        tag = find(found.payload, MIN_TEXT_BYTES, RUN)
        assert tag
        self.said.append((member, tag))

    def sender(
        self, number: int, offsets_ns: Iterator[int], start_ns: int, *, room: int = 0, warm_up_ns: int = 0
    ) -> Sender:
        """A sender who is in."""
        member = Member(number, self.rooms[room], nothing, nothing, socket=True)
        return Sender(member, number, offsets_ns, start_ns, warm_up_ns)

    def speak_up(self) -> list[tuple[int, int]]:
        """Return who says what now, by sender and seconds at which it was due."""
        self.said.clear()
        self.speakers.speak_up(self.tally, self.now_ns + S)
        return [(tag.sender, (tag.due_ns - NOW_NS) // S) for _, tag in self.said]


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    """The hall, with its own time."""
    hall = Hall()
    monkeypatch.setattr(module.time, "monotonic_ns", hall.monotonic_ns)
    return hall


def nothing(*_: Any) -> None:
    """Be told of nothing."""


def unmasked(frame: bytes) -> bytes:
    """A client's frame, as if a server had sent it; of less than 126 bytes."""
    assert frame[1] > 0x80
    key, body = frame[2:6], frame[6:]
    return bytes([frame[0], frame[1] & 0x7F]) + bytes(byte ^ key[place % 4] for place, byte in enumerate(body))


def seconds(*ats: float) -> Iterator[int]:
    """Offsets."""
    return iter([int(at * S) for at in ats])


# What is due


def test_each_message_is_said_when_it_is_due_and_not_before(hall: Hall) -> None:
    """The senders take turns as their plans say, and the next one is known."""
    hall.speakers.add(hall.sender(0, seconds(1, 3, 4), NOW_NS))
    hall.speakers.add(hall.sender(1, seconds(2), NOW_NS))
    heard = []
    for second in range(6):
        hall.now_ns = NOW_NS + second * S
        heard.append((hall.speak_up(), (hall.speakers.next_ns - NOW_NS) // S if hall.speakers.next_ns else None))
    assert heard == [([], 1), ([(0, 1)], 2), ([(1, 2)], 3), ([(0, 3)], 4), ([(0, 4)], None), ([], None)]
    assert hall.speakers.is_silent
    assert (hall.tally.planned, hall.tally.sent) == (4, 4)


def test_a_millisecond_before_it_is_due_it_is_not_said(hall: Hall) -> None:
    """An open loop is neither late nor early."""
    hall.speakers.add(hall.sender(0, seconds(1), NOW_NS))
    hall.now_ns += S - 1
    assert hall.speak_up() == []
    hall.now_ns += 1
    assert hall.speak_up() == [(0, 1)]


def test_all_that_is_overdue_is_said_each_with_its_own_planned_time(hall: Hall) -> None:
    """Nothing is skipped, and what is late says how late."""
    hall.speakers.add(hall.sender(0, seconds(0, 1, 2, 3), NOW_NS))
    hall.speakers.add(hall.sender(1, seconds(0.5, 2.5, 9), NOW_NS))
    hall.now_ns += 3 * S
    assert hall.speak_up() == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 2), (0, 3)]
    assert [tag.sent_ns for _, tag in hall.said] == [hall.now_ns] * 6
    assert [tag.seq for _, tag in hall.said] == [0, 0, 1, 2, 1, 3]
    assert (hall.tally.planned, hall.tally.sent) == (6, 3)
    assert (hall.tally.lateness.total, hall.tally.lateness.max_ns, hall.tally.lateness.min_ns) == (6, 3 * S, 0)


def test_what_is_said_is_written_down_as_sent_now(hall: Hall) -> None:
    """In the sender's own room, before it goes out."""
    hall.speakers.add(hall.sender(1, seconds(0), NOW_NS - 7, room=1))
    hall.speak_up()
    (message,) = hall.rooms[1].open.values()
    assert (message.sender, message.due_ns, message.sent_ns, message.had_to) == (1, NOW_NS - 7, NOW_NS, 1)
    assert not hall.rooms[0].open


def test_the_warm_up_is_said_and_not_measured(hall: Hall) -> None:
    """Neither as planned nor as sent nor as late."""
    hall.speakers.add(hall.sender(0, seconds(0, 1, 2, 3), NOW_NS, warm_up_ns=2 * S))
    hall.now_ns += 3 * S
    hall.speak_up()
    assert [tag.is_measured for _, tag in hall.said] == [False, False, True, True]
    assert (hall.tally.planned, hall.tally.lateness.total) == (2, 2)


def test_what_there_is_no_time_for_is_said_the_next_time(hall: Hall) -> None:
    """Each message takes a second here, and there are two."""
    hall.speakers.add(hall.sender(0, seconds(*range(4)), NOW_NS - 9 * S))
    tell = hall.speakers._send

    def take_a_second(member: Member, frame: bytes) -> None:
        hall.now_ns += S
        tell(member, frame)

    hall.speakers._send = take_a_second
    hall.speakers.speak_up(hall.tally, hall.now_ns + S)
    assert [tag.seq for _, tag in hall.said] == [0, 1]
    assert hall.speakers.next_ns == NOW_NS - 7 * S
    hall.speakers.speak_up(hall.tally, hall.now_ns + S)
    assert [tag.seq for _, tag in hall.said] == [0, 1, 2, 3]


# Who says it


def test_a_sender_who_was_thrown_out_says_it_when_he_is_back(hall: Hall) -> None:
    """Late, and with the time at which it was due; the others do not wait for him."""
    sender = hall.sender(0, seconds(1, 2), NOW_NS)
    sender.member.socket = None
    hall.speakers.add(sender)
    hall.speakers.add(hall.sender(1, seconds(1, 2), NOW_NS))
    hall.now_ns += 2 * S
    assert hall.speak_up() == [(1, 1), (1, 2)]
    assert hall.now_ns < hall.speakers.next_ns < hall.now_ns + S
    assert not hall.speakers.is_silent
    sender.member.socket = True
    hall.now_ns += S
    assert hall.speak_up() == [(0, 1), (0, 2)]


def test_whoever_follows_a_sender_goes_on_from_then_on(hall: Hall) -> None:
    """With the next number; what was due in between was nobody's to say."""
    sender = hall.sender(0, seconds(0, 1, 2, 3), NOW_NS)
    hall.speakers.add(sender)
    hall.speak_up()
    hall.speakers.remove(sender.member)
    assert (hall.speakers.is_silent, hall.speakers.next_ns) == (True, 0)
    hall.now_ns += int(2.5 * S)
    follower = Member(9, sender.member.room, nothing, nothing, socket=True)
    hall.speakers.replace(sender, follower)
    hall.now_ns += S
    assert hall.speak_up() == [(0, 3)]
    assert [(member.number, tag.seq) for member, tag in hall.said] == [(9, 1)]


def test_the_same_sender_on_a_new_socket_simply_goes_on(hall: Hall) -> None:
    """What was planned for him is planned already."""
    sender = hall.sender(0, seconds(0, 1, 2), NOW_NS)
    hall.speakers.add(sender)
    hall.now_ns += 2 * S
    hall.speakers.replace(sender, sender.member)
    assert hall.speak_up() == [(0, 0), (0, 1), (0, 2)]


def test_only_the_one_who_leaves_falls_silent(hall: Hall) -> None:
    """And the order of the others stays."""
    senders = [hall.sender(number, seconds(4 - number, 9), NOW_NS) for number in range(2)]
    for sender in senders:
        hall.speakers.add(sender)
    stays = Sender(Member(7, hall.rooms[1], nothing, nothing, socket=True), 0, seconds(1, 2), NOW_NS, 0)
    hall.speakers.add(stays)
    hall.speakers.remove(senders[0].member)
    hall.now_ns += 10 * S
    assert hall.speak_up() == [(0, 1), (0, 2), (1, 3), (1, 9)]


# The end


def test_what_is_overdue_at_the_end_was_planned_and_not_sent(hall: Hall) -> None:
    """All of it, but for what was still to be warm-up."""
    sender = hall.sender(0, (number * S // 2 for number in count()), NOW_NS, warm_up_ns=2 * S)
    sender.member.socket = None
    hall.speakers.add(sender)
    hall.now_ns += 5 * S
    hall.speak_up()
    hall.speakers.be_silent(hall.tally)
    assert (hall.tally.planned, hall.tally.sent) == (6, 0)
    assert hall.speakers.is_silent
    sender.member.socket = True
    assert hall.speak_up() == []


def test_what_is_not_due_yet_at_the_end_was_not_planned(hall: Hall) -> None:
    """A run that is stopped by hand does not lack what was still to come."""
    hall.speakers.add(hall.sender(0, seconds(1, 2), NOW_NS))
    hall.speakers.be_silent(hall.tally)
    assert hall.tally.planned == 0


# The closed loop


def test_a_closed_loop_keeps_so_many_under_way(hall: Hall) -> None:
    """It says as many more as everybody has got, the senders in turns, until its time is over."""
    senders = [hall.sender(number, iter(()), NOW_NS + S) for number in range(2)]
    for sender in senders:
        hall.speakers.keep_talking(sender, 3, NOW_NS + 3 * S)
    talk = talking(hall)
    assert talk(0, 0) == []
    assert (hall.speakers.next_ns, hall.speakers.is_silent) == (NOW_NS + S, False)
    assert talk(1, 0) == [0, 1, 0]
    assert (talk(1, 0), hall.speakers.next_ns) == ([], 0)
    assert talk(1.5, 2) == [1, 0]
    assert talk(2, 5) == [1, 0, 1]
    assert talk(3, 8) == []
    assert hall.speakers.is_silent
    assert [sender.seq for sender in senders] == [4, 4]


def test_a_closed_loop_that_is_stopped_says_nothing_more(hall: Hall) -> None:
    """Nor does an open one have anything of it."""
    hall.speakers.keep_talking(hall.sender(0, iter(()), NOW_NS), 2, NOW_NS + 9 * S)
    hall.speakers.be_silent(hall.tally)
    assert talking(hall)(1, 0) == []
    assert hall.speakers.is_silent


def talking(hall: Hall) -> Callable[[float, int], list[int]]:
    """What lets a closed loop go on at a time, when so many messages are settled; returns who speaks."""

    def talk(at_s: float, settled: int) -> list[int]:
        hall.now_ns = NOW_NS + int(at_s * S)
        hall.rooms[0].settled = settled
        hall.said.clear()
        hall.speakers.talk_on(hall.tally)
        return [tag.sender for _, tag in hall.said]

    return talk


def test_a_second_is_the_limit_of_being_in_time(hall: Hall) -> None:
    """To the nanosecond."""
    hall.speakers.add(hall.sender(0, iter([0, 1]), NOW_NS))
    hall.now_ns += LATE_NS + 1
    hall.speak_up()
    assert (hall.tally.planned, hall.tally.sent) == (2, 1)


def test_time_is_that_of_the_machine() -> None:
    """Without a hall of its own, a message says when it was really sent."""
    hall = Hall()
    before_ns = time.monotonic_ns()
    hall.speakers.add(hall.sender(0, iter([0]), before_ns))
    hall.speakers.speak_up(hall.tally, before_ns + 9 * S)
    assert before_ns <= hall.said[0][1].sent_ns <= time.monotonic_ns()
