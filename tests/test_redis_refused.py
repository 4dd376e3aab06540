"""What Redis adds to the event log's promise: what it lost is never taken for what was told, and others are refused.

Redis is killed, emptied, full and busy here; an address, a server or a word that is not ours does no harm.
"""

import asyncio
import contextlib
import logging
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as blocking
from tornado.testing import ExpectLog

from chat.eventlog import Draft, LogRefused, asking, keys, redis
from chat.eventlog.redis import RedisLog
from chat.protocol import ProtocolError
from tests import test_redis
from tests.book import ANN, BOB, Outcome, deleting, editing, on_a_loop, purging, reacting, seqs
from tests.house import until
from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S
from tests.test_redis import (
    AWAY,
    LOST,
    Server,
    agreed,
    channel_of,
    check_answers,
    everything_in,
    meanwhile,
    serving,
    talk,
)

server, impatient = test_redis.server, test_redis.impatient


# Redis, begun anew


async def restarted(server: RedisServer, *change: Callable[[], Any]) -> None:
    """Kill it and start it, with what it kept changed in between."""
    await asyncio.to_thread(server.kill)
    for each in change:
        each()
    await asyncio.to_thread(server.start)


@on_a_loop
async def test_what_was_answered_is_there_after_redis_was_killed(server: RedisServer) -> None:
    """Once, and in order; each run is an epoch, told of before anything of it is, and nothing is told twice."""
    outcomes: dict[str, Outcome] = {}
    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        epoch = one.log.epoch

        def restart() -> None:
            server.kill()
            server.start()

        with ExpectLog("chatroom", AWAY):
            await meanwhile(restart, talk(one, "one", outcomes), talk(other, "other", outcomes))
            stored = await agreed(one, other)
        check_answers(outcomes, stored)
        assert one.log.epoch == other.log.epoch != epoch
        for each in (one, other):
            assert each.times("epoch") > 0
            assert each.times("lost") == 0
            assert await each.is_ours(epoch, 1)
            assert not await each.is_ours(epoch, len(stored))
            assert await each.is_ours(each.log.epoch, len(stored))


@on_a_loop
async def test_a_redis_that_comes_back_empty_has_lost_what_was_told(server: RedisServer) -> None:
    """Every server says so of the rooms it has open; no past of before is whole, and what is said from then on is."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(5)
        await agreed(one, other)
        epoch, secret = one.log.epoch, one.log.secret
        with ExpectLog("chatroom", AWAY), ExpectLog("chatroom", LOST):
            await restarted(server, lambda: shutil.rmtree(server.folder / "appendonlydir"))
            await until(lambda: one.times("lost") == other.times("lost") == 1)
            stored = await agreed(one, other)
        assert len(stored) == 1
        for each in (one, other):
            assert [await each.is_ours(epoch, after) for after in (0, 1, 5)] == [False] * 3
            assert await each.is_ours(each.log.epoch, 1)
        assert await one.log.names() == ["room"]
        async with serving(server.url) as (later,):
            assert later.log.secret == secret


@on_a_loop
async def test_a_redis_that_comes_back_with_less_has_lost_what_it_had_not(server: RedisServer) -> None:
    """An older copy of its file, as a replica that is behind has it: a past is whole up to where the copy ends."""
    folder, copy = server.folder / "appendonlydir", server.folder / "copy"
    async with serving(server.url, server.url) as (one, other):
        await one.fill(3)
        await agreed(one, other)
        with ExpectLog("chatroom", AWAY), ExpectLog("chatroom", LOST):
            first = one.log.epoch
            await restarted(server, lambda: shutil.copytree(folder, copy))
            await until(lambda: one.times("epoch") == other.times("epoch") == 1)
            second = one.log.epoch
            await one.fill(2)
            await agreed(one, other)
            await restarted(server, lambda: shutil.rmtree(folder), lambda: copy.rename(folder))
            await until(lambda: one.times("lost") == other.times("lost") == 1)
            for each in (one, other):
                each.shown["room"] = (await each.log.before("room", None, 10)).events
                assert len(each.shown["room"]) == 4
                assert [await each.is_ours(first, after) for after in (4, 5)] == [True, False]
            assert await one.log.head("room") == 4
            assert len(await agreed(one, other)) == 5
            for each in (one, other):
                assert [await each.is_ours(first, after) for after in (4, 5)] == [True, False]
                assert not await each.is_ours(second, 5)


@on_a_loop
async def test_a_redis_that_is_emptied_under_way_has_lost_what_was_told(server: RedisServer) -> None:
    """With the next word in a room every server knows; no seq that was told is another message's in the same epoch."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(5)
        await agreed(one, other)
        epoch = one.log.epoch
        with server.client() as client:
            client.flushall()
        with ExpectLog("chatroom", AWAY), ExpectLog("chatroom", LOST):
            await one.ask("after it")
            await until(lambda: one.times("lost") == other.times("lost") == 1)
            stored = await agreed(one, other)
        assert len(stored) <= 2
        assert one.log.epoch == other.log.epoch != epoch
        for each in (one, other):
            assert not await each.is_ours(epoch, 1)
        async with serving(server.url) as (later,):
            assert later.log.secret == one.log.secret
            assert await later.log.names() == ["room"]


