"""A server that lies on request and tells exactly how often: the harness must find every lie.

It speaks WebSocket on `/ws?room=NAME` and says every text to everybody in the room, the speaker included. Owns its
bytes from the handshake on, and knows nothing of the harness but where a message's text has its tag, nor of any chat.
Invariants: lies are told by number, never by chance, so the same messages bring the same lies; only texts with a tag
are lied about; and what the report says is what was done.
Run it with `python -m loadtest.falseserver --port=0 --drop=10000`; it prints its address, and its report on SIGTERM.
"""

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import re
import resource
import signal
import ssl
import struct
import sys
import threading
import time
from binascii import crc32, unhexlify
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests", 503: "Service Unavailable"}
MAX_HEAD_BYTES = 64 * 1024
SWAP_S = 1.0  # a message that waits so long for the speaker's next one is handed over unswapped
COALESCE_S = 0.05  # messages that wait so long for company go without
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA

# The text of a message: run, room and what else is of no interest here, measured or warm-up, check sum, filler.
_TEXT = re.compile(rb"~([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{36})([mw])~[0-9a-f]{8}x*")

GARBAGE = {
    "reserved bit": b"\xf1\x01x",
    "reserved opcode": b"\x83\x01x",
    "masked": b"\x81\x81\x00\x00\x00\x00x",
    "long ping": b"\x89\x7e\x00\x7e" + b"x" * 126,
    "fragmented ping": b"\x09\x01x",
    "long length": b"\x81\x7e\x00\x01x",
    "stray continuation": b"\x80\x01x",
    "no UTF-8": b"\x81\x01\xff",
}

# The lies about one delivery, and as what they are counted. The place in this list is the remainder at which each is
# told, so that with equal periods none hides another.
ABOUT_DELIVERIES = {
    "drop": "dropped",
    "double": "doubled",
    "swap": "swapped",
    "change": "changed",
    "foreign": "foreign",
    "ping": "pinged",
    "edit": "edited",
}
COUNTED = (
    *("handshakes", "refused", "untagged", "messages", "offered", "deliveries", "skipped", "held"),
    *(*ABOUT_DELIVERIES.values(), "ponged", "stalled", "garbage", "closed", "ended"),
)


