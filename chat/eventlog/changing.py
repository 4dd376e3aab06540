"""What an act does to what is stored: messages get another text, go, or get reactions; the event tells of it.

For the writer's thread, inside a batch. Invariants: an act is refused before anything of it is
written; what is removed leaves `removed` in its place with its `client_id`, so that seqs stay
contiguous and a retry is still known; a message's body has its reactions as the table has them.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile
from typing import cast

from msgspec import UNSET
from msgspec.json import Decoder

from chat.eventlog import (
    MOST_RECORDS,
    REACTED_BYTES,
    RETOLD_REACTIONS,
    Change,
    Editing,
    Purging,
    Reacting,
    Refusing,
    Removing,
    no_held,
    no_message,
    somebody_elses,
    too_late,
)
from chat.eventlog.placing import Placing, Tail
from chat.eventlog.reading import ANNOUNCING, SPOKEN
from chat.protocol import (
    REACTIONS,
    REACTORS,
    Event,
    Message,
    MessageReactions,
    Person,
    Reacted,
    Reaction,
    Record,
    Removed,
    RulesChanged,
    decode_message,
    encode,
)

# `Removed`, as `encode` would write it: SQLite removes all of somebody in one statement, while the loop goes on.
_REMOVED = """CAST('{"type":"removed","seq":' || seq || ',"at":' || at || '}' AS BLOB)"""
_HIS = f"person = ? AND room = ? AND {SPOKEN}"

_decode_rules_changed = Decoder(RulesChanged).decode


def change(placing: Placing, asked: Change) -> int:
    """Do what is asked: the seq of its event, or 0; raises ProtocolError."""
    tail = placing.tail(asked.room)
    seq = _do(placing, tail, asked)
    for event, work, record in asked.further:
        _do(placing, tail, replace(asked, event=event, work=work, record=record, entries={}, claim={}))
    return seq


def _do(placing: Placing, tail: Tail, asked: Change) -> int:
    placing.flush()  # what is changed may have been said in this very batch
    if asked.work is None:
        return _store_act(placing, tail, asked)
    return _DEEDS[type(asked.work)](placing, tail, asked)


def _store_act(placing: Placing, tail: Tail, asked: Change) -> int:
    """What every act leaves: its event, the order as it is now, a line in the moderators' log."""
    seq = placing.add_event(tail, asked.event, asked.by) if asked.event is not None else 0
    if type(asked.event) is RulesChanged:
        _take_down(placing, tail, asked.event)
    placing.enter(tail, {**asked.claim, **asked.entries})
    if asked.record is not None:
        _record(placing, tail, asked.record)
    return seq


def _take_down(placing: Placing, tail: Tail, changed: RulesChanged) -> None:
    """An announcement that stands no longer goes from the events that told the rules while it did."""
    stands = changed.rules.announcement
    told = f"SELECT body FROM {ANNOUNCING} AND room = ? AND seq < ? ORDER BY seq DESC"
    rows = placing.db.execute(told, (tail.room, changed.seq))
    events = (_decode_rules_changed(body) for (body,) in rows)
    for event in list(takewhile(lambda event: event.rules.announcement != stands, events)):
        event.rules.announcement = None
        placing.rewrite(tail, event)
        placing.batch.is_removing = True


def _record(placing: Placing, tail: Tail, record: Record) -> None:
    (last,) = placing.db.execute("SELECT ifnull(max(id), 0) FROM acts WHERE room = ?", (tail.room,)).fetchone()
    record.id, record.at = last + 1, placing.now(tail)
    whom = record.whom.id if record.whom else None
    row = (tail.room, record.id, record.at, record.by.id, whom, encode(record))
    placing.db.execute("INSERT INTO acts VALUES (?, ?, ?, ?, ?, ?)", row)
    placing.db.execute("DELETE FROM acts WHERE room = ? AND id <= ?", (tail.room, record.id - MOST_RECORDS))


# Messages


