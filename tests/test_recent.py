"""The newest events of a room, ready for those who come next."""

from hypothesis import given
from hypothesis import strategies as st

from chat.frames import text_frame
from chat.recent import Recent


def filled(count: int, least: int = 50, size_bytes: int = 10) -> Recent:
    recent = Recent(least)
    for seq in range(1, count + 1):
        recent.add(seq, text_frame(b"x" * size_bytes))
    return recent


def test_what_follows_a_seq_is_given_in_order() -> None:
    """Up to the newest that was shown; nothing where nothing follows."""
    recent = filled(20)
    assert [seq for seq, _ in recent.after(15, 20) or []] == [16, 17, 18, 19, 20]
    assert recent.after(20, 20) == []
    assert recent.after(25, 20) == []


def test_what_is_too_far_back_is_not_there() -> None:
    """None, not a list with a hole."""
    recent = filled(600)
    assert len(recent) == 512
    assert recent.after(600 - 513, 600) is None
    assert len(recent.after(600 - 512, 600) or []) == 512


def test_large_events_are_let_go_of_but_for_what_a_newcomer_is_shown() -> None:
    """By bytes, never below the least."""
    assert len(filled(100, least=50, size_bytes=10_000)) == 50
    assert len(filled(100, least=5, size_bytes=10_000)) == 13


def test_what_is_rewritten_is_given_rewritten() -> None:
    """The old frame is nowhere in it; what it does not hold is passed over."""
    recent = filled(20)
    recent.rewrite({3: b"removed", 18: b"removed", 99: b"x"})
    frames = dict(recent.after(0, 20) or [])
    assert frames[3] == frames[18] == text_frame(b"removed")
    assert [seq for seq, frame in frames.items() if frame != text_frame(b"x" * 10)] == [3, 18]


def test_what_is_too_old_is_forgotten() -> None:
    recent = filled(20)
    recent.forget_before(15)
    assert len(recent) == 6
    assert recent.after(13, 20) is None
    recent.forget_before(99)
    assert len(recent) == 0


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 20_000)), max_size=60))
def test_its_bytes_are_counted_right_whatever_is_done(steps: list[tuple[int, int]]) -> None:
    """Adding, rewriting and forgetting keep it within its bounds."""
    recent = Recent(3)
    for seq, (place, size_bytes) in enumerate(steps, 1):
        recent.add(seq, text_frame(b"x" * size_bytes))
        recent.rewrite({place: b"y" * (size_bytes // 2)})
        if size_bytes % 7 == 0:
            recent.forget_before(place)
        assert recent._bytes == sum(len(frame) for _, frame in recent._frames)
        assert len(recent) <= 3 or recent._bytes <= 128 * 1024


def test_what_follows_is_one_piece_as_far_as_it_has_room() -> None:
    """At least one frame of it, and with it the seq that it goes up to; the same value for all who ask alike."""
    recent = filled(5, size_bytes=10)
    one = text_frame(b"x" * 10)
    assert recent.piece(2, 5, 1000) == (5, one * 3)
    assert recent.piece(2, 5, 1000) is recent.piece(2, 5, 1000)
    assert recent.piece(2, 5, 2 * len(one)) == (4, one * 2)
    assert recent.piece(2, 5, 1) == (3, one)
    assert recent.piece(5, 5, 1000) == (5, b"")
    assert filled(600).piece(1, 600, 1000) is None


def test_a_piece_is_made_anew_after_every_change() -> None:
    """Nobody is given what was removed, nor less than there is."""
    recent = filled(3)
    assert recent.piece(0, 3, 1000) == (3, text_frame(b"x" * 10) * 3)
    recent.rewrite({2: b"gone"})
    assert recent.piece(0, 3, 1000) == (3, text_frame(b"x" * 10) + text_frame(b"gone") + text_frame(b"x" * 10))
    recent.forget_before(3)
    assert recent.piece(0, 3, 1000) is None
    recent.add(4, text_frame(b"new"))
    assert recent.piece(2, 4, 1000) == (4, text_frame(b"x" * 10) + text_frame(b"new"))
