"""The order of a room: who may do what, who is kept quiet or out, and what its rules are.

Owns the judgement of a message, of an act and of somebody who comes. An `Order` is a value made of
small entries (key -> JSON) that the log keeps; an act gives a new one. Knows no socket, no clock, no storage.
Invariant: nothing changes by an act of somebody without the right to it, and `Order.of` all entries
is the same as the order that the acts led to.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from msgspec import UNSET, Struct, structs
from msgspec.json import Decoder

from chat.eventlog import ActEvent, Editing, Entries, Purging, Reacting, Refusing, Removing, Work
from chat.filter import TextFilter, check_patterns, has_link
from chat.protocol import (
    MAX_INTEGER,
    WHITE_SPACE,
    Act,
    Acted,
    Announcement,
    AnyAct,
    Ban,
    Bar,
    Delete,
    Deleted,
    Edit,
    Edited,
    GiveRole,
    Invite,
    Kick,
    MakeInvite,
    Me,
    Mute,
    Out,
    Pattern,
    Person,
    ProtocolError,
    Purge,
    Purged,
    Raid,
    React,
    Reacted,
    Record,
    Restraint,
    Review,
    Revoke,
    RoleGiven,
    RoleOf,
    Rules,
    RulesChanged,
    SetFilter,
    SetPassword,
    SetRules,
    encode,
)

FOREVER = MAX_INTEGER
RANKS = {"": 0, "moderator": 1, "owner": 2, "operator": 3}
MODERATOR, OWNER, OPERATOR = 1, 2, 3  # ranks
MAX_ROLES = 100  # owners and moderators of a room
MAX_RESTRAINTS = 10_000
MAX_INVITES = 1000
RAID_SLOW_S = 30  # between two messages while a raid lasts
FADED_AT_ONCE = 100  # restraints that ended, forgotten with a new one


class Standing(Struct, frozen=True, omit_defaults=True):
    """How somebody stands in a room; moments in ms. The name is kept to be shown while he is away."""

    name: str = ""
    role: str = ""
    muted_until: int = 0
    muted_for: str = ""
    banned_until: int = 0  # or FOREVER
    banned_for: str = ""
    via: str = ""  # what lets him into a closed room: the id of an invitation, "password", or "role": one he had


class AddressBan(Struct, frozen=True, omit_defaults=True):
    """An address, known by its keyed hash, from which nobody comes in."""

    until: int
    whom: Person
    reason: str = ""


class Actor(NamedTuple):
    """Who acts; `role` is "operator" for one, or what he has in the room."""

    person: Person
    role: str


class Barred(Exception):
    """Somebody may not come in: `code` ("banned", "locked", "closed") for programs, `sentence` for people."""

    def __init__(self, code: Bar, sentence: str, until: int | None = None, reason: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.until = until  # ms; None: for good, or until somebody lets him in
        self.reason = reason


class PutOut(NamedTuple):
    """Whose sockets are closed, with which last frame: all that match `person`, `address` or (before the act) `via`.

    Who has a role in the room, or is an operator, is matched by `person` alone: he may come in from any address.
    """

    out: Out
    person: str = ""
    address: str = ""
    via: str = ""


Changes = dict[str, bytes | None]  # of entries, by key; None takes one away


class Decision(NamedTuple):
    """What an act changes: all of it is stored in one step, `extra` after the rest."""

    entries: Changes
    event: ActEvent | None = None
    work: Work | None = None
    record: Record | None = None
    put_out: tuple[PutOut, ...] = ()
    extra: tuple["Decision", ...] = ()


def random_id() -> str:
    """The id of a new invitation: 60 bits that nobody guesses."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12))


