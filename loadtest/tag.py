"""The tag a message's text starts with: who sent it, as which message, when it was due and when it went out.

Owns the form of the text and finds it again in whatever a server wraps it in. It must not know frames, servers or
clocks. Only `[0-9a-z~]`, so that no server escapes it; of fixed width, so that sizes are as planned. Invariant: a
tag that `find` returns came with its whole text, unchanged.

    ~<run 4><room 4><sender 2><seq 8><due_ns 16><late_ns 10><m|w>~<check 8>xxxxx...
"""

import re
import struct
from binascii import crc32, unhexlify
from typing import NamedTuple


class Tag(NamedTuple):
    """What a message says of itself; `is_measured` is false in the warm-up."""

    run: int
    room: int
    sender: int
    seq: int
    due_ns: int
    sent_ns: int
    is_measured: bool


class ChangedText(ValueError):
    """A tag is there, but its text did not come as it was sent."""


MAX_LATE_NS = 2**40 - 1
"""A message sent later than this (18 minutes) says it was this late."""

# run, room, sender, seq, due_ns, and the lateness in 40 bits.
_FIELDS = struct.Struct(">HHBIQBI")
_TAG_BYTES = 2 * _FIELDS.size + 3
_CHECK_BYTES = 8

MIN_TEXT_BYTES = _TAG_BYTES + _CHECK_BYTES
"""The shortest text that has room for a tag."""

_TEXT = re.compile(rb"~([0-9a-f]{%d})([mw])~([0-9a-f]{%d})x*" % (2 * _FIELDS.size, _CHECK_BYTES))
# Whatever is changed in one place, the tag's other half is still there.
_REMAINS = re.compile(rb"~(?:[0-9a-f]{12}|(?<=[0-9a-f]{12}[mw]~))")


def make_text(tag: Tag, text_bytes: int) -> str:
    """Return a text of this size that starts with the tag; raises ValueError if it or a field has no room."""
    if text_bytes < MIN_TEXT_BYTES:
        raise ValueError(f"a text has at least {MIN_TEXT_BYTES} bytes: {text_bytes} are too few for its tag")
    run, room, sender, seq, due_ns, sent_ns, is_measured = tag
    late_ns = min(sent_ns - due_ns, MAX_LATE_NS)
    try:
        fields = _FIELDS.pack(run, room, sender, seq, due_ns, late_ns >> 32, late_ns & 0xFFFFFFFF)
    except struct.error:
        raise ValueError(f"a field of {tag} does not fit, or it was sent before it was due") from None
    mark = "m" if is_measured else "w"
    return f"~{fields.hex()}{mark}~{crc32(fields, is_measured):08x}".ljust(text_bytes, "x")


def find(payload: bytes, text_bytes: int, run: int) -> Tag | None:
    """Return the first tag in a frame's payload if it is of this run, else None; raises ChangedText for a damaged one.

    A room may still tell of earlier runs, whose texts had other sizes.
    """
    text = _TEXT.search(payload)
    if text is None:
        if _REMAINS.search(payload):
            raise ChangedText("a tag came incomplete")
        return None
    digits, mark, check = text.groups()
    fields = unhexlify(digits)
    is_measured = mark == b"m"
    is_whole = crc32(fields, is_measured) == int(check, 16)
    if is_whole and digits[:4] != b"%04x" % run:
        return None
    if not is_whole or text.end() - text.start() != text_bytes:
        raise ChangedText(f"{text.end() - text.start()} bytes of a text came unchanged, not {text_bytes}")
    run, room, sender, seq, due_ns, late_high, late_low = _FIELDS.unpack(fields)
    return Tag(run, room, sender, seq, due_ns, due_ns + (late_high << 32 | late_low), is_measured)