@on_a_loop
async def test_a_redis_that_is_emptied_is_lost_to_those_who_only_listen(server: RedisServer) -> None:
    """Another server begins the room anew, and goes beyond what was told of it: that is not taken for more of it."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(3)
        await agreed(one, other)
        with server.client() as client:
            client.flushall()
        with (
            ExpectLog("chatroom", AWAY),
            ExpectLog("chatroom", LOST),
            ExpectLog("chatroom", "Redis has another secret"),
        ):
            async with serving(server.url) as (later,):
                await later.fill(5)
                await until(lambda: one.times("lost") == other.times("lost") == 1)
                epoch = one.log.epoch
                for each in (one, other):
                    each.shown["room"] = (await each.log.before("room", None, 10)).events
                assert len(await agreed(later, one, other)) == 6
                assert later.log.epoch == one.log.epoch == other.log.epoch == epoch


@on_a_loop
async def test_a_redis_that_is_emptied_while_nobody_speaks_is_noticed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a look at it now and then; one server tells the others, and all of them begin the same epoch."""
    monkeypatch.setattr(redis, "BEAT_S", 0.1)
    async with serving(server.url, server.url) as (one, other):
        await one.fill(3)
        await agreed(one, other)
        epoch = one.log.epoch
        with server.client() as client, ExpectLog("chatroom", AWAY), ExpectLog("chatroom", LOST):
            client.flushall()
            await until(lambda: one.times("lost") == other.times("lost") == 1)
            assert len(await agreed(one, other)) == 1
        assert one.log.epoch == other.log.epoch != epoch
    RedisLog(server.url)  # it is known for ours


