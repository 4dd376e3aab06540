"""What moderators have on the page: cards, the room's order, the review, the log of acts, and the pause of a fast room.

Most of it is tested with a room that exists in the page only: a script of the test's own takes the place of app.js and
mounts static/moderation.js on the room's page. What it asks and does is the test's to see, what it hears to change.
"""

import json
import logging
import time
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from chat.http import TEMPLATES
from tests.modules import run
from tests.pages import DESKTOP, PHONE, House, say, scrolls_sideways, texts
from tests.support import Client
from tests.test_page_access import faults, press

TINY = {"width": 320, "height": 568}
FAST, FAST_S = 30, 1.5  # so many messages, over so long, are more than one can hit with a mouse
ANN, BO = "ann".ljust(16, "a"), "bo".ljust(16, "a")

MOUNT = """
    import { byId } from "./dom.js";
    import { Order } from "./order.js";
    import { Panel } from "./panel.js";
    import { Roster } from "./people.js";
    import { speak } from "./words.js";

    speak(document.documentElement.lang, JSON.parse(byId("words").textContent));
    const { Moderation } = await import("./moderation.js"); // brings sentences of its own

    const HOUR_MS = 3_600_000;
    const now = Date.now();
    const someone = (id, name) => ({ id: id.padEnd(16, "a"), name });
    const ann = someone("ann", "Ann");
    const bo = someone("bo", "Bo");
    const cy = someone("cy", "Cy");
    const message = (seq, text) => ({ type: "message", seq, at: now - (100 - seq) * 60_000, by: bo, text });

    /** What is answered to each question. */
    window.room = {
      person: {
        ...bo, role: "", here: true, from_address: 3, more_before: true,
        events: [message(70, "oldest"), message(90, "newest")],
      },
      acts: { more: true, acts: [
        { id: 9, at: now, act: "mute", by: ann, whom: bo, until: now + HOUR_MS, reason: "Spam" },
        { id: 8, at: now, act: "rules", by: ann, detail: "slow_s=30 read_only=true" },
      ] },
      held: { held: [1, 2, 3].map((id) => ({ id, at: now, by: bo, text: `held ${id}`, why: "link" })) },
      order: {
        rules: {}, closed: true, has_password: true, held: 3,
        roles: [{ ...ann, role: "owner" }, { ...cy, role: "moderator" }],
        restraints: [
          { act: "mute", whom: bo, until: now + HOUR_MS, reason: "Spam" },
          { act: "ban", whom: cy, until: -1 }, { act: "ban", whom: cy, until: now + HOUR_MS, address: true },
        ],
        patterns: [{ pattern: "casino", is_regex: false, action: "refuse" }],
        invites: [
          { id: "open", by: ann, at: now, until: now + HOUR_MS, uses: 10, used: 3 },
          { id: "over", by: cy, at: now, until: now - HOUR_MS, uses: 1 },
        ],
      },
    };
    window.earlier = {}; // what is answered to who asks for what was before
    window.acts = [];
    window.asked = [];
    window.jumps = [];
    window.holds = [];
    window.mentioned = [];
    window.refusal = null; // of the next act

    const answers = { invite: { path: "/door?room=den&invite=open.sign" } };

    async function act(frame) {
      acts.push(frame);
      const error = refusal && Object.assign(new Error(refusal.message), refusal);
      window.refusal = null;
      if (error) throw error;
      takeEffect(frame);
      return answers[frame.type] ?? {};
    }

    function takeEffect({ type, reason, ...frame }) {
      const { announcement: text } = frame;
      if (type === "review") room.held.held = room.held.held.filter(({ id }) => id !== frame.held);
      if (text !== undefined) frame.announcement = text === "" ? null : { text, by: ann, at: 1 };
      if (type === "raid") frame.raid_until = Date.now() + frame.seconds * 1000;
      if (type === "rules" || type === "raid") tell({ type: "rules", rules: { ...order.rules, ...frame } });
    }

    async function ask(question) {
      asked.push(question);
      return structuredClone((question.before && earlier[question.type]) || room[question.type]);
    }

    /** Comes into a room with `role`, where `rules` hold. */
    window.enter = (role, rules = {}) => {
      window.order = new Order();
      const visit = { order, act, ask, held: 3, goTo: (seq) => jumps.push(seq), hold: (isHeld) => holds.push(isHeld) };
      window.page = { room: "den", visit };
      order.enter({ head: 100, now: Date.now(), you: { ...ann, role }, rules, roles: room.order.roles });
      order.onChange(() => desk.follow());
      window.desk?.follow();
    };

    /** The room's log goes on. */
    window.tell = (event) => {
      order.onEvent({ seq: 101, at: Date.now(), by: ann, ...event });
      desk.onEvent(event);
    };

    const roster = new Roster();
    roster.replace({ total: 2, people: [ann, bo] });
    const panel = new Panel({
      roster, ask, onPick: ({ name }) => mentioned.push(name), signal: new AbortController().signal,
      onChoose: (person, choice) => desk.choose(person, choice),
    });
    window.bo = bo;
    window.panel = panel;
    enter(new URLSearchParams(location.search).get("role") ?? "owner");
    window.desk = new Moderation({ get room() { return page.room; }, get visit() { return page.visit; } });
    desk.follow();
    panel.refresh();
    byId("me").disabled = false;
    document.documentElement.dataset.mounted = "";
"""


