"""The line to the server in Chromium without a page: a stand-in for the WebSocket, and time that the test lets pass."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.modules import run

CHANCE = 0.5  # what Math.random says in these tests
QUIET_MS = 45_000  # how long a line may be quiet, at that chance

WELCOME = {
    "type": "welcome",
    "epoch": "e1",
    "head": 0,
    "now": 0,
    "you": {"id": "a1", "name": "Ann"},
    "present": 1,
    "limits": {"text": 4000},
    "rules": {},
    "roles": [],
}

SET_UP = """
    class StandIn {
        static OPEN = 1;
        readyState = 0;
        sent = [];
        isLeft = false;
        constructor(address, protocols) {
            Object.assign(this, { address, protocols });
            window.sockets.push(this);
        }
        send(data) { this.sent.push(JSON.parse(data)); }
        close() { this.isLeft = true; }
    }
    Object.assign(window, { WebSocket: StandIn, sockets: [], heard: [], states: [], refusal: null, fates: {} });
    window.ahead_ms = 0;
    window.leaving?.abort(); // the line of the test before
    Math.random = () => arg;
    const { Connection } = await load("connection");
    window.leaving = new AbortController();
    window.line = new Connection({
        address: () => `ws://server/${sockets.length}`,
        onFrame: (frame) => heard.push(frame),
        onState: (state) => states.push(state),
        whyRefused: async () => window.refusal,
        now: () => Date.now() + (window.ahead_ms ?? 0),
        signal: leaving.signal,
    });
"""


class Bench:
    """A connection on a bench: what the server does, what time does, and what became of it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        run(page, SET_UP, CHANCE)

    def do(self, script: str, arg: Any = None) -> Any:
        return self.page.evaluate(f"async (arg) => {script}", arg)

    def pass_ms(self, wait_ms: float) -> None:
        self.page.clock.run_for(round(wait_ms))

    # The server

    def accept(self) -> None:
        self.do("{ sockets.at(-1).readyState = 1; sockets.at(-1).onopen(); }")

    def say(self, *frames: Any) -> None:
        self.do(
            "arg.forEach((data) => sockets.at(-1).onmessage({ data }))",
            [frame if isinstance(frame, str) else json.dumps(frame) for frame in frames],
        )

    def welcome(self) -> None:
        self.accept()
        self.say(WELCOME)

    def close(self, code: int = 1006) -> None:
        self.do("{ sockets.at(-1).onclose({ code: arg }); }", code)

    def refuse(self, status: int | None, retry_after: float = 0, **more: Any) -> None:
        """Turn the handshake down; `None` is a server that does not answer over HTTP either."""
        self.do("{ window.refusal = arg; }", status and {"status": status, "retry_after": retry_after, **more})
        self.close()

    # The page

    def open(self) -> None:
        """A line that stands."""
        self.do("{ line.open(); }")
        self.welcome()

    def ask(self, key: str, **question: Any) -> None:
        """Ask; what became of it stands in `fate(key)`."""
        self.do(
            """{
                fates[arg.key] = null;
                line.ask(arg.question).then(
                    (answer) => { fates[arg.key] = answer; },
                    (error) => { fates[arg.key] = [error.name, error.message, error.code ?? null]; },
                );
            }""",
            {"key": key, "question": question},
        )

    def fate(self, key: str) -> Any:
        return self.do("fates[arg]", key)

    @property
    def phase(self) -> Any:
        return self.do("states.at(-1).phase")

    @property
    def state(self) -> Any:
        """The state it told last, with `until` as milliseconds from now."""
        return self.do(
            "({ ...states.at(-1), ...(states.at(-1).until && { until: states.at(-1).until - Date.now() }) })"
        )

    @property
    def now_ms(self) -> int:
        return int(self.do("Date.now()"))

    @property
    def wait_ms(self) -> float:
        """How long the page is to stay away."""
        return float(self.state["until"])

    @property
    def attempts(self) -> Any:
        return self.do("sockets.length")

    @property
    def sent(self) -> Any:
        """What went out over the newest socket."""
        return self.do("sockets.at(-1).sent")


@pytest.fixture(scope="module")
def paused(modules: Page) -> Page:
    """A blank page on which no time passes by itself."""
    modules.clock.install(time=0)
    modules.clock.pause_at(1000)
    return modules


@pytest.fixture
def bench(paused: Page) -> Bench:
    return Bench(paused)


# Coming in


