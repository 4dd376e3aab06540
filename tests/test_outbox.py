"""`static/outbox.js` without a page: one in flight, in order, once, over lost lines, reloads and tabs."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

OUTBOX = """
    const { Outbox } = await load("outbox");
    const storage = await load("storage");
    const sent = [];
    let isOpen = true;
    const made = (room = "a") => new Outbox({
        room, signal: new AbortController().signal, onChange() {}, onFailed: () => sent.push("failed"),
        send: (frame) => isOpen && Boolean(sent.push(frame)),
    });
    const states = (outbox) => outbox.pending(0).map(({ text, state }) => `${text} ${state}`);
    const texts = () => sent.map((frame) => frame.text ?? frame);
    let seq = 0;
    const ack = (outbox, newest = 0) => {
        const { client_id } = sent.at(-1);
        outbox.onAck({ client_id, seq: seq += 1 }, newest);
        return seq;
    };
    const kept = (room = "a") => storage.saysOf(room).map(({ text }) => text);
    const opened = (outbox) => { outbox.lineOpened(); return outbox; };
"""


@pytest.fixture(autouse=True)
def empty_storage(modules: Page) -> None:
    modules.evaluate("() => localStorage.clear()")


def told(page: Page, script: str, arg: Any = None) -> Any:
    return run(page, OUTBOX + script, arg)


def test_one_is_in_flight_and_the_next_follows_its_ack(modules: Page) -> None:
    """So the order holds, whatever the line does."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        for (const text of ["one", "two", "three"]) outbox.say(text);
        const seen = [states(outbox), texts()];
        ack(outbox);
        ack(outbox);
        return [...seen, texts(), states(outbox)];
        """,
    ) == [
        ["one sending", "two waiting", "three waiting"],
        ["one"],
        ["one", "two", "three"],
        ["one stored", "two stored", "three sending"],
    ]


def test_what_was_in_flight_goes_out_again_under_its_name(modules: Page) -> None:
    """The server stores a client_id once; nothing is sent while there is no line."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one", 7);
        outbox.lineLost();
        outbox.say("two");
        const while_away = texts();
        outbox.lineOpened();
        ack(outbox);
        const [first, again] = sent;
        return [while_away, texts(), first.client_id === again.client_id, first.reply_to, "reply_to" in sent[2]];
        """,
    ) == [["one"], ["one", "one", "two"], True, 7, False]


def test_what_was_said_outlives_the_page_until_it_is_stored(modules: Page) -> None:
    """A reload finds it, in order and for its room alone; an ack forgets it."""
    assert told(
        modules,
        """
        isOpen = false;
        const before = made();
        before.say("one");
        before.say("two", 3);
        made("b").say("elsewhere");
        isOpen = true;
        const after = opened(made());
        const found = states(after);
        ack(after);
        ack(after);
        return [found, texts(), sent[1].reply_to, kept("a"), kept("b")];
        """,
    ) == [["one sending", "two waiting"], ["one", "two"], 3, [], ["elsewhere"]]


def test_what_came_too_fast_waits_and_is_not_overtaken(modules: Page) -> None:
    """It says when it goes out, and goes by itself."""
    held, sent, after = told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.say("two");
        outbox.onError({ code: "rate_limited", client_id: sent[0].client_id, retry_after: 0.05 });
        const [one] = outbox.pending(0);
        const held = [one.state, one.detail.code, one.detail.until > Date.now(), texts()];
        while (sent.length < 2) await new Promise(requestAnimationFrame);
        ack(outbox);
        return [held, texts(), states(outbox)];
        """,
    )
    assert held == ["held", "rate_limited", True, ["one"]]
    assert sent == ["one", "one", "two"]
    assert after == ["one stored", "two sending"]


def test_a_log_that_stores_again_is_tried_at_once(modules: Page) -> None:
    """What waits for it need not wait any longer."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.onError({ code: "not_stored", client_id: sent[0].client_id, retry_after: 3600 });
        const held = states(outbox);
        outbox.tryHeld("not_stored");
        return [held, texts()];
        """,
    ) == [["one held"], ["one", "one"]]


