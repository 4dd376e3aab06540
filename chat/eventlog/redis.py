"""The event log on Redis: what several servers share, each hearing of the others' events by subscription.

One script stores a batch of a room: it gives the seqs, remembers the `client_id`s and publishes, all in one step
(lua/commit.lua). A batch has a token, so that it may be sent again after its answer was lost. What is told comes from
the subscription alone, this server's own events, too. Runs on the loop. Invariants: a room is subscribed to before it
is read; its events are told in the order of their seqs, and a hole is read from the log; what a batch stored is told
after those who asked were answered; after a line was lost a hole is assumed; an epoch belongs to one run of Redis.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

import msgspec
from prometheus_client import Counter
from redis.exceptions import RedisError, ResponseError

from chat.eventlog import (
    BATCH_DRAFTS,
    HELD_SHOWN,
    MOST_HELD,
    RETOLD,
    Change,
    Draft,
    News,
    Opening,
    Slice,
    commit_seconds,
    commits,
    is_ours,
    keys,
    log_away,
    no_held,
    no_message,
    not_stored,
    stored_events,
)
from chat.eventlog.line import ANSWER_S, Line, LineLost, Subscription
from chat.eventlog.meeting import Meeting
from chat.eventlog.planning import Plan, plan
from chat.eventlog.readings import Readings
from chat.eventlog.translating import (
    TRIMMED,
    Outcome,
    Told,
    decode_held,
    decode_told,
    deed_of,
    event_of,
    events_of,
    held_message_of,
    is_limited,
    kicked_in,
    opening_of,
    outcome_of,
    slice_of,
)
from chat.protocol import MAX_PAGE_BYTES, Event, HeldMessage, ProtocolError

log = logging.getLogger("chatroom")

Result = TypeVar("Result")

WAIT_S = 5.0  # that something asked waits for a Redis that is away, before it is `not_stored`
LINGER_S = 30.0  # that a room is listened to when nobody is in it: who comes back soon finds it at hand
BEAT_S, SILENT_S = 4.0, 10.0  # between two signs of life; without one a server is gone, with its people
CLOSE_S = 2.0  # for what was asked before the end
_PROBE_LASTS_S = 1.0
_PROBE_BYTES = 64 * 1024
_RETRY_S = 0.5
_CLEARED = 1000  # events in one step
_TRIES = 100  # of an act whose room changes whenever it is planned
_ALL_BYTES = 1 << 40

_missed = Counter("chatroom_missed_events", "Events read from the log because the subscription had missed them")

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class _Stored(NamedTuple):
    """An answer to each deed, and whether the room was unused before."""

    answers: list[Any]
    was_unused: bool


class _Keeping(NamedTuple):
    """A room that is to let go of what is too old."""

    since_ms: int
    events: int
    done: Callable[[Outcome], None]


class _Clearing(NamedTuple):
    """What a room has let go of is taken away, a step at a time."""

    done: Callable[[Outcome], None]


Asked = Draft | Change | _Keeping | _Clearing


class _Room:
    """A room that this server writes to and listens to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys = keys.keys_of(name)
        self.asked: list[Asked] = []
        self.writing: asyncio.Task[None] | None = None
        self.batch = ""  # the token of what is being stored: what it tells waits until it is answered
        self.unheard: set[str] = set()  # tokens of what was stored and told, but not heard yet
        self.queue: deque[Told] = deque()  # what was heard and is not shown yet
        self.seq = 0  # up to which all was shown
        self.rewritings = 0  # how many there were then
        self.epoch = ""  # in which it was shown
        self.is_known = False  # whether it was looked at since it is listened to
        self.caught_up = asyncio.Event()  # nothing was missed, as far as is known
        self.catching_up: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self.asked or self.writing or self.unheard or self.queue)


