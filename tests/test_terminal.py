"""A run in the terminal: what is seen of it while it goes on, and what it came to."""

import io
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtest import terminal
from loadtest.result import Run
from loadtest.verdict import Health
from tests.fake_result import make_result


class FakeRun:
    """A run that stands still."""

    phase = "measured"
    elapsed_s = 12.4
    remaining_s: float | None = 7.6
    is_over = False

    def __init__(self) -> None:
        self.seconds: list[dict[str, Any]] = make_result(missing=3, number=2000)["seconds"][:17]

    def result(self) -> dict[str, Any]:
        return make_result(number=2000)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def console_of(is_terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=80, color_system=None), file


def summary_of(result: dict[str, Any], report: Path | None = None) -> list[str]:
    console, file = console_of(False)
    terminal.print_summary(result, report, console)
    return file.getvalue().splitlines()


def test_where_nobody_watches_there_is_a_line_every_five_seconds() -> None:
    """With the figures of the last second."""
    console, file = console_of(False)
    clock = Clock()
    run: Run = FakeRun()
    with terminal.Progress(run, console, clock) as progress:
        for _ in range(11):
            clock.now_s += 1
            progress.update()
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("measured: 12 s, 8 s to go; members 1,000, deliveries/s ")
    assert ", missing 3, p50 " in lines[0]


def test_before_the_first_second_nothing_is_known() -> None:
    """And that is shown as well."""
    console, file = console_of(False)
    clock = Clock()
    run = FakeRun()
    run.seconds, run.remaining_s = [], None
    with terminal.Progress(run, console, clock) as progress:
        clock.now_s += 5
        progress.update()
    assert file.getvalue().startswith("measured: 12 s; members –, deliveries/s –")


def test_the_live_block_shows_every_figure() -> None:
    """Under the phase and what is left of the run."""
    console, file = console_of(True)
    run = FakeRun()
    with terminal.Progress(run, console) as progress:
        progress.update()
    shown = file.getvalue()
    assert "measured: 12 s, 8 s to go" in shown
    for name, _, _ in terminal.SHOWN:
        assert name in shown
    block, text = console_of(False)
    block.print(terminal._block(run, run.seconds[-1]))
    assert [len(line) <= 80 for line in text.getvalue().splitlines()] == [True] * 4


def test_the_live_block_starts_no_thread() -> None:
    """A thread would draw in the middle of the measuring."""
    before = threading.active_count()
    with terminal.Progress(FakeRun(), console_of(True)[0]) as progress:
        progress.update()
        assert threading.active_count() == before


def test_log_lines_go_above_the_live_block(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever holds the old stream writes through the block, and afterwards as before."""
    stream = sys.stderr
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.terminal")
    logger.addHandler(handler)
    console, file = console_of(True)
    try:
        with terminal.Progress(FakeRun(), console) as progress:
            progress.update()
            logger.info("silent")
            handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "All users spawned", (), None))
        assert handler.stream is stream
        assert sys.stderr is stream
    finally:
        logger.removeHandler(handler)
    assert "All users spawned" in file.getvalue()
    assert "All users spawned" not in capsys.readouterr().err


def test_the_summary_begins_with_the_verdict() -> None:
    """Then the goals, then the figures, and the report's path on a line of its own."""
    report = Path("results") / ("long" * 30) / "report.html"
    lines = summary_of(make_result(), report)
    assert lines[0] == "✓ VALID · goals met"
    assert lines[1].startswith("  ✓ p99<50ms: ")
    assert lines[2] == "  ✓ missing==0: 0"
    latency = next(line for line in lines if line.startswith("Fan-out latency"))
    assert latency.split()[2:4] == ["3.20", "ms"]
    assert lines[-1] == f"Report: {report}"


def test_the_summary_says_what_is_wrong() -> None:
    """Every reason, the wrong deliveries and the notes, before the figures; and never is never."""
    health = Health(seconds=20, busy_seconds=9, workers_lost=1)
    lines = summary_of(make_result(missing=300, health=health, notes=["The server dropped 2 members."]))
    text = "\n".join(lines)
    assert lines[0].startswith("✕ INVALID: 1 worker went missing")
    assert text.index("The generator was the bottleneck") < text.index("Wrong deliveries: 300 missing.")
    assert text.index("✕ p99<50ms: never") < text.index("The server dropped 2 members.")
    assert text.index("The server dropped 2 members.") < text.index("Fan-out latency")
    assert "20,000 received + 300 missing − 0 doubled: it comes out." in text.replace("\n", "")


def test_the_summary_fits_into_a_narrow_terminal() -> None:
    """Its table is not broken at 80 columns."""
    lines = summary_of(make_result(middle_ms=1500, slo=""))
    assert max(map(len, lines)) <= 80
    latency = next(line for line in lines if line.startswith("Fan-out latency"))
    assert len(latency.split()) == 2 + 2 * 6
