"""What follows from an act: who may do what to whom, what is stored and told, and what changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from chat.decisions import MAX_RESTRAINTS, MAX_ROLES, Decision, PutOut
from chat.eventlog import Editing, Purging, Reacting, Refusing, Removing
from chat.order import FOREVER, RANKS, AddressBan, Barred, Standing
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
from tests.ordered import ANN, BEA, CEM, DAN, MINUTE, NOW, House

ROLES = ("", "moderator", "owner", "operator")


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
        is_so = act in ("unmute", "unban") or getattr(frame, "role", None) == house.order.role_of(BEA.id)
        assert (house.decide(ANN, frame, BEA, {"there"}) == Decision({})) == is_so
    else:
        assert house.refusal(ANN, frame, BEA, {"there"}) == "forbidden"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("act", [act for act in ON_PEOPLE if act != "purge"])
def test_nobody_restrains_himself_or_lifts_what_restrains_him(role: str, act: str) -> None:
    """Not even the operator: it could only be a slip."""
    house = House(Ann=role)
    assert house.refusal(ANN, ON_PEOPLE[act](ANN.id), ANN, {"there"}) == "forbidden"


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
    house.put(closed=True)
    for id, with_role in (("plain", ""), ("owners", "owner")):
        house.put(**{f"invite:{id}": Invite(id, CEM, NOW, NOW + MINUTE, 1, role=with_role)})
    if RANKS[role] >= RANKS[least]:
        house.do(ANN, frame)
    else:
        assert house.refusal(ANN, frame) == "forbidden"


@pytest.mark.parametrize("frame", [frame for least, frame in OTHER_ACTS if least], ids=lambda frame: str(frame)[:40])
def test_a_role_that_was_taken_gives_no_right(frame: AnyAct) -> None:
    """What counts is the order as it is."""
    house = House(Ann="owner", Bea="owner")
    house.do(BEA, GiveRole(person=ANN.id, role=""), ANN)
    assert house.refusal(ANN, frame) == "forbidden"


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


@pytest.mark.parametrize("role", ["", "moderator", "owner"])
def test_a_role_that_is_given_again_changes_nothing(role: Any) -> None:
    """It is done, but not told and not recorded: a program whose answer was lost may ask again."""
    house = House(Ann="owner")
    for _ in range(2):
        decision = house.do(ANN, GiveRole(person=BEA.id, role=role), BEA)
    assert decision == Decision({})
    assert house.refusal(CEM, GiveRole(person=BEA.id, role=role), BEA) == "forbidden"


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
        is_so = house.order.role_of(ANN.id) == given
        assert house.do(ANN, frame, ANN).event == (None if is_so else RoleGiven(0, 0, ANN, ANN, given))
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


def test_a_lifted_mute_leaves_nothing_and_is_lifted_once() -> None:
    """The second time is done, and changes nothing; neither does lifting one that has ended."""
    house = House(Ann="moderator")
    house.do(ANN, Mute(person=BEA.id, seconds=60, reason="spam"), BEA)
    decision = house.do(ANN, Mute(person=BEA.id, seconds=0), BEA)
    assert decision.entries == {f"person:{BEA.id}": None}
    assert decision.event == Acted(0, 0, "mute", ANN, BEA, 0)
    assert decision.record == Record("unmute", ANN, whom=BEA)
    assert house.say(BEA) == ""
    assert house.do(ANN, Mute(person=BEA.id, seconds=0), BEA) == Decision({})
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.now_ms += MINUTE
    assert house.do(ANN, Mute(person=BEA.id, seconds=0), BEA) == Decision({})


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
    """Lifting the ban of the person lifts it, too; twice, and the second time changes nothing."""
    house = House(Ann="moderator", Dan="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, seconds=60, address=True, reason="bots"), BEA, here={"there"})
    assert decision.put_out == (PutOut(Out("ban", NOW + MINUTE, "bots"), BEA.id, frozenset({"there"})),)
    assert (house.barred(BEA, "there"), house.barred(CEM, "there"), house.barred(BEA)) == ("banned",) * 3
    assert (house.barred(CEM), house.barred(DAN, "there")) == ("", "")
    assert house.order.restraints(NOW) == [
        Restraint("ban", BEA, NOW + MINUTE, "bots"),
        Restraint("ban", BEA, NOW + MINUTE, "bots", True),
    ]
    lifted = house.do(ANN, Ban(person=BEA.id, seconds=0, address=True), BEA)
    assert lifted.event == Acted(0, 0, "ban", ANN, BEA, 0)
    assert (lifted.record, lifted.put_out) == (Record("unban", ANN, whom=BEA), ())
    assert (house.barred(BEA, "there"), house.barred(CEM, "there")) == ("", "")
    assert f"person:{BEA.id}" not in house.entries and "address:there" not in house.entries
    assert house.do(ANN, Ban(person=BEA.id, seconds=0, address=True), BEA) == Decision({})


def test_a_ban_of_an_address_is_of_all_from_which_somebody_is_here() -> None:
    """Else the same person would come in again by the other window's; it is listed, and lifted, as one."""
    house = House(Ann="moderator")
    here = {"home", "train"}
    decision = house.do(ANN, Ban(person=BEA.id, seconds=60, address=True, reason="bots"), BEA, here)
    assert decision.put_out == (PutOut(Out("ban", NOW + MINUTE, "bots"), BEA.id, frozenset(here)),)
    ban = AddressBan(NOW + MINUTE, BEA, "bots")
    assert house.order.addresses == {"home": ban, "train": ban}
    assert [house.barred(CEM, address) for address in ("home", "train", "school")] == ["banned", "banned", ""]
    assert [restraint.address for restraint in house.order.restraints(NOW)] == [False, True]
    house.do(ANN, Ban(person=BEA.id, seconds=0), BEA)
    assert house.order.addresses == {}


