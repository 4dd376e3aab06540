"""Several servers on one port of this machine: they are started, started anew when one dies, and ended together.

This process serves nobody. It holds every listening socket, one for each server, so that whoever knocks while a server
starts anew waits for it. Invariants: a server that refuses to start ends them all, with its status; what this process
is told by a signal, all are told; none of them outlives it.

They count into one folder, in which there is also a file for each that runs: its name tells whose place it has, 1 and
so on, and its process id. A place keeps its number whoever takes it, as an alert follows one series from one to the
next.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Metric, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from chat import starting
from chat.eventlog.meeting import Meeting
from chat.settings import Settings

log = logging.getLogger("chatroom")

LISTENERS, LIFELINE, METRICS = "CHATROOM_LISTENERS", "CHATROOM_LIFELINE", "PROMETHEUS_MULTIPROC_DIR"
_RUNNING = "running_"
_SETTLED_S = 10.0  # one that dies younger is started anew with a pause
_PAUSE_S = 1.0


class Supervisor:
    """`command` starts one server; it finds its sockets in its environment: see `handed_listeners`."""

    def __init__(self, settings: Settings, command: Sequence[str]) -> None:
        """Look at what the servers will need, and listen; raises BadOption and LogRefused."""
        starting.tls_context(settings)
        Meeting(settings.redis)
        self._command = command
        self._sockets = starting.listen_shared(settings.port, settings.address, settings.processes)
        self._servers: set[asyncio.subprocess.Process] = set()
        self._is_stopping = False
        self._is_greeted = False
        self._status = 0

    async def run(self) -> int:
        """Return once all servers have ended, with the status of one that refused to start or ended badly, or 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._tell, signal.SIGHUP)
        lifeline, kept = os.pipe()
        try:
            with tempfile.TemporaryDirectory(prefix="chatroom-") as folder:
                environment = {**os.environ, METRICS: folder, LIFELINE: str(lifeline)}
                places = enumerate(self._sockets, 1)
                await asyncio.gather(*(self._keep(*place, lifeline, environment) for place in places))
        finally:
            os.close(lifeline)
            os.close(kept)
        return self._status

    async def _keep(self, place: int, sockets: list[socket.socket], lifeline: int, environment: dict[str, str]) -> None:
        """Have one server run on these sockets for as long as the others."""
        files = [each.fileno() for each in sockets]
        environment = {**environment, LISTENERS: ",".join(map(str, files))}
        is_proven = False
        while not self._is_stopping:
            began_s = time.monotonic()
            server = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                pass_fds=(*files, lifeline),
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for this process, which tells them
            )
            self._servers.add(server)
            _note_start(environment[METRICS], place, server.pid)
            if self._is_stopping:  # since it was begun
                server.send_signal(signal.SIGTERM)
            assert server.stdout is not None
            greeting = (await server.stdout.read()).decode()  # it lets go of its output once it serves
            if greeting:
                self._greet(greeting)
            is_proven = is_proven or bool(greeting)
            status = await server.wait()
            self._servers.discard(server)
            _note_end(environment[METRICS], place, server.pid)
            if self._is_stopping and not greeting and status == -signal.SIGTERM:
                status = 0  # it was told before it had begun to listen to that
            if self._is_stopping or not is_proven:
                self._status = self._status or status
                if not self._is_stopping:
                    self._stop()
                return
            log.error("server %d ended with status %d and is started anew", server.pid, status)
            if time.monotonic() - began_s < _SETTLED_S:
                await asyncio.sleep(_PAUSE_S)

    def _greet(self, greeting: str) -> None:
        if not self._is_greeted:
            self._is_greeted = True
            print(greeting, end="", flush=True)

    def _stop(self) -> None:
        """Tell all to stop; who is told a second time stops at once."""
        self._is_stopping = True
        self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for server in self._servers:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(number)


def handed_listeners() -> list[socket.socket]:
    """The listening sockets of a server that is one of several; none if it is alone."""
    if LIFELINE in os.environ:
        atexit.register(_leave_folder)
    files = os.environ.get(LISTENERS, "")
    return [socket.socket(fileno=int(file)) for file in files.split(",") if file]


def follow_lifeline(stop: asyncio.Event) -> None:
    """Have a server that is one of several say that it serves, and stop when its supervisor is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    lifeline = int(os.environ[LIFELINE])
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(lifeline)
        stop.set()

    loop.add_reader(lifeline, ended)


def _note_start(folder: str, place: int, pid: int) -> None:
    Path(folder, f"{_RUNNING}{place}_{pid}").touch()


def _note_end(folder: str, place: int, pid: int) -> None:
    Path(folder, f"{_RUNNING}{place}_{pid}").unlink()
    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def _leave_folder() -> None:
    """If the supervisor is gone, and this is the last server, remove what it no longer can."""
    is_gone, *_ = select.select([int(os.environ[LIFELINE])], [], [], 0)
    if not is_gone:
        return
    folder = Path(os.environ[METRICS])
    for own in folder.glob(f"{_RUNNING}*_{os.getpid()}"):
        own.unlink()
    if not any(folder.glob(f"{_RUNNING}*")):
        shutil.rmtree(folder, ignore_errors=True)


def counted() -> CollectorRegistry:
    """What this server has counted or, if it is one of several, all of them."""
    if METRICS not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_Processes())
    return registry


class _Processes(Collector):
    """The `process_` metrics, which a MultiProcessCollector lacks, of each server that runs, labelled by its place."""

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for running in sorted(os.listdir(os.environ[METRICS])):
            if not running.startswith(_RUNNING):
                continue
            place, pid = running.removeprefix(_RUNNING).split("_")
            for one in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                metric = metrics.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    metric.add_sample(sample.name, {"process": place}, sample.value)
        return metrics.values()
