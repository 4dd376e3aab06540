"""Where processes are forked from one that has imported what they need.

Importing costs a run of the load harness a second of processor time and the server nearly half a one, and the tests
start hundreds of them. What is forked is what `python -m locust` and `python chatroom.py` start: a process that leads
a session of its own, with its own arguments, environment, folder, output and exit code.
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
from collections.abc import Callable
from os import fork, waitpid  # before gevent puts its own in their places
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).parent.parent
NUMBER_BYTES = 11  # of a line with a process id or an exit code


class Forked:
    """A process, waited for as a `subprocess.Popen` is."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.pid = int(os.read(status, NUMBER_BYTES))
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Return its exit code when it has ended."""
        if self.returncode is None:
            if not self._has_ended(timeout):
                raise subprocess.TimeoutExpired("forked", timeout)
            self.returncode = int(os.read(self._status, NUMBER_BYTES))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None and not self._has_ended(0):
            os.kill(self.pid, number)

    def _has_ended(self, timeout: float) -> bool:
        ended = select.poll()  # unlike select(), which knows no descriptor above 1023
        ended.register(self._status, select.POLLIN)
        return bool(ended.poll(timeout * 1000))


class Forge:
    """The process that forks; as a context manager it is gone at the end."""

    def __init__(self, what: str) -> None:
        """`what` is one of `MOULDS`."""
        self.what = what

    def __enter__(self) -> "Forge":
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forge", self.what, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._control.close()
        self._process.wait()

    def start(self, arguments: list[str], stdout: IO[str] | int, stderr: IO[str] | int, before: str = "") -> Forked:
        """Start one with these arguments, in our environment and folder; `before` is what it runs before."""
        ours, theirs = os.pipe()
        order = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "before": before}
        outputs = [file if isinstance(file, int) else file.fileno() for file in (stdout, stderr)]
        socket.send_fds(self._control, [json.dumps(order).encode()], [*outputs, theirs])
        os.close(theirs)
        return Forked(ours)


# In the process that forks


def await_order(control: socket.socket) -> dict[str, Any] | None:
    """Fork for every process that is asked for; return what was asked in the fork, and None at the end."""
    while True:
        order, fds, *_ = socket.recv_fds(control, 1 << 18, 3)
        if not order:
            return None
        if not fork():
            control.close()
            become_wanted(*fds)
            return dict(json.loads(order))
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while waitpid(-1, os.WNOHANG)[0]:
                pass


def become_wanted(stdout: int, stderr: int, status: int) -> None:
    """Be the process that somebody waits for: this one does, and another one returns."""
    if wanted := fork():
        os.close(stdout)
        os.close(stderr)
        _, how = waitpid(wanted, 0)
        tell(status, os.waitstatus_to_exitcode(how))
        os._exit(0)
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    tell(status, os.getpid())
    for fd in (stdout, stderr, status):
        os.close(fd)


def tell(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        os.write(status, b"%*d\n" % (NUMBER_BYTES - 1, number))


def run_of_locust() -> Callable[[], object]:
    """Do once what every run would do for itself: import, find the sources, compile the templates."""
    needed = ("loadtest.conductor", "loadtest.page", "loadtest.player", "loadtest.terminal", "loadtest.web")
    main: Callable[[], object] = importlib.import_module("locust.main").main
    for name in needed:
        importlib.import_module(name)
    inspect.stack()
    result = importlib.import_module("tests.fake_result").make_result(number=100)
    sys.modules["loadtest.page"].report(result, "")
    return main


def chatroom() -> Callable[[], object]:
    main: Callable[[], object] = importlib.import_module("chatroom").main
    return main


MOULDS = {"locust": run_of_locust, "chatroom": chatroom}


def main() -> None:
    """Import once, and be whatever is asked for."""
    name, control = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    run = MOULDS[name]()
    gc.freeze()  # else a run spends half its time on taking down what it has from here
    order = await_order(control)
    if order is None:
        return
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = [name, *order["arguments"]]
    sys.stdout = os.fdopen(1, "w", closefd=False)  # the one there was may believe that it is a file
    exec(order["before"], {name: sys.modules.get(name)})
    run()


if __name__ == "__main__":
    main()
