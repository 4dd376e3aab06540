"""What the tests of the pages share: Chromium, the real server, people in a room and what they do there.

Any console error and any error of a page that a test did not expect fails it; a breach of the
Content-Security-Policy is such an error. Waiting is always for something on the page.

The fixtures reach every test through tests/conftest.py, which keeps these tests together: one Chromium and one server
serve them all, until a test comes that needs none.
"""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Playwright,
    WebError,
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
USUAL_LOOK = {"viewport": DESKTOP, "color_scheme": "light", "reduced_motion": "no-preference"}  # goes for each tab
BLANK = "/healthz"  # the plainest answer of the server: no script and no style, but the headers of all pages
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
    """Let each worker take modules with tests of pages as a whole; being the largest groups, they are taken first."""
    modules = {item.path for item in items if "playwright" in getattr(item, "fixturenames", ())}
    for item in items:
        if item.path in modules:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


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


class Regular:
    """A browser that is kept from test to test: what pages are made of it has loaded and compiled already.

    That is half of what a visit costs. Between two tests it is one tab at a blank page, and remembers nothing after.
    """

    def __init__(self, browser: Browser, url: str, options: dict[str, Any]) -> None:
        self.blank = url + BLANK
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.goto(self.blank)

    def leave(self) -> bool:
        """Look at nothing any more; False if the test has closed it."""
        if self.page.is_closed():
            self.context.close()
            return False
        for page in self.context.pages:
            if page is not self.page:
                page.close()
        self.page.goto(self.blank)
        self.page.mouse.move(-1, -1)  # over nothing
        return True

    def forget(self) -> None:
        """Be a newcomer; not when leaving, as what tabs wrote at their end may come later."""
        self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.context.clear_cookies()


Regulars = dict[str, list[Regular]]  # those that are in no house, by what they come for and their options


