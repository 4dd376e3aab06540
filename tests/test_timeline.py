"""`static/timeline.js` without a page: events by seq, gaps, cursors, whom a message is for, what acts make of them."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

TIMELINE = """
    const { Timeline } = await load("timeline");
    const message = (seq, text = `m${seq}`, by = { id: "bo", name: "Bo" }, more = {}) =>
        ({ type: "message", seq, at: 1000 * seq, by, text, ...more });
    const me = { id: "me", name: "Ann" };
    const act = (type, seq, fields) => ({ type, seq, at: 1000 * seq, ...fields });
    const by = (id) => ({ id, name: id });
    const thumbs = (...ids) => [{ kind: "👍", n: ids.length, by: ids.map(by) }];
    const texts = (timeline) => timeline.events.map(({ text }) => text);
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


def test_what_is_held_goes_on_in_another_epoch(modules: Page) -> None:
    """Where the log says that all of it is there, too, one resumes in that one."""
    assert told(
        modules,
        """
        const timeline = entered(1);
        timeline.merge([message(1)]);
        timeline.goOnIn("e2");
        return [timeline.cursor, seqs(timeline)];
        """,
    ) == [{"epoch": "e2", "after": 1}, [1]]


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


# Acts


def test_an_edit_gives_a_message_another_text(modules: Page) -> None:
    """The newest edit counts, in whatever order they come and how often; it is marked with its time."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1), message(2), message(3)]);
        const edit = (seq, text) => timeline.merge([act("edit", seq, { by: by("bo"), message: 2, text })]);
        edit(4, "once");
        edit(6, "thrice");
        edit(5, "twice");
        edit(6, "again");
        const { text, edited } = timeline.at(2);
        return [text, edited, seqs(timeline), timeline.newest];
        """,
    ) == ["thrice", 6000, [1, 2, 3], 6]


def test_an_edit_may_make_a_message_mine_to_read(modules: Page) -> None:
    """Or no longer, by what it says then."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1, "hello"), message(2, "@Ann")]);
        timeline.merge([act("edit", 3, { by: by("bo"), message: 1, text: "hello @Ann" })]);
        timeline.merge([act("edit", 4, { by: by("bo"), message: 2, text: "never mind" })]);
        return timeline.events.map(({ isForMe }) => isForMe);
        """,
    ) == [True, False]


REMOVALS = {
    "delete": "act('delete', 9, { message: 2 })",
    "purge": "act('purge', 9, { person: 'bo' })",
    "trim": "act('trim', 9, { before: 3 })",
}


@pytest.mark.parametrize("kind", REMOVALS)
def test_what_is_removed_stays_removed(modules: Page, kind: str) -> None:
    """A page that was answered before, and comes after, brings nothing back: neither held nor for a reply."""
    script = f"const removal = {REMOVALS[kind]};"
    for order in ("page, removal", "removal, page", "removal, page, page", "removal, removal, page"):
        assert told(
            modules,
            script
            + f"""
            const timeline = entered(8);
            timeline.merge([message(3, "later", by("cy"), {{ reply_to: 2 }})]);
            const page = () => timeline.merge([message(2, "spam"), message(4, "kept", by("cy"))], 8);
            const source = () => timeline.addSource(2, message(2, "spam"));
            source();
            for (const step of [{order}]) typeof step === "function" ? step() : timeline.merge([{{ ...step }}]);
            source();
            return [texts(timeline), timeline.source(2)];
            """,
        ) == [["later", "kept"], None], order


def test_one_who_holds_a_removed_message_is_told(modules: Page) -> None:
    """What waits to be read out, say."""
    script = "const timeline = entered(0); const event = message(1); timeline.merge([event]);"
    assert told(modules, script + 'timeline.merge([act("delete", 2, { message: 1 })]); return event.isGone;') is True


def test_a_purge_takes_what_was_said_before_it(modules: Page) -> None:
    """And not what the same person says later, nor what others say."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        const cy = by("cy");
        timeline.merge([message(1), message(2, "cy's", cy), message(3), message(5, "back again")]);
        timeline.merge([act("purge", 4, { person: "bo", by: by("me") })]);
        return texts(timeline);
        """,
    ) == ["cy's", "back again"]


