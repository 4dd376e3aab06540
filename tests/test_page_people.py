"""The list of people beside the talk: of two, of hundreds and of ten thousand, by pointer and by keys, wide and narrow.

Most of it is tested with a crowd that exists in the page only: a script of the test's own takes the place of app.js and
mounts the panel on the room's page. What it asks, and who is there, is the test's to see and to change.
"""

from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.pages import PHONE, House, present, scrolls_sideways
from tests.support import Client

TABLET = {"width": 900, "height": 700}
ROW_PX = 44
LATER_MS = 3_600_000

MOUNT = """
    import { Panel } from "./panel.js";
    import { Roster } from "./people.js";
    import { speak } from "./words.js";

    speak(document.documentElement.lang, JSON.parse(document.getElementById("words").textContent));
    window.asked = [];
    window.picked = [];
    window.crowd = [];

    const found = (query) => crowd.filter(({ name }) => name.toLowerCase().includes(query.toLowerCase()));

    window.ask = async ({ query, offset, limit }) => {
      asked.push({ query, offset });
      await window.gate;
      const people = found(query);
      return { total: people.length, people: people.slice(offset, offset + limit) };
    };

    /** As many people as that are in the room; those of a small room are known by name. */
    window.fill = (count, nameOf = (n) => `Person ${String(n).padStart(5, "0")}`) => {
      window.crowd = Array.from({ length: count }, (_, n) => ({ id: `p${n}`, name: nameOf(n) }));
      tell();
    };

    window.tell = () => {
      if (crowd.length > 100) roster.change({ present: crowd.length });
      else roster.replace({ total: crowd.length, people: crowd });
      panel.refresh();
    };

    window.enter = () => {
      window.leaving?.abort();
      window.leaving = new AbortController();
      window.roster = new Roster();
      const onPick = ({ name }) => { picked.push(name); };
      window.panel = new Panel({ roster, ask, onPick, signal: leaving.signal });
    };

    enter();
    document.documentElement.dataset.mounted = "";
"""


