"""`static/history.js` without a page: what is asked of the room's log, and what is not asked again."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

HISTORY = """
    const { History } = await load("history");
    const { Timeline } = await load("timeline");
    const timeline = new Timeline();
    timeline.enter({ epoch: "e", head: 100, you: { id: "me", name: "Ann" } });
    const message = (seq) => ({ type: "message", seq, at: seq, by: { id: "bo", name: "Bo" }, text: `m${seq}` });
    const page = (seqs, more_before = false) =>
        ({ type: "page", events: seqs.map(message), more_before, more_after: false });
    const asked = [];
    const troubles = [];
    let painted = 0;
    let answer = () => page([]);
    const fail = (code) => { throw Object.assign(new Error("no"), { code }); };
    const history = new History({
        timeline, onChange: () => { painted += 1; }, onTrouble: (error) => { troubles.push(error.code); },
        ask: async (question) => { asked.push(question); return answer(question); },
    });
    const seqs = () => timeline.events.map(({ seq }) => seq);
"""


def told(page: Page, script: str) -> Any:
    return run(page, HISTORY + script)


def test_a_gap_is_filled_from_the_side_one_comes_from(modules: Page) -> None:
    """And never asked for more than lies in it."""
    assert told(
        modules,
        """
        answer = ({ after }) => page([after ? after + 1 : 49]);
        const gap = { after: 10, before: 50 };
        const done = [await history.fill(gap), await history.fill({ ...gap, isFromBelow: true })];
        return [done, seqs(), asked.map(({ after, before, limit }) => [after, before, limit])];
        """,
    ) == [[True, True], [11, 49], [[10, None, 39], [None, 50, 39]]]


@pytest.mark.parametrize("act", ["older(50)", "fill({ after: 10, before: 50 })"])
def test_what_brings_nothing_has_not_worked(modules: Page, act: str) -> None:
    """Else it would be asked for again and again, by a server that says there is more and sends none."""
    assert told(modules, f"answer = () => page([], true); return history.{act};") is False
    assert told(modules, f"answer = () => fail('no_line'); return [await history.{act}, troubles];") == [
        False,
        ["no_line"],
    ]


def test_the_beginning_is_an_answer(modules: Page) -> None:
    """Nothing before and nothing more: then the room begins here."""
    script = "const isThere = await history.older(1); return [isThere, timeline.hasBefore(timeline.oldest)];"
    assert told(modules, "timeline.merge([message(1)]);" + script) == [True, False]


def test_not_there_is_told_from_not_asked(modules: Page) -> None:
    """A message or a day that is not there is one thing, a line that is not there another."""
    assert told(
        modules,
        """
        answer = () => page([30]);
        const there = [await history.around(30), await history.since(5)];
        answer = () => page([]);
        const gone = [await history.around(99), await history.since(5)];
        answer = () => fail("no_line");
        return [there, gone, [await history.around(98), await history.since(5)].map((found) => found === undefined)];
        """,
    ) == [[True, 30], [False, None], [True, True]]


def test_where_all_was_removed_more_is_asked_for(modules: Page) -> None:
    """Before anything is seen much may have to be passed over."""
    assert told(
        modules,
        """
        timeline.merge([{ type: "removed", seq: 50, at: 50 }, message(51)]);
        await history.older(50);
        await history.older(51);
        return asked.map(({ before, limit }) => [before, limit]);
        """,
    ) == [[50, 200], [51, None]]


def test_a_day_of_which_nothing_is_left_leads_to_the_next(modules: Page) -> None:
    """The first message that is there, however many were removed before it; null if there is none."""
    assert (
        told(
            modules,
            """
        const removed = (seq) => ({ type: "removed", seq, at: seq });
        answer = ({ at, after }) => ({
            type: "page", more_before: true, more_after: (at ?? after) < 30,
            events: [1, 2, 3].map((n) => (at ?? after) + n).map((seq) => (seq < 30 ? removed(seq) : message(seq))),
        });
        return history.since(10);
        """,
        )
        == 30
    )
    assert told(modules, "answer = () => page([], false); return history.since(10);") is None


def test_what_was_held_before_a_gap_is_asked_for_anew(modules: Page) -> None:
    """From the newest on, until all of it was; a lost line breaks it off, and the next one goes on."""
    assert told(
        modules,
        """
        timeline.merge([message(10), message(11), message(12)]);
        history.distrustHeld();
        answer = () => fail("no_line");
        history.lineOpened();
        await null;
        const before = asked.splice(0).map(({ before }) => before);
        const edited = (seq) => ({ ...message(seq), text: "edited", edit: 60, edited: 60 });
        answer = ({ before }) => ({ ...page([]), events: (before > 11 ? [11, 12] : [9, 10]).map(edited) });
        history.lineOpened();
        while (painted < 2) await null;
        history.lineOpened();
        await null;
        return [before, asked.map(({ before }) => before), timeline.events.map(({ text }) => text)];
        """,
    ) == [[13], [13, 11], ["edited"] * 4]


def test_a_reply_s_source_is_asked_for_once_a_line(modules: Page) -> None:
    """A failure paints nothing and asks nothing until there is another line; what is gone is known to be gone."""
    assert told(
        modules,
        """
        answer = () => fail("no_line");
        await history.source(7);
        await history.source(7);
        const before = [asked.length, painted];
        history.lineOpened();
        answer = () => page([7]);
        await history.source(7);
        answer = () => fail("not_found");
        await history.source(8);
        return [before, asked.length, painted, timeline.source(7).text, timeline.source(8)];
        """,
    ) == [[1, 0], 3, 2, "m7", None]
