"""Who is spoken to with an `@`: static/mentions.js, without a page."""

from typing import Any

from playwright.sync_api import Page

from tests.modules import run


def mentioned(page: Page, *cases: tuple[str, str]) -> list[tuple[str, str]]:
    """Those of the (text, name) in which the text speaks to the name."""
    answers = run(
        page,
        "const { mentionsName } = await load('mentions'); return arg.map(([text, name]) => mentionsName(text, name));",
        cases,
    )
    return [case for case, answer in zip(cases, answers, strict=True) if answer]


def being_written(page: Page, *texts: str) -> list[Any]:
    """What `mentionAt` finds in each text; `|` stands for the caret."""
    return run(
        page,
        """
        const { mentionAt } = await load('mentions');
        return arg.map((text) => mentionAt(text.replace('|', ''), text.indexOf('|')));
        """,
        texts,
    )


def fitting(page: Page, names: list[str], query: str, at_most: int = 9) -> list[str]:
    return run(
        page,
        "const { matching } = await load('mentions'); return matching(arg.names, arg.query, arg.atMost);",
        {"names": names, "query": query, "atMost": at_most},
    )


def test_a_name_is_mentioned_as_a_whole_and_in_any_case(modules: Page) -> None:
    """Before and after it is no letter of a word, so that no Anna and no mail address speaks to Ann."""
    speaking = [
        ("@Ann", "Ann"),
        ("hi @ann!", "Ann"),
        ("(@ANN's)", "Ann"),
        ("mail@ann.example, no: @Ann", "Ann"),
        ("_@Ann_ and **@Bo**", "Ann"),
        ("@Ann Lee, hi", "Ann Lee"),
        ("@Zoë", "zoË"),
        ("@a.b", "a.b"),
        ("@(-:", "(-:"),
        ("@𝒜nn", "𝒜nn"),
        ("你好@小明 看", "小明"),
        ("@Ann你好", "Ann"),
    ]
    silent = [
        ("@Anna", "Ann"),
        ("@Ann_2", "Ann"),
        ("@Ann2", "Ann"),
        ("@Anné", "Ann"),
        ("@Ann\u0301", "Ann"),
        ("mail@ann.example", "Ann"),
        ("https://example.com/@ann", "Ann"),
        ("@@Ann", "Ann"),
        ("@ Ann", "Ann"),
        ("Ann", "Ann"),
        ("@axb", "a.b"),
        ("@小明明", "小明"),
        ("@نیم\u200cفاصله", "نیم"),
        ("@", ""),
        ("@Ann", ""),
    ]
    assert mentioned(modules, *speaking, *silent) == speaking


def test_the_mention_being_written_is_found_at_the_caret(modules: Page) -> None:
    """It begins with an `@` that is inside of nothing and ends at the caret; a space closes it, a further word not."""
    found = being_written(modules, "@|", "hi @an|na", "a\n(@Ann L|", "你好@小|", "＠小|", "@Mary Ann van L|")
    assert found == [
        {"from": 0, "query": ""},
        {"from": 3, "query": "an"},
        {"from": 3, "query": "Ann L"},
        {"from": 2, "query": "小"},
        {"from": 0, "query": "小"},
        {"from": 0, "query": "Mary Ann van L"},
    ]
    none = ["|", "|@ann", "mail@an|", "/@x|", "@Ann |", "@a\nb|", "@  a|", "@a b c d e|", "@" + "a" * 65 + "|"]
    assert being_written(modules, *none) == [None] * len(none)


def test_names_are_ranked_by_where_they_fit(modules: Page) -> None:
    """First those that begin so, then those with such a word, then the others; without case and accents, order kept."""
    names = ["Joanna", "Mary Ann", "Ánn", "Bo", "ann-lee", "Jo-Ann", "ANNA"]
    assert fitting(modules, names, "ann") == ["Ánn", "ann-lee", "ANNA", "Mary Ann", "Jo-Ann", "Joanna"]
    assert fitting(modules, names, "ÁN", 2) == ["Ánn", "ann-lee"]
    assert fitting(modules, names, "", 3) == names[:3]
    assert fitting(modules, ["cc", "C++", "a (c+)"], "c+") == ["C++", "a (c+)"]
    assert fitting(modules, ["한국", "国际", "Łódź"], "하") == ["한국"]
    assert fitting(modules, ["कि", "क"], "कि") == ["कि"]
