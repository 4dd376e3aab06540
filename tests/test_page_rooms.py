"""The rooms: the start page, the sheet beside a room, the link and the code that share one, the count on the tab.

What belongs to the room's page is mounted on it by `mounted` alone, so that nothing of the line has a part in it.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from chat import identity
from chat.protocol import ProtocolError
from tests.modules import run
from tests.pages import PHONE, House, fill_room, say, scrolls_sideways, texts
from tests.support import DEADLINE_S, eventually

ASKS = re.compile("/api/rooms/")
HOSTILE = '"><img src=x onerror=alert(1)>'
MOUNT = """
import { byId } from "./dom.js";
import { Sharing } from "./sharing.js";
import { speak } from "./words.js";
import { Switcher } from "./switcher.js";
import { showUnread } from "./badge.js";
speak(document.documentElement.lang, JSON.parse(byId("words").textContent));
let room = document.body.dataset.room;
window.opened = [];
window.showUnread = showUnread;
window.switcher = new Switcher({ current: () => room, open: (other) => { room = other; window.opened.push(other); } });
window.sharing = new Sharing();
byId("rooms-toggle").addEventListener("click", () => window.switcher.show());
byId("share").addEventListener("click", () => window.sharing.open(room));
"""


def remember(house: House, context: BrowserContext, *rooms: str, **read_to: int) -> None:
    """Let a browser have visited `rooms`, the newest first; `read_to` says up to which seq it has read in some."""
    now_ms = int(time.time() * 1000)
    kept: dict[str, Any] = {"rooms": [{"room": room, "at": now_ms - place} for place, room in enumerate(rooms)]}
    kept |= {f"read:{room}": {"seq": seq, "at": now_ms} for room, seq in read_to.items()}
    house.remember(context, **kept)


def mounted(house: House, room: str, context: BrowserContext | None = None) -> Page:
    """The page of a room with nothing alive in it but what this file is about."""
    page = house.stage(MOUNT, f"/?room={quote(room)}", context)
    eventually(lambda: page.evaluate("Boolean(window.sharing)"))
    return page


def heads(context: BrowserContext, head_of: Callable[[str], int]) -> list[str]:
    """Answer for the server with `head_of(room)`; returns the rooms asked for, as they become more."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url.split("/api/rooms/")[1].split("/")[0])
        route.fulfill(json={"epoch": "e", "head": head_of(asked[-1]), "events": []})

    context.route(ASKS, answer)
    return asked


def with_stopped_clock(context: BrowserContext, address: str) -> Page:
    """A page whose time goes on only by `page.clock.run_for`."""
    page = context.new_page()
    now_s = time.time()
    page.clock.install(time=now_s)
    page.clock.pause_at(now_s + 1)
    page.goto(address)
    return page


def names(page: Page) -> Locator:
    return page.locator("#recent-rooms li:visible bdi")


def row(page: Page, room: str) -> Locator:
    return page.locator("#recent-rooms li").filter(has=page.locator("bdi", has_text=re.compile(f"^{re.escape(room)}$")))


def unread(page: Page) -> Locator:
    return page.locator(".room-unread:visible")


def field(page: Page) -> Locator:
    return page.get_by_label("Open a room, or make one")


def go_out_of_sight(page: Page, is_hidden: bool) -> None:
    change = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    page.evaluate(f"{change} document.dispatchEvent(new Event('visibilitychange')); }}", is_hidden)


# The start page


def test_a_room_is_opened_by_its_name(house: House) -> None:
    """The form goes to the room of that name, trimmed; a bad name is told beside the field until it is changed."""
    page = house.stage("", "/rooms")
    bad = {"  ": "write a name", "a/b": "no slashes", "a\u202eb": "cannot be seen", "x" * 65: "64"}
    for name, problem in bad.items():
        field(page).fill(name)
        field(page).press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(problem)
        expect(field(page)).to_have_attribute("aria-invalid", "true")
    field(page).fill(" tea & cake ")
    expect(page.locator("#room-problem")).to_be_empty()
    page.get_by_role("button", name="Open").click()
    page.wait_for_url(f"{house.url}/?room=tea+%26+cake")


