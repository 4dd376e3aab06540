"""What an act changes in a room, and who has the right to it.

Owns the decisions: each takes the order as it is and what somebody asks, and says what is to be stored. Knows no
socket, no clock, no storage. Invariants: nothing changes by an act of somebody without the right to it; what is so
already is done, and changes nothing.
"""

import secrets
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from msgspec import UNSET, structs

from chat.eventlog import ActEvent, Editing, Purging, Reacting, Refusing, Removing, Work
from chat.filter import check_patterns
from chat.order import (
    FOREVER,
    LOCK_INSIDERS,
    MODERATOR,
    NOBODY,
    OPERATOR,
    OWNER,
    RAID_INSIDERS,
    RANKS,
    AddressBan,
    Order,
    Standing,
    for_good,
)
from chat.protocol import (
    WHITE_SPACE,
    Act,
    Acted,
    Announcement,
    AnyAct,
    Ban,
    Delete,
    Deleted,
    Edit,
    Edited,
    GiveRole,
    Invite,
    Kick,
    MakeInvite,
    Mute,
    Out,
    Person,
    ProtocolError,
    Purge,
    Purged,
    Raid,
    React,
    Reacted,
    Record,
    Review,
    Revoke,
    RoleGiven,
    Rules,
    RulesChanged,
    SetFilter,
    SetPassword,
    SetRules,
    encode,
)

MAX_ROLES = 100  # owners and moderators of a room
MAX_RESTRAINTS = 10_000
MAX_INVITES = 1000
FADED_AT_ONCE = 100  # restraints that ended, forgotten with a new one


class Actor(NamedTuple):
    """Who acts; what role he has is looked up in the order."""

    person: Person
    is_operator: bool = False


class Target(NamedTuple):
    """On whom an act is; `addresses`: the keys of those from which this person is here."""

    person: Person | None = None
    is_operator: bool = False
    addresses: frozenset[str] = frozenset()


