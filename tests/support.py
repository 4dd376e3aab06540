"""What the tests share: a server in a process of its own, and a member who speaks `chatroom.v1`.

Waiting is always for something that happens, with one deadline for all (`CHATROOM_TEST_DEADLINE_S`).
"""

import atexit
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import websocket

from tests.forge import Forge, Forked

DEADLINE_S = float(os.environ.get("CHATROOM_TEST_DEADLINE_S", "20"))
ROOT = Path(__file__).parent.parent


def eventually(question: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Ask until the answer is true; for what no event tells about (a file, another process)."""
    end_s = time.monotonic() + deadline_s
    while not (answer := question()):
        assert time.monotonic() < end_s, f"not within {deadline_s} s"
        time.sleep(0.01)
    return answer


@functools.cache
def forge() -> Forge:
    """Where servers are forked from; ends with us."""
    servers = Forge("chatroom")
    atexit.register(servers.__exit__, None, None, None)
    return servers.__enter__()


class ServerProcess:
    """`python chatroom.py` on a port and a database of its own; a context manager.

    It is forked from a process that has imported it, at a tenth of the cost, but for one that is given an environment,
    be it empty, or a program: that is started as people start it.
    """

    def __init__(
        self,
        database: Path | str,
        port: int = 0,
        environment: dict[str, str] | None = None,
        before: str = "",
        **options: Any,
    ) -> None:
        """`before` is what the process runs before the server starts: to change `chatroom` for a test."""
        self.database = database
        self.port = port
        self.options = options
        self.environment = environment
        self.before = before
        self.program: list[str] = []  # what Python runs in the place of chatroom.py
        self.log: list[str] = []
        self._process: Forked | subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start on the same port and database as before and wait for the greeting."""
        (said, stdout), (logged, stderr) = os.pipe(), os.pipe()
        try:
            self._process = self._started(stdout, stderr)
        finally:
            os.close(stdout)
            os.close(stderr)
        self._stdout, self._stderr = os.fdopen(said), os.fdopen(logged)
        self._reading = threading.Thread(target=self._read_log)
        self._reading.start()
        for line in self._stdout:
            if found := re.search(r"open here +https?://\S+:(\d+)/", line):
                self.port = int(found[1])
            if line.strip().startswith(("database ", "log ")):
                return
        raise AssertionError(f"the server did not start: {self.log}")

    def _started(self, stdout: int, stderr: int) -> "Forked | subprocess.Popen[bytes]":
        options = {"port": self.port, "database": self.database, **self.options}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        if self.environment is None and not self.program:
            return forge().start(arguments, stdout, stderr, self.before)
        changed = ["-c", f"import chatroom\n{self.before}\nchatroom.main()"]
        program = self.program or (changed if self.before else [str(ROOT / "chatroom.py")])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(self.environment or {})}
        return subprocess.Popen([sys.executable, *program, *arguments], stdout=stdout, stderr=stderr, env=environment)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait until the process has ended by itself; returns the exit status."""
        return self._end(None)

    def _end(self, number: int | None) -> int:
        if self._process is None:
            return 0
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait(DEADLINE_S)
        self._reading.join()
        self._stdout.close()
        self._stderr.close()
        self._process = None
        return status

    def _read_log(self) -> None:
        for line in self._stderr:
            self.log.append(line.rstrip("\n"))


class Client:
    """A member by websocket-client; `name=None` on the plain wire, else on `chatroom.v1`."""

    def __init__(
        self, url: str, room: str = "default", *, plain: bool = False, cookie: str | None = None, **arguments: Any
    ) -> None:
        query = urlencode({"room": room, **arguments})
        self.socket = websocket.create_connection(
            f"{url.replace('http', 'ws', 1)}/ws?{query}",
            timeout=DEADLINE_S,
            subprotocols=None if plain else ["chatroom.v1"],
            cookie=cookie,
        )
        self.heard: list[Any] = []
        if not plain:
            self.welcome = self.hear("welcome")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def cookie(self) -> str:
        """The identity that the handshake handed out."""
        return str(self.socket.getheaders()["set-cookie"]).split(";")[0]

    def close(self) -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self.socket.close()
        self.socket.shutdown()

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def say(self, text: str, client_id: str | None = None, **more: Any) -> str:
        client_id = client_id or f"c{time.monotonic_ns()}"
        self.send(type="say", client_id=client_id, text=text, **more)
        return client_id

    def next(self) -> Any:
        """The next frame, of whatever type."""
        frame = json.loads(self.socket.recv())
        self.heard.append(frame)
        return frame

    def hear(self, type: str, **fields: Any) -> Any:
        """The next frame of a type (and with these fields); what comes before it is passed over."""
        while True:
            frame = self.next()
            if frame["type"] == type and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    def messages(self, count: int) -> list[Any]:
        """The next `count` messages."""
        return [self.hear("message") for _ in range(count)]


@contextlib.contextmanager
def closing(*clients: Client) -> Iterator[None]:
    try:
        yield
    finally:
        for client in clients:
            client.close()
