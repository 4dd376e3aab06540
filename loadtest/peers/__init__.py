"""The servers that are compared: what each is, what it lacks on this machine, how that is fetched, how it is started.

Owns the servers' processes and `.peers/`, where all lies that had to be installed or compiled for them and which may be
deleted at any time. It knows no load, no rounds and no figures, and of a server its command and the address it prints.
Invariant: whatever happens, a server that was started is ended, and the folder it wrote into is gone.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.machine import Cores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FETCHED = ROOT / ".peers"
REQUIREMENTS = HERE / "requirements-peers.txt"
START_S = 20.0
FETCH_S = 600.0
BUN = Path("node_modules/bun/bin/bun.exe")  # so named on every system


def nothing() -> str:
    """Lack nothing: what it needs is there wherever the harness runs."""
    return ""


@dataclass(frozen=True)
class Peer:
    """A server that can be started, and how the harness speaks with it."""

    name: str
    what: str
    command: Callable[[Path], list[str]]  # with the folder that it may write into
    adapter: str = "plain"
    lacks: Callable[[], str] = nothing  # half a sentence, or nothing
    fetch: Callable[[], str] = nothing  # half a sentence that says why it failed, or nothing

    def prepare(self) -> str:
        """Fetch what can be fetched, and return half a sentence that says what is missing for all that, or nothing."""
        return self.lacks() and (self.fetch() or self.lacks())


class Serving:
    """A server's process while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        self.port = 0

    def await_port(self) -> None:
        """Wait until it has said where it listens.

        Raises RuntimeError with one sentence if it ends or says nothing.
        """
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self.is_up:
            if said := re.search(r"http://localhost:(\d+)/", self._stdout.read_text()):
                self.port = int(said[1])
                return
            time.sleep(0.02)
        raise RuntimeError(f"it did not start ({self.last_words or 'it said nothing'})")

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The last line that it wrote to stderr."""
        return last_line(self._stderr.read_text(errors="replace"))


@contextlib.contextmanager
def serving(peer: Peer, cores: Cores) -> Iterator[Serving]:
    """Start a server on its core and kill it at the end: only what it stored would need a goodbye.

    Raises RuntimeError with one sentence if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="chatroom-peer-") as name:
        process, folder = None, Path(name)
        try:
            process = started(peer.command(folder), folder, cores)
            server = Serving(process, folder)
            server.await_port()
            yield server
        finally:
            if process:
                end(process, signal.SIGKILL)


def started(command: list[str], folder: Path, cores: Cores) -> subprocess.Popen[bytes]:
    """Start a server on its core; what it says goes into the folder."""
    with cores.of_server(), (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is ours: we end it
        )


def end(process: subprocess.Popen[bytes], *signals: signal.Signals, grace_s: float = 5.0) -> None:
    """End a process that leads a session of its own, with all it started, by one signal after the other."""
    for number in signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def ran(command: list[str], cwd: Path) -> str:
    """Run a command to its end and return nothing, or the last line of its complaint."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not within {FETCH_S:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return complaint(done.stderr) or complaint(done.stdout) or f"exit status {done.returncode}"


def complaint(output: str) -> str:
    """Return the first line that calls itself an error, or else the last one."""
    errors = [line.strip() for line in output.splitlines() if re.search(r"\berror\b", line, re.IGNORECASE)]
    return errors[0] if errors else last_line(output)


def made(name: str) -> Path:
    """Make a folder within `.peers/`, which git is told to ignore, and return it."""
    folder = FETCHED / name
    folder.mkdir(parents=True, exist_ok=True)
    (FETCHED / ".gitignore").write_text("*\n")
    return folder


# Python: a venv of its own, so that nothing of ours can come to depend on what is in it.


def requirements() -> dict[str, str]:
    """Return the version that each package of the Python rivals is pinned to."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", REQUIREMENTS.read_text(), re.MULTILINE))


def python() -> str:
    """Return the interpreter of the rivals' venv."""
    return str(FETCHED / "python" / "bin" / "python")


def python_lacks() -> str:
    """Say which Python packages are missing."""
    there = {path.name for path in FETCHED.glob("python/lib/python*/site-packages/*.dist-info")}
    pins = [f"{name} {version}" for name, version in requirements().items()]
    missing = [pin for pin in pins if f"{pin.replace(' ', '-')}.dist-info" not in there]
    return f"{' and '.join(missing)} cannot be found in {FETCHED.name}/python" if missing else ""


def fetch_python() -> str:
    """Install the packages of the Python rivals."""
    pip = [python(), "-m", "pip", "--disable-pip-version-check", "--timeout=20", "--retries=1"]
    trouble = ran([sys.executable, "-m", "venv", str(made("python"))], ROOT)
    trouble = trouble or ran([*pip, "install", "--quiet", "-r", str(REQUIREMENTS)], ROOT)
    return f"pip could not install {REQUIREMENTS.name} ({trouble})" if trouble else ""


