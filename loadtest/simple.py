"""The idea in stock locust: everybody is in one room and waits in `ws.recv`, and one of them says what time it is.

    locust -f loadtest/simple.py --headless -H http://localhost:8888 -u 50 -r 50 -t 20s

What it cannot do is why there is more in this folder. The speaker waits for his turn among all greenlets and counts
from there, so his own delay is in no figure; neither is what never comes, comes twice or out of order. A greenlet and
an event for each delivery make this process the bottleneck at a few thousand a second, and it does not say so. Locust
rounds to whole milliseconds. All members are in one process, since another one has another clock.
"""

import itertools
import os
import re
import time

import gevent
import websocket
from locust import User, events, task

PERIOD_S = 0.2  # the chat room takes five messages a second from one person
numbers = itertools.count()


class Member(User):
    """One member; the first one also speaks."""

    def on_start(self) -> None:
        """Enter a room of this run alone."""
        base = str(self.host).replace("http", "ws", 1).rstrip("/")
        self.ws = websocket.WebSocket()
        self.ws.connect(f"{base}/ws?room=simple-{os.getpid()}")  # type: ignore[no-untyped-call]
        if next(numbers) == 0:
            gevent.spawn(self.speak)

    def speak(self) -> None:
        """Say the time, again and again."""
        while self.ws.connected:
            self.ws.send(f"it is {time.monotonic()}")
            gevent.sleep(PERIOD_S)

    @task
    def hear(self) -> None:
        """Wait for a message, and tell locust how long it took."""
        text = str(self.ws.recv())
        if said := re.search(r"it is ([0-9.]+)", text):
            took_ms = (time.monotonic() - float(said[1])) * 1000
            events.request.fire(  # type: ignore[no-untyped-call]
                request_type="ws", name="delivery", response_time=took_ms, response_length=len(text), exception=None
            )

    def on_stop(self) -> None:
        """Leave."""
        self.ws.close()
