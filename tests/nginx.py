"""An nginx of the tests' own, with a file of deploy as it lies there but for ports and files."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.support import DEADLINE_S, ROOT, ServerProcess, eventually

HOST = "127.0.0.1"
BEHIND = {"address": HOST, "trusted_proxies": HOST, "message_rate": 0}

# What stands in front of the file that is tested: nginx of one's own, which needs nothing of the system's.
FRAME = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include chatroom.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Nginx:
    """nginx with deploy/nginx.conf, but for its ports and files, in front of a server; a context manager.

    In front of two servers it is deploy/nginx-several.conf.
    """

    def __init__(
        self, folder: Path, certificate: Certificate, *servers: ServerProcess, has_tls: bool = True, **changes: str
    ) -> None:
        """`changes`: other values of directives; `under_path`: the lines for a base path in the place of the others."""
        self.folder, self.has_tls = folder, has_tls
        self.port, self.plain_port = free_port(), free_port()
        file, ports = ("nginx.conf", ["8888;"]) if len(servers) == 1 else ("nginx-several.conf", ["8001 ", "8002 "])
        text = (ROOT / "deploy" / file).read_text()
        if changes.pop("under_path", ""):
            text, count = re.subn(
                r"location \S+ \{  # (location .*\{)|location = \S+ \{  # (location .*\{)", r"\1\2", text
            )
            assert count == 2
        for old, new in {
            "listen 80;": f"listen {HOST}:{self.plain_port};",
            "listen [::]:80;": "",
            "listen 443 ssl http2;": f"listen {HOST}:{self.port}{' ssl http2' if has_tls else ''};",
            "listen [::]:443 ssl http2;": "",
            **{
                f"server 127.0.0.1:{port}": f"server {HOST}:{server.port}{port[-1]}"
                for port, server in zip(ports, servers, strict=True)
            },
            "/etc/letsencrypt/live/chat.example.org/fullchain.pem": str(certificate.certificate),
            "/etc/letsencrypt/live/chat.example.org/privkey.pem": str(certificate.key),
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        for directive, value in changes.items():
            text, count = re.subn(rf"(\s{directive}) [^;]+;", rf"\1 {value};", text)
            assert count == 1, directive
        folder.mkdir()
        (folder / "chatroom.conf").write_text(text)
        (folder / "nginx.conf").write_text(FRAME.format(user="user root;" if os.geteuid() == 0 else ""))

    def __enter__(self) -> "Nginx":
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if not program:
            pytest.skip("nginx is missing: `make deps` installs it")
        command = [program, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", "error.log"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        eventually(lambda: self._is_up() or self._process.poll() is not None)
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), DEADLINE_S):
            return True
        return False

    @property
    def url(self) -> str:
        return f"{'https' if self.has_tls else 'http'}://{HOST}:{self.port}"
