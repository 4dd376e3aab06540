"""The harness against an independent witness in C: both in one room in the same run, and their figures must agree.

Owns the rounds: a fresh chat room, the harness as everybody runs it, `reference.c` beside it, and the comparison of
the medians. It must not know how the harness measures: it reads its `result.json` like any other reader.
Invariant: nothing is left out; a round whose harness found itself INVALID, or in which the two did not count the same
messages, is compared all the same, and said to be one.
"""

import argparse
import contextlib
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.machine import Cores
from loadtest.peers import CHATROOM, ROOT, serving
from loadtest.result import load_result
from loadtest.witness import CannotRun, Witness, built

ROOM = "agree"
SHARE = 0.1  # they may differ by so much of the witness's figure
SLACK_MS = 0.5  # or by this, whichever is larger
ENTER_S = 60.0
END_S = 120.0  # the harness may take so much longer than planned


# One round


@dataclass(frozen=True)
class Round:
    """What both found in one run."""

    harness: dict[str, float]  # ms
    witness: dict[str, float]  # ms
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rounds:
    """What is to be run, and how often."""

    rounds: int
    members: int
    witnesses: int
    senders: int
    rate: float
    ramp: float  # members a second
    warmup_s: float
    duration_s: float

    def harness_command(self, port: int, out: Path) -> list[str]:
        """Return the harness's command line."""
        return [
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"),
            *("-H", f"ws://127.0.0.1:{port}", "--scenario", "steady", "--room", ROOM, "--out", str(out)),
            *("--members", str(self.members), "-r", str(self.ramp), "--senders", str(self.senders)),
            *("--rate", str(self.rate), "--duration", str(self.duration_s), "--warmup", str(self.warmup_s)),
        ]


def run_round(plan: Rounds, cores: Cores, out: Path) -> Round:
    """Run both in one room of a fresh server; raises CannotRun if one of them does not get so far."""
    with serving(CHATROOM, cores) as server:
        command = plan.harness_command(server.port, out)
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as harness:
            try:
                await_first_member(server.port, harness)
                # They come in side by side: who is told early and who late is then the same for both.
                pace = plan.ramp * plan.witnesses / plan.members
                with Witness(server.port, ROOM, plan.witnesses, pace, "chatroom.v1") as witness:
                    witness.await_entered()
                    said = last_words(harness, plan.warmup_s + plan.duration_s + END_S)
                    report = witness.end()
            finally:
                harness.kill()
    if not (out / "result.json").exists():
        raise CannotRun(f"The harness left no result:\n{said[-2000:]}")
    return compared(load_result(out), report)


def last_words(harness: "subprocess.Popen[str]", patience_s: float) -> str:
    """Wait until the harness has ended and return what it said; raises CannotRun if it does not end."""
    try:
        return harness.communicate(timeout=patience_s)[0]
    except subprocess.TimeoutExpired:
        raise CannotRun(f"The harness did not end within {patience_s:.0f} s.") from None


def await_first_member(port: int, harness: "subprocess.Popen[str]") -> None:
    """Wait until the harness begins to come in; raises CannotRun if it ends before."""
    end_s = time.monotonic() + ENTER_S
    while members_inside(port) == 0:
        if harness.poll() is not None:
            raise CannotRun(f"The harness did not come in:\n{harness.communicate()[0][-2000:]}")
        if time.monotonic() > end_s:
            raise CannotRun(f"The harness did not come in within {ENTER_S:.0f} s.")
        time.sleep(0.02)


