"""Whole journeys against a server in a process of its own: what people rely on, end to end."""

import contextlib
import json
import threading
import urllib.request
from pathlib import Path

import pytest
import websocket

from tests.support import Client, ServerProcess


@pytest.fixture
def server(tmp_path: Path):
    with ServerProcess(tmp_path / "chatroom.db", message_rate=0) as server:
        yield server


def test_plain_and_v1_members_share_a_room(server: ServerProcess) -> None:
    """What one wire says the other hears, each in its own way."""
    with Client(server.url, name="Ann") as ann, Client(server.url, plain=True) as script:
        assert script.next() == "Has new user join room"
        ann.say("from the page")
        assert script.next() == "from the page"
        script.socket.send("from the script")
        assert script.next() == "from the script"
        assert [message["text"] for message in ann.messages(2)] == ["from the page", "from the script"]


def test_what_was_shown_survives_kill_9(server: ServerProcess) -> None:
    """A member who comes back after kill -9 finds what he saw and is told that his past is whole."""
    with Client(server.url, name="Ann") as ann:
        ann.say("one")
        seen = ann.hear("message")
        epoch, cookie = ann.welcome["epoch"], ann.cookie
        server.kill()
    server.start()
    with Client(server.url, cookie=cookie, epoch=epoch, after=0) as again:
        assert again.welcome["resumed"] == "whole"
        assert again.welcome["you"]["id"] == ann.welcome["you"]["id"]
        assert again.hear("message") == seen


def test_kill_9_in_the_middle_of_a_thousand_messages_loses_and_doubles_nothing(server: ServerProcess) -> None:
    """Every acked message is there once and in order; every unacked one is said again and there once."""
    total, kill_at = 1000, 400
    in_flight = threading.Semaphore(48)
    client = Client(server.url, name="Ann", room="storm")
    acked: dict[str, int] = {}

    def collect_acks() -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException, ValueError):
            while True:
                frame = client.next()
                if frame["type"] == "ack":
                    acked[frame["client_id"]] = frame["seq"]
                    if len(acked) == kill_at:
                        server.kill()
                    in_flight.release()

        in_flight.release(total)

    reader = threading.Thread(target=collect_acks)
    reader.start()
    with contextlib.suppress(OSError, websocket.WebSocketException):
        for number in range(total):
            in_flight.acquire()
            client.say(f"message {number}", client_id=f"m{number}")
    reader.join()
    client.close()
    assert kill_at <= len(acked) < total
    server.start()
    with Client(server.url, room="storm", cookie=client.cookie, epoch=client.welcome["epoch"], after=0) as again:
        assert again.welcome["resumed"] == "whole"
        for number in range(total):
            if f"m{number}" not in acked:
                again.say(f"message {number}", client_id=f"m{number}")
                again.hear("ack", client_id=f"m{number}")
        with Client(server.url, room="storm", epoch=again.welcome["epoch"], after=0) as witness:
            events = witness.messages(total)
    assert [event["seq"] for event in events] == list(range(1, total + 1))
    assert sorted(event["text"] for event in events) == sorted(f"message {number}" for number in range(total))
    stored = {event["text"]: event["seq"] for event in events}
    assert all(stored[f"message {client_id[1:]}"] == seq for client_id, seq in acked.items())
    assert [event["text"] for event in events[:kill_at]] == [f"message {number}" for number in range(kill_at)]


def test_a_member_hears_bye_and_1001_when_the_server_goes_down(server: ServerProcess) -> None:
    """SIGTERM: what was taken is stored, everybody is asked to come back, and the status is 0."""
    with Client(server.url) as ann:
        ann.say("last words")
        ann.hear("message")
        stopped = threading.Thread(target=lambda: statuses.append(server.terminate()))
        statuses: list[int] = []
        stopped.start()
        assert ann.hear("bye")["retry_after"] > 0
        opcode, payload = ann.socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(payload[:2], "big") == 1001
        stopped.join()
        assert statuses == [0]


def test_the_same_client_id_is_stored_once_over_a_restart(server: ServerProcess) -> None:
    """A retry is safe: it stores nothing new and acks the first seq, also after kill -9."""
    with Client(server.url) as ann:
        ann.say("once", client_id="same")
        first = ann.hear("ack")
        server.kill()
    server.start()
    with Client(server.url, cookie=ann.cookie) as again:
        again.say("once", client_id="same")
        assert again.hear("ack") == first
        again.say("other", client_id="next")
        assert again.hear("ack")["seq"] == first["seq"] + 1


def test_the_history_api_tells_what_the_socket_tells(server: ServerProcess) -> None:
    """The same events, as JSON."""
    with Client(server.url, room="api") as ann:
        ann.say("hello")
        event = ann.hear("message")
    with urllib.request.urlopen(f"{server.url}/api/rooms/api/messages") as answer:
        body = json.load(answer)
    assert body == {"room": "api", "epoch": ann.welcome["epoch"], "head": 1, "events": [event], "more": False}
