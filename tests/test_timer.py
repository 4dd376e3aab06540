"""The timer: readable at its time and not before, whatever it was set to earlier."""

import os
import select
import time
from collections.abc import Iterator

import gevent
import pytest

from loadtest.timer import Timer, breathe
from tests.support import DEADLINE_S

MS = 1_000_000


@pytest.fixture
def timer() -> Iterator[Timer]:
    """A timer that is given back."""
    timer = Timer()
    yield timer
    timer.close()


def is_readable(timer: Timer, within_s: float = 0) -> bool:
    """Whether it wakes somebody within so many seconds."""
    return bool(select.select([timer.fd], [], [], within_s)[0])


def test_it_wakes_at_its_time_and_not_before(timer: Timer) -> None:
    """By the clock that everything here goes by."""
    at_ns = time.monotonic_ns() + 20 * MS
    timer.set(at_ns)
    assert is_readable(timer, DEADLINE_S)
    assert time.monotonic_ns() >= at_ns


def test_a_time_that_is_past_wakes_at_once(timer: Timer) -> None:
    """Even the very first nanosecond; and until it is set anew."""
    for at_ns in (time.monotonic_ns() - 1, 1):
        timer.set(at_ns)
        assert is_readable(timer, DEADLINE_S)
        timer.set(at_ns)
        assert is_readable(timer)


def test_a_timer_that_is_not_set_never_wakes(timer: Timer) -> None:
    """Nor does one that is set to never."""
    assert not is_readable(timer)
    timer.set(1)
    assert is_readable(timer, DEADLINE_S)
    timer.set(0)
    assert not is_readable(timer)


def test_a_timer_that_has_woken_sleeps_until_its_next_time(timer: Timer) -> None:
    """Which may be later or earlier than it was."""
    timer.set(1)
    assert is_readable(timer, DEADLINE_S)
    timer.set(time.monotonic_ns() + 3600 * 1000 * MS)
    assert not is_readable(timer)
    timer.set(time.monotonic_ns() + 1 * MS)
    assert is_readable(timer, DEADLINE_S)


def test_it_is_closed_and_not_inherited() -> None:
    """A program that is started from here does not hold it."""
    timer = Timer()
    assert not os.get_inheritable(timer.fd)
    timer.close()
    with pytest.raises(OSError):
        os.fstat(timer.fd)


def test_a_breath_lets_the_others_in() -> None:
    """They go on before whoever took it does."""
    seen: list[str] = []
    other = gevent.spawn(seen.append, "the other")
    breathe()
    seen.append("we")
    other.join()
    assert seen == ["the other", "we"]
