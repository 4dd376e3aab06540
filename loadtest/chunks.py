"""Chunks: what one read of a socket brought, understood once for all members who got the same bytes.

Owns the way from bytes to messages: frames, fragments, the tag in the text, the server's own notices, and the memo of
identical bytes. It knows no socket; what a chunk means for a member is the account's and the reader's.
Invariant: the memo is keyed by the bytes themselves, so a member is never credited with what he did not get.
"""

from typing import Final

from loadtest import frames, tag
from loadtest.account import FOREVER_NS, Message, Room
from loadtest.adapters import Adapter, Notice

MEMO_CHUNKS: Final = 2048  # forgotten all together
MEMO_BYTES: Final = 1 << 25  # a message longer than a read is in it once for each of its reads


class Chunk:
    """The messages in one read, and what has to be known to credit and time them without looking at each."""

    __slots__ = (
        "code", "due_ns", "fault", "first_ns", "hits", "is_plain", "last_ns", "latest_due_ns", "longest_lag_ns",
        "measured", "messages", "notices", "oldest_due_ns", "pings", "place", "rest", "room", "runs", "size",
        "size_bytes", "stamped",
    )  # fmt: skip

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.size = 0
        self.size_bytes = 0
        self.measured = 0  # messages of the measured window
        self.is_plain = False  # nothing but messages of one room, each sender's in order
        self.room: Room | None = None
        self.runs: list[tuple[int, int, int]] = []  # sender, first and last seq
        self.due_ns: list[int] = []  # of those to be timed
        self.oldest_due_ns = self.latest_due_ns = 0
        self.rest = b""  # the beginning of a frame, or of a message in fragments
        self.pings: list[bytes] = []
        self.notices: list[Notice] = []
        self.place: dict[str, str] = {}
        self.code = 0  # the code of a close frame
        self.fault = ""  # why what follows is no WebSocket any more
        self.hits = 0  # members who have got it since it was last folded
        self.first_ns = FOREVER_NS
        self.last_ns = self.longest_lag_ns = 0
        self.stamped = 0  # how many of the hits by the kernel's clock

    def seal(self) -> None:
        """Work out the short forms, once all messages are in."""
        messages = self.messages
        self.size = len(messages)
        self.measured = sum(message.is_measured for message in messages)
        self.due_ns = [message.due_ns for message in messages if message.is_timed]
        if self.due_ns:
            self.oldest_due_ns, self.latest_due_ns = min(self.due_ns), max(self.due_ns)
        runs = runs_of(messages)
        asks_for_more = self.pings or self.notices or self.code or self.fault
        if messages and runs and not asks_for_more and all(one.room is messages[0].room for one in messages):
            self.is_plain, self.room, self.runs = True, messages[0].room, runs


def runs_of(messages: list[Message]) -> list[tuple[int, int, int]] | None:
    """Return the seqs of each sender as (sender, first, last), or None if one's do not count up by one."""
    runs: dict[int, list[int]] = {}
    for message in messages:
        run = runs.setdefault(message.sender, [message.seq, message.seq - 1])
        if message.seq != run[1] + 1:
            return None
        run[1] = message.seq
    return [(sender, first, last) for sender, (first, last) in runs.items()]


class Chunks:
    """Turns bytes into chunks, and remembers them."""

    def __init__(self, run: int, text_bytes: int, adapter: Adapter, rooms: dict[int, Room]) -> None:
        self.memo: dict[bytes, Chunk] = {}
        self._memo_bytes = 0
        self._run = run
        self._text_bytes = text_bytes
        self._adapter = adapter
        self._rooms = rooms

    def understand(self, data: bytes, now_ns: int) -> Chunk:
        """Return what these bytes mean; they begin with a frame."""
        chunk = Chunk()
        used = self._read_messages(data, chunk, now_ns)
        chunk.rest = data[used:]
        chunk.size_bytes = used
        chunk.seal()
        if len(self.memo) >= MEMO_CHUNKS or self._memo_bytes > MEMO_BYTES:
            self.memo.clear()
            self._memo_bytes = 0
        self.memo[data] = chunk
        self._memo_bytes += len(data) + len(chunk.rest)
        return chunk

    def _read_messages(self, data: bytes, chunk: Chunk, now_ns: int) -> int:
        """Read frame by frame, and return how far whole messages go."""
        used = position = 0
        try:
            found, _ = frames.parse(data)
        except frames.BadFrame as fault:
            found, chunk.fault = fault.frames, str(fault)
        assembler = frames.Assembler()
        is_inside = False
        held: list[frames.Frame] = []
        for frame in found:
            position += wire_bytes(frame)
            held.append(frame)
            try:
                payload = assembler.push(frame)
            except frames.BadFrame as fault:
                chunk.fault = chunk.fault or str(fault)
                break
            if frame.opcode < frames.CLOSE:
                is_inside = payload is None
            if is_inside:
                continue
            # Control frames between fragments wait for the last one, so that a chunk is read again from its start.
            for control in held:
                self._control(control, chunk)
            if payload is not None:
                self._message(payload, chunk, now_ns)
            held.clear()
            used = position
        return used

    def _control(self, frame: frames.Frame, chunk: Chunk) -> None:
        if frame.opcode == frames.PING:
            chunk.pings.append(frame.payload)
        elif frame.opcode == frames.CLOSE:
            chunk.code = frames.close_code(frame.payload)

    def _message(self, payload: bytes, chunk: Chunk, now_ns: int) -> None:
        adapter = self._adapter
        try:
            found = tag.find(adapter.find(payload), self._text_bytes, self._run)
            notice = adapter.notice(payload) if found is None else None
            chunk.place |= adapter.place(payload) if adapter.resumes else {}
        except tag.ChangedText:
            chunk.notices.append(Notice("changed"))
            return
        except Exception as error:  # an adapter is anybody's code; what it cannot read must not end the reading of all
            chunk.fault = chunk.fault or f"the adapter cannot read what the server sent ({error!r})"
            return
        if notice:
            chunk.notices.append(notice)
        if found is None:
            return
        if found.room not in self._rooms or found.sender >= len(self._rooms[found.room].ledgers):
            chunk.notices.append(Notice("stray"))
        else:
            chunk.messages.append(self._rooms[found.room].hear(found, now_ns))


def wire_bytes(frame: frames.Frame) -> int:
    """Return how many bytes an unmasked frame took on the wire."""
    size = len(frame.payload)
    return size + (2 if size < 126 else 4 if size < 65536 else 10)
