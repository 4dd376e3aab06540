"""The options: where a value comes from, what is refused, and what the server tells when it starts."""

import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from chat.eventlog.sqlite import APPLICATION_ID
from chat.settings import is_command, networks
from chatroom import Settings, read_settings
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess

DEFAULTS = {
    "port": 8888,
    "address": "",
    "database": "chatroom.db",
    "redis": "",
    "processes": 1,
    "secret": "",
    "history": 50,
    "message_rate": 5.0,
    "connections_per_address": 0,
    "max_members": 0,
    "send_buffer_bytes": 1048576,
    "allowed_origins": "",
    "base_path": "",
    "trusted_proxies": "",
    "certificate": "",
    "key": "",
    "shutdown_grace_s": 10.0,
    "keep_days": 0,
    "keep_events": 0,
    "admin_link": False,
    "erase": "",
}
UNLIKE_OTHERS = {
    "allowed_origins": "https://friend.example",
    "base_path": "/chat",
    "redis": "redis://localhost",
    "send_buffer_bytes": 262144,
    "trusted_proxies": "127.0.0.1",
}
BAD_ARGUMENTS = (
    *("--port=abc", "--port=70000", "--port=-1", "--port=", "--port", "--port=80.5"),
    *("--history=-1", "--history=1000000", "--history=many"),
    *("--message_rate=fast", "--message_rate=-1", "--message_rate=nan", "--message_rate=inf"),
    *("--connections_per_address=-1", "--max_members=-1", "--max_members=1000000000"),
    *("--send_buffer_bytes=1000", "--send_buffer_bytes=1MB", "--shutdown_grace_s=-1"),
    *("--allowed_origins=friend.example", "--allowed_origins=https://a.example/", "--allowed_origins=*"),
    *("--base_path=chat", "--base_path=/a//b", "--base_path=/chat room", "--base_path=/ä", "--base_path=/../chat"),
    *("--base_path=/chat?x", "--base_path=/%63hat", "--base_path=http://chat.example/"),
    *("--trusted_proxies=proxy.example", "--trusted_proxies=10.0.0.1/8", "--trusted_proxies=127.0.0.1 10.0.0.1"),
    *("--certificate=cert.pem", "--key=key.pem"),
    *("--redis=localhost:6379", "--redis=http://localhost", "--processes=2", "--processes=0"),
    *("--keep_days=-1", "--keep_days=40000", "--keep_days=x", "--keep_events=-1", "--keep_events=1.5"),
    *("--erase=", "--erase", "--erase=ann", "--erase=AAAAAAAAAAAAAAAA"),
    *("--address=256.1.1.1", "--database=", "--config=missing.conf"),
    *("--nonsense=1", "nonsense", "-x"),
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "chatroom.py"), *arguments]


