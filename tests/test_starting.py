"""What a server needs before it starts: ports, open files, a secret; and what it then says."""

import asyncio
import contextlib
import gc
import os
import re
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler

from chat import starting
from chat.eventlog import LogRefused
from chat.eventlog.sqlite import SqliteLog
from chat.settings import Settings
from chat.starting import (
    RESERVED_FILES,
    BadOption,
    BoundedHTTPServer,
    admin_link,
    greeting,
    kept_secret,
    listen,
    shared_origin,
)
from tests.house import until
from tests.support import DEADLINE_S, ROOT, ServerProcess


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text


@contextlib.contextmanager
def listening(port: int, address: str) -> Iterator[list[socket.socket]]:
    listeners = listen(port, address)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


@contextlib.contextmanager
def unbound_sockets() -> Iterator[None]:
    """Tornado leaves the sockets that it could not bind to the collector, which warns of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def refusal(port: int, address: str) -> str:
    """The one sentence with which `listen` refuses."""
    with unbound_sockets():
        try:
            sockets = listen(port, address)
        except BadOption as error:
            sentence = str(error)
        else:
            for opened in sockets:
                opened.close()
            pytest.fail(f"{address!r} was not refused")
    assert is_one_sentence(sentence)
    return sentence


# Ports


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_port_in_use_is_refused(address: str) -> None:
    """With its number and what to do about it."""
    with listening(0, address) as listeners:
        port = listeners[0].getsockname()[1]
        sentence = refusal(port, address)
    assert sentence.startswith(f"Port {port} is in use")
    assert "--port" in sentence


@pytest.mark.parametrize(
    "address",
    ["192.0.2.1", "2001:db8::1", "not an address", "127.0.0.1:80", "ä" * 70, "\0"],
    ids=lambda address: ascii(address[:16]),
)
def test_an_address_that_is_not_ours_is_refused(address: str) -> None:
    """Another machine's, or none at all: named, with what to do about it."""
    assert "--address" in refusal(0, address)


def test_without_an_address_both_families_listen_on_one_port() -> None:
    """IPv4 and IPv6, also if the port is picked."""
    with listening(0, "") as listeners:
        assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_a_picked_port_is_free_in_both_families() -> None:
    """A port that others use in one family alone is passed over, however often one has to look."""
    refusals = 0
    with contextlib.ExitStack() as others, unbound_sockets():
        for _ in range(150):
            other = others.enter_context(socket.socket(socket.AF_INET6))
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("::", 0))
        for _ in range(1000):
            try:
                with listening(0, ""):
                    pass
            except BadOption:
                refusals += 1
    assert refusals == 0


# The greeting


