"""What the signs in a text mean: static/markdown.js and static/inline.js, without a page."""

import random
import re

from playwright.sync_api import Page

from tests.modules import run
from tests.support import eventually

# Blocks as a line of tags, as short as can be: a paragraph is only its text, blocks are joined by " | ".
SHOWN = """
const { parsed } = await load('markdown');
const tags = { strong: 'b', em: 'i', strike: 's', code: 'c', link: 'a', mention: 'm' };
const within = ({ type, text, inline }) => `<${tags[type]}>${text ?? inlines(inline)}</${tags[type]}>`;
const inlines = (inline) => inline.map((piece) => (typeof piece === 'string' ? piece : within(piece))).join('');
const kinds = {
  paragraph: ({ inline }) => inlines(inline),
  quote: ({ blocks }) => `<q>${all(blocks)}</q>`,
  list: ({ ordered, start, items }) => `<${ordered ? `ol ${start}` : 'ul'}>${items.map(inlines).join('; ')}</>`,
  code: ({ text, language }) => `<pre ${language}>${text}</pre>`,
};
const all = (blocks) => blocks.map((block) => kinds[block.type](block)).join(' | ');
return arg.map((text) => all(parsed(text, { me: 'Ann' })));
"""

PIECES = [
    *"*_~`\\>-.:()[]@#!1 \n\t a",
    *("**", "***", "~~", "```", "``", "\n\n", "\n> ", "\n- ", "\n1. ", "word", "snake_case", "@Ann", "@Anna"),
    *("http://a.example/b_c(d)", "https://", "http://x@y", "你好", "。", "مرحبا", "\u202e", "🎉", "e\u0301", "\0"),
]


def shown(page: Page, *texts: str) -> list[str]:
    return run(page, SHOWN, texts)


def check(page: Page, cases: dict[str, str]) -> None:
    assert dict(zip(cases, shown(page, *cases), strict=True)) == cases


def check_as_typed(page: Page, *texts: str) -> None:
    check(page, {text: text for text in texts})


def test_emphasis(modules: Page) -> None:
    """Bold, italic and struck text, alone, nested and side by side, in scripts with and without spaces."""
    check(
        modules,
        {
            "**a** *b* _c_ ~~d~~": "<b>a</b> <i>b</i> <i>c</i> <s>d</s>",
            "***a***": "<i><b>a</b></i>",
            "***a** b*": "<i><b>a</b> b</i>",
            "***a* b**": "<b><i>a</i> b</b>",
            "**a *b***": "<b>a <i>b</i></b>",
            "~~*a* **b** _c_~~": "<s><i>a</i> <b>b</b> <i>c</i></s>",
            "(*a*), “_b_”—**c**!": "(<i>a</i>), “<i>b</i>”—<b>c</b>!",
            "*two\nlines*": "<i>two\nlines</i>",
            "这是**重点**内容，**标题：**内容": "这是<b>重点</b>内容，<b>标题：</b>内容",
            "**🎉**": "<b>🎉</b>",
            "**a *b** c*": "<b>a *b</b> c*",
        },
    )


def test_what_is_no_emphasis_stays_as_it_was_typed(modules: Page) -> None:
    """Names, sums, files, faces and markers without a partner."""
    check_as_typed(
        modules,
        "snake_case_name, __init__ and CONST_",
        "2 * 3 * 4, 2*3*4, 2**3**4",
        "src/*.js lib/*.js, *.* and *.md",
        "def f(*args, **kwargs): g(*a, **k)",
        "-_- lol -_- *_* ^_^ ¯\\_(ツ)_/¯",
        "x * a *, ** a **, *, **",
        "~a~ ~~~b~~~ ****c**** __d__",
        "*a\n\nb*",
        "*a",
        "un*believ*able",
    )


def test_code_is_read_before_everything_else(modules: Page) -> None:
    """Between backticks nothing is a marker; as many close as opened."""
    check(
        modules,
        {
            "`a` and ``b`c``": "<c>a</c> and <c>b`c</c>",
            "`` ` ``": "<c>`</c>",
            "*a `b* c` d*": "<i>a <c>b* c</c> d</i>",
            "`@Ann https://a.example`": "<c>@Ann https://a.example</c>",
            "look: ```a``` there": "look: <c>a</c> there",
            "`a ``b``` c": "`a ``b``` c",
        },
    )


