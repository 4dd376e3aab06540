"""What several servers on one Redis survive: each of them, Redis, or what is between them fails under load.

People are on both servers and come back to the other one. Nothing that was acked or seen is lost, doubled or at
another place, whichever server tells it.
"""

import asyncio
import contextlib
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cable import Cable
from tests.faults import report, times
from tests.faults.several import UNLIMITED, Hopper, Several, Talkative
from tests.faults.storm import Storm
from tests.faults.test_kill import Tally
from tests.faults.test_storm import check_whole
from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S, ServerProcess

KILLS = times("SERVER_KILLS", 4)
STOPPED_S = times("SERVER_STOPPED_S", 2)
RESTARTS = times("REDIS_RESTARTS", 2)
WIPES = times("REDIS_WIPES", 1)
DEAF_S = times("REDIS_DEAF_S", 3)
CUTS = times("REDIS_CUTS", 1)
MOVING = times("SERVER_STORM", 100)
HOPS = times("SERVER_HOPS", 300)

MOST_LOAD_S = 0.4
LONG_S = DEADLINE_S + MOVING / 50
# A cut cable is noticed in a second and a half, not in ten.
HURRY = """
from chat.eventlog import line, asking
line.client.__defaults__ = (1.0,)
line._QUIET_S, asking.WAIT_S = 0.5, 1.0
"""

Story = Callable[[Several], Awaitable[None]]


def is_anew(crowd: Several, past: set[str]) -> bool:
    """Whether everybody is in an epoch that none of them knew."""
    return not past & {one.epoch for one in crowd.listeners}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


