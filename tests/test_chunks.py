"""Chunks: whatever way the bytes are cut, each message, ping and notice in them is understood once."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import chunks
from loadtest.account import Ledger, Message, Room
from loadtest.adapters import Adapter, Notice, load
from loadtest.chunks import Chunk, Chunks, runs_of, wire_bytes
from loadtest.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, parse
from loadtest.tag import MIN_TEXT_BYTES, Tag, make_text

quick = settings(deadline=None, database=None, max_examples=60)

RUN = 0xBEEF
TEXT_BYTES = MIN_TEXT_BYTES + 3
NOW_NS = 10**12


def frame(payload: bytes, opcode: int = TEXT, *, is_last: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    head = bytes([0x80 * is_last | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    return head + (b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)) + payload


def text_of(
    seq: int, sender: int = 0, room: int = 0, run: int = RUN, due_ns: int = 1, *, is_timed: bool = True
) -> bytes:
    """The text of a message."""
    return make_text(Tag(run, room, sender, seq, due_ns, due_ns + 5, is_timed), TEXT_BYTES).encode()


def said(seq: int, sender: int = 0, room: int = 0) -> bytes:
    """A message in a frame of its own."""
    return frame(text_of(seq, sender, room))


def reader_of(adapter: Adapter | None = None, senders: int = 2) -> Chunks:
    """What two rooms' members read with; the first sender is of another worker, so that hearing him is enough."""
    rooms = {number: Room(number, [Ledger(False, True) for _ in range(senders)], []) for number in range(2)}
    for room in rooms.values():
        room.came(0)
    return Chunks(RUN, TEXT_BYTES, adapter or Adapter(), rooms)


def understood(data: bytes, adapter: Adapter | None = None) -> Chunk:
    """Some bytes, read by themselves."""
    return reader_of(adapter).understand(data, NOW_NS)


def named(messages: list[Message]) -> list[tuple[int, int, int]]:
    """Messages by room, sender and seq."""
    return [(message.room.number, message.sender, message.seq) for message in messages]


PINGED = (
    said(0)
    + frame(b"one", PING)
    + frame(text_of(1)[:7], is_last=False)
    + frame(b"two", PING)
    + frame(text_of(1)[7:30], CONTINUATION, is_last=False)
    + frame(text_of(1)[30:], CONTINUATION)
    + said(0, sender=1)
    + frame(b"x" * 200)
    + said(2)
)


# Cuts


@given(st.lists(st.integers(0, len(PINGED)), max_size=4).map(sorted))
@quick
def test_any_cuts_leave_the_same_messages_and_pings(cuts: list[int]) -> None:
    """Frames together, frames in pieces, and fragments of a message with a ping in between."""
    reader = reader_of()
    messages, pings, used, rest = [], [], 0, b""
    for start, end in pairwise([0, *cuts, len(PINGED)]):
        chunk = reader.understand(rest + PINGED[start:end], NOW_NS)
        assert rest + PINGED[start:end] == PINGED[used : used + chunk.size_bytes] + chunk.rest
        messages += named(chunk.messages)
        pings += chunk.pings
        used += chunk.size_bytes
        rest = chunk.rest
    assert messages == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 2)]
    assert pings == [b"one", b"two"]
    assert (used, rest) == (len(PINGED), b"")


def test_every_single_cut_leaves_the_same_messages() -> None:
    """What is before the cut is not read again with what is behind it."""
    data = b"".join(map(said, range(3)))
    for cut in range(len(data) + 1):
        reader = reader_of()
        before = reader.understand(data[:cut], NOW_NS)
        behind = reader.understand(before.rest + data[cut:], NOW_NS)
        assert [message.seq for message in before.messages + behind.messages] == [0, 1, 2]
        assert behind.rest == b""


def test_a_pong_is_not_answered() -> None:
    """It is an answer itself."""
    chunk = understood(said(0) + frame(b"x", PONG))
    assert (chunk.pings, chunk.size, chunk.rest) == ([], 1, b"")


