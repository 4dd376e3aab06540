"""What the tests of the pages share: Chromium, the real server, people in a room and what they do there.

Any console error and any error of a page that a test did not expect fails it; a breach of the
Content-Security-Policy is such an error. Waiting is always for something on the page.

The fixtures reach every test through tests/conftest.py, which keeps these tests together: one Chromium and one server
serve them all, until a test comes that needs none.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Playwright,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from tests.support import DEADLINE_S, Client, ServerProcess

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
NO_ERROR = "$^"
LOST_LINE = r"WebSocket connection to .* failed|net::ERR_"  # what Chromium itself logs while a server is away

expect.set_options(timeout=DEADLINE_S * 1000)


@contextmanager
def chromium(playwright: Playwright, *arguments: str) -> Iterator[Browser]:
    """A Chromium with `arguments` besides ours, as --host-resolver-rules."""
    # The engine without the browser around it, at half the cost; where there is none the browser does.
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not program:
        pytest.skip("Chromium is missing: `make deps` installs it")
    browser = playwright.chromium.launch(executable_path=program, args=[*CHROMIUM_ARGUMENTS, *arguments])
    try:
        yield browser
    finally:
        browser.close()


# Kept from test to test


PAGE_GROUPS = 2  # as many Chromiums at once: more only wait for each other

_made: dict[str, Any] = {}
_kept = ExitStack()


def _keep(name: str, make: Callable[[], AbstractContextManager[Any]]) -> Any:
    if name not in _made:
        _made[name] = _kept.enter_context(make())
    return _made[name]


def let_go() -> None:
    """End what the tests of the pages share: no other test can run an event loop beside Playwright's."""
    _made.clear()
    _kept.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker take modules with tests of pages as a whole, and as few workers as possible any at all."""
    modules = sorted({item.path for item in items if "playwright" in getattr(item, "fixturenames", ())})
    for item in items:
        if item.path in modules:
            item.add_marker(pytest.mark.xdist_group(f"pages-{modules.index(item.path) % PAGE_GROUPS}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("xdist_group") is None:
        let_go()


def pytest_sessionfinish() -> None:
    let_go()


@pytest.fixture(scope="module")
def playwright() -> Playwright:
    kept: Playwright = _keep("playwright", sync_playwright)
    return kept


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Browser:
    kept: Browser = _keep("browser", lambda: chromium(playwright))
    return kept


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ServerProcess:
    """A server without a rate limit, for all; each test takes a room of its own."""
    kept: ServerProcess = _keep(
        "server", lambda: ServerProcess(tmp_path_factory.mktemp("pages") / "chatroom.db", message_rate=0)
    )
    return kept


class House:
    """The browsers of one test: every context is another person."""

    def __init__(self, browser: Browser, url: str, room: str, expected: str) -> None:
        self.browser = browser
        self.url = url
        self.room = room
        self.expected = expected  # a pattern of errors that belong to the test
        self.errors: list[str] = []
        self.contexts: list[BrowserContext] = []

    def person(self, **options: Any) -> BrowserContext:
        """Somebody with a browser of his own; `options` are those of Playwright's `new_context`."""
        context = self.browser.new_context(**{"viewport": DESKTOP, **options})
        context.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        self.contexts.append(context)
        return context

    def visit(self, context: BrowserContext, path: str | None = None) -> Page:
        """A new tab of somebody, at `path` or in the test's room."""
        page = context.new_page()
        page.goto(self.url + (path or f"/?room={self.room}"))
        return page

    def enter(self, name: str, context: BrowserContext | None = None, **options: Any) -> Page:
        """Come into the room as somebody whose browser remembers a name from another visit."""
        context = context or self.person(**options)
        remember = f"localStorage['chatroom.name'] ??= JSON.stringify({json.dumps(name)});"
        context.add_init_script(f"if (location.protocol === 'http:') {remember}")
        page = self.visit(context)
        expect(page.locator("#me")).to_be_enabled()  # whatever it says, in whatever language
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        unexpected = [error for error in self.errors if not re.search(self.expected, error)]
        assert not unexpected, unexpected


@contextmanager
def house_at(where: ServerProcess | str, browser: Browser, room: str, expected: str = NO_ERROR) -> Iterator[House]:
    """A house at a server, or at the URL (without a path) by which browsers reach one."""
    house = House(browser, where if isinstance(where, str) else where.url, room, expected)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture
def house(browser: Browser, server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[House]:
    room = re.sub(r"\W+", "-", f"{request.module.__name__.removeprefix('tests.test_')} {request.node.name}")[:60]
    with house_at(server, browser, room) as house:
        yield house


@pytest.fixture
def frail(browser: Browser, tmp_path: Path) -> Iterator[tuple[House, ServerProcess]]:
    """A house with a server of its own that may be killed."""
    with (
        ServerProcess(tmp_path / "chatroom.db", message_rate=0) as server,
        house_at(server, browser, "frail", LOST_LINE) as house,
    ):
        yield house, server


# What people do


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.keyboard.press("Enter")


def tell_name(page: Page, name: str) -> None:
    """Answer the question that a newcomer is asked."""
    page.get_by_label("Your name", exact=True).fill(name)
    page.get_by_role("button", name="Come in").click()
    expect(my_name(page)).to_be_enabled()


def rename(page: Page, name: str) -> None:
    my_name(page).click()
    page.get_by_label("Your name", exact=True).fill(name)
    page.get_by_role("button", name="Change it").click()


def fill_room(url: str, room: str, count: int, text: str = "message") -> None:
    """Let somebody say `count` messages, numbered from 1."""
    with Client(url, room, name="Filler") as filler:
        for number in range(1, count + 1):
            filler.say(f"{text} {number}", client_id=f"c{number}")
        for number in range(1, count + 1):
            filler.hear("ack", client_id=f"c{number}")


# What they see


def texts(page: Page) -> Locator:
    return page.locator(".message .bubble")


def my_name(page: Page) -> Locator:
    return page.get_by_role("button", name="Change your name")


def present(page: Page) -> Locator:
    return page.locator("#present")


def scrolls_sideways(page: Page) -> bool:
    """True if the page or its log is wider than the window."""
    inner = "[document.documentElement, document.getElementById('log')].filter(Boolean)"
    return bool(page.evaluate(f"() => {inner}.some((node) => node.scrollWidth > node.clientWidth)"))


# What the line brings


@contextmanager
def rewritten(context: BrowserContext, change: Callable[[WebSocketRoute, dict[str, Any]], bool]) -> Iterator[None]:
    """Every frame to the page passes `change`, which may alter it, close the socket, or return False to drop it."""

    def route(page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            frame = json.loads(message)
            if change(page_side, frame):
                page_side.send(json.dumps(frame))

        server_side.on_message(pass_on)

    context.route_web_socket(re.compile("/ws"), route)
    yield
    context.unroute_all()
