"""Locust's own statistics: what the harness counts, entered in bulk, so that its tables and charts mean deliveries.

Owns the translation of a tally into locust's entries; one event for each delivery would cost more than the delivery.
Locust rounds times to whole milliseconds: the harness' own figures are the exact ones.
"""

import time
from typing import Any, Final

from loadtest.histogram import Histogram, low_ns
from loadtest.tally import Tally

ENTRIES: Final = {"latency": ("fan-out", "delivery"), "connect": ("handshake", "connect")}


def enter(stats: Any, tally: Tally) -> None:
    """Add one player's second to locust's statistics."""
    for name, (method, what) in ENTRIES.items():
        histogram = getattr(tally, name)
        if not histogram.is_empty:
            sum_ms = histogram.mean_ns * sum(histogram.counts) / 1e6
            for entry in (stats.entries[(what, method)], *([stats.total] if name == "latency" else [])):
                _add(entry, histogram, sum_ms)


def _add(entry: Any, histogram: Histogram, sum_ms: float) -> None:
    now_s = time.time()
    second, count = int(now_s), sum(histogram.counts)
    if entry.use_response_times_cache and entry.last_request_timestamp and second > int(entry.last_request_timestamp):
        entry._cache_response_times(second - 1)
    entry.num_requests += count
    entry.num_reqs_per_sec[second] += count
    entry.last_request_timestamp = now_s
    entry.total_response_time += sum_ms
    shortest_ms, longest_ms = histogram.min_ns / 1e6, histogram.max_ns / 1e6
    entry.min_response_time = (
        shortest_ms if entry.min_response_time is None else min(shortest_ms, entry.min_response_time)
    )
    entry.max_response_time = max(longest_ms, entry.max_response_time)
    for index, found in histogram.filled():
        entry.response_times[rounded_ms(low_ns(index) / 1e6)] += found


def rounded_ms(ms: float) -> float:
    """Return a time as locust keeps it, but to two digits also below a millisecond."""
    for below_ms, digits in ((1, 2), (10, 1), (100, 0)):
        if ms < below_ms:
            return round(ms, digits)
    return round(ms, -1) if ms < 1000 else round(ms, -2)
