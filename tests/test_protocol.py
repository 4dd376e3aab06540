"""What is said on the wire: what `decode` lets through, what it refuses and in which words."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from chat import protocol
from chat.protocol import MAX_INTEGER, MAX_TEXT, History, People, Person, ProtocolError, Rename, Say, Typing, decode

SAY = {"type": "say", "client_id": "c-1", "text": "hello"}
HISTORY = {"type": "history", "before": 7}
PEOPLE = {"type": "people"}
# Every code point of Unicode's property White_Space.
WHITE_SPACE = "".join(
    map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000])
)


def refusal(frame: Any) -> ProtocolError:
    """How a frame, given as text or as its value, is refused."""
    with pytest.raises(ProtocolError) as refused:
        decode(frame if isinstance(frame, str) else json.dumps(frame))
    assert refused.value.sentence == str(refused.value) and "\n" not in refused.value.sentence
    return refused.value


# What is let through


@pytest.mark.parametrize(
    ("frame", "meant"),
    [
        (SAY, Say("c-1", "hello")),
        ({**SAY, "reply_to": 1}, Say("c-1", "hello", 1)),
        ({**SAY, "reply_to": MAX_INTEGER}, Say("c-1", "hello", MAX_INTEGER)),
        ({**SAY, "client_id": "A"}, Say("A", "hello")),
        ({**SAY, "client_id": "-_09azAZ" * 8}, Say("-_09azAZ" * 8, "hello")),
        ({**SAY, "text": "a\nb\u0000"}, Say("c-1", "a\nb\u0000")),
        ({**SAY, "colour": {"red": [1]}}, Say("c-1", "hello")),
        (HISTORY, History(before=7)),
        ({"type": "history", "after": 0}, History(after=0)),
        ({"type": "history", "around": 5, "limit": 1}, History(around=5, limit=1)),
        ({"type": "history", "at": MAX_INTEGER, "limit": 200}, History(at=MAX_INTEGER, limit=200)),
        ({**HISTORY, "ref": "r"}, History(before=7, ref="r")),
        ({**HISTORY, "ref": 0}, History(before=7, ref=0)),
        (PEOPLE, People()),
        ({**PEOPLE, "query": "Ann", "offset": 9, "limit": 100, "ref": 1}, People("Ann", 9, 100, 1)),
        ({**PEOPLE, "query": "", "limit": 1}, People(limit=1)),
        ({"type": "typing"}, Typing()),
        ({"type": "rename", "name": " not yet checked "}, Rename(" not yet checked ")),
    ],
)
def test_a_valid_frame_is_read_as_its_struct(frame: dict[str, Any], meant: protocol.ClientFrame) -> None:
    """Every frame of the table is read, its absent fields have their defaults, unknown fields are ignored."""
    assert decode(json.dumps(frame)) == meant


def test_the_defaults_are_those_of_the_protocol() -> None:
    """A page has 50 events and a list of people 100 names unless something else is asked."""
    assert (History(before=1).limit, People().limit, People().offset, People().query) == (50, 100, 0, "")


def test_of_a_doubled_key_the_last_counts() -> None:
    """As in a browser's `JSON.parse`; what is checked is what is taken."""
    assert decode('{"type":"say","client_id":"a","text":"one","text":"two"}') == Say("a", "two")
    assert refusal('{"type":"say","client_id":"a","text":"one","text":" "}').code == "empty_text"


@settings(deadline=None, database=None)
@given(
    client_id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    text=st.text(min_size=1, max_size=200).filter(lambda text: text.strip(WHITE_SPACE)),
    reply_to=st.just(UNSET) | st.integers(0, MAX_INTEGER),
)
def test_a_valid_say_comes_through_as_it_was_meant(client_id: str, text: str, reply_to: Any) -> None:
    """Whatever the text, it is read as it was written, less the white space around it."""
    said = Say(client_id, text, reply_to)
    assert decode(protocol.encode(said).decode()) == Say(client_id, text.strip(WHITE_SPACE), reply_to)


# What is refused

