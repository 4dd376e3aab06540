"""What was removed is off the disk: in no row, in no page, in no WAL, whatever was done before and after.

Every text that is to go is looked for in the bytes of every file beside the database.
"""

import asyncio
import contextlib
import functools
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.eventlog import LogRefused, Reacting, Refusing, blanking, clearing, erasing
from chat.eventlog.erasing import erase
from chat.eventlog.opening import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from chat.protocol import (
    REACTIONS,
    Acted,
    Announcement,
    Message,
    MessageReactions,
    Person,
    Purged,
    Reacted,
    Reaction,
    Record,
    Removed,
    RoleGiven,
    Rules,
    RulesChanged,
    decode_message,
    encode,
)
from tests.book import (
    ANN,
    BOB,
    Book,
    MakeLog,
    deleting,
    editing,
    image,
    on_a_loop,
    opened,
    purging,
    query,
    reacting,
    size_of,
)
from tests.support import DEADLINE_S, ROOT

SIZES = {"short": 10, "longer than a row may be": 1500, "over several pages": 20_000}


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    return functools.partial(opened, tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chatroom.db"


def secret(size: int) -> str:
    """A text of which every part can be told from any other text."""
    return "".join(f"<secret {number}>" for number in range(max(1, size // 11)))


def leftovers(path: Path, word: str = "<secret") -> dict[str, int]:
    """In which files beside the database a word is found, and how often."""
    counts = {file.name: file.read_bytes().count(word.encode()) for file in path.parent.glob(f"{path.name}*")}
    return {name: count for name, count in counts.items() if count}


async def removed_by_edit(book: Book, text: str) -> None:
    await book.say(text)
    await book.act(*editing(await book.log.head("room"), "harmless"))


async def removed_by_second_edit(book: Book, text: str) -> None:
    await book.say("harmless")
    seq = await book.log.head("room")
    await book.act(*editing(seq, text))
    await book.act(*editing(seq, "harmless"))


async def removed_by_deleting(book: Book, text: str) -> None:
    await book.say(text)
    await book.act(*deleting(await book.log.head("room")))


async def removed_by_purge(book: Book, text: str) -> None:
    for _ in range(10):
        await book.say(text, by=BOB)
    await book.act(*editing(await book.log.head("room"), text, BOB), by=BOB.id)
    await book.act(*purging(BOB, ANN))


async def removed_by_refusal(book: Book, text: str) -> None:
    await book.say(text, hold_for="a word")
    await book.act(Refusing((await book.log.held("room"))[0].id))


async def removed_by_showing_and_deleting(book: Book, text: str) -> None:
    await book.say(text, hold_for="a word")
    await book.say(text, held=(await book.log.held("room"))[0].id)
    await book.act(*deleting(await book.log.head("room")))


async def removed_by_taking_down(book: Book, text: str) -> None:
    announced = Announcement(text, ANN, 1)
    for rules in (Rules(announcement=announced), Rules(5, announcement=announced), Rules(5)):
        await book.act(None, RulesChanged(0, 0, ANN, rules), entries={"rules": encode(rules)})


async def removed_by_trim(book: Book, text: str) -> None:
    for _ in range(10):
        await book.say(text)
    await book.fill(5)
    await book.log.keep("room", 0, 5)


WAYS = [
    removed_by_edit,
    removed_by_second_edit,
    removed_by_deleting,
    removed_by_purge,
    removed_by_refusal,
    removed_by_showing_and_deleting,
    removed_by_taking_down,
    removed_by_trim,
]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("remove", WAYS)
@on_a_loop
async def test_what_was_removed_is_in_no_file(make_log: MakeLog, path: Path, remove: Any, size: int) -> None:
    """Once the log is settled, and still after it was closed and opened; what was not removed is there."""
    async with make_log() as book:
        await book.fill(30, "kept")
        await remove(book, secret(size))
        await book.log.settled()
        assert leftovers(path) == {}
        await book.fill(30, "kept")
        assert leftovers(path) == {}
    assert leftovers(path) == {}
    async with make_log() as book:
        assert leftovers(path) == {}
        assert leftovers(path, "kept") or remove is removed_by_trim
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


@on_a_loop
async def test_the_text_is_on_the_disk_before_it_is_removed(make_log: MakeLog, path: Path) -> None:
    """So that the tests above would find it."""
    async with make_log() as book:
        for size in SIZES.values():
            await book.say(secret(size))
        assert leftovers(path)


@pytest.mark.parametrize("remove", WAYS)
@on_a_loop
async def test_a_kill_right_after_the_answer_brings_nothing_back(make_log: MakeLog, path: Path, remove: Any) -> None:
    """The next start takes it off the disk before it lets anybody in."""
    async with make_log() as book:
        await book.fill(30, "kept")
        with clearing_stopped(book):
            book.log.settled = book.log._idle.wait
            await remove(book, secret(1500))
            copy = image(path, "killed.db")
        assert leftovers(copy)
    async with make_log(copy.name) as book:
        if remove is removed_by_trim:  # its rows go in steps, after the start
            await book.say()
            await book.log.settled()
        assert leftovers(copy) == {}
        assert query(copy, "PRAGMA integrity_check") == [("ok",)]


@contextlib.contextmanager
def clearing_stopped(book: Book) -> Iterator[None]:
    book.log._clearing._is_stopped = True
    try:
        yield
    finally:
        book.log._clearing._is_stopped = False


KILLED = """
import asyncio, os, signal, sys
from tests.book import *

async def main():
    async with opened(Path(sys.argv[1])) as book:
        await book.fill(200, "kept")
        seqs = [await book.ask("<secret %d>" % n + "x" * n * 50) for n in range(60)]
        for each in [book.do(*deleting(seq)) for seq in seqs]:
            assert isinstance(await each, int)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@on_a_loop
async def test_a_process_that_was_killed_leaves_nothing_after_its_restart(make_log: MakeLog, path: Path) -> None:
    """kill -9 in the moment of the last answer."""
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(path.parent), cwd=ROOT, stderr=subprocess.PIPE
    )
    _, err = await ran.communicate()
    assert not err, err.decode()
    assert leftovers(path)
    async with make_log() as book:
        assert leftovers(path) == {}
        assert await book.log.head("room") == 320


@on_a_loop
async def test_a_reader_from_outside_only_delays_it(make_log: MakeLog, path: Path) -> None:
    """A backup or a shell holds the WAL; commits go on, and once it lets go the text goes."""
    async with make_log() as book:
        await book.say(secret(100))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT * FROM events").fetchall()
            await book.do(*deleting(1))
            settled = asyncio.ensure_future(book.log.settled())
            for _ in range(20):
                await book.ask("go on")
            assert not settled.done()
            assert leftovers(path)
            shell.execute("COMMIT")
            async with asyncio.timeout(DEADLINE_S):
                await settled
        assert leftovers(path) == {}


@on_a_loop
async def test_emptying_the_wal_is_put_off_while_much_is_removed(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About once a second, however many commits remove something; who waits for it has it at once."""
    emptied = []
    checkpoint = clearing.checkpoint

    def counted(db: sqlite3.Connection) -> bool:
        emptied.append(1)
        return checkpoint(db)

    monkeypatch.setattr(clearing, "checkpoint", counted)
    monkeypatch.setattr(clearing, "_CHECKPOINT_S", 3600)
    async with make_log() as book:
        await book.fill(100)
        for seq in range(1, 101):
            await book.do(*deleting(seq))
        assert len(emptied) <= 1
        await book.log.settled()
        assert len(emptied) == 2


# Between the rows of a page


async def stir(book: Book, dice: random.Random, count: int) -> list[str]:
    """Much is said, edited, reacted to and removed; returns the texts that are gone."""
    alive: dict[tuple[str, int], tuple[str, Person]] = {}
    gone: list[str] = []
    people = [Person(f"{number:016}", f"N{number}") for number in range(20)]

    def text() -> str:
        return f"<{dice.randrange(10**12):012}>" + "y" * dice.choice([0, 5, 50, 300, 900])

    for _ in range(count):
        room, by, what = f"room {dice.randrange(3)}", dice.choice(people), dice.random()
        here = [key for key in alive if key[0] == room]
        if what < 0.6 or len(here) < 5:
            said = text()
            alive[room, await book.ask(said, room=room, by=by)] = said, by  # type: ignore[index]
            continue
        key = dice.choice(here)
        said, by = alive[key]
        if what < 0.75:
            alive[key] = text(), by
            await book.do(*editing(key[1], alive[key][0], by), room=room, by=by.id)
            gone.append(said)
        elif what < 0.85:
            del alive[key]
            await book.do(*deleting(key[1]), room=room)
            gone.append(said)
        else:
            await book.do(*reacting(key[1], dice.choice(REACTIONS), dice.choice(people)), room=room)
    return gone


@pytest.mark.parametrize("seed", range(2))
@on_a_loop
async def test_copies_that_sqlite_leaves_between_rows_are_blanked(make_log: MakeLog, path: Path, seed: int) -> None:
    """Rows that moved to another page are not left behind in the first: no middle of a page has anything in it."""
    async with make_log() as book:
        gone = await stir(book, random.Random(seed), 1500)
        await book.log.settled()
        data = _read(path)
        assert [text for text in gone if text[:14].encode() in data] == []
        assert _soiled(path) == []
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        events = (await book.log.after("room 0", 0, 10_000, 1 << 40)).events
        await book.fill(50, room="room 0")
        assert (await book.log.after("room 0", 0, len(events), 1 << 40)).events == events


@on_a_loop
async def test_what_was_blanked_is_not_written_again(make_log: MakeLog, path: Path) -> None:
    """The pages as they were before are in nobody's memory that writes."""
    async with make_log() as book:
        await stir(book, random.Random(7), 1500)
        book.log._clearing._is_stopped = True
        checkpoint = functools.partial(clearing.checkpoint, book.log._writer)
        await book.log._idle.wait()
        assert await book.on_writer(checkpoint)
        soiled = _soiled(path)
        assert soiled
        assert await book.on_writer(blanking.blank, book.log._writer, book.log._taken.file, soiled)
        assert _soiled(path) == []
        before = [_page(path, number) for number in soiled]
        for room in range(3):
            await asyncio.gather(*(book.ask("x", room=f"room {room}") for _ in range(3)))
        await book.sql("UPDATE events SET at = at + 1")
        assert await book.on_writer(checkpoint)
        changed = [number for number, old in zip(soiled, before, strict=True) if _page(path, number) != old]
        assert len(changed) > len(soiled) / 2
        assert _soiled(path) == []
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _page(path: Path, number: int) -> bytes:
    return _read(path)[(number - 1) * 4096 : number * 4096]


def _soiled(path: Path) -> list[int]:
    with open(path, "rb") as file:
        found, page = blanking.soiled(file.fileno(), 1)
        while page:
            more, page = blanking.soiled(file.fileno(), page)
            found += more
    return found


@on_a_loop
async def test_a_large_file_is_looked_through_in_steps(
    make_log: MakeLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first page to its last, none left out."""
    monkeypatch.setattr(clearing, "_AT_START_BYTES", 0)
    monkeypatch.setattr(blanking, "_STEP_BYTES", 5 * 4096)
    async with make_log() as book:
        gone = await stir(book, random.Random(11), 1500)
        await book.log.settled()
        assert _soiled(path) == []
        data = _read(path)
        assert [text for text in gone if text[:14].encode() in data] == []


@on_a_loop
async def test_pages_that_hold_no_rows_are_left_alone(make_log: MakeLog, path: Path) -> None:
    """The pages that say where others belong begin like pages of rows; long texts are not touched either."""
    async with make_log() as book:
        await book.fill(3500, secret(1500))
        assert await book.act(*deleting(7)) == 3501
        assert blanking.layout(book.log._taken.file).map_every == 820
        assert size_of(path) > 830 * 4096
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        events = (await book.log.after("room", 0, 10_000, 1 << 40)).events
        assert [decode_message(event.body).text for event in events[7:3500]] == [secret(1500)] * 3493


def lookalike(path: Path, reserved: int = 0, auto_vacuum: int = 1) -> list[int]:
    """The pages to be blanked of a file in which all begin like pages of rows that have something in the middle."""
    page = bytes([2, 0, 0, 0, 1, 15, 0, 0, 0, 0, 0, 0, 15, 0]).ljust(100, b"x").ljust(4096, b"\0")
    header = bytearray(page)
    header[16:18], header[20], header[52:56] = b"\x10\0", reserved, bytes([0, 0, 0, auto_vacuum])
    path.write_bytes(header + page * 1699)
    return _soiled(path)


def test_only_pages_of_rows_are_blanked(path: Path) -> None:
    """Not the first, nor those that tell where others belong, nor any of a file that is divided otherwise."""
    rest = set(range(2, 1701))
    assert set(lookalike(path)) == rest - {2, 822, 1642}
    assert set(lookalike(path, auto_vacuum=0)) == rest
    assert lookalike(path, reserved=8) == []


# Somebody altogether


async def _live(book: Book, room: str, whom: Person) -> None:
    """`whom` takes part in a room in every way there is."""
    await book.say(f"<secret> of {whom.name}", by=whom, client_id="c", room=room)
    await book.say("from another", by=BOB, room=room)
    await book.act(*editing(1, "<secret> edited", whom), by=whom.id, room=room)
    await book.act(
        [Reacting(2, REACTIONS[0], by, True) for by in (whom, BOB)], Reacted(0, 0, []), room=room, by=whom.id
    )
    await book.act(None, RoleGiven(0, 0, whom, BOB, "moderator"), by=whom.id, room=room)
    mute = Record("mute", BOB, whom=whom, reason="<secret> reason")
    await book.act(None, Acted(0, 0, "mute", BOB, whom, 5), record=mute, room=room)
    await book.say("<secret> held", by=whom, hold_for="word", room=room)
    await book.act(
        entries={
            f"person:{whom.id}": encode({"name": whom.name, "role": "owner"}),
            "address:k": encode({"until": 9, "whom": whom, "reason": "<secret> ban"}),
            "filter": b"[]",
        },
        room=room,
    )
    rules = Rules(5, announcement=Announcement("<secret> welcome", whom, 1))
    await book.act(None, RulesChanged(0, 0, whom, rules), entries={"rules": encode(rules)}, room=room)


@on_a_loop
async def test_an_erased_person_is_nowhere_in_the_files(make_log: MakeLog, path: Path) -> None:
    """Neither his words nor his name, in any room; nothing else is touched, and seqs and times stay."""
    dan = Person("d" * 16, "Daniel")
    async with make_log() as book:
        for room in ("one", "two"):
            await _live(book, room, dan)
        await _live(book, "without", BOB)
        before = {room: (await book.log.after(room, 0, 50)).events for room in ("one", "two", "without")}
        rest = await book.log.open_room("without", 50)
    found = await asyncio.to_thread(erase, str(path), dan.id)
    assert [tuple(each) for each in found] == [("one", 2), ("two", 2)]
    assert leftovers(path, "Daniel") == {}
    assert leftovers(path, "<secret> of Dan") == {}
    # In the room of somebody else, an announcement in the event and in the order.
    for word, count in (("<secret> reason", 1), ("<secret> ban", 1), ("<secret> welcome", 2)):
        assert leftovers(path, word) == {path.name: count}
    async with make_log() as book:
        for room in ("one", "two"):
            await _check_erased(book, room, dan, before[room])
        assert (await book.log.after("without", 0, 50)).events == before["without"]
        assert (await book.log.open_room("without", 50))._replace(starts=[]) == rest._replace(starts=[])
        assert query(path, "SELECT count(*) FROM events WHERE person = ?", dan.id) == [(0,)]
        assert query(path, "SELECT count(*) FROM events WHERE client_id = 'c'") == [(1,)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert await asyncio.to_thread(erase, str(path), "e" * 16) == []


async def _check_erased(book: Book, room: str, whom: Person, before: list[Any]) -> None:
    after = (await book.log.after(room, 0, 50)).events
    assert [(event.seq, event.at) for event in after[:-1]] == [(event.seq, event.at) for event in before]
    nobody = Person(whom.id, "")
    ats = [event.at for event in after]
    assert [event.body for event in after] == [
        encode(Removed(1, ats[0])),
        encode(Message(2, ats[1], BOB, "from another", reactions=[Reaction(REACTIONS[0], 1, [BOB])])),
        encode(Removed(3, ats[2])),
        encode(Reacted(4, ats[3], [MessageReactions(2, [Reaction(REACTIONS[0], 1, [BOB])])])),
        encode(RoleGiven(5, ats[4], nobody, BOB, "moderator")),
        encode(Acted(6, ats[5], "mute", BOB, nobody, 5)),
        encode(RulesChanged(7, ats[6], nobody, Rules(5))),
        encode(Purged(8, ats[7], whom.id)),
    ]
    opening = await book.log.open_room(room, 1)
    assert (opening.head, opening.held) == (8, 0)
    address = encode({"until": 9, "whom": nobody})
    assert opening.entries == {"rules": encode(Rules(5)), "filter": b"[]", "address:k": address}
    (record,), _ = await book.log.acts(room, None, 9, None)
    assert record == encode(Record("mute", BOB, at=ats[5], id=1, whom=nobody))


@on_a_loop
async def test_an_erased_person_stays_banned(make_log: MakeLog, path: Path) -> None:
    """A ban needs his id and its end, and keeps no more."""
    standing = {"name": "Ann", "muted_for": "noise", "banned_until": 2**53 - 1, "banned_for": "<secret>"}
    async with make_log() as book:
        await book.act(entries={f"person:{ANN.id}": encode(standing), f"person:{BOB.id}": encode({"name": "Bob"})})
    assert [tuple(each) for each in await asyncio.to_thread(erase, str(path), ANN.id)] == [("room", 0)]
    assert leftovers(path) == {}
    async with make_log() as book:
        assert (await book.log.open_room("room", 1)).entries == {
            f"person:{ANN.id}": encode({"banned_until": 2**53 - 1}),
            f"person:{BOB.id}": encode({"name": "Bob"}),
        }


@on_a_loop
async def test_who_comes_back_after_an_erasure_is_told(make_log: MakeLog, path: Path) -> None:
    """The purge is an event of an epoch of its own: a client's past is whole, and the event is new to it."""
    async with make_log() as book:
        await book.fill(3)
        epoch = book.log.epoch
    await asyncio.to_thread(erase, str(path), ANN.id)
    async with make_log() as book:
        assert await book.is_ours(epoch, 3)
        assert not await book.is_ours(epoch, 4)
        assert b'"purge"' in (await book.log.after("room", 3, 9)).events[0].body


@on_a_loop
async def test_nobody_is_erased_under_a_running_server(make_log: MakeLog, path: Path) -> None:
    """The file is in use: one sentence, and nothing changes."""
    async with make_log() as book:
        await book.say()
        with pytest.raises(LogRefused, match="in use"):
            erase(str(path), ANN.id)
        assert await book.say() == 2
        assert b"removed" not in (await book.log.after("room", 0, 1)).events[0].body


def test_a_disk_that_is_full_is_told_in_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything was erased, and when the file could not be written anew."""

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    asyncio.run(_lived(path))
    monkeypatch.setattr(erasing, "_rewrite_file", full)
    with pytest.raises(LogRefused, match=r"may still be in .* \(database or disk is full\): make room .*\.$"):
        erase(str(path), ANN.id)
    monkeypatch.setattr(erasing, "_erase", full)
    with pytest.raises(LogRefused, match=r"Nothing was erased .* \(database or disk is full\): make room .*\.$"):
        erase(str(path), ANN.id)
    monkeypatch.undo()
    assert erase(str(path), ANN.id) == []


async def _lived(path: Path) -> None:
    async with opened(path.parent) as book:
        await book.say()


def test_nobody_is_erased_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Refused, and none is made."""
    for name in (str(tmp_path / "missing.db"), ":memory:", str(tmp_path)):
        with pytest.raises(LogRefused, match="no database"):
            erase(name, ANN.id)
    assert list(tmp_path.iterdir()) == []


# Files of the first version


def first_version(path: Path, count: int) -> None:
    """A log as the first version of this server left it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"{MIGRATIONS[0]} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; "
            "PRAGMA journal_mode = WAL; INSERT INTO rooms VALUES (1, 'room'); INSERT INTO epochs VALUES (1, 'first'); "
            "INSERT INTO epoch_starts VALUES (1, 1, 1);"
        )
        rows = [
            (
                1,
                seq,
                seq,
                "message",
                (ANN, BOB)[seq % 2].id,
                f"c{seq}",
                encode(Message(seq, seq, (ANN, BOB)[seq % 2], "x")),
            )
            for seq in range(1, count + 1)
        ]
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@on_a_loop
async def test_a_file_of_the_first_version_is_brought_forward(make_log: MakeLog, path: Path) -> None:
    """With all its events and epochs; everything can be done in it, and it shrinks."""
    first_version(path, 3000)
    stored = query(path, "SELECT seq, at, body FROM events")
    async with make_log() as book:
        assert [tuple(event) for event in (await book.log.after("room", 0, 9999, 1 << 40)).events] == stored
        assert await book.is_ours("first", 3000)
        assert query(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert query(path, "PRAGMA auto_vacuum") == [(2,)]
        assert (await book.log.said_by("room", BOB.id, None, 2)).events[-1].seq == 2999
        assert await book.act(*purging(ANN)) == 3001
        size = size_of(path)
        await book.log.keep("room", 0, 10)
        await book.log.settled()
        assert size_of(path) < size / 2


@on_a_loop
async def test_a_file_too_large_to_be_packed_anew_is_used_as_it_is(
    make_log: MakeLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not shrink, but what is removed is gone all the same."""
    monkeypatch.setattr("chat.eventlog.opening._PACKED_BYTES", 0)
    first_version(path, 2000)
    async with make_log() as book:
        await book.say(secret(3000))
        await book.act(*deleting(2001))
        size = size_of(path)
        await book.log.keep("room", 0, 10)
        await book.log.settled()
        assert leftovers(path) == {}
        assert size_of(path) >= size
        assert query(path, "PRAGMA auto_vacuum") == [(0,)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_copy_of_the_file_holds_nothing_of_what_was_removed(tmp_path: Path) -> None:
    """As a backup by plain copying takes it."""

    async def live() -> None:
        async with opened(tmp_path) as book:
            await book.fill(50)
            await removed_by_deleting(book, secret(3000))
            shutil.copyfile(tmp_path / "chatroom.db", tmp_path / "backup.db")

    asyncio.run(live())
    assert leftovers(tmp_path / "backup.db") == {}
    assert query(tmp_path / "backup.db", "SELECT count(*) FROM events") == [(52,)]
