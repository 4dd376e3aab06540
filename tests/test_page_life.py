"""The life of a message on the page: edited, deleted with second thoughts, removed by a moderator, reacted to."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.pages import DESKTOP, PHONE, House, say, texts
from tests.support import Client, eventually
from tests.test_page_access import faults, scrolls_sideways
from tests.test_page_reading import is_at_end, log_of, message, use

UNDO_MS = 5000
NARROW = {"width": 320, "height": 640}
FINGER_PX = 44


def act(client: Client, **frame: Any) -> Any:
    """Do something, and return what answers it."""
    client.send(ref="act", **frame)
    return client.hear("done", ref="act")


def said(client: Client, text: str) -> int:
    client.say(text)
    seq: int = client.hear("message", text=text)["seq"]
    return seq


def owner_of(house: House) -> Client:
    """The first to come into a room keeps it."""
    return Client(house.url, house.room, name="Olga")


def pick_newest(page: Page) -> None:
    log_of(page).focus()
    page.keyboard.press("ArrowUp")


def pills(page: Page, text: str) -> Locator:
    return message(page, text).locator(".reaction")


def tools_of(page: Page, text: str) -> list[str | None]:
    page.locator("#room-name").hover()
    message(page, text).locator(".bubble").hover()
    return [tool.get_attribute("data-tool") for tool in page.locator(".tools [data-tool]:visible").all()]


# Edited


def test_an_edit_is_seen_by_all_with_its_time(house: House) -> None:
    """By keys: E brings the text back into the field, Enter stores it; whoever comes later sees it, too."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "the frist")
    expect(texts(bo)).to_have_text(["the frist"])
    pick_newest(ann)
    ann.keyboard.press("e")
    expect(ann.get_by_label("Your message")).to_be_focused()
    expect(ann.get_by_label("Your message")).to_have_value("the frist")
    say(ann, "the first")
    for page in (ann, bo, house.enter("Cy")):
        expect(page.locator(".message .prose")).to_have_text(["the first"])
        expect(page.locator(".edited")).to_have_text("edited")
        expect(page.locator(".edited")).to_have_attribute("title", re.compile(r"Edited .*20\d\d.*:\d\d:\d\d"))


def test_a_quote_says_what_its_source_says(house: House) -> None:
    """After an edit the new words, after a deletion that it is not here."""
    with owner_of(house) as olga:
        seq = said(olga, "the question")
        ann = house.enter("Ann")
        olga.say("the answer", reply_to=seq)
        quoted = ann.locator(".quote:visible .quote-text")
        expect(quoted).to_have_text("the question")
        act(olga, type="edit", message=seq, text="another question")
        expect(quoted).to_have_text("another question")
        act(olga, type="delete", message=seq)
        expect(quoted).to_have_text("This message is not here.")


def test_tools_are_those_one_may_use(house: House) -> None:
    """Who has no role edits and deletes his own; who keeps order deletes any, and edits as long as the rules let."""
    with owner_of(house) as olga:
        said(olga, "olga's")
        ann = house.enter("Ann")
        say(ann, "ann's")
        expect(message(ann, "ann's")).to_have_class(re.compile("stored"))
        anybody = ["react", "reply", "copy", "link"]
        assert tools_of(ann, "olga's") == anybody
        assert tools_of(ann, "ann's") == [*anybody, "edit", "delete"]
        act(olga, type="role", person=person_of(olga, "Ann"), role="moderator")
        expect(message(ann, "ann's").locator(".role")).to_have_text("Moderator")
        expect(message(ann, "olga's").locator(".role")).to_have_text("Owner")
        expect(ann.locator("#people-list .role:visible")).to_have_text(["Moderator", "Owner"])
        assert tools_of(ann, "olga's") == [*anybody, "person", "delete"]
        act(olga, type="rules", edit_s=1)
        eventually(lambda: tools_of(ann, "ann's") == [*anybody, "delete"])


