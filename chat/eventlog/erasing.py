"""How a person is taken out of a log altogether, while no server runs on it.

All he said becomes `removed`, a `purge` tells those who come back, his reactions and announcements go, the
reasons of what he did and of what was done to him, too, and wherever else he is named only his id is left, which says
nothing about anybody. Invariant: every seq and `at` stays, and nothing else of the log changes.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from chat.eventlog import LogRefused
from chat.eventlog.changing import remove_all, take_back_reactions
from chat.eventlog.opening import Taken, checkpoint, let_go, take, transaction
from chat.eventlog.placing import Placing, Tail
from chat.eventlog.unnaming import Erased, act_without, entries_without, without
from chat.protocol import Purged


def erase(path: str, person: str) -> list[Erased]:
    """Take a person out of all rooms; raises LogRefused."""
    if not os.path.isfile(path):
        raise LogRefused(f"There is no database {path}: name the server's with --database.")
    taken = take(path)
    advice = "make room on the disk and do it again"
    try:
        with _refusing(f"Nothing was erased from {path}", advice):
            erased = _erase(taken, person)
        with _refusing(f"What was erased from {path} may still be in the unused parts of the file", advice):
            _rewrite_file(taken.writer)
    finally:
        let_go(taken)
    return erased


@contextlib.contextmanager
def _refusing(what: str, advice: str) -> Iterator[None]:
    """Let a disk that cannot be written be told in one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise LogRefused(f"{what} ({error}): {advice}.") from error


def _erase(taken: Taken, person: str) -> list[Erased]:
    db = taken.writer
    placing = Placing(db, taken.epochs[taken.epoch])
    placing.begin()
    with transaction(db):
        names = [name for (name,) in db.execute("SELECT name FROM rooms ORDER BY name")]
        erased = [found for name in names if (found := _erase_in(placing, name, person)) is not None]
        placing.flush()
    return erased


def _rewrite_file(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA temp_store = FILE")  # the file may be larger than the memory
    db.execute("VACUUM")  # what was moved about in the file is gone from its old places, too
    checkpoint(db)


def _erase_in(placing: Placing, name: str, person: str) -> Erased | None:
    """Take somebody out of one room; None if he is nowhere in it."""
    tail = placing.tail(name)
    n = remove_all(placing, tail, person)
    is_named = [
        bool(take_back_reactions(placing, tail, person)),
        _unname_events(placing, tail, person),
        _unname_acts(placing.db, tail.room, person),
        _unname_entries(placing, tail, person),
        _forget(placing.db, tail.room, person),
    ]
    if n:
        placing.add_event(tail, Purged(0, 0, person), "")
    return Erased(name, n) if n or any(is_named) else None


def _forget(db: sqlite3.Connection, room: int, person: str) -> bool:
    """What is kept of him beside his words: what he wrote and is held, and which `client_id`s were his."""
    his = (room, person)
    is_held = db.execute("DELETE FROM held WHERE room = ? AND person = ?", his).rowcount > 0
    blank = "UPDATE events SET person = '', client_id = NULL WHERE room = ? AND person = ?"
    return db.execute(blank, his).rowcount > 0 or is_held


# Where he is named


def _unname_events(placing: Placing, tail: Tail, person: str) -> bool:
    placing.flush()
    named = "SELECT seq, body FROM events WHERE room = ? AND instr(body, ?)"
    rows = placing.db.execute(named, (tail.room, person.encode())).fetchall()
    changed = [(body, tail.room, seq) for seq, old in rows if (body := without(old, person)) != old]
    placing.db.executemany("UPDATE events SET body = ? WHERE room = ? AND seq = ?", changed)
    return bool(changed)


def _unname_acts(db: sqlite3.Connection, room: int, person: str) -> bool:
    rows = db.execute("SELECT id, body FROM acts WHERE room = ? AND (by = ? OR whom = ?)", (room, person, person))
    changed = [(act_without(body, person), room, id) for id, body in rows.fetchall()]
    db.executemany("UPDATE acts SET body = ? WHERE room = ? AND id = ?", changed)
    return bool(changed)


def _unname_entries(placing: Placing, tail: Tail, person: str) -> bool:
    rows = placing.db.execute("SELECT key, body FROM entries WHERE room = ?", (tail.room,))
    changed = entries_without(dict(rows), person)
    placing.enter(tail, changed)
    return bool(changed)
