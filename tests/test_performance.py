"""The swarm counts what a server does and finds every fault of it; the table says of made-up figures what is kept."""

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import performance, performance_plans
from loadtest.biglog import ROOM, schema_key, write_events
from loadtest.chatter import chatter
from loadtest.falseserver import TEXT, FalseServer, Lies, frame
from loadtest.machine import Cores
from loadtest.peers import CHATROOM, serving
from loadtest.performance import FIRST_MARK, LAST_MARK, BadOptions, Line, Performance, Run, lines_of, put_into
from loadtest.performance_plans import PLANS, Bar, Outcome, Plan, Row, Setting
from loadtest.swarm import Swarm, fault, figures, swarm_program, swarmed
from loadtest.tlsfront import make_certificate
from loadtest.witness import CannotRun, Witness
from tests.support import Client, ServerProcess, eventually

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler (Debian: apt-get install gcc libc6-dev)")
SHORT = "--members=20 --senders=4 --seconds=0.4 --warmup=0.1 --settle=0.05"


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def chatroom() -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "x.db", message_rate=0) as server:
        yield server


def run(server: ServerProcess, options: str) -> dict[str, Any]:
    """A short run against the chat room."""
    return swarmed(server.port, f"{SHORT} {options}", adapter="chatroom", server_pid=server.pid)


# The swarm and a chat room that does what it should


def test_how_late_the_loop_was_at_most_is_the_bound_that_holds_for_all() -> None:
    """What was there before does not count; nor does anything beyond the bounds get lost."""
    before = {0.01: 5.0, 0.1: 6.0, math.inf: 7.0}
    assert performance_plans.most_late_ms(before, {0.01: 9.0, 0.1: 11.0, math.inf: 12.0}) == 100
    assert performance_plans.most_late_ms(before, {0.01: 9.0, 0.1: 10.0, math.inf: 12.0}) == math.inf


@needs_cc
def test_the_loop_of_a_chat_room_says_how_late_it_is(chatroom: ServerProcess) -> None:
    """Twenty times a second."""
    before = performance_plans.late(chatroom.port)
    assert eventually(lambda: performance_plans.late(chatroom.port)[math.inf] > before[math.inf] + 3)
    assert performance_plans.most_late_ms(before, performance_plans.late(chatroom.port)) > 0


@needs_cc
def test_at_a_rate_every_message_is_heard_and_timed_once_by_everybody(chatroom: ServerProcess) -> None:
    """Warm-up messages are checked, and not timed."""
    report = run(chatroom, "--mode=rate --rate=50 --room=rate --bystander")
    assert (report["right"], report["said"], report["deliveries"], report["acks"]) == (True, 25, 500, 25)
    assert (report["latency_ms"]["count"], report["last_member_ms"]["count"]) == (400, 20)
    assert 0 < report["latency_ms"]["p50"] <= report["last_member_ms"]["max"] == report["latency_ms"]["max"]
    assert report["early"] == report["unstamped"] == 0
    assert report["held_ms"]["count"] > 0
    assert 50 < report["overhead_bytes"] < 200


@needs_cc
def test_everybody_in_many_rooms_speaks_in_turn(chatroom: ServerProcess) -> None:
    """What is said in one room is heard by its members alone."""
    report = run(chatroom, "--mode=rate --rooms=10 --members=3 --senders=3 --rate=120 --room=many")
    assert (report["right"], report["entered"], report["said"], report["deliveries"]) == (True, 30, 60, 180)


@needs_cc
def test_a_flood_keeps_going_and_misses_nothing(chatroom: ServerProcess) -> None:
    """What was said until the end is heard by all before it is over."""
    report = run(chatroom, "--mode=inflight --inflight=16 --room=flood")
    assert report["right"]
    assert report["said"] > 32
    assert report["deliveries"] == 20 * report["said"]
    assert report["deliveries_per_s"] > 0


