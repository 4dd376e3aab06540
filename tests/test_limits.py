"""Token buckets: what is let through at once, in the long run, and when again; and how newcomers take turns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.limits import RateLimit, Turns


def test_a_burst_is_let_through_at_once() -> None:
    """As many as the burst, and then none, each person for himself."""
    limit = RateLimit(5, 20)
    assert [limit.wait_s("ann", 100.0) for _ in range(20)] == [0.0] * 20
    assert limit.wait_s("ann", 100.0) == pytest.approx(0.2)
    assert limit.wait_s("bob", 100.0) == 0


def test_the_rate_is_sustained() -> None:
    """Who asks twenty times a second for a minute gets his burst and the rate."""
    limit = RateLimit(5, 20)
    granted = sum(limit.wait_s("ann", 100 + step / 20) == 0 for step in range(60 * 20))
    assert granted == 20 + 60 * 5 - 1


def test_a_refusal_takes_no_token() -> None:
    """Asking again and again does not put off the next time."""
    limit = RateLimit(2, 1)
    assert limit.wait_s("ann", 10.0) == 0
    assert {limit.wait_s("ann", 10.25) for _ in range(100)} == {0.25}
    assert limit.wait_s("ann", 10.5) == 0


@settings(deadline=None, database=None)
@given(
    st.floats(0.01, 1000), st.floats(0, 100), st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0, 100_000)
)
def test_the_waiting_time_is_exact(rate: float, burst: float, pauses_s: list[float], now_s: float) -> None:
    """Whoever waits as long as he is told is let through, and whoever comes clearly earlier is not."""
    limit = RateLimit(rate, burst)
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = limit.wait_s("ann", now_s)
        assert 0 <= wait_s <= 1 / rate + 1e-6
        if wait_s > 1e-6:
            assert limit.wait_s("ann", now_s + wait_s * 0.9) > 0
        if wait_s:
            now_s += wait_s + 1e-9
            assert limit.wait_s("ann", now_s) == 0


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    """However long somebody was quiet."""
    limit = RateLimit(1, 3)
    assert [limit.wait_s("ann", 1e6) for _ in range(4)] == [0, 0, 0, 1]


@pytest.mark.parametrize("burst", [0, 0.4, 1])
def test_a_small_burst_still_lets_one_through(burst: float) -> None:
    """A rate below one in four seconds is a rate, too."""
    limit = RateLimit(0.1, burst)
    assert [limit.wait_s("ann", 50.0) for _ in range(2)] == [0, pytest.approx(10)]


def test_a_rate_of_0_is_no_limit() -> None:
    """Nothing is refused, and nothing kept."""
    limit = RateLimit(0, 0)
    assert not any(limit.wait_s("ann", 1.0) for _ in range(10_000))


def test_forgetting_full_buckets_changes_nothing() -> None:
    """Only buckets that are full again go: who has just used his up still waits."""
    limit = RateLimit(1, 2)
    for _ in range(2):
        limit.wait_s("ann", 10.0)
    limit.wait_s("bob", 10.0)
    limit.forget_full(11.0)
    assert limit.wait_s("ann", 11.0) == 0
    assert limit.wait_s("ann", 11.0) == pytest.approx(1)
    assert [limit.wait_s("bob", 11.0) for _ in range(3)] == [0, 0, pytest.approx(1)]


def test_full_buckets_take_no_memory() -> None:
    """A crowd that has gone quiet is forgotten."""
    limit = RateLimit(1, 2)
    for number in range(1000):
        limit.wait_s(str(number), 10.0)
    limit.forget_full(11.0)
    assert not limit._full_at_s


# The pace of newcomers


def test_as_many_as_may_come_at_once_have_their_turn_and_then_the_rate_counts() -> None:
    """Ten at once, and from then on two a second."""
    turns = Turns(2, 10)
    let_in = 0
    for step in range(600):
        now_s = 100 + step / 10
        let_in += turns.wait_s(now_s) == 0
        turns.take(now_s)
    assert let_in == 10 + 59.9 * 2 // 1


def test_whoever_is_too_many_is_told_a_moment_of_his_own() -> None:
    """The moments lie as far apart as the rate says, and asking alone gives none away."""
    turns = Turns(2, 10)
    for _ in range(10):
        turns.take(100.0)
    told_s = []
    for _ in range(6):
        assert turns.wait_s(100.0) == turns.wait_s(100.0)
        told_s.append(turns.wait_s(100.0))
        turns.take(100.0)
    assert told_s == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_whoever_comes_when_he_was_told_has_his_turn() -> None:
    """A crowd of a hundred that keeps to what it is told is in within the time that the rate gives."""
    turns, waiting, here = Turns(10, 20), [0.0] * 100, list[float]()
    while waiting:
        waiting.sort()
        now_s = waiting.pop(0)
        if wait_s := turns.wait_s(now_s):
            waiting.append(now_s + wait_s)
        else:
            here.append(now_s)
        turns.take(now_s)
    assert here.count(0.0) == 20
    assert here[-1] == pytest.approx(8.0, abs=0.2)


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    """However many come at once."""
    turns = Turns(1, 1)
    for _ in range(1000):
        turns.take(0.0)
    assert turns.wait_s(0.0) == 60.0
