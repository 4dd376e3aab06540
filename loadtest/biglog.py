"""A log of millions of events, written into the server's own database file past the server.

Owns the file and its cache: the server makes the tables and the first event of each room, so that the schema is its
own, and SQL copies that event on. Invariant: a file that is in the cache is whole, and of the schema of today's server.
"""

import hashlib
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loadtest.machine import Cores
from loadtest.peers import CHATROOM, ROOT, Serving, end, started
from loadtest.swarm import swarmed

ROOM: Final = "big"
OTHER_ROOMS: Final = 20
OTHER_EVENTS: Final = 1000  # in each
STEP: Final = 250_000  # events written in one transaction
DAYS: Final = 100  # over which they are spread; the newest is a week old

COPIED: Final = """
    INSERT INTO events (room, seq, at, type, person, client_id, body)
    WITH RECURSIVE number(seq) AS (SELECT :first UNION ALL SELECT seq + 1 FROM number WHERE seq < :last)
    SELECT :room, seq, :since + seq * :step, 'message', person, client_id || '-' || seq, CAST(replace(replace(
               CAST(body AS TEXT), '"seq":1,', '"seq":' || seq || ','),
               '"at":' || at || ',', '"at":' || (:since + seq * :step) || ',') AS BLOB)
    FROM number CROSS JOIN (SELECT at, person, client_id, body FROM events WHERE room = :room AND seq = 1)
"""


def big_log(events: int, folder: Path, cores: Cores, progress: Callable[[str], None]) -> Path:
    """Return a database with so many events in one room, made if the cache has none for this schema."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chatroom-biglog-", dir=folder) as name:
        draft = Path(name) / "x.db"
        start_log(draft, cores)
        kept = folder / f"log-{events}-{schema_key(draft)}"
        if not (kept / "x.db").exists():
            progress(f"writing a log of {events:,} events (kept in {kept} for the next time)")
            write_events(draft, events)
            shutil.rmtree(kept, ignore_errors=True)
            Path(name).rename(kept)
            Path(name).mkdir()
    return kept / "x.db"


def start_log(database: Path, cores: Cores) -> None:
    """Let the server make the file and the first event of every room."""
    command = [sys.executable, str(ROOT / "chatroom.py"), "--port=0", f"--database={database}", "--message_rate=0"]
    process = started(command, database.parent, cores)
    try:
        server = Serving(process, database.parent)
        server.await_port()
        for room in (ROOM, *(f"other-{number}" for number in range(OTHER_ROOMS))):
            one = "--mode=rate --members=1 --senders=1 --rate=1000 --seconds=0.001 --warmup=0 --settle=0"
            swarmed(server.port, f"{one} --room={room}", adapter=CHATROOM.adapter)
    finally:
        end(process, signal.SIGTERM, signal.SIGKILL)


def schema_key(database: Path) -> str:
    """Return what changes when the server's tables do."""
    with sqlite3.connect(database) as db:
        tables = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")]
        version = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return hashlib.sha256(repr((tables, version)).encode()).hexdigest()[:12]


def write_events(database: Path, events: int) -> None:
    """Copy the first event of each room on, until there are so many in the big one."""
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -262144")
    for room, name in db.execute("SELECT room, name FROM rooms").fetchall():
        write_room(db, room, events if name == ROOM else OTHER_EVENTS)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def write_room(db: sqlite3.Connection, room: int, events: int) -> None:
    """Fill one room; what the server stored itself becomes the oldest."""
    step_ms = max(DAYS * 24 * 3600 * 1000 // events, 1)
    since_ms = int(time.time() * 1000) - 7 * 24 * 3600 * 1000 - events * step_ms
    for first in range(2, events + 1, STEP):
        last = min(first + STEP - 1, events)
        db.execute(COPIED, {"room": room, "first": first, "last": last, "since": since_ms, "step": step_ms})
    (at,) = db.execute("SELECT at FROM events WHERE room = ? AND seq = 1", (room,)).fetchone()
    db.execute(
        "UPDATE events SET at = :at, body = CAST(replace(CAST(body AS TEXT), :old, :new) AS BLOB)"
        " WHERE room = :room AND seq = 1",
        {"room": room, "at": since_ms, "old": f'"at":{at},', "new": f'"at":{since_ms},'},
    )