def person_of(client: Client, name: str) -> str:
    client.send(type="people", ref="people")
    found: str = next(p["id"] for p in client.hear("people", ref="people")["people"] if p["name"] == name)
    return found


# Deleted


def test_what_one_deletes_can_be_taken_back(house: House) -> None:
    """For five seconds nothing is sent; then it is gone for all, and one line tells that something stood there."""
    context = house.person()
    context.clock.install()
    ann, bo = house.enter("Ann", context), house.enter("Bo")
    for text in ("first", "second"):
        say(ann, text)
    expect(texts(bo)).to_have_text(["first", "second"])
    use(ann, "second", "Delete")
    expect(message(ann, "second")).to_have_class(re.compile("leaving"))
    ann.get_by_role("button", name="Undo").click()
    expect(message(ann, "second")).not_to_have_class(re.compile("leaving"))
    ann.clock.run_for(2 * UNDO_MS)
    expect(texts(bo)).to_have_text(["first", "second"])
    use(ann, "second", "Delete")
    ann.clock.run_for(UNDO_MS)
    for page in (ann, bo):
        expect(texts(page)).to_have_text(["first"])
        expect(page.locator(".removed")).to_have_text("Message removed")
    expect(ann.locator("#undo")).to_be_hidden()


def test_by_keys_one_deletes_and_takes_it_back(house: House) -> None:
    """The same key once more; the one deleted before goes at once when the next one is."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    for text in ("first", "second", "third"):
        say(ann, text)
    expect(texts(bo)).to_have_count(3)
    pick_newest(ann)
    ann.keyboard.press("Delete")
    expect(message(ann, "third")).to_have_class(re.compile("leaving"))
    ann.keyboard.press("Delete")
    expect(ann.locator(".leaving")).to_have_count(0)
    ann.keyboard.press("Delete")
    ann.keyboard.press("ArrowUp")
    ann.keyboard.press("Delete")
    expect(texts(bo)).to_have_text(["first", "second"])
    expect(message(ann, "second")).to_be_focused()
    expect(message(ann, "second")).to_have_class(re.compile("leaving"))


@pytest.mark.parametrize("way", ["page", "room"])
def test_who_leaves_has_deleted(house: House, way: str) -> None:
    """Leaving the page or the room leaves no time for second thoughts."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "regretted")
    expect(texts(bo)).to_have_text(["regretted"])
    use(ann, "regretted", "Delete")
    expect(ann.locator(".leaving")).to_have_count(1)
    if way == "page":
        ann.goto(f"{house.url}/rooms")
    else:
        ann.keyboard.press("Control+k")
        ann.locator("#room").fill(f"{house.room}-2")
        ann.keyboard.press("Enter")
    expect(bo.locator(".removed")).to_have_text("Message removed")
    expect(texts(bo)).to_have_count(0)


def test_a_moderator_s_deletion_goes_at_once(house: House) -> None:
    """What shall not be read does not wait."""
    olga, bo = house.enter("Olga"), house.enter("Bo")
    say(bo, "an insult")
    expect(texts(olga)).to_have_text(["an insult"])
    use(olga, "an insult", "Delete")
    expect(bo.locator(".removed")).to_have_text("Message removed")
    expect(olga.locator("#undo")).to_be_hidden()


def test_what_was_purged_is_one_line_and_the_reader_is_not_moved(house: House) -> None:
    """However many messages go, above and around of what one reads; nothing of them is left on the page."""
    with owner_of(house) as olga, Client(house.url, house.room, name="Spammer") as spammer:
        for number in range(15):
            said(spammer, f"spam {number}")
            said(olga, f"word {number}")
        for number in range(15, 35):
            said(spammer, f"spam {number}")
        ann = house.enter("Ann")
        expect(texts(ann).last).to_have_text("spam 34")
        message(ann, "spam 7").evaluate("""node => {
            const log = document.getElementById("log");
            log.scrollTop += node.getBoundingClientRect().bottom - log.getBoundingClientRect().top - 20;
        }""")
        expect(ann.locator("#to-end")).to_be_visible()
        before = message(ann, "word 7").locator(".bubble").bounding_box()
        act(olga, type="purge", person=spammer.welcome["you"]["id"])
        expect(ann.locator(".removed").last).to_have_text("20 messages removed")
        after = message(ann, "word 7").locator(".bubble").bounding_box()
        assert before and after and abs(before["y"] - after["y"]) < 2
        expect(ann.get_by_text(re.compile(r"spam \d"))).to_have_count(0)
        late = house.enter("Cy")
        expect(texts(late).last).to_have_text("word 14")


