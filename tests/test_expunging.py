"""A person is taken out of Redis as he is taken out of a file: what is left of a room is the same on either engine."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.commands import run_command
from chat.eventlog import LogRefused, LogUnreachable, Refusing, expunging, keys, placing, redis
from chat.eventlog.erasing import erase as erase_from_file
from chat.eventlog.expunging import erase
from chat.eventlog.redis import RedisLog
from chat.protocol import REACTIONS, REACTORS, Acted, Announcement, Person, Record, Rules, RulesChanged, encode
from chat.settings import read_settings
from tests.book import ANN, BOB, Book, Clock, deleting, editing, on_a_loop, opened, reacting
from tests.house import until
from tests.redis_server import RedisServer, running
from tests.test_scrub import _check_erased, _live

DAN = Person("d" * 16, "Daniel")
CROWD = [Person(f"c{number:a>15}".translate(str.maketrans("0189", "ghij")), f"C{number}") for number in range(12)]
NOBODY = "e" * 16

Opened = Callable[[], contextlib.AbstractAsyncContextManager[Book]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time as either engine has it, also while somebody is erased."""
    clock = Clock(1_800_000_000_000)
    for module in (placing, redis, expunging):
        monkeypatch.setattr(module, "time", clock)
    return clock


def listeners(server: RedisServer) -> int:
    """How many servers are heard of there."""
    with server.client() as client:
        ((_, count),) = client.pubsub_numsub(keys.channel(0, keys.SERVERS))
        return int(count)


@contextlib.asynccontextmanager
async def opened_on(server: RedisServer) -> AsyncIterator[Book]:
    """A server's log; at the end of the block Redis knows that it is gone."""
    log = RedisLog(server.url)
    try:
        yield Book(log)
    finally:
        await log.close()
        await until(lambda: not listeners(server))


def kept(server: RedisServer) -> dict[str, Any]:
    """All that is in Redis, by its key."""
    with server.client() as client:
        reads: dict[bytes, Callable[[Any], Any]] = {
            b"hash": client.hgetall,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"set": client.smembers,
            b"string": client.get,
        }
        return {key.decode(): reads[client.type(key)](key) for key in client.scan_iter()}


def where(server: RedisServer, word: str) -> set[str]:
    """What the keys are called, behind the room's tag, that have a word anywhere."""
    return {key.rpartition("}:")[2].split(":")[0] for key, value in kept(server).items() if word in repr((key, value))}


async def lives(book: Book, room: str) -> None:
    """What `_live` leaves out: a crowd of reactors, answers, replaced edits, refused messages, kicks, old events."""
    for number in range(3):
        await book.say(f"old {number}", by=(DAN, BOB)[number % 2], client_id=f"old{number}", room=room)
    await book.log.keep(room, 0, 2)
    seq = await book.say("<secret> one", by=DAN, client_id="d1", room=room)
    bobs = await book.say(f"about {DAN.id}", by=BOB, client_id="b1", reply_to=seq, room=room)
    await book.say("an answer", by=ANN, reply_to=seq, room=room)
    for text in ("<secret> two", "<secret> three"):
        await book.act(*editing(seq, text, DAN), by=DAN.id, room=room)
    for person in (*CROWD[:5], DAN, *CROWD[5:]):
        for message in (bobs, seq):
            await book.act(*reacting(message, by=person), by=person.id, room=room)
    await book.act(*reacting(bobs, REACTIONS[1], DAN), by=DAN.id, room=room)
    last = await book.say("<secret> gone", by=DAN, room=room)
    await book.act(*deleting(last), room=room, record=Record("delete", BOB, reason="<secret> why"))
    for number, why in enumerate(("spam", "spam", "spam")):
        await book.say(f"<secret> held {number}", by=DAN, client_id=f"h{number}", hold_for=why, room=room)
    held = await book.log.held(room)
    await book.act(Refusing(held[0].id), room=room, record=Record("refuse", BOB, reason="<secret> no"))
    await book.say("<secret> held 1", by=DAN, client_id="h1", held=held[1].id, room=room)
    await book.say("waits", by=ANN, client_id="a1", hold_for="spam", room=room)
    kick = Record("kick", DAN, whom=ANN, reason="<secret> noise")
    await book.act(None, Acted(0, 0, "kick", DAN, ANN), record=kick, by=DAN.id, room=room)
    await book.act(None, Acted(0, 0, "ban", BOB, ANN), record=Record("ban", BOB, whom=ANN, reason="noise"), room=room)
    for by in (DAN, BOB):
        rules = Rules(5, announcement=Announcement(f"welcome by {by.name}", by, 1))
        await book.act(None, RulesChanged(0, 0, by, rules), entries={"rules": encode(rules)}, by=by.id, room=room)
    await book.act(
        entries={
            f"person:{DAN.id}": encode({"name": DAN.name, "banned_until": 9, "banned_for": "<secret>"}),
            f"person:{ANN.id}": encode({"name": ANN.name, "muted_for": "noise"}),
            "address:k": encode({"until": 9, "whom": DAN, "reason": "<secret> ban"}),
            "address:l": encode({"until": 9, "whom": ANN, "reason": "noise"}),
        },
        room=room,
    )


