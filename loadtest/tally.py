"""What a run counts and times: one `Tally` for each second and worker, and their sum.

Owns which figures there are and how they are made from counts and histograms. It knows no socket, no clock and no
judgement: whether a figure is good is `verdict`'s.
Invariant: a figure of many seconds or workers is made from their merged tally, never from their figures, so it is the
same as if one worker had counted everything.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from loadtest.histogram import Histogram

Figures = dict[str, float]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999, "max": 1.0}
TIMED = ("latency", "last_member", "spread", "lateness", "read_lag", "connect", "entry", "resume")


@dataclass
class Tally:
    """Counts (`int`), times (`Histogram`, ns) and the busiest second's shares (`dict` by worker)."""

    # Messages of the measured window: all that were due, and those sent no later than a second after.
    planned: int = 0
    sent: int = 0
    # The account of deliveries: had_to_get = received + missing - doubled.
    had_to_get: int = 0
    received: int = 0
    missing: int = 0
    never: int = 0  # those of them that were to be measured: infinitely late
    doubled: int = 0
    reordered: int = 0
    late: int = 0
    # What should never be there.
    changed: int = 0
    stray: int = 0
    garbage: int = 0
    # What the server said instead of taking a message.
    refused: int = 0
    doubted: int = 0  # under way when their sender was cut off: neither acknowledged nor heard by anybody
    # Members.
    joins: int = 0
    failed: int = 0
    dropped: int = 0
    left: int = 0
    away: int = 0  # cut off, and not back at the end
    resumed_whole: int = 0
    resumed_gap: int = 0
    resumed_reset: int = 0
    stuck: int = 0  # members who never read, and how many of them the server cut off
    cut_off: int = 0
    # How it was read.
    deliveries: int = 0
    measured: int = 0  # deliveries of the measured window, whenever they came
    timed: int = 0
    stamped: int = 0  # timed by the kernel's clock
    read_bytes: int = 0
    chunks: int = 0
    memo_hits: int = 0

    latency: Histogram = field(default_factory=Histogram)
    last_member: Histogram = field(default_factory=Histogram)
    spread: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    read_lag: Histogram = field(default_factory=Histogram)
    connect: Histogram = field(default_factory=Histogram)
    entry: Histogram = field(default_factory=Histogram)
    resume: Histogram = field(default_factory=Histogram)

    def merge(self, other: "Tally") -> None:
        """Add what another second or worker has."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in TIMED:
            getattr(self, name).merge(getattr(other, name))

    def to_wire(self) -> dict[str, Any]:
        """Return what msgpack and JSON carry; what is zero stays at home."""
        counts = {name: getattr(self, name) for name in COUNTED if getattr(self, name)}
        times = {name: getattr(self, name).to_wire() for name in TIMED if not getattr(self, name).is_bare}
        return {**counts, **times}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Tally":
        """Return the tally that `to_wire` wrote."""
        tally = cls()
        for name in COUNTED:
            setattr(tally, name, wire.get(name, 0))
        for name in TIMED:
            if name in wire:
                setattr(tally, name, Histogram.from_wire(wire[name]))
        return tally

    def comes_out(self) -> bool:
        """Return whether the account of deliveries balances."""
        return self.had_to_get == self.received + self.missing - self.doubled

    def figures(self, seconds: float) -> Figures:
        """Return every figure of a window of so many seconds; times in ms, NaN where nothing was timed."""
        figures: Figures = {name: getattr(self, name) for name in COUNTED}
        for name in TIMED:
            found = getattr(self, name).percentiles_ns(PERCENTILES.values())
            figures |= {f"{name}_{ending}_ms": ns / 1e6 for ending, ns in zip(PERCENTILES, found, strict=True)}
        figures |= {
            "rate_planned": ratio(self.planned, seconds),
            "rate_reached": ratio(self.sent, seconds),
            "deliveries_per_s": ratio(self.measured, seconds),
            "bytes_per_delivery": ratio(self.read_bytes, self.deliveries),
            "memo_hit_share": ratio(self.memo_hits, self.chunks),
            "timed_share": ratio(self.timed, self.measured),
            "stamped_share": ratio(self.stamped, self.timed),
        }
        return figures


COUNTED = tuple(one.name for one in fields(Tally) if one.name not in TIMED)


def ratio(part: float, whole: float) -> float:
    """Return part of whole, NaN of nothing."""
    return part / whole if whole else math.nan
