"""A run: the sum of what its players report, whoever reports first, and INVALID as soon as a word of it is lost."""

import json
import math
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import run as module
from loadtest.plan import Plan
from loadtest.result import load_result, save_result
from loadtest.run import Completions, Run, Second
from loadtest.tally import Tally

quick = settings(deadline=None, database=None, max_examples=60)

MS = 1_000_000
PLAN = Plan(
    scenario="steady",
    members=6,
    rooms=2,
    senders=3,
    rate=10.0,
    arrivals="constant",
    text_bytes=100,
    warmup_s=1.0,
    duration_s=2.0,
    drain_s=1.0,
    churn=0.0,
    stuck=0,
    slo="p99<50ms,missing==0",
    adapter="plain",
    room="load",
    is_insecure=False,
    seed=0,
)


@pytest.fixture(autouse=True)
def without_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine is does not matter here, and costs time."""
    monkeypatch.setattr(module.machine, "facts", lambda: {"cpu": "a"})
    monkeypatch.setattr(module, "_commit", lambda: "abc")
    monkeypatch.setattr(module, "breathe", lambda: None)


def tally_of(latency_ms: float = 10.0, deliveries: int = 100, **counts: int) -> Tally:
    """What one player counted in a second in which everything was as it should be."""
    ordinary = {"had_to_get": 0, "planned": 5, "sent": 5, "deliveries": deliveries, "measured": deliveries}
    tally = Tally(**{**ordinary, "read_bytes": deliveries * 200, **counts})
    for name, ms in (("latency", latency_ms), ("lateness", 0.1), ("read_lag", 0.1)):
        getattr(tally, name).record(int(ms * MS), deliveries)
    return tally


def report_of(player: str, number: int, tally: Tally | None = None, **more: Any) -> dict[str, Any]:
    """A player's report of a second, as it comes over the wire."""
    return json.loads(
        json.dumps(
            {
                "player": player,
                "number": number,
                "tally": (tally or tally_of()).to_wire(),
                "completed": [],
                "phase": "measured",
                "members": 3,
                "outside": 0,
                "outstanding": 0,
                "failures": {},
                "generator_cpu": 0.25,
                "generator_memory_bytes": 2000,
                "memory_before_bytes": 500,
                "is_silent": False,
                **more,
            }
        )
    )


def final_of(player: str, reports: int, tally: Tally | None = None, **more: Any) -> dict[str, Any]:
    """A player's last word."""
    tally = tally or Tally(had_to_get=100, received=100)
    return {
        "player": player,
        "reports": reports,
        "tally": tally.to_wire(),
        "incomplete": [],
        "failures": {},
        "drops": {},
        "lacks": [],
        "fault": "",
        **more,
    }


def run_of(*clocks: str, plan: Plan = PLAN) -> Run:
    """A run of some players a, b, ... with these clocks."""
    return Run(plan, "ws://chat.example:1", dict(zip("abcd", clocks, strict=False)))


def finished(run: Run, *finals: dict[str, Any], by_hand: bool = False) -> Run:
    """A run after its players' last words."""
    for final in finals:
        run.take_final(final)
    run.finish(by_hand)
    return run


def ordinary(*reports: dict[str, Any]) -> Run:
    """A run of one player that went well, but for what these reports say."""
    run = run_of("t")
    for report in reports or (report_of("a", 0), report_of("a", 1)):
        run.take_report(report)
    return run


# The sum


def test_a_run_adds_up_its_players_reports_and_last_words() -> None:
    """In whatever order they come, but for each player's own."""
    words = [("a", 0, 10.0), ("b", 0, 20.0), ("a", 1, 30.0), ("b", 1, 40.0)]
    found = set()
    for order in permutations(words):
        if order.index(words[0]) > order.index(words[2]) or order.index(words[1]) > order.index(words[3]):
            continue
        run = run_of("t", "t")
        for player, number, latency_ms in order:
            run.take_report(report_of(player, number, tally_of(latency_ms)))
        finished(run, final_of("a", 2), final_of("b", 2, Tally(had_to_get=7, received=9, missing=1, doubled=3)))
        figures = run.figures()
        assert (figures["deliveries"], figures["latency_max_ms"]) == (400, 40.0)
        assert (figures["had_to_get"], figures["received"], figures["missing"], figures["doubled"]) == (107, 109, 1, 3)
        assert [second["t"] for second in run.seconds] == [0, 1]
        found.add(repr(run.total.to_wire()))
    assert len(found) == 1