@needs_cc
def test_inbound_every_say_is_acked(chatroom: ServerProcess) -> None:
    """Everybody speaks."""
    report = run(chatroom, "--mode=inbound --members=6 --inflight=4 --room=inbound")
    assert report["right"]
    assert report["acks"] == report["said"] > 24
    assert report["deliveries"] == 6 * report["said"]


@needs_cc
def test_who_joins_is_in_when_he_was_told_the_newest_messages(chatroom: ServerProcess) -> None:
    """Fifty each, of an earlier run."""
    filled = run(chatroom, "--mode=rate --members=1 --senders=1 --rate=1000 --warmup=0 --seconds=0.06 --room=join")
    report = run(chatroom, "--mode=join --room=join --at-once=7")
    assert (filled["right"], filled["said"]) == (True, 60)
    assert (report["right"], report["entered"], report["old"]) == (True, 20, 20 * 50)
    assert report["enter_s"] > 0
    assert report["join_ms"]["count"] == 20


@needs_cc
def test_who_is_idle_stays_until_he_is_told_to_go(chatroom: ServerProcess) -> None:
    """And is counted by the server as long."""
    with Swarm(chatroom.port, "--mode=idle", "--members=20", "--room=idle", adapter="chatroom") as swarm:
        swarm.await_entered()
        with Client(chatroom.url, "idle") as other:
            assert other.welcome["present"] == 21
        report = swarm.end()
    assert (report["right"], report["valid"], report["entered"]) == (True, True, 20)


@needs_cc
def test_who_stalls_hears_nothing_while_one_speaks(chatroom: ServerProcess) -> None:
    """He who speaks hears himself, and stops when so much is said."""
    report = run(chatroom, "--mode=stall --say-bytes=20000 --inflight=8 --room=stall --receive-bytes=4096")
    assert report["right"]
    assert 200 <= report["said"] <= 208
    assert report["deliveries"] <= report["said"]


@needs_cc
def test_what_the_chat_room_refuses_is_a_wrong_run() -> None:
    """One who says more than he may is told so, and so are we."""
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "x.db") as server:
        report = run(server, "--mode=rate --rate=400 --senders=1 --drain=0.5")
    assert not report["right"]
    assert report["refused"] == report["missing"] / 20 > 0
    assert f"{report['refused']} refused" in fault(report)


@needs_cc
def test_another_program_finds_the_same_messages_by_their_tags(chatroom: ServerProcess) -> None:
    """The harness' witness, in the same room, times as many at each member."""
    with Witness(chatroom.port, "watched", 3, subprotocol="chatroom.v1") as watching:
        watching.await_entered()
        report = run(chatroom, "--mode=rate --rate=50 --room=watched")
        eventually(lambda: quiet(chatroom.port))
        seen = watching.end()
    assert (seen["kernel"]["count"], seen["warm"], seen["early"]) == (3 * 20, 3 * 5, 0)
    assert report["latency_ms"]["count"] == 20 * 20


def quiet(port: int) -> bool:
    """Whether every byte of a server has come to the other side."""
    _, *lines = Path("/proc/net/tcp").read_text().splitlines()
    return not [line for line in map(str.split, lines) if line[1].endswith(f":{port:04X}") and int(line[4][:8], 16)]


@needs_cc
@pytest.mark.parametrize(("lies", "status"), [(Lies(), {0, 4}), (Lies(drop=97), {5})])
def test_the_exit_status_says_whether_all_was_right(lies: Lies, status: set[int]) -> None:
    """4 if this machine was too slow for it, which here is nobody's fault."""
    with FalseServer(lies) as server:
        command = [swarm_program(), f"--port={server.port}", *SHORT.split(), "--mode=rate", "--rate=250", "--drain=0.7"]
        assert subprocess.run(command, capture_output=True, check=False).returncode in status


