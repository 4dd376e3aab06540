"""The self-test: it measures what the reader really read, and tells no speed of a reader that lost something."""

import sys
from typing import Any

import pytest

from loadtest import machine, selftest
from loadtest.selftest import LOADS, Bench, Load, WrongAccount, ceiling_line, ceiling_per_s


@pytest.mark.parametrize("one", LOADS, ids=lambda one: one.name)
def test_every_delivery_of_every_load_is_read_timed_and_credited(one: Load) -> None:
    """However the frames come."""
    bench = Bench(5)
    for _ in range(3):
        assert bench.read(one) > 0
    bench.close()
    bench.check()
    assert bench.tally.deliveries == bench.tally.latency.total == 5 * 3 * one.at_once
    assert bench.tally.chunks == 15


def test_frames_that_come_together_are_read_together() -> None:
    """And those with a member's own bytes are understood one by one."""
    shares = {}
    for one in LOADS:
        bench = Bench(5)
        bench.read(one)
        bench.close()
        shares[one] = (bench.tally.chunks, bench.tally.memo_hits)
    assert [shares[one] for one in LOADS] == [(5, 4), (5, 4), (5, 4), (5, 0)]


def test_a_delivery_that_was_lost_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's end that swallows a frame is noticed."""
    monkeypatch.setattr(selftest, "PATIENCE_S", 0.0)
    frame = selftest.frame
    numbers = iter(range(100))
    monkeypatch.setattr(selftest, "frame", lambda *words: b"" if next(numbers) == 2 else frame(*words))
    with pytest.raises(WrongAccount, match="did not come in"):
        ceiling_per_s(Load("personal", 1, is_personal=True), members=5, batches=1)


def test_a_delivery_that_was_doubled_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than was sent is as wrong as less."""
    monkeypatch.setattr(selftest, "BATCH_DELIVERIES", 10)
    frame = selftest.frame
    numbers = iter(range(100))
    monkeypatch.setattr(selftest, "frame", lambda *words: frame(*words) * (2 if next(numbers) == 2 else 1))
    with pytest.raises(WrongAccount, match="deliveries were made"):
        ceiling_per_s(Load("personal", 1, is_personal=True), members=5, batches=1)


@pytest.mark.parametrize(("per_s", "lacks"), [(79_999.0, True), (80_000.0, False)])
def test_a_machine_that_is_too_slow_is_told_so(per_s: float, lacks: bool) -> None:
    """The line says what would be needed."""
    assert ("BELOW 80,000" in ceiling_line(LOADS[0], per_s)) is lacks


def test_a_reader_that_fails_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its one sentence."""

    def fail(*_: Any) -> float:
        raise WrongAccount("5 deliveries did not come in")

    monkeypatch.setattr(selftest, "ceiling_per_s", fail)
    monkeypatch.setattr(machine, "machine_line", lambda _: "a machine")
    monkeypatch.setattr(machine.Cores, "split", machine.Cores)
    assert selftest.main(["--members=5"]) == 1
    assert capsys.readouterr().err == "5 deliveries did not come in\n"


def test_a_quiet_run_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the harness said last."""
    command = [sys.executable, "-c", "raise SystemExit('there is no such option')"]
    monkeypatch.setattr(selftest, "quiet_command", lambda *_: command)
    with pytest.raises(RuntimeError, match=r"^The quiet run failed: .*; there is no such option$"):
        list(selftest.noise_lines(machine.Cores(), 1))
