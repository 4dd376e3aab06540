"""Power cuts: every ack waits for its sync, and what was acked or shown is there whatever the disk kept besides.

A server's calls are written down by strace while people talk, and played again up to any moment. What the disk
would have then is opened as a start would.
"""

import contextlib
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chat.eventlog import LogRefused
from chat.protocol import Person
from tests.book import Book, on_a_loop, opened
from tests.faults import report, times
from tests.faults.platter import Call, Platter, calls, traced
from tests.support import Client, ServerProcess, eventually

pytestmark = pytest.mark.xdist_group("power")

CUTS = times("POWER_CUTS", 36)
SAYS = max(30, CUTS // 8)  # of each of two starts
QUIET_S = 1.2  # what was removed is off the disk a second later
DATABASE = "chatroom.db"
WAL = DATABASE + "-wal"
SECRET = DATABASE + ".secret"

ACK = re.compile(rb'\{"type":"ack","client_id":"(\w+)","seq":(\d+)\}')
EVENT = re.compile(rb'\{"type":"(message|edit|delete)","seq":(\d+),[^\n]*?"(?:text":"(\w+) |message":)')
EPOCH = re.compile(rb'\{"type":"welcome",[^\n]*?"epoch":"([\w-]+)"')
FRAME_BYTES = 24 + 4096


class Recording(NamedTuple):
    """What two starts of a server asked of their kernel, one after the other, and what people had to say."""

    folder: Path
    calls: list[Call]
    epochs: list[str]
    said: dict[int, str]  # client_ids, by seq
    person: str


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder, dice = tmp_path_factory.mktemp("power"), random.Random(1)
    talk = Talk(dice)
    everything: list[Call] = []
    for number in (1, 2):
        trace = folder / f"trace{number}"
        server = ServerProcess(folder / "database" / DATABASE, message_rate=0)
        (folder / "database").mkdir(exist_ok=True)
        traced(server, trace)
        with server:
            talk.go_on(server)
            main = server.pid
            if number == 1:
                wait_until_quiet(main)  # nobody could say whether a write that was under way at the kill was done
                server.kill()
            else:
                assert server.terminate() == 0
        eventually(partial(has_ended, trace, main))
        everything += calls(trace)
    return Recording(folder / "database", everything, talk.epochs, talk.said, talk.person)


def wait_until_quiet(pid: int) -> None:
    """Return when a server has written nothing for a while: what was removed is off the disk."""
    written, since_s = "", time.monotonic()
    while time.monotonic() - since_s < QUIET_S:
        now = Path(f"/proc/{pid}/io").read_text().split("syscw: ")[1]
        if now != written:
            written, since_s = now, time.monotonic()
        time.sleep(0.02)


def has_ended(trace: Path, pid: int) -> bool:
    with open(trace, "rb") as file:
        file.seek(max(0, trace.stat().st_size - 1000))
        return re.search(rf"^{pid} +\+\+\+", file.read().decode(), re.MULTILINE) is not None


class Talk:
    """Ann says much, several at a time, and takes some of it back; Bob listens."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.cookie: str | None = None
        self.person = ""
        self.epochs: list[str] = []
        self.said: dict[int, str] = {}
        self._number = 0

    def go_on(self, server: ServerProcess) -> None:
        past: dict[str, Any] = {"epoch": self.epochs[-1], "after": max(self.said)} if self.epochs else {}
        with Client(server.url, cookie=self.cookie, **past) as ann, Client(server.url) as bob:
            assert ann.welcome.get("resumed", "whole") == "whole"
            self.cookie, self.person = self.cookie or ann.cookie, ann.welcome["you"]["id"]
            self.epochs.append(ann.welcome["epoch"])
            end = self._number + SAYS
            while self._number < end:
                self._say_some(ann, bob)
                self._take_something_back(ann)

    def _say_some(self, ann: Client, bob: Client) -> None:
        client_ids = [self._say(ann) for _ in range(self.dice.randrange(1, 6))]
        for client_id in client_ids:
            self.said[ann.hear("ack", client_id=client_id)["seq"]] = client_id
        bob.hear("message", seq=max(self.said))

    def _say(self, ann: Client) -> str:
        self._number += 1
        length = self.dice.choice((1, 100, 100, 1000, 3900))
        return ann.say(f"c{self._number} {'x' * length}", f"c{self._number}")

    def _take_something_back(self, ann: Client) -> None:
        luck, seq = self.dice.random(), self.dice.choice(sorted(self.said)[-9:])
        if luck < 0.1:
            ann.send(type="edit", message=seq, text=f"{self.said[seq]} edited")
        elif luck < 0.2:
            ann.send(type="delete", message=seq)
        else:
            return
        while ann.next()["type"] not in ("done", "error"):
            pass


# What people know at a moment


@dataclass
class Known:
    """What had left the server: acks and events, and where in the WAL it stood then."""

    acked: dict[int, str] = field(default_factory=dict)
    shown: dict[int, str] = field(default_factory=dict)
    stood: dict[int, tuple[int, int]] = field(default_factory=dict)
    epoch: str = ""
    wal: tuple[int, int] = (0, 0)  # how often it was begun anew, and its end

    def hear(self, call: Call) -> None:
        """Take a call in at its beginning: what is sent then may be read though the power goes."""
        if call.has_ended:
            return
        if call.name == "sendto":
            for epoch in EPOCH.findall(call.data):
                self.epoch = epoch.decode()
            for client_id, seq in ACK.findall(call.data):
                self._learn(self.acked, int(seq), client_id.decode())
            for kind, seq, client_id in EVENT.findall(call.data):
                self._learn(self.shown, int(seq), client_id.decode() if kind == b"message" else "")
        elif call.paths[0].endswith(WAL) and call.name in ("pwrite64", "ftruncate"):
            offset, (turn, end) = call.numbers[-1], self.wal
            self.wal = (turn, max(end, offset + len(call.data))) if offset else (turn + 1, len(call.data))

    def _learn(self, what: dict[int, str], seq: int, client_id: str) -> None:
        what[seq] = client_id
        self.stood.setdefault(seq, self.wal)

    @property
    def head(self) -> int:
        return max(self.stood, default=0)

    def head_below(self, offset: int) -> int:
        """The newest seq that is safe if the WAL is damaged from there on."""
        turn, _ = self.wal
        return max((seq for seq, (began, end) in self.stood.items() if began < turn or end <= offset), default=0)


def moments(recording: Recording, wanted: set[int]) -> Iterator[tuple[Platter, Known]]:
    """The disk and what people knew, after each of these calls."""
    platter, known = Platter(recording.folder), Known()
    for number, call in enumerate(recording.calls):
        platter.play(call)
        known.hear(call)
        if number in wanted:
            yield platter, known


def ack_calls(recording: Recording) -> list[int]:
    return [n for n, call in enumerate(recording.calls) if not call.has_ended and ACK.search(call.data)]


# The order of calls


def test_no_ack_and_no_event_leaves_before_its_message_is_synced(recording: Recording) -> None:
    """After a message was written to the WAL, and before its ack or event leaves, a sync of the WAL went well."""
    written: dict[str, int] = {}
    synced_from = -1  # what had been written before this call is on the disk
    sync_began, acks, events = -1, 0, 0
    for number, call in enumerate(recording.calls):
        is_wal = bool(call.paths) and call.paths[0].endswith(WAL)
        if is_wal and call.name == "pwrite64" and call.has_ended:
            for client_id in re.findall(rb"c\d+(?= x)", call.data):
                written.setdefault(client_id.decode(), number)
        elif is_wal and call.name in ("fsync", "fdatasync"):
            synced_from, sync_began = (sync_began, -1) if call.has_ended else (synced_from, number)
        elif call.name == "sendto" and not call.has_ended:
            leaving = [each[0] for each in ACK.findall(call.data)]
            leaving += [each[2] for each in EVENT.findall(call.data) if each[0] == b"message"]
            assert all(written[client_id.decode()] < synced_from for client_id in leaving), (number, leaving)
            acks, events = acks + len(ACK.findall(call.data)), events + len(leaving) - len(ACK.findall(call.data))
    assert acks >= 2 * SAYS and events >= 2 * acks  # Ann and Bob heard each of them
    report(f"sync before ack: {acks} acks and {events} events, 0 left before a sync of the WAL had returned 0")


def test_the_platter_is_what_the_folder_is(recording: Recording) -> None:
    """Played to the end, what was written is byte by byte what lies there; else nothing here would prove anything."""
    platter = Platter(recording.folder)
    for call in recording.calls:
        platter.play(call)
    here = {path.name: path.read_bytes() for path in recording.folder.iterdir() if path.suffix != ".lock"}
    assert platter.left(most=True) == here
    assert {call.name for call in recording.calls} >= {"pwrite64", "fdatasync", "ftruncate", "unlink", "rename"}


# What a disk kept by chance


def test_what_was_acked_or_shown_survives_a_power_cut(recording: Recording, tmp_path: Path) -> None:
    """Whatever became of the writes that were not synced: none, all, some, half of one."""
    dice = random.Random(2)
    acks, number_of_calls = ack_calls(recording), len(recording.calls)
    parts: list[Sequence[int]] = [acks, range(acks[0]), range(number_of_calls)]
    wanted = {number for part in parts for number in dice.sample(part, min(CUTS // 3, len(part)))}
    unacked, secret = 0, (recording.folder / SECRET).read_bytes()
    for number, (platter, known) in enumerate(moments(recording, wanted)):
        folder = tmp_path / str(number)
        files = chance(platter, number, dice)
        assert not known.head or files.get(SECRET) == secret  # or everybody would be somebody new, and retries new says
        lay_out(folder, files)
        unacked += check_start(folder, recording, known, known.head) - known.head
        shutil.rmtree(folder)
    report(f"power cut: {len(wanted)} tried, 0 lost, 0 doubled, 0 reordered ({unacked} kept though not acked)")


def chance(platter: Platter, number: int, dice: random.Random) -> dict[str, bytes]:
    """In turns: nothing that was not synced, all of it, and twice what luck had it."""
    return platter.left(most=number % 4 == 1) if number % 4 < 2 else platter.left(dice)


def lay_out(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@on_a_loop
async def _look(folder: Path, then: Callable[[Book], Any]) -> None:
    async with opened(folder) as book:
        await then(book)


def check_start(folder: Path, recording: Recording, known: Known, safe: int) -> int:
    """Start on these files: all up to `safe` is there, nothing is wrong, and pasts are judged rightly; the head."""
    heads: list[int] = []

    async def look(book: Book) -> None:
        events = [json.loads(event.body) for event in (await book.log.after("default", 0, 1 << 30, 1 << 40)).events]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert len(events) >= safe
        check_events(events, recording.said)
        if safe == known.head or known.epoch in book.log.epochs:  # else its beginning is gone with what came after it
            assert not safe or await book.is_ours(known.epoch, safe, "default")
        await check_lost(book, known.epoch, len(events), known.head)
        await check_retries(book, recording, {seq: known.acked[seq] for seq in known.acked if seq <= len(events)})
        heads.append(len(events))

    _look(folder, look)
    return heads[0]


def check_events(events: list[Any], said: dict[int, str]) -> None:
    """Each message is the one that was said there, and all of an act was done or nothing."""
    edited, deleted = ({event["message"] for event in events if event["type"] == kind} for kind in ("edit", "delete"))
    for event in events:
        seq = event["seq"]
        if event["type"] == "message":
            assert event["text"].split()[0] == said[seq]
            assert seq not in deleted
            assert ("edited" in event) == (seq in edited)
        elif event["type"] == "removed" and seq in said:
            assert seq in deleted


async def check_lost(book: Book, epoch: str, head: int, seen: int) -> None:
    """Who had seen what is gone is told so, before others take its place and after."""
    if seen <= head:
        return
    assert not await book.is_ours(epoch, seen, "default")
    for _ in range(seen - head + 1):
        await book.say(room="default")
    assert not await book.is_ours(epoch, seen, "default")
    assert await book.is_ours(epoch, head, "default")


async def check_retries(book: Book, recording: Recording, acked: dict[int, str]) -> None:
    """Whoever says again what was acked is told the same seq."""
    ann = Person(recording.person, "Ann")
    for seq, client_id in list(acked.items())[-3:]:
        assert await book.say("again", room="default", by=ann, client_id=client_id) == seq


def test_whoever_resumes_after_a_power_cut_is_told_the_truth(recording: Recording, tmp_path: Path) -> None:
    """By a real server: all is there for who had seen all; who had seen what the disk spoiled is told `reset`."""
    dice = random.Random(4)
    acks = ack_calls(recording)
    wanted = set(dice.sample(acks[len(acks) // 2 :], max(1, CUTS // 100)))
    for number, (platter, known) in enumerate(moments(recording, wanted)):
        past: dict[str, Any] = {"epoch": known.epoch, "after": known.head}
        with served(tmp_path / f"whole{number}", platter.left()) as server, Client(server.url, **past) as ann:
            assert ann.welcome["resumed"] == "whole"
            assert ann.welcome["head"] >= known.head
        files = platter.left(most=True)
        files[WAL] = files.get(WAL, b"")[:32]
        with served(tmp_path / f"spoiled{number}", files) as server, Client(server.url, **past) as ann:
            lost = ann.welcome["head"] < known.head
            assert ann.welcome["resumed"] == ("reset" if lost else "whole")
            ann.say("in the place of what is lost")
            ann.hear("message", text="in the place of what is lost")
            with Client(server.url, **past) as late:
                assert late.welcome["resumed"] == ("reset" if lost else "whole")
    report(f"resumes after a power cut: {2 * len(wanted)} servers started, {3 * len(wanted)} resumes, 0 told wrongly")


@contextlib.contextmanager
def served(folder: Path, files: dict[str, bytes]) -> Iterator[ServerProcess]:
    """A server on what a disk has left."""
    lay_out(folder, files)
    with ServerProcess(folder / DATABASE) as server:
        yield server
        assert server.terminate() == 0


# What a disk spoiled


Spoil = Callable[[bytearray, int, random.Random], int]


def cut(wal: bytearray, end: int, dice: random.Random) -> int:
    """Cut off somewhere in the last frames, at the edge of one, or behind the end."""
    frame = (end - 32) // FRAME_BYTES - dice.randrange(4)
    edge = 32 + max(frame, 0) * FRAME_BYTES
    at = min(edge + dice.choice((0, 1, 23, 24, 25, 512, 4096, FRAME_BYTES - 1)), len(wal))
    del wal[at:]
    return at


def zero(wal: bytearray, end: int, dice: random.Random) -> int:
    """The last page, or the whole last frame, is zeros."""
    at = max(32, end - dice.choice((4096, FRAME_BYTES)))
    wal[at:end] = bytes(end - at)
    return at


def append(wal: bytearray, end: int, dice: random.Random) -> int:
    """Something else follows: it harms nothing."""
    del wal[end:]
    wal += dice.randbytes(dice.randrange(1, 3 * FRAME_BYTES))
    return end


def flip(wal: bytearray, end: int, dice: random.Random) -> int:
    """A few bits of the last frames are others."""
    places = [dice.randrange(max(0, end - 3 * FRAME_BYTES), end) for _ in range(3)]
    for place in places:
        wal[place] ^= 1 << dice.randrange(8)
    return min(places)


@pytest.mark.parametrize("spoil", [cut, zero, append, flip])
def test_a_spoiled_end_of_the_wal_is_told_and_leaves_no_hole(
    recording: Recording, tmp_path: Path, spoil: Spoil
) -> None:
    """What lies before the damage is there, without a hole; whoever had seen more is told `reset`; or it is refused."""
    dice = random.Random(3)
    acks = ack_calls(recording)
    tried, refused, gone = 0, 0, 0
    for number, (platter, known) in enumerate(moments(recording, set(dice.sample(acks, min(CUTS // 4, len(acks)))))):
        files = platter.left(most=True)
        if known.wal[1] <= 32 or len(files.get(WAL, b"")) < known.wal[1]:
            continue
        wal = bytearray(files[WAL])
        safe = known.head_below(spoil(wal, known.wal[1], dice))
        folder = tmp_path / str(number)
        lay_out(folder, {**files, WAL: bytes(wal)})
        tried += 1
        try:
            gone += max(0, known.head - check_start(folder, recording, known, safe))
        except LogRefused as refusal:
            assert spoil is not append
            assert str(refusal).count(". ") == 0 and "restore a backup" in str(refusal)
            refused += 1
        shutil.rmtree(folder)
    assert tried
    report(
        f"WAL spoiled ({spoil.__name__}): {tried} tried, 0 holes, 0 lost before the damage; "
        f"{gone} events behind it gone and told, {refused} starts refused"
    )
