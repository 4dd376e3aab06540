"""The page in browsers behind nginx, with TLS and under a path."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import certificates
from tests.nginx import BEHIND, Nginx
from tests.pages import house_at, say, tell_name, texts
from tests.support import ServerProcess

BASE = "/chat"


@pytest.fixture
def under_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("path")
    with (
        ServerProcess(folder / "chatroom.db", base_path=BASE, **BEHIND) as server,
        Nginx(folder / "nginx", certificates.made(folder), server, under_path="yes") as nginx,
    ):
        yield nginx


def test_people_talk_in_browsers_behind_it(under_path: Nginx, browser: Browser) -> None:
    """With TLS and under a path: no error in any console, no breach of the policy, and the socket is encrypted."""

    def enter(name: str) -> Page:
        context = house.person(ignore_https_errors=True)
        page = context.new_page()
        page.on("websocket", lambda opened: sockets.append(opened.url))
        page.goto(f"{under_path.url}{BASE}/?room=tea")
        tell_name(page, name)
        return page

    sockets: list[str] = []
    with house_at(under_path.url + BASE, browser, "tea") as house:
        ann, bob = enter("Ann"), enter("Bob")
        say(ann, "hello Bob")
        expect(texts(bob).last).to_contain_text("hello Bob")
        say(bob, "hello Ann")
        expect(texts(ann).last).to_contain_text("hello Ann")
        assert {cookie["secure"] for cookie in house.contexts[0].cookies()} == {True}
    assert len(sockets) == 2
    assert all(each.startswith(f"{under_path.url.replace('https', 'wss')}{BASE}/ws?") for each in sockets)
