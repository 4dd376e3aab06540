"""Disks that are full, locked, read-only or broken: what people are told meanwhile, and that it ends by itself.

One real server goes through all of them, one after the other. It never gives up and loses nothing; what it could not
store is shown to nobody.
"""

import contextlib
import json
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.faults import report, times
from tests.support import DEADLINE_S, Client, ServerProcess, eventually

pytestmark = pytest.mark.xdist_group("disk")

ROUNDS = times("DISK_FAULTS", 1)
DISK_BYTES = 16 * 1024 * 1024
TEXT = "x" * 1000

# The server waits for others at its file, and until it tries again, less long; and whoever traces it may.
HASTE = """
import ctypes
from chat.eventlog import opening, sqlite
opening._BUSY_MS, sqlite._RETRY_S = 200, 0.1
if hasattr(ctypes.CDLL(None), "prctl"):
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_long(-1), 0, 0, 0)
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own, or (without the right to mount one) a folder."""
    folder = tmp_path_factory.mktemp("disk")
    is_mounted = shutil.which("mount") and not _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder)
    try:
        yield folder
    finally:
        if is_mounted:
            assert not _run("umount", folder)


def _run(*command: Any) -> int:
    return subprocess.run([*map(str, command)], capture_output=True, timeout=DEADLINE_S, check=False).returncode


@pytest.fixture(scope="module")
def server(disk: Path) -> Iterator[ServerProcess]:
    with ServerProcess(disk / "chatroom.db", before=HASTE, message_rate=0) as server:
        yield server
        assert server.terminate() == 0
        assert [line for line in server.log if "Traceback" in line] == []


# Faults, each for the time of a block


@contextlib.contextmanager
def full(server: ServerProcess) -> Iterator[None]:
    """No block is left on the disk; where it is not a small one of its own, no file may grow."""
    folder = Path(server.database).parent
    if not folder.is_mount():
        with no_longer_files(server):
            yield
        return
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def no_longer_files(server: ServerProcess) -> Iterator[None]:
    """The kernel lets no file grow (RLIMIT_FSIZE)."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    most = max(path.stat().st_size for path in Path(server.database).parent.glob("chatroom.db*"))
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def locked(server: ServerProcess) -> Iterator[None]:
    """Another program is writing to the file, and takes longer than the server waits for it."""
    with contextlib.closing(sqlite3.connect(server.database, isolation_level=None)) as db:
        db.execute(f"PRAGMA busy_timeout = {int(DEADLINE_S * 1000)}")
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def failing(server: ServerProcess, calls: str, error: str) -> Iterator[None]:
    """The kernel answers these calls on the database's files with an error."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    files = [option for suffix in ("", "-wal") for option in ("-P", f"{server.database}{suffix}")]
    command = ["strace", "-f", "-p", str(server.pid), *files, "-o", "/dev/null"]
    with subprocess.Popen(
        [*command, "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"], stderr=subprocess.PIPE, text=True
    ) as strace:
        assert strace.stderr is not None
        if "attached" not in (told := strace.stderr.readline()):
            pytest.skip(f"strace may not attach to a process here ({told.strip()}): run the tests as root")
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=DEADLINE_S)


def broken_writes(server: ServerProcess) -> contextlib.AbstractContextManager[None]:
    return failing(server, "pwrite64", "EIO")


def broken_syncs(server: ServerProcess) -> contextlib.AbstractContextManager[None]:
    return failing(server, "fdatasync,fsync", "EIO")


def read_only(server: ServerProcess) -> contextlib.AbstractContextManager[None]:
    """As the kernel makes a file system that it found damaged."""
    return failing(server, "pwrite64,ftruncate", "EROFS")


Fault = Callable[[ServerProcess], contextlib.AbstractContextManager[None]]
MOST_ROUNDS = {"no longer files": 6}  # each fills the WAL up to the file's size, so that both grow
FAULTS: dict[str, tuple[Fault, str]] = {  # and what /healthz says of it
    "full": (full, "full|disk I/O error"),
    "no longer files": (no_longer_files, "full|disk I/O error"),
    "locked": (locked, "locked"),
    "writes fail": (broken_writes, "disk I/O error"),
    "syncs fail": (broken_syncs, "disk I/O error"),
    "read-only": (read_only, "disk I/O error|readonly"),
}


