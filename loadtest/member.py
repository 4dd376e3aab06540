"""A member as the reader sees him: one socket in one room, and what happened to it.

Owns nothing: the reader fills and empties him, the crowd makes and ends him.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loadtest.account import Account, Room
from loadtest.adapters import Notice
from loadtest.chunks import Chunk


@dataclass(eq=False, slots=True)
class Member:
    """One socket in a room, and what happened to it."""

    number: int
    room: Room
    on_notice: Callable[["Member", Notice], None]
    on_end: Callable[["Member", str], None]
    account: Account | None = None
    last: list[int] = field(default_factory=list)  # the account's, at hand
    place: dict[str, str] = field(default_factory=dict)
    latest: Chunk | None = None  # what came after `place` was worked out
    socket: Any = None
    receive: Callable[[int, int], tuple[bytes, list[Any], int, Any]] | None = None
    rest: bytes = b""
    unsent: bytes = b""
    # Deliveries are looked at one by one while he is leaving, or catching up with what was sent before `back_ns`.
    is_careful: bool = False
    back_ns: int = 0

    @property
    def standing(self) -> dict[str, str]:
        """Where he stands, to resume from there."""
        return {**self.place, **self.latest.place} if self.latest else self.place
