"""Whole journeys through the pages: Chromium, the real server, and what people do in a room.

Any console error and any error of a page that a test did not expect fails it; a breach of the
Content-Security-Policy is such an error. Waiting is always for something on the page.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, WebSocketRoute, expect, sync_playwright

from tests.support import DEADLINE_S, Client, ServerProcess, eventually

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PHONE = {"width": 360, "height": 740}
LOST_LINE = r"WebSocket connection to .* failed|net::ERR_"  # what Chromium itself logs while a server is away

LONGEST_BACKOFF_MS = 30_000

expect.set_options(timeout=DEADLINE_S * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is missing: `make deps` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    database = tmp_path_factory.mktemp("browser") / "chatroom.db"
    with ServerProcess(database, message_rate=0) as server:
        yield server


class House:
    """The browsers of one test: every context is another person."""

    def __init__(self, browser: Browser, url: str, room: str, expected: str) -> None:
        self.browser = browser
        self.url = url
        self.room = room
        self.expected = expected  # a pattern of errors that belong to the test
        self.errors: list[str] = []
        self.contexts: list[BrowserContext] = []

    def person(self, **options: Any) -> BrowserContext:
        """Somebody with a browser of his own."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        self.contexts.append(context)
        return context

    def visit(self, context: BrowserContext, path: str | None = None) -> Page:
        page = context.new_page()
        page.goto(self.url + (path or f"/?room={self.room}"))
        return page

    def enter(self, name: str, context: BrowserContext | None = None, **options: Any) -> Page:
        """Come into the room as somebody whose browser remembers a name from another visit."""
        context = context or self.person(**options)
        remember = f"localStorage['chatroom.name'] ??= JSON.stringify({json.dumps(name)});"
        context.add_init_script(f"if (location.protocol === 'http:') {remember}")
        page = self.visit(context)
        expect(my_name(page)).to_be_enabled()
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        unexpected = [error for error in self.errors if not re.search(self.expected, error)]
        assert not unexpected, unexpected


@contextmanager
def house_at(server: ServerProcess, browser: Browser, room: str, expected: str = "$^") -> Iterator[House]:
    house = House(browser, server.url, room, expected)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture
