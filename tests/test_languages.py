"""The languages: that none lacks anything, which one a browser gets, and how sentences are filled."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from chat import http, languages
from chat.assets import FOLDER as STATIC
from chat.assets import Assets
from chat.languages import MODERATORS, TEMPLATES_OWN, BrokenTable, Languages, faults

ALL = Languages()
TABLES = {path.stem: json.loads(path.read_text("utf-8")) for path in languages.FOLDER.glob("*.json")}
ENGLISH = TABLES["en"]

SCRIPTS = [path.read_text("utf-8") for path in STATIC.rglob("*.js")]
TEMPLATES = [path.read_text("utf-8") for path in http.TEMPLATES.rglob("*.html")]
SERVER = [path.read_text("utf-8") for path in Path(http.__file__).parent.glob("*.py")]


def broken(tmp_path: Path, **tables: Any) -> str:
    """The sentence with which a server of these tables does not start."""
    for tag, table in tables.items():
        (tmp_path / f"{tag}.json").write_text(table if isinstance(table, str) else json.dumps(table))
    with pytest.raises(BrokenTable) as refusal:
        Languages(tmp_path)
    return str(refusal.value)


# The tables


@pytest.mark.parametrize("tag", TABLES)
def test_no_language_lacks_a_sentence_or_has_one_too_many(tag: str) -> None:
    """Keys, forms and places are those of English."""
    assert list(faults(ENGLISH, TABLES[tag])) == []
    assert TABLES[tag].keys() == ENGLISH.keys()


@pytest.mark.parametrize("tag", TABLES)
def test_forms_are_those_the_language_has(tag: str, modules: Page) -> None:
    """Wherever a sentence has forms they are the plural categories of its language, no more and no fewer."""
    categories = modules.evaluate("(tag) => new Intl.PluralRules(tag).resolvedOptions().pluralCategories", tag)
    for key, entry in TABLES[tag].items():
        if isinstance(entry, dict):
            assert set(entry) == set(categories), key


@pytest.mark.parametrize("tag", TABLES)
def test_no_sentence_is_empty_or_padded(tag: str) -> None:
    """Every form says something, and brings no white space of its own."""
    for key, entry in TABLES[tag].items():
        for form in entry.values() if isinstance(entry, dict) else [entry]:
            assert form and form == form.strip(), key


def test_no_key_stands_twice() -> None:
    """A second entry of one key would silently win."""
    for path in languages.FOLDER.glob("*.json"):
        keys = json.loads(path.read_text("utf-8"), object_pairs_hook=lambda pairs: [key for key, _ in pairs])
        assert len(set(map(str, keys))) == len(keys), path.name


def test_every_sentence_asked_for_is_there() -> None:
    """Whatever key the pages' scripts and templates name stands in the tables."""
    groups = "|".join({key.partition(".")[0] for key in ENGLISH})
    named = re.compile(rf"""["'`]((?:{groups})\.[a-z_0-9]+)["'`]""")
    asked = set(chain.from_iterable(named.findall(text) for text in SCRIPTS + TEMPLATES))
    assert {key for key in asked if not key.endswith((".js", ".css"))} <= ENGLISH.keys()


def test_every_sentence_is_asked_for() -> None:
    """No key stands in the tables that nothing names; a group that is named by what happens counts as a whole."""
    texts = "\n".join(SCRIPTS + TEMPLATES + SERVER)
    named = set(re.findall(r"""["'`]([a-z_]+\.[a-z_0-9]+)["'`]""", texts))
    groups = set(re.findall(r"[`\"]([a-z_]+)\.\$?\{", texts))
    assert {key for key in ENGLISH if key.partition(".")[0] not in groups} - named == set()


# The choice


