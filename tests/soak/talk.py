"""People who talk at a steady rate: `python -m tests.soak.talk URL ROOM RATE SECONDS` prints what became of it as JSON.

A process of its own, so that neither the browser's driver nor the talk waits for the other. A message that is late is
said at once, and the next one at its own time all the same. What the talkers hear they read and throw away.
"""

import json
import random
import select
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from loadtest.frames import masked
from tests.support import Client

TALKERS = 8
READ_BYTES = 1 << 16
PROSE = "of the tea would you before noon rain perhaps tomorrow 明天見 🙂 naïve a"
SPICES = ("**{}** indeed", "`{}`", "see https://example.org/{}", "> {}\n\nno", "- {}\n- and more", "{}\n{}")
SPICED = 0.2  # of all texts; the others are plain words
REPLYING = 0.1
MENTIONS_PER_S = 1.5  # of Ann, however much is said


def texts(chance: random.Random, mentioning: float) -> Iterator[str]:
    """What people say, without end."""
    words = PROSE.split()
    while True:
        plain = " ".join(chance.choices(words, k=chance.randint(3, 25)))
        text = chance.choice(SPICES).replace("{}", plain) if chance.random() < SPICED else plain
        yield f"@Ann {text}" if chance.random() < mentioning else text


def talk(url: str, room: str, rate: float, seconds: float) -> dict[str, float]:
    """Say rate * seconds messages; the rate that was reached, and how late a message was at most."""
    chance, count, latest_s = random.Random(1), int(rate * seconds), 0.0
    with ExitStack() as stack:
        talkers = [stack.enter_context(Client(url, room, name=f"Talker {number}")) for number in range(1, TALKERS + 1)]
        head = talkers[-1].welcome["head"]
        start_s = time.monotonic()
        for number, text in enumerate(islice(texts(chance, MENTIONS_PER_S / rate), count), 1):
            due_s = start_s + number / rate
            listen_until(talkers, due_s)
            latest_s = max(latest_s, time.monotonic() - due_s)
            frame = {"type": "say", "client_id": f"talk-{number}", "text": text}
            if number > 50 and chance.random() < REPLYING:
                frame["reply_to"] = head + number - chance.randint(20, 50)
            talkers[number % TALKERS].socket.sock.sendall(masked(json.dumps(frame).encode()))
        took_s = time.monotonic() - start_s
        listen_until(talkers, time.monotonic() + 1)
    return {"rate": count / took_s, "latest_ms": latest_s * 1000}


def listen_until(talkers: list[Client], end_s: float) -> None:
    """Read what there is to read until then, at least once."""
    sockets = [talker.socket.sock for talker in talkers]
    while True:
        left_s = end_s - time.monotonic()
        readable, _, _ = select.select(sockets, [], [], max(0, left_s))
        for one in readable:
            if not one.recv(READ_BYTES):
                raise ConnectionError("the server closed a talker's connection")
        if left_s <= 0:
            return


if __name__ == "__main__":
    url, room, rate, seconds = sys.argv[1:]
    print(json.dumps(talk(url, room, float(rate), float(seconds))))
