"""What goes wrong, and what the others notice of it: full disks, members who do not read, vanish or forge."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import websocket
from prometheus_client import REGISTRY
from tornado.testing import ExpectLog

from chat.websocket import send_budget
from tests.house import (
    ChatTestCase,
    Member,
    SocketClosed,
    contiguous,
    fill,
    filled,
    in_time,
    ping,
    settings,
    until,
)
from tests.support import DEADLINE_S, Client, ServerProcess, eventually

BIG_TEXT = "\U0001f680" * 3500  # 14,000 bytes
FAR_PAGES = 2**31 - 2
IN_TIME_S = 3  # what a loaded machine may add to a time that was promised
SECRET_WORDS = "the treasure lies under the oak"
RAW_HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: chatroom.v1\r\n\r\n"
)


@contextlib.contextmanager
def who_stops_reading(server: ServerProcess, target: str = "/ws") -> Iterator[socket.socket]:
    """A member whose kernel takes in next to nothing, and who reads only the answer to his handshake."""
    with socket.socket() as bare:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bare.settimeout(DEADLINE_S)
        bare.connect(("127.0.0.1", server.port))
        bare.sendall(RAW_HANDSHAKE.format(target=target).encode())
        assert b" 101 " in bare.recv(256)
        yield bare


def commits() -> float:
    """How many commits succeeded in this process."""
    return REGISTRY.get_sample_value("chatroom_commits_total", {"outcome": "stored"}) or 0.0


def loud(log: list[str]) -> list[str]:
    """The lines of a server's log that somebody should look at."""
    return [line for line in log if not re.match(r"\d{4}-\d\d-\d\d \S+ INFO ", line)]


# The disk


