/*
 * Markdown inside a paragraph: emphasis, code, addresses and mentions.
 *
 * Owns which signs are markers. What does not parse stays as it was typed, and every sign is looked at a bounded number
 * of times, whatever stands around it. A pure function: knows no DOM and no lines.
 *
 * Inline: strings, {type: "strong" | "em" | "strike", inline}, {type: "code", text}, {type: "link", text, href},
 * {type: "mention", text}.
 */

import { isSpaced, mentionEnd, RUN_ON } from "./mentions.js";

const BLANK_LINES = /(\n\s*\n)/;
const SIGNS = /[\\`*_~@]|https?:\/\//gi;
const SIZES = { "*": [1, 2, 3], "_": [1], "~": [2] }; // how many signs make a marker
const EMPHASIS = { "*1": "em", "*2": "strong", "_1": "em", "~2": "strike" };
const WIDE_PUNCTUATION = String.raw`\u3000-\u303F\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65`;
// What may stand before an opening marker: space, opening punctuation, dashes, markers, and any sign of a script that
// runs on. So snake_case, 2*3*4, src/*.js and -_- stay what they are.
const BEFORE_OPENING = new RegExp(String.raw`^$|[\s\p{Ps}\p{Pi}"'–—…*_~${RUN_ON}${WIDE_PUNCTUATION}]`, "v");
const WORTH_MARKING = /[\p{L}\p{N}\p{Extended_Pictographic}]/v;
const NOT_OF_ADDRESS = String.raw`\s"<>\x60\\^\{\|\}\p{Z}\p{Cc}\p{Cf}\p{Cs}${WIDE_PUNCTUATION}`;
const ADDRESS = new RegExp(String.raw`https?:\/\/[^${NOT_OF_ADDRESS}]+`, "ivy");
const AFTER_ADDRESS = "*_~?!.,:;'…‘’“”";

/** What stands in `text`, which may have several lines. No marker reaches over an empty one, nor does one left open. */
export function inlineOf(text, me) {
  const stretches = text.split(BLANK_LINES);
  return joined(stretches.flatMap((stretch, i) => (i % 2 ? stretch : new Reader(stretch, me).read())));
}

/** Strings that touch are one; empty ones are none. */
function joined(inline) {
  const whole = [];
  for (const piece of inline) {
    if (typeof piece === "string" && typeof whole.at(-1) === "string") whole.push(whole.pop() + piece);
    else if (piece !== "") whole.push(piece);
  }
  return whole;
}

/*
 * Reads a stretch of text once from left to right. An opening marker goes into the output as the text it may remain;
 * if it is closed, what came after it is taken out again and becomes its content.
 * Of each marker one at most is open, the last. That bounds both the search for it and how deep emphasis can nest.
 */
class Reader {
  #source;
  #me;
  #out = [];
  #openers = []; // {sign, size, index in #out, end in #source}
  #escaped = new Set(); // signs one of which was escaped: its partner may be, too
  #ticks = null;

  constructor(source, me) {
    this.#source = source;
    this.#me = me;
  }

  read() {
    let done = 0;
    for (const { 0: sign, index } of this.#source.matchAll(SIGNS)) {
      if (index < done) continue;
      this.#out.push(this.#source.slice(done, index));
      done = this.#readAt(index, sign);
    }
    return [...this.#out, this.#source.slice(done)];
  }

  // Internal: each reads what begins at `at` and returns where it ends; that is `at` if it is text like any other.

  #readAt(at, sign) {
    if (sign === "\\") return this.#escape(at);
    if (sign === "`") return this.#code(at);
    if (sign === "@") return this.#mention(at);
    return sign in SIZES ? this.#emphasis(at, sign) : this.#link(at);
  }

  /** A backslash goes only where the sign behind it would have been a marker: ¯\_(ツ)_/¯ and C:\*.txt keep theirs. */
  #escape(at) {
    const sign = this.#source[at + 1];
    if (sign !== "`" && !(sign in SIZES)) return at;
    const end = runEnd(this.#source, at + 1);
    if (!this.#wouldMark(at, end, sign)) return this.#keep(at, end);
    this.#escaped.add(sign);
    return this.#keep(at + 1, end);
  }

  #wouldMark(at, end, sign) {
    const size = end - at - 1;
    if (sign === "`") return this.#escaped.has(sign) || this.#closingTicks(size, end) >= 0;
    if (!SIZES[sign].includes(size)) return false;
    const { opens, closes } = this.#sides(at, end);
    return opens || (closes && (this.#escaped.has(sign) || this.#openerFor(sign, size) >= 0));
  }

  #code(at) {
    const start = runEnd(this.#source, at);
    const end = this.#closingTicks(start - at, start);
    if (end < 0) return this.#keep(at, start);
    const text = this.#source.slice(start, end);
    const isPadded = text.startsWith(" ") && text.endsWith(" ") && text.trim();
    this.#out.push({ type: "code", text: isPadded ? text.slice(1, -1) : text });
    return end + start - at;
  }

  #mention(at) {
    const end = mentionEnd(this.#source, at, this.#me);
    if (end < 0) return at;
    this.#out.push({ type: "mention", text: this.#source.slice(at, end) });
    return end;
  }

  #link(at) {
    ADDRESS.lastIndex = at;
    if (isSpaced(signBefore(this.#source, at)) || !ADDRESS.test(this.#source)) return at;
    const end = addressEnd(this.#source, at, ADDRESS.lastIndex);
    const text = this.#source.slice(at, end);
    const href = hrefOf(text);
    this.#out.push(href ? { type: "link", text, href } : text);
    return end;
  }

  #emphasis(at, sign) {
    const end = runEnd(this.#source, at);
    if (!SIZES[sign].includes(end - at)) return this.#keep(at, end);
    const { opens, closes } = this.#sides(at, end);
    const left = closes ? this.#close(sign, end - at, at) : end - at;
    if (opens && left === end - at) this.#open({ sign, size: left, index: this.#out.length, end });
    this.#out.push(sign.repeat(left));
    return end;
  }

  #keep(at, end) {
    this.#out.push(this.#source.slice(at, end));
    return end;
  }

  #sides(at, end) {
    const before = signBefore(this.#source, at);
    const after = signAfter(this.#source, end);
    return { opens: /^\S/.test(after) && BEFORE_OPENING.test(before), closes: /^\S/.test(before) && !isSpaced(after) };
  }

  #open(opener) {
    this.#openers = this.#openers.filter(({ sign, size }) => sign !== opener.sign || size !== opener.size);
    this.#openers.push(opener);
  }

  // "***" is both "*" and "**", in either order.
  #openerFor(sign, size) {
    return this.#openers.findLastIndex((opener) => opener.sign === sign && (opener.size === size || opener.size === 3 || size === 3));
  }

  /** Closes what a run of `size` signs can close and returns how many are left of it. */
  #close(sign, size, at) {
    let left = size;
    while (left) {
      const i = this.#openerFor(sign, left);
      if (i < 0) break;
      const [opener] = this.#openers.splice(i, this.#openers.length);
      // An opener that was closed in vain is given up, so that no text is searched twice.
      if (!WORTH_MARKING.test(this.#source.slice(opener.end, at))) break;
      left -= this.#wrap(opener, Math.min(opener.size, left, 2));
    }
    return left;
  }

  #wrap(opener, used) {
    const { sign, size, index } = opener;
    const inline = joined(this.#out.splice(index + 1));
    this.#out[index] = sign.repeat(size - used);
    this.#out.push({ type: EMPHASIS[sign + used], inline });
    if (size > used) this.#open({ ...opener, size: size - used });
    return used;
  }

  /** Where the next run of exactly `size` backticks begins, at `from` or after; -1 if there is none. */
  #closingTicks(size, from) {
    this.#ticks ??= tickRuns(this.#source);
    const places = this.#ticks.get(size) ?? [];
    while (places.at(-1) < from) places.pop();
    return places.at(-1) ?? -1;
  }
}

function runEnd(text, at) {
  let end = at;
  while (end < text.length && text[end] === text[at]) end += 1;
  return end;
}

/** The places of the runs of backticks by their length, the last first. */
function tickRuns(text) {
  const runs = new Map();
  for (const { 0: run, index } of [...text.matchAll(/`+/g)].reverse()) {
    if (!runs.has(run.length)) runs.set(run.length, []);
    runs.get(run.length).push(index);
  }
  return runs;
}

const signBefore = (text, at) => Array.from(text.slice(Math.max(at - 2, 0), at)).at(-1) ?? "";
const signAfter = (text, at) => Array.from(text.slice(at, at + 2))[0] ?? "";

/** An address does not end in punctuation, nor in a bracket that was opened before it. */
function addressEnd(text, start, furthest) {
  const address = text.slice(start, furthest);
  const unopened = { ")": surplus(address, ")", "("), "]": surplus(address, "]", "[") };
  let end = furthest;
  for (; end > start; end -= 1) {
    const sign = text[end - 1];
    if (unopened[sign] > 0) unopened[sign] -= 1;
    else if (!AFTER_ADDRESS.includes(sign)) break;
  }
  return end;
}

const surplus = (text, closing, opening) => text.split(closing).length - text.split(opening).length;

/** Where an address leads; null if it leads nowhere, or not where it seems to: http://good@evil. */
function hrefOf(address) {
  const host = /^https?:\/\/([^\/?#]*)/i.exec(address)?.[1];
  return host && !host.includes("@") && URL.canParse(address) ? new URL(address).href : null;
}
