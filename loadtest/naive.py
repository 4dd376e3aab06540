"""The rival of the benchmark: the chat room as every tutorial writes it on Tornado.

A class-level registry of rooms and a loop that calls `write_message` for every member, the sender included.
It stores nothing, numbers nothing and bounds nothing, so it does strictly less per message than the chat room does.
Run it with `python -m loadtest.naive --port=0`; it prints its address as the chat room does.
"""

import argparse
import asyncio
from typing import ClassVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler


class NaiveSocket(WebSocketHandler):
    """One member of one room."""

    rooms: ClassVar[dict[str, set["NaiveSocket"]]] = {}

    def open(self) -> None:
        """Enter the room that the query names."""
        self.set_nodelay(True)  # the one advice of Tornado's manual that matters here: without it messages wait 40 ms
        self.room = self.rooms.setdefault(self.get_query_argument("room", "default"), set())
        self.room.add(self)

    def on_message(self, text: str | bytes) -> None:
        """Say it to everyone in the room."""
        for member in self.room:
            member.write_message(text)

    def on_close(self) -> None:
        """Leave the room."""
        self.room.discard(self)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8889, help="TCP port; 0 picks a free one and prints it")
    sockets = bind_sockets(parser.parse_args().port, "127.0.0.1")
    HTTPServer(Application([("/ws", NaiveSocket)])).add_sockets(sockets)
    print(f"http://localhost:{sockets[0].getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
