"""What an act does to the log: to messages, to the room's order, to the moderators' log and to what is held."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.json import decode

from chat.eventlog import Change, Draft, Further, Purging, Reacting, Refusing, changing, placing, planning, redis
from chat.eventlog import reading as log_reading
from chat.protocol import (
    REACTIONS,
    REACTORS,
    Acted,
    Announcement,
    Edited,
    HeldMessage,
    MessageReactions,
    Person,
    ProtocolError,
    Reacted,
    Reaction,
    Record,
    Removed,
    RoleGiven,
    Rules,
    RulesChanged,
    decode_message,
    encode,
)
from tests.book import (
    ANN,
    BOB,
    HOUR_MS,
    Book,
    Clock,
    MakeLog,
    deleting,
    editing,
    on_a_loop,
    purging,
    reacting,
    seqs,
)
from tests.house import held as holding
from tests.house import until
from tests.support import DEADLINE_S

CAT = Person("c" * 16, "Cat")
THUMB, HEART = REACTIONS[:2]


async def bodies(book: Book, room: str = "room") -> list[bytes]:
    return [event.body for event in (await book.log.after(room, 0, 10_000, 1 << 40)).events]


def tombstone(book: Book, seq: int, room: str = "room") -> bytes:
    return encode(Removed(seq, book.shown[room][seq - 1].at))


# Editing


@on_a_loop
async def test_an_edited_message_has_its_text_where_it_was_said(make_log: MakeLog, clock: Clock) -> None:
    """Its seq, `at` and what it answers stay; when it was edited and by which event is told, over a restart, too."""
    async with make_log() as book:
        await book.say("question")
        await book.say("frist", reply_to=1)
        clock.now_ms += 5
        assert await book.act(*editing(2, "first")) == 3
        _, message, edit = (await book.log.after("room", 0, 9)).events
        told = decode_message(message.body)
        assert (told.text, told.reply_to, told.edited, told.edit) == ("first", 1, edit.at, 3)
        assert (told.seq, told.at) == (2, clock.now_ms - 5)
        assert edit.body == encode(Edited(3, clock.now_ms, ANN, 2, "first"))
        assert book.changed["room"] == {2: message.body}
    async with make_log() as book:
        assert (await bodies(book))[1:] == [message.body, edit.body]


@on_a_loop
async def test_only_the_newest_edit_has_a_text(make_log: MakeLog) -> None:
    """The one before it is `removed`: its place alone is left."""
    async with make_log() as book:
        await book.say("one")
        for text in ("two", "three", "four"):
            await book.act(*editing(1, text))
        stored = await bodies(book)
        assert decode_message(stored[0]).text == "four"
        assert stored[1:3] == [tombstone(book, 2), tombstone(book, 3)]
        assert b"four" in stored[3]
        assert book.changed["room"] == dict(zip((1, 2, 3), stored, strict=False))


@on_a_loop
async def test_reactions_survive_an_edit(make_log: MakeLog) -> None:
    """And an edit survives reactions."""
    async with make_log() as book:
        await book.say("one")
        await book.act(*reacting(1, by=BOB))
        await book.act(*editing(1, "two"))
        await book.act(*reacting(1, HEART, by=BOB))
        message = decode_message((await bodies(book))[0])
        assert (message.text, message.edit) == ("two", 3)
        assert message.reactions == [Reaction(THUMB, 1, [BOB]), Reaction(HEART, 1, [BOB])]


@on_a_loop
async def test_what_cannot_be_edited_is_refused_and_nothing_of_it_is_stored(make_log: MakeLog, clock: Clock) -> None:
    """Somebody else's, what is no message, what was said too long ago; the rest of the batch goes on."""
    async with make_log() as book:
        await book.say("Ann's")
        await book.act(*editing(1, "Ann's own"))
        await book.say("gone")
        await book.act(*deleting(3))
        before = await bodies(book)
        clock.now_ms += 1000
        tries = [(1, BOB, 0), (2, ANN, 0), (3, ANN, 0), (4, ANN, 0), (9, ANN, 0), (0, ANN, 0), (1, ANN, clock.now_ms)]
        first = book.ask("first")
        asked = [
            book.do(*editing(seq, "no", by, since_ms), entries={"k": b"1"}, record=Record("edit", ANN))
            for seq, by, since_ms in tries
        ]
        last = book.ask("last")
        outcomes = [await each for each in asked]
        assert [outcome.code for outcome in outcomes if isinstance(outcome, ProtocolError)] == [
            "forbidden",
            *["not_found"] * 5,
            "too_late",
        ]
        assert (await first, await last) == (5, 6)
        assert (await bodies(book))[:4] == before
        assert (await book.log.open_room("room", 1)).entries == {}
        assert await book.log.acts("room", None, 9, None) == ([], False)
        assert await book.act(*editing(1, "at the last moment", since_ms=clock.now_ms - 1000)) == 7


