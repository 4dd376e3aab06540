"""A timer that wakes an `epoll`: to the tenth of a millisecond, where `epoll_wait` itself counts in milliseconds.

Owns one Linux timerfd. Python has `os.timerfd_create` from 3.13 on; before that it is asked of the C library.
"""

import ctypes
import os
from typing import Final

import gevent

CLOCK_MONOTONIC: Final = 1
TFD_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC
TFD_TIMER_ABSTIME: Final = 1

BREATH_S: Final = 0.001

LIBC = ctypes.CDLL(None, use_errno=True)


def breathe() -> None:
    """Let the reader and the senders in, between two pieces of work that can wait."""
    gevent.sleep(BREATH_S)


class TimerSpec(ctypes.Structure):
    """`struct itimerspec`: the interval, which we leave zero, and the time."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "at_s", "at_ns")]


class Timer:
    """Becomes readable at a time of `time.monotonic_ns`."""

    def __init__(self) -> None:
        self.fd = LIBC.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._at_ns = 0

    def set(self, at_ns: int) -> None:
        """Wake at a time, at once if it is past; 0 for never."""
        if at_ns != self._at_ns:
            self._at_ns = at_ns
            seconds, rest_ns = divmod(at_ns, 1_000_000_000)
            LIBC.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, ctypes.byref(TimerSpec(0, 0, seconds, rest_ns)), None)

    def close(self) -> None:
        """Give it back."""
        os.close(self.fd)