class House:
    """The browsers of one test: every context is another person."""

    def __init__(self, browser: Browser, url: str, room: str, expected: str, regulars: Regulars | None = None) -> None:
        self.browser = browser
        self.url = url
        self.room = room
        self.expected = expected  # a pattern of errors that belong to the test
        self.errors: list[str] = []
        self.contexts: list[BrowserContext] = []
        self._regulars = regulars
        self._kept: list[tuple[Regular, list[Regular]]] = []  # with the list where each came from
        self._unvisited: dict[BrowserContext, Page] = {}  # tabs of regulars that nobody has looked at
        self._looks: dict[BrowserContext, dict[str, Any]] = {}  # of regulars
        self._lines: list[tuple[Page, CDPSession]] = []
        self._listeners = {"console": self._on_console, "weberror": self._on_error, "dialog": self._on_dialog}

    # Who is there

    def person(self, **options: Any) -> BrowserContext:
        """Somebody with a browser of his own; `options` are those of Playwright's `new_context`."""
        context = self.browser.new_context(**{"viewport": DESKTOP, **options})
        self.contexts.append(context)
        return self._heard(context)

    def regular(self, **options: Any) -> BrowserContext:
        """The same, at half the cost, where nothing lasting is done to it: no clock, script, route or listener."""
        return self._regular("room", options)

    def _regular(self, what: str, options: dict[str, Any]) -> BrowserContext:
        """`what` he comes for each time: a room's app.js is in his browser's memory, and must not be on a stage."""
        if self._regulars is None:
            return self.person(**options)
        look = {**USUAL_LOOK, **options}
        lasting = {name: value for name, value in options.items() if name not in USUAL_LOOK}
        idle = self._regulars.setdefault(f"{what} {lasting}", [])
        regular = idle.pop() if idle else Regular(self.browser, self.url, lasting)
        regular.forget()
        self._looks[regular.context] = {name: look[name] for name in USUAL_LOOK}
        self._look(regular.page)
        self._kept.append((regular, idle))
        self._unvisited[regular.context] = regular.page
        return self._heard(regular.context)

    def _look(self, page: Page) -> None:
        """Let a tab of a regular look as the test wants it; without that it may look as the last one did."""
        look = self._looks[page.context]
        if page.viewport_size != look["viewport"]:
            page.set_viewport_size(look["viewport"])
        page.emulate_media(color_scheme=look["color_scheme"], reduced_motion=look["reduced_motion"])

    def _heard(self, context: BrowserContext) -> BrowserContext:
        for event, hear in self._listeners.items():
            context.on(event, hear)  # type: ignore[call-overload]
        return context

    def _on_console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.errors.append(line.text)

    def _on_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _on_dialog(self, dialog: Dialog) -> None:
        self.errors.append(f"dialog: {dialog.message}")

    def remember(self, context: BrowserContext, **entries: Any) -> None:
        """Let somebody's browser have kept entries from another visit."""
        keep = f"for (const [key, value] of Object.entries({json.dumps(entries)}))"
        keep += " localStorage[`chatroom.${key}`] ??= JSON.stringify(value);"
        if page := self._unvisited.get(context):
            page.evaluate(f"() => {{ {keep} }}")
        else:
            context.add_init_script(f"if (location.protocol === 'http:') {keep}")

    # What they look at

    def visit(self, context: BrowserContext, path: str | None = None) -> Page:
        """A new tab of somebody, at `path` or in the test's room."""
        page = self._tab(context)
        page.goto(self.url + (path or f"/?room={self.room}"))
        return page

    def enter(self, name: str, context: BrowserContext | None = None, **options: Any) -> Page:
        """Come into the room as somebody whose browser remembers a name from another visit."""
        context = context or self.regular(**options)
        self.remember(context, name=name)
        page = self.visit(context)
        expect(page.locator("#me")).to_be_enabled()  # whatever it says, in whatever language
        return page

    def stage(
        self, script: str, path: str | None = None, context: BrowserContext | None = None, **options: Any
    ) -> Page:
        """A new tab of somebody, a regular if nobody is named, in which `script` takes the place of app.js."""
        context = context or self._regular("stage", options)
        page = self._tab(context)
        line = context.new_cdp_session(page)
        self._lines.append((page, line))
        body = base64.b64encode(script.encode()).decode()
        headers = [{"name": "Content-Type", "value": "text/javascript"}, {"name": "Cache-Control", "value": "no-store"}]
        answer = {"responseCode": 200, "responseHeaders": headers, "body": body}

        def fulfill(paused: dict[str, Any]) -> None:
            line.send("Fetch.fulfillRequest", {"requestId": paused["requestId"], **answer})

        # A route would have every request come by here, and take Chromium's cache away.
        line.on("Fetch.requestPaused", fulfill)
        line.send("Fetch.enable", {"patterns": [{"urlPattern": "*/app.js"}]})
        page.goto(self.url + (path or f"/?room={self.room}"))
        return page

    def _tab(self, context: BrowserContext) -> Page:
        if page := self._unvisited.pop(context, None):
            return page
        page = context.new_page()
        if context in self._looks:
            self._look(page)
        return page

    def close(self) -> None:
        for page, line in self._lines:
            if not page.is_closed():
                line.detach()
        for context in self.contexts:
            context.close()
        for regular, idle in self._kept:
            for event, hear in self._listeners.items():
                regular.context.remove_listener(event, hear)
            if regular.leave():
                idle.append(regular)
        unexpected = [error for error in self.errors if not re.search(self.expected, error)]
        assert not unexpected, unexpected


@contextmanager
def house_at(
    where: ServerProcess | str, browser: Browser, room: str, expected: str = NO_ERROR, regulars: Regulars | None = None
) -> Iterator[House]:
    """A house at a server, or at the URL (without a path) by which browsers reach one."""
    house = House(browser, where if isinstance(where, str) else where.url, room, expected, regulars)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture(scope="module")
def regulars(browser: Browser, server: ServerProcess) -> Regulars:
    kept: Regulars = _keep("regulars", lambda: nullcontext({}))
    return kept


@pytest.fixture
def house(
    browser: Browser, server: ServerProcess, regulars: Regulars, request: pytest.FixtureRequest
) -> Iterator[House]:
    room = re.sub(r"\W+", "-", f"{request.module.__name__.removeprefix('tests.test_')} {request.node.name}")[:60]
    with house_at(server, browser, room, regulars=regulars) as house:
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