def test_line_opens_with_welcome(bench: Bench) -> None:
    """The line speaks our protocol, is open from `welcome` on and not before, and hands on every frame in its order."""
    bench.do("{ line.open(); }")
    assert bench.do("[sockets[0].address, sockets[0].protocols]") == ["ws://server/0", ["chatroom.v1"]]
    bench.accept()
    later = {"type": "later", "seq": 1, "at": 2}
    bench.say(later)
    assert (bench.phase, bench.do("heard.length")) == ("connecting", 0)
    assert bench.do("[line.isOpen, line.tell({ type: 'typing' })]") == [False, False]
    bench.say(WELCOME, later, {"type": "status", "storing": False})
    assert bench.do("heard") == [WELCOME, later, {"type": "status", "storing": False}]
    assert bench.do("states.map(({ phase }) => phase)") == ["connecting", "open"]
    assert bench.do("[line.isOpen, line.tell({ type: 'typing' })]") == [True, True]
    assert bench.sent == [{"type": "typing"}]


def test_nonsense_is_passed_over(bench: Bench) -> None:
    """Garbage, bad fields and a second welcome are dropped, and the line goes on."""
    bench.open()
    bench.say("{", "7", {"type": "message", "seq": "x", "at": 1}, WELCOME, {"type": "later"})
    assert bench.do("heard") == [WELCOME, {"type": "later"}]
    assert bench.do("states.length") == 2


def test_server_that_never_welcomes_is_left(bench: Bench) -> None:
    """A handshake without an end, or one without a welcome, is given up after a while, whatever else is said."""
    bench.do("{ line.open(); }")
    bench.pass_ms(11_000)
    assert bench.phase == "connecting"
    bench.pass_ms(1100)
    assert (bench.phase, bench.do("sockets[0].isLeft")) == ("away", True)
    bench.pass_ms(bench.wait_ms)
    bench.accept()
    bench.say({"type": "later"}, {"type": "status", "storing": True})
    bench.pass_ms(12_100)
    assert (bench.phase, bench.do("sockets[1].isLeft")) == ("away", True)


# Staying away


def test_backoff_is_full_jitter_under_a_doubling_bound(bench: Bench) -> None:
    """A wait is anything from nothing to a bound that doubles from one second to thirty."""
    waits = """
        const { backoff_ms } = await load("connection");
        const chances = [0, 0.5, 1];
        const waits = (attempt) => chances.map((chance) => backoff_ms(attempt, () => chance));
        return [0, 1, 2, 3, 4, 5, 60, 5000].map(waits);
    """
    bounds = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
    assert run(bench.page, waits) == [[0, bound / 2, bound] for bound in bounds]


def test_waits_grow_until_a_line_has_stood_for_a_while(bench: Bench) -> None:
    """Lines that break soon make the waits longer; one that stood ten seconds makes the next wait short again."""
    bench.do("{ line.open(); }")
    waits = []
    for _ in range(7):
        bench.welcome()
        bench.pass_ms(1000)
        bench.close()
        waits.append(bench.wait_ms)
        bench.pass_ms(bench.wait_ms)
    assert waits == [500, 1000, 2000, 4000, 8000, 15_000, 15_000]
    bench.welcome()
    bench.pass_ms(10_001)
    bench.close()
    assert bench.wait_ms == 500


@pytest.mark.parametrize(
    ("code", "why"), [(1001, "lost"), (1009, "lost"), (1011, "lost"), (1006, "lost"), (1013, "full")]
)
def test_lost_line_comes_back(bench: Bench, code: int, why: str) -> None:
    """After any close code but one the page stays away a little and comes back by itself."""
    bench.open()
    bench.close(code)
    assert bench.state == {"phase": "away", "why": why, "until": 500, "bidden": False}
    bench.pass_ms(499)
    assert bench.attempts == 1
    bench.pass_ms(1)
    assert (bench.attempts, bench.phase) == (2, "connecting")
    bench.welcome()
    assert bench.phase == "open"


def test_policy_close_is_the_end(bench: Bench) -> None:
    """After 1008 the page stays away: no timer, no returning tab and no button brings it back."""
    bench.open()
    bench.close(1008)
    assert bench.state == {"phase": "ended", "why": "line.away"}
    bench.do("{ line.retryNow(); line.probe(); }")
    bench.pass_ms(2 * QUIET_MS)
    assert (bench.attempts, bench.phase) == (1, "ended")


# Put out and kept out


