"""The servers we are compared with: each is an honest chat room, and says in half a sentence what it lacks here.

Those run that this machine has everything for (Tornado always, C wherever there is a compiler); nothing is installed.
"""

import contextlib
import json
import re
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from loadtest import peers
from loadtest.machine import Cores
from loadtest.peers import PEERS, Peer, Serving, serving
from tests.support import DEADLINE_S, Client

PONG = 10
LENGTHS = [1, 125, 126, 4_000, 65_535, 65_536, 100_000]
SOURCES = ["tornado_loop.py", "websockets_broadcast.py", "starlette_each.py", "loop.c", "ws.mjs", "bun.js"]


def is_here(peer: Peer) -> bool:
    """Whether it runs without anything being installed."""
    return not peer.lacks() or (peer.fetch is peers.fetch_c and shutil.which("cc") is not None)


@pytest.fixture(scope="module", params=[name for name in PEERS if name != "chatroom" and is_here(PEERS[name])])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    """Each of the rivals in turn."""
    peer = PEERS[request.param]
    assert peer.prepare() == ""
    with serving(peer, Cores()) as running:
        yield running


@contextlib.contextmanager
def members(server: Serving, count: int, room: str) -> Iterator[list[Client]]:
    """As many members of a room; each is known to be in it, since he has heard himself and all who came after him."""
    inside: list[Client] = []
    with contextlib.ExitStack() as stack:
        for number in range(count):
            inside.append(stack.enter_context(Client(f"http://127.0.0.1:{server.port}", room, plain=True)))
            inside[-1].socket.send(f"here is {number}")
            assert [one.socket.recv() for one in inside] == [f"here is {number}"] * (number + 1)
        yield inside


def heard(member: Client, count: int) -> list[str]:
    """The next texts that a member hears."""
    return [member.socket.recv() for _ in range(count)]


def vanish(member: Client) -> None:
    """Be gone without a goodbye: the kernel answers for him with a reset."""
    member.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    member.socket.shutdown()


def test_everybody_hears_everything_in_the_order_it_was_said(server: Serving) -> None:
    """Senders included, once each, unchanged."""
    with members(server, 3, "order") as everybody:
        said: dict[str, list[str]] = {
            name: [f"{name} {number} ~ käse 🧀" for number in range(40)] for name in ("ann", "bob")
        }
        for of_ann, of_bob in zip(said["ann"], said["bob"], strict=True):
            everybody[0].socket.send(of_ann)
            everybody[1].socket.send(of_bob)
        for member in everybody:
            texts = heard(member, 80)
            assert {name: [text for text in texts if text.startswith(name)] for name in said} == said


def test_a_message_stays_in_its_room(server: Serving) -> None:
    """Members of other rooms hear nothing of it."""
    with members(server, 2, "east") as (ann, bob), members(server, 1, "west") as (carl,):
        carl.socket.send("for the west")
        assert carl.socket.recv() == "for the west"
        ann.socket.send("for the east")
        assert [ann.socket.recv(), bob.socket.recv()] == ["for the east"] * 2


