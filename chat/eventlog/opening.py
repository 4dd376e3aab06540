"""How a file becomes the log's: it is locked, looked at before anything is written, and brought to this schema.

Invariant: a file that is refused is left as it was found, and one that is opened has this version's
tables, an epoch of its own for this start, and nothing in its WAL.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chat.eventlog import LogRefused

APPLICATION_ID = 0x43525F31  # "CR_1", at offset 68 of the file
SCHEMA_VERSION = 3

_CHECKED_WHOLE_BYTES = 64 * 1024 * 1024  # a larger file would hold up the start
_PACKED_BYTES = 256 * 1024 * 1024  # so would writing a larger one anew
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_BUSY_MS = 5000  # nobody else writes; a backup or a shell may, for a moment

# One entry a version: the step from the version before.
MIGRATIONS = (
    """
    CREATE TABLE rooms (room INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE events (
        room INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        type TEXT NOT NULL, person TEXT NOT NULL, client_id TEXT, body BLOB NOT NULL,
        PRIMARY KEY (room, seq)
    ) WITHOUT ROWID;
    CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
    CREATE TABLE epoch_starts (
        room INTEGER NOT NULL, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        PRIMARY KEY (room, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE probes (body BLOB NOT NULL);
    """,
    """
    ALTER TABLE rooms ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX events_by_person ON events (person) WHERE type IN ('message', 'edit');
    CREATE INDEX events_trimming ON events (room, type) WHERE type IN ('edit', 'trim');
    CREATE TABLE entries (
        room INTEGER NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (room, key)
    ) WITHOUT ROWID;
    CREATE TABLE acts (
        room INTEGER NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL,
        by TEXT NOT NULL, whom TEXT, body BLOB NOT NULL,
        PRIMARY KEY (room, id)
    ) WITHOUT ROWID;
    CREATE TABLE reactions (
        id INTEGER PRIMARY KEY, room INTEGER NOT NULL, seq INTEGER NOT NULL,
        kind TEXT NOT NULL, person TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (room, seq, kind, person)
    );
    CREATE INDEX reactions_in_order ON reactions (room, seq, kind);
    CREATE INDEX reactions_by_person ON reactions (room, person);
    CREATE TABLE held (
        id INTEGER PRIMARY KEY AUTOINCREMENT, room INTEGER NOT NULL, at INTEGER NOT NULL,
        person TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, client_id TEXT, reply_to INTEGER,
        why TEXT NOT NULL, refused INTEGER NOT NULL DEFAULT 0,
        UNIQUE (room, person, client_id)
    );
    """,
    """
    CREATE INDEX events_announcing ON events (room) WHERE type = 'rules' AND instr(body, '"announcement":');
    """,
)


class Taken(NamedTuple):
    """A file that is held: its lock, itself, a connection for each thread, and the epochs with this start's."""

    lock: int | None
    file: int | None
    writer: sqlite3.Connection
    reader: sqlite3.Connection  # of a memory database, which has one connection only, the writer's
    epoch: str
    epochs: dict[str, int]


def take(path: str) -> Taken:
    """Lock a file and open it, or make it; raises LogRefused."""
    if path == ":memory:":
        db = _opened(path)
        return Taken(None, None, db, db, *_open_epoch(db))
    path = os.path.realpath(path)  # one lock, whatever links lead to the file
    _refuse_foreign(path)  # before a lock file is left beside what is not ours
    lock = _locked(path)
    try:
        writer = _opened(path)
        epoch, epochs = _open_epoch(writer)
        reader, file = _connected(path), os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return Taken(lock, file, writer, reader, epoch, epochs)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, sqlite3.Error):
            what = " ".join(str(error).split())
            raise LogRefused(f"The database {path} cannot be used ({what}): {_advice(what)}.") from error
        raise


def let_go(taken: Taken) -> None:
    """Close the connections, the last of which takes the WAL away, and then the lock."""
    taken.reader.close()
    taken.writer.close()
    for handle in (taken.file, taken.lock):  # not before: closing a file drops the locks that SQLite has on it
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does, or undo it."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite has undone it by itself where the disk failed
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def checkpoint(db: sqlite3.Connection) -> bool:
    """Empty the WAL into the file; False if somebody is reading from it, who is not waited for."""
    db.execute("PRAGMA busy_timeout = 0")
    try:
        (is_busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return not is_busy


def _locked(path: str) -> int:
    """Hold the lock file beside the database for as long as this process lives."""
    try:
        lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LogRefused(
            f"The folder of {path} cannot be written ({error.strerror}): name a file in another one with --database."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise LogRefused(
            f"The database {path} is in use by another server: stop that one, or name another file with --database."
        ) from None
    return lock


def _opened(path: str) -> sqlite3.Connection:
    """The writer's connection, after the file was found fit."""
    if path != ":memory:" and os.path.exists(path) and os.path.getsize(path):
        _check_pages(path)
    db = _connected(path)
    try:
        _migrate(db, path)
        # Only now: until the first commit the header must not wait in a WAL, where _check_header cannot see it.
        db.execute("PRAGMA journal_mode = WAL")
        _pack(db)
        checkpoint(db)  # what was removed just before a kill must not stay in the WAL
        db.execute("PRAGMA temp_store = MEMORY")  # nothing is spilled into files that nobody clears
    except BaseException:
        db.close()  # which also undoes a step that failed half-way
        raise
    return db


def _pack(db: sqlite3.Connection) -> None:
    """Write a file of an older version anew, if it is not too large, so that it can shrink from then on."""
    (is_shrinking,), (pages,), (page_bytes,) = (
        db.execute(f"PRAGMA {what}").fetchone() for what in ("auto_vacuum", "page_count", "page_size")
    )
    if is_shrinking or pages * page_bytes >= _PACKED_BYTES:
        return
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    with contextlib.suppress(sqlite3.OperationalError):  # no room for a second copy: the next start tries again
        db.execute("VACUUM")


def _refuse_foreign(path: str) -> None:
    if os.path.exists(path) and os.path.getsize(path):
        _check_header(path)


def _check_header(path: str) -> None:
    """Refuse a file that is not ours, by its first bytes alone: SQLite would already write beside it."""
    try:
        header = _first_bytes(path)
    except OSError as error:
        raise LogRefused(
            f"The database {path} cannot be read ({error.strerror}): name another file with --database."
        ) from None
    kept = "it was left as it is; name another file with --database"
    if _was_empty(path) and not any(header):
        return  # the power went in its very first commit: SQLite will undo it
    if len(header) < 100 or header[:16] != b"SQLite format 3\0":
        raise LogRefused(f"{path} is not a database of this server, or its beginning is damaged: {kept}.")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise LogRefused(f"{path} is a database of another program: {kept}.")
    if int.from_bytes(header[60:64], "big") > SCHEMA_VERSION:
        raise _newer(path)
    page_bytes = int.from_bytes(header[16:18], "big") or 1
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    has_rest = any(os.path.exists(rest) and os.path.getsize(rest) for rest in (path + "-wal", path + "-journal"))
    if os.path.getsize(path) < page_bytes * int.from_bytes(header[28:32], "big") and not has_rest:
        raise LogRefused(
            f"{path} is damaged (its end is missing): restore a backup, or name another file with --database."
        )


def _was_empty(path: str) -> bool:
    """Whether a commit is unfinished that began with an empty file."""
    try:
        journal = _first_bytes(path + "-journal")
    except OSError:
        return False
    return journal[:8] == _JOURNAL_MAGIC and not any(journal[16:20])


def _newer(path: str) -> LogRefused:
    return LogRefused(
        f"{path} was written by a newer version of this server: use that one, or name another file with --database."
    )


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(100)


def _check_pages(path: str) -> None:
    """Refuse a damaged file before anything writes to it; a large one is checked as it is read."""
    is_unfinished = os.path.exists(path + "-journal")  # killed in its very first commit: SQLite will undo it
    if is_unfinished or os.path.getsize(path) > _CHECKED_WHOLE_BYTES:
        return
    with contextlib.closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as db:
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _connected(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA journal_size_limit = 67108864")
    return db


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring the file to this version's schema, one transaction a step."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:  # the header may have looked older: the mark was still in the WAL
        raise _newer(path)
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        # A new file hears it before its first page is made, and gets it in one commit with the mark that it is ours.
        begin = "BEGIN; PRAGMA auto_vacuum = INCREMENTAL;" if number == 1 else "BEGIN IMMEDIATE;"
        db.executescript(f"{begin} {step} {marks} COMMIT;")


def _open_epoch(db: sqlite3.Connection) -> tuple[str, dict[str, int]]:
    word = secrets.token_urlsafe(9)
    db.execute("INSERT INTO epochs (word) VALUES (?)", (word,))
    return word, dict(db.execute("SELECT word, epoch FROM epochs"))


def _advice(what: str) -> str:
    if "full" in what:
        return "make room on the disk"
    if "locked" in what:
        return "stop the other program that is writing to it"
    if "I/O" in what:
        return "look after its disk, or name another file with --database"
    if "unable to open" in what or "readonly" in what:
        return "make its folder writable, or name another file with --database"
    return "restore a backup, or name another file with --database"
