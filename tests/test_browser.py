"""Whole journeys through the pages: Chromium, the real server, and what people do in a room."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.pages import (
    PHONE,
    House,
    chromium,
    fill_room,
    house_at,
    my_name,
    present,
    rename,
    say,
    scrolls_sideways,
    tell_name,
    texts,
)
from tests.support import Client, ServerProcess, eventually

# Talking


def test_two_browsers_talk(house: House) -> None:
    """What one browser says the other shows, with the speaker's name; the speaker's own is marked as his."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "Hello Bo")
    expect(texts(bo)).to_have_text(["Hello Bo"])
    say(bo, "Hello Ann")
    expect(texts(ann)).to_have_text(["Hello Bo", "Hello Ann"])
    expect(ann.locator(".message.mine .bubble")).to_have_text(["Hello Bo"])
    expect(bo.locator(".message:not(.mine) .byline .name")).to_have_text(["Ann"])


def test_plain_wire_member_hears_and_is_heard(house: House) -> None:
    """A program on the plain wire and a browser in one room hear each other."""
    ann = house.enter("Ann")
    with Client(house.url, house.room, plain=True) as program:
        program.socket.send("hello from a program")
        expect(texts(ann)).to_have_text(["hello from a program"])
        say(ann, "hello program")
        eventually(lambda: program.next() == "hello program")


def test_typing_is_seen_by_the_others(house: House) -> None:
    """Who writes is named to the others until his message is there."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    ann.get_by_label("Your message").press_sequentially("Hm")
    expect(bo.locator("#hint")).to_have_text(re.compile("Ann.* is writing"))
    ann.keyboard.press("Enter")
    expect(bo.locator("#hint")).to_be_empty()


def test_messages_over_the_rate_go_out_by_themselves_in_order(browser: Browser, tmp_path: Path) -> None:
    """Somebody who writes faster than allowed is told so, and everything he wrote arrives once and in order."""
    with (
        ServerProcess(tmp_path / "chatroom.db", message_rate=0.5) as server,
        house_at(server, browser, "rate") as house,
    ):
        ann, bo = house.enter("Ann"), house.enter("Bo")
        wanted = [f"fast {number}" for number in range(1, 5)]
        for text in wanted:
            say(ann, text)
        expect(ann.locator(".message.held .fate")).to_have_text(re.compile(r"Goes out in .*[12].* s: you write faster"))
        expect(texts(bo)).to_have_text(wanted)
        expect(ann.locator(".message.stored .bubble")).to_have_text(wanted)


# Who is who


def test_reload_keeps_identity_and_name(house: House) -> None:
    """A newcomer is asked for a name; after a reload he is not, and what he said is still his own."""
    ann = house.visit(house.regular())
    tell_name(ann, "Ann")
    say(ann, "It is me")
    expect(ann.locator(".message.stored.mine")).to_have_count(1)
    ann.reload()
    expect(ann.locator(".message.mine .bubble")).to_have_text(["It is me"])
    expect(my_name(ann)).to_contain_text("Ann")
    expect(ann.get_by_role("dialog")).to_have_count(0)


def test_second_tab_is_the_same_person(house: House) -> None:
    """Two tabs of one browser count as one person, and each shows what the other said as one's own."""
    context = house.regular()
    first, bo = house.enter("Ann", context), house.enter("Bo")
    second = house.visit(context)
    expect(my_name(second)).to_contain_text("Ann")
    say(second, "From the second tab")
    expect(first.locator(".message.mine .bubble")).to_have_text(["From the second tab"])
    for page in (first, second, bo):
        expect(present(page)).to_have_text("2")


def test_empty_room_invites(house: House) -> None:
    """A room in which nothing was said yet says so, until something is."""
    ann = house.enter("Ann")
    expect(ann.locator(".start")).to_contain_text("Nothing has been said here yet")
    say(ann, "Hello")
    expect(ann.locator(".start")).to_contain_text("This is where the room begins")


def test_guest_gets_a_name(house: House) -> None:
    """Nobody has to tell a name: a guest is given one and can talk."""
    guest = house.visit(house.regular())
    guest.get_by_role("button", name="Just join as a guest").click()
    expect(my_name(guest)).to_be_enabled()
    expect(guest.locator("#my-name")).not_to_be_empty()
    say(guest, "Hello")
    expect(guest.locator(".message.stored")).to_have_count(1)


