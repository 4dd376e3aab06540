"""The crowd: the members of this process, from their entry to their closed account.

Owns the seats, each member's life (enter, stay, be thrown out and come back, leave), and what this process has to tell
of it: a tally each second, the messages that everybody got, and at the end the settled account. It knows no locust;
when to start, stop and count is the conductor's word.
Invariant: every seat taken is an account closed exactly once, whatever happened to its member in between.
"""

import heapq
import random
import time
from collections import Counter
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from loadtest.account import Account, Ledger, Message, Room
from loadtest.adapters import Adapter, Notice
from loadtest.handshake import Door, Refused
from loadtest.member import Member
from loadtest.plan import Plan, Seat
from loadtest.reader import CAUGHT_UP, Reader
from loadtest.speakers import Sender
from loadtest.tally import Tally

HANDSHAKES_AT_ONCE: Final = 16  # each takes a millisecond of Python, in which nothing is read or sent
ENTRY_S: Final = 20.0  # from the handshake until the server says that the member is in
LINGER_S: Final = 1.0  # a member who leaves stays this much longer for what was sent while he was in
RETRY_S: Final = 1.0  # on average, between two attempts to come in
COMING_NS: Final = 5_000_000_000  # who is not in so soon after he came, in a run that has begun, has not failed
LACKS_SHOWN: Final = 5


class Guest(Member):
    """A member, and what his own greenlet waits for."""

    __slots__ = (
        "away_since_ns",
        "came_ns",
        "cookie",
        "ended",
        "entered",
        "is_leaving",
        "knocked_ns",
        "seat",
        "was_in",
        "was_thrown_out",
    )

    def __init__(self, seat: Seat, room: Room, crowd: "Crowd") -> None:
        super().__init__(seat.number, room, crowd.on_notice, crowd.on_end)
        self.seat = seat
        self.cookie = ""
        self.entered = Event()
        self.ended = Event()
        self.is_leaving = False
        self.away_since_ns = 0
        self.knocked_ns = 0
        self.came_ns = time.monotonic_ns()
        self.was_in = False
        self.was_thrown_out = False


