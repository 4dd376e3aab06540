"""What is done instead of starting a server: the operator's link, and taking a person out of everything."""

import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from chat.commands import run_command
from chat.eventlog import LogRefused
from chat.settings import BadOption, read_settings
from chat.tokens import is_operator_key
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess

SECRET = "s" * 64


def command(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`python chatroom.py` with a command, which ends by itself."""
    program = [sys.executable, str(ROOT / "chatroom.py"), *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def assert_refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """One sentence with these words, and status 2."""
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"chatroom: [^\n]+\.\n", done.stderr), done.stderr
    assert [word for word in words if word not in done.stderr] == []


def pressed(link: str, cookie: str = "") -> tuple[int, list[str]]:
    """What the button of the operator's page gives: the status and the names of the cookies."""

    class Here(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None: ...

    path, _, key = link.partition("?key=")
    try:
        answer = build_opener(Here).open(Request(path, urlencode({"key": key}).encode(), {"Cookie": cookie}))
    except HTTPError as error:
        answer = error
    with answer:
        return answer.status, [line.partition("=")[0] for line in answer.headers.get_all("Set-Cookie", [])]


def test_without_a_command_nothing_is_done() -> None:
    """The server is to be started."""
    assert run_command(read_settings([], {})) is False


# The operator's link


def test_the_link_is_that_of_a_running_server(tmp_path: Path) -> None:
    """Printed beside it with the options it has; it works once, and another one works again."""
    with ServerProcess(tmp_path / "chatroom.db") as server:
        for _ in range(2):
            done = command(f"--port={server.port}", "--database=chatroom.db", "--admin-link", folder=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            links = re.findall(r"http://\S+", done.stdout)
            assert len(links) == 1 and links[0].startswith(f"http://localhost:{server.port}/admin?key=")
            assert pressed(links[0]) == (303, ["chatroom", "chatroom_operator"])
            assert pressed(links[0])[0] == 403
        assert (tmp_path / "chatroom.db.secret").read_text().strip() not in done.stdout


def test_a_link_is_made_with_the_secret_that_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any database; it names the address that is listened on."""
    for address, host in (("", "localhost"), ("0.0.0.0", "localhost"), ("192.0.2.1", "192.0.2.1"), ("::1", "[::1]")):
        arguments = [f"--secret={SECRET}", f"--database={tmp_path / 'no.db'}", f"--address={address}", "--admin_link"]
        assert run_command(read_settings([*arguments, "--port=90"], {}))
        found = re.search(r"http://(\S+):90/admin\?key=(\S+)", capsys.readouterr().out)
        assert found is not None and found[1] == host
        assert is_operator_key(SECRET, found[2], time.time())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--database=new.db"], ["new.db", "start it"]),
        (["--database=:memory:"], ["--secret"]),
        (["--port=0", f"--secret={SECRET}"], ["--port"]),
        (["--erase=" + "a" * 16], ["--erase", "--admin-link"]),
    ],
)
def test_a_link_that_cannot_work_is_refused(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """With one sentence; no secret is made for it, as the server would make another."""
    assert_refused(command("--admin-link", *arguments, folder=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["short", ""])
def test_a_link_is_not_signed_with_a_secret_that_keeps_none(tmp_path: Path, content: str) -> None:
    """As little as a server starts with it."""
    (tmp_path / "chatroom.db.secret").write_text(content)
    with pytest.raises(LogRefused):
        run_command(read_settings(["--admin-link", f"--database={tmp_path / 'chatroom.db'}"], {}))


# Erasing


def test_a_person_is_erased_from_every_room(tmp_path: Path) -> None:
    """What he said is in no room and no byte of the file; the count is told room by room; others stay."""
    database = tmp_path / "chatroom.db"
    with ServerProcess(database) as server:
        with Client(server.url, "tea") as ann, Client(server.url, "lounge", cookie=ann.cookie) as again:
            with Client(server.url, "tea") as bob:
                bob.say("bob was here 4711")
                bob.hear("ack")
            for client, count in ((ann, 2), (again, 1)):
                for number in range(count):
                    client.say(f"ann was here 4711 {number}")
                    client.hear("ack")
            person_id = ann.welcome["you"]["id"]
        server.terminate()
        done = command(f"--erase={person_id}", f"--database={database}", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "lounge: 1 removed\ntea: 2 removed\n"
        again_done = command(f"--erase={'a' * 16}", f"--database={database}", folder=tmp_path)
        assert again_done.stdout == f"Nothing of {'a' * 16} is kept in {database}.\n"
        assert [path for path in tmp_path.iterdir() if b"ann was here" in path.read_bytes()] == []
        assert b"bob was here" in database.read_bytes()
        server.start()
        with Client(server.url, "tea") as late:
            assert late.hear("message")["text"] == "bob was here 4711"


@pytest.mark.parametrize(
    "person_id", ["", "ann", "a" * 15, "a" * 17, "A" * 16, "a" * 15 + "1", "%" * 16, "a" * 16 + "\n"]
)
def test_what_is_nobodys_id_is_refused(person_id: str) -> None:
    """Before anything is opened; an empty one is no server to be started."""
    with pytest.raises(BadOption) as refused:
        read_settings([f"--erase={person_id}"], {})
    assert "--erase=" in str(refused.value)
    assert str(refused.value).endswith(".")


def test_erasing_makes_no_database(tmp_path: Path) -> None:
    """Where there is none, one sentence says so, and there is none afterwards."""
    for database in ("missing.db", ":memory:", "."):
        assert_refused(
            command(f"--erase={'a' * 16}", f"--database={database}", folder=tmp_path), database, "--database"
        )
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_erased_under_a_running_server(tmp_path: Path) -> None:
    """The server holds its database; one sentence says so, and it goes on."""
    with ServerProcess(tmp_path / "chatroom.db") as server:
        with Client(server.url) as ann:
            ann.say("still here")
            ann.hear("ack")
            person_id = ann.welcome["you"]["id"]
        assert_refused(
            command(f"--erase={person_id}", "--database=chatroom.db", folder=tmp_path), "chatroom.db", "in use"
        )
        with Client(server.url) as bob:
            assert bob.hear("message")["text"] == "still here"
