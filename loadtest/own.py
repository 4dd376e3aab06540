"""One run against a chat room of its own: `python -m loadtest run`, which is `make load`.

Owns the server's process for the time of the run: a free port, a database in a temporary folder, no rate limit, so that
it disturbs no server that is there already. Everything else is the locustfile's.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from loadtest.machine import Cores, allow_open_files
from loadtest.peers import CHATROOM, ROOT, serving

OPEN_FILES: Final = 1 << 17


def main(argv: Sequence[str]) -> int:
    """Run with these options of the locustfile; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with us
    allow_open_files(OPEN_FILES)  # the server inherits it
    cores = Cores.split()
    cores.take_load()
    try:
        with serving(CHATROOM, cores) as server:
            return harness(server.port, argv)
    except RuntimeError as error:
        print(f"The chat room cannot be measured: {error}.", file=sys.stderr)
        return 1


def harness(port: int, argv: Sequence[str]) -> int:
    """Run the harness against a server here, and let it finish its report if somebody presses Ctrl-C."""
    locustfile = str(ROOT / "loadtest" / "locustfile.py")
    command = [sys.executable, "-m", "locust", "-f", locustfile, "--headless", "-H", f"http://127.0.0.1:{port}", *argv]
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal has told the harness, too
                continue
