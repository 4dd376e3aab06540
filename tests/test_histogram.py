"""The histogram against exact values: percentiles, extremes, merging, and the two forms it is stored in."""

import json
import math
from fractions import Fraction
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.histogram import BUCKETS, FLOOR_BITS, SUB_BITS, TOP_BITS, Histogram, index_of, low_ns

FRACTIONS = ("0", "0.5", "0.9", "0.99", "0.999", "0.9999", "1")
MS = 1_000_000

times_ns = st.one_of(st.integers(0, 50_000), st.integers(0, 10**9), st.integers(0, 2**TOP_BITS - 1))
many_ns = st.lists(times_ns, min_size=1, max_size=50)
quick = settings(deadline=None, database=None, max_examples=50)


def counted(values_ns: list[int], infinite: int = 0) -> Histogram:
    """A histogram of these."""
    histogram = Histogram()
    for ns in values_ns:
        histogram.record(ns)
    histogram.record_infinite(infinite)
    return histogram


def exact(values_ns: list[int], infinite: int, fraction: str) -> float:
    """The percentile as its definition has it: the least value that at least this fraction does not exceed."""
    ordered = [*sorted(values_ns), *[math.inf] * infinite]
    return ordered[max(1, math.ceil(Fraction(fraction) * len(ordered))) - 1]


def is_close(found_ns: float, exact_ns: float) -> bool:
    """Whether it is as close as half a bucket, which is less than 0.4 %, or 64 ns for what takes microseconds."""
    return found_ns == exact_ns or abs(found_ns - exact_ns) <= max(64, 0.004 * exact_ns)


# Buckets


def test_buckets_lie_side_by_side_and_are_narrow() -> None:
    """Each time has one bucket, and none is wider than 128 ns or 0.79 %."""
    for index in range(BUCKETS):
        first_ns, next_ns = low_ns(index), low_ns(index + 1)
        assert index_of(first_ns) == index_of(next_ns - 1) == index
        assert next_ns - first_ns <= max(2**FLOOR_BITS, 0.0079 * first_ns)
    assert low_ns(0) == 0
    assert low_ns(BUCKETS) == 2**TOP_BITS


@given(times_ns)
@quick
def test_a_time_lies_in_its_bucket(ns: int) -> None:
    """Between where the bucket starts and where the next one does."""
    assert low_ns(index_of(ns)) <= ns < low_ns(index_of(ns) + 1)


@pytest.mark.parametrize("ns", [2**TOP_BITS, 2**TOP_BITS + 1, 2**63])
def test_what_takes_too_long_for_a_bucket_keeps_its_exact_time(ns: int) -> None:
    """It counts in the last one, and the maximum is still exact."""
    histogram = counted([MS, ns])
    assert histogram.counts[BUCKETS - 1] == 1
    assert histogram.percentile_ns(1.0) == histogram.max_ns == ns


# Percentiles


@given(many_ns, st.integers(0, 3))
@quick
def test_percentiles_are_close_to_the_exact_ones(values_ns: list[int], infinite: int) -> None:
    """Half a bucket at most; inf where the exact one is, and nowhere else."""
    histogram = counted(values_ns, infinite)
    for fraction in FRACTIONS:
        assert is_close(histogram.percentile_ns(float(fraction)), exact(values_ns, infinite, fraction))


@given(many_ns)
@quick
def test_the_extremes_are_exact(values_ns: list[int]) -> None:
    """The hundredth percentile is the longest time to the nanosecond, and none lies outside of the extremes."""
    histogram = counted(values_ns)
    assert histogram.percentile_ns(1.0) == histogram.max_ns == max(values_ns)
    assert histogram.min_ns == min(values_ns)
    assert all(min(values_ns) <= histogram.percentile_ns(float(part)) <= max(values_ns) for part in FRACTIONS)


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_percentile_is_not_the_next_one_by_a_rounding_error(percent: int) -> None:
    """Of a hundred times the n-th percentile is the n-th, also where 0.07 * 100 is more than 7."""
    histogram = counted([MS * step for step in range(1, 101)])
    assert is_close(histogram.percentile_ns(percent / 100), MS * percent)


def test_what_never_came_is_infinitely_late() -> None:
    """One of a hundred leaves the 99th percentile alone and makes everything beyond it infinite."""
    histogram = counted([MS] * 99, infinite=1)
    assert histogram.percentile_ns(0.99) == MS
    assert histogram.percentile_ns(0.991) == histogram.percentile_ns(1.0) == math.inf
    assert (histogram.total, histogram.infinite, histogram.max_ns) == (100, 1, MS)


