"""The two connections to Redis: one for all that is asked, one for all that is listened to.

Owns them and their renewal; knows no rooms. Invariants: whatever is asked meanwhile goes out together, answers come in
order, and nothing is sent twice. What was under way when the line broke fails with LineLost: whoever asked knows
whether it may be asked again. Whatever was listened to is listened to again, and that is said, as something was missed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, MasterDownError, NoScriptError, ReadOnlyError, RedisError

ANSWER_S = 5.0  # a Redis that has not answered by then is taken for lost
_RETRY_S = 0.5
_QUIET_S = 5.0  # after which the subscription is asked whether it is still there
# It is another Redis that is needed, or patience.
_NOT_HERE = (BusyLoadingError, MasterDownError, NoScriptError, ReadOnlyError)


class LineLost(Exception):
    """Redis cannot be reached at the moment, or answered nothing: what was asked may have been done, or not."""


def sentence(error: Exception) -> str:
    """What it says, in one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def client(url: str, socket_timeout: float | None = ANSWER_S) -> "Redis":
    """A connection that does not hide that it was lost; made when something is asked of it."""
    return Redis.from_url(
        url,
        protocol=2,
        socket_timeout=socket_timeout,
        socket_connect_timeout=ANSWER_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )


class Line:
    """`greet` is asked after each connecting, before anything else is sent; `on_change` hears whether it is up."""

    def __init__(
        self,
        url: str,
        greet: Callable[["Redis"], Awaitable[None]],
        on_change: Callable[[Exception | None], None],
    ) -> None:
        self._url = url
        self._greet, self._on_change = greet, on_change
        self._asked: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._up = asyncio.Event()
        self._is_outdated = False
        self._task: asyncio.Task[None] | None = None

    def call(self, *command: Any) -> "asyncio.Future[Any]":
        """Its answer, to come; raises LineLost or RedisError."""
        self._task = self._task or asyncio.ensure_future(self._run())
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((command, answer))
        self._wake.set()
        return answer

    def renew(self) -> None:
        """Connect anew: what is known of the Redis there is no longer so."""
        self._is_outdated = self._up.is_set()
        self._wake.set()

    async def up(self) -> None:
        """Return once there is a line."""
        await self._up.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            redis = client(self._url)
            try:
                await self._greet(redis)
                await self._hold(redis.connection_pool)
                self._lose(self._asked)  # as it was asked before: of another run of Redis, maybe
                self._up.set()
                self._on_change(None)
                await self._talk(redis)
            except (RedisError, OSError) as error:
                self._up.clear()
                self._lose(self._asked)
                self._on_change(error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose()
            await asyncio.sleep(_RETRY_S)

    async def _hold(self, pool: Any) -> None:
        """The connection that was greeted is the only one: redis-py would make another unseen when it is closed."""
        connection = await pool.get_connection()
        connection.register_connect_callback(self._refuse)
        await pool.release(connection)

    async def _refuse(self, connection: Any) -> None:
        raise ConnectionError("Redis closed the line")

    async def _talk(self, redis: "Redis") -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # not wait_for: before Python 3.12 it loses a cancellation
                async with asyncio.timeout(_QUIET_S):
                    await self._wake.wait()
            if self._is_outdated:
                self._is_outdated = False
                self._lose(self._asked)
                raise ConnectionError("Redis is met anew")
            if not self._asked:
                self.call("PING").add_done_callback(_ignored)  # so that a broken line is known before it is needed
            self._wake.clear()
            asked, self._asked = self._asked, []
            try:
                pipe = redis.pipeline(transaction=False)
                for command, _ in asked:
                    pipe.execute_command(*command)
                replies = await pipe.execute(raise_on_error=False)
            except BaseException:
                self._lose([*asked, *self._asked])
                raise
            for (_, answer), reply in zip(asked, replies, strict=True):
                _settle(answer, reply)
            for reply in replies:
                if isinstance(reply, _NOT_HERE):
                    raise reply

    def _lose(self, asked: list[tuple[tuple[Any, ...], "asyncio.Future[Any]"]]) -> None:
        self._asked = []
        for _, answer in asked:
            _settle(answer, LineLost())


def _ignored(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()


def _settle(answer: "asyncio.Future[Any]", reply: Any) -> None:
    if answer.done():  # whoever asked is gone
        return
    if isinstance(reply, _NOT_HERE):
        answer.set_exception(LineLost())
    elif isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)


class Subscription:
    """The channels that are listened to, over a connection of their own.

    `on_subscribed(channel)` is called whenever a channel is listened to from now on, and so after every loss: what was
    told before has not been heard. `on_told(channel, payload)` hears the rest, `on_lost` of each
    failure.
    """

    def __init__(
        self,
        url: str,
        *,
        always: str,
        on_subscribed: Callable[[str], None],
        on_told: Callable[[str, bytes], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._url = url
        self._channels = {always}
        self._on_subscribed, self._on_told, self._on_lost = on_subscribed, on_told, on_lost
        self._asked: list[tuple[bool, str]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        self._ask(True, channel)

    def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._ask(False, channel)

    def _ask(self, is_wanted: bool, channel: str) -> None:
        self._task = self._task or asyncio.ensure_future(self._run())
        self._asked.append((is_wanted, channel))
        self._wake.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            redis = client(self._url, socket_timeout=None)
            pubsub = redis.pubsub()
            asking: asyncio.Task[None] | None = None
            try:
                self._asked = []
                async with asyncio.timeout(ANSWER_S):
                    await pubsub.subscribe(*self._channels)
                asking = asyncio.ensure_future(self._ask_on(pubsub))
                await self._listen(pubsub)
            except (RedisError, OSError) as error:
                self._on_lost(error)
            finally:
                if asking is not None:
                    asking.cancel()
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
                    await redis.aclose()
            await asyncio.sleep(_RETRY_S)

    async def _ask_on(self, pubsub: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, []
            wanted = {channel for is_wanted, channel in asked if channel in self._channels}
            unwanted = {channel for is_wanted, channel in asked if channel not in self._channels}
            try:
                if wanted:
                    await pubsub.subscribe(*wanted)
                if unwanted:
                    await pubsub.unsubscribe(*unwanted)
            except (RedisError, OSError):
                return  # the listener finds out, and begins anew

    async def _listen(self, pubsub: Any) -> None:
        is_pinged = False
        while True:
            message = await pubsub.get_message(timeout=_QUIET_S)
            if message is None:
                if is_pinged:  # a cut cable closes nothing
                    raise ConnectionError(f"Redis said nothing for {2 * _QUIET_S:.0f} s")
                await pubsub.ping()
                is_pinged = True
                continue
            is_pinged = False
            if message["type"] not in ("subscribe", "message"):
                continue
            channel = message["channel"].decode("utf-8", "replace")
            if message["type"] == "subscribe":
                self._on_subscribed(channel)
            elif message["type"] == "message":
                self._on_told(channel, message["data"])
