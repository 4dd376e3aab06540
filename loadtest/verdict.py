"""What a run is worth: whether its figures hold, whether every delivery was right, and whether the goals were met.

Owns the reasons for INVALID, the language of `--slo` and the exit codes. It must not know where the figures come from
and measures nothing. Invariant: figures of a generator that was the bottleneck itself are never called valid, and a
goal whose figure is missing is not met.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Exit codes; 1 is locust's own and 2 stands for options that cannot be.
PASS, GOAL_MISSED, INVALID, WRONG_DELIVERIES = 0, 3, 4, 5

MAX_LATENESS_MS = 5.0
MAX_LATENESS_SHARE = 0.1
"""The p99 of send lateness may be this share of the latency's p99, or `MAX_LATENESS_MS` if that is more.

The latency counts from the planned time and so contains the lateness: it is never too good. On the virtual machine that
this was made on, one message in a hundred goes out 3 to 4 ms late with nothing else to do.
"""

MAX_READ_LAG_MS = 20.0
MAX_READ_LAG_SHARE = 0.5
"""The p99 of read lag may be this share of the latency's p99, or `MAX_READ_LAG_MS` if that is more."""

BUSY_PERCENT = 90
"""A worker that uses more of a core than this is busy."""

MAX_BUSY_SHARE = 0.1
MIN_BUSY_SECONDS = 2
"""So many seconds, and more than this share of all, with a busy worker are too many."""

MIN_RATE_SHARE = 0.995
"""Less of the planned rate is not the planned load."""

WRONG = ("missing", "doubled", "reordered", "changed", "stray", "garbage")
"""The counts of deliveries that were not as they had to be."""


# Goals


class Goal(NamedTuple):
    """One goal of `--slo`; `limit` is in the unit of the figure."""

    metric: str
    comparison: str
    limit: float
    text: str


# What a goal may be about: the figure it looks at, and the seconds in one unit of it, None for a plain number.
_MS, _S = 1e-3, 1.0
_LATENCY = {
    "p50": "latency_p50_ms",
    "p90": "latency_p90_ms",
    "p99": "latency_p99_ms",
    "p99.9": "latency_p99_9_ms",
    "p99.99": "latency_p99_99_ms",
    "max": "latency_max_ms",
    "last_p50": "last_member_p50_ms",
    "last_p99": "last_member_p99_ms",
    "last_max": "last_member_max_ms",
    "spread_p99": "spread_p99_ms",
    "connect_p99": "connect_p99_ms",
    "resume_p99": "resume_p99_ms",
    "lateness_p99": "lateness_p99_ms",
}
_PLAIN = (
    *WRONG,
    *("late", "refused", "dropped", "failed"),
    *("deliveries_per_s", "joins_per_s", "bytes_per_delivery"),
)
METRICS: dict[str, tuple[str, float | None]] = {
    **{metric: (figure, _MS) for metric, figure in _LATENCY.items()},
    "storm_s": ("storm_99_s", _S),
    **{metric: (metric, None) for metric in _PLAIN},
}
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_GOAL = re.compile(r"([a-z0-9_.]+)\s*(<=|>=|==|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")


def parse_slo(text: str) -> list[Goal]:
    """Return the goals in a text like `p99<50ms,missing==0`; raises ValueError if one of them cannot be read."""
    return [_parse_goal(part.strip()) for part in text.split(",")] if text.strip() else []


def _parse_goal(text: str) -> Goal:
    parts = _GOAL.fullmatch(text)
    if parts is None:
        raise ValueError(f'"{text}" is no goal: write one like p99<50ms or missing==0, with one of < <= == >= >')
    metric, comparison, number, unit = parts.groups()
    if metric not in METRICS:
        raise ValueError(f'"{text}" is about {metric}, which is not measured; goals are about {", ".join(METRICS)}')
    unit_s = METRICS[metric][1]
    if unit_s is None:
        if unit:
            raise ValueError(f'"{text}" has a unit, but {metric} is a plain number')
        return Goal(metric, comparison, float(number), text)
    if unit not in _UNITS_S:
        raise ValueError(f'"{text}" needs a unit: {metric} is a time, in us, ms or s')
    # Rounded, so that 50ms is 50 and not a little more.
    return Goal(metric, comparison, round(float(number) * _UNITS_S[unit] / unit_s, 9), text)


