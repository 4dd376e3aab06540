"""People who talk while servers die: they come back, go on where they were, and check every word they are told.

Each says again, with the same `client_id`, what he has no ack for, and resumes with `(epoch, after)`. Invariant: the
first thing that is not as docs/protocol.md promises is the crowd's fault, and the test's end.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from loadtest.frames import masked
from tests.crowd import Refused, Wire
from tests.support import DEADLINE_S

IN_FLIGHT = 8  # says of one speaker
ACT_EVERY = 12  # says between two acts, unless he acted a moment ago: acts are limited to 5 a second
ACT_PAUSE_S = 0.25
COME_BACK_S = 0.01  # between two knocks at a closed door
NEWCOMER = "Has new user join room"


class Timeline:
    """What a client holds of a room: each event once, and what acts have made of it."""

    def __init__(self) -> None:
        self.events: dict[int, Any] = {}
        self.head = 0

    def take(self, event: Any) -> None:
        seq = event["seq"]
        assert seq == self.head + 1, f"{seq} came after {self.head}"
        self.head, self.events[seq] = seq, event
        match event["type"]:
            case "edit":
                self._edit(event)
            case "delete":
                self._remove(event["message"])
            case "reactions":
                for change in event["changes"]:
                    self._react(change)

    def _edit(self, event: Any) -> None:
        message = self.events[event["message"]]
        if message["type"] == "message":
            if message.get("edit", event["seq"]) != event["seq"]:
                self._blank(message["edit"])
            message.update(text=event["text"], edited=event["at"], edit=event["seq"])

    def _remove(self, seq: int) -> None:
        if "edit" in self.events[seq]:
            self._blank(self.events[seq]["edit"])
        self._blank(seq)

    def _blank(self, seq: int) -> None:
        if seq in self.events:
            self.events[seq] = {"type": "removed", "seq": seq, "at": self.events[seq]["at"]}

    def _react(self, change: Any) -> None:
        message = self.events[change["message"]]
        if message["type"] == "message":
            message.pop("reactions", None)
            if change["reactions"]:
                message["reactions"] = change["reactions"]


class Crowd:
    """Everybody, and what they have found out together."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.door = asyncio.Event()  # who is outside knocks while it is open
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.people: list[Talker | PlainTalker] = []
        self.is_talking = True
        self.on_ack: Callable[[], None] = lambda: None
        self.resumed = 0
        self._staying: list[asyncio.Task[None]] = []

    def enter(self, people: Iterable["Talker | PlainTalker"]) -> None:
        self.people = list(people)
        self._staying = [asyncio.ensure_future(self._stay(one)) for one in self.people]

    async def _stay(self, one: "Talker | PlainTalker") -> None:
        while True:
            await self.door.wait()
            try:
                await (await one.connect()).until_gone()
            except (OSError, Refused):  # nobody there, or he will be gone in a moment
                await asyncio.sleep(COME_BACK_S)

    def found(self, fault: BaseException) -> None:
        if not self.fault.done():
            self.fault.set_exception(fault)

    async def until(self, question: Callable[[], bool]) -> None:
        """Return when the answer is true; raises what anybody has found."""
        async with asyncio.timeout(3 * DEADLINE_S):
            while not question():
                await asyncio.wait([self.fault], timeout=0.005)
                if self.fault.done():
                    self.fault.result()

    async def leave(self) -> None:
        self.door.clear()
        for task in self._staying:
            task.cancel()
        await asyncio.gather(*self._staying, return_exceptions=True)
        wires = [one.wire for one in self.people if one.wire is not None]
        for wire in wires:
            wire.transport.abort()
            await wire.until_gone()
        self.fault.cancel()

    @property
    def speakers(self) -> list["Speaker"]:
        return [one for one in self.people if isinstance(one, Speaker)]

    @property
    def plain(self) -> list["PlainTalker"]:
        return [one for one in self.people if isinstance(one, PlainTalker)]

    def of(self, room: str) -> list["Talker"]:
        return [one for one in self.people if isinstance(one, Talker) and one.room == room]


class Caller:
    """Somebody with a socket, which comes and goes with the servers."""

    is_plain = False

    def __init__(self, crowd: Crowd, room: str, name: str) -> None:
        self.crowd, self.room, self.name = crowd, room, name
        self.wire: Wire | None = None
        self.cookie = ""
        self.is_deaf = False  # what comes is lost on its way, until he comes back

    @property
    def past(self) -> dict[str, Any]:
        return {}

    @property
    def is_gone(self) -> bool:
        return self.wire is None or self.wire.gone.done()

    async def connect(self) -> Wire:
        """Come in; raises OSError or Refused."""
        self.is_deaf = False
        self.begin()
        wire = self.wire = await Wire.to(self.crowd.port, self._on_text)
        query = urlencode({"room": self.room, "name": self.name, **self.past})
        headers = await wire.shake_hands(f"/ws?{query}", self.cookie, self.is_plain)
        self.cookie = self.cookie or headers["set-cookie"].split(";")[0]
        return wire

    def _on_text(self, text: bytes) -> None:
        if self.is_deaf:
            return
        try:
            self.hear(json.loads(text))
        except Exception as fault:
            fault.add_note(f"{self.name} in {self.room} heard {text!r:.500}")
            self.crowd.found(fault)

    def begin(self) -> None:
        """A new connection is made."""

    def hear(self, frame: Any) -> None:
        raise NotImplementedError

    def write(self, text: str) -> None:
        if self.wire is not None and not self.wire.transport.is_closing():
            self.wire.transport.write(masked(text.encode()))

    def send(self, **frame: Any) -> None:
        self.write(json.dumps(frame))


