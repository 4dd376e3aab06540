"""The account against an oracle: whatever a room does to its members, it comes out, and says what really happened."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.account import FOREIGN_GRACE_NS, UNKNOWN, Account, Ledger, Message, Room
from loadtest.tag import Tag
from loadtest.tally import Tally

quick = settings(deadline=None, database=None, max_examples=150)

RUN = 1
OURS, NEAR, FAR = "ours", "of another worker", "of another machine"


# A room with everything that can happen in it


class Said(NamedTuple):
    """A message, as the one who said it knows it."""

    sender: int
    seq: int
    sent_ns: int


class Found(NamedTuple):
    """What an account has to say in the end."""

    had_to_get: int
    received: int
    missing: list[tuple[int, int]]
    doubled: int
    reordered: int


@dataclass(eq=False)
class Somebody:
    """A member: his account, what the server still has for him, and what the oracle knows of him."""

    account: Account
    in_ns: int
    is_from_the_start: bool
    outbox: list[Said]
    heard: list[tuple[int, int]] = field(default_factory=list)
    last_heard_ns: int = 0
    out_ns: int | None = None
    is_cut: bool = False
    is_closed: bool = False


class World:
    """A room, one worker's members in it, and senders of this worker and of others.

    Only `room` and the accounts are under test. The oracle, `owed` and `found`, looks at the log of what happened and
    never at them.
    """

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.completed: list[Message] = []
        self.room = Room(0, [Ledger(kind == OURS, kind != FAR) for kind in kinds], self.completed)
        self.tally = Tally()
        self.expected: list[Found] = []
        self.now_ns = 10**12
        self.has_begun = False
        self.is_learned = False
        self.said: list[list[Said]] = [[] for _ in kinds]
        self.first_heard_ns: list[dict[int, int]] = [{} for _ in kinds]
        self.refused: set[tuple[int, int]] = set()  # by the server
        self.refused_here: set[tuple[int, int]] = set()  # as far as this worker knows
        self.members: list[Somebody] = []

    # What happens

    def pass_time(self, ns: int) -> None:
        """Let the clock go on."""
        self.now_ns += ns

    def begin(self) -> None:
        """From now on the senders may speak."""
        self.has_begun = self.room.has_begun = True

    def enter(self, history: int) -> None:
        """Let somebody in; the server also tells him the last few messages from before."""
        before = sorted((said for of_one in self.said for said in of_one), key=lambda said: said.sent_ns)
        outbox = [said for said in before if (said.sender, said.seq) not in self.refused][len(before) - history :]
        account = Account(self.room, self.now_ns)
        self.members.append(Somebody(account, self.now_ns, not self.has_begun, outbox))

    def say(self, sender: int, *, is_refused: bool) -> None:
        """Send a message of a sender to everybody who is in."""
        said = Said(sender, len(self.said[sender]), self.now_ns)
        self.said[sender].append(said)
        if self.kinds[sender] == OURS:
            self.room.send(tag_of(said))
        if is_refused:
            self.refused.add((sender, said.seq))
            if self.kinds[sender] == OURS:
                self.refused_here.add((sender, said.seq))
                self.room.refuse(sender, said.seq)
            return
        for one in self.inside:
            one.outbox.append(said)

    def doubt(self, sender: int) -> None:
        """Lose a sender's socket: what nobody has got of him may have got lost with it, or may still come."""
        if self.kinds[sender] == OURS:
            heard = self.first_heard_ns[sender]
            self.refused_here |= {(sender, said.seq) for said in self.said[sender] if said.seq not in heard}
            self.room.doubt(sender)

    def hear(self, one: Somebody, pick: int, fate: str) -> None:
        """Let a member get one of the messages under way to him: once, twice or never."""
        if not one.outbox:
            return
        said = one.outbox.pop(pick % len(one.outbox))
        for _ in range({"dropped": 0, "heard": 1, "doubled": 2}[fate]):
            self.first_heard_ns[said.sender].setdefault(said.seq, self.now_ns)
            self.refused_here.discard((said.sender, said.seq))
            one.heard.append((said.sender, said.seq))
            one.last_heard_ns = self.now_ns
            self.credit(one, self.room.hear(tag_of(said), self.now_ns))

    def credit(self, one: Somebody, message: Message) -> None:
        """Do what the reader does with a message."""
        account = one.account
        account.received += 1
        message.had += 1
        if account.last[message.sender] + 1 == message.seq and one.out_ns is None:
            account.last[message.sender] = message.seq
        else:
            account.take(message, self.tally)
        self.room.settle(message)

    def leave(self, one: Somebody) -> None:
        """Let a member say goodbye; he stays for what is under way."""
        if one.out_ns is None:
            one.out_ns = self.now_ns
            one.account.leave(self.now_ns)

    def cut_off(self, one: Somebody, ago_ns: int) -> None:
        """Find out that a member was cut off some time ago."""
        out_ns = max(one.in_ns, one.last_heard_ns, self.now_ns - ago_ns)
        if one.out_ns is None or out_ns >= one.out_ns:
            one.out_ns = one.out_ns or out_ns
            one.is_cut = True
            one.outbox.clear()
            one.account.cut_off(out_ns)
            self.close(one)

    def close(self, one: Somebody) -> None:
        """Close an account, and let the oracle say what must come of it."""
        one.is_closed = True
        one.outbox.clear()
        self.expected.append(self.found(one))
        tally = Tally()
        missing = one.account.close(tally)
        expected = self.expected[-1]
        assert missing == expected.missing
        assert (tally.had_to_get, tally.received) == (expected.had_to_get, expected.received)
        assert tally.missing == len(missing)
        self.tally.merge(tally)

    def learn(self) -> None:
        """Learn from the other workers how much they sent, and what the server refused of it."""
        self.is_learned = True
        self.refused_here |= self.refused
        for sender, ledger in enumerate(self.room.ledgers):
            ledger.reach(len(self.said[sender]))
            ledger.refused.update(seq for number, seq in self.refused if number == sender)

    @property
    def inside(self) -> list[Somebody]:
        """Those whose account is open."""
        return [one for one in self.members if not one.is_closed]

    # What must come of it

    def found(self, one: Somebody, until_ns: int | None = None) -> Found:
        """Return what really happened to a member, until he left or until a time."""
        had_to_get = received = doubled = reordered = 0
        missing = []
        for sender in range(len(self.kinds)):
            owed = self.owed(one, sender, one.out_ns if until_ns is None else until_ns)
            heard = [seq for number, seq in one.heard if number == sender and seq in owed]
            if one.is_cut:  # what was still under way to him is nobody's fault
                owed = [seq for seq in owed if heard and seq <= max(heard)]
            had_to_get += len(owed)
            received += len(heard)
            missing += [(sender, seq) for seq in owed if seq not in heard]
            doubled += len(heard) - len(set(heard))
            for place, seq in enumerate(heard):
                reordered += seq not in heard[:place] and any(earlier > seq for earlier in heard[:place])
        return Found(had_to_get, received, missing, doubled, reordered)

    def owed(self, one: Somebody, sender: int, until_ns: int | None) -> list[int]:
        """Return what a member has to get of a sender, as far as this worker can know it.

        What nobody here has heard of was sent before him or after him, unless what he has to get lies on either side.
        """
        known_ns = self.known_ns(sender)
        since_ns = one.in_ns + (FOREIGN_GRACE_NS if self.kinds[sender] == FAR else 0)
        since = [seq for seq, sent_ns in known_ns.items() if sent_ns >= since_ns]
        until = [seq for seq, sent_ns in known_ns.items() if until_ns is None or sent_ns <= until_ns]
        first = 0 if one.is_from_the_start else min(since, default=len(self.said[sender]))
        last = max(until, default=-1)
        if until_ns is None and self.is_learned:
            last = len(self.said[sender]) - 1
        spared = self.refused_here.difference(one.heard)
        return [seq for seq in range(first, last + 1) if (sender, seq) not in spared]

    def known_ns(self, sender: int) -> dict[int, int]:
        """Return when this worker takes the messages it has heard of for sent.

        On another clock a message was sent at the latest when it, or one after it, was first heard here.
        """
        if self.kinds[sender] == OURS:
            return {said.seq: said.sent_ns for said in self.said[sender]}
        heard_ns = self.first_heard_ns[sender]
        if self.kinds[sender] == NEAR:
            return {seq: self.said[sender][seq].sent_ns for seq in heard_ns}
        return {seq: min(ns for later, ns in heard_ns.items() if later >= seq) for seq in heard_ns}


