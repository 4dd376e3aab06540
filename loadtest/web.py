"""The run on locust's web page: a tab of figures there, and a page of our own with the charts.

Owns the routes under `fanout` and what is added to locust's answers. It counts nothing and keeps nothing of a run.
Invariant: however many look on, a run is asked for its result once a second at most, for the process that answers may
be the one that measures.
"""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent
from flask import Blueprint, Response, request

from loadtest import charts, page, words
from loadtest.result import Run, plain, to_json
from loadtest.words import Result

if TYPE_CHECKING:  # importing locust changes the whole process: that is for whoever runs it to do first
    from locust.env import Environment
    from locust.web import WebUI

FRESH_S: Final = 0.9  # a little less than the second between two questions of one page
BREATH_S: Final = 0.001

Row = tuple[str, str | None, str | None, Callable[[float | None], str]]

# Each row of the tab: its name, the figure of the last second, the figure of the whole run, how both are said.
ROWS: Final[tuple[Row, ...]] = (
    ("Members", "members", "members", words.count),
    ("Deliveries/s", "deliveries_per_s", "deliveries_per_s", words.count),
    ("Missing", "missing", "missing", words.count),
    ("Doubled", "doubled", "doubled", words.count),
    ("Reordered", None, "reordered", words.count),
    ("Fan-out p50", "latency_p50_ms", "latency_p50_ms", words.milliseconds),
    ("Fan-out p99", "latency_p99_ms", "latency_p99_ms", words.milliseconds),
    ("Fan-out p99.9", None, "latency_p99_9_ms", words.milliseconds),
    ("Slowest delivery", "latency_max_ms", "latency_max_ms", words.milliseconds),
    ("Last member p99", "last_member_p99_ms", "last_member_p99_ms", words.milliseconds),
    ("Send lateness p99", "lateness_p99_ms", "lateness_p99_ms", words.milliseconds),
    ("Read lag p99", "read_lag_p99_ms", "read_lag_p99_ms", words.milliseconds),
    ("Generator CPU", "generator_cpu", "generator_cpu_max", words.cpu),
    ("Server CPU", "server_cpu", "server_cpu", words.cpu),
    ("Server memory", "server_memory_bytes", "server_memory_bytes", words.memory),
)
TAB: Final = {
    "extended_tabs": [{"title": "Fan-out", "key": "fanout"}],
    "extended_tables": [
        {
            "key": "fanout",
            "structure": [
                {"key": "figure", "title": "Figure"},
                {"key": "now", "title": "Last second"},
                {"key": "run", "title": "Whole run"},
            ],
        }
    ],
    "extended_csv_files": [
        {"href": "./fanout", "title": "Fan-out: charts and verdict"},
        {"href": "./fanout/result.json", "title": "Fan-out: result.json"},
        {"href": "./fanout/latency.hgrm", "title": "Fan-out: latency.hgrm"},
    ],
}


def attach(environment: "Environment", run_of: Callable[[], Run | None]) -> None:
    """Add the tab and the pages to locust's, if there is a page; to be called in `init`, before it is served.

    `run_of` returns the run that goes on or was the last, None before the first.
    """
    ui = environment.web_ui
    if ui is None or ui.app is None:
        return
    latest = Latest(run_of)
    ui.template_args.update(TAB)
    ui.app.after_request(lambda response: _with_tab(response, latest))
    prefix = getattr(environment.parsed_options, "web_base_path", None)
    ui.app.register_blueprint(_pages(ui, latest), url_prefix=prefix or None)


