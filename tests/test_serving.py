"""How a server lives, as far as it takes no log: whom it pings when, how its garbage is collected, its loop timed."""

import asyncio
import contextlib
import gc
import socket
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import REGISTRY

from chat import serving
from tests.house import until


class Cycle:
    """What only the collector finds once nobody holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is afterwards as it was before."""
    monkeypatch.setattr(serving, "COLLECT_S", 0.001)
    monkeypatch.setattr(serving, "COLLECTIONS", 5)
    thresholds = gc.get_threshold()
    gc.unfreeze()  # what other tests of this process left frozen
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@contextlib.asynccontextmanager
async def kept() -> AsyncIterator[None]:
    keeping = asyncio.ensure_future(serving.keep_collected())
    yield
    keeping.cancel()


def test_what_has_lived_for_a_while_is_out_of_the_collectors_sight() -> None:
    """A collection looks at what is new alone, so that it is short however many members there are."""

    async def look() -> None:
        async with kept():
            await until(lambda: gc.get_freeze_count() > len(gc.get_objects()))
            assert gc.get_threshold()[0] == serving.NEW_OBJECTS

    asyncio.run(look())


def test_what_became_garbage_later_is_found_in_the_end() -> None:
    """A cycle that was frozen while it was held goes when all is looked at again."""

    async def look() -> None:
        held = Cycle()
        gone = weakref.ref(held)
        async with kept():
            await until(gc.get_freeze_count)
            del held
            await until(lambda: gone() is None)

    asyncio.run(look())


class Pinged:
    """A socket that counts its pings."""

    def __init__(self) -> None:
        self.pings = 0

    def ping_or_drop(self) -> None:
        self.pings += 1


def test_each_is_pinged_in_his_own_time() -> None:
    """Who came later is pinged later, and each again after the same time."""
    early, late = Pinged(), Pinged()
    sockets = OrderedDict({early: 1.0, late: 2.0})
    for now_s in (0.9, 1.0, 1.9, 2.0, serving.PING_S + 0.9):
        serving.ping_due(sockets, now_s)
    assert (early.pings, late.pings) == (1, 1)
    serving.ping_due(sockets, serving.PING_S + 1.0)
    assert (early.pings, late.pings) == (2, 1)


def test_who_came_together_are_not_all_pinged_at_once() -> None:
    """Their answers would come at once, too, and hold up everybody else."""
    sockets = OrderedDict((Pinged(), 1.0) for _ in range(600))
    most = []
    for _ in range(3):
        serving.ping_due(sockets, 2.0)
        most.append(sum(each.pings for each in sockets))
    assert most == [256, 512, 600]
    assert {each.pings for each in sockets} == {1}


def test_of_many_sockets_that_are_ready_a_few_are_seen_to_at_a_time() -> None:
    """Whatever is due has its turn in between, and nobody is forgotten."""
    pairs = [socket.socketpair() for _ in range(100)]
    turns: list[set[int]] = [set()]

    async def look() -> None:
        loop = asyncio.get_running_loop()

        def heard(number: int) -> None:
            turns[-1].add(number)
            pairs[number][0].recv(1)

        def turn() -> None:
            turns.append(set())
            if len(set().union(*turns)) < len(pairs):
                loop.call_soon(turn)

        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"x")
            loop.add_reader(ours, heard, number)
        loop.call_soon(turn)
        await until(lambda: len(set().union(*turns)) == len(pairs))
        for ours, _ in pairs:
            loop.remove_reader(ours)

    with asyncio.Runner(loop_factory=serving.fair_loop) as runner:
        runner.run(look())
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    assert max(map(len, turns)) == 32


def test_a_loop_that_is_held_up_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds it, somebody else had to wait for."""
    monkeypatch.setattr(serving, "LOOK_LATE_S", 0.001)

    def late(bound: str) -> float:
        return REGISTRY.get_sample_value("chatroom_late_seconds_bucket", {"le": bound}) or 0.0

    async def look() -> None:
        keeping = asyncio.ensure_future(serving.keep_time())
        before = late("+Inf") - late("0.1")
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(time.sleep, 0.15)
        await until(lambda: late("+Inf") - late("0.1") > before)
        keeping.cancel()

    asyncio.run(look())
