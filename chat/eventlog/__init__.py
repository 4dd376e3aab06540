"""The promise of an event log: what every log of rooms does, whatever engine it stands on.

A room is an ordered log. Each event has a `seq` that counts up by one, given inside the
transaction that stores it, and an `at` that never goes back. Every start of a log opens a new
epoch; the log knows with which seq each epoch began in each room, and so it can tell whether a
past `(epoch, after)` is its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prometheus_client import Counter, Histogram

from chat.protocol import (
    MAX_PAGE_BYTES,
    Acted,
    Deleted,
    Edited,
    Event,
    HeldMessage,
    Person,
    ProtocolError,
    Purged,
    Reacted,
    Record,
    RoleGiven,
    RulesChanged,
)

REMEMBERED_MS = 24 * 3600 * 1000  # that a `client_id` is known
MOST_HELD = 1000  # messages of a room that wait for review
HELD_SHOWN = 200  # of them at a time
MOST_RECORDS = 10_000  # of a room's moderators' log
RETOLD = 2048  # events before the head: what was rewritten further back is not told
RETOLD_REACTIONS = 200  # messages whose reactions a purge tells
REACTED_BYTES = 32 * 1024  # of one event that tells reactions
BATCH_DRAFTS = 4096  # so that one commit stays short

commit_seconds = Histogram(
    "chatroom_commit_seconds",
    "Time of one commit",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)
stored_events = Counter("chatroom_events", "Events stored")
commits = Counter("chatroom_commits", "Commits", ["outcome"])

Done = Callable[[int | ProtocolError], None]
Entries = Mapping[str, bytes | None]  # of a room's order, by key; None takes one away
ActEvent = Acted | Deleted | Edited | Purged | Reacted | RoleGiven | RulesChanged


class LogRefused(Exception):
    """The log cannot be opened; the text is one sentence that says what to do."""


class LogUnreachable(LogRefused):
    """It is somewhere else, and may be there later."""


@dataclass(slots=True)
class Draft:
    """A message that asks to be stored.

    `done` is called once, on the loop, before any event of the same commit is shown: with the
    seq, or with the refusal (`not_found`, `not_stored`; `held` and `refused` for one that is held for review; its own
    `refusal`). What was stored under its `client_id` before is answered as it was then, whatever would be refused now.
    """

    room: str
    by: Person
    text: str
    client_id: str | None
    reply_to: int | None
    done: Done
    entries: Entries = field(default_factory=dict)  # of the room's order, stored in the same commit
    claim: Entries = field(default_factory=dict)  # the same, if the room was unused; the log empties it if it was not
    hold_for: str = ""  # why it is not to be shown yet: it waits for a moderator instead
    held: int = 0  # the held message that this is, now that a moderator shows it: it is held no longer
    refusal: ProtocolError | None = None  # why it is not to be stored, if it was not before
    is_new: bool = False  # said by the log: it was not known before, and is stored or held now


class Editing(NamedTuple):
    """Give the message `message` of `person`, said at `since_ms` or later, another text."""

    message: int
    person: str
    text: str
    since_ms: int


class Removing(NamedTuple):
    """Remove a message; `person` is who must have said it, None for whoever did."""

    message: int
    person: str | None


class Purging(NamedTuple):
    """Remove all that `person` said in the room, and his reactions."""

    person: str


class Reacting(NamedTuple):
    """Somebody's reaction to a message comes, or goes."""

    message: int
    kind: str
    by: Person
    on: bool


class Refusing(NamedTuple):
    """A held message is not shown, and its text forgotten."""

    held: int


Work = Editing | Removing | Purging | list[Reacting] | Refusing


class Further(NamedTuple):
    """What else an act does in the same commit; nothing of it can be refused."""

    event: ActEvent | None = None
    work: Purging | None = None
    record: Record | None = None


