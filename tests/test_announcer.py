"""What a screen reader is told by itself: little, what matters first, and never in a hurry. Time is the test's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

ENGLISH = json.loads((Path(__file__).parent.parent / "templates/languages/en.json").read_text())


class Ear:
    """An announcer alone on a page, and what its region says."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.clock.run_for(10_000)
        set_up = """
            const { Announcer } = await load("announcer");
            (await load("words")).speak("en", arg);
            const region = document.createElement("p");
            document.body.replaceChildren(region);
            window.heard = [];
            new MutationObserver(() => heard.push([...region.children].map((line) => line.textContent)))
                .observe(region, { childList: true });
            window.leaving = new AbortController();
            window.announcer = new Announcer(region, { signal: leaving.signal });
        """
        run(page, set_up, ENGLISH)

    def note(self, sentence: str) -> None:
        self.page.evaluate("(sentence) => announcer.note(sentence)", sentence)

    def message(self, name: str, text: str, *, is_for_me: bool = False, times: int = 1) -> None:
        event = {"by": {"id": name, "name": name}, "text": text}
        script = "([event, isForMe, n]) => { for (let i = 0; i < n; i++) announcer.message(event, isForMe); }"
        self.page.evaluate(script, [event, is_for_me, times])

    def wait(self, milliseconds: int = 0) -> list[list[str]]:
        """What was said since the last question and within this time, announcement by announcement."""
        self.page.clock.run_for(milliseconds)
        heard: list[list[str]] = self.page.evaluate("() => heard.splice(0)")
        return [[line.replace("\u2068", "").replace("\u2069", "") for line in lines] for lines in heard]

    def hide(self, is_hidden: bool) -> None:
        script = """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        self.page.evaluate(script, is_hidden)


@pytest.fixture(scope="module")
def timeless(modules: Page) -> Page:
    modules.clock.install()
    modules.clock.pause_at(2_000_000_000)
    return modules


@pytest.fixture
def ear(timeless: Page) -> Iterator[Ear]:
    ear = Ear(timeless)
    yield ear
    run(ear.page, "leaving.abort()")


def test_a_single_message_is_read_out_at_once(ear: Ear) -> None:
    """Who speaks, then what he says; the same words said again are a new element, which is announced again."""
    ear.message("Ann", "hello")
    assert ear.wait() == [["Ann: hello"]]
    first: Any = ear.page.evaluate_handle("() => document.querySelector('p').firstElementChild")
    ear.message("Ann", "hello")
    assert ear.wait(3000) == [["Ann: hello"]]
    assert first.evaluate("(line) => !line.isConnected")


def test_the_region_changes_at_most_once_in_three_seconds(ear: Ear) -> None:
    """However many messages come, three seconds lie between two announcements, which sum up what came meanwhile."""
    ear.message("Ann", "first")
    assert len(ear.wait()) == 1
    for _ in range(29):
        ear.message("Bo", "on and on", times=10)
        assert ear.wait(100) == []
    ear.message("Ann", "last")
    assert ear.wait(99) == []
    assert ear.wait(1) == [["291 new messages. The last one, Ann: last"]]
    assert ear.wait(10_000) == []


def test_what_is_for_me_comes_first(ear: Ear) -> None:
    """Mentions and replies are read out before notes, and these before the crowd; what is too much is counted."""
    ear.message("Bo", "chatter")
    ear.note("The connection is back.")
    ear.message("Cy", "@Me look", is_for_me=True)
    ear.note("The connection is back.")
    ear.message("Bo", "more chatter")
    assert ear.wait() == [
        ["Cy to you: @Me look", "The connection is back.", "2 new messages. The last one, Bo: more chatter"]
    ]
    for number in range(1, 6):
        ear.message("Cy", f"@Me {number}", is_for_me=True)
        ear.note(f"note {number}")
    assert ear.wait(3000) == [
        ["Cy to you: @Me 3", "Cy to you: @Me 4", "Cy to you: @Me 5", "2 more to you.", "note 3", "note 4", "note 5"]
    ]


def test_long_texts_are_cut_for_the_ear(ear: Ear) -> None:
    """Of a long text 200 characters are read, counted as people count them; one of just that length stays whole."""
    ear.message("Ann", "🙂" * 200)
    assert ear.wait() == [["Ann: " + "🙂" * 200]]
    ear.message("Ann", "🙂" * 201)
    assert ear.wait(3000) == [["Ann: " + "🙂" * 200 + "…"]]
    ear.message("Ann", "x" * 4000)
    assert ear.wait(3000) == [["Ann: " + "x" * 200 + "…"]]


def test_what_nobody_could_hear_waits(ear: Ear) -> None:
    """Behind a hidden tab or a dialog nothing is said; when both are gone everything is, summed up."""
    ear.message("Ann", "one")
    ear.hide(True)
    assert ear.wait(10_000) == []
    ear.message("Ann", "two")
    ear.page.evaluate("""() => {
        document.body.append(document.createElement("dialog"));
        document.querySelector("dialog").showModal();
    }""")
    ear.hide(False)
    assert ear.wait(10_000) == []
    closed = "() => new Promise((done) => { const dialog = document.querySelector('dialog'); "
    ear.page.evaluate(closed + "dialog.addEventListener('close', done); dialog.close(); }).then(() => {})")
    assert ear.wait(1) == [["2 new messages. The last one, Ann: two"]]


def test_what_was_deleted_meanwhile_is_not_read_out(ear: Ear) -> None:
    """Neither what was for me, nor the last of a burst; what is left of it is counted."""
    ear.note("first")
    ear.wait()
    ear.page.evaluate("""() => {
        const event = (name, text, isGone) => ({ by: { id: name, name }, text, isGone });
        announcer.message(event("Bo", "kept"));
        announcer.message(event("Bo", "also kept"));
        announcer.message(event("Cy", "spam", true));
        announcer.message(event("Cy", "@Me spam", true), true);
    }""")
    assert ear.wait(3000) == [["2 new messages. The last one, Bo: also kept"]]
    ear.page.evaluate("() => announcer.message({ by: { id: 'Cy', name: 'Cy' }, text: 'spam', isGone: true })")
    assert ear.wait(3000) in ([], [[]])


def test_who_left_hears_nothing_more(ear: Ear) -> None:
    """Once its signal has aborted an announcer is silent, also about what was still to be said."""
    ear.message("Ann", "hello")
    run(ear.page, "leaving.abort()")
    ear.hide(True)
    ear.hide(False)
    assert ear.wait(10_000) == []
