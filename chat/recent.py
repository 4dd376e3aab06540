"""The newest events of a room as ready frames, for those who come next.

Pure. Invariant: contiguous, and up to the newest event that the room has shown; what is rewritten in the log is
rewritten here in the same step, so that nobody is given what was removed.
"""

from collections import deque
from collections.abc import Mapping
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

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, seq: int, frame: bytes) -> None:
        """Take the next event, and let go of the oldest where there are too many."""
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

    def rewrite(self, bodies: Mapping[int, bytes]) -> None:
        """Put other bodies in the place of some events."""
        for place, (seq, frame) in enumerate(self._frames):
            if seq in bodies:
                self._frames[place] = seq, text_frame(bodies[seq])
                self._bytes += len(self._frames[place][1]) - len(frame)

    def forget_before(self, seq: int) -> None:
        while self._frames and self._frames[0][0] < seq:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._frames.popleft()[1])
