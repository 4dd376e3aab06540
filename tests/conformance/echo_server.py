"""An echo on the chat's own base class of sockets, for test suites that need one; the server itself has no such route.

`python -m tests.conformance.echo_server` picks a free port, prints it and runs until it is ended.
"""

import asyncio

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from chat.websocket import FramesHandler


class Echo(FramesHandler):
    """Sends back what it hears, as what it was."""

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


async def serve() -> None:
    """Listen on this machine alone and say where."""
    listeners = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([("/", Echo)], log_function=lambda handler: None)).add_sockets(listeners)
    print(listeners[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