@needs_cc
@pytest.mark.parametrize("option", ["--mode=nonsense", "--text-bytes=54", "--members=0", "--senders=999 --members=999"])
def test_what_the_swarm_cannot_do_is_one_sentence(option: str) -> None:
    """And nothing is started."""
    command = [swarm_program(), "--port=1", "--mode=rate", *option.split()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("swarm: --") and ended.stderr.count("\n") == 1


# The swarm and a server that lies


def lied_to(lies: Lies, options: str = "--mode=rate --rate=250") -> tuple[dict[str, Any], dict[str, Any]]:
    """What the swarm found, and what the server says that it did."""
    with FalseServer(lies) as server:
        report = swarmed(server.port, f"{SHORT} --drain={2 if lies.swap else 0.7} {options}")
    return report, server.report()


@needs_cc
@pytest.mark.parametrize(
    ("lie", "counted", "told"),
    [
        ("drop", "missing", "dropped"),
        ("double", "doubled", "doubled"),
        ("swap", "reordered", "swapped"),
        ("change", "changed", "changed"),
        ("foreign", "stray", "foreign"),
    ],
)
def test_every_fault_of_a_delivery_is_found(lie: str, counted: str, told: str) -> None:
    """As often as it was made, as what it was, and nothing else is."""
    report, truth = lied_to(Lies(**{lie: 97}))
    assert truth[told] > 5
    assert not report["right"]
    others = {"missing": 0, "doubled": 0, "reordered": 0, "changed": 0, "stray": 0} | {counted: truth[told]}
    if lie == "change":  # what came otherwise did not come as it was said; in the digits of a room it is a stranger's
        others["missing"] = truth[told]
        report["changed"], report["stray"] = report["changed"] + report["stray"], 0
    assert {name: report[name] for name in others} == others
    assert fault(report).startswith("WRONG deliveries: ")


@needs_cc
@pytest.mark.parametrize("lies", [Lies(), Lies(split=3), Lies(coalesce=4), Lies(ping=60)], ids=str)
def test_what_is_only_cut_otherwise_is_right(lies: Lies) -> None:
    """Frames in pieces, frames together, and pings between them, none with the last, which are answered."""
    report, truth = lied_to(lies)
    assert (report["right"], report["missing"], report["deliveries"]) == (True, 0, 125 * 20)
    assert truth["ponged"] == truth["pinged"]
    assert report["overhead_bytes"] == 2


@needs_cc
@pytest.mark.parametrize(("lies", "name"), [(Lies(close_at=(30,)), "dropped"), (Lies(garbage_at=(30,)), "garbage")])
def test_who_is_lost_is_told(lies: Lies, name: str) -> None:
    """And all that he should have heard after it is missing."""
    report, _ = lied_to(lies)
    assert (report["right"], report[name], report["dropped"]) == (False, 1, 1)
    assert report["missing"] == 96  # of 125, beginning with the 30th


@needs_cc
def test_a_stall_is_in_the_latency_of_all_that_was_due_in_it() -> None:
    """Not only in that of the message that was served late."""
    report, _ = lied_to(Lies(stall_at=(60,), stall_ms=300))
    assert report["right"]
    assert report["last_member_ms"]["max"] >= 300
    assert report["last_member_ms"]["p90"] >= 200  # 75 of 100 were due in these 300 ms


@needs_cc
def test_a_flood_ends_though_messages_are_lost() -> None:
    """What is under way and lost is given up, and told."""
    report, truth = lied_to(Lies(drop=500), "--mode=inflight --inflight=4 --seconds=1.5")
    assert (report["right"], report["missing"]) == (False, truth["dropped"])
    assert report["stalls"] > 0


class Talker(FalseServer):
    """Speaks `chatroom.v1` as far as a swarm needs it, and miscounts."""

    def __init__(self, skipped_seq: int = 0, lost_ack: int = 0) -> None:
        super().__init__()
        self.seq, self.skipped_seq, self.lost_ack = 0, skipped_seq, lost_ack

    def enter(self, member: Any, name: str) -> Any:
        room = super().enter(member, name)
        member.write(frame(TEXT, b'{"type":"welcome","room":"swarm","epoch":"e","head":0}'))
        return room

    def say(self, speaker: Any, room: Any, payload: bytes) -> None:
        say = json.loads(payload)
        self.seq += 1 + (self.seq + 1 == self.skipped_seq)
        if self.seq != self.lost_ack:
            ack = {"type": "ack", "client_id": say["client_id"], "seq": self.seq}
            speaker.write(frame(TEXT, json.dumps(ack, separators=(",", ":")).encode()))
        message = {"type": "message", "seq": self.seq, "at": 1, "by": {"id": "i", "name": "n"}, "text": say["text"]}
        for member in room.members:
            member.write(frame(TEXT, json.dumps(message, separators=(",", ":")).encode()))


@needs_cc
@pytest.mark.parametrize(
    ("server", "counts"),
    [
        (Talker(), {"event_gaps": 0, "wrong_acks": 0}),
        (Talker(skipped_seq=9), {"event_gaps": 20, "wrong_acks": 0}),
        (Talker(lost_ack=9), {"event_gaps": 0, "wrong_acks": 116}),
    ],
)
def test_the_numbers_of_events_and_acks_are_checked(server: Talker, counts: dict[str, int]) -> None:
    """Each member's events go up by one, each speaker's acks are those of what he said, in order."""
    with server:
        report = swarmed(server.port, f"{SHORT} --mode=rate --rate=250 --senders=1 --drain=0.7", adapter="chatroom")
    assert {name: report[name] for name in counts} == counts
    assert (report["missing"], report["right"]) == (0, not any(counts.values()))


@needs_cc
def test_who_is_refused_at_the_door_is_told_in_one_sentence() -> None:
    """With the server's answer."""
    with FalseServer(Lies(refuse=503)) as server, pytest.raises(CannotRun, match=r"HTTP/1\.1 503"):
        swarmed(server.port, "--mode=join --members=3")


@needs_cc
@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl (Debian: apt-get install openssl)")
def test_behind_tls_it_is_the_same(tmp_path: Path) -> None:
    """Every delivery is checked there, too."""
    try:
        swarm_program(with_tls=True)
    except CannotRun:
        pytest.skip("no OpenSSL to compile with (Debian: apt-get install libssl-dev)")
    make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "certificate.pem").read_text())
    with FalseServer(Lies(drop=97), certificate=both) as server:
        report = swarmed(server.port, [*SHORT.split(), "--mode=rate", "--rate=250", "--drain=0.7", "--tls"])
    assert report["missing"] == server.report()["dropped"] > 5
    assert report["deliveries"] == 125 * 20 - report["missing"]


