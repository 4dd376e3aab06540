"""The keys of the whole page: which act when, and how their overview shows them."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.modules import BLANK, run
from tests.support import ServerProcess

ENGLISH = json.loads((Path(__file__).parent.parent / "templates/languages/en.json").read_text())
SET_UP = """
    const add = (parent, name, id = "") => parent.appendChild(Object.assign(document.createElement(name), { id }));
    document.body.replaceChildren();
    localStorage.clear();
    const dialog = add(document.body, "dialog", "keys");
    add(dialog, "dl", "keys-list");
    add(dialog, "input", "keys-signs").type = "checkbox";
    add(document.body, "textarea", "field");
    add(document.body, "button", "button");
    (await load("words")).speak("en", arg);
    const { Keys } = await load("keys");
    window.acted = [];
    const shortcut = (keys, what) => ({ keys, what, act: () => acted.push(keys) });
    window.overview = new Keys([
        { keys: "Shift+Enter", what: "keys.new_line" },
        shortcut("/", "keys.write"),
        shortcut("Escape", "keys.leave"),
        shortcut("Alt+ArrowDown", "keys.next_room"),
        shortcut("Mod+K", "keys.rooms"),
        shortcut("Alt+P", "keys.people"),
    ]);
"""


def acted(page: Page) -> list[str]:
    """What acted since the last question."""
    found: list[str] = page.evaluate("() => acted.splice(0)")
    return found


def press(page: Page, *keys: str) -> list[str]:
    for key in keys:
        page.keyboard.press(key)
    return acted(page)


def fire(page: Page, **event: object) -> list[str]:
    """A key as only another keyboard or an input method makes it."""
    page.evaluate(
        "(e) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { bubbles: true, ...e }))", event
    )
    return acted(page)


@pytest.fixture
def page(modules: Page) -> Page:
    modules.reload()
    run(modules, SET_UP, ENGLISH)
    return modules


def test_keys_act_wherever_one_is(page: Page) -> None:
    """With a modifier, or without a sign, a key acts in a field, too; a sign does not, as it is being written there."""
    page.locator("#button").focus()
    assert press(page, "/", "Escape", "Alt+ArrowDown", "Control+k", "Alt+p") == [
        *("/", "Escape", "Alt+ArrowDown", "Mod+K", "Alt+P")
    ]
    page.locator("#field").focus()
    assert press(page, "/", "?", "Escape", "Alt+ArrowDown", "Control+k") == ["Escape", "Alt+ArrowDown", "Mod+K"]
    expect(page.locator("#field")).to_have_value("/?")


def test_other_modifiers_are_other_keys(page: Page) -> None:
    """What the browser, the system or an AltGr makes of more modifiers is left to them."""
    page.locator("#button").focus()
    assert press(page, "k", "Control+Shift+k", "Alt+k", "Meta+Escape", "Control+Alt+p", "Shift+Alt+ArrowDown") == []
    assert press(page, "ArrowDown", "Shift+Enter", "Control+/") == []


def test_every_keyboard_has_the_keys(page: Page) -> None:
    """Signs are where a layout has them; a letter it has not is at the letter's place; capitals do not matter."""
    page.locator("#button").focus()
    assert fire(page, key="/", code="Digit7", shiftKey=True) == ["/"]
    assert fire(page, key="/", code="KeyM", shiftKey=True) == ["/"]
    assert fire(page, key="л", code="KeyK", ctrlKey=True) == ["Mod+K"]
    assert fire(page, key="K", code="KeyK", ctrlKey=True) == ["Mod+K"]
    assert fire(page, key="t", code="KeyK", ctrlKey=True) == []
    assert fire(page, key="k", code="KeyV", ctrlKey=True) == ["Mod+K"]


def test_keys_that_are_somebody_elses_do_not_act(page: Page) -> None:
    """Not while an input method composes, not what a part took for itself, not again while held down, not autofill."""
    page.locator("#field").focus()
    assert fire(page, key="Escape", isComposing=True) == []
    assert fire(page, key="Escape", keyCode=229) == []
    assert fire(page, key="Escape", repeat=True) == []
    page.evaluate("() => document.activeElement.dispatchEvent(new Event('keydown', { bubbles: true }))")
    assert acted(page) == []
    page.evaluate("() => field.addEventListener('keydown', (event) => event.preventDefault(), { once: true })")
    assert fire(page, key="Escape", cancelable=True) == []
    assert fire(page, key="Escape") == ["Escape"]


def test_the_overview_shows_every_key(page: Page) -> None:
    """`?` opens a dialog of all keys and what they do; while it is open none of them acts, and Escape closes it."""
    page.locator("#button").focus()
    page.keyboard.press("Shift+Slash")
    dialog = page.locator("#keys")
    expect(dialog).to_have_js_property("open", True)
    expect(dialog.locator("dt")).to_have_text(
        [
            "New line",
            "Write",
            "Leave the message, the reply or the edit",
            "Next room",
            "Rooms",
            "People here",
            "This overview",
        ]
    )
    expect(dialog.locator("dd").nth(0).locator("kbd")).to_have_text(["Shift", "Enter"])
    expect(dialog.locator("dd").nth(3).locator("kbd")).to_have_text(["Alt", "↓"])
    expect(dialog.locator("dd").nth(4).locator("kbd")).to_have_text(["Ctrl", "K"])
    assert press(page, "Alt+ArrowDown", "Control+k", "Escape") == []
    expect(dialog).to_have_js_property("open", False)
    expect(page.locator("#button")).to_be_focused()


def test_signs_can_be_switched_off(page: Page) -> None:
    """Who speaks to his computer, or touches keys by accident, switches the single signs off, and it stays so."""
    page.evaluate("() => overview.show()")
    page.locator("#keys-signs").uncheck()
    page.keyboard.press("Escape")
    page.locator("#button").focus()
    assert press(page, "/", "?", "Alt+p") == ["Alt+P"]
    expect(page.locator("#keys")).to_have_js_property("open", False)
    page.reload()
    run(page, SET_UP.replace("localStorage.clear();", ""), ENGLISH)
    page.locator("#button").focus()
    assert press(page, "/") == []
    page.evaluate("() => overview.show()")
    page.locator("#keys-signs").check()
    page.keyboard.press("Escape")
    page.locator("#button").focus()
    assert press(page, "/") == ["/"]


def test_a_mac_has_its_own_keys(browser: Browser, server: ServerProcess) -> None:
    """There Mod is the Command key and is shown as such, and Option with a letter is known though it types a sign."""
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(navigator, 'userAgentData', { value: { platform: 'macOS' } });")
    page = context.new_page()
    page.goto(server.url + BLANK)
    run(page, SET_UP, ENGLISH)
    page.locator("#button").focus()
    assert fire(page, key="π", code="KeyP", altKey=True) == ["Alt+P"]
    assert fire(page, key="k", code="KeyK", metaKey=True) == ["Mod+K"]
    assert fire(page, key="k", code="KeyK", ctrlKey=True) == []
    page.evaluate("() => overview.show()")
    expect(page.locator("dd").nth(3).locator("kbd")).to_have_text(["⌥", "↓"])
    expect(page.locator("dd").nth(4).locator("kbd")).to_have_text(["⌘", "K"])
    context.close()
