"""`static/rows.js` without a page: what stands in the log, row by row, and what makes a row another one."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

ENGLISH = json.loads((Path(__file__).parent.parent / "templates/languages/en.json").read_text())
ROWS = """
    const { Timeline } = await load("timeline");
    const { Surge } = await load("surge");
    const { Stretch } = await load("stretch");
    const { rowsOf } = await load("rows");
    (await load("words")).speak("en", arg);
    const me = { id: "me", name: "Ann" };
    const bo = { id: "bo", name: "Bo" };
    const timeline = new Timeline();
    const enter = (head = 0, more = {}) => timeline.enter({ epoch: "e", head, you: me, rules: {}, ...more });
    enter();
    const surge = new Surge();
    const stretch = new Stretch(timeline, surge);
    const act = (type, seq, fields) => ({ type, seq, at: 1e12 + seq, ...fields });
    const message = (seq, text = `m${seq}`, more = {}) => act("message", seq, { by: bo, text, ...more });
    const marks = {
        unreadAfter: null, unfolded: new Set(), filling: null, isLeaving: () => false, roleOf: () => "",
        reactionsTo: ({ reactions = [] }) => reactions.map(({ kind, n }) => ({ kind, n, isMine: false, who: "" })),
    };
    const rows = (more = {}) => { stretch.toEnd(); return rowsOf(timeline, stretch, [], { ...marks, ...more }); };
    const plain = (sentence) => sentence.replace(/[\\u2068\\u2069]/g, "");
    const said = ({ kind, message, text = "" }) => (message ? message.text : `${kind}: ${plain(text)}`);
    const told = () => rows().map(said);
"""


def told(page: Page, script: str) -> Any:
    return run(page, ROWS + script, ENGLISH)


def test_a_run_of_removed_messages_is_one_line(modules: Page) -> None:
    """With their number, whatever else happened between them; none where nothing of it was a message."""
    assert told(
        modules,
        """
        timeline.merge([1, 2, 3, 4].map((seq) => message(seq)));
        timeline.merge([act("reactions", 5, { changes: [] }), message(6), message(7), act("removed", 8), message(9)]);
        timeline.merge([2, 3, 6].map((seq, i) => act("delete", 10 + i, { message: seq })));
        return told();
        """,
    ) == ["day: ", "m1", "removed: 2 messages removed", "m4", "removed: Message removed", "m7", "m9"]


def test_removed_ones_at_the_ends_stand_there_too(modules: Page) -> None:
    """At the beginning, at the end, and where nothing else is left."""
    assert told(
        modules,
        """
        timeline.merge([1, 2, 3].map((seq) => message(seq)));
        timeline.merge([act("delete", 4, { message: 1 }), act("delete", 5, { message: 3 })]);
        const ends = told();
        timeline.merge([act("purge", 6, { person: "bo" })]);
        return [ends, told()];
        """,
    ) == [["removed: Message removed", "day: ", "m2", "removed: Message removed"], ["removed: 3 messages removed"]]


def test_what_follows_a_removed_one_has_its_byline(modules: Page) -> None:
    """Nobody's words are taken for those of who said what went before."""
    script = "timeline.merge([1, 2, 3].map((seq) => message(seq))); timeline.merge([act('delete', 4, { message: 2 })]);"
    assert told(modules, script + "return rows().filter(({ message }) => message).map((row) => row.isContinued);") == [
        False,
        False,
    ]


def test_what_shows_nothing_is_no_gap_and_does_not_part_one(modules: Page) -> None:
    """A gap counts what may be missing, and begins after what is known to show nothing."""
    assert told(
        modules,
        """
        enter(20);
        timeline.merge([message(1), act("of_later", 2), act("removed", 3), message(10)]);
        timeline.merge([act("trim", 11, { before: 1 })]);
        const [, , gap] = rows();
        return [told(), gap.after, gap.before];
        """,
    ) == [["day: ", "m1", "gap: 6 messages are not loaded here", "m10"], 3, 10]


def test_a_trimmed_room_begins_where_it_begins(modules: Page) -> None:
    """No gap stands for what is not kept any more."""
    script = "timeline.merge([5, 6, 7].map((seq) => message(seq))); timeline.merge([act('trim', 8, { before: 6 })]);"
    assert told(modules, script + "return told();") == ["day: ", "m6", "m7"]


