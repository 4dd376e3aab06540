"""The tally: many seconds of many workers add up to what one would have counted, on whatever way they came."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.tally import COUNTED, PERCENTILES, TIMED, Tally, ratio

quick = settings(deadline=None, database=None, max_examples=40)

counts = st.dictionaries(st.sampled_from(COUNTED), st.integers(0, 10**9), max_size=6)
times = st.dictionaries(st.sampled_from(TIMED), st.lists(st.integers(0, 2**42), max_size=5), max_size=3)
nevers = st.dictionaries(st.sampled_from(TIMED), st.integers(1, 5), max_size=2)


def tally_of(counts: dict[str, int], times: dict[str, list[int]], nevers: dict[str, int]) -> Tally:
    """A tally that has counted and timed this."""
    tally = Tally(**counts)
    for name, found in times.items():
        for ns in found:
            getattr(tally, name).record(ns)
    for name, count in nevers.items():
        getattr(tally, name).record_infinite(count)
    return tally


tallies = st.builds(tally_of, counts, times, nevers)


def everything(tally: Tally) -> dict[str, Any]:
    """All that a tally says, to be compared; nan is like nan."""
    figures = {name: repr(value) for name, value in tally.figures(3.0).items()}
    return {**figures, **{name: getattr(tally, name).to_wire() for name in TIMED}}


@given(st.lists(tallies, max_size=4))
@quick
def test_many_merged_are_one_who_counted_everything(parts: list[Tally]) -> None:
    """Every count, every bucket, and so every figure."""
    total, at_once = Tally(), Tally()
    for part in parts:
        total.merge(part)
        for name in COUNTED:
            setattr(at_once, name, getattr(at_once, name) + getattr(part, name))
        for name in TIMED:
            histogram, found = getattr(at_once, name), getattr(part, name)
            for index, count in enumerate(found.counts):
                histogram.counts[index] += count
            if sum(found.counts):
                histogram.widen(found.min_ns, found.max_ns)
            histogram.record_infinite(found.infinite)
    assert everything(total) == everything(at_once)


@given(tallies)
@quick
def test_a_tally_comes_over_the_wire_as_it_was(tally: Tally) -> None:
    """As locust's messages carry it, and as JSON."""
    for wire in (
        msgspec.msgpack.decode(msgspec.msgpack.encode(tally.to_wire())),
        json.loads(json.dumps(tally.to_wire())),
    ):
        assert everything(Tally.from_wire(wire)) == everything(tally)


def test_what_is_zero_stays_at_home() -> None:
    """A worker reports each second, and most of what can happen does not; what never came is not nothing."""
    tally = Tally(planned=3)
    tally.entry.record(5)
    tally.resume.record_infinite(1)
    assert set(tally.to_wire()) == {"planned", "entry", "resume"}
    assert Tally().to_wire() == {}


def test_two_tallies_share_nothing() -> None:
    """Not even their histograms."""
    first, second = Tally(), Tally()
    first.latency.record(5)
    assert second.latency.total == 0


@pytest.mark.parametrize(
    ("counts", "comes_out"),
    [
        ({}, True),
        ({"had_to_get": 5, "received": 4, "missing": 1}, True),
        ({"had_to_get": 5, "received": 6, "doubled": 1}, True),
        ({"had_to_get": 5, "received": 5, "missing": 1, "doubled": 1, "reordered": 3}, True),
        ({"had_to_get": 5, "received": 4}, False),
        ({"had_to_get": 4, "received": 5}, False),
        ({"had_to_get": 5, "received": 5, "missing": 1}, False),
        ({"had_to_get": 5, "received": 5, "doubled": 1}, False),
    ],
)
def test_an_account_comes_out_or_it_does_not(counts: dict[str, int], comes_out: bool) -> None:
    """What had to come is what came, with what is missing and without what came twice."""
    assert Tally(**counts).comes_out() is comes_out


def test_figures_of_nothing_are_no_numbers() -> None:
    """Counts are zero, and what was not measured is not zero."""
    figures = Tally().figures(0.0)
    assert {name for name, value in figures.items() if not math.isnan(value)} == set(COUNTED)
    assert not any(figures[name] for name in COUNTED)


def test_each_figure_is_made_of_what_it_is_named_for() -> None:
    """Rates by the second, bytes by the delivery, shares by what they are a share of."""
    figures = Tally(
        planned=40, sent=30, measured=200, read_bytes=9000, deliveries=300, memo_hits=3, chunks=4, timed=50, stamped=20
    ).figures(10.0)
    assert (figures["rate_planned"], figures["rate_reached"], figures["deliveries_per_s"]) == (4.0, 3.0, 20.0)
    assert (figures["bytes_per_delivery"], figures["memo_hit_share"]) == (30.0, 0.75)
    assert (figures["timed_share"], figures["stamped_share"]) == (0.25, 0.4)


@pytest.mark.parametrize("name", TIMED)
def test_times_are_told_in_milliseconds_with_all_their_percentiles(name: str) -> None:
    """The longest exactly, and what never came as inf."""
    tally = Tally()
    histogram = getattr(tally, name)
    for number in range(1, 1001):
        histogram.record(number * 1_000_000)
    figures = tally.figures(1.0)
    found = [figures[f"{name}_{ending}_ms"] for ending in PERCENTILES]
    assert found == pytest.approx([500, 900, 990, 999, 1000, 1000], rel=0.01)
    assert figures[f"{name}_max_ms"] == 1000
    histogram.record_infinite(1)
    assert (tally.figures(1.0)[f"{name}_max_ms"], tally.figures(1.0)[f"{name}_p99_ms"]) == (
        math.inf,
        pytest.approx(991, rel=0.01),
    )


def test_a_part_of_nothing_is_no_number() -> None:
    """Not zero, and no error."""
    assert ratio(1, 4) == 0.25
    assert math.isnan(ratio(1, 0))
