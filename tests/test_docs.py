"""What is written about the server is true of it, and the tree keeps the rules it was built by."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from chat import protocol
from chat.settings import is_command
from chatroom import Settings
from loadtest.scenarios import SCENARIOS
from loadtest.verdict import GOAL_MISSED, INVALID, METRICS, PASS, WRONG_DELIVERIES
from tests.support import ROOT

README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
DESIGN = (ROOT / "docs" / "design.md").read_text()
PAGES = sorted((ROOT / "templates").glob("*.html"))
FRONT_END = [*PAGES, *sorted(path for path in (ROOT / "static").rglob("*") if path.is_file())]
SERVER = [ROOT / "chatroom.py", *sorted((ROOT / "chat").rglob("*.py"))]
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))


def frame_types() -> set[str]:
    """The `type` of every frame there is."""
    structs = [each for _, each in inspect.getmembers(protocol, inspect.isclass) if issubclass(each, msgspec.Struct)]
    return {tag for each in structs if isinstance(tag := each.__struct_config__.tag, str)}


def error_codes() -> set[str]:
    """Every code that a ProtocolError is made with."""
    return {
        node.args[0].value
        for path in SERVER
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "ProtocolError"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def imported(path: Path) -> set[str]:
    """The modules a file imports, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def table_rows(text: str) -> Iterator[list[str]]:
    """The rows of Markdown tables whose first cell is one `name`."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[a-z_]+`", cells[0]):
            yield [cells[0].strip("`"), *cells[1:]]


def is_default(cell: str, default: object) -> bool:
    """Whether a table's cell shows the default of an option."""
    shown = cell.strip("`")
    if isinstance(default, str):
        return shown == default or (not default and shown in ("(empty)", "empty", "none", "–", "-"))
    return re.fullmatch(r"[0-9.,]+", shown) is not None and float(shown.replace(",", "")) == default


def test_the_readme_lists_every_option_with_its_default() -> None:
    """The table of options has a row for each option, with the default it really has; commands are told below it."""
    rows = {row[0]: row for row in table_rows(README)}
    for option in fields(Settings):
        if is_command(option):
            assert f"--{option.name.replace('_', '-')}" in README
            continue
        assert option.name in rows, f"{option.name} is not in the README's table of options"
        assert is_default(rows[option.name][1], option.default), rows[option.name]


def test_the_readme_lists_no_option_that_is_not_there() -> None:
    """An option that was taken out of the server is taken out of the table."""
    names = {option.name for option in fields(Settings)} | {"config"}
    listed = {row[0] for row in table_rows(README)}
    assert listed, "the README has no table of options"
    assert listed <= names


def test_every_option_has_a_help() -> None:
    """`--help` has a word for each option, and its unit where it has one."""
    for option in fields(Settings):
        help = option.metadata["help"]
        assert help, option.name
        assert not option.name.endswith("_s") or "second" in help
        assert not option.name.endswith("_bytes") or "bytes" in help


def test_the_protocol_names_every_frame() -> None:
    """docs/protocol.md has a word on each `type`."""
    assert len(frame_types()) > 12
    assert [each for each in sorted(frame_types()) if f"`{each}`" not in PROTOCOL] == []


def test_the_protocol_names_every_field() -> None:
    """Each field of each frame is named."""
    structs = [each for _, each in inspect.getmembers(protocol, inspect.isclass) if issubclass(each, msgspec.Struct)]
    names = {name for each in structs if each.__struct_config__.tag for name in each.__struct_fields__}
    assert [name for name in sorted(names) if not re.search(rf"`[^`\n]*\b{name}\b", PROTOCOL)] == []


def test_the_protocol_names_every_error_and_close_code() -> None:
    """Each code that a client may meet is in docs/protocol.md."""
    assert len(error_codes()) >= 8
    assert [code for code in sorted(error_codes()) if f"`{code}`" not in PROTOCOL] == []
    assert [int(code) for code in protocol.CloseCode if not re.search(rf"\b{int(code)}\b", PROTOCOL)] == []


def test_the_protocol_names_every_limit() -> None:
    """The bounds that a client must know are written down as they are."""
    assert f"{protocol.MAX_TEXT:,}" in PROTOCOL or str(protocol.MAX_TEXT) in PROTOCOL
    assert f"{protocol.MAX_FRAME_BYTES // 1024} KiB" in PROTOCOL
    assert f"{protocol.MAX_PAGE_BYTES // 1024} KiB" in PROTOCOL
    assert protocol.PLAIN_NEWCOMER in PROTOCOL


def test_the_design_names_every_module() -> None:
    """The trees of the server and of the page have a word on each file, and on none that is not there."""
    python = {path.name for path in SERVER if path.name != "__init__.py"}
    page = {path.name for path in (ROOT / "static").glob("*.js")}
    trees = "".join(DESIGN.split("```")[1::2])
    assert python | page == set(re.findall(r"\b[a-z]+\.(?:py|js)\b", trees))