class RedisLog:
    """The promise of `EventLog`, kept by one Redis, for as many servers as use it."""

    def __init__(self, url: str) -> None:
        """Look at the Redis there; raises LogRefused."""
        self.storing = True
        self.on_events: Callable[[str, list[Event], dict[int, bytes]], None] = lambda room, events, changed: None
        self.on_storing: Callable[[bool], None] = lambda storing: None
        self.on_news: Callable[[str, News], None] = lambda room, news: None
        self.on_telling: Callable[[str, bytes], None] = lambda room, payload: None
        self.on_following: Callable[[str], None] = lambda room: None
        self.on_server_gone: Callable[[str], None] = lambda server: None
        self.on_epoch: Callable[[str, Opening], None] = lambda room, opening: None
        self.on_lost: Callable[[str], None] = lambda room: None
        self._meeting = Meeting(url)
        for warning in self._meeting.warnings:
            log.warning("%s", warning)
        self.server = secrets.token_urlsafe(9)
        self._servers: dict[str, float] = {}  # the others, and when each was heard of
        self._beating: asyncio.Task[None] | None = None
        self._batches = 0
        self._rooms: dict[str, _Room] = {}
        self._by_channel: dict[str, _Room] = {}
        self._readings = Readings()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stored_s = -_PROBE_LASTS_S
        self._retry: asyncio.TimerHandle | None = None
        self._line = Line(url, self._meeting.greet, self._note_line)
        self._subscription = Subscription(
            url, always=keys.SERVERS, on_subscribed=self._subscribed, on_told=self._hear, on_lost=self._miss
        )

    @property
    def epoch(self) -> str:
        return self._meeting.epoch

    @property
    def epochs(self) -> dict[str, int]:
        return self._meeting.epochs

    @property
    def place(self) -> str:
        return f"Redis at {self._meeting.place}: {self._meeting.durability}"

    @property
    def secret(self) -> str:
        """What all servers of this log sign with, unless they are given another."""
        return self._meeting.secret

    # Appending

    def append(self, asked: Draft | Change) -> None:
        self._ask(asked.room, asked)

    def _ask(self, name: str, asked: Asked) -> None:
        room = self._follow(name)
        room.asked.append(asked)
        self._idle.clear()
        if room.writing is None:
            room.writing = asyncio.ensure_future(self._write(room))

    async def _write(self, room: _Room) -> None:
        """Store what is asked of a room, one batch after the other: what comes meanwhile shares the next."""
        try:
            while room.asked:
                drafts = list(takewhile(lambda each: isinstance(each, Draft), room.asked[:BATCH_DRAFTS]))
                batch: list[Asked] = [*drafts] or room.asked[:1]
                del room.asked[: len(batch)]
                await self._store(room, batch)
        finally:
            room.writing = None
            self._note_idle()

    async def _store(self, room: _Room, batch: list[Asked]) -> None:
        """Have a batch stored and answer those who asked; what it tells is shown after that."""
        outcomes: list[Outcome] = [not_stored()] * len(batch)
        error: Exception | None = OSError("a fault of ours")
        try:
            async with asyncio.timeout(WAIT_S):
                await room.caught_up.wait()
                self._batches += 1
                room.batch = f"{self.server}:{self._batches}"
                with commit_seconds.time():
                    outcomes = await self._outcomes(room, batch)
            error = None
        except ProtocolError as refusal:
            outcomes, error = [refusal.with_traceback(None)], None
        except (RedisError, TimeoutError) as failed:
            error = failed
            if isinstance(failed, ResponseError) and str(failed).startswith("LOST"):
                self._doubt()
        finally:
            self._answer(room, batch, outcomes, error)

    def _answer(self, room: _Room, batch: list[Asked], outcomes: list[Outcome], error: Exception | None) -> None:
        commits.labels("failed" if error else "stored").inc()
        try:
            for each, outcome in zip(batch, outcomes, strict=True):
                each.done(outcome)
        finally:  # a fault of one listener must not be the end of all commits
            room.batch = ""
            self._note_storing(error)
            self._show(room)

    def _doubt(self) -> None:
        log.error("Redis has forgotten what it was told: another epoch begins")
        self._meeting.is_doubted = True
        self._line.renew()

    async def _outcomes(self, room: _Room, batch: list[Asked]) -> list[Outcome]:
        match batch[0]:
            case Draft():
                drafts = [each for each in batch if isinstance(each, Draft)]
                answers, was_unused = await self._commit(room, [], [deed_of(draft) for draft in drafts])
                for draft in drafts:
                    draft.claim = draft.claim if was_unused else {}
                return [outcome_of(draft, answer) for draft, answer in zip(drafts, answers, strict=True)]
            case Change() as change:
                return [await self._change(room, change)]
            case _Keeping(since_ms, events):
                return list((await self._commit(room, [], [("trim", since_ms, events, TRIMMED)])).answers)
            case _Clearing():
                return list((await self._commit(room, [], [("clear", _CLEARED)])).answers)

    async def _change(self, room: _Room, asked: Change) -> int:
        """Plan an act and store it, as often as it takes until nothing has come in between."""
        for _ in range(_TRIES):
            planned = Plan(room.keys, lambda commands: self._look_at(room, commands))
            await plan(planned, asked)
            if not planned.deeds:
                return 0
            answers, was_unused = await self._commit(room, planned.seen, planned.deeds)
            if answers:
                asked.claim = asked.claim if was_unused else {}
                seqs = [answer for deed, answer in zip(planned.deeds, answers, strict=True) if deed[0] == "event"]
                return int(seqs[-1 if isinstance(asked.work, list) else 0]) if seqs else 0
        raise not_stored()

    async def _look_at(self, room: _Room, commands: list[Any]) -> Any:
        while True:
            try:
                return await self._ask_now(room.keys, "look", commands)
            except LineLost:
                await self._line.up()

    async def _commit(self, room: _Room, seen: list[Any], deeds: list[Any]) -> _Stored:
        """The answer to each deed; none if what was seen is no longer so."""
        now_ms = _now_ms()
        of_batch = room.keys.of_batch(room.batch, now_ms)
        packed = (_pack(seen), _pack(deeds))
        while True:
            epoch = str(self.epochs[self.epoch])
            asked = (len(of_batch), *of_batch, room.batch, epoch, now_ms, room.seq, *packed, MOST_HELD, self.epoch)
            try:
                answer = await self._line.call("EVALSHA", self._meeting.scripts["commit"], *asked)
                break
            except LineLost:  # whether it was done or not: the same batch is not done twice
                await self._line.up()
        if answer == b"changed":
            return _Stored([], False)
        is_told, answers, count, was_unused = _unpack(answer)
        stored_events.inc(count)
        if is_told and all(told.by != room.batch for told in room.queue):
            room.unheard.add(room.batch)
        return _Stored(answers, was_unused)

    # Letting go

    async def keep(self, room: str, since_ms: int, events: int) -> None:
        if not await self._read(room, "has_too_many", since_ms, events):
            return
        kept: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._ask(room, _Keeping(since_ms, events, lambda outcome: None if kept.done() else kept.set_result(outcome)))
        outcome = await kept
        if isinstance(outcome, ProtocolError):
            raise outcome
        self._clear(room, 1)

    def _clear(self, room: str, left: Outcome) -> None:
        if isinstance(left, int) and left > 0:
            self._ask(room, _Clearing(lambda outcome: self._clear(room, outcome)))

    # Whether it can store

    def _note_storing(self, error: Exception | None) -> None:
        """Tell the rooms when storing begins or ceases to fail; while it fails, try again by itself."""
        storing = error is None
        if storing:
            self._stored_s = asyncio.get_running_loop().time()
        if storing != self.storing:
            self.storing = storing
            if error is not None:
                log.error("Redis cannot store: %s", _sentence(error))
            self.on_storing(storing)
        if not storing and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_PROBE_LASTS_S, self._probe_again)

    def _note_line(self, error: Exception | None) -> None:
        self._note_storing(error)
        if error is None:
            for room in self._rooms.values():
                if room.is_known:
                    self._fall_behind(room)

    def _probe_again(self) -> None:
        self._retry = None
        probing = asyncio.ensure_future(self._probe())
        probing.add_done_callback(lambda _: probing.cancelled() or probing.exception())

    async def probe(self) -> None:
        if self.storing and asyncio.get_running_loop().time() - self._stored_s < _PROBE_LASTS_S:
            return
        await self._probe()

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._line.call("SET", f"{keys.PREFIX}probe", b"x" * _PROBE_BYTES, "EX", 60)
        except LineLost as error:  # which is noted where it is found out
            raise OSError("the log cannot store: Redis cannot be reached") from error
        except (RedisError, TimeoutError) as error:
            self._note_storing(error)
            raise OSError(f"the log cannot store: {error}") from error
        self._note_storing(None)

    # Hearing

    def _follow(self, name: str) -> _Room:
        """A room that is listened to from now on."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = _Room(name)
            self._by_channel[room.keys.room] = room
            self._subscription.subscribe(room.keys.room)
            self._beating = self._beating or asyncio.ensure_future(self._beat())
        return room

    def _subscribed(self, channel: str) -> None:
        if channel == keys.SERVERS:
            self._servers = dict.fromkeys(self._servers, asyncio.get_running_loop().time())
        if (room := self._by_channel.get(channel)) is not None:
            self._fall_behind(room)

    def _miss(self, error: Exception) -> None:
        """Nothing is heard for the moment; the other line may not know yet that it is broken, too."""
        if self.storing:
            log.warning("Redis cannot be heard: %s", _sentence(error))
            self._line.call("PING").add_done_callback(_ignored)

    def _hear(self, channel: str, payload: bytes) -> None:
        if channel == keys.SERVERS:
            self._servers[payload.decode("utf-8", "replace")] = asyncio.get_running_loop().time()
            return
        room = self._by_channel.get(channel)
        if room is None:
            return
        try:
            if payload.startswith(b'{"kind":'):
                self.on_telling(room.name, payload)
                return
            told = decode_told(payload)
        except msgspec.DecodeError:
            log.warning("somebody else speaks on our channel %s: ignored", ascii(channel))
            return
        if told.epoch != self.epoch:  # another server has found out that Redis is another one
            self._line.renew()
        room.unheard.discard(told.by)
        room.queue.append(told)
        self._show(room)

    def _show(self, room: _Room) -> None:
        """Show what was heard, up to a hole, or to what its speakers are not answered for yet."""
        while room.queue and room.caught_up.is_set() and room.queue[0].by != room.batch:
            told = room.queue.popleft()
            if told.events and told.seq > room.seq + 1:
                self._fall_behind(room)
                return
            events = told.after(room.seq)
            if told.rewritings > room.rewritings:
                self._readings.outdate(room.name)
                room.rewritings = told.rewritings
            room.seq += len(events)
            self.on_news(
                room.name, News(told.order, told.held, told.by.startswith(f"{self.server}:"), kicked_in(events))
            )
            self.on_events(room.name, events, {int(seq): bytes(body) for seq, body in told.changed.items()})
        if room.catching_up is None and not room.caught_up.is_set() and not room.batch:
            room.catching_up = asyncio.ensure_future(self._catch_up(room))
        self._note_idle()

    def _fall_behind(self, room: _Room) -> None:
        """Something was missed, or may have been."""
        room.caught_up.clear()
        self._show(room)

    async def _catch_up(self, room: _Room) -> None:
        """Read what was missed; nothing is stored meanwhile, so that nobody hears his message before his ack."""
        room.queue.clear()
        await self._surely(lambda: self._line.call("SADD", keys.ROOMS, room.name))
        if not room.is_known:
            room.seq, room.rewritings = await self._surely(lambda: self._read_now(room.keys, "state"))
            room.epoch = self.epoch
            room.is_known = True
        else:
            await self._surely(lambda: self._fill(room))
        room.unheard.clear()
        room.catching_up = None
        room.caught_up.set()
        self.on_following(room.name)
        self._show(room)

    async def _fill(self, room: _Room) -> None:
        """Show what was stored meanwhile, and what was rewritten; or say that what was shown is lost."""
        found = await self._read_now(room.keys, "opening", 0, 0)
        opening, rewritings = opening_of(found), found[-1]
        first, head = opening.first, opening.head
        if not is_ours(self.epochs, opening, self.epoch, head, room.epoch, room.seq):
            log.error("room %s has lost what was shown of it: its members begin anew", ascii(room.name))
            room.seq, room.rewritings, room.epoch = head, rewritings, self.epoch
            asked, room.asked = room.asked, []
            for each in asked:  # of a past that is gone: a seq may be another message by now
                each.done(not_stored())
            self.on_lost(room.name)
            return
        missed = await self._events_after(room, room.seq, head)
        changed: list[Event] = []
        if rewritings != room.rewritings:
            self._readings.outdate(room.name)
            changed = await self._events_after(room, max(first - 1, head - RETOLD), room.seq)
        if room.epoch != self.epoch:
            room.epoch = self.epoch
            self.on_epoch(room.name, opening)
        _missed.inc(len(missed))
        room.seq, room.rewritings = head, rewritings
        self.on_news(room.name, News(opening.entries, opening.held, False, kicked_in(missed), is_all=True))
        if missed or changed:
            self.on_events(room.name, missed, {event.seq: event.body for event in changed})

    async def _events_after(self, room: _Room, seq: int, head: int) -> list[Event]:
        events: list[Event] = []
        while seq < head:
            _, _, start, bodies = await self._read_now(room.keys, "after", seq, head - seq, MAX_PAGE_BYTES)
            if not bodies:
                break
            events += events_of(start, bodies)
            seq = events[-1].seq
        return events

    async def _surely(self, read: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await read()
            except LineLost:
                await self._line.up()
            except RedisError as error:
                log.warning("what was missed could not be read yet: %s", _sentence(error))
                await asyncio.sleep(_RETRY_S)

    def tell(self, room: str, payload: bytes) -> None:
        self._line.call("PUBLISH", keys.keys_of(room).room, payload).add_done_callback(_ignored)

    async def _beat(self) -> None:
        """Say that this server lives, and look whether the others do."""
        loop = asyncio.get_running_loop()
        while True:
            self._line.call("PUBLISH", keys.SERVERS, self.server).add_done_callback(_ignored)
            await asyncio.sleep(BEAT_S)
            for server, heard_s in list(self._servers.items()):
                if self.storing and loop.time() - heard_s > SILENT_S:
                    del self._servers[server]
                    self.on_server_gone(server)

    def close_room(self, name: str) -> None:
        """Nobody is in it any more: it is listened to a little longer, as who left may come back."""
        room = self._rooms.get(name)
        if room is not None:
            if room.linger is not None:
                room.linger.cancel()
            room.linger = asyncio.get_running_loop().call_later(LINGER_S, self._unfollow, room)

    def _unfollow(self, room: _Room) -> None:
        room.linger = None
        if room.is_busy or room.catching_up is not None:
            self.close_room(room.name)
            return
        del self._rooms[room.name], self._by_channel[room.keys.room]
        self._subscription.unsubscribe(room.keys.room)

    # Reading

    async def open_room(self, room: str, recent: int) -> Opening:
        followed = self._follow(room)
        if followed.linger is not None:
            followed.linger.cancel()
            followed.linger = None
        try:
            async with asyncio.timeout(WAIT_S):
                await followed.caught_up.wait()
        except TimeoutError:
            raise log_away() from None
        return opening_of(await self._read(room, "opening", recent, MAX_PAGE_BYTES))

    async def before(self, room: str, seq: int | None, limit: int) -> Slice:
        found = await self._read(room, "before", False if seq is None else seq, limit, MAX_PAGE_BYTES)
        bound = found[1] + 1 if seq is None else seq
        return slice_of(found, bound, bound - 1)

    async def after(self, room: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
        return slice_of(await self._read(room, "after", seq, limit, max_bytes), seq + 1, seq)

    async def around(self, room: str, seq: int, limit: int) -> Slice:
        found = await self._read(room, "around", seq, limit, MAX_PAGE_BYTES)
        if not found:
            raise no_message()
        return slice_of(found, seq, seq)

    async def since(self, room: str, at: int, limit: int) -> Slice:
        found = await self._read(room, "since", at, limit, MAX_PAGE_BYTES)
        return slice_of(found, found[2], found[2] - 1)

    async def bytes_after(self, room: str, seq: int) -> int:
        return int(await self._read(room, "bytes_after", seq))

    async def head(self, room: str) -> int:
        return int(await self._read(room, "head"))

    async def said_by(self, room: str, person: str, before: int | None, limit: int) -> Slice:
        asked = (person, False if before is None else before, limit, MAX_PAGE_BYTES)
        found, is_more = await self._read(room, "said_by", *asked)
        return Slice([event_of(seq, body) for seq, body in found], is_more, False)

    async def spoke_before(self, room: str, people: list[str], at: int) -> set[str]:
        return set(await self._read(room, "spoke_before", people, at))

    async def name_of(self, room: str, person: str) -> str | None:
        return await self._read(room, "name_of", person) or None

    async def acts(self, room: str, before: int | None, limit: int, person: str | None) -> tuple[list[bytes], bool]:
        bound = False if before is None else before
        bodies = await self._read(room, "acts", bound, limit + 1, person or False)
        return [body.encode() for body in bodies[:limit]], len(bodies) > limit

    async def held(self, room: str) -> list[HeldMessage]:
        shown: list[HeldMessage] = []
        left_bytes = MAX_PAGE_BYTES
        for id, body in (await self._read(room, "held"))[:HELD_SHOWN]:
            left_bytes -= len(body.encode())
            if shown and left_bytes < 0:
                break
            shown.append(held_message_of(id, decode_held(body)))
        return shown

    async def held_message(self, room: str, id: int) -> tuple[HeldMessage, str | None]:
        body = await self._read(room, "held_message", id)
        if not body:
            raise no_held()
        row = decode_held(body)
        return held_message_of(id, row), row.client_id

    async def held_count(self, room: str) -> int:
        return int(await self._read(room, "held_count"))

    async def names(self, *, limited: bool = False) -> list[str]:
        names = sorted(name.decode() for name in await self._surely(lambda: self._line.call("SMEMBERS", keys.ROOMS)))
        question = "rules" if limited else "is_used"
        answers = await asyncio.gather(*(self._read(name, question) for name in names))
        return [name for name, answer in zip(names, answers, strict=True) if is_limited(answer) or answer is True]

    async def _read(self, name: str, what: str, *asked: Any) -> Any:
        """Raises ProtocolError `away` if Redis cannot be asked within WAIT_S."""
        of_room = self._rooms[name].keys if name in self._rooms else keys.keys_of(name)
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._readings.fresh(name, lambda _: self._read_by(of_room, what, *asked))
        except (RedisError, TimeoutError) as error:
            raise log_away() from error

    async def _read_by(self, of_room: keys.Keys, what: str, *asked: Any) -> Any:
        while True:
            try:
                return await self._read_now(of_room, what, *asked)
            except LineLost:
                await self._line.up()

    async def _read_now(self, of_room: keys.Keys, what: str, *asked: Any) -> Any:
        return _unpack(await self._ask_now(of_room, what, asked))

    def _ask_now(self, of_room: keys.Keys, what: str, asked: Sequence[Any]) -> "asyncio.Future[Any]":
        return self._line.call("EVALSHA", self._meeting.scripts["read"], len(of_room), *of_room, what, _pack(asked))

    # The end

    def _note_idle(self) -> None:
        if not self._idle.is_set() and not any(room.is_busy for room in self._rooms.values()):
            self._idle.set()

    async def settled(self) -> None:
        await self._idle.wait()

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._idle.wait()
        for timer in (self._retry, *(room.linger for room in self._rooms.values())):
            if timer is not None:
                timer.cancel()
        for room in self._rooms.values():
            if room.catching_up is not None:
                room.catching_up.cancel()
        if self._beating is not None:
            self._beating.cancel()
        await self._subscription.close()
        await self._line.close()


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _ignored(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
