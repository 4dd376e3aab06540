"""`static/deletion.js` without a page: a message of one's own goes a little later, unless there is no time for that."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

UNDO_MS = 5000
SET_UP = """
    const { Deletion } = await load("deletion");
    const note = Object.assign(document.createElement("div"), { id: "undo", hidden: true });
    const button = note.appendChild(Object.assign(document.createElement("button"), { id: "undo-button" }));
    const log = Object.assign(document.createElement("div"), { id: "log", tabIndex: 0 });
    document.body.replaceChildren(note, log);
    window.sent = [];
    window.isDone = true;
    window.leaving = new AbortController();
    window.deletion = new Deletion({
        send: async (seq) => { sent.push(seq); return isDone; }, onChange: () => {}, signal: leaving.signal,
    });
"""


class Second:
    """Second thoughts on a blank page, whose time is the test's own."""

    def __init__(self, page: Page) -> None:
        self.page = page
        run(page, SET_UP)

    def do(self, script: str) -> Any:
        return self.page.evaluate(f"() => {{ {script} }}")

    def wait(self, milliseconds: int = 0) -> list[int]:
        """What was sent until this time is over, since the last question."""
        self.page.clock.run_for(milliseconds)
        sent: list[int] = self.page.evaluate("() => sent.splice(0)")
        return sent

    def leaving(self, *seqs: int) -> list[bool]:
        found: list[bool] = self.page.evaluate("(seqs) => seqs.map((seq) => deletion.isLeaving(seq))", list(seqs))
        return found


@pytest.fixture(scope="module")
def timeless(modules: Page) -> Page:
    modules.clock.install()
    modules.clock.pause_at(2_000_000_000)
    return modules


@pytest.fixture
def second(timeless: Page) -> Iterator[Second]:
    second = Second(timeless)
    yield second
    second.do("leaving.abort();")


def test_it_is_sent_when_the_time_is_over(second: Second) -> None:
    """And looks like going from the first moment until it is gone."""
    second.do("deletion.ask(7);")
    assert second.wait(UNDO_MS - 1) == []
    assert second.do("return document.getElementById('undo').hidden;") is False
    assert second.wait(1) == [7]
    assert second.leaving(7, 8) == [True, False]
    assert second.do("return document.getElementById('undo').hidden;") is True


def test_it_can_be_taken_back(second: Second) -> None:
    """By the button, whose focus goes to the log; nothing was sent and nothing is."""
    second.do("deletion.ask(7); const button = document.getElementById('undo-button'); button.focus(); button.click();")
    assert second.leaving(7) == [False]
    assert second.wait(10 * UNDO_MS) == []
    assert second.do("return document.activeElement.id;") == "log"


def test_the_next_one_sends_the_one_before(second: Second) -> None:
    """One can be taken back at a time: the newest."""
    second.do("deletion.ask(7); deletion.ask(8);")
    assert second.wait() == [7]
    second.do("deletion.undo();")
    assert second.wait(UNDO_MS) == []
    assert second.leaving(7, 8) == [True, False]


@pytest.mark.parametrize("end", ["dispatchEvent(new Event('pagehide'));", "deletion.settle();"])
def test_who_leaves_has_no_time_left(second: Second, end: str) -> None:
    """What was deleted goes at once, and once."""
    second.do(f"deletion.ask(7); {end}")
    assert second.wait() == [7]
    assert second.wait(UNDO_MS) == []


def test_what_was_refused_stays(second: Second) -> None:
    """Without a line, say: then it looks as ever."""
    second.do("isDone = false; deletion.ask(7);")
    assert second.wait(UNDO_MS) == [7]
    assert second.leaving(7) == [False]
