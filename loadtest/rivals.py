"""The comparison with other servers: one plan, put on each of them in turn, and one table.

`python -m loadtest rivals --rounds 3 --members 500 --rate 20 --duration 10` runs A B C A B C ..., each server alone on
the first core and the harness as a program of its own on the others. It owns the rounds and the table; how a server is
started and what it lacks is `peers`' business, what a run measures and whether it is valid the harness'.
Invariant: figures of an invalid run never enter a median, and whatever was left out or went wrong is said in a line.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest import words
from loadtest.machine import Cores, allow_open_files
from loadtest.peers import CHATROOM, PEERS, ROOT, Peer, Serving, end, last_line, serving, versions
from loadtest.result import BadResult, load_result
from loadtest.words import Result

HARNESS: Final = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
OURS: Final = CHATROOM.name
NOT_OURS_TO_PASS: Final = ("-H", "--host", "--adapter")  # differ from server to server
BAD_PLAN: Final = 2
INVALID: Final = 4
WRONG: Final = 5
STOPPED: Final = 130
MARK: Final = "INVALID"
LEGEND: Final = (
    f"A cell is the median over the valid rounds, then the ratio to {OURS}'s figure of the same round: median "
    f"(least..most); for {OURS} itself the figure's own range. {MARK}: not to be trusted, shown for its size alone."
)
OPEN_FILES: Final = 65_536


class Column(NamedTuple):
    """A figure that is compared: how it is said."""

    key: str
    title: str
    say: Callable[[float | None], str]


COLUMNS: Final = (
    Column("latency_p50_ms", "p50", words.milliseconds),
    Column("latency_p99_ms", "p99", words.milliseconds),
    Column("last_member_p99_ms", "last member p99", words.milliseconds),
    Column("deliveries_per_s", "deliveries/s", words.count),
    Column("server_cpu", "server CPU", words.cpu),
    Column("server_memory_bytes_per_member", "memory a member", words.memory),
)


class BadOptions(ValueError):
    """A comparison that cannot be; the message is one sentence."""


@dataclass(frozen=True)
class Run:
    """One server in one round: the harness' result, or why there is none."""

    server: str
    round: int
    folder: Path
    result: Result | None = None
    trouble: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether its figures may be quoted."""
        return self.result is not None and not self.trouble and bool(self.result["verdict"]["is_valid"])

    @property
    def wrong(self) -> list[str]:
        """Which deliveries were wrong."""
        return list(self.result["verdict"]["wrong"]) if self.result else []

    @property
    def reasons(self) -> list[str]:
        """Why it is not valid."""
        return [self.trouble] if self.trouble else list(self.result["verdict"]["reasons"]) if self.result else []

    @property
    def why(self) -> str:
        """Why it is not valid, in sentences."""
        return " ".join(f"{reason.removesuffix('.')}." for reason in self.reasons) or "No reason was given."

    def figure(self, key: str) -> float:
        """Return a figure, NaN if it was not measured."""
        value = self.result["figures"].get(key) if self.result else None
        return math.nan if value is None else float(value)


class Spread(NamedTuple):
    """What several rounds gave."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """Return the spread of what was measured, None if nothing was."""
        known = [value for value in values if not math.isnan(value)]
        return cls(statistics.median(known), min(known), max(known)) if known else None


# The rounds


def turns(servers: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield who is measured when: every server once, then every server again, so that what drifts drifts for all."""
    for number in range(1, rounds + 1):
        for name in servers:
            yield number, name


def measure(peer: Peer, number: int, out: Path, passed: Sequence[str], cores: Cores) -> Run:
    """Run the plan once against a server of its own."""
    folder = out / f"round{number}" / peer.name
    try:
        with serving(peer, cores) as server:
            return run_harness(peer, number, folder, passed, server)
    except RuntimeError as error:
        return Run(peer.name, number, folder, trouble=str(error))


