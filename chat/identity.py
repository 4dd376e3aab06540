"""Who is who: the public id of a person, and names that cannot be mistaken for another's.

Owns what a room and a person may be called and when two names look alike (UTS 39). Knows no
socket and no room. Invariant: `person_id` is made one way, so that knowing an id lets nobody
be that person.
"""

import base64
import hashlib
import unicodedata
from functools import cache, lru_cache
from typing import Literal

from confusable_homoglyphs.confusables import confusables_data

from chat.protocol import ProtocolError

MAX_ROOM_NAME = 64  # code points
MAX_DISPLAY_NAME = 32

_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ: Persian, Indic scripts and emoji need them
_UNSEEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Letters and symbols that draw nothing: Hangul fillers, the Braille blank.
_BLANKS = "\u115f\u1160\u3164\uffa0\u2800"
# Default_Ignorable_Code_Point outside category Cf (DerivedCoreProperties.txt).
_IGNORABLE_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE0FFF),
)


def person_id(token: bytes) -> str:
    """The public id that belongs to the secret token of a person: 80 bits, URL-safe."""
    return base64.b32encode(hashlib.sha256(b"chatroom person " + token).digest()[:10]).decode().lower()


@lru_cache(maxsize=1024)
def room_name(text: str) -> str:
    """The name of a room in its one spelling (NFC).

    Raises ProtocolError `bad_name` with a sentence that says what is wrong.
    """
    return _checked(text, "NFC", "A room name", MAX_ROOM_NAME)


def is_closed(room: str) -> bool:
    """Whether a room of this name, if there is one, is closed."""
    return room.startswith("~")


def display_name(text: str) -> str:
    """The name of a person in its one spelling (NFKC).

    Raises ProtocolError `bad_name` with a sentence that says what is wrong.
    """
    return _checked(text, "NFKC", "A display name", MAX_DISPLAY_NAME)


def _checked(text: str, form: Literal["NFC", "NFKC"], what: str, most: int) -> str:
    # Normalising is quadratic in the length of a run of combining marks: seconds for a frame full of them.
    name = unicodedata.normalize(form, text) if len(text) <= 4 * most else text
    if not 1 <= len(name) <= most:
        raise ProtocolError("bad_name", f"{what} has 1 to {most} characters.")
    if any(unicodedata.category(char) in _UNSEEN_CATEGORIES for char in name if char not in _JOINERS):
        raise ProtocolError("bad_name", f"{what} has no control, formatting or direction characters.")
    if "/" in name or "\\" in name or name in (".", ".."):
        raise ProtocolError("bad_name", f"{what} has no slash or backslash and is not `.` or `..`.")
    if name[0].isspace() or name[-1].isspace():
        raise ProtocolError("bad_name", f"{what} has no space at either end.")
    if not any(_is_seen(char) for char in name):
        raise ProtocolError("bad_name", f"{what} has something to see in it.")
    return name


def _is_seen(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNPS" and char not in _BLANKS


@lru_cache(maxsize=16384)
def lookalike_keys(name: str) -> frozenset[str]:
    """Keys under which a name is taken: two names look alike if they share one.

    There are two, because a skeleton knows no case: `Iris` looks like `lris` as it is written,
    and like `iris` when case is folded; `MARK` and `rnark` meet only in the second.
    """
    return frozenset((skeleton(" ".join(name.split()).casefold()), folded_skeleton(name)))


def folded_skeleton(name: str) -> str:
    """The look-alike key that spellings of one name in several scripts have in common."""
    return skeleton(skeleton(" ".join(name.split())).casefold())


def skeleton(text: str) -> str:
    """The skeleton of UTS 39 section 4: what is left of a text when look-alikes are made one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).translate(_prototypes()))


@lru_cache(maxsize=4096)
def _is_ignorable(char: str) -> bool:
    point = ord(char)
    return unicodedata.category(char) == "Cf" or any(low <= point <= high for low, high in _IGNORABLE_RANGES)


class _Prototypes(dict[int, str | None]):
    """What a code point becomes in a skeleton, for `str.translate`; None: nothing."""

    def __missing__(self, point: int) -> str | None:
        return None if _is_ignorable(chr(point)) else chr(point)


@cache
def _prototypes() -> _Prototypes:
    """Unicode's confusables.txt.

    The package keeps each line of the file both ways round. A prototype of several sources is
    told by that; in a pair of one and one the source was inserted first.
    """
    place = {key: number for number, key in enumerate(confusables_data)}
    prototypes = _Prototypes((point, chr(point)) for point in range(128))  # else looked for again in each name
    for source, targets in confusables_data.items():
        target = targets[0]["c"]
        if len(targets) == 1 and (len(confusables_data[target]) > 1 or place[source] < place[target]):
            char = source.strip("\u200e")
            if len(char) == 1 and not _is_ignorable(char):
                prototypes[ord(char)] = target.replace("\u200e", "")
    return prototypes
