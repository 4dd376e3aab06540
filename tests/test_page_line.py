"""The room's page over a line that breaks: a real cable cut or dead, servers that die, are full, or speak nonsense."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, WebSocketRoute, expect

from tests.cable import Cable
from tests.pages import LOST_LINE, House, fill_room, house_at, rewritten, say, texts
from tests.support import Client, ServerProcess, eventually

OFFLINE_AFTER_MS = 5000  # the page says so
SILENCE_MS = 15_000  # a line that does not answer is dead
PROBE_MS = 5000  # the same, where somebody has just returned to the page
LONGEST_BACKOFF_MS = 30_000
A_MOMENT_MS = 200


@pytest.fixture
def cable(server: ServerProcess) -> Iterator[Cable]:
    with Cable(server.port) as cable:
        yield cable


@pytest.fixture
def far(browser: Browser, cable: Cable, house: House) -> Iterator[House]:
    """The house's room at the other end of a cable."""
    with house_at(cable.url, browser, house.room, LOST_LINE) as far:
        yield far


def offline(page: Page) -> Locator:
    return page.locator("body.offline")


def banner(page: Page) -> Locator:
    return page.locator("#banner")


def stored(page: Page) -> Locator:
    return page.locator(".message.stored .prose")


def return_to(page: Page, event: str = "online") -> None:
    """The network is back, or the person is; or the network is gone."""
    target = "document" if event == "visibilitychange" else "window"
    page.evaluate(f"() => {target}.dispatchEvent(new Event('{event}'))")


def come_back(page: Page) -> None:
    """The network is back, whatever the page is about at the moment: nobody waits for its next try by itself."""

    def is_back() -> bool:
        return_to(page)
        return offline(page).count() == 0

    eventually(is_back)


def enter_and_stop_time(house: House, name: str) -> Page:
    """Once somebody is in, nothing on the page happens by a timer, unless the test lets time pass."""
    context = house.person()
    context.clock.install()
    context.add_init_script("Math.random = () => 0.9")  # the first retry is due after 0.9 s
    page = house.enter(name, context)
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    return page


# A cable


def test_cut_cable_loses_nothing_and_doubles_nothing(far: House, cable: Cable, server: ServerProcess) -> None:
    """Whatever was said on either side of a cut arrives on both once, in the room's order, when the cable is mended."""
    ann = far.enter("Ann")
    with Client(server.url, far.room, name="Bo") as bo:
        say(ann, "before")
        bo.hear("message", text="before")
        expect(stored(ann)).to_have_text(["before"])  # its ack may be cut off
        cable.cut()
        expect(offline(ann)).to_have_count(1)
        for text in ("first", "second"):
            say(ann, text)
        expect(ann.locator(".message.waiting .prose")).to_have_text(["first", "second"])
        bo.say("meanwhile")
        bo.hear("ack")
        cable.restore()
        come_back(ann)
        expect(stored(ann)).to_have_text(["before", "meanwhile", "first", "second"])
        say(ann, "after")
        assert [event["text"] for event in bo.messages(4)] == ["meanwhile", "first", "second", "after"]
        expect(texts(ann)).to_have_count(5)
    expect(offline(ann)).to_have_count(0)


def test_what_was_written_offline_outlives_its_page(far: House, cable: Cable) -> None:
    """What was written without a line goes out from the next visit, in order, though the page was closed meanwhile."""
    context = far.person()
    ann = far.enter("Ann", context)
    cable.cut()
    expect(offline(ann)).to_have_count(1)
    for text in ("first", "second"):
        say(ann, text)
    expect(ann.locator(".message.waiting")).to_have_count(2)
    ann.close()
    cable.restore()
    expect(stored(far.visit(context))).to_have_text(["first", "second"])


def test_loss_is_told_after_a_while_and_tried_by_a_button(far: House, cable: Cable) -> None:
    """Most losses last a second: only after five does the page say that there is no line, and offer to try at once."""
    ann = enter_and_stop_time(far, "Ann")
    cable.cut()
    expect(offline(ann)).to_have_count(1)
    ann.clock.run_for(OFFLINE_AFTER_MS - A_MOMENT_MS)
    assert banner(ann).is_hidden()
    ann.clock.run_for(1000 + A_MOMENT_MS)  # the page looks at it once a second
    expect(banner(ann)).to_contain_text("No connection since")
    expect(banner(ann)).to_contain_text("the server does not answer")
    cable.restore()
    ann.get_by_role("button", name="Try now").click()
    expect(banner(ann)).to_be_hidden()
    expect(offline(ann)).to_have_count(0)


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_returning_network_or_person_tries_at_once(far: House, cable: Cable, event: str) -> None:
    """When the network or the person comes back, so does the line: no timer has to run off first."""
    ann = enter_and_stop_time(far, "Ann")
    cable.cut()
    expect(offline(ann)).to_have_count(1)
    cable.restore()
    return_to(ann, event)
    expect(offline(ann)).to_have_count(0)