def test_slow_mode_holds_what_was_said_until_its_time(modules: Page) -> None:
    """It is not overtaken, waits as long as slow mode may ask, and goes at once when that has ended."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.say("two");
        outbox.onError({ code: "slow_mode", client_id: sent[0].client_id, retry_after: 6 * 3600 });
        const [{ detail }] = outbox.pending(0);
        const seen = [states(outbox), detail.until - Date.now() > 5.9 * 3600 * 1000];
        outbox.tryHeld("not_stored");
        const before = texts();
        outbox.tryHeld("slow_mode");
        outbox.tryHeld("slow_mode");
        return [...seen, before, texts(), states(outbox)];
        """,
    ) == [["one held", "two waiting"], True, ["one"], ["one", "one"], ["one sending", "two waiting"]]


@pytest.mark.parametrize("code", ["muted", "read_only", "refused"])
def test_who_may_not_speak_keeps_what_he_said(modules: Page, code: str) -> None:
    """It has failed, with the reason, over a reload too, goes nowhere by itself, and can be tried again later."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.onError({ code: arg, client_id: sent[0].client_id, retry_after: 60 });
        const after = opened(made());
        const seen = [states(outbox), states(after), after.pending(0)[0].detail.code, [...sent]];
        after.retry(after.pending(0)[0].client_id);
        return [...seen.slice(0, 3), seen[3].length, states(after)];
        """,
        code,
    ) == [["one failed"], ["one failed"], code, 2, ["one sending"]]


def test_what_waits_for_a_moderator_stays(modules: Page) -> None:
    """In another tab, over a lost line and a reload; what is said after it goes out, and a new line asks after it."""
    assert told(
        modules,
        """
        const here = opened(made());
        const there = opened(made());
        here.say("one");
        here.say("two");
        const { client_id } = sent[0];
        there.onWrittenElsewhere(client_id);
        here.onError({ code: "held", client_id });
        there.onWrittenElsewhere(client_id);
        ack(here);
        here.lineLost();
        here.lineOpened();
        const { now } = Date;
        Date.now = () => now() + 24 * 3600 * 1000;
        there.lineOpened();
        const after = opened(made());
        Date.now = now;
        return [states(here), states(there), states(after), texts()];
        """,
    ) == [["one review", "two stored"], ["one review"], ["one review"], ["one", "two", "one"]]


def test_what_a_moderator_shows_turns_into_its_event(modules: Page) -> None:
    """By its text or by an ack, whichever comes first, also days later; then it is kept nowhere."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        for (const text of ["one", "two"]) outbox.say(text);
        outbox.onError({ code: "held", client_id: sent[0].client_id });
        outbox.onError({ code: "held", client_id: sent[1].client_id });
        const [first, second] = sent.map(({ client_id }) => client_id);
        const at = Date.now() + 3 * 24 * 3600 * 1000;
        const claimed = [outbox.claim({ seq: 5, text: "one", at }) === first];
        outbox.onAck({ client_id: first, seq: 5 }, 5);
        outbox.onAck({ client_id: second, seq: 6 }, 5);
        const between = states(outbox);
        claimed.push(outbox.claim({ seq: 6, text: "two", at }) === second);
        return [claimed, between, states(outbox), kept(), texts()];
        """,
    ) == [[True, True], ["two stored"], [], [], ["one", "two"]]


def test_what_a_moderator_refuses_has_failed(modules: Page) -> None:
    """Long after it was sent, while another message is on its way: that one is left alone."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.onError({ code: "held", client_id: sent[0].client_id });
        outbox.say("two");
        outbox.onError({ code: "refused", client_id: "never said" });
        outbox.onError({ code: "refused", client_id: sent[0].client_id });
        return [states(outbox), outbox.pending(0)[0].detail.code, states(made()), texts()];
        """,
    ) == [["one failed", "two sending"], "refused", ["one failed", "two waiting"], ["one", "two", "failed"]]