# The long log


def test_a_long_log_is_one_that_the_server_takes_for_its_own(tmp_path: Path) -> None:
    """Its newest events are told to who comes in, those of its middle by `/api`."""
    database = tmp_path / "x.db"
    with ServerProcess(database) as server:
        for room in (ROOM, "other-0"):
            with Client(server.url, room) as someone:
                someone.say("~first~")
                someone.hear("message")
        server.terminate()
    before = schema_key(database)
    write_events(database, 5000)
    assert schema_key(database) == before
    with ServerProcess(database) as server, Client(server.url, ROOM) as newcomer:
        assert newcomer.welcome["head"] == 5000
        assert [event["seq"] for event in newcomer.messages(50)] == list(range(4951, 5001))
        page = json.loads(performance_plans.get(server.port, f"/api/rooms/{ROOM}/messages?before=2500&limit=50"))
        assert [event["seq"] for event in page["events"]] == list(range(2450, 2500))
        assert page["events"][0]["at"] < page["events"][1]["at"]
        assert {event["text"] for event in page["events"]} == {"~first~"}


def test_what_a_server_holds_and_counts_can_be_asked(chatroom: ServerProcess) -> None:
    """Its memory and its counters, all labels together."""
    assert performance_plans.memory_bytes(chatroom.pid) <= performance_plans.memory_bytes(chatroom.pid, "VmHWM")
    with Client(chatroom.url, "counted") as one:
        one.send(type="nonsense")
        one.send(type="say")
        eventually(lambda: performance_plans.metric(chatroom.port, "chatroom_refused_frames_total") >= 2)


# The table


