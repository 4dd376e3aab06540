"""The false server: it tells the lies it was asked for, no others, and reports them as they reached the members."""

import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import falseserver, frames, tag
from loadtest.falseserver import ABOUT_DELIVERIES, FalseServer, Lies
from tests.support import DEADLINE_S, ROOT

TEXT_BYTES = 100


class RawMember:
    """One connection, and every frame as it came."""

    def __init__(self, server: FalseServer, room: str = "tea", tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(b"GET /ws?room=%b HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n" % room.encode())
        self._inbox = b""
        while b"\r\n\r\n" not in self._inbox:
            self._receive()
        head, _, self._inbox = self._inbox.partition(b"\r\n\r\n")
        self.head = head.decode()

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._inbox += data

    def send(self, payload: bytes, opcode: int = frames.TEXT) -> None:
        self.socket.sendall(frames.masked(payload, opcode))

    def take(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self._inbox) < size:
            self._receive()
        taken, self._inbox = self._inbox[:size], self._inbox[size:]
        return taken

    def next(self) -> frames.Frame:
        """The next frame, pings included."""
        first, size = self.take(2)
        if size > 125:
            size = int.from_bytes(self.take(2 if size == 126 else 8))
        return frames.Frame(first & 0x0F, first >= 0x80, self.take(size))

    def hear(self) -> bytes:
        """The payload of the next frame."""
        return self.next().payload

    def hear_until(self, last: bytes) -> list[bytes]:
        """All payloads before this one; whoever is pinged answers."""
        heard = []
        while (frame := self.next()).payload != last:
            if frame.opcode == frames.PING:
                self.send(frame.payload, frames.PONG)
            else:
                heard.append(frame.payload)
        return heard


@contextlib.contextmanager
def crowd(server: FalseServer, count: int) -> Iterator[list[RawMember]]:
    """So many members in one room; each has entered when the next one comes."""
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(count):
            members.append(RawMember(server))
            stack.callback(members[-1].socket.close)
        yield members


def message(seq: int, sender: int = 0, is_measured: bool = True, room: int = 2) -> bytes:
    return tag.make_text(tag.Tag(1, room, sender, seq, 10**9, 10**9, is_measured), TEXT_BYTES).encode()


SAID = {message(seq): seq for seq in range(2 * TEXT_BYTES)}
SAID_ELSEWHERE = {message(seq, room=2 ^ 0x8000): seq for seq in SAID.values()}


def seqs(heard: list[bytes]) -> list[int]:
    """The numbers of the messages that came as they were said."""
    return [SAID[payload] for payload in heard if payload in SAID]


def elsewhere(heard: list[bytes]) -> list[int]:
    """The numbers of those that came as if said in another room."""
    return [SAID_ELSEWHERE[payload] for payload in heard if payload in SAID_ELSEWHERE]


def conversation(lies: Lies, members: int, messages: int) -> tuple[list[list[bytes]], dict[str, Any]]:
    """What each member heard when the first said so many messages, and the server's report."""
    with FalseServer(lies) as server, crowd(server, members) as everybody:
        for seq in range(messages):
            everybody[0].send(message(seq))
        everybody[0].send(b"end")
        heard = [member.hear_until(b"end") for member in everybody]
    return heard, server.report()


# What is true


def test_a_text_is_heard_by_everybody_in_the_room_and_by_nobody_else() -> None:
    """The speaker hears himself; another room hears nothing of it."""
    with FalseServer() as server, crowd(server, 3) as members, contextlib.closing(RawMember(server, "else").socket):
        members[1].send(message(0))
        assert [member.hear() for member in members] == [message(0)] * 3
    assert server.report()["offered"] == server.report()["deliveries"] == server.report()["measured"]["deliveries"] == 3


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_texts_of_every_length_come_back_as_they_are(size: int) -> None:
    """All three forms of a frame's length, in both directions."""
    with FalseServer() as server, crowd(server, 1) as (member,):
        member.send(b"y" * size)
        assert member.next() == frames.Frame(frames.TEXT, True, b"y" * size)


def test_who_has_left_is_offered_nothing() -> None:
    """Neither counted nor told."""
    with FalseServer() as server, crowd(server, 2) as (ann, bob):
        bob.send(b"", frames.CLOSE)
        assert bob.next().opcode == frames.CLOSE
        with pytest.raises(EOFError):
            bob.next()
        ann.send(message(0))
        assert ann.hear() == message(0)
    assert (server.report()["offered"], server.report()["skipped"]) == (1, 0)


def test_what_has_no_tag_is_never_lied_about() -> None:
    """The worst liar still says a plain text, and answers a ping and a goodbye."""
    worst = Lies(drop=1, double=1, swap=1, change=1, foreign=1, stall=1, split=1)
    with FalseServer(worst) as server, crowd(server, 2) as members:
        members[0].send(b"hello ~ world")
        assert [member.hear() for member in members] == [b"hello ~ world"] * 2
        members[0].send(b"there?", frames.PING)
        assert members[0].next() == frames.Frame(frames.PONG, True, b"there?")
        members[0].send((1000).to_bytes(2), frames.CLOSE)
        assert members[0].next() == frames.Frame(frames.CLOSE, True, (1000).to_bytes(2))
    assert (server.report()["untagged"], server.report()["messages"]) == (1, 0)


def test_measured_and_warm_up_messages_are_counted_apart() -> None:
    """The report says of each number how much of it befell measured messages."""
    with FalseServer(Lies(drop=2)) as server, crowd(server, 1) as (member,):
        for seq in range(10):
            member.send(message(seq, is_measured=seq >= 4))
        member.send(b"end")
        member.hear_until(b"end")
    report = server.report()
    assert (report["messages"], report["dropped"]) == (10, 5)
    assert (report["measured"]["messages"], report["measured"]["dropped"]) == (6, 3)


# Lies about one delivery


@pytest.mark.parametrize("every", [1, 3, 7])
def test_one_in_n_deliveries_is_dropped(every: int) -> None:
    """Exactly the deliveries with the numbers N, 2N, 3N..., counted over all members."""
    heard, report = conversation(Lies(drop=every), members=4, messages=10)
    expected = [[seq for seq in range(10) if (seq * 4 + place) % every] for place in range(1, 5)]
    assert [seqs(each) for each in heard] == expected
    assert report["dropped"] == 40 // every == 40 - report["deliveries"]


def test_one_in_n_deliveries_is_doubled() -> None:
    """Whoever it befalls has the message twice, one behind the other."""
    heard, report = conversation(Lies(double=7), members=4, messages=10)
    twice = [seq for each in heard for seq, count in Counter(seqs(each)).items() if count == 2]
    assert all(seqs(each) == sorted(seqs(each)) for each in heard)
    assert report["doubled"] == len(twice) == 6
    assert report["deliveries"] == sum(map(len, heard)) == 46


def test_one_in_n_deliveries_is_swapped_with_the_same_speakers_next_one() -> None:
    """What another says between the two is not touched: order is promised per speaker."""
    with FalseServer(Lies(swap=4)) as server, crowd(server, 2) as (ann, bob):
        heard = []
        for seq in range(2):
            for sender, speaker in enumerate((ann, bob)):
                speaker.send(message(seq, sender))
                speaker.send(b"said", frames.PING)  # answered when everybody has been told
                told = speaker.hear_until(b"said")
                heard += told if speaker is bob else []
    assert heard == [message(0, 1), message(1), message(0), message(1, 1)]
    assert server.report()["swapped"] == 1


def test_a_swapped_message_comes_behind_the_next_one_and_nothing_is_lost() -> None:
    """As often as the report says."""
    heard, report = conversation(Lies(swap=7), members=3, messages=21)
    backwards = sum(
        later < earlier for each in heard for earlier, later in zip(seqs(each), seqs(each)[1:], strict=False)
    )
    assert report["swapped"] == backwards == 9
    assert [sorted(seqs(each)) for each in heard] == [list(range(21))] * 3


def test_a_message_without_a_successor_comes_late_and_is_no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one to be swapped is handed over all the same."""
    monkeypatch.setattr(falseserver, "SWAP_S", 0.01)
    with FalseServer(Lies(swap=1)) as server, crowd(server, 1) as (member,):
        member.send(message(0))
        assert member.hear() == message(0)
    assert (server.report()["deliveries"], server.report()["swapped"], server.report()["held"]) == (1, 0, 0)


def test_one_in_n_deliveries_has_a_byte_changed() -> None:
    """Each time another one, over the whole text."""
    heard, report = conversation(Lies(change=2), members=1, messages=2 * TEXT_BYTES)
    differing = [
        [at for at, byte in enumerate(message(seq)) if payload[at] != byte] for seq, payload in enumerate(heard[0])
    ]
    assert sorted(filter(None, differing)) == [[at] for at in range(TEXT_BYTES)]
    assert report["changed"] == TEXT_BYTES


def test_one_in_n_deliveries_is_followed_by_one_of_another_room() -> None:
    """It is whole and well: only its room is not the member's."""
    heard, report = conversation(Lies(foreign=4), members=2, messages=10)
    assert [seqs(each) for each in heard] == [list(range(10))] * 2
    assert report["foreign"] == sum(len(elsewhere(each)) for each in heard) == 5


def test_one_in_n_deliveries_follows_a_ping_and_the_answers_are_counted() -> None:
    """Who answers all of them has as many pongs to his name."""
    with FalseServer(Lies(ping=3)) as server, crowd(server, 1) as (member,):
        for seq in range(9):
            member.send(message(seq))
        member.send(b"end")
        assert seqs(member.hear_until(b"end")) == list(range(9))
        member.send(b"answered", frames.PING)
        member.hear_until(b"answered")
    assert server.report()["pinged"] == server.report()["ponged"] == 3


def test_one_in_n_deliveries_is_followed_by_an_edit_of_it() -> None:
    """As the chat room tells it, with the text once more."""
    heard, report = conversation(Lies(edit=4), members=2, messages=10)
    assert [seqs(each) for each in heard] == [list(range(10))] * 2
    edits = [(said, json.loads(payload)) for each in heard for said, payload in pairwise(each) if payload[:1] == b"{"]
    assert report["edited"] == len(edits) == 5
    assert {edit["type"] for _, edit in edits} == {"edit"}
    assert all(edit["text"].encode() == said for said, edit in edits)


def test_lies_with_equal_periods_do_not_hide_each_other() -> None:
    """Each falls on deliveries of its own."""
    _, report = conversation(Lies(**dict.fromkeys(ABOUT_DELIVERIES, 10)), members=3, messages=30)
    counts = [report[name] for name in ABOUT_DELIVERIES.values()]
    assert min(counts) >= 7, counts


def test_the_same_messages_bring_the_same_lies() -> None:
    """Twice the same conversation, byte by byte."""
    lies = Lies(drop=5, double=7, swap=11, change=3, foreign=13)
    assert conversation(lies, 3, 30) == conversation(lies, 3, 30)


@settings(deadline=None, database=None, max_examples=30)
@given(
    st.builds(Lies, **{name: st.integers(0, 9) for name in ABOUT_DELIVERIES}),
    st.integers(1, 4),
    st.integers(0, 20),
)
def test_the_report_balances_and_is_what_the_members_had(lies: Lies, members: int, messages: int) -> None:
    """Whatever lies are told together: each is there as often as it is told of."""
    heard, report = conversation(lies, members, messages)
    ours = [seqs(each) for each in heard]
    assert report["offered"] == members * messages
    assert report["offered"] == report["deliveries"] + report["dropped"] + report["held"] - report["doubled"]
    assert sum(map(len, heard)) == report["deliveries"] + report["foreign"] + report["edited"]
    assert sum(map(len, ours)) == report["deliveries"] - report["changed"]
    assert sum(len(elsewhere(each)) for each in heard) == report["foreign"]
    assert sum(len(each) - len(set(each)) for each in ours) == report["doubled"]
    assert sum(map(backwards, ours)) == report["swapped"] == report["measured"]["swapped"]


def backwards(heard: list[int]) -> int:
    """How many came behind a later one, not counting those that had come before."""
    return sum(seq < max(heard[: at + 1]) and seq not in heard[:at] for at, seq in enumerate(heard))


# Lies about all


def test_stalls_stop_the_whole_server_at_the_messages_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every N-th message and those with the given numbers; one message stalls once."""
    slept: list[float] = []
    monkeypatch.setattr("loadtest.falseserver.time.sleep", slept.append)
    _, report = conversation(Lies(stall=4, stall_at=(1, 8), stall_ms=30), members=2, messages=10)
    assert slept == [0.03] * 3  # 1, 4, 8
    assert report["stalled"] == report["measured"]["stalled"] == 3


@pytest.mark.parametrize("kind", falseserver.GARBAGE)
def test_garbage_is_what_no_server_may_send(kind: str) -> None:
    """Each kind comes once, to a member who did not speak, and a strict reader takes offence."""
    garbage = falseserver.GARBAGE[kind]
    with FalseServer(Lies(garbage_at=(2,), garbage=kind)) as server, crowd(server, 2) as (ann, bob):
        for seq in range(3):
            ann.send(message(seq))
        assert [ann.hear() for _ in range(3)] == [message(0), message(1), message(2)]
        assert bob.hear() == message(0)
        assert bob.take(len(garbage)) == garbage
        assert [bob.hear(), bob.hear()] == [message(1), message(2)]
    with pytest.raises(frames.BadFrame):
        for each in frames.parse(garbage)[0]:
            frames.Assembler().push(each)
    assert server.report()["garbage"] == 1


@pytest.mark.parametrize("code", [1011, 4000])
def test_a_silent_member_is_closed_in_mid_run(code: int) -> None:
    """The newest who has not spoken is told the code; the others hear on."""
    with FalseServer(Lies(close_at=(2,), close_code=code)) as server, crowd(server, 3) as (ann, bob, cid):
        cid.send(message(0))
        assert [member.hear() for member in (ann, bob, cid)] == [message(0)] * 3
        ann.send(message(1))
        assert [member.hear() for member in (ann, cid)] == [message(1)] * 2
        assert bob.next() == frames.Frame(frames.CLOSE, True, code.to_bytes(2))
        with pytest.raises(EOFError):
            bob.next()
    report = server.report()
    assert (report["closed"], report["deliveries"], report["offered"]) == (1, 5, 5 + report["skipped"])


def test_a_member_can_be_cut_off_without_a_word() -> None:
    """Code 0 breaks the connection."""
    with FalseServer(Lies(close_at=(1,), close_code=0)) as server, crowd(server, 2) as (ann, bob):
        ann.send(message(0))
        assert ann.hear() == message(0)
        with pytest.raises((EOFError, ConnectionResetError)):
            bob.next()
    assert server.report()["closed"] == 1


def test_the_server_can_end_itself() -> None:
    """Nobody hears the message it ends at, all connections break, and nobody can come."""
    with FalseServer(Lies(end_at=2)) as server, crowd(server, 2) as (ann, bob):
        ann.send(message(0))
        assert [ann.hear(), bob.hear()] == [message(0)] * 2
        ann.send(message(1))
        for member in (ann, bob):
            with pytest.raises((EOFError, ConnectionResetError)):
                member.next()
    with pytest.raises(ConnectionRefusedError):
        RawMember(server)
    report = server.report()
    assert (report["ended"], report["messages"], report["deliveries"], report["skipped"]) == (1, 2, 2, 2)


# How it is sent


def test_a_message_can_come_in_fragments() -> None:
    """A text frame, continuations, and only the last is final."""
    with FalseServer(Lies(fragment=3)) as server, crowd(server, 1) as (member,):
        member.send(message(0))
        parts = [member.next() for _ in range(3)]
    assert [(part.opcode, part.fin) for part in parts] == [(1, False), (0, False), (0, True)]
    assert b"".join(part.payload for part in parts) == message(0)


def test_messages_can_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes until the last of them is said; then all of them come at once."""
    monkeypatch.setattr(falseserver, "COALESCE_S", DEADLINE_S)
    with FalseServer(Lies(coalesce=3)) as server, crowd(server, 2) as (ann, bob):
        for seq in range(2):
            ann.send(message(seq))
        ann.send(b"nothing yet", frames.PING)
        assert ann.hear() == b"nothing yet"
        ann.send(message(2))
        assert seqs([ann.hear() for _ in range(3)]) == [0, 1, 2]
        assert len(bob.socket.recv(65536)) == 3 * (2 + TEXT_BYTES)
    assert server.report()["deliveries"] == 6


def test_messages_that_wait_in_vain_go_without_company(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few of them come after a while, too."""
    monkeypatch.setattr(falseserver, "COALESCE_S", 0.01)
    with FalseServer(Lies(coalesce=10)) as server, crowd(server, 1) as (member,):
        for start in (0, 2):
            member.send(message(start))
            member.send(message(start + 1))
            assert seqs([member.hear(), member.hear()]) == [start, start + 1]


def test_a_frame_can_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member gets the first piece before anybody gets the second."""
    sent: list[tuple[Any, int]] = []
    write = falseserver._Member.write

    def spy(member: Any, data: bytes) -> None:
        sent.append((member, len(data)))
        write(member, data)

    monkeypatch.setattr(falseserver._Member, "write", spy)
    with FalseServer(Lies(split=3)) as server, crowd(server, 2) as members:
        members[0].send(message(0))
        assert [member.hear() for member in members] == [message(0)] * 2
    assert [size for _, size in sent] == [34] * 6
    assert [member for member, _ in sent[:2]] == [member for member, _ in sent[2:4]]


# Handshakes


@pytest.mark.parametrize("status", [403, 429, 503])
def test_handshakes_can_be_refused(status: int) -> None:
    """One in N, with the status asked for."""
    with FalseServer(Lies(refuse=status, refuse_every=2)) as server, crowd(server, 4) as members:
        answers = [int(member.head.split()[1]) for member in members]
    assert answers == [101, status, 101, status]
    assert (server.report()["handshakes"], server.report()["refused"]) == (4, 2)


def test_what_is_no_websocket_is_turned_away() -> None:
    """Another path is not found, and a request without a key is a bad one."""
    answers = []
    with FalseServer() as server:
        for request in (b"GET /else HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n", b"GET /ws HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as one:
                one.sendall(request)
                answers.append(one.recv(65536)[9:12])
    assert answers == [b"404", b"400"]


def test_a_client_must_mask() -> None:
    """A harness that forgot it would be told with 1002."""
    with FalseServer() as server, crowd(server, 1) as (member,):
        member.socket.sendall(b"\x81\x02hi")
        assert member.next() == frames.Frame(frames.CLOSE, True, (1002).to_bytes(2))


def test_it_speaks_tls_with_a_given_certificate(tmp_path: Path) -> None:
    """A client that trusts the certificate is let in and hears."""
    certificate = make_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=certificate)
    with FalseServer(certificate=certificate) as server:
        assert server.url == f"https://localhost:{server.port}/"
        member = RawMember(server, tls=tls)
        member.send(message(0))
        assert member.hear() == message(0)
        member.socket.close()


def make_certificate(folder: Path) -> Path:
    """A certificate for `localhost` with its key, in one file."""
    path = folder / "localhost.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        str(path),
        "-out",
        str(path),
    ]
    subprocess.run(["openssl", "req", "-x509", *subject, *key], check=True, capture_output=True, timeout=DEADLINE_S)
    return path


# The command


def test_as_a_command_it_prints_its_address_and_at_the_end_its_report() -> None:
    """One line each, for a program to read."""
    command = [sys.executable, "-m", "loadtest.falseserver", "--port=0", "--drop=2", "--stall-at=1,2", "--stall-ms=1"]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as at_the_end,
    ):
        at_the_end.callback(process.kill)
        assert process.stdout is not None
        found = re.fullmatch(r"http://localhost:(\d+)/\n", process.stdout.readline())
        assert found
        with crowd(FalseServer(port=int(found[1])), 1) as (member,):
            for seq in range(3):
                member.send(message(seq))
            assert seqs([member.hear(), member.hear()]) == [0, 2]
        process.send_signal(signal.SIGTERM)
        report = json.loads(process.stdout.readline())
        assert process.wait(DEADLINE_S) == 0
    assert (report["messages"], report["dropped"], report["stalled"]) == (3, 1, 2)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    """As a command it says so, in a test it raises."""
    with FalseServer() as server:
        with pytest.raises(OSError, match="in use"), FalseServer(port=server.port):
            pass
        command = [sys.executable, "-m", "loadtest.falseserver", f"--port={server.port}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"The false server cannot run: .*in use\n", done.stderr)


def test_every_lie_has_an_option() -> None:
    """As the constructor has it, only with hyphens."""
    lies, found = falseserver.parse_arguments(
        ["--drop=10000", "--garbage-at=5", "--garbage=long ping", "--stall-ms=12.5", "--refuse=503"]
    )
    assert lies == Lies(drop=10000, garbage_at=(5,), garbage="long ping", stall_ms=12.5, refuse=503)
    assert (found.port, found.certificate) == (0, None)
