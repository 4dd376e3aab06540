"""The moderators' desk: what those who keep a room's order may ask about it, and what their acts are answered with.

Knows rooms and the log, no socket. Invariant: nothing here is told to anybody without a role, and a role is looked at
when the answer is given, not when it was asked for.
"""

import time
from typing import TypeVar, assert_never

from msgspec import UNSET, Raw, Struct, UnsetType

from chat import doors
from chat.acts import Member
from chat.eventlog import EventLog
from chat.order import for_good
from chat.passwords import hash_password
from chat.protocol import (
    Acts,
    AnyAct,
    AskActs,
    AskHeld,
    AskOrder,
    AskPerson,
    Done,
    HeldMessages,
    MakeInvite,
    ModeratorsQuestion,
    OrderPage,
    PersonCard,
    ProtocolError,
    SetPassword,
)
from chat.room import Room

T = TypeVar("T")


async def act(room: Room, member: Member, secret: str, base_path: str, asked: AnyAct) -> Struct:
    """Do what is asked; returns the frame that answers it. Raises ProtocolError."""
    if isinstance(asked, SetPassword) and asked.password:
        room.acts.check(member, asked)  # before anything is computed for it
        asked.password = await hash_password(asked.password)
    seq, decision = await room.acts.act(member, asked)
    if isinstance(asked, MakeInvite):
        return doors.invited(secret, base_path, room.name, decision, asked.ref)
    return Done(asked.ref, seq or UNSET)


async def answer(room: Room, log: EventLog, member: Member, question: ModeratorsQuestion) -> Struct:
    """The frame that answers a question; raises ProtocolError `forbidden`."""
    _check_role(room, member)
    answer = await _answer(room, log, question)
    _check_role(room, member)  # who was demoted while it was looked up hears nothing
    return answer


def _check_role(room: Room, member: Member) -> None:
    if not room.acts.rank_of(member):
        raise ProtocolError("forbidden", "This is for the room's moderators.")


async def _answer(room: Room, log: EventLog, question: ModeratorsQuestion) -> Struct:
    match question:
        case AskActs():
            return await _acts(room, log, question)
        case AskHeld():
            return HeldMessages(await log.held(room.name), question.ref)
        case AskPerson():
            return await _card(room, log, question)
        case AskOrder():
            return _order(room, question)
        case _:
            assert_never(question)


async def _acts(room: Room, log: EventLog, asked: AskActs) -> Acts:
    records, more = await log.acts(room.name, _known(asked.before), asked.limit, _known(asked.person))
    return Acts([Raw(record) for record in records], more, asked.ref)


async def _card(room: Room, log: EventLog, asked: AskPerson) -> PersonCard:
    said = await log.said_by(room.name, asked.person, _known(asked.before), asked.limit)
    whom = await room.acts.person(asked.person)
    is_here = room.people.find(whom.id) is not None
    card = PersonCard(
        id=whom.id,
        name=whom.name,
        role=room.acts.order.role_of(whom.id),
        here=is_here,
        from_address=room.people_at(room.addresses_of(whom.id)) if is_here else 0,
        events=[Raw(event.body) for event in said.events if event.seq <= room.shown_seq],
        more_before=said.more_before,
        ref=asked.ref,
    )
    standing, now_ms = room.acts.order.standing(whom), _now_ms()
    if standing.muted_until > now_ms:
        card.muted_until, card.muted_for = standing.muted_until, standing.muted_for or UNSET
    if standing.banned_until > now_ms:
        card.banned_until, card.banned_for = for_good(standing.banned_until), standing.banned_for or UNSET
    return card


def _order(room: Room, asked: AskOrder) -> OrderPage:
    order = room.acts.order
    return OrderPage(
        rules=order.rules,
        roles=order.roles(),
        restraints=order.restraints(_now_ms()),
        patterns=list(order.patterns),
        invites=list(order.invites.values()),
        closed=order.is_closed,
        has_password=bool(order.password_hash),
        held=room.acts.held,
        ref=asked.ref,
    )


def _known(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
