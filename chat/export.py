"""A room to take away: all of its log as JSON lines, or what was said in it as one page that needs nothing else.

Knows rooms through a `Host`, their logs by pages. Invariant: however long a room is and however slowly it is read, one
page of it is in memory; and what breaks off does not look as if it were whole.
"""

import asyncio
import base64
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import quote

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from chat import http
from chat.doors import Host
from chat.limits import RateLimit
from chat.protocol import MAX_PAGE_EVENTS, Event, Message, decode_message

PAGE_BYTES = 64 * 1024  # compressed in two milliseconds, so that the loop hardly waits
MOST_AT_ONCE = 16
_QUOTES = 1000  # messages of which a reply further down can show the beginning
_QUOTE_LENGTH = 120  # code points
_STYLE = (http.TEMPLATES / "export" / "page.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_ROWS = "<!-- rows -->"  # in the page's frame, in whose place the messages go


class Head(NamedTuple):
    """Which part of a room is taken, and when."""

    room: str
    epoch: str
    head: int
    exported_at: int


class Format(Protocol):
    """A way to write a room down."""

    type: str
    at_once: int  # events written in one turn of the loop

    def begin(self) -> bytes: ...
    def rows(self, events: list[Event]) -> bytes: ...
    def end(self) -> bytes: ...


class JsonLines:
    """The head, then every event as it is stored."""

    type = "application/x-ndjson"
    at_once = MAX_PAGE_EVENTS

    def __init__(self, head: Head, render: Callable[..., bytes]) -> None:
        self._head = head

    def begin(self) -> bytes:
        return msgspec.json.encode(self._head._asdict()) + b"\n"

    def rows(self, events: list[Event]) -> bytes:
        return b"".join(event.body + b"\n" for event in events)

    def end(self) -> bytes:
        return b""


class Row(NamedTuple):
    """A message as the page shows it."""

    message: Message
    day: str  # if it is the first of its day
    said: datetime
    answered: str  # the beginning of what it answers; "" if that is far above, or gone


class Page:
    """The messages, as people read them."""

    type = "text/html; charset=UTF-8"
    at_once = 40  # three milliseconds

    def __init__(self, head: Head, render: Callable[..., bytes]) -> None:
        self._render = render
        taken = _moment(head.exported_at)
        frame = render("export/page.html", head=head, taken=taken, style=_STYLE, style_hash=_STYLE_HASH)
        self._frame = frame.partition(_ROWS.encode())
        self._day = ""
        self._beginnings: OrderedDict[int, str] = OrderedDict()

    def begin(self) -> bytes:
        return self._frame[0]

    def rows(self, events: list[Event]) -> bytes:
        rows = [self._row(message) for event in events if (message := _said(event)) is not None]
        return self._render("export/rows.html", rows=rows) if rows else b""

    def end(self) -> bytes:
        return self._frame[2]

    def _row(self, message: Message) -> Row:
        said = _moment(message.at)
        day = f"{said:%Y-%m-%d}"
        is_first, self._day = day != self._day, day
        answered = self._beginnings.get(message.reply_to, "") if isinstance(message.reply_to, int) else ""
        self._remember(message)
        return Row(message, day if is_first else "", said, answered)

    def _remember(self, message: Message) -> None:
        self._beginnings[message.seq] = f"{message.by.name}: {message.text[:_QUOTE_LENGTH]}"
        if len(self._beginnings) > _QUOTES:
            self._beginnings.popitem(last=False)


def _said(event: Event) -> Message | None:
    """The message that an event is, if it is one: what was removed, and acts, are none."""
    try:
        return decode_message(event.body)
    except msgspec.ValidationError:
        return None


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


FORMATS: dict[str, type[JsonLines] | type[Page]] = {"jsonl": JsonLines, "html": Page}


class Export(http.Asked):
    """`GET /api/rooms/NAME/export?format=jsonl` or `html`, for the room's owners and the operator."""

    under_way: ClassVar[int] = 0

    def initialize(self, asks: RateLimit, now_s: Callable[[], float], host: Host) -> None:  # type: ignore[override]
        super().initialize(asks, now_s)
        self.host = host

    async def get(self, name: str) -> None:
        room, format = self.room_name(name), self.argument("format", "jsonl")
        if format not in FORMATS:
            raise HTTPError(400, "`format` is jsonl or html.")
        self.refuse_if_too_often()
        await self._check_right(room)
        if Export.under_way >= MOST_AT_ONCE:
            raise http.Unavailable(503, "Too many rooms are being taken away; try again later.", 60)
        Export.under_way += 1
        try:
            await self._send(room, format)
        except StreamClosedError:
            pass  # whoever asked is gone
        finally:
            Export.under_way -= 1

    async def _check_right(self, room: str) -> None:
        await self.settings["admission"](self, room)
        person_id = self.known_person()
        async with self.host.hosted(room) as hosted:
            is_owner = hosted.acts.order.role_of(person_id) == "owner"
        if not is_owner and not self.is_operator_for(person_id):
            raise http.Refused("This is for the room's owners.", "forbidden")

    async def _send(self, room: str, format: str) -> None:
        log = self.host.event_log
        head = Head(room, log.epoch, await log.head(room), time.time_ns() // 1_000_000)
        writing: Format = FORMATS[format](head, self._rendered)
        self.set_header("Content-Type", writing.type)
        self.set_header("Content-Security-Policy", http.FILE_POLICY)  # the page's own stands in it, for the disk
        self.set_header("Content-Disposition", attachment(f"{room}-{_moment(head.exported_at):%Y-%m-%d}.{format}"))
        self.write(writing.begin())
        await self.flush()
        try:
            await self._send_rows(head, writing)
        except BaseException:
            self._break_off()
            raise
        self.finish(writing.end())

    async def _send_rows(self, head: Head, writing: Format) -> None:
        """One page after the other, the next when the kernel has taken the last."""
        async for events in self._pages(head):
            for start in range(0, len(events), writing.at_once):
                if rows := writing.rows(events[start : start + writing.at_once]):
                    self.write(rows)
                    await self.flush()
                await asyncio.sleep(0)  # what the kernel takes at once is no wait

    async def _pages(self, head: Head) -> AsyncIterator[list[Event]]:
        seq = 0
        while seq < head.head:
            found = await self.host.event_log.after(head.room, seq, MAX_PAGE_EVENTS, PAGE_BYTES)
            events = [event for event in found.events if event.seq <= head.head]
            if not events:
                return
            yield events
            seq = events[-1].seq

    def _break_off(self) -> None:
        """Close without the last chunk, so that nobody takes what he has for the whole."""
        connection: Any = self.request.connection
        connection.stream.close()

    def _rendered(self, template: str, **values: object) -> bytes:
        language = self._language()
        t = partial(self._languages.sentence, language)
        return self.render_string(template, language=language, t=t, **values)


def attachment(name: str) -> str:
    """The header that has a browser keep an answer under a name (RFC 6266), whatever a room is called."""
    name = re.sub(r'[<>:"/\\|?*]', "-", name)  # what a file's name may not have on some system
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return f"attachment; filename=\"chatroom-{plain}\"; filename*=UTF-8''chatroom-{quote(name, safe='')}"
