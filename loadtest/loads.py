"""The loads: how a crowd is made to talk, closed loop or open loop, and what that gave.

Owns when a message is sent and what is timed. It knows a crowd and the server's process figures; it knows no goal, and
not which server it is.
Times are `time.monotonic_ns`, and in open loops they count from the planned time of a message, sent late or not.
"""

import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.crowd import Crowd, Plan
from loadtest.servers import Server

WARM_UP_S = 1.0  # sent as planned, delivered and checked, but not timed
DRAIN_S = 10.0  # how long after the last planned message deliveries are waited for
COLLAPSE_DRAIN_S = 2.0  # the same for a server that is known to fall behind for ever
SPIN_NS = 1_200_000  # `epoll_wait` counts in milliseconds: the rest of a wait is spun


@dataclass
class Run:
    """What one load on one server gave."""

    deliveries_per_s: float = math.nan
    deliveries_per_cpu_s: float = math.nan
    samples_ms: list[list[float]] = field(default_factory=list)  # sorted, one list per part of the run
    undelivered: int = 0
    planned: int = 0
    behind_s: float = 0.0
    late_p99_ms: float = 0.0
    generator_cpu: float = math.nan
    server_cpu: float = math.nan
    memory_growth_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def percentile_ms(self, fraction: float) -> float:
        """Return a percentile over all parts; what was not delivered counts as infinitely late."""
        all_ms = sorted(ms for part in self.samples_ms for ms in part) + [math.inf] * self.undelivered
        return percentile(all_ms, fraction)


class Usage:
    """Measures the share of a processor that the server and this process use, from its making on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._start_s = time.monotonic()
        self._server_s = server.cpu_s()
        self._own_s = time.process_time()

    def write_to(self, run: Run) -> float:
        """Write the shares down and return the seconds since the start."""
        elapsed_s = time.monotonic() - self._start_s
        run.generator_cpu = (time.process_time() - self._own_s) / elapsed_s
        run.server_cpu = (self._server.cpu_s() - self._server_s) / elapsed_s
        return elapsed_s


def run_closed(server: Server, crowd: Crowd, in_flight: int, seconds: float) -> Run:
    """Keep `in_flight` messages under way, each until every member has it, and count deliveries."""
    run = Run()
    sent = 0

    def load_for(duration_s: float) -> None:
        nonlocal sent
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            allowed = crowd.least_count() + in_flight
            crowd.say(range(sent, allowed))
            sent = max(sent, allowed)
            crowd.read_ready(0.1)

    load_for(WARM_UP_S)
    usage, before = Usage(server), sum(crowd.counts)
    load_for(seconds)
    deliveries = sum(crowd.counts) - before
    run.deliveries_per_s = deliveries / usage.write_to(run)
    run.deliveries_per_cpu_s = run.deliveries_per_s / run.server_cpu
    drain(crowd, sent, DRAIN_S)
    run.faults = crowd.check(sent)
    return run


def drain(crowd: Crowd, sent: int, seconds: float) -> None:
    """Receive until everybody has everything, or the time is over."""
    end_s = time.monotonic() + seconds
    while crowd.least_count() < sent and time.monotonic() < end_s:
        crowd.retry_sending()
        crowd.read_ready(0.05)


def run_open(
    server: Server, crowd: Crowd, rate_per_s: float, seconds: float, *, parts: int = 1, drain_s: float = DRAIN_S
) -> Run:
    """Send at times fixed in advance, whatever the server does, and time every delivery from the planned time."""
    warm_up = round(rate_per_s * WARM_UP_S)
    total = warm_up + round(rate_per_s * seconds)
    start_ns = time.monotonic_ns() + 50_000_000
    due_ns = [start_ns + round(number * 1e9 / rate_per_s) for number in range(total)]
    plan = crowd.transcript.plan = Plan(due_ns, warm_up, [array("q") for _ in range(parts)])
    run, usage = Run(planned=(total - warm_up) * len(crowd.members)), Usage(server)
    start_bytes = server.memory_bytes()
    late_ns: list[int] = []
    for number in range(total):
        wait_until(due_ns[number], crowd)
        late_ns.append(time.monotonic_ns() - due_ns[number])
        crowd.say([number])
        if number % round(rate_per_s) == 0:
            run.memory_growth_bytes = max(run.memory_growth_bytes, server.memory_bytes() - start_bytes)
    usage.write_to(run)
    drain(crowd, total, drain_s)
    run.behind_s = behind_s(crowd, due_ns)
    run.late_p99_ms = percentile(sorted(late_ns), 0.99) / 1e6
    run.undelivered = run.planned - sum(len(sample) for sample in plan.samples)
    run.samples_ms = [sorted(ns / 1e6 for ns in sample) for sample in plan.samples]
    run.faults = crowd.check(total)
    return run


def wait_until(due_ns: int, crowd: Crowd) -> None:
    """Receive until a message is due."""
    while (left_ns := due_ns - time.monotonic_ns()) > 0:
        crowd.retry_sending()
        crowd.read_ready(max(0, left_ns - SPIN_NS) / 1e9)


def behind_s(crowd: Crowd, due_ns: Sequence[int]) -> float:
    """Return how long ago the first message was due that some member still lacks; 0 when everybody has all."""
    done = crowd.least_count()
    return (time.monotonic_ns() - due_ns[done]) / 1e9 if done < len(due_ns) else 0.0


def percentile(sorted_values: Sequence[float], fraction: float) -> float:
    """Return the value that `fraction` of the values do not exceed; NaN for no values."""
    if not sorted_values:
        return math.nan
    return sorted_values[max(0, math.ceil(fraction * len(sorted_values)) - 1)]


def time_to_last_ms(crowd: Crowd, number: int) -> float:
    """Send one message into a quiet room and return how long the last member waited for it."""
    sent_s = time.monotonic()
    crowd.say([number])
    drain(crowd, number + 1, DRAIN_S)
    is_reached = crowd.least_count() > number
    return (time.monotonic() - sent_s) * 1000 if is_reached else math.inf
