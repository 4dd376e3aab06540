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
BO = {"id": "b1", "name": "Bo"}
THUMB = {"kind": "👍", "n": 12, "by": [ANN, BO]}
RULES = {
    "slow_s": 30,
    "read_only": True,
    "locked": True,
    "links": "held",
    "announcement": {"text": "tea at five", "by": ANN, "at": 1_700_000_000_000},
    "edit_s": 0,
    "keep_s": 86400,
    "keep_events": 10,
    "raid_until": 1_700_000_000_000,
}
WELCOME = {
    "type": "welcome",
    "room": "tea",
    "epoch": "e1",
    "head": 0,
    "now": 1_700_000_000_000,
    "you": ANN,
    "present": 1,
    "limits": {"text": 4000, "frame": 65536, "rate": 0, "burst": 0, "history": 50},
    "rules": {},
    "roles": [],
}


def event(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, "seq": 8, "at": 1_700_000_000_000, **fields}


EDIT = event("edit", message=7, by=ANN, text="hello!")
DELETE = event("delete", message=7)
PURGE = event("purge", person="a1")
REACTIONS = event("reactions", changes=[{"message": 7, "reactions": [THUMB]}])
RULES_CHANGED = event("rules", by=ANN, rules=RULES)
ROLE = event("role", by=ANN, whom=BO, role="moderator")
ACT = event("act", act="mute", by=ANN, whom=BO, until=1_700_000_060_000)
TRIM = event("trim", before=7)
ACTS = [EDIT, DELETE, PURGE, REACTIONS, RULES_CHANGED, ROLE, ACT, TRIM, event("removed")]

RECORD = {
    "act": "mute",
    "by": ANN,
    "at": 1,
    "id": 3,
    "whom": BO,
    "until": -1,
    "reason": "spam",
    "message": 7,
    "detail": "x",
}
HELD = {"id": 1, "at": 1, "by": BO, "text": "a link", "why": "links"}
INVITE = {"id": "i1", "by": ANN, "at": 1, "until": 2, "uses": 5}
RESTRAINT = {"act": "ban", "whom": BO, "until": -1}
CARD = {"type": "person", "ref": "r1", **BO, "role": "", "here": True, "from_address": 2, "events": [MESSAGE, EDIT]} | {
    "more_before": False
}
ORDER = {
    "type": "order",
    "rules": RULES,
    "roles": [{**ANN, "role": "owner"}],
    "restraints": [RESTRAINT, {**RESTRAINT, "until": 1, "reason": "spam", "address": True}],
    "patterns": [{"pattern": "spam"}, {"pattern": "sp+am", "is_regex": True, "action": "hold"}],
    "invites": [INVITE],
    "closed": True,
    "has_password": False,
    "held": 2,
}
FOR_MODERATORS: list[dict[str, Any]] = [
    {"type": "acts", "ref": "r1", "acts": [RECORD, {"act": "raid_end", "by": ANN}], "more": True},
    {"type": "waiting", "held": 0},
    {"type": "held", "held": [HELD, {**HELD, "reply_to": 7}]},
    CARD,
    {**CARD, "muted_until": 1, "banned_until": -1, "reason": "spam"},
    {"type": "invite", "ref": 3, "invite": {**INVITE, "used": 1, "role": "owner"}, "path": "/door?room=%7Etea"},
    ORDER,
    {**ORDER, "restraints": [], "rules": {"announcement": None}},
]

