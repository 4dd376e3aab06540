"""A room as a server knows it that writes to it and listens to it, and what is asked of it. Knows no Redis."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from chat.eventlog import BATCH_DRAFTS, Change, Draft, Entries, keys
from chat.eventlog.translating import Outcome, Told

_BATCH_CHARACTERS = 256 * 1024  # Redis lets go of a listener who is told tens of megabytes at a time


class Keeping(NamedTuple):
    """A room that is to let go of what is too old."""

    since_ms: int
    events: int
    done: Callable[[Outcome], None]


class Clearing(NamedTuple):
    """What a room has let go of is taken away, a step at a time."""

    done: Callable[[Outcome], None]


Asked = Draft | Change | Keeping | Clearing


class Room:
    """A room that this server writes to and listens to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys = keys.keys_of(name)
        self.asked: list[Asked] = []
        self.writing: asyncio.Task[None] | None = None
        self.batch: str | None = None  # the token of what is being stored: what it tells waits until it is answered
        self.given_up: set[str] = set()  # tokens of what may have been stored, though it was said that it was not
        self.unheard: set[str] = set()  # tokens of what was stored and told, but not heard yet
        self.queue: deque[Told] = deque()  # what was heard and is not shown yet
        self.seq = 0  # up to which all was shown
        self.rewritings = 0  # how many there were then
        self.epoch = ""  # in which it was shown
        self.entries: Entries = {}  # of its order, as was told last
        self.heard_orders = 0  # how often another server was heard to have changed them
        self.acting: Change | None = None  # what is being stored
        self.is_known = False  # whether it was looked at since it is listened to
        self.is_named = False  # whether its name is among the rooms'
        self.is_open = False  # whether anybody is in it
        self.caught_up = asyncio.Event()  # nothing was missed, as far as is known
        self.is_behind = False  # something was missed since the last reading began
        self.catching_up: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self.asked or self.writing or self.unheard or self.queue)

    def has_seen(self, told: Told) -> bool:
        """Whether it was read before it was heard."""
        is_old = told.last_seq <= self.seq and told.rewritings <= self.rewritings
        return is_old and bool(told.events or told.changed)

    def next_batch(self) -> list[Asked]:
        """Messages share one, as many as may be told at a time; all else is alone."""
        batch: list[Asked] = []
        left = _BATCH_CHARACTERS
        for each in self.asked[:BATCH_DRAFTS]:
            if batch and (left < 0 or not isinstance(each, Draft)):
                break
            batch.append(each)
            if not isinstance(each, Draft):
                break
            left -= len(each.text)
        del self.asked[: len(batch)]
        return batch
