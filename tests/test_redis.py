"""What Redis adds to the event log's promise: several servers are told the same, whatever becomes of Redis or the way.

Each `RedisLog` stands for a server; those of a test share one Redis, a process of its own.
"""

import asyncio
import contextlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis as blocking
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.client import Pipeline
from tornado.testing import ExpectLog

from chat.eventlog import Change, LogRefused, Opening, keys, line, meeting, redis
from chat.eventlog.planning import Plan
from chat.eventlog.redis import RedisLog
from chat.protocol import REACTIONS, Event, Message, MessageReactions, Person, Reacted, Reaction, Removed, decode_message
from tests.book import ANN, BOB, HOUR_MS, Book, Clock, Outcome, deleting, editing, on_a_loop, purging, reacting, seqs
from tests.cable import Cable
from tests.house import until
from tests.redis_server import RedisServer, running

PEOPLE = [Person(letter * 16, letter) for letter in "abcdefgh"]
AWAY = r"Redis cannot|what was missed"  # what is logged while it is
CHANNEL = keys.keys_of("room").room


class Server(Book):
    """An open log on a Redis that others share; what it tells of epochs is kept, and a room that is lost begins anew."""

    def __init__(self, url: str) -> None:
        self.redis_log = RedisLog(url)
        super().__init__(self.redis_log)
        self.redis_log.on_epoch = self._on_epoch
        self.redis_log.on_lost = self._on_lost

    def _on_epoch(self, room: str, opening: Opening) -> None:
        self.told.append(("epoch", room, opening.starts[-1].first_seq if opening.starts else 1))

    def _on_lost(self, room: str) -> None:
        self.told.append(("lost", room))
        self.shown[room], self.changed[room] = [], {}

    def count(self, what: str, room: str = "room") -> int:
        return sum(each[:2] == (what, room) for each in self.told)

    def stored_as(self, room: str = "room") -> dict[int, bytes]:
        """The room as its members have it: what was told last of each event."""
        return {event.seq: event.body for event in self.shown.get(room, [])} | self.changed.get(room, {})


@contextlib.asynccontextmanager
async def serving(*urls: str, room: str = "room") -> AsyncIterator[list[Server]]:
    """A server for each of these, with the room open."""
    servers = [Server(url) for url in urls]
    try:
        for server in servers:
            await server.log.open_room(room, 1)
        yield servers
    finally:
        for server in servers:
            await server.log.close()


async def agreed(*servers: Server, room: str = "room", since: int = 0) -> list[Event]:
    """What is stored after `since`, once all servers were told of it: in order, each event once, as it is stored."""
    while not isinstance(last := await servers[0].ask("the last", room=room), int):
        assert last.code == "not_stored"
    for server in servers:
        await until(lambda server=server: seqs(server.shown.get(room, []))[-1:] == [last])
    stored = (await servers[0].log.after(room, since, 1 << 20, 1 << 40)).events
    assert seqs(stored) == list(range(since + 1, last + 1))
    for server in servers:
        assert seqs(server.shown[room]) == seqs(stored)
        assert server.stored_as(room) == {event.seq: event.body for event in stored}
    return stored


def texts_of(stored: list[Event]) -> dict[str, list[int]]:
    """The seqs under which each text is stored."""
    found: dict[str, list[int]] = {}
    for event in stored:
        if event.body.startswith(b'{"type":"message"'):
            found.setdefault(decode_message(event.body).text, []).append(event.seq)
    return found


def check_answers(outcomes: dict[str, Outcome], stored: list[Event]) -> None:
    """What was answered with a seq is stored there alone; what is `not_stored` is, or once all the same."""
    found = texts_of(stored)
    for text, outcome in outcomes.items():
        if isinstance(outcome, int):
            assert found.get(text) == [outcome], text
        else:
            assert outcome.code == "not_stored"
            assert len(found.get(text, [])) <= 1, text


async def talk(server: Server, name: str, rounds: int, outcomes: dict[str, Outcome]) -> None:
    """Say ten things at a time and edit the room's first message, waiting for the answers each time."""
    for number in range(rounds):
        asked = {f"{name} {number} {each}": server.ask(f"{name} {number} {each}") for each in range(10)}
        edit = server.do(*editing(1, f"edited by {name} {number}"))
        outcomes |= zip(asked, await asyncio.gather(*asked.values()), strict=True)
        await edit


async def meanwhile(what: Callable[[], Any], *under_way: Coroutine[Any, Any, None]) -> int:
    """Do something again and again until these are done; returns how often."""
    times, all_of_them = 0, asyncio.gather(*under_way)
    while not all_of_them.done():
        await asyncio.to_thread(what)
        times += 1
        await asyncio.wait([all_of_them], timeout=0.1)
    await all_of_them
    return times


