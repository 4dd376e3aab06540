"""The watch: it finds the server by its port, with its children, and says nothing of what it cannot see."""

import contextlib
import math
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from loadtest import watch as module
from loadtest.watch import Watch

# Listens, tells where, and keeps a child that holds 80 MB; both end with their input.
SERVER = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
here, there = os.pipe()
if not os.fork():
    held = b"x" * 80_000_000
    os.write(there, b".")
    sys.stdin.read()
    os._exit(0)
os.read(here, 1)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def server() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server of two processes, and its port."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline()), process


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port on which this very process listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
@pytest.mark.parametrize("scheme", ["ws", "http", "wss"])
def test_whoever_listens_on_the_port_is_watched(scheme: str, host: str, listener: socket.socket) -> None:
    """Under every name of this machine."""
    watch = Watch(f"{scheme}://{host}:{listener.getsockname()[1]}/ws")
    own_bytes = psutil.Process().memory_info().rss
    assert watch.memory_bytes() > own_bytes / 2
    assert watch.memory_before_bytes > own_bytes / 2


def test_children_are_part_of_the_server() -> None:
    """With their memory, though they listen on the same socket."""
    with server() as (port, process):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert len(family) == 2
        held_bytes = sum(one.memory_info().rss for one in family)
        assert Watch(f"ws://localhost:{port}").memory_bytes() == pytest.approx(held_bytes, abs=1_000_000)
        assert family[0].memory_info().rss > 2_000_000
        assert process.stdin
        process.stdin.close()


def test_its_processor_time_is_counted_since_the_last_look(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a share of the time that has passed."""
    now_s, used_s = [100.0], [7.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: (used_s[0], 1.0, 9 * used_s[0], 99.0))
    monkeypatch.setattr(psutil.Process, "children", lambda _, recursive: [])
    watch = Watch(f"ws://localhost:{listener.getsockname()[1]}")
    now_s[0], used_s[0] = 110.0, 9.0
    assert watch.cpu() == pytest.approx(0.2)
    now_s[0], used_s[0] = 112.0, 11.0
    assert watch.cpu() == pytest.approx(1.0)
    assert watch.cpu() == 0.0


def test_a_child_that_comes_later_is_found_in_time(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every look, since each costs milliseconds."""
    now_s = [100.0]
    looks = []

    def children(_: psutil.Process, recursive: bool) -> list[psutil.Process]:
        looks.append(now_s[0])
        return [psutil.Process()] * len(looks)

    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(psutil.Process, "children", children)
    watch = Watch(f"ws://localhost:{listener.getsockname()[1]}")
    before_bytes = watch.memory_bytes()
    now_s[0] += module.FAMILY_S / 2
    watch.memory_bytes()
    assert len(looks) == 1
    now_s[0] += module.FAMILY_S
    assert watch.memory_bytes() > before_bytes * 1.2
    assert len(looks) == 2


def test_what_is_not_here_is_not_seen(listener: socket.socket) -> None:
    """A server elsewhere, even on the same port, and a port on which nobody listens, though somebody talks there."""
    port = listener.getsockname()[1]
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other:
        free = other.getsockname()[1]
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as client:
        talking = client.getsockname()[1]
        for url in (f"ws://chat.example:{port}", f"ws://localhost:{free}", f"ws://localhost:{talking}"):
            watch = Watch(url)
            assert math.isnan(watch.cpu())
            assert math.isnan(watch.memory_bytes())
            assert math.isnan(watch.memory_before_bytes)


def test_a_server_that_ends_is_not_seen_any_more() -> None:
    """And the run goes on."""
    with server() as (port, process):
        watch = Watch(f"ws://localhost:{port}")
        assert watch.memory_bytes() > 0
        assert process.stdin
        process.stdin.close()
        process.wait()
        assert math.isnan(watch.memory_bytes())
        assert math.isnan(watch.cpu())


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://localhost", 80),
        ("ws://localhost/room", 80),
        ("https://localhost", 443),
        ("wss://localhost", 443),
        ("wss://localhost:8443", 8443),
    ],
)
def test_a_url_without_a_port_means_that_of_its_scheme(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    asked: list[int] = []
    monkeypatch.setattr(module, "_listener", asked.append)
    Watch(url)
    assert asked == [port]


def test_it_does_not_fail_where_it_may_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees nothing then."""

    def deny(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", deny)
    assert math.isnan(Watch("ws://localhost:1").memory_bytes())
