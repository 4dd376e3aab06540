"""The load harness tells the truth: every lie of a server is found, and every failing of its own is confessed.

Each test is a run, or a few at once: the harness in its own process, against a server that lies on request and reports
what it did, or against the chat room itself. Counts are exact, times are only ever asked to be long enough.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

from loadtest.falseserver import FalseServer, Lies
from loadtest.result import write_folder
from loadtest.verdict import INVALID, WRONG_DELIVERIES
from tests.fake_result import make_result
from tests.forge import Forge
from tests.harness import Ended, Harness, check, run
from tests.support import ROOT, Client, ServerProcess, eventually

BAD_PLAN = 2
FAULTS = ("missing", "doubled", "reordered", "changed", "stray", "garbage")
NONE = dict.fromkeys(FAULTS, 0)


@pytest.fixture(scope="module", autouse=True)
def forge() -> Iterator[None]:
    """Where the runs come from."""
    with Forge("locust") as Harness.forge:
        yield


@pytest.fixture
def chatroom(tmp_path: Path) -> Iterator[ServerProcess]:
    """The chat room itself, on a port of its own, without its rate limit and with the smallest buffers it allows."""
    with ServerProcess(tmp_path / "room.db", message_rate=0, send_buffer_bytes=128 * 1024) as server:
        yield server


def spoken(server: FalseServer, messages: int = 20) -> None:
    """Wait until a run is in the midst of its messages."""
    eventually(lambda: server.report()["messages"] >= messages, 30)


# Lies


def test_every_lie_about_a_delivery_is_reported_with_its_exact_count(tmp_path: Path) -> None:
    """Dropped, doubled, swapped, changed and foreign, all in one run, each as often as it was told."""
    with FalseServer(Lies(drop=50, double=40, swap=60, change=45, foreign=55, ping=70)) as server:
        ended = run(server.url, tmp_path, members=20, rate=120)
    told = server.report()
    assert min(told[lie] for lie in ("dropped", "doubled", "swapped", "changed", "foreign", "pinged")) >= 20
    assert ended.counts(*FAULTS) == {
        "missing": told["dropped"] + told["changed"],
        "doubled": told["doubled"],
        "reordered": told["swapped"],
        "changed": told["changed"],
        "stray": told["foreign"],
        "garbage": 0,
    }
    assert ended.figures["had_to_get"] == told["offered"]
    assert ended.figures["received"] == told["deliveries"] - told["changed"]
    assert told["ponged"] == told["pinged"]
    assert ended.exit_code in (WRONG_DELIVERIES, INVALID)
    assert {f"{told['doubled']} doubled", f"{told['foreign']} stray"} <= set(ended.verdict["wrong"])
    assert re.search(r"member \d+ lacks message \d+ of sender 0", ended.words)


def test_events_that_have_a_text_and_are_no_messages_hide_no_lie(tmp_path: Path) -> None:
    """An edit is no second delivery, and what comes twice beside it is."""
    (tmp_path / "echoed.py").write_text(ECHOED)
    with FalseServer(Lies(edit=3, drop=50, double=40)) as server:
        ended = run(server.url, tmp_path, rate=60, drain=1, adapter=f"{tmp_path}/echoed.py:Echoed")
    told = server.report()
    assert min(told["edited"], told["dropped"], told["doubled"]) >= 10
    assert ended.counts(*FAULTS) == {**NONE, "missing": told["dropped"], "doubled": told["doubled"]}


ECHOED = """
from loadtest.adapters.chatroom import Chatroom

class Echoed(Chatroom):
    subprotocols = ()
    says_entered = resumes = False  # a server that echoes says no more than what it is told

    def wrap(self, text, number):
        return '{"type":"message","seq":1,"at":0,"by":{"id":"","name":""},"text":"%s"}' % text
