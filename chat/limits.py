"""How often a person may do a thing: token buckets, one number a person.

Knows no socket and no clock; the caller says what time it is. Invariant: whoever has been quiet
for burst / rate seconds has a full bucket again, and a full bucket is not kept.
"""


class RateLimit:
    """`rate` times a second sustained, `burst` at once (GCRA, ITU-T I.371); a rate of 0 is no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._tolerance_s = self._interval_s * max(burst - 1, 0)
        self._full_at_s: dict[str, float] = {}  # when the person's bucket will be full again

    def wait_s(self, person_id: str, now_s: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        if not self._interval_s:
            return 0.0
        full_at_s = max(self._full_at_s.get(person_id, 0.0), now_s)
        wait_s = full_at_s - now_s - self._tolerance_s
        if wait_s > 1e-9:
            return wait_s
        self._full_at_s[person_id] = full_at_s + self._interval_s
        return 0.0

    def forget_full(self, now_s: float) -> None:
        """Drop the buckets that are full: a new one would be the same."""
        self._full_at_s = {who: at_s for who, at_s in self._full_at_s.items() if at_s > now_s}