def test_a_second_is_closed_when_all_players_have_reported_it() -> None:
    """With the sum of what they said of themselves, and the busiest of them."""
    run = run_of("t", "t")
    run.take_report(report_of("a", 0, generator_cpu=0.5, outstanding=2))
    run.take_report(report_of("a", 1))
    assert (run.seconds, run.members_in, run.outside) == ([], 3, 0)
    run.take_report(report_of("b", 0, members=4, outside=1, generator_cpu=0.25, outstanding=3))
    (second,) = run.seconds
    assert (second["members"], run.members_in, run.outside) == (7, 7, 1)
    assert (second["generator_cpu"], second["generator_memory_bytes"], second["outstanding"]) == (0.5, 4000, 5)
    assert (second["deliveries_per_s"], second["bytes"], second["bytes_per_delivery"]) == (200, 40_000, 200)
    assert (second["phase"], second["sent"]) == ("measured", 10)


def test_a_second_without_a_report_is_of_the_ramp() -> None:
    """And nobody knows how busy anybody was."""
    second = Second()
    assert (second.phase, second.total("members")) == ("ramp", 0)
    assert math.isnan(second.generator_cpu)
    assert math.isnan(second.to_json(0)["latency_p99_ms"])


def test_figures_are_of_the_measured_seconds() -> None:
    """Rates, deliveries and processor time are means of those, members and memory the most there was."""
    run = run_of("t")
    for number, (phase, deliveries, cpu, members) in enumerate(
        [("ramp", 9, 0.9, 3), ("measured", 100, 0.2, 6), ("measured", 300, 0.4, 5), ("drain", 9, 0.9, 1)]
    ):
        tally = tally_of(deliveries=deliveries, joins=3 if phase == "ramp" else 0)
        run.take_report(
            report_of(
                "a",
                number,
                tally,
                phase=phase,
                generator_cpu=cpu,
                members=members,
                generator_memory_bytes=500 + 100 * members,
            )
        )
    figures = finished(run, final_of("a", 4)).figures()
    assert (figures["deliveries_per_s"], figures["generator_cpu_max"], figures["members"]) == (200, 0.4, 6)
    assert (figures["joins_per_s"], figures["senders"], figures["rooms"], figures["workers"]) == (3, 6, 2, 1)
    assert (figures["rate_planned"], figures["rate_reached"]) == (10.0, 10.0)
    assert (figures["generator_memory_bytes"], figures["generator_memory_bytes_per_member"]) == (1100, 100)
    assert math.isnan(figures["server_cpu"])
    assert run.measured_seconds == 2


def test_the_verdict_is_of_the_seconds_that_were_planned() -> None:
    """However many reports told of them: with the last messages under way, a few more do."""
    run = ordinary(*(report_of("a", number, tally_of(sent=0)) for number in range(4)))
    finished(run, final_of("a", 4, Tally(had_to_get=400, received=400)))
    assert run.judged and run.judged.reasons[0].startswith(
        "The rate reached was 0 messages/s, less than 99.5% of the planned 10"
    )


def test_a_run_without_a_second_has_no_figures() -> None:
    """It can be asked at any time."""
    figures = run_of("t").figures()
    assert math.isnan(figures["deliveries_per_s"])
    assert math.isnan(figures["rate_planned"])
    assert math.isnan(figures["server_memory_bytes_per_member"])


# Last members


def completions(*clocks: str) -> Completions:
    """Of two rooms with three senders each, dealt over as many workers as there are clocks."""
    return Completions(PLAN, list(clocks))


def test_a_message_is_complete_when_all_who_share_its_clock_have_it() -> None:
    """Its last member is the last of all, and the spread is from the first of all."""
    tally, found = Tally(), completions("t", "t", "u")
    found.take([[0, 0, 5, 3 * MS, 9 * MS]], tally)
    assert tally.last_member.total == 0
    found.take([[0, 0, 5, 1 * MS, 7 * MS]], tally)
    assert (tally.last_member.max_ns, tally.spread.max_ns, tally.last_member.total) == (9 * MS, 8 * MS, 1)
    found.take([[0, 1, 5, 1 * MS, 2 * MS]], tally)  # sender 1 of room 0 is seat 2, and so the third worker's
    assert (tally.last_member.total, tally.spread.min_ns) == (2, 1 * MS)


clock_lists = st.lists(st.sampled_from("tu"), min_size=1, max_size=4)


@given(
    clock_lists, st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)), unique=True), st.randoms()
)
@quick
def test_every_message_has_one_last_member_whoever_reports_first(
    clocks: list[str], messages: list[tuple[int, int, int]], chance: Any
) -> None:
    """Of workers on the sender's clock; each reports each message once, at some time."""
    words, expected = [], []
    for room, sender, seq in messages:
        owner = PLAN.worker_of(room, sender, len(clocks))
        times = [sorted(chance.choices(range(100), k=2)) for clock in clocks if clock == clocks[owner]]
        words += [[room, sender, seq, first, last] for first, last in times]
        expected.append(max(last for _, last in times))
    chance.shuffle(words)
    tally, found = Tally(), completions(*clocks)
    for word in words:
        found.take([word], tally)
    assert tally.last_member.total == tally.spread.total == len(messages)
    assert tally.last_member.max_ns == max(expected, default=0)
    found.finish(set(), tally)
    assert tally.last_member.total == len(messages)