# Removing


@on_a_loop
async def test_a_deleted_message_leaves_its_place(make_log: MakeLog) -> None:
    """With its edit and its reactions; seqs stay contiguous, and it can be neither answered nor found."""
    async with make_log() as book:
        await book.say("one", client_id="c")
        await book.act(*editing(1, "secret"))
        await book.act(*reacting(1, by=BOB))
        assert await book.act(*deleting(1, ANN)) == 4
        stored = await bodies(book)
        assert stored[:2] == [tombstone(book, 1), tombstone(book, 2)]
        assert {seq: book.changed["room"][seq] for seq in (1, 2)} == dict(zip((1, 2), stored, strict=False))
        assert await book.say(reply_to=1) == "not_found"
        with pytest.raises(ProtocolError, match="no such message"):
            await book.log.around("room", 1, 5)
        for act in (deleting(1), reacting(1), editing(1, "again")):
            assert await book.act(*act) == "not_found"
        assert await book.say(client_id="c") == 1
    async with make_log() as book:
        assert (await bodies(book))[:4] == stored
        assert await book.say("retried", client_id="c") == 1


@on_a_loop
async def test_whose_message_it_must_be_is_checked(make_log: MakeLog) -> None:
    """Nobody deletes somebody else's as his own; without a name anybody's goes."""
    async with make_log() as book:
        await book.say("one")
        assert await book.act(*deleting(1, BOB)) == "forbidden"
        assert await book.act(*deleting(1)) == 2


@on_a_loop
async def test_what_is_said_and_removed_in_one_batch_is_never_shown(make_sqlite: MakeLog) -> None:
    """The events of the commit are as they are stored."""
    async with make_sqlite() as book:
        asked = [
            book.ask("one"),
            book.ask("two"),
            book.do(*editing(2, "too")),
            book.do(*reacting(2, by=BOB)),
            book.do(*deleting(1)),
            book.ask("answer", reply_to=1),
            book.ask("answer", reply_to=2),
        ]
        outcomes = [await each for each in asked]
        assert [getattr(outcome, "code", outcome) for outcome in outcomes] == [1, 2, 3, 4, 5, "not_found", 6]
        await book.log.settled()
        assert [event.body for event in book.shown["room"]] == await bodies(book)
        assert book.shown["room"][0].body == encode(Removed(1, book.shown["room"][0].at))
        assert decode_message(book.shown["room"][1].body).text == "too"
        assert book.changed["room"] == {}


@on_a_loop
async def test_a_purge_takes_all_that_somebody_said(make_log: MakeLog) -> None:
    """His messages and edits, in this room alone; what others said stays, and retries of his are still known."""
    async with make_log() as book:
        for by in (ANN, BOB, ANN):
            await book.say("hello", by=by, client_id="c" if by is BOB else None)
        await book.act(*editing(1, "changed"))
        await book.say(room="other")
        assert await book.act(*purging(ANN)) == 5
        stored = await bodies(book)
        assert [stored[seq - 1] for seq in (1, 3, 4)] == [tombstone(book, seq) for seq in (1, 3, 4)]
        assert decode_message(stored[1]).by == BOB
        assert len(await bodies(book, "other")) == 1
        assert decode_message((await bodies(book, "other"))[0]).text == "hello"
        assert book.changed["room"] == {1: stored[0], 3: stored[2], 4: stored[3]}
        assert await book.say("later") == 6
    async with make_log() as book:
        assert await book.say(by=BOB, client_id="c") == 2


@on_a_loop
async def test_a_purge_takes_back_his_reactions(make_log: MakeLog) -> None:
    """A second event tells what is left at each message, the newest first; those at his own go with them."""
    async with make_log() as book:
        for by in (BOB, ANN, CAT):
            await book.say(by=by)
        work = [Reacting(seq, THUMB, by, True) for seq in (1, 2, 3) for by in (ANN, BOB)]
        assert await book.act(work, Reacted(0, 0, [])) == 4
        assert await book.act(*purging(ANN)) == 5
        told = book.shown["room"][-1]
        left = [MessageReactions(seq, [Reaction(THUMB, 1, [BOB])]) for seq in (3, 1)]
        assert told.body == encode(Reacted(6, told.at, left))
        assert decode_message((await bodies(book))[2]).reactions == [Reaction(THUMB, 1, [BOB])]
        assert await book.act(*purging(ANN)) == 7
        assert len(book.shown["room"]) == 7