def test_a_sum_counts_messages(modules: Page) -> None:
    """What was removed of it is within the sum, and has no line."""
    assert told(
        modules,
        """
        for (let seq = 1; seq <= 300; seq += 1) {
            timeline.merge([message(seq)]);
            surge.heard({ seq, at: 10 * seq });
        }
        timeline.merge([act("delete", 301, { message: 5 })]);
        surge.passed(301);
        return told().slice(0, 2);
        """,
    ) == ["sum: 288 messages in 3 s", "day: "]


def test_a_row_is_painted_anew_when_it_says_something_else(modules: Page) -> None:
    """By an edit of it or of what it quotes, a role, its near end; reactions are told apart from that."""
    assert told(
        modules,
        """
        timeline.merge([message(1), message(2, "re", { reply_to: 1 })]);
        const stamps = (more) => rows(more).slice(1).map(({ stamp, reacted }) => [stamp, reacted]);
        const before = stamps();
        const differs = (more) => stamps(more).map((each, i) => each.map((stamp, j) => stamp !== before[i][j]));
        const changes = [differs(), differs({ roleOf: () => "owner" }), differs({ isLeaving: (seq) => seq === 2 })];
        const reactions = [{ kind: "x", n: 1, by: [bo] }];
        timeline.merge([act("reactions", 3, { changes: [{ message: 1, reactions }] })]);
        changes.push(differs());
        timeline.merge([act("edit", 4, { by: bo, message: 1, text: "else" })]);
        return [...changes, differs()];
        """,
    ) == [
        [[False, False], [False, False]],
        [[True, False], [True, False]],
        [[False, False], [True, False]],
        [[False, True], [False, False]],
        [[True, True], [True, False]],
    ]


# Acts in words

SENTENCES = {
    "role moderator": ("act('role', 2, { by: bo, whom: me, role: 'moderator' })", "Bo made Ann a moderator."),
    "role none": ("act('role', 2, { by: bo, whom: me, role: '' })", "Bo took Ann's role away."),
    "ban": ("act('act', 2, { act: 'ban', by: bo, whom: me })", "Bo banned Ann for good."),
    "ban lifted": ("act('act', 2, { act: 'ban', by: bo, whom: me, until: 0 })", "Bo lifted the ban on Ann."),
    "kick": ("act('act', 2, { act: 'kick', by: bo, whom: me })", "Bo put Ann out of the room."),
    "slow": ("rules({ slow_s: 60 })", "Bo switched slow mode on: one message every 1 minute."),
    "slow off": ("rules({}, { slow_s: 60 })", "Bo switched slow mode off."),
    "read only": ("rules({ read_only: true })", "Bo closed the room for writing: only moderators speak."),
    "unlocked": ("rules({}, { locked: true })", "Bo unlocked the room."),
    "announced": ("rules({ announcement: { text: 'tea!', by: bo, at: 5 } })", "Bo announces: tea!"),
    "not announced": ("rules({}, { announcement: { text: 'tea!', by: bo, at: 5 } })", "Bo took the announcement down."),
    "two": ("rules({ locked: true, links: 'off' })", "Bo locked the room: nobody new comes in. Bo switched links off."),
    "for moderators": ("rules({ keep_s: 86400, edit_s: 0 })", None),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_acts_are_told_in_a_sentence(modules: Page, name: str) -> None:
    """What concerns everybody, and only what has changed."""
    event, sentence = SENTENCES[name]
    script = """
        const rules = (now, before = {}) => {
            enter(0, { rules: before });
            return act("rules", 2, { by: bo, rules: now });
        };
        timeline.you = { ...me, role: "moderator" };
    """
    found = told(modules, f"{script} timeline.merge([{event}]); return told();")
    assert found == ([f"notice: {sentence}"] if sentence else [])


def test_muted_until_says_when(modules: Page) -> None:
    """A moment of another day with its day."""
    script = "timeline.you = { ...me, role: 'owner' }; timeline.merge([act('act', 1, { act: 'mute', by: bo, whom: me, "
    [line] = told(modules, script + "until: Date.UTC(2001, 1, 3, 12) })]); return told();")
    assert line.startswith("notice: Bo muted Ann until Feb 3, 2001")


def test_rules_of_which_the_ones_before_are_unknown_are_told_as_changed(modules: Page) -> None:
    """What of them is new cannot be said."""
    script = "enter(90); timeline.merge([act('rules', 50, { by: bo, rules: { slow_s: 5 } })]);"
    assert told(modules, script + "return told();") == ["notice: Bo changed the rules of this room."]
