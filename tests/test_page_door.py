"""Closed rooms as people see them: made on the start page, shown by their short name, entered through their door."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.modules import run
from tests.pages import DESKTOP, LOST_LINE, PHONE, House, say, scrolls_sideways, texts

KEPT_OUT = LOST_LINE + "|status of 40[03]"  # what Chromium itself logs where one is not let in, or a form refused


@pytest.fixture
def keep(house: House) -> House:
    """The house's room, and closed ones, from which people are kept out."""
    house.expected = KEPT_OUT
    return house


def named(house: House, who: str, **options: Any) -> BrowserContext:
    """Somebody whose browser remembers a name from another visit."""
    context = house.regular(**options)
    house.remember(context, name=who)
    return context


def closed_room(house: House, name: str = "Book club", who: str = "Ann", **options: Any) -> Page:
    """Somebody makes a closed room on the start page, and is in it."""
    page = house.visit(named(house, who, **options), "/rooms")
    page.get_by_text("Make a closed room").click()
    page.get_by_label("Name of the closed room").fill(name)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#me")).to_be_enabled()
    return page


def room_of(page: Page) -> str:
    return str(page.evaluate("() => new URL(location).searchParams.get('room')"))


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def lock(page: Page) -> Locator:
    return heading(page).get_by_role("img", name="Closed room")


NARROW_PX = 416


def width(page: Page) -> int:
    return page.viewport_size["width"] if page.viewport_size else NARROW_PX


def make_invitation(page: Page) -> str:
    """Make one in the dialog that shares the room; returns its link, as this machine reaches it."""
    if width(page) < NARROW_PX:  # where the bar has no room for it, it is in the moderators' menu
        page.locator("#order-toggle").click()
        page.locator("#order-share").click()
    else:
        page.get_by_role("button", name="Share this room").click()
    page.get_by_role("button", name="Make an invitation").click()
    expect(page.locator("#sharing-lead")).to_contain_text("Whoever has this link can come in")
    link = page.get_by_label("Link to this room").input_value()
    page.get_by_role("button", name="Done").click()
    return str(page.evaluate("(link) => location.origin + new URL(link).pathname + new URL(link).search", link))


def test_closed_room_goes_by_its_short_name(keep: House) -> None:
    """Bar, title, list and search show what it was called, with a lock; the whole name can be found out."""
    ann = closed_room(keep)
    room = room_of(ann)
    assert re.fullmatch(r"~Book club-[a-z2-7]{8}", room)
    expect(heading(ann)).to_have_text("Book club")
    expect(heading(ann)).to_have_attribute("title", room)
    expect(lock(ann)).to_be_visible()
    expect(ann).to_have_title("Book club · Chatroom")
    ann.get_by_role("button", name="Rooms", exact=True).click()
    row = ann.locator("#recent-rooms li")
    expect(row.locator("bdi")).to_have_text("Book club")
    expect(row.locator("bdi")).to_have_attribute("title", room)
    expect(row.get_by_role("img", name="Closed room")).to_be_visible()
    ann.get_by_label("Open a room, or make one").fill("open one")
    expect(row).to_be_hidden()
    ann.keyboard.press("Enter")
    expect(heading(ann)).to_have_text("open one")
    expect(lock(ann)).to_be_hidden()


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        ("tea", "tea"),
        ("~tea-abcdefg2", "tea"),
        ("~a-b-abcdefg2", "a-b"),
        ("~tea", "tea"),
        ("~tea-abcdefg1", "tea-abcdefg1"),
        ("~-abcdefg2", "-abcdefg2"),
        ("~", "~"),
        ("a~tea-abcdefg2", "a~tea-abcdefg2"),
        ("~茶 室-22222222", "茶 室"),
    ],
)
def test_short_name_is_the_middle_of_the_long_one(modules: Page, room: str, shown: str) -> None:
    """What has not the form of a closed room's name is shown as it is."""
    assert run(modules, "return (await load('roomname')).shownName(arg);", room) == shown


def test_link_without_an_invitation_leads_to_the_door(keep: House) -> None:
    """Whoever follows it finds the door, not the room, from within another room, too; the way back leads past it."""
    ann = closed_room(keep)
    bo = keep.enter("Bo")
    say(bo, "hello")
    bo.get_by_role("button", name="Rooms", exact=True).click()
    bo.get_by_label("Open a room, or make one").fill(room_of(ann))
    bo.keyboard.press("Enter")
    expect(bo.get_by_label("Password")).to_be_visible()
    expect(heading(bo)).to_have_text("Book club")
    expect(lock(bo)).to_be_visible()
    bo.go_back()
    expect(texts(bo)).to_have_text(["hello"])
    bo.goto(f"{keep.url}/?room={quote(room_of(ann))}")
    bo.get_by_label("Password").fill("a guess")
    bo.get_by_role("button", name="Come in").click()
    expect(bo.get_by_role("alert")).to_have_text("This does not open the door.")


def test_invitation_opens_the_door(keep: House) -> None:
    """Made where one shares the room, it leads in who follows it, and he comes and goes from then on."""
    ann = closed_room(keep)
    link = make_invitation(ann)
    bo = keep.visit(named(keep, "Bo"), link.removeprefix(keep.url))
    expect(bo.get_by_text("You are invited into this room.")).to_be_visible()
    bo.get_by_role("button", name="Come in").click()
    expect(bo.locator("#me")).to_be_enabled()
    say(bo, "here I am")
    expect(texts(ann)).to_have_text(["here I am"])
    bo.get_by_role("button", name="Share this room").click()
    expect(bo.locator("#sharing-lead")).to_contain_text(
        "the link alone lets nobody in. Its moderators can make an invitation."
    )
    expect(bo.locator("#sharing-code")).to_be_hidden()
    expect(bo.get_by_role("button", name="Make an invitation")).to_have_count(0)
    bo.reload()
    expect(texts(bo)).to_have_text(["here I am"])