def test_a_backslash_goes_only_where_it_was_needed(modules: Page) -> None:
    """An escaped marker is text, at the start of a line, too; paths and faces keep their backslashes."""
    check(
        modules,
        {
            "\\*a\\* \\**b\\** \\`c\\` \\~~d\\~~": "*a* **b** `c` ~~d~~",
            "*a \\* b*": "<i>a \\* b</i>",
            "\\> a\n\\- b\n1\\. c\n\\* d": "> a\n- b\n1. c\n* d",
            "C:\\dir\\*.txt \\\\server\\_x ¯\\_(ツ)_/¯ \\": "C:\\dir\\*.txt \\\\server\\_x ¯\\_(ツ)_/¯ \\",
        },
    )


def test_addresses_are_links_without_what_stands_around_them(modules: Page) -> None:
    """Punctuation, brackets and markers behind an address are none of it; a bracket that was opened within is."""
    check(
        modules,
        {
            "http://a.example/b_(c) (https://a.example/d).": "<a>http://a.example/b_(c)</a> (<a>https://a.example/d</a>).",
            "看https://a.example/b。很好": "看<a>https://a.example/b</a>。很好",
            "**https://a.example/b_c**, <HTTP://A.example>": "<b><a>https://a.example/b_c</a></b>, <<a>HTTP://A.example</a>>",
            "[a](https://a.example)": "[a](<a>https://a.example</a>)",
            "https://a.example/@Ann?x=*y*&z": "<a>https://a.example/@Ann?x=*y*&z</a>",
            "https://a.example/\u202egpj.exe": "<a>https://a.example/</a>\u202egpj.exe",
        },
    )
    check_as_typed(
        modules,
        "http://good.example@evil.example/ http://@evil.example https://u:p@a.example",
        "javascript:alert(1) data:text/html,x ftp://a.example //a.example www.a.example",
        "http:// https://... http:///a http://[ http://?a xhttp://a.example",
    )
    hrefs = run(
        modules,
        """
        const { parsed } = await load('markdown');
        return parsed(arg)[0].inline.filter(({ type }) => type === 'link').map(({ text, href }) => [text, href]);
        """,
        "http://münchen.example/ß HTTPS://A.example",
    )
    assert hrefs == [
        ["http://münchen.example/ß", "http://xn--mnchen-3ya.example/%C3%9F"],
        ["HTTPS://A.example", "https://a.example/"],
    ]


def test_mentions_of_one_name_are_found_where_text_is(modules: Page) -> None:
    """In a sentence, in emphasis and in a list, not within a word."""
    check(
        modules,
        {
            "hi @ann, _@Ann_": "hi <m>@ann</m>, <i><m>@Ann</m></i>",
            "- **@Ann** do": "<ul><b><m>@Ann</m></b> do</>",
            "@Anna mail@ann.example \\@Ann": "@Anna mail@ann.example \\@Ann",
        },
    )


def test_quotes_and_lists(modules: Page) -> None:
    """Two levels of quotes, flat lists; the numbers of a list are those that were typed."""
    check(
        modules,
        {
            "> a\n> *b*\nc": "<q>a\n<i>b</i></q> | c",
            "a\n>\n> b\n>\n> > c": "a\n> | <q>b | <q>c</q></q>",
            ">> a\n> > > b": "<q><q>a\n> b</q></q>",
            "> - a\n> ```\n> b": "<q><ul>a</> | <pre >b</pre></q>",
            "- a\n* *b*\n  more\n  - within\nafter": "<ul>a; <i>b</i>\nmore\n- within</> | after",
            "1. a\n2. b\n4. c\n1) d": "<ol 1>a; b</> | <ol 4>c</> | <ol 1>d</>",
            "0. a\n\n- b\n\n\nc": "<ol 0>a</> | <ul>b</> | c",
        },
    )
    check_as_typed(modules, ">:( >_< >", ">", "1.", "1. ", "-", "---", "* * *", "-a\n1.b", "007. c\n2024. d")


def test_code_blocks(modules: Page) -> None:
    """A fence ends with its like, behind the last line, too, or with the text; what is no language is code."""
    check(
        modules,
        {
            "a\n```js\n*b*\n\n  c\n```\nd": "a | <pre js>*b*\n\n  c</pre> | d",
            "```\na": "<pre >a</pre>",
            "```a b\nc```\n*d*": "<pre >a b\nc</pre> | <i>d</i>",
            "````\n```\n````": "<pre >```</pre>",
            "  ```\n    a\n  b\n```": "<pre >  a\nb</pre>",
            "1. a\n```\nb\n```\n2. c": "<ol 1>a</> | <pre >b</pre> | <ol 2>c</>",
        },
    )
    check_as_typed(modules, "```", "```js", "a ```")