def test_a_text_of_any_length_comes_back_unchanged(server: Serving) -> None:
    """On both sides of every border between the three ways to write a length."""
    with members(server, 2, "lengths") as (ann, bob):
        for length in LENGTHS:
            text = "ab" * (length // 2) + "c" * (length % 2)
            ann.socket.send(text)
            assert ann.socket.recv() == text
            assert bob.socket.recv() == text


def test_a_member_who_vanishes_harms_nobody(server: Serving) -> None:
    """The others miss nothing, and hear nothing of it."""
    with members(server, 4, "vanishing") as (first, ann, bob, last):
        for number, other in enumerate((first, last)):
            ann.socket.send(f"before {number}")
            vanish(other)
            bob.socket.send(f"after {number}")
        expected = {f"{when} {number}" for when in ("before", "after") for number in range(2)}
        for member in (ann, bob):
            assert set(heard(member, 4)) == expected
        ann.socket.send("still here?")
        assert [ann.socket.recv(), bob.socket.recv()] == ["still here?"] * 2


def test_a_ping_is_answered(server: Serving) -> None:
    """With what it carried."""
    with members(server, 1, "ping") as (ann,):
        ann.socket.ping("are you there?")
        assert ann.socket.recv_data(control_frame=True) == (PONG, b"are you there?")


def test_frames_may_come_in_any_pieces(server: Serving) -> None:
    """Three pieces with both cuts within a frame; what the other says in between shows that each was taken in."""
    one, other = (websocket.ABNF.create_frame(text, websocket.ABNF.OPCODE_TEXT).format() for text in ("one", "other"))
    data = one + other
    with members(server, 2, "pieces") as (ann, bob):
        for cut in range(1, len(one)):
            for piece in (data[:cut], data[cut : len(one) + cut], data[len(one) + cut :]):
                ann.socket.sock.sendall(piece)
                bob.socket.send("between")
                while bob.socket.recv() != "between":
                    pass
            assert [text for text in heard(ann, 5) if text != "between"] == ["one", "other"]


def test_who_reads_late_misses_nothing(server: Serving) -> None:
    """More is said than his socket takes, before he reads a word of it."""
    # Small segments as well, or the kernel takes megabytes for him.
    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096), (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_000)]
    texts = [f"{number:04}".ljust(4_000, "x") for number in range(100)]
    url = f"ws://127.0.0.1:{server.port}/ws?room=late"
    with members(server, 1, "late") as (ann,):
        with contextlib.closing(websocket.create_connection(url, timeout=DEADLINE_S, sockopt=small)) as bob:
            bob.send("here is bob")
            assert bob.recv() == "here is bob"
            for text in texts:
                ann.socket.send(text)
            assert [bob.recv() for _ in texts] == texts
            bob.shutdown()
        assert heard(ann, 101) == ["here is bob", *texts]


def test_the_chat_room_starts_like_the_others() -> None:
    """With a database that is gone afterwards, and it is ended."""
    with serving(PEERS["chatroom"], Cores()) as running:
        assert running.is_up
        with socket.create_connection(("127.0.0.1", running.port)):
            pass
    assert not running.is_up


def test_a_server_that_does_not_start_is_quoted() -> None:
    """In one sentence, with its last words."""
    broken = Peer("broken", "", lambda _: [sys.executable, "-c", "import sys; sys.exit('one\\nno such thing\\n')"])
    with pytest.raises(RuntimeError, match=r"^it did not start \(no such thing\)$"), serving(broken, Cores()):
        pass


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no program but those that a test puts into the folder, where nothing was fetched."""
    monkeypatch.setattr(peers, "FETCHED", tmp_path / "fetched")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def fake(folder: Path, name: str, says: str = "", status: int = 0) -> None:
    """Put a program into a folder that says something on stderr and ends."""
    program = folder / name
    program.write_text(
        f"#!/bin/sh\nwhile read -r line; do echo \"$line\" >&2; done <<'END'\n{says}\nEND\nexit {status}\n"
    )
    program.chmod(0o755)


def installed(folder: Path, package: str, version: str) -> None:
    """Lay what npm leaves of a package."""
    where = folder / "fetched" / "node" / "node_modules" / package
    where.mkdir(parents=True, exist_ok=True)
    (where / "package.json").write_text(json.dumps({"version": version}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("c", "there is no C compiler (cc) here"),
        ("c-batch", "there is no C compiler (cc) here"),
        ("ws", "there is no npm here"),
        ("bun", "there is no npm here"),
    ],
)
def test_a_missing_program_is_named(bare: Path, name: str, reason: str) -> None:
    """Half a sentence, and nothing else happens."""
    assert PEERS[name].prepare() == reason
    assert not (bare / "fetched").exists()


def test_a_compiler_that_fails_is_quoted(bare: Path) -> None:
    """With its first error; no half of a program is left behind."""
    fake(bare, "cc", "loop.c: In function 'main':\nloop.c:9:1: error: sys/epoll.h: no such file\n1 error generated.", 1)
    assert PEERS["c"].prepare() == "loop.c could not be compiled (loop.c:9:1: error: sys/epoll.h: no such file)"
    assert list((bare / "fetched" / "c").iterdir()) == []


@pytest.mark.parametrize("name", ["ws", "bun"])
def test_an_npm_without_a_network_is_quoted(bare: Path, name: str) -> None:
    """The same for both that it installs."""
    fake(bare, "node")
    fake(bare, "npm", "npm warn something\nnpm error code ENOTFOUND\nnpm error a log is elsewhere", 1)
    assert PEERS[name].prepare() == "npm could not install package-lock.json (npm error code ENOTFOUND)"


def test_an_npm_that_installs_nothing_is_not_believed(bare: Path) -> None:
    """What counts is what lies there afterwards."""
    fake(bare, "node")
    fake(bare, "npm")
    assert re.fullmatch(r"ws [\d.]+ cannot be found in fetched/node", PEERS["ws"].prepare())


@pytest.mark.parametrize("name", ["websockets", "starlette"])
def test_a_pip_without_a_network_is_quoted(bare: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for both that it installs."""
    fake(bare, "python", "WARNING: retrying\nERROR: no matching distribution found", 1)
    monkeypatch.setattr(sys, "executable", str(bare / "venv-maker"))
    fake(bare, "venv-maker")
    monkeypatch.setattr(peers, "python", lambda: str(bare / "python"))
    expected = "pip could not install requirements-peers.txt (ERROR: no matching distribution found)"
    assert PEERS[name].prepare() == expected


