"""`static/surge.js` and `static/stretch.js` without a page: what is summed up, and what is on the page at all."""

from typing import Any

from playwright.sync_api import Page

from tests.modules import run

SURGE = """
    const { Surge } = await load("surge");
    const { Stretch, MAX_SHOWN } = await load("stretch");
    const { Timeline } = await load("timeline");
    const me = { id: "me", name: "Ann" };
    const timeline = new Timeline();
    timeline.enter({ epoch: "e", head: 0, you: me });
    const surge = new Surge();
    const stretch = new Stretch(timeline, surge);
    let seq = 0;
    let at = 1_700_000_000_000;
    const say = (count, every_ms, text = "x", by = { id: "bo", name: "Bo" }) => {
        for (let i = 0; i < count; i += 1) {
            const event = { type: "message", seq: seq += 1, at: at += every_ms, by, text };
            timeline.merge([event]);
            surge.heard(event);
        }
    };
    const pass = (count, type = "reactions", more = { changes: [] }) => {
        for (let i = 0; i < count; i += 1) {
            const event = { type, seq: seq += 1, at, ...more };
            timeline.merge([event]);
            surge.passed(event.seq);
        }
    };
    const ranges = (sums) => sums.map(({ first, last }) => [first, last]);
    const shown = () => stretch.events.map(({ seq }) => seq);
"""


def told(page: Page, script: str, arg: Any = None) -> Any:
    return run(page, SURGE + script, arg)


def test_what_can_be_read_is_not_summed_up(modules: Page) -> None:
    """Ten a second, and a short burst."""
    assert told(modules, "say(500, 101); return [surge.isOn, surge.sums];") == [False, []]
    assert told(modules, "say(39, 1); at += 20000; say(39, 1); return [surge.isOn, surge.sums];") == [False, []]


def test_a_flood_is_summed_up_but_for_the_newest(modules: Page) -> None:
    """Once a hundred come within ten seconds all but the last twelve are one range with its two moments."""
    sums = told(modules, "say(10, 5000); say(300, 10); return [surge.isOn, surge.sums];")
    assert sums[0] is True
    (sum_,) = sums[1]
    assert sum_["last"] == 310 - 12
    assert 9 <= sum_["first"] <= 11
    assert 2000 < sum_["to"] - sum_["from"] <= 8000


def test_forty_at_once_are_a_flood(modules: Page) -> None:
    """Even if they come late in a window that was calm."""
    ((first, last),) = told(modules, "say(30, 200); say(60, 1); return ranges(surge.sums);")
    assert last == 90 - 12
    assert first > 24  # what came before the rush could be read


def test_a_flood_that_lasts_is_one_sum_every_ten_seconds(modules: Page) -> None:
    """From its second window on nothing of it is shown and folded up again; together they leave nothing out."""
    sums = told(modules, "say(3500, 10); return ranges(surge.sums);")
    assert sums[0][0] == 1
    assert [first for first, _ in sums[1:]] == [last + 1 for _, last in sums[:-1]]
    assert sums[-1][1] == 3500 - 12
    assert len(sums) == 4


def test_when_a_flood_is_over_its_newest_stay(modules: Page) -> None:
    """Calm messages that follow fold nothing up."""
    before, after = told(
        modules,
        """
        say(300, 10);
        const before = ranges(surge.sums);
        at += 15000;
        say(30, 1000);
        return [before, ranges(surge.sums)];
        """,
    )
    assert before == after == [[1, 288]]


def test_calm_talk_after_a_flood_is_shown(modules: Page) -> None:
    """However closely it follows: only what came in the ten seconds of the flood is summed up with it."""
    assert told(
        modules,
        """
        say(300, 10);
        say(100, 600);
        stretch.toEnd();
        return [surge.isOn, ranges(surge.sums), shown().slice(-89)];
        """,
    ) == [False, [[1, 311]], list(range(312, 401))]


def test_a_flood_without_end_costs_a_bounded_number_of_sums(modules: Page) -> None:
    """The oldest become one."""
    sums = told(modules, "say(60 * 1000, 10); return ranges(surge.sums);")
    assert len(sums) <= 41
    assert (sums[0][0], sums[-1][1]) == (1, 60 * 1000 - 12)


def test_what_shows_nothing_crowds_nobody(modules: Page) -> None:
    """Hundreds of reactions make no flood of a few messages, and do not fold up the newest after one."""
    assert told(
        modules,
        """
        for (let i = 0; i < 30; i += 1) { say(1, 300); pass(20); }
        const calm = [surge.isOn, ranges(surge.sums)];
        at += 20000;
        const first = seq + 1;
        say(300, 10);
        const before = ranges(surge.sums);
        pass(500);
        const [{ last, silent }, ...others] = surge.sums;
        return [calm, before.map((range) => range.map((seq) => seq - first)), last - first, silent, others];
        """,
    ) == [[False, []], [[0, 287]], 287, 0, []]