@dataclass(slots=True)
class Change:
    """An act that asks to be stored: all of it in one commit, or nothing.

    `event` gets its seq and `at` from the log, `Reacted` its changes, too. `done` is called as a draft's is, with the
    seq of the event, 0 where there is none: because none is given, or because no reaction changed anything.
    Refusals: `not_found` (no such message), `forbidden` (not his), `too_late` (said before `since_ms`),
    `not_stored`. A reaction to what is no message is refused alone, if others of the same change are done.
    """

    room: str
    by: str  # the id of whose act it is
    done: Done
    event: ActEvent | None = None
    work: Work | None = None
    entries: Entries = field(default_factory=dict)
    claim: Entries = field(default_factory=dict)
    record: Record | None = None
    """For the moderators; its id and `at` come from the log, and of whose message it is, if that is not said. There is
    none of what somebody does to his own message."""
    further: tuple[Further, ...] = ()
    refused: dict[int, ProtocolError] = field(default_factory=dict)  # said by the log: reactions, by their message
    decided_on: int = 0  # noted by a log that others share: how often it had been changed by them


class Slice(NamedTuple):
    """Some events in order, and whether the room has more on either side."""

    events: list[Event]
    more_before: bool
    more_after: bool


class News(NamedTuple):
    """What a commit changed in a room besides its events.

    The entries of its order (`is_all`: not only those that changed), how many messages wait for review, whether it was
    this server's own commit, and whom it put out for which reason ("" also where that is not known any more).
    """

    entries: Entries
    held: int
    is_ours: bool
    kicked: dict[str, str]
    is_all: bool = False


class EpochStart(NamedTuple):
    """With which seq an epoch (by its place in the order of epochs) began in a room."""

    epoch: int
    first_seq: int


class Opening(NamedTuple):
    """A room as its log has it.

    The newest seq and the oldest that is kept (head + 1 if none is), the last events, where each epoch began, its
    order, and how many messages wait for review.
    """

    head: int
    recent: list[Event]
    starts: list[EpochStart]
    first: int = 1
    entries: dict[str, bytes] = {}  # noqa: RUF012  # never changed
    held: int = 0


class EventLog(Protocol):
    """What the rooms ask of a log. What begins with `on_` is called on the loop.

    Whatever reads raises ProtocolError `away` where the log is somewhere else and cannot be reached.
    """

    storing: bool  # whether the last attempt to store succeeded
    on_events: Callable[[str, list[Event], dict[int, bytes]], None]
    """Told of the events of a commit and, by seq, of the stored events that it rewrote: their new bodies. What was
    rewritten long ago may be left out; nothing newer than 2,048 events before the head is."""
    on_storing: Callable[[bool], None]
    on_news: Callable[[str, News], None]
    """A log that others share tells it in the order of the commits, before their events."""
    on_telling: Callable[[str, bytes], None]
    """What a server of this log, this one or another, told of a room by `tell`."""
    on_server_telling: Callable[[bytes], None]
    """What a server of this log told by `tell_servers`; raises ValueError for what none would."""
    on_following: Callable[[str], None]
    """What is told of a room is heard from now on; what was told before may have been missed."""
    on_server_gone: Callable[[str], None]
    """A server of this log was not heard of for 15 s."""
    on_epoch: Callable[[str, Opening], None]
    """A log that others share may begin an epoch while a room is open. All that was told of it is still there."""
    on_lost: Callable[[str], None]
    """Or it has lost what was told of a room, which begins anew."""

    @property
    def server(self) -> str:
        """What this server is called among those that share the log; empty where nobody does."""

    @property
    def place(self) -> str:
        """Where it keeps what it is given, and how well, for people."""

    @property
    def epoch(self) -> str:
        """The one that is now."""

    @property
    def epochs(self) -> dict[str, int]:
        """Every epoch's place in their order."""

    def append(self, asked: Draft | Change) -> None:
        """Ask for a message to be stored, once per (room, person, `client_id`) within 24 hours, or for an act."""

    async def open_room(self, room: str, recent: int) -> Opening:
        """What a room needs to begin, with its last `recent` events."""

    def tell(self, room: str, payload: bytes) -> None:
        """Tell all servers that have the room open something that is not kept."""

    def tell_servers(self, payload: bytes) -> None:
        """Tell all servers something, a JSON object, that concerns no room and is not kept."""

    def close_room(self, room: str) -> None:
        """Nobody needs to be told of it any more, until it is opened again."""

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

    async def said_by(self, room: str, person: str, before: int | None, limit: int) -> Slice:
        """The newest messages of a person below `before`, oldest first; `more_after` says nothing here."""

    async def spoke_before(self, room: str, people: list[str], at: int) -> set[str]:
        """Which of these people said anything in the room before a time (ms)."""

    async def acts(self, room: str, before: int | None, limit: int, person: str | None) -> tuple[list[bytes], bool]:
        """The moderators' log below the id `before`: records as JSON, newest first, and whether there are more.

        Of a room the newest 10,000 are kept. With `person` only what he did or what was done to him.
        """

    async def name_of(self, room: str, person: str) -> str | None:
        """How somebody was called in the room when he was last heard or dealt with; None if he never was."""

    async def held(self, room: str) -> list[HeldMessage]:
        """The messages that wait for review, oldest first, at most 200 and MAX_PAGE_BYTES."""

    async def held_count(self, room: str) -> int:
        """How many messages wait for review."""

    async def held_message(self, room: str, id: int) -> tuple[HeldMessage, str | None]:
        """One of them, with its `client_id`; raises ProtocolError `not_found`."""

    async def keep(self, room: str, since_ms: int, events: int) -> None:
        """Let go of the events before a time (0: none) and of all but the newest `events` (0: all are kept).

        A room that loses a message by it gets an event `trim`. What it frees is given back to the disk in small steps.
        """

    async def names(self, *, limited: bool = False) -> list[str]:
        """The names of all rooms that have anything stored; `limited`: of those whose rules limit what is kept."""

    async def probe(self) -> None:
        """Try to store something; raises OSError with the reason when it cannot be done."""

    async def settled(self) -> None:
        """Return when all that was asked is committed and shown, or refused, and what was removed is off the disk."""

    async def close(self) -> None:
        """Commit what was asked and let go of the engine."""


