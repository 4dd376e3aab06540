"""How figures and plans are said: no number is better than it was, and what is not there is said so."""

import math

import pytest

from loadtest import tally, words
from tests.fake_result import make_result

OPTIONS = {"members": 1000, "senders": 8, "rooms": 1, "rate": 20.0, "arrivals": "constant", "duration_s": 20.0}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 ms"),
        (0.0421, "0.042 ms"),
        (0.4567, "0.457 ms"),
        (3.204, "3.20 ms"),
        (80.66, "80.7 ms"),
        (1234.4, "1,234 ms"),
        (12_345.0, "12.3 s"),
        (math.inf, "never"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_times_have_three_digits_and_a_unit(value: float | None, said: str) -> None:
    """What never came is never, and what was not timed is a dash."""
    assert words.milliseconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.0, "100 %"), (0.9999996, "99.99 %"), (0.07, "7 %"), (0.99855, "99.85 %"), (math.nan, "–")],
)
def test_a_share_is_not_rounded_up(value: float, said: str) -> None:
    """Almost all is not all."""
    assert words.share(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(160_000, "160,000"), (19.5, "19.5"), (312.4, "312"), (0, "0"), (math.nan, "–")]
)
def test_things_are_counted_in_thousands(value: float, said: str) -> None:
    """A rate that is small and not whole keeps a digit."""
    assert words.count(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(84.2e6, "84.2 MB"), (15_400, "15.4 kB"), (999, "999 bytes"), (1.5e9, "1.50 GB"), (None, "–")],
)
def test_memory_is_said_in_the_unit_that_fits(value: float | None, said: str) -> None:
    """In thousands, not in 1024s."""
    assert words.memory(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(20, "20 s"), (2.5, "2.5 s"), (90, "1 min 30 s"), (3600, "1 h"), (5425, "1 h 30 min"), (math.inf, "never")],
)
def test_a_duration_is_said_as_people_say_it(value: float, said: str) -> None:
    """Seconds do not matter any more when there are hours."""
    assert words.duration(value) == said


def test_the_plan_of_one_room() -> None:
    """Members, senders, rate, time and spacing in one sentence."""
    assert words.plan(OPTIONS) == (
        "1,000 members in one room, 8 of them send 20 messages a second for 20 s, evenly spaced. "
        "Every delivery is timed from the planned time of its message."
    )


def test_the_plan_of_many_rooms() -> None:
    """The rate is that of all rooms together, the senders are those of one."""
    said = words.plan({**OPTIONS, "rooms": 100, "senders": 1, "arrivals": "burst:10"})
    assert said.startswith(
        "1,000 members in 100 rooms, 1 in each sends 20 messages a second, all rooms together, for 20 s, "
        "in bursts of 10."
    )


def test_the_plan_of_a_scenario() -> None:
    """Who never reads, who comes and goes and that all are cut off belongs to the plan."""
    said = words.plan({**OPTIONS, "stuck": 10, "churn": 20.0, "storm": True})
    assert "; 10 of them never read; 20 a second leave and as many enter; all drop at once and come back." in said


def test_the_plan_without_senders() -> None:
    """Nobody sends: so it is said."""
    assert words.plan({"members": 1}).startswith("1 member in one room, nobody sends.")


def test_the_account_is_spelled_out() -> None:
    """The four numbers stand in the sentence, and whether they fit."""
    figures = {"had_to_get": 160_000, "received": 159_999, "missing": 3, "doubled": 2}
    assert words.account(figures) == (
        "The members had to get 160,000 deliveries = 159,999 received + 3 missing − 2 doubled: it comes out."
    )
    assert words.account({**figures, "missing": 0}).endswith("it does NOT come out, by 3.")


@pytest.mark.parametrize(
    ("goal", "measured", "said"),
    [
        ("p99<50ms", 7.49, "7.49 ms"),
        ("p99<0.05s", 7.49, "7.49 ms"),
        ("lateness_p99<500us", 0.2, "0.200 ms"),
        ("storm_s<5s", 3.2, "3.20 s"),
        ("missing==0", 3, "3"),
        ("p99<50ms", math.inf, "never"),
        ("nonsense", math.nan, "–"),
    ],
)
def test_a_goal_is_said_in_the_unit_of_its_figure(goal: str, measured: float, said: str) -> None:
    """Whatever unit its limit was given in."""
    assert words.goal({"goal": goal, "measured": measured}) == said


def test_the_tone_of_a_verdict() -> None:
    """Invalid and wrong are both red, a missed goal is not."""
    assert words.tone(make_result()["verdict"]) == "good"
    assert words.tone(make_result(middle_ms=60)["verdict"]) == "missed"
    assert words.tone(make_result(missing=1)["verdict"]) == "wrong"
    assert words.tone({"headline": "INVALID: ...", "is_valid": False}) == "wrong"
    assert words.tone({"headline": "running", "is_valid": True}) == "running"


def test_a_complaint_does_not_repeat_the_headline() -> None:
    """The first reason is the headline; the others, and what is wrong besides, follow."""
    verdict = {"headline": "INVALID: One.", "is_valid": False, "reasons": ["One.", "Two."], "wrong": ["3 missing"]}
    assert words.complaints(verdict) == ["Two.", "Wrong deliveries: 3 missing."]
    assert words.complaints(make_result(missing=3)["verdict"]) == []


def test_progress_says_what_is_left() -> None:
    """Nothing is left to say of an end that is not known, or past."""
    assert words.progress("measured", 12.7, 7.2) == "measured: 12 s, 8 s to go"
    assert words.progress("ramp", 3.0, None) == "ramp: 3 s"
    assert words.progress("drain", 30.0, 0.0) == "drain: 30 s"


def test_everything_that_is_timed_has_a_name() -> None:
    """No histogram and no percentile of a run is left out of the tables."""
    assert [timed.key for timed in words.TIMED] == list(tally.TIMED)
    assert list(words.PERCENTILES) == list(tally.PERCENTILES)


def test_options_are_named_with_their_unit() -> None:
    """`drain_s` is no word."""
    assert [words.label(key) for key in ("drain_s", "text_bytes", "memory_gb", "slo", "websocket-client")] == [
        "drain, s",
        "text, bytes",
        "memory, GB",
        "slo",
        "websocket-client",
    ]
    assert [words.option(value) for value in (None, True, 2.0, 0.5, "x", [1, 2])] == [
        "–",
        "yes",
        "2",
        "0.5",
        "x",
        "1, 2",
    ]