def test_a_purge_of_ten_thousand_takes_a_moment(modules: Page) -> None:
    """However they lie among those of others."""
    quick, left, ranges = told(
        modules,
        """
        const timeline = entered(0);
        for (let seq = 1; seq <= 20000; seq += 1) timeline.merge([message(seq, "x", by(seq % 2 ? "bo" : "cy"))]);
        const began = performance.now();
        timeline.merge([act("purge", 20001, { person: "bo" })]);
        const quick = performance.now() - began;
        return [quick, timeline.events.length, timeline.silenceWithin(1, 20001).length];
        """,
    )
    assert (left, ranges) == (10_000, 10_001)
    assert quick < 500


def test_what_was_let_go_of_for_good_is_no_gap(modules: Page) -> None:
    """A room that is trimmed begins later, for who reads it, too."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(5), message(6), message(7)]);
        const before = timeline.hasBefore(timeline.oldest);
        timeline.merge([act("trim", 8, { before: 6 })]);
        return [before, seqs(timeline), timeline.hasBefore(timeline.oldest), timeline.oldestStored, timeline.source(2)];
        """,
    ) == [True, [6, 7], False, 6, None]


def test_removed_ones_are_counted_and_acts_are_not(modules: Page) -> None:
    """A run of messages that went is one range with their number, whatever else lies in it."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        const removed = [3, 5, 6].map((seq) => act("removed", seq));
        timeline.merge([message(1), message(2), ...removed, message(4), act("of_later", 7), message(8)]);
        timeline.merge([act("delete", 9, { message: 2 }), act("delete", 10, { message: 3 })]);
        timeline.merge([act("delete", 11, { message: 4 }), act("delete", 11, { message: 4 })]);
        return [timeline.silenceWithin(1, 8), seqs(timeline), timeline.isEmpty];
        """,
    ) == [[{"first": 2, "last": 7, "gone": 3}], [1, 8], False]


def test_a_removed_place_is_a_message_if_its_deletion_is_known(modules: Page) -> None:
    """Told before or after, once or twice: an edit that was replaced leaves such a place, too."""
    assert told(
        modules,
        """
        const told = (...events) => {
            const timeline = entered(9);
            for (const event of events) timeline.merge([{ ...event }], 9);
            return timeline.silenceWithin(2, 2)[0].gone;
        };
        const [place, deletion] = [act("removed", 2), act("delete", 5, { message: 2 })];
        return [told(place), told(place, deletion), told(deletion, place), told(deletion, place, deletion, place)];
        """,
    ) == [0, 1, 1, 1]


def test_one_that_is_loaded_again_is_counted_once(modules: Page) -> None:
    """What was let go of in between was counted before."""
    assert told(
        modules,
        """
        const timeline = entered(6);
        const page = () => [message(1), act("removed", 2), message(3), act("delete", 4, { message: 2 }), message(6)];
        timeline.merge(page(), 6);
        timeline.keep(({ seq }) => seq === 1);
        const before = seqs(timeline);
        timeline.merge(page(), 6);
        return [before, seqs(timeline), timeline.silenceWithin(2, 2)];
        """,
    ) == [[1], [1, 3, 6], [{"first": 2, "last": 2, "gone": 1}]]


def test_nothing_that_is_not_seen_is_unread(modules: Page) -> None:
    """Neither acts, nor what was removed; what lies in a gap may be anything, and counts."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1), message(2), message(3), act("edit", 4, { by: by("bo"), message: 1, text: "x" })]);
        timeline.merge([act("delete", 5, { message: 2 }), act("role", 6, { by: me, whom: by("bo"), role: "owner" })]);
        const before = timeline.countAfter(0);
        timeline.merge([message(9), act("reactions", 10, { changes: [] })]);
        return [before, timeline.countAfter(0), timeline.countAfter(6), timeline.countAfter(9)];
        """,
    ) == [2, 5, 3, 0]


def test_only_what_concerns_everybody_is_shown(modules: Page) -> None:
    """Who was muted, banned or put out is for moderators; roles and rules are for all."""
    script = """
        const timeline = entered(0, { you: { ...me, role: arg } });
        const muted = act("act", 1, { act: "mute", by: by("bo"), whom: by("cy") });
        const given = act("role", 2, { by: by("bo"), whom: by("cy"), role: "" });
        timeline.merge([muted, given, act("rules", 3, { by: by("bo"), rules: {} })]);
        return seqs(timeline);
    """
    assert told(modules, script) == [2, 3]
    assert told(modules, script, "moderator") == [1, 2, 3]


