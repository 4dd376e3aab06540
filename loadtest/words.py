"""How a result is said: numbers with their units, the plan and the account as sentences, the tone of a verdict.

Owns the wording that the report, the live page, the terminal and the comparison share, so that one figure reads the
same wherever it stands. It knows no HTML, no terminal and no file, and judges nothing: the verdict comes with the
result. Invariant: what is infinite is said as "never", what was not measured as "–"; no number is ever rounded up to
a round one that it did not reach.
"""

import math
import re
import shlex
from typing import Any, Final, Literal, NamedTuple

from loadtest.verdict import METRICS

Result = dict[str, Any]
Tone = Literal["good", "missed", "wrong", "running"]

NONE: Final = "–"
NEVER: Final = "never"
SIGNS: Final[dict[Tone, str]] = {"good": "✓", "missed": "!", "wrong": "✕", "running": "●"}

PERCENTILES: Final = {
    "p50": "50 %",
    "p90": "90 %",
    "p99": "99 %",
    "p99_9": "99.9 %",
    "p99_99": "99.99 %",
    "max": "max",
}


class Timed(NamedTuple):
    """One kind of time that is measured: how its figures begin, its name, and from when to when it lasts."""

    key: str
    name: str
    meaning: str


TIMED: Final = (
    Timed("latency", "Fan-out latency", "from the planned time of a message until each member has it"),
    Timed("last_member", "Last member", "from the planned time of a message until the last member has it"),
    Timed("spread", "Spread", "from the first member who has a message to the last"),
    Timed(
        "lateness", "Send lateness", "from the planned time of a message until it is sent: the generator's own delay"
    ),
    Timed(
        "read_lag", "Read lag", "from a message's arrival on this machine until it is read: the generator's own delay"
    ),
    Timed("connect", "Connect", "until the handshake of a new member is answered"),
    Timed("entry", "Entry", "until a new member is in the room"),
    Timed("resume", "Resume", "until a member who lost the connection has everything he missed"),
)


# Numbers


def is_missing(value: float | None) -> bool:
    """Return whether there is no number: not measured, or never asked for."""
    return value is None or math.isnan(value)


def milliseconds(value: float | None) -> str:
    """Return a time as `12.3 ms`, three digits of it, in seconds from ten seconds on."""
    if value is not None and 10_000 <= value < math.inf:
        return f"{_three_digits(value / 1000)} s"
    return _united(value, "ms")


def seconds(value: float | None) -> str:
    """Return a time as `12.3 s`, three digits of it."""
    return _united(value, "s")


def count(value: float | None) -> str:
    """Return a number of things as `1,234`, with one digit behind the point where it is small and not whole."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"


def share(value: float | None) -> str:
    """Return a part of one as `99.85 %`; 99.99996 % is not 100 %."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    return f"{math.floor(value * 1e4 + 1e-6) / 100:.4g} %"


def cpu(value: float | None) -> str:
    """Return how busy a core is as `61 %`; several cores may come to more than 100 %."""
    return _not_finite(value) if value is None or not math.isfinite(value) else f"{value * 100:.0f} %"


def memory(value: float | None) -> str:
    """Return a number of bytes as `84.2 MB`."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:.0f} bytes"


def ratio(value: float | None) -> str:
    """Return how many times as much, as `× 1.25`."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"× {_three_digits(value)}"


# Sentences


def tone(verdict: dict[str, Any]) -> Tone:
    """Return the colour of a verdict: an invalid run and wrong deliveries are both red."""
    if verdict.get("headline") == "running":
        return "running"
    if verdict.get("wrong") or not verdict.get("is_valid"):
        return "wrong"
    return "good" if all(goal["is_met"] for goal in verdict.get("goals", [])) else "missed"


def complaints(verdict: dict[str, Any]) -> list[str]:
    """Return what is wrong with a run, as far as the headline does not say it already."""
    wrong = ", ".join(verdict.get("wrong", []))
    told = [*verdict.get("reasons", []), *([f"Wrong deliveries: {wrong}."] if wrong else [])]
    return [one for one in told if one not in verdict["headline"] and not (wrong and wrong in verdict["headline"])]


def progress(phase: str, elapsed_s: float, remaining_s: float | None) -> str:
    """Return how far a run has come."""
    left = f", {duration(math.ceil(remaining_s))} to go" if remaining_s and remaining_s > 0 else ""
    return f"{phase}: {duration(math.floor(elapsed_s))}{left}"


def plan(options: dict[str, Any]) -> str:
    """Return what was planned in one sentence; what a scenario does not have is left out."""
    parts = [_who(options)]
    if options.get("stuck"):
        parts.append(f"{count(options['stuck'])} of them never read")
    if options.get("churn"):
        parts.append(f"{count(options['churn'])} a second leave and as many enter")
    if options.get("storm"):
        parts.append("all drop at once and come back")
    return f"{'; '.join(parts)}. Every delivery is timed from the planned time of its message."