def test_an_empty_histogram_knows_nothing() -> None:
    """Its percentiles and its mean are nan, and its extremes are 0."""
    histogram = Histogram()
    assert math.isnan(histogram.percentile_ns(0.5))
    assert math.isnan(histogram.mean_ns)
    assert (histogram.total, histogram.min_ns, histogram.max_ns) == (0, 0, 0)


def test_a_histogram_of_losses_alone_is_infinite() -> None:
    """Nothing came, and that is not the same as nothing recorded."""
    histogram = counted([], infinite=2)
    assert histogram.percentile_ns(0.0) == math.inf
    assert math.isnan(histogram.mean_ns)
    assert (histogram.min_ns, histogram.max_ns) == (0, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 99, math.nan])
def test_a_percentile_is_asked_for_as_a_fraction(fraction: float) -> None:
    """99 is refused instead of being taken for everything."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        counted([MS]).percentile_ns(fraction)


@given(many_ns, st.integers(0, 3))
@quick
def test_counting_above_counts_whole_buckets(values_ns: list[int], infinite: int) -> None:
    """What is longer by a bucket is counted, what is in the same bucket is not, and what never came always is."""
    histogram = counted(values_ns, infinite)
    for ns in values_ns:
        longer = sum(other_ns >= low_ns(index_of(ns) + 1) for other_ns in values_ns)
        assert histogram.count_above(ns) == longer + infinite


@given(many_ns)
@quick
def test_the_mean_is_close_to_the_exact_one(values_ns: list[int]) -> None:
    """Of what came: what never came has no part in it."""
    assert is_close(counted(values_ns, infinite=1).mean_ns, sum(values_ns) / len(values_ns))


# Recording


@pytest.mark.parametrize("ns", [-1, -(2**40)])
def test_a_negative_time_is_refused(ns: int) -> None:
    """Only a wrong clock gives one: it is neither clamped nor counted."""
    histogram = counted([MS])
    with pytest.raises(ValueError, match="negative"):
        histogram.record(ns)
    with pytest.raises(ValueError, match="negative"):
        histogram.widen(ns, MS)
    assert histogram.to_wire() == counted([MS]).to_wire()


def test_several_are_recorded_at_once() -> None:
    """It is the same as one by one."""
    histogram = Histogram()
    histogram.record(MS, 3)
    histogram.record_infinite(2)
    assert histogram.to_wire() == counted([MS] * 3, infinite=2).to_wire()


@given(many_ns, st.booleans())
@quick
def test_counting_by_hand_is_recording(values_ns: list[int], is_told_first: bool) -> None:
    """A reader that adds to `counts` and tells the extremes, before or afterwards, has the same histogram."""
    histogram = Histogram()
    if is_told_first:
        histogram.widen(min(values_ns), max(values_ns))
    for ns in values_ns:
        units = ns >> FLOOR_BITS
        doublings = units.bit_length() - SUB_BITS - 1
        histogram.counts[units if doublings <= 0 else (doublings << SUB_BITS) + (units >> doublings)] += 1
    histogram.widen(min(values_ns), max(values_ns))
    assert histogram.to_wire() == counted(values_ns).to_wire()


# Merging


@given(st.lists(st.tuples(st.lists(times_ns, max_size=20), st.integers(0, 2)), max_size=6))
@quick
def test_many_merged_are_one(parts: list[tuple[list[int], int]]) -> None:
    """Whichever workers counted what, empty-handed ones included."""
    merged = Histogram()
    for values_ns, infinite in parts:
        merged.merge(counted(values_ns, infinite))
    whole = counted([ns for values_ns, _ in parts for ns in values_ns], sum(infinite for _, infinite in parts))
    assert merged.to_wire() == whole.to_wire()
    assert merged.counts == whole.counts


def test_merging_keeps_the_list_of_counts() -> None:
    """A reader that holds on to it goes on counting into the same histogram."""
    histogram = counted([MS])
    counts = histogram.counts
    histogram.merge(counted([2 * MS]))
    assert histogram.counts is counts


def test_merging_leaves_the_other_alone() -> None:
    """What is added afterwards is added to one of the two."""
    histogram, other = Histogram(), counted([MS])
    histogram.merge(other)
    histogram.record(5 * MS)
    assert other.to_wire() == counted([MS]).to_wire()


# Stored forms


def through_json(wire: Any) -> Any:
    """What a file makes of it."""
    return json.loads(json.dumps(wire, allow_nan=False))


def through_msgpack(wire: Any) -> Any:
    """What the wire between workers and their master makes of it."""
    return msgpack.unpackb(msgpack.packb(wire))


@given(st.lists(times_ns, max_size=50), st.integers(0, 3))
@quick
def test_it_comes_back_from_the_wire(values_ns: list[int], infinite: int) -> None:
    """From JSON and from msgpack alike, to be recorded into and merged as before."""
    histogram = counted(values_ns, infinite)
    for through in (through_json, through_msgpack):
        back = Histogram.from_wire(through(histogram.to_wire()))
        assert (back.counts, back.infinite) == (histogram.counts, histogram.infinite)
        assert (back.min_ns, back.max_ns) == (histogram.min_ns, histogram.max_ns)
        back.record(7)
        assert back.to_wire() == counted([*values_ns, 7], infinite).to_wire()


def test_only_filled_buckets_travel() -> None:
    """A second of a quiet room is a few bytes."""
    assert len(msgpack.packb(counted([MS, MS, 2 * MS]).to_wire())) < 60


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"counts": [], "min_ns": 0, "max_ns": 0},
        {"counts": [[BUCKETS, 1]], "infinite": 0, "min_ns": 1, "max_ns": 1},
        {"counts": [[1]], "infinite": 0, "min_ns": 1, "max_ns": 1},
        {"counts": 5, "infinite": 0, "min_ns": 1, "max_ns": 1},
        [],
    ],
)
def test_what_is_no_histogram_is_refused(wire: Any) -> None:
    """With one sentence, for a file that somebody else wrote."""
    with pytest.raises(ValueError, match="no stored histogram"):
        Histogram.from_wire(wire)


def rows(text: str) -> list[list[float]]:
    """The lines that HdrHistogram's plotting page takes: four numbers each, the first and the last of them finite."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    numbers = [[float(word) for word in words] for words in lines if len(words) == 4 and words[0] != "Value"]
    return [row for row in numbers if math.isfinite(row[0]) and math.isfinite(row[3])]


