"""Three hundred people who come and go in sixty rooms, and do there whatever can be done.

Each of them is one task that lives many lives: comes, speaks and acts for a while, goes (with a word or without), and
comes back as the same person who resumes, as a known one elsewhere, or as somebody new. Beside them a warden who uses
the moderators' acts, readers of pages, two who talk so much that whoever does not read is cut off, and a probe.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlencode, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse

from loadtest.frames import BINARY, masked
from tests.crowd import Member, Refused
from tests.support import DEADLINE_S

PEOPLE, ROOMS, CLOSED_ROOMS = 300, 60, 2
PLAIN, CLOSED, NOISE, FLEETING = 0.1, 0.03, 0.04, 0.05  # of all lives
FLEETING_ROOMS = 200  # which are mostly empty: opened by whoever comes, and forgotten when he goes
LIFE_S = (20.0, 150.0)
PAUSE_S = 20.0  # between two deeds of one person, in the mean
PAGE_EVERY_S, WARDEN_EVERY_S, INVITE_EVERY_S, NOISE_EVERY_S, PROBE_EVERY_S = 1.0, 3.0, 15.0, 0.3, 0.5
NOISY = "noisy"
WINDOW_BYTES = 4096  # of who does not read
WORDS = (
    "of",
    "the",
    "tea",
    "would",
    "you",
    "before noon",
    "rain",
    "perhaps",
    "明天見",
    "🙂",
    "https://example.org/tea",
)
NAMES = ("Ann", "Bo", "Cy", "Di", "Ed")
BAD_FRAMES = (b"{", b"[]", b'{"type":"fly"}', b'{"type":"say"}', b'{"type":"history"}', b"\x00")
PAGES = (
    "/",
    "/rooms",
    "/moderation",
    "/healthz",
    "/metrics",
    "/nothing/here",
    "/qr.svg?room=tea",
    "/api/rooms/room%201/messages",
    "/api/rooms/room%202/messages?limit=200",
    "/api/rooms/nobody/messages",
)
GOING = (ConnectionError, OSError, TimeoutError, Refused)  # what may become of somebody on his way in


class Churn:
    """All of them; `done` counts what was done, `faults` has what should not have been."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.chance = random.Random(7)
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.latencies_ms: list[float] = []
        self._closed: list[str] = []
        self._invited: deque[tuple[str, str]] = deque(maxlen=40)  # closed rooms, and the cookies that open them
        self._owners: dict[str, str] = {}  # the cookie of whoever opened a room
        self._client = AsyncHTTPClient(max_clients=20)
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0

    async def begin(self) -> None:
        """Open the rooms and let everybody come, over the first half minute."""
        for number in range(ROOMS):
            await self._open_room(f"room {number}")
        for number in range(CLOSED_ROOMS):
            await self._open_closed_room(f"closed {number}")
        lives = [self._live(30 * place / PEOPLE) for place in range(PEOPLE)]
        others = [self._again(self._guard, WARDEN_EVERY_S), self._again(self._read_page, PAGE_EVERY_S)]
        others.append(self._again(self._invite, INVITE_EVERY_S))
        self._tasks = [asyncio.create_task(each) for each in [*lives, *others, self._talk_loudly(), self._probe()]]

    async def end_lives(self) -> None:
        """Have everybody leave."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                self.faults.append(f"a task ended: {outcome!r}")

    def end(self) -> None:
        """Ask nothing more."""
        self._client.close()

    # A life

    async def _live(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        member = self._somebody()
        while True:
            end_s = time.monotonic() + self.chance.uniform(*LIFE_S)
            is_deaf = member.room == NOISY and self.chance.random() < 0.5
            try:
                await member.enter(WINDOW_BYTES if is_deaf else 0)
                self.done["entered"] += 1
                await self._stay(member, end_s, is_deaf)
                await self._go(member)
            except GOING as error:
                self.done[f"not in: {getattr(error, 'status', type(error).__name__)}"] += 1
                await asyncio.sleep(1)
            finally:
                member.vanish()
            member = self._next_life(member)

    def _somebody(self) -> Member:
        self._number += 1
        member = Member(self.port, "", f"{self.chance.choice(NAMES)} {self._number % 97}")
        kind = self.chance.random()
        if kind < CLOSED:
            member.room, member.cookie = self.chance.choice(self._invited)
        else:
            member.room = NOISY if kind < CLOSED + NOISE else self._some_room()
            member.plain = self.chance.random() < PLAIN
        return member

    def _some_room(self) -> str:
        if self.chance.random() < FLEETING:
            return f"fleeting {self.chance.randrange(FLEETING_ROOMS)}"
        return f"room {self.chance.randrange(ROOMS)}"

    def _next_life(self, member: Member) -> Member:
        if member.out_of_order:
            self.faults.append(f"{member.out_of_order} events out of order in {member.room}")
        kind = self.chance.random()
        if kind < 0.4 and not member.out and not member.plain:
            self.done["resumed"] += 1
            return member
        newcomer = self._somebody()
        if kind < 0.7 and not newcomer.cookie:
            newcomer.cookie = member.cookie
        return newcomer

    async def _stay(self, member: Member, end_s: float, is_deaf: bool) -> None:
        assert member.wire is not None
        if is_deaf:
            self.done["deaf"] += 1
            member.wire.transport.pause_reading()
        while time.monotonic() < end_s and member.is_here:
            with contextlib.suppress(TimeoutError):
                pause_s = min(self.chance.expovariate(1 / PAUSE_S), max(end_s - time.monotonic(), 0))
                await asyncio.wait_for(asyncio.shield(member.wire.gone), pause_s)
            if is_deaf:  # it learns of its end by writing
                member.send(type="typing")
            else:
                self._do_something(member)

    async def _go(self, member: Member) -> None:
        assert member.wire is not None
        kind = self.chance.choice(("leave", "leave", "vanish", "reset"))
        self.done[kind] += 1
        if kind == "leave" and member.is_here and member.wire.transport.is_reading():
            await member.leave()
        elif kind == "reset" and member.is_here:
            member.wire.reset()

    def _do_something(self, member: Member) -> None:
        if member.plain:
            member.say(self._text(), "")
            return
        deed, do = self.chance.choices(*zip(*DEEDS, strict=True))[0]
        self.done[deed] += 1
        do(self, member)

    def _text(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 30)))

    def _say(self, member: Member) -> None:
        member.say(self._text(), f"c{self._number}-{time.monotonic_ns()}")

    def _of_mine(self, member: Member) -> int:
        return self.chance.choice(list(member.acks.values()) or [1])

    def _edit(self, member: Member) -> None:
        member.send(type="edit", message=self._of_mine(member), text=self._text())

    def _delete(self, member: Member) -> None:
        member.send(type="delete", message=self._of_mine(member))

    def _react(self, member: Member) -> None:
        message = max(1, member.last_seq - self.chance.randrange(10))
        member.send(type="react", message=message, kind=self.chance.choice("👍🎉👀"), on=self.chance.random() < 0.8)

    def _rename(self, member: Member) -> None:
        member.send(type="rename", name=f"Renamed {self.chance.randrange(10**6)}")

    def _ask(self, member: Member) -> None:
        member.send(type="history", before=max(1, member.last_seq), limit=self.chance.randint(1, 200))
        member.send(type="people", query="a")

    def _type(self, member: Member) -> None:
        member.send(type="typing")

    def _blunder(self, member: Member) -> None:
        for bad in self.chance.choices(BAD_FRAMES, k=self.chance.choice((1, 3, 25))):  # 25 close the socket
            member.write(masked(bad))
        if self.chance.random() < 0.3:
            member.write(masked(b"\xff\xfe", BINARY))
        elif self.chance.random() < 0.3:
            member.write(b"\x83\x00nonsense")

    # The others

    async def _again(self, do: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await do()
            except (*GOING, HTTPClientError) as error:
                self.done[f"failed: {type(error).__name__}"] += 1

    async def _open_room(self, room: str) -> None:
        owner, spoken = Member(self.port, room, "Owner"), asyncio.Event()
        owner.on_frame = lambda frame: spoken.set() if frame["type"] == "ack" else None
        await owner.enter()
        owner.say("hello", "hello")
        await spoken.wait()
        self._owners[room] = owner.cookie
        await owner.leave()

    async def _open_closed_room(self, name: str) -> None:
        cookie = await self._new_cookie()
        made = await self.fetch("/rooms", cookie, name=name)
        room = parse_qs(urlsplit(made.headers["Location"]).query)["room"][0]
        self._owners[room] = cookie
        self._closed.append(room)
        await self._invite()

    async def _new_cookie(self) -> str:
        return (await self.fetch("/rooms")).headers["Set-Cookie"].split(";")[0]

    async def fetch(self, path: str, cookie: str = "", **form: str) -> HTTPResponse:
        """GET, or POST a form; no answer is an error."""
        self.done["requests"] += 1
        return await self._client.fetch(
            f"http://127.0.0.1:{self.port}{path}",
            method="POST" if form else "GET",
            body=urlencode(form) if form else None,
            headers={"Cookie": cookie} if cookie else None,
            follow_redirects=False,
            raise_error=False,
        )

    async def _read_page(self) -> None:
        path = self.chance.choice(PAGES)
        answer = await self.fetch(path)
        if answer.code >= 500:
            self.faults.append(f"{path}: {answer.code}")
        if self.chance.random() < 0.1:
            await self.fetch("/door", room=self.chance.choice(self._closed), password="guess")

    async def _invite(self) -> None:
        """Let somebody new into a closed room."""
        room, paths = self.chance.choice(self._closed), asyncio.Queue[str]()
        owner = self._owner(room)
        owner.on_frame = lambda frame: paths.put_nowait(frame["path"]) if frame["type"] == "invite" else None
        try:
            await owner.enter()
            owner.send(type="invite", seconds=60, uses=1)
            path = await asyncio.wait_for(paths.get(), DEADLINE_S)
            await owner.leave()
        finally:
            owner.vanish()
        invite = parse_qs(urlsplit(path).query)["invite"][0]
        cookie = await self._new_cookie()
        await self.fetch("/door", cookie, room=room, invite=invite)
        self._invited.append((room, cookie))

    async def _guard(self) -> None:
        owner = self._owner(self.chance.choice(list(self._owners)))
        people: list[str] = []
        owner.on_frame = lambda frame: people.extend(
            one["id"] for one in frame.get("people", ()) if one["id"] != owner.id
        )
        try:
            await owner.enter()
            owner.send(type="people")
            await asyncio.sleep(0.3)
            for order in self._orders(people, owner.last_seq):
                owner.send(ref="order", **order)
            await asyncio.sleep(0.5)
            self.done["acts"] += 1
            await owner.leave()
        finally:
            owner.vanish()

    def _owner(self, room: str) -> Member:
        owner = Member(self.port, room, "Owner")
        owner.cookie = self._owners[room]
        return owner

    def _orders(self, people: list[str], head: int) -> list[dict[str, object]]:
        whom, seq = self.chance.choice(people or ["a" * 16]), max(1, head - self.chance.randrange(20))
        return self.chance.choice(
            (
                [{"type": "mute", "person": whom, "seconds": 20}],
                [{"type": "kick", "person": whom, "reason": "for the test"}],
                [{"type": "ban", "person": whom, "seconds": 30, "purge": True}],
                [{"type": "purge", "person": whom}],
                [{"type": "delete", "message": seq}],
                [{"type": "rules", "slow_s": 2}, {"type": "rules", "slow_s": 0}],
                [{"type": "rules", "announcement": self._text()[:400]}],
                [{"type": "rules", "keep_events": 300}],
                [{"type": "filter", "patterns": [{"pattern": "perhaps", "action": "hold"}]}, {"type": "held"}],
                [{"type": "filter", "patterns": []}],
                [{"type": "invite", "seconds": 60, "uses": 2}, {"type": "order"}, {"type": "acts"}],
                [{"type": "role", "person": whom, "role": "moderator"}, {"type": "role", "person": whom, "role": ""}],
                [{"type": "person", "person": whom}],
            )
        )

    async def _talk_loudly(self) -> None:
        """Long texts, so that the buffer of somebody who does not read is soon full."""
        talker = Member(self.port, NOISY, "Loud")
        try:
            while True:
                await asyncio.sleep(NOISE_EVERY_S)
                with contextlib.suppress(*GOING):
                    if not talker.is_here:
                        await talker.enter()
                    talker.say("loud " * 780, f"loud-{time.monotonic_ns()}")
                talker.events.clear()
                talker.acks.clear()
        finally:
            talker.vanish()

    async def _probe(self) -> None:
        """How long it takes from saying something to hearing it."""
        probe, sent_s = Member(self.port, "probe", "Probe"), 0.0

        def on_frame(frame: dict[str, object]) -> None:
            if frame["type"] == "message":
                self.latencies_ms.append((time.monotonic() - sent_s) * 1000)

        await probe.enter()
        probe.on_frame = on_frame
        try:
            while True:
                await asyncio.sleep(PROBE_EVERY_S)
                sent_s = time.monotonic()
                probe.say("still here?", f"probe-{time.monotonic_ns()}")
                probe.events.clear()
                probe.acks.clear()
        finally:
            probe.vanish()


DEEDS: list[tuple[tuple[str, Callable[[Churn, Member], None]], int]] = [
    (("say", Churn._say), 60),
    (("edit", Churn._edit), 8),
    (("delete", Churn._delete), 4),
    (("react", Churn._react), 8),
    (("rename", Churn._rename), 4),
    (("ask", Churn._ask), 6),
    (("typing", Churn._type), 6),
    (("blunder", Churn._blunder), 2),
]
