"""What somebody wrote as it stands on the page: static/prose.js and its styles, on a blank page under our policy."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.modules import run

PHONE_BUBBLE = 260

PAINT = """
const { paint } = await load('prose');
const { speak } = await load('words');
speak('en', { 'message.copy_code': 'Copy' });
document.body.replaceChildren();
const node = document.body.appendChild(document.createElement('div'));
node.className = 'prose';
node.dir = 'auto';
window.copied = [];
const paintText = (text) => paint(node, text, { me: 'Ann', onCopy: (code) => copied.push(code) });
"""

# A bubble as wide as on a phone, with the styles it has in a room.
BUBBLE = """
for (const name of ['base', 'room', 'message', 'prose']) {
  const sheet = document.createElement('link');
  const loaded = new Promise((resolve) => sheet.addEventListener('load', resolve));
  Object.assign(sheet, { rel: 'stylesheet', href: `/static/000000000000/styles/${name}.css` });
  document.head.append(sheet);
  await loaded;
}
const bubble = document.createElement('div');
bubble.className = 'bubble';
bubble.style.cssText = `width: ${arg.width}px; margin-block: 200px`;
node.replaceWith(bubble);
bubble.append(node);
"""


@pytest.fixture
def bare(modules: Page) -> Iterator[Page]:
    """The blank page, with nothing of another test on it."""
    modules.reload()
    yield modules


def painted(page: Page, text: str) -> str:
    """The nodes that `text` becomes, in the notation of HTML."""
    return run(page, f"{PAINT} paintText(arg); return node.innerHTML;", text)


def in_bubble(page: Page, text: str, width: int = PHONE_BUBBLE) -> dict[str, Any]:
    """How far what `text` becomes reaches out of its bubble."""
    script = (
        "paintText(arg.text); return { over: node.scrollWidth - node.clientWidth, page: document.body.scrollWidth };"
    )
    return run(page, PAINT + BUBBLE + script, {"text": text, "width": width})


def test_each_kind_of_markdown_is_its_own_element(bare: Page) -> None:
    """As a screen reader wants them: real lists, quotes and emphasis; line breaks stay in the text."""
    assert painted(bare, "a **b *c***\n~~d~~ `e`") == "<p>a <strong>b <em>c</em></strong>\n<s>d</s> <code>e</code></p>"
    assert painted(bare, "- a\n- *b*") == "<ul><li>a</li><li><em>b</em></li></ul>"
    assert painted(bare, "4. a\n5. b") == '<ol start="4"><li>a</li><li>b</li></ol>'
    assert painted(bare, "> a\n> > b\n\nc") == (
        "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"
    )
    assert painted(bare, "hi @ann") == '<p>hi <mark class="mention">@ann</mark></p>'


def test_nothing_people_write_is_ever_html(bare: Page) -> None:
    """Tags, handlers, entities and strange addresses are text, and none of them runs."""
    hostile = (
        "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'> &lt;b&gt; \0 </p>\n"
        "<svg onload=window.hit=1>\n"
        "javascript:window.hit=1 [x](javascript:window.hit=1) ![x](x) data:text/html,<script>window.hit=1</script>\n"
        "<style>*{display:none}</style> <a href='javascript:window.hit=1'>x</a> https://u@h.example"
    )
    painted(bare, hostile)
    assert bare.locator(".prose").evaluate("node => node.textContent") == hostile
    assert bare.locator(".prose *").evaluate_all("nodes => nodes.map((node) => node.localName)") == ["p"]
    assert bare.evaluate("window.hit") is None


def test_links_leave_in_a_tab_of_their_own_except_to_a_room_here(bare: Page) -> None:
    """Who is left learns nothing of us; the page itself goes to its rooms."""
    here = f"{bare.url.removesuffix('/healthz')}/?room=a#12"
    painted(bare, f"https://a.example/b {here} {here.replace('/?', '/api?')}")
    links = bare.locator(".prose a").evaluate_all("nodes => nodes.map((node) => [node.href, node.target, node.rel])")
    away = ["_blank", "noopener noreferrer nofollow"]
    assert links == [["https://a.example/b", *away], [here, "", ""], [here.replace("/?", "/api?"), *away]]


def test_a_code_block_is_copied_as_it_was_written(bare: Page) -> None:
    """Its button hands on the code with every space; the keyboard reaches lines that are too long."""
    painted(bare, "```js\nif (a)\n  *b*\n\n\tc```")
    expect(bare.locator(".code-head span")).to_have_text("js")
    bare.get_by_role("button", name="Copy").click()
    assert bare.evaluate("copied") == ["if (a)\n  *b*\n\n\tc"]
    bare.keyboard.press("Tab")
    assert bare.evaluate("document.activeElement.textContent") == "if (a)\n  *b*\n\n\tc"


def test_a_few_emoji_alone_are_large(bare: Page) -> None:
    """One to three, whatever they are made of; not with a word, not four, not a digit. Painting anew starts afresh."""
    is_jumbo = run(
        bare,
        f"{PAINT} return arg.map((text) => {{ paintText(text); return [text, node.className, node.textContent]; }});",
        ["🎉", "👩🏽‍🚀 🇩🇪\n1️⃣", "🎉🎉🎉🎉", "a 🎉", "12", "**🎉**", "🎉"],
    )
    large = {"🎉", "👩🏽‍🚀 🇩🇪\n1️⃣"}
    assert [name == "prose jumbo" for _, name, _ in is_jumbo] == [text in large for text, _, _ in is_jumbo]
    assert is_jumbo[-1][2] == "🎉"


@pytest.mark.parametrize(
    "text",
    [
        "x" * 4000,
        "`" + "x" * 4000 + "`",
        "https://a.example/" + "x" * 3900,
        "- " + "x" * 2000 + "\n> " + "x" * 1900,
        "```\n" + "x" * 3900 + "\n```\nend",
        "مرحبا " * 200 + "\u202e" * 20 + "x" * 2000,
    ],
    ids=["word", "code", "address", "list and quote", "code block", "right to left"],
)
def test_nothing_reaches_out_of_its_bubble_sideways(bare: Page, text: str) -> None:
    """Words are broken; code scrolls by itself."""
    assert in_bubble(bare, text) == {"over": 0, "page": bare.evaluate("document.body.clientWidth")}


def test_piled_up_marks_paint_nothing_over_the_neighbours(bare: Page) -> None:
    """Whatever hangs above and below the letters, outside of the bubble the page looks as if it were not there."""
    in_bubble(bare, "a")
    box = bare.locator(".bubble").bounding_box()
    assert box is not None
    margin = 8
    above = {"x": 0, "y": box["y"] - 150, "width": 400, "height": 150 - margin}
    below = {"x": 0, "y": box["y"] + box["height"] + margin, "width": 400, "height": 150}
    before = [bare.screenshot(clip=clip) for clip in (above, below)]
    script = "const { paint } = await load('prose'); paint(document.querySelector('.prose'), arg);"
    run(bare, script, "o" + "".join(map(chr, range(0x300, 0x340))) * 5)
    assert bare.locator(".bubble").bounding_box() == box
    assert [bare.screenshot(clip=clip) for clip in (above, below)] == before


def test_each_line_takes_its_own_direction(bare: Page) -> None:
    """An Arabic line begins at the right, an English one below it at the left; code is always left to right."""
    in_bubble(bare, "ab\nمرحبا\n```\n(مرحبا)\n```")
    lines = bare.evaluate(
        """() => {
          const [text] = document.querySelector('.prose p').childNodes;
          const place = (at) => {
            const range = document.createRange();
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            return range.getBoundingClientRect();
          };
          const { left, right } = document.querySelector('.prose').getBoundingClientRect();
          return { english: place(0).left - left, arabic: right - place(3).right };
        }"""
    )
    assert lines["english"] < 1 and lines["arabic"] < 1
    assert bare.locator(".code").evaluate("node => getComputedStyle(node).direction") == "ltr"


def test_long_lines_of_code_scroll(bare: Page) -> None:
    """They are not broken, and the bubble stays as it is."""
    in_bubble(bare, "```\n" + "x" * 200 + "\n```")
    assert bare.locator(".code pre").evaluate("node => { node.scrollLeft = 50; return node.scrollLeft; }") == 50