def test_names_of_rooms_are_judged_as_the_server_does(modules: Page) -> None:
    """What the form takes the server takes, in the same spelling; what it refuses the server refuses."""
    judged = ["tea", "a b", "..", ".", "a/b", "a\\b", "", "\u2800", "\u3164", "e\u0301", "\u0301", "a\u200db", "\u200d"]
    judged += [
        "x" * 64,
        "x" * 65,
        "😀" * 64,
        "😀" * 65,
        "a\tb",
        "a\u2028b",
        "a\u202eb",
        "\ufeffa",
        "שלום",
        "-",
        HOSTILE,
    ]
    script = "const { oneSpelling, problemWith } = await load('roomname');"
    script += "return arg.map((name) => problemWith(oneSpelling(name)) ? null : oneSpelling(name));"

    def by_server(name: str) -> str | None:
        with suppress(ProtocolError):
            return identity.room_name(name)
        return None

    assert run(modules, script, judged) == [by_server(name) for name in judged]


def test_visited_rooms_are_listed_until_taken_off(house: House) -> None:
    """They stand newest first, whatever their names; taking one off hands the focus on, and goes for all tabs."""
    context = house.regular(viewport=PHONE)
    remember(house, context, "tea", HOSTILE, "x" * 64)
    page, other = house.visit(context, "/rooms"), house.visit(context, "/rooms")
    expect(names(page)).to_have_text(["tea", HOSTILE, "x" * 64])
    assert not scrolls_sideways(page)
    page.get_by_role("button", name="Take \u2068tea\u2069 off").click()
    expect(names(page)).to_have_text([HOSTILE, "x" * 64])
    expect(row(page, HOSTILE).get_by_role("button")).to_be_focused()
    expect(names(other)).to_have_text([HOSTILE, "x" * 64])
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Where you were lately")).to_be_hidden()
    expect(field(page)).to_be_focused()


def test_list_goes_by_keyboard(house: House) -> None:
    """Typing narrows the list, arrows go through it and back to the field."""
    context = house.regular()
    remember(house, context, "Tea", "kitchen", "Téa too")
    page = house.visit(context, "/rooms")
    field(page).fill("tea")
    expect(names(page)).to_have_text(["Tea", "Téa too"])
    down = [("ArrowDown", "Tea"), ("ArrowDown", "Téa too"), ("ArrowDown", "Téa too")]
    for key, focused in [*down, ("Home", "Tea"), ("End", "Téa too")]:
        page.keyboard.press(key)
        expect(row(page, focused).get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(field(page)).to_be_focused()
    field(page).fill("")
    expect(names(page)).to_have_count(3)


# What is unread


def test_rooms_tell_how_much_is_unread(house: House) -> None:
    """A room shows what was said since it was read here; not one never read, nor one whose log has been replaced."""
    fill_room(house.url, "counted", 3)
    context = house.regular()
    remember(house, context, "counted", "never-read", "replaced", "read", counted=1, replaced=9, read=0)
    page = house.visit(context, "/rooms")
    expect(page.get_by_role("link", name="counted").get_by_text("2 new")).to_be_visible()
    expect(unread(page)).to_have_count(1)
    reader = house.visit(context, "/rooms")
    reader.evaluate("localStorage['chatroom.read:counted'] = JSON.stringify({ seq: 3, at: 0 })")
    expect(unread(page)).to_have_count(0)


def test_unread_counts_are_asked_for_gently(house: House) -> None:
    """Four at once and with pauses, only while in sight, again after half a minute, and not for rooms never read."""
    context = house.person()
    rooms = [f"room{number}" for number in range(6)]
    remember(house, context, *rooms, "never-read", **dict.fromkeys(rooms, 0))
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    context.route(ASKS, hold)
    page = with_stopped_clock(context, f"{house.url}/rooms")
    eventually(lambda: page.evaluate("1") and len(held) == 4)
    page.clock.run_for(2000)
    go_out_of_sight(page, True)
    page.clock.run_for(60_000)
    assert len(held) == 4
    for route in held:
        route.abort()
    context.unroute_all()
    asked = heads(context, lambda _: 7)
    go_out_of_sight(page, False)
    expect(unread(page)).to_have_text(["7 new"] * 4)
    assert asked == rooms[:4]
    page.clock.run_for(700)
    expect(unread(page)).to_have_text(["7 new"] * 6)
    context.unroute_all()
    asked = heads(context, lambda _: 9)
    page.clock.run_for(31_000)
    expect(unread(page)).to_have_text(["9 new"] * 4 + ["7 new"] * 2)
    page.clock.run_for(700)
    expect(unread(page)).to_have_text(["9 new"] * 6)
    assert asked == rooms


def test_a_room_that_is_shut_is_asked_for_once(house: House) -> None:
    """Whoever is kept out of a room gets no count of it, and does not ask again and again."""
    house.expected = "403"
    context = house.person()
    remember(house, context, "shut", "open", shut=1, open=1)
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url.split("/api/rooms/")[1].split("/")[0])
        is_shut = asked[-1] == "shut"
        route.fulfill(status=403 if is_shut else 200, json={"code": "banned"} if is_shut else {"head": 3})

    context.route(ASKS, answer)
    page = with_stopped_clock(context, f"{house.url}/rooms")
    expect(unread(page)).to_have_text(["2 new"])
    page.clock.run_for(31_000)
    eventually(lambda: page.evaluate("1") and len(asked) >= 3)
    page.clock.run_for(31_000)
    eventually(lambda: page.evaluate("1") and len(asked) >= 4)
    assert asked.count("shut") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_refuses_counts_is_asked_when_it_said(house: House, status: int) -> None:
    """Retry-After is waited for, then the refused rooms are asked for first."""
    house.expected = str(status)
    context = house.person()
    remember(house, context, "one", "two", one=0, two=0)
    refusals: list[Route] = []

    def refuse(route: Route) -> None:
        refusals.append(route)
        route.fulfill(status=status, headers={"Retry-After": "9"}, json={"error": "Later."})

    context.route(ASKS, refuse)
    page = with_stopped_clock(context, f"{house.url}/rooms")
    eventually(lambda: page.evaluate("1") and len(refusals) == 2)
    page.wait_for_load_state("networkidle")
    page.clock.run_for(8000)
    assert len(refusals) == 2
    context.unroute_all()
    asked = heads(context, lambda _: 1)
    page.clock.run_for(2000)
    expect(unread(page)).to_have_text(["1 new", "1 new"])
    assert sorted(asked) == ["one", "two"]


