"""How a room lets go of its oldest events, and what becomes of the disk they were on."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from chat.eventlog import Slice, clearing
from chat.eventlog.redis import RedisLog
from chat.protocol import Acted, ProtocolError, Record, Removed, Rules, Trimmed, encode
from tests.book import (
    ANN,
    BOB,
    Book,
    Clock,
    MakeLog,
    deleting,
    editing,
    image,
    on_a_loop,
    purging,
    query,
    reacting,
    seqs,
    size_of,
)
from tests.house import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chatroom.db"


async def kept(book: Book, room: str = "room") -> list[int]:
    return seqs((await book.log.after(room, 0, 100_000, 1 << 40)).events)


@on_a_loop
async def test_rooms_whose_rules_limit_what_is_kept_are_known(make_log: MakeLog) -> None:
    """By one query; other rules limit nothing."""
    async with make_log() as book:
        for room, rules in (("a", Rules(5)), ("b", Rules(keep_s=9)), ("c", Rules(keep_events=9)), ("d", Rules())):
            await book.act(room=room, entries={"rules": encode(rules), "filter": b"[]"})
        await book.say(room="e")
        assert await book.log.names(limited=True) == ["b", "c"]
        assert await book.log.names() == list("abcde")


async def keep(book: Book, since_ms: int = 0, events: int = 0, room: str = "room") -> None:
    await book.log.keep(room, since_ms, events)
    await book.log.settled()


@on_a_loop
async def test_a_room_keeps_its_newest_events(make_log: MakeLog) -> None:
    """So many of them, and one that tells from where on; at once, for everybody who reads, and over restarts."""
    async with make_log() as book:
        await book.fill(20)
        await book.fill(3, room="other")
        await book.log.keep("room", 0, 5)
        told = book.shown["room"][-1]
        assert told.body == encode(Trimmed(21, told.at, 16))
        assert await kept(book) == [16, 17, 18, 19, 20, 21]
        assert await kept(book, "other") == [1, 2, 3]
        await book.log.settled()
    async with make_log() as book:
        assert await kept(book) == [16, 17, 18, 19, 20, 21]
        assert (await book.log.open_room("room", 2)).first == 16
        assert await book.say() == 22


@on_a_loop
async def test_reading_ends_where_a_room_begins(make_log: MakeLog, clock: Clock) -> None:
    """Whatever is asked for, nothing below is found or told to be there, before and after its rows are gone."""
    async with make_log() as book:
        for _ in range(20):
            clock.now_ms += 1000
            await book.say()
        log, start = book.log, clock.now_ms - 19_000
        size = len(book.shown["room"][18].body)
        with stopped(book):
            await log.keep("room", 0, 5)
            answers = await _answers(log, start)
        await log.settled()
        assert answers == await _answers(log, start)
        for found in answers[:8]:
            assert (seqs(found.events)[:1], found.more_before) == ([16], False)
        assert answers[8:11] == [Slice([], False, True)] * 3
        assert answers[11] == 5 * size + len(book.shown["room"][-1].body)
        for seq in (1, 15):
            with pytest.raises(ProtocolError):
                await log.around("room", seq, 5)
            assert await book.say(reply_to=seq) == "not_found"
            assert [await book.act(*act) for act in (deleting(seq), editing(seq, "x"), reacting(seq))] == [
                "not_found"
            ] * 3
        assert (await log.said_by("room", ANN.id, None, 50)).events[0].seq == 16
        assert await log.spoke_before("room", [ANN.id], start + 14_001) == set()


async def _answers(log: Any, start: int) -> list[Any]:
    return [
        await log.before("room", None, 50),
        await log.before("room", 18, 50),
        await log.after("room", 0, 50),
        await log.after("room", 3, 2),
        await log.around("room", 16, 50),
        await log.since("room", 0, 2),
        await log.since("room", start + 3000, 2),
        await log.said_by("room", ANN.id, None, 50),
        await log.before("room", 16, 50),
        await log.before("room", 2, 50),
        await log.before("room", 0, 50),
        await log.bytes_after("room", 4),
        (await log.open_room("room", 50)).recent,
    ]


@contextlib.contextmanager
def stopped(book: Book) -> Iterator[None]:
    """Nothing is cleared meanwhile."""
    if isinstance(book.log, RedisLog):
        with patch.object(book.log, "_clear"):
            yield
        book.log._clear("room", 1)
        return
    with patch.object(book.log._clearing, "_go_on"):
        yield


@on_a_loop
async def test_a_room_keeps_what_is_young(make_log: MakeLog, clock: Clock) -> None:
    """From a moment on, to the millisecond; with a number of events, too, the shorter of the two."""
    async with make_log() as book:
        start = clock.now_ms
        for _ in range(10):
            clock.now_ms += 10
            await book.say()
        await keep(book, start + 10)
        assert await kept(book) == list(range(1, 11))
        await keep(book, start + 11)
        assert await kept(book) == list(range(2, 12))
        await keep(book, start + 31, 9)
        assert await kept(book) == list(range(4, 13))
        await keep(book, start + 41, 3)
        assert await kept(book) == [8, 9, 10, 11, 12, 13]
        await keep(book, start, 1000)
        assert await kept(book) == [8, 9, 10, 11, 12, 13]


@on_a_loop
async def test_a_trim_brings_no_other(make_log: MakeLog) -> None:
    """It is not counted: the room stays as it is, however often it is looked at, and takes one message for one."""
    async with make_log() as book:
        await book.fill(10)
        for _ in range(5):
            await keep(book, events=4)
            assert await kept(book) == [7, 8, 9, 10, 11]
        await book.say()
        for _ in range(5):
            await keep(book, events=4)
            assert await kept(book) == [8, 9, 10, 11, 12, 13]


@on_a_loop
async def test_what_nobody_misses_goes_without_a_word(make_log: MakeLog, clock: Clock) -> None:
    """Only the loss of a message is told; acts, tombstones and older trims go silently, down to an empty room."""
    async with make_log() as book:
        await book.say()
        await book.act(*deleting(1))
        await book.act(None, Acted(0, 0, "kick", BOB, ANN))
        clock.now_ms += 1000
        await keep(book, clock.now_ms)
        assert await kept(book) == []
        opening = await book.log.open_room("room", 50)
        assert (opening.head, opening.first, opening.recent) == (3, 4, [])
        for found in (await book.log.before("room", None, 9), await book.log.since("room", 0, 9)):
            assert found == Slice([], False, False)
        assert len(book.shown["room"]) == 3
    async with make_log() as book:
        assert (await book.log.open_room("room", 50)).first == 4
        assert await book.say() == 4
        assert await kept(book) == [4]
        clock.now_ms += 1000
        await keep(book, clock.now_ms)
        assert await kept(book) == [5]


@on_a_loop
async def test_an_edit_goes_with_its_message(make_log: MakeLog, clock: Clock) -> None:
    """Though it was younger: its text would still be there."""
    async with make_log() as book:
        await book.say("one")
        await book.say("two")
        clock.now_ms += 1000
        await book.act(*editing(1, "secret"))
        await book.act(*editing(2, "secret"))
        await book.say("kept", client_id="k")
        await book.act(*editing(5, "kept on"))
        await keep(book, clock.now_ms)
        stored = (await book.log.after("room", 0, 9)).events
        gone = [encode(Removed(seq, clock.now_ms)) for seq in (3, 4)]
        assert [event.body for event in stored[:2]] == gone
        assert b"kept on" in stored[3].body
        assert [book.changed["room"][seq] for seq in (3, 4)] == gone


@on_a_loop
async def test_acts_and_held_messages_stay_and_reactions_go(make_sqlite: MakeLog, path: Path) -> None:
    """What is for moderators is not the room's talk."""
    async with make_sqlite() as book:
        await book.fill(5)
        for seq in (1, 5):
            await book.act(*reacting(seq, by=BOB))
        await book.act(record=Record("kick", BOB))
        await book.say("hmm", hold_for="word")
        await keep(book, events=3)
        assert len((await book.log.acts("room", None, 9, None))[0]) == 1
        assert len(await book.log.held("room")) == 1
        assert query(path, "SELECT seq FROM reactions") == [(5,)]
        assert (await book.log.open_room("room", 1)).entries == {}


