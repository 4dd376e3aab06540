"""Certificates for tests: self-signed, for this machine, each with its key in a file of its own."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    certificate: Path
    key: Path

    def options(self) -> dict[str, Path]:
        """What a server is started with."""
        return {"certificate": self.certificate, "key": self.key}

    def trusted(self) -> ssl.SSLContext:
        """What a client speaks with who believes this certificate alone."""
        return ssl.create_default_context(cafile=str(self.certificate))


def made(folder: Path, name: str = "tls", password: str = "") -> Certificate:
    """A new one, in the place of an older one of that name."""
    folder.mkdir(exist_ok=True)
    both = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    closed = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    files = ["-out", both.certificate, "-keyout", both.key]
    subprocess.run(["openssl", *kind.split(), *names, *closed, *files], check=True, capture_output=True)
    return both
