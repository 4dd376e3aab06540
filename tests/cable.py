"""The cable between browser and server: a TCP proxy of the tests' own that can be cut, go dead and be mended.

Playwright's `set_offline` leaves a WebSocket that stands alone, and no browser tells its pages of it; a cable that is
cut or dead is what people have. Runs in a thread of its own, as a browser's test keeps the main one busy.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from tests.support import DEADLINE_S

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for no time: an RST goes out, not a FIN


@dataclass(eq=False)
class _Connection:
    """One connection through the cable; while the cable is dead it has no far end."""

    ends: list[asyncio.StreamWriter]
    is_dead: bool = False


class Cable:
    """From `url` to a server's port; a context manager. Whole at first."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._is_cut = self._is_dead = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Cable":
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *exception: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    # What happens to it

    def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        self._run(self._become(is_cut=True, is_dead=False))

    def hang(self) -> None:
        """Swallow every byte from now on, in both directions, and take new connections that nobody answers."""
        self._run(self._become(is_cut=False, is_dead=True))

    def restore(self) -> None:
        """Carry new connections again; what hung stays dead, as after a router that forgot it."""
        self._run(self._become(is_cut=False, is_dead=False))

    # Internal: all of it runs in the thread

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        # asyncio leaves those open that come to a closed listener, having been accepted before.
        for listening in self._listener.sockets:
            self._loop.remove_reader(listening)
        await self._become(is_cut=True, is_dead=False)
        here = {asyncio.current_task()}
        while others := asyncio.all_tasks() - here:  # one that was being accepted comes late
            await asyncio.gather(*others, return_exceptions=True)
        self._listener.close()
        await asyncio.sleep(0)  # in which the last ones are closed

    async def _become(self, is_cut: bool, is_dead: bool) -> None:
        self._is_cut, self._is_dead = is_cut, is_dead
        for connection in self._connections:
            connection.is_dead |= is_dead
            if is_cut:
                _reset(connection)

    async def _connected(self, from_browser: asyncio.StreamReader, to_browser: asyncio.StreamWriter) -> None:
        connection = _Connection([to_browser], self._is_dead)
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):
                await self._carry(connection, from_browser, to_browser)
        finally:
            self._connections.remove(connection)
            _reset(connection)

    async def _carry(
        self, connection: _Connection, from_browser: asyncio.StreamReader, to_browser: asyncio.StreamWriter
    ) -> None:
        if self._is_cut:
            return
        if self._is_dead:
            await _pump(connection, from_browser, to_browser)
            return
        from_server, to_server = await asyncio.open_connection(HOST, self._server_port)
        connection.ends.append(to_server)
        await asyncio.gather(_pump(connection, from_browser, to_server), _pump(connection, from_server, to_browser))


async def _pump(connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(65536):
        if not connection.is_dead:
            sink.write(piece)
            await sink.drain()
    if not connection.is_dead:
        sink.write_eof()


def _reset(connection: _Connection) -> None:
    for end in connection.ends:
        if not end.transport.is_closing():
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()