def test_empty_lines_and_indents_stay(modules: Page) -> None:
    """Whatever line ends were sent; only what stands between two blocks is left out."""
    check(
        modules,
        {
            "a\r\n\r\n  b\rc": "a\n\n  b\nc",
            "a\n \n\nb": "a\n \n\nb",
            "\n\na\n\n> b\n\n\n  c\n": "a | <q>b</q> |   c",
            "": "",
        },
    )


def test_no_sign_is_lost_and_none_is_added(modules: Page) -> None:
    """Of whatever mix: without the signs that can be markers, what is shown is what was typed."""
    dice = random.Random(4)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 60))) for _ in range(1500)]
    visible = run(
        modules,
        """
        const { parsed } = await load('markdown');
        const seen = (part) => {
          if (typeof part === 'string') return part;
          if (part.type === 'list') return part.items.flat().map(seen).join('') + (part.ordered ? numbers(part) : '');
          return (part.language ?? '') + (part.text ?? (part.inline ?? part.blocks).map(seen).join(''));
        };
        const numbers = ({ start, items }) => items.map((_, i) => start + i).join('');
        return arg.map((text) => parsed(text, { me: 'Ann' }).map(seen).join(''));
        """,
        texts,
    )
    for text, seen in zip(texts, visible, strict=True):
        assert sorted(unmarked(seen)) == sorted(unmarked(text)), text


def unmarked(text: str) -> str:
    return re.sub(r"[*_~`\\>\-.)\s]", "", text)


HOSTILE = [
    *("*", "*a ", "*a* ", "_a_ ", "*!", "***a** ", "*a _b ~~c **d ***e ", "~~a ", "\\", "\\*", "`\\", "😀*", "[", "\0"),
    *("`", "`a``b```c", "```\n", "> ", ">", ">\n", "> a\n- b\n", "- ", "1. ", "- a\n  b\n", "\n", " ", "\n \t"),
    *("(", ")(", "@@", "a.", "a.a.", "![](", "www.", "x@a."),
    *("http://", "http://@", "http://a.b/(", "http://a.b)", "http://x.y ", "@", "@Ann_", "\u202e*a", "e\u0301\u0301"),
]


def test_hostile_mixes_do_not_nest_deeper_than_markdown_does(modules: Page) -> None:
    """Whatever is piled up, a bullet in two quotes with each emphasis once is the deepest there is."""
    deepest = run(
        modules,
        """
        const { parsed } = await load('markdown');
        const within = ({ inline, blocks, items }) => inline ?? blocks ?? items?.flat() ?? [];
        const depth = (parts) => parts.reduce((most, part) => Math.max(most, 1 + depth(within(part))), 0);
        const piled = (one, other) => `> > - ${one.repeat(9)}${(one + other).repeat(20)}${other.repeat(9)}`;
        const pairs = arg.flatMap((one) => arg.map((other) => piled(one, other)));
        return Math.max(...pairs.map((text) => depth(parsed(text))));
        """,
        HOSTILE,
    )
    assert deepest <= 9


def test_any_text_takes_time_in_proportion_to_its_length(modules: Page) -> None:
    """A hundred thousand hostile signs of each kind: what looks back or ahead too often would not come to an end."""
    run(
        modules,
        """
        const { parsed } = await load('markdown');
        const spaces = ' '.repeat(1e5);
        const read = (sign) => parsed(`- a\\n${sign.repeat(1e5 / sign.length)}${spaces}x\\n${spaces}`, { me: 'Ann' });
        setTimeout(() => { arg.forEach(read); window.isThrough = true; });
        """,
        HOSTILE,
    )
    eventually(lambda: modules.evaluate("Boolean(window.isThrough)"))


def test_a_quote_shows_the_text_without_its_signs(modules: Page) -> None:
    """On one line, whatever it was made of."""
    text = "**Bold _and_ soft**, `a < b`\n> said\n\n- one\n- ~~two~~\n\n```js\nlet a;\n```\nhttp://a.example @Ann"
    plain = "Bold and soft, a < b said one two let a; http://a.example @Ann"
    assert run(modules, "const { plainOf } = await load('markdown'); return plainOf(arg);", text) == plain
