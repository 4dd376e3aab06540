"""How a module of the pages is tested without its page: alone, in Chromium, on our own origin and under our policy."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.pages import BLANK
from tests.support import ServerProcess

_ANY_VERSION = f"/static/{'0' * 12}"  # is answered with the files there are


@pytest.fixture(scope="module")
def modules(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A blank page for all tests of a module; who needs a fresh one takes `house.visit(house.person(), BLANK)`."""
    page = browser.new_page()
    page.goto(server.url + BLANK)
    yield page
    page.context.close()


def run(page: Page, script: str, arg: Any = None) -> Any:
    """What the body of an async function returns, in which `load(name)` imports static/NAME.js and `arg` is `arg`."""
    load = f"const load = (name) => import(`{_ANY_VERSION}/${{name}}.js`);"
    return page.evaluate(f"async (arg) => {{ {load}\n{script}\n}}", arg)