class Desk:
    """The room's page with nothing at work in it but what moderators have."""

    def __init__(self, house: House, role: str = "owner", **options: Any) -> None:
        self.page = house.stage(MOUNT, f"/?room=den&role={role}", reduced_motion="reduce", **options)
        self.page.wait_for_selector("[data-mounted]", state="attached")
        self.card = self.page.locator("#card")
        self.order = self.page.locator("#order")
        self.review = self.page.locator("#review")
        self.note = self.page.locator("#deed")

    def run(self, script: str) -> Any:
        return self.page.evaluate(f"() => {{ {script}; }}")

    def see(self, value: str) -> Any:
        return self.page.evaluate(f"() => {value}")

    def acts(self, count: int) -> list[dict[str, Any]]:
        """The acts so far, once there are so many."""
        self.page.wait_for_function("(count) => acts.length >= count", arg=count)
        done: list[dict[str, Any]] = self.see("acts")
        assert len(done) == count, done
        return done

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page.locator("body")).get_by_role("button", name=name, exact=True)

    def open_card(self) -> Locator:
        self.run("desk.card(bo)")
        expect(self.card.get_by_text("newest")).to_be_visible()
        return self.card

    def open_order(self, tab: str = "Rules") -> Locator:
        self.page.keyboard.press("Escape")
        self.page.locator("#order-toggle").click()
        self.button("Order in this room").click()
        self.order.get_by_role("tab", name=tab).click()
        return self.order

    def open_review(self) -> Locator:
        self.page.locator("#order-toggle").click()
        self.page.locator("#order-review").click()
        expect(self.review.get_by_role("listitem")).to_have_count(3)
        return self.review

    def undo(self) -> None:
        self.button("Undo", self.note).click()


@pytest.fixture
def desk(house: House) -> Desk:
    return Desk(house)


# Words and inverses, alone


def test_every_act_has_its_inverse_or_none(modules: Page) -> None:
    """What was before comes back: a mute with what was left of it, a ban for good for good, a rule with its value."""
    inverse = "const { inverseOf } = await load('deeds'); return inverseOf(...arg);"
    whom = {"person": BO}
    rules = {"slow_s": 5, "links": "held", "announcement": {"text": "Hi", "by": {}, "at": 1}, "raid_until": 0}
    told = [
        ({"type": "mute", **whom, "seconds": 60, "reason": "x"}, {}, {"type": "mute", **whom, "seconds": 0}),
        (
            {"type": "mute", **whom, "seconds": 0},
            {"muted_until": 61_500, "reason": "Spam"},
            {"type": "mute", **whom, "seconds": 62, "reason": "Spam"},
        ),
        ({"type": "mute", **whom, "seconds": 9}, {"muted_until": -5000}, {"type": "mute", **whom, "reason": ""}),
        (
            {"type": "ban", **whom, "seconds": 0},
            {"banned_until": -1, "reason": "Spam"},
            {"type": "ban", **whom, "reason": "Spam"},
        ),
        ({"type": "ban", **whom, "seconds": 60}, {}, {"type": "ban", **whom, "seconds": 0}),
        ({"type": "ban", **whom, "purge": True}, {}, None),
        ({"type": "ban", **whom, "seconds": 0, "address": True}, {"banned_until": 99_000}, None),
        ({"type": "kick", **whom}, {}, None),
        ({"type": "purge", **whom}, {}, None),
        ({"type": "role", **whom, "role": "owner"}, {"role": ""}, {"type": "role", **whom, "role": ""}),
        ({"type": "raid", "seconds": 600}, {"rules": rules}, {"type": "raid", "seconds": 0}),
        ({"type": "raid", "seconds": 0}, {"rules": {"raid_until": 9000}}, {"type": "raid", "seconds": 9}),
        ({"type": "rules", "slow_s": 30}, {"rules": rules}, {"type": "rules", "slow_s": 5}),
        ({"type": "rules", "announcement": ""}, {"rules": rules}, {"type": "rules", "announcement": "Hi"}),
        (
            {"type": "rules", "announcement": "Yo"},
            {"rules": {"announcement": None}},
            {"type": "rules", "announcement": ""},
        ),
        ({"type": "filter", "patterns": []}, {"patterns": ["old"]}, {"type": "filter", "patterns": ["old"]}),
    ]
    for frame, before, expected in told:
        assert run(modules, inverse, [frame, before, 0]) == expected, frame


def test_every_record_is_a_sentence(modules: Page) -> None:
    """Each act of the log has words, a ban without end others; of an act this page does not know its name is told."""
    table = json.loads((TEMPLATES / "languages" / "en.json").read_text("utf-8"))
    sentence = f"""
        const {{ speak }} = await load("words");
        const {{ sentenceOfRecord }} = await load("actlog");
        speak("en", {json.dumps(table)});
        return arg.map((record) => sentenceOfRecord(record).replace(/[\\u2068\\u2069]/g, ""));
    """
    by, whom = {"id": ANN, "name": "Ann"}, {"id": BO, "name": "Bo"}
    told = {
        "Ann banned Bo for good.": {"act": "ban", "by": by, "whom": whom, "until": -1},
        "Ann made Bo a moderator.": {"act": "role", "by": by, "whom": whom, "detail": "moderator"},
        "Ann took the role from Bo.": {"act": "role", "by": by, "whom": whom},
        "Ann changed the rules. Slow mode: 30 sec · Only moderators write: on": {
            "act": "rules", "by": by, "detail": "slow_s=30 read_only=true other=1",
        },
        "Ann refused a message of Bo that waited.": {"act": "review", "by": by, "whom": whom, "detail": "refuse"},
        "Ann set the password.": {"act": "password", "by": by, "detail": "set"},
        "Ann took the password away.": {"act": "password", "by": by, "detail": "taken away"},
        "Ann: teleport": {"act": "teleport", "by": by},
    }  # fmt: skip
    assert run(modules, sentence, list(told.values())) == list(told)