WRONG_TYPES = [None, True, 1.5, [], {}]
NUMBERS = [-1, 2**53, 2**64, 10**400, "1", *WRONG_TYPES]
WORDS = [7, *WRONG_TYPES]


@pytest.mark.parametrize(
    ("frame", "field", "values"),
    [
        (SAY, "client_id", ["", "a" * 65, "a b", "ä", "a\n", "\n", "a\u0000", "ａ", *WORDS]),
        (SAY, "text", WORDS),
        (SAY, "reply_to", NUMBERS),
        *(({"type": "history"}, bound, NUMBERS) for bound in ("before", "after", "around", "at")),
        (HISTORY, "limit", [0, 201, *NUMBERS]),
        (HISTORY, "ref", ["r" * 65, -1, 2**53, 2**64, *WRONG_TYPES]),
        (PEOPLE, "query", ["q" * 65, *WORDS]),
        (PEOPLE, "offset", NUMBERS),
        (PEOPLE, "limit", [0, 101, *NUMBERS]),
        (PEOPLE, "ref", ["r" * 65, -1, 2**53, *WRONG_TYPES]),
        ({"type": "rename"}, "name", WORDS),
        ({}, "type", WORDS),
    ],
)
def test_a_bad_field_is_named(frame: dict[str, Any], field: str, values: list[Any]) -> None:
    """A field of the wrong type, range, length or alphabet is a `bad_frame` whose sentence names it."""
    for value in values:
        error = refusal({**frame, field: value})
        assert (error.code, f"`{field}`" in error.sentence) == ("bad_frame", True), (value, error.sentence)


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({}, "type"),
        ({"type": "say", "text": "hello"}, "client_id"),
        ({"type": "say", "client_id": "a"}, "text"),
        ({"type": "rename"}, "name"),
    ],
)
def test_a_missing_field_is_named(frame: dict[str, Any], field: str) -> None:
    """A frame without what it needs is a `bad_frame` whose sentence says what is missing."""
    error = refusal(frame)
    assert error.code == "bad_frame"
    assert f"`{field}`" in error.sentence


@pytest.mark.parametrize("bounds", [(), ("before", "after"), ("around", "at"), ("before", "after", "around", "at")])
def test_history_needs_exactly_one_bound(bounds: tuple[str, ...]) -> None:
    """None or several are a `bad_frame` that names all four."""
    error = refusal({"type": "history", **dict.fromkeys(bounds, 1)})
    assert error.code == "bad_frame"
    assert all(f"`{bound}`" in error.sentence for bound in ("before", "after", "around", "at"))


@pytest.mark.parametrize("name", ["", "nope", "Say", "welcome", "error", "say ", "\u0000", "a - at `$.b", "`$.type`"])
def test_an_unknown_type_is_refused_as_such(name: str) -> None:
    """Whatever the type is called, the code is `unknown_type`; frames of the server are unknown, too."""
    assert refusal({**SAY, "type": name}).code == "unknown_type"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "{",
        '{"type":"typing"',
        '{"type":"typing"} x',
        '{"type":"typing"}{"type":"typing"}',
        "{'type':'typing'}",
        '\ufeff{"type":"typing"}',
        "null",
        "true",
        "1",
        "NaN",
        '"typing"',
        "[]",
        '[{"type":"typing"}]',
        '{"type":"say","client_id":"a","text":NaN}',
        '{"type":"typing","x":NaN}',
        '{"type":"typing","x":-Infinity}',
        '{"type":"say","client_id":"a","text":"\\ud800"}',
        '{"type":"say","client_id":"a","text":"\\udc00\\ud800"}',
        '{"type":"say","client_id":"\\udfff","text":"a"}',
        '{"type":"say","client_id":"a","text":"a\nb"}',
        "[" * 30_000,
        '{"a":' * 30_000,
        '{"type":"typing","x":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":"say","client_id":"a","text":' + "[" * 30_000 + "]" * 30_000 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_json_object_is_a_bad_frame(text: str) -> None:
    """Not JSON, not an object, half a surrogate pair, nested without end: refused in one short sentence."""
    error = refusal(text)
    assert error.code == "bad_frame"
    assert len(error.sentence) < 200


