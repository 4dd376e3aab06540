"""Storms of reconnects: the server goes down, gently or not, and everybody comes back at once and has all there is."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from chat.serving import FIRST_BACK_S, WELCOME_BACK_PER_S
from tests.crowd import heard
from tests.faults import report, times
from tests.faults.storm import Storm
from tests.support import DEADLINE_S, ServerProcess

COUNT = times("STORM", 150)
ROOMS = 4
LONG_S = DEADLINE_S + COUNT / 50  # for what a thousand of the large number need
MB = 1e6

Restart = Callable[[ServerProcess], None]


def gently(server: ServerProcess) -> None:
    assert server.terminate() == 0
    server.start()


def by_force(server: ServerProcess) -> None:
    server.kill()
    server.start()


def run(server: ServerProcess, story: Callable[[Storm], Awaitable[None]]) -> None:
    """Have a crowd live through a story; in the end nobody has missed anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def told() -> None:
        storm = Storm(server, COUNT, ROOMS)
        try:
            await storm.until_here(deadline_s=LONG_S)
            await story(storm)
            await storm.until_whole(LONG_S)
            check_whole(storm)
        finally:
            await storm.end()

    try:
        asyncio.run(told())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_whole(storm: Storm) -> None:
    """Everybody heard everything once and in order, and everything that was said is in the log once."""
    assert sum(len(log) for log in storm.logs.values()) == storm.said
    for guest in storm.guests:
        assert not guest.out_of_order
        events = [heard(event).frame for event in guest.events]
        assert events == storm.logs[guest.room][-len(events) :]
        assert set(guest.resumes[1:]) <= {"whole"}


async def come_back(storm: Storm, what: str) -> None:
    """Wait for them, and say how long it took since the server is there again."""
    most_s = await storm.until_here(0.99, LONG_S)
    all_s = most_s + await storm.until_here(1, LONG_S)
    refusals = sum(len(guest.refusals) for guest in storm.guests)
    report(
        f"{what}: of {COUNT} members 99 % were back after {most_s:.1f} s, all after {all_s:.1f} s; "
        f"{refusals} handshakes were refused, the server had at most {storm.most_rss_bytes / MB:.0f} MB"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "storm.db", message_rate=0) as server:
        yield server


def test_after_a_restart_everybody_is_back_and_whole(server: ServerProcess) -> None:
    """SIGTERM: each is told another moment, spread over the rate at which newcomers are greeted, and keeps to it."""

    async def story(storm: Storm) -> None:
        await asyncio.to_thread(gently, server)
        await come_back(storm, "SIGTERM")
        waits_s = sorted(wait_s for guest in storm.guests for wait_s in guest.byes_s)
        check_spread(waits_s)

    run(server, story)


def check_spread(waits_s: list[float]) -> None:
    """Evenly over the time in which so many can be greeted: each has a share of it of his own."""
    assert len(waits_s) == COUNT
    share_s = (1 + COUNT / WELCOME_BACK_PER_S) / COUNT
    for place, wait_s in enumerate(waits_s):
        assert place * share_s - 1e-3 <= wait_s - FIRST_BACK_S <= (place + 1) * share_s + 1e-3


def test_after_a_crash_everybody_is_back_and_whole(server: ServerProcess) -> None:
    """kill -9: nobody was told anything, and what was acked or heard is still there."""

    async def story(storm: Storm) -> None:
        await asyncio.to_thread(by_force, server)
        await come_back(storm, "kill -9")

    run(server, story)


@pytest.mark.parametrize("second", [gently, by_force] if COUNT >= 1000 else [by_force])
def test_a_second_storm_in_the_middle_of_the_first_loses_nothing(server: ServerProcess, second: Restart) -> None:
    """The server goes down again while half are back and half on their way."""

    async def story(storm: Storm) -> None:
        await asyncio.to_thread(gently, server)
        await storm.until_here(0.5, LONG_S)
        await asyncio.to_thread(second, server)
        await come_back(storm, f"SIGTERM, then {second.__name__} when half were back")

    run(server, story)


def test_those_who_are_too_many_at_once_are_told_another_moment_and_come_in_then(tmp_path: Path) -> None:
    """Above the rate at which newcomers are taken they are refused with Retry-After; who is in is served meanwhile."""
    at_once, rate = COUNT // 3, 60 + COUNT // 50
    before = f"from chat import serving\nserving.WELCOME_AT_ONCE, serving.WELCOME_BACK_PER_S = {at_once}, {rate}"

    async def story(storm: Storm) -> None:
        told_s = [refused.retry_after_s for guest in storm.guests for refused in guest.refusals]
        report(f"{COUNT} at once, where {at_once} may and then {rate} a second: {len(told_s)} were told to come later")
        assert 0 < len(told_s) < 3 * COUNT
        assert all(1 <= wait_s <= 60 for wait_s in told_s)

    with ServerProcess(tmp_path / "storm.db", before=before, message_rate=0) as server:
        run(server, story)