def house(browser: Browser, server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[House]:
    room = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[:60]
    with house_at(server, browser, room) as house:
        yield house


@pytest.fixture
def frail(browser: Browser, tmp_path: Path) -> Iterator[tuple[House, ServerProcess]]:
    """A house with a server of its own that may be killed."""
    with (
        ServerProcess(tmp_path / "chatroom.db", message_rate=0) as server,
        house_at(server, browser, "frail", LOST_LINE) as house,
    ):
        yield house, server


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def texts(page: Page) -> Locator:
    return page.locator(".message .bubble")


def my_name(page: Page) -> Locator:
    return page.get_by_role("button", name="Change your name")


def present(page: Page) -> Locator:
    return page.locator("#present")


def fill_room(url: str, room: str, count: int, text: str = "message") -> None:
    """Let somebody say `count` messages, numbered from 1."""
    with Client(url, room, name="Filler") as filler:
        for number in range(1, count + 1):
            filler.say(f"{text} {number}")
            filler.hear("ack")


@contextmanager
def rewritten(context: BrowserContext, change: Callable[[WebSocketRoute, dict[str, Any]], bool]) -> Iterator[None]:
    """Every frame to the page passes `change`, which may alter it, close the socket, or return False to drop it."""

    def route(page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            frame = json.loads(message)
            if change(page_side, frame):
                page_side.send(json.dumps(frame))

        server_side.on_message(pass_on)

    context.route_web_socket(re.compile("/ws"), route)
    yield
    context.unroute_all()


# Talking


def test_two_browsers_talk(house: House) -> None:
    """What one browser says the other shows, with the speaker's name; the speaker's own is marked as his."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "Hello Bo")
    expect(texts(bo)).to_have_text(["Hello Bo"])
    say(bo, "Hello Ann")
    expect(texts(ann)).to_have_text(["Hello Bo", "Hello Ann"])
    expect(ann.locator(".message.mine .bubble")).to_have_text(["Hello Bo"])
    expect(bo.locator(".message:not(.mine) .name")).to_have_text(["Ann"])


def test_plain_wire_member_hears_and_is_heard(house: House) -> None:
    """A program on the plain wire and a browser in one room hear each other."""
    ann = house.enter("Ann")
    with Client(house.url, house.room, plain=True) as program:
        program.socket.send("hello from a program")
        expect(texts(ann)).to_have_text(["hello from a program"])
        say(ann, "hello program")
        eventually(lambda: program.next() == "hello program")


def test_enter_sends_and_shift_enter_breaks_the_line(house: House) -> None:
    """Shift+Enter makes a new line, Enter sends, and Enter that confirms an input method's word does neither."""
    ann = house.enter("Ann")
    field = ann.get_by_label("Your message")
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    expect(field).to_have_value("one\ntwo")
    field.press("Enter")
    expect(field).to_have_value("")
    expect(texts(ann)).to_have_text(["one\ntwo"], use_inner_text=True)


def test_too_long_text_is_counted_and_not_sent(house: House) -> None:
    """Near the limit the characters left are counted as people count them; a text over it stays in the field."""
    ann = house.enter("Ann")
    field = ann.get_by_label("Your message")
    field.fill("🙂" * 3990)
    expect(ann.locator("#counter")).to_have_text("10 left")
    field.fill("🙂" * 4001)
    expect(ann.locator("#counter")).to_have_text("1 too many")
    field.press("Enter")
    expect(texts(ann)).to_have_count(0)
    expect(field).not_to_have_value("")


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
        ServerProcess(tmp_path / "chatroom.db", message_rate=2) as server,
        house_at(server, browser, "rate") as house,
    ):
        ann, bo = house.enter("Ann"), house.enter("Bo")
        wanted = [f"fast {number}" for number in range(1, 13)]
        for text in wanted:
            say(ann, text)
        expect(ann.locator(".message.held .fate")).to_contain_text("faster than this room allows")
        expect(texts(bo)).to_have_text(wanted)
        expect(ann.locator(".message.stored .bubble")).to_have_text(wanted)


# Who is who


def test_reload_keeps_identity_and_name(house: House) -> None:
    """A newcomer is asked for a name; after a reload he is not, and what he said is still his own."""
    ann = house.visit(house.person())
    tell_name(ann, "Ann")
    say(ann, "It is me")
    expect(ann.locator(".message.stored.mine")).to_have_count(1)
    ann.reload()
    expect(ann.locator(".message.mine .bubble")).to_have_text(["It is me"])
    expect(my_name(ann)).to_contain_text("Ann")
    expect(ann.get_by_role("dialog")).to_have_count(0)


def tell_name(page: Page, name: str) -> None:
    page.get_by_label("Your name", exact=True).fill(name)
    page.get_by_role("button", name="Come in").click()
    expect(my_name(page)).to_be_enabled()


def test_second_tab_is_the_same_person(house: House) -> None:
    """Two tabs of one browser count as one person, and each shows what the other said as one's own."""
    context = house.person()
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
    guest = house.visit(house.person())
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
    expect(bo.locator(".message .name")).to_have_text(["Ann", "Anna"])


def rename(page: Page, name: str) -> None:
    my_name(page).click()
    page.get_by_label("Your name", exact=True).fill(name)
    page.get_by_role("button", name="Change it").click()


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


# A line that breaks


def test_killed_server_is_told_and_nothing_is_lost_or_doubled(frail: tuple[House, ServerProcess]) -> None:
    """While the server is dead the page says so; what is written meanwhile goes out once and in order on its return."""
    house, server = frail
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "before")
    expect(texts(bo)).to_have_text(["before"])
    server.kill()
    expect(ann.locator("#banner")).to_contain_text("No connection since")
    for text in ("first", "second", "third"):
        say(ann, text)
    expect(ann.locator(".message.waiting .bubble")).to_have_text(["first", "second", "third"])
    server.start()
    for page in (ann, bo):
        # It may be back by itself already, in which case there is no button left to press.
        page.evaluate("window.dispatchEvent(new Event('online'))")
        expect(page.locator(".message.stored .bubble")).to_have_text(["before", "first", "second", "third"])
        expect(texts(page)).to_have_count(4)
        expect(page.locator("#banner")).to_be_hidden()


