"""The benchmark: the chat room against the plain Tornado server (`naive.py`), one command, one table.

`python -m loadtest.bench` starts each server by itself on one core, fills a room over real sockets from this process on
the other cores, and compares them in interleaved rounds. This module owns the plans, their goals and the command line;
it must not know how bytes look, how a delivery is proved, or how a process is watched.
"""

import argparse
import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from loadtest.crowd import SENDERS, Crowd, is_cut, stuck_member
from loadtest.loads import COLLAPSE_DRAIN_S, Run, percentile, run_closed, run_open, time_to_last_ms
from loadtest.machine import Cores, allow_open_files, machine_line
from loadtest.report import Row, compared, load_note, print_table, progress, ratios, spread
from loadtest.servers import CHATROOM, NAIVE, Rival, Server

TEXT_BYTES = 100
SLOW_TEXT_BYTES = 4000  # the longest a message may be: it fills the buffers of one who does not read in seconds
IN_FLIGHT = 64
SEND_BUFFER_BYTES = 1 << 20  # the server's default for `send_buffer_bytes`
MEMORY_NOISE_BYTES = 4 << 20  # how far two runs of one server differ in memory anyway
REST_MEMBERS = 10_000
REST_FILES = REST_MEMBERS + 500
REST_MESSAGES = 5  # enough for a median of the time to the last member


@dataclass(frozen=True)
class Settings:
    """What the command line asked for, and what the machine allows."""

    rounds: int
    seconds: float | None
    cores: Cores
    open_files: int

    def seconds_or(self, default_s: float) -> float:
        """Return how long to measure."""
        return self.seconds or default_s


@contextlib.contextmanager
def room_of(
    rival: Rival, settings: Settings, members: int, text_bytes: int = TEXT_BYTES
) -> Iterator[tuple[Server, Crowd]]:
    """Start a server and fill one room of it."""
    wire = rival.wire()
    with Server(rival, settings.cores) as server, Crowd(server.port, wire, text_bytes) as crowd:
        crowd.join(members)
        yield server, crowd


def in_turns(
    plan: str,
    settings: Settings,
    members: int,
    load: Callable[[Server, Crowd], Run],
    figure: Callable[[Run], str],
) -> tuple[list[Run], list[Run]]:
    """Put one load on both servers, round by round; return the runs of the chat room and those of the naive server."""
    runs: dict[str, list[Run]] = {NAIVE.name: [], CHATROOM.name: []}
    for number in range(settings.rounds):
        for rival in (NAIVE, CHATROOM):
            with room_of(rival, settings, members) as (server, crowd):
                run = load(server, crowd)
            runs[rival.name].append(run)
            progress(plan, number, rival.name, run, figure(run))
    return runs[CHATROOM.name], runs[NAIVE.name]


def plan_throughput(settings: Settings) -> list[Row]:
    """Deliver as much as possible with 64 messages in flight."""

    def load(server: Server, crowd: Crowd) -> Run:
        return run_closed(server, crowd, IN_FLIGHT, settings.seconds_or(4))

    ours, naive = in_turns("throughput", settings, 500, load, lambda run: f"{run.deliveries_per_s:,.0f} deliveries/s")
    rates = [run.deliveries_per_s for run in ours], [run.deliveries_per_s for run in naive]
    per_cpu = [run.deliveries_per_cpu_s for run in ours], [run.deliveries_per_cpu_s for run in naive]
    is_met = statistics.median(ratios(*rates)) >= 50 and are_clean(ours)
    what = f"deliveries/s: 500 members, {IN_FLIGHT} in flight, {TEXT_BYTES} B"
    # On a machine that others use, too, the second is the figure to trust: it leaves out the time they took.
    return [
        compared("throughput", what, *rates, "≥ 50x", is_met, load_note(ours)),
        compared("throughput", "deliveries per second of server CPU", *per_cpu, "", None, load_note(ours)),
    ]