def put_out(bench: Bench, **out: Any) -> None:
    bench.say({"type": "out", **out})
    bench.close(1008)


def test_who_is_put_out_comes_back_when_he_wants_to(bench: Bench) -> None:
    """After a kick the page says why and waits for its person: no timer and no returning tab brings it back."""
    bench.open()
    put_out(bench, why="kick", reason="calm down")
    assert bench.state == {"phase": "out", "why": "kick", "reason": "calm down"}
    bench.do("{ line.retryNow(); line.probe(); }")
    bench.pass_ms(2 * QUIET_MS)
    assert bench.attempts == 1
    bench.do("{ line.insist(); }")
    bench.welcome()
    assert (bench.attempts, bench.phase) == (2, "open")
    bench.close(1008)
    assert bench.state == {"phase": "ended", "why": "line.away"}


def test_end_of_a_ban_brings_the_page_back(bench: Bench) -> None:
    """It comes by itself when the ban is over by the server's clock, however far off that is, and a little later."""
    bench.open()
    bench.do("{ ahead_ms = 5000; }")
    ban_ms = 40 * 24 * 3_600_000
    put_out(bench, why="ban", until=bench.now_ms + ban_ms)
    assert bench.state == {"phase": "out", "why": "ban", "reason": "", "until": ban_ms - 5000}
    bench.pass_ms(ban_ms - 5000)
    assert bench.attempts == 1
    bench.pass_ms(500)
    assert (bench.attempts, bench.phase) == (2, "connecting")


def test_ban_for_good_ends_by_no_timer(bench: Bench) -> None:
    """Without an end the page stays out until somebody insists."""
    bench.open()
    put_out(bench, why="ban")
    assert bench.state == {"phase": "out", "why": "ban", "reason": ""}
    bench.pass_ms(48 * 3_600_000)
    assert bench.attempts == 1


def test_clock_that_is_ahead_does_not_make_haste(bench: Bench) -> None:
    """A ban that has ended by this machine's clock alone is asked about ever more slowly."""
    bench.do("{ line.open(); }")
    waits = []
    for _ in range(4):
        began_ms, attempts = bench.now_ms, bench.attempts
        bench.refuse(403, code="banned", until=1)
        while bench.attempts == attempts:
            bench.pass_ms(250)
        waits.append(bench.now_ms - began_ms)
    assert waits == [500, 1000, 2000, 4000]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"code": "banned", "reason": "spam"}, {"why": "ban", "reason": "spam"}),
        ({"code": "banned"}, {"why": "ban", "reason": ""}),
        ({"code": "locked"}, {"why": "locked", "reason": ""}),
        ({"code": "closed"}, {"why": "closed", "reason": ""}),
    ],
)
def test_who_is_kept_out_is_told_why(bench: Bench, answer: dict[str, Any], expected: dict[str, Any]) -> None:
    """A handshake refused for who one is says the same as being put out."""
    bench.do("{ line.open(); }")
    bench.refuse(403, **answer)
    assert bench.state == {"phase": "out", **expected}
    bench.do("{ line.insist(); }")
    bench.refuse(403, **answer, until=bench.now_ms + 90_000)
    assert bench.state == {"phase": "out", **expected, "until": 90_000}


def test_reason_for_being_kept_out_is_read_with_care(bench: Bench) -> None:
    """What the server's JSON says counts where it is of the right kind; another 403 is no such refusal."""
    bodies = [
        '{"code": "banned", "until": 5, "reason": "x", "error": "…"}',
        '{"code": "banned", "until": "5", "reason": 7}',
        *('{"code": "other"}', "[]", "null", "<html>"),
    ]
    fulfil = iter(bodies)
    bench.page.route("**/api/**", lambda route: route.fulfill(status=403, body=next(fulfil)), times=len(bodies))
    ask = "const { askWhyRefused } = await load('connection'); return askWhyRefused('tea');"
    plain = {"status": 403, "retry_after": 0}
    assert [run(bench.page, ask) for _ in bodies] == [
        {**plain, "code": "banned", "until": 5, "reason": "x"},
        {**plain, "code": "banned"},
        *[plain] * 4,
    ]


def test_bye_sets_the_wait(bench: Bench) -> None:
    """Who was told when to come back comes then, not earlier by any haste, and is told so only once."""
    bench.open()
    bench.say({"type": "bye", "retry_after": 7.25})
    bench.close(1001)
    assert bench.state == {"phase": "away", "why": "lost", "until": 7250, "bidden": True}
    bench.do("{ line.retryNow(); line.probe(); }")
    bench.pass_ms(7249)
    assert bench.attempts == 1
    bench.pass_ms(1)
    assert bench.attempts == 2
    bench.welcome()
    bench.close()
    assert not bench.state["bidden"]