def test_rename_is_seen_by_the_other(house: House) -> None:
    """A new name is told to the room and stands over the next messages; said ones keep theirs."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "before")
    expect(texts(bo)).to_have_text(["before"])
    expect(bo.locator(".person .name")).to_have_text(["Ann", "Bo"])
    rename(ann, "Anna")
    expect(my_name(ann)).to_contain_text("Anna")
    expect(bo.locator(".notice")).to_contain_text([re.compile("Ann.* is called .*Anna")])
    expect(bo.locator(".person .name")).to_have_text(["Anna", "Bo"])
    say(ann, "after")
    expect(bo.locator(".message .byline .name")).to_have_text(["Ann", "Anna"])


def test_bad_name_is_refused_with_a_reason(house: House) -> None:
    """A name the server refuses opens the dialog again with its reason, and the old name stays."""
    ann = house.enter("Ann")
    rename(ann, "a\u202eb")
    expect(ann.locator("#naming-problem")).not_to_be_empty()
    ann.get_by_role("button", name="Keep my name").click()
    expect(my_name(ann)).to_contain_text("Ann")


def test_taken_name_gets_a_number_and_is_told(house: House) -> None:
    """The second Ann of a room becomes Ann 2 and is told so."""
    house.enter("Ann")
    second = house.enter("Ann")
    expect(my_name(second)).to_contain_text("Ann 2")
    expect(second.locator("#toast")).to_have_text(re.compile("Ann.* was taken here, you are .*Ann 2"))


def test_people_are_announced_listed_and_found(house: House) -> None:
    """Who comes is noticed and listed, the search narrows the list, and who leaves is noticed."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    expect(ann.locator(".notice")).to_have_text(re.compile("Bo.* came in"))
    expect(ann.locator("#people-title")).to_have_text("2 people here")
    ann.get_by_label("Find someone by name").fill("b")
    expect(ann.locator(".person .name")).to_have_text(["Bo"])
    say(ann, "Bye Bo")
    expect(texts(bo)).to_have_count(1)
    bo.close()
    expect(ann.locator(".notice").last).to_have_text(re.compile("Bo.* left"))
    expect(present(ann)).to_have_text("1")


# Safety

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "\"'><b onmouseover=alert(1)>x</b>",
    "javascript:alert(1)",
    "</textarea></template><script>alert(1)</script>",
    "{{ 7 * 7 }} {% raw room %} ${alert(1)}",
    "&lt;b&gt; &amp;amp; &#60;",
    "__proto__",
)


UNRULY = (
    "w" * 4000,
    "\n".join(["x"] * 1500),
    "Z" + "\u0300\u0301\u0302\u0303\u0304\u0305" * 300 + "algo",
    "\u202eabc\u202c \u2066def \u202e",
    "a\u0000b",
    "*" * 4000,
    "`" * 3999 + "x",
    "> " * 1000 + "deep",
    "https://" + "a" * 3000,
    "\u0645\u0631\u062d\u0628\u0627 hello \u0645\u0631\u062d\u0628\u0627 (1)",
)


