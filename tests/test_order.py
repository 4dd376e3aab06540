"""The order of a room: who may do what to whom, what follows from it, and who is heard and let in."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from chat.eventlog import Editing, Purging, Reacting, Refusing, Removing
from chat.order import (
    FOREVER,
    MAX_INVITES,
    MAX_RESTRAINTS,
    MAX_ROLES,
    RANKS,
    Actor,
    AddressBan,
    Barred,
    Decision,
    Order,
    PutOut,
    Standing,
    random_id,
)
from chat.protocol import (
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

NOW = 1_800_000_000_000
MINUTE = 60_000
ROLES = ("", "moderator", "owner", "operator")


def person(name: str) -> Person:
    return Person((name.lower() + "a" * 16)[:16], name)


ANN, BEA, CEM, DAN = map(person, ("Ann", "Bea", "Cem", "Dan"))


class House:
    """A room's order with the entries that its log would keep, and a clock."""

    def __init__(self, **roles: str) -> None:
        self.entries: dict[str, bytes] = {}
        self.order = Order.of({})
        self.now_ms = NOW
        self.operators = {person(name).id for name, role in roles.items() if role == "operator"}
        for name, role in roles.items():
            if role != "operator":
                self.put(**{f"person:{person(name).id}": Standing(name=name, role=role)})

    def put(self, **entries: Any) -> None:
        self._take({key: encode(value) for key, value in entries.items()})

    def decide(self, by: Person, frame: AnyAct, whom: Person | None = None, **more: Any) -> Decision:
        """Decide, and leave everything as it is."""
        actor = Actor(by, "operator" if by.id in self.operators else self.order.role_of(by.id))
        is_operator = whom is not None and whom.id in self.operators
        return self.order.decide(frame, actor, whom, self.now_ms, whom_is_operator=is_operator, **more)

    def do(self, by: Person, frame: AnyAct, whom: Person | None = None, **more: Any) -> Decision:
        return self._store(self.decide(by, frame, whom, **more))

    def refusal(self, by: Person, frame: AnyAct, whom: Person | None = None, **more: Any) -> str:
        """The code by which an act is refused."""
        with pytest.raises(ProtocolError) as refused:
            self.decide(by, frame, whom, **more)
        assert refused.value.sentence.endswith(".") and "\n" not in refused.value.sentence
        return refused.value.code

    def admit(self, who: Person, how: str) -> Decision:
        return self._store(self.order.admit(who, how, self.now_ms))

    def say(self, who: Person, text: str = "hello") -> str:
        """Why it is held, "" or the code by which it is refused."""
        try:
            return self.order.check_say(who.id, self.rank(who), text, self.now_ms)
        except ProtocolError as error:
            assert error.sentence.endswith(".")
            return error.code

    def barred(self, who: Person, address: str = "somewhere") -> str:
        """The code by which somebody is kept out, or ""."""
        try:
            self.order.admission(who.id, self.rank(who), address, self.now_ms)
        except Barred as barred:
            assert barred.sentence == str(barred) and barred.sentence.endswith(".")
            return barred.code
        return ""

    def rank(self, who: Person) -> int:
        return RANKS["operator" if who.id in self.operators else self.order.role_of(who.id)]

    def standing(self, who: Person) -> Standing | None:
        return self.order.people.get(who.id)

    def _store(self, decision: Decision) -> Decision:
        self._take(decision.entries)
        for extra in decision.extra:
            self._take(extra.entries)
        return decision

    def _take(self, entries: dict[str, bytes | None] | dict[str, bytes]) -> None:
        self.order = self.order.changed(entries)
        for key, value in entries.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value


# Who may do what to whom

ON_PEOPLE: dict[str, Callable[[str], AnyAct]] = {
    "mute": lambda id: Mute(person=id, seconds=60),
    "unmute": lambda id: Mute(person=id, seconds=0),
    "ban": lambda id: Ban(person=id),
    "ban for a while": lambda id: Ban(person=id, seconds=60, address=True),
    "ban with purge": lambda id: Ban(person=id, purge=True),
    "unban": lambda id: Ban(person=id, seconds=0),
    "kick": lambda id: Kick(person=id),
    "purge": lambda id: Purge(person=id),
}
GIVING: dict[str, Callable[[str], AnyAct]] = {
    "make owner": lambda id: GiveRole(person=id, role="owner"),
    "make moderator": lambda id: GiveRole(person=id, role="moderator"),
    "take role": lambda id: GiveRole(person=id, role=""),
}
# By actor (rows) and target (columns), both in the order of ROLES: "r" restraints and purges, "g" roles.
MATRIX = {
    "": ("", "", "", ""),
    "moderator": ("r", "", "", ""),
    "owner": ("rg", "rg", "g", ""),
    "operator": ("rg", "rg", "rg", "rg"),
}


@pytest.mark.parametrize("act", [*ON_PEOPLE, *GIVING])
@pytest.mark.parametrize("target", ROLES)
@pytest.mark.parametrize("actor", ROLES)
def test_one_acts_on_people_as_the_table_says(actor: str, target: str, act: str) -> None:
    """On those who rank below; owners on the roles of owners, too; the operator on everybody."""
    house = House(Ann=actor, Bea=target, Cem="owner")
    frame = (ON_PEOPLE | GIVING)[act](BEA.id)
    is_right = ("r" if act in ON_PEOPLE else "g") in MATRIX[actor][ROLES.index(target)]
    if is_right:
        assert house.decide(ANN, frame, BEA, address="there").event is not None
    else:
        assert house.refusal(ANN, frame, BEA, address="there") == "forbidden"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("act", [act for act in ON_PEOPLE if act != "purge"])
def test_nobody_restrains_himself_or_lifts_what_restrains_him(role: str, act: str) -> None:
    """Not even the operator: it could only be a slip."""
    house = House(Ann=role)
    assert house.refusal(ANN, ON_PEOPLE[act](ANN.id), ANN, address="there") == "forbidden"


@pytest.mark.parametrize("role", ROLES)
def test_everybody_may_purge_what_he_said_himself(role: str) -> None:
    """It is no moderators' act: the event names nobody and no record is kept."""
    decision = House(Ann=role).decide(ANN, Purge(person=ANN.id), ANN)
    assert decision == Decision({}, Purged(0, 0, ANN.id), Purging(ANN.id))


