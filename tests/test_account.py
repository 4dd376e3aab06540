"""The account against an oracle: whatever a room does to its members, it comes out, and says what really happened."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.account import FOREIGN_GRACE_NS, Account, Ledger, Message, Room
from loadtest.tag import Tag
from loadtest.tally import Tally

quick = settings(deadline=None, database=None, max_examples=80)

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
            message.saw(self.now_ns, self.now_ns)
        elif account.take(message, self.tally):
            message.saw(self.now_ns, self.now_ns)
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
    """Let things happen in a room, one by one; if `is_prompt`, nothing is heard of long after it was sent."""
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
            world.enter(0 if is_prompt and FAR in kinds else number)
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
            world.hear(one, number + 1, fate)
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


FATES = ["heard"] * 6 + ["dropped", "doubled"]
CALM = ["wait", *["say"] * 4, *["hear"] * 6, "enter", "leave", "cut"]
WILD = [*CALM, "overtake", "overtake", "close", "doubt"]


def happening(whats: list[str], fates: list[str]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Some dozens of events: what happens, to whom, a number, and how it ends; the simplest is nothing."""

    def read(digits: bytes) -> list[tuple[Any, ...]]:
        fours = [digits[start : start + 4] for start in range(0, len(digits) - 3, 4)]
        return [
            (whats[what % len(whats)], who % 6, number % 5, fates[fate % len(fates)])
            for what, who, number, fate in fours
            if what
        ]

    return st.binary(min_size=120, max_size=240).map(read)


events = happening(WILD, FATES)
faithful = happening(CALM, ["heard"])
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


# Cases worth a name


def room_of(*kinds: str) -> tuple[Room, list[Message]]:
    """A room with these senders, in a run that has begun, and its completed messages."""
    completed: list[Message] = []
    room = Room(0, [Ledger(kind == OURS, kind != FAR) for kind in kinds], completed)
    room.has_begun = True
    return room, completed


def send(room: Room, sent_ns: int, seq: int = 0) -> Message:
    """Send a message of the first sender, who is ours."""
    return room.send(tag_of(Said(0, seq, sent_ns)))


def hear(room: Room, account: Account, sent_ns: int, seq: int = 0, tally: Tally | None = None) -> Message:
    """Let a member get a message of the first sender."""
    message = room.hear(tag_of(Said(0, seq, sent_ns)), sent_ns + 1)
    account.received += 1
    message.had += 1
    if account.take(message, tally or Tally()):
        message.saw(sent_ns + 1, sent_ns + 1)
    room.settle(message)
    return message


def closed(account: Account) -> dict[str, int]:
    """Close an account by itself, and return what of it is not zero."""
    tally = Tally()
    account.close(tally)
    return counted(tally)


def counted(tally: Tally) -> dict[str, int]:
    """What is not zero of the account of deliveries."""
    names = ("had_to_get", "received", "missing", "doubled", "reordered")
    return {name: getattr(tally, name) for name in names if getattr(tally, name)}


def test_a_newcomer_does_not_lack_what_was_said_when_nobody_of_his_worker_was_in() -> None:
    """He is the first here to hear that sender, who has long been speaking elsewhere."""
    room, _ = room_of(NEAR)
    account = Account(room, 100)
    hear(room, account, sent_ns=150, seq=7)
    assert closed(account) == {"had_to_get": 1, "received": 1}


def test_one_who_was_in_before_the_run_began_lacks_even_a_first_message_that_nobody_got() -> None:
    """Nothing can have been said before he came."""
    room, _ = room_of(NEAR)
    room.has_begun = False
    account = Account(room, 100)
    room.has_begun = True
    hear(room, account, sent_ns=150, seq=1)
    assert closed(account) == {"had_to_get": 2, "received": 1, "missing": 1}


def test_a_newcomer_lacks_a_message_that_others_heard_only_after_he_heard_the_next() -> None:
    """What he was told first is not the beginning of what he has to get."""
    room, _ = room_of(NEAR)
    other, newcomer = Account(room, 10), Account(room, 100)
    hear(room, other, sent_ns=50, seq=0)
    hear(room, newcomer, sent_ns=102, seq=2)
    hear(room, other, sent_ns=101, seq=1)
    hear(room, other, sent_ns=102, seq=2)
    assert not newcomer.lacks_nothing()
    assert closed(newcomer) == {"had_to_get": 2, "received": 1, "missing": 1}


def test_nothing_is_expected_of_one_who_was_cut_off_before_a_message_was_heard_here() -> None:
    """Else a message that was under way then would never be complete."""
    room, completed = room_of(NEAR)
    other, cut = Account(room, 10), Account(room, 20)
    cut.cut_off(100)
    message = hear(room, other, sent_ns=50)
    assert (message.had_to, completed) == (1, [message])