def by_python(script: str) -> Callable[[Path], list[str]]:
    """Return how a script is started in the rivals' venv."""
    return lambda _: [python(), str(HERE / script), "--port=0"]


# Node and Bun: both are pinned in package.json, and Bun's program is itself a package.


def node_folder() -> Path:
    """Return where npm installs."""
    return FETCHED / "node"


def node_packages() -> dict[str, str]:
    """Return the version that each package of package.json is pinned to."""
    pins: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    return pins


def npm_lacks(package: str) -> str:
    """Say whether a package is missing in the version that package.json names."""
    version = node_packages()[package]
    try:
        installed = json.loads((node_folder() / "node_modules" / package / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        installed = "none"
    return "" if installed == version else f"{package} {version} cannot be found in {FETCHED.name}/node"


def ws_lacks() -> str:
    """Say what is missing to run Node's `ws`."""
    return npm_lacks("ws") if shutil.which("node") else "there is no node here"


def bun_lacks() -> str:
    """Say what is missing to run Bun: its program, or a processor that it can run on."""
    missing = npm_lacks("bun")
    if missing:
        return missing
    trouble = ran([str(node_folder() / BUN), "--version"], ROOT)
    return f"bun does not run here ({trouble})" if trouble else ""


def fetch_node() -> str:
    """Install what package-lock.json names."""
    if not shutil.which("npm"):
        return "there is no npm here"
    made("node")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, node_folder())
    trouble = ran(["npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000"], node_folder())
    return f"npm could not install package-lock.json ({trouble})" if trouble else ""


def ws_command(_: Path) -> list[str]:
    """Return how the server on `ws` is started: beside its packages, where Node looks for them."""
    return ["node", str(shutil.copy(HERE / "ws.mjs", node_folder())), "--port=0"]


def bun_command(_: Path) -> list[str]:
    """Return how the server on Bun is started."""
    return [str(node_folder() / BUN), str(HERE / "bun.js"), "--port=0"]


# C: compiled when its program is older than its text.


def c_program() -> Path:
    """Return the compiled loop."""
    return FETCHED / "c" / "loop"


def c_lacks() -> str:
    """Say whether the loop has to be compiled."""
    program, text = c_program(), HERE / "loop.c"
    is_fresh = program.exists() and program.stat().st_mtime >= text.stat().st_mtime
    return "" if is_fresh else f"{FETCHED.name}/c/loop is not compiled"


def fetch_c() -> str:
    """Compile the loop."""
    if not shutil.which("cc"):
        return "there is no C compiler (cc) here"
    with tempfile.TemporaryDirectory(dir=made("c")) as folder:  # so that nobody starts half a program
        trouble = ran(["cc", "-O2", "-o", f"{folder}/loop", str(HERE / "loop.c")], ROOT)
        if not trouble:
            os.replace(f"{folder}/loop", c_program())
    return f"loop.c could not be compiled ({trouble})" if trouble else ""


def by_c(*options: str) -> Callable[[Path], list[str]]:
    """Return how the C loop is started."""
    return lambda _: [str(c_program()), "--port=0", *options]


def chatroom_command(folder: Path) -> list[str]:
    """Return how the chat room is started: as it is, but for the limit on how much one person may say."""
    database = folder / "x.db"
    return [sys.executable, str(ROOT / "chatroom.py"), "--port=0", f"--database={database}", "--message_rate=0"]


def tornado_command(_: Path) -> list[str]:
    """Return how the plain Tornado loop is started."""
    return [sys.executable, str(HERE / "tornado_loop.py"), "--port=0"]


CHATROOM = Peer("chatroom", "this chat room, which numbers and stores every message", chatroom_command, "chatroom")
PEERS = {
    peer.name: peer
    for peer in (
        CHATROOM,
        Peer("tornado", "Tornado, `write_message` for each member", tornado_command),
        Peer("websockets", "python `websockets`, its `broadcast()`",
             by_python("websockets_broadcast.py"), lacks=python_lacks, fetch=fetch_python),
        Peer("starlette", "Starlette on uvicorn, each member awaited in turn",
             by_python("starlette_each.py"), lacks=python_lacks, fetch=fetch_python),
        Peer("c", "an epoll loop in C, one `send()` a member a message", by_c(), lacks=c_lacks, fetch=fetch_c),
        Peer("c-batch", "the same in C, one `send()` a member a turn of the loop",
             by_c("--batch"), lacks=c_lacks, fetch=fetch_c),
        Peer("ws", "Node with `ws`, `send()` for each member", ws_command, lacks=ws_lacks, fetch=fetch_node),
        Peer("bun", "Bun, its own `publish()`", bun_command, lacks=bun_lacks, fetch=fetch_node),
    )
}  # fmt: skip


def versions() -> str:
    """Return what the rivals are pinned to."""
    pins = {**requirements(), **node_packages()}
    return ", ".join(f"{name} {version}" for name, version in pins.items())
