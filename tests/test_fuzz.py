"""Whatever comes in is taken, or refused in the way that was meant: valid inputs changed by chance, by the thousand.

`make fuzz` tries a million (FUZZ_INPUTS) and prints how many went to each target. A failure names its input; what was
found once stands in FOUND and is tried every time.
"""

import contextlib
import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import websocket
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, RequestStartLine
from tornado.web import Application, HTTPError

from chat import doors, tokens
from chat.filter import TextFilter, check_patterns, has_link
from chat.frames import BINARY, CLOSE, PING, PONG, TEXT, Fault, FrameReader, agreed_deflate, check_close, from_utf8
from chat.identity import display_name, lookalike_keys, room_name, skeleton
from chat.protocol import MAX_FRAME_BYTES, MAX_INTEGER, MAX_TEXT, Edit, ProtocolError, Say, SetFilter, decode, encode
from chatroom import ChatSocket
from tests.bare import NO_ANSWER, Watched
from tests.mutations import FRAMES, NAMES, ORIGINS, QUERIES, mutated
from tests.support import Client
from tests.test_frames import CONTINUATION, FIN, START, VIOLATIONS, closing, masked, text
from tests.test_raw_frames import LET_IN, REFUSED, TALK
from tests.test_websocket import deflated

INPUTS = int(os.environ.get("FUZZ_INPUTS", "6000"))
BATCH = 100
tried: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    """Say in the end what was tried, for those who asked for it."""
    yield
    if "FUZZ_INPUTS" in os.environ:
        print(f"\n{sum(tried.values())} inputs: {', '.join(f'{count} {name}' for name, count in tried.items())}")


# The targets: each raises, but what it is meant to raise, or breaks an assertion if something is wrong.


def frame_of_a_member(data: bytes) -> None:
    """A frame is refused with a code and a sentence, or is within its limits and comes through being written again."""
    try:
        frame = decode(from_utf8(data))
    except Fault:
        return
    except ProtocolError as error:
        assert error.code in ("bad_frame", "unknown_type", "empty_text", "text_too_long")
        json.loads(error.frame())
        return
    if isinstance(frame, Say | Edit):
        assert 1 <= len(frame.text) <= MAX_TEXT
    again = encode(frame)
    assert again.decode("utf-8") and decode(again.decode()) == frame


def name_of_a_room_or_a_person(data: bytes) -> None:
    """A name that is taken is stable, short and clean, has a skeleton that is its own, and can make a room."""
    wished = data.decode("utf-8", "surrogateescape")
    assert isinstance(doors.fault_of_name(wished), str)
    for taken, form, most in ((room_name, "NFC", 64), (display_name, "NFKC", 32)):
        try:
            name = taken(wished)
        except ProtocolError as error:
            assert error.code == "bad_name"
            continue
        assert taken(name) == name == unicodedata.normalize(form, name)  # type: ignore[arg-type]
        assert 1 <= len(name) <= most and name == name.strip()
        assert not re.search(
            r"[\x00-\x1f\x7f-\x9f/\\\u2028-\u202e\u2066-\u2069\u200b\u200e\u200f\ufeff\ud800-\udfff]", name
        )
        assert not {unicodedata.category(char) for char in name if char not in "\u200c\u200d"} & {"Cc", "Cf", "Cs"}
        assert skeleton(skeleton(name)) == skeleton(name)
        assert lookalike_keys(name) and encode(name)


class Asking(ChatSocket):
    """The checks of a handshake without its connection."""

    def __init__(self, request: HTTPServerRequest, allowed: list[str]) -> None:
        self.request = request
        self.application = Application(trusted_origins=allowed)


def asking(query: bytes, **headers: str) -> Asking:
    """A handshake with these arguments."""
    line = RequestStartLine("GET", "/ws?" + query.decode("latin1"), "HTTP/1.1")
    found = HTTPHeaders({"Host": "127.0.0.1:8888", "X-Forwarded-Proto": "http", **headers})
    request = HTTPServerRequest(start_line=line, headers=found, connection=SimpleNamespace(context=None))
    return Asking(request, ["https://friend.example"])


def arguments_of_a_handshake(data: bytes) -> None:
    """Each is refused with 400, or is what it may be."""
    try:
        asked = asking(data.replace(b"#", b""))
    except HTTPInputError:  # which the server answers with 400: too many of them
        return
    with contextlib.suppress(HTTPError):
        past = asked._asked_past()
        assert past is None or (0 <= past.after <= MAX_INTEGER and isinstance(past.epoch, str))
    with contextlib.suppress(HTTPError):
        assert 0 <= (asked.integer("limit", 200) or 0) <= 200
    with contextlib.suppress(HTTPError):
        room = asked.room_name(asked.argument("room", "default") or "")
        assert room_name(room) == room
    assert display_name(asked._asked_name())


