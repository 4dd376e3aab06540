"""What is said on the wire: every frame of `chatroom.v1` as a typed struct, its decoding and its errors.

Owns the words, limits and codes that server, pages and programs share (docs/protocol.md).
Knows no socket, no clock and no storage. Invariant: what `decode` returns is valid, what it
refuses is a `ProtocolError` with one sentence for the person who sent it.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

SUBPROTOCOL = "chatroom.v1"
MAX_FRAME_BYTES = 64 * 1024
MAX_TEXT = 4000  # code points, after trimming
MAX_INTEGER = 2**53 - 1  # the largest integer JavaScript counts exactly
MAX_PAGE_EVENTS = 200
MAX_PAGE_BYTES = 256 * 1024
MAX_SECONDS = 10 * 366 * 24 * 3600  # of a mute, a ban, an invitation
MAX_PATTERNS, MAX_PATTERN = 100, 200  # of a filter; code points of each
REACTIONS = (
    "\N{THUMBS UP SIGN}",
    "\N{HEAVY BLACK HEART}\ufe0f",
    "\N{FACE WITH TEARS OF JOY}",
    "\N{PARTY POPPER}",
    "\N{FACE WITH OPEN MOUTH}",
    "\N{CRYING FACE}",
    "\N{EYES}",
    "\N{WHITE HEAVY CHECK MARK}",
)
REACTORS = 8  # who reacted is told by name for so many, of each kind
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

    def to(self, ref: "Ref | UnsetType") -> "ProtocolError":
        """The same refusal for one of several who share it."""
        return ProtocolError(self.code, self.sentence, ref=ref, retry_after=self.retry_after)

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


# Acts: what changes a message or the room's order. Each is answered by `done` or by an `error` with its `ref`.

Reason = Annotated[str, Meta(max_length=200)]
PersonId = Annotated[str, Meta(pattern=r"^[a-z2-7]{16}\Z")]
Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
Role = Literal["", "moderator", "owner"]
Links = Literal["on", "held", "off"]
Bar = Literal["banned", "locked", "closed"]


class Act(Struct, kw_only=True):
    """What all acts have: a reason, kept in the moderators' log, and the sender's `ref`."""

    reason: Reason = ""
    ref: Ref | UnsetType = UNSET


class Edit(Act, tag="edit", kw_only=True):
    message: Seq
    text: str


class Delete(Act, tag="delete", kw_only=True):
    message: Seq


class React(Act, tag="react", kw_only=True):
    message: Seq
    kind: str
    on: bool = True


class GiveRole(Act, tag="role", kw_only=True):
    person: PersonId
    role: Role


class Mute(Act, tag="mute", kw_only=True):
    person: PersonId
    seconds: Seconds  # 0 lifts it


class Ban(Act, tag="ban", kw_only=True):
    person: PersonId
    seconds: Seconds | None = None  # None: for good; 0 lifts it, with that of his address
    address: bool = False  # his address, too; needs an end
    purge: bool = False  # and all he said


class Kick(Act, tag="kick", kw_only=True):
    person: PersonId


class Purge(Act, tag="purge", kw_only=True):
    person: PersonId


class SetRules(Act, tag="rules", kw_only=True):
    """What is named changes; the rest stays."""

    slow_s: Annotated[int, Meta(ge=0, le=6 * 3600)] | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    locked: bool | UnsetType = UNSET
    links: Links | UnsetType = UNSET
    announcement: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET  # "" takes it down
    edit_s: Seconds | UnsetType = UNSET
    keep_s: Seconds | UnsetType = UNSET
    keep_events: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | UnsetType = UNSET


class Raid(Act, tag="raid", kw_only=True):
    seconds: Annotated[int, Meta(ge=0, le=24 * 3600)]  # 0 ends it


class Pattern(Struct):
    """One line of a filter: a word or, with `is_regex`, an RE2 pattern; `action`: refuse what it finds, or hold it."""

    pattern: Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]
    is_regex: bool = False
    action: Literal["refuse", "hold"] = "refuse"


class SetFilter(Act, tag="filter", kw_only=True):
    patterns: Annotated[list[Pattern], Meta(max_length=MAX_PATTERNS)]


class MakeInvite(Act, tag="invite", kw_only=True):
    seconds: Annotated[int, Meta(ge=60, le=MAX_SECONDS)]
    uses: Annotated[int, Meta(ge=1, le=10_000)] = 1
    role: Literal["", "owner"] = ""  # "owner": the link hands ownership to whoever follows it


class Revoke(Act, tag="revoke", kw_only=True):
    invite: Annotated[str, Meta(min_length=1, max_length=32)]
    put_out: bool = False  # who came by it, too


class SetPassword(Act, tag="password", kw_only=True):
    password: Annotated[str, Meta(max_length=128)]  # "" takes it away


class Review(Act, tag="review", kw_only=True):
    held: Seq
    show: bool


# What moderators ask


class AskActs(Struct, tag="acts"):
    before: Seq | UnsetType = UNSET
    person: PersonId | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    ref: Ref | UnsetType = UNSET


class AskHeld(Struct, tag="held"):
    ref: Ref | UnsetType = UNSET


class AskPerson(Struct, tag="person"):
    person: PersonId
    before: Seq | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=100)] = 30
    ref: Ref | UnsetType = UNSET


class AskOrder(Struct, tag="order"):
    ref: Ref | UnsetType = UNSET


AnyAct = (
    Edit
    | Delete
    | React
    | GiveRole
    | Mute
    | Ban
    | Kick
    | Purge
    | SetRules
    | Raid
    | SetFilter
    | MakeInvite
    | Revoke
    | SetPassword
    | Review
)
ModeratorsQuestion = AskActs | AskHeld | AskPerson | AskOrder
ClientFrame = Say | History | People | Typing | Rename | AnyAct | ModeratorsQuestion


# Server to client


class Limits(Struct):
    text: int
    frame: int
    rate: float
    burst: float
    history: int


class Announcement(Struct):
    text: str
    by: Person
    at: int


class Rules(Struct, omit_defaults=True):
    """What holds for everybody in a room; times in seconds, moments in ms, 0 for no limit."""

    slow_s: int = 0  # between two messages of one person
    read_only: bool = False  # moderators alone speak
    locked: bool = False  # nobody new
    links: Links = "on"
    announcement: Announcement | None = None
    edit_s: int = 3600  # how long one may edit what one said
    keep_s: int = 0
    keep_events: int = 0
    raid_until: int = 0  # until then it is slow, without links, and newcomers are muted


class RoleOf(Struct):
    """Somebody who has a role here."""

    id: str
    name: str
    role: str


class Me(Struct):
    """How a person stands in the room, as he himself is told."""

    id: str
    name: str
    role: str | UnsetType = UNSET  # "moderator", "owner" or "operator"
    muted_until: int | UnsetType = UNSET
    muted_for: str | UnsetType = UNSET  # the reason


class Welcome(Struct, tag="welcome"):
    room: str
    epoch: str
    head: int
    now: int
    you: Me
    present: int
    limits: Limits
    rules: Rules
    roles: list[RoleOf]
    resumed: str | UnsetType = UNSET


class Reaction(Struct):
    """How many reacted to a message in one way, and the first of them."""

    kind: str
    n: int
    by: list[Person]


# Events


class Message(Struct, tag="message"):
    seq: int
    at: int
    by: Person
    text: str
    reply_to: int | UnsetType = UNSET
    edited: int | UnsetType = UNSET  # when, ms
    edit: int | UnsetType = UNSET  # the seq of the newest edit, the only one that has its text
    reactions: list[Reaction] | UnsetType = UNSET


class Edited(Struct, tag="edit"):
    seq: int
    at: int
    by: Person
    message: int
    text: str


class Deleted(Struct, tag="delete"):
    seq: int
    at: int
    message: int
    by: Person | UnsetType = UNSET


class Purged(Struct, tag="purge"):
    """All that `person` said before this event is gone."""

    seq: int
    at: int
    person: str
    by: Person | UnsetType = UNSET


class MessageReactions(Struct):
    message: int
    reactions: list[Reaction]


class Reacted(Struct, tag="reactions"):
    """The reactions to some messages, as they are now."""

    seq: int
    at: int
    changes: list[MessageReactions]


class RulesChanged(Struct, tag="rules"):
    seq: int
    at: int
    by: Person
    rules: Rules


class RoleGiven(Struct, tag="role"):
    seq: int
    at: int
    by: Person
    whom: Person
    role: Role


class Acted(Struct, tag="act"):
    """A person was muted, banned or kicked; `until` in ms, 0 when it was lifted, absent for good."""

    seq: int
    at: int
    act: Literal["mute", "ban", "kick"]
    by: Person
    whom: Person
    until: int | UnsetType = UNSET


class Trimmed(Struct, tag="trim"):
    """All events below `before` were too old to be kept."""

    seq: int
    at: int
    before: int


class Removed(Struct, tag="removed"):
    """What is left of an event that was removed, or of an edit that a later one replaced: its place."""

    seq: int
    at: int


# For one member


class Ack(Struct, tag="ack"):
    client_id: str
    seq: int


class Done(Struct, tag="done"):
    """An act is stored; `seq` of its event, absent if it has none."""

    ref: Ref | UnsetType = UNSET
    seq: int | UnsetType = UNSET


class Presence(Struct, tag="presence"):
    present: int
    joined: list[Person] = []
    left: list[str] = []
    renamed: list[Person] = []


class You(Me, tag="you"):
    pass


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
    """Whether the log takes messages; `epoch`: the one to resume in from now on, if that is another."""

    storing: bool
    epoch: str | UnsetType = UNSET


class Bye(Struct, tag="bye"):
    retry_after: float


class Out(Struct, tag="out"):
    """Put out, or not let in: the socket closes with 1008; `until` in ms, absent: for good, or for a kick."""

    why: Literal["kick", "ban", "revoke"] | Bar
    until: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class Error(Struct, tag="error"):
    code: str
    message: str
    client_id: str | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET
    retry_after: float | UnsetType = UNSET


# For moderators


class Record(Struct, omit_defaults=True):
    """One line of the moderators' log; `until` in ms, -1 for good."""

    act: str
    by: Person
    at: int = 0
    id: int = 0
    whom: Person | None = None
    until: int = 0
    reason: str = ""
    message: int = 0
    detail: str = ""


