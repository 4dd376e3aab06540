"""The page under a path of a host: its own scripts know where it is."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.pages import house_at, say, texts
from tests.support import ServerProcess
from tests.test_base_path import BASE
from tests.test_page_door import closed_room, make_invitation, named, room_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("base") / "chatroom.db", base_path=BASE, message_rate=0) as server:
        yield server


def test_people_talk_under_a_path(server: ServerProcess, browser: Browser) -> None:
    """The page's own scripts know where it is: the socket, another room by a link, sharing, the way back."""
    with house_at(server.url + BASE, browser, "tea") as house:
        ann, bob = house.enter("Ann"), house.enter("Bob")
        say(ann, f"come to {server.url}{BASE}/?room=garden")
        expect(texts(bob).last).to_contain_text("come to")
        bob.get_by_role("link", name=f"{server.url}{BASE}/?room=garden").click()
        expect(bob.locator("#room-name")).to_have_text("garden")
        assert bob.url == f"{server.url}{BASE}/?room=garden"
        expect(bob.locator("#me")).to_be_enabled()
        bob.locator("#share").click()
        assert re.fullmatch(rf"http://[^/]+{BASE}/\?room=garden", bob.locator("#sharing-link").input_value())
        code = bob.locator("#sharing-code")
        expect(code).to_be_visible()
        expect(code).to_have_js_property("complete", True)
        assert code.evaluate("image => image.naturalWidth") > 0
        bob.keyboard.press("Escape")
        bob.go_back()
        expect(bob.locator("#room-name")).to_have_text("tea")
        say(bob, "back again")
        expect(texts(ann).last).to_contain_text("back again")
        assert {cookie["path"] for cookie in house.contexts[0].cookies()} == {BASE}


def test_closed_rooms_work_under_a_path(server: ServerProcess, browser: Browser) -> None:
    """Making one, inviting somebody into it, the moderators' part, the export."""
    with house_at(server.url + BASE, browser, "tea") as house:
        ann = closed_room(house)
        room = room_of(ann)
        link = make_invitation(ann)
        assert link.startswith(f"{server.url}{BASE}/door?")
        bob = house.visit(named(house, "Bob"), "/rooms")
        bob.get_by_label("Open a room, or make one").fill(link)
        bob.keyboard.press("Enter")
        bob.get_by_role("button", name="Come in").click()
        expect(bob.locator("#me")).to_be_enabled()
        say(bob, "thank you")
        expect(texts(ann).last).to_contain_text("thank you")
        ann.locator("#order-toggle").click()
        ann.locator("#order-open").click()
        expect(ann.locator("#export-jsonl")).to_have_attribute(
            "href", f"{BASE}/api/rooms/{quote(room)}/export?format=jsonl"
        )
