"""What SQLite adds to the event log's promise: files that are refused, disks that are full, what a kill leaves."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.eventlog import LogRefused, opening, sqlite
from chat.eventlog.sqlite import SqliteLog
from chat.protocol import Person
from tests.book import Book, MakeLog, image, on_a_loop, query, seqs
from tests.support import DEADLINE_S, ROOT

HEAVY = "\U0001f680" * 4000  # 16,000 bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the test's one log."""
    return tmp_path / "chatroom.db"


@on_a_loop
async def test_nothing_is_shown_before_it_is_committed(make_sqlite: MakeLog, path: Path) -> None:
    """When an event is shown, and when its speaker is answered, any other connection finds it in the file."""
    async with make_sqlite() as book:
        count = "SELECT count(*) FROM events"
        book.look = lambda: query(path, count)[0][0]
        answered = []
        for _ in range(5):
            book.ask().add_done_callback(lambda _: answered.append(query(path, count)[0][0]))
            await book.log.settled()
            await asyncio.sleep(0)
        assert book.looks == [1, 2, 3, 4, 5]
        assert answered == [1, 2, 3, 4, 5]


@on_a_loop
async def test_one_commit_answers_the_speakers_of_all_rooms_first(make_sqlite: MakeLog) -> None:
    """Everybody of a commit has his ack before the first event of that commit, in any room."""
    async with make_sqlite() as book:
        for room in ("one", "two", "one"):
            book.ask(room=room)
        await book.log.settled()
        assert book.told == [("done", 1), ("done", 1), ("done", 2), ("events", "one", [1, 2]), ("events", "two", [1])]


@on_a_loop
async def test_a_commit_is_on_the_disk(make_sqlite: MakeLog) -> None:
    """WAL with synchronous=FULL: what a commit returned survives a power cut."""
    async with make_sqlite() as book:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2)):
            assert await book.sql(f"PRAGMA {pragma}") == [(value,)]


@on_a_loop
async def test_what_was_answered_survives_kill_9(make_sqlite: MakeLog, path: Path) -> None:
    """The image of a killed log opens, holds everything, and knows its past and its client_ids."""
    async with make_sqlite() as book:
        await book.fill(100)
        assert await book.say(client_id="c") == 101
        copy, one = image(path, "killed.db"), book.log.epoch
    async with make_sqlite(copy.name) as again:
        assert (await again.log.after("room", 0, 200)).events == book.shown["room"]
        assert await again.is_ours(one, 101)
        assert await again.say(client_id="c") == 101
        assert await again.say() == 102


@on_a_loop
async def test_a_log_killed_at_its_very_start_opens(make_sqlite: MakeLog, path: Path) -> None:
    """Before its first message the file is whole, too."""
    async with make_sqlite():
        copy = image(path, "killed.db")
    async with make_sqlite(copy.name) as book:
        assert await book.say() == 1


@pytest.mark.parametrize(
    "left", [lambda data: data, lambda data: data[: 2 * 4096], lambda data: bytes(4096) + data[4096:], lambda data: b""]
)
def test_a_log_that_stopped_in_its_very_first_commit_opens(path: Path, left: Callable[[bytes], bytes]) -> None:
    """The rollback journal of a commit that was under way says that there is no damage, whatever the disk has of it."""
    before = path.with_name("before.db")
    with contextlib.closing(sqlite3.connect(before, isolation_level=None)) as db:
        marks = f"PRAGMA application_id = {opening.APPLICATION_ID}; PRAGMA user_version = 1;"
        db.execute("PRAGMA cache_size = 1")  # so that the journal is written before the commit
        for step in f"BEGIN; {opening.MIGRATIONS[0]} {marks} INSERT INTO probes VALUES (zeroblob(100000))".split(";"):
            db.execute(step)
        shutil.copyfile(f"{before}-journal", f"{path}-journal")
        db.execute("COMMIT")
    path.write_bytes(left(before.read_bytes()))
    asyncio.run(SqliteLog(str(path)).close())
    assert query(path, "SELECT count(*) FROM epochs") == [(1,)]