@dataclass(frozen=True)
class Order:
    """A room's order at one moment; it is never changed, `changed` makes another."""

    rules: Rules = field(default_factory=Rules)
    people: dict[str, Standing] = field(default_factory=dict)
    addresses: dict[str, AddressBan] = field(default_factory=dict)
    invites: dict[str, Invite] = field(default_factory=dict)
    filter: TextFilter = field(default_factory=lambda: TextFilter([]))
    password_hash: str = ""
    insiders_lock: frozenset[str] = frozenset()  # who was here when the room was locked
    insiders_raid: frozenset[str] = frozenset()  # who is no newcomer while a raid lasts
    is_closed: bool = False

    # What it is made of

    @classmethod
    def of(cls, entries: Entries) -> "Order":
        """The order that all entries of a room make."""
        return cls().changed(entries)

    def changed(self, entries: Entries) -> "Order":
        """The order after some entries changed; the rest is shared."""
        parts: dict[str, Any] = {}
        for key, value in entries.items():
            table, _, name = key.partition(":")
            if table in _TABLES:
                part, decoded = _TABLES[table]
                # A copy of 10,000 takes 0.05 ms; it is made once, however many of them change.
                rows = parts[part] if part in parts else parts.setdefault(part, getattr(self, part).copy())
                if value is None:
                    rows.pop(name, None)
                else:
                    rows[name] = decoded(value)
            elif key in _SINGLES:
                part, decoded, absent = _SINGLES[key]
                parts[part] = absent if value is None else decoded(value)
        return replace(self, **parts)

    @property
    def patterns(self) -> list[Pattern]:
        return self.filter.patterns

    # Who is who

    def role_of(self, person_id: str) -> str:
        """The role that somebody has in this room; an operator needs none."""
        standing = self.people.get(person_id)
        return standing.role if standing else ""

    def roles(self) -> list[RoleOf]:
        """Who has a role, owners first."""
        return self._roles.copy()

    @cached_property
    def _roles(self) -> list[RoleOf]:
        roles = [RoleOf(id, standing.name, standing.role) for id, standing in self.people.items() if standing.role]
        return sorted(roles, key=lambda role: (-RANKS[role.role], role.name, role.id))

    def restraints(self, now_ms: int) -> list[Restraint]:
        """The mutes and bans that hold, by name; that of an address is one of its own."""
        restraints = [
            Restraint("ban", ban.whom, ban.until, ban.reason, True)
            for ban in self.addresses.values()
            if ban.until > now_ms
        ]
        for id, standing in self.people.items():
            whom = Person(id, standing.name)
            if standing.banned_until > now_ms:
                restraints.append(Restraint("ban", whom, _for_good(standing.banned_until), standing.banned_for))
            if standing.muted_until > now_ms:
                restraints.append(Restraint("mute", whom, standing.muted_until, standing.muted_for))
        return sorted(restraints, key=lambda each: (each.whom.name, each.whom.id, each.act, each.address))

    def me(self, person: Person, is_operator: bool, now_ms: int) -> Me:
        """How a person stands, as he is told himself."""
        role = "operator" if is_operator else self.role_of(person.id)
        until, reason = self._mute_of(person.id, RANKS[role], now_ms)
        return Me(person.id, person.name, role or UNSET, until or UNSET, reason or UNSET)

    # Who comes in, and what is said

    def admission(self, person_id: str, rank: int, address_key: str, now_ms: int) -> None:
        """Raise Barred if somebody may not come in."""
        standing = self.people.get(person_id, _NOBODY)
        if rank < OPERATOR and standing.banned_until > now_ms:
            raise _barred_by_ban(standing.banned_until, standing.banned_for, now_ms)
        if rank:
            return
        ban = self.addresses.get(address_key)
        if ban is not None and ban.until > now_ms:
            raise _barred_by_ban(ban.until, ban.reason, now_ms)
        if standing.via:
            return
        if self.is_closed:
            raise Barred("closed", "This room is closed: to come in you need an invitation or its password.")
        if self.rules.locked and person_id not in self.insiders_lock:
            raise Barred("locked", "This room is locked: nobody new comes in until a moderator opens it.")

    @cached_property
    def is_plain(self) -> bool:
        """Whether everybody may say anything, at any time and as fast as he likes."""
        rules = self.rules
        if rules.read_only or rules.raid_until or rules.slow_s or self.patterns or rules.links != "on":
            return False
        return not any(standing.muted_until or standing.banned_until for standing in self.people.values())

    def check_say(self, person_id: str, rank: int, text: str, now_ms: int) -> str:
        """Why a message has to wait for review: "link", or the pattern that it is held for; else "".

        Raises ProtocolError `muted`, `read_only`, `refused`, `forbidden` (of a banned person).
        """
        if self.is_plain:
            return ""
        self.check_voice(person_id, rank, now_ms)
        if rank:
            return ""
        if self.rules.read_only:
            raise ProtocolError("read_only", "Only moderators write here at the moment.")
        return self._check_text(text, now_ms)

    def check_voice(self, person_id: str, rank: int, now_ms: int) -> None:
        """Raise ProtocolError for who may not be heard at all: `muted`, `forbidden`."""
        if rank < OPERATOR and self.people.get(person_id, _NOBODY).banned_until > now_ms:
            raise ProtocolError("forbidden", _BANNED)
        until, _ = self._mute_of(person_id, rank, now_ms)
        if until:
            left_ms = until - now_ms
            raise ProtocolError("muted", f"You are muted for another {_span(left_ms)}.", retry_after=left_ms / 1000)

    def _mute_of(self, person_id: str, rank: int, now_ms: int) -> tuple[int, str]:
        """Until when somebody is muted, and why.

        A mute of who has a role is by somebody above him: no other is made, and it ends when he rises.
        """
        standing = self.people.get(person_id, _NOBODY)
        if rank < OPERATOR and standing.muted_until > now_ms:
            return standing.muted_until, standing.muted_for
        is_newcomer = not rank and not standing.via and person_id not in self.insiders_raid
        if is_newcomer and self.rules.raid_until > now_ms:
            return self.rules.raid_until, ""
        return 0, ""

    def _check_text(self, text: str, now_ms: int) -> str:
        found = self.filter.found(text)
        if found is not None and found.action == "refuse":
            raise ProtocolError("refused", "This room's filter does not let this message through.")
        links = "off" if self.rules.raid_until > now_ms else self.rules.links
        if links != "on" and has_link(text):
            if links == "off":
                raise ProtocolError("refused", "Links are not allowed here at the moment.")
            return "link"
        return found.pattern if found is not None else ""

    def slow_s(self, rank: int, now_ms: int) -> int:
        """The seconds between two messages of one person."""
        if rank:
            return 0
        return max(self.rules.slow_s, RAID_SLOW_S if self.rules.raid_until > now_ms else 0)

    # What is done

    def decide(
        self,
        frame: AnyAct,
        actor: Actor,
        whom: Person | None,
        now_ms: int,
        present: Iterable[str] = (),
        address: str = "",
        *,
        whom_is_operator: bool = False,
        new_id: Callable[[], str] = random_id,
    ) -> Decision:
        """What an act changes; a password comes as its argon2 hash.

        `whom`: on whom it is, or whose the message is. `present`: who are insiders once the room is locked or raided.
        `address`: the key of the address of `whom`, for a ban. `actor.role` is asked for "operator" alone: other
        roles are what they are in this order. An edit that would be held, were it said, is refused.
        Raises ProtocolError `forbidden`, `not_found`, `bad_frame`, and for edits and reactions those of `check_say`.
        """
        by, rank = actor.person, RANKS["operator" if actor.role == "operator" else self.role_of(actor.person.id)]
        if rank < OPERATOR and self.standing(by).banned_until > now_ms:
            raise ProtocolError("forbidden", _BANNED)
        case = _Case(self, by, rank, now_ms, whom, whom_is_operator, present, address, new_id)
        return _DECISIONS[type(frame)](case, frame)

    def admit(self, person: Person, how: str, now_ms: int) -> Decision:
        """What changes as somebody comes in by an invitation (its id) or by "password", which was verified.

        Nothing does, and no use is taken, if he is in already and would get nothing more.
        Raises ProtocolError `forbidden`.
        """
        invite = self._way_in(how, now_ms)
        standing = self.standing(person)
        if standing.banned_until > now_ms:
            raise ProtocolError("forbidden", _BANNED)
        rises = invite is not None and RANKS[invite.role] > RANKS[standing.role]
        if not rises and (standing.role or standing.via):
            return Decision({})
        entries: Changes = {}
        if invite:
            entries[f"invite:{invite.id}"] = encode(structs.replace(invite, used=invite.used + 1))
        standing = structs.replace(standing, via=standing.via or how)
        if not (invite and rises):
            entries |= _entry(person, standing, now_ms)
            return Decision(entries, record=Record("come_in", person, detail=how))
        self.check_roles(standing.role)
        entries |= _entry(person, _with_role(standing, invite.role), now_ms)
        event = RoleGiven(0, 0, invite.by, person, "owner")
        return Decision(entries, event, record=Record("come_in", person, detail=f"{how} role=owner"))

    def _way_in(self, how: str, now_ms: int) -> Invite | None:
        if how == "password" and self.password_hash:
            return None
        invite = self.invites.get(how)
        if invite is None or invite.until <= now_ms or invite.used >= invite.uses:
            raise ProtocolError("forbidden", "This invitation is no longer valid: ask for another.")
        return invite

    # What the decisions ask

    def standing(self, person: Person) -> Standing:
        """How somebody stands, under the name he has now."""
        return structs.replace(self.people.get(person.id, _NOBODY), name=person.name)

    def check_roles(self, had: str) -> None:
        """Raise ProtocolError if somebody who had the role `had` cannot be given one."""
        if not had and len(self._roles) >= MAX_ROLES:
            raise ProtocolError("forbidden", f"A room has at most {MAX_ROLES} owners and moderators.")

    def is_last_owner(self, person_id: str) -> bool:
        return [role.id for role in self._roles if role.role == "owner"] == [person_id]

    def faded(self, now_ms: int) -> Changes:
        """The entries of some restraints that ended, as they are without them."""
        faded: Changes = {}
        over = (key for key, ban in self.addresses.items() if ban.until <= now_ms)
        faded.update((f"address:{key}", None) for key in islice(over, FADED_AT_ONCE))
        ended = (
            (id, standing)
            for id, standing in self.people.items()
            if 0 < standing.muted_until <= now_ms or 0 < standing.banned_until <= now_ms
        )
        for id, standing in islice(ended, FADED_AT_ONCE):
            faded |= _entry(Person(id, standing.name), standing, now_ms)
        return faded


