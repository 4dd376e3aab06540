"""A WebSocket client as a pipe: `pipe.py LIBRARY URL [SUBPROTOCOL]`.

A line of stdin is a text to send, as JSON; a text that comes is a line of stdout, as JSON; the first line is "ready".
The end of stdin closes the socket as it should be closed; the code that came back is the last line.
"""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any


def show(value: Any) -> None:
    """Write a line."""
    print(json.dumps(value), flush=True)


async def lines() -> AsyncIterator[str]:
    """The texts to send."""
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def by_tornado(url: str, subprotocols: list[str]) -> None:
    """Tornado's client."""
    from tornado.websocket import websocket_connect

    closed = asyncio.Event()

    def hear(message: str | bytes | None) -> None:
        closed.set() if message is None else show(message)

    socket = await websocket_connect(url, on_message_callback=hear, subprotocols=subprotocols or None)
    show("ready")
    async for text in lines():
        await socket.write_message(text)
    socket.close(1000)
    await closed.wait()
    show(socket.close_code)


async def by_websockets(url: str, subprotocols: list[str]) -> None:
    """The package `websockets`."""
    from websockets.asyncio.client import connect

    async with connect(url, subprotocols=subprotocols or None) as socket:  # type: ignore[arg-type]
        show("ready")

        async def hear() -> None:
            async for message in socket:
                show(message)

        hearing = asyncio.create_task(hear())
        async for text in lines():
            await socket.send(text)
        await socket.close()
        await hearing
        show(socket.close_code)


async def by_aiohttp(url: str, subprotocols: list[str]) -> None:
    """The package `aiohttp`."""
    from aiohttp import ClientSession

    async with ClientSession() as session, session.ws_connect(url, protocols=subprotocols) as socket:
        show("ready")

        async def hear() -> None:
            async for message in socket:
                show(message.data)

        hearing = asyncio.create_task(hear())
        async for text in lines():
            await socket.send_str(text)
        await socket.close()
        await hearing
        show(socket.close_code)


async def by_websocket_client(url: str, subprotocols: list[str]) -> None:
    """The package `websocket-client`, which blocks: it is read in a thread."""
    import websocket

    socket = websocket.create_connection(url, subprotocols=subprotocols or None)
    show("ready")

    def hear() -> None:
        while True:
            opcode, data = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                show(int.from_bytes(data[:2], "big"))
                return
            show(data.decode())

    hearing = threading.Thread(target=hear)
    hearing.start()
    async for text in lines():
        socket.send(text)
    socket.send_close(1000)
    await asyncio.to_thread(hearing.join)
    socket.shutdown()


LIBRARIES = {
    "tornado": by_tornado,
    "websockets": by_websockets,
    "aiohttp": by_aiohttp,
    "websocket-client": by_websocket_client,
}

if __name__ == "__main__":
    asyncio.run(LIBRARIES[sys.argv[1]](sys.argv[2], sys.argv[3:]))
