"""Whatever is said and done in a room, in whatever order, every screen shows the same as a model of it.

Hypothesis chooses who says, edits, deletes, reacts and moderates, who leaves and resumes, and when the server goes down
and comes back; after each run all members, a late joiner, `/api` and the file agree with the model.
"""

import asyncio
import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.websocket import websocket_connect

from chat.protocol import REACTIONS
from chatroom import ChatApplication, Settings, make_app
from tests.house import DEADLINE_S, Member, until
from tests.picture import Picture, Shown, picture_of

NAMES = ("Olga", "Ann", "Bob")  # Olga opens the room
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2), st.integers(0, 99)),
        st.tuples(st.just("edit"), st.integers(0, 2), st.integers(0, 99)),
        st.tuples(st.just("delete"), st.integers(0, 2), st.integers(0, 99)),
        st.tuples(st.just("react"), st.integers(0, 2), st.integers(0, 99)),
        st.tuples(st.just("purge"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("mute"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("role"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("rules"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("away"), st.integers(1, 2), st.just(0)),
        st.tuples(st.just("back"), st.integers(1, 2), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


class Model:
    """The room as it must be: the simplest thing that says so."""

    def __init__(self) -> None:
        self.said: dict[int, list[Any]] = {}  # seq -> [who, text, {kind: set of who}]
        self.roles = {0: "owner"}
        self.muted: set[int] = set()
        self.read_only = False

    def may_speak(self, who: int) -> bool:
        is_moderator = who in self.roles
        return who not in self.muted and (is_moderator or not self.read_only)

    def outranks(self, who: int, whom: int) -> bool:
        ranks = {"owner": 2, "moderator": 1}
        mine, other = ranks.get(self.roles.get(who, ""), 0), ranks.get(self.roles.get(whom, ""), 0)
        return mine > max(other, 0) and mine > 0

    def is_known(self, whom: int, is_here: bool) -> bool:
        """Whether anything in the room tells who this is: an act on a stranger is refused."""
        has_reacted = any(whom in people for said in self.said.values() for people in said[2].values())
        return is_here or whom in self.roles or has_reacted or any(said[0] == whom for said in self.said.values())

    def shown(self, ids: list[str]) -> dict[int, Shown]:
        return {
            seq: (ids[who], text, tuple((kind, len(reactions[kind])) for kind in REACTIONS if reactions.get(kind)))
            for seq, (who, text, reactions) in self.said.items()
        }


class World:
    """A server on one database, which may be restarted, and its members."""

    def __init__(self, folder: str) -> None:
        self.database = str(Path(folder) / "chatroom.db")
        self.model = Model()
        self.cookies: list[str | None] = [None] * len(NAMES)
        self.members: list[Member | None] = [None] * len(NAMES)
        self.pictures = [Picture() for _ in NAMES]
        self.number = 0

    async def start(self) -> None:
        self.app: ChatApplication = make_app(Settings(database=self.database, message_rate=0.0, history=1000))
        listener, self.port = bind_unused_port()
        self.server = HTTPServer(self.app)
        self.server.add_socket(listener)

    async def stop(self) -> None:
        for who, member in enumerate(self.members):
            if member is not None:
                await self.away(who)
        self.server.stop()
        await until(lambda: not self.app.socket_class.sockets)
        await self.app.event_log.close()

    async def comes(self, who: int) -> None:
        past = self.pictures[who]
        query = f"&epoch={past.epoch}&after={past.head}" if past.epoch else ""
        self.members[who] = member = await self.join(NAMES[who], self.cookies[who], query)
        self.cookies[who] = self.cookies[who] or member.cookie
        past.hear(member.welcome)
        await self.reaches(who, past.target)

    async def join(self, name: str, cookie: str | None, query: str = "") -> Member:
        member = Member()
        request = HTTPRequest(
            f"ws://127.0.0.1:{self.port}/ws?name={name}{query}", headers={"Cookie": cookie} if cookie else {}
        )
        member.socket = await websocket_connect(
            request, on_message_callback=member.frames.put_nowait, subprotocols=["chatroom.v1"]
        )
        member.welcome = await member.next()
        return member

    async def away(self, who: int) -> None:
        member = self.members[who]
        if member is not None:
            member.vanish()
            self.members[who] = None

    async def reaches(self, who: int, seq: int) -> None:
        while self.pictures[who].head < seq:
            await self.next(who)

    async def next(self, who: int) -> Any:
        member = self.members[who]
        assert member is not None
        frame = await member.next()
        self.pictures[who].hear(frame)
        return frame

    async def asks(self, who: int, **frame: Any) -> Any:
        """The answer to a frame: `ack`, `done` or `error`."""
        self.number += 1
        name = {"client_id": f"c{self.number}"} if frame["type"] == "say" else {"ref": self.number}
        member = self.members[who]
        assert member is not None
        member.send(**frame, **name)
        while True:
            answer = await self.next(who)
            if name.items() <= answer.items():
                return answer

    def is_known(self, whom: int, answer: Any) -> bool:
        """Who is away, and of whom nothing is left that names him, may be refused as a stranger."""
        return self.model.is_known(whom, self.members[whom] is not None) or answer.get("code") != "not_found"

    def id(self, who: int) -> str:
        return str(self.pictures[who].me["id"])

    # One step each: done on the server, and on the model if it must be allowed

    async def say(self, who: int, number: int) -> None:
        text = f"text {number} of {who}"
        answer = await self.asks(who, type="say", text=text)
        assert (answer["type"] == "ack") == self.model.may_speak(who), answer
        if answer["type"] == "ack":
            self.model.said[answer["seq"]] = [who, text, {}]

    def pick(self, number: int) -> int:
        seqs = sorted(self.model.said)
        return seqs[number % len(seqs)] if seqs else 1

    async def edit(self, who: int, number: int) -> None:
        seq, text = self.pick(number), f"edited {number} by {who}"
        answer = await self.asks(who, type="edit", message=seq, text=text)
        may = seq in self.model.said and self.model.said[seq][0] == who and self.model.may_speak(who)
        assert (answer["type"] == "done") == may, answer
        if may:
            self.model.said[seq][1] = text

    async def delete(self, who: int, number: int) -> None:
        seq = self.pick(number)
        answer = await self.asks(who, type="delete", message=seq)
        may = seq in self.model.said and (self.model.said[seq][0] == who or who in self.model.roles)
        assert (answer["type"] == "done") == may, answer
        if may:
            del self.model.said[seq]

    async def react(self, who: int, number: int) -> None:
        seq, kind, on = self.pick(number), REACTIONS[number % 3], number % 4 > 0
        answer = await self.asks(who, type="react", message=seq, kind=kind, on=on)
        may = seq in self.model.said and who not in self.model.muted
        assert (answer["type"] == "done") == may, answer
        if may:
            people = self.model.said[seq][2].setdefault(kind, set())
            (people.add if on else people.discard)(who)

    async def purge(self, who: int, whom: int) -> None:
        answer = await self.asks(who, type="purge", person=self.id(whom))
        may = (self.model.outranks(who, whom) or who == whom) and self.is_known(whom, answer)
        assert (answer["type"] == "done") == may, answer
        if may:
            self.model.said = {seq: said for seq, said in self.model.said.items() if said[0] != whom}
            for said in self.model.said.values():
                for people in said[2].values():
                    people.discard(whom)

    async def mute(self, who: int, whom: int) -> None:
        seconds = 0 if whom in self.model.muted else 3600
        answer = await self.asks(who, type="mute", person=self.id(whom), seconds=seconds)
        may = self.model.outranks(who, whom) and self.is_known(whom, answer)
        assert (answer["type"] == "done") == may, answer
        if may:
            (self.model.muted.add if seconds else self.model.muted.discard)(whom)

    async def role(self, who: int, whom: int) -> None:
        if whom == 0:
            return  # the last owner stays
        role = "" if whom in self.model.roles else "moderator"
        answer = await self.asks(who, type="role", person=self.id(whom), role=role)
        may = (who == 0 and self.is_known(whom, answer)) or (who == whom and role == "" and who in self.model.roles)
        assert (answer["type"] == "done") == may, answer
        if may:
            if role:  # a mute ends when its bearer rises: who made it may no longer be above him
                self.model.muted.discard(whom)
            self.model.roles = (
                {**self.model.roles, whom: role}
                if role
                else {each: of for each, of in self.model.roles.items() if each != whom}
            )

    async def rules(self, who: int, number: int) -> None:
        answer = await self.asks(who, type="rules", read_only=bool(number))
        may = who in self.model.roles
        assert (answer["type"] == "done") == may, answer
        if may:
            self.model.read_only = bool(number)

    async def step(self, what: str, who: int, number: int) -> None:
        if what == "restart":
            await self.stop()
            await self.start()
            await self.comes(0)
        elif what == "away":
            await self.away(who)
        elif what == "back":
            if self.members[who] is None:
                await self.comes(who)
        elif self.members[who] is not None:
            await getattr(self, what)(who, number)

    # What must be so in the end

    async def check(self) -> None:
        for who in range(len(NAMES)):
            if self.members[who] is None:
                await self.comes(who)
        await self.app.event_log.settled()
        room = self.app.socket_class.rooms["default"]
        await room.said()
        expected = self.model.shown([self.id(who) for who in range(len(NAMES))])
        for who in range(len(NAMES)):
            await self.reaches(who, room.shown_seq)
            assert self.pictures[who].shown == expected, NAMES[who]
        late = Picture()
        member = await self.join("Late", None)
        late.hear(member.welcome)
        while late.head < late.target:
            late.hear(await member.next())
        member.vanish()
        assert late.shown == expected, "late"
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{self.port}/api/rooms/default/messages?limit=200")
        assert picture_of(json.loads(answer.body)["events"]) == expected, "api"
        with sqlite3.connect(self.database) as db:
            bodies = [json.loads(body) for (body,) in db.execute("SELECT body FROM events ORDER BY seq")]
        db.close()
        assert [body["seq"] for body in bodies] == list(range(1, room.shown_seq + 1))
        assert picture_of(bodies) == expected, "file"


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_every_screen_shows_what_the_model_says(steps: list[tuple[str, int, int]]) -> None:
    """Over edits, deletes, reactions, purges, mutes, roles and rules; over restarts and resumes."""
    asyncio.run(asyncio.wait_for(_live(steps), 3 * DEADLINE_S))


async def _live(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder)
        await world.start()
        try:
            for who in range(len(NAMES)):
                await world.comes(who)
            for what, who, number in steps:
                await world.step(what, who, number)
            await world.check()
        finally:
            await world.stop()
