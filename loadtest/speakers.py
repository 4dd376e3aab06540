"""The speakers: which message is due when, and who says it.

Owns the heap of what is due and the closed loop of `inflight:N`. It knows members only by whether they have a socket,
and says everything through the `send` it was given.
Invariant: every message that is due is said, however late, stamped with when it was due; none is skipped but with its
sender, who left for good.
"""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from loadtest import frames, tag
from loadtest.account import Room
from loadtest.adapters import Adapter
from loadtest.member import Member
from loadtest.tally import Tally

AWAY_NS: Final = 20_000_000  # how often it is looked whether a sender who was thrown out is back
LATE_NS: Final = 1_000_000_000  # a message sent this long after it was due was not sent in time


@dataclass(eq=False, slots=True)
class Sender:
    """A member who also speaks, at times fixed in advance."""

    member: Member
    number: int
    offsets_ns: Iterator[int]
    start_ns: int
    warm_up_ns: int
    seq: int = 0

    def next_ns(self) -> int | None:
        """Return when the next of his messages is due; None if there is none."""
        offset_ns = next(self.offsets_ns, None)
        return None if offset_ns is None else self.start_ns + offset_ns

    def is_measured(self, due_ns: int) -> bool:
        """Return whether what is due then is of the measured window."""
        return due_ns >= self.start_ns + self.warm_up_ns


class Speakers:
    """All senders of a process."""

    def __init__(
        self,
        run: int,
        text_bytes: int,
        adapter: Adapter,
        rooms: dict[int, Room],
        send: Callable[[Member, bytes], None],
    ) -> None:
        self._run = run
        self._text_bytes = text_bytes
        self._adapter = adapter
        self._rooms = rooms
        self._send = send
        self._due: list[tuple[int, int, Sender, int]] = []  # when to look, an order, who, when it was due
        self._talkers: list[Sender] = []  # of a closed loop: who keeps so many under way, and until when
        self._in_flight = self._talk_until_ns = 0

    def add(self, sender: Sender) -> None:
        """Let a sender say what he has to say, when it is due."""
        self._plan(sender)

    def replace(self, sender: Sender, member: Member) -> None:
        """Let another member go on with what a sender has to say from now on; the same one simply goes on."""
        is_same, sender.member = sender.member is member, member
        if not is_same:
            self._plan(sender, time.monotonic_ns())

    def remove(self, member: Member) -> None:
        """Plan nothing more for a member who leaves."""
        self._due = [entry for entry in self._due if entry[2].member is not member]
        heapq.heapify(self._due)

    def keep_talking(self, sender: Sender, in_flight: int, end_ns: int) -> None:
        """Let a sender be one of those who together keep so many messages under way until a time."""
        self._talkers.append(sender)
        self._in_flight, self._talk_until_ns = in_flight, end_ns

    def be_silent(self, tally: Tally) -> None:
        """Say nothing more; what is overdue by now was planned and never sent."""
        now_ns = time.monotonic_ns()
        for *_, sender, due_ns in self._due:
            overdue_ns: int | None = due_ns
            while overdue_ns is not None and overdue_ns < now_ns:
                tally.planned += sender.is_measured(overdue_ns)
                overdue_ns = sender.next_ns()
        self._due.clear()
        self._talkers.clear()

    @property
    def is_silent(self) -> bool:
        """Whether everything planned has been sent."""
        return not self._due and (not self._talkers or time.monotonic_ns() >= self._talk_until_ns)

    @property
    def next_ns(self) -> int:
        """When there is something to say next; 0: never, or as soon as everybody has got something."""
        if self._due:
            return self._due[0][0]
        return self._talkers[0].start_ns if self._talkers and self._talkers[0].start_ns > time.monotonic_ns() else 0

    def speak_up(self, tally: Tally, end_ns: int) -> None:
        """Say all that is due, as far as there is time until `end_ns`: deliveries have to be read, too."""
        while self._due:
            at_ns, order, sender, due_ns = self._due[0]
            now_ns = time.monotonic_ns()
            if at_ns > now_ns or now_ns > end_ns:
                return
            if sender.member.socket is None:  # he was thrown out: it will be late, but it will be sent
                heapq.heapreplace(self._due, (now_ns + AWAY_NS, order, sender, due_ns))
                continue
            heapq.heappop(self._due)
            self._say(sender, due_ns, tally)
            self._plan(sender)

    def talk_on(self, tally: Tally) -> None:
        """In a closed loop, say as much as everybody has got."""
        if not self._talkers or not self._talkers[0].start_ns <= time.monotonic_ns() < self._talk_until_ns:
            return
        said = sum(sender.seq for sender in self._talkers)
        settled = sum(room.settled for room in self._rooms.values())
        for number in range(said, settled + self._in_flight):
            self._say(self._talkers[number % len(self._talkers)], time.monotonic_ns(), tally)

    def _plan(self, sender: Sender, since_ns: int = 0) -> None:
        due_ns = sender.next_ns()
        while due_ns is not None and due_ns < since_ns:
            due_ns = sender.next_ns()
        if due_ns is not None:
            heapq.heappush(self._due, (due_ns, id(sender), sender, due_ns))

    def _say(self, sender: Sender, due_ns: int, tally: Tally) -> None:
        is_measured = sender.is_measured(due_ns)
        room = sender.member.room
        words = tag.Tag(self._run, room.number, sender.number, sender.seq, due_ns, time.monotonic_ns(), is_measured)
        room.send(words)
        number = f"{self._run:04x}{sender.number:02x}{sender.seq:08x}"
        payload = self._adapter.wrap(tag.make_text(words, self._text_bytes), number)
        self._send(sender.member, frames.masked(payload.encode()))
        sender.seq += 1
        if is_measured:
            late_ns = time.monotonic_ns() - due_ns
            tally.planned += 1
            tally.sent += late_ns <= LATE_NS
            tally.lateness.record(late_ns)