@on_a_loop
async def test_a_server_that_has_not_heard_of_an_epoch_stores_nothing_in_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seq of before may be another message by now: who asks is told to try again, when the room was begun anew."""
    monkeypatch.setattr(redis, "BEAT_S", 1000)
    async with serving(server.url) as (deaf,):
        await deaf.fill(3)
        deaf.log._subscription._on_told = lambda channel, payload: None
        with server.client() as client:
            client.flushall()
            client.mset({keys.VERSION: 1, keys.SECRET: deaf.log.secret})
        async with serving(server.url) as (later,):
            await later.fill(5)
            with ExpectLog("chatroom", AWAY), ExpectLog("chatroom", LOST):
                for asked in (deaf.ask(), deaf.do(*deleting(1))):
                    outcome = await asked
                    assert isinstance(outcome, ProtocolError)
                    assert outcome.code == "not_stored"
                await until(lambda: deaf.times("lost") == 1)
            assert await later.log.head("room") == 5
            assert deaf.log.epoch == later.log.epoch
            assert await deaf.ask() == 6


# What a server is refused


@contextlib.contextmanager
def refused(url: str, *words: str) -> Iterator[None]:
    """A log is not opened; it says why in one sentence, without the password."""
    yield
    with pytest.raises(LogRefused) as refusal:
        RedisLog(url)
    sentence = str(refusal.value)
    assert re.fullmatch(r"[^\n]+[.]", sentence)
    assert all(word in sentence for word in words), sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "127.0.0.1:1 cannot be reached"),
        ("redis://:hunter2@nobody.invalid/0", "nobody.invalid:6379 cannot be reached"),
        ("unix://:hunter2@/nowhere/redis.sock", "/nowhere/redis.sock cannot be reached"),
        ("", "no address"),
        ("hunter2", "no address"),
        ("http://:hunter2@127.0.0.1", "no address"),
        ("redis://:hunter2@127.0.0.1:port", "no address"),
        ("redis://:hunter2@127.0.0.1:70000", "no address"),
        ("redis://:hunter2@[::1", "no address"),
        ("redis://:hunter2@127.0.0.1:1/0?db=x", "no address"),
        ("redis://:hunter2@127.0.0.1:1/0?color=red", "no address"),
    ],
)
def test_an_address_where_no_redis_is_is_refused(url: str, word: str) -> None:
    """In one sentence, which has no password."""
    with refused(url, word):
        pass


def test_a_redis_that_does_not_know_us_is_refused(tmp_path: Path) -> None:
    """With a wrong password or with none."""
    with running(tmp_path, "--requirepass", "hunter2") as server:
        for password in ("", ":wrong@", "somebody:wrong@"):
            with refused(server.url.replace("//", f"//{password}"), "password"):
                pass
        RedisLog(server.url.replace("//", "//:hunter2@"))


def test_a_redis_that_lets_us_do_too_little_is_refused(server: RedisServer) -> None:
    """Somebody's account there that may not run scripts."""
    with server.client() as client:
        client.acl_setuser("somebody", enabled=True, passwords=["+hunter2"], commands=["+@all", "-eval"], keys=["*"])
        with refused(server.url.replace("//", "//somebody:hunter2@"), "does not let us"):
            pass


def test_a_replica_is_refused(tmp_path: Path) -> None:
    """Nothing can be written there."""
    with running(tmp_path, "--replicaof", "127.0.0.1 1") as server, refused(server.url, "replica", "primary"):
        pass


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("rooms", "theirs", "another program"),
        ("epochs", "theirs", "another program"),
        ("secret", "theirs", "another program"),
        ("version", "2", "newer"),
        ("version", "theirs", "newer"),
        ("version", ["theirs"], "cannot be used"),
    ],
)
def test_a_redis_with_what_is_not_ours_is_refused(server: RedisServer, key: str, value: Any, word: str) -> None:
    """Another program's keys, or a newer version's; what is there is left as it was."""
    with server.client() as client:
        if isinstance(value, list):
            client.rpush(f"chatroom:{key}", *value)
        else:
            client.set(f"chatroom:{key}", value)
        before = everything_in(server)
        with refused(server.url, word):
            pass
        assert everything_in(server) == before


@pytest.mark.parametrize("key", ["epochs", "run", "secret"])
def test_a_redis_with_keys_of_another_kind_is_refused(server: RedisServer, key: str) -> None:
    """Ours by their names, and not what they should be."""
    RedisLog(server.url)
    with server.client() as client:
        client.delete(f"chatroom:{key}")
        client.rpush(f"chatroom:{key}", "theirs")
        with refused(server.url, "cannot be used"):
            pass


