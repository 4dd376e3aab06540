"""The event log on SQLite: one file, one writer thread, one reader thread.

Everything that is asked while a commit runs goes into the next one: load itself makes the
batches, no timer does. The writer's connection is used on the writer thread only, the reader's
on the reader thread only; the public methods are for the loop. Invariants: WAL with
synchronous=FULL, so that what a commit returned survives a power cut; seqs are given inside the
transaction; a refused file is left as it was found.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET
from prometheus_client import Counter, Histogram

from chat.eventlog import Draft, EpochStart, LogRefused, Opening, Slice
from chat.protocol import MAX_PAGE_BYTES, Event, Message, ProtocolError, encode

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Stored = tuple[list[int | ProtocolError], dict[str, list[Event]]]  # an answer a draft; what is to be shown

APPLICATION_ID = 0x43525F31  # "CR_1", at offset 68 of the file
SCHEMA_VERSION = 1

_REMEMBERED_MS = 24 * 3600 * 1000
_BATCH_DRAFTS = 4096  # so that one commit stays short
_TAILS = 10_000  # rooms whose end the writer keeps at hand
_CHECKED_WHOLE_BYTES = 64 * 1024 * 1024  # a larger file would hold up the start
_PROBE_BYTES = 64 * 1024  # about what a batch of messages takes
_PROBE_LASTS_S = 1.0  # what was stored so recently proves that storing works
_RETRY_S = 1.0  # between two attempts while it does not

_commit_seconds = Histogram(
    "chatroom_commit_seconds",
    "Time of one commit",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)
_stored = Counter("chatroom_events", "Events stored")
_commits = Counter("chatroom_commits", "Commits", ["outcome"])

# One entry a version: the step from the version before.
MIGRATIONS = (
    """
    CREATE TABLE rooms (room INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE events (
        room INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        type TEXT NOT NULL, person TEXT NOT NULL, client_id TEXT, body BLOB NOT NULL,
        PRIMARY KEY (room, seq)
    ) WITHOUT ROWID;
    CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
    CREATE TABLE epoch_starts (
        room INTEGER NOT NULL, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (room, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE probes (body BLOB NOT NULL);
    """,
)


@dataclass(slots=True)
class _Tail:
    """The end of a room as the writer keeps it: where the next event goes, what was said before."""

    room: int
    seq: int
    at: int
    epoch_recorded: bool
    remembered: dict[tuple[str, str], int] = field(default_factory=dict)
    remembered_before: dict[tuple[str, str], int] = field(default_factory=dict)
    remembered_from: int = 0

    def first_seq_of(self, draft: Draft) -> int | None:
        key = (draft.by.id, draft.client_id or "")
        return self.remembered.get(key) or self.remembered_before.get(key)

    def remember(self, person: str, client_id: str, seq: int, at: int) -> None:
        """Keep a `client_id` for 24 hours at least: a full generation is kept beside the growing one."""
        if at - self.remembered_from > _REMEMBERED_MS:
            self.remembered_before, self.remembered = self.remembered, {}
            self.remembered_from = at
        self.remembered[person, client_id] = seq


class SqliteLog:
    """The promise of `EventLog`, kept by one SQLite file; `:memory:` keeps nothing."""

    def __init__(self, path: str) -> None:
        """Open the file, or make it; raises LogRefused."""
        self.storing = True
        self.on_events: Callable[[str, list[Event]], None] = lambda room, events: None
        self.on_storing: Callable[[bool], None] = lambda storing: None
        self._asked: list[Draft] = []
        self._commit_due = False
        self._closing = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._retry: asyncio.TimerHandle | None = None
        self._stored_s = -_PROBE_LASTS_S
        self._probing: asyncio.Future[None] | None = None
        self._tails: dict[str, _Tail] = {}
        self._writer_thread = ThreadPoolExecutor(1, "chatroom-writer")
        in_memory = path == ":memory:"
        path = path if in_memory else os.path.realpath(path)  # one lock, whatever links lead to the file
        if not in_memory:
            _refuse_foreign(path)  # before a lock file is left beside what is not ours
        self._lock = None if in_memory else _locked(path)
        try:
            self._writer = _opened(path)
            self.epoch, self.epochs = _open_epoch(self._writer)
            # A memory database has one connection only, so that both threads are one.
            self._reader = self._writer if in_memory else _connected(path)
            self._reader_thread = self._writer_thread if in_memory else ThreadPoolExecutor(1, "chatroom-reader")
        except BaseException as error:
            if self._lock is not None:
                os.close(self._lock)
            if isinstance(error, sqlite3.Error):
                what = " ".join(str(error).split())
                raise LogRefused(f"The database {path} cannot be used ({what}): {_advice(what)}.") from error
            raise

    # Appending

    def append(self, draft: Draft) -> None:
        self._asked.append(draft)
        if not self._commit_due:
            self._commit_due = True
            self._idle.clear()
            # Not at once: what else has arrived in this turn of the loop shares the commit.
            asyncio.get_running_loop().call_soon(self._commit_next)

    def _commit_next(self) -> None:
        batch, self._asked = self._asked[:_BATCH_DRAFTS], self._asked[_BATCH_DRAFTS:]
        self._write(self._store, batch, lambda result: self._committed(batch, result))

    def _committed(self, batch: list[Draft], result: "Future[Stored]") -> None:
        """Answer the speakers, then show the events; back on the loop."""
        error = result.exception()
        if error is None:
            outcomes, shown = result.result()
        else:
            outcomes, shown = [_not_stored()] * len(batch), {}
        try:
            for draft, outcome in zip(batch, outcomes, strict=True):
                draft.done(outcome)
            for room, events in shown.items():
                self.on_events(room, events)
        finally:  # a fault of one listener must not be the end of all commits
            self._note_storing(error)
            if self._asked:
                self._commit_next()
            else:
                self._commit_due = False
                self._idle.set()
        if error is not None and not isinstance(error, sqlite3.Error):
            raise error

    def _store(self, batch: list[Draft]) -> Stored:
        """One transaction for the whole batch; on the writer thread."""
        while len(self._tails) > _TAILS:  # never within a batch: its events are not in the file yet
            del self._tails[next(iter(self._tails))]
        now = time.time_ns() // 1_000_000
        shown: dict[str, list[Event]] = {}
        rows: list[tuple[object, ...]] = []
        with _commit_seconds.time(), self._transaction({draft.room for draft in batch}):
            outcomes = [self._place(draft, now, shown, rows) for draft in batch]
            self._writer.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        _stored.inc(len(rows))
        return outcomes, shown

    def _place(
        self, draft: Draft, now: int, shown: dict[str, list[Event]], rows: list[tuple[object, ...]]
    ) -> int | ProtocolError:
        """Give a draft its seq: the first one if it was stored before, else the next."""
        tail = self._tail(draft.room)
        if draft.client_id and (first := tail.first_seq_of(draft)):
            return first
        if draft.reply_to is not None and not self._is_message_here(tail, draft.reply_to, shown.get(draft.room, [])):
            return ProtocolError("not_found", "The message you reply to is not in this room.")
        tail.seq += 1
        tail.at = max(tail.at, now)
        if not tail.epoch_recorded:
            self._record_epoch(tail)
        message = Message(tail.seq, tail.at, draft.by, draft.text, UNSET if draft.reply_to is None else draft.reply_to)
        body = encode(message)
        shown.setdefault(draft.room, []).append(Event(tail.seq, tail.at, body))
        rows.append((tail.room, tail.seq, tail.at, "message", draft.by.id, draft.client_id, body))
        if draft.client_id:
            tail.remember(draft.by.id, draft.client_id, tail.seq, tail.at)
        return tail.seq

    def _is_message_here(self, tail: _Tail, seq: int, placed: list[Event]) -> bool:
        if placed and seq >= placed[0].seq:
            return seq <= tail.seq
        return _is_message(self._writer, tail.room, seq)

    def _record_epoch(self, tail: _Tail) -> None:
        self._writer.execute(
            "INSERT INTO epoch_starts VALUES (?, ?, ?)", (tail.room, self.epochs[self.epoch], tail.seq)
        )
        tail.epoch_recorded = True

    def _tail(self, name: str) -> _Tail:
        tail = self._tails.get(name)
        if tail is None:
            tail = self._tails[name] = self._read_tail(name)
        return tail

    def _read_tail(self, name: str) -> _Tail:
        db = self._writer
        db.execute("INSERT OR IGNORE INTO rooms (name) VALUES (?)", (name,))
        room = _room(db, name)
        assert room is not None
        seq, at = db.execute(
            "SELECT seq, at FROM events WHERE room = ? ORDER BY seq DESC LIMIT 1", (room,)
        ).fetchone() or (0, 0)
        recorded = "SELECT 1 FROM epoch_starts WHERE room = ? AND epoch = ?"
        tail = _Tail(room, seq, at, db.execute(recorded, (room, self.epochs[self.epoch])).fetchone() is not None)
        tail.remembered_from = time.time_ns() // 1_000_000
        first = _first_seq_since(db, room, tail.remembered_from - _REMEMBERED_MS)
        said = "SELECT person, client_id, seq FROM events WHERE room = ? AND seq >= ? AND client_id IS NOT NULL"
        tail.remembered = {(person, client_id): seq for person, client_id, seq in db.execute(said, (room, first))}
        return tail

    # Whether it can store

    def _note_storing(self, error: BaseException | None) -> None:
        """Tell the rooms when storing begins or ceases to fail; while it fails, try again by itself."""
        _commits.labels("failed" if error else "stored").inc()
        if self._closing:
            return
        storing = error is None
        if storing:
            self._stored_s = asyncio.get_running_loop().time()
        if storing != self.storing:
            self.storing = storing
            self.on_storing(storing)
        if not storing and self._retry is None and not self._closing:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._probe_again)

    def _probe_again(self) -> None:
        self._retry = None
        self._write(self._store_probe, None, lambda result: self._note_storing(result.exception()))

    async def probe(self) -> None:
        if self.storing and asyncio.get_running_loop().time() - self._stored_s < _PROBE_LASTS_S:
            return
        # Whoever asks meanwhile shares the answer, so that asking often costs one write at a time.
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._probe())
            self._probing.add_done_callback(self._probed)
        await asyncio.shield(self._probing)

    async def _probe(self) -> None:
        try:
            await self._ask(self._writer_thread, self._store_probe, None)
        except sqlite3.Error as error:
            self._note_storing(error)
            raise OSError(f"the log cannot store: {error}") from error
        self._note_storing(None)

    def _probed(self, probing: "asyncio.Future[None]") -> None:
        self._probing = None
        if not probing.cancelled():
            probing.exception()  # whoever asked may be gone by now

    def _store_probe(self, _: None) -> None:
        """Store as much as a batch of messages would, and take it away again."""
        with self._transaction(()):
            self._writer.execute("INSERT INTO probes VALUES (randomblob(?))", (_PROBE_BYTES,))
            self._writer.execute("DELETE FROM probes")

    # Reading

    async def open_room(self, room: str, recent: int) -> Opening:
        return await self._read(_open_room, room, recent)

    async def before(self, room: str, seq: int | None, limit: int) -> Slice:
        return await self._read(_before, room, seq, limit)

    async def after(self, room: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
        return await self._read(_after, room, seq, limit, max_bytes)

    async def around(self, room: str, seq: int, limit: int) -> Slice:
        return await self._read(_around, room, seq, limit)

    async def since(self, room: str, at: int, limit: int) -> Slice:
        return await self._read(_since, room, at, limit)

    async def bytes_after(self, room: str, seq: int) -> int:
        return await self._read(_bytes_after, room, seq)

    async def head(self, room: str) -> int:
        return await self._read(_head, room)

    # Rewriting

    async def rewrite(self, room: str, event: Event) -> None:
        try:
            await self._ask(self._writer_thread, self._rewrite, room, event)
        except sqlite3.Error as error:
            raise _not_stored() from error

    def _rewrite(self, room: str, event: Event) -> None:
        update = (
            "UPDATE events SET body = ? WHERE room = (SELECT room FROM rooms WHERE name = ?) AND seq = ? AND at = ?"
        )
        with self._transaction(()):
            if not self._writer.execute(update, (event.body, room, event.seq, event.at)).rowcount:
                raise ProtocolError("not_found", "There is no such event in this room.")

    # Threads

    async def settled(self) -> None:
        await self._idle.wait()

    async def close(self) -> None:
        self._closing = True
        await self.settled()
        if self._retry is not None:
            self._retry.cancel()
        if self._reader_thread is not self._writer_thread:
            self._reader_thread.shutdown(wait=False, cancel_futures=True)  # whoever waited for a reading is gone
        await self._ask(self._writer_thread, self._close_connections)
        self._writer_thread.shutdown(wait=False)
        if self._lock is not None:
            os.close(self._lock)

    def _close_connections(self) -> None:
        if self._reader_thread is not self._writer_thread:
            self._reader_thread.shutdown()  # what is being read ends first
        self._reader.close()
        self._writer.close()

    def _write(
        self, work: Callable[[Argument], Result], argument: Argument, then: "Callable[[Future[Result]], None]"
    ) -> None:
        """Run on the writer thread, then call back on the loop."""
        loop = asyncio.get_running_loop()
        self._writer_thread.submit(work, argument).add_done_callback(
            lambda result: loop.call_soon_threadsafe(then, result)
        )

    async def _read(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await self._ask(self._reader_thread, work, self._reader, *arguments)

    @staticmethod
    async def _ask(thread: ThreadPoolExecutor, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)

    @contextlib.contextmanager
    def _transaction(self, rooms: Iterable[str]) -> Iterator[None]:
        """Commit what the block does, or undo it; the kept ends of `rooms` are read anew after a failure."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            for room in rooms:
                self._tails.pop(room, None)
            if self._writer.in_transaction:  # SQLite has undone it by itself where the disk failed
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            raise


def _not_stored() -> ProtocolError:
    return ProtocolError("not_stored", "The message could not be stored and was not shown; try again in a moment.")


# Opening


def _locked(path: str) -> int:
    """Hold the lock file beside the database for as long as this process lives."""
    try:
        lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LogRefused(
            f"The folder of {path} cannot be written ({error.strerror}): name a file in another one with --database."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise LogRefused(
            f"The database {path} is in use by another server: stop that one, or name another file with --database."
        ) from None
    return lock


def _opened(path: str) -> sqlite3.Connection:
    """The writer's connection, after the file was found fit."""
    if path != ":memory:" and os.path.exists(path) and os.path.getsize(path):
        _check_pages(path)
    db = _connected(path)
    try:
        _migrate(db, path)
        # Only now: until the first commit the header must not wait in a WAL, where _check_header cannot see it.
        db.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        db.close()  # which also undoes a step that failed half-way
        raise
    return db


def _refuse_foreign(path: str) -> None:
    if os.path.exists(path) and os.path.getsize(path):
        _check_header(path)


def _check_header(path: str) -> None:
    """Refuse a file that is not ours, by its first bytes alone: SQLite would already write beside it."""
    try:
        header = _first_bytes(path)
    except OSError as error:
        raise LogRefused(
            f"The database {path} cannot be read ({error.strerror}): name another file with --database."
        ) from None
    kept = "it was left as it is; name another file with --database"
    if len(header) < 100 or header[:16] != b"SQLite format 3\0":
        raise LogRefused(f"{path} is not a database of this server, or its beginning is damaged: {kept}.")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise LogRefused(f"{path} is a database of another program: {kept}.")
    if int.from_bytes(header[60:64], "big") > SCHEMA_VERSION:
        raise _newer(path)
    page_bytes = int.from_bytes(header[16:18], "big") or 1
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    wal = path + "-wal"
    if os.path.getsize(path) < page_bytes * int.from_bytes(header[28:32], "big") and not (
        os.path.exists(wal) and os.path.getsize(wal)
    ):
        raise LogRefused(
            f"{path} is damaged (its end is missing): restore a backup, or name another file with --database."
        )


def _newer(path: str) -> LogRefused:
    return LogRefused(
        f"{path} was written by a newer version of this server: use that one, or name another file with --database."
    )


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(100)


def _check_pages(path: str) -> None:
    """Refuse a damaged file before anything writes to it; a large one is checked as it is read."""
    is_unfinished = os.path.exists(path + "-journal")  # killed in its very first commit: SQLite will undo it
    if is_unfinished or os.path.getsize(path) > _CHECKED_WHOLE_BYTES:
        return
    with contextlib.closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as db:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _connected(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 67108864")
    return db


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring the file to this version's schema, one transaction a step."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:  # the header may have looked older: the mark was still in the WAL
        raise _newer(path)
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        db.executescript(f"BEGIN IMMEDIATE; {step} {marks} COMMIT;")


def _open_epoch(db: sqlite3.Connection) -> tuple[str, dict[str, int]]:
    word = secrets.token_urlsafe(9)
    db.execute("INSERT INTO epochs (word) VALUES (?)", (word,))
    return word, dict(db.execute("SELECT word, epoch FROM epochs"))


def _advice(what: str) -> str:
    if "full" in what:
        return "make room on the disk"
    if "unable to open" in what or "readonly" in what:
        return "make its folder writable, or name another file with --database"
    return "restore a backup, or name another file with --database"


# Reading; on the reader thread


def _room(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT room FROM rooms WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _head(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT max(seq) FROM events WHERE room = ?", (_room(db, name),)).fetchone()
    return int(row[0] or 0)


def _open_room(db: sqlite3.Connection, name: str, recent: int) -> Opening:
    events = _before(db, name, None, recent).events
    starts = db.execute("SELECT epoch, first_seq FROM epoch_starts WHERE room = ? ORDER BY epoch", (_room(db, name),))
    return Opening(events[-1].seq if events else 0, events, [EpochStart(*row) for row in starts])


def _before(db: sqlite3.Connection, name: str, seq: int | None, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
    bound = _head(db, name) + 1 if seq is None else seq
    rows = "SELECT seq, at, body FROM events WHERE room = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
    events = _up_to(db.execute(rows, (_room(db, name), bound, limit)), max_bytes)[::-1]
    return _slice(db, name, events, bound, bound - 1)


def _after(db: sqlite3.Connection, name: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
    rows = "SELECT seq, at, body FROM events WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?"
    events = _up_to(db.execute(rows, (_room(db, name), seq, limit)), max_bytes)
    return _slice(db, name, events, seq + 1, seq)


def _around(db: sqlite3.Connection, name: str, seq: int, limit: int) -> Slice:
    if not _is_message(db, _room(db, name), seq):
        raise ProtocolError("not_found", "There is no such message in this room.")
    earlier = _before(db, name, seq, (limit - 1) // 2, MAX_PAGE_BYTES // 2).events if limit > 2 else []
    later = _after(db, name, seq - 1, limit - len(earlier), MAX_PAGE_BYTES // 2).events
    return _slice(db, name, earlier + later, seq, seq)


def _since(db: sqlite3.Connection, name: str, at: int, limit: int) -> Slice:
    return _after(db, name, _first_seq_since(db, _room(db, name), at) - 1, limit)


def _bytes_after(db: sqlite3.Connection, name: str, seq: int) -> int:
    row = db.execute(
        "SELECT sum(length(body)) FROM events WHERE room = ? AND seq > ?", (_room(db, name), seq)
    ).fetchone()
    return int(row[0] or 0)


def _is_message(db: sqlite3.Connection, room: int | None, seq: int) -> bool:
    row = db.execute("SELECT type FROM events WHERE room = ? AND seq = ?", (room, seq)).fetchone()
    return row is not None and row[0] == "message"


def _first_seq_since(db: sqlite3.Connection, room: int | None, at: int) -> int:
    """The first seq at or after a time, by halving: `at` never goes back within a room."""
    low, high = db.execute(
        "SELECT ifnull(min(seq), 1), ifnull(max(seq), 0) + 1 FROM events WHERE room = ?", (room,)
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        row = db.execute(
            "SELECT at FROM events WHERE room = ? AND seq >= ? ORDER BY seq LIMIT 1", (room, middle)
        ).fetchone()
        low, high = (middle + 1, high) if row[0] < at else (low, middle)
    return int(low)


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


def _slice(db: sqlite3.Connection, name: str, events: list[Event], low: int, high: int) -> Slice:
    """Add what lies on either side of the events; without any, of the bounds `low` and `high`."""
    if events:
        low, high = events[0].seq, events[-1].seq
    room = _room(db, name)
    more_before = db.execute("SELECT 1 FROM events WHERE room = ? AND seq < ? LIMIT 1", (room, low)).fetchone()
    more_after = db.execute("SELECT 1 FROM events WHERE room = ? AND seq > ? LIMIT 1", (room, high)).fetchone()
    return Slice(events, more_before is not None, more_after is not None)
