"""The room's page and the room's order: what somebody sees who is slowed down, kept quiet, put out or given a role."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.cable import Cable
from tests.pages import DESKTOP, LOST_LINE, PHONE, House, house_at, say, scrolls_sideways, texts
from tests.support import Client, ServerProcess, eventually

KEPT_OUT = LOST_LINE + "|status of 403"  # what Chromium itself logs at a refused handshake
HOUR_S = 3600


class Owner(Client):
    """Whoever came into the room first, and keeps order in it."""

    def act(self, type: str, **fields: Any) -> Any:
        """Do something and return the answer to it."""
        self.send(type=type, ref="act", **fields)
        while True:
            frame = self.next()
            if frame.get("ref") == "act":
                assert frame["type"] != "error", frame
                return frame

    def id_of(self, name: str) -> str:
        people = self.act("people")["people"]
        return next(str(person["id"]) for person in people if person["name"] == name)


@pytest.fixture
def owner(server: ServerProcess, house: House) -> Iterator[Owner]:
    with Owner(server.url, house.room, name="Olga") as owner:
        yield owner


@pytest.fixture
def barred(house: House, owner: Owner) -> House:
    """The house's room for those who are not let in."""
    house.expected = KEPT_OUT
    return house


def field(page: Page) -> Locator:
    return page.get_by_label("Your message")


def stored(page: Page) -> Locator:
    return page.locator(".message.stored .prose")


def banner(page: Page) -> Locator:
    return page.locator("#banner")


def silence(page: Page) -> Locator:
    return page.locator("#silence")


def hint(page: Page) -> Locator:
    return page.locator("#rules-hint")


def toast(page: Page) -> Locator:
    return page.locator("#toast")


def pinned(page: Page) -> Locator:
    return page.get_by_role("region", name="Announcement")


# Slow mode


def test_slow_mode_holds_what_is_said_too_early(house: House, owner: Owner) -> None:
    """The page says that it is slow, counts down on its button, and sends what was said early in due time."""
    ann = house.enter("Ann")
    owner.act("rules", slow_s=2)
    expect(hint(ann)).to_have_text(re.compile("Slow: every .*2 seconds"))
    say(ann, "one")
    expect(stored(ann)).to_have_text(["one"])
    expect(ann.locator("#send")).to_have_text(re.compile(r"0:0[12]"))
    say(ann, "two")
    expect(ann.locator(".message.held .fate")).to_contain_text(re.compile("Goes out in .*0:0[12].*: slow mode"))
    expect(stored(ann)).to_have_text(["one", "two"])
    assert [event["text"] for event in owner.messages(2)] == ["one", "two"]


def test_end_of_slow_mode_lets_everything_go(house: House, owner: Owner) -> None:
    """What waits for it goes out at once, in order, and nothing counts down any more."""
    ann = house.enter("Ann")
    owner.act("rules", slow_s=HOUR_S)
    for text in ("one", "two", "three"):
        say(ann, text)
    expect(ann.locator(".message.held")).to_have_count(1)
    owner.act("rules", slow_s=0)
    expect(stored(ann)).to_have_text(["one", "two", "three"])
    expect(ann.locator("#send")).to_have_text("")
    expect(hint(ann)).to_be_empty()


def test_moderators_are_not_slowed_down(house: House, owner: Owner) -> None:
    """Whoever is made one is told so, and what he had waiting goes out."""
    ann = house.enter("Ann")
    owner.act("rules", slow_s=HOUR_S)
    for text in ("one", "two"):
        say(ann, text)
    expect(ann.locator(".message.held")).to_have_count(1)
    owner.act("role", person=owner.id_of("Ann"), role="moderator")
    expect(toast(ann)).to_contain_text("You are a moderator here now.")
    expect(stored(ann)).to_have_text(["one", "two"])
    owner.act("role", person=owner.id_of("Ann"), role="")
    expect(toast(ann)).to_contain_text("You have no role here any more.")


# Being kept quiet