def _edit(placing: Placing, tail: Tail, asked: Change) -> int:
    work = cast(Editing, asked.work)
    message = _message(placing, tail, work.message, work.person)
    if message.at < work.since_ms:
        raise too_late()
    seq = _store_act(placing, tail, asked)
    _remove_edit(placing, tail, message)
    message.text, message.edited, message.edit = work.text, placing.now(tail), seq or UNSET
    placing.rewrite(tail, message)
    placing.batch.is_removing = True
    return seq


def _remove(placing: Placing, tail: Tail, asked: Change) -> int:
    work = cast(Removing, asked.work)
    message = _message(placing, tail, work.message, work.person)
    if asked.record is not None and asked.record.by.id == message.by.id:
        asked.record = None
    _note_whose(asked, message.by)
    seq = _store_act(placing, tail, asked)
    _remove_edit(placing, tail, message)
    placing.rewrite(tail, Removed(message.seq, message.at))
    placing.db.execute("DELETE FROM reactions WHERE room = ? AND seq = ?", (tail.room, message.seq))
    placing.batch.is_removing = True
    return seq


def _note_whose(asked: Change, author: Person) -> None:
    if asked.record is not None and asked.record.whom is None:
        asked.record.whom = author


def _remove_edit(placing: Placing, tail: Tail, message: Message) -> None:
    """The event of a message's newest edit goes, the only one that still has its text."""
    if message.edit is UNSET:
        return
    row = placing.db.execute("SELECT at FROM events WHERE room = ? AND seq = ?", (tail.room, message.edit)).fetchone()
    placing.rewrite(tail, Removed(message.edit, row[0]))


def _message(placing: Placing, tail: Tail, seq: int, person: str | None) -> Message:
    """A message as it is stored; raises ProtocolError if there is none, or somebody else said it."""
    message = _found(placing, tail, seq)
    if message is None:
        raise no_message()
    if person not in (None, message.by.id):
        raise somebody_elses()
    return message


def _found(placing: Placing, tail: Tail, seq: int) -> Message | None:
    row = placing.db.execute(
        "SELECT body FROM events WHERE room = ? AND seq = ? AND seq >= ? AND type = 'message'",
        (tail.room, seq, tail.first),
    ).fetchone()
    return None if row is None else decode_message(row[0])


# Somebody altogether


def _purge(placing: Placing, tail: Tail, asked: Change) -> int:
    person = cast(Purging, asked.work).person
    seq = _store_act(placing, tail, asked)
    remove_all(placing, tail, person)
    changes = take_back_reactions(placing, tail, person)
    _tell_reactions(placing, tail, changes[:RETOLD_REACTIONS])
    _drop_held(placing, tail, person)
    return seq


def _drop_held(placing: Placing, tail: Tail, person: str) -> None:
    """What waits for review is something he said, too."""
    his = "room = ? AND person = ? AND refused = 0"
    forget = f"UPDATE held SET refused = 1, text = '', reply_to = NULL, at = ? WHERE {his}"
    if placing.db.execute(forget, (placing.batch.now, tail.room, person)).rowcount:
        tail.held.update({key: True for key in tail.held if key[0] == person})


def remove_all(placing: Placing, tail: Tail, person: str) -> int:
    """All that somebody said becomes `removed`; returns how many rows those were."""
    placing.flush()
    db, his = placing.db, (person, tail.room)
    retold = db.execute(f"SELECT seq, at FROM events WHERE {_HIS} AND seq >= ?", (*his, placing.retold_from(tail)))
    for seq, at in retold.fetchall():
        placing.retell(tail, Event(seq, at, encode(Removed(seq, at))))
    db.execute(f"DELETE FROM reactions WHERE room = ? AND seq IN (SELECT seq FROM events WHERE {_HIS})", (his[1], *his))
    placing.batch.rewritten.add(tail.name)
    placing.batch.is_removing = True
    return db.execute(f"UPDATE events SET type = 'removed', body = {_REMOVED} WHERE {_HIS}", his).rowcount


def take_back_reactions(placing: Placing, tail: Tail, person: str) -> list[MessageReactions]:
    """Somebody's reactions go: what is left at each message that had one, the newest first."""
    where = "room = ? AND person = ?"
    seqs = [
        seq
        for (seq,) in placing.db.execute(
            f"SELECT DISTINCT seq FROM reactions WHERE {where} ORDER BY seq DESC", (tail.room, person)
        )
    ]
    placing.db.execute(f"DELETE FROM reactions WHERE {where}", (tail.room, person))
    return _retold(placing, tail, (message for seq in seqs if (message := _found(placing, tail, seq))))


