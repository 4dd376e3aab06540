"""TLS without a proxy: everything works over it, nobody holds it up, and a renewed certificate is taken."""

import contextlib
import itertools
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import websocket

from chat.settings import Settings
from chat.starting import BadOption, admin_link, greeting, listen, tls_context
from tests import certificates
from tests.certificates import Certificate
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess, eventually

SHORT_HANDSHAKE = "chatroom.HANDSHAKE_S = 0.5"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(certificate.certificate))


@pytest.fixture(scope="module")
def server(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all who leave it as it is."""
    database = tmp_path_factory.mktemp("room") / "chatroom.db"
    options = {"address": "127.0.0.1", "message_rate": 0, **certificate.options()}
    with ServerProcess(database, before=SHORT_HANDSHAKE, **options) as server:
        yield server


def url(server: ServerProcess) -> str:
    return f"https://127.0.0.1:{server.port}"


@contextlib.contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as raw:
        yield raw


def is_dropped(raw: socket.socket) -> bool:
    """Whether the server ends a connection, by a close or by a reset, whatever it says before."""
    with contextlib.suppress(ConnectionError):
        while raw.recv(65536):
            pass
    return True


def members(server: ServerProcess, certificate: Certificate) -> float:
    """How many sockets the server counts."""
    with urlopen(f"{url(server)}/metrics", context=certificate.trusted(), timeout=DEADLINE_S) as answer:
        return float(re.search(r"^chatroom_members (\S+)$", answer.read().decode(), re.MULTILINE)[1])  # type: ignore[index]


# What works


def test_pages_and_sockets_are_served_over_tls(server: ServerProcess, certificate: Certificate) -> None:
    """Both wires; the identity is kept for https alone, and the page's own Origin is welcome."""
    with urlopen(f"{url(server)}/", context=certificate.trusted(), timeout=DEADLINE_S) as page:
        assert "secure" in page.headers["Set-Cookie"].lower()
        assert b"<title>" in page.read()
    with Client(url(server), "tea", name="Ann") as ann, Client(url(server), "tea", plain=True) as old:
        assert "secure" in ann.socket.getheaders()["set-cookie"].lower()
        ann.say("hello over tls")
        assert ann.hear("message")["text"] == "hello over tls"
        while old.next() != "hello over tls":
            pass


def test_the_check_of_origin_goes_on_under_tls(server: ServerProcess) -> None:
    """The page's own, with its port, comes in; another site's does not."""
    address = f"wss://127.0.0.1:{server.port}/ws"
    websocket.create_connection(address, timeout=DEADLINE_S, origin=url(server)).close()
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, timeout=DEADLINE_S, origin="https://elsewhere.example")


def test_the_greeting_and_the_link_say_https(certificate: Certificate) -> None:
    """What is printed can be opened."""
    files = {name: str(path) for name, path in certificate.options().items()}
    options = Settings(port=90, secret="s" * 32, **files)
    listeners = listen(0, "")
    try:
        said = greeting(listeners[0], options, "here")
    finally:
        for listener in listeners:
            listener.close()
    assert "open here   https://localhost:" in said
    assert "share       https://" in said
    assert admin_link(options).startswith("https://localhost:90/admin?key=")


def test_a_slow_reader_under_tls_gets_all_of_it_in_order(server: ServerProcess) -> None:
    """What waits for him in the server is more than the kernel takes, and less than he may have."""
    count, text = 150, "x" * 4000
    with Client(url(server), "slow", name="Ann") as ann, Client(url(server), "slow", name="Bob") as bob:
        for number in range(count):
            ann.say(f"{number} {text}"[:4000])
        assert [message["text"].split()[0] for message in ann.messages(count)] == [str(n) for n in range(count)]
        assert [message["text"].split()[0] for message in bob.messages(count)] == [str(n) for n in range(count)]


def test_who_does_not_read_under_tls_is_cut_off_and_resumes(server: ServerProcess) -> None:
    """Others hear everything meanwhile; he comes back and misses nothing."""
    with Client(url(server), "stuck", name="Ann") as ann, Client(url(server), "stuck", name="Bob") as bob:
        seen = ann.welcome["head"]
        said = 0
        while not any("cut off" in line for line in server.log):
            for _ in range(20):
                ann.say(f"{said} ".ljust(4000, "x"))
                said += 1
            ann.messages(20)
            assert said < 5000, "nobody was cut off"
        with pytest.raises((websocket.WebSocketException, OSError)):
            while True:
                seen = bob.next().get("seq", seen)
        with Client(url(server), "stuck", epoch=ann.welcome["epoch"], after=seen) as back:
            assert back.welcome["resumed"] == "whole"
            left = range(seen + 1, back.welcome["head"] + 1)
            assert [back.hear("message")["seq"] for _ in left] == list(left)


# Who is not let in


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x16\x03\x01", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"x" * 5000],
    ids=["nothing", "the beginning of a record", "half of a greeting"],
)
def test_a_handshake_that_is_not_finished_is_dropped(server: ServerProcess, sent: bytes) -> None:
    """In the time that a handshake has, however much of it was sent."""
    with connected(server) as raw:
        raw.sendall(sent)
        assert is_dropped(raw)


