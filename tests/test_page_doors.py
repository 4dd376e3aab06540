"""Doors in a browser: every form is sent by a button, from any machine, with scripts or without."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from chat.tokens import operator_key
from tests.pages import House, chromium, house_at
from tests.support import ServerProcess

SHUT = "status of 40[035]"  # what Chromium itself logs of such a page


@pytest.fixture(params=["here", "another machine"])
def street(
    request: pytest.FixtureRequest, playwright: Playwright, browser: Browser, server: ServerProcess
) -> Iterator[House]:
    """A server as people reach it on its own machine, or by plain http from another, where browsers tell less."""
    room = "street"
    if request.param == "here":
        with house_at(server, browser, room, SHUT) as house:
            yield house
    else:
        url = f"http://chat.example:{server.port}"
        with (
            chromium(playwright, "--host-resolver-rules=MAP chat.example 127.0.0.1") as far,
            house_at(url, far, room, SHUT) as house,
        ):
            yield house


def make_room(page: Page, name: str) -> None:
    page.get_by_text("Make a closed room").click()
    page.get_by_label("Name of the closed room").fill(name)
    page.get_by_role("button", name="Make it").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_closed_room_is_made_and_stays_shut_for_others(street: House, scripts: bool) -> None:
    """By the form of the start page; its maker gets the room, somebody else its door."""
    maker = street.visit(street.person(java_script_enabled=scripts), "/rooms")
    make_room(maker, "a/b")
    expect(maker.get_by_text("A room name has no slashes")).to_be_visible()
    maker.get_by_label("Name of the closed room").fill("tea & cake")
    maker.get_by_role("button", name="Make it").click()
    expect(maker.locator("body")).to_have_attribute("data-room", re.compile(r"^~tea & cake-[a-z2-7]{8}$"))
    other = street.person(java_script_enabled=scripts).new_page()
    other.goto(maker.url)
    expect(other.get_by_text("This room is closed.")).to_be_visible()
    other.get_by_label("Password").fill("wrong")
    other.get_by_role("button", name="Come in").click()
    expect(other.get_by_role("alert")).to_have_text("This does not open the door.")


def test_the_operators_button_works(street: House, server: ServerProcess) -> None:
    """And takes him to the rooms; the link is used up then."""
    secret = Path(f"{server.database}.secret").read_text().strip()
    path = f"/admin?key={operator_key(secret, time.time())}"
    page = street.visit(street.person(), path)
    page.get_by_role("button", name="Make this my browser").click()
    page.wait_for_url("**/rooms")
    page.goto(street.url + path)
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")
    expect(page.get_by_role("button")).to_have_count(0)


def test_a_form_of_another_site_does_nothing(street: House) -> None:
    """Nor does it cost anybody his identity: the person is afterwards who he was."""
    context = street.person()
    page = street.visit(context, "/rooms")
    before = [cookie for cookie in context.cookies() if cookie["name"] == "chatroom"]
    context.route("http://evil.example/", lambda route: route.fulfill(body=EVIL, content_type="text/html"))
    for path in ("/rooms", "/door", "/admin", "/"):
        page.goto("http://evil.example/")
        page.evaluate("(action) => { document.forms[0].action = action; }", street.url + path)
        with page.expect_navigation():
            page.get_by_role("button").click()
        expect(page.get_by_text("That did not work")).to_be_visible()
    assert [cookie for cookie in context.cookies() if cookie["name"] == "chatroom"] == before


EVIL = '<form method="post"><input name="name" value="tea"><input name="room" value="~tea"><button>Win</button></form>'
