"""A web chat room that one command starts: the front door.

Owns the routes, and `ChatSocket`, which joins one member's socket to his room. The options are in
chat/settings.py, what is said is in chat/protocol.py, how a room says it in chat/room.py, how it is kept in
chat/eventlog. A message's way: `ChatSocket.on_message` -> `EventLog.append` -> `Room.show` ->
`write_message_to_all`.
"""

import asyncio
import contextlib
import logging
import math
import os
import random
import re
import sys
import time
from collections import Counter as Tally
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any, ClassVar

import msgspec
from prometheus_client import Counter, Gauge
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError
from tornado.websocket import WebSocketClosedError

from chat import commands, desk, doors, export, http, identity, protocol, serving, starting, supervisor, tokens
from chat.assets import Assets
from chat.eventlog import EventLog, LogRefused, LogUnreachable, News, Opening, Slice
from chat.eventlog.redis import RedisLog
from chat.eventlog.sqlite import SqliteLog
from chat.faults import noted
from chat.languages import BrokenTable, Languages
from chat.limits import RateLimit, Turns
from chat.neighbours import decode_telling
from chat.order import Barred
from chat.protocol import CloseCode, ProtocolError
from chat.proxies import Proxies
from chat.room import Past, Room
from chat.settings import BadOption, Settings, check_settings, networks, origins, read_settings
from chat.sharing import SharedRates
from chat.websocket import FramesHandler

log = logging.getLogger("chatroom")
# Tornado warns of each forged cookie and malformed request: faults of peers, who could fill the log with them.
logging.getLogger("tornado.general").setLevel(logging.CRITICAL)

HANDSHAKE_S = 10  # for the request of a handshake, and the longest an idle page connection is kept
ASKS_PER_S, ASKS_BURST = 5.0, 20.0  # history, people and renames of one person
SAYS_IN_FLIGHT = 64  # of one socket; then it is not read
STRIKES, STRIKES_S = 20, 10.0  # bad frames that close a socket
TYPING_S = 3.0
PUT_OUT_S = 0.5  # to answer the close frame
_KEY = re.compile("[A-Za-z0-9+/]{22}==")  # of a handshake

_members = Gauge("chatroom_members", "Open sockets", multiprocess_mode="livesum")
_rooms = Gauge("chatroom_rooms", "Rooms with anybody in them, in each process", multiprocess_mode="livesum")
_refused_handshakes = Counter("chatroom_refused_handshakes", "Handshakes refused", ["reason"])
_refused_frames = Counter("chatroom_refused_frames", "Frames refused", ["code"])
_dropped_texts = Counter("chatroom_dropped_plain_frames", "Frames of the plain wire that cannot be a message")


# The socket


