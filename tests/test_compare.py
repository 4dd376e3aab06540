"""Comparing runs: what differs is told from what repeats of one run differ by, and nothing is believed too easily."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from loadtest import compare
from loadtest.compare import Side, has_difference
from loadtest.result import BadResult, write_folder
from loadtest.verdict import Health
from tests.fake_result import make_result
from tests.test_page import Parsed


def side(name: str, *p99_ms: float, **figures: float) -> Side:
    """Return repeats with these p99s, and the same other figures."""
    return Side(name, [bare(p99, **figures) for p99 in p99_ms])


def bare(p99_ms: float, **figures: float) -> dict[str, Any]:
    return {
        "verdict": {"headline": "VALID · goals met", "is_valid": True},
        "figures": {"latency_p99_ms": p99_ms, **figures},
        "options": {"members": 1000},
    }


def p99_against(one: Side, other: Side) -> str:
    figure = next(figure for figure in compare.FIGURES if figure.key == "latency_p99_ms")
    return compare.against(figure, one, other)


def write_repeats(folder: Path, number: int, **arguments: Any) -> Path:
    for seed in range(number):
        write_folder(folder / str(seed), make_result(seed=seed + 1, number=2000, **arguments))
    return folder


# What a difference is


def test_a_difference_inside_the_spread_is_none() -> None:
    """The medians are one apart, and the repeats of one side two."""
    assert has_difference([10, 11, 12], [11.8, 12, 12.2]) is False
    assert p99_against(side("a", 10, 11, 12), side("b", 11.8, 12, 12.2)) == "no difference"


def test_a_difference_outside_the_spread_is_one() -> None:
    """With its ratio and whether it is for the better."""
    assert has_difference([10, 11, 12], [20, 22, 21.5]) is True
    assert p99_against(side("a", 10, 11, 12), side("b", 20, 22, 23)) == "× 2.00, worse"
    assert p99_against(side("a", 20, 22, 23), side("b", 10, 11, 12)) == "× 0.500, better"


def test_the_wider_spread_counts() -> None:
    """Whichever side it is on."""
    assert has_difference([10, 10, 10], [11, 12, 14]) is False
    assert has_difference([11, 12, 14], [10, 10, 10]) is False
    assert has_difference([10, 10, 10], [11.9, 12, 12.1]) is True


def test_of_one_run_each_the_spread_is_not_known() -> None:
    """The ratio is told, and nothing of a difference."""
    assert has_difference([10], [20]) is None
    one, other = side("a", 10), side("b", 20)
    assert p99_against(one, other) == "× 2.00"
    assert compare.warnings([one, other]) == ["One run each: the spread is not known."]


def test_one_run_is_measured_by_the_repeats_of_the_other() -> None:
    """A spread is known, if only of one side."""
    assert has_difference([10, 11, 12], [12]) is False
    assert has_difference([10, 11, 12], [20]) is True


def test_what_one_bucket_holds_is_no_difference() -> None:
    """Times nearer than the width of a bucket cannot be told apart, however equal the repeats are."""
    assert p99_against(side("a", 10.0, 10.0), side("b", 10.05, 10.05)) == "no difference"
    assert p99_against(side("a", 10.0, 10.0), side("b", 10.2, 10.2)) == "× 1.02, worse"


def test_never_is_a_difference_if_it_is_on_one_side() -> None:
    """However wide it makes the spread."""
    never = side("b", 10, math.inf, math.inf)
    assert p99_against(side("a", 10, 11, 12), never) == "worse"
    assert p99_against(never, side("a", 10, 11, 12)) == "better"
    assert p99_against(never, never) == "no difference"


def test_a_fault_in_one_repeat_is_a_difference() -> None:
    """Deliveries that are missing sometimes are not within the spread of none."""
    clean, faulty = side("a", 1, 1, 1, missing=0), Side("b", [bare(1, missing=number) for number in (0, 0, 3)])
    missing = compare.FIGURES[0]
    assert compare.against(missing, clean, faulty) == "worse"
    assert compare.against(missing, faulty, clean) == "better"
    assert compare.against(missing, clean, clean) == "no difference"


def test_more_deliveries_are_better() -> None:
    """And how late the generator was is neither."""
    figures = {figure.key: figure for figure in compare.FIGURES}
    few, many = side("a", 1, 1, deliveries_per_s=1000, lateness_p99_ms=1), side("b", 1, 1, deliveries_per_s=2000)
    assert compare.against(figures["deliveries_per_s"], few, many) == "× 2.00, better"
    late = side("b", 1, 1, lateness_p99_ms=2)
    assert compare.against(figures["lateness_p99_ms"], few, late) == "× 2.00"


def test_what_one_side_lacks_is_a_dash() -> None:
    """A server on another machine has no CPU."""
    figures = {figure.key: figure for figure in compare.FIGURES}
    assert compare.against(figures["server_cpu"], side("a", 1, server_cpu=0.5), side("b", 1)) == "–"


# What should be known first


def test_an_invalid_run_is_named(tmp_path: Path) -> None:
    """With the first reason, and how many of the repeats it concerns."""
    good = Side("good", [make_result(number=2000), make_result(number=2000, seed=2)])
    invalid = make_result(number=2000, health=Health(seconds=20, workers_lost=1))
    told = compare.warnings([good, Side("bad", [make_result(number=2000), invalid])])
    assert told == [f"bad (1 of 2 runs): {invalid['verdict']['headline']}"]


def test_plans_that_differ_are_told() -> None:
    """Option by option; where results and goals go is no part of the plan."""
    one, other = side("a", 1, 1), side("b", 1, 1)
    for result in other.results:
        result["options"] = {"members": 2000, "out": "elsewhere"}
    assert compare.warnings([one, other]) == ["The plans differ: members 1,000 / 2,000."]


def test_machines_that_differ_are_told() -> None:
    """A ratio of two machines is not one of two servers."""
    one, other = side("a", 1, 1), side("b", 1, 1)
    for number, each in enumerate((one, other)):
        for result in each.results:
            result["machine"] = {"cores": number + 2, "pauses": str(number)}
    assert compare.warnings([one, other]) == ["The machines differ: cores 2 / 3."]


# Folders and output


def test_a_folder_holds_one_run_or_its_repeats(tmp_path: Path) -> None:
    """What else is in there does not matter."""
    write_folder(tmp_path / "one", make_result(number=2000))
    write_repeats(tmp_path / "many", 3)
    (tmp_path / "many" / "notes").mkdir()
    one, many = compare.read_sides([tmp_path / "one", tmp_path / "many"])
    assert [(side.name, len(side.results)) for side in (one, many)] == [("one", 1), ("many", 3)]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By their paths."""
    for name in ("a", "b"):
        write_folder(tmp_path / name / "run", make_result(number=2000))
    sides = compare.read_sides([tmp_path / "a" / "run", tmp_path / "b" / "run"])
    assert [side.name for side in sides] == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    """In one sentence."""
    with pytest.raises(BadResult, match=f"there is no result.json in {tmp_path}, nor in a folder inside it"):
        compare.read_sides([tmp_path])


