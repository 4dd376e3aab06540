/*
 * Who is spoken to with an `@`.
 *
 * Owns where a mention begins and ends: in what was said, in what is being written, and which names fit it.
 * Pure functions: knows no DOM, no room and no Markdown.
 */

/** The scripts that run on, without spaces between words: the inside of a character class. 你好@小明 is a mention, mail@ann is none. */
export const RUN_ON = String.raw`\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}`;

const ANY_LETTER = String.raw`[\p{L}\p{N}\p{M}\u200C\u200D]`;
const SPACED = `[${ANY_LETTER}--[${RUN_ON}]]`; // of a word that a space or punctuation must end
const IS_SPACED = new RegExp(SPACED, "v");
const NOT_INSIDE = String.raw`(?<![${SPACED}@\/\\]_*)`; // of a mail address, a path, a word
const START = new RegExp(`${NOT_INSIDE}[@＠]`, "vy");
const WRITTEN = /^(?:\S+(?: \S+){0,3})?$/; // a name has spaces, but what ends in one is finished
const LONGEST = 64; // UTF-16 units: the 32 code points of a name, all beyond the BMP

let known = { name: "", pattern: null };

/** True if `sign` is of a word that goes on until a space or punctuation. */
export const isSpaced = (sign) => IS_SPACED.test(sign);

/** True if `text` speaks to `name`: the whole name after an `@`, in any case. */
export function mentionsName(text, name) {
  for (let at = text.indexOf("@"); at >= 0; at = text.indexOf("@", at + 1)) {
    if (mentionEnd(text, at, name) >= 0) return true;
  }
  return false;
}

/** Where the mention of `name` that begins at `at` ends; -1 if none begins there. */
export function mentionEnd(text, at, name) {
  if (!name) return -1;
  if (known.name !== name) known = { name, pattern: patternOf(name) };
  known.pattern.lastIndex = at;
  return known.pattern.test(text) ? known.pattern.lastIndex : -1;
}

/** The mention being written at the caret: `{from, query}`, `from` being the place of its `@`; or null. */
export function mentionAt(text, caret) {
  const written = text.slice(0, caret);
  const from = Math.max(written.lastIndexOf("@"), written.lastIndexOf("＠"));
  const query = written.slice(from + 1);
  START.lastIndex = from;
  const isOne = from >= 0 && query.length <= LONGEST && START.test(written) && WRITTEN.test(query);
  return isOne ? { from, query } : null;
}

/** Those of `names` that fit `query`, at most `atMost`: those it begins, then those it begins a word of, then the others. */
export function matching(names, query, atMost) {
  const wanted = folded(query);
  const wordStart = new RegExp(`(?<!${ANY_LETTER})${escaped(wanted)}`, "v");
  const ranks = [[], [], []];
  for (const name of names) {
    const place = folded(name).indexOf(wanted);
    if (place >= 0) ranks[place === 0 ? 0 : wordStart.test(folded(name)) ? 1 : 2].push(name);
  }
  return ranks.flat().slice(0, atMost);
}

// Internal

// A name of a script that runs on is ended by any letter: 小明 is not spoken to by @小明明.
function patternOf(name) {
  const letters = isSpaced(Array.from(name).at(-1)) ? SPACED : ANY_LETTER;
  return new RegExp(`${NOT_INSIDE}@${escaped(name)}(?!_*${letters})`, "ivy");
}

const escaped = (text) => text.replace(/[\^$\\.*+?()[\]{}|\/]/g, "\\$&");

/** Without case and accents, as people search. Only accents of their own go: the vowel signs of Indic scripts stay. */
const folded = (text) => text.normalize("NFKD").replace(/[\u0300-\u036F]+/g, "").toLowerCase();
