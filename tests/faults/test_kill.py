"""kill -9 at any moment, under load: nothing that was acked or seen is lost, doubled or at another place.

A real server on one port and one database is killed again and again while people talk in two rooms; it is killed, too,
while it starts and while it drains. What a kill leaves is looked at before anybody is let in again.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from bisect import bisect_left
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient

from tests.faults import report, times
from tests.faults.talkers import Crowd, PlainTalker, Speaker, Talker
from tests.support import ServerProcess

KILLS = times("KILLS", 3)
ROOMS = ("one", "two")
WAYS = ("after an ack", "while draining", "while starting", "under load", "as they come back")
MOST_LOAD_S = 0.8
MOST_DEAF_S = 0.1
PAGE = 200


class Killing:
    """A server, the crowd that uses it, and what its API said after each kill."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server = server
        self.dice = random.Random(seed)
        self.crowd = Crowd(server.port)
        self.looked: dict[str, list[Any]] = {room: [] for room in ROOMS}
        self.ways: Counter[str] = Counter()
        self.unheard = 0  # says that were stored, and whose acks were lost

    async def go_on(self, kills: int) -> None:
        self.crowd.enter(self._people())
        self.crowd.door.set()
        await self._all_back()
        while (number := self.ways.total()) < kills:
            way = WAYS[number % len(WAYS)]
            await self._kill(way)
            self.ways[way] += 1
            await self._start()
            await self._look()
            self.crowd.door.set()
            if WAYS[self.ways.total() % len(WAYS)] != "as they come back":
                await self._all_back()
        await self._end()

    def _people(self) -> list[Talker | PlainTalker]:
        people: list[Talker | PlainTalker] = [PlainTalker(self.crowd, "one", "plain")]
        for room in ROOMS:
            people += [Speaker(self.crowd, room, f"{room}-speaker{number}") for number in range(2)]
            people += [Talker(self.crowd, room, f"{room}-listener{number}") for number in range(2)]
        return people

    async def _all_back(self) -> None:
        await self.crowd.until(lambda: all(one.is_back for one in self.crowd.people))

    # Killing

    async def _kill(self, way: str) -> None:
        if way == "as they come back":
            await self.crowd.until(lambda: any(one.is_back for one in self.crowd.people))
        elif way == "after an ack":
            await self._after_acks(self.dice.randrange(1, 300))
        else:
            await self._talk_for(self.dice.random() * MOST_LOAD_S)
            await self._lose_words()
        if way == "while draining":
            self.server.signal(signal.SIGTERM)
            await self._talk_for(self.dice.random() * 0.2)
        self.crowd.door.clear()
        self.server.signal(signal.SIGKILL)
        await self._gone()
        if way == "while starting":
            await self._kill_while_starting()

    async def _talk_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        await self.crowd.until(lambda: time.monotonic() >= end_s)

    async def _lose_words(self) -> None:
        """The last acks and events do not reach everybody: what was stored is said again."""
        for one in self.crowd.people:
            one.is_deaf = self.dice.random() < 0.5
        await self._talk_for(self.dice.random() * MOST_DEAF_S)

    async def _after_acks(self, count: int) -> None:
        """Kill in the very turn of the loop in which the ack is read."""
        left = [count]

        def on_ack() -> None:
            left[0] -= 1
            if left[0] == 0:
                self.server.signal(signal.SIGKILL)

        self.crowd.on_ack = on_ack
        await self.crowd.until(lambda: left[0] <= 0)
        self.crowd.on_ack = lambda: None

    async def _kill_while_starting(self) -> None:
        """Kill from the moment on at which it has the database open: it reads the WAL, or begins its epoch."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.server.start))
        await self.crowd.until(lambda: starting.done() or has_open(self.server, str(self.server.database)))
        await asyncio.sleep(self.dice.random() * 0.03)
        self.server.signal(signal.SIGKILL)
        with contextlib.suppress(AssertionError):  # it did not come as far as its greeting
            await starting
        await self._gone()

    async def _gone(self) -> None:
        await asyncio.to_thread(self.server.ended)
        await self.crowd.until(lambda: all(one.is_gone for one in self.crowd.people))

    async def _start(self) -> None:
        await asyncio.to_thread(self.server.start)

    # Looking

    async def _history(self, room: str, after: int) -> list[Any]:
        """The room's events, by the API."""
        events: list[Any] = []
        while True:
            query = urlencode({"after": after + len(events), "limit": PAGE})
            answer = await AsyncHTTPClient().fetch(f"{self.server.url}/api/rooms/{room}/messages?{query}")
            page = json.loads(answer.body)
            events += page["events"]
            if not page["more"]:
                assert [event["seq"] for event in events] == list(range(after + 1, page["head"] + 1))
                return events

    async def _look(self) -> None:
        """What was acked or heard before the kill is there, each under its seq; nobody is let in before."""
        for room in ROOMS:
            looked = self.looked[room]
            known = len(looked)
            looked += await self._history(room, known)
            for talker in self.crowd.of(room):
                assert talker.timeline.head <= len(looked), f"{talker.name} had heard {talker.timeline.head}"
                for seq in range(known + 1, talker.timeline.head + 1):
                    check_same(talker.timeline.events[seq], looked[seq - 1])
                if isinstance(talker, Speaker):
                    check_acks(talker, looked, known)
                    self.unheard += len(places_of(looked[known:]).keys() & set(talker.waiting))

    async def _end(self) -> None:
        """Everybody falls silent; then all hold the same, and it is what the API says."""
        self.crowd.is_talking = False
        await self.crowd.until(lambda: not any(speaker.waiting for speaker in self.crowd.speakers))
        for room in ROOMS:
            self.looked[room] = await self._all_heard(room)
            for talker in self.crowd.of(room):
                assert list(talker.timeline.events.values()) == self.looked[room], talker.name
        await self.crowd.leave()

    async def _all_heard(self, room: str) -> list[Any]:
        talkers = self.crowd.of(room)
        while True:
            events = await self._history(room, 0)
            head = len(events)
            await self.crowd.until(partial(have_heard, talkers, head))
            if all(one.timeline.head == head for one in talkers):
                return events

    # Counting

    def tally(self) -> "Tally":
        tally = Tally()
        for room in ROOMS:
            events, speakers = self.looked[room], [one for one in self.crowd.speakers if one.room == room]
            places = places_of(events)
            tally.doubled += [said for said, seqs in places.items() if len(seqs) > 1]
            for speaker in speakers:
                tally.add(speaker, events)
                places |= {client_id: [seq] for client_id, seq in speaker.acked.items()}
            for plain in (one for one in self.crowd.plain if one.room == room):
                tally.add_runs(plain.runs, places)
        return tally


