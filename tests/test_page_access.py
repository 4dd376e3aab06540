"""The page for everyone: by keyboard, by ear, enlarged, in the dark, without motion, in one's own script and language.

axe-core looks at every view, on a light desktop and on a dark phone.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, WebSocketRoute, expect

from tests.pages import DESKTOP, PHONE, House, fill_room, my_name, rewritten, say, scrolls_sideways, texts
from tests.support import Client, eventually

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
GRAVE = ("serious", "critical")
ROW_KINDS = ("start", "day", "unread", "gap", "sum", "notice", "failed", "mine", "for-me", "folded")
REFUSED = 8  # the seq of the message that is refused in the room with everything
SEEN = """(node) => {
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(node);
    return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
}"""


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def is_focus_seen(page: Page) -> bool:
    """True if what has the focus, or the box or bubble that stands for it, is marked."""
    marked = "[document.activeElement, document.activeElement.closest('.composer-box')]"
    bubble = "document.activeElement.querySelector('.bubble')"
    return bool(page.evaluate(f"() => [...{marked}, {bubble}].filter(Boolean).some({SEEN})"))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical: in the open dialog, which makes the rest inert, or in the whole page."""
    if not page.evaluate("'axe' in window"):  # half a megabyte, to be sent and compiled
        page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate("""async () => {
        const place = document.querySelector("dialog:modal") ?? document;
        return (await axe.run(place, { resultTypes: ["violations"], selectors: false, preload: false })).violations;
    }""")
    grave = [(fault["id"], node) for fault in found if fault["impact"] in GRAVE for node in fault["nodes"]]
    return [f"{name}: {node['html'][:200]} {node['failureSummary']}" for name, node in grave]


# axe


def enter_where_everything_is(house: House, context: BrowserContext) -> Page:
    """Ann's page in a room in which rows of every kind stand, and all that may stand around them."""
    with Client(house.url, house.room, name="Bo") as bo:
        talk(bo)
        mark = json.dumps({"seq": 1, "at": 1_700_000_000_000})
        read = f"localStorage['chatroom.read:{house.room}'] = '{mark}'"
        context.add_init_script(f"if (location.protocol === 'http:') {read}")
        lose_some(context)
        page = house.enter("Ann", context)
        say(page, "mine")
        expect(texts(page).last).to_have_text("mine")
        say(page, "refused")
        expect(page.locator("#rows .failed")).to_be_visible()
        page.reload()
        expect(page.locator("#rows .failed")).to_be_visible()
        page.get_by_label("Your message").fill("x" * 3990 + " @B")
        expect(page.locator("#completion")).to_be_visible()
        bo.say("lost")
        for _ in range(130):
            bo.say("one of many")
    return page


def talk(bo: Client) -> None:
    said = (
        "**bold** _leaning_ ~~gone~~ `code` and https://example.org/a?b=c",
        "@Ann look",
        "```\nfor each in all:\n    pass\n```\n> quoted\n\n1. one\n2. two",
        "🎉",
        "\n".join(f"line {n}" for n in range(80)),
    )
    for text in said:
        bo.say(text)
    bo.say("an answer", reply_to=1)


def lose_some(context: BrowserContext) -> None:
    """Refuse one message and lose another for good, say that none is kept, and let a hundred come in one moment."""
    now = int(time.time() * 1000)

    def change(page: WebSocketRoute, frame: dict[str, Any]) -> bool:
        if frame.get("text") == "one of many":
            frame["at"] = now
        lost = [event for event in (frame, *frame.get("events", ())) if event.get("text") == "lost"]
        is_refused = frame["type"] == "ack" and frame["seq"] == REFUSED
        if is_refused or (lost and frame["type"] == "page"):
            frame.update(type="error", code="not_found", message="There is no such message.")
        elif lost:
            page.send(json.dumps({"type": "status", "storing": False}))
        return frame.get("text") not in ("refused", "lost")

    rewritten(context, change).__enter__()


def see_everything(page: Page) -> None:
    for kind in ROW_KINDS:
        expect(page.locator(f"#rows .{kind}").first, kind).to_be_attached()
    for id in ("banner", "counter", "completion"):
        expect(page.locator(f"#{id}"), id).to_be_visible()


