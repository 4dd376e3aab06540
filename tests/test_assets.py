"""The static files: what is read, how it is named, and what a page is told to load at once."""

import gzip
import re
from pathlib import Path

import pytest

from chat.assets import FOLDER, Assets, stripped


def write(folder: Path, **files: str) -> Path:
    """Files by name; `__` stands for a slash, `_` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_files_are_kept_as_they_are_and_compressed(tmp_path: Path) -> None:
    """Both forms of a file are ready, the compressed one only where it is the shorter one."""
    assets = Assets(write(tmp_path, styles__a_css="a { color: red; } " * 20, b_js="x"))
    style, script = assets.files["styles/a.css"], assets.files["b.js"]
    assert (style.type, script.type) == ("text/css; charset=UTF-8", "text/javascript")
    assert style.packed is not None and len(style.packed) < len(style.body)
    assert gzip.decompress(style.packed) == style.body == b"a { color: red; } " * 20
    assert (script.body, script.packed) == (b"x", None)


def test_the_styles_are_one_sheet_with_the_ground_first(tmp_path: Path) -> None:
    """A page asks for one file, in which what others build on stands before them."""
    assets = Assets(write(tmp_path, styles__b_css="b {}\n", styles__base_css="base {}\n", styles__a_css="a {}\n"))
    assert assets.files["style.css"].body == b"base {}\na {}\nb {}\n"


@pytest.mark.parametrize(
    ("suffix", "source", "sent"),
    [
        (".js", "/* a\n * b\n */\nf();\n", "\n\n\nf();\n"),
        (".js", "  // a\n\n  // b\nf();", "\n\n\nf();"),
        (".js", "/** One. */\nf();\n  /* two\n*/  \ng();", "\nf();\n\n\ng();"),
        (".js", "/* a */ f(); /* b */\n", "/* a */ f(); /* b */\n"),
        (".js", "f(); // a\n", "f(); // a\n"),
        (".js", 'f("/*");\n//\ng("*/");', 'f("/*");\n\ng("*/");'),
        (".js", "a = b\n  / c / /* d */ 2;\n", "a = b\n/ c / /* d */ 2;\n"),
        (".css", "/* a */\np { color: red; } /* b */\n// no comment\n", "\np { color: red; } /* b */\n// no comment\n"),
        (".svg", "/* a */\n", "/* a */\n"),
    ],
)
def test_comments_are_not_sent(suffix: str, source: str, sent: str) -> None:
    """Only those that have their lines to themselves are left out, and all else stays in its line."""
    assert stripped(suffix, source.encode()).decode() == sent


TOKENS = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)"""
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)"""
    r"""|[=(,:!&|?{};\[\n]\s*/(?![*/])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/""",  # a pattern
    re.DOTALL,
)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.js")), ids=lambda path: path.name)
def test_what_is_not_sent_is_a_comment(path: Path) -> None:
    """Nothing that looks like a comment stands inside of a string, a pattern or a template literal of ours."""
    code = path.read_text("utf-8")

    def blank(token: re.Match[str]) -> str:
        before, after = code[: token.start()].rpartition("\n")[2], code[token.end() :].partition("\n")[0]
        is_alone = token["comment"] and not (before + after).strip()
        return re.sub(r"[^\n]", "", token[0]) if is_alone else token[0]

    lines = stripped(".js", code.encode()).decode().splitlines()
    assert lines == [line.lstrip() for line in TOKENS.sub(blank, code).splitlines()]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.js")), ids=lambda path: path.name)
def test_no_text_goes_over_several_lines(path: Path) -> None:
    """Indentation is not sent, and so must not mean anything."""
    assert not [token for token in TOKENS.finditer(path.read_text("utf-8")) if token["text"] and "\n" in token["text"]]


def test_what_an_editor_leaves_is_not_served(tmp_path: Path) -> None:
    """Only files whose type is known are there."""
    (tmp_path / "a.js~").write_text("x")
    (tmp_path / ".a.js.swp").write_text("x")
    (tmp_path / "folder.js").mkdir()
    assert list(Assets(write(tmp_path, a_js="x")).files) == ["a.js"]


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    """Another text, another name or another folder of one file makes another version; the same files the same."""
    folders = ({"a_js": "x"}, {"a_js": "y"}, {"b_js": "x"}, {"in__a_js": "x"}, {"a_js": "x", "b_css": ""})
    versions = [Assets(write(tmp_path / str(number), **files)).version for number, files in enumerate(folders)]
    assert len(set(versions)) == len(folders)
    assert Assets(tmp_path / "0").version == versions[0]


def test_all_modules_of_the_page_are_named_once(tmp_path: Path) -> None:
    """Whatever is reached by static imports is named, nearest first; circles, comments and strings are no traps."""
    write(
        tmp_path,
        app_js='import { a } from "./a.js";\nimport {\n  b,\n  c as d,\n} from "./b.js";\nimport "./in/e.js";\n',
        a_js='import { b } from "./b.js";\n// import "./unused.js";\nexport { f } from "./f.js";\n',
        b_js='import { a } from "./a.js";\nconst later = () => import("./unused.js");\nconst s = "./unused.js";\n',
        in__e_js="import { g } from '../g.js';\nimport x from 'https://example.org/x.js';\n",
        f_js="",
        g_js='import "./missing.js";\n',
        unused_js="",
    )
    assert Assets(tmp_path).modules == ["a.js", "b.js", "in/e.js", "f.js", "g.js"]


def test_every_import_of_ours_leads_somewhere() -> None:
    """No module of the pages imports, now or later, a file that is not there."""
    assets = Assets()
    scripts = {name: asset.body.decode() for name, asset in assets.files.items() if name.endswith(".js")}
    imported = {path for code in scripts.values() for path in re.findall(r"""["']\./([\w/-]+\.js)["']""", code)}
    assert imported <= scripts.keys()
    assert set(assets.modules) <= imported