class Talker(Caller):
    """A member on `chatroom.v1` who listens."""

    def __init__(self, crowd: Crowd, room: str, name: str) -> None:
        super().__init__(crowd, room, name)
        self.timeline = Timeline()
        self.epoch = ""
        self.is_back = False  # welcomed, and told all he had missed

    @property
    def past(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "after": self.timeline.head} if self.epoch else {}

    def begin(self) -> None:
        self.is_back = False

    def hear(self, frame: Any) -> None:
        if "seq" in frame and "at" in frame:
            self.timeline.take(frame)
            self._note_back()
            return
        match frame["type"]:
            case "welcome":
                self._welcomed(frame)
            case "error":
                assert frame["code"] in ("rate_limited", "not_found", "too_late"), frame
            case "status":
                raise AssertionError("the log cannot store")

    def _welcomed(self, welcome: Any) -> None:
        if self.epoch:
            assert welcome["resumed"] == "whole", welcome
            self.crowd.resumed += 1
        else:
            assert welcome["head"] == 0, "everybody has to be there from the beginning"
        assert welcome["head"] >= self.timeline.head
        self.epoch, self._head = welcome["epoch"], welcome["head"]
        self.welcomed()
        self._note_back()

    def _note_back(self) -> None:
        self.is_back = self.timeline.head >= self._head

    def welcomed(self) -> None:
        """He may speak."""


class Speaker(Talker):
    """A member who says as fast as his acks come, and edits, deletes and reacts now and then."""

    def __init__(self, crowd: Crowd, room: str, name: str) -> None:
        super().__init__(crowd, room, name)
        self.dice = random.Random(name)
        self.said: list[str] = []  # every client_id, in order
        self.waiting: list[str] = []  # those without an ack, in order
        self.acked: dict[str, int] = {}
        self.edits: dict[str, int] = {}  # texts that were asked for, by the message they are for
        self.deletes: set[int] = set()
        self.done: dict[str, tuple[str, int]] = {}  # acts: what and the seq of its event
        self._acted_s, self._last_seq = 0.0, 0

    def welcomed(self) -> None:
        for client_id in self.waiting:
            self._say(client_id)
        self._say_more()

    def hear(self, frame: Any) -> None:
        if frame["type"] == "ack":
            self._hear_ack(frame["client_id"], frame["seq"])
        elif frame["type"] == "done":
            self.done[frame["ref"]] = frame["ref"].split("-")[0], frame.get("seq", 0)
        else:
            super().hear(frame)

    def _hear_ack(self, client_id: str, seq: int) -> None:
        assert client_id == self.waiting[0], f"the ack of {client_id} came before that of {self.waiting[0]}"
        assert seq > self._last_seq, f"{client_id} is not behind {self._last_seq}"
        self._last_seq = seq
        del self.waiting[0]
        self.acked[client_id] = seq
        self.crowd.on_ack()
        self._say_more()
        if len(self.acked) % ACT_EVERY == 0:
            self._act(seq)

    def _say_more(self) -> None:
        while self.crowd.is_talking and len(self.waiting) < IN_FLIGHT:
            client_id = f"{self.name}-{len(self.said)}"
            self.said.append(client_id)
            self.waiting.append(client_id)
            self._say(client_id)

    def _say(self, client_id: str) -> None:
        self.send(type="say", client_id=client_id, text=f"{client_id} {'x' * (len(self.said) * 37 % 400)}".strip())

    def _act(self, seq: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if not self.crowd.is_talking or now_s - self._acted_s < ACT_PAUSE_S:
            return
        self._acted_s = now_s
        client_id = self.dice.choice(list(self.acked)[-50:])
        act, message = self.dice.choice(("edit", "delete", "react")), self.acked[client_id]
        ref = f"{act}-{seq}"
        if act == "edit":
            text = f"{client_id} edited after {seq}"
            self.edits[text] = message
            self.send(type="edit", message=message, text=text, ref=ref)
        elif act == "delete":
            self.deletes.add(message)
            self.send(type="delete", message=message, ref=ref)
        else:
            self.send(type="react", message=message, kind="👍", on=self.dice.random() < 0.7, ref=ref)


class PlainTalker(Caller):
    """A member on the plain wire: no acks and no past; he says the next thing when he has heard himself."""

    is_plain = True

    def __init__(self, crowd: Crowd, room: str, name: str) -> None:
        super().__init__(crowd, room, name)
        self.runs: list[list[str]] = []  # what he heard, one connection after the other
        self._number = 0
        self.is_back = False

    def begin(self) -> None:
        self.runs.append([])
        self.is_back = False

    def hear(self, frame: Any) -> None:
        if frame == NEWCOMER:
            if not self.is_back:
                self.is_back = True
                self._say()
            return
        self.runs[-1].append(frame.split()[0])
        if frame.split()[0] == f"{self.name}-{self._number}":
            self._say()

    def _say(self) -> None:
        if self.crowd.is_talking:
            self._number += 1
            self.write(f"{self.name}-{self._number} in plain words")
