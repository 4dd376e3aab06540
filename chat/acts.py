"""What is done in a room besides talking: acts are decided at once, stored, and then take effect.

Owns the room's order: as it is decided, by which people are judged, and as it is stored. Between the two lie the acts
that are being committed; one that cannot be stored is undone. Runs on the loop only. Invariant: judging asks the log
for nothing, so that whoever speaks costs no query.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol

from msgspec import UNSET, UnsetType, structs

from chat.decisions import Actor, Decision, Moment, PutOut, Target, admit, decide
from chat.eventlog import Change, Done, Draft, Entries, EventLog, Further, News, Overtaken, Purging, Reacting, Refusing
from chat.identity import is_closed
from chat.limits import Paces, Result
from chat.order import RAID_INSIDERS, RANKS, Barred, Order, Standing
from chat.presence import People
from chat.protocol import (
    Ack,
    AnyAct,
    Ban,
    Edit,
    Error,
    GiveRole,
    Kick,
    Me,
    Mute,
    Out,
    Person,
    ProtocolError,
    Purge,
    Raid,
    React,
    Reacted,
    Review,
    SetRules,
    Waiting,
    decode_message,
    encode,
)

REACTIONS_S = 1.0  # between two events that tell reactions
_OVERTAKEN = 5  # times that an act is decided anew
VETERAN_S = 600  # whoever was here, or spoke here, so long before a raid is no newcomer


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
    def put_out_barred(self) -> None: ...
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
        self._paces = Paces()
        self._counting: asyncio.Future[int] | None = None
        self._is_recount_due = False
        self._came_s: dict[str, float] = {}  # when a person who is here came

    def begin(self, entries: Entries, held: int) -> None:
        """Take the order as the log has it."""
        self.order = self._stored = Order.of(entries)
        self.held = held

    @property
    def is_idle(self) -> bool:
        """Nothing is being stored: a room that is read anew would not find it."""
        return not (self._storing or self._reacting)

    def learn(self, news: News) -> None:
        """Take the order as a commit left it; what this server did itself has had its effect."""
        if not news.is_ours:
            self._heard_of_others(news)
        elif news.entries:
            self._stored = self._stored.changed(news.entries)
            self._judge_anew()

    def _heard_of_others(self, news: News) -> None:
        claim, self._ownership = self._ownership, {}  # somebody else was there before
        self._note_held(news.held)
        for person_id, reason in news.kicked.items():
            self._host.put_out(PutOut(Out("kick", reason=reason or UNSET), person_id))
        if not (claim or news.entries or news.is_all):
            return
        was_announced = self.order.rules.announcement
        self._stored = Order.of(news.entries) if news.is_all else self._stored.changed(news.entries)
        self._judge_anew()
        self._host.put_out_barred()
        everybody = self._host.people.ids()
        self._host.tell_you(everybody if news.is_all else self._concerned({**claim, **news.entries}))
        announcement = self.order.rules.announcement
        if announcement is not None and announcement != was_announced:
            self._host.announce(announcement.text)

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

    def is_muted(self, member: Member) -> bool:
        me = self.me(self._host.people.get(member.person_id), member.is_operator)
        return me.muted_until is not UNSET

    def check_name(self, member: Member, name: str) -> None:
        """Raise ProtocolError if somebody may not call himself so: a name is heard by all, as a message is."""
        self.order.check_name(member.person_id, self.rank_of(member), name, _now_ms())

    async def admit(self, person: Person, how: str) -> None:
        """Let somebody into a closed room, or make him an owner: by an invitation's id, or "password"."""
        await _again(lambda: self._enact(admit(self.order, person, how, _now_ms()), person.id))

    async def found(self, person: Person) -> None:
        """Make this a closed room, owned by `person`."""
        owner = encode(Standing(name=person.name, role="owner"))
        await self._enact(Decision({"closed": b"true", f"person:{person.id}": owner}), person.id)

    # Talking

    def draft(
        self, member: Member, by: Person, text: str, client_id: str | None, reply_to: int | None, done: Done
    ) -> Draft:
        """A message as it is to be stored; raises ProtocolError if this person may not say it.

        With a `client_id` it takes the refusal along instead: it may have been stored before.
        """
        draft = Draft(self._host.name, by, text, client_id, reply_to, done)
        spoke_s = 0.0 if self.order.is_plain else self._judge(member, draft)
        if self._ownership or draft.hold_for or spoke_s:
            self._storing += 1
            draft.claim = self._ownership
            draft.done = partial(self._drafted, draft, spoke_s, done)
        return draft

    def _judge(self, member: Member, draft: Draft) -> float:
        """Whether a message is to be refused or held; returns when its speaker spoke, if there is slow mode."""
        say = partial(self.order.check_say, member.person_id, self.rank_of(member), draft.text, _now_ms())
        try:
            draft.hold_for = self._heard(member, say)
        except ProtocolError as refusal:
            if draft.client_id is None:
                raise
            draft.refusal = refusal.with_traceback(None)
            return 0.0
        return self._take_turn(member)

    def _heard(self, member: Member, judge: Callable[[], Result]) -> Result:
        """What comes of judging a text, if it is its author's turn; raises ProtocolError."""
        rank, now_ms = self.rank_of(member), _now_ms()
        if rank:
            return judge()
        self.order.check_voice(member.person_id, rank, now_ms)
        self._paces.check(member.person_id, self.order.slow_s(rank, now_ms))
        return self._paces.timed(member.person_id, judge)

    def _take_turn(self, member: Member) -> float:
        return self._paces.take(member.person_id, self.order.slow_s(self.rank_of(member), _now_ms()))

    def note_turn(self, body: bytes) -> None:
        """In slow mode whoever spoke at another server has had his turn at this one, too."""
        if self._log.server and (slow_s := self.order.slow_s(0, _now_ms())) and body.startswith(b'{"type":"message"'):
            self._paces.take(decode_message(body).by.id, slow_s)

    def _drafted(self, draft: Draft, spoke_s: float, done: Done, outcome: int | ProtocolError) -> None:
        if isinstance(outcome, int):
            self._claimed(draft.claim)
        is_held = not isinstance(outcome, int) and outcome.code == "held"
        if not (draft.is_new and (is_held or isinstance(outcome, int))):
            self._paces.give_back(draft.by.id, spoke_s)
        elif is_held:
            self._recount()
        done(outcome)
        self._settled()

    # Acting

    async def act(self, member: Member, frame: AnyAct) -> tuple[int, Decision]:
        """Do what a frame asks; returns the seq of the act's event (0 if it has none) once it is stored.

        Raises ProtocolError: `forbidden`, `not_found`, `too_late`, `not_stored`, and what saying something may raise.
        """
        return await _again(lambda: self._act(member, frame))

    async def _act(self, member: Member, frame: AnyAct) -> tuple[int, Decision]:
        if type(frame) is Edit:
            return await self._edit(member, frame)
        decision = self._decide(member, frame)
        if type(frame) is Review:
            return await self._review(member, frame), decision
        if (absent := self._absent(frame)) is not None:
            decision = self._decide(member, frame, whom=Person(absent, await self._name_of(absent)))
        if type(frame) is Raid and frame.seconds:
            veterans = await self._veterans()
            decision = self._decide(member, frame, veterans)  # again: he may have lost his right meanwhile
        seq = await self._enact(decision, member.person_id)
        if type(frame) is SetRules and frame.announcement and frame.announcement.strip():
            self._host.announce(frame.announcement)
        return seq, decision

    def check(self, member: Member, frame: AnyAct) -> None:
        """Raises ProtocolError if this member may not do this now."""
        self._decide(member, frame)

    def _decide(
        self, member: Member, frame: AnyAct, present: Iterable[str] | None = None, whom: Person | None = None
    ) -> Decision:
        actor = Actor(self._whom(member.person_id), member.is_operator)
        moment = Moment(_now_ms(), self._host.people.ids() if present is None else present)
        return decide(self.order, frame, actor, self._target(frame, whom), moment)

    def _target(self, frame: AnyAct, whom: Person | None) -> Target:
        if not isinstance(frame, _ActOnPerson):
            return Target()
        id = frame.person
        known = self._known(id) or whom or Person(id, "")
        return Target(known, self._host.is_operator(id), frozenset(self._host.addresses_of(id)))

    def _whom(self, person_id: str) -> Person:
        return self._known(person_id) or Person(person_id, "")

    def _known(self, person_id: str) -> Person | None:
        """Somebody as he is called here, or was when he was last dealt with."""
        if (here := self._host.people.find(person_id)) is not None:
            return here
        standing = self.order.people.get(person_id)
        return None if standing is None else Person(person_id, standing.name)

    def _absent(self, frame: AnyAct) -> str | None:
        """On whom an act is, if only the log may know him."""
        return frame.person if isinstance(frame, _ActOnPerson) and self._known(frame.person) is None else None

    async def person(self, person_id: str) -> Person:
        """Somebody who is or was in this room; raises ProtocolError `not_found` of anybody else."""
        return self._known(person_id) or Person(person_id, await self._name_of(person_id))

    async def _name_of(self, person_id: str) -> str:
        name = await self._log.name_of(self._host.name, person_id)
        if name is None:
            raise ProtocolError("not_found", "Nobody of that kind was ever here.")
        return name

    async def _edit(self, member: Member, frame: Edit) -> tuple[int, Decision]:
        """An edit is heard like something said: at its author's turn, which it uses."""
        decision = self._heard(member, partial(self._decide, member, frame))
        spoke_s = self._take_turn(member)
        try:
            return await self._enact(decision, member.person_id), decision
        except ProtocolError:
            self._paces.give_back(member.person_id, spoke_s)
            raise

    async def _veterans(self) -> list[str]:
        """Who of those present is no newcomer."""
        present = self._host.people.ids()
        spoke = await self._log.spoke_before(self._host.name, present, _now_ms() - VETERAN_S * 1000)
        since_s = time.monotonic() - VETERAN_S
        return [who for who in present if who in spoke or self._came_s.get(who, since_s) < since_s]

    async def _enact(self, decision: Decision, by: str) -> int:
        """Let a decision count, store it, and let it take effect; all or nothing."""
        decision = decision._replace(put_out=tuple(self._named(decision.put_out)))
        self._drop_reactions(_purged(decision))
        if self._ownership.keys() & decision.entries.keys():
            self._ownership = {}  # how the owner stands is stored with this decision
        self.order = self.order.changed({**self._ownership, **decision.entries})
        return await self._store(decision, by)

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
        change = Change(
            self._host.name,
            by,
            lambda outcome: self._enacted(decision, change, stored, outcome),
            decision.event,
            decision.work,
            decision.entries,
            self._ownership,
            decision.record,
            tuple(_further(extra) for extra in decision.extra),
        )
        self._log.append(change)
        return stored

    def _enacted(
        self, decision: Decision, change: Change, stored: "asyncio.Future[int]", outcome: int | ProtocolError
    ) -> None:
        self._under_way.remove(decision)
        if isinstance(outcome, int):
            self._claimed(change.claim)
            self._stored = self._stored.changed(decision.entries)
            self._take_effect(decision)
        else:
            self._judge_anew()
            self._host.put_out_barred()  # whom another server put out, while this act seemed to have the last word
        _settle(stored, outcome)
        self._settled()

    def _claimed(self, claim: Entries) -> None:
        """The room is its opener's; an empty claim was none, or came too late."""
        if claim:
            self._stored = self._stored.changed(claim)
            if self._ownership is claim:
                self._ownership = {}

    def _judge_anew(self) -> None:
        """By the order as it is stored, with what is under way: an act could not be stored, or another server's was."""
        self.order = self._stored.changed(self._ownership)
        for decision in self._under_way:
            self.order = self.order.changed(decision.entries)

    def _take_effect(self, decision: Decision) -> None:
        for put_out in decision.put_out:
            self._host.put_out(put_out)
        if concerned := self._concerned(decision.entries):
            self._host.tell_you(concerned)
        if _purged(decision):
            self._recount()  # what these people said may have waited for review

    def _concerned(self, entries: Entries) -> list[str]:
        """Who may stand otherwise in the room than before."""
        if RAID_INSIDERS in entries:
            return self._host.people.ids()
        return [key.removeprefix("person:") for key in entries if key.startswith("person:")]

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

    def _drop_reactions(self, people: set[str]) -> None:
        """What these people did is not to be told any more."""
        kept = [(reacting, stored) for reacting, stored in self._reacting if reacting.by.id not in people]
        dropped = [stored for reacting, stored in self._reacting if reacting.by.id in people]
        self._reacting = kept
        for stored in dropped:
            _settle(stored, ProtocolError("forbidden", "A moderator removed what you did here."))

    def _store_reactions(self) -> None:
        self._reactions_timer = None
        self._reactions_told_s = asyncio.get_running_loop().time()
        reacting, self._reacting = self._reacting, []
        self._storing += 1
        work = [each for each, _ in reacting]
        refused: dict[int, ProtocolError] = {}
        done = partial(self._reacted, reacting, refused)
        event = Reacted(0, 0, [])
        change = Change(self._host.name, "", done, event, work, claim=self._ownership, refused=refused)
        self._log.append(change)

    def _reacted(
        self,
        reacted: "list[tuple[Reacting, asyncio.Future[int]]]",
        refused: dict[int, ProtocolError],
        outcome: int | ProtocolError,
    ) -> None:
        for reacting, stored in reacted:
            _settle(stored, refused.get(reacting.message, outcome))
        self._settled()

    # Review

    async def _review(self, member: Member, review: Review) -> int:
        """Show a held message as if it were said now, or refuse it; its speaker is told."""
        held, client_id = await self._log.held_message(self._host.name, review.held)
        decision, by = self._decide(member, review), member.person_id  # he may have lost his right meanwhile
        if decision.record is not None:
            decision.record.whom = held.by
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
        """Ask how many messages are held and tell the moderators if that changed; once for all who ask meanwhile."""
        if self._counting is not None:
            self._is_recount_due = True
            return
        self._is_recount_due = False
        self._storing += 1
        self._counting = asyncio.ensure_future(self._log.held_count(self._host.name))
        self._counting.add_done_callback(self._recounted)

    def _recounted(self, counting: "asyncio.Future[int]") -> None:
        self._counting = None
        if not counting.cancelled() and counting.exception() is None:
            self._note_held(counting.result())
        if self._is_recount_due:
            self._recount()
        self._settled()

    def _note_held(self, held: int) -> None:
        if held != self.held:
            self.held = held
            self._host.tell_moderators(encode(Waiting(held)))


async def _again(enact: Callable[[], Awaitable[Result]]) -> Result:
    """Decide and enact, anew if another server was faster; what it did is heard within milliseconds."""
    for tries in range(_OVERTAKEN):
        with suppress(Overtaken):
            return await enact()
        await asyncio.sleep(0.02 * 2**tries)
    return await enact()


_ActOnPerson = GiveRole | Mute | Ban | Kick | Purge


def _purged(decision: Decision) -> set[str]:
    """The people all of whose messages go by a decision."""
    return {part.work.person for part in (decision, *decision.extra) if isinstance(part.work, Purging)}


def _further(extra: Decision) -> Further:
    assert not (extra.entries or extra.put_out or extra.extra)
    assert extra.work is None or isinstance(extra.work, Purging)  # of which nothing can be refused
    return Further(extra.event, extra.work, extra.record)


def _settle(stored: "asyncio.Future[int]", outcome: int | ProtocolError) -> None:
    if stored.done():  # whoever waited for it is gone
        return
    if isinstance(outcome, int):
        stored.set_result(outcome)
    else:
        stored.set_exception(outcome)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
