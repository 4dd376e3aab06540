"""Peers of plain bytes against a server in a process of its own, and what must be as before once they are gone."""

import contextlib
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from tests.support import DEADLINE_S, Client, ServerProcess, eventually

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
NO_ANSWER = 0  # closed without a word


def handshake(
    line: str = "GET /ws?room=bare HTTP/1.1",
    *more: str,
    without: str = "",
    end: str = "\r\n",
    **changed: str,
) -> bytes:
    """The bytes of a handshake: a good one, but for what is said."""
    headers = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    headers.pop(without, None)
    return end.join([line, *(f"{name}: {value}" for name, value in headers.items()), *more, "", ""]).encode("latin1")


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """What a server's bytes say, as (opcode, payload); what is not whole yet is left out."""
    found = []
    while len(data) >= 2:
        start, size = 2, data[1]
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            break
        found.append((data[0] & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return found


class Bare:
    """A connection of bytes; a context manager."""

    def __init__(self, port: int, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.came = b""
        self.send(data)

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(
            ConnectionError
        ):  # the server may have closed by now: what it said is read all the same
            self.socket.sendall(data)

    def more(self) -> bool:
        """Take in what comes next; false at the end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.came += data
        return bool(data)

    def status(self) -> int:
        """The status of the answer, whose head and body are taken off; NO_ANSWER if there is none."""
        while b"\r\n\r\n" not in self.came and self.more():
            pass
        if not self.came:
            return NO_ANSWER
        self.head, _, self.came = self.came.partition(b"\r\n\r\n")
        if length := re.search(rb"(?i)\r\ncontent-length: (\d+)", self.head):
            while len(self.came) < int(length[1]) and self.more():
                pass
            self.came = self.came[int(length[1]) :]
        return int(self.head.split()[1])

    def frames_until(self, opcode: int, payload: bytes | None = None) -> list[tuple[int, bytes]]:
        """All frames up to one of this kind; raises AssertionError if the connection ends before."""
        while not (
            found := [
                place
                for place, each in enumerate(frames(self.came))
                if each[0] == opcode and payload in (None, each[1])
            ]
        ):
            assert self.more(), frames(self.came)
        return frames(self.came)[: found[0] + 1]

    def close_code(self) -> int:
        """The code of the server's close frame, behind which nothing comes but the end."""
        while self.more():
            pass
        opcode, payload = frames(self.came)[-1]
        assert opcode == 0x8, frames(self.came)
        payload[2:].decode()
        return int.from_bytes(payload[:2], "big") if payload else 1005

    def finish(self) -> None:
        """Send the FIN."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Watched:
    """A chat server with somebody in it who must not notice anything."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.server = ServerProcess(folder / "chatroom.db", message_rate=0, **options)

    def __enter__(self) -> "Watched":
        self.server.start()
        self.bystander = Client(self.server.url, "elsewhere", name="Bystander")
        return self

    def __exit__(self, *exception: object) -> None:
        self.bystander.close()
        assert self.server.terminate() == 0
        strange = [line for line in self.server.log if not re.match(r"\S+ \S+ (INFO|WARNING) ", line)]
        assert strange == []

    @property
    def port(self) -> int:
        return self.server.port

    def metric(self, name: str) -> float:
        """One number of /metrics."""
        with urlopen(f"{self.server.url}/metrics", timeout=DEADLINE_S) as answer:
            found = re.search(rf"(?m)^{re.escape(name)} (.+)$", answer.read().decode())
        return float(found[1]) if found else 0.0

    @contextlib.contextmanager
    def unmoved(self, log_lines: int = 1) -> Iterator[None]:
        """Whatever is done meanwhile, nothing of it stays, and who is there is heard and hears."""
        members, logged = self.metric("chatroom_members"), len(self.server.log)
        yield
        self.bystander.say("still here")
        self.bystander.hear("message", text="still here")
        eventually(lambda: self.metric("chatroom_members") == members)
        assert len(self.server.log) - logged <= log_lines, self.server.log[logged:]

    def bare(self, data: bytes = b"") -> Bare:
        """A new connection, on which this was sent."""
        return Bare(self.port, data)
