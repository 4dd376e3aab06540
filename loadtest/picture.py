"""A picture: what somebody has before him, worked out from the events he heard, by what the protocol says of them.

Pure: knows no socket and no server. Invariant: events are taken in the order in which they came, and whatever is not
the next one is counted.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec


class By(msgspec.Struct):
    """Who said something."""

    id: str


class Event(msgspec.Struct):
    """The fields of an event that change a picture."""

    type: str
    seq: int
    by: By | None = None
    text: str = ""
    person: str = ""
    message: int = 0
    before: int = 0


class Said(NamedTuple):
    """A message as it stands."""

    person: str
    text: str


event_of = lru_cache(1 << 16)(msgspec.json.Decoder(Event).decode)


class Picture:
    """The messages that somebody has, by seq."""

    def __init__(self) -> None:
        self.messages: dict[int, Said] = {}
        self.last_seq = 0
        self.out_of_order = 0  # events that did not follow the one before them

    def hear(self, event: Event) -> None:
        """Take the next event."""
        self.out_of_order += bool(self.last_seq) and event.seq != self.last_seq + 1
        self.last_seq = event.seq
        if event.type == "message" and event.by:
            self.messages[event.seq] = Said(event.by.id, event.text)
        elif event.type == "edit" and event.message in self.messages:
            self.messages[event.message] = self.messages[event.message]._replace(text=event.text)
        elif event.type == "delete":
            self.messages.pop(event.message, None)
        elif event.type == "purge":
            self._keep(lambda seq, said: said.person != event.person)
        elif event.type == "trim":
            self._keep(lambda seq, said: seq >= event.before)

    def _keep(self, stays: Callable[[int, Said], bool]) -> None:
        self.messages = {seq: said for seq, said in self.messages.items() if stays(seq, said)}
