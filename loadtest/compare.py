"""Runs laid over each other: which figures differ, and by more than repeats of one run do among themselves.

Owns what "no difference" means. It runs nothing and judges no goal. Invariant: a difference is only called one when
the medians lie further apart than the widest spread among the repeats, and than the histogram can tell apart; of a
single run nobody knows the spread, and that is said.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest import charts, page, verdict, words
from loadtest.histogram import Histogram
from loadtest.result import FILE_NAME, BadResult, load_result
from loadtest.words import Result

RESOLUTION: Final = 0.008  # two times nearer than this share of each other may stand in one bucket
NO_DIFFERENCE: Final = "no difference"
BETTER: Final = "better"
WORSE: Final = "worse"
ONE_EACH: Final = "One run each: the spread is not known."
LEAD: Final = (
    "The median of the repeats, then the least and the most. A difference counts when it is larger than the widest of "
    "these spreads."
)
SERIES: Final = 6
UNPLANNED: Final = {"out", "slo", "seed"}  # options that leave the load as it is


class Compared(NamedTuple):
    """A figure that is compared: how it is said, and whether less of it is better (None: neither)."""

    key: str
    name: str
    say: Callable[[float | None], str]
    is_less_better: bool | None = True


FIGURES: Final = (
    Compared("missing", "missing", words.count),
    Compared("doubled", "doubled", words.count),
    Compared("reordered", "reordered", words.count),
    Compared("latency_p50_ms", "fan-out p50", words.milliseconds),
    Compared("latency_p90_ms", "fan-out p90", words.milliseconds),
    Compared("latency_p99_ms", "fan-out p99", words.milliseconds),
    Compared("latency_p99_9_ms", "fan-out p99.9", words.milliseconds),
    Compared("latency_max_ms", "slowest delivery", words.milliseconds),
    Compared("last_member_p99_ms", "last member p99", words.milliseconds),
    Compared("spread_p99_ms", "spread p99", words.milliseconds),
    Compared("deliveries_per_s", "deliveries/s", words.count, False),
    Compared("bytes_per_delivery", "bytes a delivery", words.count),
    Compared("connect_p99_ms", "connect p99", words.milliseconds),
    Compared("joins_per_s", "joins/s", words.count, False),
    Compared("resume_p99_ms", "resume p99", words.milliseconds),
    Compared("storm_99_s", "99 % back after", words.seconds),
    Compared("server_cpu", "server CPU", words.cpu),
    Compared("server_memory_bytes", "server memory", words.memory),
    Compared("lateness_p99_ms", "send lateness p99", words.milliseconds, None),
    Compared("read_lag_p99_ms", "read lag p99", words.milliseconds, None),
    Compared("generator_cpu_max", "generator CPU", words.cpu, None),
)


@dataclass
class Side:
    """One run, or all its repeats."""

    name: str
    results: list[Result]

    def values(self, key: str) -> list[float]:
        """Return what was measured of a figure, of each repeat that has it."""
        found = (result["figures"].get(key) for result in self.results)
        return [value for value in found if value is not None and not words.is_missing(value)]

    def merged(self) -> Histogram:
        """Return the fan-out latencies of all repeats together."""
        merged = Histogram()
        for result in self.results:
            merged.merge(charts.histogram_of(result, "latency"))
        return merged


def main(argv: list[str]) -> int:
    """Compare result folders, print the table, and return the exit code: 0, or 2 where something cannot be read."""
    arguments = _parser().parse_args(argv)
    try:
        sides = read_sides([arguments.base, *arguments.others])
    except BadResult as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 60 + 40 * len(sides))
    _print(sides, console)
    if arguments.html:
        arguments.html.write_text(html(sides), encoding="utf-8")
        console.print(Text(f"\nPage: {arguments.html}"), soft_wrap=True)
    return 0


def read_sides(folders: Sequence[Path]) -> list[Side]:
    """Return what is to be compared: each folder is a run, or holds its repeats; raises BadResult."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [Side(name, _results(folder)) for name, folder in zip(names, folders, strict=True)]


def has_difference(one: Sequence[float], other: Sequence[float], resolution: float = 0.0) -> bool | None:
    """Return whether two sets of repeats differ by more than each does in itself; None if no spread is known."""
    if max(len(one), len(other)) < 2:
        return None
    if math.inf in (*one, *other):
        # Never is no spread: it is a difference if it happens on one side only.
        return (math.inf in one) != (math.inf in other)
    middle, against = statistics.median(one), statistics.median(other)
    spreads = (max(values) - min(values) for values in (one, other))
    return abs(middle - against) > max(*spreads, resolution * max(middle, against))


def warnings(sides: Sequence[Side]) -> list[str]:
    """Return what should be known before the figures are believed, a sentence each."""
    told = [ONE_EACH] if _is_one_each(sides) else []
    for side in sides:
        unfit = [result for result in side.results if words.tone(result["verdict"]) == "wrong"]
        if unfit:
            number = "" if len(side.results) == 1 else f" ({len(unfit)} of {len(side.results)} runs)"
            told.append(f"{side.name}{number}: {unfit[0]['verdict']['headline']}")
    told += _unlike("plans", sides, "options", UNPLANNED)
    return told + _unlike("machines", sides, "machine", {"pauses", "memory_gb"})


def headline(sides: Sequence[Side]) -> str:
    """Return what a reader wants to know first: how the p99 of the others is to that of the first."""
    base = sides[0]
    p99 = next(figure for figure in FIGURES if figure.key == "latency_p99_ms")
    told = [f"{side.name} against {base.name}: {against(p99, base, side)}" for side in sides[1:]]
    return f"Fan-out p99, {'; '.join(told)}"


