"""A room: its members, what it has to say to them, and the one loop that says it.

Owns the order in which members hear things and the moment at which a newcomer becomes one of
them. Knows no HTTP and no storage engine. Runs on the loop only. Invariants:

- `shown_seq` and the recent frames advance when a flush starts; a flush goes to the members as
  they were at that moment.
- A newcomer is fed up to `shown_seq` and enters the set in the same step of the loop, without
  an await in between: nothing falls between and nothing comes twice.
- One flush at a time, so that there is one order for all.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.json import encode as encode_json
from prometheus_client import Counter, Histogram
from tornado.concurrent import future_set_result_unless_cancelled

from chat.acts import Acts
from chat.decisions import PutOut
from chat.eventlog import EventLog, News, Opening, is_ours, log_away
from chat.frames import Deflater, Frames, text_frame
from chat.neighbours import Neighbours, Telling, Writing
from chat.order import Barred
from chat.presence import CROWD, People
from chat.protocol import (
    PLAIN_NEWCOMER,
    Event,
    Limits,
    Me,
    Out,
    Person,
    Presence,
    Status,
    Trimmed,
    TypingNotice,
    Waiting,
    Welcome,
    You,
    decode_message,
    encode,
)
from chat.recent import Recent, piece_of
from chat.websocket import write_message_to_all

_MEMBERS_PER_TURN = 256  # about 2.5 ms of sending, then the loop breathes
# A resume from further back is a gap.
_WHOLE_EVENTS = 10_000
_WHOLE_BYTES = 8 * 1024 * 1024
_WEIGHED_S = 1.0  # to weigh ten thousand events costs a log 20 ms
_PIECE_BYTES = 256 * 1024  # of a long resume, written before the member has to have read it
_TYPING_PEOPLE = 50  # in a larger room nobody is told who writes
# Between two flushes a room rests for half as long as the last one took. Those who were just told answer in that time,
# and their answers share the next flush instead of waiting for one of their own: twice the messages a system call.
_REST_SHARE, _REST_S = 0.5, 0.005
_DEFLATING_MEMBERS = 4  # from here on compressing costs less than sending what it saves
_REACH_S = 5.0  # that one waits for what another server has shown him
_SHARING_S = 0.1  # in which what other servers are told of people is gathered
_PRESENCE_S = 1.0  # between two frames that tell what changed
_PRESENCE_PER_MEMBER_S = 0.0005  # more in a large crowd, where each costs a system call: 2 % of a core at most

_deliveries = Counter("chatroom_deliveries", "Events written to a member's socket")
_flush_seconds = Histogram(
    "chatroom_flush_seconds",
    "Time from the start of a flush to its last member",
    buckets=(0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)
_flush_events = Histogram(
    "chatroom_events_per_flush", "Events in one flush", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
)

# How the bodies of these events begin.
_MESSAGE, _TRIMMED = b'{"type":"message"', b'{"type":"trim"'
decode_trimmed = msgspec.json.Decoder(Trimmed).decode

_NEWCOMER_FRAME = text_frame(encode_json(PLAIN_NEWCOMER))


class Member(Protocol):
    """One socket in a room, as the room sees it."""

    person_id: str
    is_plain: bool
    is_operator: bool
    is_deflating: bool
    address_key: str  # a keyed hash of where he comes from

    send_now: Callable[[bytes], int]

    def write_message(self, message: Any, binary: bool = False) -> Any: ...

    def hold(self, rest: bytes | memoryview) -> None: ...

    def abort(self) -> None: ...

    async def drained(self) -> None: ...

    def put_out(self, out: Out) -> None: ...


class Past(NamedTuple):
    """What a returning client says of itself: "I have shown everything up to `after`"."""

    epoch: str
    after: int


class _Utterance(NamedTuple):
    """Something to be said: ready for the v1 wire; `plain` is made from `event` if anybody needs it."""

    v1: bytes
    plain: bytes = b""
    event: Event | None = None


class _Known(NamedTuple):
    """How things stood when a newcomer was welcomed who cannot be let in at once."""

    me: Me
    storing: bool
    epoch: str
    people: dict[str, Person | None]


class _Audience(NamedTuple):
    """The members as lists, by what they are sent; never changed, so that a flush can go on with one."""

    v1: list[Member]
    deflating: list[Member]  # of v1, too
    plain: list[Member]


class Room:
    """One room of this process; `on_idle` is called when nobody and nothing is left in it."""

    # Of rooms that several servers share.
    is_over = False  # its log was lost: another room has its name
    _progress: asyncio.Future[None] | None = None  # of shown_seq, if anybody waits for it
    _sharing_timer: asyncio.TimerHandle | None = None

    def __init__(
        self, name: str, log: EventLog, limits: Limits, send_buffer_bytes: int, on_idle: Callable[["Room"], None]
    ) -> None:
        self.name = name
        # In the order in which they came, as what belongs to them lies in memory, the kernel's too: in any other order
        # a delivery in a large room takes longer.
        self._v1_members: dict[Member, None] = {}
        self._plain_members: dict[Member, None] = {}
        self._audience: _Audience | None = None  # made anew when somebody has come or gone
        self.people = People()
        self.acts = Acts(self, log)
        self._neighbours = Neighbours(log.server, self.people, self._tell_neighbours)
        self.shown_seq = 0
        self._log = log
        self._limits = limits
        self._on_idle = on_idle
        self._flush_bytes = send_buffer_bytes // 4  # so that one flush never cuts off a member who reads
        self._piece_bytes = min(_PIECE_BYTES, self._flush_bytes)
        self._opening: Opening | None = None
        self._epoch = ""  # in which what was shown is what the log has
        self._loading: asyncio.Future[None] | None = None
        self._weighing: dict[int, asyncio.Future[int]] = {}
        self._readings: dict[int, asyncio.Future[list[tuple[int, bytes]]]] = {}
        self._rewritings = 0  # acts that may have rewritten something, however far back
        self._entering = 0
        self._early: list[Callable[[], None]] = []  # what was committed while the room was loading
        self._last_seq = 0  # of what is to be said; shown_seq once it is
        self._first_seq = 1  # the oldest that is kept
        self._recent = Recent(max(limits.history, 1))
        self._unsaid: deque[_Utterance] = deque()
        self._deflating = 0  # members of v1 who can be sent compressed frames
        self._deflater: Deflater | None = None  # what it has compressed, all of these have been sent
        self._flush_due = False
        self._flush_began_s = 0.0
        self._rest_until_s = 0.0  # no flush begins before
        self._said: asyncio.Future[None] | None = None
        self._presence_timer: asyncio.TimerHandle | None = None
        self._presence_told_s = 0.0
        self._newcomers = False

    @property
    def members(self) -> set[Member]:
        """Everybody who hears the room, on whichever wire."""
        return self._v1_members.keys() | self._plain_members.keys()

    @property
    def is_loaded(self) -> bool:
        """Whether its order and its newest events are known."""
        return self._opening is not None

    @property
    def is_idle(self) -> bool:
        """Nobody is in or on the way in, and nothing is left to say: the registry may forget the room.

        A message of somebody who has left may still be committing; whoever comes next reads it from the log.
        """
        return not (self._v1_members or self._plain_members or self._entering or self._flush_due) and self.acts.is_idle

    # Entering and leaving

    async def enter(self, member: Member, wish: str, past: Past | None) -> None:
        """Welcome a newcomer, feed him what he missed and let him in.

        Raises Barred if he may not come in, WebSocketClosedError or StreamClosedError if he goes meanwhile; `leave` is
        due all the same.
        """
        self._entering += 1
        try:
            if self._opening is None:
                await self._loaded()
            if self.is_over:
                raise log_away()
            self.acts.check_entry(member)
            person = self.people.join(member.person_id, wish, member, time.time_ns() // 1_000_000)
            self.acts.came(person, opens=self._is_unused and not member.is_plain)
            self._note_presence(member.person_id)
            if member.is_plain:
                self._plain_members[member] = None
                self._audience = None
            else:
                resumed, seq = await self._cursor(past)
                await self._feed(member, self._welcome(member, resumed), seq)
            self._announce()
        finally:
            self._entering -= 1

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """The room, loaded and not forgotten, for somebody who is not in it."""
        self._entering += 1
        try:
            if self._opening is None:
                await self._loaded()
            yield
        finally:
            self._entering -= 1
            self.rest()

    @property
    def _is_unused(self) -> bool:
        return not self._last_seq and not self.acts.order.is_closed

    def leave(self, member: Member) -> None:
        """Forget a member; called once, when his socket has closed."""
        self._dismiss(member)
        if self.people.leave(member.person_id, member):
            self.acts.went(member.person_id)
            self._note_presence(member.person_id)
        else:
            self._share(member.person_id)  # he may have been there from two addresses
        self.rest()

    async def _loaded(self) -> None:
        """Read the room's end from the log; whoever comes meanwhile waits for the same reading."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(self._load())
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        try:
            opening = await self._log.open_room(self.name, max(self._limits.history, 1))
        except BaseException:
            self._loading = None  # the next one tries again
            raise
        for event in opening.recent:
            self._recent.add(event.seq, text_frame(event.body))
        self.shown_seq = self._last_seq = opening.head
        self._first_seq = opening.first
        self._opening = opening._replace(recent=[], entries={})
        self._epoch = self._log.epoch
        self.acts.begin(opening.entries, opening.held)
        if self._log.server:
            self.begin_sharing()
        early, self._early = self._early, []
        for take in early:
            take()

    async def _cursor(self, past: Past | None) -> tuple[str | UnsetType, int]:
        """What to say of a client's past, and after which seq to feed him."""
        newest = max(0, self.shown_seq - self._limits.history)
        if past is None:
            return UNSET, newest
        assert self._opening is not None
        log = self._log
        if log.server and past.after > self.shown_seq:
            await self._reach(past.after)
        if not is_ours(log.epochs, self._opening, self._epoch, self.shown_seq, past.epoch, past.after):
            return "reset", newest
        if self.shown_seq - past.after > _WHOLE_EVENTS or past.after + 1 < self._first_seq:
            return "gap", newest
        if self._recent.after(past.after, self.shown_seq) is None and await self._is_heavy_after(past.after):
            return "gap", max(0, self.shown_seq - self._limits.history)
        return "whole", past.after

    async def _reach(self, seq: int) -> None:
        """What another server has shown already is on its way to this one."""
        if seq > await self._log.head(self.name):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REACH_S):
                while self.shown_seq < seq:
                    self._progress = self._progress or asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._progress)

    def _welcome(self, member: Member, resumed: str | UnsetType) -> bytes:
        order = self.acts.order
        welcome = Welcome(
            room=self.name,
            epoch=self._epoch,
            head=self.shown_seq,
            now=time.time_ns() // 1_000_000,
            you=self._me(member),
            present=self.people.count_for(member.person_id),
            limits=self._limits,
            rules=order.rules,
            roles=order.roles(),
            resumed=resumed,
        )
        frames = text_frame(encode(welcome))
        if not self._log.storing:
            frames += text_frame(encode(Status(False)))
        if self.acts.held and self.acts.rank_of(member):
            frames += text_frame(encode(Waiting(self.acts.held)))
        return frames

    def _me(self, member: Member) -> Me:
        return self.acts.me(self.people.get(member.person_id), member.is_operator)

    async def _feed(self, member: Member, lead: bytes, seq: int) -> None:
        """Send what follows `seq` in pieces, the next when the last has drained: the log is the buffer."""
        then: _Known | None = None
        while True:
            piece = self._recent.piece(seq, self.shown_seq, self._piece_bytes)
            if piece is None:
                then = then or self._standing(member)
                piece = piece_of(await self._stored_after(seq), seq, self._piece_bytes)
            # No await from here to the set of members: see the invariants above.
            seq, frames = piece
            is_in = seq >= self.shown_seq
            news = self._news_since(then, member) if is_in and then else b""
            member.write_message(Frames(lead + frames + news))
            if is_in:
                self._admit(member)
                return
            then = then or self._standing(member)
            await member.drained()
            lead = b""

    def _admit(self, member: Member) -> None:
        self._v1_members[member] = None
        self._audience = None
        if member.is_deflating:
            self._deflating += 1
            self._deflater = None  # he has not been sent what this one refers to

    def _dismiss(self, member: Member) -> None:
        if member.is_deflating and member in self._v1_members:
            self._deflating -= 1
            if self._deflating < _DEFLATING_MEMBERS:
                self._deflater = None
        self._v1_members.pop(member, None)
        self._plain_members.pop(member, None)
        self._audience = None

    def _standing(self, member: Member) -> "_Known":
        people = {} if self.people.is_crowd else self.people.names()
        return _Known(self._me(member), self._log.storing, self._epoch, people)

    def _news_since(self, then: "_Known", member: Member) -> bytes:
        """What was told to the members while this one was being fed, and is not an event."""
        self.people.count_for(member.person_id)
        news: list[Presence | You | Status] = [self.people.changes_since(then.people)]
        me = self._me(member)
        if me != then.me:
            news.append(_you(me))
        if (self._log.storing, self._epoch) != (then.storing, then.epoch):
            news.append(Status(self._log.storing, self._epoch))
        return b"".join(text_frame(encode(frame)) for frame in news)

    async def _is_heavy_after(self, seq: int) -> bool:
        """Whether it is more than is told whole; asked once for all who come back there within a second."""
        if seq not in self._weighing:
            self._weighing[seq] = asyncio.ensure_future(self._log.bytes_after(self.name, seq))
            asyncio.get_running_loop().call_later(_WEIGHED_S, self._weighing.pop, seq)
        return await asyncio.shield(self._weighing[seq]) > _WHOLE_BYTES

    async def _stored_after(self, seq: int) -> list[tuple[int, bytes]]:
        """Read what follows `seq`, once for all who ask meanwhile: after an outage many come from one place."""
        while True:
            rewritings = self._rewritings
            if seq not in self._readings:
                self._readings[seq] = asyncio.ensure_future(self._read_after(seq))
                self._readings[seq].add_done_callback(lambda _: self._readings.pop(seq))
            frames = await asyncio.shield(self._readings[seq])
            if rewritings == self._rewritings:  # else it may have what was removed since
                break
        # The log may be ahead of what the room has shown: that comes with a flush.
        return [(number, frame) for number, frame in frames if number <= self.shown_seq]

    async def _read_after(self, seq: int) -> list[tuple[int, bytes]]:
        shown_seq = self.shown_seq
        stored = await self._log.after(self.name, seq, _WHOLE_EVENTS, self._piece_bytes)
        # Where nothing is kept any more there is nothing to feed: who waits for it is up to date.
        return [(event.seq, text_frame(event.body)) for event in stored.events] or [(shown_seq, b"")]

    # Saying

    def show(self, events: list[Event], changed: dict[int, bytes]) -> None:
        """Take committed events, in order, which are shown with the next flush, and what was rewritten by them."""
        if self._opening is None:
            self._early.append(partial(self.show, events, changed))
            return
        for event in events:
            if event.seq > self._last_seq:  # else it was read when the room loaded
                self._last_seq = event.seq
                self._utter(_Utterance(text_frame(event.body), event=event))
                self.acts.note_turn(event.body)
            if not event.body.startswith(_MESSAGE):
                self._rewritings += 1
            if event.body.startswith(_TRIMMED):
                self._first_seq = decode_trimmed(event.body).before
                self._recent.forget_before(self._first_seq)
        if changed:
            self._rewrite(changed)

    def _rewrite(self, changed: dict[int, bytes]) -> None:
        """Let nobody hear any more what was removed or edited: not who comes next, and not what is yet to be said."""
        self._recent.rewrite(changed)
        for place, utterance in enumerate(self._unsaid):
            event = utterance.event
            if event is not None and event.seq in changed:
                body = changed[event.seq]
                self._unsaid[place] = _Utterance(text_frame(body), event=event._replace(body=body))

    def tell(self, frame: bytes) -> None:
        """Say something that is not in the log to all v1 members, in order with the events."""
        self._utter(_Utterance(text_frame(frame)))

    def begin_epoch(self, opening: Opening) -> None:
        """The log goes on in another epoch, with all that was shown: whoever is here resumes in that one."""
        self._opening, self._epoch = opening, self._log.epoch
        self.tell(encode(Status(self._log.storing, self._epoch)))

    def learn(self, news: News) -> None:
        """Take what a commit changed besides the events that follow."""
        if self._opening is None:
            self._early.append(partial(self.learn, news))
        else:
            self.acts.learn(news)

    async def said(self) -> None:
        """Return when there is nothing left to say."""
        if self._flush_due:
            self._said = self._said or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._said)

    def _utter(self, utterance: _Utterance) -> None:
        self._unsaid.append(utterance)
        if not self._flush_due:
            self._flush_due = True
            self._flush_rested()

    def _flush_rested(self) -> None:
        """Begin a flush once the room has rested from its last one: what is said meanwhile goes along."""
        loop = asyncio.get_running_loop()
        if self._rest_until_s <= loop.time():
            loop.call_soon(self._flush)
        else:
            loop.call_at(self._rest_until_s, self._flush)

    def _flush(self) -> None:
        """Start to give everybody what there is, as one value a wire."""
        said = self._take()
        self._flush_began_s = asyncio.get_running_loop().time()
        # Who enters from here on is fed what this flush says: he is not in the lists.
        audience = self._audience = self._audience or self._listed()
        v1 = b"".join(utterance.v1 for utterance in said)
        wires = (
            (audience.v1, v1),
            (audience.deflating, self._deflated(said) or v1),
            (audience.plain, b"".join(map(_plain_frame, said)) if audience.plain else b""),
        )
        told = [(members, Frames(data)) for members, data in wires if members and data]
        events = 0
        for utterance in said:
            if utterance.event:
                events += 1
                self.shown_seq = utterance.event.seq
                self._recent.add(self.shown_seq, utterance.v1)
        if self._progress is not None:
            future_set_result_unless_cancelled(self._progress, None)
            self._progress = None
        deliveries = events * sum(len(members) for members, _ in told)
        self._deliver(deque(_turns(told)), events, deliveries)

    def _listed(self) -> _Audience:
        deflating = [member for member in self._v1_members if member.is_deflating] if self._deflating else []
        v1 = [member for member in self._v1_members if not member.is_deflating] if deflating else self._v1_members
        return _Audience(list(v1), deflating, list(self._plain_members))

    def _deflated(self, said: list[_Utterance]) -> bytes | None:
        """The same for those who take it compressed, made once for all; None if they are too few for it."""
        if self._deflating < _DEFLATING_MEMBERS:
            return None
        deflater = self._deflater = self._deflater or Deflater()
        return b"".join(deflater.frame(utterance.v1) for utterance in said if utterance.v1)

    def _take(self) -> list[_Utterance]:
        """What goes into this flush: all there is, up to its bound, but at least one."""
        said = [self._unsaid.popleft()]
        size_bytes = len(said[0].v1)
        while self._unsaid and size_bytes + len(self._unsaid[0].v1) <= self._flush_bytes:
            size_bytes += len(self._unsaid[0].v1)
            said.append(self._unsaid.popleft())
        return said

    def _deliver(self, turns: deque[tuple[list[Member], Frames]], events: int, deliveries: int) -> None:
        """Write to the next members; what arrives while the loop breathes goes with the next flush."""
        left = _MEMBERS_PER_TURN
        while turns and len(turns[0][0]) <= left:
            members, frames = turns.popleft()
            write_message_to_all(members, frames)
            left -= len(members)
        if turns:
            asyncio.get_running_loop().call_soon(self._deliver, turns, events, deliveries)
        else:
            self._flushed(events, deliveries)

    def _flushed(self, events: int, deliveries: int) -> None:
        now_s = asyncio.get_running_loop().time()
        took_s = now_s - self._flush_began_s
        self._rest_until_s = now_s + min(took_s * _REST_SHARE, _REST_S)
        if events:
            _deliveries.inc(deliveries)
            _flush_events.observe(events)
            _flush_seconds.observe(took_s)
        if self._unsaid:
            self._flush_rested()
            return
        self._flush_due = False
        if self._said is not None:
            future_set_result_unless_cancelled(self._said, None)
            self._said = None
        self.rest()

    def rest(self) -> None:
        """Be forgotten if nothing is left to do."""
        if self.is_idle:
            if self._presence_timer is not None:
                self._presence_timer.cancel()
            if self._sharing_timer is not None:
                self._sharing_timer.cancel()
                self._tell_changes()
            self._on_idle(self)

    # People

    def rename(self, member: Member, wish: str) -> None:
        """Give a person another name and tell all his sockets which it is."""
        self.people.rename(member.person_id, wish)
        self.tell_you([member.person_id])
        self._note_presence(member.person_id)

    def typing(self, member: Member) -> None:
        """Tell the others that somebody writes; in larger rooms nobody could follow."""
        if len(self.people) > _TYPING_PEOPLE:
            return
        by = self.people.get(member.person_id)
        self._tell_typing(by)
        if self._log.server:
            self._tell_neighbours(Writing(self._log.server, by))

    def _tell_typing(self, by: Person) -> None:
        notice = Frames(text_frame(encode(TypingNotice(by))))
        write_message_to_all((other for other in self._v1_members if other.person_id != by.id), notice)

    # Who is still being fed hears what follows when he is let in: his first frame is `welcome`.

    def tell_you(self, people: Iterable[str]) -> None:
        """Tell people how they stand in the room."""
        told = (member for person_id in people for member in self.people.sockets(person_id))
        self._tell_each(member for member in told if member in self._v1_members)

    def _tell_each(self, members: Iterator[Member]) -> None:
        count = 0
        for member in islice(members, _MEMBERS_PER_TURN):
            count += 1
            write_message_to_all((member,), Frames(text_frame(encode(_you(self._me(member))))))
        if count == _MEMBERS_PER_TURN:
            asyncio.get_running_loop().call_soon(self._tell_each, members)

    def tell_person(self, person_id: str, frame: bytes) -> None:
        """Tell one person, in all his windows."""
        told = [member for member in self.people.sockets(person_id) if member in self._v1_members]
        write_message_to_all(told, Frames(text_frame(frame)))

    def tell_moderators(self, frame: bytes) -> None:
        told = [member for member in self._v1_members if self.acts.rank_of(member)]
        write_message_to_all(told, Frames(text_frame(frame)))

    def announce(self, text: str) -> None:
        """The plain members have no pinned line: they hear it as something said."""
        self._utter(_Utterance(b"", text_frame(encode_json(text))))

    # Putting out

    def put_out(self, put_out: PutOut) -> None:
        """Close the sockets that are meant, and hear and tell them nothing more from this moment on."""
        # Everybody is looked at for an address only: an invitation that is revoked may put out thousands by name.
        for member in self.everybody() if put_out.addresses else self.people.sockets(put_out.person):
            is_there = member.address_key in put_out.addresses and not self.acts.rank_of(member)
            if member.person_id == put_out.person or is_there:
                self._dismiss(member)
                member.put_out(put_out.out)

    def put_out_barred(self) -> None:
        """Close the sockets of those whom the order no longer lets in; a lock is for those who come."""
        for member in self.everybody():
            try:
                self.acts.check_entry(member)
            except Barred as barred:
                if barred.code != "locked":
                    self._dismiss(member)
                    member.put_out(barred.out)

    def addresses_of(self, person_id: str) -> set[str]:
        """The keys of those from which somebody is in the room, on whichever server."""
        ours = {member.address_key for member in self.people.sockets(person_id)}
        return ours | self._neighbours.addresses_of(person_id)

    def is_operator(self, person_id: str) -> bool:
        is_ours = any(member.is_operator for member in self.people.sockets(person_id))
        return is_ours or self._neighbours.is_operator(person_id)

    def people_at(self, addresses: set[str]) -> int:
        """How many people are here from these addresses."""
        ours = {member.person_id for member in self.everybody() if member.address_key in addresses}
        return len(ours | self._neighbours.people_at(addresses))

    def everybody(self) -> list[Member]:
        """All sockets, those too that are being fed."""
        return [member for person_id in self.people.ids() for member in self.people.sockets(person_id)]

    def _announce(self) -> None:
        """Tell the plain members that somebody came; a crowd hears it with the presence."""
        if len(self._v1_members) + len(self._plain_members) > CROWD:
            self._newcomers = True
            self._note_presence()
        else:
            self._utter(_Utterance(b"", _NEWCOMER_FRAME))

    def _note_presence(self, person_id: str = "") -> None:
        """Tell what changed, at most once a second, more rarely in a crowd; a join storm is a few frames for all."""
        if person_id:
            self._share(person_id)
        if self._presence_timer is None:
            loop = asyncio.get_running_loop()
            due_s = self._presence_told_s + max(_PRESENCE_S, _PRESENCE_PER_MEMBER_S * len(self._v1_members))
            self._presence_timer = loop.call_at(due_s, self._tell_presence)

    # On other servers

    def _share(self, person_id: str) -> None:
        """Tell the other servers, if there may be any, soon how it is with somebody here."""
        if not self._log.server:
            return
        self._neighbours.note(person_id)
        if self._sharing_timer is None:
            self._sharing_timer = asyncio.get_running_loop().call_later(_SHARING_S, self._tell_changes)

    def _tell_changes(self) -> None:
        self._sharing_timer = None
        self._neighbours.tell_changes()

    def _tell_neighbours(self, telling: Telling) -> None:
        self._log.tell(self.name, encode(telling))

    def begin_sharing(self) -> None:
        """What other servers tell is heard from now on."""
        if self.is_loaded:
            self._neighbours.begin()

    def hear(self, telling: Telling) -> None:
        """Take what a server told of its people."""
        if isinstance(telling, Writing):
            if telling.server != self._log.server:
                self._tell_typing(telling.by)
            return
        before = len(self.people)
        renamed = self._neighbours.hear(telling)
        self.tell_you(renamed)
        for person_id in renamed:
            self._share(person_id)
        self._note_presence()
        if len(self.people) > before:
            self._announce()

    def forget_server(self, server: str) -> None:
        """Another server is gone, and its people with it."""
        if self._neighbours.forget(server):
            self._note_presence()

    def _tell_presence(self) -> None:
        self._presence_timer = None
        self._recent.forget_piece()
        self._presence_told_s = asyncio.get_running_loop().time()
        if self._newcomers:
            self._newcomers = False
            self._utter(_Utterance(b"", _NEWCOMER_FRAME))
        if (changes := self.people.changes()) is not None:
            self.tell(encode(changes))


def _turns(told: list[tuple[list[Member], Frames]]) -> Iterator[tuple[list[Member], Frames]]:
    """The same in pieces, between which the loop may breathe."""
    for members, frames in told:
        for start in range(0, len(members), _MEMBERS_PER_TURN):
            yield members[start : start + _MEMBERS_PER_TURN], frames


def _plain_frame(utterance: _Utterance) -> bytes:
    """The plain wire's frame: the text of a message alone, as one JSON string."""
    if utterance.event is None:
        return utterance.plain
    if not utterance.event.body.startswith(_MESSAGE):
        return b""
    return text_frame(encode_json(decode_message(utterance.event.body).text))


def _you(me: Me) -> You:
    return You(me.id, me.name, me.role, me.muted_until, me.muted_for)