_TABLES: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "person": ("people", Decoder(Standing).decode),
    "address": ("addresses", Decoder(AddressBan).decode),
    "invite": ("invites", Decoder(Invite).decode),
}
_decode_patterns = Decoder(list[Pattern]).decode
_decode_ids = Decoder(frozenset[str]).decode
# Of an entry with a key of its own: which part it is, how it is read, and the part without it.
_SINGLES: dict[str, tuple[str, Callable[[bytes], Any], Any]] = {
    "rules": ("rules", Decoder(Rules).decode, Rules()),
    "filter": ("filter", lambda value: TextFilter(_decode_patterns(value)), TextFilter([])),
    "password": ("password_hash", Decoder(str).decode, ""),
    "insiders:lock": ("insiders_lock", _decode_ids, frozenset()),
    "insiders:raid": ("insiders_raid", _decode_ids, frozenset()),
    "closed": ("is_closed", Decoder(bool).decode, False),
}
_NOBODY = Standing()
_BANNED = "You are banned from this room."


def _entry(person: Person, standing: Standing, now_ms: int) -> Changes:
    """The entry of somebody: without what has ended, none if nothing is left but his name."""
    if standing.muted_until <= now_ms:
        standing = structs.replace(standing, muted_until=0, muted_for="")
    if standing.banned_until <= now_ms:
        standing = structs.replace(standing, banned_until=0, banned_for="")
    is_nobody = structs.replace(standing, name="") == _NOBODY
    return {f"person:{person.id}": None if is_nobody else encode(standing)}


