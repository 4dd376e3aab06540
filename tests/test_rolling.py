"""Several servers behind nginx are restarted one after the other, and nobody loses anything.

Everybody comes in through nginx, with deploy/nginx-several.conf as it lies there but for ports, files and TLS, which
the crowd does not speak.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

from tests import certificates
from tests.faults import report, times
from tests.faults.storm import Storm
from tests.faults.test_storm import check_whole
from tests.nginx import BEHIND, Nginx
from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S, ServerProcess, eventually

MEMBERS = times("ROLLING", 60)
LONG_S = DEADLINE_S + MEMBERS / 25
LOOK_S = 0.02


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


class Watch:
    """How long each of a crowd is away at most."""

    def __init__(self, storm: Storm) -> None:
        self.longest_s = [0.0] * len(storm.guests)
        self._guests, self._away_since_s = storm.guests, [0.0] * len(storm.guests)
        self._task = asyncio.create_task(self._look())

    def end(self) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            now_s = time.monotonic()
            for place, guest in enumerate(self._guests):
                since_s = self._away_since_s[place] if not guest.is_in else 0.0
                self._away_since_s[place] = since_s if guest.is_in else since_s or now_s
                if since_s:
                    self.longest_s[place] = max(self.longest_s[place], now_s - since_s)
            await asyncio.sleep(LOOK_S)


Story = Callable[[Storm], Awaitable[None]]


def live_through(server: ServerProcess, nginx: Nginx, story: Story, what: str) -> None:
    """Have a crowd behind nginx live through a story; in the end nobody has missed anything."""

    async def told() -> None:
        storm = Storm(server, MEMBERS, 2)
        for guest in storm.guests:
            guest.port = nginx.port
        try:
            await storm.until_here(deadline_s=LONG_S)
            watch = Watch(storm)
            await story(storm)
            watch.end()
            await storm.until_whole(LONG_S)
            check_whole(storm)
            refusals = sum(len(guest.refusals) for guest in storm.guests)
            resumes = sum(len(guest.resumes) - 1 for guest in storm.guests)
            report(
                f"{what}: {MEMBERS} members, {resumes} resumes, each was away for {max(watch.longest_s):.1f} s "
                f"at most; {refusals} handshakes were refused; {storm.said} messages, 0 lost"
            )
            assert resumes
        finally:
            await storm.end()

    asyncio.run(told())


def is_healthy(server: ServerProcess) -> bool:
    try:
        with urlopen(f"{server.url}/healthz", timeout=DEADLINE_S) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False


def restart(server: ServerProcess) -> None:
    """As an operator does it: ask it to stop, start it, and go on when it is healthy."""
    assert server.terminate() == 0
    server.start()
    eventually(lambda: is_healthy(server))


def test_a_rolling_restart_behind_nginx_loses_nothing(tmp_path: Path, redis: RedisServer) -> None:
    """While one is away its people are at the other; they find no closed door."""
    with (
        ServerProcess(tmp_path / "one.db", redis=redis.url, **BEHIND) as one,
        ServerProcess(tmp_path / "two.db", redis=redis.url, **BEHIND) as two,
        Nginx(tmp_path / "nginx", certificates.made(tmp_path / "tls"), one, two, has_tls=False) as nginx,
    ):

        async def story(storm: Storm) -> None:
            for server in (one, two):
                await asyncio.to_thread(restart, server)
                await storm.until_here(deadline_s=LONG_S)
            assert not [refused for guest in storm.guests for refused in guest.refusals]

        live_through(one, nginx, story, "rolling restart of two servers behind nginx")


def test_processes_of_one_port_behind_nginx_lose_nothing(tmp_path: Path, redis: RedisServer) -> None:
    """One of them is killed and started anew; then all are restarted together."""
    with (
        ServerProcess(tmp_path / "none.db", redis=redis.url, processes=2, **BEHIND) as server,
        Nginx(tmp_path / "nginx", certificates.made(tmp_path / "tls"), server, has_tls=False) as nginx,
    ):

        async def story(storm: Storm) -> None:
            killed = psutil.Process(server.pid).children()[0]
            killed.send_signal(signal.SIGKILL)
            await asyncio.to_thread(killed.wait, DEADLINE_S)
            await storm.until_here(deadline_s=LONG_S)
            await asyncio.to_thread(restart, server)
            await storm.until_here(deadline_s=LONG_S)

        live_through(server, nginx, story, "two processes behind nginx, one killed, then both restarted")