def origin_of_a_page(data: bytes) -> None:
    """Only our own origin, and those allowed, may come in; whatever it is, the check comes to an end."""
    origin = data.decode("latin1")
    try:
        asking(b"", Origin=origin)._check_stranger()
    except HTTPError as error:
        assert error.status_code == 403
    else:
        plain = re.sub(r"[\t\r\n]", "", origin).strip("".join(map(chr, range(33))))
        assert re.fullmatch(r"(?is)([a-z][a-z0-9+.-]*:)?//127\.0\.0\.1:8888([/?#].*)?|https://friend\.example", plain)


def bytes_of_a_socket(data: bytes, inflates: bool = False) -> None:
    """However they are cut, the same messages come out and then the same fault, and nothing else does."""
    chance = Random(len(data))
    whole, code = read([data], inflates)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(9)))
    parts = [data[low:high] for low, high in zip([0, *places], [*places, len(data)], strict=True)]
    assert read(parts, inflates) == (whole, code)
    assert code in (None, 1002, 1007, 1009)
    for opcode, payload in whole:
        assert opcode in (TEXT, BINARY, CLOSE, PING, PONG)
        assert len(payload) <= (MAX_FRAME_BYTES if inflates else len(data))


def bytes_of_a_socket_that_compresses(data: bytes) -> None:
    """The same where permessage-deflate was agreed on."""
    bytes_of_a_socket(data, inflates=True)


def read(parts: list[bytes], inflates: bool) -> tuple[list[tuple[int, bytes]], int | None]:
    """What a reader makes of bytes, and the code of the fault that ended it."""
    reader, found = FrameReader(inflates), []
    try:
        for part in parts:
            for message in reader.feed(part):
                if message is not None:
                    found.append(message)
                    if message[0] == CLOSE:
                        check_close(message[1])
    except Fault as fault:
        return found, int(fault.code)
    return found, None


def offer_of_an_extension(data: bytes) -> None:
    """Whatever is offered, the answer is one of ours, or none."""
    agreed = agreed_deflate(data.decode("latin1"))
    ours = r"permessage-deflate; client_no_context_takeover(; server_max_window_bits=\d+)?"
    assert agreed is None or re.fullmatch(ours, agreed)


def word_that_was_signed(data: bytes) -> None:
    """Nothing that was not signed is taken for a key or an invitation."""
    word = data.decode("utf-8", "replace")
    assert not tokens.is_operator_key("s" * 32, word, 1_700_000_000)
    assert tokens.invite_of("s" * 32, "~tea-abcdefgh", word) is None
    assert tokens.address_key("s" * 32, word)


def pattern_of_a_filter(data: bytes) -> None:
    """A pattern is refused in words, or looks through any text."""
    try:
        frame = decode(data.decode("utf-8", "replace"))
        if not isinstance(frame, SetFilter):
            return
        check_patterns(frame.patterns)
    except ProtocolError as error:
        assert error.sentence
        return
    TextFilter(frame.patterns).found("some text that is bad, and aaaaaaaaaaaaaaaaaaaa!")
    assert has_link(data.decode("utf-8", "replace")) in (True, False)


