"""What is read of the rooms in a Redis: each reading is one script, of one room at one moment (lua/read.lua).

Invariant: a reading that waits for a Redis that is away ends within WAIT_S.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from redis.exceptions import RedisError

from chat.eventlog import HELD_SHOWN, Slice, keys, log_away, no_held, no_message
from chat.eventlog.line import Line, LineLost, sentence
from chat.eventlog.readings import Readings
from chat.eventlog.translating import (
    decode_held,
    event_of,
    held_message_of,
    is_limited,
    slice_of,
)
from chat.protocol import MAX_PAGE_BYTES, HeldMessage

log = logging.getLogger("chatroom")

Result = TypeVar("Result")

WAIT_S = 5.0  # that something asked waits for a Redis that is away, before it is `not_stored` or `away`
_RETRY_S, _MOST_RETRY_S = 0.5, 30.0

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class RedisReader:
    """The half of the log that changes nothing; `script` is the sha1 of lua/read.lua."""

    def __init__(self, line: Line, script: str) -> None:
        self._line, self._script = line, script
        self._readings = Readings()

    async def before(self, room: str, seq: int | None, limit: int) -> Slice:
        found = await self._read(room, "before", False if seq is None else seq, limit, MAX_PAGE_BYTES)
        bound = found[1] + 1 if seq is None else seq
        return slice_of(found, bound, bound - 1)

    async def after(self, room: str, seq: int, limit: int, max_bytes: int = MAX_PAGE_BYTES) -> Slice:
        return slice_of(await self._read(room, "after", seq, limit, max_bytes), seq + 1, seq)

    async def around(self, room: str, seq: int, limit: int) -> Slice:
        found = await self._read(room, "around", seq, limit, MAX_PAGE_BYTES)
        if not found:
            raise no_message()
        return slice_of(found, seq, seq)

    async def since(self, room: str, at: int, limit: int) -> Slice:
        found = await self._read(room, "since", at, limit, MAX_PAGE_BYTES)
        return slice_of(found, found[2], found[2] - 1)

    async def bytes_after(self, room: str, seq: int) -> int:
        return int(await self._read(room, "bytes_after", seq))

    async def head(self, room: str) -> int:
        return int(await self._read(room, "head"))

    async def said_by(self, room: str, person: str, before: int | None, limit: int) -> Slice:
        asked = (person, False if before is None else before, limit, MAX_PAGE_BYTES)
        found, is_more = await self._read(room, "said_by", *asked)
        return Slice([event_of(seq, body) for seq, body in found], is_more, False)

    async def spoke_before(self, room: str, people: list[str], at: int) -> set[str]:
        return set(await self._read(room, "spoke_before", people, at))

    async def name_of(self, room: str, person: str) -> str | None:
        return await self._read(room, "name_of", person) or None

    async def acts(self, room: str, before: int | None, limit: int, person: str | None) -> tuple[list[bytes], bool]:
        bound = False if before is None else before
        bodies = await self._read(room, "acts", bound, limit + 1, person or False)
        return [body.encode() for body in bodies[:limit]], len(bodies) > limit

    async def held(self, room: str) -> list[HeldMessage]:
        shown: list[HeldMessage] = []
        left_bytes = MAX_PAGE_BYTES
        for id, body in (await self._read(room, "held"))[:HELD_SHOWN]:
            left_bytes -= len(body.encode())
            if shown and left_bytes < 0:
                break
            shown.append(held_message_of(id, decode_held(body)))
        return shown

    async def held_message(self, room: str, id: int) -> tuple[HeldMessage, str | None]:
        body = await self._read(room, "held_message", id)
        if not body:
            raise no_held()
        row = decode_held(body)
        return held_message_of(id, row), row.client_id

    async def held_count(self, room: str) -> int:
        return int(await self._read(room, "held_count"))

    async def names(self, *, limited: bool = False) -> list[str]:
        names = sorted(name.decode() for name in await self._surely(lambda: self._line.call("SMEMBERS", keys.ROOMS)))
        question = "rules" if limited else "is_used"
        answers = await asyncio.gather(*(self._read(name, question) for name in names))
        return [name for name, answer in zip(names, answers, strict=True) if is_limited(answer) or answer is True]

    # Asking

    async def _read(self, name: str, what: str, *asked: Any) -> Any:
        """Raises ProtocolError `away` if Redis cannot be asked within WAIT_S."""
        of_room = keys.keys_of(name)
        try:
            async with asyncio.timeout(WAIT_S):
                return _unpack(await self._readings.fresh(name, lambda _: self._ask_surely(of_room, what, asked)))
        except (RedisError, TimeoutError) as error:
            raise log_away() from error

    async def _ask_surely(self, of_room: keys.Keys, what: str, asked: Sequence[Any]) -> Any:
        while True:
            try:
                return await self._ask_now(of_room, what, asked)
            except LineLost:
                await self._line.up()

    async def _read_now(self, of_room: keys.Keys, what: str, *asked: Any) -> Any:
        return _unpack(await self._ask_now(of_room, what, asked))

    def _ask_now(self, of_room: keys.Keys, what: str, asked: Sequence[Any]) -> "asyncio.Future[Any]":
        return self._line.call("EVALSHA", self._script, len(of_room), *of_room, what, _pack(asked))

    async def _surely(self, read: Callable[[], Awaitable[Result]]) -> Result:
        """As often as it takes; what another program has put into our keys stays there for long."""
        wait_s = _RETRY_S
        while True:
            try:
                return await read()
            except LineLost:
                await self._line.up()
            except RedisError as error:
                if wait_s == _RETRY_S:
                    log.warning("what was missed could not be read yet: %s", sentence(error))
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _MOST_RETRY_S)