@pytest.mark.parametrize("address", ["", "127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_the_address_to_open_here_can_be_opened_here(address: str) -> None:
    """Whatever the server listens on."""
    with listening(0, address) as listeners:
        here = re.search(
            r"open here +http://(\[[^]]+\]|[^:/]+):(\d+)/", greeting(listeners[0], Settings(address=address), "here")
        )
        assert here is not None
        with socket.create_connection((here[1].strip("[]"), int(here[2])), DEADLINE_S):
            pass


def test_the_greeting_says_what_one_needs_to_know() -> None:
    """Where to open it, what to share, that anyone who reaches it can enter, and where the database lies."""
    with listening(0, "") as listeners:
        said = greeting(listeners[0], Settings(), "/srv/chatroom.db")
        port = listeners[0].getsockname()[1]
    assert f"http://localhost:{port}/" in said
    assert re.search(rf"share +http://\S+:{port}/ .*anyone who reaches this address can enter", said)
    assert "database    /srv/chatroom.db" in said


def test_pages_share_what_the_greeting_shares(tmp_path: Path) -> None:
    """Others are told the same address on paper and on the page; if none reaches the server, the page names none."""
    with listening(0, "") as listeners:
        assert f"share       {shared_origin(listeners[0], Settings())}/ " in greeting(listeners[0], Settings(), "")
    for address in ("127.0.0.1", "::1", "localhost"):
        with listening(0, address) as listeners:
            assert shared_origin(listeners[0], Settings(address=address)) == ""
    with ServerProcess(tmp_path / "chatroom.db") as server, urlopen(server.url, timeout=DEADLINE_S) as page:
        assert re.search(rf'data-share="http://[^/"]+:{server.port}"', page.read().decode())


def test_a_log_says_where_a_relative_database_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its whole path; a memory database lies nowhere."""
    monkeypatch.chdir(tmp_path)
    assert SqliteLog("chatroom.db").place == str(tmp_path / "chatroom.db")
    assert "nothing is kept" in SqliteLog(":memory:").place


def test_what_only_this_machine_can_reach_is_not_offered_to_others() -> None:
    """The greeting says so instead."""
    with listening(0, "127.0.0.1") as listeners:
        said = greeting(listeners[0], Settings(address="127.0.0.1"), "")
    assert "only this machine" in said
    assert "anyone" not in said


# The secret


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """Beside the database, mode 0600 whatever the umask, the same at every start, another for another database."""
    database = tmp_path / "chatroom.db"
    before = os.umask(0)
    try:
        secret = kept_secret(str(database))
    finally:
        os.umask(before)
    assert len(secret) >= 32
    assert stat.S_IMODE(database.with_name("chatroom.db.secret").stat().st_mode) == 0o600
    assert kept_secret(str(database)) == secret
    assert kept_secret(str(tmp_path / "other.db")) != secret
    assert not database.exists()


def test_a_secret_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    """White space around it does not count; the file is not touched."""
    kept = tmp_path / "chatroom.db.secret"
    kept.write_text(f"{'s' * 32}\n")
    assert kept_secret(str(tmp_path / "chatroom.db")) == "s" * 32
    assert kept.read_text() == f"{'s' * 32}\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b" " * 100, b"s" * 31 + b"\n", b"\xff\xfe" * 32],
    ids=["empty", "short", "spaces", "31", "no text"],
)
def test_a_secret_that_keeps_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, short or no text: named, never replaced, for people would silently lose their identities."""
    kept = tmp_path / "chatroom.db.secret"
    kept.write_bytes(content)
    with pytest.raises(LogRefused) as refused:
        kept_secret(str(tmp_path / "chatroom.db"))
    assert str(kept) in str(refused.value)
    assert is_one_sentence(str(refused.value))
    assert kept.read_bytes() == content


@pytest.mark.parametrize("place", ["file/chatroom.db", "missing/chatroom.db", "folder"])
def test_a_secret_that_cannot_be_had_is_refused(tmp_path: Path, place: str) -> None:
    """Where no file can be made or read: named, with what to do about it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.secret").mkdir()
    with pytest.raises(LogRefused) as refused:
        kept_secret(str(tmp_path / place))
    assert f"{tmp_path / place}.secret" in str(refused.value)
    assert "--secret" in str(refused.value)
    assert is_one_sentence(str(refused.value))


def test_a_memory_database_has_a_secret_of_its_own_each_time() -> None:
    """And no file."""
    assert kept_secret(":memory:") != kept_secret(":memory:")
    assert not Path(":memory:.secret").exists()


# The operator's link


def test_asking_for_a_link_makes_no_secret(tmp_path: Path) -> None:
    """A server that starts later would have another; one that was started has its own, which is used."""
    database = str(tmp_path / "chatroom.db")
    with pytest.raises(BadOption) as refused:
        admin_link(Settings(database=database))
    assert is_one_sentence(str(refused.value))
    assert list(tmp_path.iterdir()) == []
    kept_secret(database)
    assert admin_link(Settings(database=database, port=90)).startswith("http://localhost:90/admin?key=")


# How long an answer may take


class Long(RequestHandler):
    """An answer of as many pieces as are asked for, each sent when the last is taken."""

    PIECE = b"x" * 65536

    async def get(self, pieces: str) -> None:
        with contextlib.suppress(StreamClosedError):
            for _ in range(int(pieces)):
                self.write(self.PIECE)
                await self.flush()


@contextlib.asynccontextmanager
async def asked(
    pieces: int, request_s: float | None = None
) -> AsyncIterator[tuple[BoundedHTTPServer, asyncio.StreamReader]]:
    """A server, and a client that has asked it for a long answer and not read any of it yet."""
    with listening(0, "127.0.0.1") as listeners, socket.socket() as client:
        server = BoundedHTTPServer(Application([("/([0-9]+)", Long)]), idle_connection_timeout=request_s)
        server.add_sockets(listeners)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listeners[0].getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=65536)
        try:
            writer.write(f"GET /{pieces} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            yield server, reader
        finally:
            writer.transport.abort()
            server.stop()
            await server.close_all_connections()


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within which some of an answer has to be taken."""
    monkeypatch.setattr(starting, "RESPONSE_S", 0.5)
    monkeypatch.setattr(starting, "RESPONSE_BYTES", 65536)


async def read_slowly(reader: asyncio.StreamReader, seconds: float, byte_count: int = 65536) -> int:
    """Take so many bytes every hundredth of a second; returns how many it was in all."""
    count, end_s = 0, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end_s and not reader.at_eof():
        count += len(await reader.read(byte_count))
        await asyncio.sleep(0.01)
    return count


def test_who_asks_nothing_in_time_is_let_go() -> None:
    """Half a request is nothing; who has asked is answered, however long it takes."""

    async def wait_for_the_end() -> tuple[bytes, int]:
        async with asked(200, request_s=0.2) as (_, reader):
            host, port = reader._transport.get_extra_info("peername")  # type: ignore[attr-defined]
            silent, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\n")
            try:
                left = await asyncio.wait_for(silent.read(), DEADLINE_S)
            finally:
                writer.transport.abort()
            return left, len(await asyncio.wait_for(reader.read(), DEADLINE_S))

    left, count = asyncio.run(wait_for_the_end())
    assert left == b""
    assert count > 200 * len(Long.PIECE)


@pytest.mark.usefixtures("half_a_second")
def test_an_answer_that_is_taken_slowly_is_given_to_its_end() -> None:
    """However long it takes in all, as long as it moves on."""

    async def slowly() -> int:
        async with asked(1000) as (server, reader):
            count = await read_slowly(reader, 5 * starting.RESPONSE_S)
            assert len(server._deadlines) == 1
            return count + len(await asyncio.wait_for(reader.read(), DEADLINE_S))

    assert asyncio.run(slowly()) > 1000 * len(Long.PIECE)


@pytest.mark.usefixtures("half_a_second")
@pytest.mark.parametrize("seconds", [0.0, 1.25])
def test_an_answer_that_is_not_taken_any_more_is_broken_off(seconds: float) -> None:
    """However well it began: the connection is free again."""

    async def ever_less() -> None:
        async with asked(10_000) as (server, reader):
            await read_slowly(reader, seconds)
            await until(lambda: server._connections)
            await until(lambda: not server._connections)

    asyncio.run(ever_less())


@pytest.mark.usefixtures("half_a_second")
def test_an_answer_that_would_take_for_ever_is_broken_off() -> None:
    """A byte now and then does not keep a connection."""

    async def drop_by_drop() -> None:
        async with asked(10_000) as (server, reader):
            await until(lambda: server._connections)
            drops = asyncio.ensure_future(read_slowly(reader, DEADLINE_S, 100))
            await until(lambda: not server._connections)
            assert not drops.done()
            drops.cancel()

    asyncio.run(drop_by_drop())


# Open files

ROOM = """
import resource, sys
from chat.starting import BadOption, room_for_members
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    print(room_for_members(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except BadOption as error:
    print(error)
"""


def room(soft: int, hard: int, wanted: int) -> str:
    """What a process of its own with these limits finds."""
    command = [sys.executable, "-c", ROOM, str(soft), str(hard), str(wanted)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "members"),
    [
        (300, 1000, 0, 1000 - RESERVED_FILES),
        (1000, 1000, 0, 1000 - RESERVED_FILES),
        (300, 1000, 10, 10),
        (300, 1000, 1000 - RESERVED_FILES, 1000 - RESERVED_FILES),
        (100, 200, 0, 1),
    ],
)
def test_the_open_file_limit_is_raised_and_counted_on(soft: int, hard: int, wanted: int, members: int) -> None:
    """As many members as were wanted, or as the limit allows less a reserve; the soft limit is no obstacle."""
    assert room(soft, hard, wanted) == f"{members} {hard}"


def test_more_members_than_files_are_refused() -> None:
    """With what would be needed and how to get it."""
    wanted = 1000 - RESERVED_FILES + 1
    said = room(300, 1000, wanted)
    assert f"--max_members={wanted}" in said
    assert str(wanted + RESERVED_FILES) in said
    assert "ulimit" in said
    assert is_one_sentence(said)
