"""How what was removed gets off the disk, and how a room lets go of its oldest events.

A commit that removes something is done once its rows say so; the text is still in the WAL, and the
rows below a room's `first_seq` are still there. That is cleared afterwards: on the writer's thread, in steps
between which other commits go. Invariant: each step ends in a file that is whole, so that clearing
may stop anywhere and goes on with the next start.
"""

import asyncio
import math
import operator
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from chat.eventlog import Done
from chat.eventlog.blanking import blank, blank_all, soiled
from chat.eventlog.opening import Taken, checkpoint, transaction
from chat.eventlog.placing import Placing, Tail
from chat.eventlog.reading import TRIMMING, extent, first_to_keep
from chat.protocol import Removed, Trimmed

Write = Callable[[Callable[[Any], Any], Any, "Callable[[Future[Any]], None]"], None]

# Below it a room's rows may go; the newest one stays, as seqs go on from it.
_BOUND = "min(first_seq, (SELECT max(seq) FROM events WHERE room = rooms.room))"
_STEP_ROWS = 500
_STEP_PAGES = 256
_CHECKPOINT_S = 1.0  # between two, while much is removed
_LOOK_SHARE = 20  # looking through all pages takes a twentieth of the time
_AT_START_BYTES = 64 * 1024 * 1024  # a larger file would hold up the start
_AGAIN_S = 0.05  # after one that a reader held up, at first
_FAILED_S = 1.0  # after a disk that could not be written


@dataclass(slots=True)
class Keeping:
    """A room that is to let go of what is too old; `done` is called as a change's is."""

    room: str
    since_ms: int
    events: int
    done: Done


def trim(placing: Placing, asked: Keeping) -> int:
    """Let a room begin later; returns the seq of the event that tells it, 0 if nobody would miss anything."""
    placing.flush()
    if extent(placing.db, asked.room).room is None:
        return 0
    tail = placing.tail(asked.room)
    _drop_old_held(placing, tail, asked.since_ms)
    first = first_to_keep(placing.db, tail.extent, asked.since_ms, asked.events)
    if first <= tail.first:
        return 0
    lost = "SELECT 1 FROM events WHERE room = ? AND seq >= ? AND seq < ? AND type = 'message' LIMIT 1"
    is_loss = placing.db.execute(lost, (tail.room, tail.first, first)).fetchone() is not None
    placing.db.execute("UPDATE rooms SET first_seq = ? WHERE room = ?", (first, tail.room))
    tail.first = first
    _remove_edits(placing, tail)
    placing.batch.rewritten.add(tail.name)
    placing.batch.trimmed.add(tail.room)
    return placing.add_event(tail, Trimmed(0, 0, first), "") if is_loss else 0


def _remove_edits(placing: Placing, tail: Tail) -> None:
    """The edits that are kept, but whose messages are not, would still have their texts."""
    left = placing.db.execute(
        f"SELECT seq, at FROM events WHERE room = ? AND {TRIMMING} AND type = 'edit' AND seq >= ? "
        "AND json_extract(CAST(body AS TEXT), '$.message') < ?",
        (tail.room, tail.first, tail.first),
    )
    for seq, at in left.fetchall():
        placing.rewrite(tail, Removed(seq, at))


def _drop_old_held(placing: Placing, tail: Tail, since_ms: int) -> None:
    """What nobody has reviewed in so long a time is too old, too."""
    if placing.db.execute("DELETE FROM held WHERE room = ? AND at < ?", (tail.room, since_ms)).rowcount:
        tail.held = placing.read_held(tail.room)
        placing.batch.is_removing = True