def test_wait_without_end_is_bounded(bench: Bench) -> None:
    """A server that asks for a century gets an hour: a longer timer than browsers have would go off at once."""
    bench.open()
    bench.say({"type": "bye", "retry_after": 1e12})
    bench.close(1001)
    assert bench.wait_ms == 3_600_000
    bench.pass_ms(1000)
    assert bench.attempts == 1


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (503, 7, {"phase": "away", "why": "full", "until": 7000, "bidden": True}),
        (429, 3, {"phase": "away", "why": "full", "until": 3000, "bidden": True}),
        (503, 0, {"phase": "away", "why": "full", "until": 500, "bidden": False}),
        (200, 0, {"phase": "away", "why": "blocked", "until": 500, "bidden": False}),
        (502, 9, {"phase": "away", "why": "unreachable", "until": 500, "bidden": False}),
        (None, 0, {"phase": "away", "why": "unreachable", "until": 500, "bidden": False}),
        (400, 0, {"phase": "ended", "why": "line.refused"}),
    ],
)
def test_refused_handshake_is_understood(
    bench: Bench, status: int, retry_after: float, expected: dict[str, Any]
) -> None:
    """What the HTTP address answers decides how long to stay away after a refused handshake, and what to say."""
    bench.do("{ line.open(); }")
    bench.refuse(status, retry_after)
    assert bench.state == expected


def test_reason_of_a_refusal_is_asked_over_http(bench: Bench) -> None:
    """The room's address is asked, whatever the room is called, for its status and its Retry-After."""
    answers = [(503, {"Retry-After": "12"}), (429, {}), (200, {}), (503, {"Retry-After": "in a while"})]
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > len(answers):
            route.abort()
            return
        status, headers = answers[len(asked) - 1]
        route.fulfill(status=status, headers=headers, body="{}")

    bench.page.route("**/api/**", answer, times=5)
    ask = "const { askWhyRefused } = await load('connection'); return askWhyRefused('tea & cake');"
    understood = [run(bench.page, ask) for _ in range(5)]
    assert all(url.endswith("/api/rooms/tea%20%26%20cake/messages?limit=1") for url in asked)
    assert understood == [
        {"status": 503, "retry_after": 12},
        {"status": 429, "retry_after": 0},
        {"status": 200, "retry_after": 0},
        {"status": 503, "retry_after": 0},
        None,
    ]
    date = "const { seconds } = await load('connection'); return seconds(new Date(9000).toUTCString(), 2000);"
    assert run(bench.page, date) == 7


# Coming back sooner


def test_returning_tab_or_network_tries_at_once(bench: Bench) -> None:
    """One more try goes out at once while the page stays away; one under way is let be, unless it takes too long."""
    bench.open()
    bench.close()
    bench.do("{ line.probe(); line.probe(); line.retryNow(); }")
    assert (bench.attempts, bench.phase) == (2, "connecting")
    bench.pass_ms(3001)
    assert bench.attempts == 2
    bench.do("{ line.probe(); }")
    assert (bench.attempts, bench.do("sockets[1].isLeft")) == (3, True)
    bench.welcome()
    assert bench.phase == "open"


def test_late_reason_of_an_earlier_refusal_is_nobodys(bench: Bench) -> None:
    """Why a handshake was refused does not matter any more once another one is under way."""
    bench.do("{ window.reasons = []; line.open(); }")
    bench.do("{ window.refusal = new Promise((resolve) => reasons.push(resolve)); }")
    bench.close()
    bench.do("{ line.retryNow(); window.refusal = null; }")
    bench.do("{ reasons[0]({ status: 400, retry_after: 0 }); }")
    assert (bench.attempts, bench.phase) == (2, "connecting")
    bench.close()
    assert bench.state["why"] == "unreachable"


# A dead line


def test_line_that_does_not_answer_is_dead(bench: Bench) -> None:
    """Something that must be answered and is not, by any frame, within 15 s shows that nobody is there."""
    bench.open()
    bench.do("line.send({ type: 'say' })")
    bench.pass_ms(14_000)
    bench.say({"type": "later"})
    bench.pass_ms(14_000)
    assert bench.phase == "open"
    bench.do("line.send({ type: 'say' })")
    bench.pass_ms(10_000)
    bench.do("line.send({ type: 'say' })")
    bench.pass_ms(5001)
    assert (bench.phase, bench.do("sockets[0].isLeft")) == ("away", True)