class ChatSocket(FramesHandler, http.Answer):
    """One member's socket: checks what he sends and hands it on; `rooms` is the registry.

    Class attributes belong to one server: `make_app` makes a subclass, and each has its own.
    """

    rooms: ClassVar[dict[str, Room]]
    sockets: ClassVar[OrderedDict["ChatSocket", float]]  # and when each is to be pinged: the next one first
    config: ClassVar[Settings]
    event_log: ClassVar[EventLog]
    secret: ClassVar[str]
    limits: ClassVar[protocol.Limits]
    says: ClassVar[RateLimit]
    asks: ClassVar[RateLimit]
    typings: ClassVar[RateLimit]
    rates: ClassVar[SharedRates]
    turns: ClassVar[Turns]
    most_members: ClassVar[int]
    is_draining: ClassVar[bool]
    all_gone: ClassVar[asyncio.Event]  # set when the last one leaves a draining server
    _per_address: ClassVar[Tally[str]]

    # How each socket begins; what it has of its own is set on it.
    room: Room | None = None
    person_id = ""
    address_key = ""
    is_operator = False
    is_plain = False
    is_in = False  # welcomed, fed and among the members
    _says_in_flight = 0
    _says_wait: asyncio.Future[None] | None = None
    _strikes: deque[float] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.rooms, cls.sockets, cls._per_address = {}, OrderedDict(), Tally()
        cls.is_draining, cls.all_gone = False, asyncio.Event()

    @classmethod
    def for_server(cls, settings: Settings, event_log: EventLog, secret: str, most_members: int) -> type["ChatSocket"]:
        """A class of sockets with a registry, a log and limits of its own."""

        class Socket(cls):  # type: ignore[valid-type, misc]
            pass

        server: type[ChatSocket] = Socket
        rate, burst = settings.message_rate, max(settings.message_rate * 4, 1) if settings.message_rate else 0
        server.config, server.event_log, server.most_members = settings, event_log, most_members
        server.secret = secret
        server.send_buffer_bytes = settings.send_buffer_bytes
        server.limits = protocol.Limits(protocol.MAX_TEXT, protocol.MAX_FRAME_BYTES, rate, burst, settings.history)
        server.says, server.asks = RateLimit(rate, burst), RateLimit(ASKS_PER_S, ASKS_BURST)
        server.typings = RateLimit(1 / TYPING_S, 1)
        server.turns = Turns(serving.WELCOME_BACK_PER_S, serving.WELCOME_AT_ONCE)
        server.rates = SharedRates(event_log.server, event_log.tell_servers)
        server.rates.share("says", server.says)
        server.rates.share("asks", server.asks)
        event_log.on_server_telling = server.rates.hear
        event_log.on_events, event_log.on_storing = server.show, server.tell_storing
        event_log.on_news = server.learn
        event_log.on_telling, event_log.on_following = server.hear_server, server.begin_sharing
        event_log.on_server_gone = server.forget_server
        event_log.on_epoch, event_log.on_lost = server.begin_epoch, server.begin_anew
        return server

    def __str__(self) -> str:
        return f"member {self.person_id} in room {ascii(self.room.name) if self.room else None}"

    # The door

    async def prepare(self) -> None:
        refusal = self.refusal(self.request)
        if refusal is not None:
            if refusal.reason == "crowd":
                self.turns.take(time.monotonic())  # the moment that he is told
            _refused_handshakes.labels(refusal.reason).inc()
            self._send_away(refusal)
            return
        self._check_stranger()
        try:
            self._check_upgrade()
            self._asked_room = self.room_name(self.argument("room", "default") or "")
            self._past = self._asked_past()
            self._check_subprotocol()
        except HTTPError:
            _refused_handshakes.labels("bad_request").inc()
            raise
        self._wish = self._asked_name()
        self.person_id = self.recognise()
        self.is_operator = self.is_operator_for(self.person_id)
        self.address_key = tokens.address_key(self.secret, http.address_of(self.request))
        await self._check_admission()
        self.turns.take(time.monotonic())  # not before: who only asks must not use up what newcomers need

    def _send_away(self, refusal: http.Refusal) -> None:
        """Answer with the sentence alone: a page, which nobody would see, costs as much as letting him in."""
        self.set_status(refusal.status)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Retry-After", str(refusal.retry_after_s))
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{refusal.sentence}\n")

    async def _check_admission(self) -> None:
        """Raise Refused for whoever may not come in, as far as that can be told without reading an open room's log."""
        room = self.rooms.get(self._asked_room)
        try:
            if room is not None and room.is_loaded:
                room.acts.check_entry(self)
            elif identity.is_closed(self._asked_room):
                async with self.hosted(self._asked_room) as room:
                    room.acts.check_entry(self)
        except Barred as barred:
            # Whatever keeps somebody out of a closed room is counted as one: /metrics is for everybody.
            reason = "closed" if identity.is_closed(self._asked_room) else barred.code
            _refused_handshakes.labels(reason).inc()
            raise await doors.refusal(self, self._asked_room, barred) from None

    @classmethod
    @contextlib.asynccontextmanager
    async def hosted(cls, name: str) -> AsyncIterator[Room]:
        """A room, loaded, for somebody who is not (yet) in it."""
        room = cls._room(name)
        async with room.kept():
            yield room

    @classmethod
    def refusal(cls, request: HTTPServerRequest) -> http.Refusal | None:
        """Why a socket from there is not taken at the moment, if it is not; asking takes nobody's turn."""
        most = cls.config.connections_per_address
        if cls.is_draining:
            return http.Refusal(
                503, "draining", "The server is going down; come back in a moment.", 2 + random.randrange(8)
            )
        if len(cls.sockets) >= cls.most_members:
            return http.Refusal(503, "full", "The server is full; try again later.", 10 + random.randrange(20))
        if most and cls._per_address[http.address_of(request)] >= most:
            return http.Refusal(429, "address", "There are too many connections from your address; close one.", 10)
        if wait_s := cls.turns.wait_s(time.monotonic()):
            sentence = "Too many are coming in at the moment; come back a little later."
            return http.Refusal(503, "crowd", sentence, math.ceil(wait_s))
        return None

    def _check_upgrade(self) -> None:
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise HTTPError(400, "This address is for WebSockets; the room's page is at /.")
        if not self.request.headers.get("Host"):
            raise HTTPError(400, "A request names its Host.")
        if "upgrade" not in map(str.strip, self.request.headers.get("Connection", "").lower().split(",")):
            raise HTTPError(400, "A handshake says `Connection: Upgrade`.")
        if self.request.headers.get("Sec-WebSocket-Version") != "13":
            raise HTTPError(426, "This server speaks version 13 of the WebSocket protocol (RFC 6455).")
        # RFC 6455 section 4.2.1; whoever comes by an older HTTP would be closed right after the answer.
        if self.request.version == "HTTP/1.0" or not _KEY.fullmatch(self.request.headers.get("Sec-WebSocket-Key", "")):
            raise HTTPError(400, "A WebSocket needs HTTP/1.1 and one Sec-WebSocket-Key of 16 bytes in base64.")

    def _asked_past(self) -> Past | None:
        epoch, after = self.argument("epoch"), self.integer("after")
        if (epoch is None) != (after is None):
            raise HTTPError(400, "To resume, `epoch` and `after` are needed together.")
        return None if epoch is None or after is None else Past(epoch, after)

    def _asked_name(self) -> str:
        """The display name that is wished for, or one of ours."""
        with contextlib.suppress(ProtocolError, HTTPError):
            if wish := self.argument("name"):
                return identity.display_name(wish)
        return f"Guest {random.randrange(1000, 10000)}"

    def _check_subprotocol(self) -> None:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        self.is_plain = not offered
        if offered and self.select_subprotocol([word.strip() for word in offered.split(",")]) is None:
            raise HTTPError(
                400, f"This server speaks {protocol.SUBPROTOCOL}, or the plain wire if no subprotocol is named."
            )

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in subprotocols else None

    def _check_stranger(self) -> None:
        # Tornado would refuse him, too, but without a count and with a page of its own.
        try:
            is_stranger = self._check_cross_origin(self.check_origin) is not None or self._is_from_plain_http()
        except ValueError:  # an Origin that is no URL
            is_stranger = True
        if is_stranger:
            _refused_handshakes.labels("origin").inc()
            raise HTTPError(403, "Pages of other sites may not enter; the operator can allow theirs (allowed_origins).")

    def _is_from_plain_http(self) -> bool:
        """Whether a page that anybody on its way could have written wants into a server that speaks https."""
        origin = self.request.headers.get("Origin", "")
        return origin.lower().startswith("http:") and http.is_https(self.request) and not self.check_origin(origin)

    # Coming and going

    async def get(self) -> None:
        """Let him in: what Tornado would check here, `prepare` has."""
        self.open_args, self.open_kwargs = (), {}
        self.ws_connection = connection = self.get_websocket_protocol()
        assert connection is not None  # he asked for the version that there is
        await connection.accept_connection(self)

    async def open(self) -> None:
        self._address = http.address_of(self.request)
        asked_room, wish, past = self._asked_room, self._wish, self._past
        self.forget_handshake("_asked_room", "_wish", "_past")
        self._per_address[self._address] += 1
        self.sockets[self] = time.monotonic() + serving.PING_S
        _members.inc()
        self.room = self._room(asked_room)
        with noted(self._could_not_enter):
            await self._enter(self.room, wish, past)

    async def _enter(self, room: Room, wish: str, past: Past | None) -> None:
        try:
            await room.enter(self, wish, past)
            self.is_in = True
        except (WebSocketClosedError, StreamClosedError):
            pass  # gone before he was in; on_close follows
        except Barred as barred:  # which could not be known at his handshake
            self._turn_away(barred)
        except ProtocolError:  # the log is away: one line is said of that, not one for each who comes
            self.close(CloseCode.OUR_FAULT, "come back in a moment")

    def _could_not_enter(self, error: Exception) -> None:
        """A room that cannot be read costs its newcomer the socket, not the server its loop."""
        if not self.is_draining:  # else the log has stopped reading
            log.error("%s could not enter", self, exc_info=error)
        self.close(CloseCode.OUR_FAULT, "internal error")

    def on_close(self) -> None:
        if self.room is None:
            return
        self.sockets.pop(self, None)
        _members.dec()
        self._per_address[self._address] -= 1
        if not self._per_address[self._address]:
            del self._per_address[self._address]
        self.room.leave(self)
        if self.is_draining and not self.sockets:
            self.all_gone.set()

    def _turn_away(self, barred: Barred) -> None:
        self.put_out(barred.out)

    def put_out(self, out: protocol.Out) -> None:
        """Say why and close; whoever does not answer the close frame in time is dropped."""
        if not self.is_plain:
            self.post(protocol.encode(out))
            self.post_all()
        self.close(CloseCode.POLICY, "put out")
        asyncio.get_running_loop().call_later(PUT_OUT_S, self.abort)

    @classmethod
    def _room(cls, name: str) -> Room:
        room = cls.rooms.get(name)
        if room is None:
            room = cls.rooms[name] = Room(name, cls.event_log, cls.limits, cls.config.send_buffer_bytes, cls._forget)
            _rooms.inc()
        return room

    @classmethod
    def _forget(cls, room: Room) -> None:
        if cls.rooms.get(room.name) is room:
            del cls.rooms[room.name]
            cls.event_log.close_room(room.name)
            _rooms.dec()

    # What the log has to say

    @classmethod
    def show(cls, room_name: str, events: list[protocol.Event], changed: dict[int, bytes]) -> None:
        """Committed events reach their room; their speakers have their acks before."""
        cls.post_all()
        if room_name in cls.rooms:
            cls.rooms[room_name].show(events, changed)

    @classmethod
    def tell_storing(cls, storing: bool) -> None:
        (log.warning if storing else log.error)("the log %s take messages", "can" if storing else "cannot")
        for room in cls.rooms.values():
            room.tell(protocol.encode(protocol.Status(storing)))

    @classmethod
    def learn(cls, room_name: str, news: News) -> None:
        cls.post_all()
        if room_name in cls.rooms:
            cls.rooms[room_name].learn(news)

    @classmethod
    def hear_server(cls, room_name: str, payload: bytes) -> None:
        if room_name in cls.rooms:
            cls.rooms[room_name].hear(decode_telling(payload))

    @classmethod
    def begin_sharing(cls, room_name: str) -> None:
        if room_name in cls.rooms:
            cls.rooms[room_name].begin_sharing()

    @classmethod
    def forget_server(cls, server: str) -> None:
        for room in cls.rooms.values():
            room.forget_server(server)

    @classmethod
    def begin_epoch(cls, room_name: str, opening: Opening) -> None:
        if room_name in cls.rooms:
            cls.rooms[room_name].begin_epoch(opening)

    @classmethod
    def begin_anew(cls, room_name: str) -> None:
        """The log has lost what was shown: whoever is there comes back, into another room, and is told `reset`."""
        room = cls.rooms.get(room_name)
        if room is not None:
            room.is_over = True
            cls._forget(room)
            serving.say_goodbye(cls, room.everybody(), "the log was replaced")

    # What the member has to say

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        if self.is_draining or (self.room is not None and self.room.is_over):
            return None  # not acked, so that it will be said again to the next server, or in the room's next life
        if self.is_plain:
            return self._hear_plain(message)
        try:
            return self._hear(message)
        except ProtocolError as error:
            self._refuse(error)
            return None

    def _hear(self, message: str | bytes) -> Awaitable[None] | None:
        if not isinstance(message, str):
            raise ProtocolError("bad_frame", "A frame is text; this one was binary.")
        frame = protocol.decode(message)
        match frame:
            case protocol.Say():
                return self._say(frame)
            case protocol.Typing():
                self._typing()
            case protocol.History():
                self._check_asking(frame.ref)
                return self._send_history(frame)
            case protocol.People():
                self._check_asking(frame.ref)
                self._send_people(frame)
            case protocol.Rename():
                self._check_asking(msgspec.UNSET)
                self._rename(frame.name)
            case protocol.AskActs() | protocol.AskHeld() | protocol.AskPerson() | protocol.AskOrder():
                self._check_asking(frame.ref)
                return self._answer(frame.ref, desk.answer(self._member_room, self.event_log, self, frame))
            case protocol.React():
                self._check_asking(frame.ref)
                self._react(frame)
            case _:
                self._check_asking(frame.ref)
                return self._answer(
                    frame.ref, desk.act(self._member_room, self, self.secret, self.config.base_path, frame)
                )
        return None

    def _react(self, react: protocol.React) -> None:
        try:
            stored = self._member_room.acts.react(self, react)
        except ProtocolError as error:
            self._refuse(error.to(react.ref))
            return
        stored.add_done_callback(partial(self._reacted, react.ref))

    def _reacted(self, ref: "protocol.Ref | msgspec.UnsetType", stored: "asyncio.Future[int]") -> None:
        error = stored.exception()
        if isinstance(error, ProtocolError):
            self._refuse(error.to(ref))
        else:
            self.post(protocol.encode(protocol.Done(ref, stored.result() or msgspec.UNSET)))

    async def _answer(self, ref: "protocol.Ref | msgspec.UnsetType", asked: Awaitable[msgspec.Struct]) -> None:
        try:
            answer = await asked
        except ProtocolError as error:
            self._refuse(error.to(ref))
        else:
            self.post(protocol.encode(answer))

    def _hear_plain(self, message: str | bytes) -> Awaitable[None] | None:
        try:
            text = protocol.checked_text(message if isinstance(message, str) else "")
        except ProtocolError:
            _dropped_texts.inc()
            return None
        if wait_s := self.says.wait_s(self.person_id, time.monotonic()):
            return self._say_later(text, wait_s)
        return self._append_plain(text)

    def _append_plain(self, text: str) -> Awaitable[None] | None:
        try:
            return self._append(text)
        except ProtocolError as refused:
            if refused.code in ("slow_mode", "rate_limited") and isinstance(refused.retry_after, float):
                return self._say_later(text, refused.retry_after)
            _dropped_texts.inc()
            return None

    def _say(self, say: protocol.Say) -> Awaitable[None] | None:
        if wait_s := self.says.wait_s(self.person_id, time.monotonic()):
            raise _rate_limited(wait_s, client_id=say.client_id)
        try:
            return self._append(say.text, say.client_id, say.reply_to if isinstance(say.reply_to, int) else None)
        except ProtocolError as refused:
            refused.client_id = say.client_id
            raise

    async def _say_later(self, text: str, wait_s: float) -> None:
        """The plain wire has no errors: it is read on later instead."""
        while wait_s and not self.is_gone:
            await asyncio.sleep(wait_s)
            wait_s = self.says.wait_s(self.person_id, time.monotonic())
        if not self.is_gone and self.ws_connection is not None and (waiting := self._append_plain(text)) is not None:
            await waiting

    def _append(self, text: str, client_id: str | None = None, reply_to: int | None = None) -> Awaitable[None] | None:
        """Hand a message to the log; the answer, if any, is to be awaited before more is read."""
        room = self._member_room
        by = room.people.get(self.person_id)
        self.event_log.append(room.acts.draft(self, by, text, client_id, reply_to, partial(self._stored, client_id)))
        self._says_in_flight += 1
        if self._says_in_flight < SAYS_IN_FLIGHT:
            return None
        self._says_wait = asyncio.get_running_loop().create_future()
        return self._says_wait

    def _stored(self, client_id: str | None, outcome: int | ProtocolError) -> None:
        self._says_in_flight -= 1
        if self._says_wait is not None and not self._says_wait.done():
            self._says_wait.set_result(None)
        if client_id is None:
            return
        if isinstance(outcome, int):
            self.post(protocol.encode(protocol.Ack(client_id, outcome)))
        else:
            refusal = ProtocolError(
                outcome.code, outcome.sentence, client_id=client_id, retry_after=outcome.retry_after
            )
            self._refuse(refusal)

    def _rename(self, wish: str) -> None:
        name = identity.display_name(wish)
        self._member_room.acts.check_name(self, name)
        self._member_room.rename(self, name)

    def _typing(self) -> None:
        if not self._member_room.acts.is_muted(self) and not self.typings.wait_s(self.person_id, time.monotonic()):
            self._member_room.typing(self)

    # What he asks

    def _check_asking(self, ref: "protocol.Ref | msgspec.UnsetType") -> None:
        if wait_s := self.asks.wait_s(self.person_id, time.monotonic()):
            raise _rate_limited(wait_s, ref=ref)

    async def _send_history(self, asked: protocol.History) -> None:
        try:
            found = await self._find(asked)
        except ProtocolError as error:
            error.ref = asked.ref
            self._refuse(error)
            return
        # The log may be ahead of what the room has shown; that comes with a flush.
        shown = [event for event in found.events if event.seq <= self._member_room.shown_seq]
        more_after = found.more_after or len(shown) < len(found.events)
        events = [msgspec.Raw(event.body) for event in shown]
        self.post(protocol.encode(protocol.Page(events, found.more_before, more_after, asked.ref)))
        self.post_all()
        await self.drained()  # pages asked for at once are sent as they are read, not all into the buffer

    async def _find(self, asked: protocol.History) -> Slice:
        name = self._member_room.name
        if isinstance(asked.before, int):
            return await self.event_log.before(name, asked.before, asked.limit)
        if isinstance(asked.after, int):
            return await self.event_log.after(name, asked.after, asked.limit)
        if isinstance(asked.around, int):
            return await self.event_log.around(name, asked.around, asked.limit)
        assert isinstance(asked.at, int)
        return await self.event_log.since(name, asked.at, asked.limit)

    def _send_people(self, asked: protocol.People) -> None:
        people = self._member_room.people
        people.count_for(self.person_id)
        total, found = people.page(asked.query, asked.offset, asked.limit)
        self.post(protocol.encode(protocol.PeoplePage(total, found, asked.ref)))

    @property
    def _member_room(self) -> Room:
        assert self.room is not None
        return self.room

    # What he alone hears

    def _refuse(self, error: ProtocolError) -> None:
        _refused_frames.labels(error.code).inc()
        self.post(error.frame())
        if error.code in ("bad_frame", "unknown_type"):
            self._strike()

    def _strike(self) -> None:
        if self._strikes is None:
            self._strikes = deque(maxlen=STRIKES)
        self._strikes.append(time.monotonic())
        if len(self._strikes) == STRIKES and self._strikes[-1] - self._strikes[0] <= STRIKES_S:
            log.info("closing %s: too many bad frames", self)
            self.post_all()
            self.close(CloseCode.POLICY, "too many bad frames")