# The card


def test_a_mute_acts_at_once_and_can_be_undone(desk: Desk) -> None:
    """One press mutes, with the reason that was chosen; the note says so and takes it back."""
    card = desk.open_card()
    desk.button("Spam", card).click()
    desk.button("5 min", card).click()
    expect(desk.note).to_contain_text("is muted for")
    desk.undo()
    first, second = desk.acts(2)
    assert first == {"type": "mute", "seconds": 300, "person": BO, "reason": "Spam"}
    assert second == {"type": "mute", "person": BO, "seconds": 0}
    expect(desk.page.locator("#deed-text")).to_have_text("Undone.")


def test_a_mute_may_have_any_length(desk: Desk) -> None:
    """A number and a unit, instead of one of the lengths offered."""
    card = desk.open_card()
    card.get_by_text("Other…").click()
    card.get_by_label("How many", exact=True).fill("3")
    card.get_by_label("Minutes, hours or days").select_option("hours")
    card.locator(".custom").get_by_role("button", name="Mute").click()
    assert desk.acts(1)[0]["seconds"] == 3 * 3600


def test_an_address_is_banned_with_an_end_only(desk: Desk) -> None:
    """How many are on it is said; for good is out of reach as long as the address is meant."""
    card = desk.open_card()
    card.get_by_label("Their address, too: 3 people are on it now").check()
    expect(desk.button("For good", card)).to_be_disabled()
    desk.button("1 day", card).last.click()
    assert desk.acts(1)[0] == {
        "type": "ban", "seconds": 86_400, "address": True, "purge": False, "person": BO, "reason": "",
    }  # fmt: skip


def test_an_address_is_not_known_of_who_is_away(desk: Desk) -> None:
    """Whoever is not here cannot be put out, and his address cannot be banned."""
    desk.run("room.person = { ...room.person, here: false, from_address: 0 }")
    card = desk.open_card()
    expect(card.get_by_label("Their address, too: only while they are here")).to_be_disabled()
    expect(desk.button("Put out", card)).to_be_disabled()


@pytest.mark.parametrize("press_what", ["Remove all messages", "1 wk"])
def test_what_cannot_be_undone_is_asked_once(desk: Desk, press_what: str) -> None:
    """Removing all that somebody said, alone or with a ban, happens after a clear question, and never before."""
    card = desk.open_card()
    card.get_by_label("Remove everything they said").check()
    desk.button(press_what, card).click()
    question = desk.page.get_by_role("alertdialog", name="Remove all that \u2068Bo\u2069 said?")
    expect(desk.button("No, keep it", question)).to_be_focused()
    press(desk.page, "Enter")
    expect(question).to_be_hidden()
    assert desk.see("acts.length") == 0
    desk.button(press_what, card).click()
    desk.button("Remove all", question).click()
    expect(desk.note).to_be_visible()
    assert desk.acts(1)[0]["person"] == BO
    expect(desk.button("Undo", desk.note)).to_be_hidden()


def test_one_message_is_removed_by_two_presses(desk: Desk) -> None:
    """The first press asks, by the button's own name; leaving the button takes that back."""
    card = desk.open_card()
    newest = card.locator("#card-messages li").first
    expect(newest).to_contain_text("newest")
    desk.button("Remove", newest).click()
    desk.page.keyboard.press("Shift+Tab")
    expect(desk.button("Remove", newest)).to_be_visible()
    desk.button("Remove", newest).click()
    desk.button("\u2068Remove\u2069? Press once more", newest).click()
    assert desk.acts(1)[0] == {"type": "delete", "message": 90, "reason": ""}


def test_the_card_says_how_somebody_stands(desk: Desk) -> None:
    """Role, presence, a mute with its end and reason, which is lifted by one press and comes back by another."""
    desk.run(
        "room.person = { ...room.person, role: 'moderator', muted_until: Date.now() + 3_600_000, muted_for: 'Spam' }"
    )
    card = desk.open_card()
    expect(card.locator("#card-standing")).to_have_text("Moderator · here now")
    expect(card.locator("#card-restraints")).to_contain_text("Muted until")
    expect(card.locator("#card-restraints")).to_contain_text("Spam")
    desk.button("Lift", card).click()
    desk.undo()
    lifted, again = desk.acts(2)
    assert lifted["seconds"] == 0
    assert 3590 <= again["seconds"] <= 3600 and again["reason"] == "Spam"


def test_the_card_shows_more_on_demand(desk: Desk) -> None:
    """Messages come newest first, earlier ones after them; a jump leads to one of them."""
    card = desk.open_card()
    messages = card.locator("#card-messages li")
    expect(messages).to_have_count(2)
    ancient = "{ ...room.person.events[0], seq: 60, text: 'ancient' }"
    desk.run(f"earlier.person = {{ ...room.person, more_before: false, events: [{ancient}] }}")
    card.locator("#card-more").click()
    expect(messages.last).to_contain_text("ancient")
    expect(desk.button("Go there", messages.last)).to_be_focused()
    assert desk.see("asked.findLast(({ before }) => before)") == {
        "type": "person", "person": BO, "before": 70, "limit": 30,
    }  # fmt: skip
    desk.button("Go there", messages.first).click()
    assert desk.see("jumps") == [90]


