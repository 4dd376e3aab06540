/*
 * Words and times as people read them, in the language of the page.
 *
 * Owns how names, counts and moments are put into sentences, and what the length of a text is. Every sentence stands in
 * the language's table (templates/languages); here is only how its places are filled.
 * Pure functions but for `speak`, which is called once, before anything is said. Knows no DOM, no room, no connection.
 */

const DAY_MS = 24 * 60 * 60 * 1000;
const UNITS_S = { year: 31_536_000, week: 604_800, day: 86_400, hour: 3600, minute: 60, second: 1 };
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

/** Takes sentences that not every page has. */
export function learn(sentences) {
  table = { ...table, ...sentences };
}

const MAKERS = {
  plural: () => new Intl.PluralRules(tag),
  list: () => new Intl.ListFormat(tag, { type: "conjunction" }),
  number: () => new Intl.NumberFormat(tag),
  clock: () => new Intl.DateTimeFormat(tag, { timeStyle: "short" }),
  exact: () => new Intl.DateTimeFormat(tag, { dateStyle: "full", timeStyle: "medium" }),
  fullDay: () => new Intl.DateTimeFormat(tag, { weekday: "long", day: "numeric", month: "long", year: "numeric" }),
  shortDay: () => new Intl.DateTimeFormat(tag, { day: "numeric", month: "short" }),
  moment: () => new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" }),
  ...unitMakers("long"),
  ...unitMakers("short"),
};

function unitMakers(unitDisplay) {
  const maker = (unit) => () => new Intl.NumberFormat(tag, { style: "unit", unit, unitDisplay });
  return Object.fromEntries(Object.keys(UNITS_S).map((unit) => [`${unit} ${unitDisplay}`, maker(unit)]));
}

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

/** How long something still takes, as a clock shows it: 0:09, 12:00, 1:00:00. */
export function remaining(left_ms) {
  const left_s = Math.max(0, Math.ceil(left_ms / 1000));
  const [hours, minutes, seconds] = [Math.floor(left_s / 3600), Math.floor(left_s / 60) % 60, left_s % 60];
  const parts = hours ? [hours, twoDigits(minutes)] : [minutes];
  return [...parts, twoDigits(seconds)].join(":");
}

const twoDigits = (n) => String(n).padStart(2, "0");

/** A moment in a sentence: the time, and the day if it is another one. */
export const moment = (at, now = Date.now()) => (dayKey(at) === dayKey(now) ? clockTime(at) : format("moment").format(at));
export const count = (n) => format("number").format(n);

/** A length of time in the largest unit of which it is a whole number: "5 minutes", "1 day"; `unitDisplay` "short": "5 min". */
export function span(seconds, unitDisplay = "long") {
  const [unit, length] = Object.entries(UNITS_S).find(([, each]) => seconds >= each && seconds % each === 0) ?? ["second", 1];
  return format(`${unit} ${unitDisplay}`).format(seconds / length);
}

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
  return [day.getFullYear(), day.getMonth() + 1, day.getDate()].map(twoDigits).join("-");
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