def test_open_room_is_shared_as_ever(keep: House) -> None:
    """After a closed one, too: the code is there again, and no invitation is offered."""
    ann = closed_room(keep)
    make_invitation(ann)
    ann.get_by_role("button", name="Rooms", exact=True).click()
    ann.get_by_label("Open a room, or make one").fill(keep.room)
    ann.keyboard.press("Enter")
    expect(heading(ann)).to_have_text(keep.room)
    ann.get_by_role("button", name="Share this room").click()
    expect(ann.locator("#sharing-lead")).to_have_text("Whoever opens this link can come in, read and talk.")
    expect(ann.locator("#sharing-code")).to_be_visible()
    expect(ann.get_by_role("button", name="Make an invitation")).to_have_count(0)


def test_failed_invitation_says_why(keep: House) -> None:
    """The dialog stays as it was, with the reason."""
    ann = closed_room(keep)
    ann.get_by_role("button", name="Share this room").click()
    ann.evaluate("() => { WebSocket.prototype.send = function () { this.close(); }; }")
    ann.get_by_role("button", name="Make an invitation").click()
    expect(ann.locator("#sharing-problem")).to_contain_text("The line broke before the server answered.")
    expect(ann.get_by_role("button", name="Make an invitation")).to_be_enabled()


def test_withdrawn_invitation_puts_out(keep: House) -> None:
    """Who came by it is told, and finds the door when he tries again."""
    ann = closed_room(keep)
    link = make_invitation(ann)
    invite = link.partition("invite=")[2].partition(".")[0]
    bo = keep.visit(named(keep, "Bo"), link.removeprefix(keep.url))
    bo.get_by_role("button", name="Come in").click()
    expect(bo.locator("#me")).to_be_enabled()
    say(bo, "hello")
    expect(texts(ann)).to_have_text(["hello"])
    frame = {"type": "revoke", "invite": invite, "put_out": True}
    room = room_of(ann)
    ann.evaluate(
        """([room, frame]) => {
        const line = new WebSocket(`ws://${location.host}/ws?room=${encodeURIComponent(room)}`, ["chatroom.v1"]);
        line.onopen = () => line.send(JSON.stringify(frame));
    }""",
        [room, frame],
    )
    expect(bo.locator("#banner")).to_contain_text("Your invitation to this room was taken back.")
    bo.get_by_role("button", name="Try now").click()
    expect(bo.get_by_label("Password")).to_be_visible()


def test_pasted_links_are_as_good_as_names(keep: House) -> None:
    """A link to a room opens it, one to a door leads there; a foreign one is no name."""
    ann = closed_room(keep)
    link, room = make_invitation(ann), room_of(ann)
    for path in ("/rooms", f"/?room={keep.room}"):
        bo = keep.enter("Bo")
        bo.goto(keep.url + path)
        field = bo.get_by_label("Open a room, or make one")
        if path != "/rooms":
            bo.get_by_role("button", name="Rooms", exact=True).click()
        field.fill("https://example.org/?room=tea")
        field.press("Enter")
        expect(bo.locator("#room-problem")).to_contain_text("no slashes")
        field.fill(f"{keep.url}/?room=tea%20room#7")
        field.press("Enter")
        expect(heading(bo)).to_have_text("tea room")
        bo.get_by_role("button", name="Rooms", exact=True).click()
        bo.get_by_label("Open a room, or make one").fill(link)
        bo.keyboard.press("Enter")
        expect(bo.get_by_text("You are invited into this room.")).to_be_visible()
    bo.get_by_role("button", name="Come in").click()
    bo.goto(f"{keep.url}/rooms")
    bo.get_by_label("Open a room, or make one").fill(room)
    bo.keyboard.press("Enter")
    expect(heading(bo)).to_have_text("Book club")


def test_name_that_cannot_be_is_refused_in_words(keep: House) -> None:
    """The start page comes back with the form open and the reason in it."""
    page = keep.visit(keep.regular(), "/rooms")
    page.get_by_text("Make a closed room").click()
    page.get_by_label("Name of the closed room").fill("a/b")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#closed-problem")).to_be_visible()
    expect(page.get_by_label("Name of the closed room")).to_be_visible()


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_doors_fit_the_screen(keep: House, viewport: Any) -> None:
    """A name as long as can be is wider than nothing: not the door, nor the bar, nor the list."""
    ann = closed_room(keep, name="w" * 50, viewport=viewport)
    assert not scrolls_sideways(ann)
    expect(lock(ann)).to_be_in_viewport(ratio=1)
    link = make_invitation(ann)
    ann.get_by_role("button", name="Rooms", exact=True).click()
    assert ann.evaluate(
        "() => document.getElementById('switcher').scrollWidth <= document.getElementById('switcher').clientWidth"
    )
    for path in (link.removeprefix(keep.url), f"/?room={quote(room_of(ann))}"):
        door = keep.visit(keep.regular(viewport=viewport), path)
        expect(lock(door)).to_be_visible()
        assert not scrolls_sideways(door)