def test_roles_are_for_owners_to_give(house: House) -> None:
    """A moderator sees no roles to give; an owner gives them, and can take that back."""
    desk = Desk(house, "moderator")
    expect(desk.open_card().locator("#card-role")).to_be_hidden()
    desk = Desk(house, "owner")
    desk.button("Moderator", desk.open_card()).click()
    desk.undo()
    assert [act["role"] for act in desk.acts(2)] == ["moderator", ""]


def test_nobody_acts_on_who_stands_as_high(house: House) -> None:
    """A moderator's card of another moderator tells about him, and offers no act."""
    desk = Desk(house, "moderator")
    desk.run("room.person.role = 'moderator'")
    expect(desk.open_card().locator("#card-acts")).to_be_hidden()


def test_the_card_stands_beside_the_talk(house: House) -> None:
    """On a wide screen the talk stays in use; on a phone the card covers it, and a jump closes it."""
    desk = Desk(house, viewport=DESKTOP)
    box, field = desk.open_card().bounding_box(), desk.page.locator("#composer").bounding_box()
    assert box and field and field["x"] + field["width"] <= box["x"]
    desk.page.get_by_label("Your message").fill("still here")
    phone = Desk(house, viewport=PHONE)
    assert phone.open_card().evaluate("(card) => card.matches(':modal') && card.clientWidth === innerWidth")
    phone.button("Go there", phone.card).first.click()
    expect(phone.card).to_be_hidden()


def test_the_card_gives_the_focus_back(desk: Desk) -> None:
    """Escape leads back to where it was opened from."""
    desk.page.get_by_label("Your message").focus()
    desk.open_card()
    expect(desk.page.locator("#card-name")).to_be_focused()
    press(desk.page, "Tab", "Escape")
    expect(desk.card).to_be_hidden()
    expect(desk.page.get_by_label("Your message")).to_be_focused()


def test_the_card_comes_over_a_dialog(desk: Desk) -> None:
    """A card that stands beside the talk is behind a dialog; asked for from there it comes to the front."""
    desk.open_card()
    desk.page.locator("#order-toggle").click()
    desk.page.locator("#order-open").click()
    desk.order.get_by_role("tab", name="People").click()
    desk.order.locator("#standing-restraints").get_by_role("button", name="Bo").click()
    desk.button("Put out", desk.card).click()
    assert desk.acts(1)[0]["type"] == "kick"


def test_the_list_of_people_offers_the_card(desk: Desk) -> None:
    """For moderators a pick is a choice; for others it is a mention, as ever."""
    row = desk.page.locator("#people-list").get_by_role("button", name="Bo")
    row.click()
    desk.button("Mention \u2068Bo\u2069").click()
    assert desk.see("mentioned") == ["Bo"]
    row.focus()
    press(desk.page, "Enter", "Tab", "Enter")
    expect(desk.card).to_be_visible()
    expect(desk.page.locator("#person-choice")).to_be_hidden()
    desk.run("enter('')")
    expect(desk.card).to_be_hidden()
    row.click()
    assert desk.see("mentioned") == ["Bo", "Bo"]


# The room's order


def test_a_rule_counts_at_once_and_can_be_undone(desk: Desk) -> None:
    """What is pressed is done; the event tells how it is then, whoever did it."""
    order = desk.open_order()
    desk.button("30 sec", order).click()
    expect(desk.page.locator("#deed-text")).to_have_text("\u2068Slow mode\u2069: \u206830 sec\u2069")
    expect(desk.button("30 sec", order)).to_have_attribute("aria-pressed", "true")
    desk.undo()
    order.get_by_label("Nobody new comes in").check()
    assert desk.acts(3) == [
        {"type": "rules", "slow_s": 30},
        {"type": "rules", "slow_s": 0},
        {"type": "rules", "locked": True},
    ]


def test_a_rule_that_is_refused_is_shown_as_it_is(desk: Desk) -> None:
    """The switch goes back, and the note says why."""
    order = desk.open_order()
    desk.run("window.refusal = { message: 'This is not yours to do.' }")
    desk.page.evaluate("() => document.querySelector('[data-rule=locked]').click()")
    expect(desk.note).to_contain_text("This is not yours to do.")
    expect(order.get_by_label("Nobody new comes in")).not_to_be_checked()


def test_an_announcement_is_put_up_and_taken_down(desk: Desk) -> None:
    """Its text is a rule like the others, and is what one finds on coming back."""
    order = desk.open_order()
    order.get_by_label("Announcement over the log").fill("  Be kind  ")
    desk.button("Put it up", order).click()
    desk.button("Take it down", order).click()
    assert [act["announcement"] for act in desk.acts(2)] == ["Be kind", ""]
    desk.undo()
    assert desk.acts(3)[2] == {"type": "rules", "announcement": "Be kind"}


def test_the_filter_says_at_the_line_what_is_wrong(desk: Desk) -> None:
    """A pattern that cannot be used is told in the server's words, and stays there to be mended."""
    order = desk.open_order("Filter")
    order.get_by_label("A word or a pattern").fill("(")
    order.get_by_label("It is a pattern (RE2)").check()
    desk.run("window.refusal = { message: 'bad', said: 'missing ): (' }")
    desk.button("Hold it for review", order).click()
    expect(order.locator("#filter-problem")).to_have_text("missing ): (")
    order.get_by_label("A word or a pattern").fill("spam+")
    expect(order.locator("#filter-problem")).to_be_empty()
    press(desk.page, "Enter")
    expect(order.get_by_label("A word or a pattern")).to_have_value("")
    casino = {"pattern": "casino", "is_regex": False, "action": "refuse"}
    assert desk.acts(2)[1] == {
        "type": "filter",
        "patterns": [casino, {"pattern": "spam+", "is_regex": True, "action": "refuse"}],
    }
    desk.button("Hold instead", order).click()
    assert desk.acts(3)[2]["patterns"] == [{**casino, "action": "hold"}]
    desk.button("Take off", order).click()
    assert desk.acts(4)[3]["patterns"] == []