@contextlib.contextmanager
def two(folder: Path, *urls: str, before: str = "", history: int = 0) -> Iterator[list[ServerProcess]]:
    """Two servers, each with its way to Redis."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                ServerProcess(
                    folder / f"{number}.db", before=UNLIMITED + before, redis=url, message_rate=0, history=history
                )
            )
            for number, url in enumerate((*urls, *urls)[:2])
        ]


@pytest.fixture
def servers(tmp_path: Path, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    with two(tmp_path, redis.url) as servers:
        yield servers


def live_through(
    crowd: Callable[[], Several], story: Story, what: str, speaker: type[Talkative] = Talkative
) -> Several:
    """Have a crowd live through a story; in the end nobody has missed anything, and nothing is lost."""
    began_s = time.monotonic()

    async def told() -> tuple[Several, Tally]:
        several = crowd()
        try:
            await several.begin(speaker)
            await story(several)
            return several, await several.end()
        finally:
            await several.leave()

    several, tally = asyncio.run(told())
    for server in several.servers:
        errors = () if several.may_fail else (" ERROR ",)
        assert [line for line in server.log if any(word in line for word in ("Traceback", *errors))] == []
    again = f", {several.refused} answered `not_stored`" if several.may_fail else ""
    report(
        f"{what} in {time.monotonic() - began_s:.0f} s: {tally.acked} messages acked{again}, {tally.acts} acts done, "
        f"{tally.heard_plain} heard on the plain wire, {several.resumed} resumes whole: "
        f"{len(tally.lost)} lost, {len(tally.doubled)} doubled, {len(tally.reordered)} reordered"
    )
    assert tally.acked
    assert not tally.lost + tally.doubled + tally.reordered, vars(tally)
    return several


def test_nothing_is_lost_by_kill_9_of_one_of_two_servers(servers: list[ServerProcess]) -> None:
    """Its people are at the other one at once, and go on there; half of them come back when it is started again."""

    async def story(crowd: Several) -> None:
        for number in range(KILLS):
            killed = number % 2
            await crowd.talk_for(crowd.dice.random() * MOST_LOAD_S)
            await crowd.lose_words()
            servers[killed].signal(signal.SIGKILL)
            await asyncio.to_thread(servers[killed].ended)
            for one in crowd.people:
                if one.is_deaf:
                    one.move(1 - killed)
            await crowd.talk_on()
            await asyncio.to_thread(servers[killed].start)
            for one in crowd.people[killed::2]:
                one.move(killed)
            await crowd.talk_on()

    live_through(lambda: Several(servers), story, f"kill -9 of one of two servers: {KILLS} tried")


def test_a_server_that_stands_still_catches_up(servers: list[ServerProcess]) -> None:
    """SIGSTOP: its people stay and hear nothing, the others talk on; then it tells all that it has missed."""

    async def story(crowd: Several) -> None:
        await crowd.talk_on()
        still, moving = crowd.at(servers[0]), [one for one in crowd.talkative if one.is_at(servers[1])]
        assert still and moving
        servers[0].signal(signal.SIGSTOP)
        try:
            before = [len(one.acked) for one in moving]
            await crowd.talk_little(STOPPED_S)
            assert all(len(one.acked) > acked for one, acked in zip(moving, before, strict=True))
        finally:
            servers[0].signal(signal.SIGCONT)
        await crowd.talk_on()
        assert crowd.resumed == 0  # nobody has lost his line

    # By its own clock Redis may then have been silent for longer than it waits.
    crowd = partial(Several, servers, may_fail=STOPPED_S > 4)
    live_through(crowd, story, f"SIGSTOP of one of two servers for {STOPPED_S} s")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_members_stay_and_lose_nothing_when_redis_is_started_anew(tmp_path: Path, how: str) -> None:
    """Asked to stop or killed, with its AOF: they hear that nothing can be stored, then that it can, in which epoch."""
    with running(tmp_path / "redis", "--appendfsync", "always") as redis, two(tmp_path, redis.url) as servers:

        async def story(crowd: Several) -> None:
            for _ in range(RESTARTS):
                await crowd.talk_for(crowd.dice.random() * MOST_LOAD_S)
                await asyncio.to_thread(getattr(redis, how))
                await crowd.until(lambda: not any(one.is_storing for one in crowd.listeners))
                await asyncio.to_thread(redis.start)
                await crowd.until(lambda: all(one.is_storing for one in crowd.listeners))
                await crowd.talk_on()
            assert crowd.resumed == 0
            for one in crowd.people:  # and in the epoch they were told of, they may resume
                one.move()
            await crowd.talk_on()

        what = {"stop": "SIGTERM", "kill": "kill -9"}[how]
        several = live_through(
            lambda: Several(servers, may_fail=True), story, f"{what} of Redis and a new start: {RESTARTS} tried"
        )
        assert all(one.troubles == RESTARTS for one in several.listeners)


def test_members_begin_anew_when_redis_comes_back_empty(tmp_path: Path, redis: RedisServer) -> None:
    """They are asked to come back, are told that their past is gone, and say again what had no ack."""

    async def story(crowd: Several) -> None:
        for _ in range(WIPES):
            await crowd.talk_on()
            crowd.hush()
            past = {one.epoch for one in crowd.listeners}
            told = [one.byes for one in crowd.listeners]
            await asyncio.to_thread(redis.kill)
            for file in (redis.folder / "appendonlydir").iterdir():
                file.unlink()
            await asyncio.to_thread(redis.start)
            # Who comes to the other server before that has found out is asked once more.
            await crowd.until(partial(is_anew, crowd, past))
            assert all(one.byes > byes for one, byes in zip(crowd.listeners, told, strict=True))
            await crowd.all_back()
            crowd.talk()
        await crowd.talk_on()

    with two(tmp_path, redis.url, history=1000) as servers:
        live_through(
            lambda: Several(servers, may_forget=True), story, f"Redis comes back empty: {WIPES} tried, all were told"
        )


def test_nothing_is_missed_when_the_subscription_is_lost_again_and_again(
    servers: list[ServerProcess], redis: RedisServer
) -> None:
    """What was told meanwhile is read from the log."""
    every_s = 0.2 if DEAF_S < 10 else 1.0
    killed = 0

    async def story(crowd: Several) -> None:
        nonlocal killed
        end_s = time.monotonic() + DEAF_S
        with redis.client() as client:
            while time.monotonic() < end_s:
                await crowd.talk_for(every_s)
                killed += client.client_kill_filter(_type="pubsub")
        await crowd.talk_on()
        assert crowd.resumed == 0

    what = f"CLIENT KILL TYPE pubsub every {every_s} s for {DEAF_S} s"
    live_through(lambda: Several(servers), story, what)
    report(f"  {killed} subscriptions were killed")
    assert killed > 1


def test_members_stay_while_their_server_has_lost_redis(tmp_path: Path, redis: RedisServer) -> None:
    """A dead cable: they hear that nothing can be stored, the others talk on; afterwards all is whole everywhere."""

    async def story(crowd: Several) -> None:
        cut_off, others = crowd.at(servers[0]), crowd.at(servers[1])
        speakers = [one for one in crowd.talkative if one in others]
        assert cut_off and speakers
        for cuts in range(1, CUTS + 1):
            await crowd.talk_for(crowd.dice.random() * MOST_LOAD_S)
            cable.hang()
            crowd.hush()
            await crowd.until(lambda: not any(one.is_storing for one in cut_off))
            crowd.talk()
            before = [len(one.acked) for one in speakers]
            await crowd.until(
                lambda before=before: all(len(one.acked) > acked for one, acked in zip(speakers, before, strict=True))  # type: ignore[misc]
            )
            cable.restore()
            await crowd.until(lambda: all(one.is_storing for one in cut_off))
            await crowd.talk_on()
            assert all(one.troubles == cuts for one in cut_off)
        assert not any(one.troubles for one in others)
        assert crowd.resumed == 0

    with (
        Cable(redis.port) as cable,
        two(tmp_path, f"redis://127.0.0.1:{cable.port}/0", redis.url, before=HURRY if CUTS < 10 else "") as servers,
    ):
        live_through(lambda: Several(servers, may_fail=True), story, f"a dead cable to Redis: {CUTS} tried")


def test_nothing_is_lost_by_those_who_hop_between_servers(servers: list[ServerProcess]) -> None:
    """At the other server at once, under load, with words on their way; and again before anything could be heard."""

    async def story(crowd: Several) -> None:
        hoppers = [one for one in crowd.talkative if isinstance(one, Hopper)]
        for each in hoppers:
            each.hops_left = HOPS // len(hoppers)
        await crowd.until(lambda: not any(each.hops_left for each in hoppers))
        assert crowd.resumed >= HOPS // len(hoppers) * len(hoppers) * 0.9

    what = f"at the other server at once: {HOPS} tried"
    live_through(lambda: Several(servers), story, what, Hopper)


@pytest.mark.parametrize("how", ["lines dropped", "SIGTERM"])
def test_a_storm_from_one_server_to_the_other_loses_nothing(servers: list[ServerProcess], how: str) -> None:
    """All lose the one server, at once or as they are asked to, and are taken in by the other with all they missed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    left, taken = servers

    async def told() -> None:
        storm = Storm(left, MOVING, 4)
        try:
            await storm.until_here(deadline_s=LONG_S)
            for guest in storm.guests:
                guest.port = taken.port
            storm.server = taken
            began_s = time.monotonic()
            if how == "SIGTERM":
                assert await asyncio.to_thread(left.terminate) == 0
            else:
                for guest in storm.guests:
                    guest.vanish()
                await asyncio.gather(*(guest.wire.until_gone() for guest in storm.guests if guest.wire))
            await storm.until_here(0.99, LONG_S)
            most_s = time.monotonic() - began_s
            await storm.until_here(1, LONG_S)
            all_s = time.monotonic() - began_s
            await storm.until_whole(LONG_S)
            check_whole(storm)
            refusals = sum(len(guest.refusals) for guest in storm.guests)
            report(
                f"{MOVING} move to the other server, {how}: 99 % were there after {most_s:.1f} s, all after "
                f"{all_s:.1f} s; {refusals} handshakes were refused, it had at most "
                f"{storm.most_rss_bytes / 1e6:.0f} MB; {storm.said} messages, 0 lost"
            )
        finally:
            await storm.end()

    try:
        asyncio.run(told())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
