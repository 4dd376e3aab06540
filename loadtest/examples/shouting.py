"""An adapter, complete: a server of somebody else's, whose rooms are paths, which wants to be greeted, and wraps texts.

locust -f loadtest/locustfile.py --headless -H ws://localhost:9000 --adapter loadtest/examples/shouting.py:Shouting
"""

import json

from loadtest.adapters import Adapter, Notice


class Shouting(Adapter):
    """`{"op": "shout", "words": TEXT}` goes in, `{"op": "heard", "from": NAME, "words": TEXT}` comes out."""

    says_entered = True  # by `ready`; otherwise a member counts as in a quarter of a second after the handshake

    def url(self, base: str, room: str, place: dict[str, str]) -> str:
        return f"{base}/rooms/{room}/socket"

    def hello(self, room: str) -> list[str]:
        return [json.dumps({"op": "hello", "name": "load"})]

    def wrap(self, text: str, number: str) -> str:
        return json.dumps({"op": "shout", "id": number, "words": text})

    def notice(self, payload: bytes) -> Notice | None:
        return Notice("entered") if payload.startswith(b'{"op": "ready"') else None
