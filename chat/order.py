"""The order of a room: who may come in and be heard, and what its rules are.

Owns the judgement of a message, of a name and of somebody who comes. An `Order` is a value made of
small entries (key -> JSON) that the log keeps; an act (`chat.decisions`) gives a new one. Knows no socket, no clock,
no storage. Invariant: `Order.of` all entries is the same as the order that the acts led to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from msgspec import UNSET, Struct, structs
from msgspec.json import Decoder

from chat.eventlog import Entries
from chat.filter import TextFilter, has_link
from chat.protocol import (
    MAX_INTEGER,
    Bar,
    Invite,
    Links,
    Me,
    Out,
    Pattern,
    Person,
    ProtocolError,
    Restraint,
    RoleOf,
    Rules,
)

FOREVER = MAX_INTEGER
RANKS = {"": 0, "moderator": 1, "owner": 2, "operator": 3}
MODERATOR, OWNER, OPERATOR = 1, 2, 3  # ranks
LOCK_INSIDERS, RAID_INSIDERS = "insiders:lock", "insiders:raid"  # keys of entries
RAID_SLOW_S = 30  # between two messages while a raid lasts


class Standing(Struct, frozen=True, omit_defaults=True):
    """How somebody stands in a room; moments in ms. The name is kept to be shown while he is away."""

    name: str = ""
    role: str = ""
    muted_until: int = 0
    muted_for: str = ""
    banned_until: int = 0  # or FOREVER
    banned_for: str = ""
    via: str = ""  # what lets him into a closed room: the id of an invitation, "password", or "role": one he had


NOBODY = Standing()


class AddressBan(Struct, frozen=True, omit_defaults=True):
    """An address, known by its keyed hash, from which nobody comes in."""

    until: int
    whom: Person
    reason: str = ""


class Barred(Exception):
    """Somebody may not come in: `code` ("banned", "locked", "closed") for programs, `sentence` for people."""

    def __init__(self, code: Bar, sentence: str, until: int | None = None, reason: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.until = until  # ms; None: for good, or until somebody lets him in
        self.reason = reason

    @property
    def out(self) -> Out:
        """The last frame of a socket that is closed for it."""
        return Out(
            "ban" if self.code == "banned" else self.code,
            UNSET if self.until is None else self.until,
            self.reason or UNSET,
        )


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
        """The mutes and bans that hold, by name; that of somebody's addresses is one of its own."""
        by_address = {ban.whom.id: ban for ban in self.addresses.values() if ban.until > now_ms}
        restraints = [Restraint("ban", ban.whom, ban.until, ban.reason, True) for ban in by_address.values()]
        for id, standing in self.people.items():
            whom = Person(id, standing.name)
            if standing.banned_until > now_ms:
                restraints.append(Restraint("ban", whom, for_good(standing.banned_until), standing.banned_for))
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
        standing = self.people.get(person_id, NOBODY)
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
        self.check_ban(person_id, rank, now_ms)
        until, _ = self._mute_of(person_id, rank, now_ms)
        if until:
            left_ms = until - now_ms
            raise ProtocolError("muted", f"You are muted for another {_span(left_ms)}.", retry_after=left_ms / 1000)

    def _mute_of(self, person_id: str, rank: int, now_ms: int) -> tuple[int, str]:
        """Until when somebody is muted, and why.

        A mute of who has a role is by somebody above him: no other is made, and it ends when he rises.
        """
        standing = self.people.get(person_id, NOBODY)
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
        links = self._links(now_ms)
        if links != "on" and has_link(text):
            if links == "off":
                raise ProtocolError("refused", "Links are not allowed here at the moment.")
            return "link"
        return found.pattern if found is not None else ""

    def _links(self, now_ms: int) -> Links:
        return "off" if self.rules.raid_until > now_ms else self.rules.links

    def check_name(self, person_id: str, rank: int, name: str, now_ms: int) -> None:
        """Raise ProtocolError for who may not take this name now: `muted`, `forbidden` (if banned), `refused`.

        A name cannot wait for review: what a message would be held for is refused.
        """
        if self.is_plain:
            return
        self.check_voice(person_id, rank, now_ms)
        if rank:
            return
        if self.filter.found(name) is not None:
            raise ProtocolError("refused", "This room's filter does not let this name through.")
        if self._links(now_ms) != "on" and has_link(name):
            raise ProtocolError("refused", "Names with links in them are not allowed here at the moment.")

    def slow_s(self, rank: int, now_ms: int) -> int:
        """The seconds between two messages of one person."""
        if rank:
            return 0
        return max(self.rules.slow_s, RAID_SLOW_S if self.rules.raid_until > now_ms else 0)

    # What acts ask

    def standing(self, person: Person) -> Standing:
        """How somebody stands, under the name he has now."""
        return structs.replace(self.people.get(person.id, NOBODY), name=person.name)

    def check_ban(self, person_id: str, rank: int, now_ms: int) -> None:
        """Raise ProtocolError `forbidden` for who is banned: his socket may still be open for a moment."""
        if rank < OPERATOR and self.people.get(person_id, NOBODY).banned_until > now_ms:
            raise ProtocolError("forbidden", "You are banned from this room.")


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
    LOCK_INSIDERS: ("insiders_lock", _decode_ids, frozenset()),
    RAID_INSIDERS: ("insiders_raid", _decode_ids, frozenset()),
    "closed": ("is_closed", Decoder(bool).decode, False),
}


def for_good(until: int) -> int:
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