def against(figure: Compared, base: Side, side: Side) -> str:
    """Return how a figure of one side is to that of the base: a ratio, and whether that is a difference."""
    one, other = base.values(figure.key), side.values(figure.key)
    if not one or not other:
        return words.NONE
    if figure.key in verdict.WRONG and bool(any(one)) != bool(any(other)):
        # A fault in one of many repeats is not within the spread of none.
        return BETTER if any(one) else WORSE
    is_different = has_difference(one, other, RESOLUTION if figure.key.endswith("_ms") else 0.0)
    if is_different is False:
        return NO_DIFFERENCE
    middle, value = statistics.median(one), statistics.median(other)
    said = words.ratio(value / middle) if middle and math.isfinite(middle) else words.NONE
    if is_different is None or figure.is_less_better is None or value == middle:
        return said
    word = BETTER if (value < middle) == figure.is_less_better else WORSE
    return word if said == words.NONE else f"{said}, {word}"


def rows(sides: Sequence[Side]) -> list[list[str]]:
    """Return the table: for each figure that somebody has, each side's and how it is to the first."""
    table = []
    for figure in FIGURES:
        if any(side.values(figure.key) for side in sides):
            first = [figure.name, _said(figure, sides[0])]
            others = ([_said(figure, side), against(figure, sides[0], side)] for side in sides[1:])
            table.append([*first, *(cell for pair in others for cell in pair)])
    return table


def heads(sides: Sequence[Side]) -> list[str]:
    """Return the heads of the table's columns."""
    base = sides[0].name
    return ["", base, *(cell for side in sides[1:] for cell in (side.name, f"{side.name} / {base}"))]


def html(sides: Sequence[Side]) -> str:
    """Return the page that lays the percentile curves over each other, with the same table."""
    is_unfit = any(words.tone(result["verdict"]) == "wrong" for side in sides for result in side.results)
    return page.comparison(
        _curves(sides),
        title=" / ".join(side.name for side in sides),
        tone="missed" if is_unfit else "running",
        headline=headline(sides),
        warnings=warnings(sides),
        sides=[{"name": side.name, "said": _origin(side)} for side in sides],
        lead="" if _is_one_each(sides) else LEAD,
        heads=heads(sides),
        rows=rows(sides),
    )


# Private


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest compare",
        description="Lay runs over each other. A folder is the result of one run, or holds the repeats of a run.",
    )
    parser.add_argument("base", type=Path, help="what the others are compared with")
    parser.add_argument("others", type=Path, nargs="+", help="one or more to compare with it")
    parser.add_argument("--html", type=Path, help="write a page with the percentile curves over each other")
    return parser


def _results(folder: Path) -> list[Result]:
    if not folder.is_dir() or (folder / FILE_NAME).exists():
        return [load_result(folder)]
    repeats = sorted(file for file in folder.glob(f"*/{FILE_NAME}"))
    if not repeats:
        raise BadResult(f"there is no {FILE_NAME} in {folder}, nor in a folder inside it")
    return [load_result(file) for file in repeats]


def _is_one_each(sides: Sequence[Side]) -> bool:
    return all(len(side.results) == 1 for side in sides)


def _said(figure: Compared, side: Side) -> str:
    values = side.values(figure.key)
    if not values:
        return words.NONE
    middle, least, most = (figure.say(value) for value in (statistics.median(values), min(values), max(values)))
    if least == most:
        return middle
    unit = middle.partition(" ")[2]
    if unit and least.endswith(unit) and most.endswith(unit):
        least, most = least.removesuffix(unit).rstrip(), most.removesuffix(unit).rstrip()
    return f"{middle} ({least} … {most})"


def _unlike(what: str, sides: Sequence[Side], entry: str, besides: set[str]) -> list[str]:
    keys = dict.fromkeys(key for side in sides for result in side.results for key in result.get(entry, {}))
    told = []
    for key in keys:
        found = [
            " and ".join(dict.fromkeys(words.option(one.get(entry, {}).get(key)) for one in side.results))
            for side in sides
        ]
        if key not in besides and len(set(found)) > 1:
            told.append(f"{key.replace('_', ' ')} {' / '.join(found)}")
    return [f"The {what} differ: {', '.join(told)}."] if told else []


def _curves(sides: Sequence[Side]) -> list[dict[str, Any]]:
    curves = []
    for number, side in enumerate(sides):
        series = number % SERIES + 1
        curves.append(charts.curve(side.name, side.merged(), series=series))
        if len(side.results) > 1:
            repeats = [charts.histogram_of(result, "latency") for result in side.results]
            curves += [charts.curve(side.name, repeat, is_thin=True, series=series) for repeat in repeats]
    return curves


def _origin(side: Side) -> str:
    first = side.results[0]
    runs = "one run" if len(side.results) == 1 else f"{len(side.results)} runs"
    commit = f", commit {first['commit']}" if first.get("commit") else ""
    return f"{runs}, {words.origin(first)}{commit}"


def _print(sides: Sequence[Side], console: Console) -> None:
    console.print(Text(headline(sides), style="bold"))
    for one in warnings(sides):
        console.print(Text(f"  {one}", style="yellow"))
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for number, name in enumerate(heads(sides)):
        table.add_column(Text(name), justify="left" if number == 0 else "right")
    for row in rows(sides):
        table.add_row(*map(_cell, row))
    console.print(table)
    if not _is_one_each(sides):
        console.print(Text(f"\n{LEAD}", style="dim"))


def _cell(text: str) -> Text:
    if text.endswith(BETTER):
        return Text(text, style="green")
    if text.endswith(WORSE):
        return Text(text, style="red")
    return Text(text, style="dim" if text == NO_DIFFERENCE else "")
