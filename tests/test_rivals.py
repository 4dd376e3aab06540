"""The comparison: who runs when, what is said of it, and that everything started is ended.

Servers and harness are tiny programs of their own here; what the real ones do is tested with them.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest import rivals
from loadtest.peers import PEERS, Peer
from loadtest.rivals import COLUMNS, MARK, Run, Spread, cell, main, missing, ratios, table, turns, validity
from tests.support import DEADLINE_S, ROOT, eventually

P99 = COLUMNS[1]
STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
NAMES = ("chatroom", "tornado", "c")

CORES = os.sched_getaffinity(0)
ALIKE = {name: {"latency_p99_ms": 2.0} for name in NAMES}
SERVER = "import time; print('http://localhost:7/', flush=True); time.sleep(600)"

# Writes a result by the name of its folder, and what it was asked to do into `asked`.
HARNESS = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
with open({asked!r}, "a") as file:
    print(json.dumps([out.parent.name, *sys.argv[1:]]), file=file)
figures = {figures!r}[out.name]
is_valid = figures is not None and figures.pop("is_valid", True)
reasons = [] if is_valid else ["Messages were sent late: p99 9 ms, the limit is 2 ms"]
verdict = dict(is_valid=is_valid, reasons=reasons, wrong=[], goals=[])
if figures is not None:
    result = dict(format=1, figures=figures, verdict=verdict, machine=dict(cpu="a pocket calculator", cores=2))
    (out / "result.json").write_text(json.dumps(result))
print("some words")
print("the last words")
sys.exit({status})
"""


def run(server: str, number: int, is_valid: bool = True, wrong: tuple[str, ...] = (), **figures: float) -> Run:
    """A run as the harness leaves it."""
    verdict = {"is_valid": is_valid, "reasons": [] if is_valid else ["too late"], "wrong": list(wrong)}
    return Run(server, number, Path("/nowhere"), {"figures": figures, "verdict": verdict})


