"""The verdict: which figures count, which deliveries were wrong, which goals were met, and with what code it ends."""

import math
from typing import Any

import pytest

from loadtest.verdict import (
    GOAL_MISSED,
    INVALID,
    METRICS,
    PASS,
    WRONG,
    WRONG_DELIVERIES,
    Goal,
    Health,
    Verdict,
    judge,
    parse_slo,
)

# A run without a fault.
FIGURES: dict[str, float] = {
    **{"members": 1000, "planned": 400, "sent": 400, "rate_planned": 20.0, "rate_reached": 20.0},
    **{
        "had_to_get": 400_000,
        "received": 400_000,
        "missing": 0,
        "doubled": 0,
        "reordered": 0,
        "changed": 0,
        "stray": 0,
    },
    **{"late": 0, "refused": 0, "failed": 0, "dropped": 0, "deliveries_per_s": 20_000.0, "bytes_per_delivery": 210.5},
    **{"latency_p50_ms": 4.0, "latency_p90_ms": 9.0, "latency_p99_ms": 12.34, "latency_max_ms": 31.0},
    **{"lateness_p99_ms": 0.2, "read_lag_p99_ms": 1.5, "storm_99_s": 3.2, "resume_p99_ms": math.nan},
}


def judged(slo: str = "", health: Health | None = None, **changes: Any) -> Verdict:
    """The verdict on that run, with some figures changed."""
    return judge({**FIGURES, **changes}, health or Health(seconds=20), parse_slo(slo))


# Goals


@pytest.mark.parametrize(
    ("text", "metric", "comparison", "limit"),
    [
        ("p99<50ms", "p99", "<", 50),
        ("p99.9 <= 0.2s", "p99.9", "<=", 200),
        ("p50<800us", "p50", "<", 0.8),
        ("p99.99>1ms", "p99.99", ">", 1),
        ("max<1s", "max", "<", 1000),
        ("last_p99<70ms", "last_p99", "<", 70),
        ("storm_s<10s", "storm_s", "<", 10),
        ("storm_s<2500ms", "storm_s", "<", 2.5),
        ("missing==0", "missing", "==", 0),
        ("deliveries_per_s>=80000", "deliveries_per_s", ">=", 80_000),
        ("bytes_per_delivery<300.5", "bytes_per_delivery", "<", 300.5),
    ],
)
def test_a_goal_is_read(text: str, metric: str, comparison: str, limit: float) -> None:
    """Its limit in the unit of its figure, exactly, and its text as it was written."""
    assert parse_slo(text) == [Goal(metric, comparison, limit, text)]


def test_goals_are_read_in_order() -> None:
    """With spaces or without, and none of nothing."""
    assert [goal.text for goal in parse_slo(" p99<50ms , missing==0")] == ["p99<50ms", "missing==0"]
    assert parse_slo("") == parse_slo("  ") == []


@pytest.mark.parametrize(
    ("slo", "sentence"),
    [
        ("p99", "no goal"),
        ("p99=50ms", "no goal"),
        ("p99=<50ms", "no goal"),
        ("p99<", "no goal"),
        ("p99<-5ms", "no goal"),
        ("p99<inf", "no goal"),
        ("<50ms", "no goal"),
        ("p99<50ms,", "no goal"),
        ("p99<50ms missing==0", "no goal"),
        ("P99<50ms", "no goal"),
        ("p98<50ms", "about p98, which is not measured; goals are about p50, p90, p99"),
        ("latency<50ms", "not measured"),
        ("p99<50", "needs a unit: p99 is a time, in us, ms or s"),
        ("storm_s<5", "needs a unit"),
        ("p99<50min", "needs a unit"),
        ("missing<5ms", "a unit, but missing is a plain number"),
    ],
)
def test_a_wrong_goal_is_refused(slo: str, sentence: str) -> None:
    """With one sentence that names it and what is allowed."""
    with pytest.raises(ValueError, match=sentence) as fault:
        parse_slo(slo)
    assert str(fault.value).startswith('"')
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_has_a_figure(metric: str) -> None:
    """A goal about it is met or missed by what was measured."""
    figure, unit_s = METRICS[metric]
    unit = {None: "", 1e-3: "ms", 1.0: "s"}[unit_s]
    for value, is_met in ((4, True), (6, False)):
        (found,) = judge({figure: value}, Health(), parse_slo(f"{metric}<5{unit}")).goals
        assert (found.measured, found.is_met) == (value, is_met)


@pytest.mark.parametrize(
    ("comparison", "less", "same", "more"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
        (">=", False, True, True),
        (">", False, False, True),
    ],
)
def test_each_comparison_means_what_it_says(comparison: str, less: bool, same: bool, more: bool) -> None:
    """Below the limit, on it and above it."""
    found = [judged(f"p99{comparison}50ms", latency_p99_ms=ms).goals[0].is_met for ms in (49.9, 50.0, 50.1)]
    assert found == [less, same, more]