def killing(server: RedisServer, kind: str) -> Callable[[], Any]:
    """Cuts all connections of a kind."""
    client = server.client()
    return lambda: client.execute_command("CLIENT", "KILL", "TYPE", kind)


def all_keys(server: RedisServer) -> dict[bytes, bytes]:
    """Everything that is stored, but for what probes leave."""
    with server.client() as client:
        names = sorted(set(client.keys("*")) - {b"chatroom:probe"})
        return dict(zip(names, (client.dump(name) for name in names), strict=True))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has what it answered on its disk."""
    with running(tmp_path / "redis", "--appendfsync", "always", "--enable-debug-command", "yes") as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that try again after a twentieth of a second, and take silence for a cut after half of one."""
    monkeypatch.setattr(line, "_RETRY_S", 0.05)
    monkeypatch.setattr(redis, "_RETRY_S", 0.05)
    monkeypatch.setattr(line, "_QUIET_S", 0.25)


# Several servers


@on_a_loop
async def test_two_servers_that_write_the_same_rooms_tell_the_same(server: RedisServer) -> None:
    """Messages, edits, deletes, purges and reactions mixed: one order, each event once, and as it is stored."""
    dice, rooms = random.Random(1), ("room", "other")

    async def act(one: Server, room: str) -> None:
        for _ in range(60):
            seq, by = dice.randrange(1, 60), dice.choice(PEOPLE)
            asked = [one.ask(f"text {dice.random()}", room=room, by=by) for _ in range(dice.randrange(4))]
            what = dice.choice([*(reacting(seq, dice.choice(REACTIONS), by, dice.random() < 0.7),) * 4, deleting(seq)])
            asked.append(one.do(*what, room=room, by=by.id))
            asked.append(one.do(*editing(seq, f"edit {dice.random()}", by), room=room, by=by.id))
            if dice.random() < 0.03:
                asked.append(one.do(*purging(by), room=room))
            for outcome in await asyncio.gather(*asked):
                assert isinstance(outcome, int) or outcome.code in ("not_found", "forbidden")

    async with serving(server.url, server.url) as servers:
        for one in servers:
            await one.log.open_room("other", 1)
        await asyncio.gather(*(act(one, room) for one in servers for room in rooms))
        for room in rooms:
            assert len(await agreed(*servers, room=room)) > 150


@on_a_loop
async def test_a_client_id_that_two_servers_hear_is_stored_once(server: RedisServer) -> None:
    """Both answer with the one seq, whoever comes first; one event is told."""
    async with serving(server.url, server.url) as (one, other):
        for number in range(50):
            asked = [each.ask(f"by {number}", client_id=f"c{number}") for each in (one, other)]
            first, second = await asyncio.gather(*asked)
            assert first == second == number + 1
        assert len(await agreed(one, other)) == 51


@on_a_loop
async def test_a_client_id_is_known_to_a_server_whose_clock_is_behind_midnight(
    server: RedisServer, clock: Clock
) -> None:
    """Two servers' clocks are never quite the same: it may be tomorrow on one."""
    midnight = clock.now_ms // (24 * HOUR_MS) * 24 * HOUR_MS
    async with serving(server.url, server.url) as (one, other):
        clock.now_ms = midnight + 5
        assert await one.ask(client_id="c") == 1
        clock.now_ms = midnight - 5
        assert await other.ask(client_id="c") == 1


@on_a_loop
async def test_an_act_is_planned_anew_on_what_another_server_changed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of what was deleted meanwhile is refused; a reaction comes beside the one that came meanwhile."""
    plan, meddling = redis.plan, []

    async def meddled_plan(planned: Plan, asked: Change) -> None:
        await plan(planned, asked)
        if meddling:
            await meddling.pop()()

    async with serving(server.url, server.url) as (one, other):
        await one.fill(2)
        monkeypatch.setattr(redis, "plan", meddled_plan)
        meddling.append(lambda: other.do(*deleting(1)))
        refusal = await one.do(*editing(1, "edited"))
        assert not isinstance(refusal, int)
        assert refusal.code == "not_found"
        meddling.append(lambda: other.do(*reacting(2, REACTIONS[0], BOB)))
        assert await one.do(*reacting(2, REACTIONS[0], ANN)) == 5
        stored = await agreed(one, other)
    assert [decode_message(stored[1].body).reactions] == [[Reaction(REACTIONS[0], 2, [BOB, ANN])]]
    assert stored[0].body == Removed_at(stored[0])
    assert len(stored) == 6


def Removed_at(event: Event) -> bytes:
    return f'{{"type":"removed","seq":{event.seq},"at":{event.at}}}'.encode()