"""


def test_one_delivery_in_ten_thousand_is_missed(tmp_path: Path) -> None:
    """Two of some twenty thousand: found, counted, and infinitely late."""
    with FalseServer(Lies(drop=10_000)) as server:
        ended = run(server.url, tmp_path, members=100, rate=160, spawn_rate=500, drain=1, slo="missing==0,max<1s")
    told = server.report()
    assert told["dropped"] >= 1
    assert ended.counts(*FAULTS) == {**NONE, "missing": told["dropped"]}
    assert ended.figures["latency_max_ms"] == float("inf")
    assert [goal["is_met"] for goal in ended.verdict["goals"]] == [False, False]
    assert "never" in ended.stdout


def test_a_stall_of_50_ms_is_in_every_delivery_that_waited(tmp_path: Path) -> None:
    """Not one slow sample for the stall, but one for each member, and p99.9 and maximum tell of it."""
    with FalseServer(Lies(stall=7)) as server:
        ended = run(server.url, tmp_path, members=10, rate=80)
    stalled = server.report()["measured"]["stalled"]
    assert stalled >= 10
    assert ended.figures["latency_max_ms"] >= 50
    assert ended.figures["latency_p99_9_ms"] >= 49.5  # the middle of a bucket
    assert ended.times("latency").count_above(49_500_000) >= 10 * stalled
    assert ended.times("last_member").count_above(49_500_000) >= stalled
    assert ended.counts(*FAULTS) == NONE


def test_nothing_is_missing_however_the_frames_come(tmp_path: Path) -> None:
    """In fragments, in pieces, several at once: every delivery is found, in its order, and unchanged."""
    with contextlib.ExitStack() as stack:
        runs = []
        for name, lies in {"fragments": Lies(fragment=3, split=2), "coalesced": Lies(coalesce=4, split=3)}.items():
            server = stack.enter_context(FalseServer(lies))
            harness = Harness.against(server.url, tmp_path / name, rate=90, senders=3)
            runs.append((server, stack.enter_context(harness)))
        for server, harness in runs:
            ended = harness.ended()
            assert ended.counts(*FAULTS) == NONE
            assert ended.figures["received"] == server.report()["deliveries"] == server.report()["messages"] * 8 > 0


def test_members_who_are_refused_or_thrown_out_come_in_again(tmp_path: Path) -> None:
    """Of three handshakes one is refused; garbage and a close cost a member his seat in mid-run, and nothing else."""
    with FalseServer(Lies(refuse=503, refuse_every=3, garbage_at=(40,), close_at=(80,))) as server:
        ended = run(server.url, tmp_path, rate=50, duration=3)
    told = server.report()
    assert (told["garbage"], told["closed"], told["handshakes"] - told["refused"]) == (1, 1, 8 + 2)
    assert told["refused"] >= 4
    assert ended.counts(*FAULTS) == {**NONE, "garbage": 1}
    assert ended.counts("members", "dropped", "failed") == {"members": 8, "dropped": 2, "failed": 0}
    assert "code 1011" in ended.words
    assert "reserved bit" in ended.words


def test_a_server_that_dies_in_mid_run_is_told_in_the_verdict(tmp_path: Path) -> None:
    """Nobody can come back, and the run still ends, with its report and the reason."""
    with FalseServer(Lies(end_at=60)) as server:
        ended = run(server.url, tmp_path, rate=60, drain=1)
    assert server.report()["ended"] == 1
    assert ended.figures["dropped"] == 8
    assert ended.exit_code == INVALID
    assert "refused" in ended.words


# Doors that stay shut


def test_who_is_not_let_in_is_told_why_in_one_sentence(tmp_path: Path, certificate: Path) -> None:
    """A server that is down, that refuses, that is not trusted, that speaks no WebSocket: four runs at once."""
    with contextlib.ExitStack() as stack:
        forbidden = stack.enter_context(FalseServer(Lies(refuse=403)))
        too_busy = stack.enter_context(FalseServer(Lies(refuse=503)))
        not_trusted = stack.enter_context(FalseServer(certificate=certificate))
        reasons = {
            forbidden.url: "the server answered HTTP 403",
            too_busy.url: "the server answered HTTP 503",
            not_trusted.url: "the server's certificate is not trusted",
            "http://127.0.0.1:9": "Connection refused",
        }
        runs = {
            url: stack.enter_context(Harness.against(url, tmp_path / str(number), members=2))
            for number, url in enumerate(reasons)
        }
        for url, reason in reasons.items():
            ended = runs[url].ended()
            assert ended.verdict["headline"].startswith("INVALID: No member entered"), ended.stdout
            assert reason in ended.verdict["headline"]
            assert len(ended.verdict["reasons"]) == 1
            assert ended.exit_code == INVALID
            assert ended.stderr == ""


def test_insecure_accepts_any_certificate(tmp_path: Path, certificate: Path) -> None:
    """Over TLS every delivery is checked as it is without."""
    with FalseServer(Lies(drop=20), certificate=certificate) as server:
        ended = run(server.url, tmp_path, rate=60, insecure=True, drain=1)
    told = server.report()
    assert told["dropped"] > 0
    assert ended.counts(*FAULTS) == {**NONE, "missing": told["dropped"]}
    assert ended.figures["received"] == told["deliveries"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *words.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


# Plans that cannot be


def test_a_plan_that_cannot_be_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """Exit code 2, one line on stderr that names the option, and nothing started; all these runs at once."""
    (tmp_path / "broken.py").write_text("class Broken(:")
    plans: dict[str, dict[str, Any]] = {
        "is no goal": {"slo": "p99 is small"},
        "--rate=fast: give a number": {"rate": "fast"},
        "--rate=slow: give a number": {"rate": "slow", "processes": 2},
        "--senders=9": {"senders": 9},
        "not 'now and then'": {"arrivals": "now and then"},
        "no Python file": {"adapter": "nowhere.py:Adapter"},
        "invalid syntax": {"adapter": f"{tmp_path}/broken.py:Broken"},
        "give the server's address": {"url": "localhost:8888"},
        "--out=/proc/nowhere": {"out": Path("/proc/nowhere")},
        "10,000 members in one process need 10,200 open files, and 10,100 are allowed": {
            "members": 10_000,
            "files": 10_100,  # locust itself complains of less than 10,000
        },
    }
    with FalseServer() as server, contextlib.ExitStack() as stack:
        runs = {
            sentence: stack.enter_context(
                Harness.against(**{"url": server.url, "out": tmp_path / str(number), **plan}),
            )
            for number, (sentence, plan) in enumerate(plans.items())
        }
        for sentence, harness in runs.items():
            ended = harness.ended()
            assert ended.exit_code == BAD_PLAN, ended
            assert sentence in ended.stderr
            assert ended.stderr.count("\n") == 1 and ended.stderr.endswith(".\n"), ended.stderr
            assert not ended.result
    assert server.report()["handshakes"] == 0


# Runs that are disturbed


def test_ctrl_c_in_the_midst_of_work_breaks_nothing(tmp_path: Path) -> None:
    """Whatever the harness is about when it comes, sending or reading, it finishes it and ends in good order."""
    with (
        FalseServer() as server,
        Harness.against(server.url, tmp_path, members=2, rate=20_000, duration=600) as harness,
    ):
        spoken(server, 2000)
        harness.interrupt()
        ended = harness.ended()
    assert ended.verdict["headline"].startswith("INVALID: The run was stopped by hand")


def test_ctrl_c_with_two_workers_keeps_what_they_counted(tmp_path: Path) -> None:
    """The terminal tells the workers, too; they wait for the master, who settles the account with them."""
    with FalseServer() as server, Harness.against(server.url, tmp_path, processes=2, duration=600) as harness:
        spoken(server)
        harness.interrupt()
        ended = harness.ended()
    assert ended.verdict["headline"].startswith("INVALID: The run was stopped by hand")
    assert "went missing" not in ended.words
    assert ended.counts(*FAULTS) == NONE
    assert ended.figures["received"] == ended.figures["had_to_get"] == server.report()["messages"] * 8 > 0


def test_a_rate_that_cannot_be_sent_is_invalid(tmp_path: Path) -> None:
    """The generator is the bottleneck, and says so, with the number it reached."""
    with FalseServer() as server:
        ended = run(server.url, tmp_path, members=2, rate=200_000, duration=1, drain=1)
    assert ended.exit_code == INVALID
    assert re.search(r"The rate reached was [\d,.]+ messages/s, less than 99.5% of the planned 200,000", ended.words)
    assert ended.figures["rate_reached"] < 0.995 * 200_000


def test_an_adapter_that_fails_makes_the_run_invalid(tmp_path: Path) -> None:
    """From then on nothing is read or sent, so nothing that was counted is worth anything; what failed is told."""
    (tmp_path / "fails.py").write_text(FAILS)
    with FalseServer() as server:
        ended = run(server.url, tmp_path, adapter=f"{tmp_path}/fails.py:Fails", drain=1, is_loud=True)
    assert ended.exit_code == INVALID
    assert "twenty is too much" in ended.words


FAILS = """
from loadtest.adapters import Adapter

