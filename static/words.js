/*
 * Words and times as people read them.
 *
 * Owns how names, counts and moments are put into sentences, and what the length of a text is.
 * Pure functions: knows no DOM, no room and no connection.
 */

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const fullDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const number = new Intl.NumberFormat("en");
const DAY_MS = 24 * 60 * 60 * 1000;

export const clockTime = (at) => clock.format(at);
export const shortDate = (at) => shortDay.format(at);
export const exactTime = (at) => exact.format(at);
export const count = (n) => number.format(n);

export function counted(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** The length the server counts: code points, not UTF-16 units. */
export const codePoints = (text) => [...text].length;

/** Trims what the server trims. String.trim would also take U+FEFF and leave U+0085. */
export const trimmed = (text) => text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");

/** A name inside a sentence must not turn the sentence around, whatever script it is in. */
export const isolated = (name) => `\u2068${name}\u2069`;

/** "Ann", "Ann and Bo", "Ann, Bo and 4 others". */
export function listed(names, atMost = 3) {
  const shown = names.slice(0, names.length > atMost ? atMost - 1 : atMost).map(isolated);
  const others = names.length - shown.length;
  if (others > 0) shown.push(counted(others, "other"));
  const last = shown.pop();
  return shown.length ? `${shown.join(", ")} and ${last}` : last;
}

/** Two moments are of the same local day exactly if this is equal. */
export const dayKey = (at) => new Date(at).toDateString();

export function dayName(at, now = Date.now()) {
  if (dayKey(at) === dayKey(now)) return "Today";
  if (dayKey(at) === dayKey(now - DAY_MS)) return "Yesterday";
  return fullDay.format(at);
}

/** One of 18 hues for an id: the same person looks the same on every screen. */
export function hueOf(id) {
  let hash = 2166136261;
  for (const sign of id) hash = Math.imul(hash ^ sign.codePointAt(0), 16777619);
  // FNV mixes its high bits best, so they choose.
  return ((hash >>> 12) % 18) * 20;
}

/** The first letter as a reader sees it: a flag or an accented letter stays whole. */
export function initial(name) {
  if (!Intl.Segmenter) return [...name][0]?.toUpperCase() ?? "?";
  const [first] = new Intl.Segmenter().segment(name);
  return first?.segment.toUpperCase() ?? "?";
}
