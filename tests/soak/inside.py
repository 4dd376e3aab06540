"""What a server under soak tells of its inside, at `/inside`: imported by its process before it starts.

Counts what an operator cannot see from outside and what must not grow: tasks, objects, the tables of its limits, rooms,
the `client_id`s it has to remember. `?objects=1` counts the objects of the interpreter, too, which takes a while.
A room's recent frames are fewer than they are otherwise: at the pace of the soak they would grow for hours up to their
bound, and hide what has none.
"""

import asyncio
import gc
import sys
import threading
from typing import Any

from tornado.web import RequestHandler

import chat.recent
import chatroom
from chat.identity import lookalike_keys

chat.recent._EVENTS = 64
NAME_BYTES = 450  # of a name in the cache of look-alikes, which holds 16,384 of them at most (tracemalloc)


class Inside(RequestHandler):
    """`GET /inside`: the sizes as JSON."""

    def initialize(self, app: "chatroom.ChatApplication") -> None:
        self.app = app

    def get(self) -> None:
        server = self.app.socket_class
        told = {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "sockets": len(server.sockets),
            "rooms": len(server.rooms),
            "people": sum(len(room.people._here) for room in server.rooms.values()),
            "limits": sum(len(limit._full_at_s) for limit in (server.says, server.asks, server.typings)),
            "addresses": len(server._per_address),
            "unposted": len(server._unposted),
            "recent": sum(len(room._recent) for room in server.rooms.values()),
            "recent_bytes": sum(room._recent._bytes for room in server.rooms.values()),
            "names_bytes": lookalike_keys.cache_info().currsize * NAME_BYTES,
            **remembered(self.app.event_log),
        }
        if self.get_argument("objects", ""):
            gc.collect()
            told["objects"] = len(gc.get_objects())
        self.write(told)


def remembered(event_log: Any) -> dict[str, int]:
    """How many `client_id`s are kept for their 24 hours, in how many rooms, and what they take.

    The tables belong to the writer's thread, which may be adding to one.
    """
    tails = list(event_log._placing._tails.values())
    tables = [table for tail in tails for table in (tail.remembered, tail.remembered_before)]
    entries = sum(map(len, tables))
    return {
        "tails": len(tails),
        "remembered": entries,
        "remembered_bytes": sum(map(sys.getsizeof, tables)) + entries * _entry_bytes(tables),
    }


def _entry_bytes(tables: list[Any]) -> int:
    """The key, a person and a `client_id` as each frame brought them, and a seq."""
    for table in tables:
        if table:
            (person, client_id), seq = next(iter(table.items()))
            return sum(map(sys.getsizeof, ((person, client_id), person, client_id, seq)))
    return 0


class Opened(chatroom.ChatApplication):
    """The application with that route."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.add_handlers(".*", [("/inside", Inside, {"app": self})])


chatroom.ChatApplication = Opened  # type: ignore[misc]
