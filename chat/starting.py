"""What a server needs from its machine before it starts, and what it tells the person who starts it.

Owns the listening sockets, the certificate, the open-file limit and what it bounds, the kept secret, the greeting and
the operator's link. Invariant: whatever cannot be had is refused with one sentence that says what to do.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import resource
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from chat.eventlog import LogRefused
from chat.eventlog.meeting import secret_at
from chat.settings import BadOption, Settings
from chat.tokens import operator_key

log = logging.getLogger("chatroom")

RESERVED_FILES = 256  # for the log, the listeners and plain requests
LAST_FILES = 64  # of these, for the log, the listeners and the files that are served
RESPONSE_S = 60  # within which a page must have been taken
RESPONSE_BYTES = 256 * 1024  # of a longer answer that must have been taken in each such time


def room_for_members(wanted: int) -> int:
    """How many sockets this process can hold; raises the open-file limit as far as it may, or BadOption."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(files - RESERVED_FILES, 1)
    if wanted > most:
        raise BadOption(
            f"--max_members={wanted} needs {wanted + RESERVED_FILES} open files: raise the limit with ulimit -n."
        )
    return wanted or most


def files_for_connections() -> int:
    """How many connections of all kinds may be open at once, so that files are left for the log."""
    return max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - LAST_FILES, 1)


class _Deadline(NamedTuple):
    """When a connection is looked at again, and what it had taken by now."""

    timer: asyncio.TimerHandle
    taken_bytes: int


class BoundedHTTPServer(HTTPServer):
    """Tornado's server, which would take connections until no file is left and let a response wait for ever.

    `has_room` is asked with the number of connections that are no WebSockets (yet).
    """

    has_room: Callable[[int], bool] = staticmethod(lambda plain: True)

    def initialize(self, *arguments: Any, idle_connection_timeout: float | None = None, **options: Any) -> None:
        super().initialize(*arguments, **options)
        self._request_s = idle_connection_timeout or RESPONSE_S
        self.conn_params.header_timeout = None  # the deadline is ours: Tornado's way costs three of a hundred joins
        self._deadlines: WeakKeyDictionary[Any, _Deadline] = WeakKeyDictionary()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if self.has_room(len(self._connections)):
            super().handle_stream(stream, address)
        else:
            stream.close()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        if (last := self._deadlines.get(server_conn)) is not None:
            last.timer.cancel()
        self._set_deadline(server_conn, self._request_s, self._expect_response, request_conn)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        if (last := self._deadlines.pop(server_conn, None)) is not None:  # its timer would hold the whole request
            last.timer.cancel()

    def _set_deadline(self, connection: Any, wait_s: float, then: Callable[..., None], *about: Any) -> None:
        timer = asyncio.get_running_loop().call_later(wait_s, then, connection, *about)
        self._deadlines[connection] = _Deadline(timer, connection.stream._total_write_done_index)

    def _expect_response(self, connection: Any, request: Any) -> None:
        if request._request_start_line is None:  # nor are its headers all there
            connection.stream.close()
        else:
            self._set_deadline(connection, RESPONSE_S, self._expire)

    def _expire(self, connection: Any) -> None:
        deadline = self._deadlines.pop(connection)
        if connection not in self._connections:  # closed, or a WebSocket by now
            return
        if connection.stream._total_write_done_index - deadline.taken_bytes < RESPONSE_BYTES:
            connection.stream.close()
        else:
            self._set_deadline(connection, RESPONSE_S, self._expire)


def kept_secret(database: str) -> str:
    """The secret beside the database, made at first start; raises LogRefused.

    Called by whoever holds the database's lock, so that no two make one at a time.
    """
    if database == ":memory:":
        return secrets.token_hex(32)
    path = _secret_path(database)
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_text("utf-8").strip()
    except OSError as error:
        raise LogRefused(
            f"The secret in {path} cannot be read or made ({error.strerror}): mend its folder or give --secret."
        ) from None
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < 32:
        raise LogRefused(
            f"The secret in {path} keeps none: remove the file (people get new identities) or give --secret."
        )
    return secret


def _secret_path(database: str) -> Path:
    return Path(os.path.realpath(database) + ".secret")