def run_harness(peer: Peer, number: int, folder: Path, passed: Sequence[str], server: Serving) -> Run:
    """Run the harness against a server that is up, and return what it found.

    Raises BadOptions with the harness' own sentence if the plan cannot be.
    """
    target = ["-H", f"ws://127.0.0.1:{server.port}", "--adapter", peer.adapter, "--out", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)  # one of an earlier comparison in this folder
    said = folder / "harness.log"
    status = run_to_end([*HARNESS, *target, *passed], said)
    words_said = last_line(said.read_text(errors="replace"))
    if status == BAD_PLAN:
        raise BadOptions(words_said or "the harness refused the plan")
    trouble = "" if server.is_up else f"the server ended during the run ({server.last_words or 'without a word'})"
    try:
        return Run(peer.name, number, folder, load_result(folder), trouble)
    except BadResult:
        trouble = trouble or f"the harness ended with {status} and no result ({words_said or 'it said nothing'})"
        return Run(peer.name, number, folder, trouble=trouble)


def run_to_end(command: list[str], output: Path) -> int:
    """Run a program to its end and return its exit status; if we are stopped, it is ended with all it started."""
    process: subprocess.Popen[bytes] | None = None
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
            return process.wait()
        finally:
            if process:
                end(process, signal.SIGTERM, signal.SIGKILL)


# The table


def ratios(runs: Sequence[Run], key: str, server: str) -> list[float]:
    """Return a server's figure by ours of the same round, for each round in which both are valid."""
    ours = {run.round: run.figure(key) for run in runs if run.server == OURS and run.is_valid}
    theirs = {run.round: run.figure(key) for run in runs if run.server == server and run.is_valid}
    pairs = [(theirs[number], ours[number]) for number in theirs if number in ours]
    return [one / other for one, other in pairs if 0 < other < math.inf]


def times(spread: Spread | None) -> str:
    """Return ratios as `× 4.10 (3.90..4.40)`."""
    if spread is None:
        return words.NONE
    median, least, most = (words.NEVER if math.isinf(one) else words.ratio(one).removeprefix("× ") for one in spread)
    return f"× {median} ({least}..{most})"


def range_of(say: Callable[[float | None], str], spread: Spread) -> str:
    """Return figures as `1.23 ms (1.10 ms..1.31 ms)`."""
    return f"{say(spread.median)} ({say(spread.least)}..{say(spread.most)})"


def cell(runs: Sequence[Run], server: str, column: Column) -> str:
    """Return a figure of a server: the median of its valid runs, and how it compares; marked if it has none."""
    own = [run for run in runs if run.server == server]
    spread = Spread.of([run.figure(column.key) for run in own if run.is_valid])
    if spread is None:
        untrusted = Spread.of([run.figure(column.key) for run in own])
        return f"{MARK} {column.say(untrusted.median)}" if untrusted else words.NONE
    if server == OURS:
        return range_of(column.say, spread)
    compared = Spread.of(ratios(runs, column.key, server))
    return f"{column.say(spread.median)} · {times(compared)}" if compared else range_of(column.say, spread)


def missing(runs: Sequence[Run], server: str) -> str:
    """Return how many deliveries never came, in all valid runs together; marked if there is none."""
    own = [run for run in runs if run.server == server and run.result]
    valid = [run for run in own if run.is_valid]
    total = words.count(sum(run.figure("missing") for run in valid or own)) if own else words.NONE
    return total if valid or not own else f"{MARK} {total}"


def validity(runs: Sequence[Run], server: str) -> str:
    """Return how many runs of a server are valid, and in how many something was delivered wrongly."""
    own = [run for run in runs if run.server == server]
    wrong = sum(1 for run in own if run.is_valid and run.wrong)
    said = f"valid {sum(run.is_valid for run in own)}/{len(own)}"
    return f"{said}, wrong deliveries in {wrong}" if wrong else said


def table(runs: Sequence[Run], servers: Sequence[str]) -> str:
    """Return the Markdown table."""
    titles = ["server", *(column.title for column in COLUMNS), "missing", "verdict"]
    rows = [
        [name, *(cell(runs, name, column) for column in COLUMNS), missing(runs, name), validity(runs, name)]
        for name in servers
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])


