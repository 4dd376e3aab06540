"""People who talk on several servers at once, and go from one to the other: what those servers must keep together.

Each comes back to another server than the one he lost. Where storing may fail, what was `not_stored` is said again, and
where Redis may lose everything, people begin anew. Invariant: in the end every server tells the same history of each
room, everybody holds it, and everything that was said is in it once.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient

from tests.crowd import Wire
from tests.faults.talkers import Caller, Crowd, PlainTalker, Speaker, Talker, Timeline
from tests.faults.test_kill import Tally, have_heard, places_of
from tests.support import ServerProcess

ROOMS = ("one", "two")
SAY_AGAIN_S = 0.2
PAGE = 200
# Every history is asked for as a whole: what a server is started with.
UNLIMITED = "chatroom.ASKS_PER_S = chatroom.ASKS_BURST = 1e9"


class Roamer(Caller):
    """Somebody who comes in at one server, and at the next one when he has lost it."""

    crowd: "Several"
    place = 0  # of the server, among all

    async def connect(self) -> Wire:
        self.crowd.port = self.crowd.servers[self.place % len(self.crowd.servers)].port
        self.place += 1
        return await super().connect()  # which looks at the port before it waits for anything

    def move(self, place: int | None = None) -> None:
        """Drop the line, and be at the next server as fast as can be; or at that one."""
        if place is not None:
            self.place = place
        if self.wire is not None:
            self.wire.transport.abort()

    def is_at(self, server: ServerProcess) -> bool:
        """Whether it is this one that he has, or tries, to be at."""
        return self.crowd.servers[(self.place - 1) % len(self.crowd.servers)] is server


class Listener(Roamer, Talker):
    """A member on `chatroom.v1` who listens, and is told whether the log can store, and in which epoch."""

    is_storing = True
    troubles = 0  # how often nothing could be stored
    byes = resets = 0

    def begin(self) -> None:
        super().begin()
        self.is_storing = True

    def hear(self, frame: Any) -> None:
        match frame["type"]:
            case "status" if self.crowd.may_fail:
                self.troubles += self.is_storing and not frame["storing"]
                self.is_storing = frame["storing"]
                self.epoch = frame.get("epoch", self.epoch)
            case "error" if self.crowd.may_fail and frame["code"] == "not_stored":
                self.crowd.refused += 1
                if "client_id" in frame:
                    self.not_stored(frame["client_id"])
            case "bye":
                self.byes += 1
            case "welcome" if frame.get("resumed") == "reset":
                assert self.crowd.may_forget, frame
                self.resets += 1
                self.epoch = ""
                self.timeline = Timeline()
                self.forget()
                super().hear({**frame, "head": 0})
                self._head = frame["head"]
                self._note_back()
            case _:
                super().hear(frame)

    def not_stored(self, client_id: str) -> None:
        """He has to say it again."""

    def forget(self) -> None:
        """What he was told before is no more."""


class Talkative(Listener, Speaker):
    """A speaker who says again what could not be stored; the order of such is not promised."""

    def __init__(self, crowd: Crowd, room: str, name: str) -> None:
        super().__init__(crowd, room, name)
        self.refused: set[str] = set()  # whatever was, ever
        self.again: dict[str, None] = {}  # what of it has no ack yet
        self.forgotten: set[str] = set()  # what was acked before all was lost
        self.acting: set[str] = set()  # acts that were not answered

    @property
    def is_served(self) -> bool:
        return not self.waiting and not self.again and not self.acting

    def begin(self) -> None:
        super().begin()
        self.acting.clear()  # nobody will answer any more

    def send(self, **frame: Any) -> None:
        if "ref" in frame:
            self.acting.add(frame["ref"])
        super().send(**frame)

    def hear(self, frame: Any) -> None:
        super().hear(frame)
        if frame["type"] in ("done", "error"):
            self.acting.discard(frame.get("ref", ""))

    def not_stored(self, client_id: str) -> None:
        if client_id in self.acked:  # said twice since, and stored
            return
        self.refused.add(client_id)
        self.again[client_id] = None
        if client_id in self.waiting:
            self.waiting.remove(client_id)
        asyncio.get_running_loop().call_later(SAY_AGAIN_S, self._say_again, client_id)

    def _say_again(self, client_id: str) -> None:
        if client_id in self.again:
            self._say(client_id)

    def welcomed(self) -> None:
        for client_id in self.again:
            self._say(client_id)
        super().welcomed()

    def _hear_ack(self, client_id: str, seq: int) -> None:
        if client_id not in self.refused:
            super()._hear_ack(client_id, seq)
            return
        assert self.acked.setdefault(client_id, seq) == seq, f"{client_id} was {self.acked[client_id]}, is {seq}"
        self.again.pop(client_id, None)
        self.crowd.on_ack()
        self._say_more()

    def forget(self) -> None:
        """What had no ack may have been `not_stored` when he had lost his line already."""
        for known in (self.acked, self.edits, self.deletes, self.done):
            known.clear()
        self.again |= dict.fromkeys(self.waiting)
        self.refused |= self.again.keys()
        self.forgotten |= {*self.said} - self.again.keys()
        self.waiting.clear()
        self._last_seq = 0


class Plain(Roamer, PlainTalker):
    """A member on the plain wire."""


class Hopper(Talkative):
    """A speaker who drops his line as soon as he is welcomed or has all, and comes in at another server."""

    hops_left = 0

    def welcomed(self) -> None:
        super().welcomed()
        if self.dice.random() < 0.5:  # before he could hear anything
            self._hop()

    def _note_back(self) -> None:
        super()._note_back()
        if self.is_back and self.crowd.is_talking and self.dice.random() < 0.1:
            self._hop()

    def _hop(self) -> None:
        if self.hops_left and self.wire is not None and not self.wire.transport.is_closing():
            self.hops_left -= 1
            self.move()


class Several(Crowd):
    """The servers, and everybody who is on any of them."""

    def __init__(self, servers: Sequence[ServerProcess], may_fail: bool = False, may_forget: bool = False) -> None:
        """`may_fail`: at times nothing can be stored; `may_forget`: what was shown may be lost."""
        super().__init__(servers[0].port)
        self.servers = servers
        self.may_fail, self.may_forget = may_fail or may_forget, may_forget
        self.refused = 0  # what was answered `not_stored`
        self.dice = random.Random(len(servers))
        self.events: dict[str, list[Any]] = {}  # of each room, in the end
        self.is_talking = False

    async def begin(self, speaker: type[Talkative] = Talkative) -> None:
        """Everybody comes in, half of each kind at each server, and then they talk."""
        people: list[Talker | PlainTalker] = []
        for room in ROOMS:
            people += [speaker(self, room, f"{room}-speaker{number}") for number in range(2)]
            people += [Listener(self, room, f"{room}-listener{number}") for number in range(2)]
        people += [Plain(self, "one", f"plain{number}") for number in range(2)]
        for number, one in enumerate(people):
            assert isinstance(one, Roamer)
            one.place = number
        self.enter(people)
        self.door.set()
        await self.all_back()
        self.talk()

    def talk(self) -> None:
        self.is_talking = True
        for speaker in self.speakers:
            speaker._say_more()
        for plain in self.plain:
            plain._say()

    @property
    def listeners(self) -> list[Listener]:
        """All who are on `chatroom.v1`."""
        return [one for one in self.people if isinstance(one, Listener)]

    @property
    def talkative(self) -> list[Talkative]:
        return [one for one in self.people if isinstance(one, Talkative)]

    def at(self, server: ServerProcess) -> list[Listener]:
        return [one for one in self.listeners if one.is_at(server)]

    @property
    def acked(self) -> int:
        return sum(len(speaker.acked) for speaker in self.talkative)

    async def all_back(self) -> None:
        await self.until(lambda: all(one.is_back and not one.is_gone for one in self.people))

    async def talk_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        await self.until(lambda: time.monotonic() >= end_s)

    def hush(self) -> None:
        """Nothing new is said until they `talk` again."""
        self.is_talking = False

    async def talk_little(self, seconds: float) -> None:
        """Talk for a tenth of the time: on a fast machine who hears nothing would soon miss more than is told whole."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.hush()
            await self.talk_for(0.18)
            self.talk()
            await self.talk_for(0.02)

    async def talk_on(self, acks: int = 40) -> None:
        """Return once so much more was acked, and everybody has heard of it."""
        head = self.acked + acks
        await self.until(lambda: self.acked >= head)
        await self.all_back()

    async def lose_words(self) -> None:
        """The last acks and events do not reach everybody; he must lose his line before he hears again."""
        for one in self.people:
            one.is_deaf = self.dice.random() < 0.5
        await self.talk_for(self.dice.random() * 0.1)

    async def end(self) -> Tally:
        """Everybody falls silent; then every server tells the same, all hold it, and all was said once."""
        self.hush()
        await self.all_back()
        await self.until(lambda: all(speaker.is_served for speaker in self.talkative))
        while True:
            told = {room: [await history(server, room) for server in self.servers] for room in ROOMS}
            for room in ROOMS:
                await self.until(partial(have_heard, self.of(room), max(map(len, told[room]))))
            if all(len(events) == one.timeline.head for one in self.listeners for events in told[one.room]):
                break  # no act came late
        self.events = {room: each[0] for room, each in told.items()}
        for one in self.listeners:
            assert all(list(one.timeline.events.values()) == events for events in told[one.room]), one.name
        tally = self._tally()
        await self.leave()
        return tally

    def _tally(self) -> Tally:
        tally = Tally()
        for room in ROOMS:
            events = self.events[room]
            speakers = [one for one in self.talkative if one.room == room]
            places = places_of(events)
            tally.doubled += [said for said, seqs in places.items() if len(seqs) > 1]
            for speaker in speakers:
                self._add(tally, speaker, events)
            there = {said: seqs[0] for said, seqs in places.items()}
            once = there | {said: seq for speaker in speakers for said, seq in speaker.acked.items()}
            if not self.may_forget:
                for run in (run for one in self.plain if one.room == room for run in one.runs if run):
                    add_run(tally, run, there, once)
        return tally

    def _add(self, tally: Tally, speaker: Talkative, events: list[Any]) -> None:
        tally.lost += speaker.refused - speaker.forgotten - speaker.acked.keys()
        speaker.said = [said for said in speaker.said if said not in speaker.refused | speaker.forgotten]
        tally.add(speaker, events)


def add_run(tally: Tally, run: list[str], there: dict[str, int], once: dict[str, int]) -> None:
    """On the plain wire a stretch of the room's messages was heard, but for such as were deleted before."""
    heard = set(run)
    tally.heard_plain += len(run)
    tally.lost += [said for said in run if said not in once]
    seqs = [once[said] for said in run if said in once]
    if any(later <= earlier for earlier, later in pairwise(seqs)):
        tally.reordered.append(f"the plain wire from {run[0]} to {run[-1]}")
    tally.lost += [said for said, seq in there.items() if seqs[0] < seq < seqs[-1] and said not in heard]


async def history(server: ServerProcess, room: str) -> list[Any]:
    """All that a server tells of a room, from its first event on."""
    events: list[Any] = []
    while True:
        query = urlencode({"after": len(events), "limit": PAGE})
        answer = await AsyncHTTPClient().fetch(f"{server.url}/api/rooms/{room}/messages?{query}")
        page = json.loads(answer.body)
        events += page["events"]
        if not page["more"]:
            assert [event["seq"] for event in events] == list(range(1, page["head"] + 1))
            return events
