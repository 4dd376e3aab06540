"""The watch on the server under test, if it runs on this machine: its processor time and its memory.

Owns finding the process that listens on a port, by psutil. It knows no run and no figure.
"""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psutil

LOCAL = ("localhost", "127.0.0.1", "::1")
PORTS = {"https": 443, "wss": 443}

FAMILY_S = 10.0


class Watch:
    """One server process and its children; NaN where there is none to see."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._process = _listener(parts.port or PORTS.get(parts.scheme, 80)) if parts.hostname in LOCAL else None
        self._family: list[psutil.Process] = []
        self._look_again_s = 0.0
        self._used_s = self._cpu_s()
        self._at_s = time.monotonic()
        self.memory_before_bytes = self.memory_bytes()

    def cpu(self) -> float:
        """Return which share of a core it has used since the last time."""
        used_s, at_s = self._cpu_s(), time.monotonic()
        share = (used_s - self._used_s) / max(at_s - self._at_s, 0.001)
        self._used_s, self._at_s = used_s, at_s
        return share

    def memory_bytes(self) -> float:
        """Return its resident memory."""
        return self._sum(lambda process: process.memory_info().rss)

    def _cpu_s(self) -> float:
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def _sum(self, figure: Callable[[psutil.Process], float]) -> float:
        if self._process is None:
            return math.nan
        with contextlib.suppress(psutil.Error):
            if time.monotonic() > self._look_again_s:  # milliseconds: it looks at every process there is
                self._family = [self._process, *self._process.children(recursive=True)]
                self._look_again_s = time.monotonic() + FAMILY_S
            return float(sum(figure(process) for process in self._family))
        return math.nan


def _listener(port: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if _is_listening(connection, port) and connection.pid:
                return _eldest(psutil.Process(connection.pid), port)
    return None


def _eldest(process: psutil.Process, port: int) -> psutil.Process:
    """Return the one who opened the socket, of all who have inherited it from each other."""
    with contextlib.suppress(psutil.Error):
        while (parent := process.parent()) and any(_is_listening(one, port) for one in parent.net_connections("tcp")):
            process = parent
    return process


def _is_listening(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,))