def _make_secret(path: Path) -> None:
    """Write it elsewhere first, and onto the disk: a kill or a power cut leaves no half of a secret, and not none."""
    unfinished = path.with_name(path.name + ".new")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def listen(port: int, address: str) -> list[socket.socket]:
    """The listening sockets; raises BadOption."""
    try:
        return _bind(port, address)
    except UnicodeError:
        raise BadOption(f"{address!a} is no address: choose another one with --address.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "stop what uses it, or choose another one with --port"
            raise BadOption(f"Port {port} is in use: {advice}.") from None
        where = f"{address or 'any address'}, port {port}"
        advice = "choose others with --address and --port"
        raise BadOption(f"Cannot listen on {where} ({error.strerror}): {advice}.") from None


def listen_shared(port: int, address: str, servers: int) -> list[list[socket.socket]]:
    """Sockets for so many servers that share a port; raises BadOption."""
    alone = listen(port, address)  # as a port that somebody else shares can be bound, too
    port = alone[0].getsockname()[1]
    for each in alone:
        each.close()
    return [bind_sockets(port, address or None, backlog=1024, reuse_port=True) for _ in range(servers)]


def _bind(port: int, address: str) -> list[socket.socket]:
    """A picked port (0) is free for IPv4 only: where IPv6 has it in use, another one is picked."""
    for tries_left in range(20 if port == 0 else 0, -1, -1):
        try:
            return bind_sockets(port, address or None, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What new connections are encrypted with, if the server does so itself; raises BadOption."""
    if not settings.certificate:
        return None
    for option, path in (("certificate", settings.certificate), ("key", settings.key)):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise BadOption(f"The file of --{option}, {path}, cannot be read ({error.strerror}).") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")  # else a terminal is asked
    except OSError as error:
        files, why = f"{settings.certificate} and {settings.key}", getattr(error, "reason", None) or "no PEM"
        advice = "give PEM files that belong together, the key without a password"
        raise BadOption(f"--certificate and --key cannot be used, {files} ({why}): {advice}.") from None
    return context


def renew_on_hangup(server: HTTPServer, settings: Settings) -> None:
    """Have SIGHUP read the certificate anew, for the connections to come; one that cannot be used changes nothing."""

    def renew() -> None:
        try:
            server.ssl_options = tls_context(settings)
        except BadOption as refusal:
            log.error("the certificate in use stays in use: %s", refusal)
        else:
            log.info("new connections get the certificate as it is now")

    if settings.certificate:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew)


def greeting(listener: socket.socket, settings: Settings, place: str) -> str:
    """What a person needs to know once the server runs."""
    here = _origin(_here(settings.address), listener.getsockname()[1], settings)
    return (
        "Chatroom is running; stop it with Ctrl-C.\n\n"
        f"  open here   {here}{settings.base_path}/\n"
        f"  share       {_share(listener, settings)}\n"
        f"  {'log     ' if settings.redis else 'database'}    {place}\n"
    )


def shared_origin(listener: socket.socket, settings: Settings) -> str:
    """Where others reach this server, as http://host:port; "" if only this machine can."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_loopback:
        return ""
    return _origin(_own_address() if _is_any(settings.address) else settings.address, port, settings)


def _share(listener: socket.socket, settings: Settings) -> str:
    if origin := shared_origin(listener, settings):
        return f"{origin}{settings.base_path}/   (anyone who reaches this address can enter)"
    return "(only this machine can reach it)"


def _here(address: str) -> str:
    return "localhost" if _is_any(address) else address


def _is_any(address: str) -> bool:
    return address in ("", "0.0.0.0", "::")


def _origin(host: str, port: int, settings: Settings) -> str:
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _own_address() -> str:
    """This machine's address in its network, as far as it can be told; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737; UDP connects without a packet
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def admin_link(settings: Settings) -> str:
    """A link that makes a browser the operator's; raises BadOption and LogRefused."""
    if not settings.port:
        raise BadOption("--admin-link needs the port of the server: give it with --port.")
    key = operator_key(_running_secret(settings), time.time())
    origin = _origin(_here(settings.address), settings.port, settings)
    return f"{origin}{settings.base_path}/admin?key={key}"


def _running_secret(settings: Settings) -> str:
    """The secret of the server that the settings mean, which has been started already."""
    if settings.secret:
        return settings.secret
    if settings.redis:
        return secret_at(settings.redis)
    if settings.database == ":memory:":
        raise BadOption(
            "--admin-link needs the secret of the server, and without a database none is kept: give --secret."
        )
    if not _secret_path(settings.database).exists():
        raise BadOption(f"No server was started on {settings.database} yet: start it, then ask for --admin-link again.")
    return kept_secret(settings.database)