def test_the_front_door_imports_nothing_of_ours_but_chat() -> None:
    """chatroom.py stands on chat alone; import-linter cannot see a lone module."""
    ours = {path.stem for path in ROOT.glob("*.py")} | {"loadtest", "tests"}
    assert not [name for name in imported(ROOT / "chatroom.py") if name.split(".")[0] in ours]


@pytest.mark.parametrize("path", sorted((ROOT / "chat").rglob("*.py")), ids=lambda path: path.name)
def test_chat_imports_neither_its_front_door_nor_the_harness(path: Path) -> None:
    """Imports go downwards only."""
    assert not [name for name in imported(path) if name.split(".")[0] in ("chatroom", "loadtest", "tests")]


@pytest.mark.parametrize("path", sorted((ROOT / "loadtest").rglob("*.py")), ids=lambda path: path.name)
def test_the_harness_knows_the_protocol_alone(path: Path) -> None:
    """Of the server's code the harness imports chat.protocol and nothing else."""
    ours = {name for name in imported(path) if name.split(".")[0] in ("chat", "chatroom")}
    assert not [name for name in ours if not f"{name}.".startswith("chat.protocol.") and name != "chat"]


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.name)
def test_a_function_fits_a_screen(path: Path) -> None:
    """No function of the server is longer than 40 lines."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [each.name for each in functions if (each.end_lineno or 0) - each.lineno >= 40] == []


def test_whatever_may_go_wrong_is_caught_in_three_places_at_most() -> None:
    """A broad `except` hides faults: there are at most three, each says why, and none is bare."""
    broad = []
    for path in SERVER:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ExceptHandler) and is_broad(node):
                broad.append(f"{path.name}:{node.lineno}")
                assert "#" in "".join(lines[node.lineno - 1 : node.lineno + 1]), f"{broad[-1]} does not say why"
    assert len(broad) <= 3, broad


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it swallows anything: one that raises on at its end only cleans up."""
    caught = "" if handler.type is None else ast.unparse(handler.type)
    raises_on = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
    return not caught or "Exception" in re.findall(r"\w+", caught) or ("BaseException" in caught and not raises_on)


@pytest.mark.parametrize("path", FRONT_END, ids=lambda path: path.name)
def test_the_front_end_makes_no_markup_of_text(path: Path) -> None:
    """Nothing that turns a string into elements or code is anywhere in the pages."""
    text = path.read_text()
    for banned in (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "createContextualFragment"),
        *("eval(", "new Function", "setAttribute('on", 'setAttribute("on', "srcdoc", "DOMParser", "setHTMLUnsafe"),
    ):
        assert banned not in text, banned


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / "static").rglob("*.svg")], ids=lambda path: path.name)
def test_pages_have_no_inline_code_and_no_inline_style(path: Path) -> None:
    """The Content-Security-Policy allows none, so that none may be there; all values but the words are escaped."""
    words = r'<script id="(\w+-)?words" type="application/json">\{% raw (\w+_)?words %\}</script>'
    text = re.sub(words, "", path.read_text())
    assert not re.search(r"\son[a-z]+\s*=", text)
    assert not re.search(r"\sstyle\s*=", text)
    assert "<style" not in text
    assert "javascript:" not in text
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert "{% raw" not in text and "{% autoescape" not in text


def test_pages_load_nothing_from_elsewhere() -> None:
    """Every file that a page loads is ours."""
    for path in FRONT_END:
        loaded = re.findall(r"""(?:src|href|import|from|url)\s*(?:=|\()?\s*["'(]?(https?:)?//""", path.read_text())
        assert loaded == [], path.name


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned(path: Path) -> None:
    """What is installed tomorrow is what was tested today."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    for line in filter(None, lines):
        included = re.fullmatch(r"-r (\S+)", line)
        assert (included and (ROOT / included[1]).exists()) or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line), line


HARNESS = ROOT / "loadtest"
HARNESS_README = (HARNESS / "README.md").read_text()


def test_the_harness_readme_shows_the_whole_example_of_an_adapter() -> None:
    """What a reader copies is what a test runs."""
    assert (HARNESS / "examples" / "shouting.py").read_text() in HARNESS_README
    assert len((HARNESS / "examples" / "shouting.py").read_text().splitlines()) <= 40


def test_the_harness_readme_names_every_scenario_goal_and_exit_code() -> None:
    """Nothing has to be looked up in the source."""
    for name in (*SCENARIOS, *METRICS):
        assert re.search(rf"`[^`]*\b{re.escape(name)}\b[^`]*`", HARNESS_README), name
    for code in (PASS, GOAL_MISSED, INVALID, WRONG_DELIVERIES):
        assert f"| {code} |" in HARNESS_README


def test_the_harness_readme_names_every_module() -> None:
    """`Where to find it` leaves nothing to be found by chance."""
    modules = {path.stem for path in HARNESS.glob("*.py")} - {"__init__"}
    where = HARNESS_README.partition("## Where to find it")[2]
    assert {name for name in modules if f"`{name}" not in where} == set()