def test_whatever_one_does_with_a_message_it_may_be_removed(house: House) -> None:
    """Picked, with the palette open, replied to, edited, selected: what was to be done with it ends, all else stays."""
    with owner_of(house) as olga:
        ann = house.enter("Ann")
        bystander = said(olga, "bystander")

        def remove(text: str) -> None:
            act(olga, type="delete", message=seqs[text])
            expect(message(ann, text)).to_have_count(0)

        seqs = {text: said(olga, text) for text in ("picked", "palette", "replied", "selected")}
        say(ann, "edited")
        seqs["edited"] = olga.hear("message", text="edited")["seq"]
        expect(message(ann, "edited")).to_have_class(re.compile("stored"))

        ann.locator(".message").filter(has_text="palette").focus()
        ann.keyboard.press("ArrowUp")
        expect(ann.locator(".picked .prose")).to_have_text("picked")
        remove("picked")
        expect(ann.locator(".message:focus .prose")).to_have_text("palette")
        ann.keyboard.press("+")
        expect(ann.locator("#palette")).to_be_visible()
        remove("palette")
        expect(ann.locator("#palette")).to_be_hidden()
        use(ann, "replied", "Reply")
        ann.get_by_label("Your message").fill("half an answer")
        remove("replied")
        expect(ann.locator("#reply")).to_be_hidden()
        expect(ann.locator("#toast")).to_contain_text("removed")
        expect(ann.get_by_label("Your message")).to_have_value("half an answer")
        use(ann, "edited", "Edit")
        expect(ann.locator("#editing")).to_be_visible()
        remove("edited")
        expect(ann.locator("#editing")).to_be_hidden()
        expect(ann.get_by_label("Your message")).to_have_value("half an answer")
        message(ann, "selected").locator(".prose").evaluate("node => getSelection().selectAllChildren(node)")
        remove("selected")
        for number in range(30):
            olga.say(f"later {number}")
        expect(texts(ann).last).to_have_text("later 29")
        ann.wait_for_function("() => getSelection().isCollapsed")
        ann.get_by_role("button", name=re.compile("new message|newest")).click()
        assert is_at_end(ann)
        assert ann.evaluate("(seq) => location.hash = `#${seq}`", seqs["picked"])
        expect(ann.locator("#toast")).to_have_text("There is no such message in this room.")
        ann.evaluate("(seq) => { location.hash = `#${seq}`; }", bystander)
        expect(message(ann, "bystander")).to_be_in_viewport()


# Reacted to


