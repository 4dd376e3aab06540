"""What a room's things are called in Redis.

Pure. Invariant: whatever a room is called, its keys begin with `chatroom:{...}:`, with nothing in the braces but
letters, digits, `-` and `_`: no name ends its tag early, is a pattern, or names another room's key. All keys of a room
share the tag, so that a cluster keeps them together.
"""

from base64 import urlsafe_b64encode
from typing import NamedTuple

PREFIX = "chatroom:"
EPOCHS, RUN, ROOMS, SECRET, VERSION = (f"{PREFIX}{name}" for name in ("epochs", "run", "rooms", "secret", "version"))
SERVERS = f"{PREFIX}servers"  # the channel on which they tell that they live
DAY_MS = 24 * 3600 * 1000


class Keys(NamedTuple):
    """Those of one room, as the scripts take them; `room` is also what the channel is called on which it is told."""

    room: str  # a hash: seq, at, first, epoch, and how many records, held messages and rewritings there were
    events: str  # a hash: seq -> body
    said: str  # a sorted set: person:seq of each message
    edits: str  # a sorted set: the seq of each message's newest edit, by its message
    trims: str  # a sorted set: seqs
    telling: str  # a sorted set: the seqs of rules with an announcement
    entries: str  # a hash: of the order, by key
    starts: str  # a hash: epoch -> its first seq here
    held: str  # a hash: id -> a message that waits for review
    known: str  # a hash: person:client_id -> of what is held, or was refused
    acts: str  # a hash: id -> a record of the moderators' log
    reactors: str  # a hash: seq -> who reacted, in order
    reacted: str  # a sorted set: person:seq:kind

    def of_batch(self, token: str, now_ms: int) -> tuple[str, ...]:
        """All of them, the `client_id`s of this day, the last and the next, and where a batch's answer is kept.

        Of the next: around midnight it may have begun by another server's clock.
        """
        tag, day = self.room.removesuffix("room"), now_ms // DAY_MS
        return (*self, *(f"{tag}ids:{each}" for each in (day, day - 1, day + 1)), f"{tag}answered:{token}")


def keys_of(room: str) -> Keys:
    tag = urlsafe_b64encode(room.encode()).decode().rstrip("=")
    return Keys(*(f"{PREFIX}{{{tag}}}:{name}" for name in Keys._fields))


def channel(database: int, name: str) -> str:
    """What is told in one of a Redis' databases is heard in all of them, unless the channel is named for it."""
    return f"{database}:{name}"
