"""The performance table: this chat room against its rivals, plan by plan, in turns, and what is kept of what is asked.

`python -m loadtest performance --rounds 5 --plans flood64,steady20 --seconds 6` runs A B A B ..., each server alone on
the first core and `swarm.c` on the second. It owns the rounds, the table and the page that it is put into; the plans
and their bars are `performance_plans`' business, how a server is started is `peers`'.
Invariant: a run that is wrong or invalid never enters a median, and is told in a line below the table.
"""

import argparse
import json
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtest import words
from loadtest.machine import Cores, allow_open_files, file_system, machine_line
from loadtest.peers import PEERS, ROOT, versions
from loadtest.performance_plans import OURS, PLANS, Bar, Outcome, Plan, Row, Setting, facts, rivals
from loadtest.rivals import (
    BAD_PLAN,
    INVALID,
    STOPPED,
    WRONG,
    BadOptions,
    Spread,
    choose,
    progress,
    range_of,
    taken_over,
    turns,
)
from loadtest.witness import CannotRun

MISSED: Final = 3
OPEN_FILES: Final = 65_536
FULL: Final = 0.95  # of the load's core
FIRST_MARK: Final = "<!-- The table: python -m loadtest performance --write docs/performance.md -->"
LAST_MARK: Final = "<!-- The end of the table -->"
NOT_VALID: Final = "NOT VALID"
HEAD: Final = ("plan", "figure", "ours", "rival", "the rival's", "ours / the rival's", "at least", "reach", "CPU")
LEGEND: Final = (
    "Figures are medians over the rounds, with the least and the most; ratios are those of the same round. "
    "CPU is what ours, then the rival used of its core."
)


@dataclass(frozen=True)
class Run:
    """One server in one round of a plan."""

    plan: str
    round: int
    server: str
    outcome: Outcome

    @property
    def is_good(self) -> bool:
        """Whether its figures may be quoted."""
        return not self.outcome.trouble

    @property
    def limit(self) -> str:
        """Half a sentence if the load had no core left: the server might have done more."""
        own = self.figure("own_cpu")
        return f"the load used {words.cpu(own)} of its core, so that the server may do more" if own > FULL else ""

    def figure(self, key: str) -> float:
        """Return a figure, NaN if it was not measured."""
        return self.outcome.figures.get(key, math.nan)


# What is kept


@dataclass(frozen=True)
class Line:
    """One line of the table: a figure of ours, by itself or beside a rival's."""

    plan: Plan
    row: Row
    rival: str
    runs: Sequence[Run]

    @property
    def bar(self) -> Bar:
        """What is asked of it."""
        return self.row.bars[self.rival] if self.rival else self.row.bar or Bar()

    @property
    def ours(self) -> Spread | None:
        """Our figure."""
        return self.spread_of(self.plan.servers[0])

    @property
    def theirs(self) -> Spread | None:
        """The rival's."""
        return self.spread_of(self.rival) if self.rival else None

    @property
    def ratio(self) -> Spread | None:
        """Ours by the rival's of the same round."""
        ours, theirs = self.by_round(self.plan.servers[0]), self.by_round(self.rival)
        return Spread.of([ours[number] / theirs[number] for number in ours if theirs.get(number, 0) > 0])

    def by_round(self, server: str) -> dict[int, float]:
        """Return the figures of a server's good runs."""
        return {run.round: run.figure(self.row.key) for run in self.runs if run.server == server and run.is_good}

    def spread_of(self, server: str) -> Spread | None:
        """Return the spread of a server's good runs."""
        return Spread.of(list(self.by_round(server).values()))

    @property
    def judged(self) -> float:
        """What is held against the bars: the median, NaN if there is none."""
        spread = self.ratio if self.rival else self.ours
        return spread.median if spread else math.nan

    def missed_by(self, asked: float) -> float:
        """Return by which part of what is asked it is missed, 0 or less if it is not; NaN if nothing was measured."""
        part = self.judged / asked
        return 1 - part if self.row.is_more_better else part - 1

    def verdict(self, asked: float | None, kept: str, missed: str) -> str:
        """Return a cell: what is asked, and whether it is so."""
        if asked is None:
            return words.NONE
        bound = f"{'≥' if self.row.is_more_better else '≤'} {times(asked) if self.rival else self.row.say(asked)}"
        short = self.missed_by(asked)
        if math.isnan(short):
            return f"{bound}: not measured"
        return f"{bound}: {kept}" if short <= 0 else f"{bound}: {missed} by {percent(short)}"

    @property
    def is_missed(self) -> bool:
        """Whether what it must be at least is not so; what could not be measured is not kept."""
        return self.bar.at_least is not None and not self.missed_by(self.bar.at_least) <= 0

    def cpu(self) -> str:
        """Return how busy the servers were."""
        said = []
        for server in filter(None, (self.plan.servers[0], self.rival)):
            shares = [run.figure(self.row.busy) for run in self.runs if run.server == server and run.is_good]
            spread = Spread.of(shares)
            said.append(words.cpu(spread.median) if spread else words.NONE)
        return " · ".join(said)

    def cells(self) -> list[str]:
        """Return the line as it is shown."""
        ours, theirs, ratio = self.ours, self.theirs, self.ratio if self.rival else None
        return [
            self.plan.name,
            self.row.title,
            range_of(self.row.say, ours) if ours else self.untrusted(self.plan.servers[0]),
            self.rival or words.NONE,
            range_of(self.row.say, theirs) if theirs else self.untrusted(self.rival),
            f"{times(ratio.median)} ({times(ratio.least)}..{times(ratio.most)})" if ratio else words.NONE,
            self.verdict(self.bar.at_least, "kept", "**MISSED**"),
            self.verdict(self.bar.reach, "reached", "missed"),
            self.cpu(),
        ]

    def untrusted(self, server: str) -> str:
        """Return what stands for the figure of a server that has no good run."""
        return NOT_VALID if any(run.server == server for run in self.runs) else words.NONE

    def to_json(self) -> dict[str, Any]:
        """Return the line for a program."""
        ours, theirs, ratio = self.ours, self.theirs, self.ratio if self.rival else None
        return {
            "plan": self.plan.name,
            "figure": self.row.key,
            "title": self.row.title,
            "ours": ours and ours._asdict(),
            "rival": self.rival,
            "theirs": theirs and theirs._asdict(),
            "ratio": ratio and ratio._asdict(),
            "is_more_better": self.row.is_more_better,
            "at_least": self.bar.at_least,
            "reach": self.bar.reach,
            "is_kept": None if self.bar.at_least is None else not self.is_missed,
        }