# Reactions


def _react(placing: Placing, tail: Tail, asked: Change) -> int:
    work = cast("list[Reacting]", asked.work)
    named = dict.fromkeys(each.message for each in work)
    messages = {seq: message for seq in named if (message := _found(placing, tail, seq))}
    if work and not messages:
        raise no_message()
    asked.refused.update((seq, no_message()) for seq in named if seq not in messages)
    for reacting in work:
        if reacting.message in messages:
            _turn(placing, tail, reacting)
    changes = _retold(placing, tail, messages.values())
    if not changes:
        return 0
    placing.enter(tail, {**asked.claim, **asked.entries})
    return _tell_reactions(placing, tail, changes)


def _tell_reactions(placing: Placing, tail: Tail, changes: list[MessageReactions]) -> int:
    """Tell them in as many events as it takes, as a large one would cut off whoever hears it; the last one's seq."""
    told: list[MessageReactions] = []
    seq = told_bytes = 0
    for change in changes:
        change_bytes = len(encode(change))
        if told and told_bytes + change_bytes > REACTED_BYTES:
            seq, told, told_bytes = placing.add_event(tail, Reacted(0, 0, told), ""), [], 0
        told.append(change)
        told_bytes += change_bytes
    return placing.add_event(tail, Reacted(0, 0, told), "") if told else seq


def _turn(placing: Placing, tail: Tail, reacting: Reacting) -> None:
    key = (tail.room, reacting.message, reacting.kind, reacting.by.id)
    if reacting.on:
        insert = "INSERT OR IGNORE INTO reactions (room, seq, kind, person, name) VALUES (?, ?, ?, ?, ?)"
        placing.db.execute(insert, (*key, reacting.by.name))
    else:
        placing.db.execute("DELETE FROM reactions WHERE room = ? AND seq = ? AND kind = ? AND person = ?", key)


def _retold(placing: Placing, tail: Tail, messages: Iterable[Message]) -> list[MessageReactions]:
    """Rewrite the messages whose reactions are not as in the table; returns those."""
    changes = []
    for message in messages:
        reactions = _reactions(placing, tail, message.seq)
        if reactions != (message.reactions or []):
            message.reactions = reactions or UNSET
            placing.rewrite(tail, message)
            changes.append(MessageReactions(message.seq, reactions))
    return changes


def _reactions(placing: Placing, tail: Tail, seq: int) -> list[Reaction]:
    counted = "SELECT kind, count(*) FROM reactions WHERE room = ? AND seq = ? GROUP BY kind"
    counts = dict(placing.db.execute(counted, (tail.room, seq)))
    first = "SELECT person, name FROM reactions WHERE room = ? AND seq = ? AND kind = ? ORDER BY id LIMIT ?"
    return [
        Reaction(
            kind, counts[kind], [Person(*row) for row in placing.db.execute(first, (tail.room, seq, kind, REACTORS))]
        )
        for kind in REACTIONS
        if kind in counts
    ]


# Held messages


def _refuse(placing: Placing, tail: Tail, asked: Change) -> int:
    held = cast(Refusing, asked.work).held
    waits = "SELECT person, client_id, name FROM held WHERE room = ? AND id = ? AND refused = 0"
    row = placing.db.execute(waits, (tail.room, held)).fetchone()
    if row is None:
        raise no_held()
    _note_whose(asked, Person(row[0], row[2]))
    forget = "UPDATE held SET refused = 1, text = '', reply_to = NULL, at = ? WHERE id = ?"
    placing.db.execute(forget, (placing.batch.now, held))
    if row[1]:
        tail.held[row[0], row[1]] = True
    placing.batch.rewritten.add(tail.name)
    placing.batch.is_removing = True
    return _store_act(placing, tail, asked)


_DEEDS = {Editing: _edit, Removing: _remove, Purging: _purge, list: _react, Refusing: _refuse}