class Tally:
    """What became of everything that was said."""

    def __init__(self) -> None:
        self.acked = self.acts = self.heard_plain = 0
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.reordered: list[str] = []

    def add(self, speaker: Speaker, events: list[Any]) -> None:
        self.acked += len(speaker.acked)
        self.lost += [said for said in speaker.said if said not in speaker.acked]
        self.lost += [said for said, seq in speaker.acked.items() if not is_there(speaker, said, events[seq - 1])]
        seqs = [speaker.acked[said] for said in speaker.said if said in speaker.acked]
        self.reordered += [f"{speaker.name} at {late}" for late, next in pairwise(seqs) if late >= next]
        for ref, (act, seq) in speaker.done.items():
            self.acts += 1
            if seq and events[seq - 1]["type"] not in (EVENT_OF[act], "removed"):
                self.lost.append(ref)

    def add_runs(self, runs: list[list[str]], places: dict[str, list[int]]) -> None:
        """On the plain wire each connection heard a stretch of the room's messages, without a hole."""
        messages = sorted(seq for seqs in places.values() for seq in seqs)
        for run in filter(None, runs):
            self.heard_plain += len(run)
            self.lost += [said for said in run if said not in places]
            seqs = [places[said][0] for said in run if said in places]
            first = bisect_left(messages, seqs[0])
            if seqs != messages[first : first + len(seqs)]:
                self.reordered.append(f"the plain wire from {run[0]} to {run[-1]}")


EVENT_OF = {"edit": "edit", "delete": "delete", "react": "reactions"}


def check_same(heard: Any, stored: Any) -> None:
    """What was heard is stored there, unless an act that was not heard any more has changed it."""
    assert heard["seq"] == stored["seq"] and heard["at"] == stored["at"]
    if stored["type"] != "removed" and "edited" not in stored:
        assert (heard["type"], heard.get("text")) == (stored["type"], stored.get("text"))


def check_acks(speaker: Speaker, events: list[Any], known: int) -> None:
    for said, seq in reversed(speaker.acked.items()):
        if seq <= known:
            break
        assert seq <= len(events), f"{said} was acked as {seq} and is lost"
        assert is_there(speaker, said, events[seq - 1]), (said, events[seq - 1])


def is_there(speaker: Speaker, said: str, event: Any) -> bool:
    """Whether an event is a message of this speaker, as he said it or as he has changed it."""
    if event["type"] == "removed":
        return event["seq"] in speaker.deletes
    is_his = event["type"] == "message" and event["text"].split()[0] == said
    return is_his and ("edited" not in event or speaker.edits.get(event["text"]) == event["seq"])


def places_of(events: list[Any]) -> dict[str, list[int]]:
    """Where each message stands, by its first word."""
    places: dict[str, list[int]] = {}
    for event in events:
        if event["type"] == "message":
            places.setdefault(event["text"].split()[0], []).append(event["seq"])
    return places


def have_heard(talkers: list[Talker], head: int) -> bool:
    return all(one.is_back and one.timeline.head >= head for one in talkers)


def has_open(server: ServerProcess, path: str) -> bool:
    """Whether a process that is being started has a file open."""
    with contextlib.suppress(AssertionError, OSError):
        files = Path(f"/proc/{server.pid}/fd")
        return any(os.readlink(file) == path for file in files.iterdir())
    return False


def test_nothing_is_lost_by_kill_9_under_load(tmp_path: Path) -> None:
    """Whatever was acked or heard is there, once, in order; whoever comes back is told all that he missed."""
    unlimited = "chatroom.ASKS_PER_S = chatroom.ASKS_BURST = 1e9"  # the whole history is asked for again and again
    began_s = time.monotonic()
    with ServerProcess(tmp_path / "chatroom.db", before=unlimited, message_rate=0, history=0) as server:

        async def kill() -> Killing:
            killing = Killing(server, KILLS)
            await killing.go_on(KILLS)
            return killing

        killing = asyncio.run(kill())
        assert server.terminate() == 0
        assert [line for line in server.log if " ERROR " in line or "Traceback" in line] == []
    tally = killing.tally()
    ways = ", ".join(f"{count} {way}" for way, count in killing.ways.items())
    report(
        f"kill -9: {killing.ways.total()} tried ({ways}) in {time.monotonic() - began_s:.0f} s: "
        f"{tally.acked} messages acked ({killing.unheard} stored before and said again), {tally.acts} acts done, "
        f"{tally.heard_plain} heard on the plain wire, {killing.crowd.resumed} resumes, all whole: "
        f"{len(tally.lost)} lost, {len(tally.doubled)} doubled, {len(tally.reordered)} reordered"
    )
    assert not tally.lost + tally.doubled + tally.reordered, vars(tally)
