"""How many messages a second one Redis stores, by the size of batches: `python -m tests.redis_capacity`.

The batches are made beforehand, as a server would make them; two connections have two each under way, in twenty rooms
in turn. So little else is asked of the machine than of Redis: the load's own share of a core is told.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import msgspec

import chat.eventlog
from chat.eventlog import MOST_HELD, Draft, keys
from chat.eventlog.translating import deed_of
from chat.protocol import Person
from tests.redis_server import running

PLANS = ((10, 20_000), (100, 60_000), (1_000, 200_000), (4_000, 200_000))  # messages in a batch, in all
ROOMS, PEOPLE, CONNECTIONS, UNDER_WAY = 20, 200, 2, 2
COMMIT = Path(chat.eventlog.__file__).parent / "lua" / "commit.lua"
TEXT = "x" * 100
SPEAKERS = [Person(f"{number:016d}", f"Speaker {number}") for number in range(PEOPLE)]


def batches(sha: str, size: int, total: int) -> Iterator[bytes]:
    for first in range(0, total, size):
        room = f"room{first // size % ROOMS}"
        drafts = (
            Draft(room, SPEAKERS[number % PEOPLE], TEXT, f"{size}-{number:020d}", None, lambda outcome: None)
            for number in range(first, first + size)
        )
        deeds = msgspec.msgpack.encode([deed_of(draft) for draft in drafts])
        now_ms, token = time.time_ns() // 1_000_000, f"{size}-{first}"
        of_batch = keys.keys_of(room).of_batch(token, now_ms)
        seen = msgspec.msgpack.encode([])
        asked = (len(of_batch), *of_batch, token, 1, now_ms, 0, seen, deeds, MOST_HELD, "epoch", 1, "channel")
        yield hiredis.pack_command(("EVALSHA", sha, *asked))


async def ask(port: int, asked: list[bytes]) -> None:
    incoming, outgoing = await asyncio.open_connection("127.0.0.1", port)
    answers: Any = hiredis.Reader()
    answered = 0
    outgoing.write(b"".join(asked[:UNDER_WAY]))
    while answered < len(asked):
        answers.feed(await incoming.read(1 << 16))
        while (answer := answers.gets()) is not False:
            assert isinstance(answer, bytes), answer
            outgoing.write(b"".join(asked[answered + UNDER_WAY : answered + UNDER_WAY + 1]))
            answered += 1
    outgoing.close()


async def ask_all(port: int, asked: list[bytes]) -> None:
    await asyncio.gather(*(ask(port, asked[number::CONNECTIONS]) for number in range(CONNECTIONS)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as redis, redis.client() as client:
        for size, total in PLANS:
            client.flushall()
            asked = list(batches(client.script_load(COMMIT.read_text()), size, total))
            started_s, ours_s, redis_s = time.perf_counter(), time.process_time(), _processor_s(client)
            asyncio.run(ask_all(redis.port, asked))
            took_s, ours_s = time.perf_counter() - started_s, time.process_time() - ours_s
            us = 1e6 * (_processor_s(client) - redis_s) / total
            rate, share = total / took_s, ours_s / took_s
            print(f"{size:5} a batch: {rate:6,.0f}/s, {us:4.1f} us of Redis each, load {share:.0%} of a core")


def _processor_s(client: Any) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


if __name__ == "__main__":
    main()
