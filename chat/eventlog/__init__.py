"""The promise of an event log: what every log of rooms does, whatever engine it stands on.

A room is an ordered log. Each event has a `seq` that counts up by one, given inside the
transaction that stores it, and an `at` that never goes back. Every start of a log opens a new
epoch; the log knows with which seq each epoch began in each room, and so it can tell whether a
past `(epoch, after)` is its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from chat.protocol import MAX_PAGE_BYTES, Event, Person, ProtocolError


class LogRefused(Exception):
    """The log cannot be opened; the text is one sentence that says what to do."""


@dataclass(slots=True)
class Draft:
    """A message that asks to be stored.

    `done` is called once, on the loop, before any event of the same commit is shown: with the
    seq, or with the refusal (`not_found`, `not_stored`).
    """

    room: str
    by: Person
    text: str
    client_id: str | None
    reply_to: int | None
    done: Callable[[int | ProtocolError], None]


class Slice(NamedTuple):
    """Some events in order, and whether the room has more on either side."""

    events: list[Event]
    more_before: bool
    more_after: bool


class EpochStart(NamedTuple):
    """With which seq an epoch (by its place in the order of epochs) began in a room."""

    epoch: int
    first_seq: int


class Opening(NamedTuple):
    """A room as its log has it: the newest seq, the last events, where each epoch began."""

    head: int
    recent: list[Event]
    starts: list[EpochStart]


class EventLog(Protocol):
    """What the rooms ask of a log. `on_events` and `on_storing` are called on the loop."""

    epoch: str  # this start's
    epochs: dict[str, int]  # every epoch's place in their order
    storing: bool  # whether the last attempt to store succeeded
    on_events: Callable[[str, list[Event]], None]
    on_storing: Callable[[bool], None]

    def append(self, draft: Draft) -> None:
        """Ask for a message to be stored, once per (room, person, `client_id`) within 24 hours."""

    async def open_room(self, room: str, recent: int) -> Opening:
        """What a room needs to begin, with its last `recent` events."""

    async def before(self, room: str, seq: int | None, limit: int) -> Slice:
        """The newest events below `seq`, or the newest of all; at most MAX_PAGE_BYTES."""

    async def after(self, room: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
        """The oldest events above `seq`, at most `max_bytes` of them but at least one."""

    async def around(self, room: str, seq: int, limit: int) -> Slice:
        """The event `seq` with its neighbours; raises ProtocolError `not_found`."""

    async def since(self, room: str, at: int, limit: int) -> Slice:
        """Events from the first one at or after `at` (ms since 1970)."""

    async def bytes_after(self, room: str, seq: int) -> int:
        """How many bytes the events above `seq` have together."""

    async def head(self, room: str) -> int:
        """The newest seq of a room; 0 in an unused one."""

    async def rewrite(self, room: str, event: Event) -> None:
        """Replace the body of a stored event, its seq and `at` kept; raises ProtocolError `not_found`."""

    async def probe(self) -> None:
        """Try to store something; raises OSError with the reason when it cannot be done."""

    async def settled(self) -> None:
        """Return when everything that was asked is committed and shown, or refused."""

    async def close(self) -> None:
        """Commit what was asked and let go of the engine."""


def is_ours(epochs: dict[str, int], opening: Opening, current: str, head: int, epoch: str, after: int) -> bool:
    """Whether a past `(epoch, after)` is this log's: what was seen then is what stands here now.

    It is if the epoch is known, `after` is not beyond the head, and no later epoch began at or
    below `after`: what a later epoch began with replaced whatever had been seen there.
    """
    if epoch not in epochs or after > head:
        return False
    past, now = epochs[epoch], epochs[current]
    starts = opening.starts
    if past < now and not any(start.epoch == now for start in starts):
        # This epoch's first event in the room, written or not, comes right after what was there.
        starts = [*starts, EpochStart(now, opening.head + 1)]
    return not any(start.epoch > past and start.first_seq <= after for start in starts)
