"""Results as runs make them, without a run: for the tests of what is made of results.

The times are drawn from a seeded distribution with a tail, so that curves look like curves; everything else is worked
out from them as a run does it.
"""

import math
import random
from functools import cache
from typing import Any

from loadtest.histogram import Histogram
from loadtest.tally import Tally
from loadtest.verdict import Health, judge, parse_slo

MEMBERS = 1000
RATE = 20
PHASES = (("ramp", 5), ("warm-up", 2), ("measured", 20), ("drain", 2))
SLO = "p99<50ms,missing==0"


def times(middle_ms: float, number: int, seed: int, spread: float = 0.35, tail: float = 0.004) -> Histogram:
    """Return so many times about a middle, log-normal, one in 1/`tail` of them much longer."""
    return Histogram.from_wire(_drawn(middle_ms, number, seed, spread, tail))


@cache
def _drawn(middle_ms: float, number: int, seed: int, spread: float, tail: float) -> dict[str, Any]:
    dice = random.Random(seed)
    histogram = Histogram()
    for _ in range(number):
        longer = dice.paretovariate(1.6) * 1.5 if dice.random() < tail else 1
        histogram.record(int(dice.lognormvariate(math.log(middle_ms), spread) * longer * 1e6))
    return histogram.to_wire()


def tally(middle_ms: float, missing: int, seed: int, number: int) -> Tally:
    """Return what a run with this latency counted and timed; `number` deliveries are really drawn."""
    latency = times(middle_ms, number, seed)
    had_to_get = number + missing
    latency.record_infinite(missing)
    messages = had_to_get // MEMBERS or 1
    return Tally(
        planned=messages,
        sent=messages,
        had_to_get=had_to_get,
        received=number,
        missing=missing,
        measured=number,
        timed=number,
        stamped=number - 20,
        read_bytes=number * 312,
        chunks=number,
        memo_hits=int(number * 0.987),
        joins=MEMBERS,
        latency=latency,
        last_member=times(middle_ms * 2.1, messages * 5, seed + 1, 0.3),
        spread=times(middle_ms * 1.4, messages * 5, seed + 2, 0.3),
        lateness=times(0.05, messages * 5, seed + 3, 0.6, 0.01),
        read_lag=times(0.4, number // 4, seed + 4, 0.5),
        connect=times(1.1, MEMBERS, seed + 5),
        entry=times(2.3, MEMBERS, seed + 6),
    )


def seconds(middle_ms: float, missing: int, seed: int, stall_s: int | None = 14) -> list[dict[str, Any]]:
    """Return the seconds of a run, with a stall in one of them and what is missing since the next."""
    dice = random.Random(seed)
    phases = [phase for phase, length_s in PHASES for _ in range(length_s)]
    return [
        _second(t, phase, middle_ms, missing if t >= 15 else 0, t == stall_s, dice) for t, phase in enumerate(phases)
    ]


def _second(
    t: int, phase: str, middle_ms: float, missing: int, is_stalled: bool, dice: random.Random
) -> dict[str, Any]:
    is_sending = phase in ("warm-up", "measured")
    members = min(MEMBERS, 200 * (t + 1))
    p50 = middle_ms * dice.uniform(0.9, 1.12) * (1.6 if is_stalled else 1) if is_sending else math.nan
    return {
        "t": t,
        "phase": phase,
        "members": members,
        "sent": RATE if is_sending else 0,
        "deliveries_per_s": (members * RATE * dice.uniform(0.98, 1.02)) if is_sending else 0.0,
        "bytes": members * RATE * 312 if is_sending else 0,
        "latency_p50_ms": p50,
        "latency_p99_ms": p50 * (9 if is_stalled else dice.uniform(2.0, 2.8)),
        "latency_max_ms": p50 * (14 if is_stalled else dice.uniform(3, 6)),
        "last_member_p99_ms": p50 * 4,
        "lateness_p99_ms": dice.uniform(0.1, 0.3) if is_sending else math.nan,
        "read_lag_p99_ms": dice.uniform(0.8, 1.6) if is_sending else math.nan,
        "joins": 200 if phase == "ramp" else 0,
        "resumed": 0,
        "missing": missing,
        "doubled": 0,
        "outstanding": 0,
        "generator_cpu": dice.uniform(0.34, 0.42) if is_sending else 0.2,
        "server_cpu": dice.uniform(0.58, 0.66) if is_sending else 0.3,
        "server_memory_bytes": 61e6 + members * 15e3 + t * 2e4,
    }


def make_result(
    middle_ms: float = 3.2,
    missing: int = 0,
    slo: str = SLO,
    health: Health | None = None,
    seed: int = 1,
    number: int = 20_000,
    **changed: Any,
) -> dict[str, Any]:
    """Return the result of a run; `changed` replaces whole entries of it."""
    counted = tally(middle_ms, missing, seed, number)
    figures = {
        **counted.figures(20),
        "members": MEMBERS,
        "senders": 8,
        "rooms": 1,
        "workers": 1,
        "rate_planned": float(RATE),
        "rate_reached": float(RATE),
        "deliveries_per_s": MEMBERS * RATE * 0.9994,
        "joins_per_s": 198.7,
        "storm_99_s": math.nan,
        "generator_cpu_max": 0.44,
        "server_cpu": 0.61,
        "server_memory_bytes": 76.4e6,
        "server_memory_bytes_per_member": 15_400.0,
    }
    verdict = judge(figures, health or Health(seconds=20), parse_slo(slo))
    return {
        "format": 1,
        "scenario": "steady",
        "target": "ws://localhost:8888",
        "adapter": "chatroom",
        "started_at": "2026-11-22T10:00:00Z",
        "commit": "35f29e5",
        "command": ["locust", "-f", "loadtest/locustfile.py", "--headless", "-u", "1000", "--slo", slo],
        "machine": {
            "cpu": "Some CPU @ 2.50GHz",
            "cores": 2,
            "memory_gb": 23.4,
            "system": "Linux 6.18",
            "python": "3.11.7",
        },
        "options": {
            "members": MEMBERS,
            "senders": 8,
            "rooms": 1,
            "rate": float(RATE),
            "arrivals": "constant",
            "text_bytes": 100,
            "warmup_s": 2.0,
            "duration_s": 20.0,
            "drain_s": 10.0,
            "slo": slo,
            "workers": 1,
        },
        "verdict": {
            "headline": verdict.headline,
            "is_valid": verdict.is_valid,
            "reasons": verdict.reasons,
            "wrong": verdict.wrong,
            "goals": [
                {"goal": judged.goal.text, "measured": judged.measured, "is_met": judged.is_met}
                for judged in verdict.goals
            ],
            "exit_code": verdict.exit_code,
        },
        "figures": figures,
        "histograms": {
            key: getattr(counted, key).to_wire()
            for key in ("latency", "last_member", "spread", "lateness", "read_lag", "connect", "entry", "resume")
        },
        "seconds": seconds(middle_ms, missing, seed),
        "notes": list(verdict.notes),
        **changed,
    }
