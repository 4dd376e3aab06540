"""The languages of the pages: their sentences, and in which one a browser is answered.

Owns the tables in templates/languages, one per language; static/words.js fills the same sentences in the browser.
Knows no request: it is given what the person chose and what his browser asks for. Invariant: every language says
all that English says, with the same places in it, or the server does not start.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "templates" / "languages"
ENGLISH = "en"

Entry = str | dict[str, str]  # a sentence, or its forms by plural category
Table = dict[str, Entry]

# Sentences by their key's first word: what only templates say, and what only moderators read, which comes later.
TEMPLATES_OWN = {"admin", "bar", "door", "error_page", "export", "language", "menu", "noscript", "toast"}
MODERATORS = {
    *("announcing", "card", "deed", "filter", "hand_over", "invite", "password", "raid", "reason", "record", "review"),
    *("rule", "standing", "sure"),
}

_PLACE = re.compile(r"\{(\w+)\}")
_RANGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?")
_MOST_RANGES = 50  # looked at: a header has room for 8,000, which would take 10 ms
_ALSO = {"zh-Hans": ("zh", "zh-cn", "zh-sg")}  # under which other tags browsers ask for it
# Inside a <script> none of these may stand as they are: the first could end it, the others end a line for old parsers.
_IN_SCRIPT = {ord("<"): "\\u003c", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class BrokenTable(Exception):
    """A language cannot be used; the text is one sentence that says where to mend it."""


class Languages:
    """Every table in a folder, read once; raises BrokenTable."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._tables = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
        english = self._tables.get(ENGLISH)
        if english is None:
            raise BrokenTable(f"{folder} has no {ENGLISH}.json: put it back.")
        for tag, table in self._tables.items():
            for fault in faults(english, table):
                raise BrokenTable(f"{folder / tag}.json {fault}.")
        self.names = [(tag, self.sentence(tag, "language.name")) for tag in self._tables]
        self._scripts = {
            tag: _script(table, lambda kind: kind not in TEMPLATES_OWN | MODERATORS)
            for tag, table in self._tables.items()
        }
        self._moderators = {tag: _script(table, MODERATORS.__contains__) for tag, table in self._tables.items()}

    def choose(self, chosen: str | None, accept_language: str) -> str:
        """The tag of the language to answer in: the person's choice, else his browser's, else English."""
        if chosen in self._tables:
            return chosen
        found = (tag for wanted in _by_preference(accept_language) for tag in self._tables if _is_meant(tag, wanted))
        return next(found, ENGLISH)

    def sentence(self, tag: str, key: str, **values: object) -> str:
        """The sentence `key` with its places filled; forms are chosen by `n`. Without a sentence, `key` itself."""
        entry = self._tables[tag].get(key, key)
        if isinstance(entry, dict):
            entry = entry.get("one" if values.get("n") == 1 else "other", entry["other"])
        return _PLACE.sub(lambda place: _filled(values[place[1]]), entry)

    def has(self, key: str) -> bool:
        return key in self._tables[ENGLISH]

    def script(self, tag: str) -> str:
        """What the page's scripts say, as JSON that may stand inside <script type="application/json">."""
        return self._scripts[tag]

    def moderators_script(self, tag: str) -> str:
        """What they say besides to moderators."""
        return self._moderators[tag]


def faults(english: Table, table: Table) -> Iterator[str]:
    """What keeps a table from saying all that English says."""
    for key in english:
        if key not in table:
            yield f"has no `{key}`, which English has"
        elif isinstance(table[key], dict) != isinstance(english[key], dict):
            yield f"has plural forms of `{key}` where English has none, or none where English has them"
        elif _places(table[key]) != _places(english[key]):
            yield f"has other places in `{key}` than English: {{name}} must stand in both or in none"
    for key in table.keys() - english.keys():
        yield f"has `{key}`, which English does not have"


def _read(path: Path) -> Table:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenTable(f"{path} cannot be read: {error}.") from None
    if not isinstance(table, dict):
        raise BrokenTable(f"{path} is no object of sentences by key.")
    for key, entry in table.items():
        forms = entry if isinstance(entry, dict) else {"other": entry}
        if "other" not in forms or not all(isinstance(form, str) for form in forms.values()):
            raise BrokenTable(f"{path} has neither a sentence nor forms with `other` at `{key}`.")
    return table


def _places(entry: Entry) -> set[str]:
    """The places of a sentence; those of `other` where it has forms, as "one" may be said without its number."""
    return set(_PLACE.findall(entry["other"] if isinstance(entry, dict) else entry))


def _filled(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _script(table: Mapping[str, Entry], is_wanted: Callable[[str], bool]) -> str:
    wanted = {key: entry for key, entry in table.items() if is_wanted(key.partition(".")[0])}
    return json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).translate(_IN_SCRIPT)


def _by_preference(accept_language: str) -> list[str]:
    """The language ranges of RFC 9110, 12.5.4, most wanted first; what is none of them is passed over."""
    found = [_RANGE.fullmatch(part) for part in accept_language.split(",", _MOST_RANGES)[:_MOST_RANGES]]
    wanted = [(float(one[2] or 1), one[1].lower()) for one in found if one]
    return [tag for quality, tag in sorted(wanted, key=lambda one: -one[0]) if quality > 0]


def _is_meant(tag: str, wanted: str) -> bool:
    own = tag.lower()
    return wanted == own or wanted.startswith(own + "-") or wanted in _ALSO.get(tag, ())