@on_a_loop
async def test_a_purge_tells_the_newest_200_reactions_and_takes_all(make_log: MakeLog) -> None:
    """However many messages he reacted to."""
    async with make_log() as book:
        asked = [book.ask(by=BOB) for _ in range(250)]
        await asyncio.gather(*asked)
        await book.act([Reacting(seq, HEART, ANN, True) for seq in range(1, 251)], Reacted(0, 0, []))
        await book.act(*purging(ANN))
        told = book.shown["room"][-1].body
        assert told.count(b'"message"') == 200
        assert b'"message":250,' in told and b'"message":50,' not in told
        assert not [body for body in (await bodies(book))[:250] if b"reactions" in body]


@on_a_loop
async def test_what_is_long_past_is_rewritten_but_not_told(make_log: MakeLog) -> None:
    """Of a large purge, as much as anybody may still have at hand."""
    async with make_log() as book:
        await book.fill(3000)
        await book.act(*purging(ANN))
        assert sorted(book.changed["room"]) == list(range(3001 - 2047, 3001))
        assert set(await bodies(book)) >= {tombstone(book, 1), tombstone(book, 3000)}


@on_a_loop
async def test_a_purge_is_one_statement(make_sqlite: MakeLog) -> None:
    """However much somebody said: the loop goes on while SQLite does it."""
    async with make_sqlite() as book:
        await book.fill(3000)
        async with book.traced() as statements:
            await book.do(*purging(ANN))
        assert len([sql for sql in statements if sql.startswith("UPDATE events")]) == 1
        assert len(statements) < 20


# Reactions


@on_a_loop
async def test_reactions_are_told_as_they_are(make_log: MakeLog) -> None:
    """In one order for all kinds, the first people by time, and how many there are."""
    crowd = [Person(f"{number:016}", f"N{number}") for number in range(REACTORS + 3)]
    async with make_log() as book:
        await book.say()
        work = [Reacting(1, HEART, by, True) for by in crowd] + [Reacting(1, THUMB, BOB, True)]
        assert await book.act(work, Reacted(0, 0, [])) == 2
        expected = [Reaction(THUMB, 1, [BOB]), Reaction(HEART, REACTORS + 3, crowd[:REACTORS])]
        told = book.shown["room"][-1]
        assert told.body == encode(Reacted(2, told.at, [MessageReactions(1, expected)]))
        assert decode_message((await bodies(book))[0]).reactions == expected
        assert await book.act(*reacting(1, HEART, crowd[0], on=False)) == 3
        again = decode_message((await bodies(book))[0]).reactions
        assert again == [expected[0], Reaction(HEART, REACTORS + 2, crowd[1 : REACTORS + 1])]


@on_a_loop
async def test_reactions_that_change_nothing_are_no_event(make_log: MakeLog) -> None:
    """The same twice, taking back what never was, coming and going in one: the answer is 0."""
    async with make_log() as book:
        await book.say()
        await book.act(*reacting(1))
        assert await book.act(*reacting(1)) == 0
        assert await book.act(*reacting(1, HEART, on=False)) == 0
        both = [Reacting(1, HEART, BOB, True), Reacting(1, HEART, BOB, False)]
        assert await book.act(both, Reacted(0, 0, [])) == 0
        assert await book.log.head("room") == 2
        assert await book.act(*reacting(1, on=False)) == 3
        assert decode_message((await bodies(book))[0]).reactions is UNSET


@on_a_loop
async def test_reactions_to_what_is_no_message_are_refused_alone(make_log: MakeLog) -> None:
    """Those of the same event to messages are told; if there are none all of it is `not_found`."""
    async with make_log() as book:
        await book.say()
        await book.say()
        await book.act(*deleting(1))
        work = [Reacting(seq, THUMB, BOB, True) for seq in (1, 2, 3, 99)]
        stored: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        change = Change("room", "", stored.set_result, Reacted(0, 0, []), work)
        book.log.append(change)
        assert await stored == 4
        assert {seq: error.code for seq, error in change.refused.items()} == dict.fromkeys((1, 3, 99), "not_found")
        await book.log.settled()
        told = book.shown["room"][-1]
        assert told.body == encode(Reacted(4, told.at, [MessageReactions(2, [Reaction(THUMB, 1, [BOB])])]))
        assert await book.act([work[0], work[2], work[3]], Reacted(0, 0, [])) == "not_found"


# The order and the moderators' log


@on_a_loop
async def test_the_order_is_stored_with_the_act(make_log: MakeLog) -> None:
    """Entries come, change and go with acts, with messages and on their own, in this room alone."""
    async with make_log() as book:
        mute = Acted(0, 0, "mute", BOB, ANN, 5)
        assert await book.act(None, mute, entries={"rules": b"{}", "person:a": b"1"}) == 1
        assert await book.act(entries={"person:a": b"2", "filter": b"[]"}) == 0
        assert await book.say(entries={"filter": None, "unknown": None}) == 2
        assert await book.act(room="other", entries={"rules": b"7"}) == 0
    async with make_log() as book:
        opening = await book.log.open_room("room", 5)
        assert opening.entries == {"rules": b"{}", "person:a": b"2"}
        assert opening.recent[0].body == encode(Acted(1, opening.recent[0].at, "mute", BOB, ANN, 5))
        assert (await book.log.open_room("other", 5)).entries == {"rules": b"7"}
        assert await book.log.names() == ["other", "room"]