def test_at_the_end_what_somebody_lacks_has_no_last_member() -> None:
    """And what nobody lacks is complete, though not every worker has a member in its room."""
    tally, found = Tally(), completions("t", "t")
    found.take([[0, 0, 1, MS, 2 * MS], [1, 0, 1, MS, 5 * MS]], tally)
    found.finish({(0, 0, 1), (0, 0, 2)}, tally)
    assert (tally.last_member.infinite, tally.last_member.total, tally.last_member.max_ns) == (2, 3, 5 * MS)
    assert tally.spread.total == 1


def test_completions_count_in_the_second_in_which_they_are_known() -> None:
    """And in the run."""
    run = run_of("t", "t")
    run.take_report(report_of("a", 0, completed=[[0, 0, 0, MS, 2 * MS]]))
    tally = run.take_report(report_of("b", 0, completed=[[0, 0, 0, MS, 3 * MS]]))
    assert (tally.last_member.total, run.total.last_member.max_ns) == (1, 3 * MS)
    assert run.seconds[0]["last_member_p99_ms"] == 3.0


# The verdict


def test_a_run_that_went_well_is_valid_and_meets_its_goals() -> None:
    """And its exit code says so."""
    run = finished(ordinary(), final_of("a", 2))
    assert (run.is_over, run.phase) == (True, "over")
    verdict = run.result()["verdict"]
    assert (verdict["is_valid"], verdict["reasons"], verdict["wrong"], verdict["exit_code"]) == (True, [], [], 0)
    assert [(goal["goal"], goal["is_met"]) for goal in verdict["goals"]] == [("p99<50ms", True), ("missing==0", True)]


def test_what_never_came_is_infinitely_late() -> None:
    """If it was to be measured; and it is a wrong delivery."""
    run = finished(ordinary(), final_of("a", 2, Tally(had_to_get=300, received=200, missing=100, never=60)))
    assert (run.total.latency.infinite, run.figures()["latency_max_ms"]) == (60, math.inf)
    assert run.result()["verdict"]["exit_code"] == 5


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ({"reports": 3}, "report"),
        ({"tally": Tally(had_to_get=100, received=99)}, "account"),
        ({"fault": "KeyError('text')"}, "KeyError"),
        (
            {"tally": Tally(had_to_get=100, received=100, failed=2), "failures": {"the server answered HTTP 503": 2}},
            "503",
        ),
    ],
    ids=["a report is lost", "the account does not come out", "the reader failed", "somebody was not let in"],
)
def test_a_run_that_cannot_be_trusted_is_invalid(case: dict[str, Any], word: str) -> None:
    """With the reason."""
    case = dict(case)
    run = finished(ordinary(), final_of("a", case.pop("reports", 2), case.pop("tally", None), **case))
    verdict = run.result()["verdict"]
    assert (verdict["is_valid"], verdict["exit_code"]) == (False, 4)
    assert word in " ".join(verdict["reasons"])


def test_a_player_without_a_last_word_makes_the_run_invalid() -> None:
    """What he reported is kept; the seconds that he did not report are there without him."""
    run = run_of("t", "t")
    for player, number in (("a", 0), ("b", 0), ("a", 1)):
        run.take_report(report_of(player, number))
    finished(run, final_of("a", 2))
    assert (run.finals, run.health.workers_lost, run.judged is not None and run.judged.is_valid) == (1, 1, False)
    assert [(second["t"], second["deliveries_per_s"]) for second in run.seconds] == [(0, 200), (1, 100)]


def test_a_run_that_is_stopped_by_hand_says_so() -> None:
    """Its rates are of the seconds that it had."""
    run = finished(ordinary(report_of("a", 0)), final_of("a", 1), by_hand=True)
    assert run.health.is_stopped_by_hand
    assert run.figures()["rate_reached"] == 5.0


def test_busy_seconds_are_counted_while_it_is_measured() -> None:
    """Each in which one player or the other was."""
    run = run_of("t", "t")
    for number, (phase, cpus) in enumerate(
        [("warm-up", (1.0, 1.0)), ("measured", (0.2, 0.91)), ("measured", (0.9, 0.9)), ("measured", (0.95, 0.99))]
    ):
        for player, cpu in zip("ab", cpus, strict=True):
            run.take_report(report_of(player, number, phase=phase, generator_cpu=cpu))
    assert (run.health.seconds, run.health.busy_seconds) == (3, 2)


