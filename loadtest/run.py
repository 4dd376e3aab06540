"""A run: what was planned, what the players have reported of it so far, and what came of it.

Owns the merged seconds, the completions of messages and the result. It knows no locust, no member and no phase but by
name. Invariant: what a run adds up to is the sum of its players' tallies and nothing else.
"""

import math
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from gevent.event import Event

from loadtest import machine, verdict
from loadtest.plan import Plan
from loadtest.tally import Figures, Tally, ratio
from loadtest.timer import breathe
from loadtest.watch import Watch

MEMORIES: Final = ("server_memory_bytes", "generator_memory_bytes")
HISTOGRAMS: Final = ("latency", "last_member", "spread", "lateness", "read_lag", "connect", "entry", "resume")
SECOND_FIGURES: Final = (
    "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_p99_9_ms", "latency_max_ms", "last_member_p99_ms",
    "spread_p99_ms", "lateness_p99_ms", "read_lag_p99_ms", "connect_p99_ms", "entry_p99_ms", "resume_p99_ms", "joins",
    "dropped", "left", "doubled", "reordered", "late", "refused",
)  # fmt: skip


@dataclass
class Second:
    """What the players reported of one second."""

    tally: Tally = field(default_factory=Tally)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    server_cpu: float = math.nan
    server_memory_bytes: float = math.nan

    def total(self, name: str) -> int:
        """Return the sum of what the players said of themselves."""
        return sum(report[name] for report in self.reports.values())

    @property
    def generator_cpu(self) -> float:
        """How busy the busiest player was."""
        return max((report["generator_cpu"] for report in self.reports.values()), default=math.nan)

    @property
    def phase(self) -> str:
        """What went on."""
        return next(iter(self.reports.values()))["phase"] if self.reports else "ramp"

    def to_json(self, t: int) -> dict[str, Any]:
        """Return the second as the result keeps it."""
        tally = self.tally
        figures = tally.figures(1.0)
        return {
            "t": t,
            "phase": self.phase,
            "members": self.total("members"),
            "sent": tally.sent,
            "deliveries_per_s": tally.deliveries,
            "bytes": tally.read_bytes,
            "missing": self.total("outstanding"),
            "outstanding": self.total("outstanding"),
            "resumed": tally.resumed_whole,
            "generator_cpu": self.generator_cpu,
            "generator_memory_bytes": self.total("generator_memory_bytes"),
            "server_cpu": self.server_cpu,
            "server_memory_bytes": self.server_memory_bytes,
            "bytes_per_delivery": ratio(tally.read_bytes, tally.deliveries),
            **{name: figures[name] for name in SECOND_FIGURES},
        }


class Completions:
    """Finds each message's last member, of all players that may time it."""

    def __init__(self, plan: Plan, clocks: list[str]) -> None:
        self._plan = plan
        self._clocks = clocks
        self._open: dict[tuple[int, int, int], list[int]] = {}  # heard from, first and last in ns

    def take(self, completed: list[list[int]], tally: Tally) -> None:
        """Enter what one player's members have got."""
        for room, sender, seq, first_ns, last_ns in completed:
            known = self._open.setdefault((room, sender, seq), [0, first_ns, last_ns])
            known[:] = known[0] + 1, min(known[1], first_ns), max(known[2], last_ns)
            if known[0] == self._witnesses(room, sender):
                self._close((room, sender, seq), tally)

    def finish(self, incomplete: set[tuple[int, int, int]], tally: Tally) -> None:
        """Close what is left; a message that anybody lacks has no last member."""
        for key in incomplete:
            self._open.pop(key, None)
        tally.last_member.record_infinite(len(incomplete))
        for key in list(self._open):  # rooms in which not every player has a member
            self._close(key, tally)

    def _witnesses(self, room: int, sender: int) -> int:
        clock = self._clocks[self._plan.worker_of(room, sender, len(self._clocks))]
        return self._clocks.count(clock)

    def _close(self, key: tuple[int, int, int], tally: Tally) -> None:
        _, first_ns, last_ns = self._open.pop(key)
        tally.last_member.record(last_ns)
        tally.spread.record(last_ns - first_ns)