def times(ratio: float) -> str:
    """Return a ratio as `× 1.25`."""
    return f"× {ratio:.2f}"


def percent(part: float) -> str:
    """Return by how much, in words that never say nothing."""
    return f"{part * 100:.0f} %" if part >= 0.01 else "under 1 %"


def lines_of(plan: Plan, runs: Sequence[Run]) -> list[Line]:
    """Return the lines of a plan."""
    own = [run for run in runs if run.plan == plan.name]
    return [
        Line(plan, row, rival, own)
        for row in plan.rows
        for rival in (*([""] if row.bar or not row.bars else []), *row.bars)
    ]


# The rounds


def measure(plan: Plan, number: int, server: str, setting: Setting) -> Run:
    """Run a plan once on one server."""
    try:
        return Run(plan.name, number, server, plan.measure(setting, server))
    except (RuntimeError, CannotRun, OSError) as error:
        return Run(plan.name, number, server, Outcome({}, trouble=f"it could not be run: {error}"))


@dataclass
class Performance:
    """Everything that is known when the rounds are over, or were stopped."""

    plans: list[Plan]
    rounds: int
    command: str
    machine: str
    left_out: dict[str, str]
    runs: list[Run]

    @property
    def lines(self) -> list[Line]:
        """The table."""
        return [line for plan in self.plans for line in lines_of(plan, self.runs)]

    def servers_of(self, plan: Plan) -> list[str]:
        """Return who takes part in a plan here."""
        return [name for name in plan.servers if name not in self.left_out]

    @property
    def is_complete(self) -> bool:
        """Whether every plan had every round."""
        return len(self.runs) == sum(len(self.servers_of(plan)) for plan in self.plans) * self.rounds

    @property
    def exit_code(self) -> int:
        """0; 130 stopped, 5 a wrong delivery of ours, 4 an invalid run, 3 something asked is not kept."""
        if not self.is_complete:
            return STOPPED
        if any("WRONG" in run.outcome.trouble for run in self.runs if run.server not in PEERS or run.server == OURS):
            return WRONG
        if not all(run.is_good for run in self.runs):
            return INVALID
        return MISSED if any(line.is_missed for line in self.lines) else 0

    def to_markdown(self) -> str:
        """Return the table with what a reader must know to judge it."""
        rows = [list(HEAD), ["---"] * len(HEAD), *(line.cells() for line in self.lines)]
        return "\n".join(
            [
                f"`{self.command}`; {self.machine}.",
                f"Rivals: {versions()}.",
                *([] if self.is_complete else ["", f"STOPPED after {len(self.runs)} of the runs."]),
                "",
                *(f"| {' | '.join(row)} |" for row in rows),
                "",
                LEGEND,
                "",
                *(f"- {plan.name}: {plan.what}." for plan in self.plans),
                *(f"- {name} was left out: {why}." for name, why in self.left_out.items()),
                *self.troubles(),
                "",
            ]
        )

    def troubles(self) -> list[str]:
        """Return a line for each run that must not be quoted, or whose load was at its own end."""
        return [
            f"- {run.plan}, round {run.round}, {run.server}: {said}."
            for run in self.runs
            for said in (run.outcome.trouble, run.limit)
            if said
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all of it for a program."""
        return {
            "format": 1,
            "command": self.command,
            "machine": self.machine,
            "versions": versions(),
            "rounds": self.rounds,
            "is_complete": self.is_complete,
            "left_out": self.left_out,
            "lines": [line.to_json() for line in self.lines],
            "runs": [
                {
                    "plan": run.plan,
                    "round": run.round,
                    "server": run.server,
                    "trouble": run.outcome.trouble,
                    "figures": run.outcome.figures,
                    "reports": run.outcome.reports,
                }
                for run in self.runs
            ],
        }

    def write(self, out: Path) -> None:
        """Write `performance.md` and `performance.json` into a folder."""
        out.mkdir(parents=True, exist_ok=True)
        (out / "performance.md").write_text(self.to_markdown(), encoding="utf-8")
        text = json.dumps(self.to_json(), indent=1)
        (out / "performance.json").write_text(text + "\n", encoding="utf-8")


def run_all(performance: Performance, setting: Setting, out: Path) -> None:
    """Run every plan's rounds; whatever stops it, what was measured is in the folder."""
    for plan in performance.plans:
        for number, server in turns(performance.servers_of(plan), performance.rounds):
            run = measure(plan, number, server, setting)
            performance.runs.append(run)
            performance.write(out)
            shown = f"{plan.rows[0].title}: {plan.rows[0].say(run.figure(plan.rows[0].key))}"
            busy = ", ".join(f"{name} {words.cpu(value)}" for name, value in facts(run.outcome.figures).items())
            progress(f"{plan.name} {number} of {performance.rounds}, {server}: {shown}; {busy} {run.outcome.trouble}")


def put_into(page: Path, table: str) -> None:
    """Put a table between the two marks of a page; raises BadOptions if it has none."""
    before, first, rest = page.read_text(encoding="utf-8").partition(FIRST_MARK)
    _, last, behind = rest.partition(LAST_MARK)
    if not first or not last:
        raise BadOptions(f"--write: {page} has no two lines to put the table between")
    page.write_text(f"{before}{FIRST_MARK}\n\n{table}\n{LAST_MARK}{behind}", encoding="utf-8")


# The command


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; raises BadOptions for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m loadtest performance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each server (default: %(default)s)")
    parser.add_argument("--plans", default=",".join(PLANS), help="which, in this order (default: all)")
    parser.add_argument("--seconds", type=float, default=6.0, help="that a run is measured (default: %(default)s)")
    parser.add_argument("--crowd-seconds", type=float, default=120.0, help="of `crowd10` (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for the table and every run (default: one in results/)")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced, as docs/performance.md")
    options = parser.parse_args(argv)
    options.plans = list(dict.fromkeys(name.strip() for name in options.plans.split(",") if name.strip()))
    options.out = (options.out or ROOT / "results" / time.strftime("performance-%Y%m%d-%H%M%S")).resolve()
    if unknown := [name for name in options.plans if name not in PLANS] or ([] if options.plans else ["nothing"]):
        raise BadOptions(f"--plans: {unknown[0]} is none of {', '.join(PLANS)}")
    if options.rounds < 1 or options.seconds <= 0 or options.crowd_seconds <= 0:
        raise BadOptions("--rounds is at least 1, --seconds and --crowd-seconds are above 0")
    return options


def chosen(names: Sequence[str]) -> tuple[list[Plan], dict[str, str]]:
    """Fetch what the rivals need, and return the plans that can be run here, and what cannot, with the reason."""
    left_out: dict[str, str] = {}
    for name in names:
        if lack := PLANS[name].lacks():
            left_out[name] = lack
            progress(f"{name} is left out: {lack}")
    plans = [PLANS[name] for name in names if name not in left_out]
    left_out |= choose([OURS, *rivals(plans)])[1]
    return plans, left_out


def prepare_disk(out: Path) -> None:
    """See to it that databases lie on a disk: in memory, storing costs nothing."""
    out.mkdir(parents=True, exist_ok=True)
    if file_system(Path(tempfile.gettempdir())) in ("tmpfs", "ramfs"):
        tempfile.tempdir = str(out)


def main(argv: list[str]) -> int:
    """Measure, write and print the table, and return the exit code."""
    try:
        options = read_options(argv)
        cores = Cores.split()
        with taken_over(cores):
            return carry_out(options, cores, shlex.join(["python", "-m", "loadtest", "performance", *argv]))
    except BadOptions as error:
        print(f"performance: {str(error).removesuffix('.')}.", file=sys.stderr)
        return BAD_PLAN
    except KeyboardInterrupt:
        print("performance: stopped before anything was measured.", file=sys.stderr)
        return STOPPED


def carry_out(options: argparse.Namespace, cores: Cores, command: str) -> int:
    """Run everything, also after Ctrl-C write and print what there is, and return the exit code."""
    allow_open_files(OPEN_FILES)
    plans, left_out = chosen(options.plans)
    prepare_disk(options.out)
    setting = Setting(cores, options.seconds, options.crowd_seconds, ROOT / "results" / "biglog", progress)
    performance = Performance(plans, options.rounds, command, machine_line(cores), left_out, [])
    try:
        run_all(performance, setting, options.out)
    except KeyboardInterrupt:
        if not performance.runs:
            raise
    performance.write(options.out)
    if options.write:
        put_into(options.write, performance.to_markdown())
    print(performance.to_markdown())
    print(options.out / "performance.md")
    return performance.exit_code
