"""What takes too long for `make test`: an hour of a server whose members come and go, with all they can do there.

Sampled from outside (memory, descriptors, sizes of files), from `/metrics` and from inside (tests/soak/inside.py).
SOAK_SERVER_S makes it shorter; SOAK_SERVER_GRAPH and SOAK_SERVER_REPORT name files for the picture and the figures,
which are written every few minutes.
"""

import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.soak.churn import PEOPLE, Churn
from tests.soak.panels import Panel, svg
from tests.support import ServerProcess

SERVER_S = float(os.environ.get("SOAK_SERVER_S", "3600"))
GRAPH = os.environ.get("SOAK_SERVER_GRAPH", "")
REPORT = os.environ.get("SOAK_SERVER_REPORT", "")

SAMPLE_S = 10.0
OBJECTS_EVERY, WRITTEN_EVERY = 6, 12  # samples
SETTLING = 1 / 3  # of the time: until then memory fills to what it may hold
MOST_GROWTH = 0.02  # of the mean, over the rest of the time, beside the `client_id`s that have to be remembered
MOST_WAL_BYTES = 16 * 1024 * 1024
EMPTY_S = 60.0  # for the last one's leaving to have come to an end
MB = 1e6


@dataclass
class Sample:
    """The server at one moment."""

    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int
    database_bytes: int
    wal_bytes: int
    processor: float  # of one core, since the last sample
    p99_ms: float
    inside: dict[str, int]
    metrics: dict[str, float]

    @property
    def rest_bytes(self) -> int:
        """Memory beside what has to be remembered for 24 hours, and a cache with a bound."""
        return self.rss_bytes - self.inside["remembered_bytes"] - self.inside["names_bytes"]


