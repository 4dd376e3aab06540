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
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from prometheus_client import Counter
from redis.exceptions import RedisError, ResponseError

from chat.eventlog import (
    MOST_HELD,
    RETOLD,
    Change,
    Draft,
    News,
    Opening,
    asking,
    commit_seconds,
    commits,
    is_ours,
    keys,
    log_away,
    not_stored,
    overtaken,
    stored_events,
)
from chat.eventlog.asking import RedisReader
from chat.eventlog.following import Asked, Clearing, Keeping, Room
from chat.eventlog.line import ANSWER_S, Line, LineLost, Subscription, sentence
from chat.eventlog.meeting import Meeting
from chat.eventlog.planning import Plan, is_order, plan
from chat.eventlog.translating import (
    TRIMMED,
    Beat,
    Outcome,
    Told,
    decode_beat,
    decode_told,
    deed_of,
    encode_beat,
    events_of,
    kicked_in,
    opening_of,
    outcome_of,
)
from chat.faults import noted
from chat.protocol import MAX_PAGE_BYTES, Event, ProtocolError

log = logging.getLogger("chatroom")

LINGER_S = 30.0  # that a room is listened to when nobody is in it: who comes back soon finds it at hand
BEAT_S, SILENT_S = 4.0, 10.0  # between two signs of life; without one a server is gone, with its people
CLOSE_S = 2.0  # for what was asked before the end
_PROBE_LASTS_S = 1.0
_PROBE_BYTES = 64 * 1024
_MOST_MISSED = 10_000  # events that are read for those who are here: with more they come anew
_CLEARED = 1000  # events in one step
_TRIES = 100  # of an act whose room changes whenever it is planned

# A room has its name among the rooms before anything is stored in it; a Redis without a version was emptied.
_NAME_ROOM = """
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('LOST Redis was emptied') end
return redis.call('SADD', KEYS[2], ARGV[1])
"""

_missed = Counter("chatroom_missed_events", "Events read from the log because the subscription had missed them")

_NOT_OURS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # of what cannot be decoded

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class _Stored(NamedTuple):
    """An answer to each deed, and whether the room was unused before."""

    answers: list[Any]
    was_unused: bool