class FullDiskTest(ChatTestCase):
    @contextlib.asynccontextmanager
    async def disk_full(self) -> AsyncIterator[None]:
        """Let the database not grow meanwhile; ends with room on the disk again."""
        await self.set_most_pages(1)
        try:
            yield
        finally:
            await self.set_most_pages(FAR_PAGES)

    async def set_most_pages(self, pages: int) -> None:
        event_log = self.app.event_log
        await event_log._ask(
            event_log._writer_thread,
            lambda: event_log._writer.execute(f"PRAGMA max_page_count = {pages}").fetchone(),
        )

    async def say_until_refused(self, member: Member) -> str:
        """Say until the disk is full; returns the `client_id` that was not stored."""
        number = 0
        while True:
            number += 1
            member.say(BIG_TEXT, f"c{number}")
            while (frame := await member.next())["type"] not in ("ack", "error"):
                pass
            if frame["type"] == "error":
                self.assertEqual((frame["code"], frame["client_id"]), ("not_stored", f"c{number}"))
                return f"c{number}"

    @in_time
    async def test_what_cannot_be_stored_is_told_and_not_shown(self) -> None:
        """`not_stored` to the speaker, `status` to everybody and to newcomers, and nobody sees the message."""
        ann, bob, script = await self.join(name="Ann"), await self.join(name="Bob"), await self.join_plain()
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                refused = await self.say_until_refused(ann)
                stored = await self.app.event_log.head("default")
                self.assertEqual((await bob.hears("status")), {"type": "status", "storing": False})
                await ann.hears("status", storing=False)
                newcomer = await self.join()
                self.assertEqual(await newcomer.hears("status"), {"type": "status", "storing": False})
                self.assertEqual(newcomer.welcome["head"], stored)
                script.send_raw(BIG_TEXT)
                ann.say(BIG_TEXT, refused)
                await ann.hears("error", client_id=refused, code="not_stored")
            for member in (ann, bob, newcomer):
                await member.hears("status", storing=True)
        ann.say("kept", refused)
        self.assertEqual((await ann.hears("ack", client_id=refused))["seq"], stored + 1)
        bob.say("end")
        witness = await self.join()
        heard = [frame for frame in await witness.hears_until("message", text="end") if frame["type"] == "message"]
        self.assertEqual([event["text"] for event in heard[-2:]], ["kept", "end"])
        self.assertEqual(heard[-1]["seq"], stored + 2)

    @in_time
    async def test_health_tells_the_reason_and_recovers(self) -> None:
        """/healthz is 503 with a reason while nothing can be stored, and 200 again afterwards."""
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                answer = await self.get("/healthz")
                self.assertEqual(answer.code, 503)
                self.assertIn(b"full", answer.body)
                self.assertNotIn(b"Traceback", answer.body)
                self.assertEqual((await self.get("/healthz")).code, 503)
            self.assertEqual((await self.get("/healthz")).code, 200)
        self.assertTrue(self.app.event_log.storing)

    @in_time
    async def test_asking_for_health_often_writes_little(self) -> None:
        """Within a second of a commit or of the last attempt the answer is known: whoever asks causes no write."""
        ann, before, began_s = await self.join(), commits(), time.monotonic()
        ann.say("x")
        await ann.hears("ack")
        for _ in range(20):
            self.assertEqual((await self.get("/healthz")).code, 200)
        self.assertLessEqual(commits() - before, 1 + int(time.monotonic() - began_s))
        self.assertGreaterEqual(commits() - before, 1)

    @in_time
    async def test_health_knows_of_a_failed_commit_at_once(self) -> None:
        """However recently something was stored, once a commit has failed the answer is 503."""
        ann = await self.join()
        ann.say("stored")
        await ann.hears("ack")
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                await self.say_until_refused(ann)
                self.assertEqual((await self.get("/healthz")).code, 503)
            await ann.hears("status", storing=True)

    @in_time
    async def test_storing_comes_back_by_itself(self) -> None:
        """Once there is room again everybody is told so, though nobody says or asks anything."""
        ann = await self.join()
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                await self.say_until_refused(ann)
                await ann.hears("status", storing=False)
            await ann.hears("status", storing=True)

    @in_time
    async def test_reading_goes_on_while_nothing_can_be_stored(self) -> None:
        """History can be asked for, and people come and go."""
        ann = await self.join()
        ann.say("before")
        await ann.hears("message")
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                await self.say_until_refused(ann)
                ann.send(type="history", before=2)
                self.assertEqual(len((await ann.hears("page"))["events"]), 1)
                await self.join(name="Bob")
                self.assertEqual((await self.get("/api/rooms/default/messages")).code, 200)
                self.assertEqual((await self.get("/")).code, 200)
            await ann.hears("status", storing=True)

    @in_time
    @filled("default", 580, BIG_TEXT)
    async def test_a_member_who_is_being_fed_is_told_too(self) -> None:
        """Who is still reading his past when the disk fills up is told so before he asks anything."""
        ann = await self.join(name="Ann")
        raw = await self.join_raw(f"/ws?epoch={self.epoch}&after=0", receive_bytes=4096)
        await raw.next()
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.disk_full():
                await self.say_until_refused(ann)
                await ann.hears("status", storing=False)
                self.assertEqual(len(self.app.socket_class.rooms["default"].members), 1)
                raw.send(0x1, b'{"type": "people"}')
                told = []
                while "people" not in told:
                    opcode, payload = await raw.next()
                    told += [json.loads(payload)["type"]] if opcode == 1 else []
                self.assertIn("status", set(told))
            await ann.hears("status", storing=True)


class BrokenLogTest(ChatTestCase):
    @contextlib.contextmanager
    def table_missing(self, table: str) -> Iterator[None]:
        """Take a table away meanwhile, so that whoever reads it meets a fault of ours."""
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.execute(f"ALTER TABLE {table} RENAME TO taken_away")
            try:
                yield
            finally:
                db.execute(f"ALTER TABLE taken_away RENAME TO {table}")

    @in_time
    async def test_who_cannot_be_let_in_is_closed_with_1011_and_may_come_back(self) -> None:
        """A room that cannot be read costs its newcomer the socket, not the others; later it works."""
        ann = await self.join("open")
        with self.table_missing("epoch_starts"), ExpectLog("chatroom", ".* could not enter"):
            with self.assertRaisesRegex(SocketClosed, "1011"):
                await self.join("broken")
            ann.send(type="people")
            await ann.hears("people")
        await until(lambda: list(self.app.socket_class.rooms) == ["open"])
        await self.join("broken")

    @in_time
    async def test_a_fault_of_ours_closes_with_1011_and_shows_no_traceback(self) -> None:
        """One traceback in the log, 1011 to the member who asked, 500 in JSON to a program."""
        ann, bob = await self.join(), await self.join()
        with self.table_missing("events"), ExpectLog("chatroom", ".*(could not be handled|fault in|500)") as expected:
            ann.send(type="history", before=5)
            self.assertEqual(await ann.closed(), 1011)
            answer = await self.get("/api/rooms/default/messages")
            self.assertEqual(answer.code, 500)
            self.assertTrue(json.loads(answer.body)["error"])
            self.assertNotIn(b"Traceback", answer.body)
            self.assertNotIn(b"sqlite", answer.body)
        self.assertTrue(expected.logged_stack)
        bob.say("going on")
        await bob.hears("message")