def test_one_who_is_cut_off_while_he_leaves_goes_once() -> None:
    """The others are still expected to get what is said after that."""
    room, _ = room_of(OURS)
    stays, leaves = Account(room, 10), Account(room, 20)
    leaves.leave(30)
    after = send(room, 35)
    leaves.cut_off(40)
    assert (after.had_to, send(room, 50, seq=1).had_to) == (1, 1)
    hear(room, stays, sent_ns=50, seq=1)
    assert closed(stays) == {"had_to_get": 2, "received": 1, "missing": 1}


def test_what_nobody_has_to_get_is_not_waited_for() -> None:
    """A sender may speak while he is alone and not yet in."""
    room, completed = room_of(OURS)
    send(room, 50)
    assert (room.open, completed) == ({}, [])


def test_what_was_refused_is_no_reason_not_to_have_caught_up() -> None:
    """Neither as the last message nor as a hole before it."""
    room, _ = room_of(OURS)
    account = Account(room, 10)
    send(room, 20)
    assert not account.has_until(25)
    room.refuse(0, 0)
    assert account.has_until(25)
    send(room, 30, seq=1)
    hear(room, account, sent_ns=30, seq=1)
    assert account.has_until(35)


def test_a_sender_who_was_silent_since_a_member_entered_is_no_reason_not_to_have_caught_up() -> None:
    """Though the member has never heard him."""
    room, _ = room_of(NEAR)
    hear(room, Account(room, 10), sent_ns=50)
    assert Account(room, 100).has_until(200)


def test_what_a_lost_sender_had_under_way_is_expected_only_if_it_is_known_to_have_arrived() -> None:
    """By the server's word, or because somebody has it, even one who has not to get it."""
    room, _ = room_of(OURS)
    leaver = Account(room, 5)
    leaver.leave(8)
    account = Account(room, 10)
    for seq in range(4):
        send(room, 20 + seq, seq)
    room.ledgers[0].acked.add(0)
    hear(room, leaver, sent_ns=21, seq=1)
    assert room.doubt(0) == 2
    assert account.close(Tally()) == [(0, 0), (0, 1)]


def test_what_was_given_up_and_comes_all_the_same_counts_for_those_who_get_it() -> None:
    """And is expected again of those who were not told."""
    room, _ = room_of(OURS)
    first, second = Account(room, 10), Account(room, 11)
    send(room, 20)
    room.doubt(0)
    send(room, 30, seq=1)
    hear(room, second, sent_ns=30, seq=1)
    tally = Tally()
    hear(room, first, sent_ns=20, tally=tally)
    hear(room, first, sent_ns=30, seq=1, tally=tally)
    assert closed(first) == {"had_to_get": 2, "received": 2}
    assert closed(second) == {"had_to_get": 2, "received": 1, "missing": 1}


def test_what_is_refused_after_all_by_another_worker_s_word_still_counts_for_those_who_got_it() -> None:
    """Whoever did not get it lacks nothing, and both accounts come out."""
    room, _ = room_of(NEAR)
    room.has_begun = False
    got, got_not = Account(room, 10), Account(room, 11)
    hear(room, got, sent_ns=20)
    room.ledgers[0].refused.add(0)
    assert closed(got) == {"had_to_get": 1, "received": 1}
    assert closed(got_not) == {}


def test_a_message_knows_its_first_and_its_last_member() -> None:
    """In whatever order they are reported."""
    message = send(room_of(OURS)[0], 20)
    for first_ns, last_ns in ((30, 40), (25, 35), (31, 50)):
        message.saw(first_ns, last_ns)
    assert (message.first_ns, message.last_ns) == (25, 50)


def test_only_measured_messages_of_this_clock_are_timed_and_completed() -> None:
    """The others are checked all the same."""
    room, completed = room_of(OURS, NEAR, FAR)
    account = Account(room, 10)
    for sender in range(3):
        for seq, is_measured in enumerate((False, True)):
            tag = tag_of(Said(sender, seq, 2 * FOREIGN_GRACE_NS))._replace(is_measured=is_measured)
            message = room.send(tag) if sender == 0 else room.hear(tag, tag.sent_ns)
            assert message.is_timed is (is_measured and sender != 2)
            account.received += 1
            message.had += 1
            assert account.take(message, Tally())
            message.saw(tag.sent_ns, tag.sent_ns)
            room.settle(message)
    assert [(message.sender, message.seq) for message in completed] == [(0, 1), (1, 1)]
    assert closed(account) == {"had_to_get": 6, "received": 6}
    assert not room.open


def test_of_another_clock_a_message_was_sent_before_the_one_after_it_was_heard() -> None:
    """Though it was overtaken on its way to everybody here."""
    room, _ = room_of(FAR)
    account, other = Account(room, 0), Account(room, 0)
    room.hear(tag_of(Said(0, 1, 0)), 2 * FOREIGN_GRACE_NS)
    account.leave(2 * FOREIGN_GRACE_NS + 1)
    message = room.hear(tag_of(Said(0, 0, 0)), 2 * FOREIGN_GRACE_NS + 2)
    assert (message.sent_ns, message.had_to) == (2 * FOREIGN_GRACE_NS, 2)
    assert other.close(Tally()) == account.close(Tally()) == [(0, 0), (0, 1)]