@contextmanager
def started(*arguments: str, folder: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`python chatroom.py` in a folder of its own, with nothing but these variables."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def refusal(process: "subprocess.Popen[str]") -> str:
    """What the server says when it refuses to start: one sentence, with exit status 2."""
    output, complaint = process.communicate(timeout=DEADLINE_S)
    return sentence(process.returncode, output, complaint)


def sentence(status: int, output: str, complaint: str) -> str:
    """The complaint of a process that ended so, which has to be one sentence."""
    assert status == 2, complaint
    assert output == ""
    assert re.fullmatch(r"chatroom: [^\n]+\.\n", complaint), complaint
    assert "Traceback" not in complaint
    return complaint


# Where a value comes from


def test_the_defaults_are_those_of_the_contract() -> None:
    """Without a word the server has these options and no others."""
    assert asdict(read_settings([], {})) == DEFAULTS


def test_the_command_line_is_over_the_file_is_over_the_environment(tmp_path: Path) -> None:
    """Of three values for one option the command line's is taken, then the file's, then the environment's."""
    config = tmp_path / "chatroom.conf"
    config.write_text("history = 20\nmessage_rate = 2.5\ndatabase = 'file.db'\n")
    environment = {"CHATROOM_HISTORY": "10", "CHATROOM_DATABASE": "environment.db", "CHATROOM_MAX_MEMBERS": "7"}
    settings = read_settings([f"--config={config}", "--history=30"], environment)
    assert (settings.history, settings.message_rate) == (30, 2.5)
    assert (settings.database, settings.max_members, settings.port) == ("file.db", 7, 8888)


def test_the_place_of_config_on_the_command_line_does_not_matter(tmp_path: Path) -> None:
    """An option before `--config` is over the file, too."""
    config = tmp_path / "chatroom.conf"
    config.write_text("history = 20\n")
    for arguments in (["--history=30", f"--config={config}"], [f"--config={config}", "--history=30"]):
        assert read_settings(arguments, {}).history == 30


@pytest.mark.parametrize(
    "option",
    [option for option in fields(Settings) if not is_command(option)],
    ids=lambda option: option.name,
)
def test_every_option_can_come_from_the_environment(option) -> None:
    """`CHATROOM_NAME` is the option `name`, of its type."""
    values = {int: 1, float: 1.5, str: "x" * 32}
    value = UNLIKE_OTHERS.get(option.name, values[type(option.default)])
    others = {"certificate": ["--key=key.pem"], "key": ["--certificate=certificate.pem"]}.get(option.name, [])
    settings = read_settings(others, {f"CHATROOM_{option.name.upper()}": str(value)})
    assert getattr(settings, option.name) == value
    assert type(getattr(settings, option.name)) is type(option.default)


def test_a_command_comes_from_the_command_line_alone(tmp_path: Path) -> None:
    """A file or an environment that every start reads must not erase anybody, nor print the operator's link."""
    config = tmp_path / "chatroom.conf"
    config.write_text(f"erase = {'b' * 16!r}\nadmin_link = True\nkeep_days = 7\n")
    environment = {"CHATROOM_ERASE": "a" * 16, "CHATROOM_ADMIN_LINK": "true"}
    settings = read_settings([f"--config={config}"], environment)
    assert (settings.erase, settings.admin_link, settings.keep_days) == ("", False, 7)
    settings = read_settings([f"--config={config}", f"--erase={'c' * 16}"], environment)
    assert (settings.erase, settings.admin_link) == ("c" * 16, False)


@pytest.mark.parametrize("word", ["--admin-link", "--admin_link", "--admin-link=true"])
def test_a_command_needs_no_value(word: str) -> None:
    """However it is spelled."""
    assert read_settings([word], {}).admin_link is True


def test_the_environment_is_read_by_the_process(tmp_path: Path) -> None:
    """A server that is told its options by the environment alone starts with them."""
    with started(folder=tmp_path, CHATROOM_PORT="0", CHATROOM_DATABASE="other.db") as process:
        assert process.stdout is not None
        assert any("other.db" in line for line in iter(process.stdout.readline, "")), process.stderr
    assert (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("given", "base_path"),
    [("", ""), ("/", ""), ("/chat", "/chat"), ("/chat/", "/chat"), ("/a/b-c_d.e~1/", "/a/b-c_d.e~1"), ("/...", "/...")],
)
def test_a_base_path_has_one_spelling(given: str, base_path: str) -> None:
    """It begins with a slash, or is empty, and does not end with one."""
    assert read_settings([f"--base_path={given}"], {}).base_path == base_path


def test_proxies_are_addresses_and_networks() -> None:
    """Of both families, separated by commas, spaces or none."""
    settings = read_settings(["--trusted_proxies=127.0.0.1, 10.0.0.0/8,::1 ,fd00::/8,"], {})
    assert [str(each) for each in networks(settings)] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128", "fd00::/8"]


# What is refused


def test_bad_values_are_refused_with_one_sentence_and_status_2(tmp_path: Path) -> None:
    """Whatever cannot be used is named in one sentence; nothing is started and nothing is written."""
    here, words = tmp_path / "here", tmp_path / "words"
    here.mkdir()
    words.mkdir()
    each = [sys.executable, "-c", EACH, str(words), str(int(DEADLINE_S)), *BAD_ARGUMENTS]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(each, cwd=here, env=environment, capture_output=True, text=True, check=True)
    statuses = [int(line) for line in done.stdout.split()]
    failed = []
    for number, (argument, status) in enumerate(zip(BAD_ARGUMENTS, statuses, strict=True)):
        try:
            complaint = sentence(status, *((words / f"{number}.{stream}").read_text() for stream in (1, 2)))
            name = argument.lstrip("-").partition("=")[0]
            assert name in complaint or argument.startswith("--config"), complaint
        except AssertionError as error:
            failed.append(f"{argument}: {str(error)[:200]}")
    assert not failed, "\n".join(failed)
    assert list(here.iterdir()) == []


# Each argument has a process of its own, forked off one that has imported the server: the import takes the time.
EACH = """
import gc, os, signal, sys
import chatroom

gc.freeze()  # nor is it taken down in each
words, seconds, *arguments = sys.argv[1:]
for number, argument in enumerate(arguments):
    if os.fork() == 0:
        for stream in (1, 2):
            os.dup2(os.open(f"{words}/{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        signal.alarm(int(seconds))
        sys.argv = ["chatroom.py", "--port=0", argument]
        chatroom.main()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_bad_values_of_the_environment_are_refused(tmp_path: Path) -> None:
    """The environment is no way around the checks."""
    with started(folder=tmp_path, CHATROOM_PORT="abc") as process:
        assert "port" in refusal(process).lower()


@pytest.mark.parametrize("text", ["history = 'many'", "history = -1", "history =", "1/0"])
def test_bad_files_are_refused(tmp_path: Path, text: str) -> None:
    """A file of options that cannot be read, or has a bad value, is named."""
    (tmp_path / "chatroom.conf").write_text(text)
    with started("--port=0", "--config=chatroom.conf", folder=tmp_path) as process:
        assert re.search("chatroom.conf|history", refusal(process))


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """The sentence names the port and says what to do."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started(f"--port={port}", folder=tmp_path) as process:
            assert str(port) in refusal(process)


def test_a_database_in_use_is_refused(tmp_path: Path) -> None:
    """A second server on one database does not start, and the first goes on."""
    database = tmp_path / "chatroom.db"
    with ServerProcess(database) as server:
        with started("--port=0", f"--database={database}", folder=tmp_path) as process:
            assert "in use" in refusal(process)
        with Client(server.url) as ann:
            ann.say("going on")
            ann.hear("ack")


def test_a_database_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """No folder is made for it."""
    with started("--port=0", "--database=missing/chatroom.db", folder=tmp_path) as process:
        assert "missing/chatroom.db" in refusal(process)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "foreign", "newer", "folder", "cut"])
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    """Another program's file, one of a newer version and a damaged one are named and not touched."""
    path = tmp_path / "some.db"
    if kind == "text":
        path.write_text("Dear diary, " * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE things (thing)")
            if kind != "foreign":
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute("PRAGMA user_version = 999" if kind == "newer" else "PRAGMA user_version = 1")
            db.commit()
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:4096])
    before = None if kind == "folder" else path.read_bytes()
    with started("--port=0", "--database=some.db", folder=tmp_path) as process:
        assert "some.db" in refusal(process)
    assert kind == "folder" or path.read_bytes() == before