def test_what_was_installed_in_another_version_is_missing(bare: Path) -> None:
    """A pin that was raised is fetched anew."""
    fake(bare, "node")
    installed(bare, "ws", "1.0.0")
    assert "cannot be found" in PEERS["ws"].lacks()
    installed(bare, "ws", peers.node_packages()["ws"])
    assert PEERS["ws"].lacks() == ""


def test_every_python_package_must_be_there(bare: Path) -> None:
    """One that is missing is named, and those that are there are not."""
    packages = bare / "fetched" / "python" / "lib" / "python3.11" / "site-packages"
    pins = peers.requirements()
    for name, version in pins.items():
        (packages / f"{name}-{version}.dist-info").mkdir(parents=True)
    assert PEERS["starlette"].lacks() == ""
    (packages / f"uvicorn-{pins['uvicorn']}.dist-info").rmdir()
    assert PEERS["starlette"].lacks() == f"uvicorn {pins['uvicorn']} cannot be found in fetched/python"


def test_a_bun_that_does_not_run_is_quoted(bare: Path) -> None:
    """A processor may be too old for it."""
    installed(bare, "bun", peers.node_packages()["bun"])
    program = bare / "fetched" / "node" / peers.BUN
    program.parent.mkdir()
    fake(program.parent, program.name, "Illegal instruction", 132)
    assert PEERS["bun"].lacks() == "bun does not run here (Illegal instruction)"


def test_what_is_there_is_not_fetched_again(bare: Path) -> None:
    """Only Tornado and the chat room need nothing; of the others each has a way to be fetched."""
    assert [name for name, peer in PEERS.items() if peer.fetch is peers.nothing] == ["chatroom", "tornado"]
    ready = Peer("ready", "", lambda _: [], lacks=lambda: "", fetch=lambda: "it was fetched")
    assert ready.prepare() == ""


def test_git_ignores_what_was_fetched(bare: Path) -> None:
    """Whatever is laid there, no commit takes it up."""
    assert peers.made("c").is_dir()
    assert (bare / "fetched" / ".gitignore").read_text() == "*\n"


def test_every_version_is_pinned() -> None:
    """What is compared tomorrow is what was compared today, and no registry is named."""
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in peers.REQUIREMENTS.read_text().splitlines()[1:])
    lock = json.loads((peers.HERE / "package-lock.json").read_text())["packages"]
    for name, version in peers.node_packages().items():
        assert lock[f"node_modules/{name}"]["version"] == version
        assert lock[""]["dependencies"][name] == version
    assert not [name for name, package in lock.items() if "resolved" in package]


@pytest.mark.parametrize("source", SOURCES)
def test_every_rival_says_what_it_does_not_do(source: str) -> None:
    """In its first lines: a figure without that is no comparison."""
    assert "It does NOT" in (peers.HERE / source).read_text()[:1000]
