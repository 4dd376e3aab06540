"""Where runs of the load harness are forked from a process that has imported locust.

Importing it costs a second of processor time, and there are some forty runs. What is forked is what `python -m locust`
starts: a process that leads a session of its own, with its own arguments, output and exit code.
"""

import contextlib
import gc
import importlib
import inspect
import json
import os
import select
import socket
import subprocess
import sys
from os import fork, waitpid  # before gevent puts its own in their places
from types import TracebackType
from typing import IO

from tests.fake_result import make_result
from tests.support import ROOT

NEEDED = ("locust.main", "loadtest.conductor", "loadtest.page", "loadtest.player", "loadtest.terminal", "loadtest.web")


class Forked:
    """A run, waited for as a `subprocess.Popen` is."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.pid = int(os.read(status, 20))
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Return its exit code when it has ended."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("locust", timeout)
            self.returncode = int(os.read(self._status, 20))
            os.close(self._status)
        return self.returncode


class Forge:
    """The process that forks; as a context manager it is gone at the end."""

    def __enter__(self) -> "Forge":
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forge", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._control.close()
        self._process.wait()

    def start(self, arguments: list[str], stdout: IO[str], stderr: IO[str]) -> Forked:
        """Start locust with these arguments."""
        ours, theirs = os.pipe()
        socket.send_fds(self._control, [json.dumps(arguments).encode()], [stdout.fileno(), stderr.fileno(), theirs])
        os.close(theirs)
        return Forked(ours)


def await_order(control: socket.socket) -> list[str] | None:
    """Fork for every run that is asked for; return its arguments in the fork, and None at the end."""
    while True:
        order, fds, *_ = socket.recv_fds(control, 1 << 16, 3)
        if not order:
            return None
        if not fork():
            control.close()
            become_run(*fds)
            return json.loads(order)
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while waitpid(-1, os.WNOHANG)[0]:
                pass


def become_run(stdout: int, stderr: int, status: int) -> None:
    """Be a run that somebody waits for: this process does, and another one returns."""
    if run := fork():
        _, how = waitpid(run, 0)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(how))
        os._exit(0)
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.write(status, b"%d\n" % os.getpid())
    for fd in (stdout, stderr, status):
        os.close(fd)


def main() -> None:
    """Do once what every run would do for itself: import, find the sources, compile the templates."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in NEEDED:
        importlib.import_module(name)
    inspect.stack()
    sys.modules["loadtest.page"].report(make_result(number=100), "")
    gc.freeze()  # else a run spends half its time on taking down what it has from here
    arguments = await_order(control)
    if arguments is not None:
        sys.argv = ["locust", *arguments]
        sys.modules["locust.main"].main()


if __name__ == "__main__":
    main()