def test_what_is_refused_has_failed_and_lets_the_next_go(modules: Page) -> None:
    """It stays to be seen, over a reload too, until it is tried again or taken away."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        for (const text of ["bad", "good", "bad too"]) outbox.say(text);
        outbox.onError({ code: "text_too_long", client_id: sent[0].client_id });
        const seen = [states(outbox), states(made())];
        const [bad] = outbox.pending(0);
        ack(outbox);
        outbox.onError({ code: "text_too_long", client_id: sent.at(-1).client_id });
        outbox.retry(bad.client_id);
        outbox.discard(outbox.pending(0).find(({ text }) => text === "bad too").client_id);
        return [...seen, states(outbox), kept()];
        """,
    ) == [
        ["bad failed", "good sending", "bad too waiting"],
        ["bad failed", "good waiting", "bad too waiting"],
        ["good stored", "bad sending"],
        ["bad"],
    ]


def test_the_event_takes_the_place_of_what_was_said(modules: Page) -> None:
    """By the seq of its ack; until its event comes a stored one stands where it stood."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        const { client_id } = sent[0];
        const stored = ack(outbox);
        const between = states(outbox);
        const claimed = outbox.claim({ seq: stored, text: "one" });
        return [between, claimed === client_id, states(outbox), outbox.claim({ seq: 99, text: "one" })];
        """,
    ) == [["one stored"], True, [], None]


def test_nothing_stands_there_twice_when_the_ack_was_lost(modules: Page) -> None:
    """After a broken line the event may come before the second ack: it is known by its text."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        const { client_id } = sent[0];
        outbox.lineLost();
        const claimed = outbox.claim({ seq: 5, text: "one" });
        const between = [outbox.pending(4).length, outbox.pending(5).length];
        outbox.lineOpened();
        outbox.onAck({ client_id, seq: 5 }, 5);
        return [claimed === client_id, between, states(outbox), kept(), texts()];
        """,
    ) == [True, [1, 0], [], [], ["one", "one"]]


def test_another_tab_shows_what_was_said_here_and_sends_it_only_if_left_alone(modules: Page) -> None:
    """It is there at once, goes away with the other's ack, and is not sent twice in the common case."""
    assert told(
        modules,
        """
        const here = opened(made());
        const there = opened(made());
        here.say("one");
        const { client_id } = sent[0];
        there.onWrittenElsewhere(client_id);
        const mirrored = states(there);
        here.onAck({ client_id, seq: 1 }, 0);
        there.onWrittenElsewhere(client_id);
        return [mirrored, states(there), texts()];
        """,
    ) == [["one waiting"], [], ["one"]]


def test_what_a_closed_tab_left_behind_is_sent_by_the_other(modules: Page) -> None:
    """After some seconds in which its own tab could have done so, and not before."""
    script = """
        const here = made();
        const there = opened(made());
        isOpen = false;
        here.say("left behind");
        const [{ client_id }] = here.pending(0);
        isOpen = true;
        const { setTimeout: real } = window;
        const waits = [];
        window.setTimeout = (act, wait_ms) => waits.push([act, wait_ms]);
        there.onWrittenElsewhere(client_id);
        window.setTimeout = real;
        const before = texts();
        const { now } = Date;
        Date.now = () => now() + 60000;
        for (const [act] of waits) act();
        Date.now = now;
        return [before, texts()];
    """
    assert told(modules, script) == [[], ["left behind"]]


def test_what_the_server_no_longer_remembers_is_not_sent_by_itself(modules: Page) -> None:
    """Long after, a retry could store it a second time: the person decides."""
    assert told(
        modules,
        """
        const at = Date.now() - 21 * 3600 * 1000;
        storage.keepSay({ room: "a", client_id: "old", text: "sent long ago", at, wasSent: true });
        storage.keepSay({ room: "a", client_id: "new", text: "never sent", at: at + 1 });
        const outbox = opened(made());
        return [states(outbox), texts(), outbox.pending(0)[0].detail.code];
        """,
    ) == [["sent long ago failed", "never sent sending"], ["never sent"], "unsure"]


def test_blocked_storage_only_forgets(modules: Page) -> None:
    """Without it everything goes out as always."""
    assert told(
        modules,
        """
        const get = () => { throw new DOMException("blocked"); };
        const own = Object.getOwnPropertyDescriptor(window, "localStorage");
        Object.defineProperty(window, "localStorage", { configurable: true, get });
        try {
            const outbox = opened(made());
            outbox.say("one");
            ack(outbox);
            return [texts(), states(outbox)];
        } finally {
            Object.defineProperty(window, "localStorage", own);
        }
        """,
    ) == [["one"], ["one stored"]]


