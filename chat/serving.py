"""How a server lives: it looks after its members, its log and its loop, and goes down without losing anything.

Knows the sockets of one server as a class with a registry. Invariant: a stopping server first stores and shows what it
took, then tells everybody when to come back, and only then closes; whatever hangs, it ends in time.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import selectors
import signal
import time
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice, takewhile
from typing import Any, ClassVar, Protocol

from prometheus_client import Histogram

from chat import keeping
from chat.eventlog import EventLog
from chat.limits import RateLimit
from chat.protocol import Bye, CloseCode, Rules, encode
from chat.room import Room
from chat.settings import Settings

log = logging.getLogger("chatroom")

PING_S = 20
_PINGINGS, _MOST_PINGED = 200, 256  # in that time; at once
_MOST_READY = 32  # sockets in one turn of the loop
LOOK_LATE_S = 0.05
COLLECT_S, COLLECTIONS, NEW_OBJECTS = 0.2, 3000, 50_000
# How fast members are asked to return, and newcomers are taken in the long run: half of what one core can greet, so
# that those who are in are served meanwhile.
WELCOME_BACK_PER_S = 500
WELCOME_AT_ONCE = 20_000  # before that rate counts: ten thousand may lose their network, and lose it again coming back
FIRST_BACK_S = 1.0  # by then this process has mostly ended: who comes before that is refused, and has come in vain


_late_seconds = Histogram(
    "chatroom_late_seconds",
    "How late the loop comes to what is due",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)


class Sockets(Protocol):
    """A socket of a server, whose class keeps what the server's sockets share."""

    rooms: ClassVar[dict[str, Room]]
    sockets: ClassVar[OrderedDict[Any, float]]
    event_log: ClassVar[EventLog]
    says: ClassVar[RateLimit]
    asks: ClassVar[RateLimit]
    typings: ClassVar[RateLimit]
    is_draining: ClassVar[bool]
    all_gone: ClassVar[asyncio.Event]

    @classmethod
    def post_all(cls) -> None: ...


class FairSelector(selectors.DefaultSelector):
    """Shows the loop a few of the sockets that are ready, then others: what is due meanwhile waits for no more.

    When ten thousand leave or answer at once, asyncio would see to all of them before it looks at the time again.
    """

    def __init__(self) -> None:
        super().__init__()
        if hasattr(selectors, "EpollSelector"):  # elsewhere the loop is as asyncio has it
            self._selector = _FewAtOnce(self._selector)  # type: ignore[has-type]


class _FewAtOnce:
    """An epoll object that is asked for a few events at a time; the kernel goes on with the others."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll

    def poll(self, timeout: float, most: int) -> Any:
        return self._epoll.poll(timeout, min(most, _MOST_READY))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def fair_loop() -> asyncio.AbstractEventLoop:
    """A loop on which many who come, go or answer at once hold up nobody else for long."""
    return asyncio.SelectorEventLoop(FairSelector())


async def look_after(server: type[Sockets]) -> None:
    """Ping whoever is due and forget full buckets, for as long as the server runs."""
    while True:
        for _ in range(_PINGINGS):
            await asyncio.sleep(PING_S / _PINGINGS)
            ping_due(server.sockets, time.monotonic())
        for limit in (server.says, server.asks, server.typings):
            limit.forget_full(time.monotonic())


def ping_due(sockets: OrderedDict[Any, float], now_s: float) -> None:
    """Ping each whose time has come, and no more in one turn of the loop than are flushed to.

    Each has a time of his own: all at once, ten thousand and their answers held up everybody for half a second.
    """
    due = list(islice(takewhile(lambda socket: sockets[socket] <= now_s, sockets), _MOST_PINGED))
    for socket in due:
        sockets[socket] = now_s + PING_S
        sockets.move_to_end(socket)
        socket.ping_or_drop()


async def keep_time() -> None:
    """Measure how long anything holds the loop up, for as long as the server runs: whoever is here waits for that."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LOOK_LATE_S
        await asyncio.sleep(LOOK_LATE_S)
        _late_seconds.observe(loop.time() - due_s)


async def keep_collected() -> None:
    """Spare the garbage collector what stays, for as long as the server runs.

    Members and rooms are many and live long: to look at ten thousand holds the loop for a tenth of a second, and the
    collector does whenever a quarter has been added. What has lived for a fifth of a second is taken out of its
    sight, and put back every ten minutes: a room that was left since, say, is a cycle, and would stay for ever. Until
    then it is not to look at what is new whenever 700 were added, either: nearly all of it goes by itself.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    while True:
        gc.unfreeze()
        for _ in range(COLLECTIONS):
            gc.collect()
            gc.freeze()
            await asyncio.sleep(COLLECT_S)


async def keep_tidy(server: type[Sockets], settings: Settings) -> None:
    """Let go of what is too old to be kept, for as long as the server runs."""

    def rules_here(room: str) -> Rules | None:
        here = server.rooms.get(room)
        return here.acts.order.rules if here and here.is_loaded else None

    while True:
        looking = asyncio.ensure_future(
            keeping.keep(server.event_log, rules_here, settings.keep_days, settings.keep_events)
        )
        try:
            await asyncio.wait([looking])
        finally:
            looking.cancel()
        if error := looking.exception():  # a disk that fails now may not in a minute
            log.error("what is too old could not be removed: %s", error)
        await asyncio.sleep(keeping.KEEP_EVERY_S)


async def drain(server: type[Sockets], grace_s: float) -> None:
    """Store and show what was taken, ask everybody to come back, and drop who has not closed in time."""
    server.is_draining = True
    with contextlib.suppress(TimeoutError):  # a disk that hangs must not keep people waiting for their `bye`
        await asyncio.wait_for(_settle(server), grace_s / 2)
    say_goodbye(server, server.sockets, "the server is going down")
    with contextlib.suppress(TimeoutError):
        if server.sockets:
            await asyncio.wait_for(server.all_gone.wait(), grace_s / 4)
    for member in list(server.sockets):
        member.abort()


async def _settle(server: type[Sockets]) -> None:
    await server.event_log.settled()
    for room in list(server.rooms.values()):
        await room.said()


def say_goodbye(server: type[Sockets], sockets: Iterable[Any], why: str) -> None:
    """`bye` and 1001 to all of these, each told to come back a little later than the other."""
    members = list(sockets)
    spread_s = 1 + len(members) / WELCOME_BACK_PER_S
    for place, member in enumerate(members):
        if member.is_in and not member.is_plain:  # the others' first frame must be `welcome`
            retry_after_s = FIRST_BACK_S + spread_s * (place + random.random()) / len(members)
            member.post(encode(Bye(round(retry_after_s, 4))))
    server.post_all()
    for member in members:
        member.close(CloseCode.GOING_AWAY, why)


# Until a signal


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on; a second one ends the process at once."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop_or_leave, stop)
    return stop


async def care_until(stop: asyncio.Event, caring: Iterable[Any]) -> None:
    """Let these coroutines run until then."""
    tasks = [asyncio.create_task(each) for each in caring]
    await stop.wait()
    for task in tasks:
        task.cancel()


def _stop_or_leave(stop: asyncio.Event) -> None:
    if stop.is_set():
        leave("asked twice to stop")
    stop.set()


def leave(why: str) -> None:
    """Leave at once, as kill -9 would: what was shown is stored, so that nothing is lost by it."""
    log.error("leaving at once: %s", why)
    os._exit(1)  # sys.exit would wait for a thread that may hang in the disk