def test_who_is_kept_quiet_is_listed_and_let_go(desk: Desk) -> None:
    """A person and his address banned in one are one line; a name leads to the card, which comes over the dialog."""
    order = desk.open_order("People")
    lines = order.locator("#standing-restraints li")
    expect(lines).to_have_count(2)
    expect(lines.last).to_contain_text("Their address, too.")
    desk.button("Lift", lines.first).click()
    assert desk.acts(1)[0] == {"type": "mute", "person": BO, "seconds": 0}
    lines.first.get_by_role("button", name="Bo").click()
    expect(desk.card.get_by_text("newest")).to_be_visible()
    press(desk.page, "Escape")
    expect(lines.first.get_by_role("button", name="Bo")).to_be_focused()


def test_an_invitation_is_shown_once(desk: Desk) -> None:
    """A link is made with an end and a number of uses; the list names those made, without their links."""
    order = desk.open_order("Invitations")
    desk.button("1 wk", order).click()
    order.get_by_label("For how many people").fill("0")
    desk.button("Make a link", order).click()
    expect(order.locator("#invite-problem")).to_be_visible()
    order.get_by_label("For how many people").fill("5")
    desk.button("Make a link", order).click()
    expect(desk.button("Copy the link", order)).to_be_focused()
    link = order.locator("#order-invites [data-part=link]").input_value()
    assert link.endswith("/door?room=den&invite=open.sign") and link.startswith("http")
    assert desk.acts(1)[0] == {"type": "invite", "seconds": 7 * 86_400, "uses": 5}
    lines = order.locator("#invites li")
    expect(lines.last).to_contain_text("Over")
    desk.button("Revoke", lines.first).click()
    desk.button("Put out who came by it", lines.first).click()
    desk.button("\u2068Put out who came by it\u2069? Press once more", lines.first).click()
    assert [(act["invite"], act["put_out"]) for act in desk.acts(3)[1:]] == [("open", False), ("open", True)]


def test_owners_have_more(house: House) -> None:
    """The last tab is not there for moderators; in it are the password, another owner, what is kept, and the export."""
    desk = Desk(house, "moderator")
    expect(desk.open_order().get_by_role("tab")).to_have_text(["Rules", "Filter", "People", "Invitations"])
    desk = Desk(house)
    order = desk.open_order("For owners")
    order.get_by_label("Password of the room").fill("sesame")
    press(desk.page, "Enter")
    desk.button("Take it away", order).click()
    desk.button("Make such a link", order).click()
    expect(order.locator("#order-owners [data-part=link]")).to_be_visible()
    assert desk.acts(3) == [
        {"type": "password", "password": "sesame"},
        {"type": "password", "password": ""},
        {"type": "invite", "seconds": 3600, "uses": 1, "role": "owner"},
    ]
    expect(order.get_by_role("link", name="JSON lines")).to_have_attribute("href", "/api/rooms/den/export?format=jsonl")


def test_keeping_less_is_asked_once(desk: Desk) -> None:
    """What is too old goes for good, so that is asked first; keeping more is not."""
    order = desk.open_order("For owners")
    kept = order.locator("[data-rule=keep_s]")
    desk.button("30 days", kept).click()
    question = desk.page.get_by_role("alertdialog", name="Remove what is older?")
    press(desk.page, "Escape")
    expect(question).to_be_hidden()
    desk.button("30 days", kept).click()
    desk.button("Keep only that", question).click()
    desk.button("all", kept).click()
    assert [act["keep_s"] for act in desk.acts(2)] == [2_592_000, 0]


def test_tabs_are_gone_through_by_arrows(desk: Desk) -> None:
    """The arrows lead from tab to tab, and to the first and the last."""
    order = desk.open_order()
    order.get_by_role("tab", name="Rules").focus()
    press(desk.page, "ArrowRight")
    expect(order.get_by_role("tab", name="Filter")).to_be_focused()
    expect(order.get_by_label("A word or a pattern")).to_be_visible()
    press(desk.page, "End", "ArrowRight")
    expect(order.get_by_role("tab", name="For owners")).to_be_focused()
    press(desk.page, "Home")
    expect(order.get_by_role("tab", name="Rules")).to_have_attribute("aria-selected", "true")


# A raid


def test_a_raid_is_one_press_away(desk: Desk) -> None:
    """From the bar: two presses protect the room, which the menu and the dialog show, and one ends it."""
    desk.page.locator("#order-toggle").click()
    menu = desk.page.locator("#order-menu")
    desk.button("Raid protection for \u206830 minutes\u2069", menu).click()
    expect(menu).to_contain_text("It is on until")
    expect(desk.page.locator("#order-toggle")).to_have_class("button quiet icon-only order-toggle alarmed")
    desk.button("End it now", menu).click()
    assert [act["seconds"] for act in desk.acts(2)] == [1800, 0]
    expect(desk.page.locator("#order-toggle")).not_to_have_class("button quiet icon-only order-toggle alarmed")


# The review


