"""The plan: what a run is to do, as the options say it, checked before anything is started.

Owns the options, their checks, and which worker seats which member. It knows no socket and no run.
Invariant: the workers get the master's plan and deal the seats alike: nothing has to be agreed on but the start.
"""

import math
import resource
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from loadtest import adapters, schedule, verdict
from loadtest.account import MAX_SENDERS
from loadtest.scenarios import SCENARIOS, defaults
from loadtest.tag import MIN_TEXT_BYTES

DEFAULT_HOST: Final = "http://localhost:8888"
FILES_BESIDES: Final = 200  # a worker's open files that are no members
MAX_ROOMS: Final = 1 << 16
PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

# name, type, unit and meaning; the defaults are the scenario's
NUMBERS: Final = (
    ("members", int, "how many members; locust's own --users means the same"),
    ("rooms", int, "over how many rooms they are dealt"),
    ("senders", int, f"how many in each room also speak (at most {MAX_SENDERS})"),
    ("rate", float, "messages a second, all senders together"),
    ("text-bytes", int, f"size of a message's text (at least {MIN_TEXT_BYTES})"),
    ("warmup", float, "seconds that are sent and checked, but not timed"),
    ("duration", float, "seconds that are measured; 0: until stopped"),
    ("drain", float, "seconds to wait for the last deliveries; what comes later is missing"),
    ("churn", float, "members a second who leave, while others enter"),
    ("stuck", int, "how many of the members never read"),
)


@dataclass(frozen=True)
class Seat:
    """One member's place: his number among all, his room, and his number as a sender there, if he is one."""

    number: int
    room: int
    sender: int | None
    is_stuck: bool


@dataclass(frozen=True)
class Plan:
    """Everything that a run was asked to do."""

    scenario: str
    members: int
    rooms: int
    senders: int  # in each room
    rate: float
    arrivals: str
    text_bytes: int
    warmup_s: float
    duration_s: float  # inf: until stopped
    drain_s: float
    churn: float
    stuck: int
    slo: str
    adapter: str
    room: str
    is_insecure: bool
    seed: int

    @property
    def is_climbing(self) -> bool:
        """Whether members are added until something fails."""
        return self.scenario == "capacity"

    @property
    def in_flight(self) -> int:
        """How many messages are always under way, the next sent when everybody has one; 0: they are sent when due."""
        kind, _, count = self.arrivals.partition(":")
        return int(count) if kind == "inflight" and count.isascii() and count.isdigit() else 0

    def seat(self, local: int, worker: int, workers: int) -> Seat:
        """Return the seat of a worker's `local`-th member: dealt like cards, to the workers and to the rooms."""
        number = local * workers + worker
        ordinal, room = divmod(number, self.rooms)
        sender = ordinal if ordinal < self.senders else None
        is_stuck = sender is None and self.members - self.stuck <= number < self.members
        return Seat(number, room, sender, is_stuck)

    def worker_of(self, room: int, sender: int, workers: int) -> int:
        """Return which worker speaks for a sender."""
        return (sender * self.rooms + room) % workers

    def offsets_ns(self, seat: Seat) -> Iterator[int]:
        """Return when a sender speaks, counted from the start of the warm-up."""
        if self.in_flight:
            return iter(())
        share = (seat.sender or 0) * self.rooms + seat.room
        seconds = math.inf if self.is_climbing else self.warmup_s + self.duration_s
        return iter(schedule.offsets(self.arrivals, self.rate, seconds, share, self.senders * self.rooms, self.seed))

    def room_name(self, number: int) -> str:
        """Return what a room is called."""
        return self.room if self.rooms == 1 else f"{self.room}-{number}"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as the result keeps it."""
        return {**asdict(self), "duration_s": self.duration_s if self.duration_s < math.inf else None}


def add_options(parser: ArgumentParser) -> None:
    """Tell locust's command line, and its page, of the options."""
    group = parser.add_argument_group("fan-out", "what the chat room's members do; unless given, as the scenario says")
    names = "; ".join(f"{name}: {what}" for name, (what, _) in SCENARIOS.items())
    group.add_argument("--scenario", default="steady", choices=list(SCENARIOS), help=names)
    for name, _, what in NUMBERS:
        group.add_argument(f"--{name}", default="", metavar="N", help=what)
    group.add_argument("--arrivals", default="", help="constant, poisson, burst:N, or inflight:N (no rate)")
    group.add_argument("--slo", default="", help='goals, as "p99<50ms,missing==0"; met or not is the exit code')
    group.add_argument("--adapter", default="chatroom", help="chatroom, plain, or path/to/file.py:ClassName")
    group.add_argument(
        "--room", default="load", help="the room's name; with several rooms they are NAME-0, NAME-1, ..."
    )
    group.add_argument("--insecure", action="store_true", help="accept any TLS certificate")
    group.add_argument("--seed", default="0", help="of poisson arrivals and churn: the same seed, the same plan")
    group.add_argument("--out", default="", help="folder for result.json, latency.hgrm and report.html")