def _with_role(standing: Standing, role: str) -> Standing:
    """With another role. A mute ends when its bearer rises: it may be by somebody who is no longer above him."""
    if RANKS[role] > RANKS[standing.role]:
        return structs.replace(standing, role=role, muted_until=0, muted_for="")
    return structs.replace(standing, role=role)


def _end(seconds: int | None, now_ms: int) -> int:
    """When something ends that lasts so long; None: never, 0: it is lifted."""
    if seconds is None:
        return FOREVER
    return now_ms + seconds * 1000 if seconds else 0


def _for_good(until: int) -> int:
    """As records and restraints tell it."""
    return -1 if until == FOREVER else until


def _span(left_ms: int) -> str:
    """How long a time is, in the largest unit of which it has more than one; rounded up."""
    number, unit = -(-left_ms // 1000), "second"
    for size, larger in ((60, "minute"), (60, "hour"), (24, "day")):
        if number <= size:
            break
        number, unit = -(-number // size), larger
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _barred_by_ban(until: int, reason: str, now_ms: int) -> Barred:
    if until == FOREVER:
        return Barred("banned", "You are banned from this room for good.", None, reason)
    return Barred("banned", f"You are banned from this room for another {_span(until - now_ms)}.", until, reason)


# Acts


class _Case(NamedTuple):
    """An act that is to be decided: all that is known about it besides its frame."""

    order: Order
    by: Person
    rank: int
    now_ms: int
    whom: Person | None
    whom_is_operator: bool
    present: Iterable[str]
    address: str
    new_id: Callable[[], str]

    def need(self, rank: int) -> None:
        """Raise ProtocolError if who acts ranks below `rank`."""
        if self.rank < rank:
            who = "moderators and owners" if rank == MODERATOR else "owners"
            raise ProtocolError("forbidden", f"Only the room's {who} may do this.")

    def person(self, id: str) -> Person:
        """On whom it is; raises ProtocolError `not_found`."""
        if self.whom is not None and self.whom.id == id:
            return self.whom
        if id in self.order.people:
            return Person(id, self.order.people[id].name)
        raise ProtocolError("not_found", "Nobody with this id is known in the room.")

    def person_below(self, id: str) -> Person:
        """On whom it is, if that is somebody else and who acts ranks above him."""
        self.need(MODERATOR)
        if id == self.by.id:
            raise ProtocolError("forbidden", "You cannot do this to yourself.")
        whom = self.person(id)
        if self.rank <= self.rank_of(id) and self.rank < OPERATOR:
            raise ProtocolError("forbidden", "You can do this only to people who rank below you.")
        return whom

    def rank_of(self, id: str) -> int:
        is_operator = self.whom_is_operator and self.whom is not None and self.whom.id == id
        return OPERATOR if is_operator else RANKS[self.order.role_of(id)]

    def entry(self, whom: Person, standing: Standing) -> Changes:
        return _entry(whom, standing, self.now_ms)

    def restraint(self, whom: Person, standing: Standing) -> Changes:
        """The entries of a new restraint, and of old ones that ended; raises ProtocolError if there are too many."""
        order, now_ms = self.order, self.now_ms
        if len(order.people) >= MAX_RESTRAINTS and len(order.restraints(now_ms)) >= MAX_RESTRAINTS:
            raise ProtocolError("forbidden", f"A room has at most {MAX_RESTRAINTS} mutes and bans: lift some first.")
        return order.faded(now_ms) | self.entry(whom, standing)

    def links_beyond(self, whom: Person, rank: int) -> Changes:
        """The entries that take away the invitations of somebody which one of this rank could not make."""
        made = (invite for invite in self.order.invites.values() if invite.by.id == whom.id)
        return {f"invite:{invite.id}": None for invite in made if rank < _rank_for(invite.role)}

    def insiders(self, part: str, begins: bool, lasts: bool) -> Changes:
        """The entry of who was here when something began; it stays as it is while that lasts."""
        key = part.replace("_", ":")
        if begins:
            return {key: encode(sorted({*self.present, self.by.id}))}
        return {key: None} if getattr(self.order, part) and not lasts else {}


def _rank_for(role: str) -> int:
    """Who may make an invitation with this role."""
    return OWNER if role == "owner" else MODERATOR


def _edit(case: _Case, frame: Edit) -> Decision:
    order = case.order
    if order.check_say(case.by.id, case.rank, frame.text, case.now_ms):
        raise ProtocolError("refused", "A moderator has to see such a text first: say it as a new message.")
    since_ms = case.now_ms - order.rules.edit_s * 1000 if order.rules.edit_s else 0
    return Decision(
        {},
        Edited(0, 0, case.by, frame.message, frame.text),
        Editing(frame.message, case.by.id, frame.text, since_ms),
    )


def _delete(case: _Case, frame: Delete) -> Decision:
    is_own = case.whom is not None and case.whom.id == case.by.id
    if case.rank < MODERATOR or is_own:
        return Decision({}, Deleted(0, 0, frame.message), Removing(frame.message, case.by.id))
    record = Record("delete", case.by, whom=case.whom, reason=frame.reason, message=frame.message)
    return Decision({}, Deleted(0, 0, frame.message, case.by), Removing(frame.message, None), record)


def _react(case: _Case, frame: React) -> Decision:
    case.order.check_voice(case.by.id, case.rank, case.now_ms)
    return Decision({}, Reacted(0, 0, []), [Reacting(frame.message, frame.kind, case.by, frame.on)])


def _role(case: _Case, frame: GiveRole) -> Decision:
    order, rank = case.order, RANKS[frame.role]
    gives_up = frame.person == case.by.id and rank < case.rank
    if not gives_up:
        case.need(OWNER)
    whom = case.person(frame.person)
    standing = order.standing(whom)
    if case.rank < OPERATOR:
        if case.rank_of(whom.id) > case.rank:
            raise ProtocolError("forbidden", "Only an operator changes the role of one.")
        if rank < OWNER and order.is_last_owner(whom.id):
            raise ProtocolError("forbidden", "A room keeps its last owner: make somebody else an owner first.")
    if rank and standing.banned_until > case.now_ms:
        raise ProtocolError("forbidden", "Who is banned cannot be given a role: lift the ban first.")
    if rank:
        order.check_roles(standing.role)
    # Who gave his role away would stand before the closed door.
    stays = {"via": "role"} if order.is_closed and standing.role and not (rank or standing.via) else {}
    return Decision(
        case.links_beyond(whom, rank) | case.entry(whom, structs.replace(_with_role(standing, frame.role), **stays)),
        RoleGiven(0, 0, case.by, whom, frame.role),
        record=Record("role", case.by, whom=whom, reason=frame.reason, detail=frame.role),
    )


def _mute(case: _Case, frame: Mute) -> Decision:
    whom, until = case.person_below(frame.person), _end(frame.seconds, case.now_ms)
    standing = structs.replace(case.order.standing(whom), muted_until=until, muted_for=frame.reason if until else "")
    return Decision(
        case.restraint(whom, standing) if until else case.entry(whom, standing),
        Acted(0, 0, "mute", case.by, whom, until),
        record=Record("mute" if until else "unmute", case.by, whom=whom, until=until, reason=frame.reason),
    )


def _ban(case: _Case, frame: Ban) -> Decision:
    whom, until = case.person_below(frame.person), _end(frame.seconds, case.now_ms)
    told = UNSET if until == FOREVER else until
    event = Acted(0, 0, "ban", case.by, whom, told)
    act = "ban" if until else "unban"
    record = Record(act, case.by, whom=whom, until=_for_good(until), reason=frame.reason)
    extra = (_purge_of(case, frame, whom),) if frame.purge else ()
    standing = case.order.standing(whom)
    if not until:
        entries = case.entry(whom, structs.replace(standing, banned_until=0, banned_for=""))
        return Decision(_without_address(case, whom) | entries, event, record=record, extra=extra)
    if standing.role:
        extra = (Decision({}, RoleGiven(0, 0, case.by, whom, "")), *extra)
    banned = structs.replace(standing, role="", banned_until=until, banned_for=frame.reason)
    # One ban takes the place of another, that of his address, too.
    entries = case.restraint(whom, banned) | case.links_beyond(whom, 0) | _without_address(case, whom)
    if frame.address:
        entries |= _address_ban(case, AddressBan(until, whom, frame.reason))
    out = Out("ban", told, frame.reason or UNSET)
    put_out = (PutOut(out, whom.id, case.address if frame.address else ""),)
    return Decision(entries, event, record=record, put_out=put_out, extra=extra)


def _without_address(case: _Case, whom: Person) -> Changes:
    return {f"address:{key}": None for key, ban in case.order.addresses.items() if ban.whom.id == whom.id}


def _address_ban(case: _Case, ban: AddressBan) -> Changes:
    if ban.until == FOREVER:
        raise ProtocolError("bad_frame", "`seconds`: the ban of an address needs an end.")
    if not case.address:
        raise ProtocolError("not_found", "This person is not here, so his address is not known: ban him without it.")
    there = case.order.addresses.get(case.address)
    # Of two people's bans of one address the longer one stays.
    if there is not None and there.whom.id != ban.whom.id and there.until > ban.until:
        return {}
    return {f"address:{case.address}": encode(ban)}


def _kick(case: _Case, frame: Kick) -> Decision:
    whom = case.person_below(frame.person)
    return Decision(
        {},
        Acted(0, 0, "kick", case.by, whom),
        record=Record("kick", case.by, whom=whom, reason=frame.reason),
        put_out=(PutOut(Out("kick", reason=frame.reason or UNSET), whom.id),),
    )


def _purge(case: _Case, frame: Purge) -> Decision:
    if frame.person == case.by.id:
        return Decision({}, Purged(0, 0, case.by.id), Purging(case.by.id))
    return _purge_of(case, frame, case.person_below(frame.person))


def _purge_of(case: _Case, frame: Act, whom: Person) -> Decision:
    record = Record("purge", case.by, whom=whom, reason=frame.reason)
    return Decision({}, Purged(0, 0, whom.id, case.by), Purging(whom.id), record)


_RULES = ("slow_s", "read_only", "locked", "links", "announcement", "edit_s", "keep_s", "keep_events")
_RULES_OF_OWNERS = {"edit_s", "keep_s", "keep_events"}


def _rules(case: _Case, frame: SetRules) -> Decision:
    named = {name: getattr(frame, name) for name in _RULES if getattr(frame, name) is not UNSET}
    case.need(OWNER if named.keys() & _RULES_OF_OWNERS else MODERATOR)
    if "announcement" in named:
        named["announcement"] = _announcement(case, named["announcement"].strip(WHITE_SPACE))
    before = case.order.rules
    is_raid = before.raid_until > case.now_ms
    rules = structs.replace(before, **named, raid_until=before.raid_until if is_raid else 0)
    return Decision(
        case.insiders("insiders_lock", rules.locked and not before.locked, rules.locked)
        | case.insiders("insiders_raid", False, is_raid)
        | _rules_entry(rules),
        RulesChanged(0, 0, case.by, rules),
        record=Record("rules", case.by, reason=frame.reason, detail=_told(named)),
    )


def _announcement(case: _Case, text: str) -> Announcement | None:
    if not text:
        return None
    case.order.check_voice(case.by.id, case.rank, case.now_ms)
    return Announcement(text, case.by, case.now_ms)


def _told(named: dict[str, Any]) -> str:
    """Rules as the moderators' log tells them; of an announcement, whether there is one."""
    told = {name: str(value) for name, value in named.items()}
    for name in ("read_only", "locked", "announcement"):
        if name in named:
            told[name] = str(bool(named[name])).lower()
    return " ".join(f"{name}={value}" for name, value in told.items())


def _rules_entry(rules: Rules) -> Changes:
    return {"rules": None if rules == Rules() else encode(rules)}


def _raid(case: _Case, frame: Raid) -> Decision:
    case.need(MODERATOR)
    until, before = _end(frame.seconds, case.now_ms), case.order.rules
    rules = structs.replace(before, raid_until=until)
    begins = until > 0 and before.raid_until <= case.now_ms
    return Decision(
        case.insiders("insiders_raid", begins, until > 0) | _rules_entry(rules),
        RulesChanged(0, 0, case.by, rules),
        record=Record("raid" if until else "raid_end", case.by, until=until, reason=frame.reason),
    )


def _filter(case: _Case, frame: SetFilter) -> Decision:
    case.need(MODERATOR)
    check_patterns(frame.patterns)
    return Decision(
        {"filter": encode(frame.patterns) if frame.patterns else None},
        record=Record("filter", case.by, reason=frame.reason, detail=f"patterns={len(frame.patterns)}"),
    )


def _invite(case: _Case, frame: MakeInvite) -> Decision:
    case.need(_rank_for(frame.role))
    invites = case.order.invites.values()
    expired = [invite.id for invite in invites if invite.until <= case.now_ms]
    if len(invites) - len(expired) >= MAX_INVITES:
        raise ProtocolError("forbidden", f"A room has at most {MAX_INVITES} invitations: revoke some first.")
    until = case.now_ms + frame.seconds * 1000
    made = Invite(case.new_id(), case.by, case.now_ms, until, frame.uses, role=frame.role)
    entries: Changes = {f"invite:{id}": None for id in expired}
    return Decision(
        entries | {f"invite:{made.id}": encode(made)},
        record=Record("invite", case.by, until=until, reason=frame.reason, detail=made.id),
    )


def _revoke(case: _Case, frame: Revoke) -> Decision:
    case.need(MODERATOR)
    order, id = case.order, frame.invite
    came = [who for who, standing in order.people.items() if standing.via == id] if frame.put_out else []
    invite = order.invites.get(id)
    if invite is not None:
        case.need(_rank_for(invite.role))
    elif not came:
        raise ProtocolError("not_found", "There is no such invitation.")
    entries: Changes = {f"invite:{id}": None}
    for who in came:
        standing = structs.replace(order.people[who], via="")
        entries |= case.entry(Person(who, standing.name), standing)
    return Decision(
        entries,
        record=Record("revoke", case.by, reason=frame.reason, detail=id),
        put_out=(PutOut(Out("revoke", reason=frame.reason or UNSET), via=id),) if came else (),
    )


def _password(case: _Case, frame: SetPassword) -> Decision:
    case.need(OWNER)
    return Decision(
        {"password": encode(frame.password) if frame.password else None},
        record=Record("password", case.by, reason=frame.reason, detail="set" if frame.password else "taken away"),
    )


def _review(case: _Case, frame: Review) -> Decision:
    case.need(MODERATOR)
    work, detail = (None, "show") if frame.show else (Refusing(frame.held), "refuse")
    return Decision({}, work=work, record=Record("review", case.by, whom=case.whom, reason=frame.reason, detail=detail))


_DECISIONS: dict[type, Callable[[_Case, Any], Decision]] = {
    Edit: _edit,
    Delete: _delete,
    React: _react,
    GiveRole: _role,
    Mute: _mute,
    Ban: _ban,
    Kick: _kick,
    Purge: _purge,
    SetRules: _rules,
    Raid: _raid,
    SetFilter: _filter,
    MakeInvite: _invite,
    Revoke: _revoke,
    SetPassword: _password,
    Review: _review,
}