# The sheet beside a room


def test_another_room_is_picked_without_leaving_the_page(house: House) -> None:
    """A click, Enter on a row and a name in the field open a room here; the open one is marked and only closes."""
    context = house.person()
    remember(house, context, "here", "there", "third", here=0, there=1)
    heads(context, lambda _: 5)
    page = mounted(house, "here", context)
    toggle, sheet = page.locator("#rooms-toggle"), page.get_by_role("dialog", name="Rooms")
    toggle.click()
    expect(field(page)).to_be_focused()
    expect(row(page, "there").get_by_text("4 new")).to_be_visible()
    expect(row(page, "here").get_by_role("link")).to_have_attribute("aria-current", "page")
    expect(unread(page)).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(sheet).to_be_hidden()
    toggle.click()
    expect(row(page, "there").get_by_role("link")).to_have_attribute("aria-current", "page")
    expect(row(page, "there").locator(".room-unread")).to_be_hidden()
    row(page, "third").get_by_role("link").click()
    toggle.click()
    row(page, "third").get_by_role("link").click()
    expect(sheet).to_be_hidden()
    toggle.click()
    field(page).fill(" e\u0301toile ")
    field(page).press("Enter")
    expect(sheet).to_be_hidden()
    assert page.evaluate("window.opened") == ["there", "third", "étoile"]
    with context.expect_page() as opened:
        toggle.click()
        row(page, "here").get_by_role("link").click(modifiers=["Control"])
    opened.value.wait_for_url(f"{house.url}/?room=here")
    expect(sheet).to_be_visible()


def test_sheet_is_left_alone(house: House) -> None:
    """Escape, its button and a click beside it close the sheet and give the focus back; a phone it fills."""
    context = house.person()
    remember(house, context, "here", "there", there=0)
    asked = heads(context, lambda _: 0)
    page = mounted(house, "here", context)
    toggle, sheet = page.locator("#rooms-toggle"), page.get_by_role("dialog", name="Rooms")
    leave: list[Callable[[], None]] = [
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("button", name="Close the list of rooms").click(),
        lambda: page.mouse.click(900, 400),
    ]
    assert asked == []
    for way in leave:
        toggle.click()
        page.mouse.click(100, 700)
        expect(sheet).to_be_visible()
        way()
        expect(sheet).to_be_hidden()
        expect(toggle).to_be_focused()
    page.set_viewport_size(PHONE)
    toggle.click()
    expect(sheet).to_have_css("width", f"{PHONE['width']}px")
    assert not scrolls_sideways(page)


