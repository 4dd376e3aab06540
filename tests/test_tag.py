"""Tags: found again in whatever a server wraps them in, and never believed when anything about them changed."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.tag import MAX_LATE_NS, MIN_TEXT_BYTES, ChangedText, Tag, find, make_text

TAG = Tag(run=0xBEEF, room=3, sender=5, seq=1234, due_ns=123_456_789_012, sent_ns=123_456_789_999, is_measured=True)
TEXT_BYTES = MIN_TEXT_BYTES + 9
TEXT = make_text(TAG, TEXT_BYTES)

quick = settings(deadline=None, database=None)
tags = st.builds(
    lambda tag, late_ns: tag._replace(sent_ns=tag.due_ns + late_ns),
    st.builds(
        Tag,
        run=st.integers(0, 2**16 - 1),
        room=st.integers(0, 2**16 - 1),
        sender=st.integers(0, 2**8 - 1),
        seq=st.integers(0, 2**32 - 1),
        due_ns=st.integers(0, 2**64 - 1),
        sent_ns=st.just(0),
        is_measured=st.booleans(),
    ),
    st.integers(0, MAX_LATE_NS),
)


def wrapped(text: str) -> bytes:
    """A frame as a chat server might send it, with signs of a tag that is none in it."""
    frame = {"type": "message", "seq": 17, "by": {"id": "0123456789abcdef", "name": "~ ~m~"}, "text": text, "at": 1}
    return json.dumps(frame).encode()


def assert_changed(text: str, text_bytes: int = TEXT_BYTES) -> None:
    """Assert that a tag is found and not believed."""
    with pytest.raises(ChangedText):
        find(wrapped(text), text_bytes, TAG.run)


# Round trip


@given(tags, st.integers(MIN_TEXT_BYTES, 400))
@quick
def test_a_tag_comes_back(tag: Tag, text_bytes: int) -> None:
    """From the bare text and from the middle of a frame, of any size, with any fields."""
    text = make_text(tag, text_bytes)
    assert find(text.encode(), text_bytes, tag.run) == tag
    assert find(wrapped(text), text_bytes, tag.run) == tag


@given(tags, st.integers(MIN_TEXT_BYTES, 400))
@quick
def test_a_text_is_as_long_as_planned_and_needs_no_escaping(tag: Tag, text_bytes: int) -> None:
    """Whatever the fields are, it has this many bytes, and JSON, HTML and URLs leave them alone."""
    assert re.fullmatch(rf"[0-9a-z~]{{{text_bytes}}}", make_text(tag, text_bytes))


def test_the_form_of_a_text() -> None:
    """Other programs read it, too: run, room, sender, seq, due and lateness in hex, and the mark."""
    assert TEXT.startswith("~beef000305000004d20000001cbe991a1400000003dbm~")
    assert re.fullmatch(r"[0-9a-f]{8}x{9}", TEXT.rpartition("~")[2])
    assert make_text(TAG._replace(is_measured=False), TEXT_BYTES)[45:47] == "w~"


def test_the_first_of_two_texts_is_found() -> None:
    """A frame carries one message."""
    other = make_text(TAG._replace(seq=1235), TEXT_BYTES)
    assert find(f'["{TEXT}","{other}"]'.encode(), TEXT_BYTES, TAG.run) == TAG


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"~",
        b"~~",
        b'{"type":"presence","name":"~beef~m~"}',
        b"0123456789abcdef" * 20,
        "~ä~".encode(),
        b"\xff~\x00",
    ],
)
def test_a_frame_without_a_tag_has_none(payload: bytes) -> None:
    """Tildes and hex digits of somebody else's are no tag."""
    assert find(payload, TEXT_BYTES, TAG.run) is None


@pytest.mark.parametrize("text_bytes", [MIN_TEXT_BYTES, TEXT_BYTES, 400])
def test_a_tag_of_another_run_is_none_whatever_its_size(text_bytes: int) -> None:
    """A room may tell newcomers what was said in it before."""
    text = make_text(TAG._replace(run=TAG.run ^ 1), text_bytes)
    assert find(wrapped(text), TEXT_BYTES, TAG.run) is None


