"""A crowd that talks, loses its server, and comes back: what a storm of reconnects is made of.

Each member comes back as a client should: when `bye` or `Retry-After` says, else after a random wait that doubles. What
a speaker said goes out again until it is acked, so that in the end the log has it once.
"""

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import quote

import psutil

from tests.crowd import Member, Refused
from tests.support import DEADLINE_S, ServerProcess

SPEAKERS = 12
SAY_EVERY_S = 0.25  # each of them
BACKOFF_S, BACKOFF_CAP_S = 1.0, 30.0  # as the page's own


class Guest(Member):
    """A member who keeps coming back, and says again what is not acked."""

    def __init__(self, port: int, room: str, name: str) -> None:
        super().__init__(port, room, name)
        self.unacked: dict[str, str] = {}
        self.byes_s: list[float] = []
        self.refusals: list[Refused] = []
        self.resumes: list[str] = []
        self.on_frame = self._note
        self._task = asyncio.create_task(self._stay())

    def tell(self, text: str, client_id: str) -> None:
        self.unacked[client_id] = text
        self.say(text, client_id)

    async def go(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self.vanish()
        if self.wire is not None:
            await self.wire.until_gone()

    def _note(self, frame: dict[str, object]) -> None:
        if frame["type"] == "ack":
            self.unacked.pop(str(frame["client_id"]), None)
        elif frame["type"] == "bye":
            self.byes_s.append(float(str(frame["retry_after"])))

    async def _stay(self) -> None:
        failures = 0
        while True:
            try:
                await self.enter()
                failures = 0
                self.resumes.append(self.welcome.get("resumed", ""))
                for client_id, text in list(self.unacked.items()):
                    self.say(text, client_id)
                assert self.wire is not None
                await self.wire.until_gone()
                wait_s = self.bye["retry_after"] if self.bye else random.random() * BACKOFF_S
            except Refused as refused:
                self.refusals.append(refused)
                wait_s = refused.retry_after_s + random.random()
            except OSError:
                failures += 1
                wait_s = random.random() * min(BACKOFF_CAP_S, BACKOFF_S * 2**failures)
            await asyncio.sleep(wait_s)


class Storm:
    """All of them, in some rooms, and the figures of one storm."""

    def __init__(self, server: ServerProcess, count: int, rooms: int) -> None:
        self.server = server
        self.rooms = [f"storm {number}" for number in range(rooms)]
        self.guests = [Guest(server.port, self.rooms[place % rooms], f"Guest {place}") for place in range(count)]
        self.most_rss_bytes = 0
        self.said = 0
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._weigh())]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await asyncio.gather(*(guest.go() for guest in self.guests))

    async def until_here(self, share: float = 1.0, deadline_s: float = DEADLINE_S) -> float:
        """Wait until this share of them are in; returns how many seconds it took."""
        return await self._until(lambda: self.count_here() >= share * len(self.guests), deadline_s)

    def count_here(self) -> int:
        return sum(guest.is_in for guest in self.guests)

    async def until_whole(self, deadline_s: float = DEADLINE_S) -> None:
        """Say no more, and wait until everything is acked and everybody has heard all there is."""
        self._tasks[0].cancel()
        await self._until(lambda: not any(guest.unacked for guest in self.guests[:SPEAKERS]), deadline_s)
        self.logs = {room: await asyncio.to_thread(stored, self.server, room) for room in self.rooms}
        heads = {room: len(log) for room, log in self.logs.items()}
        await self._until(lambda: all(guest.last_seq >= heads[guest.room] for guest in self.guests), deadline_s)

    async def _until(self, question: Callable[[], bool], deadline_s: float) -> float:
        began_s = time.monotonic()
        while not question():
            assert time.monotonic() < began_s + deadline_s, f"not within {deadline_s} s: {self.count_here()} are here"
            await asyncio.sleep(0.05)
        return time.monotonic() - began_s

    async def _talk(self) -> None:
        while True:
            for speaker in self.guests[:SPEAKERS]:
                await asyncio.sleep(SAY_EVERY_S / SPEAKERS)
                if speaker.welcome:
                    self.said += 1
                    speaker.tell(f"message {self.said}", f"storm-{self.said}")

    async def _weigh(self) -> None:
        while True:
            try:
                self.most_rss_bytes = max(self.most_rss_bytes, psutil.Process(self.server.pid).memory_info().rss)
            except (AssertionError, psutil.Error):
                pass  # between two processes
            await asyncio.sleep(0.2)


def stored(server: ServerProcess, room: str) -> list[dict[str, object]]:
    """All events of a room, as the log tells them."""
    events: list[dict[str, object]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        path = f"/api/rooms/{quote(room)}/messages?limit=200&after={after}"
        with urllib.request.urlopen(server.url + path, timeout=DEADLINE_S) as answer:
            page = json.load(answer)
        events += page["events"]
        if not page["more"]:
            return events
        time.sleep(0.21)  # asking is limited to five a second
