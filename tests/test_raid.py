"""A raid played out: every promise is kept by the chat room, and every one that is broken is told.

The small raid is the real thing, with fewer people. The others are judged from what people are made to have heard.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest import promises, raid
from loadtest.hall import Chunk, Heard, Person
from loadtest.machine import Cores
from loadtest.picture import Picture, Said, event_of
from loadtest.play import TALKER, Act, Outcome, Script, mark
from loadtest.promises import judged, measured
from loadtest.result import load_result
from tests.support import ROOT

SMALL = ["--members=30", "--raiders=6", "--banned=2", "--said=300", "--flood=0.5", "--flood-rate=100", "--rate=20"]
# How fast a machine is that runs other tests meanwhile is not asked.
PATIENT = ["--within-ms=10000", "--held-ms=10000"]
RAID_S = 60.0


# The real thing


def test_the_chat_room_keeps_every_promise_in_a_raid(tmp_path: Path) -> None:
    """Links, filtered words and a flood; the button, bans and a purge; and what everybody is left with."""
    command = [sys.executable, "-m", "loadtest", "raid", *SMALL, *PATIENT, f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RAID_S, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    result = load_result(tmp_path)
    assert (result["verdict"]["broken"], result["verdict"]["exit_code"]) == ([], 0)
    figures = result["figures"]
    assert (figures["members"], figures["raiders"], figures["put_out"]) == (30, 6, 6)
    assert 0 < figures["raid_shown"] < figures["raid_said"]
    assert figures["told_to_late"] > 300 < figures["events_in_pages"]
    assert (tmp_path / "report.txt").read_text().startswith("KEPT: all ")
    assert "KEPT: all " in done.stdout


LIES = """
import time
import chat.order, chat.protocol, chat.room

chat.order.Order._mute_of = lambda *_: (0, "")
chat.room.Room._rewrite = lambda *_: None
put_out = chat.room.Room.put_out

def be_slow_and_tell_nothing(room, meant):
    time.sleep(0.3)
    put_out(room, meant._replace(out=chat.protocol.Out("kick")))

chat.room.Room.put_out = be_slow_and_tell_nothing
"""


def test_a_chat_room_that_breaks_its_promises_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lets newcomers speak, keeps what was purged for who comes next, tells nobody of his ban, and is held by it."""
    honest = raid.chatroom
    monkeypatch.setattr(
        raid, "chatroom", lambda folder, cores, before="", *options: honest(folder, cores, before + LIES, *options)
    )
    monkeypatch.setattr(Cores, "split", Cores)
    monkeypatch.setattr(raid.signal, "signal", lambda *_: None)
    assert raid.main([*SMALL, *PATIENT, f"--out={tmp_path}"]) == 1
    result = load_result(tmp_path)
    keys = ("raid_shown_after_button", "newcomers_spoke", "closed_untold", "purged_told_to_late")
    assert result["verdict"]["broken"] == [text for key, text in promises.NEVER.items() if key in keys]
    assert result["figures"]["held_bans_ms"] > 250
    assert "BROKEN: 4 of " in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--raiders=1"], ["--banned=0"], ["--banned=50"], ["--members=0"], ["--said=no"]])
