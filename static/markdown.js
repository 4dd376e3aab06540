/*
 * The everyday part of Markdown: paragraphs, quotes, lists and code, line by line.
 *
 * Owns what a line begins; what its signs mean is in inline.js. What does not parse stays as it was typed, and a text
 * takes time in proportion to its length, whatever stands in it. A pure function: knows no DOM.
 *
 * Blocks: {type: "paragraph", inline}, {type: "quote", blocks}, {type: "list", ordered, start, items: [inline]},
 * {type: "code", text, language}.
 */

import { inlineOf } from "./inline.js";

const MAX_QUOTES = 2; // quotes within quotes

/** The blocks of `text`; `me` is the name whose mentions are found. */
export function parsed(text, { me = "" } = {}) {
  return blocksOf(text.split(/\r\n?|\n/), { me, quotes: 0 });
}

/** The same without its signs, on one line: what a quote shows of it. */
export const plainOf = (text) => parsed(text).map(plainBlock).join(" ").replace(/\s+/g, " ").trim();

// Internal

const plainBlock = ({ inline, blocks, items, text }) =>
  text ?? (blocks ?? []).map(plainBlock).concat((items ?? [inline ?? []]).map(plainInline)).join(" ");

const plainInline = (pieces) => pieces.map((piece) => piece.text ?? (piece.inline ? plainInline(piece.inline) : piece)).join("");

const FENCE = /^( {0,3})(`{3,})([^`]*)$/;
const LANGUAGE = /^[\w+#.\-]{0,20}$/;
const QUOTE = /^ {0,3}>(?: |(?=> ))(?=.*\S)/;
const MORE_QUOTE = /^ {0,3}>(?: |$|(?=> |>$))/;
const BULLET = /^ ?[\-*] (?=.*[^\-*\s])/;
const NUMBER = /^ ?(0|[1-9]\d{0,2})[.\)] (?=.*\S)/;
const MORE_ITEM = /^(?: {2}|\t)\s*\S/;
const ESCAPED_START = /^( ?\d{0,3})\\(?=[\-*>.\)])/;

function blocksOf(lines, scope) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    const read = readCode(lines, at) ?? readQuote(lines, at, scope) ?? readList(lines, at, scope) ?? readParagraph(lines, at, scope);
    if (read.block) blocks.push(read.block);
    at = read.next;
  }
  return blocks;
}

const startsQuote = (line, { quotes }) => quotes < MAX_QUOTES && QUOTE.test(line);
const startsText = (line, scope) => !startsQuote(line, scope) && !BULLET.test(line) && !NUMBER.test(line);

/** A fence that nothing closes holds the rest; one with nothing in it is none. What is no language is code. */
function readCode(lines, at) {
  const fence = FENCE.exec(lines[at]);
  if (!fence) return null;
  const { code, next } = fenced(lines, at + 1, fence);
  const label = fence[3].trim();
  const language = LANGUAGE.test(label) ? label : "";
  const text = (language === label ? code : [label, ...code]).join("\n");
  return text.trim() ? { block: { type: "code", text, language }, next } : null;
}

function fenced(lines, from, [, indent, ticks]) {
  const code = [];
  for (let at = from; at < lines.length; at += 1) {
    const line = outdented(lines[at], indent.length);
    const end = closingAt(line, ticks.length);
    if (end < 0 || line.slice(0, end).trim()) code.push(end < 0 ? line : line.slice(0, end));
    if (end >= 0) return { code, next: at + 1 };
  }
  return { code, next: lines.length };
}

/** Where in `line` the backticks begin that close a fence of `size`: people put them behind the last line of code, too. */
function closingAt(line, size) {
  const end = line.trimEnd().length;
  let start = end;
  while (line[start - 1] === "`") start -= 1;
  return end - start >= size ? start : -1;
}

function readQuote(lines, at, scope) {
  if (!startsQuote(lines[at], scope)) return null;
  const inner = [];
  let next = at;
  for (; next < lines.length && MORE_QUOTE.test(lines[next]); next += 1) inner.push(lines[next].replace(MORE_QUOTE, ""));
  return { block: { type: "quote", blocks: blocksOf(inner, { ...scope, quotes: scope.quotes + 1 }) }, next };
}

/** The numbers are those that were typed: an item whose number does not follow begins another list. */
function readList(lines, at, { me }) {
  const first = itemOf(lines[at]);
  if (!first) return null;
  const items = [];
  let next = at;
  for (let item = first; item && follows(item, first, items.length); item = itemOf(lines[next])) {
    const text = [item.text];
    for (next += 1; continuesItem(lines[next]); next += 1) text.push(outdented(lines[next], item.width));
    items.push(inlineOf(text.join("\n"), me));
  }
  return { block: { type: "list", ordered: first.ordered, start: first.number, items }, next };
}

function itemOf(line = "") {
  const marker = BULLET.exec(line) ?? NUMBER.exec(line);
  if (!marker) return null;
  const [{ length: width }, number] = marker;
  return { ordered: number !== undefined, number: Number(number ?? 1), width, text: line.slice(width).trim() };
}

const follows = (item, first, count) => item.ordered === first.ordered && (!item.ordered || item.number === first.number + count);

const continuesItem = (line = "") => MORE_ITEM.test(line) && !FENCE.test(line);

function outdented(line, width) {
  const indent = line.length - line.trimStart().length;
  return line.slice(Math.min(indent, width));
}

function readParagraph(lines, at, scope) {
  let next = at + 1;
  while (next < lines.length && startsText(lines[next], scope) && !FENCE.test(lines[next])) next += 1;
  const stretch = lines.slice(at, next).map((line) => withoutEscape(line, scope));
  while (stretch.length && !stretch.at(-1).trim()) stretch.pop();
  const from = stretch.findIndex((line) => line.trim());
  const block = from < 0 ? null : { type: "paragraph", inline: inlineOf(stretch.slice(from).join("\n"), scope.me) };
  return { block, next };
}

/** A backslash goes where it kept a line from being a quote or a list; elsewhere it was meant. */
function withoutEscape(line, scope) {
  const bare = line.replace(ESCAPED_START, "$1");
  return bare === line || startsText(bare, scope) ? line : bare;
}
