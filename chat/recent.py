"""The newest events of a room as ready frames, for those who come next.

Pure. Invariant: contiguous, and up to the newest event that the room has shown; what is rewritten in the log is
rewritten here in the same step, so that nobody is given what was removed.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice

from chat.frames import text_frame

# Whichever is reached first: ten seconds of a busy room.
_EVENTS = 512
_BYTES = 128 * 1024


class Recent:
    """Frames by seq, never fewer than `least` of them once there were so many."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._frames: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._piece: tuple[tuple[int, int, int], tuple[int, bytes]] | None = None  # as it was last asked for

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, seq: int, frame: bytes) -> None:
        """Take the next event, and let go of the oldest where there are too many."""
        self.forget_piece()
        self._frames.append((seq, frame))
        self._bytes += len(frame)
        while len(self._frames) > self._least and (len(self._frames) > _EVENTS or self._bytes > _BYTES):
            self._drop()

    def after(self, seq: int, newest: int) -> list[tuple[int, bytes]] | None:
        """What follows `seq` up to `newest`, or None if it does not reach back so far."""
        missing = newest - seq
        if missing > len(self._frames):
            return None
        return list(islice(self._frames, len(self._frames) - missing, None)) if missing > 0 else []

    def piece(self, seq: int, newest: int, most_bytes: int) -> tuple[int, bytes] | None:
        """What follows `seq` as one piece, and up to where; who comes until there is something new gets the same."""
        asked = seq, newest, most_bytes
        if self._piece is None or self._piece[0] != asked:
            frames = self.after(seq, newest)
            if frames is None:
                return None
            self._piece = asked, piece_of(frames, seq, most_bytes)
        return self._piece[1]

    def forget_piece(self) -> None:
        """It is a copy: in thousands of quiet rooms it would cost more than it saves."""
        self._piece = None

    def rewrite(self, bodies: Mapping[int, bytes]) -> None:
        """Put other bodies in the place of some events."""
        self.forget_piece()
        for place, (seq, frame) in enumerate(self._frames):
            if seq in bodies:
                self._frames[place] = seq, text_frame(bodies[seq])
                self._bytes += len(self._frames[place][1]) - len(frame)

    def forget_before(self, seq: int) -> None:
        self.forget_piece()
        while self._frames and self._frames[0][0] < seq:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._frames.popleft()[1])


def piece_of(frames: Iterable[tuple[int, bytes]], seq: int, most_bytes: int) -> tuple[int, bytes]:
    """As many frames as have room, but at least one, as one value; and the seq of the last, `seq` if there is none."""
    taken: list[bytes] = []
    for number, frame in frames:
        most_bytes -= len(frame)
        if taken and most_bytes < 0:
            break
        taken.append(frame)
        seq = number
    return seq, b"".join(taken)