class Fails(Adapter):
    count = 0

    def wrap(self, text, number):
        self.count += 1
        if self.count == 20:
            raise RuntimeError("twenty is too much")
        return text
"""


# Several processes


def test_two_workers_come_to_one_account(tmp_path: Path) -> None:
    """Every message at every member of both, whichever worker sent it, is checked and timed as by one."""
    with FalseServer(Lies(drop=50, double=40, change=45, foreign=55)) as server:
        ended = run(server.url, tmp_path, processes=2, members=21, senders=4, rate=120, drain=1)
    told = server.report()
    assert ended.counts("workers", "members") == {"workers": 2, "members": 21}
    assert ended.figures["had_to_get"] == told["messages"] * 21
    assert ended.counts(*FAULTS) == {
        **NONE,
        "missing": told["dropped"] + told["changed"],
        "doubled": told["doubled"],
        "changed": told["changed"],
        "stray": told["foreign"],
    }
    in_time = told["measured"]["deliveries"] - told["measured"]["changed"] - told["measured"]["doubled"]
    assert sum(ended.times("latency").counts) == in_time
    assert ended.times("latency").infinite == told["measured"]["dropped"] + told["measured"]["changed"]
    assert ended.times("last_member").total == told["measured"]["messages"]


def test_a_worker_who_is_killed_makes_the_run_invalid(tmp_path: Path) -> None:
    """kill -9 in mid-run: what he had counted is gone, so nothing that is left counts."""
    with FalseServer() as server, Harness.against(server.url, tmp_path, processes=2, duration=600, drain=1) as harness:
        spoken(server)
        psutil.Process(harness.pid).children()[0].kill()
        ended = harness.ended()
    assert "1 worker went missing" in ended.verdict["headline"]
    assert ended.exit_code == INVALID


# The chat room itself


def test_no_scenario_finds_a_fault_in_the_chat_room(tmp_path: Path, chatroom: ServerProcess) -> None:
    """A storm, churn, many rooms and members who never read, all at once: nothing is missing or doubled."""
    plans: dict[str, dict[str, Any]] = {
        "storm": {"members": 30, "senders": 2, "rate": 40, "duration": 3},
        "quiet": {
            "scenario": "storm",
            "members": 30,
            "rooms": 10,
            "senders": 1,
            "rate": 2,
            "duration": 3,
        },
        "churn": {"members": 20, "churn": 20, "rate": 60, "duration": 2},
        "rooms": {"members": 30, "rooms": 10, "senders": 3, "rate": 120, "warmup": 0},
        "slow": {"members": 12, "stuck": 2, "rate": 400, "duration": 3},  # 4.8 MB: the kernel may take 4 for a member
    }
    common = {"adapter": "chatroom", "drain": 10}
    with contextlib.ExitStack() as stack:
        runs = {
            name: stack.enter_context(
                Harness.against(chatroom.url, tmp_path / name, **{"scenario": name, "room": name, **common, **plan})
            )
            for name, plan in plans.items()
        }
        ended = {name: harness.ended() for name, harness in runs.items()}
    for one in ended.values():
        assert one.counts(*FAULTS, "dropped", "failed") == {**NONE, "dropped": 0, "failed": 0}
    all_came_back(ended["storm"], 28)
    all_came_back(ended["quiet"], 20)
    assert ended["churn"].figures["left"] > 5
    assert ended["churn"].figures["joins"] > 25
    assert ended["rooms"].counts("rooms", "senders", "received") == {"rooms": 10, "senders": 30, "received": 120 * 3}
    assert ended["slow"].counts("stuck", "cut_off") == {"stuck": 2, "cut_off": 2}


def all_came_back(ended: Ended, members: int) -> None:
    """After a storm everybody who does not speak is resumed whole, and it is known how long that took."""
    resumed = {"resumed_whole": members, "resumed_gap": 0, "resumed_reset": 0}
    assert ended.counts(*resumed) == resumed
    assert (ended.times("resume").total, ended.times("resume").infinite) == (members, 0)
    assert 0 < ended.figures["storm_99_s"] < float("inf")


def test_acts_in_the_room_are_no_faults(tmp_path: Path, chatroom: ServerProcess) -> None:
    """An owner edits, deletes, reacts and rules, before, in and after a storm: whoever comes back is resumed whole."""
    plan = {"scenario": "storm", "room": "acts", "members": 12, "senders": 2, "rate": 40, "duration": 3, "drain": 10}
    with (
        Client(chatroom.url, "acts") as owner,
        Client(chatroom.url, "acts") as visitor,
        Harness.against(chatroom.url, tmp_path, **{"adapter": "chatroom", **plan}) as harness,
    ):
        # Eighteen acts: of more than twenty at once the server would refuse some.
        acts = {type for _ in range(3) for type in every_act(owner, visitor)}
        ended = harness.ended()
    assert acts == {"edit", "reactions", "rules", "act", "delete", "purge"}
    assert ended.counts(*FAULTS, "refused", "dropped", "failed") == {**NONE, "refused": 0, "dropped": 0, "failed": 0}
    all_came_back(ended, 10)


def every_act(owner: Client, visitor: Client) -> Iterator[str]:
    """Let an owner do everything once, each while others speak, and edit their words into his; the events' types."""
    whom = visitor.welcome["you"]["id"]
    seq = owner.hear("ack", client_id=owner.say("words"))["seq"]
    for kind, act in {
        "edit": {"type": "edit", "message": seq, "text": words_of_another(owner)},
        "reactions": {"type": "react", "message": seq, "kind": "\N{EYES}"},
        "rules": {"type": "rules", "announcement": "welcome"},
        "act": {"type": "mute", "person": whom, "seconds": 60},
        "delete": {"type": "delete", "message": seq},
        "purge": {"type": "purge", "person": whom},
    }.items():
        words_of_another(owner)
        owner.send(**act)
        yield owner.hear(kind)["type"]