async def looks(book: Book, room: str) -> dict[str, Any]:
    """All that can be read of a room."""
    opening = await book.log.open_room(room, 500)
    people = [person.id for person in (ANN, BOB, DAN, *CROWD)]
    return {
        "events": opening.recent,
        "opening": (opening.head, opening.first, opening.entries, opening.held),
        "held": [(held.by, held.text, held.why) for held in await book.log.held(room)],
        "acts": await book.log.acts(room, None, 99, None),
        "his acts": await book.log.acts(room, None, 99, DAN.id),
        "said": [(await book.log.said_by(room, person, None, 99)).events for person in people],
        "names": [await book.log.name_of(room, person) or None for person in people],
        "spoke": await book.log.spoke_before(room, people, 1 << 52),
        "again": [
            await book.say("again", by=by, client_id=client_id, room=room)
            for by, client_id in ((BOB, "b1"), (ANN, "a1"), (DAN, "d1"), (DAN, "h0"), (DAN, "h1"), (DAN, "h2"))
        ],
        "after that": (await book.log.after(room, 0, 500)).events,
    }


async def told(make: Opened, erase_here: Callable[[], Any]) -> list[Any]:
    """The story on one engine: what was erased, and what is left."""
    async with make() as book:
        await lives(book, "long")
        await _live(book, "short", DAN)
        await _live(book, "without", BOB)
    erased = [tuple(each) for each in await asyncio.to_thread(erase_here)]
    async with make() as book:
        return [erased, *[await looks(book, room) for room in ("long", "short", "without")]]


@on_a_loop
async def test_the_same_is_left_of_the_same_rooms(tmp_path: Path, server: RedisServer, clock: Clock) -> None:
    """Whatever can be read or asked of them afterwards, and the counts that are told."""
    on_redis = await told(functools.partial(opened_on, server), lambda: erase(server.url, DAN.id))
    file = tmp_path / "chatroom.db"
    on_sqlite = await told(functools.partial(opened, tmp_path), lambda: erase_from_file(str(file), DAN.id))
    assert on_redis[0] == on_sqlite[0] == [("long", 4), ("short", 2)]
    for here, there in zip(on_redis[1:], on_sqlite[1:], strict=True):
        for what in there:
            assert (what, here[what]) == (what, there[what])
    named = [event for event in on_redis[1]["events"] if b'"reactions":[{' in event.body and b'"message"' in event.body]
    assert named[0].body.count(b'"name":"C') == REACTORS  # who came after him is told in his place


@on_a_loop
async def test_an_erased_person_is_nowhere_in_redis(server: RedisServer) -> None:
    """Neither his words nor his name in any key; his id where a file has it, too; others, seqs and times stay."""
    async with opened_on(server) as book:
        for room in ("one", "two"):
            await _live(book, room, DAN)
        await lives(book, "long")
        before = {room: (await book.log.after(room, 0, 50)).events for room in ("one", "two")}
    assert {"events", "entries", "held", "reactors", "acts"} <= where(server, "Daniel") & where(server, DAN.id)
    assert {"said", "reacted", "known", "ids"} <= where(server, DAN.id)
    assert {"events", "entries", "held", "acts"} <= where(server, "<secret>")
    await asyncio.to_thread(erase, server.url, DAN.id)
    assert where(server, "Daniel") == where(server, "<secret>") == set()
    assert where(server, DAN.id) == {"events", "entries", "acts"}
    assert {"said", "reacted", "reactors", "known", "ids", "held"} <= where(server, BOB.id) | where(server, ANN.id)
    everything = kept(server)
    for index, of in (("edits", b'"type":"edit"'), ("telling", b'"announcement":')):
        for here in map(keys.keys_of, ("one", "two", "long")):
            indexed = everything.get(getattr(here, index), [])
            assert [seq for seq in indexed if of not in everything[here.events][seq]] == []
    folder = server.folder / "appendonlydir"
    await until(lambda: not [path for path in folder.iterdir() if b"<secret>" in path.read_bytes()])
    async with opened_on(server) as book:
        for room in ("one", "two"):
            await _check_erased(book, room, DAN, before[room])
    left = kept(server)
    again = await asyncio.to_thread(erase, server.url, DAN.id)
    assert {found.n for found in again} == {0}
    assert {key for key, value in kept(server).items() if left[key] != value and not key.endswith("}:room")} == set()