class Outage:
    """Two people and a script in a room while the disk fails."""

    def __init__(self, server: ServerProcess, room: str, fault: Fault, reason: str) -> None:
        self.server, self.room, self.fault, self.reason = server, room, fault, reason
        self.stored: dict[str, int] = {}
        self.refused: list[str] = []
        self._number = 0

    def go_through(self, rounds: int) -> None:
        with (
            Client(self.server.url, self.room, name="Ann") as ann,
            Client(self.server.url, self.room, name="Bob") as bob,
            Client(self.server.url, self.room, plain=True) as script,
        ):
            for _ in range(rounds):
                self._say(ann)
                with self.fault(self.server):
                    self._say_until_refused(ann)
                    self._look(ann, bob, script)
                self._recover(ann, bob, script)
            self._check_all(bob, script)

    def _say(self, ann: Client, client_id: str = "") -> bool:
        """Say something; whether it was stored."""
        if not client_id:
            self._number += 1
            client_id = f"c{self._number}"
        ann.say(f"{client_id} {TEXT}", client_id)
        while (frame := ann.next()).get("client_id") != client_id:
            pass
        if frame["type"] == "ack":
            assert self.stored.setdefault(client_id, frame["seq"]) == frame["seq"]
            return True
        assert frame["code"] == "not_stored"
        if client_id not in self.refused:
            self.refused.append(client_id)
        return False

    def _say_until_refused(self, ann: Client) -> None:
        while self._say(ann):
            assert self._number < 20_000
        for _ in range(3):
            self._say(ann)
        self._say(ann, self.refused[-1])

    def _look(self, ann: Client, bob: Client, script: Client) -> None:
        """Everybody is told, nobody sees what was not stored, and what is stored can be read."""
        bob.hear("status", storing=False)
        script.socket.send(f"lost in plain words {TEXT}")  # a shorter one might still find room
        code, told = self._get("/healthz")
        assert code == 503 and re.search(self.reason, told) and "Traceback" not in told
        with Client(self.server.url, self.room) as newcomer:
            assert newcomer.hear("status")["storing"] is False
            assert newcomer.welcome["head"] == self._head
        bob.send(type="history", before=self._head + 1, limit=1)
        assert [event["seq"] for event in bob.hear("page")["events"]] == [self._head]
        code, told = self._get(f"/api/rooms/{self.room}/messages?limit=1")
        assert (code, json.loads(told)["head"]) == (200, self._head)

    @property
    def _head(self) -> int:
        return max(self.stored.values())

    def _recover(self, ann: Client, bob: Client, script: Client) -> None:
        """Without anybody's doing it is over; then what was refused is stored by saying it again."""
        bob.hear("status", storing=True)
        eventually(lambda: self._get("/healthz") == (200, "ok"))
        for client_id in [*self.refused, *self.refused]:
            assert self._say(ann, client_id)
        bob.hear("message", seq=self._head)
        while script.next() != f"{self.refused[-1]} {TEXT}":
            pass

    def _check_all(self, bob: Client, script: Client) -> None:
        """Everything is there once and in order, and was heard so."""
        said = {seq: f"{client_id} {TEXT}" for client_id, seq in self.stored.items()}
        heard = [frame for frame in bob.heard if isinstance(frame, dict) and frame["type"] == "message"]
        for events in (heard, self._history()):
            assert [event["seq"] for event in events] == list(range(1, self._head + 1))
            assert {event["seq"]: event["text"] for event in events} == said
        assert max(Counter(said.values()).values()) == 1
        assert [text for text in script.heard if text.endswith(TEXT)] == [said[seq] for seq in sorted(said)]

    def _history(self) -> list[Any]:
        events: list[Any] = []
        with Client(self.server.url, self.room) as reader:
            while True:
                reader.send(type="history", after=len(events), limit=200)
                frame = reader.next()
                while frame["type"] not in ("page", "error"):
                    frame = reader.next()
                events += frame.get("events", [])
                if not frame.get("more_after", True):
                    return events

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self.server.url + path, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode().strip()
        except HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()


@pytest.mark.parametrize("name", FAULTS)
def test_a_failing_disk_is_told_and_ends_by_itself(server: ServerProcess, name: str) -> None:
    """`not_stored`, `status` and 503 while it lasts; then everything is stored once that is said again."""
    outage = Outage(server, name.replace(" ", "-"), *FAULTS[name])
    rounds = min(ROUNDS, MOST_ROUNDS.get(name, ROUNDS))
    outage.go_through(rounds)
    report(
        f"disk {name}: {rounds} tried, {len(outage.refused)} refused and said again, {len(outage.stored)} stored: "
        "0 lost, 0 doubled, 0 reordered, 0 shown before"
    )


NOTHING_GROWS = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""


def test_a_server_that_cannot_write_at_its_start_says_so_and_harms_nothing(tmp_path: Path) -> None:
    """Killed, then started on a disk that takes nothing: one sentence; and with room again everything is there."""
    with ServerProcess(tmp_path / "chatroom.db") as server, Client(server.url) as ann:
        seqs = [ann.hear("ack", client_id=ann.say(f"{number} {TEXT}"))["seq"] for number in range(9)]
        past = {"epoch": ann.welcome["epoch"], "after": 0}
        server.kill()
    broken = ServerProcess(tmp_path / "chatroom.db", before=NOTHING_GROWS)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"did not start: \['chatroom: The database .*: look after its disk"):
            broken.start()
        assert broken.ended() == 2
    with ServerProcess(tmp_path / "chatroom.db") as server, Client(server.url, **past) as ann:
        assert ann.welcome["resumed"] == "whole"
        assert [message["seq"] for message in ann.messages(9)] == seqs
