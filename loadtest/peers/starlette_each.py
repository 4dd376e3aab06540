"""The chat room as the demos of Starlette and FastAPI write it: a list of sockets, each awaited in turn.

On uvicorn with what its extra `standard` brings for speed (uvloop, httptools, websockets). Unlike the demos it walks
over a copy of the list and passes over a member who has just gone: theirs skips somebody or ends the sender's own part.
It does NOT: store, number, encode or frame a text only once, or go on while a socket is full: all wait for its member.

    .peers/python/bin/python loadtest/peers/starlette_each.py --port=8889
"""

import argparse
import contextlib
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

ROOMS: dict[str, list[WebSocket]] = {}


async def chat(member: WebSocket) -> None:
    """Let a member into the room that the query names and say what he says to everyone in it."""
    await member.accept()
    room = ROOMS.setdefault(member.query_params.get("room", "default"), [])
    room.append(member)
    try:
        async for text in member.iter_text():
            await say(room, text)
    finally:
        room.remove(member)


async def say(room: list[WebSocket], text: str) -> None:
    """Send a text to one after the other."""
    for member in list(room):
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the latter: its close has been sent already
            await member.send_text(text)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8889, help="TCP port; 0 picks a free one and prints it")
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port), backlog=2048)
    print(f"http://localhost:{listening.getsockname()[1]}/", flush=True)
    app = Starlette(routes=[WebSocketRoute("/ws", chat)])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