def test_the_rules_before_are_known_where_they_can_be(modules: Page) -> None:
    """From the event before, from `welcome` for what is said live, plain at a room's beginning; else nobody knows."""
    assert told(
        modules,
        """
        const rules = (seq, slow_s) => act("rules", seq, { by: by("bo"), rules: { slow_s } });
        const before = (timeline, seq) => timeline.rulesBefore(timeline.at(seq));
        const late = entered(50, { rules: { slow_s: 1 } });
        late.merge([rules(49, 1), rules(50, 1), rules(51, 2), rules(52, 3)]);
        const live = entered(50, { rules: { slow_s: 1 } });
        live.merge([message(50), rules(51, 2)]);
        const beginning = entered(50, { rules: { slow_s: 7 } });
        beginning.merge([message(1), rules(2, 7)]);
        return [[49, 50, 51, 52].map((seq) => before(late, seq)), before(live, 51), before(beginning, 2)];
        """,
    ) == [[None, {"slow_s": 1}, {"slow_s": 1}, {"slow_s": 2}], {"slow_s": 1}, {}]


# Reactions


def test_reactions_are_replaced_as_a_whole(modules: Page) -> None:
    """The newest list counts; one from a page of history, of before, does not come back."""
    assert told(
        modules,
        """
        const timeline = entered(0);
        timeline.merge([message(1)]);
        const react = (seq, ...ids) => act("reactions", seq, { changes: [{ message: 1, reactions: thumbs(...ids) }] });
        timeline.merge([react(4, "bo", "cy")]);
        timeline.merge([react(3, "bo")], 5);
        timeline.merge([react(6, "cy")]);
        const names = timeline.at(1).reactions[0].by.map(({ id }) => id);
        timeline.merge([act("reactions", 7, { changes: [{ message: 1, reactions: [] }] })]);
        return [names, timeline.at(1).reactions];
        """,
    ) == [["cy"], []]


def test_of_a_page_and_what_was_heard_the_newer_counts(modules: Page) -> None:
    """A page knows what happened until it was asked for: what was heard after that is added, what before is not."""
    assert told(
        modules,
        """
        const told = (asOf, heardAt, stored) => {
            const timeline = entered(20);
            timeline.merge([act("reactions", heardAt, { changes: [{ message: 5, reactions: thumbs("bo") }] })]);
            timeline.merge([message(5, "x", by("cy"), { reactions: stored })], asOf);
            return timeline.at(5).reactions.flatMap(({ by }) => by.map(({ id }) => id));
        };
        return [told(20, 21, []), told(21, 21, thumbs("bo", "cy"))];
        """,
    ) == [["bo"], ["bo", "cy"]]


def test_a_page_brings_no_older_text(modules: Page) -> None:
    """Neither one answered before an edit was heard, nor one that has an edit before that; nor is it quoted."""
    assert told(
        modules,
        """
        const timeline = entered(20);
        const edit = (seq, text) => act("edit", seq, { by: by("bo"), message: 5, text });
        timeline.merge([edit(21, "newer")]);
        timeline.merge([edit(19, "older")], 20);
        timeline.addSource(5, message(5, "quoted"));
        const quoted = timeline.source(5).text;
        timeline.merge([edit(22, "newest")]);
        const after = timeline.source(5).text;
        timeline.merge([message(5, "as said")], 20);
        return [quoted, after, timeline.at(5).text];
        """,
    ) == ["newer", "newest", "newest"]


def test_what_is_held_is_renewed_by_a_page_of_later(modules: Page) -> None:
    """After a gap, in which acts were not heard: texts, reactions and removals are as they are stored."""
    assert told(
        modules,
        """
        const timeline = entered(3);
        timeline.merge([message(1), message(2), message(3, "x", by("cy"), { reactions: thumbs("bo") })]);
        const page = () => [
            message(1, "edited", by("bo"), { edit: 50, edited: 50000 }), act("removed", 2), message(3, "x", by("cy")),
        ];
        timeline.merge(page(), 3);
        const before = timeline.at(3).reactions?.length;
        timeline.enter({ epoch: "e1", head: 100, you: me, rules: {}, resumed: "gap" });
        timeline.merge(page(), 100);
        return [before, texts(timeline), timeline.at(1).edited, timeline.at(3).reactions, timeline.silenceWithin(1, 3)];
        """,
    ) == [1, ["edited", "x"], 50000, None, [{"first": 2, "last": 2, "gone": 1}]]


# The log, the line and all their orders

