"""What a power cut would leave of a folder: the calls of a server to its kernel, and which of its writes had to stay.

A disk may keep any of the writes that were not synced, half of one, or none; what was synced it keeps, and a name of a
file only once the folder was synced. Invariant: what is played here is what strace wrote down, in that order: a call's
beginning is written before it is done, its end before the server goes on.
"""

import random
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ServerProcess

NO_MEANING = (".lock", "-shm")  # after a power cut
SECTOR_BYTES = 512  # a disk writes them as a whole
CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename,sendto"

_STRACE = ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o"]
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN_FILE = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
_NUMBERS = re.compile(r", (\d+)(?=[,)])")


# The WAL is emptied into the file every few commits, so that a short talk has all that a long one has.
_CHECKPOINT_OFTEN = """
from chat.eventlog import opening
connected = opening._connected
def checkpointing(path):
    db = connected(path)
    db.execute("PRAGMA wal_autocheckpoint = 40")
    return db
opening._connected = checkpointing
import chatroom
chatroom.main()
"""


def traced(server: ServerProcess, trace: Path) -> None:
    """Have a server write down its calls at every start from now on; skips without strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    command = [*_STRACE, str(trace), sys.executable, "-c", _CHECKPOINT_OFTEN]
    server.program = ["-c", f"import os, sys; os.execvp('strace', [*{command!r}, *sys.argv[1:]])"]


class Call(NamedTuple):
    """A call that succeeded, or was under way at the end; told twice: when it begins and when it has ended."""

    number: int
    name: str
    paths: tuple[str, ...]
    data: bytes
    numbers: tuple[int, ...]
    has_ended: bool


def calls(trace: Path) -> Iterator[Call]:
    """What a server asked of its kernel, in order."""
    begun: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(trace.read_text().splitlines()):
        if (found := _LINE.match(line)) is None:
            continue
        thread, resumed, name, rest = found.groups()
        if resumed:
            text, first = begun.pop(thread)
            yield from _ends(resumed, text, rest, first)
        elif rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix(" <unfinished ...>") + ")", number
            yield _call(number, name, begun[thread][0], False)
        else:
            yield _call(number, name, rest, False)
            yield from _ends(name, rest, rest, number)


def _ends(name: str, text: str, rest: str, number: int) -> Iterator[Call]:
    result = rest.rpartition(") = ")[2]
    if not result.startswith(("-1", "?")):
        yield _call(number, name, text, True)


def _call(number: int, name: str, text: str, has_ended: bool) -> Call:
    arguments = text.rpartition(") = ")[0] + ")" if ") = " in text else text
    strings = [bytes.fromhex(string.replace("\\x", "")) for string in _STRING.findall(arguments)]
    data = strings[0] if strings and name in ("pwrite64", "write", "sendto") else b""
    if name in ("unlink", "rename"):
        paths = [string.decode() for string in strings]
    else:
        paths = [bytes.fromhex(path.replace("\\x", "")).decode() for path in _OPEN_FILE.findall(arguments)[:1]]
    plain = _STRING.sub("", arguments)
    return Call(number, name, tuple(paths), data, tuple(map(int, _NUMBERS.findall(plain))), has_ended)


@dataclass(slots=True)
class Write:
    """Bytes put somewhere into a file, or (without bytes) a file cut off there."""

    offset: int
    data: bytes | None
    has_ended: bool = False

    def put(self, file: bytearray, only: set[int] | None = None) -> None:
        """Do it; `only` some sectors of it."""
        end = self.offset + len(self.data or b"")
        file.extend(bytes(max(0, end - len(file))))
        if self.data is None:
            del file[end:]
        elif only is None:
            file[self.offset : end] = self.data
        else:
            for place in (place for place in range(self.offset, end) if place // SECTOR_BYTES in only):
                file[place] = self.data[place - self.offset]

    def tear(self, dice: random.Random) -> set[int]:
        """Some of the sectors it goes to."""
        sectors = range(self.offset // SECTOR_BYTES, (self.offset + len(self.data or b"")) // SECTOR_BYTES + 1)
        return {sector for sector in sectors if dice.random() < 0.5}


@dataclass(slots=True)
class File:
    """What of a file is safe, and what was written since."""

    safe: bytearray = field(default_factory=bytearray)
    waiting: list[Write] = field(default_factory=list)
    length: int = 0
    syncing: list[Write] = field(default_factory=list)

    def write(self, write: Write) -> None:
        self.waiting.append(write)
        end = write.offset + len(write.data or b"")
        self.length = end if write.data is None else max(self.length, end)

    def sync(self, has_ended: bool) -> None:
        """What had been written when a sync began is safe when it has ended."""
        if not has_ended:
            self.syncing = [write for write in self.waiting if write.has_ended]
            return
        for write in self.syncing:
            write.put(self.safe)
        kept = {id(write) for write in self.syncing}
        self.waiting, self.syncing = [write for write in self.waiting if id(write) not in kept], []

    def left(self, dice: random.Random | None, most: bool) -> bytes:
        """The file after a power cut: by chance; without dice with all that was written, or with nothing unsafe."""
        content = bytearray(self.safe)
        for write in self.waiting:
            if dice is None:
                if most:
                    write.put(content)
            elif (luck := dice.random()) < 0.6:
                write.put(content, write.tear(dice) if luck < 0.2 else None)
        return bytes(content)


Names = dict[str, File]


class Platter:
    """A folder's files, as the calls of a server made them; a file is there from the first write on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: Names = {}
        self.safe_names: Names = {}
        self.moves: list[dict[str, File | None]] = []  # since the folder was synced
        self._begun: dict[int, Write] = {}

    def play(self, call: Call) -> None:
        if call.name in ("unlink", "rename"):
            if call.has_ended:
                self._move([Path(path) for path in call.paths])
        elif (path := Path(*call.paths)) == self.folder:
            if call.has_ended:
                self.safe_names, self.moves = dict(self.names), []
        elif path.parent == self.folder and not path.name.endswith(NO_MEANING):
            if path.name not in self.names:
                self._link({path.name: File()})
            self._change(self.names[path.name], call)

    def _change(self, file: File, call: Call) -> None:
        if call.name in ("fsync", "fdatasync"):
            file.sync(call.has_ended)
        elif call.has_ended:
            self._begun.pop(call.number).has_ended = True
        else:
            offset = file.length if call.name == "write" else call.numbers[-1]
            write = Write(offset, None if call.name == "ftruncate" else call.data)
            self._begun[call.number] = write
            file.write(write)

    def _move(self, paths: list[Path]) -> None:
        if any(path.parent != self.folder or path.name.endswith(NO_MEANING) for path in paths):
            return
        *sources, target = [path.name for path in paths]
        self._link({target: self.names[sources[0]], sources[0]: None} if sources else {target: None})

    def _link(self, move: dict[str, File | None]) -> None:
        self.moves.append(move)
        _link(self.names, move)

    def left(self, dice: random.Random | None = None, most: bool = False) -> dict[str, bytes]:
        """The files after a power cut at this moment."""
        names = dict(self.safe_names)
        count = dice.randrange(len(self.moves) + 1) if dice else len(self.moves) if most else 0
        for move in self.moves[:count]:
            _link(names, move)
        return {name: file.left(dice, most) for name, file in names.items()}


def _link(names: Names, move: dict[str, File | None]) -> None:
    for name, file in move.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