class Acts(Struct, tag="acts"):
    acts: list[msgspec.Raw]
    more: bool
    ref: Ref | UnsetType = UNSET


class Waiting(Struct, tag="waiting"):
    """How many messages wait for review; told to moderators when it changes."""

    held: int


class HeldMessage(Struct):
    id: int
    at: int
    by: Person
    text: str
    why: str
    reply_to: int | UnsetType = UNSET


class HeldMessages(Struct, tag="held"):
    held: list[HeldMessage]
    ref: Ref | UnsetType = UNSET


class PersonCard(Struct, tag="person"):
    """What a moderator sees of somebody; `from_address`: how many people his address has in the room."""

    id: str
    name: str
    role: str
    here: bool
    from_address: int
    events: list[msgspec.Raw]
    more_before: bool
    muted_until: int | UnsetType = UNSET
    muted_for: str | UnsetType = UNSET  # the reason
    banned_until: int | UnsetType = UNSET
    banned_for: str | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET


class Invite(Struct):
    """A link by which people come in; `until` in ms."""

    id: str
    by: Person
    at: int
    until: int
    uses: int
    used: int = 0
    role: str = ""


class Invited(Struct, tag="invite"):
    """The answer to the act `invite`: `path` is to be put behind the page's origin."""

    invite: Invite
    path: str
    ref: Ref | UnsetType = UNSET


