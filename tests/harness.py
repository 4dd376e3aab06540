"""The load harness as its users run it: a process with a command line, and what it leaves behind.

Every run here is small and short. What is asked of each: it does not crash, its account comes out, and its exit code
is the one that its result names. Whether it is VALID is never asked: that is the machine's affair.
"""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from loadtest.histogram import Histogram
from loadtest.result import load_result
from loadtest.verdict import INVALID
from tests.forge import Forge, Forked
from tests.support import ROOT

LOCUSTFILE = str(ROOT / "loadtest" / "locustfile.py")
RUN_S = 60.0  # no run here may take longer, however busy the machine is
SHORT = {"members": 8, "senders": 1, "warmup": 0.3, "duration": 1, "drain": 3}


@dataclass(frozen=True)
class Ended:
    """What a run left: its exit code, its words and its result, which is empty if there was none."""

    exit_code: int
    stdout: str
    stderr: str
    result: dict[str, Any]

    @property
    def figures(self) -> dict[str, float]:
        return self.result["figures"]

    @property
    def verdict(self) -> dict[str, Any]:
        return self.result["verdict"]

    @property
    def words(self) -> str:
        """The verdict and the notes, in full sentences."""
        return " ".join([self.verdict["headline"], *self.verdict["reasons"], *self.result["notes"]])

    def counts(self, *names: str) -> dict[str, float]:
        return {name: self.figures[name] for name in names}

    def times(self, name: str) -> Histogram:
        return Histogram.from_wire(self.result["histograms"][name])


class Harness:
    """A run in a process group of its own; as a context manager it is gone at the end, whatever happened."""

    forge: Forge  # of the module that runs it

    def __init__(self, start: Callable[[IO[str], IO[str]], "Forked | subprocess.Popen[str]"], out: Path) -> None:
        """`start` is given where its output goes."""
        self.out = out
        with contextlib.ExitStack() as stack:
            self._stdout = stack.enter_context(tempfile.TemporaryFile("w+"))
            self._stderr = stack.enter_context(tempfile.TemporaryFile("w+"))
            self._process = start(self._stdout, self._stderr)
            self._files = stack.pop_all()

    @classmethod
    def against(cls, url: str, out: Path, *, files: int = 0, **options: Any) -> "Harness":
        """Run against a server by the locustfile; `files` is how many files the process may open."""
        options = {"adapter": "plain", **SHORT, **options}
        if "processes" in options:
            options["master_port"] = options["master_bind_port"] = free_port()
        command = ["-f", LOCUSTFILE, "--headless", "-H", url, *arguments(out, options)]
        if not files:
            return cls(lambda *output: cls.forge.start(command, *output), out)
        limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", sys.executable, "-m", "locust"]
        return cls(lambda *output: process([*limited, *command], *output), out)

    @classmethod
    def with_own_server(cls, out: Path, environment: dict[str, str], **options: Any) -> "Harness":
        """`python -m loadtest run`."""
        command = [sys.executable, "-m", "loadtest", "run", *arguments(out, {**SHORT, **options})]
        return cls(lambda *output: process(command, *output, PYTHONPATH=str(ROOT), **environment), out)

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(RUN_S)
        self._files.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        """Ctrl-C: the terminal tells all processes of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        """`kill`: only the first process is told."""
        os.kill(self.pid, signal.SIGTERM)

    def ended(self, *, is_loud: bool = False) -> Ended:
        """Wait for the end, and look at what every run has to leave in order; tracebacks only if it `is_loud`."""
        exit_code = self._process.wait(RUN_S)
        stdout, stderr = (written(file) for file in (self._stdout, self._stderr))
        there = (self.out / "result.json").exists()
        ended = Ended(exit_code, stdout, stderr, load_result(self.out) if there else {})
        assert is_loud or "Traceback" not in stdout + stderr, stdout + stderr
        if there:
            check(ended, self.out)
        return ended


def process(command: list[str], stdout: IO[str], stderr: IO[str], **environment: str) -> "subprocess.Popen[str]":
    """Start a command in a session of its own."""
    environment = {**os.environ, **environment}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=environment,
        start_new_session=True,
    )


def written(file: IO[str]) -> str:
    """What is in a file that somebody else wrote into."""
    file.seek(0)
    return file.read()


def run(url: str, out: Path, *, is_loud: bool = False, **options: Any) -> Ended:
    """Run to the end."""
    with Harness.against(url, out, **options) as harness:
        return harness.ended(is_loud=is_loud)


def free_port() -> int:
    """A port for locust's master, so that several can run at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def arguments(out: Path, options: dict[str, Any]) -> list[str]:
    """Options as a command line has them; True is one without a value."""
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return [*(f"--{name}" if value is True else f"--{name}={value}" for name, value in named.items()), f"--out={out}"]


def check(ended: Ended, out: Path) -> None:
    """What holds for every run that has a result."""
    figures, verdict = ended.figures, ended.verdict
    assert ended.exit_code == verdict["exit_code"], ended.stdout + ended.stderr
    assert (ended.exit_code == INVALID) == (not verdict["is_valid"])
    assert " ".join(verdict["headline"].split()) in " ".join(ended.stdout.split())
    assert figures["had_to_get"] == figures["received"] + figures["missing"] - figures["doubled"], figures
    assert json.loads((out / "result.json").read_text())["options"]["members"] > 0
    assert "#[Mean" in (out / "latency.hgrm").read_text()
    assert verdict["headline"].partition(":")[0] in (out / "report.html").read_text()
    assert math.isfinite(figures["members"])
