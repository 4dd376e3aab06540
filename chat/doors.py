"""The doors of closed rooms: who is let in, how one comes in, how one makes a room, and the operator's own door.

Knows rooms through a `Host` alone. Invariant: to whoever is not in it, a closed room answers as one that does not
exist: the same words, and never sooner or later; and nothing changes but by a form of our own pages, or by a program.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol
from urllib.parse import quote, urlencode

import msgspec
from tornado.web import HTTPError

from chat import http, identity
from chat.decisions import Decision
from chat.eventlog import EventLog
from chat.limits import RateLimit
from chat.order import Barred, Order
from chat.passwords import is_password
from chat.protocol import WHITE_SPACE, Invite, Invited, Person, ProtocolError, Ref
from chat.tokens import address_block, address_key, invite_of, invite_token, is_operator_key

ANSWER_S = 0.1  # after this long, or a multiple of it, a closed room says no: more than looking it up takes
MAX_FORM_BYTES = 4096
MAX_MADE_NAME = 50  # code points, so that the mark and the rest have room
CLOSED = "This room is closed: who has an invitation, or its password, comes in by its door."
_REST = "abcdefghijklmnopqrstuvwxyz234567"
_REST_LENGTH = 8
_TRIES_PER_S, _PERSONS_TRIES, _ADDRESS_TRIES = 1.0, 10, 40  # a class behind one address comes in at once
_TRIES_PER_SWEEP = 1000


@dataclass
class Visitor:
    """Somebody outside, as a room judges him."""

    person_id: str
    is_operator: bool
    address_key: str


class Acts(Protocol):
    """What of a room's acts a door needs."""

    @property
    def order(self) -> Order: ...
    def check_entry(self, member: Visitor) -> None: ...
    async def admit(self, person: Person, how: str) -> None: ...
    async def found(self, person: Person) -> None: ...


class HostedRoom(Protocol):
    @property
    def acts(self) -> Acts: ...


class Host(Protocol):
    """The server, as doors see it."""

    event_log: EventLog
    secret: str

    def hosted(self, name: str) -> AbstractAsyncContextManager[HostedRoom]:
        """A room, loaded, which stays for as long as one is inside."""


# Who is let in


async def check_admission(host: Host, handler: http.Answer, room: str) -> None:
    """Raise Refused, when it is time, if whoever asks may not come into the room."""
    person_id = handler.known_person()
    address = address_key(host.secret, http.address_of(handler.request))
    visitor = Visitor(person_id, handler.is_operator_for(person_id), address)
    try:
        async with host.hosted(room) as hosted:
            hosted.acts.check_entry(visitor)
    except Barred as barred:
        raise await refusal(handler, room, barred) from None


async def refusal(handler: http.Answer, room: str, barred: Barred) -> http.Refused:
    """What to raise for somebody who may not come in, once it is time to say so."""
    if identity.is_closed(room):  # that somebody is banned would tell that there is a room
        await its_time(handler)
        return http.Refused(CLOSED, "closed")
    return http.Refused(barred.sentence, barred.code, barred.until, barred.reason)


async def its_time(handler: http.Answer) -> None:
    """Return a fixed time after the request came, or a multiple of it, whatever was done meanwhile."""
    await asyncio.sleep(ANSWER_S - handler.request.request_time() % ANSWER_S)


# Links


def invited(secret: str, base_path: str, room: str, decision: Decision, ref: "Ref | msgspec.UnsetType") -> Invited:
    """The answer to whoever made an invitation."""
    made = next(value for key, value in decision.entries.items() if key.startswith("invite:") and value is not None)
    invite = msgspec.json.decode(made, type=Invite)
    query = urlencode({"room": room, "invite": invite_token(secret, room, invite.id)}, quote_via=quote)
    return Invited(invite, f"{base_path}/door?{query}", ref)


def path_of(room: str) -> str:
    return f"/?room={quote(room, safe=http.UNQUOTED)}"


# Forms