def test_neighbours_keep_their_order_while_one_goes_through_them(house: House) -> None:
    """The next room is the next of the list as it was, round its ends, though every visit makes a room the newest."""
    context = house.person()
    remember(house, context, "one", "two", "three")
    page = mounted(house, "one", context)
    script = "const [{ rememberRoom }, { Switcher }] = [await load('storage'), await load('switcher')];"
    script += "let room = 'one'; const switcher = new Switcher({ current: () => room }); const went = [];"
    script += "for (const step of arg) { room = switcher.neighbour(step); rememberRoom(room); went.push(room); }"
    script += "return went;"
    assert run(page, script, [1, 1, 1, -1, -1]) == ["two", "three", "one", "three", "two"]
    alone = mounted(house, "one")
    assert alone.evaluate("window.switcher.neighbour(1)") is None


def test_one_goes_from_room_to_room_in_one_page(house: House) -> None:
    """What was said elsewhere is counted in the sheet; picking the room shows it, and the way back leads back."""
    other = f"{house.room} too"
    fill_room(house.url, other, 1, "earlier")
    context = house.regular()
    remember(house, context, house.room, other, **{other: 1})
    ann = house.enter("Ann", context)
    fill_room(house.url, other, 1, "later")
    ann.evaluate("window.isSamePage = true")
    ann.get_by_role("button", name="Rooms").click()
    row(ann, other).get_by_text("1 new").click()
    expect(texts(ann)).to_have_text(["earlier 1", "later 1"])
    expect(ann).to_have_title(f"{other} · Chatroom")
    expect(ann.get_by_role("heading", level=1)).to_have_text(other)
    ann.go_back()
    expect(ann.get_by_role("heading", level=1)).to_have_text(house.room)
    expect(texts(ann)).to_have_count(0)
    ann.get_by_role("button", name="Rooms").click()
    expect(names(ann)).to_have_text([house.room, other])
    expect(unread(ann)).to_have_count(0)
    assert ann.evaluate("window.isSamePage")


# Sharing


