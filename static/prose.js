/*
 * What somebody wrote, as nodes: how each kind of Markdown stands on the page.
 *
 * Text reaches the page as text nodes only. Addresses are those the parser let through: http and https.
 * Knows no message and no log.
 */

import { pathOf } from "./links.js";
import { parsed } from "./markdown.js";
import { t } from "./words.js";

const JUMBO = /^(?:\p{RGI_Emoji}\s*){1,3}$/v;
const LONGEST_JUMBO = 64; // UTF-16 units: an emoji may have a dozen
const FIRST_EMOJI = 0x203c; // of those that need no second sign

const BLOCKS = { paragraph: paragraphNode, quote: quoteNode, list: listNode, code: codeNode };
const INLINE = {
  strong: ({ inline }) => element("strong", inlineNodes(inline)),
  em: ({ inline }) => element("em", inlineNodes(inline)),
  strike: ({ inline }) => element("s", inlineNodes(inline)),
  code: ({ text }) => element("code", [text]),
  mention: ({ text }) => element("mark", [text], "mention"),
  link: linkNode,
};

/** Fills `node` with `text`; mentions of `me` stand out, `onCopy(text)` hears of a code block's button. */
export function paint(node, text, { me = "", onCopy = () => {} } = {}) {
  node.classList.toggle("jumbo", isJumbo(text));
  node.replaceChildren();
  fill(node, blockNodes(parsed(text, { me }), onCopy));
}

// Internal

// The table of emoji is large: most texts are told apart by their first sign.
const isJumbo = (text) => text.length <= LONGEST_JUMBO && text.codePointAt(0) >= FIRST_EMOJI && JUMBO.test(text);

const blockNodes = (blocks, onCopy) => blocks.map((block) => BLOCKS[block.type](block, onCopy));

const inlineNodes = (inline) => inline.map((piece) => (typeof piece === "string" ? piece : INLINE[piece.type](piece)));

function paragraphNode({ inline }) {
  return element("p", inlineNodes(inline));
}

function quoteNode({ blocks }, onCopy) {
  return element("blockquote", blockNodes(blocks, onCopy));
}

function listNode({ ordered, start, items }) {
  const list = element(ordered ? "ol" : "ul", items.map((item) => element("li", inlineNodes(item))));
  if (ordered) list.start = start;
  return list;
}

function codeNode({ text, language }, onCopy) {
  const copy = element("button", [t("message.copy_code")], "link");
  copy.type = "button";
  copy.addEventListener("click", () => onCopy(text));
  const lines = element("pre", [element("code", [text])]);
  lines.tabIndex = 0; // long lines scroll, and the keyboard must reach them
  return element("div", [element("div", [element("span", [language]), copy], "code-head"), lines], "code");
}

function linkNode({ text, href }) {
  const link = element("a", [text]);
  link.href = href;
  if (!isOfThisPage(new URL(href))) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return link;
}

/** Another room or message here: the page goes there itself. */
const isOfThisPage = ({ origin, pathname }) => origin === location.origin && pathname === pathOf("/");

function element(name, children, className) {
  const node = document.createElement(name);
  if (className) node.className = className;
  return fill(node, children);
}

function fill(node, children) {
  for (const child of children) node.append(child);
  return node;
}