def test_the_next_one_waits_for_the_next_verdict(desk: Desk) -> None:
    """After each, by key or by button, the focus is in the next message; after the last one in the heading."""
    expect(desk.page.locator("#order-toggle .badge")).to_have_text("3")
    review = desk.open_review()
    lines = review.get_by_role("listitem")
    expect(desk.button("Show", lines.first)).to_be_focused()
    press(desk.page, "ArrowDown", "r")
    expect(lines).to_have_count(2)
    expect(desk.button("Show", lines.last)).to_be_focused()
    press(desk.page, "s")
    expect(lines).to_have_count(1)
    expect(desk.button("Show", lines)).to_be_focused()
    press(desk.page, "Enter")
    expect(review.locator("#review-title")).to_be_focused()
    expect(review).to_contain_text("Nothing waits.")
    assert [(act["held"], act["show"]) for act in desk.acts(3)] == [(2, False), (3, True), (1, True)]


def test_a_key_never_hits_what_moved_under_it(desk: Desk) -> None:
    """If somebody else judges the message that has the focus, the next one does not get it by itself."""
    review = desk.open_review()
    desk.run("room.held.held.shift(); desk.onWaiting(2)")
    expect(review.get_by_role("listitem")).to_have_count(2)
    expect(review.locator("#review-title")).to_be_focused()
    press(desk.page, "s", "ArrowDown", "r")
    assert [(act["held"], act["show"]) for act in desk.acts(1)] == [(2, False)]


def test_a_verdict_that_fails_comes_back(desk: Desk) -> None:
    """What could not be done is told, and the message waits on; that somebody else was faster is no news."""
    review = desk.open_review()
    desk.run("window.refusal = { message: 'It could not be stored.', code: 'not_stored' }")
    press(desk.page, "s")
    expect(desk.note).to_contain_text("It could not be stored.")
    expect(review.get_by_role("listitem")).to_have_count(3)


def test_what_comes_to_wait_does_not_move_the_focus(desk: Desk) -> None:
    """The list grows while it is open, and the badge with it."""
    review = desk.open_review()
    desk.button("Refuse", review.get_by_role("listitem").first).focus()
    desk.run("room.held.held.push({ ...room.held.held[0], id: 4, text: 'held 4' }); desk.onWaiting(4)")
    expect(review.get_by_role("listitem")).to_have_count(4)
    expect(desk.button("Refuse", review.get_by_role("listitem").first)).to_be_focused()
    expect(desk.page.locator("#order-toggle .badge")).to_have_text("4")


# The log of acts


def test_the_log_is_read_in_words_and_by_person(desk: Desk) -> None:
    """The newest acts come first, earlier ones on demand; a card leads to those about one person."""
    desk.page.locator("#order-toggle").click()
    desk.page.locator("#order-log").click()
    log = desk.page.get_by_role("dialog", name="What moderators did")
    expect(log.get_by_role("listitem")).to_have_count(2)
    expect(log).to_contain_text("muted \u2068Bo\u2069 until")
    desk.button("Show earlier ones", log).click()
    expect(log.get_by_role("listitem")).to_have_count(4)
    assert desk.see("asked.at(-1)") == {"type": "acts", "limit": 30, "before": 8}
    desk.button("The card of \u2068Bo\u2069", log).first.click()
    expect(log).to_be_hidden()
    expect(desk.card.locator("#card-log")).to_contain_text("muted")
    assert desk.see("asked.find(({ person, type }) => type === 'acts' && person)") == {
        "type": "acts", "person": BO, "limit": 5,
    }  # fmt: skip
    desk.button("Show earlier ones", desk.card).last.click()
    expect(log.get_by_text("What was done about")).to_be_visible()
    desk.button("Show all", log).click()
    expect(log.get_by_text("What was done about")).to_be_hidden()


# For everyone


VIEWS = {
    "menu": "byId('order-toggle').click()",
    "card": "desk.card(bo)",
    "order-rules": "byId('order-open').click(); byId('tab-rules').click()",
    "order-filter": "byId('order-open').click(); byId('tab-filter').click()",
    "order-people": "byId('order-open').click(); byId('tab-people').click()",
    "order-invites": "byId('order-open').click(); byId('tab-invites').click(); byId('invite-form').requestSubmit()",
    "order-owners": "byId('order-open').click(); byId('tab-owners').click()",
    "review": "byId('order-review').click()",
    "records": "byId('order-log').click()",
    "sure": "desk.card(bo); byId('card-purge').click()",
}


@pytest.mark.parametrize(
    ("viewport", "scheme", "locale"),
    [(DESKTOP, "light", "en-GB"), (PHONE, "dark", "zh-CN"), (TINY, "light", "en-GB")],
    ids=["desktop", "phone", "tiny"],
)
def test_axe_finds_nothing_grave_and_nothing_scrolls_sideways(
    house: House, viewport: Any, scheme: Any, locale: str
) -> None:
    """No view has a serious or critical fault or is wider than its screen: large and small, light and dark, Chinese."""
    desk = Desk(house, viewport=viewport, color_scheme=scheme, locale=locale)
    desk.run("window.byId = (id) => document.getElementById(id)")
    found = {}
    for name, script in VIEWS.items():
        desk.run(script)
        shown = desk.page.locator(f"#{name.split('-')[0]}" if name != "menu" else "#order-menu")
        expect(shown).to_be_visible()
        if name in ("card", "review", "records"):
            expect(shown.get_by_role("listitem").first).to_be_visible()
        is_wide = shown.evaluate("(node) => node.scrollWidth > node.clientWidth")
        found[name] = [*faults(desk.page), *(["wide"] if is_wide or scrolls_sideways(desk.page) else [])]
        desk.run("for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close()")
    assert not any(found.values()), found