def tag_of(said: Said) -> Tag:
    """Return what a message says of itself."""
    return Tag(RUN, 0, said.sender, said.seq, said.sent_ns, said.sent_ns, is_measured=True)


def play(kinds: list[str], events: list[tuple[Any, ...]], at_the_start: int, *, is_prompt: bool = False) -> World:
    """Let things happen in a room, one by one; if `is_prompt`, nothing is under way for long."""
    world = World(kinds)
    for _ in range(at_the_start):
        world.enter(0)
        world.pass_time(1)
    world.begin()
    is_refused_elsewhere = False
    for what, who, number, fate in events:
        world.pass_time(1)
        inside = world.inside
        one = inside[who % len(inside)] if inside else None
        sender = number % len(kinds)
        if what == "enter":
            world.enter(number)
        elif what == "say":
            world.say(sender, is_refused=fate == "dropped")
            is_refused_elsewhere |= fate == "dropped" and kinds[sender] != OURS
        elif what == "doubt":
            world.doubt(sender)
        elif what == "wait":
            if is_prompt:
                deliver_all(world)
            world.pass_time(number * FOREIGN_GRACE_NS // 3)
        elif one is None:
            continue
        elif what == "hear":
            world.hear(one, 0, fate)
        elif what == "overtake":
            world.hear(one, number, fate)
        elif what == "leave":
            world.leave(one)
        # Of what another worker's sender was refused, a worker learns only at the end.
        elif what == "cut" and not is_refused_elsewhere:
            world.cut_off(one, number)
        elif what == "close" and not is_refused_elsewhere and one.out_ns is not None:
            world.close(one)
    return world


def deliver_all(world: World) -> None:
    """Let everybody who is in get what is under way to him."""
    for one in world.inside:
        while one.outbox:
            world.pass_time(1)
            world.hear(one, 0, "heard")


def end(world: World) -> None:
    """Learn what there is to learn and close every account."""
    world.learn()
    for one in world.inside:
        world.close(one)


fates = st.sampled_from(["heard"] * 6 + ["dropped", "doubled"])
whats = st.sampled_from(
    ["say"] * 5 + ["hear"] * 8 + ["overtake"] * 2 + ["enter", "leave", "cut", "close", "wait", "doubt"]
)
events = st.lists(st.tuples(whats, st.integers(0, 5), st.integers(0, 4), fates), max_size=50)
faithful = st.lists(
    st.tuples(
        st.sampled_from(["say"] * 4 + ["hear"] * 8 + ["enter", "leave", "cut", "wait"]),
        st.integers(0, 5),
        st.integers(0, 4),
        st.just("heard"),
    ),
    max_size=50,
)
crowds = st.lists(st.sampled_from([OURS, NEAR, FAR]), min_size=1, max_size=4)


@given(crowds, events, st.integers(0, 3))
@quick
def test_every_account_says_what_really_happened(
    kinds: list[str], events: list[tuple[Any, ...]], at_the_start: int
) -> None:
    """Members enter, leave and are cut off; messages are refused, dropped, doubled and overtaken."""
    world = play(kinds, events, at_the_start)
    end(world)
    assert world.tally.doubled == sum(one.doubled for one in world.expected)
    assert world.tally.reordered == sum(one.reordered for one in world.expected)
    assert world.tally.comes_out()


@given(crowds, events, st.integers(0, 3))
@quick
def test_lacking_nothing_is_having_all_that_is_known(
    kinds: list[str], events: list[tuple[Any, ...]], at_the_start: int
) -> None:
    """One who leaves may go when he lacks nothing."""
    world = play(kinds, events, at_the_start)
    for one in world.inside:
        assert one.account.lacks_nothing() is (not world.found(one).missing)


@given(crowds, events, st.integers(0, 3), st.integers(0, 60))
@quick
def test_having_all_until_a_time_is_lacking_nothing_that_was_sent_before(
    kinds: list[str], events: list[tuple[Any, ...]], at_the_start: int, since_ns: int
) -> None:
    """One who came back has caught up when he has what was sent until then."""
    world = play(kinds, events, at_the_start)
    until_ns = world.now_ns - since_ns
    for one in world.inside:
        if one.out_ns is None:
            assert one.account.has_until(until_ns) is (not world.found(one, until_ns).missing)


@given(crowds, faithful, st.integers(0, 3))
@quick
def test_of_a_faithful_server_nothing_is_missing_and_every_message_is_completed_once(
    kinds: list[str], events: list[tuple[Any, ...]], at_the_start: int
) -> None:
    """Whoever comes, leaves or is cut off while messages are under way."""
    world = play(kinds, events, at_the_start, is_prompt=True)
    deliver_all(world)
    had = {
        (sender, said.seq): sum(
            said.seq in world.owed(one, sender, one.out_ns) for one in world.members if not one.is_cut
        )
        for sender, of_one in enumerate(world.said)
        for said in of_one
        if kinds[sender] != FAR
    }
    assert not world.room.open
    completed = [(message.sender, message.seq) for message in world.completed]
    assert len(completed) == len(set(completed))
    assert set(completed) >= {key for key, count in had.items() if count}
    end(world)
    assert world.tally.missing == world.tally.doubled == world.tally.reordered == 0
    assert world.tally.comes_out()
