"""What SQLite leaves between the rows of a page, and how it is blanked.

`secure_delete` overwrites what is deleted, but when SQLite spreads the rows of a full page over its
neighbours it may leave copies of those that moved in the unused middle of the page. Once such a row is
removed, its text would still be there. So the unused middle of every page of rows is filled with zeros, in the file
itself: those bytes mean nothing to SQLite (https://sqlite.org/fileformat2.html, 1.6), and a write that is torn harms
nothing. Invariant: a byte is written only while the WAL is empty and nobody else can write, and
only between the row pointers and the first row of a page that holds rows.
"""

import os
import sqlite3
import struct
from collections.abc import Iterable
from typing import NamedTuple

from chat.eventlog.opening import checkpoint

_STEP_BYTES = 4 * 1024 * 1024
_MOST_PAGES = 1 << 24  # beyond them the pages of long rows could look like pages of many
_HEADER = struct.Struct(">BHHH")  # of a page: its kind, (the first gap between rows), how many rows, where they begin
_HEADER_BYTES = {2: 12, 10: 8, 13: 8}  # by kind, where it holds rows
_ZEROS = bytes(65536)


class Layout(NamedTuple):
    """How a file is divided, as its first bytes say."""

    page_bytes: int
    pages: int
    map_every: int  # pages there is one that tells where others belong; 0 if there is none

    def has_rows(self, page: int) -> bool:
        """Whether it may; the first page holds the tables' definitions."""
        return page > 1 and not (self.map_every and (page - 2) % self.map_every == 0)


def layout(file: int) -> Layout | None:
    """None for a file that had better be left alone."""
    header = os.pread(file, 100, 0)
    page_bytes = int.from_bytes(header[16:18], "big")
    pages = os.fstat(file).st_size // max(page_bytes, 1)
    if page_bytes < 512 or header[20] or pages >= _MOST_PAGES:
        return None
    return Layout(page_bytes, pages, page_bytes // 5 + 1 if any(header[52:56]) else 0)


def soiled(file: int, first: int) -> tuple[list[int], int]:
    """Which of some pages from `first` on are not blank in the middle, and where to go on; 0 at the end."""
    here = layout(file)
    if here is None:
        return [], 0
    count = _STEP_BYTES // here.page_bytes
    data = os.pread(file, count * here.page_bytes, (first - 1) * here.page_bytes)
    pages = range(first, first + len(data) // here.page_bytes)
    found = [page for page in pages if here.has_rows(page) and _is_soiled(data, (page - first) * here.page_bytes, here)]
    return found, first + count if first + count <= here.pages else 0


def _is_soiled(data: bytes, start: int, here: Layout) -> bool:
    low, high = _middle(data, start, here)
    return data[low:high] != _ZEROS[: high - low]


def _middle(data: bytes, start: int, here: Layout) -> tuple[int, int]:
    """Where the unused middle of a page begins and ends."""
    kind, _, rows, first_row = _HEADER.unpack_from(data, start)
    low, high = start + _HEADER_BYTES.get(kind, here.page_bytes) + 2 * rows, start + (first_row or 65536)
    return (low, high) if low <= high <= start + here.page_bytes else (low, low)


def blank(db: sqlite3.Connection, file: int, pages: Iterable[int]) -> bool:
    """Blank the middle of these pages; False if that cannot be done at this moment."""
    if not checkpoint(db):
        return False
    db.execute("BEGIN IMMEDIATE")
    try:
        here = layout(file)
        if here is None or not _is_wal_empty(db):
            return here is None
        for page in pages:
            _blank(file, page, here)
        os.fsync(file)
    finally:
        db.execute("ROLLBACK")
    db.execute("PRAGMA shrink_memory")  # or the pages as they were in memory would be written again
    return True


def _blank(file: int, page: int, here: Layout) -> None:
    offset = (page - 1) * here.page_bytes
    data = os.pread(file, here.page_bytes, offset)
    if len(data) == here.page_bytes and _is_soiled(data, 0, here):  # else SQLite has written it meanwhile
        low, high = _middle(data, 0, here)
        rows = struct.unpack(f">{(low - _HEADER_BYTES[data[0]]) // 2}H", data[_HEADER_BYTES[data[0]] : low])
        if min(rows, default=high) >= high:
            os.pwrite(file, bytes(high - low), offset + low)


def _is_wal_empty(db: sqlite3.Connection) -> bool:
    (_, _, path) = db.execute("PRAGMA database_list").fetchone()
    return os.path.getsize(path + "-wal") == 0


def blank_all(db: sqlite3.Connection, file: int) -> bool:
    """Blank a whole file at once; False if that cannot be done at this moment."""
    found, page = soiled(file, 1)
    while page:
        more, page = soiled(file, page)
        found += more
    return not found or blank(db, file, found)