@given(many_ns, st.integers(0, 3))
@quick
def test_the_percentile_text_holds_the_percentiles(values_ns: list[int], infinite: int) -> None:
    """Each line has a value, its percentile, how many it covers, and 1/(1 - percentile), and they go upwards."""
    found = rows(counted(values_ns, infinite).to_hgrm(unit_ns=1))
    total = len(values_ns) + infinite
    for value_ns, fraction, covered, left in found:
        exact_ns = exact(values_ns, infinite, f"{fraction:.12f}")
        assert is_close(value_ns, exact_ns)
        assert covered == sum(index_of(ns) <= index_of(int(exact_ns)) for ns in values_ns)
        assert left == pytest.approx(1 / (1 - fraction), abs=0.01)
    assert found == sorted(found)
    assert len(found) >= (5 if infinite < total / 2 else 0)


def test_the_percentile_text_is_as_hdrhistogram_writes_it() -> None:
    """The heading, a blank line, the rows in milliseconds, and the three lines that tell the rest."""
    lines = counted([3 * MS] * 4).to_hgrm().splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert lines[1] == ""
    assert lines[2].split() == ["3.000", "0.000000000000", "4", "1.00"]
    assert lines[-4].split() == ["3.000", "1.000000000000", "4", "inf"]
    assert lines[-3].replace(" ", "") == "#[Mean=3.000,StdDeviation=0.000]"
    assert lines[-2].replace(" ", "") == "#[Max=3.000,Totalcount=4]"
    assert lines[-1].replace(" ", "") == "#[Buckets=28,SubBuckets=128]"


def test_the_percentile_text_reaches_as_far_as_there_are_times() -> None:
    """Of ten thousand it shows the one in ten thousand and not the one in a million."""
    found = rows(counted([MS * step for step in range(1, 10_001)]).to_hgrm())
    assert found[-1][3] > 10_000
    assert found[-1][3] < 20_000
    assert found[-1][0] == 10_000


def test_the_percentile_text_says_what_never_came() -> None:
    """The curve ends where deliveries stopped to come, and the maximum is infinite."""
    text = counted([MS] * 3, infinite=1).to_hgrm()
    assert max(row[1] for row in rows(text)) == 0.75
    assert text.count("\n         inf ") > 1
    assert "#[Max     =          inf, Total count    =            4]" in text


def test_the_percentile_text_of_nothing_has_no_rows() -> None:
    """It is still a text that can be read."""
    text = Histogram().to_hgrm()
    assert rows(text) == []
    assert "Total count    =            0]" in text


def test_the_deviation_is_that_of_the_times() -> None:
    """One and three milliseconds are a millisecond off their mean."""
    found = counted([MS, 3 * MS]).to_hgrm().partition("StdDeviation   =")[2].split("]")[0]
    assert float(found) == pytest.approx(1.0, rel=0.01)
