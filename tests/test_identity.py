"""Who is who: names that are let through, and names that cannot be told apart."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chat.identity import MAX_DISPLAY_NAME, MAX_ROOM_NAME, display_name, lookalike_keys, person_id, room_name, skeleton
from chat.protocol import ProtocolError

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # joined by ZWJ
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # with a ZWNJ


def is_bad(name: Callable[[str], str], text: str) -> bool:
    try:
        name(text)
    except ProtocolError as error:
        assert error.code == "bad_name"
        assert error.sentence.endswith(".")
        return True
    return False


# Names


@pytest.mark.parametrize(
    ("text", "room", "person"),
    [
        ("a", "a", "a"),
        ("Ann Smith", "Ann Smith", "Ann Smith"),
        ("Ω'Neill-Øst, Jr.", "Ω'Neill-Øst, Jr.", "Ω'Neill-Øst, Jr."),
        ("e\u0301", "é", "é"),
        ("\u212bngström", "Ångström", "Ångström"),
        ("ｆｕｌｌ", "ｆｕｌｌ", "full"),
        ("ﬁne ①", "ﬁne ①", "fine 1"),
        ("...", "...", "..."),
        ("a..b", "a..b", "a..b"),
        ("李小龍", "李小龍", "李小龍"),
        (PERSIAN, PERSIAN, PERSIAN),
        (FAMILY, FAMILY, FAMILY),
        ("a b", "a b", "a b"),
        ("#general?&%\"<'", "#general?&%\"<'", "#general?&%\"<'"),
    ],
)
def test_a_good_name_is_given_its_one_spelling(text: str, room: str, person: str) -> None:
    """Rooms are spelled in NFC, people in NFKC; joiners stay where languages and emoji need them."""
    assert (room_name(text), display_name(text)) == (room, person)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " a",
        "a ",
        "\u00a0a",
        "a\u3000",
        "a\u2003",
        "\t",
        "a\nb",
        "a\tb",
        "a\0b",
        "a\x7fb",
        "a\x85b",
        "a\u001cb",
        "a\u2028b",
        "a\u2029b",
        "a\u200bb",
        "a\u00adb",
        "a\u2060b",
        "\ufeffa",
        "a\u200eb",
        "a\u200fb",
        "a\u061cb",
        *(f"a{chr(bidi)}b" for bidi in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
        "a\U000e0041b",
        "a\ud800b",
        "/",
        "a/b",
        "a\\b",
        ".",
        "..",
        "\u200d",
        "\u200c\u200d",
        "\u3164",
        "\u2800",
        "\ufe0f",
        "\u034f",
    ],
)
def test_a_bad_name_is_refused(text: str) -> None:
    """No control, format or direction characters, no slashes, no dots alone, no space at the ends, nothing unseen."""
    assert is_bad(room_name, text)
    assert is_bad(display_name, text)


@pytest.mark.parametrize("text", ["／", "a＼b", "．．", "‥", "․", "\u2002a"])
def test_a_display_name_is_checked_in_its_one_spelling(text: str) -> None:
    """What turns into a slash, into dots or into a space by NFKC is refused like those."""
    assert is_bad(display_name, text)


@pytest.mark.parametrize(("name", "most"), [(room_name, 64), (display_name, 32)])
@pytest.mark.parametrize("char", ["a", "中", "\U0001f600", "e\u0301"])
def test_a_name_has_its_length_in_code_points(name: Callable[[str], str], most: int, char: str) -> None:
    """The length counts after normalisation, neither in bytes nor in UTF-16 units."""
    assert (MAX_ROOM_NAME, MAX_DISPLAY_NAME) == (64, 32)
    assert len(name(char * most)) == most
    assert is_bad(name, char * (most + 1))


def test_a_display_name_that_grows_by_normalisation_is_measured_afterwards() -> None:
    """One code point may become eighteen."""
    assert len(display_name("\ufdfa")) == 18
    assert is_bad(display_name, "\ufdfa\ufdfa")
    assert room_name("\ufdfa\ufdfa") == "\ufdfa\ufdfa"


@settings(deadline=None, database=None, max_examples=300)
@given(st.text(max_size=40))
@example("\u0344")
@example("a\u0315\u0300\u05ae")
def test_an_accepted_name_is_stable_and_clean(text: str) -> None:
    """It is its own normal form, within its length, and nothing invisible but the joiners is in it."""
    for name, form, most in ((room_name, "NFC", MAX_ROOM_NAME), (display_name, "NFKC", MAX_DISPLAY_NAME)):
        if is_bad(name, text):
            continue
        accepted = name(text)
        assert name(accepted) == accepted == unicodedata.normalize(form, text)
        assert 1 <= len(accepted) <= most
        assert not any(
            unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in accepted if char not in "\u200c\u200d"
        )
        assert accepted == accepted.strip()
        assert not {"/", "\\"} & set(accepted)


# Look-alikes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("paypal", "раураl"),  # Cyrillic but for the last
        ("scope", "ѕсоре"),
        ("rnark", "mark"),
        ("l", "I"),
        ("l", "1"),
        ("l", "|"),
        ("O", "0"),
        ("o", "о"),
        ("a", "а"),
        ("ö", "o\u0308"),
        ("Ο", "O"),  # Greek
        ("æ", "ae"),
        ("Ĳ", "lJ"),
        ("a", "a\u200d"),
        ("a", "\u200ca"),
        ("a", "a\ufe0f"),
        ("a", "a\u034f"),
        ("a", "a\u3164"),
        ("ann", "a\u00adnn"),
        ("l", "ا"),  # alef
        ("l", "ו"),  # vav
        ("o", "ס"),  # samekh
        ("o", "٥"),  # Arabic five
        (".", "٠"),  # Arabic zero
        ("l", "ߊ"),  # NKo
    ],
)
def test_what_looks_alike_has_one_skeleton(one: str, other: str) -> None:
    """The table and the algorithm of UTS 39: prototypes, marks, ignorable characters, scripts from the right."""
    assert skeleton(one) == skeleton(other)


def test_no_skeleton_has_a_direction_mark() -> None:
    """The table writes scripts from the right between such marks; they belong to no letter."""
    marked = [char for char in map(chr, range(0x20000)) if "\u200e" in skeleton(char)]
    assert not marked


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("o", "ö"), ("o", "O"), ("i", "l"), ("ann", "anna"), ("李", "里"), ("", "a")]
)
def test_what_looks_different_has_two_skeletons(one: str, other: str) -> None:
    """A skeleton keeps letters, marks and case apart."""
    assert skeleton(one) != skeleton(other)


@settings(deadline=None, database=None)
@given(
    st.text(
        alphabet=st.characters(max_codepoint=0x24F) | st.sampled_from("аеорсухіѕΟΑ\u0301\u0308\u200d\ufe0f"),
        max_size=20,
    )
)
def test_a_skeleton_is_its_own_skeleton(text: str) -> None:
    """In Latin and its look-alikes once is enough."""
    once = skeleton(text)
    # Unicode's table leads from the letters for DZ with caron to a caron, which is itself the source of another entry.
    assert skeleton(once) == once or set(text) & set("ǄǅǆǱǲǳ")


@settings(deadline=None, database=None)
@given(st.text(max_size=20))
def test_skeletons_come_to_rest(text: str) -> None:
    """In any script twice is enough, and equal texts in other normal forms have equal skeletons."""
    twice = skeleton(skeleton(text))
    assert skeleton(twice) == twice
    assert skeleton(unicodedata.normalize("NFD", text)) == skeleton(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Iris", "iris"),
        ("Iris", "lris"),
        ("IRIS", "iris"),
        ("MARK", "mark"),
        ("MARK", "rnark"),
        ("Mark", "RNARK"),
        ("Ann", "ann"),
        ("Ann", "Аnn"),
        ("ANN", "аnn"),
        ("Ann", "Ann\u200d"),
        ("Ann", "Ann\u3164"),
        ("Ann Lee", "Ann  Lee"),
        ("Straße", "STRASSE"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("admin", "аdmіn"),
        ("Bill", "BiII"),
    ],
)
def test_names_that_look_alike_share_a_key(one: str, other: str) -> None:
    """Written or with case folded: either likeness is enough."""
    assert lookalike_keys(one) & lookalike_keys(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ann", "Anna"), ("Ann", "Ann 2"), ("Ann 2", "Ann 3"), ("Jon", "Jön"), ("李", "王"), ("a", "A b")],
)
def test_names_that_differ_share_no_key(one: str, other: str) -> None:
    """Other letters, other marks and other numbers make another name."""
    assert not lookalike_keys(one) & lookalike_keys(other)


@settings(deadline=None, database=None)
@given(st.text(min_size=1, max_size=32))
def test_a_name_looks_like_itself_in_small_letters(text: str) -> None:
    """Case never makes two names of one."""
    assert lookalike_keys(text) & lookalike_keys(text.casefold())


# Ids


def test_an_id_is_stable_and_tells_nothing_of_the_token() -> None:
    """The id of a token is the same in every version, or stored messages would lose their speakers."""
    assert person_id(b"token") == "qy33bloj3etka7qo"
    assert person_id(b"token2") != person_id(b"token")
    assert "token" not in person_id(b"token")


@settings(deadline=None, database=None)
@given(st.binary(max_size=64))
def test_an_id_is_16_letters_and_digits(token: bytes) -> None:
    """It fits into a URL, a CSS class and a file name as it is."""
    assert len(person_id(token)) == 16
    assert set(person_id(token)) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("name", [room_name, display_name])
def test_what_is_far_too_long_is_refused_before_it_is_normalised(
    name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalising is quadratic in a run of combining marks: a frame full of them would hold up everybody."""
    normalised: list[int] = []
    normalize = unicodedata.normalize
    monkeypatch.setattr(
        "unicodedata.normalize", lambda form, text: normalised.append(len(text)) or normalize(form, text)
    )
    with pytest.raises(ProtocolError):
        name("a" + "\u0301" * 16_000 + "\u0316" * 16_000)
    assert max(normalised, default=0) <= 256
