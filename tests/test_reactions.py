"""`static/reactions.js` without a page: which signs there are, whose they are, and what one is told of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from chat.protocol import REACTIONS
from tests.modules import run

ENGLISH = json.loads((Path(__file__).parent.parent / "templates/languages/en.json").read_text())
SET_UP = """
    const { Reactions, Cheers } = await load("reactions");
    (await load("words")).speak("en", arg);
    const me = { id: "me", name: "Ann" };
    const people = (...ids) => ids.map((id) => (id === "me" ? me : { id, name: id.toUpperCase() }));
    const reaction = (kind, ...ids) => ({ kind, n: ids.length, by: people(...ids.slice(0, 8)) });
    const crowd = (n) => Array.from({ length: n }, (_, i) => `p${i}`);
    const message = (...reactions) => ({ type: "message", seq: 5, asOf: 5, reactions });
    const plain = (sentence) => sentence.replace(/[\\u2068\\u2069]/g, "");
    const sent = [];
    const settled = () => new Promise((done) => { setTimeout(done); });
    let answer = async () => ({});
    let changes = 0;
    const reactions = new Reactions({
        you: () => me, send: (frame) => { sent.push(frame); return answer(frame); }, onChange: () => { changes += 1; },
    });
    const shown = (of) => reactions.to(of).map(({ kind, n, isMine }) => [kind, n, isMine]);