def test_one_reacts_by_keys(house: House) -> None:
    """+ opens the palette, arrows go through it, Enter chooses, Escape leaves; then one is where one was."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "tea?")
    expect(texts(bo)).to_have_text(["tea?"])
    pick_newest(bo)
    bo.keyboard.press("+")
    expect(bo.get_by_role("menu", name="React to this message")).to_be_visible()
    expect(bo.locator("#palette :focus")).to_have_text("👍")
    bo.keyboard.press("Escape")
    expect(bo.locator("#palette")).to_be_hidden()
    expect(message(bo, "tea?")).to_be_focused()
    bo.keyboard.press("+")
    for _ in range(3):
        bo.keyboard.press("ArrowRight")
    bo.keyboard.press("Enter")
    expect(bo.locator("#palette")).to_be_hidden()
    expect(pills(bo, "tea?")).to_have_text(re.compile("🎉 *1"))
    expect(pills(bo, "tea?")).to_have_attribute("aria-pressed", "true")
    expect(message(bo, "tea?")).to_be_focused()
    bo.keyboard.press("+")
    expect(bo.get_by_role("menuitemcheckbox", name="🎉")).to_have_attribute("aria-checked", "true")
    bo.keyboard.press("Escape")
    expect(pills(ann, "tea?")).to_have_attribute("aria-pressed", "false")
    expect(pills(ann, "tea?")).to_have_attribute("aria-label", re.compile("🎉.* 1 person: .*Bo"))


def test_a_pill_is_pressed_and_let_go(house: House) -> None:
    """Each click counts at once, who reacted is told by name, and nothing else of the message is painted anew."""
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "tea?")
    use(bo, "tea?", "React")
    bo.get_by_role("menuitemcheckbox", name="👍").click()
    pill = pills(ann, "tea?")
    expect(pill).to_have_attribute("aria-pressed", "false")
    message(ann, "tea?").locator(".prose").evaluate("node => { node.dataset.untouched = 'yes'; }")
    pill.click()
    expect(pill).to_have_attribute("aria-pressed", "true")
    expect(pills(bo, "tea?")).to_have_attribute("title", re.compile("2 people: .*you.* and .*Ann|2 people: .*Ann.*you"))
    expect(message(ann, "tea?").locator("[data-untouched]")).to_have_count(1)
    expect(pill).to_be_focused()
    pill.click()
    expect(pill).to_have_attribute("aria-pressed", "false")
    expect(pills(bo, "tea?")).to_have_text(re.compile("👍 *1"))
    pills(bo, "tea?").click()
    for page in (ann, bo):
        expect(page.locator(".reaction, .reactions")).to_have_count(0)


def test_tab_reaches_the_reactions_of_the_message_that_is_picked(house: House) -> None:
    """And not those of all the others."""
    with owner_of(house) as olga:
        seqs = [said(olga, f"message {number}") for number in range(3)]
        for seq in seqs:
            act(olga, type="react", message=seq, kind="👍")
        ann = house.enter("Ann")
        expect(ann.locator(".reaction")).to_have_count(3)
        assert ann.locator(".reaction[tabindex='0']").count() == 0
        pick_newest(ann)
        expect(ann.locator(".reaction[tabindex='0']")).to_have_count(1)
        expect(message(ann, "message 2").locator(".reaction[tabindex='0']")).to_have_count(1)
        act(olga, type="react", message=seqs[2], kind="🎉")
        expect(message(ann, "message 2").locator(".reaction[tabindex='0']")).to_have_count(2)


@pytest.mark.parametrize("is_owner", [True, False], ids=["owner", "anybody"])
def test_fingers_find_everything_on_a_tiny_phone(house: House, is_owner: bool) -> None:
    """All tools and the whole palette are within 320 px, each sign as large as a finger needs."""
    with Client(house.url, house.room, name="Olga") as olga:
        said(olga, "of another")
        options = {"viewport": NARROW, "has_touch": True, "is_mobile": True}
        ann = house.enter("Ann", **options)
        if is_owner:
            act(olga, type="role", person=person_of(olga, "Ann"), role="owner")
            expect(ann.locator(".notice").last).to_contain_text("owner")
        say(ann, "my own")
        expect(message(ann, "my own")).to_have_class(re.compile("stored"))
        for text, count in (("my own", 6), ("of another", 6 if is_owner else 4)):
            message(ann, text).locator(".bubble").tap()
            expect(ann.locator(".tools [data-tool]:visible")).to_have_count(count)
            for tool in ann.locator(".tools [data-tool]:visible").all():
                expect(tool).to_be_in_viewport(ratio=1)
            ann.get_by_role("button", name="React", exact=True).tap()
            expect(ann.locator(".palette-item")).to_have_count(8)
            for item in ann.locator(".palette-item").all():
                expect(item).to_be_in_viewport(ratio=1)
                box = item.bounding_box()
                assert box and min(box["width"], box["height"]) >= FINGER_PX
            ann.get_by_role("menuitemcheckbox", name="👍").tap()
            expect(pills(ann, text)).to_have_attribute("aria-pressed", "true")
            expect(ann.locator(".picked")).to_have_count(0)
        assert not scrolls_sideways(ann)


# For the ear, and at a glance


def test_one_hears_of_reactions_to_oneself_and_of_nothing_else(house: House) -> None:
    """Of edits, deletions and what others get nothing is read out."""
    context = house.person()
    context.clock.install()
    ann = house.enter("Ann", context)
    say(ann, "mine")
    with Client(house.url, house.room, name="Bo") as bo:
        theirs = said(bo, "theirs")
        expect(message(ann, "theirs")).to_be_visible()
        ann.clock.run_for(10_000)
        ann.evaluate("""() => {
            window.announced = [];
            const region = document.getElementById("announcer");
            const note = () => announced.push(...[...region.children].map((line) => line.textContent));
            new MutationObserver(note).observe(region, { childList: true });
        }""")
        act(bo, type="edit", message=theirs, text="theirs, edited")
        act(bo, type="react", message=theirs, kind="👀")
        for kind in ("👍", "🎉"):
            act(bo, type="react", message=1, kind=kind)
        act(bo, type="delete", message=theirs)
        expect(ann.locator(".removed")).to_be_visible()
        ann.clock.run_for(20_000)
        assert ann.evaluate("() => announced") == [
            "\u2068\u2068Bo\u2069\u2069 reacted to your message: \u2068👍 🎉\u2069"
        ]


def test_what_concerns_everybody_is_told_in_the_log(house: House) -> None:
    """Roles and rules to all, with who did it; who was muted to those who keep order."""
    with owner_of(house) as olga, Client(house.url, house.room, name="Dora") as dora:
        ann = house.enter("Ann")
        cy = house.enter("Cy")
        act(olga, type="role", person=person_of(olga, "Ann"), role="moderator")
        act(olga, type="rules", slow_s=10, read_only=True)
        act(olga, type="mute", person=dora.welcome["you"]["id"], seconds=60)
        act(olga, type="rules", slow_s=0)
        for page, muted in ((ann, 1), (cy, 0)):
            lines = page.locator(".notice")
            expect(lines.filter(has_text="made \u2068Ann\u2069 a moderator")).to_have_count(1)
            expect(lines.filter(has_text="slow mode on: one message every \u206810 seconds")).to_have_count(1)
            expect(lines.filter(has_text="only moderators speak")).to_have_count(1)
            expect(lines.filter(has_text="switched slow mode off")).to_have_count(1)
            expect(lines.filter(has_text="muted \u2068Dora")).to_have_count(muted)


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_grave_in_it(house: House, viewport: Any, scheme: Any) -> None:
    """Neither in what stands in the log, nor in the tools, nor in the palette."""
    with owner_of(house) as olga:
        seqs = [said(olga, text) for text in ("first", "second", "third")]
        act(olga, type="edit", message=seqs[0], text="edited text")
        act(olga, type="delete", message=seqs[1])
        act(olga, type="rules", locked=True)
        act(olga, type="react", message=seqs[2], kind="👍")
        act(olga, type="rules", locked=False)
        context = house.regular(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        ann = house.enter("Ann", context)
        say(ann, "mine")
        expect(message(ann, "mine")).to_have_class(re.compile("stored"))
        act(olga, type="react", message=seqs[2], kind="🎉")
        for kind in ("removed", "edited", "role", "notice", "reaction"):
            expect(ann.locator(f"#rows .{kind}").first, kind).to_be_attached()
        pills(ann, "third").first.click()
        expect(pills(ann, "third").first).to_have_attribute("aria-pressed", "true")
        assert faults(ann) == []
        pick_newest(ann)
        ann.keyboard.press("+")
        expect(ann.locator("#palette")).to_be_visible()
        assert faults(ann) == []
