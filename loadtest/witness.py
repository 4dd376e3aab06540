"""Programs in C, made once from their source; and the witness, `reference.c`, run as members beside the harness.

Owns the compiler's call, the cache of what it made, and the process. It knows a server by its port, and no harness.
Invariant: a program is only ever run for the very source it was made of; what cannot be done is one sentence.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

SOURCE = Path(__file__).with_name("reference.c")
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")

END_S = 20.0


class CannotRun(Exception):
    """There is nothing to compare, for the reason in its one sentence."""


def built(source: Path = SOURCE, *others: Path, flags: Sequence[str] = ()) -> Path:
    """Return the program made from C sources and headers, compiled when there is none of these very bytes in the cache.

    Raises CannotRun without a compiler.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not compiler:
        raise CannotRun(
            f"{source.name} was not compiled: there is no C compiler (Debian: apt-get install gcc libc6-dev)."
        )
    files = (source, *others)
    texts = b"\0".join(file.read_bytes() for file in files)
    key = hashlib.sha256("\0".join([compiler, *FLAGS, *flags]).encode() + texts).hexdigest()[:16]
    program = cache_folder() / f"{source.stem}-{key}"
    if not program.exists():
        draft = program.with_name(f"{program.name}.{os.getpid()}")  # two may compile at the same time
        compiled = [str(file) for file in files if file.suffix == ".c"]
        command = [compiler, *FLAGS, "-o", str(draft), *compiled, *flags, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRun(f"{source.name} does not compile:\n{done.stderr}")
        draft.replace(program)
    return program


def cache_folder() -> Path:
    """Return a folder of the user's own for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "chatroom-loadtest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Program:
    """A program of members: it says `entered N` when they are in, and ends with a line of JSON."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is ours: we end it
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def await_entered(self) -> None:
        """Wait until all are in; raises CannotRun if they do not come in."""
        assert self._process.stdout
        said = b""  # read by bytes: what comes behind the line is `communicate`'s, which knows no buffer of ours
        while not said.endswith(b"\n") and (byte := os.read(self._process.stdout.fileno(), 1)):
            said += byte
        if not said.startswith(b"entered"):
            raise CannotRun(f"The members could not enter: {self._process.communicate()[1].strip()}")

    def end(self) -> dict[str, Any]:
        """Let them go and return what they saw."""
        self._process.send_signal(signal.SIGTERM)
        return self.report(END_S)

    def report(self, patience_s: float) -> dict[str, Any]:
        """Wait until they have gone and return what they saw."""
        try:
            said, complaint = self._process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"The members did not go within {patience_s:g} s.") from None
        lines = [line for line in said.splitlines() if line.startswith("{")]
        if not lines:
            raise CannotRun(f"The members said nothing: {complaint.strip()}")
        report: dict[str, Any] = json.loads(lines[-1])
        return report


class Witness(Program):
    """The members of `reference.c`, who time what they hear."""

    def __init__(self, port: int, room: str, members: int, join_rate: float = 0.0, subprotocol: str = "") -> None:
        """They come in at `join_rate` members a second, 0 is as fast as it goes."""
        options = {"port": port, "path": f"/ws?room={room}", "members": members, "join-rate": join_rate}
        named = [f"--{name}={value}" for name, value in options.items()]
        super().__init__([built(), *named, f"--subprotocol={subprotocol}"])