def _rate_limited(wait_s: float, **address: Any) -> ProtocolError:
    sentence = f"That was too fast; try again in {wait_s:.1f} s."
    return ProtocolError("rate_limited", sentence, retry_after=round(wait_s + 0.005, 2), **address)


# The server


class ChatApplication(Application):
    """The routes, and one server's own `ChatSocket` class."""

    def __init__(self, settings: Settings, event_log: EventLog, secret: str, most_members: int) -> None:
        self.socket_class = ChatSocket.for_server(settings, event_log, secret, most_members)
        self.event_log = event_log
        self._socket_path = f"{settings.base_path}/ws"
        self._proxies = Proxies(networks(settings))
        super().__init__(
            _routes(self.socket_class),
            default_handler_class=http.NotFound,
            template_path=str(http.TEMPLATES),
            base_path=settings.base_path,
            assets=Assets(base_path=settings.base_path),
            languages=Languages(),
            shared_origin=lambda: "",  # known once it listens
            compress_response=True,
            cookie_secret=secret,
            trusted_origins=origins(settings),
            refusal=self.socket_class.refusal,
            admission=partial(doors.check_admission, self.socket_class),
            log_function=http.log_request,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        self._proxies.believe(request)
        if request.path == self._socket_path:  # what most ask for, and all at once after an outage
            return self.get_handler_delegate(request, self.socket_class)
        return super().find_handler(request, **kwargs)


def _routes(socket_class: type[ChatSocket]) -> list[tuple[Any, ...]]:
    event_log = socket_class.event_log
    asking = {"asks": socket_class.asks, "now_s": time.monotonic}
    tries = doors.Tries()
    socket_class.rates.share("tries", tries.people)
    socket_class.rates.share("tries of addresses", tries.addresses)
    form = {"host": socket_class, "tries": tries}
    base_path = socket_class.config.base_path
    routes: list[tuple[Any, ...]] = [
        (r"/ws", socket_class),
        (r"/", http.RoomPage),
        (r"/moderation", http.ModeratorsPart),
        (r"/rooms", doors.MakeRoom, form),
        (r"/door", doors.Door, form),
        (r"/admin", doors.Operator, form),
        (r"/api/rooms/([^/]+)/messages", http.MessagesApi, {**asking, "event_log": event_log}),
        (r"/api/rooms/([^/]+)/export", export.Export, {**asking, "host": socket_class}),
        (r"/qr\.svg", http.QrCode, asking),
        (r"/healthz", http.Health, {"event_log": event_log, "is_draining": lambda: socket_class.is_draining}),
        (r"/metrics", http.Metrics, {"counted": supervisor.counted}),
        (r"/static/([0-9a-f]{12})/(.*)", http.StaticFile),
    ]
    if base_path:
        routes.append(("", http.ToBase))
    return [(re.escape(base_path) + path, *rest) for path, *rest in routes]


def make_app(settings: Settings) -> ChatApplication:
    """A server's application with its log open; raises BadOption and LogRefused."""
    check_settings(settings)
    most_members = starting.room_for_members(settings.max_members)
    if settings.redis:
        shared_log = RedisLog(settings.redis)
        return ChatApplication(settings, shared_log, settings.secret or shared_log.secret, most_members)
    event_log = SqliteLog(settings.database)
    return ChatApplication(
        settings, event_log, settings.secret or starting.kept_secret(settings.database), most_members
    )


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain; raises BadOption and LogRefused."""
    tls = starting.tls_context(settings)
    listeners = supervisor.handed_listeners() or starting.listen(settings.port, settings.address)
    app = make_app(settings)
    app.settings["shared_origin"] = partial(starting.shared_origin, listeners[0], settings)
    server = starting.BoundedHTTPServer(
        app,
        ssl_options=tls,
        idle_connection_timeout=HANDSHAKE_S,  # that of TLS included
        body_timeout=HANDSHAKE_S,
        max_header_size=16384,
        max_body_size=65536,
    )
    server.has_room = lambda plain: plain + len(app.socket_class.sockets) < starting.files_for_connections()
    server.add_sockets(listeners)
    stop = serving.stop_signal()  # before anybody is told that the server runs
    starting.renew_on_hangup(server, settings)
    print(starting.greeting(listeners[0], settings, app.event_log.place), flush=True)
    if supervisor.LIFELINE in os.environ:
        supervisor.follow_lifeline(stop)
    sockets = app.socket_class
    log.info("started with room for %d members", sockets.most_members)
    caring = [
        serving.look_after(sockets),
        serving.keep_tidy(sockets, settings),
        serving.keep_collected(),
        serving.keep_time(),
    ]
    await serving.care_until(stop, caring)
    log.info("stopping: %d members are asked to come back", len(sockets.sockets))
    try:
        async with asyncio.timeout(settings.shutdown_grace_s):
            await serving.drain(sockets, settings.shutdown_grace_s)
            server.stop()  # only now: until here newcomers were told to come back later
            await app.event_log.close()
    except TimeoutError:
        serving.leave("not stopped within shutdown_grace_s")
    log.info("stopped")


def main() -> None:
    """Start as the command line says; a refusal is one sentence and status 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path may hold any bytes
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        if commands.run_command(settings):
            return
        if settings.processes > 1 and supervisor.LISTENERS not in os.environ:
            check_settings(settings)
            servers = supervisor.Supervisor(settings, [sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
            sys.exit(asyncio.run(servers.run()))
        with asyncio.Runner(loop_factory=serving.fair_loop) as runner:
            runner.run(serve(settings))
    except (BadOption, BrokenTable, LogRefused) as refusal:
        print(f"chatroom: {refusal}", file=sys.stderr)
        sys.exit(1 if isinstance(refusal, LogUnreachable) else 2)


if __name__ == "__main__":
    main()