def test_a_ban_without_the_address_leaves_the_others_there_inside() -> None:
    """Whoever shares the connection is not meant."""
    house = House(Ann="moderator")
    decision = house.do(ANN, Ban(person=BEA.id, seconds=60), BEA, {"there"})
    assert decision.put_out == (PutOut(Out("ban", NOW + MINUTE), BEA.id),)
    assert house.barred(CEM, "there") == ""


def test_a_ban_that_is_lifted_again_with_a_purge_is_a_purge() -> None:
    """What is so already is left as it is, what is asked besides is done."""
    house = House(Ann="moderator")
    lifted = house.do(ANN, Ban(person=BEA.id, seconds=0, purge=True), BEA)
    assert lifted == house.decide(ANN, Purge(person=BEA.id), BEA)


def test_a_ban_of_an_address_needs_an_end_and_an_address() -> None:
    """Addresses change hands, and of somebody who is away none is known."""
    house = House(Ann="owner")
    assert house.refusal(ANN, Ban(person=BEA.id, address=True), BEA, here={"there"}) == "bad_frame"
    assert house.refusal(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA) == "not_found"


def test_a_ban_takes_the_place_of_the_one_before() -> None:
    """With that of the address, whose ban the first one was."""
    house = House(Ann="owner")
    house.do(ANN, Ban(person=BEA.id, seconds=600, address=True), BEA, here={"there"})
    house.do(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA, here={"elsewhere"})
    assert (house.barred(CEM, "there"), house.barred(CEM, "elsewhere")) == ("", "banned")
    house.do(ANN, Ban(person=BEA.id, seconds=30, address=True), BEA, here={"elsewhere"})
    assert house.order.addresses == {"elsewhere": AddressBan(NOW + 30_000, BEA)}
    house.do(ANN, Ban(person=BEA.id, seconds=60), BEA)
    assert (house.barred(BEA), house.barred(CEM, "elsewhere")) == ("banned", "")