def random_id() -> str:
    """The id of a new invitation: 60 bits that nobody guesses."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12))


class Moment(NamedTuple):
    """When an act is done, and what else it finds then."""

    now_ms: int
    present: Iterable[str] = ()  # who are insiders once the room is locked or raided
    new_id: Callable[[], str] = random_id


class PutOut(NamedTuple):
    """Whose sockets are closed, with which last frame: all that match `person`, `addresses` or (before the act) `via`.

    Who has a role in the room, or is an operator, is matched by `person` alone: he may come in from any address.
    """

    out: Out
    person: str = ""
    addresses: frozenset[str] = frozenset()
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


def decide(order: Order, frame: AnyAct, actor: Actor, target: Target, moment: Moment) -> Decision:
    """What an act changes; a password comes as its argon2 hash.

    An edit that would be held, were it said, is refused.
    Raises ProtocolError `forbidden`, `not_found`, `bad_frame`, and for edits and reactions those of `check_say`.
    """
    rank = OPERATOR if actor.is_operator else RANKS[order.role_of(actor.person.id)]
    order.check_ban(actor.person.id, rank, moment.now_ms)
    return _DECISIONS[type(frame)](_Case(order, actor.person, rank, target, moment), frame)


def admit(order: Order, person: Person, how: str, now_ms: int) -> Decision:
    """What changes as somebody comes in by an invitation (its id) or by "password", which was verified.

    Nothing does, and no use is taken, if he is in already and would get nothing more.
    Raises ProtocolError `forbidden`.
    """
    invite = _way_in(order, how, now_ms)
    order.check_ban(person.id, 0, now_ms)
    standing = order.standing(person)
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
    _check_roles(order, standing.role)
    entries |= _entry(person, _with_role(standing, invite.role), now_ms)
    event = RoleGiven(0, 0, invite.by, person, "owner")
    return Decision(entries, event, record=Record("come_in", person, detail=f"{how} role=owner"))


def _way_in(order: Order, how: str, now_ms: int) -> Invite | None:
    if how == "password" and order.password_hash:
        return None
    invite = order.invites.get(how)
    if invite is None or invite.until <= now_ms or invite.used >= invite.uses:
        raise ProtocolError("forbidden", "This invitation is no longer valid: ask for another.")
    return invite


# What the decisions ask


class _Case(NamedTuple):
    """An act that is to be decided: all that is known about it besides its frame."""

    order: Order
    by: Person
    rank: int
    target: Target
    moment: Moment

    @property
    def whom(self) -> Person | None:
        return self.target.person

    @property
    def now_ms(self) -> int:
        return self.moment.now_ms

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
        is_operator = self.target.is_operator and self.whom is not None and self.whom.id == id
        return OPERATOR if is_operator else RANKS[self.order.role_of(id)]

    def entry(self, whom: Person, standing: Standing) -> Changes:
        return _entry(whom, standing, self.now_ms)

    def restraint(self, whom: Person, standing: Standing) -> Changes:
        """The entries of a new restraint, and of old ones that ended; raises ProtocolError if there are too many."""
        order, now_ms = self.order, self.now_ms
        is_near = len(order.people) + len(order.addresses) >= MAX_RESTRAINTS
        if is_near and len(order.restraints(now_ms)) >= MAX_RESTRAINTS:
            raise ProtocolError("forbidden", f"A room has at most {MAX_RESTRAINTS} mutes and bans: lift some first.")
        return _faded(order, now_ms) | self.entry(whom, standing)

    def links_beyond(self, whom: Person, rank: int) -> Changes:
        """The entries that take away the invitations of somebody which one of this rank could not make."""
        made = (invite for invite in self.order.invites.values() if invite.by.id == whom.id)
        return {f"invite:{invite.id}": None for invite in made if rank < _rank_for(invite.role)}

    def here(self) -> bytes:
        """The entry of who is here when something begins."""
        return encode(sorted({*self.moment.present, self.by.id}))


def _check_roles(order: Order, had: str) -> None:
    """Raise ProtocolError if somebody who had the role `had` cannot be given one."""
    if not had and len(order.roles()) >= MAX_ROLES:
        raise ProtocolError("forbidden", f"A room has at most {MAX_ROLES} owners and moderators.")


def _is_last_owner(order: Order, person_id: str) -> bool:
    return [role.id for role in order.roles() if role.role == "owner"] == [person_id]


def _faded(order: Order, now_ms: int) -> Changes:
    """The entries of some restraints that ended, as they are without them."""
    faded: Changes = {}
    over = (key for key, ban in order.addresses.items() if ban.until <= now_ms)
    faded.update((f"address:{key}", None) for key in islice(over, FADED_AT_ONCE))
    ended = (
        (id, standing)
        for id, standing in order.people.items()
        if 0 < standing.muted_until <= now_ms or 0 < standing.banned_until <= now_ms
    )
    for id, standing in islice(ended, FADED_AT_ONCE):
        faded |= _entry(Person(id, standing.name), standing, now_ms)
    return faded


def _entry(person: Person, standing: Standing, now_ms: int) -> Changes:
    """The entry of somebody: without what has ended, none if nothing is left but his name."""
    if standing.muted_until <= now_ms:
        standing = structs.replace(standing, muted_until=0, muted_for="")
    if standing.banned_until <= now_ms:
        standing = structs.replace(standing, banned_until=0, banned_for="")
    is_nobody = structs.replace(standing, name="") == NOBODY
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


def _rank_for(role: str) -> int:
    """Who may make an invitation with this role."""
    return OWNER if role == "owner" else MODERATOR


# Messages


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


# People


def _role(case: _Case, frame: GiveRole) -> Decision:
    order, rank = case.order, RANKS[frame.role]
    whom = _person_for_role(case, frame.person, rank)
    standing = order.standing(whom)
    if standing.role == frame.role:
        return Decision({})
    if rank:
        if standing.banned_until > case.now_ms:
            raise ProtocolError("forbidden", "Who is banned cannot be given a role: lift the ban first.")
        _check_roles(order, standing.role)
    # Who gave his role away would stand before the closed door.
    stays = {"via": "role"} if order.is_closed and not (rank or standing.via) else {}
    return Decision(
        case.links_beyond(whom, rank) | case.entry(whom, structs.replace(_with_role(standing, frame.role), **stays)),
        RoleGiven(0, 0, case.by, whom, frame.role),
        record=Record("role", case.by, whom=whom, reason=frame.reason, detail=frame.role),
    )


def _person_for_role(case: _Case, id: str, rank: int) -> Person:
    """Whose role it is, if who acts may make it one of this rank."""
    gives_up = id == case.by.id and rank < case.rank
    if not gives_up:
        case.need(OWNER)
    whom = case.person(id)
    if case.rank < OPERATOR:
        if case.rank_of(id) > case.rank:
            raise ProtocolError("forbidden", "Only an operator changes the role of one.")
        if rank < OWNER and _is_last_owner(case.order, id):
            raise ProtocolError("forbidden", "A room keeps its last owner: make somebody else an owner first.")
    return whom


def _mute(case: _Case, frame: Mute) -> Decision:
    whom, until = case.person_below(frame.person), _end(frame.seconds, case.now_ms)
    standing = case.order.standing(whom)
    if not until and standing.muted_until <= case.now_ms:
        return Decision({})
    standing = structs.replace(standing, muted_until=until, muted_for=frame.reason if until else "")
    return Decision(
        case.restraint(whom, standing) if until else case.entry(whom, standing),
        Acted(0, 0, "mute", case.by, whom, until),
        record=Record("mute" if until else "unmute", case.by, whom=whom, until=until, reason=frame.reason),
    )


def _ban(case: _Case, frame: Ban) -> Decision:
    whom, until = case.person_below(frame.person), _end(frame.seconds, case.now_ms)
    extra = (_purge_of(case, frame, whom),) if frame.purge else ()
    if not until:
        lifted = _unban(case, frame, whom)
        return extra[0] if extra and lifted.event is None else lifted._replace(extra=extra)
    standing = case.order.standing(whom)
    if standing.role:
        extra = (Decision({}, RoleGiven(0, 0, case.by, whom, "")), *extra)
    banned = structs.replace(standing, role="", banned_until=until, banned_for=frame.reason)
    # One ban takes the place of another, that of addresses, too.
    entries = case.restraint(whom, banned) | case.links_beyond(whom, 0) | _without_addresses(case, whom)
    addresses = case.target.addresses if frame.address else frozenset()
    if frame.address:
        entries |= _address_bans(case, AddressBan(until, whom, frame.reason))
    told = UNSET if until == FOREVER else until
    return Decision(
        entries,
        Acted(0, 0, "ban", case.by, whom, told),
        record=Record("ban", case.by, whom=whom, until=for_good(until), reason=frame.reason),
        put_out=(PutOut(Out("ban", told, frame.reason or UNSET), whom.id, addresses),),
        extra=extra,
    )


def _unban(case: _Case, frame: Ban, whom: Person) -> Decision:
    standing = case.order.standing(whom)
    bans = [ban for ban in case.order.addresses.values() if ban.whom.id == whom.id]
    if max(standing.banned_until, *(ban.until for ban in bans), 0) <= case.now_ms:
        return Decision({})
    return Decision(
        _without_addresses(case, whom) | case.entry(whom, structs.replace(standing, banned_until=0, banned_for="")),
        Acted(0, 0, "ban", case.by, whom, 0),
        record=Record("unban", case.by, whom=whom, reason=frame.reason),
    )


def _without_addresses(case: _Case, whom: Person) -> Changes:
    return {f"address:{key}": None for key, ban in case.order.addresses.items() if ban.whom.id == whom.id}


def _address_bans(case: _Case, ban: AddressBan) -> Changes:
    """The ban of all addresses from which somebody is here: whoever changes between two would come in by the other."""
    if ban.until == FOREVER:
        raise ProtocolError("bad_frame", "`seconds`: the ban of an address needs an end.")
    if not case.target.addresses:
        raise ProtocolError("not_found", "This person is not here, so no address is known: ban without it.")
    there, keys = case.order.addresses, sorted(case.target.addresses)
    return {f"address:{key}": encode(ban) for key in keys if not _outlasts(there.get(key), ban)}


def _outlasts(there: AddressBan | None, ban: AddressBan) -> bool:
    """Whether the ban of somebody else from the same address is the longer one, which stays."""
    return there is not None and there.whom.id != ban.whom.id and there.until > ban.until


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


# The room


_RULES = ("slow_s", "read_only", "locked", "links", "announcement", "edit_s", "keep_s", "keep_events")
_RULES_OF_OWNERS = {"edit_s", "keep_s", "keep_events"}


def _rules(case: _Case, frame: SetRules) -> Decision:
    named = {name: getattr(frame, name) for name in _RULES if getattr(frame, name) is not UNSET}
    case.need(OWNER if named.keys() & _RULES_OF_OWNERS else MODERATOR)
    if "announcement" in named:
        named["announcement"] = _announcement(case, named["announcement"].strip(WHITE_SPACE))
    before = case.order.rules
    rules = structs.replace(before, **named)
    if rules == before:
        return Decision({})
    if rules.raid_until <= case.now_ms:
        rules = structs.replace(rules, raid_until=0)
    return Decision(
        _lock_insiders(case, rules) | _raid_insiders(case, rules) | _rules_entry(rules),
        RulesChanged(0, 0, case.by, rules),
        record=Record("rules", case.by, reason=frame.reason, detail=_told(named)),
    )


def _lock_insiders(case: _Case, rules: Rules) -> Changes:
    if rules.locked and not case.order.rules.locked:
        return {LOCK_INSIDERS: case.here()}
    return {LOCK_INSIDERS: None} if case.order.insiders_lock and not rules.locked else {}


def _raid_insiders(case: _Case, rules: Rules) -> Changes:
    if rules.raid_until > case.now_ms >= case.order.rules.raid_until:
        return {RAID_INSIDERS: case.here()}
    return {RAID_INSIDERS: None} if case.order.insiders_raid and not rules.raid_until else {}


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
    if not until and before.raid_until <= case.now_ms:
        return Decision({})
    rules = structs.replace(before, raid_until=until)
    return Decision(
        _raid_insiders(case, rules) | _rules_entry(rules),
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


# Who comes in


def _invite(case: _Case, frame: MakeInvite) -> Decision:
    case.need(_rank_for(frame.role))
    invites = case.order.invites.values()
    expired = [invite.id for invite in invites if invite.until <= case.now_ms]
    if len(invites) - len(expired) >= MAX_INVITES:
        raise ProtocolError("forbidden", f"A room has at most {MAX_INVITES} invitations: revoke some first.")
    until = case.now_ms + frame.seconds * 1000
    made = Invite(case.moment.new_id(), case.by, case.now_ms, until, frame.uses, role=frame.role)
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
    elif not came:  # it was revoked already, or has expired and is forgotten
        return Decision({})
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
    if frame.password and not case.order.is_closed:
        raise ProtocolError("forbidden", "Only closed rooms have a password.")
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
