"""Plain HTTP: the pages, the static files, QR codes, the history, health and metrics.

Owns what every answer carries (security headers, readable errors, the person's cookie, his language). Knows
the event log but no room and no socket; whether sockets are refused, who may come into a room, and where others reach
this server, it is told by functions in the application's settings. Invariant: no answer shows a traceback, and none is
cached that should not be.
"""

import asyncio
import functools
import io
import ipaddress
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import msgspec
import segno
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from chat import identity
from chat.assets import Assets
from chat.eventlog import EventLog, Slice
from chat.languages import ENGLISH, Languages
from chat.limits import RateLimit
from chat.protocol import MAX_INTEGER, MAX_PAGE_EVENTS, ProtocolError

log = logging.getLogger("chatroom")

COOKIE = "chatroom"
COOKIE_DAYS = 400  # the longest that browsers keep one
OPERATOR_COOKIE, OPERATOR_DAYS = "chatroom_operator", 30
THEMES = ("light", "dark")  # without a choice it is the system's
FILE_POLICY = "default-src 'none'; frame-ancestors 'self'"  # short, as a page loads dozens of files
CODE_S = 600  # how long a browser keeps a QR code: this machine's address may change

TEMPLATES = Path(__file__).parent.parent / "templates"


class Refusal(NamedTuple):
    """Why no more sockets are taken at the moment."""

    status: int
    reason: str  # a word for the metrics
    sentence: str
    retry_after_s: int


class Answer(RequestHandler):
    """What all answers have in common."""

    def set_default_headers(self) -> None:
        self.set_header("Server", "chatroom")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Content-Security-Policy", content_security_policy(self.request.host))
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A plain page, or JSON for programs; the exception's own words only where we wrote them."""
        error = kwargs.get("exc_info", (None, None))[1]
        specific = (isinstance(error, HTTPError) and error.log_message) or None
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", str(error.retry_after_s))
        if status_code == 426:  # RFC 6455 section 4.4
            self.set_header("Sec-WebSocket-Version", "13")
        if f"{self.request.path}/".startswith(f"{self.base}/api/"):
            details = error.details if isinstance(error, Refused) else {}
            self.finish({"error": specific or self._sentence(ENGLISH, status_code), **details})
        else:
            language = self._language()
            ours = specific if language == ENGLISH else None
            reason = ours or self._sentence(language, status_code)
            # No cookie goes with it: a form of another site comes without its person's, who would lose it to a new one.
            Answer.show_page(self, "error.html", status=status_code, reason=reason)

    def show_page(self, template: str, **values: Any) -> None:
        """A page in the person's language; its template gets what is common to all."""
        assets, languages, language = self._assets, self._languages, self._language()
        self.set_header("Content-Language", language)
        self.set_header("Vary", "Accept-Language, Cookie")
        self.render(
            template,
            language=language,
            languages=languages.names,
            t=functools.partial(languages.sentence, language),
            words=languages.script(language),
            theme=self._theme(),
            base=self.base,
            static_base=assets.base,
            modules=assets.modules,
            **values,
        )

    @property
    def base(self) -> str:
        """The path under which everything of this server is."""
        path: str = self.settings["base_path"]
        return path

    @property
    def _assets(self) -> Assets:
        assets: Assets = self.settings["assets"]
        return assets

    @property
    def _languages(self) -> Languages:
        languages: Languages = self.settings["languages"]
        return languages

    # The pages write the cookies `language` and `theme` themselves: what stands in them is anybody's word.

    def _language(self) -> str:
        accepted = self.request.headers.get("Accept-Language", "")
        return self._languages.choose(self.get_cookie("language"), accepted)

    def _theme(self) -> str:
        theme = self.get_cookie("theme") or ""
        return theme if theme in THEMES else ""

    def say(self, key: str, **values: object) -> str:
        """A sentence in the person's language."""
        return self._languages.sentence(self._language(), key, **values)

    def _sentence(self, language: str, status: int) -> str:
        key = f"error_page.{status}"
        if self._languages.has(key):
            return self._languages.sentence(language, key)
        return f"{HTTPStatus(status).phrase}."

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """One traceback for a fault of ours, nothing for a refusal."""
        if not isinstance(value, HTTPError | ProtocolError):
            log.error("fault in %s %s", self.request.method, ascii(self.request.path), exc_info=(typ, value, tb))

    def _handle_request_exception(self, error: BaseException) -> None:
        """A log that is away at the moment is no fault of ours."""
        if isinstance(error, ProtocolError) and error.code == "away":
            error = Unavailable(503, error.sentence, math.ceil(error.retry_after or 1))
        super()._handle_request_exception(error)

    def argument(self, name: str, default: str | None = None) -> str | None:
        """A query argument as it was sent: Tornado's own accessor blanks control characters out."""
        values = self.request.query_arguments.get(name)
        return as_text(name, values[-1]) if values else default

    def integer(self, name: str, most: int = MAX_INTEGER) -> int | None:
        """An integer argument from 0 to `most`; raises HTTPError 400."""
        text = self.argument(name)
        if text is None:
            return None
        if not re.fullmatch("[0-9]{1,16}", text) or int(text) > most:
            raise HTTPError(400, f"`{name}` is an integer from 0 to {most}.")
        return int(text)

    def room_name(self, name: str) -> str:
        try:
            return identity.room_name(name)
        except ProtocolError as error:
            raise HTTPError(400, error.sentence) from None

    def known_person(self) -> str:
        """Who asks, if he shows a token; "" if he shows none."""
        token = self.get_signed_cookie(COOKIE, max_age_days=COOKIE_DAYS)
        return identity.person_id(token) if token else ""

    def recognise(self) -> str:
        """Who asks; whoever has no token yet gets one with this answer."""
        if known := self.known_person():
            return known
        token = secrets.token_urlsafe(16).encode()
        self._hand_out(token)
        return identity.person_id(token)

    def renew_cookie(self) -> None:
        """Let the token live on from today."""
        if token := self.get_signed_cookie(COOKIE, max_age_days=COOKIE_DAYS):
            self._hand_out(token)
        else:
            self.recognise()

    def _hand_out(self, token: bytes) -> None:
        self.keep_signed(COOKIE, token, COOKIE_DAYS)

    def keep_signed(self, name: str, value: bytes, days: int) -> None:
        """Have the browser keep what no script of a page may read and nobody can forge."""
        # Written as it is: what http.cookies adds is a tenth of a handshake's time.
        signed = self.create_signed_value(name, value).decode()
        secure = "; Secure" if is_https(self.request) else ""
        self.add_header(
            "Set-Cookie",
            f"{name}={signed}; Max-Age={days * 86400}; Path={self.base or '/'}; HttpOnly; SameSite=Lax{secure}",
        )

    def is_operator_for(self, person_id: str) -> bool:
        """Whether this browser was made the operator's while it was this person's."""
        named = self.get_signed_cookie(OPERATOR_COOKIE, max_age_days=OPERATOR_DAYS)
        return named is not None and named == person_id.encode()


