"""The chat room as the manual of python `websockets` writes it: a set of connections and `broadcast()`.

The library encodes the text once, frames it for each member, pings everybody every 20 seconds and cuts off who does not
answer within 20. Compression, which it offers by default, stays off unless a member asks for it; ours do not.
It does NOT: store, number, bound what waits for a slow member (short of the ping), or reuse a frame.

    .peers/python/bin/python loadtest/peers/websockets_broadcast.py --port=8889
"""

import argparse
import asyncio
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve

ROOMS: dict[str, set[ServerConnection]] = {}


async def chat(member: ServerConnection) -> None:
    """Let a member into the room that the query names and say what he says to everyone in it."""
    query = parse_qs(urlsplit(member.request.path).query) if member.request else {}
    room = ROOMS.setdefault(query.get("room", ["default"])[0], set())
    room.add(member)
    try:
        async for text in member:
            broadcast(room, text)
    finally:
        room.remove(member)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8889, help="TCP port; 0 picks a free one and prints it")
    async with serve(chat, "127.0.0.1", parser.parse_args().port) as server:
        print(f"http://localhost:{next(iter(server.sockets)).getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
