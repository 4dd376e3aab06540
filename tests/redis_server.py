"""A real Redis for tests: a process of its own on a free port, with its files in a folder, ended with the test."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support import DEADLINE_S


class RedisServer:
    """One that can be stopped, killed and started again on what it left."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.options = folder, options
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Return once it takes commands."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("a Redis server is missing: `make deps` installs it")
        kept = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        asked = [program, *where, *kept, *self.options, *options]
        self.process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_s = time.monotonic() + DEADLINE_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    assert time.monotonic() < until_s, "Redis does not start"
                    time.sleep(0.01)

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=2, retry=None)

    def stop(self) -> None:
        """End it as its service would: what it took is in its file."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        self._end(lambda process: process.kill())

    def _end(self, how: object) -> None:
        if self.process is not None:
            how(self.process)  # type: ignore[operator]
            self.process.wait(DEADLINE_S)
            self.process = None


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