def plan_of(*rows: Row, name: str = "made-up") -> Plan:
    return Plan(name, "nothing", ("chatroom", "c"), lambda *_: Outcome({}), rows)


def words_of(value: float | None) -> str:
    return f"{value:g} ms"


def runs_of(*rounds: tuple[float, float], trouble: str = "") -> list[Run]:
    """Ours and the rival's of each round; the trouble is that of our last run."""
    found = []
    for number, (ours, theirs) in enumerate(rounds, 1):
        is_last = number == len(rounds)
        found.append(Run("made-up", number, "chatroom", Outcome({"key": ours}, [], trouble if is_last else "")))
        found.append(Run("made-up", number, "c", Outcome({"key": theirs})))
    return found


def line(row: Row, *rounds: tuple[float, float], trouble: str = "") -> Line:
    return lines_of(plan_of(row), runs_of(*rounds, trouble=trouble))[0]


def test_a_ratio_is_that_of_the_same_round() -> None:
    """What drifts drifts for both."""
    found = line(Row("key", "p99", words_of, bars={"c": Bar(1.2, 1.0)}), (10, 10), (22, 20), (33, 30))
    assert found.cells()[2:8] == [
        *("22 ms (10 ms..33 ms)", "c", "20 ms (10 ms..30 ms)", "× 1.10 (× 1.00..× 1.10)"),
        *("≤ × 1.20: kept", "≤ × 1.00: missed by 10 %"),
    ]
    assert not found.is_missed


@pytest.mark.parametrize(
    ("is_more_better", "ours", "said", "is_missed"),
    [
        (False, 12.0, "≤ × 1.20: kept", False),
        (False, 12.1, "≤ × 1.20: **MISSED** by under 1 %", True),
        (False, 24.0, "≤ × 1.20: **MISSED** by 100 %", True),
        (True, 12.0, "≥ × 1.20: kept", False),
        (True, 11.9, "≥ × 1.20: **MISSED** by under 1 %", True),
        (True, 6.0, "≥ × 1.20: **MISSED** by 50 %", True),
        (True, 60.0, "≥ × 1.20: kept", False),
    ],
)
def test_a_bar_is_kept_or_missed_by_so_much(is_more_better: bool, ours: float, said: str, is_missed: bool) -> None:
    """On the bar is kept, and a little is not nothing."""
    found = line(Row("key", "figure", words_of, is_more_better, bars={"c": Bar(1.2)}), (ours, 10))
    assert (found.cells()[6], found.is_missed) == (said, is_missed)


def test_a_figure_without_a_rival_is_held_against_its_own_bar() -> None:
    """In its own unit."""
    found = line(Row("key", "page", words_of, bar=Bar(20.0, 5.0)), (21, 1))
    assert found.cells()[2:8] == [
        "21 ms (21 ms..21 ms)",
        *("–", "–", "–", "≤ 20 ms: **MISSED** by 5 %", "≤ 5 ms: missed by 320 %"),
    ]


def test_a_wrong_run_is_in_no_median_and_in_a_line_of_its_own() -> None:
    """Its round has no ratio, and without a round nothing is kept."""
    row = Row("key", "p99", words_of, bars={"c": Bar(1.2)})
    assert line(row, (10, 10), (50, 10), trouble="WRONG deliveries: 1 missing").cells()[5] == "× 1.00 (× 1.00..× 1.00)"
    alone = line(row, (10, 10), trouble="WRONG deliveries: 1 missing")
    assert (alone.cells()[2], alone.cells()[6], alone.is_missed) == ("NOT VALID", "≤ × 1.20: not measured", True)


def performance_of(runs: list[Run], rounds: int, bar: Bar) -> Performance:
    plan = plan_of(Row("key", "p99", words_of, bars={"c": bar}))
    return Performance([plan], rounds, "the command", "a machine", {}, runs)