class Unavailable(HTTPError):
    """Refused for the moment, with `Retry-After`."""

    def __init__(self, status: int, sentence: str, retry_after_s: int) -> None:
        super().__init__(status, sentence)
        self.retry_after_s = retry_after_s


class Refused(HTTPError):
    """Somebody may not see or do this; `details` tells programs why."""

    def __init__(self, sentence: str, code: str, until: int | None = None, reason: str = "") -> None:
        super().__init__(403, sentence)
        details = {"code": code, "until": until, "reason": reason or None}
        self.code = code
        self.details = {name: value for name, value in details.items() if value is not None}


def as_text(name: str, value: bytes) -> str:
    """What came as an argument or in a form's field; raises HTTPError 400."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPError(400, f"`{name}` is not UTF-8.") from None


def content_security_policy(host: str) -> str:
    """Only our own files and no text made into markup; the sockets are named, as not every browser counts them in."""
    sockets = f" ws://{host} wss://{host}" if is_host(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self'{sockets}; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def is_host(host: str) -> bool:
    """Whether the header Host has what may stand in a policy and in a link."""
    return re.fullmatch(r"[A-Za-z0-9.:\[\]_-]{1,255}", host) is not None


def is_loopback(host_name: str) -> bool:
    """Whether a host, without its port, is this machine for whoever asks."""
    try:
        return ipaddress.ip_address(host_name.strip("[]")).is_loopback
    except ValueError:
        return host_name == "localhost" or host_name.endswith(".localhost")


# Who asks, and through what: what trusted proxies say of it stands in the request already (chat/proxies.py).


def is_https(request: HTTPServerRequest) -> bool:
    return request.protocol == "https"


def address_of(request: HTTPServerRequest) -> str:
    return str(request.remote_ip)


# Pages


class Page(Answer):
    """A page for people, each of whom it lets keep his identity."""

    def show_page(self, template: str, problem: str = "", **values: Any) -> None:
        """`problem`: the sentence that says what was wrong with the form that was sent."""
        self.renew_cookie()
        # With no-referrer browsers send a form with the Origin `null`, as if it came from another site.
        self.set_header("Referrer-Policy", "same-origin")
        super().show_page(template, problem=problem, **values)

    def show_door(self, room: str, invite: str = "", problem: str = "") -> None:
        self.show_page("door.html", problem, room=room, invite=invite)

    def head(self) -> Awaitable[None] | None:
        return self.get()

    def get(self) -> Awaitable[None] | None:
        raise NotImplementedError


class RoomPage(Page):
    async def get(self) -> None:
        room = self.room_name(self.argument("room", "default") or "")
        if identity.is_closed(room):
            try:
                await self.settings["admission"](self, room)
            except Refused:
                self.set_status(403)
                self.show_door(room)
                return
        self.show_page("room.html", room=room, share=shared_origin(self))


class RoomsPage(Page):
    def get(self) -> None:
        self.show_page("rooms.html")


class ModeratorsPart(Answer):
    """`GET /moderation`: what of the page only moderators have."""

    def get(self) -> None:
        self.show_page("moderation.html", moderators_words=self._languages.moderators_script(self._language()))


class ToBase(Answer):
    """The base path without its last slash, as people write it."""

    def head(self) -> None:
        self.get()

    def get(self) -> None:
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{self.base}/{query}", permanent=True)


class NotFound(Answer):
    def prepare(self) -> None:
        raise HTTPError(404)


def shared_origin(handler: Answer) -> str:
    """Where others reach this server, if the address it was asked by means another machine for each of them."""
    if not is_loopback(handler.request.host_name):
        return ""
    origin: str = handler.settings["shared_origin"]()
    return origin


class StaticFile(Answer):
    """A static file, under the hash of them all, which browsers keep for ever."""

    _tag: str | None = None

    def compute_etag(self) -> str | None:
        """Known, where Tornado would compute one for each answer."""
        return self._tag

    def head(self, version: str, path: str) -> None:
        self.get(version, path)

    def get(self, version: str, path: str) -> None:
        found = self._assets.files.get(path)
        if found is None:
            raise HTTPError(404)
        self.set_header("Content-Type", found.type)
        self._tag = found.tag
        self.set_header("Content-Security-Policy", FILE_POLICY)
        is_ours = version == self._assets.version  # else it is for the page of another version
        self.set_header("Cache-Control", "max-age=31536000, immutable" if is_ours else "no-cache")
        if found.packed is not None and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            self.finish(found.packed)
        else:
            self.finish(found.body)


# Programs


class Asked(Answer):
    """What one person, or one address, may ask for so often only."""

    def initialize(self, asks: RateLimit, now_s: Callable[[], float]) -> None:
        self.asks = asks
        self.now_s = now_s

    def refuse_if_too_often(self) -> None:
        if wait_s := self.asks.wait_s(self._who(), self.now_s()):
            raise Unavailable(429, "You ask too often; try again in a moment.", int(wait_s) + 1)

    def _who(self) -> str:
        """Whose asking is limited: the person's if he shows a token, else his address'."""
        return self.known_person() or address_of(self.request)


class MessagesApi(Asked):
    """`GET /api/rooms/NAME/messages`: the room's history for programs."""

    def initialize(self, asks: RateLimit, now_s: Callable[[], float], event_log: EventLog) -> None:  # type: ignore[override]
        super().initialize(asks, now_s)
        self.event_log = event_log

    async def get(self, name: str) -> None:
        refuse_as_sockets_are(self)
        room = self.room_name(name)
        before, after = self.integer("before"), self.integer("after")
        limit = self.integer("limit", MAX_PAGE_EVENTS)
        if limit == 0 or (before is not None and after is not None):
            raise HTTPError(400, f"Ask with `before` or with `after`, and for 1 to {MAX_PAGE_EVENTS} messages.")
        self.refuse_if_too_often()
        await self.settings["admission"](self, room)
        await self._answer(room, before, after, limit or 50)

    async def _answer(self, room: str, before: int | None, after: int | None, limit: int) -> None:
        head = await self.event_log.head(room)
        found: Slice
        if after is not None:
            found = await self.event_log.after(room, after, limit)
        else:
            found = await self.event_log.before(room, before, limit)
        # Nothing is waited for between the reading and the answer: what is removed meanwhile would go out all the same.
        body = {
            "room": room,
            "epoch": self.event_log.epoch,
            "head": max(head, found.events[-1].seq) if found.events else head,
            "events": [msgspec.Raw(event.body) for event in found.events],
            "more": found.more_before if after is None else found.more_after,
        }
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(msgspec.json.encode(body))


