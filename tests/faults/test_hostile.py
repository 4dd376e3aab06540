"""Hostile peers, each kind alone and all at once: who behaves well hears everything, and the server stays small.

CHATROOM_HOSTILE=1 has twenty times as many, and says what they did to the others' p99.
"""

import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.crowd import Member, Wire, heard
from tests.faults import report, times
from tests.faults.hostile import HOSTILE, Deed, never_reads
from tests.faults.storm import stored
from tests.soak.soak_server import read_metrics
from tests.support import DEADLINE_S, ROOT, ServerProcess

IS_LONG = bool(times("HOSTILE", 0))
MEMBERS = 1000 if IS_LONG else 50
SHARE = 1 if IS_LONG else 20  # of the hostile ones, one in so many
TALKERS = 10
TALK_S = 10.0 if IS_LONG else 1.2
SAY_EVERY_S = 0.1 if IS_LONG else 0.01  # all of them together
FILLING = "x" * 3900  # so that the buffer of one who does not read is soon full
ROUNDS = times("HOSTILE_ROUNDS", 3) if IS_LONG else 1
LONG_S = DEADLINE_S * (6 if IS_LONG else 1)
SEND_BUFFER_BYTES = 128 * 1024
CONNECTION_BYTES = 64 * 1024  # more than any open socket takes beside what waits for it
SPARE_BYTES = 24 * 1024 * 1024
MB = 1e6

KINDS = [[do] for do in HOSTILE] if IS_LONG else [[never_reads], list(HOSTILE)[1:4], list(HOSTILE)[4:]]
KINDS.append(list(HOSTILE))


class Talk:
    """Well-behaved members of one room, and how long each delivery took."""

    def __init__(self, server: ServerProcess, room: str) -> None:
        self.server, self.room = server, room
        self.members = [Member(server.port, room, f"Member {number}") for number in range(MEMBERS)]
        self.latencies_ms: list[float] = []
        self.processor = 0.0  # of one core, that the server took in the last talk
        self.said = 0
        for member in self.members:
            member.on_frame = self._time

    async def begin(self) -> None:
        for some in range(0, MEMBERS, 50):
            await asyncio.gather(*(member.enter() for member in self.members[some : some + 50]))

    async def end(self) -> None:
        await asyncio.gather(*(member.leave() for member in self.members))

    async def talk(self, seconds: float) -> float:
        """Talk for so long and until everybody has heard it; returns the p99 of the deliveries, in ms."""
        self.latencies_ms.clear()
        began_s, expected, process = time.monotonic(), 0, psutil.Process(self.server.pid)
        busy_s, end_s = sum(process.cpu_times()[:2]), began_s + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(SAY_EVERY_S)
            self.said += 1
            expected += MEMBERS
            text = f"{time.monotonic_ns()} {FILLING}"
            self.members[self.said % TALKERS].say(text, f"said-{self.said}")
        async with asyncio.timeout(LONG_S):
            while len(self.latencies_ms) < expected:  # noqa: ASYNC110  # many futures, or one look now and then
                await asyncio.sleep(0.02)
        self.processor = (sum(process.cpu_times()[:2]) - busy_s) / (time.monotonic() - began_s)
        return statistics.quantiles(self.latencies_ms, n=100)[98]

    def check(self) -> None:
        """Everybody has heard everything once, in order, and stayed."""
        log = stored(self.server, self.room)
        assert len(log) == self.said
        for member in self.members:
            assert member.is_in
            assert not member.out_of_order
            assert [heard(event).frame for event in member.events] == log

    def _time(self, frame: dict[str, object]) -> None:
        if frame["type"] == "message":
            self.latencies_ms.append((time.monotonic_ns() - int(str(frame["text"]).split()[0])) / MB)


@contextlib.asynccontextmanager
async def hostile(server: ServerProcess, room: str, kinds: list[Deed]) -> AsyncIterator[dict[str, int]]:
    """Have them at work; yields how often each came, once they are gone."""
    counts = [f"{do.__name__}={max(1, HOSTILE[do] // SHARE)}" for do in kinds]
    command = [sys.executable, "-m", "tests.faults.hostile", str(server.port), room, *counts]
    process = await asyncio.to_thread(started, command)
    tries: dict[str, int] = {}
    try:
        yield tries
        told, _ = await asyncio.to_thread(process.communicate, "", LONG_S)
        tries |= json.loads(told)
    finally:
        process.kill()
        process.communicate()


