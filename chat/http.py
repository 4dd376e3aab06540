"""Plain HTTP: the pages, the static files, the history, health and metrics.

Owns what every answer carries (security headers, readable errors, the person's cookie). Knows
the event log but no room and no socket; whether sockets are refused it is told by a function in
the application's settings. Invariant: no answer shows a traceback, and none is cached that
should not be.
"""

import hashlib
import ipaddress
import logging
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from chat import identity
from chat.eventlog import EventLog, Slice
from chat.limits import RateLimit
from chat.protocol import MAX_INTEGER, MAX_PAGE_EVENTS, ProtocolError

log = logging.getLogger("chatroom")

COOKIE = "chatroom"
COOKIE_DAYS = 400  # the longest that browsers keep one

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"


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
        sentence = (isinstance(error, HTTPError) and error.log_message) or _phrase(status_code)
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", str(error.retry_after_s))
        if f"{self.request.path}/".startswith("/api/"):
            self.finish({"error": sentence})
        else:
            static = self.settings["static_base"]
            self.render("error.html", static_base=static, status=status_code, reason=sentence)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """One traceback for a fault of ours, nothing for a refusal."""
        if not isinstance(value, HTTPError):
            log.error("fault in %s %s", self.request.method, ascii(self.request.path), exc_info=(typ, value, tb))

    def argument(self, name: str, default: str | None = None) -> str | None:
        """A query argument as it was sent: Tornado's own accessor blanks control characters out."""
        values = self.request.query_arguments.get(name)
        if not values:
            return default
        try:
            return values[-1].decode("utf-8")
        except UnicodeDecodeError:
            raise HTTPError(400, f"`{name}` is not UTF-8.") from None

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

    def recognise(self) -> str:
        """Who asks; whoever has no token yet gets one with this answer."""
        token = self.get_signed_cookie(COOKIE, max_age_days=COOKIE_DAYS)
        if token is None:
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
        secure = is_https(self.request)
        self.set_signed_cookie(COOKIE, token, expires_days=COOKIE_DAYS, httponly=True, samesite="Lax", secure=secure)


class Unavailable(HTTPError):
    """Refused for the moment, with `Retry-After`."""

    def __init__(self, status: int, sentence: str, retry_after_s: int) -> None:
        super().__init__(status, sentence)
        self.retry_after_s = retry_after_s


def _phrase(status: int) -> str:
    return {
        403: "This page may not be opened from there.",
        404: "There is nothing at this address.",
        405: "This address cannot be used that way.",
    }.get(status, HTTPStatus(status).phrase + ".")


def content_security_policy(host: str) -> str:
    """Only our own files; the sockets are named, as not every browser counts them to 'self'."""
    sockets = f" ws://{host} wss://{host}" if re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self'{sockets}; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


# Who asks, and through what: a proxy's word counts only if the proxy is on this machine.


def is_https(request: HTTPServerRequest) -> bool:
    if _is_local_proxy(request):
        return request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower() == "https"
    return request.protocol == "https"


def address_of(request: HTTPServerRequest) -> str:
    """The address a request came from, as far as it can be believed."""
    if _is_local_proxy(request):
        said = request.headers.get("X-Forwarded-For") or request.headers.get("X-Real-Ip", "")
        last = said.split(",")[-1].strip()
        try:
            return str(ipaddress.ip_address(last))
        except ValueError:
            pass
    return str(request.remote_ip)


def _is_local_proxy(request: HTTPServerRequest) -> bool:
    try:
        return ipaddress.ip_address(str(request.remote_ip)).is_loopback
    except ValueError:
        return False


# Pages


class Page(Answer):
    """A page of the room server; its template gets what is common to all."""

    def show(self, template: str, **values: Any) -> None:
        self.renew_cookie()
        self.render(template, static_base=self.settings["static_base"], **values)


class RoomPage(Page):
    def head(self) -> None:
        self.get()

    def get(self) -> None:
        room = self.argument("room", "default")
        assert room is not None
        self.show("room.html", room=self.room_name(room))


class RoomsPage(Page):
    def head(self) -> None:
        self.get()

    def get(self) -> None:
        self.show("rooms.html")


class NotFound(Answer):
    def prepare(self) -> None:
        raise HTTPError(404)


class HashedStatic(StaticFileHandler):
    """Static files under the hash of them all, kept by browsers for ever; modules import relatively."""

    def set_default_headers(self) -> None:
        Answer.set_default_headers(self)  # type: ignore[arg-type]
        self.clear_header("Cache-Control")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(_phrase(status_code))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        Answer.log_exception(self, typ, value, tb)  # type: ignore[arg-type]

    def prepare(self) -> None:
        if "\0" in self.path_args[0]:  # no file has such a name, and asking for one is a ValueError
            raise HTTPError(404)

    def set_extra_headers(self, path: str) -> None:
        if self.request.path.startswith(self.settings["static_base"] + "/"):
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        else:
            self.set_header("Cache-Control", "no-cache")  # the page of another version


def static_hash(folder: Path = STATIC) -> str:
    """One hash over all static files, so that a page and its modules are always of one version."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


# Programs


class MessagesApi(Answer):
    """`GET /api/rooms/NAME/messages`: the room's history for programs."""

    def initialize(self, event_log: EventLog, asks: RateLimit, now_s: Callable[[], float]) -> None:
        self.event_log = event_log
        self.asks = asks
        self.now_s = now_s

    async def get(self, name: str) -> None:
        refuse_if_closed(self)
        room = self.room_name(name)
        before, after = self.integer("before"), self.integer("after")
        limit = self.integer("limit", MAX_PAGE_EVENTS)
        if limit == 0 or (before is not None and after is not None):
            raise HTTPError(400, f"Ask with `before` or with `after`, and for 1 to {MAX_PAGE_EVENTS} messages.")
        if wait_s := self.asks.wait_s(self._who(), self.now_s()):
            raise Unavailable(429, "You ask too often; try again in a moment.", int(wait_s) + 1)
        await self._answer(room, before, after, limit or 50)

    def _who(self) -> str:
        """Whose asking is limited: the person's if he shows a token, else his address'."""
        token = self.get_signed_cookie(COOKIE, max_age_days=COOKIE_DAYS)
        return identity.person_id(token) if token else address_of(self.request)

    async def _answer(self, room: str, before: int | None, after: int | None, limit: int) -> None:
        found: Slice
        if after is not None:
            found = await self.event_log.after(room, after, limit)
        else:
            found = await self.event_log.before(room, before, limit)
        body = {
            "room": room,
            "epoch": self.event_log.epoch,
            "head": await self.event_log.head(room),
            "events": [msgspec.Raw(event.body) for event in found.events],
            "more": found.more_before if after is None else found.more_after,
        }
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(msgspec.json.encode(body))


def refuse_if_closed(handler: Answer) -> None:
    """Answer as the socket would: a browser cannot see why its handshake was refused."""
    refusal: Refusal | None = handler.settings["refusal"](handler.request)
    if refusal is not None:
        raise Unavailable(refusal.status, refusal.sentence, refusal.retry_after_s)


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
    """`GET /metrics`: what this process has counted, for Prometheus."""

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


def log_request(handler: RequestHandler) -> None:
    """Ordinary requests are for the proxy's log; here only what failed by our fault is told."""
    if handler.get_status() >= 500 and handler.get_status() != 503:
        log.error("%d %s %s", handler.get_status(), handler.request.method, ascii(handler.request.path))