# Members who do not read, vanish, or flood


def test_who_never_reads_is_cut_off_with_one_line_and_the_others_hear_everything(tmp_path: Path) -> None:
    """A member who does not read costs a bounded amount, then his connection; the log has one line about it."""
    with ServerProcess(tmp_path / "chatroom.db", message_rate=0, send_buffer_bytes=131072) as server:
        with Client(server.url, name="Ann") as ann, Client(server.url, name="Bob") as bob:
            with who_stops_reading(server):
                bob.hear("presence", present=3)
                told, seqs = len(bob.heard), []
                while not [line for line in server.log if "cut off" in line]:
                    assert len(seqs) < 3000
                    for _ in range(8):
                        ann.say(BIG_TEXT)
                    seqs += [message["seq"] for message in bob.messages(8)]
                    ann.messages(8)
                while not any(frame.get("present") == 2 for frame in bob.heard[told:]):
                    bob.next()
            for number in range(20):
                ann.say(f"after {number}")
                seqs.append(bob.hear("message")["seq"])
            with Client(server.url, epoch=ann.welcome["epoch"], after=len(seqs) - 20) as back:
                assert back.welcome["resumed"] == "whole"
                assert [message["seq"] for message in back.messages(20)] == seqs[-20:]
        assert seqs == list(range(1, len(seqs) + 1))
        assert server.terminate() == 0
    assert len(loud(server.log)) == 1, loud(server.log)
    assert "cut off" in loud(server.log)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_stop_says_goodbye(tmp_path: Path, number: int) -> None:
    """SIGTERM and Ctrl-C alike: members hear `bye` and 1001, and the process ends with 0."""
    with ServerProcess(tmp_path / "chatroom.db") as server, Client(server.url) as ann:
        server.signal(number)
        assert ann.hear("bye")["retry_after"] > 0
        assert hear_close(ann) == 1001
        assert server.ended() == 0
    assert loud(server.log) == [], "\n".join(server.log)


def hear_close(client: Client) -> int:
    """The code of the close frame that comes next."""
    opcode, payload = client.socket.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    return int.from_bytes(payload[:2], "big")


def test_a_server_stops_in_the_middle_of_long_resumes(tmp_path: Path) -> None:
    """SIGTERM while sixty members are fed from the log and do not read: the end comes in time and without a fault."""
    epoch = fill(str(tmp_path / "chatroom.db"), "default", 580, BIG_TEXT, 1_000_000)
    with ServerProcess(tmp_path / "chatroom.db", shutdown_grace_s=2) as server, contextlib.ExitStack() as members:
        for _ in range(60):
            members.enter_context(who_stops_reading(server, f"/ws?epoch={epoch}&after=0"))
        began_s = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began_s < 2 + IN_TIME_S
    assert loud(server.log) == [], "\n".join(server.log)


# A disk that never answers a write.
DISK_HANGS = """
import threading
from chat.eventlog.sqlite import SqliteLog
SqliteLog._store = lambda self, batch: threading.Event().wait()
"""


def test_a_server_whose_disk_hangs_stops_all_the_same(tmp_path: Path) -> None:
    """After half the grace members hear `bye` and 1001; at its end the process leaves with 1 and one line about it."""
    with ServerProcess(tmp_path / "chatroom.db", before=DISK_HANGS, shutdown_grace_s=2) as server:
        with Client(server.url) as ann:
            say_and_be_heard(ann)
            began_s = time.monotonic()
            server.signal(signal.SIGTERM)
            ann.hear("bye")
            assert "ack" not in [frame["type"] for frame in ann.heard]
            assert 0.9 < time.monotonic() - began_s < 1 + IN_TIME_S
            assert hear_close(ann) == 1001
        assert server.ended() == 1
        assert time.monotonic() - began_s < 2 + IN_TIME_S
    assert len(loud(server.log)) == 1, loud(server.log)


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_who_asks_twice_is_obeyed_at_once(tmp_path: Path, again: int) -> None:
    """A second signal ends a server that would have waited for a disk or for members."""
    with (
        ServerProcess(tmp_path / "chatroom.db", before=DISK_HANGS, shutdown_grace_s=1000) as server,
        Client(server.url) as ann,
    ):
        say_and_be_heard(ann)
        server.signal(signal.SIGTERM)
        eventually(lambda: [line for line in server.log if "stopping" in line])
        server.signal(again)
        assert server.ended() == 1
    assert len(loud(server.log)) == 1, loud(server.log)