class Run:
    """One run: what was planned, what has been reported so far, and what came of it."""

    def __init__(self, plan: Plan, target: str, workers: dict[str, str]) -> None:
        self.plan = plan
        self.target = target
        self.workers = workers
        self.number = int(time.time() * 1000) & 0xFFFF
        self.started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.seconds: list[dict[str, Any]] = []
        self.total = Tally()
        self.health = verdict.Health()
        self.notes: list[str] = []
        self.judged: verdict.Verdict | None = None
        self.over = Event()
        self.members_in = 0
        self.outside = 0
        self.measured_seconds = 0
        self._phase = "ramp"
        self._seconds: dict[int, Second] = {}
        self._started_s = time.monotonic()
        self._measuring_since_s = 0.0
        self._is_settled = False  # every player has said his last word: the figures are those of the whole plan
        self._completions = Completions(plan, list(workers.values()))
        self._reported: Counter[str] = Counter()
        self._finals: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, dict[str, int]] = {}
        self._watch = Watch(target)
        self._machine = machine.facts()
        self._commit = _commit()
        self._memory_before_bytes = math.nan  # of the generator
        self.goals = verdict.parse_slo(plan.slo)
        self.step = Tally()
        self.best: Tally | None = None  # of a climb: the highest step that held
        self.capacity = 0
        self.stopped_by = "hand"

    # What the terminal and the page ask

    @property
    def phase(self) -> str:
        """What is going on."""
        return "over" if self.over.is_set() else self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        self._phase = name
        if name == "warm-up":
            self._measuring_since_s = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the verdict is there."""
        return self.over.is_set()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the ramp."""
        return time.monotonic() - self._started_s

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the measured window ends; None while that is not known."""
        whole_s = self.plan.warmup_s + self.plan.duration_s
        if not self._measuring_since_s or math.isinf(whole_s):
            return None
        return max(0.0, self._measuring_since_s + whole_s - time.monotonic())

    @property
    def options(self) -> dict[str, Any]:
        """The plan as the result keeps it."""
        return {**self.plan.to_json(), "workers": len(self.workers)}

    # What the players report

    def take_report(self, report: dict[str, Any]) -> Tally:
        """Enter one player's second; return its tally."""
        player = report["player"]
        self._reported[player] += 1
        second = self._seconds.setdefault(report["number"], Second())
        second.reports[player] = report
        tally = Tally.from_wire(report["tally"])
        breathe()
        self._completions.take(report["completed"], tally)
        breathe()
        second.tally.merge(tally)
        self.total.merge(tally)
        breathe()
        self._failures[player] = report["failures"]
        self.members_in, self.outside = second.total("members"), second.total("outside")
        if len(second.reports) == len(self.workers):
            self._close_second(report["number"], second)
        return tally

    def _close_second(self, number: int, second: Second) -> None:
        second.server_cpu, second.server_memory_bytes = self._watch.cpu(), self._watch.memory_bytes()
        breathe()
        del self._seconds[number]
        if not self.seconds:
            self._memory_before_bytes = sum(report["memory_before_bytes"] for report in second.reports.values())
        self.seconds.append(second.to_json(number))
        breathe()
        if second.phase == "measured":
            self.measured_seconds += 1
            self.step.merge(second.tally)
            self.health.seconds += 1
            self.health.busy_seconds += second.generator_cpu * 100 > verdict.BUSY_PERCENT

    def take_final(self, final: dict[str, Any]) -> None:
        """Enter a player's last word."""
        self._finals[final["player"]] = final

    @property
    def finals(self) -> int:
        """How many players have said their last word."""
        return len(self._finals)

    # The steps of a climb

    def begin_step(self) -> None:
        """Measure from here on; what was on its way before is not of this step."""
        self.step = Tally()
        self.health.seconds = self.health.busy_seconds = 0

    def end_step(self, members: int) -> bool:
        """Judge what was measured since; return whether goal and generator held."""
        lacking, came = self.seconds[-1]["outstanding"], self.step.deliveries
        account = {"members": members, "received": came, "missing": lacking, "had_to_get": came + lacking}
        figures = self.step.figures(self.plan.duration_s) | account
        judged = verdict.judge(figures, self.health, self.goals)
        p99 = verdict.shown(figures["latency_p99_ms"], " ms")
        self.notes.append(f"{members:,} members: p99 {p99}" + ("" if judged.is_fine else f" ({judged.headline})"))
        if judged.is_fine or self.best is None:
            self.best = self.step
        if judged.is_fine:
            self.capacity = members
        elif not judged.is_valid:
            self.stopped_by = f"the generator at {members:,} members: {judged.reasons[0]}"
        else:
            broken = [str(one) for one in judged.missed] + judged.wrong
            self.stopped_by = f"the goal at {members:,} members: {', '.join(broken)}"
        return judged.is_fine

    @property
    def failures(self) -> dict[str, int]:
        """Why members could not come in, and how often."""
        return dict(sum((Counter(one) for one in self._failures.values()), Counter()))

    # What comes of it

    def finish(self, is_stopped_by_hand: bool) -> None:
        """Put everything together, and judge it."""
        for number in sorted(self._seconds):
            self._close_second(number, self._seconds[number])
        incomplete: set[tuple[int, int, int]] = set()
        drops: Counter[str] = Counter()
        for player, final in self._finals.items():
            self.total.merge(Tally.from_wire(final["tally"]))
            incomplete |= {tuple(key) for key in final["incomplete"]}
            self._failures[player] = final["failures"]
            drops.update(final["drops"])
            self.notes += final["lacks"]
            self.health.faults += [final["fault"]] * bool(final["fault"])
            self.health.reports_lost += final["reports"] - self._reported[player]
        self._completions.finish(incomplete, self.total)
        if self.best:
            self._keep_best(self.best)
        self.total.latency.record_infinite(self.total.never)
        self.health.workers_lost = len(self.workers) - len(self._finals)
        self.health.is_stopped_by_hand = is_stopped_by_hand
        if self.total.failed or self.total.away:
            self.health.failures = self.failures
        self.health.drops = dict(drops)
        self._is_settled = True
        self.judged = verdict.judge(self.figures(), self.health, self.goals)
        self.notes = [*self.judged.notes, *self.notes]
        self.over.set()

    def _keep_best(self, best: Tally) -> None:
        """Of a climb, show the times of the highest step that held; the account is of all."""
        for name in HISTOGRAMS:
            setattr(self.total, name, getattr(best, name))
        load = f"about {self.capacity:,} members at {self.plan.rate:g} messages/s"
        self.notes.insert(0, f"This machine: {load}; stopped by {self.stopped_by}")

    def figures(self) -> Figures:
        """Return every figure of the run so far."""
        measured = [second for second in self.seconds if second["phase"] == "measured"]
        is_cut_short = self.health.is_stopped_by_hand or math.isinf(self.plan.duration_s)
        seconds = self.plan.duration_s if self._is_settled and not is_cut_short else len(measured)
        figures = self.total.figures(seconds)
        joining = [second["joins"] for second in self.seconds if second["joins"]]
        figures |= {
            "members": max((second["members"] for second in self.seconds), default=0),
            "senders": self.plan.senders * self.plan.rooms,
            "rooms": self.plan.rooms,
            "workers": len(self.workers),
            "rate_planned": self.total.planned / seconds if seconds else math.nan,
            "deliveries_per_s": _mean([second["deliveries_per_s"] for second in measured]),
            "joins_per_s": _mean(joining),
            "storm_99_s": figures["resume_p99_ms"] / 1000,
            "generator_cpu_max": max((second["generator_cpu"] for second in measured), default=math.nan),
            "server_cpu": _mean([second["server_cpu"] for second in measured]),
        }
        held = {name: max((second[name] for second in self.seconds), default=math.nan) for name in MEMORIES}
        figures |= held
        for name, before_bytes in zip(
            MEMORIES, (self._watch.memory_before_bytes, self._memory_before_bytes), strict=True
        ):
            figures[f"{name}_per_member"] = ratio(held[name] - before_bytes, figures["members"])
        return figures

    def result(self) -> dict[str, Any]:
        """Return all of it, as `result.json` keeps it."""
        judged = self.judged
        return {
            "format": 1,
            "scenario": self.plan.scenario,
            "target": self.target,
            "adapter": self.plan.adapter,
            "started_at": self.started_at,
            "commit": self._commit,
            "command": ["locust", *sys.argv[1:]],
            "machine": self._machine,
            "options": self.options,
            "verdict": {
                "headline": judged.headline if judged else "running",
                "is_valid": judged.is_valid if judged else True,
                "reasons": judged.reasons if judged else [],
                "wrong": judged.wrong if judged else [],
                "goals": [
                    {"goal": one.goal.text, "measured": one.measured, "is_met": one.is_met}
                    for one in (judged.goals if judged else [])
                ],
                "exit_code": judged.exit_code if judged else None,
            },
            "figures": self.figures(),
            "histograms": {name: getattr(self.total, name).to_wire() for name in HISTOGRAMS},
            "seconds": self.seconds,
            "notes": self.notes,
        }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    return answer.stdout.strip() or None
