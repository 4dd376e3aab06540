"""What is read from the file: pages of events, a room's beginning, the moderators' log, what is held for review.

Functions of one connection, for the reader's thread; the writer's uses some of them inside its own
transactions. Invariant: the events of a room that can be read are those from its `first_seq` to its
head, without a hole; below it nothing is found any more, whether its rows are still there or not.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from chat.eventlog import HELD_SHOWN, EpochStart, Opening, Slice, no_held, no_message
from chat.protocol import MAX_PAGE_BYTES, Event, HeldMessage, Person

Result = TypeVar("Result")

# What the partial indexes have: a query that says it word for word may use them.
SPOKEN = "type IN ('message', 'edit')"
TRIMMING = "type IN ('edit', 'trim')"
# Said with the index by name: SQLite would rather go through all events of the room.
ANNOUNCING = """events INDEXED BY events_announcing WHERE type = 'rules' AND instr(body, '"announcement":')"""
_SAID = f"{SPOKEN} AND type = 'message'"


class Extent(NamedTuple):
    """A room's number in the file, and which of its events there are; `first` is head + 1 if none is kept."""

    room: int | None
    first: int
    head: int


def at_once(db: sqlite3.Connection, read: Callable[..., Result], *arguments: object) -> Result:
    """Read all of it as it was at one moment."""
    db.execute("BEGIN")
    try:
        return read(db, *arguments)
    finally:
        db.execute("ROLLBACK")


def extent(db: sqlite3.Connection, name: str) -> Extent:
    row = db.execute(
        "SELECT room, first_seq, (SELECT max(seq) FROM events WHERE room = rooms.room) FROM rooms WHERE name = ?",
        (name,),
    ).fetchone()
    return Extent(None, 1, 0) if row is None else Extent(row[0], row[1], row[2] or 0)


def head(db: sqlite3.Connection, name: str) -> int:
    return extent(db, name).head


def open_room(db: sqlite3.Connection, name: str, recent: int) -> Opening:
    here = extent(db, name)
    starts = db.execute("SELECT epoch, first_seq FROM epoch_starts WHERE room = ? ORDER BY epoch", (here.room,))
    entries = db.execute("SELECT key, body FROM entries WHERE room = ?", (here.room,))
    return Opening(
        here.head,
        before(db, name, None, recent).events,
        [EpochStart(*row) for row in starts],
        here.first,
        dict(entries),
        waiting_count(db, here.room),
    )


# Pages


