"""What a log on Redis hears when Redis is another one by now, and when those whom it tells fail."""

import asyncio
from typing import Any

import pytest
from tornado.testing import ExpectLog

from chat.eventlog import asking, redis
from chat.eventlog.redis import RedisLog
from chat.protocol import ProtocolError
from tests import test_redis
from tests.book import on_a_loop, seqs
from tests.cable import Cable
from tests.house import until
from tests.redis_server import RedisServer
from tests.test_redis import AWAY, LOST, agreed, killing, serving, through
from tests.test_redis_refused import TOLD, refused, restarted, speak

server, impatient = test_redis.server, test_redis.impatient


@on_a_loop
async def test_a_redis_that_becomes_a_replica_is_not_written(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor trusted, when it is a primary again, for more than what it has: that is another epoch."""
    monkeypatch.setattr(asking, "WAIT_S", 0.5)
    async with serving(server.url, server.url) as (one, other):
        await one.fill(3)
        epoch = one.log.epoch
        with server.client() as client, ExpectLog("chatroom", AWAY):
            client.replicaof("127.0.0.1", "1")
            assert await one.say() == "not_stored"
            client.replicaof("NO", "ONE")
            assert len(await agreed(one, other)) == 4
            await until(lambda: one.times("epoch") == other.times("epoch") == 1)
        assert one.log.epoch == other.log.epoch != epoch


@on_a_loop
async def test_what_is_told_of_an_epoch_that_nobody_knows_is_not_shown(server: RedisServer) -> None:
    """Redis is met anew, as it may be another one by now; nothing is lost."""
    async with serving(server.url, server.url) as (one, other):
        await one.fill(2)
        await agreed(one, other)
        with ExpectLog("chatroom", AWAY):
            speak(server, one, (TOLD % (b"4", b"{}", b"")).replace(b"EPOCH", b"unknown"))
            await until(lambda: all(("storing", True) in each.told for each in (one, other)))
            await agreed(one, other)
        assert one.times("lost") == other.times("lost") == 0


@on_a_loop
async def test_what_was_let_go_of_unheard_is_no_hole(server: RedisServer) -> None:
    """A room that is kept small goes on without what nobody can read any more: its members begin anew."""
    with Cable(server.port) as cable:
        async with serving(server.url, through(cable)) as (one, far):
            await one.fill(5)
            await agreed(one, far)
            with ExpectLog("chatroom", AWAY):
                cable.cut()
                await one.fill(20)
                await one.log.keep("room", 0, 5)
                cable.restore()
                await until(lambda: far.times("lost") == 1)
            assert far.shown["room"] == []
            await one.ask()
            await until(lambda: len(far.shown["room"]) == 1)
            assert seqs(far.shown["room"]) == [await one.log.head("room")]


def test_a_redis_whose_rooms_are_of_another_kind_is_refused(server: RedisServer) -> None:
    """As with the other keys: `test_a_redis_with_keys_of_another_kind_is_refused` with "rooms"."""
    RedisLog(server.url)
    with server.client() as client:
        client.delete("chatroom:rooms")
        client.rpush("chatroom:rooms", "theirs")
        with refused(server.url, "cannot be used"):
            pass


LISTENERS = [
    "on_events",
    "on_news",
    "on_telling",
    "on_following",
    "on_storing",
    "on_epoch",
    "on_lost",
    "on_server_gone",
]


@pytest.mark.parametrize("listener", LISTENERS)
@on_a_loop
async def test_whoever_fails_to_listen_is_told_what_comes_next(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, listener: str
) -> None:
    """A fault of his is noted, whatever it is that he was told; all is stored, told and heard as before."""
    monkeypatch.setattr(redis, "BEAT_S", 0.1)
    monkeypatch.setattr(redis, "SILENT_S", 0.5)
    failed: list[str] = []

    def fail(*_: Any) -> None:
        failed.append(listener)
        raise ZeroDivisionError

    async with serving(server.url, server.url) as (one, other):
        await one.fill(1)
        await agreed(one, other)
        kept = getattr(one.log, listener)
        setattr(one.log, listener, fail)
        with ExpectLog("chatroom", "a fault of ours"), ExpectLog("chatroom", f"{AWAY}|{LOST}", required=False):
            async with serving(server.url):
                one.log.tell("room", b'{"kind":"who","server":"one"}')
                await other.ask()
            if listener == "on_epoch":
                await restarted(server)
            elif listener in ("on_storing", "on_following", "on_news"):
                await asyncio.to_thread(killing(server, "normal"))
                await asyncio.to_thread(killing(server, "pubsub"))
            elif listener == "on_lost":
                with server.client() as client:
                    client.flushall()
            await until(lambda: failed)
            setattr(one.log, listener, kept)
            await asyncio.sleep(0)
            while isinstance(await other.ask(), ProtocolError) or isinstance(await one.ask(), ProtocolError):
                pass
        said = await other.ask()
        assert isinstance(said, int)
        await until(lambda: seqs(one.shown["room"])[-1] == said)
        assert await one.ask() == said + 1
        await until(lambda: seqs(other.shown["room"])[-1] == said + 1)
        with server.client() as client, client.pubsub(ignore_subscribe_messages=True) as listening:
            listening.subscribe("0:chatroom:servers")

            def has_said_that_it_lives() -> bool:
                heard = listening.get_message()
                return heard is not None and one.log.server.encode() in heard["data"]

            await until(has_said_that_it_lives)
