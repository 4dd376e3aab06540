"""The servers under test: how each is started, where it listens, and what its process uses.

Owns the processes and their folders. It knows a server by its command, its output and its process figures, and which
wire it speaks; nothing of what is said on it, and nothing of the server's code.
Invariant: whatever happens here, a server that was started is ended, and its folder with it.
"""

import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest.machine import Cores
from loadtest.wires import PlainWire, V1Wire, Wire

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0


@dataclass(frozen=True)
class Rival:
    """A server that can be started, and how to speak with it."""

    name: str
    wire: Callable[[], Wire]
    command: Callable[[Path], list[str]]


def chatroom_command(folder: Path) -> list[str]:
    """Return how the chat room is started with its database in `folder`."""
    options = ["--port=0", f"--database={folder / 'bench.db'}", "--message_rate=0"]
    return [sys.executable, str(ROOT / "chatroom.py"), *options]


def naive_command(folder: Path) -> list[str]:
    """Return how the plain Tornado server is started; it keeps nothing in `folder`."""
    return [sys.executable, "-m", "loadtest.naive", "--port=0"]


CHATROOM = Rival("chatroom", V1Wire, chatroom_command)
NAIVE = Rival("naive", PlainWire, naive_command)


class Server:
    """A server process with a folder of its own, killed at the end: only what it stored would need a goodbye."""

    def __init__(self, rival: Rival, cores: Cores) -> None:
        self.rival = rival
        self.cores = cores

    def __enter__(self) -> "Server":
        self._folder = tempfile.TemporaryDirectory(prefix="chatroom-bench-")
        folder = Path(self._folder.name)
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self.cores.of_server(), self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                self.rival.command(folder),
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C is ours: we end it
            )
        try:
            self.port = self._await_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _await_port(self) -> int:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            said = re.search(r"http://localhost:(\d+)/", self._stdout.read_text())
            if said:
                return int(said[1])
            time.sleep(0.05)
        raise RuntimeError(f"{self.rival.name} did not start:\n{self._stdout.read_text()}{self._stderr.read_text()}")

    def log_lines(self) -> list[str]:
        """Return what it has written to stderr."""
        return self._stderr.read_text(errors="replace").splitlines()

    def memory_bytes(self) -> int:
        """Return how much memory it holds."""
        statm = Path(f"/proc/{self._process.pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * resource.getpagesize()
        ps = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, check=True)
        return int(ps.stdout) * 1024

    def cpu_s(self) -> float:
        """Return how much processor time it has used; NaN where the system does not tell."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return math.nan
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