def test_a_message_in_fragments_is_read_from_its_start_when_it_is_whole() -> None:
    """Until then all of it is the rest, even a ping in between."""
    head = frame(text_of(0)[:9], is_last=False) + frame(b"in between", PING)
    chunk = understood(said(7) + head)
    assert (named(chunk.messages), chunk.pings, chunk.rest) == ([(0, 0, 7)], [], head)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 65_537])
def test_a_frame_took_as_many_bytes_as_it_has(size: int) -> None:
    """With its head, whose length is written in one of three ways."""
    data = frame(b"x" * size)
    assert wire_bytes(parse(data)[0][0]) == len(data)
    assert wire_bytes(Frame(TEXT, True, b"x" * size)) == len(data)


# What a chunk knows


def test_a_chunk_of_messages_alone_is_plain() -> None:
    """Each sender's count up by one, and the senders may take turns."""
    chunk = understood(said(4) + said(9, sender=1) + said(5) + said(6))
    assert (chunk.is_plain, chunk.room, chunk.size) == (True, chunk.messages[0].room, 4)
    assert chunk.runs == [(0, 4, 6), (1, 9, 9)]


@pytest.mark.parametrize(
    "data",
    [
        said(0) + said(0),
        said(0) + said(2),
        said(1) + said(0),
        said(0) + said(1, room=1),
        said(0) + frame(b"", PING),
        said(0) + frame(text_of(1)[:-1]),
        said(0) + frame(b"", CLOSE),
        said(0) + b"\x83\x00",
        frame(b"nothing of ours"),
        said(0)[:-1],
    ],
    ids=["doubled", "a gap", "reordered", "two rooms", "a ping", "damaged", "a close", "garbage", "no message", "cut"],
)
def test_a_chunk_with_anything_else_is_not_plain(data: bytes) -> None:
    """It is looked at message by message."""
    assert not understood(data).is_plain


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=8))
@quick
def test_runs_are_each_sender_s_first_and_last(pairs: list[tuple[int, int]]) -> None:
    """If his messages count up by one."""
    room = Room(0, [], [])
    found = runs_of([Message(room, Tag(RUN, 0, sender, seq, 0, 0, True), True) for sender, seq in pairs])
    of_each = {sender: [seq for number, seq in pairs if number == sender] for sender, _ in pairs}
    if all(seqs == list(range(seqs[0], seqs[0] + len(seqs))) for seqs in of_each.values()):
        assert found == [(sender, seqs[0], seqs[-1]) for sender, seqs in of_each.items()]
    else:
        assert found is None


def test_a_chunk_knows_when_its_timed_messages_were_due() -> None:
    """Those of the warm-up are counted and not timed."""
    texts = [text_of(0, due_ns=5), text_of(1, due_ns=3, is_timed=False), text_of(2, due_ns=9), text_of(3, due_ns=7)]
    chunk = understood(b"".join(map(frame, texts)))
    assert (chunk.size, chunk.measured, chunk.due_ns) == (4, 3, [5, 9, 7])
    assert (chunk.oldest_due_ns, chunk.latest_due_ns) == (5, 9)


# What is no message


@pytest.mark.parametrize(
    "text", [text_of(0)[:-1], text_of(0) + b"x", text_of(0).replace(b"m~", b"w~"), text_of(0)[:20]]
)
def test_a_damaged_text_is_noticed(text: bytes) -> None:
    """And is no message."""
    chunk = understood(frame(b'{"text":"' + text + b'"}'))
    assert (chunk.messages, chunk.notices) == ([], [Notice("changed")])


def test_a_text_of_another_run_is_nothing() -> None:
    """It may be in the room's history."""
    chunk = understood(frame(text_of(0, run=RUN - 1)) + said(0))
    assert (named(chunk.messages), chunk.notices, chunk.is_plain) == ([(0, 0, 0)], [], True)


@pytest.mark.parametrize("strange", [text_of(0, room=2), text_of(0, sender=2)])
def test_a_text_of_a_room_or_a_sender_that_there_is_not_is_stray(strange: bytes) -> None:
    """Whoever gets it, it is not for him."""
    chunk = understood(frame(strange))
    assert (chunk.messages, chunk.notices) == ([], [Notice("stray")])


