"""The pages: the verdict first, every figure said, and nothing from a result becomes markup."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from loadtest import page
from loadtest.result import load_result, plain, to_json, write_folder
from loadtest.verdict import Health
from tests.fake_result import make_result

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*191}}"


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its elements, their attributes, its text and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._inside[-1] if self._inside else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside not in ("style", "title"):
            self.text.append(data)

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))

    def classes(self) -> list[str]:
        return [name for _, attributes in self.elements for name in (attributes.get("class") or "").split()]


def parsed(result: dict[str, Any]) -> Parsed:
    return Parsed(page.report(result, to_json(result)))


def inlined(found: Parsed, name: str) -> Any:
    """Return the JSON of one of the page's data elements."""
    scripts = [attributes for tag, attributes in found.elements if tag == "script"]
    return json.loads(found.scripts[[attributes.get("id") for attributes in scripts].index(name)])


@pytest.mark.parametrize(
    ("changed", "tone", "headline"),
    [
        ({}, "good", "VALID · goals met"),
        ({"middle_ms": 60}, "missed", "VALID · 1 of 2 goals missed"),
        ({"missing": 3}, "wrong", "VALID · wrong deliveries: 3 missing"),
        ({"health": Health(seconds=20, workers_lost=1)}, "wrong", "INVALID: 1 worker went missing"),
    ],
)
def test_the_verdict_comes_first(changed: dict[str, Any], tone: str, headline: str) -> None:
    """In its colour, before the plan and any figure."""
    found = parsed(make_result(**changed))
    assert f"verdict {tone}" in [attributes.get("class") for _, attributes in found.elements]
    assert found.said.index(headline) < found.said.index("1,000 members in one room")
    assert found.said.index("1,000 members in one room") < found.said.index("Fan-out p50")


def test_every_reason_is_a_sentence_on_the_page() -> None:
    """The first is the headline, and each goal is there with what was measured."""
    health = Health(seconds=20, busy_seconds=9, workers_lost=1)
    said = parsed(make_result(missing=300, health=health)).said
    assert "INVALID: 1 worker went missing" in said
    assert "The generator was the bottleneck: in 9 of 20 seconds" in said
    assert "Wrong deliveries: 300 missing." in said
    assert "p99<50ms : never" in said


def test_missing_stands_in_front_if_there_is_any() -> None:
    """And is not among the big figures otherwise."""
    with_missing, without = (page._big_figures(make_result(missing=number)["figures"]) for number in (3, 0))
    assert (with_missing[0]["name"], with_missing[0]["value"], with_missing[0]["is_bad"]) == ("Missing", "3", True)
    assert [figure["name"] for figure in without] == [
        "Fan-out p50",
        "Fan-out p99",
        "Slowest delivery",
        "Last member p99",
        "Deliveries/s",
    ]


def test_never_and_nothing_are_said() -> None:
    """An infinite p99 is never; what was not timed has no row, what has no figure a dash."""
    result = make_result(missing=500)
    result["figures"]["deliveries_per_s"] = math.nan
    figures = {figure["name"]: figure["value"] for figure in page._big_figures(result["figures"])}
    assert (figures["Fan-out p99"], figures["Deliveries/s"]) == ("never", "–")
    said = parsed(result).said
    assert "Send lateness" in said
    assert "until a member who lost the connection" not in said


def test_the_account_is_spelled_out() -> None:
    """With its numbers, once the run is over; in the middle of it, it cannot come out."""
    result = make_result(missing=3)
    said = "had to get 20,003 deliveries = 20,000 received + 3 missing − 0 doubled: it comes out."
    assert said in parsed(result).said
    running = {**result, "verdict": {"headline": "running", "is_valid": True}}
    assert "had to get" not in Parsed(page.live_part(running, "measured: 3 s, 4 s to go")).said


def test_a_running_run_says_how_far_it_is() -> None:
    """Where its verdict will be."""
    running = make_result(verdict={"headline": "running", "is_valid": True})
    found = Parsed(page.live_part(running, "measured: 3 s, 4 s to go"))
    assert "● measured: 3 s, 4 s to go" in found.said
    assert "running" in found.classes()