# Damage


def test_every_flipped_bit_is_found() -> None:
    """In any place of the text, be it a digit of a time, a mark, the check or the filler."""
    for place in range(TEXT_BYTES):
        for bit in range(7):
            assert_changed(TEXT[:place] + chr(ord(TEXT[place]) ^ 1 << bit) + TEXT[place + 1 :])


@given(st.integers(1, 44), st.text("0123456789abcdef", min_size=2, max_size=4))
@quick
def test_other_digits_are_found(place: int, digits: str) -> None:
    """Several in a row, which still look like a tag."""
    changed = TEXT[:place] + digits + TEXT[place + len(digits) :]
    if changed != TEXT:
        assert_changed(changed)


def test_every_lost_character_is_found() -> None:
    """One less is not the text, wherever it is missing."""
    for place in range(TEXT_BYTES):
        assert_changed(TEXT[:place] + TEXT[place + 1 :])


@pytest.mark.parametrize("extra", "x0~m ")
def test_every_added_character_is_found(extra: str) -> None:
    """One more is not the text, within it or right behind it where it looks like more of it."""
    for place in range(1, TEXT_BYTES):
        changed = TEXT[:place] + extra + TEXT[place:]
        if TEXT not in changed:  # a tilde more in front of it is not within it
            assert_changed(changed)
    assert_changed(TEXT + "x")


def test_every_cut_is_found() -> None:
    """A text of which only the beginning or only the end came is never a message; too little of it is no tag at all."""
    for place in range(TEXT_BYTES):
        if place < 13:
            assert find(wrapped(TEXT[:place]), TEXT_BYTES, TAG.run) is None
        else:
            assert_changed(TEXT[:place])
        if place > 33:
            assert find(wrapped(TEXT[place:]), TEXT_BYTES, TAG.run) is None
        elif place:
            assert_changed(TEXT[place:])


def test_a_text_of_another_size_is_changed() -> None:
    """What was sent is known, so a shorter filler is a loss and a longer one was added."""
    for text_bytes in (TEXT_BYTES - 1, TEXT_BYTES + 1, MIN_TEXT_BYTES):
        assert_changed(TEXT, text_bytes)


def test_a_warm_up_message_does_not_turn_into_a_measured_one() -> None:
    """Nor the other way round."""
    assert_changed(TEXT.replace("m~", "w~"))


# Limits


@pytest.mark.parametrize(
    "fields",
    [
        {"run": 2**16},
        {"run": -1},
        {"room": 2**16},
        {"sender": 2**8},
        {"seq": 2**32},
        {"seq": -1},
        {"due_ns": 2**64, "sent_ns": 2**64},
        {"due_ns": -1},
        {"sent_ns": TAG.due_ns - 1},
    ],
)
def test_a_field_that_does_not_fit_is_refused(fields: dict[str, Any]) -> None:
    """The text would not have its form any more."""
    with pytest.raises(ValueError, match="does not fit"):
        make_text(TAG._replace(**fields), TEXT_BYTES)


def test_a_text_too_short_for_its_tag_is_refused() -> None:
    """With the least that it needs."""
    assert find(make_text(TAG, MIN_TEXT_BYTES).encode(), MIN_TEXT_BYTES, TAG.run) == TAG
    with pytest.raises(ValueError, match=f"at least {MIN_TEXT_BYTES} bytes"):
        make_text(TAG, MIN_TEXT_BYTES - 1)


def test_a_lateness_beyond_all_measure_is_told_as_the_longest() -> None:
    """A machine that slept for an hour is no reason to stop."""
    text = make_text(TAG._replace(sent_ns=TAG.due_ns + 3600 * 10**9), TEXT_BYTES)
    assert find(text.encode(), TEXT_BYTES, TAG.run) == TAG._replace(sent_ns=TAG.due_ns + MAX_LATE_NS)
