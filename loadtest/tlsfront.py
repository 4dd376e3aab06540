"""nginx with TLS in front of a server, for as long as it is measured.

Owns a throw-away certificate, a configuration and nginx's process. Invariant: it is gone at the end, with its folder.
"""

import contextlib
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtest.machine import Cores
from loadtest.peers import end, ran, started
from loadtest.swarm import swarm_program
from loadtest.witness import CannotRun

NGINX: Final = ("/usr/sbin/nginx", "nginx")
START_S: Final = 10.0

CONFIGURATION: Final = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_read_timeout 120s;
            proxy_buffering off;
        }}
    }}
}}
"""


def nginx() -> str:
    """Return nginx's program, which Debian keeps out of everybody's PATH; empty if there is none."""
    return next((found for name in NGINX if (found := shutil.which(name))), "")


def tls_lacks() -> str:
    """Return half a sentence that says what is missing, or nothing."""
    if not nginx():
        return "there is no nginx here (Debian: apt-get install nginx-light)"
    if not shutil.which("openssl"):
        return "there is no openssl here to make a certificate (Debian: apt-get install openssl)"
    try:
        swarm_program(with_tls=True)
    except CannotRun:
        return "the swarm cannot be compiled with TLS (Debian: apt-get install libssl-dev)"
    return ""


@contextlib.contextmanager
def in_front(server: int, cores: Cores) -> Iterator[int]:
    """Yield the port on which nginx serves what the server has on its own; both share the server's core.

    Raises CannotRun with one sentence if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="chatroom-nginx-") as name:
        folder, port = Path(name), free_port()
        make_certificate(folder)
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, server=server))
        folder.chmod(0o755)  # its workers are nobody
        process = started([nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, cores)
        try:
            await_listener(port, folder)
            yield port
        finally:
            end(process, signal.SIGTERM, signal.SIGKILL)


def make_certificate(folder: Path) -> None:
    """Make a key and a certificate for localhost that nobody has to trust."""
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    trouble = ran(
        ["openssl", "req", "-x509", *kind, "-subj", "/CN=localhost", "-keyout", key, "-out", certificate], folder
    )
    if trouble:
        raise CannotRun(f"There is no certificate for nginx ({trouble}).")


def free_port() -> int:
    """Return a port that was free a moment ago: nginx cannot be asked which one it took."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def await_listener(port: int, folder: Path) -> None:
    """Wait until somebody listens."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise CannotRun(f"nginx did not start ({(folder / 'stderr').read_text().strip() or 'it said nothing'}).")
