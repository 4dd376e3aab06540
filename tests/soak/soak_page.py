"""What takes too long for `make test`: the page in a talkative room for minutes, in a storm, and how soon it is ready.

Measured by Chromium's own means (tests/soak/browser.py), on a machine that does nothing else. Times and visits can be
made shorter to try it: SOAK_FLAT_S, SOAK_STORM_S, SOAK_VISITS; SOAK_REPORT names a file for the figures.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.pages import House, fill_room
from tests.soak.browser import READY, Memory, Task, answers_ms, memory, traced, watch_keys
from tests.support import DEADLINE_S, ROOT, Client

FLAT_S = float(os.environ.get("SOAK_FLAT_S", "600"))
STORM_S = float(os.environ.get("SOAK_STORM_S", "60"))
VISITS = int(os.environ.get("SOAK_VISITS", "20"))
REPORT = os.environ.get("SOAK_REPORT", "")

TALKATIVE = 50.0  # messages a second
STORM = 1000.0
SAMPLES = 20
SETTLING = 0.4  # of the time: until then the page fills to what it may hold
MOST_GROWTH = 0.1  # of the mean, in 18,000 messages: some 20 bytes each
MOST_TASK_MS = 100
MOST_ANSWER_MS = 200  # what people still take for at once
MOST_READY_MS = 300
KEY_EVERY_MS = 120
LINE_KEYS = 40


class Report:
    """The figures, as a table of Markdown for people."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table and print it."""
        lines = [f"## {title}", "", line(head), line(["--:"] * len(head)), *map(line, rows), ""]
        self.lines += lines
        print("\n" + "\n".join(lines))


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    report = Report()
    yield report
    if REPORT:
        Path(REPORT).write_text("\n".join(report.lines))