# What the server tells, and what it leaves behind


def test_help_lists_every_option_with_its_meaning(tmp_path: Path) -> None:
    """`--help` names each option, what it means and its default, and exits with 0."""
    with started("--help", folder=tmp_path) as process:
        output, complaint = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    text = " ".join((output + complaint).split())
    for option in fields(Settings):
        # Tornado shows `_` as `-` and takes both.
        assert f"--{option.name}" in text or f"--{option.name.replace('_', '-')}" in text
        assert option.metadata["help"] in text
        if option.default not in ("", 0):
            assert f"(default {option.default})" in text
    assert "--config" in text


def test_the_greeting_says_where_to_go(tmp_path: Path) -> None:
    """The address to open, the address to share, where the database lies, and that anyone can enter."""
    with started("--port=0", folder=tmp_path) as process:
        assert process.stdout is not None
        lines = []
        while not lines or "database" not in lines[-1]:
            lines.append(process.stdout.readline())
        greeting = "".join(lines)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
    ports = set(re.findall(r"http://[^/ ]+:(\d+)/", greeting))
    assert len(ports) == 1 and ports != {"0"}
    assert re.search(r"http://localhost:\d+/", greeting)
    assert "anyone who reaches this address can enter" in greeting
    assert str(tmp_path / "chatroom.db") in greeting


def test_the_secret_is_kept_beside_the_database_for_its_owner_alone(tmp_path: Path) -> None:
    """The made secret has mode 0600, whatever the umask, and people are recognised after a restart."""
    database = tmp_path / "chatroom.db"
    before = os.umask(0)
    try:
        with ServerProcess(database) as server:
            kept = [path for path in tmp_path.iterdir() if "secret" in path.name]
            assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]
            with Client(server.url) as ann:
                pass
            server.terminate()
            server.start()
            with Client(server.url, cookie=ann.cookie) as again:
                assert again.welcome["you"]["id"] == ann.welcome["you"]["id"]
            assert kept[0].read_text().strip() not in "".join(server.log)
    finally:
        os.umask(before)


def test_a_given_secret_is_not_written_down(tmp_path: Path) -> None:
    """With `--secret` nothing is kept beside the database, and another server with it knows the same people."""
    with ServerProcess(tmp_path / "one.db", secret="s" * 40) as one, Client(one.url) as ann:
        with ServerProcess(tmp_path / "two.db", secret="s" * 40) as two, Client(two.url, cookie=ann.cookie) as again:
            assert again.welcome["you"]["id"] == ann.welcome["you"]["id"]
        with (
            ServerProcess(tmp_path / "three.db", secret="t" * 40) as three,
            Client(three.url, cookie=ann.cookie) as other,
        ):
            assert other.welcome["you"]["id"] != ann.welcome["you"]["id"]
    assert not [path for path in tmp_path.iterdir() if "one.db" in path.name and "secret" in path.name]
    for path in tmp_path.iterdir():
        assert b"s" * 40 not in path.read_bytes()


def test_in_memory_nothing_is_kept(tmp_path: Path) -> None:
    """`--database=:memory:` writes no file."""
    with started("--port=0", "--database=:memory:", folder=tmp_path) as process:
        assert process.stdout is not None
        while "database" not in (line := process.stdout.readline()):
            assert line
        assert "nothing is kept" in line
        assert list(tmp_path.iterdir()) == []


def test_an_address_is_the_only_one_that_is_listened_on(tmp_path: Path) -> None:
    """With `--address=127.0.0.1` the server is on that address and not on IPv6."""
    with ServerProcess(tmp_path / "chatroom.db", address="127.0.0.1") as server:
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S):
            pass
        with pytest.raises(OSError), socket.create_connection(("::1", server.port), DEADLINE_S):
            pass