def test_muted_person_is_told_and_loses_nothing(house: House, owner: Owner) -> None:
    """Why and until when stands in the field and is read out; what was written is there again after the mute."""
    ann = house.enter("Ann")
    field(ann).fill("half a thou")
    owner.act("mute", person=owner.id_of("Ann"), seconds=HOUR_S, reason="shouting")
    expect(silence(ann)).to_contain_text(re.compile(r"You are muted until .*\d+:\d\d.*: .*shouting"))
    expect(toast(ann)).to_contain_text("You are muted until")
    expect(ann.locator("#announcer")).to_contain_text("You are muted until")
    field(ann).press("Enter")
    expect(field(ann)).to_have_value("half a thou")
    ann.reload()
    expect(silence(ann)).to_contain_text("shouting")
    owner.act("mute", person=owner.id_of("Ann"), seconds=0)
    expect(toast(ann)).to_contain_text("You can write again.")
    expect(silence(ann)).to_be_hidden()
    field(ann).press_sequentially("ght")
    field(ann).press("Enter")
    expect(stored(ann)).to_have_text(["half a thought"])


def test_mute_is_over_by_itself(house: House, owner: Owner) -> None:
    """No frame tells of it: the page knows when it may write again."""
    ann = house.enter("Ann")
    owner.act("mute", person=owner.id_of("Ann"), seconds=1)
    expect(silence(ann)).to_be_visible()
    expect(silence(ann)).to_be_hidden()
    say(ann, "at last")
    expect(stored(ann)).to_have_text(["at last"])


def test_read_only_room_is_read(house: House, owner: Owner) -> None:
    """Who comes in finds out why he cannot write, on one line; the owner writes on."""
    owner.act("rules", read_only=True, locked=False)
    ann = house.enter("Ann", viewport=PHONE)
    expect(silence(ann)).to_have_text("Only moderators write here at the moment.")
    expect(ann.get_by_role("button", name="Send")).to_have_count(0)
    owner.say("listen")
    expect(stored(ann)).to_have_text(["listen"])
    owner.act("rules", read_only=False)
    say(ann, "thanks")
    expect(stored(ann)).to_have_text(["listen", "thanks"])


def test_raid_keeps_newcomers_quiet_until_it_is_over(house: House, owner: Owner) -> None:
    """They are told that it is the raid, everybody that it is slow, and its end by the owner lets them write."""
    ann = house.enter("Ann")
    owner.act("raid", seconds=HOUR_S)
    expect(silence(ann)).to_contain_text("Raid protection: newcomers only read until")
    expect(hint(ann)).to_contain_text("Raid protection until")
    owner.act("raid", seconds=0)
    expect(silence(ann)).to_be_hidden()
    expect(hint(ann)).to_be_empty()
    say(ann, "phew")
    expect(stored(ann)).to_have_text(["phew"])


def test_hints_give_way_to_who_is_writing(house: House, owner: Owner) -> None:
    """Both have one line, on a phone, too; the whole of it can be asked for."""
    owner.act("rules", slow_s=5, locked=False, links="held", read_only=False)
    ann = house.enter("Ann", viewport=PHONE)
    expect(hint(ann)).to_have_text(re.compile("Slow: .* · Links reviewed"))
    expect(hint(ann)).to_have_attribute("title", re.compile("Links reviewed"))
    expect(field(ann)).to_have_accessible_description(re.compile("Slow: every"))
    owner.send(type="typing")
    expect(ann.locator("#hint")).to_contain_text("is writing")
    expect(hint(ann)).to_be_hidden()
    assert not scrolls_sideways(ann)


# Waiting for a moderator


def test_held_message_waits_for_a_moderator(house: House, owner: Owner) -> None:
    """It stays where it was said, over a reload too, until it is shown to all, or refused."""
    owner.act("filter", patterns=[{"pattern": "hmm", "action": "hold"}])
    ann = house.enter("Ann")
    for text in ("hmm one", "hmm two", "three"):
        say(ann, text)
    waiting = ann.locator(".message.review")
    expect(waiting).to_have_count(2)
    expect(waiting.first.locator(".fate")).to_contain_text("Waits for a moderator")
    expect(stored(ann)).to_have_text(["three"])
    ann.reload()
    expect(waiting.locator(".prose")).to_have_text(["hmm one", "hmm two"])
    first, second = (held["id"] for held in owner.act("held")["held"])
    owner.act("review", held=first, show=True)
    expect(stored(ann)).to_have_text(["three", "hmm one"])
    owner.act("review", held=second, show=False)
    expect(ann.locator(".message.failed .fate")).to_contain_text(
        re.compile("Not sent. .*This room does not let it through.")
    )
    ann.locator(".message.failed").get_by_role("button", name="Remove").click()
    ann.reload()
    expect(texts(ann)).to_have_text(["three", "hmm one"])