def test_probe_finds_a_dead_line_soon(bench: Bench) -> None:
    """Whoever returns to a tab learns within five seconds that its line is dead."""
    bench.open()
    bench.do("{ line.probe(); }")
    assert [frame["type"] for frame in bench.sent] == ["people"]
    bench.pass_ms(4900)
    bench.say({"type": "later"})
    bench.pass_ms(10_000)
    assert bench.phase == "open"
    bench.do("{ line.probe(); }")
    bench.pass_ms(5001)
    assert bench.phase == "away"


def test_long_quiet_is_asked_into(bench: Bench) -> None:
    """A page that only listens asks for a sign of life now and then: a dead line is not mistaken for a quiet room."""
    bench.open()
    bench.pass_ms(QUIET_MS)
    [question] = bench.sent
    bench.say({"type": "people", "ref": question["ref"], "total": 1, "people": []})
    bench.pass_ms(QUIET_MS)
    assert (len(bench.sent), bench.phase) == (2, "open")
    bench.pass_ms(15_000)
    assert bench.phase == "away"


# Questions


def test_questions_get_their_own_answers(bench: Bench) -> None:
    """Answers find their questions in any order and are handed to nobody else; one of another kind is none."""
    bench.open()
    bench.ask("past", type="history", before=9, limit=2)
    bench.ask("who", type="people", query="a")
    past, who = (frame["ref"] for frame in bench.sent)
    assert bench.sent[0] == {"type": "history", "before": 9, "limit": 2, "ref": past}
    page = {"type": "page", "ref": past, "events": [], "more_before": False, "more_after": True}
    people = {"type": "people", "ref": who, "total": 0, "people": []}
    bench.say({**people, "ref": past}, {**people, "ref": "foreign"}, people, page, page)
    assert (bench.fate("past"), bench.fate("who")) == (page, people)
    assert bench.do("heard") == [WELCOME]


ON_MESSAGES = ("edit", "delete", "react", "review", "purge")
ON_PEOPLE = ("role", "mute", "ban", "kick", "revoke")
ACTS = (*ON_MESSAGES, *ON_PEOPLE, "rules", "raid", "filter", "password")


def test_acts_are_done_and_questions_answered(bench: Bench) -> None:
    """An act is answered by `done`, an invitation by `invite`, what moderators ask by a frame of the same name."""
    bench.open()
    for name in (*ACTS, "invite", "acts", "held", "person", "order"):
        bench.ask(name, type=name)
    refs = {frame["type"]: frame["ref"] for frame in bench.sent}
    by, rules = {"id": "b", "name": "Bo"}, {"rules": {}, "roles": []}
    bench.say({"type": "done", "ref": refs["invite"]}, {"type": "held", "ref": refs["mute"], "held": []})
    answers = {name: {"type": "done", "ref": refs[name], "seq": 7} for name in ACTS}
    invite = {"id": "i", "by": by, "at": 1, "until": 2, "uses": 1}
    answers["invite"] = {"type": "invite", "ref": refs["invite"], "invite": invite, "path": "/door"}
    answers["acts"] = {"type": "acts", "ref": refs["acts"], "acts": [], "more": False}
    answers["held"] = {"type": "held", "ref": refs["held"], "held": []}
    card = {"role": "", "here": True, "from_address": 1, "events": [], "more_before": False}
    answers["person"] = {"type": "person", "ref": refs["person"], **by, **card}
    order = {"restraints": [], "patterns": [], "invites": [], "closed": False, "has_password": False, "held": 0}
    answers["order"] = {"type": "order", "ref": refs["order"], **rules, **order}
    bench.say(*answers.values())
    assert {name: bench.fate(name) for name in answers} == answers
    assert bench.do("heard") == [WELCOME]


def test_act_on_a_line_that_broke_is_not_repeated(bench: Bench) -> None:
    """It fails and says that it may have been done; without a line nothing is sent, and that is said."""
    bench.open()
    bench.ask("sent", type="delete", message=7)
    bench.ask("made", type="invite", seconds=60)
    bench.ask("question", type="held")
    bench.close()
    bench.ask("late", type="delete", message=8)
    assert bench.fate("sent") == bench.fate("made") == ["Error", "line.act_unsure", "act_unsure"]
    assert bench.fate("question") == bench.fate("late") == ["Error", "line.none", "no_line"]
    bench.pass_ms(500)
    bench.welcome()
    bench.pass_ms(10_000)
    assert bench.sent == []


