"""The place where one writes: what it shows, hands on and keeps.

But for the last test there is no room behind it: the first module of the room's page is replaced by one that mounts the
composer alone and writes down what it hands on.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.pages import PHONE, House, say, texts

APP = """
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { speak } from "./words.js";

const people = ["Ann", "Bo", "Anna Lee", "Zoë", "Joanna"].map((name, n) => ({ id: `id${n}`, name }));
window.told = { said: [], edits: [], drafts: [], typing: 0, sources: [], asked: [] };
window.findPeople = async () => people;
window.edited = async () => {};
window.newest = null;
window.mount = (draft = null) => {
  window.leaving = new AbortController();
  window.composer = new Composer({
    draft,
    onSay: (said) => told.said.push(JSON.parse(JSON.stringify(said))), // as it goes out
    onEdit: (edit) => (told.edits.push(edit), edited(edit)),
    onEditNewest: () => (newest && composer.edit(newest), Boolean(newest)),
    onTyping: () => told.typing++,
    onDraft: (kept) => told.drafts.push(kept),
    onSource: (seq) => told.sources.push(seq),
    findPeople: (query) => (told.asked.push(query), findPeople(query)),
    signal: leaving.signal,
  });
};
speak(document.documentElement.lang, JSON.parse(byId("words").textContent));
mount();
"""
SOMEBODY = {"id": "somebody", "name": "Bo"}
QUESTION = {"seq": 7, "by": SOMEBODY, "text": "How  late\nis it?"}
KEPT_QUESTION = {**QUESTION, "text": "How late is it?"}


def desk(house: House, **options: Any) -> Page:
    """The page of somebody who has nothing but a composer."""
    return house.stage(APP, **options)


@pytest.fixture
def page(house: House) -> Iterator[Page]:
    yield desk(house)


def field(page: Page) -> Locator:
    return page.get_by_label("Your message")


def told(page: Page, what: str) -> Any:
    return page.evaluate("(what) => told[what]", what)


def offers(page: Page) -> Locator:
    return page.get_by_role("listbox", name="People whose name begins so").get_by_role("option").locator(".name")


def active_offer(page: Page) -> Locator:
    """The one that a screen reader is told of."""
    expect(field(page)).to_have_attribute("aria-activedescendant", re.compile("."))
    active = page.locator(f"#{field(page).get_attribute('aria-activedescendant')}")
    expect(active).to_have_role("option")
    expect(active).to_have_attribute("aria-selected", "true")
    expect(page.locator("#completion [aria-selected=true]")).to_have_count(1)
    return active.locator(".name")


# Sending


def test_enter_and_the_button_send_what_was_written(page: Page) -> None:
    """Enter and the button send the trimmed text and empty the field; Shift+Enter breaks; blanks go nowhere."""
    field(page).press_sequentially("  one")
    field(page).press("Shift+Enter")
    field(page).press_sequentially("two ")
    field(page).press("Enter")
    expect(field(page)).to_have_value("")
    field(page).fill(" \n ")
    field(page).press("Enter")
    field(page).fill("three")
    field(page).evaluate("(field) => field.addEventListener('blur', () => { told.blurred = true; })")
    page.get_by_role("button", name="Send").click()
    expect(field(page)).to_be_focused()
    assert told(page, "said") == [{"text": "one\ntwo"}, {"text": "three"}]
    assert not told(page, "blurred"), "a phone's keyboard would have gone"


def test_keys_of_an_input_method_are_left_to_it(page: Page) -> None:
    """Enter that confirms a word of an input method sends nothing, in Safari's way of telling, too, and offers none."""
    line = page.context.new_cdp_session(page)
    field(page).focus()
    line.send("Input.imeSetComposition", {"text": "@a", "selectionStart": 2, "selectionEnd": 2})
    expect(field(page)).to_have_value("@a")
    for more in ({"isComposing": True}, {"keyCode": 229}):
        field(page).dispatch_event("keydown", {"key": "Enter", "cancelable": True, **more})
    assert told(page, "said") == told(page, "asked") == []
    line.send("Input.insertText", {"text": "@a"})
    expect(offers(page)).to_have_text(["Ann", "Anna Lee", "Joanna"])
    field(page).fill("你好")
    field(page).press("Enter")
    assert told(page, "said") == [{"text": "你好"}]