def test_what_the_players_have_to_tell_is_noted() -> None:
    """What is missing, in words; why members were not let in and why they were cut off, with how often."""
    run = run_of("t", "t")
    for player in "ab":
        run.take_report(report_of(player, 0, failures={"full": 1}))
    assert run.failures == {"full": 2}
    finished(
        run,
        final_of("a", 1, lacks=["member 3 lacks message 4"], drops={"reset": 2}, failures={"full": 2}),
        final_of("b", 1, drops={"reset": 1, "code 1001": 4}, failures={"full": 3, "closed": 1}),
    )
    assert "member 3 lacks message 4" in run.notes
    assert run.health.drops == {"reset": 3, "code 1001": 4}
    assert run.failures == {"full": 5, "closed": 1}


# A climb


@pytest.fixture
def climb() -> Iterator[Run]:
    """A climb whose goal is 50 ms."""
    plan = Plan(**{**PLAN.to_json(), "scenario": "capacity"})
    yield run_of("t", plan=plan)


def step(run: Run, members: int, number: int, latency_ms: float = 10.0, **more: Any) -> bool:
    """Let a step of two seconds be reported, and end it."""
    run.begin_step()
    for second in range(2):
        run.take_report(report_of("a", number + second, tally_of(latency_ms), members=members, **more))
    return run.end_step(members)


def test_a_climb_ends_at_the_goal(climb: Run) -> None:
    """It tells the highest step that held, and shows its times; the account is of all."""
    assert step(climb, 100, 0)
    assert step(climb, 125, 2, 20.0)
    assert not step(climb, 157, 4, 80.0)
    finished(climb, final_of("a", 6, Tally(had_to_get=600, received=600)))
    assert climb.capacity == 125
    assert climb.figures()["latency_max_ms"] == 20.0
    assert climb.figures()["had_to_get"] == 600
    assert climb.notes[0].startswith(
        "This machine: about 125 members at 10 messages/s; stopped by the goal at 157 members"
    )
    assert [note for note in climb.notes if "p99" in note][1:3] == [
        "100 members: p99 10 ms",
        "125 members: p99 20 ms",
    ]


def test_a_climb_may_end_at_the_generator(climb: Run) -> None:
    """Which is another answer."""
    assert step(climb, 100, 0)
    assert not step(climb, 125, 2, generator_cpu=0.99)
    assert climb.stopped_by.startswith("the generator at 125 members: ")


def test_a_climb_ends_where_deliveries_are_overdue(climb: Run) -> None:
    """At the end of a step, by more than a second."""
    assert not step(climb, 100, 0, outstanding=3)
    assert climb.capacity == 0
    assert "the goal at 100 members" in climb.stopped_by


def test_a_step_is_judged_by_itself(climb: Run) -> None:
    """What was slow while members came in is not of it."""
    climb.take_report(report_of("a", 0, tally_of(900.0), generator_cpu=1.0))
    climb.take_report(report_of("a", 1, tally_of(900.0), generator_cpu=1.0))
    assert step(climb, 100, 2)


# What the terminal and the page ask


def test_while_it_runs_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And has a result at any time, whose verdict is not there yet."""
    now_s = [50.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    run = run_of("t")
    now_s[0] = 54.0
    assert (run.phase, run.elapsed_s, run.remaining_s, run.is_over) == ("ramp", 4.0, None, False)
    run.phase = "warm-up"
    now_s[0] = 56.0
    run.phase = "measured"
    assert (run.phase, run.elapsed_s, run.remaining_s) == ("measured", 6.0, 1.0)
    now_s[0] = 60.0
    assert run.remaining_s == 0.0
    assert run.result()["verdict"] == {
        "headline": "running", "is_valid": True, "reasons": [], "wrong": [], "goals": [], "exit_code": None
    }  # fmt: skip


def test_a_run_without_an_end_does_not_say_how_long_it_takes() -> None:
    """Nobody knows."""
    run = run_of("t", plan=Plan(**{**PLAN.to_json(), "duration_s": math.inf}))
    run.phase = "warm-up"
    assert run.remaining_s is None
    assert run.options["duration_s"] is None


def test_the_result_says_what_was_run(tmp_path: Path) -> None:
    """With every option, histogram and second; and it can be written and read again."""
    save_result(finished(ordinary(), final_of("a", 2)).result(), tmp_path / "result.json")
    result = load_result(tmp_path / "result.json")
    assert (result["scenario"], result["target"], result["commit"]) == ("steady", "ws://chat.example:1", "abc")
    assert (result["options"]["members"], result["options"]["workers"]) == (6, 1)
    assert result["histograms"]["latency"]["counts"][0][1] == 200
    assert [second["t"] for second in result["seconds"]] == [0, 1]
