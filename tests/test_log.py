"""The event log's promise, asked of every engine: `make_log` opens one, and what it kept when it is opened again."""

import asyncio
import random

import pytest
from msgspec import UNSET
from prometheus_client import REGISTRY

from chat.eventlog import EpochStart, Opening, Slice, is_ours, placing
from chat.protocol import MAX_PAGE_BYTES, Message, ProtocolError, decode_message
from tests.book import ANN, BOB, HOUR_MS, Clock, MakeLog, Outcome, on_a_loop, seqs

HEAVY = "\U0001f680" * 4000  # 16,000 bytes


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
    """Everybody of a commit has his ack before the first event of that commit."""
    async with make_log() as book:
        for _ in range(3):
            book.ask()
        await book.log.settled()
        assert book.told == [("done", 1), ("done", 2), ("done", 3), ("events", "room", [1, 2, 3])]


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
