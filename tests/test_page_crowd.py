"""A crowd on the page: what nobody can read is summed up, and the page stays usable."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from tests.pages import House, say, texts
from tests.support import Client

PER_SPEAKER = 400


@contextmanager
def flood(house: House, speakers: int = 3) -> Iterator[None]:
    """Some people say all they can, `PER_SPEAKER` messages each, and it is awaited that all of it was said."""

    def speak(name: str) -> None:
        with Client(house.url, house.room, name=name) as client:
            for number in range(PER_SPEAKER):
                client.say(f"{name} {number}")
            for _ in range(PER_SPEAKER):
                client.hear("ack")

    threads = [threading.Thread(target=speak, args=(f"Speaker {letter}",)) for letter in "ABCDEFGH"[:speakers]]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def newest(page: Page, text: str) -> None:
    expect(texts(page).last).to_have_text(text)


def test_a_flood_is_summed_up_and_can_be_read(house: House) -> None:
    """More than anybody reads becomes one line with its number; what is for me stands; a click opens all of it."""
    ann = house.enter("Ann")
    with flood(house):
        expect(texts(ann).first).to_be_visible()
        say(ann, "in the midst of it")
    say(ann, "at the end")
    newest(ann, "at the end")
    sums = ann.locator(".sum")
    expect(sums.first).to_contain_text(re.compile(r"[\d,]+ messages?\b"))
    expect(ann.locator(".message.mine.stored .prose")).to_have_text(["in the midst of it", "at the end"])
    counted = sum(
        int(text.replace(",", "")) for text in re.findall(r"([\d,]+) messages?\b", " ".join(sums.all_text_contents()))
    )
    shown = texts(ann).count()
    assert counted + shown == 3 * PER_SPEAKER + 2
    assert shown < 150
    came_before_it_was_a_flood = ann.locator(".message:not(.sum ~ .message)").count()
    sums.first.get_by_role("button").click()
    expect(texts(ann).first).to_have_text(re.compile(r"Speaker . 0"))
    expect(texts(ann).nth(came_before_it_was_a_flood)).to_be_in_viewport()
    assert texts(ann).count() <= 400
    ann.get_by_role("button", name="To the newest").click()
    newest(ann, "at the end")


def test_one_who_reads_back_in_a_flood_is_left_alone(house: House) -> None:
    """What stands on the screen stays there, however much comes below."""
    ann = house.enter("Ann")
    for number in range(1, 31):
        say(ann, f"mine {number}")
    expect(ann.locator(".message.stored")).to_have_count(30)
    before = ann.locator("#log").evaluate("log => { log.scrollTop = 0; return log.scrollTop; }")
    expect(ann.locator("#to-end")).to_be_visible()
    with flood(house):
        pass
    expect(ann.locator("#to-end")).to_have_text(re.compile("1,200 new messages"))
    assert ann.locator("#log").evaluate("log => log.scrollTop") == before
    expect(ann.locator(".message").first).to_be_in_viewport()
    assert texts(ann).count() <= 400
    ann.locator("#to-end").click()
    expect(ann.locator(".unread ~ .sum").last).to_be_attached()  # not next to it, where the flood began slowly


def test_writing_goes_on_in_a_flood(house: House) -> None:
    """Keys reach the field and what is sent is seen, while hundreds of messages come."""
    ann = house.enter("Ann")
    with flood(house):
        ann.get_by_label("Your message").press_sequentially("I am still here")
        ann.keyboard.press("Enter")
        expect(ann.locator(".message.stored.mine")).to_have_text(re.compile("I am still here"))


def test_what_was_said_before_is_not_summed_up(house: House) -> None:
    """However fast it was said then: who comes in wants to read it."""
    with flood(house, speakers=1):
        pass
    ann = house.enter("Ann")
    expect(texts(ann)).to_have_count(50)
    expect(ann.locator(".sum")).to_have_count(0)