def test_lost_log_is_told_and_dropped(frail: tuple[House, ServerProcess]) -> None:
    """A server that comes back with another log makes the page drop what it held, and say so."""
    house, server = frail
    ann = house.enter("Ann")
    say(ann, "from another life")
    expect(ann.locator(".message.stored")).to_have_count(1)
    server.kill()
    for file in Path(server.database).parent.glob("chatroom.db*"):
        file.unlink()
    server.start()
    expect(ann.locator(".notice")).to_contain_text(["What stood here before is gone."])
    expect(texts(ann)).to_have_count(0)


def test_lost_ack_makes_no_double(house: House) -> None:
    """A message whose ack was lost with the line is sent again, stored once and shown once."""
    broken: list[WebSocketRoute] = []

    def break_before_first_ack(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        if frame["type"] == "ack" and not broken:
            broken.append(page_side)
            page_side.close(code=1011)
        return page_side not in broken

    context = house.person()
    with rewritten(context, break_before_first_ack):
        ann = house.enter("Ann", context)
        watch_most_messages(ann)
        say(ann, "only once")
        expect(ann.locator(".message.stored .bubble")).to_have_text(["only once"])
        say(ann, "and then")
        expect(ann.locator(".message.stored .bubble")).to_have_text(["only once", "and then"])
        assert ann.evaluate("() => window.most") == 2


def watch_most_messages(page: Page) -> None:
    """Keep in `window.most` how many messages stood on the page at the most."""
    page.evaluate("""() => {
        window.most = 0;
        const count = () => { window.most = Math.max(window.most, document.querySelectorAll(".message").length); };
        new MutationObserver(count).observe(document.getElementById("rows"), { childList: true });
    }""")


def test_gap_is_shown_and_can_be_loaded(house: House) -> None:
    """What was missed and is not sent again stands there as a gap with its size, and a button loads it."""
    shown_from = 0
    line: WebSocketRoute | None = None

    def cut(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        nonlocal shown_from, line
        line = page_side
        if frame["type"] == "welcome" and "resumed" in frame:
            frame["resumed"] = "gap"
            shown_from = frame["head"] - 9
        return not ("at" in frame and frame["seq"] < shown_from)

    fill_room(house.url, house.room, 5, "early")
    context = house.person()
    with rewritten(context, cut):
        ann = house.enter("Ann", context)
        expect(texts(ann)).to_have_count(5)
        context.set_offline(True)
        house.expected = LOST_LINE
        assert line is not None
        line.close(code=1011)
        fill_room(house.url, house.room, 30, "late")
        context.set_offline(False)
        expect(ann.locator(".gap")).to_contain_text("20 messages are not loaded here")
        ann.locator(".gap").get_by_role("button").click()
        wanted = [f"early {number}" for number in range(1, 6)] + [f"late {number}" for number in range(1, 31)]
        expect(texts(ann)).to_have_text(wanted)
        expect(ann.locator(".gap")).to_have_count(0)


def test_policy_close_keeps_the_page_away(house: House) -> None:
    """A page that was told to stay away (1008) says so and does not come back by itself."""
    context = house.person()
    opened: list[WebSocketRoute] = []

    def turn_away(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        opened.append(page_side)
        page_side.close(code=1008)
        return False

    with rewritten(context, turn_away):
        context.clock.install()
        page = house.visit(context)
        page.get_by_role("button", name="Just join as a guest").click()
        expect(page.locator("#banner")).to_contain_text("asked this page to stay away")
        expect(page.get_by_role("button", name="Try now")).to_have_count(0)
        page.evaluate("() => window.dispatchEvent(new Event('online'))")
        context.clock.run_for(LONGEST_BACKOFF_MS + 5000)
        expect(page.locator("#banner")).to_contain_text("asked this page to stay away")
        assert len(set(opened)) == 1


def test_a_short_loss_is_not_told(house: House) -> None:
    """Most losses last a second: the page says that there is no connection only after five."""
    context = house.person()
    lines: list[WebSocketRoute] = []
    is_away = False

    def turn_away(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        lines.append(page_side)
        if is_away:
            page_side.close(code=1011)
        return not is_away

    with rewritten(context, turn_away):
        context.clock.install()
        ann = house.enter("Ann", context)
        context.clock.pause_at(ann.evaluate("() => Date.now() + 1000"))
        is_away = True
        lines[-1].close(code=1011)
        expect(ann.locator("body.offline")).to_have_count(1)
        context.clock.run_for(4500)
        assert ann.locator("#banner").is_hidden()
        context.clock.run_for(1500)
        expect(ann.locator("#banner")).to_contain_text("No connection since")


def test_full_server_is_told_and_its_wait_respected(browser: Browser, tmp_path: Path) -> None:
    """A page that finds the server full says so, waits as long as the server asked and offers no hasty retry."""
    with (
        ServerProcess(tmp_path / "chatroom.db", max_members=1) as server,
        house_at(server, browser, "full", LOST_LINE + "|status of 503") as house,
    ):
        house.enter("Ann")
        bo = house.visit(house.person())
        bo.get_by_role("button", name="Just join as a guest").click()
        expect(bo.locator("#banner")).to_contain_text(re.compile(r"takes nobody in .* Trying again in \d+ s"))
        expect(bo.get_by_role("button", name="Try now")).to_have_count(0)


# Reading back


def test_scrolling_back_loads_older_messages_without_a_jump(house: House) -> None:
    """Older messages come as one scrolls back, what one reads stays where it is, and the beginning is reached."""
    fill_room(house.url, house.room, 180)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_have_text("message 180")
    expect(texts(ann)).to_have_count(50)
    before = ann.locator("#log").evaluate("""log => {
        log.scrollTop = 200;
        const top = log.getBoundingClientRect().top;
        const bubbles = [...log.querySelectorAll(".bubble")];
        const read = bubbles.find((bubble) => bubble.getBoundingClientRect().top > top + 50);
        return { text: read.textContent, y: read.getBoundingClientRect().top };
    }""")
    expect(texts(ann).first).to_have_text("message 81")
    after = ann.get_by_text(before["text"], exact=True).bounding_box()
    assert after and abs(after["y"] - before["y"]) < 2
    scroll_to_beginning(ann)
    expect(texts(ann)).to_have_text([f"message {number}" for number in range(1, 181)])


def scroll_to_beginning(page: Page) -> None:
    def is_there() -> bool:
        page.locator("#log").evaluate("log => { log.scrollTop = 0; }")
        return page.get_by_text("This is where the room begins.").count() > 0

    eventually(is_there)


def test_page_holds_at_most_400_messages(house: House) -> None:
    """However much was said, a bounded part of it is on the page, and one can scroll from end to end all the same."""
    fill_room(house.url, house.room, 520)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_have_text("message 520")
    scroll_to_beginning(ann)
    expect(texts(ann).first).to_have_text("message 1")
    assert texts(ann).count() <= 400
    ann.get_by_role("button", name="To the newest").click()
    expect(texts(ann).last).to_have_text("message 520")
    expect(texts(ann).last).to_be_in_viewport()
    assert texts(ann).count() <= 400


def test_reader_is_not_moved_by_new_messages(house: House) -> None:
    """Who has scrolled back stays where he is, is told how many messages came, and gets to them by a button."""
    fill_room(house.url, house.room, 40)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_be_in_viewport()
    scrolled = ann.locator("#log").evaluate("log => { log.scrollTop -= 600; return log.scrollTop; }")
    expect(ann.get_by_role("button", name="To the newest")).to_be_visible()
    fill_room(house.url, house.room, 2, "later")
    expect(ann.get_by_role("button", name="2 new messages")).to_be_visible()
    assert ann.locator("#log").evaluate("log => log.scrollTop") == scrolled
    ann.get_by_role("button", name="2 new messages").click()
    expect(texts(ann).last).to_be_in_viewport()
    expect(ann.locator("#to-end")).to_be_hidden()


def test_bursts_are_announced_at_most_once_in_three_seconds(house: House) -> None:
    """A screen reader hears a burst of messages summed up, not each of them."""
    ann = house.enter("Ann")
    ann.evaluate("""() => {
        window.announced = [];
        const region = document.getElementById("announcer");
        const note = () => window.announced.push([performance.now(), region.textContent]);
        new MutationObserver(note).observe(region, { childList: true });
    }""")
    fill_room(house.url, house.room, 30)
    expect(ann.locator("#announcer")).to_contain_text("new messages. The last one, Filler: message 30")
    moments = [moment for moment, _ in ann.evaluate("() => window.announced")]
    assert all(later - earlier > 2900 for earlier, later in pairwise(moments))


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


def test_hostile_texts_are_shown_as_text(house: House) -> None:
    """Whatever is written is shown as it was written and is never run."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    for text in HOSTILE:
        say(ann, text)
    for page in (ann, bo):
        expect(page.locator(".message.stored .bubble")).to_have_text(list(HOSTILE))
        expect(page.locator(".bubble *, iframe, #rows img")).to_have_count(0)


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
    expect(ann.locator(".message .name")).to_have_text(names)
    expect(ann.locator("#rows img, #people img, #rows b")).to_have_count(0)


def test_hostile_room_name_is_shown_as_text(house: House) -> None:
    """A room named like markup is a room."""
    page = house.visit(house.person(), "/?room=%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.get_by_role("heading", level=1)).to_have_text('"><img src=x onerror=alert(1)>')
    page.get_by_role("button", name="Just join as a guest").click()
    expect(my_name(page)).to_be_enabled()
    house.visit(page.context, "/rooms").get_by_role("link", name='"><img src=x').click()


def test_plain_http_works_without_secure_context_features(house: House) -> None:
    """On plain http, without clipboard and randomUUID, one talks all the same; what cannot work is hidden."""
    context = house.person()
    context.add_init_script("""
        delete Crypto.prototype.randomUUID;
        delete Navigator.prototype.clipboard;
        Object.defineProperty(window, "isSecureContext", { value: false });
    """)
    ann = house.enter("Ann", context)
    say(ann, "over plain http")
    expect(ann.locator(".message.stored .bubble")).to_have_text(["over plain http"])
    ann.get_by_role("button", name="Share this room").click()
    expect(ann.get_by_label("Link to this room")).to_have_value(f"{house.url}/?room={house.room}")
    expect(ann.get_by_role("button", name="Copy the link")).to_have_count(0)


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


def scrolls_sideways(page: Page) -> bool:
    inner = "[document.documentElement, document.getElementById('log')].filter(Boolean)"
    return bool(page.evaluate(f"() => {inner}.some((node) => node.scrollWidth > node.clientWidth)"))


def test_dark_and_light_both_render(house: House) -> None:
    """The page follows the system's colour scheme."""
    grounds = set()
    for scheme in ("light", "dark"):
        page = house.visit(house.person(color_scheme=scheme))
        grounds.add(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


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


# The start page


def test_start_page_opens_and_remembers_rooms(house: House) -> None:
    """A room is opened by its name, and the rooms visited stand on the start page, newest first, until taken off."""
    context = house.person()
    house.enter("Ann", context)
    page = house.visit(context, "/rooms")
    for room in ("one room", "another & room"):
        page.get_by_label("Open a room, or make one").fill(room)
        page.get_by_role("button", name="Open", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(room)
        page.get_by_role("link", name="All rooms").click()
    page.get_by_role("button", name=f"Take {house.room} off this list").click()
    expect(page.locator("#recent-rooms bdi")).to_have_text(["another & room", "one room"])
    page.get_by_role("button", name="Take one room off this list").click()
    expect(page.locator("#recent-rooms bdi")).to_have_text(["another & room"])


def test_start_page_refuses_a_bad_room_name(house: House) -> None:
    """A name that can be no room is refused on the spot, with the reason."""
    page = house.visit(house.person(), "/rooms")
    page.get_by_label("Open a room, or make one").fill("a/b")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="no slashes")).to_be_visible()