def refuse_as_sockets_are(handler: Answer) -> None:
    """Answer as the socket would: a browser cannot see why its handshake was refused."""
    refusal: Refusal | None = handler.settings["refusal"](handler.request)
    if refusal is not None:
        raise Unavailable(refusal.status, refusal.sentence, refusal.retry_after_s)


class QrCode(Asked):
    """`GET /qr.svg?room=NAME`: the link to a room for the camera of a phone."""

    # Drawing takes 5 to 130 ms, by the length of the link: not on the loop, and one at a time.
    drawing = ThreadPoolExecutor(1, "qr")
    waiting: ClassVar[int] = 0

    async def head(self) -> None:
        await self.get()

    async def get(self) -> None:
        room = self.room_name(self.argument("room", "default") or "")
        link = f"{self._origin()}{self.base}/?room={quote(room, safe=UNQUOTED)}"
        self.refuse_if_too_often()
        code = await self._drawn(link)
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Cache-Control", f"private, max-age={CODE_S}")
        self.finish(code)

    async def _drawn(self, link: str) -> bytes:
        """The code, unless too many are waited for: tokens cost nothing, so that no limit a person bounds this."""
        if QrCode.waiting >= MOST_WAITING_CODES:
            raise Unavailable(503, "Too many codes are being drawn; try again in a moment.", 2)
        QrCode.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.drawing, qr_code, link)
        finally:
            QrCode.waiting -= 1

    def _who(self) -> str:
        return address_of(self.request)

    def _origin(self) -> str:
        """Where the room is: where it was asked for, or with `share=1` where others reach it."""
        if self.argument("share") == "1" and (shared := shared_origin(self)):
            return shared
        if not is_host(self.request.host):
            raise HTTPError(400, "This host cannot stand in a link.")
        return f"{'https' if is_https(self.request) else 'http'}://{self.request.host}"


