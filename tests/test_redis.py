"""What Redis adds to the event log's promise: several servers are told the same, whatever becomes of Redis and the way.

Each `RedisLog` stands for a server; those of a test share one Redis, a process of its own.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as blocking
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.client import Pipeline
from tornado.testing import ExpectLog

from chat.eventlog import Opening, asking, keys, line, redis
from chat.eventlog.planning import plan
from chat.eventlog.redis import RedisLog
from chat.neighbours import decode_telling
from chat.protocol import REACTIONS, Event, Person, Reaction, decode_message
from tests.book import ANN, BOB, HOUR_MS, Book, Clock, Outcome, deleting, editing, on_a_loop, purging, reacting, seqs
from tests.cable import Cable
from tests.house import until
from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S

PEOPLE = [Person(letter * 16, letter) for letter in "abcdefgh"]
AWAY = r"Redis cannot|what was missed could not be read yet"  # what is logged while it is
LOST = r"room '.*' has lost what was shown of it|Redis has forgotten what it was told"


class Server(Book):
    """A log on a Redis that others share. A room that is lost begins anew."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.log: RedisLog = RedisLog(url)
        super().__init__(self.log)
        self.log.on_epoch = self._on_epoch
        self.log.on_lost = self._on_lost
        self.log.on_telling = lambda room, payload: self.told.append((decode_telling(payload), room))

    def _on_epoch(self, room: str, opening: Opening) -> None:
        now = self.log.epochs[self.log.epoch]
        first = next((start.first_seq for start in opening.starts if start.epoch == now), opening.head + 1)
        is_in_time = all(event.seq < first for event in self.shown.get(room, []))
        self.told.append(("epoch" if is_in_time else "late epoch", room))

    def _on_lost(self, room: str) -> None:
        self.told.append(("lost", room))
        self.shown[room], self.changed[room] = [], {}

    def times(self, what: str, room: str = "room") -> int:
        return sum(each[:2] == (what, room) for each in self.told)

    def as_told(self, room: str = "room") -> dict[int, bytes]:
        """The room as its members have it: what was told last of each event."""
        return {event.seq: event.body for event in self.shown.get(room, [])} | self.changed.get(room, {})


@contextlib.asynccontextmanager
async def serving(*urls: str) -> AsyncIterator[list[Server]]:
    """A server for each of these, with the room open."""
    servers: list[Server] = []
    try:
        for url in urls:
            servers.append(Server(url))
            await servers[-1].log.open_room("room", 1)
        yield servers
    finally:
        for server in servers:
            await server.log.close()


async def agreed(*servers: Server, room: str = "room") -> list[Event]:
    """What is stored, once all servers were told of it: in order, each event once, and as it is stored."""
    while not isinstance(last := await servers[0].ask("the last", room=room), int):
        assert last.code == "not_stored"
    await until(lambda: all(seqs(server.shown.get(room, []))[-1:] == [last] for server in servers))
    stored = (await servers[0].log.after(room, 0, 1 << 20, 1 << 40)).events
    assert seqs(stored) == list(range(1, last + 1))
    for server in servers:
        assert seqs(server.shown[room]) == seqs(stored)
        assert server.as_told(room) == {event.seq: event.body for event in stored}
        assert server.times("late epoch", room) == 0
    return stored


def check_answers(outcomes: dict[str, Outcome], stored: list[Event]) -> None:
    """What was answered with a seq is stored there, and there alone; what was `not_stored` is not stored twice."""
    found: dict[str, list[int]] = {}
    for event in stored:
        if event.body.startswith(b'{"type":"message"'):
            found.setdefault(decode_message(event.body).text, []).append(event.seq)
    for text, outcome in outcomes.items():
        if isinstance(outcome, int):
            assert found.get(text) == [outcome], text
        else:
            assert outcome.code == "not_stored"
            assert len(found.get(text, [])) <= 1, text


async def talk(server: Server, name: str, outcomes: dict[str, Outcome], rounds: int = 40) -> None:
    """Say ten things at a time and edit the room's first message, waiting for the answers each time."""
    for number in range(rounds):
        asked = {text: server.ask(text) for text in (f"{name} {number} {each}" for each in range(10))}
        edit = server.do(*editing(1, f"edited by {name}: {number}"))
        outcomes |= zip(asked, await asyncio.gather(*asked.values()), strict=True)
        await edit


