"""`static/order.js` without a page: what the page knows of the room's order. Time is the test's own."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.modules import run

SERVER_AHEAD_MS = 90_000

SET_UP = """
    const { Order } = await load("order");
    window.leaving?.abort(); // the order of the test before
    window.leaving = new AbortController();
    window.order = new Order({ signal: leaving.signal });
    window.changes = 0;
    order.onChange(() => { window.changes += 1; });
    window.now = () => Date.now() + arg;
    window.me = { id: "me", name: "Ann" };
    window.ann = { id: "me", name: "Ann" };
    window.bo = { id: "bo", name: "Bo" };
    window.enter = ({ you = {}, rules = {}, roles = [], head = 10 } = {}) =>
        order.enter({ head, now: now(), you: { ...ann, ...you }, rules, roles });
    window.said = (by, seq, at = now()) => ({ type: "message", seq, at, by, text: "x" });
"""


class Desk:
    """An order alone on a page, and what time does to it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        run(page, SET_UP, SERVER_AHEAD_MS)

    def do(self, script: str, arg: Any = None) -> Any:
        return self.page.evaluate(f"async (arg) => {script}", arg)

    def enter(self, **room: Any) -> None:
        self.do("{ enter(arg); }", room)

    def now_ms(self) -> int:
        """The server's time."""
        return int(self.do("now()"))

    def pass_ms(self, wait_ms: int) -> None:
        self.page.clock.run_for(wait_ms)

    def changes(self) -> int:
        """How often a change was told since this was asked last."""
        return int(self.do("[changes, changes = 0][0]"))


@pytest.fixture(scope="module")
def paused(modules: Page) -> Page:
    modules.clock.install()
    modules.clock.pause_at(modules.evaluate("() => Date.now() + 1000"))
    return modules


@pytest.fixture
def desk(paused: Page) -> Desk:
    return Desk(paused)


def test_what_the_server_leaves_out_is_as_everywhere(desk: Desk) -> None:
    """Rules and roles come with `welcome`; what is not in it has its plain value, and so has an order not yet told."""
    plain = {"slow_s": 0, "read_only": False, "locked": False, "links": "on", "announcement": None}
    plain |= {"edit_s": 3600, "keep_s": 0, "keep_events": 0, "raid_until": 0}
    assert desk.do("[order.rules, order.roles, order.role, order.rank, order.silence]") == [plain, [], "", 0, None]
    roles = [{"id": "bo", "name": "Bo", "role": "owner"}]
    desk.enter(rules={"slow_s": 5}, roles=roles, you={"role": "operator"})
    assert desk.do("[order.rules, order.roles]") == [{**plain, "slow_s": 5}, roles]
    assert desk.do("['bo', 'me', 'cy'].map((id) => order.roleOf(id))") == ["owner", "operator", ""]
    assert desk.do("order.rank") == 3
    assert desk.do("order.now()") == desk.now_ms()


def test_acts_change_it_once_they_are_news(desk: Desk) -> None:
    """Events of the past are in `welcome` already; later ones give and take roles and change rules."""
    desk.enter(rules={"slow_s": 5}, roles=[{"id": "bo", "name": "Bo", "role": "owner"}])
    desk.changes()
    for event in (
        {"type": "rules", "seq": 10, "at": 1, "rules": {}},
        {"type": "role", "seq": 9, "at": 1, "whom": {"id": "bo", "name": "Bo"}, "role": ""},
        {"type": "act", "seq": 11, "at": 1, "act": "mute", "whom": {"id": "bo", "name": "Bo"}, "until": 5},
        {"type": "later", "seq": 12, "at": 1},
    ):
        desk.do("order.onEvent(arg)", event)
    assert desk.do("[order.rules.slow_s, order.roleOf('bo'), changes]") == [5, "owner", 0]
    desk.do("order.onEvent(arg)", {"type": "rules", "seq": 13, "at": 1, "rules": {"locked": True}})
    desk.do("order.onEvent({ type: 'role', seq: 14, at: 1, whom: bo, role: '' })")
    desk.do("order.onEvent({ type: 'role', seq: 15, at: 1, whom: { id: 'cy', name: 'Cy' }, role: 'moderator' })")
    assert desk.do("[order.rules.slow_s, order.rules.locked]") == [0, True]
    assert desk.do("order.roles") == [{"id": "cy", "name": "Cy", "role": "moderator"}]
    assert desk.changes() == 3


def test_mute_ends_by_itself(desk: Desk) -> None:
    """Who is muted is told why and until when by the server's clock, and is told when it is over, however late."""
    desk.enter()
    until = desk.now_ms() + 40 * 24 * 3_600_000
    desk.do("order.onYou({ ...me, muted_until: arg, muted_for: 'shouting' })", until)
    assert desk.do("order.silence") == {"code": "muted", "until": until, "reason": "shouting"}
    desk.pass_ms(40 * 24 * 3_600_000 - 1000)
    assert desk.do("[order.mutedUntil, order.mayReact(said(bo, 1))]") == [until, False]
    desk.changes()
    desk.pass_ms(1100)
    assert desk.do("[order.mutedUntil, order.silence, order.mayReact(said(bo, 1))]") == [0, None, True]
    assert desk.changes() == 1
    desk.do("order.onYou({ ...me, muted_until: now() + 5000 })")
    desk.do("order.onYou(me)")
    assert desk.do("order.silence") is None


