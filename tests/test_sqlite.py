"""The event log's promise, and what SQLite adds to it: files that are refused, disks that are full.

`make_log` opens the engine; everything up to "The SQLite file" is asked of any engine.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from prometheus_client import REGISTRY

from chat.eventlog import EpochStart, LogRefused, Opening, Slice, is_ours, opening, placing, sqlite
from chat.eventlog.sqlite import SqliteLog
from chat.protocol import MAX_PAGE_BYTES, Message, Person, ProtocolError, decode_message
from tests.book import ANN, BOB, HOUR_MS, Book, Clock, MakeLog, Outcome, image, on_a_loop, opened, query, seqs
from tests.support import DEADLINE_S, ROOT

HEAVY = "\U0001f680" * 4000  # 16,000 bytes


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    return functools.partial(opened, tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock(1_800_000_000_000)
    monkeypatch.setattr(placing, "time", clock)
    yield clock


# Appending


@on_a_loop
async def test_seqs_are_contiguous_in_every_room(make_log: MakeLog) -> None:
    """Over many rooms, people and commits: +1 each, in the order asked, shown as answered and stored as shown."""
    dice = random.Random(1)
    rooms = [f"room {number}" for number in range(7)]
    asked: dict[str, list[asyncio.Future[Outcome]]] = {room: [] for room in rooms}
    async with make_log() as book:
        for number in range(2000):
            room = dice.choice(rooms)
            asked[room].append(book.ask(f"{room}: {number}", room=room, by=dice.choice((ANN, BOB))))
            if dice.random() < 0.05:
                await asyncio.sleep(0)
            if dice.random() < 0.01:
                await book.log.settled()
        await book.log.settled()
        for room in rooms:
            expected = list(range(1, len(asked[room]) + 1))
            assert [await answer for answer in asked[room]] == expected
            assert seqs(book.shown[room]) == expected
            stored = await book.log.after(room, 0, 5000, 1 << 30)
            assert stored.events == book.shown[room]
            assert [event.at for event in stored.events] == sorted(event.at for event in stored.events)
            assert await book.log.head(room) == len(expected)
            messages = [decode_message(event.body) for event in stored.events]
            assert [(message.seq, message.at) for message in messages] == [
                (event.seq, event.at) for event in stored.events
            ]
            numbers = [int(message.text.rpartition(" ")[2]) for message in messages]
            assert numbers == sorted(numbers)


@on_a_loop
async def test_what_was_said_is_stored_as_it_was_said(make_log: MakeLog) -> None:
    """Whatever the room is called and the text holds, over a restart, too."""
    room, text = "Robert'); DROP TABLE rooms;-- \U0001f468\u200d\U0001f469", 'a\0b "c" \\ \u2028 é \U0001f600'
    async with make_log() as book:
        assert await book.say(text, room=room, by=BOB, client_id="c") == 1
        (event,) = book.shown[room]
        assert decode_message(event.body) == Message(1, event.at, BOB, text)
    async with make_log() as book:
        assert (await book.log.before(room, None, 50)).events == [event]


@on_a_loop
async def test_speakers_are_answered_before_anything_is_shown(make_log: MakeLog) -> None:
    """Everybody of a commit has his ack before the first event of that commit, in any room."""
    async with make_log() as book:
        for room in ("one", "two", "one"):
            book.ask(room=room)
        await book.log.settled()
        assert book.told == [("done", 1), ("done", 1), ("done", 2), ("events", "one", [1, 2]), ("events", "two", [1])]


@on_a_loop
async def test_what_is_asked_in_one_turn_shares_a_commit(make_log: MakeLog) -> None:
    """However many, up to the size of a batch; whatever comes meanwhile shares the next."""

    def commits() -> float:
        return REGISTRY.get_sample_value("chatroom_commits_total", {"outcome": "stored"}) or 0.0

    async with make_log() as book:
        before = commits()
        await book.fill(1000)
        assert commits() == before + 1
        assert book.told[1000:] == [("events", "room", list(range(1, 1001)))]
        await book.fill(5000)
        assert commits() == before + 3
        first = book.ask()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        later = [book.ask() for _ in range(100)]
        await asyncio.gather(first, *later)
        await book.log.settled()
        assert commits() == before + 5


@on_a_loop
async def test_settled_returns_when_everything_is_shown(make_log: MakeLog) -> None:
    """At once if nothing was asked, else after the last event."""
    async with make_log() as book:
        await book.log.settled()
        book.ask()
        await book.log.settled()
        assert seqs(book.shown["room"]) == [1]


@on_a_loop
async def test_closing_commits_what_was_asked(make_log: MakeLog) -> None:
    """Nothing that was taken is lost when the server stops."""
    async with make_log() as book:
        asked = [book.ask() for _ in range(300)]
    assert [await answer for answer in asked] == list(range(1, 301))
    async with make_log() as book:
        assert await book.log.head("room") == 300


# Once per client_id


@on_a_loop
async def test_the_same_client_id_is_stored_once(make_log: MakeLog) -> None:
    """In the same batch, in a later one and after a restart: the first seq, nothing stored and nothing shown."""
    async with make_log() as book:
        assert [await answer for answer in [book.ask("first", client_id="c"), book.ask("other", client_id="c")]] == [
            1,
            1,
        ]
        assert await book.say("again", client_id="c") == 1
        assert await book.say("next", client_id="d") == 2
        assert seqs(book.shown["room"]) == [1, 2]
    async with make_log() as book:
        assert await book.say("again", client_id="c") == 1
        assert await book.say("again", client_id="d") == 2
        assert book.shown == {}
        assert await book.say("new", client_id="e") == 3
        assert decode_message((await book.log.after("room", 0, 1)).events[0].body).text == "first"


@on_a_loop
async def test_a_client_id_belongs_to_a_person_in_a_room(make_log: MakeLog) -> None:
    """Somebody else's, or the same in another room, is another message; without one nothing is remembered."""
    async with make_log() as book:
        assert await book.say(client_id="c") == 1
        assert await book.say(client_id="c", by=BOB) == 2
        assert await book.say(client_id="c", room="other") == 1
        assert [await book.say(), await book.say()] == [3, 4]
        assert await book.say(client_id="C") == 5
    async with make_log() as book:
        assert [await book.say(client_id="c", by=by) for by in (ANN, BOB)] == [1, 2]


