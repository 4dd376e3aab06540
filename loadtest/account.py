"""The account: what each member had to get, what he got, and what became of each message.

Owns the rooms as the load generator sees them: who is in since when, what each sender has sent, and per member and
sender how far he has heard. It knows no socket and no frame; times are monotonic ns that it is given.
Invariant: a member has to get a message if it was sent while he was in: `in_ns <= sent_ns <= out_ns`. What he gets
besides (history, or what overtook his entry) is counted for nothing; everything else must come out as
had_to_get = received + missing - doubled.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from loadtest.tag import Tag
from loadtest.tally import Tally

MAX_SENDERS: Final = 64  # a room; a member remembers one number for each
UNKNOWN: Final = -2  # how far a member has heard a sender of another worker who spoke before he entered
FOREVER_NS: Final = 1 << 62
FOREIGN_GRACE_NS: Final = 1_000_000_000  # a sender on another clock: sent at the latest when first heard here


class Message:
    """One message: when it was planned and sent, and how many members have it."""

    __slots__ = (
        "due_ns", "first_ns", "had", "had_to", "is_heard", "is_measured", "is_settled", "is_timed", "is_witnessed",
        "last_ns", "room", "sender", "sent_ns", "seq",
    )  # fmt: skip

    def __init__(self, room: "Room", tag: Tag, is_same_clock: bool) -> None:
        self.room = room
        self.sender = tag.sender
        self.seq = tag.seq
        self.due_ns = tag.due_ns
        self.sent_ns = tag.sent_ns
        self.is_measured = tag.is_measured
        self.is_timed = tag.is_measured and is_same_clock and room.is_timed
        self.is_witnessed = tag.is_measured and is_same_clock  # when its last member has it is to be known
        self.had = 0
        self.had_to = FOREVER_NS
        self.first_ns = FOREVER_NS
        self.last_ns = 0
        self.is_settled = False
        self.is_heard = False  # by anybody here, be it one who has not to get it

    def saw(self, first_ns: int, last_ns: int) -> None:
        """Note when some members got it."""
        if first_ns < self.first_ns:
            self.first_ns = first_ns
        if last_ns > self.last_ns:
            self.last_ns = last_ns


class Ledger:
    """What one sender has sent, by seq; 0 where this worker does not know when."""

    __slots__ = ("acked", "is_ours", "is_same_clock", "refused", "sent_ns")

    def __init__(self, is_ours: bool, is_same_clock: bool) -> None:
        self.is_ours = is_ours
        self.is_same_clock = is_same_clock
        self.sent_ns = array("q")
        self.acked: set[int] = set()  # the server said that it took them
        self.refused: set[int] = set()  # the server said that it did not, or never got them: nobody has to get them

    def __len__(self) -> int:
        return len(self.sent_ns)

    @property
    def grace_ns(self) -> int:
        """How much later than it was sent a message may be known to have been sent."""
        return 0 if self.is_same_clock else FOREIGN_GRACE_NS

    def write(self, seq: int, sent_ns: int) -> None:
        """Remember when a message was sent."""
        self.reach(seq + 1)
        self.sent_ns[seq] = sent_ns

    def knows(self, seq: int) -> bool:
        """Return whether the message has been written down."""
        return seq < len(self.sent_ns) and self.sent_ns[seq] != 0

    def reach(self, count: int) -> None:
        """Learn that so many messages were sent, whoever heard of them."""
        self.sent_ns.extend([0] * (count - len(self.sent_ns)))

    def first_since(self, ns: int, below: int | None = None) -> int:
        """Return the first seq that was sent at or after a time; what nobody heard of counts as sent before.

        Whoever knows that one was sent since then gives it as `below`.
        """
        sent_ns = self.sent_ns
        seq = len(sent_ns) if below is None else below
        while seq and (sent_ns[seq - 1] == 0 or sent_ns[seq - 1] >= ns):
            seq -= 1
        while seq < len(sent_ns) and sent_ns[seq] == 0:
            seq += 1
        return seq

    def count_until(self, ns: int) -> int:
        """Return how many messages were sent up to a time."""
        seq = len(self.sent_ns)
        while seq and (self.sent_ns[seq - 1] == 0 or self.sent_ns[seq - 1] > ns):
            seq -= 1
        return seq


class Room:
    """One room: its senders' ledgers, the messages that not everybody has, and who was in when."""

    def __init__(self, number: int, ledgers: list[Ledger], completed: list[Message], *, is_timed: bool = True) -> None:
        self.number = number
        self.ledgers = ledgers
        self.is_timed = is_timed  # whether each delivery is, or only when everybody has a message
        self.settled = 0  # messages that everybody has
        self.open: dict[tuple[int, int], Message] = {}
        self.completed = completed  # messages that everybody has, for whoever times them
        self.has_begun = False  # whether anybody may have spoken, in any worker
        self._ins_ns: list[int] = []
        self._stays_ns: list[tuple[int, int]] = []  # of those who are out again: out, in

    def had_to(self, sent_ns: int, grace_ns: int = 0) -> int:
        """Return how many of this worker's members have to get what was sent then."""
        since_ns = sent_ns - grace_ns
        stays_ns = self._stays_ns
        gone = bisect_left(stays_ns, (sent_ns,))
        too_short = sum(in_ns > since_ns for _, in_ns in stays_ns[bisect_left(stays_ns, (since_ns,)) : gone])
        return bisect_right(self._ins_ns, since_ns) - (gone - too_short)

    def came(self, in_ns: int) -> None:
        """Note that a member is in."""
        self._ins_ns.append(in_ns)

    def went(self, in_ns: int, out_ns: int) -> None:
        """Note that a member is out."""
        self._stays_ns.append((out_ns, in_ns))

    def forget(self, in_ns: int, out_ns: int) -> None:
        """Expect nothing of a member any more, not even of what is first heard of later."""
        del self._ins_ns[bisect_left(self._ins_ns, in_ns)]
        if out_ns != FOREVER_NS:
            self._stays_ns.remove((out_ns, in_ns))

    def send(self, tag: Tag) -> Message:
        """Write down a message that is about to be sent from here."""
        ledger = self.ledgers[tag.sender]
        ledger.write(tag.seq, tag.sent_ns)
        return self._open(tag, ledger)

    def hear(self, tag: Tag, now_ns: int) -> Message:
        """Return the message a tag belongs to; the first to hear of another worker's message writes it down."""
        message = self.open.get((tag.sender, tag.seq))
        if message:
            message.is_heard = True
            return message
        ledger = self.ledgers[tag.sender]
        ledger.refused.discard(tag.seq)
        if ledger.knows(tag.seq):  # everybody has it, or it was sent before the first came
            message = Message(self, tag._replace(sent_ns=ledger.sent_ns[tag.seq]), ledger.is_same_clock)
            message.is_settled = True
            return message
        # On another clock it was sent at the latest when it, or one after it, was first heard here.
        sent_ns = tag.sent_ns if ledger.is_same_clock else min([now_ns, *filter(None, ledger.sent_ns[tag.seq + 1 :])])
        ledger.write(tag.seq, sent_ns)
        return self._open(tag._replace(sent_ns=sent_ns), ledger)

    def is_measured(self, sender: int, seq: int) -> bool:
        """Return whether a message that somebody lacks was to be measured; of one that nobody heard, it is supposed."""
        message = self.open.get((sender, seq))
        return message is None or message.is_measured

    def refuse(self, sender: int, seq: int) -> None:
        """Expect a message no longer, since the server has said that it refuses it."""
        self.ledgers[sender].refused.add(seq)
        self.open.pop((sender, seq), None)

    def doubt(self, sender: int) -> int:
        """Expect no more what was under way when a sender was cut off; return how many messages that were.

        What the server has acknowledged, or anybody has got, it must still deliver to all.
        """
        acked = self.ledgers[sender].acked
        lost = [one for one in self.open.values() if one.sender == sender and not one.is_heard and one.seq not in acked]
        for message in lost:
            self.refuse(sender, message.seq)
        return len(lost)

    def settle(self, message: Message) -> None:
        """Close a message that everybody has."""
        if message.is_settled or message.had < message.had_to:
            return
        message.is_settled = True
        self.open.pop((message.sender, message.seq), None)
        self.settled += 1
        if message.is_witnessed and message.last_ns:  # else only those got it who were away when it was sent
            self.completed.append(message)

    def _open(self, tag: Tag, ledger: Ledger) -> Message:
        message = Message(self, tag, ledger.is_same_clock)
        message.had_to = self.had_to(tag.sent_ns, ledger.grace_ns)
        message.is_settled = not message.had_to
        if message.had_to:
            self.open[tag.sender, tag.seq] = message
        return message


