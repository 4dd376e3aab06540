"""The conductor: leads a run from the ramp to the verdict, and puts together what all players report.

Owns the phases, the merged seconds and the result. It knows locust's runner, and no member, socket or byte.
Invariants: what a run adds up to is the sum of its players' tallies and nothing else; a player who falls silent, or a
report that is lost, is never made up for: the run is INVALID.
"""

import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.runners import MasterRunner

from loadtest import machine, verdict
from loadtest.plan import Plan, allow_members, allow_ports
from loadtest.player import DRAIN, FINAL, HERE, REPORT, START, STOP, TOTALS, WHO
from loadtest.tally import Figures, Tally, ratio
from loadtest.watch import Watch

ANSWER_S: Final = 5.0  # a player answers within this, or is lost
GROWTH: Final = 1.25  # from one step of a climb to the next
SETTLE_S: Final = 1.0  # a second is reported at its end
STALL_S: Final = 5.0  # nobody came in for so long: nobody will
HEARTBEAT_S: Final = 0.2

SECOND_FIGURES: Final = (
    "latency_p50_ms", "latency_p99_ms", "latency_max_ms", "last_member_p99_ms", "lateness_p99_ms", "read_lag_p99_ms",
    "joins", "doubled", "deliveries",
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
            **{name: figures[name] for name in SECOND_FIGURES if name != "deliveries"},
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
        self._completions.take(report["completed"], tally)
        second.tally.merge(tally)
        self.total.merge(tally)
        self._failures[player] = report["failures"]
        self.members_in, self.outside = second.total("members"), second.total("outside")
        if len(second.reports) == len(self.workers):
            self._close_second(report["number"], second)
        return tally

    def _close_second(self, number: int, second: Second) -> None:
        second.server_cpu, second.server_memory_bytes = self._watch.cpu(), self._watch.memory_bytes()
        del self._seconds[number]
        if not self.seconds:
            self._memory_before_bytes = sum(report["memory_before_bytes"] for report in second.reports.values())
        self.seconds.append(second.to_json(number))
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
            self.health.reports_lost += final["reports"] - self._reported[player]
        self._completions.finish(incomplete, self.total)
        if self.best:
            self._keep_best(self.best)
        self.total.latency.record_infinite(self.total.missing)
        self.health.workers_lost = len(self.workers) - len(self._finals)
        self.health.is_stopped_by_hand = is_stopped_by_hand
        if self.total.failed or self.total.away:
            self.health.failures = self.failures
        self.health.drops = dict(drops)
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
        seconds = min(self.plan.duration_s, len(measured)) if math.isinf(self.plan.duration_s) else self.plan.duration_s
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


MEMORIES: Final = ("server_memory_bytes", "generator_memory_bytes")
HISTOGRAMS: Final = ("latency", "last_member", "spread", "lateness", "read_lag", "connect", "entry", "resume")


class Conductor:
    """Leads the runs of one locust process, one after the other."""

    def __init__(self, environment: Environment, on_report: Callable[[Tally], None]) -> None:
        self.environment = environment
        self.run: Run | None = None
        self._on_report = on_report
        self._players: dict[str, str] = {}
        self._totals: dict[str, dict[str, Any]] = {}
        self._stop_asked = Event()
        self._is_by_hand = False
        self._lead: gevent.Greenlet[..., None] | None = None
        self._has_spawned = Event()
        runner = environment.runner
        assert runner
        runner.register_message(HERE, self._hear_here)
        runner.register_message(REPORT, self._hear_report)
        runner.register_message(TOTALS, self._hear_totals)
        runner.register_message(FINAL, self._hear_final)

    # Before and after

    def prepare(self, plan: Plan, target: str) -> Run:
        """Begin a run: find the players and wait for the members."""
        self._players.clear()
        self._totals.clear()
        self._stop_asked.clear()
        self._has_spawned.clear()
        self._is_by_hand = False
        self._tell(WHO)
        self._wait(lambda: len(self._players) >= self._workers_now, ANSWER_S)
        self.run = Run(plan, target, dict(sorted(self._players.items())))
        self._lead = gevent.spawn(self._conduct, self.run)
        return self.run

    def has_spawned(self) -> None:
        """Learn that locust has started all users."""
        self._has_spawned.set()

    def stop(self, *, is_by_hand: bool) -> None:
        """End the run now, if there is one, and wait for its verdict."""
        run = self.run
        if run is None or run.is_over or self._lead is gevent.getcurrent():
            return
        self._is_by_hand = is_by_hand or math.isfinite(run.plan.duration_s)
        self._stop_asked.set()
        run.over.wait(run.plan.drain_s + 3 * ANSWER_S)

    @property
    def _workers_now(self) -> int:
        runner = self.environment.runner
        return runner.worker_count if isinstance(runner, MasterRunner) else 1

    def _tell(self, word: str, **what: Any) -> None:
        assert self.environment.runner
        self.environment.runner.send_message(word, what)

    # The phases

    def _conduct(self, run: Run) -> None:
        if self._await_members(run):
            run.phase = "warm-up"
            self._tell(START)
            if run.plan.is_climbing:
                self._climb(run)
            else:
                self._await_end(run)
        run.phase = "drain"
        self._tell(STOP)
        self._wait(lambda: len(self._totals) >= min(len(run.workers), self._workers_now), ANSWER_S)
        totals = {name: total for player in self._totals.values() for name, total in player.items()}
        drain_s = min(run.plan.drain_s, 2.0) if self._stop_asked.is_set() and self._is_by_hand else run.plan.drain_s
        self._tell(DRAIN, totals=totals, drain_s=drain_s)
        self._wait(lambda: run.finals >= min(len(run.workers), self._workers_now), drain_s + ANSWER_S)
        run.finish(self._stop_asked.is_set() and self._is_by_hand)

    def _await_members(self, run: Run) -> bool:
        """Wait until all are in; return False if that will not be."""
        self._has_spawned.wait()
        inside, since_s = -1, time.monotonic()
        while not self._stop_asked.is_set():
            if run.seconds and not run.outside and run.members_in >= self._users:
                return True
            if run.members_in > inside:
                inside, since_s = run.members_in, time.monotonic()
            elif time.monotonic() - since_s > STALL_S:
                return False
            gevent.sleep(HEARTBEAT_S)
        return False

    @property
    def _users(self) -> int:
        assert self.environment.runner
        return int(self.environment.runner.user_count)

    def _climb(self, run: Run) -> None:
        """Let more and more members in, until the goal or the generator fails."""
        self._pause(run, run.plan.warmup_s)
        run.phase = "measured"
        members = run.plan.members
        while True:
            # Once may be chance: a step fails if it fails twice.
            if not self._holds(run, members) and not self._holds(run, members):
                return
            members = math.ceil(members * GROWTH)
            try:
                allow_members(math.ceil(members / len(run.workers)))
                allow_ports(members)
            except ValueError as error:
                run.stopped_by = f"the machine: {error}"
                return
            self._grow(members)
            if not self._await_members(run):
                run.stopped_by = f"the server, which did not let {members:,} members in ({reasons(run.failures)})"
                return

    def _holds(self, run: Run, members: int) -> bool:
        run.begin_step()
        self._pause(run, run.plan.duration_s + SETTLE_S)
        return run.end_step(members) and not self._stop_asked.is_set()

    def _grow(self, members: int) -> None:
        runner, options = self.environment.runner, self.environment.parsed_options
        assert runner and options
        self._has_spawned.clear()
        runner.start(members, options.spawn_rate)

    def _pause(self, run: Run, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not self._stop_asked.is_set() and not self._is_somebody_lost(run):
            gevent.sleep(HEARTBEAT_S)

    def _await_end(self, run: Run) -> None:
        self._pause(run, run.plan.warmup_s)
        run.phase = "measured"
        self._pause(run, run.plan.duration_s + HEARTBEAT_S)

    def _is_somebody_lost(self, run: Run) -> bool:
        return self._workers_now < len(run.workers)

    def _wait(self, is_there: Callable[[], bool], seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while not is_there() and time.monotonic() < deadline_s:
            gevent.sleep(0.01)

    # What the players say

    def _hear_here(self, environment: Environment, msg: Any) -> None:
        self._players[msg.data["player"]] = msg.data["clock"]

    def _hear_report(self, environment: Environment, msg: Any) -> None:
        if self.run and not self.run.is_over and msg.data["player"] in self.run.workers:
            self._on_report(self.run.take_report(msg.data))

    def _hear_totals(self, environment: Environment, msg: Any) -> None:
        self._totals[msg.data["player"]] = msg.data["totals"]

    def _hear_final(self, environment: Environment, msg: Any) -> None:
        if self.run and msg.data["player"] in self.run.workers:
            self.run.take_final(msg.data)


def reasons(failures: dict[str, int]) -> str:
    """Return why members could not come in, the commonest first."""
    return "; ".join(f"{count} x {why}" for why, count in Counter(failures).most_common(3)) or "no answer"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    return answer.stdout.strip() or None