@on_a_loop
async def test_the_moderators_log_is_read_backwards(make_log: MakeLog, clock: Clock) -> None:
    """Ids count up in each room, `at` is the event's; by person it is what he did and what was done to him."""
    async with make_log() as book:
        await book.say(room="other")
        for number, (by, whom) in enumerate([(ANN, BOB), (BOB, CAT), (ANN, None), (CAT, ANN)]):
            clock.now_ms += 10
            event = Acted(0, 0, "kick", by, whom or by)
            await book.act(None, event, record=Record("kick", by, whom=whom, reason=f"r{number}"))
        assert await book.act(room="other", record=Record("raid", ANN)) == 0
    async with make_log() as book:
        assert await book.act(record=Record("rules", BOB, detail="slow_s=3")) == 0
        acts, more = await book.log.acts("room", None, 3, None)
        assert (acts, more) == (
            [
                encode(Record("rules", BOB, at=clock.now_ms, id=5, detail="slow_s=3")),
                encode(Record("kick", CAT, at=clock.now_ms, id=4, whom=ANN, reason="r3")),
                encode(Record("kick", ANN, at=clock.now_ms - 10, id=3, reason="r2")),
            ],
            True,
        )
        assert [decode(body)["id"] for body in (await book.log.acts("room", 3, 1, None))[0]] == [2]
        acts, more = await book.log.acts("room", None, 9, BOB.id)
        assert ([decode(body)["id"] for body in acts], more) == ([5, 2, 1], False)
        assert (await book.log.acts("room", 1, 9, None)) == ([], False)
        assert (await book.log.acts("unused", None, 9, None)) == ([], False)
        assert len((await book.log.acts("other", None, 9, None))[0]) == 1


@on_a_loop
async def test_an_act_that_asks_for_nothing_leaves_nothing(make_log: MakeLog) -> None:
    """0, no event; a room of which nothing is stored has no name."""
    async with make_log() as book:
        assert await book.act(room="nothing") == 0
        assert await book.act(*deleting(1), room="nothing") == "not_found"
        assert book.shown == {}
        assert await book.log.names() == []


async def records(book: Book, person: Person | None = None) -> list[Any]:
    return [decode(body, type=Record) for body in (await book.log.acts("room", None, 100, person and person.id))[0]]


@on_a_loop
async def test_the_moderators_log_says_whose_message_was_removed(make_log: MakeLog) -> None:
    """The author stands in what was stored; what somebody does to his own message is nobody's concern."""
    async with make_log() as book:
        await book.say("Ann's")
        await book.say("Bob's own", by=BOB)
        for seq in (1, 2):
            await book.act(*deleting(seq), record=Record("delete", BOB, message=seq))
        (record,) = await records(book)
        assert (record.act, record.whom, record.message) == ("delete", ANN, 1)
        assert await records(book, ANN) == [record]


@on_a_loop
async def test_the_moderators_log_says_whose_held_message_was_refused(make_log: MakeLog) -> None:
    async with make_log() as book:
        await book.say("hmm", by=CAT, hold_for="link")
        await book.act(Refusing((await held_ids(book))[0]), record=Record("review", BOB))
        assert [record.whom for record in await records(book, CAT)] == [CAT]


