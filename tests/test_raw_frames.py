"""Bytes against a real server: frames and handshakes that no library sends, each with its answer and without an echo.

tests/test_frames.py and tests/test_websocket.py have the tables of what RFC 6455 forbids; here they and more are sent
to a server in a process of its own, with somebody in it who must not notice.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from chat.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Fault, check_close
from tests.bare import KEY, NO_ANSWER, Bare, Watched, frames, handshake
from tests.conformance.autobahn import serving
from tests.test_frames import FIN, START, VIOLATIONS, closing, masked, text
from tests.test_websocket import CONVERSATIONS, deflated

V1 = handshake(Sec_WebSocket_Protocol="chatroom.v1")
PLAIN = handshake()
DEFLATING = handshake(Sec_WebSocket_Extensions="permessage-deflate")
BAD_UTF8 = {
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "lone continuation": b"\x80",
    "half a code point": b"ok \xe2\x82",
    "Latin-1": "räson".encode("latin1"),
    "after much that is good": "é".encode() * 60 + b"\xff",
}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server for all; its log must be clean in the end."""
    with Watched(tmp_path_factory.mktemp("raw")) as watched:
        yield watched


@pytest.fixture(autouse=True)
def nothing_stays(chat: Watched) -> Iterator[None]:
    """After each test nobody is left, somebody else hears as before, and the log has one line more at most."""
    with chat.unmoved():
        yield


# Frames