class Judged(NamedTuple):
    """A goal, what was measured for it (nan if nothing was) and whether that meets it."""

    goal: Goal
    measured: float
    is_met: bool

    def __str__(self) -> str:
        unit_s = METRICS[self.goal.metric][1]
        unit = {None: "", _MS: " ms", _S: " s"}[unit_s]
        return f"{self.goal.text} {'met' if self.is_met else 'MISSED'}: {shown(self.measured, unit)}"


def shown(value: float, unit: str = "") -> str:
    """Return a figure as a person reads it: three digits and more, `never` for inf."""
    if math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return "never"
    digits = 0 if value == int(value) else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}{unit}"


# The verdict


@dataclass
class Health:
    """How the generator itself fared, as far as no figure tells it."""

    seconds: int = 0
    """How many were measured."""
    busy_seconds: int = 0
    """In how many of them a worker used more than `BUSY_PERCENT` of a core."""
    failures: dict[str, int] = field(default_factory=dict)
    """Why members failed to enter, and how often."""
    drops: dict[str, int] = field(default_factory=dict)
    """Why members were cut off, and how many."""
    faults: list[str] = field(default_factory=list)
    """What went wrong in the generator itself."""
    workers_lost: int = 0
    reports_lost: int = 0
    is_stopped_by_hand: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is printed first, and the code the program exits with."""

    is_valid: bool
    reasons: list[str]
    """Why it is invalid, a sentence each."""
    wrong: list[str]
    """Which deliveries were wrong, a phrase each."""
    goals: list[Judged]
    notes: list[str]
    """What does not make it invalid, but should be known."""

    @property
    def is_fine(self) -> bool:
        """Whether the figures hold, every delivery was right and all goals are met."""
        return self.exit_code == PASS

    @property
    def missed(self) -> list[Judged]:
        """The goals that were not met."""
        return [judged for judged in self.goals if not judged.is_met]

    @property
    def exit_code(self) -> int:
        """What the program exits with; whoever cannot trust the figures need not look at the goals."""
        if not self.is_valid:
            return INVALID
        if self.wrong:
            return WRONG_DELIVERIES
        return GOAL_MISSED if self.missed else PASS

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if not self.is_valid:
            return f"INVALID: {self.reasons[0]}"
        if self.wrong:
            return f"VALID · wrong deliveries: {', '.join(self.wrong)}"
        if self.missed:
            return f"VALID · {len(self.missed)} of {len(self.goals)} goals missed"
        return "VALID · goals met" if self.goals else "VALID · no goals set"

    @property
    def lines(self) -> list[str]:
        """The verdict and everything it rests on, as the terminal shows it."""
        return [
            self.headline,
            *(f"  INVALID: {reason}" for reason in self.reasons[1:]),
            *(f"  wrong deliveries: {what}" for what in self.wrong),
            *(f"  {judged}" for judged in self.goals),
            *(f"  {note}" for note in self.notes),
        ]


def judge(figures: Mapping[str, float], health: Health, goals: list[Goal]) -> Verdict:
    """Return what the figures are worth; a figure that is not there counts as not measured."""
    reasons = list(_reasons(figures, health))
    wrong = [f"{_count(figures, name):,} {name}" for name in WRONG if _count(figures, name)]
    return Verdict(
        not reasons, reasons, wrong, [_judged(goal, figures) for goal in goals], list(_notes(figures, health))
    )


def _judged(goal: Goal, figures: Mapping[str, float]) -> Judged:
    measured = _number(figures, METRICS[goal.metric][0])
    return Judged(goal, measured, _COMPARISONS[goal.comparison](measured, goal.limit))


def _number(figures: Mapping[str, float], name: str) -> float:
    return figures.get(name, math.nan)


def _count(figures: Mapping[str, float], name: str) -> int:
    value = figures.get(name, 0)
    return int(value) if math.isfinite(value) else 0


def _notes(figures: Mapping[str, float], health: Health) -> Iterator[str]:
    dropped, refused = _count(figures, "dropped"), _count(figures, "refused")
    if dropped:
        yield f"Cut off during the run: {_members(dropped)}{_why(health.drops)}."
    doubted = _count(figures, "doubted")
    if doubted:
        doubtful = _plural(doubted, "message")
        yield f"Under way when their senders were cut off, and neither acknowledged nor heard: {doubtful}."
    if refused:
        yield f"Refused by the server, and not missing, since nobody had to get them: {_plural(refused, 'message')}."


# Reasons for INVALID: a sentence each, with the number, the limit and what to do.


def _reasons(figures: Mapping[str, float], health: Health) -> Iterator[str]:
    if health.is_stopped_by_hand:
        yield "The run was stopped by hand before its end; let it finish."
    for fault in health.faults:
        yield f"The generator failed: {fault}"
    yield from _losses(health)
    failed = _count(figures, "failed")
    if not _count(figures, "members"):
        # Everything else would only follow from this.
        yield f"No member entered{_why(health.failures)}; is the server up, and its address right?"
        return
    if failed:
        yield f"{_members(failed)} failed to enter{_why(health.failures)}; every planned member has to be in."
    away = _count(figures, "away")
    if away:
        yield f"Cut off, and not back at the end: {_members(away)}{_why(health.drops | health.failures)}."
    yield from _unfit_account(figures)
    yield from _unfit_load(figures)
    yield from _unfit_generator(figures, health)


def _losses(health: Health) -> Iterator[str]:
    if health.workers_lost:
        yield f"{_plural(health.workers_lost, 'worker')} went missing with all they counted; look at their logs."
    if health.reports_lost:
        yield f"{_plural(health.reports_lost, 'report')} of workers never came: the figures have holes; run it again."


def _unfit_account(figures: Mapping[str, float]) -> Iterator[str]:
    had_to_get, received = _count(figures, "had_to_get"), _count(figures, "received")
    missing, doubled = _count(figures, "missing"), _count(figures, "doubled")
    if not had_to_get:
        yield "Nothing was measured: no member had to get a message; send some, and for longer."
    if had_to_get != received + missing - doubled:
        yield (
            f"The account does not come out: {had_to_get:,} deliveries had to come, but {received:,} received + "
            f"{missing:,} missing - {doubled:,} doubled is {received + missing - doubled:,}; the harness is wrong."
        )


def _unfit_load(figures: Mapping[str, float]) -> Iterator[str]:
    planned, reached = _number(figures, "rate_planned"), _number(figures, "rate_reached")
    if planned > 0 and not reached >= MIN_RATE_SHARE * planned:
        yield (
            f"The rate reached was {shown(reached)} messages/s, less than {MIN_RATE_SHARE:.1%} of the planned "
            f"{shown(planned)}; plan less, or use more workers."
        )
    refused, all_planned = _count(figures, "refused"), _count(figures, "planned")
    if refused > (1 - MIN_RATE_SHARE) * all_planned:
        yield (
            f"The server refused {refused:,} messages, so that the load was not the planned one; plan less for each "
            "sender, or start the server without its rate limit (--message_rate=0)."
        )
    lateness_ms, limit_ms = _number(figures, "lateness_p99_ms"), _limit_ms(figures, MAX_LATENESS_MS, MAX_LATENESS_SHARE)
    if lateness_ms > limit_ms:
        yield (
            f"Messages were sent late: p99 {shown(lateness_ms, ' ms')}, the limit is {shown(limit_ms, ' ms')}; "
            "plan less, use more workers, or free the machine of other work."
        )


def _unfit_generator(figures: Mapping[str, float], health: Health) -> Iterator[str]:
    lag_ms, limit_ms = _number(figures, "read_lag_p99_ms"), _limit_ms(figures, MAX_READ_LAG_MS, MAX_READ_LAG_SHARE)
    if lag_ms > limit_ms:
        yield (
            f"Deliveries waited to be read: p99 {shown(lag_ms, ' ms')}, the limit is {shown(limit_ms, ' ms')}; "
            "use more workers, or fewer members."
        )
    allowed = max(MIN_BUSY_SECONDS - 1, MAX_BUSY_SHARE * health.seconds)
    if health.busy_seconds > allowed:
        yield (
            f"The generator was the bottleneck: in {health.busy_seconds} of {health.seconds} seconds a worker was more "
            f"than {BUSY_PERCENT} % busy, the limit is {math.floor(allowed)}; use more workers, or plan less."
        )


def _limit_ms(figures: Mapping[str, float], floor_ms: float, share: float) -> float:
    """Return the limit that grows with the latency, as far out as that came at all: a share of never is no limit."""
    latencies_ms = [_number(figures, f"latency_{name}_ms") for name in ("p50", "p90", "p99")]
    return max([floor_ms, *(share * latency_ms for latency_ms in latencies_ms if math.isfinite(latency_ms))])


def _why(causes: Mapping[str, int]) -> str:
    # The likeliest first.
    counted = sorted(causes.items(), key=lambda cause: -cause[1])
    return f" ({'; '.join(f'{count:,} × {why}' for why, count in counted)})" if counted else ""


def _members(count: int) -> str:
    return _plural(count, "member")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