@on_a_loop
async def test_the_newest_records_of_a_room_are_kept(make_log: MakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each room so many; ids go on counting up."""
    for module in (changing, planning):
        monkeypatch.setattr(module, "MOST_RECORDS", 3)
    async with make_log() as book:
        await book.act(room="other", record=Record("raid", ANN))
        for _ in range(5):
            await book.act(record=Record("raid", ANN))
        assert [record.id for record in await records(book)] == [5, 4, 3]
        assert len((await book.log.acts("other", None, 9, None))[0]) == 1


@on_a_loop
async def test_what_an_act_does_further_is_done_with_it(make_log: MakeLog) -> None:
    """In one commit: each has its event and its record; the answer is the first's seq."""
    async with make_log() as book:
        await book.say()
        further = (
            Further(RoleGiven(0, 0, BOB, ANN, "")),
            Further(purging(ANN)[1], Purging(ANN.id), Record("purge", BOB, whom=ANN)),
        )
        ban = Acted(0, 0, "ban", BOB, ANN)
        entries = {"person:a": b"1"}
        assert await book.act(None, ban, entries=entries, record=Record("ban", BOB, whom=ANN), further=further) == 2
        assert [body[9:15] for body in await bodies(book)] == [b"remove", b'act","', b'role",', b'purge"']
        assert [record.act for record in await records(book)] == ["purge", "ban"]
        assert [what[0] for what in book.told] == ["done", "events"] * 2


@on_a_loop
async def test_what_an_act_does_further_is_undone_with_it(make_sqlite: MakeLog) -> None:
    """A disk that is full at the last part of it leaves nothing of the first."""
    async with make_sqlite() as book:
        await book.fill(50, "x" * 1000)
        before = await bodies(book)
        await book.limit_growth(0)
        heavy = Further(RoleGiven(0, 0, BOB, Person(ANN.id, "x" * 100_000), ""))
        assert await book.act(*purging(ANN), entries={"k": b"1"}, further=(heavy,)) == "not_stored"
        assert await bodies(book) == before
        assert (await book.log.open_room("room", 1)).entries == {}


# Announcements


async def rules(book: Book, *rules: Rules) -> None:
    for each in rules:
        await book.act(None, RulesChanged(0, 0, ANN, each), entries={"rules": encode(each)})


@on_a_loop
async def test_an_announcement_that_was_taken_down_is_in_no_event(make_log: MakeLog) -> None:
    """What the rules were besides stays told, and so does one that stands."""
    first, second = Announcement("first", ANN, 1), Announcement("second", BOB, 2)
    async with make_log() as book:
        await rules(book, Rules(5, announcement=first), Rules(6, announcement=first))
        assert [b"first" in body for body in await bodies(book)] == [True, True]
        assert book.changed == {"room": {}}
        await rules(book, Rules(7, announcement=second), Rules(8, announcement=second))
        stored = await bodies(book)
        assert [b"first" in body for body in stored] == [False] * 4
        assert [b"second" in body for body in stored] == [False, False, True, True]
        assert decode(stored[0], type=RulesChanged).rules == Rules(5)
        assert book.changed["room"] == {1: stored[0], 2: stored[1]}
        await rules(book, Rules(9))
        assert [decode(body, type=RulesChanged).rules for body in await bodies(book)] == [
            Rules(slow_s) for slow_s in range(5, 10)
        ]


@on_a_loop
async def test_taking_down_asks_for_no_other_event(make_sqlite: MakeLog) -> None:
    """However many events a room has, only those with an announcement are looked at."""
    async with make_sqlite() as book:
        await book.fill(10)
        async with book.traced() as statements:
            await rules(book, Rules(5, announcement=Announcement("first", ANN, 1)), Rules(5))
        asked = [sql for sql in statements if "announcing" in sql]
        plans = [await book.sql(f"EXPLAIN QUERY PLAN {sql}") for sql in asked]
        assert len(plans) == 2
        assert "USING INDEX events_announcing (room=? AND seq<?)" in str(plans) and "B-TREE" not in str(plans)


# People


@on_a_loop
async def test_who_has_left_is_known_by_name(make_log: MakeLog) -> None:
    """By what he said last, by what of him waits, by a reaction, or by what was done to him; else he is unknown."""
    async with make_log() as book:
        await book.say(by=ANN)
        await book.say(by=Person(ANN.id, "Anna"))
        assert await book.log.name_of("room", ANN.id) == "Anna"
        await book.act(*reacting(1, by=BOB))
        assert await book.log.name_of("room", BOB.id) == "Bob"
        await book.say(by=CAT, hold_for="link")
        assert await book.log.name_of("room", CAT.id) == "Cat"
        dan = Person("d" * 16, "Dan")
        assert await book.log.name_of("room", dan.id) is None
        await book.act(record=Record("kick", BOB, whom=dan))
        assert await book.log.name_of("room", dan.id) == "Dan"
        assert await book.log.name_of("other", ANN.id) is None


@on_a_loop
async def test_what_somebody_said_is_found_by_his_id(make_log: MakeLog) -> None:
    """Messages alone, those that are still there, in order, and whether there are more."""
    async with make_log() as book:
        for number in range(12):
            await book.say(f"{number}", by=(ANN, BOB)[number % 2])
        await book.act(*editing(3, "edited"))
        await book.act(*deleting(11))
        found = await book.log.said_by("room", ANN.id, None, 3)
        assert (seqs(found.events), found.more_before) == ([5, 7, 9], True)
        assert decode_message((await book.log.said_by("room", ANN.id, 5, 9)).events[1].body).text == "edited"
        found = await book.log.said_by("room", ANN.id, 5, 2)
        assert (seqs(found.events), found.more_before) == ([1, 3], False)
        for room, person in (("other", ANN.id), ("room", CAT.id)):
            assert (await book.log.said_by(room, person, None, 3)).events == []


@on_a_loop
async def test_who_spoke_before_a_moment_is_known(make_log: MakeLog, clock: Clock) -> None:
    """Of those asked for: somebody whose message is still there."""
    async with make_log() as book:
        await book.say(by=ANN)
        clock.now_ms += 10
        await book.say(by=BOB)
        await book.act(*editing(1, "x"))
        people = [ANN.id, BOB.id, CAT.id, 'x"]']
        assert await book.log.spoke_before("room", people, clock.now_ms) == {ANN.id}
        assert await book.log.spoke_before("room", people, clock.now_ms + 1) == {ANN.id, BOB.id}
        assert await book.log.spoke_before("room", people, clock.now_ms - 10) == set()
        assert await book.log.spoke_before("unused", people, clock.now_ms) == set()
        await book.act(*purging(ANN))
        assert await book.log.spoke_before("room", people, clock.now_ms + 1) == {BOB.id}


# Held for review


async def held_ids(book: Book) -> list[int]:
    return [held.id for held in await book.log.held("room")]


@on_a_loop
async def test_a_held_message_waits_and_is_shown(make_log: MakeLog, clock: Clock) -> None:
    """It is no event; with it shown its retries are acked, and it waits no longer; over restarts."""
    async with make_log() as book:
        await book.say()
        assert await book.say("hmm", by=BOB, client_id="c", hold_for="a word", reply_to=1) == "held"
        assert await book.say("hmm", by=BOB, client_id="c", hold_for="a word") == "held"
        assert await book.say("hmm", by=BOB, client_id="c") == "held"
        assert await book.log.head("room") == 1
        (waiting,) = await book.log.held("room")
        assert waiting == HeldMessage(waiting.id, clock.now_ms, BOB, "hmm", "a word", 1)
        assert (await book.log.open_room("room", 1)).held == 1
    async with make_log() as book:
        assert await book.say("hmm", by=BOB, client_id="c") == "held"
        assert await book.log.held_message("room", waiting.id) == (waiting, "c")
        shown = {"by": BOB, "client_id": "c", "reply_to": 1}
        assert await book.say("hmm", **shown, held=waiting.id) == 2
        assert await held_ids(book) == []
        assert await book.say("hmm", **shown, held=waiting.id) == 2
        assert await book.say("hmm", by=BOB, client_id="c", hold_for="a word") == 2
        assert decode_message(book.shown["room"][-1].body).reply_to == 1
        with pytest.raises(ProtocolError, match="waiting for review"):
            await book.log.held_message("room", waiting.id)
    async with make_log() as book:
        assert await book.say("hmm", by=BOB, client_id="c", hold_for="a word") == 2


@on_a_loop
async def test_a_refused_message_is_forgotten_but_not_its_retries(make_log: MakeLog, clock: Clock) -> None:
    """`refused` for a day, over restarts; it is refused once, and can be shown no more."""
    async with make_log() as book:
        await book.say("bad", client_id="c", hold_for="a word")
        (waiting,) = await held_ids(book)
        assert await book.act(Refusing(waiting), record=Record("review", BOB)) == 0
        assert await book.act(Refusing(waiting)) == "not_found"
        assert await book.say("bad", client_id="c", held=waiting) == "not_found"
        assert await book.say("bad", client_id="c", hold_for="a word") == "refused"
        assert await held_ids(book) == []
        assert (await book.log.open_room("room", 1)).held == 0
    async with make_log() as book:
        assert await book.say("bad", client_id="c") == "refused"
        clock.now_ms += 24 * HOUR_MS + 1
        assert await book.say("other", client_id="d", hold_for="a word") == "held"
        assert await book.say("bad", client_id="c") == 1
        assert await held_ids(book) == [waiting + 1]


@on_a_loop
async def test_held_messages_come_in_order_and_are_not_too_many(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first, each room for itself; what is too much is refused at once."""
    for module in (placing, redis):
        monkeypatch.setattr(module, "MOST_HELD", 5)
    async with make_log() as book:
        outcomes = [await book.say(f"{number}", hold_for="link") for number in range(7)]
        assert outcomes == ["held"] * 5 + ["refused"] * 2
        assert await book.say(room="other", hold_for="link") == "held"
        assert [held.text for held in await book.log.held("room")] == list("01234")
        assert await book.act(Refusing((await held_ids(book))[2])) == 0
        assert await book.say("again", hold_for="link") == "held"
        assert [held.text for held in await book.log.held("room")] == ["0", "1", "3", "4", "again"]


@on_a_loop
async def test_what_is_held_must_answer_a_message(make_log: MakeLog) -> None:
    """When it is said, and still when it is shown."""
    async with make_log() as book:
        await book.say()
        assert await book.say(hold_for="link", reply_to=2) == "not_found"
        assert await book.say("hmm", hold_for="link", reply_to=1, client_id="c") == "held"
        await book.act(*deleting(1))
        (id,) = await held_ids(book)
        assert await book.say("hmm", reply_to=1, client_id="c", held=id) == "not_found"
        assert await book.say("hmm", client_id="c", held=id) == 3


@on_a_loop
async def test_how_many_wait_is_counted(make_log: MakeLog) -> None:
    """All of them, where only the oldest 200 are listed."""
    async with make_log() as book:
        await asyncio.gather(*(book.ask(hold_for="link") for _ in range(250)))
        assert (len(await book.log.held("room")), await book.log.held_count("room")) == (200, 250)
        await book.act(Refusing((await held_ids(book))[0]))
        assert await book.log.held_count("room") == 249
        assert await book.log.held_count("other") == 0


@on_a_loop
async def test_saying_it_again_is_always_safe(make_log: MakeLog) -> None:
    """What was stored, held or refused is answered as it was, whatever would be refused now; new it is refused."""
    muted = ProtocolError("muted", "You are muted.", retry_after=5)
    async with make_log() as book:
        assert await book.say(client_id="c") == 1
        assert await book.say(client_id="h", hold_for="link") == "held"
        assert await book.say(client_id="c", refusal=muted) == 1
        assert await book.say(client_id="h", refusal=muted) == "held"
        assert (await book.ask(client_id="n", refusal=muted)) is muted
        assert await book.say(client_id="n") == 2


@on_a_loop
async def test_a_draft_says_whether_it_is_new(make_log: MakeLog) -> None:
    """Stored or held now, and not before."""
    drafts = []
    async with make_log() as book:
        for client_id, hold_for in (("c", ""), ("c", ""), ("h", "link"), ("h", "link"), (None, "")):
            drafts.append(Draft("room", ANN, "x", client_id, None, lambda _: None, hold_for=hold_for))
            book.log.append(drafts[-1])
        await book.log.settled()
    assert [draft.is_new for draft in drafts] == [True, False, True, False, True]


# Together


@on_a_loop
async def test_a_batch_is_applied_in_its_order(make_log: MakeLog) -> None:
    """Messages and acts of many rooms in one turn share a commit, and each room has them as asked."""
    async with make_log() as book:
        for room in ("one", "two"):
            asked = [
                book.ask("a", room=room),
                book.do(*deleting(1), room=room),
                book.ask("b", room=room),
                book.do(None, Acted(0, 0, "mute", BOB, ANN, 1), room=room),
                book.do(*purging(ANN), room=room),
                book.ask("c", room=room),
            ]
        assert [await each for each in asked] == [1, 2, 3, 4, 5, 6]
        await book.log.settled()
        for room in ("one", "two"):
            kinds = [body[9:15] for body in await bodies(book, room)]
            assert kinds == [b"remove", b"delete", b"remove", b'act","', b'purge"', b"messag"]
            assert seqs(book.shown[room]) == [1, 2, 3, 4, 5, 6]


@on_a_loop
async def test_a_change_of_a_full_disk_is_undone_as_a_whole(make_sqlite: MakeLog) -> None:
    """`not_stored`: no entry, no record, nothing rewritten; and the log goes on where it was."""
    async with make_sqlite() as book:
        await book.say()
        before = await bodies(book)
        await book.limit_growth(0)
        heavy = {"k": bytes(100_000)}
        assert await book.act(*deleting(1), entries=heavy, record=Record("delete", BOB)) == "not_stored"
        assert await bodies(book) == before
        assert (await book.log.open_room("room", 1)).entries == {}
        await book.limit_growth(1000)
        assert await book.act(*deleting(1), entries=heavy, record=Record("delete", BOB)) == 2
        assert [decode(body)["id"] for body in (await book.log.acts("room", None, 5, None))[0]] == [1]


# Reading meanwhile

READINGS: dict[str, Any] = {
    "open_room": lambda log: log.open_room("room", 50),
    "before": lambda log: log.before("room", None, 50),
    "after": lambda log: log.after("room", 0, 50),
    "around": lambda log: log.around("room", 2, 5),
    "since": lambda log: log.since("room", 0, 50),
    "said_by": lambda log: log.said_by("room", ANN.id, None, 50),
}


@contextlib.contextmanager
def held_after(monkeypatch: pytest.MonkeyPatch, readings: int) -> Iterator[list[Any]]:
    """So many readings have read, but do not answer while the block runs; lists which rooms were read in all."""
    gate, read, rooms = threading.Event(), log_reading.at_once, []

    def slowly(db: Any, *what: Any) -> Any:
        rooms.append(what[1])
        found = read(db, *what)
        if len(rooms) <= readings:
            gate.wait(DEADLINE_S)
        return found

    monkeypatch.setattr(log_reading, "at_once", slowly)
    try:
        yield rooms
    finally:
        gate.set()


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())
@on_a_loop
async def test_no_reading_brings_back_what_was_removed(
    make_sqlite: MakeLog, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """One that has read the text, and answers only after the commit that removes it was shown, reads again."""
    async with make_sqlite() as book:
        await book.say("secret")
        await book.say("kept")
        with held_after(monkeypatch, 1) as rooms:
            asked = asyncio.ensure_future(read(book.log))
            await until(lambda: rooms)
            assert await book.do(*deleting(1)) == 3
        answer = str(await asked)
        assert "kept" in answer and "secret" not in answer
        assert rooms == ["room", "room"]
        assert book.log._readings._under_way == {}


@on_a_loop
async def test_only_the_readings_of_a_rewritten_room_are_done_again(
    make_sqlite: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another room's are answered as they were read, and so is one during whose time something was only added."""
    async with make_sqlite() as book:
        for room in ("room", "other"):
            await book.say("secret", room=room)
        with held_after(monkeypatch, 1) as rooms:
            asked = [asyncio.ensure_future(book.log.after(room, 0, 5)) for room in ("other", "third")]
            await until(lambda: rooms)
            await book.do(*deleting(1))
            await book.ask(room="other")
        assert [len((await each).events) for each in asked] == [1, 0]
        assert rooms == ["other", "third"]


@on_a_loop
async def test_a_room_that_changes_all_the_time_can_be_read(make_log: MakeLog) -> None:
    """After a few tries it is read between two commits."""
    async with make_log() as book:
        await book.say("one")
        ended = False

        async def change() -> None:
            while not ended:
                await book.do(*editing(1, "two"))

        changing = asyncio.ensure_future(change())
        for _ in range(50):
            assert (await book.log.after("room", 0, 5)).events
        ended = True
        await changing


@on_a_loop
async def test_a_held_text_is_not_read_after_it_was_refused(make_sqlite: MakeLog) -> None:
    """Neither in the list nor by its id."""
    async with make_sqlite() as book:
        await book.say("secret", hold_for="word")
        (id,) = await held_ids(book)
        with holding(book.log._reader_thread):
            listed = asyncio.ensure_future(book.log.held("room"))
            found = asyncio.ensure_future(book.log.held_message("room", id))
            await book.do(Refusing(id))
        assert await listed == []
        with pytest.raises(ProtocolError):
            await found


@on_a_loop
async def test_a_memory_log_does_all_of_it(make_sqlite: MakeLog) -> None:
    """Acts, clearing and keeping need no file."""
    async with make_sqlite(":memory:") as book:
        await book.fill(20)
        assert await book.act(*editing(2, "x")) == 21
        assert await book.act(Purging(ANN.id), purging(ANN)[1]) == 22
        await book.log.keep("room", 0, 3)
        assert (await book.log.open_room("room", 50)).first == 20


@on_a_loop
async def test_reactions_to_very_many_messages_are_told_in_several_events(make_log: MakeLog) -> None:
    """None of them is so large that it would cut off whoever hears it; together they tell all."""
    async with make_log() as book:
        await book.fill(120)
        crowd = [Person(f"p{number:015}", "N" * 32) for number in range(8)]
        work = [Reacting(seq, kind, by, True) for seq in range(1, 121) for kind in REACTIONS for by in crowd]
        last = await book.act(work, Reacted(0, 0, []))
        told = book.shown["room"][120:]
        assert last == told[-1].seq == 120 + len(told)
        assert max(len(event.body) for event in told) < 64 * 1024
        assert [seq for event in told for seq in seqs_told(event.body)] == list(range(1, 121))


def seqs_told(body: bytes) -> list[int]:
    return [change.message for change in decode(body, type=Reacted).changes]


@on_a_loop
async def test_a_purge_takes_what_waits_for_review(make_log: MakeLog) -> None:
    """It is nothing that a moderator could still show; a retry is refused."""
    async with make_log() as book:
        await book.say("his", by=ANN, client_id="a", hold_for="link")
        await book.say("another's", by=BOB, client_id="b", hold_for="link")
        await book.act(*purging(ANN))
        assert [held.text for held in await book.log.held("room")] == ["another's"]
        assert await book.say("his", by=ANN, client_id="a") == "refused"


@on_a_loop
async def test_the_list_of_what_waits_for_review_is_bounded(make_log: MakeLog) -> None:
    """By bytes as they are written: a moderator must be able to read it."""
    async with make_log() as book:
        for number in range(30):
            await book.say("\x01" * 4000, by=ANN, client_id=f"c{number}", hold_for="link")
        shown = await book.log.held("room")
        assert 5 < len(shown) < 30
        assert len(encode(shown)) < 256 * 1024
        assert await book.log.held_count("room") == 30
