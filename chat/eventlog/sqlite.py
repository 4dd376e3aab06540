"""The event log on SQLite: one file, one writer thread, one reader thread.

Everything that is asked while a commit runs goes into the next one: load itself makes the
batches, no timer does. The writer's connection is used on the writer thread only, the reader's
on the reader thread only; the public methods are for the loop. Invariants: WAL with
synchronous=FULL, so that what a commit returned survives a power cut; seqs are given inside the
transaction; a reading that began before a commit rewrote its room is not answered after it.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from chat.eventlog import (
    BATCH_DRAFTS,
    Change,
    Draft,
    News,
    Opening,
    Slice,
    commit_seconds,
    commits,
    not_stored,
    reading,
    stored_events,
)
from chat.eventlog.changing import change
from chat.eventlog.clearing import Clearing, Keeping, trim
from chat.eventlog.opening import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, let_go, take, transaction
from chat.eventlog.placing import Batch, Placing
from chat.eventlog.readings import Readings
from chat.protocol import MAX_PAGE_BYTES, Event, HeldMessage, ProtocolError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SCHEMA_VERSION", "SqliteLog"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Outcome = int | ProtocolError
Asked = Draft | Change | Keeping

_PROBE_BYTES = 64 * 1024  # about what a batch of messages takes
_PROBE_LASTS_S = 1.0  # what was stored so recently proves that storing works
_RETRY_S = 1.0  # between two attempts while it does not
_READ_AGAIN = 3  # times, before a reading is done where no commit can come between


class Stored(NamedTuple):
    """An answer for each that asked, and what their transaction did."""

    outcomes: list[Outcome]
    batch: Batch


class SqliteLog:
    """The promise of `EventLog`, kept by one SQLite file; `:memory:` keeps nothing."""

    def __init__(self, path: str) -> None:
        """Open the file, or make it; raises LogRefused."""
        self.storing = True
        self.on_events: Callable[[str, list[Event], dict[int, bytes]], None] = lambda room, events, changed: None
        self.on_storing: Callable[[bool], None] = lambda storing: None
        self.on_news: Callable[[str, News], None] = lambda room, news: None
        self.on_telling: Callable[[str, bytes], None] = lambda room, payload: None
        self.on_server_telling: Callable[[bytes], None] = lambda payload: None
        self.on_following: Callable[[str], None] = lambda room: None
        self.on_server_gone: Callable[[str], None] = lambda server: None
        self.server = ""  # nobody shares it
        self.on_epoch: Callable[[str, Opening], None] = lambda room, opening: None
        self.on_lost: Callable[[str], None] = lambda room: None
        self._asked: list[Asked] = []
        self._commit_due = False
        self._closing = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._retry: asyncio.TimerHandle | None = None
        self._stored_s = -_PROBE_LASTS_S
        self._probing: asyncio.Future[None] | None = None
        self._readings = Readings()
        self._taken = take(path)
        self.place = "none: nothing is kept" if path == ":memory:" else os.path.abspath(path)
        self._writer, self._reader = self._taken.writer, self._taken.reader
        self.epoch, self.epochs = self._taken.epoch, self._taken.epochs
        self._placing = Placing(self._writer, self.epochs[self.epoch])
        self._writer_thread = ThreadPoolExecutor(1, "chatroom-writer")
        is_one = self._reader is self._writer
        self._reader_thread = self._writer_thread if is_one else ThreadPoolExecutor(1, "chatroom-reader")
        self._clearing = Clearing(self._taken, self._write)

    # Appending

    def append(self, asked: Asked) -> None:
        self._asked.append(asked)
        if not self._commit_due:
            self._commit_due = True
            self._idle.clear()
            # Not at once: what else has arrived in this turn of the loop shares the commit.
            asyncio.get_running_loop().call_soon(self._commit_next)

    def _commit_next(self) -> None:
        asked, self._asked = self._asked[:BATCH_DRAFTS], self._asked[BATCH_DRAFTS:]
        self._write(self._store, asked, lambda result: self._committed(asked, result))

    def _committed(self, asked: list[Asked], result: "Future[Stored]") -> None:
        """Answer those who asked, then show the events; back on the loop."""
        error = result.exception()
        if error is None:
            outcomes, batch = result.result()
        else:
            outcomes, batch = [not_stored()] * len(asked), Batch(0)
        for room in batch.rewritten:
            self._readings.outdate(room)
        try:
            for each, outcome in zip(asked, outcomes, strict=True):
                each.done(outcome)
            for room in batch.shown | batch.changed:
                self.on_events(room, batch.shown.get(room, []), batch.changed.get(room, {}))
        finally:  # a fault of one listener must not be the end of all commits
            self._note_storing(error)
            if self._asked:
                self._commit_next()
            else:
                self._commit_due = False
                self._idle.set()
            self._clearing.note(batch.is_removing, *batch.trimmed)
        if error is not None and not isinstance(error, sqlite3.Error):
            raise error

    def _store(self, asked: list[Asked]) -> Stored:
        """One transaction for the whole batch; on the writer thread."""
        placing = self._placing
        placing.begin()
        try:
            with commit_seconds.time(), transaction(self._writer):
                outcomes = [self._outcome(each) for each in asked]
                placing.flush()
        except BaseException:
            placing.forget({each.room for each in asked})
            raise
        stored_events.inc(sum(len(events) for events in placing.batch.shown.values()))
        return Stored(outcomes, placing.batch)

    def _outcome(self, asked: Asked) -> Outcome:
        try:
            if isinstance(asked, Draft):
                return self._placing.place(asked)
            return trim(self._placing, asked) if isinstance(asked, Keeping) else change(self._placing, asked)
        except ProtocolError as refusal:
            return refusal.with_traceback(None)

    async def keep(self, room: str, since_ms: int, events: int) -> None:
        self._clearing.note()  # of what an earlier start left
        if not await self._read(reading.has_too_many, room, since_ms, events):
            return
        kept: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.append(Keeping(room, since_ms, events, lambda outcome: None if kept.done() else kept.set_result(outcome)))
        outcome = await kept
        if isinstance(outcome, ProtocolError):
            raise outcome

    # Whether it can store

    def _note_storing(self, error: BaseException | None) -> None:
        """Tell the rooms when storing begins or ceases to fail; while it fails, try again by itself."""
        commits.labels("failed" if error else "stored").inc()
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
        with transaction(self._writer):
            self._writer.execute("INSERT INTO probes VALUES (randomblob(?))", (_PROBE_BYTES,))
            self._writer.execute("DELETE FROM probes")

    # Reading

    async def open_room(self, room: str, recent: int) -> Opening:
        return await self._read_room(reading.open_room, room, recent)

    def tell(self, room: str, payload: bytes) -> None:
        """There is nobody to tell."""

    def tell_servers(self, payload: bytes) -> None:
        """There are none."""

    def close_room(self, room: str) -> None:
        """Of one process: it is told of all that it stores."""

    async def before(self, room: str, seq: int | None, limit: int) -> Slice:
        return await self._read_room(reading.before, room, seq, limit)

    async def after(self, room: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
        return await self._read_room(reading.after, room, seq, limit, max_bytes)

    async def around(self, room: str, seq: int, limit: int) -> Slice:
        return await self._read_room(reading.around, room, seq, limit)

    async def since(self, room: str, at: int, limit: int) -> Slice:
        return await self._read_room(reading.since, room, at, limit)

    async def bytes_after(self, room: str, seq: int) -> int:
        return await self._read(reading.bytes_after, room, seq)

    async def head(self, room: str) -> int:
        return await self._read(reading.head, room)

    async def said_by(self, room: str, person: str, before: int | None, limit: int) -> Slice:
        return await self._read_room(reading.said_by, room, person, before, limit)

    async def spoke_before(self, room: str, people: list[str], at: int) -> set[str]:
        return await self._read(reading.spoke_before, room, people, at)

    async def name_of(self, room: str, person: str) -> str | None:
        return await self._read(reading.name_of, room, person)

    async def acts(self, room: str, before: int | None, limit: int, person: str | None) -> tuple[list[bytes], bool]:
        return await self._read(reading.acts, room, before, limit, person)

    async def held(self, room: str) -> list[HeldMessage]:
        return await self._read_room(reading.held, room)

    async def held_message(self, room: str, id: int) -> tuple[HeldMessage, str | None]:
        return await self._read_room(reading.held_message, room, id)

    async def held_count(self, room: str) -> int:
        return await self._read(reading.held_count, room)

    async def names(self, *, limited: bool = False) -> list[str]:
        return await self._read(reading.limited_names if limited else reading.names)

    async def _read_room(self, read: Callable[..., Result], room: str, *arguments: object) -> Result:
        """Read what may be rewritten meanwhile: what was removed is answered to nobody from its commit on."""

        async def attempt(tries: int) -> Result:
            if tries < _READ_AGAIN:
                return await self._read(read, room, *arguments)
            # A room that changes all the time.
            return await self._ask(self._writer_thread, reading.at_once, self._writer, read, room, *arguments)

        return await self._readings.fresh(room, attempt)

    # Threads

    async def settled(self) -> None:
        await self._idle.wait()
        await self._clearing.done()

    async def close(self) -> None:
        self._closing = True
        await self._idle.wait()
        self._clearing.stop()
        if self._retry is not None:
            self._retry.cancel()
        if self._reader_thread is not self._writer_thread:
            self._reader_thread.shutdown(wait=False, cancel_futures=True)  # whoever waited for a reading is gone
        await self._ask(self._writer_thread, self._close_connections)
        self._writer_thread.shutdown(wait=False)

    def _close_connections(self) -> None:
        if self._reader_thread is not self._writer_thread:
            self._reader_thread.shutdown()  # what is being read ends first
        let_go(self._taken)

    def _write(
        self, work: Callable[[Argument], Result], argument: Argument, then: "Callable[[Future[Result]], None]"
    ) -> None:
        """Run on the writer thread, then call back on the loop."""
        loop = asyncio.get_running_loop()
        self._writer_thread.submit(work, argument).add_done_callback(
            lambda result: loop.call_soon_threadsafe(then, result)
        )

    async def _read(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await self._ask(self._reader_thread, reading.at_once, self._reader, work, *arguments)

    @staticmethod
    async def _ask(thread: ThreadPoolExecutor, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
