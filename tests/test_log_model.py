"""The event log against a model of it: whatever is said and done, in whichever batches and over restarts.

The model is a list of events in memory; it knows no batch, no table and no file.
"""

import asyncio
import contextlib
import copy
import functools
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from chat.eventlog import Reacting, Refusing, placing, redis
from chat.protocol import (
    REACTIONS,
    Acted,
    Edited,
    HeldMessage,
    Message,
    MessageReactions,
    Person,
    Purged,
    Reacted,
    Reaction,
    Record,
    Removed,
    Trimmed,
    encode,
)
from tests.book import Book, Clock, MakeLog, deleting, editing, opened, purging, seqs
from tests.engines import redis_in

PEOPLE = [Person(letter * 16, f"{letter}-name") for letter in "abcdefghijkl"]
ROOMS = ("one", "two")
START_MS = 1_800_000_000_000


class Model:
    """One room."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: list[Any] = []
        self.first = 1
        self.stored: dict[tuple[str, str], int] = {}
        self.held: dict[int, tuple[HeldMessage, str]] = {}
        self.refused: set[tuple[str, str]] = set()
        self.reactions: dict[tuple[int, str], dict[str, Person]] = {}
        self.acts: list[Record] = []
        self.entries: dict[str, bytes] = {}

    @property
    def visible(self) -> list[Any]:
        return self.events[self.first - 1 :]

    @property
    def now(self) -> int:
        return max(self.clock.now_ms, self.events[-1].at if self.events else 0)

    def add(self, event: Any) -> int:
        event.seq, event.at = len(self.events) + 1, self.now
        self.events.append(event)
        return int(event.seq)

    def message(self, seq: int) -> Message | None:
        event = self.events[seq - 1] if self.first <= seq <= len(self.events) else None
        return event if isinstance(event, Message) else None

    def remove(self, seq: int) -> None:
        self.events[seq - 1] = Removed(seq, self.events[seq - 1].at)
        for kind in REACTIONS:
            self.reactions.pop((seq, kind), None)

    def restart(self) -> None:
        """The `client_id`s of what was let go of are not found again."""
        self.stored = {key: seq for key, seq in self.stored.items() if seq >= self.first}

    # What is asked, with its outcome

    def say(self, by: Person, text: str, client_id: str, reply_to: int | None, hold_for: str, next_held: int) -> Any:
        key = (by.id, client_id)
        if key in self.stored:
            return self.stored[key]
        if key in self.refused:
            return "refused"
        if any((held.by.id, its) == key for held, its in self.held.values()):
            return "held"
        if reply_to is not None and self.message(reply_to) is None:
            return "not_found"
        answers = UNSET if reply_to is None else reply_to
        if hold_for:
            held = HeldMessage(next_held, self.clock.now_ms, by, text, hold_for, answers)
            self.held[next_held] = held, client_id
            return "held"
        self.stored[key] = self.add(Message(0, 0, by, text, answers))
        return self.stored[key]

    def show(self, id: int) -> Any:
        if id not in self.held:
            return "not_found"
        held, client_id = self.held[id]
        if held.reply_to is not UNSET and self.message(held.reply_to) is None:
            return "not_found"
        del self.held[id]
        seq = self.add(Message(0, 0, held.by, held.text, held.reply_to))
        self.stored[held.by.id, client_id] = seq
        return seq

    def refuse(self, id: int) -> Any:
        if id not in self.held:
            return "not_found"
        held, client_id = self.held.pop(id)
        self.refused.add((held.by.id, client_id))
        return 0

    def edit(self, seq: int, by: Person, text: str, since_ms: int) -> Any:
        message = self.message(seq)
        if message is None:
            return "not_found"
        if message.by != by:
            return "forbidden"
        if message.at < since_ms:
            return "too_late"
        edit = self.add(Edited(0, 0, by, seq, text))
        if message.edit is not UNSET:
            self.remove(message.edit)
        message.text, message.edited, message.edit = text, self.events[-1].at, edit
        return edit

    def delete(self, seq: int, whose: Person | None) -> Any:
        message = self.message(seq)
        if message is None:
            return "not_found"
        if whose not in (None, message.by):
            return "forbidden"
        if message.edit is not UNSET:
            self.remove(message.edit)
        self.remove(seq)
        return self.add(deleting(seq)[1])

    def purge(self, whom: Person, by: Person) -> Any:
        seq = self.add(Purged(0, 0, whom.id, by))
        for event in self.events:
            if isinstance(event, Message | Edited) and event.by.id == whom.id:
                self.remove(event.seq)
        touched = sorted({at for (at, _), by_id in self.reactions.items() if whom.id in by_id}, reverse=True)
        for people in self.reactions.values():
            people.pop(whom.id, None)
        for id, (held, _) in list(self.held.items()):
            if held.by.id == whom.id:
                self.refuse(id)
        if changes := self.retold(touched):
            self.add(Reacted(0, 0, changes))
        return seq

    def react(self, work: list[Reacting]) -> Any:
        named = [seq for seq in dict.fromkeys(each.message for each in work) if self.message(seq)]
        if work and not named:
            return "not_found"
        for seq, kind, by, on in work:
            if seq not in named:
                continue
            people = self.reactions.setdefault((seq, kind), {})
            if on:
                people.setdefault(by.id, by)
            else:
                people.pop(by.id, None)
        changes = self.retold(named)
        return self.add(Reacted(0, 0, changes)) if changes else 0

    def retold(self, seqs: list[int]) -> list[MessageReactions]:
        changes = []
        for seq in seqs:
            if (message := self.message(seq)) is None:
                continue
            people = [(kind, list(self.reactions.get((seq, kind), {}).values())) for kind in REACTIONS]
            now = [Reaction(kind, len(by), by[:8]) for kind, by in people if by]
            if now != (message.reactions or []):
                message.reactions = now or UNSET
                changes.append(MessageReactions(seq, now))
        return changes

    def act(self, event: Acted | None, entries: dict[str, bytes | None], record: Record | None) -> Any:
        seq = self.add(event) if event else 0
        for key, body in entries.items():
            self.entries.pop(key, None)
            if body is not None:
                self.entries[key] = body
        if record:
            record.id, record.at = len(self.acts) + 1, self.now
            self.acts.append(record)
        return seq

    def keep(self, since_ms: int, count: int) -> None:
        first = next((event.seq for event in self.visible if event.at >= since_ms), len(self.events) + 1)
        counted = [event.seq for event in self.events if not isinstance(event, Trimmed)]
        if count and len(counted) > count:
            newest = counted[-count]
            while newest > 1 and isinstance(self.events[newest - 2], Trimmed):
                newest -= 1
            first = max(first, newest)
        if first <= self.first:
            return
        is_loss = any(isinstance(event, Message) for event in self.events[self.first - 1 : first - 1])
        self.first = first
        for event in self.visible:
            if isinstance(event, Edited) and event.message < first:
                self.remove(event.seq)
        if is_loss:
            self.add(Trimmed(0, 0, first))


class Play:
    """A log and its model, told the same."""

    def __init__(self, make_log: MakeLog, *, counts_held_by_room: bool) -> None:
        self.make_log, self.counts_held_by_room = make_log, counts_held_by_room
        self.clock = Clock(START_MS)
        self.models = {room: Model(self.clock) for room in ROOMS}
        self.mirror: dict[str, dict[int, bytes]] = {room: {} for room in ROOMS}  # as a room would have it
        self.asked: list[tuple[asyncio.Future[Any], Any]] = []
        self.held_ids = dict.fromkeys(ROOMS, 0)

    def held(self, room: str) -> int:
        """The id of what was held last: they count up in each room, or in all together."""
        return self.held_ids[room] if self.counts_held_by_room else sum(self.held_ids.values())

    def begin(self, book: Book) -> None:
        self.book = book
        tell = book.log.on_events

        def on_events(room: str, events: list[Any], changed: dict[int, bytes]) -> None:
            tell(room, events, changed)
            self.mirror[room].update(changed)
            self.mirror[room].update((event.seq, event.body) for event in events)

        book.log.on_events = on_events

    def do(self, what: str, a: int, b: int, c: int, d: int) -> None:
        """Ask for one thing; the numbers choose room, people and messages."""
        room, by = ROOMS[a % 2], PEOPLE[b % 4]
        model, book = self.models[room], self.book
        seq = max(1, len(model.events) - c % 12)
        if what == "say":
            reply_to = seq if d % 5 == 0 else None
            hold_for = "a word" if d % 7 == 0 else ""
            client_id, text = f"c{d % 40}", f"text {c} {d}"
            expected = model.say(by, text, client_id, reply_to, hold_for, self.held(room) + 1)
            if hold_for and self.held(room) + 1 in model.held:
                self.held_ids[room] += 1
            asked = book.ask(text, room=room, by=by, client_id=client_id, reply_to=reply_to, hold_for=hold_for)
        elif what == "show":
            id = max(1, self.held(room) - c % 4)
            held, client_id = model.held.get(id) or (HeldMessage(id, 0, by, "", ""), "none")
            reply_to = None if held.reply_to is UNSET else held.reply_to
            expected = model.show(id)
            asked = book.ask(held.text, room=room, by=held.by, client_id=client_id, reply_to=reply_to, held=id)
        elif what == "refuse":
            id = max(1, self.held(room) - c % 4)
            expected, asked = model.refuse(id), book.do(Refusing(id), room=room)
        elif what == "edit":
            since_ms = self.clock.now_ms - 5 if d % 4 == 0 else 0
            expected = model.edit(seq, by, f"edit {d}", since_ms)
            asked = book.do(*editing(seq, f"edit {d}", by, since_ms), room=room, by=by.id)
        elif what == "delete":
            whose = by if d % 2 else None
            expected, asked = model.delete(seq, whose), book.do(*deleting(seq, whose), room=room)
        elif what == "purge":
            whom = PEOPLE[c % 4]
            expected, asked = model.purge(whom, by), book.do(*purging(whom, by), room=room)
        elif what == "react":
            work = [
                Reacting(
                    max(1, len(model.events) - (c + n) % 9), REACTIONS[(d + n) % 2], PEOPLE[(b + n) % 12], n % 4 < 3
                )
                for n in range(d % 14)
            ]
            expected, asked = model.react(work), book.do(work, Reacted(0, 0, []), room=room)
        else:
            event = Acted(0, 0, "mute", by, PEOPLE[c % 4], 1) if d % 2 else None
            entries = {f"k{c % 5}": b"%d" % d if d % 3 else None}
            record = Record("mute", by, whom=PEOPLE[c % 4] if c % 2 else None) if d % 5 else None
            expected = model.act(copy.copy(event), entries, copy.copy(record))
            asked = book.do(None, event, room=room, entries=entries, record=record)
        self.asked.append((asked, expected))

    async def check(self) -> None:
        """Everything was answered, shown and stored as the model has it."""
        await self.book.log.settled()
        for asked, expected in self.asked:
            outcome = await asked
            assert (outcome if isinstance(outcome, int) else outcome.code) == expected
        self.asked = []
        for room, model in self.models.items():
            await self.check_pages(room, model)
            await self.check_rest(room, model)

    async def check_pages(self, room: str, model: Model) -> None:
        log, head = self.book.log, len(model.events)
        stored = await log.after(room, 0, 100_000, 1 << 40)
        expected = [(event.seq, event.at, encode(event)) for event in model.visible]
        assert [tuple(event) for event in stored.events] == expected
        assert not (stored.more_before or stored.more_after)
        assert {seq: body for seq, body in self.mirror[room].items() if seq >= model.first} == {
            seq: body for seq, _, body in expected
        }
        middle = (model.first + head) // 2
        for found in (await log.before(room, middle, 3), await log.after(room, middle, 3)):
            assert [tuple(event) for event in found.events] == [
                each for each in expected if each[0] in seqs(found.events)
            ]
        opening = await log.open_room(room, 10)
        assert [tuple(event) for event in opening.recent] == expected[-10:]
        assert (opening.head, opening.first, opening.entries) == (head, model.first, model.entries)
        assert opening.held == len(model.held)

    async def check_rest(self, room: str, model: Model) -> None:
        log = self.book.log
        assert await log.held(room) == [held for _, (held, _) in sorted(model.held.items())]
        for person in (None, PEOPLE[1].id):
            acts = [
                act
                for act in model.acts
                if person is None or person == act.by.id or (act.whom is not None and person == act.whom.id)
            ]
            assert await log.acts(room, None, 1000, person) == ([encode(act) for act in reversed(acts)], False)
        for by in PEOPLE[:4]:
            said = [event.seq for event in model.visible if isinstance(event, Message) and event.by == by]
            found = await log.said_by(room, by.id, None, 5)
            assert (seqs(found.events), found.more_before) == (said[-5:], len(said) > 5)
        said_by = {event.by.id for event in model.visible if isinstance(event, Message) and event.at < START_MS + 100}
        assert await log.spoke_before(room, [by.id for by in PEOPLE], START_MS + 100) == said_by


WHAT = ("say",) * 8 + ("react",) * 3 + ("edit",) * 3 + ("delete", "delete", "purge", "show", "refuse", "act")
Step = tuple[str, int, int, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(WHAT), *[st.integers(0, 1000)] * 4),
        st.tuples(st.sampled_from(("check", "restart", "keep", "later")), *[st.integers(0, 1000)] * 4),
    ),
    max_size=120,
)


@settings(deadline=None, database=None, max_examples=60, suppress_health_check=list(HealthCheck))
@example([("say", 0, 0, 0, 287), ("purge", 0, 0, 0, 0), ("say", 0, 0, 0, 287)])
@given(STEPS)
def test_the_log_on_sqlite_is_what_the_model_says(steps: list[Step]) -> None:
    """Every answer, every row, every page, and what a room was told, after each batch and each restart."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(steps, Play(functools.partial(opened, Path(folder)), counts_held_by_room=False)))