OTHER_ACTS: list[tuple[str, AnyAct]] = [
    ("", Edit(message=1, text="better")),
    ("", Delete(message=1)),
    ("", React(message=1, kind="\N{EYES}")),
    ("moderator", SetRules(slow_s=30)),
    ("moderator", SetRules(read_only=True)),
    ("moderator", SetRules(locked=True)),
    ("moderator", SetRules(links="off")),
    ("moderator", SetRules(announcement="Welcome")),
    ("owner", SetRules(edit_s=60)),
    ("owner", SetRules(keep_s=60)),
    ("owner", SetRules(slow_s=30, keep_events=60)),
    ("moderator", Raid(seconds=600)),
    ("moderator", Raid(seconds=0)),
    ("moderator", SetFilter(patterns=[Pattern("bad")])),
    ("moderator", MakeInvite(seconds=600)),
    ("owner", MakeInvite(seconds=600, role="owner")),
    ("moderator", Revoke(invite="plain")),
    ("owner", Revoke(invite="owners")),
    ("owner", SetPassword(password="$argon2id$")),
    ("owner", SetPassword(password="")),
    ("moderator", Review(held=3, show=True)),
    ("moderator", Review(held=3, show=False)),
]


@pytest.mark.parametrize(("least", "frame"), OTHER_ACTS, ids=[str(frame)[:40] for _, frame in OTHER_ACTS])
@pytest.mark.parametrize("role", ROLES)
def test_what_concerns_nobody_takes_a_rank(role: str, least: str, frame: AnyAct) -> None:
    """Everybody with that rank or above may do it, and nobody else."""
    house = House(Ann=role)
    for id, with_role in (("plain", ""), ("owners", "owner")):
        house.put(**{f"invite:{id}": Invite(id, CEM, NOW, NOW + MINUTE, 1, role=with_role)})
    if RANKS[role] >= RANKS[least]:
        house.do(ANN, frame)
    else:
        assert house.refusal(ANN, frame) == "forbidden"


@pytest.mark.parametrize("frame", [frame for least, frame in OTHER_ACTS if least], ids=lambda frame: str(frame)[:40])
def test_a_role_that_was_taken_gives_no_right_whatever_the_actor_brings(frame: AnyAct) -> None:
    """What counts is the order as it is; only "operator" is believed."""
    house = House(Ann="owner", Bea="owner")
    house.do(BEA, GiveRole(person=ANN.id, role=""), ANN)
    with pytest.raises(ProtocolError) as refused:
        house.order.decide(frame, Actor(ANN, "owner"), None, NOW)
    assert refused.value.code == "forbidden"


def test_who_is_banned_does_nothing_and_says_nothing() -> None:
    """His socket may still be open for the moment in which it is being closed."""
    house = House(Ann="owner", Bea="")
    house.do(ANN, Ban(person=BEA.id), BEA)
    for frame in (
        Delete(message=1),
        Purge(person=BEA.id),
        React(message=1, kind="\N{EYES}"),
        Edit(message=1, text="x"),
    ):
        assert house.refusal(BEA, frame) == "forbidden"
    assert house.say(BEA) == "forbidden"


def test_an_act_on_somebody_nobody_knows_is_refused() -> None:
    """Nobody here and nobody with an entry has the id."""
    house = House(Ann="owner")
    for act in (ON_PEOPLE | GIVING).values():
        assert house.refusal(ANN, act(DAN.id)) == "not_found"


def test_somebody_who_is_away_is_known_by_his_entry() -> None:
    """Under the name that he had."""
    house = House(Ann="owner", Bea="moderator")
    assert house.do(ANN, GiveRole(person=BEA.id, role="")).event == RoleGiven(0, 0, ANN, BEA, "")


# Roles


def test_a_given_role_is_told_recorded_and_kept() -> None:
    """One act is an entry, an event for all and a line of the moderators' log."""
    house = House(Ann="owner")
    decision = house.do(ANN, GiveRole(person=BEA.id, role="moderator", reason="trusted"), BEA)
    assert decision == Decision(
        {f"person:{BEA.id}": b'{"name":"Bea","role":"moderator"}'},
        RoleGiven(0, 0, ANN, BEA, "moderator"),
        record=Record("role", ANN, whom=BEA, reason="trusted", detail="moderator"),
    )
    assert house.order.roles() == [RoleOf(ANN.id, "Ann", "owner"), RoleOf(BEA.id, "Bea", "moderator")]


def test_a_role_that_is_given_again_stays_as_it_is() -> None:
    """The act is repeated, with all that follows from it."""
    house = House(Ann="owner", Bea="moderator")
    before = house.order
    assert house.do(ANN, GiveRole(person=BEA.id, role="moderator"), BEA).event == RoleGiven(0, 0, ANN, BEA, "moderator")
    assert house.order == before


def test_who_loses_his_role_leaves_no_entry() -> None:
    """A name alone is not worth one."""
    house = House(Ann="owner", Bea="moderator")
    assert house.do(ANN, GiveRole(person=BEA.id, role=""), BEA).entries == {f"person:{BEA.id}": None}


@pytest.mark.parametrize(
    ("role", "given", "may"),
    [
        ("", "", False),
        ("", "moderator", False),
        ("moderator", "", True),
        ("moderator", "moderator", False),
        ("moderator", "owner", False),
        ("owner", "moderator", True),
        ("owner", "", True),
        ("owner", "owner", True),
        ("operator", "owner", True),
        ("operator", "", True),
    ],
)
def test_ones_own_role_can_be_given_up_but_not_taken(role: str, given: Any, may: bool) -> None:
    """Down from where one is; the operator may give himself a role, which lasts when he is none."""
    house, frame = House(Ann=role, Bea="owner"), GiveRole(person=ANN.id, role=given)
    if may:
        assert house.do(ANN, frame, ANN).event == RoleGiven(0, 0, ANN, ANN, given)
    else:
        assert house.refusal(ANN, frame, ANN) == "forbidden"


@pytest.mark.parametrize("given", ["", "moderator"])
def test_the_last_owner_stays_unless_the_operator_says_otherwise(given: Any) -> None:
    """He may not give it up, and nobody but an operator may take it."""
    house = House(Ann="owner", Bea="owner", Cem="operator", Dan="moderator")
    house.do(ANN, GiveRole(person=BEA.id, role=given), BEA)
    assert house.refusal(ANN, GiveRole(person=ANN.id, role=given), ANN) == "forbidden"
    assert house.refusal(BEA, GiveRole(person=ANN.id, role=given), ANN) == "forbidden"
    house.do(CEM, GiveRole(person=ANN.id, role=given), ANN)
    assert "owner" not in {role.role for role in house.order.roles()}


def test_who_is_banned_is_given_no_role() -> None:
    """The ban is to be lifted first, or to end; taking a role that he has not changes nothing."""
    house = House(Ann="owner")
    house.do(ANN, Ban(person=BEA.id, seconds=60), BEA)
    assert house.refusal(ANN, GiveRole(person=BEA.id, role="moderator"), BEA) == "forbidden"
    house.do(ANN, GiveRole(person=BEA.id, role=""), BEA)
    house.now_ms += MINUTE
    house.do(ANN, GiveRole(person=BEA.id, role="moderator"), BEA)
    assert house.standing(BEA) == Standing("Bea", "moderator")


