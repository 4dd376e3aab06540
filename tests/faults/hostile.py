"""Peers that nobody wants: each of them does one thing that costs a server more than it costs them.

Each comes again when it was cut off. They work in a process of their own, so that they hold up nobody else's clock:
`python -m tests.faults.hostile PORT ROOM never_reads=100 ...`, until its input ends; it prints how often each came.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from loadtest.frames import PING, PONG, masked
from tests.crowd import Member, Refused, Wire, handshake

WINDOW_BYTES = 2048  # the kernel's least
AGAIN_S = 0.2
BYTE_S = 1.0
FLOOD_FRAMES, FLOOD_S = 200, 0.05
BAD_FRAMES = (b"{", b"[1]", b'{"type":"fly"}', b'{"type":"say","client_id":1}', b"\xed\xa0\x80")
PATH = "/ws?room=hostile"
FRAME = masked(json.dumps({"type": "say", "client_id": "slow", "text": "s" * 400}).encode())
GONE = (OSError, Refused)


async def never_reads(port: int, room: str) -> None:
    """In the room where most is said, with the smallest window there is."""
    member = Member(port, room, "Deaf")
    await member.enter(WINDOW_BYTES)
    assert member.wire is not None
    member.wire.transport.pause_reading()
    try:
        while True:  # to be there at all: who only waits does not learn that he was cut off
            await asyncio.sleep(BYTE_S)
            member.send(type="typing")
            if member.wire.transport.is_closing():
                return
    finally:
        member.vanish()


async def dribbles_a_handshake(port: int, room: str) -> None:
    """A byte a second of a request that would take minutes."""
    await _dribble(await Wire.to(port), handshake(PATH))


async def dribbles_frames(port: int, room: str) -> None:
    """A byte a second of a frame, once he is in."""
    member = Member(port, room, "Slow")
    await member.enter()
    assert member.wire is not None
    await _dribble(member.wire, FRAME)


async def _dribble(wire: Wire, data: bytes) -> None:
    try:
        for byte in data:
            wire.transport.write(bytes((byte,)))
            await asyncio.wait([wire.gone], timeout=BYTE_S)
            if wire.gone.done():
                return
    finally:
        wire.transport.abort()


async def leaves_half_open(port: int, room: str) -> None:
    """Half a request, and then nothing."""
    wire = await Wire.to(port)
    try:
        wire.transport.write(handshake(PATH)[:40])
        await wire.until_gone()
    finally:
        wire.transport.abort()


async def floods_pings(port: int, room: str) -> None:
    await _flood(port, room, masked(b"ping", PING) * FLOOD_FRAMES)


async def floods_pongs(port: int, room: str) -> None:
    await _flood(port, room, masked(b"pong" * 30, PONG) * FLOOD_FRAMES)


async def floods_nonsense(port: int, room: str) -> None:
    """What is refused frame by frame, until too many are."""
    await _flood(port, room, b"".join(map(masked, BAD_FRAMES[:4])) * 5)


async def _flood(port: int, room: str, data: bytes) -> None:
    member = Member(port, room, "Flood")
    await member.enter()
    assert member.wire is not None
    try:
        while not member.wire.transport.is_closing():
            if not member.wire.transport.get_write_buffer_size():
                member.wire.transport.write(data)
            await asyncio.wait([member.wire.gone], timeout=FLOOD_S)
    finally:
        member.vanish()


async def resets_in_mid_frame(port: int, room: str) -> None:
    member = Member(port, room, "Cut")
    await member.enter()
    assert member.wire is not None
    member.wire.transport.write(FRAME[: len(FRAME) // 2])
    await asyncio.sleep(0.01)
    if member.is_here:
        member.wire.reset()
    await member.wire.until_gone()


async def connects_and_goes(port: int, room: str) -> None:
    wire = await Wire.to(port)
    wire.transport.abort()
    await wire.until_gone()


Deed = Callable[[int, str], Awaitable[None]]
# What they do, and how many of them there are when there are many.
HOSTILE: dict[Deed, int] = {
    never_reads: 100,
    dribbles_a_handshake: 50,
    dribbles_frames: 50,
    leaves_half_open: 1000,
    floods_pings: 4,
    floods_pongs: 4,
    floods_nonsense: 10,
    resets_in_mid_frame: 20,
    connects_and_goes: 10,
}
TRIES: Counter[str] = Counter()


@contextlib.asynccontextmanager
async def at_work(deeds: dict[Deed, int], port: int, room: str) -> AsyncIterator[None]:
    """Have so many of each at work."""
    tasks = [asyncio.create_task(_for_ever(do, port, room)) for do, count in deeds.items() for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _for_ever(do: Deed, port: int, room: str) -> None:
    while True:
        TRIES[do.__name__] += 1
        with contextlib.suppress(*GONE):
            await do(port, room)
        await asyncio.sleep(AGAIN_S)


async def _work(port: int, room: str, deeds: dict[Deed, int]) -> None:
    async with at_work(deeds, port, room):
        await asyncio.sleep(AGAIN_S)
        print("at work", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":  # PORT ROOM NAME=COUNT...: at work until its input ends
    here = {do.__name__: do for do in HOSTILE}
    counted = [each.split("=") for each in sys.argv[3:]]
    asyncio.run(_work(int(sys.argv[1]), sys.argv[2], {here[name]: int(count) for name, count in counted}))
    print(json.dumps(TRIES))