def test_denied_question_fails_with_a_sentence(bench: Bench) -> None:
    """An error becomes a sentence for people, and a code for the page; one without a question is handed on."""
    bench.open()
    bench.ask("past", type="history", around=9)
    denial = {"type": "error", "code": "not_found", "message": "It is not there."}
    bench.say({**denial, "ref": bench.sent[0]["ref"]}, {**denial, "client_id": "c1"}, denial)
    assert bench.fate("past") == ["Error", "It is not there.", "not_found"]
    assert bench.do("heard.slice(1)") == [{**denial, "client_id": "c1"}, denial]


def test_hasty_question_is_asked_again_in_time(bench: Bench) -> None:
    """A question refused for haste goes out again after the wait that the server names, and is answered after all."""
    bench.open()
    bench.ask("who", type="people")
    [asked] = bench.sent
    hasty = {"type": "error", "code": "rate_limited", "message": "Too fast.", "ref": asked["ref"], "retry_after": 2.5}
    bench.say(hasty)
    bench.pass_ms(2499)
    assert bench.sent == [asked]
    bench.pass_ms(1)
    assert bench.sent == [asked, asked]
    answer = {"type": "people", "ref": asked["ref"], "total": 0, "people": []}
    bench.say(answer)
    assert bench.fate("who") == answer


def test_forgotten_question_fails_while_the_line_lives(bench: Bench) -> None:
    """A question that nobody answers fails in the end, though other frames keep coming."""
    bench.open()
    bench.ask("past", type="history", before=9)
    for _ in range(2):
        bench.pass_ms(10_000)
        bench.say({"type": "later"})
    assert bench.fate("past") == ["Error", "line.no_answer", None]
    assert bench.phase == "open"


def test_questions_fail_where_there_is_no_line(bench: Bench) -> None:
    """A question fails when the line breaks, held back or not, and at once where there is none; none is asked later."""
    bench.ask("early", type="people")
    bench.open()
    bench.ask("past", type="history", before=9)
    bench.ask("hasty", type="people")
    refs = [frame["ref"] for frame in bench.sent]
    bench.say({"type": "error", "code": "rate_limited", "message": "Too fast.", "ref": refs[1], "retry_after": 5})
    bench.close()
    bench.ask("late", type="people")
    assert [bench.fate(key) for key in ("early", "past", "hasty", "late")] == [["Error", "line.none", "no_line"]] * 4
    bench.pass_ms(500)
    bench.welcome()
    bench.pass_ms(10_000)
    assert bench.sent == []


# Leaving


def test_left_line_is_closed_for_good(bench: Bench) -> None:
    """Who leaves the room hears nothing more: no frame, no state, no reconnect; what was asked fails as aborted."""
    bench.open()
    bench.ask("past", type="history", before=9)
    bench.do("{ leaving.abort(); }")
    assert bench.do("[sockets[0].isLeft, sockets[0].onmessage, sockets[0].onclose]") == [True, None, None]
    assert bench.fate("past")[0] == "AbortError"
    bench.ask("late", type="people")
    assert bench.fate("late")[0] == "AbortError"
    bench.do("{ line.open(); line.probe(); line.retryNow(); }")
    assert bench.do("[line.isOpen, line.tell({}), line.send({})]") == [False, False, False]
    bench.pass_ms(2 * QUIET_MS)
    assert (bench.attempts, bench.phase, bench.do("heard")) == (1, "open", [WELCOME])


def test_left_page_does_not_come_back(bench: Bench) -> None:
    """Leaving while the page stays away, or while it is asked why the handshake was refused, ends that, too."""
    bench.do("{ line.open(); window.refusal = new Promise((resolve) => { window.resolve = resolve; }); }")
    bench.close()
    bench.do("{ leaving.abort(); resolve(null); }")
    bench.pass_ms(2 * QUIET_MS)
    assert (bench.attempts, bench.phase) == (1, "connecting")


def test_left_page_that_was_away_stays_away(bench: Bench) -> None:
    """The timer that would bring the page back is gone with the room."""
    bench.open()
    bench.close()
    bench.do("{ leaving.abort(); }")
    bench.pass_ms(2 * QUIET_MS)
    assert (bench.attempts, bench.phase) == (1, "away")
