"""`static/timeline.js` without a page: events by seq, gaps, cursors, whom a message is for."""

from typing import Any

from playwright.sync_api import Page

from tests.modules import run

TIMELINE = """
    const { Timeline } = await load("timeline");
    const message = (seq, text = `m${seq}`, by = { id: "bo", name: "Bo" }, more = {}) =>
        ({ type: "message", seq, at: 1000 * seq, by, text, ...more });
    const me = { id: "me", name: "Ann" };
    const entered = (head, more = {}) => {
        const timeline = new Timeline();
        timeline.enter({ epoch: "e1", head, you: me, ...more });
        return timeline;
    };
    const seqs = (timeline) => timeline.events.map(({ seq }) => seq);
"""


def told(page: Page, script: str, arg: Any = None) -> Any:
    return run(page, TIMELINE + script, arg)


def test_events_in_any_order_stand_in_theirs_and_once(modules: Page) -> None:
    """Late, early, twice: the log is in the order of its seqs and holds each once."""
    assert told(
        modules,
        """
        const timeline = entered(9);
        for (const seq of [5, 3, 9, 3, 4, 9, 1]) timeline.merge([message(seq)]);
        return [seqs(timeline), timeline.newest, timeline.oldest, timeline.isCaughtUp];
        """,
    ) == [[1, 3, 4, 5, 9], 9, 1, True]


def test_the_first_of_two_with_one_seq_stays(modules: Page) -> None:
    """What was shown is not replaced by what claims to be the same."""
    script = 'const timeline = entered(1); timeline.merge([message(1, "true"), message(1, "false")]);'
    assert told(modules, script + "return timeline.at(1).text;") == "true"


def test_an_empty_page_asks_for_everything_and_any_other_for_what_follows(modules: Page) -> None:
    """The cursor is the newest seq held, with its epoch; nothing held of a room that has something is no past."""
    assert told(
        modules,
        """
        const { cursor: new_ } = new Timeline();
        const unheard = entered(7).cursor;
        const empty = entered(0).cursor;
        const held = entered(7);
        held.merge([message(7)]);
        return [new_, unheard, empty, held.cursor];
        """,
    ) == [None, None, {"epoch": "e1", "after": 0}, {"epoch": "e1", "after": 7}]


def test_our_own_past_is_kept_and_another_one_is_dropped(modules: Page) -> None:
    """`whole` and `gap` leave what is held; `reset` and a new beginning drop it, and say so."""
    script = """
        const timeline = entered(2);
        timeline.merge([message(1), message(2)]);
        timeline.addSource(90, null);
        const isDropped = timeline.enter({ epoch: "e2", head: 5, you: me, resumed: arg });
        return [isDropped, seqs(timeline), timeline.source(90)];
    """
    for resumed in ("whole", "gap"):
        assert told(modules, script, resumed) == [False, [1, 2], None]
    assert told(modules, script + "", "reset")[:2] == [True, []]


def test_what_lies_in_a_gap_counts_as_unread(modules: Page) -> None:
    """Counted are the messages of others after a seq, and whatever is missing between."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1), message(2), message(3, "mine", me), message(10)]);
        return [0, 1, 3, 10, 99].map((seq) => timeline.countAfter(seq));
        """,
    ) == [9, 8, 7, 0, 0]


def test_a_message_is_for_whom_it_names_or_answers(modules: Page) -> None:
    """By @name or by a reply to one's own message, even one that is fetched later; never one's own."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([
            message(5, "mine", me), message(6, "hi @Ann!"), message(7, "hi @Anna"),
            message(8, "yes", undefined, { reply_to: 5 }),
            message(9, "yes", undefined, { reply_to: 2 }), message(10, "@Ann", me),
        ]);
        const before = timeline.events.map(({ isForMe }) => isForMe);
        timeline.addSource(2, message(2, "old", me));
        return [before, timeline.at(9).isForMe];
        """,
    ) == [[False, True, False, True, False, False], True]


def test_what_a_reply_answers_is_held_asked_for_or_gone(modules: Page) -> None:
    """Undefined has yet to be asked, null is not there; and not more than some hundreds are kept beside the log."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1)]);
        const states = [timeline.source(1).text, timeline.source(2)];
        timeline.addSource(2, null);
        states.push(timeline.source(2));
        for (let seq = 1000; seq < 2000; seq += 1) timeline.addSource(seq, null);
        return [...states, timeline.source(2), timeline.source(1999)];
        """,
    ) == ["m1", None, None, None, None]


def test_the_beginning_is_known_once_it_was_reached(modules: Page) -> None:
    """Until a page says that nothing comes before, there may be something before."""
    assert told(
        modules,
        """
        const timeline = entered(9);
        timeline.merge([message(9)]);
        const before = timeline.hasBefore(timeline.oldest);
        timeline.mergeOlder({ events: [message(3)], more_before: false });
        return [before, timeline.hasBefore(timeline.oldest), timeline.hasBefore(9)];
        """,
    ) == [True, False, True]


def test_what_is_forgotten_is_a_gap_again(modules: Page) -> None:
    """Nothing but a missing seq marks a gap, so that what was let go of can be loaded again."""
    script = "const timeline = entered(0); timeline.merge([1, 2, 3].map((seq) => message(seq)));"
    script += "timeline.keep(({ seq }) => seq !== 2); timeline.merge([message(2)]); return seqs(timeline);"
    assert told(modules, script) == [1, 2, 3]


def test_notices_of_one_kind_at_one_place_are_one(modules: Page) -> None:
    """Who comes and goes between two messages stands on one line; the lines are bounded."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.notice("presence", ["a"]);
        timeline.notice("presence", ["b"]);
        timeline.merge([message(1)]);
        timeline.notice("presence", ["c"]);
        const lines = timeline.notices.map(({ content, after }) => [content, after]);
        for (let i = 0; i < 200; i += 1) timeline.notice(`k${i}`, []);
        return [lines, timeline.notices.length];
        """,
    ) == [[[["a", "b"], 0], [["c"], 1]], 50]