def test_read_only_rooms_are_the_moderators(desk: Desk) -> None:
    """They go on speaking unless they are muted; the others may react."""
    desk.enter(rules={"read_only": True})
    assert desk.do("[order.silence, order.mayReact(said(bo, 1))]") == [{"code": "read_only"}, True]
    desk.do("order.onYou({ ...me, role: 'moderator' })")
    assert desk.do("order.silence") is None
    desk.do("order.onYou({ ...me, role: 'moderator', muted_until: now() + 5000 })")
    assert desk.do("order.silence.code") == "muted"


def test_raid_keeps_newcomers_quiet(desk: Desk) -> None:
    """They are told that it is the raid; who was muted for something else is told that."""
    raid = desk.now_ms() + 60_000
    desk.enter(rules={"raid_until": raid}, you={"muted_until": raid})
    assert desk.do("order.silence") == {"code": "newcomer", "until": raid, "reason": ""}
    desk.do("order.onYou({ ...me, muted_until: arg, muted_for: 'shouting' })", raid)
    assert desk.do("order.silence.code") == "muted"
    desk.do("order.onYou({ ...me, muted_until: arg })", raid + 1)
    assert desk.do("order.silence.code") == "muted"


def test_slow_mode_counts_from_what_i_said(desk: Desk) -> None:
    """My newest message sets the wait, whatever order events come in; others' do not, nor what was said before."""
    desk.enter()
    desk.do("order.onEvent(said(ann, 11))")
    desk.do("order.onEvent({ type: 'rules', seq: 12, at: now(), rules: { slow_s: 30 } })")
    assert desk.do("[order.slow, order.slowUntil]") == [30, 0]
    desk.do("{ order.onEvent(said(ann, 13)); order.onEvent(said(ann, 1, now() - 9000)); order.onEvent(said(bo, 14)); }")
    assert desk.do("order.slowUntil") == desk.now_ms() + 30_000
    desk.changes()
    desk.pass_ms(29_900)
    assert desk.changes() == 0
    desk.pass_ms(200)
    assert [desk.do("order.slowUntil"), desk.changes()] == [0, 1]
    desk.do("order.onError({ code: 'held' })")
    assert desk.do("order.slowUntil") == desk.now_ms() + 30_000
    desk.do("order.onYou({ ...me, role: 'moderator' })")
    assert desk.do("[order.slow, order.slowUntil]") == [0, 0]


def test_server_says_how_long_to_wait(desk: Desk) -> None:
    """Its word counts, even before it has told of slow mode, until that is over."""
    desk.enter()
    desk.do("order.onError({ code: 'slow_mode', retry_after: 12.5 })")
    assert desk.do("order.slowUntil") == desk.now_ms() + 12_500
    desk.do("order.onEvent({ type: 'rules', seq: 12, at: now(), rules: { slow_s: 30 } })")
    assert desk.do("order.slowUntil") == desk.now_ms() + 12_500
    desk.do("order.onEvent({ type: 'rules', seq: 13, at: now(), rules: {} })")
    assert desk.do("order.slowUntil") == 0
    desk.do("order.onError({ code: 'slow_mode' })")
    desk.do("order.onError({ code: 'refused' })")
    assert desk.do("order.slowUntil") == desk.now_ms() + 1000


def test_raid_slows_down_until_it_is_over(desk: Desk) -> None:
    """Half a minute at least lies between two messages, and the end comes by itself."""
    desk.enter(rules={"slow_s": 5, "raid_until": desk.now_ms() + 60_000})
    assert desk.do("[order.isRaid, order.slow]") == [True, 30]
    desk.changes()
    desk.pass_ms(60_100)
    assert desk.do("[order.isRaid, order.slow]") == [False, 5]
    assert desk.changes() == 1
    desk.do("order.onEvent({ type: 'rules', seq: 13, at: 1, rules: { slow_s: 45, raid_until: now() + 60_000 } })")
    assert desk.do("order.slow") == 45


def test_own_messages_may_be_edited_for_a_while(desk: Desk) -> None:
    """As long as the rules allow (0: for ever), unless one may not speak; never those of others, nor what is none."""
    desk.enter(rules={"edit_s": 60}, you={"role": "owner"})
    may = "[said(ann, 1), said(ann, 1, now() - 59000), said(ann, 1, now() - 61000), said(bo, 1), arg].map(%s)"
    removed = {"type": "removed", "seq": 1, "at": 0}
    edits, deletes = "(event) => order.mayEdit(event)", "(event) => order.mayDelete(event)"
    assert desk.do(may % edits, removed) == [True, True, False, False, False]
    assert desk.do(may % deletes, removed) == [True, True, True, True, False]
    desk.do("order.onYou(me)")
    assert desk.do(may % deletes, removed) == [True, True, True, False, False]
    assert desk.do("order.mayDelete({ type: 'message', at: 1, by: ann, text: 'on its way' })") is False
    desk.do("order.onYou({ ...me, muted_until: now() + 5000 })")
    assert desk.do(may % edits, removed) == [False] * 5
    desk.enter(rules={"edit_s": 0})
    assert desk.do("order.mayEdit(said(ann, 1, 1))") is True


def test_left_room_tells_nothing_more(desk: Desk) -> None:
    """No timer of its order goes on."""
    desk.enter(you={"muted_until": desk.now_ms() + 5000})
    desk.changes()
    desk.do("{ leaving.abort(); }")
    desk.pass_ms(10_000)
    assert desk.changes() == 0