def test_the_note_is_heard_and_reached_where_a_dialog_is_open(desk: Desk) -> None:
    """It is a live region inside of what is open, and a key undoes where no dialog is."""
    order = desk.open_order()
    desk.button("30 sec", order).click()
    note = order.get_by_role("status").filter(has_text="Slow mode")
    expect(note).to_be_visible()
    press(desk.page, "Escape")
    expect(desk.page.locator(".below-log #deed")).to_be_visible()
    expect(desk.page.locator("#order-toggle")).to_be_focused()


# In a real room


def keeper(house: House, name: str = "Ann", **options: Any) -> Page:
    """The page of whoever opens the room first, and so owns it, once he can keep its order."""
    page = house.enter(name, **options)
    expect(page.locator("#order-toggle")).to_be_visible()
    return page


def at_once(page: Page, *presses: str, tells: str) -> None:
    """Press what these selectors find before the page does anything else; then a dialog may tell of its end."""
    page.evaluate(
        """([presses, tells]) => new Promise((resolve) => {
            const told = () => setTimeout(resolve);
            document.querySelector(tells).addEventListener("close", told, { once: true });
            for (const node of presses.map((selector) => document.querySelector(selector))) {
                node.focus();
                node.click();
            }
        })""",
        [presses, tells],
    )


def test_others_have_nothing_of_it(house: House) -> None:
    """Who has no role gets neither the button nor the scripts, and a click on a name does nothing."""
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("Hello")
        context = house.person()
        fetched: list[str] = []
        context.on("request", lambda request: fetched.append(request.url))
        page = house.enter("Ann", context)
        expect(texts(page)).to_have_text(["Hello"])
        page.locator(".byline .name").click()
        page.wait_for_load_state("networkidle")
        assert not [url for url in fetched if "/moderation.js" in url]
        expect(page.locator("#order-toggle, #card")).to_have_count(0)


def test_a_name_leads_to_the_card_and_a_mute_to_silence(house: House) -> None:
    """A click on a name opens the card; who is muted is told why and until when, and is told when it is undone."""
    ann = keeper(house)
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("Buy this")
        ann.locator(".byline .name", has_text="Bo").click()
        card = ann.locator("#card")
        expect(card.locator("#card-messages")).to_contain_text("Buy this")
        expect(card.locator("#card-standing")).to_have_text("here now")
        card.get_by_role("button", name="Spam").click()
        card.get_by_role("button", name="5 min").click()
        assert bo.hear("you", muted_for="Spam")["muted_until"] > 0
        expect(card.locator("#card-restraints")).to_contain_text("Muted until")
        ann.locator("#deed-undo").click()
        assert "muted_until" not in bo.hear("you")
        expect(card.locator("#card-restraints li")).to_have_count(0)
        expect(card.locator("#card-log")).to_contain_text("let \u2068Bo\u2069 write again")


