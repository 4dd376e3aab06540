"""The player: he answers the conductor, and his last word says how many reports there were before it."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import msgspec
import pytest

from loadtest.account import Account, Ledger, Room
from loadtest.plan import Plan
from loadtest.tag import Tag
from loadtest.tally import Tally
from tests.support import DEADLINE_S

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")  # else importing locust changes every other test's process
    from loadtest import player as module
    from loadtest.player import DRAIN, FINAL, HERE, REPORT, START, STOP, TOTALS, WHO, Cpu, Player, clock_id, wire_of

PLAN = Plan(
    scenario="steady",
    members=4,
    rooms=2,
    senders=2,
    rate=10.0,
    arrivals="constant",
    text_bytes=100,
    warmup_s=0.0,
    duration_s=1.0,
    drain_s=0.0,
    churn=0.0,
    stuck=0,
    slo="",
    adapter="plain",
    room="load",
    is_insecure=False,
    seed=0,
)


class Wire:
    """Locust's messages between a player and the conductor, as they come over the wire."""

    client_id = "b"

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.said: list[tuple[str, dict[str, Any]]] = []

    def register_message(self, word: str, answer: Any) -> None:
        """Be told who answers to what."""
        self.answers[word] = answer

    def send_message(self, word: str, what: dict[str, Any]) -> None:
        """Take what the player says."""
        self.said.append((word, msgspec.msgpack.decode(msgspec.msgpack.encode(what))))

    def tell(self, word: str, **what: Any) -> None:
        """Say something to the player."""
        self.answers[word](None, SimpleNamespace(data=what))

    def heard(self, word: str) -> list[dict[str, Any]]:
        """What the player has said with a word."""
        return [what for said, what in self.said if said == word]

    def wait_for(self, word: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until he has said it so often."""
        with gevent.Timeout(DEADLINE_S):
            while len(self.heard(word)) < count:
                gevent.sleep(0.001)
        return self.heard(word)


@pytest.fixture
def wire() -> Wire:
    """The wire."""
    return Wire()


@pytest.fixture
def player(wire: Wire) -> Iterator[Player]:
    """A player on the wire, the second of two; without members, since nobody is there to let them in."""
    player = Player(SimpleNamespace(runner=wire))  # type: ignore[arg-type]
    yield player
    player.close()


def test_a_player_says_who_he_is_and_what_his_clock_is(player: Player, wire: Wire) -> None:
    """As soon as he is asked."""
    wire.tell(WHO)
    assert wire.said == [(HERE, {"player": "b", "clock": clock_id()})]


def test_two_processes_of_one_machine_have_one_clock() -> None:
    """It does not change while the machine is up."""
    assert clock_id() == clock_id() != ""


def test_reports_are_numbered_and_the_last_word_counts_them(
    player: Player, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a lost one is noticed."""
    monkeypatch.setattr(module, "REPORT_S", 0.01)
    player.prepare(PLAN, 7, "ws://localhost:1", {"a": "u", "b": "t"})
    wire.wait_for(REPORT, 3)
    wire.tell(START)
    wire.tell(STOP)
    assert wire.heard(TOTALS) == [{"player": "b", "totals": {"1/0": [0, []], "1/1": [0, []]}}]
    monkeypatch.setattr(module, "REPORT_S", 3600)
    gevent.sleep(0.02)
    reports_before = len(wire.heard(REPORT))
    wire.tell(DRAIN, totals={"0/0": [0, []]}, drain_s=0.0)
    (final,) = wire.wait_for(FINAL)
    reports = wire.heard(REPORT)
    assert [report["number"] for report in reports] == list(range(len(reports)))
    assert (final["player"], final["reports"]) == ("b", len(reports))
    assert len(reports) == reports_before + 1  # what happened since the last one is not lost
    assert [final[name] for name in ("incomplete", "failures", "drops", "lacks", "fault")] == [[], {}, {}, [], ""]
    assert wire.said[-1][0] == FINAL
    assert player.crowd is None


def test_a_report_says_how_the_members_fare(player: Player, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how the process does that plays them."""
    monkeypatch.setattr(module, "REPORT_S", 0.01)
    player.prepare(PLAN, 7, "ws://localhost:1", {"a": "u", "b": "t"})
    (report, *_) = wire.wait_for(REPORT)
    assert (report["player"], report["phase"], report["members"], report["outside"]) == ("b", "ramp", 0, 0)
    assert (report["outstanding"], report["completed"], report["failures"]) == (0, [], {})
    assert report["generator_cpu"] >= 0
    assert report["generator_memory_bytes"] > 10_000_000
    assert abs(report["generator_memory_bytes"] - report["memory_before_bytes"]) < 100_000_000
    assert Tally.from_wire(report["tally"]).comes_out()


def test_a_player_begins_each_run_anew(player: Player, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """With his first report."""
    monkeypatch.setattr(module, "REPORT_S", 0.01)
    for run in range(2):
        player.prepare(PLAN, run, "ws://localhost:1", {"b": "t"})
        wire.wait_for(REPORT, 2)
        wire.tell(DRAIN, totals={}, drain_s=0.0)
        wire.wait_for(FINAL)
        assert [report["number"] for report in wire.heard(REPORT)] == list(range(wire.heard(FINAL)[0]["reports"]))
        wire.said.clear()


def test_a_player_without_a_run_has_nothing_to_say(player: Player, wire: Wire) -> None:
    """A master may ask before there is one."""
    wire.tell(START)
    wire.tell(STOP)
    wire.tell(DRAIN, totals={}, drain_s=0.0)
    gevent.sleep(0)
    assert wire.said == []


def test_of_a_completed_message_the_conductor_learns_how_long_it_took() -> None:
    """From when it was due, until its first and its last member had it."""
    completed: list[Any] = []
    room = Room(4, [Ledger(True, True) for _ in range(3)], completed)
    Account(room, 0)
    message = room.send(Tag(7, 4, 2, 9, 1000, 1100, True))
    message.saw(1500, 1700)
    assert wire_of(message) == [4, 2, 9, 500, 700]
    message.saw(900, 1700)
    assert wire_of(message) == [4, 2, 9, 0, 700]


def test_how_busy_a_process_is_counts_from_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a share of the time that has passed."""
    now_s, used_s = [100.0], [7.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(time, "process_time", lambda: used_s[0])
    cpu = Cpu()
    now_s[0], used_s[0] = 110.0, 8.0
    assert cpu.share() == pytest.approx(0.1)
    now_s[0], used_s[0] = 112.0, 9.0
    assert cpu.share() == pytest.approx(0.5)
    assert cpu.share() == 0.0
