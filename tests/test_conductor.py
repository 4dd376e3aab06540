"""The conductor: the phases of a run in their order, and an end to it whoever falls silent."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from loadtest import run as run_module
from loadtest.plan import Plan
from loadtest.tally import Tally
from tests.support import DEADLINE_S

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")  # else importing locust changes every other test's process
    from loadtest import conductor as module
    from loadtest.conductor import Conductor, reasons
    from loadtest.player import DRAIN, FINAL, HERE, REPORT, START, STOP, TOTALS, WHO

PLAN = Plan(
    scenario="steady",
    members=2,
    rooms=1,
    senders=1,
    rate=10.0,
    arrivals="constant",
    text_bytes=100,
    warmup_s=0.01,
    duration_s=0.02,
    drain_s=0.05,
    churn=0.0,
    stuck=0,
    slo="missing==0",
    adapter="plain",
    room="load",
    is_insecure=False,
    seed=0,
)


class Stage:
    """Locust's runner, with players who answer by themselves, in place of workers."""

    def __init__(self, *players: str) -> None:
        self.players = players
        self.user_count = 2
        self.silent: set[str] = set()  # the words that nobody answers
        self.last = Tally(had_to_get=6, received=6)
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.entered: list[Tally] = []
        self.answers: dict[str, Callable[[Any, Any], None]] = {}
        self.numbers = dict.fromkeys(players, 0)
        environment: Any = SimpleNamespace(runner=self, parsed_options=SimpleNamespace(spawn_rate=5))
        self.conductor = Conductor(environment, self.entered.append)

    def register_message(self, word: str, answer: Callable[[Any, Any], None]) -> None:
        """Be told who answers to what."""
        self.answers[word] = answer

    def start(self, users: int, spawn_rate: float) -> None:
        """Start more users."""
        self.user_count = users
        self.conductor.has_spawned()
        for player in self.players:
            self.report(player, "measured")

    def send_message(self, word: str, what: dict[str, Any]) -> None:
        """Let the players hear something, and answer."""
        self.said.append((word, what))
        if word in self.silent:
            return
        for player in self.players:
            if word == WHO:
                self.answer(HERE, player, clock="t")
            elif word == STOP:
                self.answer(TOTALS, player, totals={f"0/{player}": [3, []]})
            elif word == DRAIN:
                self.report(player, "drain")
                tally = self.last.to_wire()
                last = {"incomplete": [], "failures": {}, "drops": {}, "lacks": [], "fault": ""}
                self.answer(FINAL, player, tally=tally, reports=self.numbers[player], **last)

    def answer(self, word: str, player: str, **what: Any) -> None:
        """Say something for a player."""
        self.answers[word](None, SimpleNamespace(data={"player": player, **what}))

    def report(self, player: str, phase: str, **what: Any) -> None:
        """Report a second for a player."""
        tally = Tally(planned=1, sent=1, deliveries=2, measured=2)
        for histogram in (tally.latency, tally.lateness, tally.read_lag):
            histogram.record(1000, 2)
        ordinary = {
            "number": self.numbers[player],
            "tally": tally.to_wire(),
            "completed": [],
            "phase": phase,
            "members": self.user_count // len(self.players),
            "outside": 0,
            "outstanding": 0,
            "failures": {},
            "generator_cpu": 0.1,
            "generator_memory_bytes": 1,
            "memory_before_bytes": 1,
        }
        self.numbers[player] += 1
        self.answer(REPORT, player, **{**ordinary, **what})

    @property
    def words(self) -> list[str]:
        """What the players were told."""
        return [word for word, _ in self.said]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here needs long to answer."""
    for name, seconds in (("ANSWER_S", 0.05), ("HEARTBEAT_S", 0.002), ("SETTLE_S", 0.0)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(run_module.machine, "facts", dict)
    monkeypatch.setattr(run_module, "breathe", lambda: None)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage with one player."""
    yield Stage("local")