MODEL = """
    // A room's log as the server keeps it: acts rewrite what they concern.
    const random = (() => {
        let state = arg;
        return (n) => {
            state = (state * 1103515245 + 12345) % 2147483648;
            return Math.floor((state / 2147483648) * n);
        };
    })();
    const ids = ["bo", "cy", "dora"];
    const log = [];
    const place = (event) => ({ type: "removed", seq: event.seq, at: event.at });
    const messages = () => log.filter(({ type }) => type === "message");
    const blank = (seq) => { log[seq - 1] = place(log[seq - 1]); };
    const remove = ({ seq, edit }) => [seq, edit].filter(Boolean).forEach(blank);
    const ACTS = {
        say: (seq) => message(seq, `m${seq}`, by(ids[random(3)])),
        edit: (seq, target) => {
            if (target.edit) blank(target.edit);
            Object.assign(target, { text: `e${seq}`, edit: seq, edited: 1000 * seq });
            return act("edit", seq, { by: target.by, message: target.seq, text: target.text });
        },
        react: (seq, target) => {
            target.reactions = thumbs(...ids.slice(0, random(4)));
            return act("reactions", seq, { changes: [{ message: target.seq, reactions: target.reactions }] });
        },
        delete: (seq, target) => { remove(target); return act("delete", seq, { message: target.seq }); },
        purge: (seq, target) => {
            messages().filter((each) => each.by.id === target.by.id).forEach(remove);
            return act("purge", seq, { person: target.by.id });
        },
    };
    const kinds = ["say", "say", "edit", "edit", "react", "react"];
    const kind = () => (random(40) === 0 ? ["delete", "delete", "purge"][random(3)] : kinds[random(kinds.length)]);
    const happen = () => {
        const few = messages().filter(({ seq }) => seq % 8 === 0);
        const among = random(4) && few.length ? few : messages();
        const target = among[random(among.length)];
        const event = ACTS[target ? kind() : "say"](log.length + 1, target);
        log.push(event);
        return event;
    };
    const asStored = (from, to) => structuredClone(log.slice(Math.max(0, from), to));
    const shown = (events) => events.filter(({ type }) => type === "message")
        .map(({ seq, text, reactions }) => [seq, text, (reactions ?? []).flatMap(({ by }) => by.map(({ id }) => id))]);

    for (let i = 0; i < 100; i += 1) log.push(ACTS.say(log.length + 1));
    const timeline = entered(100);
    timeline.merge(asStored(90, 100));
    const asked = []; // pages on their way: answered at any time, merged at any later one
    for (let i = 0; i < 300; i += 1) {
        const step = random(10);
        if (step < 5) timeline.merge([structuredClone(happen())]);
        else if (step < 6) asked.push({ from: random(100), asOf: timeline.head, events: null });
        else if (step < 9 && asked.length) {
            const page = asked[random(asked.length)];
            if (page.events) timeline.merge(asked.splice(asked.indexOf(page), 1)[0].events, page.asOf);
            else page.events = asStored(page.from, page.from + 10);
        } else if (step === 9 && random(4) === 0) {
            // The line is lost; the pages that were asked for are, too. Of what was missed nothing or the last is sent.
            asked.length = 0;
            const missed = random(12);
            const { newest } = timeline;
            for (let j = 0; j < missed; j += 1) happen();
            const isGap = random(2) === 1;
            timeline.enter({ epoch: "e1", head: log.length, you: me, rules: {}, resumed: isGap ? "gap" : "whole" });
            timeline.merge(asStored(isGap ? Math.max(newest, log.length - 3) : newest));
            if (isGap) timeline.merge(asStored(0, newest), log.length);
        }
    }
    asked.forEach((page) => timeline.merge(page.events ?? [], page.asOf));
    const held = shown(timeline.events);
    const ofThem = shown(log.filter(({ seq }) => timeline.at(seq)));
    timeline.merge(asStored(0), log.length);
    const places = timeline.silenceWithin(1, log.length).map(({ first, last }) => last - first + 1);
    return [held, ofThem, shown(timeline.events), shown(log), timeline.countAfter(0),
        places.reduce((sum, n) => sum + n, timeline.events.length) === log.length];
"""


@pytest.mark.parametrize("seed", range(1, 41))
def test_in_whatever_order_things_come_what_is_held_is_what_is_stored(modules: Page, seed: int) -> None:
    """Live acts, pages answered before and merged after them, lost lines: what is held is as the server's log is."""
    held, of_them, all_held, stored, unread, is_whole = told(modules, MODEL, seed)
    assert held == of_them
    assert all_held == stored
    assert unread == len(stored)
    assert is_whole