def test_reactions_in_a_flood_do_not_end_it(modules: Page) -> None:
    """It is one sum that leaves nothing out, and knows how many of it are messages."""
    sums = told(modules, "for (let i = 0; i < 150; i += 1) { say(2, 10); pass(1); } return surge.sums;")
    (sum_,) = sums
    assert sum_["first"] == 1
    assert sum_["last"] - sum_["first"] + 1 - sum_["silent"] == 288


def test_what_was_removed_takes_no_place(modules: Page) -> None:
    """The page shows as many messages as ever, however many between them went, and one can go back past all of them."""
    assert told(
        modules,
        """
        say(500, 5000);
        const first = seq + 1;
        say(2000, 5000, "spam", { id: "cy", name: "Cy" });
        say(100, 5000);
        pass(1, "purge", { person: "cy" });
        stretch.toEnd();
        const [shownNow, from] = [shown().length, shown()[0]];
        stretch.earlier();
        return [shownNow, first - from, shown().at(-1) - seq, shown()[0] < from];
        """,
    ) == [400, 300, -61, True]


def test_a_room_of_which_nothing_is_left_can_be_shown(modules: Page) -> None:
    """Going back and on in it leads nowhere, and does no harm."""
    assert (
        told(
            modules,
            """
        say(50, 5000);
        pass(1, "purge", { person: "bo" });
        const looks = [];
        for (const step of ["toEnd", "earlier", "later", "stand", "toEnd"]) {
            stretch[step]();
            looks.push([stretch.events.length, stretch.first, stretch.isAtEnd, stretch.hasEarlierHeld]);
        }
        return looks;
        """,
        )
        == [[0, 1, True, False]] * 5
    )


def test_at_the_end_the_page_shows_the_newest_and_what_is_mine(modules: Page) -> None:
    """Summed up are the others; what I said and what is said to me stands."""
    assert told(
        modules,
        """
        say(5, 5000);
        at += 60000;
        say(100, 10);
        say(1, 10, "mine", me);
        say(100, 10);
        say(1, 10, "for @Ann");
        say(100, 10);
        stretch.toEnd();
        return [shown(), stretch.isAtEnd];
        """,
    ) == [[1, 2, 3, 4, 5, 106, 207, *range(307 - 11, 308)], True]


def test_however_much_comes_little_is_held(modules: Page) -> None:
    """After a hundred thousand messages the timeline holds some hundreds, and the sums know how many there were."""
    held, sums, most = told(
        modules,
        """
        let most = 0;
        say(200, 5000);
        for (let i = 0; i < 400; i += 1) {
            say(250, 1);
            stretch.toEnd();
            most = Math.max(most, stretch.events.length, timeline.events.length - 1500);
        }
        return [timeline.events.length, ranges(stretch.sums), most];
        """,
    )
    assert held <= 1500
    assert most <= 400
    assert sum(last - first + 1 for first, last in sums) >= 100_000 - 12


def test_who_reads_back_is_not_folded_up(modules: Page) -> None:
    """A stretch that stands keeps its sums as they were, however the room goes on."""
    assert told(
        modules,
        """
        say(300, 10);
        stretch.toEnd();
        const before = ranges(stretch.sums);
        say(200, 10);
        stretch.stand();
        return [before, ranges(stretch.sums), shown().length];
        """,
    ) == [[[1, 288]], [[1, 288]], 212]


def test_an_opened_sum_is_shown_from_its_beginning(modules: Page) -> None:
    """And is not summed up again when one comes back to the end."""
    assert told(
        modules,
        """
        say(300, 10);
        stretch.toEnd();
        stretch.open({ first: 1, last: 288 });
        stretch.around(1);
        const read = shown();
        stretch.toEnd();
        return [read.length, read[0], ranges(stretch.sums)];
        """,
    ) == [300, 1, []]


def test_a_stretch_never_shows_more_than_its_most(modules: Page) -> None:
    """At the end, standing, going back, going on, around any message: never over 400, and always in one piece."""
    script = """
        say(1000, 5000);
        const sizes = [];
        const look = (name) => {
            const seqs = shown();
            const isWhole = seqs.every((seq, i) => i === 0 || seq === seqs[i - 1] + 1);
            sizes.push([name, seqs.length <= MAX_SHOWN && isWhole, seqs[0], seqs.at(-1)]);
        };
        stretch.toEnd(); look("end");
        for (let i = 0; i < 6; i += 1) stretch.earlier();
        look("earlier");
        for (let i = 0; i < 20; i += 1) stretch.later();
        look("later");
        stretch.around(arg); look("around");
        say(300, 5000); stretch.stand(); look("stand");
        return sizes;
    """
    for name, is_right, first, last in told(modules, script, 500):
        assert is_right, (name, first, last)


def test_going_on_reaches_the_end_again(modules: Page) -> None:
    """Step by step, from wherever one is."""
    assert told(
        modules,
        """
        say(1000, 5000);
        stretch.around(700);
        const before = stretch.isAtEnd;
        for (let i = 0; i < 10; i += 1) stretch.later();
        return [before, stretch.isAtEnd, shown().at(-1)];
        """,
    ) == [False, True, 1000]
