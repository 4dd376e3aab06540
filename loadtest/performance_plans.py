"""The plans of the performance table: what is put on which server, and which figures of it are held against what.

Owns the loads, the servers of each, and the two bars of a figure: what it must be at least, and what it should reach.
It knows no rounds and no table. Invariant: what a plan measured is given back whole, with what was wrong in it.
"""

import contextlib
import dataclasses
import math
import random
import re
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest import words
from loadtest.biglog import ROOM, big_log
from loadtest.chatter import Broken, chatter
from loadtest.machine import Cores
from loadtest.peers import CHATROOM, PEERS, Serving, serving
from loadtest.swarm import Report, Swarm, fault, figures, swarmed
from loadtest.tlsfront import in_front, tls_lacks

OURS: Final = CHATROOM.name
FRONTED: Final = "chatroom-tls"
DEFLATED: Final = "chatroom-deflate"
SETTLE_S: Final = 2.0
WARMUP_S: Final = 2.0
AT_ONCE: Final = 512  # handshakes under way
BIG_EVENTS: Final = 10_000_000
PAGES: Final = 20
INBOUND_SENDERS: Final = (4, 8, 16, 32)
REST_MEMBERS: Final = 5000
JOINS: Final = "--mode=join --members=10000 --at-once=100"  # the listener of `websockets` holds no more
FILL: Final = "--mode=rate --members=1 --senders=1 --rate=500 --seconds=0.1 --warmup=0"  # the 50 a newcomer is shown


class Bar(NamedTuple):
    """What is asked of a figure, or of its ratio to a rival's."""

    at_least: float | None = None
    reach: float | None = None


@dataclass(frozen=True)
class Row:
    """A figure of a plan: how it is said, whether more of it is better, and what is asked of it."""

    key: str
    title: str
    say: Callable[[float | None], str]
    is_more_better: bool = False
    bar: Bar | None = None  # of our figure itself
    bars: dict[str, Bar] = field(default_factory=dict)  # of its ratio to the figure of each rival
    busy: str = "server_cpu"  # the figure that says how busy the server was


@dataclass(frozen=True)
class Setting:
    """What holds for every run."""

    cores: Cores
    seconds: float
    crowd_seconds: float
    cache: Path
    progress: Callable[[str], None]
    big_events: int = BIG_EVENTS


@dataclass(frozen=True)
class Outcome:
    """What one run gave: its figures, every report, and why it must not be quoted, if so."""

    figures: dict[str, float]
    reports: list[Report] = field(default_factory=list)
    trouble: str = ""


Measure = Callable[[Setting, str], Outcome]


@dataclass(frozen=True)
class Plan:
    """A load, the servers it is put on in turn (the first is ours), and what is looked at."""

    name: str
    what: str
    servers: tuple[str, ...]
    measure: Measure
    rows: tuple[Row, ...]
    lacks: Callable[[], str] = str  # half a sentence, or nothing


# Runs


@contextlib.contextmanager
def server_of(setting: Setting, name: str) -> Iterator[tuple[Serving, int, tuple[str, ...]]]:
    """Start a server and yield it, the port to go to, and what the swarm has to be told besides."""
    with serving(PEERS[OURS if name == FRONTED else name], setting.cores) as server:
        if name != FRONTED:
            yield server, server.port, ()
            return
        with in_front(server.port, setting.cores) as port:
            yield server, port, ("--tls",)


def swarm_of(up: tuple[Serving, int, tuple[str, ...]], name: str, options: str) -> Swarm:
    """Return a swarm for a server that is up."""
    server, port, more = up
    adapter = CHATROOM.adapter if name == FRONTED else PEERS[name].adapter
    return Swarm(port, *options.split(), *more, adapter=adapter, server_pid=server.pid)


def run_swarm(up: tuple[Serving, int, tuple[str, ...]], name: str, options: str) -> Report:
    """Run a swarm to its end."""
    with swarm_of(up, name, options) as there:
        there.await_entered()
        return there.finish()


def outcome(server: Serving, reports: list[Report], found: dict[str, float], trouble: str = "") -> Outcome:
    """Put together what reports say, and whether all is well."""
    troubles = [said for said in (trouble, *map(fault, reports)) if said]
    if not server.is_up:
        troubles.append(f"the server ended during the run ({server.last_words or 'without a word'})")
    return Outcome(found, reports, "; ".join(troubles))


