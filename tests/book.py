"""What the tests of the event log share: an open log with all that it told, a clock, files as a kill leaves them."""

import asyncio
import contextlib
import functools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from chat.eventlog import (
    ActEvent,
    Change,
    Done,
    Draft,
    Editing,
    EventLog,
    Purging,
    Reacting,
    Removing,
    Work,
    is_ours,
)
from chat.eventlog.sqlite import SqliteLog
from chat.protocol import REACTIONS, Deleted, Edited, Event, Person, ProtocolError, Purged, Reacted
from tests.support import DEADLINE_S

ANN, BOB = Person("a" * 16, "Ann"), Person("b" * 16, "Bob")
HOUR_MS = 3600 * 1000

Outcome = int | ProtocolError


class Book:
    """An open log, with all that it told in the order in which it told it."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.told: list[Any] = []
        self.shown: dict[str, list[Event]] = {}
        self.changed: dict[str, dict[int, bytes]] = {}
        self.look: Callable[[], Any] = lambda: None  # is asked whenever events are shown
        self.looks: list[Any] = []
        log.on_events = self._on_events
        log.on_storing = lambda storing: self.told.append(("storing", storing))

    def _on_events(self, room: str, events: list[Event], changed: dict[int, bytes]) -> None:
        self.looks.append(self.look())
        self.told.append(("events", room, [event.seq for event in events]))
        self.shown.setdefault(room, []).extend(events)
        self.changed.setdefault(room, {}).update(changed)

    def ask(
        self,
        text: str = "hello",
        *,
        room: str = "room",
        by: Person = ANN,
        client_id: str | None = None,
        reply_to: int | None = None,
        **more: Any,
    ) -> "asyncio.Future[Outcome]":
        """Ask for a message to be stored."""
        answer, done = self._answer()
        self.log.append(Draft(room, by, text, client_id, reply_to, done, **more))
        return answer

    def do(
        self,
        work: Work | None = None,
        event: ActEvent | None = None,
        *,
        room: str = "room",
        by: str = ANN.id,
        **more: Any,
    ) -> "asyncio.Future[Outcome]":
        """Ask for an act to be stored."""
        answer, done = self._answer()
        self.log.append(Change(room, by, done, event, work, **more))
        return answer

    def _answer(self) -> "tuple[asyncio.Future[Outcome], Done]":
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            self.told.append(("done", outcome if isinstance(outcome, int) else outcome.code))
            answer.set_result(outcome)

        return answer, done

    async def say(self, *text: str, **more: Any) -> Any:
        """Store a message: its seq, or the code of the refusal."""
        outcome = await self.ask(*text, **more)
        await self.log.settled()
        return outcome if isinstance(outcome, int) else outcome.code

    async def act(self, *what: Any, **more: Any) -> Any:
        """Do something: the seq of its event, or the code of the refusal."""
        outcome = await self.do(*what, **more)
        await self.log.settled()
        return outcome if isinstance(outcome, int) else outcome.code

    async def fill(self, count: int, text: str = "hello", room: str = "room") -> None:
        asked = [self.ask(text, room=room) for _ in range(count)]
        assert all(isinstance(outcome, int) for outcome in await asyncio.gather(*asked))
        await self.log.settled()

    async def sql(self, statement: str) -> list[Any]:
        """What SQLite's writer gives for it."""
        return await self.on_writer(lambda: self.log._writer.execute(statement).fetchall())

    async def on_writer(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives in the thread of SQLite's writer, the only one from which its connection is used.

        From another it may wait for ever: with the GIL for the connection, whose holder waits for the GIL.
        """
        return await asyncio.get_running_loop().run_in_executor(self.log._writer_thread, work, *arguments)

    async def limit_growth(self, more_pages: int) -> None:
        """Let the file grow by so many pages and no more."""
        ((pages,),) = await self.sql("PRAGMA page_count")
        await self.sql(f"PRAGMA max_page_count = {pages + more_pages}")

    @contextlib.asynccontextmanager
    async def traced(self) -> AsyncIterator[list[str]]:
        """The statements that the writer does in the block."""
        statements: list[str] = []
        await self.on_writer(self.log._writer.set_trace_callback, statements.append)
        yield statements
        await self.on_writer(self.log._writer.set_trace_callback, None)

    async def is_ours(self, epoch: str, after: int, room: str = "room") -> bool:
        """Whether somebody who has just come in with this past is told that it is whole."""
        opening = await self.log.open_room(room, 1)
        return is_ours(self.log.epochs, opening, self.log.epoch, opening.head, epoch, after)


# Acts, with the events that tell them


def editing(message: int, text: str, by: Person = ANN, since_ms: int = 0) -> tuple[Editing, Edited]:
    return Editing(message, by.id, text, since_ms), Edited(0, 0, by, message, text)


def deleting(message: int, whose: Person | None = None) -> tuple[Removing, Deleted]:
    return Removing(message, whose and whose.id), Deleted(0, 0, message)


def purging(whom: Person, by: Person = BOB) -> tuple[Purging, Purged]:
    return Purging(whom.id), Purged(0, 0, whom.id, by)


def reacting(message: int, kind: str = REACTIONS[0], by: Person = ANN, on: bool = True) -> tuple[Work, Reacted]:
    return [Reacting(message, kind, by, on)], Reacted(0, 0, [])


MakeLog = Callable[..., contextlib.AbstractAsyncContextManager[Book]]


@contextlib.asynccontextmanager
async def opened(folder: Path, name: str = "chatroom.db") -> AsyncIterator[Book]:
    """The log of a test, or another one by its name; closed at the end of the block."""
    log = SqliteLog(":memory:" if name == ":memory:" else str(folder / name))
    try:
        yield Book(log)
    finally:
        await log.close()


class Clock:
    """Stands for the `time` module of the log."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def time_ns(self) -> int:
        return self.now_ms * 1_000_000


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on a loop of its own, with the one deadline."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(3 * DEADLINE_S):
                await test(*arguments, **named)

        asyncio.run(limited())

    return run


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def image(path: Path, name: str) -> Path:
    """What a kill -9, or a power cut after the last commit, would leave of the log at this moment."""
    copy = path.with_name(name)
    for suffix in ("", "-wal"):
        if path.with_name(path.name + suffix).exists():
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def query(path: Path, sql: str, *arguments: Any) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        return db.execute(sql, arguments).fetchall()


def size_of(path: Path, suffix: str = "") -> int:
    """How many bytes a file, or the one beside it, has."""
    return path.with_name(path.name + suffix).stat().st_size