class Account:
    """One member's account: how far he has heard each sender, and what is missing in between.

    `last` holds the seq heard last of each sender, and is read and written by the reader's fast path.
    """

    __slots__ = ("base", "holes", "in_ns", "is_cut", "last", "out_ns", "received", "room")

    def __init__(self, room: Room, in_ns: int) -> None:
        self.room = room
        self.in_ns = in_ns
        self.out_ns = FOREVER_NS
        self.is_cut = False
        self.received = 0  # doubles included, and nothing that he did not have to get
        self.holes: set[tuple[int, int]] = set()
        self.base = [self._first_base(ledger) for ledger in room.ledgers]
        self.last = [base - 1 if base != UNKNOWN else UNKNOWN for base in self.base]
        room.came(in_ns)

    def take(self, message: Message, tally: Tally) -> bool:
        """Enter one delivery that is not simply the next one; return whether it is one to be timed.

        The caller has already counted it as received, here and for the message.
        """
        sender, seq = message.sender, message.seq
        if message.sent_ns > self.out_ns or not self._has_to_get(message):
            self.received -= 1
            message.had -= 1
            return False
        last = self.last[sender]
        if seq > last:
            self.holes.update((sender, gone) for gone in range(last + 1, seq))
            self.last[sender] = seq
        elif (sender, seq) in self.holes:
            self.holes.remove((sender, seq))
            tally.reordered += 1
        else:
            tally.doubled += 1
            message.had -= 1
            return False
        return True

    def leave(self, out_ns: int) -> None:
        """Owe him nothing that is sent from this time on."""
        self.out_ns = out_ns
        self.room.went(self.in_ns, out_ns)

    def cut_off(self, out_ns: int) -> None:
        """End the time of one who was cut off and is not told what he missed: what was under way is nobody's fault."""
        room = self.room
        for message in list(room.open.values()):
            since_ns = self.in_ns + room.ledgers[message.sender].grace_ns
            if message.seq > self.last[message.sender] and since_ns <= message.sent_ns <= self.out_ns:
                message.had_to -= 1
                room.settle(message)
        room.forget(self.in_ns, self.out_ns)
        self.out_ns = min(self.out_ns, out_ns)
        self.is_cut = True

    def has_until(self, ns: int) -> bool:
        """Return whether he has all that was sent until then."""
        ledgers, bounds = self.room.ledgers, list(self._bounds(ns))
        return all(seq >= bounds[sender][3] or seq in ledgers[sender].refused for sender, seq in self.holes) and all(
            all(seq in ledgers[sender].refused for seq in range(last + 1, bound)) for sender, _, last, bound in bounds
        )

    def lacks_nothing(self) -> bool:
        """Return whether he has all that he had to get so far, as far as is known here."""
        return not self._lacking()

    def close(self, tally: Tally) -> list[tuple[int, int]]:
        """Settle the account; return what is missing as (sender, seq)."""
        missing = self._lacking()
        for sender, base, last, bound in self._bounds(self.out_ns):
            refused = self.room.ledgers[sender].refused
            spared = sum(base <= seq < bound and (seq > last or (sender, seq) in self.holes) for seq in refused)
            tally.had_to_get += bound - base - spared  # what was refused and came all the same is no spared one
        tally.received += self.received
        tally.missing += len(missing)
        tally.never += sum(self.room.is_measured(sender, seq) for sender, seq in missing)
        return missing

    def _lacking(self) -> list[tuple[int, int]]:
        bounds = list(self._bounds(self.out_ns))
        lacking = set(self.holes)
        for sender, _, last, bound in bounds:
            lacking.update((sender, seq) for seq in range(last + 1, bound))
        return [(sender, seq) for sender, seq in sorted(lacking) if seq not in self.room.ledgers[sender].refused]

    def _first_base(self, ledger: Ledger) -> int:
        if ledger.is_ours:
            return len(ledger)
        return UNKNOWN if self.room.has_begun or len(ledger) else 0

    def _has_to_get(self, message: Message) -> bool:
        sender = message.sender
        ledger = self.room.ledgers[sender]
        since_ns = self.in_ns + ledger.grace_ns
        if self.base[sender] == UNKNOWN:
            if message.sent_ns < since_ns:
                return False
            self.base[sender] = message.seq
            self.last[sender] = message.seq - 1
        elif message.seq < self.base[sender] and message.sent_ns >= since_ns:
            self._look_back(sender)
        return message.seq >= self.base[sender]

    def _look_back(self, sender: int) -> None:
        """Learn that he has to get more of another worker's sender: nobody had heard of it when he first heard him."""
        ledger, base = self.room.ledgers[sender], self.base[sender]
        if base > 0 and not ledger.is_ours:
            self.base[sender] = ledger.first_since(self.in_ns + ledger.grace_ns, base)
            self.holes.update((sender, seq) for seq in range(self.base[sender], base))

    def _bounds(self, until_ns: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield per sender the first seq he has to get, the last he has, and the first he has not to get any more."""
        for sender, ledger in enumerate(self.room.ledgers):
            self._look_back(sender)
            base, last = self.base[sender], self.last[sender]
            if base == UNKNOWN:
                base = ledger.first_since(self.in_ns + ledger.grace_ns)
                last = base - 1
            bound = len(ledger) if until_ns == FOREVER_NS else ledger.count_until(until_ns)
            yield sender, base, last, last + 1 if self.is_cut else max(bound, base)