def test_dead_line_is_found_and_replaced(far: House, cable: Cable, server: ServerProcess) -> None:
    """A cable that swallows everything is found out by what should have been answered; nothing said into it is lost."""
    ann = enter_and_stop_time(far, "Ann")
    with Client(server.url, far.room, name="Bo") as bo:
        cable.hang()
        say(ann, "into the void")
        bo.say("unheard")
        bo.hear("ack")
        ann.clock.run_for(SILENCE_MS - A_MOMENT_MS)
        expect(offline(ann)).to_have_count(0)
        ann.clock.run_for(2 * A_MOMENT_MS)
        expect(offline(ann)).to_have_count(1)
        cable.restore()
        ann.clock.resume()
        return_to(ann)
        expect(stored(ann)).to_have_text(["unheard", "into the void"])
        assert [event["text"] for event in bo.messages(2)] == ["unheard", "into the void"]
        expect(texts(ann)).to_have_count(2)


@pytest.mark.parametrize("event", ["visibilitychange", "offline"])
def test_dead_line_is_found_soon_where_there_is_a_hint(far: House, cable: Cable, event: str) -> None:
    """A laptop that wakes or loses its network holds a line that may be dead: five seconds later the page knows."""
    ann = enter_and_stop_time(far, "Ann")
    cable.hang()

    def is_found() -> bool:
        # What was under way before the cable hung is a sign of life; then it takes another return.
        return_to(ann, event)
        ann.clock.run_for(PROBE_MS + A_MOMENT_MS)
        return offline(ann).count() == 1

    eventually(is_found)
    cable.restore()
    return_to(ann, "visibilitychange")
    expect(offline(ann)).to_have_count(0)


# A server that dies


def test_killed_server_loses_nothing_and_doubles_nothing(frail: tuple[House, ServerProcess]) -> None:
    """What is written while the server is dead goes out once and in order on its return."""
    house, server = frail
    ann, bo = house.enter("Ann"), house.enter("Bo")
    say(ann, "before")
    expect(stored(bo)).to_have_text(["before"])
    server.kill()
    expect(offline(ann)).to_have_count(1)
    for text in ("first", "second", "third"):
        say(ann, text)
    expect(ann.locator(".message.waiting .prose")).to_have_text(["first", "second", "third"])
    server.start()
    for page in (ann, bo):
        come_back(page)
        expect(stored(page)).to_have_text(["before", "first", "second", "third"])
        expect(texts(page)).to_have_count(4)


def test_lost_log_is_told_and_dropped(frail: tuple[House, ServerProcess]) -> None:
    """A server that comes back with another log makes the page drop what it held, and say so."""
    house, server = frail
    ann = house.enter("Ann")
    say(ann, "from another life")
    expect(stored(ann)).to_have_count(1)
    server.kill()
    for file in Path(server.database).parent.glob("chatroom.db*"):
        file.unlink()
    server.start()
    come_back(ann)
    expect(ann.locator(".notice")).to_contain_text(["What stood here before is gone."])
    expect(texts(ann)).to_have_count(0)
    say(ann, "from this one")
    expect(stored(ann)).to_have_text(["from this one"])


# A disk that is full as long as there is a file of this name.
DISK_FULL = """
import os, sqlite3
from chat.eventlog.sqlite import SqliteLog

def full_at_times(act):
    def tried(self, work):
        if os.path.exists(os.environ["DISK_FULL"]):
            raise sqlite3.OperationalError("database or disk is full")
        return act(self, work)
    return tried

SqliteLog._store, SqliteLog._store_probe = full_at_times(SqliteLog._store), full_at_times(SqliteLog._store_probe)
"""


