"""A run in the terminal: how it goes while it goes on, and what it came to.

Owns the live block, the lines that stand for it where nobody watches, and the summary. It judges nothing and keeps no
figures. Invariant: the live block starts no thread (`update` draws it), for a thread would run in the middle of the
measuring; log lines go above it, whichever handler writes them.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest import words
from loadtest.result import Run
from loadtest.words import Result

LINE_EACH_S: Final = 5.0
WIDTH: Final = 120  # of what goes into a file or a pipe
STYLES: Final = {"good": "green", "missed": "yellow", "wrong": "red", "running": "cyan"}

# What is shown of the last second, three to a line.
SHOWN: Final[tuple[tuple[str, str, Callable[[float | None], str]], ...]] = (
    ("members", "members", words.count),
    ("deliveries/s", "deliveries_per_s", words.count),
    ("missing", "missing", words.count),
    ("p50", "latency_p50_ms", words.milliseconds),
    ("p99", "latency_p99_ms", words.milliseconds),
    ("last member p99", "last_member_p99_ms", words.milliseconds),
    ("send lateness p99", "lateness_p99_ms", words.milliseconds),
    ("generator CPU", "generator_cpu", words.cpu),
    ("server CPU", "server_cpu", words.cpu),
)


class Progress:
    """How a run goes, for as long as the context lasts; `update` is to be called about once a second."""

    def __init__(self, run: Run, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._console = console or Console()
        self._clock = clock
        self._line_due_s = clock() + LINE_EACH_S
        self._live: Live | None = None
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            handlers = list(_handlers_on({sys.stdout, sys.stderr}))
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            # Starting has put a stream that writes above the block in the place of both; handlers still hold the old.
            self._moved = [(handler, handler.setStream(sys.stderr)) for handler in handlers]
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            for handler, stream in self._moved:
                handler.setStream(stream)
            self._live.stop()
            self._live = None

    def update(self) -> None:
        """Draw the live block again, or print a line if the last one is long ago."""
        second = self._run.seconds[-1] if self._run.seconds else {}
        if self._live is not None:
            self._live.update(_block(self._run, second), refresh=True)
        elif self._clock() >= self._line_due_s:
            self._line_due_s = self._clock() + LINE_EACH_S
            told = ", ".join(f"{name} {say(second.get(key))}" for name, key, say in SHOWN)
            progress = words.progress(self._run.phase, self._run.elapsed_s, self._run.remaining_s)
            print(f"{progress}; {told}", file=self._console.file, flush=True)


def print_summary(result: Result, report: Path | None = None, console: Console | None = None) -> None:
    """Print what a run came to: the verdict first, then the goals, the figures and where the report is."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(summary(result), highlight=False)
    if report is not None:
        # Never broken: it is there to be copied.
        console.print(Text(f"\nReport: {report}"), soft_wrap=True)


def summary(result: Result) -> RenderableType:
    """Return what a run came to as something that `rich` prints."""
    verdict, figures = result["verdict"], result["figures"]
    tone = words.tone(verdict)
    parts: list[RenderableType] = [Text(f"{words.SIGNS[tone]} {verdict['headline']}", style=f"bold {STYLES[tone]}")]
    parts += [_indented(one, STYLES[tone]) for one in words.complaints(verdict)]
    parts += [_goal(goal) for goal in verdict.get("goals", [])]
    parts += [_indented(note) for note in result.get("notes", [])]
    parts += [Text(), _times(figures), Text(), *_counts(figures)]
    return Group(*parts)


# The live block


def _block(run: Run, second: dict[str, Any]) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    total = None if run.remaining_s is None else run.elapsed_s + max(run.remaining_s, 0)
    bar = ProgressBar(total=total, completed=run.elapsed_s, width=28, complete_style="cyan", finished_style="cyan")
    progress = words.progress(run.phase, run.elapsed_s, run.remaining_s)
    if total is None:
        head.add_row(Text(progress, style="bold"))
    else:
        head.add_row(bar, Text(progress, style="bold"))
    return Group(head, _cells(second))


def _cells(second: dict[str, Any]) -> Table:
    cells = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(3):
        cells.add_column(style="dim", no_wrap=True)
        cells.add_column(justify="right", min_width=8, no_wrap=True)
    # The second and the third of a line stand a little apart from the value before them.
    told = [
        (f"  {name}" if n % 3 else name, _value(key, second.get(key), say)) for n, (name, key, say) in enumerate(SHOWN)
    ]
    for first in range(0, len(told), 3):
        cells.add_row(*(part for cell in told[first : first + 3] for part in cell))
    return cells


def _value(key: str, value: float | None, say: Callable[[float | None], str]) -> Text:
    return Text(say(value), style="bold red" if key == "missing" and value else "bold")


def _handlers_on(streams: set[Any]) -> Iterator[logging.StreamHandler[Any]]:
    loggers = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                yield handler


# The summary


def _indented(sentence: str, style: str = "") -> Padding:
    return Padding(Text(sentence, style=style), (0, 0, 0, 2))


def _goal(goal: dict[str, Any]) -> Text:
    sign, style = ("✓", "green") if goal["is_met"] else ("✕", "yellow")
    return Text.assemble("  ", (f"{sign} {goal['goal']}", style), f": {words.goal(goal)}")


def _times(figures: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for name in words.PERCENTILES.values():
        table.add_column(name, justify="right", no_wrap=True)
    for timed, said in words.times(figures):
        table.add_row(timed.name, *said, style="bold" if timed.key == "latency" else "")
    return table


def _counts(figures: dict[str, Any]) -> Iterator[Text]:
    names = ("deliveries_per_s", "members", "rate_reached", "rate_planned")
    deliveries, members, reached, planned = (words.count(figures.get(name)) for name in names)
    yield Text(f"{deliveries} deliveries/s to {members} members, {reached} of {planned} messages/s sent")
    yield Text(words.account(figures))
    told = [
        (f"server CPU {words.cpu(figures.get('server_cpu'))}", "server_cpu"),
        (f"server memory {words.memory(figures.get('server_memory_bytes'))}", "server_memory_bytes"),
        (f"busiest second of the generator {words.cpu(figures.get('generator_cpu_max'))}", "generator_cpu_max"),
    ]
    known = [text for text, key in told if not words.is_missing(figures.get(key))]
    if known:
        yield Text(", ".join(known))
