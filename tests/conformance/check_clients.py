"""`make conformance`: clients of other runtimes and other libraries in one room with those of `make test`."""

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from loadtest import peers
from tests.clients import Connect, by_browser, by_python, piped, talk_in_one_room
from tests.conformance.autobahn import FOLDER
from tests.support import ServerProcess

HERE = Path(__file__).parent
PYTHON = FOLDER / "python" / "bin" / "python"


def fetched_libraries() -> dict[str, Connect]:
    """The Python clients that nothing else of ours needs."""
    subprocess.run([sys.executable, "-m", "venv", FOLDER / "python"], check=True)
    subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"],
        check=True,
    )
    return {name: by_python(name, str(PYTHON)) for name in ("websockets", "aiohttp")}


def fetched_runtimes() -> dict[str, Connect]:
    """Node with `ws`, and Bun: as they are pinned for the load harness."""
    if missing := [trouble for name in ("ws", "bun") if (trouble := peers.PEERS[name].prepare())]:
        pytest.skip(f"Node's and Bun's clients are left out: {'; '.join(missing)}")
    script = peers.node_folder() / "pipe.mjs"  # beside its packages, where Node looks for them
    script.write_bytes((HERE / "pipe.mjs").read_bytes())
    return {
        "node-ws": piped("node", str(script)),
        "bun": piped(str(peers.node_folder() / peers.BUN), str(script)),
    }


def test_seven_clients_talk_in_one_room(browser: Browser, tmp_path: Path) -> None:
    """Each on both wires, fourteen members: all hear what all said, in the same order, and go as they should."""
    with ServerProcess(tmp_path / "chatroom.db", message_rate=0) as server, by_browser(browser, server) as chromium:
        clients = {
            **{name: by_python(name) for name in ("websocket-client", "tornado")},
            **fetched_libraries(),
            **fetched_runtimes(),
            "chromium": chromium,
        }
        talk_in_one_room(server, clients)
        assert server.terminate() == 0
    assert [line for line in server.log if " INFO " not in line] == []
    print(f"\nin one room, each on both wires: {', '.join(clients)}")