@on_a_loop
async def test_a_client_id_is_remembered_for_24_hours(make_log: MakeLog, clock: Clock) -> None:
    """At any moment within 24 hours of the first seq, over restarts, too."""
    dice = random.Random(2)
    first: dict[str, tuple[int, int]] = {}
    head = 0
    for _ in range(8):
        async with make_log() as book:
            for _ in range(60):
                clock.now_ms += dice.choice([0, 1, HOUR_MS // 2, 5 * HOUR_MS])
                client_id = f"c{dice.randrange(12)}"
                seq = await book.say(client_id=client_id)
                said_seq, said_ms = first.get(client_id, (0, 0))
                if seq > head:
                    assert clock.now_ms - said_ms > 24 * HOUR_MS, client_id
                    first[client_id] = head, _ = seq, clock.now_ms
                else:
                    assert seq == said_seq


@on_a_loop
async def test_after_a_restart_a_client_id_older_than_24_hours_is_forgotten(make_log: MakeLog, clock: Clock) -> None:
    """To the millisecond: what is 24 hours old is still known, what is older is not."""
    async with make_log() as book:
        await book.say(client_id="old")
        clock.now_ms += 1
        await book.say(client_id="young")
    clock.now_ms += 24 * HOUR_MS
    async with make_log() as book:
        assert await book.say(client_id="young") == 2
        assert await book.say(client_id="old") == 3


@on_a_loop
async def test_rooms_beyond_those_kept_at_hand_go_on_all_the_same(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room whose end was dropped from memory is read anew: its seqs go on and its client_ids are known."""
    monkeypatch.setattr(placing, "_TAILS", 3)
    async with make_log() as book:
        for seq in (1, 2, 3):
            for number in range(10):
                assert await book.say(room=str(number), client_id=f"c{seq}") == seq
        assert [await book.say(room=str(number), client_id="c2") for number in range(10)] == [2] * 10
        await asyncio.gather(*(book.ask(room=str(number)) for number in range(10)))
        assert await book.say(room="0") == 5


# Replies


@on_a_loop
async def test_a_reply_needs_a_message_of_the_room(make_log: MakeLog) -> None:
    """One that is stored, or asked for just before; anything else is `not_found`, and nothing is stored."""
    async with make_log() as book:
        await book.fill(2)
        await book.fill(9, room="other")
        assert [await book.say(reply_to=seq) for seq in (0, 3, 9, 2**53 - 1)] == ["not_found"] * 4
        assert await book.say(reply_to=1, room="unused") == "not_found"
        assert await book.say(reply_to=2, client_id="c") == 3
        asked = [book.ask(), book.ask(reply_to=4), book.ask(reply_to=6), book.ask(reply_to=1), book.ask(reply_to=6)]
        outcomes = [await answer for answer in asked]
        assert outcomes[:2] + outcomes[3:] == [4, 5, 6, 7]
        assert isinstance(outcomes[2], ProtocolError)
        await book.log.settled()
        replies = [decode_message(event.body).reply_to for event in book.shown["room"]]
        assert replies == [UNSET, UNSET, 2, UNSET, 4, 1, 6]
        assert book.shown.get("unused") is None
        assert await book.say(reply_to=99, client_id="c") == 3


# Time


@on_a_loop
async def test_at_never_goes_back(make_log: MakeLog, clock: Clock) -> None:
    """When the clock does, in one start of the log or between two, `at` stands still; other rooms do not care."""
    start = clock.now_ms
    async with make_log() as book:
        await book.say()
        clock.now_ms = start - HOUR_MS
        await book.say()
        await book.say(room="other")
    clock.now_ms = start - 2 * HOUR_MS
    async with make_log() as book:
        await book.say()
        clock.now_ms = start + 5
        await book.say()
        events = (await book.log.after("room", 0, 10)).events
        assert [event.at for event in events] == [start, start, start, start + 5]
        assert [decode_message(event.body).at for event in events] == [event.at for event in events]
        assert [event.at for event in (await book.log.after("other", 0, 10)).events] == [start - HOUR_MS]


# Reading


def _at(seq: int) -> int:
    """When the events of the test below were said: two in every second."""
    return 1_800_000_000_000 + seq // 2 * 1000


SLICES = [
    # of 20 events: what is asked, the first and last seq of the answer (or none), more before, more after
    (("before", None, 5), (16, 20), True, False),
    (("before", None, 20), (1, 20), False, False),
    (("before", None, 200), (1, 20), False, False),
    (("before", 21, 1), (20, 20), True, False),
    (("before", 20, 5), (15, 19), True, True),
    (("before", 6, 5), (1, 5), False, True),
    (("before", 3, 5), (1, 2), False, True),
    (("before", 2, 5), (1, 1), False, True),
    (("before", 1, 5), None, False, True),
    (("before", 0, 5), None, False, True),
    (("before", 2**53 - 1, 3), (18, 20), True, False),
    (("after", 0, 5), (1, 5), False, True),
    (("after", 0, 20), (1, 20), False, False),
    (("after", 0, 19), (1, 19), False, True),
    (("after", 1, 5), (2, 6), True, True),
    (("after", 15, 5), (16, 20), True, False),
    (("after", 19, 5), (20, 20), True, False),
    (("after", 20, 5), None, True, False),
    (("after", 21, 5), None, True, False),
    (("after", 2**53 - 1, 5), None, True, False),
    (("around", 10, 1), (10, 10), True, True),
    (("around", 10, 5), (8, 12), True, True),
    (("around", 1, 1), (1, 1), False, True),
    (("around", 1, 5), (1, 5), False, True),
    (("around", 20, 1), (20, 20), True, False),
    (("around", 10, 200), (1, 20), False, False),
    (("since", 0, 5), (1, 5), False, True),
    (("since", _at(1), 5), (1, 5), False, True),
    (("since", _at(1) + 1, 5), (2, 6), True, True),
    (("since", _at(10), 3), (10, 12), True, True),
    (("since", _at(11), 3), (10, 12), True, True),
    (("since", _at(20), 3), (20, 20), True, False),
    (("since", _at(20) + 1, 3), None, True, False),
    (("since", 2**53 - 1, 3), None, True, False),
]


@on_a_loop
async def test_slices_end_where_they_should_and_tell_what_lies_beyond(make_log: MakeLog, clock: Clock) -> None:
    """Bounds are exclusive but for `around` and `since`; oldest first; `more` is told for both sides."""
    async with make_log() as book:
        for seq in range(1, 21):
            clock.now_ms = _at(seq)
            assert await book.say() == seq
        await book.fill(3, room="other")
        for (name, *arguments), bounds, more_before, more_after in SLICES:
            found: Slice = await getattr(book.log, name)("room", *arguments)
            expected = list(range(bounds[0], bounds[1] + 1)) if bounds else []
            assert (seqs(found.events), found.more_before, found.more_after) == (expected, more_before, more_after), (
                name,
                arguments,
            )
            assert found.events == book.shown["room"][expected[0] - 1 : expected[-1]] if expected else not found.events


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 19, 20, 21, 200])
@on_a_loop
async def test_around_always_holds_what_was_asked_for(make_log: MakeLog, limit: int) -> None:
    """At every place: the event itself, its nearest neighbours, no more than the limit."""
    async with make_log() as book:
        await book.fill(20)
        for seq in range(1, 21):
            found = await book.log.around("room", seq, limit)
            assert seq in seqs(found.events)
            assert len(found.events) <= limit
            assert seqs(found.events) == list(range(found.events[0].seq, found.events[-1].seq + 1))
            assert (found.more_before, found.more_after) == (found.events[0].seq > 1, found.events[-1].seq < 20)


@pytest.mark.parametrize(("room", "seq"), [("room", 0), ("room", 4), ("room", 2**53 - 1), ("unused", 1)])
@on_a_loop
async def test_around_needs_a_message(make_log: MakeLog, room: str, seq: int) -> None:
    """A seq that is none of this room is `not_found`."""
    async with make_log() as book:
        await book.fill(3)
        with pytest.raises(ProtocolError) as refused:
            await book.log.around(room, seq, 5)
        assert refused.value.code == "not_found"


@on_a_loop
async def test_a_slice_ends_early_at_its_bytes(make_log: MakeLog) -> None:
    """At 256 KiB, or what was asked for, but with one event at least; what is left out is told as more."""
    async with make_log() as book:
        await book.fill(60, HEAVY)
        size = len(book.shown["room"][-1].body)
        fits = MAX_PAGE_BYTES // size
        newest = await book.log.before("room", None, 200)
        assert (newest.events[-1].seq, newest.more_before, newest.more_after) == (60, True, False)
        oldest = await book.log.after("room", 0, 200)
        assert (oldest.events[0].seq, oldest.more_before, oldest.more_after) == (1, False, True)
        assert {len(newest.events), len(oldest.events)} <= {fits, fits + 1}
        middle = await book.log.around("room", 30, 200)
        assert 30 in seqs(middle.events)
        assert (middle.more_before, middle.more_after) == (True, True)
        for found in (newest, oldest, middle, await book.log.since("room", 0, 200)):
            assert sum(len(event.body) for event in found.events) <= MAX_PAGE_BYTES
            assert seqs(found.events) == list(range(found.events[0].seq, found.events[-1].seq + 1))
        for most_bytes in (0, 1, size - 1, size):
            assert seqs((await book.log.after("room", 7, 200, most_bytes)).events) == [8]
        total = sum(len(event.body) for event in book.shown["room"])
        assert len((await book.log.after("room", 0, 200, total)).events) == 60
        assert len((await book.log.after("room", 0, 200, total - 1)).events) == 59


@on_a_loop
async def test_bytes_after_counts_what_follows(make_log: MakeLog) -> None:
    """The bodies above a seq; nothing above the head."""
    async with make_log() as book:
        for text in ("a", "bb", "ccc"):
            await book.say(text)
        sizes = [len(event.body) for event in book.shown["room"]]
        assert [await book.log.bytes_after("room", seq) for seq in range(5)] == [sum(sizes[seq:]) for seq in range(5)]


@on_a_loop
async def test_a_room_opens_with_its_head_its_end_and_its_epochs(make_log: MakeLog) -> None:
    """What a room needs to begin; an epoch is told once it has written there."""
    async with make_log() as book:
        await book.fill(5)
        first = book.log.epochs[book.log.epoch]
        opening = await book.log.open_room("room", 2)
        assert opening == Opening(5, book.shown["room"][3:], [EpochStart(first, 1)])
    async with make_log() as book:
        assert (await book.log.open_room("room", 2)).starts == [EpochStart(first, 1)]
        await book.fill(2)
        second = book.log.epochs[book.log.epoch]
        opening = await book.log.open_room("room", 50)
        assert (opening.head, seqs(opening.recent)) == (7, [1, 2, 3, 4, 5, 6, 7])
        assert opening.starts == [EpochStart(first, 1), EpochStart(second, 6)]
        assert second > first


@on_a_loop
async def test_an_unused_room_is_empty_and_reading_does_not_make_it(make_log: MakeLog) -> None:
    """Whoever looks around leaves nothing behind."""
    async with make_log() as book:
        await book.say(room="used")
        log = book.log
        nothing = Slice([], False, False)
        assert await log.open_room("unused", 50) == Opening(0, [], [])
        assert [await log.before("unused", seq, 50) for seq in (None, 0, 1, 99)] == [nothing] * 4
        assert [await log.after("unused", seq, 50) for seq in (0, 1, 99)] == [nothing] * 3
        assert await log.since("unused", 0, 50) == nothing
        assert (await log.head("unused"), await log.bytes_after("unused", 0)) == (0, 0)


# Epochs


@on_a_loop
async def test_every_start_is_a_new_epoch(make_log: MakeLog) -> None:
    """Opaque, in order, and all of them known."""
    words: list[str] = []
    for _ in range(3):
        async with make_log() as book:
            words.append(book.log.epoch)
            assert set(book.log.epochs) == set(words)
            assert sorted(book.log.epochs, key=lambda word: book.log.epochs[word]) == words
    assert len(set(words)) == 3
    async with make_log("other.db") as book:
        assert book.log.epoch not in words


@pytest.mark.parametrize(
    ("starts", "opened_at", "head", "epoch", "after", "whole"),
    [
        ([], 0, 0, "now", 0, True),
        ([], 0, 0, "one", 0, True),
        ([], 0, 0, "one", 1, False),  # beyond the head
        ([(1, 1)], 5, 5, "unknown", 0, False),
        ([(1, 1)], 5, 5, "unknown", 3, False),
        ([(1, 1)], 5, 5, "one", 0, True),
        ([(1, 1)], 5, 5, "one", 5, True),
        ([(1, 1)], 5, 5, "one", 6, False),
        ([(1, 1)], 5, 5, "two", 5, True),  # an epoch that wrote nothing
        ([(1, 1)], 5, 5, "now", 5, True),
        ([(1, 1)], 5, 9, "one", 5, True),  # this epoch wrote 6 to 9 after the room was opened
        ([(1, 1)], 5, 9, "one", 6, False),
        ([(1, 1)], 5, 9, "now", 9, True),
        ([(1, 1), (3, 6)], 9, 9, "one", 5, True),
        ([(1, 1), (3, 6)], 9, 9, "one", 6, False),
        ([(1, 1), (3, 6)], 9, 9, "two", 5, True),
        ([(1, 1), (3, 6)], 9, 9, "two", 7, False),
        ([(1, 1), (3, 6)], 9, 9, "now", 9, True),
        ([(1, 1), (2, 4)], 9, 9, "one", 3, True),
        ([(1, 1), (2, 4)], 9, 9, "one", 4, False),
        ([(1, 1), (2, 4)], 9, 9, "two", 9, True),
        ([(2, 1)], 9, 9, "one", 0, True),
        ([(2, 1)], 9, 9, "one", 1, False),
    ],
)
def test_a_past_is_ours_if_nothing_later_began_at_or_below_it(
    starts: list[tuple[int, int]], opened_at: int, head: int, epoch: str, after: int, whole: bool
) -> None:
    """The epochs are one, two and now; each began in the room with the seq given, or wrote nothing there."""
    opening = Opening(opened_at, [], [EpochStart(*start) for start in starts])
    assert is_ours({"one": 1, "two": 2, "now": 3}, opening, "now", head, epoch, after) is whole


@on_a_loop
async def test_a_past_is_ours_over_restarts(make_log: MakeLog) -> None:
    """What was seen before stays seen, whether the starts in between wrote anything or not."""
    async with make_log() as book:
        await book.fill(3)
        one = book.log.epoch
    async with make_log() as book:
        two = book.log.epoch
        assert [await book.is_ours(one, after) for after in (0, 3, 4)] == [True, True, False]
    async with make_log() as book:
        assert [await book.is_ours(epoch, 3) for epoch in (one, two)] == [True, True]
        await book.fill(2)
        assert [await book.is_ours(one, after) for after in (0, 3, 4)] == [True, True, False]
        assert [await book.is_ours(two, after) for after in (3, 5)] == [True, False]
        assert await book.is_ours(book.log.epoch, 5)
        assert not await book.is_ours("other", 0)


# The SQLite file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the test's one log."""
    return tmp_path / "chatroom.db"


@on_a_loop
async def test_nothing_is_shown_before_it_is_committed(make_log: MakeLog, path: Path) -> None:
    """When an event is shown, and when its speaker is answered, any other connection finds it in the file."""
    async with make_log() as book:
        count = "SELECT count(*) FROM events"
        book.look = lambda: query(path, count)[0][0]
        answered = []
        for _ in range(5):
            book.ask().add_done_callback(lambda _: answered.append(query(path, count)[0][0]))
            await book.log.settled()
            await asyncio.sleep(0)
        assert book.looks == [1, 2, 3, 4, 5]
        assert answered == [1, 2, 3, 4, 5]


@on_a_loop
async def test_a_commit_is_on_the_disk(make_log: MakeLog) -> None:
    """WAL with synchronous=FULL: what a commit returned survives a power cut."""
    async with make_log() as book:
        writer = book.log._writer
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == (2,)


@on_a_loop
async def test_what_was_answered_survives_kill_9(make_log: MakeLog, path: Path) -> None:
    """The image of a killed log opens, holds everything, and knows its past and its client_ids."""
    async with make_log() as book:
        await book.fill(100)
        assert await book.say(client_id="c") == 101
        copy, one = image(path, "killed.db"), book.log.epoch
    async with make_log(copy.name) as again:
        assert (await again.log.after("room", 0, 200)).events == book.shown["room"]
        assert await again.is_ours(one, 101)
        assert await again.say(client_id="c") == 101
        assert await again.say() == 102


@on_a_loop
async def test_a_log_killed_at_its_very_start_opens(make_log: MakeLog, path: Path) -> None:
    """Before its first message the file is whole, too."""
    async with make_log():
        copy = image(path, "killed.db")
    async with make_log(copy.name) as book:
        assert await book.say() == 1


@pytest.mark.parametrize(
    "left", [lambda data: data, lambda data: data[: 2 * 4096], lambda data: bytes(4096) + data[4096:], lambda data: b""]
)
def test_a_log_that_stopped_in_its_very_first_commit_opens(path: Path, left: Callable[[bytes], bytes]) -> None:
    """The rollback journal of a commit that was under way says that there is no damage, whatever the disk has of it."""
    before = path.with_name("before.db")
    with contextlib.closing(sqlite3.connect(before, isolation_level=None)) as db:
        marks = f"PRAGMA application_id = {opening.APPLICATION_ID}; PRAGMA user_version = 1;"
        db.execute("PRAGMA cache_size = 1")  # so that the journal is written before the commit
        for step in f"BEGIN; {opening.MIGRATIONS[0]} {marks} INSERT INTO probes VALUES (zeroblob(100000))".split(";"):
            db.execute(step)
        shutil.copyfile(f"{before}-journal", f"{path}-journal")
        db.execute("COMMIT")
    path.write_bytes(left(before.read_bytes()))
    asyncio.run(SqliteLog(str(path)).close())
    assert query(path, "SELECT count(*) FROM epochs") == [(1,)]


def test_a_log_killed_at_any_moment_of_its_first_start_opens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each statement, whether its file has anything of ours yet or not."""
    connected, images = opening._connected, []

    def watched(path_: str) -> sqlite3.Connection:
        db = connected(path_)
        db.set_trace_callback(lambda _: images.append(files_of(path)))
        return db

    with monkeypatch.context() as patched:
        patched.setattr(opening, "_connected", watched)
        asyncio.run(SqliteLog(str(path)).close())
    assert len(images) > 20
    for number, files in enumerate(images):
        copy = path.with_name(f"copy{number}.db")
        for suffix, data in files.items():
            copy.with_name(copy.name + suffix).write_bytes(data)
        asyncio.run(SqliteLog(str(copy)).close())
        assert query(copy, "PRAGMA auto_vacuum") == [(2,)]


def files_of(path: Path) -> dict[str, bytes]:
    """What a kill -9 would leave at this moment, by the end of the name."""
    ends = ("", "-wal", "-journal")
    return {end: Path(f"{path}{end}").read_bytes() for end in ends if Path(f"{path}{end}").exists()}


@on_a_loop
async def test_a_restored_backup_is_found_out(make_log: MakeLog, path: Path) -> None:
    """Whoever saw more than the backup holds is told so, at once and when others have written over it."""
    async with make_log() as book:
        await book.fill(3)
        one = book.log.epoch
    backup = image(path, "backup.db")
    async with make_log() as book:
        await book.fill(3)
        two = book.log.epoch
        assert await book.is_ours(two, 6)
    for rounds in range(3):  # restarts without a word
        async with make_log(backup.name) as book:
            assert [await book.is_ours(one, after) for after in (2, 3, 4)] == [True, True, False], rounds
            assert not await book.is_ours(two, 6)
            silent = book.log.epoch
    async with make_log(backup.name) as book:
        await book.fill(5)
        assert [await book.is_ours(one, after) for after in (3, 4, 5)] == [True, False, False]
        assert [await book.is_ours(silent, after) for after in (3, 4)] == [True, False]
        assert [await book.is_ours(two, after) for after in (0, 3, 6)] == [False] * 3
        assert await book.is_ours(book.log.epoch, 8)


@on_a_loop
async def test_reading_makes_no_room_in_the_file(make_log: MakeLog, path: Path) -> None:
    """The history of any name can be asked for without filling the disk."""
    async with make_log() as book:
        await book.say(room="used")
        await book.log.open_room("unused", 50)
        await book.log.before("unused", None, 50)
        assert query(path, "SELECT name FROM rooms") == [("used",)]


@on_a_loop
async def test_a_memory_log_keeps_the_promise_and_nothing_else(make_log: MakeLog, tmp_path: Path) -> None:
    """`:memory:` works like a file, makes none, and two of them know nothing of each other."""
    async with make_log(":memory:") as book, make_log(":memory:") as other:
        await book.fill(100)
        assert await book.say(client_id="c") == await book.say(client_id="c") == 101
        assert seqs((await book.log.before("room", None, 3)).events) == [99, 100, 101]
        await book.log.probe()
        assert await other.log.head("room") == 0
    assert os.listdir(tmp_path) == []


# Versions


MIGRATIONS = opening.MIGRATIONS


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this the server of the next schema version."""

    def upgrade(step: str) -> None:
        monkeypatch.setattr(opening, "MIGRATIONS", (*MIGRATIONS, step))
        monkeypatch.setattr(opening, "SCHEMA_VERSION", len(MIGRATIONS) + 1)

    return upgrade


@on_a_loop
async def test_an_older_file_is_brought_forward(
    make_log: MakeLog, path: Path, next_version: Callable[[str], None]
) -> None:
    """Each step runs once, and everything is still there; a new file has all steps."""
    async with make_log() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT;")
    for head in (3, 4):
        async with make_log() as book:
            assert await book.say() == head + 1
    assert query(path, "SELECT name, topic FROM rooms") == [("room", None)]
    assert query(path, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
    async with make_log("new.db") as book:
        assert await book.say() == 1
    assert query(path.with_name("new.db"), "SELECT topic FROM rooms") == [(None,)]


@on_a_loop
async def test_a_step_that_fails_leaves_the_file_as_it_was(
    make_log: MakeLog, path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction a step: the older server still opens it."""
    async with make_log() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT; ALTER TABLE nothing ADD COLUMN x;")
    with pytest.raises(LogRefused):
        SqliteLog(str(path))
    assert [column[1] for column in query(path, "PRAGMA table_info(rooms)")] == ["room", "name", "first_seq"]
    monkeypatch.undo()
    async with make_log() as book:
        assert await book.say() == 4


@on_a_loop
async def test_a_newer_file_is_refused_even_if_only_its_wal_knows(
    make_log: MakeLog, path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server that was killed may have left its version in the WAL alone."""
    async with make_log() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT;")
    async with make_log():
        copy = image(path, "killed.db")
    monkeypatch.undo()
    with pytest.raises(LogRefused, match="newer"):
        await SqliteLog(str(copy)).close()


# Files that are refused


def filled_file(path: Path, pages: int = 60) -> bytes:
    """A whole log of some size; returns its bytes."""

    async def fill() -> None:
        log = SqliteLog(str(path))
        await Book(log).fill(pages, "x" * 3500)
        await log.close()

    asyncio.run(fill())
    assert not path.with_name(path.name + "-wal").exists()
    return path.read_bytes()


def _foreign(path: Path, pragma: str = "") -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"CREATE TABLE cats (name); INSERT INTO cats VALUES ('Tom'); {pragma}")


def _garbage_page(path: Path) -> None:
    data = bytearray(filled_file(path))
    middle = len(data) // 4096 // 2 * 4096
    data[middle : middle + 4096] = random.Random(3).randbytes(4096)
    path.write_bytes(data)


def _newer(path: Path) -> None:
    filled_file(path, 1)
    query(path, f"PRAGMA user_version = {opening.SCHEMA_VERSION + 1}")


def _truncated(keep: Callable[[int], int]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = filled_file(path)
        path.write_bytes(data[: keep(len(data))])

    return make


REFUSED: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("Dear diary,\n" * 1000),
    "a few bytes": lambda path: path.write_bytes(b"x"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "SQLite of another program": _foreign,
    "SQLite of a program with an id": lambda path: _foreign(path, "PRAGMA application_id = 1234;"),
    "another program's in WAL": lambda path: _foreign(path, "PRAGMA journal_mode = WAL;"),
    "of a newer version": _newer,
    "garbage in the middle": _garbage_page,
    "50 bytes left": _truncated(lambda size: 50),
    "100 bytes left": _truncated(lambda size: 100),
    "the first page left": _truncated(lambda size: 4096),
    "half of it left": _truncated(lambda size: size // 2),
    "the last byte missing": _truncated(lambda size: size - 1),
    "the last page missing": _truncated(lambda size: size - 4096),
}


def refused(path: Path | str) -> str:
    """The one sentence with which a path is refused."""
    with pytest.raises(LogRefused) as refusal:
        SqliteLog(str(path))
    sentence = str(refusal.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(path: Path, make: Callable[[Path], Any]) -> None:
    """One sentence that names the file, every time, and not a byte of it changed."""
    make(path)
    before = hashlib.sha256(path.read_bytes()).digest()
    for _ in range(2):
        assert str(path) in refused(path)
        assert hashlib.sha256(path.read_bytes()).digest() == before
    assert {file.name.removeprefix(path.name) for file in path.parent.iterdir()} <= {"", ".lock", "-wal", "-shm"}
    assert not path.with_name(path.name + "-wal").exists() or not path.with_name(path.name + "-wal").stat().st_size
    path.unlink()
    asyncio.run(SqliteLog(str(path)).close())  # nothing is held: another file in its place opens


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A directory, a missing folder, a folder that is a file: each in one sentence."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "folder") in refused(tmp_path / "folder")
    for path in (tmp_path / "missing" / "chatroom.db", tmp_path / "file" / "chatroom.db"):
        assert "folder" in refused(path)
    assert not list((tmp_path / "folder").iterdir())


def test_an_empty_file_is_a_new_log(path: Path) -> None:
    """As `touch` or a temporary-file function leaves it."""
    path.write_bytes(b"")
    asyncio.run(SqliteLog(str(path)).close())
    assert query(path, "PRAGMA application_id") == [(opening.APPLICATION_ID,)]


def test_an_odd_path_is_a_path(tmp_path: Path) -> None:
    """Nothing in it is taken for a URI or an escape."""
    path = tmp_path / "what? #1 50%41 file:x.db"
    filled_file(path, 3)
    asyncio.run(SqliteLog(str(path)).close())
    assert path.stat().st_size


@pytest.mark.parametrize("alias", ["same", "other spelling", "symbolic link"])
@on_a_loop
async def test_a_log_in_use_is_refused(make_log: MakeLog, path: Path, alias: str) -> None:
    """A second server on the file is told so, by whatever name it knows the file; the first goes on."""
    async with make_log() as book:
        await book.fill(3)
        second = path
        if alias == "other spelling":
            (path.parent / "folder").mkdir()
            second = path.parent / "folder" / ".." / path.name
        elif alias == "symbolic link":
            second = path.with_name("link.db")
            second.symlink_to(path)
        assert "in use" in refused(second)
        assert await book.say() == 4
    async with make_log() as book:
        assert await book.log.head("room") == 4


HOLD = """
import sys
from chat.eventlog.sqlite import SqliteLog
log = SqliteLog(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


def test_a_log_in_use_by_another_process_is_refused_until_that_is_gone(path: Path) -> None:
    """Killed without a word it lets go all the same."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            assert "in use" in refused(path)
        finally:
            other.kill()
    asyncio.run(SqliteLog(str(path)).close())


def test_a_log_that_another_program_is_writing_to_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told to restore a backup of what is only locked; once it is free, it opens."""
    monkeypatch.setattr(opening, "_BUSY_MS", 50)
    filled_file(path, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert "stop the other program" in refused(path)
        db.execute("ROLLBACK")
    asyncio.run(SqliteLog(str(path)).close())


# A disk that is full


async def set_room(book: Book, more_pages: int) -> None:
    """Let the file grow by so many pages and no more."""

    def limit() -> None:
        (pages,) = book.log._writer.execute("PRAGMA page_count").fetchone()
        book.log._writer.execute(f"PRAGMA max_page_count = {pages + more_pages}")

    await asyncio.get_running_loop().run_in_executor(book.log._writer_thread, limit)


async def eventually_stores(book: Book) -> None:
    async with asyncio.timeout(DEADLINE_S):
        for _ in iter(lambda: book.log.storing, True):
            await asyncio.sleep(0.005)


@on_a_loop
async def test_a_full_disk_stores_and_shows_nothing_until_there_is_room(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`not_stored`, the rooms are told once, reading goes on; with room again it recovers by itself, without a hole."""
    monkeypatch.setattr(sqlite, "_RETRY_S", 0.02)
    async with make_log() as book:
        await book.fill(3)
        assert book.log.storing
        book.told.clear()
        await set_room(book, 0)
        assert [await book.say(HEAVY, client_id=f"c{number}") for number in range(3)] == ["not_stored"] * 3
        assert book.told == [("done", "not_stored"), ("storing", False), ("done", "not_stored"), ("done", "not_stored")]
        assert not book.log.storing
        with pytest.raises(OSError, match="full"):
            await book.log.probe()
        assert seqs((await book.log.before("room", None, 50)).events) == [1, 2, 3]
        book.told.clear()
        await set_room(book, 1000)
        await eventually_stores(book)
        assert book.told == [("storing", True)]
        await book.log.probe()
        assert [await book.say(HEAVY, client_id=f"c{number}") for number in (2, 1, 0, 2)] == [4, 5, 6, 4]
        assert seqs(book.shown["room"]) == [1, 2, 3, 4, 5, 6]
    async with make_log() as book:
        assert seqs((await book.log.after("room", 0, 50)).events) == [1, 2, 3, 4, 5, 6]


@on_a_loop
async def test_a_message_that_could_be_stored_ends_the_alarm(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the log's own attempts: the first commit that succeeds is the proof."""
    monkeypatch.setattr(sqlite, "_RETRY_S", 3600)
    async with make_log() as book:
        await book.say()
        await set_room(book, 0)
        assert await book.say(HEAVY) == "not_stored"
        await set_room(book, 1000)
        assert await book.say(HEAVY) == 2
        assert [told for told in book.told if told[0] == "storing"] == [("storing", False), ("storing", True)]


@on_a_loop
async def test_a_failed_batch_fails_as_a_whole(make_log: MakeLog) -> None:
    """All of a transaction or nothing: no draft of it is stored, in no room, and no new room is made."""
    async with make_log() as book:
        await book.say()
        await set_room(book, 0)
        asked = [book.ask("small"), book.ask("small", room="new"), book.ask(HEAVY), book.ask("small", client_id="c")]
        assert {getattr(await answer, "code", None) for answer in asked} == {"not_stored"}
        await book.log.settled()
        assert await book.log.head("room") == 1
        assert book.log._writer.execute("SELECT name FROM rooms").fetchall() == [("room",)]
        assert "new" not in book.shown
        await set_room(book, 1000)
        assert await book.say(client_id="c") == 2
        assert await book.say(room="new") == 1


@on_a_loop
async def test_probing_leaves_nothing_behind(make_log: MakeLog, path: Path) -> None:
    """It writes as much as a batch of messages would, and takes it away again; who asks at once shares the answer."""
    async with make_log() as book:
        await book.say()
        for _ in range(20):
            await asyncio.gather(*(book.log.probe() for _ in range(5)))
        assert query(path, "SELECT count(*) FROM probes") == [(0,)]
        assert query(path, "PRAGMA page_count")[0][0] < 60
        assert await book.say() == 2


FULL_DISK = """
import asyncio, json, os, resource, sys
from chat.eventlog import Draft, sqlite
from chat.protocol import Person

sqlite._RETRY_S = 0.02
path = sys.argv[1]

async def main():
    log = sqlite.SqliteLog(path)
    told, shown = [], []
    log.on_storing = told.append
    log.on_events = lambda room, events, changed: shown.extend(event.seq for event in events)

    async def say(client_id):
        answer = asyncio.get_running_loop().create_future()
        log.append(Draft("room", Person("a", "Ann"), "x" * 4000, client_id, None, answer.set_result))
        outcome = await answer
        await log.settled()
        return outcome if isinstance(outcome, int) else outcome.code

    before = [await say(f"before {number}") for number in range(20)]
    most = os.path.getsize(path + "-wal") + 30_000
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    during = [await say(f"during {number}") for number in range(40)]
    shown_then = list(shown)
    try:
        await log.probe()
        probed = ""
    except OSError as error:
        probed = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while not log.storing:
        await asyncio.sleep(0.005)
    after = [await say(f"during {number}") for number in range(40)]
    print(json.dumps([before, during, after, told, shown, shown_then, probed]), flush=True)
    if len(sys.argv) > 2:
        os._exit(0)
    await log.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("end", [[], ["killed"]])
@on_a_loop
async def test_files_that_may_not_grow_lose_nothing(make_log: MakeLog, path: Path, end: list[str]) -> None:
    """As above, but refused by the kernel, in the WAL: the file system's limit, then room again, and a restart."""
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(path), *end, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await ran.communicate()
    assert not err, err.decode()
    before, during, after, told, shown, shown_then, probed = json.loads(out)
    stored = [seq for seq in during if seq != "not_stored"]
    assert before == list(range(1, 21))
    assert "not_stored" in during
    assert stored == list(range(21, 21 + len(stored)))
    assert shown_then == before + stored
    assert probed
    assert told[:2] == [False, True]
    assert told == [False, True] * (len(told) // 2)
    assert sorted(after) == list(range(21, 61))
    assert [seq for seq, first in zip(after, during, strict=True) if first != "not_stored"] == stored
    assert shown == list(range(1, 61))
    async with make_log() as book:
        assert seqs((await book.log.after("room", 0, 200, 1 << 30)).events) == shown
        again = [await book.say(client_id=f"during {number}", by=Person("a", "Ann")) for number in range(40)]
        assert again == after
