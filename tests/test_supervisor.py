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
        eventually(lambda: [serves(each) for each in servers_of(server)] == [True] * PROCESSES)
        yield server


def servers_of(supervised: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(supervised.pid).children()


def metric(server: ServerProcess, name: str) -> float:
    with urlopen(f"{server.url}/metrics", timeout=DEADLINE_S) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.M)
    return float(found[1]) if found else 0.0


def serves(server: psutil.Process) -> bool:
    """Whether it has let go of its output, after the greeting."""
    return os.readlink(f"/proc/{server.pid}/fd/1") == os.devnull


def of_each_process(server: ServerProcess, name: str) -> dict[int, float]:
    with urlopen(f"{server.url}/metrics", timeout=DEADLINE_S) as answer:
        found = re.findall(rf'^{name}{{process="(\d+)"}} (\S+)$', answer.read().decode(), re.M)
    return {int(place): float(value) for place, value in found}


def folder_of(server: psutil.Process) -> Path:
    """Where it counts."""
    return Path(server.environ()["PROMETHEUS_MULTIPROC_DIR"])


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


def test_what_the_alerts_ask_of_a_process_is_told_of_each(supervised: ServerProcess) -> None:
    """Its own figures, and those of all by whichever is asked."""
    asked = set(re.findall(r"\bprocess_\w+", (ROOT / "deploy" / "alerts.yml").read_text()))
    assert len(asked) > 3
    places = set(range(1, PROCESSES + 1))
    for name in asked:
        figures = of_each_process(supervised, name)
        assert set(figures) == places, name
        assert all(figure > 0 for figure in figures.values()), name
    limits = {1000.0 + number for number in places}
    for limit, server in zip(limits, servers_of(supervised), strict=True):
        server.rlimit(psutil.RLIMIT_NOFILE, (int(limit), int(limit)))
    for _ in range(9):
        assert set(of_each_process(supervised, "process_max_fds").values()) == limits


def test_who_takes_the_place_of_one_that_died_has_its_number(supervised: ServerProcess) -> None:
    """So that a start is seen as one, by the youngest too; the others go on under theirs."""

    def started() -> dict[int, float]:
        return of_each_process(supervised, "process_start_time_seconds")

    before = started()
    servers_of(supervised)[0].kill()
    eventually(lambda: len(after := started()) == PROCESSES and after != before)
    after = started()
    (place,) = (place for place in before if after[place] != before[place])
    assert after[place] == max(after.values()) > max(before.values())


def test_all_end_with_their_supervisor(supervised: ServerProcess) -> None:
    """With a goodbye if it is asked to stop, status 0; without one if it is killed. What they counted in is removed."""
    servers = servers_of(supervised)
    folder = folder_of(servers[0])
    assert folder.is_dir()
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Client(supervised.url, name=f"Member {n}")) for n in range(6)]
        supervised.signal(signal.SIGTERM)
        for each in members:
            assert each.hear("bye")["retry_after"] > 0
            each.socket.shutdown()
        assert supervised.ended() == 0
    assert not [server for server in servers if server.is_running()]
    assert not folder.exists()
    supervised.start()
    servers = servers_of(supervised)
    folder = folder_of(servers[0])
    supervised.kill()
    psutil.wait_procs(servers, DEADLINE_S)
    assert not [server for server in servers if server.is_running()]
    assert not folder.exists()


def test_one_that_is_stopped_while_it_starts_has_ended_well(supervised: ServerProcess) -> None:
    """It serves nobody yet, and has not begun to listen to what it is told."""
    before = servers_of(supervised)
    before[0].kill()
    eventually(lambda: {server.pid for server in servers_of(supervised)} - {server.pid for server in before})
    supervised.signal(signal.SIGTERM)
    assert supervised.ended() == 0


run = functools.partial(subprocess.run, check=False, capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--redis=redis://127.0.0.1:1"], 1), ([], 2), (["--redis=redis://127.0.0.1:1", "--key=x"], 2)],
    ids=["redis away", "no redis", "half a certificate"],
)
def test_what_no_server_could_do_is_refused_once(options: list[str], status: int, tmp_path: Path) -> None:
    """One sentence and status 2, as from a server that is alone; 1 for what may be otherwise when it is tried again."""
    command = [sys.executable, str(ROOT / "chatroom.py"), "--port=0", "--processes=2", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = run(command, cwd=tmp_path, env=environment)
    assert ended.returncode == status
    assert re.fullmatch(r"chatroom: .+\n", ended.stderr)


def test_a_port_in_use_is_refused(supervised: ServerProcess, redis: RedisServer, tmp_path: Path) -> None:
    """Also one that others share: they are another server's."""
    options = [f"--port={supervised.port}", "--processes=2", f"--redis={redis.url}"]
    command = [sys.executable, str(ROOT / "chatroom.py"), *options]
    ended = run(command, cwd=tmp_path)
    assert ended.returncode == 2
    assert "is in use" in ended.stderr
