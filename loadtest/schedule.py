"""When each sender's messages are due, settled before the first is sent.

Owns the arrivals (constant, poisson, burst:N) and how a crowd's messages are dealt over its senders. It must not know
clocks, and nothing that was measured reaches it: a plan that gave way to a slow server would hide how slow it is.
Invariant: the same options give the same plan, in any process and on any machine.
"""

import math
from collections.abc import Iterator
from itertools import count, takewhile
from random import Random
from typing import NamedTuple

_S = 1_000_000_000


class Arrivals(NamedTuple):
    """How messages come; `burst` is how many come at one instant."""

    is_random: bool
    burst: int


def parse_arrivals(text: str) -> Arrivals:
    """Return what `constant`, `poisson` or `burst:N` means; raises ValueError for anything else."""
    kind, colon, size = text.partition(":")
    if kind == "burst" and size.isascii() and size.isdigit() and int(size):
        return Arrivals(is_random=False, burst=int(size))
    if colon or kind not in ("constant", "poisson"):
        raise ValueError(
            f"arrivals are constant, poisson, burst:N with N messages at once, or inflight:N, not {text!r}"
        )
    return Arrivals(is_random=kind == "poisson", burst=1)


def offsets(arrivals: str, rate: float, duration_s: float, share: int, shares: int, seed: int) -> Iterator[int]:
    """Yield when the messages of one of `shares` senders are due, in ns from the start.

    Together they send `rate` messages a second, for `duration_s`, which may be inf. `share` counts from 0. Raises
    ValueError, at once, for a plan that cannot be.
    """
    how = parse_arrivals(arrivals)
    if not 0 <= rate < math.inf or not duration_s >= 0:
        raise ValueError(f"{rate} messages/s for {duration_s} s cannot be planned: neither can be negative")
    if not 0 <= share < shares:
        raise ValueError(f"there is no sender {share} of {shares}: they count from 0")
    if not rate:
        return iter(())
    due_ns = _random(rate / shares, seed, share) if how.is_random else _dealt(rate, how.burst, share, shares)
    return takewhile(lambda offset_ns: offset_ns < duration_s * _S, due_ns)


def _dealt(rate: float, burst: int, share: int, shares: int) -> Iterator[int]:
    # Each from the number of its message, so that nothing adds up over hours.
    return (int(number // burst * burst * _S / rate) for number in count(share, shares))


def _random(rate: float, seed: int, share: int) -> Iterator[int]:
    # Many independent Poisson streams are one together, so that each sender draws for himself.
    draw = Random(f"{seed} {share}").expovariate
    at_s = 0.0
    while True:
        at_s += draw(rate)
        yield int(at_s * _S)