def test_a_ban_for_good_is_seen_and_lifted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Who is banned is put out with the reason; his card goes on to tell about him, and lets him in again."""
    caplog.set_level(logging.CRITICAL, "websocket")  # which logs that it is closed with 1008
    ann = keeper(house)
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("Buy this")
        ann.locator(".byline .name", has_text="Bo").click()
        ann.locator("#card-reason").fill("Enough")
        ann.locator("#card").get_by_role("button", name="For good").click()
        assert bo.hear("out")["reason"] == "Enough"
    restraints = ann.locator("#card-restraints")
    expect(restraints).to_contain_text("Banned for good.")
    expect(ann.locator("#card-standing")).to_have_text("not here")
    restraints.get_by_role("button", name="Lift").click()
    expect(restraints.get_by_role("listitem")).to_have_count(0)
    with Client(house.url, house.room, name="Bo", cookie=bo.cookie):
        pass


def test_what_somebody_said_goes_from_every_page(house: House) -> None:
    """All that he said is gone from the keeper's page, from others', and from the card."""
    ann = keeper(house)
    cy = house.enter("Cy")
    with Client(house.url, house.room, name="Bo") as bo:
        for number in range(3):
            bo.say(f"spam {number}")
        expect(texts(cy)).to_have_count(3)
        say(cy, "hello")
        expect(texts(ann)).to_have_text(["spam 0", "spam 1", "spam 2", "hello"])
        ann.locator(".byline .name", has_text="Bo").first.click()
        card = ann.locator("#card")
        expect(card.locator("#card-messages li")).to_have_count(3)
        one = card.locator("#card-messages li").first
        one.get_by_role("button", name="Remove").click()
        one.get_by_role("button", name="Press once more").click()
        expect(texts(cy)).to_have_text(["spam 0", "spam 1", "hello"])
        card.get_by_role("button", name="Remove all messages").click()
        ann.locator("#sure-yes").click()
        for page in (ann, cy):
            expect(texts(page)).to_have_text(["hello"])
        expect(card.locator("#card-silent")).to_be_visible()


def test_the_card_is_reached_by_keys(house: House) -> None:
    """The arrows pick a message, P opens the card of who said it, Escape leads back to the message."""
    ann = keeper(house)
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("Hello")
        expect(texts(ann)).to_have_text(["Hello"])
        ann.locator("#log").focus()
        press(ann, "ArrowUp", "p")
        expect(ann.locator("#card-name")).to_be_focused()
        press(ann, "Escape")
        expect(ann.locator(".message")).to_be_focused()
        press(ann, "Alt+o")
        expect(ann.locator("#order-menu")).to_be_visible()
        press(ann, "Escape", "?")
        expect(ann.get_by_role("dialog", name="Keys")).to_contain_text("Keep order")


def test_who_went_on_at_once_is_not_called_back(house: House) -> None:
    """That a dialog closed is told later: by then the focus may be elsewhere, and the dialog may ask something new."""
    ann = keeper(house)
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("Hello")
        expect(texts(ann)).to_have_text(["Hello"])
        at_once(ann, "#me", "#naming-cancel", "#me", tells="#naming")
        expect(ann.locator("#naming")).to_be_visible()
        ann.locator("#naming-cancel").click()
        ann.locator("#log").focus()
        press(ann, "ArrowUp", "p")
        expect(ann.locator("#card-purge")).to_be_visible()
        at_once(ann, "#card-purge", "#sure [value='']", "#card-purge", tells="#sure")
        ann.locator("#sure-yes").click()
        expect(texts(ann)).to_have_count(0)
        at_once(ann, "#card-close", "#text", tells="#card")
        expect(ann.locator("#text")).to_be_focused()


def test_a_role_brings_the_button_and_takes_it_away(house: House) -> None:
    """Who becomes a moderator has at once what moderators have, and loses it, with all that was open, with the role."""
    ann = keeper(house)
    bo = house.enter("Bo")
    say(bo, "Hello")
    ann.locator(".byline .name", has_text="Bo").click()
    ann.locator("#card-role").get_by_role("button", name="Moderator").click()
    bo.locator("#order-toggle").click()
    bo.locator("#order-open").click()
    bo.locator("#tab-people").click()
    expect(bo.locator("#standing-roles li")).to_have_count(2)
    ann.locator("#deed-undo").click()
    expect(bo.locator("#order")).to_be_hidden()
    expect(bo.locator("#order-toggle")).to_be_hidden()


def test_what_the_filter_holds_is_reviewed(house: House) -> None:
    """A word that is held waits, the badge counts it, one key shows it; a pattern that cannot be used is told why."""
    ann = keeper(house)
    ann.locator("#order-toggle").click()
    ann.locator("#order-open").click()
    ann.locator("#tab-filter").click()
    ann.locator("#filter-pattern").fill("(")
    ann.get_by_label("It is a pattern (RE2)").check()
    ann.get_by_role("button", name="Hold it for review").click()
    expect(ann.locator("#filter-problem")).to_contain_text("missing )")
    ann.locator("#filter-pattern").fill("casin[o0]")
    ann.get_by_role("button", name="Hold it for review").click()
    expect(ann.locator("#filter-lines li")).to_have_count(1)
    press(ann, "Escape")
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("to the casino")
        bo.say("and casin0")
        expect(ann.locator("#order-toggle .badge")).to_have_text("2")
        ann.locator("#order-toggle").click()
        ann.locator("#order-review").click()
        expect(ann.locator("#review-list li").first.get_by_role("button", name="Show")).to_be_focused()
        press(ann, "s", "r")
        expect(ann.locator("#review-lead")).to_have_text("Nothing waits.")
        assert bo.hear("message")["text"] == "to the casino"
        bo.hear("error", code="refused")
        expect(ann.locator("#order-toggle .badge")).to_be_hidden()
        press(ann, "Escape")
        expect(texts(ann)).to_have_text(["to the casino"])


def test_ownership_is_handed_over_and_the_log_taken_along(house: House) -> None:
    """Who opens the owner's link owns the room, too; owners get all that is kept as a file."""
    ann = keeper(house)
    say(ann, "Hello")
    ann.locator("#order-toggle").click()
    ann.locator("#order-open").click()
    ann.locator("#tab-owners").click()
    export = ann.get_by_role("link", name="JSON lines").get_attribute("href")
    assert "Hello" in ann.request.get(f"{house.url}{export}").text()
    ann.locator("#hand-over").click()
    link = ann.locator("#order-owners [data-part=link]").input_value()
    bo = house.visit(house.person(), link.removeprefix(house.url))
    bo.get_by_role("button", name="Come in").click()
    bo.get_by_label("Your name", exact=True).fill("Bo")
    press(bo, "Enter")
    expect(bo.locator("#order-toggle")).to_be_visible()
    ann.locator("#tab-people").click()
    expect(ann.locator("#standing-roles li")).to_have_count(2)


def test_a_raid_is_declared_and_ended(house: House) -> None:
    """All pages hear of it; the keeper's button shows it until it is ended."""
    ann = keeper(house)
    with Client(house.url, house.room, name="Bo") as bo:
        ann.locator("#order-toggle").click()
        ann.locator("#order-menu").get_by_role("button", name="Raid protection for \u206810 minutes\u2069").click()
        assert bo.hear("rules")["rules"]["raid_until"] > 0
        ann.locator("#order-menu").get_by_role("button", name="End it now").click()
        assert "raid_until" not in bo.hear("rules")["rules"]


def test_a_fast_room_stands_still_under_the_mouse(house: House) -> None:
    """Moving over the log of a fast room holds it and says so, leaving it brings what came; a slow room runs on."""
    ann = keeper(house)
    log = ann.locator("#log")
    with Client(house.url, house.room, name="Bo") as bo:
        bo.say("slow")
        log.hover()
        bo.say("slow, too")
        expect(texts(ann).last).to_have_text("slow, too")
        ann.locator("#room-name").hover()
        number, end_s = 0, time.monotonic() + FAST_S
        while time.monotonic() < end_s or number < FAST:
            number += 1
            bo.say(f"fast {number}")
            expect(texts(ann).last).to_have_text(f"fast {number}")
        log.hover()
        bo.say("while it is held")
        expect(ann.locator("#to-end-text")).to_have_text("Paused: 1 new")
        expect(texts(ann).last).not_to_be_in_viewport()
        ann.locator("#room-name").hover()
        expect(texts(ann).last).to_be_in_viewport()
        expect(ann.locator("#to-end")).to_be_hidden()