@pytest.mark.parametrize("comparison", ["<", "<=", "==", ">=", ">"])
def test_what_was_not_measured_meets_no_goal(comparison: str) -> None:
    """Be the figure nan or not there at all; it says so."""
    for metric in ("resume_p99", "connect_p99"):
        verdict = judged(f"{metric}{comparison}5ms")
        assert verdict.exit_code == GOAL_MISSED
        assert f"  {metric}{comparison}5ms MISSED: not measured" in verdict.lines


def test_what_never_came_misses_every_limit() -> None:
    """However long, and reads as a person says it."""
    verdict = judged("p99<1000s", latency_p99_ms=math.inf)
    assert verdict.exit_code == GOAL_MISSED
    assert "  p99<1000s MISSED: never" in verdict.lines


# Exit codes and headlines


def test_a_good_run_passes() -> None:
    """All goals met, and the lines tell what was measured."""
    verdict = judged("p99<50ms,missing==0,storm_s<5s")
    assert verdict.is_valid
    assert verdict.exit_code == PASS == 0
    assert verdict.lines == [
        "VALID · goals met",
        "  p99<50ms met: 12.3 ms",
        "  missing==0 met: 0",
        "  storm_s<5s met: 3.20 s",
    ]


def test_a_run_without_goals_passes() -> None:
    """And does not boast of any."""
    verdict = judged()
    assert (verdict.exit_code, verdict.lines) == (PASS, ["VALID · no goals set"])


def test_a_missed_goal_is_3() -> None:
    """And says how many of them."""
    verdict = judged("p99<10ms,p50<5ms")
    assert verdict.exit_code == GOAL_MISSED == 3
    assert verdict.headline == "VALID · 1 of 2 goals missed"
    assert [judged.is_met for judged in verdict.goals] == [False, True]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_delivery_is_5_whatever_the_goals(name: str) -> None:
    """One is enough, and a goal that is missed or met besides does not change it."""
    received = FIGURES["received"] + {"missing": -1, "doubled": 1}.get(name, 0)
    for slo in ("", "p99<1ms", f"{name}<5"):
        changes: dict[str, Any] = {name: 1, "received": received}
        verdict = judged(slo, **changes)
        assert verdict.is_valid
        assert verdict.exit_code == WRONG_DELIVERIES == 5
        assert verdict.headline == f"VALID · wrong deliveries: 1 {name}"


def test_late_and_refused_are_no_wrong_deliveries() -> None:
    """They came, or were never promised; a refusal and a lost connection are told all the same."""
    verdict = judged(late=7, refused=1, doubted=2, dropped=1, planned=400, health=Health(20, drops={"reset": 1}))
    assert verdict.exit_code == PASS
    assert verdict.lines[1:] == [
        "  Cut off during the run: 1 member (1 × reset).",
        "  Under way when their senders were cut off, and neither acknowledged nor heard: 2 messages.",
        "  Refused by the server, and not missing, since nobody had to get them: 1 message.",
    ]


def test_a_load_that_the_server_refuses_is_not_the_planned_one() -> None:
    """More than a two-hundredth of the messages refused: nobody may quote the latency of the rest."""
    verdict = judged(refused=3, planned=400)
    assert verdict.exit_code == INVALID
    assert "refused 3 messages" in verdict.reasons[0]


def test_members_who_did_not_come_back_are_a_reason() -> None:
    """The server threw them out and was gone."""
    verdict = judged(away=2, health=Health(20, drops={"closed": 2}, failures={"Connection refused": 9}))
    assert verdict.exit_code == INVALID
    assert verdict.reasons == ["Cut off, and not back at the end: 2 members (9 × Connection refused; 2 × closed)."]


def test_invalid_is_4_and_outranks_everything() -> None:
    """The wrong deliveries and the goals are shown below."""
    verdict = judged("p99<1ms", missing=2, received=399_998, rate_reached=10)
    assert verdict.exit_code == INVALID == 4
    assert verdict.headline.startswith("INVALID: The rate reached was 10 messages/s")
    assert "  wrong deliveries: 2 missing" in verdict.lines
    assert "  p99<1ms MISSED: 12.3 ms" in verdict.lines


# Reasons for INVALID


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lateness_p99_ms": 5.1}, "Messages were sent late: p99 5.10 ms, the limit is 5 ms"),
        ({"lateness_p99_ms": 10.1, "latency_p99_ms": 100}, "Messages were sent late: p99 10.1 ms, the limit is 10 ms"),
        ({"read_lag_p99_ms": 20.5}, "Deliveries waited to be read: p99 20.5 ms, the limit is 20 ms"),
        ({"read_lag_p99_ms": 51, "latency_p99_ms": 100}, "Deliveries waited to be read: p99 51 ms, the limit is 50 ms"),
        ({"rate_reached": 19.8}, "The rate reached was 19.8 messages/s, less than 99.5% of the planned 20"),
        ({"rate_reached": math.nan}, "The rate reached was not measured"),
        ({"received": 399_999}, "The account does not come out: 400,000 deliveries had to come, but 399,999 received"),
        ({"missing": 3}, "400,000 received + 3 missing - 0 doubled is 400,003"),
        ({"doubled": 3}, "400,000 received + 0 missing - 3 doubled is 399,997"),
        ({"had_to_get": 0, "received": 0}, "Nothing was measured"),
        ({"failed": 2}, "2 members failed to enter"),
    ],
)
def test_a_figure_beyond_its_limit_is_a_reason(changes: dict[str, Any], sentence: str) -> None:
    """One sentence with the number, the limit, and what to do."""
    verdict = judged(**changes)
    assert verdict.exit_code == INVALID
    (reason,) = verdict.reasons
    assert sentence in reason
    assert reason.endswith(".")
    assert ";" in reason


