"""The plan of a crowd: how many messages, when exactly, and the same each time."""

import math
import os
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.schedule import offsets, parse_arrivals

S = 1_000_000_000

rates = st.one_of(st.integers(1, 2000).map(float), st.floats(0.1, 2000))
crowds = st.integers(1, 64)
quick = settings(deadline=None, database=None, max_examples=40)


def crowd(arrivals: str, rate: float, duration_s: float, shares: int, seed: int = 1) -> list[list[int]]:
    """The plan of each sender."""
    return [list(offsets(arrivals, rate, duration_s, share, shares, seed)) for share in range(shares)]


def together(plans: list[list[int]]) -> list[int]:
    """When anybody sends."""
    return sorted(offset_ns for plan in plans for offset_ns in plan)


# Constant


@given(rates, crowds)
@quick
def test_a_constant_crowd_is_evenly_spaced(rate: float, shares: int) -> None:
    """The i-th message of all is due i/rate after the start, to the nanosecond, and none is left out."""
    due_ns = together(crowd("constant", rate, 2.0, shares))
    assert len(due_ns) in (math.floor(2.0 * rate), math.ceil(2.0 * rate))
    assert all(abs(offset_ns - number * S / rate) <= 1 for number, offset_ns in enumerate(due_ns))


@pytest.mark.parametrize(
    ("rate", "duration_s", "planned"), [(20, 20, 400), (3, 1, 3), (0.5, 3, 2), (1000, 0, 0), (7, 0.1, 1)]
)
def test_a_constant_crowd_sends_as_many_as_planned(rate: float, duration_s: float, planned: int) -> None:
    """What is due at the end or later is not part of it."""
    assert len(together(crowd("constant", rate, duration_s, 3))) == planned


@given(rates, crowds)
@quick
def test_no_sender_has_more_to_do_than_another(rate: float, shares: int) -> None:
    """By more than one message."""
    loads = [len(plan) for plan in crowd("constant", rate, 2.0, shares)]
    assert max(loads) - min(loads) <= 1


def test_hours_add_up_no_error() -> None:
    """The last message of ten hours is due as exactly as the first."""
    *_, last_ns = offsets("constant", 3, 36_000, 0, 1, seed=0)
    assert last_ns == (3 * 36_000 - 1) * S // 3


# Poisson


def test_a_poisson_crowd_keeps_the_rate_and_the_gaps() -> None:
    """A minute at 1000 messages/s: as many within four deviations, and as many long gaps as an exponential has."""
    due_ns = together(crowd("poisson", 1000, 60, 20))
    assert len(due_ns) == pytest.approx(60_000, abs=4 * math.sqrt(60_000))
    gaps_ns = [later_ns - earlier_ns for earlier_ns, later_ns in pairwise(due_ns)]
    assert fmean(gaps_ns) == pytest.approx(S / 1000, rel=0.02)
    for times in (0.5, 1, 2, 4):
        share = sum(gap_ns > times * S / 1000 for gap_ns in gaps_ns) / len(gaps_ns)
        assert share == pytest.approx(math.exp(-times), abs=0.01)


@given(rates, crowds, st.integers(0, 2**64))
@quick
def test_a_seed_is_a_plan(rate: float, shares: int, seed: int) -> None:
    """The same one is the same plan, in order and before the end."""
    plan = list(offsets("poisson", rate, 2.0, shares - 1, shares, seed))
    assert plan == list(offsets("poisson", rate, 2.0, shares - 1, shares, seed))
    assert plan == sorted(plan)
    assert all(0 <= offset_ns < 2 * S for offset_ns in plan)


def test_other_seeds_and_other_senders_have_other_plans() -> None:
    """No two send together."""
    plans = [tuple(offsets("poisson", 100, 5, share, 8, seed)) for share in range(8) for seed in range(8)]
    assert len(set(plans)) == 64


def test_a_seed_is_the_same_plan_in_another_process() -> None:
    """Workers on other machines agree with it, whatever their hashes are."""
    code = "from loadtest.schedule import offsets; print(list(offsets('poisson', 50, 2, 1, 4, seed=9)))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout.decode()
        for seed in ("1", "2")
    ]
    assert printed == [f"{list(offsets('poisson', 50, 2, 1, 4, seed=9))}\n"] * 2


# Bursts


@given(st.integers(1, 50), st.integers(1, 2000), crowds)
@quick
def test_bursts_come_whole_and_evenly(burst: int, rate: int, shares: int) -> None:
    """N messages at each instant, N/rate apart, dealt over the senders."""
    plans = crowd(f"burst:{burst}", rate, 2.0, shares)
    instants = sorted(Counter(together(plans)).items())
    assert all(size == burst for _, size in instants)
    assert all(abs(at_ns - number * burst * S / rate) <= 1 for number, (at_ns, _) in enumerate(instants))
    assert len(instants) == math.ceil(2 * rate / burst)
    loads = [len(plan) for plan in plans]
    assert max(loads) - min(loads) <= 1


def test_a_burst_of_one_is_constant() -> None:
    """There is nothing else to it."""
    assert crowd("burst:1", 30, 3, 4) == crowd("constant", 30, 3, 4)


# Options


@pytest.mark.parametrize("arrivals", ["constant", "poisson", "burst:5"])
def test_a_plan_is_never_held_in_memory(arrivals: str) -> None:
    """A run without an end has one, too."""
    plan = offsets(arrivals, 100, math.inf, 0, 2, seed=1)
    assert len(list(islice(plan, 1000))) == 1000
    assert next(plan) > 10 * S


@pytest.mark.parametrize("arrivals", ["constant", "poisson", "burst:5"])
def test_a_rate_of_0_is_silence(arrivals: str) -> None:
    """For a crowd that only listens."""
    assert list(offsets(arrivals, 0, 10, 0, 1, seed=1)) == []


@pytest.mark.parametrize(
    "arrivals", ["", "const", "Poisson", "burst", "burst:", "burst:0", "burst:-1", "burst:1.5", "burst:٣", "poisson:3"]
)
def test_unknown_arrivals_are_refused(arrivals: str) -> None:
    """With one sentence that says what there is."""
    with pytest.raises(ValueError, match="arrivals are constant, poisson, burst:N"):
        parse_arrivals(arrivals)
    with pytest.raises(ValueError, match="arrivals are constant, poisson, burst:N"):
        offsets(arrivals, 1, 1, 0, 1, seed=1)


@pytest.mark.parametrize(
    ("rate", "duration_s", "share", "shares", "sentence"),
    [
        (-1, 1, 0, 1, "cannot be planned"),
        (math.nan, 1, 0, 1, "cannot be planned"),
        (math.inf, 1, 0, 1, "cannot be planned"),
        (1, -1, 0, 1, "cannot be planned"),
        (1, math.nan, 0, 1, "cannot be planned"),
        (1, 1, 1, 1, "no sender 1 of 1"),
        (1, 1, -1, 1, "no sender -1 of 1"),
        (1, 1, 0, 0, "no sender 0 of 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_at_once(
    rate: float, duration_s: float, share: int, shares: int, sentence: str
) -> None:
    """And not when its first message is asked for."""
    with pytest.raises(ValueError, match=sentence):
        offsets("constant", rate, duration_s, share, shares, seed=1)