def say_and_be_heard(client: Client) -> None:
    """Say something that the server has taken up, though it may not be able to store it."""
    client.say("never stored")
    client.send(type="people")
    client.hear("people")


def test_a_running_server_looks_for_the_dead(tmp_path: Path) -> None:
    """One whose pongs do not come is dropped by itself, one who is heard is not."""
    with (
        ServerProcess(tmp_path / "chatroom.db", before="chatroom.serving.PING_S = 1") as server,
        who_stops_reading(server) as silent,
        Client(server.url) as ann,
    ):

        def has_dropped_somebody() -> bool:
            ann.send(type="typing")  # a sign of life that nobody answers
            return any("dropped" in line for line in server.log)

        eventually(has_dropped_somebody)
        while silent.recv(65536):
            pass
        ann.say("still here")
        ann.hear("ack")


def test_a_server_stops_though_nobody_answers(tmp_path: Path) -> None:
    """Members who never answer the close frame hold the server no longer than `shutdown_grace_s`."""
    with (
        ServerProcess(tmp_path / "chatroom.db", shutdown_grace_s=0.2) as server,
        who_stops_reading(server),
        who_stops_reading(server),
    ):
        assert server.terminate() == 0
    assert loud(server.log) == [], "\n".join(server.log)


def test_a_draining_server_answers_newcomers_with_503(tmp_path: Path) -> None:
    """While the process drains, a handshake and the API get 503 with Retry-After, not a refused connection."""
    with ServerProcess(tmp_path / "chatroom.db", shutdown_grace_s=40) as server:
        with who_stops_reading(server), Client(server.url) as ann:
            server.signal(signal.SIGTERM)
            ann.hear("bye")
            assert ann.socket.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
            with pytest.raises(HTTPError) as refused:
                urlopen(f"{server.url}/api/rooms/default/messages", timeout=DEADLINE_S)
            with refused.value as answer:
                assert (answer.code, int(answer.headers["Retry-After"]) > 0) == (503, True)
            with pytest.raises(websocket.WebSocketBadStatusException) as shut:
                Client(server.url)
            assert shut.value.status_code == 503
        assert server.ended() == 0


def test_half_open_handshakes_do_not_hinder_a_real_server(tmp_path: Path) -> None:
    """A hundred unfinished handshakes, and a member gets in and talks; they are dropped after ten seconds."""
    with ServerProcess(tmp_path / "chatroom.db") as server, contextlib.ExitStack() as connections:
        for number in range(100):
            bare = connections.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
            bare.sendall(RAW_HANDSHAKE.format(target="/ws").encode()[:number])
        with Client(server.url) as ann:
            ann.say("through")
            assert ann.hear("message")["text"] == "through"
        assert bare.recv(1) == b""  # ten seconds later
        assert server.terminate() == 0
    assert loud(server.log) == [], "\n".join(server.log)