@pytest.mark.parametrize(
    ("trouble", "bar", "rounds", "exit_code"),
    [
        ("", Bar(1.2), 2, 0),
        ("", Bar(0.9), 2, performance.MISSED),
        ("INVALID: late", Bar(1.2), 2, performance.INVALID),
        ("WRONG deliveries: 1 missing", Bar(1.2), 2, performance.WRONG),
        ("", Bar(1.2), 3, performance.STOPPED),
    ],
)
def test_the_exit_code_says_how_it_went(trouble: str, bar: Bar, rounds: int, exit_code: int) -> None:
    """And the table says of each bad run what was bad."""
    found = performance_of(runs_of((10, 10), (11, 10), trouble=trouble), rounds, bar)
    assert found.exit_code == exit_code
    assert not trouble or f"- made-up, round 2, chatroom: {trouble}." in found.to_markdown()
    assert ("STOPPED" in found.to_markdown()) == (exit_code == performance.STOPPED)


def test_what_is_written_has_every_run(tmp_path: Path) -> None:
    """For people and for programs."""
    performance_of(runs_of((10, 10), (11, 10), trouble="INVALID: late"), 2, Bar(1.2)).write(tmp_path)
    assert "| made-up | p99 | 10 ms (10 ms..10 ms) | c |" in (tmp_path / "performance.md").read_text()
    written = json.loads((tmp_path / "performance.json").read_text())
    assert [run["trouble"] for run in written["runs"]] == ["", "", "INVALID: late", ""]
    assert written["lines"][0]["ratio"]["median"] == 1.0


def test_a_load_that_had_no_core_left_says_so() -> None:
    """Its server might have done more."""
    run_of = Run("made-up", 1, "c", Outcome({"key": 1.0, "own_cpu": 0.97}))
    assert "the load used 97 % of its core" in "".join(performance_of([run_of], 1, Bar()).troubles())


def test_a_page_gets_the_new_table_and_keeps_its_words(tmp_path: Path) -> None:
    """Whatever stood between the marks."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{FIRST_MARK}\n\nold\n{LAST_MARK}\n\nbehind\n")
    put_into(page, "| new |\n")
    put_into(page, "| newer |\n")
    assert page.read_text() == f"before\n\n{FIRST_MARK}\n\n| newer |\n\n{LAST_MARK}\n\nbehind\n"
    page.write_text("no marks")
    with pytest.raises(BadOptions):
        put_into(page, "| new |")


def test_every_plan_has_a_figure_and_a_bar() -> None:
    """A plan without a bar asks nothing."""
    for plan in PLANS.values():
        bars = [bar for row in plan.rows for bar in (row.bar or Bar(), *row.bars.values())]
        assert any(bar.at_least is not None for bar in bars), plan.name
        assert all(set(row.bars) <= set(plan.servers) for row in plan.rows)


@needs_cc
def test_a_plan_is_run_on_a_server_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of the server to the figure of the table."""
    monkeypatch.setattr(performance_plans, "SETTLE_S", 0.1)
    monkeypatch.setattr(performance_plans, "WARMUP_S", 0.1)
    setting = Setting(Cores(), 0.3, 0.3, tmp_path, print)
    found = performance.measure(PLANS["bytes"], 1, "chatroom", setting)
    assert found.figure("overhead_bytes") > 0
    assert figures(found.outcome.reports[0])["join_ms.p99"] > 0


@pytest.mark.parametrize("argv", [["--plans=nonsense"], ["--plans="], ["--rounds=0"], ["--seconds=0"]])
def test_options_that_cannot_be_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With one sentence."""
    assert performance.main(argv) == performance.BAD_PLAN
    assert capsys.readouterr().err.startswith("performance: --")


@pytest.mark.parametrize("deflates", [False, True])
def test_people_chat_and_every_delivery_is_checked(deflates: bool) -> None:
    """With compression a delivery takes less than half; everybody has heard every sentence."""
    with serving(CHATROOM, Cores()) as server:
        found = chatter(server.port, server.pid, 5, 50, 0.5, deflates=deflates)
    assert found["deliveries"] == 5 * 25
    assert (found["bytes_per_delivery"] < found["text_bytes"] + 50) == deflates