def test_a_handshake_by_drops_is_dropped(server: ServerProcess) -> None:
    """A byte now and then does not prolong it."""
    with connected(server) as raw:
        raw.settimeout(0.05)
        record = itertools.chain(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", itertools.repeat(120))
        with pytest.raises(ConnectionError):
            for byte in itertools.islice(record, int(DEADLINE_S / 0.05)):
                raw.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    if not raw.recv(1):
                        raise ConnectionResetError


def test_who_asks_for_nothing_after_the_handshake_is_dropped(server: ServerProcess, certificate: Certificate) -> None:
    """TLS alone keeps no connection."""
    with connected(server) as raw, certificate.trusted().wrap_socket(raw, server_hostname="localhost") as secure:
        assert is_dropped(secure)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_tls_is_dropped_without_a_word_in_the_log(server: ServerProcess, sent: bytes) -> None:
    """Scanners come by the thousand; who speaks TLS is served as before."""
    before = len(server.log)
    for _ in range(5):
        with connected(server) as raw:
            raw.sendall(sent)
            assert is_dropped(raw)
    Client(url(server)).close()
    assert server.log[before:] == []


def test_versions_before_1_2_are_not_spoken(certificate: Certificate) -> None:
    """TLS 1.0 and 1.1 are broken (RFC 8996)."""
    context = tls_context(Settings(certificate=str(certificate.certificate), key=str(certificate.key)))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


# Which certificate


def test_a_certificate_that_cannot_be_used_is_refused(certificate: Certificate, tmp_path: Path) -> None:
    """With one sentence that names the files, and nobody is asked for a password."""
    other, closed = certificates.made(tmp_path, "other"), certificates.made(tmp_path, "closed", "secret")
    (rubbish := tmp_path / "rubbish.pem").write_text("rubbish")
    good, key = certificate
    for pair in (
        (tmp_path / "missing.pem", key),
        (good, tmp_path / "missing.pem"),
        (tmp_path, key),
        (good, other.key),
        (good, rubbish),
        (rubbish, key),
        (key, good),
        closed,
    ):
        with pytest.raises(BadOption) as refused:
            tls_context(Settings(certificate=str(pair[0]), key=str(pair[1])))
        sentence = str(refused.value)
        assert sentence.endswith(".") and "\n" not in sentence
        assert str(pair[0]) in sentence or str(pair[1]) in sentence


def test_a_server_with_a_bad_certificate_does_not_start(certificate: Certificate, tmp_path: Path) -> None:
    """Exit status 2, one sentence, no database."""
    options = [f"--certificate={certificate.certificate}", f"--key={certificate.certificate}"]
    command = [sys.executable, str(ROOT / "chatroom.py"), f"--database={tmp_path / 'chatroom.db'}", "--port=0"]
    done = subprocess.run([*command, *options], check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("chatroom: --certificate and --key cannot be used")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def shown(server: ServerProcess) -> str:
    """The certificate that a newcomer is shown."""
    return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=DEADLINE_S)


def test_a_renewed_certificate_is_taken_on_sighup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the connections to come: those that are open go on, to the `bye`. One that cannot be used changes nothing."""
    first = certificates.made(tmp_path / "tls")
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(tmp_path / "first.crt"))
    (tmp_path / "first.crt").write_text(old := first.certificate.read_text())
    options = {"address": "127.0.0.1", **first.options()}
    with ServerProcess(tmp_path / "chatroom.db", **options) as server, Client(url(server)) as ann:
        assert shown(server) == old
        certificates.made(tmp_path / "tls")
        new = first.certificate.read_text()
        assert shown(server) == old
        server.signal(signal.SIGHUP)
        eventually(lambda: shown(server) == new)
        first.key.write_text("rubbish")
        server.signal(signal.SIGHUP)
        eventually(lambda: any("the certificate in use stays in use" in line for line in server.log))
        assert shown(server) == new
        ann.say("still here")
        ann.hear("message", text="still here")
        server.signal(signal.SIGTERM)
        assert ann.hear("bye")["retry_after"] > 0
        opcode, data = ann.socket.recv_data()
        assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1001).to_bytes(2, "big"))
        assert server.ended() == 0


def test_garbage_behind_a_frame_ends_that_member_alone(server: ServerProcess, certificate: Certificate) -> None:
    """A record that cannot be read, in one packet with one that can, leaves nobody behind and no traceback."""
    before = members(server, certificate)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificate.trusted().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

    def carried(work: Callable[[], Any]) -> Any:
        while True:
            try:
                done = work()
            except ssl.SSLWantReadError:
                done = None
            raw.sendall(outgoing.read())
            if done is not None:
                return done
            incoming.write(raw.recv(65536))

    with connected(server) as raw:
        carried(lambda: tls.do_handshake() or True)
        carried(
            lambda: tls.write(
                b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
        )
        assert b" 101 " in carried(lambda: tls.read(65536))
        eventually(lambda: members(server, certificate) == before + 1)
        tls.write(b"\x89\x80\0\0\0\0")
        raw.sendall(outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
        eventually(lambda: members(server, certificate) == before)
    assert not [line for line in server.log if "Traceback" in line]