def test_refused_message_says_why(house: House, owner: Owner) -> None:
    """What the filter does not let through has failed at once; what comes after it goes out."""
    owner.act("rules", links="off")
    ann = house.enter("Ann")
    say(ann, "see https://example.org")
    say(ann, "never mind")
    expect(ann.locator(".message.failed .fate")).to_contain_text("This room does not let it through.")
    expect(stored(ann)).to_have_text(["never mind"])


# Announcements


def test_announcement_stands_above_the_log_until_it_is_hidden(house: House, owner: Owner) -> None:
    """It says from whom it is, has working links, is read out when it comes, and once hidden stays so."""
    context = house.regular(viewport=PHONE)
    ann, other_tab = house.enter("Ann", context), house.enter("Ann", context)
    expect(pinned(ann)).to_be_hidden()
    owner.act("rules", announcement="Tonight at eight: see https://example.org/stars, and bring **everything** along.")
    expect(pinned(ann)).to_contain_text("Olga")
    expect(pinned(ann).get_by_role("link")).to_have_attribute("href", "https://example.org/stars")
    expect(ann.locator("#announcer")).to_contain_text(re.compile("Announcement by .*Olga.*: .*Tonight at eight"))
    folded = pinned(ann).bounding_box()
    pinned(ann).get_by_role("button", name="Show all").click()
    expect(pinned(ann).get_by_text("everything")).to_be_in_viewport(ratio=1)
    opened = pinned(ann).bounding_box()
    assert folded and opened and folded["height"] < 48 < opened["height"]
    assert not scrolls_sideways(ann)
    pinned(ann).get_by_role("button", name="Hide").click()
    for page in (ann, other_tab):
        expect(pinned(page)).to_be_hidden()
    ann.reload()
    expect(ann.locator("#me")).to_be_enabled()
    expect(pinned(ann)).to_be_hidden()
    owner.act("rules", announcement="Postponed.")
    expect(pinned(ann)).to_contain_text("Postponed.")
    expect(pinned(ann).get_by_role("button", name="Show all")).to_have_count(0)
    owner.act("rules", announcement="")
    expect(pinned(ann)).to_be_hidden()


# Editing, without a line, too


def taken_up(page: Page) -> str:
    """What arrow up brings into the empty field, which is left as it was."""
    field(page).press("ArrowUp")
    value = field(page).input_value()
    field(page).press("Escape")
    return value


def test_newest_message_is_edited_from_the_field(house: House, owner: Owner) -> None:
    """Arrow up brings it back, Enter changes it for all; what is refused stays in the field, with the reason."""
    ann = house.enter("Ann")
    say(ann, "helo")
    expect(stored(ann)).to_have_text(["helo"])
    field(ann).press("ArrowUp")
    expect(field(ann)).to_have_value("helo")
    field(ann).press("Backspace")
    field(ann).press_sequentially("lo")
    field(ann).press("Enter")
    owner.hear("edit", text="hello")
    expect(stored(ann)).to_have_text(["hello"])
    expect(field(ann)).to_have_value("")
    owner.act("rules", links="off")
    field(ann).press("ArrowUp")
    field(ann).fill("https://example.org")
    field(ann).press("Enter")
    expect(ann.locator("#refusal")).to_have_text("This room does not let it through.")
    expect(field(ann)).to_have_value("https://example.org")
    field(ann).press("Escape")
    owner.act("rules", edit_s=1)
    eventually(lambda: taken_up(ann) == "")


