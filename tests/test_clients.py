"""Other people's WebSocket clients in one room; `make conformance` has more of them."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.clients import by_browser, by_python, talk_in_one_room
from tests.support import ServerProcess


def test_clients_of_every_kind_talk_in_one_room(browser: Browser, tmp_path: Path) -> None:
    """websocket-client, Tornado's and Chromium's, each on both wires: all hear the same in the same order."""
    with ServerProcess(tmp_path / "chatroom.db", message_rate=0) as server, by_browser(browser, server) as chromium:
        clients = {name: by_python(name) for name in ("websocket-client", "tornado")}
        talk_in_one_room(server, {**clients, "chromium": chromium})
        assert server.terminate() == 0
    assert [line for line in server.log if " INFO " not in line] == []
