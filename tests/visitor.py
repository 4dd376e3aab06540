"""A person with a browser, as far as forms and cookies go; it follows no redirect and runs no script."""

import itertools
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from tornado.httpclient import HTTPResponse

from tests.house import ChatTestCase, Member

_numbers = itertools.count(1)


class Visitor:
    """Keeps what cookies he is given, and comes from an address of his own."""

    def __init__(self, case: ChatTestCase, address: str = "") -> None:
        self.case = case
        number = next(_numbers)
        self.address = address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.cookies: dict[str, str] = {}

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    async def get(self, path: str, **more: Any) -> HTTPResponse:
        return await self._fetch(path, **more)

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str | bytes) -> HTTPResponse:
        return await self._fetch(path, headers, method="POST", body=urlencode(fields))

    async def _fetch(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> HTTPResponse:
        own = {"X-Forwarded-For": self.address, **({"Cookie": self.cookie} if self.cookies else {})}
        plainly = {"follow_redirects": False, "decompress_response": False}
        answer = await self.case.get(path, headers={**own, **(headers or {})}, **plainly, **more)
        for line in answer.headers.get_list("Set-Cookie"):
            self.cookies |= {name: morsel.coded_value for name, morsel in SimpleCookie(line).items()}
        return answer

    async def enter(self, room: str) -> Member:
        """Come in by a socket; raises HTTPClientError if the handshake is refused."""
        headers = {"X-Forwarded-For": self.address}
        member = await self.case.join(room, cookie=self.cookie, headers=headers, name=f"Visitor {self.address}"[:32])
        if "chatroom" not in self.cookies:
            self.cookies["chatroom"] = member.morsel.coded_value
        return member

    async def make_room(self, name: str = "tea") -> str:
        """Make a closed room; returns the name it got."""
        answer = await self.post("/rooms", name=name)
        self.case.assertEqual(answer.code, 303, answer.body)
        return room_of(answer)

    async def is_let_in(self, room: str) -> bool:
        """Whether the room's page is his."""
        answer = await self.get(path_of(room))
        self.case.assertIn(answer.code, (200, 403))
        return answer.code == 200


def path_of(room: str) -> str:
    return f"/?room={quote(room, safe='')}"


def room_of(answer: HTTPResponse) -> str:
    """The room that an answer sends a browser to."""
    return parse_qs(urlsplit(answer.headers["Location"]).query, strict_parsing=True)["room"][0]


def token_of(path: str) -> str:
    """The word that an invitation's path is signed with."""
    return parse_qs(urlsplit(path).query, strict_parsing=True)["invite"][0]


async def invite(owner: Member, seconds: int = 3600, uses: int = 1, **more: Any) -> Any:
    """Have a link made by somebody in the room: the frame that answers."""
    owner.send(type="invite", seconds=seconds, uses=uses, ref="i", **more)
    return await owner.hears("invite", ref="i")


async def done(member: Member, **act: Any) -> Any:
    """Do something and hear that it is stored."""
    member.send(**act, ref="d")
    return await member.hears("done", ref="d")