def test_the_server_s_own_words_are_noticed_in_their_order() -> None:
    """As far as the adapter says that they matter."""
    words = [
        b'{"type":"welcome","epoch":"e1","resumed":"whole"}',
        b'{"type":"presence","members":[]}',
        b'{"type":"error","code":"rate_limited","client_id":"beef0000000003"}',
        b'{"type":"message","seq":17,"at":1,"text":"' + text_of(0) + b'"}',
        b'{"type":"message","seq":18,"at":1,"text":"somebody else\'s"}',
    ]
    chunk = understood(b"".join(map(frame, words)), load("chatroom"))
    assert chunk.notices == [Notice("entered", "whole"), Notice("refused", "beef0000000003")]
    assert (named(chunk.messages), chunk.place) == ([(0, 0, 0)], {"epoch": "e1", "after": "18"})


def test_a_server_without_places_is_not_asked_for_them() -> None:
    """An adapter that says so would be asked in vain."""

    class Asked(Adapter):
        def place(self, payload: bytes) -> dict[str, str]:
            return {"after": "1"}

    assert understood(said(0), Asked()).place == {}


@pytest.mark.parametrize("method", ["find", "notice", "place"])
def test_a_frame_that_the_adapter_cannot_read_is_a_fault(method: str) -> None:
    """The reading of all others goes on."""

    def fail(payload: bytes) -> bytes:
        raise KeyError("text")

    adapter = type("Failing", (Adapter,), {"resumes": True, method: staticmethod(fail)})()
    chunk = understood(frame(b"{}"), adapter)
    assert chunk.fault == "the adapter cannot read what the server sent (KeyError('text'))"


@pytest.mark.parametrize(
    ("garbage", "sentence"),
    [
        (b"\x83\x00", "The server sent a frame with the unknown opcode 0x3."),
        (frame(b"", CONTINUATION), "The server continued no message."),
        (frame(b"\xff"), "The server sent a text that is not UTF-8."),
    ],
)
def test_what_came_before_garbage_is_understood(garbage: bytes, sentence: str) -> None:
    """And the fault is told in one sentence."""
    chunk = understood(said(0) + frame(b"one", PING) + garbage + said(1))
    assert (named(chunk.messages), chunk.pings, chunk.fault) == ([(0, 0, 0)], [b"one"], sentence)


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe9", 1001), (b"\x0f\xa0bye", 4000)])
def test_a_close_frame_says_its_code(payload: bytes, code: int) -> None:
    """The messages before it are there all the same."""
    chunk = understood(said(0) + frame(payload, CLOSE))
    assert (chunk.code, named(chunk.messages)) == (code, [(0, 0, 0)])


# The memo


def test_the_same_bytes_are_the_same_chunk() -> None:
    """One byte more is another one."""
    reader = reader_of()
    chunk = reader.understand(said(0), NOW_NS)
    assert reader.memo.get(said(0)) is chunk
    assert reader.memo.get(said(0) + b"\x81") is None


@pytest.mark.parametrize(("limit", "value"), [("MEMO_CHUNKS", 3), ("MEMO_BYTES", 3 * len(said(0)) - 1)])
def test_the_memo_does_not_grow_beyond_its_limit(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forgotten all together, and begins anew."""
    monkeypatch.setattr(chunks, limit, value)
    reader = reader_of()
    sizes = []
    for seq in range(8):
        reader.understand(said(seq), NOW_NS)
        sizes.append(len(reader.memo))
    assert sizes == [1, 2, 3, 1, 2, 3, 1, 2]


def test_what_is_left_for_the_next_read_counts_as_held_by_the_memo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long message is in it as often as it takes reads."""
    monkeypatch.setattr(chunks, "MEMO_BYTES", 5000)
    reader = reader_of()
    sizes = []
    for size in range(1000, 5000, 1000):
        reader.understand(frame(b"x" * 9000)[:size], NOW_NS)
        sizes.append(len(reader.memo))
    assert sizes == [1, 2, 1, 1]
