"""How a server and a Redis meet: whether it is one that can be used, which epoch it is in, what an ack means there.

Invariants: a Redis that is refused is left as it was found; an epoch belongs to one run of one primary, so that
whatever a restart or a promotion has lost is found out by whoever comes back.
"""

import hashlib
import logging
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis as blocking
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from chat.eventlog import LogRefused, LogUnreachable, keys
from chat.eventlog.line import sentence

log = logging.getLogger("chatroom")

SCHEMA_VERSION = 1
_OLDEST = (6, 2)
_LOOK_S = 5.0
_LUA = Path(__file__).parent / "lua"

# A word and a number for each run of Redis, and for what begins when one has forgotten something under way, in their
# order: the number is a time (us), so that it grows even if all earlier ones are forgotten.
_EPOCH = """
local word = redis.call('HGET', KEYS[2], 'run') == ARGV[1] and redis.call('HGET', KEYS[2], 'epoch')
if not word or word == ARGV[3] then
    word = ARGV[2]
    redis.call('HDEL', KEYS[2], '') -- a Redis that is full lets a script go on that has written
    local number = tonumber(ARGV[4])
    for _, earlier in ipairs(redis.call('HVALS', KEYS[1])) do number = math.max(number, earlier + 1) end
    redis.call('HSET', KEYS[1], word, string.format('%d', number))
    redis.call('HSET', KEYS[2], 'run', ARGV[1], 'epoch', word)
end
return { word, redis.call('HGETALL', KEYS[1]) }
"""


class Meeting:
    """What was found out about one Redis, when it was last met."""

    def __init__(self, url: str) -> None:
        """Look at it, before the server starts; raises LogRefused."""
        self.epoch = ""
        self.secret = ""
        self.durability = ""
        self.warnings: list[str] = []
        self.epochs: dict[str, int] = {}
        self.doubted = ""  # the epoch in which it has forgotten something without having been away
        self._sources = {name: (_LUA / f"{name}.lua").read_text() for name in ("commit", "read")}
        self.scripts = {name: hashlib.sha1(source.encode()).hexdigest() for name, source in self._sources.items()}
        self.place, self.database, redis = _client(url)
        try:
            with redis:
                self._look_at(redis)
        except AuthenticationError:
            raise LogRefused(f"The Redis at {self.place} refuses us: put its password into --redis.") from None
        except NoPermissionError as error:
            raise LogRefused(f"The Redis at {self.place} does not let us do what is needed ({error}).") from None
        except ResponseError as error:
            raise LogRefused(f"The Redis at {self.place} cannot be used: {sentence(error)}.") from None
        except (RedisError, OSError) as error:
            advice = "start it, or name another one with --redis"
            raise LogUnreachable(
                f"The Redis at {self.place} cannot be reached ({sentence(error)}): {advice}."
            ) from None

    def _look_at(self, redis: Any) -> None:
        server, replication = redis.info("server"), redis.info("replication")
        version = tuple(int(part) for part in server["redis_version"].split(".")[:2])
        if version < _OLDEST:
            raise LogRefused(
                f"The Redis at {self.place} is {server['redis_version']}: 6.2 or newer is needed (or Valkey)."
            )
        if replication["role"] != "master":
            raise LogRefused(f"The Redis at {self.place} is a replica: name its primary with --redis.")
        kept = redis.get(keys.VERSION)
        if kept is None and redis.exists(keys.EPOCHS, keys.RUN, keys.ROOMS, keys.SECRET):
            raise LogRefused(f"The Redis at {self.place} has another program's {keys.PREFIX}… keys: name another one.")
        if kept is not None and not (kept.isdigit() and int(kept) <= SCHEMA_VERSION):
            raise LogRefused(f"The Redis at {self.place} was written by a newer version of this server: use that one.")
        if kept is None:
            redis.set(keys.VERSION, SCHEMA_VERSION, nx=True)
        redis.scard(keys.ROOMS)
        _check_channels(redis, keys.channel(self.database, f"{keys.PREFIX}probe"))
        self._take(redis.eval(_EPOCH, *self._epoch_of(server, replication, redis.time())))
        if not redis.exists(keys.SECRET):
            redis.set(keys.SECRET, secrets.token_hex(32), nx=True)
        self.secret = redis.get(keys.SECRET).decode()
        self.durability, self.warnings = _durability(redis)

    async def greet(self, redis: "Redis") -> None:
        """Meet it again, after each connecting: it may be another run, or another server in its place."""
        server, replication = await redis.info("server"), await redis.info("replication")
        if replication["role"] != "master":
            raise blocking.exceptions.ReadOnlyError("it is a replica now")
        for source in self._sources.values():
            await redis.script_load(source)
        if await redis.exists(keys.VERSION, keys.SECRET) != 2:
            await redis.set(keys.VERSION, SCHEMA_VERSION, nx=True)
            await redis.set(keys.SECRET, self.secret, nx=True)
        if await redis.get(keys.SECRET) != self.secret.encode():
            log.error("Redis has another secret than this server was started with: start it anew")
        self._take(await redis.eval(_EPOCH, *self._epoch_of(server, replication, await redis.time())))

    def _epoch_of(self, server: Any, replication: Any, now: tuple[int, int]) -> tuple[Any, ...]:
        run = f"{server['run_id']} {replication['master_replid']}"
        now_s, us = now
        return (2, keys.EPOCHS, keys.RUN, run, secrets.token_urlsafe(9), self.doubted, now_s * 1_000_000 + us)

    def _take(self, found: Any) -> None:
        word, epochs = found
        self.epoch = word.decode()
        self.epochs = {epoch.decode(): int(number) for epoch, number in zip(epochs[::2], epochs[1::2], strict=True)}