def members_inside(port: int) -> int:
    """Return how many sockets the chat room has open."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ENTER_S) as answer:
        found = re.search(r"^chatroom_members ([0-9.]+)$", answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def compared(result: dict[str, Any], report: dict[str, Any]) -> Round:
    """Put both accounts of one run side by side."""
    figures, remarks = result["figures"], []
    if not result["verdict"]["is_valid"]:
        remarks.append(f"harness: {'; '.join(result['verdict']['reasons'])}")
    per_member = figures["measured"] / max(figures["members"], 1)
    per_witness = report["kernel"]["count"] / report["members"]
    if per_member != per_witness:
        remarks.append(f"{per_member:.6g} messages a member heard the harness, {per_witness:.6g} the witness")
    if report["dropped"] or report["fragmented"] or report["early"] or report["entered"] != report["members"]:
        remarks.append(f"witness: {json.dumps({name: report[name] for name in ('entered', 'dropped', 'early')})}")
    harness = {name: float(figures[f"latency_{name}_ms"]) for name in ("p50", "p99")}
    witness = {name: float(number(report["kernel"][name])) for name in ("p50", "p99")}
    return Round(harness, witness, tuple(remarks))


def number(value: float | None) -> float:
    """Return a figure; one that JSON has no number for is not a number."""
    return math.nan if value is None else value


# All rounds


@dataclass(frozen=True)
class Agreement:
    """How far the medians of one figure lie apart, and how far they may."""

    name: str
    harness_ms: float
    witness_ms: float

    @property
    def allowed_ms(self) -> float:
        """How far apart they may be."""
        return max(SHARE * self.witness_ms, SLACK_MS)

    @property
    def is_met(self) -> bool:
        """Whether they agree; what is not a number agrees with nothing."""
        return abs(self.harness_ms - self.witness_ms) <= self.allowed_ms

    def __str__(self) -> str:
        apart_ms = abs(self.harness_ms - self.witness_ms)
        verdict = "agree" if self.is_met else "DO NOT AGREE"
        return (
            f"{self.name}: harness {self.harness_ms:.3f} ms, witness {self.witness_ms:.3f} ms; "
            f"{apart_ms:.3f} ms apart, {self.allowed_ms:.3f} ms allowed: {verdict}"
        )


def agreements(rounds: Sequence[Round]) -> list[Agreement]:
    """Compare the medians over the rounds."""
    return [
        Agreement(
            name,
            median([each.harness[name] for each in rounds]),
            median([each.witness[name] for each in rounds]),
        )
        for name in ("p50", "p99")
    ]


def median(values: Sequence[float]) -> float:
    """Return the median, which is not a number if one of them is not: no round is left out."""
    return math.nan if any(map(math.isnan, values)) else statistics.median(values)


def table_line(name: str, one: Round) -> str:
    """Return one line of the table."""
    pairs = "".join(f"{one.harness[each]:12.3f}{one.witness[each]:12.3f}" for each in ("p50", "p99"))
    return f"{name:>6}{pairs}   {'; '.join(one.remarks)}".rstrip()


HEAD = "round   harness p50     witness harness p99     witness   (ms)"


def main(argv: list[str] | None = None) -> int:
    """Run the rounds and return 0 if the two agree."""
    parser = argparse.ArgumentParser(prog="python -m loadtest agree", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--members", type=int, default=300, help="of the harness")
    parser.add_argument("--witnesses", type=int, default=100, help="members of the C program")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second")
    parser.add_argument("--ramp", type=float, default=100.0, help="members of the harness who come in a second")
    parser.add_argument("--warmup", dest="warmup_s", type=float, default=2.0, help="seconds")
    parser.add_argument("--duration", dest="duration_s", type=float, default=10.0, help="seconds")
    plan = Rounds(**vars(parser.parse_args(argv)))
    cores = Cores.split()
    cores.take_load()
    try:
        built()
        return run_rounds(plan, cores)
    except (CannotRun, RuntimeError) as reason:
        print(reason)
        return 1


def run_rounds(plan: Rounds, cores: Cores) -> int:
    """Run them all, tell each, and compare the medians; returns the exit code."""
    print(f"{plan.members} members of the harness and {plan.witnesses} witnesses, {plan.rate:g} messages/s; {cores}")
    print(HEAD, flush=True)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="chatroom-agree-") as folder, contextlib.suppress(KeyboardInterrupt):
        for index in range(1, plan.rounds + 1):
            rounds.append(run_round(plan, cores, Path(folder) / str(index)))
            print(table_line(str(index), rounds[-1]), flush=True)
    found = agreements(rounds) if rounds else []
    for each in found:
        print(each)
    return 0 if len(rounds) == plan.rounds and all(each.is_met for each in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