@pytest.mark.parametrize(
    ("chosen", "asked", "answered"),
    [
        (None, "", "en"),
        (None, "en-GB,en;q=0.9", "en"),
        (None, "zh", "zh-Hans"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        (None, "ZH-sg", "zh-Hans"),
        (None, "zh-Hans", "zh-Hans"),
        (None, "zh-Hans-CN", "zh-Hans"),
        (None, "zh-Hant-TW, zh-TW", "en"),
        (None, "zh-TW, zh;q=0.5", "zh-Hans"),
        (None, "zhx, zh-cnx", "en"),
        (None, "de, fr;q=0.9", "en"),
        (None, "de, zh-CN;q=0.5", "zh-Hans"),
        (None, "en;q=0.4, zh-CN;q=0.5", "zh-Hans"),
        (None, "zh-CN;q=0.5, en;q=0.5", "zh-Hans"),
        (None, "zh-CN;q=0, de", "en"),
        (None, "zh-CN ; q=0.9 , en ; q=0.8", "zh-Hans"),
        (None, "zh-CN;q=2, *;q=0.1", "en"),
        (None, ";;,,q=,zh-CN;q=nan,\u4e2d", "en"),
        ("zh-Hans", "en", "zh-Hans"),
        ("en", "zh-CN", "en"),
        ("zh-hans", "en", "en"),
        ("../en", "zh-CN", "zh-Hans"),
        ("", "zh-CN", "zh-Hans"),
    ],
)
def test_the_choice_wins_then_the_browser_then_english(chosen: str | None, asked: str, answered: str) -> None:
    """A person's own choice is taken if there is such a language, else what his browser wants most."""
    assert ALL.choose(chosen, asked) == answered


@given(st.text(), st.text(alphabet="zhen-CN;,q=0.159* ", max_size=60))
def test_whatever_is_asked_there_is_an_answer(chosen: str, asked: str) -> None:
    """No choice and no header breaks anything."""
    assert ALL.choose(chosen, asked) in TABLES


def test_every_language_is_offered_under_its_own_name() -> None:
    """The names are what a speaker of the language looks for."""
    assert ALL.names == [("en", "English"), ("zh-Hans", "简体中文")]


# The sentences


def test_places_are_filled_and_forms_chosen(tmp_path: Path) -> None:
    """A place takes what is given for it, whatever signs are in that; numbers are written as people write them."""
    english = {
        "language.name": "English",
        "a.b": "{who} said {what}",
        "a.n": {"one": "{n} word", "other": "{n} words"},
    }
    (tmp_path / "en.json").write_text(json.dumps(english))
    here = Languages(tmp_path)
    assert here.sentence("en", "a.b", who="{what}", what="\\1 {who}") == "{what} said \\1 {who}"
    assert [here.sentence("en", "a.n", n=n) for n in (0, 1, 1234)] == ["0 words", "1 word", "1,234 words"]
    assert here.sentence("en", "a.unknown") == "a.unknown"
    assert (here.has("a.b"), here.has("a.unknown")) == (True, False)


def test_a_table_cannot_leave_its_script_element(tmp_path: Path) -> None:
    """Nothing in a table can end the element it stands in, and what is read from there is the table."""
    english = {"a.c": "</script><!-- <script>", "a.b": "line\u2028line\u2029\\ \" '"}
    (tmp_path / "en.json").write_text(json.dumps({"language.name": "English", **english}))
    script = Languages(tmp_path).script("en")
    assert not set(script) & set("<\u2028\u2029")
    assert json.loads(script) == english


def test_every_sentence_is_where_it_is_said() -> None:
    """What only templates say goes to no script, what only moderators read comes with what only they have."""
    assets, words = Assets(), ALL
    of_all = _named_by(assets, "app.js") | _named_by(assets, "dialogs.js") | _named_by(assets, "rooms.js")
    of_moderators = _named_by(assets, "moderation.js")
    kinds = {key.partition(".")[0] for key in ENGLISH}
    assert {kind for kind in kinds if kind not in of_all | of_moderators} == TEMPLATES_OWN
    assert {kind for kind in kinds if kind in of_moderators - of_all} == MODERATORS
    first, later = json.loads(words.script("en")), json.loads(words.moderators_script("en"))
    assert not first.keys() & later.keys()
    assert {key for key in ENGLISH if key.partition(".")[0] not in TEMPLATES_OWN} == first.keys() | later.keys()


def _named_by(assets: Assets, entry: str) -> set[str]:
    """The first words of the keys that a module, or what it imports, names."""
    code = "".join(assets.files[name].body.decode() for name in [entry, *assets._reached_from(entry)])
    return set(re.findall(r"""["'`](\w+)[.$]""", code))


# What keeps a server from starting


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, "has no `language.name`, which English has"),
        ({"language.name": "X", "a.b": "{other}", "a.n": {"other": "{n}"}}, "other places in `a.b`"),
        ({"language.name": "X", "a.b": "{x}", "a.n": "{n}"}, "plural forms of `a.n`"),
        ({"language.name": "X", "a.b": {"other": "{x}"}, "a.n": {"other": "{n}"}}, "plural forms of `a.b`"),
        ({"language.name": "X", "a.b": "{x}", "a.n": {"other": "{n}"}, "a.c": ""}, "has `a.c`"),
        ({"language.name": "X", "a.b": "{x}", "a.n": {"one": "{n}"}}, "forms with `other` at `a.n`"),
        ({"language.name": 1}, "`language.name`"),
        ([], "no object"),
        ("{", "cannot be read"),
    ],
)
def test_a_table_that_lacks_something_is_refused(tmp_path: Path, other: Any, reason: str) -> None:
    """A server does not start with it, and says in one sentence where to mend it."""
    english = {"language.name": "English", "a.b": "{x}", "a.n": {"one": "one", "other": "{n}"}}
    sentence = broken(tmp_path, en=english, xx=other)
    assert str(tmp_path / "xx.json") in sentence
    assert reason in sentence


def test_without_english_nothing_starts(tmp_path: Path) -> None:
    """English is what all others are measured by."""
    assert "has no en.json" in broken(tmp_path, xx={"language.name": "X"})
