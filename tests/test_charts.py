"""The charts: what they draw is what was measured, and Chromium draws it."""

import math
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, Route, expect

from loadtest import charts, page, words
from loadtest.charts import curve, goal_marks
from loadtest.histogram import Histogram, index_of, low_ns
from loadtest.result import plain, write_folder
from tests.fake_result import make_result, times
from tests.pages import PHONE
from tests.support import DEADLINE_S

FRACTIONS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def value_at(drawn: dict[str, object], x: float) -> float:
    """Return what the curve shows at 1/(1-p), as charts.js reads it."""
    steps, never_from = drawn["steps"], drawn["never_from"]
    assert isinstance(steps, list)
    if isinstance(never_from, float) and x > never_from:
        return math.inf
    return next((float(ms) for until, ms in steps if until >= x), math.nan)


@settings(deadline=None, database=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**11), st.integers(1, 3000)), min_size=1, max_size=100),
    st.integers(0, 20),
    st.sampled_from(FRACTIONS),
)
def test_the_curve_says_what_the_histogram_says(
    recorded: list[tuple[int, int]], infinite: int, fraction: float
) -> None:
    """At every percentile, or at one that is at most a hundredth of a decade further out."""
    histogram = Histogram()
    for ns, count in recorded:
        histogram.record(ns, count)
    histogram.record_infinite(infinite)
    shown_ms = value_at(curve("", histogram), 1 / (1 - fraction))
    further = min(1.0, 1 - (1 - fraction) / charts.NEXT_STEP)
    exact_ms, further_ms = (histogram.percentile_ns(one) / 1e6 for one in (fraction, further))
    if 1 / (1 - fraction) <= histogram.total:
        assert exact_ms * (1 - 1e-9) <= shown_ms <= max(further_ms, exact_ms) * (1 + 1e-9)


def test_the_curve_ends_with_the_longest() -> None:
    """It is drawn a little further than one in all, where it would have no width."""
    histogram = Histogram()
    for ms in range(1, 101):
        histogram.record(ms * 1_000_000)
    drawn = curve("", histogram)
    assert drawn["steps"][-1] == (200.0, 100.0)
    assert drawn["never_from"] is None


def test_the_curve_ends_where_never_begins() -> None:
    """One in ten never came: the curve has nothing to show beyond 90 %, and the longest before is exact."""
    low = low_ns(index_of(5_000_000))
    histogram = Histogram()
    histogram.record(low, 89)
    histogram.record(low + 30_000)
    histogram.record_infinite(10)
    drawn = curve("", histogram)
    assert (drawn["never"], drawn["never_from"]) == (10, 10.0)
    assert drawn["steps"] == [(9.0909, (low + 16_384) / 1e6), (10.0, (low + 30_000) / 1e6)]


def test_nothing_is_drawn_of_nothing() -> None:
    """Neither of an empty histogram nor of one in which nothing ever came."""
    assert curve("", Histogram())["steps"] == []
    histogram = Histogram()
    histogram.record_infinite(3)
    assert (curve("", histogram)["steps"], curve("", histogram)["never_from"]) == ([], 1.0)


def test_a_long_run_draws_no_more_than_the_page_shows() -> None:
    """A hundred steps for each decade, however many buckets were filled."""
    histogram = times(3.0, 30_000, seed=1, spread=1.5)
    assert sum(1 for count in histogram.counts if count) > 800
    assert 100 < len(curve("", histogram)["steps"]) <= 100 * math.log10(30_000) + 2


def test_goals_for_latency_stand_in_the_curve() -> None:
    """At their percentile, in milliseconds; other goals and those of other programs have no place there."""
    goals = ["p99<50ms", "p99.9<=0.2s", "missing==0", "last_p99<1s", "max<1s", "p99>1ms", "<b>"]
    marks = goal_marks({"goals": [{"goal": goal, "is_met": goal == "p99<50ms"} for goal in goals]})
    assert [(mark["text"], round(mark["x"]), mark["ms"], mark["is_met"]) for mark in marks] == [
        ("p99<50ms", 100, 50, True),
        ("p99.9<=0.2s", 1000, 200, False),
    ]


def test_the_script_makes_no_markup() -> None:
    """What it shows is text, whatever it says; and nothing in it ends the element that it stands in."""
    for name in ("charts.js", "live.js"):
        script = (page.TEMPLATES / name).read_text()
        assert not [word for word in ("innerHTML", "outerHTML", "insertAdjacent", "</") if word in script]


# In the browser


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page as narrow as a phone; whatever it asks the network for fails the test, and so does an error."""
    context = browser.new_context(viewport={"width": PHONE["width"], "height": PHONE["height"]})
    faults: list[str] = []
    context.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("request", lambda request: faults.append(request.url) if request.url.startswith("https:") else None)
    yield context.new_page()
    context.close()
    assert not faults, faults


def test_the_report_draws_itself(phone: Page, tmp_path: Path) -> None:
    """Both charts are there at 360 px without sideways scroll, and say under the pointer what was measured."""
    result = make_result(missing=3)
    report = write_folder(tmp_path, result)
    phone.goto(report.as_uri())
    curves, line = phone.locator("[data-chart=curves]"), phone.locator("[data-chart=time-line]")
    expect(curves.locator("path.line")).to_have_count(3, timeout=DEADLINE_S * 1000)
    expect(curves).to_contain_text("3 of 20,003 never came")
    expect(line.locator("path.line").first).to_be_visible()
    expect(line.locator("path.fault")).to_have_count(14)
    for phase in ("ramp", "measured"):
        expect(line.get_by_text(phase, exact=True)).to_have_count(1)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    line.locator("svg").focus()
    for _ in range(15):
        phone.keyboard.press("ArrowRight")
    second = result["seconds"][14]
    read_out = line.locator("xpath=..").locator(".read-out")
    expect(read_out).to_contain_text("14 s, measured")
    expect(read_out).to_contain_text(f"members {second['members']:,}")
    curves.locator("svg").hover(position={"x": 100, "y": 100})
    expect(curves.locator("xpath=..").locator(".read-out")).to_contain_text("every delivery")


def test_the_live_page_shows_a_run_as_it_goes_on(phone: Page) -> None:
    """Each answer adds the seconds that the page did not have, and replaces the figures."""
    result = make_result(verdict={"headline": "running", "is_valid": True, "goals": []})
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(urlsplit(route.request.url).query)
        known = int(parse_qs(asked[-1]).get("after", ["0"])[0])
        shown = {"html": page.live_part(result, f"measured: {min(known, 20)} s"), "drawn": page.drawn(result)}
        seconds = plain({"seconds": result["seconds"][known : known + 20]})
        route.fulfill(json={"run": "one", "title": "t", **shown, **seconds})

    phone.route("**/fanout", lambda route: route.fulfill(body=page.live(), content_type="text/html"))
    phone.route("**/fanout.json*", answer)
    phone.goto("http://load.test/fanout")
    expect(phone.locator("h1")).to_contain_text("measured: 20 s")
    expect(phone.locator("[data-chart=time-line] svg")).to_have_attribute("aria-label", "Time line of 29 seconds")
    assert asked[:2] == ["", "run=one&after=20"]
    expect(phone.locator("#tables")).to_contain_text(words.TIMED[0].name)