def plan_latency20(settings: Settings) -> list[Row]:
    """Time deliveries at a rate that the naive server can just bear."""

    def load(server: Server, crowd: Crowd) -> Run:
        return run_open(server, crowd, 20, settings.seconds_or(8))

    ours, naive = in_turns("latency20", settings, 1000, load, p99_figure)
    rows = []
    for label, fraction in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        our_ms = [run.percentile_ms(fraction) for run in ours]
        naive_ms = [run.percentile_ms(fraction) for run in naive]
        goal, is_met = "", None
        if label == "p99":
            goal, is_met = "≤ 0.33x", statistics.median(ratios(our_ms, naive_ms)) <= 1 / 3 and are_clean(ours)
        what = f"{label} ms: 1,000 members, 20 messages/s"
        rows.append(compared("latency20", what, our_ms, naive_ms, goal, is_met, load_note(ours)))
    return rows


def plan_sustain100(settings: Settings) -> list[Row]:
    """Hold a rate at which the naive server falls behind for ever; that one is shown once, and ends by itself."""
    seconds = settings.seconds_or(20)
    with room_of(NAIVE, settings, 1000) as (server, crowd):
        naive = run_open(server, crowd, 100, seconds / 2, parts=4, drain_s=COLLAPSE_DRAIN_S)
    progress("sustain100", 0, NAIVE.name, naive, f"{naive.behind_s:.1f} s behind")
    runs = []
    for number in range(settings.rounds):
        with room_of(CHATROOM, settings, 1000) as (server, crowd):
            run = run_open(server, crowd, 100, seconds, parts=4)
        runs.append(run)
        progress("sustain100", number, CHATROOM.name, run, p99_figure(run))
    return sustain_rows(runs, naive, seconds)


def sustain_rows(runs: list[Run], naive: Run, seconds: float) -> list[Row]:
    """Return the lines of the table for the plan `sustain100`."""
    first = [percentile(run.samples_ms[0], 0.99) for run in runs]
    last = [percentile(run.samples_ms[-1], 0.99) for run in runs]
    # Half as much again, or 10 ms for very short times, is noise; a queue that grows doubles within a quarter.
    is_steady = all(z <= max(1.5 * a, a + 10) for a, z in zip(first, last, strict=True))
    is_met = is_steady and are_clean(runs)
    naive_first = f"{percentile(naive.samples_ms[0], 0.99):,.0f}"
    lost = f"{naive.undelivered / naive.planned:.0%} undelivered, {naive.behind_s:.0f} s behind after {seconds / 2:g} s"
    note = load_note(runs)
    growth = spread(ratios(last, first), "x")
    setting = f"1,000 members, 100 messages/s, {seconds:g} s"
    return [
        Row("sustain100", f"p50 ms: {setting}", spread([run.percentile_ms(0.5) for run in runs]),
            f"{naive.percentile_ms(0.5):,.0f}", "", "", None, note),
        Row("sustain100", "p99 ms, first quarter", spread(first), naive_first, "", "", None, note),
        Row("sustain100", "p99 ms, last quarter", spread(last), lost, f"last/first {growth}",
            "all delivered, ≤ 1.5x or +10 ms", is_met, note),
    ]  # fmt: skip


def plan_rest10000(settings: Settings) -> list[Row]:
    """Weigh ten thousand members at rest, then reach them all; once for each server, since memory hardly varies."""
    if settings.open_files < REST_FILES:
        what = f"not run: at most {settings.open_files} open files allowed here"
        return [Row("rest10000", what, "", "", "", "≤ 20 kB", False)]
    naive, naive_ms, _ = weigh(NAIVE, settings)
    ours, ours_ms, is_clean = weigh(CHATROOM, settings)
    ratio = statistics.median(ours_ms) / statistics.median(naive_ms)
    return [
        Row("rest10000", f"kB (1,000 B) a member: {REST_MEMBERS:,} members at rest", f"{ours:.1f}", f"{naive:.1f}",
            f"{ours / naive:.2f}x", "≤ 20 kB", ours <= 20 and is_clean),
        Row("rest10000", "ms until the last has a message", spread(ours_ms), spread(naive_ms), f"{ratio:.2f}x",
            "all reached", is_clean),
    ]  # fmt: skip


