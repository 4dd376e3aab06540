/*
 * Words and times as people read them, in the language of the page.
 *
 * Owns how names, counts and moments are put into sentences, and what the length of a text is. Every sentence stands in
 * the language's table (templates/languages); here is only how its places are filled.
 * Pure functions but for `speak`, which is called once, before anything is said. Knows no DOM, no room, no connection.
 */

const DAY_MS = 24 * 60 * 60 * 1000;
const HUES = 18;
const BLANK = /\p{White_Space}/u;

let table = {};
let tag = "en";
let formats = {};

/** Chooses the language: its tag (BCP 47) and its table, sentences by key. */
export function speak(language, sentences) {
  tag = language;
  table = sentences;
  formats = {};
}

const MAKERS = {
  plural: () => new Intl.PluralRules(tag),
  list: () => new Intl.ListFormat(tag, { type: "conjunction" }),
  number: () => new Intl.NumberFormat(tag),
  clock: () => new Intl.DateTimeFormat(tag, { timeStyle: "short" }),
  exact: () => new Intl.DateTimeFormat(tag, { dateStyle: "full", timeStyle: "medium" }),
  fullDay: () => new Intl.DateTimeFormat(tag, { weekday: "long", day: "numeric", month: "long", year: "numeric" }),
  shortDay: () => new Intl.DateTimeFormat(tag, { day: "numeric", month: "short" }),
};

// Each takes milliseconds to make: when it is needed, and once.
const format = (kind) => (formats[kind] ??= MAKERS[kind]());

/**
 * The sentence `key` with its places filled: `{name}` by `values.name`. A sentence that has several forms is chosen by
 * `values.n`. Numbers are written as the language does, and no text can turn its sentence around.
 */
export function t(key, values = {}) {
  const entry = table[key] ?? key;
  const sentence = typeof entry === "string" ? entry : entry[format("plural").select(values.n)] ?? entry.other;
  return sentence.replace(/\{(\w+)\}/g, (_, place) => filled(values[place]));
}

const filled = (value) => (typeof value === "number" ? count(value) : isolated(value));

/** True if the language's table has a sentence for `key`. */
const canSay = (key) => key in table;

/** What an `error` frame means, in the language of the page if its code is known. */
export function sentenceOf({ code, message, retry_after }) {
  const key = `error.${code}`;
  return canSay(key) ? t(key, { n: Math.ceil(retry_after ?? 1) }) : message;
}

export const clockTime = (at) => format("clock").format(at);
export const shortDate = (at) => format("shortDay").format(at);
export const exactTime = (at) => format("exact").format(at);
export const count = (n) => format("number").format(n);

/** The length the server counts: code points, not UTF-16 units. */
export const codePoints = (text) => [...text].length;

/** Trims what the server trims. String.trim would also take U+FEFF and leave U+0085. */
export function trimmed(text) {
  let from = 0;
  let to = text.length;
  while (from < to && BLANK.test(text[from])) from += 1;
  while (to > from && BLANK.test(text[to - 1])) to -= 1;
  return text.slice(from, to);
}

/** A name inside a sentence must not turn the sentence around, whatever script it is in. */
const isolated = (name) => `\u2068${name}\u2069`;

/** "Ann", "Ann and Bo", "Ann, Bo and 4 others". */
export function listed(names, atMost = 3) {
  const shown = names.slice(0, names.length > atMost ? atMost - 1 : atMost).map(isolated);
  const others = names.length - shown.length;
  return format("list").format(others > 0 ? [...shown, t("people.others", { n: others })] : shown);
}

/** Two moments are of the same local day exactly if this is equal. */
export const dayKey = (at) => new Date(at).toDateString();

/** The local day as `2026-11-23`. */
export function isoDay(at) {
  const day = new Date(at);
  return [day.getFullYear(), day.getMonth() + 1, day.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
}

export function dayName(at, now = Date.now()) {
  if (dayKey(at) === dayKey(now)) return t("day.today");
  if (dayKey(at) === dayKey(now - DAY_MS)) return t("day.yesterday");
  return format("fullDay").format(at);
}

/** One of 18 hues for an id: the same person looks the same on every screen. */
export function hueOf(id) {
  let hash = 2166136261;
  for (const sign of id) hash = Math.imul(hash ^ sign.codePointAt(0), 16777619);
  // FNV mixes its high bits best, so they choose.
  return ((hash >>> 12) % HUES) * (360 / HUES);
}

/** The first letter as a reader sees it: a flag or an accented letter stays whole. */
export function initial(name) {
  if (!Intl.Segmenter) return [...name][0]?.toUpperCase() ?? "?";
  const [first] = new Intl.Segmenter().segment(name);
  return first?.segment.toUpperCase() ?? "?";
}