@on_a_loop
async def test_keeping_what_is_not_there_does_nothing(make_sqlite: MakeLog, path: Path) -> None:
    """An unused room is not made; a room that is short enough costs no commit."""
    async with make_sqlite() as book:
        await book.fill(5)
        told = len(book.told)
        for room, since_ms, events in (("unused", 1, 1), ("room", 0, 0), ("room", 1, 5), ("room", 0, 2**53)):
            await keep(book, since_ms, events, room)
        assert len(book.told) == told
        assert query(path, "SELECT name FROM rooms") == [("room",)]


@on_a_loop
async def test_a_full_disk_keeps_everything(make_sqlite: MakeLog) -> None:
    """`not_stored` is raised, and the room is as it was."""
    async with make_sqlite() as book:
        await book.fill(50, "x" * 300)

        # A trim alone would find room for itself in the pages there are.
        trigger = "CREATE TRIGGER heavy BEFORE UPDATE ON rooms BEGIN INSERT INTO probes VALUES (zeroblob(99999)); END"
        await book.sql(trigger)
        await book.limit_growth(0)
        with pytest.raises(ProtocolError) as failed:
            await book.log.keep("room", 0, 5)
        assert failed.value.code == "not_stored"
        assert len(await kept(book)) == 50
        await book.limit_growth(1000)
        await keep(book, events=5)
        assert len(await kept(book)) == 6


