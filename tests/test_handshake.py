"""The handshake: who is let in has a bare socket and a cookie of his own; who is not is told why in one sentence."""

import base64
import contextlib
import fcntl
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import websocket

from loadtest import handshake
from loadtest.adapters import Adapter, load
from loadtest.handshake import Door, Refused, reason
from tests.support import DEADLINE_S

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REFUSAL = "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Doorman:
    """A server that answers as it is told to, and remembers what was asked."""

    answer: Callable[[dict[str, str]], bytes]
    tls: ssl.SSLContext | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    inside: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> "Doorman":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE_S)
        self._thread = threading.Thread(target=self._open)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for one in self.inside:
            one.close()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{'wss' if self.tls else 'ws'}://localhost:{self._listener.getsockname()[1]}"

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                somebody, _ = self._listener.accept()
                somebody.settimeout(DEADLINE_S)
                with contextlib.suppress(OSError):
                    self._answer(somebody)

    def _answer(self, somebody: socket.socket) -> None:
        self.inside.append(somebody)
        if self.tls:
            somebody = self.tls.wrap_socket(somebody, server_side=True)
            self.inside[-1] = somebody
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = somebody.recv(1000)
            if not more:
                return
            head += more
        first, *others = head.decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others if line)}
        self.asked.append({"path": first.split()[1], **headers})
        somebody.sendall(self.answer(headers))


def welcome(headers: dict[str, str], *more: str) -> bytes:
    """The answer that lets somebody in."""
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", *more, "", ""]).encode()


@contextlib.contextmanager
def closing(sock: Any) -> Iterator[Any]:
    """A member's socket, closed in the end."""
    try:
        yield sock
    finally:
        sock.close()


def heard(sock: Any, size: int) -> bytes:
    """What a member's socket brings."""
    sock.settimeout(DEADLINE_S)
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


def enter(
    server: Doorman, adapter: Adapter | None = None, place: dict[str, str] | None = None, cookie: str = "", **how: Any
) -> Any:
    """Knock at a door."""
    door = {name: how.pop(name) for name in ("is_stuck", "source") if name in how}
    return Door(server.address, adapter or Adapter(), **how).enter("hall", place or {}, cookie, **door)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *words.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a server with that certificate speaks with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


# Let in


def test_not_one_byte_behind_the_answer_is_read() -> None:
    """The reader gets it, though it came together with the answer."""
    with Doorman(lambda headers: welcome(headers) + b"\x81\x05hello") as server, closing(enter(server)[0]) as sock:
        assert type(sock) is socket.socket
        assert heard(sock, 7) == b"\x81\x05hello"


def test_a_member_s_socket_does_not_wait() -> None:
    """Neither for bytes nor for company before it sends."""
    with Doorman(welcome) as server, closing(enter(server)[0]) as sock:
        assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_stuck_member_has_a_small_window() -> None:
    """Else the kernel would read megabytes for him."""
    with Doorman(welcome) as server:
        sizes = []
        for is_stuck in (False, True):
            with closing(enter(server, is_stuck=is_stuck)[0]) as sock:
                sizes.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
        assert sizes[1] <= 2 * handshake.STUCK_BUFFER_BYTES < sizes[0]


def test_a_member_can_come_from_another_address_of_this_machine() -> None:
    """And waits no more than others; where he cannot come from he is refused."""
    with Doorman(welcome) as server:
        sock, _ = enter(server, source="127.0.0.7")
        with closing(sock):
            assert server.inside[0].getpeername()[0] == "127.0.0.7"
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(Refused):
            enter(server, source="192.0.2.1")


def test_the_server_is_asked_for_the_room_and_the_subprotocol() -> None:
    """And for what was missed; no browser's Origin is feigned."""

    def answer(headers: dict[str, str]) -> bytes:
        return welcome(headers, "Sec-WebSocket-Protocol: chatroom.v1")

    with Doorman(answer) as server:
        enter(server, load("chatroom"), {"epoch": "e1", "after": "7"})[0].close()
        (asked,) = server.asked
        assert asked["path"] == "/ws?room=hall&epoch=e1&after=7"
        assert asked["sec-websocket-protocol"] == "chatroom.v1"
        assert "origin" not in asked
        assert "cookie" not in asked


def test_each_member_has_a_cookie_of_his_own() -> None:
    """He shows it when he comes back, and nobody else's ever, not even one that is for the whole domain."""
    numbers = iter(range(9))

    def answer(headers: dict[str, str]) -> bytes:
        if "cookie" in headers:
            return welcome(headers)
        return welcome(headers, f"Set-Cookie: member=m{next(numbers)}; Path=/; HttpOnly; Domain=localhost")

    with Doorman(answer) as server:
        cookies = []
        for cookie in ("", "", "member=m0"):
            sock, found = enter(server, cookie=cookie)
            sock.close()
            cookies.append(found)
        assert cookies == ["member=m0", "member=m1", "member=m0"]
        assert [asked.get("cookie") for asked in server.asked] == [None, None, "member=m0"]