@settings(deadline=None, database=None)
@given(st.text())
def test_no_text_makes_decode_fail_otherwise(text: str) -> None:
    """Whatever comes in, it is a frame or a ProtocolError."""
    try:
        decode(text)
    except ProtocolError as error:
        msgspec.json.decode(error.frame())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = (
    "client_id",
    "text",
    "reply_to",
    "before",
    "after",
    "around",
    "at",
    "limit",
    "ref",
    "query",
    "offset",
    "name",
)


@settings(deadline=None, database=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(["say", "history", "people", "typing", "rename"]) | _JSON}
    ),
    st.dictionaries(st.sampled_from(_FIELDS), _JSON | st.integers(-2, 300), max_size=5),
    st.booleans(),
)
def test_no_json_makes_decode_fail_otherwise(type: dict[str, Any], fields: dict[str, Any], escaped: bool) -> None:
    """Whatever is in the fields, it is a frame or a ProtocolError that can be sent back."""
    try:
        decode(json.dumps({**type, **fields}, ensure_ascii=escaped))
    except ProtocolError as error:
        assert msgspec.json.decode(error.frame())["code"] == error.code


# The text of a message


def test_exactly_white_space_is_trimmed() -> None:
    """All of Unicode's White_Space goes from both ends and stays in the middle."""
    assert set(protocol.WHITE_SPACE) == set(WHITE_SPACE)
    assert protocol.checked_text(f"{WHITE_SPACE}a{WHITE_SPACE}b{WHITE_SPACE}") == f"a{WHITE_SPACE}b"
    assert refusal({**SAY, "text": WHITE_SPACE}).code == "empty_text"
    assert refusal({**SAY, "text": ""}).code == "empty_text"


@pytest.mark.parametrize("char", "\u001c\u001d\u001e\u001f\u200b\u2060\ufeff\u180e\u0000")
def test_what_is_no_white_space_is_kept(char: str) -> None:
    """Separators of Python's own `strip` and invisible characters are not trimmed."""
    assert protocol.checked_text(f" {char}a{char} ") == f"{char}a{char}"


@pytest.mark.parametrize("char", ["a", "é", "中", "\U0001f600"])
def test_a_text_has_at_most_4000_code_points_after_trimming(char: str) -> None:
    """Code points count, neither bytes nor UTF-16 units, and spaces around the text do not."""
    longest = char * MAX_TEXT
    assert MAX_TEXT == 4000
    assert decode(json.dumps({**SAY, "text": f"  {longest}\n"})) == Say("c-1", longest)
    error = refusal({**SAY, "text": longest + char})
    assert error.code == "text_too_long"
    assert "4001" in error.sentence


# What an error carries


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ({"client_id": "c-1"}, {"client_id": "c-1"}),
        ({"ref": "r"}, {"ref": "r"}),
        ({"ref": 5}, {"ref": 5}),
        ({"client_id": "c-1", "ref": 0}, {"client_id": "c-1", "ref": 0}),
        ({"client_id": "c 1", "ref": "r" * 64}, {"ref": "r" * 64}),
        ({"client_id": "c\n", "ref": "r" * 65}, {}),
        ({"client_id": 7, "ref": -1}, {}),
        ({"client_id": None, "ref": None}, {}),
        ({"client_id": ["c-1"], "ref": {"r": 1}}, {}),
        ({"ref": 2**53}, {}),
        ({"ref": 1.5}, {}),
        ({"ref": True}, {}),
    ],
)
@pytest.mark.parametrize("frame", [{"type": "nope"}, {"type": "say", "text": []}, {"type": "history", "at": -1}])
def test_an_error_echoes_what_is_fit_to_be_echoed(
    frame: dict[str, Any], sent: dict[str, Any], echoed: dict[str, Any]
) -> None:
    """`client_id` and `ref` of the refused frame come back if they are valid, and are absent otherwise."""
    answer = json.loads(refusal({**frame, **sent}).frame())
    assert {name: answer[name] for name in ("client_id", "ref") if name in answer} == echoed


