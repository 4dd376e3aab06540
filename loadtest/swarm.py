"""The swarm: `swarm.c` made into a program, run against a server that is up, and what it reports.

Owns how the program is compiled and called, and how its report is read. It knows no plan, no rounds and no rival.
Invariant: a report that says it is wrong or was too slow itself never passes for a good one: `fault` says so.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from loadtest.witness import Program, built

HERE: Final = Path(__file__).resolve().parent
SOURCE_NAMES: Final = ("swarm.c", "swarm_account.c", "swarm_options.c", "swarm_tls.c", "swarm_wire.c", "swarm.h")
SOURCES: Final = tuple(HERE / name for name in SOURCE_NAMES)
TLS_FLAGS: Final = ("-DWITH_TLS", "-lssl", "-lcrypto")
WRONG: Final = (
    *("missing", "doubled", "reordered", "changed", "stray", "garbage", "dropped"),
    *("refused", "unanswered", "event_gaps", "wrong_acks"),
)
ENTER_S: Final = 300.0
Report = dict[str, Any]


def swarm_program(*, with_tls: bool = False) -> Path:
    """Return the compiled program; raises CannotRun without a compiler, or without OpenSSL where TLS is asked for."""
    return built(*SOURCES, flags=TLS_FLAGS if with_tls else ())


class Swarm(Program):
    """Members of one server while they are there."""

    def __init__(self, port: int, *options: str, adapter: str = "plain", server_pid: int = 0) -> None:
        """`options` are the program's own, as `--mode=rate`."""
        is_secure = "--tls" in options
        target = [f"--port={port}", f"--wire={adapter}", f"--server-pid={server_pid}"]
        super().__init__([swarm_program(with_tls=is_secure), *target, *options])
        timed = (one.partition("=")[2] for one in options if one.startswith(("--seconds=", "--warmup=")))
        self._lasting_s = sum(map(float, timed))

    def finish(self) -> Report:
        """Let it run to its end and return its report; raises CannotRun if there is none."""
        return self.report(self._lasting_s + ENTER_S)


def swarmed(port: int, options: str | Sequence[str], *, adapter: str = "plain", server_pid: int = 0) -> Report:
    """Run a swarm to its end and return its report; raises CannotRun if there is none."""
    listed = shlex.split(options) if isinstance(options, str) else options
    with Swarm(port, *listed, adapter=adapter, server_pid=server_pid) as swarm:
        swarm.await_entered()
        return swarm.finish()


def fault(report: Report) -> str:
    """Return half a sentence that says what is wrong with a run, or nothing."""
    if not report["right"]:
        counts = [f"{report[name]:,} {name.replace('_', ' ')}" for name in WRONG if report[name]]
        return f"WRONG deliveries: {', '.join(counts)}"
    if not report["valid"]:
        late_ms = report["lateness_ms"]["p99"]
        if report["stalls"]:
            return "INVALID: nothing was heard for a second, and more was said than may be under way"
        return f"INVALID: the load was late itself (p99 {late_ms:.1f} ms)" if late_ms else "INVALID: it was stopped"
    return ""


def figures(report: Report) -> dict[str, float]:
    """Return the numbers of a report by name; those of a histogram as `latency_ms.p99`."""
    found = {name: float(value) for name, value in report.items() if isinstance(value, (int, float))}
    for name, group in report.items():
        if isinstance(group, dict):
            found |= {f"{name}.{key}": float(value) for key, value in group.items() if value is not None}
    return found
