"""Inputs for fuzzing: what is valid, changed a little by chance, the same for the same seed."""

import json
from random import Random
from typing import Any

WORDS = [
    *(b"0", b"-1", b"1", b"65536", b"9007199254740991", b"9007199254740992", b"18446744073709551616", b"1e309", b"NaN"),
    *(b"null", b"true", b"[]", b"{}", b'""', b"[" * 50, b'{"a":' * 50, b'"type"', b'"ref"', b'"seq"', b'"client_id"'),
    *(
        b"\\ud800",
        b"\\udc00",
        b"\\u0000",
        b"\\",
        b'"',
        b"\0",
        b"\r\n",
        b"\x1b[31m",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc3\x28",
    ),
    *(
        "\u200b\u202e\u2066\ufeff\u00ad",
        "\u0430\u0435\u043e",
        "\u212a\ufb01\u1e9b\u0323",
        "\u0301" * 9,
        "\U0001f469\u200d",
    ),
    *(
        "%00",
        "%0d%0a",
        "%ff",
        "%",
        "&",
        "=",
        ";",
        "?room=",
        "~",
        "..",
        "/",
        "\\",
        " ",
        "\t",
        "+",
        "@@@@",
        "((((",
        "a.a.a.",
    ),
    *(b"\x81\xff", b"\x88\x80", b"\x89\xfe", b"\x00\x80", b"\x7f", b"\x80", bytes(4), b"\xff" * 8),
    *(
        "http://",
        "null",
        "127.0.0.1:8888",
        "evil.example",
        "websocket",
        "chatroom.v1",
        ",",
        ": ",
        "\n",
        "HTTP/1.1",
        "GET ",
    ),
]
_TOKENS = [word.encode() if isinstance(word, str) else word for word in WORDS]


def mutated(chance: Random, corpus: list[bytes]) -> bytes:
    """One of the corpus with a few changes."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 9))):
        low = chance.randrange(len(data) + 1)
        high = min(len(data), low + chance.choice((0, 1, 1, 2, 4, 16)))
        data[low:high] = _replacement(chance, corpus, bytes(data[low:high]))
    return bytes(data[:20_000])


def _replacement(chance: Random, corpus: list[bytes], old: bytes) -> bytes:
    match chance.randrange(7):
        case 0:
            return chance.choice(_TOKENS)
        case 1:
            return old + chance.choice(_TOKENS)
        case 2:
            return b""
        case 3:
            return old * chance.choice((2, 3, 70))
        case 4:
            return bytes(byte ^ 1 << chance.randrange(8) for byte in old)
        case 5:
            other = chance.choice(corpus)
            start = chance.randrange(len(other) + 1)
            return other[start : start + chance.randrange(60)]
        case _:
            return chance.randbytes(chance.randrange(5))


def _frames() -> list[dict[str, Any]]:
    person, seq = {"person": "a" * 16}, {"message": 1}
    return [
        {"type": "say", "client_id": "c-1", "text": "hello @Ann **b** https://a.example", "reply_to": 1},
        *({"type": "history", bound: 1, "limit": 50, "ref": "r"} for bound in ("before", "after", "around", "at")),
        {"type": "people", "query": "ann", "offset": 0, "limit": 100, "ref": 1},
        {"type": "typing"},
        {"type": "rename", "name": "Ann"},
        {"type": "edit", **seq, "text": "changed", "reason": "typo"},
        {"type": "delete", **seq},
        {"type": "react", **seq, "kind": "👍", "on": True},
        {"type": "role", **person, "role": "moderator"},
        {"type": "mute", **person, "seconds": 60, "reason": "loud"},
        {"type": "ban", **person, "seconds": 60, "address": True, "purge": True},
        {"type": "kick", **person},
        {"type": "purge", **person},
        {"type": "rules", "slow_s": 1, "read_only": False, "links": "held", "announcement": "x", "edit_s": 60},
        {"type": "rules", "locked": False, "keep_s": 0, "keep_events": 0},
        {"type": "raid", "seconds": 1},
        {"type": "filter", "patterns": [{"pattern": "bad", "is_regex": False, "action": "hold"}]},
        {"type": "filter", "patterns": [{"pattern": "(a+)+$|[b-d]{3}", "is_regex": True}]},
        {"type": "invite", "seconds": 60, "uses": 2, "role": "owner"},
        {"type": "revoke", "invite": "abcdefghijkl", "put_out": True},
        {"type": "password", "password": "open sesame"},
        {"type": "review", "held": 1, "show": True},
        {"type": "acts", "before": 9, **person, "limit": 50},
        {"type": "held"},
        {"type": "person", **person, "before": 9},
        {"type": "order", "ref": 7},
    ]


FRAMES = [json.dumps(frame, ensure_ascii=bool(place % 2)).encode() for place, frame in enumerate(_frames())]
NAMES = [
    *(name.encode() for name in ("Ann", "x" * 64, "two words", "ﬁ①Ⅷ", "می\u200cخواهم", "👩\u200d🚀", "ᄒ" * 33, "...")),
    *(
        name.encode()
        for name in ("e\u0301" * 32, "\u0344" * 20, "~tea-abcdefgh", "Ａdmin", "аdmin", "\u1160", "100%+&=#?")
    ),
]
QUERIES = [
    b"room=default&name=Ann&epoch=abc&after=5",
    b"room=%7etea-abcdefgh&name=%F0%9F%91%A9&epoch=%61&after=9007199254740991",
    b"room=a&room=b&after=1&epoch=&name=",
    b"before=1&limit=50",
    b"room=a%20b;name=x&after=0&epoch=x",
]
ORIGINS = [
    *(b"http://127.0.0.1:8888", b"http://evil.example", b"http://127.0.0.1:8888.evil.example", b"null", b"http://["),
    *(b"http://127.0.0.1:8888@evil.example", b"https://friend.example", b"https://friend.example:443", b"file://"),
    *(b"http://[::1]:8888", b"http://evil.example/127.0.0.1:8888", b"http://127.0.0.1:8888/", b"HTTP://127.0.0.1:8888"),
]
