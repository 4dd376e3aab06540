"""What is said on the wire: every frame of `chatroom.v1` as a typed struct, its decoding and its errors.

Owns the words, limits and codes that server, pages and programs share (docs/protocol.md).
Knows no socket, no clock and no storage. Invariant: what `decode` returns is valid, what it
refuses is a `ProtocolError` with one sentence for the person who sent it.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

SUBPROTOCOL = "chatroom.v1"
MAX_FRAME_BYTES = 64 * 1024
MAX_TEXT = 4000  # code points, after trimming
MAX_INTEGER = 2**53 - 1  # the largest integer JavaScript counts exactly
MAX_PAGE_EVENTS = 200
MAX_PAGE_BYTES = 256 * 1024
PLAIN_NEWCOMER = "Has new user join room"

# Unicode White_Space; `str.strip()` would also take U+001C..U+001F.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


class CloseCode(IntEnum):
    """Why the server closes a socket (RFC 6455 section 7.4.1)."""

    GOING_AWAY = 1001  # the server stops: come back and resume
    PROTOCOL_ERROR = 1002
    NOT_UTF8 = 1007
    POLICY = 1008  # stay away
    TOO_BIG = 1009
    OUR_FAULT = 1011
    TRY_LATER = 1013


class ProtocolError(Exception):
    """A frame that is refused: `code` for programs, `sentence` for people."""

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        client_id: str | UnsetType = UNSET,
        ref: "Ref | UnsetType" = UNSET,
        retry_after: float | UnsetType = UNSET,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.client_id = client_id
        self.ref = ref
        self.retry_after = retry_after

    def frame(self) -> bytes:
        """The `error` frame that tells the sender."""
        return encode(Error(self.code, self.sentence, self.client_id, self.ref, self.retry_after))


class Event(NamedTuple):
    """One entry of a room's log: `body` is its JSON as it goes over the wire, `at` in ms since 1970."""

    seq: int
    at: int
    body: bytes


class Person(Struct, frozen=True):
    """Someone as the others know him: the public `id` and the display name."""

    id: str
    name: str


# Client to server

Seq = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
ClientId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Ref = Annotated[str, Meta(max_length=64)] | Seq


class Say(Struct, tag="say"):
    client_id: ClientId
    text: str
    reply_to: Seq | UnsetType = UNSET


class History(Struct, tag="history"):
    before: Seq | UnsetType = UNSET
    after: Seq | UnsetType = UNSET
    around: Seq | UnsetType = UNSET
    at: Seq | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE_EVENTS)] = 50
    ref: Ref | UnsetType = UNSET


class People(Struct, tag="people"):
    query: Annotated[str, Meta(max_length=64)] = ""
    offset: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    ref: Ref | UnsetType = UNSET


class Typing(Struct, tag="typing"):
    pass


class Rename(Struct, tag="rename"):
    name: str


ClientFrame = Say | History | People | Typing | Rename


# Server to client


class Limits(Struct):
    text: int
    frame: int
    rate: float
    burst: float
    history: int


class Welcome(Struct, tag="welcome"):
    room: str
    epoch: str
    head: int
    you: Person
    present: int
    limits: Limits
    resumed: str | UnsetType = UNSET


class Message(Struct, tag="message"):
    seq: int
    at: int
    by: Person
    text: str
    reply_to: int | UnsetType = UNSET


class Ack(Struct, tag="ack"):
    client_id: str
    seq: int


class Presence(Struct, tag="presence"):
    present: int
    joined: list[Person] = []
    left: list[str] = []
    renamed: list[Person] = []


class You(Struct, tag="you"):
    id: str
    name: str


class TypingNotice(Struct, tag="typing"):
    by: Person


class Page(Struct, tag="page"):
    events: list[msgspec.Raw]
    more_before: bool
    more_after: bool
    ref: Ref | UnsetType = UNSET


class PeoplePage(Struct, tag="people"):
    total: int
    people: list[Person]
    ref: Ref | UnsetType = UNSET


class Status(Struct, tag="status"):
    storing: bool


class Bye(Struct, tag="bye"):
    retry_after: float


class Error(Struct, tag="error"):
    code: str
    message: str
    client_id: str | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET
    retry_after: float | UnsetType = UNSET


encode = msgspec.json.Encoder().encode
decode_message = msgspec.json.Decoder(Message).decode


# Decoding

_decode_frame: Callable[[str], ClientFrame] = msgspec.json.Decoder(ClientFrame).decode


class _Refs(Struct):
    """What lets the sender of a bad frame find out which one it was."""

    client_id: Any = UNSET
    ref: Any = UNSET


def decode(text: str) -> ClientFrame:
    """Read one frame of a member.

    Raises ProtocolError: `bad_frame`, `unknown_type`, `empty_text`, `text_too_long`.
    """
    try:
        frame = _decode_frame(text)
        if type(frame) is Say:
            frame.text = checked_text(frame.text)
        elif type(frame) is History:
            _check_history(frame)
    except ProtocolError as error:
        raise _addressed(error, text) from None
    except msgspec.ValidationError as error:
        raise _addressed(_refusal(str(error)), text) from None
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError("bad_frame", "This frame is not JSON that can be read.") from None
    return frame


def checked_text(text: str) -> str:
    """The text of a message, trimmed; raises ProtocolError `empty_text` or `text_too_long`."""
    trimmed = text.strip(WHITE_SPACE)
    if not trimmed:
        raise ProtocolError("empty_text", "A message needs some text.")
    if len(trimmed) > MAX_TEXT:
        raise ProtocolError(
            "text_too_long", f"A message has at most {MAX_TEXT} characters; this one has {len(trimmed)}."
        )
    return trimmed


def _check_history(frame: History) -> None:
    bounds = (frame.before, frame.after, frame.around, frame.at)
    if sum(bound is not UNSET for bound in bounds) != 1:
        raise ProtocolError("bad_frame", "`history` needs exactly one of `before`, `after`, `around` and `at`.")


def _refusal(complaint: str) -> ProtocolError:
    """Turn msgspec's complaint ("… - at `$.text`") into a refusal that names the field."""
    what, at, where = complaint.rpartition(" - at `$")
    if not at:
        return ProtocolError("bad_frame", f"{complaint}.")
    field = where.rstrip("`").lstrip(".")
    if field == "type" and what.startswith("Invalid value"):
        return ProtocolError(
            "unknown_type", f"The type of a frame is one of say, history, people, typing, rename: {what}."
        )
    return ProtocolError("bad_frame", f"`{field}`: {what}.")


def _addressed(error: ProtocolError, text: str) -> ProtocolError:
    """Add the frame's own `client_id` and `ref`, where they are fit to be sent back."""
    try:
        refs = msgspec.json.decode(text, type=_Refs)
    except (msgspec.DecodeError, RecursionError):
        return error
    error.client_id = _valid(refs.client_id, ClientId)
    error.ref = _valid(refs.ref, Ref)
    return error


def _valid(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return UNSET