def test_a_log_killed_at_any_moment_of_its_first_start_opens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each statement, whether its file has anything of ours yet or not."""
    connected, images = opening._connected, []

    def watched(path_: str) -> sqlite3.Connection:
        db = connected(path_)
        db.set_trace_callback(lambda _: images.append(files_of(path)))
        return db

    with monkeypatch.context() as patched:
        patched.setattr(opening, "_connected", watched)
        asyncio.run(SqliteLog(str(path)).close())
    assert len(images) > 20
    for number, files in enumerate(images):
        copy = path.with_name(f"copy{number}.db")
        for suffix, data in files.items():
            copy.with_name(copy.name + suffix).write_bytes(data)
        asyncio.run(SqliteLog(str(copy)).close())
        assert query(copy, "PRAGMA auto_vacuum") == [(2,)]


def files_of(path: Path) -> dict[str, bytes]:
    """What a kill -9 would leave at this moment, by the end of the name."""
    ends = ("", "-wal", "-journal")
    return {end: Path(f"{path}{end}").read_bytes() for end in ends if Path(f"{path}{end}").exists()}


@on_a_loop
async def test_a_restored_backup_is_found_out(make_sqlite: MakeLog, path: Path) -> None:
    """Whoever saw more than the backup holds is told so, at once and when others have written over it."""
    async with make_sqlite() as book:
        await book.fill(3)
        one = book.log.epoch
    backup = image(path, "backup.db")
    async with make_sqlite() as book:
        await book.fill(3)
        two = book.log.epoch
        assert await book.is_ours(two, 6)
    for rounds in range(3):  # restarts without a word
        async with make_sqlite(backup.name) as book:
            assert [await book.is_ours(one, after) for after in (2, 3, 4)] == [True, True, False], rounds
            assert not await book.is_ours(two, 6)
            silent = book.log.epoch
    async with make_sqlite(backup.name) as book:
        await book.fill(5)
        assert [await book.is_ours(one, after) for after in (3, 4, 5)] == [True, False, False]
        assert [await book.is_ours(silent, after) for after in (3, 4)] == [True, False]
        assert [await book.is_ours(two, after) for after in (0, 3, 6)] == [False] * 3
        assert await book.is_ours(book.log.epoch, 8)


@on_a_loop
async def test_reading_makes_no_room_in_the_file(make_sqlite: MakeLog, path: Path) -> None:
    """The history of any name can be asked for without filling the disk."""
    async with make_sqlite() as book:
        await book.say(room="used")
        await book.log.open_room("unused", 50)
        await book.log.before("unused", None, 50)
        assert query(path, "SELECT name FROM rooms") == [("used",)]


@on_a_loop
async def test_a_memory_log_keeps_the_promise_and_nothing_else(make_sqlite: MakeLog, tmp_path: Path) -> None:
    """`:memory:` works like a file, makes none, and two of them know nothing of each other."""
    async with make_sqlite(":memory:") as book, make_sqlite(":memory:") as other:
        await book.fill(100)
        assert await book.say(client_id="c") == await book.say(client_id="c") == 101
        assert seqs((await book.log.before("room", None, 3)).events) == [99, 100, 101]
        await book.log.probe()
        assert await other.log.head("room") == 0
    assert os.listdir(tmp_path) == []


# Versions


MIGRATIONS = opening.MIGRATIONS


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this the server of the next schema version."""

    def upgrade(step: str) -> None:
        monkeypatch.setattr(opening, "MIGRATIONS", (*MIGRATIONS, step))
        monkeypatch.setattr(opening, "SCHEMA_VERSION", len(MIGRATIONS) + 1)

    return upgrade