def led(stage: Stage, plan: Plan = PLAN) -> Any:
    """A run that has begun, whose members are in."""
    run = stage.conductor.prepare(plan, "ws://chat.example:1")
    stage.conductor.has_spawned()
    for player in stage.players:
        stage.report(player, "ramp")
        stage.report(player, "measured")
    return run


def ended(run: Any) -> Any:
    """A run that is over."""
    assert run.over.wait(DEADLINE_S)
    return run


def test_a_run_goes_through_its_phases(stage: Stage) -> None:
    """The players are told when to begin, to stop and to finish, and then there is a verdict."""
    run = ended(led(stage))
    assert stage.words == [WHO, START, STOP, DRAIN]
    assert (run.judged.is_valid, run.judged.reasons) == (True, [])
    assert stage.said[-1][1] == {"totals": {"0/local": [3, []]}, "drain_s": PLAN.drain_s}
    assert run.total.had_to_get == 6
    assert len(stage.entered) == 3


def test_nobody_begins_before_all_are_in(stage: Stage) -> None:
    """Locust has started them, and the server has not let them in."""
    run = stage.conductor.prepare(PLAN, "ws://chat.example:1")
    gevent.sleep(0.01)
    assert stage.words == [WHO]
    stage.conductor.has_spawned()
    stage.report("local", "ramp", members=1, outside=1)
    gevent.sleep(0.02)
    assert stage.words == [WHO]
    stage.report("local", "ramp")
    ended(run)
    assert stage.words == [WHO, START, STOP, DRAIN]


