"""A raid played out: an owner, a full room, raiders who flood it from one address, and what the owner does about it.

Owns the order of what happens, and what was seen of it; whether that was as promised is judged elsewhere. The room has
a past: its members spoke in it ten minutes before, so that they are no newcomers, and somebody said very much.
"""

import http.client
import itertools
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from loadtest.hall import Answer, Hall, Person, Stuck
from loadtest.handshake import Refused

ROOM: Final = "square"
OWNER, MEMBERS, RAIDERS, OTHERS = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
WORD: Final = "pills"
PHASES: Final = ("calm", "flood", "the button", "bans", "the purge")
RAID_S: Final = 600
ADDRESS_BAN_S: Final = 3600
AFTERMATH_S: Final = 1.0  # the flood goes on for so long after the button
ACKS_S: Final = 60.0
ERASED_S: Final = 30.0
RESUMED_EVENTS: Final = 9_000  # a resume from further back than 10,000 is a gap


@dataclass(frozen=True)
class Script:
    """How large everything is."""

    members: int
    raiders: int
    banned: int  # one by one; the others go with the ban of their address
    flood_per_s: float
    flood_s: float
    talk_per_s: float
    said: int  # by one person, long ago


@dataclass
class Past:
    """What is left of yesterday: the cookies of those who were there, and the id of who said so much."""

    owner: str
    members: list[str]
    talker: str


@dataclass
class Act:
    """Something that the owner did."""

    name: str
    sent_ns: int
    done_ns: int
    seq: int


@dataclass
class Talk:
    """People who say something at a steady rate, each in his turn; who is gone is passed over."""

    hall: Hall
    people: list[Person]
    per_s: float
    words: Callable[[int], str]  # by the number of the turn
    turns: float = math.inf
    turn: int = 0
    said: list[tuple[Person, str, str]] = field(default_factory=list)  # who, client_id, text
    begun_s: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Let those speak whose turn it is by now."""
        while self.turn < min((time.monotonic() - self.begun_s) * self.per_s, self.turns):
            person = self.people[self.turn % len(self.people)]
            client_id, text = f"turn-{self.turn}", self.words(self.turn)
            self.turn += 1
            if person.socket is not None:
                self.hall.tell(person, type="say", client_id=client_id, text=text)
                self.said.append((person, client_id, text))

    def answers(self) -> list[tuple[str, Answer]]:
        """Return each text and what the server said to it, which may be nothing."""
        return [(text, person.answers.get(client_id, {})) for person, client_id, text in self.said]

    @property
    def is_answered(self) -> bool:
        """Whether the server has answered all."""
        return all(answer for _, answer in self.answers())


@dataclass
class Outcome:
    """What was seen of it."""

    script: Script
    members: list[Person]
    acts: list[Act] = field(default_factory=list)
    ordinary: list[tuple[str, Answer]] = field(default_factory=list)
    raided: list[tuple[str, Answer]] = field(default_factory=list)
    raiders: set[str] = field(default_factory=set)
    purged: set[int] = field(default_factory=set)  # the numbers in the marks of what was purged
    put_out: list[tuple[Act, Person]] = field(default_factory=list)
    quiet: list[tuple[int, int]] = field(default_factory=list)  # of each member: his chunks before and after the purge
    came_back: list[str] = field(default_factory=list)  # who should not have
    newcomer_heard: str = ""  # what a newcomer is told who says something
    late: list[Person] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    erased_s: float = math.inf
    held_ns: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0  # in which share of the time the server's loop was ready and had no core


MARK: Final = re.compile("zq([0-9]{5})qz")  # of who said it: the raiders are numbered
TALKER: Final = 99_999


def mark(number: int) -> str:
    """Return the word that stands in everything that somebody says."""
    return f"zq{number:05d}qz"


# Yesterday


def yesterday(base: str, script: Script) -> Past:
    """Fill the room's past; raises Stuck and Refused."""
    with Hall(base, ROOM) as hall:
        owner = hall.enter(OWNER)
        hall.until(lambda: owner.id, "the owner's welcome")
        said(hall, owner, "the room is open")
        people = [hall.enter(MEMBERS) for _ in range(script.members)]
        for number, person in enumerate(people):
            hall.tell(person, type="say", client_id="hello", text=f"hello {number}")
        await_acks(hall, people, 1)
        for person in people:
            hall.leave(person)
        talker = hall.enter(OTHERS)
        for number in range(script.said):
            text = f"{mark(TALKER)} {number} and so on and so forth"
            hall.tell(talker, type="say", client_id=f"t{number}", text=text)
        await_acks(hall, [talker], script.said)
        return Past(owner.cookie, [person.cookie for person in people], talker.id)


