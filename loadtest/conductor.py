"""The conductor: leads a run from the ramp to the verdict.

Owns the phases, and what is said to the players. It knows locust's runner, and no member, socket or figure.
Invariant: a player who falls silent, or a report that is lost, is never made up for: the run is INVALID.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.queue import JoinableQueue
from locust.env import Environment
from locust.runners import MasterRunner

from loadtest.handshake import HANDSHAKE_S
from loadtest.plan import Plan, allow_members, allow_ports
from loadtest.player import DRAIN, FINAL, HERE, REPORT, START, STOP, TOTALS, WHO
from loadtest.run import Run
from loadtest.tally import Tally
from loadtest.timer import breathe

ANSWER_S: Final = 5.0  # a player answers within this, or is lost
GROWTH: Final = 1.25  # from one step of a climb to the next
SETTLE_S: Final = 1.0  # a second is reported at its end
STALL_S: Final = 5.0  # nobody came in for so long: nobody will
HEARTBEAT_S: Final = 0.2


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
        self._reports: JoinableQueue[tuple[Run, dict[str, Any]]] = JoinableQueue()
        gevent.spawn(self._enter_reports)
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
        self._reports.join()
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
            elif time.monotonic() - since_s > (STALL_S if run.failures else HANDSHAKE_S + STALL_S):
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

    def _enter_reports(self) -> None:
        """Enter what the players report, piece by piece: in a single process it is done beside the measuring."""
        for run, report in self._reports:
            try:
                tally = run.take_report(report)
                breathe()
                self._on_report(tally)
            except Exception as error:  # the run must come to its end, and say so
                logging.getLogger(__name__).exception("a report could not be entered")
                run.health.faults.append(repr(error))
            finally:
                self._reports.task_done()

    # What the players say

    def _hear_here(self, environment: Environment, msg: Any) -> None:
        self._players[msg.data["player"]] = msg.data["clock"]

    def _hear_report(self, environment: Environment, msg: Any) -> None:
        if self.run and not self.run.is_over and msg.data["player"] in self.run.workers:
            self._reports.put((self.run, msg.data))

    def _hear_totals(self, environment: Environment, msg: Any) -> None:
        self._totals[msg.data["player"]] = msg.data["totals"]

    def _hear_final(self, environment: Environment, msg: Any) -> None:
        if self.run and msg.data["player"] in self.run.workers:
            self.run.take_final(msg.data)


def reasons(failures: dict[str, int]) -> str:
    """Return why members could not come in, the commonest first."""
    return "; ".join(f"{count} x {why}" for why, count in Counter(failures).most_common(3)) or "no answer"
