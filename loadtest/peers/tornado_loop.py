"""The chat room as every tutorial writes it on Tornado: the loop of its chat demo.

A class-level registry of rooms and a loop that calls `write_message` for every member, the sender included.
It does NOT: store, number, bound what waits for a slow member, ping, check who comes, or encode a frame only once.

    python loadtest/peers/tornado_loop.py --port=8889
"""

import argparse
import asyncio
from typing import ClassVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler


class LoopSocket(WebSocketHandler):
    """One member of one room."""

    rooms: ClassVar[dict[str, set["LoopSocket"]]] = {}

    def open(self) -> None:
        """Enter the room that the query names."""
        self.set_nodelay(True)  # the one advice of Tornado's manual that matters here: without it messages wait 40 ms
        self.room = self.rooms.setdefault(self.get_query_argument("room", "default"), set())
        self.room.add(self)

    def on_message(self, text: str | bytes) -> None:
        """Say it to everyone in the room."""
        for member in self.room:
            try:
                member.write_message(text)
            except WebSocketClosedError:
                pass  # he has just gone; tutorials without this end the sender's own connection

    def on_close(self) -> None:
        """Leave the room."""
        self.room.discard(self)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8889, help="TCP port; 0 picks a free one and prints it")
    sockets = bind_sockets(parser.parse_args().port, "127.0.0.1")
    HTTPServer(Application([("/ws", LoopSocket)])).add_sockets(sockets)
    print(f"http://localhost:{sockets[0].getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