def test_text_over_the_limit_is_kept_and_the_reason_said(page: Page) -> None:
    """Near the limit what is left is counted in code points; what is over stays, is marked, and Enter says why."""
    counter, refusal = page.locator("#counter"), page.get_by_role("alert")
    field(page).fill("🙂" * 3599)
    expect(counter).to_be_hidden()
    expect(field(page)).to_have_accessible_description("")
    field(page).fill("🙂" * 3990 + " ")
    expect(field(page)).to_have_accessible_description("10 left")
    field(page).fill("🙂" * 4012)
    expect(counter).to_have_text("12 too many")
    expect(field(page)).to_have_attribute("aria-invalid", "true")
    field(page).press("Enter")
    expect(refusal.filter(has_text="Not sent: 12 characters too many.")).to_be_visible()
    assert told(page, "said") == []
    page.evaluate("() => { composer.limit = 5000; }")
    expect(refusal.filter(has_text="Not sent")).to_have_count(0)
    expect(field(page)).to_have_attribute("aria-invalid", "false")
    field(page).press("Enter")
    assert [len(said["text"]) for said in told(page, "said")] == [4012]


def test_typing_is_told_once_in_three_seconds(house: House) -> None:
    """Who writes is told of at once and every three seconds, and anew after each message; an emptied field is not."""
    context = house.person()
    context.clock.install()
    page = house.stage(APP, context=context)
    context.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    page.keyboard.press("a")
    field(page).press_sequentially("abc")
    assert told(page, "typing") == 1
    context.clock.run_for(3000)
    field(page).press_sequentially("d")
    field(page).press_sequentially("e")
    assert told(page, "typing") == 2
    field(page).press("Enter")
    field(page).press_sequentially("f")
    assert told(page, "typing") == 3
    context.clock.run_for(3000)
    field(page).press("Backspace")
    assert told(page, "typing") == 3


# The field

