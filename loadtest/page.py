"""The pages: the report of a run, the live page, the comparison; each one file that needs nothing from elsewhere.

Owns what stands on them in which order; how it looks is in `templates/`. It reads and writes no file of a run and
knows no web server. Invariant: whatever comes from a result is text, escaped, never markup; what a run has no figure
for is left out, and what could not be measured is a dash.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest import charts, words

TEMPLATES: Final = Path(__file__).parent / "templates"


class Fact(NamedTuple):
    """One figure in the tables: its key, its name, how it is said, and what it means where the name does not tell."""

    key: str
    name: str
    say: Callable[[float | None], str] = words.count
    meaning: str = ""
    is_fault: bool = False  # anything but 0 is bad


DELIVERIES: Final = (
    Fact("missing", "Missing", meaning="never came; counted as infinitely late", is_fault=True),
    Fact("doubled", "Doubled", is_fault=True),
    Fact("reordered", "Reordered", is_fault=True),
    Fact("changed", "Changed", meaning="not the text that was sent", is_fault=True),
    Fact("stray", "Stray", meaning="of another room or run", is_fault=True),
    Fact("garbage", "Garbage", meaning="frames that were none", is_fault=True),
    Fact("late", "Late", meaning="came more than a second after the planned time"),
    Fact("refused", "Refused", meaning="messages the server would not take; counted apart from missing"),
    Fact("planned", "Messages planned"),
    Fact("sent", "Messages sent"),
    Fact("rate_planned", "Messages a second, planned"),
    Fact("rate_reached", "Messages a second, reached"),
    Fact("bytes_per_delivery", "Bytes a delivery"),
)
MEMBERS: Final = (
    Fact("members", "Members"),
    Fact("senders", "Senders"),
    Fact("rooms", "Rooms"),
    Fact("failed", "Did not get in", is_fault=True),
    Fact("dropped", "Dropped by the server", is_fault=True),
    Fact("left", "Left by themselves"),
    Fact("joins_per_s", "Joins a second"),
    Fact("resumed_whole", "Came back without a hole"),
    Fact("resumed_gap", "Came back with a hole"),
    Fact("resumed_reset", "Came back to a new beginning"),
    Fact("storm_99_s", "Until 99 % were back", words.seconds),
)
GENERATOR: Final = (
    Fact("workers", "Workers"),
    Fact("generator_cpu_max", "CPU of its busiest second", words.cpu, "of one core, the busiest worker"),
    Fact("timed_share", "Deliveries timed", words.share),
    Fact("stamped_share", "Timed by the kernel", words.share, "their arrival has the kernel's own time stamp"),
    Fact("memo_hit_share", "Frames known already", words.share, "the server encodes once for many members"),
)
SERVER: Final = (
    Fact("server_cpu", "CPU", words.cpu, "of one core"),
    Fact("server_memory_bytes", "Memory", words.memory),
    Fact("server_memory_bytes_per_member", "Memory a member", words.memory),
)


def report(result: words.Result, result_json: str) -> str:
    """Return the report of a run as one HTML file; the JSON text of the result is in it, for whoever wants the data."""
    return _render("report.html", run=_run(result), drawn=_data(drawn(result)), result_json=_script_safe(result_json))


def live() -> str:
    """Return the page that shows a run while it goes on; it asks for `fanout.json` itself."""
    return _render("live.html")


def live_part(result: words.Result, progress: str) -> str:
    """Return the head and the tables of a run that goes on, which the live page puts in the place of those it has."""
    return _render("part.html", run=_run(result, progress))


def drawn(result: words.Result) -> dict[str, Any]:
    """Return what the charts of a run draw besides its seconds."""
    return {"curves": charts.run_curves(result), "goals": charts.goal_marks(result["verdict"])}


def comparison(curves: list[dict[str, Any]], **said: Any) -> str:
    """Return runs laid over each other; `said` is what `compare` has to say about them."""
    return _render("compare.html", drawn=_data({"curves": curves}), **said)


# What a run has to say


def _run(result: words.Result, progress: str = "") -> dict[str, Any]:
    verdict, figures = result["verdict"], result["figures"]
    tone = words.tone(verdict)
    headline = progress if tone == "running" and progress else verdict["headline"]
    return {
        "origin": words.origin(result),
        "tone": tone,
        "sign": words.SIGNS[tone],
        "headline": headline,
        "complaints": words.complaints(verdict),
        "goals": [
            {"text": goal["goal"], "said": words.goal(goal), "is_met": goal["is_met"]}
            for goal in verdict.get("goals", [])
        ],
        "plan": words.plan(result.get("options", {})),
        "notes": result.get("notes", []),
        "figures": _big_figures(figures),
        "percentiles": list(words.PERCENTILES.values()),
        "times": words.times(figures),
        "sections": _sections(result),
    }


def _big_figures(figures: dict[str, Any]) -> list[dict[str, Any]]:
    told = [
        ("Fan-out p50", words.milliseconds(figures.get("latency_p50_ms")), False),
        ("Fan-out p99", words.milliseconds(figures.get("latency_p99_ms")), False),
        ("Slowest delivery", words.milliseconds(figures.get("latency_max_ms")), False),
        ("Last member p99", words.milliseconds(figures.get("last_member_p99_ms")), False),
        ("Deliveries/s", words.count(figures.get("deliveries_per_s")), False),
    ]
    if figures.get("missing"):
        told.insert(0, ("Missing", words.count(figures["missing"]), True))
    parts = [(name, *value.partition(" "), is_bad) for name, value, is_bad in told]
    return [{"name": name, "value": value, "unit": unit, "is_bad": is_bad} for name, value, _, unit, is_bad in parts]


def _sections(result: words.Result) -> list[dict[str, Any]]:
    figures, machine = result["figures"], result.get("machine", {})
    # In the middle of a run the account cannot come out: what is on its way is neither received nor missing.
    tone = words.tone(result["verdict"])
    sections = [
        _section("Deliveries", _facts(DELIVERIES, figures), lead="" if tone == "running" else words.account(figures)),
        _section("Members", _facts(MEMBERS, figures)),
        _section("The load generator's own health", _facts(GENERATOR, figures)),
        _section("Server", _facts(SERVER, figures), lead=words.where_the_server_is(figures)),
        _section("Options", _listed(result.get("options", {}))),
        _section("Machine", _listed({**machine, "commit": result.get("commit")}), command=words.command(result)),
    ]
    return [section for section in sections if section["facts"] or section["lead"] or section["command"]]


def _section(title: str, facts: list[dict[str, Any]], lead: str = "", command: str = "") -> dict[str, Any]:
    return {"title": title, "facts": facts, "lead": lead, "command": command}


def _facts(facts: Sequence[Fact], figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": fact.name,
            "meaning": fact.meaning,
            "value": fact.say(figures[fact.key]),
            "is_bad": fact.is_fault and bool(figures[fact.key]),
        }
        for fact in facts
        if fact.key in figures and not words.is_missing(figures[fact.key])
    ]


def _listed(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": words.label(key), "meaning": "", "value": words.option(value), "is_bad": False}
        for key, value in values.items()
    ]


# Rendering


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["inlined"] = _inlined
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _inlined(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _data(value: Any) -> Markup:
    return _script_safe(json.dumps(value, allow_nan=False))


def _script_safe(text: str) -> Markup:
    # Inside a script element nothing is escaped: without a `<`, nothing in a string of the JSON can end it.
    return Markup(text.replace("<", "\\u003c"))