def test_full_disk_is_told_and_outlived(browser: Browser, tmp_path: Path) -> None:
    """What cannot be stored is kept on the page, which says so, and goes out by itself when the disk has room again."""
    full = tmp_path / "full"
    with (
        ServerProcess(tmp_path / "chatroom.db", environment={"DISK_FULL": str(full)}, before=DISK_FULL) as server,
        house_at(server, browser, "disk") as house,
    ):
        ann, bo = house.enter("Ann"), house.enter("Bo")
        full.touch()
        for text in ("first", "second"):
            say(ann, text)
        for page in (ann, bo):
            expect(banner(page)).to_contain_text("cannot store messages right now")
        expect(ann.locator(".message.held .fate")).to_contain_text("Cannot be stored right now")
        os.unlink(full)
        for page in (ann, bo):
            expect(stored(page)).to_have_text(["first", "second"])
            expect(banner(page)).to_be_hidden()


# A server that keeps people out


def test_full_server_is_told_and_its_wait_respected(browser: Browser, tmp_path: Path) -> None:
    """A page that finds the server full says so, waits as long as the server asked and offers no hasty retry."""
    with (
        ServerProcess(tmp_path / "chatroom.db", max_members=1) as server,
        house_at(server, browser, "full", LOST_LINE + "|status of 503") as house,
    ):
        ann = house.enter("Ann")
        context = house.person()
        context.clock.install()
        bo = house.visit(context)
        bo.get_by_role("button", name="Just join as a guest").click()
        expect(offline(bo)).to_have_count(1)
        bo.clock.fast_forward(OFFLINE_AFTER_MS + 1000)
        expect(banner(bo)).to_contain_text(re.compile(r"takes nobody in .* Trying again in .*\d+.* s"))
        expect(bo.get_by_role("button", name="Try now")).to_have_count(0)
        ann.close()
        eventually(lambda: context.request.get(f"{server.url}/api/rooms/full/messages").ok)
        bo.clock.fast_forward(LONGEST_BACKOFF_MS)
        expect(banner(bo)).to_be_hidden()


