"""The handshake: a member's way in, by websocket-client, up to the moment the reader takes the socket over.

Owns what is said before the first frame: the address, the subprotocol, the cookie, TLS. It knows no room and no figure.
Invariant: not one byte behind the server's answer has been read (websocket-client reads the answer byte by byte).
"""

import logging
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import websocket
from gevent import monkey
from websocket import _handshake
from websocket._cookiejar import SimpleCookieJar

from loadtest.adapters import Adapter

logging.getLogger("websocket").setLevel(logging.CRITICAL)  # it logs what it raises


class NoCookies(SimpleCookieJar):
    """What websocket-client keeps cookies for a whole domain in, for all sockets of a process: members share none."""

    def add(self, set_cookie: str | None) -> None:
        """Forget it; each member remembers his own."""


_handshake.CookieJar = NoCookies()

HANDSHAKE_S: Final = 20.0
STUCK_BUFFER_BYTES: Final = 4096

NativeSocket: Any = monkey.get_original("socket", "socket")


class Refused(Exception):
    """The member was not let in; the sentence says why."""


@dataclass(frozen=True)
class Door:
    """One server's door."""

    base: str  # ws://host:port
    adapter: Adapter
    insecure: bool = False

    def enter(
        self, room: str, place: dict[str, str], cookie: str, *, is_stuck: bool = False, source: str = ""
    ) -> tuple[Any, str]:
        """Shake hands; return the socket, non-blocking and free of gevent unless it is TLS, and the member's cookie.

        `source` is the address of this machine to come from (without TLS). Raises Refused.
        """
        ws = websocket.WebSocket(
            enable_multithread=False,
            skip_utf8_validation=True,
            sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False} if self.insecure else {},
            sockopt=_options(is_stuck),
        )
        try:
            ws.connect(  # type: ignore[no-untyped-call]
                self.adapter.url(self.base, room, place),
                timeout=HANDSHAKE_S,
                subprotocols=list(self.adapter.subprotocols),
                cookie=cookie or None,
                suppress_origin=True,
                redirect_limit=0,
                socket=self._connected_from(source) if source else None,
            )
            for text in self.adapter.hello(room):
                ws.send(text)
        except (OSError, websocket.WebSocketException, ValueError) as error:
            if ws.sock:
                ws.sock.close()
            raise Refused(reason(error)) from None
        cookie = (ws.getheaders() or {}).get("set-cookie", cookie).partition(";")[0]
        return _release(ws.sock), cookie

    def _connected_from(self, source: str) -> socket.socket:
        there = urlsplit(self.base)
        sock = socket.create_connection((str(there.hostname), there.port or 80), HANDSHAKE_S, (source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _options(is_stuck: bool) -> list[tuple[int, int, int]]:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if is_stuck:  # small segments and a small window: else the kernel swallows megabytes for him first
        options += [
            (socket.SOL_SOCKET, socket.SO_RCVBUF, STUCK_BUFFER_BYTES),
            (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000),
        ]
    return options


def _release(sock: Any) -> Any:
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(0)
        return sock
    return NativeSocket(fileno=sock.detach())


def reason(error: Exception) -> str:
    """Return in a few words why a handshake failed: the same words for the same cause, so that they can be counted."""
    if isinstance(error, websocket.WebSocketAddressException):
        return "the name of its host is not known"
    if isinstance(error, websocket.WebSocketBadStatusException):
        return f"the server answered HTTP {error.status_code}"
    if isinstance(error, (websocket.WebSocketTimeoutException, TimeoutError)):
        return f"no answer to the handshake within {HANDSHAKE_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({error.verify_message}); --insecure accepts any"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error}): is it a wss:// server?"
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return f"the answer is no WebSocket handshake ({error})"