class Tries:
    """How often a person, and an address, may send a form: whatever guessing costs us, it costs them time."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.people = RateLimit(_TRIES_PER_S, _PERSONS_TRIES)
        self.addresses = RateLimit(_TRIES_PER_S, _ADDRESS_TRIES)
        self._now_s = now_s
        self._until_sweep = _TRIES_PER_SWEEP

    def wait_s(self, person_id: str, address: str) -> float:
        """Take a try and return 0, or the seconds until there is one."""
        now_s = self._now_s()
        self._sweep(now_s)
        wait_s = self.people.wait_s(person_id, now_s) if person_id else 0.0
        return wait_s or self.addresses.wait_s(address_block(address), now_s)

    def _sweep(self, now_s: float) -> None:
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = _TRIES_PER_SWEEP
            self.people.forget_full(now_s)
            self.addresses.forget_full(now_s)


class Form(http.Page):
    """A page with a form, which it takes from its own site and not too often."""

    def initialize(self, host: Host, tries: Tries) -> None:
        self.host = host
        self.tries = tries

    def prepare(self) -> None:
        if self.request.method == "POST":
            self._check_sender()
            if len(self.request.body) > MAX_FORM_BYTES:
                raise HTTPError(413, f"A form has at most {MAX_FORM_BYTES} bytes.")
            self._check_tries()

    def _check_sender(self) -> None:
        try:
            is_stranger = self._check_cross_origin(self.check_trusted_origin) is not None
        except ValueError:  # an Origin that is no URL
            is_stranger = True
        if is_stranger:
            raise HTTPError(403, "Pages of other sites may not send this form.")

    def _check_tries(self) -> None:
        if wait_s := self.tries.wait_s(self.known_person(), http.address_of(self.request)):
            raise http.Unavailable(429, "That was too often; try again in a moment.", int(wait_s) + 1)

    def field(self, name: str) -> str:
        """What was written into a field, "" if nothing was; raises HTTPError 400."""
        values = self.request.body_arguments.get(name)
        return http.as_text(name, values[-1]) if values else ""

    def go(self, path: str) -> None:
        """Send the browser to another page, by GET."""
        self.redirect(self.base + path, status=303)


class Door(Form):
    """`/door?room=NAME&invite=TOKEN`: how one comes into a closed room, or becomes an owner.

    Looking at it does nothing, so that a preview of a link uses no invitation up.
    """

    def get(self) -> None:
        room, invite = self.room_name(self.argument("room") or ""), self.argument("invite") or ""
        if invite or identity.is_closed(room):
            self.show_door(room, invite)
        else:
            self.redirect(self.base + path_of(room))

    async def post(self) -> None:
        room = self.room_name(self.field("room"))
        invite, password = self.field("invite"), self.field("password")
        try:
            async with self.host.hosted(room) as hosted:
                how = await self._proven(room, hosted, invite, password)
                await hosted.acts.admit(self._visitor(hosted), how)
        except ProtocolError as error:
            if error.code != "forbidden":  # nothing is wrong with what he showed
                await its_time(self)
                raise http.Unavailable(503, error.sentence, 2) from None
            if not await self._is_in(room):
                self._refuse(room, self.say("door.bad_invite") if invite else self.say("door.bad_password"))
                return
        self.go(path_of(room))

    async def _proven(self, room: str, hosted: HostedRoom, invite: str, password: str) -> str:
        """How somebody comes in: the id of his invitation, or "password"; raises ProtocolError."""
        if invite:
            how = invite_of(self.host.secret, room, invite)
        else:
            how = "password" if await _opens(hosted, password) else None
        if how is None:
            raise ProtocolError("forbidden", CLOSED)
        return how

    def _visitor(self, hosted: HostedRoom) -> Person:
        person_id = self.recognise()
        standing = hosted.acts.order.people.get(person_id)
        return Person(person_id, (standing and standing.name) or NAMELESS)

    async def _is_in(self, room: str) -> bool:
        """Whether this is a closed room in which he is already; if it is not, it is time to say so."""
        try:
            await check_admission(self.host, self, room)
        except http.Refused:
            return False
        return identity.is_closed(room)

    def _refuse(self, room: str, problem: str) -> None:
        self.set_status(403)
        self.show_door(room, problem=problem)


NAMELESS = "Guest"  # until he comes in by a socket, which says what he wishes to be called


async def _opens(hosted: HostedRoom, password: str) -> bool:
    """Whether this is the room's password, also at the end of finding out."""
    kept = hosted.acts.order.password_hash
    return await is_password(password, kept) and hosted.acts.order.password_hash == kept


class MakeRoom(Form, http.RoomsPage):
    """`/rooms`: the start page, and its form that makes a closed room."""

    async def post(self) -> None:
        name = self.field("name").strip(WHITE_SPACE)
        if fault := fault_of_name(name):
            self.set_status(400)
            self.show_page("rooms.html", self.say(fault, n=MAX_MADE_NAME))
        else:
            self.go(path_of(await self._made(name)))

    async def _made(self, name: str) -> str:
        founder = Person(self.recognise(), NAMELESS)
        while True:
            room = closed_name(name)
            async with self.host.hosted(room) as hosted:
                if not hosted.acts.order.is_closed:  # else it is somebody's
                    await _found(hosted, founder)
                    return room


def fault_of_name(name: str) -> str:
    """The key of the sentence that says why no closed room can be made under a name; "" if one can."""
    if not name:
        return "rooms.empty_name"
    if len(name) > MAX_MADE_NAME:
        return "rooms.long_name"
    try:
        identity.room_name(name)
        closed_name(name)
    except ProtocolError:
        return "rooms.bad_name" if {"/", "\\"} & set(name) or name in (".", "..") else "rooms.unfit_name"
    return ""


def closed_name(name: str) -> str:
    """A name that nobody has yet, as far as chance can tell."""
    rest = "".join(secrets.choice(_REST) for _ in range(_REST_LENGTH))
    return identity.room_name(f"~{name}-{rest}")


async def _found(hosted: HostedRoom, founder: Person) -> None:
    try:
        await hosted.acts.found(founder)
    except ProtocolError as error:
        raise http.Unavailable(503, error.sentence, 2) from None


class Operator(Form):
    """`/admin?key=KEY`: makes a browser the operator's; a key does so once in a process."""

    used: ClassVar[set[str]] = set()

    def get(self) -> None:
        self._show(self.argument("key") or "")

    def post(self) -> None:
        key = self.field("key")
        if not self._is_good(key):
            self._show(key)
            return
        self.used.add(key)
        self.keep_signed(http.OPERATOR_COOKIE, self.recognise().encode(), http.OPERATOR_DAYS)
        self.go("/rooms")

    def _show(self, key: str) -> None:
        if self._is_good(key):
            self.show_page("admin.html", key=key)
        else:
            self.set_status(403)
            self.show_page("admin.html", self.say("admin.bad_key"), key="")

    def _is_good(self, key: str) -> bool:
        return key not in self.used and is_operator_key(self.host.secret, key, time.time())
