"""What an act does to a room in Redis: it is planned on what the room has, and stored if the room still has it then.

Invariant: an act is refused while it is planned, before anything of it is stored; what it was planned on is looked at
once more in the same step in which it is stored, and if it is something else by then the act is planned anew.
"""

from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha1
from itertools import takewhile
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.json import Decoder

from chat.eventlog import (
    MOST_RECORDS,
    REACTED_BYTES,
    RETOLD_REACTIONS,
    ActEvent,
    Change,
    Editing,
    Entries,
    Purging,
    Reacting,
    Refusing,
    Removing,
    no_held,
    no_message,
    somebody_elses,
    too_late,
)
from chat.eventlog.keys import Keys
from chat.protocol import (
    REACTIONS,
    REACTORS,
    Edited,
    Message,
    MessageReactions,
    Person,
    Reacted,
    Reaction,
    Record,
    RulesChanged,
    Trimmed,
    decode_message,
    encode,
)

Look = Callable[[list[tuple[Any, ...]]], Awaitable[list[bytes]]]

# In what is stored they stand for what only Redis knows: see commit.lua. As numbers no message has them.
SEQ, AT, ID, FIRST = (2**53 - 1 - number for number in range(4))
_MARKS = (
    (b'"seq":%d' % SEQ, b'"seq":\1'),
    (b'"edit":%d' % SEQ, b'"edit":\1'),
    (b'"at":%d' % AT, b'"at":\2'),
    (b'"edited":%d' % AT, b'"edited":\2'),
    (b'"id":%d' % ID, b'"id":\3'),
    (b'"before":%d' % FIRST, b'"before":\4'),
)

_decode_rules_changed = Decoder(RulesChanged).decode
_decode_reactors = Decoder(list[tuple[str, str, str]]).decode
_unpack = msgspec.msgpack.Decoder().decode

Deed = tuple[Any, ...]


class HeldRow(msgspec.Struct):
    """A held message as it is stored."""

    at: int
    person: str
    name: str
    text: str
    why: str
    client_id: str | None
    reply_to: int | None


def template(value: Any) -> str:
    """Its JSON, with marks in the place of SEQ, AT, ID and FIRST: no text can hold such a key and number unescaped."""
    body = encode(value)
    for number, mark in _MARKS:
        body = body.replace(number, mark)
    return body.decode()


def entered(entries: Entries) -> list[tuple[str, str | bool]]:
    return [(key, False if body is None else body.decode()) for key, body in entries.items()]


