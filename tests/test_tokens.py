"""Signed words: nobody makes one without the secret, and each is good for one purpose, one room and one time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.tokens import (
    OPERATOR_KEY_S,
    address_block,
    address_key,
    invite_of,
    invite_token,
    is_operator_key,
    operator_key,
)

SECRET, ANOTHER = "s" * 64, "t" * 64
ROOM, ID = "~tea-abcdefgh", "abcdefgh2345"
NOW_S = 1_790_000_000.5


def tampered(word: str) -> list[str]:
    """The same with one character changed, dropped or added, at every place."""
    changed = [word[:at] + ("B" if word[at] == "A" else "A") + word[at + 1 :] for at in range(len(word))]
    dropped = [word[:at] + word[at + 1 :] for at in range(len(word))]
    return [*changed, *dropped, word + "A", word + "=", " " + word, word + "\n", word.upper(), word + "." + word]


# Invitations


def test_an_invitation_is_known_again() -> None:
    """By its id, in its own room."""
    assert invite_of(SECRET, ROOM, invite_token(SECRET, ROOM, ID)) == ID


def test_an_invitation_is_fit_for_a_link() -> None:
    """Nothing in it needs quoting, and it is short."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,40}", invite_token(SECRET, ROOM, ID))


def test_a_changed_invitation_is_none() -> None:
    """At whatever place."""
    token = invite_token(SECRET, ROOM, ID)
    assert [word for word in tampered(token) if invite_of(SECRET, ROOM, word) is not None] == []


@pytest.mark.parametrize("word", ["", ".", "..", ID, f"{ID}.", f".{ID}", "\0", "é.é", "a" * 100_000, "💥.💥"])
def test_what_was_never_signed_is_no_invitation(word: str) -> None:
    """However it is written, and without a fault."""
    assert invite_of(SECRET, ROOM, word) is None


def test_an_invitation_is_for_one_room_and_of_one_server() -> None:
    """Another room, or another secret, does not know it."""
    token = invite_token(SECRET, ROOM, ID)
    for room in ("~tea-abcdefgi", "tea", ROOM.upper(), "", f"{ROOM}{ID}"):
        assert invite_of(SECRET, room, token) is None
    assert invite_of(ANOTHER, ROOM, token) is None


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.text("abcdefghijklmnopqrstuvwxyz234567"))
def test_whatever_a_room_is_called_its_invitations_are_its_own(room: str, invite_id: str) -> None:
    """And what stands in the id cannot slip into the name."""
    token = invite_token(SECRET, room, invite_id)
    assert invite_of(SECRET, room, token) == invite_id
    assert invite_of(SECRET, room + invite_id[:1] + "x", token) is None


# The operator's key


def test_an_operators_key_lasts_ten_minutes() -> None:
    """Not a second longer, and not before it was made."""
    key = operator_key(SECRET, NOW_S)
    for later_s, is_good in ((0, True), (1, True), (OPERATOR_KEY_S - 1, True), (OPERATOR_KEY_S, False), (-2, False)):
        assert is_operator_key(SECRET, key, NOW_S + later_s) is is_good, later_s
    assert OPERATOR_KEY_S == 600


def test_every_operators_key_is_another_one() -> None:
    """Two made in one second are two, so that using one does not use up the other."""
    assert operator_key(SECRET, NOW_S) != operator_key(SECRET, NOW_S)


def test_a_changed_operators_key_is_none() -> None:
    """At whatever place: its time, too, is signed."""
    key = operator_key(SECRET, NOW_S)
    assert [word for word in tampered(key) if is_operator_key(SECRET, word, NOW_S)] == []
    until_s, _, rest = key.partition(".")
    for forged in (f"{int(until_s) + 1}.{rest}", f"0{until_s}.{rest}", f"+{until_s}.{rest}", f"{until_s} .{rest}"):
        assert not is_operator_key(SECRET, forged, NOW_S + 1)


@pytest.mark.parametrize("word", ["", "..", "1.2.3", "9" * 400 + ".a.b", "٣.a.b", "\0", "💥"])
def test_what_was_never_signed_is_no_key(word: str) -> None:
    """However it is written, and without a fault."""
    assert not is_operator_key(SECRET, word, NOW_S)


def test_no_word_serves_another_purpose() -> None:
    """An invitation whose room and id are chosen to look like a key is none, nor the other way round."""
    key = operator_key(SECRET, NOW_S)
    until_s, nonce, signature = key.split(".")
    assert invite_of(SECRET, until_s, f"{nonce}.{signature}") is None
    assert invite_of(SECRET, f"operator\0{until_s}", f"{nonce}.{signature}") is None
    forged = invite_token(SECRET, until_s, nonce)
    assert not is_operator_key(SECRET, f"{until_s}.{forged}", NOW_S)
    assert address_key(SECRET, "192.0.2.1") not in key


# Addresses


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ("2001:DB8::1", "2001:db8:0:0::9", "2001:db9::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe80:0:0:1::1"),
        ("", "", "0.0.0.0"),
        ("a socket", "a socket", "another"),
    ],
)
def test_an_address_is_as_wide_as_one_person_has_it(address: str, same: str, other: str) -> None:
    """IPv4 as it is, also written as IPv6; of IPv6 the whole /64."""
    assert address_key(SECRET, address) == address_key(SECRET, same)
    assert address_key(SECRET, address) != address_key(SECRET, other)
    assert address_block(address) == address_block(same)


def test_an_addresss_key_tells_nothing_of_it() -> None:
    """No part of the address stands in it, and another server's key of it is another one."""
    key = address_key(SECRET, "192.0.2.77")
    assert "192" not in key and "77" not in key
    assert key != address_key(ANOTHER, "192.0.2.77")