# What an act or a message is refused with


def not_stored() -> ProtocolError:
    return ProtocolError("not_stored", "The message could not be stored and was not shown; try again in a moment.")


class Overtaken(ProtocolError):
    """Another server changed the same entries of the order at the same moment: it is to be decided anew."""


def overtaken() -> ProtocolError:
    return Overtaken("not_stored", "Somebody else changed the same at that moment; look at it and try again.")


def log_away() -> ProtocolError:
    return ProtocolError("away", "What was said cannot be read at the moment; ask again in a moment.", retry_after=2.0)


def no_message() -> ProtocolError:
    return ProtocolError("not_found", "There is no such message in this room.")


def no_held() -> ProtocolError:
    return ProtocolError("not_found", "There is no such message waiting for review.")


def nothing_answered() -> ProtocolError:
    return ProtocolError("not_found", "The message you reply to is not in this room.")


def somebody_elses() -> ProtocolError:
    return ProtocolError("forbidden", "Somebody else said this.")


def too_late() -> ProtocolError:
    return ProtocolError("too_late", "This message was said too long ago to be edited.")


def waiting() -> ProtocolError:
    return ProtocolError("held", "Your message waits for a moderator, who decides whether it is shown.")


def refused() -> ProtocolError:
    return ProtocolError("refused", "A moderator did not let this message through.")


def too_many_held() -> ProtocolError:
    return ProtocolError("refused", "Too many messages wait for a moderator already; yours was not kept.")


def is_ours(epochs: dict[str, int], opening: Opening, current: str, head: int, epoch: str, after: int) -> bool:
    """Whether a past `(epoch, after)` is this log's: what was seen then is what stands here now.

    It is if the epoch is known, `after` is not beyond the head, and no later epoch began at or
    below `after`: what a later epoch began with replaced whatever had been seen there.
    """
    if epoch not in epochs or after > head:
        return False
    past, now = epochs[epoch], epochs.get(current, epochs[epoch])
    starts = opening.starts
    if past < now and not any(start.epoch == now for start in starts):
        # This epoch's first event in the room, written or not, comes right after what was there.
        starts = [*starts, EpochStart(now, opening.head + 1)]
    return not any(start.epoch > past and start.first_seq <= after for start in starts)