def words_of_another(owner: Client) -> str:
    """What the next member of the harness says."""
    while not (text := owner.hear("message")["text"]).startswith("~"):
        pass
    return str(text)


def test_what_the_rate_limit_refuses_is_not_missing(tmp_path: Path) -> None:
    """A server with its own options takes five messages a second of one person, and the report says so."""
    plan = {"rate": 60, "warmup": 0}
    with ServerProcess(tmp_path / "room.db") as server:
        ended = run(server.url, tmp_path / "out", adapter="chatroom", **plan)
    assert ended.counts(*FAULTS) == NONE
    assert ended.figures["refused"] > 10
    assert ended.figures["had_to_get"] == 8 * (60 - ended.figures["refused"])
    assert "rate limit" in ended.words


# The command


def test_a_run_with_its_own_server_leaves_nothing_behind(tmp_path: Path) -> None:
    """No process and no file but its report, whether it ends or is stopped."""
    with own_run(tmp_path, rate=40) as (harness, is_clean):
        ended = harness.ended()
        assert ended.figures["received"] == ended.figures["had_to_get"] > 0
        assert is_clean()


def test_a_run_that_is_stopped_writes_its_report_and_ends_its_server(tmp_path: Path) -> None:
    """Ctrl-C tells all processes, `kill` the first alone; that it was stopped is said first."""
    with contextlib.ExitStack() as stack:
        runs = []
        for name, stop in {"Ctrl-C": Harness.interrupt, "kill": Harness.terminate}.items():
            runs.append((stop, *stack.enter_context(own_run(tmp_path / name, rate=40, duration=600))))
        for stop, harness, is_clean in runs:
            eventually(lambda pid=harness.pid: connections(pid) > 8, 30)
            stop(harness)
            ended = harness.ended()
            assert ended.verdict["headline"].startswith("INVALID: The run was stopped by hand")
            assert ended.counts(*FAULTS) == NONE
            assert is_clean()


