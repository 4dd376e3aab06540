"""What people have taken from one server's limits, told to the others: whoever uses several has no more than of one.

Invariant: what is taken here is told within TELL_S, all of it together; what another server told is taken here, too,
even below nothing. So who asks two servers within TELL_S may be ahead by a burst, and waits for it afterwards.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from chat.limits import RateLimit

TELL_S = 0.1


class Taken(msgspec.Struct, tag="taken", tag_field="kind"):
    """By limit and person, how often since it was told last."""

    server: str
    taken: Mapping[str, Mapping[str, int]]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Taken).decode


class SharedRates:
    """The limits of one server, by their names; `tell` reaches the others. `server` is empty if there are none."""

    def __init__(self, server: str, tell: Callable[[bytes], None]) -> None:
        self._server, self._tell = server, tell
        self._limits: dict[str, RateLimit] = {}
        self._taken: dict[str, Counter[str]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def share(self, name: str, limit: RateLimit) -> None:
        if self._server:  # else there are no others
            self._limits[name] = limit
            limit.on_taken = partial(self._note, name)

    def _note(self, name: str, person_id: str) -> None:
        self._taken.setdefault(name, Counter())[person_id] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_S, self._tell_taken)

    def _tell_taken(self) -> None:
        taken, self._taken, self._timer = self._taken, {}, None
        self._tell(_encode(Taken(self._server, taken)))

    def hear(self, payload: bytes) -> None:
        """Raises msgspec.DecodeError for what no server of this kind tells."""
        told = _decode(payload)
        if told.server == self._server:
            return
        now_s = time.monotonic()
        for name, limit in self._limits.items():
            for person_id, times in told.taken.get(name, {}).items():
                limit.charge(person_id, times, now_s)