def swarm(options: str, *, seconds: Callable[[Setting], float] = lambda setting: setting.seconds) -> Measure:
    """Return the plan of one swarm with these options."""

    def measure(setting: Setting, name: str) -> Outcome:
        lasting = f"--seconds={seconds(setting):g} --warmup={WARMUP_S:g} --settle={SETTLE_S:g} --at-once={AT_ONCE}"
        with server_of(setting, name) as up:
            with swarm_of(up, name, f"{lasting} {options}") as there:
                there.await_entered()
                before = late(up[0].port) if name == OURS else {}
                report = there.finish()
            found = {"late_ms": most_late_ms(before, late(up[0].port))} if name == OURS else {}
            return outcome(up[0], [report], {**figures(report), **found})

    return measure


def joins(setting: Setting, name: str) -> Outcome:
    """All at once; the chat room has something to tell each."""
    with server_of(setting, name) as up:
        filled = [run_swarm(up, name, FILL)] if name == OURS else []
        report = run_swarm(up, name, JOINS)
        return outcome(up[0], [*filled, report], figures(report))


def inbound(setting: Setting, name: str) -> Outcome:
    """One room after the other, with more senders each time."""
    with server_of(setting, name) as up:
        reports = []
        for senders in INBOUND_SENDERS:
            lasting = f"--seconds={setting.seconds:g} --warmup={WARMUP_S:g} --room=of-{senders}"
            reports.append(run_swarm(up, name, f"--mode=inbound --members={senders} --inflight=64 {lasting}"))
        found = zip(INBOUND_SENDERS, map(figures, reports), strict=True)
        return outcome(up[0], reports, {f"{key}.{number}": one[key] for number, one in found for key in CPU_AND_ACKS})


CPU_AND_ACKS: Final = ("acks_per_s", "server_cpu", "own_cpu")


def chatting(setting: Setting, name: str) -> Outcome:
    """Sentences instead of padding, with permessage-deflate or without."""
    with serving(CHATROOM, setting.cores) as server:
        try:
            found = chatter(server.port, server.pid, 300, 20, setting.seconds, deflates=name == DEFLATED)
        except Broken as error:
            return outcome(server, [], {}, trouble=str(error))
        beyond = found["bytes_per_delivery"] - found["text_bytes"]
        return outcome(server, [], {**found, "beyond_bytes": beyond})


def rest(setting: Setting, name: str) -> Outcome:
    """Members who sit still."""
    with server_of(setting, name) as (server, port, _):
        before_bytes = memory_bytes(server.pid)
        still = (f"--members={REST_MEMBERS}", "--mode=idle", f"--at-once={AT_ONCE}")
        with Swarm(port, *still, adapter=PEERS[name].adapter) as sitting:
            sitting.await_entered()
            time.sleep(SETTLE_S)
            each_bytes = (memory_bytes(server.pid) - before_bytes) / REST_MEMBERS
            report = sitting.end()
        return outcome(server, [report], {"bytes_per_member": each_bytes})


def stalled(setting: Setting, name: str) -> Outcome:
    """Members whose network takes nothing more, while somebody speaks until each has missed twice his bound."""
    options = ("--mode=stall", "--members=10000", "--text-bytes=1000", "--say-bytes=2e6", "--inflight=16")
    more = ("--receive-bytes=4096", f"--settle={SETTLE_S:g}", f"--at-once={AT_ONCE}")
    with server_of(setting, name) as (server, port, _):
        with Swarm(port, *options, *more, adapter=PEERS[name].adapter, server_pid=server.pid) as swarm_there:
            swarm_there.await_entered()
            before_bytes = memory_bytes(server.pid)
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM begins anew
            report = swarm_there.report(600)
        found = {
            "growth_bytes": memory_bytes(server.pid, "VmHWM") - before_bytes,
            "cut_off": metric(server.port, "chatroom_cut_off_members_total"),
        }
        return outcome(server, [report], {**figures(report), **found})


def log10m(setting: Setting, name: str) -> Outcome:
    """Start on a long log, enter its room, and read in its middle."""
    database = big_log(setting.big_events, setting.cache, setting.cores, setting.progress)
    command = [*CHATROOM.command(database.parent)]
    peer = dataclasses.replace(CHATROOM, command=lambda _: command)
    started_s = time.monotonic()
    with serving(peer, setting.cores) as server:
        greeted_s = time.monotonic() - started_s
        report = swarmed(server.port, f"--mode=join --members=1 --room={ROOM}", adapter=peer.adapter)
        first_s = time.monotonic() - started_s
        pages_ms = [page_ms(server.port, seq) for seq in middles(setting.big_events)]
        found = {
            "greeting_ms": greeted_s * 1000,
            "first_welcome_ms": first_s * 1000,
            "page_ms": statistics.median(pages_ms),
            "page_max_ms": max(pages_ms),
        }
        return outcome(server, [report], found)


