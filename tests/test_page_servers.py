"""Two browsers behind nginx, each at a server of its own, which share a Redis: one room, as at one server."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests import certificates
from tests.nginx import BEHIND, Nginx
from tests.pages import LOST_LINE, House, house_at, present, say, tell_name, texts
from tests.redis_server import running
from tests.support import DEADLINE_S, ServerProcess, eventually
from tests.test_page_reading import message, use

LEFT_OUT = rf"{LOST_LINE}|status of 403"  # the same, while one is away or banned


class Place:
    """The servers, and who is at which of them."""

    def __init__(self, servers: list[ServerProcess], house: House) -> None:
        self.servers, self.house = servers, house

    def members(self) -> list[int]:
        """How many each of them has, by its own count."""
        return [members_of(server) for server in self.servers]

    def enter(self, name: str) -> Page:
        page = self.house.visit(self.house.person(ignore_https_errors=True))
        tell_name(page, name)
        return page

    def two(self) -> tuple[Page, Page, ServerProcess, ServerProcess]:
        """Ann, who owns the room, and Bo, each at another server, and these two."""
        ann = self.enter("Ann")
        say(ann, "hello")
        expect(stored(ann)).to_have_text(["hello"])
        hers = self.members().index(1)
        bo = self.enter("Bo")

        def are_apart() -> bool:
            if self.members() == [1, 1]:
                return True
            bo.reload()  # nginx chooses anew
            expect(bo.get_by_label("Your message")).to_be_enabled()
            return False

        eventually(are_apart)
        expect(stored(bo)).to_have_text(["hello"])
        return ann, bo, self.servers[hers], self.servers[1 - hers]


def members_of(server: ServerProcess) -> int:
    with urlopen(f"{server.url}/metrics", timeout=DEADLINE_S) as answer:
        found = re.search(r"^chatroom_members (\d+)", answer.read().decode(), re.MULTILINE)
    assert found
    return int(found[1])


def stored(page: Page) -> Locator:
    return page.locator(".message.stored .prose")


def people(page: Page) -> Locator:
    return page.locator("#people-list .name:visible")


@pytest.fixture
def place(browser: Browser, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        redis = stack.enter_context(running(tmp_path / "redis"))
        servers = [
            stack.enter_context(ServerProcess(tmp_path / f"{name}.db", redis=redis.url, **BEHIND))
            for name in ("one", "two")
        ]
        nginx = stack.enter_context(Nginx(tmp_path / "nginx", certificates.made(tmp_path / "tls"), *servers))
        yield Place(servers, stack.enter_context(house_at(nginx.url, browser, "tea", LEFT_OUT)))


def test_people_at_two_servers_are_in_one_room(place: Place) -> None:
    """They see each other come, write and go, and what one says, edits and reacts to is there for the other."""
    ann, bo, _, his = place.two()
    for page in (ann, bo):
        expect(people(page)).to_have_text(["Ann", "Bo"])
        expect(present(page)).to_have_text("2")

    bo.get_by_label("Your message").press_sequentially("w")
    expect(ann.locator("#hint")).to_contain_text(re.compile("Bo.* is writing"))
    say(bo, "who is tehre?")
    expect(ann.locator("#hint")).not_to_contain_text("is writing")
    say(ann, "me")
    for page in (ann, bo):
        expect(stored(page)).to_have_text(["hello", "who is tehre?", "me"])

    use(bo, "who is tehre?", "Edit")
    say(bo, "who is there?")
    for page in (ann, bo):
        expect(stored(page)).to_have_text(["hello", "who is there?", "me"])
        expect(message(page, "who is there?").locator(".edited")).to_have_text("edited")

    use(ann, "who is there?", "React")
    ann.get_by_role("menuitemcheckbox", name="👍").click()
    expect(message(bo, "who is there?").locator(".reaction")).to_have_text(re.compile("👍 *1"))
    assert place.members() == [1, 1]

    bo.close()
    eventually(lambda: members_of(his) == 0)
    expect(people(ann)).to_have_text(["Ann"])
    expect(present(ann)).to_have_text("1")


def test_whose_server_is_killed_goes_on_at_the_other(place: Place) -> None:
    """What it took and never stored is said at the other one, and what was said there meanwhile follows: all once."""
    ann, bo, hers, his = place.two()
    hers.signal(signal.SIGSTOP)
    for number in (1, 2):
        say(ann, f"ann {number}")
        say(bo, f"bo {number}")
    expect(stored(bo)).to_have_text(["hello", "bo 1", "bo 2"])
    expect(stored(ann)).to_have_text(["hello"])
    hers.kill()
    say(ann, "ann 3")
    for page in (ann, bo):
        expect(stored(page)).to_have_text(["hello", "bo 1", "bo 2", "ann 1", "ann 2", "ann 3"])
        expect(texts(page)).to_have_count(6)
        expect(people(page)).to_have_text(["Ann", "Bo"])
        expect(page.locator("#banner")).to_be_hidden()
    assert members_of(his) == 2
    say(bo, "welcome")
    expect(stored(ann).last).to_have_text("welcome")


def test_who_is_banned_at_one_server_is_put_out_at_the_other(place: Place) -> None:
    """He is told why, and neither of the two lets him in again."""
    ann, bo, hers, his = place.two()
    say(bo, "buy this")
    ann.locator(".byline .name", has_text="Bo").click()
    ann.locator("#card-reason").fill("Enough")
    ann.locator("#card").get_by_role("button", name="For good").click()
    expect(bo.locator("#banner")).to_contain_text("You are banned from this room. Reason: “\u2068Enough\u2069”.")
    eventually(lambda: members_of(his) == 0)
    ann.keyboard.press("Escape")
    expect(people(ann)).to_have_text(["Ann"])

    his.kill()  # so that he comes to hers
    bo.reload()
    expect(bo.locator("#banner")).to_contain_text("You are banned from this room.")
    assert members_of(hers) == 1
    say(ann, "gone")
    expect(stored(ann)).to_have_text(["hello", "buy this", "gone"])
    expect(bo.get_by_text("gone", exact=True)).to_have_count(0)