def test_room_is_shared_by_link_and_code(house: House) -> None:
    """The dialog shows the link, copies it and draws it as a code; it says if the link is of no use elsewhere."""
    context = house.person()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=house.url)
    page = mounted(house, "tea & cake", context)
    page.evaluate("delete document.body.dataset.share")
    page.get_by_role("button", name="Share this room").click()
    link = f"{house.url}/?room=tea+%26+cake"
    expect(page.get_by_label("Link to this room")).to_have_value(link)
    expect(page.get_by_text("works on this computer only")).to_contain_text("127.0.0.1")
    eventually(lambda: page.locator("#sharing-code").evaluate("code => code.naturalWidth > 0"))
    expect(page.get_by_role("button", name="Send…")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()") == link


def test_link_is_one_that_others_can_reach(house: House) -> None:
    """On the server's own machine the address of that machine is shared: as link, as code and through the system."""
    context = house.person()
    refuse = "throw new DOMException('no', 'AbortError');"
    context.add_init_script(
        f"window.sent = []; navigator.share = async (what) => {{ window.sent.push(what); {refuse} }};"
    )
    page = mounted(house, "tea", context)
    page.evaluate("document.body.dataset.share = 'http://192.0.2.2:8888'")
    page.get_by_role("button", name="Share this room").click()
    expect(page.get_by_label("Link to this room")).to_have_value("http://192.0.2.2:8888/?room=tea")
    expect(page.get_by_text("Whoever opens this link")).to_be_visible()
    code = page.get_by_alt_text("A QR code of the link")
    expect(code).to_have_attribute("src", re.compile(r"/qr\.svg\?room=tea&share=1$"))
    page.get_by_role("button", name="Send…").click()
    assert page.evaluate("window.sent") == [{"title": "tea", "url": "http://192.0.2.2:8888/?room=tea"}]


def test_copying_works_without_a_clipboard(house: House) -> None:
    """On plain http, where pages have no clipboard, the link is copied all the same; if nothing copies, it says so."""
    context = house.person()
    context.add_init_script("delete Navigator.prototype.clipboard;")
    page = mounted(house, "tea", context)
    link = page.evaluate("window.sharing.open('tea'), document.getElementById('sharing-link').value")
    page.get_by_role("button", name="Copy the link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    expect(page.locator("dialog textarea")).to_have_count(0)
    page.keyboard.press("Escape")
    page.locator("#text").focus()
    page.keyboard.press("Control+V")
    expect(page.locator("#text")).to_have_value(link)
    page.evaluate("document.execCommand = () => false; window.sharing.open('tea')")
    page.get_by_role("button", name="Copy the link").click()
    expect(page.get_by_role("button", name="Copy it by hand, please")).to_be_visible()
    expect(page.get_by_label("Link to this room")).to_be_focused()
    assert page.evaluate("String(getSelection())") == link


def test_a_code_that_cannot_be_had_leaves_the_link(house: House) -> None:
    """Without the picture the dialog shows no broken one."""
    house.expected = "net::ERR_|503"
    context = house.person()
    context.route("**/qr.svg*", lambda route: route.fulfill(status=503))
    page = mounted(house, "tea", context)
    page.get_by_role("button", name="Share this room").click()
    expect(page.locator("#sharing-code")).to_be_hidden()
    expect(page.get_by_label("Link to this room")).to_be_visible()


def test_links_lead_to_rooms_and_to_messages(modules: Page) -> None:
    """A link names the room, whatever its name, and the message by its place."""
    script = "const { linkTo } = await load('links'); return [linkTo('a&b #1'), linkTo('茶', 7)];"
    origin = modules.evaluate("location.origin")
    assert run(modules, script) == [f"{origin}/?room=a%26b+%231", f"{origin}/?room={quote('茶')}#7"]


# The tab


def test_unread_count_stands_in_title_and_icon(house: House) -> None:
    """The tab tells the room and what is unread, in its title and drawn on its icon; at none both are plain again."""
    page = mounted(house, "tea")
    icon = page.locator("#icon")
    plain = icon.get_attribute("href")
    page.evaluate("window.showUnread('tea', 3)")
    expect(page).to_have_title("(3) tea · Chatroom")
    expect(icon).to_have_attribute("href", re.compile(r"^data:image/svg\+xml,.*%3E3%3C%2Ftext%3E%3C%2Fsvg%3E"))
    draw = "const image = new Image(); image.src = document.getElementById('icon').href; await image.decode();"
    assert page.evaluate(f"async () => {{ {draw} return image.width; }}") > 0
    page.evaluate("window.showUnread('tea', 1234)")
    expect(page).to_have_title("(1,234) tea · Chatroom")
    expect(icon).to_have_attribute("href", re.compile("9%2B%3C%2Ftext"))
    page.evaluate("window.showUnread('tea', 2), window.showUnread('cake', 0)")
    expect(page).to_have_title("cake · Chatroom")
    expect(icon).to_have_attribute("href", re.compile(f"{re.escape(plain or '')}$"))


def test_tab_out_of_sight_tells_what_is_said(house: House) -> None:
    """What is said while one looks elsewhere is counted on the tab, until one looks again."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    go_out_of_sight(ann, True)
    say(bo, "one")
    say(bo, "two")
    expect(ann).to_have_title(f"(2) {house.room} · Chatroom")
    go_out_of_sight(ann, False)
    expect(ann).to_have_title(f"{house.room} · Chatroom")


def test_a_lost_icon_costs_only_the_icon(house: House) -> None:
    """Where the icon cannot be fetched the title still tells, and nothing is logged but the failed fetch."""
    house.expected = "net::ERR_"
    page = mounted(house, "tea", house.person())
    page.route("**/icon.svg", lambda route: route.abort())
    with page.expect_event("requestfailed", timeout=DEADLINE_S * 1000):
        page.evaluate("window.showUnread('tea', 3)")
    expect(page).to_have_title("(3) tea · Chatroom")
    page.unroute_all()
    page.evaluate("window.showUnread('tea', 4)")
    expect(page.locator("#icon")).to_have_attribute("href", re.compile("^data:"))
