"""Locust's own statistics: entered in bulk, they say what they would if each delivery had been an event."""

import time
from typing import Any

import pytest

from loadtest.stock import enter, rounded_ms
from loadtest.tally import Tally

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")  # else importing locust changes every other test's process
    from locust.stats import RequestStats

MS = 1_000_000
DELIVERY, CONNECT = ("delivery", "fan-out"), ("connect", "handshake")


def tally_of(latencies_ms: list[float], connects_ms: list[float] | None = None) -> Tally:
    """What was timed in a second."""
    tally = Tally()
    for name, found in (("latency", latencies_ms), ("connect", connects_ms or [])):
        for ms in found:
            getattr(tally, name).record(int(ms * MS))
    return tally


def entered(*tallies: Tally) -> Any:
    """Statistics after some seconds."""
    stats = RequestStats()
    for tally in tallies:
        enter(stats, tally)
    return stats


def test_importing_locust_has_changed_nothing() -> None:
    """The other tests here use the standard library as it is."""
    from gevent import monkey

    assert not monkey.saved


def test_what_is_entered_is_what_single_events_would_have_said() -> None:
    """Number, sum, shortest, longest and percentiles, as far as locust's rounding goes."""
    latencies_ms = [1.0 + number / 8 for number in range(800)]
    parts = (latencies_ms[:100], latencies_ms[700:], latencies_ms[100:700])
    entry = entered(*map(tally_of, parts)).entries[DELIVERY]
    one_by_one = RequestStats()
    for ms in latencies_ms:
        one_by_one.log_request("fan-out", "delivery", ms, 0)
    other = one_by_one.entries[DELIVERY]
    assert (entry.num_requests, entry.num_failures) == (800, 0)
    assert (entry.min_response_time, entry.max_response_time) == (other.min_response_time, other.max_response_time)
    assert entry.avg_response_time == pytest.approx(other.avg_response_time, rel=0.01)
    for fraction in (0.5, 0.9, 0.99):
        assert entry.get_response_time_percentile(fraction) == pytest.approx(
            other.get_response_time_percentile(fraction), rel=0.02
        )
    assert sum(entry.num_reqs_per_sec.values()) == 800


def test_the_total_means_deliveries() -> None:
    """Handshakes stand for themselves."""
    stats = entered(tally_of([2.0] * 5, [30.0] * 3))
    assert stats.total.num_requests == 5
    assert (stats.entries[DELIVERY].num_requests, stats.entries[CONNECT].num_requests) == (5, 3)
    assert stats.entries[CONNECT].max_response_time == 30
    assert stats.total.max_response_time == 2


def test_of_a_second_in_which_nothing_came_nothing_is_entered() -> None:
    """Not even what will never come."""
    tally = Tally()
    tally.latency.record_infinite(3)
    stats = entered(Tally(), tally)
    assert (dict(stats.entries), stats.total.num_requests) == ({}, 0)


def test_the_current_percentiles_know_when_a_second_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locust looks ten seconds back for them, from second to second."""
    now_s = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now_s[0])
    stats = RequestStats()
    for latency_ms in (5.0, 5.0, 70.0):
        enter(stats, tally_of([latency_ms] * 10))
        now_s[0] += 20.0
    assert list(stats.total.response_times_cache) == [1000, 1019, 1039]
    assert stats.total.get_current_response_time_percentile(0.5) is None
    now_s[0] = 1043.0
    assert stats.total.get_current_response_time_percentile(0.5) == 70


@pytest.mark.parametrize(
    ("ms", "rounded"),
    [
        (0.0, 0.0),
        (0.1234, 0.12),
        (0.996, 1.0),
        (1.26, 1.3),
        (9.94, 9.9),
        (12.4, 12),
        (99.4, 99),
        (147.0, 150),
        (994.0, 990),
        (3432.0, 3400),
        (58760.0, 58800),
    ],
)
def test_times_are_rounded_as_locust_does_but_finer_where_they_are_short(ms: float, rounded: float) -> None:
    """To two digits that count."""
    assert rounded_ms(ms) == pytest.approx(rounded)
