"""The plan: what cannot be is refused in one sentence, and every seat is dealt exactly once."""

import math
import resource
from argparse import ArgumentParser
from collections import Counter
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest import plan as module
from loadtest.plan import FILES_BESIDES, NUMBERS, Plan, Seat, add_options, allow_members, allow_ports, read_plan
from loadtest.scenarios import SCENARIOS, defaults
from loadtest.tag import MIN_TEXT_BYTES

quick = settings(deadline=None, database=None, max_examples=60)


def read(*words: str, **of_locust: Any) -> Plan:
    """The plan of a command line; locust has options of its own."""
    parser = ArgumentParser()
    add_options(parser)
    options = parser.parse_args(list(words))
    for name, value in {"num_users": None, "run_time": None, **of_locust}.items():
        setattr(options, name, value)
    return read_plan(options)


PLAN = read()


# Options


def test_without_options_it_is_the_steady_scenario() -> None:
    """Every figure of it."""
    assert (
        Plan(
            scenario="steady",
            members=500,
            rooms=1,
            senders=8,
            rate=20.0,
            arrivals="constant",
            text_bytes=100,
            warmup_s=2.0,
            duration_s=20.0,
            drain_s=10.0,
            churn=0.0,
            stuck=0,
            slo="missing==0",
            adapter="chatroom",
            room="load",
            is_insecure=False,
            seed=0,
        )
        == PLAN
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_a_plan_that_can_be(name: str) -> None:
    """By itself, and an option that is given outranks it."""
    plan = read("--scenario", name)
    assert (plan.members, plan.rate) == (defaults(name)["members"], defaults(name)["rate"])
    assert read("--scenario", name, "--members=9000", "--rate=7").members == 9000
    assert plan.is_climbing is (name == "capacity")
    assert plan.in_flight == (64 if name == "flood" else 0)


def test_a_scenario_that_there_is_not_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"^--scenario=stady: there are steady, crowd, "):
        defaults("stady")


def test_every_option_is_read() -> None:
    """Each into its own field."""
    plan = read(
        *("--members=60", "--rooms=2", "--senders=3", "--rate=1.5", "--arrivals=poisson", "--text-bytes=200"),
        *("--warmup=0", "--duration=0.5", "--drain=1", "--churn=2.5", "--stuck=4", "--slo=p99<50ms", "--adapter=plain"),
        *("--room=hall", "--insecure", "--seed=7"),
    )
    assert plan == Plan(
        "steady", 60, 2, 3, 1.5, "poisson", 200, 0.0, 0.5, 1.0, 2.5, 4, "p99<50ms", "plain", "hall", True, 7
    )


def test_locust_s_own_users_are_members() -> None:
    """Unless --members says otherwise."""
    assert read(num_users=30).members == 30
    assert read("--members=40", num_users=30).members == 40


def test_a_run_without_an_end_is_measured_until_it_is_stopped() -> None:
    """Whoever stops it: somebody, locust's --run-time, or a load shape; unless --duration says otherwise."""
    assert read("--duration=0").duration_s == math.inf
    assert read(run_time=60).duration_s == math.inf
    assert read("--duration=5", run_time=60).duration_s == 5
    parser = ArgumentParser()
    add_options(parser)
    assert read_plan(parser.parse_args([]), is_stopped_by_shape=True).duration_s == math.inf


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind, _ in NUMBERS] + [("seed", int)])
@pytest.mark.parametrize("text", ["", " ", None])
def test_an_option_left_empty_is_the_scenario_s(name: str, kind: type, text: str | None) -> None:
    """Locust's page sends what nobody has filled in as an empty text."""
    parser = ArgumentParser()
    add_options(parser)
    options = parser.parse_args([])
    setattr(options, name.replace("-", "_"), text)
    assert read_plan(options) == PLAN


@pytest.mark.parametrize("name", [name for name, _, _ in NUMBERS] + ["seed"])
@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf", "1e999"])
def test_what_is_no_number_is_refused(name: str, text: str) -> None:
    """In one sentence that repeats it."""
    with pytest.raises(ValueError, match=f"^--{name}={text}: give a number( of 0 or more)?$"):
        read(f"--{name}={text}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--members=0", "--members=0: give at least one"),
        ("--rooms=0", "--rooms=0: from 1 to the number of members"),
        ("--rooms=501 --senders=1", "--rooms=501: from 1 to the number of members"),
        ("--members=200000 --rooms=65537 --senders=1", "--rooms=65537: from 1 to the number of members"),
        ("--senders=0", "--senders=0: from 1 to 64 in each room"),
        ("--senders=65", "--senders=65: from 1 to 64 in each room"),
        ("--members=7", "--senders=8 in 1 rooms and --stuck=0 need more than the 7 members there are"),
        ("--members=8 --stuck=1", "--senders=8 in 1 rooms and --stuck=1 need more than the 8 members there are"),
        ("--members=15 --rooms=2", "--senders=8 in 2 rooms and --stuck=0 need more than the 15 members there are"),
        ("--text-bytes=50", f"--text-bytes=50: a message's tag needs {MIN_TEXT_BYTES}"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(words: str, sentence: str) -> None:
    """With what would be possible."""
    with pytest.raises(ValueError) as refusal:
        read(*words.split())
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "words",
    ["--members=8", "--members=9 --stuck=1", "--members=16 --rooms=2", f"--text-bytes={MIN_TEXT_BYTES}", "--rate=0"],
)
def test_a_plan_that_can_just_be_is_not_refused(words: str) -> None:
    """One less of anything, and it would be."""
    read(*words.split())


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("--slo=p99<50", "p99<50"),
        ("--arrivals=often", "often"),
        ("--arrivals=inflight:0", "inflight:0"),
        ("--arrivals=inflight:many", "inflight:many"),
        ("--arrivals=inflight:\u00b2", "inflight"),
        ("--adapter=nothing", "--adapter=nothing"),
    ],
)
def test_a_word_that_is_not_understood_is_refused(word: str, match: str) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=match):
        read(word)


