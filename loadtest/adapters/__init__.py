"""How a server is spoken to: its address, its greeting, how a text is said, and what it answers besides.

`Adapter` suits every server that echoes a text frame unchanged to the room that its query names; a subclass says what
differs. `python -m loadtest` finds one by name (`chatroom`, `plain`) or as `path/to/file.py:ClassName`.
An adapter knows no socket, no clock and no figure: a text is found again by its tag, wherever a server puts it.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple


class Notice(NamedTuple):
    """What a frame says that brings no text of ours.

    `kind` is "entered" (the member is in; `detail`: whole, gap or reset if he resumed), "acked" or "refused" (a message
    was taken or not; `detail`: the number it was said with).
    """

    kind: str
    detail: str = ""


class Adapter:
    """A server that gives every text frame to everybody in the room, unchanged."""

    subprotocols: tuple[str, ...] = ()
    resumes = False  # whether a member who comes back is told what he missed
    says_entered = (
        False  # whether a frame tells the member that he is in; otherwise `settle_s` after the handshake he is
    )
    settle_s = 0.25

    def url(self, base: str, room: str, place: dict[str, str]) -> str:
        """Return where to connect; `place` is what `place` found, empty unless the member comes back."""
        return f"{base}/ws?room={room}"

    def hello(self, room: str) -> list[str]:
        """Return the text frames to send after the handshake."""
        return []

    def wrap(self, text: str, number: str) -> str:
        """Return the frame that says a text; `number` (letters and digits) is another one for each."""
        return text

    def find(self, payload: bytes) -> bytes:
        """Return the part of a received frame in which a text may stand; no text: b""."""
        return payload

    def notice(self, payload: bytes) -> Notice | None:
        """Return what a frame without a text of ours says, if it matters."""
        return None

    def place(self, payload: bytes) -> dict[str, str]:
        """Return what a frame tells of where the member stands, to resume from there."""
        return {}


def load(name: str) -> Adapter:
    """Return the adapter with a name, or the class in a file.

    Raises ValueError with what to do if there is none.
    """
    where, _, class_name = name.partition(":")
    try:
        if class_name:
            return _made(_class_in(Path(where), class_name))
        return _made(importlib.import_module(f"loadtest.adapters.{where}").ADAPTER)
    except Exception as error:  # whatever happens in somebody's file
        known = ", ".join(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))
        raise ValueError(f"--adapter={name}: {error}; give one of {known}, or path/to/file.py:ClassName") from None


def _made(found: type[Adapter]) -> Adapter:
    adapter = found()
    if not isinstance(adapter, Adapter):
        raise TypeError(f"{found.__name__} is no loadtest.adapters.Adapter")
    return adapter


def _class_in(path: Path, class_name: str) -> type[Adapter]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not spec or not spec.loader or not path.exists():
        raise OSError(f"no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    found: type[Adapter] = getattr(module, class_name)
    return found
