"""What is asked of Redis and what it answers, between the words of the event log and those of the scripts.

Pure. Invariant: what lua/commit.lua and lua/read.lua are given, and give, is written and read here and in planning.py
alone.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET

from chat.eventlog import (
    Draft,
    Entries,
    EpochStart,
    Opening,
    Slice,
    no_held,
    nothing_answered,
    refused,
    too_many_held,
    waiting,
)
from chat.eventlog.planning import AT, FIRST, SEQ, HeldRow, entered, template
from chat.protocol import Acted, Event, HeldMessage, Message, Person, ProtocolError, Rules, Trimmed

Outcome = int | ProtocolError


Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Told(msgspec.Struct):
    """What commit.lua publishes; see there."""

    by: str
    epoch: str
    seq: Number
    at: Number
    rewritings: Number
    events: list[msgspec.Raw]
    changed: dict[Number, msgspec.Raw]
    entries: dict[str, msgspec.Raw]
    held: Number
    kicked: dict[str, str]

    @property
    def last_seq(self) -> int:
        return self.seq + len(self.events) - 1

    @property
    def order(self) -> Entries:
        return {key: None if (body := bytes(raw)) == b"null" else body for key, raw in self.entries.items()}

    def after(self, seq: int) -> list[Event]:
        numbered = enumerate(self.events, self.seq)
        return [Event(number, self.at, bytes(body)) for number, body in numbered if number > seq]


class Beat(msgspec.Struct, tag="beat", tag_field="kind"):
    """A server lives, and in which epoch."""

    server: str
    epoch: str


class _Stamp(msgspec.Struct):
    at: int


encode_beat = msgspec.json.Encoder().encode
decode_beat = msgspec.json.Decoder(Beat).decode
decode_told = msgspec.json.Decoder(Told).decode
_decode_stamp = msgspec.json.Decoder(_Stamp).decode
decode_held = msgspec.json.Decoder(HeldRow).decode
_decode_acted = msgspec.json.Decoder(Acted).decode
_decode_rules = msgspec.json.Decoder(Rules).decode


TRIMMED = template(Trimmed(SEQ, AT, FIRST))


def deed_of(draft: Draft) -> tuple[Any, ...]:
    reply_to = UNSET if draft.reply_to is None else draft.reply_to
    _, body = template(Message(SEQ, AT, draft.by, draft.text, reply_to)).split("\2", 1)
    ids = f"{draft.by.id}:{draft.client_id}" if draft.client_id else ""
    more: dict[str, Any] = {}
    if draft.refusal is not None:
        more["refused"] = True
    if draft.hold_for:
        row = HeldRow(AT, draft.by.id, draft.by.name, draft.text, draft.hold_for, draft.client_id, draft.reply_to)
        more["hold"] = template(row)
    if draft.held:
        more["release"] = str(draft.held)
    if draft.claim:
        more["claim"] = entered(draft.claim)
    if draft.entries:
        more["entries"] = entered(draft.entries)
    return ("say", ids, draft.by.id, body, False if draft.reply_to is None else draft.reply_to, more or False)


def outcome_of(draft: Draft, answer: int | str) -> Outcome:
    """What a say's answer means: see commit.lua."""
    if isinstance(answer, int):
        draft.is_new = answer > 0
        return abs(answer)
    draft.is_new = answer == "newly_held"
    if answer == "barred":
        assert draft.refusal is not None
        return draft.refusal
    return _REFUSALS[answer]()


_REFUSALS = {
    "not_found": nothing_answered,
    "gone": no_held,
    "held": waiting,
    "newly_held": waiting,
    "refused": refused,
    "full": too_many_held,
}


def event_of(seq: int, body: str) -> Event:
    encoded = body.encode()
    return Event(seq, _decode_stamp(encoded).at, encoded)


def events_of(start: int, bodies: list[str]) -> list[Event]:
    return [event_of(seq, body) for seq, body in enumerate(bodies, start)]


def slice_of(page: list[Any], low: int, high: int) -> Slice:
    """Add what lies on either side of the events; without any, of the bounds `low` and `high`."""
    first, head, start, bodies = page
    events = events_of(start, bodies)
    if events:
        low, high = events[0].seq, events[-1].seq
    is_empty = first > head
    return Slice(events, first < low and not is_empty, high < head and not is_empty)


def opening_of(found: list[Any]) -> Opening:
    first, head, (_, _, start, bodies), starts, entries, held, _ = found
    order = {key: body.encode() for key, body in zip(entries[::2], entries[1::2], strict=True)}
    return Opening(head, events_of(start, bodies), _starts(starts), first, order, held)


def kicked_in(events: list[Event]) -> dict[str, str]:
    """Whom these put out; for which reason is told at the time, and then known to moderators alone."""
    acts = (_decode_acted(event.body) for event in events if event.body.startswith(b'{"type":"act"'))
    return {acted.whom.id: "" for acted in acts if acted.act == "kick"}


def _starts(numbers: list[str]) -> list[EpochStart]:
    return sorted(EpochStart(int(epoch), int(seq)) for epoch, seq in zip(numbers[::2], numbers[1::2], strict=True))


def held_message_of(id: int, row: HeldRow) -> HeldMessage:
    reply_to = UNSET if row.reply_to is None else row.reply_to
    return HeldMessage(id, row.at, Person(row.person, row.name), row.text, row.why, reply_to)


def is_limited(rules: Any) -> bool:
    if not isinstance(rules, str):
        return False
    decoded = _decode_rules(rules)
    return bool(decoded.keep_s or decoded.keep_events)
