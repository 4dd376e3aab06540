"""What is deployed works as it lies there: deploy/nginx.conf in front of a real server, the unit, the alerts."""

import configparser
import contextlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener, urlopen

import pytest
import websocket

from chat.protocol import MAX_FRAME_BYTES, MAX_TEXT
from chat.settings import read_settings
from tests import certificates
from tests.certificates import Certificate
from tests.nginx import BEHIND, HOST, Nginx
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess

DEPLOY = ROOT / "deploy"
HANDBOOK = ROOT / "docs" / "operations.md"
BASE = "/chat"


class Stay(HTTPRedirectHandler):
    """Follows nothing."""

    def redirect_request(self, *_: Any) -> None:
        return None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(certificate.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))


@pytest.fixture(scope="module")
def front(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx before a server, for all who leave both as they are."""
    folder = tmp_path_factory.mktemp("front")
    with (
        ServerProcess(folder / "chatroom.db", connections_per_address=3, **BEHIND) as server,
        Nginx(folder / "nginx", certificate, server) as nginx,
    ):
        yield nginx


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def answer(url: str, **headers: str) -> Answer:
    """The answer itself, whatever its status and wherever it leads."""
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), Stay())
    try:
        found = opener.open(Request(url, headers=headers), timeout=DEADLINE_S)
    except HTTPError as error:
        found = error
    with found:
        return Answer(found.status, found.headers, found.read())


# nginx


def test_pages_files_and_history_come_through(front: Nginx) -> None:
    """Over TLS, with the identity kept for https alone, compressed, for a year where that is right."""
    page = answer(f"{front.url}/")
    assert "secure" in page.headers["Set-Cookie"].lower()
    assert page.headers["Strict-Transport-Security"]
    markup = page.body.decode()
    style = re.search(r'href="(/static/[^"]+style\.css)"', markup)
    assert style is not None
    file = answer(front.url + style[1], **{"Accept-Encoding": "gzip"})
    assert (file.status, file.headers["Content-Encoding"]) == (200, "gzip")
    assert "immutable" in file.headers["Cache-Control"]
    assert answer(f"{front.url}/api/rooms/default/messages").headers["Content-Type"].startswith("application/json")
    assert answer(f"{front.url}/healthz").body == b"ok\n"


def test_the_metrics_are_closed(front: Nginx) -> None:
    """Nor can they be reached by another spelling."""
    for path in ("/metrics", "//metrics", "/./metrics", "/%6detrics", "/rooms/../metrics", "/metrics?x=1"):
        found = answer(front.url + path)
        assert found.status in (403, 404), path
        assert b"chatroom_members" not in found.body


def test_plain_http_leads_to_https(front: Nginx) -> None:
    """To the same page."""
    found = answer(f"http://{HOST}:{front.plain_port}/?room=tea")
    assert (found.status, found.headers["Location"]) == (301, f"https://{HOST}:{front.plain_port}/?room=tea")


def test_members_of_both_wires_talk_through_it(front: Nginx) -> None:
    """And the page's own Origin is welcome, another site's is not."""
    with Client(front.url, "tea") as ann, Client(front.url, "tea", plain=True) as old:
        assert "secure" in ann.socket.getheaders()["set-cookie"].lower()
        old.socket.send("hello")
        assert ann.hear("message")["text"] == "hello"
        ann.say("hello to you")
        while old.next() != "hello to you":
            pass
    address = f"{front.url.replace('https', 'wss')}/ws"
    websocket.create_connection(address, timeout=DEADLINE_S, origin=front.url).close()
    for stranger in ("https://elsewhere.example", f"https://{HOST}", front.url.replace("https", "http") + "0"):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            websocket.create_connection(address, timeout=DEADLINE_S, origin=stranger)


def test_long_messages_and_long_pages_come_through(front: Nginx) -> None:
    """The longest text there is, a page of many of them, and the close frame for what is too long."""
    text = "\U0001f680" * MAX_TEXT
    with Client(front.url, "long") as ann:
        for _ in range(20):
            ann.say(text)
        assert [message["text"] == text for message in ann.messages(20)] == [True] * 20
        ann.send(type="history", before=ann.heard[-1]["seq"], limit=200)
        assert len(ann.hear("page")["events"]) > 10
        ann.socket.send("x" * (MAX_FRAME_BYTES + 1))
        while (frame := ann.socket.recv_frame()).opcode != websocket.ABNF.OPCODE_CLOSE:
            pass
        assert frame.data[:2] == (1009).to_bytes(2, "big")


def test_everybody_is_counted_by_his_own_address(front: Nginx, certificate: Certificate) -> None:
    """Three sockets from one address are taken, a fourth is not, whatever it says it is; the next address is free."""

    def enter(address: str, **said: str) -> websocket.WebSocket:
        raw = socket.create_connection((HOST, front.port), DEADLINE_S, (address, 0))
        secure = certificate.trusted().wrap_socket(raw, server_hostname=HOST)
        url = f"{front.url.replace('https', 'wss')}/ws?room=doors"
        return websocket.create_connection(url, timeout=DEADLINE_S, socket=secure, header=said)

    with contextlib.ExitStack() as inside:
        for _ in range(3):
            inside.callback(enter("127.0.0.2").close)
        for said in ({}, {"X-Forwarded-For": "203.0.113.7"}, {"X-Real-Ip": "203.0.113.7"}):
            with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
                enter("127.0.0.2", **said)
        inside.callback(enter("127.0.0.3").close)


@pytest.fixture
def frail(certificate: Certificate, tmp_path: Path) -> Iterator[tuple[Nginx, ServerProcess]]:
    """nginx that soon ends what is silent, before a server that pings often and may be stopped."""
    often = "from chat import serving\nserving.PING_S = 1"
    with (
        ServerProcess(tmp_path / "chatroom.db", before=often, **BEHIND) as server,
        Nginx(tmp_path / "nginx", certificate, server, proxy_read_timeout="3s") as nginx,
    ):
        yield nginx, server


def test_idle_sockets_stay_and_a_restart_of_the_server_is_survived(frail: tuple[Nginx, ServerProcess]) -> None:
    """The pings are what nginx goes by; it says 502 while the server is away, and then whoever comes back resumes."""
    nginx, server = frail
    with Client(nginx.url, "idle") as ann:
        pings = 0
        while pings < 5:  # longer than nginx would wait
            opcode, _ = ann.socket.recv_data(control_frame=True)
            pings += opcode == websocket.ABNF.OPCODE_PING
        ann.say("still here")
        seen = ann.hear("message")["seq"]
        server.signal(signal.SIGTERM)
        assert ann.hear("bye")["retry_after"] > 0
        assert ann.socket.recv_data() == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe9the server is going down")
        assert server.ended() == 0
    assert answer(f"{nginx.url}/healthz").status == 502
    server.start()
    assert answer(f"{nginx.url}/healthz").status == 200
    with Client(nginx.url, "idle", epoch=ann.welcome["epoch"], after=seen) as back:
        assert (back.welcome["resumed"], back.welcome["head"]) == ("whole", seen)


@pytest.fixture(scope="module")
def under_path(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("path")
    with (
        ServerProcess(folder / "chatroom.db", base_path=BASE, **BEHIND) as server,
        Nginx(folder / "nginx", certificate, server, under_path="yes") as nginx,
    ):
        yield nginx


def test_the_lines_for_a_path_serve_it_under_that_path(under_path: Nginx) -> None:
    """The room is at /chat/, its metrics are closed, and what is beside it is not the room's."""
    url = under_path.url
    page = answer(f"{url}{BASE}/")
    assert page.status == 200
    assert re.search(rf"path={BASE}(;|$)", page.headers["Set-Cookie"], re.IGNORECASE)
    without = answer(f"{url}{BASE}?room=tea")
    assert (without.status, without.headers["Location"]) == (301, f"{url}{BASE}/?room=tea")
    assert answer(f"{url}{BASE}/metrics").status == 403
    for beside in ("/", "/ws", "/metrics", f"{BASE}x/"):
        assert answer(url + beside).status == 404, beside
    with Client(url + BASE, "tea") as ann:
        ann.say("hello")
        assert ann.hear("message")["text"] == "hello"


# The unit


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(DEPLOY / "chatroom.service")
    return parser["Service"]


def unit_lines(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", (DEPLOY / "chatroom.service").read_text(), re.MULTILINE)


def test_the_unit_starts_the_server_with_options_it_has() -> None:
    """What stands in it is what the server takes, and it is reached through the proxy alone."""
    environment = dict(pair.split("=", 1) for line in unit_lines("Environment") for pair in shlex.split(line))
    _, program, *arguments = shlex.split(unit()["ExecStart"])
    assert Path(program).name == "chatroom.py"
    settings = read_settings(arguments, environment)
    assert (settings.address, settings.trusted_proxies) == (HOST, HOST)
    assert settings.database.startswith("%S/" + unit()["StateDirectory"])


def test_the_unit_leaves_the_server_the_time_it_needs() -> None:
    """systemd waits for longer than draining may take, and starts nothing anew that was refused."""
    environment = dict(pair.split("=", 1) for line in unit_lines("Environment") for pair in shlex.split(line))
    grace_s = read_settings([], environment).shutdown_grace_s
    assert unit()["KillSignal"] == "SIGTERM"
    assert float(unit()["TimeoutStopSec"]) >= grace_s + 5
    assert (unit()["Restart"], unit()["RestartPreventExitStatus"]) == ("always", "2")
    assert int(unit()["LimitNOFILE"]) >= 65536


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """As it is, and with the lines for TLS; where there is systemd to ask."""
    if not (program := shutil.which("systemd-analyze")):
        return
    text = (DEPLOY / "chatroom.service").read_text().replace("/opt/chatroom/.venv/bin/python", sys.executable)
    for name, content in (("plain", text), ("tls", re.sub(r"^#(?=[A-Z]\w+=)", "", text, flags=re.MULTILINE))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chatroom.service").write_text(content)
        command = [program, "verify", tmp_path / name / "chatroom.service"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
        assert (done.returncode, done.stderr) == (0, ""), name


# The alerts


def test_every_metric_of_the_alerts_and_of_the_handbook_is_there(tmp_path: Path) -> None:
    """An alert on a name that nothing has would never be heard, nor one on a label that is never given."""
    with (
        ServerProcess(tmp_path / "chatroom.db", address=HOST) as server,
        urlopen(f"{server.url}/metrics", timeout=DEADLINE_S) as page,
    ):
        told = page.read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", told, re.MULTILINE))
    there = {*kinds, *(f"{name}{end}" for name, kind in kinds.items() if kind == "histogram" for end in HISTOGRAM)}
    alerts = (DEPLOY / "alerts.yml").read_text()
    expressions = "\n".join(re.findall(r"^ +expr: (.*(?:\n {10,}\S.*)*)$", alerts, re.MULTILINE))
    named = set(re.findall(r"\b(?:chatroom|process)_\w+", expressions))
    assert len(named) > 8
    assert named - there == set()
    source = "".join(path.read_text() for path in [ROOT / "chatroom.py", *sorted((ROOT / "chat").rglob("*.py"))])
    for value in re.findall(r'\w+=~?"([^"]+)"', expressions):
        assert all(f'"{word}"' in source for word in value.split("|") if value != "chatroom"), value
    handbook = HANDBOOK.read_text()
    ours = {name for name in kinds if name.startswith("chatroom_") and not name.endswith("_created")}
    assert {name for name in ours if f"`{name}" not in handbook} == set()
    assert [name for name in re.findall(r"alert: (\w+)", alerts) if f"`{name}`" not in handbook] == []


HISTOGRAM = ("_bucket", "_sum", "_count")


# The handbook's commands


def commands(heading: str) -> list[str]:
    """What the handbook has one type, under a heading."""
    part = HANDBOOK.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^ {4}(\S.*)$", part, re.MULTILINE)


def run_in(folder: Path, line: str) -> None:
    done = subprocess.run(line, check=False, cwd=folder, shell=True, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.parametrize("tool", ["sqlite3 ", "python3 "])
def test_a_backup_of_a_running_server_is_whole_and_its_return_is_told(tmp_path: Path, tool: str) -> None:
    """As the handbook has it: made while the room is talked in; who knew more hears `reset`, who knew less goes on."""
    if not shutil.which(tool.strip()):
        pytest.skip(f"{tool.strip()} is missing: `make deps` installs it")
    (make,) = (line for line in commands("Backup") if line.startswith(tool))
    restore = [line for line in commands("Backup") if line.startswith(("rm ", "cp "))]
    assert len(restore) == 2
    with ServerProcess(tmp_path / "chatroom.db", address=HOST, message_rate=0) as server:
        with Client(server.url, "tea", name="Ann") as ann:
            cookie = ann.cookie
            ann.say("first")
            first = ann.hear("message")["seq"]
            for number in range(200):
                ann.say(f"message {number}")
            run_in(tmp_path, make)
            ann.messages(200)
            ann.say("what the copy lacks")
            last = ann.hear("message")["seq"]
            epoch = ann.welcome["epoch"]
        assert server.terminate() == 0
        for line in restore:
            run_in(tmp_path, line)
        server.start()
        with Client(server.url, "tea", cookie=cookie, epoch=epoch, after=last) as ahead:
            assert ahead.welcome["resumed"] == "reset"
            head = ahead.welcome["head"]
            assert first <= head < last
        with Client(server.url, "tea", cookie=cookie, epoch=epoch, after=first) as behind:
            assert behind.welcome["resumed"] == "whole"
            assert [behind.hear("message")["seq"] for _ in range(head - first)] == list(range(first + 1, head + 1))
            assert behind.welcome["you"]["id"] == ann.welcome["you"]["id"]
            behind.say("on we go")
            assert behind.hear("message")["seq"] == head + 1
