"""What the harness itself can do on this machine: how fast one reader is, and how quiet a quiet run is.

Owns the two measurements. The ceilings: sockets are filled by one side while nobody reads, then only the reading is
timed, with everything that a run does for a delivery. The noise floor: the harness as everybody runs it, against a
server that does nothing but echo, at one per cent of the load.
Invariant: a ceiling is only told if the account of what was read comes out.
"""

import argparse
import contextlib
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtest import machine
from loadtest.account import Account, Ledger, Message, Room
from loadtest.adapters import load
from loadtest.machine import Cores
from loadtest.member import Member
from loadtest.peers import ROOT, Peer, serving
from loadtest.reader import Reader
from loadtest.result import BadResult, load_result
from loadtest.tag import Tag, make_text
from loadtest.tally import Tally

MEMBERS: Final = 1000
TEXT_BYTES: Final = 100
BATCHES: Final = 9
BATCH_DELIVERIES: Final = 16_000
PATIENCE_S: Final = 5.0  # what was sent to this very machine and is not there by then is lost
RUN: Final = 1
NEEDED_ALONE: Final = 80_000  # deliveries/s: less, and no figure of a large run is to be had here
NEEDED_TOGETHER: Final = 250_000


@dataclass(frozen=True)
class Load:
    """How deliveries come to a reader."""

    name: str
    at_once: int
    is_personal: bool = False  # each member gets bytes of his own, so that nothing is understood once for all
    needed_per_s: int = 0


LOADS: Final = (
    Load("every frame alone", 1, needed_per_s=NEEDED_ALONE),
    Load("4 frames at once", 4, needed_per_s=NEEDED_TOGETHER),
    Load("16 frames at once", 16, needed_per_s=NEEDED_TOGETHER),
    Load("alone, and for each member other bytes", 1, is_personal=True),
)


class WrongAccount(Exception):
    """The reader did not find what was sent: its speed is worth nothing."""


# The ceiling


class Bench:
    """A reader with its members, and the other ends of their sockets."""

    def __init__(self, members: int) -> None:
        self.tally = Tally()
        self._completed: list[Message] = []
        self._room = Room(0, [Ledger(is_ours=True, is_same_clock=True)], self._completed)
        self._reader = Reader(RUN, TEXT_BYTES, load("chatroom"), {0: self._room})
        self._reader.tally = self.tally
        self._accounts: list[Account] = []
        self._far: list[socket.socket] = []
        self._seq = 0
        with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=members)) as listener:
            for number in range(members):
                self._seat(number, listener)

    def _seat(self, number: int, listener: socket.socket) -> None:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._far.append(far)
        account = Account(self._room, time.monotonic_ns())
        self._accounts.append(account)
        self._reader.add(Member(number, self._room, nothing, nothing, account, account.last), near)

    def read(self, one: Load) -> int:
        """Fill every socket with one read, and return how many ns of processor time reading them took."""
        texts = [self._message() for _ in range(one.at_once)]
        ready = b"".join(map(frame, texts))
        for number, far in enumerate(self._far):
            far.sendall(b"".join(frame(text, f"{number:05d}") for text in texts) if one.is_personal else ready)
        until = self.tally.deliveries + len(self._far) * one.at_once
        # Processor time: who else runs on this core is no property of the reader.
        began_ns, patience_until_s = time.thread_time_ns(), time.monotonic() + PATIENCE_S
        while self.tally.deliveries < until:
            if not self._reader.turn() and time.monotonic() > patience_until_s:
                raise WrongAccount(f"{until - self.tally.deliveries} deliveries did not come in")
        took_ns = time.thread_time_ns() - began_ns
        self._completed.clear()
        return took_ns

    def _message(self) -> str:
        now_ns = time.monotonic_ns()
        words = Tag(RUN, 0, 0, self._seq, now_ns, now_ns, True)
        self._seq += 1
        self._room.send(words)
        return make_text(words, TEXT_BYTES)

    def close(self) -> None:
        """Settle the accounts and close the sockets."""
        for account in self._accounts:
            account.close(self.tally)
        self._reader.close()
        for far in self._far:
            far.close()

    def check(self) -> None:
        """Raise WrongAccount unless every delivery was found and timed."""
        sent, tally = self._seq * len(self._far), self.tally
        found = (tally.received, tally.measured, tally.latency.total, tally.had_to_get)
        if found != (sent,) * 4 or tally.missing or tally.doubled or tally.reordered:
            raise WrongAccount(f"{sent} deliveries were made, and (received, measured, timed, owed) are {found}")