class Plan:
    """What is to be done, and what that was decided on."""

    def __init__(self, keys: Keys, look: Look) -> None:
        self.keys = keys
        self.deeds: list[Deed] = []
        self.seen: list[tuple[tuple[Any, ...], str]] = []
        self._look = look

    async def look(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The answers to commands that only read."""
        if not commands:
            return []
        packed = await self._look(list(commands))
        self.seen += zip(commands, (sha1(each).hexdigest() for each in packed), strict=True)
        return [_unpack(each) for each in packed]

    # Deeds

    def event(self, event: ActEvent | Trimmed) -> None:
        event.seq, event.at = SEQ, AT
        index = ""
        message = 0
        if isinstance(event, Edited):
            index, message = "edit", event.message
        elif isinstance(event, RulesChanged) and event.rules.announcement is not None:
            index = "telling"
        self.deeds.append(("event", template(event), index, message))

    def rewrite(self, event: Message | RulesChanged) -> None:
        self.deeds.append(("set", event.seq, template(event)))

    def call(self, *command: Any) -> None:
        self.deeds.append(("call", *command))


async def is_order(plan: Plan, entries: Entries, known: Entries) -> bool:
    """Whether Redis has, of the entries that an act changes, what is known of them here."""
    values = await plan.look(*(("HGET", plan.keys.entries, key) for key in entries))
    return [value or None for value in values] == [body and body.decode() for body in map(known.get, entries)]


async def plan(plan: Plan, asked: Change) -> None:
    """Decide what is to be done; raises ProtocolError."""
    if asked.claim:
        plan.deeds.append(("claim", entered(asked.claim)))
    await _do(plan, asked, asked.event, asked.work, asked.record, asked.entries)
    for event, work, record in asked.further:
        await _do(plan, asked, event, work, record, {})


async def _do(
    plan: Plan, asked: Change, event: ActEvent | None, work: Any, record: Record | None, entries: Entries
) -> None:
    async def act(record: Record | None = record) -> None:
        """What every act leaves: its event, the order as it is now, a line in the moderators' log."""
        if event is not None:
            plan.event(event)
        if isinstance(event, RulesChanged):
            await _take_down(plan, event)
        if entries:
            plan.deeds.append(("enter", entered(entries)))
        if record is not None:
            record.id, record.at = ID, AT
            plan.deeds.append(("record", template(record), MOST_RECORDS))
            if record.act == "kick" and record.whom is not None:
                plan.deeds.append(("kick", record.whom.id, record.reason))

    match work:
        case None:
            await act()
        case Editing():
            await _edit(plan, work, act)
        case Removing():
            await _remove(plan, work, record, act)
        case Purging():
            await _purge(plan, work, act)
        case Refusing():
            await _refuse(plan, work, record, act)
        case _:
            await _react(plan, work, asked)


Act = Callable[..., Awaitable[None]]


async def _take_down(plan: Plan, changed: RulesChanged) -> None:
    """An announcement that stands no longer goes from the events that told the rules while it did."""
    stands = changed.rules.announcement
    (seqs,) = await plan.look(("ZREVRANGE", plan.keys.telling, "0", "-1"))
    bodies = await plan.look(*(("HGET", plan.keys.events, seq) for seq in seqs))
    events = (_decode_rules_changed(body) for body in bodies if body)
    for event in list(takewhile(lambda event: event.rules.announcement != stands, events)):
        event.rules.announcement = None
        plan.rewrite(event)
        plan.call("ZREM", plan.keys.telling, str(event.seq))


# Messages


async def _messages(plan: Plan, seqs: Iterable[int]) -> dict[int, Message]:
    """Those of these that are messages here."""
    seqs = list(seqs)
    ((first,),) = await plan.look(("HMGET", plan.keys.room, "first"))
    bodies = await plan.look(*(("HGET", plan.keys.events, str(seq)) for seq in seqs))
    return {
        seq: decode_message(body)
        for seq, body in zip(seqs, bodies, strict=True)
        if body and body.startswith('{"type":"message"') and seq >= int(first or 1)
    }


async def _message(plan: Plan, seq: int, person: str | None) -> Message:
    message = (await _messages(plan, [seq])).get(seq)
    if message is None:
        raise no_message()
    if person not in (None, message.by.id):
        raise somebody_elses()
    return message


async def _edit(plan: Plan, work: Editing, act: Act) -> None:
    message = await _message(plan, work.message, work.person)
    if message.at < work.since_ms:
        raise too_late()
    await act()
    if message.edit is not UNSET:
        plan.deeds.append(("remove", message.edit))
        plan.call("ZREM", plan.keys.edits, str(message.edit))
    message.text, message.edited = work.text, AT
    message.edit = SEQ if any(deed[0] == "event" for deed in plan.deeds) else UNSET
    plan.rewrite(message)


async def _remove(plan: Plan, work: Removing, record: Record | None, act: Act) -> None:
    message = await _message(plan, work.message, work.person)
    if record is not None and record.by.id == message.by.id:
        record = None
    _note_whose(record, message.by)
    await act(record)
    plan.deeds.append(("unsay", message.seq, message.by.id))


def _note_whose(record: Record | None, author: Person) -> None:
    if record is not None and record.whom is None:
        record.whom = author


async def _refuse(plan: Plan, work: Refusing, record: Record | None, act: Act) -> None:
    (body,) = await plan.look(("HGET", plan.keys.held, str(work.held)))
    if not body:
        raise no_held()
    row = msgspec.json.decode(body, type=HeldRow)
    _note_whose(record, Person(row.person, row.name))
    plan.deeds.append(("refuse", str(work.held), f"{row.person}:{row.client_id}" if row.client_id else ""))
    await act(record)


# Somebody altogether


async def _purge(plan: Plan, work: Purging, act: Act) -> None:
    person = work.person
    await act()
    (members,) = await plan.look(("ZRANGEBYLEX", plan.keys.reacted, f"[{person}:", f"({person};"))
    plan.deeds.append(("purge", person))
    seqs = sorted({int(member.split(":")[1]) for member in members}, reverse=True)
    others = [message for message in (await _messages(plan, seqs)).values() if message.by.id != person]
    changes = await _turned(plan, others, lambda _, reactors: [each for each in reactors if each[1] != person])
    for member in members:
        plan.call("ZREM", plan.keys.reacted, member)
    _tell_reactions(plan, changes[:RETOLD_REACTIONS])


# Reactions

Reactors = list[tuple[str, str, str]]  # kind, id and name, in the order in which they came


async def _react(plan: Plan, work: list[Reacting], asked: Change) -> None:
    messages = await _messages(plan, dict.fromkeys(each.message for each in work))
    if work and not messages:
        raise no_message()
    asked.refused.update((each.message, no_message()) for each in work if each.message not in messages)

    def turn(seq: int, reactors: Reactors) -> Reactors:
        for each in work:
            if each.message == seq:
                reactors = _turn(plan, reactors, each)
        return reactors

    changes = await _turned(plan, messages.values(), turn)
    if changes and asked.entries:
        plan.deeds.append(("enter", entered(asked.entries)))
    _tell_reactions(plan, changes)


def _turn(plan: Plan, reactors: Reactors, reacting: Reacting) -> Reactors:
    his = (reacting.kind, reacting.by.id)
    member = f"{reacting.by.id}:{reacting.message}:{reacting.kind}"
    is_there = any(each[:2] == his for each in reactors)
    if reacting.on and not is_there:
        plan.call("ZADD", plan.keys.reacted, "0", member)
        return [*reactors, (*his, reacting.by.name)]
    if is_there and not reacting.on:
        plan.call("ZREM", plan.keys.reacted, member)
        return [each for each in reactors if each[:2] != his]
    return reactors


async def _turned(
    plan: Plan, messages: Iterable[Message], turn: Callable[[int, Reactors], Reactors]
) -> list[MessageReactions]:
    """Who reacts to each message as `turn` leaves it; what is told of those of whom that changes anything."""
    messages = list(messages)
    stored = await plan.look(*(("HGET", plan.keys.reactors, str(message.seq)) for message in messages))
    changes = []
    for message, body in zip(messages, stored, strict=True):
        before = _decode_reactors(body) if body else []
        reactors = turn(message.seq, before)
        if reactors != before:
            _keep_reactors(plan, message.seq, reactors)
        reactions = _reactions(reactors)
        if reactions != (message.reactions or []):
            message.reactions = reactions or UNSET
            plan.rewrite(message)
            changes.append(MessageReactions(message.seq, reactions))
    return changes


def _keep_reactors(plan: Plan, seq: int, reactors: Reactors) -> None:
    if reactors:
        plan.call("HSET", plan.keys.reactors, str(seq), encode(reactors).decode())
    else:
        plan.call("HDEL", plan.keys.reactors, str(seq))


def _reactions(reactors: Reactors) -> list[Reaction]:
    by = {kind: [Person(id, name) for each, id, name in reactors if each == kind] for kind in REACTIONS}
    return [Reaction(kind, len(people), people[:REACTORS]) for kind, people in by.items() if people]


def _tell_reactions(plan: Plan, changes: list[MessageReactions]) -> None:
    """Tell them in as many events as it takes, as a large one would cut off whoever hears it."""
    told: list[MessageReactions] = []
    told_bytes = 0
    for change in changes:
        change_bytes = len(encode(change))
        if told and told_bytes + change_bytes > REACTED_BYTES:
            plan.event(Reacted(0, 0, told))
            told, told_bytes = [], 0
        told.append(change)
        told_bytes += change_bytes
    if told:
        plan.event(Reacted(0, 0, told))
