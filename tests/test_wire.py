"""What the page takes from the wire and what it passes over, in Chromium without a page."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tests.modules import run

ANN = {"id": "a1", "name": "Ann"}
MESSAGE = {"type": "message", "seq": 7, "at": 1_700_000_000_000, "by": ANN, "text": "hello"}
WELCOME = {
    "type": "welcome",
    "room": "tea",
    "epoch": "e1",
    "head": 0,
    "you": ANN,
    "present": 1,
    "limits": {"text": 4000, "frame": 65536, "rate": 0, "burst": 0, "history": 50},
}
RIGHT: list[dict[str, Any]] = [
    MESSAGE,
    {**MESSAGE, "reply_to": 1},
    {**MESSAGE, "seq": 2**53 - 1, "at": 0, "text": ""},
    {**MESSAGE, "of_later": {"deep": [1]}},
    WELCOME,
    {**WELCOME, "resumed": "gap", "of_later": 1},
    {"type": "ack", "client_id": "c", "seq": 3},
    {"type": "presence", "present": 400, "joined": [ANN], "left": ["b1"], "renamed": [ANN]},
    {"type": "presence", "present": 0},
    {"type": "you", **ANN},
    {"type": "typing", "by": ANN},
    {"type": "page", "ref": "r1", "events": [MESSAGE, {"type": "later", "seq": 8, "at": 1}], "more_before": True}
    | {"more_after": False},
    {"type": "people", "ref": "r2", "total": 1, "people": [ANN]},
    {"type": "status", "storing": False},
    {"type": "bye", "retry_after": 0.25},
    {"type": "error", "code": "bad_frame", "message": "No."},
    {"type": "error", "code": "rate_limited", "message": "No.", "client_id": "c", "retry_after": 1.5},
    {"type": "later"},
    {"type": "later", "seq": 8, "at": 1},
    {"type": "later", "seq": "no event without a time"},
    {"type": "constructor"},
    {"type": "__proto__", "toString": 1},
]
WITHOUT_A_FRAME = ["", "nonsense", "[" * 100_000, "null", "7", '"text"', "[]", "{}", '{"type":1}', '{"type":null}']


def wrong(frame: dict[str, Any], **fields: list[Any]) -> list[dict[str, Any]]:
    """The frame once for each value that a field must not have; None leaves the field out."""
    values = [(name, value) for name, values in fields.items() for value in [*values, None]]
    return [
        {**{k: v for k, v in frame.items() if k != name}, **({name: v} if v is not None else {})} for name, v in values
    ]


NO_COUNT: list[Any] = ["1", -1, 0.5, 2**53, [], True]
NO_PERSON: list[Any] = ["Ann", [], {}, {"id": 1, "name": "Ann"}, {"id": "a1"}, {"id": "a1", "name": ["Ann"]}]
NO_TEXT: list[Any] = [1, [], {}, True]
BAD_MESSAGES = wrong(MESSAGE, seq=[*NO_COUNT, 0], at=["1", -1, 0.5, 8.64e15 + 1, 1e300, {}], by=NO_PERSON, text=NO_TEXT)
BAD_PLACES = wrong({"type": "later", "seq": 8, "at": 1}, seq=[*NO_COUNT, 0], at=["1", -1, 0.5])
FAULTS = {
    "message": [*BAD_MESSAGES, *({**MESSAGE, "reply_to": bad} for bad in [*NO_COUNT, 0])],
    "an event": [frame for frame in BAD_PLACES if {"seq", "at"} <= frame.keys()],
    "welcome": [
        *wrong(WELCOME, epoch=NO_TEXT, head=NO_COUNT, you=NO_PERSON, present=NO_COUNT, limits=[1, {}, {"text": "x"}]),
        {**WELCOME, "resumed": 1},
    ],
    "ack": wrong({"type": "ack", "client_id": "c", "seq": 3}, client_id=NO_TEXT, seq=[*NO_COUNT, 0]),
    "presence": [
        *wrong({"type": "presence", "present": 1}, present=NO_COUNT),
        {"type": "presence", "present": 1, "joined": ["Ann"]},
        {"type": "presence", "present": 1, "left": [1]},
        {"type": "presence", "present": 1, "renamed": ANN},
    ],
    "you": wrong({"type": "you", **ANN}, id=NO_TEXT, name=NO_TEXT),
    "typing": wrong({"type": "typing", "by": ANN}, by=NO_PERSON),
    "page": [
        *wrong(
            {"type": "page", "events": [], "more_before": True, "more_after": True},
            events=[{}, "x", [1], [BAD_MESSAGES[0]], [MESSAGE, None]],
            more_before=[0, "x"],
            more_after=[1, []],
        ),
    ],
    "people": wrong({"type": "people", "total": 1, "people": [ANN]}, total=NO_COUNT, people=[{}, NO_PERSON, [None]]),
    "status": wrong({"type": "status", "storing": True}, storing=[0, "false"]),
    "bye": wrong({"type": "bye", "retry_after": 1}, retry_after=["1", -1, {}]),
    "error": [
        *wrong({"type": "error", "code": "x", "message": "y"}, code=NO_TEXT, message=NO_TEXT),
        {"type": "error", "code": "x", "message": "y", "retry_after": "soon"},
        {"type": "error", "code": "x", "message": "y", "client_id": 1},
    ],
}


class Ear:
    """A fresh copy of the module, and the warnings it wrote to the console."""

    def __init__(self, page: Page, copy: int) -> None:
        self.page = page
        self.copy = copy
        self.lines: list[str] = []

    def hear(self, *data: str, wrap: str = "data") -> Any:
        """What it makes of each of them."""
        script = f"const {{ heard }} = await load(arg.module); return arg.all.map((data) => heard({wrap}));"
        # A module is another copy under another query.
        return run(self.page, script, {"module": f"wire.js?{self.copy}", "all": data})

    def hear_frames(self, *frames: Any) -> Any:
        return self.hear(*(json.dumps(frame) for frame in frames))


_copies = count()


@pytest.fixture
def ear(modules: Page) -> Iterator[Ear]:
    ear = Ear(modules, next(_copies))

    def note(line: ConsoleMessage) -> None:
        if line.type == "warning":
            ear.lines.append(line.text)

    modules.on("console", note)
    yield ear
    modules.remove_listener("console", note)


def test_right_frames_pass_as_they_are(ear: Ear) -> None:
    """Every frame of the protocol passes, and so do unknown types and unknown fields; nothing is said about them."""
    assert ear.hear_frames(*RIGHT) == RIGHT
    assert ear.lines == []


def test_only_the_place_of_an_unknown_event_passes(ear: Ear) -> None:
    """An event of an unknown type, live or on a page, comes without what might look like a message's fields."""
    place = {"type": "later", "seq": 8, "at": 1}
    event = {**place, "by": 7, "text": {"new": "x"}, "reply_to": "y"}
    page = {"type": "page", "ref": "r1", "events": [MESSAGE, event], "more_before": False, "more_after": False}
    assert ear.hear_frames(event, page) == [place, {**page, "events": [MESSAGE, place]}]
    assert ear.lines == []


def test_what_is_no_frame_is_passed_over_with_one_line(ear: Ear) -> None:
    """Garbage, other JSON than objects, objects without a type and binary data are no frames, however many come."""
    assert ear.hear(*WITHOUT_A_FRAME) == [None] * len(WITHOUT_A_FRAME)
    assert ear.hear("{}", wrap="new Blob([data])") == [None]
    [line] = ear.lines
    assert "no frame" in line


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_fields_are_refused_with_one_line(ear: Ear, kind: str) -> None:
    """A frame with a missing field or one of the wrong type or range is passed over; each type is told of once."""
    heard = ear.hear_frames(*FAULTS[kind])
    assert [frame for frame in heard if frame is not None] == []
    [line] = ear.lines
    assert f"sent {kind} with a bad field" in line


def test_numbers_without_end_are_refused(ear: Ear) -> None:
    """A number too large for any computer is read as infinite, and is no time and no wait."""
    endless = [json.dumps(MESSAGE).replace("1700000000000", "1e999"), '{"type":"bye","retry_after":1e999}']
    assert ear.hear(*endless) == [None, None]