def test_an_older_message_of_the_same_words_is_not_taken_for_it(modules: Page) -> None:
    """Neither one of long before, nor one that an ack tells apart: both stand there."""
    assert told(
        modules,
        """
        const at = Date.now();
        storage.keepSay({ room: "a", client_id: "kept", text: "ok", at, wasSent: true });
        const outbox = opened(made());
        const before = outbox.claim({ seq: 3, text: "ok", at: at - 3600 * 1000 });
        const near = outbox.claim({ seq: 4, text: "ok", at: at - 1000 });
        outbox.onAck({ client_id: "kept", seq: 9 }, 4);
        return [before, near, outbox.claim({ seq: 9, text: "ok", at }), states(outbox), kept()];
        """,
    ) == [None, "kept", None, [], []]


def test_what_was_held_waits_when_the_line_is_gone(modules: Page) -> None:
    """No countdown goes on without a line, and no wait is longer than a timer can be."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        outbox.onError({ code: "rate_limited", client_id: sent[0].client_id, retry_after: 3e6 });
        const [{ detail }] = outbox.pending(0);
        outbox.lineLost();
        return [detail.until - Date.now() <= 7 * 3601 * 1000, states(outbox), texts()];
        """,
    ) == [True, ["one waiting"], ["one"]]


def test_what_others_left_in_the_storage_is_not_taken_for_a_say(modules: Page) -> None:
    """Garbage under our keys is passed over, not sent and not shown."""
    assert told(
        modules,
        """
        const says = [7, null, {}, { room: "a", text: "x" }, { room: "a", client_id: "s4", text: 5, at: 1 },
            { room: "a", client_id: "other", text: "x", at: 1 }, { room: "a", client_id: "s6", text: "x", at: "now" },
            { room: "a", client_id: "s7", text: "x".repeat(70000), at: 1 },
            { room: "a", client_id: "s8", text: "x", at: 1, reply_to: {} },
            { room: "a", client_id: "s9", text: "good", at: 1 }];
        says.forEach((say, i) => localStorage.setItem(`chatroom.say:s${i}`, JSON.stringify(say)));
        localStorage.setItem("chatroom.say:s10", "{");
        localStorage.setItem("chatroom.draft:a", '{"text": "x", "reply": {"seq": 1}}');
        localStorage.setItem("chatroom.read:a", '{"seq": "x"}');
        localStorage.setItem("chatroom.name", "{}");
        const rooms = '[{"room": "b", "at": 1e300}, {"room": "\\ud800", "at": 1}, {"room": "c", "at": 1}]';
        localStorage.setItem("chatroom.rooms", rooms);
        const { draftOf, readMark, recentRooms, wishedName } = storage;
        const others = [draftOf("a"), readMark("a"), wishedName(), recentRooms().map(({ room }) => room)];
        return [states(opened(made())), ...others];
        """,
    ) == [["good sending"], {"text": "x", "reply": None}, None, None, ["c"]]


def test_what_waits_for_a_moderator_is_asked_after_when_the_line_is_back(modules: Page) -> None:
    """He may have decided meanwhile; that it still waits changes nothing, that it was refused is told."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one");
        const { client_id } = sent.at(-1);
        outbox.onError({ client_id, code: "held" });
        outbox.lineLost();
        outbox.lineOpened();
        outbox.onError({ client_id, code: "rate_limited", retry_after: 1 });
        outbox.onError({ client_id, code: "held" });
        const before = states(outbox);
        outbox.lineLost();
        outbox.lineOpened();
        outbox.onError({ client_id, code: "refused" });
        return [texts(), before, states(outbox)];
        """,
    ) == [["one", "one", "one", "failed"], ["one review"], ["one failed"]]


def test_a_reply_to_what_is_gone_is_said_again_without_it(modules: Page) -> None:
    """Else it could never be said."""
    assert told(
        modules,
        """
        const outbox = opened(made());
        outbox.say("one", 7);
        const { client_id } = sent.at(-1);
        outbox.onError({ client_id, code: "not_found" });
        outbox.retry(client_id);
        return [sent[0].reply_to, "reply_to" in sent.at(-1), sent.at(-1).text];
        """,
    ) == [7, False, "one"]
