"""The witness in C: it hears every message of its room, and what it makes of them is right by the clock and by rank."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest import falseserver, frames, tag, witness
from loadtest.falseserver import FalseServer, Lies
from loadtest.witness import CannotRun, Witness
from tests.support import DEADLINE_S, eventually
from tests.test_falseserver import RawMember

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")

ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
HOUR_NS = 3600 * 10**9
HOUR_MS = 3600 * 10**3


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def message(seq: int, age_ns: int = 0, is_measured: bool = True, text_bytes: int = 100) -> bytes:
    """A text that was due so long ago."""
    due_ns = time.monotonic_ns() - age_ns
    return tag.make_text(tag.Tag(1, 0, 0, seq, due_ns % 2**64, due_ns % 2**64, is_measured), text_bytes).encode()


@contextmanager
def watched(lies: Lies | None = None, members: int = 1) -> Iterator[tuple[RawMember, Witness, FalseServer]]:
    """Somebody who speaks where witnesses listen; they came before him, so they hear before he does."""
    with FalseServer(lies) as server, Witness(server.port, "tea", members) as watching:
        watching.await_entered()
        speaker = RawMember(server)
        with closing(speaker.socket):
            yield speaker, watching, server


def heard(payloads: list[bytes], lies: Lies | None = None, members: int = 1) -> dict[str, Any]:
    """What the witnesses report of these payloads."""
    with watched(lies, members) as (speaker, watching, server):
        for payload in payloads:
            speaker.send(payload)
        for _ in range(2):  # the second time, connections are gone that were broken before the first
            speaker.send(b"end", frames.PING)
            speaker.hear_until(b"end")
        return report_of(watching, server)


def report_of(watching: Witness, server: FalseServer) -> dict[str, Any]:
    """What the witnesses report, once all that the server wrote is on their side: they read it before they go."""
    eventually(lambda: not unacknowledged(server.port))
    return watching.end()


def unacknowledged(port: int) -> list[str]:
    """The connections of a server on which bytes are under way to the other end, as the kernel lists them."""
    _, *lines = Path("/proc/net/tcp").read_text().splitlines()
    listed = [line.split() for line in lines]
    return [local for _, local, _, _, queues, *_ in listed if local.endswith(f":{port:04X}") and int(queues[:8], 16)]


def test_every_measured_message_is_timed_at_every_member() -> None:
    """Warm-up messages, and what has no tag, are only counted."""
    said = [message(seq, is_measured=seq >= 4) for seq in range(10)]
    report = heard([*said, b'{"name":"~not a tag~"}'], members=3)
    assert (report["entered"], report["warm"], report["untagged"], report["frames"]) == (3, 12, 3, 33)
    assert report["user"]["count"] == report["kernel"]["count"] == 18
    assert report["early"] == report["dropped"] == 0


def test_a_latency_counts_from_when_the_message_was_due() -> None:
    """Percentiles are samples by rank; the kernel had a message before the program had it."""
    report = heard([message(seq, seq * HOUR_NS) for seq in range(1, 101)])
    for clock in ("user", "kernel"):
        hours = {name: report[clock][name] / HOUR_MS for name in ("p50", "p90", "p99", "p99.9", "max")}
        assert {name: int(value) for name, value in hours.items()} == {
            "p50": 50,
            "p90": 90,
            "p99": 99,
            "p99.9": 100,
            "max": 100,
        }
    assert report["kernel"]["max"] <= report["user"]["max"]
    assert report["unstamped"] < 100


def test_the_tag_is_found_wherever_a_server_puts_it() -> None:
    """In a JSON string behind other text, behind a `~` that is none, and in a frame of any length."""
    wrapped = [
        b'{"by":"~f~","text":"%b"}' % message(seq, HOUR_NS, text_bytes=size)
        for seq, size in enumerate((60, 200, 70_000))
    ]
    report = heard(wrapped)
    assert report["kernel"]["count"] == 3
    assert int(report["kernel"]["p50"] / HOUR_MS) == 1


@pytest.mark.parametrize("lies", [Lies(split=7), Lies(coalesce=5), Lies(coalesce=5, split=4)])
def test_it_hears_whole_frames_however_they_arrive(lies: Lies) -> None:
    """In pieces, together, or both."""
    with watched(lies, members=2) as (speaker, watching, server):
        for seq in range(50):
            speaker.send(message(seq))
        assert [speaker.hear() for _ in range(50)]
        report = report_of(watching, server)
    assert report["kernel"]["count"] == 100


def test_pings_are_answered() -> None:
    """Each one, so that no server throws the witness out."""
    with watched(Lies(ping=2)) as (speaker, watching, server):
        for seq in range(9):
            speaker.send(message(seq))
        speaker.send(b"end")
        speaker.hear_until(b"end")
        report = report_of(watching, server)
        speaker.send(b"read all before this", frames.PING)
        speaker.hear_until(b"read all before this")
        assert server.report()["ponged"] == server.report()["pinged"] == 9
    assert (report["pings"], report["kernel"]["count"]) == (9, 9)


@pytest.mark.parametrize("close_code", [1011, 0])
def test_a_member_whom_the_server_closes_is_reported(close_code: int) -> None:
    """With or without a word; the others stay and hear on."""
    report = heard([message(0), message(1)], Lies(close_at=(2,), close_code=close_code), members=2)
    assert (report["entered"], report["dropped"], report["kernel"]["count"]) == (2, 1, 3)


def test_a_frame_that_is_cut_anywhere_is_put_together_again() -> None:
    """The witness answers the ping before the cut, so it has read what was there until then."""
    ping = falseserver.frame(frames.PING, b"?")
    whole = falseserver.frame(frames.TEXT, message(0, text_bytes=130))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Witness(listener.getsockname()[1], "tea", 1) as watching,
        closing(listener.accept()[0]) as one,
    ):
        one.settimeout(DEADLINE_S)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while b"\r\n\r\n" not in one.recv(65536):
            pass
        one.sendall(f"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode())
        watching.await_entered()
        for cut in range(1, len(whole)):
            one.sendall(ping + whole[:cut])
            assert one.recv(7, socket.MSG_WAITALL)[0] == 0x80 | frames.PONG
            one.sendall(whole[cut:])
        one.sendall(ping)
        one.recv(7, socket.MSG_WAITALL)
        report = watching.end()
    assert (report["kernel"]["count"], report["pings"]) == (len(whole) - 1, len(whole))


@pytest.mark.parametrize("kind", ["reserved bit", "reserved opcode", "masked", "long ping", "fragmented ping"])
def test_garbage_ends_it_with_a_sentence(kind: str) -> None:
    """What was heard until then is no basis for a comparison."""
    with pytest.raises(CannotRun, match="the server"):
        heard([message(0)], Lies(garbage_at=(1,), garbage=kind))


@pytest.mark.parametrize("lies", [Lies(refuse=503), None])
def test_a_witness_who_is_not_let_in_says_why(lies: Lies | None) -> None:
    """Refused, or nobody there."""
    with FalseServer(lies) as server:
        port = server.port if lies else free_port()
        with Witness(port, "tea", 1) as watching, pytest.raises(CannotRun, match="503" if lies else "nobody listens"):
            watching.await_entered()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_it_is_compiled_once_for_each_source(tmp_path: Path) -> None:
    """The same source is the same program; another one is another."""
    source = tmp_path / "program.c"
    source.write_text("int main(void) { return 0; }")
    first = witness.built(source)
    made_at = first.stat().st_mtime_ns
    assert witness.built(source) == first
    assert first.stat().st_mtime_ns == made_at
    source.write_text("int main(void) { return 1; }")
    assert witness.built(source) != first


def test_a_source_that_does_not_compile_is_not_run(tmp_path: Path) -> None:
    """A warning is enough."""
    source = tmp_path / "careless.c"
    source.write_text("int main(void) { int unused; return 0; }")
    with pytest.raises(CannotRun, match="does not compile"):
        witness.built(source)
    assert not list(witness.cache_folder().glob("careless*"))


def test_without_a_compiler_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotRun, match=r"^reference\.c was not compiled: there is no C compiler \(.*\)\.$"):
        witness.built()