def connections(pid: int) -> int:
    """How many sockets a process and its children have open."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return sum(len(one.net_connections()) for one in (root, *root.children(recursive=True)))
    return 0


@contextlib.contextmanager
def own_run(tmp_path: Path, **options: Any) -> Iterator[tuple[Harness, Callable[[], bool]]]:
    """`python -m loadtest run`, and whether nothing is left of it: marked processes, temporary files."""
    mark, temporary = uuid.uuid4().hex, tmp_path / "temporary"
    temporary.mkdir(parents=True)
    environment = {"TMPDIR": str(temporary), "LOADTEST_MARK": mark}
    with Harness.with_own_server(tmp_path / "out", environment, **options) as harness:
        try:
            assert eventually(lambda: marked(mark))
            yield harness, lambda: not marked(mark) and not list(temporary.iterdir())
        finally:
            for process in marked(mark):
                process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have inherited a mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LOADTEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# Somebody else's server


class Stranger(tornado.websocket.WebSocketHandler):
    """A room of a chat server that is not ours: it wants to be greeted, and wraps what is said."""

    rooms: dict[str, dict["Stranger", str]]

    def initialize(self, rooms: dict[str, dict["Stranger", str]]) -> None:
        self.rooms = rooms

    def on_message(self, message: str | bytes) -> None:
        said, here = json.loads(message), self.rooms.setdefault(self.open_args[0], {})
        if said["op"] == "hello":
            here[self] = said["name"]
            self.write_message(json.dumps({"op": "ready", "people": len(here)}))
        elif self in here:
            heard = {"op": "heard", "id": said["id"], "from": here[self], "words": said["words"]}
            for member in here:
                member.write_message(json.dumps(heard))
        else:
            self.close(1008, "say hello first")

    def on_close(self) -> None:
        self.rooms.get(self.open_args[0], {}).pop(self, None)


@contextlib.contextmanager
def strange_server() -> Iterator[str]:
    """A server of somebody else's, in a thread; its address."""
    is_ready, address = threading.Event(), []

    async def serve() -> None:
        address.append(asyncio.get_running_loop())
        over = asyncio.Event()
        address.append(over)
        application = tornado.web.Application([(r"/rooms/(\w+)/socket", Stranger, {"rooms": {}})])
        listener = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server = tornado.httpserver.HTTPServer(application)
        server.add_sockets(listener)
        address.append(f"http://127.0.0.1:{listener[0].getsockname()[1]}")
        is_ready.set()
        await over.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="strange server")
    thread.start()
    is_ready.wait()
    loop, over, url = address
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_the_example_adapter_drives_a_server_that_is_not_ours(tmp_path: Path) -> None:
    """Another address, a greeting first, other fields: every delivery is found all the same."""
    with strange_server() as url:
        ended = run(url, tmp_path, adapter="loadtest/examples/shouting.py:Shouting", rate=60, senders=2, warmup=0)
    assert ended.counts(*FAULTS) == NONE
    assert ended.figures["received"] == 8 * 60


