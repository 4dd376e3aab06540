"""A result: the dictionary that a run ends in, as `result.json` and as a folder for people.

Owns the form in the file, and that it is strict JSON: what is infinite is the string "inf", what was not measured is
null, and null both in the seconds, which are drawn and not reckoned with. It knows no figure by name.
Invariant: what `load_result` returns has the floats that were saved; a folder never holds half a file.
"""

import json
import math
import os
from pathlib import Path
from typing import Any, Final, Protocol

from loadtest import charts, page
from loadtest.words import Result

FORMAT: Final = 1
FILE_NAME: Final = "result.json"


class Run(Protocol):
    """A run while it goes on, as those who show it see it; `seconds` has those that are over, as in a result."""

    @property
    def phase(self) -> str: ...
    @property
    def elapsed_s(self) -> float: ...
    @property
    def remaining_s(self) -> float | None: ...
    @property
    def seconds(self) -> list[dict[str, Any]]: ...
    @property
    def is_over(self) -> bool: ...
    def result(self) -> Result: ...


class BadResult(ValueError):
    """What was to be a result is none; the message is one sentence."""


def to_json(result: Result) -> str:
    """Return a result as the text of its file."""
    entries = (f"{_dump(key)}: {_lines(value)}" for key, value in plain(result).items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def plain(result: Result) -> Result:
    """Return a result without the numbers that JSON does not have."""
    return {key: _plain(value, None if key == "seconds" else "inf") for key, value in result.items()}


def save_result(result: Result, path: Path) -> None:
    """Write a result to its file."""
    _write(path, to_json(result))


def load_result(path: Path) -> Result:
    """Return the result in a file, or in a folder's `result.json`; raises BadResult."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadResult(f"there is no result at {path}") from None
    except (OSError, ValueError) as error:
        raise BadResult(f"{file} cannot be read as a result: {error}") from error
    if not isinstance(result, dict) or not {"figures", "verdict"} <= result.keys():
        raise BadResult(f"{file} is JSON, but not the result of a load run")
    if result.get("format") != FORMAT:
        raise BadResult(f"{file} has format {result.get('format')}, and this program reads format {FORMAT}")
    return _restored(result)


def write_folder(out: Path, result: Result) -> Path:
    """Write `result.json`, `latency.hgrm` and `report.html` into a folder, and return the path of the report."""
    out.mkdir(parents=True, exist_ok=True)
    text = to_json(result)
    _write(out / FILE_NAME, text)
    _write(out / "latency.hgrm", charts.histogram_of(result, "latency").to_hgrm())
    _write(out / "report.html", page.report(result, text))
    return out / "report.html"


# Private


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(value: Any) -> str:
    """Return JSON with a line for each figure, second or histogram: it is read by people and compared line by line."""
    if isinstance(value, dict) and value:
        return "{\n  " + ",\n  ".join(f"{_dump(key)}: {_dump(one)}" for key, one in value.items()) + "\n}"
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(_dump, value)) + "\n]"
    return _dump(value)


def _plain(value: Any, infinity: str | None) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else infinity
    if isinstance(value, dict):
        return {str(key): _plain(one, infinity) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, infinity) for one in value]
    return value


def _restored(result: Result) -> Result:
    result["figures"] = {key: _number(value) for key, value in result["figures"].items()}
    for goal in result["verdict"].get("goals", []):
        goal["measured"] = _number(goal.get("measured"))
    result["seconds"] = [
        {key: math.nan if value is None else value for key, value in second.items()}
        for second in result.get("seconds", [])
    ]
    return result


def _number(value: Any) -> Any:
    return {None: math.nan, "inf": math.inf}.get(value, value)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A command line may hold bytes that are no UTF-8; in JSON, `\udc80` stands for the one it came from.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