def await_acks(hall: Hall, people: list[Person], each: int) -> None:
    """Wait until the server has taken what people said, which was so much of each; raises Stuck."""
    hall.until(lambda: all(len(person.answers) == each for person in people), "the acks of what was said", ACKS_S)
    for person in people:
        for answer in person.answers.values():
            if answer["type"] != "ack":
                raise Stuck(f"a message was refused: {answer}")


def said(hall: Hall, person: Person, text: str) -> int:
    """Say something, again if the server asks for it, and return its seq; raises Stuck."""
    while True:
        name = f"s{time.monotonic_ns()}"
        hall.tell(person, type="say", client_id=name, text=text)
        answer = hall.until(partial(person.answers.get, name), "the ack of a message")
        if answer["type"] == "ack":
            return int(answer["seq"])
        wait(hall, answer, "a message")


def wait(hall: Hall, answer: Answer, what: str) -> None:
    """Wait as long as a refusal asks for; raises Stuck if it asks for nothing."""
    if "retry_after" not in answer:
        raise Stuck(f"{what} was refused: {answer}")
    hall.pause(answer["retry_after"])


# The raid


class Play:
    """One raid, from the coming of the members to the owner's last look."""

    def __init__(self, hall: Hall, base: str, folder: Path, script: Script, past: Past) -> None:
        self._hall = hall
        self._base = base
        self._folder = folder
        self._script = script
        self._past = past
        self._refs = itertools.count()
        self._raiders: list[Person] = []
        self._talks: list[Talk] = []

    def run(self) -> Outcome:
        """Play it; raises Stuck and Refused."""
        self._gather()
        self._act("filter", type="filter", patterns=[{"pattern": WORD}])
        self._phase("calm")
        self._let_talk("before", self._outcome.members[::2])
        self._hall.pause(self._script.flood_s / 2)
        self._raid()
        self._look_back()
        self._hall.chores.clear()
        self._hall.until(lambda: all(talk.is_answered for talk in self._talks), "answers to those who talk")
        self._outcome.ordinary = [answer for talk in self._talks for answer in talk.answers()]
        self._purge()
        self._phase("")
        self._look_around()
        self._outcome.held_ns = dict(self._hall.held_ns)
        return self._outcome

    def _phase(self, name: str) -> None:
        self._hall.phase = name

    def _gather(self) -> None:
        self._owner = self._hall.enter(OWNER, self._past.owner)
        members = [self._hall.enter(MEMBERS, cookie) for cookie in self._past.members]
        self._outcome = Outcome(self._script, members)
        self._hall.until(lambda: all(one.epoch for one in [self._owner, *members]), "everybody's welcome")
        self._hall.probe(OTHERS)

    def _act(self, name: str, **frame: Any) -> Act:
        """Let the owner do something, and wait until it is done."""
        while True:
            ref = str(next(self._refs))
            sent_ns = time.time_ns()
            self._hall.tell(self._owner, ref=ref, **frame)
            answer = self._hall.until(partial(self._owner.answers.get, ref), f"the answer to {name}")
            if answer["type"] == "done":
                act = Act(name, sent_ns, time.time_ns(), answer.get("seq", 0))
                self._outcome.acts.append(act)
                return act
            wait(self._hall, answer, name)

    def _let_talk(self, when: str, people: list[Person]) -> None:
        """Let people talk once each: in a raid the next message of a person has to wait for 30 s."""
        talk = Talk(self._hall, people, self._script.talk_per_s, f"ordinary, {when}: {{}}".format, len(people))
        self._talks.append(talk)
        self._hall.chores.append(talk)

    # They come, and are shown out

    def _raid(self) -> None:
        script, hall, outcome = self._script, self._hall, self._outcome
        self._raiders = [hall.enter(RAIDERS, rude=number % 2 == 1) for number in range(script.raiders)]
        hall.until(lambda: all(raider.id for raider in self._raiders), "the raiders' welcome")
        outcome.raiders = {raider.id for raider in self._raiders}
        flood = Talk(hall, self._raiders, script.flood_per_s, lambda turn: raid_text(turn % script.raiders, turn))
        hall.chores.append(flood)
        self._phase("flood")
        hall.pause(script.flood_s)
        self._phase("the button")
        self._act("the button", type="raid", seconds=RAID_S)
        self._let_talk("after", outcome.members[1::2])
        hall.pause(AFTERMATH_S)
        self._phase("bans")
        for number, raider in enumerate(self._raiders[: script.banned + 1]):
            by_address = {"seconds": ADDRESS_BAN_S, "address": True} if number == script.banned else {}
            name = "ban by address" if by_address else "ban with purge"
            act = self._act(name, type="ban", person=raider.id, purge=True, reason="a raid", **by_address)
            outcome.purged.add(number)
            outcome.put_out += [(act, one) for one in (self._raiders[number:] if by_address else [raider])]
        hall.chores.remove(flood)
        hall.until(lambda: all(raider.ended_ns for raider in self._raiders), "the end of the raiders' sockets")
        outcome.raided = flood.answers()

    def _look_back(self) -> None:
        """Whoever was banned tries to come back: as himself, as somebody new, and from another address."""
        for address, cookie, who in (
            (MEMBERS, self._raiders[0].cookie, "a banned person, from another address"),
            (RAIDERS, "", "somebody new, from the banned address"),
        ):
            try:
                person = self._hall.enter(address, cookie)
            except Refused:
                continue
            self._outcome.came_back.append(who)
            self._hall.leave(person)
        newcomer = self._hall.enter(OTHERS)
        self._hall.tell(newcomer, type="say", client_id="n", text="I am new here")
        answer = self._hall.until(lambda: newcomer.answers.get("n"), "the answer to a newcomer")
        self._outcome.newcomer_heard = str(answer.get("code", answer["type"]))
        self._hall.leave(newcomer)

    # What one person said is taken away

    def _purge(self) -> None:
        outcome, hall = self._outcome, self._hall
        self._settle("before the purge")
        before = [len(member.heard) for member in outcome.members]
        self._phase("the purge")
        act = self._act("the purge", type="purge", person=self._past.talker)
        outcome.purged.add(TALKER)
        self._settle("after the purge")
        outcome.quiet = [(at, len(member.heard)) for at, member in zip(before, outcome.members, strict=True)]
        end_s = time.monotonic() + ERASED_S
        while time.monotonic() < end_s:
            if not self._is_in_files(outcome.purged):
                outcome.erased_s = (time.time_ns() - act.done_ns) / 1e9
                return
            hall.pause(0.02)

    def _is_in_files(self, purged: set[int]) -> bool:
        found = (MARK.findall(path.read_text("latin-1")) for path in self._folder.iterdir())
        return any(int(number) in purged for numbers in found for number in numbers)

    def _settle(self, text: str) -> None:
        """Let the owner say something, and wait until everybody has heard it."""
        seq = said(self._hall, self._owner, text)
        members = self._outcome.members
        self._hall.until(lambda: all(member.last_seq >= seq for member in members), "a last word at every member")

    def _look_around(self) -> None:
        """See what those see who come now: somebody new, somebody who was away, and a program."""
        hall, head = self._hall, self._owner.last_seq
        place = {"epoch": self._owner.epoch, "after": str(max(0, head - RESUMED_EVENTS))}
        self._outcome.late = [hall.enter(OTHERS), hall.enter(OTHERS, place=place)]
        hall.until(lambda: all(one.last_seq >= head for one in self._outcome.late), "what late comers are shown")
        after = 0
        for number in itertools.count():
            body = page(self._base, after, number)
            self._outcome.pages.append(body)
            answer = json.loads(body)
            if not answer["more"]:
                return
            after = answer["events"][-1]["seq"]


def raid_text(raider: int, number: int) -> str:
    """Return one of the three things that raiders say."""
    what = ("see https://bad.example/now", f"buy {WORD} here", "spam spam spam")[number % 3]
    return f"{mark(raider)} {number} {what}"


def page(base: str, after: int, number: int) -> str:
    """Return a page of the room's history as programs get it, each asked for from another address."""
    parts = urlsplit(base)
    source = (f"127.0.1.{number % 250 + 1}", 0)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10, source_address=source)
    try:
        connection.request("GET", f"/api/rooms/{ROOM}/messages?after={after}")
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise Stuck(f"a page of history: HTTP {answer.status} {body[:200]}")
        return body
    finally:
        connection.close()
