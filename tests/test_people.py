"""Who is here as a page knows it: the roster of a small room, the directory of a crowd, and who writes."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

ANN, BO, CY, DI = ({"id": name.lower(), "name": name} for name in ("Ann", "Bo", "Cy", "Di"))


def roster(page: Page, *steps: tuple[str, Any]) -> list[Any]:
    """What each step returns, and the state of the roster after the last."""
    script = """
        const { Roster } = await load("people");
        const roster = new Roster();
        const news = arg.map(([step, given]) => roster[step](given) ?? null);
        const { present, isWhole, isCrowd, people } = roster;
        return [...news, { present, isWhole, isCrowd, names: people.map(({ name }) => name) }];
    """
    answer: list[Any] = run(page, script, steps)
    return answer


def named(count: int) -> list[dict[str, str]]:
    return [{"id": f"p{number}", "name": f"P{number}"} for number in range(count)]


# The roster


def test_changes_are_news_with_the_names(modules: Page) -> None:
    """Who came, went and took another name is told by name; who was known already, or never was, is no news."""
    learnt = {"total": 3, "people": [DI, BO, ANN]}
    change = {"present": 3, "joined": [CY, DI], "left": ["bo", "ghost"], "renamed": [{"id": "ann", "name": "Anna"}]}
    *_, news, state = roster(modules, ("enter", 3), ("replace", learnt), ("change", change))
    assert news == {"came": [CY], "went": [BO], "renamed": [{"id": "ann", "before": "Ann", "after": "Anna"}]}
    assert state == {"present": 3, "isWhole": True, "isCrowd": False, "names": ["Anna", "Cy", "Di"]}


def test_those_who_come_back_after_a_lost_line_are_no_news(modules: Page) -> None:
    """After a restart all come one by one: who was here before is not announced, whoever is new is."""
    before = ("replace", {"total": 2, "people": [ANN, BO]})
    learnt = ("replace", {"total": 1, "people": [ANN]})
    *_, news, state = roster(modules, before, ("enter", 1), learnt, ("change", {"present": 3, "joined": [BO, CY]}))
    assert news["came"] == [CY]
    assert state["names"] == ["Ann", "Bo", "Cy"]


def test_a_count_that_the_names_do_not_make_up_is_not_whole(modules: Page) -> None:
    """Who is counted but not named is missing: the roster says that it has to be learnt."""
    *_, state = roster(modules, ("replace", {"total": 1, "people": [ANN]}), ("change", {"present": 2}))
    assert state == {"present": 2, "isWhole": False, "isCrowd": False, "names": ["Ann"]}


def test_a_crowd_stays_one_until_it_is_small_again(modules: Page) -> None:
    """Above 100 people only are counted, until they are fewer than 80, as the server does it."""
    for counts, is_crowd in (([100], False), ([101], True), ([101, 80], True), ([101, 79], False), ([80], False)):
        *_, state = roster(modules, *(("change", {"present": present}) for present in counts))
        assert state["isCrowd"] is is_crowd, counts


def test_names_from_before_a_crowd_never_pass_for_whole(modules: Page) -> None:
    """A crowd changes unseen: when as many are left as were known before, they are others, and have to be learnt."""
    known = ("replace", {"total": 79, "people": named(79)})
    *_, state = roster(modules, known, ("change", {"present": 150}), ("change", {"present": 79}))
    assert state == {"present": 79, "isWhole": False, "isCrowd": False, "names": []}


# Writers


def test_writers_are_named_until_they_stop(modules: Page) -> None:
    """Somebody writes until he is done or nothing was heard of it for five seconds."""
    script = """
        const { Writers } = await load("people");
        const writers = new Writers();
        for (const [person, at] of arg) writers.onTyping(person, at);
        const names = [writers.names(4999), writers.names(5000)];
        return [...names, writers.stopped("bo"), writers.stopped("bo"), writers.names(5000)];
    """
    assert run(modules, script, [(ANN, 0), (BO, 0), (BO, 1000)]) == [["Ann", "Bo"], ["Bo"], True, False, []]


# The directory


class Desk:
    """A directory alone on a page, with a crowd to ask for; time is the test's own."""

    def __init__(self, page: Page, present: int) -> None:
        self.page = page
        set_up = """
            const { Directory } = await load("directory");
            window.leaving?.abort();
            window.leaving = new AbortController();
            window.crowd = Array.from({ length: arg }, (_, n) => ({ id: `p${n}`, name: `P${n}` }));
            window.asked = [];
            window.changes = [];
            window.isLineDown = false;
            window.answers = [];
            const answer = ({ query, offset, limit }) => {
              const found = crowd.filter(({ name }) => name.includes(query));
              return { total: found.length, people: found.slice(offset, offset + limit) };
            };
            const ask = async (question) => {
              asked.push(question);
              if (window.isLineDown) throw new Error("no line");
              if (window.isSlow) await new Promise((resolve) => answers.push(resolve));
              return answer(question);
            };
            window.isSlow = false;
            const onChange = (isOther) => changes.push(isOther);
            window.directory = new Directory({ ask, onChange, signal: leaving.signal });
            directory.changed(arg);
        """
        run(page, set_up, present)

    def do(self, *steps: str, wait_ms: int = 0) -> list[int]:
        """Take the steps and let time pass; returns the offsets that were asked for meanwhile."""
        for step in steps:
            self.page.evaluate(f"() => {{ {step}; }}")
        self.page.clock.run_for(wait_ms)
        offsets: list[int] = self.page.evaluate("() => asked.splice(0).map(({ offset }) => offset)")
        return offsets

    def see(self, value: str) -> Any:
        return self.page.evaluate(f"() => {value}")