def test_the_example_adapter_is_short_and_documented() -> None:
    """Thirty lines are enough, and the documentation has them as they are."""
    example = (ROOT / "loadtest" / "examples" / "shouting.py").read_text()
    assert len(example.splitlines()) <= 30
    assert example in (ROOT / "loadtest" / "README.md").read_text()


# The idea in forty lines


def test_the_simple_one_runs(tmp_path: Path, chatroom: ServerProcess) -> None:
    """Stock locust and `ws.recv` time deliveries, too, and enter them into locust's own statistics."""
    simple = str(ROOT / "loadtest" / "simple.py")
    options = ["--headless", "-u4", "-r4", "-t4s", "--skip-log", f"--json-file={tmp_path / 'simple'}"]
    command = [sys.executable, "-m", "locust", "-f", simple, "-H", chatroom.url, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "simple.json").read_text())
    assert (entry["name"], entry["num_failures"]) == ("delivery", 0)
    assert entry["num_requests"] >= 4
    assert entry["max_response_time"] > 0


# The tests' own eyes


def test_what_every_run_is_checked_for_can_fail(tmp_path: Path) -> None:
    """An exit code that is not the result's, and an account that does not come out, are seen."""
    result = make_result()
    write_folder(tmp_path, result)
    ended = Ended(result["verdict"]["exit_code"], result["verdict"]["headline"], "", result)
    check(ended, tmp_path)
    with pytest.raises(AssertionError):
        check(replace(ended, exit_code=1), tmp_path)
    result["figures"]["received"] += 1
    with pytest.raises(AssertionError):
        check(ended, tmp_path)