class Talk:
    """People who talk in a room; a context manager, within which they begin and end."""

    def __init__(self, house: House, rate: float, seconds: float) -> None:
        self.rate = rate
        self._seconds = seconds
        self._command = [sys.executable, "-m", "tests.soak.talk", house.url, house.room, str(rate), str(seconds)]

    def __enter__(self) -> "Talk":
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self._process.kill()
        told, _ = self._process.communicate(timeout=self._seconds + DEADLINE_S)
        self.told = {} if kind else json.loads(told)

    @property
    def goes_on(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        """All was said at the rate it had to be."""
        reached = self.told["rate"]
        assert reached > 0.99 * self.rate, f"only {reached:.0f} messages/s were said: the machine is too busy"


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# Memory


def test_ten_minutes_of_talk_leave_heap_and_dom_flat(house: House, report: Report) -> None:
    """At 50 messages a second the page fills to what it may hold, and from then on holds no more."""
    ann = house.enter("Ann")
    session = ann.context.new_cdp_session(ann)
    samples = [memory(session, 0)]
    with Talk(house, TALKATIVE, FLAT_S) as talk:
        start_s = time.monotonic()
        for number in range(1, SAMPLES + 1):
            ann.wait_for_timeout(max(0, start_s + number * FLAT_S / SAMPLES - time.monotonic()) * 1000)
            samples.append(memory(session, time.monotonic() - start_s))
    settled = [sample for sample in samples if sample.at_s > SETTLING * FLAT_S]
    heap, nodes = growth(settled, "heap_bytes"), growth(settled, "nodes")
    report.table(
        f"{FLAT_S:.0f} s at {talk.told['rate']:.1f} messages/s: after settling heap {heap:+.1%}, nodes {nodes:+.1%}",
        ("time", "heap after GC", "DOM nodes", "listeners"),
        [
            (f"{one.at_s:.0f} s", f"{one.heap_bytes / 1e6:.2f} MB", f"{one.nodes:,}", f"{one.listeners:,}")
            for one in samples
        ],
    )
    expect_to_follow(ann, house)
    talk.check()
    assert heap < MOST_GROWTH
    assert nodes < MOST_GROWTH


def growth(samples: Sequence[Memory], what: str) -> float:
    """How much more there is at the end than at the beginning, by the straight line that fits best; of the mean."""
    times, values = [sample.at_s for sample in samples], [getattr(sample, what) for sample in samples]
    return statistics.linear_regression(times, values).slope * (times[-1] - times[0]) / statistics.mean(values)


def expect_to_follow(page: Page, house: House) -> None:
    """Whoever speaks when the talk is over is seen, and nothing that was written here is left behind."""
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("and that was the end")
        expect(page.get_by_text("and that was the end", exact=True)).to_be_in_viewport()
    expect(page.locator(".message.waiting, .message.held, .message.failed")).to_have_count(0)


# A storm


def test_a_thousand_messages_a_second_leave_the_page_usable(house: House, report: Report, tmp_path: Path) -> None:
    """No task keeps the page's thread for long, each key is soon on the screen, and what was written goes out."""
    ann = house.enter("Ann")
    watch_keys(ann)
    with traced(ann, tmp_path / "trace.json") as tasks, Talk(house, STORM, STORM_S) as talk:
        pressed = write_until_the_end_of(talk, ann, STORM_S)
    answers = answers_ms(ann, pressed)
    show_storm(report, talk, tasks, answers)
    expect_to_follow(ann, house)
    talk.check()
    assert max(task.ms for task in tasks) <= MOST_TASK_MS
    assert answers[-1] <= MOST_ANSWER_MS


def write_until_the_end_of(talk: Talk, page: Page, seconds: float) -> int:
    """Write and now and then send; how many keys that were."""
    page.locator("#text").focus()
    end_s, pressed = time.monotonic() + seconds, 0
    while time.monotonic() < end_s and talk.goes_on:
        pressed += 1
        page.keyboard.press("a" if pressed % LINE_KEYS else "Enter")
        page.wait_for_timeout(KEY_EVERY_MS)
    return pressed


def show_storm(report: Report, talk: Talk, tasks: Sequence[Task], answers: Sequence[float]) -> None:
    kinds = {
        "tasks": sorted(task.ms for task in tasks),
        "tasks, of a core": sorted(task.cpu_ms for task in tasks),
        "key to paint": answers,
    }
    report.table(
        f"{STORM_S:.0f} s at {talk.told['rate']:,.0f} messages/s, the latest {talk.told['latest_ms']:.0f} ms late",
        ("", "count", "p50", "p99", "max"),
        [
            (
                kind,
                f"{len(times):,}",
                *(f"{ms:.1f} ms" for ms in (percentile(times, 0.5), percentile(times, 0.99), times[-1])),
            )
            for kind, times in kinds.items()
        ],
    )
    longest = sorted(tasks, key=lambda task: -task.ms)[:5]
    report.table(
        "The longest tasks",
        ("at", "time", "of a core", "most of it"),
        [(f"{task.at_s:.2f} s", f"{task.ms:.1f} ms", f"{task.cpu_ms:.1f} ms", task.work) for task in longest],
    )


# The first second


def test_the_page_is_ready_to_type_in_at_once(house: House, report: Report) -> None:
    """From the click on a link to a field that takes letters and an open line, with nothing in the cache and again."""
    fill_room(house.url, house.room, 60)
    house.enter("Ann")  # Chromium and the server have done everything once
    first, again = zip(*(visit_twice(house) for _ in range(VISITS)), strict=True)
    report.table(
        f"Ready to type in, {VISITS} visits",
        ("", "median", "min", "max"),
        [
            (kind, *(f"{ms:.0f} ms" for ms in (statistics.median(times), min(times), max(times))))
            for kind, times in {"first visit": first, "again": again}.items()
        ],
    )
    assert statistics.median(first) <= MOST_READY_MS


def visit_twice(house: House) -> tuple[float, float]:
    """How long a browser's first visit took until the page was ready, and its second; in ms."""
    context = house.person()
    context.add_init_script(READY)
    page = house.enter("Ann", context)
    first = ready_ms(page)
    page.reload()
    again = ready_ms(page)
    page.close()
    return first, again


def ready_ms(page: Page) -> float:
    return float(page.wait_for_function("() => window.readyMs").json_value())
