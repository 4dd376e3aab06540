"""The player: what a process with members tells the conductor, and what it does at his word.

Owns this process' crowd during a run, its report each second, and its own CPU. Player and conductor speak by locust's
messages between workers and master; in a single process both are there and the same messages go from hand to hand.
Invariant: reports are numbered, and the last word says how many there were, so that a lost one is noticed.
"""

import resource
import time
from pathlib import Path
from typing import Any, Final

import gevent
from locust.env import Environment

from loadtest.account import Message
from loadtest.adapters import load
from loadtest.crowd import Crowd
from loadtest.plan import Plan

REPORT_S: Final = 1.0

# What the conductor says, and what a player says.
WHO, START, STOP, DRAIN = "fanout_who", "fanout_start", "fanout_stop", "fanout_drain"
HERE, REPORT, TOTALS, FINAL = "fanout_here", "fanout_report", "fanout_totals", "fanout_final"


def clock_id() -> str:
    """Return what tells whether two processes read the same monotonic clock: one boot, one time namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    offsets = Path("/proc/self/timens_offsets")
    return f"{boot} {offsets.read_text() if offsets.exists() else ''}"


class Player:
    """One process' part in a run."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.crowd: Crowd | None = None
        self._workers: list[str] = []
        self._reporter: gevent.Greenlet[..., None] | None = None
        self._reports = 0
        self._memory_before_bytes = 0
        self._cpu = Cpu()
        runner = environment.runner
        assert runner
        self._me = getattr(runner, "client_id", "local")
        for word, answer in ((WHO, self._who), (START, self._start), (STOP, self._stop), (DRAIN, self._drain)):
            runner.register_message(word, answer)

    def prepare(self, plan: Plan, run: int, base: str, workers: dict[str, str]) -> None:
        """Make the crowd of a new run; `workers` are all players and their clocks, in their order."""
        names = list(workers)
        me = names.index(self._me)
        self.crowd = Crowd(plan, run, base, load(plan.adapter), me, list(workers.values()))
        self._reports = 0
        self._memory_before_bytes = memory_bytes()
        self._reporter = gevent.spawn(self._report_each_second)

    def close(self) -> None:
        """End the run here without a last word."""
        if self._reporter:
            self._reporter.kill()
        if self.crowd:
            self.crowd.finish()
            self.crowd = None

    def _say(self, word: str, **what: Any) -> None:
        assert self.environment.runner
        self.environment.runner.send_message(word, {"player": self._me, **what})

    def _who(self, environment: Environment, msg: Any) -> None:
        self._say(HERE, clock=clock_id())

    def _start(self, environment: Environment, msg: Any) -> None:
        if self.crowd:
            self.crowd.start()

    def _stop(self, environment: Environment, msg: Any) -> None:
        if self.crowd:
            self._say(TOTALS, totals=self.crowd.be_silent())

    def _drain(self, environment: Environment, msg: Any) -> None:
        gevent.spawn(self._finish, msg.data["totals"], msg.data["drain_s"])

    def _finish(self, totals: dict[str, Any], drain_s: float) -> None:
        """Wait for what is still under way, close all accounts, and say the last word."""
        crowd = self.crowd
        if crowd is None:
            return
        crowd.learn(totals)
        crowd.drain(drain_s)
        if self._reporter:
            self._reporter.kill()
        self._report(crowd)
        incomplete = crowd.incomplete
        tally = crowd.finish()
        self._say(
            FINAL,
            tally=tally.to_wire(),
            reports=self._reports,
            incomplete=incomplete,
            failures=dict(crowd.failures),
            drops=dict(crowd.drops),
            lacks=crowd.lacks,
            fault=crowd.fault,
        )
        self.crowd = None

    def _report_each_second(self) -> None:
        next_s = time.monotonic()
        while self.crowd:
            next_s += REPORT_S
            gevent.sleep(max(0.0, next_s - time.monotonic()))
            self._report(self.crowd)

    def _report(self, crowd: Crowd) -> None:
        self._say(
            REPORT,
            number=self._reports,
            tally=crowd.take_tally().to_wire(),
            completed=[wire_of(message) for message in crowd.take_completed()],
            phase=crowd.phase,
            members=crowd.members_in,
            outside=crowd.outside,
            outstanding=crowd.outstanding,
            failures=dict(crowd.failures),
            generator_cpu=self._cpu.share(),
            generator_memory_bytes=memory_bytes(),
            memory_before_bytes=self._memory_before_bytes,
            is_silent=crowd.is_silent,
        )
        self._reports += 1


def wire_of(message: Message) -> list[int]:
    """Return of a message what the conductor needs to find its last member: which it is, and two times in ns."""
    return [
        message.room.number,
        message.sender,
        message.seq,
        max(0, message.first_ns - message.due_ns),
        max(0, message.last_ns - message.due_ns),
    ]


def memory_bytes() -> int:
    """Return how much memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Cpu:
    """How busy this process is."""

    def __init__(self) -> None:
        self._used_s = time.process_time()
        self._at_s = time.monotonic()

    def share(self) -> float:
        """Return which share of a core it has used since the last time."""
        used_s, at_s = time.process_time(), time.monotonic()
        share = (used_s - self._used_s) / max(at_s - self._at_s, 0.001)
        self._used_s, self._at_s = used_s, at_s
        return share