def origin(result: Result) -> str:
    """Return what was run, against what and when, in one line."""
    when = str(result.get("started_at") or "").replace("T", " ").removesuffix("Z")
    parts = [result.get("scenario"), result.get("target"), result.get("adapter"), f"{when} UTC" if when else ""]
    return " · ".join(str(part) for part in parts if part)


def command(result: Result) -> str:
    """Return the command line that made a result, as it can be pasted into a shell."""
    return shlex.join(str(part) for part in result.get("command") or [])


def label(key: str) -> str:
    """Return the name of an option as people read it: `drain_s` is `drain, s`."""
    name, _, unit = key.rpartition("_")
    if name and unit in _UNITS:
        return f"{name.replace('_', ' ')}, {_UNITS[unit]}"
    return key.replace("_", " ")


def option(value: Any) -> str:
    """Return the value of an option or of something about the machine."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(option, value))
    return count(value) if isinstance(value, int | float) else str(value)


def where_the_server_is(figures: dict[str, Any]) -> str:
    """Return a sentence where nothing is known of the server's processor and memory, else nothing."""
    is_known = not all(is_missing(figures.get(key)) for key in ("server_cpu", "server_memory_bytes"))
    return (
        "" if is_known else "Its processor and memory were not measured: it is not on this machine, or not to be found."
    )


def account(figures: dict[str, Any]) -> str:
    """Return in one sentence what the members had to get and what became of it."""
    had_to, received, missing, doubled = (_number(figures, key) for key in _ACCOUNT)
    words = (
        f"The members had to get {count(had_to)} deliveries = {count(received)} received + {count(missing)} missing "
        f"− {count(doubled)} doubled"
    )
    off = had_to - (received + missing - doubled)
    return f"{words}: it comes out." if off == 0 else f"{words}: it does NOT come out, by {count(off)}."


def times(figures: dict[str, Any]) -> list[tuple[Timed, list[str]]]:
    """Return what was timed, and its percentiles; what was not timed at all is left out."""
    rows = [(timed, [figures.get(f"{timed.key}_{ending}_ms") for ending in PERCENTILES]) for timed in TIMED]
    return [
        (timed, list(map(milliseconds, values)))
        for timed, values in rows
        if not all(is_missing(value) for value in values)
    ]


def goal(one: dict[str, Any]) -> str:
    """Return what was measured for a goal."""
    metric = _METRIC.match(str(one.get("goal", "")))
    unit_s = METRICS.get(metric[0] if metric else "", ("", None))[1]
    say = {None: count, 1e-3: milliseconds, 1.0: seconds}[unit_s]
    return say(one.get("measured"))


def duration(value: float | None) -> str:
    """Return a length of time as people say it: `20 s`, `5 min`, `1 h 30 min`."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    minutes, rest_s = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if value < 60:
        return f"{count(value)} s"
    parts = [(hours, "h"), (minutes, "min"), (rest_s if not hours else 0, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


# Private

_UNITS = {"s": "s", "ms": "ms", "bytes": "bytes", "gb": "GB"}
_METRIC = re.compile(r"[a-z0-9_.]+")
_ACCOUNT = ("had_to_get", "received", "missing", "doubled")


def _not_finite(value: float | None) -> str:
    return NEVER if value is not None and math.isinf(value) else NONE


def _united(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    return f"{_three_digits(value)} {unit}"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    behind = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(behind, 0), 3)}f}"


def _number(figures: dict[str, Any], key: str) -> float:
    value = figures.get(key)
    return math.nan if value is None else float(value)


def _counted(number: float | None, thing: str) -> str:
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def _who(options: dict[str, Any]) -> str:
    members, senders, rooms, rate = (options.get(name) for name in ("members", "senders", "rooms", "rate"))
    is_one_room = rooms in (None, 1)
    words = f"{_counted(members, 'member')} in {'one room' if is_one_room else _counted(rooms, 'room')}"
    if not senders or not rate:
        return f"{words}, nobody sends"
    words += f", {count(senders)} of them" if is_one_room else f", {count(senders)} in each"
    words += f" send{'s' if senders == 1 else ''} {_counted(rate, 'message')} a second"
    words += "" if is_one_room else ", all rooms together,"
    lasting = f" for {duration(options['duration_s'])}" if options.get("duration_s") else ""
    return f"{words}{lasting}{_spacing(str(options.get('arrivals', '')))}"


def _spacing(arrivals: str) -> str:
    if arrivals.startswith("burst:"):
        return f", in bursts of {arrivals.removeprefix('burst:')}"
    return {"constant": ", evenly spaced", "poisson": ", at random (Poisson) times"}.get(arrivals, "")