def read_plan(options: Namespace, *, is_stopped_by_shape: bool = False) -> Plan:
    """Return the plan that the options ask for; one that locust stops (--run-time, a load shape) has no end itself.

    Raises ValueError, one sentence, for a plan that cannot be.
    """
    given = vars(options)
    values = defaults(given["scenario"])
    for name, kind, _ in NUMBERS:
        values |= _number(name, kind, given)
    values |= {name: given[name] for name in ("arrivals", "slo") if given[name]}
    if not given["members"] and given.get("num_users"):
        values["members"] = given["num_users"]
    if (given.get("run_time") or is_stopped_by_shape) and not given["duration"]:
        values["duration"] = 0.0
    plan = Plan(
        scenario=given["scenario"],
        **{name: values[name] for name in ("members", "rooms", "senders", "rate", "arrivals", "text_bytes")},
        warmup_s=values["warmup"],
        duration_s=values["duration"] or math.inf,
        drain_s=values["drain"],
        **{name: values[name] for name in ("churn", "stuck", "slo")},
        adapter=given["adapter"],
        room=given["room"],
        is_insecure=given["insecure"],
        seed=_number("seed", int, given).get("seed", 0),
    )
    _check(plan)
    return plan


def _number(name: str, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an option as a number, or nothing if it is left to the scenario (locust's page gives empty texts)."""
    attribute = name.replace("-", "_")
    text = str(given[attribute] if given[attribute] is not None else "").strip()
    if not text:
        return {}
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"--{name}={text}: give a number") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"--{name}={text}: give a number of 0 or more")
    return {attribute: value}


def _check(plan: Plan) -> None:
    verdict.parse_slo(plan.slo)
    if not plan.in_flight:
        schedule.parse_arrivals(plan.arrivals)
    adapters.load(plan.adapter)
    for is_wrong, sentence in (
        (plan.members < 1, "--members=0: give at least one"),
        (not 1 <= plan.rooms <= min(plan.members, MAX_ROOMS), f"--rooms={plan.rooms}: from 1 to the number of members"),
        (not 1 <= plan.senders <= MAX_SENDERS, f"--senders={plan.senders}: from 1 to {MAX_SENDERS} in each room"),
        (
            plan.senders * plan.rooms + plan.stuck > plan.members,
            f"--senders={plan.senders} in {plan.rooms} rooms and --stuck={plan.stuck} need more than the "
            f"{plan.members} members there are",
        ),
        (plan.text_bytes < MIN_TEXT_BYTES, f"--text-bytes={plan.text_bytes}: a message's tag needs {MIN_TEXT_BYTES}"),
    ):
        if is_wrong:
            raise ValueError(sentence)


def allow_members(members: int) -> None:
    """Raise this process' limit on open files so far that so many members fit.

    Raises ValueError, with the number that does fit, if they do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = members + FILES_BESIDES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ValueError(
            f"{members:,} members in one process need {needed:,} open files, and {hard:,} are allowed here: "
            f"at most {hard - FILES_BESIDES:,} members; raise `ulimit -Hn`, or use more workers"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def allow_ports(members: int) -> None:
    """Check that so many connections from this machine to one address are possible.

    Raises ValueError, with the number that is, if they are not.
    """
    first, last = map(int, PORTS.read_text().split())
    if members > last - first + 1:
        raise ValueError(
            f"{members:,} members from one machine need as many local ports, and there are {last - first + 1:,} "
            f"({PORTS}): widen the range, or add a machine"
        )
