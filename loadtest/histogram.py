"""Counts of times in buckets less than 0.8 % wide: merged exactly, whoever counted them.

Owns the buckets (linear up to 16 microseconds, then 128 to each doubling, up to 36 minutes), the percentiles read
off them and the two forms they are stored in. It must not know what was timed. Invariant: each time counts in one
bucket, so that merging the histograms of many workers gives the histogram of one who saw everything; and what
never came counts as infinitely late.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, compress
from operator import add
from typing import Any

FLOOR_BITS = 7  # the narrowest bucket is 2**7 ns wide
SUB_BITS = 7  # 2**7 buckets for each doubling above: at most 1/128 wide
TOP_BITS = 41  # what takes 2**41 ns and more counts in the last bucket
BUCKETS = (TOP_BITS - FLOOR_BITS - SUB_BITS + 1) << SUB_BITS

_NOTHING_CAME_NS = 1 << 63
_HGRM_HEADER = f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n\n"


def index_of(ns: int) -> int:
    """Return the number of the bucket that `ns` counts in."""
    units = ns >> FLOOR_BITS
    doublings = units.bit_length() - SUB_BITS - 1
    if doublings <= 0:
        return units
    return min((doublings << SUB_BITS) + (units >> doublings), BUCKETS - 1)


def low_ns(index: int) -> int:
    """Return the shortest time that counts in a bucket; that of the next one is where it ends."""
    doublings = max((index >> SUB_BITS) - 1, 0)
    return (index - (doublings << SUB_BITS)) << doublings << FLOOR_BITS


class Histogram:
    """Times in nanoseconds, and how many things never came; `min_ns` and `max_ns` are exact, and 0 if nothing came."""

    __slots__ = ("_min_ns", "counts", "infinite", "max_ns")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.infinite = 0
        self.max_ns = 0
        self._min_ns = _NOTHING_CAME_NS

    @property
    def min_ns(self) -> int:
        """The shortest time."""
        return self._min_ns if self._min_ns <= self.max_ns else 0

    @property
    def total(self) -> int:
        """How many were recorded, with those that never came."""
        return sum(self.counts) + self.infinite

    @property
    def is_empty(self) -> bool:
        """Whether nothing came; what never came does not count here."""
        return self._min_ns == _NOTHING_CAME_NS

    @property
    def is_bare(self) -> bool:
        """Whether nothing was recorded at all."""
        return self.is_empty and not self.infinite

    def filled(self) -> Iterator[tuple[int, int]]:
        """Yield the number and the count of each bucket that something is in."""
        return zip(compress(range(BUCKETS), self.counts), filter(None, self.counts), strict=True)

    def record(self, ns: int, count: int = 1) -> None:
        """Count something that took `ns`; raises ValueError for a negative time, which only a wrong clock gives."""
        if not self._min_ns <= ns <= self.max_ns:
            self.widen(ns, ns)
        self.counts[index_of(ns)] += count

    def record_infinite(self, count: int) -> None:
        """Count what never came."""
        self.infinite += count

    def widen(self, shortest_ns: int, longest_ns: int) -> None:
        """Let `min_ns` and `max_ns` take these in; whoever adds to `counts` himself has to tell them here."""
        if shortest_ns < 0:
            raise ValueError(f"a time cannot be negative: {shortest_ns} ns")
        self._min_ns = min(shortest_ns, self._min_ns)
        self.max_ns = max(longest_ns, self.max_ns)

    def merge(self, other: "Histogram") -> None:
        """Add everything that another one counted."""
        self.infinite += other.infinite
        if other.is_empty:
            return
        self.widen(other._min_ns, other.max_ns)
        # In place: a reader keeps hold of the list.
        self.counts[:] = map(add, self.counts, other.counts)

    def percentile_ns(self, fraction: float) -> float:
        """Return the time within which this fraction came: inf if fewer ever came, nan if nothing was recorded."""
        return self.percentiles_ns([fraction])[0]

    def percentiles_ns(self, fractions: Iterable[float]) -> list[float]:
        """Return several percentiles for the price of one."""
        reached = [0] if self.is_empty else list(accumulate(self.counts))
        return [self._percentile_ns(fraction, reached) for fraction in fractions]

    def _percentile_ns(self, fraction: float, reached: list[int]) -> float:
        if not 0 <= fraction <= 1:
            raise ValueError(f"a percentile is asked for as a fraction from 0 to 1, not {fraction}")
        total = reached[-1] + self.infinite
        if not total:
            return math.nan
        # 0.07 * 100 is a little more than 7, and is meant to be 7.
        rank = max(1, math.ceil(fraction * total - 1e-6))
        if rank > reached[-1]:
            return math.inf
        if rank == reached[-1]:
            return self.max_ns
        return self._clamped_ns(bisect_left(reached, rank))

    def count_above(self, ns: int) -> int:
        """Return how many took longer, as far as the buckets tell it, with those that never came."""
        return sum(self.counts[index_of(ns) + 1 :]) + self.infinite

    @property
    def mean_ns(self) -> float:
        """The mean of what came, from the middles of the buckets; nan if nothing came."""
        came = sum(self.counts)
        return sum(count * self._clamped_ns(index) for index, count in self.filled()) / came if came else math.nan

    # Stored forms

    def to_wire(self) -> dict[str, Any]:
        """Return it as msgpack and JSON carry it alike: the filled buckets only."""
        return {
            "counts": [list(filled) for filled in self.filled()],
            "infinite": self.infinite,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Histogram":
        """Return what `to_wire` made this of; raises ValueError if it made it of nothing."""
        histogram = cls()
        try:
            histogram.infinite = wire["infinite"]
            for index, count in wire["counts"]:
                histogram.counts[index] = count
            if wire["counts"]:
                histogram.widen(wire["min_ns"], wire["max_ns"])
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no stored histogram: {error!r}") from error
        return histogram

    def to_hgrm(self, unit_ns: int = 1_000_000) -> str:
        """Return the percentiles as HdrHistogram's text, which its plotting page reads; in milliseconds unless told."""
        total = self.total
        lines = [self._hgrm_line(fraction, total, unit_ns) for fraction in _hgrm_fractions(total)]
        longest_ns = math.inf if self.infinite else self.max_ns
        return (
            f"{_HGRM_HEADER}{''.join(lines)}"
            f"#[Mean    = {self.mean_ns / unit_ns:12.3f}, StdDeviation   = {self._deviation_ns() / unit_ns:12.3f}]\n"
            f"#[Max     = {longest_ns / unit_ns:12.3f}, Total count    = {total:12d}]\n"
            f"#[Buckets = {BUCKETS >> SUB_BITS:12d}, SubBuckets     = {1 << SUB_BITS:12d}]\n"
        )

    # Private

    def _clamped_ns(self, index: int) -> float:
        return min(max(_middle_ns(index), self._min_ns), self.max_ns)

    def _deviation_ns(self) -> float:
        came, mean_ns = sum(self.counts), self.mean_ns
        squares = sum(count * (self._clamped_ns(index) - mean_ns) ** 2 for index, count in self.filled())
        return math.sqrt(squares / came) if came else math.nan

    def _hgrm_line(self, fraction: float, total: int, unit_ns: int) -> str:
        value_ns = self.percentile_ns(fraction)
        reached = total if math.isinf(value_ns) else total - self.count_above(int(value_ns))
        left = 1 / (1 - fraction) if fraction < 1 else math.inf
        return f"{value_ns / unit_ns:12.3f} {fraction:14.12f} {reached:10d} {left:14.2f}\n"


def _middle_ns(index: int) -> float:
    return (low_ns(index) + low_ns(index + 1)) / 2


def _hgrm_fractions(total: int) -> Iterator[float]:
    """Five steps in each half of what is left, as HdrHistogram's own, until less than one is left."""
    for halvings in range(total.bit_length()):
        yield from (1 - (1 - step / 10) / 2**halvings for step in range(5))
    if total:
        yield 1.0