@on_a_loop
async def test_an_older_file_is_brought_forward(
    make_sqlite: MakeLog, path: Path, next_version: Callable[[str], None]
) -> None:
    """Each step runs once, and everything is still there; a new file has all steps."""
    async with make_sqlite() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT;")
    for head in (3, 4):
        async with make_sqlite() as book:
            assert await book.say() == head + 1
    assert query(path, "SELECT name, topic FROM rooms") == [("room", None)]
    assert query(path, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
    async with make_sqlite("new.db") as book:
        assert await book.say() == 1
    assert query(path.with_name("new.db"), "SELECT topic FROM rooms") == [(None,)]


@on_a_loop
async def test_a_step_that_fails_leaves_the_file_as_it_was(
    make_sqlite: MakeLog, path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction a step: the older server still opens it."""
    async with make_sqlite() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT; ALTER TABLE nothing ADD COLUMN x;")
    with pytest.raises(LogRefused):
        SqliteLog(str(path))
    assert [column[1] for column in query(path, "PRAGMA table_info(rooms)")] == ["room", "name", "first_seq"]
    monkeypatch.undo()
    async with make_sqlite() as book:
        assert await book.say() == 4


@on_a_loop
async def test_a_newer_file_is_refused_even_if_only_its_wal_knows(
    make_sqlite: MakeLog, path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server that was killed may have left its version in the WAL alone."""
    async with make_sqlite() as book:
        await book.fill(3)
    next_version("ALTER TABLE rooms ADD COLUMN topic TEXT;")
    async with make_sqlite():
        copy = image(path, "killed.db")
    monkeypatch.undo()
    with pytest.raises(LogRefused, match="newer"):
        await SqliteLog(str(copy)).close()


# Files that are refused


def filled_file(path: Path, pages: int = 60) -> bytes:
    """A whole log of some size; returns its bytes."""

    async def fill() -> None:
        log = SqliteLog(str(path))
        await Book(log).fill(pages, "x" * 3500)
        await log.close()

    asyncio.run(fill())
    assert not path.with_name(path.name + "-wal").exists()
    return path.read_bytes()


def _foreign(path: Path, pragma: str = "") -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"CREATE TABLE cats (name); INSERT INTO cats VALUES ('Tom'); {pragma}")


def _garbage_page(path: Path) -> None:
    data = bytearray(filled_file(path))
    middle = len(data) // 4096 // 2 * 4096
    data[middle : middle + 4096] = random.Random(3).randbytes(4096)
    path.write_bytes(data)


def _newer(path: Path) -> None:
    filled_file(path, 1)
    query(path, f"PRAGMA user_version = {opening.SCHEMA_VERSION + 1}")


def _truncated(keep: Callable[[int], int]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = filled_file(path)
        path.write_bytes(data[: keep(len(data))])

    return make


REFUSED: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("Dear diary,\n" * 1000),
    "a few bytes": lambda path: path.write_bytes(b"x"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "SQLite of another program": _foreign,
    "SQLite of a program with an id": lambda path: _foreign(path, "PRAGMA application_id = 1234;"),
    "another program's in WAL": lambda path: _foreign(path, "PRAGMA journal_mode = WAL;"),
    "of a newer version": _newer,
    "garbage in the middle": _garbage_page,
    "50 bytes left": _truncated(lambda size: 50),
    "100 bytes left": _truncated(lambda size: 100),
    "the first page left": _truncated(lambda size: 4096),
    "half of it left": _truncated(lambda size: size // 2),
    "the last byte missing": _truncated(lambda size: size - 1),
    "the last page missing": _truncated(lambda size: size - 4096),
}


def refused(path: Path | str) -> str:
    """The one sentence with which a path is refused."""
    with pytest.raises(LogRefused) as refusal:
        SqliteLog(str(path))
    sentence = str(refusal.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(path: Path, make: Callable[[Path], Any]) -> None:
    """One sentence that names the file, every time, and not a byte of it changed."""
    make(path)
    before = hashlib.sha256(path.read_bytes()).digest()
    for _ in range(2):
        assert str(path) in refused(path)
        assert hashlib.sha256(path.read_bytes()).digest() == before
    assert {file.name.removeprefix(path.name) for file in path.parent.iterdir()} <= {"", ".lock", "-wal", "-shm"}
    assert not path.with_name(path.name + "-wal").exists() or not path.with_name(path.name + "-wal").stat().st_size
    path.unlink()
    asyncio.run(SqliteLog(str(path)).close())  # nothing is held: another file in its place opens


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A directory, a missing folder, a folder that is a file: each in one sentence."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "folder") in refused(tmp_path / "folder")
    for path in (tmp_path / "missing" / "chatroom.db", tmp_path / "file" / "chatroom.db"):
        assert "folder" in refused(path)
    assert not list((tmp_path / "folder").iterdir())


def test_an_empty_file_is_a_new_log(path: Path) -> None:
    """As `touch` or a temporary-file function leaves it."""
    path.write_bytes(b"")
    asyncio.run(SqliteLog(str(path)).close())
    assert query(path, "PRAGMA application_id") == [(opening.APPLICATION_ID,)]


def test_an_odd_path_is_a_path(tmp_path: Path) -> None:
    """Nothing in it is taken for a URI or an escape."""
    path = tmp_path / "what? #1 50%41 file:x.db"
    filled_file(path, 3)
    asyncio.run(SqliteLog(str(path)).close())
    assert path.stat().st_size


@pytest.mark.parametrize("alias", ["same", "other spelling", "symbolic link"])
@on_a_loop
async def test_a_log_in_use_is_refused(make_sqlite: MakeLog, path: Path, alias: str) -> None:
    """A second server on the file is told so, by whatever name it knows the file; the first goes on."""
    async with make_sqlite() as book:
        await book.fill(3)
        second = path
        if alias == "other spelling":
            (path.parent / "folder").mkdir()
            second = path.parent / "folder" / ".." / path.name
        elif alias == "symbolic link":
            second = path.with_name("link.db")
            second.symlink_to(path)
        assert "in use" in refused(second)
        assert await book.say() == 4
    async with make_sqlite() as book:
        assert await book.log.head("room") == 4


HOLD = """
import sys
from chat.eventlog.sqlite import SqliteLog
log = SqliteLog(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


def test_a_log_in_use_by_another_process_is_refused_until_that_is_gone(path: Path) -> None:
    """Killed without a word it lets go all the same."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            assert "in use" in refused(path)
        finally:
            other.kill()
    asyncio.run(SqliteLog(str(path)).close())


def test_a_log_that_another_program_is_writing_to_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told to restore a backup of what is only locked; once it is free, it opens."""
    monkeypatch.setattr(opening, "_BUSY_MS", 50)
    filled_file(path, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert "stop the other program" in refused(path)
        db.execute("ROLLBACK")
    asyncio.run(SqliteLog(str(path)).close())


# A disk that is full


async def eventually_stores(book: Book) -> None:
    async with asyncio.timeout(DEADLINE_S):
        for _ in iter(lambda: book.log.storing, True):
            await asyncio.sleep(0.005)


@on_a_loop
async def test_a_full_disk_stores_and_shows_nothing_until_there_is_room(
    make_sqlite: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`not_stored`, the rooms are told once, reading goes on; with room again it recovers by itself, without a hole."""
    monkeypatch.setattr(sqlite, "_RETRY_S", 0.02)
    async with make_sqlite() as book:
        await book.fill(3)
        assert book.log.storing
        book.told.clear()
        await book.limit_growth(0)
        assert [await book.say(HEAVY, client_id=f"c{number}") for number in range(3)] == ["not_stored"] * 3
        assert book.told == [("done", "not_stored"), ("storing", False), ("done", "not_stored"), ("done", "not_stored")]
        assert not book.log.storing
        with pytest.raises(OSError, match="full"):
            await book.log.probe()
        assert seqs((await book.log.before("room", None, 50)).events) == [1, 2, 3]
        book.told.clear()
        await book.limit_growth(1000)
        await eventually_stores(book)
        assert book.told == [("storing", True)]
        await book.log.probe()
        assert [await book.say(HEAVY, client_id=f"c{number}") for number in (2, 1, 0, 2)] == [4, 5, 6, 4]
        assert seqs(book.shown["room"]) == [1, 2, 3, 4, 5, 6]
    async with make_sqlite() as book:
        assert seqs((await book.log.after("room", 0, 50)).events) == [1, 2, 3, 4, 5, 6]


@on_a_loop
async def test_a_message_that_could_be_stored_ends_the_alarm(
    make_sqlite: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the log's own attempts: the first commit that succeeds is the proof."""
    monkeypatch.setattr(sqlite, "_RETRY_S", 3600)
    async with make_sqlite() as book:
        await book.say()
        await book.limit_growth(0)
        assert await book.say(HEAVY) == "not_stored"
        await book.limit_growth(1000)
        assert await book.say(HEAVY) == 2
        assert [told for told in book.told if told[0] == "storing"] == [("storing", False), ("storing", True)]


@on_a_loop
async def test_a_failed_batch_fails_as_a_whole(make_sqlite: MakeLog, path: Path) -> None:
    """All of a transaction or nothing: no draft of it is stored, in no room, and no new room is made."""
    async with make_sqlite() as book:
        await book.say()
        await book.limit_growth(0)
        asked = [book.ask("small"), book.ask("small", room="new"), book.ask(HEAVY), book.ask("small", client_id="c")]
        assert {getattr(await answer, "code", None) for answer in asked} == {"not_stored"}
        await book.log.settled()
        assert await book.log.head("room") == 1
        assert query(path, "SELECT name FROM rooms") == [("room",)]
        assert "new" not in book.shown
        await book.limit_growth(1000)
        assert await book.say(client_id="c") == 2
        assert await book.say(room="new") == 1


@on_a_loop
async def test_probing_leaves_nothing_behind(make_sqlite: MakeLog, path: Path) -> None:
    """It writes as much as a batch of messages would, and takes it away again; who asks at once shares the answer."""
    async with make_sqlite() as book:
        await book.say()
        for _ in range(20):
            await asyncio.gather(*(book.log.probe() for _ in range(5)))
        assert query(path, "SELECT count(*) FROM probes") == [(0,)]
        assert query(path, "PRAGMA page_count")[0][0] < 60
        assert await book.say() == 2


FULL_DISK = """
import asyncio, json, os, resource, sys
from chat.eventlog import Draft, sqlite
from chat.protocol import Person

sqlite._RETRY_S = 0.02
path = sys.argv[1]

async def main():
    log = sqlite.SqliteLog(path)
    told, shown = [], []
    log.on_storing = told.append
    log.on_events = lambda room, events, changed: shown.extend(event.seq for event in events)

    async def say(client_id):
        answer = asyncio.get_running_loop().create_future()
        log.append(Draft("room", Person("a", "Ann"), "x" * 4000, client_id, None, answer.set_result))
        outcome = await answer
        await log.settled()
        return outcome if isinstance(outcome, int) else outcome.code

    before = [await say(f"before {number}") for number in range(20)]
    most = os.path.getsize(path + "-wal") + 30_000
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    during = [await say(f"during {number}") for number in range(40)]
    shown_then = list(shown)
    try:
        await log.probe()
        probed = ""
    except OSError as error:
        probed = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while not log.storing:
        await asyncio.sleep(0.005)
    after = [await say(f"during {number}") for number in range(40)]
    print(json.dumps([before, during, after, told, shown, shown_then, probed]), flush=True)
    if len(sys.argv) > 2:
        os._exit(0)
    await log.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("end", [[], ["killed"]])
@on_a_loop
async def test_files_that_may_not_grow_lose_nothing(make_sqlite: MakeLog, path: Path, end: list[str]) -> None:
    """As above, but refused by the kernel, in the WAL: the file system's limit, then room again, and a restart."""
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(path), *end, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await ran.communicate()
    assert not err, err.decode()
    before, during, after, told, shown, shown_then, probed = json.loads(out)
    stored = [seq for seq in during if seq != "not_stored"]
    assert before == list(range(1, 21))
    assert "not_stored" in during
    assert stored == list(range(21, 21 + len(stored)))
    assert shown_then == before + stored
    assert probed
    assert told[:2] == [False, True]
    assert told == [False, True] * (len(told) // 2)
    assert sorted(after) == list(range(21, 61))
    assert [seq for seq, first in zip(after, during, strict=True) if first != "not_stored"] == stored
    assert shown == list(range(1, 61))
    async with make_sqlite() as book:
        assert seqs((await book.log.after("room", 0, 200, 1 << 30)).events) == shown
        again = [await book.say(client_id=f"during {number}", by=Person("a", "Ann")) for number in range(40)]
        assert again == after
