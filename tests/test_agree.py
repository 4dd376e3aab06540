"""Harness and witness side by side: what counts as agreement, and what is said of a round that is out of order."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.agree import Agreement, Round, Rounds, agreements, compared, last_words, run_round, table_line
from loadtest.machine import Cores
from loadtest.witness import CannotRun

PLAN = Rounds(rounds=1, members=4, witnesses=3, senders=2, rate=20, ramp=100, warmup_s=1, duration_s=1)


def rounds(*pairs: tuple[float, float]) -> list[Round]:
    """Rounds with these p50 of harness and witness; the p99 are equal."""
    return [Round({"p50": ours, "p99": 9.0}, {"p50": theirs, "p99": 9.0}) for ours, theirs in pairs]


def result(**figures: float) -> dict[str, Any]:
    """A result of the harness."""
    figures = {"members": 300, "measured": 150_000, "latency_p50_ms": 1.5, "latency_p99_ms": 7.0, **figures}
    return {"verdict": {"is_valid": True, "reasons": []}, "figures": figures}


def report(**more: Any) -> dict[str, Any]:
    """A report of the witness."""
    kernel = {"count": 50_000, "p50": 1.4, "p99": 7.1}
    return {"members": 100, "entered": 100, "dropped": 0, "fragmented": 0, "early": 0, "kernel": kernel, **more}


@pytest.mark.parametrize(
    ("harness_ms", "witness_ms", "is_met"),
    [
        (1.5, 1.0, True),
        (1.51, 1.0, False),
        (0.5, 1.0, True),
        (11.0, 10.0, True),
        (11.1, 10.0, False),
        (8.9, 10.0, False),
    ],
)
def test_a_tenth_or_half_a_millisecond_is_agreement(harness_ms: float, witness_ms: float, is_met: bool) -> None:
    """Whichever is larger, in both directions."""
    assert Agreement("p50", harness_ms, witness_ms).is_met is is_met


@pytest.mark.parametrize("harness_ms", [float("nan"), float("inf")])
def test_what_is_no_number_agrees_with_nothing(harness_ms: float) -> None:
    """Not even with itself: something was not measured, or never came."""
    assert not Agreement("p99", harness_ms, harness_ms).is_met
    assert not Agreement("p99", harness_ms, 5.0).is_met


def test_medians_are_compared_so_that_one_bad_round_does_not_decide() -> None:
    """The median of each, not of the differences."""
    found = agreements(rounds((1.0, 1.0), (30.0, 2.0), (2.0, 2.2), (3.0, 2.4), (2.4, 2.5)))
    assert [(each.name, each.harness_ms, each.witness_ms, each.is_met) for each in found] == [
        ("p50", 2.4, 2.2, True),
        ("p99", 9.0, 9.0, True),
    ]


@pytest.mark.parametrize("at", range(3))
def test_a_round_in_which_nothing_was_measured_is_not_left_out(at: int) -> None:
    """Whichever it is, there is no agreement."""
    pairs = [(1.0, 1.0)] * 3
    pairs[at] = (float("nan"), 1.0)
    assert [each.is_met for each in agreements(rounds(*pairs))] == [False, True]


def test_a_round_without_faults_has_no_remarks() -> None:
    """Both found the same number of messages, and nothing is amiss."""
    assert compared(result(), report()) == Round({"p50": 1.5, "p99": 7.0}, {"p50": 1.4, "p99": 7.1})


def test_a_round_that_is_not_as_it_should_be_says_so() -> None:
    """An invalid run, another count of messages, a witness who was thrown out."""
    invalid = result(measured=149_700)
    invalid["verdict"] = {"is_valid": False, "reasons": ["The senders were late."]}
    found = compared(invalid, report(dropped=1))
    assert len(found.remarks) == 3
    line = table_line("3", found)
    assert "The senders were late." in line
    assert "499 messages a member" in line
    assert '"dropped": 1' in line


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_both_count_the_same_messages_of_a_real_run(tmp_path: Path) -> None:
    """The chat room, the harness and the witness; what they time is not judged here, on a machine that runs tests."""
    found = run_round(PLAN, Cores(), tmp_path)
    assert not [remark for remark in found.remarks if not remark.startswith("harness: ")]
    assert 0 < found.harness["p50"] <= found.harness["p99"]
    assert 0 < found.witness["p50"] <= found.witness["p99"]


def test_a_harness_that_does_not_come_in_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own words say why."""
    command = [sys.executable, "-c", "raise SystemExit('there is no such option')"]
    monkeypatch.setattr(Rounds, "harness_command", lambda *_: command)
    with pytest.raises(CannotRun, match="did not come in:\nthere is no such option"):
        run_round(PLAN, Cores(), tmp_path)


def test_a_harness_that_does_not_end_is_not_waited_for_for_ever() -> None:
    """One sentence, and the round is over."""
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE, text=True) as harness:
        with pytest.raises(CannotRun, match=r"^The harness did not end within 0 s\.$"):
            last_words(harness, 0.0)
        harness.kill()