def test_a_redis_that_is_too_old_is_refused(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it says of itself."""
    info = blocking.Redis.info
    said = {"redis_version": "6.0.16"}
    monkeypatch.setattr(blocking.Redis, "info", lambda redis, section: {**info(redis, section), **said})
    with refused(server.url, "6.0.16", "6.2"):
        pass
    said["redis_version"] = "6.2.0-rc1"
    RedisLog(server.url)


# A Redis that cannot store


@on_a_loop
async def test_a_full_redis_stores_nothing_by_halves(server: RedisServer) -> None:
    """What adds to it is `not_stored` and leaves no trace; what takes away is done; it goes on by itself."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(5)
        await one.fill(5, room="small")
        await one.act(*reacting(1))
        await one.ask(by=BOB)
        await agreed(one, other)
        before = everything_in(server)
        with server.client() as client, ExpectLog("chatroom", AWAY):
            client.config_set("maxmemory", 1)
            for what in (editing(1, "edited"), reacting(2)):
                assert await one.act(*what) == "not_stored"
            assert await one.say("full", client_id="c") == "not_stored"
            assert await one.say("full", client_id="d", hold_for="a word") == "not_stored"
            assert await one.say("full", room="new") == "not_stored"
            assert everything_in(server) == before
            assert ("storing", False) in one.told
            with pytest.raises(OSError, match="cannot store"):
                await one.log.probe()
            assert len((await one.log.before("room", None, 10)).events) == 8
            for smaller in (deleting(2), purging(ANN)):
                assert isinstance(await one.act(*smaller), int)
            await one.log.keep("small", 0, 1)
            assert seqs((await one.log.before("small", None, 10)).events) == [5, 6]
            client.config_set("maxmemory", 0)
            await until(lambda: one.log.storing)
        assert [told for told in one.told if told[0] == "storing"][-1] == ("storing", True)
        await one.log.probe()
        await agreed(one, other)
        assert await one.say(room="new") == 1


@on_a_loop
async def test_a_room_with_another_programs_key_is_stored_nothing_in(server: RedisServer) -> None:
    """Whichever of its keys it is: a batch that cannot be stored leaves what is there as it was."""
    async with serving(server.url) as (one,):
        await one.fill(1)
        of_batch = keys.keys_of("room").of_batch("token", redis._now_ms())
        its_keys = [key for key in of_batch if key.startswith("chatroom:{") and "answered" not in key]
        with server.client() as client, ExpectLog("chatroom", AWAY):
            for key in its_keys:
                kept = client.dump(key)
                client.delete(key)
                client.set(key, "theirs")
                before = everything_in(server)
                assert await one.say(client_id="c") == "not_stored"
                assert everything_in(server) == before, key
                client.delete(key)
                if kept is not None:
                    client.restore(key, 0, kept)
            await until(lambda: one.log.storing)
        assert len(await agreed(one)) == 2


@on_a_loop
async def test_what_is_asked_while_redis_is_busy_elsewhere_is_answered_once(server: RedisServer) -> None:
    """Longer than anybody waits: with a seq or `not_stored`, and it is so; what comes after it is stored."""
    outcomes: dict[str, Outcome] = {}
    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)

        def sleep() -> None:
            with server.client() as client, contextlib.suppress(blocking.TimeoutError):
                client.execute_command("DEBUG", "SLEEP", "7")

        with ExpectLog("chatroom", AWAY):
            sleeping = asyncio.ensure_future(asyncio.to_thread(sleep))
            await asyncio.gather(talk(one, "one", outcomes, 2), talk(other, "other", outcomes, 2))
            await sleeping
            check_answers(outcomes, await agreed(one, other))
    assert len(outcomes) == 40