@pytest.fixture(scope="module")
def timeless(modules: Page) -> Iterator[Page]:
    modules.clock.install()
    modules.clock.pause_at(2_000_000_000)
    yield modules
    modules.clock.resume()


def test_only_what_is_in_sight_is_asked_for_and_kept(timeless: Page) -> None:
    """A list is as long as its crowd; a page is asked for when it comes in sight, and once."""
    desk = Desk(timeless, 10_000)
    assert desk.see("[directory.total, directory.at(0), asked.length]") == [10_000, None, 0]
    assert desk.do("directory.look(0, 20)", wait_ms=10_000) == [0]
    assert desk.do("directory.look(5095, 5110)", wait_ms=10_000) == [5000, 5100]
    assert desk.do("directory.look(0, 20)", wait_ms=10_000) == []
    assert desk.see("[0, 99, 100, 5199].map((n) => directory.at(n)?.name)") == ["P0", "P99", None, "P5199"]
    assert desk.see("['p5100', 'p400'].map((id) => directory.indexOf(id))") == [5100, -1]


def test_who_flings_through_the_list_asks_little(timeless: Page) -> None:
    """A page that is only passed is not asked for; at most four questions a second go out, one at a time."""
    desk = Desk(timeless, 10_000)
    desk.do("directory.look(0, 20)", wait_ms=1000)
    asked: list[int] = []
    for index in range(0, 10_000, 250):  # forty frames of 16 ms
        asked += desk.do(f"directory.look({index}, {index + 20})", wait_ms=16)
    assert len(asked) <= 3
    assert desk.do(wait_ms=250) == [9700]
    desk.do("isSlow = true", "directory.look(2000, 2020)", wait_ms=1000)
    assert desk.do("directory.look(3000, 3020)", wait_ms=60_000) == []
    assert desk.do("answers.shift()()", wait_ms=250) == [3000]


def test_an_answer_to_an_older_query_is_dropped(timeless: Page) -> None:
    """The list shows what it showed until the answer to the last query is there; then it is another list."""
    desk = Desk(timeless, 1000)
    desk.do("directory.look(0, 20)", wait_ms=250)
    desk.do("isSlow = true", "directory.search('P99')", wait_ms=250)
    assert desk.do("directory.search('P999')", "answers.shift()()", wait_ms=250) == [0]
    assert desk.see("[directory.total, directory.query, changes]") == [1000, "", [True]]
    desk.do("answers.shift()()", wait_ms=1)
    assert desk.see("[directory.total, directory.query, directory.at(0).name]") == [1, "P999", "P999"]
    assert desk.see("changes") == [True, True]


def test_lists_of_a_crowd_are_renewed_the_slower_the_larger_it_is(timeless: Page) -> None:
    """When the count changes what is in sight is asked for again after a while: 5 s, or 10 ms for each person."""
    for present, wait_ms in ((200, 5000), (10_000, 100_000)):
        desk = Desk(timeless, present)
        assert desk.do("directory.look(0, 20)", wait_ms=1) == [0]
        assert desk.do(wait_ms=wait_ms * 2) == []
        desk.do("directory.reload()", wait_ms=1)
        assert desk.do(f"directory.changed({present + 1})", wait_ms=wait_ms - 1000) == []
        assert desk.do(f"directory.changed({present + 2})", wait_ms=1100) == [0]
        assert desk.do(wait_ms=wait_ms * 2) == []


def test_nothing_is_asked_while_nothing_is_in_sight(timeless: Page) -> None:
    """A closed list asks nothing, whatever changes, nor does one whose room was left."""
    desk = Desk(timeless, 200)
    assert desk.do("directory.look(0, 20)", "directory.rest()", wait_ms=1000) == []
    assert desk.do("directory.changed(300)", "directory.reload()", "directory.search('1')", wait_ms=60_000) == []
    assert desk.do("directory.look(0, 20)", "leaving.abort()", wait_ms=1000) == []


def test_a_question_that_failed_waits_for_the_next_line(timeless: Page) -> None:
    """Without a line nothing is asked again and again; a new line renews what is in sight, and only that."""
    desk = Desk(timeless, 300)
    desk.do("directory.look(0, 20)", wait_ms=1000)
    assert desk.do("isLineDown = true", "directory.look(200, 220)", wait_ms=60_000) == [200]
    assert desk.see("directory.at(0).name") == "P0"
    assert desk.do("isLineDown = false", "directory.reload()", wait_ms=60_000) == [200]
    assert desk.do("directory.look(0, 20)", wait_ms=1000) == [0]


def test_a_total_that_differs_makes_the_other_pages_old(timeless: Page) -> None:
    """An answer that counts others than before says that all has shifted; beyond the new end nothing is asked for."""
    desk = Desk(timeless, 300)
    desk.do("directory.look(0, 20)", wait_ms=1000)
    assert desk.do("crowd.splice(0, 150)", "directory.look(190, 210)", wait_ms=1000) == [100]
    assert desk.see("[directory.total, directory.at(0).name, directory.at(100).name]") == [150, "P0", "P250"]
    assert desk.do("directory.look(0, 20)", wait_ms=5000) == [0]
    assert desk.see("directory.at(0).name") == "P150"


def test_what_is_held_is_bounded(timeless: Page) -> None:
    """Of a list without end only the pages seen last are held."""
    desk = Desk(timeless, 30_000)
    desk.do("directory.look(0, 19_999)", wait_ms=60_000)
    desk.do("directory.look(20_000, 24_999)", wait_ms=60_000)
    assert desk.see("[0, 4_999, 5_000, 24_999].map((n) => directory.at(n)?.name)") == [None, None, "P5000", "P24999"]
    assert desk.see("crowd.filter((_, index) => directory.at(index)).length") == 20_000
