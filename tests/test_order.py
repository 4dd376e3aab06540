"""Who is heard and who is let in by the order of a room, which is what its entries say, whatever is done."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from chat.decisions import MAX_INVITES, MAX_ROLES, Decision, PutOut, admit, random_id
from chat.order import FOREVER, RANKS, AddressBan, Order, Standing
from chat.protocol import (
    Announcement,
    AnyAct,
    Ban,
    Delete,
    Edit,
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
    Raid,
    React,
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
from tests.ordered import ANN, BEA, CEM, DAN, MINUTE, NOW, House

# What is said


def test_roles_are_listed_owners_first() -> None:
    """Then by name; the list is the asker's own."""
    house = House(Cem="moderator", Bea="owner", Ann="moderator", Dan="")
    assert [role.name for role in house.order.roles()] == ["Bea", "Ann", "Cem"]
    house.order.roles().clear()
    assert len(house.order.roles()) == 3


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


def test_an_operator_is_exempt_from_everything() -> None:
    """Even from what was laid upon him before he was one."""
    house = House(Ann="owner")
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.do(ANN, Ban(person=BEA.id, seconds=60, address=True), BEA, here={"there"})
    house.do(ANN, SetRules(read_only=True, locked=True, links="off"))
    house.do(ANN, SetFilter(patterns=[Pattern("bad")]))
    assert (house.say(BEA), house.barred(BEA, "there")) == ("forbidden", "banned")
    house.operators.add(BEA.id)
    assert (house.say(BEA, "bad https://a.example"), house.barred(BEA, "there")) == ("", "")
    assert house.order.me(BEA, True, NOW) == Me(BEA.id, "Bea", "operator")
    house.do(BEA, Kick(person=ANN.id), ANN)


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


def test_slow_mode_is_for_who_has_no_role_and_at_least_that_of_a_raid() -> None:
    """The slower of the two counts."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(slow_s=60))
    assert (house.order.slow_s(0, NOW), house.order.slow_s(1, NOW)) == (60, 0)
    house.do(ANN, Raid(seconds=60))
    assert house.order.slow_s(0, NOW) == 60
    house.do(ANN, SetRules(slow_s=10))
    assert house.order.slow_s(0, NOW) == 30


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


def test_in_a_room_that_is_read_only_moderators_speak() -> None:
    """And nobody else."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(read_only=True))
    assert (house.say(ANN), house.say(BEA)) == ("", "read_only")


# Names


@pytest.mark.parametrize(
    ("links", "name", "code"),
    [
        ("on", "Bea", ""),
        ("on", "b.example", ""),
        ("on", "bea.com", ""),
        ("held", "bea.com", "refused"),
        ("off", "bea.com", "refused"),
        ("off", "Bea", ""),
        ("on", "b\u0430d Bea", "refused"),
        ("on", "odd Bea", "refused"),
    ],
)
def test_a_name_is_judged_as_a_message_is(links: Any, name: str, code: str) -> None:
    """By the filter and for links; it cannot wait for review. Who has a role is called as he likes."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(links=links))
    house.do(ANN, SetFilter(patterns=[Pattern("odd", action="hold"), Pattern("bad")]))
    assert house.rename(BEA, name) == code
    assert house.rename(ANN, name) == ""


def test_who_is_muted_or_banned_takes_no_other_name() -> None:
    """It would be one more thing to say; a moderator whom an owner muted is no exception."""
    house = House(Ann="owner", Bea="moderator")
    assert house.rename(CEM, "Carl") == ""
    house.do(ANN, Mute(person=BEA.id, seconds=60), BEA)
    house.do(ANN, Mute(person=CEM.id, seconds=60), CEM)
    house.do(ANN, Ban(person=DAN.id), DAN)
    assert [house.rename(who, "Carl") for who in (ANN, BEA, CEM, DAN)] == ["", "muted", "muted", "forbidden"]
    house.now_ms += MINUTE
    assert [house.rename(who, "Carl") for who in (BEA, CEM)] == ["", ""]


def test_in_a_raid_newcomers_take_no_other_name_and_nobody_one_with_a_link() -> None:
    """Whatever the rule about links says; in a room that is read only names are free."""
    house = House(Ann="moderator")
    house.do(ANN, SetRules(read_only=True))
    house.do(ANN, Raid(seconds=60), present=[BEA.id])
    assert [house.rename(who, "Carl") for who in (ANN, BEA, CEM)] == ["", "", "muted"]
    assert [house.rename(who, "carl.com") for who in (ANN, BEA)] == ["", "refused"]
    house.now_ms += MINUTE
    assert [house.rename(who, "carl.com") for who in (BEA, CEM)] == ["", ""]


# Plain rooms


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
        admit(house.order, who, how, house.now_ms)
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
            admit(house.order, BEA, how, NOW)
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


def test_an_invitation_that_is_revoked_again_is_revoked() -> None:
    """Nothing is recorded for it: none is left of which anything could be told."""
    house = House(Ann="moderator")
    house.do(ANN, MakeInvite(seconds=600), new_id=lambda: "abc")
    assert house.do(ANN, Revoke(invite="abc")).record == Record("revoke", ANN, detail="abc")
    assert house.do(ANN, Revoke(invite="abc")) == Decision({})


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
    assert house.do(ANN, Revoke(invite="abc", put_out=True)) == Decision({})
    assert house.refusal(BEA, Revoke(invite="abc")) == "forbidden"


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


def test_an_open_room_has_no_password() -> None:
    """It would keep nobody out; one that is there can be taken away."""
    house = House(Ann="owner")
    assert house.refusal(ANN, SetPassword(password="$argon2id$x")) == "forbidden"
    house.put(password="$argon2id$x")
    house.do(ANN, SetPassword(password=""))
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
                here = {"there", who}
                decision = house.do(by, what, whom, present=present, here=here, new_id=lambda: next(new_ids))
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
