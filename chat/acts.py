"""What is done in a room besides talking: acts are decided at once, stored, and then take effect.

Owns the room's order: as it is decided, by which people are judged, and as it is stored. Between the two lie the acts
that are being committed; one that cannot be stored is undone. Runs on the loop only. Invariant: judging asks the log
for nothing, so that whoever speaks costs no query.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from msgspec import UNSET, UnsetType, structs

from chat.decisions import Actor, Decision, Moment, PutOut, Target, admit, decide
from chat.eventlog import Change, Done, Draft, Entries, EventLog, Reacting, Refusing
from chat.identity import is_closed
from chat.order import RAID_INSIDERS, RANKS, Barred, Order, Standing
from chat.presence import People
from chat.protocol import (
    Ack,
    AnyAct,
    Ban,
    Error,
    GiveRole,
    Kick,
    Me,
    Mute,
    Person,
    ProtocolError,
    Purge,
    Raid,
    React,
    Reacted,
    Review,
    SetRules,
    Waiting,
    encode,
)

REACTIONS_S = 1.0  # between two events that tell reactions
VETERAN_S = 600  # whoever was here, or spoke here, so long before a raid is no newcomer
FILTER_S, FILTER_REST = 0.005, 20  # a filter that took longer rests for so many times as long
_PACES_KEPT = 10_000  # of people in slow mode, before those who may speak again are forgotten


class Member(Protocol):
    """One socket in a room, as far as its rights go."""

    person_id: str
    is_operator: bool
    address_key: str


class Host(Protocol):
    """The room, as acts see it."""

    name: str
    people: People

    def tell_person(self, person_id: str, frame: bytes) -> None: ...
    def tell_you(self, people: Iterable[str]) -> None: ...
    def tell_moderators(self, frame: bytes) -> None: ...
    def put_out(self, put_out: PutOut) -> None: ...
    def announce(self, text: str) -> None: ...
    def addresses_of(self, person_id: str) -> set[str]: ...
    def is_operator(self, person_id: str) -> bool: ...
    def rest(self) -> None: ...


class Acts:
    """The order of one room, and everything that changes it or the messages."""

    def __init__(self, host: Host, log: EventLog) -> None:
        self._host = host
        self._log = log
        self.order = self._stored = Order.of({})
        self.held = 0  # messages that wait for review
        self._under_way: list[Decision] = []
        self._storing = 0
        self._ownership: Entries = {}  # of whoever opened the room, until anything of it is stored
        self._reacting: list[tuple[Reacting, asyncio.Future[int]]] = []
        self._reactions_timer: asyncio.TimerHandle | None = None
        self._reactions_told_s = 0.0
        self._filter_rests_until_s = 0.0
        self._spoke_s: dict[str, float] = {}  # when somebody last spoke in slow mode
        self._came_s: dict[str, float] = {}  # when a person who is here came

    def begin(self, entries: Entries, held: int) -> None:
        """Take the order as the log has it."""
        self.order = self._stored = Order.of(entries)
        self.held = held

    @property
    def is_idle(self) -> bool:
        """Nothing is being stored: a room that is read anew would not find it."""
        return not (self._storing or self._reacting)

    # Coming in

    def came(self, person: Person, opens: bool) -> None:
        """Somebody has come in; `opens`: into a room in which nothing was ever said or done."""
        self._came_s.setdefault(person.id, time.monotonic())
        self._learn_name(person)
        if opens and not self._ownership and not self.order.people:
            self._ownership = {f"person:{person.id}": encode(Standing(name=person.name, role="owner"))}
            self.order = self.order.changed(self._ownership)

    def _learn_name(self, person: Person) -> None:
        """Whoever has a role is told to newcomers under the name he has; it is stored when he is next dealt with."""
        standing = self.order.people.get(person.id)
        if standing is not None and standing.name != person.name:
            entry = {f"person:{person.id}": encode(structs.replace(standing, name=person.name))}
            self.order, self._stored = self.order.changed(entry), self._stored.changed(entry)

    def went(self, person_id: str) -> None:
        self._came_s.pop(person_id, None)

    def role_of(self, member: Member) -> str:
        return "operator" if member.is_operator else self.order.role_of(member.person_id)

    def rank_of(self, member: Member) -> int:
        return RANKS[self.role_of(member)]

    def check_entry(self, member: Member) -> None:
        """Raises Barred for who may not come in."""
        if is_closed(self._host.name) and not self.order.is_closed:
            raise Barred("closed", "There is no such room.")
        self.order.admission(member.person_id, self.rank_of(member), member.address_key, _now_ms())

    def me(self, person: Person, is_operator: bool) -> Me:
        return self.order.me(person, is_operator, _now_ms())

    async def admit(self, person: Person, how: str) -> None:
        """Let somebody into a closed room, or make him an owner: by an invitation's id, or "password"."""
        await self._enact(admit(self.order, person, how, _now_ms()), person.id)

    async def found(self, person: Person) -> None:
        """Make this a closed room, owned by `person`."""
        owner = encode(Standing(name=person.name, role="owner"))
        await self._enact(Decision({"closed": b"true", f"person:{person.id}": owner}), person.id)

    # Talking

    def draft(
        self, member: Member, by: Person, text: str, client_id: str | None, reply_to: int | None, done: Done
    ) -> Draft:
        """A message as it is to be stored; raises ProtocolError if this person may not say it."""
        hold_for = "" if self.order.is_plain else self._judge(member, text)
        if not (self._ownership or hold_for):
            return Draft(self._host.name, by, text, client_id, reply_to, done)
        self._storing += 1
        drafted = partial(self._drafted, self._ownership, bool(hold_for), done)
        return Draft(self._host.name, by, text, client_id, reply_to, drafted, self._ownership, hold_for)

    def _judge(self, member: Member, text: str) -> str:
        """Why a message is to be held, or ""; a filter that takes long makes its own room slow, and not the server."""
        began_s, rank, now_ms = time.monotonic(), self.rank_of(member), _now_ms()
        if began_s < self._filter_rests_until_s:
            wait_s = self._filter_rests_until_s - began_s
            raise ProtocolError("rate_limited", "This room's filter takes long; try again.", retry_after=wait_s)
        hold_for = self.order.check_say(member.person_id, rank, text, now_ms)
        took_s = time.monotonic() - began_s
        if took_s > FILTER_S:
            self._filter_rests_until_s = began_s + took_s * FILTER_REST
        self._check_pace(member.person_id, self.order.slow_s(rank, now_ms))
        return hold_for

    def _drafted(self, ownership: Entries, was_held: bool, done: Done, outcome: int | ProtocolError) -> None:
        if ownership and isinstance(outcome, int):
            self._stored = self._stored.changed(ownership)
            if self._ownership is ownership:
                self._ownership = {}
        if was_held:
            self._recount()
        done(outcome)
        self._settled()

    def _check_pace(self, person_id: str, slow_s: int) -> None:
        if not slow_s:
            return
        now_s = time.monotonic()
        wait_s = self._spoke_s.get(person_id, -slow_s) + slow_s - now_s
        if wait_s > 0:
            sentence = f"Slow mode is on: everybody may say something every {slow_s} s; you can in {wait_s:.0f} s."
            raise ProtocolError("slow_mode", sentence, retry_after=round(wait_s + 0.005, 2))
        if len(self._spoke_s) >= _PACES_KEPT:
            self._spoke_s = {who: at_s for who, at_s in self._spoke_s.items() if at_s + slow_s > now_s}
        self._spoke_s[person_id] = now_s

    # Acting

    async def act(self, member: Member, frame: AnyAct) -> tuple[int, Decision]:
        """Do what a frame asks; returns the seq of the act's event (0 if it has none) once it is stored.

        Raises ProtocolError: `forbidden`, `not_found`, `too_late`, `not_stored`, and what saying something may raise.
        """
        decision = self._decide(member, frame)
        if type(frame) is Review:
            return await self._review(frame, decision, member.person_id), decision
        if type(frame) is Raid and frame.seconds:
            veterans = await self._veterans()
            decision = self._decide(member, frame, veterans)  # again: he may have lost his right meanwhile
        seq = await self._enact(decision, member.person_id)
        if type(frame) is SetRules and frame.announcement:
            self._host.announce(frame.announcement)
        return seq, decision

    def check(self, member: Member, frame: AnyAct) -> None:
        """Raises ProtocolError if this member may not do this now."""
        self._decide(member, frame)

    def _decide(self, member: Member, frame: AnyAct, present: Iterable[str] | None = None) -> Decision:
        actor = Actor(self._whom(member.person_id), member.is_operator)
        moment = Moment(_now_ms(), self._host.people.ids() if present is None else present)
        return decide(self.order, frame, actor, self._target(frame), moment)

    def _target(self, frame: AnyAct) -> Target:
        if not isinstance(frame, GiveRole | Mute | Ban | Kick | Purge):
            return Target()
        id = frame.person
        return Target(self._whom(id), self._host.is_operator(id), frozenset(self._host.addresses_of(id)))

    def _whom(self, person_id: str) -> Person:
        """Somebody as he is called here, or was when he was last dealt with."""
        if (here := self._host.people.find(person_id)) is not None:
            return here
        standing = self.order.people.get(person_id)
        return Person(person_id, standing.name if standing else "")

    async def _veterans(self) -> list[str]:
        """Who of those present is no newcomer."""
        present = self._host.people.ids()
        spoke = await self._log.spoke_before(self._host.name, present, _now_ms() - VETERAN_S * 1000)
        since_s = time.monotonic() - VETERAN_S
        return [who for who in present if who in spoke or self._came_s.get(who, since_s) < since_s]

    async def _enact(self, decision: Decision, by: str) -> int:
        """Let a decision count, store it, and let it take effect; all or nothing."""
        decision = decision._replace(put_out=tuple(self._named(decision.put_out)))
        if self._ownership.keys() & decision.entries.keys():
            self._ownership = {}  # how the owner stands is stored with this decision
        self.order = self.order.changed({**self._ownership, **decision.entries})
        outcomes = [self._store(decision, by), *(self._store(extra, by) for extra in decision.extra)]
        seqs = await asyncio.gather(*outcomes)
        return seqs[0]

    def _named(self, put_outs: Iterable[PutOut]) -> Iterator[PutOut]:
        """Who came by an invitation is known by name, as the decision makes that be forgotten."""
        for put_out in put_outs:
            if put_out.via:
                for who, standing in self.order.people.items():
                    if standing.via == put_out.via and not standing.role:
                        yield PutOut(put_out.out, person=who)
            else:
                yield put_out

    def _store(self, decision: Decision, by: str) -> "asyncio.Future[int]":
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._under_way.append(decision)
        self._storing += 1
        entries = {**self._ownership, **decision.entries}
        done = partial(self._enacted, decision, self._ownership, stored)
        self._log.append(Change(self._host.name, by, done, decision.event, decision.work, entries, decision.record))
        return stored

    def _enacted(
        self, decision: Decision, ownership: Entries, stored: "asyncio.Future[int]", outcome: int | ProtocolError
    ) -> None:
        self._under_way.remove(decision)
        if isinstance(outcome, int):
            self._stored = self._stored.changed({**ownership, **decision.entries})
            if self._ownership is ownership:
                self._ownership = {}
            self._take_effect(decision)
        else:
            self._undo()
        _settle(stored, outcome)
        self._settled()

    def _undo(self) -> None:
        """The order without an act that could not be stored."""
        self.order = self._stored.changed(self._ownership)
        for decision in self._under_way:
            self.order = self.order.changed(decision.entries)

    def _take_effect(self, decision: Decision) -> None:
        for put_out in decision.put_out:
            self._host.put_out(put_out)
        concerned = [key.removeprefix("person:") for key in decision.entries if key.startswith("person:")]
        if RAID_INSIDERS in decision.entries:
            concerned = self._host.people.ids()
        if concerned:
            self._host.tell_you(concerned)

    def _settled(self) -> None:
        self._storing -= 1
        self._host.rest()

    # Reactions

    def react(self, member: Member, frame: React) -> "asyncio.Future[int]":
        """Net what comes within a second into one event; the first after a quiet second is told at once.

        Gives the seq of the event, or ProtocolError. It is not to be waited for before more is read of the member.
        """
        work = self._decide(member, frame).work
        assert isinstance(work, list)
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[int] = loop.create_future()
        self._reacting += [(reacting, stored) for reacting in work]
        if self._reactions_timer is None:
            due_s = max(loop.time(), self._reactions_told_s + REACTIONS_S)
            self._reactions_timer = loop.call_at(due_s, self._store_reactions)
        return stored

    def _store_reactions(self) -> None:
        self._reactions_timer = None
        self._reactions_told_s = asyncio.get_running_loop().time()
        reacting, self._reacting = self._reacting, []
        self._storing += 1
        work = [each for each, _ in reacting]
        done = partial(self._reacted, [stored for _, stored in reacting])
        self._log.append(Change(self._host.name, "", done, Reacted(0, 0, []), work, self._ownership))

    def _reacted(self, stored: "list[asyncio.Future[int]]", outcome: int | ProtocolError) -> None:
        for each in stored:
            _settle(each, outcome)
        self._settled()

    # Review

    async def _review(self, review: Review, decision: Decision, by: str) -> int:
        """Show a held message as if it were said now, or refuse it; its speaker is told."""
        held, client_id = await self._log.held_message(self._host.name, review.held)
        if not review.show:
            decision = decision._replace(work=Refusing(review.held))
            await self._enact(decision, by)
            frame = encode(Error("refused", "A moderator did not let this message through.", client_id or UNSET))
            seq = 0
        else:
            seq = await self._show_held(held.id, held.by, held.text, client_id, held.reply_to)
            await self._enact(decision._replace(work=None), by)
            frame = encode(Ack(client_id, seq)) if client_id else b""
        if client_id:
            self._host.tell_person(held.by.id, frame)
        self._recount()
        return seq

    async def _show_held(self, id: int, by: Person, text: str, client_id: str | None, reply_to: int | UnsetType) -> int:
        for answered in (reply_to if isinstance(reply_to, int) else None, None):
            stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._storing += 1
            done = partial(self._held_shown, stored)
            self._log.append(Draft(self._host.name, by, text, client_id, answered, done, held=id))
            try:
                return await stored
            except ProtocolError as error:  # what it answered may have been removed meanwhile
                if error.code != "not_found" or answered is None:
                    raise
        raise AssertionError("the last try returns or raises")

    def _held_shown(self, stored: "asyncio.Future[int]", outcome: int | ProtocolError) -> None:
        _settle(stored, outcome)
        self._settled()

    def _recount(self) -> None:
        """Ask how many messages are held and tell the moderators if that changed."""
        self._storing += 1
        asyncio.ensure_future(self._log.held(self._host.name)).add_done_callback(self._recounted)

    def _recounted(self, counting: "asyncio.Future[list[Any]]") -> None:
        if not counting.cancelled() and counting.exception() is None and len(counting.result()) != self.held:
            self.held = len(counting.result())
            self._host.tell_moderators(encode(Waiting(self.held)))
        self._settled()


def _settle(stored: "asyncio.Future[int]", outcome: int | ProtocolError) -> None:
    if stored.done():  # whoever waited for it is gone
        return
    if isinstance(outcome, int):
        stored.set_result(outcome)
    else:
        stored.set_exception(outcome)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