def test_nothing_that_is_said_and_nothing_forged_gets_into_the_log(tmp_path: Path) -> None:
    """Names, rooms, paths, cookies and texts cannot write lines of their own, and texts are not logged at all."""
    forged = "x\r\n2026-01-01 00:00:00,000 ERROR forged"
    database = tmp_path / "chatroom.db"
    with ServerProcess(database, message_rate=0, send_buffer_bytes=131072) as server:
        with Client(server.url, name=forged) as ann, Client(server.url, "room \u00fc") as bob:
            assert "forged" not in ann.welcome["you"]["name"]
            ann.send(type="rename", name=forged)
            assert ann.hear("error")["code"] == "bad_name"
            for text in (SECRET_WORDS, f"{SECRET_WORDS}\n{forged}"):
                ann.say(text)
                ann.hear("message")
            for _ in range(20):
                bob.send(type=forged, text=SECRET_WORDS)
            while bob.socket.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
                pass
            ann.socket.send(f"{SECRET_WORDS}{forged}", websocket.ABNF.OPCODE_BINARY)
            ann.hear("error")
        with Client(server.url, plain=True) as script:
            script.socket.send(SECRET_WORDS)
            while SECRET_WORDS not in script.next():
                pass
        with pytest.raises(websocket.WebSocketBadStatusException):
            Client(server.url, forged)
        for path in (f"/{quote(forged)}", f"/?room={quote(forged)}", f"/api/rooms/{quote(forged)}/messages"):
            with pytest.raises(HTTPError) as refused:
                urlopen(server.url + path, timeout=DEADLINE_S)
            refused.value.close()
        headers = {"User-Agent": "ERROR forged", "Cookie": "chatroom=forged|1|forged", "Referer": "forged"}
        with urlopen(Request(server.url, headers=headers), timeout=DEADLINE_S) as answer:
            assert answer.status == 200
        with (
            who_stops_reading(server, f"/ws?name={quote('forged ERROR')}&room=forged"),
            Client(server.url, "forged") as ann,
        ):
            while not [line for line in server.log if "cut off" in line]:
                for _ in range(8):
                    ann.say(SECRET_WORDS + BIG_TEXT)
                ann.messages(8)
        assert server.terminate() == 0
    assert server.log
    assert [line for line in server.log if not re.match(r"\d{4}-\d\d-\d\d \S+ (INFO|WARNING) ", line)] == []
    assert SECRET_WORDS not in "\n".join(server.log)
    assert [line for line in server.log if "ERROR" in line] == []