def weigh(rival: Rival, settings: Settings) -> tuple[float, list[float], bool]:
    """Return the kB a member, how many ms the last member waited for each message, and whether all was delivered."""
    with room_of(rival, settings, SENDERS) as (server, crowd):
        before_bytes = server.memory_bytes()
        started_s = time.monotonic()
        crowd.join(REST_MEMBERS - SENDERS)
        joined_s = time.monotonic() - started_s
        weight_kb = (server.memory_bytes() - before_bytes) / (REST_MEMBERS - SENDERS) / 1000
        reach_ms = [time_to_last_ms(crowd, number) for number in range(REST_MESSAGES)]
        run = Run(faults=crowd.check(REST_MESSAGES))
    progress("rest10000", 0, rival.name, run, f"{weight_kb:.1f} kB a member, joined in {joined_s:.0f} s")
    return weight_kb, reach_ms, are_clean([run])


def plan_slow(settings: Settings) -> list[Row]:
    """Let one member never read while a thousand chat: the same run without and with him, in turns."""
    seconds = settings.seconds_or(14)
    runs: dict[bool, list[Run]] = {False: [], True: []}
    was_cut, lines = [], []
    for number in range(settings.rounds):
        for is_slow_there in (False, True) if number % 2 == 0 else (True, False):
            with room_of(CHATROOM, settings, 1000, SLOW_TEXT_BYTES) as (server, crowd):
                slow = stuck_member(server.port, server.rival.wire()) if is_slow_there else None
                crowd.settle()
                lines_before = len(server.log_lines())
                run = run_open(server, crowd, 20, seconds)
                if slow:
                    was_cut.append(is_cut(slow))
                    lines.append(server.log_lines()[lines_before:])
            runs[is_slow_there].append(run)
            word = "with" if is_slow_there else "without"
            progress("slow", number, CHATROOM.name, run, f"{word} him {p99_figure(run)}")
    return slow_rows(runs[False], runs[True], was_cut, lines)


def slow_rows(without: list[Run], beside: list[Run], was_cut: list[bool], lines: list[list[str]]) -> list[Row]:
    """Return the lines of the table for the plan `slow`."""
    p99_without = [run.percentile_ms(0.99) for run in without]
    p99_beside = [run.percentile_ms(0.99) for run in beside]
    change = ratios(p99_beside, p99_without)
    is_unhurt = statistics.median(change) <= 1.2 and are_clean(without + beside)
    growth = [b.memory_growth_bytes - w.memory_growth_bytes for w, b in zip(without, beside, strict=True)]
    bound_bytes = SEND_BUFFER_BYTES + MEMORY_NOISE_BYTES
    counts = [len(said) for said in lines]
    note = load_note(beside)
    return [
        Row("slow", f"p99 ms of the 1,000 others, 20 messages/s of {SLOW_TEXT_BYTES} B", spread(p99_beside),
            f"without him: {spread(p99_without)}", f"with/without {spread(change, 'x')}", "≤ 1.2x", is_unhurt, note),
        Row("slow", "MB more memory than without him", spread([g / 1e6 for g in growth]), "", "",
            f"≤ {bound_bytes / 1e6:.1f} MB", max(growth) <= bound_bytes, note),
        Row("slow", "cut off / lines in the log about it", f"{sum(was_cut)} of {len(was_cut)} / {counts}", "", "",
            "always / 1 each", all(was_cut) and all(count == 1 for count in counts), note),
    ]  # fmt: skip


def p99_figure(run: Run) -> str:
    """Return what is shown of a timed run while the plan goes on."""
    return f"p99 {run.percentile_ms(0.99):.1f} ms"


def are_clean(runs: Iterable[Run]) -> bool:
    """Return whether everything was delivered, once, unchanged and in order."""
    return not any(run.faults for run in runs)


PLANS: dict[str, Callable[[Settings], list[Row]]] = {
    "throughput": plan_throughput,
    "latency20": plan_latency20,
    "sustain100": plan_sustain100,
    "rest10000": plan_rest10000,
    "slow": plan_slow,
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description="Compare with the naive server.")
    parser.add_argument("--plan", action="append", choices=list(PLANS), help="only this plan; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--seconds", type=float, help="measure each run this long instead of the plan's own time")
    return parser.parse_args()


def main() -> int:
    """Run the plans, print the table, and return 0 if every goal is met."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers end with us
    settings = Settings(arguments.rounds, arguments.seconds, Cores.split(), allow_open_files(REST_FILES))
    settings.cores.take_load()
    machine = machine_line(settings.cores)
    rows = [row for name in arguments.plan or PLANS for row in PLANS[name](settings)]
    print_table(rows, machine, settings.rounds)
    return 0 if all(row.is_met in (True, None) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
