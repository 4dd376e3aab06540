"""Members by other people's WebSocket clients, and a room in which all of them talk."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page

from tests.house import NEWCOMER
from tests.support import DEADLINE_S, ServerProcess

PIPE = Path(__file__).parent / "conformance" / "pipe.py"
ROOM = "everybody"
WIRES = {"chatroom.v1": ["chatroom.v1"], "plain": []}
TEXTS = ("{}: hello", "{}: ä € 🚀 \u202eabc", "{}: " + "🚀" * 3900)  # short and long ones, as frames have lengths


class Wire(Protocol):
    """What carries texts there and back."""

    def send(self, text: str) -> None: ...
    def next(self) -> str: ...
    def close(self) -> int: ...


class Piped:
    """A client in a process of its own, as tests/conformance/pipe.py says."""

    def __init__(self, command: list[str], url: str, subprotocols: list[str]) -> None:
        self._process = subprocess.Popen(
            [*command, url, *subprotocols], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[Any] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        assert self._line() == "ready"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _line(self) -> Any:
        return self._lines.get(timeout=DEADLINE_S)

    def send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()

    def next(self) -> str:
        text = self._line()
        assert isinstance(text, str), text
        return text

    def close(self) -> int:
        """Close as one should; returns the code that came back."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while not isinstance(code := self._line(), int):
            assert code is not None
        self.end()
        return code

    def end(self) -> None:
        """End the process, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class InPage:
    """A client in a browser: what `new WebSocket` makes."""

    def __init__(self, page: Page, url: str, subprotocols: list[str]) -> None:
        self._socket = page.evaluate_handle(
            """async ([url, subprotocols]) => {
                const socket = new WebSocket(url, subprotocols);
                const texts = [], waiting = [];
                const pass = (text) => (waiting.length ? waiting.shift()(text) : texts.push(text));
                socket.onmessage = ({ data }) => pass(data);
                const closed = new Promise((done) => { socket.onclose = ({ code }) => done(code); });
                await new Promise((done, fail) => { socket.onopen = done; socket.onerror = fail; });
                const later = () => new Promise((done) => waiting.push(done));
                return { socket, closed, next: () => (texts.length ? texts.shift() : later()) };
            }""",
            [url, subprotocols],
        )

    def send(self, text: str) -> None:
        self._socket.evaluate("({ socket }, text) => socket.send(text)", text)

    def next(self) -> str:
        text: str = self._socket.evaluate("({ next }) => next()")
        return text

    def close(self) -> int:
        """Close as one should; returns the code that came back."""
        code: int = self._socket.evaluate("({ socket, closed }) => { socket.close(1000); return closed; }")
        return code


Connect = Callable[[str, list[str]], Wire]


def piped(*command: str) -> Connect:
    """How a member by a program connects."""
    return lambda url, subprotocols: Piped(list(command), url, subprotocols)


def by_python(library: str, python: str = sys.executable) -> Connect:
    """How a member by a Python library connects."""
    return piped(python, str(PIPE), library)


@contextmanager
def by_browser(browser: Browser, server: ServerProcess) -> Iterator[Connect]:
    """How a member in a browser's page connects."""
    page = browser.new_page()
    page.goto(f"{server.url}/healthz")  # the plainest answer: no script of ours
    try:
        yield lambda url, subprotocols: InPage(page, url, subprotocols)
    finally:
        page.close()


class Voice:
    """A member by some client on some wire."""

    def __init__(self, name: str, wire: str, socket: Wire) -> None:
        self.name, self.is_plain, self.socket = f"{name} on {wire}", wire == "plain", socket
        self.heard: list[str] = []
        self.seqs: list[int] = []

    def say(self, number: int) -> None:
        text = TEXTS[number].format(self.name)
        say = {"type": "say", "client_id": f"c{number}", "text": text}
        self.socket.send(text if self.is_plain else json.dumps(say, ensure_ascii=bool(number % 2)))

    def hear(self, count: int) -> None:
        """Take in what is said, until so much was."""
        while len(self.heard) < count:
            frame = json.loads(self.socket.next())
            if self.is_plain:
                self.heard += [frame] if frame != NEWCOMER else []
            elif frame["type"] == "message":
                self.heard.append(frame["text"])
                self.seqs.append(frame["seq"])
            else:
                assert frame["type"] != "error", frame


def talk_in_one_room(server: ServerProcess, clients: dict[str, Connect]) -> None:
    """Everybody on both wires says all texts and hears what all said, in one order; then each goes as he should."""
    url = f"{server.url.replace('http', 'ws')}/ws?{urlencode({'room': ROOM})}"
    with ExitStack() as ending:
        voices = []
        for name, connect in clients.items():
            for wire, subprotocols in WIRES.items():
                socket = connect(f"{url}&name={name}", subprotocols)
                if isinstance(socket, Piped):
                    ending.callback(socket.end)
                voices.append(Voice(name, wire, socket))
        for number in range(len(TEXTS)):
            for voice in voices:
                voice.say(number)
            for voice in voices:
                voice.hear(len(voices) * (number + 1))
        said = [text.format(voice.name) for text in TEXTS for voice in voices]
        for voice in voices:
            assert voice.heard == voices[0].heard, voice.name
            assert sorted(voice.heard) == sorted(said)
            assert voice.is_plain or voice.seqs == list(range(1, len(said) + 1))
        codes = {voice.name: voice.socket.close() for voice in voices}
        assert set(codes.values()) == {1000}, codes
