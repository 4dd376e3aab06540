"""The static files: read once at start, kept ready to send, and named by the hash of them all.

Owns their types, the form they are sent in (without comments, compressed) and the list of a page's modules. Knows no
request. Invariant: a page and its modules are of one version, as every path has the hash of all files in it and
modules import each other relatively.
"""

import functools
import gzip
import hashlib
import posixpath
import re
from collections import deque
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "static"
ENTRY = "app.js"
STYLE = "style.css"  # all of styles/, so that a page asks once; what the others build on comes first
GROUND = "styles/base.css"

# What a file's ending means; a file with another one (an editor's copy) is not served.
TYPES = {
    ".css": "text/css; charset=UTF-8",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# Comments that have their lines to themselves; within a line one would have to know what is a string. There is no
# template literal over several lines, in which these, and indentation, would mean something: tests/test_assets.py.
_BLOCK = rb"^[ \t]*/\*(?:(?!\*/).)*\*/[ \t]*$"
_LINE = rb"^[ \t]*//[^\n]*$"
_COMMENTS = {
    ".css": re.compile(_BLOCK, re.MULTILINE | re.DOTALL),
    ".js": re.compile(_BLOCK + b"|" + _LINE, re.MULTILINE | re.DOTALL),
}

_INDENTATION = re.compile(rb"^[ \t]+", re.MULTILINE)

_IMPORT = re.compile(r"""^(?:import|export)\b[^"';]*["'](\.{1,2}/[^"']+)["']""", re.MULTILINE)


class Asset(NamedTuple):
    """One file as it is sent."""

    type: str
    body: bytes
    packed: bytes | None  # by gzip, where that is shorter
    tag: str  # what it is known by, to be asked for again


class Assets:
    """All files of a folder, for a server under `base_path`."""

    def __init__(self, folder: Path = FOLDER, base_path: str = "") -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in TYPES and path.is_file())
        sources = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        if styles := [name for name in sources if name.startswith("styles/")]:
            sources[STYLE] = b"".join(sources[name] for name in sorted(styles, key=_place))
        self.files = {name: _asset(posixpath.splitext(name)[1], source) for name, source in sources.items()}
        names_and_bodies = (name.encode() + b"\0" + asset.body + b"\0" for name, asset in self.files.items())
        self.version = hashlib.sha256(b"".join(names_and_bodies)).hexdigest()[:12]
        self.base = f"{base_path}/static/{self.version}"
        self.modules = self._reached_from(ENTRY) if ENTRY in self.files else []

    def _reached_from(self, entry: str) -> list[str]:
        """Every module that `entry` imports, itself or through others, nearest first: the page asks for all at once."""
        reached = {entry: None}
        waiting = deque([entry])
        while waiting:
            for name in self._imports(waiting.popleft()):
                if name not in reached:
                    reached[name] = None
                    waiting.append(name)
        return list(reached)[1:]

    def _imports(self, name: str) -> list[str]:
        folder, code = posixpath.dirname(name), self.files[name].body.decode()
        paths = (posixpath.normpath(posixpath.join(folder, path)) for path in _IMPORT.findall(code))
        return [path for path in paths if path in self.files]


def _place(name: str) -> tuple[bool, str]:
    return name != GROUND, name


@functools.cache  # several servers may live in one process
def _asset(suffix: str, source: bytes) -> Asset:
    body = stripped(suffix, source)
    packed = gzip.compress(body, 9, mtime=0)
    tag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
    return Asset(TYPES[suffix], body, packed if len(packed) < len(body) else None, tag)


def stripped(suffix: str, source: bytes) -> bytes:
    """Without comments and indentation, a fifth less to send; lines keep their numbers, as an error tells its line."""
    comments = _COMMENTS.get(suffix)
    if comments is None:
        return source
    return _INDENTATION.sub(b"", comments.sub(lambda comment: b"\n" * comment[0].count(b"\n"), source))