def troubles(runs: Sequence[Run]) -> list[str]:
    """Return a line for each run that must not be quoted, or in which something was delivered wrongly."""
    lines = []
    for run in runs:
        if not run.is_valid:
            lines.append(f"- round {run.round}, {run.server}: {MARK}: {run.why}")
        elif run.wrong:
            lines.append(f"- round {run.round}, {run.server}: wrong deliveries: {', '.join(run.wrong)}")
    return lines


# The comparison as a whole


@dataclass
class Comparison:
    """Everything that is known when the rounds are over, or were stopped."""

    servers: list[str]
    left_out: dict[str, str]
    rounds: int
    passed: list[str]
    cores: Cores
    started_at: str
    runs: list[Run]

    @property
    def is_complete(self) -> bool:
        """Whether every server had every round."""
        return len(self.runs) == len(self.servers) * self.rounds

    @property
    def exit_code(self) -> int:
        """0, or 130 if it was stopped, 4 if a run is invalid, 5 if this server delivered wrongly."""
        if not self.is_complete:
            return STOPPED
        if not all(run.is_valid for run in self.runs):
            return INVALID
        return WRONG if any(run.wrong for run in self.runs if run.server == OURS) else 0

    def to_markdown(self) -> str:
        """Return the table with what a reader must know to judge it."""
        done = f"rounds: {self.rounds}" if self.is_complete else f"STOPPED after {len(self.runs)} of the runs"
        plan = shlex.join(self.passed) or "as the scenario `steady` has it"
        return "\n".join(
            [
                f"{self.started_at}; {done}, servers in turns; plan: {plan}; {self.cores}.",
                f"Machine: {self.machine}. Rivals: {versions()}.",
                "",
                table(self.runs, self.servers),
                "",
                LEGEND,
                "",
                *(f"- {name}: {PEERS[name].what}" for name in self.servers),
                *(f"- {name} was left out: {why}." for name, why in self.left_out.items()),
                *troubles(self.runs),
                "",
            ]
        )

    @property
    def machine(self) -> str:
        """What it was measured on, as the harness says it."""
        facts: dict[str, Any] = next((run.result.get("machine", {}) for run in self.runs if run.result), {})
        return ", ".join(f"{name} {value}" for name, value in facts.items()) or platform.platform()

    def to_json(self, out: Path) -> dict[str, Any]:
        """Return all of it for a program; paths are relative to the folder it lies in."""
        return {
            "format": 1,
            "started_at": self.started_at,
            "is_complete": self.is_complete,
            "rounds": self.rounds,
            "options": self.passed,
            "cores": str(self.cores),
            "machine": self.machine,
            "versions": versions(),
            "left_out": self.left_out,
            "servers": {name: self._server(name, out) for name in self.servers},
        }

    def _server(self, name: str, out: Path) -> dict[str, Any]:
        own = [run for run in self.runs if run.server == name]
        valid = [run for run in own if run.is_valid]
        return {
            "what": PEERS[name].what,
            "figures": {
                column.key: {
                    "measured": as_json(Spread.of([run.figure(column.key) for run in valid])),
                    "ratio": as_json(Spread.of(ratios(self.runs, column.key, name))),
                }
                for column in COLUMNS
            },
            "runs": [
                {
                    "round": run.round,
                    "result": str((run.folder / "result.json").relative_to(out)) if run.result else None,
                    "is_valid": run.is_valid,
                    "reasons": run.reasons,
                    "wrong": run.wrong,
                }
                for run in own
            ],
        }

    def write(self, out: Path) -> None:
        """Write `rivals.md` and `rivals.json` into a folder."""
        (out / "rivals.md").write_text(self.to_markdown(), encoding="utf-8")
        text = json.dumps(self.to_json(out), indent=1, allow_nan=False)
        (out / "rivals.json").write_text(text + "\n", encoding="utf-8")


def as_json(spread: Spread | None) -> dict[str, float | str] | None:
    """Return a spread without the infinity that JSON does not have."""
    return spread and {name: "inf" if math.isinf(value) else value for name, value in spread._asdict().items()}


