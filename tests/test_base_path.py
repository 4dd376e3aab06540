"""Under a path of a host: everything is there, nothing is beside it, and nothing leads out of it."""

import json
import re
from urllib.parse import parse_qs, urlsplit

from tornado.httpclient import HTTPResponse

from chat.settings import Settings
from chat.starting import admin_link, greeting, listen
from tests.house import ChatTestCase, in_time, settings
from tests.test_http import Markup
from tests.visitor import Visitor, done, invite, token_of

BASE = "/chat/tea.room"
PATHS = ("/", "/rooms", "/admin", "/moderation", "/api/rooms/default/messages", "/qr.svg", "/healthz", "/metrics")


class BasePathTest(ChatTestCase):
    async def plain(self, path: str) -> HTTPResponse:
        """The answer itself, wherever it leads."""
        return await self.get(path, follow_redirects=False)

    @in_time
    @settings(base_path=BASE)
    async def test_everything_is_under_the_path_and_nothing_beside_it(self) -> None:
        """What is asked for elsewhere is not found, in words for people, with a way in."""
        for path in PATHS:
            with self.subTest(path):
                self.assertNotEqual((await self.plain(BASE + path)).code, 404)
                for elsewhere in (path, f"{BASE}x{path}", f"{BASE}/chat{path}", f"{BASE.replace('.', '-')}{path}"):
                    answer = await self.plain(elsewhere)
                    self.assertEqual(answer.code, 404, elsewhere)
                    self.assertTrue(answer.headers["Content-Type"].startswith("text/html"))
                    self.assertIn(f'href="{BASE}/rooms"'.encode(), answer.body)

    @in_time
    @settings(base_path=BASE)
    async def test_the_path_without_its_last_slash_leads_in(self) -> None:
        """With what was asked for behind it."""
        for asked, there in ((BASE, f"{BASE}/"), (f"{BASE}?room=tea%20x", f"{BASE}/?room=tea%20x")):
            answer = await self.plain(asked)
            self.assertEqual((answer.code, answer.headers["Location"]), (301, there))

    @in_time
    @settings(base_path=BASE)
    async def test_every_address_in_a_page_is_under_the_path(self) -> None:
        """Files, forms and links; all of them are there."""
        owner = Visitor(self)
        room = await self.made_room(owner)
        for path in ("/", "/rooms", "/moderation", "/admin", f"/door?room={room}", "/nowhere", "/?room=.."):
            answer = await self.get(BASE + path)
            named = [
                address
                for _, attributes in Markup(answer.body).elements
                for name in ("href", "src", "action")
                if (address := attributes.get(name)) and not address.startswith("#")
            ]
            self.assertTrue(named, path)
            for address in named:
                self.assertTrue(address.startswith(f"{BASE}/"), f"{path}: {address}")
                self.assertNotEqual((await self.plain(address)).code, 404, address)

    async def made_room(self, owner: Visitor) -> str:
        answer = await owner.post(f"{BASE}/rooms", name="tea")
        self.assertEqual(answer.code, 303, answer.body)
        self.assertTrue(answer.headers["Location"].startswith(f"{BASE}/?room="))
        return parse_qs(urlsplit(answer.headers["Location"]).query)["room"][0]

    @in_time
    @settings(base_path=BASE)
    async def test_cookies_and_ways_in_stay_under_the_path(self) -> None:
        """The identity is for this path alone; an invitation and the forms lead to where they are."""
        owner, guest = Visitor(self), Visitor(self)
        room = await self.made_room(owner)
        answer = await owner.get(f"{BASE}/rooms")
        self.assertRegex(answer.headers["Set-Cookie"], rf"Path={BASE}(;|$)")
        member = await self.knock(f"{BASE}/ws?room={room}", headers={"Cookie": owner.cookie})
        invitation = await invite(member)
        self.assertTrue(invitation["path"].startswith(f"{BASE}/door?"))
        await guest.get(invitation["path"])
        came = await guest.post(f"{BASE}/door", room=room, invite=token_of(invitation["path"]))
        self.assertEqual(came.code, 303)
        self.assertEqual((await guest.get(came.headers["Location"])).code, 200)
        await done(member, type="password", password="open sesame")
        turned_away = await Visitor(self).get(f"{BASE}/api/rooms/{room}/messages")
        self.assertEqual((turned_away.code, json.loads(turned_away.body)["code"]), (403, "closed"))


def test_what_is_printed_has_the_path() -> None:
    """Both addresses of the greeting, and the operator's link."""
    options = Settings(base_path=BASE, secret="s" * 32, port=90)
    listeners = listen(0, "")
    try:
        said = greeting(listeners[0], options, "here")
    finally:
        for listener in listeners:
            listener.close()
    assert len(re.findall(rf"http://[^/\s]+:\d+{BASE}/\s", said)) == 2
    assert admin_link(options).startswith(f"http://localhost:90{BASE}/admin?key=")