class Crowd:
    """The members whom this process plays, in one run."""

    def __init__(self, plan: Plan, run: int, base: str, adapter: Adapter, worker: int, domains: list[str]) -> None:
        self.plan = plan
        self.completed: list[Message] = []
        self.failures: Counter[str] = Counter()  # why members could not come in
        self.drops: Counter[str] = Counter()  # why members were thrown out
        self.lacks: list[str] = []  # the first few missing deliveries, in words
        self.domains = domains
        self._worker = worker
        self._rooms = {number: self._room(number) for number in range(plan.rooms)}
        self._reader = Reader(run, plan.text_bytes, adapter, self._rooms)
        self._door = Door(base, adapter, plan.is_insecure)
        self._adapter = adapter
        self._doorway = BoundedSemaphore(HANDSHAKES_AT_ONCE)
        self._free: list[int] = []
        self._seats = 0
        self._guests: dict[int, Guest] = {}
        self._stuck: list[Any] = []
        self._speakers: dict[Seat, Sender] = {}
        self._start_ns = 0
        self._is_over = False
        self._chance = random.Random(plan.seed)
        self._reader.start()

    def _room(self, number: int) -> Room:
        ours = self.domains[self._worker]
        workers = len(self.domains)
        owners = [self.plan.worker_of(number, sender, workers) for sender in range(self.plan.senders)]
        ledgers = [Ledger(owner == self._worker, self.domains[owner] == ours) for owner in owners]
        return Room(number, ledgers, self.completed, is_timed=not self.plan.in_flight)

    # What the conductor asks

    @property
    def members_in(self) -> int:
        """How many are in."""
        return sum(guest.entered.is_set() for guest in self._guests.values()) + len(self._stuck)

    @property
    def outside(self) -> int:
        """How many have a seat and are not in."""
        return len(self._guests) - sum(guest.entered.is_set() for guest in self._guests.values())

    @property
    def outstanding(self) -> int:
        """How many deliveries are overdue by more than a second."""
        before_ns = time.monotonic_ns() - 1_000_000_000
        overdue = [
            message for room in self._rooms.values() for message in room.open.values() if message.sent_ns < before_ns
        ]
        return sum(max(0, message.had_to - message.had) for message in overdue)

    def take_tally(self) -> Tally:
        """Return what was counted since the last time."""
        tally, self._reader.tally = self._reader.tally, Tally()
        return tally

    def take_completed(self) -> list[Message]:
        """Return the messages that everybody has had since the last time."""
        completed = self.completed[:]
        self.completed.clear()
        return completed

    def start(self) -> None:
        """Let the senders speak, and whatever else the scenario plans happen."""
        self._start_ns = time.monotonic_ns() + 100_000_000
        for guest in list(self._guests.values()):
            self._let_speak(guest)
        self._reader.wake()
        if self.plan.churn:
            gevent.spawn(self._churn)
        if self.plan.scenario == "storm":
            gevent.spawn_later(self.plan.warmup_s + self.plan.duration_s / 3, self._storm)

    @property
    def fault(self) -> str:
        """What went wrong in the reader, if it is not running any more."""
        return self._reader.fault

    @property
    def is_silent(self) -> bool:
        """Whether everything planned has been sent."""
        return self._reader.speakers.is_silent

    @property
    def phase(self) -> str:
        """What is going on."""
        if not self._start_ns:
            return "ramp"
        seconds = (time.monotonic_ns() - self._start_ns) / 1e9
        if seconds <= self.plan.warmup_s:
            return "warm-up"
        return "drain" if self.is_silent else "measured"

    def be_silent(self) -> dict[str, Any]:
        """Send nothing more; return how much each sender of ours has sent, and what of it was refused."""
        self._reader.speakers.be_silent(self._reader.tally)
        return {
            f"{room.number}/{sender}": [len(ledger), sorted(ledger.refused)]
            for room in self._rooms.values()
            for sender, ledger in enumerate(room.ledgers)
            if ledger.is_ours
        }

    def learn(self, totals: dict[str, Any]) -> None:
        """Learn how much the senders of other workers have sent."""
        for name, (count, refused) in totals.items():
            room, _, sender = name.partition("/")
            ledger = self._rooms[int(room)].ledgers[int(sender)]
            ledger.reach(count)
            ledger.refused.update(refused)

    def drain(self, seconds: float) -> None:
        """Wait until everybody has everything, but not longer than this."""
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s and not self._is_complete():
            gevent.sleep(0.02)

    def _is_complete(self) -> bool:
        rooms = self._rooms.values()
        return not any(room.open for room in rooms) and not any(
            0 in ledger.sent_ns for room in rooms for ledger in room.ledgers
        )

    def finish(self) -> Tally:
        """Close every account and every socket; return what was counted since the last tally."""
        self._is_over = True
        tally = self.take_tally()
        for guest in list(self._guests.values()):
            self._close(guest, tally)
        tally.cut_off = sum(_is_cut(one) for one in self._stuck)
        tally.stuck = len(self._stuck)
        self._reader.close()
        return tally

    @property
    def incomplete(self) -> list[tuple[int, int, int]]:
        """The measured messages that not everybody here has got: room, sender, seq."""
        return [
            (room.number, message.sender, message.seq)
            for room in self._rooms.values()
            for message in room.open.values()
            if message.is_witnessed and message.had_to
        ]

    # A member's life, in his own greenlet

    def live(self) -> None:
        """Take a seat and live in the room until the greenlet is killed or the run is over."""
        number = heapq.heappop(self._free) if self._free else self._seats
        self._seats = max(self._seats, number + 1)
        seat = self.plan.seat(number, self._worker, len(self.domains))
        try:
            if seat.is_stuck:
                self._be_stuck(seat)
            while not self._is_over:
                self._stay(seat)
        finally:
            heapq.heappush(self._free, number)

    def _stay(self, seat: Seat) -> None:
        """Be one person, from his entry until he leaves for good."""
        guest = Guest(seat, self._rooms[seat.room], self)
        self._guests[seat.number] = guest
        try:
            while not self._is_over and not guest.is_leaving:
                if self._knock(guest):
                    self._stay_in(guest)
                else:
                    gevent.sleep(self._chance.uniform(0.5, 1.5) * RETRY_S)
        finally:
            if not self._is_over:
                self._leave(guest)

    def _knock(self, guest: Guest) -> bool:
        """Shake hands; return whether the server opened."""
        guest.ended.clear()
        room = self.plan.room_name(guest.room.number)
        try:
            with self._doorway:
                guest.knocked_ns = time.monotonic_ns()
                sock, guest.cookie = self._door.enter(room, guest.standing, guest.cookie)
        except Refused as refusal:
            self.failures[str(refusal)] += 1
            return False
        if self._is_over:  # meanwhile; nobody reads any more
            sock.close()
            return False
        self._reader.tally.connect.record(time.monotonic_ns() - guest.knocked_ns)
        guest.is_careful = True
        self._reader.add(guest, sock)
        return True

    def _stay_in(self, guest: Guest) -> None:
        """Be in the room until the socket is gone or he is to leave."""
        if not self._adapter.says_entered and not guest.ended.wait(self._adapter.settle_s):
            self._entered(guest, "")
        if not guest.ended.wait(ENTRY_S) and not guest.entered.is_set():
            self.failures[f"the server did not say within {ENTRY_S:g} s that the member is in"] += 1
            self._reader.remove(guest)
            return
        guest.ended.wait()
        if guest.was_thrown_out:
            guest.was_thrown_out = False
            gevent.sleep(self._chance.uniform(0, RETRY_S))

    def on_notice(self, member: Member, notice: Notice) -> None:
        """Hear what the server says to a member besides messages; called by the reader."""
        assert isinstance(member, Guest)
        if notice.kind == "entered":
            self._entered(member, notice.detail)
        elif notice is CAUGHT_UP:
            self._reader.tally.resume.record(time.monotonic_ns() - member.away_since_ns)
            member.away_since_ns = 0

    def on_end(self, member: Member, why: str) -> None:
        """Hear that a member's socket is gone; called by the reader."""
        assert isinstance(member, Guest)
        if not member.is_leaving and not self._is_over:
            self._reader.tally.dropped += 1
            self.drops[why] += 1
            member.was_thrown_out = True
            if member.seat.sender is not None:
                self._reader.tally.doubted += member.room.doubt(member.seat.sender)
        self._away(member)

    def _away(self, guest: Guest) -> None:
        if guest.entered.is_set() and not guest.away_since_ns:
            guest.away_since_ns = time.monotonic_ns()
            if not self._adapter.resumes:
                self._end_account(guest)
        guest.entered.clear()
        guest.ended.set()

    def _entered(self, guest: Guest, resumed: str) -> None:
        now_ns = time.monotonic_ns()
        tally = self._reader.tally
        tally.entry.record(now_ns - guest.knocked_ns)
        if guest.account and resumed == "whole":
            tally.resumed_whole += 1
            guest.back_ns = now_ns
        else:
            tally.resumed_gap += resumed == "gap"
            tally.resumed_reset += resumed == "reset"
            self._begin_account(guest, now_ns)
        guest.entered.set()

    def _begin_account(self, guest: Guest, now_ns: int) -> None:
        self._end_account(guest)
        if guest.away_since_ns:
            self._reader.tally.resume.record(now_ns - guest.away_since_ns)
            guest.away_since_ns = 0
        else:
            self._reader.tally.joins += 1
        guest.was_in = True
        guest.account = Account(guest.room, now_ns)
        guest.last = guest.account.last
        guest.is_careful = False
        guest.back_ns = 0
        if self._start_ns:
            self._let_speak(guest)

    def _end_account(self, guest: Guest) -> None:
        """Close the account of one who will not be told what he misses."""
        if guest.account:
            guest.account.cut_off(guest.away_since_ns)
            guest.account.close(self._reader.tally)
            guest.account = None

    def _let_speak(self, guest: Guest) -> None:
        """Let a sender say what is due from the start of the run on, or from now on if he follows another."""
        seat, warm_up_ns = guest.seat, int(self.plan.warmup_s * 1e9)
        if seat.sender is None:
            return
        if seat in self._speakers:
            self._reader.speakers.replace(self._speakers[seat], guest)
            return
        speaker = Sender(guest, seat.sender, self.plan.offsets_ns(seat), self._start_ns, warm_up_ns)
        self._speakers[seat] = speaker
        if self.plan.in_flight:
            end_ns = self._start_ns + warm_up_ns + int(self.plan.duration_s * 1e9)
            self._reader.speakers.keep_talking(speaker, self.plan.in_flight, end_ns)
        else:
            self._reader.speakers.add(speaker)

    def _leave(self, guest: Guest) -> None:
        """Leave for good: hear what was sent until now, then go."""
        guest.is_leaving = True
        if guest.account and guest.entered.is_set() and not self._is_over:
            guest.account.leave(time.monotonic_ns())
            guest.is_careful = True
            deadline_s = time.monotonic() + self.plan.drain_s
            if len(self.domains) > 1:
                gevent.sleep(LINGER_S)
            while not guest.account.lacks_nothing() and time.monotonic() < deadline_s and not self._is_over:
                gevent.sleep(0.05)
        if self._guests.get(guest.number) is guest and not self._is_over:
            self._reader.tally.left += 1
            self._reader.speakers.remove(guest)
            self._close(guest, self._reader.tally)

    def _close(self, guest: Guest, tally: Tally) -> None:
        del self._guests[guest.number]
        self._reader.remove(guest)
        guest.is_leaving = True
        tally.failed += not guest.was_in and not (self._start_ns and time.monotonic_ns() < guest.came_ns + COMING_NS)
        tally.away += guest.was_in and not guest.entered.is_set()
        if guest.account:
            lacking = guest.account.close(tally)
            for sender, seq in lacking[: LACKS_SHOWN - len(self.lacks)]:
                self.lacks.append(
                    f"member {guest.number} lacks message {seq} of sender {sender} in room {guest.room.number}"
                )
        if guest.away_since_ns:
            tally.resume.record_infinite(1)
        guest.ended.set()

    def _be_stuck(self, seat: Seat) -> None:
        """Enter and never read."""
        try:
            sock, _ = self._door.enter(self.plan.room_name(seat.room), {}, "", is_stuck=True)
        except Refused as refusal:
            self.failures[str(refusal)] += 1
            return
        self._stuck.append(sock)
        Event().wait()

    # What scenarios do to members

    def _movable(self) -> list[Guest]:
        return [guest for guest in self._guests.values() if guest.seat.sender is None and guest.entered.is_set()]

    def _churn(self) -> None:
        """Let members leave one by one; somebody else takes the seat of each."""
        while not self._is_over and not self.is_silent:
            gevent.sleep(self._chance.expovariate(self.plan.churn))
            movable = self._movable()
            if movable:
                guest = self._chance.choice(movable)
                guest.is_leaving = True
                guest.ended.set()

    def _storm(self) -> None:
        """Cut everybody off at one moment; their greenlets bring them back."""
        for guest in self._movable():
            self._reader.remove(guest)
            self._away(guest)


def _is_cut(sock: Any) -> bool:
    """Return whether the server has ended a connection, behind what the kernel still holds for it."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    except BlockingIOError:
        return False
    finally:
        sock.close()
    return True