def choose(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Fetch what the servers need, and return those that can run here and why the others cannot.

    Raises BadOptions if none can.
    """
    left_out = {}
    for name in names:
        if lack := PEERS[name].lacks():
            progress(f"{lack}: fetching what {name} needs")
        if trouble := PEERS[name].prepare():
            left_out[name] = trouble
            progress(f"{name} is left out: {trouble}")
    servers = [name for name in names if name not in left_out]
    if not servers:
        raise BadOptions("none of these servers can run here")
    return servers, left_out


def run_rounds(comparison: Comparison, out: Path) -> None:
    """Run all the rounds; whatever stops it, what was measured is in the comparison."""
    for number, name in turns(comparison.servers, comparison.rounds):
        run = measure(PEERS[name], number, out, comparison.passed, comparison.cores)
        comparison.runs.append(run)
        p99 = words.milliseconds(run.figure("latency_p99_ms"))
        said = "valid" if run.is_valid else f"{MARK}: {run.why}"
        progress(f"round {number} of {comparison.rounds}, {name}: p99 {p99}, {said}")


def progress(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def taken_over(cores: Cores) -> Iterator[None]:
    """Be on the cores of the load, and let every way to stop us end what we started before we go."""

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # the second Ctrl-C must not interrupt the ending
        raise KeyboardInterrupt

    affinity = os.sched_getaffinity(0) if cores.load else set()
    cores.take_load()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        if affinity:
            os.sched_setaffinity(0, affinity)


def read_options(argv: Sequence[str]) -> tuple[list[str], int, Path, list[str]]:
    """Return the servers, the rounds, the folder, and what is the harness' to read.

    Raises BadOptions for what cannot be.
    """
    parser = argparse.ArgumentParser(
        prog="python -m loadtest rivals",
        description="Put one plan on several servers in turn. All other options are the harness' own, as --members.",
        allow_abbrev=False,
    )
    parser.add_argument("--servers", default=",".join(PEERS), help="which, in this order (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for the table and every result (default: one in results/)")
    options, passed = parser.parse_known_args(argv)
    names = list(dict.fromkeys(name.strip() for name in options.servers.split(",") if name.strip()))
    out = options.out or ROOT / "results" / time.strftime("rivals-%Y%m%d-%H%M%S")
    if unknown := [name for name in names if name not in PEERS] or ([] if names else ["nothing"]):
        raise BadOptions(f"--servers: {unknown[0]} is none of {', '.join(PEERS)}")
    if options.rounds < 1:
        raise BadOptions(f"--rounds={options.rounds}: give at least one")
    if taken := [option for option in passed if option.split("=")[0] in NOT_OURS_TO_PASS]:
        raise BadOptions(f"{taken[0]} is set for each server here: leave it out")
    return names, options.rounds, out.resolve(), passed


def main(argv: list[str]) -> int:
    """Compare, print the table, and return the exit code: 0, 2 bad options, 130 stopped, 4 and 5 as of a run."""
    try:
        names, rounds, out, passed = read_options(argv)
        cores = Cores.split()
        with taken_over(cores):
            return carry_out(names, rounds, out, passed, cores)
    except BadOptions as error:
        print(f"rivals: {str(error).removesuffix('.')}.", file=sys.stderr)
        return BAD_PLAN
    except KeyboardInterrupt:
        print("rivals: stopped before anything was measured.", file=sys.stderr)
        return STOPPED


def carry_out(names: list[str], rounds: int, out: Path, passed: list[str], cores: Cores) -> int:
    """Run everything, also after Ctrl-C write and print what there is, and return the exit code."""
    allow_open_files(OPEN_FILES)
    servers, left_out = choose(names)
    out.mkdir(parents=True, exist_ok=True)
    started_at = time.strftime("%Y-%m-%d %H:%M %Z")
    comparison = Comparison(servers, left_out, rounds, passed, cores, started_at, [])
    try:
        run_rounds(comparison, out)
    except KeyboardInterrupt:
        if not comparison.runs:
            raise
    comparison.write(out)
    print(comparison.to_markdown())
    print(out / "rivals.md")
    return comparison.exit_code
