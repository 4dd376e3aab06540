"""People who chat: sentences instead of padding, read with permessage-deflate or without, to see what it saves.

Owns the sentences, the members and what they count. It knows no plan and no rival. Invariant: every member reads and
checks every message, unpacked by an inflater of his own; one that is missing or changed is an error, not a figure.
"""

import base64
import json
import os
import random
import selectors
import socket
import time
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

# The commonest words of English, the commonest first; sentences draw them by rank, as people do (Zipf).
WORDS: Final = """
the be to of and a in that have I it for not on with he as you do at this but his by from they we say her she
or an will my one all would there their what so up out if about who get which go me when make can like time no
just him know take people into year your good some could them see other than then now look only come its over
think also back after use two how our work first well way even new want because any these give day most us
great where slides question link agree thanks sorry tomorrow meeting again maybe really sure never wrong right
sounds fine
""".split()  # noqa: SIM905
NAMES: Final = ("Ann", "Ben", "Chloe", "Dmitri", "Elif", "Farah", "Grace", "Hiro")
TAIL: Final = b"\x00\x00\xff\xff"
PATIENCE_S: Final = 20.0


class Broken(Exception):
    """A member did not get what was said."""


def sentence(dice: random.Random) -> str:
    """Return something of 2 to 22 words; no two runs of a number are alike but by the dice."""
    weights = [1 / (rank + 2) for rank in range(len(WORDS))]
    return " ".join(dice.choices(WORDS, weights, k=dice.randint(2, 22)))


@dataclass
class Member:
    """One who listens, and may speak."""

    sock: socket.socket
    inflater: Any
    unread: bytearray = field(default_factory=bytearray)
    read_bytes: int = 0
    heard: list[str] = field(default_factory=list)

    @classmethod
    def enter(cls, port: int, name: str, *, deflates: bool) -> "Member":
        """Shake hands and return when the server has answered."""
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflates else ""
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /ws?room=chatter&name={name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: chatroom.v1\r\n{extension}\r\n".encode()
        )
        member = cls(sock, zlib.decompressobj(-15))
        while b"\r\n\r\n" not in member.unread:
            member.unread += sock.recv(65536)
        head, _, rest = bytes(member.unread).partition(b"\r\n\r\n")
        if b" 101 " not in head or (b"permessage-deflate" in head) != deflates:
            raise Broken(f"the handshake ended with {head.splitlines()[0].decode()}")
        member.unread = bytearray(rest)
        return member

    def say(self, number: int, text: str) -> None:
        """Send one message; the mask is zero, which any server undoes."""
        payload = json.dumps({"type": "say", "client_id": f"c{number}", "text": text}).encode()
        size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.sock.sendall(b"\x81" + size + bytes(4) + payload)

    def read(self) -> None:
        """Take what has come, unpack it, and keep the texts."""
        data = self.sock.recv(262144)
        if not data:
            raise Broken("the server closed a connection")
        self.read_bytes += len(data)
        self.unread += data
        while (found := self._frame()) is not None:
            head, payload = found
            if head & 0x40:
                payload = self.inflater.decompress(payload + TAIL)
            if head & 0x0F == 1 and (frame := json.loads(payload))["type"] == "message":
                self.heard.append(frame["text"])

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self.unread) < 2:
            return None
        start = {126: 4, 127: 10}.get(self.unread[1], 2)
        size = self.unread[1] if start == 2 else int.from_bytes(self.unread[2:start], "big")
        if len(self.unread) < start + size:
            return None
        found = self.unread[0], bytes(self.unread[start : start + size])
        del self.unread[: start + size]
        return found


def chatter(port: int, pid: int, members: int, rate: float, seconds: float, *, deflates: bool) -> dict[str, float]:
    """Let people chat in one room and return what a delivery took: bytes on the wire, and the server's time.

    Raises Broken if anybody missed anything.
    """
    crowd = [Member.enter(port, NAMES[number % len(NAMES)], deflates=deflates) for number in range(members)]
    with selectors.DefaultSelector() as waiting:
        for member in crowd:
            waiting.register(member.sock, selectors.EVENT_READ, member)
        listen(waiting, lambda: False, 2.0)  # everybody is in, and has heard who else is
        before = sum(member.read_bytes for member in crowd), cpu_s(pid)
        said = talk(waiting, crowd, rate, seconds)
        if not listen(waiting, lambda: all(len(member.heard) >= len(said) for member in crowd), PATIENCE_S):
            raise Broken("a message did not come")
        took = sum(member.read_bytes for member in crowd) - before[0], cpu_s(pid) - before[1]
    for member in crowd:
        member.sock.close()
        if member.heard != said:
            raise Broken("a message was changed, or came out of order")
    deliveries = len(said) * members
    return {
        "bytes_per_delivery": took[0] / deliveries,
        "cpu_us_per_delivery": took[1] / deliveries * 1e6,
        "text_bytes": sum(len(text.encode()) for text in said) / len(said),
        "deliveries": deliveries,
    }


def talk(waiting: selectors.BaseSelector, crowd: list[Member], rate: float, seconds: float) -> list[str]:
    """Say sentences at a rate, one speaker after the other, and return them in their order."""
    dice, began_s = random.Random(7), time.monotonic()
    said: list[str] = []
    while len(said) < rate * seconds:
        said.append(sentence(dice))
        # The next is due when its time has come and the last has been heard, so that all agree on the order.
        crowd[len(said) % min(len(NAMES), len(crowd))].say(len(said), said[-1])
        due_s = began_s + len(said) / rate - time.monotonic()
        listen(waiting, lambda: False, max(due_s, 0))
        listen(waiting, lambda: len(crowd[0].heard) >= len(said), PATIENCE_S)
    return said


def listen(waiting: selectors.BaseSelector, is_over: Any, seconds: float) -> bool:
    """Read what comes until it is over, or the time is; return whether it is over."""
    end_s = time.monotonic() + seconds
    while not is_over():
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return False
        for key, _ in waiting.select(left_s):
            key.data.read()
    return True


def cpu_s(pid: int) -> float:
    """Return how much processor time a process has had."""
    with open(f"/proc/{pid}/stat") as file:
        ticks = file.read().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
