"""Readings that are under way while a room is rewritten: none of them is answered with what was removed meanwhile.

Runs on the loop. Invariant: a reading that began before a commit rewrote its room is done again.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from chat.protocol import ProtocolError

Result = TypeVar("Result")


class _Reading:
    """A reading that is under way; outdated once its room was rewritten."""

    is_outdated = False


class Readings:
    """Those of all rooms."""

    def __init__(self) -> None:
        self._under_way: dict[str, set[_Reading]] = {}

    async def fresh(self, room: str, read: Callable[[int], Awaitable[Result]]) -> Result:
        """What `read` finds, asked as often as it takes; it is told how often it was asked before."""
        tries = 0
        while True:
            with self._reading(room) as this:
                try:
                    found = await read(tries)
                except ProtocolError:
                    if not this.is_outdated:
                        raise
                else:
                    if not this.is_outdated:
                        return found
            tries += 1

    def outdate(self, room: str) -> None:
        """What is being read of this room may hold what is there no more."""
        for each in self._under_way.get(room, ()):
            each.is_outdated = True

    @contextmanager
    def _reading(self, room: str) -> Iterator[_Reading]:
        this = _Reading()
        self._under_way.setdefault(room, set()).add(this)
        try:
            yield this
        finally:
            self._under_way[room].discard(this)
            if not self._under_way[room]:
                del self._under_way[room]
