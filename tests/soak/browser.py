"""What Chromium itself tells of a page: its memory, the tasks of its main thread, how soon it answers a key."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import CDPSession, Page

SHORTEST_MS = 16  # an answer that is sooner is not told: it was within a frame


class Memory(NamedTuple):
    """What a page holds after everything has been collected that can be."""

    at_s: float
    heap_bytes: int
    nodes: int
    listeners: int


def memory(line: CDPSession, at_s: float) -> Memory:
    """Collect garbage and look at what is left."""
    line.send("HeapProfiler.collectGarbage")
    heap = line.send("Runtime.getHeapUsage")["usedSize"]
    counters = line.send("Memory.getDOMCounters")
    return Memory(at_s, int(heap), counters["nodes"], counters["jsEventListeners"])


class Task(NamedTuple):
    """One task of a page's main thread; `cpu_ms` is what it took of a core, and less if it had to wait for one."""

    at_s: float
    ms: float
    cpu_ms: float
    work: str
    """What took most of the time."""


CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
TASK = "RunTask"
TOLD_WORK_MS = 1


@contextmanager
def traced(page: Page, file: Path) -> Iterator[list[Task]]:
    """The tasks of the page's main thread, which are in the list afterwards."""
    browser = page.context.browser
    assert browser
    tasks: list[Task] = []
    browser.start_tracing(page=page, path=file, categories=CATEGORIES)
    try:
        yield tasks
    finally:
        browser.stop_tracing()
        tasks += main_tasks(json.loads(file.read_bytes())["traceEvents"])
        file.unlink()  # it is as long as the trace


def main_tasks(events: list[dict[str, Any]]) -> list[Task]:
    """The tasks of the main thread that worked most: ours, as there is only one page."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = {
        (event["pid"], event["tid"]): []
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    for event in events:
        if event["ph"] == "X" and (event["pid"], event["tid"]) in threads:
            threads[event["pid"], event["tid"]].append(event)
    return tasks_of(sorted(max(threads.values(), key=worked_us), key=lambda event: (event["ts"], -event["dur"])))


def worked_us(events: list[dict[str, Any]]) -> int:
    return sum(event["dur"] for event in events if event["name"] == TASK)


def tasks_of(events: list[dict[str, Any]]) -> list[Task]:
    """The tasks of one thread, each with what follows it until its end."""
    tasks: list[Task] = []
    work: Counter[str] = Counter()
    for event in reversed(events):
        if event["name"] == TASK:
            most = [f"{name} {us / 1e3:.0f} ms" for name, us in work.most_common(3) if us >= TOLD_WORK_MS * 1e3]
            at_s, ms, cpu_ms = (event["ts"] - events[0]["ts"]) / 1e6, event["dur"] / 1e3, event.get("tdur", 0) / 1e3
            tasks.append(Task(at_s, ms, cpu_ms, ", ".join(most)))
            work.clear()
        elif "ThreadController" not in event["name"]:  # which is the task once more
            work[event["name"]] += event["dur"]
    return tasks[::-1]


def watch_keys(page: Page) -> None:
    """Begin to note how long after each key the page was painted again."""
    page.evaluate(
        """(shortest) => {
        window.keysMs = [];
        new PerformanceObserver((list) => {
            const keys = list.getEntries().filter((entry) => entry.name === "keydown");
            window.keysMs.push(...keys.map((entry) => entry.duration));
        }).observe({ type: "event", durationThreshold: shortest });
    }""",
        SHORTEST_MS,
    )


def answers_ms(page: Page, pressed: int) -> list[float]:
    """How long each key waited for its picture, in order of length; what was not told took less than a frame."""
    told = page.evaluate("() => window.keysMs")
    return sorted([*told, *[float(SHORTEST_MS)] * (pressed - len(told))])


READY = """(() => {
    const note = () => {
        const [field, me] = ["text", "me"].map((id) => document.getElementById(id));
        if (!field || field.disabled || !me || me.disabled) return;
        watch.disconnect();
        field.focus();
        requestAnimationFrame(() => { if (document.activeElement === field) window.readyMs = performance.now(); });
    };
    const watch = new MutationObserver(note);
    watch.observe(document, { subtree: true, childList: true, attributes: true });
})()"""
"""Notes in `window.readyMs` when the field can be written in, the line is open, and that is on the screen."""
