"""How a server and a Redis meet: whether it is one that can be used, which epoch it is in, what an ack means there.

Invariants: a Redis that is refused is left as it was found; an epoch belongs to one run of one primary, so that
whatever a restart or a promotion has lost is found out by whoever comes back.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Any

import redis as blocking
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from chat.eventlog import LogRefused, keys

SCHEMA_VERSION = 1
_OLDEST = (6, 2)
_LOOK_S = 5.0
_LUA = Path(__file__).parent / "lua"

# A word and a number for each run of Redis, in their order.
_EPOCH = """
local word = redis.call('HGET', KEYS[2], 'run') == ARGV[1] and redis.call('HGET', KEYS[2], 'epoch')
if not word then
    word = ARGV[2]
    redis.call('HSET', KEYS[1], word, redis.call('HLEN', KEYS[1]) + 1)
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
        self.is_doubted = False  # it has forgotten something without having been away
        self._sources = {name: (_LUA / f"{name}.lua").read_text() for name in ("commit", "read")}
        self.scripts = {name: hashlib.sha1(source.encode()).hexdigest() for name, source in self._sources.items()}
        self.place, redis = _client(url)
        try:
            with redis:
                self._look_at(redis)
        except AuthenticationError:
            raise LogRefused(f"The Redis at {self.place} refuses us: put its password into --redis.") from None
        except NoPermissionError as error:
            raise LogRefused(f"The Redis at {self.place} does not let us do what is needed ({error}).") from None
        except ResponseError as error:
            raise LogRefused(f"The Redis at {self.place} cannot be used: {_sentence(error)}") from None
        except (RedisError, OSError) as error:
            advice = "start it, or name another one with --redis"
            raise LogRefused(f"The Redis at {self.place} cannot be reached ({_sentence(error)}): {advice}.") from None

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
        redis.set(keys.VERSION, SCHEMA_VERSION, nx=True)
        self._take(redis.eval(_EPOCH, 2, keys.EPOCHS, keys.RUN, _run(server, replication), _word()))
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
        await redis.set(keys.VERSION, SCHEMA_VERSION, nx=True)
        await redis.set(keys.SECRET, self.secret, nx=True)
        run = _run(server, replication) + (f" {_word()}" if self.is_doubted else "")
        self._take(await redis.eval(_EPOCH, 2, keys.EPOCHS, keys.RUN, run, _word()))
        self.is_doubted = False

    def _take(self, found: Any) -> None:
        word, epochs = found
        self.epoch = word.decode()
        self.epochs = {epoch.decode(): int(number) for epoch, number in zip(epochs[::2], epochs[1::2], strict=True)}


def secret_at(url: str) -> str:
    """What the servers of that Redis sign with; raises LogRefused."""
    place, redis = _client(url)
    try:
        with redis:
            secret = redis.get(keys.SECRET)
    except (RedisError, OSError) as error:
        raise LogRefused(f"The Redis at {place} cannot be asked ({_sentence(error)}).") from None
    if secret is None:
        raise LogRefused(f"No server was started on the Redis at {place} yet: start one, then ask again.")
    return str(secret.decode())


def _client(url: str) -> tuple[str, Any]:
    try:
        redis = blocking.Redis.from_url(url, protocol=2, socket_timeout=_LOOK_S, socket_connect_timeout=_LOOK_S)
    except ValueError:
        raise LogRefused(
            "--redis is no address of a Redis: write it as redis://host:port/0, with :password@ before the host."
        ) from None
    settings = redis.connection_pool.connection_kwargs
    place = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
    return place, redis


def _run(server: Any, replication: Any) -> str:
    return f"{server['run_id']} {replication['master_replid']}"


def _word() -> str:
    return secrets.token_urlsafe(9)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
        sentence = "a restart of it loses what was acked since its last snapshot"
        return sentence, [*warnings, f"Redis keeps no log ({sentence}): set appendonly yes"]
    if config.get("appendfsync") == "always":
        return "what is acked is on its disk (appendfsync always)", warnings
    if config.get("appendfsync") == "everysec":
        return "a crash of its machine loses up to a second of what was acked (appendfsync everysec)", warnings
    sentence = "a crash of its machine loses what was acked in the last half minute (appendfsync no)"
    return sentence, [*warnings, f"{sentence[0].upper()}{sentence[1:]}: set appendfsync everysec"]