class Latest:
    """What is shown of a run, made again only when it is older than `FRESH_S`, for all who look on."""

    def __init__(self, run_of: Callable[[], Run | None], clock: Callable[[], float] = time.monotonic) -> None:
        self.run_of = run_of
        self._clock = clock
        self._of: Run | None = None
        self._was_over = False
        self._made_s = 0.0
        self._result: Result = {}
        self._page: dict[str, Any] | None = None

    def result(self, run: Run) -> Result:
        """Return the run's result as of now, or of less than a second ago."""
        is_stale = self._clock() - self._made_s > FRESH_S or run.is_over != self._was_over
        if run is not self._of or is_stale:
            self._of, self._was_over, self._made_s = run, run.is_over, self._clock()
            self._result, self._page = run.result(), None
        return self._result

    def page(self, run: Run) -> dict[str, Any]:
        """Return what the live page shows of that result, but for the seconds."""
        result = self.result(run)
        if self._page is None:
            # Made in pieces: where this process measures, its reader must not wait for all of it.
            gevent.sleep(BREATH_S)
            html = page.live_part(result, _progress(run))
            gevent.sleep(BREATH_S)
            self._page = {"run": result.get("started_at"), "html": html, "drawn": page.drawn(result)}
            gevent.sleep(BREATH_S)
        return self._page


# The tab


def _with_tab(response: Response, latest: Latest) -> Response:
    if request.endpoint == "locust.request_stats" and response.is_json:
        # Locust keeps this answer for two seconds and hands out the same object: what was added is replaced.
        answer = response.get_json()
        answer["extended_stats"] = [{"key": "fanout", "data": _rows(latest)}]
        response.set_data(json.dumps(answer))
    return response


def _rows(latest: Latest) -> list[dict[str, str]]:
    run = latest.run_of()
    if run is None:
        return [{"figure": "No run yet", "now": "", "run": ""}]
    result = latest.result(run)
    second = run.seconds[-1] if run.seconds else {}
    told = [
        {"figure": name, "now": _said(second, now, say), "run": _said(result["figures"], whole, say)}
        for name, now, whole, say in ROWS
    ]
    return [
        {"figure": "Verdict", "now": "", "run": str(result["verdict"]["headline"])},
        {"figure": "Phase", "now": _progress(run), "run": ""},
        {"figure": "Charts", "now": "", "run": "/fanout"},
        *told,
    ]


def _said(figures: dict[str, Any], key: str | None, say: Callable[[float | None], str]) -> str:
    return say(figures.get(key)) if key else ""


def _progress(run: Run) -> str:
    return "over" if run.is_over else words.progress(run.phase, run.elapsed_s, run.remaining_s)


# The pages


def _pages(ui: "WebUI", latest: Latest) -> Blueprint:
    def live() -> Response:
        return Response(page.live(), mimetype="text/html")

    def news() -> Response:
        run = latest.run_of()
        if run is None:
            return _json({"run": None})
        shown, seconds = latest.page(run), latest.result(run).get("seconds", [])
        known = request.args.get("after", 0, int) if request.args.get("run") == shown["run"] else 0
        title = f"{_progress(run)} · Fan-out"
        return _json({**shown, "title": title, **plain({"seconds": seconds[max(known, 0) :]})})

    def result_json() -> Response:
        return _download(latest, "result.json", to_json)

    def latency_hgrm() -> Response:
        return _download(latest, "latency.hgrm", lambda result: charts.histogram_of(result, "latency").to_hgrm())

    pages = Blueprint("fanout", __name__)
    views = {
        "/fanout": live,
        "/fanout.json": news,
        "/fanout/result.json": result_json,
        "/fanout/latency.hgrm": latency_hgrm,
    }
    for path, view in views.items():
        pages.add_url_rule(path, view.__name__, ui.auth_required_if_enabled(view))  # type: ignore[no-untyped-call]
    return pages


def _json(news: dict[str, Any]) -> Response:
    response = Response(json.dumps(news, allow_nan=False), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _download(latest: Latest, name: str, text_of: Callable[[Result], str]) -> Response:
    run = latest.run_of()
    if run is None:
        return Response("There is no run yet.\n", 404, mimetype="text/plain")
    mimetype = "application/json" if name.endswith(".json") else "text/plain"
    response = Response(text_of(latest.result(run)).encode("utf-8", "backslashreplace"), mimetype=mimetype)
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    return response