@pytest.mark.parametrize(
    "changes",
    [
        {"lateness_p99_ms": 5.0},
        {"lateness_p99_ms": 10.0, "latency_p99_ms": 100},
        {"lateness_p99_ms": math.nan},
        {"read_lag_p99_ms": 20.0},
        {"read_lag_p99_ms": 50.0, "latency_p99_ms": 100},
        {"read_lag_p99_ms": math.nan},
        {"rate_reached": 19.9},
        {"rate_reached": 20.4},
        {"rate_planned": 0, "rate_reached": 0},
        {"rate_planned": math.nan, "rate_reached": math.nan},
        {"missing": 2, "doubled": 1, "received": 399_999},
        {"dropped": 5},
        {"stray": math.nan},
    ],
)
def test_a_figure_at_its_limit_is_no_reason(changes: dict[str, Any]) -> None:
    """Nor is what was not measured, nor what is the server's fault."""
    assert judged(**changes).reasons == []


def test_losses_do_not_lift_the_limits() -> None:
    """Where the 99th percentile is infinite, the limits follow the latest that came."""
    lost: dict[str, Any] = {"latency_p99_ms": math.inf, "latency_p90_ms": 100.0}
    assert judged(lateness_p99_ms=10.0, read_lag_p99_ms=50.0, **lost).is_valid
    assert len(judged(lateness_p99_ms=10.1, read_lag_p99_ms=50.1, **lost).reasons) == 2


@pytest.mark.parametrize(
    ("busy", "seconds", "is_valid"),
    [
        (0, 20, True),
        (2, 20, True),
        (3, 20, False),
        (1, 5, True),
        (2, 5, False),
        (6, 60, True),
        (7, 60, False),
        (2, 0, False),
    ],
)
def test_a_busy_generator_is_a_reason(busy: int, seconds: int, is_valid: bool) -> None:
    """In more than a tenth of the seconds, but one second is forgiven."""
    verdict = judged(health=Health(seconds=seconds, busy_seconds=busy))
    assert verdict.is_valid is is_valid
    if not is_valid:
        assert f"in {busy} of {seconds} seconds a worker was more than 90 % busy" in verdict.headline


@pytest.mark.parametrize(
    ("health", "sentence"),
    [
        ({"workers_lost": 1}, "1 worker went missing"),
        ({"reports_lost": 2}, "2 reports of workers never came"),
        ({"is_stopped_by_hand": True}, "stopped by hand"),
    ],
)
def test_a_generator_that_fared_badly_is_a_reason(health: dict[str, Any], sentence: str) -> None:
    """One sentence, however good the figures look."""
    verdict = judged("p99<50ms", health=Health(seconds=20, **health))
    assert verdict.exit_code == INVALID
    (reason,) = verdict.reasons
    assert sentence in reason


def test_members_who_failed_to_enter_are_a_reason() -> None:
    """With the commonest cause first, and how often each happened."""
    verdict = judged(failed=2, health=Health(20, failures={"timed out": 1, "connection refused": 4}))
    assert verdict.exit_code == INVALID
    assert "2 members failed to enter (4 × connection refused; 1 × timed out)" in verdict.reasons[0]


def test_a_room_that_nobody_entered_has_one_reason() -> None:
    """The one that everything else follows from, with what the server said."""
    figures = {"members": 0.0, "failed": 5.0, "had_to_get": 0.0, "rate_planned": 20.0, "rate_reached": 0.0}
    verdict = judge(figures, Health(failures={"connection refused": 5}), [])
    assert verdict.reasons == [
        "No member entered (5 × connection refused); is the server up, and its address right?",
    ]
    assert verdict.exit_code == INVALID


def test_nothing_at_all_is_no_valid_run() -> None:
    """A run that ended before its first figure."""
    assert judge({}, Health(), []).exit_code == INVALID


def test_every_reason_is_told() -> None:
    """The first in the headline and the others below."""
    health = Health(seconds=20, busy_seconds=20, workers_lost=1, reports_lost=1, is_stopped_by_hand=True)
    verdict = judged(health=health, failed=1, received=0, rate_reached=1, lateness_p99_ms=900, read_lag_p99_ms=900)
    assert len(verdict.reasons) == 9
    assert verdict.lines[:2] == [f"INVALID: {verdict.reasons[0]}", f"  INVALID: {verdict.reasons[1]}"]
    assert len(verdict.lines) == 9
