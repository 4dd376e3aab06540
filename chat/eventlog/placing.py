"""What a batch puts into the file: every message and every event gets its place, the next seq of its room.

For the writer's thread, inside one transaction a batch. Invariant: the end of each room as it is
kept here is what the file holds together with the rows that wait; a batch that fails takes both
back, and so does a draft that is refused: it is refused before anything of it is written.
"""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import UNSET

from chat.eventlog import (
    MOST_HELD,
    REMEMBERED_MS,
    RETOLD,
    ActEvent,
    Draft,
    Entries,
    no_held,
    nothing_answered,
    refused,
    too_many_held,
    waiting,
)
from chat.eventlog.reading import Extent, extent, first_seq_since, is_message, waiting_count
from chat.protocol import Event, Message, ProtocolError, Removed, RulesChanged, Trimmed, encode

_TAILS = 10_000  # rooms whose end is kept at hand


@dataclass(slots=True)
class Tail:
    """The end of a room: where the next event goes, what was said before, what is held."""

    name: str
    room: int
    first: int
    seq: int
    at: int
    epoch_recorded: bool
    held: dict[tuple[str, str], bool]  # by whom and `client_id`: whether it was refused
    remembered: dict[tuple[str, str], int] = field(default_factory=dict)
    remembered_before: dict[tuple[str, str], int] = field(default_factory=dict)
    remembered_from: int = 0

    @property
    def extent(self) -> Extent:
        return Extent(self.room, self.first, self.seq)

    def first_seq_of(self, draft: Draft) -> int | None:
        key = (draft.by.id, draft.client_id or "")
        return self.remembered.get(key) or self.remembered_before.get(key)

    def remember(self, person: str, client_id: str, seq: int, at: int) -> None:
        """Keep a `client_id` for 24 hours at least: a full generation is kept beside the growing one."""
        if at - self.remembered_from > REMEMBERED_MS:
            self.remembered_before, self.remembered = self.remembered, {}
            self.remembered_from = at
        self.remembered[person, client_id] = seq


@dataclass(slots=True)
class Batch:
    """What one transaction stores, and what is to be told of it once it is committed."""

    now: int
    shown: dict[str, list[Event]] = field(default_factory=dict)
    changed: dict[str, dict[int, bytes]] = field(default_factory=dict)
    rewritten: set[str] = field(default_factory=set)  # the rooms whose readings must be done again
    is_removing: bool = False  # something must get off the disk
    trimmed: set[int] = field(default_factory=set)  # the rooms, by number, that have rows below their first seq
    rows: list[tuple[object, ...]] = field(default_factory=list)  # of events, not yet written