# Seats

deals = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 6), st.integers(0, 12))


@given(deals)
@quick
def test_every_seat_is_dealt_once(deal: tuple[int, int, int, int, int]) -> None:
    """Whatever the workers are: rooms of almost the same size, each with all its senders, and the stuck besides."""
    workers, rooms, senders, stuck, besides = deal
    plan = replace(PLAN, rooms=rooms, senders=senders, stuck=stuck, members=rooms * senders + stuck + besides)
    seats = [
        (worker, plan.seat(local, worker, workers))
        for worker in range(workers)
        for local in range(len(range(worker, plan.members, workers)))
    ]
    assert sorted(seat.number for _, seat in seats) == list(range(plan.members))
    in_rooms = Counter(seat.room for _, seat in seats)
    assert len(in_rooms) == rooms
    assert max(in_rooms.values()) - min(in_rooms.values()) <= 1
    speaking = {(seat.room, seat.sender): worker for worker, seat in seats if seat.sender is not None}
    assert set(speaking) == {(room, sender) for room in range(rooms) for sender in range(senders)}
    assert all(plan.worker_of(*one, workers) == worker for one, worker in speaking.items())
    assert sum(seat.is_stuck for _, seat in seats) == stuck
    assert not any(seat.is_stuck and seat.sender is not None for _, seat in seats)


def test_whoever_comes_beyond_the_plan_is_an_ordinary_member() -> None:
    """A climb adds members, and none of them is stuck."""
    plan = replace(PLAN, members=12, senders=2, stuck=3)
    assert [plan.seat(number, 0, 1).is_stuck for number in range(14)] == [False] * 9 + [True] * 3 + [False] * 2


def test_a_room_has_the_name_that_was_given_or_a_number_besides() -> None:
    """So that one room can be looked into by hand."""
    assert PLAN.room_name(0) == "load"
    assert [replace(PLAN, rooms=2).room_name(number) for number in range(2)] == ["load-0", "load-1"]


@given(deals, st.sampled_from(["constant", "poisson", "burst:7"]))
@quick
def test_all_senders_together_say_what_was_planned(deal: tuple[int, int, int, int, int], arrivals: str) -> None:
    """Each has a share of his own, from the warm-up on."""
    _, rooms, senders, _, _ = deal
    plan = replace(PLAN, rooms=rooms, senders=senders, arrivals=arrivals, rate=50.0, warmup_s=1.0, duration_s=2.0)
    shares = [
        tuple(plan.offsets_ns(Seat(0, room, sender, False))) for room in range(rooms) for sender in range(senders)
    ]
    said = sum(map(len, shares))
    assert all(0 <= at_ns < 3e9 for share in shares for at_ns in share)
    if arrivals == "poisson":
        assert len(set(shares)) == len(shares)
    else:
        assert said == {"constant": 150, "burst:7": 22 * 7}[arrivals]


def test_a_climb_and_a_run_without_an_end_plan_for_ever() -> None:
    """However long it takes."""
    for plan in (read("--scenario=capacity"), read("--duration=0")):
        offsets_ns = plan.offsets_ns(Seat(0, 0, 0, False))
        assert len(list(takewhile(lambda at_ns: at_ns < 1000e9, offsets_ns))) == 1000 * 20 / 8
    assert list(read("--scenario=flood").offsets_ns(Seat(0, 0, 0, False))) == []


def test_the_result_keeps_the_plan() -> None:
    """JSON has no inf."""
    assert PLAN.to_json()["duration_s"] == 20.0
    assert replace(PLAN, duration_s=math.inf).to_json()["duration_s"] is None
    assert PLAN.to_json()["members"] == 500


# What the machine allows


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit on open files, soft and hard, which is not really changed."""
    limits = [100, 5000]

    def set_limits(_: int, values: tuple[int, int]) -> None:
        limits[:] = values

    monkeypatch.setattr(module.resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(module.resource, "setrlimit", set_limits)
    return limits


def test_the_limit_on_open_files_is_raised_as_far_as_is_needed(limits: list[int]) -> None:
    """And never lowered."""
    allow_members(1000)
    assert limits == [1000 + FILES_BESIDES, 5000]
    allow_members(500)
    assert limits == [1000 + FILES_BESIDES, 5000]
    limits[:] = [100, resource.RLIM_INFINITY]
    allow_members(10**6)
    assert limits == [10**6 + FILES_BESIDES, resource.RLIM_INFINITY]
    limits[:] = [resource.RLIM_INFINITY] * 2
    allow_members(10**6)
    assert limits == [resource.RLIM_INFINITY] * 2


def test_more_members_than_open_files_are_refused_with_the_number(limits: list[int]) -> None:
    """Which is then not refused."""
    with pytest.raises(
        ValueError, match=r"^4,801 members in one process need 5,001 open files.* at most 4,800 members"
    ):
        allow_members(4801)
    assert limits == [100, 5000]
    allow_members(4800)


def test_more_members_than_ports_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which is then not refused."""
    ports = tmp_path / "ip_local_port_range"
    ports.write_text("32768\t60999\n")
    monkeypatch.setattr(module, "PORTS", ports)
    allow_ports(28_232)
    with pytest.raises(ValueError, match=r"^28,233 members .* there are 28,232 "):
        allow_ports(28_233)