@pytest.mark.parametrize(("text", "code"), [(" ", "empty_text"), ("a" * 4001, "text_too_long")])
def test_a_refused_text_is_addressed_by_its_client_id(text: str, code: str) -> None:
    """The speaker can tell which of his messages it was."""
    error = refusal({**SAY, "text": text})
    assert (error.code, error.client_id) == (code, "c-1")


# What the server says


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (
            protocol.Message(1, 2, Person("i", "Ann"), "hi"),
            {"type": "message", "seq": 1, "at": 2, "by": {"id": "i", "name": "Ann"}, "text": "hi"},
        ),
        (
            protocol.Message(2, 3, Person("i", "Ann"), "hi", 1),
            {"type": "message", "seq": 2, "at": 3, "by": {"id": "i", "name": "Ann"}, "text": "hi", "reply_to": 1},
        ),
        (protocol.Ack("c-1", 9), {"type": "ack", "client_id": "c-1", "seq": 9}),
        (protocol.Presence(101), {"type": "presence", "present": 101, "joined": [], "left": [], "renamed": []}),
        (protocol.You("i", "Ann 2"), {"type": "you", "id": "i", "name": "Ann 2"}),
        (protocol.TypingNotice(Person("i", "Ann")), {"type": "typing", "by": {"id": "i", "name": "Ann"}}),
        (
            protocol.Page([msgspec.Raw(b'{"seq":1}')], True, False),
            {"type": "page", "events": [{"seq": 1}], "more_before": True, "more_after": False},
        ),
        (
            protocol.Page([], False, False, "r"),
            {"type": "page", "events": [], "more_before": False, "more_after": False, "ref": "r"},
        ),
        (
            protocol.PeoplePage(1, [Person("i", "Ann")], 0),
            {"type": "people", "total": 1, "people": [{"id": "i", "name": "Ann"}], "ref": 0},
        ),
        (protocol.Status(False), {"type": "status", "storing": False}),
        (protocol.Status(True, "e2"), {"type": "status", "storing": True, "epoch": "e2"}),
        (protocol.Bye(1.5), {"type": "bye", "retry_after": 1.5}),
        (protocol.Error("bad_name", "No."), {"type": "error", "code": "bad_name", "message": "No."}),
        (
            protocol.Error("rate_limited", "No.", "c-1", 2, 0.5),
            {
                "type": "error",
                "code": "rate_limited",
                "message": "No.",
                "client_id": "c-1",
                "ref": 2,
                "retry_after": 0.5,
            },
        ),
    ],
)
def test_a_frame_of_the_server_omits_what_is_absent(frame: Any, written: dict[str, Any]) -> None:
    """Optional fields are left out and never null; everything else is there under its name."""
    assert json.loads(protocol.encode(frame)) == written


def test_welcome_tells_resumed_only_if_asked() -> None:
    """`resumed` is absent for who did not ask."""
    limits = protocol.Limits(4000, 65536, 5.0, 20.0, 50)
    welcome = protocol.Welcome("r", "e", 3, 7, protocol.Me("i", "Ann"), 1, limits, protocol.Rules(slow_s=5), [])
    written = {
        "type": "welcome",
        "room": "r",
        "epoch": "e",
        "head": 3,
        "now": 7,
        "you": {"id": "i", "name": "Ann"},
        "present": 1,
        "limits": {"text": 4000, "frame": 65536, "rate": 5.0, "burst": 20.0, "history": 50},
        "rules": {"slow_s": 5},
        "roles": [],
    }
    assert json.loads(protocol.encode(welcome)) == written
    welcome.resumed = "gap"
    assert json.loads(protocol.encode(welcome)) == {**written, "resumed": "gap"}


def test_a_stored_message_is_read_back() -> None:
    """What the log keeps of a message is what was said."""
    message = protocol.Message(1, 2, Person("i", "Änn"), 'a "quoted" \u2028 text', 1)
    assert protocol.decode_message(protocol.encode(message)) == message