def declared(opcode: int, size: int, bits: int) -> bytes:
    """The header of a masked frame that says how long it is in more bits than it needs, or without its payload."""
    return bytes((FIN | opcode, 0x80 | (126 if bits == 16 else 127))) + size.to_bytes(bits // 8, "big")


MORE_VIOLATIONS = {
    "unmasked binary": (b"\x82\x01a", 1002),
    "unmasked pong": (b"\x8a\x00", 1002),
    "unmasked continuation": (START + b"\x80\x01a", 1002),
    "unmasked 16-bit length": (b"\x81\x7e\x01\x00" + bytes(256), 1002),
    "unmasked 64-bit length": (b"\x81\x7f" + struct.pack("!Q", 70_000), 1002),
    **{
        f"RSV {bits:03b} on opcode {opcode:X}": (masked(FIN | bits << 4 | opcode), 1002)
        for bits in range(1, 8)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    },
    "RSV on a continuation": (START + masked(FIN | 0x40 | CONTINUATION), 1002),
    **{f"fragment of opcode {opcode:X}": (masked(opcode), 1002) for opcode in (*range(3, 8), *range(0xB, 0x10))},
    "pong in fragments": (masked(PONG, b"a"), 1002),
    "lone first fragment of nothing": (masked(CONTINUATION, b"a"), 1002),
    "binary between fragments": (START + masked(FIN | BINARY, b"b"), 1002),
    "text fragment between fragments": (START + masked(TEXT, b"b"), 1002),
    **{
        f"{size} in {bits} bits": (declared(TEXT, size, bits), 1002)
        for size, bits in ((0, 16), (1, 16), (125, 16), (125, 64), (126, 64), (65535, 64), (2**63 + 1, 64))
    },
    "2^63 for binary": (declared(BINARY, 2**63, 64), 1002),
    **{
        f"{size} for opcode {opcode:X}": (declared(opcode, size, bits), 1002)
        for opcode in (CLOSE, PING, PONG)
        for size, bits in ((126, 16), (65536, 64), (2**63, 64))
    },
    "2^32 and a little": (declared(TEXT, 2**32 + 5, 64), 1009),
    "65537 for binary": (declared(BINARY, 65537, 64), 1009),
    **{f"close reason: {what}": (closing(1000, bad), 1007) for what, bad in BAD_UTF8.items()},
    "close reason and a code that is none": (closing(1005, b"\xff"), 1002),
}
ALL_VIOLATIONS = {**VIOLATIONS, **CONVERSATIONS, **MORE_VIOLATIONS}


AT_ONCE = 16  # violations: the server waits after each for what is still on its way
LAWFUL_IF_AGREED = {"RSV1", "RSV 100 on opcode 1", "RSV 100 on opcode 2"}  # says that a message is compressed


@pytest.mark.parametrize("wire", [V1, PLAIN, DEFLATING], ids=["chatroom.v1", "plain", "compressed"])
def test_every_violation_gets_its_code_on_every_wire(chat: Watched, wire: bytes) -> None:
    """Sent right behind the handshake, and with a flood behind it: the close frame arrives, and then the end."""
    before = {code: chat.metric(f'chatroom_protocol_faults_total{{code="{code}"}}') for code in (1002, 1007, 1009)}
    lawful = LAWFUL_IF_AGREED if wire == DEFLATING else set()
    cases = {what: ALL_VIOLATIONS[what] for what in ALL_VIOLATIONS.keys() - lawful}
    found = {}
    for some in batched(list(cases), AT_ONCE):
        with ExitStack() as stack:
            flood = text("too late") * 50
            peers = [stack.enter_context(chat.bare(wire + cases[what][0] + flood)) for what in some]
            for what, peer in zip(some, peers, strict=True):
                assert peer.status() == 101
                found[what] = peer.close_code()
    assert found == {what: code for what, (_, code) in cases.items()}
    codes = [code for _, code in cases.values()]
    for code, count in before.items():
        assert chat.metric(f'chatroom_protocol_faults_total{{code="{code}"}}') - count == codes.count(code)


def bombs() -> list[bytes]:
    """Zeros, one repeated text, one byte more than may be."""
    return [deflated(content) for content in (bytes(60 << 20), b"ha " * (20 << 20), bytes(64 * 1024 + 1))]


def peak_bytes(pid: int) -> int:
    """The most memory a process has had."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024  # type: ignore[index]


def test_a_bomb_costs_its_sender_alone(chat: Watched) -> None:
    """Sixty megabytes in sixty kilobytes, whole and in fragments, sixty times: 1009, and nothing is unfolded."""
    packed = bombs()
    assert all(len(bomb) < 64 * 1024 for bomb in packed)
    before = peak_bytes(chat.server.pid)
    sendings = [
        sending
        for bomb in packed
        for sending in (
            masked(FIN | 0x40 | TEXT, bomb),
            masked(0x40 | BINARY, bomb[:9]) + masked(FIN | CONTINUATION, bomb[9:]),
        )
    ]
    for _ in range(10):
        with ExitStack() as stack:
            for peer in [stack.enter_context(chat.bare(DEFLATING + sending)) for sending in sendings]:
                assert (peer.status(), peer.close_code()) == (101, 1009)
    assert peak_bytes(chat.server.pid) - before < 12 << 20


BORDERS = [
    *(0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100, 1999, 2000, 2001, 2998, 2999),
    *(5000, 5001, 9999, 10_000, 32_767, 32_768, 49_152, 65_534, 65_535),
]


def closed_with(port: int, hello: bytes, codes: Sequence[int]) -> set[int]:
    """The codes that closes with these codes are answered with."""
    found = set()
    for some in batched(codes, 50):
        for peer in [Bare(port, hello + closing(code)) for code in some]:
            with peer:
                assert peer.status() == 101
                found.add(peer.close_code())
    return found


def batched(codes: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """So many of them at once."""
    return (codes[start : start + size] for start in range(0, len(codes), size))


def test_every_illegal_close_code_is_answered_with_1002(chat: Watched) -> None:
    """All below 1000, those that must not be sent, those that mean nothing yet, and all from 5000."""
    assert closed_with(chat.port, PLAIN, BORDERS) == {1002}
    with serving() as port:
        assert closed_with(port, handshake("GET / HTTP/1.1"), [*range(1000), *BORDERS]) == {1002}


def test_of_65536_close_codes_2010_are_legal() -> None:
    """What may be sent is 1000 to 1003, 1007 to 1014, and 3000 to 4999."""

    def is_legal(code: int) -> bool:
        try:
            check_close(code.to_bytes(2, "big"))
        except Fault:
            return False
        return True

    legal = [code for code in range(65536) if is_legal(code)]
    assert legal == [1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)]


@pytest.mark.parametrize("size", [1, 126, 127, 200, 65535, 65536])
def test_a_close_of_the_wrong_length_is_a_violation(chat: Watched, size: int) -> None:
    """One byte is no code, and a control frame has at most 125."""
    with chat.bare(PLAIN + masked(FIN | CLOSE, (b"\x03\xe8" + b"x" * size)[:size])) as peer:
        assert (peer.status(), peer.close_code()) == (101, 1002)


def test_the_longest_close_reason_is_answered(chat: Watched) -> None:
    """123 bytes of UTF-8 behind the code."""
    with chat.bare(PLAIN + closing(4000, "é".encode() * 61 + b"x")) as peer:
        assert (peer.status(), peer.close_code()) == (101, 4000)


# Cuts

TALK = (
    text("first")
    + masked(TEXT, b"sec", b"\xff\x00\x55\xaa")
    + masked(FIN | PING, b"now")
    + masked(CONTINUATION)
    + masked(FIN | CONTINUATION, "ö".encode() + b"nd")
)
GOODBYE = closing(1000, b"bye")
MARK = masked(FIN | PING, b"read so far")


def cut(peer: Bare, data: bytes, place: int) -> None:
    """Send some bytes so that the server certainly read those before `place` before the others came."""
    assert peer.status() == 101
    peer.send(MARK + data[:place])  # the answer shows that all of it was read: it came in one segment
    peer.frames_until(PONG, b"read so far")
    peer.send(data[place:])


def test_a_conversation_cut_anywhere_is_the_same() -> None:
    """Text, a text in fragments with a ping in between, and the close, cut in two at every byte."""
    with serving() as port:
        hello = handshake("GET / HTTP/1.1")
        for place in range(len(TALK + GOODBYE) + 1):
            with Bare(port, hello) as peer:
                cut(peer, TALK + GOODBYE, place)
                assert peer.close_code() == 1000
                heard = [each for each in frames(peer.came) if each != (PONG, b"read so far")]
            assert heard == [
                (TEXT, b"first"),
                (PONG, b"now"),
                (TEXT, "secönd".encode()),
                (CLOSE, b"\x03\xe8"),
            ], place


def test_what_is_said_in_the_chat_may_be_cut_anywhere(chat: Watched) -> None:
    """The same against the chat itself: both messages come back, in order, and the ping is answered."""
    for place in range(len(TALK) + 1):
        with chat.bare(PLAIN) as peer:
            cut(peer, TALK, place)
            peer.frames_until(TEXT, '"secönd"'.encode())
            peer.send(GOODBYE)
            assert peer.close_code() == 1000
            said = [payload.decode() for opcode, payload in frames(peer.came) if opcode == TEXT]
        assert [words for words in said if "new user" not in words] == ['"first"', '"secönd"'], place
        assert (PONG, b"now") in frames(peer.came)


def test_byte_after_byte_is_a_conversation_too(chat: Watched) -> None:
    """Handshake, messages and close, each byte in a packet of its own."""
    with chat.bare() as peer:
        for place in range(len(PLAIN + TALK)):
            peer.send((PLAIN + TALK)[place : place + 1])
        assert peer.status() == 101
        peer.frames_until(TEXT, '"secönd"'.encode())
        peer.send(GOODBYE)
        assert peer.close_code() == 1000


@pytest.mark.parametrize("leave", [Bare.finish, Bare.reset, Bare.__exit__], ids=["FIN", "RST", "close"])
def test_who_leaves_in_the_middle_of_a_frame_is_gone(chat: Watched, leave: object) -> None:
    """After any part of a frame, and of a fragmented message."""
    data = START + masked(FIN | PING, b"half") + masked(FIN | CONTINUATION, bytes(300))
    for place in (*range(1, 30), len(data) - 1):
        with chat.bare(PLAIN) as peer:
            assert peer.status() == 101
            peer.send(data[:place])
            if leave is Bare.reset:
                peer.reset()
            elif leave is Bare.finish:
                peer.finish()
                while peer.more():  # the server closes, too
                    pass


def test_half_a_frame_hinders_nobody(chat: Watched) -> None:
    """Fifty who have begun something and say nothing more: the others talk, and one of the fifty can still finish."""
    peers = [chat.bare(PLAIN) for _ in range(50)]
    for place, peer in enumerate(peers):
        assert peer.status() == 101
        peer.send(text("at last")[: place % 12 + 1])
    with chat.unmoved():
        pass
    peers[3].send(text("at last")[4:])
    peers[3].frames_until(TEXT, b'"at last"')
    for peer in peers:
        peer.socket.close()


# Handshakes

LET_IN = {
    "as it should be": PLAIN,
    "a list in Connection": handshake(Connection="keep-alive, Upgrade"),
    "another list in Connection": handshake(Connection="Upgrade ,keep-alive"),
    "two Connection headers": handshake("GET /ws HTTP/1.1", "Connection: keep-alive"),
    "Connection in small letters": handshake(Connection="upgrade"),
    "Connection in capitals": handshake(Connection="UPGRADE"),
    "Upgrade with capitals": handshake(Upgrade="WebSocket"),
    "Upgrade in capitals": handshake(Upgrade="WEBSOCKET"),
    "headers in capitals": PLAIN.replace(b"Sec-WebSocket-Key", b"SEC-WEBSOCKET-KEY").replace(b"Host", b"HOST"),
    "white space around values": PLAIN.replace(b": ", b": \t  ").replace(b"13\r\n", b"13  \r\n"),
    "LF at the ends of lines": handshake(end="\n"),
    "a body, which is passed over": handshake("GET /ws HTTP/1.1", "Content-Length: 5") + b"hello",
    "a body in chunks, which is passed over": handshake("GET /ws HTTP/1.1", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\n\r\n",
    "extensions that we have not": handshake(Sec_WebSocket_Extensions="permessage-foo; x=1, x-webkit-deflate-frame"),
    "extensions that are nonsense": handshake(Sec_WebSocket_Extensions=';=;"'),
    "extensions over which parsers fail": handshake(Sec_WebSocket_Extensions="8b71;6;a*=*0*=a;a*1=8"),
    "extensions in a bad charset": handshake(Sec_WebSocket_Extensions="x; a*0*=utf-8''%ff"),
    "15,000 bytes of cookie": handshake(Cookie='a="' + "\\" * 15_000),
    "1,000 small headers": handshake("GET /ws HTTP/1.1", *(f"X{number}: a" for number in range(1000))),
}
SAME_KEY_TWICE = f"Sec-WebSocket-Key: {KEY}"
REFUSED = {
    "no key": (handshake(without="Sec-WebSocket-Key"), 400),
    "two keys": (handshake("GET /ws HTTP/1.1", SAME_KEY_TWICE), 400),
    **{
        f"key {key!r}": (handshake(Sec_WebSocket_Key=key), 400)
        for key in ("", "x", "AAAAAAAAAAAAAAAAAAAA", "A" * 24, "!" * 22 + "==", "A" * 44, KEY * 20, f"{KEY} {KEY}")
    },
    "version 12": (handshake(Sec_WebSocket_Version="12"), 426),
    "no version": (handshake(without="Sec-WebSocket-Version"), 426),
    "two versions": (handshake("GET /ws HTTP/1.1", "Sec-WebSocket-Version: 8"), 426),
    "no Connection": (handshake(without="Connection"), 400),
    "Connection: close": (handshake(Connection="close"), 400),
    "Connection: Upgraded": (handshake(Connection="Upgraded"), 400),
    "no Upgrade": (handshake(without="Upgrade"), 400),
    "Upgrade: h2c": (handshake(Upgrade="h2c"), 400),
    "Upgrade: websockets": (handshake(Upgrade="websockets"), 400),
    **{
        f"{method} instead of GET": (handshake(f"{method} /ws HTTP/1.1", "Content-Length: 0"), 405)
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "BREW")
    },
    "HTTP/1.0": (handshake("GET /ws HTTP/1.0"), 400),
    "HTTP/0.9": (b"GET /ws\r\n\r\n", 400),
    "HTTP/2.0": (handshake("GET /ws HTTP/2.0"), 400),
    "HTTP/2 itself": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "absolute target": (handshake("GET http://127.0.0.1/ws HTTP/1.1"), 404),
    "absolute target elsewhere": (handshake("GET http://evil.example/ws HTTP/1.1"), 404),
    "two slashes": (handshake("GET //ws HTTP/1.1"), 404),
    "dots in the target": (handshake("GET /static/../ws HTTP/1.1"), 404),
    "no Host": (handshake(without="Host"), 400),
    "two Hosts": (handshake("GET /ws HTTP/1.1", "Host: evil.example"), 400),
    "an empty Host": (handshake(Host=""), 400),
    "a Host that is none": (handshake(Host="a b/c\\"), 400),
    "NUL in a header": (handshake("GET /ws HTTP/1.1", "X: a\0b"), 400),
    "a folded header": (handshake("GET /ws HTTP/1.1", "X: a", "  folded"), 400),
    "a header without a colon": (handshake("GET /ws HTTP/1.1", "nonsense"), 400),
    "space before the colon": (handshake("GET /ws HTTP/1.1", "Host : evil.example"), 400),
    "two lengths": (handshake("GET /ws HTTP/1.1", "Content-Length: 5", "Content-Length: 6") + b"hello!", 400),
    "a length and chunks": (
        handshake("GET /ws HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
    ),
    "a negative length": (handshake("GET /ws HTTP/1.1", "Content-Length: -1"), 400),
    "a plus in the length": (handshake("GET /ws HTTP/1.1", "Content-Length: +5") + b"hello", 400),
    "a length over 64 KiB": (handshake("GET /ws HTTP/1.1", "Content-Length: 65537"), 400),
    "an unknown coding": (handshake("GET /ws HTTP/1.1", "Transfer-Encoding: gzip"), 400),
    "bytes of no kind": (bytes(range(256)) + b"\r\n\r\n", 400),
    "15,000 subprotocols": (handshake(Sec_WebSocket_Protocol="a" + "," * 14_000 + "x"), 400),
    "a room of 15,000": (handshake(f"GET /ws?room={'a' * 15_000} HTTP/1.1"), 400),
    "2,000 arguments": (handshake(f"GET /ws?{'&' * 2000} HTTP/1.1"), 400),
    "a header of 17,000": (handshake("GET /ws HTTP/1.1", f"X: {'a' * 17_000}"), NO_ANSWER),
    "2,000 headers": (handshake("GET /ws HTTP/1.1", *(f"X-{n}: abcdef" for n in range(2000))), NO_ANSWER),
    "64 kB of spaces in the protocol": (handshake(Sec_WebSocket_Protocol=" " * 65_536 + "x"), NO_ANSWER),
    "1 MB of cookie": (handshake(Cookie=f"a={'b' * 1_000_000}"), NO_ANSWER),
    "a target of 100,000": (handshake(f"GET /ws?{'a' * 100_000} HTTP/1.1"), NO_ANSWER),
}


def test_lawful_handshakes_are_let_in(chat: Watched) -> None:
    """However they are spelled; what is said then is heard, and no extension was agreed on."""
    for what, data in LET_IN.items():
        with chat.bare(data) as peer:
            assert peer.status() == 101, what
            assert b"sec-websocket-extensions" not in peer.head.lower(), what
            peer.send(text("heard"))
            peer.frames_until(TEXT, b'"heard"')
            peer.send(GOODBYE)
            assert peer.close_code() == 1000, what


def test_unlawful_handshakes_are_refused(chat: Watched) -> None:
    """By their status; by the end of the connection alone where it is over 16 KiB, before anything in it is parsed."""
    found = {}
    for what, (data, _) in REFUSED.items():
        with chat.bare(data) as peer:
            found[what] = peer.status()
    assert found == {what: status for what, (_, status) in REFUSED.items()}


def test_who_is_gone_before_the_answer_leaves_nothing(chat: Watched) -> None:
    """Two hundred handshakes, reset at once."""
    for _ in range(200):
        with chat.bare(V1) as peer:
            peer.reset()


def test_an_answer_is_one_to_each_request_and_to_no_body(chat: Watched) -> None:
    """A request or a frame inside a declared body is neither."""
    hidden = handshake("GET /?room=hidden HTTP/1.1")
    for coding in (
        f"Content-Length: {len(hidden)}".encode() + b"\r\n\r\n" + hidden,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden),
    ):
        asked = b"POST /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + coding
        with chat.bare(asked) as peer:
            while peer.more():
                pass
            assert (peer.came.count(b"HTTP/1.1 "), peer.came[9:12]) == (1, b"405")
    smuggled = text("smuggled")
    data = handshake("GET /ws?room=body HTTP/1.1", f"Content-Length: {len(smuggled)}") + smuggled + text("said")
    with chat.bare(data) as peer:
        assert peer.status() == 101
        heard = peer.frames_until(TEXT, b'"said"')
        assert b"smuggled" not in b"".join(payload for _, payload in heard)
        peer.send(GOODBYE)
        assert peer.close_code() == 1000


def test_a_second_handshake_behind_the_first_is_no_frame(chat: Watched) -> None:
    """Behind the first everything is WebSocket: `GE` is an unmasked frame with reserved bits."""
    with chat.bare(PLAIN + PLAIN) as peer:
        assert (peer.status(), peer.close_code()) == (101, 1002)
        assert b"HTTP/" not in peer.came


def test_a_request_before_the_handshake_is_answered_before_it(chat: Watched) -> None:
    """On one connection, sent at once: the page, and then the socket."""
    with chat.bare(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + PLAIN + text("after")) as peer:
        assert (peer.status(), peer.status()) == (200, 101)
        peer.frames_until(TEXT, b'"after"')


@pytest.mark.parametrize("wire", [V1, PLAIN], ids=["chatroom.v1", "plain"])
def test_what_is_sent_behind_the_handshake_is_not_lost(chat: Watched, wire: bytes) -> None:
    """A client need not wait for 101: a hundred messages in the same packet are all heard, in order."""
    plain = wire == PLAIN
    says = [
        f"m{number}" if plain else f'{{"type":"say","client_id":"c{number}","text":"m{number}"}}'
        for number in range(100)
    ]
    room = b"early-" + (b"plain" if plain else b"v1")
    with chat.bare(wire.replace(b"room=bare", b"room=" + room) + b"".join(map(text, says))) as peer:
        assert peer.status() == 101
        while b'"m99"' not in peer.came:
            assert peer.more()
        said = [payload for _, payload in frames(peer.came) if plain or b'"type":"message"' in payload]
        heard = [word for payload in said for word in re.findall(rb'"(m\d+)"', payload)]
        assert heard == [b"m%d" % number for number in range(100)]


INJECTED = "a\r\nSet-Cookie: forged=1\r\nX-Forged: 1\r\n\r\n<script>"


@pytest.mark.parametrize(
    "target",
    [
        "/ws?room={}",
        "/ws?name={}",
        "/ws?room=a&epoch={}&after=1",
        "/?room={}",
        "/door?room={}",
        "/door?room=a&invite={}",
        "/door?room=b%26{}",
        "/qr.svg?room={}",
        "/admin?key={}",
        "/api/rooms/{}/messages",
        "/api/rooms/{}/export",
        "/static/000000000000/{}",
        "/{}",
    ],
)
def test_nothing_that_is_asked_gets_into_the_head_of_an_answer(chat: Watched, target: str) -> None:
    """CR and LF in a room, a name, a path or a token make no header and end no head."""
    for quoted in (
        quote(INJECTED, safe=""),
        "%250d%250aX-Forged:1",
        "%E5%98%8A%E5%98%8DX-Forged:1",
        "%0aX-Forged:%201",
    ):
        with chat.bare(handshake(f"GET {target.format(quoted)} HTTP/1.1")) as peer:
            assert peer.status() in (101, 200, 302, 400, 403, 404)
            names = [line.partition(b":")[0].lower() for line in peer.head.split(b"\r\n")[1:]]
            assert not {b"x-forged", b""} & set(names), peer.head
            cookies = [line for line in peer.head.split(b"\r\n") if line.lower().startswith(b"set-cookie")]
            assert all(line.startswith(b"Set-Cookie: chatroom=") for line in cookies), cookies