@dataclass
class Soak:
    """One server under churn, and the samples of it."""

    server: ServerProcess
    churn: Churn
    process: psutil.Process
    began_s: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)

    async def sample(self) -> Sample:
        latencies = sorted(self.churn.latencies_ms)
        is_counting = len(self.samples) % OBJECTS_EVERY == 0
        inside = json.loads((await self.churn.fetch("/inside" + "?objects=1" * is_counting)).body)
        metrics = read_metrics((await self.churn.fetch("/metrics")).body.decode())
        self.churn.latencies_ms.clear()  # what the counting of objects itself held up
        sample = Sample(
            time.monotonic() - self.began_s,
            self.process.memory_info().rss,
            self.process.num_fds(),
            self.process.num_threads(),
            *file_sizes(self.server.database),
            self.process.cpu_percent() / 100,
            latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))] if latencies else 0.0,
            inside,
            metrics,
        )
        self.samples.append(sample)
        return sample

    async def run(self, seconds: float) -> None:
        """Churn, and sample, for so long."""
        while (left_s := self.began_s + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(SAMPLE_S, left_s))
            await self.sample()
            if len(self.samples) % WRITTEN_EVERY == 0:
                self.write()

    async def until_empty(self, start: Sample) -> Sample:
        """The server once everybody has left and all that this set off has ended."""
        end_s = time.monotonic() + EMPTY_S
        while True:
            last = await self.sample()
            gone = last.inside["rooms"] == last.inside["sockets"] == 0
            if gone and last.inside["tasks"] <= start.inside["tasks"] and last.descriptors <= start.descriptors:
                return last
            if time.monotonic() > end_s:
                return last
            await asyncio.sleep(1)

    # The figures

    @property
    def settled(self) -> list[Sample]:
        """The samples of the last two thirds, while people were there."""
        end_s = max(sample.at_s for sample in self.samples)
        return [one for one in self.samples if one.at_s > SETTLING * end_s and one.inside["sockets"] > PEOPLE / 2]

    def growth(self, what: str) -> tuple[float, float]:
        """By how many bytes an hour something grows, by the line that fits best, and by what share in the time seen."""
        times = [one.at_s for one in self.settled]
        values = [getattr(one, what) for one in self.settled]
        if len(set(times)) < 2:
            return 0.0, 0.0
        slope = statistics.linear_regression(times, values).slope
        return slope * 3600, slope * (times[-1] - times[0]) / statistics.mean(values)

    def write(self) -> None:
        if GRAPH:
            Path(GRAPH).write_text(self.picture())
        if REPORT:
            Path(REPORT).write_text(self.report())

    def picture(self) -> str:
        def line(of: Any, scale: float = 1.0) -> list[tuple[float, float]]:
            return [(one.at_s, of(one) / scale) for one in self.samples]

        panels = [
            Panel(
                "Memory",
                "MB",
                {
                    "resident": line(lambda one: one.rss_bytes, MB),
                    "without remembered client_ids and names": line(lambda one: one.rest_bytes, MB),
                },
            ),
            Panel(
                "Descriptors, tasks",
                "",
                {"descriptors": line(lambda one: one.descriptors), "tasks": line(lambda one: one.inside["tasks"])},
            ),
            Panel(
                "Members, rooms",
                "",
                {
                    "members": line(lambda one: one.inside["sockets"]),
                    "rooms": line(lambda one: one.inside["rooms"]),
                },
            ),
            Panel(
                "Files",
                "MB",
                {
                    "database": line(lambda one: one.database_bytes, MB),
                    "WAL": line(lambda one: one.wal_bytes, MB),
                },
            ),
            Panel("From saying to hearing, p99 of 10 s", "ms", {"probe": line(lambda one: one.p99_ms)}),
        ]
        return svg("A server under churn", panels)

    def report(self) -> str:
        last, first = self.samples[-1], self.samples[0]
        a_hour, share = self.growth("rss_bytes")
        rest_a_hour, rest_share = self.growth("rest_bytes")
        rows: list[tuple[str, str]] = [
            ("time", f"{last.at_s:.0f} s, {len(self.samples)} samples"),
            ("memory, start, most, end", " ".join(f"{n / MB:.1f}" for n in self._ends("rss_bytes")) + " MB"),
            ("its growth after settling", f"{a_hour / MB:+.2f} MB an hour, {share:+.1%}"),
            ("without remembered client_ids and names", f"{rest_a_hour / MB:+.2f} MB an hour, {rest_share:+.1%}"),
            ("remembered", f"{last.inside['remembered']:,}, {last.inside['remembered_bytes'] / MB:.2f} MB"),
            ("descriptors, start, most, end", " ".join(map(str, self._ends("descriptors")))),
            ("threads, start, most, end", " ".join(map(str, self._ends("threads")))),
            (
                "processor",
                f"{statistics.mean(one.processor for one in self.settled or self.samples):.1%} of a core, in the mean",
            ),
            ("WAL, most", f"{max(one.wal_bytes for one in self.samples) / MB:.1f} MB"),
            ("database, end", f"{last.database_bytes / MB:.1f} MB"),
            ("p99 of the probe, median and most", f"{self._p99s()} ms"),
            *((f"inside: {name}", f"{first.inside.get(name, 0):,} {last.inside[name]:,}") for name in last.inside),
            *((f"objects at {one.at_s:.0f} s", f"{one.inside['objects']:,}") for one in self._counted()),
            *((f"done: {what}", f"{count:,}") for what, count in sorted(self.churn.done.items())),
            *((name, f"{value:,.0f}") for name, value in sorted(last.metrics.items())),
            ("faults", "; ".join(self.churn.faults[:20]) or "none"),
            ("log lines", f"{len(self.server.log):,}"),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])

    def _ends(self, what: str) -> tuple[int, int, int]:
        values = [getattr(one, what) for one in self.samples]
        return values[0], max(values), values[-1]

    def _counted(self) -> list[Sample]:
        counted = [one for one in self.samples if "objects" in one.inside]
        return counted[:: max(1, len(counted) // 12)]

    def _p99s(self) -> str:
        values = [one.p99_ms for one in self.samples]
        return f"{statistics.median(values):.1f}, {max(values):.1f}"


def file_sizes(database: Path | str) -> tuple[int, int]:
    """Of the database and its WAL, in bytes."""
    return os.path.getsize(database), os.path.getsize(f"{database}-wal")


def read_metrics(text: str) -> dict[str, float]:
    """The server's own figures, by name with labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("chatroom_"))
    return {name: float(value) for name, _, value in lines if "_bucket" not in name and "_created" not in name}


async def soak(server: ServerProcess) -> tuple[Soak, Sample, Sample]:
    churn = Churn(server.port)
    one = Soak(server, churn, psutil.Process(server.pid))
    for path in ("/", "/rooms", "/moderation"):  # what is read once and kept
        await churn.fetch(path)
    await one.sample()
    start = await one.sample()
    await churn.begin()
    await one.run(SERVER_S)
    await churn.end_lives()
    last = await one.until_empty(start)
    churn.end()
    one.write()
    return one, start, last


def test_an_hour_of_coming_and_going_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    """Memory is flat but for the `client_id`s of 24 hours; whoever has left has left nothing behind."""
    before = "import tests.soak.inside"
    options = {"send_buffer_bytes": 128 * 1024}
    with ServerProcess(tmp_path / "soak.db", environment={}, before=before, **options) as server:
        one, start, last = asyncio.run(soak(server))
        print("\n" + one.report())
        assert not one.churn.faults
        assert last.inside["rooms"] == last.inside["sockets"] == last.inside["people"] == 0
        assert last.inside["tasks"] <= start.inside["tasks"]
        assert last.inside["addresses"] == 0
        assert last.descriptors <= start.descriptors
        assert max(sample.wal_bytes for sample in one.samples) < MOST_WAL_BYTES
        assert server.terminate() == 0
    assert not [line for line in server.log if " ERROR " in line or "Traceback" in line]
    if SERVER_S >= 1800:  # sooner it has not settled
        assert one.growth("rest_bytes")[1] < MOST_GROWTH