def test_a_member_who_greets_is_heard() -> None:
    """In the frames that his adapter says."""

    class Polite(Adapter):
        def hello(self, room: str) -> list[str]:
            return [f"join {room}", "hi"]

    with Doorman(welcome) as server, closing(enter(server, Polite())[0]):
        frame = heard(server.inside[0], 6 + 9)
        assert (frame[0], frame[1]) == (0x81, 0x80 + 9)
        assert bytes(byte ^ frame[2 + place % 4] for place, byte in enumerate(frame[6:])) == b"join hall"
        assert heard(server.inside[0], 6 + 2)[1] == 0x80 + 2


# TLS


def test_insecure_accepts_any_certificate(tls: ssl.SSLContext) -> None:
    """And the socket stays one that speaks TLS, which does not wait either."""
    with (
        Doorman(lambda headers: welcome(headers) + b"hello", tls) as server,
        closing(enter(server, insecure=True)[0]) as sock,
    ):
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.gettimeout() == 0
        assert heard(sock, 5) == b"hello"


def test_a_certificate_that_is_not_trusted_is_refused(tls: ssl.SSLContext) -> None:
    """With what to do about it."""
    with Doorman(welcome, tls) as server, pytest.raises(Refused) as refusal:
        enter(server)
    assert str(refusal.value) == (
        "the server's certificate is not trusted (self-signed certificate); --insecure accepts any"
    )


def test_a_server_without_tls_is_refused_by_one_who_speaks_it() -> None:
    """It answers, and not with TLS."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            with contextlib.closing(listener.accept()[0]) as somebody:
                somebody.recv(1000)
                somebody.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Refused, match=r"^TLS failed \(.*\): is it a wss:// server\?$"):
            Door(f"wss://localhost:{listener.getsockname()[1]}", Adapter()).enter("hall", {}, "")
        thread.join()


# Not let in


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (REFUSAL % "403 Forbidden", "the server answered HTTP 403"),
        (REFUSAL % "503 Service Unavailable", "the server answered HTTP 503"),
        (REFUSAL % "200 OK", "the server answered HTTP 200"),
        (
            "HTTP/1.1 302 Found\r\nLocation: ws://localhost:1/\r\n\r\n",
            "the answer is no WebSocket handshake (Redirect limit exhausted)",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "the answer is no WebSocket handshake (Invalid WebSocket Header)"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
        ("", None),
    ],
)
def test_who_is_not_let_in_is_told_why(answer: str, sentence: str | None) -> None:
    """In a few words, which are the same for the same reason; no number and no address in them."""
    sentences = set()
    for _ in range(2):

        def answered(headers: dict[str, str]) -> bytes:
            if not answer:
                server.inside[-1].shutdown(socket.SHUT_RDWR)
            return answer.encode()

        with Doorman(answered) as server, pytest.raises(Refused) as refusal:
            enter(server)
        sentences.add(str(refusal.value))
    assert len(sentences) == 1
    assert sentence is None or sentences == {sentence}
    assert "\n" not in sentences.pop()


def test_a_subprotocol_that_the_server_does_not_speak_is_refused() -> None:
    """It is another kind of server."""
    with Doorman(welcome) as server, pytest.raises(Refused, match=r"^the answer is no WebSocket handshake \(.*\)$"):
        enter(server, load("chatroom"))


def test_a_server_that_is_not_there_is_refused() -> None:
    """Whether its port or its name is nobody's, or its address is none."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    for base, sentence in (
        (f"ws://127.0.0.1:{port}", "Connection refused"),
        ("ws://nobody.invalid", "the name of its host is not known"),
    ):
        with pytest.raises(Refused) as refusal:
            Door(base, Adapter()).enter("hall", {}, "")
        assert str(refusal.value) == sentence
    for base in ("gopher://host", "nonsense"):
        with pytest.raises(Refused, match=r"^the answer is no WebSocket handshake|^[a-z]"):
            Door(base, Adapter()).enter("hall", {}, "")


def test_a_server_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time that is the same for all."""
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.05)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener, pytest.raises(Refused) as refusal:
        Door(f"ws://127.0.0.1:{listener.getsockname()[1]}", Adapter()).enter("hall", {}, "")
    assert str(refusal.value) == "no answer to the handshake within 0.05 s"


def test_a_server_that_closes_before_the_greeting_has_not_let_in() -> None:
    """The member is told so, and nothing is left open."""

    class Polite(Adapter):
        def hello(self, room: str) -> Any:
            server.inside[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.inside[0].close()
            for _ in range(1000):  # until the kernel knows
                yield "hello?"

    with Doorman(welcome) as server, pytest.raises(Refused, match=r"Broken pipe|reset by peer|no WebSocket"):
        enter(server, Polite())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (websocket.WebSocketTimeoutException("x"), "no answer to the handshake within 20 s"),
        (TimeoutError("x"), "no answer to the handshake within 20 s"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("strange"), "strange"),
        (ValueError("odd"), "the answer is no WebSocket handshake (odd)"),
    ],
)
def test_a_reason_is_a_few_words(error: Exception, sentence: str) -> None:
    """Whatever the error was."""
    assert reason(error) == sentence