@settings(deadline=None, database=None, max_examples=30, suppress_health_check=list(HealthCheck))
@example([("say", 0, 0, 0, 287), ("purge", 0, 0, 0, 0), ("say", 0, 0, 0, 287)])
@given(STEPS)
def test_the_log_on_redis_is_what_the_model_says(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, redis_in(Path(folder)) as make_redis:
        asyncio.run(_play(steps, Play(make_redis, counts_held_by_room=True)))


async def _play(steps: list[Step], play: Play) -> None:
    with patch.object(placing, "time", play.clock), patch.object(redis, "time", play.clock):
        async with contextlib.AsyncExitStack() as log:
            play.begin(await log.enter_async_context(play.make_log()))
            for what, a, b, c, d in steps:
                if what not in ("check", "restart", "keep", "later"):
                    play.do(what, a, b, c, d)
                    continue
                await play.check()
                if what == "later":
                    play.clock.now_ms += c % 20 - 5
                elif what == "keep":
                    since_ms, events = (play.clock.now_ms - c % 60) * (b % 2), d % 20
                    await play.book.log.keep(ROOMS[a % 2], since_ms, events)
                    play.models[ROOMS[a % 2]].keep(since_ms, events)
                    await play.check()
                elif what == "restart":
                    await log.aclose()
                    for model in play.models.values():
                        model.restart()
                    play.begin(await log.enter_async_context(play.make_log()))
            await play.check()