def test_policy_close_keeps_the_page_away(house: House) -> None:
    """A page that was told to stay away (1008) says so, offers no retry and does not come back by itself."""
    context = house.person()
    lines: set[WebSocketRoute] = set()

    def turn_away(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        lines.add(page_side)
        page_side.close(code=1008)
        return False

    with rewritten(context, turn_away):
        context.clock.install()
        page = house.visit(context)
        page.get_by_role("button", name="Just join as a guest").click()
        expect(banner(page)).to_contain_text("asked this page to stay away")
        expect(page.get_by_role("button", name="Try now")).to_have_count(0)
        return_to(page)
        context.clock.run_for(LONGEST_BACKOFF_MS + 5000)
        expect(banner(page)).to_contain_text("asked this page to stay away")
        assert len(lines) == 1


# What is resumed


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
        expect(stored(ann)).to_have_text(["only once"])
        say(ann, "and then")
        expect(stored(ann)).to_have_text(["only once", "and then"])
        assert ann.evaluate("() => window.most") == 2


def watch_most_messages(page: Page) -> None:
    """Keep in `window.most` how many messages stood on the page at the most."""
    page.evaluate("""() => {
        window.most = 0;
        const count = () => { window.most = Math.max(window.most, document.querySelectorAll(".message").length); };
        new MutationObserver(count).observe(document.getElementById("rows"), { childList: true });
    }""")


def test_gap_is_shown_and_can_be_loaded(far: House, cable: Cable, server: ServerProcess) -> None:
    """What was missed and is not sent again stands there as a gap with its size, and a button loads it."""
    shown_from = 0

    def forget(page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        nonlocal shown_from
        if frame["type"] == "welcome" and "resumed" in frame:
            frame["resumed"] = "gap"
            shown_from = frame["head"] - 9
        return not ("at" in frame and frame["seq"] < shown_from)

    fill_room(far.url, far.room, 5, "early")
    context = far.person()
    with rewritten(context, forget):
        ann = far.enter("Ann", context)
        expect(texts(ann)).to_have_count(5)
        cable.cut()
        fill_room(server.url, far.room, 30, "late")
        cable.restore()
        come_back(ann)
        expect(ann.locator(".gap")).to_contain_text("messages are not loaded here")
        expect(ann.locator(".gap")).to_contain_text("20")
        ann.locator(".gap").get_by_role("button").click()
        wanted = [f"early {number}" for number in range(1, 6)] + [f"late {number}" for number in range(1, 31)]
        expect(stored(ann)).to_have_text(wanted)
        expect(ann.locator(".gap")).to_have_count(0)


# A server that has gone mad

BY = {"id": "x", "name": "Mallory"}
NONSENSE: list[Any] = [
    "{",
    "null",
    "[]",
    '"text"',
    '{"type": 7}',
    *(
        {"type": name}
        for name in ("later", "constructor", "__proto__", "__defineGetter__", "toString", "page", "error")
    ),
    {"type": "later", "seq": 1, "at": 1, "by": 7, "text": {}},
    *({"type": name, "seq": 1, "at": 1} for name in ("ack", "constructor", "welcome", "presence")),
    *({"type": "message", "seq": seq, "at": 1, "by": BY, "text": "x"} for seq in (0, -1, 1.5, "1", None, 2**60)),
    *({"type": "message", "seq": 9, "at": at, "by": BY, "text": "x"} for at in (-1, 8.65e15, "now", None)),
    {"type": "message", "seq": 9, "at": 1, "by": {"id": 1, "name": []}, "text": "x"},
    {"type": "message", "seq": 9, "at": 1, "by": BY, "text": {"toString": "x"}},
    {"type": "page", "ref": "r1", "events": [None], "more_before": True, "more_after": True},
    {"type": "people", "ref": "r999", "total": 1, "people": []},
    {"type": "presence", "present": 1, "joined": [None], "left": [{}], "renamed": "x"},
    {"type": "presence", "present": 1, "joined": [], "left": ["nobody"], "renamed": [BY]},
    {"type": "ack", "client_id": "never said", "seq": 3},
    {"type": "error", "code": "constructor", "message": "never asked", "client_id": "never said"},
    {"type": "typing", "by": None},
    {"type": "status", "storing": "no"},
    {"type": "bye", "retry_after": -1},
]


class Mallory:
    """Stands between the page and the server and says to the page what no server would."""

    def __init__(self, context: BrowserContext) -> None:
        self.lines: list[WebSocketRoute] = []
        self.warnings: list[str] = []
        context.on("console", lambda line: self.warnings.append(line.text) if line.type == "warning" else None)

    def note(self, page_side: WebSocketRoute, frame: dict[str, Any]) -> bool:
        self.lines.append(page_side)
        return True

    def say(self, *frames: Any) -> None:
        for frame in frames:
            self.lines[-1].send(frame if isinstance(frame, str) else json.dumps(frame))


def test_nonsense_from_the_server_breaks_nothing(house: House) -> None:
    """Garbage, bad fields, unknown types and answers to nothing leave the page working, with one line for each kind."""
    context = house.person()
    mallory = Mallory(context)
    with rewritten(context, mallory.note):
        ann, bo = house.enter("Ann", context), house.enter("Bo")
        say(bo, "before")
        expect(stored(ann)).to_have_text(["before"])
        mallory.say(*NONSENSE, *NONSENSE)
        say(ann, "after")
        expect(stored(bo)).to_have_text(["before", "after"])
        say(bo, "as ever")
        expect(stored(ann)).to_contain_text(["before", "after", "as ever"])
        expect(banner(ann)).to_be_hidden()
        expect(ann.locator("#present")).not_to_be_empty()
    assert mallory.warnings
    assert len(set(mallory.warnings)) == len(mallory.warnings)


def test_doubles_old_ones_and_holes_are_put_right(house: House) -> None:
    """An event that comes twice is shown once, an old one stands at its old place, and a hole is a gap that says so."""
    context = house.person()
    mallory = Mallory(context)
    fill_room(house.url, house.room, 3, "said")
    with rewritten(context, mallory.note):
        ann = house.enter("Ann", context)
        expect(stored(ann)).to_have_text(["said 1", "said 2", "said 3"])
        now_ms = ann.evaluate("() => Date.now()")

        def event(seq: int, type: str = "message") -> dict[str, Any]:
            return {"type": type, "seq": seq, "at": now_ms, "by": BY, "text": f"made up {seq}"}

        mallory.say(event(7), event(7), event(2), event(5, "of_later"), event(4), event(4))
        expect(stored(ann)).to_have_text(["said 1", "said 2", "said 3", "made up 4", "made up 7"])
        expect(ann.locator(".gap")).to_have_count(1)
        expect(ann.locator(".gap")).to_contain_text("message is not loaded here")
    assert mallory.warnings == []
