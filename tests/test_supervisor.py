"""Several servers on one port: together they are one, and what dies of them is started anew."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess, eventually

PROCESSES = 3


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def supervised(tmp_path: Path, redis: RedisServer) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "none.db", redis=redis.url, processes=PROCESSES, message_rate=0) as server:
        yield server


def servers_of(supervised: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(supervised.pid).children()


def metric(server: ServerProcess, name: str) -> float:
    with urlopen(f"{server.url}/metrics", timeout=DEADLINE_S) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.M)
    return float(found[1]) if found else 0.0


def test_members_of_one_port_are_in_one_room(supervised: ServerProcess) -> None:
    """Whichever process has them; their metrics add up."""
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Client(supervised.url, name=f"Member {n}")) for n in range(12)]
        for number, member in enumerate(members, 1):
            member.say(f"text {number}")
            for each in members:
                each.hear("message", seq=number)
        eventually(lambda: metric(supervised, "chatroom_members") == 12)
        assert metric(supervised, "chatroom_events_total") == 12
        assert metric(supervised, "chatroom_deliveries_total") == 144


def test_a_server_that_dies_is_started_anew(supervised: ServerProcess) -> None:
    """The others go on, whoever knocks meanwhile waits, and its members find another one."""
    before = servers_of(supervised)
    assert len(before) == PROCESSES
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Client(supervised.url, name=f"Member {n}")) for n in range(9)]
        members[0].say("before")
        for each in members:
            each.hear("message", seq=1)
        before[0].kill()
        again = [stack.enter_context(Client(supervised.url, name=f"Again {n}")) for n in range(9)]
        again[0].say("after")
        for each in again:
            assert each.hear("message", text="after")["seq"] == 2
        eventually(lambda: len(servers_of(supervised)) == PROCESSES)
    assert before[0].pid not in [server.pid for server in servers_of(supervised)]


def test_all_end_with_their_supervisor(supervised: ServerProcess) -> None:
    """With a goodbye if it is asked to stop, status 0; without one if it is killed."""
    servers = servers_of(supervised)
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Client(supervised.url, name=f"Member {n}")) for n in range(6)]
        supervised.signal(signal.SIGTERM)
        for each in members:
            assert each.hear("bye")["retry_after"] > 0
            each.socket.shutdown()
        assert supervised.ended() == 0
    assert not [server for server in servers if server.is_running()]
    supervised.start()
    servers = servers_of(supervised)
    supervised.kill()
    psutil.wait_procs(servers, DEADLINE_S)
    assert not [server for server in servers if server.is_running()]


run = functools.partial(subprocess.run, check=False, capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.mark.parametrize("options", [["--redis=redis://127.0.0.1:1"], [], ["--redis=redis://127.0.0.1:1", "--key=x"]])
def test_what_no_server_could_do_is_refused_once(options: list[str], tmp_path: Path) -> None:
    """One sentence and status 2, as from a server that is alone."""
    command = [sys.executable, str(ROOT / "chatroom.py"), "--port=0", "--processes=2", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = run(command, cwd=tmp_path, env=environment)
    assert ended.returncode == 2
    assert re.fullmatch(r"chatroom: .+\n", ended.stderr)


def test_a_port_in_use_is_refused(supervised: ServerProcess, redis: RedisServer, tmp_path: Path) -> None:
    """Also one that others share: they are another server's."""
    options = [f"--port={supervised.port}", "--processes=2", f"--redis={redis.url}"]
    command = [sys.executable, str(ROOT / "chatroom.py"), *options]
    ended = run(command, cwd=tmp_path)
    assert ended.returncode == 2
    assert "is in use" in ended.stderr