def secret_at(url: str) -> str:
    """What the servers of that Redis sign with; raises LogRefused."""
    place, _, redis = _client(url)
    try:
        with redis:
            secret = redis.get(keys.SECRET)
    except (RedisError, OSError) as error:
        raise LogRefused(f"The Redis at {place} cannot be asked ({sentence(error)}).") from None
    if secret is None:
        raise LogRefused(f"No server was started on the Redis at {place} yet: start one, then ask again.")
    return str(secret.decode())


def _client(url: str) -> tuple[str, int, Any]:
    """Where it is, which of its databases is meant, and who can ask it."""
    try:
        redis = blocking.Redis.from_url(url, protocol=2, socket_timeout=_LOOK_S, socket_connect_timeout=_LOOK_S)
        settings = redis.connection_pool.connection_kwargs
        redis.connection_pool.make_connection()  # so that what is not known is found out now
        database = urlsplit(url).path.strip("/")
        if settings.get("decode_responses") or not (settings.get("path") or database.isdigit() or database == ""):
            raise ValueError
    except (ValueError, TypeError):
        raise LogRefused(
            "--redis is no address of a Redis: write it as redis://host:port/0, with :password@ before the host."
        ) from None
    place = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
    return place, int(settings.get("db") or 0), redis


def _check_channels(redis: Any, channel: str) -> None:
    """Raises NoPermissionError: an account may have all keys and no channel."""
    redis.publish(channel, "")
    with redis.pubsub() as listening:
        listening.subscribe(channel)
        listening.get_message(timeout=_LOOK_S)


def _durability(redis: Any) -> tuple[str, list[str]]:
    """What an ack survives there, as one sentence, and what should be set otherwise."""
    try:
        config = redis.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
    except ResponseError:  # as many who rent one out forbid it
        return "what it keeps is up to whoever runs it", []
    warnings = []
    policy = config.get("maxmemory-policy", "noeviction")
    if policy != "noeviction" and config.get("maxmemory") != "0":
        warnings.append(f"Redis throws away what it likes when it is full ({policy}): set maxmemory-policy noeviction")
    if config.get("appendonly") != "yes":
        loss = "a restart of it loses what was acked since its last snapshot"
        return loss, [*warnings, f"Redis keeps no log ({loss}): set appendonly yes"]
    if config.get("appendfsync") == "always":
        return "what is acked is on its disk (appendfsync always)", warnings
    if config.get("appendfsync") == "everysec":
        return "a crash of its machine loses up to a second of what was acked (appendfsync everysec)", warnings
    loss = "a crash of its machine loses what was acked in the last half minute (appendfsync no)"
    return loss, [*warnings, f"{loss[0].upper()}{loss[1:]}: set appendfsync everysec"]