class VanishingTest(ChatTestCase):
    @in_time
    @filled("default", 580, BIG_TEXT)
    async def test_who_vanishes_in_the_middle_of_a_long_resume_leaves_nothing_behind(self) -> None:
        """After he is gone no room, no person and no waiting byte of him is left."""
        for _ in range(5):
            raw = await self.join_raw(f"/ws?epoch={self.epoch}&after=0", receive_bytes=4096)
            await raw.next()
            await raw.next()
            self.assertFalse(self.app.socket_class.rooms["default"].members)
            raw.vanish()
        await until(lambda: not self.app.socket_class.rooms)
        self.assertFalse(self.app.socket_class.sockets)
        self.assertEqual(send_budget.waiting_bytes, 0)
        self.assertEqual((await self.join()).welcome["present"], 1)

    @in_time
    async def test_who_vanishes_with_bytes_waiting_leaves_nothing_behind(self) -> None:
        """What waited for a member who is gone is given back."""
        ann, raw = await self.join(), await self.join_raw(receive_bytes=4096)
        await ann.hears("presence", present=2)
        while not send_budget.waiting_bytes:
            ann.say(BIG_TEXT)
            await ann.hears("message")
        raw.vanish()
        await until(lambda: len(self.app.socket_class.sockets) == 1)
        self.assertEqual(send_budget.waiting_bytes, 0)
        await ann.hears("presence", present=1)

    @in_time
    @settings(send_buffer_bytes=131072)
    async def test_a_member_who_does_not_read_is_cut_off_within_his_bound(self) -> None:
        """Never more than `send_buffer_bytes` wait for one member; he is counted and told of as one who left."""
        ann, slow = await self.join(), await self.join_raw(receive_bytes=4096)
        await ann.hears("presence", present=2)
        most, before = 0, await self.cut_off_members()
        with ExpectLog("chatroom", "cut off") as expected:
            while not expected.matched:
                ann.say(BIG_TEXT)
                await ann.hears("message")
                most = max(most, send_budget.waiting_bytes)
        self.assertTrue(0 < most <= 131072)
        self.assertEqual(expected.matched, 1)
        self.assertEqual(await self.cut_off_members() - before, 1)
        await ann.hears("presence", present=1)
        with self.assertRaises((ConnectionError, asyncio.IncompleteReadError)):
            while True:
                await slow.next()

    async def cut_off_members(self) -> float:
        """How many the metrics have counted."""
        found = re.search(rb'chatroom_cut_off_members_total{reason="slow"} (\S+)', (await self.get("/metrics")).body)
        return float(found[1]) if found else 0

    @in_time
    async def test_members_who_close_in_the_middle_of_flushes_disturb_nobody(self) -> None:
        """In a room of 600, a hundred vanish while it is talked to; the others hear everything."""
        members: list[Member] = []
        while len(members) < 600:
            members += await asyncio.gather(*(self.join(name="Member") for _ in range(50)))
        speaker, victims, rest = (
            members[0],
            members[1:600:6],
            [m for n, m in enumerate(members) if n == 0 or n % 6 != 1],
        )

        async def vanish_one_by_one() -> None:
            for victim in victims:
                victim.vanish()
                await asyncio.sleep(0)

        vanishing = asyncio.ensure_future(vanish_one_by_one())
        for number in range(30):
            speaker.say(f"{number}")
        heard = [await member.messages(30) for member in rest]
        await vanishing
        for events in heard:
            self.assertEqual(events, heard[0])
        self.assertTrue(contiguous(heard[0], 0))
        await until(lambda: len(self.app.socket_class.sockets) == 500)
        self.assertEqual(len(self.app.socket_class.rooms["default"].members), 500)
        for number in range(3):
            speaker.say(f"after {number}")
        self.assertEqual(len(await rest[-1].messages(3)), 3)

    @in_time
    async def test_one_of_two_tabs_closing_disturbs_the_other_in_nothing(self) -> None:
        """The person stays: he hears, speaks and keeps his name; nobody is told that he left."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        tab = await self.join(cookie=ann.cookie)
        for _ in range(20):
            tab.say("x")
        tab.vanish()
        await until(lambda: len(self.app.socket_class.sockets) == 2)
        ann.say("still here")
        self.assertEqual((await bob.hears("message", text="still here"))["by"], {"id": ann.id, "name": "Ann"})
        bob.send(type="people")
        frames = await bob.hears_until("people")
        self.assertEqual(frames[-1]["total"], 2)
        self.assertFalse([frame for frame in frames if frame["type"] == "presence" and frame["left"]])

    @in_time
    async def test_who_answers_no_ping_is_dropped(self) -> None:
        """Between two pings a member must be heard, if only by his pong; who is silent is dropped."""
        ann = await self.join()
        server_side = next(iter(self.app.socket_class.sockets)).ws_connection
        silent = await self.join_raw()
        for _ in range(3):
            ping(self.app.socket_class.sockets)
            await until(lambda: server_side.heard)
        await until(lambda: len(self.app.socket_class.sockets) == 1)
        silent.vanish()
        ann.say("still here")
        await ann.hears("message")

    @in_time
    async def test_who_closes_before_he_is_let_in_leaves_nothing_behind(self) -> None:
        """A handshake whose client is gone at once is forgotten like any member."""
        for _ in range(50):
            (await self.join_raw("/ws?room=brief")).vanish()
        ann = await self.join("brief")
        await until(lambda: len(self.app.socket_class.sockets) == 1)
        self.assertEqual(len(self.app.socket_class.rooms["brief"].people), 1)
        ann.vanish()
        await until(lambda: not self.app.socket_class.rooms)

    @in_time
    async def test_pings_are_answered_with_their_payload(self) -> None:
        """A client's ping gets its pong, also between the fragments of a message."""
        raw = await self.join_raw()
        raw.send(0x1, b'{"type": ', first=0x00)
        raw.send(0x9, b"are you there")
        raw.send(0x0, b'"people"}')
        heard: list[tuple[int, Any]] = []
        while not heard or heard[-1][0] != 0x1 or json.loads(heard[-1][1])["type"] != "people":
            heard.append(await raw.next())
        self.assertIn((0xA, b"are you there"), heard)

    @in_time
    async def test_a_declared_length_is_refused_before_it_is_sent(self) -> None:
        """A frame that says it is 2 GB long is refused by its header alone."""
        raw = await self.join_raw()
        raw.writer.write(b"\x81\xff" + struct.pack("!Q", 2**31) + b"\0\0\0\0")
        self.assertEqual(await raw.close_code(), 1009)

    @in_time
    async def test_fragments_together_are_bounded(self) -> None:
        """A message in many small frames has the same bound as one in a single frame."""
        raw = await self.join_raw()
        raw.send(0x1, b" " * 60_000, first=0x00)
        raw.send(0x0, b" " * 5_537, first=0x00)
        self.assertEqual(await raw.close_code(), 1009)