def see_message_picked(page: Page) -> None:
    page.get_by_label("Your message").fill("")
    page.locator("#log").focus()
    press(page, "ArrowUp", "ArrowUp", "ArrowUp", "c")
    expect(page.locator("#toast")).to_be_visible()
    press(page, "ArrowUp", "ArrowUp", "r")
    expect(page.locator("#reply")).to_be_visible()
    page.locator("#log").focus()
    press(page, "ArrowUp", "Home")
    expect(page.locator(".picked .tools")).to_be_visible()
    expect(page.locator("#to-end")).to_be_visible()


VIEWS: dict[str, Callable[[Page], Any]] = {
    "room": see_everything,
    "reading": see_message_picked,
    "menu": lambda page: page.locator("#menu-toggle").click(),
    "keys": lambda page: page.keyboard.press("?"),
    "jump": lambda page: page.keyboard.press("Alt+g"),
    "naming": lambda page: my_name(page).click(),
    "sharing": lambda page: page.locator("#share").click(),
    "switcher": lambda page: page.keyboard.press("Control+k"),
    "people": lambda page: page.locator("#people").is_visible() or page.keyboard.press("Alt+p"),
}


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_grave(house: House, viewport: Any, scheme: Any) -> None:
    """No view of the room has a serious or critical fault, whatever stands in it, light or dark, large or small."""
    # Without motion: a dialog that fades in has no contrast yet.
    context = house.person(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page = enter_where_everything_is(house, context)
    found = {}
    for name, open_view in VIEWS.items():
        open_view(page)
        found[name] = faults(page)
        if page.locator("dialog:modal").count():
            page.keyboard.press("Escape")
    assert not any(found.values()), found


def test_axe_finds_nothing_grave_outside_of_rooms(house: House) -> None:
    """Neither the page of rooms, nor the question for a newcomer's name, nor an error page has such a fault."""
    house.expected = "404"
    ann = house.person(locale="zh-CN", viewport=PHONE, reduced_motion="reduce")
    page = house.visit(ann)
    expect(page.locator("#naming")).to_be_visible()
    assert faults(page) == []
    press(page, "Escape")
    expect(page.locator("#me")).to_be_enabled()
    page.goto(f"{house.url}/rooms")
    expect(page.locator(".room-link")).to_be_visible()
    assert faults(page) == []
    page.goto(f"{house.url}/nowhere")
    assert faults(page) == []


# Keys


def test_everything_is_done_by_keyboard(house: House) -> None:
    """Come in, talk, answer, go to another room and back, look who is here, choose colours: without a mouse."""
    page = house.visit(house.regular())
    expect(page.locator("#naming-name")).to_be_focused()
    page.keyboard.type("Ann")
    press(page, "Enter")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("Hello")
    press(page, "Enter", "Shift+Tab")
    expect(texts(page)).to_have_text(["Hello"])
    assert is_focus_seen(page)
    press(page, "ArrowUp")
    expect(page.locator(".message")).to_be_focused()
    assert is_focus_seen(page)
    press(page, "r")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("Hello myself")
    press(page, "Enter")
    expect(texts(page).last.locator(".quote")).to_contain_text("Hello")

    press(page, "Control+k")
    expect(page.locator("#room")).to_be_focused()
    page.keyboard.type(f"{house.room}-2")
    press(page, "Enter")
    expect(page.locator("#room-name")).to_have_text(f"{house.room}-2")
    expect(page.locator("#text")).to_be_focused()
    press(page, "Alt+ArrowDown")
    expect(page.locator("#room-name")).to_have_text(house.room)
    expect(texts(page)).to_have_count(2)

    press(page, "Alt+p", "Alt+p")
    expect(page.locator("#people-search")).to_be_focused()
    press(page, "Escape")
    expect(page.locator("#people-toggle")).to_be_focused()
    expect(page.locator("#order-toggle")).to_be_visible()  # whoever opens a room keeps its order
    press(page, "Tab", "Tab", "Tab")
    expect(page.locator("#menu-toggle")).to_be_focused()
    press(page, "Enter", "ArrowRight", "ArrowRight", "Escape")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#menu-toggle")).to_be_focused()
    press(page, "?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press(page, "Escape", "/")
    expect(page.locator("#text")).to_be_focused()


def test_focus_goes_all_the_way_round_and_is_seen(house: House) -> None:
    """Tab leads in the order of reading through all there is to use, is seen everywhere, and gets out again."""
    page = house.enter("Ann")
    expect(page.locator("#order-toggle")).to_be_visible()
    page.locator("#rooms-toggle").focus()
    order = []
    while "text" not in order:
        press(page, "Tab")
        assert is_focus_seen(page), focused(page).evaluate("(node) => node.outerHTML")
        order.append(focused(page).get_attribute("id"))
    assert order == ["share", "people-toggle", "me", "order-toggle", "menu-toggle", "log", "text"]
    for _ in range(10):
        press(page, "Tab")
        if page.evaluate("() => document.activeElement === document.body"):
            return
    raise AssertionError("the focus does not leave the page")


# For the ear


def test_mentions_are_announced_first_and_bursts_summed_up(house: House) -> None:
    """Three seconds of the page's time lie between two announcements; what is for me is read out, before the rest."""
    context = house.person()
    context.clock.install()
    ann = house.enter("Ann", context)
    ann.evaluate("""() => {
        window.announced = [];
        const region = document.getElementById("announcer");
        const note = () => announced.push([performance.now(), [...region.children].map((line) => line.textContent)]);
        new MutationObserver(note).observe(region, { childList: true });
    }""")
    with Client(house.url, house.room, name="Bo") as bo:
        for number in range(30):
            bo.say(f"chatter {number}")
        bo.say("@Ann look")
        bo.say("chatter 30")

        def heard() -> list[Any]:
            context.clock.run_for(500)
            found: list[Any] = ann.evaluate("() => announced")
            return found

        eventually(lambda: any("chatter 30" in line for _, lines in heard() for line in lines))
    moments, announcements = zip(*heard(), strict=True)
    assert all(later - earlier > 2900 for earlier, later in pairwise(moments)), moments
    lines = [line for lines in announcements for line in lines]
    assert [line for line in lines if "to you" in line] == ["\u2068Bo\u2069 to you: \u2068@Ann look\u2069"]
    assert len(lines) < 10
    [with_mention] = [lines for lines in announcements if any("to you" in line for line in lines)]
    assert "to you" in with_mention[0]


# Enlarged


@pytest.mark.parametrize(("width", "height"), [(640, 400), (320, 256)], ids=["200 %", "400 %"])
def test_enlarged_nothing_is_lost(house: House, width: int, height: int) -> None:
    """A window enlarged twice, and four times: all is within it or can be scrolled to, and nothing scrolls sideways."""
    fill_room(house.url, house.room, 5, "a message of a few words that takes more than one line when it is enlarged")
    page = house.enter("Ann", viewport={"width": width, "height": height}, device_scale_factor=1280 / width)
    expect(texts(page).last).to_be_in_viewport()
    for id in ("rooms-toggle", "room-name", "share", "people-toggle", "me", "menu-toggle", "text"):
        expect(page.locator(f"#{id}")).to_be_in_viewport(ratio=1)
    assert not scrolls_sideways(page)
    for name in ("menu", "keys", "jump", "naming", "sharing", "switcher"):
        VIEWS[name](page)
        dialog = page.locator("dialog:modal")
        expect(dialog).to_be_in_viewport(ratio=1)
        assert not dialog.evaluate("(node) => node.scrollWidth > node.clientWidth"), name
        for control in dialog.locator("button:visible, input:visible, select:visible").all():
            control.focus()
            expect(control).to_be_in_viewport()
        press(page, "Escape")


def test_large_type_breaks_nothing(house: House) -> None:
    """Type half as large again, set in a phone's browser: nothing scrolls sideways, and all is there to be used."""
    fill_room(house.url, house.room, 1)
    page = house.enter("Ann", viewport=PHONE)
    page.evaluate("() => { document.documentElement.style.fontSize = '150%'; }")
    for id in ("text", "rooms-toggle", "share", "people-toggle", "menu-toggle"):
        expect(page.locator(f"#{id}")).to_be_in_viewport(ratio=1)
    assert not scrolls_sideways(page)


# Without motion


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_motion_is_taken_away_on_demand(house: House, motion: Any) -> None:
    """Who asks for less motion gets none; others get a little."""
    fill_room(house.url, house.room, 1)
    page = house.enter("Ann", reduced_motion=motion)
    page.evaluate("() => { location.hash = '#1'; }")
    expect(page.locator(".flash")).to_be_visible()
    press(page, "Control+k")
    moving = page.evaluate("""() => [...document.querySelectorAll("*")].filter((node) => {
        const style = getComputedStyle(node);
        const isSmooth = style.scrollBehavior === "smooth" || style.animationName !== "none";
        return isSmooth || style.transitionDuration.split(", ").some((duration) => duration !== "0s");
    }).length""")
    assert (moving == 0) == (motion == "reduce")


# Every script


def test_right_to_left_stays_where_it_belongs(house: House) -> None:
    """Names and texts of any direction, also those that try to turn what stands around them, turn only themselves."""
    with Client(house.url, house.room, name="דנה!") as dana:
        dana.say("שלום, Ann!")
        dana.say("\u202eevil\u2067 unclosed")
        dana.say("plain")
        page = house.enter("Ann")
        dana.send(type="typing")
        expect(page.locator("#hint")).to_contain_text("\u2068דנה!\u2069")
    first = page.locator(".message").first
    assert first.locator(".prose").evaluate("(node) => getComputedStyle(node).direction") == "rtl"
    name, time = (first.locator(f".byline {part}").bounding_box() for part in (".name", "time"))
    assert name and time and name["x"] + name["width"] <= time["x"]
    lefts = {bubble.bounding_box()["x"] for bubble in texts(page).all()}  # type: ignore[index]
    assert len(lefts) == 1
    assert not scrolls_sideways(page)


def test_language_is_the_browsers_until_another_is_chosen(house: House) -> None:
    """Who reads Chinese is answered in Chinese; a switch brings English at once, to all tabs, and nothing is lost."""
    context = house.regular(locale="zh-CN")
    page, other = house.enter("Ann", context), house.enter("Ann", context)
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    page.get_by_label("你的消息").fill("草稿")
    page.locator("#menu-toggle").click()
    page.get_by_label("语言", exact=True).select_option("English")
    language = page.get_by_label("Language", exact=True)
    expect(language).to_be_focused()
    expect(language).to_have_value("en")
    press(page, "Escape")
    expect(page.locator("#text")).to_have_value("草稿")
    expect(other.locator("html")).to_have_attribute("lang", "en")
    page.goto(f"{house.url}/rooms")
    expect(page.get_by_role("heading", name="Where you were lately")).to_be_visible()


# Colours


def test_colours_are_the_systems_until_others_are_chosen(house: House) -> None:
    """Dark is dark on a light system, in all tabs, after a reload and in the browser's frame; the system comes back."""
    light, dark = "rgb(246, 248, 248)", "rgb(20, 25, 27)"
    context = house.regular(color_scheme="light")
    page, other = house.enter("Ann", context), house.enter("Ann", context)
    frame = page.locator("meta[name=theme-color]").first
    expect(page.locator("body")).to_have_css("background-color", light)
    page.locator("#menu-toggle").click()
    expect(page.get_by_label("System")).to_be_checked()
    page.get_by_label("Dark").check()
    expect(page.locator("body")).to_have_css("background-color", dark)
    expect(frame).to_have_attribute("content", "#14191b")
    expect(other.locator("body")).to_have_css("background-color", dark)
    page.reload()
    expect(page.locator("body")).to_have_css("background-color", dark)
    expect(frame).to_have_attribute("content", "#14191b")
    page.locator("#menu-toggle").click()
    expect(page.get_by_label("Dark")).to_be_checked()
    page.get_by_label("System").check()
    for tab in (page, other):
        expect(tab.locator("body")).to_have_css("background-color", light)
    expect(frame).to_have_attribute("content", "#f6f8f8")
    assert all(cookie["name"] != "theme" for cookie in context.cookies())