def started(command: list[str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


async def until_told(server: ServerProcess, what: dict[str, int]) -> None:
    """Wait until `/metrics` says this."""
    async with asyncio.timeout(LONG_S):
        while True:
            metrics = read_metrics(await fetched(server, "/metrics"))
            if all(metrics[name] == value for name, value in what.items()):
                return
            await asyncio.sleep(0.1)


async def fetched(server: ServerProcess, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2].decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    database: Path = tmp_path_factory.mktemp("hostile") / "hostile.db"
    with ServerProcess(database, message_rate=0, send_buffer_bytes=SEND_BUFFER_BYTES) as server:
        yield server
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "+".join(do.__name__ for do in kinds)[:60])
def test_hostile_peers_hold_up_nobody(server: ServerProcess, kinds: list[Deed], request: pytest.FixtureRequest) -> None:
    """While they do their worst every delivery is right; all they leave behind is a line in the log each, at most."""
    asyncio.run(withstand(server, kinds, request.node.callspec.id))


async def withstand(server: ServerProcess, kinds: list[Deed], room: str) -> None:
    talk, process = Talk(server, room), psutil.Process(server.pid)
    await talk.begin()
    await talk.talk(SAY_EVERY_S)  # what is done once is done
    before_bytes, before_lines = process.memory_info().rss, len(server.log)
    rounds = Rounds()
    for _ in range(ROUNDS):
        await rounds.measure(talk, process, kinds)
        await until_told(server, {"chatroom_members": MEMBERS})
    talk.check()
    await talk.end()
    await until_told(server, {"chatroom_members": 0, "chatroom_rooms": 0})
    more_bytes, lines = rounds.most_bytes - before_bytes, len(server.log) - before_lines
    report(f"{room}: {rounds.told()}; {more_bytes / MB:+.1f} MB, {lines} lines")
    assert more_bytes < may_take(kinds)
    assert lines <= rounds.came, server.log[-20:]


@dataclass
class Rounds:
    """What was measured, in turns: the members alone, and beside hostile peers."""

    alone_ms: list[float] = field(default_factory=list)
    together_ms: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # of one core, what the hostile ones cost
    most_bytes: int = 0
    came: int = 0

    async def measure(self, talk: Talk, process: psutil.Process, kinds: list[Deed]) -> None:
        self.alone_ms.append(await talk.talk(TALK_S))
        alone = talk.processor
        async with hostile(talk.server, talk.room, kinds) as tries:
            self.together_ms.append(await talk.talk(TALK_S))
            self.processor.append(talk.processor - alone)
            self.most_bytes = max(self.most_bytes, process.memory_info().rss)
        self.came += sum(tries.values())

    def told(self) -> str:
        p99s = (
            f"{statistics.median(some):.0f} ms ({min(some):.0f} to {max(some):.0f})"
            for some in (self.together_ms, self.alone_ms)
        )
        return f"p99 {', alone '.join(p99s)}; {self.came} came, {statistics.median(self.processor):+.0%} of a core"


def may_take(kinds: list[Deed]) -> int:
    """How many bytes more the server may have while these are at work."""
    peers = sum(max(1, HOSTILE[do] // SHARE) for do in kinds)
    deaf = HOSTILE[never_reads] // SHARE if never_reads in kinds else 0
    return peers * CONNECTION_BYTES + deaf * SEND_BUFFER_BYTES + SPARE_BYTES


def test_on_a_stalled_network_all_buffers_together_stay_in_their_bound(tmp_path: Path) -> None:
    """Members who do not read are cut off, the fullest first, before what waits for all is more than it may be."""
    deaf, limit_bytes = 40, 4 * 1024 * 1024
    before = f"import chat.websocket\nchat.websocket.send_budget.limit_bytes = {limit_bytes}"

    async def stall(server: ServerProcess) -> None:
        stalled = [Member(server.port, "stalled", "Deaf") for _ in range(deaf)]
        for member in stalled:
            await member.enter(window_bytes=2048)
            assert isinstance(member.wire, Wire)
            member.wire.transport.pause_reading()
        reader = Member(server.port, "stalled", "Reader")
        await reader.enter()
        before_bytes, said = psutil.Process(server.pid).memory_info().rss, 0
        async with asyncio.timeout(LONG_S):
            while 'chatroom_cut_off_members_total{reason="memory"}' not in await fetched(server, "/metrics"):
                for _ in range(20):
                    said += 1
                    reader.say("y" * 4000, f"stalled-{said}")
                while len(reader.acks) < said:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert psutil.Process(server.pid).memory_info().rss - before_bytes < limit_bytes + SPARE_BYTES
        assert len(reader.events) == said
        assert not reader.out_of_order
        for member in stalled:
            member.vanish()
        await reader.leave()
        await until_told(server, {"chatroom_members": 0, "chatroom_rooms": 0})

    with ServerProcess(tmp_path / "stalled.db", before=before, message_rate=0) as server:
        asyncio.run(stall(server))