SOCKET = [
    TALK + closing(1000, b"bye"),
    *(text("valid") + data[:3000] for data, _ in VIOLATIONS.values()),
    START + masked(FIN | PING, b"x") + masked(FIN | CONTINUATION, bytes(200)),
    masked(FIN | BINARY, bytes(300)) * 3,
]
COMPRESSED = [
    *SOCKET[:1],
    *(masked(FIN | 0x40 | TEXT, deflated(payload)) for payload in (b"", b"hello " * 30, bytes(range(256)))),
    masked(0x40 | TEXT, deflated(b"ab" * 200)[:9]) + masked(FIN | CONTINUATION, deflated(b"ab" * 200)[9:]) + text("on"),
    masked(FIN | 0x40 | BINARY, deflated(bytes(100_000))),
]
OFFERS = [
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits, permessage-deflate; server_no_context_takeover",
    b'permessage-deflate; server_max_window_bits="10"; client_no_context_takeover; client_max_window_bits=15',
    b"x-webkit-deflate-frame, permessage-foo; a=1",
]
SIGNED = [
    tokens.operator_key("o" * 32, 1_700_000_000).encode(),
    tokens.invite_token("o" * 32, "~tea-abcdefgh", "abcdefghijkl").encode(),
    *(b"192.0.2.1", b"2001:db8::1", b"fe80::1%eth0", b"::ffff:192.0.2.1"),
]
FILTERS = [frame for frame in FRAMES if b'"filter"' in frame]
TARGETS: dict[str, tuple[list[bytes], Callable[[bytes], None]]] = {
    check.__name__: (corpus, check)
    for corpus, check in (
        (FRAMES, frame_of_a_member),
        (NAMES, name_of_a_room_or_a_person),
        (QUERIES, arguments_of_a_handshake),
        (ORIGINS, origin_of_a_page),
        (SOCKET, bytes_of_a_socket),
        (COMPRESSED, bytes_of_a_socket_that_compresses),
        (OFFERS, offer_of_an_extension),
        (SIGNED, word_that_was_signed),
        (FILTERS, pattern_of_a_filter),
    )
}
FOUND: dict[str, list[bytes]] = {
    "arguments_of_a_handshake": [b"&" * 2000],
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_makes_a_target_fail(name: str) -> None:
    """The corpus as it is, what was found once, then batches of the corpus changed; a failure shows the input."""
    corpus, check = TARGETS[name]

    def attempt(data: bytes) -> None:
        tried[name] += 1
        try:
            check(data)
        except BaseException as error:
            error.add_note(f"{name}({data!r})")
            raise

    @settings(
        max_examples=max(1, INPUTS // len(TARGETS) // BATCH),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=8, max_size=8))
    def batches(seed: bytes) -> None:
        chance = Random(seed)
        for _ in range(BATCH):
            attempt(mutated(chance, corpus))

    for data in [*corpus, *FOUND.get(name, [])]:
        attempt(data)
    batches()


# A real server: fewer, as each costs a connection or a round through the log.

HANDSHAKES = [*LET_IN.values(), *(data for data, _ in REFUSED.values() if len(data) < 5000)]
STATUSES = {0, 101, 200, 303, 400, 403, 404, 405, 413, 426}
PATIENT = "chatroom.STRIKES, chatroom.ASKS_PER_S, chatroom.ASKS_BURST = 10**6, 1e6, 1e6"  # who fuzzes is not sent away


def chance_of(request: pytest.FixtureRequest) -> Random:
    """Another one for each run with FUZZ_INPUTS, else the same."""
    return Random(os.urandom(8) if "FUZZ_INPUTS" in os.environ else request.node.name)


def test_no_handshake_makes_a_real_server_fail(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each has an answer that was meant or the end; nobody stays and nothing is written to the log."""
    chance = chance_of(request)
    with Watched(tmp_path) as chat, chat.unmoved():
        for _ in range(max(100, INPUTS // 200)):
            data = mutated(chance, HANDSHAKES)
            tried["handshake"] += 1
            with chat.bare(data) as peer:
                with contextlib.suppress(OSError):
                    peer.finish()
                while peer.more():
                    pass
                status = int(peer.came.split()[1]) if peer.came else NO_ANSWER
                assert status in STATUSES, (data, peer.came)


def test_no_frame_makes_a_real_server_fail(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner says what he likes, to himself and a guest: everything is answered, and nothing is a fault of ours."""
    chance = chance_of(request)
    caplog.set_level(logging.CRITICAL, "websocket")  # which calls every 1008 an error
    with Watched(tmp_path, before=PATIENT) as chat:
        for room in range(max(2, INPUTS // 20_000)):
            with Client(chat.server.url, f"room {room}") as owner, Client(chat.server.url, f"room {room}") as guest:
                people = [owner.welcome["you"]["id"].encode(), guest.welcome["you"]["id"].encode()]
                owner.say("something to act on")
                for _ in range(100):
                    tried["frame"] += 1
                    data = mutated(chance, FRAMES).replace(b"a" * 16, chance.choice(people))
                    if not answered(owner, data):
                        break


def answered(member: Client, data: bytes) -> bool:
    """Say it, and then something that is surely answered; false if the member was put out for it."""
    frame = data.decode("utf-8", "replace")
    try:
        member.socket.send(frame)
        member.send(type="people", ref="after", limit=1)
        member.hear("people", ref="after")
    except (websocket.WebSocketConnectionClosedException, ValueError, ConnectionError):
        return False
    return True