def _lie(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in `10,200`."""
    return tuple(int(number) for number in text.split(","))


@dataclass(frozen=True)
class Lies:
    """What to lie about; messages and deliveries with a tag are numbered from 1 over all rooms, and 0 is never."""

    drop: int = _lie(0, "leave out one in N deliveries")
    double: int = _lie(0, "make one in N deliveries twice")
    swap: int = _lie(0, "make one in N deliveries behind the same speaker's next one")
    change: int = _lie(0, "alter a byte of the text in one of N deliveries")
    foreign: int = _lie(0, "let one in N deliveries be followed by a message of another room")
    ping: int = _lie(0, "let one in N deliveries follow a ping, and count the answers")
    edit: int = _lie(0, "let one in N deliveries be followed by an event that edits it, with its text in it")
    stall: int = _lie(0, "sleep before every N-th message, with all that the server does")
    stall_at: tuple[int, ...] = _lie((), "sleep before the messages with these numbers: 10,200", parse=numbers)
    stall_ms: float = _lie(50.0, "how long to sleep")
    garbage_at: tuple[int, ...] = _lie((), "before these messages send a member a forbidden frame", parse=numbers)
    garbage: str = _lie("reserved bit", "which forbidden frame", choices=tuple(GARBAGE))
    close_at: tuple[int, ...] = _lie((), "before these messages close the newest member who is silent", parse=numbers)
    close_code: int = _lie(1011, "the code he is told; 0 breaks his connection without a word")
    end_at: int = _lie(0, "before this message break every connection and end")
    fragment: int = _lie(1, "send every message in N fragments")
    coalesce: int = _lie(1, "send N messages together")
    split: int = _lie(1, "send every frame in N pieces, to each member one before the next")
    refuse: int = _lie(0, "answer handshakes with this status, such as 403, 429 or 503")
    refuse_every: int = _lie(1, "refuse one in N handshakes")


@dataclass(frozen=True)
class _Message:
    """One text with a tag, ready to be sent."""

    speaker: "_Member"
    text: re.Match[bytes]  # where it is in the payload
    frames: bytes
    is_measured: bool


class FalseServer:
    """The server; as a context manager it runs in a thread of its own, and `report` is final after it."""

    def __init__(self, lies: Lies | None = None, port: int = 0, certificate: Path | None = None) -> None:
        """`certificate` is a file with certificate and key."""
        self.lies = lies or Lies()
        self.port = port
        self._trouble: OSError | None = None
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._counts = dict.fromkeys(COUNTED, 0)
        self._measured = dict.fromkeys(COUNTED, 0)
        self._periods = [
            (kind, getattr(self.lies, kind), place)
            for place, kind in enumerate(ABOUT_DELIVERIES)
            if getattr(self.lies, kind)
        ]
        self._is_plain = self.lies.coalesce == 1 and self.lies.split == 1
        self._connections: set[_Member] = set()
        self.rooms: dict[str, _Room] = {}

    @property
    def url(self) -> str:
        """Where it can be reached."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}/"

    def report(self) -> dict[str, Any]:
        """Return what was done, and under `measured` how much of it to messages whose tag says so.

        `offered` is what the members ought to have got, and `deliveries` how often one of them was handed a message,
        changed or not: offered = deliveries + dropped + skipped + held - doubled. Who is `skipped` was closing
        already, and what is `held` still waits to be swapped.
        """
        return {**self._counts, "measured": dict(self._measured)}

    # Running

    def __enter__(self) -> "FalseServer":
        is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[is_ready], name="false server")
        self._thread.start()
        is_ready.wait()
        if self._trouble:
            raise self._trouble
        return self

    def _run(self, is_ready: threading.Event) -> None:
        try:
            asyncio.run(self.serve(is_ready.set))
        except OSError as trouble:
            self._trouble = trouble
            is_ready.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self.stop)
        except RuntimeError:  # the loop is closed: it has ended itself
            pass
        self._thread.join()

    async def serve(self, on_ready: Callable[[], object]) -> None:
        """Serve until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        listener = await self._loop.create_server(
            lambda: _Member(self), HOST, self.port, ssl=self._tls, backlog=4096, start_serving=False
        )
        self.port = listener.sockets[0].getsockname()[1]
        await listener.start_serving()
        on_ready()
        await self._is_over.wait()
        listener.close()
        await asyncio.sleep(0)  # abort() tells a member on the loop's next turn

    def stop(self) -> None:
        """Break every connection and end; call it on the loop."""
        for member in self._connections:
            member.transport.abort()
        self._is_over.set()

    # Members

    def came(self, member: "_Member") -> None:
        """Remember a connection, to break it at the end."""
        self._connections.add(member)

    def went(self, member: "_Member") -> None:
        """Forget a connection."""
        self._connections.discard(member)
        if member.room:
            member.room.members.pop(member, None)

    def refusal(self) -> int:
        """Count a handshake and return the status it is refused with, or 0."""
        self._counts["handshakes"] += 1
        if not self.lies.refuse or self._counts["handshakes"] % self.lies.refuse_every:
            return 0
        self._counts["refused"] += 1
        return self.lies.refuse

    def enter(self, member: "_Member", name: str) -> "_Room":
        """Let a member into a room."""
        room = self.rooms.setdefault(name, _Room())
        room.members[member] = None
        return room

    def ponged(self) -> None:
        """Count the answer to a ping."""
        self._counts["ponged"] += 1

    # Messages

    def say(self, speaker: "_Member", room: "_Room", payload: bytes) -> None:
        """Tell the room a text, with the lies that are due."""
        text = _TEXT.search(payload)
        if not text:
            self._count("untagged", False)
            for member in room.members:
                member.write(frame(TEXT, payload))
            return
        message = _Message(speaker, text, fragments(payload, self.lies.fragment), text[4] == b"m")
        self._count("messages", message.is_measured)
        self._disturb(message, room, self._counts["messages"])
        self._tell(message, room)

    def _disturb(self, message: _Message, room: "_Room", number: int) -> None:
        """Tell the lies that befall the whole server or a member rather than a delivery."""
        lies = self.lies
        if number in lies.stall_at or (lies.stall and number % lies.stall == 0):
            self._count("stalled", message.is_measured)
            time.sleep(lies.stall_ms / 1000)
        if number in lies.garbage_at and (victim := room.newest_but(message.speaker)):
            self._count("garbage", message.is_measured)
            victim.write(GARBAGE[lies.garbage])
        if number in lies.close_at and (victim := room.newest_but(message.speaker)):
            self._count("closed", message.is_measured)
            victim.close(lies.close_code)
        if number == lies.end_at:
            self._count("ended", message.is_measured)
            self.stop()

    def _tell(self, message: _Message, room: "_Room") -> None:
        first, members = self._counts["offered"], list(room.members)
        is_honest = not message.speaker.held_back and not self._is_due(first, len(members))
        self._count("offered", message.is_measured, len(members))
        if is_honest and self._is_plain:
            self._tell_honestly(message, members)
            return
        told = [(member, self._told(message, member, first + place)) for place, member in enumerate(members, 1)]
        if self.lies.coalesce == 1:
            self._send(told)
        else:
            self._gather(room, told)

    def _tell_honestly(self, message: _Message, members: list["_Member"]) -> None:
        """Send everybody the same; nearly all deliveries take this way."""
        frames, done = message.frames, 0
        for member in members:
            if not member.transport.is_closing():
                member.transport.write(frames)
                done += 1
        self._count("deliveries", message.is_measured, done)
        self._count("skipped", message.is_measured, len(members) - done)

    def _is_due(self, first: int, count: int) -> bool:
        """Return whether a lie is due in one of the `count` deliveries after the `first` ones."""
        return any((first + count - place) // every > (first - place) // every for _, every, place in self._periods)

    def _lie_about(self, number: int) -> str:
        """Return the lie about the delivery with this number; one is enough."""
        for kind, every, place in self._periods:
            if (number - place) % every == 0:
                return str(kind)
        return ""

    def _told(self, message: _Message, member: "_Member", number: int) -> bytes:
        """Return what one member is sent for a message; with a lie nothing is overtaken, lest one hide the other."""
        if member.transport.is_closing():
            self._count("skipped", message.is_measured)
            return b""
        lie = self._lie_about(number)
        if lie == "drop":
            self._count("dropped", message.is_measured)
            return b""
        if lie == "swap" and member not in message.speaker.held_back:
            self._hold_back(message, member)
            return b""
        self._count("deliveries", message.is_measured)
        if lie in ("", "swap"):
            return message.frames + self._overtaken(message, member)
        self._count(ABOUT_DELIVERIES[lie], message.is_measured)
        return self._altered(message, lie)

    def _altered(self, message: _Message, lie: str) -> bytes:
        if lie == "double":
            self._count("deliveries", message.is_measured)
            return message.frames * 2
        if lie == "change":
            return fragments(changed(message.text, self._counts["changed"]), self.lies.fragment)
        if lie == "foreign":
            return message.frames + fragments(of_another_room(message.text), self.lies.fragment)
        if lie == "edit":
            return message.frames + fragments(edit_of(message.text), self.lies.fragment)
        assert lie == "ping"
        return frame(PING, b"are you there") + message.frames

    def _overtaken(self, message: _Message, member: "_Member") -> bytes:
        """Return the message that was to be overtaken by this one, if there is one."""
        earlier = message.speaker.held_back.pop(member, None)
        if not earlier:
            return b""
        self._count("held", earlier.is_measured, -1)
        self._count("deliveries", earlier.is_measured)
        self._count("swapped", earlier.is_measured)
        return earlier.frames

    def _hold_back(self, message: _Message, member: "_Member") -> None:
        """Keep a message until its speaker's next one has overtaken it; the last one has none and only comes late."""
        held_back = message.speaker.held_back
        held_back[member] = message
        self._count("held", message.is_measured)

        def give_up() -> None:
            if held_back.get(member) is message:
                del held_back[member]
                self._count("held", message.is_measured, -1)
                gone = member.transport.is_closing()
                self._count("skipped" if gone else "deliveries", message.is_measured)
                member.write(message.frames)

        self._loop.call_later(SWAP_S, give_up)

    def _gather(self, room: "_Room", told: list[tuple["_Member", bytes]]) -> None:
        """Keep what is told until enough is together."""
        for member, data in told:
            member.waiting += data
        room.gathered += 1
        if room.gathered == self.lies.coalesce:
            self._send_gathered(room)
        elif room.gathered == 1:
            room.timer = self._loop.call_later(COALESCE_S, self._send_gathered, room)

    def _send_gathered(self, room: "_Room") -> None:
        if room.timer:
            room.timer.cancel()
        told = [(member, bytes(member.waiting)) for member in room.members]
        for member in room.members:
            member.waiting.clear()
        room.gathered = 0
        self._send(told)

    def _send(self, told: list[tuple["_Member", bytes]]) -> None:
        pieces = self.lies.split
        for piece in range(pieces):
            for member, data in told:
                member.write(data[len(data) * piece // pieces : len(data) * (piece + 1) // pieces])

    def _count(self, name: str, is_measured: bool, number: int = 1) -> None:
        self._counts[name] += number
        if is_measured:
            self._measured[name] += number


class _Room:
    """Who hears what is said, in the order in which they came."""

    def __init__(self) -> None:
        self.members: dict[_Member, None] = {}
        self.gathered = 0
        self.timer: asyncio.TimerHandle | None = None

    def newest_but(self, speaker: "_Member") -> "_Member | None":
        """Return who came last and has not said anything; else who came last and does not speak now."""
        others = [member for member in reversed(self.members) if member is not speaker]
        return next((member for member in others if not member.has_spoken), others[0] if others else None)


class _Member(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, server: FalseServer) -> None:
        self.room: _Room | None = None
        self.has_spoken = False
        self.held_back: dict[_Member, _Message] = {}  # what this one has said and another is yet to hear
        self.waiting = bytearray()
        self._server = server
        self._inbox = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.came(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.went(self)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        if self.room is None:
            self._shake_hands()
        try:
            while self.room and not self.transport.is_closing() and (found := client_frame(self._inbox)):
                first, payload, size = found
                self._inbox = self._inbox[size:]
                self._on_frame(self.room, first, payload)
        except ValueError:
            self.close(1002)

    def write(self, data: bytes) -> None:
        """Send, unless there is nothing to send or nobody to read it."""
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def close(self, code: int) -> None:
        """Close with a code, or break the connection if that is 0."""
        if code:
            self.write(frame(CLOSE, code.to_bytes(2)))
            self.transport.close()
        else:
            self.transport.abort()

    def _shake_hands(self) -> None:
        head, blank_line, rest = self._inbox.partition(b"\r\n\r\n")
        if not blank_line:
            if len(head) > MAX_HEAD_BYTES:
                self.transport.abort()
            return
        request, *lines = head.split(b"\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        words = request.decode("latin-1").split(" ")
        address = urlsplit(words[1] if len(words) == 3 else "")
        key = headers.get(b"sec-websocket-key")
        status = (404 if address.path != "/ws" else 0) or (0 if key else 400) or self._server.refusal()
        if status or not key:
            self._refuse(status)
            return
        self._inbox = rest
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        self.room = self._server.enter(self, parse_qs(address.query).get("room", ["default"])[0])

    def _refuse(self, status: int) -> None:
        reason = REASONS.get(status, "Refused")
        self.transport.write(
            f"HTTP/1.1 {status} {reason}\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        self.transport.close()

    def _on_frame(self, room: _Room, first: int, payload: bytes) -> None:
        if first == 0x80 | TEXT:
            self.has_spoken = True
            self._server.say(self, room, payload)
        elif first == 0x80 | PING:
            self.write(frame(PONG, payload))
        elif first == 0x80 | PONG:
            self._server.ponged()
        elif first == 0x80 | CLOSE:
            self.write(frame(CLOSE, payload[:2]))
            self.transport.close()
        else:
            self.close(1003)  # fragments and binary messages are more than a harness sends


# Frames and texts


def frame(opcode: int, payload: bytes, is_last: bool = True) -> bytes:
    """Return a server's frame."""
    first, size = 0x80 * is_last | opcode, len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def fragments(payload: bytes, count: int) -> bytes:
    """Return a text message in so many frames of about the same length."""
    cuts = [len(payload) * number // count for number in range(count + 1)]
    return b"".join(
        frame(CONTINUATION if number else TEXT, payload[cuts[number] : cuts[number + 1]], number == count - 1)
        for number in range(count)
    )


def client_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Return the first byte, the unmasked payload and the length of the frame that `data` begins with, if complete.

    Raises ValueError if it is not masked.
    """
    if len(data) < 2:
        return None
    if not data[1] & 0x80:
        raise ValueError("a client has to mask its frames")
    size, start = data[1] & 0x7F, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start])
    key, payload = data[start : start + 4], data[start + 4 : start + 4 + size]
    if len(payload) < size or len(key) < 4:
        return None
    mask = (key * (size // 4 + 1))[:size]
    return data[0], (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size), start + 4 + size


def changed(text: re.Match[bytes], number: int) -> bytes:
    """Return the payload with one byte of the text altered, each time another one."""
    at = text.start() + number % len(text[0])
    return text.string[:at] + bytes((text.string[at] ^ 1,)) + text.string[at + 1 :]


def of_another_room(text: re.Match[bytes]) -> bytes:
    """Return the payload as if the message had been said in a room with another number."""
    run, room, rest, mark = text.groups()
    fields = run + b"%04x" % (int(room, 16) ^ 0x8000) + rest
    check = crc32(unhexlify(fields), mark == b"m")
    head = b"~%b%b~%08x" % (fields, mark, check)
    return text.string[: text.start()] + head + text.string[text.start() + len(head) :]


def edit_of(text: re.Match[bytes]) -> bytes:
    """Return the event by which the chat room tells that a message has another text, here the one it had."""
    return b'{"type":"edit","seq":1,"at":0,"by":{"id":"","name":""},"message":1,"text":"%b"}' % text[0]


# The command


def parse_arguments(argv: list[str]) -> tuple[Lies, argparse.Namespace]:
    """Read the command line, which has an option for every lie."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.falseserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 picks a free one and prints it")
    parser.add_argument("--certificate", type=Path, help="speak TLS with this file of certificate and key")
    for each in fields(Lies):
        option = f"--{each.name.replace('_', '-')}"
        parse = each.metadata.get("parse", type(each.default))
        help = f"{each.metadata['help']} (default: {each.default or 'none'})"
        parser.add_argument(option, type=parse, default=each.default, help=help, choices=each.metadata.get("choices"))
    found = parser.parse_args(argv)
    return Lies(**{each.name: getattr(found, each.name) for each in fields(Lies)}), found


async def run(server: FalseServer) -> None:
    """Serve until a signal or the server's own end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    await server.serve(lambda: print(server.url, flush=True))


def main(argv: list[str] | None = None) -> int:
    """Serve as the command line says, and print the report at the end."""
    lies, found = parse_arguments(sys.argv[1:] if argv is None else argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # its pauses would be stalls that nobody asked for
    try:
        server = FalseServer(lies, found.port, found.certificate)
        asyncio.run(run(server))
    except OSError as trouble:
        print(f"The false server cannot run: {trouble}", file=sys.stderr)
        return 1
    print(json.dumps(server.report()), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