async def meanwhile(what: Callable[[], Any], *under_way: Awaitable[Any]) -> None:
    """Do something again and again until these are done."""
    everything = asyncio.gather(*under_way)
    while not everything.done():
        await asyncio.to_thread(what)
        await asyncio.wait([everything], timeout=0.1)
    await everything


def killing(server: RedisServer, kind: str) -> Callable[[], Any]:
    """Cuts all connections of a kind."""
    client: Any = server.client()
    return lambda: client.execute_command("CLIENT", "KILL", "TYPE", kind)


def channel_of(one: Server, room: str = "room") -> str:
    """On which its events are told."""
    return next(channel for channel, each in one.log._by_channel.items() if each.name == room)


def everything_in(server: RedisServer) -> dict[bytes, bytes]:
    """All that is stored, but for what probes leave."""
    with server.client() as client:
        return {name: client.dump(name) for name in client.keys("*") if name != b"chatroom:probe"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was cut off tries again after a twentieth of a second."""
    monkeypatch.setattr(line, "_RETRY_S", 0.05)
    monkeypatch.setattr(asking, "_RETRY_S", 0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has on its disk what it answered."""
    with running(tmp_path / "redis", "--appendfsync", "always", "--enable-debug-command", "yes") as server:
        yield server


# Several servers


@on_a_loop
async def test_servers_that_write_the_same_rooms_tell_the_same(server: RedisServer) -> None:
    """Messages, edits, deletes, purges and reactions mixed: one order, each event once, and as it is stored."""
    dice = random.Random(1)

    async def live(one: Server, room: str) -> None:
        for _ in range(50):
            seq, by = dice.randrange(1, 60), dice.choice(PEOPLE)
            asked = [one.ask(f"text {dice.random()}", room=room, by=by) for _ in range(dice.randrange(4))]
            asked += [
                one.do(*what, room=room, by=by.id)
                for what, share in (
                    (reacting(seq, dice.choice(REACTIONS), by, dice.random() < 0.7), 0.8),
                    (editing(seq, f"edit {dice.random()}", by), 0.5),
                    (deleting(seq), 0.1),
                    (purging(by), 0.03),
                )
                if dice.random() < share
            ]
            for outcome in await asyncio.gather(*asked):
                assert isinstance(outcome, int) or outcome.code in ("not_found", "forbidden")

    async with serving(server.url, server.url, server.url) as servers:
        for one in servers:
            await one.log.open_room("other", 1)
        await asyncio.gather(*(live(one, room) for one in servers[:2] for room in ("room", "other")))
        for room in ("room", "other"):
            assert len(await agreed(*servers, room=room)) > 150


@on_a_loop
async def test_a_client_id_that_two_servers_hear_is_stored_once(server: RedisServer) -> None:
    """Both answer with the one seq, whoever comes first; one event is told."""
    async with serving(server.url, server.url) as (one, other):
        for number in range(50):
            asked = [each.ask(f"number {number}", client_id=f"c{number}") for each in (one, other)]
            assert await asyncio.gather(*asked) == [number + 1] * 2
        assert len(await agreed(one, other)) == 51


@on_a_loop
async def test_a_client_id_of_tomorrow_is_known_today(server: RedisServer, clock: Clock) -> None:
    """The clocks of two servers are never quite the same: it may be past midnight on one of them."""
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
    """An edit of what was deleted meanwhile is refused; a reaction stands beside the one that came meanwhile."""
    meddling: list[Callable[[], Awaitable[Any]]] = []

    async def meddled_plan(*arguments: Any) -> None:
        await plan(*arguments)
        if meddling:
            await meddling.pop()()

    async with serving(server.url, server.url) as (one, other):
        await one.fill(2)
        monkeypatch.setattr(redis, "plan", meddled_plan)
        meddling.append(lambda: other.do(*deleting(1)))
        assert await one.act(*editing(1, "edited")) == "not_found"
        meddling.append(lambda: other.do(*reacting(2, by=BOB)))
        assert await one.act(*reacting(2, by=ANN)) == 5
        stored = await agreed(one, other)
        assert stored[0].body.startswith(b'{"type":"removed"')
        assert decode_message(stored[1].body).reactions == [Reaction(REACTIONS[0], 2, [BOB, ANN])]
        assert len(stored) == 6


@on_a_loop
async def test_servers_of_two_databases_are_strangers(server: RedisServer) -> None:
    """Redis has one set of channels for all its databases: what is told in one is not heard in another."""
    async with serving(server.url, server.url.replace("/0", "/1")) as (one, stranger):
        await one.fill(3)
        assert await stranger.ask("private") == 1
        assert await stranger.ask("private") == 2
        await agreed(one)
        await agreed(stranger)


@on_a_loop
async def test_messages_that_are_heavy_together_cut_nobody_off(server: RedisServer) -> None:
    """Redis lets go of who is told more at a time than it has room for."""
    async with serving(server.url, server.url) as (one, other):
        with server.client() as client:
            client.config_set("client-output-buffer-limit", "pubsub 8mb 0 0")
        await one.fill(700, "\U0001f680" * 4000)
        assert len(await agreed(one, other)) == 701


# Connections that break


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
@on_a_loop
async def test_nothing_is_lost_when_connections_are_cut_again_and_again(server: RedisServer, kind: str) -> None:
    """Those that are listened to, or those on which is asked: what was answered is so, and each event is told once."""
    outcomes: dict[str, Outcome] = {}
    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        with ExpectLog("chatroom", AWAY):
            await meanwhile(killing(server, kind), talk(one, "one", outcomes), talk(other, "other", outcomes))
            check_answers(outcomes, await agreed(one, other))
    assert len(outcomes) == 800


@pytest.mark.parametrize("is_done", [True, False])
@on_a_loop
async def test_what_has_no_answer_is_asked_again_and_done_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """Whichever step of a message or an act it was, and whether Redis had done it when the line broke."""
    execute = Pipeline.execute
    left: Iterator[int] = iter(())

    async def cut(pipe: Any, **options: Any) -> Any:
        is_cut = next(left, None) == 1
        answers = await execute(pipe, **options) if is_done or not is_cut else None
        if is_cut:
            raise blocking.ConnectionError("cut")
        return answers

    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        monkeypatch.setattr(Pipeline, "execute", cut)
        for step in range(1, 5):
            left = iter(range(step, 0, -1))
            with ExpectLog("chatroom", AWAY):
                assert await one.ask(f"step {step}") == 2 * step
                assert await one.do(*editing(1, f"edit {step}")) == 2 * step + 1
                assert one.log.storing
        assert len(await agreed(one, other)) == 10


@on_a_loop
async def test_a_room_that_was_first_written_when_the_line_broke_has_its_name(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in a room is let go of by its name; one that was only looked at has none."""
    execute, left = Pipeline.execute, iter([2, 1])

    async def cut(pipe: Any, **options: Any) -> Any:
        if next(left, 0):
            raise blocking.ConnectionError("cut")
        return await execute(pipe, **options)

    monkeypatch.setattr(Pipeline, "execute", cut)
    with ExpectLog("chatroom", AWAY):
        async with serving(server.url) as (one,):
            assert await one.say(room="new") == 1
            left = iter([2, 1])
            assert await one.say(room="newer") == 1
    async with serving(server.url) as (one,):
        for number in range(20):
            await one.log.open_room(f"unused {number}", 1)
        assert await one.log.names() == ["new", "newer"]
    with server.client() as client:
        assert client.smembers(keys.ROOMS) == {b"new", b"newer"}


@on_a_loop
async def test_what_was_rewritten_unheard_is_told_afterwards(server: RedisServer) -> None:
    """Up to 2,048 events back: an edit, a reaction, a deletion and a purge that came while nothing was heard."""
    async with serving(server.url, server.url) as (one, other):
        await one.ask(by=BOB)
        await one.fill(2199)
        await agreed(one, other)
        before = one.as_told()
        with ExpectLog("chatroom", AWAY):
            killing(server, "pubsub")()
            for what in (editing(2000, "edited"), reacting(300), deleting(2100), editing(2206 - 2047, "far back")):
                assert isinstance(await other.do(*what), int)
            await agreed(one, other)
        changed = {seq for seq, body in one.as_told().items() if before.get(seq, body) != body}
        assert changed == {2000, 300, 2100, 2206 - 2047}


@on_a_loop
async def test_what_was_removed_does_not_come_back(server: RedisServer) -> None:
    """An edit is heard late, when the deletion after it was read already."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        with server.client() as client, client.pubsub(ignore_subscribe_messages=True) as listening:
            listening.subscribe(channel_of(one))
            assert isinstance(await other.act(*editing(1, "secret")), int)
            await other.act(*deleting(1))
            await agreed(one, other)
            payloads = [listening.get_message(timeout=1) for _ in range(2)]
            edit = next(payload["data"] for payload in payloads if payload)
            assert b"secret" in edit
            client.publish(channel_of(one), edit)
            await agreed(one, other)
            assert one.as_told()[1].startswith(b'{"type":"removed"')
            assert not any(b"secret" in body for body in one.as_told().values())


def through(cable: Cable) -> str:
    return f"redis://127.0.0.1:{cable.port}/0"


@on_a_loop
async def test_a_cut_that_nobody_tells_of_is_noticed(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that swallows everything, in both directions: what was told meanwhile is told after it, once."""
    monkeypatch.setattr(line, "_QUIET_S", 1)
    outcomes: dict[str, Outcome] = {}
    with Cable(server.port) as cable:
        async with serving(server.url, through(cable)) as (one, far):
            await one.fill(1)
            await agreed(one, far)
            cable.hang()
            with ExpectLog("chatroom", "Redis cannot be heard"), ExpectLog("chatroom", "Redis cannot store"):
                await asyncio.gather(*(talk(each, name, outcomes, 1) for each, name in ((one, "one"), (far, "far"))))
                assert not far.log.storing
                cable.restore()
                check_answers(outcomes, await agreed(one, far))
                await agreed(far, one)
                await agreed(one, far)
    assert sum(isinstance(outcome, int) for outcome in outcomes.values()) == 10


@on_a_loop
async def test_a_subscription_that_hangs_while_it_begins_begins_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was taken, and whose other end was forgotten before it answered anything."""
    client = line.client
    subscribing: list[str] = []

    def impatient_client(url: str, **timeout: Any) -> Any:
        if timeout:
            subscribing.append(url)
        return client(url, **timeout or {"socket_timeout": 0.4})

    monkeypatch.setattr(line, "_QUIET_S", 0.2)
    monkeypatch.setattr(line, "ANSWER_S", 0.4)
    monkeypatch.setattr(line, "client", impatient_client)
    with Cable(server.port) as cable:
        async with serving(server.url, through(cable)) as (one, far):
            cable.hang()
            with ExpectLog("chatroom", AWAY):
                await until(lambda: subscribing.count(far.url) == 3)
                cable.restore()
                await agreed(one, far)


# Rooms

ANY_NAME = st.text(min_size=1, max_size=64) | st.text("{}*?[]:.\\/%", min_size=1, max_size=9)
EVIL_NAMES = ["*", "}{", "a}b", "a}:room", "..", "{", "}", "{}", "[a-z]", "?", "\\", "a:room", "A", "a", "é", "e\u0301"]
EVIL_NAMES += ["\U0001f680" * 64, "\u202e", "0", "-", "_", "chatroom:rooms", "x" * 64, "AA", "AAA"]


@given(ANY_NAME, ANY_NAME)
def test_no_two_rooms_share_a_key(one: str, other: str) -> None:
    """Whatever they are called; none is a pattern, or ends the part by which a cluster keeps a room together."""
    all_keys = []
    for name in (one, other):
        of_batch = keys.keys_of(name).of_batch("token", 0)
        all_keys.append({key for key in of_batch if key not in (keys.RUN, keys.ROOMS)})
        tags = {re.fullmatch(r"(chatroom:[{][\w-]+[}]):[a-z]+(:[\w-]+)?", key, re.ASCII) for key in all_keys[-1]}
        assert len({tag and tag[1] for tag in tags} - {None}) == 1
        assert None not in tags
    assert one == other or not all_keys[0] & all_keys[1]


@on_a_loop
async def test_rooms_of_any_name_are_rooms_of_their_own(server: RedisServer) -> None:
    """Each has what was said in it, and is told that alone; all of them have names."""
    async with serving(server.url, server.url) as (one, other):
        for name in EVIL_NAMES:
            await other.log.open_room(name, 1)
        await asyncio.gather(*(one.ask(name, room=name) for name in EVIL_NAMES))
        await until(lambda: len(other.shown) == len(EVIL_NAMES))
        for name in EVIL_NAMES:
            (event,) = other.shown[name]
            assert decode_message(event.body).text == name
            assert (await other.log.before(name, None, 9)).events == [event]
        assert await one.log.names() == sorted(EVIL_NAMES)
    with server.client() as client:
        assert all(key.startswith(b"chatroom:") for key in client.keys("*"))


@on_a_loop
async def test_a_room_that_was_left_is_listened_to_no_more(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes back in time finds it at hand; later it is read anew, and told on without a hole."""
    monkeypatch.setattr(redis, "LINGER_S", 0)

    def listeners() -> int:
        with server.client() as client:
            return int(client.pubsub_numsub(channel)[0][1])

    async with serving(server.url, server.url) as (one, other):
        channel = channel_of(one)
        one.log.close_room("room")
        await one.log.open_room("room", 1)
        assert listeners() == 2
        one.log.close_room("room")
        one.log.close_room("another room")
        await until(lambda: listeners() == 1)
        await other.fill(5)
        assert one.shown == {}
        opening = await one.log.open_room("room", 9)
        one.shown["room"] = opening.recent
        assert opening.head == 5
        assert len(await agreed(one, other)) == 6


@on_a_loop
async def test_a_room_that_is_left_and_opened_all_the_time_has_no_hole(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others write: after each opening all that is newer is told, in order."""
    monkeypatch.setattr(redis, "LINGER_S", 0)
    outcomes: dict[str, Outcome] = {}
    async with serving(server.url, server.url) as (one, other):
        await other.fill(1)
        talking = asyncio.ensure_future(talk(other, "other", outcomes, 100))

        def is_enough(head: int) -> bool:
            return seqs(one.shown["room"])[-1:] > [head] or talking.done()

        openings = 0
        while not talking.done():
            openings += 1
            one.shown["room"] = []
            opening = await one.log.open_room("room", 1)
            await until(partial(is_enough, opening.head + 20))
            told = [seq for seq in seqs(one.shown["room"]) if seq > opening.head]
            assert told == list(range(opening.head + 1, opening.head + 1 + len(told)))
            one.log.close_room("room")
            if openings % 2:
                await until(lambda: "room" not in one.log._rooms)
        await talking
        assert openings > 5


@on_a_loop
async def test_a_room_that_is_written_and_never_opened_is_let_go_of(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by whoever keeps the rooms small: it is not listened to for ever."""
    monkeypatch.setattr(redis, "LINGER_S", 0)
    async with serving(server.url) as (one,):
        for number in range(20):
            await one.say(room=f"room {number}")
        await until(lambda: list(one.log._rooms) == ["room"])


# Many at once


@on_a_loop
async def test_many_rooms_are_written_at_once(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of Redis in one turn of the loop goes there together."""
    execute, sent = Pipeline.execute, []

    async def counted(pipe: Any, **options: Any) -> Any:
        sent.append(len(pipe.command_stack))
        return await execute(pipe, **options)

    monkeypatch.setattr(Pipeline, "execute", counted)
    monkeypatch.setattr(asking, "WAIT_S", DEADLINE_S)
    async with serving(server.url) as (one,):
        rooms = [f"room {number}" for number in range(500)]
        asked = [one.ask(room=room) for room in rooms for _ in range(2)]
        assert await asyncio.gather(*asked) == [1, 2] * 500
        await one.log.settled()
        assert all(seqs(one.shown[room]) == [1, 2] for room in rooms)
        assert sum(sent) > 1000
        assert len(sent) < 100


@on_a_loop
async def test_messages_of_one_room_share_scripts_as_load_rises(server: RedisServer) -> None:
    """One by one each costs a script; what comes while one runs shares the next."""

    def scripts() -> int:
        with server.client() as client:
            return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    async with serving(server.url) as (one,):
        costs = []
        for speakers in (1, 10, 100):
            before = scripts()

            async def speak() -> None:
                for _ in range(10):
                    assert isinstance(await one.ask(), int)

            await asyncio.gather(*(speak() for _ in range(speakers)))
            costs.append((scripts() - before) / (10 * speakers))
        assert costs[0] == 1
        assert costs[0] > 2 * costs[1] > 4 * costs[2]


@on_a_loop
async def test_an_order_that_changed_while_the_room_was_opened_is_known(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read before that and heard of before the answer is there; acts on it are taken after one more look."""
    async with serving(server.url, server.url) as (one, other):
        read = one.log._read

        async def slow_read(room: str, what: str, *asked: Any) -> Any:
            found = await read(room, what, *asked)
            if what == "opening":
                await other.act(None, entries={"k": b"1"})
                await until(lambda: one.log._rooms["room"].entries == {"k": b"1"})
            return found

        monkeypatch.setattr(one.log, "_read", slow_read)
        await one.log.open_room("room", 1)
        monkeypatch.setattr(one.log, "_read", read)
        while await one.act(None, entries={"k": b"2"}) == "not_stored":
            pass  # it is decided anew, as a room does
        assert (await other.log.open_room("room", 1)).entries == {"k": b"2"}