class Beside:
    """The room's page with nothing at work in it but the panel."""

    def __init__(self, house: House, *, is_timed: bool = False, **options: Any) -> None:
        """`is_timed`: the test can stop the page's clock."""
        if is_timed:
            context = house.person(**options)
            context.clock.install(time=0)
            self.page = house.stage(MOUNT, context=context)
        else:
            self.page = house.stage(MOUNT, **options)
        self.page.wait_for_selector("[data-mounted]", state="attached")
        self.panel = self.page.locator("#people")
        self.names = self.page.locator(".person:not(.unknown) .name")
        self.search = self.page.get_by_label("Find someone by name")
        self.toggle = self.page.locator("#people-toggle")
        self.scroll = self.page.locator("#people-scroll")

    def run(self, script: str) -> Any:
        return self.page.evaluate(f"() => {{ {script}; }}")

    def see(self, value: str) -> Any:
        return self.page.evaluate(f"() => {value}")

    def row(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def person(number: int) -> str:
    return f"Person {number:05}"


# A crowd


def test_ten_thousand_are_listed_by_the_rows_in_sight(house: House) -> None:
    """A few dozen rows are in the page, each knowing its place among all, and only what is in sight is asked for."""
    beside = Beside(house)
    beside.run("fill(10_000)")
    expect(beside.panel.get_by_role("heading")).to_have_text("10,000 people here")
    expect(present(beside.page)).to_have_text("10,000")
    expect(beside.names.first).to_have_text(person(0))
    assert beside.scroll.evaluate("box => box.scrollHeight") == 10_000 * ROW_PX
    for index in (5_000, 9_990, 250):
        beside.scroll.evaluate(f"box => {{ box.scrollTop = {index * ROW_PX}; }}")
        expect(beside.row(person(index))).to_be_in_viewport(ratio=1)
        row = beside.page.locator(".person").filter(has_text=person(index))
        expect(row).to_have_attribute("aria-posinset", str(index + 1))
        expect(row).to_have_attribute("aria-setsize", "10000")
        assert beside.page.locator(".person").count() < 50
    asked = beside.see("asked.map(({ offset }) => offset)")
    assert asked[0] == 0
    assert set(asked) <= {0, 100, 200, 300, 4_900, 5_000, 9_900}


def test_rows_are_placeholders_until_they_are_known(house: House) -> None:
    """A row whose page is not there yet shows that somebody is there, does nothing when pressed, and becomes his."""
    beside = Beside(house)
    beside.run("window.gate = new Promise((resolve) => { window.answer = resolve; }); fill(200)")
    unknown = beside.page.locator(".person.unknown button")
    unknown.first.click()
    expect(unknown.first).to_be_focused()
    beside.run("answer()")
    expect(beside.row(person(0))).to_be_focused()
    expect(unknown).to_have_count(0)
    assert beside.see("picked") == []
    beside.press("Enter")
    assert beside.see("picked") == [person(0)]


def test_keys_reach_everybody(house: House) -> None:
    """One press of Tab leads into the list, the arrows, Page, Home and End through all of it, Enter takes somebody."""
    beside = Beside(house)
    beside.run("fill(10_000)")
    beside.search.focus()
    expect(beside.names.first).to_have_text(person(0))
    for keys, name in (
        (["Tab"], person(0)),
        (["ArrowDown", "ArrowDown", "ArrowUp"], person(1)),
        (["End"], person(9_999)),
        (["ArrowDown", "PageUp", "PageDown"], person(9_999)),
        (["Home", "ArrowUp"], person(0)),
    ):
        beside.press(*keys)
        expect(beside.row(name)).to_be_focused()
        expect(beside.row(name)).to_be_in_viewport(ratio=1)
    expect(beside.page.locator(".person button[tabindex='0']")).to_have_count(1)
    beside.press("ArrowDown", "Enter")
    assert beside.see("picked") == [person(1)]
    beside.press("Shift+Tab")
    expect(beside.search).to_be_focused()
    beside.press("ArrowDown")
    expect(beside.row(person(1))).to_be_focused()


def test_row_with_the_focus_stays_wherever_one_scrolls(house: House) -> None:
    """Who scrolls away with the wheel goes on with the arrows from where he was, and Tab finds a row in sight."""
    beside = Beside(house)
    beside.run("fill(10_000)")
    beside.row(person(3)).focus()
    beside.scroll.evaluate(f"box => {{ box.scrollTop = {5_000 * ROW_PX}; }}")
    expect(beside.row(person(5_000))).to_be_in_viewport()
    expect(beside.row(person(3))).to_be_focused()
    beside.press("ArrowDown")
    expect(beside.row(person(4))).to_be_focused()
    expect(beside.row(person(4))).to_be_in_viewport(ratio=1)
    beside.search.focus()
    beside.scroll.evaluate(f"box => {{ box.scrollTop = {5_000 * ROW_PX}; }}")
    expect(beside.page.locator(".person")).not_to_contain_text([person(4)])
    expect(beside.row(person(5_000))).to_have_attribute("tabindex", "0")
    beside.press("Tab")
    expect(beside.row(person(5_000))).to_be_focused()


@pytest.mark.parametrize("size", [90, 300])
def test_place_and_focus_stay_with_the_person(house: House, size: int) -> None:
    """Others come and go above: whom one looks at keeps his place on the screen, and the focus stays on its row."""
    beside = Beside(house)
    beside.run(f"fill({size})")
    beside.scroll.evaluate(f"box => {{ box.scrollTop = {50 * ROW_PX + 10}; }}")
    beside.row(person(53)).focus()
    box = beside.row(person(53)).bounding_box()
    coming = "Array.from({ length: 7 }, (_, n) => ({ id: `n${n}`, name: `Newcomer ${n}` }))"
    for change in (f"crowd.unshift(...{coming})", "crowd.splice(2, 5)"):
        beside.run(f"{change}; tell(); panel.reload()")
        expect(beside.page.locator(".person").filter(has_text=person(53))).to_have_attribute(
            "aria-posinset", str(beside.see("crowd.findIndex(({ id }) => id === 'p53')") + 1)
        )
        expect(beside.row(person(53))).to_be_focused()
        assert beside.row(person(53)).bounding_box() == box
    beside.press("ArrowDown")
    expect(beside.row(person(54))).to_be_focused()
    beside.run("crowd = crowd.filter(({ id }) => id !== 'p54'); tell(); panel.reload()")
    expect(beside.row(person(54))).to_have_count(0)
    expect(beside.page.locator(".person button:focus")).to_have_count(1)


def test_who_is_at_the_top_sees_who_comes_there(house: House) -> None:
    """A list that was not scrolled shows its beginning, whoever comes."""
    beside = Beside(house)
    beside.run("fill(90)")
    expect(beside.names.first).to_have_text(person(0))
    beside.run("crowd.unshift({ id: 'aa', name: 'Aaron' }); tell()")
    expect(beside.names.first).to_have_text("Aaron")
    expect(beside.names.first).to_be_in_viewport(ratio=1)


# Searching


def test_search_narrows_and_says_how_many(house: House) -> None:
    """In a small room and in a crowd alike a part of a name finds people, and what was found is said."""
    beside = Beside(house)
    note = beside.page.get_by_role("status").filter(visible=True)
    for size, found in ((95, "5 found"), (10_000, "10 found")):
        beside.run(f"fill({size})")
        beside.scroll.evaluate(f"box => {{ box.scrollTop = {60 * ROW_PX}; }}")
        expect(beside.row(person(60))).to_be_in_viewport()
        beside.search.fill("1")
        expect(beside.row(person(1))).to_be_in_viewport(ratio=1)
        beside.search.fill(" SON 0009 ")
        expect(note).to_have_text(found)
        expect(beside.names.first).to_have_text(person(90))
        expect(beside.names.first).to_be_in_viewport(ratio=1)
        beside.search.fill("nobody")
        expect(note).to_have_text("Nobody here has such a name.")
        expect(beside.page.locator(".person")).to_have_count(0)
        beside.search.press("Escape")
        expect(beside.search).to_have_value("")
        expect(beside.names.first).to_have_text(person(0))
        expect(beside.page.locator("#people-note")).to_be_empty()


def test_typing_asks_once(house: House) -> None:
    """A crowd is not asked for each letter, but when one has stopped typing."""
    beside = Beside(house, is_timed=True)
    beside.run("fill(10_000)")
    expect(beside.names.first).to_have_text(person(0))
    beside.page.clock.pause_at(LATER_MS)
    for letter in "9999":
        beside.search.press_sequentially(letter)
        beside.page.clock.run_for(280)
    assert beside.see("asked.map(({ query }) => query)") == [""]
    beside.page.clock.run_for(280)
    assert beside.see("asked.map(({ query }) => query)") == ["", "9999"]


# Open and closed


def test_wide_panel_is_remembered_and_gives_the_focus_back(house: House) -> None:
    """Beside the talk the list is open until it is closed, by button or Escape, and stays so at the next visit."""
    beside = Beside(house)
    beside.run("fill(2)")
    expect(beside.toggle).to_have_attribute("aria-expanded", "true")
    beside.row(person(1)).focus()
    beside.press("Escape")
    expect(beside.panel).to_be_hidden()
    expect(beside.toggle).to_be_focused()
    expect(beside.toggle).to_have_attribute("aria-expanded", "false")
    beside.run("enter(); fill(2)")
    expect(beside.panel).to_be_hidden()
    beside.toggle.click()
    expect(beside.search).to_be_focused()
    expect(beside.names).to_have_count(2)
    beside.row(person(0)).click()
    expect(beside.panel).to_be_visible()
    beside.page.get_by_role("button", name="Close the list of people").click()
    expect(beside.toggle).to_be_focused()


def test_phone_shows_the_list_over_everything(house: House) -> None:
    """On a phone the list is a sheet: nothing behind it can be reached, Escape and a choice close it."""
    beside = Beside(house, viewport=PHONE, has_touch=True)
    beside.run("fill(10_000, (n) => `${n} ${'\\u0645'.repeat(30)} <b>`)")
    expect(beside.panel).to_be_hidden()
    beside.toggle.click()
    sheet = beside.page.get_by_role("dialog", name="10,000 people here")
    expect(sheet).to_be_focused()
    assert sheet.bounding_box() == {"x": 0, "y": 0, **PHONE}
    expect(beside.names.first).to_contain_text("<b>")
    assert not scrolls_sideways(beside.page)
    assert beside.scroll.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert min(beside.see(TOUCHED)) >= 40
    for _ in range(5):
        beside.press("Tab")
        assert beside.see("document.activeElement === document.body || people.contains(document.activeElement)")
    sheet.focus()
    beside.press("Escape")
    expect(beside.panel).to_be_hidden()
    expect(beside.toggle).to_be_focused()
    beside.toggle.click()
    beside.names.nth(3).tap()
    expect(beside.panel).to_be_hidden()
    assert beside.see("picked")[0].startswith("3 ")
    assert beside.see("document.querySelectorAll('[inert]').length") == 0


TOUCHED = """[...document.querySelectorAll("#people button, #people input")]
    .flatMap((node) => [node.offsetWidth, node.offsetHeight])"""


def test_zoom_does_not_take_the_list_from_who_is_in_it(house: House) -> None:
    """A window that gets narrow closes the list, but not under somebody's hands; one that gets wide opens it again."""
    beside = Beside(house)
    beside.run("fill(2)")
    beside.row(person(1)).focus()
    beside.page.set_viewport_size(TABLET)
    expect(beside.page.get_by_role("dialog")).to_be_visible()
    expect(beside.row(person(1))).to_be_focused()
    beside.press("Escape")
    beside.page.set_viewport_size({"width": 1280, "height": 700})
    expect(beside.panel).to_be_visible()
    expect(beside.page.get_by_role("dialog")).to_have_count(0)
    expect(beside.page.get_by_role("complementary", name="2 people here")).to_be_visible()
    beside.page.set_viewport_size(TABLET)
    expect(beside.panel).to_be_hidden()


def test_a_room_that_is_left_leaves_nothing_behind(house: House) -> None:
    """The next room's panel begins anew: without search, people and listeners of the last one, with all in reach."""
    beside = Beside(house, viewport=PHONE)
    beside.run("fill(200)")
    beside.toggle.click()
    beside.search.fill("9")
    beside.run("enter()")
    expect(beside.panel).to_be_hidden()
    expect(present(beside.page)).to_have_text("–")
    assert beside.see("document.querySelectorAll('[inert]').length") == 0
    beside.toggle.click()
    expect(beside.search).to_have_value("")
    expect(beside.page.locator(".person")).to_have_count(0)
    beside.run("fill(3)")
    beside.row(person(1)).click()
    assert beside.see("picked") == [person(1)]


# Real people


def test_a_real_crowd_is_counted_listed_and_found(house: House) -> None:
    """Of 150 real people the count is right, each is found by scrolling and by name, and who leaves is gone."""
    with ExitStack() as crowd:
        members = [crowd.enter_context(Client(house.url, house.room, name=person(n))) for n in range(150)]
        ann = house.enter("Ann")
        expect(present(ann)).to_have_text("151")
        names = ann.locator(".person:not(.unknown) .name")
        expect(ann.get_by_role("button", name="Ann you", exact=True)).to_be_in_viewport()
        ann.get_by_label("Find someone by name").focus()
        ann.keyboard.press("ArrowDown")
        ann.keyboard.press("End")
        expect(ann.get_by_role("button", name=person(149), exact=True)).to_be_focused()
        ann.get_by_label("Find someone by name").fill("0014")
        expect(names).to_have_text([person(14), *(person(n) for n in range(140, 150))])
        members[140].close()
        expect(present(ann)).to_have_text("150")
        ann.get_by_label("Find someone by name").fill("00140")
        expect(ann.locator("#people-note")).to_have_text("Nobody here has such a name.")


def test_picking_somebody_mentions_him(house: House) -> None:
    """On a phone one takes somebody from the list and goes on writing to him; who has left is not in it any more."""
    bo, ann = house.enter("Bo"), house.enter("Ann", viewport=PHONE)
    expect(present(ann)).to_have_text("2")
    ann.get_by_label("Your message").fill("Hello ")
    ann.locator("#people-toggle").click()
    ann.get_by_role("dialog").get_by_role("button", name="Bo Owner", exact=True).click()
    expect(ann.locator("#people")).to_be_hidden()
    expect(ann.get_by_label("Your message")).to_be_focused()
    expect(ann.get_by_label("Your message")).to_have_value("Hello @Bo ")
    ann.keyboard.press("Alt+P")
    expect(ann.get_by_role("dialog", name="2 people here")).to_be_visible()
    bo.close()
    expect(ann.get_by_role("dialog", name="1 person here")).to_be_visible()
    expect(ann.locator(".person .name")).to_have_text(["Ann"])
    ann.keyboard.press("Alt+P")
    expect(ann.locator("#people")).to_be_hidden()