class Placing:
    """Gives what is asked its place; `batch` is the one that is being stored."""

    def __init__(self, db: sqlite3.Connection, epoch: int) -> None:
        self.db = db
        self.batch = Batch(0)
        self._epoch = epoch
        self._tails: dict[str, Tail] = {}

    def begin(self) -> None:
        while len(self._tails) > _TAILS:  # never within a batch: its events are not in the file yet
            del self._tails[next(iter(self._tails))]
        self.batch = Batch(time.time_ns() // 1_000_000)

    def forget(self, rooms: Iterable[str]) -> None:
        """Have the ends of these rooms read anew: their batch was undone."""
        for room in rooms:
            self._tails.pop(room, None)

    def flush(self) -> int:
        """Write the rows that wait; returns how many they were."""
        rows, self.batch.rows = self.batch.rows, []
        if rows:
            self.db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    # Messages

    def place(self, draft: Draft) -> int:
        """Give a draft its seq: the first one if it was stored before, else the next; raises ProtocolError."""
        tail = self.tail(draft.room)
        if draft.client_id and (first := tail.first_seq_of(draft)):
            return first
        if tail.held or draft.held:
            self._check_held(tail, draft)
        if draft.refusal is not None:
            raise draft.refusal
        if draft.reply_to is not None and not self._is_message_here(tail, draft.reply_to):
            raise nothing_answered()
        if draft.hold_for:
            raise self._hold(tail, draft)
        if draft.held:
            self._release(tail, draft)
        self.enter(tail, {**draft.claim, **draft.entries})
        seq, at = self._next(tail)
        reply_to = UNSET if draft.reply_to is None else draft.reply_to
        self._add(tail, Message(seq, at, draft.by, draft.text, reply_to), "message", draft.by.id, draft.client_id)
        if draft.client_id:
            tail.remember(draft.by.id, draft.client_id, seq, at)
        draft.is_new = True
        return seq

    def _is_message_here(self, tail: Tail, seq: int) -> bool:
        placed = self.batch.shown.get(tail.name)
        if placed and seq >= placed[0].seq:
            return tail.first <= seq <= tail.seq and placed[seq - placed[0].seq].body.startswith(b'{"type":"message"')
        return is_message(self.db, tail.room, tail.first, seq)

    # Held messages

    def _check_held(self, tail: Tail, draft: Draft) -> None:
        """Refuse a retry of what is held or was refused, and to show what is held no longer."""
        if draft.held:
            waits = "SELECT 1 FROM held WHERE room = ? AND id = ? AND refused = 0"
            if self.db.execute(waits, (tail.room, draft.held)).fetchone() is None:
                raise no_held()
        elif draft.client_id and (was_refused := tail.held.get((draft.by.id, draft.client_id))) is not None:
            raise refused() if was_refused else waiting()

    def _hold(self, tail: Tail, draft: Draft) -> ProtocolError:
        self._forget_refused(tail)
        if waiting_count(self.db, tail.room) >= MOST_HELD:
            return too_many_held()
        self.db.execute(
            "INSERT INTO held (room, at, person, name, text, client_id, reply_to, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                tail.room,
                self.batch.now,
                draft.by.id,
                draft.by.name,
                draft.text,
                draft.client_id,
                draft.reply_to,
                draft.hold_for,
            ),
        )
        if draft.client_id:
            tail.held[draft.by.id, draft.client_id] = False
        self.enter(tail, {**draft.claim, **draft.entries})
        draft.is_new = True
        return waiting()

    def _forget_refused(self, tail: Tail) -> None:
        old = "DELETE FROM held WHERE room = ? AND refused = 1 AND at < ?"
        if self.db.execute(old, (tail.room, self.batch.now - REMEMBERED_MS)).rowcount:
            tail.held = self.read_held(tail.room)

    def _release(self, tail: Tail, draft: Draft) -> None:
        self.db.execute("DELETE FROM held WHERE room = ? AND id = ?", (tail.room, draft.held))
        tail.held.pop((draft.by.id, draft.client_id or ""), None)
        self.batch.rewritten.add(tail.name)

    def read_held(self, room: int) -> dict[tuple[str, str], bool]:
        known = "SELECT person, client_id, refused FROM held WHERE room = ? AND client_id IS NOT NULL"
        return {(person, client_id): bool(refused) for person, client_id, refused in self.db.execute(known, (room,))}

    # The order, as it is stored

    def enter(self, tail: Tail, entries: Entries) -> None:
        for key, body in entries.items():
            if body is None:
                self.db.execute("DELETE FROM entries WHERE room = ? AND key = ?", (tail.room, key))
            else:
                self.db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (tail.room, key, body))

    # Events

    def add_event(self, tail: Tail, event: ActEvent | Trimmed, person: str) -> int:
        """Give an event the next seq of its room."""
        event.seq, event.at = self._next(tail)
        self._add(tail, event, _kind(event), person, None)
        return event.seq

    def now(self, tail: Tail) -> int:
        """The time of what happens in this batch: it never goes back in a room."""
        return max(tail.at, self.batch.now)

    def _next(self, tail: Tail) -> tuple[int, int]:
        tail.seq += 1
        tail.at = self.now(tail)
        if not tail.epoch_recorded:
            self.db.execute("INSERT INTO epoch_starts VALUES (?, ?, ?)", (tail.room, self._epoch, tail.seq))
            tail.epoch_recorded = True
        return tail.seq, tail.at

    def _add(
        self, tail: Tail, event: Message | ActEvent | Trimmed, kind: str, person: str, client_id: str | None
    ) -> None:
        body = encode(event)
        self.batch.shown.setdefault(tail.name, []).append(Event(event.seq, event.at, body))
        self.batch.rows.append((tail.room, event.seq, event.at, kind, person, client_id, body))

    # Rewriting

    def rewrite(self, tail: Tail, event: Message | RulesChanged | Removed) -> None:
        """Put another body in the place of a stored event."""
        body = encode(event)
        update = "UPDATE events SET type = ?, body = ? WHERE room = ? AND seq = ?"
        self.db.execute(update, (_kind(event), body, tail.room, event.seq))
        self.retell(tail, Event(event.seq, event.at, body))

    def retell(self, tail: Tail, event: Event) -> None:
        """Note what a stored event is from this commit on; one of this very batch is never shown as it was."""
        self.batch.rewritten.add(tail.name)
        placed = self.batch.shown.get(tail.name)
        if placed and event.seq >= placed[0].seq:
            placed[event.seq - placed[0].seq] = event
        elif event.seq > tail.seq - RETOLD:
            self.batch.changed.setdefault(tail.name, {})[event.seq] = event.body

    def retold_from(self, tail: Tail) -> int:
        """The oldest seq whose rewriting is told."""
        return tail.seq - RETOLD + 1

    # Rooms

    def tail(self, name: str) -> Tail:
        tail = self._tails.get(name)
        if tail is None:
            tail = self._tails[name] = self._read_tail(name)
        return tail

    def _read_tail(self, name: str) -> Tail:
        db = self.db
        db.execute("INSERT OR IGNORE INTO rooms (name) VALUES (?)", (name,))
        here = extent(db, name)
        assert here.room is not None
        newest = db.execute("SELECT at FROM events WHERE room = ? AND seq = ?", (here.room, here.head)).fetchone()
        recorded = "SELECT 1 FROM epoch_starts WHERE room = ? AND epoch = ?"
        is_recorded = db.execute(recorded, (here.room, self._epoch)).fetchone() is not None
        at = newest[0] if newest else 0
        tail = Tail(name, here.room, here.first, here.head, at, is_recorded, self.read_held(here.room))
        tail.remembered_from = time.time_ns() // 1_000_000
        first = first_seq_since(db, here, tail.remembered_from - REMEMBERED_MS)
        said = "SELECT person, client_id, seq FROM events WHERE room = ? AND seq >= ? AND client_id IS NOT NULL"
        tail.remembered = {(person, client_id): seq for person, client_id, seq in db.execute(said, (here.room, first))}
        return tail


def _kind(event: Message | ActEvent | Trimmed | Removed) -> str:
    """What the event is called on the wire."""
    return str(event.__struct_config__.tag)
