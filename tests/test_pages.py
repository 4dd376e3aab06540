"""What the tests of the pages rely on: whom they take for a newcomer is one, and servers are processes of their own."""

import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.pages import PHONE, House, Regulars, house_at
from tests.support import Client, ServerProcess

LOOK = """() => [
    innerWidth, ...["color-scheme: dark", "reduced-motion: reduce"].map((m) => matchMedia(`(prefers-${m})`).matches)
]"""


def test_a_regular_remembers_nothing_of_the_last_test(browser: Browser, server: ServerProcess) -> None:
    """It is the same browser with one tab, but no cookie, nothing kept, no listener and no size of that test."""
    regulars: Regulars = {}
    with house_at(server, browser, "first", regulars=regulars) as first:
        before = first.regular()
        first.enter("Ann", before).set_viewport_size({"width": 400, "height": 400})
        first.visit(before)
    with house_at(server, browser, "second", regulars=regulars) as second:
        after = second.regular()
        assert after is before
        assert after.cookies() == []
        page = second.visit(after)
        expect(page.get_by_label("Your name", exact=True)).to_be_visible()
        assert (len(after.pages), page.viewport_size) == (1, {"width": 1280, "height": 800})
        page.evaluate("console.error('of the second')")
        second.expected = "of the second"
    assert (first.errors, second.errors) == ([], ["of the second"])


def test_a_regular_looks_as_each_test_wants(browser: Browser, server: ServerProcess) -> None:
    """One browser is large and light in one test, small, dark and still in the next, in every tab, and large again."""
    regulars: Regulars = {}
    small = {"viewport": PHONE, "color_scheme": "dark", "reduced_motion": "reduce"}
    found = []
    for options in ({}, small, {}):
        with house_at(server, browser, "looks", regulars=regulars) as house:
            context = house.regular(**options)
            found += [tab.evaluate(LOOK) for tab in (house.visit(context), house.visit(context))]
    assert found == [[1280, False, False]] * 2 + [[360, True, True]] * 2 + [[1280, False, False]] * 2
    assert [len(idle) for idle in regulars.values()] == [1]


def test_a_stage_is_built_anew(house: House) -> None:
    """A script takes the place of the page's own, though that was here before, and of another test's, and then goes."""
    regulars: Regulars = {}
    for title in ("", "one stage", "another stage", ""):
        with house_at(house.url, house.browser, house.room, regulars=regulars) as visited:
            page = visited.stage(f"document.title = '{title}';") if title else visited.enter("Ann")
            expect(page).to_have_title(title or f"{house.room} · Chatroom")


def test_a_forked_server_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leads a session, has the folder and the environment of the test, and ends as a signal or itself decides."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATROOM_HISTORY", "7")
    with ServerProcess("chatroom.db") as server:
        with Client(server.url) as ann:
            assert ann.welcome["limits"]["history"] == 7
        assert os.getsid(server.pid) == server.pid != os.getsid(0)
        assert Path(f"/proc/{server.pid}/cwd").readlink() == tmp_path
        assert server.terminate() == 0
        server.start()
        server.signal(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL
