"""Reading a room: authors, replies, mentions, links to messages, days, the unread line; a scroll that never jumps."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.pages import PHONE, House, fill_room, rewritten, say, texts
from tests.support import Client, eventually

SCROLL_TOP = "log => log.scrollTop"


def log_of(page: Page) -> Locator:
    return page.locator("#log")


def message(page: Page, text: str) -> Locator:
    return page.locator(".message").filter(has=page.get_by_text(text, exact=True))


def scroll_to_beginning(page: Page) -> None:
    def is_there() -> bool:
        log_of(page).evaluate("log => { log.scrollTop = 0; }")
        return page.get_by_text("This is where the room begins.").count() > 0

    eventually(is_there)


def use(page: Page, text: str, tool: str) -> None:
    """Hover over a message and press one of its tools."""
    message(page, text).locator(".bubble").hover()
    message(page, text).get_by_role("button", name=tool).click()


def is_at_end(page: Page) -> bool:
    return bool(log_of(page).evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop < 2"))


# Who said what


def test_messages_of_one_author_stand_together_with_exact_times(house: House) -> None:
    """One byline for what follows closely, names in the person's own colour, the exact moment on hover."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    expect(ann.locator(".notice")).to_contain_text("Bo")  # later it would stand between the messages
    said: list[str] = []
    for speaker, text in ((bo, "one"), (bo, "two"), (ann, "three"), (bo, "four")):
        say(speaker, text)
        said.append(text)
        expect(texts(ann)).to_have_text(said)
    continued = [
        bool(row) for row in ann.locator(".message").evaluate_all("rows => rows.map(r => r.matches('.continued'))")
    ]
    assert continued == [False, True, False, False]
    hues = ann.locator(".message:not(.mine)").evaluate_all("rows => rows.map(r => r.style.getPropertyValue('--hue'))")
    assert len(set(hues)) == 1
    assert hues[0]
    expect(ann.locator(".day")).to_have_text("Today")
    expect(message(ann, "four").locator("time")).to_have_attribute("title", re.compile(r"20\d\d.*:\d\d:\d\d"))


def test_text_is_markdown_and_never_markup(house: House) -> None:
    """What people type to stress a word is shown as meant; code can be copied."""
    context = house.regular(permissions=["clipboard-read", "clipboard-write"])
    ann = house.enter("Ann", context)
    say(ann, "**bold** and _soft_, ~~gone~~, `x < 1` <b>no</b>\n\n- one\n- two\n\n> said\n\n```\nlet a = 1;\n```")
    row = ann.locator(".message.stored")
    expect(row.locator("strong")).to_have_text("bold")
    expect(row.locator("em")).to_have_text("soft")
    expect(row.locator("li li, ul > li")).to_have_text(["one", "two"])
    expect(row.locator("blockquote")).to_have_text("said")
    expect(row.locator("b")).to_have_count(0)
    row.get_by_role("button", name="Copy", exact=True).click()
    assert ann.evaluate("navigator.clipboard.readText()").strip() == "let a = 1;"


# Replies and mentions


def test_a_reply_quotes_its_source_and_leads_to_it(house: House) -> None:
    """The quote is there for everybody, even if the source is not loaded, and jumps to it."""
    ann = house.enter("Ann")
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("the question")
        seq = bo.hear("message")["seq"]
        use(ann, "the question", "Reply")
        expect(ann.locator("#reply")).to_contain_text("the question")
        say(ann, "the answer")
        assert bo.hear("message")["reply_to"] == seq
        for number in range(120):
            bo.say(f"filler {number}")
            bo.hear("message")
        bo.say("a late answer", reply_to=seq)
    late = house.enter("Cy")
    quote = late.locator(".message").last.locator(".quote")
    expect(quote).to_contain_text("Bo")
    expect(quote).to_contain_text("the question")
    quote.click()
    expect(message(late, "the question").first).to_be_in_viewport()
    expect(late.locator("#to-end")).to_be_visible()
    expect(ann.locator(".message.mine .quote")).to_contain_text("the question")


def test_a_quote_of_nothing_says_so(house: House) -> None:
    """A server that lets a reply's source vanish leaves a quote without a way."""
    context = house.person()

    def far(_: Any, frame: dict[str, Any]) -> bool:
        if frame["type"] == "message":
            frame["reply_to"] = 999999
        return True

    with rewritten(context, far), Client(house.url, house.room, name="Bo") as bo:
        ann = house.enter("Ann", context)
        bo.say("to nobody")
        expect(ann.locator(".quote")).to_have_text("This message is not here.")
        expect(ann.locator(".quote")).to_be_disabled()