def of_p99(server: str, *values: float) -> list[Run]:
    """A valid run in each round."""
    return [run(server, number, latency_p99_ms=value) for number, value in enumerate(values, 1)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Servers that serve nothing, instead of the real ones."""
    for name in NAMES:
        adapter = "chatroom" if name == "chatroom" else "plain"
        monkeypatch.setitem(PEERS, name, Peer(name, f"a {name}", lambda _: [sys.executable, "-c", SERVER], adapter))
    return tmp_path


def harness_is(
    monkeypatch: pytest.MonkeyPatch, folder: Path, figures: dict[str, dict[str, Any] | None], status: int = 0
) -> None:
    """Let this stand for the harness."""
    text = HARNESS.format(asked=str(folder / "asked"), figures=figures, status=status)
    monkeypatch.setattr(rivals, "HARNESS", [sys.executable, "-c", text])


def asked(folder: Path) -> list[list[str]]:
    """Each call of the harness: the round's folder and its arguments."""
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def test_servers_take_turns() -> None:
    """Every server once, then every server again: a slow drift of the machine meets all of them."""
    assert list(turns(["a", "b", "c"], 2)) == [(1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "b"), (2, "c")]


def test_a_ratio_is_made_within_a_round() -> None:
    """Not of medians: each round's figure by ours of the same round."""
    runs = of_p99("chatroom", 1, 2, 10) + of_p99("tornado", 4, 6, 20)
    assert ratios(runs, P99.key, "tornado") == [4, 3, 2]
    assert cell(runs, "tornado", P99) == "6.00 ms · × 3.00 (2.00..4.00)"


def test_our_own_cell_shows_its_range() -> None:
    """A ratio to itself says nothing."""
    assert cell(of_p99("chatroom", 1, 2, 10), "chatroom", P99) == "2.00 ms (1.00 ms..10.0 ms)"


def test_without_us_there_is_no_ratio() -> None:
    """Then every server shows its range."""
    assert cell(of_p99("tornado", 4, 6, 20), "tornado", P99) == "6.00 ms (4.00 ms..20.0 ms)"


def test_an_invalid_run_enters_no_median_and_no_ratio() -> None:
    """Neither theirs nor ours: the other rounds are what is left."""
    theirs = [*of_p99("tornado", 4, 6, 20), run("tornado", 4, is_valid=False, latency_p99_ms=1000)]
    ours = [*of_p99("chatroom", 1, 2), run("chatroom", 3, is_valid=False, latency_p99_ms=0.001)]
    ours.append(run("chatroom", 4, latency_p99_ms=1))
    assert cell(ours + theirs, "tornado", P99) == "6.00 ms · × 3.50 (3.00..4.00)"
    assert validity(theirs, "tornado") == "valid 3/4"


def test_a_server_without_a_valid_run_is_marked() -> None:
    """Every figure of it is, and none has a ratio."""
    runs = [*of_p99("chatroom", 1), run("tornado", 1, is_valid=False, latency_p99_ms=7, missing=3)]
    assert cell(runs, "tornado", P99) == f"{MARK} 7.00 ms"
    assert missing(runs, "tornado") == f"{MARK} 3"
    row = table(runs, ["chatroom", "tornado"]).splitlines()[-1]
    assert "×" not in row
    assert row.endswith(f"| {MARK} 3 | valid 0/1 |")


def test_a_run_whose_server_ended_is_not_valid() -> None:
    """Whatever the harness says of it."""
    ended = Run("tornado", 1, Path("/nowhere"), run("tornado", 1).result, trouble="the server ended during the run")
    assert not ended.is_valid
    assert ended.reasons == ["the server ended during the run"]


def test_what_never_came_is_no_number() -> None:
    """An infinite p99 is `never`, and so is its ratio; where ours is infinite there is none."""
    ours, theirs = of_p99("chatroom", 1, 1), of_p99("tornado", float("inf"), float("inf"))
    assert cell(ours + theirs, "tornado", P99) == "never · × never (never..never)"
    assert ratios(of_p99("chatroom", float("inf")) + of_p99("tornado", 1), P99.key, "tornado") == []


def test_what_was_not_measured_is_left_out() -> None:
    """A figure that only some runs have comes from those; one that none has is a dash."""
    nan = float("nan")
    runs = of_p99("chatroom", 1, nan) + of_p99("tornado", 4, 4)
    assert ratios(runs, P99.key, "tornado") == [4]
    assert cell([run("tornado", 1)], "tornado", P99) == "–"
    assert Spread.of([nan]) is None


def test_wrong_deliveries_are_counted_beside_the_verdict() -> None:
    """And what is missing is added up over the rounds."""
    runs = [run("c", 1, missing=2, wrong=("2 missing",)), run("c", 2, missing=3, wrong=("3 missing",)), run("c", 3)]
    assert validity(runs, "c") == "valid 3/3, wrong deliveries in 2"
    assert missing(runs[:2], "c") == "5"
    assert rivals.troubles(runs)[1] == "- round 2, c: wrong deliveries: 3 missing"


def test_every_server_is_run_in_every_round(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In turns, with its adapter, the plan passed through, a folder of its own, and the address it printed."""
    harness_is(monkeypatch, small, ALIKE)
    plan = ["--members", "5", "--slo", "p99<1ms"]
    assert main(["--servers", "chatroom, c", "--rounds", "2", *plan, "--out", str(small / "out")]) == 0
    out = (small / "out").resolve()
    assert asked(small) == [
        [
            f"round{number}",
            "-H",
            "ws://127.0.0.1:7",
            "--adapter",
            adapter,
            "--out",
            f"{out}/round{number}/{name}",
            *plan,
        ]
        for number in (1, 2)
        for name, adapter in (("chatroom", "chatroom"), ("c", "plain"))
    ]


def test_the_table_is_printed_and_kept(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Markdown for people, and as JSON with every figure's spread and every result's path."""
    harness_is(monkeypatch, small, {"chatroom": {"latency_p99_ms": 2.0}, "c": {"latency_p99_ms": 1.0, "missing": 0}})
    assert main(["--servers", "chatroom,c", "--rounds", "3", "--out", str(small)]) == 0
    kept = (small / "rivals.md").read_text()
    assert capsys.readouterr().out == f"{kept}\n{small.resolve() / 'rivals.md'}\n"
    assert "| c | – | 1.00 ms · × 0.500 (0.500..0.500) |" in kept
    assert "- c: a c" in kept
    assert "a pocket calculator" in kept
    comparison = json.loads((small / "rivals.json").read_text())
    p99 = comparison["servers"]["c"]["figures"]["latency_p99_ms"]
    assert p99["ratio"] == {"median": 0.5, "least": 0.5, "most": 0.5}
    paths = [small / each["result"] for each in comparison["servers"]["c"]["runs"]]
    assert len({path for path in paths if path.exists()}) == 3
    assert comparison["is_complete"]


def test_an_invalid_run_is_said_with_its_reason(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the table and below it, and the exit code is that of an invalid run."""
    figures = {"chatroom": {"latency_p99_ms": 2.0}, "c": {"latency_p99_ms": 1.0, "is_valid": False}}
    harness_is(monkeypatch, small, figures)
    assert main(["--servers", "chatroom,c", "--rounds", "1", "--out", str(small)]) == rivals.INVALID
    said = capsys.readouterr().out
    assert f"| {MARK} 1.00 ms |" in said
    assert "- round 1, c: INVALID: Messages were sent late: p99 9 ms, the limit is 2 ms.\n" in said


def test_a_harness_without_a_result_is_quoted(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result that an earlier comparison left in the folder is not taken for it."""
    harness_is(monkeypatch, small, {"c": {"latency_p99_ms": 2.0}})
    assert main(["--servers", "c", "--rounds", "1", "--out", str(small)]) == 0
    harness_is(monkeypatch, small, {"c": None}, status=1)
    assert main(["--servers", "c", "--rounds", "1", "--out", str(small)]) == rivals.INVALID
    assert "INVALID: the harness ended with 1 and no result (the last words).\n" in capsys.readouterr().out


def test_a_plan_that_cannot_be_is_refused_once(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The harness' own sentence, and no other server is tried."""
    harness_is(monkeypatch, small, dict.fromkeys(NAMES), status=2)
    assert main(["--servers", "chatroom,c", "--out", str(small)]) == rivals.BAD_PLAN
    assert capsys.readouterr().err.endswith("rivals: the last words.\n")
    assert len(asked(small)) == 1


def test_who_cannot_run_is_left_out_with_a_sentence(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are compared all the same."""
    harness_is(monkeypatch, small, ALIKE)
    nothing = Peer("c", "", lambda _: [], lacks=lambda: "it is not compiled", fetch=lambda: "there is no C compiler")
    monkeypatch.setitem(PEERS, "c", nothing)
    assert main(["--servers", "chatroom,c,tornado", "--rounds", "1", "--out", str(small)]) == 0
    assert "\n- c was left out: there is no C compiler.\n" in capsys.readouterr().out
    assert [call[-1] for call in asked(small)] == [str(small.resolve() / "round1" / name) for name in NAMES[:2]]
    assert main(["--servers", "c", "--out", str(small)]) == rivals.BAD_PLAN
    assert capsys.readouterr().err.endswith("rivals: none of these servers can run here.\n")


def test_a_server_that_does_not_start_costs_its_round_only(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a line that says so, and the others have their figures."""
    harness_is(monkeypatch, small, ALIKE)
    broken = Peer("c", "", lambda _: [sys.executable, "-c", "import sys; sys.exit('no port is free')"])
    monkeypatch.setitem(PEERS, "c", broken)
    assert main(["--servers", "c,tornado", "--rounds", "1", "--out", str(small)]) == rivals.INVALID
    said = capsys.readouterr().out
    assert "- round 1, c: INVALID: it did not start (no port is free).\n" in said
    assert "| tornado | – | 2.00 ms" in said


def test_a_server_that_ends_in_mid_run_is_noticed(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of a server that was not there to the end are no figures."""
    text = "import os, signal, sys; print('http://localhost:%d/' % os.getpid(), flush=True); signal.pause()"
    monkeypatch.setitem(PEERS, "c", Peer("c", "", lambda _: [sys.executable, "-c", text]))
    harness = """
import json, os, pathlib, re, select, signal, sys
server = os.pidfd_open(int(re.search(r":(\\d+)$", sys.argv[2])[1]))
signal.pidfd_send_signal(server, signal.SIGTERM)
select.select([server], [], [])  # until it has ended
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
result = dict(format=1, figures={}, verdict=dict(is_valid=True, reasons=[], wrong=[]))
(out / "result.json").write_text(json.dumps(result))
"""
    monkeypatch.setattr(rivals, "HARNESS", [sys.executable, "-c", harness])
    assert main(["--servers", "c", "--rounds", "1", "--out", str(small)]) == rivals.INVALID
    assert "INVALID: the server ended during the run (without a word).\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--servers", "chatroom,jabber"], "--servers: jabber is none of chatroom, tornado,"),
        (["--servers", ","], "--servers: nothing is none of chatroom,"),
        (["--rounds", "0"], "--rounds=0: give at least one."),
        (["--adapter=plain"], "--adapter=plain is set for each server here: leave it out."),
        (["-H", "ws://localhost:1"], "-H is set for each server here: leave it out."),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one sentence and the exit code of a plan that cannot be."""
    assert main(options) == rivals.BAD_PLAN
    said = capsys.readouterr().err
    assert said.startswith(f"rivals: {sentence}")
    assert said.count("\n") == 1


def test_our_own_wrong_deliveries_are_an_exit_code() -> None:
    """Those of others are theirs; an invalid run outranks both."""

    def code(*runs: Run) -> int:
        names = [each.server for each in runs]
        return rivals.Comparison(names, {}, 1, [], rivals.Cores(), "", list(runs)).exit_code

    wrong = ("1 missing",)
    assert code(run("chatroom", 1, wrong=wrong), run("c", 1)) == rivals.WRONG
    assert code(run("chatroom", 1), run("c", 1, wrong=wrong)) == 0
    assert code(run("chatroom", 1, wrong=wrong), run("c", 1, is_valid=False)) == rivals.INVALID


@pytest.mark.parametrize("number", STOPS)
def test_whatever_stops_it_ends_all_it_started(tmp_path: Path, number: signal.Signals) -> None:
    """Server and harness with their children are gone, and what was measured before is written."""
    server = f"import os; open({str(tmp_path)!r} + '/server', 'w').write(str(os.getpid()))\n{SERVER}"
    harness = f"""
import os, pathlib, subprocess, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
if out.parent.name == "round1":
    verdict = '{{"is_valid": true, "reasons": [], "wrong": []}}'
    (out / "result.json").write_text('{{"format": 1, "figures": {{}}, "verdict": ' + verdict + '}}')
    sys.exit()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
file = pathlib.Path({str(tmp_path)!r}, "harness")
file.with_suffix(".new").write_text(f"{{os.getpid()}} {{child.pid}}")
file.with_suffix(".new").replace(file)
child.wait()
"""
    program = f"""
import sys
from loadtest import rivals
from loadtest.peers import PEERS, Peer
PEERS["c"] = Peer("c", "", lambda _: [sys.executable, "-c", {server!r}])
rivals.HARNESS = [sys.executable, "-c", {harness!r}]
sys.exit(rivals.main(["--servers", "c", "--out", {str(tmp_path)!r}]))
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        pids = eventually((tmp_path / "harness").exists) and (tmp_path / "harness").read_text().split()
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == rivals.STOPPED
    pids.append((tmp_path / "server").read_text())
    eventually(lambda: not any(is_running(int(pid)) for pid in pids))
    assert "STOPPED after 1 of the runs" in (tmp_path / "rivals.md").read_text()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, whose own parent has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_afterwards_we_are_as_we_were(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same cores, with the same answers to signals."""
    harness_is(monkeypatch, small, {"c": {"latency_p99_ms": 2.0}})
    before = [signal.getsignal(number) for number in STOPS]
    assert main(["--servers", "c", "--rounds", "1", "--out", str(small)]) == 0
    assert [signal.getsignal(number) for number in STOPS] == before
    assert os.sched_getaffinity(0) == CORES


def test_server_and_harness_are_on_cores_of_their_own(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server on the first, the harness on the others; on a machine of one core both are where they may be."""
    look = f"import os, sys; print(sorted(os.sched_getaffinity(0)), file=open({str(small)!r} + '/%s', 'w'))\n"
    monkeypatch.setitem(PEERS, "c", Peer("c", "", lambda _: [sys.executable, "-c", look % "server" + SERVER]))
    monkeypatch.setattr(rivals, "HARNESS", [sys.executable, "-c", look % "harness"])
    main(["--servers", "c", "--rounds", "1", "--out", str(small)])
    first, *others = sorted(CORES)
    assert json.loads((small / "server").read_text()) == [first]
    assert json.loads((small / "harness").read_text()) == (others or [first])


def test_a_second_ctrl_c_does_not_interrupt_the_ending() -> None:
    """Whoever is impatient leaves nothing running."""
    endings = []
    with pytest.raises(KeyboardInterrupt), rivals.taken_over(rivals.Cores()):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in STOPS:
                signal.raise_signal(number)
                endings.append(number)
    assert endings == STOPS
