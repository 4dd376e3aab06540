"""How long messages are kept: by the stricter of what the server and the room's owner say, at little cost."""

import functools
from pathlib import Path
from typing import Any

import pytest

from chat.keeping import keep, smallest
from chat.protocol import Rules, encode
from tests.book import Book, MakeLog, on_a_loop, opened


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    return functools.partial(opened, tmp_path)


async def rule(book: Book, room: str, rules: Rules) -> None:
    await book.act(room=room, entries={"rules": encode(rules)})


async def counts(book: Book, *rooms: str) -> list[int]:
    await book.log.settled()
    opened = [await book.log.open_room(room, 1) for room in rooms]
    return [opening.head - opening.first + 1 for opening in opened]


def nobody_here(_: str) -> Rules | None:
    return None


def test_the_strictest_limit_counts() -> None:
    """0 is none."""
    assert [smallest(), smallest(0, 0), smallest(0, 5), smallest(7, 5, 0)] == [0, 0, 5, 5]


@on_a_loop
async def test_each_room_is_kept_by_its_own_rules(make_log: MakeLog) -> None:
    """Without a limit of the server the other rooms keep everything."""
    async with make_log() as book:
        for room in ("short", "all", "slow"):
            await book.fill(20, room=room)
        await rule(book, "short", Rules(keep_events=5))
        await rule(book, "slow", Rules(9))
        await keep(book.log, nobody_here, 0, 0)
        assert await counts(book, "short", "all", "slow") == [6, 20, 20]


@on_a_loop
async def test_the_server_limits_every_room(make_log: MakeLog) -> None:
    """An owner may only be stricter; of a room in use its rules are asked there."""
    async with make_log() as book:
        for room in ("strict", "lax", "none"):
            await book.fill(20, room=room)
        await rule(book, "strict", Rules(keep_events=5))
        await rule(book, "lax", Rules(keep_events=50))
        await keep(book.log, lambda room: Rules(keep_events=3) if room == "strict" else None, 0, 10)
        assert await counts(book, "strict", "lax", "none") == [4, 11, 11]


@on_a_loop
async def test_rooms_without_limits_cost_one_query(make_log: MakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    async with make_log() as book:
        for number in range(3000):
            book.ask(room=f"room {number}")
        await book.log.settled()
        await rule(book, "room 7", Rules(read_only=True))
        read, readings = book.log._read, []

        async def counted(*what: Any) -> Any:
            readings.append(what)
            return await read(*what)

        monkeypatch.setattr(book.log, "_read", counted)
        await keep(book.log, nobody_here, 0, 0)
        assert len(readings) == 1