MOST_WAITING_CODES = 8
UNQUOTED = "!*'()"  # what encodeURIComponent leaves besides what `quote` does: pages write the link so


@functools.lru_cache(64)
def qr_code(link: str) -> bytes:
    """The SVG, black on white whatever the page's colours: cameras want it so."""
    file = io.BytesIO()
    colours = {"dark": "#000", "light": "#fff"}
    bare = {"xmldecl": False, "nl": False, "omitsize": True, "svgclass": None, "lineclass": None}
    segno.make_qr(link).save(file, kind="svg", border=4, **colours, **bare)
    return file.getvalue()


class Health(Answer):
    """`GET /healthz`: 200 while the server can store and deliver; it tries to."""

    def initialize(self, event_log: EventLog, is_draining: Callable[[], bool]) -> None:
        self.event_log = event_log
        self.is_draining = is_draining

    async def head(self) -> None:
        await self.get()

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        try:
            if self.is_draining():
                raise OSError("the server is going down")
            await self.event_log.probe()
        except OSError as error:
            self.set_status(503)
            self.finish(f"{error}\n")
        else:
            self.finish("ok\n")


class Metrics(Answer):
    """`GET /metrics`: what was counted, by all processes that share the port, for Prometheus."""

    def initialize(self, counted: Callable[[], CollectorRegistry]) -> None:
        self.counted = counted

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.counted()))


def log_request(handler: RequestHandler) -> None:
    """Ordinary requests are for the proxy's log; here only what failed by our fault is told."""
    if handler.get_status() >= 500 and handler.get_status() != 503:
        log.error("%d %s %s", handler.get_status(), handler.request.method, ascii(handler.request.path))
