"""Results in files: what is saved comes back, and the folder is whole or as it was."""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest

from loadtest.histogram import Histogram
from loadtest.result import BadResult, load_result, plain, save_result, to_json, write_folder
from tests.fake_result import make_result


def same(one: Any, other: Any) -> bool:
    """Compare as values, for which NaN is NaN."""
    return repr(one) == repr(other)


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def test_infinite_and_unmeasured_figures_come_back(tmp_path: Path) -> None:
    """A p99 of never is infinite after loading, and what was not measured is NaN."""
    result = make_result(missing=500, slo="p99<50ms,resume_p99<1s")
    assert result["figures"]["latency_p99_ms"] == math.inf
    save_result(result, tmp_path / "result.json")
    loaded = load_result(tmp_path / "result.json")
    assert same(loaded["figures"], result["figures"])
    assert same(loaded["verdict"], result["verdict"])
    assert same(loaded["seconds"], result["seconds"])
    assert loaded["histograms"] == result["histograms"]


def test_the_file_is_strict_json() -> None:
    """Programs that are not Python's read it: it has no NaN and no Infinity."""
    text = to_json(make_result(missing=500))
    stored = json.loads(text, parse_constant=refuse)
    assert stored["figures"]["latency_p99_ms"] == "inf"
    assert stored["figures"]["resume_p99_ms"] is None
    assert stored["seconds"][0]["latency_p50_ms"] is None


def test_a_second_has_null_for_both() -> None:
    """The seconds are drawn: what has no height is a gap."""
    seconds = [{"t": 0, "latency_p99_ms": math.inf, "latency_p50_ms": math.nan, "members": 3}]
    assert plain({"seconds": seconds})["seconds"] == [
        {"t": 0, "latency_p99_ms": None, "latency_p50_ms": None, "members": 3}
    ]


def test_each_figure_and_each_second_has_a_line() -> None:
    """So that two results can be compared line by line."""
    lines = to_json(make_result()).splitlines()
    assert sum(line.startswith('  {"t": ') for line in lines) == len(make_result()["seconds"])
    assert sum('"latency_p99_ms": ' in line and line.startswith('  "') for line in lines) == 1


def test_a_folder_is_loaded_by_its_result(tmp_path: Path) -> None:
    """The folder's name is enough."""
    write_folder(tmp_path / "run", make_result())
    assert load_result(tmp_path / "run")["scenario"] == "steady"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "there is no result at"),
        ("{", "cannot be read as a result"),
        ("[1]", "is JSON, but not the result of a load run"),
        ('{"stats": []}', "is JSON, but not the result of a load run"),
        ('{"format": 2, "figures": {}, "verdict": {}}', "has format 2, and this program reads format 1"),
    ],
)
def test_what_is_no_result_is_refused(text: str | None, complaint: str, tmp_path: Path) -> None:
    """In one sentence that names the file."""
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(BadResult, match=re.escape(complaint)) as refused:
        load_result(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_the_folder_has_all_three_files(tmp_path: Path) -> None:
    """Data, percentile file and report; nothing else is left there."""
    result = make_result()
    report = write_folder(tmp_path / "results" / "run", result)
    assert report == tmp_path / "results" / "run" / "report.html"
    assert sorted(file.name for file in report.parent.iterdir()) == ["latency.hgrm", "report.html", "result.json"]
    hgrm = (report.parent / "latency.hgrm").read_text()
    assert hgrm == Histogram.from_wire(result["histograms"]["latency"]).to_hgrm()
    assert f"Total count    = {20_000:12d}" in hgrm


def test_a_run_without_deliveries_is_written(tmp_path: Path) -> None:
    """Nothing was measured, and the report says so."""
    result = make_result(number=0, histograms={}, seconds=[])
    report = write_folder(tmp_path, result).read_text()
    assert "INVALID" in report


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk does not cost the result that was there."""
    save_result(make_result(), tmp_path / "result.json")
    before = (tmp_path / "result.json").read_text()

    def fail(*_: object) -> NoReturn:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_result(make_result(seed=2), tmp_path / "result.json")
    assert (tmp_path / "result.json").read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_bytes_of_the_command_line_that_are_no_text_are_kept(tmp_path: Path) -> None:
    """Python hands them over as lone surrogates, which UTF-8 does not have."""
    report = write_folder(tmp_path, make_result(command=["locust", "--out", "caf\udce9"]))
    assert load_result(tmp_path)["command"][-1] == "caf\udce9"
    assert "caf\\udce9" in report.read_text()