"""


def told(page: Page, script: str) -> Any:
    return run(page, SET_UP + script, ENGLISH)


def test_the_signs_are_those_the_server_takes(modules: Page) -> None:
    """Each of them, in its order, spelled alike."""
    assert run(modules, 'return (await load("reactions")).KINDS;') == list(REACTIONS)


def test_who_reacted_is_told_by_name(modules: Page) -> None:
    """Of few all, oneself as "you"; of many some, oneself first, and how many others."""
    assert told(
        modules,
        """
        const who = (...ids) => plain(reactions.to(message(reaction("👍", ...ids)))[0].who);
        return [who("bo"), who("bo", "me", "cy"), who(...crowd(7)), who("me", ...crowd(11))];
        """,
    ) == [
        "👍 1 person: BO",
        "👍 3 people: BO, CY, and you",
        "👍 7 people: P0, P1, P2, P3, and 3 others",
        "👍 12 people: you, P0, P1, P2, and 8 others",
    ]


def test_a_message_without_reactions_costs_nothing(modules: Page) -> None:
    """The very same empty list, each time; and a list that did not change is not put into words again."""
    assert told(
        modules,
        """
        const one = message(reaction("👍", "bo"));
        return [reactions.to({ seq: 1 }) === reactions.to(message()), reactions.to(one) === reactions.to(one)];
        """,
    ) == [True, True]


def test_my_reaction_is_shown_before_the_server_has_it(modules: Page) -> None:
    """At once, until the event that tells of it has come, and then by that."""
    assert told(
        modules,
        """
        const it = message(reaction("👍", "bo"));
        answer = async () => ({ seq: 9 });
        const looks = [];
        const done = [reactions.toggle(it, "👍"), reactions.toggle(it, "🎉")];
        looks.push(shown(it));
        await Promise.all(done);
        looks.push(shown(it));
        Object.assign(it, { asOf: 9, reactions: [reaction("👍", "bo", "me", "cy"), reaction("🎉", "me")] });
        looks.push(shown(it));
        reactions.toggle(it, "👍");
        reactions.toggle(it, "🎉");
        looks.push(shown(it));
        return [looks, sent.map(({ kind, on, message }) => [kind, on, message]), changes > 0];
        """,
    ) == [
        [
            [["👍", 2, True], ["🎉", 1, True]],
            [["👍", 2, True], ["🎉", 1, True]],
            [["👍", 3, True], ["🎉", 1, True]],
            [["👍", 2, False]],
        ],
        [["👍", True, 5], ["🎉", True, 5], ["👍", False, 5], ["🎉", False, 5]],
        True,
    ]


def test_a_refused_reaction_is_taken_back(modules: Page) -> None:
    """And the reason is whose who asked."""
    assert told(
        modules,
        """
        const it = message(reaction("👍", "bo"));
        answer = () => Promise.reject(new Error("no"));
        const why = await reactions.toggle(it, "👍").catch((error) => error.message);
        return [why, shown(it)];
        """,
    ) == ["no", [["👍", 1, False]]]


def test_whoever_changes_his_mind_is_believed_last(modules: Page) -> None:
    """Though the answers to what he wanted before come later."""
    assert (
        told(
            modules,
            """
        const it = message(reaction("👍", "bo"));
        const answers = [];
        answer = () => new Promise((resolve) => { answers.push(resolve); });
        reactions.toggle(it, "👍");
        reactions.toggle(it, "👍");
        const before = shown(it);
        answers[0]({ seq: 8 });
        await settled();
        Object.assign(it, { asOf: 8, reactions: [reaction("👍", "bo", "me")] });
        const between = shown(it);
        answers[1]({ seq: 9 });
        await settled();
        Object.assign(it, { asOf: 9, reactions: [reaction("👍", "bo")] });
        return [before, between, shown(it)];
        """,
        )
        == [[["👍", 1, False]]] * 3
    )


def test_in_a_crowd_mine_is_remembered(modules: Page) -> None:
    """Where not all are named the page knows what was done on it."""
    assert told(
        modules,
        """
        const it = message(reaction("👍", ...crowd(20)));
        answer = async () => ({ seq: 9 });
        await reactions.toggle(it, "👍");
        Object.assign(it, { asOf: 9, reactions: [reaction("👍", ...crowd(21))] });
        const on = shown(it);
        answer = async () => ({ seq: 10 });
        await reactions.toggle(it, "👍");
        Object.assign(it, { asOf: 10, reactions: [reaction("👍", ...crowd(20))] });
        return [on, shown(it), sent.map(({ on }) => on)];
        """,
    ) == [[["👍", 21, True]], [["👍", 20, False]], [True, False]]


# What I am told


@pytest.fixture(scope="module")
def timeless(modules: Page) -> Page:
    modules.clock.install()
    modules.clock.pause_at(2_000_000_000)
    return modules


class Mine:
    """A message of mine, another's, and what is said about the reactions to them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        script = """
            const { Timeline } = await load("timeline");
            const timeline = new Timeline();
            timeline.enter({ epoch: "e", head: 0, you: me, rules: {} });
            const said = (seq, by) => ({ type: "message", seq, at: seq, by, text: "x" });
            timeline.merge([said(1, me), said(2, people("bo")[0]), said(3, me)]);
            window.leaving = new AbortController();
            window.told = [];
            const cheers = new Cheers({ say: (sentence) => told.push(plain(sentence)), signal: leaving.signal });
            let seq = 10;
            window.react = (message, kind, ids, n = ids.length, at = seq += 1) => {
                const changes = [{ message, reactions: [{ kind, n, by: people(...ids) }] }];
                const event = { type: "reactions", seq: at, at, changes };
                cheers.onReactions(event, timeline);
                timeline.merge([event]);
            };
        """
        run(page, SET_UP + script, ENGLISH)

    def react(self, message: int, kind: str, *ids: str, **more: int) -> None:
        arguments = [message, kind, list(ids), *more.values()]
        self.page.evaluate("(all) => react(...all)", arguments)

    def wait(self, milliseconds: int = 3000) -> list[str]:
        self.page.clock.run_for(milliseconds)
        found: list[str] = self.page.evaluate("() => told.splice(0)")
        return found


@pytest.fixture
def mine(timeless: Page) -> Iterator[Mine]:
    yield Mine(timeless)
    timeless.evaluate("() => leaving.abort()")


def test_reactions_to_me_are_told_summed_up(mine: Mine) -> None:
    """Some seconds' worth in one sentence, with names and signs; those to others, and my own, not at all."""
    mine.react(1, "👍", "bo")
    mine.react(2, "👍", "cy")
    mine.react(1, "👍", "bo", "cy", "me")
    mine.react(1, "🎉", "cy")
    assert mine.wait(2000) == []
    assert mine.wait(1000) == ["BO and CY reacted to your message: 👍 2 🎉"]
    mine.react(3, "👀", "dora")
    mine.react(1, "👀", "dora")
    assert mine.wait() == ["DORA reacted to your messages: 👀 2"]
    assert mine.wait(60_000) == []


def test_one_who_reacts_again_and_again_is_told_once(mine: Mine) -> None:
    """Taking it back is no news either."""
    for ids in (["bo"], [], ["bo"], [], ["bo"]):
        mine.react(1, "👍", *ids)
    assert mine.wait() == ["BO reacted to your message: 👍"]
    mine.react(1, "👍")
    mine.react(1, "👍", "bo")
    assert mine.wait() == []


def test_a_crowd_is_counted(mine: Mine) -> None:
    """Whoever is not named is one of the others."""
    mine.react(1, "👍", "a", "b", "c", "d", "e", "f", "g", "h", n=30)
    assert mine.wait() == ["A, B, C, D, and 26 others reacted to your message: 👍 30"]
    mine.react(1, "👍", "a", "b", "c", "d", "e", "f", "g", "h", n=32)
    assert mine.wait() == ["2 others reacted to your message: 👍 2"]


def test_what_is_known_is_no_news(mine: Mine) -> None:
    """An event that the message has in it already."""
    mine.react(1, "👍", "bo")
    mine.wait()
    mine.react(1, "👍", "bo", "cy", n=2, at=1)
    assert mine.wait() == []