# The disk


@on_a_loop
async def test_the_file_shrinks(make_sqlite: MakeLog, path: Path) -> None:
    """What is let go of is given back, and the rest is whole."""
    async with make_sqlite() as book:
        await book.fill(4000, "x" * 1000)
        await book.act(*editing(1, "y" * 4000))
        assert size_of(path) > 4_000_000
        await keep(book, events=100)
        assert size_of(path) < 800_000
        assert size_of(path, "-wal") == 0
        assert query(path, "PRAGMA freelist_count") == [(0,)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        assert len(await kept(book)) == 101
        assert query(path, "SELECT count(*) FROM events") == [(101,)]


@on_a_loop
async def test_other_commits_go_between_the_steps(make_sqlite: MakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """While 10,000 events go, people talk on: no step is longer than 500 rows."""
    steps = []
    free = clearing._free

    def counted(db: sqlite3.Connection, room: int) -> bool:
        before = db.total_changes
        is_done = free(db, room)
        steps.append(db.total_changes - before)
        return is_done

    monkeypatch.setattr(clearing, "_free", counted)
    async with make_sqlite() as book:
        await book.fill(10_000)
        await book.log.keep("room", 0, 10)
        said_at = []
        while len(steps) < 15:
            await book.ask()
            said_at.append(len(steps))
        await book.log.settled()
        assert max(steps) <= 500 and sum(steps) == 9990
        assert len(set(said_at)) > 5


@on_a_loop
async def test_what_was_left_by_a_kill_goes_with_the_next_start(make_sqlite: MakeLog, path: Path) -> None:
    """The rows below a room's first seq, once anything is asked of the log."""
    async with make_sqlite() as book:
        await book.fill(3000)
        with stopped(book):
            await book.log.keep("room", 0, 10)
            copy = image(path, "killed.db")
        assert query(copy, "SELECT count(*) FROM events")[0][0] == 3001
    async with make_sqlite(copy.name) as book:
        assert (await kept(book))[0] == 2991
        await book.say()
        await until(lambda: query(copy, "SELECT count(*) FROM events") == [(12,)])
        await book.log.settled()


@on_a_loop
async def test_a_reading_over_a_trim_is_done_again(make_log: MakeLog) -> None:
    """It does not answer with what the room has let go of."""
    async with make_log() as book:
        await book.fill(10)
        gate = asyncio.ensure_future(book.log.after("room", 0, 50))
        await asyncio.gather(book.log.keep("room", 0, 5), gate)
        assert seqs((await book.log.after("room", 0, 50)).events)[0] == 6
        await book.act(*purging(ANN))
        await keep(book, events=1)
        assert await kept(book) == [12]
