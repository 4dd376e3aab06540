"""The chat room on `chatroom.v1`: says are JSON, members resume where they were, refusals have a code.

Invariant: a message is delivered by the event `message` alone. An event `edit` has a text, too, and is no delivery.
"""

import re
from urllib.parse import urlencode

import msgspec

from loadtest.adapters import Adapter, Notice

KINDS = {b'{"type":"ack"': "acked", b'{"type":"error"': "refused", b'{"type":"welcome"': "entered"}
MESSAGE = b'{"type":"message"'
EVENT = re.compile(rb'\{"type":"(?:message|edit|delete|purge|reactions|rules|role|act|trim|removed)"')
EVENT_SEQ = re.compile(rb'"seq":(\d+)')


class Frame(msgspec.Struct):
    """The fields of a frame that are of use here."""

    type: str
    epoch: str = ""
    head: int = 0
    resumed: str = ""
    client_id: str = ""


class Chatroom(Adapter):
    """`say` goes in, `message` comes out; `welcome` tells that a member is in."""

    subprotocols = ("chatroom.v1",)
    resumes = True
    says_entered = True

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(Frame).decode

    def url(self, base: str, room: str, place: dict[str, str]) -> str:
        """Return the address of the room; from `place` on, if there is one."""
        return f"{base}/ws?{urlencode({'room': room, **place})}"

    def wrap(self, text: str, number: str) -> str:
        """Return a `say` frame."""
        return f'{{"type":"say","client_id":"{number}","text":"{text}"}}'

    def find(self, payload: bytes) -> bytes:
        """Return a `message`; whatever else has a text tells nobody of it for the first time."""
        return payload if payload.startswith(MESSAGE) else b""

    def notice(self, payload: bytes) -> Notice | None:
        """Read `welcome`, `ack` and `error`."""
        kind = next((kind for start, kind in KINDS.items() if payload.startswith(start)), "")
        if not kind:
            return None
        frame = self._decode(payload)
        return Notice(kind, frame.resumed if kind == "entered" else frame.client_id)

    def place(self, payload: bytes) -> dict[str, str]:
        """Return the epoch of a `welcome`, or the seq of an event."""
        if payload.startswith(b'{"type":"welcome"'):
            frame = self._decode(payload)
            # What a newcomer is shown up to `head` was said before he was in; one who resumes has to get it.
            after = {} if frame.resumed == "whole" else {"after": str(frame.head)}
            return {"epoch": frame.epoch, **after}
        seq = EVENT.match(payload) and EVENT_SEQ.search(payload, 0, 80)
        return {"after": seq[1].decode()} if seq else {}


ADAPTER = Chatroom