def test_hostile_texts_are_shown_as_text(house: House) -> None:
    """Whatever is written is shown as it was written and is never run."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    for text in HOSTILE:
        say(ann, text)
    for page in (ann, bo):
        expect(page.locator(".message.stored .prose")).to_have_text(list(HOSTILE))
        expect(page.locator(".prose :is(b, img, svg, script, iframe), iframe, #rows img")).to_have_count(0)


def test_unruly_texts_stay_in_their_place(house: House) -> None:
    """Endless words, lines, accents, directions and markers: nothing leaves its bubble, and the page can be used."""
    with Client(house.url, house.room, name="Troll") as troll:
        for text in UNRULY:
            troll.say(text)
            troll.hear("ack")
    ann = house.enter("Ann", viewport=PHONE)
    expect(ann.locator(".message")).to_have_count(len(UNRULY))
    assert not scrolls_sideways(ann)
    assert ann.evaluate(ESCAPES) == []
    say(ann, "still here")
    expect(ann.locator(".message.stored.mine .prose")).to_have_text(["still here"])
    expect(texts(ann).last).to_be_in_viewport()


# What of a message is painted beside or above its bubble, as far as the browser would show it.
ESCAPES = """() => [...document.querySelectorAll(".bubble")].filter((bubble) => {
    const prose = bubble.querySelector(".prose");
    const isWide = bubble.getBoundingClientRect().right > document.documentElement.clientWidth;
    const isCut = [bubble, prose].some((node) => getComputedStyle(node).overflowX !== "visible");
    return isWide || (!isCut && prose.scrollWidth > prose.clientWidth);
}).map((bubble) => bubble.textContent.slice(0, 20))"""


def test_hostile_names_are_shown_as_text(house: House) -> None:
    """A name made of markup stays a name, in the log, in the list and in the notices."""
    names = ["<img src=x onerror=alert(1)>", "<b onclick=alert(1)>", "__proto__"]
    ann = house.enter("Ann")
    for name in names:
        other = house.enter(name)
        expect(other.locator("#my-name")).to_have_text(name)
        say(other, "hello")
        expect(ann.locator(".notice").last).to_contain_text(name)
        expect(ann.locator(".person .name").filter(has_text=name)).to_have_count(1)
    expect(ann.locator(".message .byline .name")).to_have_text(names)
    expect(ann.locator("#rows img, #people img, #rows b")).to_have_count(0)


def test_hostile_room_name_is_shown_as_text(house: House) -> None:
    """A room named like markup is a room."""
    page = house.visit(house.regular(), "/?room=%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.get_by_role("heading", level=1)).to_have_text('"><img src=x onerror=alert(1)>')
    page.get_by_role("button", name="Just join as a guest").click()
    expect(my_name(page)).to_be_enabled()
    house.visit(page.context, "/rooms").get_by_role("link", name='"><img src=x').click()


def test_plain_http_from_another_machine_works(playwright: Playwright, server: ServerProcess) -> None:
    """Under a name that is no secure context one talks, replies, copies and shares all the same."""
    url = f"http://chat.example:{server.port}"
    with (
        chromium(playwright, "--host-resolver-rules=MAP chat.example 127.0.0.1") as browser,
        house_at(url, browser, "far") as house,
    ):
        ann, bo = house.enter("Ann"), house.enter("Bo")
        assert ann.evaluate("[isSecureContext, typeof crypto.randomUUID, typeof navigator.clipboard]") == [
            False,
            "undefined",
            "undefined",
        ]
        say(ann, "over plain http")
        bo.locator(".message .bubble").hover()
        bo.get_by_role("button", name="Copy the text").click()
        expect(bo.locator("#toast")).to_have_text("Copied.")
        bo.keyboard.press("Escape")
        bo.get_by_label("Your message").fill("")
        bo.get_by_label("Your message").press("Control+v")
        expect(bo.get_by_label("Your message")).to_have_value("over plain http")
        ann.get_by_role("button", name="Share this room").click()
        expect(ann.get_by_label("Link to this room")).to_have_value(f"{url}/?room=far")
        eventually(lambda: ann.locator("#sharing-code").evaluate("code => code.naturalWidth > 0"))


def test_blocked_storage_only_forgets(house: House) -> None:
    """Where storage is blocked everything works, but the name is asked for each time."""
    context = house.person()
    context.add_init_script("""
        const blocked = () => { throw new DOMException("blocked", "SecurityError"); };
        Object.defineProperty(window, "localStorage", { get: blocked });
    """)
    ann = house.visit(context)
    tell_name(ann, "Ann")
    say(ann, "remembered by the server only")
    expect(ann.locator(".message.stored")).to_have_count(1)
    ann.reload()
    expect(ann.get_by_role("dialog")).to_be_visible()


# Looks


def test_phone_has_no_sideways_scroll_and_shows_the_composer(house: House) -> None:
    """At 360 pixels nothing is wider than the screen, whatever was written, and the composer is in sight."""
    fill_room(house.url, house.room, 30)
    ann = house.enter("Ann" * 10, viewport=PHONE)
    say(ann, "w" * 300)
    say(ann, "https://example.org/" + "long/" * 60)
    expect(ann.locator(".message.stored.mine")).to_have_count(2)
    assert not scrolls_sideways(ann)
    expect(ann.get_by_label("Your message")).to_be_in_viewport(ratio=1)
    expect(ann.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    ann.locator("#people-toggle").click()
    expect(ann.get_by_label("Find someone by name")).to_be_in_viewport(ratio=1)
    assert not scrolls_sideways(ann)
    for path in ("/rooms", "/no-such-page"):
        house.expected = "status of 404"
        assert not scrolls_sideways(house.visit(ann.context, path))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_name_can_be_read(house: House, scheme: str) -> None:
    """Each colour a name or an avatar can get has the contrast that WCAG AA asks for (4.5:1)."""
    ann = house.enter("Ann", color_scheme=scheme)
    fill_room(house.url, house.room, 1)
    expect(texts(ann)).to_have_count(1)
    assert min(ann.evaluate(CONTRASTS)) >= 4.5


CONTRASTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const luminance = (color) => {
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
        return 0.2126 * channel(red / 255) + 0.7152 * channel(green / 255) + 0.0722 * channel(blue / 255);
    };
    const contrast = (one, other) => {
        const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    };
    const row = document.querySelector(".message:not(.mine)");
    const style = (part) => getComputedStyle(row.querySelector(part));
    const ground = getComputedStyle(document.body).backgroundColor;
    const within = (part) => contrast(style(part).color, style(part).backgroundColor);
    const contrasts = [within(".bubble"), contrast(style("time").color, ground)];
    for (let hue = 0; hue < 360; hue += 20) {
        row.style.setProperty("--hue", hue);
        contrasts.push(contrast(style(".name").color, ground));
        contrasts.push(within(".avatar"));
    }
    return contrasts;
}"""