class Restraint(Struct):
    """A mute or a ban that holds; `until` in ms, -1 for good."""

    act: Literal["mute", "ban"]
    whom: Person
    until: int
    reason: str = ""
    address: bool = False


class OrderPage(Struct, tag="order"):
    """The room's order as its moderators see it."""

    rules: Rules
    roles: list[RoleOf]
    restraints: list[Restraint]
    patterns: list[Pattern]
    invites: list[Invite]
    closed: bool
    has_password: bool
    held: int
    ref: Ref | UnsetType = UNSET


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
        elif type(frame) is Edit:
            frame.text = checked_text(frame.text)
        elif type(frame) is React:
            _check_reaction(frame)
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


def _check_reaction(frame: React) -> None:
    if frame.kind not in REACTIONS:
        raise ProtocolError("bad_frame", f"`kind` is one of {' '.join(REACTIONS)}.")


def _refusal(complaint: str) -> ProtocolError:
    """Turn msgspec's complaint ("… - at `$.text`") into a refusal that names the field."""
    what, at, where = complaint.rpartition(" - at `$")
    if not at:
        return ProtocolError("bad_frame", f"{complaint}.")
    field = where.rstrip("`").lstrip(".")
    if field == "type" and what.startswith("Invalid value"):
        return ProtocolError("unknown_type", f"The type of a frame is one of those in docs/protocol.md: {what}.")
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
