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
from chat.eventlog import line, redis
line.client.__defaults__ = (1.0,)
line._QUIET_S, redis.WAIT_S = 0.5, 1.0
"""

Story = Callable[[Several], Awaitable[None]]


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