@pytest.mark.parametrize("failures", [{}, {"full": 3}])
def test_a_run_whose_members_do_not_come_in_ends_without_having_begun(
    stage: Stage, failures: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not waited for for ever, but longer as long as nobody was refused."""
    monkeypatch.setattr(module, "STALL_S", 0.02)
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.0 if not failures else DEADLINE_S)
    stage.last = Tally(failed=1)
    run = stage.conductor.prepare(PLAN, "ws://chat.example:1")
    stage.conductor.has_spawned()
    stage.report("local", "ramp", members=1, outside=1, failures=failures)
    ended(run)
    assert stage.words == [WHO, STOP, DRAIN]
    assert not run.judged.is_valid


def test_a_run_is_put_together_of_all_players() -> None:
    """Each with his clock, in their order."""
    stage = Stage("b", "a")
    run = led(stage)
    assert list(run.workers.items()) == [("a", "t"), ("b", "t")]
    assert stage.conductor.run is run
    ended(run)
    assert run.total.had_to_get == 12


@pytest.mark.parametrize("word", [STOP, DRAIN])
def test_a_player_who_falls_silent_does_not_keep_the_run_from_ending(stage: Stage, word: str) -> None:
    """Without his last word it is INVALID."""
    stage.silent.add(word)
    run = ended(led(stage))
    assert run.judged.is_valid is (word == STOP)
    assert stage.words == [WHO, START, STOP, DRAIN]


def test_a_player_s_last_word_is_waited_for(stage: Stage) -> None:
    """He may need the whole drain for it."""
    stage.silent.add(DRAIN)
    run = led(stage)
    with gevent.Timeout(DEADLINE_S):
        while DRAIN not in stage.words:
            gevent.sleep(0.001)
    gevent.sleep(0.01)
    stage.silent.clear()
    stage.send_message(DRAIN, {})
    assert ended(run).judged.is_valid


def test_what_somebody_says_who_does_not_play_is_not_counted(stage: Stage) -> None:
    """A worker of another run, or one that came too late."""
    run = led(stage)
    stage.numbers["stranger"] = 0
    stage.report("stranger", "measured")
    stage.answer(FINAL, "stranger", tally={})
    ended(run)
    assert run.total.deliveries == 6
    assert run.judged.is_valid


def test_a_report_that_cannot_be_entered_makes_the_run_invalid(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """It ends all the same."""
    run = led(stage)
    stage.report("local", "measured", tally={"latency": "nonsense"})
    ended(run)
    assert not run.judged.is_valid
    assert "no stored histogram" in " ".join(run.judged.reasons)
    assert [record.getMessage() for record in caplog.records] == ["a report could not be entered"]
    caplog.clear()


def test_a_run_can_be_stopped(stage: Stage) -> None:
    """By hand it is cut short; a run without an end has come to it."""
    for duration_s, is_by_hand, is_cut_short in ((60.0, True, True), (60.0, False, True), (float("inf"), False, False)):
        run = led(stage, replace(PLAN, duration_s=duration_s, drain_s=9.0))
        with gevent.Timeout(DEADLINE_S):
            while START not in stage.words:
                gevent.sleep(0.001)
        stage.conductor.stop(is_by_hand=is_by_hand)
        assert run.is_over
        assert run.health.is_stopped_by_hand is is_cut_short
        assert stage.said[-1][1]["drain_s"] == (2.0 if is_cut_short else 9.0)
        stage.said.clear()
        stage.numbers["local"] = 0


def test_stopping_when_nothing_runs_is_no_matter(stage: Stage) -> None:
    """Neither before a run nor after it."""
    stage.conductor.stop(is_by_hand=True)
    run = ended(led(stage))
    stage.conductor.stop(is_by_hand=True)
    assert not run.health.is_stopped_by_hand


def climbing(stage: Stage, patch: pytest.MonkeyPatch, latency_ms: Callable[[int], float]) -> Any:
    """A climb in which each step is one report, with this latency at so many members."""

    def measure(self: Conductor, run: Any, seconds: float) -> None:
        tally = Tally(planned=1, sent=1, deliveries=2, measured=2)
        for histogram, ms in ((tally.latency, latency_ms(stage.user_count)), (tally.lateness, 0), (tally.read_lag, 0)):
            histogram.record(int(ms * 1e6), 2)
        stage.report("local", "measured", tally=tally.to_wire())
        self._reports.join()

    patch.setattr(Conductor, "_pause", measure)
    stage.user_count = 100
    return ended(led(stage, replace(PLAN, scenario="capacity", members=100, slo="p99<1ms")))


def test_a_climb_lets_in_a_quarter_more_until_the_goal_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is measured by itself, and one that fails is tried once more."""
    run = climbing(stage, monkeypatch, lambda members: 5 if members > 150 else 0.5)
    assert [note.split(":")[0] for note in run.notes] == [
        "This machine",
        *(f"{n} members" for n in (100, 125, 157, 157)),
    ]
    assert run.capacity == 125
    assert stage.words == [WHO, START, STOP, DRAIN]


def test_a_step_that_holds_when_it_is_tried_again_has_held(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once may be chance."""
    chances = iter([0.5, 0.5, 5, 0.5, 5, 5])  # the first is the warm-up
    run = climbing(stage, monkeypatch, lambda _: next(chances))
    assert (run.capacity, len(run.notes)) == (125, 6)


def test_a_climb_ends_where_the_machine_does(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what would have to be changed."""

    def refuse(members: int) -> None:
        raise ValueError("too many open files")

    monkeypatch.setattr(module, "allow_members", refuse)
    run = climbing(stage, monkeypatch, lambda _: 0.5)
    assert (run.stopped_by, run.capacity) == ("the machine: too many open files", 100)


def test_a_climb_ends_where_the_server_lets_nobody_in(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason that it gave."""
    monkeypatch.setattr(module, "STALL_S", 0.02)

    def start(users: int, spawn_rate: float) -> None:
        stage.user_count = users
        stage.conductor.has_spawned()
        stage.report("local", "measured", members=100, outside=25, failures={"full": 9})

    monkeypatch.setattr(stage, "start", start)
    run = climbing(stage, monkeypatch, lambda _: 0.5)
    assert run.stopped_by == "the server, which did not let 125 members in (9 x full)"


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ({}, "no answer"),
        ({"full": 2}, "2 x full"),
        ({"a": 1, "b": 5, "c": 3, "d": 2}, "5 x b; 3 x c; 2 x d"),
    ],
)
def test_the_commonest_reasons_are_told(failures: dict[str, int], words: str) -> None:
    """In the order of how often."""
    assert reasons(failures) == words