class RedisLog(RedisReader):
    """The promise of `EventLog`, kept by one Redis, for as many servers as use it."""

    def __init__(self, url: str) -> None:
        """Look at the Redis there; raises LogRefused."""
        self.storing = True
        self.on_events: Callable[[str, list[Event], dict[int, bytes]], None] = lambda room, events, changed: None
        self.on_storing: Callable[[bool], None] = lambda storing: None
        self.on_news: Callable[[str, News], None] = lambda room, news: None
        self.on_telling: Callable[[str, bytes], None] = lambda room, payload: None
        self.on_server_telling: Callable[[bytes], None] = lambda payload: None
        self.on_following: Callable[[str], None] = lambda room: None
        self.on_server_gone: Callable[[str], None] = lambda server: None
        self.on_epoch: Callable[[str, Opening], None] = lambda room, opening: None
        self.on_lost: Callable[[str], None] = lambda room: None
        self._meeting = Meeting(url)
        for warning in self._meeting.warnings:
            log.warning("%s", warning)
        self.server = secrets.token_urlsafe(9)
        self._servers: dict[str, float] = {}  # the others, and when each was heard of
        self._gone: set[str] = set()  # who was not heard of for long
        self._is_deaf = False
        self._beating: asyncio.Task[None] | None = None
        self._batches = 0
        self._rooms: dict[str, Room] = {}
        self._by_channel: dict[str, Room] = {}
        self._busy: set[Room] = set()  # of what was asked
        self._idle = asyncio.Event()
        self._idle.set()
        self._stored_s = -_PROBE_LASTS_S
        self._retry: asyncio.TimerHandle | None = None
        super().__init__(Line(url, self._meeting.greet, self._note_line), self._meeting.scripts["read"])
        self._subscription = Subscription(
            url,
            always=self._channel(keys.SERVERS),
            on_subscribed=self._subscribed,
            on_told=self._hear,
            on_lost=self._miss,
        )

    @property
    def epoch(self) -> str:
        return self._meeting.epoch

    @property
    def epochs(self) -> dict[str, int]:
        return self._meeting.epochs

    def _channel(self, name: str) -> str:
        return keys.channel(self._meeting.database, name)

    @property
    def place(self) -> str:
        return f"Redis at {self._meeting.place}: {self._meeting.durability}"

    @property
    def secret(self) -> str:
        """What all servers of this log sign with, unless they are given another."""
        return self._meeting.secret

    # Appending

    def append(self, asked: Draft | Change) -> None:
        if isinstance(asked, Change) and (room := self._rooms.get(asked.room)) is not None:
            asked.decided_on = room.heard_orders
        self._ask(asked.room, asked)

    def _ask(self, name: str, asked: Asked) -> None:
        room = self._follow(name)
        room.asked.append(asked)
        self._busy.add(room)
        self._idle.clear()
        if room.writing is None:
            room.writing = asyncio.ensure_future(self._write(room))

    async def _write(self, room: Room) -> None:
        """Store what is asked of a room, one batch after the other: what comes meanwhile shares the next."""
        try:
            while room.asked:
                await self._store(room)
        finally:
            room.writing = None
            if not room.is_open:
                self.close_room(room.name)
            self._note_idle(room)

    async def _store(self, room: Room) -> None:
        """Have a batch stored and answer those who asked; what it tells is shown after that."""
        batch: list[Asked] = []
        outcomes: list[Outcome] = []
        error: Exception | None = OSError("the server ends")
        try:
            async with asyncio.timeout(asking.WAIT_S):
                await room.caught_up.wait()  # which may find that what was asked is of a past that is gone
                batch = room.next_batch()
                self._batches += 1
                room.batch = f"{self.server}:{self._batches}"
                with commit_seconds.time():
                    outcomes = await self._outcomes(room, batch)
            error = None
        except ProtocolError as refusal:
            outcomes, error = [refusal.with_traceback(None)], None
        except TimeoutError as failed:
            error = failed
            if room.batch is not None:
                room.given_up.add(room.batch)
            batch, room.asked = [*batch, *room.asked], []  # they have waited for the same Redis
        except ResponseError as failed:
            error = failed
            if str(failed).startswith("BEHIND"):  # nothing of it was stored: it is asked again, of what there is now
                batch, room.asked, error = [], [*batch, *room.asked], None
                if room.epoch == self.epoch:
                    self._line.renew()
                self._fall_behind(room)
            elif str(failed).startswith("LOST"):
                self._doubt()
        except RedisError as failed:
            error = failed
        finally:
            self._answer(room, batch, outcomes or [not_stored()] * len(batch), error)

    def _answer(self, room: Room, batch: list[Asked], outcomes: list[Outcome], error: Exception | None) -> None:
        commits.labels("failed" if error else "stored").inc()
        for each, outcome in zip(batch, outcomes, strict=True):
            with noted(_fault):
                each.done(outcome)
        if room.acting is not None and outcomes and isinstance(outcomes[0], int):
            room.entries = {**room.entries, **room.acting.claim, **room.acting.entries}
        room.batch = room.acting = None
        self._note_storing(error)
        self._show(room)

    def _doubt(self) -> None:
        """Meet this Redis anew, in another epoch than the one of which it has lost something."""
        log.error("Redis has forgotten what it was told: another epoch begins")
        self._meeting.doubted = self.epoch
        self._line.renew()

    async def _outcomes(self, room: Room, batch: list[Asked]) -> list[Outcome]:
        match batch[0] if batch else None:
            case None:
                return []
            case Draft():
                drafts = [each for each in batch if isinstance(each, Draft)]
                answers, was_unused = await self._commit(room, [], [deed_of(draft) for draft in drafts])
                for draft in drafts:
                    draft.claim = draft.claim if was_unused else {}
                return [outcome_of(draft, answer) for draft, answer in zip(drafts, answers, strict=True)]
            case Change() as change:
                room.acting = change
                return [await self._change(room, change)]
            case Keeping(since_ms, events):
                return list((await self._commit(room, [], [("trim", since_ms, events, TRIMMED)])).answers)
            case Clearing():
                return list((await self._commit(room, [], [("clear", _CLEARED)])).answers)

    async def _change(self, room: Room, asked: Change) -> int:
        """Plan an act and store it, as often as it takes until nothing has come in between."""
        for _ in range(_TRIES):
            planned = Plan(room.keys, lambda commands: self._ask_surely(room.keys, "look", commands))
            if asked.entries and not await self._stands(room, planned, asked):
                self._fall_behind(room)  # so that it is decided anew on the order that there is
                raise overtaken()
            await plan(planned, asked)
            if not planned.deeds:
                return 0
            answers, was_unused = await self._commit(room, planned.seen, planned.deeds)
            if answers:
                asked.claim = asked.claim if was_unused else {}
                seqs = [answer for deed, answer in zip(planned.deeds, answers, strict=True) if deed[0] == "event"]
                return int(seqs[-1 if isinstance(asked.work, list) else 0]) if seqs else 0
        raise not_stored()

    async def _stands(self, room: Room, planned: Plan, asked: Change) -> bool:
        """Whether the order is still the one on which an act was decided, here and in Redis."""
        is_as_known = await is_order(planned, asked.entries, room.entries)
        return is_as_known and asked.decided_on == room.heard_orders

    async def _commit(self, room: Room, seen: list[Any], deeds: list[Any]) -> _Stored:
        """The answer to each deed; none if what was seen is no longer so."""
        now_ms = _now_ms()
        token = room.batch or ""
        of_batch = room.keys.of_batch(token, now_ms)
        packed = (_pack(seen), _pack(deeds))
        while True:
            epoch, known_epoch = self.epochs[self.epoch], self.epochs.get(room.epoch, 0)
            what = (token, epoch, now_ms, room.seq, *packed, MOST_HELD, self.epoch, known_epoch)
            asked = (len(of_batch), *of_batch, *what, self._channel(room.keys.room))
            try:
                if not room.is_named:
                    await self._line.call("EVAL", _NAME_ROOM, 2, keys.VERSION, keys.ROOMS, room.name)
                    room.is_named = True
                answer = await self._line.call("EVALSHA", self._meeting.scripts["commit"], *asked)
                break
            except LineLost:  # whether it was done or not: the same batch is not done twice
                await self._line.up()
        if answer == b"changed":
            return _Stored([], False)
        is_told, answers, count, was_unused = _unpack(answer)
        stored_events.inc(count)
        if is_told and all(told.by != token for told in room.queue):
            room.unheard.add(token)
        return _Stored(answers, was_unused)

    # Letting go

    async def keep(self, room: str, since_ms: int, events: int) -> None:
        if not await self._read(room, "has_too_many", since_ms, events):
            return
        kept: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._ask(room, Keeping(since_ms, events, lambda outcome: None if kept.done() else kept.set_result(outcome)))
        outcome = await kept
        if isinstance(outcome, ProtocolError):
            raise outcome
        self._clear(room, 1)

    def _clear(self, room: str, left: Outcome) -> None:
        if isinstance(left, int) and left > 0:
            self._ask(room, Clearing(lambda outcome: self._clear(room, outcome)))

    # Whether it can store

    def _note_storing(self, error: Exception | None) -> None:
        """Tell the rooms when storing begins or ceases to fail; while it fails, try again by itself."""
        storing = error is None
        if storing:
            self._stored_s = asyncio.get_running_loop().time()
        if storing != self.storing:
            self.storing = storing
            if error is not None:
                log.error("Redis cannot store: %s", sentence(error))
            with noted(_fault):
                self.on_storing(storing)
        if not storing and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_PROBE_LASTS_S, self._probe_again)

    def _note_line(self, error: Exception | None) -> None:
        self._note_storing(error)
        if error is None:
            self._say_that_it_lives()
            for room in self._rooms.values():
                room.is_named = False
                if room.is_known:
                    self._fall_behind(room)

    def _probe_again(self) -> None:
        self._retry = None
        probing = asyncio.ensure_future(self._probe())
        probing.add_done_callback(lambda _: probing.cancelled() or probing.exception())

    async def probe(self) -> None:
        is_proven = self.storing and asyncio.get_running_loop().time() - self._stored_s < _PROBE_LASTS_S
        if is_proven and not self._is_deaf:
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
            raise OSError(f"the log cannot store: {sentence(error)}") from error
        self._note_storing(None)
        if self._is_deaf:
            raise OSError("Redis cannot be heard")

    # Hearing

    def _follow(self, name: str) -> Room:
        """A room that is listened to from now on."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name)
            channel = self._channel(room.keys.room)
            self._by_channel[channel] = room
            self._subscription.subscribe(channel)
            self._beating = self._beating or asyncio.ensure_future(self._beat())
        return room

    def _subscribed(self, channel: str) -> None:
        self._is_deaf = False
        if channel == self._channel(keys.SERVERS):
            self._servers = dict.fromkeys(self._servers, asyncio.get_running_loop().time())
        if (room := self._by_channel.get(channel)) is not None:
            self._fall_behind(room)

    def _miss(self, error: Exception) -> None:
        """Nothing is heard for the moment; the other line may not know yet that it is broken, too."""
        self._is_deaf = True
        if self.storing:
            log.warning("Redis cannot be heard: %s", sentence(error))
            self._line.call("PING").add_done_callback(_ignored)

    def _hear(self, channel: str, payload: bytes) -> None:
        try:
            if channel == self._channel(keys.SERVERS):
                self._hear_server(payload)
            elif (room := self._by_channel.get(channel)) is not None:
                self._hear_room(room, payload)
        except _NOT_OURS:
            log.warning("somebody else speaks on our channel %s: ignored", ascii(channel))

    def _hear_server(self, payload: bytes) -> None:
        if payload.startswith(b'{"kind":"beat"'):
            self._hear_of(decode_beat(payload))
        else:
            with noted(_fault, but=_NOT_OURS):
                self.on_server_telling(payload)

    def _hear_room(self, room: Room, payload: bytes) -> None:
        if payload.startswith(b'{"kind":'):
            with noted(_fault, but=_NOT_OURS):
                self.on_telling(room.name, payload)
            return
        told = decode_told(payload)
        room.unheard.discard(told.by)
        if not self._knows(told.epoch):
            return  # it is read from the log, once it is known of which life it is
        room.queue.append(told)
        self._show(room)

    def _hear_of(self, beat: Beat) -> None:
        """A server lives; one that was taken for gone is told who is here, and asked."""
        self._knows(beat.epoch)
        if beat.server == self.server:
            return
        self._servers[beat.server] = asyncio.get_running_loop().time()
        if beat.server in self._gone:
            self._gone.remove(beat.server)
            for room in self._rooms.values():
                with noted(_fault):
                    self.on_following(room.name)

    def _knows(self, epoch: str) -> bool:
        """Whether it is one of this Redis; another server may find out first that there is another one."""
        is_known = epoch in self.epochs
        if not is_known:
            self._line.renew()
        return is_known

    def _show(self, room: Room) -> None:
        """Show what was heard, up to a hole, or to what its speakers are not answered for yet."""
        while room.queue and room.caught_up.is_set() and room.queue[0].by != room.batch:
            told = room.queue.popleft()
            if told.events and told.seq > room.seq + 1:
                self._fall_behind(room)
                return
            if not room.has_seen(told):
                self._show_one(room, told)
        if room.catching_up is None and not room.caught_up.is_set() and room.batch is None:
            room.catching_up = asyncio.ensure_future(self._catch_up(room))
        self._note_idle(room)

    def _show_one(self, room: Room, told: Told) -> None:
        events = told.after(room.seq)
        if told.rewritings > room.rewritings:
            self._readings.outdate(room.name)
            room.rewritings = told.rewritings
        room.seq += len(events)
        is_own = told.by.startswith(f"{self.server}:") and told.by not in room.given_up
        if told.entries:
            room.entries = {**room.entries, **told.order}
            room.heard_orders += not is_own
        with noted(_fault):
            self.on_news(room.name, News(told.order, told.held, is_own, told.kicked))
            self.on_events(room.name, events, {seq: bytes(body) for seq, body in told.changed.items()})

    def _fall_behind(self, room: Room) -> None:
        """Something was missed, or may have been."""
        room.is_behind = True
        room.caught_up.clear()
        self._show(room)

    async def _catch_up(self, room: Room) -> None:
        """Read what was missed; nothing is stored meanwhile, so that nobody hears his message before his ack."""
        while room.is_behind:
            room.is_behind = False
            room.queue.clear()
            await self._surely(lambda: self._look_again(room))
        room.unheard.clear()
        room.given_up.clear()
        room.catching_up = None
        room.caught_up.set()
        with noted(_fault):
            self.on_following(room.name)
        self._show(room)

    async def _look_again(self, room: Room) -> None:
        if room.is_known:
            await self._fill(room)
            return
        room.seq, room.rewritings = await self._read_now(room.keys, "state")
        room.epoch = self.epoch
        room.is_known = True

    async def _fill(self, room: Room) -> None:
        """Show what was stored meanwhile, and what was rewritten; or say that what was shown is lost."""
        found = await self._read_now(room.keys, "opening", 0, 0)
        opening, rewritings = opening_of(found), found[-1]
        first, head = opening.first, opening.head
        is_lost = not is_ours(self.epochs, opening, self.epoch, head, room.epoch, room.seq)
        if is_lost or first > room.seq + 1 or head - room.seq > _MOST_MISSED:
            if is_lost:
                log.error("room %s has lost what was shown of it: its members begin anew", ascii(room.name))
            room.seq, room.rewritings, room.epoch = head, rewritings, self.epoch
            asked, room.asked = room.asked, []
            for each in asked:  # of a past that is gone: a seq may be another message by now
                with noted(_fault):
                    each.done(not_stored())
            with noted(_fault):
                self.on_lost(room.name)
            return
        missed = await self._events_after(room, room.seq, head)
        changed: list[Event] = []
        if rewritings != room.rewritings:
            self._readings.outdate(room.name)
            changed = await self._events_after(room, max(first - 1, head - RETOLD), room.seq)
        if room.epoch != self.epoch:
            room.epoch = self.epoch
            with noted(_fault):
                self.on_epoch(room.name, opening)
        _missed.inc(len(missed))
        room.heard_orders += room.entries != opening.entries
        room.entries = dict(opening.entries)
        room.seq, room.rewritings = head, rewritings
        with noted(_fault):
            self.on_news(room.name, News(opening.entries, opening.held, False, kicked_in(missed), is_all=True))
            if missed or changed:
                self.on_events(room.name, missed, {event.seq: event.body for event in changed})

    async def _events_after(self, room: Room, seq: int, head: int) -> list[Event]:
        events: list[Event] = []
        while seq < head:
            _, _, start, bodies = await self._read_now(room.keys, "after", seq, head - seq, MAX_PAGE_BYTES)
            if not bodies:
                break
            events += events_of(start, bodies)
            seq = events[-1].seq
        return events

    def tell(self, room: str, payload: bytes) -> None:
        self._line.call("PUBLISH", self._channel(keys.keys_of(room).room), payload).add_done_callback(_ignored)

    def tell_servers(self, payload: bytes) -> None:
        self._line.call("PUBLISH", self._channel(keys.SERVERS), payload).add_done_callback(_ignored)

    async def _beat(self) -> None:
        """Say that this server lives, and look whether the others do."""
        loop = asyncio.get_running_loop()
        while True:
            self._say_that_it_lives()
            with contextlib.suppress(LineLost, RedisError):
                if not await self._line.call("EXISTS", keys.VERSION):
                    self._doubt()
            slept_s = loop.time()
            await asyncio.sleep(BEAT_S)
            if loop.time() - slept_s > 2 * BEAT_S:  # it is this server that stood still
                self._servers = dict.fromkeys(self._servers, loop.time())
            for server, heard_s in list(self._servers.items()):
                if self.storing and loop.time() - heard_s > SILENT_S:
                    del self._servers[server]
                    self._gone.add(server)
                    with noted(_fault):
                        self.on_server_gone(server)

    def _say_that_it_lives(self) -> None:
        self.tell_servers(encode_beat(Beat(self.server, self.epoch)))

    def close_room(self, name: str) -> None:
        """Nobody is in it any more: it is listened to a little longer, as who left may come back."""
        room = self._rooms.get(name)
        if room is not None:
            room.is_open = False
            if room.linger is not None:
                room.linger.cancel()
            room.linger = asyncio.get_running_loop().call_later(LINGER_S, self._unfollow, room)

    def _unfollow(self, room: Room) -> None:
        room.linger = None
        if room.is_busy:
            self.close_room(room.name)
            return
        if room.catching_up is not None:
            room.catching_up.cancel()
        channel = self._channel(room.keys.room)
        del self._rooms[room.name], self._by_channel[channel]
        self._subscription.unsubscribe(channel)

    # Reading

    async def open_room(self, room: str, recent: int) -> Opening:
        followed = self._follow(room)
        followed.is_open = True
        if followed.linger is not None:
            followed.linger.cancel()
            followed.linger = None
        try:
            async with asyncio.timeout(asking.WAIT_S):
                await followed.caught_up.wait()
        except TimeoutError:
            raise log_away() from None
        opening = opening_of(await self._read(room, "opening", recent, MAX_PAGE_BYTES))
        followed.entries = dict(opening.entries)
        return opening

    # The end

    def _note_idle(self, room: Room) -> None:
        if not room.is_busy:
            self._busy.discard(room)
            if not self._busy:
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


def _fault(error: Exception) -> None:
    log.error("a fault of ours", exc_info=error)


def _ignored(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