def before(db: sqlite3.Connection, name: str, seq: int | None, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
    here = extent(db, name)
    bound = here.head + 1 if seq is None else seq
    rows = "SELECT seq, at, body FROM events WHERE room = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?"
    events = _up_to(db.execute(rows, (here.room, here.first, bound, limit)), max_bytes)[::-1]
    return _slice(here, events, bound, bound - 1)


def after(db: sqlite3.Connection, name: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
    here = extent(db, name)
    rows = "SELECT seq, at, body FROM events WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?"
    events = _up_to(db.execute(rows, (here.room, max(seq, here.first - 1), limit)), max_bytes)
    return _slice(here, events, seq + 1, seq)


def around(db: sqlite3.Connection, name: str, seq: int, limit: int) -> Slice:
    here = extent(db, name)
    if not is_message(db, here.room, here.first, seq):
        raise no_message()
    earlier = before(db, name, seq, (limit - 1) // 2, MAX_PAGE_BYTES // 2).events if limit > 2 else []
    later = after(db, name, seq - 1, limit - len(earlier), MAX_PAGE_BYTES // 2).events
    return _slice(here, earlier + later, seq, seq)


def since(db: sqlite3.Connection, name: str, at: int, limit: int) -> Slice:
    return after(db, name, first_seq_since(db, extent(db, name), at) - 1, limit)


def bytes_after(db: sqlite3.Connection, name: str, seq: int) -> int:
    here = extent(db, name)
    row = db.execute(
        "SELECT sum(length(body)) FROM events WHERE room = ? AND seq > ?", (here.room, max(seq, here.first - 1))
    ).fetchone()
    return int(row[0] or 0)


def is_message(db: sqlite3.Connection, room: int | None, first: int, seq: int) -> bool:
    row = db.execute("SELECT type FROM events WHERE room = ? AND seq = ?", (room, seq)).fetchone()
    return row is not None and row[0] == "message" and seq >= first


def first_seq_since(db: sqlite3.Connection, here: Extent, at: int) -> int:
    """The first seq at or after a time, by halving: `at` never goes back within a room."""
    low, high = here.first, here.head + 1
    while low < high:
        middle = (low + high) // 2
        (then,) = db.execute("SELECT at FROM events WHERE room = ? AND seq = ?", (here.room, middle)).fetchone()
        low, high = (middle + 1, high) if then < at else (low, middle)
    return low


def _up_to(rows: Iterable[tuple[int, int, bytes]], max_bytes: int) -> list[Event]:
    """As many of the rows as have room, but at least one."""
    events: list[Event] = []
    for row in rows:
        event = Event(*row)
        max_bytes -= len(event.body)
        if events and max_bytes < 0:
            break
        events.append(event)
    return events


def _slice(here: Extent, events: list[Event], low: int, high: int) -> Slice:
    """Add what lies on either side of the events; without any, of the bounds `low` and `high`."""
    if events:
        low, high = events[0].seq, events[-1].seq
    is_empty = here.first > here.head
    return Slice(events, here.first < low and not is_empty, high < here.head and not is_empty)


# People


def said_by(db: sqlite3.Connection, name: str, person: str, seq: int | None, limit: int) -> Slice:
    here = extent(db, name)
    rows = db.execute(
        f"SELECT seq, at, body FROM events WHERE person = ? AND room = ? AND seq >= ? AND seq < ? AND {_SAID} "
        "ORDER BY seq DESC LIMIT ?",
        (person, here.room, here.first, here.head + 1 if seq is None else seq, limit + 1),
    )
    found = _up_to(rows, MAX_PAGE_BYTES)
    events = found[:limit][::-1]
    more = f"SELECT 1 FROM events WHERE person = ? AND room = ? AND seq >= ? AND seq < ? AND {_SAID} LIMIT 1"
    low = events[0].seq if events else 0
    return Slice(events, db.execute(more, (person, here.room, here.first, low)).fetchone() is not None, False)


def spoke_before(db: sqlite3.Connection, name: str, people: list[str], at: int) -> set[str]:
    # One statement for all of them: there may be ten thousand, and the loop goes on while SQLite works.
    here = extent(db, name)
    said = f"SELECT 1 FROM events WHERE person = value AND room = ? AND seq >= ? AND seq < ? AND {_SAID}"
    asked = msgspec.json.encode(people).decode()
    rows = db.execute(
        f"SELECT value FROM json_each(?) WHERE EXISTS ({said})",
        (asked, here.room, here.first, first_seq_since(db, here, at)),
    )
    return {person for (person,) in rows}


def name_of(db: sqlite3.Connection, name: str, person: str) -> str | None:
    here = extent(db, name)
    for sql in _NAMED:
        if (row := db.execute(sql, {"room": here.room, "first": here.first, "person": person}).fetchone()) is not None:
            return str(row[0])
    return None


_NAMED = (
    "SELECT json_extract(CAST(body AS TEXT), '$.by.name') FROM events "
    f"WHERE person = :person AND room = :room AND seq >= :first AND {_SAID} ORDER BY seq DESC LIMIT 1",
    "SELECT name FROM held WHERE room = :room AND person = :person LIMIT 1",
    "SELECT name FROM reactions WHERE room = :room AND person = :person ORDER BY id DESC LIMIT 1",
    "SELECT json_extract(CAST(body AS TEXT), iif(whom = :person, '$.whom.name', '$.by.name')) FROM acts "
    "WHERE room = :room AND (by = :person OR whom = :person) ORDER BY id DESC LIMIT 1",
)


# For moderators


def acts(
    db: sqlite3.Connection, name: str, before: int | None, limit: int, person: str | None
) -> tuple[list[bytes], bool]:
    sql = "SELECT body FROM acts WHERE room = ? AND id < ?"
    arguments: list[object] = [extent(db, name).room, 1 << 62 if before is None else before]
    if person is not None:
        sql += " AND (by = ? OR whom = ?)"
        arguments += [person, person]
    bodies = [body for (body,) in db.execute(f"{sql} ORDER BY id DESC LIMIT ?", (*arguments, limit + 1))]
    return bodies[:limit], len(bodies) > limit


def held(db: sqlite3.Connection, name: str) -> list[HeldMessage]:
    rows = db.execute(
        "SELECT id, at, person, name, text, why, reply_to FROM held WHERE room = ? AND refused = 0 ORDER BY id LIMIT ?",
        (extent(db, name).room, HELD_SHOWN),
    )
    shown: list[HeldMessage] = []
    left_bytes = MAX_PAGE_BYTES
    for row in rows:
        left_bytes -= len(msgspec.json.encode(row))  # written out: a character may take six bytes
        if shown and left_bytes < 0:
            break
        shown.append(_held_message(*row))
    return shown


def held_count(db: sqlite3.Connection, name: str) -> int:
    return waiting_count(db, extent(db, name).room)


def waiting_count(db: sqlite3.Connection, room: int | None) -> int:
    """How many messages of a room wait for review."""
    (count,) = db.execute("SELECT count(*) FROM held WHERE room = ? AND refused = 0", (room,)).fetchone()
    return int(count)


def held_message(db: sqlite3.Connection, name: str, id: int) -> tuple[HeldMessage, str | None]:
    row = db.execute(
        "SELECT client_id, id, at, person, name, text, why, reply_to FROM held "
        "WHERE room = ? AND id = ? AND refused = 0",
        (extent(db, name).room, id),
    ).fetchone()
    if row is None:
        raise no_held()
    return _held_message(*row[1:]), row[0]


def _held_message(id: int, at: int, person: str, name: str, text: str, why: str, reply_to: int | None) -> HeldMessage:
    return HeldMessage(id, at, Person(person, name), text, why, UNSET if reply_to is None else reply_to)


# Rooms


def names(db: sqlite3.Connection) -> list[str]:
    used = " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE room = rooms.room)" for table in ("events", "entries", "acts", "held")
    )
    return [name for (name,) in db.execute(f"SELECT name FROM rooms WHERE {used} ORDER BY name")]


def limited_names(db: sqlite3.Connection) -> list[str]:
    limits = "json_extract(CAST(body AS TEXT), '$.keep_s') OR json_extract(CAST(body AS TEXT), '$.keep_events')"
    with_limits = f"SELECT name FROM rooms JOIN entries USING (room) WHERE key = 'rules' AND ({limits}) ORDER BY name"
    return [name for (name,) in db.execute(with_limits)]


def has_too_many(db: sqlite3.Connection, name: str, since_ms: int, events: int) -> bool:
    """Whether a room is to let go of anything."""
    here = extent(db, name)
    return first_to_keep(db, here, since_ms, events) > here.first


def first_to_keep(db: sqlite3.Connection, here: Extent, since_ms: int, events: int) -> int:
    """From which seq a room is kept if all before a time goes, and all but the newest `events`."""
    first = first_seq_since(db, here, since_ms) if since_ms else here.first
    return max(first, _first_of_newest(db, here, events)) if events else first


def _first_of_newest(db: sqlite3.Connection, here: Extent, events: int) -> int:
    """Where the newest `events` begin; a `trim` is not counted, or it would push out an event and so make another."""
    trims_since = f"SELECT count(*) FROM events WHERE room = ? AND {TRIMMING} AND type = 'trim' AND seq >= ?"
    first, next_try = here.head + 1, here.head - events + 1
    while next_try < first:
        first = next_try
        (trims,) = db.execute(trims_since, (here.room, first)).fetchone()
        next_try = here.head - events + 1 - trims
    return first