def test_without_a_line_nothing_is_changed(browser: Browser, server: ServerProcess, house: House) -> None:
    """Reactions and edits do not go out later by themselves: whoever tries is told."""
    with Cable(server.port) as cable, house_at(cable.url, browser, house.room, LOST_LINE) as far:
        ann = far.enter("Ann")
        say(ann, "one")
        expect(stored(ann)).to_have_text(["one"])
        cable.cut()
        expect(ann.locator("body.offline")).to_have_count(1)
        field(ann).press("ArrowUp")
        field(ann).press_sequentially("!")
        field(ann).press("Enter")
        expect(ann.locator("#refusal")).to_have_text("There is no connection at the moment.")
        expect(field(ann)).to_have_value("one!")
        field(ann).press("Escape")
        texts(ann).hover()
        ann.get_by_role("button", name="React").click()
        ann.get_by_role("menuitemcheckbox").first.click()
        expect(toast(ann)).to_contain_text("There is no connection at the moment.")
        expect(ann.locator(".reaction")).to_have_count(0)


# Being put out


def test_kicked_person_is_told_and_comes_back(barred: House, owner: Owner) -> None:
    """The page says why and by whom, in plain words, sends nothing meanwhile, and goes back in when asked to."""
    ann = barred.enter("Ann")
    field(ann).fill("half a thought")
    owner.act("kick", person=owner.id_of("Ann"), reason="cool down")
    expect(banner(ann)).to_contain_text(re.compile("A moderator has put you out of this room. Reason: .*cool down"))
    expect(silence(ann)).to_have_text("You are not in this room.")
    field(ann).press("Enter")
    banner(ann).get_by_role("button", name="Come back").click()
    expect(banner(ann)).to_be_hidden()
    expect(field(ann)).to_have_value("half a thought")
    say(ann, "calm")
    expect(stored(ann)).to_have_text(["calm"])


def test_banned_person_waits_for_the_end_of_the_ban(barred: House, owner: Owner) -> None:
    """Who is put out, or comes while the ban lasts, is told why and until when; the page comes in by itself."""
    context = barred.regular()
    ann = barred.enter("Ann", context)
    owner.act("ban", person=owner.id_of("Ann"), seconds=4, reason="spam")
    told = re.compile(
        r"banned from this room until .*\d+:\d\d.*\. Reason: .*spam.* You come back by yourself in .*0:0\d"
    )
    expect(banner(ann)).to_contain_text(told)
    expect(banner(ann).get_by_role("button")).to_have_count(0)
    late = barred.visit(context)
    expect(banner(late)).to_contain_text(told)
    for page in (ann, late):
        expect(banner(page)).to_be_hidden()
        expect(page.locator("body.offline")).to_have_count(0)
    say(ann, "sorry")
    expect(stored(late)).to_have_text(["sorry"])


def test_ban_for_good_offers_nothing(barred: House, owner: Owner) -> None:
    """There is no button and no countdown, only the sentence."""
    ann = barred.enter("Ann")
    owner.act("ban", person=owner.id_of("Ann"))
    expect(ann.locator("#banner-text")).to_have_text("You are banned from this room.")
    expect(banner(ann).get_by_role("button")).to_have_count(0)


def test_locked_room_takes_nobody_new(barred: House, owner: Owner) -> None:
    """Who was there stays; who comes is told, and may try again."""
    ann = barred.enter("Ann")
    owner.act("rules", locked=True)
    expect(hint(ann)).to_contain_text("Locked")
    bo = barred.visit(barred.person())  # surely nobody who was ever here
    bo.get_by_role("button", name="Just join as a guest").click()
    expect(banner(bo)).to_contain_text("This room is locked: nobody new comes in at the moment.")
    expect(silence(bo)).to_have_text("You are not in this room.")
    owner.act("rules", locked=False)
    banner(bo).get_by_role("button", name="Try now").click()
    expect(banner(bo)).to_be_hidden()
    say(bo, "hello")
    expect(stored(ann)).to_have_text(["hello"])


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_everything_at_once_fits(house: House, owner: Owner, viewport: Any) -> None:
    """With all that a room can impose the page still shows the talk, on a phone, too."""
    owner.act("rules", slow_s=60, locked=False, links="held", announcement="word " * 90 + "w" * 40)
    ann = house.enter("Ann", viewport=viewport)
    owner.act("mute", person=owner.id_of("Ann"), seconds=30 * 24 * HOUR_S, reason="r" * 200)
    expect(silence(ann)).to_be_visible()
    expect(pinned(ann)).to_be_visible()
    assert not scrolls_sideways(ann)
    log = ann.locator("#log").bounding_box()
    assert log and log["height"] > viewport["height"] / 2