def middles(events: int) -> list[int]:
    """Return where to read, the same places each time."""
    return random.Random(events).sample(range(events // 4, 3 * events // 4), PAGES)


def page_ms(port: int, before: int) -> float:
    """Return how long a page of the past takes."""
    started_s = time.monotonic()
    get(port, f"/api/rooms/{ROOM}/messages?before={before}&limit=50")
    return (time.monotonic() - started_s) * 1000


def get(port: int, path: str) -> str:
    """Return what the chat room answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def metric(port: int, name: str) -> float:
    """Return a counter of the chat room, all its labels together."""
    lines = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", get(port, "/metrics"), re.MULTILINE)
    return sum(map(float, lines))


def late(port: int) -> dict[float, float]:
    """Return how often the chat room's loop was at most so late, by seconds."""
    lines = re.findall(r'^chatroom_late_seconds_bucket\{le="(.+)"\} (\S+)$', get(port, "/metrics"), re.MULTILINE)
    return {float(bound_s): float(count) for bound_s, count in lines}


def most_late_ms(before: dict[float, float], after: dict[float, float]) -> float:
    """Return the bound under which it was always since then."""
    since = {bound_s: count - before[bound_s] for bound_s, count in after.items()}
    return 1000 * min(bound_s for bound_s, count in since.items() if count == since[math.inf])


def memory_bytes(pid: int, name: str = "VmRSS") -> int:
    """Return how much memory a process holds, or held at most (`VmHWM`)."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


# The table


def crowd_seconds(setting: Setting) -> float:
    """At a message a second a few seconds are too few."""
    return max(setting.seconds, 20.0)


def bytes_said(value: float | None) -> str:
    """Return a number of bytes that is small."""
    return words.NONE if value is None or math.isnan(value) else f"{value:.1f} bytes"


def micro(value: float | None) -> str:
    """Return a very short time."""
    return words.NONE if value is None or math.isnan(value) else f"{value:.1f} µs"


P99: Final = ("latency_ms.p99", "p99", words.milliseconds)
RATE: Final = ("deliveries_per_s", "deliveries/s", words.count)
FLOOD: Final = "--mode=inflight --members=500 --senders=8 --inflight="
STEADY: Final = "--mode=rate --members=1000 --senders=8 --rate="
CROWD: Final = "--mode=rate --members=10000 --senders=8 --bystander --drain=10 --rate="
LATE: Final = ("late_ms", "the loop is late for what is due, at most", words.milliseconds)
BYSTANDER: Final = ("held_ms.max", "a ping from another room, longest", words.milliseconds)

PLANS: Final = {
    plan.name: plan
    for plan in (
        Plan(
            "flood64", "500 members, 64 messages under way, the next when all have one", (OURS, "bun", "c-batch"),
            swarm(f"{FLOOD}64"),
            (Row(*RATE, True, bars={"bun": Bar(0.7, 1.0), "c-batch": Bar()}),),
        ),
        Plan(
            "flood8", "the same with 8 under way", (OURS, "bun", "c-batch"),
            swarm(f"{FLOOD}8"),
            (Row(*RATE, True, bars={"bun": Bar(at_least=0.6), "c-batch": Bar(reach=0.9)}),),
        ),
        Plan(
            "steady20", "1,000 members, 20 messages/s", (OURS, "c", "bun"),
            swarm(f"{STEADY}20"),
            (Row(*P99, bars={"c": Bar(1.2, 1.0), "bun": Bar()}),),
        ),
        Plan(
            "steady100", "1,000 members, 100 messages/s", (OURS, "c", "bun"),
            swarm(f"{STEADY}100"),
            (Row(*P99, bars={"c": Bar(2.0, 1.5), "bun": Bar()}),),
        ),
        Plan(
            "crowd1", "10,000 members, a message a second", (OURS, "c"),
            swarm(f"{CROWD}1", seconds=crowd_seconds),
            (
                Row("last_member_ms.p50", "the last member has it, p50", words.milliseconds, bars={"c": Bar(1.2, 1.0)}),
                Row("last_member_ms.max", "the last member has it, max", words.milliseconds, bars={"c": Bar()}),
                Row(*LATE, bar=Bar(at_least=20.0)),
                Row(*BYSTANDER, bars={"c": Bar()}),
            ),
        ),
        Plan(
            "crowd10", "10,000 members, 10 messages/s", (OURS, "c"),
            swarm(f"{CROWD}10", seconds=lambda setting: setting.crowd_seconds),
            (
                Row(*P99, bars={"c": Bar(1.3, 1.0)}),
                Row("latency_ms.p99.9", "p99.9", words.milliseconds, bars={"c": Bar(1.3, 1.0)}),
                Row(*BYSTANDER, bars={"c": Bar()}),
            ),
        ),
        Plan(
            "joins", "10,000 come in at once; ours tells each the 50 newest messages", (OURS, "websockets"),
            joins,
            (Row("enter_s", "until the last is in", words.seconds, bars={"websockets": Bar(1.5, 1.0)}),),
        ),
        Plan(
            "rooms", "3,000 rooms of 3, everybody speaks in turn, 1,000 messages/s in all", (OURS,),
            swarm("--mode=rate --rooms=3000 --members=3 --senders=3 --rate=1000"),
            (Row(*P99, bar=Bar(at_least=50.0)),),
        ),
        Plan(
            "inbound", "senders flat out in one room, 64 messages of each under way", (OURS,),
            inbound,
            tuple(
                Row(f"acks_per_s.{senders}", f"{senders} senders: stored and acked/s", words.count, True,
                    bar=Bar(25_000, 40_000), busy=f"server_cpu.{senders}")
                for senders in INBOUND_SENDERS
            ),
        ),
        Plan(
            "rest", "5,000 members sit still", (OURS,),
            rest,
            (Row("bytes_per_member", "memory a member", words.memory, bar=Bar(15_000, 12_000)),),
        ),
        Plan(
            "stalled", "10,000 members stop reading, somebody speaks: 2 MB for each", (OURS,),
            stalled,
            (
                Row("growth_bytes", "the server grows by, at most", words.memory, bar=Bar(at_least=256 * 2**20)),
                Row("cut_off", "members cut off", words.count, True),
            ),
        ),
        Plan(
            "log10m", "a log of 10,000,000 events in one room", (OURS,),
            log10m,
            (
                Row("greeting_ms", "from the start to the greeting", words.milliseconds),
                Row("first_welcome_ms", "from the start to the first newcomer", words.milliseconds,
                    bar=Bar(at_least=1000.0)),
                Row("page_ms", "a page from its middle, p50", words.milliseconds, bar=Bar(at_least=20.0)),
                Row("page_max_ms", "a page from its middle, longest of 20", words.milliseconds),
            ),
        ),
        Plan(
            "bytes", "what a delivery costs on the wire beyond its text of 100 bytes", (OURS,),
            swarm("--mode=inflight --members=50 --senders=8 --inflight=8", seconds=lambda _: 1.0),
            (Row("overhead_bytes", "bytes beyond the text", bytes_said, bar=Bar(at_least=100.0)),),
        ),
        Plan(
            "deflate", "300 members chat in English at 20 messages/s, with permessage-deflate, and without",
            (DEFLATED, OURS),
            chatting,
            (
                Row("bytes_per_delivery", "bytes a delivery, text and all", bytes_said, bars={OURS: Bar(at_least=0.5)}),
                Row("beyond_bytes", "bytes beyond the text", bytes_said, bar=Bar(at_least=100.0), bars={OURS: Bar()}),
                Row("cpu_us_per_delivery", "the server's time a delivery", micro, bars={OURS: Bar(at_least=1.3)}),
            ),
        ),
        Plan(
            "tls", "1,000 members, 20 messages/s, behind nginx with TLS, and without both", (FRONTED, OURS),
            swarm(f"{STEADY}20"),
            (Row(*P99, bars={OURS: Bar(at_least=1.5)}),),
            lacks=tls_lacks,
        ),
    )
}  # fmt: skip


def rivals(plans: list[Plan]) -> list[str]:
    """Return which servers besides our own are needed."""
    return list(dict.fromkeys(name for plan in plans for name in plan.servers if name in PEERS and name != OURS))


def facts(found: dict[str, float]) -> dict[str, Any]:
    """Return how busy both sides were, where it was measured."""
    return {name: found[name] for name in ("server_cpu", "own_cpu") if name in found}