class Clearing:
    """What is still to be cleared; for the loop, which has one step at a time done on the writer's thread."""

    def __init__(self, taken: Taken, write: Write) -> None:
        self._db, self._file = taken.writer, -1 if taken.file is None else taken.file
        self._write = write
        self._rooms = _trimmed_rooms(self._db)  # where rows are left that nobody can read any more
        self._is_packing = False  # there are free pages that the disk may have back
        self._is_logged = bool(self._rooms)  # the WAL has what was removed
        self._is_soiled = self._is_file and not _is_blanked(self._db, self._file)  # so may pages have
        self._page = 0  # where to look next; 0 while nobody looks
        self._found: list[int] = []
        self._began_s = 0.0
        self._empty_at_s = self._look_at_s = self._not_before_s = 0.0
        self._again_s = _AGAIN_S
        self._is_hurried = False
        self._is_running = False
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._cleared = asyncio.Event()

    @property
    def _is_file(self) -> bool:
        return self._file >= 0

    @property
    def _is_due(self) -> bool:
        return bool(self._is_running or self._is_logged or self._is_soiled or self._page or self._found)

    def note(self, is_removing: bool = False, *trimmed: int) -> None:
        """Take up what a commit left: something in the WAL, or rooms with rows below their first seq."""
        self._rooms.update(trimmed)
        self._is_logged |= is_removing or bool(trimmed)
        if self._is_due:
            self._go_on()

    async def done(self) -> None:
        """Return when nothing is left of what was removed; it is put off no longer."""
        while self._is_due and not self._is_stopped:
            self._is_hurried = True
            self._cleared.clear()
            self._go_on()
            await self._cleared.wait()

    def stop(self) -> None:
        """Leave the rest to the next start."""
        self._is_stopped = True
        self._put_off(None)
        self._cleared.set()

    def _put_off(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wait_s is None else asyncio.get_running_loop().call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        """Have the next step done: rows, then pages, then the WAL, then what is left between the rows of pages."""
        self._put_off(None)
        if self._is_running or self._is_stopped:
            return
        if (wait_s := self._not_before_s - _now_s()) > 0:
            self._put_off(wait_s)
            return
        now_s = math.inf if self._is_hurried else _now_s()
        if self._rooms:
            room = next(iter(self._rooms))
            self._run(partial(_free, self._db, room), partial(self._freed, room))
        elif self._is_packing:
            self._run(partial(_pack, self._db), self._packed)
        elif self._is_logged and now_s >= self._empty_at_s:
            self._is_logged = False  # what is removed from now on needs another one
            self._run(partial(checkpoint, self._db), self._emptied)
        elif self._page:
            self._run(partial(soiled, self._file, self._page), self._looked)
        elif self._found:
            self._run(partial(blank, self._db, self._file, self._found), self._blanked)
        elif self._is_soiled and now_s >= self._look_at_s:
            self._is_soiled, self._page, self._began_s = False, 1, _now_s()
            self._go_on()
        else:
            self._wait()

    def _wait(self) -> None:
        """Nothing is to be done now; perhaps nothing at all."""
        due_s = [self._empty_at_s] * self._is_logged + [self._look_at_s] * self._is_soiled
        if due_s:
            self._put_off(max(0, min(due_s) - _now_s()))
        else:
            self._is_hurried = False
            self._cleared.set()

    def _run(self, step: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._is_running = True
        self._write(operator.call, step, lambda result: self._stepped(result, then))

    def _stepped(self, result: "Future[Any]", then: Callable[[Any], None]) -> None:
        self._is_running = False
        if self._is_stopped:
            return
        try:
            then(result.result())
        except (sqlite3.Error, OSError):
            self._is_logged = True
            self._rest(_FAILED_S)

    def _rest(self, wait_s: float) -> None:
        self._not_before_s = _now_s() + wait_s
        self._put_off(wait_s)

    def _try_again(self) -> None:
        """Somebody else is at the file, for a moment or for the time of a backup."""
        self._rest(self._again_s)
        self._again_s = min(2 * self._again_s, _CHECKPOINT_S)

    def _freed(self, room: int, is_done: bool) -> None:
        if is_done:
            self._rooms.discard(room)
            self._is_packing = True
        self._go_on()

    def _packed(self, is_done: bool) -> None:
        self._is_packing = not is_done
        self._go_on()

    def _emptied(self, is_done: bool) -> None:
        if not is_done:
            self._is_logged = True
            self._try_again()
            return
        self._again_s = _AGAIN_S
        self._empty_at_s = _now_s() + _CHECKPOINT_S
        self._is_soiled = self._is_file
        self._go_on()

    def _looked(self, seen: tuple[list[int], int]) -> None:
        found, self._page = seen
        self._found += found
        if not self._page:
            self._look_at_s = _now_s() + _LOOK_SHARE * (_now_s() - self._began_s)
        self._go_on()

    def _blanked(self, is_done: bool) -> None:
        if not is_done:
            self._try_again()
            return
        self._found = []
        self._go_on()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


# Steps, on the writer's thread: each returns whether it was the last of its kind


def _is_blanked(db: sqlite3.Connection, file: int) -> bool:
    """Blank what the last run left, if that does not take long."""
    try:
        return os.fstat(file).st_size <= _AT_START_BYTES and blank_all(db, file)
    except (sqlite3.Error, OSError):  # somebody else is at the file, or the disk fails: later, as after a commit
        return False


def _trimmed_rooms(db: sqlite3.Connection) -> set[int]:
    left = f"SELECT room FROM rooms WHERE EXISTS (SELECT 1 FROM events WHERE room = rooms.room AND seq < {_BOUND})"
    return {room for (room,) in db.execute(left)}


def _free(db: sqlite3.Connection, room: int) -> bool:
    """Delete a few of the rows that nobody can read any more."""
    with transaction(db):
        (bound,) = db.execute(f"SELECT {_BOUND} FROM rooms WHERE room = ?", (room,)).fetchone()
        reactions = "SELECT id FROM reactions WHERE room = ? AND seq < ? LIMIT ?"
        freed = db.execute(f"DELETE FROM reactions WHERE id IN ({reactions})", (room, bound, _STEP_ROWS)).rowcount
        (lowest,) = db.execute("SELECT min(seq) FROM events WHERE room = ?", (room,)).fetchone()
        end = min(bound, lowest + _STEP_ROWS - freed)
        db.execute("DELETE FROM events WHERE room = ? AND seq < ?", (room, end))
    return bool(end == bound and freed < _STEP_ROWS)


def _pack(db: sqlite3.Connection) -> bool:
    """Give a few free pages back."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    db.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
    (left,) = db.execute("PRAGMA freelist_count").fetchone()
    return bool(left == 0 or left >= free)  # a file that was too large to be packed anew keeps its pages