@on_a_loop
async def test_many_messages_of_one_person_go(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one command takes; those of others stay as they were."""
    monkeypatch.setattr(expunging, "_STEP", 4)
    async with opened_on(server) as book:
        for by in (DAN, BOB):
            asked = [book.ask(f"{number}", by=by, client_id=f"c{number}") for number in range(150)]
            await asyncio.gather(*asked)
        for seq in range(151, 171):
            await book.act(*reacting(seq, by=DAN), by=DAN.id)
            await book.act(*reacting(seq - 150, by=BOB), by=BOB.id)
    assert await asyncio.to_thread(erase, server.url, DAN.id) == [("room", 150)]
    assert where(server, DAN.id) == {"events"}
    assert where(server, BOB.id) == {"events", "said", "ids"}
    async with opened_on(server) as book:
        assert len((await book.log.said_by("room", BOB.id, None, 500)).events) == 150
        assert (await book.log.said_by("room", DAN.id, None, 500)).events == []


@on_a_loop
async def test_who_comes_back_after_an_erasure_is_told(server: RedisServer) -> None:
    """His past is whole, the purge follows; what was read of the room before is read anew; also in another run."""
    async with opened_on(server) as book:
        await book.fill(3)
        await book.say("more", by=BOB)
        epoch = book.log.epoch
    rewritings = int(kept(server)[keys.keys_of("room").room][b"rewritings"])
    for run in range(2):
        if run:
            server.stop()
            server.start()
        person = (ANN, BOB)[run].id
        assert await asyncio.to_thread(erase, server.url, person) == [("room", (3, 1)[run])]
        assert int(kept(server)[keys.keys_of("room").room][b"rewritings"]) == rewritings + run + 1
        async with opened_on(server) as book:
            head = (5, 6)[run]
            assert await book.is_ours(epoch, 5)
            assert not await book.is_ours(epoch, 6)
            newest = (await book.log.after("room", head - 1, 9)).events
            assert [(event.seq, b'"purge"' in event.body) for event in newest] == [(head, True)]


# Refused


@on_a_loop
async def test_nobody_is_erased_under_a_running_server(server: RedisServer) -> None:
    """One sentence, and nothing changes."""
    async with opened_on(server) as book:
        await book.say()
        await until(lambda: listeners(server))
        left = kept(server)
        with pytest.raises(LogRefused, match=r"^The Redis at \S+ is in use: [^.]*\.$"):
            await asyncio.to_thread(erase, server.url, ANN.id)
        assert kept(server) == left
        assert await book.say() == 2
    assert await asyncio.to_thread(erase, server.url, ANN.id) == [("room", 2)]


@on_a_loop
async def test_a_server_that_begins_to_run_meanwhile_loses_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it stores in a room that is just read stays; one sentence says so."""
    async with opened_on(server) as book:
        await book.say()
    unname = expunging._Room.unname_acts

    def meanwhile(room: Any) -> None:
        async def begin() -> None:
            async with opened_on(server) as book:
                assert await book.say("new") == 2

        asyncio.run(begin())
        unname(room)

    monkeypatch.setattr(expunging._Room, "unname_acts", meanwhile)
    with pytest.raises(LogRefused, match=r"A server began to run .*: stop it, then do it again\.$"):
        await asyncio.to_thread(erase, server.url, ANN.id)
    monkeypatch.undo()
    async with opened_on(server) as book:
        assert [b'"message"' in event.body for event in (await book.log.after("room", 0, 9)).events] == [True, True]


@on_a_loop
async def test_of_an_id_that_is_nobodys_nothing_is_found(server: RedisServer) -> None:
    """And nothing changes."""
    async with opened_on(server) as book:
        await _live(book, "room", DAN)
    left = kept(server)
    assert await asyncio.to_thread(erase, server.url, NOBODY) == []
    assert kept(server) == left


def test_nobody_is_erased_where_no_server_was(server: RedisServer) -> None:
    """Refused, and nothing is made; the same where there is no Redis."""
    with pytest.raises(LogRefused, match="No server was started"):
        erase(server.url, ANN.id)
    assert kept(server) == {}
    for url in ("redis://", "http://127.0.0.1", "redis://127.0.0.1:1/0"):
        with pytest.raises(LogRefused, match=r"\.$"):
            erase(url, ANN.id)


@on_a_loop
async def test_what_cannot_be_stored_is_told_in_a_sentence(server: RedisServer) -> None:
    """A Redis that is full: nothing of the room has changed, and once there is room it is done."""
    async with opened_on(server) as book:
        await book.say()
    left = kept(server)
    with server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(LogRefused, match=r"\.$") as refused:
            await asyncio.to_thread(erase, server.url, ANN.id)
        assert not isinstance(refused.value, LogUnreachable)
        client.config_set("maxmemory", "0")
    assert kept(server) == left
    assert await asyncio.to_thread(erase, server.url, ANN.id) == [("room", 1)]


@on_a_loop
async def test_the_command_prints_what_went(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Room by room, in the words in which it is told of a file."""
    async with opened_on(server) as book:
        await book.fill(2, room="tea")
        await book.fill(1, room="lounge")
        await book.say(by=BOB)
    settings = replace(read_settings([], {}), redis=server.url)
    assert await asyncio.to_thread(run_command, replace(settings, erase=ANN.id))
    assert capsys.readouterr().out == "lounge: 1 removed\ntea: 2 removed\n"
    assert await asyncio.to_thread(run_command, replace(settings, erase=NOBODY))
    assert capsys.readouterr().out == f"Nothing of {NOBODY} is kept in that Redis.\n"