@on_a_loop
async def test_a_queue_of_acts_is_answered_within_the_time_of_one(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a batch of its own: they do not wait for a Redis that is away one after the other."""
    monkeypatch.setattr(asking, "WAIT_S", 0.5)
    async with serving(server.url) as (one,):
        await one.fill(1)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        with ExpectLog("chatroom", AWAY):
            async with asyncio.timeout(DEADLINE_S):
                outcomes = await asyncio.gather(*(one.do(*editing(1, f"edit {number}")) for number in range(100)))
            assert not any(isinstance(outcome, int) for outcome in outcomes)
            server.process.send_signal(signal.SIGCONT)
            await agreed(one)


# What others say on our channels


TOLD = (
    b'{"by":"somebody","epoch":"EPOCH","seq":%s,"at":1,"rewritings":1,'
    b'"events":[%s],"changed":{%s},"entries":{},"held":0,"kicked":{}}'
)
STRANGE = {
    "nothing": b"",
    "no text": b"\xff\xfe\0",
    "null": b"null",
    "a list": b"[" * 100_000,
    "too little": b'{"by":"somebody"}',
    "a broken name": (TOLD % (b"1", b"", b"")).replace(b"somebody", b"\xff"),
    "a change of no event": TOLD % (b"1", b"", b'"x":1'),
    "a change of an event of 5,000 digits": TOLD % (b"1", b"", b'"' + b"9" * 5000 + b'":1'),
    "a seq that is no integer": TOLD % (b"1e400", b"", b""),
    "a seq that no browser counts to": TOLD % (b"9" * 400, b"", b""),
    "a seq before all": TOLD % (b"-1", b"", b""),
    "a people's word that is broken off": b'{"kind":',
    "no epoch": (TOLD % (b"1", b"", b"")).replace(b'"epoch"', b'"era"'),
    "an event without end": TOLD % (b"1", b"[" * 100_000, b""),
}


def speak(server: RedisServer, to: Server, payload: bytes) -> None:
    """Somebody else does, on the channel of the room, of the epoch that is now."""
    with server.client() as client:
        client.publish(channel_of(to), payload.replace(b"EPOCH", to.log.epoch.encode()))


class Counting(ExpectLog):
    """How often it was logged."""

    times = 0

    def filter(self, record: logging.LogRecord) -> bool:
        is_other = super().filter(record)
        self.times += not is_other
        return is_other


@pytest.mark.parametrize("payload", STRANGE.values(), ids=STRANGE)
@on_a_loop
async def test_what_is_not_ours_is_not_heard(server: RedisServer, payload: bytes) -> None:
    """It is worth one line in the log, and what is told next is told."""
    noted = Counting("chatroom", "somebody else speaks")
    async with serving(server.url, server.url) as (one, other):
        await one.fill(2)
        await agreed(one, other)
        with noted:
            speak(server, one, payload)
            await agreed(one, other)
        assert noted.times == 2  # once by each


@pytest.mark.parametrize(("seq", "event"), [(10**6, b"{}"), (0, b"{}"), (4, b""), (2**53 - 1, b"{}")])
@on_a_loop
async def test_what_is_not_there_is_not_waited_for(server: RedisServer, seq: int, event: bytes) -> None:
    """Told by nobody, of a seq far ahead or long told: what is there is looked up, and the rest forgotten."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(2)
        await agreed(one, other)
        speak(server, one, TOLD % (b"%d" % seq, event, b""))
        await agreed(one, other)


@on_a_loop
async def test_a_listener_that_fails_is_told_what_comes_next(server: RedisServer) -> None:
    """A fault there, or with an answer, is noted, and neither the end of all listening nor of all writing."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        await agreed(one, other)
        for each in (one, other):
            each.look = fail
        with ExpectLog("chatroom", ".*"):
            assert await one.ask("not taken") == 3
            one.log.append(Draft("room", ANN, "not answered", None, None, fail))
            answer = one.ask("answered")
            assert await answer == 5
            await until(lambda: other.log._rooms["room"].seq == 5)
        for each in (one, other):
            each.look = lambda: None
        assert await one.ask() == 6
        await until(lambda: all(seqs(each.shown["room"])[-1] == 6 for each in (one, other)))
