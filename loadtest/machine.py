"""The machine: which cores it has for whom, how many files may be open, what it is and how far it disturbs.

Owns everything asked of the operating system that is not about one process. It knows no servers and no load.
Invariant: where nothing can be pinned or told apart it says so, and the benchmark still runs.
"""

import contextlib
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tornado

PAUSES_S = 1.0


@dataclass(frozen=True)
class Cores:
    """Which cores the server and the load run on; both empty where they cannot be told apart."""

    server: frozenset[int] = frozenset()
    load: frozenset[int] = frozenset()

    @classmethod
    def split(cls) -> "Cores":
        """Give the first core to the server and the others to the load."""
        if not hasattr(os, "sched_setaffinity"):
            return cls()
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset([first]), frozenset(others)) if others else cls()

    def take_load(self) -> None:
        """Be on the cores of the load."""
        if self.load:
            os.sched_setaffinity(0, self.load)

    @contextlib.contextmanager
    def of_server(self) -> Iterator[None]:
        """Be on the server's core for a moment: what is started there stays there, with every thread it makes."""
        if self.server:
            os.sched_setaffinity(0, self.server)
        try:
            yield
        finally:
            self.take_load()

    def __str__(self) -> str:
        if not self.server:
            return "NOT PINNED (one core, or a system without CPU affinity): server and load share the cores"
        return f"server on core {min(self.server)}, load on {len(self.load)} other(s)"


def machine_line(cores: Cores) -> str:
    """Return when and on what this was measured."""
    model = _cpu_model()
    load = f", load average {os.getloadavg()[0]:.1f} at the start"
    return (
        f"{time.strftime('%Y-%m-%d %H:%M %Z')}, {model}, {os.cpu_count()} cores{load}; {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, Tornado {tornado.version}; loopback; {cores}; "
        f"databases on {file_system(Path(tempfile.gettempdir()))}; {pauses(cores)}"
    )


def facts() -> dict[str, Any]:
    """Return what a result says of the machine and of what the generator is made of."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_bytes / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("locust", "gevent", "websocket-client")},
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def file_system(folder: Path) -> str:
    """Return the type of the file system: on a `tmpfs` a commit costs no disk."""
    with contextlib.suppress(OSError):
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        holding = [(len(where), kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
        return max(holding)[1]
    return "an unknown file system"


def pauses(cores: Cores) -> str:
    """Return how much an idle loop is interrupted on the cores in use: a disturbed machine disturbs every latency."""
    found = []
    for core in sorted([*cores.server, *cores.load][:2]):
        os.sched_setaffinity(0, {core})
        found.append(pauses_ms(PAUSES_S))
    cores.take_load()
    found = found or [pauses_ms(PAUSES_S)]
    share = max(sum(gaps_ms) for gaps_ms in found) / PAUSES_S / 1000
    longest_ms = max(max(gaps_ms, default=0) for gaps_ms in found)
    return f"an idle loop was paused for {share:.0%} of the time, at most {longest_ms:.0f} ms at once"


def pauses_ms(seconds: float) -> list[float]:
    """Spin and return the gaps of a millisecond and more."""
    gaps_ms = []
    last_s = time.monotonic()
    end_s = last_s + seconds
    while last_s < end_s:
        now_s = time.monotonic()
        if now_s - last_s >= 0.001:
            gaps_ms.append((now_s - last_s) * 1000)
        last_s = now_s
    return gaps_ms


def allow_open_files(needed: int) -> int:
    """Raise the limit on open files for this process and its servers, and return how many of the needed it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