def test_a_room_has_a_hundred_roles_at_most() -> None:
    """Those who have one can still be given another."""
    house = House(Ann="owner")
    for number in range(MAX_ROLES - 1):
        house.put(**{f"person:{number}": Standing(str(number), "moderator")})
    assert house.refusal(ANN, GiveRole(person=BEA.id, role="moderator"), BEA) == "forbidden"
    house.do(ANN, GiveRole(person="7", role="owner"), Person("7", "7"))
    house.do(ANN, GiveRole(person="8", role=""), Person("8", "8"))
    house.do(ANN, GiveRole(person=BEA.id, role="moderator"), BEA)


def test_roles_are_listed_owners_first() -> None:
    """Then by name; the list is the asker's own."""
    house = House(Cem="moderator", Bea="owner", Ann="moderator", Dan="")
    assert [role.name for role in house.order.roles()] == ["Bea", "Ann", "Cem"]
    house.order.roles().clear()
    assert len(house.order.roles()) == 3


# Mutes


def test_a_mute_is_told_recorded_and_holds_until_its_end() -> None:
    """The reason goes to him and to the moderators, not into the event."""
    house = House(Ann="moderator")
    until = NOW + MINUTE
    decision = house.do(ANN, Mute(person=BEA.id, seconds=60, reason="calm down"), BEA)
    assert decision == Decision(
        {f"person:{BEA.id}": encode(Standing("Bea", muted_until=until, muted_for="calm down"))},
        Acted(0, 0, "mute", ANN, BEA, until),
        record=Record("mute", ANN, whom=BEA, until=until, reason="calm down"),
    )
    assert house.order.me(BEA, False, NOW) == Me(BEA.id, "Bea", muted_until=until, muted_for="calm down")
    assert house.order.restraints(NOW) == [Restraint("mute", BEA, until, "calm down")]
    assert house.say(BEA) == "muted"
    assert house.say(CEM) == ""
    house.now_ms = until
    assert house.say(BEA) == ""
    assert house.order.me(BEA, False, until) == Me(BEA.id, "Bea")
    assert house.order.restraints(until) == []


def test_a_lifted_mute_leaves_nothing_and_can_be_lifted_again() -> None:
    """The second time does the same as the first."""
    house = House(Ann="moderator")
    house.do(ANN, Mute(person=BEA.id, seconds=60, reason="spam"), BEA)
    for _ in range(2):
        decision = house.do(ANN, Mute(person=BEA.id, seconds=0), BEA)
        assert decision.entries == {f"person:{BEA.id}": None}
        assert decision.event == Acted(0, 0, "mute", ANN, BEA, 0)
        assert decision.record == Record("unmute", ANN, whom=BEA)
    assert house.say(BEA) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (60, "60 seconds"),
        (61, "2 minutes"),
        (3600, "60 minutes"),
        (7200, "2 hours"),
        (90_000, "2 days"),
    ],
)
def test_who_is_muted_is_told_for_how_long(seconds: int, words: str) -> None:
    """In words, rounded up, and in seconds for programs."""
    house = House(Ann="moderator")
    house.do(ANN, Mute(person=BEA.id, seconds=seconds), BEA)
    with pytest.raises(ProtocolError) as refused:
        house.order.check_say(BEA.id, 0, "hello", NOW)
    assert refused.value.sentence == f"You are muted for another {words}."
    assert refused.value.retry_after == seconds


def test_a_moderator_whom_an_owner_muted_is_muted() -> None:
    """He keeps his role and its rights, but is not heard: not by edits, reactions or announcements either."""
    house = House(Ann="owner", Bea="moderator", Cem="moderator")
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    assert house.say(BEA) == "muted"
    assert house.order.me(BEA, False, NOW).muted_until == NOW + MINUTE
    for frame in (
        Edit(message=1, text="x"),
        React(message=1, kind="\N{EYES}"),
        React(message=1, kind="\N{EYES}", on=False),
        SetRules(announcement="me!"),
    ):
        assert house.refusal(BEA, frame) == "muted"
    assert house.refusal(CEM, Mute(person=BEA.id, seconds=0), BEA) == "forbidden"
    house.do(BEA, SetRules(announcement=""))
    house.do(BEA, Delete(message=1))
    house.do(BEA, Kick(person=DAN.id), DAN)


def test_a_mute_does_not_hold_against_who_rises() -> None:
    """It was by somebody who is no longer above him; the same role given again does not lift it."""
    house = House(Ann="owner", Bea="moderator")
    house.do(BEA, Mute(person=CEM.id, seconds=60), CEM)
    house.do(ANN, GiveRole(person=CEM.id, role="moderator"), CEM)
    assert house.say(CEM) == ""
    house.do(ANN, Mute(person=CEM.id, seconds=60), CEM)
    house.do(ANN, GiveRole(person=CEM.id, role="moderator"), CEM)
    assert house.say(CEM) == "muted"
    house.do(ANN, GiveRole(person=CEM.id, role=""), CEM)
    assert house.say(CEM) == "muted"


def test_an_operator_is_exempt_from_everything() -> None:
    """Even from what was laid upon him before he was one."""
    house = House(Ann="owner")
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.do(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA, address="there")
    house.do(ANN, SetRules(read_only=True, locked=True, links="off"))
    house.do(ANN, SetFilter(patterns=[Pattern("bad")]))
    assert (house.say(BEA), house.barred(BEA, "there")) == ("forbidden", "banned")
    house.operators.add(BEA.id)
    assert (house.say(BEA, "bad https://a.example"), house.barred(BEA, "there")) == ("", "")
    assert house.order.me(BEA, True, NOW) == Me(BEA.id, "Bea", "operator")
    house.do(BEA, Kick(person=ANN.id), ANN)


# Bans and kicks


