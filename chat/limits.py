"""How often a person may do a thing: token buckets, one number a person, the pace of a room, and that of newcomers.

Knows no socket. Invariants: whoever has been quiet for burst / rate seconds has a full bucket again, and a full
bucket is not kept; a room's paces are bounded.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from chat.protocol import ProtocolError

FILTER_S, FILTER_REST = 0.005, 20  # over whose text the filter took longer, he waits so many times as long
_PACES_KEPT = 50_000  # of people, the newest
_LONGEST_TURN_S = 60.0  # who comes back later than that has gone away

Result = TypeVar("Result")


class RateLimit:
    """`rate` times a second sustained, `burst` at once (GCRA, ITU-T I.371); a rate of 0 is no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._tolerance_s = self._interval_s * max(burst - 1, 0)
        self._full_at_s: dict[str, float] = {}  # when the person's bucket will be full again
        self.on_taken: Callable[[str], None] | None = None  # hears of each token, by whom

    def wait_s(self, person_id: str, now_s: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        if not self._interval_s:
            return 0.0
        full_at_s = max(self._full_at_s.get(person_id, 0.0), now_s)
        wait_s = full_at_s - now_s - self._tolerance_s
        if wait_s > 1e-9:
            return wait_s
        self._full_at_s[person_id] = full_at_s + self._interval_s
        if self.on_taken is not None:
            self.on_taken(person_id)
        return 0.0

    def charge(self, person_id: str, tokens: int, now_s: float) -> None:
        """Take tokens that were given elsewhere, whether there are as many or not."""
        if not self._interval_s:
            return
        full_at_s = max(self._full_at_s.get(person_id, 0.0), now_s)
        self._full_at_s[person_id] = full_at_s + tokens * self._interval_s

    def forget_full(self, now_s: float) -> None:
        """Drop the buckets that are full: a new one would be the same."""
        self._full_at_s = {who: at_s for who, at_s in self._full_at_s.items() if at_s > now_s}


class Turns:
    """How fast newcomers are taken: `rate` a second, `burst` at once; each who is too many is told another moment.

    So a crowd that was refused together does not come back together.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._interval_s = 1 / rate
        self._tolerance_s = self._interval_s * max(burst - 1, 0)
        self._full_at_s = 0.0  # when there will be `burst` turns again
        self._told_until_s = 0.0  # up to when the turns to come have been given away

    def wait_s(self, now_s: float) -> float:
        """0 if there is a turn, else the seconds until the first one that nobody was told."""
        if self._full_at_s - now_s <= self._tolerance_s + 1e-9:
            return 0.0
        return min(max(self._told_until_s - now_s, 0.0) + self._interval_s, _LONGEST_TURN_S)

    def take(self, now_s: float) -> None:
        """Somebody has his turn, or was told the moment that `wait_s` gives."""
        if wait_s := self.wait_s(now_s):
            self._told_until_s = now_s + wait_s
        else:
            self._full_at_s = max(self._full_at_s, now_s) + self._interval_s


class Paces:
    """Who has to wait before he is heard again: in slow mode, and after a text over which the filter took long."""

    def __init__(self) -> None:
        self._spoke_s: OrderedDict[str, float] = OrderedDict()  # when somebody last spoke in slow mode
        self._rests_until_s: OrderedDict[str, float] = OrderedDict()

    def check(self, person_id: str, slow_s: int) -> None:
        """Raise ProtocolError `slow_mode` or `rate_limited` if it is not his turn."""
        now_s = time.monotonic()
        wait_s = self._spoke_s.get(person_id, -slow_s) + slow_s - now_s
        if slow_s and wait_s > 0:
            sentence = f"Slow mode is on: everybody may say something every {slow_s} s; you can in {wait_s:.0f} s."
            raise ProtocolError("slow_mode", sentence, retry_after=round(wait_s + 0.005, 2))
        wait_s = self._rests_until_s.get(person_id, 0.0) - now_s
        if wait_s > 0:
            sentence = "This room's filter took long over your last text; try again."
            raise ProtocolError("rate_limited", sentence, retry_after=round(wait_s + 0.005, 2))

    def timed(self, person_id: str, judge: Callable[[], Result]) -> Result:
        """Have a text judged; whose text takes long makes himself slow, and neither the room nor the server."""
        began_s = time.thread_time()
        try:
            return judge()
        finally:
            took_s = time.thread_time() - began_s
            if took_s > FILTER_S:
                _note(self._rests_until_s, person_id, time.monotonic() + took_s * FILTER_REST)

    def take(self, person_id: str, slow_s: int) -> float:
        """Have him speak now: when that was, or 0.0 if he may go on at once."""
        if not slow_s:
            return 0.0
        _note(self._spoke_s, person_id, time.monotonic())
        return self._spoke_s[person_id]

    def give_back(self, person_id: str, taken_s: float) -> None:
        """He has not spoken then after all."""
        if taken_s and self._spoke_s.get(person_id) == taken_s:
            del self._spoke_s[person_id]


def _note(moments_s: OrderedDict[str, float], person_id: str, moment_s: float) -> None:
    moments_s[person_id] = moment_s
    moments_s.move_to_end(person_id)
    if len(moments_s) > _PACES_KEPT:
        moments_s.popitem(last=False)
