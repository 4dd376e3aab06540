"""How long messages are kept: the smallest of what the server and the room's owner allow.

Knows the log and the rooms' rules; the log itself removes, in small steps. Invariant: a room is looked at on its own,
so that a server of many rooms is never held up by all of them at once.
"""

import asyncio
import time
from collections.abc import Callable

from chat.eventlog import EventLog
from chat.order import Order
from chat.protocol import Rules

KEEP_EVERY_S = 60
_DAY_S = 24 * 3600


async def keep(log: EventLog, rules_here: Callable[[str], Rules | None], keep_days: int, keep_events: int) -> None:
    """Look once at every room with a limit; `rules_here` knows the rules of the rooms that are in use."""
    limited = await log.names(limited=True)
    own = set(limited)
    for room in await log.names() if keep_days or keep_events else limited:
        rules = await _rules(log, room, rules_here) if room in own else Rules()
        kept_s = smallest(rules.keep_s, keep_days * _DAY_S)
        events = smallest(rules.keep_events, keep_events)
        if kept_s or events:
            since_ms = time.time_ns() // 1_000_000 - kept_s * 1000 if kept_s else 0
            await log.keep(room, since_ms, events)
        await asyncio.sleep(0)


async def _rules(log: EventLog, room: str, rules_here: Callable[[str], Rules | None]) -> Rules:
    return rules_here(room) or Order.of((await log.open_room(room, 1)).entries).rules


def smallest(*limits: int) -> int:
    """The strictest of some limits, of which 0 is none."""
    return min((limit for limit in limits if limit), default=0)