def test_of_two_bans_of_one_address_the_longer_one_stays() -> None:
    """A short ban of somebody behind the same address does not end the long one of another."""
    house = House(Ann="owner")
    house.do(ANN, Ban(person=BEA.id, seconds=600, address=True), BEA, here={"there"})
    house.do(ANN, Ban(person=CEM.id, seconds=60, address=True), CEM, here={"there"})
    house.now_ms += MINUTE
    assert house.barred(DAN, "there") == "banned"
    house.do(ANN, Ban(person=CEM.id, seconds=6000, address=True), CEM, here={"there"})
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
    house.do(ANN, Ban(person=CEM.id, seconds=60, address=True), CEM, here={"there"})
    house.now_ms += MINUTE
    house.do(ANN, Mute(person=DAN.id, seconds=60), DAN)
    assert set(house.entries) == {f"person:{ANN.id}", f"person:{DAN.id}"}


def test_a_room_has_ten_thousand_restraints_at_most() -> None:
    """Lifting one, or the end of one, makes room for another."""
    house = House(Ann="owner")
    house.take({f"person:{n}": encode(Standing(str(n), muted_until=NOW + MINUTE)) for n in range(MAX_RESTRAINTS)})
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


@pytest.mark.parametrize(
    "frame",
    [
        SetRules(slow_s=5),
        SetRules(locked=True),
        SetRules(links="off", keep_s=60),
        SetRules(read_only=False),
        SetRules(announcement=""),
        SetRules(),
    ],
)
def test_rules_that_are_so_already_change_nothing(frame: SetRules) -> None:
    """They are done, but not told and not recorded; who was here when the room was locked stays the same."""
    house = House(Ann="owner")
    house.do(ANN, SetRules(slow_s=5, locked=True, links="off", keep_s=60), present=[BEA.id])
    assert house.do(ANN, frame, present=[CEM.id]) == Decision({})
    assert house.order.insiders_lock == {ANN.id, BEA.id}


def test_the_same_announcement_is_put_up_again() -> None:
    """It is told once more, with its new moment."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(announcement="Meeting at nine"))
    house.now_ms += MINUTE
    assert house.do(ANN, SetRules(announcement="Meeting at nine")).event is not None
    assert house.order.rules.announcement == Announcement("Meeting at nine", ANN, NOW + MINUTE)


def test_an_announcement_says_whose_and_when_and_is_not_in_the_record() -> None:
    """It is trimmed as a message is."""
    house = House(Ann="moderator")
    put_up = house.do(ANN, SetRules(announcement=" Meeting at nine\n"))
    assert house.order.rules.announcement == Announcement("Meeting at nine", ANN, NOW)
    assert put_up.record and put_up.record.detail == "announcement=true"
    taken_down = house.do(ANN, SetRules(announcement=" "))
    assert house.order.rules.announcement is None
    assert taken_down.record and taken_down.record.detail == "announcement=false"


def test_a_raid_is_ended_and_leaves_nothing() -> None:
    """Another rule set meanwhile does not end it."""
    house = House(Ann="moderator")
    house.do(ANN, Raid(seconds=60), present=[BEA.id])
    house.do(ANN, SetRules(slow_s=5))
    assert house.say(CEM) == "muted"
    assert house.do(ANN, Raid(seconds=0)).record == Record("raid_end", ANN)
    assert house.say(CEM) == ""
    assert set(house.entries) == {f"person:{ANN.id}", "rules"}
    assert house.do(ANN, Raid(seconds=0)) == Decision({})
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
    assert house.do(ANN, Raid(seconds=0)) == Decision({})
    house.do(ANN, SetRules(slow_s=5))
    assert set(house.entries) == {f"person:{ANN.id}", "rules"}
    assert house.order.rules == Rules(slow_s=5)


def test_a_filter_is_kept_and_recorded_by_its_size() -> None:
    """Its words are no business of the log; a pattern that cannot be used is refused."""
    house = House(Ann="moderator")
    decision = house.do(ANN, SetFilter(patterns=[Pattern("bad"), Pattern("od+", True, "hold")], reason="trolls"))
    assert decision.record == Record("filter", ANN, reason="trolls", detail="patterns=2")
    assert decision.event is None
    assert house.order.patterns == [Pattern("bad"), Pattern("od+", True, "hold")]
    assert house.do(ANN, SetFilter(patterns=[])).entries == {"filter": None}
    assert house.refusal(ANN, SetFilter(patterns=[Pattern("(", True)])) == "bad_frame"