def test_the_table_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Medians with the least and the most, the ratio, and the verdict on it; no line is broken."""
    slow = write_repeats(tmp_path / "slow", 3, middle_ms=30)
    fast = write_repeats(tmp_path / "fast", 3)
    assert compare.main([str(fast), str(slow)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Fan-out p99, slow against fast: × ")
    assert lines[0].endswith(", worse")
    row = next(line for line in lines if line.startswith("fan-out p50"))
    values = [side.values("latency_p50_ms") for side in compare.read_sides([fast, slow])]
    assert f"{statistics.median(values[0]):.2f} ms ({min(values[0]):.2f} … {max(values[0]):.2f})" in row
    assert f"{statistics.median(values[1]):.1f} ms ({min(values[1]):.1f} … {max(values[1]):.1f})" in row
    assert next(line for line in lines if line.startswith("deliveries/s")).endswith("no difference")


def test_three_sides_are_compared_with_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own column of ratios."""
    folders = [str(write_folder(tmp_path / name, make_result(number=2000)).parent) for name in "abc"]
    assert compare.main(folders) == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if "b / a" in line)
    assert head.split() == ["a", "b", "b", "/", "a", "c", "c", "/", "a"]


def test_what_cannot_be_read_is_one_sentence_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing on standard output."""
    write_folder(tmp_path / "a", make_result(number=2000))
    assert compare.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"compare: there is no result at {tmp_path / 'b'}\n")


def test_the_page_lays_the_curves_over_each_other(tmp_path: Path) -> None:
    """One thick curve for each side, a thin one for each of its repeats, and the same table."""
    fast, slow = write_repeats(tmp_path / "fast", 3), write_repeats(tmp_path / "<slow>", 2, middle_ms=30)
    assert compare.main([str(fast), str(slow), "--html", str(tmp_path / "page.html")]) == 0
    found = Parsed((tmp_path / "page.html").read_text())
    curves = json.loads(found.scripts[0])["curves"]
    assert [(curve["name"], curve["is_thin"], curve["series"]) for curve in curves] == [
        ("fast", False, 1),
        *[("fast", True, 1)] * 3,
        ("<slow>", False, 2),
        *[("<slow>", True, 2)] * 2,
    ]
    assert curves[0]["total"] == 3 * 2000
    assert "<slow> against fast: × " in found.said
    for row in compare.rows(compare.read_sides([fast, slow])):
        assert row[0] in found.said
        assert row[-1] in found.said
    assert "slow" not in [tag for tag, _ in found.elements]