RIGHT: list[dict[str, Any]] = [
    MESSAGE,
    {**MESSAGE, "reply_to": 1},
    {**MESSAGE, "edited": 1_700_000_000_001, "edit": 8, "reactions": [THUMB]},
    *ACTS,
    event("delete", message=7, by=ANN),
    event("purge", person="a1", by=ANN),
    event("rules", by=ANN, rules={}),
    event("role", by=ANN, whom=BO, role=""),
    event("act", act="ban", by=ANN, whom=BO),
    *FOR_MODERATORS,
    {"type": "done", "ref": "r1", "seq": 8},
    {"type": "done"},
    {"type": "out", "why": "ban", "until": 1, "reason": "spam"},
    {"type": "out", "why": "kick"},
    {"type": "you", **ANN, "role": "owner", "muted_until": 5, "muted_for": "spam"},
    {**WELCOME, "you": {**ANN, "role": "owner"}, "rules": RULES, "roles": [{**ANN, "role": "owner"}]},
    {**MESSAGE, "seq": 2**53 - 1, "at": 0, "text": ""},
    {**MESSAGE, "of_later": {"deep": [1]}},
    WELCOME,
    {**WELCOME, "resumed": "gap", "of_later": 1},
    {"type": "ack", "client_id": "c", "seq": 3},
    {"type": "presence", "present": 400, "joined": [ANN], "left": ["b1"], "renamed": [ANN]},
    {"type": "presence", "present": 0},
    {"type": "you", **ANN},
    {"type": "typing", "by": ANN},
    {"type": "page", "ref": "r1", "events": [MESSAGE, *ACTS, {"type": "later", "seq": 8, "at": 1}], "more_before": True}
    | {"more_after": False},
    {"type": "people", "ref": "r2", "total": 1, "people": [ANN]},
    {"type": "status", "storing": False},
    {"type": "status", "storing": True, "epoch": "e2"},
    {"type": "bye", "retry_after": 0.25},
    {"type": "error", "code": "bad_frame", "message": "No."},
    {"type": "error", "code": "rate_limited", "message": "No.", "client_id": "c", "retry_after": 1.5},
    {"type": "later"},
    {"type": "later", "seq": 8, "at": 1},
    {"type": "later", "seq": "no event without a time"},
    {"type": "later", "events": [None]},
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
NO_REACTIONS: list[Any] = [
    THUMB,
    [1],
    [{"kind": "x"}],
    *([bad] for bad in wrong(THUMB, kind=NO_TEXT, n=NO_COUNT, by=[ANN])),
]
NO_RULES: list[Any] = [
    *(1, "x", *({name: value} for name in ("read_only", "locked") for value in (1, "x", None))),
    *(
        {name: value}
        for name in ("slow_s", "edit_s", "keep_s", "keep_events", "raid_until")
        for value in ("1", -1, 0.5)
    ),
    *({"links": 1}, {"announcement": "tea"}, {"announcement": {"text": "tea"}}, {"raid_until": 8.64e15 + 1}),
]
NO_ROLES: list[Any] = [ANN, [ANN], [{**ANN, "role": 1}]]
NO_SEQ: list[Any] = [*NO_COUNT, 0]
NO_EVENTS: list[Any] = [{}, "x", [1], [BAD_MESSAGES[0]], [MESSAGE, None], [{**EDIT, "text": 1}]]
BAD_PLACES = wrong({"type": "later", "seq": 8, "at": 1}, seq=[*NO_COUNT, 0], at=["1", -1, 0.5])
FAULTS = {
    "message": [
        *(*BAD_MESSAGES, *({**MESSAGE, name: bad} for name in ("reply_to", "edit") for bad in NO_SEQ)),
        *({**MESSAGE, "edited": bad} for bad in ("1", -1, 8.64e15 + 1)),
        *({**MESSAGE, "reactions": bad} for bad in NO_REACTIONS),
    ],
    "edit": wrong(EDIT, seq=NO_SEQ, message=NO_SEQ, by=NO_PERSON, text=NO_TEXT),
    "delete": [*wrong(DELETE, message=NO_SEQ, at=["1"])[:-1], *({**DELETE, "by": bad} for bad in NO_PERSON)],
    "purge": [*wrong(PURGE, person=NO_TEXT), *({**PURGE, "by": bad} for bad in NO_PERSON)],
    "reactions": [
        *wrong(REACTIONS, changes=[{}, [1], [{"message": 7}], [{"message": 0, "reactions": []}]]),
        *({**REACTIONS, "changes": [{"message": 7, "reactions": bad}]} for bad in NO_REACTIONS),
    ],
    "rules": wrong(RULES_CHANGED, by=NO_PERSON, rules=NO_RULES),
    "role": wrong(ROLE, by=NO_PERSON, whom=NO_PERSON, role=NO_TEXT),
    "act": [
        *wrong(ACT, act=NO_TEXT, by=NO_PERSON, whom=NO_PERSON),
        {**ACT, "until": -1},
        {**ACT, "until": 8.64e15 + 1},
    ],
    "trim": wrong(TRIM, before=NO_SEQ),
    "done": [{"type": "done", "seq": bad} for bad in NO_SEQ] + [{"type": "done", "ref": bad} for bad in ([], {}, -1)],
    "out": [*wrong({"type": "out", "why": "ban"}, why=NO_TEXT), {"type": "out", "why": "ban", "until": -1}],
    "acts": [
        *wrong({"type": "acts", "acts": [], "more": True}, acts=[{}, [1], [{"act": "mute"}]], more=[1]),
        *({"type": "acts", "acts": [bad], "more": False} for bad in wrong(RECORD, act=NO_TEXT, by=NO_PERSON)),
        *({"type": "acts", "acts": [{**RECORD, "until": bad}], "more": False} for bad in (-2, "x", 8.64e15 + 1)),
    ],
    "waiting": wrong({"type": "waiting", "held": 1}, held=NO_COUNT),
    "held": [
        {"type": "held", "held": [bad]} for bad in wrong(HELD, id=NO_COUNT, by=NO_PERSON, text=NO_TEXT, why=NO_TEXT)
    ],
    "person": wrong(CARD, id=NO_TEXT, name=NO_TEXT, role=NO_TEXT, here=[1], from_address=NO_COUNT, events=NO_EVENTS)
    + [{**CARD, name: bad} for name in ("muted_until", "banned_until") for bad in (-2, "x", 1.5)],
    "invite": [
        *wrong({"type": "invite", "invite": INVITE, "path": "/x"}, invite=[1, {}], path=NO_TEXT),
        *({"type": "invite", "invite": bad, "path": "/x"} for bad in wrong(INVITE, until=["x"], uses=NO_COUNT)),
    ],
    "order": [
        *wrong(ORDER, rules=NO_RULES, roles=NO_ROLES, closed=[1], has_password=["x"], held=NO_COUNT),
        *wrong(ORDER, restraints=[[1], [{**RESTRAINT, "until": -2}]], patterns=[["spam"]], invites=[[{}]]),
    ],
    "an event": [frame for frame in BAD_PLACES if {"seq", "at"} <= frame.keys()],
    "welcome": [
        *wrong(WELCOME, epoch=NO_TEXT, head=NO_COUNT, you=NO_PERSON, present=NO_COUNT, limits=[1, {}, {"text": "x"}]),
        *wrong(WELCOME, now=["1", -1], rules=NO_RULES, roles=NO_ROLES),
        {**WELCOME, "resumed": 1},
    ],
    "ack": wrong({"type": "ack", "client_id": "c", "seq": 3}, client_id=NO_TEXT, seq=[*NO_COUNT, 0]),
    "presence": [
        *wrong({"type": "presence", "present": 1}, present=NO_COUNT),
        {"type": "presence", "present": 1, "joined": ["Ann"]},
        {"type": "presence", "present": 1, "left": [1]},
        {"type": "presence", "present": 1, "renamed": ANN},
    ],
    "you": [
        *wrong({"type": "you", **ANN}, id=NO_TEXT, name=NO_TEXT),
        *(
            {"type": "you", **ANN, **bad}
            for bad in ({"role": 1}, {"muted_until": "x"}, {"muted_until": -1}, {"muted_for": 1})
        ),
    ],
    "typing": wrong({"type": "typing", "by": ANN}, by=NO_PERSON),
    "page": [
        *wrong(
            {"type": "page", "events": [], "more_before": True, "more_after": True},
            events=NO_EVENTS,
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
    """An event of an unknown type, live, on a page or a card, comes without what might look like a message's fields."""
    place = {"type": "later", "seq": 8, "at": 1}
    event = {**place, "by": 7, "text": {"new": "x"}, "reply_to": "y"}
    page = {"type": "page", "ref": "r1", "events": [MESSAGE, event], "more_before": False, "more_after": False}
    card = {**CARD, "events": [MESSAGE, event]}
    assert ear.hear_frames(event, page) == [place, {**page, "events": [MESSAGE, place]}]
    assert ear.hear_frames(card) == [{**card, "events": [MESSAGE, place]}]
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