# Typing 1,500 lines takes Chromium seconds, with any field.
PASTE = "(field, text) => { field.value = text; field.dispatchEvent(new Event('input')); }"


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desktop"])
def test_field_grows_with_the_text_up_to_a_third_of_the_screen(house: House, viewport: Any) -> None:
    """The field shows each line as it is written, stops growing and scrolls, and is small again once it was sent."""
    page = desk(house, viewport=viewport)

    def height() -> float:
        return float(field(page).evaluate("(field) => field.getBoundingClientRect().height"))

    small = height()
    field(page).fill("one\n")
    two_lines = height()
    assert two_lines > small + 15
    field(page).fill("long " * (viewport["width"] // 10))
    assert height() > two_lines
    assert field(page).evaluate("(field) => field.scrollHeight <= field.clientHeight")
    for text in ("line\n" * 1500, "w" * 4000):
        field(page).evaluate(PASTE, text)
        assert abs(height() - 0.3 * viewport["height"]) < 1
        expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    field(page).fill("sent")
    field(page).press("Enter")
    assert height() == small


def test_phone_keyboard_does_not_hide_the_field(house: House) -> None:
    """Where the keyboard only covers the page, the composer is lifted over it and comes down again; a zoom does not."""
    context = house.person(viewport=PHONE)
    context.add_init_script("""
        const viewport = Object.assign(new EventTarget(), { height: 740, offsetTop: 0, scale: 1 });
        Object.defineProperty(window, "visualViewport", { value: viewport });
    """)
    page = house.stage(APP, context=context)

    def bottom(**viewport: float) -> float:
        page.evaluate("(now) => Object.assign(visualViewport, now).dispatchEvent(new Event('resize'))", viewport)
        return float(page.locator("#composer").evaluate("(form) => form.getBoundingClientRect().bottom"))

    assert bottom() == 740
    assert bottom(height=440) == 440
    assert bottom(offsetTop=100) == 540
    assert bottom(offsetTop=0, scale=2, height=370) == 740
    assert bottom(scale=1, height=740) == 740


# Replying


def test_reply_is_shown_sent_and_taken_back(page: Page) -> None:
    """Whom one answers is shown in his colour, leads to the source, goes with the text, and Escape takes it back."""
    strip = page.locator("#reply")
    expect(strip).to_be_hidden()
    page.evaluate("(question) => composer.replyTo(question)", QUESTION)
    expect(field(page)).to_be_focused()
    expect(field(page)).to_have_accessible_description("Reply to Bo How late is it?")
    expect(strip).to_have_attribute("style", re.compile(r"--hue: \d+"))
    page.get_by_role("button", name="Reply to Bo").click()
    assert told(page, "sources") == [7]
    say(page, "Nearly ten")
    expect(strip).to_be_hidden()
    expect(field(page)).to_have_accessible_description("")
    say(page, "I think")
    assert told(page, "said") == [{"text": "Nearly ten", "reply_to": 7}, {"text": "I think"}]
    page.evaluate("() => document.addEventListener('keydown', (event) => { told.isTaken = event.defaultPrevented; })")
    field(page).press("Escape")
    assert told(page, "isTaken") is False
    for taking_back in (
        lambda: field(page).press("Escape"),
        lambda: page.get_by_role("button", name="Reply to Bo").press("Escape"),
        lambda: page.get_by_role("button", name="Do not reply to this").click(),
    ):
        page.evaluate("(question) => composer.replyTo(question)", QUESTION)
        expect(strip).to_be_visible()
        taking_back()
        expect(strip).to_be_hidden()
        expect(field(page)).to_be_focused()
    assert told(page, "isTaken") is True


def test_hostile_reply_stays_one_line_of_text(house: House) -> None:
    """Whatever the name and the text answered are, they are text, on one line each, and no wider than the phone."""
    page = desk(house, viewport=PHONE)
    hostile = "<img src=x onerror=alert(1)>\u202e" + "w" * 4000
    by = {"id": "x", "name": "<b>" + "n" * 29}
    page.evaluate("(question) => composer.replyTo(question)", {"seq": 1, "by": by, "text": hostile})
    expect(page.locator("#reply-name")).to_have_text(by["name"])
    expect(page.locator("#reply-text")).to_have_text(hostile[:200])
    box = page.locator("#reply").bounding_box()
    assert box and box["height"] < 60
    expect(page.get_by_role("button", name="Do not reply to this")).to_be_in_viewport(ratio=1)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


# Editing

OLD = {"seq": 9, "text": "Nearly  ten"}


def strip_of_edit(page: Page) -> Locator:
    return page.get_by_role("button", name="Editing your message")


def test_message_is_edited_where_one_writes(page: Page) -> None:
    """What is written meanwhile is put aside with its reply; Enter saves the edit and brings the draft back."""
    page.evaluate("(question) => composer.replyTo(question)", QUESTION)
    field(page).press_sequentially("a draft")
    page.evaluate("(old) => composer.edit(old)", OLD)
    expect(field(page)).to_be_focused()
    expect(field(page)).to_have_value("Nearly  ten")
    expect(field(page)).to_have_accessible_description("Editing your message Nearly ten")
    expect(page.locator("#reply")).to_be_hidden()
    strip_of_edit(page).click()
    assert told(page, "sources") == [9]
    field(page).press("Control+End")
    field(page).press_sequentially(" past ")
    assert told(page, "typing") == 1, "nobody waits for an edit"
    page.get_by_role("button", name="Save").click()
    expect(field(page)).to_have_value("a draft")
    expect(strip_of_edit(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Reply to Bo")).to_be_visible()
    assert [told(page, "edits"), told(page, "said")] == [[{"seq": 9, "text": "Nearly  ten past"}], []]
    field(page).press("Enter")
    assert told(page, "said") == [{"text": "a draft", "reply_to": 7}]


def test_edit_is_left_without_a_trace(page: Page) -> None:
    """Escape and the button leave it, and so does saving what did not change; the draft is as it was, and is kept."""
    field(page).fill("a draft")
    for leaving in (
        lambda: field(page).press("Escape"),
        lambda: page.get_by_role("button", name="Do not change it").click(),
    ):
        page.evaluate("(old) => composer.edit(old)", OLD)
        field(page).press_sequentially("!")
        page.evaluate("() => window.dispatchEvent(new Event('pagehide'))")
        leaving()
        expect(field(page)).to_have_value("a draft")
        expect(strip_of_edit(page)).to_be_hidden()
        expect(field(page)).to_be_focused()
    page.evaluate("(old) => composer.edit(old)", OLD)
    field(page).press("Enter")
    expect(field(page)).to_have_value("a draft")
    page.evaluate("([old, question]) => { composer.edit(old); composer.replyTo(question); }", [OLD, QUESTION])
    expect(field(page)).to_have_value("a draft")
    page.evaluate("(old) => { composer.edit(old); composer.edit({ seq: 10, text: 'another' }); leaving.abort(); }", OLD)
    assert told(page, "edits") == []
    assert told(page, "drafts") == [{"text": "a draft", "reply": None}, {"text": "a draft", "reply": KEPT_QUESTION}]


def test_arrow_up_in_an_empty_field_edits_the_newest(page: Page) -> None:
    """Only where nothing is written and nothing is answered, and there is one; with a modifier it is another key."""
    page.evaluate("() => document.addEventListener('keydown', (event) => { told.isTaken = event.defaultPrevented; })")
    field(page).press("ArrowUp")
    assert told(page, "isTaken") is False
    page.evaluate("(old) => { newest = old; }", OLD)
    for written in ("x", " "):
        field(page).fill(written)
        field(page).press("ArrowUp")
        expect(field(page)).to_have_value(written)
    field(page).fill("")
    field(page).press("Alt+ArrowUp")
    expect(field(page)).to_have_value("")
    page.evaluate("(question) => composer.replyTo(question)", QUESTION)
    field(page).press("ArrowUp")
    expect(strip_of_edit(page)).to_be_hidden()
    field(page).press("Escape")
    field(page).press("ArrowUp")
    expect(field(page)).to_have_value("Nearly  ten")
    assert told(page, "isTaken") is True


def test_failed_edit_keeps_its_text_and_says_why(page: Page) -> None:
    """It can be sent again or left; while it is saved nothing else is done with it, and an empty one is not sent."""
    page.evaluate(
        "(old) => { edited = () => new Promise((...ends) => { told.ends = ends; }); composer.edit(old); }", OLD
    )
    refusal = page.get_by_role("alert")
    field(page).fill(" ")
    field(page).press("Enter")
    expect(refusal.filter(has_text="delete the message")).to_be_visible()
    field(page).fill("Ten")
    field(page).press("Enter")
    field(page).press("Enter")
    field(page).press_sequentially("x")
    expect(field(page)).to_have_value("Ten")
    page.evaluate("() => told.ends[1](new Error('It is too late for that.'))")
    expect(refusal.filter(has_text="It is too late for that.")).to_be_visible()
    field(page).press_sequentially("!")
    expect(refusal.filter(has_text="too late")).to_have_count(0)
    field(page).press("Enter")
    field(page).press("Escape")
    field(page).fill("a draft")
    page.evaluate("() => told.ends[0]()")
    expect(field(page)).to_have_value("a draft")
    assert told(page, "edits") == [{"seq": 9, "text": "Ten"}, {"seq": 9, "text": "Ten!"}]


def test_other_tabs_draft_waits_for_the_end_of_an_edit(page: Page) -> None:
    """It stands there once the edit is over."""
    page.evaluate("(old) => composer.edit(old)", OLD)
    field(page).blur()
    page.evaluate("() => composer.takeDraft({ text: 'from the other tab', reply: null })")
    expect(field(page)).to_have_value("Nearly  ten")
    field(page).press("Escape")
    expect(field(page)).to_have_value("from the other tab")


def test_what_was_removed_is_forgotten_with_the_draft_put_aside(page: Page) -> None:
    """Neither a reply that waits for the end of an edit nor what is kept of it has its text any more."""
    page.evaluate("(question) => composer.replyTo(question)", QUESTION)
    field(page).press_sequentially("a draft")
    page.evaluate("(old) => composer.edit(old)", OLD)
    assert page.evaluate("() => composer.forget((seq) => seq === 8)") is False
    assert page.evaluate("() => composer.forget((seq) => seq === 7)") is True
    field(page).press("Escape")
    expect(field(page)).to_have_value("a draft")
    expect(page.locator("#reply")).to_be_hidden()
    page.evaluate("() => leaving.abort()")
    assert told(page, "drafts")[-1] == {"text": "a draft", "reply": None}


# When one may write


def silence(page: Page, why: Any) -> None:
    page.evaluate("(why) => { composer.silence = why; }", why)


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desktop"])
def test_who_may_not_write_is_told_why_and_until_when(house: House, viewport: Any) -> None:
    """The reason stands where one writes and describes the field; what was written stays, is read, and is not sent."""
    page = desk(house, viewport=viewport)
    until = page.evaluate("() => Date.now() + 1000")
    box = page.locator(".composer-box")
    small = box.bounding_box()
    silence(page, {"code": "muted", "until": until, "reason": "shouting"})
    expect(box).to_contain_text(re.compile(r"You are muted until .*\d+:\d\d.*: .*shouting"))
    expect(field(page)).to_have_accessible_description(re.compile("^You are muted until"))
    told_alone = box.bounding_box()
    assert small and told_alone and told_alone["height"] < small["height"] + 30
    field(page).focus()
    field(page).press_sequentially("x")
    expect(field(page)).to_have_value("")
    silence(page, None)
    field(page).fill("a draft")
    silence(page, {"code": "read_only"})
    expect(box).to_contain_text("Only moderators write here")
    expect(field(page)).to_have_value("a draft")
    expect(field(page)).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
    field(page).press("Enter")
    field(page).press_sequentially("x")
    page.evaluate("() => composer.insertMention('Bo')")
    silence(page, None)
    expect(box).not_to_contain_text("moderators")
    assert told(page, "said") == []
    field(page).press("Enter")
    assert told(page, "said") == [{"text": "a draft"}]


def test_silence_leaves_with_the_room(page: Page) -> None:
    """The next room begins with a field one can write in."""
    silence(page, {"code": "read_only"})
    page.evaluate("() => { composer.waitsUntil = Date.now() + 60000; leaving.abort(); mount(); }")
    say(page, "hello")
    assert told(page, "said") == [{"text": "hello"}]
    expect(page.locator("#send-wait")).to_be_empty()


def test_button_counts_down_what_slow_mode_asks_for(house: House) -> None:
    """No live region and no name tells it, and it hinders nobody: what is said meanwhile is handed on."""
    context = house.person()
    context.clock.install()
    page = house.stage(APP, context=context)
    context.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    wait, button = page.locator("#send-wait"), page.get_by_role("button", name="Send (Enter)", exact=True)
    page.evaluate("() => { composer.waitsUntil = Date.now() + 65000; }")
    expect(button).to_have_text("1:05")
    expect(wait).to_have_attribute("aria-hidden", "true")
    context.clock.run_for(6000)
    expect(button).to_have_text("0:59")
    say(page, "early")
    assert told(page, "said") == [{"text": "early"}]
    page.evaluate("(old) => composer.edit(old)", OLD)
    expect(wait).to_be_empty()
    field(page).press("Escape")
    expect(button).to_have_text("0:59")
    context.clock.run_for(59_000)
    expect(wait).to_be_empty()


# What is kept

HIDE = """() => {
    Object.defineProperty(document, "hidden", { value: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_draft_is_kept_soon_and_at_once_when_the_page_goes(house: House) -> None:
    """What was written is kept 300 ms later, at once when the page is left, and once only; nothing left is null."""
    context = house.person()
    context.clock.install()
    page = house.stage(APP, context=context)
    context.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    field(page).press_sequentially("abc")
    context.clock.run_for(299)
    assert told(page, "drafts") == []
    context.clock.run_for(1)
    assert told(page, "drafts") == [{"text": "abc", "reply": None}]
    page.evaluate("(question) => composer.replyTo(question)", QUESTION)
    page.evaluate("() => window.dispatchEvent(new Event('pagehide'))")
    field(page).press_sequentially("d")
    page.evaluate(HIDE)
    field(page).press_sequentially("e")
    page.evaluate("() => leaving.abort()")
    kept = [{"text": text, "reply": KEPT_QUESTION} for text in ("abc", "abcd", "abcde")]
    assert told(page, "drafts")[1:] == kept
    page.evaluate("() => mount(told.drafts.at(-1))")
    page.evaluate("() => window.dispatchEvent(new Event('pagehide'))")
    context.clock.run_for(1000)
    assert len(told(page, "drafts")) == 4
    field(page).press("Enter")
    assert told(page, "said") == [{"text": "abcde", "reply_to": 7}]
    assert told(page, "drafts")[4:] == [None]


def test_draft_comes_back_and_the_old_room_hears_no_more(page: Page) -> None:
    """The field shows what was kept in each room, and what is written in one is never heard by another."""
    field(page).fill("for the first")
    page.evaluate("(reply) => { leaving.abort(); mount({ text: 'for the second\\n\\n', reply }); }", KEPT_QUESTION)
    expect(field(page)).to_have_value("for the second\n\n")
    expect(page.get_by_role("button", name="Reply to Bo")).to_be_visible()
    say(page, "once")
    assert told(page, "said") == [{"text": "once", "reply_to": 7}]
    page.evaluate("() => { leaving.abort(); mount(told.drafts[0]); }")
    expect(field(page)).to_have_value("for the first")
    expect(page.locator("#reply")).to_be_hidden()


def test_other_tabs_draft_is_shown_unless_one_writes_here(page: Page) -> None:
    """What another tab wrote replaces what stands here while nobody writes in it, and is not told back."""
    other = {"text": "from the other tab", "reply": KEPT_QUESTION}
    field(page).fill("mine")
    page.evaluate("(other) => composer.takeDraft(other)", other)
    expect(field(page)).to_have_value("mine")
    field(page).blur()
    page.evaluate("(other) => composer.takeDraft(other)", other)
    expect(field(page)).to_have_value("from the other tab")
    expect(page.get_by_role("button", name="Reply to Bo")).to_be_visible()
    field(page).focus()
    page.evaluate(HIDE)
    page.evaluate("() => composer.takeDraft(null)")
    expect(field(page)).to_have_value("")
    expect(page.locator("#reply")).to_be_hidden()
    page.evaluate("() => leaving.abort()")
    assert told(page, "drafts") in ([], [{"text": "mine", "reply": None}])


# Names


def test_names_are_completed_by_keys(page: Page) -> None:
    """`@` offers who is here; arrows go round, Enter and Tab take the active one, Escape leaves what was written."""
    assert field(page).get_attribute("aria-activedescendant") is None
    field(page).press_sequentially("Hi @an")
    expect(offers(page)).to_have_text(["Ann", "Anna Lee", "Joanna"])
    field(page).press("Home")
    expect(offers(page)).to_have_count(0)
    field(page).press("End")
    expect(offers(page)).to_have_count(3)
    expect(active_offer(page)).to_have_text("Ann")
    field(page).press("ArrowUp")
    expect(active_offer(page)).to_have_text("Joanna")
    field(page).press("ArrowDown")
    field(page).press("Alt+ArrowDown")  # belongs to the page
    expect(active_offer(page)).to_have_text("Ann")
    field(page).press("ArrowDown")
    field(page).press("Enter")
    expect(field(page)).to_have_value("Hi @Anna Lee ")
    expect(offers(page)).to_have_count(0)
    assert field(page).get_attribute("aria-activedescendant") is None
    field(page).press_sequentially("and @zoe")
    expect(offers(page)).to_have_text(["Zoë"])
    field(page).press("Tab")
    expect(field(page)).to_have_value("Hi @Anna Lee and @Zoë ")
    expect(field(page)).to_be_focused()
    field(page).press_sequentially("@b")
    expect(active_offer(page)).to_have_text("Bo")
    field(page).press("Escape")
    field(page).press_sequentially("o")
    expect(offers(page)).to_have_count(0)
    field(page).press("Enter")
    assert told(page, "said") == [{"text": "Hi @Anna Lee and @Zoë @bo"}]
    assert told(page, "drafts")[-1] is None
    field(page).press_sequentially("@b")
    expect(offers(page)).to_have_text(["Bo"])


def test_names_are_completed_by_tapping(house: House) -> None:
    """On a phone a tap takes a name, in the middle of a text, too, and the keyboard stays open."""
    page = desk(house, viewport=PHONE, has_touch=True, is_mobile=True)
    field(page).fill("  is here")
    field(page).evaluate("(field) => field.setSelectionRange(0, 0)")
    field(page).press_sequentially("@")
    expect(offers(page)).to_have_count(5)
    for offer in offers(page).all():
        expect(offer).to_be_in_viewport(ratio=1)
    offers(page).filter(has_text="Bo").tap()
    expect(field(page)).to_have_value("@Bo   is here")
    expect(field(page)).to_be_focused()
    assert field(page).evaluate("(field) => field.selectionStart") == 4
    field(page).press_sequentially("@")
    expect(offers(page)).to_have_count(5)
    field(page).blur()
    expect(offers(page)).to_have_count(0)


def test_stale_names_are_dropped_and_hasty_keys_take_no_other(page: Page) -> None:
    """An answer that comes after one wrote on is not shown; until the new one comes only names that still fit are."""
    page.evaluate("""() => {
        window.answers = {};
        window.findPeople = (query) => new Promise((resolve, reject) => { answers[query] = { resolve, reject }; });
        window.answer = (query, ...names) => answers[query].resolve(names.map((name) => ({ id: name, name })));
    }""")
    field(page).press_sequentially("@")
    page.evaluate("() => answer('', 'Ann', 'Bo')")
    expect(offers(page)).to_have_text(["Ann", "Bo"])
    field(page).press_sequentially("b")
    expect(offers(page)).to_have_text(["Bo"])
    field(page).press_sequentially("o")
    page.evaluate("() => { answer('bo', 'Bo', 'Bob'); answer('b', 'Bill'); }")
    expect(offers(page)).to_have_text(["Bo", "Bob"])
    field(page).press_sequentially("b")
    page.evaluate("() => answers.bob.reject(new Error('too fast'))")
    expect(offers(page)).to_have_text(["Bob"])
    field(page).press_sequentially("x")
    expect(offers(page)).to_have_count(0)
    field(page).press("Enter")
    page.evaluate("() => answer('bobx', 'Bobx')")
    expect(offers(page)).to_have_count(0)
    assert told(page, "said") == [{"text": "@bobx"}]


def test_no_name_is_offered_after_leaving(page: Page) -> None:
    """Whoever leaves the room leaves no list behind."""
    page.evaluate("() => { findPeople = async () => [{ id: 'a', name: 'Ann' }, { id: 'b', name: 'Bo' }]; }")
    field(page).press_sequentially("@b")
    expect(offers(page)).to_have_text(["Bo"])
    page.evaluate("() => leaving.abort()")
    expect(offers(page)).to_have_count(0)
    field(page).press_sequentially("o")
    assert told(page, "asked")[-1] == "b"
    assert told(page, "drafts") == [{"text": "@b", "reply": None}]


def test_name_from_the_list_of_people_is_inserted_at_the_caret(page: Page) -> None:
    """A name picked elsewhere stands apart from the text before it, and nothing is offered for it."""
    page.evaluate("() => composer.insertMention('Anna Lee')")
    expect(field(page)).to_have_value("@Anna Lee ")
    field(page).press_sequentially("and(x)")
    field(page).evaluate("(field) => field.setSelectionRange(14, 15)")
    field(page).blur()
    page.evaluate("() => composer.insertMention('Bo')")
    expect(field(page)).to_have_value("@Anna Lee and( @Bo )")
    expect(field(page)).to_be_focused()
    expect(offers(page)).to_have_count(0)


# In a room


def test_what_is_written_in_a_room_is_kept_until_it_is_said(house: House) -> None:
    """A reply with a completed name outlives a reload, shows in the other tab, arrives, and is then kept nowhere."""
    bo, context = house.enter("Bo"), house.regular()
    say(bo, "How late is it?")
    ann, other_tab = house.enter("Ann", context), house.enter("Ann", context)
    field(other_tab).blur()
    texts(ann).hover()
    ann.get_by_role("button", name="Reply", exact=True).click()
    field(ann).press_sequentially("@b")
    expect(offers(ann)).to_have_text(["Bo"])
    field(ann).press("Enter")
    field(ann).press_sequentially("ten")
    expect(field(other_tab)).to_have_value("@Bo ten")
    ann.reload()
    expect(field(ann)).to_have_value("@Bo ten")
    expect(ann.get_by_role("button", name="Reply to Bo How late is it?")).to_be_visible()
    field(ann).press("Enter")
    expect(bo.locator(".message").last).to_contain_text("How late is it?")
    expect(bo.locator(".message").last).to_contain_text("@Bo ten")
    expect(field(other_tab)).to_have_value("")
    expect(other_tab.locator("#reply")).to_be_hidden()
    ann.reload()
    expect(ann.locator(".message")).to_have_count(2)
    expect(field(ann)).to_have_value("")