def test_the_live_page_has_the_places_that_news_replaces() -> None:
    """Each part comes with the id of the one that it replaces."""
    part = Parsed(page.live_part(make_result(), ""))
    ids = {attributes["id"] for _, attributes in part.elements if "id" in attributes}
    assert ids == {"head", "tables"}
    assert ids <= {attributes.get("id") for _, attributes in Parsed(page.live()).elements}


def evil_result() -> dict[str, Any]:
    result = make_result(
        target=EVIL,
        scenario=EVIL,
        adapter=EVIL,
        commit=EVIL,
        notes=[EVIL],
        command=["locust", EVIL],
        machine={EVIL: EVIL},
    )
    result["options"][EVIL] = EVIL
    result["seconds"][0]["phase"] = EVIL
    result["verdict"].update(headline=EVIL, reasons=[EVIL + "2"], goals=[{"goal": EVIL, "measured": 1, "is_met": True}])
    return result


def test_nothing_in_a_result_becomes_markup() -> None:
    """Wherever it stands, it is text: the page has the elements of any other and shows what was there."""
    found = parsed(evil_result())
    plain_page = parsed(make_result())
    for tag in ("script", "img", "style", "iframe", "svg", "a", "link"):
        assert [one for one, _ in found.elements].count(tag) == [one for one, _ in plain_page.elements].count(tag)
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    shown = re.sub(r"\s+", " ", EVIL)
    assert found.said.count(shown) >= 9
    assert "1337" not in found.said
    assert Parsed(page.live_part(evil_result(), "")).said.count(shown) >= 9


def test_the_data_in_the_page_is_the_result() -> None:
    """Character by character what `result.json` has, also where it would end the element."""
    result = evil_result()
    assert inlined(parsed(result), "result") == json.loads(to_json(result)) == plain(result)


def test_the_report_can_be_read_again(tmp_path: Any) -> None:
    """Who has only the report has the result."""
    report = write_folder(tmp_path, make_result(missing=3))
    (tmp_path / "result.json").write_text(json.dumps(inlined(Parsed(report.read_text()), "result")))
    assert load_result(tmp_path)["figures"]["latency_max_ms"] == math.inf


@pytest.mark.parametrize("make", [page.live, lambda: page.report(make_result(), "{}")], ids=["live", "report"])
def test_a_page_needs_nothing_from_elsewhere(make: Callable[[], str]) -> None:
    """No address is loaded: neither by an element, nor by the style sheet, nor by a script."""
    html = make()
    found = Parsed(html)
    loaded = [
        value
        for tag, attributes in found.elements
        for name, value in attributes.items()
        if name == "src" or (name == "href" and tag != "a")
    ]
    assert loaded == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\s\"'`]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_a_result_with_hardly_anything_has_a_report() -> None:
    """A run that failed before anything was measured has no figures, no histograms and no seconds."""
    bare = {"verdict": {"headline": "INVALID: No member entered.", "is_valid": False}, "figures": {}}
    assert "INVALID: No member entered." in parsed(bare).said


# Colours

PAIRS = [
    *(("ink", ground) for ground in ("ground", "surface", "shade")),
    *(("ink-soft", ground) for ground in ("ground", "surface", "shade")),
    *(("accent", ground) for ground in ("ground", "surface")),
    *((tone, f"{tone}-ground") for tone in ("good", "missed", "wrong", "running")),
    *((tone, ground) for tone in ("good", "wrong") for ground in ("ground", "surface")),
]
LINES = [(f"series-{number}", ground) for number in range(1, 7) for ground in ("surface", "shade")]


def schemes() -> list[dict[str, str]]:
    """Return the colours of the light, and those of the dark."""
    style = (page.TEMPLATES / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in re.findall(r":root \{(.+?)\}", style, re.S)[:2]
    )
    assert light.keys() == dark.keys()
    return [light, dark]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 has it."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_read(scheme: int) -> None:
    """Text has the contrast of WCAG's AA on all it stands on, a line in a chart that of a graphic."""
    colours = schemes()[scheme]
    weak = [pair for pair in PAIRS if contrast(colours[pair[0]], colours[pair[1]]) < 4.5]
    weak += [pair for pair in LINES if contrast(colours[pair[0]], colours[pair[1]]) < 3]
    assert not weak
