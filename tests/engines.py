"""The engines of the event log, for the tests that ask each of them for the same promise."""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chat.eventlog import placing, redis
from chat.eventlog.redis import RedisLog
from tests.book import Book, Clock, MakeLog, opened
from tests.redis_server import RedisServer


class _Servers:
    """A Redis for each name, which runs anew, on what it kept, whenever its log is opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.by_name: dict[str, RedisServer] = {}

    @contextlib.asynccontextmanager
    async def opened(self, name: str = "chatroom.db") -> AsyncIterator[Book]:
        if name not in self.by_name:
            self.by_name[name] = RedisServer(self._folder / f"redis-{name}")
        server = self.by_name[name]
        server.stop()
        server.start()
        log = RedisLog(server.url)
        try:
            yield Book(log)
        finally:
            await log.close()


@pytest.fixture
def make_sqlite(tmp_path: Path) -> MakeLog:
    """The log of a test, or another one by its name, on SQLite."""
    return functools.partial(opened, tmp_path)


@contextlib.contextmanager
def redis_in(folder: Path) -> Iterator[MakeLog]:
    """Opens logs on servers that have their files in a folder."""
    servers = _Servers(folder)
    try:
        yield servers.opened
    finally:
        for server in servers.by_name.values():
            server.kill()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[MakeLog]:
    """The same on a Redis of the test's own."""
    with redis_in(tmp_path) as make:
        yield make


@pytest.fixture(params=["sqlite", "redis"])
def make_log(request: pytest.FixtureRequest) -> MakeLog:
    """The same on either."""
    made: MakeLog = request.getfixturevalue(f"make_{request.param}")
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time as the log has it."""
    clock = Clock(1_800_000_000_000)
    for module in (placing, redis):
        monkeypatch.setattr(module, "time", clock)
    return clock