def test_of_another_clock_a_message_is_expected_of_those_who_were_surely_in() -> None:
    """Those who came a second before it was heard, and have not gone yet; and if they are cut off, of one less."""
    room, _ = room_of(FAR)
    heard_ns = 5 * FOREIGN_GRACE_NS
    surely_ns = heard_ns - FOREIGN_GRACE_NS
    ins_ns = (0, 1, 2, 3, surely_ns, surely_ns + 1, heard_ns - 9)
    _, early, just_gone, just_in, surely, hardly, passing = (Account(room, in_ns) for in_ns in ins_ns)
    for account, out_ns in ((early, 2), (passing, heard_ns - 8), (just_gone, heard_ns - 1), (just_in, heard_ns)):
        account.leave(out_ns)
    message = room.hear(tag_of(Said(0, 0, 0)), heard_ns)
    assert message.had_to == 3
    hardly.cut_off(heard_ns + 1)
    assert message.had_to == 3
    surely.cut_off(heard_ns + 1)
    assert message.had_to == 2


def test_a_message_overtaken_by_the_first_that_a_newcomer_hears_is_reordered() -> None:
    """He has to get it, since it was sent after he came."""
    room, _ = room_of(NEAR)
    account, tally = Account(room, 10), Tally()
    for seq in (1, 0, 0):
        hear(room, account, sent_ns=20 + seq, seq=seq, tally=tally)
    assert account.close(tally) == []
    assert counted(tally) == {"had_to_get": 2, "received": 3, "doubled": 1, "reordered": 1}


def test_a_message_that_one_has_twice_and_another_not_is_not_complete() -> None:
    """Nor is it by the cut of one who had it; but it is by the cut of one who had it not, once."""
    room, completed = room_of(OURS)
    had, has_not, twice = (Account(room, in_ns) for in_ns in (10, 11, 12))
    message = send(room, 20)
    for account in (had, twice, twice):
        hear(room, account, sent_ns=20)
    had.cut_off(30)
    assert (completed, room.settled, len(room.open)) == ([], 0, 1)
    has_not.cut_off(30)
    hear(room, twice, sent_ns=20)
    room.settle(message)
    assert (completed, room.settled, len(room.open)) == ([message], 1, 0)


def test_a_message_that_nobody_got_is_no_complete_one() -> None:
    """When all who had to get it were cut off, it is not waited for any more."""
    room, completed = room_of(OURS)
    account = Account(room, 10)
    send(room, 20)
    account.cut_off(30)
    assert (room.open, completed) == ({}, [])


def test_a_message_that_only_those_got_who_had_been_away_has_no_last_member() -> None:
    """When they got it says nothing about fan-out."""
    room, completed = room_of(OURS)
    account = Account(room, 10)
    message = send(room, 20)
    account.received += 1
    message.had += 1
    assert account.take(message, Tally())
    room.settle(message)
    assert (room.open, room.settled, completed) == ({}, 1, [])


def test_of_what_is_missing_only_the_measured_never_came() -> None:
    """What nobody heard of is taken for measured; the warm-up is none of the percentiles' business."""
    room, _ = room_of(OURS, NEAR)
    room.has_begun = False
    account, tally = Account(room, 10), Tally()
    for seq, is_measured in enumerate((False, True, True)):
        room.send(tag_of(Said(0, seq, 20))._replace(is_measured=is_measured))
    room.ledgers[1].reach(1)
    account.close(tally)
    assert (tally.missing, tally.never) == (4, 3)


# Ledgers

known_ns = st.lists(st.integers(1, 9), max_size=12).map(sorted)


@given(known_ns, st.sets(st.integers(0, 11)), st.integers(0, 10))
@quick
def test_a_ledger_counts_what_nobody_heard_of_to_the_nearer_side(
    sent_ns: list[int], unheard: set[int], ns: int
) -> None:
    """Before the first that is known to be later, and after the last that is known to be earlier."""
    ledger = Ledger(is_ours=False, is_same_clock=True)
    ledger.reach(len(sent_ns))
    heard = {seq: at_ns for seq, at_ns in enumerate(sent_ns) if seq not in unheard}
    for seq, at_ns in heard.items():
        ledger.write(seq, at_ns)
    assert [ledger.knows(seq) for seq in range(len(sent_ns) + 1)] == [seq in heard for seq in range(len(sent_ns) + 1)]
    since = [seq for seq, at_ns in heard.items() if at_ns >= ns]
    assert ledger.first_since(ns) == min(since, default=len(sent_ns))
    assert ledger.count_until(ns) == max((seq for seq, at_ns in heard.items() if at_ns <= ns), default=-1) + 1
    for below in since:
        assert ledger.first_since(ns, below) == min(since)