def test_a_ban_for_good_has_no_end() -> None:
    """Events and frames leave `until` out for it, records say -1."""
    house = House(Ann="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, reason="spam"), BEA)
    assert decision == Decision(
        {f"person:{BEA.id}": encode(Standing("Bea", banned_until=FOREVER, banned_for="spam"))},
        Acted(0, 0, "ban", ANN, BEA),
        record=Record("ban", ANN, whom=BEA, until=-1, reason="spam"),
        put_out=(PutOut(Out("ban", reason="spam"), BEA.id),),
    )
    assert house.order.restraints(NOW) == [Restraint("ban", BEA, -1, "spam")]
    with pytest.raises(Barred) as barred:
        house.order.admission(BEA.id, 0, "", NOW + 10**12)
    assert (barred.value.code, barred.value.until, barred.value.reason) == ("banned", None, "spam")
    assert barred.value.sentence == "You are banned from this room for good."


def test_a_ban_with_an_end_ends() -> None:
    """Until then he is told when."""
    house = House(Ann="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, seconds=7200), BEA)
    until = NOW + 7_200_000
    assert decision.event == Acted(0, 0, "ban", ANN, BEA, until)
    assert decision.put_out == (PutOut(Out("ban", until), BEA.id),)
    with pytest.raises(Barred) as barred:
        house.order.admission(BEA.id, 0, "", NOW)
    assert (barred.value.until, barred.value.reason) == (until, "")
    assert barred.value.sentence == "You are banned from this room for another 2 hours."
    house.now_ms = until
    assert house.barred(BEA) == ""


def test_a_ban_of_an_address_keeps_everybody_out_who_has_no_role() -> None:
    """Lifting the ban of the person lifts it, too; it can be lifted twice."""
    house = House(Ann="moderator", Dan="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, seconds=60, address=True, reason="bots"), BEA, address="there")
    assert decision.put_out == (PutOut(Out("ban", NOW + MINUTE, "bots"), BEA.id, "there"),)
    assert (house.barred(BEA, "there"), house.barred(CEM, "there"), house.barred(BEA)) == ("banned",) * 3
    assert (house.barred(CEM), house.barred(DAN, "there")) == ("", "")
    assert house.order.restraints(NOW) == [
        Restraint("ban", BEA, NOW + MINUTE, "bots"),
        Restraint("ban", BEA, NOW + MINUTE, "bots", True),
    ]
    for _ in range(2):
        lifted = house.do(ANN, Ban(person=BEA.id, seconds=0, address=True), BEA)
        assert lifted.event == Acted(0, 0, "ban", ANN, BEA, 0)
        assert (lifted.record, lifted.put_out) == (Record("unban", ANN, whom=BEA), ())
        assert (house.barred(BEA, "there"), house.barred(CEM, "there")) == ("", "")
    assert f"person:{BEA.id}" not in house.entries and "address:there" not in house.entries


def test_a_ban_of_an_address_needs_an_end_and_an_address() -> None:
    """Addresses change hands, and of somebody who is away none is known."""
    house = House(Ann="owner")
    assert house.refusal(ANN, Ban(person=BEA.id, address=True), BEA, address="there") == "bad_frame"
    assert house.refusal(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA) == "not_found"


def test_a_ban_takes_the_place_of_the_one_before() -> None:
    """With that of the address, whose ban the first one was."""
    house = House(Ann="owner")
    house.do(ANN, Ban(person=BEA.id, seconds=600, address=True), BEA, address="there")
    house.do(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA, address="elsewhere")
    assert (house.barred(CEM, "there"), house.barred(CEM, "elsewhere")) == ("", "banned")
    house.do(ANN, Ban(person=BEA.id, seconds=30, address=True), BEA, address="elsewhere")
    assert house.order.addresses == {"elsewhere": AddressBan(NOW + 30_000, BEA)}
    house.do(ANN, Ban(person=BEA.id, seconds=60), BEA)
    assert (house.barred(BEA), house.barred(CEM, "elsewhere")) == ("banned", "")


def test_of_two_bans_of_one_address_the_longer_one_stays() -> None:
    """A short ban of somebody behind the same address does not end the long one of another."""
    house = House(Ann="owner")
    house.do(ANN, Ban(person=BEA.id, seconds=600, address=True), BEA, address="there")
    house.do(ANN, Ban(person=CEM.id, seconds=60, address=True), CEM, address="there")
    house.now_ms += MINUTE
    assert house.barred(DAN, "there") == "banned"
    house.do(ANN, Ban(person=CEM.id, seconds=6000, address=True), CEM, address="there")
    house.now_ms += 10 * MINUTE
    assert house.barred(DAN, "there") == "banned"


def test_a_ban_with_purge_brings_the_purge() -> None:
    """It is the same as that of a purge alone."""
    house = House(Ann="moderator")
    (purge,) = house.decide(ANN, Ban(person=BEA.id, purge=True, reason="spam"), BEA).extra
    assert purge == Decision(
        {}, Purged(0, 0, BEA.id, ANN), Purging(BEA.id), Record("purge", ANN, whom=BEA, reason="spam")
    )
    assert purge == house.decide(ANN, Purge(person=BEA.id, reason="spam"), BEA)


def test_a_ban_takes_the_role() -> None:
    """Those who follow the roles are told by an event of its own; lifting the ban does not bring the role back."""
    house = House(Ann="owner", Bea="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, seconds=60, purge=True), BEA)
    taken, purge = decision.extra
    assert taken == Decision({}, RoleGiven(0, 0, ANN, BEA, ""))
    assert purge.work == Purging(BEA.id)
    assert house.order.role_of(BEA.id) == ""
    house.do(ANN, Ban(person=BEA.id, seconds=0), BEA)
    assert house.standing(BEA) is None


def test_a_kick_leaves_no_entry() -> None:
    """Who was kicked may come back at once."""
    house = House(Ann="moderator")
    assert house.do(ANN, Kick(person=BEA.id, reason="enough"), BEA) == Decision(
        {},
        Acted(0, 0, "kick", ANN, BEA),
        record=Record("kick", ANN, whom=BEA, reason="enough"),
        put_out=(PutOut(Out("kick", reason="enough"), BEA.id),),
    )
    assert house.barred(BEA) == ""


def test_restraints_that_ended_are_forgotten_with_a_new_one() -> None:
    """So that a room does not keep the name of everybody who was ever muted."""
    house = House(Ann="owner")
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.do(ANN, Ban(person=CEM.id, seconds=60, address=True), CEM, address="there")
    house.now_ms += MINUTE
    house.do(ANN, Mute(person=DAN.id, seconds=60), DAN)
    assert set(house.entries) == {f"person:{ANN.id}", f"person:{DAN.id}"}


def test_a_room_has_ten_thousand_restraints_at_most() -> None:
    """Lifting one, or the end of one, makes room for another."""
    house = House(Ann="owner")
    house._take({f"person:{n}": encode(Standing(str(n), muted_until=NOW + MINUTE)) for n in range(MAX_RESTRAINTS)})
    assert house.refusal(ANN, Mute(person=BEA.id, seconds=60), BEA) == "forbidden"
    assert house.refusal(ANN, Ban(person=BEA.id), BEA) == "forbidden"
    house.do(ANN, Mute(person="7", seconds=0))
    house.do(ANN, Ban(person=BEA.id), BEA)
    house.now_ms += MINUTE
    house.do(ANN, Mute(person=CEM.id, seconds=60), CEM)


# Messages


def test_an_edit_is_of_ones_own_message_and_not_of_an_old_one() -> None:
    """Who has no right to it, or comes too late, is found out where the message is known."""
    house = House(Ann="owner", Bea="")
    assert house.decide(BEA, Edit(message=7, text="better")) == Decision(
        {}, Edited(0, 0, BEA, 7, "better"), Editing(7, BEA.id, "better", NOW - 60 * MINUTE)
    )
    house.do(ANN, SetRules(edit_s=60))
    assert house.decide(ANN, Edit(message=7, text="x")).work == Editing(7, ANN.id, "x", NOW - MINUTE)
    house.do(ANN, SetRules(edit_s=0))
    assert house.decide(BEA, Edit(message=7, text="x")).work == Editing(7, BEA.id, "x", 0)


def test_an_edit_is_judged_as_if_it_were_said() -> None:
    """What would be held is refused: there is no message that could wait."""
    house = House(Ann="moderator")
    house.do(ANN, SetFilter(patterns=[Pattern("bad"), Pattern("odd", action="hold")]))
    house.do(ANN, SetRules(links="held"))
    for text in ("bad", "odd", "https://a.example"):
        assert house.refusal(BEA, Edit(message=7, text=text)) == "refused"
        house.do(ANN, Edit(message=7, text=text))
    house.do(ANN, SetRules(read_only=True))
    assert house.refusal(BEA, Edit(message=7, text="fine")) == "read_only"


def test_a_delete_of_ones_own_message_is_no_moderators_act() -> None:
    """Whoever has no role can delete no other, whoever is said to have written it."""
    house = House(Ann="owner", Bea="")
    own = Decision({}, Deleted(0, 0, 7), Removing(7, BEA.id))
    assert house.decide(BEA, Delete(message=7)) == own
    assert house.decide(BEA, Delete(message=7), ANN) == own
    assert house.decide(ANN, Delete(message=7), ANN) == Decision({}, Deleted(0, 0, 7), Removing(7, ANN.id))


def test_a_moderator_deletes_anybodys_message() -> None:
    """The record names whose it was, where that is known."""
    house = House(Ann="moderator")
    decision = house.decide(ANN, Delete(message=7, reason="rude"), BEA)
    assert decision.event == Deleted(0, 0, 7, ANN)
    assert decision.work == Removing(7, None)
    assert decision.record == Record("delete", ANN, whom=BEA, reason="rude", message=7)
    assert house.decide(ANN, Delete(message=7)).record == Record("delete", ANN, message=7)


def test_a_reaction_is_for_everybody_who_is_not_muted() -> None:
    """In a room that is read only, too."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(read_only=True))
    assert house.decide(BEA, React(message=7, kind="\N{EYES}")) == Decision(
        {}, Reacted(0, 0, []), [Reacting(7, "\N{EYES}", BEA, True)]
    )
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    assert house.refusal(BEA, React(message=7, kind="\N{EYES}")) == "muted"


def test_a_review_refuses_or_leaves_the_showing_to_the_room() -> None:
    """What is shown becomes a message, which is no work of an act."""
    house = House(Ann="moderator")
    shown, refused = (house.decide(ANN, Review(held=3, show=show, reason="ok"), BEA) for show in (True, False))
    assert shown == Decision({}, record=Record("review", ANN, whom=BEA, reason="ok", detail="show"))
    assert refused == Decision({}, None, Refusing(3), Record("review", ANN, whom=BEA, reason="ok", detail="refuse"))


# Rules


def test_what_is_named_changes_and_the_rest_stays() -> None:
    """Rules that are all as in a new room leave no entry."""
    house = House(Ann="owner")
    house.do(ANN, SetRules(slow_s=30, links="held"))
    decision = house.do(ANN, SetRules(read_only=True, keep_s=60, reason="night"))
    rules = Rules(slow_s=30, links="held", read_only=True, keep_s=60)
    assert house.order.rules == rules
    assert decision.event == RulesChanged(0, 0, ANN, rules)
    assert decision.record == Record("rules", ANN, reason="night", detail="read_only=true keep_s=60")
    back = house.do(ANN, SetRules(slow_s=0, links="on", read_only=False, keep_s=0))
    assert back.entries == {"rules": None}
    assert back.record and back.record.detail == "slow_s=0 read_only=false links=on keep_s=0"


def test_an_announcement_says_whose_and_when_and_is_not_in_the_record() -> None:
    """It is trimmed as a message is."""
    house = House(Ann="moderator")
    put_up = house.do(ANN, SetRules(announcement=" Meeting at nine\n"))
    assert house.order.rules.announcement == Announcement("Meeting at nine", ANN, NOW)
    assert put_up.record and put_up.record.detail == "announcement=true"
    taken_down = house.do(ANN, SetRules(announcement=" "))
    assert house.order.rules.announcement is None
    assert taken_down.record and taken_down.record.detail == "announcement=false"


def test_a_locked_room_lets_in_who_was_there() -> None:
    """And who has a role, or came by an invitation; locking it again changes nothing."""
    house = House(Ann="moderator")
    house.put(**{f"person:{DAN.id}": Standing("Dan", via="password")})
    house.do(ANN, SetRules(locked=True), present=[BEA.id])
    house.do(ANN, SetRules(locked=True, slow_s=1), present=[CEM.id])
    assert [house.barred(who) for who in (ANN, BEA, CEM, DAN)] == ["", "", "locked", ""]
    house.do(ANN, SetRules(locked=False))
    assert house.barred(CEM) == ""
    assert "insiders:lock" not in house.entries


def test_who_locks_a_room_can_come_back_without_his_role() -> None:
    """He was in it, whether the list of those present says so or not."""
    house = House(Ann="moderator", Bea="owner")
    house.do(ANN, SetRules(locked=True))
    house.do(ANN, GiveRole(person=ANN.id, role=""), ANN)
    assert house.barred(ANN) == ""


def test_in_a_raid_it_is_slow_without_links_and_newcomers_are_muted() -> None:
    """Until its end; who has a role is exempt, who was let in by a door is no newcomer."""
    house = House(Ann="moderator")
    house.put(**{f"person:{DAN.id}": Standing("Dan", via="abc")})
    until = NOW + MINUTE
    decision = house.do(ANN, Raid(seconds=60, reason="bots"), present=[BEA.id])
    assert decision.event == RulesChanged(0, 0, ANN, Rules(raid_until=until))
    assert decision.record == Record("raid", ANN, until=until, reason="bots")
    assert [house.say(who) for who in (ANN, BEA, CEM, DAN)] == ["", "", "muted", ""]
    assert [house.say(who, "https://a.example") for who in (ANN, BEA, DAN)] == ["", "refused", "refused"]
    assert house.order.me(CEM, False, NOW) == Me(CEM.id, "Cem", muted_until=until)
    assert house.order.me(BEA, False, NOW) == Me(BEA.id, "Bea")
    assert house.refusal(CEM, React(message=1, kind="\N{EYES}")) == "muted"
    assert (house.order.slow_s(0, NOW), house.order.slow_s(1, NOW)) == (30, 0)
    house.now_ms = until
    assert [house.say(who, "https://a.example") for who in (ANN, BEA, CEM, DAN)] == [""] * 4
    assert house.order.slow_s(0, until) == 0


def test_a_raid_is_ended_and_leaves_nothing() -> None:
    """Another rule set meanwhile does not end it."""
    house = House(Ann="moderator")
    house.do(ANN, Raid(seconds=60), present=[BEA.id])
    house.do(ANN, SetRules(slow_s=5))
    assert house.say(CEM) == "muted"
    assert house.do(ANN, Raid(seconds=0)).record == Record("raid_end", ANN)
    assert house.say(CEM) == ""
    assert set(house.entries) == {f"person:{ANN.id}", "rules"}
    house.do(ANN, Raid(seconds=0))
    assert house.order.rules == Rules(slow_s=5)


def test_a_raid_that_is_prolonged_keeps_its_insiders_and_a_new_one_has_its_own() -> None:
    """Who came during the raid is a newcomer until it is over."""
    house = House(Ann="moderator")
    house.do(ANN, Raid(seconds=60), present=[BEA.id])
    house.do(ANN, Raid(seconds=600), present=[CEM.id])
    assert (house.say(BEA), house.say(CEM)) == ("", "muted")
    house.now_ms += 10 * MINUTE
    house.do(ANN, Raid(seconds=60), present=[CEM.id])
    assert (house.say(BEA), house.say(CEM)) == ("muted", "")


def test_a_raid_that_is_over_is_forgotten_with_the_next_rule() -> None:
    """With the list of who was no newcomer."""
    house = House(Ann="moderator")
    house.do(ANN, Raid(seconds=60), present=[BEA.id])
    house.now_ms += MINUTE
    house.do(ANN, SetRules(slow_s=0))
    assert set(house.entries) == {f"person:{ANN.id}"}


def test_slow_mode_is_for_who_has_no_role_and_at_least_that_of_a_raid() -> None:
    """The slower of the two counts."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(slow_s=60))
    assert (house.order.slow_s(0, NOW), house.order.slow_s(1, NOW)) == (60, 0)
    house.do(ANN, Raid(seconds=60))
    assert house.order.slow_s(0, NOW) == 60
    house.do(ANN, SetRules(slow_s=10))
    assert house.order.slow_s(0, NOW) == 30


# What is said


@pytest.mark.parametrize(
    ("links", "text", "heard"),
    [
        ("on", "https://a.example", ""),
        ("held", "https://a.example", "link"),
        ("off", "https://a.example", "refused"),
        ("held", "odd https://a.example", "link"),
        ("off", "odd https://a.example", "refused"),
        ("held", "bad https://a.example", "refused"),
        ("off", "hello", ""),
        ("on", "bad", "refused"),
        ("on", "odd", "odd"),
        ("on", "odd bad", "refused"),
    ],
)
def test_a_text_is_heard_held_or_refused(links: Any, text: str, heard: str) -> None:
    """Refusing goes before holding; moderators say what they like."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(links=links))
    house.do(ANN, SetFilter(patterns=[Pattern("odd", action="hold"), Pattern("bad")]))
    assert house.say(BEA, text) == heard
    assert house.say(ANN, text) == ""


def test_a_filter_is_kept_and_recorded_by_its_size() -> None:
    """Its words are no business of the log; a pattern that cannot be used is refused."""
    house = House(Ann="moderator")
    decision = house.do(ANN, SetFilter(patterns=[Pattern("bad"), Pattern("od+", True, "hold")], reason="trolls"))
    assert decision.record == Record("filter", ANN, reason="trolls", detail="patterns=2")
    assert decision.event is None
    assert house.order.patterns == [Pattern("bad"), Pattern("od+", True, "hold")]
    assert house.do(ANN, SetFilter(patterns=[])).entries == {"filter": None}
    assert house.refusal(ANN, SetFilter(patterns=[Pattern("(", True)])) == "bad_frame"


def test_in_a_room_that_is_read_only_moderators_speak() -> None:
    """And nobody else."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(read_only=True))
    assert (house.say(ANN), house.say(BEA)) == ("", "read_only")


@pytest.mark.parametrize(
    "entry",
    [
        {"rules": Rules(slow_s=1)},
        {"rules": Rules(read_only=True)},
        {"rules": Rules(links="held")},
        {"rules": Rules(raid_until=1)},
        {"filter": [Pattern("bad")]},
        {f"person:{BEA.id}": Standing("Bea", muted_until=NOW + 1)},
        {f"person:{BEA.id}": Standing("Bea", banned_until=FOREVER)},
    ],
)
def test_a_room_is_plain_until_something_may_hinder_a_message(entry: dict[str, Any]) -> None:
    """A room that asks only this must not miss a mute or slow mode."""
    house = House(Ann="owner")
    house.put(**{f"person:{CEM.id}": Standing("Cem", via="password")})
    house.put(rules=Rules(locked=True, edit_s=1, keep_s=1, announcement=Announcement("hi", ANN, NOW)))
    assert house.order.is_plain
    house.put(**entry)
    assert not house.order.is_plain


# Closed rooms


def closed_house(**roles: str) -> House:
    house = House(**roles)
    house.put(closed=True)
    return house


def test_a_closed_room_lets_in_who_has_a_role_or_was_let_in() -> None:
    """The operator needs neither."""
    house = closed_house(Ann="owner", Bea="moderator", Dan="operator")
    house.put(password="$argon2id$")
    assert [house.barred(who) for who in (ANN, BEA, CEM, DAN)] == ["", "", "closed", ""]
    assert house.admit(CEM, "password").record == Record("come_in", CEM, detail="password")
    assert house.standing(CEM) == Standing("Cem", via="password")
    assert house.barred(CEM) == ""


def test_an_invitation_is_made_with_a_new_id() -> None:
    """That nobody guesses."""
    house = House(Ann="moderator")
    decision = house.do(ANN, MakeInvite(seconds=600, uses=3, reason="friends"), new_id=lambda: "abc")
    made = Invite("abc", ANN, NOW, NOW + 10 * MINUTE, 3)
    assert decision.entries == {"invite:abc": encode(made)}
    assert decision.record == Record("invite", ANN, until=made.until, reason="friends", detail="abc")
    assert house.order.invites == {"abc": made}
    house.do(ANN, MakeInvite(seconds=600))
    (id,) = house.order.invites.keys() - {"abc"}
    assert len(id) == 12 and set(id) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert len({random_id() for _ in range(1000)}) == 1000


def test_an_invitation_lets_in_as_many_as_it_says() -> None:
    """Who follows it twice takes one use."""
    house = closed_house(Ann="owner")
    house.do(ANN, MakeInvite(seconds=600, uses=2), new_id=lambda: "abc")
    for _ in range(2):
        house.admit(BEA, "abc")
    assert house.order.invites["abc"].used == 1
    assert house.admit(BEA, "abc") == Decision({})
    house.admit(CEM, "abc")
    assert refused(house, DAN, "abc") == "forbidden"
    assert (house.barred(BEA), house.barred(CEM), house.barred(DAN)) == ("", "", "closed")


def refused(house: House, who: Person, how: str) -> str:
    with pytest.raises(ProtocolError) as refusal:
        house.order.admit(who, how, house.now_ms)
    return refusal.value.code


def test_an_invitation_that_is_revoked_expired_used_up_or_none_is_refused_alike() -> None:
    """Nobody learns from it which invitations there are."""
    house = closed_house(Ann="owner")
    house.put(**{"invite:old": Invite("old", ANN, 0, NOW, 1)})
    house.put(**{"invite:used": Invite("used", ANN, 0, NOW + 1, 1, 1)})
    house.put(**{"invite:good": Invite("good", ANN, 0, NOW + 1, 1)})
    house.do(ANN, Revoke(invite="good"))
    sentences = set()
    for how in ("old", "used", "good", "none", "password"):
        with pytest.raises(ProtocolError) as refusal:
            house.order.admit(BEA, how, NOW)
        assert refusal.value.code == "forbidden"
        sentences.add(refusal.value.sentence)
    assert len(sentences) == 1


def test_who_is_banned_is_let_in_by_nothing_and_uses_nothing_up() -> None:
    """Least of all by the link that would make him an owner."""
    house = closed_house(Ann="owner")
    house.put(password="$argon2id$", **{"invite:own": Invite("own", ANN, 0, NOW + MINUTE, 9, role="owner")})
    house.do(ANN, Ban(person=BEA.id), BEA)
    assert refused(house, BEA, "own") == refused(house, BEA, "password") == "forbidden"
    assert house.order.invites["own"].used == 0


def test_an_invitation_of_an_owner_makes_owners() -> None:
    """In an open room, too; who is one already takes no use."""
    house = House(Ann="owner", Bea="moderator")
    house.do(ANN, MakeInvite(seconds=60, uses=3, role="owner"), new_id=lambda: "own")
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    decision = house.admit(BEA, "own")
    assert decision.event == RoleGiven(0, 0, ANN, BEA, "owner")
    assert decision.record == Record("come_in", BEA, detail="own role=owner")
    assert house.standing(BEA) == Standing("Bea", "owner", via="own")
    house.admit(CEM, "own")
    assert house.admit(BEA, "own") == Decision({})
    assert house.order.role_of(CEM.id) == "owner"
    assert house.order.invites["own"].used == 2


def test_an_invitation_makes_no_owner_beyond_the_hundredth_role() -> None:
    """Who has a role already rises by it."""
    house = House(Ann="owner")
    house.do(ANN, MakeInvite(seconds=60, uses=3, role="owner"), new_id=lambda: "own")
    for number in range(MAX_ROLES - 1):
        house.put(**{f"person:{number}": Standing(str(number), "moderator")})
    assert refused(house, BEA, "own") == "forbidden"
    house.admit(Person("7", "7"), "own")


@pytest.mark.parametrize(
    ("loss", "left"),
    [
        (GiveRole(person=BEA.id, role="owner"), {"plain", "own", "other"}),
        (GiveRole(person=BEA.id, role="moderator"), {"plain", "other"}),
        (GiveRole(person=BEA.id, role=""), {"other"}),
        (Ban(person=BEA.id, seconds=60), {"other"}),
    ],
)
def test_who_loses_a_role_loses_the_invitations_that_it_let_him_make(loss: AnyAct, left: set[str]) -> None:
    """Else a demoted owner would follow his own link and be one again."""
    house = House(Ann="operator", Bea="owner", Cem="owner")
    house.do(BEA, MakeInvite(seconds=600), new_id=lambda: "plain")
    house.do(BEA, MakeInvite(seconds=600, role="owner"), new_id=lambda: "own")
    house.do(CEM, MakeInvite(seconds=600, role="owner"), new_id=lambda: "other")
    house.do(ANN, loss, BEA)
    assert set(house.order.invites) == left


def test_who_gives_up_his_role_stays_inside_a_closed_room() -> None:
    """Whoever made the room has no invitation to it."""
    house = closed_house(Ann="owner", Bea="owner")
    house.do(ANN, GiveRole(person=ANN.id, role=""), ANN)
    assert (house.order.role_of(ANN.id), house.barred(ANN)) == ("", "")


def test_who_came_by_a_revoked_invitation_goes_if_it_is_said() -> None:
    """The invitation alone can be revoked first, and they be put out after it."""
    house = closed_house(Ann="owner")
    house.do(ANN, MakeInvite(seconds=600, uses=9), new_id=lambda: "abc")
    house.admit(BEA, "abc")
    house.admit(CEM, "abc")
    house.do(ANN, Mute(person=CEM.id, seconds=60), CEM)
    assert house.do(ANN, Revoke(invite="abc")).put_out == ()
    assert house.barred(BEA) == ""
    decision = house.do(ANN, Revoke(invite="abc", put_out=True, reason="leaked"))
    assert decision.put_out == (PutOut(Out("revoke", reason="leaked"), via="abc"),)
    assert decision.record == Record("revoke", ANN, reason="leaked", detail="abc")
    assert (house.barred(BEA), house.barred(CEM), house.standing(BEA)) == ("closed", "closed", None)
    assert house.standing(CEM) == Standing("Cem", muted_until=NOW + MINUTE)
    assert house.refusal(ANN, Revoke(invite="abc", put_out=True)) == "not_found"


def test_a_room_has_a_thousand_invitations_at_most() -> None:
    """Expired ones do not count, and go when another is made."""
    house = House(Ann="moderator")
    for number in range(MAX_INVITES):
        house.put(**{f"invite:{number}": Invite(str(number), ANN, 0, NOW + MINUTE + number // 500, 1)})
    assert house.refusal(ANN, MakeInvite(seconds=60)) == "forbidden"
    house.now_ms += MINUTE
    house.do(ANN, MakeInvite(seconds=60))
    assert len(house.order.invites) == 501


def test_a_password_is_kept_as_it_was_given_and_never_recorded() -> None:
    """It is a hash by then."""
    house = closed_house(Ann="owner")
    decision = house.do(ANN, SetPassword(password="$argon2id$x"))
    assert decision.record == Record("password", ANN, detail="set")
    assert house.order.password_hash == "$argon2id$x"
    assert house.do(ANN, SetPassword(password="")).entries == {"password": None}
    assert house.order.password_hash == ""


# The value


def test_an_order_is_read_from_the_entries_of_a_log() -> None:
    """Entries that it does not know are let be."""
    order = Order.of(
        {
            "rules": b'{"slow_s":3}',
            "person:a": b'{"name":"A","role":"owner"}',
            "address:k": b'{"until":5,"whom":{"id":"a","name":"A"},"reason":"r"}',
            "invite:i": b'{"id":"i","by":{"id":"a","name":"A"},"at":1,"until":2,"uses":3,"used":1,"role":""}',
            "filter": b'[{"pattern":"bad"}]',
            "password": b'"hash"',
            "insiders:lock": b'["a"]',
            "insiders:raid": b'["b"]',
            "closed": b"true",
            "of a later version": b"[]",
        }
    )
    a = Person("a", "A")
    assert (order.rules, order.people) == (Rules(slow_s=3), {"a": Standing("A", "owner")})
    assert order.addresses == {"k": AddressBan(5, a, "r")}
    assert order.invites == {"i": Invite("i", a, 1, 2, 3, 1)}
    assert (order.patterns, order.password_hash, order.is_closed) == ([Pattern("bad")], "hash", True)
    assert (order.insiders_lock, order.insiders_raid) == ({"a"}, {"b"})


def test_a_change_leaves_the_order_before_as_it_was() -> None:
    """It is judged by again if the change cannot be stored; what did not change is the same object."""
    house = House(Ann="owner")
    house.do(ANN, SetFilter(patterns=[Pattern("bad")]))
    before, entries = house.order, dict(house.entries)
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.do(ANN, SetRules(read_only=True))
    assert before == Order.of(entries)
    assert before.check_say(BEA.id, 0, "hello", NOW) == ""
    assert house.order.filter is before.filter and house.order.invites is before.invites


# Any acts at all

IDS = [ANN.id, BEA.id, CEM.id, DAN.id]
EVERYBODY = {each.id: each for each in (ANN, BEA, CEM, DAN)}
seconds = st.sampled_from([0, 1, 60, 3600])
ids = st.sampled_from(IDS)
any_frame: st.SearchStrategy[AnyAct] = st.one_of(
    st.builds(Edit, message=st.just(1), text=st.sampled_from(["fine", "bad", "http://x.example"])),
    st.builds(Delete, message=st.just(1)),
    st.builds(React, message=st.just(1), kind=st.just("\N{EYES}"), on=st.booleans()),
    st.builds(GiveRole, person=ids, role=st.sampled_from(["", "moderator", "owner"])),
    st.builds(Mute, person=ids, seconds=seconds, reason=st.sampled_from(["", "because"])),
    st.builds(Ban, person=ids, seconds=seconds | st.none(), address=st.booleans(), purge=st.booleans()),
    st.builds(Kick, person=ids),
    st.builds(Purge, person=ids),
    st.builds(
        SetRules,
        slow_s=st.just(UNSET) | seconds,
        read_only=st.just(UNSET) | st.booleans(),
        locked=st.just(UNSET) | st.booleans(),
        links=st.sampled_from([UNSET, "on", "held", "off"]),
        announcement=st.sampled_from([UNSET, "", "Hear!"]),
        edit_s=st.just(UNSET) | seconds,
        keep_s=st.just(UNSET) | seconds,
    ),
    st.builds(Raid, seconds=seconds),
    st.builds(SetFilter, patterns=st.sampled_from([[], [Pattern("bad")], [Pattern("ba+d", True, "hold")]])),
    st.builds(MakeInvite, seconds=st.just(60), uses=st.integers(1, 2), role=st.sampled_from(["", "owner"])),
    st.builds(Revoke, invite=st.sampled_from("abc"), put_out=st.booleans()),
    st.builds(SetPassword, password=st.sampled_from(["", "$argon2id$"])),
    st.builds(Review, held=st.just(1), show=st.booleans()),
)
comings = st.tuples(st.just("come"), ids, st.sampled_from(["a", "b", "c", "password"]))
steps = st.lists(st.tuples(st.integers(0, 90), comings | st.tuples(st.just("act"), ids, any_frame)), max_size=40)


def rank_needed(frame: AnyAct) -> int:
    """The least rank with which a frame might be let through, told without asking the order."""
    if isinstance(frame, Edit | Delete | React | Purge | GiveRole):
        return 0
    owners = isinstance(frame, SetPassword) or getattr(frame, "role", "") == "owner"
    return 2 if owners or {getattr(frame, "edit_s", UNSET), getattr(frame, "keep_s", UNSET)} != {UNSET} else 1


@settings(deadline=None, database=None, max_examples=300)
@given(steps=steps, is_closed=st.booleans())
def test_whatever_is_done_the_order_is_what_its_entries_say(
    steps: list[tuple[int, tuple[str, str, Any]]], is_closed: bool
) -> None:
    """After any acts by anybody it is equal to one read anew; and who has no right changes nothing."""
    house = House(Ann="owner", Bea="moderator")
    if is_closed:
        house.put(closed=True)
    new_ids = iter("abc" * 40)
    for wait_s, (kind, who, what) in steps:
        house.now_ms += wait_s * 1000
        before, by = house.order, EVERYBODY[who]
        try:
            if kind == "come":
                house.admit(by, what)
            else:
                whom = EVERYBODY.get(getattr(what, "person", ""))
                present: Iterable[str] = [ANN.id, CEM.id]
                decision = house.do(by, what, whom, present=present, address="there", new_id=lambda: next(new_ids))
                assert before.role_of(who) or not decision.entries
                assert RANKS[before.role_of(who)] >= rank_needed(what)
        except ProtocolError:
            assert house.order is before
        assert house.order == Order.of(house.entries)
        check_sense(house, before)


def check_sense(house: House, before: Order) -> None:
    """What is true of every order that came about by acts."""
    order = house.order
    owners = [role for role in order.roles() if role.role == "owner"]
    assert owners, "somebody owns the room, as he did before"
    for id, standing in order.people.items():
        assert msgspec.structs.replace(standing, name="") != Standing()
        assert not (standing.role and standing.banned_until > house.now_ms)
        if RANKS[standing.role] < RANKS[before.role_of(id)]:
            links = [invite for invite in order.invites.values() if invite.by.id == id]
            assert not any(RANKS[invite.role or "moderator"] > RANKS[standing.role] for invite in links)
    for ban in order.addresses.values():
        assert ban.until <= house.now_ms or order.people[ban.whom.id].banned_until >= ban.until
    if not order.rules.locked:
        assert not order.insiders_lock
