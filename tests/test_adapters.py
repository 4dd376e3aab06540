"""Adapters: what is said to each kind of server, what its answers mean, and how anybody's own adapter is found."""

import json
from pathlib import Path

import msgspec
import pytest

from chat import protocol
from loadtest.adapters import Adapter, Notice, load
from loadtest.adapters.chatroom import Chatroom

WELCOME = b'{"type":"welcome","epoch":"e7","resumed":"%s","history":[],"you":{"id":"u1","name":"Guest 1"}}'
MESSAGE = b'{"type":"message","seq":%d,"at":1700000000000,"by":{"id":"u1","name":"Guest 1"},"text":"%s"}'
EVENTS = [
    kind
    for kind in vars(protocol).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_fields__[:2] == ("seq", "at")
]


# A server that only echoes


def test_a_plain_server_is_told_the_bare_text() -> None:
    """In the room of its address; whatever comes back may be a text."""
    plain = load("plain")
    assert type(plain) is Adapter
    assert plain.url("ws://host:1", "hall", {"after": "3"}) == "ws://host:1/ws?room=hall"
    assert (plain.hello("hall"), plain.wrap("~text~", "7"), plain.find(b"~text~")) == ([], "~text~", b"~text~")
    assert (plain.notice(b"hello"), plain.place(b"hello")) == (None, {})
    assert (plain.subprotocols, plain.resumes, plain.says_entered) == ((), False, False)
    assert plain.settle_s > 0


# The chat room


def test_the_chat_room_is_asked_for_a_room_and_for_what_was_missed() -> None:
    """In the query, quoted as queries are."""
    room = load("chatroom")
    assert isinstance(room, Chatroom)
    assert room.url("ws://host:1", "hall", {}) == "ws://host:1/ws?room=hall"
    assert (
        room.url("ws://host:1", "a b&c", {"epoch": "e", "after": "5"}) == "ws://host:1/ws?room=a+b%26c&epoch=e&after=5"
    )
    assert (room.subprotocols, room.resumes, room.says_entered) == (("chatroom.v1",), True, True)


def test_what_is_said_in_the_chat_room_is_json_with_its_number() -> None:
    """So that the answer can be told from others."""
    said = json.loads(load("chatroom").wrap("~text~", "beef0000000007"))
    assert said == {"type": "say", "client_id": "beef0000000007", "text": "~text~"}


@pytest.mark.parametrize(
    ("payload", "notice"),
    [
        (WELCOME % b"whole", Notice("entered", "whole")),
        (WELCOME % b"gap", Notice("entered", "gap")),
        (b'{"type":"welcome","epoch":"e7"}', Notice("entered", "")),
        (b'{"type":"error","code":"rate_limited","message":"wait","client_id":"n1"}', Notice("refused", "n1")),
        (b'{"type":"error","code":"bad_frame","message":"no"}', Notice("refused", "")),
        (b'{"type":"ack","client_id":"n1","seq":4}', Notice("acked", "n1")),
        (MESSAGE % (4, b'{"type":"welcome"'), None),
        (b'{"type":"presence","members":[]}', None),
        (b'{"type":"done","ref":"n1","seq":4}', None),
        (b'{"type":"you","id":"u1","name":"Ann","muted_until":1700000000000}', None),
        (b'{"type":"out","why":"kick"}', None),
        (b'{"type":"bye","code":1001}', None),
        (b"", None),
    ],
)
def test_what_the_chat_room_s_frames_mean(payload: bytes, notice: Notice | None) -> None:
    """Who is in, what was taken and what was refused."""
    assert load("chatroom").notice(payload) == notice


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (WELCOME % b"whole", {"epoch": "e7"}),
        (MESSAGE % (41, b"~text~"), {"after": "41"}),
        (MESSAGE % (41, b'\\"seq\\":99'), {"after": "41"}),
        (b'{"type":"presence","seq":3,"members":[]}', {}),
        (b'{"type":"ack","client_id":"n1","seq":4}', {}),
        (b'{"type":"done","ref":"n1","seq":4}', {}),
        (b'{"type":"message","text":"' + b"x" * 100 + b'","seq":3}', {}),
        (b"", {}),
    ],
)
def test_where_a_member_of_the_chat_room_stands(payload: bytes, place: dict[str, str]) -> None:
    """At the epoch of his welcome, and at the message he got last."""
    assert load("chatroom").place(payload) == place


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__struct_config__.tag)
def test_every_event_of_the_chat_room_is_a_place_and_a_message_alone_brings_a_text(event: type[msgspec.Struct]) -> None:
    """Whatever the protocol has, also that which will be added."""
    values = {field.encode_name: "~text~" for field in msgspec.structs.fields(event) if field.required}
    payload = protocol.encode({"type": event.__struct_config__.tag, **values, "seq": 41, "at": 0})
    room = load("chatroom")
    assert room.place(payload) == {"after": "41"}
    assert room.notice(payload) is None
    assert room.find(payload) == (payload if event is protocol.Message else b"")


@pytest.mark.parametrize("kind", ["page", "held", "person", "welcome", "ack", "done", "error"])
def test_what_is_no_event_brings_no_text(kind: str) -> None:
    """A page of history has messages that were delivered already."""
    assert load("chatroom").find(b'{"type":"%s","events":[%s]}' % (kind.encode(), MESSAGE % (41, b"~text~"))) == b""


# Anybody's own


def test_an_adapter_is_found_in_a_file(tmp_path: Path) -> None:
    """By its path and its class' name, wherever it is."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from loadtest.adapters import Adapter\n"
        "class Mine(Adapter):\n"
        "    def wrap(self, text, number):\n"
        "        return f'<{number}:{text}>'\n"
    )
    assert load(f"{file}:Mine").wrap("text", "1") == "<1:text>"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing", "No module named 'loadtest.adapters.nothing'"),
        ("", "No module named"),
        ("__init__", "no attribute 'ADAPTER'"),
        ("missing.py:Mine", "no Python file missing.py"),
        ("mine.txt:Mine", "no Python file"),
        ("mine.py:Yours", "no attribute 'Yours'"),
        ("mine.py:NoAdapter", "NoAdapter is no loadtest.adapters.Adapter"),
        ("mine.py:Demanding", "missing 1 required positional argument"),
        ("wrong.py:Mine", "invalid syntax"),
        ("failing.py:Mine", "division by zero"),
    ],
)
def test_an_adapter_that_there_is_not_is_refused(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, with the reason and with those that there are."""
    monkeypatch.chdir(tmp_path)
    demanding = "class Demanding:\n    def __init__(self, what): pass\n"
    Path("mine.py").write_text(f"class NoAdapter: pass\n{demanding}")
    Path("mine.txt").write_text("class Mine: pass\n")
    Path("wrong.py").write_text("class Mine(\n")
    Path("failing.py").write_text("1 / 0\n")
    with pytest.raises(ValueError) as refusal:
        load(name)
    sentence = str(refusal.value)
    assert sentence.startswith(f"--adapter={name}: ")
    assert sentence.endswith("; give one of chatroom, plain, or path/to/file.py:ClassName")
    assert (why in sentence) or (why == "invalid syntax" and "never closed" in sentence)
