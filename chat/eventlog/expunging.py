"""How a person is taken out of a Redis altogether, while no server runs on it: what erasing.py does to a file.

Invariants: a room is read first and then stored without him in one step, so that he is out of it altogether or not at
all; if a server writes into a room meanwhile nothing of that room is stored.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec
import redis as blocking
from msgspec import UNSET
from redis.exceptions import RedisError, ResponseError, WatchError

from chat.eventlog import LogRefused, keys
from chat.eventlog.line import sentence
from chat.eventlog.meeting import Meeting, secret_at
from chat.eventlog.translating import decode_held
from chat.eventlog.unnaming import Erased, act_without, entries_without, without
from chat.protocol import (
    REACTIONS,
    REACTORS,
    Edited,
    Message,
    Person,
    Purged,
    Reaction,
    Removed,
    decode_message,
    encode,
)

_ANSWER_S = 60.0
_STEP = 1000  # fields or members in one command; an even number

_decode_reactors = msgspec.json.Decoder(list[tuple[str, str, str]]).decode  # kind, id and name
_SPOKEN = (b'{"type":"message"', b'{"type":"edit"')
_decode_said = msgspec.json.Decoder(Message | Edited).decode


def erase(url: str, person: str) -> list[Erased]:
    """Take a person out of all rooms; raises LogRefused."""
    secret_at(url)  # refuses where no server was ever started: nothing is to be made there
    meeting = Meeting(url)
    try:
        with blocking.Redis.from_url(url, protocol=2, socket_timeout=_ANSWER_S) as redis:
            _refuse_if_one_runs(redis, meeting)
            return _erase(redis, meeting.epochs[meeting.epoch], person)
    except WatchError:
        refusal = f"A server began to run on the Redis at {meeting.place}: stop it, then do it again."
    except (RedisError, OSError) as error:
        advice = "mend that, then do it again"
        refusal = f"Not everything was erased from the Redis at {meeting.place} ({sentence(error)}): {advice}."
    raise LogRefused(refusal)


def _refuse_if_one_runs(redis: Any, meeting: Meeting) -> None:
    ((_, listeners),) = redis.pubsub_numsub(keys.channel(meeting.database, keys.SERVERS))
    if listeners:
        raise LogRefused(f"The Redis at {meeting.place} is in use: stop all servers, then do it again.")


def _erase(redis: Any, epoch: int, person: str) -> list[Erased]:
    names = sorted(name.decode() for name in redis.smembers(keys.ROOMS))
    days: dict[str, set[str]] = defaultdict(set)  # of the `client_id`s, by the room's tag
    for key in redis.scan_iter(f"{keys.PREFIX}{{*}}:ids:*", count=_STEP):
        days[key.decode().partition("ids:")[0]].add(key.decode())
    erased = [found for name in names if (found := _erase_in(redis, epoch, name, days, person)) is not None]
    with contextlib.suppress(ResponseError):  # who may not ask for it has it when the file has grown
        if redis.info("persistence").get("aof_enabled"):
            redis.bgrewriteaof()  # what was removed is still in the file to which Redis appends
    return erased


def _erase_in(redis: Any, epoch: int, name: str, days: dict[str, set[str]], person: str) -> Erased | None:
    """Take somebody out of one room; None if he is nowhere in it."""
    with redis.pipeline() as step:
        step.watch(keys.keys_of(name).room)  # whoever stores anything writes there
        room = _Room(redis, name, person)
        room.take_back_reactions()
        room.blank_events()
        room.unname_acts()
        room.unname_entries()
        room.forget(days[room.keys.room.removesuffix("room")])
        if not room.commands:
            return None
        room.note_rewriting(epoch)
        step.multi()
        for command in room.commands:
            step.execute_command(*command)
        step.execute()
    return Erased(name, len(room.removed))


class _Room:
    """A room of which he is taken out; `commands` are to be done in one step."""

    def __init__(self, redis: Any, name: str, person: str) -> None:
        self.keys = keys.keys_of(name)
        self.commands: list[tuple[Any, ...]] = []
        self.removed: set[int] = set()
        self._bodies: dict[int, bytes] = {}  # of events, as they are to be
        self._redis, self._person = redis, person
        seq, at, first = redis.hmget(self.keys.room, "seq", "at", "first")
        self._seq, self._at, self._first = int(seq or 0), int(at or 0), int(first or 1)

    def _do(self, command: str, key: str, arguments: Iterable[Any]) -> None:
        self.commands += [(command, key, *piece) for piece in _pieces(arguments)]

    def _put(self, key: str, field: Any, value: bytes | None) -> None:
        self.commands.append(("HDEL", key, field) if value is None else ("HSET", key, field, value))

    def _found(self, key: str, seqs: Iterable[int]) -> dict[int, bytes]:
        """Those of a hash's fields that there are."""
        seqs = sorted(seqs)
        values = chain.from_iterable(self._redis.hmget(key, piece) for piece in _pieces(seqs))
        return {seq: value for seq, value in zip(seqs, values, strict=True) if value is not None}

    def _his(self, key: str) -> list[bytes]:
        """What an index that begins with the person has of him."""
        return list(self._redis.zrangebylex(key, f"[{self._person}:", f"({self._person};"))

    def take_back_reactions(self) -> None:
        his = self._his(self.keys.reacted)
        self._do("ZREM", self.keys.reacted, his)
        seqs = {int(member.split(b":")[1]) for member in his}
        bodies = self._found(self.keys.events, seqs)
        for seq, stored in self._found(self.keys.reactors, seqs).items():
            reactors = [each for each in _decode_reactors(stored) if each[1] != self._person]
            self._put(self.keys.reactors, seq, encode(reactors) if reactors else None)
            if seq >= self._first and bodies.get(seq, b"").startswith(b'{"type":"message"'):
                message = decode_message(bodies[seq])
                message.reactions = _reactions(reactors) or UNSET
                self._bodies[seq] = encode(message)

    def blank_events(self) -> None:
        """All that he said becomes `removed`; in what others did he loses his name."""
        for field, body in self._redis.hscan_iter(self.keys.events, count=_STEP):
            if self._person.encode() in body:
                self._blank(int(field), body)
        self._do("HSET", self.keys.events, chain.from_iterable(self._bodies.items()))
        self._do("ZREM", self.keys.said, self._his(self.keys.said))
        self._do("ZREM", self.keys.edits, sorted(self.removed))
        silent = [seq for seq, body in self._bodies.items() if b'"announcement":' not in body]
        self._do("ZREM", self.keys.telling, silent)
        self._forget_reactions()

    def _blank(self, seq: int, body: bytes) -> None:
        if body.startswith(_SPOKEN) and (said := _decode_said(body)).by.id == self._person:
            self.removed.add(seq)
            self._bodies[seq] = encode(Removed(seq, said.at))
        elif (kept := without(self._bodies.get(seq, body), self._person)) != body:
            self._bodies[seq] = kept

    def _forget_reactions(self) -> None:
        """Those to what he said."""
        for seq, stored in self._found(self.keys.reactors, self.removed).items():
            self._do("ZREM", self.keys.reacted, [f"{id}:{seq}:{kind}" for kind, id, _ in _decode_reactors(stored)])
            self._put(self.keys.reactors, seq, None)

    def unname_acts(self) -> None:
        for id, body in self._redis.hscan_iter(self.keys.acts, count=_STEP):
            if b'"id":"%s"' % self._person.encode() in body:
                self._put(self.keys.acts, id, act_without(body, self._person))

    def unname_entries(self) -> None:
        stored = {key.decode(): body for key, body in self._redis.hgetall(self.keys.entries).items()}
        for key, body in entries_without(stored, self._person).items():
            self._put(self.keys.entries, key, body)

    def forget(self, days: Iterable[str]) -> None:
        """What is kept of him beside his words: what he wrote and is held, and which `client_id`s were his."""
        held = self._redis.hgetall(self.keys.held).items()
        self._do("HDEL", self.keys.held, [id for id, row in held if decode_held(row).person == self._person])
        for key in (self.keys.known, *days):
            self._do("HDEL", key, {ids for ids, _ in self._redis.hscan_iter(key, f"{self._person}:*", _STEP)})

    def note_rewriting(self, epoch: int) -> None:
        """What has read the room is to read it anew; those who come back are told of the purge, if anything went."""
        self.commands.append(("HINCRBY", self.keys.room, "rewritings", 1))
        if not self.removed:
            return
        seq, at = self._seq + 1, max(self._at, time.time_ns() // 1_000_000)
        self._put(self.keys.events, seq, encode(Purged(seq, at, self._person)))
        self.commands.append(("HSET", self.keys.room, "seq", seq, "at", at, "epoch", epoch))
        self.commands.append(("HSETNX", self.keys.starts, epoch, seq))


def _pieces(whole: Iterable[Any]) -> list[list[Any]]:
    whole = list(whole)
    return [whole[start : start + _STEP] for start in range(0, len(whole), _STEP)]


def _reactions(reactors: list[tuple[str, str, str]]) -> list[Reaction]:
    by = {kind: [Person(id, name) for each, id, name in reactors if each == kind] for kind in REACTIONS}
    return [Reaction(kind, len(people), people[:REACTORS]) for kind, people in by.items() if people]