def test_a_raid_that_cannot_be_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With status 2, before anything is started."""
    with pytest.raises(SystemExit) as refusal:
        raid.main(options)
    assert refusal.value.code == 2
    assert "error:" in capsys.readouterr().err


# What is judged

OWNER, MEMBER, RAIDER, TALKER_ID = "owner", "member", "raider", "talker"


def event(kind: str, seq: int, by: str = OWNER, **fields: Any) -> bytes:
    """An event as the server tells it."""
    said = {"type": kind, "seq": seq, "at": 0, "by": {"id": by, "name": ""}, **fields}
    return json.dumps(said, separators=(",", ":")).encode()


TOLD = (
    event("message", 1, TALKER_ID, text=f"{mark(TALKER)} 0"),
    event("message", 2, MEMBER, text="ordinary, before: 0"),
    event("message", 3, RAIDER, text=f"{mark(0)} 0"),
    event("rules", 4, rules={"raid_until": 1}),
    event("message", 5, MEMBER, text="ordinary, after: 0"),
    event("act", 6, act="ban", whom={"id": RAIDER, "name": ""}),
    event("purge", 7, person=RAIDER),
    event("message", 8, text="before the purge"),
    event("purge", 9, person=TALKER_ID),
    event("message", 10, text="after the purge"),
)
KEPT = (*(event("removed", seq) for seq in (1, 3)), TOLD[1], *TOLD[3:])


def who_heard(*texts: bytes) -> Person:
    """Somebody who heard each of these a millisecond after the one before."""
    person = Person("127.0.0.2")
    person.heard = [Heard(1_000_000 * at, Chunk(texts=[text])) for at, text in enumerate(texts, 1)]
    return person


def outcome_of(first: tuple[bytes, ...] = TOLD, second: tuple[bytes, ...] = TOLD, **changed: Any) -> Outcome:
    """A raid in which all went well, but for what two members heard and what is `changed`."""
    out = Person("127.0.0.3", out={"type": "out", "why": "ban"}, close_code=1008, ended_ns=7_000_000)
    ban = Act("ban with purge", 5_000_000, 6_000_000, 6)
    outcome = Outcome(
        Script(members=2, raiders=1, banned=1, flood_per_s=1, flood_s=1, talk_per_s=1, said=1),
        [who_heard(*first), who_heard(*second)],
        acts=[Act("the button", 3_000_000, 4_000_000, 4), ban, Act("the purge", 8_000_000, 9_000_000, 9)],
        ordinary=[(f"ordinary, {when}: 0", {"type": "ack", "seq": seq}) for when, seq in (("before", 2), ("after", 5))],
        raiders={RAIDER},
        purged={0, TALKER},
        put_out=[(ban, out)],
        quiet=[(8, 10), (8, 10)],
        newcomer_heard="muted",
        late=[who_heard(*KEPT)],
        pages=[json.dumps({"events": [json.loads(text) for text in KEPT]})],
        erased_s=0.5,
        held_ns={"flood": 20_000_000},
    )
    for name, value in changed.items():
        setattr(outcome, name, value)
    return outcome


def broken(outcome: Outcome) -> list[str]:
    """The promises that were not kept."""
    return [promise.text for promise in judged(measured(outcome), 1000, 250) if not promise.is_kept]


def test_a_raid_in_which_all_went_well_is_kept() -> None:
    """With its figures."""
    outcome = outcome_of()
    assert broken(outcome) == []
    figures = measured(outcome)
    assert (figures["raid_shown"], figures["raid_shown_after_press"], figures["ordinary_after_button"]) == (1, 0, 1)
    assert figures["the_button_last_member_ms"] == figures["ban_with_purge_last_member_ms"] == 1.0
    assert (figures["closed_last_ms"], figures["held_flood_ms"], figures["purge_frame_bytes"]) == (
        2.0,
        20.0,
        len(TOLD[8]),
    )


LATE_RAID = event("message", 5, RAIDER, text="and again")
LOST, DOUBLED = (*TOLD[:4], event("removed", 5), *TOLD[5:]), (*TOLD[:5], TOLD[4].replace(b":5,", b":6,"), *TOLD[6:])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"second": (*TOLD[:4], LATE_RAID, *TOLD[5:])}, "Nothing that raiders say is shown once"),
        ({"second": (*TOLD[:7], event("message", 8, text="buy pills"), *TOLD[8:])}, "Nothing that the filter refuses"),
        ({"newcomer_heard": "ack"}, "Nobody who comes during the raid can speak"),
        (
            {"ordinary": [("ordinary, after: 0", {"type": "ack", "seq": 5}), ("x", {"code": "muted"})]},
            "kept from speaking",
        ),
        ({"ordinary": [("ordinary, after: 0", {"type": "ack", "seq": 5}), ("x", {})]}, "kept from speaking"),
        ({"second": LOST}, "Everything they say reaches every member"),
        ({"second": DOUBLED}, "It reaches him once"),
        ({"second": (*TOLD[:5], *TOLD[6:])}, "Every member hears every event, in order"),
        ({"second": (*TOLD[:6], TOLD[5], *TOLD[6:])}, "Every member hears every event, in order"),
        ({"came_back": ["somebody"]}, "Nobody who is banned comes in again"),
        ({"late": [who_heard(*TOLD)]}, "Nobody who comes later"),
        ({"pages": [json.dumps({"events": [json.loads(TOLD[0])]})]}, "No page of history"),
        ({"second": (*TOLD[:8], event("purge", 9, person="nobody"), TOLD[9])}, "No member is left"),
        ({"quiet": [(8, 10), (9, 10)]}, "A purge is one frame"),
        ({"quiet": [(8, 10), (7, 10)]}, "A purge is one frame"),
        ({"erased_s": 31.0}, "Nothing that was purged is in the server's files"),
        ({"held_ns": {"bans": 251_000_000}}, "never held for longer than 250 ms"),
        ({"held_ns": {}}, "never held for longer than 250 ms"),
        ({"ordinary": []}, "There was a raid"),
        ({"late": []}, "There was a raid"),
        ({"pages": []}, "There was a raid"),
    ],
)
def test_every_promise_can_be_broken(changed: dict[str, Any], said: str) -> None:
    """Each by what breaks it, at one member of two."""
    found = broken(outcome_of(**changed))
    assert [text for text in found if said in text], found


@pytest.mark.parametrize(
    ("person", "said"),
    [
        (Person("a", out={"why": "ban"}, close_code=1008, ended_ns=1_005_100_000), "within 1,000 ms"),
        (Person("a", out={"why": "ban"}, close_code=1008), "within 1,000 ms"),
        (Person("a", out={"why": "kick"}, close_code=1008, ended_ns=7_000_000), "is told so"),
        (Person("a", close_code=1008, ended_ns=7_000_000), "is told so"),
        (Person("a", out={"why": "ban"}, ended_ns=7_000_000), "is told so"),
    ],
)
def test_who_is_put_out_must_be_told_and_gone(person: Person, said: str) -> None:
    """Within a second, by a close frame of 1008."""
    (found,) = broken(outcome_of(put_out=[(Act("ban with purge", 5_000_000, 6_000_000, 6), person)]))
    assert said in found


def test_what_explains_a_figure_is_noted() -> None:
    """Why somebody could not speak, and that the machine was busy with other things."""
    assert promises.notes(outcome_of()) == []
    told = promises.notes(outcome_of(ordinary=[("x", {"code": "muted"}), ("y", {})], waited=0.25))
    assert told[:2] == ["1 were kept from speaking by `muted`.", "1 were kept from speaking by `no answer`."]
    assert "for 25% of the time the server had no core" in told[2]


def test_an_act_must_reach_the_last_member_in_time() -> None:
    """Who never hears of it is infinitely late."""
    outcome = outcome_of()
    outcome.members[1].heard[5] = outcome.members[1].heard[5]._replace(at_ns=1_006_000_000)
    (found,) = broken(outcome)
    assert "heard by the last of the members" in found
    assert measured(outcome_of(second=TOLD[:8]))["the_purge_last_member_ms"] == float("inf")


# A picture


def picture_of(*texts: bytes) -> Picture:
    """What is left of these events."""
    picture = Picture()
    for text in texts:
        picture.hear(event_of(text))
    return picture


def test_a_picture_is_what_the_events_leave() -> None:
    """Edited, deleted, purged and too old; who was purged may speak again."""
    said = [event("message", seq, by, text=f"t{seq}") for seq, by in enumerate("abcab", 1)]
    picture = picture_of(
        *said,
        event("edit", 6, "b", message=5, text="other words"),
        event("delete", 7, message=3),
        event("purge", 8, person="a"),
        event("message", 9, "a", text="back"),
        event("trim", 10, before=3),
    )
    assert picture.messages == {5: Said("b", "other words"), 9: Said("a", "back")}
    assert picture.out_of_order == 0


def test_a_picture_notes_what_does_not_follow() -> None:
    """A hole, a double and what comes late; where it begins does not matter."""
    assert picture_of(event("removed", 7), event("removed", 8)).out_of_order == 0
    assert picture_of(*(event("removed", seq) for seq in (1, 3, 3, 2, 3))).out_of_order == 3