def test_who_is_named_sees_it(house: House) -> None:
    """A message that names me, or answers me, stands out; one that names somebody else does not."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "mine")
    expect(texts(bo)).to_have_count(1)
    use(bo, "mine", "Reply")
    say(bo, "an answer")
    for text in ("hello @Ann!", "hello @Annabel"):
        say(bo, text)
    expect(texts(ann)).to_have_count(4)
    expect(ann.locator(".for-me .prose")).to_have_text(["an answer", "hello @Ann!"])
    expect(ann.locator("mark")).to_have_text("@Ann")
    expect(bo.locator(".for-me")).to_have_count(0)


# Going to a message


def test_a_link_to_a_message_leads_there(house: House) -> None:
    """The copied link opens the room at the message; one to nowhere says so; the end is one button away."""
    fill_room(house.url, house.room, 200)
    context = house.regular(permissions=["clipboard-read", "clipboard-write"])
    ann = house.enter("Ann", context)
    use(ann, "message 160", "Copy a link to this message")
    expect(ann.locator("#toast")).to_have_text("Copied.")
    link = ann.evaluate("navigator.clipboard.readText()")
    assert link.endswith(f"/?room={house.room}#160")
    bo = house.enter("Bo")
    bo.goto(f"{house.url}/?room={house.room}#20")
    bo.reload()
    expect(message(bo, "message 20")).to_be_in_viewport()
    expect(message(bo, "message 20")).to_have_class(re.compile("flash"))
    bo.get_by_role("button", name="To the newest").click()
    expect(message(bo, "message 200")).to_be_in_viewport()
    bo.evaluate("location.hash = '#9999'")
    expect(bo.locator("#toast")).to_have_text("There is no such message in this room.")


def test_one_reads_on_from_a_message_in_the_past(house: House) -> None:
    """From a message far back one scrolls forward to the newest, without a hole and without a button."""
    fill_room(house.url, house.room, 300)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_be_in_viewport()
    ann.evaluate("location.hash = '#30'")
    expect(message(ann, "message 30")).to_be_in_viewport()

    def scrolled_to_end() -> bool:
        log_of(ann).evaluate("log => { log.scrollTop += 400; }")
        return is_at_end(ann) and ann.locator(".gap").count() == 0

    eventually(scrolled_to_end)
    expect(texts(ann).last).to_have_text("message 300")
    shown = [int(text.split()[1]) for text in texts(ann).all_text_contents()]
    assert shown == list(range(shown[0], 301))


def test_one_goes_to_a_day(house: House) -> None:
    """The first message of the day chosen; a day after the last one has none."""
    fill_room(house.url, house.room, 90)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_be_in_viewport()
    today = ann.evaluate("new Date().toLocaleDateString('sv')")
    go_to_day(ann, today)
    expect(message(ann, "message 1")).to_be_in_viewport()
    ann.locator("#jump-date").evaluate("field => { field.max = ''; }")
    go_to_day(ann, "2099-01-01")
    expect(ann.locator("#toast")).to_have_text("Nothing has been said since then.")


def go_to_day(page: Page, day: str) -> None:
    page.locator("#menu-toggle").click()
    page.get_by_role("button", name="Go to a day").click()
    page.get_by_label("Day", exact=True).evaluate("(field, day) => { field.max = ''; field.value = day; }", day)
    page.get_by_role("button", name="Go there").click()


# Scrolling


def test_scrolling_back_loads_older_messages_without_a_jump(house: House) -> None:
    """Older messages come as one scrolls back, what one reads stays where it is, and the beginning is reached."""
    fill_room(house.url, house.room, 180)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_have_text("message 180")
    expect(texts(ann)).to_have_count(50)
    before = log_of(ann).evaluate("""log => {
        log.scrollTop = 200;
        const top = log.getBoundingClientRect().top;
        const bubbles = [...log.querySelectorAll(".bubble")];
        const read = bubbles.find((bubble) => bubble.getBoundingClientRect().top > top + 50);
        return { text: read.textContent.trim(), y: read.getBoundingClientRect().top };
    }""")
    expect(texts(ann).first).to_have_text("message 81")
    after = message(ann, before["text"]).locator(".bubble").bounding_box()
    assert after and abs(after["y"] - before["y"]) < 2
    scroll_to_beginning(ann)
    expect(texts(ann)).to_have_text([f"message {number}" for number in range(1, 181)])


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
    scrolled = log_of(ann).evaluate("log => { log.scrollTop -= 600; return log.scrollTop; }")
    expect(ann.get_by_role("button", name="To the newest")).to_be_visible()
    fill_room(house.url, house.room, 2, "later")
    expect(ann.get_by_role("button", name="2 new messages")).to_be_visible()
    assert log_of(ann).evaluate(SCROLL_TOP) == scrolled
    ann.get_by_role("button", name="2 new messages").click()
    expect(texts(ann).last).to_be_in_viewport()
    expect(ann.locator("#to-end")).to_be_hidden()


def test_who_marks_text_at_the_end_is_not_moved(house: House) -> None:
    """Selecting a text holds the room still until the selection is gone."""
    fill_room(house.url, house.room, 30)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_be_in_viewport()
    ann.locator(".prose").last.evaluate("node => getSelection().selectAllChildren(node)")
    scrolled = log_of(ann).evaluate(SCROLL_TOP)
    fill_room(house.url, house.room, 20, "later")
    expect(ann.get_by_role("button", name="20 new messages")).to_be_visible()
    assert log_of(ann).evaluate(SCROLL_TOP) == scrolled
    assert ann.evaluate("getSelection().toString()") == "message 30"
    ann.get_by_role("button", name="20 new messages").click()
    expect(texts(ann).last).to_be_in_viewport()


def test_a_long_message_is_folded(house: House) -> None:
    """A wall of text takes part of the screen until somebody wants all of it."""
    ann = house.enter("Ann")
    say(ann, "\n".join(str(line) for line in range(1500 // 5)))
    row = ann.locator(".message.stored")
    expect(row.get_by_role("button", name="Show all of it")).to_be_visible()
    assert row.evaluate("row => row.offsetHeight") < 600
    row.get_by_role("button", name="Show all of it").click()
    expect(row.get_by_role("button", name="Show less")).to_be_visible()
    assert row.evaluate("row => row.offsetHeight") > 600


# What is new


def test_the_unread_line_stands_where_one_left(house: House) -> None:
    """Coming back one sees what is new since, under a line, and a way up to it if it is out of sight."""
    context = house.person()
    ann = house.enter("Ann", context)
    fill_room(house.url, house.room, 3, "early")
    expect(texts(ann)).to_have_count(3)
    expect(ann.locator(".unread")).to_have_count(0)
    ann.close()
    fill_room(house.url, house.room, 120, "late")
    ann = house.visit(context)
    expect(texts(ann).last).to_be_in_viewport()
    pill = ann.get_by_role("button", name=re.compile("120 new since"))
    pill.click()
    expect(ann.locator(".unread")).to_be_in_viewport()
    expect(message(ann, "early 3")).to_be_in_viewport()
    expect(pill).to_be_hidden()
    ann.get_by_role("button", name="To the newest").click()
    expect(texts(ann).last).to_be_in_viewport()
    ann.reload()
    expect(texts(ann).last).to_have_text("late 120")
    expect(ann.locator(".unread, #to-unread:visible")).to_have_count(0)


def test_two_tabs_agree_on_what_was_read(house: House) -> None:
    """What one tab has read is not new in the other."""
    fill_room(house.url, house.room, 40)
    context = house.regular()
    first = house.enter("Ann", context)
    expect(texts(first).last).to_have_text("message 40")
    log_of(first).evaluate("log => { log.scrollTop = 0; }")
    fill_room(house.url, house.room, 3, "later")
    expect(first.get_by_role("button", name="3 new messages")).to_be_visible()
    second = house.visit(context)
    expect(texts(second).last).to_be_in_viewport()
    expect(first.locator("#to-end-text")).to_have_text("To the newest")


# By keys and by touch


def test_messages_are_reached_and_used_by_keys(house: House) -> None:
    """Arrows go from message to message and hold the room still; R replies, Escape goes back to writing."""
    fill_room(house.url, house.room, 60)
    ann = house.enter("Ann")
    expect(texts(ann).last).to_be_in_viewport()
    log_of(ann).focus()
    for _ in range(3):
        ann.keyboard.press("ArrowUp")
    expect(ann.locator(".picked .prose")).to_have_text("message 58")
    scrolled = log_of(ann).evaluate(SCROLL_TOP)
    fill_room(house.url, house.room, 5, "later")
    expect(ann.get_by_role("button", name="5 new messages")).to_be_visible()
    assert log_of(ann).evaluate(SCROLL_TOP) == scrolled
    expect(ann.locator(".picked .prose")).to_have_text("message 58")
    ann.keyboard.press("r")
    expect(ann.locator("#reply")).to_contain_text("message 58")
    expect(ann.get_by_label("Your message")).to_be_focused()
    ann.keyboard.press("Escape")
    expect(ann.locator("#reply")).to_be_hidden()
    log_of(ann).focus()
    ann.keyboard.press("ArrowUp")
    ann.keyboard.press("Escape")
    expect(ann.get_by_label("Your message")).to_be_focused()
    expect(ann.locator(".picked")).to_have_count(0)


def test_a_tap_offers_what_can_be_done(house: House) -> None:
    """On a phone a tap on a message brings its tools, another one takes them away."""
    fill_room(house.url, house.room, 3)
    ann = house.enter("Ann", viewport=PHONE, has_touch=True, is_mobile=True)
    message(ann, "message 2").locator(".bubble").tap()
    expect(message(ann, "message 2").get_by_role("toolbar")).to_be_visible()
    message(ann, "message 2").get_by_role("button", name="Reply").tap()
    expect(ann.locator("#reply")).to_contain_text("message 2")
    expect(ann.get_by_role("toolbar")).to_have_count(0)
