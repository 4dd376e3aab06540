"""The run on locust's page: the tab, the live page beside it, and what looking on costs."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")  # else importing locust changes every other test's process
    from locust import User
    from locust.argument_parser import parse_options
    from locust.env import Environment

from loadtest import web
from loadtest.histogram import Histogram
from loadtest.result import Run, to_json
from tests.fake_result import make_result
from tests.test_terminal import Clock, FakeRun


class Member(User):
    """Somebody who does nothing."""

    host = "ws://localhost:8888"


class CountedRun(FakeRun):
    """A run that counts how often it is asked for its result."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.asked = 0
        self.made = make_result(number=2000, **arguments)

    def result(self) -> dict[str, Any]:
        self.asked += 1
        return {**self.made, "seconds": self.seconds}


class Stage:
    """A locust environment with a page, and the run that is shown there."""

    def __init__(self, *options: str) -> None:
        self.run: CountedRun | None = None
        parsed = parse_options(list(options))
        self.environment = Environment(user_classes=[Member], parsed_options=parsed)
        self.runner = self.environment.create_local_runner()
        base = parsed.web_base_path
        self.ui = self.environment.create_web_ui("127.0.0.1", 0, web_base_path=base, delayed_start=True)
        web.attach(self.environment, self.run_of)

    def run_of(self) -> Run | None:
        return self.run

    @property
    def client(self) -> FlaskClient:
        assert self.ui.app
        return self.ui.app.test_client()


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locust's page reads the command line once more; pytest's is not for it."""
    monkeypatch.setattr(sys, "argv", ["locust"])


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.runner.quit()


def rows_of(client: FlaskClient) -> dict[str, tuple[str, str]]:
    stats = client.get("/stats/requests").get_json()
    (tab,) = stats["extended_stats"]
    assert tab["key"] == "fanout"
    return {row["figure"]: (row["now"], row["run"]) for row in tab["data"]}


def test_the_tab_is_on_locusts_own_page(stage: Stage) -> None:
    """With its table, and links to what can be downloaded."""
    arguments = stage.client.get("/").text.partition("window.templateArgs = ")[2].partition("\n")[0]
    found = json.loads(arguments)
    assert found["extended_tabs"] == [{"title": "Fan-out", "key": "fanout"}]
    assert [column["key"] for column in found["extended_tables"][0]["structure"]] == ["figure", "now", "run"]
    assert [link["href"] for link in found["extended_csv_files"]] == [
        "./fanout",
        "./fanout/result.json",
        "./fanout/latency.hgrm",
    ]


def test_the_tab_has_the_last_second_and_the_whole_run(stage: Stage) -> None:
    """As the report says them; the verdict is the first row."""
    stage.run = CountedRun(missing=3)
    rows = rows_of(stage.client)
    assert next(iter(rows)) == "Verdict"
    assert rows["Verdict"][1] == "VALID · wrong deliveries: 3 missing"
    assert rows["Phase"][0] == "measured: 12 s, 8 s to go"
    assert rows["Members"] == ("1,000", "1,000")
    assert rows["Missing"] == ("3", "3")
    assert rows["Slowest delivery"][1] == "never"
    assert rows["Reordered"] == ("", "0")


def test_locusts_own_figures_stay(stage: Stage) -> None:
    """What is kept for two seconds there gets the newest of ours each time."""
    assert rows_of(stage.client) == {"No run yet": ("", "")}
    stage.run = CountedRun()
    assert "Members" in rows_of(stage.client)
    answer = stage.client.get("/stats/requests").get_json()
    assert answer["state"] == "ready"
    assert answer["stats"][-1]["name"] == "Aggregated"


def test_before_the_first_run_there_is_nothing_to_fetch(stage: Stage) -> None:
    """The page is there and waits."""
    assert "No run yet" in stage.client.get("/fanout").text
    assert stage.client.get("/fanout.json").get_json() == {"run": None}
    for name in ("result.json", "latency.hgrm"):
        answer = stage.client.get(f"/fanout/{name}")
        assert (answer.status_code, answer.text) == (404, "There is no run yet.\n")


def test_only_seconds_that_the_page_lacks_are_sent(stage: Stage) -> None:
    """All of them to a page that shows another run."""
    stage.run = CountedRun()
    first = stage.client.get("/fanout.json")
    assert first.headers["Cache-Control"] == "no-store"
    news = first.get_json()
    assert [second["t"] for second in news["seconds"]] == list(range(17))
    assert news["seconds"][0]["latency_p50_ms"] is None
    assert "measured: 12 s, 8 s to go" in news["title"]
    assert [curve["name"] for curve in news["drawn"]["curves"]] == [
        "every delivery",
        "the last member",
        "send lateness",
    ]
    later = stage.client.get(f"/fanout.json?run={news['run']}&after=15").get_json()
    assert [second["t"] for second in later["seconds"]] == [15, 16]
    for query in ("?run=another&after=15", f"?run={news['run']}&after=-3", f"?run={news['run']}&after=x"):
        assert len(stage.client.get(f"/fanout.json{query}").get_json()["seconds"]) == 17


def test_the_result_can_be_downloaded(stage: Stage) -> None:
    """As the folder has it."""
    stage.run = CountedRun(missing=3)
    answer = stage.client.get("/fanout/result.json")
    assert answer.text == to_json(stage.run.result())
    assert answer.headers["Content-Disposition"] == "attachment; filename=result.json"
    hgrm = stage.client.get("/fanout/latency.hgrm").text
    assert hgrm == Histogram.from_wire(stage.run.made["histograms"]["latency"]).to_hgrm()


def test_however_many_look_on_the_run_is_asked_once_a_second() -> None:
    """It is the process that measures which answers."""
    clock = Clock()
    run = CountedRun()
    latest = web.Latest(lambda: run, clock)
    for _ in range(10):
        latest.result(run)
        clock.now_s += 0.05
    assert run.asked == 1
    clock.now_s += 1
    latest.result(run)
    assert run.asked == 2


def test_the_verdict_and_another_run_are_shown_at_once() -> None:
    """Not only when the second is over."""
    run, other = CountedRun(), CountedRun(missing=3)
    latest = web.Latest(lambda: run, Clock())
    latest.result(run)
    run.is_over = True
    latest.result(run)
    assert run.asked == 2
    other.is_over = True
    assert latest.result(other)["figures"]["missing"] == 3


def test_the_pages_move_with_locusts_base_path() -> None:
    """Behind a proxy they stay beside locust's."""
    stage = Stage("--web-base-path", "/load")
    stage.run = CountedRun()
    assert stage.client.get("/load/fanout").status_code == 200
    assert stage.client.get("/load/fanout.json").get_json()["run"] == stage.run.made["started_at"]
    assert "extended_stats" in stage.client.get("/load/stats/requests").get_json()
    assert stage.client.get("/fanout").status_code == 404


def test_without_a_page_there_is_nothing_to_attach() -> None:
    """A headless run has no page."""
    environment = Environment(user_classes=[Member])
    web.attach(environment, lambda: None)
    assert environment.web_ui is None