def nothing(*_: Any) -> None:
    """Be told of notices and ends, and do not mind."""


def frame(text: str, member: str = "00000") -> bytes:
    """Return a text as the chat room says it, in a frame of some 200 bytes."""
    event = f'{{"type":"message","seq":1,"at":1700000000000,"by":{{"id":"{member}","name":"Guest 1"}},"text":"{text}"}}'
    return b"\x81\x7e" + len(event).to_bytes(2) + event.encode()


def ceiling_per_s(one: Load, members: int = MEMBERS, batches: int = BATCHES) -> float:
    """Return how many deliveries a second of processor time suffices for: the median of some batches.

    Raises WrongAccount if what was read is not what was sent.
    """
    bench = Bench(members)
    speeds = []
    try:
        bench.read(one)  # the first time, everything is slow
        for _ in range(batches):
            reads = max(1, BATCH_DELIVERIES // (members * one.at_once))
            took_ns = sum(bench.read(one) for _ in range(reads))
            speeds.append(reads * members * one.at_once * 1e9 / took_ns)
    finally:
        bench.close()
    bench.check()
    return statistics.median(speeds)


# The noise floor


def quiet_command(port: int, out: Path, seconds: float) -> list[str]:
    """Return how the harness is run at one per cent of what it has to be able to: 20 members, 40 messages/s."""
    return [
        *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"),
        *("-H", f"ws://127.0.0.1:{port}", "--adapter", "plain", "--scenario", "steady", "--members", "20"),
        *("--senders", "4", "--rate", "40", "--warmup", "1", "--duration", str(seconds), "--out", str(out)),
    ]


def noise_lines(cores: Cores, seconds: float) -> Iterator[str]:
    """Yield what a quiet run measured; raises RuntimeError with one sentence if there was none."""
    echo = Peer("echo", "it only echoes", lambda _: [sys.executable, "-m", "loadtest.falseserver", "--port=0"])
    with tempfile.TemporaryDirectory(prefix="chatroom-selftest-") as folder, serving(echo, cores) as server:
        command = quiet_command(server.port, Path(folder), seconds)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        try:
            result = load_result(Path(folder))
        except BadResult as reason:
            raise RuntimeError(f"The quiet run failed: {reason}; {done.stderr.strip()[-500:]}") from None
    yield result["verdict"]["headline"]
    for name, what in (("latency", "latency"), ("lateness", "send lateness"), ("read_lag", "read lag")):
        found = [result["figures"].get(f"{name}_{ending}_ms", math.nan) for ending in ("p50", "p99", "max")]
        yield f"{what:>14}: p50 {found[0]:.3f} ms, p99 {found[1]:.3f} ms, max {found[2]:.3f} ms"


# The command


def main(argv: list[str] | None = None) -> int:
    """Print both; returns 1 if an account does not come out or the quiet run fails."""
    parser = argparse.ArgumentParser(prog="python -m loadtest selftest", description=__doc__)
    parser.add_argument("--members", type=int, default=MEMBERS, help="sockets that one reader has")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the quiet run measures")
    found = parser.parse_args(argv)
    cores = Cores.split()
    cores.take_load()
    machine.allow_open_files(2 * found.members + 200)
    try:
        print(machine.machine_line(cores), flush=True)
        size = len(frame("x" * TEXT_BYTES))
        print(f"\nOne reader with {found.members} members, frames of {size} bytes, times and checks")
        for each in LOADS:
            print(ceiling_line(each, ceiling_per_s(each, found.members)), flush=True)
        print("\nAt one per cent of that, against a server that only echoes:", flush=True)
        for line in noise_lines(cores, found.seconds):
            print(line)
    except (WrongAccount, RuntimeError) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def ceiling_line(one: Load, per_s: float) -> str:
    """Return one line of the table."""
    lacks = f"   BELOW {one.needed_per_s:,}" if per_s < one.needed_per_s else ""
    return f"{per_s:12,.0f} deliveries/s  {one.name}{lacks}"


if __name__ == "__main__":
    raise SystemExit(main())
