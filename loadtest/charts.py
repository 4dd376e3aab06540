"""What the charts draw: percentile curves and goals, as numbers that JSON carries.

The drawing itself is `templates/charts.js`, one for the report, the live page and the comparison: a browser knows how
wide the page is, and it draws on the reader's processor, not on the generator's while that measures. The time line
needs nothing from here: it is drawn from the seconds of the result.
Invariant: a curve says at each p what `Histogram.percentile_ns` says, to a hundredth of a decade of
1/(1-p); what never came is no step of it, and it ends where that begins (`never_from`).
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

from loadtest import words
from loadtest.histogram import BUCKETS, Histogram, low_ns
from loadtest.verdict import parse_slo

NEXT_STEP: Final = 10**0.01  # a decade of 1/(1-p) is at most some 200 pixels wide
CURVES: Final = {"latency": "every delivery", "last_member": "the last member", "lateness": "send lateness"}

_MIDDLES_MS = [(low_ns(index) + low_ns(index + 1)) / 2e6 for index in range(BUCKETS)]
_PERCENT = re.compile(r"p(\d\d(?:\.\d+)?)")


def histogram_of(result: words.Result, key: str) -> Histogram:
    """Return one of a result's histograms, an empty one if it has none of that name."""
    wire = result.get("histograms", {}).get(key)
    return Histogram.from_wire(wire) if wire else Histogram()


def curve(name: str, histogram: Histogram, is_thin: bool = False, series: int = 1) -> dict[str, Any]:
    """Return a percentile curve: steps (up to which 1/(1-p), ms), and from which x on it is never."""
    return {
        "name": name,
        "series": series,
        "is_thin": is_thin,
        "steps": list(_steps(histogram)),
        "total": histogram.total,
        "never": histogram.infinite,
        "never_from": histogram.total / histogram.infinite if histogram.infinite else None,
    }


def _steps(histogram: Histogram) -> Iterator[tuple[float, float]]:
    left = total = histogram.total
    shortest_ms, longest_ms = histogram.min_ns / 1e6, histogram.max_ns / 1e6
    next_x = 1.0
    for index in [index for index, number in enumerate(histogram.counts) if number]:
        left -= histogram.counts[index]
        # The longest of all is exact, and has a step of its own behind the others of its bucket.
        x = total / max(left, histogram.infinite + 1)
        if x >= next_x:
            next_x = x * NEXT_STEP
            yield round(x, 4), min(max(_MIDDLES_MS[index], shortest_ms), longest_ms)
    if left < total:
        # It is the value for every p beyond the others: it is drawn twice as far.
        yield round(total / left, 4) if left else 2.0 * total, longest_ms


def run_curves(result: words.Result) -> list[dict[str, Any]]:
    """Return the curves of one run: what every member, the last one, and the generator itself was late."""
    return [curve(name, histogram_of(result, key), series=n) for n, (key, name) in enumerate(CURVES.items(), 1)]


def goal_marks(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Return where the goals for fan-out latency stand in the percentile curve."""
    marks = []
    for one in verdict.get("goals", []):
        with contextlib.suppress(ValueError):  # a goal that this program does not know has no place
            for goal in parse_slo(str(one.get("goal", ""))):
                percent = _PERCENT.fullmatch(goal.metric)
                if percent and goal.comparison.startswith("<"):
                    x = round(1 / (1 - float(percent[1]) / 100), 4)
                    marks.append({"text": goal.text, "x": x, "ms": goal.limit, "is_met": bool(one.get("is_met"))})
    return marks
