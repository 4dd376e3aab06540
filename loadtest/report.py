"""The report: a line on stderr after each run, and the table at the end.

Owns how figures are written. It judges nothing: whether a goal is met comes with the row.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.loads import Run

SATURATED_CPU = 0.95  # a generator busier than this may have been what limited the figure


@dataclass
class Row:
    """One line of the table."""

    plan: str
    measured: str
    chatroom: str
    naive: str
    ratio: str
    goal: str
    is_met: bool | None  # None: shown for comparison
    load: str = ""


def progress(plan: str, number: int, server: str, run: Run, figure: str) -> None:
    """Say on stderr how it goes."""
    shares = ""
    if not math.isnan(run.generator_cpu):
        shares = f" (generator {run.generator_cpu:.0%}, server {run.server_cpu:.0%} of a core)"
    faults = "".join(f"\n  FAULT {fault}" for fault in run.faults)
    print(f"{plan} round {number + 1} {server}: {figure}{shares}{faults}", file=sys.stderr, flush=True)


def compared(
    plan: str, what: str, ours: list[float], naive: list[float], goal: str, is_met: bool | None, load: str
) -> Row:
    """Return a line that compares the rounds of both servers."""
    return Row(plan, what, spread(ours), spread(naive), spread(ratios(ours, naive), "x"), goal, is_met, load)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio in each round; NaN where both are infinite."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median, and the range if there is more than one value."""
    form = ",.0f" if max(values) >= 1000 else ".1f" if max(values) >= 10 else ".2f"
    median = f"{statistics.median(values):{form}}{unit}"
    return f"{median} ({min(values):{form}}..{max(values):{form}})" if len(values) > 1 else median


def load_note(runs: Sequence[Run]) -> str:
    """Return how busy the load generator and the server were, and whether the generator may have spoiled the figure."""
    busiest = max(run.generator_cpu for run in runs)
    late_ms = max(run.late_p99_ms for run in runs)
    note = f"{busiest:.0%} / {statistics.median(run.server_cpu for run in runs):.0%}"
    if late_ms:
        note += f", sends late p99 {late_ms:.1f} ms"
    if busiest > SATURATED_CPU:
        note += ": generator SATURATED, lower bound"
    return note


def print_table(rows: Sequence[Row], machine: str, rounds: int) -> None:
    """Print the result as Markdown."""
    print(f"\n{machine}; medians (min..max) of {rounds} interleaved rounds\n")
    print("| plan | measured | chatroom | naive | ratio | goal | met | CPU: generator / server |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        met = "" if row.is_met is None else "yes" if row.is_met else "**NO**"
        cells = [row.plan, row.measured, row.chatroom, row.naive, row.ratio, row.goal, met, row.load]
        print(f"| {' | '.join(cells)} |")
